"""LLVM IR for CPUs, as text: SSA with explicit vectors, so that no mid-level pass is needed."""
