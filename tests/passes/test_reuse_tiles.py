"""Copies of tiles that are the tile itself: when they may be, when source and copy differ while the copy is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers
from tests.passes.products import after, agree
from tilewright.language.function import PrimFunc
from tilewright.passes.reuse_tiles import reuse_tiles


def is_reused(prim_func: PrimFunc) -> bool:
    program, context = after(prim_func, reuse_tiles)
    is_gone = all(b.name != "copied" for b in program.launches[0].buffers)
    assert is_gone is any("copied is not copied" in r.text for r in context.remarks)
    return is_gone


def staged(behind: Any = None, last: Any = None, first: Any = None, dtype: str = "float32", region: Any = None) -> PrimFunc:
    """Three turns of `first; source = A * (turn + 1); copied = source; behind; total += copied @ B; last`, then `C = total`."""

    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float32"), B: T.Tensor((16, 16), dtype), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            source, copied = T.alloc_fragment((16, 16), "float32"), T.alloc_fragment((16, 16), dtype)
            b, total = T.alloc_shared((16, 16), dtype), T.alloc_fragment((16, 16), "float32")
            T.copy(B, b)
            T.clear(total)
            T.clear(source)
            if region is not None or first is not None:
                T.clear(copied)
            for turn in T.serial(3):
                if first is not None:
                    first(source, copied, total)
                for i, j in T.Parallel(16, 16):
                    source[i, j] = A[i, j] * (turn + 1)
                if region is None:
                    T.copy(source, copied)
                else:
                    T.copy(source[region], copied[region])
                if behind is not None:
                    behind(source, copied, total)
                T.gemm(copied, b, total)
                if last is not None:
                    last(source, copied, total)
            T.copy(total, C)

    return kernel


def arguments(dtype: str = "float32") -> dict[str, Any]:
    return {"A": integers((16, 16), np.float32, -3), "B": integers((16, 16), np.dtype(dtype), -3, seed=1), "C": np.zeros((16, 16), np.float32)}


def test_a_copy_that_is_only_read() -> None:
    given = arguments()
    assert is_reused(staged())
    np.testing.assert_array_equal(agree(staged(), given, reuse_tiles)["C"], 6 * given["A"] @ given["B"])


def test_readers_of_both() -> None:
    @T.macro
    def add(source: Any, copied: Any, total: Any) -> None:
        for i, j in T.Parallel(16, 16):
            total[i, j] += source[i, j] * copied[j, i]

    given = arguments()
    assert is_reused(staged(behind=add, last=add))
    wanted = 6 * given["A"] @ given["B"] + 28 * given["A"] * given["A"].T
    np.testing.assert_array_equal(agree(staged(behind=add, last=add), given, reuse_tiles)["C"], wanted)


@T.macro
def change_source(source: Any, copied: Any, total: Any) -> None:
    for i, j in T.Parallel(16, 16):
        source[i, j] += 1


@T.macro
def change_copy(source: Any, copied: Any, total: Any) -> None:
    for i, j in T.Parallel(16, 16):
        copied[i, j] += 1


@T.macro
def fill_source(source: Any, copied: Any, total: Any) -> None:
    T.fill(source, 7)


@T.macro
def read_old(source: Any, copied: Any, total: Any) -> None:
    for i, j in T.Parallel(16, 16):
        source[i, j] = 9
        total[i, j] += copied[i, j]


@pytest.mark.parametrize("place", ["behind", "last", "first"])
@pytest.mark.parametrize("change", [change_source, change_copy, fill_source, read_old])
def test_what_makes_them_differ(place: str, change: Any) -> None:
    kernel = staged(**{place: change})
    assert not is_reused(kernel)  # with "first" the copy is cleared before the loop
    agree(kernel, arguments(), reuse_tiles)


def test_conversions_and_parts_are_copied() -> None:
    for kernel, dtype in ((staged(dtype="float16"), "float16"), (staged(region=(slice(0, 8), slice(0, 16))), "float32")):
        assert not is_reused(kernel)
        agree(kernel, arguments(dtype), reuse_tiles)


def test_views_are_kept_apart() -> None:
    @T.macro
    def through_a_view(source: Any, copied: Any, total: Any) -> None:
        flat = T.reshape(source, (256,))
        for i in T.Parallel(256):
            flat[i] = 1

    kernel = staged(behind=through_a_view)
    assert not is_reused(kernel)
    agree(kernel, arguments(), reuse_tiles)
