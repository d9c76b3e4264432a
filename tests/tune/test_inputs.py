"""Inputs supplied around a search."""

from __future__ import annotations

import pytest

from tilewright.tune.inputs import get_autotune_inputs, set_autotune_inputs


def test_inside_and_outside() -> None:
    assert get_autotune_inputs() is None
    with set_autotune_inputs(1, 2):
        assert get_autotune_inputs() == (1, 2)
        with set_autotune_inputs([3]):
            assert get_autotune_inputs() == (3,)
        assert get_autotune_inputs() == (1, 2)
    assert get_autotune_inputs() is None


def test_an_error_inside_takes_them_away() -> None:
    with pytest.raises(ZeroDivisionError), set_autotune_inputs(1):
        raise ZeroDivisionError
    assert get_autotune_inputs() is None
