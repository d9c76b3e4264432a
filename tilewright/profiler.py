"""Timing and comparing kernels (floor 8; language.md 14)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.errors import Kind, fail
from tilewright.ir.expr import Expr, Op, const
from tilewright.ir.program import Parameter, ParameterKind
from tilewright.ir.visit import subexpressions, substitute_expr
from tilewright.runtime.cuda_timing import gpu_times_ms, uses_gpu
from tilewright.runtime.host_arrays import as_array, as_torch
from tilewright.spans import span_of_caller
from tilewright.target.nvidia import NvidiaTarget


class TensorSupplyType(Enum):
    """How a profiler fills the inputs."""

    Integer = 1
    Uniform = 2
    Normal = 3
    Randn = 4
    Zero = 5
    One = 6
    Auto = 7


def do_bench(
    fn: Callable[[], Any],
    warmup: float = 25,
    rep: float = 100,
    _n_warmup: int = 0,
    _n_repeat: int = 0,
    quantiles: Sequence[float] | None = None,
    fast_flush: bool = True,
    backend: str = "event",
    return_mode: str = "mean",
    device: Any = None,
    cache_size: int = 256,
    early_stop_baseline: float | None = None,
) -> Any:
    """Milliseconds of one call of `fn`: on the GPU, by its events, where the program uses one through torch; else on the CPU.

    warmup, rep     milliseconds to spend before and while measuring; `_n_warmup`, `_n_repeat` give counts instead.
    return_mode     "mean", "median", "min" or "max"; with `quantiles`, a list of those instead.
    early_stop_baseline   milliseconds: where the first two calls both take longer, the shorter of them is the answer.

    backend         on a GPU: "event" and "cupti" measure calls, "cudagraph" replays of a graph of one call.
    fast_flush, cache_size   on a GPU: whether the L2 cache is emptied before every call, by writing so many MiB.
    device          "cpu" measures on the CPU in any case; "cuda:1" says which GPU `fn` uses, without it the current one is meant.
    """
    if backend not in ("event", "cupti", "cudagraph"):
        fail(
            Kind.OPTION_VALUE,
            f"the backend of do_bench is {backend!r}",
            span_of_caller(),
            because='known are "event", "cupti" and "cudagraph"; on a CPU all mean its clock',
            help="leave it out",
        )
    if return_mode not in ("mean", "median", "min", "max"):
        fail(
            Kind.OPTION_VALUE,
            f"return_mode is {return_mode!r}",
            span_of_caller(),
            because='known are "mean", "median", "min" and "max"',
            help="leave it out for the mean",
        )
    summarise: dict[str, Callable[[list[float]], Any]] = {"mean": np.mean, "median": np.median, "min": np.min, "max": np.max}
    if uses_gpu() and str(device) != "cpu":
        flush_bytes, is_replayed, ordinal = (cache_size << 20 if fast_flush else 0), backend == "cudagraph", _ordinal(device)
        if early_stop_baseline is not None:
            least_ms = min(gpu_times_ms(fn, warmup_ms=0, rep_ms=0, repeat_count=2, flush_bytes=flush_bytes, ordinal=ordinal))
            if least_ms > early_stop_baseline:
                return [least_ms] * len(quantiles) if quantiles is not None else least_ms
        times = gpu_times_ms(
            fn,
            warmup_ms=warmup,
            rep_ms=rep,
            warmup_count=_n_warmup,
            repeat_count=_n_repeat,
            flush_bytes=flush_bytes,
            is_replayed=is_replayed,
            ordinal=ordinal,
        )
        return [float(np.quantile(times, q)) for q in quantiles] if quantiles is not None else float(summarise[return_mode](times))
    start = time.perf_counter()
    fn()
    once_ms = max((time.perf_counter() - start) * 1e3, 1e-6)
    if early_stop_baseline is not None and once_ms > early_stop_baseline:
        start = time.perf_counter()  # the first call may have paid for what is done once
        fn()
        once_ms = min(once_ms, (time.perf_counter() - start) * 1e3)
        if once_ms > early_stop_baseline:
            return [once_ms] * len(quantiles) if quantiles is not None else once_ms
    for _ in range(_n_warmup or max(1, int(warmup / once_ms))):
        fn()
    times = []
    for _ in range(_n_repeat or max(3, int(rep / once_ms))):
        start = time.perf_counter()
        fn()
        times.append((time.perf_counter() - start) * 1e3)
    if quantiles is not None:
        return [float(np.quantile(times, q)) for q in quantiles]
    return float(summarise[return_mode](times))


def _ordinal(device: Any) -> int | None:
    """Of "cuda:1", a torch.device or a number; None where no device is named."""
    last = str(device).rpartition(":")[2]
    return int(last) if last.isdecimal() else None


class Profiler:
    """Makes inputs for a kernel, compares it with a reference and times it."""

    def __init__(
        self,
        kernel: Callable[..., Any],
        parameters: Sequence[Parameter],
        output_positions: Sequence[int],
        supply_type: TensorSupplyType = TensorSupplyType.Auto,
    ) -> None:
        self.kernel, self.parameters, self.supply_type = kernel, tuple(parameters), supply_type
        self.result_idx = tuple(output_positions)

    def make_inputs(self, sizes: Mapping[str, int] | None = None) -> list[Any]:
        """Made-up inputs; `sizes` names the symbols. In a TileLang program that uses torch they are torch tensors, as it expects; for a GPU they are
        torch tensors on it; else numpy arrays."""
        rng = np.random.default_rng(0)
        arrays = [self._input(p, rng, sizes or {}) for k, p in enumerate(self.parameters) if k not in self.result_idx]
        if isinstance(getattr(self.kernel, "target", None), NvidiaTarget):
            return [as_torch(a).cuda() for a in arrays]
        return [as_torch(a) for a in arrays] if {"torch", "tilelang"} <= sys.modules.keys() else arrays

    def _input(self, parameter: Parameter, rng: np.random.Generator, sizes: Mapping[str, int]) -> Any:
        if parameter.kind is ParameterKind.TENSOR and parameter.buffer is not None:
            shape = tuple(self._size(n, parameter, sizes) for n in parameter.buffer.shape)
            return _random(rng, shape, parameter.buffer.dtype, self.supply_type)
        fail(
            Kind.OPTION_VALUE,
            f"{parameter.name} is a {parameter.kind.value}, which a profiler cannot make up",
            parameter.span,
            because="only tensors are filled with random values",
            help="pass input_tensors=[...]",
        )

    def _size(self, extent: int | Expr, parameter: Parameter, sizes: Mapping[str, int]) -> int:
        if isinstance(extent, int):
            return extent
        symbols = [node for node in subexpressions(extent) if node.op is Op.VAR]
        for symbol in symbols:
            if symbol.name not in sizes:
                fail(
                    Kind.UNBOUND_SYMBOL,
                    f"{parameter.name} has the symbolic dimension {extent}",
                    parameter.span,
                    because="a profiler needs sizes to make inputs",
                    help=f"pass dynamic_symbolic_constraints={{{symbol.name!r}: 1024}}",
                )
        return int(substitute_expr(extent, {s: const(sizes[s.name], s.dtype) for s in symbols}).value)

    def run_once(self, func: Callable[..., Any] | None = None) -> Any:
        """One call on made-up inputs."""
        return (func or self.kernel)(*self.make_inputs())

    def assert_allclose(
        self,
        reference_program: Callable[..., Any],
        input_tensors: Sequence[Any] | None = None,
        atol: float = 1e-2,
        rtol: float = 1e-2,
        max_mismatched_ratio: float = 0.01,
    ) -> None:
        """Runs kernel and reference on the same inputs. Raises AssertionError where more than the given share of elements differs."""
        inputs = list(input_tensors) if input_tensors is not None else self.make_inputs()
        wanted, found = _as_list(reference_program(*inputs)), _as_list(self.kernel(*inputs))
        for position, (want, got) in enumerate(zip(wanted, found, strict=True)):
            a, b = np.asarray(as_array(want)).astype(np.float64), np.asarray(as_array(got)).astype(np.float64)
            if a.shape != b.shape:
                raise AssertionError(f"output {position} has shape {b.shape}, the reference gives {a.shape}")
            wrong = ~np.isclose(b, a, rtol=rtol, atol=atol, equal_nan=True)
            if wrong.mean() > max_mismatched_ratio:
                raise AssertionError(f"output {position}: {int(wrong.sum())} of {wrong.size} elements differ by more than rtol={rtol}, atol={atol}")

    def manual_assert_close(
        self, reference_program: Callable[..., Any], input_tensors: Sequence[Any] | None = None, manual_check_prog: Callable[..., Any] | None = None
    ) -> None:
        """Gives what the kernel and the reference return for the same inputs to `manual_check_prog`, as two lists, which raises where it is not content."""
        if not callable(manual_check_prog):
            fail(
                Kind.OPTION_VALUE,
                "manual_assert_close was given no manual_check_prog",
                span_of_caller(),
                because="it is the function that compares",
                help="pass manual_check_prog=check, or use assert_allclose",
            )
        inputs = list(input_tensors) if input_tensors is not None else self.make_inputs()
        manual_check_prog(_as_list(self.kernel(*inputs)), _as_list(reference_program(*inputs)))

    def assert_consistent(self, repeat: int = 10) -> None:
        """Raises AssertionError unless repeated calls give the same bits."""
        inputs = self.make_inputs()
        first = [np.array(as_array(x), copy=True) for x in _as_list(self.kernel(*inputs))]
        for _ in range(repeat):
            if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, map(as_array, _as_list(self.kernel(*inputs))), strict=True)):
                raise AssertionError("two calls with the same inputs gave different results")

    def do_bench(
        self,
        func: Callable[..., Any] | None = None,
        warmup: float = 25,
        rep: float = 100,
        n_warmup: int = 0,
        n_repeat: int = 0,
        input_tensors: Sequence[Any] | None = None,
        backend: str = "event",
        quantiles: Sequence[float] | None = None,
        return_mode: str = "mean",
        dynamic_symbolic_constraints: Mapping[str, int] | None = None,
        device: Any = None,
        early_stop_baseline: float | None = None,
    ) -> Any:
        """Milliseconds of one call, on the GPU of the inputs where they are on one and `device` names none."""
        inputs = list(input_tensors) if input_tensors is not None else self.make_inputs(dynamic_symbolic_constraints)
        called = func or self.kernel
        if device is None:
            device = next((x.device for x in inputs if getattr(x, "is_cuda", False)), None)
        times = {"backend": backend, "return_mode": return_mode, "early_stop_baseline": early_stop_baseline, "device": device}
        return do_bench(lambda: called(*inputs), warmup, rep, n_warmup, n_repeat, quantiles, **times)


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType, supply: TensorSupplyType) -> Any:
    """Auto: floats uniform in [-1, 1), signed integers in [-2, 3), unsigned in [0, 3), bools, fp8 from small integers."""
    if supply is TensorSupplyType.One or (supply is TensorSupplyType.Zero and dtype.minimum <= 0):
        return np.full(shape, int(supply is TensorSupplyType.One)).astype(dtype.numpy)
    if dtype.is_float and dtype.minimum > 0:  # a scale: powers of two only
        return (2.0 ** rng.integers(-2, 3, shape)).astype(np.float32).astype(dtype.numpy)
    if dtype.is_bool:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_integer or supply is TensorSupplyType.Integer or (dtype.is_float and dtype.bits <= 8 and supply is TensorSupplyType.Auto):
        return rng.integers(-2 if dtype.is_signed else 0, 3, shape).astype(np.float32).astype(dtype.numpy)
    if supply in (TensorSupplyType.Normal, TensorSupplyType.Randn):
        return rng.standard_normal(shape).astype(np.float32).astype(dtype.numpy)
    return rng.uniform(-1, 1, shape).astype(np.float32).astype(dtype.numpy)
