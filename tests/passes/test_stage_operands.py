"""Which operands of products, reductions and scans are copied first, and where to."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tilewright.ir.buffer import Scope
from tilewright.ir.program import Launch
from tilewright.ir.visit import statements
from tilewright.ops.copy import Copy
from tilewright.ops.gemm import Gemm
from tilewright.ops.reduce import Reduce
from tilewright.ops.scan import Scan
from tilewright.passes.context import GpuPassContext
from tilewright.passes.stage_operands import stage_operands
from tilewright.target.nvidia import SM_80

ALLOCATE = {"shared": T.alloc_shared, "fragment": T.alloc_fragment}


def staged(func: Any) -> tuple[Launch, list[tuple[str, str]], Any]:
    """The launch, its copies as (from, to), and its other operation."""
    launch = stage_operands(func.program, GpuPassContext(SM_80)).launches[0]
    operations = [s for s in statements(launch.body) if isinstance(s, (Copy, Gemm, Reduce, Scan))]
    copies = [(s.src.buffer.name, s.dst.buffer.name) for s in operations if isinstance(s, Copy)]
    (other,) = [s for s in operations if not isinstance(s, Copy)]
    return launch, copies, other


def product(a_scope: str, b_scope: str, c_scope: str, is_clearing: bool = False, is_part: bool = False) -> Any:
    @T.prim_func
    def main(X: T.Tensor((4,), "float16")):
        with T.Kernel(1, threads=128):
            a, b = ALLOCATE[a_scope]((64, 32), "float16"), ALLOCATE[b_scope]((32, 64), "float16")
            c = ALLOCATE[c_scope]((64, 128 if is_part else 64), "float32")
            T.gemm(a, b, c[:, 64:128] if is_part else c, clear_accum=is_clearing)

    return main


@pytest.mark.parametrize(
    ("scopes", "copies"),
    [
        (("shared", "shared", "fragment"), []),
        (("fragment", "shared", "fragment"), []),
        (("shared", "fragment", "fragment"), [("b", "b_tile")]),
        (("shared", "shared", "shared"), [("c", "accumulator"), ("accumulator", "c")]),
        (("fragment", "fragment", "shared"), [("b", "b_tile"), ("c", "accumulator"), ("accumulator", "c")]),
    ],
)
def test_a_product_accumulates_in_a_fragment_and_takes_its_second_operand_from_shared_memory(scopes: Any, copies: list[tuple[str, str]]) -> None:
    launch, found, op = staged(product(*scopes))
    assert found == copies
    assert op.c.buffer.scope is Scope.FRAGMENT and op.b.buffer.scope is Scope.SHARED and op.a.buffer.scope.value == scopes[0]
    assert all(b in launch.buffers for b in (op.a.buffer, op.b.buffer, op.c.buffer))


def test_what_is_overwritten_is_not_copied_first() -> None:
    assert staged(product("shared", "shared", "shared", is_clearing=True))[1] == [("accumulator", "c")]


def test_a_part_of_a_fragment_is_no_accumulator() -> None:
    _, copies, op = staged(product("shared", "shared", "fragment", is_part=True))
    assert copies == [("c", "accumulator"), ("accumulator", "c")] and op.c.buffer.shape == (64, 64)


def reduction(src: str, dst: str, is_clearing: bool) -> Any:
    @T.prim_func
    def main(X: T.Tensor((4,), "float32")):
        with T.Kernel(1, threads=128):
            x, y = ALLOCATE[src]((4, 64, 32), "float32"), ALLOCATE[dst]((64,), "float32")
            T.reduce_sum(x[2, :, :] if src == "shared" else x[0:1, :, :], y, dim=-1, clear=is_clearing)

    return main


@pytest.mark.parametrize("is_clearing", [True, False])
def test_a_reduction_goes_from_fragment_to_fragment(is_clearing: bool) -> None:
    _, copies, op = staged(reduction("shared", "shared", is_clearing))
    first = [] if is_clearing else [("y", "reduced")]
    assert copies == [("x", "reduced_tile"), *first, ("reduced", "y")]
    assert op.src.buffer.shape == (64, 32) and op.axis == 1 and op.clear is is_clearing


def scan(shape: tuple[int, ...], axis: int, scope: str, is_in_place: bool) -> Any:
    @T.prim_func
    def main(X: T.Tensor((4,), "float32")):
        with T.Kernel(1, threads=128):
            x, y = ALLOCATE[scope](shape, "float32"), ALLOCATE["shared"](shape, "float32")
            if is_in_place:
                T.cumsum(x, dim=axis)
            else:
                T.cumsum(x, y, dim=axis)

    return main


@pytest.mark.parametrize(
    ("arguments", "copies", "scopes"),
    [
        (((64, 32), 1, "fragment", True), [], ("fragment", "fragment")),
        (((64, 32), 1, "fragment", False), [("scanned", "y")], ("fragment", "fragment")),
        (((64, 32), 1, "shared", True), [("x", "scanned"), ("scanned", "x")], ("fragment", "fragment")),
        (((16, 256), 0, "shared", False), [], ("shared", "shared")),  # each thread has columns of its own
        (((256, 512), 1, "shared", True), [], ("shared", "shared")),  # too large for the registers
    ],
)
def test_scans(arguments: Any, copies: list[tuple[str, str]], scopes: tuple[str, str]) -> None:
    _, found, op = staged(scan(*arguments))
    assert found == copies and (op.src.buffer.scope.value, op.dst.buffer.scope.value) == scopes
