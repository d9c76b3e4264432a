"""Tensors of torch, read and made."""

from __future__ import annotations

import pytest

from tilewright.dtypes import as_dtype
from tilewright.runtime.framework import NotATensorError
from tilewright.runtime.torch_tensors import torch_framework

torch = pytest.importorskip("torch")


def framework() -> object:
    found = torch_framework()
    assert found is not None
    return found


def test_a_tensor_is_read_without_a_copy() -> None:
    tensor = torch.zeros(6, 4, dtype=torch.bfloat16)[::2]
    given = framework().describe(tensor)
    assert (given.address, given.shape, given.strides, given.dtype_name, given.device) == (tensor.data_ptr(), (3, 4), (8, 1), "bfloat16", "cpu")
    assert framework().read(tensor)[1] == tensor.data_ptr()


def test_the_device_is_part_of_the_key() -> None:
    meta = torch.zeros(3, device="meta")
    assert framework().describe(meta).device == "meta" and framework().describe(meta).address == 0
    assert framework().read(torch.zeros(3))[0] != framework().describe(meta).device


def test_outputs_are_torch_tensors_of_the_dtype() -> None:
    made = framework().allocator((2, 3), as_dtype("float16"), "cpu")()
    assert made.shape == (2, 3) and made.dtype is torch.float16 and framework().address(made) == made.data_ptr()
    assert framework().allocator((2, 3), as_dtype("int4"))().shape == (2, 2)


@pytest.mark.parametrize("tensor", [torch.zeros(2, 2).to_sparse(), torch._neg_view(torch.ones(2))])
def test_what_holds_other_values_than_its_memory_is_refused(tensor: object) -> None:
    with pytest.raises(NotATensorError):
        framework().describe(tensor)
