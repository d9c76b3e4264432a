"""Workspaces and status words belong to one call at a time."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.runtime.recorded_kernels import RecordedKernel, memory, program, tensor, workspace, zeros
from tilewright import dtypes
from tilewright.ir.expr import var
from tilewright.runtime.frames import CallFrame, FramePool, place_workspaces

torch = pytest.importorskip("torch")


def test_places_do_not_overlap() -> None:
    assert place_workspaces(()) == ((), 0)
    assert place_workspaces((1, 0, 64, 65, 3)) == ((0, 64, 128, 192, 320), 384)


def test_a_frame_grows_and_is_reused() -> None:
    pool = FramePool()
    frame = pool.take()
    small = frame.workspace(100)
    assert small % 64 == 0
    assert frame.workspace(50) == small
    assert frame.workspace(10_000) % 64 == 0
    pool.give_back(frame)
    assert pool.take() is frame
    other = pool.take()
    assert isinstance(other, CallFrame)
    assert other.status_address != frame.status_address


@pytest.mark.usefixtures("stubs")
def test_workspaces_are_aligned_and_apart() -> None:
    n = var("n")
    parts = [workspace("P", (n, 3)), workspace("Q", (5,), dtypes.int8), workspace("R", (n * 2,), dtypes.int4)]

    def body(words: list[int]) -> int:
        for address, size in zip(words[1:4], (words[4] * 12, 5, words[4]), strict=True):
            assert address % 64 == 0
            memory(address, size, np.uint8)[...] = size % 251
        for address, size in zip(words[1:4], (words[4] * 12, 5, words[4]), strict=True):
            assert (memory(address, size, np.uint8) == size % 251).all()
        return 0

    kernel = RecordedKernel(program(tensor("X", (n,)), workspaces=parts), body)
    for size in (0, 3, 1000, 20):
        kernel(zeros(size))
        kernel(torch.zeros(size))
    same = [call[1] for call in kernel.calls[4:]]
    assert len(set(same)) == 1, "calls one after the other use the same memory"


@pytest.mark.usefixtures("stubs")
def test_calls_within_calls_and_between_threads_share_nothing() -> None:
    n = var("n")
    depth = threading.local()
    barrier = threading.Barrier(4)
    errors: list[BaseException] = []

    def body(words: list[int]) -> int:
        level = getattr(depth, "level", 0)
        mine = memory(words[2], 8, np.int64)
        mine[...] = threading.get_ident() + level
        if level < 2:
            depth.level = level + 1
            kernel(zeros(3), zeros(3))
            depth.level = level
        if level == 0:
            barrier.wait(30)
        assert (mine == threading.get_ident() + level).all()
        return 0

    kernel = RecordedKernel(program(tensor("X", (n,)), tensor("Y", (n,)), workspaces=[workspace("P", (8,), dtypes.int64)]), body, written=("Y",))

    def run() -> None:
        try:
            for _ in range(3):
                kernel(zeros(3), zeros(3))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert len(kernel.calls) == 4 * 3 * 3


def test_large_workspaces_are_given_back() -> None:
    n = var("n")
    kernel = RecordedKernel(program(tensor("X", (n,)), workspaces=[workspace("P", (n * 1024,))]))
    kernel(zeros(1))
    kernel(zeros(1 << 15))  # 128 MiB, never touched
    kernel(zeros(1))
    assert len({call[1] for call in kernel.calls}) >= 2
