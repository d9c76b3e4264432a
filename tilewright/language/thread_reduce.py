"""The cross-thread reduction of older programs (floor 5; language.md 10.5): a value combined over threads, the result on every one of them.

with T.attr(T.comm_reducer(lambda x, y: x + y, [T.cast(0, d)]), "reduce_scope", T.reinterpret(T.uint64(0), dtype="handle")):
    T.evaluate(T.tvm_thread_allreduce(T.uint32(1), value, True, out[0], tx, dtype="handle"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.expr import Expr, Op, as_condition, as_expr, as_integer, cast, describe_operand, select, var
from tilewright.ir.stmt import BlockReduce, ReduceKind
from tilewright.language.builder import program_builder
from tilewright.language.threads import flat_thread

_KINDS = {
    Op.ADD: ReduceKind.SUM,
    Op.MAX: ReduceKind.MAX,
    Op.MIN: ReduceKind.MIN,
    Op.BIT_AND: ReduceKind.BIT_AND,
    Op.BIT_OR: ReduceKind.BIT_OR,
    Op.BIT_XOR: ReduceKind.BIT_XOR,
}


@dataclass(frozen=True)
class CommReducer:
    """A commutative combination of two values, and the value that changes nothing."""

    kind: ReduceKind
    identity: Expr
    span: Span


def comm_reducer(combine: Callable[[Any, Any], Any], identity: Any) -> CommReducer:
    """The combination that a function of two values says: x + y, T.max, T.min, x & y, x | y or x ^ y.

    identity   a list of one value, which changes nothing when it is combined with another.
    Raises TileError (reduce-operation) for any other function.
    """
    span = program_builder().here()
    values = list(identity) if isinstance(identity, (list, tuple)) else [identity]
    if len(values) != 1:
        fail(
            Kind.REDUCE_OPERATION,
            f"T.comm_reducer was given {len(values)} identities",
            span,
            because="one value is combined at a time",
            help="write one reduction per value",
        )
    neutral = as_expr(values[0])
    left, right = var("x", neutral.dtype), var("y", neutral.dtype)
    made = combine(left, right)
    is_known = isinstance(made, Expr) and made.op in _KINDS and all(any(a is v for a in made.args) for v in (left, right))
    if not is_known:
        fail(
            Kind.REDUCE_OPERATION,
            f"T.comm_reducer combines x and y to {describe_operand(made)}",
            span,
            because="the operation must be commutative and associative: x + y, T.max(x, y), T.min(x, y), x & y, x | y or x ^ y",
            help="write lambda x, y: x + y",
        )
    return CommReducer(_KINDS[made.op], neutral, span)


@contextmanager
def attr(node: Any, key: Any, value: Any = None) -> Iterator[None]:
    """`with T.attr(T.comm_reducer(...), "reduce_scope", ...)`: what a T.tvm_thread_allreduce inside combines with."""
    builder = program_builder()
    span = builder.here()
    if not isinstance(node, CommReducer) or key != "reduce_scope":
        fail(
            Kind.THREAD_LEVEL,
            f"T.attr({describe_operand(node)}, {key!r}, ...) is not run",
            span,
            because='the attribute that programs need is "reduce_scope" of a T.comm_reducer',
            help="leave it out; hints have functions of their own, such as T.annotate_layout",
        )
    before, builder.thread_reducer = builder.thread_reducer, node
    try:
        yield
    finally:
        builder.thread_reducer = before


def tvm_thread_allreduce(size: Any, value: Any, condition: Any, result: Any, *threads: Any, dtype: Any = None) -> None:
    """Combines `value` over threads, and stores the result to the element `result` on every one of them. A barrier of the block.

    size        how many values are combined: 1.
    condition   threads on which it does not hold give the identity.
    threads     the thread variables over which it runs; the other coordinates stay apart.
    """
    builder = program_builder()
    span = builder.here()
    launch = builder.require_launch("T.tvm_thread_allreduce", span)
    flat_thread("T.tvm_thread_allreduce")
    reducer = builder.thread_reducer
    if not isinstance(reducer, CommReducer):
        fail(
            Kind.REDUCE_OPERATION,
            "T.tvm_thread_allreduce stands outside T.attr(T.comm_reducer(...), ...)",
            span,
            because="the reducer says how two values are combined",
            help='write it inside `with T.attr(T.comm_reducer(lambda x, y: x + y, [T.float32(0)]), "reduce_scope", ...)`',
        )
    size = size.value if isinstance(size, Expr) and size.is_const else size
    if as_integer(size) != 1:
        fail(
            Kind.REDUCE_OPERATION,
            f"T.tvm_thread_allreduce was given {describe_operand(size)} values",
            span,
            because="one value is combined at a time",
            help="write T.uint32(1), and one reduction per value",
        )
    axes = []
    for thread in threads:
        axis = next((k for k, v in enumerate(launch.thread_variables) if v is thread), None)
        if axis is None:
            fail(
                Kind.OPERAND,
                f"T.tvm_thread_allreduce runs over {describe_operand(thread)}",
                (Label(span), Label(launch.span, "the launch")),
                because="it combines the values of the threads along axes of the block",
                help="give thread variables: T.get_thread_binding(0), (1) or (2)",
            )
        axes.append(axis)
    target = as_expr(result)
    if target.op is not Op.LOAD:
        fail(
            Kind.OPERAND,
            f"the result of T.tvm_thread_allreduce is {describe_operand(result)}",
            span,
            because="every thread stores the result to an element",
            help="give an element, such as out[0] of T.alloc_local((1,), dtype)",
        )
    kind = reducer.identity.dtype
    given = cast(as_expr(value), kind)
    holds = as_condition(condition)
    total = var("total", kind)
    part = select(holds, given, reducer.identity, is_lazy=True)
    builder.emit(BlockReduce(span, total, reducer.kind, part, tuple(sorted(set(axes)))))
    builder.store_region(target, total)


__all__ = ["attr", "comm_reducer", "tvm_thread_allreduce"]
