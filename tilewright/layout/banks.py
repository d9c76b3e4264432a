"""Shared-memory bank conflicts (floor 1): by a rank formula where addresses are linear over GF(2), else by enumerating a warp.

Model (not in the PTX ISA; CUDA C++ Programming Guide, compute capability 5.x and later, and long-standing measurements): 32 banks of 4
bytes; lanes reading one word share it; accesses of 8 or 16 bytes per lane are served in 2 or 4 phases of consecutive lanes. The ways of an
access are the largest number of distinct slots that one bank must serve in a phase; 1 is conflict free.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tilewright.layout.digits import LANE, REG, LayoutError, log2_exact
from tilewright.layout.embedding import Embedding
from tilewright.layout.gf2 import rank
from tilewright.layout.layout import Layout

WORD_BITS = 32
BANK_SPAN_BITS = 1024  # 32 banks of 4 bytes


def phase_lane_digits(access_bits: int) -> int:
    """log2 of the lanes that one phase serves when each lane moves `access_bits` (a power of two up to 128)."""
    if access_bits > 128:
        raise LayoutError(f"one lane moves at most 128 bits per access, got {access_bits}")
    return log2_exact(BANK_SPAN_BITS // max(WORD_BITS, 1 << log2_exact(access_bits)))


def _linear_masks(embedding: Embedding, element_bits: int, slot_bits: int) -> tuple[int, int] | None:
    """(digits at or above a slot, those of them inside the bank span), or None if adding strides could carry into the bank bits."""
    if not embedding.has_separated_digits:
        return None
    above = inside = 0
    for bit, (radix, stride) in enumerate(zip(embedding.digits, embedding.strides_elements, strict=True)):
        stride_bits = stride * element_bits
        if stride_bits % BANK_SPAN_BITS == 0:
            above |= 1 << bit
        elif radix != 2 or stride_bits & (stride_bits - 1):
            return None
        elif stride_bits >= slot_bits:
            above |= 1 << bit
            inside |= 1 << bit
    return above, inside


def bank_conflict_ways(access: Layout, element_bits: int, vector_elements: int = 1, embedding: Embedding | None = None) -> int:
    """The worst ways over the phases and instructions of an access (…, lane, …) -> (offset,), e.g. `memory.compose(fragment)`.

    The low digits of "reg" up to `vector_elements` form one lane's vector (aligned, contiguous); without a "reg" axis the layout gives the
    address of each lane's vector. `embedding` gives element strides of the offset digits (default: natural).
    """
    if embedding is None:
        embedding = Embedding.natural(access.outs[0])
    access_bits = element_bits * vector_elements
    phase = phase_lane_digits(access_bits)
    slot_bits = max(WORD_BITS, access_bits)
    masks = _linear_masks(embedding, element_bits, slot_bits)
    lanes = access.columns_of(LANE)[:phase]
    if masks is not None:
        above, inside = masks
        return 1 << (rank(column & above for column in lanes) - rank(column & inside for column in lanes))
    return _enumerated_ways(access, element_bits, vector_elements, embedding)


def _enumerated_ways(access: Layout, element_bits: int, vector_elements: int, embedding: Embedding) -> int:
    if access.has_input(REG):  # keep the first element of each vector only
        low = access.in_axis(REG).low_digits(vector_elements)
        axes = access.in_axis(REG).digits
        order = [*range(low, len(axes)), *range(low)]
        access = access.reorder_digits(REG, order).restrict(**{REG: access.in_axis(REG).extent // vector_elements})
    others = [axis.name for axis in access.ins if axis.name != LANE]
    access_bits = element_bits * vector_elements
    phase_lanes = min(1 << phase_lane_digits(access_bits), access.in_axis(LANE).extent)
    addresses = embedding.addresses(access.reorder(ins=[*others, LANE]).table()[..., 0]).reshape(-1, phase_lanes)
    words = addresses * element_bits // WORD_BITS
    steps = np.arange(max(1, access_bits // WORD_BITS))
    return max(_ways_of_phase(words + step) for step in steps)


def _ways_of_phase(words: npt.NDArray[np.int64]) -> int:
    """The most distinct words in one bank, over the rows of (phases, lanes)."""
    ordered = np.sort(words, axis=1)
    fresh = np.ones(ordered.shape, dtype=bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    counts = np.zeros((len(ordered), BANK_SPAN_BITS // WORD_BITS), dtype=np.int64)
    rows = np.broadcast_to(np.arange(len(ordered))[:, None], ordered.shape)
    np.add.at(counts, (rows[fresh], ordered[fresh] % counts.shape[1]), 1)
    return int(counts.max())
