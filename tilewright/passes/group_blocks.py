"""Runs neighbouring blocks together, step by step (floor 5), so that they share the operands that they have in common.

Blocks of a launch are independent, so their statements may be interleaved. One task then does a rectangle of blocks in lockstep: for every step of
the reduction loop the operand of a column of blocks is packed once and used by all rows of the rectangle. Tiles that differ between the blocks get one
copy per block; what is the same for a whole row or column is computed once for it. Steps that belong to one block each, one behind the other, are run for
one block before the next: what they hand on stays in the first-level cache, and a tile that lives no longer than that needs no copies.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tilewright.arith.linear import Linearizer
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op, binary, ceildiv, const, load, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Assert, AtomicUpdate, For, If, Let, LoopKind, ParallelFor, Print, ReduceLoop, Seq, Stmt, Store
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import own_expressions, rewrite, rewrite_expr, statements, subexpressions
from tilewright.ops.copy import Copy
from tilewright.ops.fill import Fill
from tilewright.ops.gemm import Gemm
from tilewright.ops.operand import same_extent
from tilewright.ops.reduce import Reduce
from tilewright.passes.accesses import flat
from tilewright.passes.context import PassContext
from tilewright.passes.plan_tiles import is_unit
from tilewright.passes.walk import buffers_of, fills_whole, may_leave_loop, viewed_tiles

# Rows and columns of a group: as large as the packed operand of one step (256 deep) fits a second-level cache. Measured at 1024 and 2048.
_GROUP_ELEMENTS = 512
# Where the second operand is read in place, a group is so wide that each of its rows is a run of memory this long: shorter runs cost bandwidth
# (half as long 0.8, a quarter 0.6 of it), longer ones gain a tenth but leave threads without work.
_RUN_BYTES = 8 * 1024
# Fewer tasks than this leave threads idle at the end of a launch.
_LEAST_TASKS = 8


def group_blocks(program: Program, context: PassContext) -> Program:
    """Groups the blocks of launches that multiply staged tiles."""
    return dataclasses.replace(program, launches=tuple(_group_launch(launch, context) for launch in program.launches))


def _group_launch(launch: Launch, context: PassContext) -> Launch:
    if not _is_groupable(launch):
        return launch
    sizes = _sizes(launch)
    if not sizes:
        return launch
    made = _Grouping(launch, sizes).launch()
    shape = " x ".join(str(sizes.get(v, 1)) for v in launch.block_variables)
    context.remark(launch.span, f"blocks run in groups of {shape}, which share their operands")
    return made


def _is_groupable(launch: Launch) -> bool:
    """Nothing that a statement names is used by another one but tiles, and every tile operation can be given a leading axis."""
    if launch.cluster != (1, 1, 1) or viewed_tiles(launch) or not isinstance(launch.body, Seq):
        return False
    if any(isinstance(stmt, TileOp) and not isinstance(stmt, (Copy, Fill, Gemm, Reduce)) for stmt in statements(launch.body)):
        return False
    if any(_variables_of(value, launch.block_variables) for _, value in launch.safe_values):
        return False
    units = list(_units(launch.body))
    return any(isinstance(u, Gemm) for u in units) and not any(
        isinstance(u, (Let, ReduceLoop)) or (isinstance(u, AtomicUpdate) and u.previous is not None) or may_leave_loop(u) for u in units
    )


def _is_stepped(stmt: Stmt) -> bool:
    """A loop of the block's own level that is run in lockstep: its body is a sequence of units."""
    return isinstance(stmt, For) and any(isinstance(s, Gemm) for s in _sequence(stmt.body))


def _sequence(stmt: Stmt) -> tuple[Stmt, ...]:
    return stmt.body if isinstance(stmt, Seq) else (stmt,)


def _units(body: Stmt) -> Iterable[Stmt]:
    """The statements that are run for one block after the other."""
    for stmt in _sequence(body):
        if _is_stepped(stmt):
            assert isinstance(stmt, For)
            yield from _sequence(stmt.body)
        else:
            yield stmt


def _variables(stmt: Stmt, among: Iterable[Expr]) -> set[Expr]:
    wanted = set(among)
    return {n for s in statements(stmt) for e in own_expressions(s) for n in subexpressions(e) if n.op is Op.VAR and n in wanted}


def _sizes(launch: Launch) -> dict[Expr, int]:
    """Blocks per group along each grid axis; empty where grouping shares nothing."""
    extents = dict(zip(launch.block_variables, launch.grid, strict=True))
    loops = [s for s in _sequence(launch.body) if _is_stepped(s)]
    if any(_variables_of(loop.extent, extents) for loop in loops if isinstance(loop, For)):
        return {}
    streamed = [u for loop in loops if isinstance(loop, For) for u in _sequence(loop.body) if isinstance(u, Gemm) and u.is_streamed]
    variance = _Grouping(launch, dict.fromkeys(extents, 2)).variance
    if streamed:
        return _run_sizes(streamed, variance, extents)
    tiles: dict[Expr, int] = {}
    shared: set[Expr] = set()
    for stmt in (u for loop in loops if isinstance(loop, For) for u in _sequence(loop.body)):
        if isinstance(stmt, Gemm):
            rows, columns, _ = stmt.m_n_k
            operands = [_operand_variables(region, variance, extents) for region in (stmt.a, stmt.b)]
            for found, size in zip(operands, (rows, columns), strict=True):
                for variable in (v for v in extents if v in found):
                    tiles[variable] = min(tiles.get(variable, size), size)
            shared |= operands[0] ^ operands[1]
    copies = [u for loop in loops if isinstance(loop, For) for u in _sequence(loop.body) if isinstance(u, Copy)]
    # Blocks that have an operand in common, and a copy of it to share: one along one axis, for which all copies are made again along the other one.
    shared = {v for v in shared if len(shared) > 1 or any(not _variables(copy, (v,)) for copy in copies)}
    if not shared or not copies:
        return {}
    sizes = {v: max(1, min(_GROUP_ELEMENTS // size, _extent_limit(extents[v]))) for v, size in tiles.items() if v in shared}
    order = {v: k for k, v in enumerate(extents)}
    counts = [e.value for e in extents.values() if e.is_const]
    if len(counts) == len(extents):
        while math.prod(sizes.values()) > 1 and math.prod(-(-extents[v].value // sizes.get(v, 1)) for v in extents) < _LEAST_TASKS:
            # Halve the axis along which nothing is packed again first: the first operand is usually read in place.
            largest = max(sizes, key=lambda v: (sizes[v], order[v]))
            sizes[largest] = max(1, sizes[largest] // 2)
    return sizes if math.prod(sizes.values()) > 1 else {}


def _run_sizes(streamed: list[Gemm], variance: Mapping[Buffer, frozenset[Expr]], extents: Mapping[Expr, Expr]) -> dict[Expr, int]:
    """Blocks per group where operands are read in place: neighbours along the contiguous axis; empty where there are none."""
    variables = {_column_variable(g, extents) for g in streamed}
    variable = variables.pop() if len(variables) == 1 else None
    if variable is None or not all(_lies_side_by_side(g, variable, variance) for g in streamed):
        return {}
    run_bytes = min(g.m_n_k[1] * g.b.dtype.itemsize for g in streamed)
    size = min(_RUN_BYTES // run_bytes, _extent_limit(extents[variable]))
    return {variable: size} if size > 1 else {}


def _column_axis(product: Gemm) -> int:
    """The axis of a streamed operand along which the columns of the product lie."""
    return product.b.buffer.rank - (2 if product.transpose_b else 1)


def _column_variable(product: Gemm, among: Iterable[Expr]) -> Expr | None:
    """The block variable that moves the product by its own width and nothing else; None where there is no such one."""
    at = product.b.starts[_column_axis(product)]
    others = [e for e in own_expressions(product) if e is not at]
    for variable in _variables_of(at, among):
        split = Linearizer(is_expanding=True)
        parts = split.split(split.form(at), variable)
        is_apart = not any(_variables_of(e, (variable,)) for e in others)
        if is_apart and parts is not None and parts[0].is_constant and parts[0].constant == product.m_n_k[1]:
            return variable
    return None


def _lies_side_by_side(product: Gemm, axis: Expr, variance: Mapping[Buffer, frozenset[Expr]]) -> bool:
    """Whether the blocks along an axis multiply one and the same operand by neighbouring columns, each into a tile of its own."""
    return (
        axis in variance.get(product.c.buffer, frozenset())
        and axis not in variance.get(product.a.buffer, frozenset())
        and _column_variable(product, (axis,)) is axis
        and is_unit(product.b.buffer.element_strides()[_column_axis(product)])
    )


def _extent_limit(extent: Expr) -> int:
    return max(1, int(extent.value)) if extent.is_const else _GROUP_ELEMENTS


def _variables_of(expression: Expr, among: Iterable[Expr]) -> set[Expr]:
    wanted = set(among)
    return {n for n in subexpressions(expression) if n.op is Op.VAR and n in wanted}


def _operand_variables(region: Region, variance: Mapping[Buffer, frozenset[Expr]], extents: Mapping[Expr, Expr]) -> set[Expr]:
    """Block variables that an operand depends on: by its own place, or by what its tile holds."""
    return {v for s in region.starts for v in _variables_of(s, extents)} | variance.get(region.buffer, frozenset())


@dataclass(frozen=True, eq=False)
class _Run:
    """Units that each block of a group runs for itself along the axes, one behind the other."""

    axes: frozenset[Expr]
    units: list[Stmt]


def _fills(unit: Stmt, tile: Buffer) -> bool:
    """Whether a unit gives every element of a tile a value without reading the tile."""
    match unit:
        case Gemm():
            return unit.c.buffer is tile and unit.c.is_whole and tile not in (unit.a.buffer, unit.b.buffer) and bool(unit.clear.is_const and unit.clear.value)
        case Fill():
            return unit.dst.buffer is tile and unit.dst.is_whole
        case Copy():
            return unit.dst.buffer is tile and unit.src.buffer is not tile and fills_whole(unit)
        case ParallelFor():
            (store,) = parts if len(parts := flat(unit.body)) == 1 else (None,)
            if not isinstance(store, Store) or store.buffer is not tile or len(store.indices) != len(unit.variables):
                return False
            is_whole = all(i is v and same_extent(e, n) for i, v, e, n in zip(store.indices, unit.variables, unit.extents, tile.shape, strict=True))
            return is_whole and not any(e.op is Op.LOAD and e.buffer is tile for e in subexpressions(store.value))
    return False


class _Grouping:
    """The rewriting of one launch."""

    def __init__(self, launch: Launch, sizes: Mapping[Expr, int]) -> None:
        self.old = launch
        self.axes = tuple(v for v in launch.block_variables if sizes.get(v, 1) > 1)
        self.sizes = {v: sizes[v] for v in self.axes}
        self.extents = dict(zip(launch.block_variables, launch.grid, strict=True))
        self.outer = {v: var(v.name, v.dtype) for v in self.axes}
        self.variance = self._variance()
        self.runs = {stmt: self._runs(_sequence(stmt.body)) for stmt in _sequence(launch.body) if isinstance(stmt, For) and _is_stepped(stmt)}
        for buffer in self._passing():
            self.variance[buffer] = frozenset()
        self.expanded = {b: self._expand(b) for b in launch.buffers}

    def launch(self) -> Launch:
        body: list[Stmt] = []
        for stmt in _sequence(self.old.body):
            if _is_stepped(stmt):
                assert isinstance(stmt, For)
                body.append(dataclasses.replace(stmt, body=Seq(stmt.span, tuple(map(self._run, self.runs[stmt])))))
            else:
                body.append(self._run(_Run(self._axes(stmt), [stmt])))
        grid = tuple(ceildiv(e, const(self.sizes[v], e.dtype)) if v in self.sizes else e for v, e in self.extents.items())
        variables = tuple(self.outer.get(v, v) for v in self.old.block_variables)
        return dataclasses.replace(
            self.old, grid=grid, block_variables=variables, body=Seq(self.old.body.span, tuple(body)), buffers=tuple(self.expanded[b] for b in self.old.buffers)
        )

    # -- which blocks of a group have tiles and statements of their own
    def _variance(self) -> dict[Buffer, frozenset[Expr]]:
        known: dict[Buffer, frozenset[Expr]] = {b: frozenset() for b in self.old.buffers}
        changed = True
        while changed:
            changed = False
            for unit in _units(self.old.body):
                axes = self._depends(unit, known)
                for buffer in self._written(unit):
                    if buffer in known and not axes <= known[buffer]:
                        known[buffer] |= axes
                        changed = True
        return known

    def _depends(self, unit: Stmt, known: Mapping[Buffer, frozenset[Expr]]) -> frozenset[Expr]:
        axes = frozenset(_variables(unit, self.axes))
        for stmt in statements(unit):
            for buffer in buffers_of(stmt):
                axes |= known.get(buffer, frozenset())
        has_outside_effect = any(b.storage.scope is Scope.GLOBAL for b in self._written(unit)) or any(isinstance(s, (Print, Assert)) for s in statements(unit))
        return frozenset(self.axes) if has_outside_effect else axes

    @staticmethod
    def _written(unit: Stmt) -> list[Buffer]:
        found: list[Buffer] = []
        for stmt in statements(unit):
            if isinstance(stmt, TileOp):
                found += [r.buffer for r in stmt.effects().writes]
            elif isinstance(stmt, (Store, AtomicUpdate)):
                found.append(stmt.buffer)
        return found

    def _expand(self, buffer: Buffer) -> Buffer:
        leading = tuple(self.sizes[v] for v in self.axes if v in self.variance[buffer])
        return dataclasses.replace(buffer, shape=(*leading, *buffer.shape)) if leading else buffer

    def _axes(self, unit: Stmt) -> frozenset[Expr]:
        """The axes along which every block of a group runs a unit for itself."""
        return self._depends(unit, self.variance).union(*(self.variance.get(b, frozenset()) for b in self._written(unit)))

    # -- units that are run one behind the other for the same block
    def _runs(self, units: Iterable[Stmt]) -> list[_Run]:
        """Neighbours with the same axes together; what all blocks share goes in front of them where they do not make it."""
        runs: list[_Run] = []
        for unit in units:
            axes = self._axes(unit)
            last = runs[-1] if runs else None
            is_single = any(isinstance(u, Gemm) and u.is_streamed for u in (unit, *(last.units if last is not None else ())))
            if last is not None and axes and axes == last.axes and not is_single:
                last.units.append(unit)
            elif last is not None and last.axes and not axes and all(map(self._is_apart, last.units, itertools.repeat(unit))):
                runs.insert(len(runs) - 1, _Run(axes, [unit]))
            else:
                runs.append(_Run(axes, [unit]))
        return runs

    def _is_apart(self, first: Stmt, second: Stmt) -> bool:
        """Whether two units may change places."""
        written = [{b.storage for b in self._written(u)} for u in (first, second)]
        touched = [{b.storage for s in statements(u) for b in buffers_of(s)} for u in (first, second)]
        has_effect = any(isinstance(s, (Print, Assert)) for u in (first, second) for s in statements(u))
        return not has_effect and written[0].isdisjoint(touched[1]) and written[1].isdisjoint(touched[0])

    def _passing(self) -> set[Buffer]:
        """Tiles that a block fills whole in a run, before it reads them, and that nothing outside of that run uses."""
        users: dict[Buffer, list[tuple[int, Stmt]]] = {}
        runs = [run for loop in self.runs.values() for run in loop]
        outside = [_Run(frozenset(), [stmt]) for stmt in _sequence(self.old.body) if stmt not in self.runs]
        for number, run in enumerate((*runs, *outside)):
            for unit in run.units:
                for buffer in {b for s in statements(unit) for b in buffers_of(s)}:
                    users.setdefault(buffer, []).append((number, unit))
        return {
            buffer
            for buffer, found in users.items()
            if buffer in self.variance and len({number for number, _ in found}) == 1 and found[0][0] < len(runs) and _fills(found[0][1], buffer)
        }

    # -- rewriting
    def _run(self, run: _Run) -> Stmt:
        """The statements for every block of the group that has them for itself; the first axis of the grid is the outer loop."""
        axes, unit = run.axes, run.units[0]
        if isinstance(unit, Gemm) and unit.is_streamed and len(self.axes) == 1 and _lies_side_by_side(unit, self.axes[0], self.variance):
            return self._side_by_side(unit)
        inner = {v: var(f"{v.name}_in_group", v.dtype) for v in self.axes if v in axes}
        position = {v: self.outer[v] * self.sizes[v] + inner[v] for v in inner}
        parts = tuple(self._rewrite(u, inner, position) for u in run.units)
        made = parts[0] if len(parts) == 1 else Seq(unit.span, parts)
        guard: Expr | None = None
        for v in inner:
            extent = self.extents[v]
            if not (extent.is_const and extent.value % self.sizes[v] == 0):
                test = binary(Op.LT, position[v], extent)
                guard = test if guard is None else guard & test
        if guard is not None:
            made = If(unit.span, guard, made)
        for v in reversed(inner):
            made = For(unit.span, inner[v], const(self.sizes[v], v.dtype), LoopKind.SERIAL, made)
        return made

    def _side_by_side(self, product: Gemm) -> Stmt:
        """One product for all blocks of a group. Columns of blocks that the grid does not have go to tiles that nothing reads."""
        (axis,) = self.axes
        blocks, columns = self.sizes[axis], _column_axis(product)
        made = self._rewrite(product, {axis: const(0, axis.dtype)}, {axis: self.outer[axis] * blocks})
        assert isinstance(made, Gemm)
        b = dataclasses.replace(made.b, extents=tuple(int(n) * blocks if a == columns else n for a, n in enumerate(made.b.extents)))
        return dataclasses.replace(made, b=b, c=dataclasses.replace(made.c, extents=(blocks, *made.c.extents[1:])))

    def _rewrite(self, unit: Stmt, inner: Mapping[Expr, Expr], position: Mapping[Expr, Expr]) -> Stmt:
        memo: dict[Expr, Expr] = {}

        def prefix(buffer: Buffer) -> tuple[Expr, ...]:
            return tuple(inner[v] for v in self.axes if v in self.variance.get(buffer, frozenset()))

        def node(expression: Expr) -> Expr:
            if expression.op is Op.LOAD and expression.buffer in self.expanded:
                return load(self.expanded[expression.buffer], (*prefix(expression.buffer), *expression.args))
            return position.get(expression, expression)

        def region(old: Region, new: Region) -> Region:
            lead = prefix(old.buffer)
            if old.buffer not in self.expanded:
                return new
            return Region(self.expanded[old.buffer], (*lead, *new.starts), (*(1,) * len(lead), *new.extents), (*(False,) * len(lead), *new.is_slice), old.span)

        def finish(stmt: Stmt) -> Stmt:
            match stmt:
                case Store() | AtomicUpdate() if stmt.buffer in self.expanded:
                    return dataclasses.replace(stmt, buffer=self.expanded[stmt.buffer], indices=(*prefix(stmt.buffer), *stmt.indices))
                case Copy():
                    return dataclasses.replace(
                        stmt,
                        src=region(stmt.src, stmt.src),
                        dst=region(stmt.dst, stmt.dst),
                        src_axes=(*(-1,) * len(prefix(stmt.src.buffer)), *stmt.src_axes),
                        dst_axes=(*(-1,) * len(prefix(stmt.dst.buffer)), *stmt.dst_axes),
                    )
                case Fill():
                    return dataclasses.replace(stmt, dst=region(stmt.dst, stmt.dst))
                case Reduce():
                    lead, others = prefix(stmt.src.buffer), len(prefix(stmt.dst.buffer))
                    return dataclasses.replace(
                        stmt,
                        src=region(stmt.src, stmt.src),
                        dst=region(stmt.dst, stmt.dst),
                        axis=len(lead) + stmt.axis,
                        dst_axes=(*(-1,) * len(lead), *(a + others if a >= 0 else -1 for a in stmt.dst_axes)),
                    )
                case Gemm():
                    return dataclasses.replace(stmt, a=region(stmt.a, stmt.a), b=region(stmt.b, stmt.b), c=region(stmt.c, stmt.c))
            return stmt

        return rewrite(unit, on_expr=lambda e: rewrite_expr(e, node, memo), post=finish)
