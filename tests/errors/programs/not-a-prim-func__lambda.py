"""A lambda."""

import tilewright.language as T

kernel = T.prim_func(lambda X: X)
