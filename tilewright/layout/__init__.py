"""The layout algebra (floor 1): digit layouts, swizzles, distribution over threads, matching against hardware accesses.

It knows only ints.
"""

from __future__ import annotations

from tilewright.layout.annotations import (
    FragmentAnnotation,
    LayoutAnnotation,
    make_full_bank_swizzled_layout,
    make_half_bank_swizzled_layout,
    make_linear_layout,
    make_quarter_bank_swizzled_layout,
    make_swizzled_layout,
)
from tilewright.layout.banks import bank_conflict_ways
from tilewright.layout.digits import LANE, OFFSET, REG, REPLICA, STAGE, THREAD, WARP, Axis, LayoutError, factor, place_values, tile_axes
from tilewright.layout.distribute import Distribution, distribute, whole_registers
from tilewright.layout.embedding import Embedding, MemoryLayout
from tilewright.layout.interop import (
    CollisionError,
    fragment_from_function,
    from_cute,
    from_function,
    recover_layout,
    recover_memory_layout,
    to_cute,
)
from tilewright.layout.layout import Layout
from tilewright.layout.match import (
    InstructionMatch,
    MatrixMatch,
    SwizzleMatch,
    VectorRun,
    common_run,
    match_instruction,
    match_matrix_access,
    match_swizzle,
    vector_elements,
    vector_run,
)
from tilewright.layout.relayout import Reach, Reduction, Relayout, plan_reduction, plan_relayout, register_renaming
from tilewright.layout.shuffles import IssueSlots, ShufflePlan, Swap, plan_shuffles
from tilewright.layout.swizzle import (
    SharedAccess,
    SwizzleMode,
    banked_base,
    search_swizzle,
    swizzle_atom,
    swizzled_tile,
    tile_with_atom,
    widest_swizzle,
)
from tilewright.layout.table import Collision, TableLayout, first_collision

__all__ = [
    "LANE",
    "OFFSET",
    "REG",
    "REPLICA",
    "STAGE",
    "THREAD",
    "WARP",
    "Axis",
    "Collision",
    "CollisionError",
    "Distribution",
    "Embedding",
    "FragmentAnnotation",
    "InstructionMatch",
    "IssueSlots",
    "Layout",
    "LayoutAnnotation",
    "LayoutError",
    "MatrixMatch",
    "MemoryLayout",
    "Reach",
    "Reduction",
    "Relayout",
    "SharedAccess",
    "ShufflePlan",
    "Swap",
    "SwizzleMatch",
    "SwizzleMode",
    "TableLayout",
    "VectorRun",
    "bank_conflict_ways",
    "banked_base",
    "common_run",
    "distribute",
    "factor",
    "first_collision",
    "fragment_from_function",
    "from_cute",
    "from_function",
    "make_full_bank_swizzled_layout",
    "make_half_bank_swizzled_layout",
    "make_linear_layout",
    "make_quarter_bank_swizzled_layout",
    "make_swizzled_layout",
    "match_instruction",
    "match_matrix_access",
    "match_swizzle",
    "place_values",
    "plan_reduction",
    "plan_relayout",
    "plan_shuffles",
    "recover_layout",
    "recover_memory_layout",
    "register_renaming",
    "search_swizzle",
    "swizzle_atom",
    "swizzled_tile",
    "tile_axes",
    "tile_with_atom",
    "to_cute",
    "vector_elements",
    "vector_run",
    "whole_registers",
    "widest_swizzle",
]
