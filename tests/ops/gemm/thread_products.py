"""Thread-level programs of one product, for tests: operands are filled from global tensors, the result goes to one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewright.arith.lower_layout import lower_layout, lower_memory_layout
from tilewright.dtypes import DType, as_dtype
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, binary, const, load, logical, var
from tilewright.ir.program import Launch, Parameter, ParameterKind, Program, SharedMemoryPlan
from tilewright.ir.stmt import Barrier, For, If, Let, LoopKind, Seq, Stmt, Store
from tilewright.ir.verify import Level, verify
from tilewright.layout import LANE, REG, WARP, Layout, MemoryLayout, swizzled_tile, tile_axes, widest_swizzle
from tilewright.ops.gemm.mma import lower_on_tensor_cores
from tilewright.ops.gemm.partition import GemmPlan, GemmWarpPolicy, choose_partition
from tilewright.ops.gemm.simt import lower_on_plain_arithmetic
from tilewright.ops.gemm.threads import RegisterTile, SharedTile, ThreadProduct
from tilewright.target.nvidia import SM_80, NvidiaTarget

SPAN = Span("kernel.py", 1, 0, 1, 1)


def row_major(shape: tuple[int, ...], bits: int) -> MemoryLayout:
    return MemoryLayout.natural(Layout.row_major(tile_axes(shape)))


def swizzled(shape: tuple[int, ...], bits: int) -> MemoryLayout:
    """The hardware swizzle where one fits, else rows padded by 16 bytes."""
    mode = widest_swizzle(*shape[-2:], bits)
    if mode is not None:
        return MemoryLayout.natural(swizzled_tile(tile_axes(shape), bits, mode))
    rows, columns = tile_axes(shape)
    pitch = -(-columns.extent // (128 // bits)) * (128 // bits) + 128 // bits
    return MemoryLayout.strided((rows, columns), [[place * pitch for place in rows.places], list(columns.places)])


@dataclass
class Case:
    """One product. `a_memory` and `b_memory` make the layouts of the shared tiles; `a_in_registers` takes a from a fragment.

    margins   rows and columns of each shared tile before the operand's region, as (a rows, a columns, b rows, b columns).
    """

    m: int
    n: int
    k: int
    a_dtype: str = "float16"
    c_dtype: str = "float32"
    b_dtype: str = ""
    num_threads: int = 128
    policy: GemmWarpPolicy = GemmWarpPolicy.Square
    target: NvidiaTarget = SM_80
    transpose_a: bool = False
    transpose_b: bool = False
    clear: bool = False
    clear_by_thread: bool | None = None  # the same, but known only when the kernel runs
    a_memory: Any = swizzled
    b_memory: Any = swizzled
    a_in_registers: bool = False
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    slots: int = 0
    float32_as_tf32: bool = False
    buffers: list[Buffer] = field(default_factory=list)

    @property
    def plan(self) -> GemmPlan:
        a, b, c = self.dtypes
        return choose_partition(
            self.m,
            self.n,
            self.k,
            a,
            b,
            c,
            self.num_threads,
            self.policy,
            self.target,
            transpose_a=self.transpose_a,
            transpose_b=self.transpose_b,
            float32_as_tf32=self.float32_as_tf32,
        )

    @property
    def dtypes(self) -> tuple[DType, DType, DType]:
        return as_dtype(self.a_dtype), as_dtype(self.b_dtype or self.a_dtype), as_dtype(self.c_dtype)

    @property
    def a_shape(self) -> tuple[int, int]:
        return (self.k, self.m) if self.transpose_a else (self.m, self.k)

    @property
    def b_shape(self) -> tuple[int, int]:
        return (self.n, self.k) if self.transpose_b else (self.k, self.n)

    def program(self) -> Program:
        """Parameters A, B and C, the accumulator before and after."""
        self.buffers = []
        a_dtype, b_dtype, c_dtype = self.dtypes
        tensors = [
            Buffer(n, d, s, Scope.GLOBAL, SPAN) for n, d, s in (("A", a_dtype, self.a_shape), ("B", b_dtype, self.b_shape), ("C", c_dtype, (self.m, self.n)))
        ]
        thread, lane, warp = var("tx"), var("lane"), var("warp")
        self.thread, self.lane, self.warp = thread, lane, warp
        plan = self.plan
        c = RegisterTile(self.local("c", c_dtype, plan.accumulator_layout.in_axis(REG).extent), plan.accumulator_layout)
        body: list[Stmt] = [Let(SPAN, lane, thread % 32), Let(SPAN, warp, thread // 32)]
        body += [self.fill(c, tensors[2], (self.m, self.n))]
        if self.a_in_registers:
            assert plan.a_layout is not None
            a: Any = RegisterTile(self.local("a", a_dtype, plan.a_layout.in_axis(REG).extent), plan.a_layout)
            body.append(self.fill(a, tensors[0], self.a_shape))
        else:
            a = self.shared("a_shared", tensors[0], self.a_shape, self.a_memory, self.margins[:2], body)
        b = self.shared("b_shared", tensors[1], self.b_shape, self.b_memory, self.margins[2:], body)
        clear = const(self.clear)
        if self.clear_by_thread is not None:
            clear = thread >= 0 if self.clear_by_thread else thread < 0
        product = ThreadProduct(SPAN, plan, a, b, c, self.transpose_a, self.transpose_b, clear, lane, warp, self.local)
        lower = lower_on_tensor_cores if plan.atom is not None else lower_on_plain_arithmetic
        body += [Barrier(SPAN), lower(product), self.drain(c, tensors[2])]
        y, z = var("ty"), var("tz")
        offsets, size = [], 0
        for buffer in self.buffers:
            if buffer.scope is Scope.SHARED:
                offsets.append((buffer, size))
                size += -(-buffer.static_shape[0] * buffer.dtype.bits // 8192) * 1024
        plan_of_memory = SharedMemoryPlan(tuple(offsets), size)
        launch = Launch(
            (const(1),), (var("bx"),), (self.num_threads, 1, 1), (thread, y, z), tuple(self.buffers), Seq(SPAN, tuple(body)), SPAN, shared_memory=plan_of_memory
        )
        parameters = tuple(Parameter(t.name, ParameterKind.TENSOR, SPAN, buffer=t) for t in tensors)
        program = Program("product", parameters, (launch,), SPAN)
        verify(program, Level.THREAD, "the test")
        return program

    def local(self, name: str, dtype: DType, count: int) -> Buffer:
        self.buffers.append(Buffer(name, dtype, (count,), Scope.LOCAL, SPAN))
        return self.buffers[-1]

    def shared(self, name: str, tensor: Buffer, shape: tuple[int, int], memory_of: Any, margins: tuple[int, int], body: list[Stmt]) -> SharedTile:
        """A shared tile of `slots` slots (the last but one is used) that holds a tensor, filled by all threads."""
        whole = (shape[0] + margins[0], shape[1] + margins[1])
        memory = memory_of(whole, tensor.dtype.bits)
        starts: tuple[Expr, ...] = tuple(map(const, margins))
        if self.slots:
            staged = memory.with_stages(self.slots, 64)
            memory = MemoryLayout(staged.layout.rename(ins={"stage": "d0", "d0": "d1", "d1": "d2"}), staged.embedding)
            # An expression that is no constant to the compiler, and always the last slot.
            starts = (binary(Op.MIN, self.thread, const(0)) + (self.slots - 1), *starts)
        self.buffers.append(Buffer(name, tensor.dtype, (memory.size_elements,), Scope.SHARED, SPAN))
        tile = SharedTile(self.buffers[-1], memory, starts)
        r, index, count = var("r"), var("index"), math.prod(shape)
        names = [axis.name for axis in memory.layout.ins]
        together = max(1, 8 // tensor.dtype.bits)  # a thread writes whole bytes

        def store(element: Expr) -> Stmt:
            at = (element // shape[1], element % shape[1])
            coordinates = (*starts[:-2], *(start + place for start, place in zip(starts[-2:], at)))
            place = lower_memory_layout(memory, dict(zip(names, coordinates)))
            return If(SPAN, element < count, Store(SPAN, tile.buffer, (place,), load(tensor, at)))

        first = (r * self.num_threads + self.thread) * together
        step = Seq(SPAN, (Let(SPAN, index, first), *(store(index + e) for e in range(together))))
        body.append(For(SPAN, r, const(-(-count // (self.num_threads * together))), LoopKind.SERIAL, step))
        return tile

    def each(self, tile: RegisterTile, shape: tuple[int, int], body: Any) -> Stmt:
        """A statement for each register of the tile that is no padding; for threads that hold it."""
        r = var("r")
        place = lower_layout(tile.layout, {REG: r, LANE: self.lane, WARP: self.warp})
        at = (place["d0"], place["d1"])
        inside = logical(Op.AND, at[0] < shape[0], at[1] < shape[1])
        inside = logical(Op.AND, inside, logical(Op.AND, self.lane < tile.layout.in_axis(LANE).extent, self.warp < tile.layout.in_axis(WARP).extent))
        return For(SPAN, r, const(tile.layout.in_axis(REG).extent), LoopKind.UNROLLED, If(SPAN, inside, body(r, at)))

    def fill(self, tile: RegisterTile, tensor: Buffer, shape: tuple[int, int]) -> Stmt:
        return self.each(tile, shape, lambda r, at: Store(SPAN, tile.buffer, (r,), load(tensor, at)))

    def drain(self, tile: RegisterTile, tensor: Buffer) -> Stmt:
        """Copies of an element write the same bits, each after the other."""
        owners = [digit for digit in tile.layout.replicated_digits()]
        condition: Expr = const(True)
        for digit in owners:
            for name, number in ((LANE, self.lane), (WARP, self.warp)):
                digits = tile.layout.in_digits(name)
                if digit in digits:
                    axis, position = tile.layout.in_axis(name), digit - digits.start
                    condition = logical(Op.AND, condition, binary(Op.EQ, number // axis.places[position] % axis.digits[position], const(0)))
        return self.each(tile, (self.m, self.n), lambda r, at: If(SPAN, condition, Store(SPAN, tensor, at, load(tile.buffer, (r,)))))

    # -- data
    def data(self, seed: int = 0) -> tuple[Any, Any, Any]:
        """Small integers, so that sums are exact in any order."""
        random = np.random.default_rng(seed)

        def elements(dtype: DType, shape: tuple[int, int]) -> Any:
            low = -3 if dtype.is_signed else 0
            return random.integers(low, 4, shape).astype(dtype.numpy)

        a, b, c = self.dtypes
        return elements(a, self.a_shape), elements(b, self.b_shape), elements(c, (self.m, self.n))

    def expected(self, a: Any, b: Any, c: Any, *, is_cleared: bool) -> Any:
        exact = np.int64 if self.dtypes[2].is_integer else np.float64
        left, right = a.astype(exact), b.astype(exact)
        product = (left.T if self.transpose_a else left) @ (right.T if self.transpose_b else right)
        return (product + (0 if is_cleared else c.astype(exact))).astype(self.dtypes[2].numpy)
