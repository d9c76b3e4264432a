"""The `tilelang` modules as a program imports them, for as long as `tilewright run` runs it (floor 9; language.md 1.2)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tilewright.cli.tilelang_stand_ins import SOURCE_HOOKS, Target, deprecated, variable
from tilewright.language.scalar import cdiv

_PACKAGE = importlib.import_module("tilewright")
_ROOT = "tilelang"
_CACHE_VARIABLE = "TILEWRIGHT_CACHE"
# Modules of TileLang that stand elsewhere here.
_ELSEWHERE = {"tilelang.testing": "tilewright.testing.tilelang", "tilelang.autotuner": "tilewright.tune"}
_SUBMODULES = ("language", "layout", "dtypes", "profiler", "testing", "math", "autotuner", "tvm", "env", "transform", "engine")
_LATE_SUBMODULES = ("tools", "carver")  # imported when they are asked for
# Modules without a stand-in, and what does their work.
_INSTEAD = {
    "tilelang.autodd": "tilewright minimises programs of its own in python -m tilewright.testing.fuzz",
    "tilelang.cuda": "T.gemm chooses the instructions of tensor cores",
    "tilelang.engine": "tilewright.lower gives what a program is compiled to",
    "tilelang.layout.cute": "tilewright.layout.from_cute reads CuTe layouts",
    "tilelang.tools.cuda": "tilewright inspect and kernel.simulate look into kernels without code of CUDA",
    "tilelang.transform": "tilewright inspect shows the program after each pass",
    "tilelang.tvm": "programs of tiles need none of TVM",
    "tilelang.utils": "tilewright.testing.tilelang and tilewright.profiler have what programs need",
}


def enable_cache() -> None:
    """Kernels are kept on disk."""
    os.environ[_CACHE_VARIABLE] = "1"


def disable_cache() -> None:
    """Kernels are compiled anew in every process."""
    os.environ[_CACHE_VARIABLE] = "0"


def is_cache_enabled() -> bool:
    return os.environ.get(_CACHE_VARIABLE, "1") != "0"


def set_log_level(level: Any) -> None:
    """Accepted; tilewright writes no log."""


def _missing(name: str) -> str:
    """What is said of a name without a stand-in."""
    instead = next((text for module, text in _INSTEAD.items() if name == module or name.startswith(f"{module}.")), "")
    return f"tilewright has no stand-in for {name}" + (f": {instead}" if instead else "")


class _Facade(ModuleType):
    """A module that says who it is when a name is missing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.__name__ == _ROOT and name in _LATE_SUBMODULES:
            return importlib.import_module(f"{_ROOT}.{name}")
        raise AttributeError(_missing(f"{self.__name__}.{name}"))


class _Finder(MetaPathFinder, Loader):
    """Finds `tilelang.x` as the module object of `tilewright.x`: a second copy would have classes of its own."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{_ROOT}."):
            return None
        if fullname in _INSTEAD or importlib.util.find_spec(_real_name(fullname)) is None:
            raise ModuleNotFoundError(_missing(fullname), name=fullname)
        return ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(_real_name(module.__name__))


def _real_name(name: str) -> str:
    return _ELSEWHERE.get(name, name.replace(_ROOT, _PACKAGE.__name__, 1))


def stand_ins() -> tuple[ModuleType, ...]:
    """Modules of TileLang that have no counterpart in tilewright, with the little of them that programs use."""
    return (
        _facade(f"{_ROOT}.tvm", {"target": _facade(f"{_ROOT}.tvm.target", {"Target": Target})}),
        _facade(f"{_ROOT}.transform", {"PassConfigKey": _PACKAGE.PassConfigKey}),
        _facade(f"{_ROOT}.engine", {"lower": _PACKAGE.lower}),
        _EnvironmentModule(f"{_ROOT}.env"),
    )


class _EnvironmentModule(ModuleType):
    """`tilelang.env`: its variables as attributes."""

    def __getattr__(self, name: str) -> Any:
        return variable(name)


def _facade(name: str, names: dict[str, Any]) -> ModuleType:
    module = _Facade(name)
    vars(module).update(names, __all__=list(names), __path__=[])
    return module


@contextmanager
def tilelang_names() -> Iterator[None]:
    """Inside, `import tilelang` and its submodules give tilewright's; afterwards `sys.modules` is as before."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == _ROOT}
    for name in before:
        del sys.modules[name]
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    math = _facade(f"{_ROOT}.math", {"cdiv": cdiv, "next_power_of_2": _PACKAGE.next_power_of_2})
    names = {name: getattr(_PACKAGE, name) for name in _PACKAGE.__all__}
    switches = {f.__name__: f for f in (enable_cache, disable_cache, is_cache_enabled, set_log_level, deprecated, *SOURCE_HOOKS)}
    sys.modules[_ROOT] = root = _facade(_ROOT, {**names, **switches, "__version__": _PACKAGE.__version__})
    sys.modules |= {module.__name__: module for module in stand_ins()}
    # `tilelang.jit` is both a module and, as an attribute, the decorator; importing the module below the facade would hide the decorator.
    sys.modules |= {f"{_ROOT}.math": math, f"{_ROOT}.jit": sys.modules["tilewright.jit"]}
    try:
        for name in _SUBMODULES:
            setattr(root, name, importlib.import_module(f"{_ROOT}.{name}"))
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] == _ROOT]:
            del sys.modules[name]
        sys.modules.update(before)
