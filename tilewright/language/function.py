"""`T.prim_func` and `T.macro`: functions that are traced (floor 5; language.md 1.1)."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import FrameType, FunctionType
from typing import Any, NoReturn

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Kind, Label, Span, TileError, fail
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Reference, Region, Scope
from tilewright.ir.expr import Expr, Op, describe_operand, var
from tilewright.ir.fingerprint import fingerprint
from tilewright.ir.printer import print_program
from tilewright.ir.program import Parameter, ParameterKind, Program
from tilewright.language.builder import ProgramBuilder
from tilewright.language.definitions import Expanded
from tilewright.language.dependencies import Origin, origin_of
from tilewright.language.mistakes import bind_arguments, explain_exception
from tilewright.language.program_cache import keep_program, load_program
from tilewright.language.rewrite import Rewritten, annotation_nodes, require_function, rewrite_function
from tilewright.language.scopes import check_scopes
from tilewright.language.tensor import PointerSpec, TensorSpec
from tilewright.language.trace import STAND_INS, Tracer
from tilewright.options import environment
from tilewright.spans import is_user_file, span_of_caller


@dataclass(frozen=True, eq=False)
class PrimFunc:
    """A traced kernel function, ready to be compiled.

    origin             what it was traced from, where that can be told: it names the program in the disk cache.
    known_fingerprint  of a program that came from there.
    """

    program: Program
    origin: Origin | None = None
    known_fingerprint: str | None = None

    @classmethod
    def of(cls, origin: Origin | None, trace: Callable[[], Program]) -> PrimFunc:
        """The program of that origin from the disk cache, else as `trace` gives it."""
        found = load_program(origin) if origin is not None else None
        return cls(trace(), origin) if found is None else cls(found[0], origin, found[1])

    @cached_property
    def fingerprint(self) -> str:
        """Names the meaning of the program."""
        return self.known_fingerprint or fingerprint(self.program)

    def keep(self) -> None:
        """Leaves a new program in the disk cache."""
        if self.origin is not None and self.known_fingerprint is None:
            keep_program(self.origin, self.program, self.fingerprint)

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def __name__(self) -> str:
        return self.program.name

    @property
    def params(self) -> tuple[Parameter, ...]:
        return self.program.parameters

    def script(self) -> str:
        """The program as text."""
        return print_program(self.program)

    def __repr__(self) -> str:
        return f"<prim_func {self.name}({', '.join(p.name for p in self.params)})>"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        fail(
            Kind.NO_BUILDER,
            f"the prim_func {self.name} was called",
            span_of_caller(),
            because="it is a program, not yet a kernel",
            help=f"compile it first: tilewright.compile({self.name})",
        )


def prim_func(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Traces a function whose parameters are annotated with T.Tensor, a dtype or T.ptr; gives a `PrimFunc`."""
    if function is None:
        return functools.partial(prim_func, **options)
    function = require_function(function)
    annotations = resolve_annotations(function, sys._getframe(1))
    origin = find_origin(function, annotations, {})
    return PrimFunc.of(origin, functools.partial(_trace_prim_func, function, annotations))


def find_origin(function: FunctionType, annotations: Mapping[str, Any], values: Mapping[str, Any]) -> Origin | None:
    """The origin of a program that may be kept on disk."""
    return origin_of(function, annotations, values) if environment().is_cache_enabled else None


def _trace_prim_func(function: FunctionType, annotations: Mapping[str, Any]) -> Program:
    rewritten = rewrite_function(function)
    builder = ProgramBuilder(rewritten.node.name, rewritten.span)
    for parameter in inspect.signature(rewritten.original).parameters.values():
        check_parameter(parameter, parameter_span(rewritten, parameter.name))
    arguments = {name: declare(builder, name, annotations.get(name), parameter_span(rewritten, name)) for name in parameter_names(rewritten.original)}
    with build.detached():
        return trace_program(builder, rewritten, arguments)


def parameter_names(function: FunctionType) -> list[str]:
    return list(inspect.signature(function).parameters)


def resolve_annotations(function: FunctionType, frame: FrameType | None) -> dict[str, Any]:
    """Annotations as objects; strings (from __future__ import annotations) are evaluated where the function was defined."""
    scope: dict[str, Any] = {}
    while frame is not None and not is_user_file(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is not None:
        scope |= frame.f_locals
    scope |= {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True) if _is_set(cell)}
    nodes = annotation_nodes(function)
    result = dict(function.__annotations__)
    for name, annotation in result.items():
        if isinstance(annotation, str) and not isinstance(annotation, DType) and name in nodes:
            result[name] = _evaluate_annotation(nodes[name], function, scope)
    return result


def _evaluate_annotation(node: ast.expr, function: FunctionType, scope: dict[str, Any]) -> Any:
    """What an annotation means that Python kept as a string: evaluated where the function was defined, with the places of the source."""
    file = function.__code__.co_filename
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            inner = ast.parse(node.value, mode="eval").body
        except SyntaxError:
            fail(
                Kind.PARAMETER_ANNOTATION,
                f"the annotation {node.value!r} is no Python expression",
                Span(file, node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0),
                because="an annotation in quotes is evaluated as Python",
                help='write for example X: T.Tensor((M, N), "float32")',
            )
        for part in ast.walk(inner):
            ast.copy_location(part, node)
        node = inner
    code = compile(ast.Expression(node), file, "eval")
    try:
        return eval(code, function.__globals__, scope)  # the user's own annotation
    except (TileError, CompilerBug):
        raise
    except Exception as error:
        found = explain_exception(error, [code], STAND_INS)
        if found is error:
            raise
    raise found


def _is_set(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def check_parameter(parameter: inspect.Parameter, span: Span) -> None:
    """A diagnostic for a parameter that a compiled kernel cannot have."""
    stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" if parameter.kind is parameter.VAR_KEYWORD else ""
    if stars or parameter.kind is parameter.POSITIONAL_ONLY:
        fail(
            Kind.PARAMETER_ANNOTATION,
            f"the parameter {stars}{parameter.name} {'collects any number of arguments' if stars else 'stands before `/`'}",
            span,
            because="a kernel has a fixed list of parameters with names",
            help="write every parameter out" if stars else "remove the `/`",
        )
    if parameter.default is not parameter.empty:
        fail(
            Kind.PARAMETER_ANNOTATION,
            f"the parameter {parameter.name} has a default value",
            span,
            because="a compiled kernel is called with all its arguments",
            help="remove the default, or make it a parameter of the Python function around the kernel",
        )


def parameter_span(rewritten: Rewritten, name: str) -> Span:
    """Where a parameter is declared."""
    arguments = rewritten.node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *filter(None, (arguments.vararg, arguments.kwarg))):
        if argument.arg == name:
            return Span(rewritten.span.file, argument.lineno, argument.col_offset, argument.end_lineno or 0, argument.end_col_offset or 0)
    return rewritten.span


_PYTHON_SCALARS = {int: dtypes.int32, float: dtypes.float32, bool: dtypes.bool_}


def as_scalar_dtype(annotation: Any) -> DType | None:
    """The dtype of a scalar parameter's annotation, None where it is none."""
    if isinstance(annotation, DType):
        return annotation
    return _PYTHON_SCALARS.get(annotation) if isinstance(annotation, type) else None


def declare(builder: ProgramBuilder, name: str, annotation: Any, span: Span) -> Any:
    """Adds a runtime parameter; gives what its name stands for in the body."""
    scalar = as_scalar_dtype(annotation)
    if isinstance(annotation, TensorSpec):
        buffer = Buffer(name, annotation.dtype, annotation.shape, Scope.GLOBAL, span, annotation.strides)
        builder.parameters.append(Parameter(name, ParameterKind.TENSOR, span, buffer=buffer))
        return buffer
    if isinstance(annotation, PointerSpec) or scalar == dtypes.handle:
        variable = var(name, dtypes.handle)
        builder.parameters.append(Parameter(name, ParameterKind.POINTER, span, variable=variable))
        return variable
    if scalar is not None:
        variable = var(name, scalar)
        builder.parameters.append(Parameter(name, ParameterKind.SCALAR, span, variable=variable))
        return variable
    what = "has no annotation" if annotation is None else f"is annotated with {describe_operand(annotation)}"
    fail(
        Kind.PARAMETER_ANNOTATION,
        f"the parameter {name} {what}",
        span,
        because="a kernel's parameter is a tensor, a scalar or a pointer",
        help=f'write {name}: T.Tensor((M, N), "float32"), {name}: T.int32 or {name}: T.ptr',
    )


def trace_program(builder: ProgramBuilder, rewritten: Rewritten, arguments: dict[str, Any]) -> Program:
    """Runs the rewritten function and collects the program."""
    with builder.active(), builder.block() as loose:
        returned = run_traced(builder, rewritten, (), arguments)
    builder.finish(loose)
    outputs = check_outputs(builder, returned, rewritten.span)
    parameters = (*builder.parameters, *(Parameter(b.name, ParameterKind.TENSOR, b.span, buffer=b, is_output=True) for b in outputs))
    program = Program(
        builder.name,
        parameters,
        tuple(builder.launches),
        rewritten.span,
        tuple(builder.workspaces),
        tuple(builder.checks),
        tuple(builder.hints),
        tuple(builder.sources),
    )
    check_scopes(program)
    return program


def check_outputs(builder: ProgramBuilder, returned: Any, span: Span) -> list[Buffer]:
    """What was returned: T.empty tensors, all of them."""
    span = builder.returned_at or span
    values = [] if returned is None else list(returned) if isinstance(returned, (tuple, list)) else [returned]
    for value in values:
        if not isinstance(value, Buffer) or not any(value is b for b in builder.outputs):
            fail(
                Kind.RETURN_VALUE,
                f"{describe_operand(value)} was returned from {builder.name}",
                span,
                because="a kernel returns tensors made by T.empty",
                help="allocate the result with T.empty, write it in the launch and return it",
            )
    for buffer in builder.outputs:
        if not any(buffer is v for v in values):
            fail(
                Kind.OUTPUT_NOT_RETURNED,
                f"the output {buffer.name} is not returned from {builder.name}",
                (Label(buffer.span, f"{buffer.name} is made here"), Label(span)),
                because="a tensor made by T.empty exists only to be returned",
                help=f"return {', '.join(b.name for b in builder.outputs)}; for a workspace use T.alloc_global",
            )
    return values


def run_traced(builder: ProgramBuilder, rewritten: Rewritten, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls the rewritten function; mistakes that Python found become diagnostics at the user's line."""
    builder.codes.add(rewritten.code)
    try:
        return rewritten.bind(Tracer(builder))(*args, **kwargs)
    except (TileError, CompilerBug):
        raise
    except Exception as error:
        found = explain_exception(error, builder.codes, STAND_INS)
        if found is error:
            raise
        cause = error if isinstance(found, CompilerBug) else None
    raise found from cause


class Ref:
    """Annotation of a macro parameter that is written through: `x: T.Ref`."""


class _VariableType(type):
    def __instancecheck__(cls, value: Any) -> Any:
        return isinstance(value, Expr) and value.op is Op.VAR


class Var(metaclass=_VariableType):
    """`isinstance(M, T.Var)`: whether a size is a symbol. As an annotation, the older spelling of T.Ref."""


class Macro(Expanded):
    """A function that is traced into its caller. Arguments that are kernel scalars are evaluated once; buffers and Python objects are passed as they are."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        builder = build.current()
        if not isinstance(builder, ProgramBuilder):
            raise CompilerBug("a macro was called under a foreign builder")
        rewritten = rewrite_function(self.function)
        bound = bind_arguments(self.function.__name__, inspect.signature(rewritten.original), args, kwargs, builder.here())
        annotations = rewritten.original.__annotations__
        for name, value in bound.arguments.items():
            annotation = annotations.get(name)
            if annotation in (Ref, Var) or (isinstance(annotation, str) and annotation in ("T.Ref", "Ref", "T.Var", "Var")):
                bound.arguments[name] = self._reference(builder, name, value)
            elif isinstance(value, (Expr, Buffer)):
                bound.arguments[name] = builder.snapshot(value, name)
        return run_traced(builder, rewritten, bound.args, bound.kwargs)

    def _reference(self, builder: ProgramBuilder, name: str, value: Any) -> Any:
        """What a T.Ref parameter stands for: a variable itself, an element or a region at the place that it has now."""
        if isinstance(value, Buffer) and value.scope is Scope.VARIABLE:
            return value
        if isinstance(value, Region) or (isinstance(value, Expr) and value.op is Op.LOAD):
            reference = Reference.of(value)
            return Reference.of(builder.snapshot(reference, name))
        fail(
            Kind.REFERENCE_ARGUMENT,
            f"the argument {name} of the macro {self.function.__name__} is {describe_operand(value)}",
            builder.here(),
            because="a T.Ref parameter is written through, so it must be a place in memory",
            help="pass a T.alloc_var, an element A[i] or a region A[i:j]; whole buffers need no T.Ref",
        )


def macro(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorates a function that emits kernel code where it is called."""
    if function is None:
        return functools.partial(macro, **options)
    if not isinstance(function, FunctionType):
        fail(
            Kind.NOT_A_PRIM_FUNC,
            f"T.macro was given {describe_operand(function)}",
            span_of_caller(),
            because="a macro is traced from the source of a `def`",
            help="decorate a plain function",
        )
    return Macro(function)
