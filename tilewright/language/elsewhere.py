"""Names of the language that no target of this version gives a meaning to (floor 5): what they belong to, and what to write instead."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why a name is not run: what it belongs to, and what does its work."""

    HOPPER = "it is an instruction of Hopper's that a program places by hand", "T.Pipelined, T.copy, T.gemm and T.sync_threads are run on every target"
    BLACKWELL = "it is an instruction of GPUs newer than sm_90", "T.gemm and T.copy are run on every target; the newest one is sm_90a"
    SPARSE = "it multiplies matrices of which every second pair of elements is left out", "multiply the full matrices with T.gemm"
    FOREIGN_CODE = "it calls functions of another compiler", "write it with the operations of T; on a GPU, T.call_extern and T.ptx run CUDA C++ and PTX"
    EMITTER = "it writes the instructions of one kind of tensor cores", "T.gemm chooses the instructions of its target"
    MATRIX_FRAGMENT = "it is an older way to reach tensor cores, one instruction at a time", "T.gemm chooses the instructions of its target"
    IR_NODE = "it builds statements of TVM's intermediate representation, which only tests of TVM's passes do", "write the statement in Python"
    IR_BUFFER = "it declares a buffer of TVM's intermediate representation", "T.alloc_shared, T.alloc_fragment, T.alloc_local or T.alloc_var allocates"
    BITS = "it is a function of one kind of processors", "T.clz, T.popcount and the operators of integers are run on every target"

    def __init__(self, because: str, help: str) -> None:
        self.because, self.help = because, help


_NAMES: dict[Reason, str] = {
    Reason.HOPPER: """
        named_barrier_arrive mbarrier_wait_parity barrier_wait mbarrier_arrive barrier_arrive mbarrier_expect_tx mbarrier_arrive_expect_tx create_barriers
        alloc_cluster_barrier ptx_init_barrier_thread_count ptx_arrive_barrier ptx_arrive_cluster_barrier ptx_fence_barrier_init ptx_cp_async_barrier
        cp_async_barrier_noinc ws WarpSpecialize tma_copy tma_load tma_store_arrive tma_store_wait create_tma_descriptor ptx_cp_async ptx_cp_async_bulk
        fence_proxy_async copy_cluster wgmma_gemm wait_wgmma warpgroup_arrive warpgroup_commit_batch warpgroup_wait warpgroup_fence_operand ptx_wgmma_ss
        ptx_wgmma_rs wgmma_mma alloc_descriptor alloc_wgmma_desc initialize_wgmma_descriptor increase_descriptor_offset compute_gmma_descriptor
        cluster_sync cluster_arrive cluster_arrive_relaxed cluster_wait block_rank_in_cluster
    """,
    Reason.BLACKWELL: """
        alloc_tmem deallocate_tmem alloc_tcgen05_smem_desc initialize_tcgen05_descriptor compute_umma_descriptor tcgen05_gemm tcgen05_gemm_blockscaled
        tcgen05_gemm_sp tcgen05_mma tcgen05_mma_blockscaled tcgen05_mma_arrive tcgen05_cp_warpx4 tcgen05_sf_warp_transpose tcgen05_before_thread_sync
        tcgen05_after_thread_sync tma_gather4 tma_gather4_bytes tma_scatter4 tma_load_2sm clc_try_cancel clc_try_cancel_multicast clc_is_canceled
        clc_get_first_ctaid_x clc_get_first_ctaid_y clc_get_first_ctaid_z mma_gemm_blockscaled make_blockscaled_gemm_layout float4_e2m1_unpacked
    """,
    Reason.SPARSE: "gemm_sp wgmma_gemm_sp ptx_mma_sp ptx_wgmma_sp_rs ptx_wgmma_sp_ss",
    Reason.FOREIGN_CODE: "call_intrin call_packed call_llvm_intrin call_llvm_pure_intrin CUDASourceCodeKernel lookup_param",
    Reason.EMITTER: """
        TensorCoreIntrinEmitter TensorCoreIntrinEmitterWithLadderTransform TensorCoreIntrinEmitterSM120 SparseTensorCoreIntrinEmitter
        WGMMATensorCoreIntrinEmitter WGSparseTensorCoreIntrinEmitter TCGEN05TensorCoreIntrinEmitter get_ldmatrix_offset get_mma_micro_size
        get_swizzle_layout make_mma_swizzle_layout mma_store_index_map
    """,
    Reason.MATRIX_FRAGMENT: """
        ptx_mma ptx_mma_sm70 ptx_ldmatrix tvm_mma_sync tvm_bmma_sync tvm_load_matrix_sync tvm_store_matrix_sync tvm_fill_fragment
    """,
    Reason.IR_NODE: """
        sblock sblock_attr sblock_alloc_buffer block block_attr reads writes realize axis launch_thread let Let has_let_value get_let_value If Then Else While
        target type_annotation thread_return ret undef tvm_tuple tvm_access_ptr Any IntImm StringImm KernelLaunchFrame BaseTileScheduler q_multiply_shift
        vscale vectorlow vectorhigh vectorcombine
    """,
    Reason.IR_BUFFER: "alloc_buffer decl_buffer allocate",
    Reason.BITS: "__ffs __fns",
}

REASONS: dict[str, Reason] = {name: reason for reason, names in _NAMES.items() for name in names.split()}
