"""The `tilewright` command (floor 9). A subcommand's module is imported when it is used, so that help comes quickly."""

from __future__ import annotations

import importlib

import click

# Name of a subcommand: what it does. Its module is tilewright.cli.<name>, the command in it has the same name.
SUBCOMMANDS = {
    "demo": "Compile, check and time four kernels on this machine.",
    "run": "Run a program, TileLang programs unchanged.",
    "check": "Run a program's kernels in the simulator of a GPU, and say what is wrong with them.",
    "inspect": "Show what the compiler makes of a kernel.",
    "explain": "Explain an error code.",
    "doctor": "Show what was found on this machine, and what fixes what is missing.",
    "cache": "Look at, check and clean the folder of compiled kernels.",
    "version": "Show the version.",
}


class LazyGroup(click.Group):
    """Subcommands by name, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"tilewright.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """tilewright compiles tile programs, written as Python functions in the TileLang style, to native code."""
