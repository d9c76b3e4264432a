"""Products that may round their operands to tf32 are marked, and no others."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright.ir.visit import statements
from tilewright.language.function import PrimFunc
from tilewright.ops.gemm import Gemm
from tilewright.passes.context import GpuPassContext
from tilewright.passes.round_to_tf32 import round_to_tf32, with_rounded_products
from tilewright.target.nvidia import SM_80


def product(dtype: str, accumulator: str) -> PrimFunc:
    @T.prim_func
    def kernel(A: T.Tensor((16, 16), dtype), C: T.Tensor((16, 16), accumulator)):
        with T.Kernel(1):
            a, c = T.alloc_shared((16, 16), dtype), T.alloc_fragment((16, 16), accumulator)
            T.copy(A, a)
            T.gemm(a, a, c, clear_accum=True)
            T.copy(c, C)

    return kernel


@pytest.mark.parametrize(("dtype", "accumulator", "is_marked"), [("float32", "float32", True), ("float16", "float32", False), ("float32", "float64", False)])
def test_products_of_float32_are_marked_where_the_caller_allows_it(dtype: str, accumulator: str, is_marked: bool) -> None:
    program = product(dtype, accumulator).program
    assert round_to_tf32(program, GpuPassContext(SM_80)) is program
    (gemm,) = (s for s in statements(round_to_tf32(program, GpuPassContext(SM_80, is_rounding_to_tf32=True)).launches[0].body) if isinstance(s, Gemm))
    assert gemm.is_rounded_to_tf32 is is_marked


def test_what_a_marked_product_means() -> None:
    program = with_rounded_products(product("float32", "float32").program)
    a = np.zeros((16, 16), np.float32)
    a[0, 0], a[1, 1], a[2, 2] = 1 + 2.0**-11, 1 + 2.0**-12, -(1 + 2.0**-11)
    found = np.diag(tilewright.run_reference(program, {"A": a, "C": np.zeros_like(a)})["C"])[:3]
    np.testing.assert_array_equal(found, np.float32([(1 + 2.0**-10) ** 2, 1, (1 + 2.0**-10) ** 2]))
