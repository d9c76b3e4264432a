"""T.comm_reducer, T.attr and T.tvm_thread_allreduce as they are traced."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.ir.stmt import BlockReduce
from tilewright.ir.visit import statements

NOTHING = 0


def traced(combine: Any, identity: Any, size: Any = 1, axes: Any = None, target: Any = None, key: str = "reduce_scope") -> list[BlockReduce]:
    @T.prim_func
    def kernel(A: T.Tensor((8, 8), "float32")):
        with T.Kernel(1, threads=(8, 8)):
            tx, ty, _ = T.get_thread_bindings()
            out = T.alloc_local((1,), "float32")
            with T.attr(T.comm_reducer(combine, identity), key, NOTHING):
                T.tvm_thread_allreduce(size, A[ty, tx], True, out[0] if target is None else target, *((tx,) if axes is None else (ty, tx, ty)), dtype="handle")
            A[ty, tx] = out[0]

    return [s for s in statements(kernel.program.launches[0].body) if isinstance(s, BlockReduce)]


@pytest.mark.parametrize(
    ("kind", "combine"),
    [("sum", lambda x, y: y + x), ("max", lambda x, y: T.max(x, y)), ("min", lambda x, y: T.min(x, y))],
)
def test_the_function_says_what_is_combined(kind: str, combine: Any) -> None:
    (made,) = traced(combine, [T.float32(0)])
    assert made.kind.value == kind and made.axes == (0,)


def test_axes_are_those_of_the_thread_variables() -> None:
    (made,) = traced(lambda x, y: x + y, T.float32(0), T.uint32(1), axes=2)
    assert made.axes == (0, 1)


def test_mistakes_are_told() -> None:
    with refused(Kind.REDUCE_OPERATION, "x * y"):
        traced(lambda x, y: x * y, [T.float32(1)])
    with refused(Kind.REDUCE_OPERATION, "2 identities"):
        traced(lambda x, y: x + y, [T.float32(0), T.float32(0)])
    with refused(Kind.REDUCE_OPERATION, "3 values"):
        traced(lambda x, y: x + y, [T.float32(0)], size=3)
    with refused(Kind.OPERAND, "result"):
        traced(lambda x, y: x + y, [T.float32(0)], target=3.0)
    with refused(Kind.THREAD_LEVEL, "pragma"):
        traced(lambda x, y: x + y, [T.float32(0)], key="pragma")

    with refused(Kind.REDUCE_OPERATION, "outside"):

        @T.prim_func
        def alone(A: T.Tensor((8,), "float32")):
            with T.Kernel(1, threads=8):
                tx = T.get_thread_binding(0)
                out = T.alloc_local((1,), "float32")
                T.tvm_thread_allreduce(1, A[tx], True, out[0], tx)

    with refused(Kind.OPERAND, "thread variables"):

        @T.prim_func
        def no_thread(A: T.Tensor((8,), "float32")):
            with T.Kernel(1, threads=8) as bx:
                out = T.alloc_local((1,), "float32")
                with T.attr(T.comm_reducer(lambda x, y: x + y, [T.float32(0)]), "reduce_scope", NOTHING):
                    T.tvm_thread_allreduce(1, A[0], True, out[0], bx)
