"""The GEMM that ships: against float64 for awkward sizes, every activation and narrow dtypes; its reference against math."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from tilewright.kernels.gemm import Activation, gemm, reference

RNG = np.random.default_rng(0)


def operands(m: int, n: int, k: int, dtype: object = np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(RNG.standard_normal(shape).astype(np.float32).astype(dtype) for shape in ((m, k), (k, n), (n,)))


def sum_bound(a: np.ndarray, b: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """What a float32 sum of the products may be off by, in any order: (k + 1) roundings of the sum of magnitudes (Higham, Accuracy and Stability, 3.1)."""
    magnitudes = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64) + np.abs(bias).astype(np.float64)
    return (a.shape[1] + 1) * 2.0**-24 * magnitudes


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (128, 256, 64), (129, 257, 65), (7, 500, 300), (200, 3, 1)])
@pytest.mark.parametrize("activation", [Activation.NONE, Activation.RELU])
def test_odd_sizes(m: int, n: int, k: int, activation: Activation) -> None:
    a, b, bias = operands(m, n, k)
    found = gemm(m, n, k, activation)(a, b, bias)
    assert found.dtype == np.float32
    assert np.all(np.abs(found - reference(a, b, bias, activation)) <= sum_bound(a, b, bias))


@pytest.mark.parametrize("activation", list(Activation))
def test_activations(activation: Activation) -> None:
    a, b, bias = operands(60, 70, 80)
    np.testing.assert_allclose(gemm(60, 70, 80, activation)(a, b, bias), reference(a, b, bias, activation), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_dtypes_are_summed_in_float32(dtype: type) -> None:
    a, b, bias = operands(33, 40, 600, dtype)
    found = gemm(33, 40, 600, dtype=np.dtype(dtype).name)(a, b, bias)
    assert found.dtype == dtype
    expected = reference(a, b, bias)
    rounding = float(ml_dtypes.finfo(dtype).eps) / 2
    assert np.all(np.abs(found.astype(np.float64) - expected) <= rounding * np.abs(expected) * 1.01 + sum_bound(a, b, bias))


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (Activation.NONE, -1.5),
        (Activation.RELU, 0.0),
        (Activation.GELU, -1.5 * 0.5 * (1 + math.erf(-1.5 / math.sqrt(2)))),
        (Activation.SILU, -1.5 / (1 + math.exp(1.5))),
    ],
)
def test_the_reference_on_one_element(activation: Activation, expected: float) -> None:
    assert reference(np.array([[-2.0]]), np.array([[1.0]]), np.array([0.5]), activation)[0, 0] == pytest.approx(expected, rel=1e-15)
