"""A launch in plain Python."""

import tilewright.language as T

with T.Kernel(4) as bx:
    pass
