"""A cupy whose device memory is that of the process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tilewright.runtime.tensors import framework_of


class MockCupyArray:
    """numpy memory under the attributes of cupy.ndarray."""

    def __init__(self, array: np.ndarray[Any, Any], ordinal: int = 0) -> None:
        self.array, self.device = array, SimpleNamespace(id=ordinal)
        self.data, self.shape, self.strides, self.dtype = SimpleNamespace(ptr=array.ctypes.data), array.shape, array.strides, array.dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "strides": self.strides, "version": 3}


def aligned(array: np.ndarray[Any, Any], past_bytes: int = 0) -> np.ndarray[Any, Any]:
    """A copy that begins at a multiple of 64 bytes, as device memory does, and `past_bytes` more."""
    memory = np.empty(array.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + past_bytes
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def on_gpu(array: np.ndarray[Any, Any], ordinal: int = 0, past_bytes: int = 0) -> MockCupyArray:
    return MockCupyArray(aligned(array, past_bytes), ordinal)


class _Current:
    """A context manager that changes one value of the module."""

    def __init__(self, state: dict[Any, int], key: Any, value: int) -> None:
        self.state, self.key, self.value = state, key, value

    def __enter__(self) -> None:
        self.before, self.state[self.key] = self.state[self.key], self.value

    def __exit__(self, *_: object) -> None:
        self.state[self.key] = self.before


@contextmanager
def mock_cupy() -> Iterator[Any]:
    """The module, as if the program had imported it; `module.allocated` lists (shape, ordinal, stream) of what it made."""
    module: Any = ModuleType("cupy")
    state: dict[Any, int] = {"device": 0, 0: 0, 1: 0, 2: 0}  # the current device, and the current stream of each
    module.state, module.allocated = state, []

    def empty(shape: Any, dtype: Any) -> MockCupyArray:
        module.allocated.append((shape, state["device"], state[state["device"]]))
        return MockCupyArray(aligned(np.empty(shape, dtype)), state["device"])

    module.ndarray, module.empty = MockCupyArray, empty
    module.cuda = SimpleNamespace(
        Device=lambda ordinal: _Current(state, "device", ordinal),
        ExternalStream=lambda pointer, ordinal=-1: _Current(state, state["device"] if ordinal < 0 else ordinal, pointer),
        get_current_stream=lambda ordinal=-1: SimpleNamespace(ptr=state[state["device"] if ordinal < 0 else ordinal]),
        runtime=SimpleNamespace(getDevice=lambda: state["device"]),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", module)
        framework_of.cache_clear()
        try:
            yield module
        finally:
            framework_of.cache_clear()
