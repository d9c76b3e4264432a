"""Timing and comparing kernels. Nothing here depends on how long anything takes."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright import profiler
from tilewright.dtypes import SCALAR_DTYPES, DType
from tilewright.errors import Kind
from tilewright.profiler import Profiler, TensorSupplyType, do_bench


def counted() -> tuple[list[int], Any]:
    calls: list[int] = []
    return calls, lambda: calls.append(1)


def test_the_counts_decide_how_often() -> None:
    calls, function = counted()
    assert isinstance(do_bench(function, _n_warmup=3, _n_repeat=5), float) and len(calls) == 1 + 3 + 5


def test_summaries() -> None:
    _, function = counted()
    low, high = do_bench(function, _n_warmup=1, _n_repeat=20, quantiles=[0.0, 1.0])
    assert 0 <= low <= high
    for mode in ("mean", "median", "min", "max"):
        assert do_bench(function, _n_warmup=1, _n_repeat=3, return_mode=mode, backend="cupti") >= 0
    with refused(Kind.OPTION_VALUE, "return_mode"):
        do_bench(function, return_mode="mode")


def test_what_is_slower_than_a_baseline_is_measured_once_more_and_left() -> None:
    calls, function = counted()
    assert do_bench(function, _n_warmup=9, _n_repeat=9, early_stop_baseline=0.0) > 0 and len(calls) == 2
    assert len(do_bench(function, quantiles=[0.1, 0.5], early_stop_baseline=0.0)) == 2
    calls.clear()
    do_bench(function, _n_warmup=3, _n_repeat=5, early_stop_baseline=1e6)
    assert len(calls) == 9


def test_clocks_that_there_are_not() -> None:
    with refused(Kind.OPTION_VALUE, "'sundial'"):
        do_bench(lambda: None, backend="sundial")


def kernel_of(dtype: str = "float32", n: Any = 8) -> Any:
    @T.prim_func
    def kernel(A: T.Tensor((n, 4), dtype), B: T.Tensor((n, 4), dtype)):
        with T.Kernel(1):
            T.copy(A, B)

    return tilewright.compile(kernel, out_idx=[1])


def test_comparison_with_a_reference() -> None:
    profiler = kernel_of().get_profiler()
    profiler.assert_allclose(lambda a: a)
    profiler.assert_allclose(lambda a: [a + 1e-3])
    with pytest.raises(AssertionError, match="output 0: 32 of 32 elements differ"):
        profiler.assert_allclose(lambda a: a + 1)
    one_wrong = np.zeros((8, 4), np.float32)
    one_wrong[0, 0] = 9
    profiler.assert_allclose(lambda a: a + one_wrong, max_mismatched_ratio=0.04)
    with pytest.raises(AssertionError):
        profiler.assert_allclose(lambda a: a + one_wrong, input_tensors=[np.ones((8, 4), np.float32)])


def test_comparison_by_the_callers_own_function() -> None:
    def check(found: list[Any], wanted: list[Any]) -> None:
        assert (found[0] == wanted[0]).all(), "they differ"

    profiler = kernel_of().get_profiler()
    profiler.manual_assert_close(lambda a: a, None, check)
    with pytest.raises(AssertionError, match="they differ"):
        profiler.manual_assert_close(lambda a: a + 1, [np.ones((8, 4), np.float32)], check)
    with refused(Kind.OPTION_VALUE, "manual_check_prog"):
        profiler.manual_assert_close(lambda a: a)


def test_a_reference_of_another_shape() -> None:
    with pytest.raises(AssertionError, match="has shape"):
        kernel_of().get_profiler().assert_allclose(lambda a: a[:1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn"])
def test_tilelang_programs_with_torch_get_torch_tensors(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    profiler = kernel_of(dtype).get_profiler()
    assert isinstance(profiler.make_inputs()[0], np.ndarray)
    monkeypatch.setitem(sys.modules, "tilelang", sys)
    (given,) = profiler.make_inputs()
    assert given.dtype == getattr(torch, dtype)
    profiler.assert_allclose(lambda a: a.clone())
    profiler.assert_consistent(2)


def test_consistency() -> None:
    kernel_of().get_profiler().assert_consistent(repeat=3)
    state = iter(range(100))
    with pytest.raises(AssertionError, match="different results"):
        Profiler(lambda: np.array([next(state)]), [], []).assert_consistent(repeat=3)
    nan = np.array([np.nan, 1.0])
    Profiler(lambda: nan, [], []).assert_consistent(repeat=2)


def test_timing_a_kernel() -> None:
    profiler = kernel_of().get_profiler()
    assert profiler.do_bench(n_warmup=1, n_repeat=2) >= 0
    assert len(profiler.do_bench(n_warmup=1, n_repeat=2, quantiles=[0.5])) == 1
    calls: list[Any] = []
    profiler.do_bench(lambda a: calls.append(a.shape), n_warmup=1, n_repeat=2)
    assert calls == [(8, 4)] * 4 and profiler.run_once(lambda a: a.shape) == (8, 4)


def test_symbolic_sizes() -> None:
    profiler = kernel_of(n=T.dynamic("n")).get_profiler()
    with refused(Kind.UNBOUND_SYMBOL, "dynamic_symbolic_constraints"):
        profiler.do_bench(n_warmup=1, n_repeat=1)
    calls: list[Any] = []
    profiler.do_bench(lambda a: calls.append(a.shape), n_warmup=1, n_repeat=1, dynamic_symbolic_constraints={"n": 5})
    assert calls[0] == (5, 4)


def test_derived_sizes() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def kernel(A: T.Tensor((n, n * 2 + 1), "float32")):
        with T.Kernel(1):
            T.clear(A)

    profiler = tilewright.compile(kernel).get_profiler()
    calls: list[Any] = []
    profiler.do_bench(lambda a: calls.append(a.shape), n_warmup=1, n_repeat=1, dynamic_symbolic_constraints={"n": 3})
    assert calls[0] == (3, 7)


def test_scalars_must_be_given() -> None:
    @T.prim_func
    def kernel(n: T.int32, A: T.Tensor((4,), "int32")):
        with T.Kernel(1):
            T.fill(A, n)

    made = tilewright.compile(kernel)
    with refused(Kind.OPTION_VALUE, "input_tensors"):
        made.get_profiler().run_once()
    assert made.get_profiler().do_bench(input_tensors=[3, np.zeros(4, np.int32)], n_warmup=1, n_repeat=1) >= 0


@pytest.mark.parametrize("dtype", [d for d in SCALAR_DTYPES if d not in ("handle", "tfloat32")], ids=str)
@pytest.mark.parametrize("supply", list(TensorSupplyType), ids=lambda s: s.name)
def test_inputs_of_every_kind(dtype: DType, supply: TensorSupplyType) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((64, 4), dtype)):
        with T.Kernel(1):
            T.clear(A)

    def look(a: Any) -> None:
        assert a.dtype == dtype.numpy
        values = a.astype(np.float64)
        if dtype == "float8_e8m0fnu":  # has powers of two only: no zero, no sign
            assert set(values.reshape(-1)) <= {0.25, 0.5, 1, 2, 4}
            return
        if supply in (TensorSupplyType.Zero, TensorSupplyType.One):
            assert (values == (supply is TensorSupplyType.One)).all()
        elif not dtype.is_float or (supply in (TensorSupplyType.Integer, TensorSupplyType.Auto) and dtype.bits <= 8):
            assert (
                values.min() >= (-2 if dtype.is_signed and not dtype.is_bool else 0)
                and values.max() <= (1 if dtype.is_bool else 2)
                and len(np.unique(values)) > 1
            )
        else:
            assert np.abs(values).max() <= (6 if supply in (TensorSupplyType.Normal, TensorSupplyType.Randn) else 2)

    Profiler(look, kernel.params, [], supply).run_once()


def test_a_program_on_a_gpu_is_timed_by_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(profiler, "uses_gpu", lambda: True)
    monkeypatch.setattr(profiler, "gpu_times_ms", lambda fn, **options: asked.append(options) or [1.0, 2.0, 6.0])
    assert do_bench(lambda: None) == 3.0 and do_bench(lambda: None, return_mode="median") == 2.0
    assert do_bench(lambda: None, quantiles=[0.0, 1.0], backend="cudagraph", fast_flush=False, _n_warmup=2, _n_repeat=3) == [1.0, 6.0]
    assert (asked[0]["flush_bytes"], asked[0]["is_replayed"]) == (256 << 20, False)
    assert (asked[2]["flush_bytes"], asked[2]["is_replayed"], asked[2]["warmup_count"], asked[2]["repeat_count"]) == (0, True, 2, 3)
    assert do_bench(lambda: None, early_stop_baseline=0.5) == 1.0 and len(asked) == 4
    assert do_bench(lambda: None, device="cpu", _n_warmup=1, _n_repeat=3) >= 0 and len(asked) == 4
    do_bench(lambda: None, device="cuda:1")
    on_gpu = SimpleNamespace(is_cuda=True, device="cuda:2")
    Profiler(lambda *_: None, (), ()).do_bench(input_tensors=[3.0, on_gpu])
    assert [options["ordinal"] for options in asked] == [None, None, None, None, 1, 2]
