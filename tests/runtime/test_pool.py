"""The worker pool runs every task once, whatever launches at the same time, and never outlives or outhangs its process."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import platform
import struct
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator

import llvmlite.binding as llvm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import TileValueError
from tilewright.runtime.pool import PARALLEL_FOR_SYMBOL, Parking, WorkerPool, available_cpu_count, shared_pool

PARALLEL_FOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
TASK = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
PARKINGS = [Parking.FUTEX, Parking.PTHREAD] if sys.platform == "linux" else [Parking.PTHREAD] if os.name == "posix" else [Parking.NONE]
HAS_WORKERS = PARKINGS != [Parking.NONE]
needs_workers = pytest.mark.skipif(not HAS_WORKERS, reason="one thread only on this system")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
WAIT_SECONDS = 60.0
library_numbers = itertools.count()

# A kernel module as the code generator writes it: it declares the pool's function and knows no address.
KERNEL = """
declare void @tw_parallel_for(ptr, ptr, i64, i64, i64)

define internal void @count_task(i64 %begin, i64 %end, ptr %counters, ptr %scratch) {
entry:
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %counter = getelementptr i64, ptr %counters, i64 %i
  %old = atomicrmw add ptr %counter, i64 1 monotonic
  %next = add i64 %i, 1
  %has_more = icmp slt i64 %next, %end
  br i1 %has_more, label %loop, label %done
done:
  ret void
}

define void @count(ptr %counters, i64 %task_count, i64 %chunk, i64 %scratch_bytes, i64 %launch_count) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void @tw_parallel_for(ptr @count_task, ptr %counters, i64 %task_count, i64 %chunk, i64 %scratch_bytes)
  %next = add i64 %i, 1
  %has_more = icmp slt i64 %next, %launch_count
  br i1 %has_more, label %loop, label %done
done:
  ret void
}

define internal void @nested_task(i64 %begin, i64 %end, ptr %counters, ptr %scratch) {
entry:
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %offset = mul i64 %i, 10
  %row = getelementptr i64, ptr %counters, i64 %offset
  call void @tw_parallel_for(ptr @count_task, ptr %row, i64 10, i64 1, i64 100)
  %next = add i64 %i, 1
  %has_more = icmp slt i64 %next, %end
  br i1 %has_more, label %loop, label %done
done:
  ret void
}

define void @count_nested(ptr %counters, i64 %row_count) {
  call void @tw_parallel_for(ptr @nested_task, ptr %counters, i64 %row_count, i64 1, i64 100)
  ret void
}
"""


@pytest.fixture(scope="module")
def compiler() -> llvm.LLJIT:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler()


def pool_of(parking: Parking, thread_count: int) -> Iterator[WorkerPool]:
    with WorkerPool(thread_count, parking=parking) as made:
        yield made


@pytest.fixture(params=PARKINGS, ids=lambda parking: parking.value)
def pool(request: pytest.FixtureRequest) -> Iterator[WorkerPool]:
    yield from pool_of(request.param, 2)


class Kernel:
    """The test kernel linked to one pool."""

    def __init__(self, compiler: llvm.LLJIT, pool: WorkerPool, object_image: bytes | None = None) -> None:
        builder = llvm.JITLibraryBuilder()
        builder = builder.add_ir(KERNEL) if object_image is None else builder.add_object_img(object_image)
        builder.import_symbol(PARALLEL_FOR_SYMBOL, pool.parallel_for_address).export_symbol("count").export_symbol("count_nested")
        self.library = builder.link(compiler, f"test.kernel.{next(library_numbers)}")
        self.pool = pool
        self.count_native = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 4)(self.library["count"])
        self.count_nested_native = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(self.library["count_nested"])

    def count(self, task_count: int, chunk: int = 1, scratch_bytes: int = 0, launch_count: int = 1) -> list[int]:
        """How often each task ran; one more counter on either side catches tasks out of range."""
        counters = (ctypes.c_int64 * (max(task_count, 0) + 2))()
        self.count_native(ctypes.addressof(counters) + 8, task_count, chunk, scratch_bytes, launch_count)
        assert counters[0] == counters[-1] == 0
        return counters[1:-1]


def launch(pool: WorkerPool, task: Callable[[int, int, int], None], task_count: int, chunk: int = 1, scratch_bytes: int = 0) -> None:
    """Runs a Python function (begin, end, scratch address) as the task; an error inside it is raised here."""
    errors: list[BaseException] = []

    def run(begin: int, end: int, _context: int | None, scratch: int | None) -> None:
        try:
            task(begin, end, scratch or 0)
        except BaseException as error:
            errors.append(error)

    native = TASK(run)
    PARALLEL_FOR(pool.parallel_for_address)(ctypes.cast(native, ctypes.c_void_p).value, None, task_count, chunk, scratch_bytes)
    if errors:
        raise errors[0]


def threads_that_meet(pool: WorkerPool, thread_count: int) -> int:
    """Different threads seen in one launch of tasks that wait for one another."""
    barrier = threading.Barrier(thread_count)
    identifiers: list[int] = []

    def task(_begin: int, _end: int, _scratch: int) -> None:
        barrier.wait(WAIT_SECONDS)
        identifiers.append(threading.get_ident())

    launch(pool, task, thread_count)
    return len(set(identifiers))


@pytest.fixture(scope="module", params=PARKINGS, ids=lambda parking: parking.value)
def shared_kernel(request: pytest.FixtureRequest, compiler: llvm.LLJIT) -> Iterator[Kernel]:
    for made in pool_of(request.param, 2):
        yield Kernel(compiler, made)


@settings(max_examples=150, deadline=None)
@given(
    task_count=st.integers(-3, 400),
    chunk=st.integers(-2, 60),
    thread_count=st.integers(1, 4),
    scratch_bytes=st.sampled_from([-1, 0, 1, 5000, 1 << 20]),
    launch_count=st.integers(1, 5),
)
def test_every_task_runs_exactly_once(shared_kernel: Kernel, task_count: int, chunk: int, thread_count: int, scratch_bytes: int, launch_count: int) -> None:
    shared_kernel.pool.set_thread_count(thread_count)
    assert shared_kernel.count(task_count, chunk, scratch_bytes, launch_count) == [launch_count] * max(task_count, 0)


def test_chunks_are_consecutive_and_no_longer_than_asked(pool: WorkerPool) -> None:
    chunks: list[tuple[int, int]] = []
    launch(pool, lambda begin, end, _: chunks.append((begin, end)), 10, chunk=4)
    expected = [(0, 4), (4, 8), (8, 10)] if HAS_WORKERS else [(0, 10)]
    assert sorted(chunks) == expected


def test_one_chunk_or_one_thread_runs_on_the_caller(pool: WorkerPool) -> None:
    calls: list[tuple[int, int, int, int]] = []

    def task(begin: int, end: int, scratch: int) -> None:
        calls.append((begin, end, scratch, threading.get_ident()))

    launch(pool, task, 7, chunk=7)
    pool.set_thread_count(1)
    launch(pool, task, 7, chunk=1)
    assert calls == [(0, 7, 0, threading.get_ident())] * 2


@needs_workers
def test_thread_count_can_change(pool: WorkerPool) -> None:
    for thread_count in (2, 4, 3, 1, 2):
        pool.set_thread_count(thread_count)
        assert pool.thread_count == thread_count
        assert threads_that_meet(pool, thread_count) == thread_count


@pytest.mark.parametrize("thread_count", [0, -1, 5000])
def test_impossible_thread_counts_are_refused(thread_count: int) -> None:
    with pytest.raises(TileValueError, match="option-value"):
        WorkerPool(thread_count)


def test_default_thread_count_is_the_available_processors() -> None:
    with WorkerPool() as pool:
        assert pool.thread_count == (available_cpu_count() if HAS_WORKERS else 1)


def test_a_pool_without_parking_is_serial(compiler: llvm.LLJIT) -> None:
    with WorkerPool(4, parking=Parking.NONE) as pool:
        assert pool.thread_count == 1
        assert Kernel(compiler, pool).count(100, 3) == [1] * 100


def test_twenty_thousand_launches(pool: WorkerPool, compiler: llvm.LLJIT) -> None:
    assert Kernel(compiler, pool).count(3, 1, 64, launch_count=20_000) == [20_000] * 3


def test_launches_from_eight_threads(pool: WorkerPool, compiler: llvm.LLJIT) -> None:
    kernel = Kernel(compiler, pool)
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(kernel.count(100, 3, 1000, launch_count=200))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert results == [[200] * 100] * 8


def test_nested_launches(pool: WorkerPool, compiler: llvm.LLJIT) -> None:
    kernel = Kernel(compiler, pool)
    counters = (ctypes.c_int64 * 500)()
    for _ in range(20):
        kernel.count_nested_native(ctypes.addressof(counters), 50)
    assert counters[:] == [20] * 500


def test_nested_launch_has_its_own_scratch(pool: WorkerPool) -> None:
    pairs: list[tuple[int, int]] = []

    def outer(_begin: int, _end: int, outer_scratch: int) -> None:
        launch(pool, lambda _begin, _end, inner_scratch: pairs.append((outer_scratch, inner_scratch)), 1, scratch_bytes=10)

    launch(pool, outer, 4, scratch_bytes=10)
    assert len(pairs) == 4
    assert all(outer and inner and outer != inner for outer, inner in pairs)


def test_nesting_deeper_than_the_arenas(pool: WorkerPool) -> None:
    addresses: list[int] = []

    def descend(_begin: int, _end: int, scratch: int) -> None:
        addresses.append(scratch)
        if len(addresses) < 300:
            launch(pool, descend, 1, scratch_bytes=10)

    old_limit = sys.getrecursionlimit()
    sys.setrecursionlimit(5000)
    old_stack_bytes = threading.stack_size(256 << 20)
    try:
        thread = threading.Thread(target=launch, args=(pool, descend, 1), kwargs={"scratch_bytes": 10})
        thread.start()
        thread.join(WAIT_SECONDS)
    finally:
        sys.setrecursionlimit(old_limit)
        threading.stack_size(old_stack_bytes)
    assert len(set(addresses)) == 300
    assert all(address % 64 == 0 for address in addresses)


@pytest.mark.parametrize("thread_count", [1, 2])
def test_scratch_is_aligned_kept_and_only_grows(pool: WorkerPool, thread_count: int) -> None:
    pool.set_thread_count(thread_count)
    thread_count = pool.thread_count
    barrier = threading.Barrier(thread_count)

    def addresses_by_thread(scratch_bytes: int) -> dict[int, int]:
        found: dict[int, int] = {}

        def task(_begin: int, _end: int, scratch: int) -> None:
            barrier.wait(WAIT_SECONDS)
            found[threading.get_ident()] = scratch
            ctypes.memset(scratch, 1, scratch_bytes)

        launch(pool, task, thread_count, 1, scratch_bytes)
        return found

    first = addresses_by_thread(1_000_000)
    assert len(set(first.values())) == thread_count
    assert all(address and address % 64 == 0 for address in first.values())
    assert addresses_by_thread(1_000_000) == first
    assert addresses_by_thread(1) == first
    grown = addresses_by_thread(50_000_000)
    assert all(address and address % 64 == 0 for address in grown.values())
    assert addresses_by_thread(1_000_000) == addresses_by_thread(50_000_000) == grown


def test_no_scratch_is_null(pool: WorkerPool) -> None:
    addresses: list[int] = []
    launch(pool, lambda _begin, _end, scratch: addresses.append(scratch), 10)
    assert addresses == [0] * (10 if HAS_WORKERS else 1)


def test_an_object_file_holds_no_address(compiler: llvm.LLJIT) -> None:
    module = llvm.parse_assembly(KERNEL)
    image = llvm.Target.from_default_triple().create_target_machine(jit=True).emit_object(module)
    with WorkerPool(2) as first, WorkerPool(2) as second:
        assert first.parallel_for_address != second.parallel_for_address
        for pool in (first, second):
            assert struct.pack("=Q", pool.parallel_for_address) not in image
            assert Kernel(compiler, pool, image).count(100, 3, launch_count=10) == [10] * 100


FLOAT_CONTROL = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define i32 @get() {
  %slot = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %slot)
  %value = load i32, ptr %slot
  ret i32 %value
}
define void @set(i32 %value) {
  %slot = alloca i32
  store i32 %value, ptr %slot
  call void @llvm.x86.sse.ldmxcsr(ptr %slot)
  ret void
}
"""


@needs_workers
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="reads the x86 control register")
def test_workers_compute_with_the_launchers_float_control(pool: WorkerPool, compiler: llvm.LLJIT) -> None:
    builder = llvm.JITLibraryBuilder().add_ir(FLOAT_CONTROL).export_symbol("get").export_symbol("set")
    library = builder.link(compiler, f"test.float.{next(library_numbers)}")
    get_control = ctypes.CFUNCTYPE(ctypes.c_int32)(library["get"])
    set_control = ctypes.CFUNCTYPE(None, ctypes.c_int32)(library["set"])
    barrier = threading.Barrier(2)

    def controls() -> list[int]:
        found: list[int] = []

        def task(_begin: int, _end: int, _scratch: int) -> None:
            found.append(get_control() & 0xFFC0)
            barrier.wait(WAIT_SECONDS)

        launch(pool, task, 2)
        return found

    default, flush_to_zero = 0x1F80, 0x1F80 | 0x8040
    set_control(flush_to_zero)  # the thread that starts the workers has an unusual environment
    try:
        assert controls() == [flush_to_zero] * 2
    finally:
        set_control(default)
    assert controls() == [default] * 2


def test_launches_still_work_after_close(compiler: llvm.LLJIT) -> None:
    pool = WorkerPool(3)
    kernel = Kernel(compiler, pool)
    assert kernel.count(50, launch_count=10) == [10] * 50
    pool.close()
    pool.close()
    pool.set_thread_count(3)
    assert pool.thread_count == 1
    assert kernel.count(50, 1, 100, launch_count=10) == [10] * 50


def test_a_forgotten_pool_stops_its_threads() -> None:
    pool = WorkerPool(3)
    launch(pool, lambda _begin, _end, _scratch: None, 10)
    threads = list(pool._native.threads)
    assert len(threads) == (2 if HAS_WORKERS else 0)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    assert not any(thread.is_alive() for thread in threads)


def test_the_shared_pool_is_one() -> None:
    assert shared_pool() is shared_pool()


def status_of_fork(body: Callable[[], None]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns about any fork of a process with threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs_fork
def test_the_child_of_a_fork_has_its_own_workers(pool: WorkerPool, compiler: llvm.LLJIT) -> None:
    kernel = Kernel(compiler, pool)
    assert threads_that_meet(pool, 2) == 2

    def grandchild() -> None:
        assert threads_that_meet(pool, 2) == 2

    def child() -> None:
        assert kernel.count(100, 3, 1000, launch_count=100) == [100] * 100
        assert threads_that_meet(pool, 2) == 2
        assert status_of_fork(grandchild) == 0
        pool.close()

    assert status_of_fork(child) == 0
    assert threads_that_meet(pool, 2) == 2


@needs_fork
def test_fork_while_another_thread_launches(pool: WorkerPool, compiler: llvm.LLJIT) -> None:
    kernel = Kernel(compiler, pool)
    is_done = threading.Event()

    def keep_launching() -> None:
        while not is_done.is_set():
            kernel.count(20, 1, 1000, launch_count=100)

    def child() -> None:
        assert kernel.count(100, 3, 1000, launch_count=10) == [10] * 100
        assert threads_that_meet(pool, 2) == 2

    launcher = threading.Thread(target=keep_launching)
    launcher.start()
    try:
        assert [status_of_fork(child) for _ in range(10)] == [0] * 10
    finally:
        is_done.set()
        launcher.join(WAIT_SECONDS)


SCRIPT = """
import ctypes, os, sys, threading, time
from tilewright.runtime.pool import WorkerPool
pool = WorkerPool(3)
run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3)(pool.parallel_for_address)
sleep = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 2)(lambda *_: time.sleep(0.001))
task = ctypes.cast(sleep, ctypes.c_void_p).value
launch = lambda scratch_bytes=100: run(task, None, 12, 1, scratch_bytes)
launch()
"""


def run_script(ending: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    return subprocess.run([sys.executable, "-c", SCRIPT + ending], env=environment, timeout=WAIT_SECONDS, capture_output=True, text=True, check=False)


FOREVER = "def forever():\n    while True: launch()\nthreading.Thread(target=forever, daemon=True).start(); time.sleep(0.05)\n"


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        pytest.param("", 0, id="end of script"),
        pytest.param("sys.exit(3)", 3, id="sys.exit"),
        pytest.param("os._exit(4)", 4, id="os._exit"),
        pytest.param("raise ValueError", 1, id="exception"),
        pytest.param(FOREVER, 0, id="during a launch"),
        pytest.param("import atexit; atexit._run_exitfuncs(); launch()", 0, id="launch after the exit functions"),
        pytest.param("class Late:\n    def __del__(self, launch=launch): launch()\nlate = Late()", 0, id="launch in a late finalizer"),
        pytest.param("del pool, run, launch", 0, id="pool forgotten"),
    ],
)
def test_the_interpreter_exits_cleanly(ending: str, status: int) -> None:
    result = run_script(ending)
    assert (result.returncode, result.stdout) == (status, "")
    assert (result.stderr == "") == (status != 1)


# The collector runs the finalizers of a garbage cycle in the order of its list. A running worker's frame keeps the library in place while a
# collection moves the pool behind it, so from then on the library's own finalizer, which unmaps the code, comes first.
CYCLE = """
import gc
gc.disable()
def use():
    cycle = [WorkerPool(2)]
    cycle.append(cycle)
    cycle_run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3)(cycle[0].parallel_for_address)
    cycle_run(task, None, 12, 1, 100)
    gc.collect()
    cycle[0].close()
use()
gc.collect()
"""


def test_a_closed_pool_in_a_garbage_cycle_never_calls_unmapped_code() -> None:
    result = run_script(CYCLE)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="looks at the signal")
def test_impossible_scratch_aborts_with_a_message() -> None:
    result = run_script("launch(1 << 60)")
    assert result.returncode == -6
    assert "tilewright: kernel scratch memory" in result.stderr
