"""`tilewright run script.py`: runs a program under the names of TileLang, and prints its mistakes without a traceback (floor 9)."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path

import click

from tilewright.cli.report import write_report
from tilewright.cli.tilelang_names import tilelang_names
from tilewright.errors import CompilerBug, TileError
from tilewright.spans import is_user_file

_RUNNERS = (runpy.__file__, __file__)


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(script: Path, arguments: tuple[str, ...]) -> None:
    """Run a program, TileLang programs unchanged.

    `import tilelang` gives tilewright inside the script. A mistake in a kernel is printed with its source lines; exit code 1.
    """
    try:
        execute(script, arguments)
    except Exception as error:
        click.echo(describe_failure(error, script), err=True)
        raise SystemExit(1) from None


def execute(script: Path, arguments: tuple[str, ...]) -> None:
    """Runs a program as Python would, under the names of TileLang."""
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    with tilelang_names():
        runpy.run_path(str(script), run_name="__main__")


def describe_failure(error: Exception, script: Path) -> str:
    """A mistake of the user's as its diagnostic, another exception as a traceback of the user's frames, a fault of ours with a report."""
    if isinstance(error, TileError):
        return str(error)
    if isinstance(error, CompilerBug) or _was_raised_by_us(error):
        bug = error if isinstance(error, CompilerBug) else CompilerBug(f"{type(error).__name__}: {error}")
        bug.bundle = str(write_report(error, script))
        return str(bug)
    return user_traceback(error)


def user_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames of tilewright and of what ran the script; causes included."""
    described = traceback.TracebackException.from_exception(error)
    pending: list[traceback.TracebackException | None] = [described]
    while pending:
        part = pending.pop()
        if part is not None:
            part.stack = traceback.StackSummary.from_list([frame for frame in part.stack if _is_shown(frame.filename)])
            pending += [part.__cause__, part.__context__]
    return "".join(described.format()).rstrip()


def _is_shown(file: str) -> bool:
    return is_user_file(file) and file not in _RUNNERS and not file.startswith("<frozen ")


def _was_raised_by_us(error: Exception) -> bool:
    """Whether code of tilewright raised it. A failed assertion is not meant: profiler and testing raise those on behalf of the user."""
    places = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, AttributeError) and places and places[-1].co_name == "__getattr__":
        places.pop()  # a name that the module does not have is a fault of who asked for it
    return bool(places) and not isinstance(error, AssertionError) and not is_user_file(places[-1].co_filename)
