"""Refuses thread-level launches on targets whose lowering does not take them (floor 5)."""

from __future__ import annotations

from tilewright.errors import Kind, fail
from tilewright.ir.program import Program
from tilewright.passes.context import Remarks


def refuse_threads(program: Program, context: Remarks) -> Program:
    """Raises TileError (thread-level) for launches that ask which thread they run on; gives the program back unchanged."""
    for launch in program.launches:
        if launch.is_thread_level:
            fail(
                Kind.THREAD_LEVEL,
                "this launch is code for single threads, which is not compiled for GPUs",
                launch.span,
                because="tile programs are compiled for GPUs; code that asks for its thread runs on CPUs",
                help='express it with T.Parallel, or compile it for target="cpu"',
            )
    return program
