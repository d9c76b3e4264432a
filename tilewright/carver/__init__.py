"""Tile sizes worth trying (floor 9; language.md 15): templates of common computations, machines to fit them to, and hints in the order of what they promise.

hints = MatmulTemplate(M=4096, N=4096, K=4096).with_arch(arch.CUDA("sm_90a")).recommend_hints(topk=10)
"""

from __future__ import annotations

from tilewright.carver import arch, roller
from tilewright.carver.search import Hint
from tilewright.carver.templates import ConvTemplate, ElementwiseTemplate, FlashAttentionTemplate, GEMVTemplate, GeneralReductionTemplate, MatmulTemplate

__all__ = [
    "ConvTemplate",
    "ElementwiseTemplate",
    "FlashAttentionTemplate",
    "GEMVTemplate",
    "GeneralReductionTemplate",
    "Hint",
    "MatmulTemplate",
    "arch",
    "roller",
]
