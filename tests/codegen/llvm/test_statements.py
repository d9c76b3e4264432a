"""Control flow, atomics, products and what talks to the host, in native code against the plain interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from tests.codegen.llvm.lowered import SPAN, at, check, let, native, parallel, program, reduction, seq, serial, store, tensor, tile, when
from tilewright.dtypes import as_dtype, bfloat16, bool_, float16, float32, int32, int64, uint32
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Scope
from tilewright.ir.expr import Expr, Op, as_expr, binary, cast, const, maximum, reinterpret, select, var
from tilewright.ir.stmt import Assert, Assume, AtomicKind, AtomicUpdate, Break, Continue, MatrixMultiply, MemoryOrder, Print, ReduceKind, Stmt, While
from tilewright.ir.tileop import Storage, TilePlan

RNG = np.random.default_rng(11)


def integers(*shape: int, low: int = -50, high: int = 50, dtype: str = "int32") -> np.ndarray:
    return RNG.integers(low, high, shape).astype(as_dtype(dtype).numpy)


def variable(name: str = "x", dtype: str = "int32"):
    return tile(name, as_dtype(dtype), 1, scope=Scope.VARIABLE)


def test_break_and_continue_leave_and_skip() -> None:
    a, c, x = tensor("a", int32, 64), tensor("c", int32, 64), variable()

    def turn(s: Expr) -> Stmt:
        return seq(when(at(a, s) < 0, Continue(SPAN)), store(x, [0], at(x, 0) + at(a, s)), when(at(x, 0) > 300, Break(SPAN)), store(c, [s], at(x, 0)))

    check(program([a, c], lambda bx: seq(store(x, [0], 0), serial(64, turn), store(c, [63], at(x, 0)))), {"a": integers(64), "c": integers(64)})


def test_statements_behind_a_break_are_never_reached() -> None:
    c = tensor("c", int32, 8)
    check(
        program([c], lambda bx: serial(8, lambda s: seq(store(c, [s], 1), when(s >= 3, seq(Break(SPAN), store(c, [s], 2))), store(c, [s], 3)))),
        {"c": integers(8)},
    )


def test_break_leaves_the_innermost_loop_only() -> None:
    c = tensor("c", int32, 6, 6)
    check(program([c], lambda bx: serial(6, lambda s: serial(6, lambda t: seq(when(t > s, Break(SPAN)), store(c, [s, t], s * 10 + t))))), {"c": integers(6, 6)})


def test_while_tests_before_each_turn() -> None:
    c, n = tensor("c", int32, 1), var("n")
    x = variable()
    for start in (27, 1, 6):
        loop = While(SPAN, at(x, 0) != 1, seq(store(x, [0], select(at(x, 0) % 2 == 0, at(x, 0) // 2, at(x, 0) * 3 + 1)), store(c, [0], at(c, 0) + 1)))
        check(program([c, n], lambda bx, loop=loop: seq(store(x, [0], n), loop)), {"c": np.zeros(1, np.int32)}, scalars={"n": start})


def test_while_with_break_and_continue() -> None:
    c, x = tensor("c", int32, 20), variable()
    turn = seq(store(x, [0], at(x, 0) + 1), when(at(x, 0) % 3 == 0, Continue(SPAN)), when(at(x, 0) > 15, Break(SPAN)), store(c, [at(x, 0)], at(x, 0)))
    check(program([c], lambda bx: seq(store(x, [0], 0), While(SPAN, at(x, 0) < 100, turn))), {"c": integers(20)})


def test_a_loop_sees_what_its_earlier_turns_stored() -> None:
    c, t = tensor("c", int32, 40), tile("t", int32, 40)
    body = seq(
        parallel([40], lambda i: store(t, [i], i)),
        serial(39, lambda s: store(t, [s + 1], at(t, s + 1) + at(t, s))),
        parallel([40], lambda i: store(c, [i], at(t, i))),
    )
    check(program([c], lambda bx: body), {"c": integers(40)})


def test_a_loop_without_turns_does_nothing() -> None:
    c, n = tensor("c", int32, 4), var("n")
    for count in (0, -3, 2):
        check(program([c, n], lambda bx: serial(n, lambda s: store(c, [s], 7))), {"c": integers(4)}, scalars={"n": count})


def test_a_name_keeps_its_value_when_the_memory_behind_it_changes() -> None:
    c = tensor("c", int32, 4)
    check(
        program(
            [c],
            lambda bx: let(int32, at(c, 0) + 1, lambda x: seq(store(c, [0], 100), store(c, [1], x), let(int32, x * 2, lambda y: store(c, [2], y + at(c, 0))))),
        ),
        {"c": integers(4)},
    )


def test_else_branches_and_lazy_sides() -> None:
    a, c, n = tensor("a", int32, 10), tensor("c", int32, 3), var("n")
    outside = (n < 0) | (n >= 10)
    body = seq(
        when(n > 5, store(c, [0], n), when(n > 2, store(c, [0], n * 2), store(c, [0], n * 3))),
        store(c, [1], select(outside, -1, at(a, n), is_lazy=True)),
        when((n >= 0) & (n < 10) & (at(a, n) > 0), store(c, [2], 1)),
    )
    for value in (-4, 0, 3, 7, 50):
        check(program([a, c, n], lambda bx: body), {"a": integers(10), "c": integers(3)}, scalars={"n": value})


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "int8"])
def test_quotients_floor_or_truncate(dtype: str) -> None:
    kind = as_dtype(dtype)
    a, b, c = tensor("a", kind, 64), tensor("b", kind, 64), tensor("c", kind, 8, 64)
    divisors = integers(64, low=1, high=9, dtype=dtype) * (RNG.choice([-1, 1], 64).astype(kind.numpy) if kind.is_signed else 1)
    ops = (Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD)
    body = parallel(
        [64],
        lambda i: seq(
            *(store(c, [k, i], binary(op, at(a, i), at(b, i))) for k, op in enumerate(ops)),
            *(store(c, [k + 4, i], binary(op, at(a, i), const(7, kind))) for k, op in enumerate(ops)),
        ),
    )
    check(
        program([a, b, c], lambda bx: body),
        {"a": integers(64, low=-100, high=100, dtype=dtype), "b": divisors.astype(kind.numpy), "c": integers(8, 64, dtype=dtype)},
    )


def test_a_division_by_zero_or_overflowing_quotient_does_not_trap() -> None:
    a, b, c = (tensor(n, int32, 8) for n in "abc")
    data = {"a": np.full(8, -(1 << 31), np.int32), "b": np.array([0, -1, 0, -1, 1, 2, 0, -1], np.int32), "c": np.zeros(8, np.int32)}
    native(program([a, b, c], lambda bx: parallel([8], lambda i: store(c, [i], at(a, i) // at(b, i) + at(a, i) % at(b, i)))))(data)
    assert data["c"][4] == -(1 << 31) and data["c"][5] == -(1 << 30) and data["c"][1] == -(1 << 31)


def test_integers_wrap_and_shifts_follow_the_sign() -> None:
    a, u, c = tensor("a", int32, 20), tensor("u", uint32, 20), tensor("c", int64, 5, 20)
    body = parallel(
        [20],
        lambda i: seq(
            store(c, [0, i], at(a, i) * 1103515245 + 12345),
            store(c, [1, i], at(a, i) >> 3),
            store(c, [2, i], at(u, i) >> 3),
            store(c, [3, i], at(u, i) * const(2654435761, uint32)),
            store(c, [4, i], ~at(a, i) ^ (at(a, i) << 5) ^ (i * 1103515245 + 2147483647)),
        ),
    )
    check(
        program([a, u, c], lambda bx: body),
        {"a": integers(20, low=-(1 << 31), high=1 << 31), "u": integers(20, low=0, high=1 << 32, dtype="uint32"), "c": integers(5, 20, dtype="int64")},
    )


def test_floats_floor_and_reinterpret() -> None:
    a, b, c = tensor("a", float32, 40), tensor("b", float32, 40), tensor("c", float32, 4, 40)
    bits = tensor("bits", int32, 40)
    body = parallel(
        [40],
        lambda i: seq(
            store(c, [0, i], at(a, i) // at(b, i)),
            store(c, [1, i], binary(Op.TRUNCDIV, at(a, i), at(b, i))),
            store(c, [2, i], abs(at(a, i)) - at(b, i)),
            store(bits, [i], reinterpret(at(a, i), int32)),
            store(c, [3, i], reinterpret(at(bits, i) & 0x7FFFFFFF, float32)),
        ),
    )
    check(
        program([a, b, c, bits], lambda bx: body),
        {
            "a": (RNG.normal(size=40) * 9).astype(np.float32),
            "b": RNG.normal(size=40).astype(np.float32),
            "c": np.zeros((4, 40), np.float32),
            "bits": integers(40),
        },
    )


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_expressions_deeper_than_the_stack_of_python(dtype: str) -> None:
    kind = as_dtype(dtype)
    a, c = tensor("a", kind, 16), tensor("c", kind, 16)

    def body(i: Expr) -> Stmt:
        total = at(a, i)
        for turn in range(1500):
            total = total + at(a, (i + turn) % 16) if turn % 3 else maximum(total, at(a, turn % 16))
        return store(c, [i], total)

    check(program([a, c], lambda bx: parallel([16], body)), {"a": integers(16, dtype=dtype), "c": integers(16, dtype=dtype)})


# -- atomics


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int32", "uint32", "int64", "float8_e5m2", "int8"])
@pytest.mark.parametrize("kind", [AtomicKind.ADD, AtomicKind.MAX, AtomicKind.MIN, AtomicKind.EXCHANGE])
def test_atomics_on_every_dtype(dtype: str, kind: AtomicKind) -> None:
    element = as_dtype(dtype)
    a, c, t = tensor("a", element, 70), tensor("c", element, 7), tile("t", element, 7)
    small = integers(70, low=0, high=5).astype(np.float32).astype(element.numpy)
    body = seq(
        parallel([70], lambda i: AtomicUpdate(SPAN, kind, c, (i % 7,), at(a, i))),
        parallel([7], lambda i: store(t, [i], at(c, i))),
        parallel([70], lambda i: AtomicUpdate(SPAN, kind, t, (i % 7,), at(a, i))),
        parallel([7], lambda i: store(c, [i], at(t, i))),
    )
    check(program([a, c], lambda bx: body), {"a": small, "c": np.ones(7, np.float32).astype(element.numpy)})


@pytest.mark.parametrize("kind", [AtomicKind.AND, AtomicKind.OR, AtomicKind.XOR])
def test_bitwise_atomics(kind: AtomicKind) -> None:
    a, c = tensor("a", int32, 70), tensor("c", int32, 7)
    check(
        program([a, c], lambda bx: parallel([70], lambda i: AtomicUpdate(SPAN, kind, c, (i % 7,), at(a, i), MemoryOrder.SEQ_CST))),
        {"a": integers(70), "c": integers(7)},
    )


@pytest.mark.parametrize("order", list(MemoryOrder))
def test_an_atomic_gives_what_was_there(order: MemoryOrder) -> None:
    c, out = tensor("c", float32, 1), tensor("out", float32, 20)

    def turn(s: Expr) -> Stmt:
        before, now = var("before", float32), var("now", float32)
        return seq(
            AtomicUpdate(SPAN, AtomicKind.ADD, c, (const(0),), cast(s, float32), order, before),
            AtomicUpdate(SPAN, AtomicKind.LOAD, c, (const(0),), const(0.0), order, now),
            store(out, [s], before * 1000.0 + now),
        )

    check(program([c, out], lambda bx: serial(20, turn)), {"c": np.zeros(1, np.float32), "out": np.zeros(20, np.float32)})


def test_atomics_of_many_threads_add_up() -> None:
    from tests.codegen.llvm import lowered

    c, h = tensor("c", float32, 4), tensor("h", float16, 4)
    made = program(
        [c, h],
        lambda bx: parallel(
            [100],
            lambda i: seq(AtomicUpdate(SPAN, AtomicKind.ADD, c, (i % 4,), const(1.0)), AtomicUpdate(SPAN, AtomicKind.MAX, h, (i % 4,), cast(bx + i, float16))),
        ),
        [200],
    )
    lowered.pool().set_thread_count(2)
    try:
        data = {"c": np.zeros(4, np.float32), "h": np.zeros(4, np.float16)}
        native(made)(data)
    finally:
        lowered.pool().set_thread_count(1)
    np.testing.assert_array_equal(data["c"], [5000.0] * 4)
    np.testing.assert_array_equal(data["h"], [295.0, 296.0, 297.0, 298.0])


# -- products


@pytest.mark.parametrize("is_overwriting", [True, False])
def test_a_product_reads_and_writes_tiles(is_overwriting: bool) -> None:
    a, b, c = tensor("a", float32, 10, 20), tensor("b", float32, 20, 24), tensor("c", float32, 10, 24)
    ta, tb, tc = tile("ta", float16, 10, 20), tile("tb", float32, 20, 24), tile("tc", float32, 10, 24)
    plans = {ta: TilePlan(float32, Storage.ROW_MAJOR, 20)}

    def copy(source, target, m: int, n: int) -> Stmt:
        return parallel([m, n], lambda i, j: store(target, [i, j], at(source, i, j)))

    body = seq(
        copy(a, ta, 10, 20),
        copy(b, tb, 20, 24),
        copy(c, tc, 10, 24),
        MatrixMultiply(SPAN, 10, 24, const(20), ta, const(0), 20, 1, tb, const(0), 24, 0, 0, tc, const(0), 24, as_expr(is_overwriting)),
        copy(tc, c, 10, 24),
    )
    data = {"a": integers(10, 20).astype(np.float32), "b": integers(20, 24).astype(np.float32), "c": integers(10, 24).astype(np.float32)}
    check(program([a, b, c], lambda bx: body), data, plans=plans)


def test_a_product_of_unequal_storage_is_a_fault_of_ours() -> None:
    ta, tb, tc = tile("ta", float16, 4, 4), tile("tb", float32, 4, 4), tile("tc", float32, 4, 4)
    body = MatrixMultiply(SPAN, 4, 4, const(4), ta, const(0), 4, 1, tb, const(0), 4, 0, 0, tc, const(0), 4, as_expr(True))
    with pytest.raises(CompilerBug, match="ta is stored as float16"):
        native(program([], lambda bx: body))


# -- the host


def test_a_failed_assert_stops_the_thread_and_leaves_its_number() -> None:
    a = tensor("a", float32, 8)
    first, second = Assert(SPAN, at(a, 3) > 0.0, "first"), Assert(SPAN, at(a, 3) > 2.0, "second")
    code = native(program([a], lambda bx: seq(first, store(a, [0], 7.0), second, store(a, [0], 8.0))))
    assert code.module.asserts == (first, second)
    for value, status, stored in ((3.0, 0, 8.0), (1.0, 2, 7.0), (-1.0, 1, 0.0)):
        data = np.array([0, 0, 0, value, 0, 0, 0, 0], np.float32)
        assert code({"a": data}) == status
        assert data[0] == stored


def test_asserts_in_loops_and_assumes() -> None:
    a = tensor("a", int32, 40)
    check(
        program([a], lambda bx: parallel([40], lambda i: seq(Assume(SPAN, i >= 0), Assert(SPAN, at(a, i) > -100, "small"), store(a, [i], 1)))),
        {"a": integers(40)},
    )


def test_print_hands_values_to_the_host() -> None:
    a, b = tensor("a", float32, 4), tensor("b", int32, 4)
    t = tile("t", bfloat16, 4)
    show = Print(SPAN, "values", (at(a, 1), at(b, 2), at(a, 0) > 0.5, cast(at(a, 1), float16)))
    dump = Print(SPAN, "tile", (), t)
    code = native(program([a, b], lambda bx: seq(serial(2, lambda s: when(s == 1, show)), parallel([4], lambda i: store(t, [i], at(a, i))), dump)))
    code({"a": np.array([0.25, 1.5, 0, 0], np.float32), "b": np.array([0, 0, -7, 0], np.int32)})
    assert code.module.prints == (show, dump)
    bits = int(np.float32(1.5).view(np.int32))
    assert code.printed[0] == (1, (bits, -7, 0, bits))
    assert code.printed[1][0] == 2 and code.printed[1][1][0] % 64 == 0


def test_reductions_of_scalars_outside_parallel_loops() -> None:
    a, c = tensor("a", float32, 100), tensor("c", float32, 1)
    total = reduction(ReduceKind.SUM, 1.0, 100, lambda r: at(a, r) * at(a, r), float32)
    check(
        program([a, c], lambda bx: seq(total, store(c, [0], total.result))),
        {"a": RNG.normal(size=100).astype(np.float32), "c": np.zeros(1, np.float32)},
        tolerance=1e-5,
    )


def test_bools_are_bytes_in_memory() -> None:
    a, b, c = tensor("a", bool_, 40), tensor("b", bool_, 40), tensor("c", bool_, 40)
    data = {n: RNG.integers(0, 2, 40).astype(np.bool_) for n in "abc"}
    check(program([a, b, c], lambda bx: parallel([40], lambda i: store(c, [i], (at(a, i) & ~at(b, i)) | (at(b, i) & (i % 2 == 0))))), data)
