"""One compilation in this process, timed from before the first import: `compile_time` starts it afresh for each sample and reads its JSON line."""

from __future__ import annotations

import json
import sys
import time


def main(name: str, state: str) -> None:
    start = time.perf_counter()
    import llvmlite.binding  # noqa: F401
    import numpy as np

    third_parties_at = time.perf_counter()
    import tilewright
    from tilewright.driver import load_back_end, resolve_target

    imported_at = time.perf_counter()
    load_back_end(resolve_target(None))
    if state == "cold":  # what is imported once per process is no part of a compilation, and counts with the back end
        from tilewright.backends.cpu import load_pipeline

        load_pipeline()
    loaded_at = time.perf_counter()
    from tilewright.kernels.attention import flash_attention
    from tilewright.kernels.gemm import matmul

    defined_at = time.perf_counter()
    match name:
        case "gemm":
            prim_func = matmul.get_tir(1024, 1024, 1024, block_M=128, block_N=128, block_K=32, stages=2)
            shapes: list[tuple[int, ...]] = [(1024, 1024)] * 3
        case "attention":
            prim_func = flash_attention.get_tir(1, 2, 512, 512, 64, True, is_heads_first=True)
            shapes = [(1, 2, 512, 64)] * 4
        case _:
            raise SystemExit(f"there is no probe {name!r}")
    traced_at = time.perf_counter()
    kernel = tilewright.compile(prim_func)
    compiled_at = time.perf_counter()
    kernel(*(np.ones(shape, np.float32) for shape in shapes))
    called_at = time.perf_counter()
    times = kernel.compiled.times
    seconds = {
        "third parties": third_parties_at - start,
        "import": imported_at - third_parties_at,
        "back end": loaded_at - imported_at,
        "decorate": defined_at - loaded_at,
        "trace": traced_at - defined_at,
        "compile": compiled_at - traced_at,
        "first call": called_at - compiled_at,
    }
    stages = {"passes": times.passes_ms, "emission": times.emission_ms, "LLVM": times.machine_code_ms, "link": times.link_ms}
    print(json.dumps({"is_from_cache": kernel.compiled.is_from_cache, **{k: 1e3 * v for k, v in seconds.items()}, **stages}))


if __name__ == "__main__":
    main(*sys.argv[1:])
