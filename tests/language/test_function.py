"""Macros and their parameters, prim_funcs and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind


@T.macro
def add(x: T.Ref, amount):
    x = x + amount


@T.macro
def add_in_place(x: T.Ref, amount):
    x += amount


@T.macro
def twice(x: T.Ref, amount):
    add(x, amount)
    add_in_place(x, amount)


@pytest.mark.parametrize(("change", "factor"), [(add, 1), (add_in_place, 1), (twice, 2)])
def test_elements_and_variables_are_written_through(change: Any, factor: int) -> None:
    @T.prim_func
    def main(A: T.Tensor((4, 8), "float32"), B: T.Tensor((1,), "float32")):
        with T.Kernel(1):
            tile = T.alloc_shared((4, 8), "float32")
            total = T.alloc_var("float32", 1.0)
            T.copy(A, tile)
            for i in T.serial(4):
                change(tile[i, i + 1], 2.0)
                change(total, A[i, 0])
            T.copy(tile, A)
            B[0] = total

    a = integers((4, 8))
    found = run(main, A=a, B=np.zeros(1, np.float32))
    want = a.copy()
    want[range(4), range(1, 5)] += 2 * factor
    np.testing.assert_array_equal(found["A"], want)
    assert found["B"][0] == 1 + factor * a[:, 0].sum()


def test_the_place_is_the_one_at_the_call() -> None:
    @T.macro
    def move(place: T.Ref, position: T.Ref):
        position += 1
        place = 5
        kept = place + 0
        return kept

    @T.prim_func
    def main(A: T.Tensor((4,), "int32")):
        with T.Kernel(1):
            at = T.alloc_var("int32", 1)
            kept = move(A[at], at)
            A[3] = kept + at

    np.testing.assert_array_equal(run(main, A=np.zeros(4, np.int32))["A"], [0, 5, 0, 7])


def test_regions_are_written_through() -> None:
    @T.macro
    def replace(part: T.Ref, value):
        part = value
        T.copy(part, part)

    @T.prim_func
    def main(A: T.Tensor((8,), "int32")):
        with T.Kernel(1):
            replace(A[2:5], 7)

    np.testing.assert_array_equal(run(main, A=np.zeros(8, np.int32))["A"], [0, 0, 7, 7, 7, 0, 0, 0])


def test_the_older_spelling_of_a_reference() -> None:
    @T.macro
    def store(x: T.Var):
        x = 3

    @T.prim_func
    def main(A: T.Tensor((2,), "int32"), n: T.int32):
        with T.Kernel(1):
            assert isinstance(n, T.Var) and not isinstance(n + 1, T.Var)
            store(A[1])

    np.testing.assert_array_equal(run(main, A=np.zeros(2, np.int32), n=1)["A"], [0, 3])


def test_an_atomic_on_a_reference() -> None:
    @T.macro
    def count(x: T.Ref):
        T.atomic_add(x, 1)

    @T.prim_func
    def main(A: T.Tensor((2,), "int32")):
        with T.Kernel(3, threads=1):
            for i in T.Parallel(2):
                count(A[i])

    np.testing.assert_array_equal(run(main, A=np.zeros(2, np.int32))["A"], [3, 3])


@pytest.mark.parametrize("value", [1, lambda A: A[0] + 1, lambda A: A, "x"])
def test_what_is_no_place_is_refused(value: Any) -> None:
    with refused(Kind.REFERENCE_ARGUMENT, "the argument x of the macro add"):

        @T.prim_func
        def main(A: T.Tensor((4,), "int32")):
            with T.Kernel(1):
                add(value(A) if callable(value) else value, 1)


def test_macros_return_values_and_take_functions() -> None:
    @T.macro
    def combined(a, b, operation):
        return operation(a, b), a

    @T.prim_func
    def main(A: T.Tensor((4,), "int32")):
        with T.Kernel(1):
            product, first = combined(A[1], A[2], lambda x, y: x * y)
            A[0] = product + first

    np.testing.assert_array_equal(run(main, A=np.array([0, 3, 5, 0], np.int32))["A"], [18, 3, 5, 0])


def test_a_prim_func_is_no_kernel_yet() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "int32")):
        with T.Kernel(1):
            A[0] = 1

    assert main.name == main.__name__ == "main" and [p.name for p in main.params] == ["A"] and "Kernel" in main.script()
    with refused(Kind.NO_BUILDER, "tilewright.compile(main)"):
        main(np.zeros(4, np.int32))
    assert "main" in repr(main)


@pytest.mark.parametrize("thing", [3, print, "f"])
def test_what_is_no_function_is_refused(thing: Any) -> None:
    with refused(Kind.NOT_A_PRIM_FUNC):
        T.macro(thing)


def test_parameters_that_a_kernel_cannot_have() -> None:
    with refused(Kind.PARAMETER_ANNOTATION, "collects any number"):

        @T.prim_func
        def many(*A: T.Tensor((4,), "int32")):
            pass

    with refused(Kind.PARAMETER_ANNOTATION, "has a default value"):

        @T.prim_func
        def preset(n: T.int32 = 3):
            pass

    with refused(Kind.PARAMETER_ANNOTATION, "no annotation"):

        @T.prim_func
        def bare(n):
            pass


def test_outside_a_kernel() -> None:
    with refused(Kind.NO_BUILDER):
        add(1, 2)
    assert tilewright.language.inline is T.macro
