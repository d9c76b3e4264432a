"""The search itself (floor 9): compile each configuration, compare it with the reference, time it, keep the fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tilewright.errors import Kind, TileError, fail
from tilewright.ir.expr import describe_operand
from tilewright.jit import EagerFunction, LazyFactory, jit
from tilewright.kernel import Kernel
from tilewright.profiler import Profiler, TensorSupplyType, do_bench
from tilewright.spans import span_of_caller
from tilewright.tune.inputs import get_autotune_inputs
from tilewright.tune.result import AutotuneResult, Trial

Jitted = LazyFactory | EagerFunction
RESERVED = "pass_configs"  # an entry of a configuration that is no argument of the function


@dataclass(frozen=True)
class ProfileOptions:
    """How candidates are compared and timed; see `autotune`."""

    warmup: float = 25
    rep: float = 100
    timeout: float = 100
    supply_type: TensorSupplyType = TensorSupplyType.Auto
    ref_prog: Callable[..., Any] | None = None
    supply_prog: Callable[..., Any] | None = None
    rtol: float = 1e-2
    atol: float = 1e-2
    max_mismatched_ratio: float = 0.01
    skip_check: bool = False
    manual_check_prog: Callable[..., Any] | None = None
    cache_input_tensors: bool = False
    early_stop: bool = False
    early_stop_factor: float = 2.0


class AutoTuner:
    """Looks for the fastest of many configurations of one function."""

    def __init__(self, fn: Callable[..., Any], configs: Any) -> None:
        self.fn, self.configs = fn, configs
        self.options = ProfileOptions()
        self._compile_options: dict[str, Any] = {}

    @classmethod
    def from_kernel(cls, kernel: Callable[..., Any], configs: Any) -> AutoTuner:
        """`kernel` is a function that returns a prim_func, with or without @tilewright.jit; `configs` as for `autotune`."""
        return cls(kernel, configs)

    def set_compile_args(
        self,
        out_idx: Any = None,
        target: Any = None,
        execution_backend: str | None = None,
        target_host: Any = None,
        verbose: bool | None = None,
        pass_configs: Mapping[Any, Any] | None = None,
    ) -> AutoTuner:
        """What `tilewright.jit` takes, for a function without the decorator."""
        given = {"out_idx": out_idx, "target": target, "execution_backend": execution_backend, "pass_configs": pass_configs}
        self._compile_options = {name: value for name, value in given.items() if value is not None}
        return self

    def set_profile_args(self, **options: Any) -> AutoTuner:
        """The options of `autotune` that are about comparing and timing."""
        unknown = [name for name in options if name not in ProfileOptions.__dataclass_fields__ and name not in ("ref_input_prog", "do_not_specialize")]
        if unknown:
            fail(
                Kind.UNKNOWN_ARGUMENT,
                f"set_profile_args has no argument `{unknown[0]}`",
                span_of_caller(),
                because=f"its arguments are {', '.join(ProfileOptions.__dataclass_fields__)}",
                help="remove it",
            )
        self.options = replace(self.options, **{k: v for k, v in options.items() if k in ProfileOptions.__dataclass_fields__})
        return self

    def run(self, warmup: float | None = None, rep: float | None = None, timeout: float | None = None, *args: Any, **kwargs: Any) -> AutotuneResult:
        """Tries all configurations; further arguments are the function's own.

        Raises TileError (tuning-failed) where none of them works.
        """
        times = {"warmup": warmup, "rep": rep, "timeout": timeout}
        self.options = replace(self.options, **{k: v for k, v in times.items() if v is not None})  # type: ignore[arg-type]
        function = self.fn if isinstance(self.fn, (LazyFactory, EagerFunction)) else jit(self.fn, **self._compile_options)
        return search(function, list_configs(self.configs, args, kwargs), args, kwargs, self.options)


def list_configs(configs: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The configurations as dictionaries, from a list of them or a function of the call's arguments.

    Raises TileError (option-value) for anything else.
    """
    found = configs(*args, **kwargs) if callable(configs) else configs
    items = list(found) if isinstance(found, Iterable) and not isinstance(found, (str, Mapping)) else None
    if not items or not all(isinstance(c, Mapping) and all(isinstance(k, str) for k in c) for c in items):
        wrong = "nothing" if items == [] else describe_operand(found if items is None else items[0])
        fail(
            Kind.OPTION_VALUE,
            f"the configurations are {wrong}",
            span_of_caller(),
            because="they are a list of dictionaries from names of parameters to values, or a function that returns one",
            help='write configs=[{"block_M": 64}, {"block_M": 128}]',
        )
    return [dict(c) for c in items]


def search(function: Jitted, configs: list[dict[str, Any]], args: tuple[Any, ...], kwargs: dict[str, Any], options: ProfileOptions) -> AutotuneResult:
    """The fastest configuration; of equal ones the first."""
    check_names(function, configs)
    trials: list[Trial] = []
    best: AutotuneResult | None = None
    held: list[Any] | None = None
    reference_ms: float | None = None
    for config in configs:
        start = time.perf_counter()
        try:
            kernel = compile_candidate(function, config, args, kwargs)
            profiler = Profiler(kernel, kernel.params, kernel.out_idx, options.supply_type)
            inputs = held if held is not None else _inputs_of(function, profiler, args, kwargs, config, options)
            held = inputs if options.cache_input_tensors else None
            _compare(profiler, inputs, options)
            limit = best.latency * options.early_stop_factor if best is not None and options.early_stop else None
            latency = do_bench(partial(kernel, *_copied(inputs)), options.warmup, options.rep, early_stop_baseline=limit)
            if options.ref_prog is not None and reference_ms is None:
                reference_ms = do_bench(partial(options.ref_prog, *_copied(inputs)), options.warmup, options.rep)
        except (TileError, AssertionError) as error:
            trials.append(Trial(config, None, str(error).splitlines()[0] if str(error) else type(error).__name__))
            continue
        if time.perf_counter() - start > options.timeout:
            trials.append(Trial(config, None, f"took longer than {options.timeout} s"))
            continue
        trials.append(Trial(config, float(latency)))
        if best is None or latency < best.latency:
            best = AutotuneResult(float(latency), config, kernel)
    if best is None:
        reasons = "\n".join(f"    {t.config}: {t.reason}" for t in trials)
        fail(
            Kind.TUNING_FAILED,
            f"none of {len(trials)} configurations of {function.func.__name__} gives a kernel:\n{reasons}",
            span_of_caller(),
            because="a configuration that does not compile, or whose results differ from ref_prog, is left out",
            help="correct the configurations, or call the function without the tuner to see the whole message",
        )
    best.kernel.latency, best.kernel.config, best.kernel.ref_latency = best.latency, best.config, reference_ms
    return replace(best, ref_latency=reference_ms, trials=tuple(trials))


def check_names(function: Jitted, configs: list[dict[str, Any]]) -> None:
    """A diagnostic for a configuration that names no parameter."""
    known = function.signature.parameters
    for config in configs:
        for name in config:
            if name != RESERVED and name not in known:
                fail(
                    Kind.UNKNOWN_ARGUMENT,
                    f"a configuration of {function.func.__name__} names `{name}`",
                    span_of_caller(),
                    because=f"its parameters are {', '.join(known)}",
                    help="use the names of the function's parameters",
                )


def compile_candidate(function: Jitted, config: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Kernel:
    """The kernel of one configuration, for the other arguments of the call."""
    own = {name: value for name, value in config.items() if name != RESERVED}
    bound = function.signature.bind_partial(*args, **kwargs).arguments
    return function.compile(**{**bound, **own})


def _inputs_of(
    function: Jitted,
    profiler: Profiler,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    config: Mapping[str, Any],
    options: ProfileOptions,
) -> list[Any]:
    """The tensors of the call, of `set_autotune_inputs`, of `supply_prog`, or made-up ones."""
    supplied = get_autotune_inputs()
    if supplied is not None:
        return list(supplied)
    if options.supply_prog is not None:
        made = options.supply_prog(profiler.parameters)
        return list(made) if isinstance(made, (list, tuple)) else [made]
    if isinstance(function, EagerFunction):
        bound = function.bind(args, {**kwargs, **{k: v for k, v in config.items() if k != RESERVED}}, is_partial=True)
        given = [bound.get(name) for name in function.runtime]
        if all(g is not None for g in given):
            return given
    return profiler.make_inputs()


def _compare(profiler: Profiler, inputs: list[Any], options: ProfileOptions) -> None:
    """Raises AssertionError where a candidate's results differ from those of the reference."""
    if options.ref_prog is None or options.skip_check:
        return
    if options.manual_check_prog is not None:
        profiler.manual_assert_close(options.ref_prog, _copied(inputs), options.manual_check_prog)
    else:
        profiler.assert_allclose(options.ref_prog, _copied(inputs), options.atol, options.rtol, options.max_mismatched_ratio)


def _copied(inputs: list[Any]) -> list[Any]:
    """Candidates may write into their arguments: the caller's stay as they are."""
    return [v.clone() if hasattr(v, "clone") else v.copy() if isinstance(v, np.ndarray) else v for v in inputs]
