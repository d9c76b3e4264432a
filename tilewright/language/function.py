"""`T.prim_func` and `T.macro`: functions that are traced (floor 5; language.md 1.1)."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, FunctionType
from typing import Any, NoReturn

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Kind, Label, Span, TileError, fail
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, describe_operand, var
from tilewright.ir.printer import print_program
from tilewright.ir.program import Parameter, ParameterKind, Program
from tilewright.language.builder import ProgramBuilder
from tilewright.language.rewrite import Rewritten, rewrite_function
from tilewright.language.tensor import PointerSpec, TensorSpec
from tilewright.language.trace import Tracer
from tilewright.spans import is_user_file, span_of_caller, span_of_frame


@dataclass(frozen=True, eq=False)
class PrimFunc:
    """A traced kernel function, ready to be compiled."""

    program: Program

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
        fail(Kind.NO_BUILDER, f"the prim_func {self.name} was called", span_of_caller(), because="it is a program, not yet a kernel", help=f"compile it first: tilewright.compile({self.name})")


def prim_func(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Traces a function whose parameters are annotated with T.Tensor, a dtype or T.ptr; gives a `PrimFunc`."""
    if function is None:
        return functools.partial(prim_func, **options)
    rewritten = rewrite_function(function)
    builder = ProgramBuilder(rewritten.node.name, rewritten.span)
    annotations = resolve_annotations(rewritten.original, sys._getframe(1))
    arguments = {name: declare(builder, name, annotations.get(name), parameter_span(rewritten, name)) for name in parameter_names(rewritten.original)}
    with build.detached():
        return PrimFunc(trace_program(builder, rewritten, arguments))


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
    result: dict[str, Any] = {}
    for name, annotation in function.__annotations__.items():
        if isinstance(annotation, str) and not isinstance(annotation, DType):
            annotation = eval(annotation, function.__globals__, scope)  # noqa: S307 - the user's own annotation
        result[name] = annotation
    return result


def _is_set(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def parameter_span(rewritten: Rewritten, name: str) -> Span:
    """Where a parameter is declared."""
    arguments = rewritten.node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
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
    fail(Kind.PARAMETER_ANNOTATION, f"the parameter {name} {what}", span, because="a kernel's parameter is a tensor, a scalar or a pointer",
         help=f'write {name}: T.Tensor((M, N), "float32"), {name}: T.int32 or {name}: T.ptr')


def trace_program(builder: ProgramBuilder, rewritten: Rewritten, arguments: dict[str, Any]) -> Program:
    """Runs the rewritten function and collects the program."""
    with builder.active(), builder.block() as loose:
        returned = run_traced(builder, rewritten, (), arguments)
    builder.finish(loose)
    outputs = check_outputs(builder, returned, rewritten.span)
    parameters = (*builder.parameters, *(Parameter(b.name, ParameterKind.TENSOR, b.span, buffer=b, is_output=True) for b in outputs))
    return Program(builder.name, parameters, tuple(builder.launches), rewritten.span, tuple(builder.workspaces), tuple(builder.checks), tuple(builder.hints))


def check_outputs(builder: ProgramBuilder, returned: Any, span: Span) -> list[Buffer]:
    """What was returned: T.empty tensors, all of them."""
    values = [] if returned is None else list(returned) if isinstance(returned, (tuple, list)) else [returned]
    for value in values:
        if not isinstance(value, Buffer) or not any(value is b for b in builder.outputs):
            fail(Kind.RETURN_VALUE, f"{describe_operand(value)} was returned from {builder.name}", span, because="a kernel returns tensors made by T.empty",
                 help="allocate the result with T.empty, write it in the launch and return it")
    for buffer in builder.outputs:
        if not any(buffer is v for v in values):
            fail(Kind.OUTPUT_NOT_RETURNED, f"the output {buffer.name} is not returned from {builder.name}", (Label(buffer.span, f"{buffer.name} is made here"), Label(span)),
                 because="a tensor made by T.empty exists only to be returned", help=f"return {', '.join(b.name for b in builder.outputs)}; for a workspace use T.alloc_global")
    return values


def run_traced(builder: ProgramBuilder, rewritten: Rewritten, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls the rewritten function; mistakes that Python found become diagnostics at the user's line."""
    builder.codes.add(rewritten.code)
    try:
        return rewritten.bind(Tracer(builder))(*args, **kwargs)
    except (TileError, CompilerBug):
        raise
    except Exception as error:
        raise _translate(error) from None


def _translate(error: Exception) -> BaseException:
    """A Python exception from tracing: a diagnostic where it is a mistake in kernel code, itself where the user raised it, a bug report where we did."""
    frames: list[FrameType] = []
    traceback = error.__traceback__
    places = []
    while traceback is not None:
        frames.append(traceback.tb_frame)
        places.append(traceback)
        traceback = traceback.tb_next
    user = [k for k, frame in enumerate(frames) if is_user_file(frame.f_code.co_filename)]
    if not user:
        return CompilerBug(f"{type(error).__name__}: {error}")
    last = user[-1]
    span = span_of_frame(frames[last], places[last].tb_lasti)
    text = str(error)
    try:
        if isinstance(error, NameError):
            name = getattr(error, "name", None) or (re.search(r"'(\w+)'", text) or ["", "?"])[1]
            scope = {**frames[last].f_globals, **frames[last].f_locals}
            close = difflib.get_close_matches(name, [n for n in scope if not n.startswith("__")], 1, 0.6)
            fail(Kind.UNKNOWN_NAME, f"there is no name `{name}`", span, because="it is neither bound in the kernel nor defined around it",
                 help=f"did you mean `{close[0]}`?" if close else "define it before it is used")
        if isinstance(error, TypeError) and (found := re.search(r"(\w+)\(\) got an unexpected keyword argument '(\w+)'", text)):
            known = _argument_names(frames[last], found[1])
            close = difflib.get_close_matches(found[2], known, 1, 0.5)
            fail(Kind.UNKNOWN_ARGUMENT, f"{found[1]} has no argument `{found[2]}`", span, because=f"its arguments are {', '.join(known) or 'others'}",
                 help=f"did you mean `{close[0]}`?" if close else "remove it")
        if isinstance(error, TypeError) and (found := re.search(r"(\w+)\(\) (missing \d+ required .*|takes .* but .* given)", text)):
            fail(Kind.MISSING_ARGUMENT, f"{found[1]} {found[2]}", span, because=f"its arguments are {', '.join(_argument_names(frames[last], found[1])) or 'others'}", help="give all of them")
    except TileError as diagnostic:
        return diagnostic
    if last == len(frames) - 1:
        return error.with_traceback(None)
    return CompilerBug(f"{type(error).__name__} at {span}: {error}").with_traceback(error.__traceback__)


def _argument_names(frame: FrameType, function: str) -> list[str]:
    """Parameter names of a function that the frame can reach by its name, bare or as an attribute of a module."""
    for scope in (frame.f_locals, frame.f_globals):
        for value in [scope.get(function), *(getattr(v, function, None) for v in scope.values() if inspect.ismodule(v))]:
            if callable(value):
                try:
                    return [n for n in inspect.signature(value).parameters if n not in ("args", "kwargs")]
                except (TypeError, ValueError):
                    continue
    return []


class Ref:
    """Annotation of a macro parameter that is written through: `x: T.Ref`."""


class Macro:
    """A function that is traced into its caller. Arguments that are kernel scalars are evaluated once; buffers and Python objects are passed as they are."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        builder = build.current()
        if not isinstance(builder, ProgramBuilder):
            raise CompilerBug("a macro was called under a foreign builder")
        rewritten = rewrite_function(self.function)
        bound = inspect.signature(rewritten.original).bind(*args, **kwargs)
        bound.apply_defaults()
        annotations = rewritten.original.__annotations__
        for name, value in bound.arguments.items():
            annotation = annotations.get(name)
            is_reference = annotation is Ref or annotation == "T.Ref" or annotation == "Ref"
            if is_reference and not (isinstance(value, Buffer) and value.scope is Scope.VARIABLE):
                fail(Kind.REFERENCE_ARGUMENT, f"the argument {name} of the macro {self.function.__name__} is {describe_operand(value)}", builder.here(),
                     because="a T.Ref parameter is written through, so it must be a variable", help="pass a T.alloc_var; whole buffers and regions need no T.Ref")
            if not is_reference and isinstance(value, (Expr, Buffer)):
                bound.arguments[name] = builder.snapshot(value, name)
        return run_traced(builder, rewritten, bound.args, bound.kwargs)


def macro(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorates a function that emits kernel code where it is called."""
    return functools.partial(macro, **options) if function is None else Macro(function)


