"""Thread-level programs as CUDA C++ for NVIDIA GPUs (floor 6)."""
