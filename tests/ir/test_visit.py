"""Walking and rewriting: order, identity of what does not change, replacement everywhere."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tilewright import dtypes
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op, const, load, var
from tilewright.ir.printer import print_stmt
from tilewright.ir.stmt import For, If, Let, LoopKind, ParallelFor, ReduceKind, ReduceLoop, Seq, Stmt, Store
from tilewright.ir.visit import (
    inner_statements,
    names_bound,
    names_made,
    own_expressions,
    rewrite,
    rewrite_expr,
    statements,
    subexpressions,
    substitute,
    substitute_expr,
)
from tilewright.ops.copy import Copy
from tilewright.ops.fill import Fill

HERE = Span("kernel.py", 1)
X, Y, Z = var("x"), var("y"), var("z")
A = Buffer("A", dtypes.int32, (64,), Scope.GLOBAL, HERE)
B = Buffer("B", dtypes.int32, (64,), Scope.GLOBAL, HERE)


def store(index: Any, value: Any, buffer: Buffer = A) -> Store:
    return Store(HERE, buffer, (index,), value)


def nest() -> For:
    i, j = var("i"), var("j")
    inner = ParallelFor(HERE, (j,), (Y,), store(i + j, load(B, (X + j,))))
    return For(HERE, i, X + Y, LoopKind.SERIAL, Seq(HERE, (If(HERE, X > 0, store(i, X), store(i, Y)), inner)))


def test_statements_come_in_program_order() -> None:
    kinds = [type(s).__name__ for s in statements(nest())]
    assert kinds == ["For", "Seq", "If", "Store", "Store", "ParallelFor", "Store"]
    loop = nest()
    assert list(inner_statements(loop)) == [loop.body] and [type(s) for s in inner_statements(loop.body)] == [If, ParallelFor]


def test_names_for_the_rest_of_a_sequence_and_all_that_are_bound() -> None:
    loop = nest()
    (parallel,) = (s for s in statements(loop) if isinstance(s, ParallelFor))
    total, axis = var("total"), var("axis")
    reduction = ReduceLoop(HERE, total, ReduceKind.SUM, const(0), axis, Y, load(A, (axis,)))
    let = Let(HERE, Z, X + Y)
    assert [names_made(s) for s in (loop, parallel, reduction, let)] == [(), (), (total,), (Z,)]
    assert [names_bound(s) for s in (loop, parallel, reduction, let)] == [(loop.variable,), parallel.variables, (total, axis), (Z,)]


def test_expressions_of_a_statement_itself() -> None:
    loop = nest()
    assert list(own_expressions(loop)) == [loop.variable, X + Y]
    branch = next(s for s in statements(loop) if isinstance(s, If))
    assert list(own_expressions(branch)) == [X > 0]
    n = var("n")
    copy = Copy(HERE, Region(A, (X,), (n,), (True,), HERE), Region(B, (Y,), (n,), (True,), HERE), (n,), (0,), (0,))
    assert list(own_expressions(copy)) == [X, n, Y, n, n]


def test_subexpressions_are_visited_once_operands_first() -> None:
    shared = X + Y
    order = list(subexpressions(shared * shared + X))
    assert order == [X, Y, shared, shared * shared, shared * shared + X]


def test_deep_expressions_need_no_deep_stack() -> None:
    total: Expr = X
    for k in range(5000):
        total = total + (Y if k % 2 else Z)
    assert len(list(subexpressions(total))) == 5003
    replaced = substitute_expr(total, {Z: Y})
    assert Z not in set(subexpressions(replaced)) and replaced is substitute_expr(total, {Z: Y})


def test_expressions_are_rewritten_and_folded() -> None:
    made = rewrite_expr((X + Y) * (X + Y), lambda e: const(0) if e is X else e)
    assert made is Y * Y
    assert substitute_expr(X + 1, {}) is X + 1 and substitute_expr(X * Y, {X: Y, Y: X}) is Y * X
    kept = (X + Y) * 3
    assert rewrite_expr(kept, lambda e: e) is kept


def test_an_unchanged_tree_stays_the_same_object() -> None:
    loop = nest()
    assert rewrite(loop) is loop and rewrite(loop, on_expr=lambda e: e, on_buffer=lambda b: b, post=lambda s: s) is loop
    assert substitute(loop, {Z: X}) is loop


def test_unchanged_siblings_stay_the_same_object() -> None:
    first, second = store(X, Y), store(Y, Z)
    body = Seq(HERE, (first, second))
    made = substitute(body, {Z: X})
    assert isinstance(made, Seq) and made.body[0] is first and str(made.body[1].value) == "x"  # type: ignore[attr-defined]


def test_variables_are_replaced_everywhere() -> None:
    text = print_stmt(substitute(nest(), {X: const(7), Y: Z}))
    assert "x" not in text.replace("Parallel", "") and "7" in text and "z" in text


def test_buffers_are_replaced_in_statements_and_regions() -> None:
    c = Buffer("C", dtypes.int32, (64,), Scope.SHARED, HERE)
    fill = Fill(HERE, Region(A, (X,), (4,), (True,), HERE), const(0))
    made = rewrite(Seq(HERE, (fill, store(X, load(A, (Y,))))), on_buffer=lambda b: c if b is A else b)
    assert isinstance(made, Seq)
    assert made.body[0].dst.buffer is c and made.body[1].buffer is c  # type: ignore[attr-defined]
    assert made.body[1].value.buffer is A  # type: ignore[attr-defined] - loads are expressions


def test_statements_are_replaced_and_dropped() -> None:
    loop = nest()

    def post(stmt: Stmt) -> Stmt | None:
        if isinstance(stmt, If):
            return None
        return store(X, const(1)) if isinstance(stmt, ParallelFor) else stmt

    made = rewrite(loop, post=post)
    assert isinstance(made, For) and isinstance(made.body, Seq)
    assert [print_stmt(s).split("  #")[0] for s in made.body.body] == ["A[x] = 1"]
    dropped = rewrite(loop, post=lambda s: None)
    assert isinstance(dropped, Seq) and dropped.body == ()


def test_whole_programs() -> None:
    @T.prim_func
    def kernel(P: T.Tensor((16,), "float32")):
        with T.Kernel(2) as bx:
            for k in T.serial(4):
                P[bx * 4 + k] = P[k] + 1

    (launch,) = kernel.program.launches
    loads = [n for s in statements(launch.body) for e in own_expressions(s) for n in subexpressions(e) if n.op is Op.LOAD]
    assert len(loads) == 1
    assert rewrite(launch.body) is launch.body


@pytest.mark.parametrize("values", [{}, {X: Y}])
def test_memoisation_does_not_leak_between_calls(values: dict[Expr, Expr]) -> None:
    assert substitute_expr(X + Z, values) is (values.get(X, X) + Z)
