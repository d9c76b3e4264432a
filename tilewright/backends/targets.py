"""From what a user writes as a target to what is compiled for (floor 8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

from tilewright.backends.compiled import Target
from tilewright.errors import Kind, fail
from tilewright.ir.expr import describe_operand
from tilewright.options import environment
from tilewright.runtime.cuda_driver import CudaError, fail_driver, require_driver
from tilewright.runtime.cuda_streams import current_device
from tilewright.spans import span_of_caller
from tilewright.target.cpu import CpuTarget, host_target
from tilewright.target.nvidia import NVIDIA_TARGETS, SM_90A, NvidiaTarget, target_for_capability
from tilewright.target.simulated import SimulatedTarget

CPU_NAMES = ("cpu", "llvm", "c")
CUDA, SIMULATE = "cuda", "simulate"
UNSUPPORTED_NAMES = ("hip", "metal", "webgpu", "cutedsl")
KNOWN = f"auto, {', '.join(CPU_NAMES)}, {CUDA}, {SIMULATE}, {', '.join(NVIDIA_TARGETS)}"


_instead: ContextVar[Target | None] = ContextVar("tilewright_target_instead", default=None)


@contextmanager
def instead_of_all_targets(target: Target) -> Iterator[None]:
    """Inside, every program is compiled for `target`, whatever its author wrote."""
    token = _instead.set(target)
    try:
        yield
    finally:
        _instead.reset(token)


_default: ContextVar[Any] = ContextVar("tilewright_default_target", default=None)


@contextmanager
def default_target(target: Any) -> Iterator[None]:
    """Inside, programs without a target of their own, or with "auto", are compiled for this one."""
    token = _default.set(target)
    try:
        yield
    finally:
        _default.reset(token)


def resolve_target(target: Any) -> Target:
    """The target meant by a name, a {"kind": ..., "arch": ...} dictionary, a target of a kernel, or None ("auto").

    "cuda" is the current GPU of this machine; "sm_80" and the like, alone, as {"kind": "cuda", "arch": "sm_80"} or as "cuda -arch=sm_80", need no GPU;
    "simulate" executes the GPU program on the CPU.

    Raises TileError: target-name for what is no target, target-feature for those not supported, gpu-missing for "cuda" without a GPU.
    """
    instead = _instead.get()
    if instead is not None:
        return instead
    if isinstance(target, (CpuTarget, NvidiaTarget, SimulatedTarget)):
        return target
    name, architecture = _parts(target)
    if name is None or (isinstance(name, str) and name == "auto"):
        name, inherited = _parts(environment().default_target if _default.get() is None else _default.get())
        name, architecture = (CPU_NAMES[0] if name == "auto" else name), architecture or inherited
    if not isinstance(name, str):
        _fail_name(f"the target is {describe_operand(name)}")
    if name in CPU_NAMES:
        return host_target()
    if name == SIMULATE:
        return SimulatedTarget(SM_90A if architecture is None else _architecture(architecture))
    if name == CUDA:
        return _device_target() if architecture is None else _architecture(architecture)
    if name.startswith("sm_"):
        return _architecture(name)
    if name in UNSUPPORTED_NAMES or name.startswith("gfx"):
        fail(
            Kind.TARGET_FEATURE,
            f"the target {name!r} is not supported by this version",
            span_of_caller(),
            because=f"known are {KNOWN}",
            help='leave the target out, or write target="cpu"',
        )
    _fail_name(f"there is no target {name!r}")


def _parts(target: Any) -> tuple[Any, Any]:
    """Name and architecture."""
    if isinstance(target, dict):
        return target.get("kind"), target.get("arch")
    if not isinstance(target, str):
        return target, None
    name, *options = target.split() or [""]
    found = [o.split("=", 1)[1] for o in options if o.lstrip("-").startswith("arch=")]
    return name, found[0] if found else None


def _architecture(name: Any) -> NvidiaTarget:
    found = NVIDIA_TARGETS.get(name) if isinstance(name, str) else None
    if found is None:
        fail(
            Kind.TARGET_FEATURE,
            f"the architecture {name!r} is not supported by this version",
            span_of_caller(),
            because=f"known are {', '.join(NVIDIA_TARGETS)}",
            help='write the one of your GPU, or target="cuda" on the machine that has it',
        )
    return found


def _device_target() -> NvidiaTarget:
    try:
        device = require_driver('target="cuda"').devices()[current_device()]
    except CudaError as error:
        fail_driver(error, "describing the GPU")
    found = target_for_capability(device.capability)
    if found is None:
        oldest = next(iter(NVIDIA_TARGETS))
        fail(
            Kind.TARGET_FEATURE,
            f"{device.name} has compute capability {'.'.join(map(str, device.capability))}",
            span_of_caller(),
            because=f"the oldest architecture that programs are compiled for is {oldest}",
            help='leave the target out, or write target="cpu"',
        )
    return found


def _fail_name(message: str) -> NoReturn:
    fail(Kind.TARGET_NAME, message, span_of_caller(), because=f"known are {KNOWN}", help='write target="cpu" or target="cuda"')
