"""Makes a failing program smaller while it still fails in the same way (floor 9).

Works on the source as a syntax tree, so that any case can be minimised, generated or not: statements are deleted (blocks first), loops and branches
replaced by their bodies, expressions by their operands or a constant, and numbers lowered, until nothing more can go.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator

from tilewright.testing.case import Outcome

Oracle = Callable[[str], Outcome]
_LEAST_NUMBERS = (0, 1, 2, 3, 4, 8, 16)


def minimise(source: str, failure: Outcome, oracle: Oracle, *, budget: int = 400) -> str:
    """The smallest program found that fails like `failure`; `budget` is the number of programs that may be tried."""
    return _Minimiser(source, failure, oracle, budget).run()


class _Minimiser:
    def __init__(self, source: str, failure: Outcome, oracle: Oracle, budget: int) -> None:
        self.failure, self.oracle, self.budget = failure, oracle, budget
        self.tree = ast.parse(source)
        self.tried: set[str] = {ast.unparse(self.tree)}

    def run(self) -> str:
        is_smaller = True
        while is_smaller and self.budget > 0:
            is_smaller = False
            for edits in (_deletions, _unwrappings, _parameter_deletions, _number_changes, _expression_changes, _option_deletions):
                is_smaller |= self._pass(edits)
            is_smaller |= self._pass(_module_deletions)
        _prune_tables(self.tree)
        return ast.unparse(self.tree) + "\n"

    def _pass(self, edits: Callable[[ast.Module], Iterator[Callable[[ast.Module], None]]]) -> bool:
        """Tries each edit once; after one that is kept, the rest are those of the smaller tree from the same position on."""
        position, is_smaller = 0, False
        while self.budget > 0:
            candidates = list(edits(self.tree))
            if position >= len(candidates):
                return is_smaller
            changed = copy.deepcopy(self.tree)
            candidates[position](changed)
            if self._still_fails(changed):
                self.tree, is_smaller = changed, True
            else:
                position += 1
        return is_smaller

    def _still_fails(self, tree: ast.Module) -> bool:
        try:
            text = ast.unparse(ast.fix_missing_locations(tree))
        except ValueError:
            return False
        if text in self.tried:
            return False
        self.tried.add(text)
        self.budget -= 1
        return self.oracle(text + "\n").is_like(self.failure)


def _kernel(tree: ast.Module) -> ast.FunctionDef:
    return next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "kernel")


def _blocks(tree: ast.Module) -> Iterator[tuple[int, str, list[ast.stmt]]]:
    """Every list of statements of the kernel: the number of its owner in walking order, the field, the list. Outermost first."""
    for number, node in enumerate(ast.walk(_kernel(tree))):
        for name in ("body", "orelse"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                yield number, name, block


def _owner(tree: ast.Module, number: int) -> ast.AST:
    return next(n for k, n in enumerate(ast.walk(_kernel(tree))) if k == number)


def _deletions(tree: ast.Module) -> Iterator[Callable[[ast.Module], None]]:
    """Statements removed, runs of many before single ones, the last first."""
    for number, name, block in _blocks(tree):
        size = len(block)
        while size:
            for start in range(len(block) - size, -1, -size):
                yield lambda t, number=number, name=name, start=start, size=size: _delete(t, number, name, start, size)  # type: ignore[misc]
            size //= 2


def _delete(tree: ast.Module, number: int, name: str, start: int, size: int) -> None:
    owner = _owner(tree, number)
    block = getattr(owner, name)
    del block[start : start + size]
    if not block and name == "body":
        block.append(ast.Pass())


def _unwrappings(tree: ast.Module) -> Iterator[Callable[[ast.Module], None]]:
    """Loops and branches replaced by what is in them; a loop's variables become 0."""
    for number, name, block in _blocks(tree):
        for position, stmt in enumerate(block):
            if isinstance(stmt, (ast.For, ast.While, ast.If)):
                for part in ("body", "orelse"):
                    if getattr(stmt, part):
                        yield lambda t, number=number, name=name, position=position, part=part: _unwrap(t, number, name, position, part)  # type: ignore[misc]


def _unwrap(tree: ast.Module, number: int, name: str, position: int, part: str) -> None:
    block = getattr(_owner(tree, number), name)
    stmt = block[position]
    inner = getattr(stmt, part)
    if isinstance(stmt, ast.For):
        names = {n.id for n in ast.walk(stmt.target) if isinstance(n, ast.Name)}
        inner = [_Substitute(names).visit(s) for s in inner]
    block[position : position + 1] = inner


class _Substitute(ast.NodeTransformer):
    """Names replaced by 0."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(0) if node.id in self.names and isinstance(node.ctx, ast.Load) else node


def _parameter_deletions(tree: ast.Module) -> Iterator[Callable[[ast.Module], None]]:
    """Parameters that the body no longer names."""
    kernel = _kernel(tree)
    used = {n.id for s in kernel.body for n in ast.walk(s) if isinstance(n, ast.Name)}
    for position, argument in reversed(list(enumerate(kernel.args.args))):
        if argument.arg not in used:
            yield lambda t, position=position: _kernel(t).args.args.pop(position) and None  # type: ignore[misc]


def _option_deletions(tree: ast.Module) -> Iterator[Callable[[ast.Module], None]]:
    """Keyword arguments of calls."""
    for number, node in enumerate(ast.walk(_kernel(tree))):
        for position in range(len(node.keywords) if isinstance(node, ast.Call) else 0):
            yield lambda t, number=number, position=position: _owner(t, number).keywords.pop(position) and None  # type: ignore[misc, attr-defined]


def _module_deletions(tree: ast.Module) -> Iterator[Callable[[ast.Module], None]]:
    """Macros and symbols outside the kernel."""
    for position, node in reversed(list(enumerate(tree.body))):
        is_table = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in ("SIZES", "RANGES", "TOLERANCES")
        if isinstance(node, (ast.FunctionDef, ast.Assign)) and node is not _kernel(tree) and not is_table:
            yield lambda t, position=position: t.body.pop(position) and None  # type: ignore[misc]


def _prune_tables(tree: ast.Module) -> None:
    """Drops what RANGES and TOLERANCES say about parameters that are gone."""
    names = {a.arg for a in _kernel(tree).args.args}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and isinstance(node.targets[0], ast.Name) and node.targets[0].id != "SIZES":
            kept = [(k, v) for k, v in zip(node.value.keys, node.value.values, strict=True) if isinstance(k, ast.Constant) and k.value in names]
            node.value.keys, node.value.values = [k for k, _ in kept], [v for _, v in kept]


def _constants(tree: ast.Module) -> list[ast.Constant]:
    sizes = [n.value for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name) and n.targets[0].id == "SIZES"]
    return [n for root in (*sizes, _kernel(tree)) for n in ast.walk(root) if isinstance(n, ast.Constant) and type(n.value) is int and n.value > 0]


def _size_constants(tree: ast.Module) -> Iterator[ast.AST]:
    """Constants of shapes and grids, which 0 would make meaningless."""
    kernel = _kernel(tree)
    roots = [*(a.annotation for a in kernel.args.args if a.annotation), *(i.context_expr for n in ast.walk(kernel) if isinstance(n, ast.With) for i in n.items)]
    roots += [n for n in ast.walk(kernel) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr.startswith("alloc")]
    for root in roots:
        yield from ast.walk(root)


def _number_changes(tree: ast.Module) -> Iterator[Callable[[ast.Module], None]]:
    """All constants of one value lowered together (a size stands in many places), then single ones."""
    constants = _constants(tree)
    for value in sorted({n.value for n in constants}, key=lambda v: -int(v)):  # type: ignore[arg-type]
        for smaller in _smaller(int(value))[1:]:  # type: ignore[arg-type]
            yield lambda t, value=value, smaller=smaller: _replace_value(t, value, smaller)  # type: ignore[misc]
    sizes = {id(n) for n in _size_constants(tree)}
    for position, node in enumerate(constants):
        for smaller in _smaller(int(node.value))[id(node) in sizes : 2]:  # type: ignore[arg-type]
            yield lambda t, position=position, smaller=smaller: setattr(_constants(t)[position], "value", smaller)  # type: ignore[misc]


def _smaller(value: int) -> list[int]:
    return [n for n in dict.fromkeys((*_LEAST_NUMBERS[:2], value // 2, *_LEAST_NUMBERS[2:], value - 1)) if 0 <= n < value]


def _replace_value(tree: ast.Module, value: int, smaller: int) -> None:
    for node in _constants(tree):
        if node.value == value:
            node.value = smaller


def _expressions(tree: ast.Module) -> list[tuple[ast.AST, str, int | None, ast.expr]]:
    """Right sides, conditions, arguments, and what is below them: the parent, its field, the position in it, the expression."""
    found: list[tuple[ast.AST, str, int | None, ast.expr]] = []
    for stmt in ast.walk(_kernel(tree)):
        if isinstance(stmt, (ast.Assign, ast.AugAssign)):
            found.append((stmt, "value", None, stmt.value))
        elif isinstance(stmt, (ast.If, ast.While)):
            found.append((stmt, "test", None, stmt.test))
        elif isinstance(stmt, ast.For) and isinstance(stmt.iter, ast.Call):
            found += [(stmt.iter, "args", k, a) for k, a in enumerate(stmt.iter.args)]
        elif isinstance(stmt, (ast.Expr, ast.withitem)):
            call = stmt.value if isinstance(stmt, ast.Expr) else stmt.context_expr
            found += [(call, "args", k, a) for k, a in enumerate(call.args)] if isinstance(call, ast.Call) else []
    for _, _, _, root in list(found):
        for node in ast.walk(root):
            for name, value in ast.iter_fields(node):
                if name == "func" or (name == "value" and isinstance(node, (ast.Subscript, ast.Attribute))):
                    continue
                if isinstance(value, ast.expr):
                    found.append((node, name, None, value))
                elif isinstance(value, list):
                    found += [(node, name, k, v) for k, v in enumerate(value) if isinstance(v, ast.expr)]
    return found


def _operands(node: ast.expr) -> list[ast.expr]:
    """What may stand in an expression's place: its own operands, and 1."""
    if isinstance(node, (ast.Constant, ast.Attribute, ast.Tuple, ast.List)):
        return []
    inner: list[ast.expr] = []
    if isinstance(node, ast.Call):
        inner = [a for a in node.args if not isinstance(a, ast.Constant) or not isinstance(a.value, str)]
    elif isinstance(node, (ast.BinOp, ast.Compare)):
        inner = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.left, *node.comparators]
    elif isinstance(node, ast.IfExp):
        inner = [node.body, node.orelse]
    elif isinstance(node, ast.UnaryOp):
        inner = [node.operand]
    elif isinstance(node, ast.BoolOp):
        inner = list(node.values)
    return [*inner, ast.Constant(1)]


def _expression_changes(tree: ast.Module) -> Iterator[Callable[[ast.Module], None]]:
    """Expressions replaced by one of their operands or by 1."""
    for number, (_, _, _, node) in enumerate(_expressions(tree)):
        for choice in range(len(_operands(node))):
            yield lambda t, number=number, choice=choice: _replace_expression(t, number, choice)  # type: ignore[misc]


def _replace_expression(tree: ast.Module, number: int, choice: int) -> None:
    parent, name, position, node = _expressions(tree)[number]
    made = _operands(node)[choice]
    if position is None:
        setattr(parent, name, made)
    else:
        getattr(parent, name)[position] = made
