"""Finds tile sizes for a computation on a machine (floor 9): all that fit are costed with a model of operations, bytes and waves; the cheapest come first.

The model knows nothing of instructions: it is for choosing what to try with `@tilewright.autotune`, not for predicting times.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from tilewright.carver.arch import Architecture
from tilewright.carver.roller.rasterization import NoRasterization, Rasterization, Rasterization2DRow
from tilewright.dtypes import DType
from tilewright.target.nvidia import NvidiaTarget
from tilewright.target.occupancy import occupancy

_LARGEST_TILE = 256
_LARGEST_STEP = 256
_MOST_ACCUMULATORS = 128  # of a thread
_OTHER_REGISTERS = 48
_CACHE_SPEED_UP = 3.0  # bandwidth of the last-level cache, in those of memory
_CPU_TILE_BYTES = 256 << 10  # of all tiles of a block: a private cache's half
_STEP_CYCLES = {1: 600, 2: 250, 3: 150, 4: 150}  # barriers, and what is left of the latency of loads, by tiles in flight
_BLOCK_CYCLES = 1000  # to start a block and to write its results
_PANEL_WIDTH = 8


@dataclass(frozen=True)
class Operand:
    """A tensor that a computation reads: which of its spatial and reduction axes the tensor has, and elements beside them."""

    dtype: DType
    spatial: tuple[int, ...]
    reduction: tuple[int, ...] = ()
    elements: int = 1

    def tile_elements(self, block: tuple[int, ...], step: tuple[int, ...]) -> int:
        return self.elements * math.prod(block[a] for a in self.spatial) * math.prod(step[a] for a in self.reduction)


@dataclass(frozen=True)
class Problem:
    """A computation: one result per point of `spatial`, combined over `reduction`.

    batch            how often all of it is done.
    flops            operations per point of both.
    is_product       of matrices over the last two spatial axes, or the last spatial and `result_elements`.
    result_elements  of each point.
    """

    spatial: tuple[int, ...]
    reduction: tuple[int, ...]
    operands: tuple[Operand, ...]
    result: DType
    accumulator: DType
    flops: float
    is_product: bool = False
    batch: int = 1
    result_elements: int = 1


@dataclass(frozen=True)
class Hint:
    """One choice of sizes.

    block, rstep         tile sizes of the spatial axes, and of the reduction axes.
    warp                 the part of the block that one warp does; the block itself on CPUs.
    thread               warps of a block along each spatial axis, times the threads of a warp on the last one; empty on CPUs.
    pipeline_stage       tiles in flight: `num_stages` of T.Pipelined; 1 means none.
    rasterization_plan   the order of blocks.
    use_tc               whether the products go to tensor cores.
    estimated_time       seconds by the model.
    """

    block: list[int]
    warp: list[int]
    rstep: list[int]
    thread: list[int]
    pipeline_stage: int
    rasterization_plan: Rasterization
    use_tc: bool
    estimated_time: float = field(compare=False)


def search(problem: Problem, architecture: Architecture, count: int) -> list[Hint]:
    """The `count` best hints, cheapest first; fewer where fewer tiles fit."""
    found = [hint for block, step in _tiles(problem) for hint in _hints(problem, architecture, block, step)]
    found.sort(key=lambda hint: (hint.estimated_time, hint.pipeline_stage, math.prod(hint.thread), hint.block, hint.rstep))
    kept: dict[tuple[tuple[int, ...], tuple[int, ...]], Hint] = {}
    for hint in found:
        kept.setdefault((tuple(hint.block), tuple(hint.rstep)), hint)  # the best stages and warps of each tile
    return list(kept.values())[:count]


def _powers(extent: int, least: int, most: int) -> list[int]:
    """Powers of two from `least` on that are not above the extent, rounded up to one."""
    limit = min(most, max(least, 1 << max(extent - 1, 0).bit_length()))
    return [1 << n for n in range(least.bit_length() - 1, limit.bit_length())]


def _tiles(problem: Problem) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Blocks and steps: the last two axes of each vary, axes in front of them are done one by one."""
    least = 16 if problem.is_product else 1
    axes = [_powers(n, least if problem.is_product or axis else 1, _LARGEST_TILE) for axis, n in enumerate(problem.spatial[-2:])]
    leading = (1,) * max(len(problem.spatial) - 2, 0)
    steps = [_powers(n, 16, _LARGEST_STEP) for n in problem.reduction[-1:]]
    outer = (1,) * max(len(problem.reduction) - 1, 0)
    for block in itertools.product(*axes):
        for step in itertools.product(*steps):
            yield (*leading, *block), (*outer, *step)


def _hints(problem: Problem, architecture: Architecture, block: tuple[int, ...], step: tuple[int, ...]) -> Iterator[Hint]:
    machine, target = architecture.machine, architecture.target
    blocks = problem.batch * math.prod(-(-n // b) for n, b in zip(problem.spatial, block, strict=True))
    steps = math.prod(-(-n // s) for n, s in zip(problem.reduction, step, strict=True))
    held = [o.tile_elements(block, step) * o.dtype.storage_bits / 8 for o in problem.operands if o.reduction]
    fixed = [o.tile_elements(block, step) * o.dtype.storage_bits / 8 for o in problem.operands if not o.reduction]
    results = math.prod(block) * problem.result_elements
    moved = blocks * (steps * sum(held) + sum(fixed) + results * problem.result.storage_bits / 8)
    flops = blocks * steps * math.prod(block) * math.prod(step) * problem.flops  # padding is computed too
    size = sum(_whole_bytes(o, problem) for o in problem.operands) + problem.batch * math.prod(problem.spatial) * problem.result_elements * problem.result.bytes
    transfer = max(min(moved, size) / machine.bandwidth_bytes_per_s, moved / (machine.bandwidth_bytes_per_s * _CACHE_SPEED_UP))
    dtype = problem.operands[0].dtype
    compute = flops / machine.peak_flops(dtype, problem.is_product)
    plan: Rasterization = Rasterization2DRow(_PANEL_WIDTH) if len(block) > 1 and problem.is_product and size > machine.cache_bytes else NoRasterization()
    if not isinstance(target, NvidiaTarget):
        if sum(held) + sum(fixed) + results * problem.accumulator.bytes <= _CPU_TILE_BYTES:
            waves = math.ceil(blocks / machine.units)
            busy = max(compute * _narrowness(problem, block), transfer) * waves * machine.units / blocks
            time = busy + waves * (_BLOCK_CYCLES + steps * _STEP_CYCLES[3]) / machine.clock_hz
            yield Hint(list(block), list(block), list(step), [], 1, NoRasterization(), False, time)
        return
    uses_tensor_cores = problem.is_product and machine.matrix_fma_per_cycle > 0 and dtype.bits <= 32 and dtype != "float32"
    for warps in (1, 2, 4, 8):
        split = _split(block, warps, problem.is_product)
        accumulators = results * max(problem.accumulator.bits, 32) / 32 / (warps * target.warp_threads)
        if split is None or accumulators > _MOST_ACCUMULATORS:
            continue
        warp = [b // s for b, s in zip(block, split, strict=True)]
        narrow = _narrowness(problem, tuple(warp))
        threads = [*split[:-1], split[-1] * target.warp_threads]
        for stages in (1, 2, 3, 4) if steps > 1 else (1,):
            shared = int(stages * sum(held) + sum(fixed)) if problem.reduction else 0
            fitting = occupancy(target, warps * target.warp_threads, int(accumulators) + _OTHER_REGISTERS, shared)
            if not fitting.blocks_per_sm:
                continue
            at_once = machine.units * fitting.blocks_per_sm
            waves = math.ceil(blocks / at_once)
            # A multiprocessor needs several warps to hide latencies.
            busy = max(compute * narrow, transfer) * (1.0 + 0.5 / min(fitting.warps_per_sm, 16)) * waves * at_once / blocks
            time = busy + waves * (_BLOCK_CYCLES + steps * _STEP_CYCLES[stages]) / machine.clock_hz
            yield Hint(list(block), warp, list(step), threads, stages, plan, uses_tensor_cores, time)


def _narrowness(problem: Problem, tile: tuple[int, ...]) -> float:
    """What the rows and columns of a product's tile cost beside its operations: they are read once per step, whatever is done with them."""
    if not problem.is_product:
        return 1.0
    sides = tile[-2:] if len(tile) > 1 else (*tile, problem.result_elements)
    return 1.0 + 8.0 * sum(1 / n for n in sides)


def _whole_bytes(operand: Operand, problem: Problem) -> float:
    return problem.batch * operand.tile_elements(problem.spatial, problem.reduction) * operand.dtype.storage_bits / 8


def _split(block: tuple[int, ...], warps: int, is_product: bool) -> list[int] | None:
    """Warps along each axis: as square a part for each as there is; None where a part would be too small for the instructions."""
    split = [1] * len(block)
    axes = range(len(block))[-2:]
    least = {axes[-1]: 8, axes[0]: 16} if is_product else dict.fromkeys(axes, 1)
    while math.prod(split) < warps:
        possible = [a for a in axes if block[a] // split[a] >= 2 * least[a]]
        if not possible:
            return None
        widest = max(possible, key=lambda a: (block[a] // split[a], -a))
        split[widest] *= 2
    return split
