"""`tilewright explain`: every kind has a page; its wrong example raises exactly that kind, its right one works."""

from __future__ import annotations

from importlib import resources

import pytest
from click.testing import CliRunner

from tests.errors.examples import block, run_block
from tilewright.cli.explain import CODES, UnknownCodeError, explain, explanation, summary
from tilewright.errors import Kind, TileError
from tilewright.jit import EagerFunction
from tilewright.language.function import PrimFunc
from tilewright.runtime.nvrtc import is_nvrtc_installed
from tilewright.tune import Tuned


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CHECK", "0")


def test_every_kind_has_a_page_and_no_page_is_left_over() -> None:
    pages = {path.name for path in resources.files("tilewright").joinpath("explanations").iterdir()}
    assert pages == {f"{kind.value}.md" for kind in Kind}


@pytest.mark.parametrize("code", CODES)
def test_page(code: str) -> None:
    page = explanation(code)
    assert page.startswith(f"# {code}\n\n")
    assert max(map(len, page.splitlines())) <= 140
    assert len(page.split("\n```python wrong\n")[0].split()) >= 20, "says too little"
    assert block(code, "wrong") != block(code, "right")
    assert 20 < len(summary(code)) < 200


def skip_without_what_it_needs(code: str) -> None:
    if code == Kind.ARGUMENT_DEVICE.value:
        pytest.importorskip("torch")
    if code in (Kind.COMPILE_FLAGS.value, Kind.EXTERN_SOURCE.value, Kind.EXTERN_TARGET.value) and not is_nvrtc_installed():
        pytest.skip("NVRTC is not installed")


@pytest.mark.parametrize("code", CODES)
def test_the_wrong_example_raises_this_kind(code: str) -> None:
    skip_without_what_it_needs(code)
    with pytest.raises(TileError) as caught:
        run_block(code, "wrong")
    assert caught.value.code == code


@pytest.mark.parametrize("code", CODES)
def test_the_right_example_works(code: str) -> None:
    skip_without_what_it_needs(code)
    assert any(isinstance(value, (PrimFunc, EagerFunction, Tuned)) for value in run_block(code, "right").values()), "holds no kernel"


@pytest.mark.parametrize("spelling", ["copy-shape", "COPY_SHAPE", "error[copy-shape]", " copy-shape: "])
def test_spellings_of_a_code(spelling: str) -> None:
    assert explanation(spelling).startswith("# copy-shape")


def test_an_unknown_code_names_close_ones() -> None:
    with pytest.raises(UnknownCodeError, match="did you mean copy-shape"):
        explanation("copyshape")
    with pytest.raises(UnknownCodeError, match="--list"):
        explanation("zzz")
    with pytest.raises(UnknownCodeError):
        explanation("../copy-shape")


def test_command() -> None:
    shown = CliRunner().invoke(explain, ["copy-shape"])
    assert (shown.exit_code, shown.output) == (0, explanation("copy-shape"))
    refused = CliRunner().invoke(explain, ["copy-shapes"])
    assert refused.exit_code == 1
    assert "did you mean copy-shape" in refused.output


def test_the_list_has_a_line_per_code() -> None:
    listed = CliRunner().invoke(explain, ["--list"]).output.splitlines()
    assert [line.split()[0] for line in listed] == list(CODES)
