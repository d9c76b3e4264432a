"""`for tx in T.thread_binding(n, thread="threadIdx.x")` (floor 5): loops that are the axes of a launch, for functions without T.Kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.expr import Expr, const, describe_operand, var
from tilewright.ir.stmt import Seq
from tilewright.language.builder import FrameKind, LaunchFrame, ProgramBuilder
from tilewright.language.kernel import add_launch
from tilewright.language.loops import BindingLoop

_GRID, _THREADS = "blockIdx", "threadIdx"
_AXES = {f"{kind}.{axis}": (kind, number) for kind in (_GRID, _THREADS) for number, axis in enumerate("xyz")}


def bind_axis(builder: ProgramBuilder, loop: BindingLoop, name: str) -> Iterator[Expr]:
    """Runs the body of the loop once, with the variable of its axis. The outermost loop opens the launch and closes it.

    Raises TileError for unknown axes, extents that a launch cannot have, and a second extent of one axis.
    """
    span = builder.here()
    if not isinstance(loop.thread, str) or loop.thread not in _AXES:
        fail(
            Kind.OPTION_VALUE,
            f"T.thread_binding runs over {describe_operand(loop.thread)}",
            span,
            because=f"known are {', '.join(_AXES)}",
            help='write thread="blockIdx.x" or thread="threadIdx.x"',
        )
    if builder.launch is not None:
        yield _variable(builder.launch, loop, name, span)
        return
    with _launch(builder, span) as launch:
        yield _variable(launch, loop, name, span)


@contextmanager
def _launch(builder: ProgramBuilder, span: Span) -> Iterator[LaunchFrame]:
    builder.before_launch()
    for frame in builder.frames:
        fail(
            Kind.LAUNCH_NESTED,
            f"a launch stands inside {frame.kind.value}",
            (Label(span), Label(frame.span, "opened here")),
            because="which launches a function makes is fixed when it is traced",
            help="put the loop over the blocks outermost",
        )
    threads = (var("tx"), var("ty"), var("tz"))
    launch = builder.launch = LaunchFrame((const(1),) * 3, (var("bx"), var("by"), var("bz")), (1, 1, 1), threads, span, bound_axes={})
    try:
        with builder.frame(FrameKind.LAUNCH, span), builder.block() as body:
            yield launch
    finally:
        builder.launch = None
    rank = 1 + max((_AXES[axis][1] for axis in launch.bound_axes or {} if axis.startswith(_GRID)), default=0)
    launch.grid, launch.block_variables = launch.grid[:rank], launch.block_variables[:rank]
    add_launch(builder, launch, Seq(span, tuple(body)))


def _variable(launch: LaunchFrame, loop: BindingLoop, name: str, span: Span) -> Expr:
    kind, number = _AXES[loop.thread]
    extent = loop.extents[0]
    if kind == _THREADS:
        launch.is_thread_level = True
        if not extent.is_const or extent.value <= 0:
            fail(
                Kind.THREADS,
                f"T.thread_binding over {loop.thread} has the extent `{extent}`",
                span,
                because="a block has a fixed number of threads in each dimension, at least one",
                help='give a positive Python int, as in T.thread_binding(128, thread="threadIdx.x")',
            )
    if launch.bound_axes is None or loop.thread in launch.bound_axes:
        _check_extent(launch, loop, kind, number, span)
        return (launch.block_variables if kind == _GRID else launch.thread_variables)[number]
    launch.bound_axes[loop.thread] = span
    if kind == _GRID:
        launch.grid = _replaced(launch.grid, number, extent)
        launch.block_variables = _replaced(launch.block_variables, number, var(name))
        return launch.block_variables[number]
    x, y, z = _replaced(launch.thread_variables, number, var(name))
    launch.thread_variables = x, y, z
    sizes = list(launch.threads)
    sizes[number] = int(extent.value)
    launch.threads = sizes[0], sizes[1], sizes[2]
    return launch.thread_variables[number]


def _replaced(values: tuple[Expr, ...], number: int, value: Expr) -> tuple[Expr, ...]:
    return (*values[:number], value, *values[number + 1 :])


def _check_extent(launch: LaunchFrame, loop: BindingLoop, kind: str, number: int, span: Span) -> None:
    """A loop over an axis that the launch has already."""
    sizes: tuple[Expr, ...] = launch.grid if kind == _GRID else tuple(map(const, launch.threads))
    known = sizes[number] if number < len(sizes) else const(1)
    if known is not loop.extents[0]:
        fail(
            Kind.THREADS if kind == _THREADS else Kind.GRID_EXTENT,
            f"T.thread_binding over {loop.thread} has the extent `{loop.extents[0]}`, but the launch has `{known}`",
            (Label(span), Label((launch.bound_axes or {}).get(loop.thread, launch.span), "its extent is given here")),
            because="an axis of a launch has one extent",
            help="give both the same extent",
        )


__all__ = ["bind_axis"]
