"""Statements (floor 2): frozen dataclasses with identity semantics, each with the user's place.

The same classes serve tile programs and what they are lowered to; the verifier says which may occur at which level.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Extent
from tilewright.ir.expr import Expr


@dataclass(frozen=True, eq=False)
class Stmt:
    """Something that is executed."""

    span: Span


@dataclass(frozen=True, eq=False)
class Seq(Stmt):
    """Statements one after the other."""

    body: tuple[Stmt, ...]


class LoopKind(Enum):
    """How the user asked a loop to be run; all give the result of a serial loop."""

    SERIAL = "serial"
    UNROLLED = "unroll"
    VECTORIZED = "vectorized"
    PIPELINED = "Pipelined"


@dataclass(frozen=True, eq=False)
class Pipeline:
    """What T.Pipelined was given; empty tuples where the compiler is to choose."""

    num_stages: int
    order: tuple[int, ...] = ()
    stage: tuple[int, ...] = ()
    group: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class For(Stmt):
    """`for variable in range(extent)`: starts at 0, step 1; no iteration where the extent is not positive."""

    variable: Expr
    extent: Expr
    kind: LoopKind
    body: Stmt
    pipeline: Pipeline | None = None


@dataclass(frozen=True, eq=False)
class ParallelFor(Stmt):
    """Independent iterations over a box, first axis slowest in memory order; any order and any distribution is allowed.

    is_async   what it stores to shared memory may land at any time up to the wait for its group (`ops.async_copy`).
    """

    variables: tuple[Expr, ...]
    extents: tuple[Expr, ...]
    body: Stmt
    is_async: bool = False


@dataclass(frozen=True, eq=False)
class If(Stmt):
    condition: Expr
    then_body: Stmt
    else_body: Stmt | None = None


@dataclass(frozen=True, eq=False)
class While(Stmt):
    """The condition is evaluated before each turn."""

    condition: Expr
    body: Stmt


@dataclass(frozen=True, eq=False)
class Break(Stmt):
    """Leaves the innermost For or While."""


@dataclass(frozen=True, eq=False)
class Continue(Stmt):
    """Goes on with the next turn of the innermost For or While."""


@dataclass(frozen=True, eq=False)
class Let(Stmt):
    """Evaluates `value` here and gives it a name for the rest of the enclosing sequence."""

    variable: Expr
    value: Expr


@dataclass(frozen=True, eq=False)
class Store(Stmt):
    """buffer[indices] = value; the value has the buffer's dtype."""

    buffer: Buffer
    indices: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True, eq=False)
class Prefetch(Stmt):
    """A hint that buffer[indices] will be read soon; the element need not exist, and nothing is read."""

    buffer: Buffer
    indices: tuple[Expr, ...]


class ReduceKind(Enum):
    """An associative and commutative combination."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    BIT_AND = "bitand"
    BIT_OR = "bitor"
    BIT_XOR = "bitxor"


@dataclass(frozen=True, eq=False)
class ReduceLoop(Stmt):
    """result = initial combined with value(axis) for axis in range(extent), in any order; `result` names it for the rest of the sequence.

    Where there is a body, each turn runs it first, and `value` may use the names that it makes; turns share no element that one of them writes.
    """

    result: Expr
    kind: ReduceKind
    initial: Expr
    axis: Expr
    extent: Expr
    value: Expr
    body: Stmt | None = None


class AtomicKind(Enum):
    """What an atomic does to its element."""

    ADD = "add"
    MAX = "max"
    MIN = "min"
    AND = "and"
    OR = "or"
    XOR = "xor"
    EXCHANGE = "exchange"
    LOAD = "load"


class MemoryOrder(Enum):
    """C++ memory orders."""

    RELAXED = "relaxed"
    CONSUME = "consume"
    ACQUIRE = "acquire"
    RELEASE = "release"
    ACQ_REL = "acq_rel"
    SEQ_CST = "seq_cst"


@dataclass(frozen=True, eq=False)
class AtomicUpdate(Stmt):
    """One element read, combined and written as one step; `previous` (or None) names what was there."""

    kind: AtomicKind
    buffer: Buffer
    indices: tuple[Expr, ...]
    value: Expr
    order: MemoryOrder = MemoryOrder.RELAXED
    previous: Expr | None = None


class BarrierScope(Enum):
    """Who waits for each other at a barrier."""

    WARP = "warp"
    BLOCK = "block"
    GRID = "grid"


@dataclass(frozen=True, eq=False)
class Barrier(Stmt):
    """All threads of the scope wait for each other; what they wrote before is visible to all of them afterwards.

    Where `num_threads` is not None, the barrier is a named one: that many threads of the block take part, and `barrier_id` tells it from others.
    """

    scope: BarrierScope = BarrierScope.BLOCK
    barrier_id: int = 0
    num_threads: int | None = None


class WarpExchangeKind(Enum):
    """What a thread receives from the threads of its warp (32 threads with consecutive flat numbers; x fastest)."""

    SHUFFLE = "shfl"  # the value of lane `operand` of its group
    SHUFFLE_UP = "shfl_up"  # of the lane `operand` below; its own where there is none in its group
    SHUFFLE_DOWN = "shfl_down"  # of the lane `operand` above; its own where there is none in its group
    SHUFFLE_XOR = "shfl_xor"  # of the lane whose number differs in the bits of `operand`; its own where that lies in a later group
    ANY = "any"  # int32: 1 where the value, a bool, holds on some lane, else 0
    ALL = "all"  # int32: 1 where it holds on all lanes, else 0
    BALLOT = "ballot"  # uint32: bit k is the value, a bool, of lane k
    ACTIVE_MASK = "activemask"  # uint32: bit k is set where lane k runs this statement; the value is not used
    MATCH_ANY = "match_any"  # uint32: bit k is set where lane k has the same value
    MATCH_ALL = "match_all"  # uint32: the lanes that take part where all have the same value, else 0
    SUM = "reduce_sum"
    MAX = "reduce_max"
    MIN = "reduce_min"
    BIT_AND = "reduce_bitand"
    BIT_OR = "reduce_bitor"


WARP_THREADS = 32


@dataclass(frozen=True, eq=False)
class WarpExchange(Stmt):
    """The threads of each warp give a value and receive a result, which `result` names for the rest of the sequence.

    operand   int32: the lane, distance or lane bits of a shuffle; None for the other kinds.
    width     a power of two up to 32: shuffles stay in groups of that many lanes, and lanes are counted from the start of the group.
    mask      uint32: the lanes that take part, as the user stated them.
    """

    result: Expr
    kind: WarpExchangeKind
    value: Expr
    operand: Expr | None
    width: int
    mask: Expr


@dataclass(frozen=True, eq=False)
class BlockReduce(Stmt):
    """All threads of the block give a value; `result` names the combination of those that differ only in the coordinates `axes` (0 is x).

    A barrier of the block, too.
    """

    result: Expr
    kind: ReduceKind
    value: Expr
    axes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Print(Stmt):
    """Prints a message and values when it runs."""

    message: str
    values: tuple[Expr, ...]
    buffer: Buffer | None = None


@dataclass(frozen=True, eq=False)
class Assert(Stmt):
    """Stops the kernel with the user's place where the condition does not hold."""

    condition: Expr
    message: str


@dataclass(frozen=True, eq=False)
class Assume(Stmt):
    """A promise to the prover; no effect when it runs."""

    condition: Expr


@dataclass(frozen=True, eq=False)
class MatrixMultiply(Stmt):
    """A dense product on memory, what CPU gemms are lowered to: c[m, n] += sum over k of a[m, k] * b[k, n], rows and columns static, depth not.

    Each operand is an element address (buffer, flat offset in elements) and its strides in elements. All memory already has the compute dtype.
    Where `b_panel` is not 0, b is stored in panels of that many columns: column n of row k lies at
    (n // b_panel) * b_panel_stride + k * b_k_stride + n % b_panel.
    """

    rows: int
    columns: int
    depth: Expr
    a: Buffer
    a_offset: Expr
    a_row_stride: int
    a_k_stride: int
    b: Buffer
    b_offset: Expr
    b_k_stride: int
    b_panel: int
    b_panel_stride: int
    c: Buffer
    c_offset: Expr
    c_row_stride: int
    is_overwriting: Expr  # a bool: c = instead of c +=


@dataclass(frozen=True, eq=False)
class PackPanels(Stmt):
    """Packs a matrix into panels for MatrixMultiply: panels[n // panel][k][n % panel] = source(k, n), zero beyond the valid rows and columns.

    source, offset, leading_stride   element address of the matrix and its row stride, in elements of the source's stored dtype;
                                     source rows are k, or n where `is_transposed`.
    valid_depth, valid_columns       how much of the matrix exists (at most depth, columns).
    panels, panels_offset            where they go, in elements of the compute dtype; each panel takes panel_stride elements.
    """

    source: Buffer
    offset: Expr
    leading_stride: Expr
    is_transposed: bool
    valid_depth: Expr
    valid_columns: Expr
    panels: Buffer
    panels_offset: Expr
    depth: int
    columns: int
    panel: int
    panel_stride: int


@dataclass(frozen=True, eq=False)
class StreamMultiply(Stmt):
    """A dense product of a few rows whose second operand lies in global memory: c[m, n] += sum over k of a[m, k] * b(k, n).

    a                element address and strides of memory that has the compute dtype.
    b, b_stride      element address of a matrix in its own stored dtype, contiguous along n, or along k where `is_transposed`; the stride of the other axis.
    depth            how much of k counts; none where it is not positive.
    valid_columns    how many columns of b exist; the others count as zeros.
    blocks, columns  c is that many matrices of that many columns, side by side: column n is column n % columns of number n // columns.
    """

    rows: int
    blocks: int
    columns: int
    depth: Expr
    valid_columns: Expr
    a: Buffer
    a_offset: Expr
    a_row_stride: int
    a_k_stride: int
    b: Buffer
    b_offset: Expr
    b_stride: Expr
    is_transposed: bool
    c: Buffer
    c_offset: Expr
    c_row_stride: int
    c_block_stride: int
    is_overwriting: Expr  # a bool: c = instead of c +=


__all__ = [
    "WARP_THREADS",
    "Assert",
    "Assume",
    "AtomicKind",
    "AtomicUpdate",
    "Barrier",
    "BarrierScope",
    "BlockReduce",
    "Break",
    "Continue",
    "Extent",
    "For",
    "If",
    "Let",
    "LoopKind",
    "MatrixMultiply",
    "MemoryOrder",
    "PackPanels",
    "ParallelFor",
    "Pipeline",
    "Prefetch",
    "Print",
    "ReduceKind",
    "ReduceLoop",
    "Seq",
    "Stmt",
    "Store",
    "StreamMultiply",
    "WarpExchange",
    "WarpExchangeKind",
    "While",
]
