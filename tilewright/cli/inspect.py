"""`tilewright inspect script.py[:kernel]`: a kernel as the compiler sees it, from the traced program to machine code (floor 9)."""

from __future__ import annotations

import ast
import inspect as python_inspect
import runpy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tilewright.backends.compiled import CompiledProgram, Target
from tilewright.backends.cpu import CpuProgram
from tilewright.backends.cuda import CudaProgram
from tilewright.cli.cache import print_table
from tilewright.cli.run import describe_failure
from tilewright.cli.tilelang_names import tilelang_names
from tilewright.driver import compile_program, resolve_target
from tilewright.errors import TileError, display_path
from tilewright.ir.printer import print_program
from tilewright.jit import EagerFunction, LazyFactory
from tilewright.kernel import Kernel
from tilewright.language.function import PrimFunc
from tilewright.passes import CPU_PASSES, GPU_PASSES, PassRecord
from tilewright.target.cpu import CpuTarget
from tilewright.target.nvidia import NvidiaTarget

STAGES = ("tile", *(apply.__name__ for apply in CPU_PASSES), "llvm", "assembly")
GPU_STAGES = ("tile", *(apply.__name__ for apply in GPU_PASSES), "cuda", "ptx")


@dataclass(frozen=True)
class Found:
    """A program at module level of the script: `name` is the variable, with the arguments where a factory made several."""

    name: str
    prim_func: PrimFunc


@click.command("inspect")
@click.argument("script")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An argument or size for a factory or an eager function; may be repeated.")
@click.option("--stage", type=click.Choice(list(dict.fromkeys((*STAGES, *GPU_STAGES)))), multiple=True, help="Show this stage alone; may be repeated.")
@click.option("--target", default="cpu", show_default=True, help="What to compile for, as in sm_80, which needs no GPU.")
@click.option("--time", "is_timed", is_flag=True, help="Show how long each pass took instead of the stages.")
def inspect(script: str, settings: tuple[str, ...], stage: tuple[str, ...], target: str, is_timed: bool) -> None:
    """Show what the compiler makes of the kernels in SCRIPT (file.py, or file.py:kernel for one of them).

    The script is imported, so that code under `if __name__ == "__main__"` does not run. Kernels are the prim_funcs, compiled kernels and jit
    functions among its module-level names. A jit function is shown as it was called during the import; `--set` gives it arguments.
    """
    path, wanted = _split(script)
    if settings and wanted is None:
        raise click.ClickException(f"--set is for one kernel: name it, {script}:NAME")
    try:
        compiled_for = resolve_target(target)
    except TileError as error:
        raise click.ClickException(str(error)) from None
    shown = _stages_of(compiled_for)
    if unknown := [name for name in stage if name not in shown]:
        raise click.ClickException(f"{compiled_for.name} has no stage {unknown[0]}: it has {', '.join(shown)}")
    sys.path.insert(0, str(path.resolve().parent))
    try:
        with tilelang_names():
            names = runpy.run_path(str(path), run_name=path.stem)
            found = list(find_programs(names, wanted, _parse_settings(settings)))
            for each in found:
                _show(each, compiled_for, stage or shown, not stage, is_timed)
    except (click.ClickException, BrokenPipeError):
        raise
    except Exception as error:
        click.echo(describe_failure(error, path), err=True)
        raise SystemExit(1) from None
    if not found:
        what = f"kernel named {wanted}" if wanted else "prim_func, kernel or jit function at module level"
        raise click.ClickException(f"{path} has no {what}")


def _split(script: str) -> tuple[Path, str | None]:
    """file.py:kernel in its parts; a colon inside the path (C:\\...) stays there."""
    path, colon, name = script.rpartition(":")
    file, wanted = (Path(path), name) if colon and name.isidentifier() and Path(path).suffix == ".py" else (Path(script), None)
    if not file.is_file():
        raise click.ClickException(f"there is no file {file}")
    return file, wanted


def _parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Values are Python literals; anything else is taken as text (float16)."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.isidentifier():
            raise click.ClickException(f"--set takes NAME=VALUE, not {setting}")
        try:
            parsed[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            parsed[name] = text
    return parsed


def find_programs(names: Mapping[str, Any], wanted: str | None, settings: dict[str, Any]) -> Iterator[Found]:
    """The programs among module-level names, each object once; those that were imported from tilewright itself count too."""
    seen: list[object] = []
    for name, value in names.items():
        if wanted not in (None, name) or any(value is other for other in seen):
            continue
        seen.append(value)
        if isinstance(value, PrimFunc):
            yield Found(name, value)
        elif isinstance(value, Kernel):
            yield Found(name, value.prim_func)
        elif isinstance(value, (LazyFactory, EagerFunction)):
            yield from _of_jit_function(name, value, settings, is_needed=wanted is not None)


def _of_jit_function(name: str, function: LazyFactory | EagerFunction, settings: dict[str, Any], is_needed: bool) -> Iterator[Found]:
    """With settings, what they give; else what was compiled while the script was imported, or what the defaults give."""
    if not settings and function.kernels:
        for number, kernel in enumerate(function.kernels.values(), 1):
            yield Found(name if len(function.kernels) == 1 else f"{name} #{number}", kernel.prim_func)
        return
    missing = _missing_arguments(function, settings)
    if not missing:
        yield Found(name, function.get_tir(**settings))
        return
    remark = f"{name} needs arguments: {' '.join(f'--set {n}=...' for n in missing)}"
    if is_needed:
        raise click.ClickException(remark)
    click.echo(f"not shown: {remark}\n")


def _missing_arguments(function: LazyFactory | EagerFunction, settings: dict[str, Any]) -> list[str]:
    """Names without a value: parameters without a default, and the T.const sizes of an eager function."""
    given = {name for name, parameter in function.signature.parameters.items() if parameter.default is not python_inspect.Parameter.empty} | set(settings)
    if isinstance(function, LazyFactory):
        return [name for name in function.signature.parameters if name not in given]
    plain = [name for name in function.signature.parameters if name not in given and name not in function.runtime]
    return plain or [name for name in function.size_names(**settings) if name not in given]


def _stages_of(target: Target) -> tuple[str, ...]:
    match target:
        case CpuTarget():
            return STAGES
        case NvidiaTarget():
            return GPU_STAGES
    return tuple(name for name in GPU_STAGES if name not in ("cuda", "ptx"))


def _show(found: Found, target: Target, stages: tuple[str, ...], has_choices: bool, is_timed: bool) -> None:
    records: list[PassRecord] = []
    program = found.prim_func.program
    compiled = compile_program(program, target, records)
    _heading(f"{found.name}: {program.name} for {compiled.target.name}")
    if is_timed:
        _show_times(compiled, records)
        return
    if has_choices:
        _show_choices(compiled)
    previous = ""
    for name in stages:
        text = _stage_text(name, compiled, records).rstrip()
        _heading(f"{found.name}: {name}")
        click.echo(f"{'(as before)' if text == previous else text}\n")
        previous = text


def _heading(text: str) -> None:
    click.secho(f"==== {text} ====", bold=True)


def _stage_text(name: str, compiled: CompiledProgram, records: list[PassRecord]) -> str:
    match name:
        case "tile":
            return print_program(compiled.program)
        case "llvm" | "cuda":
            return compiled.source
        case "assembly":
            return compiled.assembly
        case "ptx":
            return compiled.ptx
    return print_program(next(record.program for record in records if record.name == name))


def _show_choices(compiled: CompiledProgram) -> None:
    header: tuple[str, ...] = ("tile", "scope", "dtype", "shape", "stored as", "storage")
    rows: list[tuple[str, ...]] = []
    if isinstance(compiled, CpuProgram):
        rows = _storage_rows(compiled)
    elif isinstance(compiled, CudaProgram):
        header, rows = ("fragment", "dtype", "shape", "where its elements are"), _fragment_rows(compiled)
        for resources in compiled.resources():
            click.echo(resources)
    if rows:
        print_table(Console(), header, rows)
    for remark in compiled.remarks:
        click.echo(f"{display_path(remark.span.file)}:{remark.span.line}: {remark.text}")
    click.echo()


def _storage_rows(compiled: CpuProgram) -> list[tuple[str, ...]]:
    return [
        (
            buffer.name,
            buffer.scope.value,
            str(buffer.dtype),
            "x".join(map(str, buffer.shape)),
            str(plan.dtype),
            f"{plan.storage.value}{f' of {plan.panel_columns} columns' if plan.panel_columns else ''}{', transposed' if plan.is_transposed else ''}",
        )
        for buffer, plan in compiled.context.plans.items()
    ]


def _fragment_rows(compiled: CudaProgram) -> list[tuple[str, ...]]:
    fragments = compiled.compilation.threads.context.fragments
    return [(buffer.name, str(buffer.dtype), "x".join(map(str, buffer.shape)), str(layout)) for buffer, layout in fragments.items()]


def _show_times(compiled: CompiledProgram, records: list[PassRecord]) -> None:
    times = compiled.times
    rows = [(record.name, f"{record.seconds * 1e3:.2f}") for record in records]
    rows += [
        (f"emission of {'LLVM IR' if isinstance(compiled, CpuProgram) else 'CUDA C++'}", f"{times.emission_ms:.2f}"),
        ("machine code", "cached" if compiled.is_from_cache else f"{times.machine_code_ms:.2f}"),
        ("linking", f"{times.link_ms:.2f}"),
        ("total", f"{times.total_ms:.2f}"),
    ]
    print_table(Console(), ("step", "ms"), rows)
    click.echo()
