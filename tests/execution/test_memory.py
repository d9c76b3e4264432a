"""Memory of a run in numpy: poison, nibbles, views of every kind over one storage, and addresses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.execution import refused
from tilewright.dtypes import SCALAR_DTYPES, DType, DTypeKind, as_dtype
from tilewright.errors import CompilerBug, Kind, Span
from tilewright.execution.memory import Memory, Storage, bits, pack_nibbles, poison, strided, unpack_nibbles
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const

SPAN = Span("program.py", 3)


def buffer(name: str, shape: tuple[int, ...], dtype: str = "float32", scope: Scope = Scope.SHARED, **options: Any) -> Buffer:
    return Buffer(name, as_dtype(dtype), shape, scope, SPAN, **options)


def memory(pointee: Any = None) -> Memory:
    return Memory(lambda extent: int(extent.value if hasattr(extent, "value") else extent), pointee)


@pytest.mark.parametrize("dtype", [d for d in SCALAR_DTYPES if d.kind is not DTypeKind.HANDLE], ids=str)
def test_poison_is_no_likely_result(dtype: DType) -> None:
    value = poison(dtype)
    assert type(value) is dtype.numpy.type
    if (dtype.is_float and dtype.numpy.kind == "f") or dtype == "bfloat16":
        assert np.isnan(np.float64(value))
    elif not dtype.is_bool:
        assert float(value) not in (0.0, 1.0)


@pytest.mark.parametrize(("dtype", "low", "high"), [("int4", -8, 8), ("uint4", 0, 16)])
@pytest.mark.parametrize("count", [8, 7])
def test_nibbles_there_and_back(dtype: str, low: int, high: int, count: int) -> None:
    element = as_dtype(dtype)
    values = np.random.default_rng(count).integers(low, high, (3, count)).astype(element.numpy)
    packed = pack_nibbles(values)
    assert packed.shape == (3, 4) and packed.dtype == np.uint8 and packed[0, 0] & 0xF == int(values[0, 0]) & 0xF
    np.testing.assert_array_equal(unpack_nibbles(packed, element)[:, :count].astype(np.int32), values.astype(np.int32))


def test_bits_tell_zeros_and_nans_apart() -> None:
    assert bits(np.array([0.0, -0.0], np.float32)).tolist() == [0, 1 << 31]


def test_a_strided_view_writes_through() -> None:
    flat = np.arange(12, dtype=np.float16)
    strided(flat, (2, 3), (12, 2))[1, 2] = -1
    assert flat[8] == -1


def test_a_storage_changes_between_packed_and_plain_elements() -> None:
    storage = Storage(as_dtype("uint8"), np.array([0x21, 0x43], np.uint8))
    nibbles = storage.elements(as_dtype("uint4"))
    assert nibbles.astype(np.int32).tolist() == [1, 2, 3, 4]
    nibbles[3] = 15
    assert storage.elements(as_dtype("uint8")).tolist() == [0x21, 0xF3] and storage.elements(as_dtype("uint16")).tolist() == [0xF321]


def test_fresh_memory_is_poison_and_variables_are_zero() -> None:
    known = memory()
    tile, variable = buffer("tile", (2, 3)), buffer("variable", (1,), "int32", Scope.VARIABLE)
    view = buffer("view", (6,), "int32", source=tile)
    known.allocate([tile, variable, view])
    assert np.isnan(known.array(tile)).all() and known.array(variable).tolist() == [0] and known.array(tile).shape == (2, 3)
    known.array(view)[4] = 0x3F800000
    assert known.array(tile)[1, 1] == 1.0  # the view has no memory of its own
    known.release([tile])
    assert not known.is_bound(tile)
    with pytest.raises(CompilerBug, match="outside the block"):
        known.array(view)


def test_vectors_and_strides() -> None:
    known = memory()
    pairs = buffer("pairs", (4,), "float32x2", Scope.GLOBAL)
    every_third = buffer("column", (4,), scope=Scope.GLOBAL, given_strides=(3,))
    for root, count in ((pairs, 8), (every_third, 10)):
        known.bind(root, Storage(root.dtype, np.arange(count, dtype=np.float32)))
    assert known.array(pairs).shape == (4, 2) and known.array(pairs)[3].tolist() == [6, 7]
    assert known.array(every_third).tolist() == [0, 3, 6, 9]


def test_a_view_that_reaches_too_far_is_refused() -> None:
    known, wide = memory(), buffer("wide", (5,), scope=Scope.GLOBAL, given_strides=(3,))
    known.bind(wide, Storage(wide.dtype, np.zeros(12, np.float32)))
    with refused(Kind.VIEW_SIZE, "wide needs 13 elements, but its memory holds 12"):
        known.array(wide)


def test_a_tensor_that_was_none_may_not_be_touched() -> None:
    absent = buffer("absent", (4,), scope=Scope.GLOBAL)
    assert not memory().is_bound(absent)
    with refused(Kind.ARGUMENT_NONE, "absent was given as None"):
        memory().array(absent)


def test_an_address_means_the_array_that_lies_there() -> None:
    storage = Storage(as_dtype("float32"), np.arange(8, dtype=np.float32))
    asked = []

    def pointee(address: int, root: Buffer) -> tuple[Storage, int]:
        asked.append((address, root.name))
        return storage, 8

    over = buffer("over", (2, 2), scope=Scope.GLOBAL, pointer=const(4096, as_dtype("uint64")))
    assert memory(pointee).array(over).tolist() == [[2, 3], [4, 5]] and asked == [(4096, "over")]
