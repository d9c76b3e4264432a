from __future__ import annotations
from typing import Any
import numpy as np
def test_ranges_contain_every_value(generator: Any) -> None:
    for seed in range(1500):
        made = generator(seed)
        expr = made.integer(made.random.randint(1, 4)) if seed % 3 else made.condition(2)
        values = np.unique(made.domain.evaluate(expr))
        known = made.domain.facts.range_of(expr)
        assert all(known.contains(int(v)) for v in values), (seed, str(expr), str(known), values)
