"""`tilewright version` (floor 9)."""

from __future__ import annotations

import platform

import click
import llvmlite

from tilewright.driver import VERSION


@click.command("version")
def version() -> None:
    """Show the versions of tilewright, Python and LLVM's binding."""
    click.echo(f"tilewright {VERSION} (Python {platform.python_version()}, llvmlite {llvmlite.__version__})")
