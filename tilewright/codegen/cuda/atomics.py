"""Atomic updates of one element as CUDA C++ (floor 6).

One instruction where the hardware has it, else a loop around compare-and-swap of the element's word. Memory orders are fences around the relaxed operation
(PTX ISA 9.0, "Memory Consistency Model"): of the block for shared memory, of the GPU for global memory.

Sums of float32 in global memory flush subnormal numbers to zero: so the hardware adds there.
"""

from __future__ import annotations

from tilewright.codegen.cfamily import types
from tilewright.codegen.cfamily.prelude import Helper
from tilewright.codegen.cfamily.text import UNARY, Text, atom, call, cast
from tilewright.codegen.cuda.convert import FUNCTION, Conversions
from tilewright.codegen.cuda.operators import Operators
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.ir.expr import Op
from tilewright.ir.stmt import AtomicKind, MemoryOrder
from tilewright.target.nvidia import Feature

_OPERATIONS = {
    AtomicKind.ADD: Op.ADD,
    AtomicKind.MAX: Op.MAX,
    AtomicKind.MIN: Op.MIN,
    AtomicKind.AND: Op.BIT_AND,
    AtomicKind.OR: Op.BIT_OR,
    AtomicKind.XOR: Op.BIT_XOR,
}
_BUILTINS = {
    AtomicKind.ADD: "atomicAdd",
    AtomicKind.MAX: "atomicMax",
    AtomicKind.MIN: "atomicMin",
    AtomicKind.AND: "atomicAnd",
    AtomicKind.OR: "atomicOr",
    AtomicKind.XOR: "atomicXor",
    AtomicKind.EXCHANGE: "atomicExch",
}
_RELEASING = frozenset({MemoryOrder.RELEASE, MemoryOrder.ACQ_REL, MemoryOrder.SEQ_CST})
_ACQUIRING = frozenset({MemoryOrder.CONSUME, MemoryOrder.ACQUIRE, MemoryOrder.ACQ_REL, MemoryOrder.SEQ_CST})


def _pair_add(suffix: str) -> Helper:
    """16-bit floats in global memory, subnormal numbers kept: the instruction on pairs, of which -0 leaves the neighbour as it is.

    The instruction on one of them is a loop around compare-and-swap in machine code.
    """
    name = f"tw_atomic_add_{suffix}"
    return Helper(
        name,
        f"""{FUNCTION} unsigned short {name}(unsigned short* p, unsigned short x) {{
    unsigned long long address = (unsigned long long)p;
    bool is_high = (address & 2ull) != 0;
    unsigned pair = is_high ? (unsigned)x << 16 | 0x8000u : 0x80000000u | x, old;
    asm volatile("atom.global.add.noftz.{suffix}x2 %0, [%1], %2;" : "=r"(old) : "l"(address & ~3ull), "r"(pair) : "memory");
    return (unsigned short)(is_high ? old >> 16 : old);
}}""",
    )


_ADD_HALF, _ADD_BFLOAT = _pair_add("f16"), _pair_add("bf16")


class Atomics:
    """Atomics for one target. Values and results are value forms."""

    def __init__(self, conversions: Conversions, operators: Operators) -> None:
        self.conversions, self.prelude, self.target, self.operators = conversions, conversions.prelude, conversions.target, operators

    def fences(self, kind: AtomicKind, order: MemoryOrder, *, is_shared: bool) -> tuple[str | None, str | None]:
        """The statements that stand before and behind an operation of that order."""
        scope = "cta" if is_shared else "gpu"
        strength = "sc" if order is MemoryOrder.SEQ_CST else "acq_rel"
        fence = f'asm volatile("fence.{strength}.{scope};" ::: "memory");'
        is_before = order in _RELEASING and (kind is not AtomicKind.LOAD or order is MemoryOrder.SEQ_CST)
        return fence if is_before else None, fence if order in _ACQUIRING else None

    def update(self, kind: AtomicKind, dtype: DType, pointer: Text, value: Text, *, is_shared: bool) -> Text:
        """An expression that does the update of a whole-byte element and gives what was there."""
        if kind is AtomicKind.LOAD:
            loaded = Text(f"*(const volatile {types.storage_type(dtype)}*){pointer.at(UNARY)}", UNARY)
            return self.conversions.from_storage(loaded, dtype)
        native = self._native(kind, dtype, pointer, value, is_shared=is_shared)
        return native if native is not None else self.prelude.call(self._loop(kind, dtype), pointer, value)

    def update_packed(self, kind: AtomicKind, dtype: DType, base: Text, index: Text, value: Text) -> Text:
        """The same for element `index` of memory that holds two elements a byte."""
        return self.prelude.call(self._loop(kind, dtype), base, index, value)

    def _native(self, kind: AtomicKind, dtype: DType, pointer: Text, value: Text, *, is_shared: bool) -> Text | None:
        if dtype.is_float and kind is AtomicKind.ADD:
            if dtype.bits >= 32:
                return call("atomicAdd", pointer, value)
            helper = _ADD_HALF if dtype == "float16" else _ADD_BFLOAT if dtype == "bfloat16" and self.target.has(Feature.ATOMIC_BF16) else None
            if helper is None or is_shared:
                return None
            return self.conversions.from_storage(self.prelude.call(helper, pointer, self.conversions.to_storage(value, dtype)), dtype)
        if dtype.is_float and kind is AtomicKind.EXCHANGE and dtype.bits == 32:
            return call("atomicExch", pointer, value)
        if not dtype.is_integer or dtype.bits < 32:
            return None
        if dtype.bits == 64 and dtype.is_signed and kind not in (AtomicKind.MAX, AtomicKind.MIN):
            wide = "unsigned long long"
            return cast("long long", call(_BUILTINS[kind], cast(f"{wide}*", pointer), cast(wide, value)))
        return call(_BUILTINS[kind], pointer, value)

    def _loop(self, kind: AtomicKind, dtype: DType) -> Helper:
        name = f"tw_atomic_{kind.value}_{dtype!s}"
        value_type, storage = types.value_type(dtype), types.storage_type(dtype)
        decoded, encoded = self._decoded(atom("code"), dtype), self._encoded(self._combined(kind, dtype), dtype)
        if dtype.bits >= 16 and not dtype.is_bool:
            word = types.integer_type(dtype.bits, is_signed=False)
            text = f"""{FUNCTION} {value_type} {name}({storage}* p, {value_type} x) {{
    {word} seen = *(volatile {word}*)p, code;
    {value_type} old;
    do {{
        code = seen;
        old = {decoded};
        seen = atomicCAS(({word}*)p, code, ({word}){encoded.at(UNARY)});
    }} while (seen != code);
    return old;
}}"""
            return Helper(name, text)
        # The aligned word around the byte lies in the same allocation, whose start and size are multiples of it.
        mask = 15 if dtype.is_packed else 255
        parameters, byte, half = f"{storage}* p", "(unsigned long long)p", ""
        if dtype.is_packed:
            parameters, byte, half = f"{storage}* p, long long index", "(unsigned long long)(p + (index >> 1))", " + ((unsigned)index & 1u) * 4u"
        text = f"""{FUNCTION} {value_type} {name}({parameters}, {value_type} x) {{
    unsigned long long byte = {byte};
    unsigned* word = (unsigned*)(byte & ~3ull);
    unsigned shift = ((unsigned)byte & 3u) * 8u{half}, seen = *(volatile unsigned*)word, before;
    {value_type} old;
    do {{
        before = seen;
        unsigned code = before >> shift & {mask}u;
        old = {decoded};
        seen = atomicCAS(word, before, (before & ~({mask}u << shift)) | ((unsigned){encoded.at(UNARY)} & {mask}u) << shift);
    }} while (seen != before);
    return old;
}}"""
        return Helper(name, text)

    def _combined(self, kind: AtomicKind, dtype: DType) -> Text:
        if kind is AtomicKind.EXCHANGE:
            return atom("x")
        if kind is AtomicKind.LOAD:
            return atom("old")
        if kind not in _OPERATIONS:
            raise CompilerBug(f"the atomic {kind.value} has no CUDA text")
        return self.operators.combined(_OPERATIONS[kind], atom("old"), atom("x"), dtype)

    def _decoded(self, code: Text, dtype: DType) -> Text:
        if dtype.is_float and dtype.bits >= 32:
            return call("__longlong_as_double" if dtype.bits == 64 else "__uint_as_float", cast("long long", code) if dtype.bits == 64 else code)
        if dtype.is_packed and dtype.is_integer:
            return self.conversions.nibble(code, dtype)
        if dtype.is_integer:
            return cast(types.value_type(dtype), code)
        return self.conversions.from_storage(cast(types.storage_type(dtype), code) if dtype.bits <= 8 else code, dtype)

    def _encoded(self, value: Text, dtype: DType) -> Text:
        if dtype.is_float and dtype.bits >= 32:
            return call("__double_as_longlong" if dtype.bits == 64 else "__float_as_uint", value)
        return self.conversions.to_storage(value, dtype)
