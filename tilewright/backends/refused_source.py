"""What the compiler of CUDA C++ has against code that the user gave it, at the user's line (floor 8)."""

from __future__ import annotations

import os
import re

from tilewright.codegen.cuda.module import MODULE_NAME, CudaModule, source_name
from tilewright.errors import Kind, Label, fail
from tilewright.ir.foreign import ForeignCall, ForeignKind

# kernel.cu(12): error: identifier "f" is undefined, and: ptxas application ptx input, line 25; error : Unknown symbol
_ERROR = re.compile(r"^(?P<file>[^\n()]+)\((?P<line>\d+)\): (?:catastrophic )?error(?: #[\w-]+)?: (?P<message>.*)$", re.MULTILINE)
_ASSEMBLER_ERROR = re.compile(r"^ptxas [^\n]*?\b(?:error|fatal) *: (?P<message>.*)$", re.MULTILINE)


def explain_refusal(module: CudaModule, log: str) -> None:
    """Raises TileError (extern-source) for the first error in a log of NVRTC that lies in imported source, at a call of foreign code, or in inline PTX.

    Returns where none does: then the fault is not the user's.
    """
    error = _ERROR.search(log)
    if error is not None:
        line, message = int(error["line"]), error["message"]
        for number, source in enumerate(module.sources):
            if error["file"] == source_name(number):
                lines = source.text.strip("\n").splitlines()
                shown = lines[line - 1].strip() if 0 < line <= len(lines) else ""
                where = f"line {line} of the imported source" + (f", `{shown}`" if shown else "")
                _refuse(f"the compiler of CUDA C++ refuses {where}", (Label(source.span, "imported here"),), message, "correct the text of the source")
        call = _call_at(module, module.text.splitlines()[line - 1]) if error["file"] == MODULE_NAME and line <= module.text.count("\n") else None
        if call is not None:
            what = f"the call of `{call.text}`" if call.kind is ForeignKind.FUNCTION else "this inline PTX"
            labels = (Label(call.span), *(Label(source.span, "imported here") for source in module.sources))
            _refuse(
                f"the compiler of CUDA C++ refuses {what}",
                labels,
                message,
                "import it with T.import_source, and give arguments of the types that it takes",
            )
        if module.sources:
            labels = tuple(Label(source.span, "imported here") for source in module.sources)
            _refuse("the kernel does not compile behind the imported source", labels, message, "leave out macros and names that other code may use")
    assembler_error = _ASSEMBLER_ERROR.search(log)
    if assembler_error is not None:
        asm = [call for call in module.foreign if call.kind is ForeignKind.ASSEMBLY]
        labels = (*(Label(call.span) for call in asm), *(Label(source.span) for source in module.sources))
        if labels:
            _refuse("the assembler refuses inline PTX", labels, assembler_error["message"], "correct the template; the PTX ISA lists instructions and operands")


def _call_at(module: CudaModule, line: str) -> ForeignCall | None:
    """The call that was printed as a line of the module."""
    found = [c for c in module.foreign if (f"{c.text}(" in line if c.kind is ForeignKind.FUNCTION else "asm volatile(" in line)]
    exact = [c for c in found if f"// {os.path.basename(c.span.file)}:{c.span.line}" in line]
    return next(iter([*exact, *found]), None)


def _refuse(message: str, labels: tuple[Label, ...], because: str, help_: str) -> None:
    fail(Kind.EXTERN_SOURCE, message, labels, because=because.strip(), help=help_)
