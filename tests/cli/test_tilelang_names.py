"""The names of TileLang: which modules they give, and that nothing of them stays."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest

import tilewright
import tilewright.language
import tilewright.testing.tilelang
from tilewright.cli.tilelang_names import tilelang_names

PROGRAM = """
import tilelang
import tilelang as tl
import tilelang.language as T
from tilelang import language as T2
from tilelang import jit
import tilelang.jit
from tilelang.jit import jit as jit2
from tilelang.profiler import do_bench
import tilelang.testing
from tilelang.math import next_power_of_2
from tilelang.autotuner import *
from tilelang.language.kernel import Kernel
"""


def test_imports_of_programs() -> None:
    names: dict[str, object] = {}
    with tilelang_names():
        exec(PROGRAM, names)
    assert names["T"] is names["T2"] is tilewright.language
    assert names["jit"] is names["jit2"] is tilewright.jit
    assert names["do_bench"] is tilewright.do_bench
    assert names["Kernel"] is tilewright.language.Kernel
    facade = names["tilelang"]
    assert facade is names["tl"] and isinstance(facade, ModuleType)
    assert facade.jit is tilewright.jit and facade.compile is tilewright.compile
    assert facade.testing is tilewright.testing.tilelang
    assert names["autotune"] is facade.autotune is tilewright.autotune
    assert {"AutoTuner", "set_autotune_inputs", "get_autotune_inputs"} <= names.keys()
    assert names["next_power_of_2"](5) == 8  # type: ignore[operator]


def test_nothing_stays() -> None:
    before, finders = dict(sys.modules), list(sys.meta_path)
    with tilelang_names():
        exec(PROGRAM, {})
    assert not [name for name in sys.modules if name.split(".")[0] == "tilelang"]
    assert sys.meta_path == finders and all(sys.modules[name] is module for name, module in before.items())
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("tilelang")


def test_modules_that_were_there_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ModuleType("tilelang")
    monkeypatch.setitem(sys.modules, "tilelang", theirs)
    with pytest.raises(ZeroDivisionError), tilelang_names():
        assert sys.modules["tilelang"] is not theirs
        raise ZeroDivisionError
    assert sys.modules["tilelang"] is theirs


def test_a_missing_name_says_who_lacks_it() -> None:
    with tilelang_names():
        with pytest.raises(AttributeError, match=r"tilewright has no stand-in for tilelang\.carver"):
            exec("import tilelang; tilelang.carver", {})
        for program in ("import tilelang.carver", "import tilelang.carver.arch"):
            with pytest.raises(ModuleNotFoundError, match=r"tilewright has no stand-in for tilelang\.carver$"):
                exec(program, {})


def test_the_cache_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", "1")
    names: dict[str, object] = {}
    with tilelang_names():
        exec(
            "import tilelang\nstates = [tilelang.is_cache_enabled()]\ntilelang.disable_cache()\nstates.append(tilelang.is_cache_enabled())\n"
            "tilelang.enable_cache()\nstates.append(tilelang.is_cache_enabled())",
            names,
        )
    assert names["states"] == [True, False, True]
