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

import ctypes
import functools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable

import llvmlite.binding as llvm

from tilewright.errors import Kind, fail
from tilewright.options import environment
from tilewright.runtime.llvm_jit import initialize_llvm, link_library
from tilewright.runtime.object_cache import cached_object
from tilewright.runtime.pool_code import C_LIBRARY_SYMBOLS, FIRST_WORKER_ARENA, pool_code
from tilewright.runtime.pool_platform import Parking, default_parking, parking_symbols
from tilewright.target.cpu import host_target

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
        self._native = _NativePool(parking)
        # Not __del__: in a garbage cycle the library's own finalizer, which unmaps the code, could run before ours. The registry of
        # finalizers is no garbage and owns the native pool until `close` has run; it also runs it at interpreter exit.
        weakref.finalize(self, _NativePool.close, self._native)
        self.set_thread_count(available_cpu_count() if thread_count is None else thread_count)

    @property
    def parallel_for_address(self) -> int:
        """Address of the native `tw_parallel_for`, constant for the life of the pool."""
        return self._native.address_of(PARALLEL_FOR_SYMBOL)

    @property
    def thread_count(self) -> int:
        """Threads that can work on one launch, the caller included."""
        return self._native.thread_limit.value

    def set_thread_count(self, thread_count: int) -> None:
        """Changes how many threads later launches use; missing threads start with the next launch, surplus ones sleep."""
        if not 1 <= thread_count <= MAX_THREAD_COUNT:
            fail(Kind.OPTION_VALUE, f"the worker pool cannot have {thread_count} threads", because=f"it takes 1 to {MAX_THREAD_COUNT}")
        self._native.set_thread_count(thread_count)

    def close(self) -> None:
        """Stops the workers and frees the scratch memory that is not in use. Harmless to repeat."""
        self._native.close()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _NativePool:
    """The compiled pool with its variables, and the threads inside its code."""

    def __init__(self, parking: Parking | None) -> None:
        machine = _machine_name()
        self.parking = default_parking(machine) if parking is None else parking
        self.library = _link(pool_code(machine, self.parking), (*C_LIBRARY_SYMBOLS, *parking_symbols(self.parking)))
        self.lock = threading.Lock()
        self.threads: list[threading.Thread] = []
        self.is_closed = False
        self.thread_limit, self.spin_limit, self.is_ready = (
            ctypes.c_int32.from_address(self.address_of(name)) for name in ("thread_limit", "spin_limit", "is_ready")
        )
        this = weakref.ref(self)
        self.start_callback = ctypes.CFUNCTYPE(None)(lambda: _if_alive(this, _NativePool.start_missing_workers))
        start_address = ctypes.cast(self.start_callback, ctypes.c_void_p).value
        ctypes.c_void_p.from_address(self.address_of("start_workers")).value = start_address
        self.call("initialize")
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: _if_alive(this, _NativePool.reset_after_fork))

    def address_of(self, symbol: str) -> int:
        address: int = self.library[symbol]
        return address

    def call(self, function: str) -> None:
        ctypes.CFUNCTYPE(None)(self.address_of(function))()

    def set_thread_count(self, thread_count: int) -> None:
        with self.lock:
            usable = 1 if self.is_closed or self.parking is Parking.NONE else thread_count
            # With more threads than processors a spinning thread only keeps a working one from running.
            self.spin_limit.value = SPIN_PAUSES if usable <= available_cpu_count() else 0
            self.thread_limit.value = usable
            if usable - 1 > len(self.threads):
                self.is_ready.value = 0

    def start_missing_workers(self) -> None:
        """Runs inside the first launch that needs workers. Without them (no threads left, interpreter exiting) the launcher does all."""
        with self.lock:
            if self.is_closed:
                return
            old_stack_bytes = threading.stack_size(WORKER_STACK_BYTES)
            try:
                for index in range(len(self.threads), self.thread_limit.value - 1):
                    # The thread owns the library, not this object: code stays until its last worker has returned.
                    name = f"tilewright-worker-{index}"
                    thread = threading.Thread(target=_run_worker, args=(self.library, index), name=name, daemon=True)
                    thread.start()
                    self.threads.append(thread)
            except RuntimeError:
                pass
            finally:
                threading.stack_size(old_stack_bytes)

    def close(self) -> None:
        with self.lock:
            is_first = not self.is_closed
            self.is_closed = True
            self.thread_limit.value = 1
            threads, self.threads = self.threads, []
        if is_first:
            self.call("stop_workers")
            deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
            for thread in threads:
                if thread is not threading.current_thread():
                    thread.join(max(0.0, deadline - time.monotonic()))
        self.call("free_arenas")

    def reset_after_fork(self) -> None:
        self.lock = threading.Lock()  # another thread may have held the old one
        self.threads = []
        self.call("initialize")


def _run_worker(library: llvm.ResourceTracker, index: int) -> None:
    ctypes.CFUNCTYPE(None, ctypes.c_int32)(library["worker_loop"])(FIRST_WORKER_ARENA + index)


def _if_alive(pool: weakref.ref[_NativePool], action: Callable[[_NativePool], None]) -> None:
    if (target := pool()) is not None:
        action(target)


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
    initialize_llvm()
    builder = llvm.JITLibraryBuilder().add_object_img(cached_object(code, host_target())[0])
    for name in imported:
        builder.import_symbol(name, ctypes.cast(getattr(c_library, name), ctypes.c_void_p).value)
    for name in (*_FUNCTIONS, *_VARIABLES):
        builder.export_symbol(name)
    return link_library(builder, "pool")
