"""What is measured: inputs, contenders, the float64 result to be met, and the goal of every case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np

import tilewright
from tilewright.kernels import attention, gemm, norm, softmax

try:
    import torch
except ImportError:  # every case runs without it, against numpy alone or nothing
    torch = None  # type: ignore[assignment]


class Peer(Enum):
    """Whom a goal is set against."""

    TORCH = "torch"
    NUMPY = "numpy"
    BEST = "best"  # the faster one of torch and numpy
    FP32 = "fp32"  # our own kernel for float32


class Rate(Enum):
    """What the work of a case is counted in."""

    GFLOPS = "GFLOP/s"
    GBYTES = "GB/s"


@dataclass(frozen=True)
class Goal:
    """At least `factor` times as fast as `peer`."""

    factor: float
    peer: Peer


@dataclass
class Contest:
    """A case made ready: calls that all compute the same thing.

    ours      stores or returns the result.
    result    reads the result of our last call as float64.
    expected  the result computed in float64.
    peers     what ours is compared with.
    """

    ours: Callable[[], Any]
    result: Callable[[], np.ndarray]
    expected: Callable[[], np.ndarray]
    peers: dict[Peer, Callable[[], Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One line of the table.

    work       floating-point operations or bytes of one call, as `rate` says.
    tolerance  largest error allowed, relative to the largest element of the float64 result.
    """

    group: str
    name: str
    shape: str
    dtype: str
    work: float
    rate: Rate
    goal: Goal | None
    prepare: Callable[[], Contest]
    tolerance: float = 1e-5


_NUMPY_DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_ROUNDING = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 8e-3}


def _random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def _to_torch(array: np.ndarray) -> Any:
    if array.dtype == _NUMPY_DTYPES["bfloat16"]:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _to_float64(value: Any) -> np.ndarray:
    return np.asarray(value if isinstance(value, np.ndarray) else value.double().numpy(), np.float64)


class _Kept:
    """Calls a kernel that returns its result, and keeps the last one."""

    def __init__(self, kernel: Callable[..., Any], *arguments: Any) -> None:
        self.kernel, self.arguments = kernel, arguments
        self.last: Any = None

    def __call__(self) -> None:
        self.last = None  # first, so that its memory is there for the next result: peers that drop theirs have that too
        self.last = self.kernel(*self.arguments)

    def result(self) -> np.ndarray:
        return _to_float64(self.last)


def _tensors(*arrays: np.ndarray) -> tuple[Any, ...]:
    """As torch tensors where torch is there: what a user of torch eager would pass."""
    return tuple(map(_to_torch, arrays)) if torch is not None else arrays


# -- products
def quickstart_gemm(M: int, N: int, K: int, dtype: str, transpose_B: bool, block_M: int = 128) -> Any:
    """C = A @ B with the tiles that a TileLang quickstart has for a GPU. Takes A, B and C."""
    return tilewright.compile(gemm.matmul.get_tir(M, N, K, dtype, block_M, block_N=128, block_K=32, stages=2, transpose_B=transpose_B))


def _gemm(M: int, N: int, K: int, dtype: str, transpose_B: bool = False, has_torch: bool = True, **blocks: int) -> Contest:
    rng = np.random.default_rng(0)
    A32, B32 = _random(rng, M, K), _random(rng, *((N, K) if transpose_B else (K, N)))
    A, B = A32.astype(_NUMPY_DTYPES[dtype]), B32.astype(_NUMPY_DTYPES[dtype])
    C = np.zeros((M, N), A.dtype)
    kernel = quickstart_gemm(M, N, K, dtype, transpose_B, **blocks)
    contest = Contest(lambda: kernel(A, B, C), lambda: _to_float64(C), lambda: A.astype(np.float64) @ _oriented(B.astype(np.float64), transpose_B))
    if dtype == "float32":
        theirs = np.empty_like(C)
        contest.peers[Peer.NUMPY] = lambda: np.matmul(A, _oriented(B, transpose_B), out=theirs)
    else:
        kernel32, C32 = quickstart_gemm(M, N, K, "float32", transpose_B, **blocks), np.zeros((M, N), np.float32)
        contest.peers[Peer.FP32] = lambda: kernel32(A32, B32, C32)
    if torch is not None and has_torch:
        a, b, c = map(_to_torch, (A, B, np.empty_like(C)))
        contest.peers[Peer.TORCH] = lambda: torch.mm(a, _oriented(b, transpose_B), out=c)
    return contest


def _oriented(matrix: Any, is_transposed: bool) -> Any:
    return matrix.T if is_transposed else matrix


def _gemm_case(group: str, M: int, N: int, K: int, dtype: str = "float32", transpose_B: bool = False, has_torch: bool = True, **blocks: int) -> Case:
    goal = Goal(1.0, Peer.BEST if dtype == "float32" else Peer.FP32)
    name = f"gemm{' A @ B.T' if transpose_B else ''}"
    return Case(
        group,
        name,
        f"{M}x{N}x{K}",
        dtype,
        2.0 * M * N * K,
        Rate.GFLOPS,
        goal,
        lambda: _gemm(M, N, K, dtype, transpose_B, has_torch, **blocks),
        _ROUNDING[dtype],
    )


def _fused(M: int, N: int, K: int) -> Contest:
    rng = np.random.default_rng(0)
    A, B, bias = _random(rng, M, K), _random(rng, K, N) / np.float32(math.sqrt(K)), _random(rng, N)
    tensors = _tensors(A, B, bias)
    ours = _Kept(gemm.gemm(M, N, K, gemm.Activation.GELU), *tensors)
    contest = Contest(ours, ours.result, lambda: gemm.reference(A, B, bias, gemm.Activation.GELU))
    if torch is not None:
        a, b, c = tensors
        contest.peers[Peer.TORCH] = lambda: torch.nn.functional.gelu(torch.addmm(c, a, b))
    return contest


# -- rows
def _softmax(M: int, N: int) -> Contest:
    X = _random(np.random.default_rng(0), M, N)
    (x,) = _tensors(X)
    ours = _Kept(softmax.softmax(N), x)
    contest = Contest(ours, ours.result, lambda: softmax.reference(X), {Peer.NUMPY: lambda: _numpy_softmax(X)})
    if torch is not None:
        contest.peers[Peer.TORCH] = lambda: torch.softmax(x, -1)
    return contest


def _numpy_softmax(X: np.ndarray) -> np.ndarray:
    powers = np.exp(X - X.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def _rms_norm(M: int, N: int) -> Contest:
    rng = np.random.default_rng(0)
    X, W = _random(rng, M, N), _random(rng, N)
    x, w = _tensors(X, W)
    ours = _Kept(norm.rms_norm(N), x, w)
    contest = Contest(
        ours,
        ours.result,
        lambda: norm.rms_norm_reference(X, W),
        {Peer.NUMPY: lambda: X / np.sqrt(np.mean(X * X, axis=-1, keepdims=True) + np.float32(1e-6)) * W},
    )
    if torch is not None:
        contest.peers[Peer.TORCH] = lambda: torch.nn.functional.rms_norm(x, (N,), w, 1e-6)
    return contest


def _layer_norm(M: int, N: int) -> Contest:
    rng = np.random.default_rng(0)
    X, W, B = _random(rng, M, N), _random(rng, N), _random(rng, N)
    x, w, b = _tensors(X, W, B)
    ours = _Kept(norm.layer_norm(N), x, w, b)
    contest = Contest(ours, ours.result, lambda: norm.layer_norm_reference(X, W, B), {Peer.NUMPY: lambda: _numpy_layer_norm(X, W, B)})
    if torch is not None:
        contest.peers[Peer.TORCH] = lambda: torch.nn.functional.layer_norm(x, (N,), w, b, 1e-5)
    return contest


def _numpy_layer_norm(X: np.ndarray, W: np.ndarray, B: np.ndarray) -> np.ndarray:
    centred = X - X.mean(axis=-1, keepdims=True)
    scale: np.ndarray = 1 / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + np.float32(1e-5))
    return centred * scale * W + B


def _row_case(name: str, M: int, N: int, prepare: Callable[[int, int], Contest]) -> Case:
    return Case(name if name == "softmax" else "norm", name, f"{M}x{N}", "float32", 8.0 * M * N, Rate.GBYTES, Goal(1.5, Peer.TORCH), lambda: prepare(M, N))


# -- attention
def _attention(heads: int, length: int, width: int, is_causal: bool, is_heads_first: bool) -> Contest:
    """torch always gets (batch, heads, length, width) in order, the layout that it is fastest with."""
    rng = np.random.default_rng(0)
    rows = [_random(rng, 1, length, heads, width) for _ in range(3)]
    heads_first = [np.ascontiguousarray(x.transpose(0, 2, 1, 3)) for x in rows]
    if is_heads_first:
        O = np.zeros_like(heads_first[0])
        kernel = tilewright.compile(attention.flash_attention.get_tir(1, heads, length, length, width, is_causal, is_heads_first=True))
        contest = Contest(lambda: kernel(*heads_first, O), lambda: _to_float64(O).transpose(0, 2, 1, 3), lambda: _attention_reference(rows, is_causal))
    else:
        ours = _Kept(attention.flash_attention(1, heads, length, length, width, is_causal), *_tensors(*rows))
        contest = Contest(ours, ours.result, lambda: _attention_reference(rows, is_causal))
    if torch is not None:
        q, k, v = map(_to_torch, heads_first)
        contest.peers[Peer.TORCH] = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    return contest


def _attention_reference(rows: Sequence[np.ndarray], is_causal: bool) -> np.ndarray:
    """Head by head: the scores of all heads together would take much memory."""
    heads = []
    for head in range(rows[0].shape[2]):
        Q, K, V = (x[:, :, head : head + 1] for x in rows)
        heads.append(attention.reference(Q, K, V, is_causal))
    return np.concatenate(heads, axis=2)


def _attention_case(heads: int, length: int, width: int, is_causal: bool, is_heads_first: bool) -> Case:
    name = f"attention{' causal' if is_causal else ''} {'bhsd' if is_heads_first else 'bshd'}"
    work = 4.0 * heads * length * length * width / (2 if is_causal else 1)
    return Case(
        "attention",
        name,
        f"{heads} heads, {length}x{width}",
        "float32",
        work,
        Rate.GFLOPS,
        Goal(1.2, Peer.TORCH),
        lambda: _attention(heads, length, width, is_causal, is_heads_first),
    )


def all_cases() -> Iterable[Case]:
    for size in (512, 1024, 2048):
        yield _gemm_case("gemm", size, size, size)
    for M in (1, 16):
        for transpose_B in (False, True):
            yield _gemm_case("skinny", M, 4096, 4096, transpose_B=transpose_B, block_M=M)
    for dtype in ("bfloat16", "float16"):
        yield _gemm_case("half", 512, 512, 512, dtype)
        yield _gemm_case("half", 1024, 1024, 1024, dtype, has_torch=False)  # torch needs seconds for each on processors without such products
    yield Case(
        "fused", "gemm + bias + gelu", "512x4096x1024", "float32", 2.0 * 512 * 4096 * 1024, Rate.GFLOPS, Goal(1.15, Peer.TORCH), lambda: _fused(512, 4096, 1024)
    )
    for M, N in ((2048, 1024), (1024, 4096)):
        yield _row_case("softmax", M, N, _softmax)
    for M, N in ((2048, 1024), (1024, 4096)):
        yield _row_case("rms_norm", M, N, _rms_norm)
        yield _row_case("layer_norm", M, N, _layer_norm)
    for is_heads_first in (True, False):
        for width in (64, 128):
            for is_causal in (False, True):
                yield _attention_case(8, 2048, width, is_causal, is_heads_first)


def quick_cases() -> Iterable[Case]:
    """Small ones of every group, without goals: they show that everything runs."""
    for case in (
        _gemm_case("gemm", 192, 160, 128),
        _gemm_case("skinny", 1, 256, 256, block_M=1),
        _gemm_case("half", 128, 128, 128, "bfloat16"),
        Case("fused", "gemm + bias + gelu", "64x256x128", "float32", 2.0 * 64 * 256 * 128, Rate.GFLOPS, None, lambda: _fused(64, 256, 128)),
        _row_case("softmax", 64, 256, _softmax),
        _row_case("rms_norm", 64, 256, _rms_norm),
        _row_case("layer_norm", 64, 256, _layer_norm),
        _attention_case(2, 256, 64, True, True),
    ):
        yield Case(case.group, case.name, case.shape, case.dtype, case.work, case.rate, None, case.prepare, case.tolerance)


def select_cases(groups: Sequence[str], is_quick: bool) -> list[Case]:
    """Cases of the named groups, all where none is named."""
    return [case for case in (quick_cases() if is_quick else all_cases()) if not groups or case.group in groups]


GROUPS = tuple(dict.fromkeys(case.group for case in all_cases()))
