"""Where values and tiles may be used (floor 5): a loop index inside its loop, a value inside the block that computes it, a tile inside
its launch.

Python lets a name outlive the block that gave it its value; the kernel does not. The check runs on the finished program, so it also finds
values that reached a statement through a list or a helper function.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Buffer, Extent, Region, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import AtomicUpdate, BlockReduce, For, Let, ParallelFor, ReduceLoop, Seq, Stmt, WarpExchange
from tilewright.ir.thread import Address
from tilewright.ir.visit import names_bound, own_expressions, statements, subexpressions

_Variables = frozenset[Expr]


@dataclass(frozen=True)
class _Home:
    """What gives a variable its value, or holds a tile."""

    noun: str
    span: Span


def check_scopes(program: Program) -> None:
    """Raises TileError (out-of-scope, unbound-symbol) at the first statement that uses what does not exist there."""
    _Check(program).run()


class _Check:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.free: dict[Expr, tuple[_Variables, frozenset[Buffer]]] = {}
        inputs = [p for p in program.parameters if not p.is_output]
        dimensions = [n for p in inputs if p.buffer is not None for n in (*p.buffer.shape, *(p.buffer.given_strides or ()))]
        self.symbols: _Variables = self._variables(dimensions) | {p.variable for p in inputs if p.variable is not None}
        self.tensors = {p.buffer for p in program.parameters if p.buffer is not None} | set(program.workspaces)
        self.homes: dict[Expr, _Home] = {}
        self.tiles: dict[Buffer, _Home] = {}
        for launch in program.launches:
            here = _Home("launch", launch.span)
            self.homes.update(dict.fromkeys((*launch.block_variables, *launch.thread_variables), here))
            self.tiles.update(dict.fromkeys(launch.buffers, here))
            for stmt in statements(launch.body):
                noun = "loop" if isinstance(stmt, (For, ParallelFor)) else "block"
                self.homes.update(dict.fromkeys(names_bound(stmt), _Home(noun, stmt.span)))

    def run(self) -> None:
        program = self.program
        for p in program.parameters:
            if p.is_output and p.buffer is not None:
                self._require(self._variables(p.buffer.shape), self.symbols, p.span)
        for workspace in program.workspaces:
            self._require(self._variables(workspace.shape), self.symbols, workspace.span)
        for check in program.checks:
            self._require(self._variables((check.condition,)), self.symbols, check.span)
        for launch in program.launches:
            self._require(self._variables(launch.grid), self.symbols, launch.span)
            scope = self.symbols | {*launch.block_variables, *launch.thread_variables}
            self._require(self._variables([value for _, value in launch.safe_values]), scope, launch.span)
            self._walk(launch.body, scope, launch)

    def _walk(self, stmt: Stmt, scope: _Variables, launch: Launch) -> None:
        if isinstance(stmt, Seq):
            for inner in stmt.body:
                self._walk(inner, scope, launch)
                if isinstance(inner, (Let, ReduceLoop, AtomicUpdate, BlockReduce, ForeignCall, WarpExchange)):
                    scope = scope.union(names_bound(inner))
            return
        inside = scope.union(names_bound(stmt))
        used: set[Expr] = set()
        buffers: dict[Buffer, None] = dict.fromkeys(_named_buffers(stmt))
        for expression in own_expressions(stmt):
            variables, loaded = self._use(expression)
            used |= variables
            buffers.update(dict.fromkeys(loaded))
        for buffer in buffers:
            self._check_buffer(buffer, inside, stmt.span, launch)
        # A loop's extent is evaluated outside it, but its own variable cannot stand there: nothing has it before the loop is made.
        self._require(frozenset(used), inside, stmt.span)
        for inner in _children(stmt):
            self._walk(inner, inside, launch)

    def _check_buffer(self, buffer: Buffer, scope: _Variables, span: Span, launch: Launch) -> None:
        chain = [buffer]
        while chain[-1].source is not None:
            chain.append(chain[-1].source)
        for view in chain:
            pointer = () if view.pointer is None else (view.pointer,)
            self._require(self._variables((*view.shape, *(view.given_strides or ()), *pointer)), scope, span)
        storage = chain[-1]
        if storage in launch.buffers or storage in self.tensors or storage.pointer is not None:
            return
        home = self.tiles.get(storage)
        if home is not None:
            fail(
                Kind.OUT_OF_SCOPE,
                f"{storage.name} is used in another launch than the one that allocates it",
                (Label(span), Label(storage.span, f"{storage.name} is allocated here"), Label(launch.span, "this launch")),
                because="a tile belongs to the blocks of one launch, and is gone when they end",
                help="allocate a tile in this launch too; between launches, pass data through T.alloc_global or a tensor",
            )
        fail(
            Kind.OUT_OF_SCOPE,
            f"{storage.name} does not belong to {self.program.name}",
            (Label(span), Label(storage.span, f"{storage.name} is made here")),
            because="a kernel uses its own parameters, workspaces and tiles",
            help=f"pass {storage.name} as a parameter" if storage.scope is Scope.GLOBAL else "allocate the tile in this kernel",
        )

    def _require(self, used: _Variables, scope: _Variables, span: Span) -> None:
        for variable in sorted(used - scope, key=lambda v: v.name):
            home = self.homes.get(variable)
            if home is not None:
                fail(
                    Kind.OUT_OF_SCOPE,
                    f"`{variable.name}` is used outside the {home.noun} that gives it a value",
                    (Label(span), Label(home.span, f"`{variable.name}` gets its value here")),
                    because=f"when the kernel runs, the value exists only inside that {home.noun}",
                    help="compute it again in this launch"
                    if home.noun == "launch"
                    else "use it there, or keep it in a T.alloc_var or a tile that is allocated before",
                )
            fail(
                Kind.UNBOUND_SYMBOL,
                f"`{variable.name}` has no value in {self.program.name}",
                span,
                because="a symbol gets its value from the shape or strides of an argument",
                help=f"declare a tensor parameter with the dimension {variable.name}, or add the parameter {variable.name}: T.int32",
            )

    def _variables(self, expressions: tuple[Extent, ...] | list[Extent]) -> _Variables:
        return frozenset().union(*(self._use(e)[0] for e in expressions if isinstance(e, Expr)))

    def _use(self, expression: Expr) -> tuple[_Variables, frozenset[Buffer]]:
        """Variables and loaded buffers of an expression."""
        found = self.free.get(expression)
        if found is None:
            nodes = list(subexpressions(expression))
            loaded = frozenset(n.buffer for n in nodes if n.op is Op.LOAD)
            found = self.free[expression] = frozenset(n for n in nodes if n.op is Op.VAR), loaded
        return found


def _children(stmt: Stmt) -> list[Stmt]:
    return [value for value in vars(stmt).values() if isinstance(value, Stmt)]


def _named_buffers(stmt: Stmt) -> list[Buffer]:
    found: list[Buffer] = []
    for value in vars(stmt).values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Buffer):
                found.append(item)
            elif isinstance(item, (Address, Region)):
                found.append(item.buffer)
    return found
