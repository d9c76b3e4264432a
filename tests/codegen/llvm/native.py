"""Compiles emitted functions for this machine and calls them with addresses and integers."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from tilewright.codegen.llvm.emitter import Module
from tilewright.runtime.llvm_jit import compile_object, target_machine
from tilewright.target.cpu import CpuTarget, host_target

_C_TYPES = {"ptr": ctypes.c_void_p, "i64": ctypes.c_int64, "i1 zeroext": ctypes.c_bool}


class NativeFunctions:
    """The internal functions of a module, callable by name; `functions` gives the parameter types of each."""

    def __init__(self, module: Module, functions: Mapping[str, Sequence[str]]) -> None:
        for name, types in functions.items():
            wrapper = module.function(f"call_{name}", "void", [(type_, f"p{i}") for i, type_ in enumerate(types)])
            wrapper.line(f"call void @{name}({', '.join(map(str, wrapper.arguments.values()))})")
            wrapper.ret()
        builder = llvm.JITLibraryBuilder().add_object_img(compile_object(module.text(), host_target()))
        for name in functions:
            builder.export_symbol(f"call_{name}")
        self._jit = llvm.create_lljit_compiler(target_machine(host_target()))
        library = builder.link(self._jit, "native")
        self._library = library
        self._functions = {name: ctypes.CFUNCTYPE(None, *(_C_TYPES[t] for t in types))(library[f"call_{name}"]) for name, types in functions.items()}

    def call(self, name: str, *arguments: Any) -> None:
        """Arrays are passed as the address of their first element."""
        self._functions[name](*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments))


def assembly(module: Module, target: CpuTarget) -> str:
    """For any target, whether or not this machine is one."""
    machine = target_machine(target)
    parsed = llvm.parse_assembly(module.text())
    parsed.verify()
    text: str = machine.emit_assembly(parsed)
    return text


def page_end_array(count: int, dtype: Any) -> np.ndarray[Any, Any]:
    """An array whose last element is followed by memory that nobody may touch (POSIX)."""
    import mmap

    size_bytes = count * np.dtype(dtype).itemsize
    pages = -(-size_bytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    raw = np.frombuffer(memory, np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if protect(raw.ctypes.data + pages * mmap.PAGESIZE, mmap.PAGESIZE, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    end = pages * mmap.PAGESIZE
    return raw[end - size_bytes : end].view(dtype)
