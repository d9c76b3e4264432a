"""Conversions against numpy and ml_dtypes, bit for bit."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from tests.codegen.llvm.elementwise import Elementwise
from tilewright.codegen.llvm.convert import convert, from_storage, register_type, storage_type, to_storage
from tilewright.codegen.llvm.emitter import Function, Value
from tilewright.dtypes import SCALAR_DTYPES, DType, as_dtype
from tilewright.ir.expr import Rounding
from tilewright.target.cpu import AVX2, AVX512, GENERIC_128, NEON, PRESETS, CpuTarget, Feature, host_target

DTYPES = [d for d in SCALAR_DTYPES if d != "handle" and d.lanes == 1]
FLOATS = [d for d in DTYPES if d.is_float]
INTEGERS = [d for d in DTYPES if d.is_integer]
NONE: frozenset[Feature] = frozenset()
# The portable code must be right on every machine; the code for this machine's features only where it runs.
FEATURE_SETS = [pytest.param(NONE, id="portable"), pytest.param(host_target().features, id="host")]


def body(source: DType, target: DType, features: frozenset[Feature], rounding: Rounding = Rounding.NEAREST_EVEN, is_saturating: bool = False):
    def write(f: Function, loaded: Value) -> Value:
        value = from_storage(f, loaded, source, features)
        assert value.type == register_type(source, value.lanes)
        made = convert(f, value, source, target, features, rounding, is_saturating)
        assert made.type == register_type(target, value.lanes)
        return to_storage(f, made, target, features)

    return write


def storage_numpy(dtype: DType) -> np.dtype:
    """The numpy type of the integers (or wide floats) in storage."""
    if dtype.is_float and dtype.bits >= 32:
        return dtype.numpy
    return np.dtype(f"uint{max(8, dtype.bits)}")


def as_storage(values: np.ndarray, dtype: DType) -> np.ndarray:
    raw = values.view(storage_numpy(dtype))
    return raw & 15 if dtype.is_packed else raw


@functools.cache
@np.errstate(all="ignore")
def sample(dtype: DType) -> np.ndarray:
    """Every value of narrow types; of wide ones special values, both sides of every rounding boundary of the narrow types, and random bits."""
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_packed:
        return np.arange(16, dtype=np.uint8).astype(dtype.numpy) if not dtype.is_float else np.arange(16, dtype=np.uint8).view(dtype.numpy)
    if dtype.bits <= 16:
        return np.arange(1 << dtype.bits, dtype=f"uint{max(dtype.bits, 8)}").view(dtype.numpy)
    random = np.random.default_rng(7)
    bits = random.integers(0, (1 << dtype.bits) - 1, 20000, np.uint64, endpoint=True)
    if dtype.is_integer:
        shifted = bits >> random.integers(0, dtype.bits, bits.size).astype(np.uint64)
        powers = np.array([(1 << k) + d for k in range(dtype.bits) for d in (-2, -1, 0, 1, 2)], object)
        wrapped = np.array([int(p) % (1 << dtype.bits) for p in np.concatenate([powers, -powers])], np.uint64)
        return np.concatenate([bits, shifted, wrapped]).astype(f"uint{dtype.bits}").view(dtype.numpy)
    return np.concatenate([bits.astype(f"uint{dtype.bits}").view(dtype.numpy), float_boundaries().astype(dtype.numpy)])


def float_boundaries() -> np.ndarray:
    """float64: the values of all narrow floats and the middles between neighbours, each with near misses; infinities, NaN and zeros."""
    found = [np.array([0.0, np.inf, np.nan, 2.0**31, 2.0**32, 2.0**63, 2.0**64, 3.4028235677973366e38, 1e-50])]
    for name in (
        "float8_e3m4",
        "float8_e4m3",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e4m3b11fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
        "float4_e2m1fn",
        "float16",
        "bfloat16",
    ):
        grid = np.sort(sample(as_dtype(name)).astype(np.float32).astype(np.float64))
        grid = np.unique(np.abs(grid[np.isfinite(grid)]))[:: 1 if len(grid) <= 256 else 37]
        edges = np.concatenate([grid, (grid[1:] + grid[:-1]) / 2, grid[-1:] * [1.01], grid[-1:] + (grid[-1:] - grid[-2:-1]) / 2])
        for offset in (0.0, 2.0**-22, 2.0**-26, 2.0**-30, 2.0**-50):
            found += [edges * (1 + offset), edges * (1 - offset)]
    found.append(np.arange(0, 70000, 97) + 0.5)
    both = np.concatenate(found)
    return np.concatenate([both, -both])


def expected(values: np.ndarray, source: DType, target: DType) -> np.ndarray:
    """What the compiler promises: numpy and ml_dtypes, but float to integer saturates, and two exotic floats go through float32."""
    with np.errstate(all="ignore"):
        if source.is_float and target.is_integer:
            return truncated(values, target)
        if source.is_integer and source.is_packed:
            values = values.astype(np.int8)
        if source.is_float and source.bits < 32:
            values = values.astype(np.float32)
        if target.is_integer and target.is_packed:
            return (values.astype(np.int64) & 15).astype(np.uint8).astype(target.numpy)
        return values.astype(target.numpy)


def truncated(values: np.ndarray, target: DType) -> np.ndarray:
    whole = np.trunc(np.nan_to_num(values.astype(np.float64), nan=0.0))
    low, high = int(target.minimum), int(target.maximum)
    numbers = [low if v <= low else high if v >= high else int(v) for v in whole.tolist()]
    return np.array(numbers, "uint64" if high > 2**63 else "int64").astype(target.numpy)


@np.errstate(all="ignore")
def check(got: np.ndarray, want: np.ndarray, values: np.ndarray, source: DType, target: DType) -> None:
    """Equal bits, or both NaN. Floats of 4 and 6 bits have no NaN: they give a zero, whose sign in ml_dtypes follows that of the NaN."""
    wanted = as_storage(want, target)
    same = got.view(f"uint{got.itemsize * 8}") == wanted.view(f"uint{got.itemsize * 8}")
    if target.is_float and target.bits >= 8:
        same |= np.isnan(want.astype(np.float64)) & np.isnan(got.view(target.numpy).astype(np.float64))
    elif target.is_float:
        same |= np.isnan(values.astype(np.float64)) & (got & ((1 << target.bits - 1) - 1) == 0)
    wrong = np.flatnonzero(~same)
    assert not wrong.size, f"{source!s} to {target!s}: {wrong.size} wrong, first {values[wrong[:4]]} gave {got[wrong[:4]]}, not {wanted[wrong[:4]]}"


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("features", FEATURE_SETS)
def test_every_pair_matches_numpy(features: frozenset[Feature], lanes: int) -> None:
    pairs = list(itertools.product(DTYPES, DTYPES)) if lanes == 8 else list(itertools.product(FLOATS[::3] + INTEGERS[::3], DTYPES[::2]))
    kernels = Elementwise()
    for source, target in pairs:
        kernels.add(f"{source!s}_to_{target!s}", [storage_type(source)], storage_type(target), lanes, body(source, target, features))
    kernels.compile()
    samples = {d: sample(d) for d in DTYPES}
    for source, target in pairs:
        values = samples[source]
        got = kernels(f"{source!s}_to_{target!s}", as_storage(values, source), output=storage_numpy(target))
        check(got, expected(values, source, target), values, source, target)


def rounded_directly(values: np.ndarray, target: DType, rounding: Rounding) -> np.ndarray:
    """Exact values (float64) to the neighbour that the mode names, by search among all values of the target."""
    if target.bits == 32:
        below = values.astype(np.float32)
        below = np.where(below > values, np.nextafter(below, np.float32(-np.inf)), below)
        above = np.where(below < values, np.nextafter(below, np.float32(np.inf)), below)
    else:
        grid = np.unique(sample(target).astype(np.float32))
        grid = np.concatenate([[-np.inf], grid[np.isfinite(grid)], [np.inf]])
        position = np.searchsorted(grid, values, side="right").clip(1, len(grid)) - 1
        below = grid[position]
        above = np.where(below < values, grid[(position + 1).clip(0, len(grid) - 1)], below)
    chosen = {Rounding.UP: above, Rounding.DOWN: below, Rounding.TOWARD_ZERO: np.where(values > 0, below, above)}[rounding]
    return np.copysign(np.where(np.isnan(values), np.nan, chosen), values).astype(target.numpy)


DIRECTED = [Rounding.TOWARD_ZERO, Rounding.UP, Rounding.DOWN]


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_directed_rounding_picks_the_named_neighbour(features: frozenset[Feature]) -> None:
    sources = [as_dtype(name) for name in ("float32", "float64", "int32", "int16", "uint64")]
    targets = [as_dtype(name) for name in ("float16", "bfloat16", "float32", "float8_e4m3fn", "float8_e5m2", "float8_e5m2fnuz")]
    cases = [(s, t, r) for s in sources for t in targets for r in DIRECTED if s != t]
    kernels = Elementwise()
    for source, target, rounding in cases:
        kernels.add(f"{source!s}_{target!s}_{rounding.value}", [storage_type(source)], storage_type(target), 4, body(source, target, features, rounding))
    kernels.compile()
    for source, target, rounding in cases:
        with np.errstate(all="ignore"):
            values = sample(source)
            if source.bits == 64 and source.is_integer:
                values = values & ~((values >> np.uint64(53) != 0) * np.uint64(0x7FF))  # exact as float64, where the oracle works
            want = rounded_directly(values.astype(np.float64), target, rounding)
        got = kernels(f"{source!s}_{target!s}_{rounding.value}", as_storage(values, source), output=storage_numpy(target))
        check(got, want, values, source, target)


@pytest.mark.parametrize("rounding", DIRECTED)
def test_directed_rounding_of_integers_longer_than_a_double(rounding: Rounding) -> None:
    int64, float32 = as_dtype("int64"), as_dtype("float32")
    kernels = Elementwise()
    kernels.add("k", ["i64"], "float", 1, body(int64, float32, NONE, rounding))
    kernels.compile()
    exact = [2**60, 2**60 + 2**37, 2**24 + 1]  # representable or plainly between two float32
    values = np.array([sign * (e + d) for e in exact for d in (-1, 0, 1) for sign in (1, -1)], np.int64)
    for value, got in zip(values.tolist(), kernels("k", values, output=np.dtype(np.float32)), strict=True):
        neighbours = [int(np.nextafter(got, np.float32(-np.inf))), int(got), int(np.nextafter(got, np.float32(np.inf)))]
        if neighbours[1] == value:
            continue
        is_down = rounding is Rounding.DOWN or (rounding is Rounding.TOWARD_ZERO and value > 0)
        assert neighbours[0] < value < neighbours[2]
        assert (neighbours[1] < value) == is_down


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_saturating_conversion_clamps(features: frozenset[Feature]) -> None:
    pairs = [(s, t) for s in ("float32", "float64", "bfloat16") for t in ("float16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float32") if s != t]
    pairs += [(s, t) for s in ("int32", "uint32", "int64", "uint64", "int8") for t in ("int8", "uint8", "int4", "uint4", "int16", "uint32")]
    kernels = Elementwise()
    for s, t in pairs:
        kernels.add(f"{s}_{t}", [storage_type(as_dtype(s))], storage_type(as_dtype(t)), 8, body(as_dtype(s), as_dtype(t), features, is_saturating=True))
    kernels.compile()
    for s, t in pairs:
        source, target = as_dtype(s), as_dtype(t)
        values = sample(source)
        with np.errstate(all="ignore"):
            if target.is_float:
                clamped = np.clip(values.astype(np.float64), target.minimum, target.maximum).astype(np.float64 if s == "float64" else np.float32)
                want = clamped.astype(target.numpy)
            else:
                low, high = (np.array(b, object) for b in (int(target.minimum), int(target.maximum)))
                want = np.clip(values.astype(object), low, high).astype(np.int64).astype(target.numpy)
        check(kernels(f"{s}_{t}", as_storage(values, source), output=storage_numpy(target)), want, values, source, target)


@pytest.mark.parametrize("target", [GENERIC_128, AVX2, AVX512, NEON], ids=lambda t: t.name)
def test_objects_need_nothing_from_a_library(target: CpuTarget) -> None:
    kernels = Elementwise()
    for narrow in [d for d in DTYPES if d.bits <= 16]:
        for wide in ("float32", "float64", "int64"):
            for source, to in ((narrow, as_dtype(wide)), (as_dtype(wide), narrow)):
                for lanes in (1, target.lanes(4)):
                    kernels.add(f"{source!s}_{to!s}_{lanes}", [storage_type(source)], storage_type(to), lanes, body(source, to, target.features))
    assert not kernels.undefined_symbols(target)


def test_presets_are_all_covered() -> None:
    assert set(PRESETS) == {t.name for t in (GENERIC_128, AVX2, AVX512, NEON)}
