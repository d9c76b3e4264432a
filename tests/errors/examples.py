"""The wrong programs of the error tests: the first example of each page of explanations, and the files in `programs`.

A page's block is run as a file of the name of its code, so that diagnostics show stable lines. `T`, `np` and `tilewright` are imported
for it.
"""

from __future__ import annotations

import linecache
import re
import runpy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import tilewright
import tilewright.language as T
from tests.runtime.mock_driver import MockDriver
from tilewright.cli.explain import explanation
from tilewright.runtime.cuda_driver import CudaError, NoCudaError, use_driver

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
EXPECTED = HERE / "expected"


# What a page of the GPU finds instead of this machine.
DRIVERS: dict[str, Any] = {
    "gpu-missing": NoCudaError("no NVIDIA driver was found", "install the NVIDIA driver"),
    "gpu-error": MockDriver(broken=CudaError("cuDeviceGetAttribute", "CUDA_ERROR_UNKNOWN", 999)),
    "graph-capture": MockDriver(capturing=True),
}


def block(code: str, kind: str) -> str:
    """The `wrong` or `right` example of a page."""
    found = re.findall(rf"^```python {kind}\n(.*?)^```$", explanation(code), re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"the page of {code} has {len(found)} {kind} examples"
    return str(found[0])


def run_block(code: str, kind: str) -> dict[str, Any]:
    """Runs an example; gives its names."""
    text, file = block(code, kind), f"{code}.py"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names: dict[str, Any] = {"T": T, "np": np, "tilewright": tilewright, "__name__": code.replace("-", "_")}
    with use_driver(DRIVERS[code]) if code in DRIVERS and kind == "wrong" else nullcontext():
        exec(compile(text, file, "exec"), names)
    return names


def program_names() -> list[str]:
    return sorted(path.stem for path in PROGRAMS.glob("*.py"))


def run_program(name: str) -> None:
    """Runs a file of `programs`; the working directory is expected to be that folder."""
    runpy.run_path(f"{name}.py")


def rendered(run: Callable[[], Any]) -> str:
    """The whole text of the diagnostic that a program raises."""
    try:
        run()
    except tilewright.TileError as error:
        return str(error)
    raise AssertionError("the program was accepted")
