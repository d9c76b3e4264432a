"""CPU targets: the presets, what is made of a host's description, and that LLVM knows the names."""

from __future__ import annotations

import llvmlite.binding as llvm
import pytest

from tilewright.target.cpu import AVX2, AVX512, GENERIC_128, NEON, PRESETS, CpuTarget, Feature, describe_cpu, host_target


def machine_of(target: CpuTarget) -> llvm.TargetMachine:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(target.triple).create_target_machine(cpu=target.llvm_cpu, features=target.llvm_features)


@pytest.mark.parametrize("target", [*PRESETS.values(), host_target()], ids=lambda t: t.name)
def test_micro_tile_fits_the_registers(target: CpuTarget) -> None:
    tile = target.micro_tile
    assert tile.rows * tile.column_vectors + tile.column_vectors + 1 <= target.register_count


@pytest.mark.parametrize("target", [*PRESETS.values(), host_target()], ids=lambda t: t.name)
def test_rows_of_a_micro_tile_fit_one_set_of_a_cache(target: CpuTarget) -> None:
    assert target.micro_tile.rows <= 8


@pytest.mark.parametrize(
    ("target", "instruction"), [(GENERIC_128, "mulps"), (AVX2, "vfmadd"), (AVX512, "zmm"), (NEON, "fmla")], ids=["generic", "avx2", "avx512", "neon"]
)
def test_presets_select_the_instructions_they_promise(target: CpuTarget, instruction: str) -> None:
    lanes = target.lanes(4)
    type_ = f"<{lanes} x float>"
    text = f"""target triple = "{target.triple}"
    define {type_} @k({type_} %a, {type_} %b, {type_} %c) {{
      %p = fmul contract {type_} %a, %b
      %s = fadd contract {type_} %p, %c
      ret {type_} %s
    }}"""
    assert instruction in machine_of(target).emit_assembly(llvm.parse_assembly(text))


def test_host_runs_what_it_claims() -> None:
    host = host_target()
    assert host is host_target()
    assert host.llvm_cpu == llvm.get_host_cpu_name()
    assert host.triple == llvm.get_process_triple()
    names = [item[1:] for item in host.llvm_features.split(",") if item]
    assert names == sorted(names)
    assert machine_of(host) is not None


def present(text: str) -> dict[str, bool]:
    return {item[1:]: True for item in text.split(",")}


@pytest.mark.parametrize("preset", [AVX2, AVX512], ids=lambda t: t.name)
def test_a_host_with_the_features_of_a_preset_has_its_shape(preset: CpuTarget) -> None:
    made = describe_cpu("some-cpu", present(preset.llvm_features), "x86_64-pc-windows-msvc")
    assert made.features == preset.features
    assert (made.vector_bytes, made.register_count, made.micro_tile) == (preset.vector_bytes, preset.register_count, preset.micro_tile)
    assert made.llvm_features == preset.llvm_features


def test_half_an_avx512_is_none() -> None:
    features = present(AVX512.llvm_features) | {"avx512bw": False}
    assert describe_cpu("knights", features, "x86_64-unknown-linux-gnu").vector_bytes == AVX2.vector_bytes


def test_arm_has_neon_even_where_the_system_reports_nothing() -> None:
    made = describe_cpu("apple-m1", {}, "arm64-apple-darwin")
    assert made.features == NEON.features
    assert made.has(Feature.FMA)
    assert describe_cpu("neoverse-v1", {"bf16": True, "i8mm": True, "dotprod": True}, "aarch64-unknown-linux-gnu").features >= {
        Feature.BF16_DOT,
        Feature.I8MM,
        Feature.VNNI,
    }


def test_unknown_families_get_plain_128_bit_vectors() -> None:
    made = describe_cpu("pwr10", {"vsx": True}, "powerpc64le-unknown-linux-gnu")
    assert made.features == frozenset()
    assert made.vector_bytes == 16
    assert made.lanes(8) == 2
