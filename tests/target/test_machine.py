"""Data sheets: the peaks that the boards are sold with, and what follows from them for other dtypes."""

from __future__ import annotations

import pytest

from tilewright.dtypes import as_dtype
from tilewright.target.cpu import AVX2, AVX512, GENERIC_128
from tilewright.target.machine import machine_of
from tilewright.target.nvidia import NVIDIA_TARGETS, SM_80, SM_86, SM_89, SM_90, SM_90A


@pytest.mark.parametrize(("target", "half_tflops", "single_tflops"), [(SM_80, 312, 19.5), (SM_86, 149.7, 37.4), (SM_89, 362, 91.6), (SM_90, 989, 66.9)])
def test_peaks_are_those_of_the_data_sheets(target: object, half_tflops: float, single_tflops: float) -> None:
    machine = machine_of(target)  # type: ignore[arg-type]
    assert machine.peak_flops(as_dtype("float16"), is_product=True) / 1e12 == pytest.approx(half_tflops, rel=0.08)
    assert machine.peak_flops(as_dtype("float32")) / 1e12 == pytest.approx(single_tflops, rel=0.08)


def test_rates_follow_the_width_of_operands() -> None:
    machine = machine_of(SM_90A)
    half = machine.peak_flops(as_dtype("bfloat16"), is_product=True)
    assert machine.peak_flops(as_dtype("float8_e4m3fn"), is_product=True) == 2 * half == machine.peak_flops(as_dtype("int4"), is_product=True)
    assert machine.peak_flops(as_dtype("tfloat32"), is_product=True) == half / 2
    assert machine.peak_flops(as_dtype("float32"), is_product=True) == machine.peak_flops(as_dtype("float32")) < half


def test_every_target_has_a_machine() -> None:
    for target in (*NVIDIA_TARGETS.values(), GENERIC_128, AVX2, AVX512):
        machine = machine_of(target)
        assert machine.units > 0 and machine.bandwidth_bytes_per_s > 0 and machine.peak_flops(as_dtype("float64")) > 0
    assert machine_of(AVX512).vector_fma_per_cycle == 2 * machine_of(AVX2).vector_fma_per_cycle == 32
