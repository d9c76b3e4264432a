"""What the GPU benchmark compares: our kernels, torch's, and what each must reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tilewright
from benchmarks import gpu_kernels
from tilewright.kernels import attention, gemm, norm, softmax

Inputs = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """One comparison.

    program   the tile program, with the tiles for a target.
    inputs    makes tensors on the GPU; the last is the output.
    peers     torch callables on the same inputs (the output's values are compared with the first).
    bytes_moved, flops   of one call; the one that bounds it gives the rate.
    goal      the rate in TB/s for memory-bound cases, else the ratio to the peer `goal_peer`.
    """

    group: str
    name: str
    shape: str
    dtype: str
    program: Callable[[Any], Any]
    inputs: Callable[[], Inputs]
    peers: dict[str, Callable[..., Any]]
    bytes_moved: int
    flops: float
    goal: float
    goal_peer: str | None
    tolerance: float


def _random(*shape: int, dtype: str) -> Any:
    import torch

    return torch.randn(*shape, device="cuda", dtype=torch.float32).to(getattr(torch, dtype))


def _empty(*shape: int, dtype: str) -> Any:
    import torch

    return torch.empty(*shape, device="cuda", dtype=getattr(torch, dtype))


_MEMORY_GOAL_TB = 2.93


def memory_cases() -> list[Case]:
    """Bytes several times the L2, aligned and ragged."""
    import torch
    import torch.nn.functional as F

    cases = []
    for dtype in ("float16", "bfloat16"):
        for rows, columns in ((32768, 4096), (16384, 8192), (32768, 4098)):
            size = rows * columns * 2
            shape = f"{rows}x{columns}"

            def two(rows: int = rows, columns: int = columns, dtype: str = dtype) -> Inputs:
                return _random(rows, columns, dtype=dtype), _empty(rows, columns, dtype=dtype)

            def flat(rows: int = rows, columns: int = columns, dtype: str = dtype) -> Inputs:
                return *(_random(rows * columns, dtype=dtype) for _ in range(2)), _empty(rows * columns, dtype=dtype)

            def with_weight(rows: int = rows, columns: int = columns, dtype: str = dtype) -> Inputs:
                return _random(rows, columns, dtype=dtype), _random(columns, dtype=dtype), _empty(rows, columns, dtype=dtype)

            def with_bias(rows: int = rows, columns: int = columns, dtype: str = dtype) -> Inputs:
                return _random(rows, columns, dtype=dtype), _random(columns, dtype=dtype), _random(columns, dtype=dtype), _empty(rows, columns, dtype=dtype)

            def turned(rows: int = rows, columns: int = columns, dtype: str = dtype) -> Inputs:
                return _random(rows, columns, dtype=dtype), _empty(columns, rows, dtype=dtype)

            def widened(rows: int = rows, columns: int = columns, dtype: str = dtype) -> Inputs:
                return _random(rows * columns, dtype=dtype), _empty(rows * columns, dtype="float32")

            def case(
                name: str,
                program: Callable[[Any], Any],
                inputs: Callable[[], Inputs],
                peer: Callable[..., Any],
                moved: int,
                shape: str = shape,
                dtype: str = dtype,
            ) -> Case:
                return Case("memory", name, shape, dtype, program, inputs, {"torch": peer}, moved, 0.0, _MEMORY_GOAL_TB, None, 2e-2)

            size_of, row = (rows, columns, dtype), {"N": columns, "dtype": dtype, "M": rows}
            cases += [
                case("add", lambda _, s=size_of: gpu_kernels.add(*s), flat, lambda a, b, c: torch.add(a, b, out=c), 3 * size),
                case("cast", lambda _, s=size_of: gpu_kernels.cast(*s, "float32"), widened, lambda a, b: b.copy_(a), 3 * size),
                case("softmax", lambda t, r=row: softmax.softmax.get_tir(**r, target=t), two, lambda a, b: torch.softmax(a, -1), 2 * size),
                case(
                    "rms_norm",
                    lambda t, r=row: norm.rms_norm.get_tir(**r, target=t),
                    with_weight,
                    lambda a, w, b: F.rms_norm(a, (a.shape[-1],), w, 1e-6),
                    2 * size,
                ),
                case(
                    "layer_norm",
                    lambda t, r=row: norm.layer_norm.get_tir(**r, target=t),
                    with_bias,
                    lambda a, w, bias, b: F.layer_norm(a, (a.shape[-1],), w, bias, 1e-5),
                    2 * size,
                ),
                case("transpose", lambda _, s=size_of: gpu_kernels.transpose(*s), turned, lambda a, b: b.copy_(a.T), 2 * size),
            ]
    return cases


def gemm_cases() -> list[Case]:
    import torch

    cases = []
    for n in (4096, 8192):

        def inputs(n: int = n) -> Inputs:
            return _random(n, n, dtype="float16") / math.sqrt(n), _random(n, n, dtype="float16"), _empty(n, n, dtype="float16")

        peers = {"cublas": lambda a, b, c: torch.matmul(a, b, out=c)}
        program = lambda t, n=n: gemm.matmul.get_tir(n, n, n, "float16", target=t)  # noqa: E731
        cases.append(Case("gemm", "gemm", f"{n}x{n}x{n}", "float16", program, inputs, peers, 6 * n * n, 2.0 * n**3, 0.62, "cublas", 2e-2))
    for m in (1, 16):
        for n, k in ((4096, 4096), (28672, 8192)):

            def few(m: int = m, n: int = n, k: int = k) -> Inputs:
                return _random(m, k, dtype="float16") / math.sqrt(k), _random(n, k, dtype="float16"), _empty(m, n, dtype="float16")

            peers = {"cublas": lambda a, b, c: torch.matmul(a, b.T, out=c)}
            program = lambda t, m=m, n=n, k=k: gemm.matmul.get_tir(m, n, k, "float16", transpose_B=True, target=t)  # noqa: E731
            moved = 2 * (m * k + n * k + m * n)
            cases.append(Case("few rows", "gemm A @ B.T", f"{m}x{n}x{k}", "float16", program, few, peers, moved, 0.0, 1.0, "cublas", 2e-2))
    return cases


def attention_cases() -> list[Case]:
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    cases = []
    for width in (64, 128):
        for is_causal in (False, True):
            batch, heads, length = 4, 2048 // width, 4096

            def inputs(batch: int = batch, heads: int = heads, length: int = length, width: int = width) -> Inputs:
                return *(_random(batch, heads, length, width, dtype="float16") for _ in range(3)), _empty(batch, heads, length, width, dtype="float16")

            def flash(q: Any, k: Any, v: Any, o: Any, is_causal: bool = is_causal) -> Any:
                with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                    return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)

            arguments = (batch, heads, length, length, width, is_causal, "float16")
            program = lambda t, a=arguments: attention.flash_attention.get_tir(*a, is_heads_first=True, target=t)  # noqa: E731
            flops = 4.0 * batch * heads * length * length * width * (0.5 if is_causal else 1)
            name = "attention causal" if is_causal else "attention"
            shape = f"{batch}x{heads}x{length}x{width}"
            cases.append(Case("attention", name, shape, "float16", program, inputs, {"flash": flash}, 0, flops, 1.05, "flash", 2e-2))
    return cases


def compiled(case: Case, target: Any) -> Any:
    """The kernel; its output is an argument like the others. Fast math, as torch's kernels are compiled."""
    return tilewright.compile(case.program(target), target=target, pass_configs={tilewright.PassConfigKey.TL_ENABLE_FAST_MATH: True})
