"""A macro of a number."""

import tilewright.language as T

clear = T.macro(3)
