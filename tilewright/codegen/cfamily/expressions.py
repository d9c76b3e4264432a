"""Expressions as C, for one function (floor 6).

`value` gives an expression in the value form of its dtype, `stored` in the form that memory has, `index` an integer exactly, in 32 bits where they provably
suffice and in 64 otherwise. What a statement uses more than once is computed once, into a constant before the statement; so is what lies too deep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from tilewright.arith import value_range as vr
from tilewright.arith.value_range import ValueRange, exactly, value_range
from tilewright.codegen.cfamily import types
from tilewright.codegen.cfamily.dialect import Dialect
from tilewright.codegen.cfamily.names import Names
from tilewright.codegen.cfamily.ranges import Ranges, fits_int32
from tilewright.codegen.cfamily.text import Lines, Text, atom, call, cast, choice, infix, prefix
from tilewright.codegen.float_format import is_symmetric
from tilewright.dtypes import DType, int32
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import COMPARISONS, Expr, Op
from tilewright.ir.visit import subexpressions

_LAZY = frozenset({Op.IF_THEN_ELSE, Op.AND, Op.OR})
_DIVISIONS = frozenset({Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD})
_RANGE_OF = {
    Op.ADD: vr.add,
    Op.SUB: vr.subtract,
    Op.MUL: vr.multiply,
    Op.FLOORDIV: vr.floordiv,
    Op.FLOORMOD: vr.floormod,
    Op.MIN: vr.minimum,
    Op.MAX: vr.maximum,
}
_LIMITS: dict[Op, Callable[[int], ValueRange]] = {
    Op.LT: lambda limit: value_range(None, limit - 1),
    Op.LE: lambda limit: value_range(None, limit),
    Op.GE: lambda limit: value_range(limit, None),
    Op.GT: lambda limit: value_range(limit + 1, None),
}
_SYMBOLS = {Op.ADD: "+", Op.SUB: "-", Op.MUL: "*"}
# Deeper trees are cut into statements: compilers limit the nesting of parentheses, Python that of calls.
_MAXIMUM_DEPTH = 24
# Texts up to this length are cheaper to read twice than behind a name.
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Index:
    """An integer in a signed C type of 32 or 64 bits, and what is known of it."""

    text: Text
    bits: int
    range: ValueRange

    def at(self, bits: int) -> Text:
        if bits == self.bits:
            return self.text
        if self.range.is_constant:
            return types.integer_literal(self.range.residue, bits)
        return cast(types.integer_type(bits, is_signed=True), self.text)


class Loads(Protocol):
    """What expressions ask of `cfamily.memory`."""

    def load(self, buffer: Buffer, indices: tuple[Expr, ...]) -> Text: ...

    def load_stored(self, buffer: Buffer, indices: tuple[Expr, ...]) -> Text: ...


class Expressions:
    """Prints the expressions of one function; helper constants go to the lines that are being written."""

    def __init__(self, dialect: Dialect, names: Names, ranges: Ranges) -> None:
        self.dialect, self.names, self.ranges = dialect, names, ranges
        self.lines = Lines(1)
        self.memory: Loads  # set by the function that owns both
        self.used: set[Expr] = set()  # variables that the text names
        self._variables: dict[Expr, Index | Text] = {}
        self._temporaries: list[dict[Expr, Index | Text]] = [{}]
        self._to_name: frozenset[Expr] = frozenset()
        self._handlers: dict[Op, Callable[[Expr], Text]] = {
            Op.CONST: lambda node: types.literal(node.value, node.dtype),
            Op.VAR: self._variable,
            Op.NOT: lambda node: prefix("!", self.value(node.args[0])),
            Op.NEG: self._negate,
            Op.BIT_NOT: self._bit_not,
            Op.SELECT: self._select,
            Op.IF_THEN_ELSE: self._if_then_else,
            Op.AND: self._logical,
            Op.OR: self._logical,
            Op.CAST: self._cast,
            Op.REINTERPRET: self._reinterpret,
            Op.LOAD: lambda node: self.memory.load(node.buffer, node.args),
            Op.CALL: self._call,
            Op.SHIFT_RIGHT: self._shift_right,
            **dict.fromkeys((Op.MIN, Op.MAX), self._extremum),
            **dict.fromkeys((Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR, Op.SHIFT_LEFT), self._arithmetic),
            **dict.fromkeys((Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD), self._division),
            **dict.fromkeys(COMPARISONS, self._comparison),
        }

    # -- variables
    def bind(self, variable: Expr, name: str, known: ValueRange, *, is_index: bool) -> None:
        """Says how a variable is called from here on; integers of 32 bits and more are in `int` where their range fits, else in `long long`."""
        self.ranges.bind(variable, known, is_index=is_index)
        if _is_signed_index(variable.dtype):
            known = self.ranges.of(variable)
            self._variables[variable] = Index(atom(name), self.width(known), known)
        else:
            self._variables[variable] = atom(name)

    def narrow(self, condition: Expr, variables: Set[Expr]) -> None:
        """Learns the ranges of some variables from a condition that holds wherever they are used from here on."""
        if condition.op is Op.AND:
            for part in condition.args:
                self.narrow(part, variables)
            return
        if condition.op not in _LIMITS or condition.args[0] not in variables or not condition.args[1].is_const:
            return
        variable, limit = condition.args
        index = self._variables.get(variable)
        if isinstance(index, Index):
            known = vr.meet(index.range, _LIMITS[condition.op](int(limit.value)))
            self.ranges.bind(variable, known, is_index=self.ranges.is_index(variable))
            self._variables[variable] = Index(index.text, index.bits, known)

    def width(self, known: ValueRange) -> int:
        return 32 if fits_int32(known) else 64

    # -- one statement
    @contextmanager
    def statement(self, *roots: Expr) -> Iterator[None]:
        """While one statement is printed that evaluates the expressions: names what they share."""
        before = self._to_name
        self._to_name, order = self._shared(roots)
        self._temporaries.append({})
        for node in order:
            self._compute(node)
        yield
        self._temporaries.pop()
        self._to_name = before

    def _shared(self, roots: Iterable[Expr]) -> tuple[frozenset[Expr], list[Expr]]:
        """The nodes to name, and those of them that are computed ahead, operands first."""
        uses: dict[Expr, int] = {}
        depth: dict[Expr, int] = {}
        cut: set[Expr] = set()
        order: list[Expr] = []
        for root in roots:
            uses[root] = uses.get(root, 0) + 1
            for node in subexpressions(root):
                if node in depth:
                    continue
                order.append(node)
                for operand in node.args:
                    uses[operand] = uses.get(operand, 0) + 1
                depth[node] = 1 + max((depth[a] for a in node.args), default=0)
                if depth[node] > _MAXIMUM_DEPTH:
                    cut.add(node)
                    depth[node] = 1
        named = frozenset(n for n in order if n in cut or (uses[n] > 1 and not self._is_cheap(n)))
        if not named:
            return named, []
        always = self._always_evaluated(roots)
        return named, [n for n in order if n in named and (n in always or self._is_harmless(n))]

    def _is_cheap(self, node: Expr) -> bool:
        if node.op is Op.LOAD:
            return node.buffer.scope is Scope.VARIABLE
        return node.op is Op.CONST or node.op is Op.VAR

    def _always_evaluated(self, roots: Iterable[Expr]) -> set[Expr]:
        found: set[Expr] = set()
        stack = list(roots)
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack.extend(node.args[:1] if node.op in _LAZY else node.args)
        return found

    def _is_harmless(self, node: Expr) -> bool:
        """Whether a node may be evaluated in vain: it loads nothing that a condition may protect, divides by no variable, and calls nothing impure."""
        for part in subexpressions(node):
            if part.op is Op.LOAD and part.buffer.scope is not Scope.VARIABLE:
                return False
            if part.op in _DIVISIONS and part.dtype.is_integer and not part.args[1].is_const:
                return False
            if part.op is Op.CALL and not part.attribute.is_pure:
                return False
        return True

    def _found(self, node: Expr) -> Index | Text | None:
        for known in reversed(self._temporaries):
            if node in known:
                return known[node]
        return None

    def _compute(self, node: Expr) -> Index | Text:
        """The node's text, behind a name where it is to have one."""
        found = self._found(node)
        if found is not None:
            return found
        made: Index | Text = self._index_text(node) if self.ranges.is_index(node) and node.args else self._handlers[node.op](node)
        text = made.text if isinstance(made, Index) else made
        if node in self._to_name and len(text.text) > _SHORT:
            type_ = types.integer_type(made.bits, is_signed=True) if isinstance(made, Index) else types.value_type(node.dtype)
            name = self.names.fresh("t")
            self.lines.add(f"const {type_} {name} = {text};")
            made = Index(atom(name), made.bits, made.range) if isinstance(made, Index) else atom(name)
            self._temporaries[-1][node] = made
        return made

    @contextmanager
    def nested(self, lines: Lines) -> Iterator[None]:
        """While a part is printed that may not be executed: its constants stay with it."""
        before, self.lines = self.lines, lines
        self._temporaries.append({})
        yield
        self._temporaries.pop()
        self.lines = before

    # -- entry points
    def value(self, node: Expr) -> Text:
        """The value form."""
        types.refuse_vector_dtype(node, node.dtype)
        if node.op is Op.CONST:
            return types.literal(node.value, node.dtype)
        made = self._variable_or_none(node) or self._compute(node)
        return made.at(node.dtype.bits) if isinstance(made, Index) else made

    def index(self, node: Expr) -> Index:
        """An integer expression, exactly."""
        if node.op is Op.CONST:
            value = int(node.value)
            known = exactly(value)
            return Index(types.integer_literal(value, self.width(known)), self.width(known), known)
        if _is_signed_index(node.dtype):
            if self._found(node) is None and not self.ranges.is_index(node):
                if node.op in (Op.ADD, Op.SUB):  # of what was loaded, too: it cannot overflow, by the promise on indices
                    a, b = map(self.index, node.args)
                    return self.exact(node.op, a, b, _RANGE_OF[node.op](a.range, b.range))
                if node.op is Op.CAST and _is_signed_index(node.args[0].dtype) and node.dtype.bits >= node.args[0].dtype.bits:
                    return self.index(node.args[0])
            made = self._variable_or_none(node) or self._compute(node)
            if isinstance(made, Index):
                return made
            return Index(made, node.dtype.bits, self.ranges.of(node))
        return self.as_index(self.value(node), node)

    def as_index(self, text: Text, node: Expr) -> Index:
        """A value form of an unsigned or narrow integer dtype, as an index."""
        known, dtype = self.ranges.of(node), node.dtype
        if dtype.bits < 32 or dtype.is_bool:
            return Index(text, 32, known)
        width = self.width(known)
        return Index(cast(types.integer_type(width, is_signed=True), text), width, known)

    def stored(self, node: Expr) -> Text:
        """The storage form; values that only move are not converted, and results are rounded once."""
        dtype = node.dtype
        types.refuse_vector_dtype(node, dtype)
        if not types.is_coded(dtype):
            return self.dialect.to_storage(self.value(node), dtype)
        if self._found(node) is None and node not in self._to_name:
            match node.op:
                case Op.LOAD:
                    return self.memory.load_stored(node.buffer, node.args)
                case Op.SELECT:
                    return choice(self.value(node.args[0]), self.stored(node.args[1]), self.stored(node.args[2]))
                case Op.CAST:
                    source = node.args[0]
                    value = self.dialect.unrounded(self.value(source), source.dtype, dtype, node.attribute)
                    return self.dialect.to_storage(value, dtype, node.attribute)
                case _ if node.op in self._unrounded_handlers:
                    return self.dialect.to_storage(self._unrounded_handlers[node.op](self, node), dtype)
                case Op.CONST:
                    return types.stored_literal(node.value, dtype)
        return self.dialect.to_storage(self.value(node), dtype)

    # -- exact arithmetic
    def _index_text(self, node: Expr) -> Index:
        """Arithmetic that `Ranges.is_index` accepts."""
        match node.op:
            case Op.CAST:
                inner = self.index(node.args[0])
                known = self.ranges.of(node)
                return inner if node.dtype.bits == 64 or fits_int32(inner.range) else Index(cast("int", inner.at(64)), 32, known)
            case Op.NEG:
                inner = self.index(node.args[0])
                known = vr.negate(inner.range)
                width = max(inner.bits, self.width(known))
                return Index(prefix("-", inner.at(width)), width, known)
            case _:
                a, b = map(self.index, node.args)
                return self.exact(node.op, a, b, self.ranges.of(node))

    def exact(self, op: Op, a: Index, b: Index, known: ValueRange) -> Index:
        """`a op b` whose result lies in `known`, in as many bits as operands and result need."""
        width = max(a.bits, b.bits, self.width(known))
        left = a.at(width)
        right = b.text if op in _SYMBOLS else b.at(width)  # C widens it as the left side is
        if op in _SYMBOLS:
            if b.range.is_constant and b.range.residue < 0 and op in (Op.ADD, Op.SUB):
                flipped = Op.SUB if op is Op.ADD else Op.ADD
                return Index(infix(_SYMBOLS[flipped], left, types.integer_literal(-b.range.residue, b.bits)), width, known)
            return Index(infix(_SYMBOLS[op], left, right), width, known)
        if op in (Op.MIN, Op.MAX):
            return Index(call(op.value, left, right), width, known)
        return Index(self._floor(op, left, right, a.range, b.range, width), width, known)

    def _floor(self, op: Op, left: Text, right: Text, a: ValueRange, b: ValueRange, bits: int) -> Text:
        """`//` or `%` of signed integers: shifts and masks for powers of two, C's operators where the signs are known, else the dialect's helper."""
        is_quotient = op is Op.FLOORDIV
        if b.is_constant and b.residue > 0 and b.residue & (b.residue - 1) == 0:
            if is_quotient:
                return infix(">>", left, atom(str(b.residue.bit_length() - 1)))
            return infix("&", left, atom(str(b.residue - 1)))
        if a.is_inside(0, None) and b.is_inside(0, None):
            return infix("/" if is_quotient else "%", left, right)
        return self.dialect.floor_division(op, left, right, bits)

    # -- leaves
    def _variable_or_none(self, node: Expr) -> Index | Text | None:
        if node.op is not Op.VAR:
            return None
        found = self._variables.get(node)
        if found is None:
            raise CompilerBug(f"the variable {node.name} has no value here")
        self.used.add(node)
        return found

    def _variable(self, node: Expr) -> Text:
        raise CompilerBug(f"the variable {node.name} is printed as an operation")

    # -- arithmetic
    def _unrounded(self, node: Expr) -> Text:
        """The result of a float operation before it is rounded to a narrow dtype."""
        a, b = self.value(node.args[0]), self.value(node.args[1])
        is_double = node.dtype.bits == 64
        if node.op is Op.DIV:
            return self.dialect.divide(a, b, is_double=is_double)
        return infix({Op.ADD: "+", Op.SUB: "-", Op.MUL: "*"}[node.op], a, b)

    def _arithmetic(self, node: Expr) -> Text:
        if node.dtype.is_float:
            return self.dialect.round_to(self._unrounded(node), node.dtype)
        a, b = self.value(node.args[0]), self.value(node.args[1])
        return self.dialect.integer(node.op, a, b, node.dtype, may_wrap=not self._is_exact(node))

    def _is_exact(self, node: Expr) -> bool:
        """Whether the exact result of an operation on integers fits its dtype."""
        if node.op not in (Op.ADD, Op.SUB, Op.MUL) or not node.dtype.is_integer:
            return False
        exact = _RANGE_OF[node.op](self.ranges.of(node.args[0]), self.ranges.of(node.args[1]))
        return exact.is_inside(int(node.dtype.minimum), int(node.dtype.maximum))

    def _shift_right(self, node: Expr) -> Text:
        made = infix(">>", self.value(node.args[0]), self.value(node.args[1]))
        return made if node.dtype.bits >= 32 else cast(types.value_type(node.dtype), made)

    def _negate(self, node: Expr) -> Text:
        operand = self.value(node.args[0])
        if node.dtype.is_float:
            made = prefix("-", operand)
            # A dtype without a negative zero, or without negative numbers, needs the result rounded like any other.
            return made if is_symmetric(node.dtype) else self.dialect.round_to(made, node.dtype)
        return self.dialect.integer(Op.SUB, types.literal(0, node.dtype), operand, node.dtype, may_wrap=True)

    def _bit_not(self, node: Expr) -> Text:
        dtype = node.dtype
        made = prefix("~", self.value(node.args[0]))
        if dtype.is_packed:
            return self.dialect.nibble(made, dtype)
        return made if dtype.bits >= 32 else cast(types.value_type(dtype), made)

    def _extremum(self, node: Expr) -> Text:
        return self.dialect.extremum(node.op, self.value(node.args[0]), self.value(node.args[1]), node.dtype)

    def _division(self, node: Expr) -> Text:
        dtype = node.dtype
        if dtype.is_float:
            return self.dialect.round_to(self._unrounded_division(node), dtype)
        a, b = self.value(node.args[0]), self.value(node.args[1])
        is_quotient = node.op in (Op.FLOORDIV, Op.TRUNCDIV)
        if node.op in (Op.TRUNCDIV, Op.TRUNCMOD) or not dtype.is_signed:
            made = infix("/" if is_quotient else "%", a, b)
        else:
            made = self._floor(node.op, a, b, self.ranges.of(node.args[0]), self.ranges.of(node.args[1]), dtype.bits)
        if dtype.is_packed:
            return self.dialect.nibble(made, dtype)
        return made if dtype.bits >= 32 else cast(types.value_type(dtype), made)

    def _unrounded_division(self, node: Expr) -> Text:
        """The quotient is rounded before it is made whole."""
        a, b = self.value(node.args[0]), self.value(node.args[1])
        is_double = node.dtype.bits == 64
        name = ("floor" if node.op in (Op.FLOORDIV, Op.FLOORMOD) else "trunc") + ("" if is_double else "f")
        whole = call(name, infix("/", a, b))
        if node.op in (Op.FLOORDIV, Op.TRUNCDIV):
            return whole
        return infix("-", a, self.dialect.exact_product(whole, b, is_double=is_double))

    def _unrounded_call(self, node: Expr) -> Text:
        return self.dialect.call(node.attribute, tuple(self.value(a) for a in node.args), tuple(a.dtype for a in node.args))

    _unrounded_handlers: dict[Op, Callable[[Expressions, Expr], Text]] = {  # noqa: RUF012
        **dict.fromkeys((Op.ADD, Op.SUB, Op.MUL, Op.DIV), _unrounded),
        **dict.fromkeys((Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD), _unrounded_division),
        Op.CALL: _unrounded_call,
    }

    def _call(self, node: Expr) -> Text:
        made = self._unrounded_call(node)
        return self.dialect.round_to(made, node.dtype) if types.is_coded(node.dtype) else made

    # -- comparisons and choices
    def _comparison(self, node: Expr) -> Text:
        left, right = node.args
        if _is_signed_index(left.dtype) and (self.ranges.is_index(left) or self.ranges.is_index(right)):
            a, b = (self.index(x) if self.ranges.is_index(x) else Index(self.value(x), x.dtype.bits, self.ranges.of(x)) for x in (left, right))
            return infix(node.op.value, a.text, b.text)
        return infix(node.op.value, self.value(left), self.value(right))

    def _select(self, node: Expr) -> Text:
        return choice(*(self.value(a) for a in node.args))

    def _lazily(self, node: Expr) -> tuple[Lines, Text]:
        """A part that may not be executed: the statements that it needs first, and its text."""
        inner = Lines(self.lines.depth + 1)
        with self.nested(inner):
            return inner, self.value(node)

    def _if_then_else(self, node: Expr) -> Text:
        condition = self.value(node.args[0])
        sides = [self._lazily(side) for side in node.args[1:]]
        if not any(lines.lines for lines, _ in sides):
            return choice(condition, sides[0][1], sides[1][1])
        name = self.names.fresh("t")
        self.lines.add(f"{types.value_type(node.dtype)} {name};")
        self._branch(name, condition, sides[0], sides[1])
        return atom(name)

    def _branch(self, name: str, condition: Text, if_true: tuple[Lines, Text], if_false: tuple[Lines, Text]) -> None:
        for head, (lines, text) in ((f"if ({condition}) {{", if_true), ("} else {", if_false)):
            self.lines.add(head)
            lines.add(f"{name} = {text};")
            self.lines.lines += lines.lines
        self.lines.add("}")

    def _logical(self, node: Expr) -> Text:
        left = self.value(node.args[0])
        lines, right = self._lazily(node.args[1])
        is_and = node.op is Op.AND
        if not lines.lines:
            return infix("&&" if is_and else "||", left, right)
        name = self.names.fresh("t")
        self.lines.add(f"bool {name} = {left};")
        self.lines.add(f"if ({name if is_and else '!' + name}) {{")
        lines.add(f"{name} = {right};")
        self.lines.lines += lines.lines
        self.lines.add("}")
        return atom(name)

    # -- conversions
    def _cast(self, node: Expr) -> Text:
        source = node.args[0]
        return self.dialect.convert(self.value(source), source.dtype, node.dtype, node.attribute)

    def _reinterpret(self, node: Expr) -> Text:
        """The bits of one dtype as another of equal width."""
        source, target = node.args[0].dtype, node.dtype
        bits = self.stored(node.args[0])
        if source.is_float and source.bits >= 32:
            bits = self.dialect.float_as_bits(bits, is_double=source.bits == 64)
        elif source.is_packed:
            bits = infix("&", bits, atom("15"))
        elif source.is_integer and source.is_signed and source.bits < 32:
            bits = cast(types.integer_type(source.bits, is_signed=False), bits)
        if target.is_float and target.bits >= 32:
            return self.dialect.bits_as_float(bits, is_double=target.bits == 64)
        if target.is_packed and target.is_integer:
            return self.dialect.nibble(bits, target)
        if types.is_coded(target) or target.is_bool:
            return self.dialect.from_storage(cast(types.storage_type(target), bits), target)
        return cast(types.value_type(target), bits)


def _is_signed_index(dtype: DType) -> bool:
    return dtype.is_integer and dtype.is_signed and dtype.bits >= int32.bits and dtype.lanes == 1
