"""The key of a traced program: the same for the same program in every process, another for every other, none where that cannot be told."""

from __future__ import annotations

import linecache
import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import tilewright
import tilewright.language as T
from tilewright.language import function as function_module
from tilewright.language.dependencies import Origin, origin_of

ROOT = Path(tilewright.__file__).resolve().parents[1]

# Every kind of thing that a trace can depend on.
MODULE = """
import math
import numpy as np
import settings
import tilewright.language as T

SIZE, SCALE, KIND, SHAPE = 32, 1.5, T.float32, (4, (8, "x"))
ROWS = T.dynamic("rows")

@T.macro
def shift(x, by=3):
    return x + by * STEP

STEP = 2

def twice(x, factor=2):
    return inner(x) * factor

def inner(x):
    return math.floor(x) + DEPTH

DEPTH = 1

def make(extent, dtype):
    closed = extent + 1

    @T.prim_func
    def kernel(A: T.Tensor((ROWS, extent), dtype), B: T.Tensor((ROWS, extent), dtype)):
        with T.Kernel(ROWS, threads=SIZE) as bx:
            for i in T.Parallel(extent):
                B[bx, i] = T.cast(shift(A[bx, i]) * SCALE + twice(closed) + settings.OFFSET + np.pi, KIND) + SHAPE[0] + len(SHAPE)

    return kernel

def main():
    raise SystemExit(open("nothing"))
"""


def load(folder: Path, text: str = MODULE, settings: str = "OFFSET = 5\n") -> dict[str, Any]:
    """A module's namespace; what it imports as `settings` is read anew."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.py").write_text(settings)
    file = folder / "module.py"
    file.write_text(text)
    linecache.checkcache(str(file))
    sys.modules.pop("settings", None)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        namespace: dict[str, Any] = {"__name__": "module", "__file__": str(file)}
        exec(compile(text, str(file), "exec", dont_inherit=True), namespace)
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = before
    return namespace


def origin(namespace: dict[str, Any], extent: int = 16, dtype: str = "float32") -> Origin | None:
    found: Origin | None = namespace["make"](extent, dtype).origin
    return found


def key(namespace: dict[str, Any], **options: Any) -> str:
    found = origin(namespace, **options)
    assert found is not None
    return found.key


def test_one_program_has_one_key(tmp_path: Path) -> None:
    namespace = load(tmp_path)
    assert key(namespace) == key(namespace) == key(load(tmp_path / "moved"))
    assert origin(namespace).files == (str(tmp_path / "module.py"),)  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_keys_are_equal_across_processes_hash_seeds_and_paths(tmp_path: Path, seed: str) -> None:
    wanted = key(load(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    for name in ("module.py", "settings.py"):
        (tmp_path / "elsewhere" / name).write_text((tmp_path / name).read_text())
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'elsewhere'}"}
    script = "import module; print(module.make(16, 'float32').origin.key)"
    found = subprocess.run([sys.executable, "-B", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == wanted


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SIZE, SCALE, KIND, SHAPE = 32", "SIZE, SCALE, KIND, SHAPE = 64"),
        ("1.5", "1.25"),
        ("T.float32", "T.float64"),
        ("T.float32", '"float32"'),
        ('"x"', '"y"'),
        ("STEP = 2", "STEP = 3"),
        ("STEP = 2", "STEP = 2.0"),
        ("STEP = 2", "STEP = True"),
        ("by=3", "by=4"),
        ("x + by", "x - by"),
        ("factor=2", "factor=3"),
        ("inner(x) * factor", "inner(x) + factor"),
        ("DEPTH = 1", "DEPTH = 2"),
        ("math.floor", "math.ceil"),
        ("extent + 1", "extent + 2"),
        ("A[bx, i]) * SCALE", "A[bx, 0]) * SCALE"),
        ("np.pi", "np.e"),
        ('"rows"', '"lines"'),
        ("import math", "\nimport math"),
        ("def inner", "twice.setting = 3\n\ndef inner"),
        ("B[bx, i] =", "B[bx,  i] ="),
    ],
)
def test_every_change_makes_another_key(tmp_path: Path, old: str, new: str) -> None:
    assert old in MODULE
    assert key(load(tmp_path)) != key(load(tmp_path, MODULE.replace(old, new, 1)))


def test_arguments_and_other_modules_make_other_keys(tmp_path: Path) -> None:
    namespace = load(tmp_path)
    assert len({key(namespace), key(namespace, extent=17), key(namespace, dtype="float64")}) == 3
    assert key(namespace) != key(load(tmp_path, settings="OFFSET = 6\n"))
    assert key(namespace) == key(load(tmp_path, settings="OFFSET = 5\nOTHER = []\n")), "only what is read counts"


def test_globals_count_as_they_are_at_the_time(tmp_path: Path) -> None:
    namespace = load(tmp_path)
    before = key(namespace)
    namespace["STEP"] = 7
    assert key(namespace) != before
    namespace["STEP"] = 2
    assert key(namespace) == before


def test_what_the_function_does_not_reach_does_not_count(tmp_path: Path) -> None:
    unrelated = MODULE.replace("def main():", "OTHER = object()\ndef main(argument=[]):")
    assert key(load(tmp_path)) == key(load(tmp_path, unrelated))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("STEP = 2", "STEP = [2]"),
        ("STEP = 2", "STEP = np.ones(1)"),
        ("STEP = 2", "STEP = type('Config', (), {'x': 2})()"),
        ("by=3", "by=[]"),
        ("STEP = 2", "STEP = 2\nshift.setting = 3"),
        ("def inner", "twice.setting = []\n\ndef inner"),
        ("+ DEPTH", "+ settings.__dict__['OFFSET']"),
        ("+ DEPTH", "+ len(settings.__name__)*0 + getattr(settings, 'OFFSET')"),
        ("+ DEPTH", "+ int(np.random.rand() < 2)"),
        ("+ DEPTH", "+ DEPTH * (id(x) < 0)"),
        ("return inner(x)", "import math\n    return inner(x)"),
        ("return inner(x)", "print(x)\n    return inner(x)"),
        ("return math.floor(x)", "global DEPTH\n    DEPTH = 4\n    return math.floor(x)"),
        ("def inner", "import functools\n@functools.lru_cache\ndef inner"),
        ("closed = extent + 1", "closed = extent + 1\n    cached = {}\n    global twice\n    def twice(x):\n        return cached.setdefault(x, 1)"),
    ],
)
def test_what_cannot_be_told_has_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    assert old in MODULE
    found = []
    monkeypatch.setattr(function_module, "origin_of", lambda *arguments: found.append(origin_of(*arguments)))
    with suppress(Exception):  # some of these make no program either
        origin(load(tmp_path, MODULE.replace(old, new, 1)))
    assert found == [None]


def test_optimised_python_keeps_no_traces(tmp_path: Path) -> None:
    load(tmp_path)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    script = "import module; print(module.make(16, 'float32').origin)"
    found = subprocess.run([sys.executable, "-B", "-O", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "None"


def test_a_function_without_source_has_no_key() -> None:
    namespace: dict[str, Any] = {"T": T}
    exec("def function(A):\n    pass", namespace)
    function: FunctionType = namespace["function"]
    assert origin_of(function, {}, {}) is None


def test_compile_time_values_count_with_their_kind(tmp_path: Path) -> None:
    function = load(tmp_path)["inner"]
    keys = [origin_of(function, {}, {"n": value}) for value in (1, 1.0, True, "1", (1,), None, 0.0, -0.0, float("nan"), range(1), T.int32)]
    assert len({k.key for k in keys if k is not None}) == len(keys)
    assert all(origin_of(function, {}, {"n": value}) is None for value in ([1], {1}, object(), textwrap))
