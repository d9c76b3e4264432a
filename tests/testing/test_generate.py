"""Generated programs: the same for the same seed, valid, and full of variety."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tilewright.testing.case import Verdict, run_case
from tilewright.testing.generate import generate


def test_the_same_seed_gives_the_same_programs() -> None:
    assert [generate(7, n).source for n in range(20)] == [generate(7, n).source for n in range(20)]
    assert generate(7, 1).source != generate(7, 2).source != generate(8, 2).source


def test_programs_do_not_depend_on_the_hash_seed() -> None:
    program = "from tilewright.testing.generate import generate; print(generate(3, 4).source)"
    texts = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert texts == {generate(3, 4).source + "\n"}


@pytest.mark.parametrize("number", range(12))
def test_programs_have_no_undefined_behaviour(number: int) -> None:
    outcome = run_case(generate(11, number, 6).source, {}, is_checking_validity=True)
    assert outcome.verdict is Verdict.PASSED, outcome.detail


def test_every_construct_turns_up() -> None:
    text = "\n".join(generate(6, n).source for n in range(160))
    wanted = (
        "T.copy(",
        "T.gemm(",
        "transpose_A=True",
        "transpose_B=True",
        "clear_accum",
        "T.fill(",
        "T.clear(",
        "T.reduce_sum(",
        "T.reduce_max(",
        "T.reduce_min(",
        "T.reduce_absmax(",
        "T.reduce_bit",
        "clear=False",
        "T.cumsum(",
        "T.cummax(",
        "T.transpose(",
        "T.reshape(",
        "T.view(",
        "T.Parallel(",
        "T.Pipelined(0",
        "T.Pipelined(1",
        "T.serial(",
        "T.unroll(",
        "T.grid(",
        "while ",
        "break",
        "continue",
        "elif ",
        "T.if_then_else(",
        "T.Select(",
        "T.atomic_add(",
        "T.atomic_max(",
        "T.alloc_reducer(",
        "T.any_of(",
        "T.alloc_local(",
        "T.alloc_var(",
        "T.dynamic(",
        "count: T.int32",
        "'bool'",
        "'int4'",
        "'float8_e4m3fn'",
        "'bfloat16'",
        "'float64'",
        "T.exp2(",
        "T.cast(",
        ".astype(",
        " // ",
        " % ",
        " >> ",
        "T.annotate_safe_value(",
        "T.Persistent(",
        "T.StridedTensor(",
        "T.alloc_global(",
        "@T.macro",
        "T.get_thread_binding(",
        "T.sync_threads(",
        "T.syncthreads_",
        "T.shfl_",
        "T.warp_reduce_",
        "T.ballot_sync(",
        "T.im2col(",
        "T.async_copy(",
        "T.ptx_wait_group(1)",
        "T.dp4a(",
        "T.Ramp(",
        "T.Shuffle(",
        "T.extract_lane(",
        "x4'",
        "T.comm_reducer(",
        "T.get_thread_binding(1)",
        "T.get_lane_idx(",
        "T.shuffle_elect(",
    )
    assert [w for w in wanted if w not in text] == []


def test_programs_for_machines_without_threads_have_none() -> None:
    assert "T.get_thread_binding(" not in "".join(generate(5, n, has_threads=False).source for n in range(100))
