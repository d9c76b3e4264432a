"""The memory that belongs to one call of a kernel: its status word and its workspaces (floor 7)."""

from __future__ import annotations

import ctypes

import numpy as np

from tilewright.runtime.tensors import array_address

ALIGNMENT_BYTES = 64
# What a frame keeps for the next call. Larger workspaces are given back, so that one big call does not hold its memory for ever.
RETAINED_BYTES = 64 << 20


class CallFrame:
    """Owned by one call at a time.

    status_address   of an int32 that is 0 before the call.
    """

    __slots__ = ("_base", "_memory", "_size_bytes", "_status", "status_address")

    def __init__(self) -> None:
        self._status = ctypes.c_int64(0)
        self.status_address = ctypes.addressof(self._status)
        self._memory = np.empty(0, np.uint8)
        self._base = self._size_bytes = 0

    def reset(self) -> None:
        """Makes the frame ready for another call after one that failed."""
        self._status.value = 0

    def workspace(self, size_bytes: int) -> int:
        """The address of at least `size_bytes` of memory with undefined contents, 64-byte aligned. One per call."""
        if size_bytes > self._size_bytes:
            self._memory = np.empty(size_bytes + ALIGNMENT_BYTES, np.uint8)
            address = array_address(self._memory)
            self._base, self._size_bytes = address + -address % ALIGNMENT_BYTES, size_bytes
        return self._base


class FramePool:
    """Frames between calls. Taking and giving back are single operations on a list, so calls of several threads, and calls nested in one thread,
    have frames of their own.
    """

    def __init__(self) -> None:
        self._free: list[CallFrame] = []

    def take(self) -> CallFrame:
        try:
            return self._free.pop()
        except IndexError:
            return CallFrame()

    def give_back(self, frame: CallFrame) -> None:
        if frame._size_bytes <= RETAINED_BYTES:
            self._free.append(frame)


def place_workspaces(sizes_bytes: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Offsets of several workspaces in one stretch of memory, and its size."""
    offsets, end = [], 0
    for size in sizes_bytes:
        offsets.append(end)
        end += -(-max(size, 1) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return tuple(offsets), end
