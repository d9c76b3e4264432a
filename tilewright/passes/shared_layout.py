"""Where the elements of shared tiles lie (floor 5).

Operands of products get a swizzle, so that neither the copies that fill them nor the loads of the tensor cores meet bank conflicts; other tiles are
row-major. What the user annotated is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from tilewright.arith.evaluate import evaluate
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Buffer, Scope, format_shape
from tilewright.ir.expr import Expr, as_expr, const, var
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import Launch
from tilewright.ir.visit import statements
from tilewright.layout import Layout, LayoutAnnotation, MemoryLayout, TableLayout, swizzled_tile, tile_axes, widest_swizzle
from tilewright.ops.gemm import Gemm
from tilewright.passes.context import Formula, GpuPassContext
from tilewright.passes.walk import viewed_tiles

_PADDING_BYTES = 16  # keeps rows aligned for the widest access, and moves neighbouring rows to other banks


def choose_shared_layouts(launch: Launch, annotations: Mapping[object, LayoutAnnotation], context: GpuPassContext, spans: Mapping[object, Span]) -> None:
    """Fills `context.shared`, and `context.formulas`, for the tiles of a launch that have no other shape or dtype. `spans` are those of the annotations.

    Raises TileError (layout-formula) for a layout that the kernel cannot compute.
    """
    viewed = viewed_tiles(launch)
    # Code that the compiler does not know takes tiles to be row-major, unless their layout was given.
    foreign = {a.buffer for call in statements(launch.body) if isinstance(call, ForeignCall) for a, _ in call.addresses()}
    operands = {r.buffer for op in statements(launch.body) if isinstance(op, Gemm) for r in (op.a, op.b)}
    for buffer in launch.buffers:
        if buffer.scope is not Scope.SHARED or buffer.source is not None or buffer in viewed:
            continue
        versions = context.versions.get(buffer)
        original = buffer if versions is None else versions.original
        if buffer in annotations:
            context.shared[buffer] = annotations[buffer].memory
            if isinstance(annotations[buffer].memory, TableLayout):
                context.formulas[buffer] = formula_of(buffer, annotations[buffer], spans[buffer])
        elif original in annotations and buffer in foreign:
            _keep_slots(buffer, annotations[original], spans[original], context)
        elif buffer in operands and buffer not in foreign and buffer.rank >= 2 and buffer.dtype.bits >= 8:
            context.shared[buffer] = operand_layout(buffer)


def _keep_slots(buffer: Buffer, annotation: LayoutAnnotation, span: Span, context: GpuPassContext) -> None:
    """A tile of several slots, in each of which the code that is given its address finds the annotated layout."""
    if isinstance(annotation.memory, MemoryLayout):
        context.shared[buffer] = with_leading_axes(annotation.memory, buffer.static_shape[:1])
        return
    inner, slot = formula_of(buffer, annotation, span), var("slot")
    size = annotation.memory.size_elements
    values = annotation.memory.values[None] + np.arange(buffer.static_shape[0]).reshape(-1, *(1,) * annotation.memory.values.ndim) * size
    context.shared[buffer] = TableLayout(("slot", *annotation.memory.in_names), annotation.memory.out_names, values)
    context.formulas[buffer] = Formula((slot, *inner.variables), slot * size + inner.place)


def formula_of(buffer: Buffer, annotation: LayoutAnnotation, span: Span) -> Formula:
    """The user's function on the indices of an element, proven by all elements of the tile. Raises TileError (layout-formula) where there is none."""
    variables = tuple(var(name) for name, _ in zip("ijklmnop", annotation.shape, strict=False))
    try:
        assert annotation.function is not None
        given = annotation.function(*variables)
        parts = tuple(map(as_expr, given if isinstance(given, (tuple, list)) else (given,)))
        place: Expr = const(0)
        for part, extent in zip(parts, annotation.get_output_shape(), strict=True):
            place = place * extent + part
        points = {v: p.astype(v.dtype.numpy) for v, p in zip(variables, np.indices(annotation.shape), strict=True)}
        computed = np.broadcast_to(evaluate(place, points, _no_memory), annotation.shape)
        is_right = place.dtype.is_integer and np.array_equal(computed, annotation.memory.table().reshape(annotation.shape))
    except Exception:  # whatever a function of the user's does with expressions
        is_right = False
    if is_right:
        return Formula(variables, place)
    fail(
        Kind.LAYOUT_FORMULA,
        f"where the elements of {buffer.name} lie cannot be computed in the kernel",
        (Label(span), Label(buffer.span, f"{buffer.name}: {format_shape(buffer)}")),
        because="the function is no permutation of the indices' digits, and does not work on the indices of the kernel: it is called with expressions",
        help="write it with the operators of integers alone: + - * // % ^ & | << >>, T.if_then_else, T.max and T.min",
    )


def _no_memory(*_: object) -> NoReturn:
    raise AssertionError("nothing is loaded")


def operand_layout(buffer: Buffer) -> MemoryLayout:
    """The last two axes swizzled, or padded where no swizzle fits; leading axes count whole tiles."""
    *leading, rows, columns = buffer.static_shape
    axes = tile_axes((rows, columns))
    mode = widest_swizzle(rows, columns, buffer.dtype.bits)
    if mode is not None:
        tile = MemoryLayout.natural(swizzled_tile(axes, buffer.dtype.bits, mode))
    else:
        elements = max(1, _PADDING_BYTES * 8 // buffer.dtype.bits)
        # An odd number of 16-byte columns: the same column of eight rows lies in all banks.
        pitch = (-(-columns // elements) | 1) * elements
        tile = MemoryLayout.strided(axes, [[p * pitch for p in axes[0].places], list(axes[1].places)])
    return with_leading_axes(tile, tuple(leading))


def with_leading_axes(tile: MemoryLayout, leading: tuple[int, ...]) -> MemoryLayout:
    """Tiles behind one another, each at a multiple of 128 bytes or more, under axes d0, d1, … in row-major order; the tile's own come last."""
    layout = tile.layout.rename(ins={f"d{a}": f"t{a}" for a in range(len(tile.layout.ins))})
    made = MemoryLayout(layout, tile.embedding)
    names = []
    for position in reversed(range(len(leading))):
        made = made.with_stages(leading[position], alignment_elements=128)
        made = MemoryLayout(made.layout.rename(ins={"stage": f"s{position}"}), made.embedding)
        names.append(f"s{position}")
    order = [*(f"s{p}" for p in range(len(leading))), *(axis.name for axis in layout.ins)]
    ordered: Layout = made.layout.reorder(ins=order).rename(ins={name: f"d{a}" for a, name in enumerate(order)})
    return MemoryLayout(ordered, made.embedding)
