"""A symbol with no name."""

import tilewright.language as T

m = T.dynamic("2m")
