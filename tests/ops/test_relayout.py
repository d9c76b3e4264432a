"""Fragments that change their layout within warps: found by layout inference, moved by shuffles, and right in the simulator."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import tilewright
import tilewright.language as T
from tests.codegen.cuda.nvrtc_checks import needs_nvrtc
from tests.layout.random_layouts import SEEDS
from tilewright.backends.lowering import lower_to_threads
from tilewright.dtypes import as_dtype
from tilewright.ir.buffer import Scope
from tilewright.ir.stmt import Barrier, WarpExchange
from tilewright.ir.visit import statements
from tilewright.layout import Axis, Layout, tile_axes
from tilewright.ops.relayout import cheapest_shuffles
from tilewright.target.nvidia import SM_80


def copied(shape: tuple[int, ...], dtype: str, threads: int, first: Any, second: Any) -> Any:
    """A tile read in one layout and written in another."""

    @T.prim_func
    def main(A: T.Tensor(shape, dtype), B: T.Tensor(shape, dtype)):
        with T.Kernel(1, threads=threads):
            x, y = T.alloc_fragment(shape, dtype), T.alloc_fragment(shape, dtype)
            T.annotate_layout({x: T.Fragment(shape, forward_fn=first), y: T.Fragment(shape, forward_fn=second)})
            T.copy(A, x)
            T.copy(x, y)
            T.copy(y, B)

    return main


def lowered(kernel: Any) -> tuple[list[Any], list[str]]:
    """The statements of the thread-level program, and what the user is told."""
    found = lower_to_threads(kernel.program, SM_80)
    (launch,) = found.program.launches
    return list(statements(launch.body)), [r.text for r in found.context.remarks]


def numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    return (np.arange(np.prod(shape)).reshape(shape) % (2 if dtype == "bool" else 120)).astype(as_dtype(dtype).numpy)


def check(kernel: Any, a: np.ndarray[Any, Any]) -> None:
    b = np.zeros_like(a)
    tilewright.compile(kernel, target="simulate")(a, b)
    np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))


def by_rows(i: int, j: int) -> tuple[int, int]:
    return i * 4 + j // 4, j % 4


def by_columns(i: int, j: int) -> tuple[int, int]:
    return j * 2 + i // 4, i % 4


@pytest.mark.parametrize("threads", [32, 48, 128])
@pytest.mark.parametrize("dtype", ["bool", "int8", "float8_e4m3fn", "uint16", "float16", "bfloat16", "float32", "int32", "float64", "int64"])
def test_every_dtype_keeps_its_bits(dtype: str, threads: int) -> None:
    kernel = copied((8, 16), dtype, threads, by_rows, by_columns)
    body, remarks = lowered(kernel)
    assert any(isinstance(s, WarpExchange) for s in body)
    assert not any(isinstance(s, Barrier) for s in body)
    assert any("shuffles move it here" in r for r in remarks)
    check(kernel, numbers((8, 16), dtype))


def test_pairs_that_stay_together_move_as_one_word() -> None:
    def turned(i: int, j: int) -> tuple[int, int]:
        return (j // 2 % 4) * 8 + i, j % 2 + j // 8 * 2

    kernel = copied((8, 16), "float16", 32, by_rows, turned)
    assert sum(isinstance(s, WarpExchange) for s in lowered(kernel)[0]) == 2
    check(kernel, numbers((8, 16), "float16"))


def test_registers_that_depend_on_the_lane_need_no_shuffle() -> None:
    kernel = copied((32, 4), "float32", 32, lambda i, j: (i, j), lambda i, j: (i, j ^ i & 3))
    body, remarks = lowered(kernel)
    assert not any(isinstance(s, (Barrier, WarpExchange)) for s in body)
    assert remarks == ["x is read by other threads than hold it: its registers change places here"]
    check(kernel, numbers((32, 4), "float32"))


def test_a_tile_that_other_warps_hold_goes_through_shared_memory() -> None:
    kernel = copied((8, 16), "float32", 128, lambda i, j: (i * 16 + j, 0), lambda i, j: (j * 8 + i, 0))
    body, remarks = lowered(kernel)
    assert any(isinstance(s, Barrier) for s in body)
    assert remarks == ["x is read or written by other threads than hold it: it goes through shared memory here"]
    check(kernel, numbers((8, 16), "float32"))


def test_one_access_of_a_loop_moves_while_another_stays() -> None:
    """A symmetric sum of a tile of one warp."""

    @T.prim_func
    def main(A: T.Tensor((16, 16), "float32"), B: T.Tensor((16, 16), "float32")):
        with T.Kernel(1, threads=32):
            x, y = T.alloc_fragment((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.copy(A, x)
            for i, j in T.Parallel(16, 16):
                y[i, j] = x[i, j] + 2 * x[j, i]
            T.copy(y, B)

    body, _ = lowered(main)
    assert any(isinstance(s, WarpExchange) for s in body)
    assert not any(isinstance(s, Barrier) for s in body)
    a = numbers((16, 16), "float32")
    b = np.zeros_like(a)
    tilewright.compile(main, target="simulate")(a, b)
    np.testing.assert_array_equal(b, a + 2 * a.T)


def test_the_result_moves_where_it_is_narrower_than_what_it_is_made_of() -> None:
    """Accumulators become the fp8 operand of the next product: four elements make one word once they are rounded."""

    @T.prim_func
    def main(A: T.Tensor((16, 32), "float32"), B: T.Tensor((16, 32), "float8_e4m3fn")):
        with T.Kernel(1, threads=32):
            x, z, y = T.alloc_fragment((16, 32), "float32"), T.alloc_fragment((16, 32), "float32"), T.alloc_fragment((16, 32), "float8_e4m3fn")
            accumulator = T.Fragment((16, 32), forward_fn=lambda i, j: (i % 8 * 4 + j // 2 % 4, j % 2 + i // 8 * 2 + j // 8 * 4))
            operand = T.Fragment((16, 32), forward_fn=lambda i, j: (i % 8 * 4 + j // 4 % 4, j % 4 + i // 8 * 4 + j // 16 * 8))
            T.annotate_layout({x: accumulator, z: accumulator, y: operand})
            T.copy(A, x)
            T.copy(A, z)
            for i, j in T.Parallel(16, 32):
                y[i, j] = x[i, j] + z[i, j]
            T.copy(y, B)

    assert "y is computed by other threads than hold it: 4 shuffles move it here" in lowered(main)[1]
    a = numbers((16, 32), "float32") % 7
    b = np.zeros((16, 32), as_dtype("float8_e4m3fn").numpy)
    tilewright.compile(main, target="simulate")(a, b)
    np.testing.assert_array_equal(b.astype(np.float32), 2 * a)


def test_a_tile_that_the_loop_also_writes_keeps_to_shared_memory() -> None:
    @T.prim_func
    def main(A: T.Tensor((16, 16), "float32"), B: T.Tensor((16, 16), "float32")):
        with T.Kernel(1, threads=32):
            x, y = T.alloc_fragment((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.annotate_layout({y: T.Fragment((16, 16), forward_fn=lambda i, j: (j * 2 + i // 8, i % 8))})
            T.copy(A, x)
            T.copy(A, y)
            for i, j in T.Parallel(16, 16):
                y[i, j] = y[i, j] * 2
                x[i, j] = x[i, j] + y[i, j]
            T.copy(x, B)

    a = numbers((16, 16), "float32")
    b = np.zeros_like(a)
    tilewright.compile(main, target="simulate")(a, b)
    np.testing.assert_array_equal(b, 3 * a)


def test_rows_that_a_reduction_left_elsewhere_are_fetched() -> None:
    """The sum of a row lies with its lanes; a tile in a layout by columns wants it in others."""

    @T.prim_func
    def main(A: T.Tensor((8, 16), "float32"), B: T.Tensor((8, 16), "float32")):
        with T.Kernel(1, threads=32):
            x, y, s = T.alloc_fragment((8, 16), "float32"), T.alloc_fragment((8, 16), "float32"), T.alloc_fragment((8,), "float32")
            T.annotate_layout({x: T.Fragment((8, 16), forward_fn=by_rows), y: T.Fragment((8, 16), forward_fn=by_columns)})
            T.copy(A, x)
            T.reduce_sum(x, s, dim=1)
            for i, j in T.Parallel(8, 16):
                y[i, j] = x[i, j] - s[i]
            T.copy(y, B)

    body, _ = lowered(main)
    assert not any(isinstance(s, Barrier) for s in body)
    a = numbers((8, 16), "float32")
    b = np.zeros_like(a)
    tilewright.compile(main, target="simulate")(a, b)
    np.testing.assert_array_equal(b, a - a.sum(1, keepdims=True))


def random_fragment(rng: random.Random, shape: tuple[int, int]) -> Layout:
    """Elements on registers, lanes and two warps, in any order and with any XORs inside a warp; the first digit of the rows is the warp's."""
    rows, columns = tile_axes(shape)
    count = len(rows.digits) + len(columns.digits)
    digits = list(range(1, count))
    rng.shuffle(digits)
    lanes, registers = digits[:5], digits[5:]
    placed = [1 << d for d in (*registers, *lanes)]
    for _ in range(rng.choice((0, 10))):
        first, second = rng.sample(range(len(placed)), 2)
        placed[first] ^= placed[second]
    warp = 1 ^ rng.choice((0, *placed))
    return Layout((Axis.of("reg", 1 << len(registers)), Axis.of("lane", 32), Axis.of("warp", 2)), (rows, columns), (*placed, warp))


def of_element(layout: Layout) -> Any:
    """(thread, register) of each element, as T.Fragment asks for it."""
    thread, register = {}, {}
    for (reg, lane, warp), place in zip(np.ndindex(*(a.extent for a in layout.ins)), layout.table().reshape(-1, 2).tolist(), strict=True):
        thread[tuple(place)], register[tuple(place)] = warp * 32 + lane, reg
    return lambda i, j: (thread[i, j], register[i, j])


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_random_layouts(seed: int) -> None:
    rng = random.Random(seed)
    shape = rng.choice(((8, 16), (32, 8), (4, 64), (16, 16)))
    dtype = rng.choice(("int8", "float16", "float32", "int64"))
    source, destination = random_fragment(rng, shape), random_fragment(rng, shape)
    kernel = copied(shape, dtype, 64, of_element(source), of_element(destination))
    body, _ = lowered(kernel)
    is_shuffled = cheapest_shuffles(source, destination, as_dtype(dtype)) is not None
    tiles = any(isinstance(s, Barrier) for s in body)
    assert tiles is not is_shuffled
    check(kernel, numbers(shape, dtype))


def test_transposed_bytes_are_left_to_shared_memory() -> None:
    """Alone, bytes shuffle as slowly as words, but sixteen of them are one access of memory."""
    rows = Layout((Axis.of("reg", 32), Axis.of("lane", 32), Axis.of("warp", 1)), tile_axes((32, 32)), tuple(1 << d for d in (5, 6, 7, 8, 9, 0, 1, 2, 3, 4)))
    columns = Layout(rows.ins, rows.outs, tuple(1 << d for d in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)))
    assert cheapest_shuffles(rows, columns, as_dtype("float32")) is not None
    assert cheapest_shuffles(rows, columns, as_dtype("int8")) is None
    assert cheapest_shuffles(rows, rows, as_dtype("int4")) is None


@needs_nvrtc
@pytest.mark.parametrize("dtype", ["int8", "float16", "float32", "float64"])
def test_arrays_stay_in_registers(dtype: str) -> None:
    kernel = tilewright.compile(copied((8, 16), dtype, 32, by_rows, by_columns), target="sm_90a")
    assert "__shfl" in kernel.get_kernel_source()
    (resources,) = kernel.resources("sm_90a")
    assert resources.stack_bytes == 0


def test_views_are_arrays_of_the_thread() -> None:
    (launch,) = lower_to_threads(copied((8, 16), "float16", 32, by_rows, by_columns).program, SM_80).program.launches
    assert all(b.scope is Scope.LOCAL for b in launch.buffers if b.source is not None)
