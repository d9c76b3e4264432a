"""Functions that do nothing: the floor under any launch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

_METH_FASTCALL = 0x80  # Include/methodobject.h
# Py_None is immortal from Python 3.12 on; before that each return needs a reference, which Py_IncRef takes on every version.
_CODE = """
target triple = "{triple}"
@_Py_NoneStruct = external global i8
declare void @Py_IncRef(ptr)
define ptr @empty_fastcall(ptr %self, ptr %arguments, i64 %count) {{
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
}}
define i32 @empty_native(ptr %a, ptr %b, ptr %c) {{
  ret i32 0
}}
"""


class _MethodDefinition(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("documentation", ctypes.c_char_p))


class EmptyCalls:
    """`fastcall`: a builtin function of any positional arguments. `through_ctypes`: a native function of three addresses. Keep the object while calling."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        builder = llvm.JITLibraryBuilder().add_ir(_CODE.format(triple=llvm.get_process_triple())).export_symbol("empty_fastcall").export_symbol("empty_native")
        builder.import_symbol("Py_IncRef", ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value)
        builder.import_symbol("_Py_NoneStruct", id(None))
        self._library = builder.link(llvm.create_lljit_compiler(), "benchmarks.empty")
        self._method = _MethodDefinition(b"empty", self._library["empty_fastcall"], _METH_FASTCALL, None)
        make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(("PyCFunction_NewEx", ctypes.pythonapi))
        self.fastcall: Callable[..., Any] = make(ctypes.addressof(self._method), None, None)
        self.through_ctypes: Callable[..., Any] = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
            self._library["empty_native"]
        )
