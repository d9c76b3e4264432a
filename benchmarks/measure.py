"""Comparing callables in time: interleaved in a fresh random order every round, so that drift of the machine meets all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np


class Clock(Enum):
    """WALL is what a user sees. THREAD counts only the calling thread's own processor time: for one thread on a machine that others use too."""

    WALL = "wall"
    THREAD = "thread"

    def now(self) -> float:
        return time.perf_counter() if self is Clock.WALL else time.thread_time()


@dataclass(frozen=True)
class Plan:
    """How to measure.

    rounds           rounds in which every contender has one turn.
    batch_seconds    a turn repeats the call until about this long has passed; a turn's result is the mean of its calls.
    settle_seconds   idle time before each turn: worker threads of the contender before may still be spinning.
    """

    rounds: int = 15
    batch_seconds: float = 0.03
    settle_seconds: float = 0.0
    clock: Clock = Clock.WALL
    seed: int = 0


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Any) -> Spread:
        low, median, high = np.percentile(np.asarray(values, np.float64), (25, 50, 75))
        return Spread(float(median), float(low), float(high))


def measure(contenders: Mapping[str, Callable[[], Any]], plan: Plan) -> dict[str, np.ndarray]:
    """Seconds per call for every contender, one number a round; index k of two contenders is the same round."""
    counts = {name: _calls_per_turn(call, plan) for name, call in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    rng = random.Random(plan.seed)
    for _ in range(plan.rounds):
        rng.shuffle(order)
        for name in order:
            call, count = contenders[name], counts[name]
            if plan.settle_seconds:
                time.sleep(plan.settle_seconds)
            call()  # wakes the contender's threads and brings its code and data back into the caches
            start = plan.clock.now()
            for _ in range(count):
                call()
            seconds[name].append((plan.clock.now() - start) / count)
    return {name: np.array(values) for name, values in seconds.items()}


def _calls_per_turn(call: Callable[[], Any], plan: Plan) -> int:
    call()
    once = []
    for _ in range(3):
        start = plan.clock.now()
        call()
        once.append(plan.clock.now() - start)
        if once[-1] > plan.batch_seconds:
            break
    return max(1, round(plan.batch_seconds / max(min(once), 1e-7)))


def ratio(peer: np.ndarray, ours: np.ndarray) -> Spread:
    """How many times faster ours is: median and quartiles of the ratios of each round."""
    return Spread.of(peer / ours)
