"""A fragment that is also seen under another shape or dtype lives in shared memory (floor 5): what is one register of a thread in one of its shapes need
not be one in the other."""

from __future__ import annotations

import dataclasses

from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.program import Launch, Program
from tilewright.ir.visit import statements
from tilewright.passes.context import GpuPassContext
from tilewright.passes.expand_tile_ops import replace_buffers
from tilewright.passes.walk import buffers_of, viewed_tiles


def share_viewed_fragments(program: Program, context: GpuPassContext) -> Program:
    """Changes the scope of such fragments and of their views; a remark names each."""
    return dataclasses.replace(program, launches=tuple(_share(launch, context) for launch in program.launches))


def _share(launch: Launch, context: GpuPassContext) -> Launch:
    viewed = viewed_tiles(launch)
    roots = [b for b in launch.buffers if b in viewed and b.source is None and b.scope is Scope.FRAGMENT]
    made: dict[Buffer, Buffer] = {}

    def shared(buffer: Buffer) -> Buffer:
        if buffer not in made:
            made[buffer] = dataclasses.replace(buffer, scope=Scope.SHARED, source=None if buffer.source is None else shared(buffer.source))
        return made[buffer]

    for root in roots:
        shared(root)
        context.remark(root.span, f"{root.name} is also used as a view of another shape or dtype: it is kept in shared memory")
    for buffer in (b for s in statements(launch.body) for b in buffers_of(s)):
        if buffer.storage in roots:
            shared(buffer)
    return replace_buffers(launch, made)
