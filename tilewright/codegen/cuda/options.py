"""What a user's pass configurations and annotations change in generated CUDA (floor 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.ir.program import HintKind, Program
from tilewright.pass_configs import PassConfigKey


@dataclass(frozen=True, slots=True)
class CudaOptions:
    """is_fast_math          approximate division and functions of float32, as `T.__exp` and its like ask for one by one.
    has_line_directives   `#line` directives to the user's files, for debuggers and profilers, in place of comments.
    flags                 more options for NVRTC, in order.
    min_blocks_per_sm     the second argument of __launch_bounds__, None where nobody asked.
    """

    is_fast_math: bool = False
    has_line_directives: bool = False
    flags: tuple[str, ...] = ()
    min_blocks_per_sm: int | None = None


def configs_of(program: Program, pass_configs: Mapping[str, object] | None = None) -> dict[str, object]:
    """The pass configurations of a program by name: its own annotations, and over them those that the caller compiles with."""
    given = [v for hint in program.hints if hint.kind is HintKind.PASS_CONFIGS for v in hint.values if isinstance(v, dict)]
    return {_key(k): v for configs in (*given, pass_configs or {}) for k, v in configs.items()}


def options_of(program: Program, pass_configs: Mapping[str, object] | None = None) -> CudaOptions:
    """The options of a program: its own annotations, and over them the `pass_configs` that the caller compiles with."""
    configs = configs_of(program, pass_configs)
    flags: list[str] = []
    min_blocks: int | None = None
    for hint in program.hints:
        for value in hint.values:
            match hint.kind, value:
                case HintKind.COMPILE_FLAGS, str() | list() | tuple():
                    flags += value.split() if isinstance(value, str) else map(str, value)
                case HintKind.MIN_BLOCKS_PER_SM, int():
                    min_blocks = value
    more = configs.get(PassConfigKey.TL_DEVICE_COMPILE_FLAGS.value)
    flags += more.split() if isinstance(more, str) else map(str, more) if isinstance(more, (list, tuple)) else ()
    is_fast = bool(configs.get(PassConfigKey.TL_ENABLE_FAST_MATH.value)) and not configs.get(PassConfigKey.TL_DISABLE_FAST_MATH.value)
    return CudaOptions(is_fast, bool(configs.get(PassConfigKey.TL_EMIT_LINE_DIRECTIVES.value)), tuple(flags), min_blocks)


def _key(key: object) -> str:
    return str(key.value) if isinstance(key, PassConfigKey) else str(key)
