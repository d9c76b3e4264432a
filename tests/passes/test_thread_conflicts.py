"""Whether two threads meet in an element is answered exactly where all threads can be enumerated, and on the safe side elsewhere."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.language as T
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, binary, const, minimum, var
from tilewright.ir.expr import Op as ExprOp
from tilewright.ir.program import Launch
from tilewright.ir.stmt import Break, Seq
from tilewright.passes.thread_conflicts import Conflicts, Order, Place, Values
from tilewright.passes.thread_variance import Variance

HERE = Span("test.py", 1)
THREADS = (6, 3, 1)
NAMES = (var("tx"), var("ty"), var("tz"))
N, K = var("n"), var("k")
BLOCK = var("bx")
TILE = Buffer("s", T.dtype("int32"), (1000,), Scope.SHARED, HERE)
LAUNCH = Launch((const(4),), (BLOCK,), THREADS, NAMES, (TILE,), Seq(HERE, ()), HERE, is_thread_level=True)


def index_of(parts: list[int], offset: int, scale: int) -> Expr:
    a, b, c, kind = parts
    x, y, _ = NAMES
    base = x * a + y * b + K * c
    made = [base, base // 2, base % 5, minimum(base, 4), base + BLOCK * 7, base ^ binary(ExprOp.SHIFT_LEFT, const(1), K)][kind]
    return made * scale + offset


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3, st.integers(0, 5)), min_size=2, max_size=2), st.integers(0, 9), st.integers(1, 3), st.integers(1, 6))
def test_the_answer_is_that_of_trying_all_threads(parts: list[tuple[int, int, int, int]], offset: int, scale: int, limit: int) -> None:
    values = Values(Variance(LAUNCH))
    place = Place(values)
    inside = place.inside(K, const(2))
    guarded = inside.under(NAMES[0] < limit, True)
    indices = [index_of(list(parts[0]), 0, scale), index_of(list(parts[1]), offset, scale)]
    stmt = Break(HERE)
    first = inside.access(stmt, TILE, (indices[0],), is_write=True)
    second = guarded.access(stmt, TILE, (indices[1],), is_write=False)

    def value(index: Expr, x: int, y: int, k: int, block: int) -> int:
        from tilewright.arith.evaluate import evaluate

        return int(evaluate(index, {NAMES[0]: x, NAMES[1]: y, K: k, BLOCK: block}, lambda *_: 0))

    threads = list(itertools.product(range(THREADS[0]), range(THREADS[1])))
    meets = any(
        t != u and u[0] < limit and value(indices[0], *t, k, b) == value(indices[1], *u, k, b)
        for t in threads
        for u in threads
        for k in range(2)
        for b in (0, 3)
    )
    answer = Conflicts(LAUNCH, values).meet(first, second)
    assert answer or not meets
    if parts[0][3] != 4 and parts[1][3] != 4 and not parts[0][2] and not parts[1][2]:
        assert answer == meets  # nothing but the thread, and the turns of a loop that both are in: enumeration is exact


def test_what_a_loop_carries_is_told_from_what_a_turn_does() -> None:
    values = Values(Variance(LAUNCH))
    inside = Place(values).inside(K, N)
    flat = NAMES[0] + NAMES[1] * 6
    stmt = Break(HERE)
    row, shifted = (inside.access(stmt, TILE, (K * 18 + flat + d,), is_write=True) for d in (0, 18))
    answers = Conflicts(LAUNCH, values)
    assert not answers.meet(row, row) and not answers.meet(row, shifted)
    fixed, other = (inside.access(stmt, TILE, (i,), is_write=True) for i in (flat, binary(ExprOp.SUB, const(17), flat)))
    assert not answers.meet(fixed, fixed) and answers.meet(fixed, other) and answers.meet(fixed, other, carried_by=inside)
    assert not answers.meet(fixed, fixed, carried_by=inside)


def test_a_warp_in_step_meets_only_other_warps() -> None:
    names = (var("tx"), var("ty"), var("tz"))
    launch = Launch((const(1),), (BLOCK,), (64, 1, 1), names, (TILE,), Seq(HERE, ()), HERE, is_thread_level=True)
    values = Values(Variance(launch))
    place, stmt = Place(values), Break(HERE)
    mine = place.access(stmt, TILE, (names[0],), is_write=True)
    in_warp = place.access(stmt, TILE, (names[0] // 32 * 32 + (names[0] + 1) % 32,), is_write=False)
    next_one = place.access(stmt, TILE, ((names[0] + 1) % 64,), is_write=False)
    answers = Conflicts(launch, values)
    assert answers.meet(mine, in_warp) and not answers.meet(mine.ordered(Order.WARP), in_warp) and answers.meet(mine.ordered(Order.WARP), next_one)
