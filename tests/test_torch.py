"""Kernels as operators of torch: opcheck, torch.compile without a break, symbolic shapes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind

torch = pytest.importorskip("torch")
from tilewright.torch import register  # noqa: E402  # only where torch is

n = T.dynamic("n")
numbers = itertools.count()


def fresh(name: str) -> str:
    """Operators live as long as the process."""
    return f"tilewright_tests::{name}_{next(numbers)}"


@T.prim_func
def halves(A: T.Tensor((n, 8), "float32"), factor: T.float32, B: T.Tensor((n // 2, 8), "float32"), C: T.Tensor((n + 1,), "int32")):
    with T.Kernel(n // 2) as bx:
        for j in T.Parallel(8):
            B[bx, j] = (A[2 * bx, j] + A[2 * bx + 1, j]) * factor
    with T.Kernel(n + 1) as bx:
        C[bx] = bx


@T.prim_func
def add_into(A: T.Tensor((n,), "float32"), B: T.Tensor((n,), "float32")):
    with T.Kernel(n) as bx:
        B[bx] += A[bx]


@tilewright.jit
def twice(A, block: int = 32):
    M = T.const("M")
    A: T.Tensor((M,), "float32")
    B = T.empty((M,), "float32")
    with T.Kernel(T.ceildiv(M, block)) as bx:
        for i in T.Parallel(block):
            B[bx * block + i] = A[bx * block + i] * 2
    return B


def expected(a: Any, factor: float) -> Any:
    return (a[::2] + a[1::2]) * factor


def test_an_operator_with_outputs_passes_torchs_own_checks() -> None:
    op = register(tilewright.compile(halves, out_idx=[2, 3]), fresh("halves"))
    a = torch.randn(6, 8)
    b, c = op(a, 0.5)
    assert torch.allclose(b, expected(a, 0.5)) and c.tolist() == list(range(7)) and c.dtype is torch.int32
    assert str(op._schema).endswith("(Tensor A, float factor) -> (Tensor, Tensor)")
    torch.library.opcheck(op, (a, 0.5))


def test_an_operator_that_writes_its_arguments_says_so() -> None:
    op = register(tilewright.compile(add_into), fresh("add_into"))
    a, b = torch.ones(5), torch.zeros(5)
    assert op(a, b) is None and b.tolist() == [1] * 5
    assert "!) B" in str(op._schema) and "Tensor A" in str(op._schema)
    torch.library.opcheck(op, (a, b))


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_function_has_no_break(dynamic: bool) -> None:
    op = register(tilewright.compile(halves, out_idx=[2, 3]), fresh("halves"))

    @torch.compile(fullgraph=True, dynamic=dynamic, backend="aot_eager")
    def step(x: Any) -> Any:
        b, c = op(x.relu(), 2.0)
        return b + 1, c

    for rows in (4, 10):
        x = torch.randn(rows, 8)
        b, c = step(x)
        assert torch.allclose(b, expected(x.relu(), 2.0) + 1) and c.shape == (rows + 1,)


def test_eager_functions_are_operators_too() -> None:
    op = register(twice, fresh("twice"))
    a = torch.randn(100)
    assert torch.equal(op(a), a * 2)
    torch.library.opcheck(op, (a,))
    assert torch.equal(torch.compile(lambda x: op(x) + 1, fullgraph=True, backend="aot_eager")(a), a * 2 + 1)


def test_the_decorator_gives_the_operator() -> None:
    @tilewright.jit(torch_op=fresh("decorated"))
    def triple(A):
        M = T.const("M")
        A: T.Tensor((M,), "float32")
        B = T.empty((M,), "float32")
        with T.Kernel(M) as bx:
            B[bx] = A[bx] * 3
        return B

    assert triple(torch.ones(3)).tolist() == [3, 3, 3] and isinstance(triple, torch._ops.OpOverload)


@pytest.mark.parametrize("name", ["halves", "a::b::c", "", 3, "a b::c"])
def test_names_that_torch_does_not_take(name: Any) -> None:
    with refused(Kind.OPTION_VALUE, "namespace::operator"):
        register(tilewright.compile(add_into), name)


def test_what_cannot_be_an_operator() -> None:
    @T.prim_func
    def raw(p: T.ptr, B: T.Tensor((4,), "float32")):
        with T.Kernel(1):
            B[0] = 1

    @tilewright.jit
    def tiled(A, block: int):
        M = T.const("M")
        A: T.Tensor((M,), "float32")
        with T.Kernel(1):
            A[0] = block

    with refused(Kind.OPTION_VALUE, "p is a raw pointer"):
        register(tilewright.compile(raw), fresh("raw"))
    with refused(Kind.OPTION_VALUE, "compile-time argument block"):
        register(tiled, fresh("tiled"))
    with refused(Kind.OPTION_VALUE, "was given as a torch operator"):
        register(halves, fresh("program"))
