"""The names of TileLang: which modules they give, and that nothing of them stays."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest

import tilewright
import tilewright.carver
import tilewright.language
import tilewright.testing.tilelang
import tilewright.tools
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


def test_a_missing_name_says_who_lacks_it_and_what_does_its_work() -> None:
    with tilelang_names():
        for name, part in (("speed", "tilelang.speed$"), ("tvm.relay", "tilelang.tvm.relay: programs of tiles need none of TVM")):
            with pytest.raises(AttributeError, match=f"tilewright has no stand-in for {part}"):
                exec(f"import tilelang; tilelang.{name}", {})
        for module, part in (("speed.fast", "tilelang.speed$"), ("autodd", "tilelang.autodd: .*fuzz"), ("layout.cute", "tilelang.layout.cute: .*from_cute")):
            with pytest.raises(ModuleNotFoundError, match=f"tilewright has no stand-in for {part}"):
                exec(f"import tilelang.{module}", {})


def test_machinery_of_tilelang_that_programs_use() -> None:
    names: dict[str, object] = {}
    with tilelang_names():
        exec(
            "import tilelang\nfrom tilelang import tvm as tvm\nimport tilelang.tvm as tvm2\nfrom tilelang.transform import PassConfigKey\n"
            "from tilelang.engine import lower\nfrom tilelang.tools import plot_layout, Analyzer\n"
            "from tilelang.carver import MatmulTemplate\nfrom tilelang.carver.arch import CUDA, driver\n"
            "from tilelang.carver.roller.rasterization import NoRasterization\ncached = tilelang.env.TILELANG_DISABLE_CACHE\n"
            "with tvm.target.Target('c'):\n    pass\n"
            "hints, tools, hook, marked = tilelang.carver, tilelang.tools, tilelang.register_cuda_postproc, tilelang.deprecated('x')\n",
            names,
        )
    assert names["tvm"] is names["tvm2"] and names["PassConfigKey"] is tilewright.PassConfigKey and names["lower"] is tilewright.lower
    assert names["tools"] is tilewright.tools and names["plot_layout"] is tilewright.tools.plot_layout
    assert names["hints"] is tilewright.carver and names["MatmulTemplate"] is tilewright.carver.MatmulTemplate and names["cached"] in (True, False)


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
