"""T.const in plain Python."""

import tilewright.language as T

M = T.const("M")
