"""Tensors whose elements lie in memory otherwise than the kernel counts them: accepted dtypes, packed elements, vector elements."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from tests.runtime.recorded_kernels import F32, RecordedKernel, kernel_of, memory, program, refused, tensor
from tilewright import dtypes
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind
from tilewright.ir.expr import var

torch = pytest.importorskip("torch")


ACCEPTED = [
    ("bool", "int8"),
    ("bool", "uint8"),
    ("bool", "bool"),
    ("tfloat32", "float32"),
    ("float8_e4m3", "float8_e4m3fn"),
    ("float8_e4m3", "float8_e4m3"),
    ("handle", "int64"),
    ("handle", "uint64"),
]


@pytest.mark.parametrize(("declared", "given"), ACCEPTED)
def test_accepted_dtypes(declared: str, given: str) -> None:
    kernel = kernel_of(tensor("X", (4,), as_dtype(declared)), written=("X",))
    array = np.zeros(4, as_dtype(given).numpy)
    kernel(array)
    assert kernel.words[0] == array.ctypes.data
    if hasattr(torch, given):
        same = torch.zeros(4, dtype=getattr(torch, given))
        kernel(same)
        assert kernel.words[0] == same.data_ptr()


@pytest.mark.parametrize("declared", ["int8", "uint8", "float8_e5m2", "float8_e4m3fn", "bfloat16", "int4", "float32"])
def test_refused_dtypes(declared: str) -> None:
    refusals = 0
    for name in ("bool", "int8", "uint8", "float16", "bfloat16", "float8_e4m3", "float8_e5m2", "int32", "float32", "uint4"):
        is_same = name == declared or (declared == "int4" and name in ("int8", "uint8"))
        if not is_same:
            error = refused(kernel_of(tensor("X", (4,), as_dtype(declared))), np.zeros(4, as_dtype(name).numpy))
            assert error.diagnostic.kind is Kind.ARGUMENT_DTYPE
            refusals += 1
    assert refusals >= 7


@pytest.mark.parametrize("dtype", ["int4", "uint4", "float4_e2m1fn"])
def test_packed_tensors_count_logical_elements(dtype: str) -> None:
    m, n = var("m"), var("n")
    kernel = kernel_of(tensor("X", (m, n), as_dtype(dtype)), written=("X",))
    for octets in (np.zeros((3, 4), np.int8), torch.zeros(3, 4, dtype=torch.uint8)):
        kernel(octets)
        assert kernel.words[1:3] == [3, 8]
    if dtype == "float4_e2m1fn":
        kernel(torch.zeros(3, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2))
        assert kernel.words[1:3] == [3, 8]


def test_packed_tensors_of_odd_size() -> None:
    kernel = kernel_of(tensor("X", (1, 5), dtypes.int4))
    kernel(np.zeros((1, 3), np.uint8))
    kernel.calls.clear()
    assert refused(kernel, np.zeros((1, 4), np.uint8)).diagnostic.kind is Kind.ARGUMENT_SHAPE
    assert refused(kernel_of(tensor("X", (2, 5), dtypes.int4)), np.zeros((2, 3), np.uint8)).diagnostic.kind is Kind.ARGUMENT_SHAPE
    strided = kernel_of(tensor("X", (2, 6), dtypes.int4, strides=(var("s"), 1)))
    assert refused(strided, np.zeros((2, 6), np.uint8)[:, ::2]).diagnostic.kind is Kind.ARGUMENT_STRIDES


@pytest.mark.parametrize("dtype", ["int4", "uint4", "float4_e2m1fn"])
@pytest.mark.parametrize("size", [1, 6, 7])
def test_unpacked_elements_are_packed_for_the_call_and_written_back(dtype: str, size: int) -> None:
    numpy = as_dtype(dtype).numpy
    n = var("n")

    def body(words: list[int]) -> int:
        source, target = (memory(w, (size + 1) // 2, np.uint8) for w in words[:2])
        target[...] = source
        source[...] = 0  # X is not declared as written: the caller's array stays
        return 0

    kernel = RecordedKernel(program(tensor("X", (n,), as_dtype(dtype)), tensor("Y", (n,), as_dtype(dtype))), body, written=("Y",))
    codes = np.arange(1, size + 1, dtype=np.uint8)
    x, y = codes.view(numpy), np.zeros(2 * size, numpy)[::2]
    kernel(x, y)
    assert kernel.words[2] == size
    assert (codes == np.arange(1, size + 1)).all()
    assert y.astype(F32).tolist() == x.astype(F32).tolist()


@pytest.mark.parametrize("shape", [(6,), (3, 5)])
def test_packed_outputs(shape: tuple[int, ...]) -> None:
    size = math.prod(shape)

    def body(words: list[int]) -> int:
        memory(words[0], (size + 1) // 2, np.uint8)[...] = 0x21
        return 0

    result = RecordedKernel(program(tensor("Y", shape, dtypes.uint4)), body, outputs=(0,))()
    assert (result.dtype, result.shape) == (ml_dtypes.uint4, shape)
    assert result.reshape(-1).astype(int).tolist() == ([1, 2] * size)[:size]


def test_vector_elements_have_their_lanes_last() -> None:
    n = var("n")
    x2 = as_dtype("float16x2")
    kernel = kernel_of(tensor("X", (n, 3), x2), tensor("Y", (n,), x2), outputs=(1,))
    assert kernel(np.zeros((4, 3, 2), np.float16)).shape == (4, 2)
    assert kernel.words[2] == 4
    kernel.calls.clear()
    assert refused(kernel, np.zeros((4, 3), np.float16)).diagnostic.kind is Kind.ARGUMENT_RANK
    assert refused(kernel, np.zeros((4, 3, 4), np.float16)).diagnostic.kind is Kind.ARGUMENT_SHAPE
    assert refused(kernel, np.zeros((4, 3, 4), np.float16)[..., ::2]).diagnostic.kind is Kind.ARGUMENT_STRIDES
    assert refused(kernel, np.zeros((4, 3, 2), np.float32)).diagnostic.kind is Kind.ARGUMENT_DTYPE
