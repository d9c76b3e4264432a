"""Exceptions that Python raised while a kernel was traced (floor 5): a diagnostic where the mistake is in the kernel's code, the exception
itself where the user raised it, a `CompilerBug` where we did."""

from __future__ import annotations

import builtins
import difflib
import dis
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from functools import lru_cache
from types import CodeType, FrameType, TracebackType
from typing import Any

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Kind, Span, TileError, fail
from tilewright.ir.buffer import Buffer, Region
from tilewright.ir.expr import Expr, describe_operand
from tilewright.spans import callee_of, is_user_file, span_of_frame

_STANDARD_LIBRARY = sysconfig.get_path("stdlib") + os.sep
# What a kernel may ask of its objects; the rest of their attributes is the compiler's.
_ATTRIBUTES: dict[type, tuple[str, ...]] = {
    Buffer: ("shape", "dtype", "strides", "name", "scope", "data", "astype"),
    Region: ("shape", "dtype", "buffer"),
    Expr: ("dtype", "astype"),
    DType: ("bits", "bytes", "itemsize", "lanes", "as_torch", "is_float", "is_integer", "is_signed", "minimum", "maximum"),
}
# Keywords of numpy and torch, and what they are called here.
_SYNONYMS = {
    "axis": "dim",
    "axes": "dim",
    "dimension": "dim",
    "trans_A": "transpose_A",
    "trans_B": "transpose_B",
    "stages": "num_stages",
    "num_threads": "threads",
}
_MODULE_ALIASES = {"np": "import numpy as np", "T": "import tilewright.language as T"}


def explain_exception(error: Exception, kernel_codes: Iterable[CodeType], stand_ins: frozenset[CodeType]) -> BaseException:
    """What to raise instead of `error`.

    kernel_codes   code objects of the kernels and macros that are being traced.
    stand_ins      code objects of ours that do what the user's code says on the user's objects: an exception there is the user's.
    """
    places: list[TracebackType] = []
    traceback = error.__traceback__
    while traceback is not None:
        places.append(traceback)
        traceback = traceback.tb_next
    is_assert = isinstance(error, AssertionError) and bool(places) and places[-1].tb_frame.f_code in stand_ins
    while places and (_is_standard_library(places[-1].tb_frame.f_code.co_filename) or places[-1].tb_frame.f_code in stand_ins):
        places.pop()  # the mistake is where it was called
    user = [k for k, place in enumerate(places) if is_user_file(place.tb_frame.f_code.co_filename)]
    if not user:
        return CompilerBug(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)
    if is_assert:
        return _own(error, [places[k] for k in user])
    place = places[user[-1]]
    if isinstance(error, RecursionError):
        place = next((places[k] for k in user if places[k].tb_frame.f_code in kernel_codes), place)
    span = span_of_frame(place.tb_frame, place.tb_lasti)
    is_kernel_code = any(place.tb_frame.f_code in nested_codes(code) for code in kernel_codes)
    is_raised_here = user[-1] == len(places) - 1
    try:
        if isinstance(error, RecursionError):
            fail(
                Kind.PYTHON_ERROR,
                "the calls in this kernel do not end: Python's recursion limit was reached",
                span,
                because="a macro or helper function that calls itself is expanded as often as it is called",
                help="end the recursion with a condition on Python values",
            )
        if is_raised_here:
            _refuse_names(error, place.tb_frame, span)
            _refuse_arguments(error, place.tb_frame, span)
            _refuse_attributes(error, span)
        if is_raised_here and is_kernel_code and not _is_raise_statement(place):
            fail(
                Kind.PYTHON_ERROR,
                f"{type(error).__name__}: {error}",
                span,
                because="this part of the kernel is computed by Python while the kernel is traced",
                help="correct the expression that is marked",
            )
    except TileError as diagnostic:
        return diagnostic
    if is_raised_here:
        return _own(error, [places[k] for k in user])
    return CompilerBug(f"{type(error).__name__} at {span}: {error}").with_traceback(error.__traceback__)


def _is_standard_library(file: str) -> bool:
    return file.startswith((_STANDARD_LIBRARY, "<frozen ")) and "site-packages" not in file


def _own(error: Exception, places: list[TracebackType]) -> Exception:
    """The user's exception, with the user's frames only."""
    traceback: TracebackType | None = None
    for place in reversed(places):
        traceback = TracebackType(traceback, place.tb_frame, place.tb_lasti, place.tb_lineno)
    return error.with_traceback(traceback)


@lru_cache(maxsize=1024)
def nested_codes(code: CodeType) -> frozenset[CodeType]:
    """A code object and those of the lambdas, comprehensions and functions inside it."""
    return frozenset([code]).union(*(nested_codes(c) for c in code.co_consts if isinstance(c, CodeType)))


def _is_raise_statement(place: TracebackType) -> bool:
    return dis.opname[place.tb_frame.f_code.co_code[place.tb_lasti]] in ("RAISE_VARARGS", "RERAISE")


def _refuse_names(error: Exception, frame: FrameType, span: Span) -> None:
    if not isinstance(error, NameError):
        return
    name = error.name or (re.search(r"'(\w+)'", str(error)) or ["", "?"])[1]
    if isinstance(error, UnboundLocalError):
        fail(Kind.UNKNOWN_NAME, f"`{name}` has no value yet", span, because="no assignment to it has run before this line", help="assign it first")
    known = [n for n in {**frame.f_globals, **frame.f_locals} if not n.startswith("__")]
    by_lower = {n.lower(): n for n in reversed(known)}
    close = [by_lower[name.lower()]] if name.lower() in by_lower else difflib.get_close_matches(name, known, 1, 0.6)
    module = _MODULE_ALIASES.get(name) or (f"import {name}" if name in sys.stdlib_module_names else None)
    fail(
        Kind.UNKNOWN_NAME,
        f"there is no name `{name}`",
        span,
        because="it is neither bound in the kernel nor defined around it",
        help=f"did you mean `{close[0]}`?" if close else f"write `{module}` at the top of the file" if module else "define it before it is used",
    )


def _refuse_attributes(error: Exception, span: Span) -> None:
    if not isinstance(error, AttributeError) or error.name is None or error.obj is None:
        return
    owner = error.obj if isinstance(error.obj, type) else type(error.obj)
    if not owner.__module__.startswith("tilewright"):
        return
    public = [n for n in dir(error.obj) if not n.startswith("_")]
    known = next((list(names) for kind, names in _ATTRIBUTES.items() if isinstance(error.obj, kind)), public)
    close = difflib.get_close_matches(error.name, known, 1, 0.5)
    subject = owner.__name__
    if isinstance(error.obj, (Buffer, Expr, Region, DType)):
        subject = f"`{error.obj.name}`" if isinstance(error.obj, Buffer) else describe_operand(error.obj)
    fail(
        Kind.UNKNOWN_ATTRIBUTE,
        f"{subject} has no attribute `{error.name}`",
        span,
        because=f"its attributes are {', '.join(known[:12])}{' and others' * (len(known) > 12)}",
        help=f"did you mean `{close[0]}`?" if close else "remove it",
    )


def _refuse_arguments(error: Exception, frame: FrameType, span: Span) -> None:
    """Calls that do not fit a signature, and of modules of ours that are called what a function is called in small letters."""
    if isinstance(error, TypeError) and "'module' object is not callable" in str(error):
        first, _, name = (callee_of(span) or "").rpartition(".")
        right = [n for n in sys.modules["tilewright.language"].__all__ if n.lower() == name.lower()]
        if right:
            fail(
                Kind.UNKNOWN_NAME,
                f"there is no function {first}.{name}",
                span,
                because="the language does not have this name",
                help=f"did you mean {first}.{right[0]}?",
            )
    found = re.search(r"(\w+)\(\) (missing|takes|got) (.*)", str(error)) if isinstance(error, TypeError) else None
    if found is None:
        return
    callee, detail = callee_of(span) or found[1], found[3]
    signature = _signature(callee, frame)
    parameters = [] if signature is None else [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    known = [p.name for p in parameters]
    because = f"its arguments are {', '.join(known)}" if known else "the call does not fit the function"
    if found[2] == "missing":
        missing = " and ".join(f"`{n}`" for n in re.findall(r"'(\w+)'", detail))
        required = [p.name if p.kind is not p.KEYWORD_ONLY else f"{p.name}=..." for p in parameters if p.default is p.empty]
        fail(
            Kind.MISSING_ARGUMENT,
            f"{callee} was called without {missing}",
            span,
            because=because,
            help=f"write {callee}({', '.join(required)})" if required else "give it too",
        )
    unexpected = re.match(r"an unexpected keyword argument '(\w+)'", detail)
    if unexpected:
        synonym = _SYNONYMS.get(unexpected[1])
        close = [synonym] if synonym in known else difflib.get_close_matches(unexpected[1], known, 1, 0.5)
        fail(
            Kind.UNKNOWN_ARGUMENT,
            f"{callee} has no argument `{unexpected[1]}`",
            span,
            because=because,
            help=f"did you mean `{close[0]}`?" if close else "remove it",
        )
    twice = re.match(r"multiple values for argument '(\w+)'", detail)
    if twice:
        fail(Kind.UNKNOWN_ARGUMENT, f"{callee} was given `{twice[1]}` twice", span, because="it was given both by position and by name", help="leave one out")
    if "positional argument" in detail or detail == "no arguments":
        count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
        named = [f"{p.name}=..." for p in parameters if p.kind is p.KEYWORD_ONLY]
        fail(
            Kind.UNKNOWN_ARGUMENT,
            f"{callee} was given too many arguments: it takes {count} by position" if parameters else f"{callee} takes {detail}",
            span,
            because=because,
            help=f"name the others, as in {named[0]}" if named else "remove what is too much",
        )


def _signature(callee: str, frame: FrameType) -> inspect.Signature | None:
    """Of the function that a dotted name means in the frame."""
    first, *rest = callee.split(".")
    try:
        value: Any = {**vars(builtins), **frame.f_globals, **frame.f_locals}[first]
        for name in rest:
            value = getattr(value, name)
        return inspect.signature(value)
    except (KeyError, AttributeError, TypeError, ValueError, TileError):
        return None


def bind_arguments(
    callee: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any], span: Span, *, is_partial: bool = False
) -> inspect.BoundArguments:
    """Arguments by the parameters of a function, defaults filled in; a diagnostic where they do not fit."""
    try:
        bound = signature.bind_partial(*args, **kwargs) if is_partial else signature.bind(*args, **kwargs)
    except TypeError as error:
        text, names = str(error), list(signature.parameters)
        because = f"its arguments are {', '.join(names)}" if names else "it takes no arguments"
        found = (re.findall(r"'(\w+)'", text) or [""])[0]
        if "missing" in text:
            is_method = bool(names) and names[0] == "self"
            fail(
                Kind.MISSING_ARGUMENT,
                f"{callee} was called without `{found}`",
                span,
                because=because,
                help="make it a function or a staticmethod: a method is not called with its object" if is_method else "give it too",
            )
        if "unexpected" in text:
            close = difflib.get_close_matches(found, names, 1, 0.5)
            fail(
                Kind.UNKNOWN_ARGUMENT,
                f"{callee} has no argument `{found}`",
                span,
                because=because,
                help=f"did you mean `{close[0]}`?" if close else "remove it",
            )
        if "multiple" in text:
            fail(Kind.UNKNOWN_ARGUMENT, f"{callee} was given `{found}` twice", span, because="it was given both by position and by name", help="leave one out")
        fail(Kind.UNKNOWN_ARGUMENT, f"{callee} was given too many arguments: {len(args)} by position", span, because=because, help="remove what is too much")
    bound.apply_defaults()
    return bound
