"""Pass configurations and annotations as options of the printer."""

from __future__ import annotations

import dataclasses

from tests.codegen.cuda.thread_programs import SPAN, program, seq
from tilewright.codegen.cuda.options import CudaOptions, options_of
from tilewright.ir.program import Hint, HintKind
from tilewright.pass_configs import PassConfigKey


def test_defaults() -> None:
    assert options_of(program([], seq())) == CudaOptions()


def test_annotations_count_and_the_caller_wins() -> None:
    hints = (
        Hint(HintKind.PASS_CONFIGS, SPAN, ({PassConfigKey.TL_ENABLE_FAST_MATH: True, "tl.emit_line_directives": True},)),
        Hint(HintKind.COMPILE_FLAGS, SPAN, ("--maxrregcount=64 -G",)),
        Hint(HintKind.MIN_BLOCKS_PER_SM, SPAN, (2,)),
    )
    made = dataclasses.replace(program([], seq()), hints=hints)
    assert options_of(made) == CudaOptions(True, True, ("--maxrregcount=64", "-G"), 2)
    chosen = options_of(made, {"tl.enable_fast_math": False, PassConfigKey.TL_DEVICE_COMPILE_FLAGS: ["-lineinfo"]})
    assert chosen == CudaOptions(False, True, ("--maxrregcount=64", "-G", "-lineinfo"), 2)
