"""Fragments on hardware: layouts that change within warps, scans."""

from __future__ import annotations

import random

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.gpu.device import needs_gpu
from tests.ops.test_relayout import by_columns, by_rows, copied, of_element, random_fragment
from tests.ops.test_scan import on_gpu, plain, scanning

torch = pytest.importorskip("torch")
pytestmark = needs_gpu


@pytest.mark.parametrize("threads", [32, 48, 128])
@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "float32", "float64", "int64"])
def test_shuffles_move_every_dtype(dtype: str, threads: int) -> None:
    a = torch.from_numpy((np.arange(128).reshape(8, 16) % (2 if dtype == "bool" else 120)).astype(dtype)).cuda()
    b = torch.zeros_like(a)
    tilewright.compile(copied((8, 16), dtype, threads, by_rows, by_columns), target="cuda")(a, b)
    assert torch.equal(a, b)


@pytest.mark.parametrize("seed", range(12))
def test_random_layouts_of_a_warp(seed: int) -> None:
    rng = random.Random(seed)
    shape = rng.choice(((8, 16), (32, 8), (4, 64), (16, 16)))
    dtype = rng.choice(("int8", "float16", "float32"))
    source, destination = (of_element(random_fragment(rng, shape)) for _ in range(2))
    a = torch.from_numpy(np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)).cuda()
    b = torch.zeros_like(a)
    tilewright.compile(copied(shape, dtype, 64, source, destination), target="cuda")(a, b)
    assert torch.equal(a, b)


@pytest.mark.parametrize("place", ["fragment", "shared"])
@pytest.mark.parametrize("threads", [32, 48, 96, 128])
@pytest.mark.parametrize("shape", [(77,), (1000,), (4, 512), (64, 32), (7, 229), (2, 3, 40), (128, 6)])
def test_scans(shape: tuple[int, ...], threads: int, place: str) -> None:
    a = np.random.default_rng(threads).integers(-4, 5, shape)
    for dim, (operation, dtype) in zip(range(-1, len(shape) - 1), ((T.cumsum, "int32"), (T.cummax, "float32"), (T.cumsum, "float16")), strict=False):
        for reverse in (False, True):
            given = torch.from_numpy(a.astype(dtype)).cuda()
            found = torch.zeros_like(given)
            tilewright.compile(on_gpu(shape, dtype, dtype, threads, scanning(operation, dim=dim, reverse=reverse), place), target="cuda")(given, found)
            np.testing.assert_array_equal(found.cpu().numpy(), plain(operation, a, dim, reverse).astype(dtype))


def test_a_scan_of_floats_gives_the_same_bits_each_time() -> None:
    kernel = tilewright.compile(on_gpu((8, 256), "float32", "float32", 128, scanning(T.cumsum, dim=1), "fragment"), target="cuda")
    a = torch.randn(8, 256, device="cuda")
    results = []
    for _ in range(100):
        results.append(torch.zeros_like(a))
        kernel(a, results[-1])
    assert all(torch.equal(results[0], r) for r in results)
    torch.testing.assert_close(results[0], a.double().cumsum(1).float(), rtol=1e-5, atol=1e-5)
