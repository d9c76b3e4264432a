"""The disassembler: where it is, and what is said where it is not."""

from __future__ import annotations

import pytest

from tilewright.errors import CompilerBug, TileError
from tilewright.runtime import sass
from tilewright.runtime.nvrtc import compile_cubin, is_nvrtc_installed
from tilewright.target.nvidia import SM_80

SOURCE = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2.0f; }\n'
needs_disassembler = pytest.mark.skipif(sass.find_disassembler() is None or not is_nvrtc_installed(), reason="nvdisasm is not installed")


@needs_disassembler
def test_instructions_are_shown() -> None:
    text = sass.disassemble(compile_cubin(SOURCE, SM_80).image)
    assert "LDG.E" in text and "STG.E" in text and "EXIT" in text


@needs_disassembler
def test_what_is_no_cubin_is_our_fault() -> None:
    with pytest.raises(CompilerBug, match="nvdisasm refused"):
        sass.disassemble(b"nothing")


def test_without_the_tool_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sass, "find_disassembler", lambda: None)
    with pytest.raises(TileError, match="pip install nvidia-cuda-nvdisasm"):
        sass.disassemble(b"")
