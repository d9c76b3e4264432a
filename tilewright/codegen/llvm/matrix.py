"""Dense matrix products as LLVM functions (floor 6): register-blocked micro-kernels with explicit vectors.

One function per `MatrixShape` computes c[m, n] += sum over k of a[m, k] * b[k, n]. Its loops, from the outside: stretches of k short
enough that a column strip of b stays in the L1 cache; column strips; row tiles; k, unrolled. A row tile of a times a column strip of b is
one micro-kernel: its part of c lives in registers from the first k to the last, each vector of b is loaded once per k, and elements of a
are broadcast, so that a may have any strides. (Van Zee, van de Geijn: BLIS, ACM TOMS 41(3), 2015.)
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.codegen.llvm.blocking import Strip, is_fused, split_columns, split_rows
from tilewright.codegen.llvm.convert import register_type
from tilewright.codegen.llvm.emitter import Module, Value, constant, scalar_constant, vector_type
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.target.cpu import CpuTarget

# Turns of k per branch. Without fused multiply-add LLVM would mix the turns until sums no longer fit the registers.
_K_UNROLL = 4
_K_UNROLL_WITHOUT_FMA = 1
# A column strip of b is read once per row tile, between the rows of a: it may be as large as the smallest usual L1 data cache. Measured: 16 and
# 32 KiB are alike in deep products, and at 128 deep a strip of 64 columns need not be cut, so that its sums are written once.
_STRIP_BYTES = 32 * 1024
_CACHE_LINE_BYTES = 64
_INTO_L1, _INTO_L2 = 3, 2  # the locality operand of llvm.prefetch


@dataclass(frozen=True, slots=True)
class MatrixShape:
    """What is static about a product of `rows` x depth by depth x `columns`; strides in elements of `dtype`, which all three operands have.

    Row-major b (`b_panel` 0) has column stride 1 and is never read outside its columns. In panels, column n of row k lies at
    (n // b_panel) * b_panel_stride + k * b_k_stride + n % b_panel; panels are whole: their padding may be read, and is never used.
    c has column stride 1 and is written in its columns only. c overlaps neither a nor b.
    """

    rows: int
    columns: int
    dtype: DType
    a_row_stride: int
    a_k_stride: int
    b_k_stride: int
    c_row_stride: int
    b_panel: int = 0
    b_panel_stride: int = 0

    @property
    def function_name(self) -> str:
        panels = f"p{self.b_panel}s{self.b_panel_stride}" if self.b_panel else ""
        strides = f"a{self.a_row_stride}k{self.a_k_stride}_b{self.b_k_stride}{panels}_c{self.c_row_stride}"
        return f"multiply_{self.dtype!s}_{self.rows}x{self.columns}_{strides}".replace("-", "m")

    def b_offset(self, column: int) -> int:
        """Elements from column 0 to another one of the same k."""
        return column // self.b_panel * self.b_panel_stride + column % self.b_panel if self.b_panel else column


def emit_matrix_multiply(module: Module, target: CpuTarget, shape: MatrixShape) -> str:
    """The name of `void (ptr a, ptr b, ptr c, i64 depth, i1 is_overwriting)` for that shape, emitted into `module` at first use.

    The addresses are those of the operands' elements 0, 0. With `is_overwriting` c is not read, and a depth of 0 gives zeros.
    """
    if shape.function_name not in module.functions:
        _MultiplyEmitter(module, target, shape).emit()
    return shape.function_name


class _MultiplyEmitter:
    """The emission of one function."""

    def __init__(self, module: Module, target: CpuTarget, shape: MatrixShape) -> None:
        if shape.dtype.bits < 32 or shape.dtype.is_bool:
            raise CompilerBug(f"a product of {shape.dtype!s} was asked for; operands must be widened first")
        self.target, self.shape = target, shape
        self.itemsize = shape.dtype.itemsize
        self.lanes = target.lanes(self.itemsize)
        self.element = register_type(shape.dtype)
        self.vector = vector_type(self.element, self.lanes)
        self.is_fused = is_fused(target, shape.dtype)
        self.unroll = _K_UNROLL if self.is_fused else _K_UNROLL_WITHOUT_FMA
        self.strips = split_columns(shape.rows, shape.columns, shape.dtype, target, shape.b_panel)
        row_bytes = max(strip.columns for strip in self.strips) * self.itemsize
        self.stretch = max(_STRIP_BYTES // row_bytes // _K_UNROLL, 1) * _K_UNROLL
        parameters = [("ptr noalias", "a"), ("ptr noalias", "b"), ("ptr noalias", "c"), ("i64", "depth"), ("i1 zeroext", "is_overwriting")]
        self.function = module.function(shape.function_name, "internal void", parameters, "noinline nounwind")

    # -- numbers and addresses
    def number(self, value: int) -> Value:
        return constant(value, "i64")

    def offset(self, base: Value, elements: int) -> Value:
        return self.function.element_address(base, self.element, self.number(elements))

    def vectors(self, columns: int) -> int:
        return -(-columns // self.lanes)

    # -- loops
    def emit(self) -> None:
        shape, f = self.shape, self.function
        depth, stretch = f.arguments["depth"], self.number(self.stretch)
        # One turn at least: a product of depth 0 still overwrites.
        stop = f.intrinsic("llvm.smax.i64", "i64", depth, self.number(1))
        with f.loop(self.number(0), stop, stretch, [f.arguments["a"], f.arguments["b"], f.arguments["is_overwriting"]], hint="stretch") as k:
            a, b, is_overwriting = k.carried
            k.next = [self.offset(a, self.stretch * shape.a_k_stride), self.offset(b, self.stretch * shape.b_k_stride), constant(False, "i1")]
            turns = f.intrinsic("llvm.smin.i64", "i64", f.binary("sub nsw", depth, k.index), stretch)
            for strip in self.strips:
                self.emit_strips(strip, a, b, turns, is_overwriting)
        f.ret()

    def emit_strips(self, strip: Strip, a: Value, b: Value, turns: Value, is_overwriting: Value) -> None:
        """The strips of one width, and for each all rows."""
        shape, f = self.shape, self.function
        b = self.offset(b, shape.b_offset(strip.first_column))
        c = self.offset(f.arguments["c"], strip.first_column)
        groups = split_rows(shape.rows, self.vectors(strip.columns), shape.dtype, self.target)
        lines = self.lines_ahead(strip, sum(group.count for group in groups))
        with f.loop(self.number(0), self.number(strip.count), self.number(1), [b, c], hint="strip") as across:
            b, c = across.carried
            b_next = self.offset(b, shape.b_offset(strip.columns))
            across.next = [b_next, self.offset(c, strip.columns)]
            pointers = [a, c, b_next]
            for group in groups:
                with f.loop(self.number(0), self.number(group.count), self.number(1), pointers, hint="tile") as down:
                    a_tile, c_tile, ahead = down.carried
                    for line in range(lines):
                        self.prefetch(self.offset(ahead, line * _CACHE_LINE_BYTES // self.itemsize), _INTO_L2)
                    down.next = [
                        self.offset(a_tile, group.rows * shape.a_row_stride),
                        self.offset(c_tile, group.rows * shape.c_row_stride),
                        self.offset(ahead, lines * _CACHE_LINE_BYTES // self.itemsize),
                    ]
                    self.emit_micro_kernel(group.rows, strip.columns, a_tile, b, c_tile, turns, is_overwriting)
                pointers = down.results

    def lines_ahead(self, strip: Strip, row_tiles: int) -> int:
        """Cache lines of the next strip to fetch per row tile, so that all is there when its turn comes; 0 where it is not one piece."""
        shape = self.shape
        if strip.count == 1 or strip.columns != shape.b_panel or shape.b_k_stride != shape.b_panel:
            return 0
        strip_bytes = min(self.stretch * strip.columns, shape.b_panel_stride) * self.itemsize
        return -(-strip_bytes // (_CACHE_LINE_BYTES * row_tiles))

    def emit_micro_kernel(self, rows: int, columns: int, a: Value, b: Value, c: Value, turns: Value, is_overwriting: Value) -> None:
        """c[rows, columns] (+)= a[rows, turns] * b[turns, columns], everything of c in registers."""
        shape, f = self.shape, self.function
        for row in range(rows):
            for column in range(0, columns, _CACHE_LINE_BYTES // self.itemsize):
                self.prefetch(self.offset(c, row * shape.c_row_stride + column), _INTO_L1, is_write=True)
        sums = [constant(0, self.vector)] * (rows * self.vectors(columns))
        whole = turns if self.unroll == 1 else f.binary("and", turns, self.number(-self.unroll))
        for start, stop, unroll in ((self.number(0), whole, self.unroll), (whole, turns, 1)):
            if start is stop:
                continue
            with f.loop(start, stop, self.number(unroll), [a, b, *sums], hint="k") as k:
                a, b, *sums = k.carried
                for turn in range(unroll):
                    sums = self.emit_turn(self.offset(a, turn * shape.a_k_stride), self.offset(b, turn * shape.b_k_stride), rows, columns, sums)
                k.next = [self.offset(a, unroll * shape.a_k_stride), self.offset(b, unroll * shape.b_k_stride), *sums]
            a, b, *sums = k.results
        self.emit_stores(sums, columns, c, is_overwriting)

    def emit_turn(self, a: Value, b: Value, rows: int, columns: int, sums: list[Value]) -> list[Value]:
        """The sums with one k added: the outer product of a column of a and a row of b."""
        shape, f = self.shape, self.function
        b_row = []
        for column in range(0, columns, self.lanes):
            valid = self.lanes if shape.b_panel else min(self.lanes, columns - column)
            b_row.append(self.load_lanes(self.offset(b, shape.b_offset(column)), valid))
        added = []
        for row in range(rows):
            scalar = f.load(self.element, self.offset(a, row * shape.a_row_stride), self.itemsize)
            broadcast = f.splat(scalar, self.lanes)
            added += [self.multiply_add(broadcast, b_vector, sums[row * len(b_row) + i]) for i, b_vector in enumerate(b_row)]
        return added

    def emit_stores(self, sums: list[Value], columns: int, c: Value, is_overwriting: Value) -> None:
        shape, f = self.shape, self.function
        overwrite, accumulate, end = f.label("overwrite"), f.label("accumulate"), f.label("stored")
        f.branch_if(is_overwriting, overwrite, accumulate)
        for label in (overwrite, accumulate):
            f.start(label)
            for i, value in enumerate(sums):
                row, vector = divmod(i, self.vectors(columns))
                address = self.offset(c, row * shape.c_row_stride + vector * self.lanes)
                valid = min(self.lanes, columns - vector * self.lanes)
                if label is accumulate:
                    value = f.binary("fadd" if shape.dtype.is_float else "add", value, self.load_lanes(address, valid))
                self.store_lanes(value, address, valid)
            f.branch(end)
        f.start(end)

    # -- instructions
    def prefetch(self, address: Value, locality: int, is_write: bool = False) -> None:
        into_data_cache = 1
        self.function.intrinsic("llvm.prefetch.p0", "void", address, *(constant(n, "i32") for n in (int(is_write), locality, into_data_cache)))

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        f = self.function
        if self.is_fused:
            return f.fma(a, b, c)
        multiply, add = ("fmul contract", "fadd contract") if self.shape.dtype.is_float else ("mul", "add")
        return f.binary(add, f.binary(multiply, a, b), c)

    def load_lanes(self, address: Value, valid: int) -> Value:
        """A vector whose first `valid` lanes come from memory; nothing behind them is read."""
        if valid == self.lanes:
            return self.function.load(self.vector, address, self.itemsize)
        mask = ", ".join(f"i1 {scalar_constant(lane < valid, 'i1')}" for lane in range(self.lanes))
        zeros = constant(0, self.vector)
        return self.function.intrinsic(
            f"llvm.masked.load.{zeros.overload}.p0",
            self.vector,
            address,
            constant(self.itemsize, "i32"),
            Value(f"<{mask}>", vector_type("i1", self.lanes)),
            zeros,
        )

    def store_lanes(self, value: Value, address: Value, valid: int) -> None:
        """Writes the first `valid` lanes in pieces of powers of two: masked stores are slow on some processors."""
        f, start, size = self.function, 0, self.lanes
        while start < valid:
            if valid - start >= size:
                piece = value if size == self.lanes else f.extract(value, start) if size == 1 else f.shuffle(value, None, range(start, start + size))
                f.store(piece, self.offset(address, start), self.itemsize)
                start += size
            size //= 2
