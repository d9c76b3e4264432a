"""The stub takes what it can express, and decides as the checks in Python do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.recorded_kernels import RecordedKernel, kernel_of, pointer, program, refused, scalar, tensor, workspace, zeros
from tilewright import dtypes
from tilewright.codegen.llvm.program import slots_of
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind, Span
from tilewright.ir.expr import var
from tilewright.ir.program import HostCheck, Parameter, Program
from tilewright.runtime.argument_checks import Callee
from tilewright.runtime.fast_path import FastPath, build_fast_path

torch = pytest.importorskip("torch")


def fast_path_of(source: Program, outputs: tuple[int, ...] = ()) -> FastPath | None:
    returned = [source.parameters[k] for k in outputs]
    inputs = tuple(p for p in source.parameters if p not in returned)
    callee = Callee(source.name, source.span, source.parameters, inputs, frozenset(), frozenset())
    return build_fast_path(source, callee, slots_of(source), returned, 1, None)


def test_what_has_a_fast_path() -> None:
    n, m = var("n"), var("m")
    plain: list[tuple[Parameter, ...]] = [
        (tensor("X", (n, 4)), tensor("Y", (n, m), dtypes.bfloat16)),
        (scalar(var("a")), pointer("p")),
        (tensor("X", (n,), dtypes.bool_), scalar(var("a", dtypes.float32))),
    ]
    for parameters in plain:
        path = fast_path_of(program(*parameters))
        assert path is not None
        assert path.is_bare
    assert fast_path_of(program(tensor("X", (n,)), tensor("Y", (n * 2, 3))), outputs=(1,)) is not None
    assert fast_path_of(program(tensor("X", (n,)), workspaces=[workspace("P", (n, n))])) is not None


def test_what_has_none() -> None:
    n, m = var("n"), var("m")
    check = HostCheck(n > 0, "", Span("kernel.py", 1))
    for source in (
        program(tensor("X", (n * 2,)), tensor("Y", (n,))),
        program(tensor("X", (n, 4), strides=(m, 1))),
        program(tensor("X", (n,), dtypes.int4)),
        program(tensor("X", (n,), as_dtype("float16x2"))),
        program(scalar(n), tensor("X", (n,))),
        program(scalar(var("a", dtypes.float16))),
        program(tensor("X", (n,)), checks=[check]),
    ):
        assert fast_path_of(source) is None
    assert fast_path_of(program(tensor("X", (n,)), tensor("Y", (m,))), outputs=(1,)) is None


def test_numpy_calls_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    n = var("n")
    kernel = kernel_of(tensor("X", (n,)), tensor("Y", (n,)), written=("Y",))
    returning = RecordedKernel(program(tensor("X", (n,)), tensor("Y", (n + 1,)), workspaces=[workspace("P", (n,))]), outputs=(1,))

    def fail(*arguments: Any) -> Any:
        raise AssertionError("took the slow path")

    for each in (kernel, returning):
        monkeypatch.setattr(each.plan, "_call_checked", fail)
    kernel(zeros(4), zeros(4))
    for size in (4, 5, 4):
        assert returning(zeros(size)).shape == (size + 1,)


def test_a_dimension_beyond_int32_is_refused_for_an_int32_symbol() -> None:
    narrow, wide = var("n"), var("n", dtypes.int64)
    huge = np.empty((1 << 31, 0), np.float32)
    assert refused(kernel_of(tensor("X", (narrow, 0))), huge).diagnostic.kind is Kind.ARGUMENT_SYMBOL
    kernel = kernel_of(tensor("X", (wide, 0)))
    kernel(huge)
    assert kernel.words[1] == 1 << 31


@given(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["float32", "float16", "int64", "uint8", "bool"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_both_paths_fill_the_same_slots(m: int, n: int, dtype: str, is_output: bool) -> None:
    """numpy arrays go through the stub, torch tensors over the same memory through Python."""
    rows, columns = var("m"), var("n")
    a = var("a")
    source = program(tensor("X", (rows, columns), as_dtype(dtype)), scalar(a), tensor("Y", (columns, 3)), tensor("Z", (columns, rows)))
    kernel = RecordedKernel(source, written=("Y",), outputs=(3,) if is_output else ())
    x: Any = np.zeros((m, n), as_dtype(dtype).numpy)
    y, z = zeros(n, 3), zeros(n, m)
    given = (x, 7, y) if is_output else (x, 7, y, z)
    kernel(*given)
    first = kernel.words
    kernel(*(torch.from_numpy(g) if isinstance(g, np.ndarray) else g for g in given))
    fixed = [0, 1, 2, 4, 5] if is_output else [0, 1, 2, 3, 4, 5]
    # torch gives tensors without elements a null pointer.
    same = [k for k in fixed if k in (1, 4, 5) or (k < 4 and (x, x, y, z)[k].size)]
    assert [first[k] for k in same] == [kernel.words[k] for k in same]
    assert first[4:6] == [m, n]


@pytest.mark.usefixtures("stubs")
def test_symbols_of_one_name_are_two() -> None:
    kernel = kernel_of(tensor("X", (var("n"),)), tensor("Y", (var("n"),)))
    kernel(zeros(3), zeros(4))
    assert kernel.words[2:4] == [3, 4]
