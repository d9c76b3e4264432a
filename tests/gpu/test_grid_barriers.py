"""Blocks that wait for each other inside a launch, on hardware."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright
from tests.execution import refused
from tests.gpu.device import needs_gpu
from tests.language.test_grid_barriers import neighbours, neighbours_in_numpy
from tilewright.errors import Kind
from tilewright.runtime.cuda_driver import find_driver

torch = pytest.importorskip("torch")
pytestmark = needs_gpu


def test_blocks_meet_in_every_turn_of_a_loop() -> None:
    """As many blocks as multiprocessors and more; again and again, which would show a count that does not begin at zero."""
    kernel = tilewright.compile(neighbours, target="cuda")
    for blocks in (1, 5, find_driver().devices()[0].multiprocessors * 2):
        a = torch.randint(-9, 9, (blocks, 64), dtype=torch.int32, device="cuda")
        for steps in (0, 1, 20, 20):
            b = torch.zeros_like(a)
            kernel(a, steps, b)
            np.testing.assert_array_equal(b.cpu().numpy(), neighbours_in_numpy(a.cpu().numpy(), steps))
    assert kernel._plan._fast is not None, kernel._plan.slow_because


def test_launches_on_two_streams_do_not_share_a_count() -> None:
    kernel = tilewright.compile(neighbours, target="cuda")
    streams = [torch.cuda.Stream() for _ in range(2)]
    given = [torch.randint(-9, 9, (16, 64), dtype=torch.int32, device="cuda") for _ in streams]
    kernel(given[0], 1, torch.zeros_like(given[0]))
    torch.cuda.synchronize()
    results = []
    for _ in range(20):
        for stream, a in zip(streams, given, strict=True):
            with torch.cuda.stream(stream):
                results.append((a, torch.zeros_like(a)))
                kernel(a, 12, results[-1][1])
    torch.cuda.synchronize()
    for a, b in results:
        np.testing.assert_array_equal(b.cpu().numpy(), neighbours_in_numpy(a.cpu().numpy(), 12))


def test_a_graph_holds_the_launch_and_the_count() -> None:
    kernel = tilewright.compile(neighbours, target="cuda")
    a, b = torch.randint(-9, 9, (8, 64), dtype=torch.int32, device="cuda"), torch.zeros(8, 64, dtype=torch.int32, device="cuda")
    kernel(a, 3, b)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kernel(a, 3, b)
    for _ in range(3):
        b.zero_()
        graph.replay()
        torch.cuda.synchronize()
        np.testing.assert_array_equal(b.cpu().numpy(), neighbours_in_numpy(a.cpu().numpy(), 3))


def test_a_grid_without_room_is_refused_and_leaves_the_gpu_usable() -> None:
    kernel = tilewright.compile(neighbours, target="cuda")
    a = torch.zeros(100_000, 64, dtype=torch.int32, device="cuda")
    with refused(Kind.GRID_EXTENT, "have room", torch.cuda.get_device_name()):
        kernel(a, 2, torch.zeros_like(a))
    b = torch.zeros_like(a[:4])
    kernel(a[:4], 2, b)
    torch.cuda.synchronize()
    assert (b == 0).all()
