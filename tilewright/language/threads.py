"""What single threads, warps and the threads of a block do together (floor 5; language.md 10.1 and 10.2)."""

from __future__ import annotations

from typing import Any

from tilewright import dtypes
from tilewright.dtypes import DType, int32, uint32
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.expr import Expr, Op, as_condition, as_expr, as_integer, binary, cast, const, describe_operand, var
from tilewright.ir.stmt import WARP_THREADS, Barrier, BarrierScope, BlockReduce, ReduceKind, WarpExchange, WarpExchangeKind
from tilewright.language.builder import FrameKind, LaunchFrame, program_builder

FULL_MASK = 0xFFFFFFFF
_STORAGE_SCOPES = {"shared": BarrierScope.BLOCK, "shared.dyn": BarrierScope.BLOCK, "warp": BarrierScope.WARP, "global": BarrierScope.GRID}


def _launch_at(what: str) -> tuple[LaunchFrame, Span]:
    """The open launch, for a construct that is a thread's own; a diagnostic inside T.Parallel, whose iterations belong to no thread yet."""
    builder = program_builder()
    span = builder.here()
    launch = builder.require_launch(what, span)
    outer = next((f for f in builder.frames if f.kind is FrameKind.PARALLEL), None)
    if outer is not None:
        fail(
            Kind.THREAD_IN_PARALLEL,
            f"{what} stands inside T.Parallel",
            (Label(span), Label(outer.span, "the parallel loop")),
            because="which thread runs an iteration of T.Parallel is the compiler's choice",
            help="leave T.Parallel out and use the index of the thread: tx = T.get_thread_binding(0)",
        )
    return launch, span


# -- which thread this is


def flat_thread(what: str) -> Expr:
    """The number of the thread in its block, x fastest. Marks the launch as thread-level code."""
    launch, _ = _launch_at(what)
    launch.is_thread_level = True
    (x, y, _), (tx, ty, tz) = launch.threads, launch.thread_variables
    number = const(0)
    for variable, extent, step in ((tx, launch.threads[0], 1), (ty, y, x), (tz, launch.threads[2], x * y)):
        if extent > 1:
            number = number + variable * step
    return number


def _count(value: Any, what: str, default: int) -> int:
    """A positive Python int."""
    number = default if value is None else as_integer(value)
    if number is None or number <= 0:
        fail(
            Kind.OPTION_VALUE,
            f"{what} is {describe_operand(value)}",
            program_builder().here(),
            because="threads are counted in whole numbers from 1",
            help=f"write {what}={default}",
        )
    return number


def get_lane_idx(warp_size: Any = None) -> Expr:
    """The number of the thread in its warp."""
    return flat_thread("T.get_lane_idx") % _count(warp_size, "warp_size", WARP_THREADS)


def get_warp_idx(warp_size: Any = None) -> Expr:
    """The number of the warp in its block."""
    return flat_thread("T.get_warp_idx") // _count(warp_size, "warp_size", WARP_THREADS)


def get_warp_idx_sync(warp_size: Any = None) -> Expr:
    """The number of the warp in its block, the same value on all its lanes."""
    return flat_thread("T.get_warp_idx_sync") // _count(warp_size, "warp_size", WARP_THREADS)


def get_warp_group_idx(warp_size: Any = None, warps_per_group: Any = None) -> Expr:
    """The number of the group of (four) neighbouring warps in its block."""
    return flat_thread("T.get_warp_group_idx") // (_count(warp_size, "warp_size", WARP_THREADS) * _count(warps_per_group, "warps_per_group", 4))


def shuffle_elect(thread_extent: Any) -> Expr:
    """True on one thread of every `thread_extent` neighbouring ones, here the first; 0: on one of the whole block."""
    number = flat_thread("T.shuffle_elect")
    extent = 0 if as_integer(thread_extent) == 0 else _count(thread_extent, "thread_extent", WARP_THREADS)
    return binary(Op.EQ, number if extent == 0 else number % extent, 0)


# -- barriers


def sync_threads(barrier_id: Any = None, arrive_count: Any = None) -> None:
    """All threads of the block wait for each other; with both arguments, `arrive_count` of them do at the barrier of that number.

    Raises TileError (barrier-threads) for counts that are not whole warps of the block.
    """
    launch, span = _launch_at("T.sync_threads")
    number = 0 if barrier_id is None else as_integer(barrier_id)
    count = None if arrive_count is None else as_integer(arrive_count)
    threads = launch.threads[0] * launch.threads[1] * launch.threads[2]
    if number is None or not 0 <= number < 16:
        fail(
            Kind.BARRIER_THREADS,
            f"barrier_id is {describe_operand(barrier_id)}",
            span,
            because="a block has 16 barriers, numbered from 0, and number 0 is the one that T.sync_threads() uses",
            help="give a Python int from 1 to 15",
        )
    if arrive_count is not None and (count is None or count <= 0 or count % WARP_THREADS or count > -(-threads // WARP_THREADS) * WARP_THREADS):
        fail(
            Kind.BARRIER_THREADS,
            f"arrive_count is {describe_operand(arrive_count)}, and the block has {threads} threads",
            span,
            because=f"whole warps of {WARP_THREADS} threads of the block arrive at a barrier",
            help=f"give a multiple of {WARP_THREADS}, or leave it out: then all threads wait",
        )
    program_builder().emit(Barrier(span, BarrierScope.BLOCK, number, count))


def sync_warp(mask: Any = None) -> None:
    """The threads of each warp wait for each other."""
    _, span = _launch_at("T.sync_warp")
    program_builder().emit(Barrier(span, BarrierScope.WARP))


def sync_grid() -> None:
    """All threads of all blocks wait for each other."""
    _, span = _launch_at("T.sync_grid")
    program_builder().emit(Barrier(span, BarrierScope.GRID))


def sync_global() -> None:
    """All threads of all blocks wait for each other."""
    _, span = _launch_at("T.sync_global")
    program_builder().emit(Barrier(span, BarrierScope.GRID))


def tvm_storage_sync(scope: Any) -> None:
    """The barrier after which accesses to a memory are ordered: "shared" the block's, "warp" the warp's, "global" the grid's."""
    _, span = _launch_at("T.tvm_storage_sync")
    if not isinstance(scope, str) or scope not in _STORAGE_SCOPES:
        fail(
            Kind.SCOPE,
            f"T.tvm_storage_sync was given {describe_operand(scope)}",
            span,
            because=f"known are {', '.join(map(repr, _STORAGE_SCOPES))}",
            help="write T.sync_threads()",
        )
    program_builder().emit(Barrier(span, _STORAGE_SCOPES[scope]))


def pdl_trigger() -> None:
    """Lets the next launch of the function begin early: a hint, since launches run in order."""


def pdl_sync() -> None:
    """Waits for the launch before: it is done whenever this one runs."""


def _block_reduce(what: str, kind: ReduceKind, predicate: Any) -> Expr:
    launch, span = _launch_at(what)
    launch.is_thread_level = True
    result = var("threads", int32)
    program_builder().emit(BlockReduce(span, result, kind, cast(as_condition(predicate), int32), (0, 1, 2)))
    return result


def syncthreads_count(predicate: Any) -> Expr:
    """A barrier of the block; gives on how many threads the predicate holds, int32."""
    return _block_reduce("T.syncthreads_count", ReduceKind.SUM, predicate)


def syncthreads_and(predicate: Any) -> Expr:
    """A barrier of the block; gives 1 where the predicate holds on all threads, else 0, int32."""
    return _block_reduce("T.syncthreads_and", ReduceKind.MIN, predicate)


def syncthreads_or(predicate: Any) -> Expr:
    """A barrier of the block; gives 1 where the predicate holds on any thread, else 0, int32."""
    return _block_reduce("T.syncthreads_or", ReduceKind.MAX, predicate)


# -- warps


def _mask(mask: Any, what: str) -> Expr:
    number = as_integer(mask)
    if number is not None:
        return const(number & FULL_MASK, uint32)
    value = as_expr(mask)
    if not value.dtype.is_integer:
        fail(
            Kind.OPERAND,
            f"the mask of {what} is {describe_operand(mask)}",
            program_builder().here(),
            because="bit k of a mask says whether lane k takes part",
            help="write 0xFFFFFFFF for all lanes",
        )
    return cast(value, uint32)


def _exchange(what: str, kind: WarpExchangeKind, value: Expr, mask: Any, dtype: DType, operand: Any = None, width: Any = None) -> Expr:
    launch, span = _launch_at(what)
    launch.is_thread_level = True
    if value.dtype.lanes > 1 or value.dtype.is_packed or value.dtype == dtypes.handle:
        fail(
            Kind.OPERAND,
            f"{what} was given {value.dtype!s}",
            span,
            because="a lane gives one number of 8 to 64 bits",
            help="exchange the elements one after the other",
        )
    lanes = WARP_THREADS if width is None else as_integer(width)
    if lanes is None or lanes not in (1, 2, 4, 8, 16, 32):
        fail(
            Kind.OPERAND,
            f"the width of {what} is {describe_operand(width)}",
            span,
            because="a warp is cut into groups of 1, 2, 4, 8, 16 or 32 lanes",
            help="leave it out for the whole warp",
        )
    lane = None
    if operand is not None:
        lane = as_expr(operand)
        if not lane.dtype.is_integer:
            fail(Kind.OPERAND, f"the lane of {what} is {describe_operand(operand)}", span, because="lanes are counted in integers", help="convert it to int32")
        lane = cast(lane, int32)
    result = var(kind.value, dtype)
    program_builder().emit(WarpExchange(span, result, kind, value, lane, lanes, _mask(mask, what)))
    return result


def _shuffle(what: str, kind: WarpExchangeKind, value: Any, operand: Any, width: Any, mask: Any) -> Expr:
    given = as_expr(value)
    return _exchange(what, kind, given, mask, given.dtype, operand, width)


def shfl_sync(value: Any, src_lane: Any, width: Any = WARP_THREADS, mask: Any = FULL_MASK) -> Expr:
    """The value of lane `src_lane` of the group of `width` lanes."""
    return _shuffle("T.shfl_sync", WarpExchangeKind.SHUFFLE, value, src_lane, width, mask)


def shfl_xor(value: Any, delta: Any, width: Any = WARP_THREADS, mask: Any = FULL_MASK) -> Expr:
    """The value of the lane whose number differs in the bits of `delta`."""
    return _shuffle("T.shfl_xor", WarpExchangeKind.SHUFFLE_XOR, value, delta, width, mask)


def shfl_up(value: Any, delta: Any, width: Any = WARP_THREADS, mask: Any = FULL_MASK) -> Expr:
    """The value of the lane `delta` below; the lowest lanes of a group keep their own."""
    return _shuffle("T.shfl_up", WarpExchangeKind.SHUFFLE_UP, value, delta, width, mask)


def shfl_down(value: Any, delta: Any, width: Any = WARP_THREADS, mask: Any = FULL_MASK) -> Expr:
    """The value of the lane `delta` above; the highest lanes of a group keep their own."""
    return _shuffle("T.shfl_down", WarpExchangeKind.SHUFFLE_DOWN, value, delta, width, mask)


def tvm_warp_shuffle(mask: Any, value: Any, lane: Any, width: Any = WARP_THREADS, warp_size: Any = WARP_THREADS) -> Expr:
    """T.shfl_sync in another order of arguments."""
    return _shuffle("T.tvm_warp_shuffle", WarpExchangeKind.SHUFFLE, value, lane, width, mask)


def tvm_warp_shuffle_up(mask: Any, value: Any, delta: Any, width: Any = WARP_THREADS, warp_size: Any = WARP_THREADS) -> Expr:
    """T.shfl_up in another order of arguments."""
    return _shuffle("T.tvm_warp_shuffle_up", WarpExchangeKind.SHUFFLE_UP, value, delta, width, mask)


def tvm_warp_shuffle_down(mask: Any, value: Any, delta: Any, width: Any = WARP_THREADS, warp_size: Any = WARP_THREADS) -> Expr:
    """T.shfl_down in another order of arguments."""
    return _shuffle("T.tvm_warp_shuffle_down", WarpExchangeKind.SHUFFLE_DOWN, value, delta, width, mask)


def any_sync(predicate: Any, mask: Any = FULL_MASK) -> Expr:
    """1 where the predicate holds on any lane of the mask, else 0, int32."""
    return _exchange("T.any_sync", WarpExchangeKind.ANY, as_condition(predicate), mask, int32)


def all_sync(predicate: Any, mask: Any = FULL_MASK) -> Expr:
    """1 where the predicate holds on all lanes of the mask, else 0, int32."""
    return _exchange("T.all_sync", WarpExchangeKind.ALL, as_condition(predicate), mask, int32)


def ballot_sync(predicate: Any, mask: Any = FULL_MASK) -> Expr:
    """Bit k is the predicate of lane k, uint32."""
    return _exchange("T.ballot_sync", WarpExchangeKind.BALLOT, as_condition(predicate), mask, uint32)


def ballot(predicate: Any) -> Expr:
    """Bit k is the predicate of lane k, uint64."""
    return cast(_exchange("T.ballot", WarpExchangeKind.BALLOT, as_condition(predicate), FULL_MASK, uint32), dtypes.uint64)


def activemask() -> Expr:
    """Bit k is set where lane k runs this statement, uint32."""
    return _exchange("T.activemask", WarpExchangeKind.ACTIVE_MASK, const(True), FULL_MASK, uint32)


tvm_warp_activemask = activemask


def match_any_sync(value: Any, mask: Any = FULL_MASK) -> Expr:
    """Bit k is set where lane k has the same bits, uint32."""
    return _exchange("T.match_any_sync", WarpExchangeKind.MATCH_ANY, as_expr(value), mask, uint32)


def match_all_sync(value: Any, mask: Any = FULL_MASK) -> Expr:
    """The lanes that take part where all have the same bits, else 0, uint32."""
    return _exchange("T.match_all_sync", WarpExchangeKind.MATCH_ALL, as_expr(value), mask, uint32)


def _warp_reduce(what: str, kind: WarpExchangeKind, value: Any) -> Expr:
    given = as_expr(value)
    if given.dtype.is_bool or (given.dtype.is_float and kind in (WarpExchangeKind.BIT_AND, WarpExchangeKind.BIT_OR)):
        fail(
            Kind.REDUCE_DTYPE,
            f"{what} was given {given.dtype!s}",
            program_builder().here(),
            because="numbers are added and compared, bits are combined on integers",
            help="use T.any_sync or T.all_sync for conditions",
        )
    return _exchange(what, kind, given, FULL_MASK, given.dtype)


def warp_reduce_sum(value: Any) -> Expr:
    """The sum over the warp, on every lane."""
    return _warp_reduce("T.warp_reduce_sum", WarpExchangeKind.SUM, value)


def warp_reduce_max(value: Any) -> Expr:
    """The greatest value of the warp, on every lane."""
    return _warp_reduce("T.warp_reduce_max", WarpExchangeKind.MAX, value)


def warp_reduce_min(value: Any) -> Expr:
    """The least value of the warp, on every lane."""
    return _warp_reduce("T.warp_reduce_min", WarpExchangeKind.MIN, value)


def warp_reduce_bitand(value: Any) -> Expr:
    """The bitwise and over the warp, on every lane."""
    return _warp_reduce("T.warp_reduce_bitand", WarpExchangeKind.BIT_AND, value)


def warp_reduce_bitor(value: Any) -> Expr:
    """The bitwise or over the warp, on every lane."""
    return _warp_reduce("T.warp_reduce_bitor", WarpExchangeKind.BIT_OR, value)


__all__ = [
    "activemask",
    "all_sync",
    "any_sync",
    "ballot",
    "ballot_sync",
    "get_lane_idx",
    "get_warp_group_idx",
    "get_warp_idx",
    "get_warp_idx_sync",
    "match_all_sync",
    "match_any_sync",
    "pdl_sync",
    "pdl_trigger",
    "shfl_down",
    "shfl_sync",
    "shfl_up",
    "shfl_xor",
    "shuffle_elect",
    "sync_global",
    "sync_grid",
    "sync_threads",
    "sync_warp",
    "syncthreads_and",
    "syncthreads_count",
    "syncthreads_or",
    "tvm_storage_sync",
    "tvm_warp_activemask",
    "tvm_warp_shuffle",
    "tvm_warp_shuffle_down",
    "tvm_warp_shuffle_up",
    "warp_reduce_bitand",
    "warp_reduce_bitor",
    "warp_reduce_max",
    "warp_reduce_min",
    "warp_reduce_sum",
]
