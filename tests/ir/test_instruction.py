"""What an instruction says about its operands."""

from __future__ import annotations

import pytest

from tilewright import dtypes
from tilewright.errors import CompilerBug
from tilewright.ir.instruction import Access, Instruction, InstructionScope, RegisterOperand


class _Nothing(Instruction):
    name = "nothing"
    scope = InstructionScope.THREAD
    feature = None
    operands = ()


@pytest.mark.parametrize("dtype, count, registers", [(dtypes.float16, 8, 4), (dtypes.int4, 8, 1), (dtypes.float32, 4, 4), (dtypes.float64, 2, 2)])
def test_narrow_elements_share_machine_registers(dtype: dtypes.DType, count: int, registers: int) -> None:
    assert RegisterOperand("a", dtype, count, Access.READ).num_registers == registers


def test_an_instruction_without_text_or_meaning_is_a_fault_of_ours() -> None:
    with pytest.raises(CompilerBug, match="nothing has no CUDA text"):
        _Nothing().cuda({})
    with pytest.raises(CompilerBug, match="nothing has no simulated meaning"):
        _Nothing().simulate(None)  # type: ignore[arg-type]
