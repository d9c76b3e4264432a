"""Executes whole tile programs in numpy (floor 7). Slow and plain: what it computes is what a program means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tilewright.arith.evaluate import convert, evaluate
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Kind, fail
from tilewright.execution.arguments import bind_arguments, require_bound, result_array
from tilewright.execution.memory import Array, Memory, poison
from tilewright.ir.buffer import Buffer, Extent, Region, Scope
from tilewright.ir.expr import Expr
from tilewright.ir.only_on_gpus import refuse_foreign_code, refuse_waiting_blocks
from tilewright.ir.printer import print_stmt
from tilewright.ir.program import Launch, ParameterKind, Program
from tilewright.ir.stmt import (
    Assert,
    Assume,
    AtomicKind,
    AtomicUpdate,
    Barrier,
    BlockReduce,
    Break,
    Continue,
    For,
    If,
    Let,
    ParallelFor,
    Print,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    WarpExchange,
    While,
)
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import statements
from tilewright.reference.access import ElementAccess
from tilewright.reference.races import RaceDetector
from tilewright.reference.reduce import reduce_values
from tilewright.reference.threads import ThreadStatements

_REDUCE_CHUNK_ELEMENTS = 1 << 20
_REPEATABLE = frozenset({AtomicKind.MAX, AtomicKind.MIN, AtomicKind.AND, AtomicKind.OR, AtomicKind.EXCHANGE, AtomicKind.LOAD})


@dataclass(frozen=True)
class ReferenceOptions:
    """How a reference run goes.

    block_order        the order in which the blocks of a grid run, as flat numbers (x fastest) of that many blocks.
    initial            what unwritten elements hold, by dtype: two runs that differ only here show a program that reads them.
    is_detecting_races refuses parallel loops whose iterations disturb each other.
    max_turns          a `while` that turns more often than this is refused; a program that never ends must not hang its test.
    printer            takes the lines of T.print.
    """

    block_order: Callable[[int], Iterable[int]] = range
    initial: Callable[[DType], Any] = poison
    is_detecting_races: bool = True
    max_turns: int = 1_000_000
    printer: Callable[[str], None] = print


def run_reference(
    program: Program, arguments: Mapping[str, Any], options: ReferenceOptions | None = None, *, pointees: Sequence[Array] = ()
) -> dict[str, Array]:
    """Runs a program on copies of the arguments.

    arguments  by parameter name: arrays of the declared dtype (4-bit types one or two elements per byte), Python numbers for scalars,
               arrays or addresses for pointers, None for tensors that are not touched. Outputs may be left out.
    pointees   more arrays whose addresses stand in tensors of pointers.
    Gives every tensor parameter's elements afterwards, by name, in the form in which they were passed.
    Raises TileError for arguments that do not fit, failed asserts, indices outside tiles, races, barriers that some threads of a block miss, foreign code.
    """
    refuse_foreign_code(program, "the reference")
    refuse_waiting_blocks(program, "the reference")
    with np.errstate(all="ignore"):
        return _Interpreter(program, arguments, options or ReferenceOptions(), pointees).run()


@lru_cache(maxsize=1024)
def _written_roots(stmt: Stmt) -> frozenset[Buffer]:
    return frozenset(s.buffer.storage for s in statements(stmt) if isinstance(s, (Store, AtomicUpdate)))


@lru_cache(maxsize=1024)
def _stored_roots(stmt: Stmt) -> frozenset[Buffer]:
    return frozenset(s.buffer.storage for s in statements(stmt) if isinstance(s, Store))


def _is_only_a_loop(body: Stmt) -> bool:
    """Whether a parallel loop's body is another one and nothing else: the two are one loop over a larger box."""
    return isinstance(body, ParallelFor) or (isinstance(body, Seq) and len(body.body) == 1 and _is_only_a_loop(body.body[0]))


class _Interpreter(ThreadStatements):
    """One run. Also the environment of the tile operations' references."""

    def __init__(self, program: Program, arguments: Mapping[str, Any], options: ReferenceOptions, pointees: Sequence[Array]) -> None:
        self._program, self._options = program, options
        self._init_threads()
        self._bound = bind_arguments(program, arguments, pointees)
        self._variables: dict[Expr, Any] = dict(self._bound.values)
        self._safe_values: dict[Buffer, Any] = {}
        self._memory = Memory(self._integer, self._bound.pointee, options.initial)
        self._access = ElementAccess(self._memory, RaceDetector() if options.is_detecting_races else None, self.safe_value)
        self._mask: Array = np.asarray(True)
        self._broken: list[Array] = []  # per open loop: the lanes that left it in this turn
        self._thread_count = 1

    def run(self) -> dict[str, Array]:
        tensors = [(p, p.buffer) for p in self._program.parameters if p.kind is ParameterKind.TENSOR and p.buffer is not None]
        outputs = [b for p, b in tensors if p.is_output and b not in self._bound.storages]
        for buffer, storage in self._bound.storages.items():
            self._memory.bind(buffer, storage)
        self._memory.allocate([*outputs, *self._program.workspaces])
        for check in self._program.checks:
            if not self.value(check.condition):
                fail(Kind.HOST_ASSERT, check.message or f"`{check.condition}` does not hold", check.span, because="the kernel asserts this when it is called")
        for launch in self._program.launches:
            self._launch(launch)
        return {p.name: result_array(p, self._memory.array(b), self._bound) for p, b in tensors if self._memory.is_bound(b)}

    def _launch(self, launch: Launch) -> None:
        grid = tuple(self._integer(n) for n in launch.grid)
        if min(grid, default=1) <= 0:
            return
        self._thread_count = math.prod(launch.threads)
        for block in self._options.block_order(math.prod(grid)):
            for variable, place in zip(launch.block_variables, np.unravel_index(block, grid, order="F"), strict=True):
                self._variables[variable] = variable.dtype.numpy.type(place)
            self._safe_values = {b: convert(np.asarray(self.value(v)), v.dtype, b.dtype.scalar)[()] for b, v in launch.safe_values}
            self._memory.allocate(launch.buffers)
            if launch.is_thread_level:
                self._enter_threads(launch)
            self._execute(launch.body)
            self._leave_threads()
        self._memory.release(launch.buffers)

    # -- the environment of tile operations
    def value(self, expression: Expr) -> Any:
        return self._evaluate(expression)[()]

    def array(self, buffer: Buffer) -> Array:
        return self._memory.array(buffer, self._access.span)

    def safe_value(self, buffer: Buffer) -> Any:
        found = self._safe_values.get(buffer, self._safe_values.get(buffer.storage))
        return np.zeros((), buffer.dtype.numpy)[()] if found is None or found.dtype != buffer.dtype.numpy else found

    def convert(self, values: Array, source: DType, target: DType) -> Array:
        return convert(values, source, target)

    def box(self, region: Region) -> tuple[tuple[int, int], ...]:
        return tuple((self._integer(s), self._integer(n)) for s, n in zip(region.starts, region.extents, strict=True))

    # -- expressions
    def _evaluate(self, expression: Expr, mask: Array | None = None) -> Array:
        return evaluate(expression, self._variables, self._access.load, mask=self._mask if mask is None else mask)

    def _integer(self, extent: Extent) -> int:
        if isinstance(extent, int) or extent.is_const:
            return int(extent if isinstance(extent, int) else extent.value)
        require_bound(extent, self._variables)
        return int(self._evaluate(extent))

    def _greatest(self, values: Array) -> int:
        """The greatest value among active lanes."""
        values, mask = np.broadcast_arrays(values, self._mask)
        return int(values[mask].max())

    # -- statements
    def _execute(self, stmt: Stmt) -> None:
        self._access.span = stmt.span
        match stmt:
            case Seq():
                for inner in stmt.body:
                    if not self._mask.any():
                        return
                    self._execute(inner)
            case TileOp() | ParallelFor() if self._is_in_threads:
                self._block_statement(stmt, self)
            case TileOp():
                if self._access.shape:
                    raise CompilerBug(f"the tile operation {print_stmt(stmt)} stands inside a parallel loop")
                stmt.reference(self)
            case For():
                self._for(stmt)
            case ParallelFor():
                self._parallel_for(stmt)
            case If():
                self._if(stmt)
            case While():
                self._while(stmt)
            case Break():
                self._broken[-1] = self._broken[-1] | self._mask
                self._mask = np.zeros_like(self._mask)
            case Continue():
                self._mask = np.zeros_like(self._mask)
            case Let():
                self._variables[stmt.variable] = self._evaluate(stmt.value)
                if self._is_in_threads:
                    self._made_by[stmt.variable] = np.broadcast_to(self._mask, self._access.shape)
            case Store():
                indices = tuple(self._evaluate(i) for i in stmt.indices)
                self._access.store(stmt.buffer, indices, self._stored_value(stmt.buffer, stmt.value), self._mask)
            case AtomicUpdate():
                self._atomic_update(stmt)
            case ReduceLoop():
                self._variables[stmt.result] = self._reduce_loop(stmt)
            case Barrier():
                self._barrier(stmt)
            case WarpExchange():
                self._exchange(stmt)
            case BlockReduce():
                self._block_reduce(stmt)
            case Print():
                self._print(stmt)
            case Assert():
                if (self._mask & ~self._evaluate(stmt.condition)).any():
                    fail(Kind.DEVICE_ASSERT, stmt.message or f"`{stmt.condition}` does not hold", stmt.span, because="the kernel asserts this where it runs")
            case Assume():
                pass
            case _:
                raise CompilerBug(f"the reference has no meaning for {type(stmt).__name__}")

    def _stored_value(self, buffer: Buffer, value: Expr) -> Array:
        if value.dtype.numpy != buffer.dtype.numpy:
            raise CompilerBug(f"a {value.dtype!s} is stored into {buffer.name}, which is {buffer.dtype!s}")
        return self._evaluate(value)

    def _if(self, stmt: If) -> None:
        outer = self._mask
        condition = self._evaluate(stmt.condition)
        left = []
        for body, taken in ((stmt.then_body, condition), (stmt.else_body, ~condition)):
            self._mask = outer & taken
            if body is not None and self._mask.any():
                self._execute(body)
            left.append(self._mask)
        self._mask = left[0] | left[1]

    def _turn(self, body: Stmt) -> Array:
        """One turn of a serial loop for the lanes in the mask; gives the lanes that broke out of the loop."""
        self._broken.append(np.asarray(False))
        self._execute(body)
        return self._broken.pop()

    def _for(self, stmt: For) -> None:
        entered = running = self._mask
        extent = self._evaluate(stmt.extent)
        kind = stmt.variable.dtype.numpy.type
        for turn in range(self._greatest(extent)):
            self._mask = running if extent.ndim == 0 else running & (turn < extent)
            if not self._mask.any():
                break
            self._variables[stmt.variable] = kind(turn)
            running = running & ~self._turn(stmt.body)
        self._mask = entered

    def _while(self, stmt: While) -> None:
        entered = running = self._mask
        turns = 0
        while True:
            self._mask = running
            self._access.span = stmt.span
            running = running & self._evaluate(stmt.condition)
            if not running.any():
                break
            if turns == self._options.max_turns:
                fail(
                    Kind.DEVICE_ASSERT,
                    f"this loop has not ended after {turns} turns",
                    stmt.span,
                    because="the reference gives up on loops that seem endless",
                    help="raise ReferenceOptions.max_turns where the loop does end",
                )
            turns += 1
            self._mask = running
            running = running & ~self._turn(stmt.body)
        self._mask = entered

    def _parallel_for(self, stmt: ParallelFor) -> None:
        outer_mask, outer_shape = self._mask, self._access.shape
        rank = len(stmt.variables) + len(outer_shape)
        sizes: tuple[int, ...] = ()
        for axis, (variable, bound) in enumerate(zip(stmt.variables, stmt.extents, strict=True)):
            extent = self._evaluate(bound)  # may depend on the variables before it
            size = self._greatest(extent)
            if size <= 0:
                self._mask = outer_mask
                return
            places = np.arange(size, dtype=variable.dtype.numpy).reshape(-1, *(1,) * (rank - axis - 1))
            self._variables[variable] = places
            self._mask = self._mask & (places < extent) if extent.ndim else self._mask
            sizes = (*sizes, size)
        shape = sizes + outer_shape
        before = self._access.spread(shape, sorted(_stored_roots(stmt), key=lambda b: b.name))
        races = self._access.races
        if races is None or races.is_watching or _is_only_a_loop(stmt.body):
            self._execute(stmt.body)
        else:
            races.enter(_written_roots(stmt), shape)
            self._execute(stmt.body)
            races.leave()
        self._access.unite(outer_shape, before)
        self._mask = outer_mask

    def _atomic_update(self, stmt: AtomicUpdate) -> None:
        is_per_thread = not self._access.shape and stmt.buffer.scope in (Scope.GLOBAL, Scope.SHARED) and stmt.kind not in _REPEATABLE
        repeat = self._thread_count if is_per_thread else 1
        differs_by_thread = not self._access.shape and self._thread_count > 1 and stmt.kind is not AtomicKind.LOAD
        if stmt.previous is not None and differs_by_thread:
            fail(
                Kind.THREAD_LEVEL,
                f"every thread gets another value back from this atomic on {stmt.buffer.name}",
                stmt.span,
                because="a statement outside T.Parallel runs once per thread of the block",
                help="move it into T.Parallel(1), or launch one thread",
            )
        indices = tuple(self._evaluate(i) for i in stmt.indices)
        value = self._stored_value(stmt.buffer, stmt.value)
        previous = self._access.update(stmt.kind, stmt.buffer, indices, value, self._mask, repeat)
        if stmt.previous is not None:
            self._variables[stmt.previous] = previous

    def _reduce_loop(self, stmt: ReduceLoop) -> Array:
        extent, initial = self._evaluate(stmt.extent), self._evaluate(stmt.initial)
        rank, count = len(self._access.shape), self._greatest(extent)
        step = max(1, _REDUCE_CHUNK_ELEMENTS // max(1, math.prod(self._access.shape)))

        def chunks() -> Any:
            for begin in range(0, count, step):
                places = np.arange(begin, min(begin + step, count), dtype=stmt.axis.dtype.numpy).reshape(-1, *(1,) * rank)
                mask = self._mask & (places < extent)
                self._variables[stmt.axis] = places
                yield self._evaluate(stmt.value, mask), mask

        return reduce_values(stmt.kind, stmt.result.dtype, initial, chunks())

    def _print(self, stmt: Print) -> None:
        values = [np.broadcast_to(self._evaluate(v), self._access.shape) for v in stmt.values]
        for lane in np.argwhere(np.broadcast_to(self._mask, self._access.shape)):
            parts = [stmt.message, *(str(v[tuple(lane)]) for v in values)]
            if stmt.buffer is not None:
                parts.append(f"{stmt.buffer.name} = {self._access.lane_copy(stmt.buffer, tuple(lane))}")
            self._options.printer(" ".join(p for p in parts if p))


__all__ = ["ReferenceOptions", "run_reference"]
