"""LLVM text to object bytes, and object bytes to code that can be called (floor 7).

The code generator writes final SSA with explicit vectors, so that only two cheap passes run before instruction selection: SROA, which turns
thread-private variables into registers, and a local clean-up. Object bytes can be kept and loaded in another process: they hold no address.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import llvmlite.binding as llvm

from tilewright.errors import CompilerBug
from tilewright.target.cpu import CpuTarget

OPTIMIZATION_LEVEL = 2
_library_numbers = itertools.count()


def initialize_llvm() -> None:
    """Makes LLVM's back ends available; harmless to repeat."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def target_machine(target: CpuTarget) -> llvm.TargetMachine:
    """The LLVM code generator for a CPU; position-independent, so that objects load anywhere."""
    initialize_llvm()
    machine = llvm.Target.from_triple(target.triple)
    return machine.create_target_machine(cpu=target.llvm_cpu, features=target.llvm_features, opt=OPTIMIZATION_LEVEL, reloc="pic", codemodel="small")


def compile_object(text: str, target: CpuTarget) -> bytes:
    """The object file of a module.

    Raises CompilerBug for text that LLVM refuses.
    """
    machine = target_machine(target)
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise CompilerBug(f"LLVM refuses the generated code: {error}") from error
    if " alloca " in text:
        _promote_variables(module, machine)
    emitted: bytes = machine.emit_object(module)
    return emitted


def _promote_variables(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
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


def load_object(object_bytes: bytes, entry_name: str, symbols: Mapping[str, int]) -> LoadedCode:
    """Links an object against the given symbols (name to address) and nothing else: generated code calls no library.

    Raises CompilerBug where a symbol is missing.
    """
    initialize_llvm()
    builder = llvm.JITLibraryBuilder().add_object_img(object_bytes).export_symbol(entry_name)
    for name, address in symbols.items():
        builder.import_symbol(name, address)
    try:
        library = builder.link(llvm.create_lljit_compiler(), f"tilewright_kernel_{next(_library_numbers)}")
    except RuntimeError as error:
        raise CompilerBug(f"the generated code does not link: {error}") from error
    return LoadedCode(library[entry_name], library)
