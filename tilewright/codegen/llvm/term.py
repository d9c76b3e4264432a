"""Values with Python's operators, so that numeric code reads as formulas while it writes LLVM instructions (floor 6).

    s = Scope(function, target.features)
    x = s(value)
    y = (x < 0.0).select(-x, x) * 2.0 + 1.0

Numbers become constants of the other operand's type. Everything works alike for scalars and for vectors of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tilewright.codegen.llvm.emitter import FLOAT_TYPES, Function, Value, constant, vector_type
from tilewright.target.cpu import Feature

_WIDTH_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64}
_FLOAT_OF_WIDTH = {16: "half", 32: "float", 64: "double"}


@dataclass(frozen=True, slots=True)
class Scope:
    """Where terms write: a function under construction, and what its target can do."""

    function: Function
    features: frozenset[Feature]

    def __call__(self, value: Value) -> Term:
        return Term(self, value)

    def has(self, feature: Feature) -> bool:
        return feature in self.features


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """An SSA value. Integer division is left out; `>>` is arithmetic, comparisons are signed and, on floats, false for NaN."""

    scope: Scope
    value: Value

    # -- what it is
    @property
    def element(self) -> str:
        return self.value.element

    @property
    def is_float(self) -> bool:
        return self.element in FLOAT_TYPES

    @property
    def width_bits(self) -> int:
        """Bits of one lane."""
        return _WIDTH_BITS[self.element] if self.is_float else int(self.element[1:])

    @property
    def mantissa_bits(self) -> int:
        """Stored bits of the fraction of a float."""
        return {"half": 10, "float": 23, "double": 52}[self.element]

    # -- writing
    def operand(self, other: Term | bool | float) -> Term:
        """A number as a constant of this type."""
        return other if isinstance(other, Term) else Term(self.scope, constant(other, self.value.type))

    def _binary(self, float_op: str, integer_op: str, other: Term | float, is_reversed: bool = False) -> Term:
        a, b = (self.operand(other), self) if is_reversed else (self, self.operand(other))
        op = float_op if self.is_float else integer_op
        return Term(self.scope, self.scope.function.binary(op, a.value, b.value))

    def _compare(self, float_op: str, integer_op: str, other: Term | float) -> Term:
        op = f"fcmp {float_op}" if self.is_float else f"icmp {integer_op}"
        return Term(self.scope, self.scope.function.compare(op, self.value, self.operand(other).value))

    def convert(self, op: str, element: str) -> Term:
        """A conversion instruction, for example `convert("sext", "i64")`; nothing where the type is the same already."""
        return Term(self.scope, self.scope.function.convert(op, self.value, vector_type(element, self.value.lanes)))

    def call(self, name: str, *others: Term) -> Term:
        """An LLVM intrinsic overloaded on this type only, with the result of this type: `call("llvm.sqrt")`."""
        values = [self.value, *(other.value for other in others)]
        return Term(self.scope, self.scope.function.intrinsic(f"{name}.{self.value.overload}", self.value.type, *values))

    # -- arithmetic
    def __add__(self, other: Term | float) -> Term:
        return self._binary("fadd", "add", other)

    def __radd__(self, other: float) -> Term:
        return self._binary("fadd", "add", other, is_reversed=True)

    def __sub__(self, other: Term | float) -> Term:
        return self._binary("fsub", "sub", other)

    def __rsub__(self, other: float) -> Term:
        return self._binary("fsub", "sub", other, is_reversed=True)

    def __mul__(self, other: Term | float) -> Term:
        return self._binary("fmul", "mul", other)

    def __rmul__(self, other: float) -> Term:
        return self._binary("fmul", "mul", other, is_reversed=True)

    def __truediv__(self, other: Term | float) -> Term:
        return self._binary("fdiv", "", other)

    def __rtruediv__(self, other: float) -> Term:
        return self._binary("fdiv", "", other, is_reversed=True)

    def __neg__(self) -> Term:
        if not self.is_float:
            return 0 - self
        return Term(self.scope, self.scope.function.emit(self.value.type, f"fneg {self.value}"))

    def mad(self, factor: Term | float, addend: Term | float) -> Term:
        """self * factor + addend, rounded once where the target has the instruction and twice elsewhere."""
        if not self.scope.has(Feature.FMA):
            return self * factor + addend
        return Term(self.scope, self.scope.function.fma(self.value, self.operand(factor).value, self.operand(addend).value))

    def polynomial(self, coefficients: Sequence[float]) -> Term:
        """coefficients[0] + coefficients[1] * self + ..., by Horner's rule; at least two of them."""
        result = self.mad(coefficients[-1], coefficients[-2])
        for coefficient in reversed(coefficients[:-2]):
            result = result.mad(self, coefficient)
        return result

    def sqrt(self) -> Term:
        return self.call("llvm.sqrt")

    def abs(self) -> Term:
        """A float without its sign bit."""
        return self.call("llvm.fabs")

    def with_sign_of(self, other: Term) -> Term:
        """A float with the sign bit of another, also where that is a zero or NaN.

        As integers: LLVM moves a narrowing past `llvm.copysign`, and may end at one from double to half, which is a call of a library that is not there.
        """
        sign = -1 << (self.width_bits - 1)
        return ((self.bits() & ~sign) | (other.bits() & sign)).as_float()

    def clamp(self, low: float, high: float) -> Term:
        """Within [low, high]; NaN stays. One minimum and one maximum instruction."""
        bounded = (self.operand(high) < self).select(high, self)
        return (bounded.operand(low) > bounded).select(low, bounded)

    # -- bits
    def bits(self) -> Term:
        """The integer with the bits of a float."""
        return self.convert("bitcast", f"i{self.width_bits}")

    def as_float(self) -> Term:
        """The float with the bits of an integer."""
        return self.convert("bitcast", _FLOAT_OF_WIDTH[self.width_bits])

    def __and__(self, other: Term | int) -> Term:
        return self._binary("", "and", other)

    def __or__(self, other: Term | int) -> Term:
        return self._binary("", "or", other)

    def __xor__(self, other: Term | int) -> Term:
        return self._binary("", "xor", other)

    def __invert__(self) -> Term:
        return self ^ (True if self.element == "i1" else -1)

    def __lshift__(self, other: Term | int) -> Term:
        return self._binary("", "shl", other)

    def __rshift__(self, other: Term | int) -> Term:
        return self._binary("", "ashr", other)

    def shift_right_logical(self, other: Term | int) -> Term:
        return self._binary("", "lshr", other)

    # -- comparisons
    def __lt__(self, other: Term | float) -> Term:
        return self._compare("olt", "slt", other)

    def __le__(self, other: Term | float) -> Term:
        return self._compare("ole", "sle", other)

    def __gt__(self, other: Term | float) -> Term:
        return self._compare("ogt", "sgt", other)

    def __ge__(self, other: Term | float) -> Term:
        return self._compare("oge", "sge", other)

    def equals(self, other: Term | float) -> Term:
        return self._compare("oeq", "eq", other)

    def differs(self, other: Term | float) -> Term:
        """Not equal; true for NaN."""
        return self._compare("une", "ne", other)

    def is_nan(self) -> Term:
        return self._compare("uno", "", self)

    def select(self, if_true: Term | float, if_false: Term | float) -> Term:
        """Lane by lane, where self is a condition; at least one of the choices is a Term."""
        model = if_true if isinstance(if_true, Term) else if_false
        assert isinstance(model, Term)
        a, b = model.operand(if_true), model.operand(if_false)
        return Term(self.scope, self.scope.function.select(self.value, a.value, b.value))

    def any_lane(self) -> Term:
        """A scalar condition: true where it holds in some lane."""
        if self.value.lanes == 1:
            return self
        return Term(self.scope, self.scope.function.intrinsic(f"llvm.vector.reduce.or.{self.value.overload}", "i1", self.value))


def rarely(condition: Term, usual: Sequence[Term], otherwise: Callable[[], Sequence[Term]]) -> list[Term]:
    """`usual`, unless the condition holds in some lane: then what `otherwise` computes, for all lanes, on a path of its own."""
    f = condition.scope.function
    rare, end = f.label("rare."), f.label("usual.")
    before = f.block
    f.branch_if(condition.any_lane().value, rare, end)
    f.start(rare)
    replaced = otherwise()
    after = f.block
    f.start(end)
    return [Term(condition.scope, f.phi(a.value.type, [(a.value, before), (b.value, after)])) for a, b in zip(usual, replaced, strict=True)]


def through_double(function: Callable[..., Term]) -> Callable[..., Term]:
    """A function of doubles that also takes floats, by way of double."""

    def widened(*terms: Term) -> Term:
        if terms[0].element == "double":
            return function(*terms)
        return function(*(t.convert("fpext", "double") for t in terms)).convert("fptrunc", "float")

    return widened
