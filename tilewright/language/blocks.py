"""`if`, `for` and `while` of a kernel while their bodies are traced (floor 5): the statements they become, and what they do to names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Buffer, Region
from tilewright.ir.expr import Expr, Op, as_condition, ceildiv, const, unary, var
from tilewright.ir.stmt import Break, For, If, Let, LoopKind, ParallelFor, Seq, Stmt, While
from tilewright.ir.visit import subexpressions
from tilewright.language.binding_loops import bind_axis
from tilewright.language.builder import FrameKind, ProgramBuilder
from tilewright.language.loop_checks import can_end, check_pipeline
from tilewright.language.loops import BindingLoop, LoopRange, ParallelRange, PersistentRange, SerialRange
from tilewright.language.names import Carried, Place, Poison, PoisonReason, Reader, bound, is_same_value, peek, variable_help


class _Scoped:
    """Names that a branch or loop binds: what they were before, and what may be known of them afterwards."""

    is_dynamic = True

    def __init__(
        self, builder: ProgramBuilder, names: tuple[str, ...], readers: tuple[Reader, ...], places: tuple[Place, ...], containers: tuple[Reader, ...]
    ) -> None:
        self.builder, self.names = builder, names
        self.span = builder.here()
        self.before = [bound(peek(r), self.span) for r in readers]
        held = [(place, peek(reader)) for place, reader in zip(places, containers, strict=True)]
        self.containers = [(place, value, _contents(value)) for place, value in held if isinstance(value, (list, dict, set, bytearray))]

    def check_containers(self) -> None:
        """A diagnostic where a Python list, dictionary or set was changed: it would not change as often as the kernel runs the block."""
        for (name, *position), value, contents in self.containers:
            if self.is_dynamic and not _is_same(_contents(value), contents):
                where = "a branch" if isinstance(self, BranchState) else "a loop"
                fail(
                    Kind.CONTAINER_MUTATION,
                    f"the {type(value).__name__} `{name}` changes inside {where} of the kernel",
                    (Label(Span(self.span.file, *position)), Label(self.span, where)),
                    because="a block is traced once, whether the kernel runs it never, once or many times; a Python object changes as it is traced",
                    help="keep what changes when the kernel runs in a T.alloc_var or a tile, or build the object before the block",
                )


def _contents(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [x for item in value.items() for x in item]
    return sorted(value, key=id) if isinstance(value, set) else list(value)


def _is_same(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(a is b or is_same_value(a, b) for a, b in zip(now, before, strict=True))


class _LoopScope(_Scoped):
    """What `for` and `while` share: the body is traced once for all turns."""

    def enter(self, readers: tuple[Reader, ...]) -> list[Any]:
        """At the start of the body: what the names were before the loop."""
        self.entered = [Carried(v, []) if isinstance(v, (Expr, bool, int, float)) else v for v in self.before]
        return self.entered

    def leave(self, readers: tuple[Reader, ...]) -> list[Any]:
        """Afterwards: a name that the body left alone keeps its value; any other may not be read."""
        self.check_containers()
        result: list[Any] = []
        for position, reader in enumerate(readers):
            now = bound(peek(reader), self.span)
            if position >= len(self.before):  # the loop's own index
                result.append(now if isinstance(now, Poison) else Poison(PoisonReason.LOOP, self.span))
                continue
            old, entered = self.before[position], self.entered[position]
            if is_same_value(now, old):
                result.append(old)
                continue
            if isinstance(entered, Carried) and entered.reads:
                name = self.names[position]
                fail(
                    Kind.LOOP_REBINDING,
                    f"`{name}` is carried from one turn of the loop to the next",
                    (Label(entered.reads[0], "read here"), Label(self.span, "the loop")),
                    because="a plain name is one value, fixed when the kernel is traced, and the body is traced once for all turns",
                    help=variable_help(name),
                )
            is_poisoned = isinstance(now, Poison) and now.reason is not PoisonReason.UNBOUND
            result.append(now if is_poisoned else Poison(PoisonReason.LOOP, self.span))
        return result


class BranchState(_Scoped):
    """`if`: one path where the condition is known, both where it is not."""

    def __init__(
        self,
        builder: ProgramBuilder,
        condition: Expr | bool,
        names: tuple[str, ...],
        readers: tuple[Reader, ...],
        places: tuple[Place, ...],
        containers: tuple[Reader, ...],
    ) -> None:
        super().__init__(builder, names, readers, places, containers)
        self.condition = condition.value if isinstance(condition, Expr) and condition.is_const else condition
        self.is_dynamic = isinstance(self.condition, Expr)
        self.is_entered = False
        self.after_first: list[Any] | None = None

    def __iter__(self) -> Iterator[bool]:
        if not isinstance(self.condition, Expr):
            yield bool(self.condition)
            return
        condition = self.builder.snapshot(self.condition, "condition")
        bodies: list[list[Stmt]] = []
        variables = tuple(n for n in subexpressions(self.condition) if n.op is Op.VAR)
        with self.builder.frame(FrameKind.BRANCH, self.span, variables):
            for taken in (True, False):
                with self.builder.block() as body:
                    yield taken
                bodies.append(body)
        if bodies[0] or bodies[1]:
            otherwise = Seq(self.span, tuple(bodies[1])) if bodies[1] else None
            self.builder.emit(If(self.span, condition, Seq(self.span, tuple(bodies[0])), otherwise))

    def enter(self, readers: tuple[Reader, ...]) -> list[Any]:
        """At the start of each path: what the names were before the `if`."""
        if self.is_entered:
            self.after_first = [bound(peek(r), self.span) for r in readers]
        self.is_entered = True
        return self.before

    def leave(self, readers: tuple[Reader, ...]) -> list[Any]:
        """Afterwards: a name that has one value on both paths keeps it; any other may not be read."""
        self.check_containers()
        last = [bound(peek(r), self.span) for r in readers]
        if not self.is_dynamic:
            return last
        first = self.after_first or last
        return [a if is_same_value(a, b) else Poison(PoisonReason.BRANCH, self.span) for a, b in zip(first, last, strict=True)]


class LoopState(_LoopScope):
    """`for`: the body is traced once."""

    def __init__(
        self,
        builder: ProgramBuilder,
        range_: LoopRange,
        width: int,
        targets: tuple[str, ...],
        names: tuple[str, ...],
        readers: tuple[Reader, ...],
        places: tuple[Place, ...],
        containers: tuple[Reader, ...],
    ) -> None:
        super().__init__(builder, names, readers, places, containers)
        self.range, self.width, self.targets = range_, width, targets

    def __iter__(self) -> Iterator[Any]:
        expected = len(self.range.extents) if self.range.is_tuple else 1
        given = self.width or 1
        if given != expected and not (self.width == 0 and self.range.is_tuple):
            fail(
                Kind.LOOP_UNPACK,
                f"the loop has {expected} ind{'ices' if expected > 1 else 'ex'}, but {given} name{'s' * (given > 1)}",
                self.span,
                because=f"{self.range.text} gives one index per extent",
                help=f"write {expected} name{'s' * (expected > 1)} before `in`",
            )
        names = self.targets if len(self.targets) == expected else tuple(f"{self.targets[0]}_{k}" for k in range(expected))
        match self.range:
            case ParallelRange():
                yield from self._parallel(self.range, names)
            case SerialRange():
                yield from self._serial(self.range, names)
            case PersistentRange():
                yield from self._persistent(self.range, names)
            case BindingLoop():
                yield from bind_axis(self.builder, self.range, names[0])

    def _parallel(self, loop: ParallelRange, names: tuple[str, ...]) -> Iterator[Any]:
        builder = self.builder
        outer = next((f for f in reversed(builder.frames) if f.kind is FrameKind.PARALLEL), None)
        if outer is not None and builder.frames[-1] is not outer:
            fail(
                Kind.LOOP_NESTING,
                "a T.Parallel loop stands inside another one, with something between them",
                (Label(self.span), Label(outer.span, "the outer loop")),
                because="parallel loops nest only directly, as one box of iterations",
                help="write one T.Parallel with all extents",
            )
        variables = tuple(var(name) for name in names)
        with builder.frame(FrameKind.PARALLEL, self.span, variables), builder.block() as body:
            yield variables[0] if self.width == 0 and len(variables) == 1 else variables
        if any(v in builder.ordered for v in variables):
            inner_body: Stmt = Seq(self.span, tuple(body))
            for variable, extent in zip(reversed(variables), reversed(loop.extents), strict=True):
                inner_body = For(self.span, variable, extent, LoopKind.SERIAL, inner_body)
            builder.emit(inner_body)
            return
        nested = body[0] if len(body) == 1 and isinstance(body[0], ParallelFor) else None
        inner = next((s for s in body if isinstance(s, ParallelFor)), None)
        if inner is not None and not all(isinstance(s, Let) or s is inner for s in body):
            fail(
                Kind.LOOP_NESTING,
                "a T.Parallel loop stands inside another one, beside other statements",
                (Label(inner.span), Label(self.span, "the outer loop")),
                because="parallel loops nest only directly, as one box of iterations",
                help="write one T.Parallel with all extents, or two loops one after the other",
            )
        if nested is not None:
            builder.emit(ParallelFor(self.span, variables + nested.variables, loop.extents + nested.extents, nested.body))
        elif body:
            builder.emit(ParallelFor(self.span, variables, loop.extents, Seq(self.span, tuple(body))))

    def _serial(self, loop: SerialRange, names: tuple[str, ...]) -> Iterator[Any]:
        builder = self.builder
        if loop.kind is LoopKind.PIPELINED and builder.is_inside(FrameKind.PARALLEL):
            outer = next(f for f in builder.frames if f.kind is FrameKind.PARALLEL)
            fail(
                Kind.LOOP_NESTING,
                "T.Pipelined stands inside T.Parallel",
                (Label(self.span), Label(outer.span, "the parallel loop")),
                because="a pipeline moves whole tiles; one iteration of T.Parallel belongs to one thread",
                help="exchange the loops, or use T.serial inside",
            )
        variables = tuple(var(name, extent.dtype) for name, extent in zip(names, loop.extents, strict=True))
        with builder.frame(FrameKind.LOOP, self.span, variables), builder.block() as body:
            values = tuple(loop.value(k, v) for k, v in enumerate(variables))
            yield values if loop.is_tuple else values[0]
        if loop.pipeline is not None:
            check_pipeline(loop.pipeline, body, self.span)
        made: Stmt = Seq(self.span, tuple(body))
        for variable, extent in reversed(list(zip(variables, loop.extents, strict=True))):
            made = For(self.span, variable, extent, loop.kind, made, loop.pipeline)
        if body:
            builder.emit(made)

    def _persistent(self, loop: PersistentRange, names: tuple[str, ...]) -> Iterator[Any]:
        builder = self.builder
        total = builder.snapshot(loop.total(), "total")
        wave = var("wave")
        with builder.frame(FrameKind.LOOP, self.span, (wave,)), builder.block() as body:
            flat = wave * loop.wave_size + loop.index
            coordinates = tuple(builder.let(name, c) for name, c in zip(names, loop.coordinates(flat), strict=True))
            with builder.frame(FrameKind.BRANCH, self.span), builder.block() as inner:
                yield coordinates
        guarded = If(self.span, flat < total, Seq(self.span, tuple(inner)))
        builder.emit(For(self.span, wave, ceildiv(total, loop.wave_size), LoopKind.SERIAL, Seq(self.span, (*body, guarded))))


class WhileState(_LoopScope):
    """`while`: condition and body are traced once."""

    def __init__(
        self, builder: ProgramBuilder, names: tuple[str, ...], readers: tuple[Reader, ...], places: tuple[Place, ...], containers: tuple[Reader, ...]
    ) -> None:
        super().__init__(builder, names, readers, places, containers)
        self.test: Expr | None = None
        self.body: list[Stmt] = []
        self.prefix_count = 0  # statements at the beginning of the body that compute the condition

    def condition(self, value: Any) -> None:
        self.prefix_count = len(self.body)
        test = as_condition(value) if isinstance(value, (Expr, Buffer, Region)) else const(bool(value))
        here = self.builder.here()
        if test.is_const and test.value:
            fail(
                Kind.WHILE_CONSTANT,
                "the condition of `while` is constant and true: the loop would never end",
                here,
                because="it does not depend on anything that the kernel changes",
                help="test a T.alloc_var that the body updates",
            )
        if test.is_const:
            warnings.warn(f"{here}: the condition of `while` is always false: the loop never runs", stacklevel=3)
        self.test = test

    def __iter__(self) -> Iterator[None]:
        with self.builder.frame(FrameKind.WHILE, self.span), self.builder.block() as self.body:
            yield None
        if self.test is None or (self.test.is_const and not self.test.value):
            return
        prefix, rest = self.body[: self.prefix_count], self.body[self.prefix_count :]
        if prefix:
            leave = If(self.span, unary(Op.NOT, self.test), Seq(self.span, (Break(self.span),)))
            self.builder.emit(While(self.span, const(True), Seq(self.span, (*prefix, leave, *rest))))
            return
        if not can_end(self.test, self.body):
            fail(
                Kind.WHILE_CONSTANT,
                "nothing in this loop changes its condition: once begun, it would never end",
                self.span,
                because="the condition depends only on values that the body leaves as they are, and there is no `break`",
                help="update a T.alloc_var that the condition tests",
            )
        self.builder.emit(While(self.span, self.test, Seq(self.span, tuple(rest))))
