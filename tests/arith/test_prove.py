"""Proofs: sound on random claims, and strong enough for the claims that kernels need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.arith.bounds import Facts
from tilewright.arith.prove import Answer, are_disjoint, decide, fits_in, is_at_most, is_divisible, is_equal, is_less, is_within, prove
from tilewright.ir import expr as ir
from tilewright.ir.expr import Op, ceildiv, minimum, var

bx, by, i, j, k, ko, n, m, x, a, block = (var(name) for name in ("bx", "by", "i", "j", "k", "ko", "n", "m", "x", "a", "block"))


def test_answers_are_true_at_every_point(generator: Any) -> None:
    answers = dict.fromkeys(Answer, 0)
    for seed in range(700):
        made = generator(seed)
        facts, points = made.domain.facts, made.domain.points()
        taken = np.ones(1, np.bool_)
        if seed % 2:
            guard = made.condition(1)
            facts, taken = facts.assuming(guard, has_stable_loads=True), made.domain.evaluate(guard, points)
        claim = made.condition(2)
        truth = made.domain.evaluate(claim, points) | ~taken
        proof = prove(claim, facts, wants_counterexample=True)
        answers[proof.answer] += 1
        assert not (proof.is_proved and not truth.all()), (seed, str(claim))
        assert not (proof.is_refuted and truth.all()), (seed, str(claim))
        if decide(claim, facts) is False:
            assert not (made.domain.evaluate(claim, points) & taken).any(), (seed, str(claim))
    assert answers[Answer.PROVED] > 150 and answers[Answer.REFUTED] > 200


def test_tiles_that_divide_the_extent_are_inside() -> None:
    facts = Facts().with_box((by, i), (4096 // 128, 128))
    assert is_within(by * 128 + i, 0, 4096, facts).is_proved
    assert is_less(ko * 32 + k, 4096, Facts().with_box((ko, k), (ceildiv(4096, 32), 32))).is_proved


def test_tiles_that_do_not_divide_the_extent_are_refuted_with_the_first_element_outside() -> None:
    facts = Facts().with_box((by, i), (ceildiv(100, 32), 32))
    proof = is_less(by * 32 + i, 100, facts, wants_counterexample=True)
    assert proof.is_refuted and proof.counterexample is not None
    assert proof.counterexample[by] * 32 + proof.counterexample[i] >= 100
    assert is_less(by * 32 + i, 100, facts).answer is Answer.UNKNOWN


@pytest.mark.parametrize("grid", [n // 32, ceildiv(n, 32), (n + 31) // 32])
def test_symbolic_extents_that_a_tile_divides(grid: ir.Expr) -> None:
    facts = Facts().with_box((bx, i), (grid, 32)).assuming(n % 32 == 0)
    assert is_within(bx * 32 + i, 0, n, facts).is_proved


def test_whole_tiles_of_a_symbolic_extent_need_no_divisibility() -> None:
    assert is_less(bx * 32 + i, n, Facts().with_box((bx, i), (n // 32, 32))).is_proved
    assert not is_less(bx * 32 + i, n, Facts().with_box((bx, i), (ceildiv(n, 32), 32))).is_proved


def test_a_tail_cut_by_a_minimum_is_inside() -> None:
    facts = Facts().with_loop(i, minimum(a, n - x * a))
    assert is_less(x * a + i, n, facts).is_proved


def test_guards_in_scope_prove_what_they_say_and_what_follows() -> None:
    facts = Facts().with_box((bx, i), (ceildiv(n, 32), 32)).assuming(bx * 32 + i < n)
    assert is_less(bx * 32 + i, n, facts).is_proved
    assert is_at_most(bx * 32, n - 1, facts).is_proved
    assert is_less((bx * 32 + i) // 4, (n + 3) // 4, facts).is_proved
    assert not is_less(bx * 32 + i + 1, n, facts).is_proved


def test_a_tile_index_split_by_a_symbolic_count_stays_in_the_grid() -> None:
    columns = ceildiv(m, 64)
    facts = Facts().with_range(n, 1, 65536).with_range(m, 1, 65536).with_loop(x, ceildiv(n, 128) * columns)
    assert is_less(x // columns, ceildiv(n, 128), facts).is_proved
    assert is_within(x % columns, 0, columns, facts).is_proved


def test_a_symbolic_block_size() -> None:
    facts = Facts().with_range(n, 1, 65536).with_range(block, 1, 128).with_box((bx, i), (n // block, block))
    assert is_less(bx * block + i, n, facts).is_proved


def test_triangular_loops() -> None:
    facts = Facts().with_loop(j, n).with_loop(i, j + 1)
    assert is_less(i, n, facts).is_proved
    assert is_at_most(i, j, facts).is_proved


def test_equalities() -> None:
    facts = Facts().with_box((bx, i), (32, 64))
    assert is_equal((bx * 64 + i) // 64, bx, facts).is_proved
    assert is_equal((bx * 64 + i) % 64, i, facts).is_proved
    assert is_equal(ceildiv(n, 8) * 8, n, Facts().assuming(n % 8 == 0)).is_proved
    assert is_equal(bx, i, facts, wants_counterexample=True).is_refuted
    assert is_equal(n, m, Facts()).answer is Answer.UNKNOWN
    assert is_equal(x - n * 4, 1, Facts().with_definition(x, n * 4 + 1)).is_proved


def test_divisibility() -> None:
    assert is_divisible(bx * 64 + i * 8, 8, Facts()).is_proved
    assert is_divisible(n * bx, 8, Facts().assuming(n % 8 == 0)).is_proved
    assert is_divisible((n // 4 * 4 + 4) * 2, 8, Facts()).is_proved
    proof = is_divisible(n * bx + 4, 8, Facts().assuming(n % 8 == 0), wants_counterexample=True)
    assert proof.is_refuted


def test_boxes() -> None:
    facts = Facts().with_range(n, 1, 100)
    assert are_disjoint([(ko * 64, 64)], [(ko * 64 + 64, 64)], facts).is_proved
    assert are_disjoint([(bx, 8), (0, 32)], [(bx, 8), (32, 32)], facts).is_proved
    assert are_disjoint([(bx, 0)], [(bx, 8)], facts).is_proved
    assert are_disjoint([(0, n)], [(n, m)], facts).is_proved
    assert are_disjoint([(ko * 64, 64)], [(ko * 64 + 63, 64)], facts, wants_counterexample=True).is_refuted
    assert are_disjoint([(ko * 64, 64)], [(bx * 64, 64)], facts).answer is Answer.UNKNOWN


def test_boxes_of_different_blocks_are_disjoint() -> None:
    facts = Facts().with_box((bx, by), (32, 32)).assuming(bx != by)
    assert are_disjoint([(bx * 64, 64)], [(by * 64, 64)], facts).is_proved


def test_mixed_widths_prove_the_same() -> None:
    wide = ir.cast(bx, dtypes.int64) * 128 + ir.cast(i, dtypes.int64)
    facts = Facts().with_range(n, 0, 1 << 30).with_box((bx, i), (n // 128, 128))
    assert is_less(wide, ir.cast(n, dtypes.int64), facts).is_proved


def test_indices_from_memory_are_inside_what_their_dtype_allows(generator: Any) -> None:
    index = ir.cast(var("octet", dtypes.uint8), dtypes.int32)
    assert is_within(index, 0, 256, Facts()).is_proved
    assert not is_within(index, 0, 255, Facts()).is_proved


def test_disjunctions() -> None:
    facts = Facts().with_range(x, 0, 10)
    assert prove((x < 5) | (x >= 5), facts).is_proved
    assert prove(ir.logical(Op.OR, x < 3, ir.logical(Op.AND, x >= 3, x < 11)), facts).is_proved
    assert not prove((x < 5) | (x > 5), facts).is_proved


def test_anything_holds_where_facts_exclude_each_other() -> None:
    assert is_less(n, m, Facts().assuming((x > 3) & (x < 2))).is_proved


def test_a_proof_is_no_truth_value() -> None:
    with pytest.raises(TypeError, match="three answers"):
        bool(is_less(i, j, Facts()))


def test_offsets_fit_in_32_bits_only_if_every_step_does() -> None:
    facts = Facts().with_box((i, j), (1 << 15, 1 << 15))
    assert fits_in(i * 32768 + j, 32, facts)
    assert not fits_in(i * 131072 + j, 32, facts)
    assert not fits_in(i * 131072 % 8, 32, facts)
    assert fits_in(i * 131072 + j, 64, facts)
