"""The slots of a program: what the host gives, in order."""

from __future__ import annotations

import dataclasses

from tests.codegen.llvm.lowered import SPAN, program, store, tensor
from tilewright.codegen.slots import SlotKind, slots_of
from tilewright.dtypes import float32, int64, uint64
from tilewright.ir.expr import var
from tilewright.ir.program import Parameter, ParameterKind


def test_slots_follow_parameters_workspaces_and_symbols() -> None:
    m, n, s = var("m"), var("n"), var("s", int64)
    a = tensor("a", float32, m, n, strides=(s, 1))
    scale, address = var("scale", float32), var("address", uint64)
    work = tensor("work", float32, n)
    made = dataclasses.replace(
        program([a], lambda bx: store(a, [0, 0], scale)),
        workspaces=(work,),
        parameters=(
            Parameter("a", ParameterKind.TENSOR, SPAN, buffer=a),
            Parameter("m", ParameterKind.SCALAR, SPAN, variable=m),
            Parameter("scale", ParameterKind.SCALAR, SPAN, variable=scale),
            Parameter("p", ParameterKind.POINTER, SPAN, variable=address),
        ),
    )
    slots = slots_of(made)
    assert [slot.kind for slot in slots] == [
        SlotKind.TENSOR,
        SlotKind.SCALAR,
        SlotKind.SCALAR,
        SlotKind.POINTER,
        SlotKind.WORKSPACE,
        SlotKind.SYMBOL,
        SlotKind.SYMBOL,
        SlotKind.STATUS,
    ]
    assert next(slot.symbol for slot in slots[5:7]) is n and slots[6].symbol is s
    assert slots[4].workspace is work
