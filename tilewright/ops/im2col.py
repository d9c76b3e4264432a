"""`T.im2col`: the patches of an image under a filter, as rows of a matrix (floor 4; language.md 7.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.dtypes import int64
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir import build
from tilewright.ir.buffer import Region, Scope, format_shape
from tilewright.ir.expr import Expr, Op, as_expr, as_integer, binary, cast, const, describe_operand, load, logical, maximum, select, var
from tilewright.ir.stmt import Let, ParallelFor, Seq, Stmt, Store
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, TileOp
from tilewright.ops.operand import as_region, fixed, place, write_box


@dataclass(frozen=True, eq=False)
class Im2Col(TileOp):
    """col[m, k] = image[n, oh * stride + kh * dilation - pad, ow * stride + kw * dilation - pad, c], 0 outside the image.

    image     all of a tensor of shape (N, H, W, C).
    col       a tile; its rows are output pixels (n, oh, ow) counted row-major, its columns places (kh, kw, c) of the filter counted row-major.
    row, column   the output pixel and the place of the filter that col[0, 0] is.
    kernel    height and width of the filter.
    """

    image: Region
    col: Region
    row: Expr
    column: Expr
    kernel: int
    stride: int
    dilation: int
    pad: int

    def effects(self) -> Effects:
        return Effects(reads=(self.image,), writes=(self.col,))

    def reference(self, environment: ReferenceEnvironment) -> None:
        image = environment.array(self.image.buffer)
        batch, height, width, channels = image.shape
        out_height, out_width = self._out(height), self._out(width)
        rows, columns = (int(n) for n in self.col.shape)
        m, k = np.ogrid[:rows, :columns]
        m, k = m + int(environment.value(self.row)), k + int(environment.value(self.column))
        n, pixel = np.divmod(m, max(out_height * out_width, 1))
        oh, ow = np.divmod(pixel, max(out_width, 1))
        tap, c = np.divmod(k, max(channels, 1))
        kh, kw = np.divmod(tap, self.kernel)
        y, x = oh * self.stride + kh * self.dilation - self.pad, ow * self.stride + kw * self.dilation - self.pad
        inside = (n < batch) & (kh < self.kernel) & (y >= 0) & (y < height) & (x >= 0) & (x < width) & (m >= 0) & (k >= 0)
        inside = inside & (out_height > 0) & (out_width > 0) & (channels > 0)
        at = tuple(np.where(inside, i, 0) for i in (n, y, x, c))
        values = np.where(inside, image[at], np.zeros((), image.dtype)) if image.size else np.zeros((rows, columns), image.dtype)
        box = [size for _, size in environment.box(self.col)]
        write_box(environment, self.col, environment.convert(values, self.image.dtype, self.col.dtype).reshape(box))

    def _out(self, size: Any) -> Any:
        """How many places the filter has along an axis of that many pixels."""
        return (size + 2 * self.pad - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def lower(self, context: LoweringContext) -> Stmt:
        span, (batch, height, width, channels) = self.span, (cast(as_expr(n), int64) for n in self.image.buffer.shape)
        i, j = var("i"), var("j")
        names: list[Let] = []

        def let(name: str, value: Expr) -> Expr:
            names.append(Let(span, var(name, value.dtype), value))
            return names[-1].variable

        m, k = let("m", cast(self.row, int64) + i), let("k", cast(self.column, int64) + j)
        out_height, out_width = self._out(height), self._out(width)
        sizes = out_height, out_width, channels
        # Nothing is inside where one of them is not positive, but nothing may be divided by it either.
        out_width, channels, pixels = (maximum(n, 1) for n in (out_width, channels, out_height * out_width))
        pixel, tap = let("pixel", m % pixels), let("tap", k // channels)
        n, kh = let("n", m // pixels), let("kh", tap // self.kernel)
        y = let("y", pixel // out_width * self.stride + kh * self.dilation - self.pad)
        x = let("x", pixel % out_width * self.stride + tap % self.kernel * self.dilation - self.pad)
        inside: Expr = const(True)
        for test in (*(size > 0 for size in sizes), n < batch, kh < self.kernel, y >= 0, binary(Op.LT, y, height), x >= 0, binary(Op.LT, x, width)):
            inside = logical(Op.AND, inside, test)
        element = load(self.image.buffer, (n, y, x, k % channels))
        value = cast(select(inside, element, const(0, element.dtype), is_lazy=True), self.col.dtype)
        body = Seq(span, (*names, Store(span, self.col.buffer, place(self.col, (i, j)), value)))
        return ParallelFor(span, (i, j), tuple(as_expr(n) for n in self.col.shape), body)


def im2col(
    img: Any,
    col: Any,
    nhw_step: Any,
    c_step: Any,
    kernel: Any,
    stride: Any,
    dilation: Any,
    pad: Any,
    eviction_policy: str | None = None,
    annotations: Any = None,
) -> None:
    """Fills the tile `col` with tile number (nhw_step, c_step) of the matrix of patches of an image.

    img     a tensor (N, H, W, C); the matrix has a row for each output pixel (n, oh, ow) and a column for each place (kh, kw, c) of the filter.
    kernel  height and width of the filter; it, stride, dilation and pad are known when the kernel is traced.

    Raises TileError (copy-shape, option-value) for other shapes, and sizes that make no filter.
    """
    builder = build.current()
    span = builder.here()
    image, tile = as_region(img, "the image of T.im2col", span), fixed(as_region(col, "the tile of T.im2col", span))
    if image.buffer.scope is not Scope.GLOBAL or image.buffer.rank != 4 or not image.is_whole:
        _fail_shape(image, span, "the image of T.im2col is a whole tensor of batch, height, width and channels", "give the tensor parameter")
    if len(tile.shape) != 2 or not all(isinstance(n, int) for n in tile.shape):
        help = "allocate it with T.alloc_shared((block_M, block_K), dtype)"
        _fail_shape(tile, span, "the tile of T.im2col has rows of pixels and columns of filter places", help)
    named = (("kernel", kernel, 1), ("stride", stride, 1), ("dilation", dilation, 1), ("pad", pad, 0))
    sizes = [_size(value, name, least, span) for name, value, least in named]
    steps = ((nhw_step, "row", tile.shape[0]), (c_step, "column", tile.shape[1]))
    first = [builder.snapshot(as_expr(step), name) * n for step, name, n in steps]
    builder.emit(Im2Col(span, image, tile, *first, *sizes))


c2d_im2col = im2col  # the older spelling


def _size(value: Any, name: str, least: int, span: Span) -> int:
    number = as_integer(value)
    if number is None or number < least or isinstance(value, bool):
        fail(
            Kind.OPTION_VALUE,
            f"the {name} of T.im2col is {describe_operand(value)}",
            span,
            because=f"it is a whole number of at least {least}, known when the kernel is traced",
            help=f"give an int of at least {least}",
        )
    return number


def _fail_shape(region: Region, span: Span, because: str, help: str) -> None:
    name = f"{region.buffer.name} is {region.buffer.scope.value} {format_shape(region)}"
    fail(Kind.COPY_SHAPE, name, (Label(span), Label(region.buffer.span)), because=because, help=help)
