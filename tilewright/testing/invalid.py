"""Invalid programs that must be refused: `python -m tilewright.testing.invalid --count 200 --seed 1` (floor 9).

A program is a random valid beginning, one mistake in one of several contexts, and a mark on the line where the diagnostic must point. What is checked
is the kind of the mistake, the line, and that the refusal is a TileError and nothing else.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilewright.errors import Kind, TileError
from tilewright.jit import compile as compile_kernel
from tilewright.testing.case import load_case
from tilewright.testing.generate import generate

MARK = "  # <-- here"


@dataclass(frozen=True)
class Violation:
    """A mistake. `setup` allocates what it needs, `body` holds it; the line that ends in @ is where it must be reported.

    `<m>`, `<n>`, `<k>` become different sizes, `<f>` a float dtype; X is a float32 tensor of 64 x 64 that the kernel takes.
    """

    kind: Kind
    setup: str
    body: str
    contexts: tuple[str, ...] = ("launch", "serial", "pipelined", "branch", "unroll", "macro")


_TOP = ("launch",)
_TILE = "t = T.alloc_shared((<m>, <n>), '<f>')"
_GEMM = "a = T.alloc_shared((<m>, <k>), '<f>')\nb = T.alloc_shared((<k>, <n>), '<f>')\nc = T.alloc_fragment((<m>, <n>), 'float32')"

VIOLATIONS: tuple[Violation, ...] = (
    # -- products
    Violation(Kind.GEMM_K_MISMATCH, _GEMM, "T.gemm(a, b, c, transpose_A=True, clear_accum=True)@"),
    Violation(Kind.GEMM_K_MISMATCH, _GEMM + "\nd = T.alloc_shared((<n>, <n>), '<f>')", "T.gemm(a, d, c)@"),
    Violation(Kind.GEMM_M_MISMATCH, _GEMM + "\nd = T.alloc_fragment((<m> + 1, <n>), 'float32')", "T.gemm(a, b, d)@"),
    Violation(Kind.GEMM_N_MISMATCH, _GEMM + "\nd = T.alloc_fragment((<m>, <n> + 3), 'float32')", "T.gemm(a, b, d)@"),
    Violation(Kind.GEMM_DTYPE, _GEMM + "\nd = T.alloc_shared((<k>, <n>), 'int8')", "T.gemm(a, d, c)@"),
    Violation(Kind.GEMM_DTYPE, _GEMM + "\nd = T.alloc_fragment((<m>, <n>), 'int32')", "T.gemm(a, b, d)@"),
    Violation(Kind.GEMM_RANK, _GEMM + "\nd = T.alloc_shared((<k>,), '<f>')", "T.gemm(a, d, c)@"),
    Violation(Kind.GEMM_BATCH, _GEMM + "\nd = T.alloc_shared((2, <m>, <k>), '<f>')", "T.gemm(d, b, c)@"),
    Violation(Kind.OPERAND_KIND, _GEMM, "T.gemm(a, b, 3)@"),
    Violation(Kind.UNKNOWN_ARGUMENT, _GEMM, "T.gemm(a, b, c, transpose_C=True)@"),
    Violation(Kind.MISSING_ARGUMENT, _GEMM, "T.gemm(a, b)@"),
    Violation(Kind.OPTION_VALUE, _GEMM, "T.gemm(a, b, c, policy='Square')@"),
    # -- copies, fills, views
    Violation(Kind.COPY_SHAPE, _TILE + "\nu = T.alloc_shared((<m>, <n> + 1), '<f>')", "T.copy(t, u)@"),
    Violation(Kind.COPY_SHAPE, _TILE + "\nu = T.alloc_fragment((<n>,), '<f>')", "T.copy(t, u)@"),
    Violation(Kind.OPERAND_KIND, _TILE, "T.copy(3.0, t)@"),
    Violation(Kind.REGION_RANGE, _TILE, "T.clear(t[0:<m> + 2, :])@"),
    Violation(Kind.REGION_RANGE, _TILE, "T.fill(t[<m> - 1:<m> + 1, 0:1], 1)@"),
    Violation(Kind.SLICE_STEP, _TILE, "T.clear(t[0:<m>:2, :])@"),
    Violation(Kind.SLICE_EMPTY, _TILE, "T.clear(t[1:1, :])@"),
    Violation(Kind.VIEW_SIZE, _TILE, "v = T.reshape(t, [<m> * <n> + 1])@"),
    Violation(Kind.VIEW_SIZE, "t = T.alloc_shared((3, 5), 'int8')", "v = T.view(t, dtype='float32')@"),
    Violation(Kind.TRANSPOSE_SHAPE, _TILE + "\nu = T.alloc_shared((<m>, <n>), '<f>')", "T.transpose(t, u)@"),
    # -- reductions and scans
    Violation(Kind.REDUCE_SHAPE, _TILE + "\nr = T.alloc_fragment((<m> + 1,), '<f>')", "T.reduce_sum(t, r, dim=1)@"),
    Violation(Kind.REDUCE_SHAPE, _TILE + "\nr = T.alloc_fragment((<m>,), '<f>')", "T.reduce_max(t, r, dim=0)@"),
    Violation(Kind.REDUCE_AXIS, _TILE + "\nr = T.alloc_fragment((<m>,), '<f>')", "T.reduce_max(t, r, dim=2)@"),
    Violation(Kind.REDUCE_AXIS, _TILE, "T.cumsum(t, dim=-3)@"),
    Violation(Kind.REDUCE_DTYPE, _TILE + "\nr = T.alloc_fragment((<m>,), '<f>')", "T.reduce_bitand(t, r, dim=1)@"),
    Violation(Kind.REDUCE_OPERATION, _TILE + "\nr = T.alloc_fragment((<m>,), '<f>')", "T.reduce(t, r, 'product', 1)@"),
    Violation(Kind.SCAN_SHAPE, _TILE + "\nu = T.alloc_shared((<n>, <m>), '<f>')", "T.cumsum(t, u, dim=0)@"),
    # -- elements and expressions
    Violation(Kind.INDEX_COUNT, _TILE, "for i in T.Parallel(<m>):\n    t[i] = 0@"),
    Violation(Kind.INDEX_COUNT, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j, 0] = 1@"),
    Violation(Kind.INDEX_RANGE, _TILE, "for j in T.Parallel(<n>):\n    t[<m>, j] = 0@"),
    Violation(Kind.INDEX_RANGE, _TILE, "for i in T.Parallel(<m>):\n    t[i, 0] = t[i, <n> + 2]@"),
    Violation(Kind.INDEX_TYPE, _TILE, "for i in T.Parallel(<m>):\n    t[i * 0.5, 0] = 1@"),
    Violation(Kind.POWER_OPERATOR, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = X[i, j] ** 2@"),
    Violation(Kind.INTEGER_DIVISION, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = i / (j + 1)@"),
    Violation(Kind.DIVISION_BY_ZERO, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = i % 0@"),
    Violation(Kind.OPERAND, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = X[i, j] & 3@"),
    Violation(Kind.OPERAND, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = i + 'one'@"),
    Violation(Kind.BUFFER_OPERATOR, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = t + 1@"),
    Violation(Kind.BUFFER_OPERATOR, _TILE, "u = t * 2@"),
    Violation(Kind.AUGMENTED_BUFFER, _TILE, "t += 1@"),
    Violation(Kind.BUFFER_CONDITION, _TILE, "if t:@\n    T.clear(t)"),
    Violation(Kind.EXPRESSION_AS_NUMBER, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = int(X[i, j])@"),
    Violation(Kind.MATH_DTYPE, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = T.popcount(X[i, j])@"),
    Violation(Kind.MISSING_ARGUMENT, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = T.exp(X[i, j], 2)@"),
    Violation(Kind.DTYPE_NAME, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = T.cast(X[i, j], 'float23')@"),
    Violation(Kind.VALUE_RANGE, "", "v = T.alloc_var('int8', init=300)@"),
    Violation(Kind.ROUNDING_MODE, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = T.cast(X[i, j], 'float16', round='up')@"),
    Violation(Kind.ROUNDING_MODE, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[i, j] = T.round(X[i, j], 'nearest')@"),
    # -- loops and branches
    Violation(Kind.TILE_OP_IN_PARALLEL, _TILE, "for i in T.Parallel(<m>):\n    T.clear(t)@"),
    Violation(Kind.TILE_OP_IN_PARALLEL, _TILE, "for i in T.Parallel(<m>):\n    T.copy(X[i, 0:<n>], t[i, :])@"),
    Violation(Kind.LOOP_NESTING, _TILE, "for i in T.Parallel(<m>):\n    t[i, 0] = 0\n    for j in T.Parallel(<n>):@\n        t[i, j] = 1"),
    Violation(Kind.LOOP_NESTING, _TILE, "for i in T.Parallel(<m>):\n    for k in T.Pipelined(3, num_stages=2):@\n        t[i, k % <n>] = 1"),
    Violation(Kind.LOOP_UNPACK, _TILE, "for i, j in T.Parallel(<m>):@\n    t[i, 0] = 1"),
    Violation(Kind.LOOP_UNPACK, _TILE, "for i, j, k in T.grid(<m>, <n>):@\n    t[i, j] = 1"),
    Violation(Kind.LOOP_ITERABLE, _TILE, "for i in (1, 2, 3):@\n    T.clear(t)"),
    Violation(Kind.LOOP_STEP, _TILE, "for i in T.serial(0, <m>, 0):@\n    T.clear(t)"),
    Violation(Kind.LOOP_EXTENT, _TILE, "for i in T.serial(2.5):@\n    T.clear(t)"),
    Violation(Kind.LOOP_EXTENT, _TILE, "for i in T.Parallel(-<m>):@\n    t[i, 0] = 1"),
    Violation(Kind.LOOP_ELSE, _TILE, "for i in range(<m>):\n    t[i, 0] = 1\nelse:\n    T.clear(t)@"),
    Violation(Kind.LOOP_CONTROL, _TILE, "for i in T.Parallel(<m>):\n    if i > 1:\n        break@\n    t[i, 0] = 1"),
    Violation(Kind.WHILE_CONSTANT, _TILE, "while True:@\n    T.clear(t)"),
    Violation(Kind.PIPELINE_STAGES, _TILE, "for k in T.Pipelined(<m>, num_stages=-1):@\n    T.clear(t)"),
    Violation(Kind.PARALLEL_RACE, _TILE, "for i in T.Parallel(<m>):\n    t[0, 0] = X[i, 0]@"),
    Violation(Kind.PARALLEL_RACE, _TILE, "for i, j in T.Parallel(<m>, <n>):\n    t[0, j] = X[i, j] + i@"),
    Violation(Kind.LOCAL_BY_PARALLEL, "p = T.alloc_local((<m>,), '<f>')", "for i in T.Parallel(<m>):\n    p[i] = X[i, 0]@"),
    Violation(Kind.BRANCH_BINDING, _TILE, "if bx > 0:\n    value = bx * 2\nelse:\n    value = bx * 3\nfor i in T.Parallel(<m>):\n    t[i, 0] = value@"),
    Violation(Kind.LOOP_REBINDING, _TILE, "total = bx * 1\nfor k in range(<m>):\n    total = total + k@"),
    Violation(Kind.UNPACK_COUNT, _TILE, "a, b = bx, bx, bx@"),
    # -- names, allocations, launches
    Violation(Kind.UNKNOWN_NAME, _TILE, "T.clear(tt)@"),
    Violation(Kind.UNKNOWN_NAME, _TILE, "T.cler(t)@"),
    Violation(Kind.DTYPE_NAME, "", "u = T.alloc_shared((<m>, <n>), 'float61')@"),
    Violation(Kind.SHAPE_VALUE, "", "u = T.alloc_shared((<m>, -1), '<f>')@"),
    Violation(Kind.SHAPE_VALUE, "", "u = T.alloc_fragment((<m>, 2.5), '<f>')@"),
    Violation(Kind.SHAPE_STATIC, "", "u = T.alloc_shared((bx + 1, <n>), '<f>')@"),
    Violation(Kind.SCOPE, "", "w = T.alloc_global((<m>,), '<f>')@"),
    Violation(Kind.LAUNCH_NESTED, "", "with T.Kernel(2, threads=32) as q:@\n    pass"),
    Violation(Kind.ATTRIBUTE_ASSIGNMENT, _TILE, "t.fresh = 3@"),
    Violation(Kind.STATEMENT, _TILE, "first, *rest = (bx, bx, bx)@"),
    # -- atomics, annotations
    Violation(Kind.ATOMIC_TARGET, "f = T.alloc_fragment((<m>,), 'float32')", "for i in T.Parallel(<m>):\n    T.atomic_add(f[i], 1)@"),
    Violation(Kind.ATOMIC_DTYPE, _TILE, "T.atomic_or(X[0, 0], 1)@"),
    Violation(Kind.MEMORY_ORDER, _TILE, "for i in T.Parallel(<m>):\n    T.atomic_add(X[i, 0], 1, memory_order='strict')@"),
    Violation(Kind.ATOMIC_TARGET, _TILE, "T.atomic_add(X[0:<m>, 0:<n>], t, return_prev=True)@"),
    Violation(Kind.ANNOTATION, _TILE, "T.annotate_safe_value({t: 1})@", _TOP),
    Violation(Kind.ANNOTATION, "", "T.use_swizzle(panel_size=0)@", _TOP),
    Violation(Kind.REDUCER_USE, _TILE, "T.reducer_init(t)@"),
    Violation(Kind.REDUCE_OPERATION, "", "r = T.alloc_reducer((<m>,), '<f>', 'product')@"),
)

_WRAPPERS = {"serial": "for w in range(3):", "pipelined": "for w in T.Pipelined(3, num_stages=2):", "branch": "if bx > 1:", "unroll": "for w in T.unroll(2):"}


@dataclass(frozen=True)
class InvalidProgram:
    """A program's text, the kind that must be reported, and the line."""

    source: str
    kind: Kind
    line: int
    context: str


def generate_invalid(seed: int, number: int) -> InvalidProgram:
    """Program `number` of a seed: all mistakes take turns, sizes and contexts are random."""
    rng = random.Random(f"{seed}/{number}/invalid")
    violation = VIOLATIONS[number % len(VIOLATIONS)]
    context = rng.choice(violation.contexts)
    sizes = rng.sample((4, 5, 7, 8, 12, 13, 16, 17, 24, 32), 3)
    names = {"<m>": str(sizes[0]), "<n>": str(sizes[1]), "<k>": str(sizes[2]), "<f>": rng.choice(("float32", "float16", "bfloat16"))}
    setup, body = (_indent(_filled(text, names)) for text in (violation.setup, violation.body))
    if context in _WRAPPERS:
        body = [_WRAPPERS[context], *_shift(body)]
    lines = [*setup, *body]
    macro: list[str] = []
    if context == "macro":
        macro = ["@T.macro", "def part(X, bx):", *_shift(lines), "", ""]
        lines = ["part(X, bx)"]
    before = _valid_beginning(rng)
    source = [
        "import tilewright.language as T",
        "",
        "",
        *macro,
        "@T.prim_func",
        "def kernel(X: T.Tensor((64, 64), 'float32')):",
        "    with T.Kernel(2, threads=64) as bx:",
        *_shift(before, 2),
        *_shift(lines, 2),
    ]
    text = "\n".join(source) + "\n"
    line = next(k for k, row in enumerate(source, 1) if row.endswith(MARK))
    return InvalidProgram(text, violation.kind, line, context)


def _filled(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return re.sub("@$", MARK, text, flags=re.MULTILINE)


def _indent(text: str) -> list[str]:
    return text.split("\n") if text else []


def _shift(lines: Sequence[str], levels: int = 1) -> list[str]:
    return ["    " * levels + line if line else line for line in lines]


def _valid_beginning(rng: random.Random) -> list[str]:
    """A few valid statements over tiles of their own, taken from a generated program that reads only its tiles."""
    lines = generate(rng.randrange(1 << 30), 0, 4).source.splitlines()
    start = next(k for k, line in enumerate(lines) if "with T.Kernel" in line) + 1
    allocations = [line.strip() for line in lines[start:] if re.fullmatch(r" {8}\w+ = T\.alloc_(shared|fragment)\(.*\)", line)][:3]
    return [*allocations, *(f"T.clear({line.split(' ')[0]})" for line in allocations)]


def refusal(program: InvalidProgram) -> str:
    """How the refusal of a program falls short; empty where it is as it should be."""
    try:
        compile_kernel(load_case(program.source).kernel, target="cpu")
    except TileError as error:
        labels = error.diagnostic.labels
        if error.diagnostic.kind is not program.kind:
            return f"refused as {error.code}, expected {program.kind.value}\n{error}"
        if not labels or labels[0].span.line != program.line:
            return f"points at line {labels[0].span.line if labels else None}, expected {program.line}\n{error}"
        return "" if error.diagnostic.because else f"gives no rule\n{error}"
    except Exception as error:
        return f"{type(error).__name__} instead of a diagnostic: {error}"
    return "accepted"


def check(count: int, seed: int, first: int = 0) -> Iterator[tuple[int, InvalidProgram, str]]:
    """(number, program, shortcoming) of each program whose refusal is not right."""
    for number in range(first, first + count):
        program = generate_invalid(seed, number)
        shortcoming = refusal(program)
        if shortcoming:
            yield number, program, shortcoming


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code is 1 where a program was not refused rightly."""
    parser = argparse.ArgumentParser(prog="python -m tilewright.testing.invalid", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=len(VIOLATIONS), help="programs to check")
    parser.add_argument("--seed", type=int, default=0, help="programs of different seeds differ")
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    options = parser.parse_args(arguments)
    failures = 0
    for number, program, shortcoming in check(options.count, options.seed, options.first):
        failures += 1
        print(f"program {number} ({program.kind.value} in {program.context}): {shortcoming}\n{program.source}", flush=True)
    print(f"{options.count} programs, {failures} not refused as they should be")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
