"""Loops that hand each other elements become one, with the same meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.llvm.lowered import Interpreter, at, check, parallel, program, reduction, seq, serial, store, tensor, tile, when
from tilewright.dtypes import float16, float32, int32
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, cast, select, var
from tilewright.ir.program import Program
from tilewright.ir.stmt import If, ParallelFor, ReduceKind, Stmt, Store
from tilewright.ir.visit import statements, subexpressions
from tilewright.passes.context import PassContext
from tilewright.passes.fuse_loops import fuse_loops
from tilewright.target.cpu import host_target

RNG = np.random.default_rng(5)
A, B, C = (tensor(name, int32, 8, 12) for name in "abc")


def fused(made: Program) -> Program:
    return fuse_loops(made, PassContext(host_target()))


def loops(made: Program) -> int:
    return sum(isinstance(node, ParallelFor) for node in statements(fused(made).launches[0].body))


def stored(made: Program) -> list[str]:
    return [node.buffer.name for node in statements(fused(made).launches[0].body) if isinstance(node, Store)]


def integers(*shape: int) -> np.ndarray:
    return RNG.integers(-50, 50, shape).astype(np.int32)


def same_meaning(made: Program, tensors: dict[str, np.ndarray], **inputs: Any) -> None:
    expected, actual = ({n: a.copy() for n, a in tensors.items()} for _ in range(2))
    Interpreter(made, expected, **inputs)
    Interpreter(fused(made), actual, **inputs)
    for name in tensors:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
    check(fused(made), tensors, **inputs)


def copy(source: Buffer, target: Buffer, m: int = 8, n: int = 12) -> ParallelFor:
    return parallel([m, n], lambda i, j: store(target, [i, j], at(source, i, j)))


def test_copy_in_compute_copy_out_is_one_loop_without_tiles() -> None:
    x, y, z = tile("x", int32, 8, 12), tile("y", int32, 8, 12), tile("z", int32, 8, 12)
    made = program([A, B, C], lambda bx: seq(copy(A, x), copy(B, y), parallel([8, 12], lambda i, j: store(z, [i, j], at(x, i, j) + at(y, i, j))), copy(z, C)))
    assert loops(made) == 1 and stored(made) == ["c"]
    same_meaning(made, {n: integers(8, 12) for n in "abc"})


def test_a_tile_that_is_read_later_is_still_written() -> None:
    x = tile("x", int32, 8, 12)
    made = program([A, B, C], lambda bx: seq(copy(A, x), copy(x, B), serial(8, lambda s: store(C, [s, 0], at(x, 7 - s, 3)))))
    assert loops(made) == 1 and stored(made) == ["x", "b", "c"]
    same_meaning(made, {n: integers(8, 12) for n in "abc"})


def test_an_update_in_place_is_computed_once() -> None:
    x = tile("x", int32, 8, 12)
    made = program(
        [A, B, C], lambda bx: seq(copy(A, x), parallel([8, 12], lambda i, j: store(x, [i, j], at(x, i, j) * 3 + at(B, i, j))), copy(x, C), copy(x, B))
    )
    assert loops(made) == 1 and stored(made) == ["c", "b"]
    same_meaning(made, {n: integers(8, 12) for n in "abc"})


def test_values_round_at_the_tile() -> None:
    a, c, x = tensor("a", float32, 40), tensor("c", float32, 40), tile("x", float16, 40)
    made = program(
        [a, c],
        lambda bx: seq(parallel([40], lambda i: store(x, [i], cast(at(a, i), float16))), parallel([40], lambda i: store(c, [i], cast(at(x, i), float32)))),
    )
    assert loops(made) == 1 and stored(made) == ["c"]
    same_meaning(made, {"a": RNG.normal(size=40).astype(np.float32), "c": np.zeros(40, np.float32)})


@pytest.mark.parametrize(
    "second",
    [
        lambda x: parallel([8, 12], lambda i, j: store(C, [i, j], at(x, i, 11 - j))),
        lambda x: parallel([8, 12], lambda i, j: store(C, [i, j], at(x, i, j) + at(x, i, 0))),
        lambda x: parallel([8, 11], lambda i, j: store(C, [i, j], at(x, i, j))),
        lambda x: parallel([8, 12], lambda i, j: store(C, [i, j], at(x, i, at(A, i, j) & 7))),
        lambda x: parallel([8, 12], lambda i, j: store(A, [7 - i, j], at(x, i, j))),
        lambda x: parallel([12, 8], lambda j, i: store(C, [i, j], at(x, i, j))),
    ],
)
def test_loops_that_meet_elsewhere_stay_apart(second: Any) -> None:
    x = tile("x", int32, 8, 12)
    made = program([A, C], lambda bx: seq(copy(A, x), second(x)))
    assert loops(made) == 2 and "x" in stored(made)
    same_meaning(made, {n: integers(8, 12) for n in "ac"})


def test_one_element_for_many_turns_keeps_loops_apart() -> None:
    x = tile("x", int32, 8)
    made = program(
        [A, C],
        lambda bx: seq(parallel([8, 12], lambda i, j: when(j == 3, store(x, [i], at(A, i, j)))), parallel([8, 12], lambda i, j: store(C, [i, j], at(x, i)))),
    )
    assert loops(made) == 2
    same_meaning(made, {n: integers(8, 12) for n in "ac"})


def test_loops_that_share_nothing_are_not_joined() -> None:
    x, y = tile("x", int32, 8, 12), tile("y", int32, 8, 12)
    made = program([A, B, C], lambda bx: seq(copy(A, x), copy(B, y), serial(8, lambda s: store(C, [s, s], at(x, 0, s) + at(y, s, 0)))))
    assert loops(made) == 2


def test_loops_behind_a_reduction_are_joined_with_each_other_only() -> None:
    x, y = tile("x", int32, 8, 12), tile("y", int32, 8)

    def total(i: Expr) -> Stmt:
        found = reduction(ReduceKind.SUM, 0, 12, lambda r: at(x, i, r), int32)
        return seq(found, store(y, [i], found.result))

    made = program(
        [A, C],
        lambda bx: seq(
            copy(A, x), parallel([8], total), parallel([8], lambda i: store(y, [i], at(y, i) * 2)), parallel([8], lambda i: store(C, [i, 0], at(y, i)))
        ),
    )
    assert loops(made) == 2 and stored(made) == ["y", "y", "c"]
    same_meaning(made, {n: integers(8, 12) for n in "ac"})


@pytest.mark.parametrize("is_read_again", [False, True])
def test_a_tile_filled_for_one_reduction_goes_into_it(is_read_again: bool) -> None:
    x, y = tile("x", int32, 8, 12), tile("y", int32, 8)

    def total(i: Expr) -> Stmt:
        found = reduction(ReduceKind.MAX, at(y, i), 12, lambda r: at(x, i, r), int32)
        return seq(found, store(y, [i], found.result))

    last = parallel([8], lambda i: store(C, [i, 0], at(y, i) + (at(x, i, 0) if is_read_again else 0)))
    made = program(
        [A, B, C],
        lambda bx: seq(
            parallel([8], lambda i: store(y, [i], i)), parallel([8, 12], lambda i, j: store(x, [i, j], at(A, i, j) * at(B, 0, j))), parallel([8], total), last
        ),
    )
    assert ("x" in stored(made)) == is_read_again
    same_meaning(made, {n: integers(8, 12) for n in "abc"})


@pytest.mark.parametrize(
    "fill",
    [
        lambda x, y: parallel([8, 12], lambda i, j: store(x, [i, j], at(A, i, j) + at(y, i))),
        lambda x, y: parallel([8, 11], lambda i, j: store(x, [i, j], at(A, i, j))),
        lambda x, y: parallel([8, 12], lambda i, j: when(j != 2, store(x, [i, j], at(A, i, j)))),
        lambda x, y: parallel([8, 12], lambda i, j: store(x, [7 - i, j], at(A, i, j))),
    ],
)
def test_a_reduction_that_cannot_take_the_loop_in_keeps_the_tile(fill: Any) -> None:
    x, y = tile("x", int32, 8, 12), tile("y", int32, 8)

    def total(i: Expr) -> Stmt:
        found = reduction(ReduceKind.SUM, at(y, i), 12, lambda r: at(x, i, r), int32)
        return seq(store(y, [i], 3), found, store(y, [i], found.result))

    made = program(
        [A, C],
        lambda bx: seq(
            parallel([8, 12], lambda i, j: store(x, [i, j], 1)),
            parallel([8], lambda i: store(y, [i], i)),
            fill(x, y),
            parallel([8], total),
            parallel([8], lambda i: store(C, [i, 0], at(y, i))),
        ),
    )
    assert "x" in stored(made)
    same_meaning(made, {n: integers(8, 12) for n in "ac"})


def test_views_and_pointers_keep_tiles_and_order() -> None:
    x = tile("x", int32, 8, 12)
    flat = Buffer("flat", int32, (96,), Scope.SHARED, x.span, source=x)
    made = program([A, C], lambda bx: seq(copy(A, x), parallel([8, 12], lambda i, j: store(C, [i, j], at(flat, i * 12 + j)))))
    assert loops(made) == 2
    same_meaning(made, {n: integers(8, 12) for n in "ac"})


def test_conditional_stores_are_not_forwarded() -> None:
    x = tile("x", int32, 8, 12)
    made = program(
        [A, C],
        lambda bx: seq(
            copy(A, x),
            parallel([8, 12], lambda i, j: when(at(A, i, j) > 0, store(x, [i, j], i), store(x, [i, j], at(x, i, j) + j))),
            parallel([8, 12], lambda i, j: store(C, [i, j], at(x, i, j))),
        ),
    )
    assert loops(made) == 1
    same_meaning(made, {n: integers(8, 12) for n in "ac"})


class RandomChain:
    """Loops over two boxes and three tiles, most of them at the same element."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tiles = [tile(name, int32, 8, 12) for name in "xyz"]

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def element(self, buffer: Buffer, i: Expr, j: Expr) -> Expr:
        return at(buffer, i, j) if self.rng.random() < 0.85 else self.pick(at(buffer, i, 11 - j), at(buffer, i, 0), at(buffer, 7 - i, j))

    def value(self, i: Expr, j: Expr) -> Expr:
        left = self.element(self.pick(A, B, *self.tiles, *self.tiles), i, j)
        right = self.pick(i, j * 3, self.element(self.pick(A, *self.tiles), i, j))
        return self.pick(left + right, left - right, left, select(left > 0, left, right, is_lazy=True))

    def statement(self, target: Buffer, i: Expr, j: Expr) -> Stmt:
        made = store(target, [i, j], self.value(i, j))
        return made if self.rng.random() < 0.8 else If(made.span, self.pick(j < 5, self.element(A, i, j) > 0), made)

    def loop(self) -> Stmt:
        # Reads of other turns' elements must not meet writes of the same loop: such a loop has no defined meaning.
        while True:
            target = self.pick(C, *self.tiles, *self.tiles)
            made = parallel(self.pick([8, 12], [8, 12], [8, 12], [8, 6]), lambda i, j, target=target: self.statement(target, i, j))
            others = [n for s in statements(made.body) for e in ([s.condition] if isinstance(s, If) else [s.value]) for n in _loads(e) if n.buffer is target]
            if all(x is y for n in others for x, y in zip(n.args, made.variables, strict=True)):
                return made

    def program(self) -> Program:
        return program(
            [A, B, C],
            lambda bx: seq(
                *(parallel([8, 12], lambda i, j, t=t: store(t, [i, j], i - j)) for t in self.tiles),
                *(self.loop() for _ in range(int(self.rng.integers(2, 7)))),
                copy(self.pick(*self.tiles), C),
            ),
        )


def _loads(root: Expr) -> list[Expr]:
    return [n for n in subexpressions(root) if n.op is Op.LOAD]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_random_chains_keep_their_meaning(seed: int) -> None:
    same_meaning(RandomChain(seed).program(), {n: integers(8, 12) for n in "abc"})


def test_symbolic_boxes_are_joined_too() -> None:
    n = var("n")
    a, c, x = tensor("a", int32, n), tensor("c", int32, n), tile("x", int32, 64)
    made = program([a, c], lambda bx: seq(parallel([n], lambda i: store(x, [i], at(a, i))), parallel([n], lambda i: store(c, [i], at(x, i) + 1))))
    assert loops(made) == 1 and stored(made) == ["c"]
    same_meaning(made, {"a": integers(40), "c": integers(40)}, symbols={"n": 40})
