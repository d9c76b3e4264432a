"""Loads and stores of 32 to 256 bits as raw words (floor 5; language.md 10.6): T.ldg128, T.stg64, T.lds32 and their like.

Neighbouring elements of one row are read, or written, as one value of 32-bit words. On a GPU that is one instruction where the address is known to be
aligned. Outside a global tensor a load gives zeros (or the tensor's safe value) and a store is left out, element by element, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilewright import dtypes
from tilewright.dtypes import LANE_COUNTS, DType
from tilewright.errors import Kind, Label, fail
from tilewright.ir import build
from tilewright.ir.buffer import Reference, Scope
from tilewright.ir.expr import Expr, as_condition, as_expr, const, describe_operand, load, reinterpret, select
from tilewright.ir.lanes import pack_lanes
from tilewright.ir.stmt import If, Seq
from tilewright.language.addresses import access_ptr
from tilewright.spans import span_of_caller

_WORD_BITS = 32
_NO_PREDICATE = object()


def __ldg(place: Any) -> Expr:
    """One element of a global tensor that nothing writes while the kernel runs. The hint changes no result."""
    return load(*_element(access_ptr(place), Scope.GLOBAL, "__ldg"))


def _element(at: Reference, scope: Scope, name: str) -> tuple[Any, tuple[Expr, ...]]:
    if at.buffer.scope is not scope:
        fail(
            Kind.OPERAND_KIND,
            f"T.{name} was given an address in {at.buffer.name}, which is {at.buffer.scope.value}",
            (Label(span_of_caller()), Label(at.buffer.span, f"{at.buffer.name} is declared here")),
            because=f"it works on {scope.value} memory",
            help="assign the element, as in x = A[i], which works on every memory",
        )
    return at.buffer, at.starts


def _elements(place: Any, words: int, scope: Scope, name: str) -> list[Expr]:
    """The neighbouring elements that make up the words. Raises TileError (operand-kind, operand) where there are none such."""
    buffer, starts = _element(access_ptr(place), scope, name)
    bits, last = words * _WORD_BITS, buffer.shape[-1]
    count, rest = divmod(bits, buffer.dtype.bits)
    too_few = isinstance(last, int) and last < count
    if rest or buffer.dtype.lanes > 1 or (count > 1 and count not in LANE_COUNTS) or buffer.dtype.bits < 8 or too_few:
        shown = f"{buffer.name}, whose last dimension has {last} elements of {buffer.dtype!s}" if too_few else f"{buffer.name}, which holds {buffer.dtype!s}"
        fail(
            Kind.OPERAND,
            f"T.{name} was given an element of {shown}",
            (Label(span_of_caller()), Label(buffer.span, f"{buffer.name} is declared here")),
            because=f"it moves {bits} bits of neighbouring elements of 8 to {bits} bits each",
            help="use a narrower one, or assign the elements",
        )
    return [load(buffer, (*starts[:-1], starts[-1] + lane)) for lane in range(count)]


def _words(words: int) -> DType:
    return dtypes.uint32.with_lanes(words)


def _zero_bits(dtype: DType) -> Expr:
    return reinterpret(const(0, dtypes.as_dtype(f"uint{dtype.bits}")), dtype)


def _loader(name: str, bits: int, scope: Scope, has_predicate: bool) -> Callable[..., Expr]:
    words = bits // _WORD_BITS

    def load_words(src: Any, pred: Any = _NO_PREDICATE) -> Expr:
        elements = _elements(src, words, scope, name)
        if pred is not _NO_PREDICATE and pred is not None:
            _check_predicate(has_predicate, name)
            condition = as_condition(pred)
            elements = [select(condition, element, _zero_bits(element.dtype), is_lazy=True) for element in elements]
        return reinterpret(pack_lanes(elements), _words(words))

    predicate = "; zeros where `pred` does not hold, and nothing is read then" if has_predicate else ""
    load_words.__doc__ = f"{bits} bits of {scope.value} memory from the element `src` on, as {_words(words)}{predicate}."
    load_words.__name__ = load_words.__qualname__ = name
    return load_words


def _storer(name: str, bits: int, scope: Scope, has_predicate: bool) -> Callable[..., None]:
    words = bits // _WORD_BITS

    def store_words(dst: Any, value: Any, pred: Any = _NO_PREDICATE) -> None:
        target, stored = pack_lanes(_elements(dst, words, scope, name)), as_expr(value)
        if stored.is_const and stored.dtype.is_integer and words == 1:
            stored = const(stored.value, dtypes.uint32)
        if stored.dtype.bits * stored.dtype.lanes != bits:
            fail(
                Kind.OPERAND,
                f"T.{name} was given {describe_operand(value)}, which has {stored.dtype.bits * stored.dtype.lanes} bits",
                span_of_caller(),
                because=f"it stores {bits} bits, as {_words(words)}",
                help="build the value with T.uint32x2(a, b) and its like, or T.reinterpret",
            )
        builder = build.current()
        span = builder.here()
        bits_of_target = reinterpret(stored, target.dtype)
        if pred is _NO_PREDICATE or pred is None:
            builder.store_region(target, bits_of_target)
            return
        _check_predicate(has_predicate, name)
        with builder.block() as body:
            builder.store_region(target, bits_of_target)
        builder.emit(If(span, as_condition(pred), Seq(span, tuple(body))))

    predicate = ", where `pred` holds" if has_predicate else ""
    store_words.__doc__ = f"Writes {bits} bits, given as {_words(words)}, to {scope.value} memory from the element `dst` on{predicate}."
    store_words.__name__ = store_words.__qualname__ = name
    return store_words


def _check_predicate(has_predicate: bool, name: str) -> None:
    if not has_predicate:
        fail(
            Kind.UNKNOWN_ARGUMENT,
            f"T.{name} has no argument `pred`",
            span_of_caller(),
            because="only the accesses of global memory take one",
            help="put it under an `if`",
        )


ldg32, ldg64, ldg128, ldg256 = (_loader(f"ldg{bits}", bits, Scope.GLOBAL, True) for bits in (32, 64, 128, 256))
stg32, stg64, stg128, stg256 = (_storer(f"stg{bits}", bits, Scope.GLOBAL, True) for bits in (32, 64, 128, 256))
lds32, lds64, lds128 = (_loader(f"lds{bits}", bits, Scope.SHARED, False) for bits in (32, 64, 128))
sts32, sts64, sts128 = (_storer(f"sts{bits}", bits, Scope.SHARED, False) for bits in (32, 64, 128))

__all__ = ["__ldg", "ldg32", "ldg64", "ldg128", "ldg256", "lds32", "lds64", "lds128", "stg32", "stg64", "stg128", "stg256", "sts32", "sts64", "sts128"]
