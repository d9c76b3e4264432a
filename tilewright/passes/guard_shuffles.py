"""Gives a thread its own value where a shuffle names a lane that its warp does not have (floor 5), for GPUs.

The last warp of a block may have fewer than 32 threads. What hardware gives for a lane that does not run the shuffle is undefined; the language says that
a thread keeps its own value, as where the lane lies outside of the thread's group.
Source: PTX ISA, "Data Movement and Conversion Instructions: shfl.sync".
"""

from __future__ import annotations

import dataclasses
import math

from tilewright.ir.expr import Expr, Op, binary, const, select, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import WARP_THREADS, Let, Seq, WarpExchange, WarpExchangeKind
from tilewright.ir.visit import replace_by_several
from tilewright.passes.context import Remarks
from tilewright.passes.expand_threads import flat_thread

_GUARDED = (WarpExchangeKind.SHUFFLE, WarpExchangeKind.SHUFFLE_DOWN, WarpExchangeKind.SHUFFLE_XOR)


def guard_shuffles(program: Program, context: Remarks) -> Program:
    """Thread-level launches whose shuffles use no value of a lane that does not exist; launches of whole warps stay as they are."""
    return dataclasses.replace(program, launches=tuple(_guarded_launch(x) if x.is_thread_level else x for x in program.launches))


def _guarded_launch(launch: Launch) -> Launch:
    count = math.prod(launch.threads)
    if count % WARP_THREADS == 0:
        return launch
    flat = flat_thread(launch.threads, launch.thread_variables)
    body = replace_by_several(launch.body, lambda s: _guarded(s, flat, count) if isinstance(s, WarpExchange) and s.kind in _GUARDED else None)
    return launch if body is launch.body else dataclasses.replace(launch, body=body)


def _guarded(node: WarpExchange, flat: Expr, count: int) -> Seq | None:
    """The shuffle with the choice behind it; None where every lane that it may name exists."""
    operand, width = node.operand, node.width
    assert operand is not None
    lane = flat % WARP_THREADS
    match node.kind:
        case WarpExchangeKind.SHUFFLE:
            last_group = (count - 1) % WARP_THREADS // width * width
            if operand.is_const and last_group + operand.value % width < count % WARP_THREADS:
                return None
            source = flat - lane % width + binary(Op.BIT_AND, operand, width - 1)
        case WarpExchangeKind.SHUFFLE_DOWN:
            source = flat + operand
        case _:
            source = flat - lane + binary(Op.BIT_XOR, lane, binary(Op.BIT_AND, operand, WARP_THREADS - 1))
    own, received = var("own", node.value.dtype), var(node.result.name, node.result.dtype)
    chosen = select(binary(Op.LT, source, const(count)), received, own)
    return Seq(node.span, (Let(node.span, own, node.value), dataclasses.replace(node, value=own, result=received), Let(node.span, node.result, chosen)))


__all__ = ["guard_shuffles"]
