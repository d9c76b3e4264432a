"""Kernels that ship choose their tiles by the target; what the caller names wins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.codegen.cuda.nvrtc_checks import needs_nvrtc
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.jit import LazyFactory, jit
from tilewright.kernels import attention, gemm, norm, softmax
from tilewright.target.nvidia import SM_86

GPU = "sm_90a"
FACTORIES: list[tuple[LazyFactory, dict[str, Any]]] = [
    (gemm.gemm, {"M": 60, "N": 50, "K": 40}),
    (gemm.matmul, {"M": 60, "N": 50, "K": 40}),
    (attention.flash_attention, {"batch": 1, "heads": 2, "length_q": 40, "length_k": 40, "width": 32}),
    (softmax.softmax, {"N": 300}),
    (norm.rms_norm, {"N": 300}),
    (norm.layer_norm, {"N": 300}),
]


@needs_nvrtc
@pytest.mark.parametrize(("factory", "arguments"), FACTORIES, ids=[factory.__name__ for factory, _ in FACTORIES])
def test_a_kernel_is_compiled_for_the_target_that_it_chose_tiles_for(factory: LazyFactory, arguments: dict[str, Any]) -> None:
    on_cpu, on_gpu = factory(**arguments), factory(**arguments, dtype="float16", target=GPU)
    assert on_cpu.target.name != on_gpu.target.name == GPU
    assert factory(**arguments) is on_cpu and factory(**arguments, dtype="float16", target=GPU) is on_gpu
    (cpu,), (gpu,) = on_cpu.prim_func.program.launches, on_gpu.prim_func.program.launches
    assert [buffer.shape for buffer in cpu.buffers] != [buffer.shape for buffer in gpu.buffers]


def test_tiles_of_the_caller_win() -> None:
    mine = gemm.matmul.get_tir(500, 500, 500, "float16", block_M=64, threads=256, target=GPU).program.launches[0]
    assert mine.threads == (256, 1, 1) and [b.static_shape for b in mine.buffers] == [(64, 32), (32, 128), (64, 128)]
    rows = softmax.softmax.get_tir(300, block_M=3, target=GPU).program.launches[0]
    assert rows.buffers[0].static_shape == (3, 300) and rows.threads == (256, 1, 1)
    heads = attention.flash_attention.get_tir(1, 1, 128, 128, 64, dtype="float16", block_N=16, target=GPU).program.launches[0]
    assert heads.buffers[0].static_shape == (128, 64) and heads.buffers[1].static_shape == (16, 64)


def test_products_take_their_tiles_by_shape_dtype_and_shared_memory() -> None:
    wide = gemm.tiles_for(GPU, 8192, 8192, "float16")
    assert (wide.block_M, wide.block_N, wide.threads) == (128, 256, 256) and wide.shared_bytes(2) == 147_456
    assert gemm.tiles_for("sm_86", 8192, 8192, "float16") == gemm.tiles_for(GPU, 2048, 4096, "bfloat16") == gemm.Tiles(128, 128, 32, 4)
    assert gemm.tiles_for("simulate", 8192, 8192, "float16") == wide
    assert gemm.tiles_for(GPU, 16, 4096, "float16").block_M == 16 != gemm.tiles_for(GPU, 17, 4096, "float16").block_M
    assert gemm.tiles_for(GPU, 4096, 4096, "float32") == gemm.Tiles(64, 64, 16)
    assert gemm.tiles_for(None, 16, 4096, "float16") == gemm.tiles_for("cpu", 4096, 4096, "float32") == gemm.Tiles(128, 256, 64)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_tiles_of_attention_fit_the_smallest_shared_memory(width: int, dtype: str) -> None:
    for is_causal in (False, True):
        tiles = attention.tiles_for("sm_86", width, is_causal, dtype)
        held = (tiles["block_M"] + 2 * 2 * tiles["block_N"]) * width * np.dtype(dtype).itemsize  # one tile of Q, two stages of K and V
        assert held <= SM_86.shared_bytes_per_block


def test_a_fixed_number_of_rows_needs_no_symbol() -> None:
    x = np.random.default_rng(0).standard_normal((37, 300), np.float32)
    kernel = softmax.softmax(300, M=37)
    np.testing.assert_allclose(kernel(x), softmax.reference(x), rtol=1e-5)
    with refused(Kind.ARGUMENT_SHAPE, "37"):
        kernel(x[:36])


@pytest.mark.parametrize("transpose_B", [False, True])
@pytest.mark.parametrize("m", [1, 16, 130])
def test_a_plain_product(m: int, transpose_B: bool) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-3, 4, (m, 70)).astype(np.float32), rng.integers(-3, 4, (50, 70) if transpose_B else (70, 50)).astype(np.float32)
    expected = a @ (b.T if transpose_B else b)
    np.testing.assert_array_equal(gemm.matmul(m, 50, 70, transpose_B=transpose_B)(a, b), expected)
    found = gemm.matmul(m, 50, 70, "float16", transpose_B=transpose_B, target="simulate")(a.astype(np.float16), b.astype(np.float16))
    np.testing.assert_array_equal(found, expected.astype(np.float16))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("length_q", "length_k"), [(64, 128), (65, 129), (130, 130), (256, 256), (1, 300)])
def test_heads_first_is_the_other_order_transposed(length_q: int, length_k: int, is_causal: bool) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, n, 2, 16), np.float32) for n in (length_q, length_k, length_k))
    rows = attention.flash_attention(1, 2, length_q, length_k, 16, is_causal)(q, k, v)
    turned = [np.ascontiguousarray(x.transpose(0, 2, 1, 3)) for x in (q, k, v)]
    heads = attention.flash_attention(1, 2, length_q, length_k, 16, is_causal, is_heads_first=True)(*turned)
    np.testing.assert_array_equal(heads.transpose(0, 2, 1, 3), rows)
    np.testing.assert_allclose(rows, attention.reference(q, k, v, is_causal), rtol=1e-4, atol=2e-5)


@needs_nvrtc
def test_configurations_compiled_at_once_have_their_own_targets() -> None:
    kernels = gemm.matmul.par_compile([{"M": 32, "N": 32, "K": 32, "dtype": "float16", "target": target} for target in (GPU, None, "sm_80")])
    assert [kernel.target.name for kernel in kernels if kernel is not None][::2] == [GPU, "sm_80"]


def test_the_argument_has_to_exist() -> None:
    with refused(Kind.OPTION_VALUE, "target_argument"):

        @jit(target_argument="where")
        def factory(n: int) -> Any: ...
