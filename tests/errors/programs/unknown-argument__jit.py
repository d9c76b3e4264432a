"""A misspelt keyword of a factory."""

import tilewright
import tilewright.language as T


@tilewright.jit
def make(M, block_M=32):
    return None


make(64, block_m=16)
