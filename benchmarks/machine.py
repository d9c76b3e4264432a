"""What was measured on: processor, features and versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.runtime.pool import available_cpu_count
from tilewright.target.cpu import host_target


def describe_machine() -> dict[str, str]:
    """Names and values to print above results."""
    target = host_target()
    return {
        "CPU": describe_processor(),
        "target": f"{target.llvm_cpu}: {', '.join(sorted(f.value for f in target.features)) or 'base features'}; {8 * target.vector_bytes}-bit vectors",
        "system": platform.platform(),
        "load": " ".join(f"{x:.1f}" for x in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown",
        "python": platform.python_version(),
        "numpy": f"{np.__version__} with {_blas()}",
        "torch": _installed("torch"),
        "llvmlite": _installed("llvmlite"),
        "tilewright": _installed("tilewright"),
    }


def describe_versions() -> str:
    """Of tilewright and its peers, as a chart is titled."""
    return ", ".join(f"{name} {_installed(name)}" for name in ("tilewright", "torch", "numpy"))


def describe_processor() -> str:
    return f"{_cpu_name()}, {available_cpu_count()} of {os.cpu_count()} cores"


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _blas() -> str:
    try:
        found: Any = np.show_config(mode="dicts")
        blas = found["Build Dependencies"]["blas"]
    except (TypeError, KeyError):
        return "an unknown BLAS"
    return f"{blas.get('name', 'BLAS')} {blas.get('version', '')}".strip()
