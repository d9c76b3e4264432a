"""Element accesses of many lanes: the bounds rule, masks, copies that each lane has, and atomics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.execution import refused
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind, Span
from tilewright.execution.memory import Memory, Storage
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.stmt import AtomicKind
from tilewright.reference.access import ElementAccess

SPAN = Span("program.py", 7)
TENSOR = Buffer("tensor", as_dtype("float32"), (2, 3), Scope.GLOBAL, SPAN)
TILE = Buffer("tile", as_dtype("float32"), (6,), Scope.SHARED, SPAN)
LOCAL = Buffer("local", as_dtype("int32"), (2,), Scope.LOCAL, SPAN)
ALL = np.array(True)


def access(shape: tuple[int, ...] = ()) -> ElementAccess:
    memory = Memory(int, lambda address, buffer: pytest.fail("no pointers here"))  # type: ignore[arg-type, return-value]
    memory.bind(TENSOR, Storage(TENSOR.dtype, np.arange(6, dtype=np.float32)))
    memory.bind(TILE, Storage(TILE.dtype, np.arange(6, dtype=np.float32)))
    memory.bind(LOCAL, Storage(LOCAL.dtype, np.array([7, 8], np.int32)))
    made = ElementAccess(memory, None, lambda buffer: np.float32(-9))
    made.shape, made.span = shape, SPAN
    return made


def lanes(count: int) -> Any:
    return np.arange(count)


def test_outside_a_tensor_a_load_gives_the_safe_value_and_a_store_is_left_out() -> None:
    known = access((5,))
    rows, columns = np.array([0, 1, 2, -1, 1]), np.array([2, 2, 0, 0, 3])
    assert known.load(TENSOR, (rows, columns), ALL).tolist() == [2, 5, -9, -9, -9]
    known.store(TENSOR, (rows, columns), np.float32(50) + lanes(5).astype(np.float32), ALL)
    assert known.memory.array(TENSOR).tolist() == [[0, 1, 50], [3, 4, 51]]
    assert known.load(TENSOR, (np.array([9]), np.array([9])), ALL).tolist() == [-9]


def test_outside_a_tile_is_a_mistake_of_lanes_that_take_part() -> None:
    known, index = access((4,)), np.array([0, 6, 2, -1])
    taking_part = np.array([True, False, True, False])
    assert known.load(TILE, (index,), taking_part)[taking_part].tolist() == [0, 2]
    known.store(TILE, (index,), np.float32(1), taking_part)
    for run in (lambda: known.load(TILE, (index,), ALL), lambda: known.store(TILE, (index,), np.float32(1), ALL)):
        with refused(Kind.INDEX_RANGE, "index [6] is outside tile, which is float32[6]"):
            run()


def test_lanes_that_do_not_take_part_write_nothing() -> None:
    known = access((6,))
    known.store(TILE, (lanes(6),), np.full(6, -1, np.float32), lanes(6) % 2 == 0)
    assert known.memory.array(TILE).tolist() == [-1, 1, -1, 3, -1, 5]


def test_each_lane_has_its_own_locals_and_none_stays() -> None:
    known = access()
    before = known.spread((3,), [LOCAL, TILE])
    assert known.load(LOCAL, (np.array(1),), ALL).tolist() == [8, 8, 8]
    known.store(LOCAL, (np.array(1),), lanes(3).astype(np.int32), ALL)
    assert known.load(LOCAL, (np.array(1),), ALL).tolist() == [0, 1, 2] and known.lane_copy(LOCAL, (2,)).tolist() == [7, 2]
    inner = known.spread((2, 3), [LOCAL])
    known.store(LOCAL, (np.array(0),), np.full((2, 3), 5, np.int32), ALL)
    assert known.load(LOCAL, (np.array(0),), ALL).tolist() == [[5] * 3] * 2
    known.unite((3,), inner)
    poisoned = known.load(LOCAL, (np.array(0),), ALL).tolist()
    assert 5 not in poisoned and 7 not in poisoned  # what an inner lane wrote has no value for the outer one
    known.unite((), before)
    assert known.memory.array(LOCAL).tolist() == [poisoned[0]] * 2 and known.shape == ()


def test_inside_a_whole_operation_there_is_one_copy() -> None:
    known = access()
    known.spread((3,), [LOCAL])
    known.store(LOCAL, (np.array(0),), np.array([1, 2, 3], np.int32), ALL)
    with known.collapsed([LOCAL], 1, lambda rows, name: pytest.fail("one lane is asked for")):
        assert known.shape == () and known.memory.array(LOCAL).tolist() == [2, 8]
        known.memory.array(LOCAL)[0] = 9
    assert known.load(LOCAL, (np.array(0),), ALL).tolist() == [1, 9, 3]
    seen = []
    with known.collapsed([LOCAL], None, lambda rows, name: seen.append((name, rows.tolist()))):
        known.memory.array(LOCAL)[...] = 4
    assert seen == [("local", [[1, 8], [9, 8], [3, 8]])] and known.load(LOCAL, (np.array(1),), ALL).tolist() == [4, 4, 4]


def test_atomics_see_one_another() -> None:
    known = access((6,))
    index = np.array([0, 0, 1, 0, 9, 1])
    found = known.update(AtomicKind.ADD, TENSOR, (np.zeros(6, np.int64), index), np.float32(10), np.array([True] * 5 + [False]), 1)
    assert found.tolist() == [0, 10, 1, 20, -9, -9] and known.memory.array(TENSOR)[0].tolist() == [30, 11, 2]


def test_threads_that_write_different_values_race() -> None:
    known = access((4,))
    known.is_in_threads = True
    known.store(TILE, (np.zeros(4, np.int64),), np.full(4, 2, np.float32), ALL)
    with refused(Kind.THREAD_RACE, "threads write different values to one element of tile"):
        known.store(TILE, (np.zeros(4, np.int64),), lanes(4).astype(np.float32), ALL)


def test_vectors_are_loaded_and_stored_whole() -> None:
    pairs = Buffer("pairs", as_dtype("float32x2"), (3,), Scope.GLOBAL, SPAN)
    known = access((4,))
    known.memory.bind(pairs, Storage(pairs.dtype, np.arange(6, dtype=np.float32)))
    assert known.load(pairs, (np.array([2, 0, 1, 3]),), ALL).tolist() == [[4, 5], [0, 1], [2, 3], [-9, -9]]
    known.store(pairs, (np.array([1, 1, 1, 3]),), np.float32([[7, 8]]), ALL)
    assert known.memory.array(pairs)[1].tolist() == [7, 8]
