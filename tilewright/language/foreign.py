"""Code in the language of the GPU inside a program (floor 5; language.md 12): functions of CUDA C++, their source, and inline PTX.

Every argument is a value or an address. Floats of 16 and 8 bits go as their bits (`unsigned short`, `unsigned char`), and so do tensors of them
(`unsigned short*`); a 4-bit tensor is a pointer to its bytes. What the code does with memory is declared with the address: T.access_ptr(x[i], "r").
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Buffer, Reference, Region, Scope, format_shape, whole
from tilewright.ir.expr import Expr, as_expr, describe_operand, parse_dtype, var
from tilewright.ir.foreign import ForeignCall, ForeignKind, Reach
from tilewright.ir.instruction import Access
from tilewright.ir.program import ImportedSource
from tilewright.ir.thread import Address
from tilewright.language.builder import FrameKind, ProgramBuilder, program_builder

_ACCESSES = {"r": Access.READ, "w": Access.WRITE, "rw": Access.READ_WRITE, "wr": Access.READ_WRITE}
_ADDRESSED = (Scope.GLOBAL, Scope.SHARED, Scope.LOCAL, Scope.VARIABLE)
_NOTHING = ("handle", "void")
_NAME = re.compile(r"[A-Za-z_:][\w:<>,& ]*")  # also ns::function<64, float>


def call_extern(*arguments: Any, dtype: Any = None) -> Expr | None:
    """A function of CUDA C++: `T.call_extern(dtype, "name", *arguments)` or `T.call_extern("name", *arguments, dtype=dtype)`.

    dtype       of the result; "handle" or "void" where there is none.
    arguments   numbers, and addresses: T.address_of(x[i]), T.access_ptr(x[i], "r"), a whole buffer. Without a declaration the function may read and write
                anything in the buffer that an address leads to; T.access_ptr(x[i], "w", extent=1) means that one element.

    Each thread that comes there calls the function once; in T.Parallel, each iteration does. That is so in T.if_then_else too, whichever side is taken: put the
    call under an `if` where it may not happen. Raises TileError (extern-argument).
    """
    span = program_builder().here()
    if dtype is None:
        if len(arguments) < 2:
            _refuse("T.call_extern was given no name of a function", span, 'write T.call_extern("float32", "name", x)')
        dtype, *arguments = arguments  # type: ignore[assignment]
    if not arguments or not isinstance(arguments[0], str) or _NAME.fullmatch(arguments[0]) is None:
        given = describe_operand(arguments[0]) if arguments else "nothing"
        _refuse(f"the function of T.call_extern is {given}", span, 'write T.call_extern("float32", "name", x)')
    return _call(ForeignKind.FUNCTION, arguments[0], arguments[1:], dtype, "T.call_extern", span)


def call_pure_extern(*arguments: Any, dtype: Any = None) -> Expr | None:
    """T.call_extern of a function whose result depends on its arguments alone."""
    return call_extern(*arguments, dtype=dtype)


def ptx(template: str, *arguments: Any, dtype: Any = None) -> Expr | None:
    """Inline PTX: `y = T.ptx("lop3.b32 %0, %1, %2, %3, 0xEA;", a, b, c, dtype="uint32")`.

    template    %0 is the result where there is a dtype, and the arguments follow; %% is a percent sign, as in %%laneid.
    arguments   numbers and addresses, as for T.call_extern. An address in shared memory is one of that space, in 32 bits; all others take 64.

    Source: NVIDIA "Inline PTX Assembly in CUDA". Raises TileError (extern-argument).
    """
    span = program_builder().here()
    if not isinstance(template, str) or not template.strip():
        _refuse(f"the template of T.ptx is {describe_operand(template)}", span, 'write T.ptx("add.u32 %0, %1, %2;", a, b, dtype="uint32")')
    return _call(ForeignKind.ASSEMBLY, template, arguments, "void" if dtype is None else dtype, "T.ptx", span)


def import_source(source: str) -> None:
    """Puts CUDA C++ in front of the kernels of the program: functions for T.call_extern. Other targets have no use for it."""
    builder = program_builder()
    _import(builder, source, builder.here(), "T.import_source")


def import_prelude(builder: ProgramBuilder, source: Any, span: Span) -> None:
    """The `prelude` of T.Kernel, which is T.import_source."""
    if source is not None:
        _import(builder, source, span, "the prelude of T.Kernel")


def _import(builder: ProgramBuilder, source: Any, span: Span, what: str) -> None:
    if not isinstance(source, str):
        _refuse(f"{what} is {describe_operand(source)}", span, "give the text itself, as a string that is known when the kernel is traced")
    if all(known.text != source for known in builder.sources):
        builder.sources.append(ImportedSource(source, span))


def _call(kind: ForeignKind, text: str, arguments: tuple[Any, ...] | list[Any], dtype: Any, what: str, span: Span) -> Expr | None:
    builder = program_builder()
    launch = builder.require_launch(what, span)
    launch.is_thread_level |= not builder.is_inside(FrameKind.PARALLEL)
    found = [_argument(builder, given, what, span) for given in arguments]
    result_dtype = None if (isinstance(dtype, str) and dtype in _NOTHING) or dtype is dtypes.handle else parse_dtype(dtype, span)
    result = None
    if result_dtype is not None:
        _check_dtype(result_dtype, f"the result of {what}", span)
        result = var("result", result_dtype)
    builder.emit(ForeignCall(span, kind, text, tuple(a for a, _ in found), tuple(r for _, r in found), result))
    return result


def _argument(builder: ProgramBuilder, given: Any, what: str, span: Span) -> tuple[Expr | Address, Reach | None]:
    """A value, or an address with what may be done there."""
    if isinstance(given, Buffer) and given.scope is not Scope.VARIABLE:
        given = whole(given)
    if not isinstance(given, Region):
        if isinstance(given, str):
            _refuse(f"an argument of {what} is text", span, "give numbers and addresses")
        value = as_expr(given)
        _check_dtype(value.dtype, f"`{value}`, an argument of {what},", span)
        return value, None
    buffer = given.buffer
    if buffer.storage.scope not in _ADDRESSED or buffer.dtype.lanes > 1:
        why = "its elements are spread over the registers of the block" if buffer.storage.scope is Scope.FRAGMENT else "its elements are no single numbers"
        fail(
            Kind.EXTERN_ARGUMENT,
            f"{what} was given an address in {buffer.name} ({format_shape(buffer)}), which has none",
            (Label(span), Label(buffer.span, "allocated here")),
            because=f"it is a {buffer.storage.scope.value} buffer: {why}",
            help="copy it to a tensor or to a tile of T.alloc_shared or T.alloc_local before",
        )
    builder.check_store(buffer, given.starts, span)
    access, is_element = (given.access, given.elements == 1) if isinstance(given, Reference) else ("rw", False)
    return Address(buffer, given.starts), Reach(_ACCESSES[access], is_element)


def _check_dtype(dtype: DType, what: str, span: Span) -> None:
    if dtype.lanes > 1 or dtype.is_packed or dtype is dtypes.handle or dtype.storage_bits < 8:
        _refuse(f"{what} is {dtype!s}", span, "pass vectors and halves of bytes through memory, with T.address_of")


def _refuse(message: str, span: Span, help_: str) -> NoReturn:
    fail(Kind.EXTERN_ARGUMENT, message, span, because="foreign code is named by text, and takes single numbers and addresses", help=help_)


__all__ = ["call_extern", "call_pure_extern", "import_source", "ptx"]
