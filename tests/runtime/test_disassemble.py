"""Finding the disassembler."""

from __future__ import annotations

import pytest

from tests.execution import refused
from tilewright.errors import CompilerBug, Kind
from tilewright.runtime import disassemble


def test_without_a_disassembler_the_message_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disassemble, "find_disassembler", lambda: None)
    with refused(Kind.CUDA_MISSING, "nvdisasm", "pip install"):
        disassemble.disassemble(b"")


@pytest.mark.skipif(disassemble.find_disassembler() is None, reason="nvdisasm is not installed")
def test_what_is_no_cubin_is_a_fault() -> None:
    with pytest.raises(CompilerBug, match="nvdisasm refused"):
        disassemble.disassemble(b"nothing")
