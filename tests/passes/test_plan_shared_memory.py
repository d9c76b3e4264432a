"""Where shared buffers lie: what may share memory, the barriers that this needs, and what does not fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright import dtypes
from tilewright.errors import Kind, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, binary, const, load, var
from tilewright.ir.program import Launch, Parameter, ParameterKind, Program
from tilewright.ir.stmt import Barrier, For, If, LoopKind, Seq, Stmt, Store
from tilewright.ir.verify import Level, verify
from tilewright.ir.visit import statements
from tilewright.language.function import PrimFunc
from tilewright.passes import GPU_PASSES, run_passes
from tilewright.passes.context import GpuPassContext
from tilewright.passes.plan_shared_memory import plan_shared_memory
from tilewright.target.nvidia import SM_80, SM_86, SM_90, NvidiaTarget

HERE = Span("kernel.py", 3)
TX, K, N = var("tx"), var("k"), var("n")
SINK = Buffer("C", dtypes.float32, (64,), Scope.GLOBAL, HERE)


def shared(name: str, elements: int = 64, **more: Any) -> Buffer:
    return Buffer(name, dtypes.float32, (elements,), Scope.SHARED, HERE, **more)


def put(buffer: Buffer) -> Stmt:
    return Store(HERE, buffer, (TX,), const(1, buffer.dtype))


def get(buffer: Buffer) -> Stmt:
    return Store(HERE, SINK, (TX,), load(buffer, (TX,)))


def barrier() -> Stmt:
    return Barrier(HERE)


def seq(*body: Stmt) -> Stmt:
    return Seq(HERE, body)


def turns(*body: Stmt, variable: Expr = K) -> For:
    return For(HERE, variable, N, LoopKind.SERIAL, seq(*body))


def planned(*body: Stmt, carried: dict[Buffer, set[Expr]] | None = None, target: NvidiaTarget = SM_80) -> tuple[dict[str, int], int, Launch]:
    """Offsets by name, the size, and the launch afterwards. Buffers without an entry in `carried` are scratch."""
    buffers = tuple(dict.fromkeys(n for s in statements(seq(*body)) for n in _shared(s)))
    launch = Launch((const(1),), (var("bx"),), (64, 1, 1), (TX, var("ty"), var("tz")), buffers, seq(*body), HERE)
    context = GpuPassContext(target)
    context.tile_loops = {K}
    for buffer, names in (carried or {}).items():
        context.origins[buffer], context.carried[buffer] = buffer, frozenset(names)
    size = Parameter("n", ParameterKind.SCALAR, HERE, variable=N)
    program = plan_shared_memory(Program("kernel", (size,), (launch,), HERE, workspaces=(SINK,)), context)
    made = program.launches[0]
    assert made.shared_memory is not None
    verify(program, Level.THREAD, "plan_shared_memory")
    return {b.name: offset for b, offset in made.shared_memory.offsets_bytes}, made.shared_memory.size_bytes, made


def _shared(stmt: Stmt) -> list[Buffer]:
    if not isinstance(stmt, Store):
        return []
    found = [stmt.buffer, *([stmt.value.buffer] if stmt.value.op is Op.LOAD else [])]
    return [b.storage for b in found if b.scope is Scope.SHARED]


def outline(launch: Launch) -> str:
    """The order of stores (the tile), loads (in lower case) and barriers (-); loops in brackets."""

    def of(node: Stmt) -> str:
        match node:
            case Seq():
                return "".join(map(of, node.body))
            case For():
                return f"[{of(node.body)}]"
            case If():
                return f"({of(node.then_body)})"
            case Barrier():
                return "-"
            case Store():
                return node.buffer.name if node.buffer.scope is Scope.SHARED else node.value.buffer.name.lower()
        raise AssertionError(node)

    return of(launch.body)


def test_buffers_needed_together_lie_apart_at_multiples_of_128_bytes() -> None:
    a, b = shared("A", 65), shared("B", 3)
    offsets, size, launch = planned(put(a), put(b), barrier(), get(a), get(b))
    assert offsets == {"A": 0, "B": 384} and size == 384 + 12 and outline(launch) == "AB-ab"


def test_no_buffers() -> None:
    assert planned(barrier())[:2] == ({}, 0)


@pytest.mark.parametrize(("between", "expected"), [((), "A-a-B-b"), ((barrier(),), "A-a-B-b")])
def test_one_after_the_other(between: tuple[Stmt, ...], expected: str) -> None:
    a, b = shared("A"), shared("B")
    offsets, size, launch = planned(put(a), barrier(), get(a), *between, put(b), barrier(), get(b))
    assert offsets == {"A": 0, "B": 0} and size == 256 and outline(launch) == expected


def test_a_view_counts_as_the_buffer() -> None:
    a, b = shared("A"), shared("B")
    view = shared("V", source=a)
    offsets, size, _ = planned(put(a), barrier(), get(a), barrier(), put(b), barrier(), get(b), barrier(), get(view))
    assert size == 512 and set(offsets) == {"A", "B"}


def test_three_in_turn() -> None:
    a, b, c = shared("A"), shared("B", 128), shared("C2")
    offsets, size, launch = planned(put(a), barrier(), get(a), put(b), barrier(), get(b), put(c), barrier(), get(c))
    assert size == 512 and set(offsets.values()) == {0} and outline(launch) == "A-a-B-b-C2-c2"


def test_in_a_loop_the_way_back_needs_a_barrier_too() -> None:
    a, b = shared("A"), shared("B")
    body = (put(a), barrier(), get(a), barrier(), put(b), barrier(), get(b))
    _, size, launch = planned(turns(*body), carried={a: set(), b: set()})
    assert size == 256 and outline(launch) == "[-A-a-B-b]"
    _, size, launch = planned(turns(*body, barrier()), carried={a: set(), b: set()})
    assert size == 256 and outline(launch) == "[A-a-B-b-]"
    _, size, launch = planned(turns(*body), carried={a: {K}, b: set()})
    assert size == 512 and outline(launch) == "[A-a-B-b]"


def offsets_of(kernel: PrimFunc) -> tuple[dict[str, int], Launch]:
    launch = run_passes(kernel.program, GpuPassContext(SM_80), GPU_PASSES).launches[0]
    assert launch.shared_memory is not None
    return {b.name: offset for b, offset in launch.shared_memory.offsets_bytes}, launch


@pytest.mark.parametrize("rows", [4, 3])  # all rows, or some that are stored in the ordinary way
@pytest.mark.parametrize(("pending", "is_shared"), [(0, True), (1, False), (None, False)])
def test_what_an_asynchronous_copy_fills_is_kept_until_its_wait_where_nothing_reads_it(rows: int, pending: int | None, is_shared: bool) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((rows, 64), "float32"), B: T.Tensor((64,), "float32"), C: T.Tensor((64,), "float32")):
        with T.Kernel(1, threads=64):
            unread = T.alloc_shared((4, 64), "float32")
            early = T.alloc_shared((64,), "float32")
            late = T.alloc_shared((64,), "float32")
            T.async_copy(A[0, 0], unread)
            T.ptx_commit_group()
            for i in T.Parallel(64):
                early[i] = i
            for i in T.Parallel(64):
                C[i] = early[63 - i]
            if pending is not None:
                T.ptx_wait_group(pending)
            for i in T.Parallel(64):
                late[i] = 2 * i
            for i in T.Parallel(64):
                B[i] = late[63 - i]
            T.ptx_wait_group(0)

    offsets, _ = offsets_of(kernel)

    def overlaps(name: str) -> bool:
        return offsets["unread"] <= offsets[name] < offsets["unread"] + 4 * 64 * 4

    assert not overlaps("early") and overlaps("late") == is_shared
    arrays = {"A": np.ones((rows, 64), np.float32), "B": np.zeros(64, np.float32), "C": np.zeros(64, np.float32)}
    tilewright.compile(kernel, target="simulate")(*arrays.values())
    np.testing.assert_array_equal(arrays["C"], np.arange(64)[::-1])
    np.testing.assert_array_equal(arrays["B"], 2 * np.arange(64)[::-1])


def test_loops_of_the_lowering_have_no_order_between_threads() -> None:
    a, b = shared("A"), shared("B")
    _, size, _ = planned(turns(put(a), barrier(), get(a), barrier(), put(b), barrier(), get(b), variable=var("r")), carried={a: set(), b: set()})
    assert size == 512


def test_scratch_that_a_loop_meets_again() -> None:
    a, b = shared("A"), shared("B")
    assert planned(put(a), barrier(), turns(get(a), barrier(), put(b), barrier(), get(b)))[1] == 512
    assert planned(turns(put(a), barrier(), get(a), barrier(), put(b), barrier(), get(b)))[1] == 256


def test_barriers_inside_of_a_neighbouring_loop_count() -> None:
    a, b = shared("A"), shared("B")
    _, size, launch = planned(turns(put(a), barrier(), get(a), barrier()), put(b), barrier(), get(b), carried={a: set(), b: set()})
    assert size == 256 and outline(launch) == "[A-a-]B-b"
    _, size, launch = planned(put(a), barrier(), get(a), turns(barrier(), put(b), barrier(), get(b)), carried={a: set(), b: set()})
    assert size == 256 and outline(launch) == "A-a[-B-b]"
    _, size, launch = planned(put(a), barrier(), get(a), turns(barrier(), put(b), barrier(), get(b)), put(b), get(b), carried={a: set(), b: set()})
    assert size == 256 and outline(launch) == "A-a-[-B-b]Bb", "the loop may have no turn"


@pytest.mark.parametrize("is_divergent", [False, True])
def test_where_threads_part_no_barrier_can_stand(is_divergent: bool) -> None:
    a, b = shared("A"), shared("B")
    condition = binary(Op.LT, TX, const(32)) if is_divergent else binary(Op.LT, N, const(32))
    _, size, launch = planned(If(HERE, condition, seq(put(a), get(a), put(b), get(b))))
    assert size == (512 if is_divergent else 256) and outline(launch) == ("(AaBb)" if is_divergent else "(Aa-Bb)")
    _, size, launch = planned(If(HERE, condition, seq(put(a), get(a))), If(HERE, condition, seq(put(b), get(b))))
    assert size == 256 and outline(launch) == "(Aa)-(Bb)"


def test_a_barrier_of_some_threads_separates_nothing() -> None:
    a, b = shared("A"), shared("B")
    named = dataclasses.replace(barrier(), num_threads=32, barrier_id=1)  # type: ignore[call-arg]
    assert outline(planned(put(a), get(a), named, put(b), get(b))[2]) == "Aa--Bb"


def lowered(kernel: PrimFunc, target: NvidiaTarget) -> Launch:
    return run_passes(kernel.program, GpuPassContext(target), GPU_PASSES).launches[0]


def pipeline(stages: int, is_persistent: bool = False) -> PrimFunc:
    @T.prim_func
    def kernel(A: T.Tensor((4096, 4096), "float16"), n: T.int32, C: T.Tensor((4096, 128), "float32")):
        with T.Kernel(64, threads=128) as bx:
            a, out = T.alloc_shared((64, 128), "float16"), T.alloc_shared((64, 128), "float32")
            total = T.alloc_fragment((64, 128), "float32")
            for _ in T.serial(n if is_persistent else 1):
                T.clear(total)
                for k in T.Pipelined(32, num_stages=stages):
                    T.copy(A[bx * 64, k * 128], a)
                    for i, j in T.Parallel(64, 128):
                        total[i, j] += a[i, j]
                T.copy(total, out)
                for i, j in T.Parallel(64, 128):
                    C[bx * 64 + i, j] = out[i, 127 - j]

    return kernel


@pytest.mark.parametrize("is_persistent", [False, True])
def test_the_epilogue_takes_the_memory_of_the_pipeline(is_persistent: bool) -> None:
    launch = lowered(pipeline(3, is_persistent), SM_80)
    assert launch.shared_memory is not None
    assert launch.shared_memory.size_bytes == 3 * 64 * 128 * 2 and {offset for _, offset in launch.shared_memory.offsets_bytes} == {0}


def test_what_does_not_fit_is_refused_with_the_most_that_does() -> None:
    kernel = pipeline(7)
    assert lowered(kernel, SM_80) and lowered(kernel, SM_90)
    with refused(
        Kind.SHARED_MEMORY_EXCEEDED,
        "needs 114 688 bytes",
        "sm_86 allows 101 376",
        "a: 7 x 16 384 bytes (float16[64, 128])",
        "num_stages=6 needs 98 304 bytes and fits",
    ):
        lowered(kernel, SM_86)
    with refused(Kind.SHARED_MEMORY_EXCEEDED, "num_stages=10 needs 163 840 bytes and fits"):
        lowered(pipeline(12), SM_80)


def test_a_tile_that_never_fits() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((256, 256), "float32"), C: T.Tensor((256, 256), "float32")):
        with T.Kernel(1, threads=128):
            tile = T.alloc_shared((256, 256), "float32")
            T.copy(A, tile)
            T.copy(tile, C)

    with refused(Kind.SHARED_MEMORY_EXCEEDED, "needs 262 144 bytes", "make tile smaller"):
        lowered(kernel, SM_90)
