"""Annotations and hints of the language (floor 5; language.md 9). None changes a result but `annotate_safe_value`."""

from __future__ import annotations

from typing import Any

from tilewright.errors import Kind, Label, fail
from tilewright.ir.buffer import Buffer, Scope, format_shape
from tilewright.ir.expr import as_condition, as_expr, cast, describe_operand
from tilewright.ir.program import Hint, HintKind
from tilewright.ir.stmt import Assume
from tilewright.language.builder import program_builder
from tilewright.layout.annotations import FragmentAnnotation, LayoutAnnotation
from tilewright.spans import span_of_caller


def _hint(kind: HintKind, *values: Any) -> None:
    builder = program_builder()
    builder.hints.append(Hint(kind, builder.here(), values))


def _buffers(mapping: Any, name: str) -> list[tuple[Buffer, Any]]:
    builder = program_builder()
    if not isinstance(mapping, dict) or not all(isinstance(b, Buffer) for b in mapping):
        wrong = next((describe_operand(b) for b in mapping if not isinstance(b, Buffer)), "") if isinstance(mapping, dict) else describe_operand(mapping)
        fail(
            Kind.ANNOTATION,
            f"T.{name} was given {wrong}",
            builder.here(),
            because="it takes a dictionary from buffers to their annotation",
            help=f"write T.{name}({{A_shared: ...}})",
        )
    return list(mapping.items())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _require_hint(is_right: bool, name: str, value: Any, wanted: str, example: str) -> None:
    if not is_right:
        fail(
            Kind.ANNOTATION, f"T.{name} was given {describe_operand(value)}", span_of_caller(), because=f"it takes {wanted}", help=f"write T.{name}({example})"
        )


def use_swizzle(panel_size: int, order: str = "row", enable: bool = True) -> None:
    """The order in which blocks run, for locality: panels of `panel_size` rows or columns. Outside a launch it is for all that have none of their own."""
    builder = program_builder()
    if not _is_count(panel_size):
        fail(
            Kind.ANNOTATION,
            f"T.use_swizzle has panel_size={panel_size!r}",
            builder.here(),
            because="a panel is a positive number of blocks wide",
            help="write T.use_swizzle(panel_size=8)",
        )
    if not isinstance(order, str) or order not in ("row", "column", "mlx"):
        fail(
            Kind.ANNOTATION, f"T.use_swizzle has order={order!r}", builder.here(), because='known are "row", "column" and "mlx"', help='leave it out for "row"'
        )
    if enable:
        hints = builder.hints if builder.launch is None else builder.launch.hints
        hints.append(Hint(HintKind.SWIZZLE_BLOCKS, builder.here(), (panel_size, order)))


def annotate_layout(layouts: Any) -> None:
    """The physical layout of shared tiles and fragments; a CPU keeps tiles in its own layouts, which no program can tell."""
    builder = program_builder()
    for buffer, layout in _buffers(layouts, "annotate_layout"):
        if buffer.scope is Scope.GLOBAL:
            fail(
                Kind.ANNOTATION,
                f"T.annotate_layout was given {buffer.name}, a global tensor",
                (Label(builder.here()), Label(buffer.span)),
                because="the caller decides how a tensor lies in memory; layouts are for tiles",
                help="declare it as T.StridedTensor, or annotate the tile it is copied to",
            )
        if not isinstance(layout, (LayoutAnnotation, FragmentAnnotation)):
            layout = (
                LayoutAnnotation(buffer.static_shape, layout)
                if callable(layout)
                else fail(
                    Kind.ANNOTATION,
                    f"the layout of {buffer.name} is {describe_operand(layout)}",
                    builder.here(),
                    because="a layout is a T.Layout, a T.Fragment or an index function",
                    help=f"write T.annotate_layout({{{buffer.name}: T.Layout({buffer.shape}, lambda ...: ...)}})",
                )
            )
        if layout.shape != buffer.shape:
            fail(
                Kind.LAYOUT_SHAPE,
                f"the layout has the shape {layout.shape}, but {buffer.name} is {format_shape(buffer)}",
                (Label(builder.here()), Label(buffer.span, "allocated here")),
                because="a layout places each element of its tile",
                help=f"make the layout for the shape {buffer.shape}",
            )
        _hint(HintKind.LAYOUT, buffer, layout)


def annotate_safe_value(values: Any) -> None:
    """What a load outside a global tensor gives, instead of 0."""
    builder = program_builder()
    launch = builder.require_launch("T.annotate_safe_value", builder.here())
    for buffer, value in _buffers(values, "annotate_safe_value"):
        if buffer.scope is not Scope.GLOBAL:
            fail(
                Kind.ANNOTATION,
                f"T.annotate_safe_value was given {buffer.name}, a {buffer.scope.value} buffer",
                builder.here(),
                because="only loads from global tensors are guarded",
                help="annotate the tensor it is copied from",
            )
        launch.safe_values.append((buffer, cast(as_expr(value), buffer.dtype)))


def annotate_l2_hit_ratio(ratios: Any) -> None:
    """How much of a tensor should stay in the L2 cache of a GPU."""
    for ratio in ratios.values() if isinstance(ratios, dict) else ():
        _require_hint(
            isinstance(ratio, (int, float)) and 0 <= ratio <= 1, "annotate_l2_hit_ratio", ratio, "a share between 0 and 1 for each tensor", "{A: 0.5}"
        )
    for buffer, ratio in _buffers(ratios, "annotate_l2_hit_ratio"):
        _hint(HintKind.L2_HIT_RATIO, buffer, ratio)


def annotate_restrict_buffers(*buffers: Any) -> None:
    """Parameters that may alias each other."""
    for buffer in buffers:
        _require_hint(isinstance(buffer, Buffer), "annotate_restrict_buffers", buffer, "tensor parameters", "A, B")
    _hint(HintKind.RESTRICT, *buffers)


def annotate_min_blocks_per_sm(count: int) -> None:
    """Blocks that should fit one multiprocessor of a GPU."""
    _require_hint(_is_count(count), "annotate_min_blocks_per_sm", count, "a positive number of blocks", "2")
    _hint(HintKind.MIN_BLOCKS_PER_SM, count)


def annotate_compile_flags(flags: Any) -> None:
    """Flags for the compiler of a GPU target."""
    _require_hint(
        isinstance(flags, str) or (isinstance(flags, (list, tuple)) and all(isinstance(f, str) for f in flags)),
        "annotate_compile_flags",
        flags,
        "a string or a list of strings",
        '"-O3"',
    )
    _hint(HintKind.COMPILE_FLAGS, flags)


def annotate_pass_configs(configs: Any) -> None:
    """Pass configurations inside the function; arguments of `compile` win."""
    _require_hint(
        isinstance(configs, dict) and all(isinstance(k, str) for k in configs),
        "annotate_pass_configs",
        configs,
        "a dictionary from keys to values",
        "{tilewright.PassConfigKey.TL_ENABLE_FAST_MATH: True}",
    )
    _hint(HintKind.PASS_CONFIGS, configs)


def _register_hint(*values: Any) -> None:
    _hint(HintKind.WARP_REGISTERS, *values)


def disable_warp_group_reg_alloc() -> None:
    """Leaves the registers of warp groups as they are."""
    _register_hint("disable")


def set_max_nreg(count: int, is_increase: int | bool) -> None:
    """Registers of a warp group."""
    _require_hint(_is_count(count), "set_max_nreg", count, "a number of registers", "240, 1")
    _register_hint(count, is_increase)


def inc_max_nreg(count: int) -> None:
    """More registers for a warp group."""
    _require_hint(_is_count(count), "inc_max_nreg", count, "a number of registers", "240")
    _register_hint(count, True)


def dec_max_nreg(count: int) -> None:
    """Fewer registers for a warp group."""
    _require_hint(_is_count(count), "dec_max_nreg", count, "a number of registers", "24")
    _register_hint(count, False)


def annotate_producer_reg_dealloc(count: int = 24) -> None:
    """Registers that a producer keeps."""
    _require_hint(_is_count(count), "annotate_producer_reg_dealloc", count, "a number of registers", "24")
    _register_hint("producer", count)


def annotate_consumer_reg_alloc(count: int = 240) -> None:
    """Registers that a consumer takes."""
    _require_hint(_is_count(count), "annotate_consumer_reg_alloc", count, "a number of registers", "240")
    _register_hint("consumer", count)


def no_set_max_nreg() -> None:
    """Leaves the registers of warp groups as they are."""
    _register_hint("disable")


def assume(condition: Any) -> None:
    """A promise to the compiler, used to drop guards; no effect when the kernel runs."""
    builder = program_builder()
    if isinstance(condition, bool):
        if not condition:
            fail(
                Kind.ANNOTATION,
                "T.assume was given False",
                builder.here(),
                because="a promise must be able to hold",
                help="remove it, or correct the condition",
            )
        return
    promise = Assume(builder.here(), as_condition(condition))
    if builder.launch is None:
        builder.promises.append(promise)  # holds in every launch below
    else:
        builder.emit(promise)


def func_attr(attributes: Any) -> None:
    """Attributes that older programs attach to a function, as {"global_symbol": "main"}; none changes what it computes."""
    _require_hint(
        isinstance(attributes, dict) and all(isinstance(k, str) for k in attributes), "func_attr", attributes, "a dictionary", '{"global_symbol": "main"}'
    )
    _hint(HintKind.FUNCTION_ATTRIBUTES, tuple(attributes.items()))
