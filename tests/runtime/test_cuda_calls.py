"""Calls of GPU programs, against a driver that records and kernels in Python."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, refused
from tests.runtime.gpu_programs import array_at, n, plan_of, scale, scaled, staged
from tests.runtime.mock_cupy import mock_cupy, on_gpu
from tests.runtime.mock_driver import H100, MockDriver, MockKernel
from tilewright.errors import Kind
from tilewright.runtime import cuda_tensors
from tilewright.runtime.cuda_driver import NoCudaError, use_driver


@T.prim_func
def checked(A: T.Tensor((n,), "float32")):
    with T.Kernel(n, threads=32) as bx:
        T.device_assert(A[bx] >= 0, "no negative numbers")


@pytest.fixture
def driver() -> Iterator[MockDriver]:
    made = MockDriver(H100, replace(H100, ordinal=1), kernels={"k0": MockKernel(5, scaled)})
    with use_driver(made), mock_cupy():
        yield made


def test_inputs_outputs_symbols_and_scalars_reach_the_kernel(driver: MockDriver) -> None:
    a, b = on_gpu(integers((10, 8))), on_gpu(np.zeros((10, 8), np.float32))
    assert plan_of(scale)(a, 2.5, b) is None
    np.testing.assert_array_equal(b.array, a.array * 2.5)
    (launch,) = driver.launches
    assert (launch.grid, launch.block, launch.words[3], launch.stream) == ((3, 1, 1), (128, 1, 1), 10, 0)


def test_outputs_come_from_the_callers_allocator_on_its_device(driver: MockDriver) -> None:
    with mock_cupy() as cupy:
        a = on_gpu(integers((10, 8)), 1)
        b = plan_of(scale, outputs=(2,))(a, 2.0)
        assert type(b) is cupy.ndarray and b.device.id == 1 and cupy.allocated == [((10, 8), 1, 0)]
        np.testing.assert_array_equal(b.array, a.array * 2)
    assert driver.launches[0].context == 0x101 and driver.context == 0x100


def test_nothing_is_launched_for_nothing(driver: MockDriver) -> None:
    plan_of(scale)(on_gpu(np.zeros((0, 8), np.float32)), 1.0, on_gpu(np.zeros((0, 8), np.float32)))
    assert driver.launches == []


def test_streams(driver: MockDriver) -> None:
    with mock_cupy() as cupy:
        a, plan = on_gpu(integers((4, 8))), plan_of(scale, outputs=(2,))
        with cupy.cuda.ExternalStream(55):
            plan(a, 1.0)
        plan(a, 1.0, stream=SimpleNamespace(ptr=66))
        plan(a, 1.0, stream=77)
        assert [launch.stream for launch in driver.launches] == [55, 66, 77]
        assert [stream for _, _, stream in cupy.allocated] == [55, 66, 77] and cupy.state == {"device": 0, 0: 0, 1: 0, 2: 0}


def test_every_device_has_a_current_stream_of_its_own(driver: MockDriver) -> None:
    with mock_cupy() as cupy:
        plan, bound = plan_of(scale, outputs=(2,)), plan_of(scale, outputs=(2,)).bind(on_gpu(integers((4, 8)), 1), 2.0)
        with cupy.cuda.ExternalStream(55, 0), cupy.cuda.ExternalStream(66, 1):
            for ordinal in (0, 1, 1, 0):
                a = on_gpu(integers((4, 8)), ordinal)
                b = plan(a, 2.0)
                assert b.device.id == ordinal
                np.testing.assert_array_equal(b.array, a.array * 2)
            bound()
            plan(on_gpu(integers((4, 8)), 1), 1.0, stream=77)
    assert [(launch.context, launch.stream) for launch in driver.launches] == [(0x100, 55), (0x101, 66), (0x101, 66), (0x100, 55), (0x101, 66), (0x101, 77)]
    assert [(device, stream) for _, device, stream in cupy.allocated] == [(1, 0), (0, 55), (1, 66), (1, 66), (0, 55), (1, 77)]
    assert driver.context == 0x100 and driver.stack == []


def test_a_call_without_tensors_is_for_the_device_that_is_current_then(driver: MockDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_tensors, "torch_framework", lambda: None)

    @T.prim_func
    def filled(value: T.float32, B: T.Tensor((8,), "float32")):
        with T.Kernel(1, threads=32):
            B[0] = value

    driver.kernels = {"k0": MockKernel(3)}
    with mock_cupy() as cupy:
        plan = plan_of(filled, outputs=(1,))
        for ordinal in (0, 1, 0):
            with cupy.cuda.Device(ordinal):
                assert plan(1.0).device.id == ordinal
    assert [launch.context for launch in driver.launches] == [0x100, 0x101, 0x100]


def test_a_tensor_given_for_a_pointer_says_the_device(driver: MockDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_tensors, "torch_framework", lambda: None)

    @T.prim_func
    def through(p: T.ptr, B: T.Tensor((8,), "float32")):
        A = T.make_tensor(p, (8,), "float32")
        with T.Kernel(1, threads=32):
            B[0] = A[0]

    driver.kernels = {"k0": MockKernel(3)}
    plan = plan_of(through, outputs=(1,))
    for ordinal in (0, 1):
        assert plan(on_gpu(integers((8,)), ordinal)).device.id == ordinal
    assert [launch.context for launch in driver.launches] == [0x100, 0x101]
    with refused(Kind.ARGUMENT_DEVICE, "p is on cuda:0", "B is on cuda:1"):
        plan_of(through)(on_gpu(integers((8,))), on_gpu(integers((8,)), 1))


def test_a_module_is_loaded_once_per_device_and_never_again(driver: MockDriver) -> None:
    for plan in (plan_of(scale, outputs=(2,)), plan_of(scale, outputs=(2,))):
        for ordinal in (0, 1, 0):
            plan(on_gpu(integers((4, 8)), ordinal), 1.0)
    assert [(c[0], c[2]) for c in driver.calls] == [("load_module", 0x100), ("load_module", 0x101)]


def test_shared_memory_and_clusters_beyond_the_default_are_asked_for(driver: MockDriver) -> None:
    a = on_gpu(integers((4, 8)))
    plan_of(scale, (2,), shared_bytes=48 * 1024)(a, 1.0)
    assert [c[0] for c in driver.calls] == ["load_module"]
    plan_of(scale, (2,), shared_bytes=100_000, cluster=(16, 1, 1))(a, 1.0)
    assert driver.calls[1:] == [("allow_shared_memory", "k0", 100_000), ("allow_cluster", "k0")]
    assert driver.launches[-1].shared_bytes == 100_000 and driver.launches[-1].cluster == (16, 1, 1)
    with refused(Kind.GPU_ERROR, "300000 bytes of shared memory", "Mock H100", "232448"):
        plan_of(scale, (2,), shared_bytes=300_000)(a, 1.0)


def test_several_launches_share_a_workspace(driver: MockDriver) -> None:
    seen: list[tuple[int, ...]] = []
    driver.kernels |= {"k0": MockKernel(5, seen.append), "k1": MockKernel(5, seen.append)}
    with mock_cupy() as cupy:
        plan_of(staged)(on_gpu(integers((6,))), on_gpu(integers((6,))))
        assert [shape for shape, _, _ in cupy.allocated] == [(64,)]
    assert [launch.kernel for launch in driver.launches] == ["k0", "k1"] and seen[0] == seen[1] and seen[0][2] % 16 == 0 and seen[0][3] == 6


def test_a_bound_call_is_a_launch_and_nothing_else(driver: MockDriver) -> None:
    with mock_cupy() as cupy:
        a = on_gpu(integers((10, 8)))
        bound = plan_of(scale, outputs=(2,)).bind(a, 3.0)
        assert driver.launches == [] and len(cupy.allocated) == 1
        first = bound()
        np.testing.assert_array_equal(first.array, a.array * 3)
        a.array[...] = 1
        assert bound() is first is bound.outputs and len(cupy.allocated) == 1 and len(driver.launches) == 2
        assert (first.array == 3).all()
        assert plan_of(scale, outputs=(2,)).bind(a, 3.0, stream=9)() is not None and driver.launches[-1].stream == 9


@pytest.mark.parametrize(
    ("arguments", "kind", "parts"),
    [
        (lambda: (np.zeros((4, 8), np.float32), 1.0, on_gpu(np.zeros((4, 8), np.float32))), Kind.ARGUMENT_DEVICE, ("A is on the CPU", "A.cuda()")),
        (lambda: (on_gpu(integers((4, 8))), 1.0, on_gpu(integers((4, 8)), 1)), Kind.ARGUMENT_DEVICE, ("A is on cuda:0", "B is on cuda:1")),
        (lambda: (on_gpu(integers((4, 8), np.float16)), 1.0, on_gpu(integers((4, 8)))), Kind.ARGUMENT_DTYPE, ("A is float16",)),
        (lambda: (on_gpu(integers((4, 7))), 1.0, on_gpu(integers((4, 8)))), Kind.ARGUMENT_SHAPE, ("dimension 1 of A is 7",)),
        (lambda: (on_gpu(integers((4, 8))), 1.0, on_gpu(integers((5, 8)))), Kind.ARGUMENT_SYMBOL, ("n is 4 in A but 5 in B",)),
        (lambda: (on_gpu(integers((8,))), 1.0, on_gpu(integers((4, 8)))), Kind.ARGUMENT_RANK, ("A has 1 dimension",)),
        (lambda: (on_gpu(integers((4, 8)), past_bytes=4), 1.0, on_gpu(integers((4, 8)))), Kind.ARGUMENT_ALIGNMENT, ("4 bytes past a multiple of 16",)),
        (lambda: (on_gpu(integers((4, 8))), "x", on_gpu(integers((4, 8)))), Kind.ARGUMENT_SCALAR, ("factor",)),
        (lambda: (on_gpu(integers((4, 8))), 1.0), Kind.ARGUMENT_COUNT, ("B is missing",)),
        (lambda: (on_gpu(integers((4, 8))), 1.0, [1.0]), Kind.ARGUMENT_KIND, ("B is a list", "cupy array")),
    ],
)
def test_arguments_are_refused_as_on_the_cpu(driver: MockDriver, arguments: Any, kind: Kind, parts: tuple[str, ...]) -> None:
    with refused(kind, *parts):
        plan_of(scale)(*arguments())
    assert driver.launches == []


def test_overlap_is_found_by_address(driver: MockDriver) -> None:
    a = on_gpu(integers((4, 8)))
    with refused(Kind.ARGUMENT_OVERLAP, "share memory"):
        plan_of(scale)(a, 1.0, a)


def test_nothing_is_loaded_while_a_graph_is_captured(driver: MockDriver) -> None:
    a, plan = on_gpu(integers((4, 8))), plan_of(scale, outputs=(2,))
    driver.capturing = True
    with refused(Kind.GRAPH_CAPTURE, "scale was loaded", "before the capture"):
        plan(a, 1.0)
    driver.capturing = False
    plan(a, 1.0)
    driver.capturing = True
    plan(a, 1.0)
    assert len(driver.launches) == 2


def test_errors_of_a_launch_name_the_kernel(driver: MockDriver) -> None:
    driver.launch_error = 700
    with refused(Kind.GPU_ERROR, "launching scale gave CUDA_ERROR_ILLEGAL_ADDRESS"):
        plan_of(scale, outputs=(2,))(on_gpu(integers((4, 8))), 1.0)


def test_a_grid_that_is_too_large_is_said_so(driver: MockDriver) -> None:
    @T.prim_func
    def tall(A: T.Tensor((n, 4), "float32")):
        with T.Kernel(1, n, threads=32) as (bx, by):
            A[by, 0] = 1

    with refused(Kind.GRID_EXTENT, "the grid (1, n) of tall", "65535"):
        plan_of(tall)(on_gpu(np.zeros((70000, 4), np.float32)))


def test_a_failed_assert_is_raised_by_its_call_and_only_by_it(driver: MockDriver) -> None:
    def check(words: tuple[int, ...]) -> None:
        if (array_at(words[0], (words[1],), np.float32) < 0).any():
            ctypes.c_int32.from_address(words[2]).value = 1

    driver.kernels = {"k0": MockKernel(3, check)}
    plan = plan_of(checked)
    good, bad = on_gpu(np.ones(5, np.float32)), on_gpu(-np.ones(5, np.float32))
    plan(good)
    with refused(Kind.DEVICE_ASSERT, "no negative numbers"):
        plan(bad)
    plan(good)
    driver.capturing = True
    plan(bad)  # a graph cannot be waited for
    driver.capturing = False
    with refused(Kind.DEVICE_ASSERT, "no negative numbers"):
        plan(good)
    plan(good)


def test_without_a_gpu_a_call_says_so() -> None:
    with use_driver(NoCudaError("no NVIDIA driver was found", "install it")), mock_cupy(), refused(Kind.GPU_MISSING, "a call of scale"):
        plan_of(scale)(on_gpu(integers((4, 8))), 1.0, on_gpu(integers((4, 8))))


@T.prim_func
def waiting(A: T.Tensor((n,), "float32"), B: T.Tensor((n,), "float32")):
    with T.Kernel(n, threads=256) as b:
        for _ in T.serial(3):
            B[b] = A[b]
            T.sync_grid()
            A[b] = B[(b + 1) % n]


def test_blocks_that_wait_for_each_other_are_counted_from_zero_and_run_at_the_same_time(driver: MockDriver) -> None:
    driver.kernels = {"k0": MockKernel(5, lambda words: ctypes.c_uint64.from_address(words[2]).__setattr__("value", 77))}
    plan, a, b = plan_of(waiting), on_gpu(integers((6,))), on_gpu(integers((6,)))
    for number in range(2):
        plan(a, b)
        launch, (_, address, value, words, stream) = driver.launches[number], [c for c in driver.calls if c[0] == "memset"][number]
        assert launch.is_cooperative and launch.grid == (6, 1, 1) and (address, value, words, stream) == (launch.words[2], 0, 2, launch.stream)
    plan_of(waiting, cluster=(2, 1, 1))(a, b)
    assert driver.launches[-1].is_cooperative and driver.launches[-1].cluster == (2, 1, 1)


def test_more_blocks_than_have_room_cannot_wait_for_each_other(driver: MockDriver) -> None:
    driver.kernels, driver.launch_error = {"k0": MockKernel(5)}, 720
    with refused(Kind.GRID_EXTENT, "the grid (n)", "Mock H100", "1056 have room", "each of 132 multiprocessors has room for 8", "at most 1056 blocks"):
        plan_of(waiting)(on_gpu(integers((5000,))), on_gpu(integers((5000,))))
