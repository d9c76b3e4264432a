"""Templates: the problem that each computation is, and what is asked of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.execution import refused
from tilewright.carver import (
    ConvTemplate,
    ElementwiseTemplate,
    FlashAttentionTemplate,
    GEMVTemplate,
    GeneralReductionTemplate,
    MatmulTemplate,
    arch,
)
from tilewright.errors import Kind


@pytest.mark.parametrize(
    ("template", "spatial", "reduction", "reads", "flops"),
    [
        (MatmulTemplate(M=64, N=96, K=32), (64, 96), (32,), [64 * 32, 96 * 32], 2 * 64 * 96 * 32),
        (GEMVTemplate(N=96, K=32), (96,), (32,), [96 * 32, 32], 2 * 96 * 32),
        (ElementwiseTemplate((4, 8), "float32"), (4, 8), (), [32], 32),
        (ElementwiseTemplate(100), (100,), (), [100], 100),
        (GeneralReductionTemplate("SRS", (4, 8, 16)), (4, 16), (8,), [4 * 8 * 16], 4 * 8 * 16),
        (FlashAttentionTemplate(2, 3, 64, 128, 256), (128,), (256,), [256 * 64, 256 * 64, 128 * 64], 6 * 4 * 64 * 128 * 256),
        (ConvTemplate(N=2, C=8, H=10, W=12, F=16, K=3, S=1, D=1, P=1), (2 * 10 * 12, 16), (72,), [240 * 72, 16 * 72], 2 * 240 * 16 * 72),
        (ConvTemplate(1, 4, 11, 11, 8, 3, S=2, D=2), (4 * 4, 8), (36,), [16 * 36, 8 * 36], 2 * 16 * 8 * 36),
    ],
)
def test_what_a_template_computes(template: Any, spatial: Any, reduction: Any, reads: list[int], flops: int) -> None:
    problem = template.problem
    assert (problem.spatial, problem.reduction) == (spatial, reduction)
    assert [operand.tile_elements(spatial, reduction) for operand in problem.operands] == reads
    points = problem.batch
    for n in (*spatial, *reduction):
        points *= n
    assert points * problem.flops == flops


def test_a_causal_mask_halves_the_operations() -> None:
    whole, half = FlashAttentionTemplate(head_dim=128), FlashAttentionTemplate(head_dim=128, is_causal=True)
    assert whole.problem.flops == 2 * half.problem.flops


@pytest.mark.parametrize(
    "template",
    [
        MatmulTemplate(512, 512, 512),
        GEMVTemplate(4096, 4096),
        ElementwiseTemplate((64, 64)),
        GeneralReductionTemplate("SR", (64, 512)),
        FlashAttentionTemplate(),
    ],
    ids=lambda template: type(template).__name__,
)
@pytest.mark.parametrize("machine", ["sm_80", "sm_90a", "cpu"])
def test_every_template_gives_hints_for_every_machine(template: Any, machine: str) -> None:
    hints = template.with_arch(arch.CPU() if machine == "cpu" else arch.CUDA(machine)).recommend_hints(topk=3)
    assert 1 <= len(hints) <= 3
    for hint in hints:
        assert (len(hint.block), len(hint.rstep)) == (len(template.problem.spatial), len(template.problem.reduction)) and hint.estimated_time > 0


@pytest.mark.parametrize(
    ("kind", "call", "part"),
    [
        (Kind.OPTION_VALUE, lambda: MatmulTemplate(8, 8, 8).recommend_hints(), "before with_arch"),
        (Kind.OPTION_VALUE, lambda: MatmulTemplate(8, 8, 8).with_arch("sm_80"), "with_arch was given"),
        (Kind.OPTION_VALUE, lambda: MatmulTemplate(8, 8, 8).with_arch(arch.CPU()).recommend_hints(0), "topk is"),
        (Kind.SHAPE_VALUE, lambda: MatmulTemplate(8, 0, 8), "N of the template is"),
        (Kind.SHAPE_VALUE, lambda: ConvTemplate(1, 1, 2, 2, 1, 5), "the height of the result"),
        (Kind.OPTION_VALUE, lambda: GeneralReductionTemplate("SX", (2, 2)), "the structure is 'SX'"),
        (Kind.DTYPE_NAME, lambda: GEMVTemplate(8, 8, in_dtype="half17"), "half17"),
    ],
)
def test_mistakes(kind: Kind, call: Any, part: str) -> None:
    with refused(kind, part):
        call()
