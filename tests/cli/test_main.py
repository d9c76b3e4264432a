"""The `tilewright` command: its help, and that a subcommand's module is imported when it is used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from tilewright.cli.main import SUBCOMMANDS, main


def test_help_lists_every_subcommand() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.output.split("Commands:\n")[1].splitlines() if line.startswith("  ") and line[2] != " "]
    assert listed == list(SUBCOMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_a_subcommand_is_where_its_name_says(name: str) -> None:
    command = getattr(importlib.import_module(f"tilewright.cli.{name}"), name)
    assert isinstance(command, click.Command) and command.name == name
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_an_unknown_subcommand_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["compose"])
    assert result.exit_code == 2 and "compose" in result.output


def test_help_imports_no_subcommand_and_no_torch() -> None:
    code = (
        "import sys; from tilewright.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in sys.modules if m.startswith('tilewright.cli.') or m in ('rich.table', 'torch')])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "['tilewright.cli.main']"


def test_the_package_is_a_command_too() -> None:
    output = subprocess.run([sys.executable, "-m", "tilewright", "version"], capture_output=True, text=True, check=True).stdout
    assert output.startswith("tilewright ")
