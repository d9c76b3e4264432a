"""Products whose sums are float16, and float32 products rounded to tf32, on hardware."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
from tests.gpu.device import needs_gpu
from tests.ops.gemm.test_whole_programs import with_accumulator
from tilewright.intrin.nvidia.convert import nearest_tf32

torch = pytest.importorskip("torch")
pytestmark = needs_gpu


def operands(dtype: Any, *, are_integers: bool = False) -> Any:
    rng = np.random.default_rng(0)
    make = (lambda shape: rng.integers(-4, 5, shape)) if are_integers else rng.standard_normal
    return make((64, 96)).astype(dtype), make((96, 64)).astype(dtype)


def product_on_gpu(kernel: Any, a: Any, b: Any) -> Any:
    c = torch.zeros(64, 64, dtype=torch.from_numpy(a).dtype, device="cuda")
    kernel(torch.from_numpy(a).cuda(), torch.from_numpy(b).cuda(), c)
    return c.cpu().numpy()


def test_float16_accumulators_stay_float16() -> None:
    kernel = tilewright.compile(with_accumulator("float16", "float16"), target="cuda")
    assert "row.col.f16.f16.f16.f16" in kernel.source
    a, b = operands(np.float16, are_integers=True)
    np.testing.assert_array_equal(product_on_gpu(kernel, a, b), a.astype(np.float64) @ b)
    a, b = operands(np.float16)
    exact, largest = a.astype(np.float64) @ b, (abs(a.astype(np.float64)) @ abs(b.astype(np.float64))).max()
    assert abs(product_on_gpu(kernel, a, b) - exact).max() <= 2 * 96 * 2.0**-11 * largest


def test_float32_products_go_through_tf32_where_the_caller_allows_it() -> None:
    a, b = operands(np.float32)
    exact = tilewright.compile(with_accumulator("float32", "float32"), target="cuda")
    np.testing.assert_allclose(product_on_gpu(exact, a, b), a.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)
    rounded = tilewright.compile(with_accumulator("float32", "float32"), target="cuda", pass_configs={tilewright.PassConfigKey.TL_FLOAT32_AS_TF32: True})
    found = product_on_gpu(rounded, a, b)
    np.testing.assert_allclose(found, nearest_tf32(a).astype(np.float64) @ nearest_tf32(b), rtol=1e-4, atol=1e-4)
    assert abs(found - a.astype(np.float64) @ b).max() > 1e-4
