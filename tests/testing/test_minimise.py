"""The minimiser on oracles whose answer is known."""

from __future__ import annotations

import ast

from tilewright.testing.case import Outcome, Verdict
from tilewright.testing.generate import generate
from tilewright.testing.minimise import minimise

FAILURE, SUCCESS = Outcome(Verdict.MISMATCH, "Y"), Outcome(Verdict.PASSED)


def test_one_statement_is_left_of_a_program_that_fails_because_of_it() -> None:
    source = next(s for n in range(50) if "T.cumsum(" in (s := generate(2, n).source))
    small = minimise(source, FAILURE, lambda text: FAILURE if "T.cumsum(" in text else SUCCESS, budget=2000)
    (kernel,) = [n for n in ast.parse(small).body if isinstance(n, ast.FunctionDef)]
    assert "T.cumsum(" in small and kernel.args.args == []
    launch = kernel.body[0]
    assert len(kernel.body) == 1 and isinstance(launch, ast.With) and [ast.unparse(s).split("(")[0] for s in launch.body] == ["T.cumsum"]


def test_numbers_and_expressions_shrink_to_what_matters() -> None:
    source = "def kernel(X, Y):\n    for i in T.Parallel(48):\n        if i % 3 == 0:\n            Y[i] = T.max(X[i] + 7, i) * 5 - X[i + 9]\n"
    small = minimise(source, FAILURE, lambda text: FAILURE if "T.max(" in text and "X[" in text else SUCCESS)
    assert small == "def kernel(X):\n    T.max(X[1], 1)\n" or len(small) <= 60, small


def test_a_different_failure_does_not_count() -> None:
    source = "def kernel():\n    a = 1\n    b = 2\n"
    other = Outcome(Verdict.CRASH, "elsewhere")
    assert minimise(source, FAILURE, lambda text: FAILURE if "a = 1" in text and "b = 2" in text else other) == source
