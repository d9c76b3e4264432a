"""What a program costs on paper (floor 9): operations and bytes counted in the traced program, and the time that a machine needs at least."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewright.arith.evaluate import evaluate
from tilewright.driver import resolve_target
from tilewright.dtypes import DType
from tilewright.errors import Kind, fail
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import COMPARISONS, LOGICAL, Expr, Op, describe_operand
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import AtomicUpdate, For, If, Let, ParallelFor, Seq, Stmt, Store, While
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import own_expressions, subexpressions
from tilewright.kernel import Kernel
from tilewright.language.function import PrimFunc
from tilewright.ops.atomic import AtomicTile
from tilewright.ops.gemm import Gemm
from tilewright.ops.reduce import Reduce
from tilewright.ops.scan import Scan
from tilewright.spans import span_of_caller
from tilewright.target.machine import Machine, machine_of
from tilewright.target.simulated import SimulatedTarget

_SAMPLED_BLOCKS = 64
_FREE = frozenset({Op.CONST, Op.VAR, Op.LOAD, Op.CAST, Op.REINTERPRET, Op.SELECT, Op.IF_THEN_ELSE}) | COMPARISONS | LOGICAL


@dataclass(frozen=True)
class AnalysisResult:
    """The costs of one call.

    total_flops             operations on floats, and all of matrix products; a multiply-add is two.
    total_global_bytes      read from and written to tensors by the blocks, from a cache or from memory.
    estimated_time          seconds, at least: those of the operations, or of reading and writing each tensor once, whichever takes longer.
    expected_tflops, expected_bandwidth_GBps   what a run of that time reaches, of operations and of the bytes that have to come from memory.
    is_exact                False where a loop's length is read from memory: it counts as one turn.
    """

    total_flops: int
    total_global_bytes: int
    estimated_time: float
    expected_tflops: float
    expected_bandwidth_GBps: float
    is_exact: bool = True


@dataclass
class _Costs:
    """flops by dtype and by whether they are a matrix product's; tensors that are read, and those that are written."""

    flops: dict[tuple[DType, bool], float] = field(default_factory=dict)
    bytes: float = 0.0
    tensors: set[tuple[Buffer, bool]] = field(default_factory=set)
    is_exact: bool = True

    def touch(self, buffer: Buffer, is_written: bool, elements: float) -> None:
        """Counts bytes of a global tensor."""
        if buffer.scope is Scope.GLOBAL:
            self.bytes += elements * buffer.dtype.storage_bits / 8
            self.tensors.add((buffer.storage, is_written))

    @property
    def compulsory_bytes(self) -> float:
        """Those that no cache saves: each tensor once."""
        sizes = [math.prod(n if isinstance(n, int) else math.inf for n in buffer.shape) * buffer.dtype.storage_bits / 8 for buffer, _ in self.tensors]
        return min(self.bytes, sum(sizes))

    def add(self, dtype: DType, is_product: bool, count: float) -> None:
        self.flops[dtype, is_product] = self.flops.get((dtype, is_product), 0.0) + count


class Analyzer:
    """`Analyzer.analysis(fn, device)`."""

    @staticmethod
    def analysis(fn: Any, device: Any = None) -> AnalysisResult:
        """Counts the operations and bytes of a `PrimFunc` or a kernel, and estimates its time.

        device   an architecture of `tilewright.carver.arch`, or a target as `tilewright.compile` takes it; None is the CPU of this machine.

        Raises TileError: not-a-prim-func for anything else, unbound-symbol for sizes that only a call knows.
        """
        prim_func = fn.prim_func if isinstance(fn, Kernel) else fn
        if not isinstance(prim_func, PrimFunc):
            fail(
                Kind.NOT_A_PRIM_FUNC,
                f"Analyzer.analysis was given {describe_operand(fn)}",
                span_of_caller(),
                because="it counts the statements of a function decorated with @T.prim_func, or of a kernel",
                help="pass the prim_func, or the kernel that tilewright.compile made of it",
            )
        machine, costs = _machine(device), count_costs(prim_func.program)
        total = sum(costs.flops.values())
        seconds = sum(count / machine.peak_flops(dtype, is_product) for (dtype, is_product), count in costs.flops.items())
        seconds = max(seconds, costs.compulsory_bytes / machine.bandwidth_bytes_per_s)
        rate = 1.0 / seconds if seconds else 0.0
        return AnalysisResult(round(total), round(costs.bytes), seconds, total * rate * 1e-12, costs.compulsory_bytes * rate * 1e-9, costs.is_exact)


def _machine(device: Any) -> Machine:
    known = getattr(device, "machine", None)
    if isinstance(known, Machine):
        return known
    target = resolve_target(device)
    return machine_of(target.nvidia if isinstance(target, SimulatedTarget) else target)


def count_costs(program: Program) -> _Costs:
    """The costs of all launches. Raises TileError (unbound-symbol) where the grid is known to a call alone."""
    costs = _Costs()
    for launch in program.launches:
        grid = [_extent(extent, {}) for extent in launch.grid]
        if None in grid:
            fail(
                Kind.UNBOUND_SYMBOL,
                f"the grid of {program.name} depends on a size that only a call knows",
                launch.span,
                because="operations and bytes are counted for fixed sizes",
                help="trace the program with ints in place of T.dynamic",
            )
        _count_launch(launch, [n or 0 for n in grid], costs)
    return costs


def _count_launch(launch: Launch, grid: list[int], costs: _Costs) -> None:
    """Blocks may differ (a causal mask ends their loops): a few of them, evenly spread, stand for all."""
    blocks = math.prod(max(n, 0) for n in grid)
    sampled = np.unique(np.linspace(0, blocks - 1, min(blocks, _SAMPLED_BLOCKS)).astype(np.int64)) if blocks else ()
    for block in sampled:
        position, values = int(block), dict[Expr, int]()
        for variable, extent in zip(launch.block_variables, grid, strict=True):
            values[variable], position = position % extent, position // extent
        values |= {variable: 0 for variable in launch.thread_variables}
        _count(launch.body, blocks / len(sampled), values, costs)


def _extent(value: Any, values: Mapping[Expr, int]) -> int | None:
    """A size as a number; None where memory or a caller knows it."""
    if isinstance(value, int):
        return value
    for node in subexpressions(value):
        if node.op is Op.LOAD or (node.op is Op.VAR and node not in values):
            return None
    return int(evaluate(value, values, lambda buffer, indices, mask: np.zeros(())))


def _turns(extents: tuple[Any, ...], variables: tuple[Expr, ...], values: dict[Expr, int], costs: _Costs) -> float:
    """How often a loop nest turns; its variables stand at the middle turn afterwards."""
    turns = 1.0
    for extent, variable in zip(extents, variables, strict=True):
        count = _extent(extent, values)
        if count is None:
            costs.is_exact, count = False, 1
        turns *= max(count, 0)
        values[variable] = max(count - 1, 0) // 2
    return turns


def _count(stmt: Stmt, weight: float, values: dict[Expr, int], costs: _Costs) -> None:
    match stmt:
        case Seq():
            for inner in stmt.body:
                _count(inner, weight, values, costs)
            return
        case For():
            turns = _turns((stmt.extent,), (stmt.variable,), values, costs)
            _count(stmt.body, weight * turns, values, costs)
            return
        case ParallelFor():
            turns = _turns(stmt.extents, stmt.variables, values, costs)
            _count(stmt.body, weight * turns, values, costs)
            return
        case If():
            known = _extent(stmt.condition, values)
            if known is None or known:
                _count(stmt.then_body, weight, values, costs)
            elif stmt.else_body is not None:
                _count(stmt.else_body, weight, values, costs)
            return
        case While():
            costs.is_exact = False
            _count(stmt.body, weight, values, costs)
            return
        case Let():
            known = _extent(stmt.value, values) if stmt.value.dtype.is_integer and stmt.value.dtype.lanes == 1 else None
            if known is not None:
                values[stmt.variable] = known
        case TileOp():
            _count_operation(stmt, weight, values, costs)
        case Store() | AtomicUpdate():
            costs.touch(stmt.buffer, True, weight)
            if isinstance(stmt, AtomicUpdate):
                costs.touch(stmt.buffer, False, weight)
                costs.add(stmt.buffer.dtype.scalar, False, weight)
    _count_expressions(stmt, weight, costs)


def _count_expressions(stmt: Stmt, weight: float, costs: _Costs) -> None:
    seen: set[Expr] = set()
    for root in own_expressions(stmt):
        for node in subexpressions(root):
            if node in seen:
                continue
            seen.add(node)
            if node.op is Op.LOAD:
                costs.touch(node.buffer, False, weight)
            elif node.op not in _FREE and node.dtype.is_float:
                costs.add(node.dtype.scalar, False, weight * node.dtype.lanes)


def _count_operation(stmt: TileOp, weight: float, values: Mapping[Expr, int], costs: _Costs) -> None:
    effects = stmt.effects()
    for region in (*effects.reads, *(effects.writes if isinstance(stmt, AtomicTile) else ())):
        costs.touch(region.buffer, False, weight * _elements(region, values, costs))
    for region in effects.writes:
        costs.touch(region.buffer, True, weight * _elements(region, values, costs))
    match stmt:
        case Gemm():
            m, n, k = stmt.m_n_k
            costs.add(stmt.a.dtype, True, 2.0 * m * n * k * weight)
        case Reduce() | Scan():
            costs.add(effects.reads[0].dtype, False, weight * _elements(effects.reads[0], values, costs))
        case AtomicTile():
            costs.add(stmt.dst.dtype, False, weight * _elements(stmt.dst, values, costs))


def _elements(region: Region, values: Mapping[Expr, int], costs: _Costs) -> int:
    """Those inside the buffer: copies are clipped there."""
    total = 1
    for start, extent, size in zip(region.starts, region.extents, region.buffer.shape, strict=True):
        first, count, limit = _extent(start, values), _extent(extent, values), _extent(size, values)
        if count is None:
            costs.is_exact, count = False, 1
        if first is not None and limit is not None:
            count = min(first + count, limit) - max(first, 0)
        total *= max(count, 0)
    return total
