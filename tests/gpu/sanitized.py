"""Programs to be watched by compute-sanitizer: `compute-sanitizer --tool racecheck python -m tests.gpu.sanitized race`.

`examples` runs every example and every kernel that ships on the GPU, with the checks that they make of their own results, and the programs of `PLANTED`
without their bugs. The name of a planted bug runs one program that has it. Tensors lie in memory of exactly their size, straight from the driver, so that
no access past their ends is missed; torch and cupy, whose pools would hide some, count as not installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tilewright
import tilewright.language as T
from tests.execution import assert_same
from tilewright.backends.cuda import CudaProgram
from tilewright.backends.targets import instead_of_all_targets, resolve_target
from tilewright.cli.run import execute
from tilewright.codegen.cuda.program import emit_program
from tilewright.codegen.llvm.launcher import emit_launcher, launcher_name
from tilewright.ir.program import Program
from tilewright.ir.stmt import Barrier, If, Stmt
from tilewright.ir.visit import rewrite
from tilewright.kernels import attention, gemm, norm, softmax
from tilewright.language.function import PrimFunc
from tilewright.runtime.cuda_calls import CudaCallPlan, GpuProgram
from tilewright.runtime.cuda_driver import find_driver
from tilewright.runtime.cuda_modules import KernelNeeds
from tilewright.runtime.cuda_tensors import DeviceArray
from tilewright.runtime.llvm_jit import compile_object, load_object
from tilewright.runtime.nvrtc import compile_cubin
from tilewright.target.cpu import host_target
from tilewright.target.nvidia import NvidiaTarget
from tilewright.testing.barrier_removal import removable, without

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
THREADS, ELEMENTS = 128, 200  # the second of two blocks is not full


# -- arrays of numpy, on the GPU for the time of a call
def upload(array: np.ndarray[Any, Any]) -> DeviceArray:
    made = DeviceArray(array.shape, array.dtype, 0)
    if array.size:
        values = np.ascontiguousarray(array)
        find_driver().write(0, made.address, values.ctypes.data, values.nbytes)
    return made


def download(made: DeviceArray) -> np.ndarray[Any, Any]:
    array = np.empty(made.shape, made.dtype)
    if array.size:
        find_driver().read(0, made.address, array.ctypes.data, array.nbytes)
    return array


def on_gpu(plan: Callable[..., Any]) -> Callable[..., Any]:
    """A call plan of a GPU program as one that takes arrays of numpy, and writes to them."""

    def call(*arguments: Any) -> Any:
        given = [upload(a) if isinstance(a, np.ndarray) else a for a in arguments]
        returned = plan(*given)
        for argument, made in zip(arguments, given, strict=True):
            if isinstance(made, DeviceArray) and argument.flags.writeable:
                argument[...] = download(made)
        return download(returned) if isinstance(returned, DeviceArray) else returned and [download(r) for r in returned]

    return call


# -- what is right
def run_examples() -> None:
    make_plan = CudaProgram.call_plan
    CudaProgram.call_plan = lambda self, outputs: on_gpu(make_plan(self, outputs))  # type: ignore[method-assign, assignment, return-value]
    with instead_of_all_targets(resolve_target("cuda")):
        for example in EXAMPLES:
            print(f"-- {example.name}", flush=True)
            execute(example, ())
            os.environ["TILEWRIGHT_CHECK"] = "0"  # one of the examples turns it on
        run_shipped_kernels()


def run_shipped_kernels() -> None:
    rng = np.random.default_rng(0)
    heads = {"batch": 1, "heads": 2, "length_q": 65, "length_k": 130, "width": 32, "block_M": 64, "block_N": 32}
    product = {"M": 100, "N": 90, "K": 200, "block_M": 32, "block_N": 32}
    for factory, options in (
        (gemm.gemm, {**product, "dtype": "float16", "activation": gemm.Activation.GELU, "block_K": 32, "stages": 3}),
        (gemm.gemm, {**product, "activation": gemm.Activation.SILU, "block_K": 16}),
        (attention.flash_attention, {**heads, "dtype": "bfloat16", "is_causal": True}),
        (softmax.softmax, {"N": 300}),
        (norm.rms_norm, {"N": 300, "dtype": "float16"}),
        (norm.layer_norm, {"N": 300, "dtype": "bfloat16"}),
    ):
        kernel = factory(**options)
        print(f"-- {kernel.prim_func.name} {options}", flush=True)
        inputs, named = [], {}
        for number, parameter in enumerate(kernel.params):
            assert parameter.buffer is not None
            shape = tuple(n if isinstance(n, int) else 37 for n in parameter.buffer.shape)
            array = rng.standard_normal(shape).astype(parameter.buffer.dtype.numpy)
            if number not in kernel.out_idx:
                inputs.append(array)
            named[parameter.name] = array.copy()
        result = kernel(*inputs)
        (output,) = (kernel.params[k].name for k in kernel.out_idx)
        expected = tilewright.run_reference(kernel.prim_func.program, named)[output]
        assert_same(result, expected, 2e-2 if result.dtype.itemsize == 2 else 1e-5, kernel.prim_func.name)


# -- what is wrong
@T.prim_func
def reverse(A: T.Tensor((THREADS,), "float32"), B: T.Tensor((THREADS,), "float32")):
    with T.Kernel(1, threads=THREADS):
        tx = T.get_thread_binding()
        tile = T.alloc_shared((THREADS,), "float32")
        tile[tx] = A[tx]
        T.sync_threads()
        B[tx] = tile[THREADS - 1 - tx]


@T.prim_func
def twice(A: T.Tensor((ELEMENTS,), "float32"), B: T.Tensor((ELEMENTS,), "float32")):
    with T.Kernel(T.ceildiv(ELEMENTS, THREADS), threads=THREADS) as bx:
        tx = T.get_thread_binding()
        if bx * THREADS + tx < ELEMENTS:
            B[bx * THREADS + tx] = A[bx * THREADS + tx] * 2


def without_barrier(program: Program) -> Program:
    (barrier,) = removable(program)
    return without(program, barrier)


def with_barrier_of_some(program: Program) -> Program:
    """Half of the last warp does not come to the barrier."""
    (thread, *_) = program.launches[0].thread_variables
    return changed(program, lambda stmt: If(stmt.span, thread < THREADS - 16, stmt) if isinstance(stmt, Barrier) else stmt)


def without_guard(program: Program) -> Program:
    return changed(program, lambda stmt: stmt.then_body if isinstance(stmt, If) else stmt)


def changed(program: Program, change: Callable[[Stmt], Stmt | None]) -> Program:
    made = replace(program, launches=tuple(replace(launch, body=rewrite(launch.body, post=change)) for launch in program.launches))
    assert made.launches[0].body is not program.launches[0].body, "the bug was not planted"
    return made


# Name of the bug: a right program, and what makes it wrong. "uninitialised" is a right program whose input nobody wrote.
PLANTED: dict[str, tuple[PrimFunc, Callable[[Program], Program]]] = {
    "race": (reverse, without_barrier),
    "out-of-bounds": (twice, without_guard),
    "barrier": (reverse, with_barrier_of_some),
    "uninitialised": (twice, lambda program: program),
}


def plan_of(prim_func: PrimFunc, change: Callable[[Program], Program], target: NvidiaTarget) -> CudaCallPlan:
    """The program, compiled for a GPU, with a change to its thread-level form."""
    program = prim_func.program
    compiled = tilewright.compile(prim_func, target=target).compiled
    module = emit_program(change(compiled.lowered), target)
    launcher = compile_object(emit_launcher(program, module, host_target()), host_target())
    image = compile_cubin(module.text, target, module.flags).image
    needs = tuple(KernelNeeds(k.entry_name, k.dynamic_shared_bytes) for k in module.kernels)
    return CudaCallPlan(
        GpuProgram(program, module.slots, lambda symbols: load_object(launcher, launcher_name(program), symbols), lambda device: image, needs),
        written={"B"},
    )


def run_planted(name: str, *, has_bug: bool) -> None:
    target = resolve_target("cuda")
    assert isinstance(target, NvidiaTarget)
    prim_func, change = PLANTED[name]
    (size,) = prim_func.program.parameters[0].buffer.shape  # type: ignore[union-attr]
    values = np.arange(size, dtype=np.float32)
    a = DeviceArray((size,), np.dtype(np.float32), 0) if has_bug and name == "uninitialised" else upload(values)
    b = DeviceArray((size,), np.dtype(np.float32), 0)
    plan_of(prim_func, change if has_bug else lambda program: program, target)(a, b)
    found = download(b)
    if not has_bug:
        np.testing.assert_array_equal(found, values[::-1] if prim_func is reverse else values * 2)


def main(name: str) -> None:
    sys.modules["torch"] = sys.modules["cupy"] = None  # type: ignore[assignment]
    find_driver()
    if name == "examples":
        run_examples()
        for planted in PLANTED:
            run_planted(planted, has_bug=False)
    else:
        run_planted(name, has_bug=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
