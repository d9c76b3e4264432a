"""Arithmetic with an explicit rounding mode, and fma (floor 6).

Rounding to nearest is what all code does. The other modes run in small functions of their own that switch the processor's rounding mode and back:
LLVM moves no ordinary arithmetic into them, and inside them the constrained intrinsics stay between the two switches.
"""

from __future__ import annotations

from tilewright.codegen.llvm.convert import round_to
from tilewright.codegen.llvm.emitter import Function
from tilewright.codegen.llvm.math.power import rsqrt, two_sum
from tilewright.codegen.llvm.term import Term
from tilewright.dtypes import float32
from tilewright.errors import Kind, fail
from tilewright.intrin.ieee import IeeeOperation
from tilewright.ir.expr import Rounding
from tilewright.spans import span_of_caller
from tilewright.target.cpu import Feature

# The argument of llvm.set.rounding (LLVM language reference; the values of FLT_ROUNDS in C).
_MODE = {Rounding.TOWARD_ZERO: 0, Rounding.NEAREST_EVEN: 1, Rounding.UP: 2, Rounding.DOWN: 3}

_INSTRUCTION = {
    IeeeOperation.ADD: "fadd",
    IeeeOperation.SUBTRACT: "fsub",
    IeeeOperation.MULTIPLY: "fmul",
    IeeeOperation.DIVIDE: "fdiv",
    IeeeOperation.SQUARE_ROOT: "sqrt",
    IeeeOperation.FUSED_MULTIPLY_ADD: "fma",
}


def ieee(operation: IeeeOperation, rounding: Rounding, *terms: Term) -> Term:
    """The exact result rounded once in the named direction."""
    if operation is IeeeOperation.RECIPROCAL:
        return ieee(IeeeOperation.DIVIDE, rounding, terms[0].operand(1.0), terms[0])
    if operation is IeeeOperation.RECIPROCAL_SQUARE_ROOT:
        return rsqrt(terms[0].convert("fpext", "double")).convert("fptrunc", terms[0].element)
    if operation is IeeeOperation.FUSED_MULTIPLY_ADD and not terms[0].scope.has(Feature.FMA):
        return _fma_without_instruction(rounding, *terms)
    if rounding is not Rounding.NEAREST_EVEN:
        return _call_directed(operation, rounding, *terms)
    a, *others = terms
    match operation:
        case IeeeOperation.ADD:
            return a + others[0]
        case IeeeOperation.SUBTRACT:
            return a - others[0]
        case IeeeOperation.MULTIPLY:
            return a * others[0]
        case IeeeOperation.DIVIDE:
            return a / others[0]
        case IeeeOperation.SQUARE_ROOT:
            return a.sqrt()
        case _:
            return a.mad(*others)


def fma(a: Term, b: Term, c: Term) -> Term:
    """a * b + c rounded once."""
    return ieee(IeeeOperation.FUSED_MULTIPLY_ADD, Rounding.NEAREST_EVEN, a, b, c)


def _call_directed(operation: IeeeOperation, rounding: Rounding, *terms: Term) -> Term:
    caller = terms[0].scope.function
    value = terms[0].value
    name = f"tw_{_INSTRUCTION[operation]}_{rounding.value}_{value.overload}"
    if name not in caller.module.functions:
        _write_directed(caller, name, operation, rounding, terms)
    arguments = ", ".join(str(term.value) for term in terms)
    return terms[0].scope(caller.emit(value.type, f"call {value.type} @{name}({arguments})"))


def _write_directed(caller: Function, name: str, operation: IeeeOperation, rounding: Rounding, terms: tuple[Term, ...]) -> None:
    module, value = caller.module, terms[0].value
    intrinsic = f"llvm.experimental.constrained.{_INSTRUCTION[operation]}.{value.overload}"
    module.declare("llvm.set.rounding", "void", ["i32"])
    module.declare(intrinsic, value.type, [*(term.value.type for term in terms), "metadata", "metadata"])
    f = module.function(name, f"internal {value.type}", [(value.type, f"a{i}") for i in range(len(terms))], "noinline nounwind strictfp")
    f.line(f"call void @llvm.set.rounding(i32 {_MODE[rounding]}) strictfp")
    operands = "".join(f"{argument}, " for argument in f.arguments.values())
    result = f.emit(value.type, f'call {value.type} @{intrinsic}({operands}metadata !"round.dynamic", metadata !"fpexcept.strict") strictfp')
    f.line(f"call void @llvm.set.rounding(i32 {_MODE[Rounding.NEAREST_EVEN]}) strictfp")
    f.ret(result)


def _fma_without_instruction(rounding: Rounding, a: Term, b: Term, c: Term) -> Term:
    """float32 in double: the product is exact, the sum is rounded to odd, and so rounds right again to float32."""
    if a.element == "double":
        fail(
            Kind.TARGET_FEATURE,
            "a float64 multiply-add with one rounding is not available on this target",
            span_of_caller(),
            because="the processor has no fused multiply-add instruction",
            help="write a * b + c, or use float32",
        )
    if rounding is Rounding.DOWN:  # as the mirror image, which also gives exact zeros their sign
        return -_fma_without_instruction(Rounding.UP, -a, b, -c)
    wide_a, wide_b, wide_c = (t.convert("fpext", "double") for t in (a, b, c))
    total, lost = two_sum(wide_a * wide_b, wide_c)
    bits = total.bits()
    is_moved = ((lost < 0.0) | (lost > 0.0)) & (bits & 1).equals(0)
    step = ((lost > 0.0) ^ (total < 0.0)).select(bits.operand(1), -1)
    odd = (bits + is_moved.select(step, 0)).as_float()
    return a.scope(round_to(a.scope.function, odd.value, float32, a.scope.features, rounding))
