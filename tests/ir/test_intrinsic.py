"""Descriptions of functions that an expression can call."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.intrin.math import MATH
from tilewright.ir.intrinsic import Intrinsic


def test_an_intrinsic_is_compared_by_identity() -> None:
    first, second = (Intrinsic("f", 1, lambda kinds: kinds[0], np.negative) for _ in range(2))
    assert first != second and first == first and first.is_pure and first.ulp == 0.0 and repr(first) == "intrinsic f"


@pytest.mark.parametrize("name", sorted(MATH))
def test_the_catalogue_is_keyed_by_the_printed_name(name: str) -> None:
    found = MATH[name]
    assert found.name == name and found.arity >= 1 and found.ulp >= 0
    kinds = (dtypes.int32 if name in ("popcount", "clz") else dtypes.float32,) * found.arity
    values = [np.ones(3, k.numpy) if k is kinds[0] else np.ones(3, np.int32) for k in kinds]
    if name == "ldexp":
        values[1] = np.ones(3, np.int32)
        kinds = (dtypes.float32, dtypes.int32)
    assert np.asarray(found.meaning(*values)).astype(found.result(kinds).numpy).shape == (3,)
