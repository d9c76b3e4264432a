"""A misspelt name in an annotation that Python kept as text."""

from __future__ import annotations

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensr((64,), "float32")):
    with T.Kernel(1):
        T.clear(X)
