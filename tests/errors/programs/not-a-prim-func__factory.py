"""A factory that returns no kernel."""

import tilewright
import tilewright.language as T


@tilewright.jit
def make(n):
    return n


make(3)
