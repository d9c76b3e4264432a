"""PassConfigKey.TL_FLOAT32_AS_TF32 (floor 5): products of float32 tiles may round their operands to tf32, and so run on tensor cores."""

from __future__ import annotations

import dataclasses

from tilewright import dtypes
from tilewright.ir.program import Program
from tilewright.ir.stmt import Stmt
from tilewright.ir.visit import rewrite
from tilewright.ops.gemm import Gemm
from tilewright.passes.context import GpuPassContext


def round_to_tf32(program: Program, context: GpuPassContext) -> Program:
    """Marks the products, where the caller allows it."""
    return with_rounded_products(program) if context.is_rounding_to_tf32 else program


def with_rounded_products(program: Program) -> Program:
    """The program in which every product of float32 tiles means that of operands rounded to tf32."""

    def marked(node: Stmt) -> Stmt:
        if isinstance(node, Gemm) and node.a.dtype is dtypes.float32 and node.b.dtype is dtypes.float32 and node.c.dtype is not dtypes.float64:
            return dataclasses.replace(node, is_rounded_to_tf32=True)
        return node

    return dataclasses.replace(program, launches=tuple(dataclasses.replace(x, body=rewrite(x.body, post=marked)) for x in program.launches))
