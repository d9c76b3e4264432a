"""Identifiers: legal, unique, and never taken."""

from __future__ import annotations

from tilewright.codegen.cfamily.names import Names, identifier


def test_names_are_made_legal() -> None:
    assert [identifier(t) for t in ("acc", "2x", "a b", "größe", "__x__", "", "tw_nibble")] == ["acc", "v_2x", "a_b", "gr_e", "x", "v_", "v_tw_nibble"]


def test_names_are_unique_and_not_reserved() -> None:
    names = Names(frozenset({"threadIdx"}))
    assert [names.fresh("i"), names.fresh("i"), names.fresh("i_1"), names.fresh("i")] == ["i", "i_1", "i_1_1", "i_2"]
    assert names.fresh("for") == "for_1" and names.fresh("threadIdx") == "threadIdx_1"
