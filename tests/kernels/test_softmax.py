"""The softmax that ships: against float64, for one row and for widths that no vector divides; large values don't overflow."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.kernels.softmax import reference, softmax

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 1000), (5, 33), (64, 128), (9, 7)])
def test_any_number_of_rows(rows: int, columns: int) -> None:
    x = RNG.standard_normal((rows, columns), np.float32)
    np.testing.assert_allclose(softmax(columns)(x), reference(x), rtol=1e-5)


def test_large_values_and_minus_infinity() -> None:
    x = np.array([[1e30, 1e30, -np.inf, 0], [-1e30, -1e30, -1e30, -np.inf]], np.float32)
    assert softmax(4)(x).tolist() == [[0.5, 0.5, 0, 0], [np.float32(1 / 3)] * 3 + [0]]


def test_half_precision_in_and_out() -> None:
    x = RNG.standard_normal((6, 50), np.float32).astype(np.float16)
    found = softmax(50, "float16")(x)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.astype(np.float64), reference(x), rtol=2.0**-10, atol=2.0**-24)


def test_the_reference_on_two_elements() -> None:
    np.testing.assert_allclose(reference(np.array([[0.0, np.log(3)]])), [[0.25, 0.75]], rtol=1e-15)
