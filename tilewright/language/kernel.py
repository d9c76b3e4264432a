"""`T.Kernel`: one launch of a grid of blocks (floor 5; language.md 4)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NoReturn, TypeVar

from tilewright.dtypes import int32
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.expr import Expr, const, describe_operand, var
from tilewright.ir.program import Launch
from tilewright.ir.stmt import Seq
from tilewright.language.builder import FrameKind, LaunchFrame, ProgramBuilder, program_builder
from tilewright.language.foreign import import_prelude
from tilewright.language.grid_barriers import split_at_grid_barriers
from tilewright.language.loops import as_extent
from tilewright.spans import span_of_caller

DEFAULT_THREADS = 128
Item = TypeVar("Item")


class BlockIndex(tuple[Expr, ...]):
    """The block variables of a launch, for `as (bx, by)`."""

    def describe(self) -> str:
        return f"the block index of a launch with {len(self)} dimensions"

    def _refuse(self, other: Any = None) -> NoReturn:
        names = ", ".join(("bx", "by", "bz")[: len(self)])
        fail(
            Kind.GRID_UNPACK,
            f"{self.describe()} is used as one number",
            span_of_caller(),
            because="each dimension of the grid has an index of its own",
            help=f"write `as ({names})` in the `with T.Kernel(...)` line, and use {' or '.join(names.split(', '))}",
        )

    __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __rsub__ = __floordiv__ = __mod__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse


class KernelLaunch:
    """The context manager that T.Kernel returns."""

    def __init__(self, grid: tuple[Expr, ...], threads: tuple[int, int, int], cluster: tuple[int, int, int], span: Span) -> None:
        self.grid, self.threads, self.cluster, self.span = grid, threads, cluster, span
        self.names: tuple[str, ...] = ()
        self.width = 0

    def check_targets(self, width: int, names: tuple[str, ...]) -> None:
        """How many names `as` unpacks into: one per grid dimension."""
        count = len(self.grid)
        self.names, self.width = names, width
        for name in names:
            if not name.isidentifier():
                fail(
                    Kind.GRID_UNPACK,
                    f"`as` binds a block index to `{name}`",
                    self.span,
                    because="each block index has a plain name",
                    help="write `as bx`, or `as (bx, by)` for two dimensions",
                )
        if width > 0 and width != count:
            fail(
                Kind.GRID_UNPACK,
                f"the grid has {count} dimension{'s' * (count != 1)}, but `as` names {width}",
                self.span,
                because="T.Kernel gives one block index per grid extent",
                help=f"write `as {'bx' if count == 1 else '(' + ', '.join(['bx', 'by', 'bz'][:count]) + ')'}`",
            )

    def __enter__(self) -> Any:
        builder = program_builder()
        builder.unopened.pop(self, None)
        builder.before_launch()
        if builder.launch is not None:
            fail(
                Kind.LAUNCH_NESTED,
                "a launch stands inside another one",
                (Label(self.span), Label(builder.launch.span, "the outer launch")),
                because="a block cannot launch blocks; several launches of one function run one after the other",
                help="put the launches one after the other",
            )
        for frame in builder.frames:
            fail(
                Kind.LAUNCH_NESTED,
                f"a launch stands inside {frame.kind.value}",
                (Label(self.span), Label(frame.span, "opened here")),
                because="which launches a function makes is fixed when it is traced",
                help="use a Python condition, or move the branch into the launch",
            )
        names = (
            self.names
            if self.width > 0
            else tuple(f"{self.names[0]}_{k}" if len(self.grid) > 1 else self.names[0] for k in range(len(self.grid)))
            if self.names
            else ("bx", "by", "bz")
        )
        self.blocks = tuple(var(name, int32) for name, _ in zip(names, self.grid, strict=False))
        self.frame = LaunchFrame(self.grid, self.blocks, self.threads, (var("tx"), var("ty"), var("tz")), self.span, cluster=self.cluster)
        builder.launch = self.frame
        self.stack = ExitStack()
        self.stack.enter_context(builder.frame(FrameKind.LAUNCH, self.span))
        self.body = self.stack.enter_context(builder.block())
        self.body += builder.promises
        if self.width > 0 or len(self.blocks) != 1:
            return BlockIndex(self.blocks)
        return self.blocks[0]

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        builder = program_builder()
        self.stack.close()
        builder.launch = None
        if kind is None:
            add_launch(builder, self.frame, Seq(self.span, tuple(self.body)))


def add_launch(builder: ProgramBuilder, frame: LaunchFrame, body: Seq) -> None:
    """Ends a launch whose body has been traced; barriers of the grid cut it into several."""
    launches, workspaces = split_at_grid_barriers(_launch(frame, body))
    builder.launches += launches
    builder.workspaces += workspaces


def _launch(frame: LaunchFrame, body: Seq) -> Launch:
    return Launch(
        frame.grid,
        frame.block_variables,
        frame.threads,
        frame.thread_variables,
        tuple(frame.buffers),
        body,
        frame.span,
        tuple(frame.safe_values),
        frame.cluster,
        frame.is_thread_level,
        hints=tuple(frame.hints),
    )


def Kernel(*blocks: Any, threads: Any = None, prelude: str | None = None, is_cpu: bool = False, cluster_dims: Any = None) -> KernelLaunch:
    """`with T.Kernel(gx, gy, threads=128) as (bx, by):` launches a grid of up to three dimensions.

    blocks    extents, ints or expressions, x first; a grid dimension of 0 at run time launches nothing.
    threads   threads of a block, an int or up to three.
    prelude   CUDA C++ in front of the kernel, as T.import_source takes it.

    Raises TileError for thread counts that are not positive and for more than three dimensions.
    """
    builder = program_builder()  # refuses a launch outside a kernel
    span = span_of_caller()
    import_prelude(builder, prelude, span)
    if len(blocks) > 3:
        fail(
            Kind.GRID_RANK,
            f"the grid has {len(blocks)} dimensions",
            span,
            because="a launch has at most three",
            help="combine dimensions, and take the index apart with // and %",
        )
    grid = tuple(
        as_extent(b, f"grid dimension {k}", Kind.GRID_EXTENT, "a grid has a whole number of blocks in each dimension") for k, b in enumerate(blocks)
    ) or (const(1),)
    for k, extent in enumerate(grid):
        if extent.is_const and extent.value < 0:
            fail(
                Kind.GRID_EXTENT,
                f"grid dimension {k} is {extent.value}",
                span,
                because="a grid cannot have a negative number of blocks",
                help="check the sizes that were passed in",
            )
    launch = KernelLaunch(grid, _threads(threads, span), _triple(cluster_dims, "cluster_dims", span), span)
    builder.unopened[launch] = span
    return launch


def ClusterKernel(*blocks: Any, cluster_dims: Any, threads: Any = None, prelude: str | None = None) -> KernelLaunch:
    """T.Kernel whose blocks form clusters; a CPU has no use for the cluster shape."""
    return Kernel(*blocks, threads=threads, prelude=prelude, cluster_dims=cluster_dims)


def _threads(threads: Any, span: Span) -> tuple[int, int, int]:
    return _triple(DEFAULT_THREADS if threads is None else threads, "threads", span)


def _triple(value: Any, what: str, span: Span) -> tuple[int, int, int]:
    if value is None:
        return (1, 1, 1)
    items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not 1 <= len(items) <= 3 or not all(isinstance(n, int) and not isinstance(n, bool) for n in items):
        fail(
            Kind.THREADS,
            f"{what} is {value if isinstance(value, (tuple, list)) else describe_operand(value)}",
            span,
            because=f"{what} are one to three Python ints",
            help=f"write {what}={128 if what == 'threads' else 2}",
        )
    for n in items:
        if n <= 0:
            fail(
                Kind.THREADS,
                f"{what}={value!r} holds {n}",
                span,
                because=f"a {'block' if what == 'threads' else 'cluster'} has at least one {'thread' if what == 'threads' else 'block'} in each dimension",
                help=f"give positive numbers, as in {what}={128 if what == 'threads' else 2}",
            )
    padded = (*items, 1, 1)
    return padded[0], padded[1], padded[2]


def _launch_of(builder: ProgramBuilder, what: str) -> LaunchFrame:
    return builder.require_launch(what, span_of_caller())


def _along(values: Sequence[Item], dim: Any, what: str) -> Item:
    if not isinstance(dim, int) or not 0 <= dim < len(values):
        fail(
            Kind.GRID_RANK,
            f"{what} was asked for dimension {dim if isinstance(dim, int) else describe_operand(dim)}",
            span_of_caller(),
            because=f"dimensions are counted from 0, and there {'are' if len(values) > 1 else 'is only'} {len(values)} here",
            help="give 0" if len(values) == 1 else f"give a number from 0 to {len(values) - 1}",
        )
    return values[dim]


def get_block_binding(dim: int = 0) -> Expr:
    """The block index along a grid dimension."""
    return _along(get_block_bindings(), dim, "T.get_block_binding")


def get_block_bindings() -> tuple[Expr, ...]:
    """The block indices, x first."""
    return _launch_of(program_builder(), "T.get_block_bindings").block_variables


def get_block_extent(dim: int = 0) -> Expr:
    """The grid's extent along a dimension."""
    return _along(get_block_extents(), dim, "T.get_block_extent")


def get_block_extents() -> tuple[Expr, ...]:
    """The grid's extents, x first."""
    return _launch_of(program_builder(), "T.get_block_extents").grid


def get_thread_extent(dim: int = 0) -> int:
    """Threads of a block along a dimension."""
    return _along(get_thread_extents(), dim, "T.get_thread_extent")


def get_thread_extents() -> tuple[int, int, int]:
    """Threads of a block, x first."""
    return _launch_of(program_builder(), "T.get_thread_extents").threads


def get_thread_binding(dim: int = 0) -> Expr:
    """The thread index along a dimension: thread-level code."""
    return _along(get_thread_bindings(), dim, "T.get_thread_binding")


def get_thread_bindings() -> tuple[Expr, Expr, Expr]:
    """The thread indices, x first: thread-level code."""
    launch = _launch_of(program_builder(), "T.get_thread_binding")
    launch.is_thread_level = True
    return launch.thread_variables
