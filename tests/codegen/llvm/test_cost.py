"""Blocks are handed out in larger pieces the less they do."""

from __future__ import annotations

from tests.codegen.llvm.lowered import SPAN, at, parallel, serial, store, tensor, when
from tilewright.codegen.llvm.cost import UNKNOWN_EXTENT, blocks_per_chunk, statement_nanoseconds
from tilewright.dtypes import float32
from tilewright.intrin.math import MATH
from tilewright.ir.expr import call, const, var
from tilewright.ir.stmt import MatrixMultiply, Stmt

A = tensor("a", float32, 1 << 20)


def add(extent) -> Stmt:
    return parallel([extent], lambda i: store(A, [i], at(A, i) + 1.0))


def test_small_blocks_are_grouped_and_large_ones_are_not() -> None:
    product = MatrixMultiply(SPAN, 128, 128, const(512), A, const(0), 512, 1, A, const(0), 128, 0, 0, A, const(0), 128, const(True))
    assert blocks_per_chunk(add(16)) > blocks_per_chunk(add(1024)) > 1
    assert blocks_per_chunk(add(1 << 20)) == blocks_per_chunk(product) == 1


def test_loops_multiply_and_branches_take_the_longer_side() -> None:
    once = statement_nanoseconds(store(A, [0], at(A, 1) * 2.0))
    assert statement_nanoseconds(serial(10, lambda s: store(A, [0], at(A, 1) * 2.0))) >= 10 * once
    condition = at(A, 0) > 0.0
    assert statement_nanoseconds(when(condition, add(4), add(4000))) > statement_nanoseconds(add(4000))
    assert statement_nanoseconds(add(var("n"))) == statement_nanoseconds(add(UNKNOWN_EXTENT))


def test_functions_cost_more_than_arithmetic() -> None:
    cheap, dear = (parallel([64], lambda i, make=make: store(A, [i], make(at(A, i)))) for make in (lambda x: x + 1.0, lambda x: call(MATH["exp"], x)))
    assert statement_nanoseconds(dear) > 2 * statement_nanoseconds(cheap)


def test_loops_that_never_run_cost_nothing() -> None:
    assert statement_nanoseconds(add(0)) == 0.0
