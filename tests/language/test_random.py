"""Random numbers: known answers of Philox 4x32-10, the scaling to floats, sequences, offsets, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind

# The published vectors of Philox 4x32-10: counter (as offset in blocks of four words, and sequence), key (the seed), four words.
KNOWN = [
    (0, 0, 0, ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]),
    (2**64 - 1, 2**64 - 1, 2**64 - 1, ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]),
    (0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88, ["d16cfe09", "94fdcceb", "5001e420", "24126ea1"]),
]


def philox(seed: int, sequence: int, count: int, offset: int = 0) -> np.ndarray[Any, Any]:
    """The sequence, by Python's integers."""
    words: list[int] = []
    for block in range(offset // 4, (offset + count + 3) // 4 + 1):
        whole = (sequence << 64) + block
        c = [(whole >> 32 * k) % 2**32 for k in range(4)]
        k = [seed % 2**32, seed >> 32]
        for turn in range(10):
            a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            x, y = (k[0] + 0x9E3779B9 * turn) % 2**32, (k[1] + 0xBB67AE85 * turn) % 2**32
            c = [b >> 32 ^ c[1] ^ x, b % 2**32, a >> 32 ^ c[3] ^ y, a % 2**32]
        words += c
    return np.array(words[offset % 4 :][:count], np.uint32)


@pytest.mark.parametrize(("seed", "sequence", "block", "words"), KNOWN)
def test_known_answers(seed: int, sequence: int, block: int, words: list[str]) -> None:
    # The offset counts words in 64 bits: higher counters than those are out of reach, except by the formula itself.
    if block < 2**62:

        @T.prim_func
        def main(A: T.Tensor((4,), "uint32")):
            with T.Kernel(1, threads=1):
                T.rng_init(seed, sequence, block * 4)
                for i in T.serial(4):
                    A[i] = T.rng_rand()

        assert [f"{w:08x}" for w in run(main, A=np.zeros(4, np.uint32))["A"]] == words
    whole = philox(seed, sequence, 4, block * 4)
    assert [f"{w:08x}" for w in whole] == words


def test_a_long_sequence_from_an_offset() -> None:
    @T.prim_func
    def main(A: T.Tensor((3, 50), "uint32"), seed: T.int64, offset: T.int32):
        with T.Kernel(3, threads=1) as bx:
            T.rng_init(seed, off=offset)
            for i in T.Parallel(50):
                A[bx, i] = T.rng_rand()

    found = run(main, A=np.zeros((3, 50), np.uint32), seed=2**40 + 3, offset=6)["A"]
    np.testing.assert_array_equal(found, [philox(2**40 + 3, block, 50, 6) for block in range(3)])


@pytest.mark.parametrize("offset", [2**32 - 2, 2**34 - 4])
def test_the_counter_carries(offset: int) -> None:
    @T.prim_func
    def main(A: T.Tensor((12,), "uint32"), offset: T.int64):
        with T.Kernel(1, threads=1):
            T.rng_init(1, 0, offset)
            for i in T.serial(12):
                A[i] = T.rng_rand()

    np.testing.assert_array_equal(run(main, A=np.zeros(12, np.uint32), offset=offset)["A"], philox(1, 0, 12, offset))


def test_uniform_numbers() -> None:
    @T.prim_func
    def main(A: T.Tensor((40,), "float32"), B: T.Tensor((40,), "float64")):
        with T.Kernel(1, threads=1):
            T.rng_init(7, 0)
            for i in T.serial(40):
                A[i] = T.rng_rand_float()
            for i in T.serial(40):
                B[i] = T.rng_rand_float(bit=64)

    found = run(main, A=np.zeros(40, np.float32), B=np.zeros(40))
    words = philox(7, 0, 120)
    np.testing.assert_array_equal(found["A"], words[:40].astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33))
    low, high = words[40::2].astype(np.uint64), words[41::2].astype(np.uint64)
    np.testing.assert_array_equal(found["B"], (low ^ high << np.uint64(21)).astype(np.float64) * 2.0**-53 + 2.0**-54)


@pytest.mark.parametrize(("bit", "dtype", "tolerance"), [(32, np.float32, 2e-6), (64, np.float64, 1e-12)])
def test_normal_numbers(bit: int, dtype: Any, tolerance: float) -> None:
    @T.prim_func
    def main(A: T.Tensor((2000,), f"float{bit}")):
        with T.Kernel(1, threads=1):
            T.rng_init(11, 0)
            for i in T.serial(2000):
                A[i] = T.rng_rand_float(bit=bit, dist="normal")

    found = run(main, tolerance, A=np.zeros(2000, dtype))["A"]
    assert abs(found.mean()) < 0.1 and abs(found.std() - 1) < 0.1
    if bit == 32:
        words = philox(11, 0, 2000).astype(np.float64)
        length = np.sqrt(-2 * np.log(words[0::2] * 2.0**-32 + 2.0**-33))
        angle = 2 * np.pi * (words[1::2] * 2.0**-32 + 2.0**-33)
        np.testing.assert_allclose(found, np.stack([np.sin(angle) * length, np.cos(angle) * length], 1).ravel(), atol=2e-5)


def trace(use: Any, threads: int = 1) -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "uint32")):
        with T.Kernel(1, threads=threads):
            use(A)


@pytest.mark.parametrize(
    "use",
    [
        lambda A: T.rng_rand(),
        lambda A: T.rng_init(1, generator="curandStateXORWOW_t"),
        lambda A: (T.rng_init(1), T.rng_rand_float(bit=16)),
        lambda A: (T.rng_init(1), T.rng_rand_float(dist="cauchy")),
    ],
)
def test_what_there_is_not_is_refused(use: Any) -> None:
    with refused(Kind.OPTION_VALUE):
        trace(use)


def test_many_threads_in_a_parallel_loop_are_refused() -> None:
    with refused(Kind.LOOP_NESTING, "128 threads"):

        @T.prim_func
        def main(A: T.Tensor((128,), "uint32")):
            with T.Kernel(1, threads=128):
                T.rng_init(1, 0)
                for i in T.Parallel(128):
                    A[i] = T.rng_rand()
