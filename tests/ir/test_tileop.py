"""What a tile operation must say of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tilewright import dtypes
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Region, Scope, whole
from tilewright.ir.tileop import Effects, TileOp
from tilewright.ops.atomic import AtomicTile
from tilewright.ops.copy import Copy
from tilewright.ops.fill import Fill
from tilewright.ops.gemm import Gemm
from tilewright.ops.reduce import Reduce
from tilewright.ops.scan import Scan
from tilewright.ops.transpose import Transpose

HERE = Span("kernel.py", 1)
TILE = whole(Buffer("t", dtypes.float32, (4,), Scope.SHARED, HERE))


@dataclass(frozen=True, eq=False)
class Empty(TileOp):
    """An operation that says nothing."""

    dst: Region
    flag: bool = False


def test_an_operation_that_says_nothing_is_a_fault_of_ours() -> None:
    made: Any = Empty(HERE, TILE)
    for use in (made.effects, lambda: made.reference(None), lambda: made.lower(None)):
        with pytest.raises(CompilerBug, match="Empty"):
            use()


def test_effects_are_plain_writes_unless_said_otherwise() -> None:
    effects = Effects(writes=(TILE,))
    assert effects.reads == () and not effects.is_atomic


@pytest.mark.parametrize("kind", [Copy, Fill, Gemm, Reduce, Scan, Transpose, AtomicTile])
def test_every_operation_is_whole(kind: type[TileOp]) -> None:
    assert all(kind.__dict__.get(name) is not None for name in ("effects", "reference", "lower")) and kind.__doc__
