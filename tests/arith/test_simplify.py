from __future__ import annotations
from typing import Any
import numpy as np
from tilewright.arith.simplify import simplify
def test_value(generator: Any) -> None:
    for seed in range(1500):
        made = generator(seed)
        expr = made.integer(made.random.randint(1, 4)) if seed % 3 else made.condition(2)
        simple = simplify(expr, made.domain.facts)
        points = made.domain.points()
        assert simple.dtype == expr.dtype
        assert np.array_equal(made.domain.evaluate(expr, points), made.domain.evaluate(simple, points)), (seed, str(expr), str(simple))
def test_idem(generator: Any) -> None:
    bad=0
    for seed in range(1500):
        made = generator(seed)
        expr = made.integer(made.random.randint(1, 4)) if seed % 3 else made.condition(2)
        simple = simplify(expr, made.domain.facts)
        made.domain.facts.memo.clear()
        again=simplify(simple, made.domain.facts) 
        if again is not simple: bad+=1; print(expr, '|||', simple, '|||', again)
    assert bad==0, bad
