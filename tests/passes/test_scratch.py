"""Buffers that passes make: their scopes, and what a GPU has not."""

from __future__ import annotations

import pytest

from tilewright.dtypes import as_dtype
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Scope
from tilewright.passes.scratch import Scratch

SPAN = Span("program.py", 4)


def test_each_kind_of_buffer_is_fresh_and_kept_in_order() -> None:
    scratch = Scratch()
    made = [
        scratch.make("held", as_dtype("float16"), (2, 3), Scope.FRAGMENT, SPAN),
        scratch.scratch("tile", as_dtype("int8"), (4,), SPAN),
        scratch.variable("total", as_dtype("float32"), SPAN),
        scratch.scratch("tile", as_dtype("int8"), (4,), SPAN),
    ]
    view = scratch.make("view", as_dtype("uint16"), (6,), Scope.FRAGMENT, SPAN, source=made[0])
    assert scratch.buffers == [*made, view] and made[1] is not made[3]
    assert [(b.scope, b.shape, str(b.dtype)) for b in made[:3]] == [
        (Scope.FRAGMENT, (2, 3), "float16"),
        (Scope.SHARED, (4,), "int8"),
        (Scope.VARIABLE, (1,), "float32"),
    ]
    assert view.storage is made[0] and all(b.span is SPAN for b in scratch.buffers)


def test_a_gpu_has_no_plans_and_no_panels() -> None:
    scratch = Scratch()
    tile = scratch.scratch("tile", as_dtype("float32"), (4,), SPAN)
    with pytest.raises(CompilerBug, match="no plan of tile"):
        scratch.plan(tile)
    with pytest.raises(CompilerBug, match="no panels"):
        scratch.panel_columns(tile.dtype)
    assert scratch.lower_packed_copy(None) is None
