"""The T namespace (floor 5): `import tilewright.language as T`. Every name that a kernel may use is exported here, and nowhere else."""

from __future__ import annotations

import difflib as _difflib
from typing import Any as _Any

from tilewright.dtypes import DType
from tilewright.dtypes import as_dtype as _as_dtype
from tilewright.dtypes import vector_dtype as _vector_dtype
from tilewright.errors import Kind as _Kind
from tilewright.errors import fail as _fail
from tilewright.ir.expr import Expr
from tilewright.ir.expr import parse_dtype as _parse_dtype
from tilewright.ir.typed_value import make_expression as _make_expression  # noqa: F401 - makes dtypes callable
from tilewright.language.addresses import access_ptr, address_of
from tilewright.language.alloc import alloc_barrier, alloc_fragment, alloc_global, alloc_local, alloc_reducer, alloc_shared, alloc_var
from tilewright.language.annotate import (
    annotate_compile_flags,
    annotate_consumer_reg_alloc,
    annotate_l2_hit_ratio,
    annotate_layout,
    annotate_min_blocks_per_sm,
    annotate_pass_configs,
    annotate_producer_reg_dealloc,
    annotate_restrict_buffers,
    annotate_safe_value,
    assume,
    dec_max_nreg,
    disable_warp_group_reg_alloc,
    func_attr,
    inc_max_nreg,
    no_set_max_nreg,
    set_max_nreg,
    use_swizzle,
)
from tilewright.language.debug import device_assert, print
from tilewright.language.elsewhere import REASONS as _REASONS
from tilewright.language.foreign import call_extern, call_pure_extern, import_source, ptx
from tilewright.language.function import PrimFunc, Ref, Var, macro, prim_func
from tilewright.language.kernel import (
    ClusterKernel,
    Kernel,
    get_block_binding,
    get_block_bindings,
    get_block_extent,
    get_block_extents,
    get_thread_binding,
    get_thread_bindings,
    get_thread_extent,
    get_thread_extents,
)
from tilewright.language.loops import Parallel, Persistent, Pipelined, grid, parallel, serial, thread_binding, unroll, vectorized
from tilewright.language.match_buffer import match_buffer
from tilewright.language.meta_class import meta_class
from tilewright.language.other_names import INSTEAD as _INSTEAD
from tilewright.language.random import rng_init, rng_rand, rng_rand_float
from tilewright.language.scalar import *
from tilewright.language.schedule_hints import (
    WSID,
    WSInstr,
    WSOpRef,
    WSPipeline,
    WSRole,
    WSSchedule,
    WSScope,
    WSSync,
    WSSyncKind,
    annotate_ws_schedule,
    ws_op,
)
from tilewright.language.scheduler import PersistentTileScheduler
from tilewright.language.tensor import (
    StridedTensor,
    Tensor,
    const,
    dyn,
    dynamic,
    empty,
    make_tensor,
    make_tensor_from_addr,
    ptr,
    reshape,
    symbolic,
    view,
)
from tilewright.language.thread_reduce import attr, comm_reducer, tvm_thread_allreduce
from tilewright.language.threads import *
from tilewright.language.trace import loop_break
from tilewright.language.vector import Broadcast, Ramp, Shuffle, abs2, add2, extract_lane, fma2, max2, min2, mul2, sub2
from tilewright.language.wide_access import (
    __ldg,
    ldg32,
    ldg64,
    ldg128,
    ldg256,
    lds32,
    lds64,
    lds128,
    stg32,
    stg64,
    stg128,
    stg256,
    sts32,
    sts64,
    sts128,
)
from tilewright.layout.annotations import FragmentAnnotation as Fragment
from tilewright.layout.annotations import LayoutAnnotation as Layout
from tilewright.ops.async_copy import async_copy, ptx_commit_group, ptx_wait_group
from tilewright.ops.atomic import atomic_add, atomic_addx2, atomic_addx4, atomic_load, atomic_max, atomic_min, atomic_or, atomic_store
from tilewright.ops.copy import copy
from tilewright.ops.dp4a import dp4a
from tilewright.ops.fill import clear, fill
from tilewright.ops.gemm import GemmWarpPolicy, gemm
from tilewright.ops.im2col import c2d_im2col, im2col
from tilewright.ops.reduce import (
    reduce,
    reduce_absmax,
    reduce_abssum,
    reduce_bitand,
    reduce_bitor,
    reduce_bitxor,
    reduce_max,
    reduce_min,
    reduce_sum,
)
from tilewright.ops.reducer import finalize_reducer, reducer_init, reducer_update
from tilewright.ops.scan import cummax, cumsum
from tilewright.ops.transpose import transpose
from tilewright.spans import span_of_caller as _span_of_caller

# Spellings of the language that mean the same.
Serial, Unroll, Vectorized = serial, unroll, vectorized
Buffer = Tensor  # the older spelling of an annotation
FragmentBuffer = SharedBuffer = LocalBuffer = Tensor
inline = macro
PrimExpr = Expr


def dtype(value: _Any) -> DType:
    """A dtype from a name, a torch or numpy dtype, or a Python type."""
    return _parse_dtype(value)


# -- dtypes
bool = _as_dtype("bool")
int8 = _as_dtype("int8")
int16 = _as_dtype("int16")
int32 = _as_dtype("int32")
int64 = _as_dtype("int64")
uint8 = _as_dtype("uint8")
uint16 = _as_dtype("uint16")
uint32 = _as_dtype("uint32")
uint64 = _as_dtype("uint64")
int4 = _as_dtype("int4")
uint4 = _as_dtype("uint4")
float16 = _as_dtype("float16")
bfloat16 = _as_dtype("bfloat16")
float32 = _as_dtype("float32")
float64 = _as_dtype("float64")
tfloat32 = _as_dtype("tfloat32")
float8_e3m4 = _as_dtype("float8_e3m4")
float8_e4m3 = _as_dtype("float8_e4m3")
float8_e4m3fn = _as_dtype("float8_e4m3fn")
float8_e4m3fnuz = _as_dtype("float8_e4m3fnuz")
float8_e4m3b11fnuz = _as_dtype("float8_e4m3b11fnuz")
float8_e5m2 = _as_dtype("float8_e5m2")
float8_e5m2fnuz = _as_dtype("float8_e5m2fnuz")
float8_e8m0fnu = _as_dtype("float8_e8m0fnu")
float6_e2m3fn = _as_dtype("float6_e2m3fn")
float6_e3m2fn = _as_dtype("float6_e3m2fn")
float4_e2m1fn = _as_dtype("float4_e2m1fn")
handle = _as_dtype("handle")
half = float16
float = float32
double = float64
short = int16
int = int32
long = int64
uint = uint32


def __getattr__(name: str) -> _Any:
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(name)
    if "x" in name and (vector := _vector_dtype(name)) is not None:
        return vector
    reason = _REASONS.get(name)
    if reason is not None:
        _fail(
            _Kind.THREAD_LEVEL,
            f"T.{name} is part of the language, but this version does not run it",
            _span_of_caller(),
            because=reason.because,
            help=reason.help,
        )
    close = _difflib.get_close_matches(name, [*__all__, *_REASONS], 1, 0.75)
    instead = _INSTEAD.get(name)
    _fail(
        _Kind.UNKNOWN_NAME,
        f"there is no T.{name}",
        _span_of_caller(),
        because="the language does not have this name",
        help=f"write {instead}" if instead else f"did you mean T.{close[0]}?" if close else "the README lists the names",
    )


__all__ = [
    "WSID",
    "Broadcast",
    "Buffer",
    "Cast",
    "ClusterKernel",
    "DType",
    "Expr",
    "Fragment",
    "FragmentBuffer",
    "GemmWarpPolicy",
    "Kernel",
    "Layout",
    "LocalBuffer",
    "Parallel",
    "Persistent",
    "PersistentTileScheduler",
    "Pipelined",
    "PrimExpr",
    "PrimFunc",
    "Ramp",
    "Ref",
    "Select",
    "Serial",
    "SharedBuffer",
    "Shuffle",
    "StridedTensor",
    "Tensor",
    "Unroll",
    "Var",
    "Vectorized",
    "WSInstr",
    "WSOpRef",
    "WSPipeline",
    "WSRole",
    "WSSchedule",
    "WSScope",
    "WSSync",
    "WSSyncKind",
    "__cos",
    "__exp",
    "__exp10",
    "__ldg",
    "__log",
    "__log2",
    "__log10",
    "__sin",
    "__tan",
    "abs",
    "abs2",
    "access_ptr",
    "acos",
    "acosh",
    "activemask",
    "add2",
    "address_of",
    "align_up",
    "all_of",
    "all_sync",
    "alloc_barrier",
    "alloc_fragment",
    "alloc_global",
    "alloc_local",
    "alloc_reducer",
    "alloc_shared",
    "alloc_var",
    "annotate_compile_flags",
    "annotate_consumer_reg_alloc",
    "annotate_l2_hit_ratio",
    "annotate_layout",
    "annotate_min_blocks_per_sm",
    "annotate_pass_configs",
    "annotate_producer_reg_dealloc",
    "annotate_restrict_buffers",
    "annotate_safe_value",
    "annotate_ws_schedule",
    "any_of",
    "any_sync",
    "asin",
    "asinh",
    "assume",
    "async_copy",
    "atan",
    "atan2",
    "atanh",
    "atomic_add",
    "atomic_addx2",
    "atomic_addx4",
    "atomic_load",
    "atomic_max",
    "atomic_min",
    "atomic_or",
    "atomic_store",
    "attr",
    "ballot",
    "ballot_sync",
    "bfloat16",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "bool",
    "c2d_im2col",
    "call_extern",
    "call_pure_extern",
    "cast",
    "cdiv",
    "ceil",
    "ceildiv",
    "clamp",
    "clear",
    "clz",
    "comm_reducer",
    "const",
    "copy",
    "copysign",
    "cos",
    "cosh",
    "cummax",
    "cumsum",
    "dec_max_nreg",
    "device_assert",
    "disable_warp_group_reg_alloc",
    "double",
    "dp4a",
    "dtype",
    "dyn",
    "dynamic",
    "empty",
    "erf",
    "evaluate",
    "exp",
    "exp2",
    "exp10",
    "extract_lane",
    "fast_rcp",
    "fill",
    "finalize_reducer",
    "float",
    "float4_e2m1fn",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float16",
    "float32",
    "float64",
    "floor",
    "floordiv",
    "floormod",
    "fma2",
    "fmod",
    "func_attr",
    "gemm",
    "get_block_binding",
    "get_block_bindings",
    "get_block_extent",
    "get_block_extents",
    "get_lane_idx",
    "get_thread_binding",
    "get_thread_bindings",
    "get_thread_extent",
    "get_thread_extents",
    "get_warp_group_idx",
    "get_warp_idx",
    "get_warp_idx_sync",
    "grid",
    "half",
    "handle",
    "hypot",
    "ieee_add",
    "ieee_fdiv",
    "ieee_fmaf",
    "ieee_frcp",
    "ieee_frsqrt",
    "ieee_fsqrt",
    "ieee_mul",
    "ieee_sub",
    "if_then_else",
    "im2col",
    "import_source",
    "inc_max_nreg",
    "index_to_coordinates",
    "infinity",
    "inline",
    "int",
    "int4",
    "int8",
    "int16",
    "int32",
    "int64",
    "isfinite",
    "isinf",
    "isnan",
    "isnullptr",
    "ldexp",
    "ldg32",
    "ldg64",
    "ldg128",
    "ldg256",
    "lds32",
    "lds64",
    "lds128",
    "likely",
    "log",
    "log1p",
    "log2",
    "log10",
    "long",
    "loop_break",
    "macro",
    "make_tensor",
    "make_tensor_from_addr",
    "match_all_sync",
    "match_any_sync",
    "match_buffer",
    "max",
    "max2",
    "max_value",
    "meta_class",
    "min",
    "min2",
    "min_value",
    "mul2",
    "nearbyint",
    "nextafter",
    "no_set_max_nreg",
    "parallel",
    "pdl_sync",
    "pdl_trigger",
    "popcount",
    "pow",
    "prim_func",
    "print",
    "ptr",
    "ptx",
    "ptx_commit_group",
    "ptx_wait_group",
    "reduce",
    "reduce_absmax",
    "reduce_abssum",
    "reduce_bitand",
    "reduce_bitor",
    "reduce_bitxor",
    "reduce_max",
    "reduce_min",
    "reduce_sum",
    "reducer_init",
    "reducer_update",
    "reinterpret",
    "reshape",
    "rng_init",
    "rng_rand",
    "rng_rand_float",
    "round",
    "rsqrt",
    "serial",
    "set_max_nreg",
    "shfl_down",
    "shfl_sync",
    "shfl_up",
    "shfl_xor",
    "shift_left",
    "shift_right",
    "short",
    "shuffle_elect",
    "sigmoid",
    "sin",
    "sinh",
    "sqrt",
    "stg32",
    "stg64",
    "stg128",
    "stg256",
    "sts32",
    "sts64",
    "sts128",
    "sub2",
    "symbolic",
    "sync_global",
    "sync_grid",
    "sync_threads",
    "sync_warp",
    "syncthreads_and",
    "syncthreads_count",
    "syncthreads_or",
    "tan",
    "tanh",
    "tfloat32",
    "thread_binding",
    "transpose",
    "trunc",
    "truncdiv",
    "truncmod",
    "tvm_storage_sync",
    "tvm_thread_allreduce",
    "tvm_warp_activemask",
    "tvm_warp_shuffle",
    "tvm_warp_shuffle_down",
    "tvm_warp_shuffle_up",
    "uint",
    "uint4",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unroll",
    "use_swizzle",
    "vectorized",
    "view",
    "warp_reduce_bitand",
    "warp_reduce_bitor",
    "warp_reduce_max",
    "warp_reduce_min",
    "warp_reduce_sum",
    "ws_op",
]
