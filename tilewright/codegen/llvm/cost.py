"""A rough guess of how long a block runs (floor 6), so that blocks are handed to threads in pieces worth the hand-over."""

from __future__ import annotations

from tilewright.ir.expr import Expr, Op
from tilewright.ir.stmt import AtomicUpdate, For, If, MatrixMultiply, PackPanels, ParallelFor, ReduceLoop, Seq, Stmt, StreamMultiply, While
from tilewright.ir.visit import own_expressions, subexpressions

# Taking a chunk costs some 50 ns when threads contend for the counter, waking a thread several microseconds.
CHUNK_NANOSECONDS = 15_000.0
UNKNOWN_EXTENT = 64
NODE_NANOSECONDS = 0.5
CALL_NANOSECONDS = 8.0
ATOMIC_NANOSECONDS = 8.0
VECTOR_SPEED_UP = 6.0
PRODUCT_FLOPS_PER_NANOSECOND = 25.0
STREAM_BYTES_PER_NANOSECOND = 20.0


def blocks_per_chunk(body: Stmt) -> int:
    """How many blocks one thread should take at a time."""
    return max(1, int(CHUNK_NANOSECONDS / max(statement_nanoseconds(body), 1.0)))


def statement_nanoseconds(node: Stmt) -> float:
    """One run of a statement on one thread; loops of unknown extent count as `UNKNOWN_EXTENT` turns."""
    match node:
        case Seq():
            return sum(map(statement_nanoseconds, node.body))
        case For():
            return _extent(node.extent) * (1.0 + statement_nanoseconds(node.body))
        case While():
            return UNKNOWN_EXTENT * (_expressions(node) + statement_nanoseconds(node.body))
        case ParallelFor():
            turns = 1.0
            for extent in node.extents:
                turns *= _extent(extent)
            return turns * statement_nanoseconds(node.body) / VECTOR_SPEED_UP
        case If():
            otherwise = 0.0 if node.else_body is None else statement_nanoseconds(node.else_body)
            return _expressions(node) + max(statement_nanoseconds(node.then_body), otherwise)
        case ReduceLoop():
            inner = 0.0 if node.body is None else statement_nanoseconds(node.body)
            return _extent(node.extent) * (_expressions(node) + inner) / VECTOR_SPEED_UP
        case MatrixMultiply():
            return 2.0 * node.rows * node.columns * _extent(node.depth) / PRODUCT_FLOPS_PER_NANOSECOND
        case StreamMultiply():
            elements = node.blocks * node.columns * _extent(node.depth)
            return max(2.0 * node.rows * elements / PRODUCT_FLOPS_PER_NANOSECOND, elements * node.b.dtype.itemsize / STREAM_BYTES_PER_NANOSECOND)
        case PackPanels():
            return node.depth * node.columns * NODE_NANOSECONDS
        case AtomicUpdate():
            return ATOMIC_NANOSECONDS + _expressions(node)
    return _expressions(node)


def _extent(extent: Expr) -> float:
    return float(max(extent.value, 0)) if extent.is_const else UNKNOWN_EXTENT


def _expressions(node: Stmt) -> float:
    total = 0.0
    for root in own_expressions(node):
        for inner in subexpressions(root):
            total += CALL_NANOSECONDS if inner.op is Op.CALL else NODE_NANOSECONDS if inner.args else 0.0
    return total
