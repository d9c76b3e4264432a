"""The part of a launch stub that reads torch tensors, as LLVM text (floor 7); `torch_layout` says what it relies on."""

from __future__ import annotations

from typing import Protocol

from tilewright.runtime.launch_signature import Argument, DataPointer, Dimension, Extent, LaunchSignature, Slot, Stride, TorchArgument, TorchStream
from tilewright.runtime.torch_layout import TorchLayout

_TYPE_OFFSET = 8  # of a PyObject


class StubBody(Protocol):
    """What is written to: the body of a stub."""

    slot_values: dict[Slot, str]
    ranges: dict[int, tuple[str, str]]
    overlapping: frozenset[int]

    def value(self, instruction: str) -> str: ...

    def require(self, condition: str) -> None: ...

    def field(self, kind: str, base: str, offset_bytes: int) -> str: ...

    def require_extent(self, extent: Extent, value: str) -> str: ...

    def bound_word(self, number: int) -> str: ...


def torch_layout_of(signature: LaunchSignature) -> TorchLayout | None:
    """The layout that the signature's tensors and stream share; None where it has none of torch."""
    items: list[Argument | Slot] = [*signature.arguments, *signature.slots]
    return next((item.layout for item in items if isinstance(item, (TorchArgument, TorchStream))), None)


def torch_type_symbols(layout: TorchLayout) -> dict[str, int]:
    """Symbols of the types of plain tensors, with their addresses."""
    return {f"type.torch.{number}": id(kind) for number, kind in enumerate(layout.types)}


def torch_declarations(layout: TorchLayout) -> list[str]:
    """All functions take an `at::Tensor *`, or the ordinal of a device, and where to write; they give 0 for success."""
    return [f"declare i32 @{name}({'i32' if name.endswith('_stream') else 'ptr'}, ptr)" for name, _ in layout.functions]


def emit_torch_tensor(body: StubBody, index: int, argument: TorchArgument, value: str) -> None:
    """Checks argument `index`, the object at `value`, and makes its address, dimensions and strides slot values."""
    layout = argument.layout
    python_type = body.field("ptr", value, _TYPE_OFFSET)
    tests = [body.value(f"icmp eq ptr {python_type}, @{symbol}") for symbol in torch_type_symbols(layout)]
    is_tensor = tests[0]
    for test in tests[1:]:
        is_tensor = body.value(f"or i1 {is_tensor}, {test}")
    body.require(f"or i1 {is_tensor}, false")
    tensor = body.value(f"getelementptr i8, ptr {value}, i64 {layout.tensor_offset_bytes}")
    keys = body.field("i64", body.field("ptr", tensor, 0), layout.keys_offset_bytes)
    # Every key that is required, and none beyond those allowed.
    body.require(f"icmp eq i64 {body.value(f'and i64 {keys}, {_signed(layout.required)}')}, {_signed(layout.required)}")
    body.require(f"icmp eq i64 {body.value(f'and i64 {keys}, {_signed(~layout.allowed)}')}, 0")

    def ask(what: str, kind: str) -> str:
        body.require(f"icmp eq i32 {body.value(f'call i32 @aoti_torch_get_{what}(ptr {tensor}, ptr %cell)')}, 0")
        return body.value(f"load {kind}, ptr %cell")

    body.require(f"icmp eq i32 {ask('dtype', 'i32')}, {argument.dtype_code}")
    body.require(f"icmp eq i64 {ask('dim', 'i64')}, {argument.rank}")
    if argument.device_word is not None:
        ordinal = body.value(f"sext i32 {ask('device_index', 'i32')} to i64")
        body.require(f"icmp eq i64 {ordinal}, {body.bound_word(argument.device_word)}")
    address = body.value(f"ptrtoint ptr {ask('data_ptr', 'ptr')} to i64")
    if argument.alignment_bytes > 1:
        past = body.value(f"and i64 {address}, {argument.alignment_bytes - 1}")
        body.require(f"icmp eq i64 {past}, 0")
    body.slot_values[DataPointer(index)] = address
    sizes, strides = (ask("sizes", "ptr"), ask("strides", "ptr")) if argument.rank else ("", "")
    extents = []
    for axis, wanted in enumerate(argument.shape):
        size = body.field("i64", sizes, 8 * axis)
        extents.append(body.require_extent(wanted, size))
        body.slot_values[Dimension(index, axis)] = size
    expected = "1"
    for axis in reversed(range(argument.rank)):
        is_expected = body.value(f"icmp eq i64 {body.field('i64', strides, 8 * axis)}, {expected}")
        is_unused = body.value(f"icmp sle i64 {extents[axis]}, 1")
        body.require(f"or i1 {is_expected}, {is_unused}")
        body.slot_values[Stride(index, axis)] = expected
        expected = body.value(f"mul i64 {expected}, {extents[axis]}")
    if index in body.overlapping:
        size_bytes = body.value(f"mul i64 {expected}, {argument.itemsize}")
        body.ranges[index] = address, body.value(f"add i64 {address}, {size_bytes}")


def emit_torch_stream(body: StubBody, stream: TorchStream) -> str:
    """The handle of the current stream."""
    ordinal = body.value(f"trunc i64 {body.bound_word(stream.device_word)} to i32")
    body.require(f"icmp eq i32 {body.value(f'call i32 @aoti_torch_get_current_cuda_stream(i32 {ordinal}, ptr %cell)')}, 0")
    return body.value("load i64, ptr %cell")


def _signed(word: int) -> int:
    """A 64-bit word as LLVM writes it."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word
