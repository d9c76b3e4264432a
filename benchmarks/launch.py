"""`python -m benchmarks.launch`: what a call costs on the host before its kernel runs, above the bare launch of the driver.

All contenders launch a kernel of one small block in bursts that fit the queue of the GPU, so that the host is what is timed. "driver" is a native loop of
cuLaunchKernel with everything ready; what the others take above it is theirs. Contenders take turns in a fresh random order every round.
"""

from __future__ import annotations

import csv
import ctypes
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import tilewright
import tilewright.language as T
from benchmarks.machine import describe_machine
from benchmarks.measure import Spread
from tilewright.runtime.cuda_driver import NoCudaError, find_driver
from tilewright.runtime.llvm_jit import compile_object, load_object
from tilewright.target.cpu import host_target

BURST = 256
GOAL_US = 3.0
_LOOP = """
declare i32 @cuLaunchKernel(ptr, i32, i32, i32, i32, i32, i32, i32, ptr, ptr, ptr)
define i32 @launches(ptr %function, ptr %stream, ptr %parameters, i64 %count) {
entry:
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %next, %head ]
  %status = call i32 @cuLaunchKernel(ptr %function, i32 1, i32 1, i32 1, i32 32, i32 1, i32 1, i32 0, ptr %stream, ptr %parameters, ptr null)
  %next = add i64 %k, 1
  %again = icmp ult i64 %next, %count
  br i1 %again, label %head, label %done
done:
  ret i32 %status
}
"""


@T.prim_func
def four(a: T.Tensor((64,), "float32"), b: T.Tensor((64,), "float32"), c: T.Tensor((64,), "float32"), y: T.Tensor((64,), "float32")):
    with T.Kernel(1, threads=32):
        for i in T.Parallel(64):
            y[i] = a[i] + b[i] + c[i]


@T.prim_func
def ten(
    a: T.Tensor((64,), "float32"),
    b: T.Tensor((64,), "float32"),
    c: T.Tensor((64,), "float32"),
    d: T.Tensor((64,), "float32"),
    e: T.Tensor((64,), "float32"),
    f: T.Tensor((64,), "float32"),
    g: T.Tensor((64,), "float32"),
    h: T.Tensor((64,), "float32"),
    x: T.Tensor((64,), "float32"),
    y: T.Tensor((64,), "float32"),
):
    with T.Kernel(1, threads=32):
        for i in T.Parallel(64):
            y[i] = a[i] + b[i] + c[i] + d[i] + e[i] + f[i] + g[i] + h[i] + x[i]


def contenders(program: Any, count: int) -> dict[str, Callable[[], Any]]:
    """Functions of one launch each, but "driver", which makes a burst of them."""
    import torch

    tensors = [torch.zeros(64, device="cuda") for _ in range(count)]
    kernel = tilewright.compile(program, target="cuda")
    returning = tilewright.compile(program, target="cuda", out_idx=-1)
    for _ in range(2):
        kernel(*tensors)
        returning(*tensors[:-1])
    bound = kernel.bind(*tensors)
    found: dict[str, Callable[[], Any]] = {
        "driver": _driver_loop(kernel, tensors),
        "tilewright": lambda: kernel(*tensors),
        "tilewright bound": bound,
        "tilewright, output returned": lambda: returning(*tensors[:-1]),
        "torch.add(out=)": lambda: torch.add(tensors[0], tensors[1], out=tensors[-1]),
    }
    with suppress(ImportError):
        found["triton"] = _triton(tensors)
    return found


def _driver_loop(kernel: Any, tensors: list[Any]) -> Callable[[], Any]:
    import torch

    code = load_object(compile_object(_LOOP, host_target()), "launches", {"cuLaunchKernel": find_driver().entry_points()["cuLaunchKernel"]})
    loop = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(code.entry_address)
    (function,) = kernel._plan._load(torch.cuda.current_device()).functions
    words = (ctypes.c_uint64 * len(tensors))(*(t.data_ptr() for t in tensors))
    parameters = (ctypes.c_void_p * len(tensors))(*(ctypes.addressof(words) + 8 * k for k in range(len(tensors))))
    stream = torch.cuda.current_stream().cuda_stream

    def burst(_keep: Any = (code, words)) -> None:
        status = loop(function, stream, ctypes.addressof(parameters), BURST)
        assert status == 0, status

    return burst


def _triton(tensors: list[Any]) -> Callable[[], Any]:
    import triton
    import triton.language as tl

    if len(tensors) == 4:

        @triton.jit
        def add(a, b, c, y):
            i = tl.arange(0, 64)
            tl.store(y + i, tl.load(a + i) + tl.load(b + i) + tl.load(c + i))

    else:

        @triton.jit
        def add(a, b, c, d, e, f, g, h, x, y):
            i = tl.arange(0, 64)
            s = tl.load(a + i) + tl.load(b + i) + tl.load(c + i) + tl.load(d + i) + tl.load(e + i)
            tl.store(y + i, s + tl.load(f + i) + tl.load(g + i) + tl.load(h + i) + tl.load(x + i))

    launch = add[(1,)]
    launch(*tensors, num_warps=1)
    return lambda: launch(*tensors, num_warps=1)


def measure(calls: dict[str, Callable[[], Any]], rounds: int, seed: int) -> dict[str, np.ndarray]:
    """Microseconds of a launch on the host, one number per round."""
    import torch

    rng = random.Random(seed)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in rng.sample(list(calls), len(calls)):
            call = calls[name]
            torch.cuda.synchronize()
            start = time.perf_counter()
            if name == "driver":
                call()
            else:
                for _ in range(BURST):
                    call()
            elapsed = time.perf_counter() - start
            if number:  # the first round warms up
                found[name].append(1e6 * elapsed / BURST)
    torch.cuda.synchronize()
    return {name: np.array(values) for name, values in found.items()}


@click.command()
@click.option("--rounds", default=51, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Write the results to a file.")
def main(rounds: int, seed: int, csv_path: Path | None) -> None:
    """Host time of launches with 4 and 10 torch tensors."""
    try:
        device = find_driver().devices()[0].name
    except NoCudaError as error:
        raise click.ClickException(f"this benchmark needs an NVIDIA GPU: {error}") from None
    import torch

    for name, value in describe_machine().items():
        click.echo(f"{name}: {value}")
    click.echo(f"GPU: {device}")
    rows = []
    torch.cuda.init()
    for program, count in ((four, 4), (ten, 10)):
        calls = contenders(program, count)
        times = measure(calls, rounds, seed)
        base = Spread.of(times["driver"])
        for name in calls:
            spread = Spread.of(times[name])
            above = spread.median - base.median
            goal = ("met" if above <= GOAL_US else "missed") if name == "tilewright" else ""
            rows.append((str(count), name, f"{spread.median:.2f}", f"{spread.low:.2f} to {spread.high:.2f}", f"{above:.2f}", goal))
    table = Table("tensors", "call", "us, median", "quartiles", "above the driver", f"goal: at most {GOAL_US:g}")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)
    if csv_path is not None:
        with csv_path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("tensors", "call", "median_us", "quartiles_us", "above_driver_us", "goal", "device"))
            writer.writerows((*row, device) for row in rows)


if __name__ == "__main__":
    main()
