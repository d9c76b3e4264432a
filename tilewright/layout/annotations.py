"""Layouts as users write them (floor 1; language.md 16): index functions for shared tiles and for fragments, and the swizzled layouts by name.

They become layouts of the algebra when they are made, so that a function that puts two elements into one place is refused at the user's line.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from tilewright.errors import Kind, Span, fail
from tilewright.layout.digits import LayoutError, tile_axes
from tilewright.layout.embedding import MemoryLayout
from tilewright.layout.interop import CollisionError, evaluate, fragment_from_function, from_function, registers_by_thread
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
        self.function = None if isinstance(function, MemoryLayout) else function
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

    @cached_property
    def index(self) -> npt.NDArray[np.int64]:
        """Where each element lies: shape (*tile, coordinates), of one coordinate unless the function gives several."""
        return self.memory.table().reshape(*self.shape, 1) if self.function is None else evaluate(self.shape, self.function)

    def get_input_shape(self) -> tuple[int, ...]:
        """The shape of the tile."""
        return self.shape

    def get_output_shape(self) -> tuple[int, ...]:
        """The box of places that the elements fill."""
        return tuple(int(n) + 1 for n in self.index.reshape(-1, self.index.shape[-1]).max(axis=0))

    def map_forward_index(self, *indices: Any) -> tuple[int, ...]:
        """The place of one element, given by its indices or by a list of them."""
        return tuple(int(n) for n in self.index[_point(indices, self.shape, "map_forward_index")])

    def is_equal(self, other: LayoutAnnotation) -> bool:
        """Whether both put every element in the same place."""
        return self.shape == other.shape and bool((self.memory.table() == other.memory.table()).all())

    def inverse(self) -> LayoutAnnotation:
        """The layout from places to elements. Raises TileError (layout-shape) where a place of the box is empty."""
        places = self.get_output_shape()
        if math.prod(places) != math.prod(self.shape):
            fail(
                Kind.LAYOUT_SHAPE,
                f"{self!r} has no inverse: its {math.prod(self.shape)} elements leave places of {places} empty",
                span_of_caller(),
                because="an inverse says which element lies in each place",
                help="use a layout without padding",
            )
        elements = np.zeros((*places, len(self.shape)), np.int64)
        elements[tuple(np.moveaxis(self.index, -1, 0))] = np.moveaxis(np.indices(self.shape), 0, -1)
        return _of_table(elements)

    def reshape(self, shape: Sequence[int]) -> LayoutAnnotation:
        """The same places for the same elements, which are counted row by row in a tile of another shape with as many elements."""
        new = _tile_shape(shape, "Layout.reshape", span_of_caller())
        if math.prod(new) != math.prod(self.shape):
            fail(
                Kind.LAYOUT_SHAPE,
                f"a layout of {self.shape} was reshaped to {new}",
                span_of_caller(),
                because="both shapes have the same number of elements",
                help=f"give a shape of {math.prod(self.shape)} elements",
            )
        return _of_table(self.index.reshape(*new, -1))

    def repeat(self, dim: int, factor: int) -> LayoutAnnotation:
        """The tile `factor` times along an axis; each repetition lies behind the one before."""
        axis, count = _axis(dim, self.shape, "Layout.repeat"), _tile_shape(factor, "Layout.repeat", span_of_caller())[0]
        shift = np.zeros(self.index.shape[-1], np.int64)
        shift[0] = self.get_output_shape()[0]
        return _of_table(np.concatenate([self.index + shift * turn for turn in range(count)], axis=axis))

    def expand(self, leading_shape: Sequence[int]) -> LayoutAnnotation:
        """More axes in front of the tile's; they are coordinates of the place as they are."""
        leading = _tile_shape(leading_shape, "Layout.expand", span_of_caller())
        outer = np.moveaxis(np.indices(leading), 0, -1).reshape(*leading, *(1,) * len(self.shape), len(leading))
        extents = (*leading, *self.shape)
        parts = [np.broadcast_to(outer, (*extents, len(leading))), np.broadcast_to(self.index, (*extents, self.index.shape[-1]))]
        return _of_table(np.concatenate(parts, axis=-1))

    def __repr__(self) -> str:
        return f"T.Layout({self.shape})"


def _from_parts(shape: tuple[int, ...], thread_of: Callable[..., Any], index_of: Callable[..., Any] | None, replicate: int) -> Callable[..., tuple[Any, Any]]:
    """The function of a fragment of which thread and register are given apart, or the thread alone."""
    registers = registers_by_thread(shape, thread_of, replicate) if index_of is None else None

    def both(*indices: Any) -> tuple[Any, Any]:
        if registers is not None:
            return thread_of(*indices), registers[indices]
        assert index_of is not None
        return thread_of(*indices), index_of(*indices)

    return both


class FragmentAnnotation:
    """`T.Fragment(shape, forward_fn=...)`: which thread holds element (i, j, ...), and in which of its registers.

    With `forward_thread_fn` alone the elements of a thread take its registers in row-major order.
    """

    def __init__(
        self,
        shape: Sequence[int],
        forward_fn: Callable[..., Any] | None = None,
        forward_thread_fn: Callable[..., Any] | None = None,
        replicate: int = 1,
        forward_index_fn: Callable[..., Any] | None = None,
    ) -> None:
        span = span_of_caller()
        self.shape, self.replicas = _tile_shape(shape, "T.Fragment", span), replicate
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
        try:
            if forward_fn is not None:
                self.function = forward_fn
            else:
                assert forward_thread_fn is not None
                self.function = _from_parts(self.shape, forward_thread_fn, forward_index_fn, replicate)
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

    @cached_property
    def _places(self) -> npt.NDArray[np.int64]:
        """Thread and register of every copy of every element: shape (*tile, replicate, 2)."""
        values = evaluate((*self.shape, self.replicas)[: len(self.shape) + (self.replicas > 1)], self.function)
        return values.reshape(*self.shape, self.replicas, 2)

    @property
    def thread(self) -> npt.NDArray[np.int64]:
        """The threads that hold each element: shape (*tile, replicate)."""
        return self._places[..., 0]

    @property
    def index(self) -> npt.NDArray[np.int64]:
        """The register that holds each element: shape (*tile, replicate)."""
        return self._places[..., 1]

    def get_input_shape(self) -> tuple[int, ...]:
        """The shape of the tile."""
        return self.shape

    def get_output_shape(self) -> tuple[int, ...]:
        """How many registers of a thread the tile takes."""
        return (int(self.index.max()) + 1,)

    def get_thread_size(self) -> int:
        """How many threads hold the tile."""
        return int(self.thread.max()) + 1

    def map_forward_index(self, *indices: Any) -> tuple[int, ...]:
        """The register of one element, given by its indices or by a list of them."""
        return (int(self.index[_point(indices, self.shape, "map_forward_index")][0]),)

    def map_forward_thread(self, *indices: Any) -> int:
        """The first thread that holds an element, given by its indices, and by the number of the copy behind them, or by a list of these."""
        whole = (*self.shape, self.replicas)
        given = indices[0] if len(indices) == 1 and isinstance(indices[0], (list, tuple)) else indices
        return int(self.thread[_point(tuple(given) + (0,) * (len(whole) - len(given)), whole, "map_forward_thread")])

    def is_equal(self, other: FragmentAnnotation) -> bool:
        """Whether the same threads hold every element in the same register."""
        return self.shape == other.shape and self._copies() == other._copies()

    def _copies(self) -> list[list[tuple[int, ...]]]:
        places = self._places.reshape(-1, self.replicas, 2)
        return [sorted({(int(thread), int(register)) for thread, register in copies}) for copies in places]

    def repeat(self, repeats: Sequence[int], repeat_on_thread: bool = False, lower_dim_first: bool = True) -> FragmentAnnotation:
        """The tile `repeats[d]` times along each axis d: in more registers of the same threads, or with `repeat_on_thread` on as many more threads.

        The repetitions are counted with the last axis fastest, with `lower_dim_first=False` with the first.
        """
        counts = _tile_shape(repeats, "Fragment.repeat", span_of_caller())
        if len(counts) != len(self.shape):
            _fail_rank(len(counts), self.shape, "Fragment.repeat")
        numbers = np.arange(math.prod(counts)).reshape(counts, order="C" if lower_dim_first else "F")
        shift = np.array([self.get_thread_size(), 0] if repeat_on_thread else [0, self.get_output_shape()[0]])
        places = np.tile(self._places, (*counts, 1, 1))
        number = numbers[tuple(i // n for i, n in zip(np.indices(places.shape[: len(counts)]), self.shape, strict=True))]
        return _of_places(places + number[..., None, None] * shift)

    def replicate(self, copies: int) -> FragmentAnnotation:
        """Every element on `copies` times as many threads: those that hold it, and the ones behind all of them."""
        count = _tile_shape(copies, "Fragment.replicate", span_of_caller())[0]
        shift = np.array([self.get_thread_size(), 0])
        return _of_places(np.concatenate([self._places + shift * copy for copy in range(count)], axis=-2))

    def condense_rep_var(self) -> FragmentAnnotation:
        """The same fragment without copies that are in the same place as another."""
        kept = [np.unique(copies, axis=0) for copies in self._places.reshape(-1, self.replicas, 2)]
        if len({len(copies) for copies in kept}) > 1:
            return self  # elements have different numbers of copies
        return _of_places(np.stack(kept).reshape(*self.shape, -1, 2))

    def __repr__(self) -> str:
        return f"T.Fragment({self.shape})"


def _point(indices: Sequence[Any], shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Indices of one element, as they were given to a method. Raises TileError (layout-shape) where there is no such element."""
    given = tuple(indices[0]) if len(indices) == 1 and isinstance(indices[0], (list, tuple)) else tuple(indices)
    if len(given) != len(shape):
        _fail_rank(len(given), shape, name)
    point = tuple(map(operator.index, given))
    if not all(0 <= i < n for i, n in zip(point, shape, strict=True)):
        fail(
            Kind.LAYOUT_SHAPE,
            f"{name} was given {point}, but the layout is of {shape}",
            span_of_caller(),
            because="it gives the place of one element",
            help="give indices inside the shape",
        )
    return point


def _axis(dim: Any, shape: tuple[int, ...], name: str) -> int:
    if isinstance(dim, bool) or not isinstance(dim, int) or not -len(shape) <= dim < len(shape):
        fail(
            Kind.LAYOUT_SHAPE,
            f"{name} was given the axis {dim!r}",
            span_of_caller(),
            because=f"a layout of {shape} has the axes 0 to {len(shape) - 1}",
            help="give one of them",
        )
    return dim % len(shape)


def _fail_rank(count: int, shape: tuple[int, ...], name: str) -> NoReturn:
    fail(
        Kind.LAYOUT_SHAPE,
        f"{name} was given {count} number{'s' * (count != 1)}, but the layout is of {shape}",
        span_of_caller(),
        because="there is one per axis",
        help=f"give {len(shape)}",
    )


def _of_table(values: npt.NDArray[np.int64]) -> LayoutAnnotation:
    """The layout that puts each element where the table (*tile, coordinates) says."""
    return LayoutAnnotation(values.shape[:-1], _index_function(values))


def _of_places(places: npt.NDArray[np.int64]) -> FragmentAnnotation:
    """The fragment with these threads and registers: (*tile, replicate, 2)."""
    *shape, copies, _ = places.shape
    values = places if copies > 1 else places[..., 0, :]
    return FragmentAnnotation(shape, forward_fn=_index_function(values), replicate=copies)


def _index_function(values: npt.NDArray[np.int64]) -> Callable[..., Any]:
    def look_up(*indices: Any) -> tuple[Any, ...]:
        return tuple(np.moveaxis(values[indices], -1, 0))

    return look_up


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


def make_wgmma_swizzled_layout(buffer: Tile, continuity: int | None = None, k_major: bool = True) -> LayoutAnnotation:
    """The widest swizzle that fits a shared tile: what the matrix instructions of Hopper read."""
    return _swizzled(buffer, None)


def make_tcgen05mma_swizzled_layout(buffer: Tile, continuity: int | None = None, k_major: bool = True) -> LayoutAnnotation:
    """The widest swizzle that fits a shared tile; the GPUs that this is named after are no targets of this version."""
    return _swizzled(buffer, None)


def make_volta_swizzled_layout(buffer: Tile, is_a: bool = True, k_inner: bool = True) -> LayoutAnnotation:
    """The widest swizzle that fits a shared tile; the GPUs that this is named after are no targets of this version."""
    return _swizzled(buffer, None)


def make_cutlass_metadata_layout(*args: Any, **kwargs: Any) -> NoReturn:
    """The order of the metadata of sparse products: refused, as those are."""
    fail(
        Kind.TARGET_FEATURE,
        "make_cutlass_metadata_layout is about products of sparse matrices",
        span_of_caller(),
        because="T.gemm_sp, which reads such metadata, is not run by this version",
        help="multiply the full matrices with T.gemm",
    )


def make_gemm_fragment_8x8() -> FragmentAnnotation:
    """8 x 8 elements on the 32 threads of a warp: four threads to a row, each with two neighbours (PTX ISA, matrix fragments of mma.m16n8k16)."""
    return FragmentAnnotation((8, 8), forward_fn=lambda i, j: (i * 4 + j // 2, j % 2))


def make_gemm_fragment_8x8_transposed() -> FragmentAnnotation:
    """The same with rows and columns exchanged."""
    return FragmentAnnotation((8, 8), forward_fn=lambda i, j: (j * 4 + i // 2, i % 2))


def make_fully_replicated_layout_fragment(buffer: Tile, threads: int) -> FragmentAnnotation:
    """Every thread holds the whole tile, row by row."""
    shape = tuple(int(n) for n in buffer.shape)
    registers = np.arange(math.prod(shape)).reshape(*shape, 1)
    count = _tile_shape(threads, "make_fully_replicated_layout_fragment", span_of_caller())[0]
    places = [np.broadcast_to(part, (*shape, count)) for part in (np.arange(count), registers)]
    return _of_places(np.stack(places, axis=-1))


def make_linear_layout(buffer: Tile) -> LayoutAnnotation:
    """Row-major order."""
    shape = tuple(int(n) for n in buffer.shape)

    def row_major(*indices: Any) -> Any:
        position = 0
        for index, extent in zip(indices, shape, strict=True):
            position = position * extent + index
        return position

    return LayoutAnnotation(shape, row_major)
