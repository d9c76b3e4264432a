"""Loops of the language (floor 5): what `for ... in T.xxx(...)` runs over. The statement itself is made by `trace.LoopState`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tilewright.errors import Kind, Span, fail
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, as_expr, as_integer, binary, ceildiv, const, describe_operand, maximum, select
from tilewright.ir.stmt import LoopKind, Pipeline
from tilewright.language.builder import program_builder
from tilewright.spans import span_of_caller


@dataclass(frozen=True)
class LoopRange:
    """What a kernel loop runs over, and where it was made: where it is used depends on the Python version, which may trace comprehensions in frames."""

    text: str
    extents: tuple[Expr, ...]
    is_tuple: bool
    span: Span

    def __iter__(self) -> Iterator[Any]:
        fail(
            Kind.LOOP_ITERABLE,
            f"{self.text} was used outside a `for` statement of a kernel",
            self.span,
            because="its iterations exist when the kernel runs, so Python cannot list them",
            help="write `for i in ...:` in the kernel; for Python values, use plain integers and comprehensions over tuples",
        )


@dataclass(frozen=True)
class ParallelRange(LoopRange):
    """T.Parallel: independent iterations over a box."""


@dataclass(frozen=True)
class SerialRange(LoopRange):
    """Counted loops; index k of axis d is starts[d] + k * steps[d]."""

    starts: tuple[Expr, ...] = ()
    steps: tuple[Expr, ...] = ()
    kind: LoopKind = LoopKind.SERIAL
    pipeline: Pipeline | None = None

    def value(self, axis: int, variable: Expr) -> Expr:
        return self.starts[axis] + variable * self.steps[axis]


@dataclass(frozen=True)
class BindingLoop(LoopRange):
    """T.thread_binding: a loop that is a grid or thread axis."""

    thread: str = ""


def as_extent(value: Any, what: str, kind: Kind = Kind.LOOP_EXTENT, because: str = "a loop runs a whole number of times") -> Expr:
    """A loop or grid extent: an integer, known or not."""
    is_tile = isinstance(value, Buffer) and value.scope is not Scope.VARIABLE
    number = as_integer(value)
    if is_tile or not (isinstance(value, Expr) or hasattr(value, "as_expression") or number is not None):
        fail(
            kind,
            f"{what} is {describe_operand(value)}, not an integer",
            span_of_caller(),
            because=because,
            help=f"write {value.name}.shape[0]" if is_tile else "use an int, T.ceildiv(a, b) or a // b",
        )
    expression = as_expr(value if number is None else number)
    if not expression.dtype.is_integer:
        fail(
            kind,
            f"{what} is `{expression}`, which is {expression.dtype!s}, not an integer",
            span_of_caller(),
            because=because,
            help="convert it with T.cast(x, 'int32')",
        )
    builder = program_builder()
    return builder.snapshot(expression, "extent") if builder.launch is not None else expression


def _serial_range(text: str, start: Any, stop: Any, step: Any, kind: LoopKind, pipeline: Pipeline | None = None) -> SerialRange:
    if stop is None:
        start, stop = 0, start
    first, last = as_extent(start, f"the start of {text}"), as_extent(stop, f"the end of {text}")
    stride = const(1) if step is None else as_extent(step, f"the step of {text}")
    if stride.is_const and stride.value == 0:
        fail(
            Kind.LOOP_STEP,
            f"the step of {text} is 0",
            span_of_caller(),
            because="the loop would never end",
            help="leave the step out, or give a positive or negative one",
        )
    if not stride.is_const:
        warnings.warn(f"{span_of_caller()}: the step of {text} is not constant", stacklevel=4)
    if stride.is_const:
        extent = ceildiv(last - first, stride) if stride.value > 0 else ceildiv(first - last, -stride)
    else:
        extent = select(stride > 0, ceildiv(last - first, maximum(stride, 1)), ceildiv(first - last, maximum(-stride, 1)))
    if extent.is_const and extent.value < 0:
        extent = const(0, extent.dtype)
    return SerialRange(text, (extent,), False, span_of_caller(), (first,), (stride,), kind, pipeline)


def serial(start: Any, stop: Any = None, step: Any = None, *, annotations: Any = None) -> SerialRange:
    """`for i in T.serial(start, stop, step)`: one iteration after the other."""
    return _serial_range("T.serial", start, stop, step, LoopKind.SERIAL)


def range_loop(*bounds: Any) -> SerialRange:
    """What `range` means inside kernels: T.serial."""
    if not 1 <= len(bounds) <= 3:
        kind = Kind.UNKNOWN_ARGUMENT if bounds else Kind.MISSING_ARGUMENT
        fail(
            kind,
            f"range was given {len(bounds)} arguments",
            span_of_caller(),
            because="it takes an end, or a start and an end, and then a step",
            help="write range(n) or range(start, end, step)",
        )
    start, stop, step = (*bounds, None, None)[:3]
    return _serial_range("range", start, stop, step, LoopKind.SERIAL)


def unroll(start: Any, stop: Any = None, step: Any = None, *, explicit: bool = False, unroll_factor: int | None = None, annotations: Any = None) -> SerialRange:
    """A serial loop that should be unrolled; `explicit` and `unroll_factor` exclude each other and never change a result."""
    if explicit and unroll_factor is not None:
        fail(
            Kind.OPTION_VALUE,
            f"T.unroll was given explicit=True and unroll_factor={unroll_factor}",
            span_of_caller(),
            because="an explicit unroll expands every iteration, a factor only some",
            help="give one of the two",
        )
    return _serial_range("T.unroll", start, stop, step, LoopKind.UNROLLED)


def vectorized(start: Any, stop: Any = None, *, annotations: Any = None) -> SerialRange:
    """A loop that one thread does as a vector operation."""
    return _serial_range("T.vectorized", start, stop, None, LoopKind.VECTORIZED)


def Pipelined(
    start: Any, stop: Any = None, num_stages: int = 0, order: Any = None, stage: Any = None, sync: Any = None, group: Any = None, annotations: Any = None
) -> SerialRange:
    """A serial loop whose global-to-shared copies may run `num_stages` turns ahead; the results are those of the serial loop.

    order, stage   one entry per statement of the body: the place in the turn, and how many turns later it runs.
    """
    if not isinstance(num_stages, int) or isinstance(num_stages, bool) or num_stages < 0:
        fail(
            Kind.PIPELINE_STAGES,
            f"num_stages is {num_stages if isinstance(num_stages, int) else describe_operand(num_stages)}",
            span_of_caller(),
            because="it counts tiles in flight: an integer from 0 (no pipelining)",
            help="write num_stages=2",
        )
    plan = Pipeline(num_stages, _integers(order, "order"), _integers(stage, "stage"), _groups(group))
    if plan.order and plan.stage and len(plan.order) != len(plan.stage):
        fail(
            Kind.PIPELINE_ORDER,
            f"order has {len(plan.order)} entries, stage has {len(plan.stage)}",
            span_of_caller(),
            because="both have one entry per statement of the body",
            help="give as many entries in both",
        )
    if sorted(plan.order) != list(range(len(plan.order))):
        fail(
            Kind.PIPELINE_ORDER,
            f"order={order!r} does not put each statement in a place of its own",
            span_of_caller(),
            because=f"{len(plan.order)} statements have the places 0 to {len(plan.order) - 1}, each once",
            help=f"give each number from 0 to {len(plan.order) - 1} once",
        )
    return _serial_range("T.Pipelined", start, stop, None, LoopKind.PIPELINED, plan)


def _integers(value: Any, name: str) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value):
        fail(
            Kind.PIPELINE_ORDER,
            f"{name} is {value!r}",
            span_of_caller(),
            because=f"{name} has one entry per statement of the body, each an integer from 0 on",
            help=f"write {name}=[0, 1, ...], or leave it out",
        )
    return tuple(value)


def _groups(value: Any) -> tuple[tuple[int, ...], ...]:
    if value is not None and not isinstance(value, (list, tuple)):
        fail(
            Kind.PIPELINE_ORDER,
            f"group is {value!r}",
            span_of_caller(),
            because="it is a list of lists of statement numbers",
            help="leave it out: the compiler groups the statements",
        )
    return tuple(_integers(g, "an entry of group") for g in value or ())


def Parallel(*extents: Any, coalesced_width: int | None = None, loop_layout: Any = None, prefer_async: Any = None, annotations: Any = None) -> ParallelRange:
    """`for i, j in T.Parallel(m, n)`: independent iterations, in any order, spread over the block."""
    if not extents:
        fail(Kind.LOOP_EXTENT, "T.Parallel has no extent", span_of_caller(), because="a parallel loop needs one extent per index", help="write T.Parallel(n)")
    made = tuple(as_extent(e, f"extent {k} of T.Parallel") for k, e in enumerate(extents))
    for k, extent in enumerate(made):
        if extent.is_const and extent.value < 0:
            fail(
                Kind.LOOP_EXTENT,
                f"extent {k} of T.Parallel is {extent.value}",
                span_of_caller(),
                because="a loop cannot run a negative number of times",
                help="give an extent of at least 0",
            )
    return ParallelRange("T.Parallel", made, len(made) > 1, span_of_caller())


def parallel(start: Any, stop: Any = None, *, annotations: Any = None) -> ParallelRange:
    """The one-dimensional spelling of T.Parallel."""
    return Parallel(start if stop is None else as_extent(stop, "the end of T.parallel") - as_extent(start, "the start of T.parallel"))


def grid(*extents: Any) -> SerialRange:
    """Nested serial loops, the last index fastest."""
    if not extents:
        fail(Kind.LOOP_EXTENT, "T.grid has no extent", span_of_caller(), because="a loop nest needs one extent per index", help="write T.grid(m, n)")
    made = tuple(as_extent(e, f"extent {k} of T.grid") for k, e in enumerate(extents))
    return SerialRange("T.grid", made, True, span_of_caller(), tuple(const(0, e.dtype) for e in made), tuple(const(1, e.dtype) for e in made))


def thread_binding(extent: Any, thread: str = "blockIdx.x", *, annotations: Any = None) -> BindingLoop:
    """A loop bound to a grid or thread axis."""
    return BindingLoop("T.thread_binding", (as_extent(extent, "the extent of T.thread_binding"),), False, span_of_caller(), thread)


def Persistent(domain: Any, wave_size: Any, index: Any, group_size: int = 8) -> PersistentRange:
    """Tile coordinates for one of `wave_size` persistent blocks: ids index, index + wave_size, ... over the domain.

    The last dimension is visited in groups of `group_size` columns (a group's rows first), so every point is visited exactly once overall.
    """
    if not isinstance(domain, (list, tuple)) or not domain:
        fail(
            Kind.LOOP_EXTENT,
            f"the domain of T.Persistent is {describe_operand(domain) if not isinstance(domain, (list, tuple)) else 'empty'}",
            span_of_caller(),
            because="it has one extent per coordinate",
            help="write T.Persistent([m_tiles, n_tiles], wave_size, index)",
        )
    extents = tuple(as_extent(e, f"domain[{k}] of T.Persistent") for k, e in enumerate(domain))
    for value, what in ((wave_size, "wave_size"), (group_size, "group_size")):
        if isinstance(value, int) and value <= 0:
            fail(
                Kind.LOOP_EXTENT,
                f"{what} of T.Persistent is {value}",
                span_of_caller(),
                because="blocks and groups are counted from 1",
                help=f"give a positive {what}",
            )
    return PersistentRange(
        "T.Persistent",
        extents,
        True,
        span_of_caller(),
        as_extent(wave_size, "wave_size of T.Persistent"),
        as_extent(index, "index of T.Persistent"),
        as_extent(group_size, "group_size of T.Persistent"),
    )


@dataclass(frozen=True)
class PersistentRange(LoopRange):
    """T.Persistent."""

    wave_size: Expr
    index: Expr
    group_size: Expr

    def total(self) -> Expr:
        count = const(1)
        for extent in self.extents:
            count = count * extent
        return count

    def coordinates(self, flat: Expr) -> tuple[Expr, ...]:
        """The domain point of a linear id: the last axis in groups, the other axes in row-major order inside a group.

        A group of g columns over R rows (all other axes flattened) holds R * g points; the last group may be narrower, which keeps every id
        in range and the map one to one.
        """
        *outer, last = self.extents
        rows = const(1)
        for extent in outer:
            rows = rows * extent
        group_points = rows * self.group_size
        group = flat // group_points
        inside = flat % group_points
        width = binary(Op.MIN, last - group * self.group_size, self.group_size)
        row, column = inside // width, group * self.group_size + inside % width
        coordinates: list[Expr] = []
        for extent in reversed(outer):
            coordinates.append(row % extent)
            row = row // extent
        return (*reversed(coordinates), column)
