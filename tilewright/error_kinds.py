"""Every kind of mistake that tilewright reports, with its stable code (floor 0).

The member's first value is the code that users see and `tilewright explain` takes; the second is the category, which decides
the Python class of the exception.
"""

from __future__ import annotations

from enum import Enum


class Category(Enum):
    """Which Python exception a mistake also is."""

    VALUE = 0
    TYPE = 1
    INDEX = 2
    NAME = 3
    RUNTIME = 4
    UNSUPPORTED = 5


class Kind(Enum):
    """One member per kind of mistake."""

    category: Category

    def __new__(cls, code: str, category: Category) -> Kind:
        member = object.__new__(cls)
        member._value_ = code
        member.category = category
        return member

    # -- the shape of a program
    NO_BUILDER = "outside-kernel", Category.RUNTIME
    NO_SOURCE = "source-not-found", Category.RUNTIME
    UNKNOWN_NAME = "unknown-name", Category.NAME
    UNKNOWN_ATTRIBUTE = "unknown-attribute", Category.TYPE
    UNKNOWN_ARGUMENT = "unknown-argument", Category.TYPE
    MISSING_ARGUMENT = "missing-argument", Category.TYPE
    NOT_A_PRIM_FUNC = "not-a-prim-func", Category.TYPE
    UNHASHABLE_ARGUMENT = "unhashable-argument", Category.TYPE
    PARAMETER_ANNOTATION = "parameter-annotation", Category.TYPE
    OUT_IDX_RANGE = "out-idx-range", Category.VALUE
    OUT_IDX_EAGER = "out-idx-eager", Category.VALUE
    OUTPUT_NOT_RETURNED = "output-not-returned", Category.VALUE
    RETURN_VALUE = "return-value", Category.TYPE
    RETURN_PLACE = "return-place", Category.VALUE
    CONST_UNUSED = "const-unused", Category.VALUE
    CONST_PLACE = "const-place", Category.VALUE
    UNBOUND_SYMBOL = "unbound-symbol", Category.VALUE
    LAUNCH_NESTED = "launch-nested", Category.VALUE
    LAUNCH_MISSING = "launch-missing", Category.VALUE
    OPTION_VALUE = "option-value", Category.VALUE
    TARGET_NAME = "target-name", Category.VALUE
    # -- launch
    THREADS = "threads", Category.VALUE
    GRID_EXTENT = "grid-extent", Category.VALUE
    GRID_RANK = "grid-rank", Category.VALUE
    GRID_UNPACK = "grid-unpack", Category.VALUE
    # -- Python inside kernels
    ATTRIBUTE_ASSIGNMENT = "attribute-assignment", Category.TYPE
    AUGMENTED_BUFFER = "augmented-buffer", Category.TYPE
    BUFFER_CONDITION = "buffer-condition", Category.TYPE
    EXPRESSION_CONDITION = "expression-condition", Category.TYPE
    BUFFER_OPERATOR = "buffer-operator", Category.TYPE
    POWER_OPERATOR = "power-operator", Category.TYPE
    INTEGER_DIVISION = "integer-division", Category.TYPE
    DIVISION_BY_ZERO = "division-by-zero", Category.VALUE
    OPERAND = "operand", Category.TYPE
    EXPRESSION_AS_NUMBER = "expression-as-number", Category.TYPE
    SLICE_STEP = "slice-step", Category.VALUE
    SLICE_EMPTY = "slice-empty", Category.VALUE
    SLICE_VALUE = "slice-value", Category.TYPE
    INDEX_COUNT = "index-count", Category.INDEX
    INDEX_RANGE = "index-range", Category.INDEX
    INDEX_TYPE = "index-type", Category.TYPE
    REGION_RANGE = "region-range", Category.INDEX
    BRANCH_BINDING = "branch-binding", Category.NAME
    LOOP_REBINDING = "loop-rebinding", Category.VALUE
    OUT_OF_SCOPE = "out-of-scope", Category.NAME
    CONTAINER_MUTATION = "container-mutation", Category.VALUE
    LOOP_ITERABLE = "loop-iterable", Category.TYPE
    LOOP_STEP = "loop-step", Category.VALUE
    LOOP_EXTENT = "loop-extent", Category.VALUE
    LOOP_UNPACK = "loop-unpack", Category.VALUE
    LOOP_ELSE = "loop-else", Category.VALUE
    LOOP_NESTING = "loop-nesting", Category.VALUE
    LOOP_CONTROL = "loop-control", Category.VALUE
    WHILE_CONSTANT = "while-constant", Category.VALUE
    UNPACK_COUNT = "unpack-count", Category.VALUE
    STATEMENT = "statement", Category.UNSUPPORTED
    REFERENCE_ARGUMENT = "reference-argument", Category.TYPE
    PYTHON_ERROR = "python-error", Category.RUNTIME
    # -- buffers
    SHAPE_STATIC = "shape-static", Category.VALUE
    SHAPE_VALUE = "shape-value", Category.VALUE
    DTYPE_NAME = "dtype-name", Category.TYPE
    DTYPE_UNSUPPORTED = "dtype-unsupported", Category.UNSUPPORTED
    VALUE_RANGE = "value-range", Category.VALUE
    VIEW_SIZE = "view-size", Category.VALUE
    SCOPE = "scope", Category.TYPE
    STORE_CONSTANT = "store-read-only", Category.TYPE
    LOCAL_BY_PARALLEL = "local-by-parallel", Category.VALUE
    # -- tile operations
    COPY_SHAPE = "copy-shape", Category.VALUE
    OPERAND_KIND = "operand-kind", Category.TYPE
    GEMM_RANK = "gemm-rank", Category.VALUE
    GEMM_BATCH = "gemm-batch", Category.VALUE
    GEMM_K_MISMATCH = "gemm-k-mismatch", Category.VALUE
    GEMM_M_MISMATCH = "gemm-m-mismatch", Category.VALUE
    GEMM_N_MISMATCH = "gemm-n-mismatch", Category.VALUE
    GEMM_DTYPE = "gemm-dtype", Category.TYPE
    GEMM_SHAPE_STATIC = "gemm-shape-static", Category.VALUE
    GEMM_ALIAS = "gemm-alias", Category.VALUE
    REDUCE_SHAPE = "reduce-shape", Category.VALUE
    REDUCE_AXIS = "reduce-axis", Category.VALUE
    REDUCE_DTYPE = "reduce-dtype", Category.TYPE
    REDUCE_OPERATION = "reduce-operation", Category.VALUE
    REDUCER_USE = "reducer-use", Category.VALUE
    SCAN_SHAPE = "scan-shape", Category.VALUE
    TRANSPOSE_SHAPE = "transpose-shape", Category.VALUE
    ATOMIC_TARGET = "atomic-target", Category.TYPE
    ATOMIC_DTYPE = "atomic-dtype", Category.TYPE
    MEMORY_ORDER = "memory-order", Category.VALUE
    ROUNDING_MODE = "rounding-mode", Category.VALUE
    MATH_DTYPE = "math-dtype", Category.TYPE
    CAST_DTYPE = "cast-dtype", Category.TYPE
    TILE_OP_IN_PARALLEL = "tile-op-in-parallel", Category.VALUE
    PARALLEL_RACE = "parallel-race", Category.VALUE
    PIPELINE_STAGES = "pipeline-stages", Category.VALUE
    PIPELINE_ORDER = "pipeline-order", Category.VALUE
    LAYOUT_INJECTIVE = "layout-injective", Category.VALUE
    LAYOUT_FORMULA = "layout-formula", Category.UNSUPPORTED
    LAYOUT_SHAPE = "layout-shape", Category.VALUE
    ANNOTATION = "annotation", Category.TYPE
    # -- what this target cannot do
    THREAD_LEVEL = "thread-level", Category.UNSUPPORTED
    THREAD_IN_PARALLEL = "thread-in-parallel", Category.VALUE
    THREAD_RACE = "thread-race", Category.VALUE
    DIVERGENT_BARRIER = "divergent-barrier", Category.VALUE
    DIVERGENT_OPERATION = "divergent-operation", Category.VALUE
    BARRIER_THREADS = "barrier-threads", Category.VALUE
    GRID_BARRIER = "grid-barrier", Category.UNSUPPORTED
    WARP_MASK = "warp-mask", Category.VALUE
    TARGET_FEATURE = "target-feature", Category.UNSUPPORTED
    SHARED_MEMORY_EXCEEDED = "shared-memory-exceeded", Category.VALUE
    EXTERN_ARGUMENT = "extern-argument", Category.TYPE
    EXTERN_TARGET = "extern-target", Category.UNSUPPORTED
    EXTERN_SOURCE = "extern-source", Category.VALUE
    CUDA_MISSING = "cuda-missing", Category.RUNTIME
    COMPILE_FLAGS = "compile-flags", Category.VALUE
    # -- calling a kernel
    ARGUMENT_COUNT = "argument-count", Category.TYPE
    ARGUMENT_KIND = "argument-kind", Category.TYPE
    ARGUMENT_NONE = "argument-none", Category.VALUE
    ARGUMENT_DTYPE = "argument-dtype", Category.TYPE
    ARGUMENT_RANK = "argument-rank", Category.VALUE
    ARGUMENT_SHAPE = "argument-shape", Category.VALUE
    ARGUMENT_SYMBOL = "argument-symbol", Category.VALUE
    ARGUMENT_STRIDES = "argument-strides", Category.VALUE
    ARGUMENT_DEVICE = "argument-device", Category.VALUE
    ARGUMENT_ALIGNMENT = "argument-alignment", Category.VALUE
    ARGUMENT_READ_ONLY = "argument-read-only", Category.VALUE
    ARGUMENT_OVERLAP = "argument-overlap", Category.VALUE
    ARGUMENT_SCALAR = "argument-scalar", Category.TYPE
    DEVICE_ASSERT = "device-assert", Category.RUNTIME
    GPU_MISSING = "gpu-missing", Category.RUNTIME
    GPU_ERROR = "gpu-error", Category.RUNTIME
    GRAPH_CAPTURE = "graph-capture", Category.RUNTIME
    HOST_ASSERT = "host-assert", Category.RUNTIME
    # -- what the simulator finds
    DATA_RACE = "data-race", Category.RUNTIME
    UNINITIALISED_READ = "uninitialised-read", Category.RUNTIME
    CHECK_MISMATCH = "check-mismatch", Category.RUNTIME
    TUNING_FAILED = "tuning-failed", Category.RUNTIME
