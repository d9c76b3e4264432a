"""Atomics: what one thread leaves behind and gets back, orders as fences, and NVRTC's opinion of all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.codegen.cuda.host_cpp import needs_host_compiler, run_on_host
from tests.codegen.cuda.nvrtc_checks import compiles, needs_nvrtc
from tests.codegen.cuda.test_expressions import FLOATS, INTEGERS, packed, same, samples, unpacked
from tests.codegen.cuda.thread_programs import BLOCK, SPAN, at, local, program, seq, shared, store, tensor
from tilewright.codegen.cuda.program import emit_program
from tilewright.dtypes import DType, float32, int32
from tilewright.ir.expr import as_expr, var
from tilewright.ir.stmt import AtomicKind, AtomicUpdate, MemoryOrder, Stmt
from tilewright.reference.access import combine
from tilewright.target.nvidia import SM_80, SM_90

BITWISE = (AtomicKind.AND, AtomicKind.OR, AtomicKind.XOR)


def kinds_of(dtype: DType) -> list[AtomicKind]:
    return [k for k in AtomicKind if dtype.is_integer or k not in BITWISE]


@needs_host_compiler
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
def test_one_thread_after_the_other(dtype: DType, tmp_path: Path) -> None:
    x, y = samples(dtype), np.roll(samples(dtype, 1), 3)
    kinds = kinds_of(dtype)
    count = len(x)
    values = tensor("values", dtype, count)
    memory = [tensor(f"memory_{k.value}", dtype, count) for k in kinds]
    before = [tensor(f"before_{k.value}", dtype, count) for k in kinds]
    body: list[Stmt] = []
    for kind, target, previous in zip(kinds, memory, before, strict=True):
        old = var("old", dtype)
        body += [AtomicUpdate(SPAN, kind, target, (BLOCK,), at(values, BLOCK), previous=old), store(previous, BLOCK, old)]
    arrays = {values.name: packed(y, dtype), **{m.name: packed(x.copy(), dtype) for m in memory}, **{b.name: packed(np.zeros_like(x), dtype) for b in before}}
    run_on_host(emit_program(program([values, *memory, *before], seq(*body), grid=(count,)), SM_80), arrays, {}, tmp_path)
    for kind, target, previous in zip(kinds, memory, before, strict=True):
        with np.errstate(all="ignore"):
            expected = np.asarray(combine(kind, x, y, dtype))
        if kind in (AtomicKind.MAX, AtomicKind.MIN) and dtype.is_float:
            expected, found = expected.astype(np.float64) + 0.0, unpacked(arrays[target.name], dtype, count).astype(np.float64) + 0.0
            np.testing.assert_array_equal(found, expected, err_msg=kind.value)
        else:
            same(unpacked(arrays[target.name], dtype, count), expected, dtype, kind.value)
        same(unpacked(arrays[previous.name], dtype, count), x, dtype, kind.value)


def test_hardware_is_used_where_it_is() -> None:
    def text_of(dtype: DType, kind: AtomicKind, target: object = SM_80) -> str:
        memory = tensor("memory", dtype, 8)
        body = seq(AtomicUpdate(SPAN, kind, memory, (BLOCK,), as_expr(1, dtype)))
        return emit_program(program([memory], body, grid=(8,)), target).text  # type: ignore[arg-type]

    assert "    atomicAdd(memory + bx, 1.0f);" in text_of(float32, AtomicKind.ADD)
    assert "    atomicMax(memory + bx, 1);" in text_of(int32, AtomicKind.MAX)
    half, bfloat = (next(d for d in FLOATS if d == n) for n in ("float16", "bfloat16"))
    assert "atom.global.add.noftz.f16x2" in text_of(half, AtomicKind.ADD)
    assert "atomicCAS" in text_of(bfloat, AtomicKind.ADD) and "atom.global.add.noftz.bf16x2" in text_of(bfloat, AtomicKind.ADD, SM_90)
    assert "atomicCAS" in text_of(float32, AtomicKind.MAX)


def test_orders_are_fences_of_the_scope() -> None:
    memory, tile = tensor("memory", int32, 8), shared("tile", int32, 8)
    body = seq(
        AtomicUpdate(SPAN, AtomicKind.ADD, memory, (BLOCK,), as_expr(1), MemoryOrder.RELEASE),
        AtomicUpdate(SPAN, AtomicKind.ADD, tile, (BLOCK,), as_expr(1), MemoryOrder.SEQ_CST),
        AtomicUpdate(SPAN, AtomicKind.LOAD, memory, (BLOCK,), as_expr(0), MemoryOrder.ACQUIRE, previous=var("seen")),
    )
    lines = [line.strip().partition("  //")[0] for line in emit_program(program([memory], body, grid=(8,), buffers=[tile]), SM_80).text.splitlines()]
    start = lines.index('asm volatile("fence.acq_rel.gpu;" ::: "memory");')
    assert lines[start + 1 :] == [
        "atomicAdd(memory + bx, 1);",
        'asm volatile("fence.sc.cta;" ::: "memory");',
        "atomicAdd(tile + bx, 1);",
        'asm volatile("fence.sc.cta;" ::: "memory");',
        "const int seen = *(const volatile int*)(memory + bx);",
        'asm volatile("fence.acq_rel.gpu;" ::: "memory");',
        "}",
    ]


def test_the_threads_own_memory_needs_no_atomics() -> None:
    own, out = local("own", int32, 4), tensor("out", int32, 8)
    old = var("old")
    body = seq(store(own, 1, 5), AtomicUpdate(SPAN, AtomicKind.ADD, own, (as_expr(1),), as_expr(2), previous=old), store(out, BLOCK, old + at(own, 1)))
    text = emit_program(program([out], body, buffers=[own]), SM_80).text
    assert "atomic" not in text and "const int old = own[1];" in text


@needs_nvrtc
def test_all_atomics_compile() -> None:
    tensors, tiles, body = [], [], []
    for dtype in [*INTEGERS, *FLOATS]:
        memory, tile, results = tensor(f"g_{dtype!s}", dtype, 64), shared(f"s_{dtype!s}", dtype, 64), tensor(f"r_{dtype!s}", dtype, 64)
        tensors += [memory, results]
        tiles.append(tile)
        for kind in kinds_of(dtype):
            for buffer in (memory, tile):
                old = var("old", dtype)
                body += [AtomicUpdate(SPAN, kind, buffer, (BLOCK,), at(results, BLOCK), previous=old), store(results, BLOCK, old)]
    made = program(tensors, seq(*body), grid=(64,), buffers=tiles)
    compiles(made)
