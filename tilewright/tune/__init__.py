"""Searching for the fastest configuration of a kernel (floor 9; language.md 15)."""

from tilewright.tune.autotune import Tuned, autotune
from tilewright.tune.autotuner import AutoTuner
from tilewright.tune.inputs import get_autotune_inputs, set_autotune_inputs
from tilewright.tune.result import AutotuneResult, Trial

__all__ = ["AutoTuner", "AutotuneResult", "Trial", "Tuned", "autotune", "get_autotune_inputs", "set_autotune_inputs"]
