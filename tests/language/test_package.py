"""The T namespace: what it exports, spellings that mean the same, dtypes by name, and names that there are not."""

from __future__ import annotations

import builtins
import types

import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.dtypes import SCALAR_DTYPES
from tilewright.errors import Kind


def test_every_exported_name_is_there_and_nothing_else_is_exported() -> None:
    assert len(T.__all__) == len(set(T.__all__)) and all(hasattr(T, name) for name in T.__all__)
    public = {n for n, v in vars(T).items() if not n.startswith("_") and not isinstance(v, types.ModuleType)} - {"annotations"}
    assert public <= set(T.__all__), public - set(T.__all__)


def test_spellings_that_mean_the_same() -> None:
    assert T.Serial is T.serial and T.Unroll is T.unroll and T.Vectorized is T.vectorized and T.symbolic is T.dynamic
    assert T.Buffer is T.Tensor is T.FragmentBuffer is T.SharedBuffer is T.LocalBuffer and T.inline is T.macro
    assert (T.half, T.float, T.double, T.short, T.int, T.long, T.uint) == ("float16", "float32", "float64", "int16", "int32", "int64", "uint32")


def test_every_dtype_has_its_name() -> None:
    for dtype in SCALAR_DTYPES:
        assert getattr(T, dtype) is dtype and T.dtype(str(dtype)) is dtype
    assert T.float32x4 is T.dtype("float32x4") and T.int4x8.lanes == 8
    assert T.dtype(builtins.int) is T.int32 and T.dtype(builtins.bool) is T.bool


@pytest.mark.parametrize(("name", "guess"), [("alloc_shard", "T.alloc_shared"), ("Paralel", "T.Parallel"), ("wgmma_gem", "T.wgmma_gemm")])
def test_an_unknown_name_is_answered_with_the_nearest_one(name: str, guess: str) -> None:
    with refused(Kind.UNKNOWN_NAME, f"there is no T.{name}", f"did you mean {guess}?"):
        getattr(T, name)


def test_other_modules_may_ask_for_what_is_no_part_of_the_language() -> None:
    assert not hasattr(T, "__wrapped__") and getattr(T, "__path__", None)  # inspect, doctest and pytest do
    with refused(Kind.UNKNOWN_NAME):
        _ = T.float32x3
