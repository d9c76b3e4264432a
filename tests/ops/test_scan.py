"""T.cumsum and T.cummax: every axis and direction, dtypes, regions, in place; against plain numpy and the reference, on a CPU and in the simulator."""

from __future__ import annotations

import random
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused, run
from tests.ops.test_relayout import of_element, random_fragment
from tilewright.backends.lowering import lower_to_threads
from tilewright.errors import Kind
from tilewright.ir.stmt import Barrier, WarpExchange
from tilewright.ir.visit import statements
from tilewright.layout import Axis, Layout, tile_axes
from tilewright.ops.scan import can_scan_in_registers
from tilewright.target.nvidia import SM_80


def scan_kernel(shape: tuple[int, ...], source: str, result: str, scans: Any) -> Any:
    """Applies `scans`, pairs of an operation and its keywords, each into its own plane of B."""

    @T.prim_func
    def kernel(A: T.Tensor(shape, source), B: T.Tensor((len(scans), *shape), result)):
        with T.Kernel(1):
            held, scanned = T.alloc_shared(shape, source), T.alloc_fragment(shape, result)
            T.copy(A, held)
            every_scan(scans, held, scanned, B)

    return kernel


def every_scan(scans: Any, held: Any, scanned: Any, B: Any) -> None:
    for plane, (operation, keywords) in enumerate(scans):
        operation(held, scanned, **keywords)
        T.copy(scanned, B[(plane, *(slice(None) for _ in held.shape))])


def plain(operation: Any, a: np.ndarray[Any, Any], dim: int, reverse: bool) -> np.ndarray[Any, Any]:
    ordered = np.flip(a, dim) if reverse else a
    made = (np.add if operation is T.cumsum else np.maximum).accumulate(ordered, axis=dim)
    return np.flip(made, dim) if reverse else made


@pytest.mark.parametrize("shape", [(9,), (5, 7), (3, 4, 6)])
def test_every_axis_and_direction(shape: tuple[int, ...]) -> None:
    cases = [
        (operation, {"dim": dim, "reverse": reverse})
        for operation in (T.cumsum, T.cummax)
        for dim in range(-len(shape), len(shape))
        for reverse in (False, True)
    ]
    a = integers(shape)
    found = run(scan_kernel(shape, "float32", "float32", cases), A=a, B=np.zeros((len(cases), *shape), np.float32))["B"]
    for plane, (operation, keywords) in enumerate(cases):
        np.testing.assert_array_equal(found[plane], plain(operation, a, **keywords))


@pytest.mark.parametrize(
    ("source", "result"),
    [("float16", "float16"), ("int8", "int32"), ("uint8", "uint8"), ("bfloat16", "float32"), ("int32", "int64"), ("uint64", "uint64"), ("int8", "int8")],
)
def test_dtypes(source: str, result: str) -> None:
    wide, narrow = T.dtype(result).numpy, T.dtype(source).numpy
    a = integers((6, 5), narrow, low=100 if source == "int8" else 0, high=128 if source == "int8" else 9)
    if source == "uint64":
        a = a + np.uint64(1 << 63) * (a % 2)
    cases = [(T.cumsum, {"dim": 0}), (T.cummax, {"dim": 1})]
    found = run(scan_kernel((6, 5), source, result, cases), A=a, B=np.zeros((2, 6, 5), wide))["B"]
    whole = a.astype(wide)
    exact = whole.astype(np.float64) if wide in (np.float16, np.float32) else whole
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found[0], np.add.accumulate(exact, axis=0, dtype=exact.dtype).astype(wide))
    np.testing.assert_array_equal(found[1], np.maximum.accumulate(whole, axis=1))


def test_sums_of_narrow_floats_are_rounded_once() -> None:
    a = np.full(40, 0.1, np.float16)
    found = run(scan_kernel((40,), "float16", "float16", [(T.cumsum, {})]), A=a, B=np.zeros((1, 40), np.float16))["B"][0]
    running, wanted = np.float32(0), []
    for element in a:
        running = np.float32(running + np.float32(element))
        wanted.append(np.float16(running))
    np.testing.assert_array_equal(found, wanted)


def test_nan_loses_against_a_number() -> None:
    a = np.array([np.nan, 1, np.nan, 3, 2, np.nan], np.float32)
    found = run(scan_kernel((6,), "float32", "float32", [(T.cummax, {}), (T.cummax, {"reverse": True})]), A=a, B=np.zeros((2, 6), np.float32))["B"]
    np.testing.assert_array_equal(found, [[-np.inf, 1, 1, 3, 3, 3], [3, 3, 3, 3, 2, -np.inf]])


def test_in_place_and_overlapping_regions() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((4, 8), "int32"), B: T.Tensor((3, 4, 8), "int32")):
        with T.Kernel(1):
            held = T.alloc_shared((4, 8), "int32")
            T.copy(A, held)
            T.cumsum(held, dim=1)
            T.copy(held, B[0, :, :])
            T.cumsum(held[1:3, 2:6], dim=0, reverse=True)
            T.copy(held, B[1, :, :])
            T.cummax(held[:, 0:7], held[:, 1:8], dim=-1)
            T.copy(held, B[2, :, :])

    a = integers((4, 8), np.int32)
    first = np.cumsum(a, axis=1)
    second = first.copy()
    second[1] += second[2]
    second[1, [0, 1, 6, 7]] = first[1, [0, 1, 6, 7]]
    third = second.copy()
    third[:, 1:] = np.maximum.accumulate(second[:, :7], axis=1)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((3, 4, 8), np.int32))["B"], [first, second, third])


def test_regions_of_a_tensor_outside_it() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((6,), "int32"), B: T.Tensor((2, 8), "int32")):
        with T.Kernel(2) as bx:
            T.cumsum(A[bx * 5 - 1 : bx * 5 + 7], B[bx, :])

    a = integers((6,), np.int32)
    padded = np.concatenate([[0], a, np.zeros(6, np.int32)])
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((2, 8), np.int32))["B"], [np.cumsum(padded[5 * x : 5 * x + 8]) for x in range(2)])


def test_an_fp8_maximum_starts_below_everything() -> None:
    a = integers((7,), ml_dtypes.float8_e4m3fn, low=-9, high=-2)
    found = run(scan_kernel((7,), "float8_e4m3fn", "float8_e4m3fn", [(T.cummax, {})]), A=a, B=np.zeros((1, 7), ml_dtypes.float8_e4m3fn))["B"][0]
    np.testing.assert_array_equal(found.astype(np.float32), np.maximum.accumulate(a.astype(np.float32)))


@pytest.mark.parametrize(("kind", "arguments"), [(Kind.REDUCE_AXIS, {"dim": 2}), (Kind.REDUCE_AXIS, {"dim": -3}), (Kind.REDUCE_AXIS, {"dim": "x"})])
def test_axes_that_do_not_exist(kind: Kind, arguments: Any) -> None:
    with refused(kind):

        @T.prim_func
        def kernel(A: T.Tensor((4, 5), "int32")):
            with T.Kernel(1):
                T.cumsum(A, **arguments)


def test_operands_that_do_not_fit() -> None:
    n = T.dynamic("n")
    with refused(Kind.SCAN_SHAPE):

        @T.prim_func
        def shape(A: T.Tensor((4, 5), "int32")):
            with T.Kernel(1):
                T.cumsum(A, T.alloc_shared((5, 4), "int32"))

    with refused(Kind.SHAPE_STATIC):

        @T.prim_func
        def size(A: T.Tensor((n,), "int32")):
            with T.Kernel(1):
                T.cumsum(A)

    with refused(Kind.REDUCE_DTYPE):

        @T.prim_func
        def dtype(A: T.Tensor((4,), "bool")):
            with T.Kernel(1):
                T.cummax(A)


# ------------------------------------------------------------------------------------------------------------------------------- on a GPU


def on_gpu(shape: tuple[int, ...], source: str, result: str, threads: int, scan: Any, place: str, layout: Any = None) -> Any:
    """One scan of a tile in `place`: "fragment", "shared", "mixed" (from shared memory to registers) or "global"."""

    @T.prim_func
    def kernel(A: T.Tensor(shape, source), B: T.Tensor(shape, result)):
        with T.Kernel(1, threads=threads):
            if place == "global":
                scan(A, B)
            elif place == "shared":
                x = T.alloc_shared(shape, result)
                T.copy(A, x)
                scan(x)
                T.copy(x, B)
            else:
                x = T.alloc_fragment(shape, source) if place == "fragment" else T.alloc_shared(shape, source)
                y = T.alloc_fragment(shape, result)
                if layout is not None:
                    T.annotate_layout({x: T.Fragment(shape, forward_fn=layout)})
                T.copy(A, x)
                scan(x, y)
                T.copy(y, B)

    return kernel


def scanning(operation: Any, **keywords: Any) -> Any:
    def scan(*tiles: Any) -> None:
        operation(*tiles, **keywords)

    return scan


def simulated(kernel: Any, a: np.ndarray[Any, Any], result: Any) -> np.ndarray[Any, Any]:
    b = np.zeros(a.shape, result)
    tilewright.compile(kernel, target="simulate")(a, b)
    return b


@pytest.mark.parametrize("place", ["fragment", "shared", "mixed", "global"])
@pytest.mark.parametrize("threads", [16, 24, 48, 96, 128])
@pytest.mark.parametrize("shape", [(77,), (1000,), (4, 512), (64, 32), (7, 229), (2, 3, 40), (128, 6)])
def test_any_tile_on_any_number_of_threads(shape: tuple[int, ...], threads: int, place: str) -> None:
    rng = random.Random(f"{shape} {threads} {place}")
    dim, reverse, operation = rng.randrange(len(shape)), rng.random() < 0.5, rng.choice((T.cumsum, T.cummax))
    source, result = rng.choice((("int32", "int32"), ("float16", "float32"), ("int8", "int64"), ("float32", "float16"), ("uint8", "uint8")))
    a = integers(shape, T.dtype(source).numpy, low=0 if source == "uint8" else -4)
    found = simulated(on_gpu(shape, source, result, threads, scanning(operation, dim=dim, reverse=reverse), place), a, result)
    np.testing.assert_array_equal(found, plain(operation, a.astype(np.float64 if result != "uint8" else np.uint8), dim, reverse).astype(result))


def parallel_form(kernel: Any) -> tuple[int, int, list[str]]:
    """Shuffles, barriers and remarks."""
    found = lower_to_threads(kernel.program, SM_80)
    kinds = [type(s) for s in statements(found.program.launches[0].body)]
    return kinds.count(WarpExchange), kinds.count(Barrier), [r.text for r in found.context.remarks]


def test_a_row_is_scanned_by_one_warp() -> None:
    assert parallel_form(on_gpu((4, 512), "float32", "float32", 128, scanning(T.cumsum, dim=1), "fragment")) == (5, 0, [])


def test_columns_of_threads_of_their_own_need_no_exchange() -> None:
    for place, barriers in (("fragment", 0), ("shared", 2)):
        assert parallel_form(on_gpu((64, 128), "float32", "float32", 128, scanning(T.cumsum, dim=0), place)) == (0, barriers, [])


def test_a_whole_block_scans_one_row() -> None:
    """Warps hand each other their totals through shared memory."""
    assert parallel_form(on_gpu((1024,), "float32", "float32", 128, scanning(T.cumsum, dim=0), "fragment")) == (5, 1, [])


def test_what_a_thread_cannot_hold_is_scanned_in_shared_memory() -> None:
    kernel = on_gpu((8, 1024), "float32", "float32", 32, scanning(T.cumsum, dim=1), "fragment")
    shuffles, _, remarks = parallel_form(kernel)
    assert shuffles == 0
    assert remarks == ["x is scanned by one thread for each row, in shared memory: a thread holds too much of it, or no piece of a row"]
    a = integers((8, 1024))
    np.testing.assert_array_equal(simulated(kernel, a, np.float32), np.cumsum(a, axis=1))


@pytest.mark.parametrize("seed", range(20))
def test_a_fragment_in_any_layout(seed: int) -> None:
    """Where the axis is no plain digits of registers and threads, the fragment is brought to a layout where it is."""
    rng = random.Random(seed)
    layout = random_fragment(rng, (16, 16))
    dim, reverse = seed % 2, rng.random() < 0.5
    a = integers((16, 16), np.int32)
    found = simulated(on_gpu((16, 16), "int32", "int32", 64, scanning(T.cumsum, dim=dim, reverse=reverse), "fragment", of_element(layout)), a, np.int32)
    np.testing.assert_array_equal(found, plain(T.cumsum, a, dim, reverse))


def test_copies_of_rows_and_mixed_digits() -> None:
    axes = (Axis.of("reg", 4), Axis.of("lane", 8), Axis.of("warp", 1))
    unit = Layout(axes, tile_axes((16,)), (1, 2, 4, 8, 0))
    assert can_scan_in_registers(unit, 0)
    assert not can_scan_in_registers(Layout(axes, tile_axes((16,)), (1, 2, 4, 8, 8)), 0)
    assert not can_scan_in_registers(Layout(axes, tile_axes((16,)), (1, 2, 4, 8 | 1, 0)), 0)


def test_nan_and_the_end_of_a_padded_row_in_the_simulator() -> None:
    a = np.tile(np.array([np.nan, 1, np.nan, 3, 2, np.nan, -np.inf], np.float32), (3, 1))
    for reverse, wanted in ((False, [-np.inf, 1, 1, 3, 3, 3, 3]), (True, [3, 3, 3, 3, 2, -np.inf, -np.inf])):
        kernel = on_gpu((3, 7), "float32", "float32", 64, scanning(T.cummax, dim=1, reverse=reverse), "fragment")
        np.testing.assert_array_equal(simulated(kernel, a, np.float32), [wanted] * 3)


def test_sums_of_floats_keep_their_precision() -> None:
    a = np.random.default_rng(0).standard_normal((8, 256)).astype(np.float16)
    kernel = on_gpu((8, 256), "float16", "float16", 128, scanning(T.cumsum, dim=1), "fragment")
    found = simulated(kernel, a, np.float16)
    exact = np.cumsum(a.astype(np.float64), axis=1)
    assert np.abs(found.astype(np.float64) - exact).max() <= 2**-11 * np.abs(exact).max() + 1e-4
    np.testing.assert_array_equal(found, simulated(kernel, a, np.float16))


def test_turns_of_a_loop_do_not_meet_in_the_totals_of_warps() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((6, 300), "int32"), B: T.Tensor((6, 300), "int32")):
        with T.Kernel(1, threads=128):
            x = T.alloc_fragment((300,), "int32")
            for k in T.serial(6):
                T.copy(A[k, :], x)
                T.cumsum(x)
                T.cumsum(x, reverse=True)
                T.copy(x, B[k, :])

    a = integers((6, 300), np.int32)
    np.testing.assert_array_equal(simulated(kernel, a, np.int32), plain(T.cumsum, np.cumsum(a, axis=1), 1, True))
