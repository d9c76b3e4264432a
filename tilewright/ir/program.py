"""Whole programs: parameters, launches and the schedule beside them (floor 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tilewright.errors import Span
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr
from tilewright.ir.stmt import Stmt


class ParameterKind(Enum):
    """What a caller gives for a parameter."""

    TENSOR = "tensor"
    SCALAR = "scalar"
    POINTER = "pointer"


@dataclass(frozen=True, eq=False)
class Parameter:
    """One argument of a kernel: a tensor (`buffer`), a scalar or a raw pointer (`variable`)."""

    name: str
    kind: ParameterKind
    span: Span
    buffer: Buffer | None = None
    variable: Expr | None = None
    is_output: bool = False  # allocated by the call and returned (`T.empty`, `out_idx`)


@dataclass(frozen=True, eq=False)
class SharedMemoryPlan:
    """Where a block's shared buffers lie, for launches lowered to threads.

    offsets_bytes   of every SHARED buffer that is no view, from the start of the block's shared memory, which is 1024-byte aligned.
    """

    offsets_bytes: tuple[tuple[Buffer, int], ...]
    size_bytes: int


@dataclass(frozen=True, eq=False)
class Launch:
    """One `with T.Kernel(...)`: a grid of blocks that all run `body`.

    grid        1 to 3 extents, x first.
    block_variables, thread_variables   as many variables as extents; threads has always three.
    buffers     what the block allocates, in program order.
    safe_values what a load outside a global buffer gives, where it is not 0.
    hints       those that are about this launch alone.
    """

    grid: tuple[Expr, ...]
    block_variables: tuple[Expr, ...]
    threads: tuple[int, int, int]
    thread_variables: tuple[Expr, Expr, Expr]
    buffers: tuple[Buffer, ...]
    body: Stmt
    span: Span
    safe_values: tuple[tuple[Buffer, Expr], ...] = ()
    cluster: tuple[int, int, int] = (1, 1, 1)
    is_thread_level: bool = False  # the body asks which thread it is on
    shared_memory: SharedMemoryPlan | None = None  # set by the GPU passes
    grid_barrier: Buffer | None = None  # where blocks that wait for each other are counted, a uint64 that is 0 when the launch begins: all run at once
    hints: tuple[Hint, ...] = ()


@dataclass(frozen=True, eq=False)
class HostCheck:
    """An `assert` outside a launch: checked on the host when the kernel is called."""

    condition: Expr
    message: str
    span: Span


@dataclass(frozen=True, eq=False)
class ImportedSource:
    """Text of the user's in the language of the target."""

    text: str
    span: Span


@dataclass(frozen=True, eq=False)
class Program:
    """A traced kernel function.

    workspaces   global buffers that the runtime allocates for a call (`T.alloc_global`).
    sources      what stands in front of the kernels (`T.import_source`), in order.
    """

    name: str
    parameters: tuple[Parameter, ...]
    launches: tuple[Launch, ...]
    span: Span
    workspaces: tuple[Buffer, ...] = ()
    checks: tuple[HostCheck, ...] = ()
    hints: tuple[Hint, ...] = field(default=())
    sources: tuple[ImportedSource, ...] = ()


class HintKind(Enum):
    """Annotations that never change a result."""

    SWIZZLE_BLOCKS = "use_swizzle"
    LAYOUT = "annotate_layout"
    L2_HIT_RATIO = "annotate_l2_hit_ratio"
    RESTRICT = "annotate_restrict_buffers"
    MIN_BLOCKS_PER_SM = "annotate_min_blocks_per_sm"
    COMPILE_FLAGS = "annotate_compile_flags"
    PASS_CONFIGS = "annotate_pass_configs"
    WARP_REGISTERS = "warp_registers"
    FUNCTION_ATTRIBUTES = "func_attr"


@dataclass(frozen=True, eq=False)
class Hint:
    """One annotation as the user gave it; back ends that have a use for it read it, the others list it as a remark."""

    kind: HintKind
    span: Span
    values: tuple[object, ...]
