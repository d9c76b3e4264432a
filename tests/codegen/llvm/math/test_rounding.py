"""Rounding to integers against numpy, exactly."""

from __future__ import annotations

import numpy as np
import pytest

from tests.codegen.llvm.elementwise import Elementwise
from tests.codegen.llvm.math.accuracy import FEATURE_SETS, FLOATS, add_intrinsic, assert_accurate
from tilewright.dtypes import as_dtype
from tilewright.target.cpu import Feature


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("features", FEATURE_SETS)
def test_error_is_within_the_declared_bound(features: frozenset[Feature], dtype: str) -> None:
    assert_accurate(["floor", "ceil", "trunc", "round", "nearbyint"], dtype, features)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("features", FEATURE_SETS)
def test_round_away_takes_ties_outward(features: frozenset[Feature], dtype: str) -> None:
    assert_accurate(["round_away"], dtype, features)
    ties = np.array([0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997], dtype)
    kernels = Elementwise()
    add_intrinsic(kernels, "round_away", [as_dtype(dtype)], features, 2)
    kernels.compile()
    assert kernels("round_away", ties, output=ties.dtype).tolist() == [1, -1, 2, 3, -3, 0]
