"""`tilewright explain CODE`: what an error code means, why the rule exists, and what to write instead (floor 9).

The pages are Markdown files of the package, one per kind of mistake. A page holds a wrong and a right example, which the tests run.
"""

from __future__ import annotations

import difflib
from importlib import resources

import click
from rich.console import Console
from rich.markdown import Markdown

from tilewright.errors import Kind

CODES: tuple[str, ...] = tuple(kind.value for kind in Kind)


class UnknownCodeError(LookupError):
    """There is no such code; the text names those that are close."""


def explanation(code: str) -> str:
    """The page of an error code as Markdown; `error[copy-shape]` and `COPY_SHAPE` mean the same as `copy-shape`.

    Raises UnknownCodeError with close matches.
    """
    wanted = code.strip().removeprefix("error").strip("[]: ").lower().replace("_", "-")
    if wanted not in CODES:
        close = difflib.get_close_matches(wanted, CODES, 3, 0.5) or [c for c in CODES if wanted and wanted in c][:3]
        hint = f"; did you mean {' or '.join(close)}?" if close else "; tilewright explain --list shows all codes"
        raise UnknownCodeError(f"there is no error code {code!r}{hint}")
    return resources.files("tilewright").joinpath("explanations", f"{wanted}.md").read_text(encoding="utf-8")


@click.command("explain")
@click.argument("code", required=False)
@click.option("--list", "is_list", is_flag=True, help="List all codes.")
def explain(code: str | None, is_list: bool) -> None:
    """Explain an error code, as in `tilewright explain copy-shape`."""
    if is_list or code is None:
        for name in CODES:
            click.echo(f"{name:<22} {summary(name)}")
        return
    try:
        page = explanation(code)
    except UnknownCodeError as error:
        raise click.ClickException(str(error)) from None
    console = Console()
    if console.is_terminal:
        console.print(Markdown(page.replace("```python wrong", "Wrong:\n\n```python").replace("```python right", "Right:\n\n```python")))
    else:
        click.echo(page, nl=False)


def summary(code: str) -> str:
    """The first sentence of a page."""
    paragraph = explanation(code).split("\n\n")[1].replace("\n", " ")
    return paragraph.split(". ")[0].rstrip(".") + "."
