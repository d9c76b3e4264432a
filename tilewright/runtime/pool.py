"""Which thread runs which task of a CPU kernel: the native worker pool (floor 7).

Generated kernels call one C function for every parallel grid::

    void tw_parallel_for(ptr task, ptr context, i64 task_count, i64 chunk, i64 scratch_bytes)
    void task(i64 begin, i64 end, ptr context, ptr scratch)

A kernel module only *declares* `@tw_parallel_for`. Whoever links it, fresh IR or a cached object file alike, defines the symbol with
`JITLibraryBuilder().import_symbol(PARALLEL_FOR_SYMBOL, pool.parallel_for_address)`: no address ever gets into an object file.

Tasks are handed out `chunk` at a time to the calling thread and the workers. `scratch` is 64-byte aligned memory of at least
`scratch_bytes`, kept between launches, with undefined contents; null when `scratch_bytes` is 0. With one thread, at most one chunk, or
another launch under way (a nested one too), the caller runs all tasks itself. Workers compute with the launcher's floating-point control
word, so rounding and flush-to-zero don't depend on who runs a task. A failed scratch allocation aborts the process.

The workers are Python threads that stay inside a native loop without the GIL. They are started by the first launch that needs them, also
in the child of a fork. Where no way to sleep is known (Windows), a pool has one thread.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import sys
import threading
import time
import weakref

import llvmlite.binding as llvm

from tilewright.errors import Kind, fail
from tilewright.options import environment
from tilewright.runtime.pool_code import C_LIBRARY_SYMBOLS, FIRST_WORKER_ARENA, pool_code
from tilewright.runtime.pool_platform import Parking, default_parking, parking_symbols

__all__ = ["PARALLEL_FOR_SYMBOL", "Parking", "WorkerPool", "available_cpu_count", "shared_pool"]

PARALLEL_FOR_SYMBOL = "tw_parallel_for"
MAX_THREAD_COUNT = 4096
WORKER_STACK_BYTES = 8 << 20
# Pauses before a thread parks: 60 us on Zen 3 (29 ns each, measured), about what waking a parked thread costs there.
SPIN_PAUSES = 2000
STOP_TIMEOUT_SECONDS = 5.0

_FUNCTIONS = (PARALLEL_FOR_SYMBOL, "worker_loop", "stop_workers", "initialize", "free_arenas")
_VARIABLES = ("thread_limit", "spin_limit", "is_ready", "start_workers")


def available_cpu_count() -> int:
    """Processors that this process may run on, at least 1."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerPool:
    """Threads that share the tasks of one launch at a time.

    The code lives as long as the pool: keep the pool alive as long as anything linked to `parallel_for_address`. After `close()`, which
    also runs at interpreter exit, launches still work, on the calling thread.

    Raises `TileValueError` (option-value) for a thread count outside 1 to 4096.
    """

    def __init__(self, thread_count: int | None = None, *, parking: Parking | None = None) -> None:
        machine = _machine_name()
        self._parking = default_parking(machine) if parking is None else parking
        self._library = _link(pool_code(machine, self._parking), (*C_LIBRARY_SYMBOLS, *parking_symbols(self._parking)))
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._thread_limit, self._spin_limit, self._is_ready = (
            ctypes.c_int32.from_address(self._library[name]) for name in ("thread_limit", "spin_limit", "is_ready")
        )
        # The callback must not own the pool: the pool owns it, and neither is visible to the cycle collector through native code.
        this = weakref.ref(self)
        self._start_callback = ctypes.CFUNCTYPE(None)(lambda: _start_workers_of(this))
        start_address = ctypes.cast(self._start_callback, ctypes.c_void_p).value
        ctypes.c_void_p.from_address(self._library["start_workers"]).value = start_address
        self._call("initialize")
        self.set_thread_count(available_cpu_count() if thread_count is None else thread_count)
        self._close_at_exit = functools.partial(_close_pool, this)
        atexit.register(self._close_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=functools.partial(_reset_pool_after_fork, this))

    @property
    def parallel_for_address(self) -> int:
        """Address of the native `tw_parallel_for`, constant for the life of the pool."""
        address: int = self._library[PARALLEL_FOR_SYMBOL]
        return address

    @property
    def thread_count(self) -> int:
        """Threads that can work on one launch, the caller included."""
        return self._thread_limit.value

    def set_thread_count(self, thread_count: int) -> None:
        """Changes how many threads later launches use; missing threads start with the next launch, surplus ones sleep."""
        if not 1 <= thread_count <= MAX_THREAD_COUNT:
            fail(Kind.OPTION_VALUE, f"the worker pool cannot have {thread_count} threads", because=f"it takes 1 to {MAX_THREAD_COUNT}")
        with self._lock:
            usable = 1 if self._is_closed or self._parking is Parking.NONE else thread_count
            # With more threads than processors a spinning thread only keeps a working one from running.
            self._spin_limit.value = SPIN_PAUSES if usable <= available_cpu_count() else 0
            self._thread_limit.value = usable
            if usable - 1 > len(self._threads):
                self._is_ready.value = 0

    def close(self) -> None:
        """Stops the workers and frees the scratch memory that is not in use. Harmless to repeat."""
        with self._lock:
            is_first = not self._is_closed
            self._is_closed = True
            self._thread_limit.value = 1
            threads, self._threads = self._threads, []
        if is_first:
            atexit.unregister(self._close_at_exit)
            self._call("stop_workers")
            deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
            for thread in threads:
                if thread is not threading.current_thread():
                    thread.join(max(0.0, deadline - time.monotonic()))
        self._call("free_arenas")

    def __del__(self) -> None:
        if hasattr(self, "_close_at_exit"):  # else the constructor failed
            self.close()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _call(self, function: str, *arguments: ctypes.c_int32) -> None:
        ctypes.CFUNCTYPE(None, *[type(argument) for argument in arguments])(self._library[function])(*arguments)

    def _start_missing_workers(self) -> None:
        """Runs inside the first launch that needs workers. Without them (no threads left, interpreter exiting) the launcher does all."""
        with self._lock:
            if self._is_closed:
                return
            old_stack_bytes = threading.stack_size(WORKER_STACK_BYTES)
            try:
                for index in range(len(self._threads), self._thread_limit.value - 1):
                    thread = threading.Thread(
                        target=_run_worker, args=(self._library, index), name=f"tilewright-worker-{index}", daemon=True
                    )
                    thread.start()
                    self._threads.append(thread)
            except RuntimeError:
                pass
            finally:
                threading.stack_size(old_stack_bytes)

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()  # another thread may have held the old one
        self._threads = []
        self._call("initialize")


def _run_worker(library: llvm.ResourceTracker, index: int) -> None:
    # Owns the code, not the pool: a pool that nobody uses any more can go, and a worker's code stays until the worker has returned.
    ctypes.CFUNCTYPE(None, ctypes.c_int32)(library["worker_loop"])(FIRST_WORKER_ARENA + index)


def _start_workers_of(pool: weakref.ref[WorkerPool]) -> None:
    if (target := pool()) is not None:
        target._start_missing_workers()


def _close_pool(pool: weakref.ref[WorkerPool]) -> None:
    if (target := pool()) is not None:
        target.close()


def _reset_pool_after_fork(pool: weakref.ref[WorkerPool]) -> None:
    if (target := pool()) is not None:
        target._reset_after_fork()


# A second shared pool would be collected, and its code with it, after somebody had linked to it.
_shared_pool_lock = threading.Lock()


def shared_pool() -> WorkerPool:
    """The pool of this process, created on first use with TILEWRIGHT_THREADS or all available processors."""
    with _shared_pool_lock:
        return _create_shared_pool()


@functools.cache
def _create_shared_pool() -> WorkerPool:
    return WorkerPool(environment().thread_count or None)


def _machine_name() -> str:
    """The processor family as the first part of LLVM's triple names it, with one name for 64-bit ARM."""
    machine: str = llvm.get_process_triple().split("-")[0]
    return "aarch64" if machine == "arm64" else machine


def _link(code: str, imported: tuple[str, ...]) -> llvm.ResourceTracker:
    c_library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    builder = llvm.JITLibraryBuilder().add_ir(code)
    for name in imported:
        builder.import_symbol(name, ctypes.cast(getattr(c_library, name), ctypes.c_void_p).value)
    for name in (*_FUNCTIONS, *_VARIABLES):
        builder.export_symbol(name)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
    return builder.link(llvm.create_lljit_compiler(machine), "tilewright.pool")
