"""One kernel on the GPUs of one machine in turn. Skipped where there are fewer than two of one architecture."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tests.gpu.programs import checked, scale, staged, twice
from tilewright.errors import Kind
from tilewright.runtime.cuda_driver import find_driver

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs")
FIRST, SECOND = "cuda:0", "cuda:1"
IN_TURN = (FIRST, SECOND, SECOND, FIRST, SECOND, FIRST)


@T.prim_func
def filled(value: T.float32, B: T.Tensor((256,), "float32")):
    with T.Kernel(1, threads=128):
        for i in T.Parallel(256):
            B[i] = value


@T.prim_func
def products(A: T.Tensor((256, 256), "float16"), B: T.Tensor((256, 256), "float16"), C: T.Tensor((256, 256), "float32")):
    """More shared memory than a launch has without asking, which is asked for on every device."""
    with T.Kernel(2, 2, threads=128) as (bx, by):
        a, b = T.alloc_shared((128, 64), "float16"), T.alloc_shared((64, 128), "float16")
        c = T.alloc_fragment((128, 128), "float32")
        T.clear(c)
        for k in T.Pipelined(4, num_stages=2):
            T.copy(A[by * 128, k * 64], a)
            T.copy(B[k * 64, bx * 128], b)
            T.gemm(a, b, c)
        T.copy(c, C[by * 128, bx * 128])


@pytest.fixture(autouse=True)
def same_device_afterwards() -> Iterator[None]:
    """Whatever is launched, the thread keeps its device: as torch sees it, and as the driver does."""
    if torch.cuda.get_device_capability(0) != torch.cuda.get_device_capability(1):
        pytest.skip("needs two GPUs of one architecture")
    torch.cuda.set_device(0)
    torch.zeros(1, device=FIRST)
    before = find_driver().current_context()
    yield
    for device in (FIRST, SECOND):
        torch.cuda.synchronize(device)
    assert torch.cuda.current_device() == 0 and find_driver().current_context() == before != 0


@pytest.fixture(scope="module")
def kernel() -> Any:
    return tilewright.compile(scale, target="cuda", out_idx=-1)


def test_calls_in_turn_run_where_their_tensors_are(kernel: Any) -> None:
    for factor, device in enumerate(IN_TURN * 2):
        a = torch.randn(100, 64, device=device)
        b = kernel(a, float(factor))
        assert b.device == a.device and torch.equal(b, a * factor)
        assert torch.cuda.current_device() == 0
    assert {ordinal: path is not None for ordinal, path in kernel._plan._fast_paths.items()} == {0: True, 1: True}, kernel._plan.slow_because


def test_outputs_that_are_arguments(kernel: Any) -> None:
    into = tilewright.compile(scale, target="cuda")
    for device in IN_TURN:
        a, b = torch.randn(64, 64, device=device), torch.zeros(64, 64, device=device)
        assert into(a, 3.0, b) is None and torch.equal(b, a * 3)


@pytest.mark.parametrize("current", [0, 1])
def test_the_current_device_does_not_matter(kernel: Any, current: int) -> None:
    for device in IN_TURN:
        a = torch.randn(100, 64, device=device)
        with torch.cuda.device(current):
            b = kernel(a, 2.0)
            assert torch.cuda.current_device() == current and b.device == a.device
        assert torch.equal(b, a * 2)


def test_a_workspace_and_two_launches() -> None:
    kernel = tilewright.compile(staged, target="cuda", out_idx=-1)
    for device in IN_TURN:
        a = torch.randn(1000, device=device)
        assert torch.equal(kernel(a), (a.flip(0) + 1) * 2)


def test_much_shared_memory_is_asked_for_on_both() -> None:
    kernel = tilewright.compile(products, target="cuda", out_idx=-1)
    for device in IN_TURN:
        a, b = (torch.randint(-3, 4, (256, 256), device=device).half() for _ in range(2))
        assert torch.equal(kernel(a, b), a.float() @ b.float())


def test_tensors_on_two_devices_are_refused(kernel: Any) -> None:
    into = tilewright.compile(scale, target="cuda")
    for first, second in ((FIRST, SECOND), (SECOND, FIRST)):
        a, b = torch.ones(8, 64, device=first), torch.ones(8, 64, device=second)
        for _ in range(2):
            with refused(Kind.ARGUMENT_DEVICE, f"A is on {first}", f"B is on {second}", f"move B to {first}"):
                into(a, 2.0, b)
            into(a, 2.0, torch.empty_like(a))  # the fast path refuses as well
        assert torch.equal(b, torch.ones_like(b))


def test_a_call_without_tensors_is_for_the_current_device() -> None:
    kernel = tilewright.compile(filled, target="cuda", out_idx=-1)
    for ordinal in (0, 1, 0, 1):
        with torch.cuda.device(ordinal):
            b = kernel(float(ordinal + 1))
        assert b.device.index == ordinal and torch.equal(b, torch.full_like(b, ordinal + 1))


def test_launches_wait_for_the_current_stream_of_their_device(kernel: Any) -> None:
    streams = {device: torch.cuda.Stream(device) for device in (FIRST, SECOND)}
    inputs = {device: torch.randn(4096, 64, device=device) for device in streams}
    for device, a in inputs.items():
        kernel(a, 1.0)
        torch.cuda.synchronize(device)
    for device, other in ((SECOND, FIRST), (FIRST, SECOND)):
        with torch.cuda.stream(streams[device]):
            torch.cuda._sleep(100_000_000)
            with torch.cuda.device(other):
                b = kernel(inputs[device], 2.0)
            done = torch.cuda.Event()
            done.record()
        free = kernel(inputs[other], 3.0)  # on the default stream of the other device, which has nothing to wait for
        torch.cuda.current_stream(other).synchronize()
        assert not done.query(), "the kernel did not wait for its stream"
        assert torch.equal(free, inputs[other] * 3)
        streams[device].synchronize()
        assert torch.equal(b, inputs[device] * 2)


def test_a_given_stream_is_one_of_the_tensors_device(kernel: Any) -> None:
    for device in (FIRST, SECOND):
        a, stream = torch.randn(64, 64, device=device), torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        b = kernel(a, 4.0, stream=stream)
        stream.synchronize()
        assert b.device == a.device and torch.equal(b, a * 4)
    a, b = torch.ones(64, 64, device=SECOND), torch.zeros(64, 64, device=SECOND)
    with refused(Kind.GPU_ERROR, "launching scale gave"):
        tilewright.compile(scale, target="cuda")(a, 2.0, b, stream=torch.cuda.Stream(FIRST))
    assert torch.equal(kernel(a, 2.0), a * 2)


def test_bound_calls_keep_their_device(kernel: Any) -> None:
    inputs = {device: torch.randn(100, 64, device=device) for device in (FIRST, SECOND)}
    bound = {device: kernel.bind(a, 2.0) for device, a in inputs.items()}
    for device in IN_TURN:
        inputs[device].normal_()
        b = bound[device]()
        assert b.device == inputs[device].device and torch.equal(b, inputs[device] * 2)
    stream = torch.cuda.Stream(SECOND)
    a = inputs[SECOND]
    torch.cuda.synchronize(SECOND)
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        a.fill_(5)
        b = bound[SECOND]()
        done = torch.cuda.Event()
        done.record()
    assert not done.query(), "the bound call did not wait for the stream that is current"
    stream.synchronize()
    assert torch.equal(b, torch.full_like(b, 10))


def test_graphs_of_each_device(kernel: Any) -> None:
    for device in (SECOND, FIRST):
        a = torch.randn(100, 64, device=device)
        kernel(a, 2.0)
        with torch.cuda.device(device):
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=torch.cuda.Stream()):  # torch's own stream for captures is of the device that captured first
                b = kernel(a, 2.0)
        for _ in range(2):
            a.normal_()
            torch.cuda.synchronize(device)
            graph.replay()
            torch.cuda.synchronize(device)
            assert torch.equal(b, a * 2)


def test_a_thread_for_each_device(kernel: Any) -> None:
    """Threads begin without a context."""
    inputs = {device: torch.randn(1000, 64, device=device) for device in (FIRST, SECOND)}
    for device in inputs:
        torch.cuda.synchronize(device)
    wrong: list[str] = []

    def work(device: str) -> None:
        for factor in range(200):
            b = kernel(inputs[device], float(factor))
            if b.device != inputs[device].device or not torch.equal(b, inputs[device] * factor):
                wrong.append(f"{device} {factor}")

    workers = [threading.Thread(target=work, args=(device,)) for device in (FIRST, SECOND, FIRST, SECOND)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_asserts_of_both_devices_are_told() -> None:
    kernel, found = tilewright.compile(checked, target="cuda"), []
    good = {device: torch.ones(1000, device=device) for device in (FIRST, SECOND)}
    for device in good:
        torch.cuda.synchronize(device)

    def work() -> None:
        """The first call is in a thread without a context: the word for failed asserts needs one."""
        try:
            kernel(good[SECOND])
        except Exception as error:
            found.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert not found
    for device in IN_TURN:
        kernel(good[device])
        with refused(Kind.DEVICE_ASSERT, "no negative numbers"):
            kernel(-good[device])
        kernel(good[device])


def test_objects_with_the_cuda_array_interface_on_another_stream(kernel: Any) -> None:
    for device in (SECOND, FIRST):
        stream = torch.cuda.Stream(device)
        with torch.cuda.stream(stream):
            tensor = torch.zeros(100, 64, device=device)
            torch.cuda._sleep(100_000_000)
            tensor.fill_(3)

        class Interface:
            @property
            def __cuda_array_interface__(self, tensor: Any = tensor, stream: Any = stream) -> Any:
                return {**tensor.__cuda_array_interface__, "stream": stream.cuda_stream}

        b = torch.as_tensor(kernel(Interface(), 2.0))
        torch.cuda.synchronize(device)
        assert b.device == tensor.device and torch.equal(b, torch.full_like(b, 6))


def test_calls_are_timed_on_the_device_that_they_use(kernel: Any) -> None:
    a = torch.randn(1 << 20, 64, device=SECOND)
    ms = kernel.get_profiler().do_bench(input_tensors=[a, 2.0])
    # 512 MiB go through memory, which takes longer than this; two events on the stream of the other device are a few microseconds apart.
    assert ms > 0.05
    assert tilewright.profiler.do_bench(lambda: kernel(a, 2.0), device=SECOND) > 0.05


def test_eager_functions_follow_their_tensors() -> None:
    for device in IN_TURN:
        a = torch.randn(1000, device=device)
        b = twice(a)
        assert b.device == a.device and torch.equal(b, a * 2)
