"""The functions of `tilewright.intrin.math` as CUDA C++ (floor 6).

NVRTC knows CUDA's device functions without headers. Their errors in float32 (CUDA C++ Programming Guide, "Mathematical Functions: Standard Functions",
without -use_fast_math): at most 1 unit in the last place for exp, log, log2 and log1p; 2 for exp2, exp10, log10, sin, cos, asin, acos, atan, cosh, tanh,
erf, rsqrt; 3 for atan2, sinh, asinh, atanh, hypot; 4 for tan, acosh, pow; 0 for the others. Each lies within the `ulp` of its intrinsic; so do those of
float64, at most 2.
"""

from __future__ import annotations

from tilewright.codegen.cfamily import types
from tilewright.codegen.cfamily.prelude import Helper
from tilewright.codegen.cfamily.text import Text, atom, call, infix
from tilewright.codegen.cuda.convert import FUNCTION, Conversions
from tilewright.dtypes import DType, int32
from tilewright.errors import CompilerBug
from tilewright.intrin.ieee import IEEE_PARTS, IeeeOperation
from tilewright.intrin.math import FAST, MATH
from tilewright.ir.intrinsic import Intrinsic

# Functions of float64; those of float32 have an f behind the name.
_FUNCTIONS = {name: name for name in MATH if name not in IEEE_PARTS} | {
    "round": "rint",
    "nearbyint": "rint",
    "round_away": "round",
}
# Approximations of float32, taken where the user asked for fast math, or for one of them by name.
_APPROXIMATIONS = {name: f"__{name}f" for name in (*FAST, "pow")}
_FAST_NAMES = {intrinsic: name for name, intrinsic in FAST.items()}

# e / (1 + e) makes two units of one in e = exp(x), and adds its own: e and 1 + e are sums of two floats, the quotient is corrected by its remainder.
# e is 2**n * exp(r) with r = x - n * log(2), and exp(r) its series. Errors lie below 1.1 units; numbers below 2**-126 are formed by the last product.
_SIGMOID = Helper(
    "tw_sigmoidf",
    f"""{FUNCTION} float tw_sigmoidf(float x) {{
    float a = fabsf(x) > 110.0f ? 110.0f : fabsf(x), n = fmaxf(rintf(a * -1.442695f), -160.0f);
    float r = fmaf(n, -1.42860677e-6f, fmaf(n, -0.693145752f, -a));
    float series = fmaf(fmaf(fmaf(fmaf(fmaf(r, 1.0f / 5040, 1.0f / 720), r, 1.0f / 120), r, 1.0f / 24), r, 1.0f / 6), r, 0.5f);
    float tail = fmaf(r * r, series, r), high = 1.0f + tail, low = tail - (high - 1.0f);
    int half = (int)n >> 1;
    float some = __int_as_float((half + 127) << 23), others = __int_as_float(((int)n - half + 127) << 23);
    float e = high * some * others, sum = 1.0f + e, sum_low = e - (sum - 1.0f) + low * some * others;
    bool is_below = x < 0.0f;
    float top = is_below ? high : 1.0f, top_low = is_below ? low : 0.0f, inverse = __frcp_rn(sum), y = top * inverse;
    y = fmaf(fmaf(-y, sum, top) + (top_low - y * sum_low), inverse, y);
    return is_below ? y * some * others : y;
}}""",
)
# For narrow floats, which the few units do not reach.
_NARROW_SIGMOID = Helper(
    "tw_narrow_sigmoidf",
    f"""{FUNCTION} float tw_narrow_sigmoidf(float x) {{
    float small = expf(-fabsf(x));
    return (x >= 0.0f ? 1.0f : small) / (1.0f + small);
}}""",
)
_DOUBLE_SIGMOID = Helper(
    "tw_sigmoid",
    f"""{FUNCTION} double tw_sigmoid(double x) {{
    double small = exp(-fabs(x));
    return (x >= 0.0 ? 1.0 : small) / (1.0 + small);
}}""",
)
_FAST_SIGMOID = Helper("tw_fast_sigmoidf", f"{FUNCTION} float tw_fast_sigmoidf(float x) {{ return __fdividef(1.0f, 1.0f + __expf(-x)); }}")


def _approximate(name: str, instruction: str, operand: str = "x") -> Helper:
    return Helper(
        f"tw_fast_{name}f",
        f"""{FUNCTION} float tw_fast_{name}f(float x) {{
    float y;
    asm("{instruction} %0, %1;" : "=f"(y) : "f"({operand}));
    return y;
}}""",
    )


_FAST_HELPERS = {
    "sigmoid": _FAST_SIGMOID,
    "exp": _approximate("exp", "ex2.approx.ftz.f32", "x * 1.44269504f"),  # __expf, but for numbers below 2**-126, which become 0
    "exp2": _approximate("exp2", "ex2.approx.ftz.f32"),
    "tanh": _approximate("tanh", "tanh.approx.f32"),
    "rsqrt": _approximate("rsqrt", "rsqrt.approx.ftz.f32"),
    "sqrt": _approximate("sqrt", "sqrt.approx.ftz.f32"),
}
# On the codes of 16-bit floats, whose order is that of their magnitudes.
_NEXT_CODE = Helper(
    "tw_next_code",
    f"""{FUNCTION} unsigned short tw_next_code(float x, float toward, unsigned short code, unsigned short toward_code) {{
    if (x != x || toward != toward) return 0x7fff;
    if (x == toward) return toward_code;
    if (x == 0.0f) return toward < 0.0f ? 0x8001 : 1;
    return (unsigned short)((x < toward) == (x > 0.0f) ? code + 1 : code - 1);
}}""",
)
_IEEE_NAMES = {
    IeeeOperation.ADD: ("__fadd", "__dadd"),
    IeeeOperation.SUBTRACT: ("__fsub", "__dsub"),
    IeeeOperation.MULTIPLY: ("__fmul", "__dmul"),
    IeeeOperation.FUSED_MULTIPLY_ADD: ("__fmaf", "__fma"),
    IeeeOperation.RECIPROCAL: ("__frcp", "__drcp"),
    IeeeOperation.SQUARE_ROOT: ("__fsqrt", "__dsqrt"),
    IeeeOperation.DIVIDE: ("__fdiv", "__ddiv"),
    IeeeOperation.RECIPROCAL_SQUARE_ROOT: ("__frsqrt", ""),
}


class Functions:
    """Calls of intrinsics for one target."""

    def __init__(self, conversions: Conversions, *, is_fast: bool) -> None:
        self.conversions, self.prelude, self.is_fast = conversions, conversions.prelude, is_fast

    def call(self, intrinsic: Intrinsic, arguments: tuple[Text, ...], dtypes: tuple[DType, ...]) -> Text:
        """The value form of a call on value forms; of narrow floats not rounded to their dtype yet."""
        dtype = dtypes[0]
        is_double = dtype.is_float and dtype.bits == 64
        if intrinsic in _FAST_NAMES:
            return self._function(_FAST_NAMES[intrinsic], arguments, dtype, is_fast=True)
        if MATH.get(intrinsic.name) is not intrinsic:
            raise CompilerBug(f"{intrinsic!r} has no CUDA text")
        match intrinsic.name:
            case "isnan":
                return infix("!=", arguments[0], arguments[0]) if len(arguments[0].text) < 24 else call("isnan", arguments[0])
            case "isinf" | "isfinite":
                infinity = types.float_literal(float("inf"), is_double=is_double)
                return infix("==" if intrinsic.name == "isinf" else "<", call("fabs" if is_double else "fabsf", arguments[0]), infinity)
            case "popcount" | "clz":
                return self._count(intrinsic.name, arguments[0], dtype)
            case "nextafter" if dtype.bits == 16:
                codes = tuple(self.conversions.to_storage(a, dtype) for a in arguments)
                return self.conversions.from_storage(self.prelude.call(_NEXT_CODE, *arguments, *codes), dtype)
            case name if name in IEEE_PARTS:
                operation, rounding = IEEE_PARTS[name]
                return call(f"{_IEEE_NAMES[operation][is_double]}_{rounding.value}", *arguments)
            case name:
                return self._function(name, arguments, dtype, is_fast=self.is_fast)

    def _function(self, name: str, arguments: tuple[Text, ...], dtype: DType, *, is_fast: bool) -> Text:
        is_double = dtype.is_float and dtype.bits == 64
        if is_fast and not is_double:
            if name in _FAST_HELPERS:
                return self.prelude.call(_FAST_HELPERS[name], *arguments)
            if name in _APPROXIMATIONS:
                return call(_APPROXIMATIONS[name], *arguments)
        if name == "sigmoid":
            return self.prelude.call(_DOUBLE_SIGMOID if is_double else _NARROW_SIGMOID if dtype.is_float and dtype.bits < 32 else _SIGMOID, *arguments)
        return call(_FUNCTIONS[name] + ("" if is_double else "f"), *arguments)

    def divide(self, left: Text, right: Text, *, is_double: bool) -> Text:
        return call("__fdividef", left, right) if self.is_fast and not is_double else infix("/", left, right)

    def rounded_product(self, left: Text, right: Text, *, is_double: bool) -> Text:
        """A product that is not contracted into what uses it."""
        return call("__dmul_rn" if is_double else "__fmul_rn", left, right)

    def _count(self, name: str, operand: Text, dtype: DType) -> Text:
        is_long = dtype.bits == 64
        if dtype.bits < 32:
            operand = infix("&", operand, atom(f"{(1 << dtype.bits) - 1}"))
        if name == "popcount":
            return self.conversions.wrap(call("__popcll" if is_long else "__popc", operand), int32, dtype)
        count = call("__clzll" if is_long else "__clz", operand)
        return infix("-", count, atom(f"{32 - dtype.bits}")) if dtype.bits < 32 else count
