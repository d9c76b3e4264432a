"""Every diagnostic, word for word. `pytest tests/errors --update-golden` writes the texts anew; the difference is to be read like code."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from tests.errors.examples import EXPECTED, program_names, rendered, run_block, run_program
from tilewright.errors import Kind
from tilewright.runtime.nvrtc import is_nvrtc_installed

CODES = [kind.value for kind in Kind]
_COMPILED = (Kind.COMPILE_FLAGS.value, Kind.EXTERN_SOURCE.value)  # what only the compiler of CUDA C++ finds


def compare(path: Path, text: str, is_updating: bool) -> None:
    text = re.sub(r"is \S+ from the compiled kernel", "is ... from the compiled kernel", text)  # what lay in memory that was never written
    if is_updating:
        path.write_text(text + "\n")
    assert path.read_text() == text + "\n"


@pytest.mark.parametrize("code", CODES)
def test_the_wrong_example_of_each_page(code: str, is_updating_golden: bool) -> None:
    if code == Kind.ARGUMENT_DEVICE.value:
        pytest.importorskip("torch")
    if code in _COMPILED and not is_nvrtc_installed():
        pytest.skip("NVRTC is not installed")
    compare(EXPECTED / f"{code}.txt", rendered(partial(run_block, code, "wrong")), is_updating_golden)


@pytest.mark.parametrize("name", program_names())
def test_program(name: str, is_updating_golden: bool) -> None:
    if name.split("__")[0] in _COMPILED and not is_nvrtc_installed():
        pytest.skip("NVRTC is not installed")
    compare(EXPECTED / f"{name}.txt", rendered(partial(run_program, name)), is_updating_golden)


@pytest.mark.parametrize("name", [*CODES, *program_names()])
def test_the_text_has_the_code_a_place_and_an_edit(name: str) -> None:
    lines = (EXPECTED / f"{name}.txt").read_text().splitlines()
    code = name.split("__")[0]
    assert lines[0].startswith(f"error[{code}]: ")
    if code != Kind.NO_SOURCE.value:  # it has no source to show
        assert any(line.startswith(f"  --> {name}.py:") for line in lines), "no place in the user's file"
        assert any(re.fullmatch(r" +\| +\^+.*", line) for line in lines), "no carets"
    assert any(line.startswith("  because: ") for line in lines)
    assert any(line.startswith("  help: ") for line in lines)


def test_no_expected_text_is_left_over() -> None:
    assert {path.stem for path in EXPECTED.glob("*.txt")} == {*CODES, *program_names()}
