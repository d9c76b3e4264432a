"""Which instruction a product uses on a GPU and which warp computes what (floor 4).

On tensor cores the accumulator is a grid of instruction tiles. The warps stand in rows and columns over it, each with the same number of tiles; rows and
columns are multiplied up to at most the block's warps, and what is left of the warps repeats the work of others. A tile that the grid does not divide
is padded: what lies in the padding is computed from repeated rows and columns, and nobody reads it. Products that no tensor-core instruction fits are done
with plain multiply-adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.intrin.nvidia.mma import Mma, mma_atoms
from tilewright.layout import LANE, REG, WARP, Axis, Layout, distribute, factor
from tilewright.layout.digits import log2_exact
from tilewright.ops.gemm.numerics import compute_dtype
from tilewright.target.nvidia import NvidiaTarget

STEP = "step"
_VECTOR_BITS = 128


class GemmWarpPolicy(Enum):
    """How the warps of a block share the accumulator; a hint."""

    Square = 0
    FullRow = 1
    FullCol = 2

    def is_square(self) -> bool:
        return self is GemmWarpPolicy.Square


@dataclass(frozen=True, slots=True)
class GemmPlan:
    """How the threads of a block compute c (m, n) += a (m, k) @ b (k, n).

    num_threads         of the block.
    accumulator_layout  (reg, lane, warp) -> d0, d1: the fragment c, possibly padded. Registers count the tile's columns fastest.
    accumulator_dtype   what sums are kept in while the product runs; where it is not c's dtype, c is converted before and after.
    atom                the tensor-core instruction; None where each thread multiplies and adds by itself.
    rows, columns       warps along m and along n (1, 1 where there is no atom).
    a_fragment          (reg, step, lane, warp) -> m, k: what a thread holds of a at each step along k; None where there is no atom.
    b_fragment          the same for b -> k, n.
    a_layout, b_layout  (reg, lane, warp) -> d0, d1 of an operand as it is stored (transposed or not) that is held in registers whole, registers of one step
                        together; None where the operand must be in shared memory, as one must that is padded: nobody fills its padding.
    refusals            why faster instructions were not taken, for remarks.
    """

    m: int
    n: int
    k: int
    num_threads: int
    accumulator_layout: Layout
    accumulator_dtype: DType
    atom: Mma | None = None
    rows: int = 1
    columns: int = 1
    a_fragment: Layout | None = None
    b_fragment: Layout | None = None
    a_layout: Layout | None = None
    b_layout: Layout | None = None
    refusals: tuple[str, ...] = ()

    @property
    def num_warps(self) -> int:
        """Warps that take part."""
        return self.accumulator_layout.in_axis(WARP).extent

    @property
    def steps(self) -> int:
        """Instructions along k."""
        return 1 if self.atom is None else self.k // self.atom.k


def choose_partition(
    m: int,
    n: int,
    k: int,
    a_dtype: DType,
    b_dtype: DType,
    c_dtype: DType,
    num_threads: int,
    policy: GemmWarpPolicy,
    target: NvidiaTarget,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    float32_as_tf32: bool = False,
) -> GemmPlan:
    """The plan for any positive sizes and any number of threads.

    float32 operands are multiplied exactly, without tensor cores, unless `float32_as_tf32` allows their mantissas to be rounded to 10 bits; tfloat32 ones
    always are.
    """
    compute = compute_dtype(a_dtype, c_dtype)
    refusals: list[str] = []
    atom = _half_atom(k, a_dtype, b_dtype, num_threads, target) if c_dtype is dtypes.float16 else None
    atom = atom or _atom(k, a_dtype, b_dtype, compute, num_threads, target, float32_as_tf32, refusals)
    if atom is None:
        # Neighbouring lanes read neighbouring columns of b where these lie apart in memory, else wide vectors of them.
        vector = 1 if transpose_b else _VECTOR_BITS // max(compute.bits, b_dtype.bits)
        spread = distribute((m, n), num_threads, vector)
        return GemmPlan(m, n, k, num_threads, spread.layout, compute, refusals=tuple(refusals))
    num_warps = num_threads // target.warp_threads
    rows, columns = _warp_grid(-(-m // atom.m), -(-n // atom.n), num_warps, policy)
    grid = _Grid(atom, _padded(m, atom.m, rows), _padded(n, atom.n, columns), k, num_warps, rows, columns)
    a_fragment, b_fragment = grid.a(), grid.b()
    return GemmPlan(
        m,
        n,
        k,
        num_threads,
        grid.c(),
        atom.c_dtype,
        atom,
        rows,
        columns,
        a_fragment,
        b_fragment,
        _held(a_fragment, ("k", "m") if transpose_a else ("m", "k")) if a_dtype is atom.a_dtype and grid.m == m else None,
        _held(b_fragment, ("n", "k") if transpose_b else ("k", "n")) if b_dtype is atom.b_dtype and grid.n == n else None,
        tuple(refusals),
    )


def _half_atom(k: int, a_dtype: DType, b_dtype: DType, num_threads: int, target: NvidiaTarget) -> Mma | None:
    """The instruction that adds in float16, as a program asks for with a float16 accumulator: half the registers, and no conversions around each product."""
    atoms = mma_atoms(a_dtype, b_dtype, dtypes.float16, target) if num_threads >= target.warp_threads else ()
    return next((atom for atom in atoms if k % atom.k == 0), None)


def _atom(
    k: int, a_dtype: DType, b_dtype: DType, compute: DType, num_threads: int, target: NvidiaTarget, float32_as_tf32: bool, refusals: list[str]
) -> Mma | None:
    """The instruction with the widest k that divides the product's; None, with the reason, where there is none."""
    a, b = (dtypes.tfloat32 if float32_as_tf32 and dtype is dtypes.float32 else dtype for dtype in (a_dtype, b_dtype))
    # A uint32 sum has the bits of an int32 sum; both wrap.
    accumulator = dtypes.int32 if compute is dtypes.uint32 else compute
    atoms = mma_atoms(a, b, accumulator, target)
    name = f"{a_dtype!s} by {b_dtype!s}" if a_dtype is not b_dtype else f"{a_dtype!s}"
    if not atoms:
        elsewhere = mma_atoms(a, b, accumulator)
        why = f"needs {elsewhere[0].feature.value}, which {target.name} has not" if elsewhere else "has no tensor-core instruction"
        exact = "; its products are exact: use T.tfloat32 for tensor cores with 10 bits of mantissa" if a is dtypes.float32 and not elsewhere else ""
        refusals.append(f"{name} into {compute!s} {why}{exact}")
        return None
    if num_threads < target.warp_threads:
        refusals.append(f"{num_threads} threads are no whole warp")
        return None
    atom = next((atom for atom in atoms if k % atom.k == 0), None)
    if atom is None:
        refusals.append(f"K = {k} is not a multiple of {atoms[-1].k}, the least that a tensor-core instruction for {name} takes")
    return atom


def _padded(extent: int, atom: int, warps: int) -> int:
    """The extent that is whole instruction tiles for each of `warps` warps."""
    return -(-extent // (atom * warps)) * atom * warps


def _warp_grid(row_tiles: int, column_tiles: int, num_warps: int, policy: GemmWarpPolicy) -> tuple[int, int]:
    """Rows and columns of warps over a grid of instruction tiles: the least work for a warp, where padding counts an eighth more; then the policy."""

    def cost(grid: tuple[int, int]) -> tuple[int, ...]:
        rows, columns = grid
        in_rows, in_columns = -(-row_tiles // rows), -(-column_tiles // columns)
        is_padded = in_rows * rows > row_tiles or in_columns * columns > column_tiles
        work = in_rows * in_columns * (9 if is_padded else 8)
        loads = in_rows * 2 + in_columns  # in units of 8 rows or columns: what a warp reads of a and b at each step
        match policy:
            case GemmWarpPolicy.FullRow:
                return work, columns, loads
            case GemmWarpPolicy.FullCol:
                return work, rows, loads
        return work, loads, columns

    return min(_divisor_pairs(num_warps, row_tiles, column_tiles), key=cost)


def _divisor_pairs(num_warps: int, row_tiles: int, column_tiles: int) -> Iterator[tuple[int, int]]:
    """Rows and columns whose product divides the number of warps, each with something to do."""
    for rows in range(1, min(num_warps, row_tiles) + 1):
        if num_warps % rows == 0:
            for columns in range(1, min(num_warps // rows, column_tiles) + 1):
                if num_warps // rows % columns == 0:
                    yield rows, columns


def _held(fragment: Layout, stored: tuple[str, str]) -> Layout:
    """The registers of all steps as one axis, the tile's axes as stored."""
    digits = fragment.in_axis(REG).digits + fragment.in_axis(STEP).digits
    whole = fragment.reshape_ins((Axis(REG, digits), fragment.in_axis(LANE), fragment.in_axis(WARP)))
    return whole.reorder(outs=stored).rename(outs={stored[0]: "d0", stored[1]: "d1"})


@dataclass(frozen=True, slots=True)
class _Grid:
    """Instruction tiles over padded extents, and warps over them."""

    atom: Mma
    m: int
    n: int
    k: int
    num_warps: int
    rows: int
    columns: int

    def c(self) -> Layout:
        """(reg, lane, warp) -> d0, d1. Registers: those of the instruction, then tiles along n, then along m."""
        layout = self._repeated(self.atom.c_layout, {"m": self.m, "n": self.n}, ("n", "m"))
        return layout.rename(outs={"m": "d0", "n": "d1"})

    def a(self) -> Layout:
        """(reg, step, lane, warp) -> m, k."""
        return self._repeated(self.atom.a_layout, {"m": self.m, "k": self.k}, ("m",))

    def b(self) -> Layout:
        """(reg, step, lane, warp) -> k, n."""
        return self._repeated(self.atom.b_layout, {"k": self.k, "n": self.n}, ("n",))

    def _repeated(self, atom: Layout, extents: dict[str, int], in_registers: tuple[str, ...]) -> Layout:
        """The atom over a tile: of the digits above it, warps take the highest that fit them, registers (and steps along k) the others."""
        outs = tuple(Axis.of(axis.name, extents[axis.name]) for axis in atom.outs)
        bits: dict[str, list[tuple[int, int]]] = {}  # per tile axis: (position among all output digits, radix) above the atom
        low: list[int] = []
        start = 0
        for axis, whole in zip(atom.outs, outs, strict=True):
            count = log2_exact(axis.extent)
            low += range(start, start + count)
            bits[axis.name] = [(start + digit, whole.digits[digit]) for digit in range(count, len(whole.digits))]
            start += len(whole.digits)
        warp_columns = self._warp_columns(bits)
        registers = [entry for name in in_registers for entry in bits[name]]
        steps = bits.get("k", [])

        def lifted(column: int) -> int:
            return sum(1 << low[bit] for bit in range(column.bit_length()) if column >> bit & 1)

        ins = [Axis(REG, atom.in_axis(REG).digits + tuple(radix for _, radix in registers)), atom.in_axis(LANE), Axis(WARP, factor(self.num_warps))]
        columns = [*map(lifted, atom.columns_of(REG)), *(1 << bit for bit, _ in registers)]
        if "k" in extents:
            ins.insert(1, Axis(STEP, tuple(radix for _, radix in steps)))
            columns += [1 << bit for bit, _ in steps]
        columns += [*map(lifted, atom.columns_of(LANE)), *warp_columns]
        return Layout(tuple(ins), outs, tuple(columns))

    def _warp_columns(self, bits: dict[str, list[tuple[int, int]]]) -> list[int]:
        """The column of each digit of the warp's number, low first: rows take them before columns. Takes their tile digits out of `bits`."""
        owners: list[str | None] = []
        rest = {"m": self.rows, "n": self.columns}
        for radix in factor(self.num_warps):
            name = next((name for name in ("m", "n") if rest[name] % radix == 0), None)
            owners.append(name)
            if name is not None:
                rest[name] //= radix
        columns = [0] * len(owners)
        for name in ("m", "n"):
            if name in bits:
                # Highest digits last, so that neighbouring warps have neighbouring tiles.
                for number in reversed([number for number, owner in enumerate(owners) if owner == name]):
                    entry = next(e for e in reversed(bits[name]) if e[1] == factor(self.num_warps)[number])
                    bits[name].remove(entry)
                    columns[number] = 1 << entry[0]
        return columns
