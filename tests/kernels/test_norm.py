"""The normalisations that ship, against float64; LayerNorm also where the mean is far larger than the spread."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.kernels.norm import layer_norm, layer_norm_reference, rms_norm, rms_norm_reference

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 100), (8, 256), (5, 1023)])
def test_both(rows: int, columns: int) -> None:
    x, w, b = normal(rows, columns), normal(columns), normal(columns)
    np.testing.assert_allclose(rms_norm(columns)(x, w), rms_norm_reference(x, w), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer_norm(columns)(x, w, b), layer_norm_reference(x, w, b), rtol=1e-5, atol=1e-5)


def test_layer_norm_takes_the_mean_off_before_squaring() -> None:
    x, ones, zeros = normal(4, 512) + np.float32(1000), np.ones(512, np.float32), np.zeros(512, np.float32)
    np.testing.assert_allclose(layer_norm(512)(x, ones, zeros), layer_norm_reference(x, ones, zeros), atol=1e-3)


def test_epsilon_keeps_rows_of_zeros_finite() -> None:
    zeros = np.zeros((2, 64), np.float32)
    assert not rms_norm(64)(zeros, zeros[0]).any() and not layer_norm(64)(zeros, zeros[0], zeros[0]).any()


def test_the_references_on_two_elements() -> None:
    np.testing.assert_allclose(rms_norm_reference([[3.0, 4.0]], [1.0, 2.0], 0.0), [[3 / np.sqrt(12.5), 8 / np.sqrt(12.5)]], rtol=1e-15)
    np.testing.assert_allclose(layer_norm_reference([[1.0, 3.0]], [2.0, 2.0], [1.0, 0.0], 0.0), [[-1.0, 2.0]], rtol=1e-15)
