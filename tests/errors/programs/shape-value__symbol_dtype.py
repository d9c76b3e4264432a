"""A symbol that is a float."""

import tilewright.language as T

m = T.dynamic("m", "float32")
