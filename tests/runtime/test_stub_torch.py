"""Both stubs read torch tensors exactly, and leave everything that is not a plain dense tensor to the slow path."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import pytest

from tests.runtime.test_stub import Recorder, make  # noqa: F401  # the fixture
from tilewright.runtime.framework import Place
from tilewright.runtime.launch_signature import BoundWord, DataPointer, Dimension, LaunchSignature, Slot, Stride, TorchArgument, TorchStream
from tilewright.runtime.torch_layout import STREAM_FUNCTION, TorchLayout, find_torch_layout, torch_layout

torch = pytest.importorskip("torch")


def layout() -> TorchLayout:
    found = torch_layout(Place.CPU)
    assert found is not None
    return found


def tensor_argument(shape: tuple[int | str, ...], dtype: Any = torch.float32, is_written: bool = False, **options: Any) -> TorchArgument:
    name = str(dtype).removeprefix("torch.")
    return TorchArgument(layout(), name, layout().dtype_code(dtype), shape, is_written, dtype.itemsize, **options)


def bench(make: Any, arguments: tuple[TorchArgument, ...], slots: tuple[Slot, ...], bound: tuple[int, ...] = ()) -> tuple[Any, Recorder]:  # noqa: F811
    recorder = Recorder(len(slots))
    return make(LaunchSignature(arguments, slots, bound_count=len(bound)), recorder.address, None, bound), recorder


def test_address_dimensions_and_strides(make: Any) -> None:  # noqa: F811
    stub, recorder = bench(make, (tensor_argument(("m", 3, 4)),), (DataPointer(0), Dimension(0, 0), Stride(0, 0), Stride(0, 2)))
    tensor = torch.zeros(6, 3, 4)[2:]
    assert stub(tensor) is None and recorder.calls == [(tensor.data_ptr(), 4, 12, 1)]
    assert stub(torch.nn.Parameter(torch.zeros(1, 3, 4))) is None
    with torch.inference_mode():
        assert stub(torch.zeros(2, 3, 4)) is None
    assert stub(torch.zeros(4, 3, 2).transpose(0, 2)) is NotImplemented and stub(torch.zeros(4, 3, 2).transpose(0, 2).contiguous()) is None
    assert stub(torch.zeros(9, 3, 4).requires_grad_()) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_dtypes(make: Any, dtype: Any) -> None:  # noqa: F811
    stub, recorder = bench(make, (tensor_argument((2,), dtype),), (DataPointer(0),))
    good = torch.zeros(2, dtype=dtype)
    assert stub(good) is None and recorder.calls == [(good.data_ptr(),)]
    assert stub(torch.zeros(2, dtype=torch.int16)) is NotImplemented


def test_what_is_not_plain_is_left_alone(make: Any) -> None:  # noqa: F811
    stub, recorder = bench(make, (tensor_argument((4, "n")),), (DataPointer(0),))

    class Own(torch.Tensor):
        pass

    strange = [
        None,
        3,
        torch.zeros(4, 4).numpy(),
        torch.zeros(4),
        torch.zeros(5, 4),
        torch.zeros(4, 4).t()[:, :3],
        torch.zeros(4, 8)[:, ::2],
        torch.zeros(4, 4).to_sparse(),
        torch.zeros(4, 4, device="meta"),
        torch._neg_view(torch.zeros(4, 4)),
        torch._efficientzerotensor((4, 4)),
        torch.zeros(4, 4, dtype=torch.complex64).conj().imag,
        torch.zeros(4, 4).as_subclass(Own),
    ]
    assert [stub(value) for value in strange] == [NotImplemented] * len(strange)
    torch.func.vmap(lambda x: strange.append(stub(x)) or x)(torch.zeros(2, 4, 4))
    assert strange[-1] is NotImplemented and stub() is NotImplemented and recorder.calls == []
    assert stub(torch.zeros(4, 4)) is None and len(recorder.calls) == 1


def test_fake_tensors_are_left_alone(make: Any) -> None:  # noqa: F811
    from torch._subclasses.fake_tensor import FakeTensorMode

    stub, recorder = bench(make, (tensor_argument((4,)),), (DataPointer(0),))
    with FakeTensorMode() as mode:
        assert stub(mode.from_tensor(torch.zeros(4))) is NotImplemented and stub(torch.zeros(4)) is NotImplemented
    assert recorder.calls == []


def test_one_symbol_has_one_value(make: Any) -> None:  # noqa: F811
    stub, _ = bench(make, (tensor_argument(("n",)), tensor_argument(("n", 2))), (Dimension(0, 0),))
    assert stub(torch.zeros(3), torch.zeros(3, 2)) is None and stub(torch.zeros(3), torch.zeros(4, 2)) is NotImplemented


def test_strides_along_axes_of_one_element_do_not_matter(make: Any) -> None:  # noqa: F811
    stub, _ = bench(make, (tensor_argument((1, "n")),), (Dimension(0, 1),))
    assert stub(torch.zeros(5, 3)[:1]) is None and stub(torch.as_strided(torch.zeros(9), (1, 3), (7, 1))) is None


def test_alignment_and_overlap(make: Any) -> None:  # noqa: F811
    stub, _ = bench(make, (tensor_argument(("n",), alignment_bytes=16),), (DataPointer(0),))
    memory = torch.zeros(12)
    assert stub(memory[4:]) is None and stub(memory[1:]) is NotImplemented
    stub, _ = bench(make, (tensor_argument((4,)), tensor_argument((4,), is_written=True)), (DataPointer(0),))
    assert stub(memory[:4], memory[4:8]) is None and stub(memory[:4], memory[3:7]) is NotImplemented


def test_the_device_is_a_bound_word(make: Any) -> None:  # noqa: F811
    """The index of the CPU is -1."""
    for word, wanted in (((1 << 64) - 1, None), (0, NotImplemented)):
        stub, _ = bench(make, (tensor_argument((4,), device_word=0),), (DataPointer(0),), (word,))
        if make.__name__ == "make_native_stub":
            assert stub(torch.zeros(4)) is wanted


asked: list[int] = []


@ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p)
def current_stream(ordinal: int, cell: int) -> int:
    """One for the process, like torch's own: compiled stubs of one text are shared."""
    asked.append(ordinal)
    ctypes.c_uint64.from_address(cell).value = 0xABCDEF
    return 0


def test_the_current_stream_is_asked_for(make: Any) -> None:  # noqa: F811
    asked.clear()
    address = ctypes.cast(current_stream, ctypes.c_void_p).value or 0
    with_stream = replace(layout(), functions=(*layout().functions, (STREAM_FUNCTION, address)))
    argument = replace(tensor_argument((4,)), layout=with_stream)
    stub, recorder = bench(make, (argument,), (TorchStream(with_stream, 1), BoundWord(0)), (5, 3))
    assert stub(torch.zeros(4)) is None and asked == [3] and recorder.calls == [(0xABCDEF, 5)]


def test_a_layout_that_cannot_be_found_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_dispatch_keys", lambda tensor: (_ for _ in ()).throw(RuntimeError("gone")))
    find_torch_layout.cache_clear()
    try:
        assert torch_layout(Place.CPU) is None
    finally:
        find_torch_layout.cache_clear()
