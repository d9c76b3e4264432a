"""Eager functions (floor 5; language.md 1.1): tensors in, tensors out, one compile per shape named by T.const.

Tracing happens twice: a first pass stops at the first launch and learns the signature, with symbols for the T.const sizes; then one pass per
set of sizes has the integers.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tilewright.dtypes import DType
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir import build
from tilewright.ir.expr import Expr, Op, var
from tilewright.ir.program import Parameter, Program
from tilewright.language.builder import ProgramBuilder
from tilewright.language.function import check_outputs, declare, parameter_span, run_traced, trace_program
from tilewright.language.rewrite import Rewritten, annotated_names
from tilewright.language.tensor import PointerSpec, TensorSpec


class _SignatureKnown(BaseException):
    """Ends the first pass."""


@dataclass(frozen=True)
class _Undeclared:
    """Stands for a parameter until the body says what it is."""

    name: str


class EagerBuilder(ProgramBuilder):
    """Traces an eager function; `sizes` holds the values of the T.const names, or is None in the first pass."""

    def __init__(self, name: str, span: Span, sizes: Mapping[str, int] | None, rewritten: Rewritten) -> None:
        super().__init__(name, span)
        self.sizes, self.rewritten = sizes, rewritten
        self.symbols: dict[str, tuple[Expr, Span]] = {}

    def constants(self, name: str, dtype: DType) -> Any:
        """T.const: a symbol in the first pass, afterwards the integer."""
        if self.sizes is not None:
            return self.sizes[name]
        symbol = var(name, dtype)
        self.symbols[name] = symbol, self.here()
        return symbol

    def before_launch(self) -> None:
        if self.sizes is None:
            raise _SignatureKnown

    def declare_parameter(self, name: str, annotation: Any, value: Any) -> Any:
        if isinstance(value, _Undeclared) and value.name == name:
            return declare(self, name, annotation, parameter_span(self.rewritten, name))
        return value


@dataclass(frozen=True, eq=False)
class Signature:
    """What the first pass learned.

    runtime    parameters given at every call, in the order of the function's signature.
    constants  the T.const names, with the symbols that stand for them in the parameters' shapes.
    """

    runtime: tuple[Parameter, ...]
    constants: dict[str, Expr] = field(default_factory=dict)


def is_runtime(annotation: Any) -> bool:
    """Whether a signature annotation makes a parameter a runtime argument."""
    return isinstance(annotation, (TensorSpec, PointerSpec, DType))


def runtime_names(rewritten: Rewritten, annotations: Mapping[str, Any]) -> list[str]:
    """Parameters that are runtime arguments: annotated in the signature, or by a statement in the body."""
    in_body = annotated_names(rewritten.original)
    return [name for name in inspect.signature(rewritten.original).parameters if is_runtime(annotations.get(name)) or name in in_body]


def _arguments(builder: EagerBuilder, annotations: Mapping[str, Any], names: list[str], compile_time: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(compile_time)
    for name in names:
        annotation = annotations.get(name)
        arguments[name] = declare(builder, name, annotation, parameter_span(builder.rewritten, name)) if is_runtime(annotation) else _Undeclared(name)
    return arguments


def learn_signature(rewritten: Rewritten, annotations: Mapping[str, Any], names: list[str], compile_time: Mapping[str, Any]) -> Signature:
    """The first pass."""
    builder = EagerBuilder(rewritten.node.name, rewritten.span, None, rewritten)
    try:
        with build.detached(), builder.active(), builder.block():
            returned = run_traced(builder, rewritten, (), _arguments(builder, annotations, names, compile_time))
        check_outputs(builder, returned, rewritten.span)
        fail(
            Kind.LAUNCH_MISSING,
            f"{rewritten.node.name} has no launch",
            rewritten.span,
            because="an eager function computes inside `with T.Kernel(...)`",
            help="add a launch, or decorate a factory that returns a @T.prim_func",
        )
    except _SignatureKnown:
        pass
    runtime = _in_order(builder.parameters, names)
    direct = {e for p in runtime if p.buffer is not None for e in (*p.buffer.shape, *(p.buffer.given_strides or ())) if isinstance(e, Expr) and e.op is Op.VAR}
    for name, (symbol, span) in builder.symbols.items():
        if symbol not in direct:
            fail(
                Kind.CONST_UNUSED,
                f"{name} of T.const is no dimension of a parameter by itself",
                (Label(span), Label(rewritten.span)),
                because="its value is read from the shape or strides of an argument, so it must stand there alone",
                help=f"declare a tensor with the dimension {name}, or make {name} a plain parameter of the function",
            )
    return Signature(tuple(runtime), {name: symbol for name, (symbol, _) in builder.symbols.items()})


def _in_order(parameters: list[Parameter], names: list[str]) -> list[Parameter]:
    return sorted(parameters, key=lambda p: names.index(p.name))


def trace_eager(rewritten: Rewritten, annotations: Mapping[str, Any], names: list[str], compile_time: Mapping[str, Any], sizes: Mapping[str, int]) -> Program:
    """The program for given sizes; outputs come after the runtime parameters."""
    builder = EagerBuilder(rewritten.node.name, rewritten.span, sizes, rewritten)
    with build.detached():
        arguments = _arguments(builder, annotations, names, compile_time)
        program = trace_program(builder, rewritten, arguments)
    ordered = _in_order([p for p in program.parameters if not p.is_output], names)
    return replace(program, parameters=(*ordered, *(p for p in program.parameters if p.is_output)))
