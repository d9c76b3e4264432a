"""The hot path of a launch: a Python callable that checks positional arguments and calls a kernel's native entry (floor 7).

A stub gives None when the kernel ran and returned status 0, the status as an int when it ran and returned another, and `NotImplemented`,
without having run the kernel, when any argument is not exactly what the fast path takes. Then the caller's slow path decides: it converts
the arguments, or says what is wrong with them. A stub raises only for keyword arguments.

`make_stub` gives a builtin function compiled from IR (measured about 0.1 us with the GIL released), or an equivalent `CtypesStub` where
that cannot be built.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np

from tilewright.runtime.launch_signature import (
    Argument,
    BoundWord,
    DataPointer,
    Dimension,
    Extent,
    LaunchSignature,
    ScalarArgument,
    ScalarKind,
    ScalarValue,
    Slot,
    Stride,
    TensorArgument,
    TorchArgument,
    TorchStream,
)
from tilewright.runtime.llvm_jit import initialize_llvm, link_library
from tilewright.runtime.object_cache import cached_object
from tilewright.runtime.stub_code import ENTRY_SYMBOL, METH_FASTCALL, layout_obstacle, stub_code, symbol_addresses
from tilewright.runtime.torch_layout import STREAM_FUNCTION, TorchLayout
from tilewright.target.cpu import host_target

__all__ = [
    "Argument",
    "BoundWord",
    "CtypesStub",
    "DataPointer",
    "Dimension",
    "LaunchSignature",
    "ScalarArgument",
    "ScalarKind",
    "ScalarValue",
    "Slot",
    "Stride",
    "Stub",
    "TensorArgument",
    "TorchArgument",
    "TorchStream",
    "make_native_stub",
    "make_stub",
    "native_stub_obstacle",
]

Stub = Callable[..., Any]  # None, an int status, or NotImplemented


def make_stub(signature: LaunchSignature, entry_address: int, owner: object = None, bound: Sequence[int] = ()) -> Stub:
    """The fastest stub that this process allows.

    owner   is kept alive as long as the stub: whatever holds the entry's code.
    bound   the bound words, as many as the signature says.
    """
    return (CtypesStub if native_stub_obstacle() else make_native_stub)(signature, entry_address, owner, bound)


@functools.cache
def native_stub_obstacle() -> str | None:
    """Why this process has no native stubs, in words; None when it has them."""
    return layout_obstacle()


# ---- native -----------------------------------------------------------------------------------------------------


class _MethodDefinition(ctypes.Structure):
    """PyMethodDef (Include/methodobject.h)."""

    _fields_ = (("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("documentation", ctypes.c_char_p))


class _EntryPoint(bytes):
    """The `self` of a native stub: the entry's address and the bound words, and what keeps the code alive."""

    owner: object


class _CompiledStub:
    """Machine code for one signature. Kept for ever: a builtin function doesn't own its method definition or its code."""

    def __init__(self, signature: LaunchSignature, code: str) -> None:
        initialize_llvm()
        builder = llvm.JITLibraryBuilder().add_object_img(cached_object(code, host_target())[0]).export_symbol(ENTRY_SYMBOL)
        for name, address in symbol_addresses(signature).items():
            builder.import_symbol(name, address)
        self.signature = signature  # keeps the dtypes alive
        self.library = link_library(builder, "stub")
        self.method = _MethodDefinition(b"tilewright_launch", self.library[ENTRY_SYMBOL], METH_FASTCALL, None)


_compiled_by_code: dict[str, _CompiledStub] = {}
_compile_lock = threading.Lock()

_new_builtin_function = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(("PyCFunction_NewEx", ctypes.pythonapi))


def make_native_stub(signature: LaunchSignature, entry_address: int, owner: object = None, bound: Sequence[int] = ()) -> Stub:
    """A builtin function over compiled code, shared by all entries of one signature. Only where `native_stub_obstacle()` is None."""
    code = stub_code(signature)
    with _compile_lock:
        compiled = _compiled_by_code.get(code)
        if compiled is None:
            compiled = _compiled_by_code[code] = _CompiledStub(signature, code)
    entry = _EntryPoint(b"".join(word.to_bytes(8, "little") for word in (entry_address, *bound)))
    entry.owner = owner
    stub: Stub = _new_builtin_function(ctypes.addressof(compiled.method), entry, None)
    return stub


# ---- plain Python -----------------------------------------------------------------------------------------------


class _Mismatch(Exception):
    """An argument is not what the fast path takes."""


class _PackedTensor(NamedTuple):
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    begin: int
    end: int  # one past the last byte


class CtypesStub:
    """The same checks and packing in Python, called through ctypes, which releases the GIL too."""

    def __init__(self, signature: LaunchSignature, entry_address: int, owner: object = None, bound: Sequence[int] = ()) -> None:
        self.signature, self.owner, self.bound = signature, owner, tuple(bound)
        self._entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(entry_address)
        self._overlap_pairs = signature.overlap_pairs()

    def __call__(self, *arguments: Any) -> Any:
        try:
            words = self._pack(arguments)
        except _Mismatch:
            return NotImplemented
        slots = (ctypes.c_uint64 * len(words))(*words)
        return self._entry(ctypes.addressof(slots)) or None

    def _pack(self, arguments: tuple[Any, ...]) -> list[int]:
        _require(len(arguments) == len(self.signature.arguments))
        symbols: dict[str, int] = {}
        tensors: dict[int, _PackedTensor] = {}
        scalars: dict[int, int] = {}
        for index, (argument, value) in enumerate(zip(self.signature.arguments, arguments, strict=True)):
            if isinstance(argument, TensorArgument):
                tensors[index] = _pack_tensor(argument, value, symbols)
            elif isinstance(argument, TorchArgument):
                tensors[index] = _pack_torch(argument, value, symbols, self.bound)
            else:
                scalars[index] = _pack_scalar(argument.kind, value)
        _require(all(symbols.get(name, 0) < 1 << 31 for name in self.signature.int32_symbols))
        for first, second in self._overlap_pairs:
            _require(tensors[first].end <= tensors[second].begin or tensors[second].end <= tensors[first].begin)
        words = []
        for slot in self.signature.slots:
            match slot:
                case DataPointer(index):
                    words.append(tensors[index].address)
                case Dimension(index, axis):
                    words.append(tensors[index].shape[axis])
                case Stride(index, axis):
                    words.append(tensors[index].strides[axis])
                case ScalarValue(index):
                    words.append(scalars[index])
                case BoundWord(number):
                    words.append(self.bound[number])
                case TorchStream(layout, device_word):
                    words.append(_torch_stream(layout, self.bound[device_word]))
        return words


def _require(condition: bool) -> None:
    if not condition:
        raise _Mismatch


def _require_extent(extent: Extent, value: int, symbols: dict[str, int]) -> None:
    _require(value == (symbols.setdefault(extent, value) if isinstance(extent, str) else extent))


def _pack_tensor(argument: TensorArgument, value: Any, symbols: dict[str, int]) -> _PackedTensor:
    _require(type(value) is np.ndarray and value.dtype is argument.dtype_numpy and value.ndim == argument.rank)
    flags = value.flags
    _require(flags.aligned and (flags.writeable or not argument.is_written) and (flags.c_contiguous or argument.strides is not None))
    address = value.__array_interface__["data"][0]
    _require(address % argument.alignment_bytes == 0)
    for wanted, extent in zip(argument.shape, value.shape, strict=True):
        _require_extent(wanted, extent, symbols)
    if argument.strides is None:
        contiguous = tuple(math.prod(value.shape[axis + 1 :]) for axis in range(value.ndim))
        return _PackedTensor(address, value.shape, contiguous, address, address + value.nbytes)
    strides = []
    begin, end = address, address + value.itemsize
    for required, extent, stride_bytes in zip(argument.strides, value.shape, value.strides, strict=True):
        used_bytes = 0 if extent <= 1 else stride_bytes
        stride, rest = divmod(used_bytes, value.itemsize)
        _require(rest == 0)
        if required is not None:
            if extent <= 1:
                stride = symbols.get(required, stride) if isinstance(required, str) else required
            _require_extent(required, stride, symbols)
        strides.append(stride)
        begin += min(used_bytes * (extent - 1), 0)
        end += max(used_bytes * (extent - 1), 0)
    return _PackedTensor(address, value.shape, tuple(strides), begin, end)


def _pack_torch(argument: TorchArgument, value: Any, symbols: dict[str, int], bound: Sequence[int]) -> _PackedTensor:
    layout = argument.layout
    _require(type(value) in layout.types and value.device.type == layout.place.value and value.layout is sys.modules["torch"].strided)
    _require(str(value.dtype) == f"torch.{argument.dtype}" and value.ndim == argument.rank and value.is_contiguous() and not value.is_neg())
    _require(argument.device_word is None or value.device.index == bound[argument.device_word])
    _require(not value._is_zerotensor() and not sys.modules["torch"]._C._functorch.is_functorch_wrapped_tensor(value))
    address = value.data_ptr()
    _require(address % argument.alignment_bytes == 0)
    for wanted, extent in zip(argument.shape, value.shape, strict=True):
        _require_extent(wanted, extent, symbols)
    shape = tuple(value.shape)
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return _PackedTensor(address, shape, strides, address, address + value.numel() * argument.itemsize)


def _torch_stream(layout: TorchLayout, ordinal: int) -> int:
    handle = ctypes.c_void_p()
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p)(dict(layout.functions)[STREAM_FUNCTION])
    _require(function(ordinal, ctypes.addressof(handle)) == 0)
    return handle.value or 0


def _pack_scalar(kind: ScalarKind, value: Any) -> int:
    """The slot's value; ctypes turns a negative integer into its two's complement."""
    if kind is ScalarKind.BOOL:
        _require(type(value) is bool)
        return int(value)
    if not kind.is_float:
        low, high = (-(1 << kind.bits - 1), 1 << kind.bits - 1) if kind.is_signed else (0, 1 << kind.bits)
        _require(type(value) is int and low <= value < high)
        return int(value)
    _require(type(value) in (int, float))
    try:
        number = float(value)
    except OverflowError:
        raise _Mismatch from None
    if kind is ScalarKind.FLOAT32:
        return ctypes.c_uint32.from_buffer(ctypes.c_float(number)).value
    return ctypes.c_uint64.from_buffer(ctypes.c_double(number)).value
