"""Statements: frozen, compared by identity, every one with a place."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tilewright.errors import Span
from tilewright.ir import stmt as stmts
from tilewright.ir.expr import const
from tilewright.ir.stmt import Assert, AtomicKind, Break, For, LoopKind, MemoryOrder, ReduceKind, Seq, Stmt

HERE = Span("kernel.py", 1)
KINDS = [value for name, value in vars(stmts).items() if isinstance(value, type) and issubclass(value, Stmt) and value is not Stmt]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_statements_are_frozen_and_begin_with_their_place(kind: Any) -> None:
    assert next(f.name for f in dataclasses.fields(kind)) == "span" and kind.__doc__
    made = object.__new__(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.span = HERE


def test_statements_are_compared_by_identity() -> None:
    first, second = Break(HERE), Break(HERE)
    assert first == first and first != second and len({first, second}) == 2


def test_loops_are_serial_unless_said_otherwise() -> None:
    loop = For(HERE, const(0), const(4), LoopKind.SERIAL, Seq(HERE, ()))
    assert loop.pipeline is None and Assert(HERE, const(True), "").message == ""


def test_enumerations_have_the_names_of_the_language() -> None:
    assert {k.value for k in ReduceKind} == {"sum", "max", "min", "bitand", "bitor", "bitxor"}
    assert {k.value for k in MemoryOrder} == {"relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst"}
    assert {k.value for k in AtomicKind} == {"add", "max", "min", "and", "or", "xor", "exchange", "load"}
    assert {k.value for k in LoopKind} == {"serial", "unroll", "vectorized", "Pipelined"}


def test_the_public_list_is_whole() -> None:
    assert {k.__name__ for k in KINDS} <= {*stmts.__all__}
