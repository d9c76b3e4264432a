"""Allocations: scopes, shapes and names of what they make, where it is registered, and what variables start with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind
from tilewright.ir.buffer import Scope


def test_each_allocation_has_its_scope_shape_and_name() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "float32")):
        workspace = T.alloc_global((4, 4), "int32")
        with T.Kernel(1):
            shared = T.alloc_shared((2, 3), "float16")
            static = T.alloc_shared(8, "float16", scope="shared")
            fragment = T.alloc_fragment([4], T.float32)
            local = T.alloc_local((5,), "int8")
            variable = T.alloc_var("uint8")
            reducer = T.alloc_reducer((4,), "float32", "max")

    (launch,) = main.program.launches
    made = {b.name: (b.scope, b.shape, str(b.dtype)) for b in (*launch.buffers, *main.program.workspaces)}
    assert made == {
        "workspace": (Scope.GLOBAL, (4, 4), "int32"),
        "shared": (Scope.SHARED, (2, 3), "float16"),
        "static": (Scope.SHARED, (8,), "float16"),
        "fragment": (Scope.FRAGMENT, (4,), "float32"),
        "local": (Scope.LOCAL, (5,), "int8"),
        "variable": (Scope.VARIABLE, (1,), "uint8"),
        "reducer": (Scope.REDUCER, (4,), "float32"),
    }


@pytest.mark.parametrize(
    ("allocate", "first"),
    [
        (lambda: T.alloc_var("float32"), 0),
        (lambda: T.alloc_var("float32", 2.5), 2.5),
        (lambda: T.alloc_var("float32", init=-1), -1),
        (lambda: T.alloc_var("float32", "local.var"), 0),
        (lambda: T.alloc_var("float32", 4, "local.var"), 4),
        (lambda: T.alloc_var("float16", init=T.infinity("float16")), np.inf),
        (lambda: T.alloc_var("int8", init=-128), -128),
    ],
)
def test_what_a_variable_starts_with(allocate: Any, first: float) -> None:
    @T.prim_func
    def main(A: T.Tensor((2,), "float32")):
        with T.Kernel(1):
            held = allocate()
            A[0] = held
            held = 1
            A[1] = held

    assert run(main, A=np.full(2, 9, np.float32))["A"].tolist() == [first, 1]


def test_a_variable_starts_anew_in_every_turn_of_the_loop_around_it() -> None:
    @T.prim_func
    def main(A: T.Tensor((3,), "int32")):
        with T.Kernel(1):
            for i in T.serial(3):
                count = T.alloc_var("int32", init=10)
                count += i
                A[i] = count

    assert run(main, A=np.zeros(3, np.int32))["A"].tolist() == [10, 11, 12]


def test_a_workspace_is_seen_by_every_launch() -> None:
    @T.prim_func
    def main(A: T.Tensor((64,), "float32"), B: T.Tensor((64,), "float32")):
        between = T.alloc_global((64,), "float32")
        with T.Kernel(4, threads=16) as bx:
            for i in T.Parallel(16):
                between[bx * 16 + i] = A[bx * 16 + i] * 2.0
        with T.Kernel(1, threads=64):
            for i in T.Parallel(64):
                B[i] = between[63 - i]

    a = integers(64)
    np.testing.assert_array_equal(run(main, A=a, B=np.zeros_like(a))["B"], 2 * a[::-1])


@pytest.mark.parametrize(
    ("kind", "allocate", "part"),
    [
        (Kind.SCOPE, lambda n: T.alloc_shared((4,), "float32", scope="local"), "the scope of T.alloc_shared is 'local'"),
        (Kind.SCOPE, lambda n: T.alloc_global((4,), "float32"), "T.alloc_global stands inside a launch"),
        (Kind.SHAPE_VALUE, lambda n: T.alloc_fragment((), "float32"), "a shape without dimensions"),
        (Kind.SHAPE_VALUE, lambda n: T.alloc_fragment((4, 0), "float32"), "dimension 1 of T.alloc_fragment is 0"),
        (Kind.SHAPE_STATIC, lambda n: T.alloc_shared((n, 4), "float32"), "dimension 0 of T.alloc_shared is `n`"),
        (Kind.DTYPE_UNSUPPORTED, lambda n: T.alloc_local((4,), "handle"), "T.alloc_local of handle"),
        (Kind.VALUE_RANGE, lambda n: T.alloc_var("int8", init=128), "the initial value 128 does not fit int8"),
        (Kind.VALUE_RANGE, lambda n: T.alloc_var("float8_e4m3fn", init=1e9), "does not fit float8_e4m3fn"),
        (Kind.REDUCE_OPERATION, lambda n: T.alloc_reducer((4,), "float32", "mean"), "there is no reducer operation 'mean'"),
        (Kind.REDUCE_DTYPE, lambda n: T.alloc_reducer((4,), "float32", "bitor"), "a bitwise reducer (bitor) of float32"),
    ],
)
def test_mistakes(kind: Kind, allocate: Any, part: str) -> None:
    n = T.dynamic("n")
    with refused(kind, part):

        @T.prim_func
        def main(A: T.Tensor((n,), "float32")):
            with T.Kernel(1):
                held = allocate(n)
