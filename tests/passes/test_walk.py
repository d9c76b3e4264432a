"""Statements with the facts that hold where they stand, and what the passes ask about statements."""

from __future__ import annotations

from typing import Any

import numpy as np

import tilewright
import tilewright.language as T
from tests.execution import integers, run
from tilewright import dtypes
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope, whole
from tilewright.ir.expr import Op
from tilewright.ir.program import Launch
from tilewright.ir.stmt import Break, Continue, For, If, LoopKind, Seq, Store, While
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.language.function import PrimFunc
from tilewright.ops.copy import Copy
from tilewright.passes.walk import buffers_of, covers_matrix, fills_whole, launch_facts, may_leave_loop, statements_with_facts, users_of, viewed_tiles

HERE = Span("kernel.py", 1)


def ranges(prim_func: PrimFunc) -> dict[str, tuple[Any, Any]]:
    """By tensor: what is known of the first index of its stores."""
    found = {}
    for launch in prim_func.program.launches:
        for stmt, facts in statements_with_facts(launch):
            if isinstance(stmt, Store):
                known = facts.range_of(stmt.indices[0])
                found[stmt.buffer.name] = known.low, known.high
    return found


def test_facts_of_loops_branches_names_and_promises() -> None:
    @T.prim_func
    def kernel(
        n: T.int32,
        A: T.Tensor((9,), "int32"),
        B: T.Tensor((9,), "int32"),
        C: T.Tensor((9,), "int32"),
        D: T.Tensor((9,), "int32"),
        E: T.Tensor((9,), "int32"),
        F: T.Tensor((9,), "int32"),
        G: T.Tensor((9,), "int32"),
    ):
        with T.Kernel(4) as bx:
            A[bx] = 0
            for i in T.serial(2, 7):
                B[i] = 0
                for j, k in T.Parallel(3, 2):
                    C[j * 2 + k + i] = 0
            if n > 5:
                D[n] = 0
            else:
                E[n] = 0
            F[n] = 0
            T.assume(n >= 0)
            T.assume(n < 9)
            G[n] = 0

    found = ranges(kernel)
    assert found["A"] == (0, 3) and found["B"] == (2, 6) and found["C"] == (2, 11)
    assert found["D"][0] == 6 and found["E"][1] == 5 and found["G"] == (0, 8)
    assert found["F"][0] in (None, -(1 << 31))


def test_names_are_followed() -> None:
    @T.prim_func
    def kernel(I: T.Tensor((9,), "int32"), A: T.Tensor((64,), "int32")):
        with T.Kernel(4) as bx:
            x = I[bx] % 4 + 3
            y = x * 2
            A[y] = 0

    assert ranges(kernel)["A"] == (6, 12)


def test_symbols_that_size_tensors_are_not_negative_but_scalars_may_be() -> None:
    m = T.dynamic("m")

    @T.prim_func
    def kernel(n: T.int32, A: T.Tensor((m,), "int32"), B: T.Tensor((32,), "int32"), C: T.Tensor((32,), "int32")):
        with T.Kernel(n + 8) as bx:
            B[bx + n] = A[bx] + 1
            C[bx + m] = 5

    a = integers((4,), np.int32, low=1)
    for n in (-9, -5, 0, 3):
        found = run(kernel, n=n, A=a, B=np.zeros(32, np.int32), C=np.zeros(32, np.int32))
        wanted = np.zeros(32, np.int32)
        for x in range(n + 8):
            if x + n >= 0:
                wanted[x + n] = (a[x] if x < 4 else 0) + 1
        np.testing.assert_array_equal(found["B"], wanted)
        memory = np.zeros(96, np.int32)
        tilewright.compile(kernel)(n, a, memory[32:64], np.zeros(32, np.int32))
        assert not memory[:32].any() and not memory[64:].any()
    (launch,) = kernel.program.launches
    symbols = {v.name: launch_facts(launch).range_of(v).low for e in launch.grid for v in subexpressions(e) if v.op is Op.VAR}
    assert symbols["n"] is None or symbols["n"] < 0


def launch_of(statement: Any) -> Launch:
    @T.prim_func
    def kernel(A: T.Tensor((3, 8, 16), "float32"), B: T.Tensor((8, 16), "float32")):
        with T.Kernel(1):
            s, t = T.alloc_shared((8, 16), "float32"), T.alloc_shared((2, 8, 16), "float32")
            statement(A, B, s, t)

    return kernel.program.launches[0]


def copies(statement: Any) -> list[Copy]:
    return [s for s in statements(launch_of(statement).body) if isinstance(s, Copy)]


def test_copies_that_fill_a_tile() -> None:
    def some(A: Any, B: Any, s: Any, t: Any) -> None:
        T.copy(A[1, 0, 0], s)
        T.copy(B, s)
        T.copy(B, t[1, :, :])
        T.copy(B[0:4, :], s[0:4, :])
        T.copy(B[0:8, 0:1], s[0:8, 0:1])
        T.copy(A[0:2, :, :], t)

    assert [fills_whole(c) for c in copies(some)] == [True, True, True, False, False, False]


def test_regions_that_cover_a_matrix() -> None:
    tile = Buffer("t", dtypes.float32, (2, 8, 16), Scope.SHARED, HERE)
    assert covers_matrix(tile[1, :, :]) and covers_matrix(tile[0, 0:8, 0:16])
    assert not covers_matrix(whole(tile)) and not covers_matrix(tile[1, 0:4, :]) and not covers_matrix(tile[1, :, 0:15])
    assert not covers_matrix(whole(Buffer("v", dtypes.float32, (8,), Scope.SHARED, HERE)))


def test_buffers_and_views() -> None:
    def some(A: Any, B: Any, s: Any, t: Any) -> None:
        T.copy(A[0, :, :], s)
        T.clear(T.view(s, dtype="int32"))
        B[0, 0] = t[0, 0, 0] + s[1, 1]

    launch = launch_of(some)
    names = [[b.name for b in buffers_of(stmt)] for stmt in statements(launch.body) if not isinstance(stmt, Seq)]
    assert names == [["A", "s"], ["<view>"], ["B", "t", "s"]]
    assert {b.name for b in viewed_tiles(launch)} == {"<view>", "s"}
    copy, clear, store = (stmt for stmt in statements(launch.body) if not isinstance(stmt, Seq))
    assert {b.name: users for b, users in users_of(launch).items()} == {"A": [copy], "s": [copy, store], "<view>": [clear], "B": [store], "t": [store]}
    assert all(own_expressions(stmt) is not None for stmt in statements(launch.body))


def test_leaving_a_loop() -> None:
    leave, turn = Break(HERE), Continue(HERE)
    condition = T.dynamic("n") > 0
    variable = T.dynamic("k")
    assert may_leave_loop(leave) and may_leave_loop(turn) and may_leave_loop(Seq(HERE, (If(HERE, condition, Seq(HERE, (turn,))),)))
    assert not may_leave_loop(For(HERE, variable, variable, LoopKind.SERIAL, leave)) and not may_leave_loop(While(HERE, condition, turn))
    assert not may_leave_loop(Seq(HERE, ()))
