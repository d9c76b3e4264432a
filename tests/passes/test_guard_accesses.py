"""Unproven accesses to global memory are guarded, proven ones stay as they are."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.llvm.lowered import SPAN, Interpreter, at, check, parallel, program, reduction, seq, serial, store, tensor, tile, when
from tilewright.dtypes import float32, int32
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, const, select, var
from tilewright.ir.program import Program
from tilewright.ir.stmt import Assume, AtomicKind, AtomicUpdate, If, ReduceKind, Stmt
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.passes.context import PassContext
from tilewright.passes.guard_accesses import guard_accesses
from tilewright.target.cpu import host_target

RNG = np.random.default_rng(3)


def guarded(made: Program) -> Program:
    return guard_accesses(made, PassContext(host_target()))


def guards(made: Program) -> list[str]:
    """The conditions of all guards, as text."""
    found = []
    for node in statements(guarded(made).launches[0].body):
        if isinstance(node, If):
            found.append(str(node.condition))
        found += [str(inner.args[0]) for e in own_expressions(node) for inner in subexpressions(e) if inner.op is Op.IF_THEN_ELSE]
    return found


class Lenient(Interpreter):
    """Knows the rule itself: a load outside gives the safe value, a store outside does nothing."""

    safe_values: ClassVar[dict[Buffer, int]] = {}

    def load(self, buffer: Buffer, indices: tuple[np.ndarray, ...], mask: np.ndarray) -> np.ndarray:
        try:
            return super().load(buffer, indices, mask)
        except IndexError:
            return np.asarray(buffer.dtype.numpy.type(self.safe_values.get(buffer, 0)))

    def run(self, node: Stmt) -> None:
        try:
            super().run(node)
        except IndexError:
            if isinstance(node, AtomicUpdate) and node.previous is not None:
                self.values[node.previous] = node.buffer.dtype.numpy.type(0)
            elif type(node).__name__ not in ("Store", "AtomicUpdate"):
                raise


def same_meaning(made: Program, tensors: dict[str, np.ndarray], **inputs: Any) -> None:
    expected, actual = ({n: a.copy() for n, a in tensors.items()} for _ in range(2))
    Lenient(made, expected, **inputs)
    Interpreter(guarded(made), actual, **inputs)
    for name in tensors:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
    check(guarded(made), tensors, **inputs)


def integers(*shape: int) -> np.ndarray:
    return RNG.integers(-9, 9, shape).astype(np.int32)


A, B = tensor("a", int32, 100), tensor("b", int32, 100)


@pytest.mark.parametrize(
    "body",
    [
        lambda bx: parallel([100], lambda i: store(A, [i], at(B, 99 - i))),
        lambda bx: parallel([10, 10], lambda i, j: store(A, [i * 10 + j], at(B, j * 10 + i))),
        lambda bx: parallel([50], lambda i: store(A, [i * 2 + 1], at(B, i // 3))),
        lambda bx: serial(100, lambda s: when((s >= 3) & (s < 50), store(A, [s - 3], at(B, s * 2)))),
        lambda bx: parallel([200], lambda i: store(A, [i % 100], select(i < 100, at(B, i), 0, is_lazy=True))),
        lambda bx: parallel([100], lambda i: when(i > 0, store(A, [i - 1], 1), store(A, [i], at(B, i + 5)))),
    ],
)
def test_proven_accesses_stay_as_they_are(body: Any) -> None:
    made = program([A, B], body)
    assert guarded(made).launches[0].body is made.launches[0].body or guards(made) == guards_written(made)


def guards_written(made: Program) -> list[str]:
    found = []
    for node in statements(made.launches[0].body):
        if isinstance(node, If):
            found.append(str(node.condition))
        found += [str(inner.args[0]) for e in own_expressions(node) for inner in subexpressions(e) if inner.op is Op.IF_THEN_ELSE]
    return found


def test_only_the_open_sides_are_tested() -> None:
    assert guards(program([A], lambda bx: parallel([128], lambda i: store(A, [i], 1)))) == ["i < 100"]
    assert guards(program([A], lambda bx: parallel([100], lambda i: store(A, [i - 5], 1)))) == ["i - 5 >= 0"]
    c = tensor("c", int32, 64, 70)
    assert guards(program([c], lambda bx: parallel([64, 128], lambda i, j: store(c, [i, j], 1)))) == ["j < 70"]


def test_grids_symbols_and_assumptions_are_facts() -> None:
    n = var("n")
    x, y = tensor("x", float32, n), tensor("y", float32, n)
    made = program([x, y], lambda bx: parallel([64], lambda i: store(x, [bx * 64 + i], at(y, bx * 64 + i))), [(n + 63) // 64])
    assert set(guards(made)) == {"bx * 64 + i < n"}
    promised = program([x, y], lambda bx: seq(Assume(SPAN, n % 64 == 0), parallel([64], lambda i: store(x, [bx * 64 + i], at(y, bx * 64 + i)))), [n // 64])
    assert guards(promised) == []


def test_tiles_are_never_guarded() -> None:
    t, k = tile("t", int32, 10), var("k")
    assert guards(program([A, k], lambda bx: seq(store(t, [k], 1), store(A, [0], at(t, k + 1))))) == []


@pytest.mark.parametrize("extent", [1, 64, 100, 129])
def test_loads_give_the_safe_value_and_stores_are_skipped(extent: int) -> None:
    n = var("n")
    x, y, z = tensor("x", int32, n), tensor("y", int32, n), tensor("z", int32, 70)
    made = program(
        [x, y, z],
        lambda bx: parallel([64], lambda i: seq(store(x, [bx * 64 + i], at(y, bx * 64 + i - 3) + at(z, i + bx * 10)), store(z, [i * 2 - 20], at(y, i + 1)))),
        [2],
    )
    tensors = {"x": integers(extent), "y": integers(extent), "z": integers(70)}
    # The second store and the loads of z meet in different turns: run the first statement alone as well.
    first = program([x, y, z], lambda bx: parallel([64], lambda i: store(x, [bx * 64 + i], at(y, bx * 64 + i - 3) + at(z, i + bx * 10))), [2])
    same_meaning(first, tensors, symbols={"n": extent})
    assert guards(made)


def test_safe_values_are_taken_from_the_launch() -> None:
    made = program([A, B], lambda bx: parallel([100], lambda i: store(A, [i], at(B, i + 40))))
    made = dataclasses.replace(made, launches=(dataclasses.replace(made.launches[0], safe_values=((B, const(77, int32)),)),))
    Lenient.safe_values = {B: 77}
    try:
        same_meaning(made, {"a": integers(100), "b": integers(100)})
    finally:
        Lenient.safe_values = {}


def test_indices_from_memory_are_guarded_and_so_are_the_loads_of_indices() -> None:
    index = tensor("index", int32, 50)
    made = program([A, B, index], lambda bx: parallel([64], lambda i: store(B, [i], at(A, at(index, i)))))
    same_meaning(made, {"a": integers(100), "b": integers(100), "index": RNG.integers(-50, 150, 50).astype(np.int32)})


def test_guards_in_reductions_loops_and_conditions() -> None:
    def body(bx: Expr) -> Stmt:
        total = reduction(ReduceKind.SUM, 0, 64, lambda r: at(A, bx * 64 + r), int32)
        return seq(total, store(B, [bx], total.result), serial(70, lambda s: when(at(A, s + 60) > 0, store(B, [s + 40], at(A, s)))))

    same_meaning(program([A, B], body, [2]), {"a": integers(100), "b": integers(100)})


def test_a_skipped_atomic_gives_the_safe_value() -> None:
    before = var("before", int32)

    def body(bx: Expr) -> Stmt:
        return serial(
            120, lambda s: seq(AtomicUpdate(SPAN, AtomicKind.ADD, A, (s,), const(1, int32), previous=before), when(s >= 60, store(B, [s - 60], before)))
        )

    same_meaning(program([A, B], body), {"a": integers(100), "b": integers(100)})


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(-20, 120), st.integers(-3, 3), st.integers(1, 130), st.integers(1, 3))
def test_any_affine_access_stays_inside(extent: int, shift: int, step: int, turns: int, blocks: int) -> None:
    x, y = tensor("x", int32, extent), tensor("y", int32, 400)
    made = program([x, y], lambda bx: parallel([turns], lambda i: store(y, [i * blocks + bx], at(x, i * step + shift - bx * 7))), [blocks])
    same_meaning(made, {"x": integers(extent), "y": integers(400)})


def test_variables_of_guarded_atomics_join_the_launch() -> None:
    before = var("before", int32)
    made = guarded(program([A], lambda bx: serial(120, lambda s: AtomicUpdate(SPAN, AtomicKind.ADD, A, (s,), const(1, int32), previous=before))))
    assert [b.scope for b in made.launches[0].buffers] == [Scope.VARIABLE]
