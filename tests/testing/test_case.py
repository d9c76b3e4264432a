"""Running a case: verdicts, arguments, comparison."""

from __future__ import annotations

import linecache
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.language import PrimFunc
from tilewright.reference import run_reference
from tilewright.testing.case import Executor, Outcome, Verdict, compare, load_case, run_case

DOUBLE = """
import tilewright.language as T
n = T.dynamic("n")
SIZES = {"n": 5, "k": 3}
RANGES = {"X": (1, 2)}

@T.prim_func
def kernel(X: T.Tensor((n, 4), "float32"), Y: T.Tensor((n, 4), "float32"), k: T.int32):
    with T.Kernel(1, threads=32) as b:
        s = T.alloc_shared((8, 4), "float32")
        T.copy(X[0, 0], s)
        for i, j in T.Parallel(8, 4):
            Y[i, j] = s[i, j] * k
"""


def reference(kernel: PrimFunc, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return run_reference(kernel.program, arguments)


def off_by_one(kernel: PrimFunc, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: array + 1 for name, array in reference(kernel, arguments).items()}


def raising(kernel: PrimFunc, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    raise KeyError("lost")


def test_arguments_follow_sizes_and_ranges() -> None:
    given = load_case(DOUBLE).arguments()
    assert given["k"] == 3 and given["X"].shape == given["Y"].shape == (5, 4) and set(given["X"].ravel()) == {1, 2}


@pytest.mark.parametrize(("executor", "verdict"), [(reference, Verdict.PASSED), (off_by_one, Verdict.MISMATCH), (raising, Verdict.CRASH)])
def test_verdicts(executor: Executor, verdict: Verdict) -> None:
    outcome = run_case(DOUBLE, {"it": executor})
    assert outcome.verdict is verdict and outcome.is_failure == (verdict is not Verdict.PASSED)


def test_refused_and_invalid_programs_are_told_apart() -> None:
    assert run_case(DOUBLE.replace("T.copy(X", "T.cpy(X"), {}).verdict is Verdict.REFUSED
    unwritten = DOUBLE.replace("        T.copy(X[0, 0], s)\n", "")
    assert run_case(unwritten, {}, is_checking_validity=True).verdict is Verdict.INVALID
    ordered = DOUBLE.replace("T.Kernel(1,", "T.Kernel(3,").replace("s[i, j] * k", "s[i, j] * k + b")
    assert run_case(ordered, {}, is_checking_validity=True).verdict is Verdict.INVALID
    assert run_case(DOUBLE, {}, is_checking_validity=True).verdict is Verdict.PASSED


def test_the_text_of_a_case_is_shown_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    outcome = run_case(DOUBLE.replace("T.copy(X", "T.cpy(X"), {})
    assert "T.cpy(X[0, 0], s)\n" in outcome.detail and "^" in outcome.detail
    assert not list(tmp_path.iterdir())


def test_the_texts_of_old_cases_are_forgotten() -> None:
    before = len(linecache.cache)
    for number in range(600):
        load_case(f"kernel = {number}\n")
    assert len(linecache.cache) < before + 300


def test_failures_are_alike_by_what_failed() -> None:
    assert Outcome(Verdict.MISMATCH, "Y0").is_like(Outcome(Verdict.MISMATCH, "Y1"))
    assert not Outcome(Verdict.CRASH, "here").is_like(Outcome(Verdict.CRASH, "there"))


def test_comparison_is_exact_unless_there_is_a_tolerance() -> None:
    a = np.array([1.0, np.nan, np.inf, 0.0], np.float32)
    assert compare(a, a.copy(), 0.0) == "" and compare(a, np.array([1.0, np.nan, np.inf, -0.0], np.float32), 0.0) == ""
    near = a + np.float32(0.01)
    assert "2 of 4" in compare(a, near, 0.0) and compare(a, near, 0.02) == ""
    assert compare(a, np.zeros(4, np.float32), 5.0) != ""
    assert "float64" in compare(a, a.astype(np.float64), 0.0)
    assert compare(np.array([5]), np.array([6]), 1.0) == "" and "6 instead of 5" in compare(np.array([5]), np.array([6]), 0.0)
