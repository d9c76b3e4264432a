"""Both stubs pack exactly what the signature says, or call nothing; they release the GIL and leak neither objects nor exceptions."""

from __future__ import annotations

import ctypes
import gc
import itertools
import math
import struct
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.stub import (
    Argument,
    BoundWord,
    CtypesStub,
    DataPointer,
    Dimension,
    LaunchSignature,
    ScalarArgument,
    ScalarKind,
    ScalarValue,
    Slot,
    Stride,
    TensorArgument,
    make_native_stub,
    make_stub,
    native_stub_obstacle,
)

MakeStub = Callable[..., Any]
MAKERS = [CtypesStub] if native_stub_obstacle() else [CtypesStub, make_native_stub]
ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
FLOAT32 = np.dtype(np.float32)
INT64_MAX = (1 << 63) - 1


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def make(request: pytest.FixtureRequest) -> MakeStub:
    maker: MakeStub = request.param
    return maker


class Recorder:
    """An entry that keeps the slots of every call."""

    def __init__(self, slot_count: int, status: int = 0) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.status = status

        def entry(slots: int) -> int:
            self.calls.append(tuple((ctypes.c_uint64 * slot_count).from_address(slots)))
            return self.status

        self._native = ENTRY(entry)
        self.address = ctypes.cast(self._native, ctypes.c_void_p).value


class Bench:
    """A stub over a recorder."""

    def __init__(self, make: MakeStub, arguments: tuple[Argument, ...], slots: tuple[Slot, ...]) -> None:
        self.recorder = Recorder(len(slots))
        self.stub = make(LaunchSignature(arguments, slots), self.recorder.address)

    def slots(self, *arguments: object) -> tuple[int, ...]:
        """What the entry was given."""
        self.recorder.calls.clear()
        assert self.stub(*arguments) is None
        assert len(self.recorder.calls) == 1
        return self.recorder.calls[0]

    def refuses(self, *arguments: object) -> bool:
        """Whether the stub gave the sentinel; never after a call of the entry."""
        self.recorder.calls.clear()
        result = self.stub(*arguments)
        assert result is None or result is NotImplemented
        assert len(self.recorder.calls) == (result is None)
        return result is NotImplemented


def address_of(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def aligned_bytes(size_bytes: int, alignment_bytes: int = 64) -> Any:
    buffer = np.zeros(size_bytes + alignment_bytes, np.uint8)
    start = -address_of(buffer) % alignment_bytes
    return buffer[start : start + size_bytes]


def scalar_bench(make: MakeStub, kind: ScalarKind) -> Bench:
    return Bench(make, (ScalarArgument(kind),), (ScalarValue(0),))


# ---- scalars ----------------------------------------------------------------------------------------------------

INTEGER_KINDS = [kind for kind in ScalarKind if not kind.is_float and kind is not ScalarKind.BOOL]


@pytest.mark.parametrize("kind", INTEGER_KINDS)
def test_integers_in_range_are_extended_and_others_refused(make: MakeStub, kind: ScalarKind) -> None:
    bench = scalar_bench(make, kind)
    low, high = int(np.iinfo(kind.value).min), int(np.iinfo(kind.value).max)
    for value in (low, -1, 0, 1, 100, high):
        if value >= low:
            assert bench.slots(value) == (value & (1 << 64) - 1,)
    for value in (low - 1, high + 1, 1 << 70, -(1 << 70), -1 if low == 0 else high + 2):
        assert bench.refuses(value)
    for other in (True, 1.0, np.int32(1), np.int64(1), "1", None, 1j, type("Number", (int,), {})(1)):
        assert bench.refuses(other)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, -1.0, math.inf, -math.inf, math.nan, 0.1, 5e-324, 1e300, 3, -1, 1 << 60])
def test_floats_are_rounded_to_their_type(make: MakeStub, value: float) -> None:
    assert scalar_bench(make, ScalarKind.FLOAT64).slots(value) == struct.unpack("=Q", struct.pack("=d", value))
    with np.errstate(over="ignore"):
        single = np.float32(value)
    assert scalar_bench(make, ScalarKind.FLOAT32).slots(value) == (int(single.view(np.uint32)),)


@pytest.mark.parametrize("kind", [ScalarKind.FLOAT32, ScalarKind.FLOAT64])
def test_floats_take_nothing_but_numbers(make: MakeStub, kind: ScalarKind) -> None:
    bench = scalar_bench(make, kind)
    for other in (True, np.float64(1), np.float32(1), "1", None, 1j, 10**400, type("Number", (float,), {})(1)):
        assert bench.refuses(other)


def test_bool_is_exact(make: MakeStub) -> None:
    bench = scalar_bench(make, ScalarKind.BOOL)
    assert bench.slots(True) == (1,)
    assert bench.slots(False) == (0,)
    for other in (0, 1, np.True_, None, 1.0, ""):
        assert bench.refuses(other)


# ---- tensors ----------------------------------------------------------------------------------------------------


def test_pointers_dimensions_and_strides(make: MakeStub) -> None:
    tensor = TensorArgument(FLOAT32, ("m", 3, "n"), is_written=True)
    slots = (Stride(0, 0), Dimension(0, 2), DataPointer(0), Dimension(0, 0), Dimension(0, 1), Stride(0, 2), Stride(0, 1), DataPointer(0))
    array = np.zeros((2, 3, 7), np.float32)
    assert Bench(make, (tensor,), slots).slots(array) == (21, 7, address_of(array), 2, 3, 1, 7, address_of(array))


def test_rank_zero_and_no_arguments_at_all(make: MakeStub) -> None:
    array = np.zeros((), np.int8)
    assert Bench(make, (TensorArgument(np.dtype(np.int8), (), True),), (DataPointer(0),)).slots(array) == (address_of(array),)
    assert Bench(make, (), ()).slots() == ()


def test_empty_tensors(make: MakeStub) -> None:
    bench = Bench(make, (TensorArgument(FLOAT32, ("m", "n"), False),), (Dimension(0, 0), Stride(0, 0)))
    assert bench.slots(np.zeros((0, 5), np.float32)) == (0, 5)
    assert bench.slots(np.zeros((5, 0), np.float32)) == (5, 0)


@pytest.mark.parametrize(
    "scalar_type",
    [np.float16, np.float64, np.int8, np.uint64, np.bool_, np.complex64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4],
)
def test_every_dtype_matches_itself_only(make: MakeStub, scalar_type: type) -> None:
    bench = Bench(make, (TensorArgument(np.dtype(scalar_type), (4,), False),), (DataPointer(0),))
    array: Any = np.zeros(4, scalar_type)
    assert bench.slots(array) == (address_of(array),)
    assert bench.refuses(np.zeros(4, np.float32))
    assert bench.refuses(np.zeros(4, np.dtype(scalar_type).newbyteorder())) or array.itemsize == 1 or scalar_type is ml_dtypes.bfloat16


def test_every_mismatch_of_a_tensor_is_refused(make: MakeStub) -> None:
    bench = Bench(make, (TensorArgument(FLOAT32, (4, 6), is_written=True, alignment_bytes=64),), (DataPointer(0),))
    good = aligned_bytes(96).view(np.float32).reshape(4, 6)
    assert bench.slots(good) == (address_of(good),)
    read_only = good.view()
    read_only.flags.writeable = False
    shifted = aligned_bytes(100)[4:].view(np.float32).reshape(4, 6)
    unaligned = aligned_bytes(97)[1:].view(np.float32).reshape(4, 6)
    wide = aligned_bytes(48 * 4).view(np.float32).reshape(4, 12)[:, ::2]
    for other in (
        (),
        (good, good),
        (None,),
        (good.tolist(),),
        (memoryview(good),),
        (good.view(np.int32),),
        (good.view(type("Array", (np.ndarray,), {})),),
        (good.reshape(6, 4),),
        (good.reshape(24),),
        (good.reshape(1, 4, 6),),
        (good[:3],),
        (good.reshape(6, 4).T,),
        (wide,),
        (read_only,),
        (shifted,),
        (unaligned,),
        (np.float32(1),),
        (np.zeros((4, 6), ">f4"),),
        (np.zeros((4, 6), [("x", np.float32)]),),
        (np.zeros((4, 6), object),),
    ):
        assert bench.refuses(*other)


def test_read_tensors_may_be_read_only(make: MakeStub) -> None:
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    assert Bench(make, (TensorArgument(FLOAT32, ("n",), False),), (Dimension(0, 0),)).slots(array) == (3,)


def test_symbols_must_agree(make: MakeStub) -> None:
    arguments = tuple(TensorArgument(FLOAT32, shape, False) for shape in (("m", "k"), ("k", "n"), ("m", "n")))
    bench = Bench(make, arguments, (Dimension(2, 0), Dimension(0, 1), Dimension(1, 1)))

    def zeros(*shape: int) -> Any:
        return np.zeros(shape, np.float32)

    assert bench.slots(zeros(2, 3), zeros(3, 4), zeros(2, 4)) == (2, 3, 4)
    assert bench.refuses(zeros(2, 3), zeros(2, 4), zeros(2, 4))
    assert bench.refuses(zeros(2, 3), zeros(3, 4), zeros(3, 4))
    assert bench.refuses(zeros(2, 3), zeros(3, 4), zeros(2, 5))


def test_int32_symbols_stay_below_31_bits(make: MakeStub) -> None:
    recorder = Recorder(1)
    for names, is_fine in ((frozenset(), True), (frozenset({"n"}), False)):
        stub = make(LaunchSignature((TensorArgument(FLOAT32, ("n", 0), False),), (Dimension(0, 0),), names), recorder.address)
        assert (stub(np.empty((1 << 31, 0), np.float32)) is None) == is_fine
        assert stub(np.empty(((1 << 31) - 1, 0), np.float32)) is None


def test_strides_of_single_axes_do_not_matter_to_contiguity(make: MakeStub) -> None:
    array = np.lib.stride_tricks.as_strided(np.zeros(8, np.float32), (1, 8), (12344, 4))
    assert array.strides == (12344, 4)
    assert Bench(make, (TensorArgument(FLOAT32, (1, 8), False),), (Stride(0, 0), Stride(0, 1))).slots(array) == (8, 1)


def test_strided_tensors(make: MakeStub) -> None:
    base = np.zeros((6, 10), np.float32)
    tensor = TensorArgument(FLOAT32, ("m", "n"), is_written=False, strides=(None, 1))
    bench = Bench(make, (tensor,), (DataPointer(0), Dimension(0, 1), Stride(0, 0), Stride(0, 1)))
    part = base[1:5, 2:7]
    assert bench.slots(part) == (address_of(part), 5, 10, 1)
    assert bench.slots(part[::-2]) == (address_of(part) + 3 * 40, 5, (1 << 64) - 20, 1)
    assert bench.refuses(base[:, ::2])
    assert bench.refuses(base.T)
    assert bench.slots(base[:, 3:4]) == (address_of(base) + 12, 1, 10, 1)  # the only column: any stride will do
    assert bench.slots(base.T[3:4, :1]) == (address_of(base) + 12, 1, 0, 1)


def test_strides_that_are_no_whole_elements_are_refused(make: MakeStub) -> None:
    bench = Bench(make, (TensorArgument(np.dtype(np.complex64), ("n",), False, strides=(None,)),), (Stride(0, 0),))
    halves = np.lib.stride_tricks.as_strided(np.zeros(8, np.complex64), (4,), (12,))
    assert bench.refuses(halves)
    assert bench.slots(halves[::2]) == (3,)


def test_stride_symbols_must_agree(make: MakeStub) -> None:
    tensor = TensorArgument(FLOAT32, ("m", "n"), is_written=False, strides=("pitch", 1))
    bench = Bench(make, (tensor, tensor), (Stride(0, 0), Stride(1, 0)))
    base = np.zeros((6, 10), np.float32)
    assert bench.slots(base[:, :4], base[:, 1:5]) == (10, 10)
    assert bench.refuses(base[:, :4], base[::2, :4][:, :4])
    assert bench.refuses(base[:, :4], np.zeros((6, 4), np.float32))


def test_written_tensors_must_not_overlap(make: MakeStub) -> None:
    read = TensorArgument(FLOAT32, ("n",), is_written=False)
    written = TensorArgument(FLOAT32, ("n",), is_written=True, strides=(None,))
    slots = (DataPointer(0), DataPointer(1), DataPointer(2))
    bench = Bench(make, (read, read, written), slots)
    memory = np.zeros(12, np.float32)
    first, second, third = memory[:4], memory[4:8], memory[8:]
    for arrays in ((first, second, third), (first, first, third), (second, third, first), (third, first, second[::-1])):
        assert bench.slots(*arrays) == tuple(address_of(array) for array in arrays)
    for overlapping in (first, second, memory[5:9], memory[8:4:-1], memory[1::3]):
        assert bench.refuses(first, second, overlapping)


# ---- results, references, threads -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [1, -1, 1000, -(1 << 31), (1 << 31) - 1])
def test_status_is_returned(make: MakeStub, status: int) -> None:
    recorder = Recorder(0, status)
    result = make(LaunchSignature((), ()), recorder.address)()
    assert type(result) is int
    assert result == status


def test_keyword_arguments_are_an_ordinary_type_error(make: MakeStub) -> None:
    bench = scalar_bench(make, ScalarKind.INT32)
    with pytest.raises(TypeError):
        bench.stub(x=1)
    assert bench.recorder.calls == []


def test_bound_words_come_with_the_stub(make: MakeStub) -> None:
    signature = LaunchSignature((ScalarArgument(ScalarKind.INT32),), (BoundWord(1), ScalarValue(0), BoundWord(0)), bound_count=2)
    recorder = Recorder(3)
    first, second = make(signature, recorder.address, None, (7, (1 << 64) - 1)), make(signature, recorder.address, None, (8, 9))
    assert first(5) is None and second(6) is None
    assert recorder.calls == [((1 << 64) - 1, 5, 7), (9, 6, 8)]


def test_owner_lives_as_long_as_the_stub(make: MakeStub) -> None:
    class Owner:
        pass

    owner = Owner()
    gone = weakref.ref(owner)
    stub = make(LaunchSignature((), ()), Recorder(0).address, owner)
    del owner
    gc.collect()
    assert gone() is not None
    del stub
    gc.collect()
    assert gone() is None


NATIVE_ENTRIES = """
define i32 @zero(ptr %slots) {
  ret i32 0
}
define i32 @thousand(ptr %slots) {
  ret i32 1000
}
; Waits until a second thread has come too; status 1 if none came in 2^31 looks.
define i32 @meet(ptr %slots) {
entry:
  %counter = load ptr, ptr %slots
  %old = atomicrmw add ptr %counter, i64 1 seq_cst
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %next, %look_again ]
  %count = load atomic i64, ptr %counter seq_cst, align 8
  %has_met = icmp sge i64 %count, 2
  br i1 %has_met, label %met, label %look_again
look_again:
  %next = add i64 %i, 1
  %is_over = icmp eq i64 %next, 2147483648
  br i1 %is_over, label %alone, label %look
met:
  ret i32 0
alone:
  ret i32 1
}
"""


@pytest.fixture(scope="module")
def entries() -> llvm.ResourceTracker:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    builder = llvm.JITLibraryBuilder().add_ir(NATIVE_ENTRIES)
    for name in ("zero", "thousand", "meet"):
        builder.export_symbol(name)
    return builder.link(llvm.create_lljit_compiler(), "test.entries")


def test_the_gil_is_released(make: MakeStub, entries: llvm.ResourceTracker) -> None:
    stub = make(LaunchSignature((ScalarArgument(ScalarKind.UINT64),), (ScalarValue(0),)), entries["meet"])
    counter = ctypes.c_int64(0)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(stub(ctypes.addressof(counter)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [None, None]


def test_references_and_memory_are_balanced(make: MakeStub, entries: llvm.ResourceTracker) -> None:
    call_count = 100_000 if make is not CtypesStub else 10_000
    arguments = (TensorArgument(FLOAT32, ("n",), True), ScalarArgument(ScalarKind.INT64), ScalarArgument(ScalarKind.FLOAT64))
    signature = LaunchSignature(arguments, (DataPointer(0), ScalarValue(1), ScalarValue(2)))
    succeed, fail = make(signature, entries["zero"]), make(signature, entries["thousand"])
    array, integer, number, huge = np.zeros(4, np.float32), 1 << 40, 2.5, 1 << 80
    cases = [
        (succeed, (array, integer, number)),
        (succeed, (array, integer, integer)),
        (fail, (array, integer, number)),
        (succeed, (array, huge, number)),
        (succeed, (array, integer, array)),
        (succeed, (array, integer, 10**400)),
    ]
    watched = (None, NotImplemented, array, array.dtype, integer, number, huge, float, int, np.ndarray)

    def call_all(count: int) -> None:
        for stub, values in cases:
            for _ in itertools.repeat(None, count):
                stub(*values)

    def counts() -> tuple[list[int], int]:
        gc.collect()  # empties the interpreter's free lists too, which hold up to 2000 tuples of each length
        return [sys.getrefcount(value) for value in watched], sys.getallocatedblocks()

    call_all(100)
    references_before, blocks_before = counts()
    call_all(call_count // len(cases))
    references_after, blocks_after = counts()
    # Blocks, not bytes: one object lost per call of one case would be over 1600, while a table that grows once is one.
    assert max(abs(after - before) for before, after in zip(references_before, references_after, strict=True)) < 20
    assert blocks_after - blocks_before < 500


# ---- the two stubs agree ----------------------------------------------------------------------------------------

ARRAYS = [
    np.zeros(shape, dtype)[index]
    for dtype in (np.float32, ml_dtypes.bfloat16)
    for shape, index in (
        ((4,), ...),
        ((5,), slice(1, None)),
        ((8,), slice(None, None, 2)),
        ((2, 4), ...),
        ((1, 4), ...),
        ((4, 4), (slice(None, 2), ...)),
    )
]
ARRAYS += [ARRAYS[0], ARRAYS[0][:2], ARRAYS[3].T, np.zeros((), np.float32), np.zeros((0, 4), np.float32)]
EXTENTS = st.one_of(st.sampled_from([1, 2, 4]), st.sampled_from(["m", "n"]))


@st.composite
def tensor_arguments(draw: st.DrawFn) -> TensorArgument:
    shape = tuple(draw(st.lists(EXTENTS, max_size=2)))
    stride = st.one_of(st.none(), st.sampled_from([1, 2, 4, "m", "s"]))
    strides = draw(st.one_of(st.none(), st.tuples(*[stride] * len(shape))))
    dtype = np.dtype(draw(st.sampled_from([np.float32, ml_dtypes.bfloat16])))
    return TensorArgument(dtype, shape, draw(st.booleans()), draw(st.sampled_from([1, 4, 8])), strides)


def all_slots(arguments: list[Argument]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    for index, argument in enumerate(arguments):
        if isinstance(argument, ScalarArgument):
            slots.append(ScalarValue(index))
        else:
            slots += [DataPointer(index), *(kind(index, axis) for axis in range(argument.rank) for kind in (Dimension, Stride))]
    return tuple(slots)


@pytest.mark.skipif(native_stub_obstacle() is not None, reason="no native stubs here")
@settings(max_examples=60, deadline=None)
@given(
    arguments=st.lists(st.one_of(tensor_arguments(), st.builds(ScalarArgument, st.sampled_from(ScalarKind))), max_size=3),
    data=st.data(),
)
def test_native_and_plain_stubs_agree(arguments: list[Argument], data: st.DataObject) -> None:
    slots = all_slots(arguments)
    benches = [Bench(maker, tuple(arguments), slots) for maker in (make_native_stub, CtypesStub)]
    limits = st.sampled_from([INT64_MAX, -INT64_MAX - 1])
    numbers = st.one_of(st.integers(-300, 300), st.floats(), st.booleans(), st.integers(), st.none(), limits)
    for _ in range(20):
        values = [data.draw(st.sampled_from(ARRAYS) if isinstance(argument, TensorArgument) else numbers) for argument in arguments]
        outcomes = []
        for bench in benches:
            is_refused = bench.refuses(*values)
            outcomes.append((is_refused, list(bench.recorder.calls)))
        assert outcomes[0] == outcomes[1]


def test_make_stub_prefers_the_native_one(entries: llvm.ResourceTracker) -> None:
    stub = make_stub(LaunchSignature((), ()), entries["zero"])
    assert isinstance(stub, CtypesStub) == (native_stub_obstacle() is not None)
    assert stub() is None


def test_one_signature_is_compiled_once(make: MakeStub) -> None:
    signature = LaunchSignature((ScalarArgument(ScalarKind.INT16),), (ScalarValue(0),))
    recorders = [Recorder(1, status) for status in range(3)]
    stubs = [make(signature, recorder.address) for recorder in recorders]
    assert [stub(7) for stub in stubs] == [None, 1, 2]
    assert [recorder.calls for recorder in recorders] == [[(7,)]] * 3
