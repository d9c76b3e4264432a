"""`cp.async`: 4, 8 or 16 bytes from global to shared memory that land later, in groups that a thread waits for.

Source: PTX ISA, "Non-bulk copy": cp.async, cp.async.commit_group, cp.async.wait_group and cp.async.wait_all.
"""

from __future__ import annotations

from enum import Enum
from functools import cache

import numpy as np

from tilewright import dtypes
from tilewright.errors import CompilerBug
from tilewright.intrin.nvidia.inline_asm import GLOBAL_ADDRESS, SHARED_ADDRESS, RegisterClass, constrained_value, inline_asm
from tilewright.ir.buffer import Scope
from tilewright.ir.instruction import Access, AddressOperand, ImmediateOperand, Instruction, InstructionScope, SimulatedCall, ValueOperand
from tilewright.target.nvidia import Feature


class CacheLevel(Enum):
    """Which caches keep what was read."""

    ALL = "ca"
    GLOBAL = "cg"  # L2 only; 16 bytes only


class CpAsync(Instruction):
    """Operands: address `dst`, address `src`, and with `fills_zeros` the value `valid_bytes`: bytes from there on become zero and are not read."""

    scope = InstructionScope.THREAD
    feature = Feature.CP_ASYNC

    def __init__(self, size_bytes: int, cache_level: CacheLevel, fills_zeros: bool) -> None:
        if size_bytes not in (4, 8, 16) or (cache_level is CacheLevel.GLOBAL and size_bytes != 16):
            raise CompilerBug(f"no cp.async.{cache_level.value} copies {size_bytes} bytes")
        self.size_bytes, self.cache_level, self.fills_zeros = size_bytes, cache_level, fills_zeros
        self.name = f"cp.async.{cache_level.value}.{size_bytes}{'.zfill' if fills_zeros else ''}"
        addresses = (AddressOperand("dst", Scope.SHARED, size_bytes, Access.WRITE), AddressOperand("src", Scope.GLOBAL, size_bytes, Access.READ))
        self.operands = (*addresses, ValueOperand("valid_bytes", dtypes.int32)) if fills_zeros else addresses

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        text = f"cp.async.{self.cache_level.value}.shared.global [%0], [%1], {self.size_bytes}{', %2' if self.fills_zeros else ''};"
        inputs = [constrained_value(SHARED_ADDRESS, operands["dst"][0]), constrained_value(GLOBAL_ADDRESS, operands["src"][0])]
        if self.fills_zeros:
            inputs.append(constrained_value(RegisterClass.BITS_32, operands["valid_bytes"][0]))
        return inline_asm(text, (), inputs, touches_memory=True)

    def simulate(self, call: SimulatedCall) -> None:
        if not self.fills_zeros:
            call.copy_later("dst", "src")
            return
        valid = call.value("valid_bytes")
        if np.any((valid < 0) | (valid > self.size_bytes)):
            raise CompilerBug(f"{self.name} is given {valid.min()} to {valid.max()} valid bytes")
        call.copy_later("dst", "src", valid)


@cache
def cp_async(size_bytes: int, fills_zeros: bool = False, cache_level: CacheLevel | None = None) -> CpAsync:
    """The copy of 4, 8 or 16 bytes; 16 bytes pass by L1 unless `cache_level` says otherwise. One object for equal arguments."""
    return CpAsync(size_bytes, cache_level or (CacheLevel.GLOBAL if size_bytes == 16 else CacheLevel.ALL), fills_zeros)


class CpAsyncCommitGroup(Instruction):
    """Closes the thread's group of copies started since the last one. No operands."""

    name = "cp.async.commit_group"
    scope = InstructionScope.THREAD
    feature = Feature.CP_ASYNC
    operands = ()

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        return inline_asm("cp.async.commit_group;", touches_memory=True)

    def simulate(self, call: SimulatedCall) -> None:
        call.commit_group()


class CpAsyncWaitGroup(Instruction):
    """Waits until at most `pending` of the thread's youngest groups are under way: an immediate. Other threads still need a barrier."""

    name = "cp.async.wait_group"
    scope = InstructionScope.THREAD
    feature = Feature.CP_ASYNC
    operands = (ImmediateOperand("pending"),)

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        return inline_asm(f"cp.async.wait_group {operands['pending'][0]};", touches_memory=True)

    def simulate(self, call: SimulatedCall) -> None:
        call.wait_group(call.immediate("pending"))


class CpAsyncWaitAll(Instruction):
    """Closes the open group and waits for all groups. No operands."""

    name = "cp.async.wait_all"
    scope = InstructionScope.THREAD
    feature = Feature.CP_ASYNC
    operands = ()

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        return inline_asm("cp.async.wait_all;", touches_memory=True)

    def simulate(self, call: SimulatedCall) -> None:
        call.commit_group()
        call.wait_group(0)


CP_ASYNC_COMMIT_GROUP = CpAsyncCommitGroup()
CP_ASYNC_WAIT_GROUP = CpAsyncWaitGroup()
CP_ASYNC_WAIT_ALL = CpAsyncWaitAll()
