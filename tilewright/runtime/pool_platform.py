"""What the worker pool's code needs from the operating system and the processor, as textual LLVM IR (floor 7).

The operating system gives `@wait_while_equal(ptr word, i32 value)`, `@wake(ptr word, i32 thread_count)` and `@initialize_parking()`;
the processor gives `@pause()` and the control half of the floating-point environment.
"""

from __future__ import annotations

import sys
from enum import Enum


class Parking(Enum):
    """How a thread sleeps until a 32-bit word changes."""

    FUTEX = "futex"  # Linux
    PTHREAD = "pthread"  # any other POSIX system: one mutex and one condition variable per pool
    NONE = "none"  # no primitive known: every launch runs on the calling thread


# Source: asm/unistd.h of each architecture.
_FUTEX_SYSCALL_NUMBERS = {"x86_64": 202, "aarch64": 98}

_PARKING_TEXT = {
    # 128 = FUTEX_WAIT_PRIVATE, 129 = FUTEX_WAKE_PRIVATE (linux/futex.h)
    Parking.FUTEX: """
declare i64 @syscall(i64, ...)
define internal void @initialize_parking() {
  ret void
}
define internal void @wait_while_equal(ptr %word, i32 %value) {
  %value64 = zext i32 %value to i64
  %status = call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 128, i64 %value64, ptr null, ptr null, i64 0)
  ret void
}
define internal void @wake(ptr %word, i32 %thread_count) {
  %thread_count64 = zext i32 %thread_count to i64
  %status = call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 129, i64 %thread_count64, ptr null, ptr null, i64 0)
  ret void
}
""",
    # The waker changes the word before it takes the mutex, so a waiter that saw the old value is inside the wait when it is signalled.
    Parking.PTHREAD: """
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
@mutex = internal global [128 x i8] zeroinitializer, align 64
@condition = internal global [128 x i8] zeroinitializer, align 64
define internal void @initialize_parking() {
  %mutex_status = call i32 @pthread_mutex_init(ptr @mutex, ptr null)
  %condition_status = call i32 @pthread_cond_init(ptr @condition, ptr null)
  ret void
}
define internal void @wait_while_equal(ptr %word, i32 %value) {
  %lock_status = call i32 @pthread_mutex_lock(ptr @mutex)
  %now = load atomic i32, ptr %word seq_cst, align 4
  %is_equal = icmp eq i32 %now, %value
  br i1 %is_equal, label %sleep, label %awake
sleep:
  %wait_status = call i32 @pthread_cond_wait(ptr @condition, ptr @mutex)
  br label %awake
awake:
  %unlock_status = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}
define internal void @wake(ptr %word, i32 %thread_count) {
  %lock_status = call i32 @pthread_mutex_lock(ptr @mutex)
  %wake_status = call i32 @pthread_cond_broadcast(ptr @condition)
  %unlock_status = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}
""",
    Parking.NONE: """
define internal void @initialize_parking() {
  ret void
}
define internal void @wait_while_equal(ptr %word, i32 %value) {
  ret void
}
define internal void @wake(ptr %word, i32 %thread_count) {
  ret void
}
""",
}

_PARKING_SYMBOLS = {
    Parking.FUTEX: ("syscall",),
    Parking.PTHREAD: ("pthread_mutex_init", "pthread_mutex_lock", "pthread_mutex_unlock", "pthread_cond_init", "pthread_cond_wait", "pthread_cond_broadcast"),
    Parking.NONE: (),
}

# The control half of the floating-point environment (rounding, flush to zero, exception masks), without the sticky status flags.
_X86_64_TEXT = """
declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define internal void @pause() {
  call void @llvm.x86.sse2.pause()
  ret void
}
define internal i64 @read_float_control() {
  %slot = alloca i32, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %slot)
  %value = load i32, ptr %slot, align 4
  %control = and i32 %value, 65472
  %control64 = zext i32 %control to i64
  ret i64 %control64
}
define internal void @write_float_control(i64 %control64) {
  %slot = alloca i32, align 4
  %control = trunc i64 %control64 to i32
  store i32 %control, ptr %slot, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %slot)
  ret void
}
"""
_AARCH64_TEXT = """
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
declare void @llvm.aarch64.isb(i32)
define internal void @pause() {
  call void @llvm.aarch64.isb(i32 15)
  ret void
}
define internal i64 @read_float_control() {
  %control = call i64 @llvm.aarch64.get.fpcr()
  ret i64 %control
}
define internal void @write_float_control(i64 %control) {
  call void @llvm.aarch64.set.fpcr(i64 %control)
  ret void
}
"""
_OTHER_MACHINE_TEXT = """
define internal void @pause() {
  ret void
}
define internal i64 @read_float_control() {
  ret i64 0
}
define internal void @write_float_control(i64 %control) {
  ret void
}
"""
_MACHINE_TEXT = {"x86_64": _X86_64_TEXT, "aarch64": _AARCH64_TEXT}


def default_parking(machine: str) -> Parking:
    """The best way to sleep on this operating system."""
    if sys.platform == "linux" and machine in _FUTEX_SYSCALL_NUMBERS:
        return Parking.FUTEX
    return Parking.NONE if sys.platform in ("win32", "cygwin", "emscripten", "wasi") else Parking.PTHREAD


def parking_code(parking: Parking, machine: str) -> str:
    """IR definitions of the three sleeping functions."""
    text = _PARKING_TEXT[parking]
    return text.replace("{number}", str(_FUTEX_SYSCALL_NUMBERS[machine])) if parking is Parking.FUTEX else text


def parking_symbols(parking: Parking) -> tuple[str, ...]:
    """The C library functions that `parking_code` calls."""
    return _PARKING_SYMBOLS[parking]


def machine_code(machine: str) -> str:
    """IR definitions of `@pause`, `@read_float_control` and `@write_float_control`; do-nothing ones for a processor without an entry."""
    return _MACHINE_TEXT.get(machine, _OTHER_MACHINE_TEXT)
