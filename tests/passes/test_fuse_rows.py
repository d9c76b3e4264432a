"""Loops over the same rows run row by row, with the same meaning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.llvm.lowered import Interpreter, at, check, native, parallel, program, reduction, seq, serial, store, tensor, tile, when
from tilewright.dtypes import float32, int32
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, Op, call
from tilewright.ir.intrinsic import Intrinsic
from tilewright.ir.printer import print_program
from tilewright.ir.program import Program
from tilewright.ir.stmt import For, ParallelFor, Prefetch, ReduceKind, ReduceLoop, Seq, Stmt, Store
from tilewright.ir.tileop import Storage, TilePlan
from tilewright.ir.verify import Level, verify
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.passes.context import PassContext
from tilewright.passes.fuse_rows import fuse_rows
from tilewright.target.cpu import host_target

RNG = np.random.default_rng(5)
M, N = 3, 64
A, B, C = (tensor(name, int32, M, N) for name in "abc")


def tiles() -> tuple[Buffer, Buffer, Buffer, Buffer]:
    return tile("x", int32, M, N), tile("y", int32, M, N), tile("m", int32, M), tile("n", int32, M)


def launched(parameters: Sequence[Buffer], used: Sequence[Buffer], *parts: Stmt) -> Program:
    made = program(list(parameters), lambda bx: seq(*parts))
    return dataclasses.replace(made, launches=(dataclasses.replace(made.launches[0], buffers=tuple(used)),))


def fused(made: Program, context: PassContext | None = None) -> Program:
    result = fuse_rows(made, context or PassContext(host_target()))
    verify(result, Level.LOWERED, "fuse_rows")
    return result


def body(made: Program) -> list[Stmt]:
    return list(statements(made.launches[0].body))


def row_loops(made: Program) -> list[For]:
    return [node for node in body(made) if isinstance(node, For)]


def same_meaning(made: Program, names: str = "ac") -> None:
    arrays = {name: RNG.integers(-50, 50, (M, N)).astype(np.int32) for name in names}
    expected, actual, compiled = ({n: a.copy() for n, a in arrays.items()} for _ in range(3))
    result = fused(made)
    Interpreter(made, expected)
    Interpreter(result, actual)
    native(result)(compiled)
    for name in arrays:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
        np.testing.assert_array_equal(compiled[name], expected[name], err_msg=name)


def elementwise(target: Buffer, value: Callable[[Expr, Expr], Expr], rows: int = M, columns: int = N) -> ParallelFor:
    return parallel([rows, columns], lambda i, j: store(target, [i, j], value(i, j)))


def row_sum(target: Buffer, value: Callable[[Expr, Expr], Expr], kind: ReduceKind = ReduceKind.SUM) -> ParallelFor:
    def one(i: Expr) -> Seq:
        made = reduction(kind, 0, N, lambda r: value(i, r), int32)
        return seq(made, store(target, [i], made.result))

    return parallel([M], one)


def softmax_like() -> Program:
    x, _y, m, n = tiles()
    return launched(
        [A, C],
        [x, m, n],
        elementwise(x, lambda i, j: at(A, i, j)),
        row_sum(m, lambda i, r: at(x, i, r), ReduceKind.MAX),
        elementwise(x, lambda i, j: (at(x, i, j) - at(m, i)) * (at(x, i, j) + 7) * 3),
        row_sum(n, lambda i, r: at(x, i, r)),
        parallel([M], lambda i: store(n, [i], at(n, i) + 1)),
        elementwise(C, lambda i, j: at(x, i, j) * at(n, i)),
    )


def test_steps_over_rows_are_one_loop_with_two_reductions_that_compute() -> None:
    made = softmax_like()
    result = fused(made)
    assert len(row_loops(result)) == 1
    assert [type(part) for part in row_loops(result)[0].body.body] == [ReduceLoop, Store, ReduceLoop, Store, Store, ParallelFor]
    same_meaning(made)


def test_tiles_of_one_such_loop_keep_one_row() -> None:
    assert [b.shape for b in fused(softmax_like()).launches[0].buffers] == [(1, N), (1,), (1,)]


def test_a_smaller_tile_keeps_its_plan_and_panels_keep_their_size() -> None:
    made = softmax_like()
    x, m, n = made.launches[0].buffers
    context = PassContext(host_target(), plans={x: TilePlan(int32, Storage.ROW_MAJOR, N + 8), m: TilePlan(int32, Storage.PANELS, 0)})
    smaller, same, _n = fused(made, context).launches[0].buffers
    assert smaller.shape == (1, N) and context.plans[smaller].row_pitch == N + 8 and same is m


def test_what_is_cheap_is_computed_again_from_the_tensor() -> None:
    x, _y, m, _n = tiles()
    made = launched(
        [A, C],
        [x, m],
        elementwise(x, lambda i, j: at(A, i, j)),
        row_sum(m, lambda i, r: at(x, i, r)),
        elementwise(x, lambda i, j: at(x, i, j) - at(m, i)),
        elementwise(C, lambda i, j: at(x, i, j) * 2),
    )
    assert not any(isinstance(node, Store) and node.buffer.name == "x" for node in body(fused(made)))
    same_meaning(made)


@pytest.mark.parametrize("target", [B, A])
def test_a_tensor_that_the_launch_writes_is_not_read_again(target: Buffer) -> None:
    x, _y, m, _n = tiles()
    made = launched(
        [A, B, C],
        [x, m],
        elementwise(x, lambda i, j: at(A, i, j)),
        row_sum(m, lambda i, r: at(x, i, r)),
        elementwise(target, lambda i, j: at(m, i)),
        row_sum(m, lambda i, r: at(x, i, r) + 1),
        elementwise(C, lambda i, j: at(m, i) + at(x, i, j)),
    )
    keeps = any(isinstance(node, Store) and node.buffer.name == "x" for node in body(fused(made)))
    assert keeps is (target is A)
    same_meaning(made, "abc")


def test_the_next_row_is_fetched_where_it_is_not_yet_read() -> None:
    hints = [node for node in body(fused(softmax_like())) if isinstance(node, Prefetch)]
    assert [hint.buffer for hint in hints] == [A]
    assert "prefetch(a[i + 1, r_1])" in print_program(fused(softmax_like()))


def test_a_reduction_that_computes_runs_its_body_in_every_turn() -> None:
    check(fused(softmax_like()), {"a": RNG.integers(-9, 9, (M, N)).astype(np.int32), "c": np.zeros((M, N), np.int32)})


def test_a_short_loop_between_others_waits_where_nobody_needs_it() -> None:
    x, y, m, n = tiles()
    made = launched(
        [A, C],
        [x, y, m, n],
        elementwise(x, lambda i, j: at(A, i, j)),
        row_sum(m, lambda i, r: at(x, i, r)),
        parallel([M], lambda i: store(n, [i], at(m, i) * 5)),
        elementwise(y, lambda i, j: at(x, i, j) * at(m, i)),
        elementwise(C, lambda i, j: at(y, i, M - 1 - i) + at(n, i)),
    )
    result = fused(made)
    top = result.launches[0].body.body
    assert [type(part) for part in top] == [For, ParallelFor, ParallelFor]
    same_meaning(made)


def test_a_function_of_one_value_per_row_stays_vector_code_between_short_rows() -> None:
    x, m = tile("x", float32, M, N), tile("m", float32, M)
    a, c = tensor("a", float32, M, N), tensor("c", float32, M, N)
    square_root = Intrinsic("sqrt", 1, lambda dtypes: dtypes[0], np.sqrt)

    def total(i: Expr) -> Seq:
        made = reduction(ReduceKind.SUM, 0.0, N, lambda r: at(x, i, r), float32)
        return seq(made, store(m, [i], made.result))

    made = launched(
        [a, c],
        [x, m],
        elementwise(x, lambda i, j: at(a, i, j)),
        parallel([M], total),
        parallel([M], lambda i: store(m, [i], call(square_root, at(m, i)))),
        elementwise(c, lambda i, j: at(x, i, j) * at(m, i)),
    )
    (loop,) = row_loops(fused(made))
    assert not any(e.op is Op.CALL for node in statements(loop) for root in own_expressions(node) for e in subexpressions(root))


@pytest.mark.parametrize(
    "follower",
    [
        lambda x: elementwise(C, lambda i, j: at(x, M - 1 - i, j)),
        lambda x: elementwise(C, lambda i, j: at(x, 0, j)),
        lambda x: elementwise(C, lambda i, j: at(x, i, j), rows=M - 1),
        lambda x: parallel([N], lambda j: store(C, [0, j], at(x, 0, j))),
        lambda x: elementwise(x, lambda i, j: at(x, i, j) + at(x, 1, j)),
    ],
)
def test_rows_that_meet_other_rows_stay_apart(follower: Callable[[Buffer], Stmt]) -> None:
    x, _y, m, _n = tiles()
    made = launched([A, C], [x, m], elementwise(x, lambda i, j: at(A, i, j)), follower(x), elementwise(C, lambda i, j: at(x, i, j)))
    assert isinstance(fused(made).launches[0].body.body[0], ParallelFor)
    same_meaning(made)


def test_short_rows_are_left_alone() -> None:
    x, a, c = tile("x", int32, M, 8), tensor("a", int32, M, 8), tensor("c", int32, M, 8)
    made = launched([a, c], [x], elementwise(x, lambda i, j: at(a, i, j), columns=8), elementwise(c, lambda i, j: at(x, i, 7 - j), columns=8))
    assert not row_loops(fused(made))


def test_a_tile_inside_a_loop_keeps_its_rows() -> None:
    """What a turn of the loop around leaves in them may be what the next one starts from."""
    x, _y, m, _n = tiles()
    made = launched(
        [A, C],
        [x, m],
        elementwise(x, lambda i, j: i),
        serial(
            2,
            lambda s: seq(
                elementwise(x, lambda i, j: at(x, i, j) + at(A, i, j)),
                row_sum(m, lambda i, r: at(x, i, r)),
                elementwise(C, lambda i, j: at(x, i, j) * at(m, i)),
            ),
        ),
    )
    assert [b.shape for b in fused(made).launches[0].buffers] == [(M, N), (M,)]
    same_meaning(made)


def test_the_last_store_to_a_tile_is_left_out_where_nobody_reads_it() -> None:
    x, _y, _m, _n = tiles()
    made = launched([A, C], [x], parallel([M, N], lambda i, j: seq(store(x, [i, j], at(A, i, j)), store(C, [i, j], at(x, i, j)), store(x, [i, j], 1))))
    assert sum(isinstance(node, Store) for node in body(fused(made))) == 2
    same_meaning(made)


# Steps of random programs, by number.
STEPS: list[Callable[[Buffer, Buffer, Buffer, Buffer], Stmt]] = [
    lambda x, y, m, n: elementwise(x, lambda i, j: at(A, i, j)),
    lambda x, y, m, n: elementwise(y, lambda i, j: at(x, i, j) - at(m, i)),
    lambda x, y, m, n: elementwise(x, lambda i, j: at(x, i, j) * 3 + at(n, i)),
    lambda x, y, m, n: elementwise(y, lambda i, j: at(x, i, N - 1 - j)),
    lambda x, y, m, n: parallel([M, N], lambda i, j: when(at(x, i, j) > 0, store(y, [i, j], at(x, i, j)))),
    lambda x, y, m, n: parallel([M, N], lambda i, j: seq(store(x, [i, j], at(y, i, j) + 1), store(C, [i, j], at(x, i, j) * at(m, i)))),
    lambda x, y, m, n: elementwise(C, lambda i, j: at(y, i, j) + at(n, i)),
    lambda x, y, m, n: elementwise(A, lambda i, j: at(y, i, j) - at(C, i, j)),
    lambda x, y, m, n: row_sum(m, lambda i, r: at(x, i, r)),
    lambda x, y, m, n: row_sum(n, lambda i, r: at(y, i, r), ReduceKind.MAX),
    lambda x, y, m, n: row_sum(n, lambda i, r: at(A, i, r) * at(m, i)),
    lambda x, y, m, n: parallel([M], lambda i: store(m, [i], at(m, i) * 5 + at(n, i))),
    lambda x, y, m, n: parallel([M], lambda i: store(n, [i], at(n, M - 1 - i))),
]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(STEPS) - 1), min_size=2, max_size=7), st.booleans())
def test_random_programs_keep_their_meaning(numbers: list[int], is_in_loop: bool) -> None:
    used = tiles()
    first = [elementwise(used[0], lambda i, j: at(A, i, j)), elementwise(used[1], lambda i, j: at(C, i, j))]
    first += [parallel([M], lambda i, b=b: store(b, [i], i)) for b in used[2:]]
    parts = [STEPS[number](*used) for number in numbers if number != 12]
    last = [elementwise(C, lambda i, j: at(used[0], i, j) + at(used[1], i, j) * 3 + at(used[2], i) - at(used[3], i))]
    made = launched([A, C], used, *first, *((serial(2, lambda s: seq(*parts)),) if is_in_loop and parts else parts), *last)
    same_meaning(made)
