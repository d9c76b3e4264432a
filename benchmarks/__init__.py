"""Measurements: `python -m benchmarks.cpu` against torch and numpy, `python -m benchmarks.compile_time` for compilation and launches."""
