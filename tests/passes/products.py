"""Tiled products for the tests of the passes that rearrange them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tilewright.language as T
from tests.execution import Arrays, assert_same, call, compile_with, copied, integers
from tilewright.dtypes import as_dtype
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Stmt
from tilewright.ir.visit import statements
from tilewright.language.function import PrimFunc
from tilewright.passes import CPU_PASSES, CpuPass, PassContext, run_passes
from tilewright.target.cpu import host_target


def product(
    m: Any,
    n: Any,
    k: Any,
    bm: int = 16,
    bn: int = 16,
    bk: int = 8,
    operand: str = "float32",
    accumulator: str = "float32",
    ta: bool = False,
    tb: bool = False,
    epilogue: Callable[..., None] | None = None,
    step: Callable[..., None] | None = None,
) -> PrimFunc:
    """C = op(A) @ op(B), block by block; `step` and `epilogue` put further statements into the loop and behind it."""
    a_shape, b_shape = (k, m) if ta else (m, k), (n, k) if tb else (k, n)

    @T.prim_func
    def kernel(A: T.Tensor(a_shape, operand), B: T.Tensor(b_shape, operand), C: T.Tensor((m, n), accumulator)):
        with T.Kernel(T.ceildiv(n, bn), T.ceildiv(m, bm)) as (bx, by):
            a = T.alloc_shared((bk, bm) if ta else (bm, bk), operand)
            b = T.alloc_shared((bn, bk) if tb else (bk, bn), operand)
            c = T.alloc_fragment((bm, bn), accumulator)
            T.clear(c)
            for ko in T.Pipelined(T.ceildiv(k, bk), num_stages=2):
                if ta:
                    T.copy(A[ko * bk, by * bm], a)
                else:
                    T.copy(A[by * bm, ko * bk], a)
                if tb:
                    T.copy(B[bx * bn, ko * bk], b)
                else:
                    T.copy(B[ko * bk, bx * bn], b)
                if step is not None:
                    step(ko, a, b, c)
                T.gemm(a, b, c, transpose_A=ta, transpose_B=tb)
            if epilogue is not None:
                epilogue(c, bx, by)
            T.copy(c, C[by * bm, bx * bn])

    return kernel


def operands(m: int, n: int, k: int, operand: str = "float32", accumulator: str = "float32", ta: bool = False, tb: bool = False) -> dict[str, Any]:
    numpy_type = as_dtype(operand).numpy
    low = 0 if operand.startswith("u") else -3
    return {
        "A": integers((k, m) if ta else (m, k), numpy_type, low),
        "B": integers((n, k) if tb else (k, n), numpy_type, low, seed=1),
        "C": np.zeros((m, n), as_dtype(accumulator).numpy),
    }


def exact(arguments: dict[str, Any], ta: bool = False, tb: bool = False) -> Any:
    a, b = arguments["A"].astype(np.float64), arguments["B"].astype(np.float64)
    return (a.T if ta else a) @ (b.T if tb else b)


def without(*passes: CpuPass) -> tuple[CpuPass, ...]:
    return tuple(p for p in CPU_PASSES if p not in passes)


def agree(prim_func: PrimFunc, arguments: dict[str, Any], *passes: CpuPass, pipeline: tuple[CpuPass, ...] = CPU_PASSES) -> Arrays:
    """The results of a pipeline, once they are bit for bit those of the pipeline without the given passes."""
    whole = call(compile_with(prim_func, pipeline), prim_func.program, copied(arguments))
    plain = call(compile_with(prim_func, tuple(p for p in pipeline if p not in passes)), prim_func.program, copied(arguments))
    for name, array in plain.items():
        assert_same(whole[name], array, what=f"{name} with and without {', '.join(p.__name__ for p in passes)}")
    return whole


def after(prim_func: PrimFunc, last: CpuPass, pipeline: tuple[CpuPass, ...] = CPU_PASSES) -> tuple[Program, PassContext]:
    """The program after the passes up to and including `last`."""
    context = PassContext(host_target())
    return run_passes(prim_func.program, context, pipeline[: pipeline.index(last) + 1]), context


def all_of(launch: Launch, kind: type[Stmt]) -> list[Any]:
    return [s for s in statements(launch.body) if isinstance(s, kind)]
