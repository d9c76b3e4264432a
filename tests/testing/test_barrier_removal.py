"""Removals of barriers and waits: every one that matters is noticed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.sim.programs import I32, Threads, at, buffer, let, loop, put, shared, sync, warp_sync, when
from tests.sim.test_simulate import pipeline
from tilewright.ir.expr import var
from tilewright.ir.program import Program
from tilewright.testing.barrier_removal import Removal, removable, try_removals, without


def reduction(threads: int = 128) -> tuple[Program, dict[str, np.ndarray]]:
    t = Threads(threads, (2,))
    a, b, s = buffer("a", (2, threads), I32), buffer("b", (2, threads), I32), shared("s", threads, I32)
    body: list[Any] = [put(s, t.tx, at(a, t.bx, t.tx)), sync()]
    step = threads // 2
    while step:
        body += [when(t.tx < step, put(s, t.tx, at(s, t.tx) + at(s, t.tx + step)))]
        body += [sync() if step > 16 else warp_sync()]
        step //= 2
    body += [sync(), put(b, (t.bx, t.tx), at(s, 0)), sync()]  # the last one is needless
    x = np.random.default_rng(1).integers(1, 99, (2, threads), dtype=np.int32)
    return t.program((a, b), *body, buffers=(s,)), {"a": x, "b": np.zeros_like(x)}


def specialised() -> tuple[Program, dict[str, np.ndarray]]:
    t = Threads(128)
    a, out, s, k, v = buffer("a", (5, 64), I32), buffer("out", (5, 64), I32), shared("s", 64, I32), var("k"), var("v")
    produce = loop(k, 5, sync(1, 128), put(s, t.tx, at(a, k, t.tx)), sync(2, 128))
    consume = loop(k, 5, sync(1, 128), sync(2, 128), let(v, at(s, (t.tx - 64 + 33) % 64)), put(out, (k, t.tx - 64), v))
    x = np.arange(5 * 64, dtype=np.int32).reshape(5, 64)
    return t.program((a, out), when(t.tx < 64, produce, otherwise=consume), buffers=(s,)), {"a": x, "out": np.zeros_like(x)}


PROGRAMS = {"reduction": reduction(), "specialised": specialised(), "pipeline of 2": pipeline(6, 2), "pipeline of 3": pipeline(6, 3)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_removals_that_matter_are_noticed(name: str) -> None:
    removals = try_removals(*PROGRAMS[name])
    assert len(removals) == len(list(removable(PROGRAMS[name][0]))) >= 2
    assert any(r.matters for r in removals)
    assert not [r for r in removals if r.matters and not r.is_noticed]


def test_a_needless_barrier_is_neither_noticed_nor_matters() -> None:
    *_, last = try_removals(*reduction())
    assert last == Removal("barrier of the block", last.span, False, False)


def test_a_removal_takes_one_statement() -> None:
    program, _ = pipeline()
    before = list(removable(program))
    assert len(list(removable(without(program, before[0])))) == len(before) - 1


def test_a_program_that_is_wrong_to_begin_with() -> None:
    program, given = reduction()
    first = next(iter(removable(program)))
    with pytest.raises(ValueError, match="wrong to begin with"):
        try_removals(without(program, first), given)


def product(num_stages: int) -> Any:
    @T.prim_func
    def kernel(A: T.Tensor((64, 96), "float16"), B: T.Tensor((96, 64), "float16"), C: T.Tensor((64, 64), "float32")):
        with T.Kernel(1, threads=128):
            a, b, c = T.alloc_shared((64, 16), "float16"), T.alloc_shared((16, 64), "float16"), T.alloc_fragment((64, 64), "float32")
            T.clear(c)
            for k in T.Pipelined(6, num_stages=num_stages):
                T.copy(A[0, k * 16], a)
                T.copy(B[k * 16, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    return kernel


@pytest.mark.parametrize("num_stages", [0, 2, 3])
def test_removals_from_compiled_products_are_noticed(num_stages: int) -> None:
    lowered = tilewright.compile(product(num_stages), target="simulate").compiled.lowered
    rng = np.random.default_rng(num_stages)
    a, b = rng.integers(-4, 5, (64, 96)).astype(np.float16), rng.integers(-4, 5, (96, 64)).astype(np.float16)
    removals = try_removals(lowered, {"A": a, "B": b, "C": np.zeros((64, 64), np.float32)})
    assert sum(r.matters for r in removals) >= 2
    assert not [r for r in removals if r.matters and not r.is_noticed]


def attention() -> Any:
    """Two products with a softmax between them, which goes through shared memory: the shape of flash attention."""

    @T.prim_func
    def kernel(Q: T.Tensor((32, 32), "float16"), K: T.Tensor((64, 32), "float16"), V: T.Tensor((64, 32), "float16"), O: T.Tensor((32, 32), "float32")):
        with T.Kernel(1, threads=64):
            q, k, v = (T.alloc_shared((32, 32), "float16") for _ in (0, 1, 2))
            p, s, o = T.alloc_shared((32, 32), "float16"), T.alloc_fragment((32, 32), "float32"), T.alloc_fragment((32, 32), "float32")
            top = T.alloc_fragment((32,), "float32")
            T.copy(Q, q)
            T.clear(o)
            for step in T.Pipelined(2, num_stages=2):
                T.copy(K[step * 32, 0], k)
                T.copy(V[step * 32, 0], v)
                T.gemm(q, k, s, transpose_B=True, clear_accum=True)
                T.reduce_max(s, top, dim=1)
                for i, j in T.Parallel(32, 32):
                    p[i, j] = s[i, j] - top[i]
                T.gemm(p, v, o)
            T.copy(o, O)

    return kernel


def turned_and_summed() -> Any:
    """A transposition, a sum across threads, a scan and a histogram in shared memory."""

    @T.prim_func
    def kernel(Q: T.Tensor((32, 32), "int32"), K: T.Tensor((32,), "int32"), V: T.Tensor((32,), "int32"), O: T.Tensor((32, 32), "int32")):
        with T.Kernel(1, threads=64):
            a, b, h = T.alloc_shared((32, 32), "int32"), T.alloc_shared((32, 32), "int32"), T.alloc_shared((32,), "int32")
            f, sums = T.alloc_fragment((32, 32), "int32"), T.alloc_fragment((32,), "int32")
            T.copy(Q, a)
            T.transpose(a, b)
            T.cumsum(b, dim=1)
            T.copy(b, f)
            T.reduce_sum(f, sums, dim=1)
            T.copy(sums, V)
            T.clear(h)
            for i, j in T.Parallel(32, 32):
                T.atomic_add(h[a[i, j] + 4], 1)
            T.copy(h, K)
            T.copy(b, O)

    return kernel


@pytest.mark.parametrize("make", [attention, turned_and_summed], ids=lambda make: make.__name__)
def test_removals_from_other_compiled_kernels_are_noticed(make: Any) -> None:
    program = make()
    rng = np.random.default_rng(0)
    arguments = {p.name: rng.integers(-4, 5, [int(n) for n in p.buffer.shape]).astype(p.buffer.dtype.numpy) for p in program.params}
    removals = try_removals(tilewright.compile(program, target="simulate").compiled.lowered, arguments)
    assert sum(r.matters for r in removals) >= 3
    assert not [r for r in removals if r.matters and not r.is_noticed]
