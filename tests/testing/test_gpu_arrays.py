"""Arguments in device memory and back, on a driver whose kernel is the reference."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilewright.testing.gpu_arrays as gpu_arrays
from tests.runtime.gpu_programs import plan_of
from tests.runtime.mock_driver import MockDriver, MockKernel
from tilewright.codegen.slots import SlotKind, slots_of
from tilewright.execution.memory import strided
from tilewright.reference import run_reference
from tilewright.runtime.cuda_driver import use_driver
from tilewright.runtime.nibbles import pack_nibbles, unpack_nibbles
from tilewright.testing.case import Case, Outcome, Verdict, load_case, run_case
from tilewright.testing.fuzz import CUDA, executors_of
from tilewright.testing.generate import generate

Addresses = dict[str, int]
DTYPES = """import tilewright.language as T
n = T.dynamic("n")
SIZES = {"n": 7, "count": 3}

@T.prim_func
def kernel(A: T.Tensor((3, 4), "int4"), B: T.Tensor((5,), "uint4"), C: T.Tensor((3, 4), "float4_e2m1fn"), D: T.Tensor((n, 3), "bool"),
           E: T.StridedTensor((n, 3), (5, 1), "bfloat16"), F: T.StridedTensor((2, 3), (1, 4), "float8_e4m3fn"), G: T.Tensor((0, 3), "float64"),
           H: T.Tensor((n,), "uint16"), count: T.int32):
    with T.Kernel(1, threads=32):
        for i, j in T.Parallel(3, 4):
            A[i, j] = -A[i, j]
        for i in T.Parallel(5):
            B[i] = 15 - B[i]
        for i, j in T.Parallel(7, 3):
            E[i, j] = T.if_then_else(D[i, j], E[i, j] + count, 1)
        for i, j in T.Parallel(2, 3):
            F[i, j] = C[i, j]
        for i in T.Parallel(7):
            H[i] = H[i] + 60000
"""


def device_span(address: int, value: Any) -> Any:
    """The elements, at an address, of an array with the shape and the strides of another."""
    size_bytes = value.itemsize + sum((n - 1) * s for n, s in zip(value.shape, value.strides, strict=True)) if value.size else 0
    flat = np.frombuffer((ctypes.c_uint8 * size_bytes).from_address(address), value.dtype)
    return strided(flat, value.shape, value.strides) if value.size else flat.reshape(value.shape)


def as_reference(case: Case, addresses: Addresses) -> None:
    """What a right kernel does to the memory that it is given."""
    given = case.arguments()
    placed = {}
    for parameter in case.program.parameters:
        if parameter.buffer is not None:
            value, dtype = given[parameter.name], parameter.buffer.dtype
            memory = device_span(addresses[parameter.name], pack_nibbles(value) if dtype.is_packed else value)
            placed[parameter.name] = (memory, dtype)
            value[...] = unpack_nibbles(memory, dtype)[: value.size].reshape(value.shape) if dtype.is_packed else memory
    after = run_reference(case.program, given)
    for name, (memory, dtype) in placed.items():
        memory[...] = pack_nibbles(after[name]) if dtype.is_packed else after[name]


def outcome_of(source: str, body: Callable[[Case, Addresses], None], monkeypatch: pytest.MonkeyPatch, launch_error: int = 0) -> Outcome:
    case = load_case(source)
    slots = [s for s in slots_of(case.program) if s.kind is not SlotKind.STATUS]

    def launched(words: tuple[int, ...]) -> None:
        body(case, {s.parameter.name: word for s, word in zip(slots, words, strict=False) if s.parameter is not None})

    kernels = {f"k{n}": MockKernel(len(slots) + 1, launched if n == 0 else lambda words: None) for n in range(len(case.program.launches))}
    driver = MockDriver(kernels=kernels)
    driver.launch_error = launch_error
    monkeypatch.setattr(gpu_arrays, "compile_kernel", lambda kernel, target: plan_of(kernel))
    with use_driver(driver):
        return run_case(source, executors_of(CUDA))


def test_every_dtype_and_stride_goes_to_the_device_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome_of(DTYPES, as_reference, monkeypatch) == Outcome(Verdict.PASSED)


def test_generated_programs_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [generate(7, number, 3).source for number in range(40)]
    assert sum("StridedTensor" in source for source in sources) >= 5
    outcomes = [outcome_of(source, as_reference, monkeypatch) for source in sources]
    assert not [o.detail for o in outcomes if o.is_failure]


def test_a_wrong_element_is_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = outcome_of(DTYPES, lambda case, addresses: None, monkeypatch)
    assert outcome.verdict is Verdict.MISMATCH and outcome.what == "A"


@pytest.mark.parametrize(("name", "offset_bytes"), [("B", -1), ("B", 3), ("E", 6), ("G", 0), ("F", 3)])
def test_a_write_outside_the_elements_is_found(name: str, offset_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def stray(case: Case, addresses: Addresses) -> None:
        as_reference(case, addresses)
        ctypes.c_uint8.from_address(addresses[name] + offset_bytes).value ^= 1

    outcome = outcome_of(DTYPES, stray, monkeypatch)
    assert outcome.verdict is Verdict.CRASH and f"{name}: 1 bytes of no element were written, the first {offset_bytes} bytes from" in outcome.detail


def test_a_device_that_fails_is_told_from_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = outcome_of(DTYPES, as_reference, monkeypatch, launch_error=700)
    assert outcome.verdict is Verdict.DEVICE and outcome.is_failure and "CUDA_ERROR_ILLEGAL_ADDRESS" in outcome.detail
