"""Tensors of every kind of owner are read in place, and new ones belong to the right framework."""

from __future__ import annotations

import array
import ctypes
import mmap
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.runtime.exporters import Exporter
from tests.runtime.identifiers import stable_id
from tilewright.dtypes import SCALAR_DTYPES, DType, as_dtype
from tilewright.runtime.tensors import NUMPY, NotATensorError, framework_of, packed_shape, read_tensor

torch = pytest.importorskip("torch")

TORCH_DTYPES = [d for d in SCALAR_DTYPES if not d.is_packed and isinstance(getattr(torch, d, None), torch.dtype)]


class Interface:
    """An object with the array interface, as an attribute of the instance."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.__array_interface__ = owner.__array_interface__


def test_numpy_arrays() -> None:
    base = np.zeros((6, 8), np.float16)
    _, found = read_tensor(base[::2, 1:])
    assert (found.address, found.shape, found.strides) == (base.ctypes.data + 2, (3, 7), (16, 1))
    assert (found.dtype_name, found.is_writable, found.device) == ("float16", True, "cpu")
    assert read_tensor(base[::-1])[1].strides == (-8, 1)
    base.flags.writeable = False
    assert not read_tensor(base)[1].is_writable
    assert read_tensor(np.zeros((), np.int8))[1].shape == ()


@pytest.mark.parametrize("dtype", [d for d in SCALAR_DTYPES if d not in ("handle", "tfloat32")])
def test_every_numpy_dtype_has_its_name(dtype: DType) -> None:
    assert read_tensor(np.zeros(2, dtype.numpy))[1].dtype_name == str(dtype)


def test_dtypes_without_a_counterpart_keep_their_own_name() -> None:
    assert read_tensor(np.zeros(2, object))[1].dtype_name == "object"
    assert read_tensor(np.zeros(2, ">f4"))[1].dtype_name == "float32 in the other byte order"
    assert read_tensor(np.zeros(2, np.complex64))[1].dtype_name == "complex64"
    assert read_tensor(torch.zeros(2, dtype=torch.complex64))[1].dtype_name == "torch.complex64"


def test_strides_that_are_no_whole_elements() -> None:
    records = np.zeros(4, [("a", np.int32), ("b", np.float64)])
    assert read_tensor(records["b"])[1].strides is None


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_torch_tensors(dtype: DType) -> None:
    base = torch.zeros(6, 8, dtype=torch.uint8).repeat(1, dtype.itemsize).view(getattr(torch, dtype))
    view = base[::2, 1:]
    framework, found = read_tensor(view)
    assert (found.address, found.shape, found.strides) == (view.data_ptr(), (3, 7), (16, 1))
    assert (found.dtype_name, found.is_writable, found.device) == (str(dtype), True, "cpu")
    assert framework is framework_of(torch.nn.Parameter)


def test_torch_packed_pairs_and_parameters() -> None:
    assert read_tensor(torch.zeros(3, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2))[1].dtype_name == "float4_e2m1fn_x2"
    weight = torch.nn.Parameter(torch.zeros(3))
    assert read_tensor(weight)[1].address == weight.data_ptr()


def test_torch_tensors_elsewhere_are_described_without_address() -> None:
    found = read_tensor(torch.zeros(3, device="meta"))[1]
    assert (found.device, found.address) == ("meta", 0)


def test_buffers_and_array_interfaces() -> None:
    octets = bytearray(8)
    found = read_tensor(octets)[1]
    assert (found.dtype_name, found.shape, found.is_writable) == ("uint8", (8,), True)
    assert not read_tensor(b"12345678")[1].is_writable
    floats = array.array("f", [1, 2, 3])
    assert (read_tensor(floats)[1].address, read_tensor(floats)[1].dtype_name) == (floats.buffer_info()[0], "float32")
    grid = memoryview(octets).cast("B").cast("h", (2, 2))
    assert (read_tensor(grid)[1].shape, read_tensor(grid)[1].dtype_name) == ((2, 2), "int16")
    numbers = (ctypes.c_int32 * 5)()
    assert (read_tensor(numbers)[1].address, read_tensor(numbers)[1].shape) == (ctypes.addressof(numbers), (5,))
    with mmap.mmap(-1, 4096) as pages:
        assert read_tensor(pages)[1].shape == (4096,)
    source = np.zeros((3, 4), np.float32)[:, ::2]
    found = read_tensor(Interface(source))[1]
    assert (found.address, found.strides) == (source.ctypes.data, (4, 2))


def test_cuda_array_interface_is_named_as_such() -> None:
    class Device:
        __cuda_array_interface__ = {"shape": (3,), "typestr": "<f4", "data": (0, False), "version": 3}  # noqa: RUF012

    assert read_tensor(Device())[1].device == "cuda:0"


@pytest.mark.parametrize(
    "thing",
    [
        None,
        3,
        2.5,
        "text",
        [1.0, 2.0],
        (1,),
        {},
        object(),
        int,
        np.float32(1),
        ctypes.c_int(3),
        ctypes.c_void_p(8),
        ctypes.pointer(ctypes.c_int(3)),
        np.datetime64("2024"),
    ],
    ids=stable_id,
)
def test_things_that_are_no_tensors(thing: Any) -> None:
    with pytest.raises(NotATensorError):
        read_tensor(thing)


def test_tensors_whose_memory_holds_something_else() -> None:
    with pytest.raises(NotATensorError, match="masked"):
        read_tensor(np.ma.masked_array(np.zeros(3), [True, False, False]))
    with pytest.raises(NotATensorError, match=r"layout torch\.sparse_coo"):
        read_tensor(torch.eye(3).to_sparse())
    with pytest.raises(NotATensorError, match="negated"):
        read_tensor(torch.zeros(3, dtype=torch.complex64).conj().imag)
    emptied = torch.zeros(3)
    emptied.untyped_storage().resize_(0)
    with pytest.raises(NotATensorError, match="without memory"):
        read_tensor(emptied)
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        fake = torch.zeros(3)
    with pytest.raises(NotATensorError, match="a FakeTensor without memory"):
        read_tensor(fake)


def test_the_quick_reading_agrees_with_the_thorough_one() -> None:
    for tensor in (np.zeros((3, 4), np.int16)[:, ::2], torch.zeros(3, 4), bytearray(4), Exporter(np.zeros(3)), np.zeros((0, 3))):
        framework, found = read_tensor(tensor)
        key, address, owner = framework.read(tensor)
        assert address == found.address
        assert found.shape in key
        assert hash(key) == hash(framework.read(tensor)[0])
        assert owner is not None


@pytest.mark.parametrize("change", [lambda t: t.T, lambda t: t[:, ::2], lambda t: t.to(torch.float64), lambda t: t.reshape(4, 3), lambda t: t[None]])
def test_the_quick_key_tells_tensors_apart(change: Callable[[Any], Any]) -> None:
    tensor = torch.zeros(3, 4)
    framework, _ = read_tensor(tensor)
    assert framework.read(tensor)[0] != framework.read(change(tensor))[0]
    fixed = np.zeros(3)
    before = NUMPY.read(fixed)[0]
    fixed.flags.writeable = False
    assert NUMPY.read(fixed)[0] != before


@pytest.mark.parametrize("dtype", SCALAR_DTYPES)
def test_new_tensors(dtype: DType) -> None:
    shape = (3, 4)
    made = NUMPY.allocator(shape, dtype)()
    result = NUMPY.finish(made, shape, dtype, None)
    assert (result.shape, result.dtype) == (shape, dtype.numpy)
    assert made.nbytes == 12 * dtype.storage_bits // 8
    framework = framework_of(torch.Tensor)
    assert framework is not None
    tensor = framework.allocator(shape, dtype)()
    assert tensor.shape == (packed_shape(shape) if dtype.is_packed else shape)
    assert tensor.element_size() == dtype.itemsize
    assert framework.address(tensor) == tensor.data_ptr()


def test_outputs_of_another_library_come_from_its_own_namespace() -> None:
    class Library:
        @staticmethod
        def asarray(values: Any) -> Any:
            return "theirs", values

    class Tensor(Exporter):
        def __array_namespace__(self) -> Any:
            return Library

    source = Tensor(np.zeros(3))
    framework, _ = read_tensor(source)
    made = framework.allocator((3,), as_dtype("bfloat16"))()
    assert framework.finish(made, (3,), as_dtype("bfloat16"), source) == ("theirs", made)
    assert framework.finish(made, (3,), as_dtype("bfloat16"), Exporter(np.zeros(3))) is made


def test_torch_is_never_imported() -> None:
    code = "import sys, numpy; from tilewright.runtime.tensors import read_tensor as r; r(numpy.zeros(3)); r(b'1'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
