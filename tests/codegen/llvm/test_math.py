"""The catalogue as a whole: every function has code, for every dtype and target, with no library behind it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.codegen.llvm.elementwise import Elementwise
from tests.codegen.llvm.math.accuracy import FEATURE_SETS, add_intrinsic
from tilewright.codegen.llvm.convert import from_storage, round_to, storage_type, to_storage
from tilewright.codegen.llvm.emitter import Function, Module, Value
from tilewright.codegen.llvm.math import emit_intrinsic
from tilewright.dtypes import DType, as_dtype
from tilewright.errors import CompilerBug, TileError
from tilewright.intrin.math import MATH
from tilewright.ir.intrinsic import Intrinsic
from tilewright.target.cpu import PRESETS, CpuTarget, Feature

NARROW = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]


def dtypes_of(name: str, float_dtype: str) -> list[DType] | None:
    """Argument dtypes that the function takes, with that float where it takes floats; None where it takes no such float."""
    intrinsic = MATH[name]
    for kinds in ([float_dtype] * intrinsic.arity, [float_dtype, "int32"], ["int32"]):
        found = [as_dtype(kind) for kind in kinds]
        try:
            intrinsic.result(tuple(found))
        except (TileError, IndexError):
            continue
        if len(found) == intrinsic.arity:
            return found
    return None


@pytest.mark.parametrize("target", PRESETS.values(), ids=lambda t: t.name)
def test_objects_need_nothing_from_a_library(target: CpuTarget) -> None:
    kernels = Elementwise()
    for name in MATH:
        for dtype in ("float32", "float64"):
            kinds = dtypes_of(name, dtype)
            is_missing = dtype == "float64" and "fma" in name and not target.has(Feature.FMA)
            if kinds is not None and not is_missing:
                for lanes in (1, target.lanes(kinds[0].itemsize)):
                    add_intrinsic(kernels, name, kinds, target.features, lanes, f"{name}_{dtype}_{lanes}")
    assert not kernels.undefined_symbols(target)


@pytest.mark.parametrize("target", PRESETS.values(), ids=lambda t: t.name)
def test_functions_of_functions_need_nothing_either(target: CpuTarget) -> None:
    """LLVM merges what one leaves with what the next begins with: a narrowing to float16 with a computation by way of double."""
    kernels, features = Elementwise(), target.features
    single, half = as_dtype("float32"), as_dtype("float16")
    outer = [name for name in MATH if dtypes_of(name, "float32") == [single] and MATH[name].result((single,)) is single]
    assert "tanh" in outer and "atan" in outer
    for name in outer:
        for inner in ("cos", "exp2", "floor"):

            def chain(f: Function, x: Value, name: str = name, inner: str = inner) -> Value:
                y = emit_intrinsic(f, MATH[inner], [from_storage(f, x, single, features)], [single], features)
                z = emit_intrinsic(f, MATH[name], [y], [single], features)
                return to_storage(f, round_to(f, z, half, features), half, features)

            kernels.add(f"{name}_{inner}", [storage_type(single)], storage_type(half), 1, chain)
    assert not kernels.undefined_symbols(target)


def test_a_library_call_would_be_seen() -> None:
    kernels = Elementwise()
    kernels.add("k", ["float"], "float", 1, lambda f, x: f.intrinsic("llvm.sin.f32", "float", x))
    assert kernels.undefined_symbols(PRESETS["avx2"]) == ["sinf"]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("features", FEATURE_SETS)
def test_narrow_floats_are_computed_as_float32_and_rounded(features: frozenset[Feature], dtype: str) -> None:
    kind = as_dtype(dtype)
    names = [name for name in MATH if (kinds := dtypes_of(name, dtype)) is not None and kinds == [kind] and not name.startswith("is")]
    assert "exp" in names and "floor" in names
    kernels = Elementwise()
    for name in names:
        add_intrinsic(kernels, name, [kind], features, 8)
    kernels.compile()
    raw = np.arange(1 << kind.bits, dtype=f"uint{kind.bits}")
    values = raw.view(kind.numpy)
    for name in names:
        got = kernels(name, raw, output=raw.dtype).view(kind.numpy)
        want = MATH[name].meaning(values)
        assert want.dtype == kind.numpy
        wide_got, wide_want = got.astype(np.float64), want.astype(np.float64)
        assert np.array_equal(np.isnan(wide_got), np.isnan(wide_want)), name
        # One unit of the narrow dtype, where the float32 result lies beside a tie; neighbouring codes differ by one.
        distance = np.abs(got.view(raw.dtype).astype(np.int64) - want.view(raw.dtype).astype(np.int64))[~np.isnan(wide_want)]
        assert distance.max() <= (1 if MATH[name].ulp else 0), name
        assert (distance > 0).mean() < 1e-3, name


def test_vector_dtypes_take_the_scalar_code() -> None:
    f = Module().function("k", "void", [("<2 x float>", "x")])
    value = emit_intrinsic(f, MATH["exp2"], [f.arguments["x"]], [as_dtype("float32x2")], frozenset())
    assert value.type == "<2 x float>"


def test_unknown_functions_are_a_fault_of_the_compiler() -> None:
    f = Module().function("k", "void", [("float", "x")])
    unknown = Intrinsic("gamma", 1, lambda kinds: kinds[0], lambda x: x)
    with pytest.raises(CompilerBug, match="gamma"):
        emit_intrinsic(f, unknown, [f.arguments["x"]], [as_dtype("float32")], frozenset())
