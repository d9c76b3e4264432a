"""Barriers of tile programs on a GPU: between operations of the block that meet in memory, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tests.execution import refused
from tests.passes.products import product
from tilewright.errors import Kind
from tilewright.ir.program import Launch
from tilewright.ir.stmt import Barrier, For, If, ParallelFor, Seq, Stmt, While
from tilewright.ir.tileop import TileOp
from tilewright.language.function import PrimFunc
from tilewright.passes import GPU_PASSES, run_passes
from tilewright.passes.context import GpuPassContext
from tilewright.passes.insert_barriers import GPU_THREADS, insert_gpu_barriers, with_barriers
from tilewright.target.nvidia import SM_80


def outline(kernel: PrimFunc) -> str:
    """The program before it is lowered to threads: o for an operation or loop of the block, - for a barrier, brackets around loops, braces around branches."""
    passes = GPU_PASSES[: GPU_PASSES.index(insert_gpu_barriers) + 1]
    return _outline(run_passes(kernel.program, GpuPassContext(SM_80), passes).launches[0].body)


def _outline(node: Stmt) -> str:
    match node:
        case Seq():
            return "".join(map(_outline, node.body))
        case For() | While():
            return f"[{_outline(node.body)}]"
        case If():
            return "{" + _outline(node.then_body) + ("" if node.else_body is None else f"|{_outline(node.else_body)}") + "}"
        case Barrier():
            return "-"
        case ParallelFor() | TileOp():
            return "o" if isinstance(node, ParallelFor) else type(node).__name__[0].lower()
    return ""


def tiles(body: Any) -> PrimFunc:
    trace = T.macro(body)

    @T.prim_func
    def kernel(A: T.Tensor((64, 16), "float32"), n: T.int32, C: T.Tensor((64, 16), "float32")):
        with T.Kernel(1, threads=64):
            s, t, x = T.alloc_shared((16,), "float32"), T.alloc_shared((16,), "float32"), T.alloc_fragment((16,), "float32")
            trace(A, C, s, t, x, n)

    return kernel


def one_after_the_other(A, C, s, t, x, n):
    T.copy(A[0, :], s)
    T.copy(s, C[0, :])


def apart(A, C, s, t, x, n):
    T.copy(A[0, :], s)
    T.copy(A[1, :], t)
    T.copy(x, C[0, :])


def fragments(A, C, s, t, x, n):
    T.copy(A[0, :], x)
    for i in T.Parallel(16):
        x[i] = x[i] * 2
    T.copy(x, C[0, :])


def halves(A, C, s, t, x, n):
    T.copy(A[0, 0:8], s[0:8])
    T.copy(A[1, 0:8], s[8:16])
    T.copy(s[0:8], C[0, 0:8])


def overwritten(A, C, s, t, x, n):
    T.copy(A[0, :], s)
    T.fill(s, 1)


def read_twice(A, C, s, t, x, n):
    T.copy(A[0, :], s)
    T.copy(s, C[0, :])
    T.copy(s, C[1, :])
    T.copy(A[1, :], s)


def serial_loop(A, C, s, t, x, n):
    for k in T.serial(n):
        T.copy(A[k, :], s)
        T.copy(s, C[k, :])


def only_reads(A, C, s, t, x, n):
    T.copy(A[0, :], s)
    for k in T.serial(n):
        T.copy(s, C[k, :])


def two_slots(A, C, s, t, x, n):
    u = T.alloc_shared((2, 16), "float32")
    T.clear(u)
    for k in T.serial(n):
        T.copy(A[k, :], u[(k + 1) % 2, :])
        T.copy(u[k % 2, :], C[k, :])


def branches(A, C, s, t, x, n):
    T.copy(A[0, :], s)
    if n > 3:
        T.copy(s, C[0, :])
    else:
        T.copy(A[1, :], t)
    T.copy(t, C[1, :])


def a_condition_on_a_tile(A, C, s, t, x, n):
    T.copy(A[0, :], s)
    if s[0] > 0:
        T.copy(A[1, :], s)


def global_memory(A, C, s, t, x, n):
    T.copy(x, C[0, :])
    T.copy(C[0, :], s)
    T.copy(x, C[1, :])
    T.copy(C[2, :], t)


def one_element(A, C, s, t, x, n):
    s[0] = 1
    s[0] = s[0] + 1
    C[0, 0] = s[0]


def waited_for(A, C, s, t, x, n):
    T.async_copy(A[0, :], s)
    T.ptx_commit_group()
    T.copy(A[1, :], t)
    T.copy(t, C[1, :])
    T.ptx_wait_group(0)
    T.copy(s, C[0, :])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (one_after_the_other, "o-o"),
        (apart, "ooo"),
        (fragments, "ooo"),
        (halves, "oo-o"),
        (overwritten, "o-o"),
        (read_twice, "o-oo-o"),
        (serial_loop, "[-o-o]"),
        (only_reads, "o-[o]"),
        (two_slots, "o[-oo]"),
        (branches, "o-{o|o}-o"),
        (a_condition_on_a_tile, "o--{o}"),
        (global_memory, "o-ooo"),
        (one_element, "---"),
        (waited_for, "oco-ow-o"),
    ],
)
def test_barriers(body: Any, expected: str) -> None:
    assert outline(tiles(body)) == expected


def test_a_product_has_one_barrier_a_turn_with_a_pipeline_and_two_without() -> None:
    assert outline(product(64, 64, 64, 32, 32, 16, "float16", "float32")) == "oooc[w-{oo}cg]o"
    kernel = product(64, 64, 64, 32, 32, 16, "float16", "float32", step=lambda k, a, b, c: T.fill(a[0, :], 1))
    assert outline(kernel) == "oooc[w-{oo}co-g]o", "what changes a tile of the turn needs one more"


def test_existing_barriers_count() -> None:
    program = tiles(serial_loop).program
    passes = GPU_PASSES[: GPU_PASSES.index(insert_gpu_barriers) + 1]
    made = run_passes(program, GpuPassContext(SM_80), passes).launches[0]
    assert with_barriers(made, GPU_THREADS) is made


def gpu_threads(body: Any) -> Launch:
    trace = T.macro(body)

    @T.prim_func
    def kernel(A: T.Tensor((4096,), "float32")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((256,), "float32")
            trace(tx, s, A)

    return with_barriers(kernel.program.launches[0], GPU_THREADS)


def test_threads_and_the_block_together() -> None:
    def own_element(tx, s, A):
        T.copy(A[0:256], s)
        A[tx] = s[tx] + 1
        s[tx] = 0
        T.copy(s, A[256:512])

    assert _outline(gpu_threads(own_element).body) == "c--c", "A[tx] is written where the copy has read, s where it has written"


def test_a_barrier_in_a_branch_of_some_threads_is_refused() -> None:
    def exchange(tx, s, A):
        if tx < 48:
            s[tx] = A[tx]
            A[tx] = s[47 - tx]

    def before_the_branch(tx, s, A):
        s[tx] = A[tx]
        if tx < 48:
            A[tx] = s[47 - tx]

    assert _outline(gpu_threads(before_the_branch).body) == "-{}"
    with refused(Kind.DIVERGENT_BARRIER, "threads may meet in an element of s", "threads part here"):
        gpu_threads(exchange)
