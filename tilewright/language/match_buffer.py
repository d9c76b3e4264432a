"""`T.match_buffer`: a parameter of older programs that is a handle first, and a tensor by a line of the body (floor 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tilewright import dtypes
from tilewright.errors import Kind, fail
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import describe_operand, parse_dtype
from tilewright.ir.program import ParameterKind
from tilewright.language.builder import program_builder
from tilewright.language.tensor import parse_shape


def match_buffer(
    parameter: Any,
    shape: Any,
    dtype: Any = "float32",
    data: Any = None,
    strides: Any = None,
    elem_offset: Any = None,
    scope: str = "global",
    align: int = -1,
    offset_factor: int = 0,
) -> Buffer:
    """Declares that a `T.handle` parameter is a tensor, the older spelling of a T.Tensor annotation; its shape may name symbols that it binds.

    `align` and `offset_factor` are hints. Raises TileError (operand-kind) for anything but a pointer parameter, and for what a parameter cannot have.
    """
    builder = program_builder()
    span = builder.here()
    position = next((k for k, p in enumerate(builder.parameters) if p.variable is not None and p.variable is parameter), None)
    if position is None or parameter.dtype != dtypes.handle:
        fail(
            Kind.OPERAND_KIND,
            f"T.match_buffer was given {describe_operand(parameter)}",
            span,
            because="it says what tensor a parameter annotated with T.handle is, once",
            help="annotate the parameter with T.handle, or with T.Tensor(shape, dtype) at once",
        )
    if data is not None or elem_offset not in (None, 0) or scope != "global":
        fail(
            Kind.OPERAND_KIND,
            "T.match_buffer was given data, elem_offset or a scope",
            span,
            because="a caller's tensor begins at its first element, in global memory",
            help="leave them out",
        )
    old = builder.parameters[position]
    steps = None if strides is None or len(strides) == 0 else parse_shape(strides, "the strides of T.match_buffer", span)
    buffer = Buffer(old.name, parse_dtype(dtype, span), parse_shape(shape, "T.match_buffer", span), Scope.GLOBAL, span, steps)
    builder.parameters[position] = replace(old, kind=ParameterKind.TENSOR, buffer=buffer, variable=None)
    return buffer
