"""Tensors of any framework as numpy arrays, and the other way round (floor 7)."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

_SPECIAL = {
    "bfloat16": ("int16", ml_dtypes.bfloat16),
    "float8_e4m3fn": ("int8", ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": ("int8", ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": ("int8", ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": ("int8", ml_dtypes.float8_e5m2fnuz),
    "float8_e8m0fnu": ("int8", ml_dtypes.float8_e8m0fnu),
}


def as_array(value: Any) -> Any:
    """A tensor of any framework as a numpy array, the narrow floats of torch by way of their bits; other things as they are.

    The array is over the same memory, but for tensors on a GPU, which are copied.
    """
    if isinstance(value, (int, float, bool)) or value is None or isinstance(value, (np.ndarray, np.generic)):
        return value
    name = str(getattr(value, "dtype", "")).removeprefix("torch.")
    if hasattr(value, "detach"):
        import torch

        tensor = value.detach().cpu()
        if name in _SPECIAL:
            bits, dtype = _SPECIAL[name]
            return tensor.view(getattr(torch, bits)).numpy().view(dtype)
        return tensor.numpy()
    if hasattr(type(value), "__cuda_array_interface__") and hasattr(value, "get"):  # cupy
        return value.get()
    return np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)


def as_torch(array: np.ndarray[Any, Any]) -> Any:
    """A numpy array as a torch tensor over the same memory (imports torch). TypeError for dtypes that torch does not know."""
    import torch

    name = array.dtype.name
    if name in _SPECIAL:
        return torch.from_numpy(array.view(_SPECIAL[name][0])).view(getattr(torch, name))
    return torch.from_numpy(array)
