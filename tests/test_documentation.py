"""Everything in README.md and docs/ that can be run is run, and what they list is what there is."""

from __future__ import annotations

import doctest
import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tilewright.language as T
from tilewright.cli.main import main
from tilewright.passes import CPU_PASSES, GPU_PASSES
from tilewright.spans import is_user_file

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """First line number and text of the fenced blocks of a language."""
    text = page.read_text()
    return [(text.count("\n", 0, match.start(2)) + 1, match[2]) for match in FENCE.finditer(text) if match[1] == language]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_python_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippets of a page are one program; those with >>> are compared with the output shown."""
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    for first, text in blocks(page, "python"):
        if text.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(text, {}, name_of(page), str(page), first - 1)
            report: list[str] = []
            assert not doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append).failed, "".join(report)
        else:
            lines += [""] * (first - 1 - len(lines)) + text.splitlines()
    program = tmp_path / f"{page.stem}.py"  # a file, so that kernels can be traced; its line numbers are those of the page
    program.write_text("\n".join(lines) + "\n")
    assert is_user_file(str(program))
    runpy.run_path(str(program), run_name="documentation")


def test_the_first_two_bash_blocks_are_what_continuous_integration_runs() -> None:
    (_, first), (_, second) = blocks(ROOT / "README.md", "bash")[:2]
    assert first == "pip install -e .\ntilewright demo\n"
    assert second.splitlines()[0] == "pip install -e '.[test]'" and second.splitlines()[1].startswith("python -m pytest") and len(second.splitlines()) == 2


CONSOLE = [line[2:] for page in PAGES for _, text in blocks(page, "console") for line in text.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize("command", CONSOLE)
def test_console_commands_run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(command)
    assert program == "tilewright"
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{name_of(page)}: {target}"


@pytest.mark.parametrize(("page", "passes"), [("pipeline.md", CPU_PASSES), ("gpu.md", GPU_PASSES)], ids=["cpu", "gpu"])
def test_every_pass_is_described(page: str, passes: tuple[Callable[..., Any], ...]) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/internals" / page).read_text(), re.MULTILINE)
    assert rows == [apply.__name__ for apply in passes]


def test_the_readme_lists_names_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    names = set(re.findall(r"`T\.(\w+)", text[text.index("## What works") :]))
    assert len(names) > 30
    supported = text[text.index("## What works") : text.index("Not in this version")]
    assert not [name for name in re.findall(r"`T\.(\w+)", supported) if name not in vars(T)]
