"""Wide accesses of one thread: the result is that of the serial loop, every access is aligned, and what is not proven stays an access per element."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest

import tilewright
from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, as_expr, binary, cast, const, load, logical, select, var
from tilewright.ir.program import Launch, Parameter, ParameterKind, Program
from tilewright.ir.stmt import Assert, Assume, AtomicKind, AtomicUpdate, For, If, Let, LoopKind, Seq, Stmt, Store
from tilewright.ir.thread import VectorCopy
from tilewright.ir.verify import Level, verify
from tilewright.ir.visit import rewrite, statements
from tilewright.passes.context import Remarks
from tilewright.passes.vectorize import vectorize

HERE = Span("kernel.py", 3)
F16, F32, I32 = dtypes.float16, dtypes.float32, dtypes.int32
V, K = var("v"), var("k")


def tensor(name: str, shape: Any, dtype: DType = F32, **more: Any) -> Buffer:
    return Buffer(name, dtype, tuple(shape), Scope.GLOBAL, HERE, **more)


def shared(name: str, n: int, dtype: DType = F32, **more: Any) -> Buffer:
    return Buffer(name, dtype, (n,), Scope.SHARED, HERE, **more)


def local(name: str, n: int, dtype: DType = F32) -> Buffer:
    return Buffer(name, dtype, (n,), Scope.LOCAL, HERE)


def at(buffer: Buffer, *indices: Any) -> Expr:
    return load(buffer, tuple(as_expr(i) for i in indices))


def put(buffer: Buffer, *rest: Any) -> Store:
    *indices, value = rest
    return Store(HERE, buffer, tuple(as_expr(i) for i in indices), cast(as_expr(value), buffer.dtype))


def seq(*body: Stmt) -> Stmt:
    return Seq(HERE, body)


def when(condition: Expr, *body: Stmt) -> If:
    return If(HERE, condition, seq(*body))


def lanes(count: int, *body: Stmt) -> For:
    return For(HERE, V, const(count), LoopKind.VECTORIZED, seq(*body))


def turns(count: Any, *body: Stmt) -> For:
    return For(HERE, K, as_expr(count), LoopKind.SERIAL, seq(*body))


def program(tensors: list[Buffer], buffers: list[Buffer], *body: Stmt, scalars: tuple[Expr, ...] = ()) -> Program:
    parameters = [Parameter(b.name, ParameterKind.TENSOR, HERE, buffer=b) for b in tensors]
    parameters += [Parameter(s.name, ParameterKind.SCALAR, HERE, variable=s) for s in scalars]
    launch = Launch((const(1),), (var("bx"),), (1, 1, 1), (var("tx"), var("ty"), var("tz")), tuple(buffers), seq(*body), HERE)
    return Program("kernel", tuple(parameters), (launch,), HERE)


def widths(made: Program) -> list[tuple[str, int]]:
    """The memory and the elements of each wide access, in program order."""
    found = [s for s in statements(made.launches[0].body) if isinstance(s, VectorCopy)]
    return [((s.src if s.src.buffer.scope is not Scope.LOCAL else s.dst).buffer.name, s.elements) for s in found]


def by_element(made: Program) -> Program:
    """The same program with wide accesses spelled out, each after a test of its alignment."""

    def element(node: Stmt) -> Stmt:
        if not isinstance(node, VectorCopy):
            return node
        assert node.size_bytes in (2, 4, 8, 16) and (node.src.buffer.scope is Scope.LOCAL) is not (node.dst.buffer.scope is Scope.LOCAL)
        tests = []
        for side in (node.src, node.dst):
            offset: Expr = const(0)
            for index, stride in zip(side.indices, side.buffer.element_strides(), strict=True):
                offset = offset + index * as_expr(stride)
            tests.append(Assert(HERE, binary(Op.EQ, offset % node.elements, const(0)), "misaligned"))
        e = var("e")
        value = load(node.src.buffer, (*node.src.indices[:-1], node.src.indices[-1] + e))
        return seq(*tests, For(HERE, e, const(node.elements), LoopKind.SERIAL, put(node.dst.buffer, *node.dst.indices[:-1], node.dst.indices[-1] + e, value)))

    (launch,) = made.launches
    return dataclasses.replace(made, launches=(dataclasses.replace(launch, body=rewrite(launch.body, post=element)),))


def check(original: Program, **arguments: Any) -> Program:
    """The program after the pass, once it computes the same."""
    context = Remarks()
    made = vectorize(original, context)
    verify(made, Level.THREAD, "vectorize")
    assert not [s for s in statements(made.launches[0].body) if isinstance(s, For) and s.kind is LoopKind.VECTORIZED]
    for seed in range(2):
        values = arguments or _arguments(original, seed)
        wanted = tilewright.run_reference(original, {n: np.copy(v) if isinstance(v, np.ndarray) else v for n, v in values.items()})
        found = tilewright.run_reference(by_element(made), {n: np.copy(v) if isinstance(v, np.ndarray) else v for n, v in values.items()})
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name].view(np.uint8), array.view(np.uint8), err_msg=name)
    return made


def _arguments(original: Program, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {p.name: rng.integers(0, 99, p.buffer.static_shape).astype(p.buffer.dtype.numpy) for p in original.parameters if p.buffer is not None}


@pytest.mark.parametrize(
    ("dtype", "count", "expected"),
    [
        (F32, 4, 4),
        (F32, 2, 2),
        (F32, 8, 4),
        (F16, 8, 8),
        (F16, 16, 8),
        (F16, 6, 2),
        (F16, 3, 0),
        (dtypes.float64, 2, 2),
        (dtypes.int8, 16, 16),
        (dtypes.int8, 2, 2),
        (dtypes.bool_, 16, 16),
    ],
)
def test_a_copy(dtype: DType, count: int, expected: int) -> None:
    a, s, b = tensor("A", (4, 48), dtype), shared("s", 192, dtype), tensor("B", (4, 48), dtype)
    base = K * count
    made = check(program([a, b], [s], turns(48 // count, lanes(count, put(s, base + V, at(a, 2, base + V)), put(b, 1, base + V, at(s, base + V))))))
    assert {n for n, _ in widths(made)} == ({"A", "B"} if expected else set()), "a lane loads what it has stored into s before"
    made = check(
        program([a, b], [s], turns(48 // count, lanes(count, put(s, base + V, at(a, 2, base + V))), lanes(count, put(b, 1, base + V, at(s, base + V)))))
    )
    assert {w for _, w in widths(made)} == ({expected} if expected else set())
    assert len(widths(made)) == (4 * count // expected if expected else 0)
    if expected:
        assert not any(isinstance(s, For) and s.kind is LoopKind.UNROLLED for s in statements(made.launches[0].body)), "nothing is left to do by lane"


def test_arithmetic_stays_by_lane() -> None:
    a, b, c = tensor("A", (64,), F16), tensor("B", (64,), F16), tensor("C", (64,), F32)
    made = check(program([a, b, c], [], turns(8, lanes(8, put(c, K * 8 + V, cast(at(a, K * 8 + V), F32) * 2 + cast(at(b, K * 8 + V), F32))))))
    assert widths(made) == [("A", 8), ("B", 8), ("C", 4), ("C", 4)]


def test_registers_on_the_other_side_need_no_detour() -> None:
    a, x, b = tensor("A", (64,)), local("x", 64), tensor("B", (64,))
    made = check(program([a, b], [x], turns(8, lanes(8, put(x, K * 8 + V, at(a, K * 8 + V)))), turns(8, lanes(8, put(b, K * 8 + V, at(x, K * 8 + V))))))
    assert [n for n, _ in widths(made)] == ["A", "A", "B", "B"]
    assert [b.name for b in made.launches[0].buffers] == ["x"]
    made = check(program([a, b], [x], turns(8, lanes(4, put(x, K * 4 + V + 1, at(a, K * 4 + V)))), turns(8, lanes(4, put(b, K * 4 + V, at(x, 1))))))
    assert len(made.launches[0].buffers) == 3, "registers that begin elsewhere are moved one by one"


@pytest.mark.parametrize(("offset", "expected"), [(0, 4), (2, 2), (1, 0), (4, 4)])
def test_the_alignment_decides(offset: int, expected: int) -> None:
    a, b = tensor("A", (48,)), tensor("B", (48,))
    made = check(program([a, b], [], turns(8, lanes(4, put(b, K * 4 + V, at(a, K * 4 + V + offset))))))
    assert dict(widths(made)).get("A", 0) == expected and dict(widths(made))["B"] == 4


def test_strides_known_only_when_it_runs() -> None:
    n = var("n")
    for promise, expected in ((None, set()), (8, {8}), (4, {4})):
        a, b = tensor("A", (4, n), F16), tensor("B", (4, n), F16)
        body: list[Stmt] = [turns(n // 8, lanes(8, put(b, 3, K * 8 + V, at(a, 1, K * 8 + V))))]
        if promise is not None:
            body.insert(0, Assume(HERE, binary(Op.EQ, n % promise, const(0))))
        values = {name: np.arange(64, dtype=np.float16).reshape(4, 16) for name in "AB"}
        context = Remarks()
        made = check(program([a, b], [], *body), **values)
        assert {w for _, w in widths(made)} == expected
        vectorize(program([a, b], [], *body), context)
        assert bool(context.remarks) is (promise is None)


def test_a_stride_that_is_not_one() -> None:
    a, b = tensor("A", (64,)), tensor("B", (64,))
    made = check(program([a, b], [], turns(8, lanes(4, put(b, K * 4 + V, at(a, (K * 4 + V) * 2 % 64))))))
    assert widths(made) == [("B", 4)]
    made = check(program([a, b], [], turns(8, lanes(4, put(b, K * 4 + (3 - V), at(a, K))))))
    assert not widths(made)


def guarded(n: Any, limit: Expr, width: int = 4) -> Program:
    a, b = tensor("A", (n,)), tensor("B", (n,))
    place = K * width + V
    inside = binary(Op.LT, place, limit)
    value = select(inside, at(a, place), const(7, F32), is_lazy=True)
    return program([a, b], [], turns(5, lanes(width, when(inside, put(b, place, value + 1)))))


def test_a_guard_that_is_the_same_for_all_lanes() -> None:
    made = check(guarded(16, const(16)))
    assert dict(widths(made)) == {"A": 4, "B": 4}
    made = check(guarded(17, const(17)))
    assert dict(widths(made)) == {}
    n = var("n")
    kernel = guarded(n, n)
    assume = Assume(HERE, binary(Op.EQ, n % 4, const(0)))
    (launch,) = kernel.launches
    promised = dataclasses.replace(kernel, launches=(dataclasses.replace(launch, body=seq(assume, launch.body)),))
    for size in (0, 4, 16, 20):
        values = {name: np.arange(size, dtype=np.float32) for name in "AB"}
        assert dict(widths(check(promised, **values))) == {"A": 4, "B": 4}
        assert dict(widths(check(kernel, **values))) == {}


@pytest.mark.parametrize("dtype", [F32, F16])
def test_a_value_outside_fills_the_registers(dtype: DType) -> None:
    a, s, b = tensor("A", (24,), dtype), shared("s", 32, dtype), tensor("B", (32,), dtype)
    place = K * 4 + V
    value = select(binary(Op.LT, place, 24), at(a, place), const(5, dtype), is_lazy=True)
    made = check(program([a, b], [s], turns(8, lanes(4, put(s, place, value))), turns(8, lanes(4, put(b, place, at(s, place))))))
    assert {w for _, w in widths(made)} == {4}
    ifs = [s for s in statements(made.launches[0].body) if isinstance(s, If)]
    assert len(ifs) == 1 and ifs[0].else_body is not None


@pytest.mark.parametrize("comparison", [Op.LT, Op.LE, Op.GT, Op.GE, Op.EQ, Op.NE])
@pytest.mark.parametrize("sign", [1, -1])
def test_conditions_of_every_kind(comparison: Op, sign: int) -> None:
    """The same for four lanes exactly where trying all of them says so."""
    found = set()
    for limit in range(-3, 14):
        a, b = tensor("A", (16,)), tensor("B", (16,))
        place = K * 4 + V
        condition = binary(comparison, place * sign, const(limit * sign))
        made = check(program([a, b], [], turns(4, lanes(4, when(condition, put(b, place, at(a, place)))))))
        outcomes = np.array([_compare(comparison, p * sign, limit * sign) for p in range(16)]).reshape(4, 4)
        is_same = bool((outcomes == outcomes[:, :1]).all())
        pairs = outcomes.reshape(8, 2)
        expected = 4 if is_same else 2 if (pairs == pairs[:, :1]).all() else 0
        assert dict(widths(made)).get("A", 0) == expected, (limit, outcomes)
        found.add(expected)
    assert found >= {4, 0}


def _compare(op: Op, x: int, y: int) -> bool:
    return {Op.LT: x < y, Op.LE: x <= y, Op.GT: x > y, Op.GE: x >= y, Op.EQ: x == y, Op.NE: x != y}[op]


def test_swizzled_tiles() -> None:
    s, b = shared("s", 8 * 64, F16), tensor("B", (8, 64), F16)
    row, column = var("row"), K * 8 + V
    place = row * 64 + binary(Op.BIT_XOR, column // 8, row % 8) * 8 + column % 8
    body = For(HERE, row, const(8), LoopKind.SERIAL, turns(8, lanes(8, put(s, place, at(b, row, column)))))
    back = For(HERE, row, const(8), LoopKind.SERIAL, turns(8, lanes(8, put(b, row, column, at(s, place) + at(s, place)))))
    assert {w for _, w in widths(check(program([b], [s], body, back)))} == {8}


def test_rows_of_one_element_are_no_row() -> None:
    """The elements follow each other in memory, but a wide access runs along the last axis."""
    a, b = tensor("A", (64, 1)), tensor("B", (64,))
    made = check(program([a, b], [], turns(16, lanes(4, put(b, K * 4 + V, at(a, K * 4 + V, 0))))))
    assert widths(made) == [("B", 4)]


def test_memory_that_the_loop_stores() -> None:
    a = tensor("A", (64,))
    same = put(a, K * 4 + V, at(a, K * 4 + V) * 2)
    assert widths(check(program([a], [], turns(8, lanes(4, same))))) == [("A", 4), ("A", 4)]
    assert not widths(check(program([a], [], turns(8, lanes(4, put(a, K * 4 + V, at(a, K * 4 + V + 4)))))))
    assert not widths(check(program([a], [], lanes(4, put(a, V + 4, at(a, V + 3))))))
    assert not widths(check(program([a], [], turns(8, lanes(4, same, put(a, K * 4 + V, at(a, K * 4 + V) + 1))))))
    b = tensor("B", (64,))
    exchange = lanes(4, put(a, K * 4 + V, at(b, K * 4 + V)), put(b, K * 4 + V, at(a, K * 4 + V)))
    assert widths(check(program([a, b], [], turns(8, exchange)))) == [("B", 4), ("B", 4)], "A is loaded after it was stored"
    t = var("t", F32)
    assert len(widths(check(program([a], [], turns(8, lanes(4, Let(HERE, t, at(a, K * 4 + V)), put(a, K * 4 + V, t * 2))))))) == 2


def test_views_share_memory() -> None:
    s = shared("s", 64)
    view = shared("t", 64, I32, source=s)
    b = tensor("B", (64,))
    fill = turns(16, lanes(4, put(s, K * 4 + V, at(b, K * 4 + V))))
    mixed = turns(15, lanes(4, put(s, K * 4 + V, 1), put(b, K * 4 + V, cast(at(view, K * 4 + V + 1), F32))))
    made = check(program([b], [s, view], fill, mixed))
    assert widths(made) == [("B", 4), ("s", 4), ("B", 4)]


def test_atomics_and_addresses_stay() -> None:
    a, b = tensor("A", (64,)), tensor("B", (64,))
    place = K * 4 + V
    update = AtomicUpdate(HERE, AtomicKind.ADD, a, (place,), at(b, place))
    assert widths(check(program([a, b], [], turns(8, lanes(4, update, put(b, place, 3)))))) == [("B", 4), ("B", 4)]
    assert widths(check(program([a, b], [], turns(8, lanes(4, put(b, place, 3), update))))) == []
    far = tensor("far", (64,), pointer=const(4096, dtypes.uint64))
    assert not widths(vectorize(program([a], [], turns(8, lanes(4, put(a, place, at(far, place + 4))))), Remarks()))
    assert widths(check(program([a, b], [], turns(8, lanes(4, update))))) == [("B", 4)]


def test_indices_that_are_read() -> None:
    a, rows, b = tensor("A", (8, 8)), tensor("rows", (8,), I32), tensor("B", (8, 8))
    values = {"A": np.arange(64, dtype=np.float32).reshape(8, 8), "rows": np.arange(8, dtype=np.int32)[::-1].copy(), "B": np.zeros((8, 8), np.float32)}
    made = check(program([a, rows, b], [], turns(8, lanes(8, put(b, K, V, at(a, at(rows, K), V))))), **values)
    assert [w for n, w in widths(made) if n == "A"] == [4, 4]
    made = check(program([a, rows, b], [], turns(8, lanes(8, put(b, K, V, at(a, at(rows, V), V))))), **values)
    assert [n for n, _ in widths(made)] == ["rows", "rows", "B", "B"]


def test_long_and_endless_loops() -> None:
    a, b, n = tensor("A", (96,), F16), tensor("B", (96,), F16), var("n")
    made = check(program([a, b], [], lanes(96, put(b, V, at(a, V) + 1))))
    assert {w for _, w in widths(made)} == {8}
    assert not widths(check(program([a, b], [], lanes(29, put(b, V, at(a, V) + 1)))))
    dynamic = program([a, b], [], For(HERE, V, n, LoopKind.VECTORIZED, put(b, V, at(a, V) + 1)), scalars=(n,))
    values = {"A": np.arange(96, dtype=np.float16), "B": np.zeros(96, np.float16), "n": 50}
    assert not widths(check(dynamic, **values))


def test_nibbles() -> None:
    a, b = tensor("A", (64,), dtypes.int4), tensor("B", (64,), dtypes.int4)
    context = Remarks()
    made = vectorize(program([a, b], [], turns(4, lanes(16, put(b, K * 16 + V, at(a, K * 16 + V))))), context)
    assert widths(made) == [("A", 16), ("B", 16)]


def test_random_loops() -> None:
    """Loops of random statements on a few arrays, against the loop itself."""
    wide = 0
    for seed in range(16):
        rng = random.Random(seed)
        dtype = rng.choice((F32, F16, dtypes.int8))
        count = rng.choice((2, 4, 8, 16, 6))
        a, b, s, x = tensor("A", (4, 64), dtype), tensor("B", (4, 64), dtype), shared("s", 128, dtype), local("x", 64, dtype)
        view = shared("t", 128, dtype, source=s)

        def place(rng: random.Random, buffer: Buffer, count: int) -> tuple[Any, ...]:
            start = rng.choice((0, 0, 0, 2, 1, 4)) if buffer.shape[-1] != 64 or buffer.rank > 1 else 0
            column = K * count + V + start if rng.random() < 0.85 else (K * count + V) * 2 % 32
            return (rng.choice((const(3), K % 4)), binary(Op.FLOORMOD, column, 64) if rng.random() < 0.1 else column) if buffer.rank == 2 else (column,)

        def value(rng: random.Random, depth: int, count: int, buffers: tuple[Buffer, ...]) -> Expr:
            if depth == 0 or rng.random() < 0.4:
                chosen = rng.choice(buffers)
                return load(chosen, tuple(map(as_expr, place(rng, chosen, count))))
            if rng.random() < 0.4:
                return select(test(rng, count), value(rng, depth - 1, count, buffers), const(rng.randrange(9), buffers[0].dtype), is_lazy=True)
            return value(rng, depth - 1, count, buffers) + value(rng, depth - 1, count, buffers)

        def test(rng: random.Random, count: int) -> Expr:
            limit = const(rng.choice((8, 16, 24, 31, 30, 20)))
            made = binary(rng.choice((Op.LT, Op.GE, Op.LE)), K * count + V if rng.random() < 0.7 else K, limit)
            return made if rng.random() < 0.7 else logical(rng.choice((Op.AND, Op.OR)), made, binary(Op.LT, K, const(3)))

        buffers = (a, b, s, view, x)
        body: list[Stmt] = []
        for _ in range(rng.randrange(1, 4)):
            chosen = rng.choice(buffers)
            store: Stmt = Store(HERE, chosen, tuple(map(as_expr, place(rng, chosen, count))), value(rng, 2, count, buffers))
            body.append(when(test(rng, count), store) if rng.random() < 0.4 else store)
        start = [For(HERE, V, const(n), LoopKind.SERIAL, put(buffer, V, V % 7)) for buffer, n in ((s, 128), (x, 64))]
        kernel = program([a, b], [s, view, x], *start, turns(3, lanes(count, *body)), turns(4, lanes(8, put(b, K, V, at(s, K * 8 + V) + at(x, K * 8 + V)))))
        wide += len(widths(check(kernel)))
    assert wide > 30
