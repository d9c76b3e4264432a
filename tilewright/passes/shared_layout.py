"""Where the elements of shared tiles lie (floor 5).

Operands of products get a swizzle, so that neither the copies that fill them nor the loads of the tensor cores meet bank conflicts; other tiles are
row-major. What the user annotated is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import Launch
from tilewright.ir.visit import statements
from tilewright.layout import Layout, LayoutAnnotation, MemoryLayout, swizzled_tile, tile_axes, widest_swizzle
from tilewright.ops.gemm import Gemm
from tilewright.passes.context import GpuPassContext
from tilewright.passes.walk import viewed_tiles

_PADDING_BYTES = 16  # keeps rows aligned for the widest access, and moves neighbouring rows to other banks


def choose_shared_layouts(launch: Launch, annotations: Mapping[object, LayoutAnnotation], context: GpuPassContext) -> None:
    """Fills `context.shared` for the tiles of a launch that have no other shape or dtype."""
    viewed = viewed_tiles(launch)
    # Code that the compiler does not know takes tiles to be row-major, unless their layout was given.
    foreign = {a.buffer for call in statements(launch.body) if isinstance(call, ForeignCall) for a, _ in call.addresses()}
    operands = {r.buffer for op in statements(launch.body) if isinstance(op, Gemm) for r in (op.a, op.b)}
    for buffer in launch.buffers:
        if buffer.scope is not Scope.SHARED or buffer.source is not None or buffer in viewed:
            continue
        if buffer in annotations:
            context.shared[buffer] = annotations[buffer].memory
        elif buffer in operands and buffer not in foreign and buffer.rank >= 2 and buffer.dtype.bits >= 8:
            context.shared[buffer] = operand_layout(buffer)


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
