"""Eager functions: what the first pass learns, one program per sizes, parameters declared in the body, and outputs behind the inputs."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused
from tilewright.errors import Kind
from tilewright.language.eager import Signature, is_runtime, learn_signature, runtime_names, trace_eager
from tilewright.language.rewrite import rewrite_function


def doubled(A, B: T.int32, block=16, is_negated=False):
    M, N = T.const("M, N")
    K = T.const("K")
    A: T.StridedTensor((M, N), (K, 1), "float32")
    C = T.empty((M, N), "float32")
    with T.Kernel(T.ceildiv(M, block)) as bx:
        for i, j in T.Parallel(block, N):
            C[bx * block + i, j] = A[bx * block + i, j] * (-2.0 if is_negated else 2.0) + B
    return C


class _Untouched:
    def __bool__(self) -> bool:
        raise AssertionError("the body of the launch was traced")


def learned(**compile_time: Any) -> tuple[Signature, Any]:
    rewritten = rewrite_function(doubled)
    annotations = {"B": T.int32}
    names = runtime_names(rewritten, annotations)
    values = {"block": 16, "is_negated": False} | compile_time
    return learn_signature(rewritten, annotations, names, values), lambda sizes: trace_eager(rewritten, annotations, names, values, sizes)


def test_annotated_parameters_are_given_at_run_time() -> None:
    assert runtime_names(rewrite_function(doubled), {"B": T.int32}) == ["A", "B"] and "block" in inspect.signature(doubled).parameters
    assert all(map(is_runtime, (T.Tensor((2,), "int8"), T.StridedTensor((2,), (1,)), T.ptr, T.int32))) and not any(map(is_runtime, (int, None, "int32", 3)))


def test_the_first_pass_learns_parameters_and_sizes_and_stops_at_the_launch() -> None:
    signature, _ = learned(is_negated=_Untouched())
    assert [p.name for p in signature.runtime] == ["A", "B"] and list(signature.constants) == ["M", "N", "K"]
    buffer = signature.runtime[0].buffer
    assert buffer is not None and buffer.shape == (signature.constants["M"], signature.constants["N"]) and buffer.given_strides[0] is signature.constants["K"]


def test_each_set_of_sizes_is_a_program_with_ints() -> None:
    _, trace = learned()
    program = trace({"M": 40, "N": 8, "K": 9})
    a, b, c = program.parameters
    assert (a.buffer.shape, a.buffer.given_strides, b.variable.dtype, c.buffer.shape, c.is_output) == ((40, 8), (9, 1), "int32", (40, 8), True)
    assert program.launches[0].grid[0].value == 3


def test_calls_compile_once_per_sizes_and_plain_arguments() -> None:
    function = tilewright.jit(doubled)
    wide = integers((40, 9))
    for rows, columns, arguments in ((40, 8, {}), (40, 8, {}), (24, 8, {}), (40, 8, {"is_negated": True}), (40, 8, {"block": 8})):
        sign = -2 if arguments.get("is_negated") else 2
        np.testing.assert_array_equal(function(wide[:rows, :columns], 3, **arguments), wide[:rows, :columns] * sign + 3)
    assert len(function.kernels) == 4


def test_sizes_that_no_argument_has() -> None:
    def lonely(A: T.Tensor((4,), "float32")):
        M = T.const("M")
        with T.Kernel(M) as bx:
            A[bx] = 0.0

    with refused(Kind.CONST_UNUSED, "M of T.const is no dimension"):
        learn_signature(rewrite_function(lonely), {"A": T.Tensor((4,), "float32")}, ["A"], {})

    def derived(A):
        M = T.const("M")
        A: T.Tensor((M * 2,), "float32")
        with T.Kernel(1):
            A[0] = 0.0

    with refused(Kind.CONST_UNUSED):
        learn_signature(rewrite_function(derived), {}, ["A"], {})


def test_a_function_without_a_launch_or_an_annotation_is_refused() -> None:
    def nothing(A: T.Tensor((4,), "float32")):
        B = T.empty((4,), "float32")
        return B

    with refused(Kind.LAUNCH_MISSING, "nothing has no launch"):
        learn_signature(rewrite_function(nothing), {"A": T.Tensor((4,), "float32")}, ["A"], {})


@pytest.mark.parametrize("is_first", [True, False])
def test_python_in_front_of_the_launch_runs_in_both_passes(is_first: bool) -> None:
    seen: list[Any] = []

    def noted(A):
        M = T.const("M")
        seen.append(M)
        A: T.Tensor((M,), "float32")
        with T.Kernel(1):
            A[0] = 0.0

    rewritten = rewrite_function(noted)
    if is_first:
        signature = learn_signature(rewritten, {}, ["A"], {})
        assert seen == [signature.constants["M"]]
    else:
        trace_eager(rewritten, {}, ["A"], {}, {"M": 7})
        assert seen == [7]
