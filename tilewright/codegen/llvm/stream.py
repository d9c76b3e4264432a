"""Products of a few rows as LLVM functions (floor 6): the second operand is read once, where it lies, and never packed.

With few rows an element of b is used a few times only, so what counts is that b arrives as fast as memory gives it: in long contiguous runs, a handful
of them side by side, the next handful on its way into the second-level cache. One function per `StreamShape`. Where b is contiguous along n, a few of
its rows are added to all of c in one pass; where it is contiguous along k, a few columns of c are dot products that run along k together. Elements of
b are converted in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tilewright.codegen.llvm.blocking import is_fused
from tilewright.codegen.llvm.convert import convert, from_storage, register_type, storage_type
from tilewright.codegen.llvm.emitter import Module, Value, constant, vector_type
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.target.cpu import CpuTarget

# Rows of b that one pass over c adds. Measured: 4 pass over c too often, 16 are more runs than the processor follows.
_RUNS = 8
# Dot products side by side.
_DOTS = 4
_MOST_VECTORS = 4
_CACHE_LINE_BYTES = 64
_INTO_L2 = 2  # the locality operand of llvm.prefetch


@dataclass(frozen=True, slots=True)
class StreamShape:
    """What is static about a product of `rows` x depth by depth x (`blocks` * `block_columns`); strides in elements.

    b has `source_dtype`; a and c have `dtype`, in which products and sums are done. Element (k, n) of b is at k * b_stride + n, where `is_transposed`
    at n * b_stride + k. Element (m, n) of c is at (n // block_columns) * c_block_stride + m * c_row_stride + n % block_columns. c overlaps neither a
    nor b.
    """

    rows: int
    blocks: int
    block_columns: int
    source_dtype: DType
    dtype: DType
    a_row_stride: int
    a_k_stride: int
    c_row_stride: int
    c_block_stride: int
    is_transposed: bool

    @property
    def function_name(self) -> str:
        size = f"{self.rows}x{self.blocks}x{self.block_columns}"
        strides = f"a{self.a_row_stride}k{self.a_k_stride}_c{self.c_row_stride}b{self.c_block_stride}"
        return f"stream_{self.source_dtype!s}_{self.dtype!s}_{size}_{strides}{'_transposed' if self.is_transposed else ''}".replace("-", "m")


def emit_stream_multiply(module: Module, target: CpuTarget, shape: StreamShape) -> str:
    """The name of `void (ptr a, ptr b, ptr c, i64 b_stride, i64 depth, i64 valid_columns, i1 is_overwriting)`, emitted at first use.

    The addresses are those of the elements 0, 0. Columns of b from `valid_columns` on (clamped to all there are) are not read and count as zeros.
    With `is_overwriting` what c held does not count. A depth that is not positive is none.
    """
    if shape.function_name not in module.functions:
        _StreamEmitter(module, target, shape).emit()
    return shape.function_name


class _StreamEmitter:
    """The emission of one function."""

    def __init__(self, module: Module, target: CpuTarget, shape: StreamShape) -> None:
        if shape.source_dtype.is_packed or shape.source_dtype.is_bool or shape.dtype.bits < 32:
            raise CompilerBug(f"a product of {shape.source_dtype!s} as {shape.dtype!s} was asked for")
        self.target, self.shape = target, shape
        self.itemsize, self.source_itemsize = shape.dtype.itemsize, shape.source_dtype.itemsize
        self.lanes = target.lanes(self.itemsize)
        self.element, self.source_element = register_type(shape.dtype), storage_type(shape.source_dtype)
        self.most_sums = target.register_count // 2  # the other half: elements of a and b, and what LLVM schedules ahead
        parameters = [("ptr noalias", "a"), ("ptr noalias", "b"), ("ptr noalias", "c"), ("i64", "b_stride"), ("i64", "depth"), ("i64", "valid_columns")]
        self.function = f = module.function(shape.function_name, "internal void", [*parameters, ("i1 zeroext", "is_overwriting")], "noinline nounwind")
        self.a, self.b, self.c = (f.arguments[name] for name in ("a", "b", "c"))
        self.stride = f.arguments["b_stride"]

    # -- numbers and addresses
    def number(self, value: int) -> Value:
        return constant(value, "i64")

    def times(self, a: Value, b: Value | int) -> Value:
        return self.function.binary("mul nsw", a, b if isinstance(b, Value) else self.number(b))

    def plus(self, a: Value, b: Value | int) -> Value:
        return a if b == 0 else self.function.binary("add nsw", a, b if isinstance(b, Value) else self.number(b))

    def clamp(self, value: Value, most: int | None = None) -> Value:
        f = self.function
        value = f.intrinsic("llvm.smax.i64", "i64", value, self.number(0))
        return value if most is None else f.intrinsic("llvm.smin.i64", "i64", value, self.number(most))

    def at(self, base: Value, offset: Value | int, element: str = "") -> Value:
        return self.function.element_address(base, element or self.element, offset if isinstance(offset, Value) else self.number(offset))

    def b_run(self, number: Value) -> Value:
        """The first element of a row of b as it lies in memory."""
        return self.at(self.b, self.times(number, self.stride), self.source_element)

    # -- loops
    def cuts(self, extent: Value, sizes: tuple[int, ...]) -> list[tuple[Value, Value, int]]:
        """Stretches of `extent` to take in steps of each size, the later ones what the earlier leave over."""
        start, result = self.number(0), []
        for size in dict.fromkeys(sizes):
            stop = extent if size == 1 else self.times(self.function.binary("udiv", extent, self.number(size)), size)
            result.append((start, stop, size))
            start = stop
        return result

    @contextmanager
    def blocks(self, columns: Value) -> Iterator[tuple[Value, Value, Value]]:
        """For every block of c: its first column, how many of its columns are valid, its address."""
        shape, f = self.shape, self.function
        with f.loop(self.number(0), columns, self.number(shape.block_columns), [self.c], hint="block") as block:
            (c,) = block.carried
            block.next = [self.at(c, shape.c_block_stride)]
            rest = f.binary("sub nsw", columns, block.index)
            yield block.index, f.intrinsic("llvm.smin.i64", "i64", rest, self.number(shape.block_columns)), c

    def row_tiles(self, most: int) -> list[range]:
        """The rows in tiles of at most that many, as equal as can be."""
        rows = self.shape.rows
        count = -(-rows // max(most, 1))
        return [range(rows * i // count, rows * (i + 1) // count) for i in range(count)]

    def emit(self) -> None:
        shape, f = self.shape, self.function
        columns = self.clamp(f.arguments["valid_columns"], shape.blocks * shape.block_columns)
        depth = self.clamp(f.arguments["depth"])
        with f.when(f.arguments["is_overwriting"], hint="overwrite"):
            self.emit_zeros()
        if shape.is_transposed:
            with self.blocks(columns) as (first, width, c):
                for start, stop, count in self.cuts(width, (_DOTS, 1)):
                    with f.loop(start, stop, self.number(count), hint="dots") as column:
                        runs = [self.b_run(self.plus(self.plus(first, column.index), i)) for i in range(count)]
                        self.emit_dots(runs, depth, self.at(c, column.index))
        else:
            for start, stop, count in self.cuts(depth, (_RUNS, 1)):
                with f.loop(start, stop, self.number(count), hint="runs") as k:
                    a = self.at(self.a, self.times(k.index, shape.a_k_stride))
                    runs = [self.b_run(self.plus(k.index, i)) for i in range(count)]
                    with self.blocks(columns) as (first, width, c):
                        self.emit_runs([self.at(run, first, self.source_element) for run in runs], a, width, c)
        if shape.dtype.is_float:
            self.emit_absent(columns, depth)
        f.ret()

    def emit_zeros(self) -> None:
        """All of c."""
        shape, f = self.shape, self.function
        zero = self.number(0)
        with (
            f.loop(zero, self.number(shape.blocks), self.number(1), hint="zero.block") as block,
            f.loop(zero, self.number(shape.rows), self.number(1), hint="zero.row") as row,
        ):
            line = self.at(self.c, self.plus(self.times(block.index, shape.c_block_stride), self.times(row.index, shape.c_row_stride)))
            for start, stop, width in self.cuts(self.number(shape.block_columns), (self.lanes, 1)):
                with f.loop(start, stop, self.number(width), hint="zero.column") as column:
                    f.store(constant(0, vector_type(self.element, width)), self.at(line, column.index), self.itemsize)

    def emit_absent(self, columns: Value, depth: Value) -> None:
        """The columns that b does not have: a times zeros, which is NaN where an element of a is not finite."""
        shape, f = self.shape, self.function
        total = self.number(shape.blocks * shape.block_columns)
        is_ragged = f.compare("icmp slt", columns, total)
        with f.when(is_ragged, hint="absent"), f.loop(self.number(0), self.number(shape.rows), self.number(1), hint="absent.row") as row:
            a, c = self.at(self.a, self.times(row.index, shape.a_row_stride)), self.at(self.c, self.times(row.index, shape.c_row_stride))
            with f.loop(self.number(0), depth, self.number(1), [constant(0, self.element)], hint="absent.k") as k:
                (added,) = k.carried
                value = f.load(self.element, self.at(a, self.times(k.index, shape.a_k_stride)), self.itemsize)
                k.next = [self.multiply_add(value, constant(0, self.element), added)]
            with f.loop(columns, total, self.number(1), hint="absent.column") as column:
                block, inner = (f.binary(op, column.index, self.number(shape.block_columns)) for op in ("udiv", "urem"))
                place = self.at(c, self.plus(self.times(block, shape.c_block_stride), inner))
                f.store(self.add(f.load(self.element, place, self.itemsize), k.results[0]), place, self.itemsize)

    # -- rows of b that are contiguous along n
    def emit_runs(self, runs: list[Value], a: Value, columns: Value, c: Value) -> None:
        """c[:, :columns] += a[:, runs] * runs."""
        f = self.function
        tiles = self.row_tiles(self.most_sums // 2)
        vectors = min(self.most_sums // max(map(len, tiles)), _MOST_VECTORS)
        ahead = self.times(self.stride, len(runs))
        for start, stop, width in self.cuts(columns, (vectors * self.lanes, self.lanes, 1)):
            with f.loop(start, stop, self.number(width), hint="column") as column:
                sources = [self.at(run, column.index, self.source_element) for run in runs]
                if width > 1:
                    for source in sources:
                        self.prefetch(self.at(source, ahead, self.source_element), width)
                for rows in tiles:
                    self.emit_column_tile(rows, width, sources, a, self.at(c, column.index))

    def emit_column_tile(self, rows: range, width: int, sources: list[Value], a: Value, c: Value) -> None:
        shape, f = self.shape, self.function
        lanes = min(width, self.lanes)
        type_ = vector_type(self.element, lanes)
        places = {(row, v): self.at(c, row * shape.c_row_stride + v) for row in rows for v in range(0, width, lanes)}
        sums = {key: f.load(type_, place, self.itemsize) for key, place in places.items()}
        for i, source in enumerate(sources):
            values = {v: self.load_b(self.at(source, v, self.source_element), lanes) for v in range(0, width, lanes)}
            for row in rows:
                factor = f.splat(f.load(self.element, self.at(a, row * shape.a_row_stride + i * shape.a_k_stride), self.itemsize), lanes)
                for v, value in values.items():
                    sums[row, v] = self.multiply_add(factor, value, sums[row, v])
        for key, place in places.items():
            f.store(sums[key], place, self.itemsize)

    # -- rows of b that are contiguous along k
    def emit_dots(self, runs: list[Value], depth: Value, c: Value) -> None:
        """One column of c for each run."""
        ahead = self.times(self.stride, len(runs))
        for rows in self.row_tiles(self.most_sums // _DOTS):
            self.emit_dot_tile(rows, runs, depth, c, ahead if rows.start == 0 else None)

    def emit_dot_tile(self, rows: range, runs: list[Value], depth: Value, c: Value, ahead: Value | None) -> None:
        f, shape = self.function, self.shape
        dots = [(row, i) for i in range(len(runs)) for row in rows]
        parts = 1 << max(self.most_sums // len(dots), 1).bit_length() - 1  # a power of two, to be summed in pairs
        sums = [constant(0, vector_type(self.element, self.lanes))] * (len(dots) * parts)
        for start, stop, width in self.cuts(depth, (parts * self.lanes, self.lanes, 1)):
            lanes = min(width, self.lanes)
            while len(sums) * lanes > len(dots) * width:
                half = len(sums) // 2
                sums = [self.add(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
            if lanes == 1 < self.lanes:
                sums = [self.total(value) for value in sums]
            with f.loop(start, stop, self.number(width), sums, hint="k") as k:
                k.next = []
                sources = [self.at(run, k.index, self.source_element) for run in runs]
                if width > 1 and ahead is not None:
                    for source in sources:
                        self.prefetch(self.at(source, ahead, self.source_element), width)
                for part in range(0, width, lanes):
                    factors = {row: self.load_a(row, self.plus(k.index, part), lanes) for row in rows}
                    values = [self.load_b(self.at(source, part, self.source_element), lanes) for source in sources]
                    carried = k.carried[len(k.next) :]
                    k.next += [self.multiply_add(factors[row], values[i], total) for (row, i), total in zip(dots, carried, strict=False)]
            sums = k.results
        for (row, i), total in zip(dots, sums, strict=True):
            place = self.at(c, row * shape.c_row_stride + i)
            f.store(self.add(f.load(self.element, place, self.itemsize), total), place, self.itemsize)

    # -- instructions
    def prefetch(self, address: Value, elements: int) -> None:
        """Of that many elements of b; they may lie outside it."""
        for byte in range(0, elements * self.source_itemsize, _CACHE_LINE_BYTES):
            options = (constant(n, "i32") for n in (0, _INTO_L2, 1))  # to read; data
            self.function.intrinsic("llvm.prefetch.p0", "void", self.at(address, byte, "i8"), *options)

    def load_b(self, address: Value, lanes: int) -> Value:
        shape, f, features = self.shape, self.function, self.target.features
        stored = f.load(storage_type(shape.source_dtype, lanes), address, self.source_itemsize)
        return convert(f, from_storage(f, stored, shape.source_dtype, features), shape.source_dtype, shape.dtype, features)

    def load_a(self, row: int, k: Value, lanes: int) -> Value:
        """Consecutive elements of a row."""
        shape, f = self.shape, self.function
        first = self.at(self.at(self.a, self.times(k, shape.a_k_stride)), row * shape.a_row_stride)
        if shape.a_k_stride == 1 or lanes == 1:
            return f.load(vector_type(self.element, lanes), first, self.itemsize)
        vector = Value("poison", vector_type(self.element, lanes))
        for lane in range(lanes):
            vector = f.insert(vector, f.load(self.element, self.at(first, lane * shape.a_k_stride), self.itemsize), lane)
        return vector

    def add(self, a: Value, b: Value) -> Value:
        return self.function.binary("fadd" if self.shape.dtype.is_float else "add", a, b)

    def total(self, vector: Value) -> Value:
        """The sum of all lanes, halves added to halves."""
        f, size = self.function, vector.lanes
        while size > 2:
            size //= 2
            vector = self.add(f.shuffle(vector, None, range(size)), f.shuffle(vector, None, range(size, 2 * size)))
        return self.add(f.extract(vector, 0), f.extract(vector, 1))

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        f = self.function
        if is_fused(self.target, self.shape.dtype):
            return f.fma(a, b, c)
        multiply, add = ("fmul contract", "fadd contract") if self.shape.dtype.is_float else ("mul", "add")
        return f.binary(add, f.binary(multiply, a, b), c)
