"""From LLVM text to code that runs."""

from __future__ import annotations

import ctypes

import pytest

from tilewright.errors import CompilerBug
from tilewright.runtime.llvm_jit import compile_assembly, compile_object, load_object
from tilewright.target.cpu import NEON, PRESETS, host_target

TRIPLE = 'target triple = "{}"\n'
ADD = """define i64 @add(i64 %a, i64 %b) {
  %cell = alloca i64, i64 1, align 64
  store i64 %a, ptr %cell
  %x = load i64, ptr %cell
  %r = add i64 %x, %b
  ret i64 %r
}
"""
CALLER = "declare i64 @outside(i64)\ndefine i64 @run(i64 %a) {\n  %r = call i64 @outside(i64 %a)\n  %s = add i64 %r, 1\n  ret i64 %s\n}\n"


def host(text: str) -> bytes:
    return compile_object(TRIPLE.format(host_target().triple) + text, host_target())


def test_an_object_runs_after_loading() -> None:
    code = load_object(host(ADD), "add", {})
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(code.entry_address)(40, 2) == 42


def test_equal_names_in_different_objects_do_not_meet() -> None:
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    first, second = load_object(host(ADD), "add", {}), load_object(host(ADD.replace("add i64", "mul i64")), "add", {})
    assert (kind(first.entry_address)(6, 7), kind(second.entry_address)(6, 7)) == (13, 42)


def test_symbols_are_imported_by_name() -> None:
    callback = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: x * 2)
    code = load_object(host(CALLER), "run", {"outside": ctypes.cast(callback, ctypes.c_void_p).value or 0})
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.entry_address)(20) == 41


def test_a_missing_symbol_is_a_fault_of_ours() -> None:
    with pytest.raises(CompilerBug, match="does not link"):
        load_object(host(CALLER), "run", {})
    with pytest.raises(CompilerBug, match="does not link"):
        load_object(host(CALLER.replace("outside", "malloc")), "run", {})


def test_refused_text_is_a_fault_of_ours() -> None:
    with pytest.raises(CompilerBug, match="LLVM refuses"):
        host("define i64 @f() {\n  ret i32 0\n}\n")


def test_object_bytes_are_the_same_every_time() -> None:
    assert host(ADD) == host(ADD)


@pytest.mark.parametrize("target", list(PRESETS.values()), ids=lambda t: t.name)
def test_assembly_for_any_target(target) -> None:
    text = compile_assembly(TRIPLE.format(target.triple) + ADD, target)
    assert "add" in text
    assert ("x0, x1, x0" in text or "x0, x0, x1" in text) if target is NEON else "rdi" in text
    assert "rsp)" not in text and "[sp" not in text, "the variable did not become a register"
