"""Machine code through the disk cache (floor 7): the key is what it is made from, so an entry can never belong to other code."""

from __future__ import annotations

import json

import llvmlite

from tilewright.disk_cache import cache_key, open_cache
from tilewright.runtime.llvm_jit import compile_object
from tilewright.target.cpu import CpuTarget


def object_key(text: str, target: CpuTarget) -> str:
    """The cache key of the object made from LLVM text for a CPU, by this version of LLVM."""
    return cache_key({"source": text, "target": describe_target(target), "llvmlite": llvmlite.__version__})


def describe_target(target: CpuTarget) -> str:
    """All of a target that machine code depends on."""
    return json.dumps([target.llvm_cpu, target.llvm_features, target.triple])


def load_cached(key: str) -> bytes | None:
    """The object under a key, None where there is none that can be trusted."""
    found = open_cache().load(key)
    return None if found is None else found.get("object")


def cached_object(text: str, target: CpuTarget) -> tuple[bytes, bool]:
    """The object for LLVM text, and whether it came from the disk; one that was compiled is kept."""
    key = object_key(text, target)
    found = load_cached(key)
    if found is not None:
        return found, True
    made = compile_object(text, target)
    open_cache().store(key, {"object": made})
    return made, False
