"""tilewright: a compiler in Python for tile programs.

`import tilewright as tl` and `import tilewright.language as T`, as in TileLang programs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tilewright import dtypes, language, layout
from tilewright.driver import VERSION
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Kind, TileError
from tilewright.jit import compile, jit, lower, par_compile
from tilewright.kernel import Kernel
from tilewright.language.scalar import cdiv
from tilewright.layout.annotations import FragmentAnnotation as Fragment
from tilewright.layout.annotations import LayoutAnnotation as Layout
from tilewright.pass_configs import PassConfigKey
from tilewright.profiler import Profiler, TensorSupplyType, do_bench
from tilewright.source_hash import source_evidence
from tilewright.tune import autotune

if TYPE_CHECKING:
    from tilewright.reference import run_reference

JITKernel = Kernel
DataType = DType
__version__ = VERSION

source_evidence()  # what is compiled from now on is the work of these sources, even if somebody edits them


def next_power_of_2(value: int) -> int:
    """The least power of two that is not below `value`."""
    return 1 << max(value - 1, 0).bit_length()


def __getattr__(name: str) -> Any:
    if name == "run_reference":  # imported when it is asked for: most programs never do
        from tilewright.reference import run_reference

        return run_reference
    raise AttributeError(f"module 'tilewright' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


__all__ = [
    "CompilerBug",
    "DataType",
    "Fragment",
    "JITKernel",
    "Kernel",
    "Kind",
    "Layout",
    "PassConfigKey",
    "Profiler",
    "TensorSupplyType",
    "TileError",
    "autotune",
    "cdiv",
    "compile",
    "do_bench",
    "dtypes",
    "jit",
    "language",
    "layout",
    "lower",
    "next_power_of_2",
    "par_compile",
    "run_reference",
]
