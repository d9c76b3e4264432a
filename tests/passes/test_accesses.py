"""What loop bodies touch."""

from __future__ import annotations

import pytest

from tests.codegen.llvm.lowered import at, parallel, seq, store, tensor, tile
from tilewright.dtypes import int32
from tilewright.ir.expr import Expr, var
from tilewright.passes.accesses import Accesses, flat, is_element_by_element, is_injective

A, X = tensor("a", int32, 8, 12), tile("x", int32, 8, 12)
I, J, K = var("i"), var("j"), var("k")


def test_nested_sequences_are_one_list() -> None:
    parts = [store(X, [n, 0], 1) for n in range(4)]
    assert flat(seq(parts[0], seq(seq(parts[1]), parts[2]), parts[3])) == parts
    assert flat(parts[0]) == parts[:1]


def test_accesses_tell_reads_from_writes() -> None:
    found = Accesses(parallel([8, 12], lambda i, j: store(X, [i, j], at(A, i, j) + at(A, i, 0))))
    assert list(found.written) == [X] and list(found.read) == [A]
    assert len(found.elements[A]) == 2 and len(found.elements[X]) == 1


@pytest.mark.parametrize(
    ("indices", "expected"),
    [((I, J), True), ((J, I), True), ((I, J + 3), True), ((I + K, J), True), ((I, I), False), ((I + J, J), False), ((I, J * 2), False), ((I, 0), False)],
)
def test_injective_places_have_a_variable_each(indices: tuple[Expr, ...], expected: bool) -> None:
    assert is_injective(at(A, *indices).args, (I, J)) is expected


def test_bodies_meet_element_by_element_at_one_place_only() -> None:
    writes = Accesses(store(X, [I, J], at(A, I, J)))
    same, other = Accesses(store(A, [I, J], at(X, I, J))), Accesses(store(A, [I, J], at(X, I, J + 1)))
    assert is_element_by_element(X, writes, same, (I, J)) and not is_element_by_element(X, writes, other, (I, J))
    assert is_element_by_element(A, writes, same, (I, J))
