"""A class."""

import tilewright.language as T


@T.prim_func
class Kernel:
    pass
