"""What the CUDA printer hands to the host: source text, and how each of its kernels is launched (floor 6)."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.codegen.slots import Slot
from tilewright.ir.expr import Expr
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import ImportedSource, Launch
from tilewright.ir.stmt import Assert
from tilewright.target.nvidia import NvidiaTarget

MODULE_NAME = "kernel.cu"  # what the compiler calls the text of a module


@dataclass(frozen=True, eq=False)
class KernelLaunch:
    """One `extern "C" __global__` function, and one launch of it.

    entry_name            as in the source.
    parameters            kernel parameter n is the value of `CudaModule.slots[parameters[n]]`, whose low bytes it reads: with the slots in an array of
                          8-byte words, `kernelParams[n]` is the address of word parameters[n], whatever the parameter's size.
    grid                  x, y, z: expressions of scalar parameters and symbols. A launch with an extent that is not positive is skipped.
    block                 threads in x, y, z.
    dynamic_shared_bytes  more than 48 KiB need CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
    cluster               blocks of a cluster in x, y, z; (1, 1, 1) needs no launch attribute.
    launch                the launch as it was printed.
    counter               the slot of a uint64 that is to be 0 when the kernel begins; with one, all blocks have to run at the same time: a cooperative launch.
    """

    entry_name: str
    parameters: tuple[int, ...]
    grid: tuple[Expr, Expr, Expr]
    block: tuple[int, int, int]
    dynamic_shared_bytes: int
    cluster: tuple[int, int, int]
    launch: Launch
    counter: int | None = None


@dataclass(frozen=True, eq=False)
class CudaModule:
    """A program as CUDA source.

    text      without any #include; the same for the same program and options.
    slots     values that the host provides: those of `slots_of(program)`. Device addresses for tensors and workspaces. The status is the address of an
              int32 that is 0 before the call and that a kernel can write even if it traps right afterwards: mapped host memory.
    kernels   to be launched in this order; after one whose status is not 0 no other.
    asserts   status n is the failure of asserts[n - 1]; empty: the status is neither read nor written.
    flags     what the user's annotations add to the options of the compiler.
    sources   what the user put in front of the kernels; source n is the file source_name(n) of the compiler's messages.
    foreign   the calls of code that the compiler does not know, in order.
    """

    text: str
    target: NvidiaTarget
    slots: tuple[Slot, ...]
    kernels: tuple[KernelLaunch, ...]
    asserts: tuple[Assert, ...] = ()
    flags: tuple[str, ...] = ()
    sources: tuple[ImportedSource, ...] = ()
    foreign: tuple[ForeignCall, ...] = ()


def source_name(number: int) -> str:
    """What the compiler calls an imported source."""
    return f"import_source_{number}"
