"""Scalar expressions as LLVM values, for one lane or many (floor 6).

`value` gives an expression in the register type of its dtype, `index` an integer expression in i64. What is the same in all lanes stays a
scalar, and integers that differ between lanes by constants stay a `Ramp`; only what really varies becomes a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tilewright.codegen.llvm import registers
from tilewright.codegen.llvm.addresses import refuse_vector_dtype
from tilewright.codegen.llvm.emitter import Value, constant, vector_constant
from tilewright.codegen.llvm.facts import LAZY_OPERATIONS, conjuncts
from tilewright.codegen.llvm.memory import Memory
from tilewright.codegen.llvm.task import Operand, Ramp, Task, fold_sum, is_scalar, wrap
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.ir.expr import COMPARISONS, Expr, Op

_INT_OPS = {Op.ADD: "add", Op.SUB: "sub", Op.MUL: "mul", Op.BIT_AND: "and", Op.BIT_OR: "or", Op.BIT_XOR: "xor", Op.SHIFT_LEFT: "shl"}
# Contraction into fma is allowed by the numerics contract; nothing else is.
_FLOAT_OPS = {Op.ADD: "fadd contract", Op.SUB: "fsub contract", Op.MUL: "fmul contract", Op.DIV: "fdiv"}
# Of Python's recursion; a level takes a few frames.
_MAXIMUM_NESTING = 100
_INT_COMPARISONS = {Op.EQ: "eq", Op.NE: "ne", Op.LT: "lt", Op.LE: "le", Op.GT: "gt", Op.GE: "ge"}
_FLOAT_COMPARISONS = {Op.EQ: "oeq", Op.NE: "une", Op.LT: "olt", Op.LE: "ole", Op.GT: "ogt", Op.GE: "oge"}


class Expressions:
    """Emits expressions of one task."""

    def __init__(self, task: Task, memory: Memory) -> None:
        self.task = task
        self.memory = memory
        self._nesting = 0
        self._handlers: dict[Op, Callable[[Expr], Operand]] = {
            Op.CONST: self._const,
            Op.VAR: self._variable,
            Op.NOT: self._not,
            Op.NEG: self._negate,
            Op.BIT_NOT: self._bit_not,
            Op.SELECT: self._select,
            Op.IF_THEN_ELSE: self._if_then_else,
            Op.AND: self._logical,
            Op.OR: self._logical,
            Op.CAST: self._cast,
            Op.REINTERPRET: self._reinterpret,
            Op.LOAD: self.memory.load,
            Op.CALL: self._call,
            Op.MIN: self._extremum,
            Op.MAX: self._extremum,
            Op.SHIFT_RIGHT: self._shift_right,
            **dict.fromkeys((Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR, Op.SHIFT_LEFT), self._arithmetic),
            **dict.fromkeys((Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD), self._division),
            **dict.fromkeys(COMPARISONS, self._comparison),
        }

    # -- entry points
    def value(self, node: Expr) -> Operand:
        """The value in the register type of its dtype."""
        task = self.task
        found = task.values.get(node)
        if found is not None:
            return found
        if node in task.known:
            return constant(task.known[node], "i1")
        if node.dtype.lanes > 1:
            refuse_vector_dtype(f"`{node}`", node.dtype)
        self._nesting += 1
        if self._nesting > _MAXIMUM_NESTING:
            self._evaluate_operands(node)
        result = self._handlers[node.op](node)
        self._nesting -= 1
        if node.args or node.op is Op.LOAD:
            task.remember_loaded(task.values, node, result)
        return result

    def _evaluate_operands(self, root: Expr) -> None:
        """Computes what is below a node from the leaves up: sums that Python unrolled are deeper than its stack."""
        before, self._nesting = self._nesting, 0
        stack = [(root, False)]
        while stack:
            node, is_ready = stack.pop()
            if is_ready:
                self.value(node)
            elif node.op is not Op.LOAD and node not in self.task.values and node not in self.task.known and not self.task.is_index(node):
                if node is not root:
                    stack.append((node, True))
                stack += [(a, False) for a in (node.args[:1] if node.op in LAZY_OPERATIONS else node.args)]
        self._nesting = before

    def vector(self, node: Expr) -> Value:
        """The value with one element per lane."""
        return self.task.widened(self.value(node))

    def scalar(self, node: Expr) -> Value:
        """A value that is the same in all lanes."""
        found = self.value(node)
        if not is_scalar(found):
            raise CompilerBug(f"`{node}` differs between the lanes")
        return found

    def index(self, node: Expr) -> Operand:
        """An integer in i64, computed there as far as it is index arithmetic."""
        task = self.task
        found = task.indices.get(node)
        if found is None:
            found = self._index(node)
            if node.op is not Op.CONST:
                task.remember_loaded(task.indices, node, found)
        return found

    def scalar_index(self, node: Expr) -> Value:
        found = self.index(node)
        if not is_scalar(found):
            raise CompilerBug(f"`{node}` differs between the lanes")
        return found

    def stored(self, node: Expr, dtype: DType) -> Value | None:
        """The value in the form that memory of a narrow float dtype has, where it only moves: copies need no conversions. None elsewhere."""
        if node.dtype != dtype or not dtype.is_float or dtype.bits >= 32 or not self._is_movement(node):
            return None
        moved = self._moved(node)
        assert isinstance(moved, Value)
        return moved

    def _is_movement(self, node: Expr) -> bool:
        """Loads, constants and choices between them, all stored as declared."""
        if node.op is Op.LOAD:
            return node not in self.task.values and self.memory.plan(node).dtype == node.dtype and not node.dtype.is_packed
        return node.op is Op.CONST or (node.op in (Op.SELECT, Op.IF_THEN_ELSE) and all(map(self._is_movement, node.args[1:])))

    def _moved(self, node: Expr) -> Operand:
        if node.op is Op.LOAD:
            return self.memory.load_stored(node)[0]
        if node.op is Op.CONST:
            return registers.stored_constant(node.value, node.dtype)
        if node.op is Op.IF_THEN_ELSE:
            return self._lazy_choice(node, self._moved)
        condition = self.value(node.args[0])
        return self._choose(condition, self._moved(node.args[1]), self._moved(node.args[2]))

    def in_dtype(self, value: Value, dtype: DType) -> Value:
        """A result of arithmetic in registers, rounded or wrapped to its dtype."""
        return registers.rounded(self.task, value, dtype) if dtype.is_float else registers.wrapped(self.task, value, dtype)

    # -- indices
    def _index(self, node: Expr) -> Operand:
        task = self.task
        match node.op:
            case Op.CONST:
                return constant(int(node.value), "i64")
            case Op.VAR if node in task.aliases:
                return self.index(task.aliases[node])
            case Op.CAST if node.dtype.is_integer and node.dtype.is_signed and task.is_index(node):
                return self.index(node.args[0])
            case Op.ADD | Op.SUB if node.dtype.is_integer and node.dtype.is_signed and node.dtype.bits >= 32:
                a, b = map(self.index, node.args)
                uniform = node.args[0] if is_scalar(a) else node.args[1]
                return task.add(self._as_i64(a), self._as_i64(b), sign=1 if node.op is Op.ADD else -1, multiple=task.multiple_of(uniform))
        if node.op is not Op.VAR and task.is_index(node):
            a, b = map(self.index, node.args)
            if node.op is Op.MUL:
                return self._index_product(node, a, b)
            if node.op in (Op.FLOORDIV, Op.FLOORMOD):
                return self._floor_division(node, a, b, node.dtype)
            return self._int_extremum(node.op, a, b, is_signed=True)
        return self._extended(self.value(node), node.dtype)

    def _extended(self, operand: Operand, dtype: DType) -> Operand:
        """A value in i64. Vectors of 32-bit signed integers stay as they are: most are only taken apart into addresses."""
        if isinstance(operand, Ramp):
            operand = self.task.widened(operand)
        if operand.element == "i64" or (operand.lanes > 1 and operand.element == "i32" and dtype.is_signed):
            return operand
        wide = Value("", operand.type.replace(operand.element, "i64"))
        return self.task.f.convert("sext" if dtype.is_signed else "zext", operand, wide.type)

    def _as_i64(self, operand: Operand) -> Operand:
        if isinstance(operand, Value) and operand.element != "i64":
            return self.task.f.convert("sext", operand, self.task.type_of("i64"))
        return operand

    def _index_product(self, node: Expr, a: Operand, b: Operand) -> Operand:
        for operand, factor in ((a, node.args[1]), (b, node.args[0])):
            if factor.is_const:
                return self.task.scale(operand, int(factor.value))
        return self.task.f.binary("mul", *self.operands(a, b))

    # -- leaves
    def _const(self, node: Expr) -> Value:
        return constant(node.value, registers.register_type(node.dtype))

    def _variable(self, node: Expr) -> Operand:
        task = self.task
        if node in task.aliases:
            return self.value(task.aliases[node])
        found = task.indices.get(node)
        if found is None:
            raise CompilerBug(f"the variable {node.name} has no value here")
        type_ = registers.register_type(node.dtype)
        if type_ == "i64":
            return found
        narrow: Operand
        if isinstance(found, Ramp):
            narrow = Ramp(self._truncated(found.base, type_), found.offsets, found.multiple)
        else:
            narrow = self._truncated(found, type_)
        task.remember(task.values, node, narrow)
        return narrow

    def _truncated(self, value: Value, element: str) -> Value:
        if is_scalar(value) and not value.text.startswith("%"):
            return constant(wrap(int(value.text), element), element)
        return self.task.f.convert("trunc", value, value.type.replace(value.element, element))

    # -- arithmetic
    def operands(self, a: Operand, b: Operand) -> tuple[Value, Value]:
        """Both as scalars, or both with one element per lane."""
        if is_scalar(a) and is_scalar(b):
            return a, b
        return self.task.widened(a), self.task.widened(b)

    def _arithmetic(self, node: Expr) -> Operand:
        task, dtype = self.task, node.dtype
        if dtype.bits == 64 and dtype.is_signed and dtype.is_integer and task.is_index(node):
            return self.index(node)
        a, b = self.value(node.args[0]), self.value(node.args[1])
        if dtype.is_float:
            return registers.rounded(task, task.f.binary(_FLOAT_OPS[node.op], *self.operands(a, b)), dtype)
        if isinstance(a, Ramp) or isinstance(b, Ramp):
            if node.op is Op.ADD or node.op is Op.SUB:
                return task.add(a, b, sign=1 if node.op is Op.ADD else -1)
            if node.op is Op.MUL and (node.args[0].is_const or node.args[1].is_const):
                factor, other = (node.args[0], b) if node.args[0].is_const else (node.args[1], a)
                return task.scale(other, int(factor.value))
        x, y = self.operands(a, b)
        return registers.wrapped(task, task.f.binary(_INT_OPS[node.op], x, y), dtype)

    def _shift_right(self, node: Expr) -> Operand:
        a, b = self.operands(self.value(node.args[0]), self.value(node.args[1]))
        return self.task.f.binary("ashr" if node.dtype.is_signed else "lshr", a, b)

    def _negate(self, node: Expr) -> Operand:
        a = self.value(node.args[0])
        if isinstance(a, Ramp):
            return self.task.scale(a, -1)
        if node.dtype.is_float:
            return registers.negated(self.task, a, node.dtype)
        return registers.wrapped(self.task, self.task.f.binary("sub", constant(0, a.type), a), node.dtype)

    def _bit_not(self, node: Expr) -> Operand:
        a = self.value(node.args[0])
        a = a if is_scalar(a) else self.task.widened(a)
        assert isinstance(a, Value)
        return registers.wrapped(self.task, self.task.f.binary("xor", a, constant(-1, a.type)), node.dtype)

    def _not(self, node: Expr) -> Operand:
        a = self.value(node.args[0])
        assert isinstance(a, Value)
        return self.task.f.binary("xor", a, constant(True, a.type))

    def _extremum(self, node: Expr) -> Operand:
        left, right = node.args
        if left.is_const:
            left, right = right, left
        if not node.dtype.is_float and not node.dtype.is_bool:
            return self._int_extremum(node.op, self.value(left), self.value(right), node.dtype.is_signed)
        a, b = self.operands(self.value(left), self.value(right))
        if node.dtype.is_float and right.is_const and not math.isnan(right.value):
            return self.float_extremum(node.op is Op.MAX, a, b)
        return self.extremum(node.op is Op.MAX, a, b, node.dtype)

    def extremum(self, is_maximum: bool, a: Value, b: Value, dtype: DType) -> Value:
        """max or min of two values of a dtype; of floats the one that is not NaN."""
        if dtype.is_bool:
            return self.task.f.binary("or" if is_maximum else "and", a, b)
        if not dtype.is_float:
            return self._int_extremum(Op.MAX if is_maximum else Op.MIN, a, b, dtype.is_signed)
        return self.task.f.intrinsic(f"llvm.{'maxnum' if is_maximum else 'minnum'}.{a.overload}", a.type, a, b)

    def float_extremum(self, is_maximum: bool, a: Value, b: Value) -> Value:
        """max or min where b is not NaN: one instruction that gives b where a is NaN."""
        return self.task.f.select(self.task.f.compare(f"fcmp {'ogt' if is_maximum else 'olt'}", a, b), a, b)

    def _int_extremum(self, op: Op, a: Operand, b: Operand, is_signed: bool) -> Value:
        x, y = self.operands(self._as_same(a, b), self._as_same(b, a))
        name = f"llvm.{'s' if is_signed else 'u'}{op.value}.{x.overload}"
        return self.task.f.intrinsic(name, x.type, x, y)

    def _as_same(self, a: Operand, b: Operand) -> Operand:
        """Index vectors of 32 bits beside one of 64 bits are widened."""
        element = b.element if isinstance(b, Value) else b.base.type
        return self._as_i64(a) if element == "i64" else a

    # -- division
    def _division(self, node: Expr) -> Operand:
        task, dtype = self.task, node.dtype
        a, b = self.value(node.args[0]), self.value(node.args[1])
        if dtype.is_float:
            x, y = self.operands(a, b)
            whole = registers.whole(task, task.f.binary("fdiv", x, y), is_floor=node.op in (Op.FLOORDIV, Op.FLOORMOD))
            if node.op in (Op.FLOORDIV, Op.TRUNCDIV):
                return registers.rounded(task, whole, dtype)
            return registers.rounded(task, task.f.binary("fsub", x, task.f.binary("fmul", whole, y)), dtype)
        if node.op in (Op.FLOORDIV, Op.FLOORMOD):
            return self._floor_division(node, a, b, dtype)
        x, y = self.operands(a, b)
        sign = "s" if dtype.is_signed else "u"
        quotient, remainder = self._truncated_division(x, y, sign, node.args[1])
        return quotient() if node.op is Op.TRUNCDIV else remainder()

    def _floor_division(self, node: Expr, a: Operand, b: Operand, dtype: DType) -> Operand:
        """`//` or `%` of integers; a ramp whose base is a multiple of the divisor stays one."""
        task, f = self.task, self.task.f
        divisor = node.args[1]
        is_quotient = node.op is Op.FLOORDIV
        if divisor.is_const and isinstance(a, Ramp) and divisor.value > 0 and a.multiple % int(divisor.value) == 0 and self._is_exact(node.args[0], a):
            by = int(divisor.value)
            if not is_quotient:
                return task.simplified(Ramp(constant(0, a.base.type), tuple(o % by for o in a.offsets), 0))
            base = a.base if a.base.text == "0" else f.binary("sdiv exact", a.base, constant(by, a.base.type))
            return task.simplified(Ramp(base, tuple(o // by for o in a.offsets), a.multiple // by))
        x, y = self.operands(self._as_same(a, b), self._as_same(b, a))
        if not dtype.is_signed:
            quotient, remainder = self._truncated_division(x, y, "u", divisor)
            return quotient() if is_quotient else remainder()
        if divisor.is_const and divisor.value > 0 and divisor.value & (divisor.value - 1) == 0:
            shift = int(divisor.value).bit_length() - 1
            return f.binary("ashr", x, constant(shift, x.type)) if is_quotient else f.binary("and", x, constant(int(divisor.value) - 1, x.type))
        if task.is_nonnegative(node.args[0]) and divisor.is_const and divisor.value > 0:
            return f.binary("udiv" if is_quotient else "urem", x, y)
        quotient, remainder = self._truncated_division(x, y, "s", divisor)
        if task.is_nonnegative(node.args[0]) and task.is_nonnegative(divisor):
            return quotient() if is_quotient else remainder()
        rest = remainder()
        differs = f.compare("icmp slt", f.binary("xor", rest, y), constant(0, x.type))
        is_low = f.binary("and", differs, f.compare("icmp ne", rest, constant(0, x.type)))
        if is_quotient:
            return f.binary("add", quotient(), f.convert("sext", is_low, x.type))
        return f.binary("add", rest, f.select(is_low, y, constant(0, x.type)))

    def _is_exact(self, node: Expr, ramp: Ramp) -> bool:
        """Whether a ramp is the integer that its arithmetic means, with no bits lost."""
        if ramp.base.type == "i64":
            return True
        low, high = self.task.interval(node)
        limit = 1 << (node.dtype.bits - 1)
        return node.dtype.is_signed and -limit <= low and high < limit

    def _truncated_division(self, a: Value, b: Value, sign: str, divisor: Expr) -> tuple[Callable[[], Value], Callable[[], Value]]:
        """C's quotient and remainder. A divisor that is known only at run time must not trap, whatever it is: 0 and -1 are replaced."""
        f = self.task.f
        if divisor.is_const:
            return lambda: f.binary(f"{sign}div", a, b), lambda: f.binary(f"{sign}rem", a, b)
        zero, one, minus_one = (constant(n, a.type) for n in (0, 1, -1))
        if sign == "u":
            safe = f.select(f.compare("icmp eq", b, zero), one, b)
            return lambda: f.binary("udiv", a, safe), lambda: f.binary("urem", a, safe)
        is_special = f.compare("icmp ult", f.binary("add", b, one), constant(2, a.type))
        safe = f.select(is_special, one, b)
        is_minus_one = f.compare("icmp eq", b, minus_one)
        return (lambda: f.select(is_minus_one, f.binary("sub", zero, a), f.binary("sdiv", a, safe))), lambda: f.binary("srem", a, safe)

    # -- comparisons
    def _comparison(self, node: Expr) -> Operand:
        left, right = node.args
        task, f, dtype = self.task, self.task.f, left.dtype
        if dtype.is_float:
            return f.compare(f"fcmp {_FLOAT_COMPARISONS[node.op]}", *self.operands(self.value(left), self.value(right)))
        sign = "" if node.op in (Op.EQ, Op.NE) else "s" if dtype.is_signed and not dtype.is_bool else "u"
        if dtype.is_integer and dtype.is_signed and task.is_index(left) and task.is_index(right):
            a, b = self.index(left), self.index(right)
            if isinstance(a, Ramp) or isinstance(b, Ramp):
                return self._compare_ramps(node.op, a, b)
        else:
            a, b = self.value(left), self.value(right)
        x, y = self.operands(a, b)
        return f.compare(f"icmp {sign}{_INT_COMPARISONS[node.op]}", x, y)

    def _compare_ramps(self, op: Op, a: Operand, b: Operand) -> Value:
        """lane offsets against one distance, in 32 bits: base_a + offset_a < base_b + offset_b where offset_a - offset_b < base_b - base_a."""
        task, f = self.task, self.task.f
        left, right = task.as_ramp(a), task.as_ramp(b)
        if left is None or right is None:
            x, y = self.operands(self._as_i64(a), self._as_i64(b))
            return f.compare(f"icmp {'' if op in (Op.EQ, Op.NE) else 's'}{_INT_COMPARISONS[op]}", x, y)
        offsets = [x - y for x, y in zip(left.offsets, right.offsets, strict=True)]
        limit = max(map(abs, offsets)) + 1
        distance = fold_sum(task, "sub", right.base, left.base)
        clamped = f.intrinsic("llvm.smax.i64", "i64", f.intrinsic("llvm.smin.i64", "i64", distance, constant(limit, "i64")), constant(-limit, "i64"))
        narrow = f.splat(f.convert("trunc", clamped, "i32"), task.lanes)
        return f.compare(f"icmp {'' if op in (Op.EQ, Op.NE) else 's'}{_INT_COMPARISONS[op]}", vector_constant(offsets, "i32"), narrow)

    # -- choices
    def _select(self, node: Expr) -> Operand:
        condition = self.value(node.args[0])
        if isinstance(condition, Value) and condition.text in ("true", "false"):
            return self.value(node.args[1 if condition.text == "true" else 2])
        return self._choose(condition, self.value(node.args[1]), self.value(node.args[2]))

    def _choose(self, condition: Operand, a: Operand, b: Operand) -> Operand:
        assert isinstance(condition, Value)
        x, y = self.operands(a, b)
        if x.lanes != condition.lanes and condition.lanes > 1:
            x, y = self.task.widened(x), self.task.widened(y)
        return self.task.f.select(condition, x, y)

    def _if_then_else(self, node: Expr) -> Operand:
        return self._lazy_choice(node, self.value)

    def _lazy_choice(self, node: Expr, evaluate: Callable[[Expr], Operand]) -> Operand:
        """Only what is taken is evaluated, unless evaluating both is harmless; lanes that differ evaluate both sides under masks."""
        test, a, b = node.args
        condition = self.value(test)
        assert isinstance(condition, Value)
        if condition.text in ("true", "false"):
            return evaluate(a if condition.text == "true" else b)
        if self.is_harmless(a) and self.is_harmless(b):
            return self._choose(condition, evaluate(a), evaluate(b))
        if condition.lanes == 1:
            return self._branch(node, condition, lambda: self._under(test, True, evaluate, a), lambda: self._under(test, False, evaluate, b))
        with self.task.masked(condition):
            x = self._under(test, True, evaluate, a)
        with self.task.masked(condition, holds=False):
            y = self._under(test, False, evaluate, b)
        return self._choose(condition, x, y)

    def _under(self, test: Expr, holds: bool, evaluate: Callable[[Expr], Operand], node: Expr) -> Operand:
        with self.task.assuming((part, holds) for part in (conjuncts(test) if holds else [test])):
            return evaluate(node)

    def _branch(self, node: Expr, condition: Value, if_true: Callable[[], Operand], if_false: Callable[[], Operand]) -> Operand:
        task, f = self.task, self.task.f
        is_varying = not self.is_uniform(node)
        then, other, end = f.label("taken"), f.label("other"), f.label("chosen")
        f.branch_if(condition, then, other)
        incoming: list[tuple[Value, str]] = []
        for label, side in ((then, if_true), (other, if_false)):
            f.start(label)
            with task.scope():
                result = side()
                incoming.append((task.widened(result) if is_varying or isinstance(result, Ramp) else result, f.block))
            f.branch(end)
        f.start(end)
        return f.phi(incoming[0][0].type, incoming)

    def is_uniform(self, node: Expr) -> bool:
        """Whether an expression is certain to be the same in all lanes."""
        task = self.task
        if task.lanes == 1:
            return True
        operands = (task.indices.get(v, task.values.get(v)) for v in task.facts.dependences(node).variables if v not in task.aliases)
        aliases = (task.aliases[v] for v in task.facts.dependences(node).variables if v in task.aliases)
        if not task.facts.dependences(node).storages.isdisjoint(task.private):
            return False
        return all(o is not None and is_scalar(o) for o in operands) and all(map(self.is_uniform, aliases))

    def _logical(self, node: Expr) -> Operand:
        left, right = node.args
        is_and = node.op is Op.AND
        a = self.value(left)
        assert isinstance(a, Value)
        if a.text in ("true", "false"):
            return self.value(right) if (a.text == "true") == is_and else a
        if self.is_harmless(right):
            b = self.value(right)
            assert isinstance(b, Value)
            if b.text in ("true", "false"):
                return a if (b.text == "true") == is_and else b
            return self.task.f.binary("and" if is_and else "or", *self.operands(a, b))
        if a.lanes > 1:
            with self.task.masked(a, holds=is_and):
                b = self.value(right)
            assert isinstance(b, Value)
            return self.task.f.binary("and" if is_and else "or", *self.operands(a, b))
        decided = constant(not is_and, "i1")
        sides = (lambda: self.value(right), lambda: decided)
        return self._branch(node, a, *(sides if is_and else sides[::-1]))

    def is_harmless(self, node: Expr) -> bool:
        """Whether a side of a lazy choice may be evaluated in vain: it loads nothing that the choice may protect, and calls nothing impure."""
        task = self.task
        dependences = task.facts.dependences(node)
        return dependences.is_pure and (not dependences.storages or task.is_safe(node))

    # -- conversions and calls
    def _cast(self, node: Expr) -> Operand:
        source = node.args[0]
        task = self.task
        if node.dtype.bits == 64 and node.dtype.is_integer and node.dtype.is_signed and task.is_index(node):
            return self.index(node)
        operand = self.value(source)
        if isinstance(operand, Ramp):
            type_ = registers.register_type(node.dtype)
            if node.dtype.is_integer and not node.dtype.is_packed and node.dtype.bits <= source.dtype.bits:
                return Ramp(self._truncated(operand.base, type_), operand.offsets, operand.multiple)
            operand = task.widened(operand)
        return registers.cast(task, operand, source.dtype, node.dtype, node.attribute)

    def _reinterpret(self, node: Expr) -> Operand:
        operand = self.value(node.args[0])
        return registers.reinterpret(self.task, operand if isinstance(operand, Value) else self.task.widened(operand), node.args[0].dtype, node.dtype)

    def _call(self, node: Expr) -> Operand:
        operands = [self.value(a) for a in node.args]
        arguments = [a for a in operands if isinstance(a, Value)] if all(map(is_scalar, operands)) else [self.task.widened(a) for a in operands]
        return registers.call(self.task, node.attribute, arguments, tuple(a.dtype for a in node.args))
