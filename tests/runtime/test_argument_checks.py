"""The whole text of every refusal, and that nothing but a refusal comes out whatever is passed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.exporters import Exporter
from tests.runtime.recorded_kernels import F32, I32, kernel_of, pointer, refused, scalar, tensor, two_vectors, zeros
from tilewright import dtypes
from tilewright.errors import Kind, TileError, TileTypeError, TileValueError
from tilewright.ir.expr import var

torch = pytest.importorskip("torch")


def unaligned(count: int, dtype: Any, offset: int) -> Any:
    size = count * np.dtype(dtype).itemsize
    octets = np.zeros(size + 128, np.uint8)
    start = -octets.ctypes.data % 64 + offset
    return octets[start : start + size].view(dtype)


def test_too_few_and_too_many_arguments() -> None:
    kernel = two_vectors()
    assert (
        str(refused(kernel, zeros(4)))
        == """\
error[argument-count]: main takes 2 arguments (X, Y), but 1 was given: Y is missing
  --> kernel.py:3:5
  3 |     Y: float32[n],
    |     ^^^^^^^^^^^^^ Y: float32[n]
  because: arguments are positional, in the order of the parameters
  help: call it as main(X, Y)"""
    )
    assert refused(kernel).diagnostic.message == "main takes 2 arguments (X, Y), but 0 were given: X and Y are missing"
    returning = two_vectors(written=(), outputs=(1,))
    assert (
        str(refused(returning, zeros(4), zeros(4)))
        == """\
error[argument-count]: main takes 1 argument (X), but 2 were given
  --> kernel.py:1:1
  1 | def main(
    | ^^^^^^^^
  because: arguments are positional, in the order of the parameters; Y is returned, not passed
  help: call it as main(X)"""
    )


def test_none_for_a_tensor_that_is_read() -> None:
    assert (
        str(refused(two_vectors(), None, zeros(4)))
        == """\
error[argument-none]: X is None, but main reads it
  --> kernel.py:2:5
  2 |     X: float32[n],
    |     ^^^^^^^^^^^^^ X: float32[n]
  because: None stands only for a tensor that no statement of the kernel touches
  help: pass a value for it: float32[n]"""
    )
    assert refused(two_vectors(), zeros(4), None).diagnostic.message == "Y is None, but main writes it"
    assert refused(kernel_of(scalar(var("n")), unused=("n",)), None).diagnostic.message == "n is None, but main takes a number there"


def test_an_object_that_is_no_tensor() -> None:
    assert (
        str(refused(two_vectors(), [1.0, 2.0], zeros(2)))
        == """\
error[argument-kind]: X is a list, but main takes a tensor there: float32[n]
  --> kernel.py:2:5
  2 |     X: float32[n],
    |     ^^^^^^^^^^^^^ X: float32[n]
  because: a tensor is a numpy array, a torch tensor, or an object with __dlpack__, __array_interface__ or the buffer protocol
  help: convert it with numpy.asarray(X)"""
    )
    assert refused(two_vectors(), 3, zeros(2)).diagnostic.message == "X is 3, but main takes a tensor there: float32[n]"
    assert refused(two_vectors(), np.float32(3), zeros(2)).diagnostic.message == "X is float32 3.0, but main takes a tensor there: float32[n]"
    assert refused(two_vectors(), torch.eye(3).to_sparse(), zeros(2)).diagnostic.message.startswith("X is a tensor of layout torch.sparse_coo")


def test_another_dtype() -> None:
    assert (
        str(refused(two_vectors(), zeros(4, dtype=np.float64), zeros(4)))
        == """\
error[argument-dtype]: X is float64, but main takes float32[n]
  --> kernel.py:2:5
  2 |     X: float32[n],
    |     ^^^^^^^^^^^^^ X: float32[n]
  because: tensors are never converted silently
  help: pass X.astype(numpy.float32)"""
    )
    assert refused(two_vectors(), torch.zeros(4, dtype=torch.bfloat16), zeros(4)).diagnostic.help == "pass X.to(torch.float32)"
    kernel = kernel_of(tensor("X", (4,), dtypes.bfloat16))
    assert refused(kernel, zeros(4)).diagnostic.help == "pass X.astype(ml_dtypes.bfloat16)"
    assert refused(kernel, np.zeros(4, ">f4")).diagnostic.message == "X is float32 in the other byte order, but main takes bfloat16[4]"
    assert refused(kernel, np.zeros(4, object)).diagnostic.message == "X is object, but main takes bfloat16[4]"


def test_another_rank() -> None:
    assert (
        str(refused(two_vectors(), zeros(8, 8), zeros(4)))
        == """\
error[argument-rank]: X has 2 dimensions (8, 8), but main expects 1 dimension: float32[n]
  --> kernel.py:2:5
  2 |     X: float32[n],
    |     ^^^^^^^^^^^^^ X: float32[n]
  because: the rank of a tensor is fixed by its declaration
  help: reshape X, or index the dimension that is too many"""
    )


def test_gaps_between_the_elements() -> None:
    assert (
        str(refused(two_vectors(), zeros(8)[::2], zeros(4)))
        == """\
error[argument-strides]: X is not contiguous: its strides are (2,) elements, but main expects (1,)
  --> kernel.py:2:5
  2 |     X: float32[n],
    |     ^^^^^^^^^^^^^ X: float32[n]
  because: a T.Tensor lies in row-major order without gaps
  help: pass a contiguous copy of X, or declare it as T.StridedTensor"""
    )
    assert refused(two_vectors(), torch.zeros(8)[::2], zeros(4)).diagnostic.kind is Kind.ARGUMENT_STRIDES
    records = np.zeros(4, [("a", np.int32), ("b", np.float64)])
    assert refused(kernel_of(tensor("X", (4,), dtypes.float64)), records["b"]).diagnostic.message == "the strides of X are no whole numbers of elements"


def test_axes_of_one_element_have_no_stride() -> None:
    kernel = kernel_of(tensor("X", (1, 4)))
    kernel(zeros(3, 4)[::3])
    kernel(torch.zeros(4, 1).T)
    kernel_of(tensor("X", (0, 4)))(zeros(0, 8)[:, ::2])


def test_other_strides() -> None:
    kernel = kernel_of(tensor("A", (4, 4), strides=(8, 1)))
    kernel(zeros(4, 8)[:, :4])
    kernel.calls.clear()
    assert (
        str(refused(kernel, zeros(4, 4)))
        == """\
error[argument-strides]: stride 0 of A is 4 elements, but main expects 8
  --> kernel.py:2:5
  2 |     A: float32[4, 4],
    |     ^^^^^^^^^^^^^^^^ A: float32[4, 4] with strides (8, 1)
  because: main was compiled for exactly this stride
  help: pass a tensor with this stride, or declare it with T.dynamic"""
    )
    s = var("s")
    same = kernel_of(tensor("A", (4, 4), strides=(s, 1)), tensor("B", (4, 4), strides=(s, 1)))
    assert refused(same, zeros(4, 8)[:, :4], zeros(4, 4)).diagnostic.message == "s is 8 in stride 0 of A but 4 in stride 0 of B"
    assert refused(same, zeros(4, 4)[::-1], zeros(4, 4)).diagnostic.message == "stride 0 of A is -4 elements"


def test_another_device() -> None:
    assert (
        str(refused(two_vectors(), torch.zeros(4, device="meta"), zeros(4)))
        == """\
error[argument-device]: X is on meta, but main runs on the CPU
  --> kernel.py:2:5
  2 |     X: float32[n],
    |     ^^^^^^^^^^^^^ X: float32[n]
  because: a kernel works on its tensors where they are
  help: pass X.cpu(), or compile the kernel for that device"""
    )


@pytest.mark.usefixtures("stubs")
def test_memory_off_the_elements_size() -> None:
    assert (
        str(refused(two_vectors(), zeros(4), unaligned(4, F32, 1)))
        == """\
error[argument-alignment]: the memory of Y begins 1 byte past a multiple of 4
  --> kernel.py:3:5
  3 |     Y: float32[n],
    |     ^^^^^^^^^^^^^ Y: float32[n]
  because: an element of float32 lies at a multiple of its 4 bytes
  help: pass a copy of Y: new tensors are aligned"""
    )
    two_vectors()(zeros(4), unaligned(4, F32, 4))


@pytest.mark.usefixtures("stubs")
def test_read_only_memory() -> None:
    frozen = zeros(4)
    frozen.flags.writeable = False
    kernel = two_vectors()
    kernel(frozen, zeros(4))
    kernel.calls.clear()
    assert (
        str(refused(kernel, zeros(4), frozen))
        == """\
error[argument-read-only]: Y is read-only, but main writes it
  --> kernel.py:3:5
  3 |     Y: float32[n],
    |     ^^^^^^^^^^^^^ Y: float32[n]
  because: the kernel would change memory that its owner protects
  help: pass a copy of Y"""
    )
    assert refused(kernel, zeros(4), memoryview(bytes(16)).cast("f")).diagnostic.kind is Kind.ARGUMENT_READ_ONLY
    assert refused(kernel, zeros(4), Exporter(frozen)).diagnostic.kind is Kind.ARGUMENT_READ_ONLY


@pytest.mark.usefixtures("stubs")
def test_shared_memory() -> None:
    kernel = two_vectors()
    base = zeros(12)
    assert (
        str(refused(kernel, base[2:6], base[:4]))
        == """\
error[argument-overlap]: Y and X share memory, but main writes Y
  --> kernel.py:3:5
  3 |     Y: float32[n],
    |     ^^^^^^^^^^^^^ Y: float32[n]
  --> kernel.py:2:5
  2 |     X: float32[n],
    |     ^^^^^^^^^^^^^ X: float32[n]
  because: blocks run in any order, so whether a shared element is read before it is written is undefined
  help: pass a copy of X"""
    )
    for x, y in ((base, base), (torch.from_numpy(base), base), (torch.from_numpy(base)[3:], torch.from_numpy(base)[:9])):
        assert refused(kernel, x, y).diagnostic.kind is Kind.ARGUMENT_OVERLAP
    kernel(base[:6], base[6:])
    kernel(torch.from_numpy(base)[6:], torch.from_numpy(base)[:6])
    kernel(base[3:3], base[:0])
    two_vectors(written=())(base, base)
    two_vectors(unused=("X",))(base, base)


def test_strided_tensors_between_each_other() -> None:
    s = var("s")
    kernel = kernel_of(tensor("A", (4, 3), strides=(s, 1)), tensor("B", (4, 3), strides=(s, 1)), written=("B",))
    base = zeros(4, 6)
    kernel(base[:, :3], base[:, 3:])
    kernel(torch.from_numpy(base)[:, 3:], torch.from_numpy(base)[:, :3])
    kernel.calls.clear()
    assert refused(kernel, base[:, :3], base[:, 2:5]).diagnostic.kind is Kind.ARGUMENT_OVERLAP


def test_a_written_tensor_that_overlaps_itself() -> None:
    s = var("s")
    wide = np.broadcast_to(zeros(3), (4, 3))
    kernel_of(tensor("A", (4, 3), strides=(s, 1)))(wide)
    error = refused(kernel_of(tensor("A", (4, 3), strides=(s, 1)), written=("A",)), torch.zeros(3).expand(4, 3))
    assert error.diagnostic.message == "elements of A share memory, as a stride is 0, but main writes A"


def test_a_dimension_conflict() -> None:
    assert refused(two_vectors(), zeros(48), zeros(64)).diagnostic.message == "n is 48 in X but 64 in Y"
    assert refused(two_vectors(), torch.zeros(48), zeros(64)).diagnostic.message == "n is 48 in X but 64 in Y"


# -- anything may be passed


class Hostile:
    """Fails in every way that it can be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class HostileMeta(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(name)


class HostileType(metaclass=HostileMeta):
    pass


class LyingTensor:
    shape = property(lambda self: 1 / 0)
    __array_interface__ = {"shape": "three", "typestr": 5}  # noqa: RUF012


class Describes:
    def describe(self) -> str:
        raise RuntimeError


class HostileInt(int):
    def __int__(self) -> int:
        raise RuntimeError

    def __index__(self) -> int:
        raise RuntimeError


class HostileFloat(float):
    def __float__(self) -> float:
        raise RuntimeError


class StrangeTensor(torch.Tensor):  # type: ignore[misc, name-defined]
    @property
    def shape(self) -> Any:
        raise RuntimeError


garbage = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.binary(max_size=9),
    st.lists(st.integers(), max_size=3),
    st.tuples(st.integers()),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.sampled_from([HostileType, LyingTensor, Describes, lambda: HostileInt(3), lambda: HostileFloat(0.5), object]).map(lambda make: make()),
    st.sampled_from([int, len, ..., NotImplemented, Decimal("NaN")]),
    st.builds(np.zeros, st.lists(st.integers(0, 4), max_size=3), st.sampled_from(["f4", "f8", "i4", "O", "U3", "V5", "M8[s]", ">i4", "c8"])),
    st.builds(lambda shape: torch.zeros(shape).T if len(shape) == 2 else torch.zeros(shape), st.lists(st.integers(0, 4), max_size=3)),
    st.builds(lambda: torch.zeros(4).as_subclass(StrangeTensor)),
    st.builds(lambda: Exporter(object())),
    st.builds(lambda: np.ma.masked_array(zeros(4))),
    st.builds(lambda: torch.eye(2).to_sparse()),
    st.builds(lambda: memoryview(b"abcd")),
    st.builds(lambda: np.float32(1)),
)


@given(st.lists(garbage, max_size=5))
@settings(max_examples=150, deadline=None)
def test_only_tile_errors_come_out(given_arguments: list[Any]) -> None:
    n = var("n")
    parameters = tensor("X", (n,)), tensor("Y", (n, 2), dtypes.int32), scalar(var("a")), scalar(var("b", dtypes.float32)), pointer("p")
    kernel = kernel_of(*parameters, written=("Y",), unused=("X",))
    filled = [*given_arguments, *[zeros(4), zeros(4, 2, dtype=I32), 1, 2.0, 4096][len(given_arguments) :]]
    for attempt in (given_arguments, filled):
        try:
            kernel(*attempt)
        except TileError as error:
            assert error.code.startswith("argument-") or error.code == "unbound-symbol"
            assert str(error)


HOSTILE = [Hostile, HostileType, LyingTensor, lambda: HostileInt(3), lambda: HostileFloat(0.5), lambda: torch.zeros(4).as_subclass(StrangeTensor)]


@pytest.mark.parametrize("make", HOSTILE)
def test_hostile_objects_one_by_one(make: Callable[[], Any]) -> None:
    thing = make()
    refused(kernel_of(tensor("X", (4,))), thing)
    for kernel in (kernel_of(scalar(var("a"))), kernel_of(scalar(var("a", dtypes.float32))), kernel_of(pointer("p"))):
        try:
            kernel(thing)
        except TileError as error:
            assert error.code in ("argument-kind", "argument-scalar")


def test_classes_of_errors() -> None:
    assert isinstance(refused(two_vectors(), zeros(4)), TileTypeError)
    assert isinstance(refused(two_vectors(), zeros(8)[::2], zeros(4)), TileValueError)
