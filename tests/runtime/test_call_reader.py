"""What a call's arguments are to a kernel: read by type, checked once per combination, remembered, and arranged into slots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.runtime.recorded_kernels import pointer, program, scalar, tensor, workspace, zeros
from tilewright import dtypes
from tilewright.codegen.slots import slots_of
from tilewright.errors import Kind, TileError
from tilewright.ir.expr import var
from tilewright.ir.program import HostCheck, Parameter, Program
from tilewright.runtime.argument_checks import Callee
from tilewright.runtime.call_reader import CallReader
from tilewright.runtime.tensors import NUMPY


def reader(source: Program, outputs: tuple[str, ...] = (), written: tuple[str, ...] = (), unused: tuple[str, ...] = ()) -> CallReader:
    returned = tuple(p for p in source.parameters if p.name in outputs)
    inputs: tuple[Parameter, ...] = tuple(p for p in source.parameters if p not in returned)
    callee = Callee(source.name, source.span, source.parameters, inputs, frozenset(written), frozenset(unused))
    return CallReader(source, callee, slots_of(source), returned)


def refused(made: CallReader, kind: Kind, part: str, *arguments: Any) -> None:
    with pytest.raises(TileError) as caught:
        made.read(arguments)
    assert caught.value.diagnostic.kind is kind and part in str(caught.value), str(caught.value)


def test_words_are_addresses_and_scalars_as_the_slots_want_them() -> None:
    made = reader(program(tensor("X", (4,)), scalar(var("a", dtypes.int32)), scalar(var("b", dtypes.float32)), pointer("p")))
    x, table = zeros(4), zeros(8)
    found, checked = made.read((x, -3, 1.5, table))
    words = [word for _, word, _ in found]
    assert words[0] == x.ctypes.data and words[3] == table.ctypes.data
    assert words[1] & 0xFFFFFFFFFFFFFFFF == 2**64 - 3 and words[2] & 0xFFFFFFFF == 0x3FC00000
    assert checked.framework is NUMPY and checked.device == "cpu" and checked.first_tensor == 0


def test_a_combination_is_checked_once() -> None:
    n = var("n")
    made = reader(program(tensor("X", (n,)), tensor("Y", (n,))))
    checks: list[tuple[int, ...]] = []
    original = made.check

    def counting(arguments: tuple[Any, ...]) -> Any:
        checks.append(tuple(len(a) for a in arguments))
        return original(arguments)

    made.check = counting  # type: ignore[method-assign]
    for size in (4, 4, 8, 4, 8):
        _, checked = made.read((zeros(size), zeros(size)))
        assert checked.symbol_words == (size,)
    assert checks == [(4, 4), (8, 8)]
    refused(made, Kind.ARGUMENT_DTYPE, "Y", zeros(4), zeros(4, dtype=np.float64))


def test_scalars_that_decide_sizes_are_part_of_the_combination() -> None:
    m, factor = var("m", dtypes.int32), var("factor", dtypes.float32)
    made = reader(program(scalar(m), scalar(factor), tensor("Y", (m, 3))), outputs=("Y",))
    shapes = [made.read((rows, 1.0 * rows))[1].output_shapes for rows in (2, 5, 2)]
    assert shapes == [((2, 3),), ((5, 3),), ((2, 3),)]
    same = [made.read((2, value))[1] for value in (1.0, 2.0)]
    assert same[0] is same[1]  # the other scalar decides nothing
    refused(made, Kind.ARGUMENT_SHAPE, "would have the shape (-1, 3)", -1, 1.0)


def test_inputs_outputs_workspaces_symbols_and_status_come_in_the_order_of_the_slots() -> None:
    n = var("n")
    made = reader(program(tensor("Y", (n,)), tensor("X", (n,)), workspaces=[workspace("W", (n, 4))]), outputs=("Y",))
    assert made.arrange is not None and made.arrange(["X", "Y", "W", "n", "status"]) == ("Y", "X", "W", "n", "status")  # type: ignore[list-item]
    assert reader(program(tensor("X", (n,)), tensor("Y", (n,))), outputs=("Y",)).arrange is None
    _, checked = made.read((zeros(3),))
    assert checked.workspace_bytes >= 3 * 4 * 4 and len(checked.workspace_offsets) == 1


def test_overlaps_are_looked_for_where_something_is_written() -> None:
    made = reader(program(tensor("X", (4,)), tensor("Y", (4,)), tensor("Z", (4,))), written=("Z",))
    memory = zeros(64)
    _, checked = made.read((memory[:4], memory[8:12], memory[16:20]))
    assert sorted((written, other) for written, other, _, _ in checked.pairs) == [(2, 0), (2, 1)]
    assert all((low, high) == (-16, 16) for _, _, low, high in checked.pairs)
    assert reader(program(tensor("X", (4,)), tensor("Y", (4,)))).read((zeros(4), zeros(4)))[1].pairs == ()


def test_none_is_for_tensors_that_nothing_touches() -> None:
    n = var("n")
    source = program(tensor("X", (n,)), tensor("Y", (n,)))
    made = reader(source, unused=("Y",))
    found, checked = made.read((zeros(4), None))
    assert found[1] == (None, 0, None) and checked.symbol_words == (4,)
    refused(made, Kind.ARGUMENT_NONE, "X", None, zeros(4))
    nobody = reader(source, unused=("X", "Y"))
    assert nobody.read((None, None))[1].symbol_words == (0,)


def test_a_symbol_that_the_kernel_needs_has_to_come_from_somewhere() -> None:
    n = var("n")
    made = reader(program(tensor("X", (n,)), grid=[n]), unused=("X",))
    refused(made, Kind.UNBOUND_SYMBOL, "no argument of this call says what n is", None)


def test_asserts_on_sizes_are_checked() -> None:
    n = var("n")
    source = program(tensor("X", (n,)))
    made = reader(program(tensor("X", (n,)), checks=[HostCheck(n % 4 == 0, "rows of four", source.span)]))
    assert made.read((zeros(8),))[1].symbol_words == (8,)
    refused(made, Kind.HOST_ASSERT, "rows of four", zeros(6))


class Broken:
    shape = dtype = property(lambda self: 1 // 0)


@pytest.mark.parametrize("argument", [object(), "text", Broken(), [1.0, 2.0], None])
def test_any_object_is_answered_with_a_diagnostic(argument: Any) -> None:
    refused(reader(program(tensor("X", (4,)))), Kind.ARGUMENT_NONE if argument is None else Kind.ARGUMENT_KIND, "X", argument)


def test_many_combinations_are_forgotten_and_checked_anew() -> None:
    n = var("n")
    made = reader(program(tensor("X", (n,))))
    base = zeros(600)
    assert [made.read((base[:size],))[1].symbol_words[0] for size in (*range(1, 600), 1, 2, 599)] == [*range(1, 600), 1, 2, 599]
    assert len(made._checked) <= 256
