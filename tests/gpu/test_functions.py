"""Mathematical functions on hardware: errors in units of the last place, against the definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.codegen.cuda.test_expressions import outputs, same, samples
from tests.codegen.cuda.test_math import call_of, distance
from tests.codegen.cuda.thread_programs import BLOCK, at, tensor
from tests.gpu.device import device_targets, needs_gpu, run_on_gpu
from tilewright.dtypes import DType, as_dtype
from tilewright.intrin.math import MATH

pytestmark = needs_gpu


def arguments(dtype: DType, seed: int) -> Any:
    """All values of 16-bit dtypes; else many of each magnitude."""
    random = np.random.default_rng(seed)
    if dtype.bits == 16:
        values = np.arange(1 << 16, dtype=np.uint16).view(dtype.numpy)
        return values if seed == 0 else random.permutation(values)
    with np.errstate(all="ignore"):
        ranges = [random.normal(0, scale, 4000) for scale in (1e-3, 0.3, 1.0, 4.0, 30.0, 100.0, 1e4)]
        logarithmic = np.exp2(random.uniform(-140, 120, 4000)) * random.choice([-1, 1], 4000)
        return np.concatenate([samples(dtype, seed), *(r.astype(dtype.numpy) for r in (*ranges, logarithmic))])


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", sorted(n for n in MATH if n not in ("popcount", "clz")))
def test_errors_are_within_the_bound(name: str, dtype: str) -> None:
    kind, intrinsic = as_dtype(dtype), MATH[name]
    count = 3000 if "fma" in name or name.endswith(("_rz", "_ru", "_rd")) else None  # whose definitions are slow
    given = [arguments(kind, seed)[:count] for seed in range(3)]
    tensors = [tensor(n, kind, len(given[0])) for n in "abc"]
    result = call_of(intrinsic, [at(t, BLOCK) for t in tensors])
    if result is None:
        pytest.skip(f"T.{name} does not take {dtype}")
    ((found, expected),) = outputs(list(zip(tensors, given, strict=True)), [result], run_on_gpu, device_targets()[0])
    if name == "copysign":  # hardware does not keep the sign of a float16 that is NaN
        is_number = ~np.isnan(given[1].astype(np.float64))
        found, expected = found[is_number], expected[is_number]
    if intrinsic.ulp == 0:
        same(found, expected, result.dtype, name)
        return
    bound = intrinsic.ulp * (2 if kind.bits == 64 else 1) if kind.bits >= 32 else 1
    errors = distance(found, expected, kind)
    worst = int(np.nanargmax(errors))
    assert errors[worst] <= bound, f"{name}({given[0][worst]!r}, {given[1][worst]!r}) is {found[worst]!r}, not {expected[worst]!r}: {errors[worst]} units"
    assert not np.isnan(errors).any()
