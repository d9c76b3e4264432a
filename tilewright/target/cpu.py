"""CPUs as compile targets: vector width, instructions worth asking for, shape of the matrix micro-kernel (floor 1).

This is the only place that knows the names LLVM gives to processors and their features; code elsewhere asks `target.has(Feature.FMA)`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Feature(Enum):
    """Something the instruction set can do. The first six are abilities, whatever the family of processors."""

    FMA = "fma"  # a * b + c rounded once, float32 and float64, scalar and vector
    F16C = "f16c"  # float16 <-> float32, scalar and vector
    ROUND = "round"  # floor, ceil, truncate and round to even of floats in one instruction
    VNNI = "vnni"  # int8 dot products accumulated into int32
    BF16_DOT = "bf16-dot"  # bfloat16 dot products accumulated into float32
    HALF_ARITHMETIC = "half-arithmetic"  # float16 add, multiply and fma
    AVX = "avx"
    AVX2 = "avx2"
    AVX512 = "avx512"  # F, BW, DQ and VL together
    AVX512BF16 = "avx512bf16"
    AMX = "amx"
    NEON = "neon"
    I8MM = "i8mm"


@dataclass(frozen=True, slots=True)
class MicroTile:
    """The block of a matrix product that is accumulated in registers: `rows` (BLIS's mr) by `column_vectors` vectors (BLIS's nr)."""

    rows: int
    column_vectors: int


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """One CPU as code is generated for it.

    name            for messages and cache keys.
    llvm_cpu        processor name that LLVM schedules for.
    llvm_features   LLVM feature string, "+avx2,-sse4a", sorted.
    triple          LLVM target triple.
    vector_bytes    width of one vector register.
    register_count  vector registers that the instruction set names.
    features        what may be used.
    micro_tile      register block of matrix products: accumulators, one row of column vectors and one broadcast must fit the registers.
    streaming_bytes tensors from this size on are written past the caches where the launch does not read them; 0 for never.
    """

    name: str
    llvm_cpu: str
    llvm_features: str
    triple: str
    vector_bytes: int
    register_count: int
    features: frozenset[Feature]
    micro_tile: MicroTile
    streaming_bytes: int = 0

    def has(self, feature: Feature) -> bool:
        return feature in self.features

    def lanes(self, itemsize_bytes: int) -> int:
        """Elements of that size in one vector register."""
        return self.vector_bytes // itemsize_bytes


_SSE_LEVEL = "+fxsr,+mmx,+sse,+sse2"
_AVX2_LEVEL = "+avx,+avx2,+bmi,+bmi2,+cx16,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+popcnt,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3"
_AVX512_LEVEL = ",".join(sorted(["+avx512bw", "+avx512cd", "+avx512dq", "+avx512f", "+avx512vl", *_AVX2_LEVEL.split(",")]))
_AVX2_FEATURES = frozenset({Feature.FMA, Feature.F16C, Feature.ROUND, Feature.AVX, Feature.AVX2})
_NEON_FEATURES = frozenset({Feature.FMA, Feature.F16C, Feature.ROUND, Feature.NEON})

# Micro-tiles fill the registers, but for one row of column vectors and a broadcast, with at most 8 rows: rows of a tensor that lie a power of two
# apart fall into one set of a first-level cache, and 8 lines is what the smallest of them hold. With 14x32 such operands cost AVX-512 a seventh
# of its speed; 6x64 reaches 0.97 of the FMA peak whatever the distance, and 6x16 reaches 0.96 on AVX2.
# A result of 16 MiB and inputs of that size together fill the last-level cache that most processors have for a few cores. Written through the
# caches, every line of it would first be read, and would push the inputs out; at half the size both ways take equally long.
_STREAMING_BYTES = 16 << 20
GENERIC_128 = CpuTarget("generic-128", "x86-64", _SSE_LEVEL, "x86_64-unknown-linux-gnu", 16, 16, frozenset(), MicroTile(6, 2), _STREAMING_BYTES)
AVX2 = CpuTarget("avx2", "x86-64-v3", _AVX2_LEVEL, "x86_64-unknown-linux-gnu", 32, 16, _AVX2_FEATURES, MicroTile(6, 2), _STREAMING_BYTES)
AVX512 = CpuTarget(
    "avx512", "x86-64-v4", _AVX512_LEVEL, "x86_64-unknown-linux-gnu", 64, 32, _AVX2_FEATURES | {Feature.AVX512}, MicroTile(6, 4), _STREAMING_BYTES
)
NEON = CpuTarget("neon", "generic", "+fp-armv8,+neon", "aarch64-unknown-linux-gnu", 16, 32, _NEON_FEATURES, MicroTile(8, 3))

PRESETS: dict[str, CpuTarget] = {target.name: target for target in (GENERIC_128, AVX2, AVX512, NEON)}

_FEATURES_BY_LLVM_NAMES: tuple[tuple[Feature, tuple[str, ...]], ...] = (
    (Feature.FMA, ("fma",)),
    (Feature.F16C, ("f16c",)),
    (Feature.ROUND, ("sse4.1",)),
    (Feature.AVX, ("avx",)),
    (Feature.AVX2, ("avx2",)),
    (Feature.AVX512, ("avx512f", "avx512bw", "avx512dq", "avx512vl")),
    (Feature.AVX512BF16, ("avx512bf16",)),
    (Feature.BF16_DOT, ("avx512bf16",)),
    (Feature.VNNI, ("avx512vnni", "avx512vl")),
    (Feature.VNNI, ("avxvnni",)),
    (Feature.HALF_ARITHMETIC, ("avx512fp16",)),
    (Feature.AMX, ("amx-tile", "amx-int8", "amx-bf16")),
    (Feature.VNNI, ("dotprod",)),
    (Feature.BF16_DOT, ("bf16",)),
    (Feature.HALF_ARITHMETIC, ("fullfp16",)),
    (Feature.I8MM, ("i8mm",)),
)


def describe_cpu(llvm_cpu: str, llvm_features: Mapping[str, bool], triple: str) -> CpuTarget:
    """The target for a processor that LLVM named, with its LLVM features (name -> present).

    An unknown family gets 128-bit vectors and no feature, which every LLVM target can lower.
    """
    features = {feature for feature, names in _FEATURES_BY_LLVM_NAMES if all(llvm_features.get(name, False) for name in names)}
    is_arm = triple.startswith(("aarch64", "arm64"))
    if is_arm:
        features |= NEON.features  # the base of the 64-bit architecture; some systems report no features at all
        shape = NEON
    elif Feature.AVX512 in features:
        shape = AVX512
    elif AVX2.features <= features:
        shape = AVX2
    else:
        shape = GENERIC_128
    text = ",".join(f"{'+' if is_present else '-'}{name}" for name, is_present in sorted(llvm_features.items()))
    return CpuTarget(
        f"{llvm_cpu}-{shape.vector_bytes * 8}",
        llvm_cpu,
        text,
        triple,
        shape.vector_bytes,
        shape.register_count,
        frozenset(features),
        shape.micro_tile,
        shape.streaming_bytes if triple.startswith("x86_64") else 0,
    )


@functools.lru_cache(maxsize=1)
def host_target() -> CpuTarget:
    """The CPU that this process runs on."""
    import llvmlite.binding as llvm

    return describe_cpu(llvm.get_host_cpu_name(), dict(llvm.get_host_cpu_features()), llvm.get_process_triple())
