"""Random numbers inside kernels (floor 5; language.md 8.3): Philox 4x32-10, counted and scaled as cuRAND does it.

The generator is a keyed bijection of 128-bit counters (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; 2011). Each thread has
a counter of its own: the seed is the key, the subsequence the upper half of the counter; each value of the counter gives four 32-bit words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tilewright import dtypes
from tilewright.errors import Kind, Label, fail
from tilewright.intrin.math import MATH
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, as_expr, binary, call, cast, const, describe_operand, load
from tilewright.ir.stmt import If, Seq
from tilewright.language.builder import FrameKind, LaunchFrame, ProgramBuilder, program_builder
from tilewright.language.kernel import get_block_binding, get_thread_binding, get_thread_extent

_GENERATORS = ("curandStatePhilox4_32_10_t",)
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_U32, _U64 = dtypes.uint32, dtypes.uint64


@dataclass(eq=False)
class RandomState:
    """The generator of a launch: per-thread buffers of uint32.

    counter   four words, lowest first.
    words     what the counter gives.
    used      int32: how many of the words have been given out.
    held      float32: the second number of a normal pair; it counts where is_held, an int32, is not 0.
    """

    key: tuple[Expr, Expr]
    counter: Buffer
    words: Buffer
    used: Buffer
    held: Buffer
    is_held: Buffer


def _launch(name: str) -> tuple[ProgramBuilder, LaunchFrame]:
    builder = program_builder()
    span = builder.here()
    launch = builder.require_launch(f"T.{name}", span)
    parallel = [f for f in builder.frames if f.kind is FrameKind.PARALLEL]
    if parallel:
        if math.prod(launch.threads) != 1:
            fail(
                Kind.LOOP_NESTING,
                f"T.{name} stands inside T.Parallel",
                (Label(span), Label(parallel[0].span, "the parallel loop"), Label(launch.span, f"the launch has {math.prod(launch.threads)} threads")),
                because="each thread has its own sequence of numbers, and which thread runs an iteration is the compiler's choice",
                help="launch one thread (threads=1), or write a loop over T.serial that indexes by the thread",
            )
        builder.ordered.update(v for f in parallel for v in f.variables)  # one thread draws them one after the other
    return builder, launch


def rng_init(seed: Any, seq: Any = None, off: Any = 0, generator: str = "curandStatePhilox4_32_10_t") -> None:
    """Begins this thread's sequence of random numbers.

    seq   the number of the sequence: the thread's number in the grid where it is left out.
    off   how many numbers to leave out.

    Raises TileError (option-value) for other generators.
    """
    builder, launch = _launch("rng_init")
    if generator not in _GENERATORS:
        fail(
            Kind.OPTION_VALUE,
            f"the generator is {describe_operand(generator)}",
            builder.here(),
            because=f"known is {', '.join(_GENERATORS)}",
            help="leave it out",
        )
    if seq is None:
        threads = math.prod(launch.threads)
        block: Expr = const(0)
        for position in reversed(range(len(launch.grid))):
            block = block * launch.grid[position] + get_block_binding(position)
        if threads > 1:
            thread: Expr = const(0)
            for axis in (2, 1, 0):
                thread = thread * get_thread_extent(axis) + get_thread_binding(axis)
            seq = block * threads + thread
        else:
            seq = block
    start, sequence, offset = (builder.let(name, cast(as_expr(x), _U64)) for name, x in (("seed", seed), ("sequence", seq), ("offset", off)))
    span = builder.here()

    def words(name: str, dtype: dtypes.DType, count: int, scope: Scope) -> Buffer:
        return builder.add_buffer(Buffer(name, dtype, (count,), scope, span))

    state = builder.random = RandomState(
        (builder.let("key", cast(start, _U32)), builder.let("key", cast(start >> 32, _U32))),
        words("random_counter", _U32, 4, Scope.LOCAL),
        words("random_words", _U32, 4, Scope.LOCAL),
        words("random_used", dtypes.int32, 1, Scope.VARIABLE),
        words("random_normal", dtypes.float32, 1, Scope.VARIABLE),
        words("random_is_held", dtypes.int32, 1, Scope.VARIABLE),
    )
    blocks = offset >> 2
    for place, half in ((0, blocks), (2, sequence)):
        builder.store(state.counter, place, cast(half, _U32))
        builder.store(state.counter, place + 1, cast(half >> 32, _U32))
    builder.store(state.used, 0, cast(offset & const(3, _U64), dtypes.int32))
    builder.store(state.held, 0, 0.0)
    builder.store(state.is_held, 0, 0)
    _fill_words(builder, state)


def _fill_words(builder: ProgramBuilder, state: RandomState) -> None:
    """The four words of the counter."""
    c = [builder.let("c", load(state.counter, (const(k),))) for k in range(4)]
    key = state.key
    for turn in range(_ROUNDS):
        products = [builder.let("product", binary(Op.MUL, cast(c[2 * k], _U64), const(_MULTIPLIERS[k], _U64))) for k in range(2)]
        high, low = ([cast(p >> 32, _U32) for p in products], [cast(p, _U32) for p in products])
        turned = [key[k] + const(_KEY_STEPS[k] * turn, _U32) for k in range(2)]
        c = [builder.let("c", x) for x in (high[1] ^ c[1] ^ turned[0], low[1], high[0] ^ c[3] ^ turned[1], low[0])]
    for place, word in enumerate(c):
        builder.store(state.words, place, word)


def _state(name: str) -> tuple[ProgramBuilder, RandomState]:
    builder, launch = _launch(name)
    if builder.random is None or not any(b is builder.random.counter for b in launch.buffers):
        fail(
            Kind.OPTION_VALUE,
            f"T.{name} stands before T.rng_init",
            builder.here(),
            because="a sequence of random numbers begins with its seed",
            help="write T.rng_init(seed) first, in the same launch",
        )
    return builder, builder.random


def rng_rand() -> Expr:
    """The next random uint32 of this thread."""
    builder, state = _state("rng_rand")
    return _next_word(builder, state)


def _next_word(builder: ProgramBuilder, state: RandomState) -> Expr:
    span = builder.here()
    with builder.block() as body:
        carry: Expr = const(1, _U64)
        for place in range(4):
            total = builder.let("sum", cast(load(state.counter, (const(place),)), _U64) + carry)
            builder.store(state.counter, place, cast(total, _U32))
            carry = total >> 32
        _fill_words(builder, state)
        builder.store(state.used, 0, 0)
    builder.emit(If(span, binary(Op.EQ, state.used.as_expression(), const(4)), Seq(span, tuple(body))))
    word = builder.let("word", load(state.words, (state.used.as_expression(),)))
    builder.store(state.used, 0, state.used.as_expression() + 1)
    return word


def rng_rand_float(bit: int = 32, dist: str = "uniform") -> Expr:
    """The next random float32 (bit=32) or float64 (bit=64) of this thread: uniform in (0, 1], or normal with mean 0 and variance 1.

    Raises TileError (option-value) for other widths and distributions.
    """
    builder, state = _state("rng_rand_float")
    for name, value, known in (("bit", bit, (32, 64)), ("dist", dist, ("uniform", "normal"))):
        if value not in known:
            fail(
                Kind.OPTION_VALUE,
                f"{name} of T.rng_rand_float is {describe_operand(value)}",
                builder.here(),
                because=f"known are {known[0]!r} and {known[1]!r}",
                help="leave it out",
            )
    if dist == "uniform":
        return _uniform(builder, state) if bit == 32 else _uniform_double(builder, state)
    return _normal(builder, state) if bit == 32 else _normal_double(builder, state)


def _scaled(word: Expr, step: float, dtype: dtypes.DType) -> Expr:
    """word * step + step / 2: the middle of the word's interval."""
    return cast(word, dtype) * const(step, dtype) + const(step / 2, dtype)


def _uniform(builder: ProgramBuilder, state: RandomState) -> Expr:
    return builder.let("uniform", _scaled(_next_word(builder, state), 2.0**-32, dtypes.float32))


def _uniform_double(builder: ProgramBuilder, state: RandomState) -> Expr:
    """53 bits: of the second word, what lies above the first one's 32."""
    low, high = _next_word(builder, state), _next_word(builder, state)
    return builder.let("uniform", _scaled(cast(low, _U64) ^ (cast(high, _U64) << (53 - 32)), 2.0**-53, dtypes.float64))


def _pair(builder: ProgramBuilder, radius: Expr, angle: Expr) -> tuple[Expr, Expr]:
    """Two normal numbers of a point in the unit square (Box, Muller 1958)."""
    length = builder.let("length", call(MATH["sqrt"], call(MATH["log"], radius) * const(-2.0, radius.dtype)))
    return call(MATH["sin"], angle) * length, call(MATH["cos"], angle) * length


def _normal(builder: ProgramBuilder, state: RandomState) -> Expr:
    """Every second number is the one that the pair before it left."""
    span = builder.here()
    result = builder.add_buffer(Buffer("random_result", dtypes.float32, (1,), Scope.VARIABLE, span))
    with builder.block() as fresh:
        x, y = _next_word(builder, state), _next_word(builder, state)
        first, second = _pair(builder, _scaled(x, 2.0**-32, dtypes.float32), _scaled(y, 2.0**-32 * 2 * math.pi, dtypes.float32))
        builder.store(result, 0, first)
        builder.store(state.held, 0, second)
        builder.store(state.is_held, 0, 1)
    with builder.block() as left:
        builder.store(result, 0, state.held.as_expression())
        builder.store(state.is_held, 0, 0)
    builder.emit(If(span, binary(Op.EQ, state.is_held.as_expression(), const(0)), Seq(span, tuple(fresh)), Seq(span, tuple(left))))
    return builder.let("normal", result.as_expression())


def _normal_double(builder: ProgramBuilder, state: RandomState) -> Expr:
    radius, angle = _uniform_double(builder, state), _uniform_double(builder, state) * const(2 * math.pi, dtypes.float64)
    return builder.let("normal", _pair(builder, radius, angle)[0])


__all__ = ["rng_init", "rng_rand", "rng_rand_float"]
