"""erf against the C library."""

from __future__ import annotations

import pytest

from tests.codegen.llvm.math.accuracy import FEATURE_SETS, FLOATS, assert_accurate
from tilewright.target.cpu import Feature


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("features", FEATURE_SETS)
def test_error_is_within_the_declared_bound(features: frozenset[Feature], dtype: str) -> None:
    assert_accurate(["erf"], dtype, features)
