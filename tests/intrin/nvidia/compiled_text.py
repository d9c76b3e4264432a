"""The text of instructions compiled to machine code by NVRTC, without a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tilewright.intrin.nvidia.inline_asm import RegisterClass, register_class
from tilewright.ir.buffer import Scope
from tilewright.ir.instruction import AddressOperand, ImmediateOperand, Instruction, RegisterOperand, ValueOperand
from tilewright.target.nvidia import NVIDIA_TARGETS, NvidiaTarget

C_TYPES = {RegisterClass.BITS_32: "unsigned", RegisterClass.BITS_64: "unsigned long long", RegisterClass.FLOAT_32: "float", RegisterClass.FLOAT_64: "double"}
TARGETS = tuple(NVIDIA_TARGETS.values())


def kernel_of(instruction: Instruction, number: int) -> str:
    """A kernel that runs an instruction on registers that it loads and stores."""
    operands: dict[str, tuple[str, ...]] = {}
    before, after = [], []
    place = 0  # every register is loaded from and stored to a place of its own: nothing is left out as unused
    for operand in instruction.operands:
        match operand:
            case RegisterOperand(name, dtype, _, access):
                kind = C_TYPES[register_class(dtype)]
                names = tuple(f"{name}_{i}" for i in range(operand.num_registers))
                for register in names:
                    at = f"*({kind}*)(memory + {place} + threadIdx.x * 1024)"
                    place += 8
                    before.append(f"{kind} {register} = {at};")
                    after.append(f"{at} = {register};")
                operands[name] = names
            case AddressOperand(name, scope):
                operands[name] = ("shared + threadIdx.x * 16",) if scope is Scope.SHARED else ("memory + threadIdx.x * 16",)
            case ValueOperand(name):
                operands[name] = ("value",)
            case ImmediateOperand(name):
                operands[name] = ("1",)
    body = " ".join([*before, instruction.cuda(operands) + ";", *after])
    return f'extern "C" __global__ void kernel_{number}(char* memory, unsigned shared, unsigned value) {{ {body} }}'


def compile_for(target: NvidiaTarget, instructions: Iterable[Instruction]) -> bytes:
    """The cubin of one kernel per instruction. Skips the test where NVRTC is not installed."""
    nvrtc: Any = pytest.importorskip("cuda.bindings.nvrtc")
    source = "\n".join(kernel_of(instruction, number) for number, instruction in enumerate(instructions))
    error, program = nvrtc.nvrtcCreateProgram(source.encode(), b"instructions.cu", 0, [], [])
    assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS
    options = [f"--gpu-architecture={target.name}".encode()]
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(program, log)
        raise AssertionError(log.decode())
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    cubin = b" " * size
    nvrtc.nvrtcGetCUBIN(program, cubin)
    nvrtc.nvrtcDestroyProgram(program)
    return cubin
