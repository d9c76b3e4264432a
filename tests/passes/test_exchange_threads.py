"""Shuffles, votes and reductions of warps and blocks: compiled, by the reference, and by numpy from their definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import run

RNG = np.random.default_rng(3)


def exchanged(make: Callable[[Any, Any], Any], threads: int = 64, dtype: str = "int32", result: str = "int32") -> tuple[np.ndarray, np.ndarray]:
    """What each thread gives, and what it receives from `make(value, thread)`."""

    @T.prim_func
    def kernel(X: T.Tensor((threads,), dtype), Y: T.Tensor((threads,), result)):
        with T.Kernel(1, threads=threads):
            tx = T.get_thread_binding(0)
            x = X[tx]
            Y[tx] = T.cast(make(x, tx), result)

    x = RNG.integers(-4, 5, threads).astype(dtype)
    return x, run(kernel, X=x, Y=np.zeros(threads, result))["Y"]


def warps(x: np.ndarray) -> list[np.ndarray]:
    return [x[w : w + 32] for w in range(0, len(x), 32)]


@pytest.mark.parametrize("width", [32, 8, 1])
@pytest.mark.parametrize("threads", [32, 80])
def test_shuffles_move_values_in_groups(width: int, threads: int) -> None:
    moves: dict[str, tuple[Callable[..., Any], Callable[[int], int]]] = {
        "sync": (lambda x, t: T.shfl_sync(x, 5, width), lambda lane: lane // width * width + 5 % width),
        "up": (lambda x, t: T.shfl_up(x, 3, width), lambda lane: lane - 3 if lane % width >= 3 else lane),
        "down": (lambda x, t: T.shfl_down(x, 3, width), lambda lane: lane + 3 if lane % width + 3 < width else lane),
        "xor": (lambda x, t: T.shfl_xor(x, 5, width), lambda lane: lane ^ 5 if (lane ^ 5) // width <= lane // width else lane),
        "each its own": (lambda x, t: T.shfl_sync(x, 31 - t % 32, width), lambda lane: lane // width * width + (31 - lane) % width),
    }
    for name, (make, source) in moves.items():
        x, y = exchanged(make, threads)
        lanes = [(t // 32 * 32 + source(t % 32)) for t in range(threads)]
        expected = [x[s] if s < threads else x[t] for t, s in enumerate(lanes)]
        assert y.tolist() == expected, name


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint64", "bool"])
def test_shuffles_take_numbers_of_any_width(dtype: str) -> None:
    x, y = exchanged(lambda x, t: T.shfl_xor(x, 1), 32, dtype, dtype)
    assert y.tolist() == x.reshape(-1, 2)[:, ::-1].reshape(-1).tolist()


@pytest.mark.parametrize("threads", [32, 48, 100])
def test_votes_and_matches_are_of_the_threads_that_exist(threads: int) -> None:
    definitions: dict[str, tuple[Callable[..., Any], Callable[[np.ndarray, int], int]]] = {
        "any": (lambda x, t: T.any_sync(x > 3), lambda w, k: int((w > 3).any())),
        "all": (lambda x, t: T.all_sync(x > -4), lambda w, k: int((w > -4).all())),
        "ballot": (lambda x, t: T.ballot_sync(x), lambda w, k: sum(1 << i for i, v in enumerate(w) if v)),
        "wide": (lambda x, t: T.ballot(x > 0), lambda w, k: sum(1 << i for i, v in enumerate(w) if v > 0)),
        "active": (lambda x, t: T.activemask(), lambda w, k: (1 << len(w)) - 1),
        "match": (lambda x, t: T.match_any_sync(x), lambda w, k: sum(1 << i for i, v in enumerate(w) if v == w[k])),
        "match all": (lambda x, t: T.match_all_sync(x // 8), lambda w, k: (1 << len(w)) - 1 if len(set(w // 8)) == 1 else 0),
        "sum": (lambda x, t: T.warp_reduce_sum(x), lambda w, k: int(w.sum())),
        "max": (lambda x, t: T.warp_reduce_max(x), lambda w, k: int(w.max())),
        "min": (lambda x, t: T.warp_reduce_min(x), lambda w, k: int(w.min())),
        "and": (lambda x, t: T.warp_reduce_bitand(x), lambda w, k: int(np.bitwise_and.reduce(w))),
        "or": (lambda x, t: T.warp_reduce_bitor(x), lambda w, k: int(np.bitwise_or.reduce(w))),
    }
    for name, (make, value) in definitions.items():
        x, y = exchanged(make, threads, result="int64")
        assert y.tolist() == [value(w, k) for w in warps(x) for k in range(len(w))], name


def test_lanes_that_do_not_come_give_what_they_know() -> None:

    @T.prim_func
    def kernel(X: T.Tensor((64,), "int32"), Y: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding(0)
            x = X[tx]
            found = T.alloc_var("int32", init=0)
            if tx % 32 == 3:
                found = T.warp_reduce_sum(x)
            if tx < 8:
                inner = x * 2
                found += T.shfl_xor(inner, 4, mask=0xFF)
                found += T.cast(T.activemask(), "int32")
            Y[tx] = found

    x = RNG.integers(-4, 5, 64).astype(np.int32)
    expected = np.zeros(64, np.int64)
    expected[[3, 35]] = x[:32].sum(), x[32:].sum()
    expected[:8] += 2 * x[[4, 5, 6, 7, 0, 1, 2, 3]] + 255
    assert run(kernel, X=x, Y=np.zeros(64, np.int32))["Y"].tolist() == expected.tolist()


def test_a_mask_may_be_known_only_when_it_runs() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((32,), "int32"), Y: T.Tensor((32,), "int32")):
        with T.Kernel(1, threads=32):
            tx = T.get_thread_binding(0)
            x = X[tx]
            mask = T.match_any_sync(x)
            Y[tx] = T.cast(T.ballot_sync(tx % 2 == 0, mask), "int32")

    x = RNG.integers(0, 4, 32).astype(np.int32)
    expected = [sum(1 << i for i in range(0, 32, 2) if x[i] == x[t]) for t in range(32)]
    assert run(kernel, X=x, Y=np.zeros(32, np.int32))["Y"].view(np.uint32).tolist() == expected


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_a_block_reduces_over_axes(axes: tuple[int, ...]) -> None:
    @T.prim_func
    def kernel(X: T.Tensor((2, 3, 8), "float32"), Y: T.Tensor((2, 3, 8), "float32")):
        with T.Kernel(1, threads=(8, 3, 2)):
            threads = T.get_thread_bindings()
            tx, ty, tz = threads
            most = T.alloc_var("float32")
            with T.attr(T.comm_reducer(lambda x, y: T.max(x, y), [T.float32(-1e9)]), "reduce_scope", T.reinterpret(T.uint64(0), dtype="handle")):
                T.tvm_thread_allreduce(T.uint32(1), X[tz, ty, tx], tx != 1, most, *(threads[a] for a in axes))
            Y[tz, ty, tx] = most

    x = RNG.integers(-50, 50, (2, 3, 8)).astype(np.float32)
    counted = x.copy()
    counted[:, :, 1] = -1e9
    expected = np.broadcast_to(counted.max(axis=tuple(2 - a for a in axes), keepdims=True), x.shape)
    np.testing.assert_array_equal(run(kernel, X=x, Y=np.zeros_like(x))["Y"], expected)


def test_the_block_counts_and_votes() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((80,), "int32"), Y: T.Tensor((80, 3), "int32")):
        with T.Kernel(1, threads=80):
            tx = T.get_thread_binding(0)
            Y[tx, 0] = T.syncthreads_count(X[tx] > 0)
            Y[tx, 1] = T.syncthreads_and(X[tx] > -3)
            Y[tx, 2] = T.syncthreads_or(X[tx] > 99)

    x = RNG.integers(-4, 5, 80).astype(np.int32)
    assert (run(kernel, X=x, Y=np.zeros((80, 3), np.int32))["Y"] == [(x > 0).sum(), (x > -3).all(), False]).all()
