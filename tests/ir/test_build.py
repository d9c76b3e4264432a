"""The builder that a program is traced into."""

from __future__ import annotations

import threading

import pytest

from tests.execution import refused
from tilewright.errors import Kind, Span
from tilewright.ir import build
from tilewright.ir.build import Builder
from tilewright.ir.expr import const, var
from tilewright.ir.stmt import Assume, Seq

HERE = Span("kernel.py", 1)


def statement() -> Assume:
    return Assume(HERE, var("x") > 0)


def test_statements_land_in_the_innermost_block() -> None:
    builder = Builder()
    first, second, third = statement(), statement(), statement()
    with builder.block() as outer:
        builder.emit(first)
        with builder.block() as inner:
            builder.emit(second)
        builder.emit(third)
    assert outer == [first, third] and inner == [second]


def test_blocks_close_after_a_mistake() -> None:
    builder = Builder()
    with builder.block() as outer:
        with pytest.raises(KeyError), builder.block():
            raise KeyError
        builder.emit(made := Seq(HERE, ()))
    assert outer == [made]


def test_one_builder_is_active_at_a_time() -> None:
    assert build.current_or_none() is None
    outer, inner = Builder(), Builder()
    with outer.active():
        assert build.current() is outer
        with inner.active():
            assert build.current() is inner
        with build.detached():
            assert build.current_or_none() is None
        assert build.current() is outer
    assert build.current_or_none() is None
    with refused(Kind.NO_BUILDER, "outside a kernel"):
        build.current()


def test_threads_have_builders_of_their_own() -> None:
    seen: list[Builder | None] = []
    with Builder().active():
        thread = threading.Thread(target=lambda: seen.append(build.current_or_none()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_the_language_adds_the_rules() -> None:
    builder = Builder()
    for use in (
        lambda: builder.store(None, 0, 1),
        lambda: builder.store_region(None, 1),
        lambda: builder.snapshot(const(0)),
        lambda: builder.check_on_call(const(True), "", HERE),
    ):
        with pytest.raises(NotImplementedError):
            use()
    assert builder.here().file == __file__ and not builder.reducers and not builder.outputs
