"""Whatever is given to the language, nothing but a TileError comes out: no traceback of ours, no CompilerBug."""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tilewright
import tilewright.language as T
from tilewright.errors import TileError

QUICK = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

# Decorators, and types that a program names but does not call.
NOT_CALLED = {"prim_func", "macro", "inline", "Expr", "PrimExpr", "PrimFunc", "DType", "Ref", "Var", "GemmWarpPolicy"}
FUNCTIONS = sorted(name for name in T.__all__ if callable(getattr(T, name)) and name not in NOT_CALLED)
OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.and_,
    operator.or_,
    operator.xor,
    operator.lshift,
    operator.rshift,
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.getitem,
    operator.matmul,
]

numbers = st.one_of(st.integers(-3, 9), st.sampled_from([1 << 31, -(1 << 63), 1 << 70]), st.booleans(), st.floats(width=32), st.sampled_from([0.5, 1e300, 2.0]))
texts = st.sampled_from(
    ["", "a", "float32", "float16", "int8", "floot32", "rn", "ru", "sum", "mean", "relaxed", "row", "shared", "n", "m, n", "handle", "cpu", "sm_90"]
)
plain = st.one_of(numbers, texts, st.none(), st.binary(max_size=2), st.just(...), st.complex_numbers(max_magnitude=3))
containers = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(texts, inner, max_size=2), st.builds(slice, inner, inner, inner)
    ),
    max_leaves=4,
)
objects = st.sampled_from(
    [
        int,
        object(),
        len,
        lambda: 3,
        lambda i: i // 2,
        lambda i, j: (i, j),
        np.float32(2),
        np.int64(3),
        np.zeros(3),
        np.zeros(()),
        np.float16,
        np.dtype("int8"),
        T.float32,
        T.int32,
        T.handle,
        T.float16x2,
        T.Tensor,
        T.copy,
        T.GemmWarpPolicy.Square,
        T.dynamic("m"),
        range(3),
        iter(()),
        NotImplemented,
    ]
)
kernel_names = st.sampled_from(
    [
        "X",
        "Y",
        "s",
        "g",
        "f",
        "p",
        "v",
        "r",
        "w",
        "bx",
        "n",
        "x",
        "address",
        "X[0]",
        "s[0, 0]",
        "s[0]",
        "s[0:2, :]",
        "X[n:n+4]",
        "X[bx]",
        "f[bx, 0:n]",
        "n + 1",
        "n > 0",
        "x * 2",
        "v + 1",
        "T.float32x2(x)",
        "T.view(X, dtype='int32')",
    ]
)


class Named(str):
    """A value of the kernel, by the expression that gives it."""


garbage = st.one_of(kernel_names.map(Named), containers, objects)


def kernel_with(action: Callable[[Callable[[Any], Any]], Any], is_compiled: bool) -> None:
    """Traces a kernel that does something with values of every kind, and compiles it."""

    @T.prim_func
    def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((8, 8), "float16"), address: T.ptr, n: T.int32, x: T.float32):
        w = T.alloc_global((16,), "int32")
        with T.Kernel(4, threads=64) as bx:
            s = T.alloc_shared((8, 8), "float32")
            g = T.alloc_shared((64,), "int8")
            f = T.alloc_fragment((8, 8), "float16")
            p = T.alloc_local((4,), "float32")
            v = T.alloc_var("int32", init=1)
            r = T.alloc_reducer((8,), "float32", "sum")
            names = {"X": X, "Y": Y, "s": s, "g": g, "f": f, "p": p, "v": v, "r": r, "w": w, "bx": bx, "n": n, "x": x, "T": T}
            names["address"] = address

            def value(given: Any) -> Any:
                return eval(given, names) if isinstance(given, Named) else given

            action(value)

    if is_compiled:
        tilewright.compile(kernel)


def survives(run: Callable[[], Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run()
        except TileError as error:
            assert str(error).startswith("error[")


def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], is_compiled: bool) -> None:
    survives(lambda: kernel_with(lambda value: function(*map(value, args), **{name: value(v) for name, v in kwargs.items()}), is_compiled))


def parameter_names(function: Any) -> list[str]:
    try:
        return [p.name for p in inspect.signature(function).parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    except (TypeError, ValueError):
        return []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_argument_of_every_kind(name: str) -> None:
    function = getattr(T, name)
    of_the_kernel = [Named(text) for text in ("X", "s", "n", "x", "s[0:2, :]", "X[0]", "v")]
    for argument in (*of_the_kernel, None, "a", 3, -1, 0.5, (4,), [], {}, np.zeros(3), T.float32, lambda i: i):
        call(function, (argument,), {}, is_compiled=False)


@QUICK
@given(st.data())
def test_functions_of_the_language(data: st.DataObject) -> None:
    function = getattr(T, data.draw(st.sampled_from(FUNCTIONS), "function"))
    args = tuple(data.draw(st.lists(garbage, max_size=4), "arguments"))
    known = parameter_names(function)
    kwargs = data.draw(st.dictionaries(st.sampled_from([*known[1:], "zzz"]), garbage, max_size=2), "keywords")
    call(function, args, kwargs, is_compiled=False)


@QUICK
@given(st.sampled_from(OPERATORS), garbage, garbage)
def test_operators(function: Callable[[Any, Any], Any], left: Any, right: Any) -> None:
    # An object of Python's own may raise what it likes when it is indexed.
    if isinstance(left, Named) or (isinstance(right, Named) and function is not operator.getitem):
        call(function, (left, right), {}, is_compiled=False)


@QUICK
@given(kernel_names.map(Named), garbage, garbage)
def test_stores(target: Named, key: Any, stored: Any) -> None:
    call(operator.setitem, (target, key, stored), {}, is_compiled=False)


FORMS = (
    "for",
    "pair",
    "if",
    "while",
    "with",
    "unpack",
    "augment",
    "item",
    "assert",
    "and",
    "or",
    "not",
    "ternary",
    "equal",
    "chain",
    "return",
    "bind",
    "macro",
)


@QUICK
@given(st.sampled_from(FORMS), garbage, garbage)
def test_statements(form: str, left: Any, right: Any) -> None:
    @T.macro
    def expand(a, b):
        return a

    def action(value: Callable[[Any], Any]) -> None:
        statement(value(left), value(right))

    @T.macro
    def statement(a, b):
        c = T.alloc_var("float32")
        if form == "for":
            for i in a:
                c = i
        elif form == "pair":
            for i, j in a:
                c = i
                c = j
        elif form == "if":
            if a:
                c = 1
        elif form == "while":
            while a:
                c = 1
        elif form == "with":
            with a:
                c = 1
        elif form == "unpack":
            d, e = a
            c = d
            c = e
        elif form == "augment":
            a += b
        elif form == "item":
            a[b] += 1
        elif form == "assert":
            assert a, b
        elif form == "and":
            c = a and b
        elif form == "or":
            c = a or b
        elif form == "not":
            c = not a
        elif form == "ternary":
            c = b if a else 1
        elif form == "equal":
            c = a == b
        elif form == "chain":
            c = 0 < a < b
        elif form == "return":
            return a
        elif form == "bind":
            c = a
        else:
            expand(a, b)
        return c

    try:
        survives(lambda: kernel_with(action, False))
    except AssertionError as error:
        assert form == "assert" and error.__traceback__ is not None  # the user's own


@settings(QUICK, max_examples=60)
@given(st.data())
def test_what_is_accepted_compiles_or_is_refused_then(data: st.DataObject) -> None:
    function = getattr(T, data.draw(st.sampled_from(FUNCTIONS), "function"))
    args = data.draw(st.lists(st.one_of(kernel_names.map(Named), numbers), min_size=1, max_size=3), "arguments")
    call(function, tuple(args), {}, is_compiled=True)


@T.prim_func
def small(X: T.Tensor((8,), "float32"), n: T.int32):
    with T.Kernel(1):
        for i in T.Parallel(8):
            X[i] = n


OPTIONS = ("out_idx", "target", "pass_configs", "execution_backend")
outside = st.one_of(containers, objects, st.just(small))


@settings(QUICK, max_examples=100)
@given(outside, st.fixed_dictionaries({}, optional=dict.fromkeys((*OPTIONS, "verbose", "compile_flags", "target_host"), outside)))
def test_compile(function: Any, options: dict[str, Any]) -> None:
    survives(lambda: tilewright.compile(function, **options))
    survives(lambda: tilewright.compile(small, **options))


@settings(QUICK, max_examples=60)
@given(outside, outside, st.fixed_dictionaries({}, optional=dict.fromkeys(OPTIONS, outside)))
def test_jit(first: Any, second: Any, options: dict[str, Any]) -> None:
    def factory(a, b=1):
        return a

    def eager(X, b=1):
        N = T.const("N")
        X: T.Tensor((N,), "float32")
        with T.Kernel(1):
            X[0] = 1

    survives(lambda: tilewright.jit(first, **options) if not isinstance(first, type) and first is not None else None)
    survives(lambda: tilewright.jit(factory, **options)(first, second))
    survives(lambda: tilewright.jit(eager, **{k: v for k, v in options.items() if k != "out_idx"})(first, second))
    survives(lambda: tilewright.jit(eager).compile(N=first, b=second))


@settings(QUICK, max_examples=100)
@given(st.lists(outside, max_size=3))
def test_calls(args: list[Any]) -> None:
    run = tilewright.compile(small)
    survives(lambda: run(*args))
    survives(lambda: run(np.zeros(8, np.float32), *args[:1]))
