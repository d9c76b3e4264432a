"""Buffers and regions: indexing against numpy, slicing, aliases of aliases, and the diagnostics of misuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.execution import refused
from tests.ir.test_constants import run
from tilewright import dtypes
from tilewright.errors import Kind, Span
from tilewright.ir.buffer import Buffer, Region, Scope, difference, format_shape, whole
from tilewright.ir.expr import Expr, Op, const, var

HERE = Span("kernel.py", 1)
I, J, K = var("i"), var("j"), var("k")


def tile(*shape: Any, scope: Scope = Scope.SHARED, dtype: dtypes.DType = dtypes.float32, **options: Any) -> Buffer:
    return Buffer("A", dtype, shape, scope, HERE, **options)


def place(node: Expr | Region) -> tuple[int, ...]:
    """The constant indices of an element, or the starts of a region."""
    return tuple(e.value for e in (node.args if isinstance(node, Expr) else node.starts))


def keys(extent: int) -> st.SearchStrategy[Any]:
    slices = st.tuples(st.integers(0, extent - 1), st.integers(1, extent)).map(lambda p: slice(p[0], min(p[0] + p[1], extent)))
    return st.one_of(st.integers(-extent, extent - 1), slices, st.just(slice(None)), st.integers(-extent, -1).map(lambda s: slice(s, None)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_keys_mean_what_they_mean_in_numpy(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    numbers = np.arange(np.prod(shape)).reshape(shape)
    key = tuple(data.draw(keys(n)) for n in shape)
    wanted = numbers[key]
    found = tile(*shape)[key]
    if isinstance(found, Expr):
        assert numbers[place(found)] == wanted
        return
    assert found.shape == wanted.shape
    box = tuple(slice(s, s + int(n)) for s, n in zip(place(found), found.extents, strict=True))
    np.testing.assert_array_equal(numbers[box].reshape(wanted.shape), wanted)
    inner = tuple(data.draw(keys(n)) for n in wanted.shape)
    again, expected = found[inner], wanted[inner]
    if isinstance(again, Expr):
        assert numbers[place(again)] == expected
    else:
        box = tuple(slice(s, s + int(n)) for s, n in zip(place(again), again.extents, strict=True))
        np.testing.assert_array_equal(numbers[box].reshape(expected.shape), expected)


def test_keys_of_kernel_values() -> None:
    a = tile(64, 8)
    assert str(a[I + 1, 3]) == "A[i + 1, 3]" and a[I, J] is a[I, J]
    region = a[I * 4 : I * 4 + 4, J]
    assert region.extents == (4, 1) and region.shape == (4,) and region.is_slice == (True, False)
    assert a[K * 16 : (K + 1) * 16, :].extents == (16, 8)
    assert str(a[I:J, :].extents[0]) == "j - i" and str(a[I + 2 : J * 2, :].extents[0]) == "-2 + j * 2 - i"
    assert str(region[K]) == "A[i * 4 + k, j]"
    assert str(a[..., 2]) == str(a[:, 2]) and str(a[3, ...]) == str(a[3, :])
    assert a[np.int64(3), np.int32(-1)] is a[3, 7] and a[True, 0].args[0] is const(1)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([I, J, K]), st.integers(-3, 3)), max_size=4),
    st.integers(-9, 9),
    st.lists(st.tuples(st.sampled_from([I, J, K]), st.integers(-3, 3)), max_size=4),
)
def test_the_length_of_a_slice(first: Any, gap: int, second: Any) -> None:
    start: Any = sum((v * f for v, f in first), const(1))
    stop: Any = sum((v * f for v, f in second), const(gap))
    length = difference(start, stop)
    values = {I: 5, J: -7, K: 11}
    wanted = int(run(stop, values)) - int(run(start, values))
    assert (length if isinstance(length, int) else int(run(length, values))) == wanted
    assert difference(start, start + gap) == gap


def test_symbolic_shapes() -> None:
    n = var("n")
    a = tile(n, 4, scope=Scope.GLOBAL)
    assert (str(a[-1, -1]) == "A[n + -1, 3]" and a[:, 0].extents[0] is n and a[2:, 1].extents[0].op is Op.ADD) or str(a[2:, 1].extents[0])
    assert format_shape(a) == "float32[n, 4]" and whole(a).is_whole and not a[0:4, :].is_whole
    assert [str(s) for s in tile(3, n, 5).element_strides()] == ["5 * n", "5", "1"]
    assert tile(3, 4, given_strides=(9, 2)).element_strides() == (9, 2)
    with pytest.raises(ValueError):
        _ = a.static_shape


def test_tensors_are_not_checked_and_negative_slices_stay_outside() -> None:
    """What lies outside a tensor is guarded when the kernel runs; a slice may begin before it."""
    a = tile(8, scope=Scope.GLOBAL)
    assert place(a[100]) == (100,) and place(a[-1]) == (7,) and place(a[-9]) == (-9,)
    assert (place(a[-2:6]), a[-2:6].extents) == ((-2,), (8,)) and a[4:12].extents == (8,)


def test_views_share_their_storage() -> None:
    a = tile(8)
    view = Buffer("v", dtypes.int8, (32,), Scope.SHARED, HERE, None, a)
    deeper = Buffer("w", dtypes.int8, (4, 8), Scope.SHARED, HERE, None, view)
    assert deeper.storage is a and a.storage is a and a.data is a


def test_identity_and_comparison() -> None:
    a, b, v = tile(8), tile(8), tile(1, scope=Scope.VARIABLE)
    assert a == a and a != b and a in [b, a] and {a: 1}[a] == 1
    assert (v == 3).op is Op.EQ and (v != 3).op is Op.NE and (v == v).op is Op.EQ
    region = a[2:3]
    assert (region == 3).op is Op.EQ and (region != 3).op is Op.NE and region == region and region != a[2:3]


def test_variables_and_single_elements_take_part_in_expressions() -> None:
    v, a = tile(1, scope=Scope.VARIABLE), tile(8)
    assert str(v + 1) == "A[0] + 1.0" and str(2 - v) == "2.0 - A[0]" and (v < 3).dtype == "bool" and v.astype("int8").dtype == "int8" and str(-v) == "-A[0]"
    assert str(a[2:3] * 2) == "A[2] * 2.0" and str(np.float32(2) * v) == "2.0 * A[0]"


def test_texts() -> None:
    a = tile(4, 8, dtype=dtypes.float16)
    assert a.describe() == "the whole shared buffer A (float16[4, 8])" and format_shape(a[1:3, 2]) == "float16[2]" and str(a[1:3, 2]) == "A[1:3, 2]"


S, V, G = tile(4, 8), tile(1, scope=Scope.VARIABLE), tile(4, 8, scope=Scope.GLOBAL)


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (Kind.INDEX_COUNT, lambda: S[0]),
        (Kind.INDEX_COUNT, lambda: S[0, 1, 2]),
        (Kind.INDEX_COUNT, lambda: S[0, 1][2]),
        (Kind.INDEX_RANGE, lambda: S[4, 0]),
        (Kind.INDEX_RANGE, lambda: S[-5, 0]),
        (Kind.REGION_RANGE, lambda: S[2:6, 0]),
        (Kind.SLICE_STEP, lambda: S[0:4:2, 0]),
        (Kind.SLICE_EMPTY, lambda: S[3:3, 0]),
        (Kind.SLICE_EMPTY, lambda: G[3:1, 0]),
        (Kind.INDEX_TYPE, lambda: S[0.5, 0]),
        (Kind.INDEX_TYPE, lambda: S["a", 0]),
        (Kind.INDEX_TYPE, lambda: S[S, 0]),
        (Kind.INDEX_TYPE, lambda: S[S[0, 0], 0]),
        (Kind.INDEX_TYPE, lambda: S[0 : S[0, 0], 0]),
        (Kind.INDEX_TYPE, lambda: S[0:1.5, 0]),
        (Kind.INDEX_RANGE, lambda: S[1:3, :][2, 0]),
        (Kind.BUFFER_CONDITION, lambda: bool(S)),
        (Kind.BUFFER_OPERATOR, lambda: len(S)),
        (Kind.LOOP_ITERABLE, lambda: list(S)),
        (Kind.BUFFER_OPERATOR, lambda: S + 1),
        (Kind.BUFFER_OPERATOR, lambda: 2 * S),
        (Kind.BUFFER_OPERATOR, lambda: S < 1),
        (Kind.BUFFER_OPERATOR, lambda: S @ S),
        (Kind.BUFFER_OPERATOR, lambda: S == 1),
        (Kind.SLICE_VALUE, lambda: S[0:2, 0] + 1),
        (Kind.EXPRESSION_AS_NUMBER, lambda: int(V)),
        (Kind.EXPRESSION_AS_NUMBER, lambda: range(V)),
        (Kind.SLICE_VALUE, lambda: S[0:2, 0] == 3),
        (Kind.NO_BUILDER, lambda: S.__setitem__((0, 0), 1)),
        (Kind.BUFFER_CONDITION, lambda: bool(S[0:2, 0])),
    ],
)
def test_misuse(kind: Kind, use: Any) -> None:
    with refused(kind):
        use()
