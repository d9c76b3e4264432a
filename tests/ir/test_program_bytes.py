"""Programs as bytes: what comes back means the same, and what cannot be kept is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright.intrin.math import MATH
from tilewright.ir.fingerprint import fingerprint
from tilewright.ir.printer import print_program
from tilewright.ir.program import Hint, HintKind, Program
from tilewright.ir.program_bytes import UnstorableProgramError, program_from_bytes, program_to_bytes
from tilewright.ir.stmt import Print
from tilewright.ir.visit import statements
from tilewright.reference import run_reference

N = T.dynamic("n")


@T.prim_func
def scaled(A: T.Tensor((N, 8), "float32"), factor: T.float32, B: T.Tensor((N, 8), "float32")):
    with T.Kernel(T.ceildiv(N, 4), threads=32) as bx:
        tile = T.alloc_shared((4, 8), "float32")
        T.copy(A[bx * 4, 0], tile)
        for i, j in T.Parallel(4, 8):
            tile[i, j] = T.exp(tile[i, j]) * factor
        T.print(tile[0, 0], "first")
        T.copy(tile, B[bx * 4, 0])


def round_trip(program: Program, there: tuple[str, ...] = (__file__,), here: tuple[str, ...] = (__file__,)) -> Program:
    return program_from_bytes(program_to_bytes(program, there, MATH), here, MATH)


def test_what_comes_back_means_the_same() -> None:
    program = scaled.program
    found = round_trip(program)
    assert fingerprint(found) == fingerprint(program) and print_program(found) == print_program(program)
    rows, _, others = (p.buffer.shape[0] if p.buffer is not None else None for p in found.parameters)
    assert rows is others, "one symbol stays one"
    a = np.random.default_rng(0).standard_normal((6, 8)).astype("float32")
    results = [run_reference(p, {"A": a, "factor": 0.5, "B": np.zeros_like(a)})["B"] for p in (program, found)]
    assert np.array_equal(*results)


def test_places_move_with_the_file() -> None:
    found = round_trip(scaled.program, here=("/elsewhere/kernel.py",))
    printed = next(s for s in statements(found.launches[0].body) if isinstance(s, Print))
    assert printed.span.file == found.span.file == "/elsewhere/kernel.py"
    assert printed.span.line == next(s for s in statements(scaled.program.launches[0].body) if isinstance(s, Print)).span.line


def test_bytes_do_not_name_files() -> None:
    assert __file__.encode() not in program_to_bytes(scaled.program, (__file__,), MATH)


@pytest.mark.parametrize("value", [lambda x: x, np.arange(3), N], ids=["lambda", "array", "loose variable"])
def test_objects_of_the_user_are_refused(value: Any) -> None:
    program = replace(scaled.program, hints=(Hint(HintKind.LAYOUT, scaled.program.span, (value,)),))
    if value is N:
        assert fingerprint(round_trip(program)) == fingerprint(program)  # a variable of the program is no stranger
        return
    with pytest.raises(UnstorableProgramError):
        program_to_bytes(program, (__file__,), MATH)


def test_unnamed_files_and_functions_are_refused() -> None:
    with pytest.raises(UnstorableProgramError, match="test_program_bytes"):
        program_to_bytes(scaled.program, (), MATH)
    with pytest.raises(UnstorableProgramError, match="exp"):
        program_to_bytes(scaled.program, (__file__,), {})


def test_damaged_bytes_are_refused() -> None:
    data = program_to_bytes(scaled.program, (__file__,), MATH)
    for damaged in (b"", data[:-7], b"\x80\x05N.", data[:40] + b"\xff" * 8 + data[48:]):
        with pytest.raises(UnstorableProgramError):
            program_from_bytes(damaged, (__file__,), MATH)


def test_a_kept_program_compiles() -> None:
    kernel = tilewright.compile(replace(scaled, program=round_trip(scaled.program, here=(__file__,)), origin=None))
    a, b = np.ones((4, 8), "float32"), np.zeros((4, 8), "float32")
    kernel(a, 2.0, b)
    assert np.allclose(b, 2 * np.e)
