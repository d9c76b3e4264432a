"""The user's function, rewritten so that running it traces it (floor 5).

Only control flow and binding change: `if`, `for`, `while`, `with`, assignments, `and/or/not`, chained comparisons, ternaries, `assert`, `return`
become calls on a tracer that is passed in as a closure variable; everything else is left to Python. Every node keeps its line and column, so a
running frame still knows the exact place in the user's file.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType
from typing import Any

from tilewright.errors import Kind, Span, fail
from tilewright.ir.expr import describe_operand
from tilewright.language.definitions import FUNCTIONS, definition_of
from tilewright.language.unreachable import drop_unreachable
from tilewright.spans import span_of_caller

TRACER = "__tilewright"
# Python 3.12 added the field, and wants it filled in.
_NO_TYPE_PARAMETERS: dict[str, Any] = {"type_params": []} if "type_params" in ast.FunctionDef._fields else {}


@dataclass(frozen=True)
class Rewritten:
    """A rewritten function's code, ready to be given a tracer."""

    code: CodeType
    original: FunctionType
    span: Span
    node: ast.FunctionDef

    def bind(self, tracer: Any) -> FunctionType:
        """A callable that traces into `tracer`, with the original's globals, defaults and closure cells."""
        cells = dict(zip(self.original.__code__.co_freevars, self.original.__closure__ or (), strict=True))
        cells[TRACER] = CellType(tracer)
        closure = tuple(cells[name] for name in self.code.co_freevars)
        made = FunctionType(self.code, self.original.__globals__, self.original.__name__, self.original.__defaults__, closure)
        made.__kwdefaults__ = self.original.__kwdefaults__
        return made


def rewrite_function(function: Callable[..., Any]) -> Rewritten:
    """Finds the source of a Python function and rewrites it. TileError where there is no source."""
    function = require_function(function)
    return _rewrite_code(function.__code__, function)


def require_function(function: Callable[..., Any]) -> FunctionType:
    """The function itself. TileError for what is no Python function."""
    if not isinstance(function, FunctionType):
        fail(
            Kind.NOT_A_PRIM_FUNC,
            f"{describe_operand(function)} is no Python function",
            span_of_caller(),
            because="a kernel is traced from the source of a `def`",
            help="decorate a plain function",
        )
    return function


# Equal code objects may stem from different files: code compares without its file name.
_rewritten: dict[tuple[str, CodeType], tuple[CodeType, Span, ast.FunctionDef]] = {}


def _rewrite_code(code: CodeType, function: FunctionType) -> Rewritten:
    key = code.co_filename, code
    if key not in _rewritten:
        definition = definition_of(code)
        node, _ = definition.node, definition.reads  # the names are taken from the tree before it changes
        span = Span(code.co_filename, node.lineno, node.col_offset, node.lineno, node.col_offset + len("def ") + len(node.name))
        drop_unreachable(node, code.co_filename)
        _rewritten[key] = _compile(node, code), span, node
    made, span, node = _rewritten[key]
    return Rewritten(made, function, span, node)


def has_inner_prim_func(function: FunctionType) -> bool:
    """Whether the body holds a nested function decorated with `...prim_func`: the lazy style of `jit`."""
    for node in ast.walk(definition_of(function.__code__).node):
        if isinstance(node, FUNCTIONS):
            for decorator in node.decorator_list:
                target = decorator.func if isinstance(decorator, ast.Call) else decorator
                if (isinstance(target, ast.Attribute) and target.attr == "prim_func") or (isinstance(target, ast.Name) and target.id == "prim_func"):
                    return True
    return False


def annotated_names(function: FunctionType) -> frozenset[str]:
    """Names that a bare `name: annotation` statement in the body declares (eager style)."""
    node = definition_of(function.__code__).node
    return frozenset(s.target.id for s in node.body if isinstance(s, ast.AnnAssign) and s.value is None and isinstance(s.target, ast.Name))


def annotation_nodes(function: FunctionType) -> dict[str, ast.expr]:
    """The annotations of the parameters, as they stand in the source."""
    arguments = definition_of(function.__code__).node.args
    return {a.arg: a.annotation for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs) if a.annotation is not None}


def _compile(node: ast.FunctionDef, code: CodeType) -> CodeType:
    body = _Rewriter(code.co_filename).function(node)
    # Under a name of its own the function does not hide a global of its name, which its body may mean.
    inner = ast.FunctionDef(name=f"{TRACER}_function", args=_without_annotations(node.args), body=body, decorator_list=[], returns=None, **_NO_TYPE_PARAMETERS)
    ast.copy_location(inner, node)
    free = [*code.co_freevars, TRACER]
    factory = ast.FunctionDef(
        name="__factory",
        args=ast.arguments(posonlyargs=[], args=[ast.arg(n) for n in free], kwonlyargs=[], kw_defaults=[], defaults=[]),
        body=[inner],
        decorator_list=[],
        returns=None,
        **_NO_TYPE_PARAMETERS,
    )
    ast.copy_location(factory, node)
    module = ast.fix_missing_locations(ast.Module(body=[factory], type_ignores=[]))
    compiled = compile(module, code.co_filename, "exec", dont_inherit=True)
    outer = next(c for c in compiled.co_consts if isinstance(c, CodeType))
    made = next(c for c in outer.co_consts if isinstance(c, CodeType) and c.co_name == inner.name)
    return made.replace(co_name=code.co_name, co_qualname=code.co_qualname)


def _without_annotations(arguments: ast.arguments) -> ast.arguments:
    """Parameters only: annotations and defaults were evaluated where the user wrote them."""

    def bare(args: list[ast.arg]) -> list[ast.arg]:
        return [ast.copy_location(ast.arg(a.arg), a) for a in args]

    def constants(defaults: list[Any]) -> list[Any]:
        return [d and ast.copy_location(ast.Constant(None), d) for d in defaults]

    return ast.arguments(
        posonlyargs=bare(arguments.posonlyargs),
        args=bare(arguments.args),
        vararg=arguments.vararg and ast.arg(arguments.vararg.arg),
        kwonlyargs=bare(arguments.kwonlyargs),
        kw_defaults=constants(arguments.kw_defaults),
        kwarg=arguments.kwarg and ast.arg(arguments.kwarg.arg),
        defaults=constants(arguments.defaults),
    )


_MUTATORS = frozenset({"append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "update", "setdefault", "popitem", "add", "discard"})


def _mutations(statements: list[ast.stmt]) -> dict[str, ast.AST]:
    """Names whose object the statements may change in place, each with the first place: `x[i] = ...`, `del x[i]`, `x.append(...)` and the like."""
    found: dict[str, ast.AST] = {}
    for statement in statements:
        for node in ast.walk(statement):
            changed = (
                node.value
                if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del))
                else (node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS else None)
            )
            if isinstance(changed, ast.Name):
                found.setdefault(changed.id, node)
    return found


def _assigned_names(statements: list[ast.stmt]) -> list[str]:
    """Names bound anywhere in the statements, nested functions aside, in order of appearance."""
    found: dict[str, None] = {}

    def visit(node: ast.AST) -> None:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            found.setdefault(node.name)
            return
        if isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            return
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id)
        for child in ast.iter_child_nodes(node):
            visit(child)

    for statement in statements:
        visit(statement)
    return list(found)


class _Rewriter(ast.NodeTransformer):
    def __init__(self, file: str) -> None:
        self.file = file
        self.counter = 0
        self.guarded: set[str] = set()
        self.locals: set[str] = set()
        self.mutations: dict[str, ast.AST] = {}  # of the block that is being rewritten

    # -- small constructors; every made node takes the place of the node it stands for
    def call(self, at: ast.AST, method: str, *args: ast.expr) -> ast.Call:
        target = ast.Attribute(ast.Name(TRACER, ast.Load()), method, ast.Load())
        return self.place(ast.Call(target, list(args), []), at)

    def place(self, node: Any, at: ast.AST) -> Any:
        pending = [node]
        while pending:
            inner = pending.pop()
            if hasattr(inner, "lineno"):
                continue  # the user's own node, or one that was placed with all its parts
            if "lineno" in inner._attributes:
                ast.copy_location(inner, at)
            for field in inner._fields:
                value = getattr(inner, field, None)
                if isinstance(value, list):
                    pending += [item for item in value if isinstance(item, ast.AST)]
                elif isinstance(value, ast.AST):
                    pending.append(value)
        return node

    def delayed(self, body: ast.expr) -> ast.expr:
        for node in ast.walk(body):
            if isinstance(node, ast.NamedExpr):
                self.fail(
                    Kind.STATEMENT,
                    "`:=` stands inside `and`, `or`, a ternary, a chained comparison or an assert",
                    node,
                    "these evaluate their parts on demand, so a name bound in one of them is not bound after it",
                    "assign in a statement of its own",
                )
        return self.place(ast.Lambda(ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[]), body), body)

    def temporary(self) -> str:
        self.counter += 1
        return f"{TRACER}_{self.counter}"

    def reading(self, name: str, at: ast.AST) -> ast.expr:
        return self.delayed(self.place(ast.Name(name, ast.Load()), at))

    def fail(self, kind: Kind, message: str, node: ast.AST, because: str, help: str) -> None:
        span = Span(self.file, *_position(node))
        fail(kind, message, span, because=because, help=help)

    # -- the function
    def function(self, node: ast.FunctionDef) -> list[ast.stmt]:
        self.locals = set(_assigned_names(node.body)) | {a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
        for inner in ast.walk(node):
            if isinstance(inner, (ast.If, ast.For, ast.While)):
                self.guarded |= set(_assigned_names([*inner.body, *inner.orelse]))
                self.guarded |= set(_names_of(inner.target)) if isinstance(inner, ast.For) else set()
        return self.body(node.body) or [self.place(ast.Pass(), node)]

    def body(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for statement in statements:
            made = self.visit(statement)
            result += made if isinstance(made, list) else [made] if made is not None else []
        return result

    def visit_Yield(self, node: ast.Yield) -> ast.expr:
        self.fail(
            Kind.STATEMENT, "`yield` stands inside a kernel", node, "a kernel writes its results to tensors", "store to a tensor, or return a T.empty tensor"
        )
        return node

    visit_YieldFrom = visit_Yield  # type: ignore[assignment]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node  # an inner function is ordinary Python, or has a decorator that rewrites it

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # type: ignore[assignment]

    # -- names and expressions
    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load):
            if node.id == "range" and "range" not in self.locals:
                return self.place(ast.Attribute(ast.Name(TRACER, ast.Load()), "range", ast.Load()), node)
            if node.id in self.guarded:
                return self.call(node, "read", ast.Constant(node.id), ast.Name(node.id, ast.Load()))
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        values = [self.delayed(self.visit(v)) for v in node.values]
        return self.call(node, "all_of" if isinstance(node.op, ast.And) else "any_of", *values)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if isinstance(node.op, ast.Not):
            return self.call(node, "negate", self.visit(node.operand))
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        if len(node.ops) == 1:
            return self.compare(self.visit(node.left), node.ops[0], self.visit(node.comparators[0]), node)
        operands = [node.left, *node.comparators]
        names = [self.temporary() for _ in operands]
        pairs: list[ast.expr] = [
            self.delayed(self.compare(self.place(ast.Name(names[i], ast.Load()), node), op, self.place(ast.Name(names[i + 1], ast.Load()), node), node))
            for i, op in enumerate(node.ops)
        ]
        inner = ast.Lambda(
            ast.arguments(posonlyargs=[], args=[ast.arg(n) for n in names], kwonlyargs=[], kw_defaults=[], defaults=[]), self.call(node, "all_of", *pairs)
        )
        return self.place(ast.Call(inner, [self.visit(o) for o in operands], []), node)

    def compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr, at: ast.AST) -> ast.expr:
        if isinstance(op, (ast.Eq, ast.NotEq)):
            return self.call(at, "equal" if isinstance(op, ast.Eq) else "not_equal", left, right)
        return self.place(ast.Compare(left, [op], [right]), at)

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        return self.call(node, "ternary", self.visit(node.test), self.delayed(self.visit(node.body)), self.delayed(self.visit(node.orelse)))

    # -- binding
    def visit_Assign(self, node: ast.Assign) -> list[ast.stmt]:
        value = self.visit(node.value)
        if len(node.targets) == 1:
            return self.assign(node.targets[0], value, node)
        held = self.temporary()
        statements: list[ast.stmt] = [self.place(ast.Assign([ast.Name(held, ast.Store())], self.call(node, "snapshot", value)), node)]
        for target in node.targets:
            statements += self.assign(target, self.place(ast.Name(held, ast.Load()), node), node)
        return statements

    def assign(self, target: ast.expr, value: ast.expr, at: ast.stmt) -> list[ast.stmt]:
        if isinstance(target, ast.Name):
            bound = self.call(at, "bind", ast.Constant(target.id), value, self.reading(target.id, target))
            return [self.place(ast.Assign([target], bound), at)]
        if isinstance(target, ast.Attribute):
            self.fail(
                Kind.ATTRIBUTE_ASSIGNMENT,
                f"`{ast.unparse(target)} = ...` assigns to an attribute inside a kernel",
                target,
                "a kernel writes to buffers and variables; attributes of Python objects do not exist when it runs",
                "use a plain name, T.alloc_var or a buffer element",
            )
        if isinstance(target, (ast.Tuple, ast.List)):
            if any(isinstance(e, ast.Starred) for e in target.elts):
                self.fail(
                    Kind.STATEMENT, "a starred target is not supported inside a kernel", target, "the number of values must be written out", "name every value"
                )
            held = self.temporary()
            names = [f"{held}_{i}" for i in range(len(target.elts))]
            unpacked = ast.Assign(
                [ast.Tuple([ast.Name(n, ast.Store()) for n in names], ast.Store())], self.call(target, "unpack", value, ast.Constant(len(names)))
            )
            statements: list[ast.stmt] = [self.place(unpacked, at)]
            for element, name in zip(target.elts, names, strict=True):
                statements += self.assign(element, self.place(ast.Name(name, ast.Load()), element), at)
            return statements
        return [self.place(ast.Assign([self.visit(target)], value), at)]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> list[ast.stmt] | ast.stmt:
        if node.value is not None:
            return self.assign(node.target, self.visit(node.value), node)
        if not isinstance(node.target, ast.Name):
            return node
        name = node.target.id
        made = self.call(node, "annotate", ast.Constant(name), self.visit(node.annotation), self.reading(name, node.target))
        return self.place(ast.Assign([ast.Name(name, ast.Store())], made), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        operator = ast.Constant(type(node.op).__name__)
        value = self.visit(node.value)
        if isinstance(node.target, ast.Name):
            name = node.target.id
            current = self.visit_Name(self.place(ast.Name(name, ast.Load()), node.target))
            return self.place(ast.Assign([node.target], self.call(node, "augment", ast.Constant(name), operator, current, value)), node)
        if isinstance(node.target, ast.Subscript):
            container, key = self.visit(node.target.value), self.visit(node.target.slice)
            return self.place(ast.Expr(self.call(node, "augment_item", container, _as_key(key), operator, value)), node)
        self.fail(
            Kind.ATTRIBUTE_ASSIGNMENT,
            f"`{ast.unparse(node.target)}` is an attribute, assigned to inside a kernel",
            node.target,
            "a kernel writes to buffers and variables",
            "use a plain name, T.alloc_var or a buffer element",
        )
        return node

    # -- control flow
    def scoped(
        self,
        at: ast.stmt,
        method: str,
        args: list[ast.expr],
        target: ast.expr,
        body: Callable[[str], list[ast.stmt]],
        names: list[str],
        targets: list[str] | None = None,
    ) -> list[ast.stmt]:
        """`state = tracer.method(...)`, a Python loop over it that runs the body once per traced path, and the names' values afterwards.

        `names` are bound in the body, `targets` by the loop itself.
        """
        state = self.temporary()

        def read_all(which: list[str]) -> ast.Tuple:
            return ast.Tuple([self.reading(n, at) for n in which], ast.Load())

        watched = {n: place for n, place in self.mutations.items() if n in self.locals}
        places = ast.Tuple([ast.Tuple([ast.Constant(n), *map(ast.Constant, _position(place))], ast.Load()) for n, place in watched.items()], ast.Load())
        start = ast.Assign(
            [ast.Name(state, ast.Store())],
            self.call(at, method, *args, ast.Tuple([ast.Constant(n) for n in names], ast.Load()), read_all(names), places, read_all(list(watched))),
        )
        statements = body(state)

        def values(method: str, which: list[str]) -> list[ast.stmt]:
            made = ast.Call(ast.Attribute(ast.Name(state, ast.Load()), method, ast.Load()), [read_all(which)], [])
            stores = ast.Tuple([ast.Name(n, ast.Store()) for n in which], ast.Store())
            return [self.place(ast.Assign([stores], made) if which else ast.Expr(made), at)]

        loop = ast.For(target, ast.Name(state, ast.Load()), [*values("enter", names), *statements] or [ast.Pass()], [])
        return [self.place(start, at), self.place(loop, at), *values("leave", names + (targets or []))]

    def visit_If(self, node: ast.If) -> list[ast.stmt]:
        taken = self.temporary()
        names = _assigned_names([*node.body, *node.orelse])

        def body(state: str) -> list[ast.stmt]:
            inner = ast.If(ast.Name(taken, ast.Load()), self.body(node.body) or [ast.Pass()], self.body(node.orelse))
            return [self.place(inner, node)]

        test = self.call(node.test, "condition", self.visit(node.test))
        self.mutations = _mutations([*node.body, *node.orelse])
        return self.scoped(self.head(node, node.test), "branch", [test], ast.Name(taken, ast.Store()), body, names)

    def head(self, node: ast.stmt, last: ast.AST) -> Any:
        """A stand-in that carries the place of a compound statement's first line."""
        marker = ast.Pass()
        ast.copy_location(marker, node)
        marker.end_lineno, marker.end_col_offset = last.end_lineno, last.end_col_offset  # type: ignore[attr-defined]
        return marker

    def visit_For(self, node: ast.For) -> list[ast.stmt]:
        if node.orelse:
            self.fail(
                Kind.LOOP_ELSE,
                "`for ... else` is not supported inside a kernel",
                node.orelse[0],
                "a kernel loop has no else branch",
                "set a T.alloc_var flag before `break` and test it after the loop",
            )
        bound = _names_of(node.target)
        names = [n for n in _assigned_names(node.body) if n not in bound]
        width = len(node.target.elts) if isinstance(node.target, (ast.Tuple, ast.List)) else 0
        target_names = [ast.unparse(e) for e in node.target.elts] if isinstance(node.target, (ast.Tuple, ast.List)) else [ast.unparse(node.target)]
        for target in node.target.elts if isinstance(node.target, (ast.Tuple, ast.List)) else [node.target]:
            if not isinstance(target, ast.Name):
                self.fail(
                    Kind.LOOP_UNPACK,
                    f"`{ast.unparse(target)}` is the index of a loop",
                    target,
                    "each index of a kernel loop has a plain name",
                    "write a name, and use it in the body",
                )
        wanted = ast.Tuple([ast.Constant(n) for n in target_names], ast.Load())
        iterable = self.visit(node.iter)
        self.mutations = _mutations(node.body)
        return self.scoped(
            self.head(node, node.iter), "loop", [iterable, ast.Constant(width), wanted], node.target, lambda state: self.body(node.body), names, bound
        )

    def visit_While(self, node: ast.While) -> list[ast.stmt]:
        if node.orelse:
            self.fail(
                Kind.LOOP_ELSE,
                "`while ... else` is not supported inside a kernel",
                node.orelse[0],
                "a kernel loop has no else branch",
                "set a T.alloc_var flag before `break` and test it after the loop",
            )

        def body(state: str) -> list[ast.stmt]:
            condition = ast.Call(ast.Attribute(ast.Name(state, ast.Load()), "condition", ast.Load()), [self.visit(node.test)], [])
            return [self.place(ast.Expr(condition), node.test), *self.body(node.body)]

        ignored = ast.Name(self.temporary(), ast.Store())
        self.mutations = _mutations(node.body)
        return self.scoped(self.head(node, node.test), "while_loop", [], ignored, body, _assigned_names(node.body))

    def visit_Break(self, node: ast.Break) -> ast.stmt:
        return self.place(ast.Expr(self.call(node, "break_loop")), node)

    def visit_Continue(self, node: ast.Continue) -> ast.stmt:
        return self.place(ast.Expr(self.call(node, "continue_loop")), node)

    def visit_With(self, node: ast.With) -> ast.stmt:
        items = []
        for item in node.items:
            target = item.optional_vars
            width = len(target.elts) if isinstance(target, (ast.Tuple, ast.List)) else 0 if target is None else -1
            parts = [] if target is None else target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
            names = [ast.unparse(e) for e in parts]
            context = self.call(
                item.context_expr, "context", self.visit(item.context_expr), ast.Constant(width), ast.Tuple([ast.Constant(n) for n in names], ast.Load())
            )
            items.append(ast.withitem(context, target))
        return self.place(ast.With(items, self.body(node.body)), node)

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        message = self.visit(node.msg) if node.msg is not None else ast.Constant(f"{ast.unparse(node.test)} does not hold")
        return self.place(ast.Expr(self.call(node, "assert_that", self.visit(node.test), self.delayed(self.place(message, node)))), node)

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        value = self.visit(node.value) if node.value is not None else ast.Constant(None)
        return self.place(ast.Return(self.call(node, "returning", value)), node)

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if isinstance(node.value, ast.Constant):
            return node
        return self.place(ast.Expr(self.call(node, "expression", self.visit(node.value))), node)


def _as_key(key: ast.expr) -> ast.expr:
    """A subscript's key as an ordinary expression: slices become slice(...) calls."""
    if isinstance(key, ast.Slice):
        parts = [p if p is not None else ast.Constant(None) for p in (key.lower, key.upper, key.step)]
        return ast.Call(ast.Name("slice", ast.Load()), parts, [])
    if isinstance(key, ast.Tuple):
        return ast.Tuple([_as_key(e) for e in key.elts], ast.Load())
    return key


def _position(node: ast.AST) -> tuple[int, int, int, int]:
    return node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or 0  # type: ignore[attr-defined]


def _names_of(target: ast.expr) -> list[str]:
    return [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]
