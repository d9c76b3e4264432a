"""Python numbers and pointers as 64-bit words, and what is no number."""

from __future__ import annotations

import ctypes
import math
import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.runtime.identifiers import stable_id
from tests.runtime.recorded_kernels import F32, kernel_of, pointer, refused, scalar, tensor, zeros
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind, TileTypeError
from tilewright.ir.expr import var

torch = pytest.importorskip("torch")


def slot_of(dtype: str, value: Any) -> int:
    kernel = kernel_of(scalar(var("a", as_dtype(dtype))))
    kernel(value)
    return kernel.words[0]


INTEGERS = [0, 1, -1, 127, -128, True, np.int8(-3), np.uint64(5), np.bool_(True), np.array(7), torch.tensor(-4), np.array(3, np.uint16)]
FLOATS = [
    0,
    1,
    -2.5,
    True,
    1 << 60,
    math.inf,
    -math.inf,
    1e300,
    np.float16(0.1),
    np.float64(0.1),
    ml_dtypes.bfloat16(1.5),
    np.int8(-3),
    np.array(0.25),
    torch.tensor(0.1),
]
NO_INTEGERS = [2.5, 2.0, np.float32(2), "7", 1j, torch.tensor(2.5), b"1", [3], object()]
NO_FLOATS = ["1.5", 1j, np.complex64(1), Decimal(1), 10**400, Fraction(1, 2), np.datetime64("2024"), object()]
NO_NUMBERS = [*(("int32", value) for value in NO_INTEGERS), ("bool", 0.0), *(("float32", value) for value in NO_FLOATS)]


@pytest.mark.parametrize("value", INTEGERS, ids=stable_id)
def test_integers_are_extended_to_64_bits(value: Any) -> None:
    for bits in (8, 16, 32, 64):
        assert slot_of(f"int{bits}", value) == int(value) % (1 << 64)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint32", "uint64"])
def test_the_ends_of_integer_ranges(dtype: str) -> None:
    low, high = int(as_dtype(dtype).minimum), int(as_dtype(dtype).maximum)
    assert slot_of(dtype, low) == low % (1 << 64)
    assert slot_of(dtype, high) == high
    for value in (low - 1, high + 1, 10**30):
        error = refused(kernel_of(scalar(var("a", as_dtype(dtype)))), value)
        assert error.diagnostic.kind is Kind.ARGUMENT_SCALAR
        assert error.diagnostic.because == f"{dtype} holds {low} to {high}"


@pytest.mark.parametrize("value", [0, 1, True, False, 3, np.bool_(False), np.int32(1), torch.tensor(True)], ids=stable_id)
def test_bools(value: Any) -> None:
    assert slot_of("bool", value) == int(bool(value))


@pytest.mark.parametrize("value", FLOATS, ids=stable_id)
def test_floats_round_to_their_dtype(value: Any) -> None:
    number = float(value)
    with np.errstate(over="ignore"):
        single = np.float64(number).astype(F32)
        assert slot_of("float32", value) == int.from_bytes(single.tobytes(), "little")
        assert slot_of("float64", value) == int.from_bytes(struct.pack("<d", number), "little")
        for narrow in (np.float16, ml_dtypes.bfloat16):
            assert slot_of(np.dtype(narrow).name, value) == int.from_bytes(single.astype(narrow).astype(F32).tobytes(), "little")
    assert math.isnan(struct.unpack("<f", slot_of("float32", math.nan).to_bytes(8, "little")[:4])[0])


@pytest.mark.parametrize(("dtype", "value"), NO_NUMBERS, ids=stable_id)
def test_objects_that_are_no_number_of_the_dtype(dtype: str, value: Any) -> None:
    error = refused(kernel_of(scalar(var("a", as_dtype(dtype)))), value)
    assert error.diagnostic.kind is Kind.ARGUMENT_SCALAR
    assert isinstance(error, TileTypeError)


def test_the_text_about_a_fraction() -> None:
    assert (
        str(refused(kernel_of(tensor("X", (4,)), scalar(var("n"))), zeros(4), 2.5))
        == """\
error[argument-scalar]: n is 2.5, but main takes an int32 there
  --> kernel.py:3:5
  3 |     n: int32,
    |     ^^^^^^^^ n: int32
  because: a fraction is not cut off silently
  help: convert it with int(...), or declare the parameter as T.float32"""
    )


def test_a_tensor_for_a_scalar() -> None:
    assert (
        str(refused(kernel_of(scalar(var("n"))), zeros(3)))
        == """\
error[argument-kind]: n is a numpy array of 1 dimension (3,), but main takes an int32 there
  --> kernel.py:2:5
  2 |     n: int32,
    |     ^^^^^^^^ n: int32
  because: a scalar parameter takes one number
  help: pass a Python number, or index the tensor"""
    )


@pytest.mark.usefixtures("stubs")
def test_pointers() -> None:
    kernel = kernel_of(pointer("p"), unused=("p",))
    x, t = zeros(4, 4), torch.zeros(3)
    numbers = [4096, np.uint64(4096), ctypes.c_void_p(4096), ctypes.cast(4096, ctypes.POINTER(ctypes.c_float))]
    tensors = [(x, x.ctypes.data), (x[1:, ::2], x.ctypes.data + 16), (t, t.data_ptr())]
    for value, address in (*tensors, *((n, 4096) for n in numbers), ((1 << 64) - 8, (1 << 64) - 8), (None, 0)):
        kernel(value)
        assert kernel.words[0] == address


@pytest.mark.parametrize("value", [-1, 1 << 64, 2.5, "text", [1], True, object()], ids=stable_id)
def test_objects_that_are_no_pointer(value: Any) -> None:
    assert refused(kernel_of(pointer("p")), value).diagnostic.kind is Kind.ARGUMENT_KIND


def test_pointers_to_memory_that_cannot_be_used() -> None:
    kernel = kernel_of(pointer("p"), written=("p",))
    assert refused(kernel, torch.zeros(3, device="meta")).diagnostic.because == "its memory is on meta"
    assert refused(kernel, b"12345678").diagnostic.kind is Kind.ARGUMENT_READ_ONLY
    assert refused(kernel, None).diagnostic.message == "p is None, but main writes it"
    kernel(zeros(3))
    kernel.calls.clear()
    assert refused(kernel, b"12345678").diagnostic.kind is Kind.ARGUMENT_READ_ONLY
