"""Tensors of torch, on any device (floor 7). torch is never imported: a tensor of it can only come from a program that has."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from tilewright.dtypes import SCALAR_DTYPES, DType
from tilewright.runtime.framework import CPU, Framework, GivenTensor, NotATensorError, packed_shape


class TorchTensors(Framework):
    """torch.Tensor and its subclasses that hold memory."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        # torch.int4 and torch.uint4 are mere names: no tensor of them can be filled or read.
        names = (*(str(d) for d in SCALAR_DTYPES if not d.is_packed), "float4_e2m1fn_x2")
        self._names = {getattr(torch, name): name for name in names if isinstance(getattr(torch, name, None), torch.dtype)}

    def describe(self, argument: Any) -> GivenTensor:
        name = self._names.get(argument.dtype, str(argument.dtype))
        if argument.layout is not self._torch.strided:
            raise NotATensorError(f"a tensor of layout {argument.layout}")
        shape, strides = tuple(int(n) for n in argument.shape), tuple(argument.stride())
        device = str(argument.device)
        if not (argument.is_cpu or argument.is_cuda):
            return GivenTensor(0, shape, strides, name, True, device, argument)
        # Subclasses that dispatch for themselves (FakeTensor, DTensor) hold no memory, or other memory than they show.
        if type(argument).__torch_dispatch__ is not self._torch.Tensor.__torch_dispatch__:
            raise NotATensorError(f"a {type(argument).__name__} without memory of its own")
        if argument.is_neg():
            raise NotATensorError("a lazily negated view, whose memory holds other values; call .resolve_neg() first")
        return GivenTensor(self.address(argument), shape, strides, name, True, device, argument)

    def read(self, argument: Any) -> tuple[tuple[object, ...], int, Any]:
        key = argument.dtype, argument.shape, argument.stride(), argument.device, argument.is_neg()
        return key, argument.data_ptr() or self.address(argument), argument

    def address(self, output: Any) -> int:
        address: int = output.data_ptr()
        if not address and output.numel():
            raise NotATensorError(f"a {type(output).__name__} without memory of its own")
        return address

    def allocator(self, shape: tuple[int, ...], dtype: DType, device: str = CPU) -> Callable[[], Any]:
        given = packed_shape(shape) if dtype.is_packed else shape
        return functools.partial(self._torch.empty, given, dtype=self.dtype(dtype), device=self._torch.device(device))

    @functools.cached_property
    def reaches_gpu(self) -> bool:
        """Whether this torch was built for CUDA and finds a GPU."""
        return bool(self._torch.cuda.is_available())

    def dtype(self, dtype: DType) -> Any:
        """The torch.dtype that tensors of a dtype have."""
        name = {"tfloat32": "float32", "int4": "int8", "uint4": "uint8", "handle": "int64", "float8_e4m3": "float8_e4m3fn"}.get(dtype, str(dtype))
        return getattr(self._torch, name, self._torch.uint8)  # elements that torch does not know arrive as bytes

    def conversion(self, dtype: DType) -> str:
        return f".to({self.dtype(dtype)})"


def torch_framework() -> TorchTensors | None:
    """The framework of the torch that the program has imported."""
    torch = sys.modules.get("torch")
    return None if torch is None or not hasattr(torch, "Tensor") else _framework(torch)


@functools.lru_cache(maxsize=1)
def _framework(torch: Any) -> TorchTensors:
    return TorchTensors(torch)
