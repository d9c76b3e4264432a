"""Layouts as users write them (floor 1; language.md 16): index functions for shared tiles and for fragments, and the swizzled layouts by name.

They become layouts of the algebra when they are made, so that a function that puts two elements into one place is refused at the user's line.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from tilewright.errors import Kind, Span, fail
from tilewright.layout.digits import LayoutError, tile_axes
from tilewright.layout.embedding import MemoryLayout
from tilewright.layout.interop import CollisionError, evaluate, fragment_from_function, from_function
from tilewright.layout.layout import Layout
from tilewright.layout.swizzle import SwizzleMode, swizzled_tile
from tilewright.layout.table import Collision, TableLayout
from tilewright.spans import span_of_caller


class _Element(Protocol):
    @property
    def bits(self) -> int: ...


class Tile(Protocol):
    """Anything with a static shape and an element type: a buffer of the language."""

    @property
    def shape(self) -> Any: ...

    @property
    def dtype(self) -> _Element: ...


def _fail_collision(collision: Collision, span: Span) -> NoReturn:
    fail(
        Kind.LAYOUT_INJECTIVE,
        f"the layout puts two elements in the same place: {collision.first} and {collision.second} both go to {collision.image}",
        span,
        because="a layout is injective: each element has a position of its own",
        help="make the function one to one on the whole tile",
    )


def _tile_shape(shape: Any, what: str, span: Span) -> tuple[int, ...]:
    items = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    sizes: list[int] = []
    for n in items:
        try:
            size = 0 if isinstance(n, bool) or type(n).__module__.startswith("tilewright") else operator.index(n)
        except TypeError:
            size = 0
        if size < 1:
            described = f"`{n}`" if type(n).__module__.startswith("tilewright") else repr(n)
            fail(
                Kind.LAYOUT_SHAPE,
                f"the shape of {what} holds {described}",
                span,
                because="a layout places the elements of a tile, whose shape is fixed when the kernel is compiled",
                help="give positive ints",
            )
        sizes.append(size)
    return tuple(sizes)


def _check_function(function: Any, indices: int, what: str, span: Span) -> None:
    """A diagnostic where the index function cannot be called with one index per dimension."""
    if not callable(function):
        fail(
            Kind.LAYOUT_SHAPE,
            f"the function of {what} is {function!r}",
            span,
            because="it maps each index of the tile to a place",
            help=f"write lambda {', '.join('ijklmn'[:indices])}: ...",
        )
    try:
        inspect.signature(function).bind(*range(indices))
    except TypeError:
        fail(
            Kind.LAYOUT_SHAPE,
            f"the function of {what} does not take {indices} ind{'ices' if indices != 1 else 'ex'}",
            span,
            because="it is called with one index per dimension of the tile",
            help=f"write lambda {', '.join('ijklmn'[:indices])}: ...",
        )
    except ValueError:  # a builtin without a signature: it is called and found out
        pass


class LayoutAnnotation:
    """`T.Layout(shape, function)`: element (i, j, ...) of a shared tile lies where the function says.

    Raises TileError where the function is no map into memory, or puts two elements in one place.
    """

    def __init__(self, shape: Sequence[int] | int, function: Callable[..., Any] | MemoryLayout) -> None:
        span = span_of_caller()
        self.shape = _tile_shape(shape, "T.Layout", span)
        if isinstance(function, MemoryLayout):
            self.memory: MemoryLayout | TableLayout = function
            return
        _check_function(function, len(self.shape), "T.Layout", span)
        try:
            self.memory = from_function(self.shape, function)
        except CollisionError as error:
            _fail_collision(error.collision, span)
        except LayoutError as error:
            fail(
                Kind.LAYOUT_SHAPE,
                f"the function of T.Layout is no layout: {error}",
                span,
                because="it maps each index of the tile to a position in memory",
                help="return one non-negative integer, or one per dimension",
            )

    def get_input_shape(self) -> tuple[int, ...]:
        """The shape of the tile."""
        return self.shape

    def is_equal(self, other: LayoutAnnotation) -> bool:
        """Whether both put every element in the same place."""
        return self.shape == other.shape and bool((self.memory.table() == other.memory.table()).all())

    def __repr__(self) -> str:
        return f"T.Layout({self.shape})"


class FragmentAnnotation:
    """`T.Fragment(shape, forward_fn=...)`: which thread holds element (i, j, ...), and in which of its registers."""

    def __init__(
        self,
        shape: Sequence[int],
        forward_fn: Callable[..., Any] | None = None,
        forward_thread_fn: Callable[..., Any] | None = None,
        replicate: int = 1,
        forward_index_fn: Callable[..., Any] | None = None,
    ) -> None:
        span = span_of_caller()
        self.shape, self.replicate = _tile_shape(shape, "T.Fragment", span), replicate
        if not isinstance(replicate, int) or isinstance(replicate, bool) or replicate < 1:
            fail(
                Kind.LAYOUT_SHAPE,
                f"replicate of T.Fragment is {replicate!r}",
                span,
                because="it counts the copies of each element",
                help="give a positive int, or leave it out",
            )
        if forward_fn is None and forward_thread_fn is None:
            fail(
                Kind.LAYOUT_SHAPE,
                "T.Fragment was given no function",
                span,
                because="a fragment layout says which thread holds each element",
                help="give forward_fn=lambda i, j: (thread, register)",
            )
        indices = len(self.shape) + (replicate > 1)
        for function in (forward_fn,) if forward_fn is not None else filter(None, (forward_thread_fn, forward_index_fn)):
            _check_function(function, indices, "T.Fragment", span)
        self.function: Callable[..., Any]
        if forward_fn is not None:
            self.function = forward_fn
        else:
            thread_of, index_of = forward_thread_fn, forward_index_fn

            def both(*indices: Any) -> tuple[Any, Any]:
                assert thread_of is not None
                return thread_of(*indices), index_of(*indices) if index_of is not None else 0

            self.function = both
        try:
            threads = int(evaluate((*self.shape, replicate)[: len(self.shape) + (replicate > 1)], self.function)[..., 0].max(initial=0)) + 1
            self.fragment: Layout | TableLayout = fragment_from_function(self.shape, self.function, threads, replicate)
        except CollisionError as error:
            _fail_collision(error.collision, span)
        except LayoutError as error:
            fail(
                Kind.LAYOUT_SHAPE,
                f"the function of T.Fragment is no layout: {error}",
                span,
                because="each element has a thread and a register of its own",
                help="return (thread, register)",
            )

    def get_input_shape(self) -> tuple[int, ...]:
        """The shape of the tile."""
        return self.shape

    def __repr__(self) -> str:
        return f"T.Fragment({self.shape})"


def _swizzled(tile: Tile, mode: SwizzleMode | None) -> LayoutAnnotation:
    shape = tuple(int(n) for n in tile.shape)
    layout = swizzled_tile(tile_axes(shape), tile.dtype.bits, mode)
    return LayoutAnnotation(shape, MemoryLayout.natural(layout))


def make_swizzled_layout(buffer: Tile, k_major: bool = True, allow_pad: bool = True) -> LayoutAnnotation:
    """The widest swizzle that fits a shared tile."""
    return _swizzled(buffer, None)


def make_full_bank_swizzled_layout(buffer: Tile) -> LayoutAnnotation:
    """The 128-byte swizzle."""
    return _swizzled(buffer, SwizzleMode.B128)


def make_half_bank_swizzled_layout(buffer: Tile) -> LayoutAnnotation:
    """The 64-byte swizzle."""
    return _swizzled(buffer, SwizzleMode.B64)


def make_quarter_bank_swizzled_layout(buffer: Tile) -> LayoutAnnotation:
    """The 32-byte swizzle."""
    return _swizzled(buffer, SwizzleMode.B32)


def make_linear_layout(buffer: Tile) -> LayoutAnnotation:
    """Row-major order."""
    shape = tuple(int(n) for n in buffer.shape)

    def row_major(*indices: Any) -> Any:
        position = 0
        for index, extent in zip(indices, shape, strict=True):
            position = position * extent + index
        return position

    return LayoutAnnotation(shape, row_major)
