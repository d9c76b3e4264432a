"""Where each shared buffer of a block lies (floor 5).

Buffers whose contents are needed at different times share memory; what an asynchronous copy fills is needed until the wait for it, read or not. Before
the first access to the later one, a barrier must stand behind the last access to the earlier one, in a loop also from the end of a turn to the next one;
where there is none, one is inserted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from tilewright.errors import Kind, Label, fail
from tilewright.intrin.nvidia.cp_async import CP_ASYNC_COMMIT_GROUP, CP_ASYNC_WAIT_ALL, CP_ASYNC_WAIT_GROUP, CpAsync
from tilewright.ir.buffer import Buffer, Scope, format_shape
from tilewright.ir.expr import Expr, Op
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import Launch, Program, SharedMemoryPlan
from tilewright.ir.stmt import AtomicUpdate, Barrier, BarrierScope, For, If, Let, Seq, Stmt, Store, WarpExchange, While
from tilewright.ir.thread import Address, InstructionCall, Registers, VectorCopy
from tilewright.ir.visit import inner_statements, names_made, statements, subexpressions
from tilewright.passes.context import GpuPassContext, TileVersions
from tilewright.passes.walk import buffers_of

ALIGNMENT_BYTES = 128  # of a buffer: a row of all banks
Interval = tuple[int, int]


def plan_shared_memory(program: Program, context: GpuPassContext) -> Program:
    """Sets `Launch.shared_memory`. Raises TileError (shared-memory-exceeded) where a block may not have that much."""
    return dataclasses.replace(program, launches=tuple(_plan_launch(program.name, launch, context) for launch in program.launches))


def _plan_launch(name: str, launch: Launch, context: GpuPassContext) -> Launch:
    survey = _Survey(launch, context)
    buffers = [b for b in launch.buffers if b.scope is Scope.SHARED and b.source is None]
    sizes = {b: _size_bytes(b) for b in buffers}
    offsets = _place(buffers, sizes, survey)
    size = _total(offsets, sizes)
    if size > context.target.shared_bytes_per_block:
        _refuse(name, launch, sizes, size, survey, context)
    body = _with_barriers(launch, survey, offsets, sizes)
    return dataclasses.replace(launch, body=body, shared_memory=SharedMemoryPlan(tuple(offsets.items()), size))


def _size_bytes(buffer: Buffer) -> int:
    return -(-math.prod(buffer.static_shape) * buffer.dtype.storage_bits // 8)


def _total(offsets: Mapping[Buffer, int], sizes: Mapping[Buffer, int]) -> int:
    return max((offset + sizes[b] for b, offset in offsets.items()), default=0)


# -- when contents are needed


def accessed(stmt: Stmt) -> set[Buffer]:
    """The buffers that own the memory which a statement itself accesses, inner statements aside."""
    found = {b.storage for b in buffers_of(stmt)}
    for value in vars(stmt).values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, (Address, Registers)):
                found.add(item.buffer.storage)
    return found


@dataclass(frozen=True)
class Boundary:
    """The sequence in which the accesses to two buffers part, some children having those to the earlier one, later ones those to the other."""

    sequence: Seq
    is_in_loop: bool


class _Survey:
    """The accesses of a launch by position: statements are numbered in program order, outer ones before inner ones."""

    def __init__(self, launch: Launch, context: GpuPassContext) -> None:
        self.launch, self.context = launch, context
        self.landings = _landings(launch.body)
        self.accesses: dict[Buffer, list[int]] = {}
        self.ranges: dict[Stmt, Interval] = {}
        self.varying = _varying_names(launch)
        self._number(launch.body, 0)
        self.intervals = {buffer: self._interval(buffer) for buffer in self.accesses}

    def accessed(self, stmt: Stmt) -> set[Buffer]:
        """What a statement itself accesses, and the destinations of the asynchronous copies that are complete behind it."""
        return accessed(stmt) | self.landings.get(stmt, set())

    def children_with(self, body: Sequence[Stmt], buffer: Buffer) -> list[int]:
        return [k for k, inner in enumerate(body) if any(buffer in self.accessed(s) for s in statements(inner))]

    def _number(self, node: Stmt, position: int) -> int:
        """Gives the first position behind the statement."""
        for buffer in self.accessed(node):
            if buffer.scope is Scope.SHARED:
                self.accesses.setdefault(buffer, []).append(position)
        last = position + 1
        for inner in inner_statements(node):
            last = self._number(inner, last)
        self.ranges[node] = position, last - 1
        return last

    def _is_in(self, places: Iterable[int], node: Stmt) -> bool:
        start, end = self.ranges[node]
        return any(start <= place <= end for place in places)

    def _interval(self, buffer: Buffer) -> Interval:
        """The positions from the first to the last at which the contents are needed."""
        places = self.accesses[buffer]
        first, last = min(places), max(places)
        for loop, (start, end) in self.ranges.items():
            is_around = isinstance(loop, (For, While)) and self._is_in(places, loop)
            if is_around and self._is_kept(buffer, loop, start <= min(places) and max(places) <= end):
                first, last = min(first, start), max(last, end)
        return first, last

    def _is_kept(self, buffer: Buffer, loop: Stmt, is_all_inside: bool) -> bool:
        """Whether something in a buffer is needed by a later turn of a loop. Turns of a loop that lowering made are no order for other threads."""
        if not isinstance(loop, For) or loop.variable not in self.context.tile_loops:
            return True
        origin = self.context.origins.get(buffer)
        if origin is None:  # scratch of one operation
            return not is_all_inside
        return origin not in self.context.carried or loop.variable in self.context.carried[origin]

    def may_share(self, a: Buffer, b: Buffer) -> bool:
        """Whether two buffers may lie in the same memory: one is needed no longer when the other one is, and a barrier can stand between."""
        if a not in self.intervals or b not in self.intervals:
            return True
        return self.boundary(*self.ordered(a, b)) is not None

    def ordered(self, a: Buffer, b: Buffer) -> tuple[Buffer, Buffer]:
        return (a, b) if self.intervals[a] <= self.intervals[b] else (b, a)

    def boundary(self, earlier: Buffer, later: Buffer) -> Boundary | None:
        """Where the accesses to two buffers part; None where they are needed together, or threads may take different ways there."""
        if self.intervals[earlier][1] >= self.intervals[later][0]:
            return None
        first, second = self.accesses[earlier], self.accesses[later]
        node, is_in_loop = self.launch.body, False
        while True:
            inside = [s for s in inner_statements(node) if self._is_in((*first, *second), s)]
            if isinstance(node, Seq):
                before = [k for k, s in enumerate(node.body) if self._is_in(first, s)]
                behind = [k for k, s in enumerate(node.body) if self._is_in(second, s)]
                if before[-1] < behind[0]:
                    return Boundary(node, is_in_loop)
            elif not isinstance(node, (For, If)) or self.is_varying(node.extent if isinstance(node, For) else node.condition):
                return None
            if len(inside) != 1:
                return None
            is_in_loop |= isinstance(node, For)
            node = inside[0]

    def is_varying(self, root: Expr) -> bool:
        return _is_varying(root, self.varying)


def _landings(body: Stmt) -> dict[Stmt, set[Buffer]]:
    """Destinations that nothing reads, by the wait that covers their copy in a sequence around it, or else by the last statement of the launch.

    Where a tile is read, a wait stands before: passes that leave copies asynchronous see to that.
    """
    found: dict[Stmt, set[Buffer]] = {}

    def walk(node: Stmt) -> dict[Buffer, int]:
        """The destinations of copies that may be under way behind a statement, with the number of commits since, or fewer."""
        if _is_copy(node):
            return dict.fromkeys(accessed(node), 0)
        under_way: dict[Buffer, int] = {}
        for inner in inner_statements(node):
            begun = walk(inner)
            read = set().union(*map(_read_by, statements(inner))) if under_way or begun else set()
            if isinstance(inner, (For, While)):  # a later turn reads, and waits before
                begun = {buffer: commits for buffer, commits in begun.items() if buffer not in read}
            under_way = {buffer: commits for buffer, commits in under_way.items() if buffer not in read} | begun
            if isinstance(node, Seq) and isinstance(inner, InstructionCall):
                if inner.instruction is CP_ASYNC_COMMIT_GROUP:
                    under_way = {buffer: commits + 1 for buffer, commits in under_way.items()}
                pending = _pending_behind(inner)
                landed = {buffer for buffer, commits in under_way.items() if pending is not None and (pending == 0 or commits > pending)}
                if landed:
                    found[inner] = landed
                under_way = {buffer: commits for buffer, commits in under_way.items() if buffer not in landed}
        return under_way

    left = walk(body)
    if left:
        last = body.body[-1] if isinstance(body, Seq) else body
        found[last] = found.get(last, set()) | left.keys()
    return found


def _is_copy(node: Stmt) -> bool:
    return isinstance(node, InstructionCall) and isinstance(node.instruction, CpAsync)


def _read_by(node: Stmt) -> set[Buffer]:
    """The buffers that a statement itself may read, but for one that it also stores to: parts of a copy may be ordinary stores, and wait for nothing."""
    target = node.buffer if isinstance(node, Store) else node.dst.buffer if isinstance(node, VectorCopy) else None
    return set() if _is_copy(node) else accessed(node) - ({target.storage} if target is not None else set())


def _pending_behind(call: InstructionCall) -> int | None:
    """How many groups may be under way behind an instruction; None where it waits for none."""
    if call.instruction is CP_ASYNC_WAIT_ALL:
        return 0
    pending = call.operands[0] if call.instruction is CP_ASYNC_WAIT_GROUP else None
    return pending if isinstance(pending, int) else None


def _varying_names(launch: Launch) -> set[Expr]:
    """Names whose value may differ between the threads of a block."""
    found = {v for v, n in zip(launch.thread_variables, launch.threads, strict=True) if n > 1}
    size = -1
    while size != (size := len(found)):
        for stmt in statements(launch.body):
            if (isinstance(stmt, Let) and _is_varying(stmt.value, found)) or (isinstance(stmt, For) and _is_varying(stmt.extent, found)):
                found.add(stmt.variable)
            elif isinstance(stmt, (AtomicUpdate, ForeignCall, WarpExchange)):
                found.update(names_made(stmt))
    return found


def _is_varying(root: Expr, varying: set[Expr]) -> bool:
    """Whether the threads of a block may see different values: what a thread has of its own counts as different."""

    def differs(node: Expr) -> bool:
        is_own = node.op is Op.LOAD and node.buffer.storage.scope not in (Scope.GLOBAL, Scope.SHARED)
        return node in varying or is_own or (node.op is Op.CALL and not node.attribute.is_pure)

    return any(map(differs, subexpressions(root)))


# -- where buffers lie


def _place(buffers: Sequence[Buffer], sizes: Mapping[Buffer, int], survey: _Survey) -> dict[Buffer, int]:
    """The lowest place for each buffer, large ones first, that no buffer has which it may not share memory with."""
    placed: dict[Buffer, int] = {}
    for buffer in sorted(buffers, key=lambda b: -sizes[b]):
        taken = sorted((placed[b], placed[b] + sizes[b]) for b in placed if not survey.may_share(buffer, b))
        offset = 0
        for start, end in taken:
            if offset + sizes[buffer] <= start:
                break
            offset = max(offset, -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
        placed[buffer] = offset
    return {b: placed[b] for b in buffers}


def _with_barriers(launch: Launch, survey: _Survey, offsets: Mapping[Buffer, int], sizes: Mapping[Buffer, int]) -> Stmt:
    """The body with a barrier wherever one buffer follows another one in the same memory and none stands there."""
    wanted: dict[Stmt, set[int]] = {}  # per sequence: the children that need a barrier in front of them
    names = [b for b in offsets if b in survey.intervals]
    for number, a in enumerate(names):
        for b in names[:number]:
            if offsets[a] < offsets[b] + sizes[b] and offsets[b] < offsets[a] + sizes[a]:
                _separate(survey, *survey.ordered(a, b), wanted)
    if not any(wanted.values()):
        return launch.body

    def post(node: Stmt, original: Stmt) -> Stmt:
        places = wanted.get(original)
        if not isinstance(node, Seq) or not places:
            return node
        assert isinstance(original, Seq)
        body = [part for k, inner in enumerate(node.body) for part in ((Barrier(inner.span), inner) if k in places else (inner,))]
        return dataclasses.replace(node, body=tuple(body))

    return _rebuild(launch.body, post)


def _rebuild(node: Stmt, post: Callable[[Stmt, Stmt], Stmt]) -> Stmt:
    """The statement rebuilt bottom-up; `post` gets each new one and the one that it was made of."""
    changes: dict[str, Any] = {}
    for name, value in vars(node).items():
        if isinstance(value, Stmt):
            changes[name] = _rebuild(value, post)
        elif isinstance(value, tuple) and any(isinstance(item, Stmt) for item in value):
            changes[name] = tuple(_rebuild(item, post) for item in value)
    return post(dataclasses.replace(node, **changes) if changes else node, node)


def _separate(survey: _Survey, earlier: Buffer, later: Buffer, wanted: dict[Stmt, set[int]]) -> None:
    """Sees to barriers from the accesses of one buffer to those of the next one in its memory, and in a loop from these to the first ones again."""
    boundary = survey.boundary(earlier, later)
    assert boundary is not None
    body, places = boundary.sequence.body, wanted.setdefault(boundary.sequence, set())
    before, behind = (survey.children_with(body, buffer) for buffer in (earlier, later))

    def need(gap: Sequence[int], left: list[int], left_buffer: Buffer, right: list[int], right_buffer: Buffer) -> bool:
        """Whether nothing separates the accesses on both sides of the children `gap`, in front of whose last one a barrier may be put."""
        if any(_is_block_barrier(body[k]) for k in gap[:-1]) or not places.isdisjoint(gap):
            return False
        is_ended = len(left) == 1 and _begins_with_barrier(survey, body[left[0]], left_buffer, step=-1)
        return not is_ended and not (len(right) == 1 and _begins_with_barrier(survey, body[right[0]], right_buffer))

    if need(range(before[-1] + 1, behind[0] + 1), before, earlier, behind, later):
        places.add(behind[0])
    if boundary.is_in_loop and need([*range(behind[-1] + 1, len(body)), *range(before[0] + 1)], behind, later, before, earlier):
        places.add(before[0])


def _is_block_barrier(stmt: Stmt) -> bool:
    return isinstance(stmt, Barrier) and stmt.scope is not BarrierScope.WARP and stmt.num_threads is None


def _begins_with_barrier(survey: _Survey, node: Stmt, buffer: Buffer, step: int = 1) -> bool:
    """Whether every thread that accesses a buffer in a statement passes a barrier in it before; for step -1, afterwards."""
    if isinstance(node, For):
        return _begins_with_barrier(survey, node.body, buffer, step)
    if not isinstance(node, Seq):
        return False
    uses = survey.children_with(node.body, buffer)
    nearest = uses[0] if step == 1 else uses[-1]
    if any(map(_is_block_barrier, node.body[:nearest] if step == 1 else node.body[nearest + 1 :])):
        return True
    return len(uses) == 1 and _begins_with_barrier(survey, node.body[nearest], buffer, step)


# -- too much


def _refuse(name: str, launch: Launch, sizes: Mapping[Buffer, int], size: int, survey: _Survey, context: GpuPassContext) -> NoReturn:
    limit = context.target.shared_bytes_per_block
    versions = {b: context.versions.get(context.origins.get(b, b)) for b in sizes}
    loops = dict.fromkeys(v.loop for v in versions.values() if v is not None)
    labels = [Label(loop.span, "the pipeline") for loop in loops]
    for buffer, size_bytes in sorted(sizes.items(), key=lambda item: -item[1]):
        version = versions[buffer]
        tile = context.origins.get(buffer, buffer) if version is None else version.original
        parts = f"{number(size_bytes)} bytes" if version is None else f"{version.count} x {number(size_bytes // version.count)} bytes"
        labels.append(Label(buffer.span, f"{buffer.name}: {parts} ({format_shape(tile)})"))
    fail(
        Kind.SHARED_MEMORY_EXCEEDED,
        f"kernel `{name}` needs {number(size)} bytes of shared memory; {context.target.name} allows {number(limit)} per block",
        tuple(labels) or (Label(launch.span),),
        because="the tiles that a block needs at the same time lie in the shared memory of one multiprocessor",
        help=_cheapest_change(sizes, versions, survey, limit),
    )


def number(value: int) -> str:
    """245 760."""
    return f"{value:,}".replace(",", " ")


def _cheapest_change(sizes: Mapping[Buffer, int], versions: Mapping[Buffer, TileVersions | None], survey: _Survey, limit: int) -> str:
    """The most stages that fit, or else the tile to make smaller."""
    most = max((v.count for v in versions.values() if v is not None), default=1)
    needed = 0
    for stages in range(most - 1, 0, -1):
        smaller = {b: n if (v := versions[b]) is None else n // v.count * min(v.count, stages) for b, n in sizes.items()}
        needed = _total(_place(list(smaller), smaller, survey), smaller)
        if needed <= limit:
            return f"num_stages={stages} needs {number(needed)} bytes and fits"
    largest = max(sizes, key=lambda b: sizes[b] // (1 if (v := versions[b]) is None else v.count))
    even = f"num_stages=1 needs {number(needed)} bytes and does not fit either: " if most > 1 else ""
    return f"{even}make {largest.name} smaller, or keep less at a time"
