"""The operations of expressions are told apart by how they print, and grouped."""

from __future__ import annotations

from tilewright.ir.operation import COMPARISONS, LOGICAL, Op, Rounding


def test_every_operation_prints_as_itself() -> None:
    assert len({op.value for op in Op}) == len(Op)


def test_groups() -> None:
    assert {op.value for op in COMPARISONS} == {"==", "!=", "<", "<=", ">", ">="}
    assert {op.value for op in LOGICAL} == {"and", "or", "not"}
    assert not COMPARISONS & LOGICAL


def test_rounding_modes_by_the_names_of_the_language() -> None:
    assert [Rounding(name) for name in ("rn", "rz", "ru", "rd")] == list(Rounding)
