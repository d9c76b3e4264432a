"""@tilewright.autotune: what is tried, what is chosen, what is skipped, what is refused. Times themselves are not tested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused
from tilewright.errors import Kind
from tilewright.tune import AutotuneResult, Tuned, set_autotune_inputs

QUICK = {"warmup": 1, "rep": 1}


def lazy(configs: Any, **options: Any) -> Tuned:
    @tilewright.autotune(configs=configs, **QUICK, **options)
    @tilewright.jit(out_idx=-1)
    def scaled(n: int, block: int = 4, factor: float = 2.0):
        @T.prim_func
        def main(A: T.Tensor((n,), "float32"), B: T.Tensor((n,), "float32")):
            with T.Kernel(T.ceildiv(n, block)) as bx:
                tile = T.alloc_shared((block,), "float32")
                T.copy(A[bx * block], tile)
                for i in T.Parallel(block):
                    tile[i] = tile[i] * factor
                T.copy(tile, B[bx * block])

        return main

    return scaled


@pytest.fixture
def eager() -> Tuned:
    @tilewright.autotune(configs=[{"block": 4}, {"block": 16}], **QUICK)
    @tilewright.jit
    def doubled(A, B, block: int = 8):
        N = T.const("N")
        A: T.Tensor((N,), "float32")
        B: T.Tensor((N,), "float32")
        C = T.empty((N,), "float32")
        with T.Kernel(T.ceildiv(N, block)) as bx:
            for i in T.Parallel(block):
                B[bx * block + i] = B[bx * block + i] + 1
                C[bx * block + i] = A[bx * block + i] * 2
        return C

    return doubled


def test_a_lazy_function_gives_the_best_kernel() -> None:
    tuned = lazy([{"block": 4}, {"block": 8, "pass_configs": {"tl.disable_tma_lower": True}}])
    kernel = tuned(64)
    result = tuned.tune(64)
    assert kernel is result.kernel and kernel.config == result.config and kernel.latency == result.latency == min(t.latency_ms for t in result.trials)
    assert [t.config["block"] for t in result.trials] == [4, 8] and kernel.ref_latency is None
    np.testing.assert_array_equal(kernel(np.arange(64, dtype=np.float32)), 2 * np.arange(64))
    assert tuned(64) is kernel, "the search is done once"
    assert tuned(32) is not kernel and len(tuned.results) == 2


def test_an_eager_function_runs_and_leaves_the_callers_tensors_alone_while_it_searches(eager: Tuned) -> None:
    a, b = integers(40), np.zeros(40, np.float32)
    np.testing.assert_array_equal(eager(a, b), 2 * a)
    assert (b == 1).all(), "the call itself writes once"
    assert len(eager.results) == 1
    eager(a, b)
    assert len(eager.results) == 1 and (b == 2).all()
    eager(integers(8), np.zeros(8, np.float32))
    assert len(eager.results) == 2


def test_parameters_that_the_caller_gives_are_not_searched(eager: Tuned) -> None:
    a = integers(40)
    np.testing.assert_array_equal(eager(a, a.copy(), block=2), 2 * a)
    assert not eager.results
    tuned = lazy([{"block": 4}, {"block": 8}])
    assert tuned(64, block=16).config is None and not tuned.results
    assert tuned.compile(64, block=16) is tuned(64, block=16)


def test_configurations_from_the_arguments() -> None:
    tuned = lazy(lambda n: [{"block": n // 2}, {"block": n}])
    tuned(64)
    assert [t.config["block"] for t in tuned.tune(64).trials] == [32, 64]


def test_what_differs_from_the_reference_is_left_out() -> None:
    tuned = lazy([{"factor": 3.0}, {"factor": 2.0}], ref_prog=lambda a: a * 2)
    result = tuned.tune(16)
    assert result.config == {"factor": 2.0} and result.ref_latency is not None and tuned(16).ref_latency == result.ref_latency
    assert result.trials[0].latency_ms is None and "differ" in result.trials[0].reason
    assert lazy([{"factor": 3.0}], ref_prog=lambda a: a * 2, skip_check=True)(16).config == {"factor": 3.0}


def test_what_does_not_compile_is_left_out() -> None:
    result = lazy([{"block": 0}, {"block": 4}], early_stop=True).tune(16)
    assert result.config == {"block": 4} and "error[" in result.trials[0].reason


def test_own_checks_and_inputs() -> None:
    seen: list[Any] = []

    def check(found: list[Any], wanted: list[Any]) -> None:
        seen.append((found, wanted))

    inputs = [np.full(16, 7, np.float32)]
    options: dict[str, Any] = {"ref_prog": lambda a: a, "manual_check_prog": check, "cache_input_tensors": True}
    with set_autotune_inputs(inputs):
        lazy([{"block": 4}, {"block": 8}], **options)(16)
    assert len(seen) == 2 and all((found[0] == 14).all() and (wanted[0] == 7).all() for found, wanted in seen)
    lazy([{"block": 4}], supply_prog=lambda parameters: [np.full(16, len(parameters), np.float32)], **options)(16)
    assert (seen[-1][0][0] == 4).all()


def test_a_candidate_that_takes_too_long_is_left_out() -> None:
    with refused(Kind.TUNING_FAILED, "took longer than 0 s"):
        lazy([{"block": 4}], timeout=0)(16)


def test_a_result_of_another_run_is_used_without_timing(tmp_path: Any) -> None:
    lazy([{"block": 4}, {"block": 8}]).tune(64).save_to_disk(tmp_path / "best.json")
    tuned = lazy([{"block": 4}, {"block": 8}])
    stored = AutotuneResult.load_from_disk(tmp_path / "best.json")
    tuned.load(stored, 64)
    assert tuned(64).config == stored.config and tuned(64).latency == stored.latency


@pytest.mark.parametrize("configs", [[], [3], {"block": 4}, "block", [{3: 4}], 5])
def test_what_is_no_list_of_configurations_is_refused(configs: Any) -> None:
    with refused(Kind.OPTION_VALUE, "the configurations are"):
        lazy(configs)(16)


def test_mistakes_of_the_decorator() -> None:
    with refused(Kind.OPTION_VALUE, "no configurations"):
        tilewright.autotune()
    with refused(Kind.NOT_A_PRIM_FUNC, "above @tilewright.jit"):
        tilewright.autotune(configs=[{"n": 1}])(lambda n: n)
    with refused(Kind.UNKNOWN_ARGUMENT, "names `blok`", "n, block, factor"):
        lazy([{"blok": 4}])(16)
