"""A kernel written to a file and loaded again without tilewright: by LLVM's linker as an object, by the system as a shared library."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused
from tilewright.errors import Kind
from tilewright.kernel import Kernel
from tilewright.runtime.llvm_jit import initialize_llvm


def product() -> Kernel:
    rows = T.dynamic("rows")

    @T.prim_func
    def product(A: T.Tensor((rows, 96), "float32"), B: T.Tensor((96, 80), "float32"), scale: T.float32, C: T.Tensor((rows, 80), "float32")):
        with T.Kernel(T.ceildiv(rows, 32), threads=128) as bx:
            a, c = T.alloc_shared((32, 96), "float32"), T.alloc_fragment((32, 80), "float32")
            T.copy(A[bx * 32, 0], a)
            T.clear(c)
            b = T.alloc_shared((96, 80), "float32")
            T.copy(B, b)
            T.gemm(a, b, c)
            for i, j in T.Parallel(32, 80):
                c[i, j] *= scale
            T.copy(c, C[bx * 32, 0])

    return tilewright.compile(product)


def call(address: int, a: Any, b: Any, scale: float, c: Any) -> int:
    """The C function, on slots as its documentation gives them: parameters, sizes, status."""
    status = ctypes.c_int32(0)
    bits = int(np.float32(scale).view(np.uint32))
    slots = (ctypes.c_uint64 * 6)(a.ctypes.data, b.ctypes.data, bits, c.ctypes.data, len(a), ctypes.addressof(status))
    return int(ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(address)(ctypes.addressof(slots)))


def check(address: int) -> None:
    a, b = integers((70, 96)), integers((96, 80), seed=1)
    c = np.zeros((70, 80), np.float32)
    assert call(address, a, b, 0.5, c) == 0
    np.testing.assert_array_equal(c, a @ b * 0.5)


def test_an_object_file_holds_the_whole_program(tmp_path: Path) -> None:
    path = product().export_library(tmp_path / "kernel.o")
    initialize_llvm()
    builder = llvm.JITLibraryBuilder().add_object_img(path.read_bytes()).export_symbol("product").add_current_process()
    library = builder.link(llvm.create_lljit_compiler(), "exported")
    check(library["product"])


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no linker")
def test_a_shared_library_is_loaded_by_the_system(tmp_path: Path) -> None:
    path = product().export_library(str(tmp_path / "kernel.so"))
    check(ctypes.cast(ctypes.CDLL(str(path)).product, ctypes.c_void_p).value or 0)


def test_without_a_linker_an_object_file_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with refused(Kind.TARGET_FEATURE, "none of cc, gcc, clang was found", "kernel.o"):
        product().export_library(tmp_path / "kernel.so")
    assert product().export_library(tmp_path / "kernel.o").stat().st_size > 0


def test_a_linker_that_fails_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    false = shutil.which("false")
    if false is None:
        pytest.skip("no program that fails")
    monkeypatch.setattr(shutil, "which", lambda name: false)
    with refused(Kind.TARGET_FEATURE, "did not link kernel.so"):
        product().export_library(tmp_path / "kernel.so")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with refused(Kind.OPTION_VALUE, "cannot be written to 'kernel.dll'", ".o, .so, .dylib"):
        product().export_library(tmp_path / "kernel.dll")

    @T.prim_func
    def talking(A: T.Tensor((4,), "float32")):
        with T.Kernel(1):
            T.print(A[0])

    with refused(Kind.TARGET_FEATURE, "talking prints"):
        tilewright.compile(talking).export_library(tmp_path / "kernel.o")
    with refused(Kind.OPTION_VALUE, "it has no machine code"):
        tilewright.compile(product().prim_func, target="simulate").export_library(tmp_path / "kernel.o")
