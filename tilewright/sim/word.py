"""How the shadow memory writes down an access, in one int64 (floor 7).

Bits, from the lowest: thread in its block (11; for readers the lane, or MANY_LANES), atomic (1), statement (20), clock (26), under way (1),
not initialised (1). Comparing whole words therefore compares clocks, and what is under way or not initialised is greater than any of them.
"""

from __future__ import annotations

THREAD_MASK = 0x7FF
MANY_LANES = 32
ATOMIC = 1 << 11
STATEMENT_SHIFT, STATEMENT_MASK = 12, 0xFFFFF
CLOCK_SHIFT, CLOCK_MASK = 32, 0x3FFFFFF
UNDER_WAY = 1 << 58
UNINITIALISED = 1 << 59

# What is read from memory that nobody has written: a great number and a small one in every format, with different low bits. A result that differs
# between the two depends on it.
UNSET_BYTES = (0x7B, 0xF4)
