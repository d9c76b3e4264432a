"""DLPack exports are read in place, for every element type, and live as long as they are used."""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.runtime.exporters import Exporter, OldExporter
from tilewright.dtypes import SCALAR_DTYPES, DType
from tilewright.runtime.cuda_driver import NoCudaError, use_driver
from tilewright.runtime.dlpack import export, row_major
from tilewright.runtime.tensors import NotATensorError, read_tensor

torch = pytest.importorskip("torch")

TORCH_DTYPES = [d for d in SCALAR_DTYPES if not d.is_packed and isinstance(getattr(torch, d, None), torch.dtype)]


@pytest.mark.parametrize("kind", [Exporter, OldExporter])
@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_dlpack_reads_every_dtype_in_place(kind: Callable[[Any], Any], dtype: DType) -> None:
    view = torch.zeros(6, 8, dtype=torch.uint8).repeat(1, dtype.itemsize).view(getattr(torch, dtype))[1:, ::2]
    _, found = read_tensor(kind(view))
    assert (found.address, found.shape, found.strides, found.dtype_name) == (view.data_ptr(), (5, 4), (8, 2), str(dtype))
    assert found.is_writable == (kind is Exporter)


def test_dlpack_keeps_the_memory_alive() -> None:
    source = np.arange(1000, dtype=np.int64)
    alive = weakref.ref(source)
    _, found = read_tensor(Exporter(source))
    del source
    gc.collect()
    assert alive() is not None
    assert list((ctypes.c_int64 * 3).from_address(found.address)) == [0, 1, 2]
    del found
    gc.collect()
    assert alive() is None


def test_dlpack_of_read_only_memory() -> None:
    source = np.zeros(4)
    source.flags.writeable = False
    assert not read_tensor(Exporter(source))[1].is_writable


def test_dlpack_of_another_device_is_not_exported() -> None:
    class OnGpu:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 1

        def __dlpack__(self, **options: Any) -> Any:
            raise AssertionError("exported")

    with use_driver(NoCudaError("none", "")):
        assert read_tensor(OnGpu())[1].device == "cuda:1"


def test_dlpack_capsules_that_are_none() -> None:
    class Broken(Exporter):
        def __dlpack__(self, **options: Any) -> Any:
            return "capsule"

    with pytest.raises(NotATensorError, match="an object of type Broken that DLPack cannot export"):
        read_tensor(Broken(np.zeros(3)))
    with pytest.raises(NotATensorError, match="require gradient"):
        read_tensor(Exporter(torch.nn.Parameter(torch.zeros(3))))
    assert export(Exporter(np.zeros((2, 3)))).strides == (3, 1)


def test_packed_pairs_keep_their_name() -> None:
    pairs = torch.zeros(3, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    assert export(Exporter(pairs)).dtype_name == "float4_e2m1fn_x2"
    assert export(Exporter(np.zeros(3, np.complex64))).dtype_name == "DLPack type 5 of 64 bits"


def test_row_major_strides() -> None:
    assert row_major((2, 3, 4)) == (12, 4, 1)
    assert row_major(()) == ()
