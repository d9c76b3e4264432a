"""T.PersistentTileScheduler: every tile once, in the order of panels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind


@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 5), (8, 8), (3, 10)])
@pytest.mark.parametrize("panel", [1, 3, 8])
@pytest.mark.parametrize("is_column_major", [True, False])
def test_each_tile_is_visited_once(m: int, n: int, panel: int, is_column_major: bool) -> None:
    @T.prim_func
    def main(A: T.Tensor((m, n), "int32"), Turns: T.Tensor((4,), "int32")):
        with T.Kernel(4, threads=1) as worker:
            tiles = T.PersistentTileScheduler(m, n, swizzle_size=panel, column_major=is_column_major)
            tiles.init(worker)
            while tiles.valid():
                A[tiles.m_idx, tiles.n_idx] += tiles.linear_idx + 1
                tiles.next_tile()
            Turns[worker] = tiles.current_iter

    found = run(main, A=np.zeros((m, n), np.int32), Turns=np.zeros(4, np.int32))
    assert sorted(found["A"].ravel()) == list(range(1, m * n + 1))
    assert found["Turns"].tolist() == [len(range(w, m * n, 4)) for w in range(4)]
    along = found["A"] if is_column_major else found["A"].T
    # The first panel holds the first tiles, row by row.
    width = min(panel, along.shape[1])
    np.testing.assert_array_equal(along[:, :width].ravel(), 1 + np.arange(along.shape[0] * width))


def test_sizes_of_the_run_and_fewer_workers() -> None:
    @T.prim_func
    def main(A: T.Tensor((T.dynamic("m"), T.dynamic("n")), "int32")):
        with T.Kernel(6, threads=1) as block:
            tiles = T.PersistentTileScheduler(A.shape[0], A.shape[1], cluster_size=2, name="work")
            tiles.init(block // 2)
            while tiles.valid():
                T.atomic_add(A[tiles.m_idx, tiles.n_idx], 1)
                tiles.next_tile()

    assert (run(main, A=np.zeros((5, 9), np.int32))["A"] == 2).all()


def test_coordinates_alone() -> None:
    @T.prim_func
    def main(A: T.Tensor((12, 2), "int32")):
        with T.Kernel(1):
            tiles = T.PersistentTileScheduler(3, 4, 1, stateful=False)
            for i in T.serial(12):
                m, n = tiles.coord(i)
                A[i, 0] = m
                A[i, 1] = n

    np.testing.assert_array_equal(run(main, A=np.zeros((12, 2), np.int32))["A"], [[i % 3, i // 3] for i in range(12)])


def trace(use: Any) -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "int32")):
        with T.Kernel(1):
            use()
            A[0] = 1


@pytest.mark.parametrize(
    "use",
    [
        lambda: T.PersistentTileScheduler(3, 4, swizzle_size=0),
        lambda: T.PersistentTileScheduler(3, 4, cluster_size="2"),
        lambda: T.PersistentTileScheduler(3, 4, stateful=False).init(0),
    ],
)
def test_what_makes_no_scheduler_is_refused(use: Any) -> None:
    with refused(Kind.OPTION_VALUE, "T.PersistentTileScheduler"):
        trace(use)
