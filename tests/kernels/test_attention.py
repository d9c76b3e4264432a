"""The flash attention that ships, against the whole matrix of scores in float64."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.kernels.attention import flash_attention, reference

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("batch", "heads", "length_q", "length_k", "width"), [(1, 1, 1, 1, 16), (2, 3, 64, 128, 32), (1, 2, 65, 129, 24), (1, 1, 1, 300, 64)])
def test_ragged_lengths(batch: int, heads: int, length_q: int, length_k: int, width: int, is_causal: bool) -> None:
    q, k, v = normal(batch, length_q, heads, width), normal(batch, length_k, heads, width), normal(batch, length_k, heads, width)
    found = flash_attention(batch, heads, length_q, length_k, width, is_causal)(q, k, v)
    np.testing.assert_allclose(found, reference(q, k, v, is_causal), rtol=1e-4, atol=2e-5)


def test_half_precision() -> None:
    q, k, v = (normal(1, 70, 2, 32).astype(np.float16) for _ in range(3))
    np.testing.assert_allclose(flash_attention(1, 2, 70, 70, 32, dtype="float16")(q, k, v).astype(np.float64), reference(q, k, v), atol=2e-3)


def test_a_causal_query_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="6 queries and 5 keys"):
        flash_attention(1, 1, 6, 5, 16, True)


def test_the_reference_sees_only_earlier_keys() -> None:
    """With equal scores a causal result is the mean of the values seen so far: the last query sees all."""
    zeros, v = np.zeros((1, 3, 1, 2)), np.arange(6.0).reshape(1, 3, 1, 2)
    np.testing.assert_allclose(reference(zeros, zeros, v, True)[0, :, 0], [[0, 1], [1, 2], [2, 3]], rtol=1e-15)
    np.testing.assert_allclose(reference(zeros[:, :1], zeros, v, True)[0, :, 0], [[2, 3]], rtol=1e-15)
