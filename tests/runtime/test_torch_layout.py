"""What native code believes of torch tensors, against what torch says."""

from __future__ import annotations

import ctypes

import pytest

from tilewright.runtime import torch_layout as torch_layout_module
from tilewright.runtime.framework import Place
from tilewright.runtime.torch_layout import FUNCTIONS, find_torch_layout, torch_layout

torch = pytest.importorskip("torch")


def test_the_layout_of_this_torch_is_found() -> None:
    layout = torch_layout(Place.CPU)
    assert layout is not None and [name for name, _ in layout.functions] == list(FUNCTIONS) and layout.types == (torch.Tensor, torch.nn.Parameter)
    for tensor in (torch.zeros(3, 4, dtype=torch.int8), torch.nn.Parameter(torch.zeros(2)), torch.zeros(5).t()):
        assert ctypes.c_uint64.from_address(id(tensor) + layout.tensor_offset_bytes).value == tensor._cdata
        keys = ctypes.c_uint64.from_address(tensor._cdata + layout.keys_offset_bytes).value
        assert keys == torch._C._dispatch_keys(tensor).raw_repr() and keys & layout.required == layout.required and not keys & ~layout.allowed


def test_dtypes_are_numbered_as_torch_does() -> None:
    layout = torch_layout(Place.CPU)
    assert layout is not None
    codes = [layout.dtype_code(d) for d in (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool)]
    assert len(set(codes)) == 5


def test_there_is_none_for_a_gpu_without_one() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    find_torch_layout.cache_clear()
    assert torch_layout(Place.GPU) is None and str(find_torch_layout(Place.GPU)).startswith(f"torch {torch.__version__}: ")


def test_the_reason_is_told_where_a_tensor_looks_unlike_what_torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch_layout_module, "_TENSOR_WORDS", 4)
        find_torch_layout.cache_clear()
        assert "dispatch keys are not found" in str(find_torch_layout(Place.CPU)) and torch_layout(Place.CPU) is None
    find_torch_layout.cache_clear()
    assert torch_layout(Place.CPU) is not None
