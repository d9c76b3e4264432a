"""Fragments on hardware: layouts that change within warps."""

from __future__ import annotations

import random

import numpy as np
import pytest

import tilewright
from tests.gpu.device import needs_gpu
from tests.ops.test_relayout import by_columns, by_rows, copied, of_element, random_fragment

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
