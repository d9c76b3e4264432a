"""LLVM text to object bytes, and object bytes to code that can be called (floor 7).

The code generator writes final SSA with explicit vectors, so that one cheap pass is all that runs before instruction selection: SROA, which turns
thread-private variables into registers. Object bytes can be kept and loaded in another process: they hold no address.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import llvmlite.binding as llvm

from tilewright.errors import CompilerBug
from tilewright.runtime.object_symbols import undefined_symbols
from tilewright.target.cpu import CpuTarget

OPTIMIZATION_LEVEL = 2
_LINKER_SYMBOLS = frozenset({"_GLOBAL_OFFSET_TABLE_"})
_library_numbers = itertools.count()
_link_lock = threading.Lock()


@functools.cache
def initialize_llvm() -> None:
    """Makes LLVM generate code for this machine; harmless to repeat."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def _initialize_all() -> None:
    """Every back end of LLVM: slow, and needed only to look at code for another processor."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def target_machine(target: CpuTarget) -> llvm.TargetMachine:
    """The LLVM code generator for a CPU; position-independent, so that objects load anywhere."""
    initialize_llvm()
    try:
        machine = llvm.Target.from_triple(target.triple)
    except RuntimeError:
        _initialize_all()
        machine = llvm.Target.from_triple(target.triple)
    return machine.create_target_machine(cpu=target.llvm_cpu, features=target.llvm_features, opt=OPTIMIZATION_LEVEL, reloc="pic", codemodel="small")


def compile_object(text: str, target: CpuTarget) -> bytes:
    """The object file of a module.

    Raises CompilerBug for text that LLVM refuses.
    """
    machine = target_machine(target)
    module = parse_module(text)
    if " alloca " in text:
        promote_variables(module, machine)
    emitted: bytes = machine.emit_object(module)
    return emitted


def compile_assembly(text: str, target: CpuTarget) -> str:
    """What `compile_object` makes, as assembly."""
    machine = target_machine(target)
    module = parse_module(text)
    promote_variables(module, machine)
    emitted: str = machine.emit_assembly(module)
    return emitted


def parse_module(text: str) -> llvm.ModuleRef:
    """LLVM's own form of a module, verified. Raises CompilerBug for text that LLVM refuses."""
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise CompilerBug(f"LLVM refuses the generated code: {error}") from error
    return module


def promote_variables(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    """Stack memory that is only loaded and stored becomes SSA values."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


@dataclass(frozen=True, eq=False)
class LoadedCode:
    """Code in memory; it lives as long as this object.

    entry_address   of the entry function.
    """

    entry_address: int
    library: llvm.ResourceTracker


@functools.cache
def _linker() -> llvm.LLJIT:
    initialize_llvm()
    return llvm.create_lljit_compiler()


def link_library(builder: llvm.JITLibraryBuilder, purpose: str) -> llvm.ResourceTracker:
    """Code in memory under a name of its own; all libraries of the process share one linker, which takes long to make."""
    with _link_lock:
        return builder.link(_linker(), f"tilewright.{purpose}.{next(_library_numbers)}")


def load_object(object_bytes: bytes, entry_name: str, symbols: Mapping[str, int]) -> LoadedCode:
    """Links an object against the given symbols (name to address) and nothing else: generated code calls no library.

    Raises CompilerBug where it needs another symbol. (LLVM's linker would look in the process, and find different libraries on each machine.)
    """
    missing = sorted((undefined_symbols(object_bytes) or frozenset()) - symbols.keys() - _LINKER_SYMBOLS)
    if missing:
        raise CompilerBug(f"the generated code does not link: it needs {', '.join(missing)}")
    builder = llvm.JITLibraryBuilder().add_object_img(object_bytes).export_symbol(entry_name)
    for name, address in symbols.items():
        builder.import_symbol(name, address)
    try:
        library = link_library(builder, "kernel")
    except RuntimeError as error:
        raise CompilerBug(f"the generated code does not link: {error}") from error
    return LoadedCode(library[entry_name], library)
