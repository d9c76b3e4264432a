"""Names of test cases that are the same in every process."""

from __future__ import annotations

import re


def stable_id(value: object) -> str:
    """The value's repr, shortened and without addresses: parallel workers must agree on the names."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:60]
