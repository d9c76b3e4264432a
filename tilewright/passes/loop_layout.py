"""How a parallel loop is spread over the threads of a block, and which register of a fragment each of its accesses means (floor 5).

A loop layout maps (reg, lane, warp) to loop coordinates d0, d1, …, as a fragment's layout maps them to tile coordinates. An access whose indices are
loop variables carries one into the other: where both sides agree on lane and warp, the element is in a register of the thread that runs the iteration.
Both questions are answered exactly: over the digits where the indices are plain variables, else over all points of the loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tilewright.arith.evaluate import evaluate
from tilewright.arith.lower_layout import lower_layout
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, binary, const
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.stmt import AtomicUpdate, For, ParallelFor, Stmt, Store
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.layout import LANE, REG, WARP, Axis, Layout, LayoutError, distribute, factor, register_renaming, tile_axes
from tilewright.layout.digits import log2_exact
from tilewright.layout.gf2 import remap

Ints = npt.NDArray[np.int64]
VECTOR = "vector"  # the low registers of a loop layout, which touch neighbouring elements
_ACCESS_BITS = 128  # the widest access of one thread
_SECTOR_BITS = 256  # what one access to global memory moves at least


@dataclass(frozen=True, eq=False)
class Access:
    """An element of a buffer that a loop's body loads or stores."""

    buffer: Buffer
    indices: tuple[Expr, ...]
    is_store: bool


@dataclass(frozen=True, eq=False)
class LoopPlan:
    """`layout`: (reg, lane, warp) -> d0, d1, … padded loop coordinates. `extents` are the static ones, from the loop or from the tiles it indexes.

    `vector_elements`: the low registers, up to so many, are neighbours along the last axis.
    """

    layout: Layout
    extents: tuple[int, ...]
    vector_elements: int

    @property
    def num_threads(self) -> int:
        return self.layout.in_axis(LANE).extent * self.layout.in_axis(WARP).extent

    @property
    def guarded_axes(self) -> tuple[int, ...]:
        return tuple(a for a, axis in enumerate(self.layout.outs) if axis.extent > self.extents[a])

    @cached_property
    def split(self) -> Layout:
        """The layout with its registers as two axes: the vector, then the rest."""
        digits = self.layout.in_axis(REG).digits
        low = log2_exact(self.vector_elements)
        return self.layout.reshape_ins((Axis(VECTOR, digits[:low]), Axis(REG, digits[low:]), *(a for a in self.layout.ins if a.name != REG)))

    @cached_property
    def points(self) -> Ints:
        """(threads, regs, rank): loop coordinates, padding among them."""
        table = self.layout.reorder(ins=[WARP, LANE, REG]).table()
        return table.reshape(self.num_threads, self.layout.in_axis(REG).extent, len(self.extents))

    @cached_property
    def is_active(self) -> npt.NDArray[np.bool_]:
        """(threads, regs): inside the loop."""
        return np.asarray((self.points < np.asarray(self.extents, np.int64)).all(axis=-1))


def accesses_of(node: Stmt) -> Iterator[Access]:
    """Loads and stores anywhere in a statement, in program order, each once."""
    seen: set[tuple[Buffer, tuple[Expr, ...], bool]] = set()
    for stmt in statements(node):
        found: list[Access] = []
        if isinstance(stmt, (Store, AtomicUpdate)):
            found.append(Access(stmt.buffer, stmt.indices, True))
        if isinstance(stmt, ForeignCall):
            found += [Access(a.buffer, a.indices, True) for a, _ in stmt.addresses()]
        for expression in own_expressions(stmt):
            found += [Access(e.buffer, e.args, False) for e in subexpressions(expression) if e.op is Op.LOAD]
        for access in found:
            key = (access.buffer, access.indices, access.is_store)
            if key not in seen:
                seen.add(key)
                yield access


def static_extents(loop: ParallelFor) -> tuple[int, ...] | None:
    """The extent of each axis; of one known only at run time, that of a tile axis that it indexes. None where an axis has no bound."""
    extents: list[int] = []
    for variable, extent in zip(loop.variables, loop.extents, strict=True):
        if extent.is_const:
            extents.append(int(extent.value))
            continue
        bounds = [
            int(n)
            for access in accesses_of(loop.body)
            if access.buffer.scope is not Scope.GLOBAL
            for index, n in zip(access.indices, access.buffer.shape, strict=True)
            if index is variable and isinstance(n, int)
        ]
        if not bounds:
            return None
        extents.append(min(bounds))
    return tuple(extents)


def spread(loop: ParallelFor, extents: tuple[int, ...], num_threads: int) -> LoopPlan:
    """The plan of a loop that no fragment's layout binds: vectors of 16 bytes, neighbouring lanes side by side.

    Of the widest element in global memory: a lane that moved 32 bytes in two accesses would leave each of them half of every sector.
    """
    memory = [a.buffer for a in accesses_of(loop.body) if a.buffer.scope in (Scope.GLOBAL, Scope.SHARED)]
    in_global = [b.dtype.bits for b in memory if b.scope is Scope.GLOBAL]
    bits = max(in_global) if in_global else min((b.dtype.bits for b in memory), default=32)
    vector = max(1, _ACCESS_BITS // bits)
    found = distribute(extents, num_threads, vector, sector_elements=max(1, _SECTOR_BITS // bits) if in_global else 1)
    return LoopPlan(found.layout, extents, found.vector_elements)


def spread_rows(loop: ParallelFor, extents: tuple[int, ...], num_threads: int, warp_size: int = 32) -> LoopPlan | None:
    """The plan that gives every row, along the last axis, to one warp, so that a reduction of rows needs no other; None where rows do not divide, and padding
    them or the columns would take a quarter more registers than spreading freely."""
    if len(extents) < 2 or num_threads % warp_size:
        return None
    warps = num_threads // warp_size
    *outer, rows, columns = extents
    inner = spread(loop, (*outer, -(-rows // warps), columns), warp_size)
    if inner.num_threads != warp_size or not inner.layout.is_injective:
        return None
    if inner.guarded_axes or rows % warps:
        free = spread(loop, extents, num_threads).layout
        if 4 * inner.layout.in_axis(REG).extent > 5 * free.in_axis(REG).extent:
            return None
    name = f"d{len(extents) - 2}"
    mine, axis = inner.layout.out_axis(name), Axis.of(name, inner.layout.out_axis(name).extent * warps)
    free_digits = list(enumerate(axis.digits))
    places = []  # of the digits of a warp's rows, then of the warps, among those of all rows: the lowest of the same radix that is left
    for radix in (*mine.digits, *factor(warps)):
        place = next(entry for entry in free_digits if entry[1] == radix)
        free_digits.remove(place)
        places.append(place[0])
    one_warp = inner.layout.drop_input(WARP)
    outs = tuple(axis if a.name == name else a for a in one_warp.outs)
    start, grown = one_warp.out_digits(name).start, len(axis.digits) - len(mine.digits)
    positions = [start + places[k - start] if k in one_warp.out_digits(name) else k + (grown if k >= start else 0) for k in range(len(one_warp.out_radices))]
    columns_of_warps = tuple(1 << start + place for place in places[len(mine.digits) :])
    ins = (*one_warp.ins, Axis(WARP, factor(warps)))
    layout = Layout(ins, outs, (*(remap(c, positions) for c in one_warp.columns), *columns_of_warps)).reorder(ins=[REG, LANE, WARP])
    return LoopPlan(layout, extents, inner.vector_elements)


def spread_columns(loop: ParallelFor, extents: tuple[int, ...], num_threads: int, axis: int) -> LoopPlan:
    """The plan for a scan along an axis that is not the last one: neighbouring threads have neighbouring elements of the others, each thread a piece of the
    axis, and where threads are left, they have the next pieces."""
    plan = LoopPlan(distribute(extents, num_threads).layout, extents, 1)
    digits = plan.layout.out_digits(f"d{axis}")
    radices, columns = plan.layout.out_radices, list(plan.layout.columns)
    owners = [d for d, column in enumerate(columns) if column.bit_length() - 1 in digits and radices[column.bit_length() - 1] == 2]
    for owner, bit in zip(owners, (b for b in digits if radices[b] == 2), strict=True):
        columns[owner] = 1 << bit
    return LoopPlan(Layout(plan.layout.ins, plan.layout.outs, tuple(columns)), extents, 1)


def carry_into_loop(loop: ParallelFor, extents: tuple[int, ...], access: Access, fragment: Layout) -> LoopPlan | None:
    """The plan under which an access that names every axis of the loop stays in the thread that holds the element; None if there is none of that form."""
    places = plain_axes(loop, access)
    if places is None or not {a for a, n in enumerate(extents) if n > 1} <= set(places):
        return None
    if any(p is not None and int(n) != extents[p] for p, n in zip(places, access.buffer.shape, strict=True)):
        return None
    axes = {f"d{a}": p for a, p in enumerate(places)}
    layout = fragment
    for name, place in axes.items():
        if place is None:
            if layout.out_axis(name).extent != 1:
                return None
            layout = layout.drop_output(name)
    layout = layout.rename(outs={axis.name: f"v{axes[axis.name]}" for axis in layout.outs})
    missing = tuple(Axis(f"v{a}", ()) for a in range(len(extents)) if not layout.has_output(f"v{a}"))
    layout = Layout(layout.ins, (*layout.outs, *missing), layout.columns)
    layout = layout.reorder(outs=[f"v{a}" for a in range(len(extents))]).rename(outs={f"v{a}": f"d{a}" for a in range(len(extents))})
    return LoopPlan(layout, extents, _vector_elements(layout, extents))


def _vector_elements(layout: Layout, extents: tuple[int, ...]) -> int:
    """How many of the low registers are neighbours along the last axis, in vectors that no true extent cuts."""
    if not layout.outs:
        return 1
    first = layout.out_digits(layout.outs[-1].name).start
    count = 1
    for digit, (radix, column) in enumerate(zip(layout.in_axis(REG).digits, layout.columns_of(REG), strict=True)):
        is_next = radix == 2 and column == 1 << (first + digit) and extents[-1] % (2 * count) == 0
        if not is_next or sum(1 for c in layout.columns if c & column) != 1:
            break
        count *= 2
    return count


def plain_axes(loop: ParallelFor, access: Access) -> list[int | None] | None:
    """Per buffer axis: the loop axis whose variable is its index, None for index 0 on an axis of one element. None if an index is anything else."""
    positions = {variable: a for a, variable in enumerate(loop.variables)}
    places: list[int | None] = []
    for index, extent in zip(access.indices, access.buffer.shape, strict=True):
        if index in positions:
            places.append(positions[index])
        elif index.is_const and index.value == 0 and extent == 1:
            places.append(None)
        else:
            return None
    taken = [p for p in places if p is not None]
    return places if len(set(taken)) == len(taken) else None


def carry_into_fragment(loop: ParallelFor, plan: LoopPlan, access: Access) -> Layout | None:
    """(reg, lane, warp) -> tile coordinates: the element that each iteration touches; None where an index is no plain variable, or the loop covers a
    part of the tile only."""
    places = plain_axes(loop, access)
    if places is None:
        return None
    layout = plan.layout
    for a in range(len(plan.extents)):
        if a not in places:
            layout = layout.drop_output(f"d{a}")
    if any(p is not None and int(n) != plan.extents[p] for p, n in zip(places, access.buffer.shape, strict=True)):
        return None
    names = {f"d{p}": f"t{a}" for a, p in enumerate(places) if p is not None}
    layout = layout.rename(outs=names)
    units = tuple(Axis(f"t{a}", ()) for a, p in enumerate(places) if p is None)
    layout = Layout(layout.ins, (*layout.outs, *units), layout.columns)
    return layout.reorder(outs=[f"t{a}" for a in range(len(places))]).rename(outs={f"t{a}": f"d{a}" for a in range(len(places))})


def fragment_elements(access: Access, loop: ParallelFor, extents: tuple[int, ...], loops: Mapping[Expr, int]) -> tuple[Ints, tuple[Expr, ...]] | None:
    """The row-major element that an access touches at every point of (unrolled loops…, parallel loop…), and the variables of the unrolled loops.

    `loops` gives the extents of loops around and inside that may be unrolled. None where an index depends on anything else.
    """
    names = dict.fromkeys(e for index in access.indices for e in subexpressions(index) if e.op is Op.VAR)
    if any(e.op in (Op.LOAD, Op.CALL) for index in access.indices for e in subexpressions(index)):
        return None
    own = set(loop.variables)
    outer = tuple(v for v in names if v not in own)
    if any(v not in loops for v in outer):
        return None
    domain = (*(loops[v] for v in outer), *extents)
    named = enumerate(zip((*outer, *loop.variables), domain, strict=True))
    values = {v: np.arange(n).reshape(-1, *(1,) * (len(domain) - 1 - position)) for position, (v, n) in named}
    flat: Ints = np.zeros((1,) * len(domain), np.int64)
    for index, extent in zip(access.indices, access.buffer.static_shape, strict=True):
        value = np.asarray(evaluate(index, values, _no_loads)).astype(np.int64)
        inside = np.clip(value, 0, extent - 1)  # points that a condition inside the loop leaves out
        flat = flat * extent + inside
    return np.broadcast_to(flat, domain), outer


def _no_loads(*_: object) -> Ints:
    raise LayoutError("an index loads")


@dataclass(frozen=True, eq=False)
class RegisterIndex:
    """The register that an access means: `layout` maps (u0, u1, …, vector, reg) to (reg,), to be XORed with `origin`. u0, u1, … are the variables
    `unrolled`, of loops that must be unrolled."""

    layout: Layout
    origin: int = 0
    unrolled: tuple[Expr, ...] = ()

    def expression(self, coordinates: Mapping[str, Expr]) -> Expr:
        """The register, for the values of `vector` and `reg`."""
        known = {**coordinates, **{f"u{k}": v for k, v in enumerate(self.unrolled)}}
        index = lower_layout(self.layout, {a.name: known[a.name] for a in self.layout.ins})[REG]
        return index if self.origin == 0 else binary(Op.BIT_XOR, index, const(self.origin))


def match_registers(loop: ParallelFor, plan: LoopPlan, access: Access, fragment: Layout, loops: Mapping[Expr, int]) -> RegisterIndex | None:
    """The register of `fragment` that the thread which runs an iteration must touch; None where some thread does not hold it.

    A store must also reach every copy of each element that the loop writes.
    """
    carried = carry_into_fragment(loop, plan, access)
    if carried is not None and carried.outs == fragment.outs:
        found = _match_digits(carried, fragment, plan, access.is_store)
        if found is not None:
            return found
    return _match_points(loop, plan, access, fragment, loops)


def _match_digits(carried: Layout, fragment: Layout, plan: LoopPlan, is_store: bool) -> RegisterIndex | None:
    registers = register_renaming(fragment, carried)
    if registers is None or (is_store and register_renaming(carried, fragment) is None):
        return None
    digits = registers.in_axis(REG).digits
    low = log2_exact(plan.vector_elements)
    return RegisterIndex(registers.reshape_ins((Axis(VECTOR, digits[:low]), Axis(REG, digits[low:]))))


def _match_points(loop: ParallelFor, plan: LoopPlan, access: Access, fragment: Layout, loops: Mapping[Expr, int]) -> RegisterIndex | None:
    found = fragment_elements(access, loop, plan.extents, loops)
    if found is None:
        return None
    elements, outer = found
    held = fragment_table(fragment, access.buffer.static_shape)
    threads = min(len(held), plan.num_threads)
    if plan.num_threads > len(held):
        return None
    held = held[:threads]
    points = np.minimum(plan.points, np.asarray(plan.extents, np.int64) - 1)
    at = tuple(points[..., a] for a in range(len(plan.extents)))
    count = len(outer)
    selected = elements[(slice(None),) * count + at]
    if not at:  # a loop without axes: every thread touches the same
        selected = np.broadcast_to(selected[..., None, None], (*selected.shape, *plan.is_active.shape))
    touched = selected.reshape(-1, *plan.is_active.shape)  # (unrolled, threads, regs)
    size = int(np.prod(access.buffer.static_shape))
    keys = np.where(held >= 0, held + size * np.arange(threads)[:, None], -1)
    order = np.argsort(keys, axis=None, kind="stable")
    ordered = keys.reshape(-1)[order]
    wanted = touched + size * np.arange(threads)[:, None]
    position = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    is_held = ordered[position] == wanted
    is_active = np.broadcast_to(plan.is_active, touched.shape)
    if not is_held[is_active].all():
        return None
    registers = order[position] % held.shape[1]
    table = np.full((touched.shape[0], touched.shape[2]), -1, np.int64)
    for turn in range(touched.shape[0]):
        rows, active = registers[turn], is_active[turn]
        table[turn] = np.where(active, rows, -1).max(axis=0)
        if (active & (rows != table[turn])).any():
            return None
    if access.is_store and not _reaches_copies(held, touched[is_active], registers, is_active, count):
        return None
    return _recover(np.maximum(table, 0), tuple(loops[v] for v in outer), outer, plan)


def _reaches_copies(held: Ints, written: Ints, registers: Ints, is_active: npt.NDArray[np.bool_], count: int) -> bool:
    """Whether every copy of every element that is written belongs to an iteration of the thread that holds it."""
    if count:  # which turn of the loops around writes what is not told apart: only a layout without copies is sure
        return len(np.unique(held[held >= 0])) == (held >= 0).sum()
    is_written = np.isin(held, np.unique(written)) & (held >= 0)
    reached = np.zeros(held.shape, bool)
    threads = np.broadcast_to(np.arange(held.shape[0])[:, None], registers.shape[1:])
    reached[threads[is_active[0]], registers[0][is_active[0]]] = True
    return bool((reached | ~is_written).all())


def _recover(table: Ints, outer_extents: tuple[int, ...], outer: tuple[Expr, ...], plan: LoopPlan) -> RegisterIndex | None:
    """A table of registers as a layout of its variables."""
    digits = plan.layout.in_axis(REG).digits
    low = log2_exact(plan.vector_elements)
    ins = (*(Axis(f"u{k}", factor(n)) for k, n in enumerate(outer_extents)), Axis(VECTOR, digits[:low]), Axis(REG, digits[low:]))
    # In the table the vector varies fastest within the registers.
    arranged = table.reshape(*outer_extents, -1, plan.vector_elements)
    largest = int(table.max())
    out = Axis(REG, (2,) * largest.bit_length())
    basis: dict[str, list[dict[str, int]]] = {}
    origin = int(arranged.reshape(-1)[0])
    for position, axis in enumerate(ins):
        steps = []
        for place in axis.places:
            at = [0] * len(ins)
            at[position] = place
            index = (*at[: len(outer_extents)], at[-1], at[-2])
            steps.append({REG: int(arranged[index]) ^ origin})
        basis[axis.name] = steps
    try:
        layout = Layout.from_basis(ins, (out,), basis)
    except LayoutError:
        return None
    names = [*(f"u{k}" for k in range(len(outer_extents))), REG, VECTOR]
    if not np.array_equal(layout.reorder(ins=names).table()[..., 0].reshape(arranged.shape) ^ origin, arranged):
        return None
    return RegisterIndex(layout, origin, outer)


def fragment_table(fragment: Layout, shape: tuple[int, ...]) -> Ints:
    """(threads, regs): the row-major element of the tile in each register, -1 for padding."""
    table = fragment.reorder(ins=[WARP, LANE, REG], outs=[f"d{a}" for a in range(len(shape))]).table()
    points = table.reshape(-1, fragment.in_axis(REG).extent, len(shape))
    flat = np.zeros(points.shape[:2], np.int64)
    is_inside = np.ones(points.shape[:2], bool)
    for axis, extent in enumerate(shape):
        flat = flat * extent + points[..., axis]
        is_inside &= points[..., axis] < extent
    return np.where(is_inside, flat, -1)


def replicated_fragment(shape: tuple[int, ...], num_threads: int, warp_size: int = 32) -> Layout:
    """Every thread holds every element."""
    outs = tile_axes(shape)
    registers = tuple(radix for axis in reversed(outs) for radix in axis.digits)
    starts: dict[str, int] = {}
    position = 0
    for axis in outs:
        starts[axis.name] = position
        position += len(axis.digits)
    columns = [1 << (starts[axis.name] + digit) for axis in reversed(outs) for digit in range(len(axis.digits))]
    lanes = factor(min(num_threads, warp_size))
    warps = factor(max(1, num_threads // warp_size))
    return Layout((Axis(REG, registers), Axis(LANE, lanes), Axis(WARP, warps)), outs, (*columns, *(0,) * (len(lanes) + len(warps))))


def unrollable_loops(node: Stmt, limit: int = 64) -> dict[Expr, int]:
    """Variables of serial loops in a statement that are short enough to be unrolled, with their extents."""
    return {s.variable: int(s.extent.value) for s in statements(node) if isinstance(s, For) and s.extent.is_const and 0 < s.extent.value <= limit}


def every_thread(num_threads: int, warp_size: int = 32) -> LoopPlan:
    """The plan of a statement outside parallel loops: each thread runs it once."""
    lanes, warps = factor(min(num_threads, warp_size)), factor(max(1, num_threads // warp_size))
    return LoopPlan(Layout.zero((Axis(REG, ()), Axis(LANE, lanes), Axis(WARP, warps))), (), 1)


def plan_loop(loop: ParallelFor, fragments: Mapping[Buffer, Layout], num_threads: int) -> LoopPlan | None:
    """How a loop is spread: as the fragment that it stores to lies, else as one that it loads lies, else freely. None where an extent has no bound."""
    extents = static_extents(loop)
    if extents is None:
        return None
    return follow(loop, extents, fragments) or spread(loop, extents, num_threads)


def follow(loop: ParallelFor, extents: tuple[int, ...], fragments: Mapping[Buffer, Layout]) -> LoopPlan | None:
    """The plan that a fragment with a known layout asks for."""
    known = [a for a in accesses_of(loop.body) if a.buffer in fragments]
    gives_previous = any((isinstance(s, AtomicUpdate) and s.previous is not None) or isinstance(s, ForeignCall) for s in statements(loop.body))
    for access in sorted(known, key=lambda a: not a.is_store):
        plan = carry_into_loop(loop, extents, access, fragments[access.buffer])
        # What an atomic or foreign code gives back belongs to the one thread that did it.
        if plan is not None and not (gives_previous and not plan.layout.is_injective):
            return plan
    return None


def is_private(loop: ParallelFor) -> bool:
    """Whether a loop runs over an array that each thread has of its own."""
    own = set(loop.variables)
    arrays = (a for a in accesses_of(loop.body) if a.buffer.scope is Scope.LOCAL)
    return any(e in own for a in arrays for index in a.indices for e in subexpressions(index))
