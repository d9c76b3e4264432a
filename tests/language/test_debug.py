"""T.print and T.device_assert: what is printed, and where a kernel stops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.ir.stmt import Assert, Print
from tilewright.ir.visit import statements


def traced(body: Any) -> list[Any]:
    """The prints and asserts of a kernel with a tile, a variable and a tensor."""
    trace = T.macro(body)

    @T.prim_func
    def main(A: T.Tensor((4,), "float32")):
        with T.Kernel(1):
            tile = T.alloc_shared((4,), "float32")
            count = T.alloc_var("int32", init=3)
            trace(A, tile, count)

    return [s for s in statements(main.program.launches[0].body) if isinstance(s, (Print, Assert))]


def test_what_a_print_shows() -> None:
    def body(A, tile, count):
        T.print(A[1] + 2.0, msg="sum")
        T.print(count)
        T.print(tile)
        T.print(tile[1:3], msg="part")
        T.print("only text")
        T.print(msg="only text")

    value, variable, whole, part, text, same = traced(body)
    assert value.message == "sum" and str(value.values[0]) == "A[1] + 2.0" and value.buffer is None
    assert len(variable.values) == 1 and variable.buffer is None
    assert (whole.message, whole.buffer.name, whole.values) == ("tile", "tile", ()) and (part.message, part.buffer.name) == ("part", "tile")
    assert (text.message, text.values) == (same.message, same.values) == ("only text", ())


def test_a_running_kernel_prints_values_and_tiles(capfd: pytest.CaptureFixture[str]) -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "float32")):
        with T.Kernel(2) as bx:
            T.print(A[bx], msg="element")

    tilewright.compile(main)(np.array([1.5, 2.5, 0, 0], np.float32))
    printed = "".join(capfd.readouterr())
    assert printed.count("element") == 2 and "1.5" in printed and "2.5" in printed


def test_a_condition_that_holds_is_no_statement() -> None:
    def body(A, tile, count):
        T.device_assert(True, "never")
        T.device_assert(False, "always")

    (stops,) = traced(body)
    assert stops.message == "always" and not stops.condition.value


def test_a_kernel_stops_where_the_condition_does_not_hold() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "float32")):
        with T.Kernel(1):
            for i in T.serial(4):
                T.device_assert(A[i] >= 0, "a negative element")

    kernel = tilewright.compile(main)
    kernel(np.zeros(4, np.float32))
    with refused(Kind.DEVICE_ASSERT, "a negative element", "test_debug.py"):
        kernel(np.array([0, 1, -1, 2], np.float32))


@pytest.mark.parametrize("is_print", [True, False])
def test_messages_are_text(is_print: bool) -> None:
    def body(A, tile, count):
        if is_print:
            T.print(A[0], msg=3)
        else:
            T.device_assert(A[0] > 0, A[0])

    with refused(Kind.OPTION_VALUE, "msg is"):
        traced(body)
