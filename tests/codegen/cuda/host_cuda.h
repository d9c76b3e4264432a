// What generated CUDA needs of a compiler, for a C++ compiler: see host_cpp.py.
#include <cfenv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__
#define __syncthreads()
#define __syncwarp()
#define __builtin_assume(x)
#define __threadfence_system()
#define __trap() return

struct Position { int x, y, z; };
static Position threadIdx, blockIdx;
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
alignas(1024) unsigned char shared[1 << 16];

template <typename To, typename From> static To bits(From x) { static_assert(sizeof(To) == sizeof(From)); To y; memcpy(&y, &x, sizeof y); return y; }
static unsigned __float_as_uint(float x) { return bits<unsigned>(x); }
static float __uint_as_float(unsigned x) { return bits<float>(x); }
static float __int_as_float(int x) { return bits<float>(x); }
static long long __double_as_longlong(double x) { return bits<long long>(x); }
static double __longlong_as_double(long long x) { return bits<double>(x); }
template <typename A, typename B> static auto min(A a, B b) { return a < b ? a : b; }
template <typename A, typename B> static auto max(A a, B b) { return a > b ? a : b; }
using std::isnan;
// The number, where one is: signaling NaNs are as good as others.
template <typename T> static T least(T a, T b) { return a != a ? b : b != b ? a : a < b ? a : b; }
template <typename T> static T greatest(T a, T b) { return a != a ? b : b != b ? a : a > b ? a : b; }
#define fminf least<float>
#define fmaxf greatest<float>
#define fmin least<double>
#define fmax greatest<double>
static int __popc(unsigned x) { return __builtin_popcount(x); }
static int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
static int __clzll(unsigned long long x) { return x ? __builtin_clzll(x) : 64; }
static float rsqrtf(float x) { return (float)(1 / sqrt((double)x)); }
static double rsqrt(double x) { return 1 / sqrt(x); }

// Arithmetic in a rounding mode; the noise of `volatile` keeps the compiler from moving it.
#define MODE_rn FE_TONEAREST
#define MODE_rz FE_TOWARDZERO
#define MODE_ru FE_UPWARD
#define MODE_rd FE_DOWNWARD
#define ROUNDED(name, mode, type, parameters, expression) \
    static __attribute__((noinline)) type name##_##mode parameters { \
        fesetround(MODE_##mode); \
        volatile type result = expression; \
        fesetround(FE_TONEAREST); \
        return result; \
    }
#define ALL_MODES(name, type, parameters, expression) \
    ROUNDED(name, rn, type, parameters, expression) \
    ROUNDED(name, rz, type, parameters, expression) \
    ROUNDED(name, ru, type, parameters, expression) \
    ROUNDED(name, rd, type, parameters, expression)
#define ARITHMETIC(letter, fused, type) \
    ALL_MODES(__##letter##add, type, (volatile type a, volatile type b), a + b) \
    ALL_MODES(__##letter##sub, type, (volatile type a, volatile type b), a - b) \
    ALL_MODES(__##letter##mul, type, (volatile type a, volatile type b), a * b) \
    ALL_MODES(__##letter##div, type, (volatile type a, volatile type b), a / b) \
    ALL_MODES(__##letter##rcp, type, (volatile type a), 1 / a) \
    ALL_MODES(__##letter##sqrt, type, (volatile type a), std::sqrt((type)a)) \
    ALL_MODES(fused, type, (volatile type a, volatile type b, volatile type c), std::fma((type)a, (type)b, (type)c))
ARITHMETIC(f, __fmaf, float)
ARITHMETIC(d, __fma, double)
static float __frsqrt_rn(float x) { return (float)(1 / sqrt((double)x)); }
ALL_MODES(__double2float, float, (volatile double x), (float)x)
ALL_MODES(__int2float, float, (volatile int x), (float)x)
ALL_MODES(__uint2float, float, (volatile unsigned x), (float)x)
ALL_MODES(__ll2float, float, (volatile long long x), (float)x)
ALL_MODES(__ull2float, float, (volatile unsigned long long x), (float)x)

template <typename T> static T atomicCAS(T* p, T expected, T desired) { T old = *p; if (old == expected) *p = desired; return old; }
template <typename T> static T atomicAdd(T* p, T x) { T old = *p; *p = old + x; return old; }
static int atomicAdd(int* p, int x) { int old = *p; *p = (int)((unsigned)old + (unsigned)x); return old; }
template <typename T> static T atomicMax(T* p, T x) { T old = *p; *p = old > x ? old : x; return old; }
template <typename T> static T atomicMin(T* p, T x) { T old = *p; *p = old < x ? old : x; return old; }
template <typename T> static T atomicAnd(T* p, T x) { T old = *p; *p = old & x; return old; }
template <typename T> static T atomicOr(T* p, T x) { T old = *p; *p = old | x; return old; }
template <typename T> static T atomicXor(T* p, T x) { T old = *p; *p = old ^ x; return old; }
template <typename T> static T atomicExch(T* p, T x) { T old = *p; *p = x; return old; }

// -- what the printed helpers do in PTX
static float tw_float_of_float16(unsigned short code) { return (float)bits<_Float16>(code); }
static unsigned short tw_float16_of_float(float x) { return bits<unsigned short>((_Float16)x); }
// float16 in a direction: nearest, then a step back where that went the wrong way (cvt.{rz,rp,rm}.f16.f32).
static unsigned short directed_half(float x, int direction) {
    _Float16 nearest = (_Float16)x;
    if (x != x || std::isinf(x)) return bits<unsigned short>(nearest);
    float back = (float)nearest;
    unsigned short code = bits<unsigned short>(nearest);
    bool is_above = back > x, is_below = back < x;
    bool steps_down = is_above && (direction < 0 || (direction == 0 && x > 0)), steps_up = is_below && (direction > 0 || (direction == 0 && x < 0));
    if (!steps_down && !steps_up) return code;
    if ((code & 0x7fff) == 0) return steps_up ? 1 : 0x8001;
    return (code >> 15) == (unsigned)steps_up ? code - 1 : code + 1;
}
static unsigned short tw_float16_of_float_rz(float x) { return directed_half(x, 0); }
static unsigned short tw_float16_of_float_ru(float x) { return directed_half(x, 1); }
static unsigned short tw_float16_of_float_rd(float x) { return directed_half(x, -1); }
static unsigned short tw_bfloat16_of_float(float x) {
    unsigned u = bits<unsigned>(x);
    return x != x ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
static unsigned short tw_bfloat16_of_float_rz(float x) { return x != x ? 0x7fff : bits<unsigned>(x) >> 16; }
// cvt.rzi: truncates, saturates; NaN gives 0.
template <typename To> static To truncated(double x) {
    if (x != x) return 0;
    if (x <= (double)std::numeric_limits<To>::min()) return std::numeric_limits<To>::min();
    if (x >= (double)std::numeric_limits<To>::max()) return std::numeric_limits<To>::max();
    return (To)x;
}
#define TRUNCATION(name, type) \
    static type tw_##name##_of_float(float x) { return truncated<type>(x); } \
    static type tw_##name##_of_double(double x) { return truncated<type>(x); }
TRUNCATION(int8, signed char)
TRUNCATION(uint8, unsigned char)
TRUNCATION(int16, short)
TRUNCATION(uint16, unsigned short)
TRUNCATION(int32, int)
TRUNCATION(uint32, unsigned)
TRUNCATION(int64, long long)
TRUNCATION(uint64, unsigned long long)
static signed char tw_int4_of_float(float x) { return (signed char)max(min((int)truncated<int>(x), 7), -8); }
static signed char tw_int4_of_double(double x) { return (signed char)max(min((int)truncated<int>(x), 7), -8); }
static unsigned char tw_uint4_of_float(float x) { return (unsigned char)max(min((int)truncated<int>(x), 15), 0); }
static unsigned char tw_uint4_of_double(double x) { return (unsigned char)max(min((int)truncated<int>(x), 15), 0); }
static unsigned short tw_atomic_add_f16(unsigned short* p, unsigned short x) {
    unsigned short old = *p;
    *p = tw_float16_of_float(tw_float_of_float16(old) + tw_float_of_float16(x));
    return old;
}
