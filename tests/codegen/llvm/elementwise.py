"""Compiles element-by-element functions made of the code under test, and runs them on arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np

from tilewright.codegen.llvm.emitter import Module, Value, constant, element_type, vector_type
from tilewright.target.cpu import CpuTarget, host_target

BYTES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8}


class Elementwise:
    """One module of functions `name(inputs..., output, count)`; `body` sees loaded vectors and gives the vector to store."""

    def __init__(self) -> None:
        self.module = Module()
        self._lanes: dict[str, int] = {}
        self._engine: llvm.ResourceTracker | None = None

    def add(self, name: str, inputs: Sequence[str], output: str, lanes: int, body: Callable[..., Value]) -> None:
        """`inputs` and `output` are element types in memory."""
        pointers = [("ptr", f"p{i}") for i in range(len(inputs) + 1)]
        f = self.module.function(name, "void", [*pointers, ("i64", "count")])
        self._lanes[name] = lanes
        with f.loop(constant(0, "i64"), f.arguments["count"], constant(lanes, "i64")) as loop:
            loaded = []
            for i, element in enumerate(inputs):
                loaded.append(f.load(vector_type(element, lanes), f.element_address(f.arguments[f"p{i}"], element, loop.index), BYTES[element]))
            result = body(f, *loaded)
            assert result.type == vector_type(output, lanes)
            f.store(result, f.element_address(f.arguments[f"p{len(inputs)}"], output, loop.index), BYTES[element_type(output)])
        f.ret()

    def machine_code(self, target: CpuTarget) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        self.module.target_triple = target.triple
        parsed = llvm.parse_assembly(self.module.text())
        parsed.verify()
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.llvm_cpu, features=target.llvm_features, opt=1, reloc="pic", codemodel="small"
        )
        return parsed, machine

    def undefined_symbols(self, target: CpuTarget) -> list[str]:
        """Names that the object would need from elsewhere."""
        parsed, machine = self.machine_code(target)
        return undefined_symbols_of_elf(bytes(machine.emit_object(parsed)))

    def compile(self) -> None:
        """For the machine that runs the test, without mid-level passes."""
        parsed, machine = self.machine_code(host_target())
        self._jit = llvm.create_lljit_compiler(machine)
        builder = llvm.JITLibraryBuilder().add_object_img(bytes(machine.emit_object(parsed)))
        for name in self._lanes:
            builder.export_symbol(name)
        self._engine = builder.link(self._jit, "tests")

    def __call__(self, name: str, *arrays: np.ndarray, output: np.dtype) -> np.ndarray:
        assert self._engine is not None
        lanes, count = self._lanes[name], len(arrays[0])
        padded = -count % lanes
        held = [np.ascontiguousarray(np.concatenate([a, np.repeat(a[-1:], padded)])) for a in arrays]
        result = np.zeros(count + padded, output)
        function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(held) + 1), ctypes.c_int64)(self._engine[name])
        function(*[a.ctypes.data for a in held], result.ctypes.data, count + padded)
        return result[:count]


def undefined_symbols_of_elf(image: bytes) -> list[str]:
    """The undefined symbols in the symbol table of a 64-bit little-endian ELF object."""
    header = np.frombuffer(image, np.dtype([("x", "V40"), ("offset", "<u8"), ("y", "V10"), ("entry_bytes", "<u2"), ("count", "<u2"), ("names", "<u2")]), 1)[0]
    section = np.dtype(
        [
            ("name", "<u4"),
            ("type", "<u4"),
            ("flags", "<u8"),
            ("address", "<u8"),
            ("offset", "<u8"),
            ("size", "<u8"),
            ("link", "<u4"),
            ("info", "<u4"),
            ("align", "<u8"),
            ("entry", "<u8"),
        ]
    )
    sections = np.frombuffer(image, section, int(header["count"]), int(header["offset"]))
    table = next(s for s in sections if s["type"] == 2)
    strings = sections[int(table["link"])]
    text = image[int(strings["offset"]) : int(strings["offset"] + strings["size"])]
    symbol = np.dtype([("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")])
    symbols = np.frombuffer(image, symbol, int(table["size"]) // symbol.itemsize, int(table["offset"]))
    return [text[s["name"] : text.index(b"\0", s["name"])].decode() for s in symbols[1:] if s["section"] == 0]
