"""A dictionary of sizes."""

import tilewright
import tilewright.language as T


@tilewright.jit
def make(sizes):
    return None


make({"M": 64})
