"""How native code reads a torch tensor (floor 7): through torch's own C functions, from the place where the Python object holds its tensor.

The functions are the stable C interface that torch made for compiled models (torch/csrc/inductor/aoti_torch/c/shim.h). Two things are not part of it
and are therefore looked for in samples of this process, and believed only where all samples show exactly what torch's Python side says: where the
Python object holds the `at::Tensor`, and where a TensorImpl holds its dispatch keys. The keys tell a plain dense tensor of a device from all others at
once: views that are negated or conjugated lazily, zero tensors without memory, tensors inside torch.func transforms.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilewright.runtime.framework import Place

_OBJECT_WORDS = 8  # of a Python tensor: what is searched
_TENSOR_WORDS = 26  # of a TensorImpl: what torch itself allows (c10/core/TensorImpl.h); the keys are its last word, the 22nd or later
FUNCTIONS = (
    "aoti_torch_get_data_ptr",
    "aoti_torch_get_dtype",
    "aoti_torch_get_dim",
    "aoti_torch_get_sizes",
    "aoti_torch_get_strides",
    "aoti_torch_get_device_index",
)
STREAM_FUNCTION = "aoti_torch_get_current_cuda_stream"


@dataclass(frozen=True)
class TorchLayout:
    """What code for tensors in one place may rely on.

    tensor_offset_bytes   of the `at::Tensor` in a Python object whose type is one of `types`.
    keys_offset_bytes     of the dispatch keys in a TensorImpl.
    required, allowed     keys that a plain tensor has, and all that it may have.
    functions             addresses by name: FUNCTIONS, and STREAM_FUNCTION where the place is a GPU.
    types                 torch.Tensor and torch.nn.Parameter.
    """

    place: Place
    tensor_offset_bytes: int
    keys_offset_bytes: int
    required: int
    allowed: int
    functions: tuple[tuple[str, int], ...]
    types: tuple[type, ...]

    def dtype_code(self, dtype: Any) -> int:
        """torch's number for a torch.dtype, as `aoti_torch_get_dtype` gives it."""
        sample = sys.modules["torch"].empty(0, dtype=dtype)
        code = ctypes.c_int32(-1)
        read = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(dict(self.functions)["aoti_torch_get_dtype"])
        if read(id(sample) + self.tensor_offset_bytes, ctypes.addressof(code)):
            raise ValueError(f"torch does not number {dtype}")
        return code.value


def torch_layout(place: Place) -> TorchLayout | None:
    """The layout of the torch that the program has imported; None where it is not imported or an assumption does not hold."""
    found = find_torch_layout(place)
    return found if isinstance(found, TorchLayout) else None


@functools.lru_cache(maxsize=4)
def find_torch_layout(place: Place) -> TorchLayout | str:
    """The layout, or why there is none."""
    torch = sys.modules.get("torch")
    if torch is None:
        return "torch is not imported"
    try:
        return _find(torch, place)
    except (AssertionError, AttributeError, OSError, TypeError, ValueError, RuntimeError) as error:  # torch without CUDA asserts
        return f"torch {torch.__version__}: {type(error).__name__}: {error}"


def _find(torch: Any, place: Place) -> TorchLayout:
    sample = torch.zeros(3, device=place.value)
    negated = torch._neg_view(sample)
    with torch.inference_mode():
        inferred = torch.zeros(3, device=place.value)
    offset = _only(k for k, word in enumerate(_words(id(sample), _OBJECT_WORDS)) if word == sample._cdata)
    others = (negated, inferred, torch.nn.Parameter(sample))
    if offset is None or any(_words(id(t), _OBJECT_WORDS)[offset] != t._cdata for t in others):
        raise ValueError("the tensor is not found in its Python object")
    keys = [(t._cdata, torch._C._dispatch_keys(t).raw_repr()) for t in (sample, *others)]
    # One word after the other: a TensorImpl may end behind its keys.
    keys_offset = next((k for k in range(_TENSOR_WORDS) if all(_words(address + 8 * k, 1) == [raw] for address, raw in keys)), None)
    plain, negative, inference, parameter = (raw for _, raw in keys)
    if keys_offset is None:
        raise ValueError("the dispatch keys are not found in the tensor")
    if negative == plain or parameter != plain or (negative & ~plain).bit_count() != 1:
        raise ValueError("the dispatch keys do not tell plain tensors from others")
    library = Path(torch.__file__).parent / "lib"
    host, device = (ctypes.CDLL(str(library / f"libtorch_{name}.so")) for name in ("cpu", "cuda" if place is Place.GPU else "cpu"))
    wanted = [(name, host) for name in FUNCTIONS] + ([(STREAM_FUNCTION, device)] if place is Place.GPU else [])
    functions = tuple((name, ctypes.cast(getattr(found, name), ctypes.c_void_p).value or 0) for name, found in wanted)
    return TorchLayout(place, 8 * offset, 8 * keys_offset, plain & inference, plain | inference, functions, (torch.Tensor, torch.nn.Parameter))


def _words(address: int, count: int) -> list[int]:
    return list((ctypes.c_uint64 * count).from_address(address))


def _only(found: Any) -> int | None:
    """The one item, None where there are none or several."""
    items = list(found)
    return items[0] if len(items) == 1 else None
