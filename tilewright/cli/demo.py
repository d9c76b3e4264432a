"""`tilewright demo`: four kernels, checked against float64 and timed beside numpy and torch (floor 9)."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tilewright.cli.cache import print_table
from tilewright.driver import resolve_target
from tilewright.errors import TileError
from tilewright.jit import LazyFactory, compile
from tilewright.kernel import Kernel
from tilewright.kernels import attention, gemm, norm, softmax
from tilewright.runtime.cuda_timing import gpu_times_ms
from tilewright.runtime.pool import shared_pool

ROUNDS = 7
# Libraries keep their threads spinning after a call, which would slow whoever is measured next.
PAUSE_SECONDS = 0.02
# A result may be off by this share of the largest value. float32 sums of at most 4096 terms stay well below; half precision is rounded on the way.
TOLERANCES = {"float32": 64 * float(np.finfo(np.float32).eps), "float16": 2 * float(np.finfo(np.float16).eps)}


class Unit(Enum):
    """What a kernel is limited by, and so measured in."""

    OPERATIONS = "FLOP/s"
    BYTES = "B/s"


@dataclass(frozen=True)
class Case:
    """One kernel at one size.

    amount      operations or bytes of one call.
    numpy_peer  the same computation in float32, as one writes it in numpy; `torch_peer` likewise, given the torch module and tensors.
    """

    name: str
    shape: str
    factory: LazyFactory
    factory_arguments: dict[str, Any]
    inputs: tuple[np.ndarray[Any, Any], ...]
    reference: Callable[..., np.ndarray[Any, Any]]
    numpy_peer: Callable[..., Any]
    torch_peer: Callable[..., Any]
    amount: float
    unit: Unit

    @property
    def dtype(self) -> str:
        return self.inputs[0].dtype.name

    @property
    def tolerance(self) -> float:
        return TOLERANCES[self.dtype]


@dataclass(frozen=True)
class Sizes:
    """What a machine is measured with: enough to keep it busy, and no more than numpy can check in a second or two.

    product    M, N, K.
    rows       how many rows, and their length.
    attention  batch, length, heads, width.
    target     for which the kernels choose their tiles.
    """

    dtype: str
    product: tuple[int, int, int]
    rows: tuple[int, int]
    attention: tuple[int, int, int, int]
    target: str


CPU_SIZES = Sizes("float32", (1024, 1024, 1024), (2048, 2048), (1, 512, 8, 64), "cpu")
GPU_SIZES = Sizes("float16", (2048, 2048, 2048), (8192, 4096), (2, 1024, 16, 64), "cuda")


@dataclass(frozen=True)
class Result:
    """What was measured; times are medians, `peers_ms` by name. `error` is the largest difference over the largest reference value."""

    error: float
    compile_ms: float
    is_from_cache: bool
    run_ms: float
    peers_ms: dict[str, float]
    is_right: bool


@click.command("demo")
@click.option("--target", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="What to compile for.")
def demo(target: str) -> None:
    """Compile, check and time four kernels on this machine.

    Every result is compared with float64. Run times are medians, with the peers measured in turns. Exit code 1 when a result is wrong.
    """
    torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
    try:
        compiled_for = resolve_target(target).name
    except TileError as error:
        raise click.ClickException(str(error)) from None
    if target == "cuda":
        if torch is None or not torch.cuda.is_available():
            raise click.ClickException("the demonstration on a GPU keeps its tensors in torch: install torch with CUDA")
        peers, where = ["torch"], torch.cuda.get_device_name()
    else:
        peers, where = ["numpy"] + (["torch"] if torch else []), f"{shared_pool().thread_count} threads"
    sizes = GPU_SIZES if target == "cuda" else CPU_SIZES
    click.echo(f"{compiled_for}, {where}, {sizes.dtype}")
    rows, wrong = [], []
    for case in cases(sizes):
        result = measure(case, target, torch)
        rows.append(_row(case, result, peers))
        if not result.is_right:
            wrong.append(case.name)
    header = ("kernel", "shape", "dtype", "error", "compile ms", "run ms", "rate", *(f"vs {peer}" for peer in peers))
    _print_results(Console(), header, rows)
    click.echo(
        "error: largest difference from float64, as a share of the largest value; vs: how many times as fast as that library;\n*: machine code from the cache"
    )
    if wrong:
        click.echo(f"wrong: {', '.join(wrong)} (error above {TOLERANCES[sizes.dtype]:.1e})", err=True)
        raise SystemExit(1)


def _print_results(console: Console, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """On a terminal kernel, shape and dtype share a column, so that the table fits 80 characters."""
    if not console.is_terminal:
        print_table(console, header, rows)
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("kernel", *(title.replace(" ", "\n") for title in header[3:])):
        table.add_column(title, justify="left" if title == "kernel" else "right", no_wrap=True)
    for name, shape, dtype, *cells in rows:
        table.add_row(f"{name}\n[dim]{shape} {dtype}[/dim]", *cells)
    console.print(table)


def _row(case: Case, result: Result, peers: list[str]) -> tuple[str, ...]:
    rate = _rate(1e3 * case.amount / result.run_ms, case.unit)
    error = f"{result.error:.1e}{'' if result.is_right else ' WRONG'}"
    ratios = [f"{_three_digits(result.peers_ms[peer] / result.run_ms)}x" for peer in peers]
    return case.name, case.shape, case.dtype, error, f"{result.compile_ms:.0f}{'*' * result.is_from_cache}", _three_digits(result.run_ms), rate, *ratios


def _rate(per_second: float, unit: Unit) -> str:
    scale, prefix = (1e12, "T") if per_second >= 999.5e9 else (1e9, "G")
    return f"{_three_digits(per_second / scale)} {prefix}{unit.value}"


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def measure(case: Case, target: str, torch: Any = None) -> Result:
    """Compiles, checks and times one case."""
    start = time.perf_counter()
    kernel: Kernel = compile(case.factory.get_tir(**case.factory_arguments), out_idx=case.factory.out_idx, target=target)
    compile_ms = (time.perf_counter() - start) * 1e3
    expected = case.reference(*case.inputs)
    if target == "cuda":
        return _measure_on_gpu(case, kernel, compile_ms, expected, torch)
    found = np.asarray(kernel(*case.inputs), np.float64)
    error = _error(found, expected)
    calls: dict[str, Callable[[], Any]] = {"tilewright": lambda: kernel(*case.inputs), "numpy": lambda: case.numpy_peer(*case.inputs)}
    if torch is not None:
        tensors = [torch.from_numpy(x) for x in case.inputs]
        calls["torch"] = lambda: case.torch_peer(torch, *tensors)
    medians = _median_times_ms(calls)
    return Result(error, compile_ms, kernel.compiled.is_from_cache, medians.pop("tilewright"), medians, error <= case.tolerance)


def _measure_on_gpu(case: Case, kernel: Kernel, compile_ms: float, expected: np.ndarray[Any, Any], torch: Any) -> Result:
    """The same with the tensors on the GPU, timed by its events; the L2 cache stays as the call before left it."""
    tensors = [torch.from_numpy(x).cuda() for x in case.inputs]
    found = kernel(*tensors).cpu().numpy().astype(np.float64)
    calls: dict[str, Callable[[], Any]] = {"tilewright": lambda: kernel(*tensors), "torch": lambda: case.torch_peer(torch, *tensors)}
    medians = {name: float(np.median(gpu_times_ms(call, warmup_ms=10, rep_ms=50))) for name, call in calls.items()}
    error = _error(found, expected)
    return Result(error, compile_ms, kernel.compiled.is_from_cache, medians.pop("tilewright"), medians, error <= case.tolerance)


def _error(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """The largest difference as a share of the largest value. NaN compares as false with everything: `max` must see it."""
    return float(np.abs(found - expected).max() / np.abs(expected).max()) if np.isfinite(found).all() else float("inf")


def _median_times_ms(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(ROUNDS + 1):
        for name, call in calls.items():
            time.sleep(PAUSE_SECONDS)
            start = time.perf_counter()
            call()
            if round_number:  # the first round warms caches and threads up
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(measured) for name, measured in times.items()}


def cases(sizes: Sizes) -> tuple[Case, ...]:
    """The four kernels with random inputs, always the same ones."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape, np.float32).astype(sizes.dtype, copy=False)

    def arguments(**others: Any) -> dict[str, Any]:
        return {**others, "dtype": sizes.dtype, "target": sizes.target}

    m, n, k = sizes.product
    rows, columns = sizes.rows
    batch, length, heads, width = sizes.attention
    moved_bytes = 2.0 * np.dtype(sizes.dtype).itemsize * rows * columns
    relu = gemm.Activation.RELU
    return (
        Case(
            "GEMM + bias + ReLU",
            f"{m}x{n}x{k}",
            gemm.gemm,
            arguments(M=m, N=n, K=k, activation=relu),
            (normal(m, k), normal(k, n), normal(n)),
            lambda a, b, bias: gemm.reference(a, b, bias, relu),
            lambda a, b, bias: np.maximum(a @ b + bias, 0),
            lambda torch, a, b, bias: torch.relu(torch.addmm(bias, a, b)),
            2.0 * m * n * k,
            Unit.OPERATIONS,
        ),
        Case(
            "softmax",
            f"{rows}x{columns}",
            softmax.softmax,
            arguments(N=columns),
            (normal(rows, columns),),
            softmax.reference,
            _numpy_softmax,
            lambda torch, x: torch.softmax(x, -1),
            moved_bytes,
            Unit.BYTES,
        ),
        Case(
            "RMSNorm",
            f"{rows}x{columns}",
            norm.rms_norm,
            arguments(N=columns),
            (normal(rows, columns), normal(columns)),
            norm.rms_norm_reference,
            lambda x, w: x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-6)) * w,
            lambda torch, x, w: torch.nn.functional.rms_norm(x, w.shape, w, 1e-6),
            moved_bytes,
            Unit.BYTES,
        ),
        Case(
            "flash attention",
            "x".join(map(str, sizes.attention)),
            attention.flash_attention,
            arguments(batch=batch, heads=heads, length_q=length, length_k=length, width=width),
            tuple(normal(*sizes.attention) for _ in range(3)),
            attention.reference,
            _numpy_attention,
            _torch_attention,
            4.0 * batch * heads * length * length * width,
            Unit.OPERATIONS,
        ),
    )


def _numpy_softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def _numpy_attention(q: Any, k: Any, v: Any) -> Any:
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    return (_numpy_softmax(q @ k.swapaxes(-1, -2) * np.float32(q.shape[-1] ** -0.5)) @ v).transpose(0, 2, 1, 3)


def _torch_attention(torch: Any, q: Any, k: Any, v: Any) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
