"""Kernels as operators of torch: they appear in graphs of torch.compile, with shapes known without running (floor 9).

torch is imported by the functions here and nowhere else. The schema comes from the kernel: tensors that it writes are marked as mutated, outputs are returned.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilewright.errors import Kind, TileError, fail
from tilewright.ir.expr import Expr, Op, describe_operand
from tilewright.ir.memory_use import used_parameters
from tilewright.ir.program import Parameter, ParameterKind, Program
from tilewright.jit import EagerFunction
from tilewright.kernel import Kernel
from tilewright.runtime.framework import packed_shape
from tilewright.runtime.torch_tensors import torch_framework
from tilewright.spans import span_of_caller
from tilewright.target.nvidia import NvidiaTarget

_DEVICES = ("cpu", "cuda")
# Sizes that are tried to learn what an eager function writes and returns, which does not depend on them in sensible programs.
_SAMPLE_SIZES = (256, 1024, 4096, 64, 16, 1)


@dataclass(frozen=True)
class _Operator:
    """What torch is told of a kernel.

    inputs    parameters that a call gives, in order; `mutated` are names of those written.
    outputs   how many tensors are returned.
    run       the kernel.
    program   for given arguments: the program whose outputs they would get.
    """

    inputs: tuple[Parameter, ...]
    mutated: frozenset[str]
    outputs: int
    devices: tuple[str, ...]
    run: Callable[..., Any]
    program: Callable[[Sequence[Any]], tuple[Program, tuple[int, ...]]]

    @property
    def schema(self) -> str:
        parts = []
        for number, parameter in enumerate(self.inputs):
            mark = f"(a{number}!)" if parameter.name in self.mutated else ""
            parts.append(f"Tensor{mark} {parameter.name}" if parameter.buffer is not None else f"{_scalar_type(parameter)} {parameter.name}")
        returned = {0: "()", 1: "Tensor"}.get(self.outputs, f"({', '.join(['Tensor'] * self.outputs)})")
        return f"({', '.join(parts)}) -> {returned}"

    def call(self, *arguments: Any) -> Any:
        """The implementation: several outputs as a tuple."""
        found = self.run(*arguments)
        return tuple(found) if isinstance(found, list) else found

    def fake(self, *arguments: Any) -> Any:
        """Outputs of the right shape, dtype and device, without elements; shapes may be symbolic."""
        program, positions = self.program(arguments)
        tensors = [a for p, a in zip(self.inputs, arguments, strict=True) if p.buffer is not None]
        values = _symbol_values(self.inputs, arguments)
        made = [_empty_like(program.parameters[k], values, tensors[0] if tensors else None) for k in positions]
        return (made[0] if len(made) == 1 else tuple(made)) if made else None


def register(function: Kernel | EagerFunction, name: str, *, devices: Sequence[str] | None = None) -> Any:
    """Makes a kernel, or an eager function, the torch operator `name`, "namespace::operator"; gives the operator.

    The operator takes what the kernel takes, its parameters in order without outputs. `devices` are those that it is registered for: by default where
    the kernel runs, "cpu" and "cuda" for an eager function without a target.

    Raises TileError (option-value) for another name or a parameter that torch has no type for, ImportError without torch.
    """
    import torch

    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*::[A-Za-z_]\w*", name):
        fail(
            Kind.OPTION_VALUE,
            f"the operator's name is {describe_operand(name)}",
            span_of_caller(),
            because="torch names operators as namespace::operator",
            help='write "mylib::attention"',
        )
    operator = _of_kernel(function) if isinstance(function, Kernel) else _of_eager_function(function)
    torch.library.define(name, operator.schema, tags=(torch.Tag.needs_fixed_stride_order,))
    torch.library.impl(name, tuple(devices or operator.devices), operator.call)
    torch.library.register_fake(name, operator.fake)
    namespace, operation = name.split("::")
    return getattr(getattr(torch.ops, namespace), operation).default


def _of_kernel(kernel: Kernel) -> _Operator:
    program = kernel.prim_func.program
    inputs = tuple(p for k, p in enumerate(program.parameters) if k not in kernel.out_idx)
    written, _ = used_parameters(program)
    place = "cuda" if isinstance(kernel.target, NvidiaTarget) else "cpu"
    return _Operator(inputs, frozenset(written) & {p.name for p in inputs}, len(kernel.out_idx), (place,), kernel, lambda _: (program, kernel.out_idx))


def _of_eager_function(function: EagerFunction) -> _Operator:
    if not isinstance(function, EagerFunction):
        fail(
            Kind.OPTION_VALUE,
            f"{describe_operand(function)} was given as a torch operator",
            span_of_caller(),
            because="an operator is a compiled kernel, or a @tilewright.jit function of tensors",
            help="call the factory first: register(factory(...), name)",
        )
    plain = {n: p.default for n, p in function.signature.parameters.items() if n not in function.runtime}
    missing = [n for n, default in plain.items() if default is inspect.Parameter.empty]
    if missing:
        fail(
            Kind.OPTION_VALUE,
            f"{function.func.__name__} has the compile-time argument {missing[0]}, which a torch operator cannot take",
            span_of_caller(),
            because="an operator takes tensors and numbers",
            help=f"give {missing[0]} a default, or register a compiled kernel",
        )
    signature = function._signature(plain)

    def program(arguments: Sequence[Any]) -> tuple[Program, tuple[int, ...]]:
        traced = function._trace(plain, function._sizes(signature, list(arguments))).program
        return traced, tuple(k for k, p in enumerate(traced.parameters) if p.is_output)

    sample = _sample(function, plain, tuple(signature.constants))
    names = {p.name for p in signature.runtime}
    mutated = frozenset(n for n in used_parameters(sample)[0] if n in names)
    outputs = sum(p.is_output for p in sample.parameters)
    devices = _DEVICES if function.target in (None, "auto") else ("cpu",) if function.target in ("cpu", "llvm", "c", "simulate") else ("cuda",)
    return _Operator(signature.runtime, mutated, outputs, devices, function, program)


def _sample(function: EagerFunction, plain: Mapping[str, Any], constants: Sequence[str]) -> Program:
    """The program for some sizes."""
    for size in _SAMPLE_SIZES[:-1]:
        try:
            return function._trace(plain, dict.fromkeys(constants, size)).program
        except TileError:
            continue
    return function._trace(plain, dict.fromkeys(constants, _SAMPLE_SIZES[-1])).program


def _scalar_type(parameter: Parameter) -> str:
    if parameter.kind is ParameterKind.POINTER or parameter.variable is None:
        fail(
            Kind.OPTION_VALUE,
            f"{parameter.name} is a raw pointer, which a torch operator cannot take",
            parameter.span,
            because="an operator takes tensors and numbers",
            help="declare it as a tensor",
        )
    dtype = parameter.variable.dtype
    return "float" if dtype.is_float else "bool" if dtype.is_bool else "SymInt"


def _symbol_values(inputs: Sequence[Parameter], arguments: Sequence[Any]) -> dict[Expr, Any]:
    """Symbols that are dimensions by themselves, and scalars; integers, or torch's symbolic ones."""
    values: dict[Expr, Any] = {}
    for parameter, argument in zip(inputs, arguments, strict=True):
        if parameter.buffer is None:
            if parameter.variable is not None:
                values[parameter.variable] = argument
            continue
        for extent, size in zip(parameter.buffer.shape, argument.shape, strict=False):
            if isinstance(extent, Expr) and extent.op is Op.VAR:
                values.setdefault(extent, size)
    return values


def _empty_like(parameter: Parameter, values: Mapping[Expr, Any], like: Any) -> Any:
    import torch

    framework, buffer = torch_framework(), parameter.buffer
    assert framework is not None and buffer is not None
    shape = tuple(_extent(n, values, parameter) for n in buffer.shape) + ((buffer.dtype.lanes,) if buffer.dtype.lanes > 1 else ())
    given = packed_shape(shape) if buffer.dtype.is_packed else shape
    return torch.empty(given, dtype=framework.dtype(buffer.dtype.scalar), device=None if like is None else like.device)


def _extent(extent: int | Expr, values: Mapping[Expr, Any], parameter: Parameter) -> Any:
    """An extent over numbers that may be torch's symbolic ones."""
    if isinstance(extent, int):
        return extent
    args = extent.args
    match extent.op:
        case Op.CONST:
            return int(extent.value)
        case Op.VAR if extent in values:
            return values[extent]
        case Op.ADD:
            return _extent(args[0], values, parameter) + _extent(args[1], values, parameter)
        case Op.SUB:
            return _extent(args[0], values, parameter) - _extent(args[1], values, parameter)
        case Op.MUL:
            return _extent(args[0], values, parameter) * _extent(args[1], values, parameter)
        case Op.FLOORDIV:
            return _extent(args[0], values, parameter) // _extent(args[1], values, parameter)
        case Op.FLOORMOD:
            return _extent(args[0], values, parameter) % _extent(args[1], values, parameter)
        case Op.CAST if extent.dtype.is_integer:
            return _extent(args[0], values, parameter)
    fail(
        Kind.UNBOUND_SYMBOL,
        f"the shape of {parameter.name} is not known before the call: {extent}",
        parameter.span,
        because="torch asks for the shapes of outputs without running the kernel",
        help="write the shape with sums, products and quotients of dimensions that are those of an input",
    )
