"""What a pass is given besides the program."""

from __future__ import annotations

import pytest

from tilewright import dtypes
from tilewright.errors import Span
from tilewright.passes.context import PassContext, Remark
from tilewright.target.cpu import host_target


def test_remarks_are_kept_in_order() -> None:
    context = PassContext(host_target())
    first, second = Span("a.py", 1), Span("a.py", 2)
    context.remark(second, "b")
    context.remark(first, "a")
    assert context.remarks == [Remark(second, "b"), Remark(first, "a")]
    assert not PassContext(host_target()).remarks and not PassContext(host_target()).plans


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64, dtypes.int32])
def test_panels_are_whole_vectors(dtype: dtypes.DType) -> None:
    target = host_target()
    columns = PassContext(target).panel_columns(dtype)
    assert columns % target.lanes(dtype.itemsize) == 0 and columns // target.lanes(dtype.itemsize) == target.micro_tile.column_vectors
