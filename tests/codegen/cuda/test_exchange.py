"""Exchanges between the threads of a warp: their text, and NVRTC's opinion of all of them. What they give is in tests/gpu."""

from __future__ import annotations

from tests.codegen.cuda.nvrtc_checks import compiles, needs_nvrtc
from tests.codegen.cuda.thread_programs import SPAN, THREAD, at, program, seq, store, tensor
from tilewright import dtypes
from tilewright.codegen.cuda.program import emit_program
from tilewright.dtypes import DType, as_dtype
from tilewright.ir.expr import Expr, as_expr, cast, const, var
from tilewright.ir.stmt import Stmt, WarpExchange, WarpExchangeKind
from tilewright.target.nvidia import SM_80

FULL = const(0xFFFFFFFF, dtypes.uint32)
SHUFFLES = (WarpExchangeKind.SHUFFLE, WarpExchangeKind.SHUFFLE_UP, WarpExchangeKind.SHUFFLE_DOWN, WarpExchangeKind.SHUFFLE_XOR)
VOTES = (WarpExchangeKind.ANY, WarpExchangeKind.ALL, WarpExchangeKind.BALLOT, WarpExchangeKind.ACTIVE_MASK)
MATCHES = (WarpExchangeKind.MATCH_ANY, WarpExchangeKind.MATCH_ALL)
BITWISE = (WarpExchangeKind.BIT_AND, WarpExchangeKind.BIT_OR)


def exchange(kind: WarpExchangeKind, value: Expr, operand: Expr | int = 1, width: int = 32, mask: Expr = FULL) -> tuple[Expr, Stmt]:
    dtype = value.dtype
    if kind in (WarpExchangeKind.ANY, WarpExchangeKind.ALL):
        dtype = dtypes.int32
    elif kind in VOTES or kind in MATCHES:
        dtype = dtypes.uint32
    result = var("received", dtype)
    return result, WarpExchange(SPAN, result, kind, value, as_expr(operand) if kind in SHUFFLES else None, width, mask)


def line_of(kind: WarpExchangeKind, dtype: DType, **options: object) -> str:
    source = tensor("x", dtype, 32)
    value = at(source, THREAD) if kind not in VOTES else at(source, THREAD) > 0
    result, stmt = exchange(kind, value, **options)  # type: ignore[arg-type]
    target = tensor("y", result.dtype, 32)
    text = emit_program(program([source, target], seq(stmt, store(target, THREAD, result)), threads=32), SM_80).text
    return next(line for line in text.splitlines() if " received = " in line).strip().partition(";")[0]


def test_shuffles() -> None:
    assert line_of(WarpExchangeKind.SHUFFLE_XOR, dtypes.float32, operand=16) == "const float received = __shfl_xor_sync(4294967295u, x[tx], 16)"
    assert (
        line_of(WarpExchangeKind.SHUFFLE_UP, dtypes.int8, width=8) == "const signed char received = (signed char)__shfl_up_sync(4294967295u, (int)x[tx], 1, 8)"
    )
    assert "tw_float_of_float16(x[tx])" in line_of(WarpExchangeKind.SHUFFLE, dtypes.float16, operand=0)


def test_votes_and_matches() -> None:
    assert line_of(WarpExchangeKind.ANY, dtypes.int32) == "const int received = (int)(__any_sync(4294967295u, x[tx] > 0) != 0)"
    assert line_of(WarpExchangeKind.BALLOT, dtypes.int32) == "const unsigned received = __ballot_sync(4294967295u, x[tx] > 0)"
    assert line_of(WarpExchangeKind.MATCH_ANY, dtypes.float32) == "const unsigned received = __match_any_sync(4294967295u, __float_as_uint(x[tx]))"


def test_reductions_use_the_instruction_for_integers_and_shuffles_for_the_rest() -> None:
    assert line_of(WarpExchangeKind.MAX, dtypes.int32) == "const int received = __reduce_max_sync(4294967295u, (int)x[tx])"
    assert line_of(WarpExchangeKind.SUM, dtypes.float32) == "const float received = tw_warp_add_float32(4294967295u, x[tx])"
    masked = line_of(WarpExchangeKind.SUM, dtypes.float32, mask=const(15, dtypes.uint32))
    assert masked == "const float received = tw_warp_add_float32_masked(15u, x[tx])"


@needs_nvrtc
def test_all_exchanges_compile() -> None:
    tensors, body = [], []
    mask = cast(THREAD, dtypes.uint32)
    for dtype in map(as_dtype, ("bool", "int4", "uint8", "int32", "uint32", "int64", "float8_e4m3fn", "float16", "float32", "float64")):
        source = tensor(f"x_{dtype!s}", dtype, 32)
        tensors.append(source)
        for kind in WarpExchangeKind:
            is_taken = kind in SHUFFLES or dtype.is_bool is (kind in VOTES)
            if not is_taken or (kind in BITWISE and not dtype.is_integer):
                continue
            for given in (FULL, mask):
                result, stmt = exchange(kind, at(source, THREAD), mask=given)
                target = tensor(f"y{len(tensors)}", result.dtype, 32)
                tensors.append(target)
                body += [stmt, store(target, THREAD, result)]
    compiles(program(tensors, seq(*body), threads=32))
