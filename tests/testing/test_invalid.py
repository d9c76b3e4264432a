"""Every kind of mistake is refused as what it is, at its line."""

from __future__ import annotations

import pytest

from tilewright.testing.invalid import VIOLATIONS, generate_invalid, main, refusal


@pytest.mark.parametrize("number", range(len(VIOLATIONS)))
def test_mistakes_are_refused_at_their_line(number: int) -> None:
    program = generate_invalid(4, number)
    assert refusal(program) == "", program.source


def test_the_check_itself_notices_wrong_refusals() -> None:
    program = generate_invalid(4, 0)
    valid = "import tilewright.language as T\n\n@T.prim_func\ndef kernel(X: T.Tensor((64,), 'float32')):\n    with T.Kernel(1) as b:\n        T.clear(X)\n"
    assert refusal(type(program)(valid, program.kind, 1, "launch")) == "accepted"
    assert "points at line" in refusal(type(program)(program.source, program.kind, program.line + 1, "launch"))
    other = next(v.kind for v in VIOLATIONS if v.kind is not program.kind)
    assert "refused as" in refusal(type(program)(program.source, other, program.line, "launch"))


def test_the_command_line_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--count", "3", "--seed", "2"]) == 0
    assert "3 programs, 0 not refused" in capsys.readouterr().out
