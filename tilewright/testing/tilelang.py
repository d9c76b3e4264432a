"""What `tilelang.testing` offers to a program's own tests (floor 9; language.md 19). `tilewright run` puts it under that name."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import multiprocessing
import random
import sys
import unittest
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import numpy as np

from tilewright.errors import Kind, fail
from tilewright.spans import span_of_caller

F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "main",
    "process_func",
    "regression",
    "requires_cdna",
    "requires_cuda",
    "requires_cuda_compute_version",
    "requires_cuda_compute_version_eq",
    "requires_cuda_compute_version_ge",
    "requires_cuda_compute_version_gt",
    "requires_cuda_compute_version_le",
    "requires_cuda_compute_version_lt",
    "requires_cuda_or_cdna",
    "requires_gfx950",
    "requires_llvm",
    "requires_metal",
    "requires_package",
    "requires_rocm",
    "set_random_seed",
    "torch_assert_close",
]


def main() -> None:
    """Runs pytest on the file that calls it, and exits with its status."""
    file = sys._getframe(1).f_code.co_filename
    sys.exit(importlib.import_module("pytest").main([file, *sys.argv[1:]]))


def set_random_seed(seed: int = 42) -> None:
    """Seeds Python's, numpy's and, where it is imported already, torch's generator."""
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def torch_assert_close(
    tensor_a: Any,
    tensor_b: Any,
    rtol: float = 1e-2,
    atol: float = 1e-3,
    max_mismatched_ratio: float = 0.01,
    verbose: bool = False,
    equal_nan: bool = True,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    base_name: str = "LHS",
    ref_name: str = "RHS",
) -> bool:
    """Whether |a - b| <= atol + rtol * |b| holds, but for the given share of elements. Takes numpy arrays and CPU tensors of torch.

    Raises AssertionError where more elements differ, or where shapes differ.
    """
    a, b = _as_float64(tensor_a), _as_float64(tensor_b)
    if a.shape != b.shape:
        raise AssertionError(f"{base_name} has shape {a.shape}, {ref_name} has {b.shape}")
    if check_dtype and tensor_a.dtype != tensor_b.dtype:
        raise AssertionError(f"{base_name} has dtype {tensor_a.dtype}, {ref_name} has {tensor_b.dtype}")
    wrong = ~np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    if wrong.sum() > max_mismatched_ratio * wrong.size:
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{int(wrong.sum())} of {wrong.size} elements differ by more than rtol={rtol}, atol={atol} "
            f"(allowed share {max_mismatched_ratio}); the first is {list(first)}: {base_name} {a[first]}, {ref_name} {b[first]}"
        )
    return True


def _as_float64(tensor: Any) -> Any:
    return tensor.detach().cpu().double().numpy() if hasattr(tensor, "detach") else np.asarray(tensor).astype(np.float64)


def _skipped(reason: str) -> Callable[[F], F]:
    """Marks a test as skipped; pytest and unittest both know the marking."""
    return unittest.skip(reason)


def _kept(function: F) -> F:
    return function


_NO_GPU = "programs are compiled for the CPU: this version runs nothing on a GPU"
requires_cuda: Callable[[Any], Any] = _skipped(_NO_GPU)
requires_rocm: Callable[[Any], Any] = _skipped(_NO_GPU)
requires_metal: Callable[[Any], Any] = _skipped(_NO_GPU)
requires_cdna: Callable[[Any], Any] = _skipped(_NO_GPU)
requires_gfx950: Callable[[Any], Any] = _skipped(_NO_GPU)
requires_cuda_or_cdna: Callable[[Any], Any] = _skipped(_NO_GPU)
requires_llvm: Callable[[Any], Any] = _kept


def requires_package(name: str, *more: str) -> Callable[[Any], Any]:
    """Skips the test where a package is not installed."""
    missing = [n for n in (name, *more) if importlib.util.find_spec(n) is None]
    return _skipped(f"{', '.join(missing)} not installed") if missing else _kept


def requires_cuda_compute_version(major: int, minor: int = 0, mode: str = "ge") -> Callable[[Any], Any]:
    """Skips: there is no CUDA device of any compute version. The arguments are checked all the same."""
    if mode not in ("ge", "gt", "le", "lt", "eq"):
        fail(
            Kind.OPTION_VALUE,
            f"mode is {mode!r}",
            span_of_caller(),
            because='known are "ge", "gt", "le", "lt" and "eq"',
            help="leave it out for at least that version",
        )
    return _skipped(f"needs CUDA compute version {mode} {major}.{minor}; {_NO_GPU}")


requires_cuda_compute_version_ge = functools.partial(requires_cuda_compute_version, mode="ge")
requires_cuda_compute_version_gt = functools.partial(requires_cuda_compute_version, mode="gt")
requires_cuda_compute_version_le = functools.partial(requires_cuda_compute_version, mode="le")
requires_cuda_compute_version_lt = functools.partial(requires_cuda_compute_version, mode="lt")
requires_cuda_compute_version_eq = functools.partial(requires_cuda_compute_version, mode="eq")


def process_func(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """The function's result, computed in a fresh process: a crash there is an error here. Function, arguments and result must be picklable."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def regression(function: F) -> F:
    """Marks a test that guards against an old fault; it runs like any other."""
    return function
