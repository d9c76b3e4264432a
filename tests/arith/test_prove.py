from __future__ import annotations
from typing import Any
import numpy as np
from tilewright.arith.prove import *
def test_value(generator: Any) -> None:
    from collections import Counter
    count=Counter()
    for seed in range(1500):
        made = generator(seed)
        facts, points = made.domain.facts, made.domain.points()
        mask = np.ones(1, bool)
        if seed % 2:
            guard = made.condition(1)
            facts = facts.assuming(guard, has_stable_loads=True)
            mask = made.domain.evaluate(guard, points)
        claim = made.condition(2)
        truth = made.domain.evaluate(claim, points) | ~mask
        answer = prove(claim, facts, wants_counterexample=True)
        count[answer.answer, bool(truth.all())]+=1
        assert not (answer.is_proved and not truth.all()), (seed, str(claim))
        assert not (answer.is_refuted and truth.all()), (seed, str(claim))
    print(count); assert 0
