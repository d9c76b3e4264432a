"""Which code in the language of a GPU a program holds, and who refuses it (floor 2)."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.errors import Kind, Label, fail
from tilewright.ir.foreign import ForeignCall, ForeignKind
from tilewright.ir.program import Program
from tilewright.ir.visit import statements


def foreign_calls(program: Program) -> Iterator[ForeignCall]:
    """Those of all launches, in program order."""
    for launch in program.launches:
        for stmt in statements(launch.body):
            if isinstance(stmt, ForeignCall):
                yield stmt


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
