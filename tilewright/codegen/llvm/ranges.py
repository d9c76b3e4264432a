"""The turns of a loop in which a condition holds, as LLVM values (floor 6)."""

from __future__ import annotations

from tilewright.codegen.llvm.emitter import Value, constant
from tilewright.codegen.llvm.expressions import Expressions
from tilewright.codegen.llvm.task import Task, fold_sum
from tilewright.errors import CompilerBug
from tilewright.ir.expr import Expr, Op

_NEGATED = {Op.LT: Op.GE, Op.LE: Op.GT, Op.GT: Op.LE, Op.GE: Op.LT}
_MIRRORED = {Op.LT: Op.GT, Op.LE: Op.GE, Op.GT: Op.LT, Op.GE: Op.LE, Op.EQ: Op.EQ}


def is_range(task: Task, condition: Expr, variable: Expr, inner: frozenset[Expr]) -> bool:
    """Whether `narrow_range` can do it: comparisons linear in the variable, and otherwise only what does not depend on `inner` variables."""
    if not depends_on(task, condition, variable):
        return not any(depends_on(task, condition, v) for v in inner) and not task.facts.dependences(condition).storages
    if condition.op is Op.AND:
        return all(is_range(task, part, variable, inner) for part in condition.args)
    test = _comparison(task, condition)
    if test is None:
        return False
    op, left, right = test
    if op not in _MIRRORED:
        return False
    left_sum, right_sum = task.sum(left), task.sum(right)
    atoms = [atom for total in (left_sum, right_sum) for atom, _scale in total.terms if atom is not variable]
    return all(not depends_on(task, atom, v) for atom in atoms for v in (variable, *inner)) and all(task.is_index(atom) for atom in atoms)


def depends_on(task: Task, expression: Expr, variable: Expr) -> bool:
    """Whether a value depends on a variable, through names of index arithmetic too."""
    variables = task.facts.dependences(expression).variables
    return variable in variables or any(v in task.aliases and depends_on(task, task.aliases[v], variable) for v in variables)


def _comparison(task: Task, condition: Expr) -> tuple[Op, Expr, Expr] | None:
    is_negated = condition.op is Op.NOT
    inner = condition.args[0] if is_negated else condition
    if len(inner.args) != 2 or not (task.is_index(inner.args[0]) and task.is_index(inner.args[1])):
        return None
    op = _NEGATED.get(inner.op) if is_negated else inner.op
    return None if op is None else (op, inner.args[0], inner.args[1])


def narrow_range(expressions: Expressions, condition: Expr, variable: Expr, low: Value, high: Value) -> tuple[Value, Value]:
    """The part of [low, high) in which the condition holds, with 0 <= low; where low comes out above high there is none. High never grows, low may."""
    task, f, zero = expressions.task, expressions.task.f, constant(0, "i64")
    if condition in task.known:
        return low, high if task.known[condition] else zero
    if not depends_on(task, condition, variable):
        holds = expressions.scalar(condition)
        return low, f.select(holds, high, zero)
    if condition.op is Op.AND:
        for part in condition.args:
            low, high = narrow_range(expressions, part, variable, low, high)
        return low, high
    test = _comparison(task, condition)
    if test is None:
        raise CompilerBug(f"`{condition}` is no range of {variable.name}")
    op, left, right = test
    # slope * variable + rest  op  0
    terms: dict[Expr, int] = {}
    for total, sign in ((task.sum(left), 1), (task.sum(right), -1)):
        for atom, scale in total.terms:
            terms[atom] = terms.get(atom, 0) + sign * scale
    slope = terms.pop(variable, 0)
    rest = constant(task.sum(left).constant - task.sum(right).constant, "i64")
    for atom, scale in terms.items():
        if scale:
            rest = fold_sum(task, "add", rest, task.scale_value(expressions.scalar_index(atom), scale))
    if slope == 0:
        holds = f.compare(f"icmp {'eq' if op is Op.EQ else 's' + op.name.lower()}", rest, zero)
        return low, f.select(holds, high, zero)
    if slope > 0:
        rest = fold_sum(task, "sub", zero, rest)
    else:
        slope, op = -slope, _MIRRORED[op]
    # slope * variable  op  rest
    if op in (Op.GE, Op.EQ):
        low = _extremum(task, "smax", low, _ceildiv(task, rest, slope))
    if op is Op.GT:
        low = _extremum(task, "smax", low, task.add_constant(_floordiv(task, rest, slope), 1))
    if op is Op.LT:
        high = _extremum(task, "smin", high, _ceildiv(task, rest, slope))
    if op in (Op.LE, Op.EQ):
        high = _extremum(task, "smin", high, task.add_constant(_floordiv(task, rest, slope), 1))
    return low, high


def _extremum(task: Task, operation: str, a: Value, b: Value) -> Value:
    if not a.text.startswith("%") and not b.text.startswith("%"):
        return constant((max if operation == "smax" else min)(int(a.text), int(b.text)), "i64")
    return task.f.intrinsic(f"llvm.{operation}.i64", "i64", a, b)


def _ceildiv(task: Task, value: Value, by: int) -> Value:
    return _floordiv(task, task.add_constant(value, by - 1), by)


def _floordiv(task: Task, value: Value, by: int) -> Value:
    if by == 1:
        return value
    if not value.text.startswith("%"):
        return constant(int(value.text) // by, "i64")
    f = task.f
    if by & (by - 1) == 0:
        return f.binary("ashr", value, constant(by.bit_length() - 1, "i64"))
    quotient = f.binary("sdiv", value, constant(by, "i64"))
    is_low = f.compare("icmp slt", f.binary("srem", value, constant(by, "i64")), constant(0, "i64"))
    return f.binary("add", quotient, f.convert("sext", is_low, "i64"))
