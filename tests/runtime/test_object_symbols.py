"""Undefined symbols of objects that LLVM made."""

from __future__ import annotations

import pytest

from tilewright.runtime.llvm_jit import compile_object
from tilewright.runtime.object_symbols import undefined_symbols
from tilewright.target.cpu import AVX2, NEON

TEXT = """target triple = "{}"
@table = private unnamed_addr constant [2 x i64] [i64 3, i64 4]
declare i64 @outside(i64)
declare i64 @never_called(i64)
define internal i64 @inner(i64 %a) noinline {{
  %p = getelementptr i64, ptr @table, i64 %a
  %x = load i64, ptr %p
  ret i64 %x
}}
define i64 @run(i64 %a) {{
  %x = call i64 @inner(i64 %a)
  %r = call i64 @outside(i64 %x)
  ret i64 %r
}}
"""


@pytest.mark.parametrize("target", [AVX2, NEON], ids=lambda t: t.name)
def test_only_what_is_called_and_not_defined_is_undefined(target) -> None:
    names = undefined_symbols(compile_object(TEXT.format(target.triple), target))
    assert names is not None and names - {"_GLOBAL_OFFSET_TABLE_"} == {"outside"}


def test_library_calls_that_llvm_makes_are_seen() -> None:
    text = f'target triple = "{AVX2.triple}"\ndefine float @f(float %a, float %b) {{\n  %r = frem float %a, %b\n  ret float %r\n}}\n'
    assert "fmodf" in (undefined_symbols(compile_object(text, AVX2)) or ())


def test_other_formats_are_not_judged() -> None:
    assert undefined_symbols(b"\xcf\xfa\xed\xfe" + bytes(100)) is None
