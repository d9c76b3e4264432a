"""The pass pipelines (floor 5): one list per family of targets; the comment says why a pass stands where it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

from tilewright.ir.printer import print_program
from tilewright.ir.program import Program
from tilewright.ir.verify import Level, verify
from tilewright.options import environment
from tilewright.passes.check_program import check_program
from tilewright.passes.context import GpuPassContext, PassContext, Remark
from tilewright.passes.delay_copies import delay_copies
from tilewright.passes.expand_pipeline import expand_pipeline
from tilewright.passes.expand_tile_ops import expand_tile_ops
from tilewright.passes.fold_clear import fold_clear
from tilewright.passes.forward_operands import forward_operands
from tilewright.passes.fuse_loops import fuse_loops
from tilewright.passes.fuse_rows import fuse_rows
from tilewright.passes.group_blocks import group_blocks
from tilewright.passes.guard_accesses import guard_accesses
from tilewright.passes.guard_shuffles import guard_shuffles
from tilewright.passes.hoist_exchanges import hoist_exchanges
from tilewright.passes.hold_operands import hold_operands
from tilewright.passes.infer_layouts import infer_layouts
from tilewright.passes.insert_barriers import insert_barriers, insert_gpu_barriers
from tilewright.passes.lifetimes import find_lifetimes
from tilewright.passes.loop_over_threads import loop_over_threads
from tilewright.passes.lower_block_reduce import lower_block_reduce
from tilewright.passes.lower_thread_ops import lower_thread_ops
from tilewright.passes.lower_tile_ops import lower_tile_ops
from tilewright.passes.lower_to_threads import lower_to_threads
from tilewright.passes.merge_depth import merge_depth
from tilewright.passes.plan_shared_memory import plan_shared_memory
from tilewright.passes.plan_tiles import plan_tiles
from tilewright.passes.reuse_tiles import reuse_tiles
from tilewright.passes.rotate_pipelines import rotate_pipelines
from tilewright.passes.round_to_tf32 import round_to_tf32
from tilewright.passes.settle_async_copies import settle_async_copies
from tilewright.passes.share_viewed_fragments import share_viewed_fragments
from tilewright.passes.split_lanes import split_lanes
from tilewright.passes.stage_operands import stage_operands
from tilewright.passes.stream_operands import stream_operands
from tilewright.passes.swizzle_blocks import swizzle_blocks
from tilewright.passes.use_async_copies import use_async_copies
from tilewright.passes.vectorize import vectorize

Context = TypeVar("Context", PassContext, GpuPassContext)
CpuPass = Callable[[Program, PassContext], Program]
GpuPass = Callable[[Program, GpuPassContext], Program]

CPU_PASSES: tuple[CpuPass, ...] = (
    check_program,  # the user's mistakes, on the program as the user wrote it
    split_lanes,  # before everything that knows elements of one lane only
    lower_thread_ops,  # first of the passes for thread-level code, so that the next one sees single accesses
    insert_barriers,  # before the threads become loops, which may run in any order from barrier to barrier
    loop_over_threads,  # no threads afterwards: all that follows sees tile programs
    stream_operands,  # before merging, which takes longer steps where nothing is staged but the first operand
    merge_depth,  # while copies and products are still whole operations
    forward_operands,  # after merging, which only knows staged operands
    reuse_tiles,  # before tiles are planned, while a copy is one operation
    fold_clear,  # after merging, which wants products that only add
    group_blocks,  # last of those that rearrange, so that it sees which copies are left to share
    plan_tiles,  # how tiles are stored: before lowering, which reads it
    lower_tile_ops,  # loops and products; no tile operation afterwards
    fuse_loops,  # once everything element-wise is a loop, and before guards make their bodies differ
    fuse_rows,  # of the loops that could not become one
    guard_accesses,  # after lowering, so that the accesses of tile operations are guarded by the same rule as the user's own
)

GPU_PASSES: tuple[GpuPass, ...] = (
    check_program,  # the user's mistakes, on the program as the user wrote it
    round_to_tf32,  # before products are planned
    split_lanes,  # before everything that knows elements of one lane only
    lower_thread_ops,  # an operation on a thread's own memory is that thread's
    hoist_exchanges,  # before guards, which the values of the lanes that are added need too
    guard_shuffles,  # behind hoisting, which moves exchanges alone
    lower_block_reduce,  # before barriers, which order what the threads store and read
    swizzle_blocks,  # block numbers are what everything else is computed from
    settle_async_copies,  # before there are other asynchronous copies than the user's
    expand_pipeline,  # while copies are whole operations
    share_viewed_fragments,  # before products and reductions ask where their tiles are
    stage_operands,  # while copies are still whole operations, which it makes more of
    hold_operands,  # while products take whole tiles
    expand_tile_ops,  # before layouts, which come from loops
    guard_accesses,  # while the loops are those of the user, whose bounds are easiest to prove
    infer_layouts,  # before lowering, which reads them
    insert_gpu_barriers,  # once it is known what goes through shared memory
    find_lifetimes,  # the last place where it can be told which parts of a tile a statement overwrites
    lower_to_threads,  # what one thread runs; no tile operation afterwards
    vectorize,  # once addresses are those of one thread
    use_async_copies,  # pairs of wide accesses
    delay_copies,  # once they are instructions
    rotate_pipelines,  # what it looks for is what the passes before leave
    plan_shared_memory,  # last of all: no buffer is added any more, and barriers are where they stay
)


@dataclass(frozen=True)
class PassRecord:
    """What one pass did: for `tilewright inspect` and the compile-time benchmark."""

    name: str
    program: Program
    seconds: float


def _level(done: Sequence[object]) -> Level:
    """How far the passes that ran have lowered a program."""
    return Level.LOWERED if lower_tile_ops in done else Level.THREAD if lower_to_threads in done else Level.TILE


def run_passes(program: Program, context: Context, passes: Sequence[Callable[[Program, Context], Program]], records: list[PassRecord] | None = None) -> Program:
    """Applies the passes in order; `records`, where given, receives the program after each.

    TILEWRIGHT_VERIFY=1 verifies the program after each pass, TILEWRIGHT_DUMP names a folder that receives its text.
    """
    settings = environment()
    if settings.is_verify_enabled:
        verify(program, Level.TILE, "tracing")
    for number, apply in enumerate(passes):
        start = perf_counter()
        program = apply(program, context)
        if records is not None:
            records.append(PassRecord(apply.__name__, program, perf_counter() - start))
        if settings.is_verify_enabled:
            verify(program, _level(passes[: number + 1]), apply.__name__)
        if settings.dump_directory is not None:
            settings.dump_directory.mkdir(parents=True, exist_ok=True)
            (settings.dump_directory / f"{program.name}.{number:02d}.{apply.__name__}.txt").write_text(print_program(program))
    return program


__all__ = ["CPU_PASSES", "GPU_PASSES", "CpuPass", "GpuPass", "GpuPassContext", "PassContext", "PassRecord", "Remark", "run_passes"]
