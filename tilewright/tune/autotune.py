"""`@tilewright.autotune` on top of `@tilewright.jit` (floor 9; language.md 15)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tilewright.errors import Kind, fail
from tilewright.ir.expr import describe_operand
from tilewright.jit import EagerFunction, LazyFactory
from tilewright.profiler import TensorSupplyType
from tilewright.spans import span_of_caller
from tilewright.tune.autotuner import RESERVED, ProfileOptions, compile_candidate, list_configs, search
from tilewright.tune.result import AutotuneResult


class Tuned:
    """A jitted function that finds its configuration at the first call with new arguments."""

    def __init__(self, function: LazyFactory | EagerFunction, configs: Any, options: ProfileOptions) -> None:
        self.function, self.configs, self.options = function, configs, options
        self.results: dict[Any, AutotuneResult] = {}
        functools.update_wrapper(self, function.func)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Of a lazy function the best kernel; of an eager one the result of running it."""
        if self._is_configured(args, kwargs):
            return self.function(*args, **kwargs)
        kernel = self.tune(*args, **kwargs).kernel
        if isinstance(self.function, LazyFactory):
            return kernel
        bound = self.function.bind(args, kwargs, is_partial=True)
        return kernel(*(bound[name] for name in self.function.runtime))

    def _is_configured(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the caller gives what would be searched for."""
        bound = self.function.signature.bind_partial(*args, **kwargs).arguments
        names = {n for c in list_configs(self.configs, args, kwargs) for n in c if n != RESERVED} if not callable(self.configs) else set()
        return bool(names) and names <= bound.keys()

    def tune(self, *args: Any, **kwargs: Any) -> AutotuneResult:
        """The search for these arguments; done once."""
        key = self._key(args, kwargs)
        if key not in self.results:
            self.results[key] = search(self.function, list_configs(self.configs, args, kwargs), args, kwargs, self.options)
        return self.results[key]

    def compile(self, *args: Any, **kwargs: Any) -> Any:
        """The kernel of the best configuration, or of the one that the caller gives."""
        return self.function.compile(*args, **kwargs) if self._is_configured(args, kwargs) else self.tune(*args, **kwargs).kernel

    def load(self, result: AutotuneResult, *args: Any, **kwargs: Any) -> None:
        """Uses a result of an earlier search for calls with these arguments, without timing anything."""
        kernel = compile_candidate(self.function, result.config, args, kwargs)
        kernel.latency, kernel.config, kernel.ref_latency = result.latency, result.config, result.ref_latency
        self.results[self._key(args, kwargs)] = AutotuneResult(result.latency, result.config, kernel, result.ref_latency, result.trials)

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bound = self.function.signature.bind_partial(*args, **kwargs).arguments
        return self.function.key({name: (str(v.dtype), tuple(v.shape)) if hasattr(v, "shape") and hasattr(v, "dtype") else v for name, v in bound.items()})


def autotune(
    func: Any = None,
    *,
    configs: Any = None,
    warmup: float = 25,
    rep: float = 100,
    timeout: float = 100,
    supply_type: TensorSupplyType = TensorSupplyType.Auto,
    ref_prog: Callable[..., Any] | None = None,
    supply_prog: Callable[..., Any] | None = None,
    rtol: float = 1e-2,
    atol: float = 1e-2,
    max_mismatched_ratio: float = 0.01,
    skip_check: bool = False,
    manual_check_prog: Callable[..., Any] | None = None,
    cache_input_tensors: bool = False,
    do_not_specialize: Any = None,
    early_stop: bool = False,
    early_stop_factor: float = 2.0,
) -> Any:
    """Decorates a jitted function: its parameters are chosen by timing.

    configs       dictionaries from names of parameters to values, or a function of the call's arguments that returns them. An entry "pass_configs" is
                  accepted. Where a call gives all these parameters itself, nothing is searched.
    warmup, rep   milliseconds to spend before and while measuring each candidate.
    timeout       seconds: a candidate that took longer, compilation included, is left out.
    ref_prog      computes what the results are compared with, unless skip_check; rtol, atol, max_mismatched_ratio as in Profiler.assert_allclose,
                  or manual_check_prog(results, expected) compares.
    supply_type, supply_prog   how the inputs are made up; an eager function is timed on copies of the call's own tensors.
    cache_input_tensors        uses the same inputs for all candidates.
    early_stop    stops measuring a candidate whose first calls take early_stop_factor times as long as the best one.

    Raises TileError (not-a-prim-func, option-value) for anything but a jitted function, and without configurations.
    """
    options = ProfileOptions(
        warmup,
        rep,
        timeout,
        supply_type,
        ref_prog,
        supply_prog,
        rtol,
        atol,
        max_mismatched_ratio,
        skip_check,
        manual_check_prog,
        cache_input_tensors,
        early_stop,
        early_stop_factor,
    )
    span = span_of_caller()
    if configs is None:
        fail(
            Kind.OPTION_VALUE,
            "autotune was given no configurations",
            span,
            because="it chooses among them",
            help='write @tilewright.autotune(configs=[{"block_M": 64}, {"block_M": 128}])',
        )

    def decorate(function: Any) -> Tuned:
        if not isinstance(function, (LazyFactory, EagerFunction)):
            fail(
                Kind.NOT_A_PRIM_FUNC,
                f"autotune was given {describe_operand(function)}",
                span,
                because="it compiles the function once per configuration, so it stands above @tilewright.jit",
                help="write @tilewright.autotune(...) in the line above @tilewright.jit",
            )
        return Tuned(function, configs, options)

    return decorate if func is None else decorate(func)
