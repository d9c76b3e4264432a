"""Machines by name."""

from __future__ import annotations

import pytest

from tests.execution import refused
from tilewright.carver.arch import CDNA, CPU, CUDA
from tilewright.errors import Kind
from tilewright.target.cpu import host_target
from tilewright.target.machine import machine_of
from tilewright.target.nvidia import NVIDIA_TARGETS


@pytest.mark.parametrize("name", sorted(NVIDIA_TARGETS))
def test_gpus_need_not_be_here(name: str) -> None:
    made = CUDA(name)
    assert made.target is NVIDIA_TARGETS[name] and made.machine == machine_of(made.target) and made.sm_version == int(name.strip("sm_a"))
    assert CUDA({"kind": "cuda", "arch": name}) == made == CUDA(f"simulate -arch={name}")


def test_this_cpu() -> None:
    assert CPU().target == host_target() and CPU().sm_version == 0 and CPU("llvm") == CPU()


def test_what_is_no_such_machine() -> None:
    for call, kind in ((lambda: CUDA("cpu"), Kind.TARGET_NAME), (lambda: CPU("sm_80"), Kind.TARGET_NAME), (lambda: CDNA("hip"), Kind.TARGET_FEATURE)):
        with refused(kind, "carver.arch"):
            call()
