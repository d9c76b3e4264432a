"""Whole programs on the simulator: results against numpy, and no finding where nothing is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sim.programs import F16, F32, I32, U32, Threads, at, buffer, call, copy, let, local, loop, put, shared, sync, when
from tilewright import dtypes
from tilewright.intrin.nvidia.cp_async import CP_ASYNC_COMMIT_GROUP, CP_ASYNC_WAIT_GROUP, cp_async
from tilewright.ir.buffer import Scope
from tilewright.ir.expr import as_expr, const, minimum, select, var
from tilewright.ir.program import Program
from tilewright.ir.stmt import AtomicKind, AtomicUpdate, Break, Continue, WarpExchange, WarpExchangeKind, While
from tilewright.sim import SimulationOptions, SimulationReport, simulate


def clean(program: Program, **arguments: Any) -> dict[str, np.ndarray]:
    """The outputs of a run that finds nothing."""
    report = simulate(program, arguments)
    assert report.is_clean, report.render()
    return report.outputs


def test_vector_add_over_a_ragged_grid() -> None:
    t = Threads(128, (9,))
    a, b, c = (buffer(n, 1100) for n in "abc")
    i = t.bx * 128 + t.tx
    program = t.program((a, b, c), when(i < 1100, put(c, i, at(a, i) + at(b, i))))
    x, y = np.random.default_rng(1).standard_normal((2, 1100)).astype(np.float32)
    got = clean(program, a=x, b=y, c=np.zeros(1100, np.float32))["c"]
    np.testing.assert_array_equal(got, x + y)


@pytest.mark.parametrize("threads", [128, 100, 33, 7])
def test_a_block_reduces_through_shared_memory(threads: int) -> None:
    t = Threads(threads, (3,))
    a, b = buffer("a", (3, threads), I32), buffer("b", 3, I32)
    s, step = shared("s", threads, I32), var("step")
    stride = var("stride")
    size = 1 << (threads - 1).bit_length()
    body = [
        put(s, t.tx, at(a, t.bx, t.tx)),
        sync(),
        loop(
            step,
            size.bit_length() - 1,
            let(stride, const(size) >> (step + 1)),
            when((t.tx < stride) & (t.tx + stride < threads), put(s, t.tx, at(s, t.tx) + at(s, t.tx + stride))),
            sync(),
        ),
        when(t.tx.__eq__(0), put(b, t.bx, at(s, 0))),
    ]
    x = np.random.default_rng(2).integers(-99, 99, (3, threads), dtype=np.int32)
    got = clean(t.program((a, b), *body, buffers=(s,)), a=x, b=np.zeros(3, np.int32))["b"]
    np.testing.assert_array_equal(got, x.sum(axis=1))


def test_transposition_through_shared_memory() -> None:
    t = Threads((32, 8, 1), (2, 3))
    a, b, s, k = buffer("a", (96, 64)), buffer("b", (64, 96)), shared("s", 32 * 33), var("k")
    by = t.blocks[1]
    body = [
        loop(k, 4, put(s, (t.ty + 8 * k) * 33 + t.tx, at(a, by * 32 + t.ty + 8 * k, t.bx * 32 + t.tx))),
        sync(),
        loop(k, 4, put(b, (t.bx * 32 + t.ty + 8 * k, by * 32 + t.tx), at(s, t.tx * 33 + t.ty + 8 * k))),
    ]
    x = np.random.default_rng(3).standard_normal((96, 64)).astype(np.float32)
    report = simulate(t.program((a, b), *body, buffers=(s,)), {"a": x, "b": np.zeros((64, 96), np.float32)})
    assert report.is_clean, report.render()
    np.testing.assert_array_equal(report.outputs["b"], x.T)
    assert {a.worst_ways for a in report.accesses if a.buffer == "s"} == {1}


def pipeline(tiles: int = 6, stages: int = 3, threads: int = 64, *, broken: str = "") -> tuple[Program, dict[str, np.ndarray]]:
    """out[i] = sum over tiles of the neighbour's element: tiles of 16 bytes per thread come through `stages` buffers."""
    t = Threads(threads)
    count = threads * 8
    a, out = buffer("a", tiles * count, F16), buffer("out", count, F32)
    s, acc, k, j = shared("s", stages * count, F16), local("acc", 8, F32), var("k"), var("j")

    def fetch(tile: Any, slot: Any) -> list[Any]:
        return [call(cp_async(16), (s, slot * count + t.tx * 8), (a, tile * count + t.tx * 8))]

    neighbour = (t.tx + 33) % threads
    body: list[Any] = [loop(j, 8, put(acc, j, 0.0))]
    for stage in range(stages - 1):
        body += [*fetch(as_expr(stage), as_expr(stage)), call(CP_ASYNC_COMMIT_GROUP)]
    inner: list[Any] = [] if broken == "wait" else [call(CP_ASYNC_WAIT_GROUP, stages - 2)]
    inner += [] if broken == "barrier" else [sync()]
    inner += [
        when(k + (stages - 1) < tiles, *fetch(k + (stages - 1), (k + (stages - 1)) % stages)),
        call(CP_ASYNC_COMMIT_GROUP),
        loop(j, 8, put(acc, j, at(acc, j) + at(s, (k % stages) * count + neighbour * 8 + j).astype(F32))),
    ]
    body += [loop(k, tiles, *inner), loop(j, 8, put(out, t.tx * 8 + j, at(acc, j)))]
    x = np.random.default_rng(4).integers(-8, 8, tiles * count).astype(np.float16)
    return t.program((a, out), *body, buffers=(s, acc)), {"a": x, "out": np.zeros(count, np.float32)}


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_a_pipeline_of_asynchronous_copies(stages: int) -> None:
    program, given = pipeline(6, stages)
    got = clean(program, **given)["out"]
    np.testing.assert_array_equal(got, np.roll(given["a"].reshape(6, 64, 8).astype(np.float32).sum(axis=0), -33, axis=0).reshape(-1))


def test_wide_accesses_move_registers() -> None:
    t = Threads(32)
    a, b, r = buffer("a", (32, 8), F16), buffer("b", (32, 8), F16), local("r", 8, F16)
    program = t.program((a, b), copy(r, 0, a, (t.tx, 0), 8), copy(b, (31 - t.tx, 0), r, 0, 4), copy(b, (31 - t.tx, 4), r, 4, 4), buffers=(r,))
    x = np.random.default_rng(5).standard_normal((32, 8)).astype(np.float16)
    np.testing.assert_array_equal(clean(program, a=x, b=np.zeros_like(x))["b"], x[::-1])


def test_views_of_registers_and_of_shared_memory_share_bits() -> None:
    t = Threads(32)
    a, b = buffer("a", 32, F32), buffer("b", (32, 2), dtype := dtypes.uint16)
    s, r = shared("s", 32), local("r", 1)
    halves, bits = shared("halves", 64, dtype, source=s), local("bits", 2, dtype, source=r)
    body = [put(s, t.tx, at(a, t.tx)), put(b, (t.tx, 0), at(halves, 2 * t.tx)), put(r, 0, at(a, t.tx)), put(b, (t.tx, 1), at(bits, 1))]
    x = np.random.default_rng(6).standard_normal(32).astype(np.float32)
    got = clean(t.program((a, b), *body, buffers=(s, r)), a=x, b=np.zeros((32, 2), np.uint16))["b"]
    np.testing.assert_array_equal(got, x.view(np.uint16).reshape(32, 2))


def test_nested_control_flow_under_masks() -> None:
    t = Threads(64)
    out, acc, i, j = buffer("out", 64, I32), buffer("acc", 1, I32, Scope.VARIABLE), var("i"), var("j")
    here = put(acc, 0, 0).span
    body = [
        put(acc, 0, 0),
        loop(
            i,
            t.tx % 7,
            when((i + t.tx) % 3 == 1, Continue(here)),
            when(i > 4, put(acc, 0, at(acc, 0) + 100), Break(here), otherwise=put(acc, 0, at(acc, 0) + 1)),
            loop(j, 3, when(j.__eq__(t.tx % 4), Break(here)), put(acc, 0, at(acc, 0) + 10)),
        ),
        While(here, at(acc, 0) % 5 != 0, put(acc, 0, at(acc, 0) + 1)),
        put(out, t.tx, at(acc, 0)),
    ]
    got = clean(t.program((out,), *body, buffers=(acc,)), out=np.zeros(64, np.int32))["out"]
    expected = []
    for tx in range(64):
        total = 0
        for n in range(tx % 7):
            if (n + tx) % 3 == 1:
                continue
            if n > 4:
                total += 100
                break
            total += 1
            for m in range(3):
                if m == tx % 4:
                    break
                total += 10
        while total % 5:
            total += 1
        expected.append(total)
    assert got.tolist() == expected


def test_warps_take_different_roads_and_meet_at_named_barriers() -> None:
    """Half of the warps produce, the others consume, with a pair of named barriers per turn."""
    t = Threads(128)
    a, out, s, k = buffer("a", (5, 64), I32), buffer("out", (5, 64), I32), shared("s", 64, I32), var("k")
    tx = t.tx
    produce = loop(k, 5, sync(1, 128), put(s, tx, at(a, k, tx)), sync(2, 128))
    consume = loop(k, 5, sync(1, 128), sync(2, 128), put(out, (k, tx - 64), at(s, (tx - 64 + 33) % 64)))
    program = t.program((a, out), when(tx < 64, produce, otherwise=consume), sync(), buffers=(s,))
    x = np.arange(5 * 64, dtype=np.int32).reshape(5, 64)
    for seed in range(4):
        report = simulate(program, {"a": x, "out": np.zeros_like(x)}, SimulationOptions(seed=seed))
        assert report.is_clean, report.render()
        np.testing.assert_array_equal(report.outputs["out"], np.roll(x, -33, axis=1))


def test_blocks_leave_a_loop_with_barriers_at_different_turns() -> None:
    t = Threads(64, (5,))
    out, s, k = buffer("out", (5, 64), I32), shared("s", 64, I32), var("k")
    body = [
        put(s, t.tx, t.tx),
        loop(k, t.bx, sync(), let(moved := var("moved"), at(s, (t.tx + 1) % 64)), sync(), put(s, t.tx, moved)),
        put(out, (t.bx, t.tx), at(s, t.tx)),
    ]
    got = clean(t.program((out,), *body, buffers=(s,)), out=np.zeros((5, 64), np.int32))["out"]
    np.testing.assert_array_equal(got, (np.arange(64) + np.arange(5)[:, None]) % 64)


def test_exchanges_within_warps_and_lazy_selection() -> None:
    t = Threads(64)
    a, out, k, got = buffer("a", 70, I32), buffer("out", 64, I32), var("k"), var("got")
    full = const(0xFFFFFFFF, U32)
    span = put(out, 0, 0).span
    body = [
        let(k, select(t.tx < 40, at(a, minimum(t.tx, 69)), at(a, t.tx + 5), is_lazy=True)),
        WarpExchange(span, got, WarpExchangeKind.SHUFFLE_XOR, k, as_expr(1), 32, full),
        put(out, t.tx, got),
    ]
    x = np.random.default_rng(7).integers(0, 99, 70, dtype=np.int32)
    lazy = np.where(np.arange(64) < 40, x[:64], x[5:69])
    np.testing.assert_array_equal(clean(t.program((a, out), *body), a=x, out=np.zeros(64, np.int32))["out"], lazy.reshape(-1, 2)[:, ::-1].reshape(-1))


def test_atomics_of_all_blocks_add_up() -> None:
    t = Threads(96, (7,))
    out, seen, old = buffer("out", 4, I32), buffer("seen", (7, 96), I32), var("old")
    span = put(out, 0, 0).span
    body = [AtomicUpdate(span, AtomicKind.ADD, out, (t.tx % 4,), as_expr(1), previous=old), put(seen, (t.bx, t.tx), old)]
    found = clean(t.program((out, seen), *body), out=np.zeros(4, np.int32), seen=np.zeros((7, 96), np.int32))
    assert found["out"].tolist() == [168] * 4
    for column in range(4):
        assert sorted(found["seen"][:, column::4].reshape(-1).tolist()) == list(range(168))


def test_some_blocks_of_a_large_grid() -> None:
    t = Threads(32, (100, 50))
    out = buffer("out", (50, 100), I32)
    program = t.program((out,), when(t.tx.__eq__(0), put(out, (t.blocks[1], t.bx), 1)))
    report = simulate(program, {"out": np.zeros((50, 100), np.int32)}, SimulationOptions(max_blocks=60))
    assert report.blocks == (60, 5000) and report.outputs["out"].sum() == 60 and report.outputs["out"][0, 0] == report.outputs["out"][-1, -1] == 1


def test_the_report_counts_conflicts_and_sectors() -> None:
    t = Threads(32)
    a, s, out = buffer("a", 1024), shared("s", 1024), buffer("out", 32)
    program = t.program((a, out), put(s, t.tx * 32, at(a, t.tx * 2)), put(out, t.tx, at(s, t.tx * 32)), buffers=(s,))
    report: SimulationReport = simulate(program, {"a": np.ones(1024, np.float32), "out": np.zeros(32, np.float32)})
    by_buffer = {(x.buffer, x.requests, x.transactions, x.ideal, x.worst_ways) for x in report.accesses}
    assert by_buffer == {("s", 1, 32, 1, 32), ("a", 1, 8, 4, 8), ("out", 1, 4, 4, 4)}
