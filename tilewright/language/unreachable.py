"""Statements behind a `break` or `continue` of the same block (floor 5): they never run, so they are left out with a warning."""

from __future__ import annotations

import ast
import warnings

from tilewright.language.definitions import FUNCTIONS


def drop_unreachable(node: ast.AST, file: str) -> None:
    """Changes the tree. Functions inside it are left alone: they are rewritten by themselves where they are kernels."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if not isinstance(block, list):
            continue
        for position, statement in enumerate(block[:-1]):
            if isinstance(statement, (ast.Break, ast.Continue)):
                word = "break" if isinstance(statement, ast.Break) else "continue"
                warnings.warn(f"{file}:{block[position + 1].lineno}: never runs, it stands behind a `{word}`", stacklevel=2)
                del block[position + 1 :]
                break
        for statement in block:
            if not isinstance(statement, FUNCTIONS):
                drop_unreachable(statement, file)
