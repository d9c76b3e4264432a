"""What of a program only a GPU can run, and who refuses it (floor 2): code in its language, blocks that wait for each other."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.errors import Kind, Label, fail
from tilewright.ir.foreign import ForeignCall, ForeignKind
from tilewright.ir.program import Program
from tilewright.ir.stmt import Barrier, BarrierScope
from tilewright.ir.visit import statements


def foreign_calls(program: Program) -> Iterator[ForeignCall]:
    """Those of all launches, in program order."""
    for launch in program.launches:
        for stmt in statements(launch.body):
            if isinstance(stmt, ForeignCall):
                yield stmt


def refuse_waiting_blocks(program: Program, who: str) -> None:
    """Raises TileError (grid-barrier) where blocks wait for each other inside a launch, which `who`, who runs them one after the other, cannot do."""
    for launch in program.launches:
        if launch.grid_barrier is None:
            continue
        barrier = next(s for s in statements(launch.body) if isinstance(s, Barrier) and s.scope is BarrierScope.GRID)
        fail(
            Kind.GRID_BARRIER,
            f"{program.name} has a barrier of the grid in a loop or branch, which {who} cannot run",
            (Label(barrier.span), Label(launch.span, "the launch")),
            because="the blocks run one after the other here, each to its end; between statements of the launch, the launch is cut in two at such a barrier",
            help='move the barrier to the level of the launch, or compile for a GPU: target="cuda", or target="simulate" to run it without one',
        )


def refuse_foreign_code(program: Program, who: str) -> None:
    """Raises TileError (extern-target) at the first call of code that `who`, who knows only the language itself, cannot give a meaning."""
    for node in foreign_calls(program):
        what = f"calls the function `{node.text}` of CUDA C++" if node.kind is ForeignKind.FUNCTION else "holds PTX"
        fail(
            Kind.EXTERN_TARGET,
            f"{program.name} {what}, which {who} cannot run",
            (Label(node.span), *(Label(s.span, "imported here") for s in program.sources[:1])),
            because="code in the language of a GPU has a meaning on that GPU alone",
            help='compile it with target="cuda" or an architecture such as "sm_90", or write what the code does in the language itself',
        )
