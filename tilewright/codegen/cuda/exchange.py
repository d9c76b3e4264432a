"""Exchanges between the threads of a warp as CUDA C++ (floor 6). Source: CUDA C++ Programming Guide, "Warp Shuffle, Vote, Match and Reduce Functions"."""

from __future__ import annotations

from tilewright.codegen.cfamily import types
from tilewright.codegen.cfamily.prelude import Helper
from tilewright.codegen.cfamily.text import Text, atom, call, cast, infix
from tilewright.codegen.cuda.convert import FUNCTION, Conversions
from tilewright.codegen.cuda.operators import Operators
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.ir.expr import Op
from tilewright.ir.stmt import WARP_THREADS, WarpExchange, WarpExchangeKind
from tilewright.target.nvidia import Feature

FULL_MASK = 0xFFFFFFFF
_SHUFFLES = {
    WarpExchangeKind.SHUFFLE: "__shfl_sync",
    WarpExchangeKind.SHUFFLE_UP: "__shfl_up_sync",
    WarpExchangeKind.SHUFFLE_DOWN: "__shfl_down_sync",
    WarpExchangeKind.SHUFFLE_XOR: "__shfl_xor_sync",
}
# The operation of a reduction, and the end of the name of the function that does it on 32-bit integers.
_REDUCTIONS = {
    WarpExchangeKind.SUM: (Op.ADD, "add"),
    WarpExchangeKind.MAX: (Op.MAX, "max"),
    WarpExchangeKind.MIN: (Op.MIN, "min"),
    WarpExchangeKind.BIT_AND: (Op.BIT_AND, "and"),
    WarpExchangeKind.BIT_OR: (Op.BIT_OR, "or"),
}
_MATCH_ALL = {
    bits: Helper(
        f"tw_match_all_{bits}",
        f"""{FUNCTION} unsigned tw_match_all_{bits}(unsigned mask, {types.integer_type(bits, is_signed=False)} x) {{
    int is_equal;
    return __match_all_sync(mask, x, &is_equal);
}}""",
    )
    for bits in (32, 64)
}


class Exchanges:
    """Warp exchanges for one target."""

    def __init__(self, conversions: Conversions, operators: Operators) -> None:
        self.conversions, self.prelude, self.target, self.operators = conversions, conversions.prelude, conversions.target, operators

    def exchange(self, node: WarpExchange, value: Text, operand: Text | None, mask: Text) -> Text:
        """What the thread receives, in value form."""
        dtype = node.value.dtype
        match node.kind:
            case kind if kind in _SHUFFLES:
                assert operand is not None
                width = () if node.width == WARP_THREADS else (str(node.width),)
                return self._narrowed(call(_SHUFFLES[kind], mask, self._widened(value, dtype), operand, *width), dtype)
            case WarpExchangeKind.ANY | WarpExchangeKind.ALL:
                return cast("int", infix("!=", call(f"__{node.kind.value}_sync", mask, value), atom("0")))
            case WarpExchangeKind.BALLOT:
                return call("__ballot_sync", mask, value)
            case WarpExchangeKind.ACTIVE_MASK:
                return call("__activemask")
            case WarpExchangeKind.MATCH_ANY:
                return call("__match_any_sync", mask, self._bits(value, dtype))
            case WarpExchangeKind.MATCH_ALL:
                return self.prelude.call(_MATCH_ALL[64 if dtype.bits == 64 else 32], mask, self._bits(value, dtype))
            case kind if kind in _REDUCTIONS:
                return self._reduced(kind, value, mask, dtype, is_full=node.mask.is_const and node.mask.value == FULL_MASK)
            case _:
                raise CompilerBug(f"the exchange {node.kind.value} has no CUDA text")

    def _widened(self, value: Text, dtype: DType) -> Text:
        """As a type that shuffles take."""
        return cast("int", value) if not dtype.is_float and dtype.bits < 32 else value

    def _narrowed(self, value: Text, dtype: DType) -> Text:
        if dtype.is_bool:
            return infix("!=", value, atom("0"))
        return cast(types.value_type(dtype), value) if dtype.is_integer and dtype.bits < 32 else value

    def _bits(self, value: Text, dtype: DType) -> Text:
        """The bits of a value as an unsigned integer."""
        if dtype.is_float and dtype.bits == 64:
            return cast("unsigned long long", call("__double_as_longlong", value))
        if dtype.is_float:
            return call("__float_as_uint", value)
        return cast("unsigned long long" if dtype.bits == 64 else "unsigned", value)

    def _reduced(self, kind: WarpExchangeKind, value: Text, mask: Text, dtype: DType, *, is_full: bool) -> Text:
        op, suffix = _REDUCTIONS[kind]
        if dtype.is_integer and dtype.bits <= 32 and self.target.has(Feature.REDUX):
            type_ = "int" if dtype.is_signed and op in (Op.MAX, Op.MIN) else "unsigned"
            reduced = call(f"__reduce_{suffix}_sync", mask, cast(type_, value))
            if dtype.is_packed:
                return self.conversions.nibble(reduced, dtype)
            return cast(types.value_type(dtype), reduced) if types.value_type(dtype) != type_ else reduced
        type_ = types.value_type(dtype)
        other = self._narrowed(call("__shfl_xor_sync" if is_full else "__shfl_sync", "mask", self._widened(atom("x"), dtype), "lane"), dtype)
        name = f"tw_warp_{suffix}_{dtype!s}" + ("" if is_full else "_masked")
        if is_full:
            combined = self.operators.combined(op, atom("x"), other, dtype)
            text = f"""{FUNCTION} {type_} {name}(unsigned mask, {type_} x) {{
    #pragma unroll
    for (int lane = 16; lane > 0; lane /= 2) x = {combined};
    return x;
}}"""
        else:
            combined = self.operators.combined(op, atom("result"), other, dtype)
            text = f"""{FUNCTION} {type_} {name}(unsigned mask, {type_} x) {{
    int lane = __ffs(mask) - 1;
    {type_} result = {other};
    #pragma unroll 1
    for (unsigned rest = mask & (mask - 1u); rest != 0u; rest &= rest - 1u) {{
        lane = __ffs(rest) - 1;
        result = {combined};
    }}
    return result;
}}"""
        return self.prelude.call(Helper(name, text), mask, value)
