"""Names in kernels: what a branch or a loop may do to them without changing what the program means."""

from __future__ import annotations

import linecache

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright.errors import Kind, TileError


def run(kernel, n: int = 1) -> list[float]:
    Y = np.zeros(8, np.float32)
    tilewright.compile(kernel)(Y, n)
    return Y.tolist()


def test_a_name_that_both_paths_leave_alone_keeps_its_value() -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            x = 2.0
            if n > 3:
                Y[1] = x
            else:
                Y[2] = x
            Y[0] = x

    assert run(kernel)[:3] == [2, 0, 2]


def test_a_name_that_both_paths_bind_alike_has_that_value() -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            if n > 3:
                x = n + 1
            else:
                x = n + 1
            Y[0] = x

    assert run(kernel)[0] == 2


@pytest.mark.parametrize("is_scaled", [False, True])
def test_a_condition_on_python_values_binds_as_python_does(is_scaled: bool) -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            scale = 1.0
            for i in range(4):
                if is_scaled:
                    scale = 3.0
                Y[i] = n * scale

    assert run(kernel)[:4] == [3 if is_scaled else 1] * 4


def test_a_name_bound_and_read_within_one_turn() -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            x = n * 100
            for i in range(4):
                x = n + i
                Y[i] = x

    assert run(kernel)[:4] == [1, 2, 3, 4]


def test_a_loop_that_reads_a_name_and_leaves_it_alone() -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            x = n + 4
            for i in range(2):
                for j in range(2):
                    if n > j:
                        Y[i * 2 + j] = x
            Y[7] = x

    assert run(kernel) == [5, 0, 5, 0, 0, 0, 0, 5]


def test_variables_in_a_list_are_stored_to() -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            counts = [T.alloc_var("int32", init=0), T.alloc_var("int32", init=10)]
            for i in range(5):
                counts[0] += 1
                counts[1] += i
            Y[0] = counts[0]
            Y[1] = counts[1]

    assert run(kernel)[:2] == [5, 20]


def test_variables_are_compared_by_value_and_tiles_by_identity_with_is() -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            a = T.alloc_var("int32", init=n)
            b = T.alloc_var("int32", init=1)
            s = T.alloc_shared((8,), "float32")
            if a == b:
                Y[0] = 1
            if a != b:
                Y[1] = 1
            if s is not Y:
                Y[2] = 1
            if s in (s, Y):
                Y[3] = 1

    assert run(kernel)[:4] == [1, 0, 1, 1]
    assert run(kernel, 2)[:4] == [0, 1, 1, 1]


def test_a_container_may_be_read_anywhere_and_changed_outside_and_inside_if_it_is_new() -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            values = [1, 2]
            values.append(3)
            for i in range(2):
                fresh = []
                fresh.append(values[2] + i)
                Y[i] = fresh[0]
            if n is not None:
                values[0] = 7
            Y[2] = values[0]

    assert run(kernel)[:3] == [3, 4, 7]


@pytest.mark.parametrize(("value", "expected"), [(np.float32(2), 3.0), (np.int64(2), 3.0), (2, 3.0)])
def test_numbers_of_numpy_on_either_side(value, expected: float) -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            Y[0] = value + n
            Y[1] = n + value
            if value > n:
                Y[2] = value * n

    assert run(kernel)[:3] == [expected, expected, 2.0]


def test_kernels_of_two_files_with_one_text_keep_their_places() -> None:
    spans = []
    for name in ("first.py", "second.py"):
        text = "@T.prim_func\ndef kernel(X: T.Tensor((8,), 'float32')):\n    X.shpe\n"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        with pytest.raises(TileError) as caught:
            exec(compile(text, name, "exec"), {"T": T})
        spans.append(caught.value.diagnostic.labels[0].span.file)
    assert spans == ["first.py", "second.py"]


def test_a_macro_may_call_another_one_of_its_own_name() -> None:
    @T.macro
    def twice(x):
        return x * 2

    inner = twice

    @T.macro
    def twice(x):
        return inner(x) + 1

    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            Y[0] = twice(n)

    assert run(kernel)[0] == 3


def test_a_symbolic_view_is_checked_when_the_kernel_is_called() -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            square = T.view(Y, (n, 2))
            square[n - 1, 1] = 5

    assert run(kernel, 4)[7] == 5
    with pytest.raises(TileError) as caught:
        run(kernel, 5)
    assert caught.value.diagnostic.kind is Kind.HOST_ASSERT
