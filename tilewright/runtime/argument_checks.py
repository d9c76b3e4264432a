"""What is wrong with the arguments of a call: one check and one message per rule (floor 7). All raise TileError and name the parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Kind, Span, fail
from tilewright.ir.buffer import Buffer
from tilewright.ir.program import Parameter, ParameterKind
from tilewright.runtime.argument_text import declared_type, describe, joined, label, plural, refuse, tuple_text, with_article
from tilewright.runtime.dlpack import row_major
from tilewright.runtime.logical_tensors import LogicalTensor, is_accepted, logical_tensor
from tilewright.runtime.scalars import ScalarMismatchError, pointer_word, scalar_converter
from tilewright.runtime.tensors import CPU, Framework, GivenTensor, NotATensorError, Place, read_tensor

_OVERLAP_WORK: Any = 100_000  # candidate solutions that numpy tries before it gives up


@dataclass(frozen=True)
class Callee:
    """The kernel as its caller sees it.

    inputs            the parameters that a call passes, in order.
    written, unused   names of parameters that the kernel may write, and of those that no statement touches.
    place             where the kernel runs.
    """

    name: str
    span: Span
    parameters: tuple[Parameter, ...]
    inputs: tuple[Parameter, ...]
    written: frozenset[str]
    unused: frozenset[str]
    place: Place = Place.CPU

    def check_count(self, count: int) -> None:
        names = [p.name for p in self.inputs]
        if count == len(names):
            return
        listed = f" ({', '.join(names)})" if names else ""
        message = f"{self.name} takes {plural(len(names), 'argument')}{listed}, but {count} {'was' if count == 1 else 'were'} given"
        missing = self.inputs[count:]
        if missing:
            message += f": {joined(names[count:])} {'is' if len(missing) == 1 else 'are'} missing"
        returned = [p.name for p in self.parameters if p not in self.inputs]
        rule = f"; {joined(returned)} {'is' if len(returned) == 1 else 'are'} returned, not passed" if returned else ""
        fail(
            Kind.ARGUMENT_COUNT,
            message,
            tuple(label(p) for p in missing) or self.span,
            because=f"arguments are positional, in the order of the parameters{rule}",
            help=f"call it as {self.name}({', '.join(names)})",
        )

    def is_given(self, parameter: Parameter, argument: Any) -> bool:
        """Whether there is anything to check; None is fine for a tensor or pointer that the body never touches."""
        if argument is not None:
            return True
        if parameter.kind is not ParameterKind.SCALAR and parameter.name in self.unused:
            return False
        use = "takes a number there" if parameter.kind is ParameterKind.SCALAR else "writes it" if parameter.name in self.written else "reads it"
        refuse(
            Kind.ARGUMENT_NONE,
            f"{parameter.name} is None, but {self.name} {use}",
            parameter,
            because="None stands only for a tensor that no statement of the kernel touches",
            help=f"pass a value for it: {declared_type(parameter)}",
        )

    # -- single arguments
    def scalar_word(self, parameter: Parameter, argument: Any) -> int:
        """The slot of a scalar parameter."""
        dtype = element_dtype(parameter)
        try:
            return scalar_converter(dtype)(argument)
        except Exception as error:  # any object may be given, and may fail in any way when it is read
            rule = str(error) if isinstance(error, ScalarMismatchError) else ""
        if _has_dimensions(argument):
            refuse(
                Kind.ARGUMENT_KIND,
                f"{parameter.name} is {describe(argument)}, but {self.name} takes {with_article(dtype)} there",
                parameter,
                because="a scalar parameter takes one number",
                help="pass a Python number, or index the tensor",
            )
        number = "a real number" if dtype.is_float else "an integer"
        is_fraction = issubclass(type(argument), (float, np.floating)) and dtype.is_integer
        refuse(
            Kind.ARGUMENT_SCALAR,
            f"{parameter.name} is {describe(argument)}, but {self.name} takes {with_article(dtype)} there",
            parameter,
            because=rule or f"{with_article(dtype)} parameter takes {number}",
            help="convert it with int(...), or declare the parameter as T.float32" if is_fraction else f"pass {number}",
        )

    def check_pointer(self, parameter: Parameter, argument: Any) -> str | None:
        """The device of the tensor that is given for a pointer parameter; None for an address."""
        try:
            word, given = pointer_word(argument, self.place)
        except Exception as error:
            word, given, rule = None, None, str(error) if isinstance(error, ScalarMismatchError) else ""
        if word is None:
            refuse(
                Kind.ARGUMENT_KIND,
                f"{parameter.name} is {describe(argument)}, but {self.name} takes an address there",
                parameter,
                because=rule or "a pointer parameter takes a tensor or an integer address",
                help="pass the tensor whose first element is meant",
            )
        if given is not None and not given.is_writable:
            self._check_writable(parameter)
        return None if given is None else given.device

    def read_tensor(self, parameter: Parameter, argument: Any) -> tuple[Framework, LogicalTensor]:
        """A tensor argument whose device, dtype, rank and gaps have been checked; its symbols have not."""
        framework, given = self._given(parameter, argument)
        buffer, name = tensor_buffer(parameter), parameter.name
        if not self.place.holds(given.device):
            self._fail_device(parameter, given.device)
        if not is_accepted(given.dtype_name, buffer.dtype):
            packed = " (or int8 or uint8, two elements per byte)" if buffer.dtype.is_packed else ""
            refuse(
                Kind.ARGUMENT_DTYPE,
                f"{name} is {given.dtype_name}, but {self.name} takes {declared_type(parameter)}{packed}",
                parameter,
                because="tensors are never converted silently",
                help=f"pass {name}{framework.conversion(buffer.dtype.scalar)}",
            )
        tensor = logical_tensor(self.name, parameter, buffer, given)
        if tensor.is_staged and self.place is not Place.CPU:
            refuse(
                Kind.ARGUMENT_DTYPE,
                f"the 4-bit elements of {name} lie one in a byte, but {self.name} takes two in a byte",
                parameter,
                because="tensors on the GPU are not packed on the way",
                help=f"pass {name} packed, as uint8",
            )
        expected = row_major(tensor.shape)
        if (
            buffer.given_strides is None
            and not tensor.is_empty
            and any(s != e for s, e, n in zip(tensor.strides, expected, tensor.shape, strict=True) if n != 1)
        ):
            found = f"its strides are {tuple_text(tensor.strides)} elements, but {self.name} expects {tuple_text(expected)}"
            refuse(
                Kind.ARGUMENT_STRIDES,
                f"{name} is not contiguous: {found}",
                parameter,
                because="a T.Tensor lies in row-major order without gaps",
                help=f"pass a contiguous copy of {name}, or declare it as T.StridedTensor",
            )
        if not given.is_writable:
            self._check_writable(parameter)
        if name in self.written and tensor.has_repeated_elements:
            refuse(
                Kind.ARGUMENT_OVERLAP,
                f"elements of {name} share memory, as a stride is 0, but {self.name} writes {name}",
                parameter,
                because="which of two writes to one place comes last is undefined",
                help=f"pass a copy of {name}",
            )
        return framework, tensor

    def _fail_device(self, parameter: Parameter, device: str) -> NoReturn:
        name = parameter.name
        is_here = device == CPU
        refuse(
            Kind.ARGUMENT_DEVICE,
            f"{name} is on {'the CPU' if is_here else device}, but {self.name} runs on {self.place.noun}",
            parameter,
            because="a kernel works on its tensors where they are",
            help=f'pass {name}.cuda(), or compile the kernel with target="cpu"' if is_here else f"pass {name}.cpu(), or compile the kernel for that device",
        )

    def check_devices(self, found: Sequence[tuple[Parameter, str]]) -> str | None:
        """The one device that all tensors are on; None where there is no tensor."""
        if not found:
            return None
        first, device = found[0]
        for parameter, other in found[1:]:
            if other != device:
                refuse(
                    Kind.ARGUMENT_DEVICE,
                    f"{first.name} is on {device}, but {parameter.name} is on {other}",
                    first,
                    parameter,
                    because=f"one launch of {self.name} runs on one device",
                    help=f"move {parameter.name} to {device}",
                )
        return device

    def _given(self, parameter: Parameter, argument: Any) -> tuple[Framework, GivenTensor]:
        try:
            return read_tensor(argument)
        except NotATensorError as error:
            noun = str(error) or describe(argument)
        except Exception as error:
            noun = f"{describe(argument)} that cannot be read ({type(error).__name__}: {error})"
        refuse(
            Kind.ARGUMENT_KIND,
            f"{parameter.name} is {noun}, but {self.name} takes a tensor there: {declared_type(parameter)}",
            parameter,
            because="a tensor is a numpy array, a torch tensor, or an object with __dlpack__, __array_interface__ or the buffer protocol"
            if self.place is Place.CPU
            else "a tensor on the GPU is a torch tensor, a cupy array, or an object with __dlpack__ or __cuda_array_interface__",
            help=f"convert it with {'numpy.asarray' if self.place is Place.CPU else 'torch.as_tensor'}({parameter.name})",
        )

    def _check_writable(self, parameter: Parameter) -> None:
        if parameter.name in self.written:
            refuse(
                Kind.ARGUMENT_READ_ONLY,
                f"{parameter.name} is read-only, but {self.name} writes it",
                parameter,
                because="the kernel would change memory that its owner protects",
                help=f"pass a copy of {parameter.name}",
            )

    # -- what depends on addresses
    def fail_alignment(self, parameter: Parameter, past_bytes: int) -> NoReturn:
        dtype, name = element_dtype(parameter), parameter.name
        multiple, element = self.place.alignment_bytes(dtype), dtype.scalar
        refuse(
            Kind.ARGUMENT_ALIGNMENT,
            f"the memory of {name} begins {plural(past_bytes, 'byte')} past a multiple of {multiple}",
            parameter,
            because=f"{self.place.noun} accesses up to {multiple} bytes at once"
            if multiple > element.itemsize
            else f"an element of {element!s} lies at a multiple of its {multiple} bytes",
            help=f"pass a copy of {name}: new tensors are aligned",
        )

    def check_overlap(self, written: Parameter, other: Parameter, arguments: tuple[Any, Any]) -> None:
        """For two tensors whose first-to-last bytes overlap: an error unless no byte belongs to both, as with two sets of columns of one matrix."""
        first, second = (np.asarray(_Memory(self.read_tensor(p, a)[1].given, given_itemsize(p))) for p, a in zip((written, other), arguments, strict=True))
        try:
            if not np.shares_memory(first, second, max_work=_OVERLAP_WORK):
                return
        except np.exceptions.TooHardError:
            pass
        refuse(
            Kind.ARGUMENT_OVERLAP,
            f"{written.name} and {other.name} share memory, but {self.name} writes {written.name}",
            written,
            other,
            because="blocks run in any order, so whether a shared element is read before it is written is undefined",
            help=f"pass a copy of {other.name}",
        )


class _Memory:
    """Memory as numpy's overlap test wants it; nothing is read."""

    def __init__(self, given: GivenTensor, itemsize: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (given.address, True),
            "shape": given.shape,
            "typestr": f"|V{itemsize}",
            "strides": tuple(s * itemsize for s in given.strides or ()),
        }


def _has_dimensions(argument: Any) -> bool:
    """Whether an object is a tensor that holds more than a number."""
    if issubclass(type(argument), (bytes, bytearray)):
        return False
    try:
        return read_tensor(argument)[1].shape != ()
    except Exception:
        return False


def tensor_buffer(parameter: Parameter) -> Buffer:
    if parameter.buffer is None:
        raise CompilerBug(f"the tensor parameter {parameter.name} has no buffer")
    return parameter.buffer


def element_dtype(parameter: Parameter) -> DType:
    """The dtype of a tensor or a scalar parameter."""
    if parameter.variable is not None:
        return parameter.variable.dtype
    return tensor_buffer(parameter).dtype


def given_itemsize(parameter: Parameter) -> int:
    """Bytes of one element of a tensor as the caller's framework counts them: lanes apart, and one for packed elements."""
    return tensor_buffer(parameter).dtype.scalar.itemsize
