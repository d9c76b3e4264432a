"""TileLang's own machinery under its names: targets of TVM, variables, decorators, and hooks that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright.cli.tilelang_stand_ins import SOURCE_HOOKS, Target, deprecated, variable
from tilewright.errors import Kind


def doubling() -> Any:
    @T.prim_func
    def double(A: T.Tensor((8,), "float32")):
        with T.Kernel(1):
            for i in T.Parallel(8):
                A[i] = A[i] * 2.0

    return double


def test_a_target_is_a_name_and_inside_with_what_programs_without_one_are_compiled_for() -> None:
    assert tilewright.compile(doubling(), target=Target("c")).target == tilewright.compile(doubling()).target
    with Target("simulate") as outer, Target({"kind": "simulate", "arch": "sm_80"}) as inner:
        assert (outer, inner) == ("simulate", "simulate -arch=sm_80")
        assert tilewright.compile(doubling()).target.name == tilewright.compile(doubling(), target="auto").target.name == "simulate sm_80"
        a = np.ones(8, np.float32)
        tilewright.compile(doubling(), target="c")(a)
        np.testing.assert_array_equal(a, 2)
    assert tilewright.compile(doubling()).target == tilewright.compile(doubling(), target="cpu").target
    with refused(Kind.TARGET_NAME), Target("tpu"):
        tilewright.compile(doubling())


def test_variables_are_what_is_in_force(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TILEWRIGHT_CACHE", "0")
    monkeypatch.setenv("TILEWRIGHT_TARGET", "sm_80")
    monkeypatch.setenv("TILELANG_VERBOSE", "1")
    assert variable("TILELANG_CACHE_DIR") == str(tmp_path) and variable("TILELANG_DISABLE_CACHE") is True
    assert variable("TILELANG_DEFAULT_TARGET") == "sm_80" and variable("TILELANG_VERBOSE") == "1"
    monkeypatch.delenv("TILELANG_VERBOSE")
    assert variable("TILELANG_VERBOSE") is None
    with pytest.raises(AttributeError, match="no environment variable TILELANG_SPEED"):
        variable("TILELANG_SPEED")


def test_a_deprecated_function_warns_and_works() -> None:
    @deprecated("old", "new", version="0.2")
    def old(x: int) -> int:
        return x + 1

    with pytest.warns(DeprecationWarning, match=r"old is deprecated \(old, new, version: 0.2\)"):
        assert old(1) == 2


@pytest.mark.parametrize("hook", SOURCE_HOOKS, ids=lambda hook: hook.__name__)
def test_hooks_on_the_source_are_refused(hook: Any) -> None:
    with refused(Kind.TARGET_FEATURE, f"tilelang.{hook.__name__} changes the generated source"):
        hook(lambda code, target: code)
