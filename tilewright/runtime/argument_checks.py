"""What is wrong with the arguments of a call: one check and one message per rule (floor 7). All raise TileError and name the parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tilewright.dtypes import DType
from tilewright.errors import Kind, fail
from tilewright.ir.buffer import Buffer
from tilewright.ir.program import Parameter, ParameterKind
from tilewright.runtime.scalars import ScalarMismatchError, pointer_word, scalar_converter
from tilewright.runtime.symbols import Equation, declared_type, label
from tilewright.runtime.tensors import CPU, NUMPY, Framework, GivenTensor, NotATensorError, framework_of

# Given element types that a parameter takes besides its own. Their bits mean the same, or are read as the parameter's dtype says.
_ALSO_ACCEPTED = {"float8_e4m3": ("float8_e4m3fn",), "bool": ("int8", "uint8"), "tfloat32": ("float32",), "handle": ("int64", "uint64")}
_PACKED_BYTES = ("int8", "uint8")
_OVERLAP_WORK = 100_000  # candidate solutions that numpy tries before it gives up


@dataclass(frozen=True, slots=True)
class LogicalTensor:
    """A given tensor counted in elements of its parameter's dtype.

    is_staged   the kernel works on a packed copy: the caller's 4-bit elements lie one per byte.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    given: GivenTensor
    is_staged: bool


@dataclass(frozen=True)
class Callee:
    """The kernel as its caller sees it. `inputs` are the parameters that a call passes, in order."""

    name: str
    parameters: tuple[Parameter, ...]
    inputs: tuple[Parameter, ...]
    written: frozenset[str]
    unused: frozenset[str]

    def check_count(self, count: int) -> None:
        expected = len(self.inputs)
        if count == expected:
            return
        names = ", ".join(p.name for p in self.inputs)
        message = f"{self.name} takes {expected} argument{'s' * (expected != 1)}{f' ({names})' if names else ''}, but {count} {'was' if count == 1 else 'were'} given"
        missing = self.inputs[count:]
        if missing:
            message += f": {' and '.join(p.name for p in missing)} {'is' if len(missing) == 1 else 'are'} missing"
        returned = [p.name for p in self.parameters if p not in self.inputs]
        rule = "arguments are positional, in the order of the parameters" + (f"; {', '.join(returned)} {'is' if len(returned) == 1 else 'are'} returned, not passed" if returned else "")
        fail(Kind.ARGUMENT_COUNT, message, tuple(label(p) for p in missing), because=rule, help=f"call it as {self.name}({names})")

    # -- single arguments
    def check_present(self, parameter: Parameter, argument: Any) -> bool:
        """Whether there is anything to check; None is fine for a tensor or pointer that the body never touches."""
        if argument is not None:
            return True
        if parameter.name in self.unused and parameter.kind is not ParameterKind.SCALAR:
            return False
        what = {ParameterKind.TENSOR: "a tensor", ParameterKind.SCALAR: "a scalar", ParameterKind.POINTER: "an address"}[parameter.kind]
        verb = "takes" if parameter.kind is ParameterKind.SCALAR else "writes" if parameter.name in self.written else "reads"
        fail(Kind.ARGUMENT_NONE, f"{parameter.name} is None, but {self.name} {verb} {'it' if verb != 'takes' else what + ' there'}", (label(parameter),),
             because="None stands only for a tensor that no statement of the kernel touches", help=f"pass {what}: {declared_type(parameter)}")

    def scalar_word(self, parameter: Parameter, argument: Any) -> int:
        """The slot of a scalar parameter."""
        dtype = _dtype(parameter)
        try:
            return scalar_converter(dtype)(argument)
        except ScalarMismatchError as error:
            rule = str(error)
        if _is_tensor(argument):
            fail(Kind.ARGUMENT_KIND, f"{parameter.name} is {describe(argument)}, but {self.name} takes a scalar there: {dtype!s}", (label(parameter),),
                 because="a scalar parameter takes one number", help="pass a Python number, or index the tensor")
        numbers = "an integer" if not dtype.is_float else "a real number"
        fail(Kind.ARGUMENT_SCALAR, f"{parameter.name} is {describe(argument)}, but {self.name} takes {_article(dtype)} there", (label(parameter),),
             because=rule or f"{_article(dtype)} parameter takes {numbers}", help=_scalar_help(argument, dtype))

    def pointer_word(self, parameter: Parameter, argument: Any) -> int:
        """The slot of a pointer parameter."""
        try:
            word, given = pointer_word(argument)
        except ScalarMismatchError as error:
            fail(Kind.ARGUMENT_KIND, f"{parameter.name} is {describe(argument)}, but {self.name} takes an address there", (label(parameter),),
                 because=str(error) or "a pointer parameter takes a tensor or an integer address", help="pass the tensor whose first element is meant")
        if given is not None and parameter.name in self.written and not given.is_writable:
            self._fail_read_only(parameter)
        return word

    def read_tensor(self, parameter: Parameter, argument: Any) -> tuple[Framework, LogicalTensor]:
        """A tensor argument whose device, dtype, rank, writability and strides have been checked, symbols aside."""
        framework, given = self._given(parameter, argument)
        if given.device != CPU:
            fail(Kind.ARGUMENT_DEVICE, f"{parameter.name} is on {given.device}, but {self.name} runs on the CPU", (label(parameter),),
                 because="a kernel reads and writes its tensors where they are", help=f"pass {parameter.name}.cpu(), or compile the kernel for that device")
        buffer = _buffer(parameter)
        logical = self._logical(parameter, buffer, given, framework)
        if parameter.name in self.written and not given.is_writable:
            self._fail_read_only(parameter)
        if buffer.strides is None:
            self._check_contiguous(parameter, logical)
        return framework, logical

    def _given(self, parameter: Parameter, argument: Any) -> tuple[Framework, GivenTensor]:
        framework = framework_of(type(argument))
        reason = "no tensor"
        if framework is not None:
            try:
                return framework, framework.describe(framework.view(argument))
            except NotATensorError as error:
                reason = str(error)
        noun = describe(argument) if reason == "no tensor" else reason
        fail(Kind.ARGUMENT_KIND, f"{parameter.name} is {noun}, but {self.name} takes a tensor there: {declared_type(parameter)}", (label(parameter),),
             because="a tensor is a numpy array, a torch tensor, or an object with __dlpack__, __array_interface__ or the buffer protocol",
             help=f"convert it with numpy.asarray({parameter.name})")

    def _logical(self, parameter: Parameter, buffer: Buffer, given: GivenTensor, framework: Framework) -> LogicalTensor:
        dtype, shape, strides = buffer.dtype, given.shape, given.strides
        element = dtype.scalar
        is_same = given.dtype_name == str(element)
        if not is_same and given.dtype_name not in _ALSO_ACCEPTED.get(element, ()) and not _is_packed_form(given, element):
            packed = " (or int8, uint8 with two elements per byte)" if dtype.is_packed else ""
            fail(Kind.ARGUMENT_DTYPE, f"{parameter.name} is {given.dtype_name}, but {self.name} takes {declared_type(parameter)}{packed}", (label(parameter),),
                 because="arguments are never converted silently", help=f"pass {parameter.name}{framework.conversion(element)}")
        if len(shape) != buffer.rank + (dtype.lanes > 1):
            lanes = f", with the {dtype.lanes} lanes of an element as the last dimension" if dtype.lanes > 1 else ""
            fail(Kind.ARGUMENT_RANK, f"{parameter.name} has {_dimensions(shape)}, but {self.name} expects {_count(buffer.rank + (dtype.lanes > 1))}: {declared_type(parameter)}{lanes}",
                 (label(parameter),), because="the rank of a tensor is fixed by its declaration", help=f"pass {parameter.name} reshaped to the declared rank")
        if dtype.is_packed and is_same:
            return LogicalTensor(shape, _row_major(shape), given, True)
        if strides is None:
            fail(Kind.ARGUMENT_STRIDES, f"the strides of {parameter.name} are no whole numbers of elements", (label(parameter),),
                 because=f"{self.name} addresses {parameter.name} by elements of {dtype!s}", help=f"pass a contiguous copy of {parameter.name}")
        if dtype.is_packed and shape:
            shape, strides = self._unpacked(parameter, buffer, shape, strides)
        if dtype.lanes > 1:
            shape, strides = self._without_lanes(parameter, dtype, shape, strides)
        return LogicalTensor(shape, strides, given, False)

    def _unpacked(self, parameter: Parameter, buffer: Buffer, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if strides[-1] != 1 and shape[-1] > 1:
            fail(Kind.ARGUMENT_STRIDES, f"the bytes of {parameter.name} do not follow each other along its last dimension", (label(parameter),),
                 because="two 4-bit elements share a byte", help=f"pass a contiguous copy of {parameter.name}")
        last, declared = 2 * shape[-1], buffer.shape[-1]
        if isinstance(declared, int) and declared == last - 1 and math.prod(shape[:-1]) == 1:
            last = declared  # the upper half of the last byte is unused
        return (*shape[:-1], last), (*(2 * s for s in strides[:-1]), 1)

    def _without_lanes(self, parameter: Parameter, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        lanes = dtype.lanes
        if shape[-1] != lanes:
            fail(Kind.ARGUMENT_SHAPE, f"the last dimension of {parameter.name} is {shape[-1]}, but an element of {dtype!s} has {lanes} lanes", (label(parameter),),
                 because=f"a tensor of {dtype!s} is given as {dtype.scalar!s} with the lanes last", help=f"reshape {parameter.name} to (..., {lanes})")
        if strides[-1] != 1 or any(s % lanes for s, n in zip(strides[:-1], shape[:-1], strict=True) if n > 1):
            fail(Kind.ARGUMENT_STRIDES, f"the lanes of {parameter.name} do not lie together", (label(parameter),),
                 because=f"an element of {dtype!s} is {lanes} neighbouring values", help=f"pass a contiguous copy of {parameter.name}")
        return shape[:-1], tuple(s // lanes for s in strides[:-1])

    def _check_contiguous(self, parameter: Parameter, logical: LogicalTensor) -> None:
        if 0 in logical.shape:
            return
        expected = _row_major(logical.shape)
        if any(s != e for s, e, n in zip(logical.strides, expected, logical.shape, strict=True) if n != 1):
            fail(Kind.ARGUMENT_STRIDES, f"{parameter.name} is not contiguous: its strides are {logical.strides} elements, but {self.name} expects {expected}", (label(parameter),),
                 because="a T.Tensor lies in row-major order without gaps",
                 help=f"pass a contiguous copy of {parameter.name}, or declare it as T.StridedTensor")

    def _fail_read_only(self, parameter: Parameter) -> NoReturn:
        fail(Kind.ARGUMENT_READ_ONLY, f"{parameter.name} is read-only, but {self.name} writes it", (label(parameter),),
             because="the kernel would change memory that its owner protects", help=f"pass a copy of {parameter.name}")

    # -- what depends on addresses
    def fail_alignment(self, parameter: Parameter, past_bytes: int) -> NoReturn:
        size = _dtype(parameter).itemsize
        fail(Kind.ARGUMENT_ALIGNMENT, f"the memory of {parameter.name} begins {past_bytes} byte{'s' * (past_bytes != 1)} past a multiple of {size}", (label(parameter),),
             because=f"an element of {_dtype(parameter)!s} lies at a multiple of its {size} bytes", help=f"pass a copy of {parameter.name}: new tensors are aligned")

    def fail_overlap(self, written: Parameter, other: Parameter) -> NoReturn:
        fail(Kind.ARGUMENT_OVERLAP, f"{written.name} and {other.name} share memory, but {self.name} writes {written.name}", (label(written), label(other)),
             because="blocks run in any order, so it is undefined whether the other tensor is read before or after the write", help=f"pass a copy of {other.name}")

    def check_overlap_with_itself(self, parameter: Parameter, logical: LogicalTensor) -> None:
        if parameter.name in self.written and not logical.is_staged and any(s == 0 and n > 1 for s, n in zip(logical.strides, logical.shape, strict=True)) and 0 not in logical.shape:
            fail(Kind.ARGUMENT_OVERLAP, f"elements of {parameter.name} share memory (a stride is 0), but {self.name} writes {parameter.name}", (label(parameter),),
                 because="which of two writes to one place comes last is undefined", help=f"pass a copy of {parameter.name}")


def equations_of(parameter: Parameter, logical: LogicalTensor) -> list[Equation]:
    """What a tensor argument says about the dimensions and strides of its declaration."""
    buffer = _buffer(parameter)
    found = [Equation(extent, size, parameter, axis) for axis, (extent, size) in enumerate(zip(buffer.shape, logical.shape, strict=True))]
    is_empty = 0 in logical.shape
    for axis, (expected, stride, size) in enumerate(zip(buffer.strides or (), logical.strides if buffer.strides else (), logical.shape if buffer.strides else (), strict=True)):
        is_loose = is_empty or size == 1
        if not is_loose and stride < 0 and not isinstance(expected, int):
            fail(Kind.ARGUMENT_STRIDES, f"stride {axis} of {parameter.name} is {stride} elements", (label(parameter),), because="a symbolic stride counts from 0 on",
                 help=f"pass a copy of {parameter.name} without negative strides")
        found.append(Equation(expected, stride, parameter, axis, is_stride=True, is_loose=is_loose))
    return found


class _Memory:
    """Memory as numpy's overlap test wants it; nothing is read."""

    def __init__(self, given: GivenTensor, itemsize: int) -> None:
        strides = given.strides or _row_major(given.shape)
        self.__array_interface__ = {"version": 3, "data": (given.address, True), "shape": given.shape, "typestr": f"|V{itemsize}",
                                    "strides": tuple(s * itemsize for s in strides)}


def is_sharing_memory(first: GivenTensor, first_itemsize: int, second: GivenTensor, second_itemsize: int) -> bool:
    """Whether any byte belongs to both; two sets of columns of one matrix share none. True where that takes too long to find out."""
    try:
        return bool(np.shares_memory(np.asarray(_Memory(first, first_itemsize)), np.asarray(_Memory(second, second_itemsize)), max_work=_OVERLAP_WORK))
    except np.exceptions.TooHardError:
        return True


def describe(argument: Any) -> str:
    """A short noun phrase for any object; never fails."""
    if argument is None:
        return "None"
    if type(argument) in (bool, int, float, complex, str, bytes):
        text = repr(argument)
        return text if len(text) <= 40 else f"a Python {type(argument).__name__}"
    if isinstance(argument, np.ndarray):
        return f"a numpy array of {_dimensions(argument.shape)}"
    if isinstance(argument, np.generic) and not isinstance(argument, (np.void, np.object_)):
        return f"{argument.dtype.name} {argument}"
    module = type(argument).__module__
    return f"a {type(argument).__name__}" if module == "builtins" else f"a {module}.{type(argument).__name__}"


def _is_packed_form(given: GivenTensor, dtype: DType) -> bool:
    return dtype.is_packed and (given.dtype_name in _PACKED_BYTES or given.dtype_name == f"{dtype!s}_x2")


def _is_tensor(argument: Any) -> bool:
    framework = framework_of(type(argument))
    if framework is None or isinstance(argument, (bytes, bytearray)):
        return False
    try:
        framework.describe(framework.view(argument))
    except NotATensorError:
        return False
    return True


def _scalar_help(argument: Any, dtype: DType) -> str:
    if isinstance(argument, (float, np.floating)) and dtype.is_integer:
        return f"pass int({describe(argument)}), or declare the parameter as T.float32"
    return f"pass a Python {'float' if dtype.is_float else 'bool' if dtype.is_bool else 'int'}"


def _dimensions(shape: Sequence[int]) -> str:
    return f"{_count(len(shape))} ({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def _count(rank: int) -> str:
    return f"{rank} dimension{'s' * (rank != 1)}"


def _article(dtype: DType) -> str:
    return f"{'an' if str(dtype).startswith('i') else 'a'} {dtype!s}"


def _row_major(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _buffer(parameter: Parameter) -> Buffer:
    assert parameter.buffer is not None
    return parameter.buffer


def _dtype(parameter: Parameter) -> DType:
    if parameter.buffer is not None:
        return parameter.buffer.dtype
    assert parameter.variable is not None
    return parameter.variable.dtype


__all__ = ["NUMPY", "Callee", "LogicalTensor", "describe", "equations_of", "is_sharing_memory"]
