"""`T.gemm`: a product of tiles, added to an accumulator tile (floor 4; language.md 7.3).

Here are the op, its checks and its meaning. `cpu` lowers it to micro-kernels; on a GPU `partition` chooses instruction and warps, `mma` and `simt` lower it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.errors import CompilerBug, Kind, Label, Span, fail
from tilewright.intrin.nvidia.convert import nearest_tf32
from tilewright.ir import build
from tilewright.ir.buffer import Region, Scope, format_shape
from tilewright.ir.expr import Expr, as_condition, as_expr, describe_operand
from tilewright.ir.stmt import Stmt
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, ThreadContext, TileOp
from tilewright.layout import MemoryLayout
from tilewright.ops.gemm.cpu import lower_on_cpu, panel_stride, panel_tile_offset
from tilewright.ops.gemm.mma import lower_on_tensor_cores
from tilewright.ops.gemm.numerics import compute_dtype
from tilewright.ops.gemm.partition import GemmPlan, GemmWarpPolicy, choose_partition
from tilewright.ops.gemm.simt import lower_on_plain_arithmetic
from tilewright.ops.gemm.threads import RegisterTile, SharedTile, ThreadProduct
from tilewright.ops.operand import as_flag, as_region, fixed, has_extent, matrix_extents, may_overlap, name_region, read_box, write_box
from tilewright.target.nvidia import NvidiaTarget

__all__ = ["Gemm", "GemmPlan", "GemmWarpPolicy", "compute_dtype", "gemm", "panel_stride", "panel_tile_offset"]


@dataclass(frozen=True, eq=False)
class Gemm(TileOp):
    """c = op(a) @ op(b) + (0 if clear else c), with a (m, k) or (k, m), b (k, n) or (n, k), c (m, n) after leading axes of extent 1.

    Products and sums are done in `compute_dtype` in any order; the result is rounded once to c's dtype. Tensor cores that add to a float16 c round it as
    often as they like, at most once for each product.

    Passes make two more forms. b may be a region of a global tensor: what lies outside the tensor counts as zeros. c may be `blocks` matrices in a
    leading axis: b then has the columns of all of them side by side.
    """

    a: Region
    b: Region
    c: Region
    transpose_a: bool
    transpose_b: bool
    policy: GemmWarpPolicy
    clear: Expr
    is_rounded_to_tf32: bool = False  # float32 operands are rounded to tf32 before
    depth: Expr | None = None  # how much of K counts, where the compiler made the tiles deeper than the last step needs

    @property
    def m_n_k(self) -> tuple[int, int, int]:
        (m, n), a = matrix_extents(self.c), matrix_extents(self.a)
        return m, n, a[0] if self.transpose_a else a[1]

    @property
    def blocks(self) -> int:
        """Matrices of c."""
        return math.prod(int(n) for n in self.c.extents[:-2])

    @property
    def is_streamed(self) -> bool:
        """The second operand is read where the caller has it."""
        return self.b.buffer.scope is Scope.GLOBAL

    def effects(self) -> Effects:
        return Effects(reads=(self.a, self.b, self.c), writes=(self.c,))

    def reference(self, environment: ReferenceEnvironment) -> None:
        compute = compute_dtype(self.a.dtype, self.c.dtype)
        exact = np.float64 if compute.is_float else np.int64

        a, b = (read_box(environment, r).reshape(matrix_extents(r)) for r in (self.a, self.b))
        if self.is_rounded_to_tf32:
            a, b = nearest_tf32(a), nearest_tf32(b)
        a, b = a.astype(exact), b.astype(exact)
        a, b = a.T if self.transpose_a else a, b.T if self.transpose_b else b
        if self.depth is not None:
            depth = int(environment.value(self.depth))
            a, b = a[:, :depth], b[:depth]
        with np.errstate(all="ignore"):
            product = a @ b
            old = read_box(environment, self.c).astype(exact)
            side_by_side = product.reshape(product.shape[0], self.blocks, -1).swapaxes(0, 1)
            total = side_by_side.reshape(old.shape) + (0 if environment.value(self.clear) else old)
        write_box(environment, self.c, environment.convert(total.astype(compute.numpy), compute, self.c.dtype))

    def lower(self, context: LoweringContext) -> Stmt:
        return lower_on_cpu(self, context)

    def plan(self, num_threads: int, target: NvidiaTarget) -> GemmPlan:
        """How the threads of a GPU's block share the product: the layouts of its fragments follow from it."""
        a, b, c = self.a.dtype, self.b.dtype, self.c.dtype
        return choose_partition(
            *self.m_n_k,
            a,
            b,
            c,
            num_threads,
            self.policy,
            target,
            transpose_a=self.transpose_a,
            transpose_b=self.transpose_b,
            float32_as_tf32=self.is_rounded_to_tf32,
        )

    def lower_to_threads(self, context: ThreadContext) -> Stmt:
        """c is a whole fragment, a a whole fragment or in shared memory, b in shared memory, each fragment laid out as the plan says."""
        plan = self.plan(context.num_threads, context.target)
        for reason in plan.refusals:
            context.remark(self.span, f"this product is done without tensor cores: {reason}")
        layout, registers = context.fragment(self.c.buffer)
        product = ThreadProduct(
            self.span,
            plan,
            _operand(self.a, context),
            _operand(self.b, context),
            RegisterTile(registers, layout),
            self.transpose_a,
            self.transpose_b,
            self.clear,
            context.lane,
            context.warp,
            lambda name, dtype, count: context.registers(name, dtype, count, self.span),
        )
        return lower_on_tensor_cores(product) if plan.atom is not None else lower_on_plain_arithmetic(product)


def _operand(region: Region, context: ThreadContext) -> SharedTile | RegisterTile:
    if region.buffer.scope is Scope.FRAGMENT:
        layout, registers = context.fragment(region.buffer)
        return RegisterTile(registers, layout)
    memory, buffer = context.shared(region.buffer)
    if not isinstance(memory, MemoryLayout):
        raise CompilerBug(f"{region.buffer.name} has a layout that is no digit layout")
    return SharedTile(buffer, memory, region.starts)


def gemm(
    A: Any,
    B: Any,
    C: Any,
    transpose_A: bool = False,
    transpose_B: bool = False,
    policy: Any = GemmWarpPolicy.Square,
    clear_accum: Any = False,
    k_pack: int = 1,
    mbar: Any = None,
    annotations: Any = None,
    wg_wait: int = 0,
) -> None:
    """C += op(A) @ op(B), or C = where `clear_accum` (a bool, possibly known only at run time).

    A (M, K), B (K, N), C (M, N); transposed operands are (K, M) and (N, K); leading dimensions must be 1. `policy`, `k_pack` and `wg_wait` are hints.

    Raises TileError where ranks, sizes or dtypes do not fit.
    """
    builder = build.current()
    span = builder.here()
    a, b, c = (fixed(as_region(value, f"{name} of T.gemm", span)) for value, name in ((A, "A"), (B, "B"), (C, "C")))
    for region in (a, b, c):
        _check_operand(region, span)
    transpose_A, transpose_B = as_flag(transpose_A, "transpose_A", span), as_flag(transpose_B, "transpose_B", span)
    _check_sizes(a, b, c, transpose_A, transpose_B, span)
    _check_dtypes(a, b, c, span)
    for operand in (a, b):
        if may_overlap(operand, c):
            both = (
                f"{name_region(c)} is an operand and the result of T.gemm"
                if name_region(operand) == name_region(c)
                else f"{name_region(operand)} is an operand of T.gemm, and {name_region(c)} its result"
            )
            fail(
                Kind.GEMM_ALIAS,
                both,
                (Label(span), _operand_label(operand), _operand_label(c)),
                because="the result is written while the operands are still read",
                help="give the product an accumulator of its own, and copy it back",
            )
    builder.emit(Gemm(span, a, b, c, transpose_A, transpose_B, _policy(policy, span), as_condition(builder.snapshot(as_expr(clear_accum)))))


def _policy(policy: Any, span: Span) -> GemmWarpPolicy:
    if isinstance(policy, GemmWarpPolicy):
        return policy
    fail(
        Kind.OPTION_VALUE,
        f"policy is {describe_operand(policy)}",
        span,
        because="a warp policy is a member of T.GemmWarpPolicy",
        help="write T.GemmWarpPolicy.Square, FullRow or FullCol",
    )


def _operand_label(region: Region) -> Label:
    return Label(region.buffer.span, f"{region.buffer.name}: {format_shape(region.buffer)}")


def _check_operand(region: Region, span: Span) -> None:
    name = name_region(region)
    if not has_extent(region) or region.buffer.rank < 2:
        fail(
            Kind.GEMM_RANK,
            f"{name} has {region.buffer.rank} dimension{'s' * (region.buffer.rank != 1)} ({format_shape(region.buffer)})"
            if region.buffer.rank < 2
            else f"{name} is one element",
            (Label(span), _operand_label(region)),
            because="a product takes 2-D tiles",
            help=f"give the whole tile {region.buffer.name}, or slice two of its dimensions"
            if region.buffer.rank >= 2
            else "give a vector a second dimension of size 1 or of a whole tile, as in T.alloc_shared((16, K), dtype)",
        )
    if not all(isinstance(n, int) for n in region.extents):
        fail(
            Kind.GEMM_SHAPE_STATIC,
            f"{name} has the shape {format_shape(region)}, which is known only at run time",
            (Label(span), _operand_label(region)),
            because="the sizes of a product choose its instructions when it is compiled",
            help="multiply whole tiles; T.copy fills what lies outside with zeros",
        )
    if region.buffer.scope is Scope.GLOBAL:
        fail(
            Kind.SCOPE,
            f"{name} is a global tensor",
            (Label(span), _operand_label(region)),
            because="a product takes tiles, whose every element exists",
            help="copy it into a T.alloc_shared tile first, which fills what lies outside with zeros",
        )
    leading = region.extents[:-2]
    if any(n != 1 for n in leading):
        fail(
            Kind.GEMM_BATCH,
            f"{name} has a leading dimension of {next(n for n in leading if n != 1)} ({format_shape(region)})",
            (Label(span), _operand_label(region)),
            because="T.gemm multiplies one pair of matrices: dimensions before the last two must be 1",
            help=f"loop over it and give {region.buffer.name}[b, :, :]",
        )


def _check_sizes(a: Region, b: Region, c: Region, transpose_a: bool, transpose_b: bool, span: Span) -> None:
    (am, ak) = matrix_extents(a)[::-1] if transpose_a else matrix_extents(a)
    (bk, bn) = matrix_extents(b)[::-1] if transpose_b else matrix_extents(b)
    cm, cn = matrix_extents(c)
    names = {r: name_region(r) for r in (a, b, c)}
    labels = (Label(span), *(_operand_label(r) for r in (a, b, c)))
    rule = f"T.gemm multiplies ({'K, M' if transpose_a else 'M, K'}) by ({'N, K' if transpose_b else 'K, N'}) into (M, N)"
    if ak != bk:
        fail(
            Kind.GEMM_K_MISMATCH,
            f"{names[a]} has K = {ak} but {names[b]} has K = {bk}",
            labels,
            because=rule,
            help=_transpose_hint(ak == bn, "transpose_B", transpose_b) or f"allocate {b.buffer.name} with K = {ak}",
        )
    if am != cm:
        fail(
            Kind.GEMM_M_MISMATCH, f"{names[a]} has M = {am} but {names[c]} has M = {cm}", labels, because=rule, help=f"allocate {c.buffer.name} with {am} rows"
        )
    if bn != cn:
        fail(
            Kind.GEMM_N_MISMATCH,
            f"{names[b]} has N = {bn} but {names[c]} has N = {cn}",
            labels,
            because=rule,
            help=f"allocate {c.buffer.name} with {bn} columns",
        )


def _transpose_hint(would_fit: bool, flag: str, given: bool) -> str | None:
    return f"write {flag}={not given}: then the sizes agree" if would_fit else None


def _check_dtypes(a: Region, b: Region, c: Region, span: Span) -> None:
    both_fp8 = a.dtype.is_float and b.dtype.is_float and a.dtype.bits == b.dtype.bits == 8
    both_int8 = a.dtype.is_integer and b.dtype.is_integer and a.dtype.bits == b.dtype.bits
    labels = (Label(span), *(_operand_label(r) for r in (a, b, c)))
    if a.dtype != b.dtype and not both_fp8 and not both_int8:
        fail(
            Kind.GEMM_DTYPE,
            f"{name_region(a)} is {a.dtype!s} but {name_region(b)} is {b.dtype!s}",
            labels,
            because="both operands of a product have one dtype",
            help="convert one of them with T.copy into a tile of the other dtype",
        )
    if a.dtype.is_bool or a.dtype.is_float != c.dtype.is_float or (c.dtype.is_integer and c.dtype.bits < 32) or c.dtype.is_bool:
        wanted = "a float dtype, usually float32" if a.dtype.is_float else "int32"
        fail(
            Kind.GEMM_DTYPE,
            f"{a.dtype!s} products cannot be added to the {c.dtype!s} accumulator {name_region(c)}",
            labels,
            because=f"products of {a.dtype!s} are summed in {wanted}",
            help=f"allocate {c.buffer.name} as {wanted.split(' ')[-1] if a.dtype.is_float else 'int32'}",
        )
