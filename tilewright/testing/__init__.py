"""Timing, fuzzing, invalid programs and minimisation (floor 9)."""

from tilewright.testing.bench import Timing, do_bench

__all__ = ["Timing", "do_bench"]
