"""Launches on a real GPU: a kernel written by hand and compiled ones, every kind of argument, streams, graphs. Several devices: test_several_devices.py."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tests.gpu.programs import checked, scale, staged, twice
from tilewright.codegen.cuda.module import CudaModule, KernelLaunch
from tilewright.codegen.llvm.launcher import emit_launcher, launcher_name
from tilewright.codegen.slots import slots_of
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind
from tilewright.ir.expr import const
from tilewright.ir.memory_use import used_parameters
from tilewright.language.function import PrimFunc
from tilewright.runtime.cuda_calls import CudaCallPlan, GpuProgram
from tilewright.runtime.cuda_driver import find_driver
from tilewright.runtime.cuda_modules import KernelNeeds
from tilewright.runtime.llvm_jit import compile_object, load_object
from tilewright.runtime.nvrtc import compile_cubin
from tilewright.target.cpu import host_target
from tilewright.target.nvidia import target_for_capability

torch = pytest.importorskip("torch")


@T.prim_func
def scalars(a: T.int8, b: T.uint16, c: T.int64, d: T.float16, e: T.float64, f: T.bool, Y: T.Tensor((6,), "float64")):
    with T.Kernel(1, threads=32):
        Y[0] = T.cast(a, "float64")
        Y[1] = T.cast(b, "float64")
        Y[2] = T.cast(c, "float64")
        Y[3] = T.cast(d, "float64")
        Y[4] = e
        Y[5] = T.if_then_else(f, 1.0, 0.0)


HAND_WRITTEN = """
extern "C" __global__ void k0(const float* A, float factor, float* B, int rows) {
    extern __shared__ float held[];
    for (int i = threadIdx.x; i < 2048; i += blockDim.x) {
        int row = blockIdx.x * 32 + i / 64;
        if (row < rows) held[i] = A[row * 64 + i % 64];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 2048; i += blockDim.x) {
        int row = blockIdx.x * 32 + i / 64;
        if (row < rows) B[row * 64 + i % 64] = held[i] * factor;
    }
}
"""


def hand_written(prim_func: PrimFunc, source: str, shared_bytes: int) -> CudaCallPlan:
    """The runtime around a kernel that somebody wrote for the parameters of `prim_func`, in the place of the compiled one."""
    program, one = prim_func.program, const(1, as_dtype("int32"))
    slots, launch = slots_of(program), program.launches[0]
    kernel = KernelLaunch("k0", tuple(range(len(slots) - 1)), (*launch.grid, one, one)[:3], launch.threads, shared_bytes, (1, 1, 1), launch)
    target = target_for_capability(find_driver().devices()[0].capability)
    assert target is not None
    text = emit_launcher(program, CudaModule(source, target, slots, (kernel,)), host_target())
    image = compile_cubin(source, target).image
    gpu = GpuProgram(
        program,
        slots,
        lambda symbols: load_object(compile_object(text, host_target()), launcher_name(program), symbols),
        lambda device: image,
        (KernelNeeds("k0", shared_bytes),),
    )
    written, unused = used_parameters(program)
    return CudaCallPlan(gpu, written=written, unused=unused)


@pytest.mark.parametrize("shared_bytes", [8192, 100_000])
def test_a_kernel_written_by_hand(shared_bytes: int) -> None:
    plan = hand_written(scale, HAND_WRITTEN, shared_bytes)
    for rows in (1, 32, 100, 4096):
        a, b = torch.randn(rows, 64, device="cuda"), torch.full((rows, 64), torch.nan, device="cuda")
        plan(a, 2.5, b)
        assert torch.equal(b, a * 2.5)


@pytest.fixture(scope="module")
def kernel() -> Any:
    return tilewright.compile(scale, target="cuda", out_idx=-1)


def test_torch_tensors_take_the_fast_path_after_the_first_call(kernel: Any) -> None:
    for rows in (7, 64, 1000):
        a = torch.randn(rows, 64, device="cuda")
        b = kernel(a, 3.0)
        assert b.device == a.device and b.dtype is torch.float32 and torch.equal(b, a * 3)
    assert kernel._plan._fast is not None, kernel._plan.slow_because
    into = tilewright.compile(scale, target="cuda")
    a, b = torch.randn(64, 64, device="cuda"), torch.empty(64, 64, device="cuda")
    for _ in range(3):
        b.zero_()
        assert into(a, 2.0, b) is None and torch.equal(b, a * 2)
    assert into._plan._bare_stub is not None, into._plan.slow_because


def test_no_rows_are_no_launch(kernel: Any) -> None:
    assert kernel(torch.zeros(0, 64, device="cuda"), 1.0).shape == (0, 64)


def test_arrays_of_cupy(kernel: Any) -> None:
    cupy = pytest.importorskip("cupy")
    a = cupy.random.standard_normal((100, 64), cupy.float32)
    b = kernel(a, 2.0)
    assert type(b) is cupy.ndarray
    cupy.testing.assert_array_equal(b, a * 2)


def test_objects_with_the_cuda_array_interface_and_with_dlpack(kernel: Any) -> None:
    tensor = torch.randn(100, 64, device="cuda")

    class Interface:
        @property
        def __cuda_array_interface__(self) -> Any:
            return tensor.__cuda_array_interface__

    class DLPack:
        def __dlpack__(self, **options: Any) -> Any:
            return tensor.__dlpack__(**{k: v for k, v in options.items() if k == "stream"})

        def __dlpack_device__(self) -> Any:
            return tensor.__dlpack_device__()

    for given in (Interface(), DLPack()):
        assert torch.equal(torch.as_tensor(kernel(given, 2.0), device="cuda"), tensor * 2)


def test_scalars_of_every_width() -> None:
    y = torch.zeros(6, dtype=torch.float64, device="cuda")
    tilewright.compile(scalars, target="cuda")(-5, 65535, -(1 << 40), 0.1, 1e-300, True, y)
    assert y.tolist() == [-5, 65535, -(1 << 40), float(np.float16(0.1)), 1e-300, 1]


def test_several_launches_and_a_workspace() -> None:
    kernel = tilewright.compile(staged, target="cuda", out_idx=-1)
    for size in (1, 1000, 1000, 77):
        a = torch.randn(size, device="cuda")
        assert torch.equal(kernel(a), (a.flip(0) + 1) * 2)


def test_the_current_stream_and_a_given_one(kernel: Any) -> None:
    a, stream = torch.randn(4096, 64, device="cuda"), torch.cuda.Stream()
    kernel(a, 1.0)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        b = kernel(a, 2.0)
        done = torch.cuda.Event()
        done.record()
    assert not done.query(), "the kernel did not wait for its stream"
    stream.synchronize()
    assert torch.equal(b, a * 2)
    c = kernel(a, 4.0, stream=stream)
    stream.synchronize()
    assert torch.equal(c, a * 4)


def test_threads_without_a_context(kernel: Any) -> None:
    a, found = torch.randn(100, 64, device="cuda"), []
    kernel(a, 1.0)
    workers = [threading.Thread(target=lambda k=k: found.append((k, kernel(a, float(k))))) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 8 and all(torch.equal(b, a * k) for k, b in found)


def test_graphs(kernel: Any) -> None:
    fresh = tilewright.compile(scale, target="cuda", out_idx=-1)
    a = torch.randn(100, 64, device="cuda")
    kernel(a, 1.0)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        kernel(a, 2.0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        b = kernel(a, 2.0)
        with refused(Kind.GRAPH_CAPTURE, "scale was loaded"):
            fresh(a, 2.0)
        with refused(Kind.GRAPH_CAPTURE, "scale was compiled"):
            tilewright.compile(scale, target="sm_80")
    for _ in range(3):
        a.normal_()
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(b, a * 2)


def test_bound_calls(kernel: Any) -> None:
    a = torch.randn(100, 64, device="cuda")
    bound = kernel.bind(a, 2.0)
    first = bound()
    a.normal_()
    assert bound() is first and torch.equal(first, a * 2)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bound()
    a.normal_()
    graph.replay()
    assert torch.equal(first, a * 2)


def test_arguments_that_do_not_fit(kernel: Any) -> None:
    a = torch.randn(8, 64, device="cuda")
    kernel(a, 1.0)
    with refused(Kind.ARGUMENT_DEVICE, "A is on the CPU"):
        kernel(a.cpu(), 1.0)
    with refused(Kind.ARGUMENT_ALIGNMENT, "4 bytes past a multiple of 16"):
        kernel(torch.randn(8 * 64 + 1, device="cuda")[1:].view(8, 64), 1.0)
    with refused(Kind.ARGUMENT_DTYPE, "float16"):
        kernel(a.half(), 1.0)
    with refused(Kind.ARGUMENT_STRIDES, "not contiguous"):
        kernel(torch.randn(64, 8, device="cuda").t(), 1.0)
    with refused(Kind.ARGUMENT_DEVICE, "cuda:0"):
        tilewright.compile(scale, target="cpu")(a, 1.0, a)


def test_a_failed_assert_is_raised_and_leaves_the_gpu_usable() -> None:
    kernel = tilewright.compile(checked, target="cuda")
    good = torch.ones(1000, device="cuda")
    kernel(good)
    with refused(Kind.DEVICE_ASSERT, "no negative numbers"):
        kernel(-good)
    kernel(good)
    torch.cuda.synchronize()


def test_code_for_an_older_architecture(kernel: Any) -> None:
    a = torch.randn(100, 64, device="cuda")
    assert torch.equal(tilewright.compile(scale, target="sm_80", out_idx=-1)(a, 2.0), a * 2)


def test_eager_functions_follow_their_tensors() -> None:
    a = torch.randn(1000, device="cuda")
    assert torch.equal(twice(a), a * 2) and torch.equal(twice(a.cpu()), a.cpu() * 2)


def test_a_thousand_launches_give_the_same_bits(kernel: Any) -> None:
    a = torch.randn(1000, 64, device="cuda")
    first = kernel(a, 1.7)
    assert all(torch.equal(kernel(a, 1.7), first) for _ in range(1000))
