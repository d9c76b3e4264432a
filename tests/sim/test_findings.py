"""Planted mistakes: each is found, with both lines, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sim.programs import F16, F32, I32, U32, Threads, at, buffer, call, copy, let, local, loop, put, shared, sync, warp_sync, when
from tests.sim.test_simulate import pipeline
from tilewright import dtypes
from tilewright.intrin.nvidia.cp_async import CP_ASYNC_COMMIT_GROUP, CP_ASYNC_WAIT_ALL, cp_async
from tilewright.intrin.nvidia.mma import mma
from tilewright.ir.expr import as_expr, const, select, var
from tilewright.ir.program import Program
from tilewright.ir.stmt import Assert, AtomicKind, AtomicUpdate, Stmt, WarpExchange, WarpExchangeKind, While
from tilewright.sim import Finding, FindingKind, SimulationOptions, simulate


def findings(program: Program, **arguments: Any) -> tuple[Finding, ...]:
    return simulate(program, arguments, SimulationOptions(max_turns=50)).findings


def only(program: Program, kind: FindingKind, *statements: Stmt, **arguments: Any) -> Finding:
    """The one finding, which names these statements' lines."""
    (found,) = findings(program, **arguments)
    assert found.kind is kind, found.render()
    lines = [label.span.line for label in found.diagnostic.labels]
    assert [s.span.line for s in statements] == lines[: len(statements)], found.render()
    return found


def zeros(*shape: int, dtype: Any = np.int32) -> np.ndarray:
    return np.zeros(shape, dtype)


def test_a_missing_barrier_between_a_write_and_a_read() -> None:
    t = Threads(64)
    out, s = buffer("out", 64, I32), shared("s", 64, I32)
    write, read = put(s, t.tx, t.tx), put(out, t.tx, at(s, 63 - t.tx))
    found = only(t.program((out,), write, read, buffers=(s,)), FindingKind.RACE, read, write, out=zeros(64))
    assert found.diagnostic.message == "thread 0 of block 0 reads s[63], which thread 63 writes, and nothing orders the two"
    assert "a barrier of the block must stand between" in (found.diagnostic.help or "")


def test_a_barrier_of_the_warp_does_not_order_other_warps() -> None:
    for distance, expected in ((1, 0), (32, 1)):
        t = Threads(64)
        out, s = buffer("out", 64, I32), shared("s", 64, I32)
        body = [put(s, t.tx, t.tx), warp_sync(), put(out, t.tx, at(s, t.tx ^ distance))]
        assert len(findings(t.program((out,), *body, buffers=(s,)), out=zeros(64))) == expected


def test_within_a_warp_a_barrier_is_needed_too() -> None:
    t = Threads(32)
    out, s = buffer("out", 32, I32), shared("s", 32, I32)
    write, read = put(s, t.tx, t.tx), put(out, t.tx, at(s, 31 - t.tx))
    found = only(t.program((out,), write, read, buffers=(s,)), FindingKind.RACE, read, write, out=zeros(32))
    assert "or of the warp" in (found.diagnostic.help or "")


@pytest.mark.parametrize("readers", [1, 2])
def test_a_missing_barrier_between_a_read_and_a_write(readers: int) -> None:
    t = Threads(64)
    out, s, k = buffer("out", 64, I32), shared("s", 64, I32), var("k")
    read = put(out, t.tx, at(s, t.tx // readers))
    write = put(s, (t.tx + 32) % 64, t.tx)
    only(t.program((out,), put(s, t.tx, t.tx), sync(), read, write, buffers=(s,)), FindingKind.RACE, write, read, out=zeros(64))


def test_what_one_of_many_readers_still_needs() -> None:
    """All warps read an element; one of them then writes it after meeting only some of the others."""
    t = Threads(128)
    out, s = buffer("out", 128, I32), shared("s", 1, I32)
    start = when(t.tx.__eq__(0), first := put(s, 0, 5))
    read = put(out, t.tx, at(s, 0))
    write = put(s, 0, 6)
    for met, expected in ((96, 1), (128, 0)):
        end = when(t.tx < met, sync(1, met), when(t.tx.__eq__(0), write))
        got = findings(t.program((out,), start, sync(), read, end, buffers=(s,)), out=zeros(128))
        assert len(got) == expected
    assert first is not None


def test_two_threads_write_one_element() -> None:
    t = Threads(64)
    s = shared("s", 64, I32)
    write = put(s, t.tx // 2, t.tx)
    found = only(t.program((), write, buffers=(s,)), FindingKind.RACE, write)
    assert found.diagnostic.message == "thread 0 of block 0 and thread 1 write different values to s[0] in one statement"
    same = t.program((), put(s, t.tx // 2, t.tx // 2), buffers=(s,))
    assert not findings(same), "writing one value twice harms nobody"


def test_halves_of_a_byte_are_elements_of_their_own() -> None:
    t = Threads(32)
    s = shared("s", 64, dtypes.int4)
    fine = t.program((), put(s, 2 * t.tx, 3), put(s, 2 * t.tx + 1, -4), buffers=(s,))
    assert not findings(fine)
    assert not findings(t.program((), put(s, t.tx, t.tx.astype("int4")), buffers=(s,)))
    twice = put(s, t.tx // 2, (t.tx % 2).astype("int4"))
    found = only(t.program((), twice, buffers=(s,)), FindingKind.RACE, twice)
    assert found.diagnostic.message == "thread 0 of block 0 and thread 1 write different values to s[0] in one statement"


def test_blocks_that_share_an_element() -> None:
    t = Threads(32, (4,))
    out, result = buffer("out", 1, I32), buffer("result", 4, I32)
    write = when(t.tx.__eq__(0), inner := put(out, 0, t.bx))
    found = only(t.program((out,), write), FindingKind.RACE, inner, out=zeros(1))
    assert "blocks of a grid" in (found.diagnostic.because or "")
    add = AtomicUpdate(inner.span, AtomicKind.ADD, out, (as_expr(0),), as_expr(1))
    assert not findings(t.program((out,), add), out=zeros(1))
    read = when(t.tx.__eq__(0), plain := put(result, t.bx, at(out, 0)))
    only(t.program((out, result), add, read), FindingKind.RACE, plain, out=zeros(1), result=zeros(4))


@pytest.mark.parametrize("broken", ["wait", "barrier"])
def test_a_pipeline_without_its_wait_or_its_barrier(broken: str) -> None:
    program, given = pipeline(broken=broken)
    found = findings(program, **given)
    assert {f.kind for f in found} == ({FindingKind.ASYNC_HAZARD} if broken == "wait" else {FindingKind.RACE}), [f.render() for f in found]


def test_what_has_not_landed_is_the_old_value() -> None:
    t = Threads(32)
    a, out, s = buffer("a", 128, I32), buffer("out", 32, I32), shared("s", 128, I32)
    fetch = call(cp_async(16), (s, t.tx * 4), (a, t.tx * 4))
    early = put(out, t.tx, at(s, t.tx * 4))
    body = [put(s, t.tx * 4, 7), fetch, call(CP_ASYNC_COMMIT_GROUP), early, call(CP_ASYNC_WAIT_ALL)]
    report = simulate(t.program((a, out), *body, buffers=(s,)), {"a": np.arange(128, dtype=np.int32), "out": zeros(32)})
    (found,) = report.findings
    assert found.kind is FindingKind.ASYNC_HAZARD and report.outputs["out"].tolist() == [7] * 32
    assert [label.span.line for label in found.diagnostic.labels] == [early.span.line, fetch.span.line]


def test_a_copy_that_is_written_over() -> None:
    t = Threads(32)
    a, s = buffer("a", 128, I32), shared("s", 128, I32)
    fetch, write = call(cp_async(16), (s, t.tx * 4), (a, t.tx * 4)), put(s, t.tx * 4 + 1, 7)
    only(t.program((a,), fetch, write, call(CP_ASYNC_WAIT_ALL), buffers=(s,)), FindingKind.ASYNC_HAZARD, write, fetch, a=np.ones(128, np.int32))


def test_a_barrier_that_some_threads_never_reach() -> None:
    t = Threads(64)
    meet = sync()
    found = only(t.program((), when(t.tx < 32, meet)), FindingKind.BARRIER, meet)
    assert found.diagnostic.message == "block 0 waits for ever: 32 threads at 1 barrier; 32 have ended"


def test_threads_that_wait_at_different_barriers() -> None:
    t = Threads(64)
    one, other = sync(1, 64), sync(2, 64)
    only(t.program((), when(t.tx < 32, one, otherwise=other)), FindingKind.BARRIER, one, other)
    one, other = sync(), sync()
    only(t.program((), when(t.tx < 32, one, otherwise=other)), FindingKind.BARRIER, one, other)


def test_half_a_warp_at_a_barrier() -> None:
    t = Threads(32)
    one = sync()
    body = when(t.tx < 16, one, otherwise=sync())
    assert {f.kind for f in findings(t.program((), body))} == {FindingKind.BARRIER}
    only(t.program((), when(t.tx < 16, meet := warp_sync())), FindingKind.INACTIVE_LANES, meet)


def test_shared_memory_that_nobody_wrote() -> None:
    t = Threads(32)
    out, s = buffer("out", 32, I32), shared("s", 64, I32)
    read = put(out, t.tx, at(s, t.tx + 8) + 1)
    found = only(t.program((out,), put(s, t.tx, 1), sync(), read, buffers=(s,)), FindingKind.UNINITIALISED, read, out=zeros(32))
    assert found.diagnostic.message == "thread 24 of block 0 uses s[32], which nobody has written"


def test_registers_that_nobody_wrote_may_be_moved_but_not_used() -> None:
    t = Threads(32)
    out, s, r, q = buffer("out", (32, 4), I32), shared("s", 128, I32), local("r", 4, I32), local("q", 4, I32)
    fill = when(t.tx < 16, put(r, 0, 1), otherwise=put(r, 0, 2))
    moved = [fill, copy(s, t.tx * 4, r, 0, 4), copy(q, 0, s, t.tx * 4, 4)]
    assert not findings(t.program((out,), *moved, put(out, (t.tx, 0), at(q, 0)), buffers=(s, r, q)), out=zeros(32, 4))
    use = put(out, (t.tx, 1), at(q, 1) * 2)
    only(t.program((out,), *moved, use, buffers=(s, r, q)), FindingKind.UNINITIALISED, use, out=zeros(32, 4))
    leak = copy(out, (t.tx, 0), q, 0, 4)
    only(t.program((out,), *moved, leak, buffers=(s, r, q)), FindingKind.UNINITIALISED, leak, out=zeros(32, 4))


def test_accesses_outside() -> None:
    t = Threads(32)
    out, s, r = buffer("out", (4, 6), I32), shared("s", 40, I32), local("r", 4, I32)
    wrong = put(out, (t.tx // 8, t.tx % 8), 1)
    found = only(t.program((out,), wrong), FindingKind.OUT_OF_BOUNDS, wrong, out=zeros(4, 6))
    assert found.diagnostic.message == "thread 6 of block 0 accesses out[0, 6], which is outside int32[4, 6]"
    wrong = put(s, t.tx * 2, 1)
    only(t.program((), wrong, buffers=(s,)), FindingKind.OUT_OF_BOUNDS, wrong)
    wrong = put(r, 4, 1)
    only(t.program((), wrong, buffers=(r,)), FindingKind.OUT_OF_BOUNDS, wrong)
    wide = copy(out, (t.tx % 4, 4), r, 0, 4)
    body = [loop(i := var("i"), 4, put(r, i, 1)), wide]
    only(t.program((out,), *body, buffers=(r,)), FindingKind.OUT_OF_BOUNDS, wide, out=zeros(4, 6))


def test_a_wide_access_at_an_odd_place() -> None:
    t = Threads(32)
    a, r = buffer("a", 256, F16), local("r", 8, F16)
    wide = copy(r, 0, a, t.tx * 4, 8)
    found = only(t.program((a,), wide, buffers=(r,)), FindingKind.MISALIGNED, wide, a=np.ones(256, np.float16))
    assert "accesses 16 bytes of a at byte 8" in found.diagnostic.message


def test_instructions_of_a_warp_with_missing_lanes() -> None:
    t = Threads(64)
    atom = mma(16, 8, 16, dtypes.float16, dtypes.float16, dtypes.float32)
    a, b, c, i = local("a", 8, F16), local("b", 4, F16), local("c", 4, F32), var("i")
    fill = [loop(i, 8, put(a, i, 1)), loop(i, 4, put(b, i, 1)), loop(i, 4, put(c, i, 0))]
    multiply = call(atom, (c, 0), (a, 0), (b, 0))
    only(t.program((), *fill, when(t.tx < 40, multiply), buffers=(a, b, c)), FindingKind.INACTIVE_LANES, multiply)
    assert not findings(t.program((), *fill, when(t.tx < 32, multiply), buffers=(a, b, c)))


def test_only_the_elements_of_a_product_that_depend_on_unwritten_ones_count_as_unwritten() -> None:
    t = Threads(32)
    atom = mma(16, 8, 16, dtypes.float16, dtypes.float16, dtypes.float32)
    a, b, c, i, out = local("a", 8, F16), local("b", 4, F16), local("c", 4, F32), var("i"), buffer("out", (32, 4), F32)
    first_rows = when(t.tx < 16, *(put(a, k, 1) for k in (0, 1, 4, 5)), otherwise=put(a, 2, 1))  # rows 0 to 3 of a are written, some others are not
    fill = [first_rows, loop(i, 4, put(b, i, 1)), loop(i, 4, put(c, i, 0))]
    multiply = call(atom, (c, 0), (a, 0), (b, 0))
    good = when(t.tx < 16, put(out, (t.tx, 0), at(c, 0)), put(out, (t.tx, 1), at(c, 1)))
    report = simulate(t.program((out,), *fill, multiply, good, buffers=(a, b, c)), {"out": zeros(32, 4, dtype=np.float32)})
    assert report.is_clean and (report.outputs["out"][:16, :2] == 16).all()
    bad = put(out, (t.tx, 2), at(c, 2))
    only(t.program((out,), *fill, multiply, bad, buffers=(a, b, c)), FindingKind.UNINITIALISED, bad, out=zeros(32, 4, dtype=np.float32))


def test_unwritten_values_may_be_computed_with_but_decide_nothing() -> None:
    t = Threads(32)
    out, r, x, y = buffer("out", 32, I32), local("r", 1, I32), var("x"), var("y")
    head = [when(t.tx < 16, put(r, 0, t.tx)), let(x, at(r, 0) - 2), let(y, x + 1)]
    assert not findings(t.program((out,), *head, when(t.tx < 16, put(out, t.tx, y)), buffers=(r,)), out=zeros(32))
    assert not findings(t.program((out,), *head, put(out, t.tx, select(t.tx < 16, y, 0)), buffers=(r,)), out=zeros(32))
    for bad in (put(out, t.tx, y), put(out, (t.tx + y) % 32, 0), when(y > 3, put(out, 0, 0))):
        found = findings(t.program((out,), *head, bad, buffers=(r,)), out=zeros(32))
        assert any(f.kind is FindingKind.UNINITIALISED and f.diagnostic.labels[0].span.line == head[1].span.line for f in found)


def test_an_exchange_with_lanes_that_are_not_there() -> None:
    t = Threads(32)
    got = var("got")
    give = WarpExchange(put(shared("s", 1), 0, 0).span, got, WarpExchangeKind.SHUFFLE_DOWN, t.tx, as_expr(1), 32, const(0xFFFFFFFF, U32))
    only(t.program((), when(t.tx < 16, give)), FindingKind.INACTIVE_LANES, give)


def test_assertions_and_loops_that_do_not_end() -> None:
    t = Threads(32)
    holds = Assert(put(shared("s", 1), 0, 0).span, t.tx < 20, "too many")
    found = only(t.program((), holds), FindingKind.ASSERTION, holds)
    assert found.diagnostic.message == "too many, on thread 20 of block 0"
    out = buffer("out", 1, I32)
    spin = While(put(out, 0, 0).span, at(out, 0) < 1, put(local("r", 1, I32), 0, 0))
    r = spin.body.buffer  # type: ignore[attr-defined]
    only(t.program((out,), spin, buffers=(r,)), FindingKind.ENDLESS_LOOP, spin, out=zeros(1))


def test_a_finding_is_one_line_with_a_count() -> None:
    t = Threads(64, (6,))
    out, s, k = buffer("out", (6, 64), I32), shared("s", 64, I32), var("k")
    body = loop(k, 10, put(s, t.tx, t.tx + k), put(out, (t.bx, t.tx), at(s, 63 - t.tx)), sync())
    (found,) = findings(t.program((out,), body, buffers=(s,)), out=zeros(6, 64))
    assert found.count == 10 and "it happened 10 times" in found.render()
    assert F32 is not None
