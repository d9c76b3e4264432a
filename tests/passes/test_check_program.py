"""Mistakes found before anything is generated: races, indices outside tiles, thread-level code; and programs that must not be refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import copied, integers, refused, run
from tilewright.errors import Kind
from tilewright.language.function import PrimFunc
from tilewright.passes import PassContext
from tilewright.passes.check_program import check_program
from tilewright.target.cpu import host_target


def check(prim_func: PrimFunc) -> None:
    assert check_program(prim_func.program, PassContext(host_target())) is prim_func.program


def looped(body: Any, extents: tuple[int, ...] = (8,)) -> PrimFunc:
    """`body` inside T.Parallel, with a tensor to read, one to write, indices, a shared tile, a variable and a local array."""

    @T.prim_func
    def kernel(A: T.Tensor((64,), "float32"), B: T.Tensor((64,), "float32"), I: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=1):
            s, v, w = T.alloc_shared((64,), "float32"), T.alloc_var("float32"), T.alloc_local((4,), "float32")
            T.clear(s)
            for i in T.Parallel(*extents):
                body(A, B, I, s, v, w, i)

    return kernel


def macro(function: Any) -> Any:
    return T.macro(function)


def same_place(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    B[0] = A[i]


def update(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    s[3] += 1


def named_value(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    x = A[i] * 2
    B[1] = x


def in_a_serial_loop(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    for k in T.serial(4):
        B[k] = A[i + k]


def same_indirect_place(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    B[I[2]] = A[i]


def through_a_variable(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    v = A[i]
    s[0] = v


def condition_of_another(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    if A[0] > 0:
        B[5] = i


RACES = [same_place, update, named_value, in_a_serial_loop, same_indirect_place, through_a_variable, condition_of_another]


@pytest.mark.parametrize("body", RACES, ids=lambda f: f.__name__)
def test_races(body: Any) -> None:
    with refused(Kind.PARALLEL_RACE, "all iterations of `i` write the same element", "any order"):
        check(looped(macro(body)))
    with refused(Kind.PARALLEL_RACE):
        tilewright.run_reference(
            looped(macro(body)).program, {"A": np.arange(64, dtype=np.float32) + 1, "B": np.zeros(64, np.float32), "I": np.arange(64, dtype=np.int32)}
        )


def test_a_variable_that_collects() -> None:
    """The sum of all iterations in a variable: each thread would have its own."""

    @T.prim_func
    def kernel(A: T.Tensor((8,), "float32"), B: T.Tensor((1,), "float32")):
        with T.Kernel(1):
            v = T.alloc_var("float32")
            for i in T.Parallel(8):
                v += A[i]
            B[0] = v

    with refused(Kind.PARALLEL_RACE, "all iterations of `i` write the same element of v"):
        check(kernel)


def own_place(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    B[63 - i] = A[i]


def one_iteration(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    if i == 3:
        B[0] = A[i]


def one_named_iteration(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    is_last = i == 7
    if is_last:
        B[0] = A[i]


def same_value(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    B[0] = A[5] + 2


def same_value_of_a_variable(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    v = 5
    B[0] = v


def indirect_place(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    B[I[i]] = A[i]


def named_place(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    at = I[i] + 1
    B[at] = A[i]


def place_in_a_variable(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    at = T.alloc_var("int32")
    at = i * 2
    B[at] = A[i]


def own_variable(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    v = A[i]
    v += 1
    for k in T.serial(3):
        w[k] = v * k
    B[i] = w[2]


def left_early(A: Any, B: Any, I: Any, s: Any, v: Any, w: Any, i: Any) -> None:
    for _ in T.serial(1):
        if i > 0:
            break
        B[0] = A[i]


FINE = [
    own_place,
    one_iteration,
    one_named_iteration,
    same_value,
    same_value_of_a_variable,
    indirect_place,
    named_place,
    place_in_a_variable,
    own_variable,
    left_early,
]


@pytest.mark.parametrize("body", FINE, ids=lambda f: f.__name__)
def test_programs_without_races(body: Any) -> None:
    arguments = {"A": integers((64,)), "B": np.zeros(64, np.float32), "I": np.roll(np.arange(64), 3).astype(np.int32)}
    check(looped(macro(body)))
    run(looped(macro(body)), **copied(arguments))


def test_loops_of_one_iteration_and_of_two_axes() -> None:
    check(looped(macro(same_place), (1,)))

    @T.prim_func
    def kernel(A: T.Tensor((4, 8), "float32"), B: T.Tensor((8,), "float32")):
        with T.Kernel(1):
            for i, j in T.Parallel(4, 8):
                B[j] = A[i, j]

    with refused(Kind.PARALLEL_RACE, "all iterations of `i`"):
        check(kernel)


def test_a_mix_of_places_that_differ() -> None:
    """i * 8 + j is a different place in each iteration, i + j is not: only what is the same for a whole variable is refused."""

    @T.prim_func
    def kernel(A: T.Tensor((4, 8), "float32"), B: T.Tensor((32,), "float32")):
        with T.Kernel(1):
            for i, j in T.Parallel(4, 8):
                B[i * 8 + j] = A[i, j]

    check(kernel)
    a = integers((4, 8))
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(32, np.float32))["B"], a.reshape(-1))


# -- indices outside tiles


def indexed(statement: Any) -> PrimFunc:
    @T.prim_func
    def kernel(A: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(4) as bx:
            s = T.alloc_shared((8,), "float32")
            statement(A, s, bx, n)

    return kernel


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (lambda A, s, bx, n: s.__setitem__(bx + 8, 0), "at least 8"),
        (lambda A, s, bx, n: s.__setitem__(bx - 9, 0), "at most -6"),
        (lambda A, s, bx, n: A.__setitem__(0, s[8 + bx * 2]), "at least 8"),
        (lambda A, s, bx, n: A.__setitem__(0, s[T.max(n, 10)]), "at least 10"),
        (lambda A, s, bx, n: s.__setitem__(bx + 5, 0), "`bx + 5` is 8 where bx = 3, outside s, whose dimension 0 has 8 elements"),
        (lambda A, s, bx, n: s.__setitem__(bx - 1, 0), "`bx - 1` is -1 where bx = 0"),
        (lambda A, s, bx, n: A.__setitem__(0, s[bx * 3]), "is 9 where bx = 3"),
        (lambda A, s, bx, n: T.atomic_add(s[bx + 6], 1.0), "is 9 where bx = 3"),
    ],
)
def test_indices_that_are_certainly_outside(statement: Any, text: str) -> None:
    with refused(Kind.INDEX_RANGE, text, "s: float32[8]"):
        check(indexed(statement))


@pytest.mark.parametrize(
    "statement",
    [
        lambda A, s, bx, n: s.__setitem__(bx + 4, 0),
        lambda A, s, bx, n: s.__setitem__(n, 0),
        lambda A, s, bx, n: s.__setitem__(n + bx, 0),
        lambda A, s, bx, n: A.__setitem__(bx + 100, 0),
        lambda A, s, bx, n: A.__setitem__(0, T.if_then_else(bx > 9, s[bx + 8], 0)),
        lambda A, s, bx, n: A.__setitem__(bx, A[bx + 50]),
    ],
)
def test_indices_that_may_be_inside(statement: Any) -> None:
    check(indexed(statement))


def test_regions_that_are_certainly_outside() -> None:
    def reduced(first: Any) -> PrimFunc:
        return indexed(lambda A, s, bx, n: T.reduce_sum(s[first(bx, n) : first(bx, n) + 4], T.alloc_fragment((1,), "float32")))

    with refused(Kind.REGION_RANGE, "goes outside s"):
        check(reduced(lambda bx, n: bx + 5))
    with refused(Kind.REGION_RANGE, "dimension 0 has 8 elements: `bx * 2` is 6 where bx = 3"):
        check(reduced(lambda bx, n: bx * 2))
    with refused(Kind.REGION_RANGE):
        check(reduced(lambda bx, n: -1 - bx))
    check(reduced(lambda bx, n: bx + 1))
    check(reduced(lambda bx, n: n))
    check(indexed(lambda A, s, bx, n: T.copy(A, s[bx + 5 : bx + 13])))


def test_statements_that_never_run() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((8,), "float32")):
        with T.Kernel(4) as bx:
            s = T.alloc_shared((8,), "float32")
            if bx > 5:
                s[bx + 8] = 0
            for _ in T.serial(0):
                s[bx + 8] = 0

    check(kernel)


@T.prim_func
def _one_too_many(A: T.Tensor((8,), "float32"), n: T.int32):
    with T.Kernel(T.ceildiv(n, 8), threads=16) as bx:
        s = T.alloc_shared((8,), "float32")
        for k in T.serial(n):
            for i, j in T.Parallel(3, 3):
                at = i * 3 + j
                s[at] = k


@T.prim_func
def _threads_without_an_element(A: T.Tensor((8,), "float32")):
    with T.Kernel(1, threads=16):
        s = T.alloc_shared((8,), "float32")
        tx = T.get_thread_binding()
        if tx != 3:
            s[tx] = 0


@pytest.mark.parametrize(
    ("kernel", "text"), [(_one_too_many, "`i * 3 + j` is 8 where i = 2, j = 2, outside s"), (_threads_without_an_element, "`tx` is 15, outside s")]
)
def test_a_turn_that_goes_outside_is_named(kernel: PrimFunc, text: str) -> None:
    with refused(Kind.INDEX_RANGE, text):
        check(kernel)


def test_turns_that_may_never_come_are_not_refused() -> None:
    """What decides whether the access happens is read from memory, left to the caller, or promised."""

    @T.prim_func
    def kernel(A: T.Tensor((64,), "float32"), I: T.Tensor((64,), "int32"), n: T.int32):
        with T.Kernel(8, threads=8) as bx:
            s, v = T.alloc_shared((8,), "float32"), T.alloc_var("int32")
            at = I[bx]
            s[at] = 0
            if I[0] > 3:
                s[bx + 1] = 0
            if n > 3:
                s[bx + 1] = 0
            for k in T.serial(n):
                s[k] = 0
            for k in T.serial(9):
                if A[k] > 0:
                    break
                s[k] = 0
            while v < I[1]:
                s[bx + 1] = 0
                v += 1
            if bx + n < 8 and n > 0:
                s[bx + 1] = 0
            A[bx] = T.if_then_else(bx < 7, s[bx + 1], 0)
            T.assume(bx < 7)
            s[bx + 1] = 0

    check(kernel)


def test_an_assertion_may_end_the_kernel_first() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((64,), "float32")):
        with T.Kernel(8, threads=8) as bx:
            s = T.alloc_shared((8,), "float32")
            T.device_assert(A[0] > 0)
            s[bx + 1] = 0

    check(kernel)


def test_threads_are_checked_too() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((8,), "float32")):
        with T.Kernel(1, threads=8):
            A[0] = T.get_thread_binding(0)

    with refused(Kind.THREAD_RACE):
        check(kernel)
