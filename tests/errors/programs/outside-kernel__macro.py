"""A macro is called by plain Python."""

import tilewright.language as T


@T.macro
def clear(X):
    T.clear(X)


clear(3)
