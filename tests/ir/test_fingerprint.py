"""Fingerprints: the same for the same program in any process, different for any difference that matters."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tilewright.language as T
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, const, load, var
from tilewright.ir.fingerprint import fingerprint
from tilewright.ir.program import Hint, HintKind, Launch, Parameter, ParameterKind, Program
from tilewright.ir.stmt import ParallelFor, Store

ROOT = Path(__file__).resolve().parent.parent.parent


def program(
    *, extent: int = 64, shift: Any = 0.0, dtype: str = "float32", threads: int = 128, line: int = 1, scope: Scope = Scope.SHARED, is_reversed: bool = False
) -> Program:
    span = Span("kernel.py", line)
    tensor = Buffer("A", T.dtype(dtype), (64,), Scope.GLOBAL, span)
    tile = Buffer("s", T.dtype(dtype), (64,), scope, span)
    i = var("i")
    at: Expr = 63 - i if is_reversed else i
    body = ParallelFor(span, (i,), (const(extent),), Store(span, tile, (i,), load(tensor, (at,)) + const(shift, T.dtype(dtype))))
    zero = (var("tx"), var("ty"), var("tz"))
    launch = Launch((const(1),), (var("bx"),), (threads, 1, 1), zero, (tile,), body, span)
    return Program("f", (Parameter("A", ParameterKind.TENSOR, span, buffer=tensor),), (launch,), span)


def test_equal_programs_made_twice_have_one_fingerprint() -> None:
    assert fingerprint(program()) == fingerprint(program())
    assert len(fingerprint(program())) == 64


@pytest.mark.parametrize(
    "change",
    [{"extent": 63}, {"shift": 1.0}, {"shift": -0.0}, {"dtype": "float16"}, {"threads": 64}, {"scope": Scope.FRAGMENT}, {"is_reversed": True}],
    ids=str,
)
def test_any_difference_in_meaning_shows(change: dict[str, Any]) -> None:
    assert fingerprint(program(**change)) != fingerprint(program())


def test_places_do_not_count() -> None:
    assert fingerprint(program(line=99)) == fingerprint(program())


def test_hints_count_because_code_for_a_gpu_follows_them() -> None:
    class Own:
        pass

    plain = program()
    (tile,) = plain.launches[0].buffers

    def hinted(kind: HintKind, *values: object) -> str:
        return fingerprint(dataclasses.replace(plain, hints=(Hint(kind, plain.span, values),)))

    def layout(function: Any) -> str:
        return hinted(HintKind.LAYOUT, tile, T.Layout((64,), function))

    made = [
        fingerprint(plain),
        fingerprint(dataclasses.replace(plain, launches=(dataclasses.replace(plain.launches[0], hints=(Hint(HintKind.SWIZZLE_BLOCKS, plain.span, (8,)),)),))),
        hinted(HintKind.SWIZZLE_BLOCKS, 8, "row"),
        hinted(HintKind.SWIZZLE_BLOCKS, 8, "column"),
        hinted(HintKind.COMPILE_FLAGS, ["-a", "-b"]),
        hinted(HintKind.COMPILE_FLAGS, ["-a -b"]),
        hinted(HintKind.PASS_CONFIGS, {"a": True}),
        hinted(HintKind.PASS_CONFIGS, {"a": False}),
        layout(lambda i: i),
        layout(lambda i: 63 - i),
        layout(lambda i: (i * i * 2 + i) % 64),
        hinted(HintKind.LAYOUT, tile, T.Fragment((64,), forward_fn=lambda i: (i % 32, i // 32))),
        hinted(HintKind.LAYOUT, tile, T.Fragment((64,), forward_fn=lambda i: (i // 2, i % 2))),
        hinted(HintKind.FUNCTION_ATTRIBUTES, ("a", Own())),
        hinted(HintKind.FUNCTION_ATTRIBUTES, ("a", Own())),
    ]
    assert len(set(made)) == len(made)
    assert layout(lambda i: 63 - i) == layout(lambda j: 63 - j) and hinted(HintKind.COMPILE_FLAGS, ("-a",)) == hinted(HintKind.COMPILE_FLAGS, ["-a"])


def test_variables_of_one_name_are_told_apart() -> None:
    def two(first: bool) -> Program:
        span = Span("kernel.py", 1)
        tile = Buffer("s", T.dtype("int32"), (8, 8), Scope.SHARED, span)
        i, j = var("i"), var("i")
        body = ParallelFor(span, (i, j), (const(8), const(8)), Store(span, tile, (i, j) if first else (j, i), const(1)))
        zero = (var("tx"), var("ty"), var("tz"))
        return Program("f", (), (Launch((const(1),), (var("bx"),), (1, 1, 1), zero, (tile,), body, span),), span)

    assert fingerprint(two(True)) != fingerprint(two(False))


def test_other_processes_agree_whatever_their_hash_seed() -> None:
    code = "from tests.ir.test_fingerprint import program; from tilewright.ir.fingerprint import fingerprint; print(fingerprint(program()))"
    for seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
        assert made.stdout.strip() == fingerprint(program())
