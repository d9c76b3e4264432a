"""What threads do together on hardware: atomics, halves of a byte, exchanges within a warp, asserts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.codegen.cuda.test_atomics import kinds_of
from tests.codegen.cuda.test_exchange import BITWISE, FULL, SHUFFLES, VOTES, exchange
from tests.codegen.cuda.test_expressions import FLOATS, INTEGERS, packed, unpacked
from tests.codegen.cuda.thread_programs import SPAN, THREAD, at, program, seq, shared, store, tensor
from tests.gpu.device import device_targets, needs_gpu, run_on_gpu
from tilewright import dtypes
from tilewright.codegen.cuda.program import emit_program
from tilewright.dtypes import DType, as_dtype
from tilewright.ir.expr import cast, const
from tilewright.ir.stmt import Assert, AtomicKind, AtomicUpdate, Barrier, If, WarpExchangeKind
from tilewright.reference.access import combine

pytestmark = needs_gpu
THREADS = 256


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
def test_threads_update_neighbouring_elements_at_once(dtype: DType, is_shared: bool) -> None:
    """Every element is combined with the values of 16 threads, all of whose results are exact in any order."""
    if dtype == "float8_e8m0fnu":
        pytest.skip("no sum of its values is exact")
    elements = 16
    values = (np.arange(THREADS) // elements % 2).astype(np.float32).astype(dtype.numpy)  # ones and zeros: sums of up to 8
    if dtype == "float4_e2m1fn":
        values = (np.arange(THREADS) // elements < 4).astype(np.float32).astype(dtype.numpy)
    for kind in (k for k in kinds_of(dtype) if k not in (AtomicKind.EXCHANGE, AtomicKind.LOAD)):
        source, out, tile = tensor("source", dtype, THREADS), tensor("out", dtype, elements), shared("tile", dtype, elements)
        memory = tile if is_shared else out
        update = AtomicUpdate(SPAN, kind, memory, (THREAD % elements,), at(source, THREAD))
        body = seq(update)
        if is_shared:
            first = If(SPAN, elements > THREAD, seq(store(tile, THREAD, at(out, THREAD))))
            last = If(SPAN, elements > THREAD, seq(store(out, THREAD, at(tile, THREAD))))
            body = seq(first, Barrier(SPAN), update, Barrier(SPAN), last)
        made = program([source, out], body, threads=THREADS, buffers=[tile] if is_shared else [])
        for target in device_targets():
            arrays = {"source": packed(values, dtype), "out": packed(np.ones(elements, np.float32).astype(dtype.numpy), dtype)}
            run_on_gpu(emit_program(made, target), arrays)
            expected: Any = np.ones(elements, np.float32).astype(dtype.numpy)
            for group in values.reshape(-1, elements):
                expected = combine(kind, expected, group, dtype)
            np.testing.assert_array_equal(
                unpacked(arrays["out"], dtype, elements).astype(np.float64), np.asarray(expected).astype(np.float64), err_msg=kind.value
            )


def test_two_threads_store_the_halves_of_each_byte() -> None:
    int4 = dtypes.int4
    out = tensor("out", int4, THREADS)
    module = emit_program(program([out], seq(store(out, THREAD, cast(THREAD % 16, int4))), threads=THREADS), device_targets()[0])
    arrays = {"out": np.zeros(THREADS // 2, np.uint8)}
    run_on_gpu(module, arrays)
    assert unpacked(arrays["out"], int4, THREADS).astype(int).tolist() == [(t % 16 + 8) % 16 - 8 for t in range(THREADS)]


def expected_exchange(kind: WarpExchangeKind, values: Any, operand: int, width: int, lanes: list[int]) -> list[Any]:
    """What each of `lanes` receives."""
    received = []
    for lane in lanes:
        start = lane // width * width
        other = {
            WarpExchangeKind.SHUFFLE: start + operand % width,
            WarpExchangeKind.SHUFFLE_UP: lane - operand if lane - operand >= start else lane,
            WarpExchangeKind.SHUFFLE_DOWN: lane + operand if lane + operand < start + width else lane,
            WarpExchangeKind.SHUFFLE_XOR: lane ^ operand if (lane ^ operand) < start + width else lane,
        }.get(kind, lane)
        taken = [values[k] for k in lanes]
        match kind:
            case WarpExchangeKind.ANY:
                received.append(int(any(taken)))
            case WarpExchangeKind.ALL:
                received.append(int(all(taken)))
            case WarpExchangeKind.BALLOT:
                received.append(sum(1 << k for k in lanes if values[k]))
            case WarpExchangeKind.ACTIVE_MASK:
                received.append(sum(1 << k for k in lanes))
            case WarpExchangeKind.MATCH_ANY:
                received.append(sum(1 << k for k in lanes if values[k] == values[lane]))
            case WarpExchangeKind.MATCH_ALL:
                received.append(sum(1 << k for k in lanes) if all(v == taken[0] for v in taken) else 0)
            case WarpExchangeKind.SUM:
                received.append(sum(float(v) for v in taken))
            case WarpExchangeKind.MAX:
                received.append(max(float(v) for v in taken))
            case WarpExchangeKind.MIN:
                received.append(min(float(v) for v in taken))
            case WarpExchangeKind.BIT_AND:
                received.append(int(np.bitwise_and.reduce([int(v) for v in taken])))
            case WarpExchangeKind.BIT_OR:
                received.append(int(np.bitwise_or.reduce([int(v) for v in taken])))
            case _:
                received.append(values[other])
    return received


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "uint32", "int64", "float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", list(WarpExchangeKind), ids=lambda k: k.value)
def test_exchanges_within_a_warp(kind: WarpExchangeKind, dtype: str, is_masked: bool) -> None:
    source_dtype = as_dtype(dtype)
    if not (kind in SHUFFLES or source_dtype.is_bool is (kind in VOTES)) or (kind in BITWISE and not source_dtype.is_integer):
        pytest.skip("no exchange of that dtype")
    values = np.random.default_rng(2).integers(0, 4, 32).astype(source_dtype.numpy)
    lanes = list(range(4, 20)) if is_masked else list(range(32))
    for operand, width in ((1, 32), (5, 8), (3, 16)) if kind in SHUFFLES and not is_masked else ((2, 32),):
        if is_masked and kind in SHUFFLES:
            pytest.skip("a lane outside the mask gives nothing")
        source = tensor("source", source_dtype, 32)
        mask = const(sum(1 << k for k in lanes), dtypes.uint32) if is_masked else FULL
        received, stmt = exchange(kind, at(source, THREAD), operand, width, mask)
        out = tensor("out", received.dtype, 32)
        body = seq(If(SPAN, (lanes[0] <= THREAD) & (lanes[-1] >= THREAD), seq(stmt, store(out, THREAD, received))))
        module = emit_program(program([source, out], body, threads=32), device_targets()[0])
        arrays = {"source": values.copy(), "out": np.zeros(32, received.dtype.numpy)}
        run_on_gpu(module, arrays)
        found = [arrays["out"][k] for k in lanes]
        assert [float(v) for v in found] == [float(v) for v in expected_exchange(kind, values, operand, width, lanes)], (operand, width)


def test_a_failed_assert_leaves_its_number() -> None:
    a = tensor("a", dtypes.int32, 64)
    body = seq(Assert(SPAN, at(a, THREAD) >= 0, ""), Assert(SPAN, at(a, THREAD) < 50, ""), store(a, THREAD, 7))
    module = emit_program(program([a], body, threads=64), device_targets()[0])
    arrays = {"a": np.arange(64, dtype=np.int32)}
    assert run_on_gpu(module, arrays) == 2
    assert arrays["a"].tolist() == [7] * 50 + list(range(50, 64))
    assert run_on_gpu(module, {"a": np.zeros(64, np.int32)}) == 0
