"""The AutoTuner object: its settings, its run, its result."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.profiler import TensorSupplyType
from tilewright.tune import AutoTuner


def factory(n: int = 32, block: int = 4):
    @T.prim_func
    def main(A: T.Tensor((n,), "float32"), B: T.Tensor((n,), "float32")):
        with T.Kernel(T.ceildiv(n, block)) as bx:
            for i in T.Parallel(block):
                B[bx * block + i] = A[bx * block + i] + 1

    return main


def test_a_plain_function() -> None:
    tuner = AutoTuner.from_kernel(kernel=factory, configs=[{"block": 4}, {"block": 8}]).set_compile_args(out_idx=[-1], target="cpu")
    tuner.set_profile_args(supply_type=TensorSupplyType.Integer, ref_prog=lambda a: a + 1, skip_check=False)
    result = tuner.run(warmup=1, rep=1, timeout=60)
    assert result.config in ({"block": 4}, {"block": 8}) and result.latency > 0 and result.ref_latency is not None
    np.testing.assert_array_equal(result.kernel(np.zeros(32, np.float32)), np.ones(32))


def test_further_arguments_and_jitted_functions() -> None:
    result = AutoTuner.from_kernel(tilewright.jit(out_idx=-1)(factory), [{"block": 8}]).run(1, 1, None, 16)
    assert result.kernel(np.zeros(16, np.float32)).shape == (16,)


def test_sizes_of_the_run_come_from_the_inputs() -> None:
    def dynamic(block: int = 4):
        n = T.dynamic("n")

        @T.prim_func
        def main(A: T.Tensor((n,), "float32"), B: T.Tensor((n,), "float32")):
            with T.Kernel(T.ceildiv(n, block)) as bx:
                for i in T.Parallel(block):
                    B[bx * block + i] = A[bx * block + i] + 1

        return main

    tuner = AutoTuner.from_kernel(dynamic, [{"block": 8}]).set_compile_args(out_idx=-1)
    with refused(Kind.TUNING_FAILED, "symbolic dimension"):
        tuner.run(1, 1)
    with tilewright.tune.set_autotune_inputs(np.zeros(12, np.float32)):
        assert tuner.run(1, 1).config == {"block": 8}


def test_unknown_settings_are_refused() -> None:
    with refused(Kind.UNKNOWN_ARGUMENT, "`warm`", "warmup"):
        AutoTuner.from_kernel(factory, [{"block": 4}]).set_profile_args(warm=1)
    with pytest.raises(TypeError):
        AutoTuner.from_kernel(factory, [{"block": 4}]).set_compile_args(outputs=1)  # type: ignore[call-arg]
