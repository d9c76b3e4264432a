"""Kernels for tests of the call path: programs built by hand, with a Python function in place of machine code."""

from __future__ import annotations

import ctypes
import linecache
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.codegen.llvm.program import slots_of
from tilewright.dtypes import DType
from tilewright.errors import Span, TileError
from tilewright.ir.buffer import Buffer, Extent, Scope, format_shape
from tilewright.ir.expr import Expr, const, var
from tilewright.ir.program import HostCheck, Launch, Parameter, ParameterKind, Program
from tilewright.ir.stmt import Seq, Stmt
from tilewright.runtime.arguments import CallPlan

FILE = "kernel.py"
F32, I32 = np.float32, np.int32
_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
Body = Callable[[list[int]], int]


def tensor(name: str, shape: Sequence[Extent], dtype: DType = dtypes.float32, strides: Sequence[Extent] | None = None) -> Parameter:
    buffer = Buffer(name, dtype, tuple(shape), Scope.GLOBAL, Span(FILE, 1), None if strides is None else tuple(strides))
    return Parameter(name, ParameterKind.TENSOR, Span(FILE, 1), buffer)


def scalar(variable: Expr) -> Parameter:
    return Parameter(variable.name, ParameterKind.SCALAR, Span(FILE, 1), variable=variable)


def pointer(name: str) -> Parameter:
    return Parameter(name, ParameterKind.POINTER, Span(FILE, 1), variable=var(name, dtypes.handle))


def workspace(name: str, shape: Sequence[Extent], dtype: DType = dtypes.float32) -> Buffer:
    return Buffer(name, dtype, tuple(shape), Scope.GLOBAL, Span(FILE, 1))


def program(
    *parameters: Parameter, workspaces: Sequence[Buffer] = (), checks: Sequence[HostCheck] = (), grid: Sequence[Expr] = (), body: Sequence[Stmt] = ()
) -> Program:
    """A program `main` whose source, as messages quote it, has one line per parameter."""
    lines = ["def main("]
    placed = []
    for number, parameter in enumerate(parameters, 2):
        declared = format_shape(parameter.buffer) if parameter.buffer is not None else str(parameter.variable.dtype) if parameter.variable is not None else ""
        text = f"    {parameter.name}: {declared},"
        lines.append(text)
        span = Span(FILE, number, 4, number, len(text) - 1)
        buffer = parameter.buffer
        if buffer is not None:
            buffer = Buffer(buffer.name, buffer.dtype, buffer.shape, buffer.scope, span, buffer.given_strides)
        placed.append(Parameter(parameter.name, parameter.kind, span, buffer, parameter.variable))
    text = "\n".join([*lines, "):", "    assert n > 0"]) + "\n"
    linecache.cache[FILE] = len(text), None, text.splitlines(keepends=True), FILE
    blocks = tuple(var(f"b{k}") for k in range(len(grid)))
    threads = var("tx"), var("ty"), var("tz")
    launch = Launch(tuple(grid) or (const(1),), blocks or (var("b0"),), (1, 1, 1), threads, (), Seq(Span(FILE, 1), tuple(body)), Span(FILE, 1))
    return Program("main", tuple(placed), (launch,), Span(FILE, 1, 0, 1, 8), tuple(workspaces), tuple(checks))


class RecordedKernel:
    """A call plan whose native entry notes the slots and runs `body` on them; its status is what `body` gives."""

    def __init__(self, source: Program, body: Body | None = None, **options: Any) -> None:
        self.calls: list[list[int]] = []
        slots = slots_of(source)

        def entry(address: int) -> int:
            words = list((ctypes.c_uint64 * len(slots)).from_address(address))
            self.calls.append(words)
            return 0 if body is None else body(words)

        self._entry = _ENTRY(entry)
        address = ctypes.cast(self._entry, ctypes.c_void_p).value
        assert address is not None
        self.plan = CallPlan(source, slots, address, owner=self._entry, **options)

    def __call__(self, *arguments: Any) -> Any:
        return self.plan(*arguments)

    @property
    def words(self) -> list[int]:
        """The slots of the last call."""
        return self.calls[-1]


def memory(address: int, count: int, dtype: Any = np.float32) -> Any:
    """The elements at an address as a numpy array."""
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype) if size else np.empty(0, dtype)


def zeros(*shape: int, dtype: Any = F32) -> Any:
    return np.zeros(shape, dtype)


def kernel_of(*parameters: Parameter, **options: Any) -> RecordedKernel:
    return RecordedKernel(program(*parameters), **options)


def two_vectors(**options: Any) -> RecordedKernel:
    """X and Y of n elements; Y is written."""
    n = var("n")
    return kernel_of(tensor("X", (n,)), tensor("Y", (n,)), **{"written": ("Y",), **options})


def refused(kernel: RecordedKernel, *given: Any) -> TileError:
    """The error of a call that must not reach the native entry."""
    with pytest.raises(TileError) as caught:
        kernel(*given)
    assert not kernel.calls
    assert caught.value.__context__ is None
    return caught.value
