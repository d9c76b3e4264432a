"""CUDA C++ as a dialect of C (floor 6)."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.codegen.cfamily.prelude import Helper, Prelude
from tilewright.codegen.cfamily.text import Text, call, cast
from tilewright.codegen.cuda.atomics import Atomics
from tilewright.codegen.cuda.convert import FUNCTION, Conversions
from tilewright.codegen.cuda.exchange import Exchanges
from tilewright.codegen.cuda.math import Functions
from tilewright.codegen.cuda.operators import Operators
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.intrin.nvidia.inline_asm import inline_asm
from tilewright.ir.expr import Op, Rounding
from tilewright.ir.intrinsic import Intrinsic
from tilewright.ir.stmt import AtomicKind, Barrier, BarrierScope, MemoryOrder, WarpExchange
from tilewright.target.nvidia import NvidiaTarget

_RESERVED_TEXT = (
    "threadIdx blockIdx blockDim gridDim warpSize shared status printf min max abs fabs fabsf isnan isinf isfinite float2 float4 int2 int4 uint2 uint4 "
    "double2 short2 ushort2 char2 dim3 size_t exp exp2 exp10 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh sqrt "
    "rsqrt erf floor ceil trunc round rint pow fmod hypot copysign ldexp fma nextafter NULL assert clock clock64 half j0 j1 jn y0 y1 yn"
)


def _floor_helpers(type_: str) -> dict[Op, Helper]:
    """C's division truncates: one less where the signs differ and something is left."""
    suffix = "" if type_ == "int" else "_long"
    return {
        Op.FLOORDIV: Helper(
            f"tw_floor_div{suffix}",
            f"""{FUNCTION} {type_} tw_floor_div{suffix}({type_} a, {type_} b) {{
    {type_} q = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}}""",
        ),
        Op.FLOORMOD: Helper(
            f"tw_floor_mod{suffix}",
            f"""{FUNCTION} {type_} tw_floor_mod{suffix}({type_} a, {type_} b) {{
    {type_} r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}}""",
        ),
    }


_FLOOR = {32: _floor_helpers("int"), 64: _floor_helpers("long long")}


_SHARED_ADDRESS = Helper("tw_shared", f"{FUNCTION} unsigned tw_shared(const void* p) {{ return (unsigned)__cvta_generic_to_shared(p); }}")


# Each block counts itself once per barrier; the last one of a round makes the count a multiple of the number of blocks. What the threads of a block wrote
# is ordered before its count by the barrier of the block and the fence, and what they read afterwards behind the last count of the round.
# Source: PTX ISA, "Memory Consistency Model", causality order.
_GRID_BARRIER = Helper(
    "tw_grid_barrier",
    f"""{FUNCTION} void tw_grid_barrier(unsigned long long* counter) {{
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {{
        const unsigned long long blocks = (unsigned long long)gridDim.x * gridDim.y * gridDim.z;
        __threadfence();
        const unsigned long long all = (atomicAdd(counter, 1ull) / blocks + 1) * blocks;
        unsigned long long arrived;
        do {{
            asm volatile("ld.acquire.gpu.u64 %0, [%1];" : "=l"(arrived) : "l"(counter) : "memory");
        }} while (arrived < all);
        __threadfence();
    }}
    __syncthreads();
}}""",
)


class CudaDialect:
    """CUDA C++ for one architecture; see `cfamily.dialect.Dialect`."""

    function_qualifiers = FUNCTION
    reserved_names = frozenset(_RESERVED_TEXT.split())

    def __init__(self, target: NvidiaTarget, *, is_fast_math: bool = False) -> None:
        self.target, self.prelude = target, Prelude()
        self.conversions = Conversions(target, self.prelude)
        self.operators = Operators(self.conversions)
        self.functions = Functions(self.conversions, is_fast=is_fast_math)
        self._atomics = Atomics(self.conversions, self.operators)
        self._exchanges = Exchanges(self.conversions, self.operators)

    # -- elements
    def from_storage(self, code: Text, dtype: DType) -> Text:
        return self.conversions.from_storage(code, dtype)

    def to_storage(self, value: Text, dtype: DType, rounding: Rounding = Rounding.NEAREST_EVEN) -> Text:
        return self.conversions.to_storage(value, dtype, rounding)

    def round_to(self, value: Text, dtype: DType, rounding: Rounding = Rounding.NEAREST_EVEN) -> Text:
        return self.conversions.round_to(value, dtype, rounding)

    def unrounded(self, value: Text, source: DType, target: DType, rounding: Rounding) -> Text:
        return self.conversions.unrounded(value, source, target, rounding)

    def convert(self, value: Text, source: DType, target: DType, rounding: Rounding) -> Text:
        return self.conversions.convert(value, source, target, rounding)

    def nibble(self, value: Text, dtype: DType) -> Text:
        return self.conversions.nibble(value, dtype)

    def bits_as_float(self, bits: Text, *, is_double: bool) -> Text:
        return call("__longlong_as_double", cast("long long", bits)) if is_double else call("__uint_as_float", cast("unsigned", bits))

    def float_as_bits(self, value: Text, *, is_double: bool) -> Text:
        return cast("unsigned long long", call("__double_as_longlong", value)) if is_double else call("__float_as_uint", value)

    # -- operations
    def integer(self, op: Op, left: Text, right: Text, dtype: DType, *, may_wrap: bool) -> Text:
        return self.operators.integer(op, left, right, dtype, may_wrap=may_wrap)

    def extremum(self, op: Op, left: Text, right: Text, dtype: DType) -> Text:
        return self.operators.extremum(op, left, right, dtype)

    def divide(self, left: Text, right: Text, *, is_double: bool) -> Text:
        return self.functions.divide(left, right, is_double=is_double)

    def exact_product(self, left: Text, right: Text, *, is_double: bool) -> Text:
        return self.functions.rounded_product(left, right, is_double=is_double)

    def floor_division(self, op: Op, left: Text, right: Text, bits: int) -> Text:
        return self.prelude.call(_FLOOR[64 if bits == 64 else 32][op], left, right)

    def call(self, intrinsic: Intrinsic, arguments: tuple[Text, ...], dtypes: tuple[DType, ...]) -> Text:
        return self.functions.call(intrinsic, arguments, dtypes)

    # -- threads
    def thread_index(self, axis: int) -> str:
        return f"threadIdx.{'xyz'[axis]}"

    def block_index(self, axis: int) -> str:
        return f"blockIdx.{'xyz'[axis]}"

    def barrier(self, node: Barrier) -> str:
        match node.scope:
            case BarrierScope.WARP:
                return "__syncwarp();"
            case BarrierScope.BLOCK if node.num_threads is not None:
                return f'asm volatile("bar.sync {node.barrier_id}, {node.num_threads};" ::: "memory");'
            case BarrierScope.BLOCK:
                return "__syncthreads();" if node.barrier_id == 0 else f'asm volatile("bar.sync {node.barrier_id};" ::: "memory");'
            case BarrierScope.GRID:
                raise CompilerBug(f"a barrier of the grid at {node.span} was printed as one of a block")

    def grid_barrier(self, counter: Text) -> Text:
        return self.prelude.call(_GRID_BARRIER, counter)

    def exchange(self, node: WarpExchange, value: Text, operand: Text | None, mask: Text) -> Text:
        return self._exchanges.exchange(node, value, operand, mask)

    def fences(self, kind: AtomicKind, order: MemoryOrder, *, is_shared: bool) -> tuple[str | None, str | None]:
        return self._atomics.fences(kind, order, is_shared=is_shared)

    def atomic(self, kind: AtomicKind, dtype: DType, pointer: Text, value: Text, *, is_shared: bool) -> Text:
        return self._atomics.update(kind, dtype, pointer, value, is_shared=is_shared)

    def atomic_packed(self, kind: AtomicKind, dtype: DType, base: Text, index: Text, value: Text) -> Text:
        return self._atomics.update_packed(kind, dtype, base, index, value)

    def shared_address(self, pointer: Text) -> Text:
        return self.prelude.call(_SHARED_ADDRESS, pointer)

    def assembly(self, template: str, outputs: Sequence[str], inputs: Sequence[str], *, touches_memory: bool) -> str:
        return f"{inline_asm(template, outputs, inputs, touches_memory=touches_memory)};"

    def prefetch(self, pointer: Text) -> str:
        return f'asm volatile("prefetch.global.L2 [%0];" : : "l"({pointer}));'

    # -- the host
    def assume(self, condition: Text) -> str:
        return f"__builtin_assume({condition});"

    def fail(self, status: str, number: int, *, is_trapping: bool) -> list[str]:
        lines = [f"atomicCAS({status}, 0, {number});"]
        return [*lines, "__threadfence_system();", "__trap();"] if is_trapping else [*lines, "return;"]
