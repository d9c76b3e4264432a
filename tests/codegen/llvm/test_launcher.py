"""The native code that launches a program's kernels, against a driver that records."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

import tilewright.language as T
from tests.runtime.mock_driver import MockDriver, MockKernel
from tilewright.codegen.cuda.module import CudaModule, KernelLaunch
from tilewright.codegen.llvm.launcher import OVERSIZED_GRID, emit_launcher, launcher_name
from tilewright.codegen.slots import slots_of
from tilewright.dtypes import as_dtype
from tilewright.ir.expr import const
from tilewright.language.function import PrimFunc
from tilewright.runtime.llvm_jit import compile_object, load_object
from tilewright.target.cpu import host_target
from tilewright.target.nvidia import SM_90

n = T.dynamic("n")


@T.prim_func
def two(A: T.Tensor((n,), "float32"), factor: T.float32, B: T.Tensor((n,), "float32")):
    with T.Kernel(T.ceildiv(n, 128), threads=128) as bx:
        for i in T.Parallel(128):
            B[bx * 128 + i] = A[bx * 128 + i] * factor
    with T.Kernel(n, 3, threads=64) as (bx, by):
        B[bx] = B[bx] + by


def launcher(prim_func: PrimFunc, driver: MockDriver, asserts: tuple[Any, ...] = (), cluster: tuple[int, int, int] = (1, 1, 1)) -> Callable[..., int]:
    """The entry as a function of the words of slots, stream, context and functions."""
    program = prim_func.program
    slots = slots_of(program)
    one = const(1, as_dtype("int32"))
    launches = []
    for number, launch in enumerate(program.launches):
        grid = (*launch.grid, one, one, one)[:3]
        launches.append(KernelLaunch(f"k{number}", tuple(reversed(range(len(slots) - 1))), grid, launch.threads, 60000, cluster, launch))
    text = emit_launcher(program, CudaModule("", SM_90, slots, tuple(launches), asserts), host_target())
    code = load_object(compile_object(text, host_target()), launcher_name(program), {k: v for k, v in driver.entry_points().items() if f"@{k}(" in text})
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(code.entry_address)

    def call(*words: int) -> int:
        array = (ctypes.c_uint64 * len(words))(*words)
        return int(function(ctypes.addressof(array)))

    call.code = code  # type: ignore[attr-defined]
    return call


def mock(count: int = 4, **options: Any) -> tuple[MockDriver, list[int]]:
    driver = MockDriver(kernels={"k0": MockKernel(count), "k1": MockKernel(count)}, **options)
    module = driver.load_module(b"")
    return driver, [driver.function(module, "k0"), driver.function(module, "k1")]


def test_every_launch_gets_its_grid_and_its_parameters_in_order() -> None:
    driver, functions = mock()
    assert launcher(two, driver)(0xA000, 0x40000000, 0xB000, 1000, 0, 77, 0x100, *functions) == 0
    first, second = driver.launches
    assert (first.kernel, first.grid, first.block, first.shared_bytes, first.stream) == ("k0", (8, 1, 1), (128, 1, 1), 60000, 77)
    assert (second.kernel, second.grid, second.block) == ("k1", (1000, 3, 1), (64, 1, 1))
    assert first.words == second.words == (1000, 0xB000, 0x40000000, 0xA000)


def test_a_launch_without_blocks_is_skipped() -> None:
    driver, functions = mock()
    assert launcher(two, driver)(0, 0, 0, 0, 0, 0, 0x100, *functions) == 0 and driver.launches == []


def test_a_grid_that_is_too_large_is_refused_by_number() -> None:
    driver, functions = mock()
    assert launcher(two, driver)(0, 0, 0, 1 << 31, 0, 0, 0x100, *functions) == OVERSIZED_GRID - 1
    assert [launch.kernel for launch in driver.launches] == ["k0"]


def test_another_context_is_current_during_the_launch_only() -> None:
    driver, functions = mock()
    call = launcher(two, driver)
    assert call(0, 0, 0, 5, 0, 0, 0x101, *functions) == 0
    assert [launch.context for launch in driver.launches] == [0x101, 0x101] and driver.context == 0x100 and driver.stack == []
    driver.launch_error = 700
    assert call(0, 0, 0, 5, 0, 0, 0x101, *functions) == -700 and driver.context == 0x100 and driver.stack == []


def test_an_error_of_the_driver_ends_the_call() -> None:
    driver, functions = mock()
    driver.launch_error = 1
    assert launcher(two, driver)(0, 0, 0, 5, 0, 0, 0x100, *functions) == -1 and len(driver.launches) == 1


def test_clusters_are_an_attribute() -> None:
    driver, functions = mock()
    assert launcher(two, driver, cluster=(2, 1, 1))(0, 0, 0, 1000, 0, 9, 0x100, *functions) == 0
    assert [(launch.cluster, launch.grid, launch.block, launch.stream) for launch in driver.launches] == [
        ((2, 1, 1), (8, 1, 1), (128, 1, 1), 9),
        ((2, 1, 1), (1000, 3, 1), (64, 1, 1), 9),
    ]


@pytest.mark.parametrize("capturing", [False, True])
def test_a_failed_assert_ends_the_call_unless_a_graph_is_captured(capturing: bool) -> None:
    driver, functions = mock(capturing=capturing)
    status = ctypes.c_int32(0)

    def fail(_: tuple[int, ...]) -> None:
        status.value = 1

    driver.kernels["k0"] = MockKernel(4, fail)
    result = launcher(two, driver, asserts=("an assert",))(0, 0, 0, 5, ctypes.addressof(status), 8, 0x100, *functions)
    assert (result, len(driver.launches)) == ((0, 2) if capturing else (1, 1))
    assert driver.calls[1:] == ([] if capturing else [("synchronize", 8)])


def test_the_text_is_deterministic_and_holds_no_address() -> None:
    program = two.program
    texts = [emit_launcher(program, CudaModule("", SM_90, slots_of(program), ()), host_target()) for _ in range(2)]
    assert texts[0] == texts[1]
