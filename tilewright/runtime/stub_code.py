"""How CPython calls a kernel without any Python in between: the launch stub as textual LLVM IR (floor 7). `stub` compiles it.

Everything that depends on how CPython and numpy lay out their objects is in this file, and `layout_obstacle` checks it in this process.
The IR names every object it compares with by a symbol, so the text depends on the signature alone.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import sysconfig
from typing import Any

import numpy as np

from tilewright.runtime.launch_signature import (
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
from tilewright.runtime.stub_torch import emit_torch_stream, emit_torch_tensor, torch_declarations, torch_layout_of, torch_type_symbols

ENTRY_SYMBOL = "launch"
METH_FASTCALL = 0x80  # Include/methodobject.h

# PyObject: reference count, then type (Include/object.h; not of free-threaded builds).
_TYPE_OFFSET = 8
# PyArrayObject_fields (numpy/ndarraytypes.h), the same from numpy 1.7 to 2.x.
_DATA_OFFSET, _RANK_OFFSET, _DIMENSIONS_OFFSET, _STRIDES_OFFSET, _DTYPE_OFFSET, _FLAGS_OFFSET = 16, 24, 32, 40, 56, 64
_C_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400

_PYTHON_FUNCTIONS = {
    "PyBytes_AsString": "ptr @PyBytes_AsString(ptr)",
    "PyErr_Clear": "void @PyErr_Clear()",
    "PyErr_Occurred": "ptr @PyErr_Occurred()",
    "PyEval_RestoreThread": "void @PyEval_RestoreThread(ptr)",
    "PyEval_SaveThread": "ptr @PyEval_SaveThread()",
    "PyFloat_AsDouble": "double @PyFloat_AsDouble(ptr)",
    "PyLong_AsLongLong": "i64 @PyLong_AsLongLong(ptr)",
    "PyLong_AsUnsignedLongLong": "i64 @PyLong_AsUnsignedLongLong(ptr)",
    "PyLong_FromLongLong": "ptr @PyLong_FromLongLong(i64)",
    "Py_IncRef": "void @Py_IncRef(ptr)",
}
_PYTHON_OBJECTS: dict[str, object] = {
    "object.None": None,
    "object.NotImplemented": NotImplemented,
    "object.True": True,
    "object.False": False,
    "type.int": int,
    "type.float": float,
    "type.ndarray": np.ndarray,
}

# The conversion functions answer -1 both for -1 and for an error; only then is it worth asking which.
_PRELUDE = """
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
define internal i1 @has_no_error() {
  %error = call ptr @PyErr_Occurred()
  %is_fine = icmp eq ptr %error, null
  br i1 %is_fine, label %done, label %clear
clear:
  call void @PyErr_Clear()
  br label %done
done:
  ret i1 %is_fine
}
define internal i1 @is_converted_integer(i64 %value) {
  %is_ordinary = icmp ne i64 %value, -1
  br i1 %is_ordinary, label %ordinary, label %ask
ordinary:
  ret i1 true
ask:
  %is_fine = call i1 @has_no_error()
  ret i1 %is_fine
}
define internal i1 @is_converted_float(double %value) {
  %is_ordinary = fcmp une double %value, -1.0
  br i1 %is_ordinary, label %ordinary, label %ask
ordinary:
  ret i1 true
ask:
  %is_fine = call i1 @has_no_error()
  ret i1 %is_fine
}
"""

_ENDING = """
  %entry = load ptr, ptr %bound
  %thread_state = call ptr @PyEval_SaveThread()
  %status = call i32 %entry(ptr %slots)
  call void @PyEval_RestoreThread(ptr %thread_state)
  %is_success = icmp eq i32 %status, 0
  br i1 %is_success, label %success, label %failure
success:
  call void @Py_IncRef(ptr @object.None)
  ret ptr @object.None
failure:
  %status64 = sext i32 %status to i64
  %number = call ptr @PyLong_FromLongLong(i64 %status64)
  ret ptr %number
mismatch:
  call void @Py_IncRef(ptr @object.NotImplemented)
  ret ptr @object.NotImplemented
}
"""


def stub_code(signature: LaunchSignature) -> str:
    """IR of `PyObject *launch(PyObject *self, PyObject *const *arguments, Py_ssize_t argument_count)`.

    `self` is a bytes object: the address of the native entry, then the bound words. Gives None for status 0, else the status as an int, or
    NotImplemented without a call of the entry when an argument doesn't fit. Never raises.
    """
    dtypes = [argument.dtype_numpy for argument in signature.arguments if isinstance(argument, TensorArgument)]
    layout = torch_layout_of(signature)
    objects = [*_PYTHON_OBJECTS, *dict.fromkeys(_dtype_symbol(dtype) for dtype in dtypes), *(torch_type_symbols(layout) if layout is not None else ())]
    return "\n".join(
        [
            *(f"@{name} = external global i8" for name in objects),
            *(f"declare {declaration}" for declaration in _PYTHON_FUNCTIONS.values()),
            *(torch_declarations(layout) if layout is not None else ()),
            _PRELUDE,
            f"define ptr @{ENTRY_SYMBOL}(ptr %self, ptr %arguments, i64 %argument_count) {{",
            *_StubBody(signature).lines,
            _ENDING,
        ]
    )


def symbol_addresses(signature: LaunchSignature) -> dict[str, int]:
    """Where this process has the functions and objects that the signature's `stub_code` names. They live as long as the signature."""
    addresses = {}
    for name in _PYTHON_FUNCTIONS:
        address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
        assert address is not None
        addresses[name] = address
    addresses |= {name: id(value) for name, value in _PYTHON_OBJECTS.items()}
    for argument in signature.arguments:
        if isinstance(argument, TensorArgument):
            addresses[_dtype_symbol(argument.dtype_numpy)] = id(argument.dtype_numpy)
    layout = torch_layout_of(signature)
    return addresses if layout is None else addresses | dict(layout.functions) | torch_type_symbols(layout)


def _dtype_symbol(dtype: np.dtype[Any]) -> str:
    return f"dtype.{dtype.name}"


class _StubBody:
    """The checks and the packing of one signature, unrolled. Any failed check jumps to `mismatch`."""

    def __init__(self, signature: LaunchSignature) -> None:
        self.lines: list[str] = []
        self._value_count = 0
        self._symbols: dict[str, str] = {}
        self._int32_symbols = signature.int32_symbols
        self.slot_values: dict[Slot, str] = {}
        self.ranges: dict[int, tuple[str, str]] = {}  # first and one-past-last byte of a tensor
        pairs = signature.overlap_pairs()
        self.overlapping = frozenset(index for pair in pairs for index in pair)

        self._bound: dict[int, str] = {}

        slot_count = len(signature.slots)
        self.lines.append(f"  %slots = alloca [{slot_count} x i64], align 16")
        self.lines.append("  %cell = alloca i64, align 8")  # what functions of torch write to
        self.lines.append("  %bound = call ptr @PyBytes_AsString(ptr %self)")
        self.require(f"icmp eq i64 %argument_count, {len(signature.arguments)}")
        for index, argument in enumerate(signature.arguments):
            value = self.field("ptr", "%arguments", 8 * index)
            if isinstance(argument, TensorArgument):
                self._tensor(index, argument, value)
            elif isinstance(argument, TorchArgument):
                emit_torch_tensor(self, index, argument, value)
            else:
                self.slot_values[ScalarValue(index)] = self._scalar(argument, value)
        for first, second in pairs:
            (first_begin, first_end), (second_begin, second_end) = self.ranges[first], self.ranges[second]
            is_before = self.value(f"icmp ule i64 {first_end}, {second_begin}")
            is_after = self.value(f"icmp ule i64 {second_end}, {first_begin}")
            self.require(f"or i1 {is_before}, {is_after}")
        for slot in signature.slots:
            if isinstance(slot, BoundWord):
                self.slot_values[slot] = self.bound_word(slot.number)
            elif isinstance(slot, TorchStream):
                self.slot_values[slot] = emit_torch_stream(self, slot)
        for index, slot in enumerate(signature.slots):
            place = self.value(f"getelementptr i64, ptr %slots, i64 {index}")
            self.lines.append(f"  store i64 {self.slot_values[slot]}, ptr {place}")

    def bound_word(self, number: int) -> str:
        """A word that the stub was made with."""
        if number not in self._bound:
            self._bound[number] = self.field("i64", "%bound", 8 * (number + 1))
        return self._bound[number]

    def value(self, instruction: str) -> str:
        name = f"%v{self._value_count}"
        self._value_count += 1
        self.lines.append(f"  {name} = {instruction}")
        return name

    def require(self, condition: str) -> None:
        value = self.value(condition)
        label = f"after_{value[1:]}"
        self.lines += [f"  br i1 {value}, label %{label}, label %mismatch", f"{label}:"]

    def field(self, kind: str, base: str, offset_bytes: int) -> str:
        place = self.value(f"getelementptr i8, ptr {base}, i64 {offset_bytes}")
        return self.value(f"load {kind}, ptr {place}")

    def require_extent(self, extent: Extent, value: str) -> str:
        """Makes `value` what the signature wants there; gives the cheapest text for it, a constant if there is one."""
        if isinstance(extent, str) and extent not in self._symbols:
            if extent in self._int32_symbols:
                self.require(f"icmp ult i64 {value}, {1 << 31}")
            self._symbols[extent] = value
            return value
        wanted = self._symbols[extent] if isinstance(extent, str) else str(extent)
        self.require(f"icmp eq i64 {value}, {wanted}")
        return wanted

    def _tensor(self, index: int, argument: TensorArgument, value: str) -> None:
        self.require(f"icmp eq ptr {self.field('ptr', value, _TYPE_OFFSET)}, @type.ndarray")
        self.require(f"icmp eq ptr {self.field('ptr', value, _DTYPE_OFFSET)}, @{_dtype_symbol(argument.dtype_numpy)}")
        self.require(f"icmp eq i32 {self.field('i32', value, _RANK_OFFSET)}, {argument.rank}")
        wanted_flags = _ALIGNED | (_WRITEABLE if argument.is_written else 0) | (_C_CONTIGUOUS if argument.strides is None else 0)
        flags = self.value(f"and i32 {self.field('i32', value, _FLAGS_OFFSET)}, {wanted_flags}")
        self.require(f"icmp eq i32 {flags}, {wanted_flags}")
        address = self.field("i64", value, _DATA_OFFSET)
        if argument.alignment_bytes > 1:
            misalignment = self.value(f"and i64 {address}, {argument.alignment_bytes - 1}")
            self.require(f"icmp eq i64 {misalignment}, 0")
        self.slot_values[DataPointer(index)] = address

        dimensions = self.field("ptr", value, _DIMENSIONS_OFFSET) if argument.rank else ""
        extents = [self.require_extent(extent, self.field("i64", dimensions, 8 * axis)) for axis, extent in enumerate(argument.shape)]
        for axis, extent_value in enumerate(extents):
            self.slot_values[Dimension(index, axis)] = extent_value
        if argument.strides is None:
            self._contiguous(index, argument, address, extents)
        else:
            self._strided(index, argument, value, address, extents)

    def _contiguous(self, index: int, argument: TensorArgument, address: str, extents: list[str]) -> None:
        stride = "1"
        for axis in reversed(range(argument.rank)):
            self.slot_values[Stride(index, axis)] = stride
            stride = self.value(f"mul i64 {stride}, {extents[axis]}")
        if index in self.overlapping:
            size_bytes = self.value(f"mul i64 {stride}, {argument.dtype_numpy.itemsize}")
            self.ranges[index] = address, self.value(f"add i64 {address}, {size_bytes}")

    def _strided(self, index: int, argument: TensorArgument, value: str, address: str, extents: list[str]) -> None:
        assert argument.strides is not None
        itemsize = argument.dtype_numpy.itemsize
        strides = self.field("ptr", value, _STRIDES_OFFSET) if argument.rank else ""
        begin, end = address, self.value(f"add i64 {address}, {itemsize}")
        for axis, wanted in enumerate(argument.strides):
            stride_bytes = self.field("i64", strides, 8 * axis)
            is_unused = self.value(f"icmp sle i64 {extents[axis]}, 1")
            used_bytes = self.value(f"select i1 {is_unused}, i64 0, i64 {stride_bytes}")
            rest = self.value(f"srem i64 {used_bytes}, {itemsize}")
            self.require(f"icmp eq i64 {rest}, 0")
            stride = self.value(f"sdiv i64 {used_bytes}, {itemsize}")
            if wanted is not None:
                known = self._symbols.get(wanted) if isinstance(wanted, str) else str(wanted)
                if known is not None:
                    stride = self.value(f"select i1 {is_unused}, i64 {known}, i64 {stride}")
                stride = self.require_extent(wanted, stride)
            self.slot_values[Stride(index, axis)] = stride
            if index in self.overlapping:
                last = self.value(f"sub i64 {extents[axis]}, 1")
                reach = self.value(f"mul i64 {used_bytes}, {last}")
                begin = self.value(f"add i64 {begin}, {self.value(f'call i64 @llvm.smin.i64(i64 {reach}, i64 0)')}")
                end = self.value(f"add i64 {end}, {self.value(f'call i64 @llvm.smax.i64(i64 {reach}, i64 0)')}")
        self.ranges[index] = begin, end

    def _scalar(self, argument: ScalarArgument, value: str) -> str:
        """The slot's 64 bits."""
        kind = argument.kind
        if kind is ScalarKind.BOOL:
            is_true = self.value(f"icmp eq ptr {value}, @object.True")
            is_false = self.value(f"icmp eq ptr {value}, @object.False")
            self.require(f"or i1 {is_true}, {is_false}")
            return self.value(f"zext i1 {is_true} to i64")
        python_type = self.field("ptr", value, _TYPE_OFFSET)
        if kind.is_float:
            is_int = self.value(f"icmp eq ptr {python_type}, @type.int")
            is_float = self.value(f"icmp eq ptr {python_type}, @type.float")
            self.require(f"or i1 {is_int}, {is_float}")
            number = self.value(f"call double @PyFloat_AsDouble(ptr {value})")
            self.require(f"call i1 @is_converted_float(double {number})")
            if kind is ScalarKind.FLOAT64:
                return self.value(f"bitcast double {number} to i64")
            single = self.value(f"fptrunc double {number} to float")
            bits = self.value(f"bitcast float {single} to i32")
            return self.value(f"zext i32 {bits} to i64")
        self.require(f"icmp eq ptr {python_type}, @type.int")
        number = self.value(f"call i64 @{'PyLong_AsLongLong' if kind.is_signed else 'PyLong_AsUnsignedLongLong'}(ptr {value})")
        self.require(f"call i1 @is_converted_integer(i64 {number})")
        if kind.bits < 64:
            narrow = self.value(f"trunc i64 {number} to i{kind.bits}")
            widened = self.value(f"{'sext' if kind.is_signed else 'zext'} i{kind.bits} {narrow} to i64")
            self.require(f"icmp eq i64 {number}, {widened}")
        return number


def layout_obstacle() -> str | None:
    """Why stubs cannot be trusted in this process, in words; None when every assumption of this file was found true."""
    if sys.implementation.name != "cpython":
        return f"{sys.implementation.name} is not CPython"
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        return f"the object layout of Python {platform.python_version()} was not checked"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "free-threaded builds have another object header"
    if ctypes.sizeof(ctypes.c_void_p) != 8 or sys.byteorder != "little":
        return "slots are 64-bit little-endian words"
    return _object_obstacle()


def array_data_address(array: Any) -> int:
    """Where a numpy array's elements begin; six times as fast as `array.ctypes.data`. Only where `layout_obstacle()` is None."""
    return ctypes.c_void_p.from_address(id(array) + _DATA_OFFSET).value or 0


def _object_obstacle() -> str | None:
    array = np.zeros((2, 6, 5), np.float32)[:, ::2]
    read_only = np.zeros((), np.int8)
    read_only.flags.writeable = False
    for value in (0, -1, 0.5, array):
        if ctypes.c_void_p.from_address(id(value) + _TYPE_OFFSET).value != id(type(value)):
            return "an object's type is not where it was expected"
    for sample in (array, read_only, np.zeros((4, 3))):
        base = id(sample)
        dimensions = ctypes.c_void_p.from_address(base + _DIMENSIONS_OFFSET).value or 0
        strides = ctypes.c_void_p.from_address(base + _STRIDES_OFFSET).value or 0
        is_as_expected = (
            ctypes.c_int32.from_address(base + _RANK_OFFSET).value == sample.ndim
            and ctypes.c_void_p.from_address(base + _DATA_OFFSET).value == sample.__array_interface__["data"][0]
            and ctypes.c_void_p.from_address(base + _DTYPE_OFFSET).value == id(sample.dtype)
            and ctypes.c_int32.from_address(base + _FLAGS_OFFSET).value == sample.flags.num
            and (not sample.ndim or tuple((ctypes.c_int64 * sample.ndim).from_address(dimensions)) == sample.shape)
            and (not sample.ndim or tuple((ctypes.c_int64 * sample.ndim).from_address(strides)) == sample.strides)
            and bool(sample.flags.num & _C_CONTIGUOUS) == sample.flags.c_contiguous
            and bool(sample.flags.num & _ALIGNED) == sample.flags.aligned
            and bool(sample.flags.num & _WRITEABLE) == sample.flags.writeable
        )
        if not is_as_expected:
            return f"a field of numpy {np.__version__}'s array is not where it was expected"
    return None
