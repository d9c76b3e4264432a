"""An operand's fragment from shared memory, one step along k at a time (floor 4): `ldmatrix` where rows of 16 bytes lie together, else element by element.

The address of an access is a function of the register, the step, the lane and the warp. Where the tile's layout is linear over bits it is split: what the
thread contributes is computed once, what register and step contribute is XORed or added to it, and both are constants after unrolling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tilewright.arith.bounds import Facts
from tilewright.arith.lower_layout import lower_layout, lower_memory_layout
from tilewright.arith.prove import is_divisible
from tilewright.errors import CompilerBug, Span
from tilewright.intrin.nvidia.ldmatrix import ldmatrix
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, Op, binary, const, load, minimum, var
from tilewright.ir.stmt import Let, Stmt, Store
from tilewright.ir.thread import Address, InstructionCall, Registers, VectorCopy
from tilewright.layout import LANE, REG, WARP, Axis, Embedding, Layout, MemoryLayout, match_matrix_access, place_values, vector_run
from tilewright.layout.digits import log2_exact
from tilewright.layout.match import ROW_BITS
from tilewright.ops.gemm.partition import STEP
from tilewright.ops.gemm.threads import SharedTile, unrolled

_ROWS, _COLUMNS = "d0", "d1"  # the axes of a matrix as it is stored


@dataclass(frozen=True, eq=False)
class FragmentLoad:
    """How a fragment gets into registers, one step at a time.

    before           statements that stand once, ahead of all loads.
    pieces           loads of one step; each fills `piece_elements` registers, one piece behind another.
    emit_piece       (piece, step, registers, offset) -> the load.
    """

    span: Span
    before: tuple[Stmt, ...]
    pieces: int
    piece_elements: int
    emit_piece: Callable[[Expr, Expr, Buffer, Expr], Stmt]

    def emit(self, step: Expr, registers: Buffer, offset: Expr) -> Stmt:
        """Loads the fragment of one step into `registers` from `offset` on."""
        return unrolled(self.span, "i", self.pieces, lambda i: self.emit_piece(i, step, registers, offset + i * self.piece_elements))


def plan_fragment_load(tile: SharedTile, fragment: Layout, extents: tuple[int, int], name: str, lane: Expr, warp: Expr, span: Span) -> FragmentLoad:
    """How to load `fragment`, (reg, step, lane, warp) -> d0, d1 of the matrix as stored, whose true extents are `extents`; `name` is for the C text.

    Coordinates beyond the true extents give some element inside.
    """
    return _matrix_load(tile, fragment, extents, name, lane, warp, span) or _element_load(tile, fragment, extents, name, lane, warp, span)


def _matrix_load(tile: SharedTile, fragment: Layout, extents: tuple[int, int], name: str, lane: Expr, warp: Expr, span: Span) -> FragmentLoad | None:
    dtype = tile.buffer.dtype
    row = ROW_BITS // dtype.bits
    for along, across in ((_COLUMNS, _ROWS), (_ROWS, _COLUMNS)):
        stored = Layout.ordered(fragment.outs, (along, across))
        found = match_matrix_access(stored.compose(fragment), dtype.bits) if has_runs(tile, extents, along, row) else None
        if found is not None:
            break
    else:
        return None
    if found.register_order != tuple(range(len(found.register_order))):
        raise CompilerBug("the registers of an instruction's operand are not in the order of ldmatrix")
    rows = found.row_addresses.reshape_outs((fragment.out_axis(along), fragment.out_axis(across))).reorder(outs=(_ROWS, _COLUMNS))
    addresses = Addresses(tile, rows, extents, {along: row}, f"{name}_row", lane, warp, span)
    instruction = ldmatrix(dtype, found.matrices, found.is_transposed)
    elements = found.matrices * 32 // dtype.bits

    def emit_piece(i: Expr, step: Expr, registers: Buffer, offset: Expr) -> Stmt:
        return InstructionCall(span, instruction, (Registers(registers, offset), Address(tile.buffer, (addresses.at(i, step),))))

    return FragmentLoad(span, tuple(addresses.before), rows.in_axis(REG).extent, elements, emit_piece)


def _element_load(tile: SharedTile, fragment: Layout, extents: tuple[int, int], name: str, lane: Expr, warp: Expr, span: Span) -> FragmentLoad:
    vector, along = _packed_run(tile, fragment, extents)
    digits = fragment.in_axis(REG).digits
    low = log2_exact(vector)
    split = fragment.reshape_ins((Axis("element", digits[:low]), Axis(REG, digits[low:]), *fragment.ins[1:]))
    starts = split.drop_input("element")
    addresses = Addresses(tile, starts, extents, {along: vector}, f"{name}_element", lane, warp, span)

    def emit_piece(i: Expr, step: Expr, registers: Buffer, offset: Expr) -> Stmt:
        at = addresses.at(i, step)
        if vector > 1:
            return VectorCopy(span, Address(registers, (offset,)), Address(tile.buffer, (at,)), vector)
        return Store(span, registers, (offset,), load(tile.buffer, (at,)))

    return FragmentLoad(span, tuple(addresses.before), starts.in_axis(REG).extent, vector, emit_piece)


def _packed_run(tile: SharedTile, fragment: Layout, extents: tuple[int, int]) -> tuple[int, str]:
    """How many low registers of a fragment are neighbours in memory, and along which axis; at least 2 bytes of them, else 1."""
    for along in (_COLUMNS, _ROWS):
        digits = fragment.out_digits(along)
        count = 0
        while count < len(digits) and count < len(fragment.columns_of(REG)) and fragment.columns_of(REG)[count] == 1 << digits[count]:
            count += 1
        while count and not has_runs(tile, extents, along, 1 << count):
            count -= 1
        if tile.buffer.dtype.bits << count in (16, 32, 64, 128) and count:
            return 1 << count, along
    return 1, _COLUMNS


def has_runs(tile: SharedTile, extents: tuple[int, int], along: str, elements: int) -> bool:
    """Whether `elements` neighbours along an axis, from every multiple of that many on, lie together and aligned in memory."""
    position = -1 if along == _COLUMNS else -2
    names = [axis.name for axis in tile.memory.layout.ins]
    run = vector_run(tile.memory.layout, tile.memory.embedding, names[position], elements)
    in_order = run.elements == elements and run.digits == tuple(range(log2_exact(elements)))
    return in_order and extents[position] % elements == 0 and is_divisible(tile.starts[position], elements, Facts()).is_proved


@dataclass
class Addresses:
    """Addresses of the elements at `places`, (reg, step, lane, warp) -> d0, d1. `granules`: elements that an access takes along an axis, where not 1."""

    tile: SharedTile
    places: Layout
    extents: tuple[int, int]
    granules: dict[str, int]
    name: str
    lane: Expr
    warp: Expr
    span: Span
    before: list[Stmt] = field(default_factory=list)

    def __post_init__(self) -> None:
        memory = self.tile.memory
        names = [axis.name for axis in memory.layout.ins]
        is_whole = all(start.is_const and start.value == 0 for start in self.tile.starts[-2:])
        matrix = _pinned(memory.layout, names[:-2])
        leading = _pinned(memory.layout, names[-2:])
        same_digits = all(a.digits == b.digits for a, b in zip(matrix.ins, self.places.outs, strict=True))
        is_separate = not _reach(leading.columns) & _reach(matrix.columns)
        self._parts: tuple[Expr, MemoryLayout, MemoryLayout, Expr] | None = None
        self._composed: MemoryLayout | None = None
        if not (is_whole and same_digits and is_separate):
            return
        outer = lower_memory_layout(MemoryLayout(leading, _unbased(memory.embedding)), dict(zip(names[:-2], self.tile.starts[:-2], strict=True)))
        composed = matrix.rename(ins=dict(zip(names[-2:], (_ROWS, _COLUMNS), strict=True))).compose(self.places)
        self._composed, self._outer = MemoryLayout(composed, memory.embedding), outer
        by_thread = _reach((*composed.columns_of(LANE), *composed.columns_of(WARP)))
        by_step = _reach((*composed.columns_of(REG), *composed.columns_of(STEP)))
        shared = by_thread & by_step
        if not _is_binary_below(memory.embedding, shared.bit_length()):
            return
        of_thread = MemoryLayout(_pinned(composed, [REG, STEP]), memory.embedding)
        of_step = _pinned(composed, [LANE, WARP])
        toggled = MemoryLayout(_masked(of_step, shared), _unbased(memory.embedding))
        added = MemoryLayout(_masked(of_step, ~shared), _unbased(memory.embedding))
        base = var(self.name)
        self.before.append(Let(self.span, base, lower_memory_layout(of_thread, {LANE: self.lane, WARP: self.warp})))
        self._parts = base, toggled, added, outer

    def at(self, register: Expr, step: Expr) -> Expr:
        """The address, in elements."""
        if self._parts is not None:
            base, toggled, added, outer = self._parts
            toggles = lower_memory_layout(toggled, {REG: register, STEP: step})
            address = base if toggles.is_const and toggles.value == 0 else binary(Op.BIT_XOR, base, toggles)
            return address + lower_memory_layout(added, {REG: register, STEP: step}) + outer
        inputs = {REG: register, STEP: step, LANE: self.lane, WARP: self.warp}
        if self._composed is not None:
            return lower_memory_layout(self._composed, inputs) + self._outer
        images = lower_layout(self.places, inputs)
        coordinates = list(self.tile.starts[:-2])
        for name, start, extent in zip((_ROWS, _COLUMNS), self.tile.starts[-2:], self.extents, strict=True):
            place = images[name]
            if self.places.out_axis(name).extent > extent:
                place = minimum(place, const(extent - self.granules.get(name, 1)))
            coordinates.append(start + place)
        names = [axis.name for axis in self.tile.memory.layout.ins]
        return lower_memory_layout(self.tile.memory, dict(zip(names, coordinates, strict=True)))


def _pinned(layout: Layout, names: list[str]) -> Layout:
    """The layout with some inputs at 0 and gone."""
    for name in names:
        layout = layout.drop_input(name)
    return layout


def _masked(layout: Layout, mask: int) -> Layout:
    return Layout(layout.ins, layout.outs, tuple(column & mask for column in layout.columns))


def _reach(columns: tuple[int, ...]) -> int:
    reached = 0
    for column in columns:
        reached |= column
    return reached


def _unbased(embedding: Embedding) -> Embedding:
    return Embedding(embedding.digits, embedding.strides_elements)


def _is_binary_below(embedding: Embedding, count: int) -> bool:
    """Whether the low `count` offset digits are the low bits of every address."""
    size = 1 << count
    others = (embedding.base_elements, *embedding.strides_elements[count:])
    return (
        embedding.digits[:count] == (2,) * count
        and embedding.strides_elements[:count] == place_values(embedding.digits)[:count]
        and all(stride % size == 0 for stride in others)
    )
