"""Copies of a matrix tile into the form that products read (floor 6): widened to the compute dtype, row-major or in column panels.

One function per `PackShape`. The source has unit stride along its rows, or along its columns (`is_transposed`: then 128-bit blocks are
transposed in registers); what lies outside the valid extents becomes zero, so that ragged edges need no care later.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.codegen.llvm.convert import convert, from_storage, register_type, storage_type
from tilewright.codegen.llvm.emitter import Module, Value, constant, vector_type
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.target.cpu import CpuTarget

# Rows of the source read side by side: the stores of one panel then fill whole cache lines next to each other.
_ROWS_AT_ONCE = 4
_SQUARE_BYTES = 16


@dataclass(frozen=True, slots=True)
class PackShape:
    """A tile of `rows` x `columns`, as the destination sees it; strides in elements.

    Element (r, c) comes from source[r * source_stride + c], transposed from source[c * source_stride + r], and goes to
    destination[(c // panel) * panel_stride + r * row_stride + c % panel], without panels (0) to destination[r * row_stride + c].
    """

    rows: int
    columns: int
    source_dtype: DType
    dtype: DType
    row_stride: int
    panel: int = 0
    panel_stride: int = 0
    is_transposed: bool = False

    @property
    def function_name(self) -> str:
        kind = f"p{self.panel}s{self.panel_stride}" if self.panel else "rows"
        return f"pack_{self.source_dtype!s}_{self.dtype!s}_{self.rows}x{self.columns}_{kind}_r{self.row_stride}{'_transposed' if self.is_transposed else ''}"


def emit_pack(module: Module, target: CpuTarget, shape: PackShape) -> str:
    """The name of `void (ptr source, ptr destination, i64 source_stride, i64 valid_rows, i64 valid_columns)`, emitted at first use.

    Rows and columns from the valid extents on (clamped to the tile) are not read and become zero, and so do the columns that fill the
    last panel.
    """
    if shape.function_name not in module.functions:
        _PackEmitter(module, target, shape).emit()
    return shape.function_name


class _PackEmitter:
    """The emission of one function."""

    def __init__(self, module: Module, target: CpuTarget, shape: PackShape) -> None:
        if shape.source_dtype.is_packed or shape.dtype.bits < 32:
            raise CompilerBug(f"a packing of {shape.source_dtype!s} as {shape.dtype!s} was asked for")
        self.target, self.shape = target, shape
        self.element = register_type(shape.dtype)
        self.itemsize = shape.dtype.itemsize
        self.lanes = target.lanes(self.itemsize)
        if shape.panel % self.lanes:
            raise CompilerBug(f"a panel of {shape.panel} columns is no multiple of {self.lanes} lanes")
        self.chunk = shape.panel or 4 * self.lanes  # columns that are handled together
        parameters = [("ptr noalias", "source"), ("ptr noalias", "destination"), ("i64", "source_stride"), ("i64", "valid_rows"), ("i64", "valid_columns")]
        self.function = module.function(shape.function_name, "internal void", parameters, "noinline nounwind")
        self.source_element = storage_type(shape.source_dtype)
        self.source, self.destination, self.stride = (self.function.arguments[n] for n in ("source", "destination", "source_stride"))

    def emit(self) -> None:
        shape, f = self.shape, self.function
        rows, columns = (self.clamp(f.arguments[name], most) for name, most in (("valid_rows", shape.rows), ("valid_columns", shape.columns)))
        self.emit_padding(rows, columns)
        if shape.is_transposed:
            self.emit_transposed(rows, columns)
        else:
            self.emit_plain(rows, columns)
        f.ret()

    # -- integers
    def number(self, value: int) -> Value:
        return constant(value, "i64")

    def times(self, a: Value, b: Value | int) -> Value:
        return self.function.binary("mul nsw", a, b if isinstance(b, Value) else self.number(b))

    def plus(self, a: Value, b: Value | int) -> Value:
        return self.function.binary("add nsw", a, b if isinstance(b, Value) else self.number(b))

    def round_down(self, value: Value, unit: int) -> Value:
        """To a multiple of `unit`, of a value that is not negative."""
        if unit & (unit - 1) == 0:
            return self.function.binary("and", value, self.number(-unit))
        return self.times(self.function.binary("udiv", value, self.number(unit)), unit)

    def clamp(self, value: Value, most: int) -> Value:
        f = self.function
        return f.intrinsic("llvm.smin.i64", "i64", f.intrinsic("llvm.smax.i64", "i64", value, self.number(0)), self.number(most))

    # -- addresses
    def source_line(self, number: Value) -> Value:
        """Of the first element of a row of the source as it lies in memory."""
        return self.function.element_address(self.source, self.source_element, self.times(number, self.stride))

    def destination_address(self, row: Value, column: Value) -> Value:
        """Of any element, in general."""
        shape, f = self.shape, self.function
        offset = self.times(row, shape.row_stride)
        if shape.panel:
            panel = f.binary("udiv", column, self.number(shape.panel))
            column = self.plus(self.times(panel, shape.panel_stride), f.binary("urem", column, self.number(shape.panel)))
        return f.element_address(self.destination, self.element, self.plus(offset, column))

    def offset(self, base: Value, elements: int, element: str | None = None) -> Value:
        return self.function.element_address(base, element or self.element, self.number(elements))

    def load(self, address: Value, lanes: int) -> Value:
        """Consecutive source elements as values of the compute dtype."""
        shape, f, features = self.shape, self.function, self.target.features
        stored = f.load(storage_type(shape.source_dtype, lanes), address, shape.source_dtype.itemsize)
        return convert(f, from_storage(f, stored, shape.source_dtype, features), shape.source_dtype, shape.dtype, features)

    # -- parts
    def emit_padding(self, rows: Value, columns: Value) -> None:
        """Zeros where nothing will be copied to: everywhere if an edge is ragged, else only in what fills the last panel."""
        shape, f = self.shape, self.function
        whole = -(-shape.columns // shape.panel) * shape.panel if shape.panel else shape.columns
        if whole > shape.columns:
            self.emit_zeros(shape.columns // shape.panel * shape.panel, whole)
        is_ragged = f.binary("or", f.compare("icmp slt", rows, self.number(shape.rows)), f.compare("icmp slt", columns, self.number(shape.columns)))
        with f.when(is_ragged, hint="ragged"):
            self.emit_zeros(0, whole)

    def emit_zeros(self, start: int, stop: int) -> None:
        f, step = self.function, self.lanes
        vectors = start + (stop - start) // step * step
        with f.loop(self.number(0), self.number(self.shape.rows), self.number(1), hint="zero.row") as row:
            for first, end, lanes in ((start, vectors, step), (vectors, stop, 1)):
                if first < end:
                    with f.loop(self.number(first), self.number(end), self.number(lanes), hint="zero.column") as column:
                        f.store(constant(0, vector_type(self.element, lanes)), self.destination_address(row.index, column.index), self.itemsize)

    def cuts(self, extent: Value, sizes: tuple[int, ...]) -> list[tuple[Value, Value, int]]:
        """Stretches of `extent` to take in steps of each size, the later ones what the earlier leave over."""
        start, result = self.number(0), []
        for size in dict.fromkeys(sizes):
            stop = extent if size == 1 else self.round_down(extent, size)
            result.append((start, stop, size))
            start = stop
        return result

    def emit_plain(self, rows: Value, columns: Value) -> None:
        f = self.function
        for first, stop, height in self.cuts(rows, (_ROWS_AT_ONCE, 1)):
            with f.loop(first, stop, self.number(height), hint="row") as row:
                lines = [self.source_line(self.plus(row.index, i)) for i in range(height)]
                for start, end, width in self.cuts(columns, (self.chunk, self.lanes, 1)):
                    with f.loop(start, end, self.number(width), hint="column") as column:
                        self.emit_block(lines, row.index, column.index, width)

    def emit_block(self, lines: list[Value], row: Value, column: Value, width: int) -> None:
        """Part of some rows of the source to the same rows of one panel."""
        f, shape = self.function, self.shape
        target, lanes = self.destination_address(row, column), min(width, self.lanes)
        for i, line in enumerate(lines):
            source = f.element_address(line, self.source_element, column)
            for j in range(0, width, lanes):
                value = self.load(self.offset(source, j, self.source_element), lanes)
                f.store(value, self.offset(target, i * shape.row_stride + j), self.itemsize)

    def emit_transposed(self, rows: Value, columns: Value) -> None:
        f = self.function
        for start, end, width in self.cuts(columns, (self.lanes, 1)):
            with f.loop(start, end, self.number(width), hint="column") as column:
                lines = [self.source_line(self.plus(column.index, j)) for j in range(width)]
                for first, stop, height in self.cuts(rows, (min(_SQUARE_BYTES // self.itemsize, width), 1)):
                    with f.loop(first, stop, self.number(height), hint="row") as row:
                        self.emit_transposed_block(lines, row.index, column.index, height)

    def emit_transposed_block(self, lines: list[Value], row: Value, column: Value, height: int) -> None:
        """Part of some rows of the source to the same columns of `height` rows of one panel."""
        f, shape = self.function, self.shape
        target = self.destination_address(row, column)
        pieces = [self.load(f.element_address(line, self.source_element, row), height) for line in lines]
        if height == 1:
            registers = [self.gather(pieces)]
        else:  # register i holds lines i, i + height, i + 2 * height, ... side by side: each 128-bit lane is a square of its own
            registers = self.transpose_squares([self.concatenate(pieces[i::height]) for i in range(height)])
        for i, value in enumerate(registers):
            f.store(value, self.offset(target, i * shape.row_stride), self.itemsize)

    def gather(self, scalars: list[Value]) -> Value:
        if len(scalars) == 1:
            return scalars[0]
        vector = Value("poison", vector_type(self.element, len(scalars)))
        for lane, scalar in enumerate(scalars):
            vector = self.function.insert(vector, scalar, lane)
        return vector

    def concatenate(self, pieces: list[Value]) -> Value:
        while len(pieces) > 1:
            lanes = pieces[0].lanes
            pieces = [self.function.shuffle(a, b, range(2 * lanes)) for a, b in zip(pieces[::2], pieces[1::2], strict=True)]
        return pieces[0]

    def transpose_squares(self, registers: list[Value]) -> list[Value]:
        """2 registers of 2x2 squares or 4 registers of 4x4 squares, each square transposed; one-instruction shuffles on every target."""
        f, lanes = self.function, registers[0].lanes

        def mix(a: Value, b: Value, pattern: tuple[int, ...]) -> Value:
            size = len(pattern)
            return f.shuffle(a, b, [base + (p if p < size else p - size + lanes) for base in range(0, lanes, size) for p in pattern])

        if len(registers) == 2:
            a, b = registers
            return [mix(a, b, (0, 2)), mix(a, b, (1, 3))]
        a, b, c, d = registers
        low_ab, high_ab, low_cd, high_cd = mix(a, b, (0, 4, 1, 5)), mix(a, b, (2, 6, 3, 7)), mix(c, d, (0, 4, 1, 5)), mix(c, d, (2, 6, 3, 7))
        return [mix(low_ab, low_cd, (0, 1, 4, 5)), mix(low_ab, low_cd, (2, 3, 6, 7)), mix(high_ab, high_cd, (0, 1, 4, 5)), mix(high_ab, high_cd, (2, 3, 6, 7))]
