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

from tilewright.language.scalar import cdiv

_PACKAGE = importlib.import_module("tilewright")
_ROOT = "tilelang"
_CACHE_VARIABLE = "TILEWRIGHT_CACHE"
# Modules of TileLang that stand elsewhere here.
_ELSEWHERE = {"tilelang.testing": "tilewright.testing.tilelang", "tilelang.autotuner": "tilewright.tune"}
_SUBMODULES = ("language", "layout", "dtypes", "profiler", "testing", "math", "autotuner")


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


class _Facade(ModuleType):
    """A module that says who it is when a name is missing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"tilewright has no stand-in for {self.__name__}.{name}")


class _Finder(MetaPathFinder, Loader):
    """Finds `tilelang.x` as the module object of `tilewright.x`: a second copy would have classes of its own."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{_ROOT}."):
            return None
        if importlib.util.find_spec(_real_name(fullname)) is None:
            raise ModuleNotFoundError(f"tilewright has no stand-in for {fullname}", name=fullname)
        return ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(_real_name(module.__name__))


def _real_name(name: str) -> str:
    return _ELSEWHERE.get(name, name.replace(_ROOT, _PACKAGE.__name__, 1))


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
    switches = {f.__name__: f for f in (enable_cache, disable_cache, is_cache_enabled, set_log_level)}
    sys.modules[_ROOT] = root = _facade(_ROOT, {**names, **switches, "__version__": _PACKAGE.__version__})
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
