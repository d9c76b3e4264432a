"""Directed rounding against exact rational arithmetic, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.codegen.llvm.elementwise import Elementwise
from tests.codegen.llvm.math.accuracy import FEATURE_SETS, FLOATS, add_intrinsic, two_arguments
from tilewright.dtypes import as_dtype
from tilewright.errors import TileNotImplementedError
from tilewright.intrin.ieee import IEEE, IEEE_PARTS, IeeeOperation
from tilewright.target.cpu import Feature


def operands(dtype: str, count: int) -> tuple[np.ndarray, ...]:
    x, y = two_arguments(dtype)
    random = np.random.default_rng(9)
    chosen = np.concatenate([np.arange(0, 1089, 3), random.integers(0, len(x), 700)])
    z = random.permutation(y[chosen])
    half = len(chosen) // 2
    with np.errstate(all="ignore"):
        z[half:] = -(x[chosen] * y[chosen])[half:]  # cancels all but the rounding error of the product
    return (x[chosen], y[chosen], z)[:count]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("features", FEATURE_SETS)
def test_every_operation_in_every_mode(features: frozenset[Feature], dtype: str) -> None:
    names = [
        name
        for name, (operation, _) in IEEE_PARTS.items()
        if not (dtype == "float64" and operation is IeeeOperation.RECIPROCAL_SQUARE_ROOT)
        and not (dtype == "float64" and operation is IeeeOperation.FUSED_MULTIPLY_ADD and Feature.FMA not in features)
    ]
    kernels = Elementwise()
    for name in names:
        add_intrinsic_of_ieee(kernels, name, dtype, features)
    kernels.compile()
    for name in names:
        arrays = operands(dtype, IEEE[name].arity)
        got, want = kernels(name, *arrays, output=np.dtype(dtype)), IEEE[name].meaning(*arrays)
        same = (got.view(f"uint{got.itemsize * 8}") == want.view(f"uint{got.itemsize * 8}")) | (np.isnan(got) & np.isnan(want))
        wrong = np.flatnonzero(~same)
        assert not wrong.size, f"{name}({[a[wrong[0]] for a in arrays]}) = {got[wrong[0]]!r}, not {want[wrong[0]]!r}; {wrong.size} wrong"


def add_intrinsic_of_ieee(kernels: Elementwise, name: str, dtype: str, features: frozenset[Feature]) -> None:
    add_intrinsic(kernels, name, [as_dtype(dtype)] * IEEE[name].arity, features, 4)


def test_the_rounding_mode_is_nearest_again_afterwards() -> None:
    kernels = Elementwise()
    add_intrinsic_of_ieee(kernels, "ieee_add_ru", "float32", frozenset())
    add_intrinsic_of_ieee(kernels, "ieee_add_rn", "float32", frozenset())
    kernels.compile()
    one, tiny = np.ones(4, np.float32), np.full(4, 1e-10, np.float32)
    assert (kernels("ieee_add_ru", one, tiny, output=one.dtype) == np.nextafter(one, np.float32(2))).all()
    assert (kernels("ieee_add_rn", one, tiny, output=one.dtype) == 1).all()


def test_fused_multiply_add_of_doubles_needs_the_instruction() -> None:
    with pytest.raises(TileNotImplementedError, match="fused multiply-add"):
        add_intrinsic_of_ieee(Elementwise(), "ieee_fmaf_rz", "float64", frozenset())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_round_to_nearest(dtype: str) -> None:
    kind = as_dtype(dtype)
    kernels = Elementwise()
    add_intrinsic_of_ieee(kernels, "ieee_mul_rn", dtype, frozenset())
    kernels.compile()
    random = np.random.default_rng(3)
    x, y = random.standard_normal((2, 1000)).astype(kind.numpy)
    got = kernels("ieee_mul_rn", x.view(np.uint16), y.view(np.uint16), output=np.dtype(np.uint16))
    assert np.array_equal(got, IEEE["ieee_mul_rn"].meaning(x, y).view(np.uint16))
