"""Reductions over the threads of a block on hardware, in blocks of even and odd sizes."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright
from tests.gpu.device import needs_gpu
from tests.passes.test_lower_block_reduce import OPERATIONS, anywhere

torch = pytest.importorskip("torch")
pytestmark = needs_gpu


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1, 2)])
@pytest.mark.parametrize("threads", [(16, 4, 1), (8, 2, 8), (64, 2, 2), (3, 5, 2), (32, 3, 2), (100, 1, 1), (20, 1, 1)])
@pytest.mark.parametrize("operation, dtype", [("sum", "float16"), ("max", "float32"), ("xor", "int64"), ("and", "int32")])
def test_groups_of_any_shape(operation: str, dtype: str, threads: tuple[int, int, int], axes: tuple[int, ...]) -> None:
    kernel = anywhere(threads, axes, dtype, *OPERATIONS[operation])
    a = np.random.default_rng(0).integers(-9, 9, threads[::-1]).astype(dtype)
    expected = tilewright.run_reference(kernel.program, {"A": a.copy(), "Y": np.zeros_like(a)})["Y"]
    given = torch.from_numpy(a).cuda()
    found = torch.zeros_like(given)
    tilewright.compile(kernel, target="cuda")(given, found)
    np.testing.assert_array_equal(found.cpu().numpy(), expected)
