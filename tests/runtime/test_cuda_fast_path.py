"""The fast path of GPU launches, with torch's CPU tensors in the place of those on a GPU: the layout of a place is all that differs."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

import tilewright.language as T
from tests.runtime.gpu_programs import plan_of, scale, scaled, staged
from tests.runtime.mock_driver import MockDriver, MockKernel
from tilewright.runtime import cuda_calls
from tilewright.runtime.cuda_driver import use_driver
from tilewright.runtime.cuda_fast_path import build_cuda_fast_path
from tilewright.runtime.cuda_modules import LoadedKernels
from tilewright.runtime.framework import Place
from tilewright.runtime.stub import native_stub_obstacle
from tilewright.runtime.torch_layout import STREAM_FUNCTION, TorchLayout, torch_layout
from tilewright.runtime.torch_tensors import TorchTensors, torch_framework

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(native_stub_obstacle() is not None, reason="no native stubs in this process")


class OnCpu(TorchTensors):
    """Allocates where the tests have memory."""

    def allocator(self, shape: tuple[int, ...], dtype: Any, device: str = "cpu") -> Any:
        return super().allocator(shape, dtype, "cpu")


@dataclass
class Bench:
    """A plan whose fast path takes CPU tensors for those of "GPU" -1, which is the index of the CPU."""

    driver: MockDriver
    layout: TorchLayout

    def plan(self, prim_func: Any, outputs: tuple[int, ...] = ()) -> Any:
        plan = plan_of(prim_func, outputs)
        module = self.driver.load_module(b"")
        functions = tuple(self.driver.function(module, f"k{k}") for k in range(len(prim_func.program.launches)))
        loaded = LoadedKernels((1 << 64) - 1, 0x100, functions)
        fast = build_cuda_fast_path(
            prim_func.program, plan._callee, plan._gpu.slots, plan._outputs, plan._code.entry_address, plan._code, loaded, OnCpu(torch), self.layout
        )
        assert fast is not None
        plan._fast, plan._bare_stub = fast, fast.stub if fast.is_bare else None
        return plan


_stream = [0]


@ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p)
def _current_stream(ordinal: int, cell: int) -> int:
    """One for the process, like torch's own: compiled stubs of one text are shared."""
    ctypes.c_uint64.from_address(cell).value = _stream[0]
    return 0


@pytest.fixture
def bench() -> Iterator[Bench]:
    found = torch_layout(Place.CPU)
    assert found is not None
    _stream[0] = 0
    with_stream = replace(found, functions=(*found.functions, (STREAM_FUNCTION, ctypes.cast(_current_stream, ctypes.c_void_p).value or 0)))
    made = Bench(MockDriver(kernels={"k0": MockKernel(5, scaled)}), with_stream)
    with use_driver(made.driver):
        yield made


def test_a_launch_without_python_in_between(bench: Bench) -> None:
    plan, a, b = bench.plan(scale), torch.randn(10, 8), torch.zeros(10, 8)
    _stream[0] = 99
    assert plan(a, 2.0, b) is None and torch.equal(b, a * 2)
    (launch,) = bench.driver.launches
    assert (launch.grid, launch.stream, launch.words[3]) == ((3, 1, 1), 99, 10)


def test_outputs_and_workspaces_are_made_on_the_way(bench: Bench) -> None:
    plan, a = bench.plan(scale, (2,)), torch.randn(6, 8)
    first, second = plan(a, 3.0), plan(a[:2], 1.0)
    assert torch.equal(first, a * 3) and torch.equal(second, a[:2])
    seen: list[tuple[int, ...]] = []
    bench.driver.kernels = {"k0": MockKernel(5, seen.append), "k1": MockKernel(5, seen.append)}
    bench.plan(staged)(torch.zeros(6), torch.zeros(6))
    assert len(seen) == 2 and seen[0] == seen[1] and seen[0][2] % 16 == 0 and seen[0][3] == 6


def test_an_error_of_the_driver_is_raised(bench: Bench) -> None:
    plan = bench.plan(scale)
    bench.driver.launch_error = 1
    with pytest.raises(Exception, match="launching scale gave CUDA_ERROR_INVALID_VALUE"):
        plan(torch.zeros(4, 8), 1.0, torch.zeros(4, 8))


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.zeros(4, 7), 1.0, torch.zeros(4, 8)),
        (torch.zeros(4, 8), 1.0, torch.zeros(5, 8)),
        (torch.zeros(4, 8, dtype=torch.float16), 1.0, torch.zeros(4, 8)),
        (torch.zeros(33)[1:].view(4, 8), 1.0, torch.zeros(4, 8)),
        (torch.zeros(4, 16)[:, :8], 1.0, torch.zeros(4, 8)),
        (torch.zeros(4, 8), "x", torch.zeros(4, 8)),
        (torch.zeros(4, 8), 1.0),
    ],
)
def test_what_the_stub_does_not_take_goes_the_long_way_and_is_checked_there(bench: Bench, arguments: tuple[Any, ...]) -> None:
    """On CPU tensors the long way ends in a message about the device at the latest."""
    from tilewright.errors import TileError

    with pytest.raises(TileError):
        bench.plan(scale)(*arguments)
    assert bench.driver.launches == []


def test_kernels_with_asserts_and_without_tensors_have_none(bench: Bench) -> None:
    @T.prim_func
    def filled(B: T.Tensor((8,), "float32")):
        with T.Kernel(1, threads=32):
            B[0] = 1

    plan = plan_of(filled, (0,))
    loaded = LoadedKernels(0, 0x100, (1,))
    framework = torch_framework()
    assert framework is not None
    assert build_cuda_fast_path(filled.program, plan._callee, plan._gpu.slots, plan._outputs, 1, None, loaded, framework, bench.layout) is None
    assert cuda_calls.torch_layout is torch_layout
