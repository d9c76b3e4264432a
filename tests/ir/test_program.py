"""Programs, launches and what stands beside them."""

from __future__ import annotations

import tilewright.language as T
from tilewright.ir.program import HintKind, ParameterKind


def test_a_traced_program() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def kernel(A: T.Tensor((n, 4), "float32"), m: T.int64, p: T.ptr, flag: T.bool):
        B = T.empty((n,), "float16")
        W = T.alloc_global((n, 2), "int8")
        assert m > 0, "m is positive"
        T.annotate_compile_flags("-O3")
        with T.Kernel(n, m, threads=(32, 4)) as (bx, by):
            T.use_swizzle(4)
            T.annotate_safe_value({A: 7})
            held = T.alloc_shared((4,), "float32")
            T.copy(A[bx, :], held)
        with T.Kernel(1):
            T.clear(W)
            T.clear(B)
        return B

    program = kernel.program
    assert program.name == "kernel" and [p.name for p in program.parameters] == ["A", "m", "p", "flag", "B"]
    assert [p.kind for p in program.parameters] == [
        ParameterKind.TENSOR,
        ParameterKind.SCALAR,
        ParameterKind.POINTER,
        ParameterKind.SCALAR,
        ParameterKind.TENSOR,
    ]
    assert [p.is_output for p in program.parameters] == [False] * 4 + [True]
    assert program.parameters[1].variable is not None and program.parameters[1].variable.dtype == "int64"
    first, second = program.launches
    assert len(first.grid) == len(first.block_variables) == 2 and first.threads == (32, 4, 1) and first.cluster == (1, 1, 1)
    assert [b.name for b in first.buffers] == ["held"] and not second.buffers and second.threads == (128, 1, 1)
    assert [(b.name, v.value) for b, v in first.safe_values] == [("A", 7.0)] and not second.safe_values
    assert [w.name for w in program.workspaces] == ["W"]
    assert [(str(c.condition), c.message) for c in program.checks] == [("m > int64(0)", "m is positive")]
    assert [(h.kind, h.values) for h in program.hints] == [(HintKind.COMPILE_FLAGS, ("-O3",))] and not second.hints
    assert [(h.kind, h.values) for h in first.hints] == [(HintKind.SWIZZLE_BLOCKS, (4, "row"))]
    assert not first.is_thread_level and program.span.line < first.span.line < second.span.line


def test_hints_are_named_as_in_the_language() -> None:
    assert all(hasattr(T, kind.value) for kind in HintKind if kind is not HintKind.WARP_REGISTERS)
