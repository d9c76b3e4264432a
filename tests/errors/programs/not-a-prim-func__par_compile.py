"""par_compile of a number."""

import tilewright
import tilewright.language as T

tilewright.par_compile(3)
