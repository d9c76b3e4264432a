"""tilewright.compile and @tilewright.jit: the lazy and the eager style, keys of kernels, options, mistakes of the caller."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused
from tilewright.errors import Kind
from tilewright.jit import EagerFunction, LazyFactory, output_positions


@T.prim_func
def add_one(A: T.Tensor((8,), "float32"), n: T.int32, B: T.Tensor((8,), "float32")):
    with T.Kernel(1):
        for i in T.Parallel(8):
            B[i] = A[i] + n


@tilewright.jit(out_idx=-1)
def scaled(size: int, factor: float = 2.0, dtype: str = "float32"):
    @T.prim_func
    def main(A: T.Tensor((size,), dtype), B: T.Tensor((size,), dtype)):
        with T.Kernel(1):
            for i in T.Parallel(size):
                B[i] = A[i] * factor

    return main


@tilewright.jit
def matrix_sum(A, B, block: int = 4, flag=False):
    M, N = T.const("M, N")
    A: T.Tensor((M, N), T.float32)
    B: T.Tensor((M, N), T.float32)
    C = T.empty((M, N), T.float32)
    with T.Kernel(T.ceildiv(M, block)) as bx:
        for i, j in T.Parallel(block, N):
            C[bx * block + i, j] = A[bx * block + i, j] + B[bx * block + i, j] * (2 if flag else 1)
    return C


# -- compile


def test_positions_of_outputs() -> None:
    program = add_one.program
    assert output_positions(program, None) == () and output_positions(program, -1) == (2,) and output_positions(program, [2, 0]) == (2, 0)
    assert output_positions(program, (0,)) == (0,)


@pytest.mark.parametrize("out_idx", [3, -4, 1, [0, 0], [2, -1], "2", 1.0, True])
def test_positions_that_are_none(out_idx: Any) -> None:
    with refused(Kind.OUT_IDX_RANGE):
        tilewright.compile(add_one, out_idx=out_idx)


def test_outputs_are_named_once() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((8,), "float32")):
        B = T.empty((8,), "float32")
        with T.Kernel(1):
            T.copy(A, B)
        return B

    with refused(Kind.OUT_IDX_EAGER):
        tilewright.compile(kernel, out_idx=0)
    np.testing.assert_array_equal(tilewright.compile(kernel)(np.ones(8, np.float32)), np.ones(8))


@pytest.mark.parametrize("thing", [None, 3, lambda: 0, "add_one", scaled, matrix_sum])
def test_what_cannot_be_compiled(thing: Any) -> None:
    with refused(Kind.NOT_A_PRIM_FUNC):
        tilewright.compile(thing)


def test_options_of_other_back_ends_are_accepted() -> None:
    configs = {tilewright.PassConfigKey.TL_ENABLE_FAST_MATH: True, "tl.disable_tma_lower": True}
    kernel = tilewright.compile(add_one, execution_backend="cython", target="c", pass_configs=configs, verbose=True, compile_flags=["-O3"])
    b = np.zeros(8, np.float32)
    kernel(np.zeros(8, np.float32), 3, b)
    assert (b == 3).all()
    for options in ({"pass_configs": [1]}, {"pass_configs": {3: 4}}, {"execution_backend": "fast"}, {"execution_backend": 3}):
        with refused(Kind.OPTION_VALUE):
            tilewright.compile(add_one, **options)


def test_compiling_in_threads() -> None:
    kernels = tilewright.par_compile([add_one] * 3, num_workers=2, out_idx=-1)
    for kernel in kernels:
        assert kernel is not None and (kernel(np.zeros(8, np.float32), 3) == 3).all()
    for arguments in ((3,), ([add_one, None],)):
        with refused(Kind.NOT_A_PRIM_FUNC):
            tilewright.par_compile(*arguments)
    with refused(Kind.OPTION_VALUE):
        tilewright.par_compile([add_one], num_workers=0)


def test_failures_in_threads() -> None:
    @T.prim_func
    def racing(A: T.Tensor((8,), "float32")):
        with T.Kernel(1, threads=8):
            A[0] = T.get_thread_binding()

    kernels = tilewright.par_compile([add_one, racing], ignore_error=True)
    assert kernels[0] is not None and kernels[1] is None
    with refused(Kind.THREAD_RACE):
        tilewright.par_compile([add_one, racing])


# -- the lazy style


def test_one_kernel_per_set_of_arguments() -> None:
    assert isinstance(scaled, LazyFactory) and scaled.__name__ == "scaled"
    kernel = scaled(8)
    assert scaled(size=8) is scaled(8, 2.0) is scaled(8, factor=2.0, dtype="float32") is scaled.compile(8) is kernel
    assert scaled(8, 2) is not kernel and scaled(8, 3.0) is not kernel  # 2 and 2.0 make different programs
    a = integers((8,))
    np.testing.assert_array_equal(kernel(a), a * 2)
    np.testing.assert_array_equal(scaled(8, 3.0)(a), a * 3)
    assert scaled.get_tir(8).name == "main" and scaled.get_kernel_source(8) == kernel.source


def test_lazy_kernels_in_threads() -> None:
    kernels = scaled.par_compile([{"size": 8}, (8, 4.0)])
    a = integers((8,))
    assert kernels[0] is not None and kernels[1] is not None
    np.testing.assert_array_equal(kernels[0](a), a * 2)
    np.testing.assert_array_equal(kernels[1](a), a * 4)


def test_mistakes_in_lazy_calls() -> None:
    with refused(Kind.MISSING_ARGUMENT, "size"):
        scaled()
    with refused(Kind.UNKNOWN_ARGUMENT, "did you mean `factor`"):
        scaled(8, facto=2)
    with refused(Kind.UNHASHABLE_ARGUMENT, "factor"):
        scaled(8, {1: 2})

    @tilewright.jit
    def nothing(n: int):
        return n

    with refused(Kind.NOT_A_PRIM_FUNC, "nothing returned"):
        nothing(3)


def test_lists_are_compile_time_arguments_too() -> None:
    @tilewright.jit(out_idx=0)
    def filled(shape: Any, value: int):
        @T.prim_func
        def main(B: T.Tensor(shape, "int32")):
            with T.Kernel(1):
                T.fill(B, value)

        return main

    assert filled([2, 3], 1) is filled([2, 3], 1) and filled((2, 3), 1) is not filled([2, 3], 1) and filled([2, 3], True) is not filled([2, 3], 1)
    assert (filled([2, 3], 7)() == np.full((2, 3), 7)).all()


def test_a_prim_func_is_compiled_at_once() -> None:
    kernel = tilewright.jit(add_one, out_idx=-1)
    assert (kernel(np.zeros(8, np.float32), 5) == 5).all()


# -- the eager style


def test_a_call_with_tensors_runs() -> None:
    assert isinstance(matrix_sum, EagerFunction)
    for shape in ((8, 4), (7, 5), (7, 5)):
        a, b = integers(shape), integers(shape, seed=1)
        np.testing.assert_array_equal(matrix_sum(a, b), a + b)
    a, b = integers((8, 4)), integers((8, 4), seed=1)
    before = len(matrix_sum.kernels)
    np.testing.assert_array_equal(matrix_sum(a, b, block=2, flag=True), a + 2 * b)
    np.testing.assert_array_equal(matrix_sum(B=b, A=a), a + b)
    assert len(matrix_sum.kernels) == before + 1


def test_compiling_for_given_sizes() -> None:
    kernel = matrix_sum.compile(N=4, M=8, block=2)
    a, b = integers((8, 4)), integers((8, 4), seed=1)
    np.testing.assert_array_equal(kernel(a, b), a + b)
    assert matrix_sum.compile(M=8, N=4, block=2) is kernel and matrix_sum.compile(a, b, 2) is kernel
    assert matrix_sum.size_names() == ("M", "N")
    before = len(matrix_sum.kernels)
    assert "A: float32[3, 9]" in matrix_sum.get_tir(M=3, N=9).script() and len(matrix_sum.kernels) == before
    assert matrix_sum.get_kernel_source(M=8, N=4, block=2) == kernel.source
    kernels = matrix_sum.par_compile([{"M": 8, "N": 4}, {"M": 2, "N": 2}])
    assert all(k is not None for k in kernels)


def test_mistakes_in_eager_calls() -> None:
    a = integers((8, 4))
    with refused(Kind.ARGUMENT_SYMBOL, "N is 4 in A but 5 in B"):
        matrix_sum(a, integers((8, 5)))
    with refused(Kind.ARGUMENT_RANK):
        matrix_sum(a, integers((8,)))
    with refused(Kind.ARGUMENT_KIND):
        matrix_sum(a, 3)
    with refused(Kind.MISSING_ARGUMENT):
        matrix_sum(a)
    with refused(Kind.UNBOUND_SYMBOL, "N"):
        matrix_sum.compile(M=8)
    with refused(Kind.UNKNOWN_ARGUMENT):
        matrix_sum.compile(M=8, N=4, blok=2)
    with refused(Kind.SHAPE_VALUE):
        matrix_sum.compile(M=8, N="4")
    with refused(Kind.OUT_IDX_EAGER):
        tilewright.jit(matrix_sum.func, out_idx=0)


def test_sizes_from_strides_and_scalars_at_run_time() -> None:
    @tilewright.jit
    def strided(A, n: T.int32, value=1):
        LD = T.const("LD")
        A: T.StridedTensor((4, 3), (LD, 1), T.float32)
        B = T.empty((4, 3), T.float32)
        with T.Kernel(1):
            for i, j in T.Parallel(4, 3):
                B[i, j] = A[i, j] * n + value
        return B

    memory = integers((4, 7))
    np.testing.assert_array_equal(strided(memory[:, :3], 5), memory[:, :3] * 5 + 1)
    np.testing.assert_array_equal(strided(memory[:, :3], 6), memory[:, :3] * 6 + 1)
    assert len(strided.kernels) == 1
    np.testing.assert_array_equal(strided(memory[:, :3], 6, 2), memory[:, :3] * 6 + 2)
    assert len(strided.kernels) == 2


def test_annotations_in_the_signature() -> None:
    n = T.dynamic("n")

    @tilewright.jit
    def doubled(A: T.Tensor((n,), "float32")):
        B = T.empty((n,), "float32")
        with T.Kernel(T.ceildiv(n, 4)) as bx:
            for i in T.Parallel(4):
                B[bx * 4 + i] = A[bx * 4 + i] * 2
        return B

    for size in (3, 8, 1):
        a = integers((size,))
        np.testing.assert_array_equal(doubled(a), a * 2)
    assert len(doubled.kernels) == 1


def test_tensors_of_torch_come_back_as_such() -> None:
    torch = pytest.importorskip("torch")
    made = matrix_sum(torch.ones(4, 4), torch.ones(4, 4))
    assert isinstance(made, torch.Tensor) and (made == 2).all()
