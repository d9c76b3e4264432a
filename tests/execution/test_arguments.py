"""Arguments of a run in numpy: symbols, copies of the caller's memory, forms of narrow dtypes, and what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.execution.arguments import BoundArguments, bind_arguments, integer, result_array
from tilewright.ir.program import Program


def traced(*annotations: Any) -> Program:
    """A program that touches nothing, with parameters A, B and C."""
    a, b, c = (*annotations, T.int32, T.int32)[:3]

    @T.prim_func
    def main(A: a, B: b, C: c):
        with T.Kernel(1):
            T.evaluate(0)

    return main.program


def symbols(bound: BoundArguments) -> dict[str, int]:
    return {variable.name: int(value) for variable, value in bound.values.items()}


def test_symbols_are_solved_one_after_the_other() -> None:
    m, n = T.dynamic("m, n")
    program = traced(T.Tensor((m + n,), "float32"), T.Tensor((3 * n + 1,), "float32"))
    bound = bind_arguments(program, {"A": np.zeros(9, np.float32), "B": np.zeros(13, np.float32), "C": 5})
    assert symbols(bound) == {"m": 5, "n": 4, "C": 5}
    assert integer(program.parameters[0].buffer.shape[0], bound.values) == 9


@pytest.mark.parametrize(
    ("sizes", "kind", "part"),
    [
        ((8, 9), Kind.ARGUMENT_SYMBOL, "dimension 0 of B is 9, but the kernel expects n * 2 = 16 (n = 8)"),
        ((8, 15), Kind.ARGUMENT_SYMBOL, "dimension 0 of B is 15"),
    ],
)
def test_sizes_that_disagree(sizes: tuple[int, int], kind: Kind, part: str) -> None:
    n = T.dynamic("n")
    program = traced(T.Tensor((n,), "float32"), T.Tensor((n * 2,), "float32"))
    with refused(kind, part):
        bind_arguments(program, {"A": np.zeros(sizes[0], np.float32), "B": np.zeros(sizes[1], np.float32), "C": 0})


def test_a_size_that_no_symbol_makes() -> None:
    n = T.dynamic("n")
    with refused(Kind.ARGUMENT_SYMBOL, "dimension 0 of A is 7, but no n makes"):
        bind_arguments(traced(T.Tensor((n * 2,), "float32")), {"A": np.zeros(7, np.float32), "B": 0, "C": 0})


def test_strides_are_checked_where_they_matter() -> None:
    step = T.dynamic("step")
    program = traced(T.StridedTensor((4, 3), (step, 1), "float32"))
    whole = np.arange(40, dtype=np.float32).reshape(4, 10)
    bound = bind_arguments(program, {"A": whole[:, :3], "B": 0, "C": 0})
    assert symbols(bound)["step"] == 10
    with refused(Kind.ARGUMENT_STRIDES, "stride 1 of A, in elements, is 2"):
        bind_arguments(program, {"A": whole[:, :6:2], "B": 0, "C": 0})
    row = traced(T.StridedTensor((1, 3), (step, 1), "float32"))
    assert symbols(bind_arguments(row, {"A": whole[:1, :3], "B": 0, "C": 0}))["step"] == 10


def test_the_callers_memory_is_copied_once() -> None:
    program = traced(T.Tensor((4,), "float32"), T.Tensor((4,), "float32"))
    a = np.arange(4, dtype=np.float32)
    bound = bind_arguments(program, {"A": a, "B": a, "C": 0})
    first, second = (bound.storages[p.buffer] for p in program.parameters[:2])
    assert first is second and first.flat is not a
    first.flat[0] = 7
    assert a[0] == 0


def test_addresses_lead_to_the_copies() -> None:
    program = traced(T.ptr, T.ptr)
    given, table = np.arange(6, dtype=np.float32), np.arange(3, dtype=np.int64)
    bound = bind_arguments(program, {"A": given, "B": table.ctypes.data, "C": 0}, pointees=[table])
    buffer = traced(T.Tensor((2,), "float32")).parameters[0].buffer
    storage, offset = bound.pointee(given.ctypes.data + 8, buffer)
    assert offset == 8 and storage.flat.tolist() == [0, 1, 2, 3, 4, 5]
    assert bound.pointee(int(table.ctypes.data), buffer)[0].flat.tolist() == [0, 1, 2]
    with refused(Kind.ARGUMENT_KIND, "which is in no array of this call"):
        bound.pointee(8, buffer)


@pytest.mark.parametrize(
    ("dtype", "given", "elements"),
    [
        ("int4", np.array([0x2F, 0x71], np.uint8), [-1, 2, 1, 7]),
        ("bool", np.array([0, 3, 255, 1], np.uint8), [0, 1, 1, 1]),
        ("float8_e5m2", np.array([0x3C, 0xBC, 0, 0x7C], np.uint8), [1, -1, 0, np.inf]),
    ],
)
def test_narrow_dtypes_may_come_as_bytes_and_go_back_as_they_came(dtype: str, given: Any, elements: list[float]) -> None:
    program = traced(T.Tensor((4,), dtype))
    bound = bind_arguments(program, {"A": given, "B": 0, "C": 0})
    parameter = program.parameters[0]
    found = bound.storages[parameter.buffer].elements(parameter.buffer.dtype)
    assert found.astype(np.float64).tolist() == elements
    back = result_array(parameter, found, bound)
    assert back.dtype == given.dtype and back.tolist() == (given.tolist() if dtype != "bool" else [0, 1, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "kind", "part"),
    [
        ({"A": np.zeros(4, np.float32), "B": 0}, Kind.MISSING_ARGUMENT, "main needs a value for C"),
        ({"A": np.zeros(4, np.float32), "B": 0, "C": 0, "D": 0}, Kind.UNKNOWN_ARGUMENT, "main has no parameter D"),
        ({"A": np.zeros(4, np.float64), "B": 0, "C": 0}, Kind.ARGUMENT_DTYPE, "A is float64, the kernel expects float32"),
        ({"A": np.zeros((2, 2), np.float32), "B": 0, "C": 0}, Kind.ARGUMENT_RANK, "A has 2 dimensions, the kernel expects 1"),
        ({"A": np.zeros(5, np.float32), "B": 0, "C": 0}, Kind.ARGUMENT_SHAPE, "dimension 0 of A is 5, but the kernel expects 4"),
        ({"A": np.zeros(4, np.float32), "B": 2**31, "C": 0}, Kind.ARGUMENT_SCALAR, "B is 2147483648, the kernel expects a value of int32"),
        ({"A": np.zeros(4, np.float32), "B": 1.5, "C": 0}, Kind.ARGUMENT_SCALAR, "B is 1.5"),
    ],
)
def test_what_does_not_fit(arguments: dict[str, Any], kind: Kind, part: str) -> None:
    with refused(kind, part):
        bind_arguments(traced(T.Tensor((4,), "float32")), arguments)


def test_a_tensor_may_be_none_and_then_its_symbol_has_no_value() -> None:
    n = T.dynamic("n")
    program = traced(T.Tensor((n,), "float32"))
    bound = bind_arguments(program, {"A": None, "B": 1, "C": 2})
    assert not bound.storages and symbols(bound) == {"B": 1, "C": 2}
    with refused(Kind.UNBOUND_SYMBOL, "the symbol n in"):
        integer(program.parameters[0].buffer.shape[0] + 1, bound.values)
