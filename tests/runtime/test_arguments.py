"""Calls of kernels: what reaches the native slots, what comes back, failing asserts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest

from tests.runtime.exporters import Exporter
from tests.runtime.recorded_kernels import F32, FILE, RecordedKernel, kernel_of, memory, program, refused, scalar, tensor, two_vectors, zeros
from tilewright import dtypes
from tilewright.errors import CompilerBug, Kind, Span, TileRuntimeError
from tilewright.ir.expr import as_expr, const, var
from tilewright.ir.program import HostCheck
from tilewright.ir.stmt import Assert, Store

torch = pytest.importorskip("torch")


def add_one(count: int) -> Callable[[list[int]], int]:
    """A body: the first tensor plus one, into the second."""

    def body(words: list[int]) -> int:
        memory(words[1], count)[...] = memory(words[0], count) + 1
        return 0

    return body


@pytest.mark.usefixtures("stubs")
def test_addresses_and_symbols() -> None:
    kernel = two_vectors()
    for x, y in ((zeros(48), zeros(48)), (zeros(5), zeros(5)), (zeros(0), zeros(0))):
        assert kernel(x, y) is None
        assert kernel.words[:3] == [x.ctypes.data, y.ctypes.data, x.size]
        tensors = torch.from_numpy(x), torch.from_numpy(y)
        assert kernel(*tensors) is None
        assert kernel.words[:3] == [tensors[0].data_ptr(), tensors[1].data_ptr(), x.size]


@pytest.mark.usefixtures("stubs")
def test_one_output_is_a_tensor_of_the_callers_framework() -> None:
    n = var("n")
    kernel = RecordedKernel(program(tensor("X", (n,)), tensor("Y", (n,))), add_one(5), outputs=(1,))
    result = kernel(np.arange(5, dtype=F32))
    assert type(result) is np.ndarray
    assert result.tolist() == [1, 2, 3, 4, 5]
    other = kernel(torch.arange(5, dtype=torch.float32))
    assert (type(other), other.tolist()) == (torch.Tensor, [1, 2, 3, 4, 5])
    third = kernel(np.arange(5, dtype=F32).data)
    assert (type(third), third.tolist()) == (np.ndarray, [1, 2, 3, 4, 5])
    assert kernel(Exporter(np.arange(5, dtype=F32))).tolist() == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("stubs")
def test_several_outputs_come_as_a_list_in_the_order_asked_for() -> None:
    n = var("n")
    source = program(tensor("A", (n * 2 + 1,), dtypes.float16), tensor("X", (n,)), tensor("B", (3, n), dtypes.int32))
    for outputs, shapes in (((2, 0), [(3, 4), (9,)]), ((0, 2), [(9,), (3, 4)])):
        kernel = RecordedKernel(source, outputs=outputs)
        for x in (zeros(4), torch.zeros(4), zeros(4)):
            result = kernel(x)
            assert isinstance(result, list)
            assert [tuple(r.shape) for r in result] == shapes
            given = [r.data_ptr() if hasattr(r, "data_ptr") else r.ctypes.data for r in result]
            # Slots: A, X, B, n, status.
            assert [kernel.words[source.parameters.index(source.parameters[k])] for k in outputs] == given
            assert kernel.words[3] == 4


@pytest.mark.usefixtures("stubs")
def test_no_tensor_argument_means_numpy_outputs() -> None:
    source = program(tensor("Y", (2, 3), dtypes.int32), scalar(var("a")))
    result = RecordedKernel(source, outputs=(0,))(7)
    assert (type(result), result.shape, result.dtype) == (np.ndarray, (2, 3), np.int32)


def test_the_first_tensor_that_is_given_decides_the_framework() -> None:
    n = var("n")
    kernel = kernel_of(tensor("U", (n,)), tensor("X", (n,)), tensor("Y", (n,)), unused=("U",), outputs=(2,))
    assert type(kernel(None, torch.zeros(3))) is torch.Tensor
    assert type(kernel(zeros(3), torch.zeros(3))) is np.ndarray


def test_an_output_of_negative_size() -> None:
    n = var("n")
    kernel = kernel_of(tensor("X", (n,)), tensor("Y", (n - 1,)), outputs=(1,))
    assert kernel(zeros(1)).shape == (0,)
    kernel.calls.clear()
    assert (
        str(refused(kernel, zeros(0)))
        == """\
error[argument-shape]: Y, which main returns, would have the shape (-1,)
  --> kernel.py:3:5
  3 |     Y: float32[n - 1],
    |     ^^^^^^^^^^^^^^^^^ Y: float32[n - 1]
  because: n is 0
  help: pass larger tensors"""
    )


@pytest.mark.usefixtures("stubs")
def test_strided_tensors() -> None:
    m, n, s = var("m"), var("n"), var("s")
    kernel = kernel_of(tensor("A", (m, n), strides=(s, 1)), written=("A",))
    base = zeros(6, 10)
    for view in (base[:, :4], base[::2, 1:8], base, base[:1, :4], base[:, :0]):
        kernel(view)
        assert kernel.words[:3] == [view.ctypes.data, *view.shape]
        if view.size and len(view) > 1:
            assert kernel.words[3] == view.strides[0] // 4
        kernel(torch.from_numpy(base)[: len(view), : view.shape[1]])
        assert kernel.words[1:4] == [*view.shape, 10]


def test_derived_dimensions_of_inputs() -> None:
    n = var("n")
    kernel = kernel_of(tensor("C", (n * 2 + 1,)), tensor("A", (n,)))
    kernel(zeros(9), zeros(4))
    assert kernel.words[2] == 4


def test_a_scalar_that_is_a_dimension() -> None:
    n = var("n")
    kernel = kernel_of(scalar(n), tensor("X", (n,)), tensor("Y", (n + 1,)), outputs=(2,))
    for size in (3, 5, 3):
        assert kernel(size, zeros(size)).shape == (size + 1,)
    kernel.calls.clear()
    assert refused(kernel, 4, zeros(5)).diagnostic.message == "n is 4 as an argument but 5 in X"


@pytest.mark.usefixtures("stubs")
def test_none_for_tensors_that_are_never_touched() -> None:
    n, m = var("n"), var("m")
    kernel = kernel_of(tensor("U", (n, m)), tensor("X", (n,)), unused=("U",))
    kernel(None, zeros(3))
    assert kernel.words[:4:3] == [0, 0]
    assert kernel.words[2] == 3
    kernel(zeros(3, 2), zeros(3))
    assert kernel.words[2:4] == [3, 2]


def test_a_symbol_that_only_missing_tensors_carry() -> None:
    n = var("n")
    source = program(tensor("U", (n,)), tensor("V", (n,)), grid=(n,))
    kernel = RecordedKernel(source, unused=("U", "V"))
    kernel(None, zeros(3))
    kernel.calls.clear()
    assert (
        str(refused(kernel, None, None))
        == """\
error[unbound-symbol]: no argument of this call says what n is, which appears in U and V
  --> kernel.py:2:5
  2 |     U: float32[n],
    |     ^^^^^^^^^^^^^ U: float32[n]
  --> kernel.py:3:5
  3 |     V: float32[n],
    |     ^^^^^^^^^^^^^ V: float32[n]
  because: main computes with n, and a symbol gets its value from a dimension or stride of an argument
  help: pass a tensor that has the dimension n, or make it a scalar parameter"""
    )


def test_a_symbol_that_the_body_computes_with_is_needed() -> None:
    n = var("n")
    used, untouched = tensor("Y", (4,)), tensor("U", (n,))
    assert used.buffer is not None
    store = Store(Span(FILE, 1), used.buffer, (n,), const(0.0))
    kernel = RecordedKernel(program(untouched, used, body=(store,)), unused=("U",))
    assert refused(kernel, None, zeros(4)).diagnostic.kind is Kind.UNBOUND_SYMBOL


def test_an_argument_may_be_a_numpy_subclass() -> None:
    class Named(np.ndarray):
        pass

    kernel = two_vectors()
    x = zeros(4).view(Named)
    kernel(x, zeros(4))
    assert kernel.words[0] == x.ctypes.data


# -- asserts


def test_an_assert_outside_the_launches() -> None:
    n, a = var("n"), var("a")
    check = HostCheck((n > 0) & (a < 4), "needs elements", Span(FILE, 5, 4, 5, 16))
    kernel = RecordedKernel(program(tensor("X", (n,)), scalar(a), checks=(check,)))
    kernel(zeros(1), 3)
    kernel.calls.clear()
    assert (
        str(refused(kernel, zeros(0), 3))
        == """\
error[host-assert]: an assert of main does not hold: needs elements
  --> kernel.py:5:5
  5 |     assert n > 0
    |     ^^^^^^^^^^^^
  because: `n > 0 and a < 4` is false: n is 0, a is 3
  help: pass arguments that satisfy it"""
    )
    assert refused(kernel, zeros(1), 4).diagnostic.kind is Kind.HOST_ASSERT


@pytest.mark.usefixtures("stubs")
def test_a_failed_assert_of_the_kernel() -> None:
    i = var("i")
    status = [2]
    asserts = (Assert(Span(FILE, 2), i < 3, ""), Assert(Span(FILE, 5, 4, 5, 16), i < 8, "index in range"))
    n = var("n")
    kernel = RecordedKernel(program(tensor("X", (n,)), tensor("Y", (n,))), lambda words: status[0], written=("Y",), asserts=asserts)
    for x, y in ((zeros(3), zeros(3)), (torch.zeros(3), torch.zeros(3))):
        with pytest.raises(TileRuntimeError) as caught:
            kernel(x, y)
        assert (
            str(caught.value)
            == """\
error[device-assert]: an assert in main failed: index in range
  --> kernel.py:5:5
  5 |     assert n > 0
    |     ^^^^^^^^^^^^
  because: `i < 8` did not hold for some block
  help: the tensors that the kernel writes hold partial results now"""
        )
    status[0] = 1
    with pytest.raises(TileRuntimeError, match="an assert in main failed: i < 3"):
        kernel(zeros(3), zeros(3))
    status[0] = 0
    assert kernel(zeros(3), zeros(3)) is None


@pytest.mark.usefixtures("stubs")
def test_the_status_word_is_0_again_after_a_failure() -> None:
    found: list[int] = []

    def body(words: list[int]) -> int:
        word = ctypes.c_int32.from_address(words[-1])
        found.append(word.value)
        word.value = 1
        return 1

    n = var("n")
    kernel = RecordedKernel(program(tensor("X", (n,))), body, asserts=(Assert(Span(FILE, 2), n > 0, "m"),))
    for _ in range(3):
        with pytest.raises(TileRuntimeError):
            kernel(zeros(3))
        with pytest.raises(TileRuntimeError):
            kernel(torch.zeros(3))
    assert found == [0] * 6


@pytest.mark.parametrize("status", [7, -1])
@pytest.mark.parametrize("asserts", [(), (Assert(Span(FILE, 2), as_expr(True), "m"),)])
def test_a_status_that_no_assert_has(status: int, asserts: tuple[Assert, ...]) -> None:
    kernel = RecordedKernel(program(tensor("X", (4,))), lambda words: status, asserts=asserts)
    for x in (zeros(4), torch.zeros(4)):
        with pytest.raises(CompilerBug, match=f"unknown status {status}"):
            kernel(x)
    assert len(kernel.calls) == 2


def test_many_different_shapes() -> None:
    kernel = two_vectors()
    for size in range(600):
        kernel(torch.zeros(size), torch.zeros(size))
        assert kernel.words[2] == size
