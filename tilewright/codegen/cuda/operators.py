"""Operations of elements as CUDA C++, where the expression printer and the helpers for atomics and warps need the same text (floor 6)."""

from __future__ import annotations

from tilewright.codegen.cfamily import types
from tilewright.codegen.cfamily.text import Text, call, cast, infix
from tilewright.codegen.cuda.convert import Conversions
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.ir.expr import Op

_INFIX = {Op.ADD: "+", Op.SUB: "-", Op.MUL: "*", Op.BIT_AND: "&", Op.BIT_OR: "|", Op.BIT_XOR: "^", Op.SHIFT_LEFT: "<<"}
_WRAPPING = frozenset({Op.ADD, Op.SUB, Op.MUL, Op.SHIFT_LEFT})


class Operators:
    """Arithmetic on value forms; results are in the dtype's value form."""

    def __init__(self, conversions: Conversions) -> None:
        self.conversions = conversions

    def combined(self, op: Op, left: Text, right: Text, dtype: DType) -> Text:
        """`left op right` for the operations that integers and floats share, and bitwise ones."""
        if op in (Op.MIN, Op.MAX):
            return self.extremum(op, left, right, dtype)
        if dtype.is_float:
            return self.conversions.round_to(infix(_INFIX[op], left, right), dtype)
        return self.integer(op, left, right, dtype)

    def extremum(self, op: Op, left: Text, right: Text, dtype: DType) -> Text:
        """min or max; of floats the one that is not NaN."""
        if dtype.is_bool:
            return infix("&&" if op is Op.MIN else "||", left, right)
        if dtype.is_float:
            return call(f"f{op.value}{'' if dtype.bits == 64 else 'f'}", left, right)
        result = call(op.value, left, right)
        return result if dtype.bits >= 32 else cast(types.value_type(dtype), result)

    def integer(self, op: Op, left: Text, right: Text, dtype: DType, *, may_wrap: bool = True) -> Text:
        """An operation on integers, or exclusive or of bools. Signed overflow has no meaning in C, so what may wrap is computed unsigned."""
        if op not in _INFIX:
            raise CompilerBug(f"{op.value} of integers has no common text")
        if dtype.is_bool:
            return infix("!=", left, right) if op is Op.BIT_XOR else infix("&&" if op is Op.BIT_AND else "||", left, right)
        symbol = _INFIX[op]
        if not may_wrap or (op not in _WRAPPING and dtype.bits >= 32):
            plain = infix(symbol, left, right)
            return plain if dtype.bits >= 32 else cast(types.value_type(dtype), plain)
        if dtype.is_signed or dtype.bits < 32:
            unsigned = types.integer_type(max(32, dtype.bits), is_signed=False)
            left = cast(unsigned, left)
            right = right if op is Op.SHIFT_LEFT else cast(unsigned, right)
        result = infix(symbol, left, right)
        if dtype.is_packed:
            return self.conversions.nibble(result, dtype)
        return cast(types.value_type(dtype), result) if dtype.is_signed or dtype.bits < 32 else result

    def negated(self, operand: Text, dtype: DType) -> Text:
        """0 - x of integers that may wrap."""
        return self.integer(Op.SUB, types.literal(0, dtype), operand, dtype)
