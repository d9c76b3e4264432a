"""What Python's statements and operators mean on kernel values: each against the same code run by Python itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind

SIZE = 12


def as_python(body: Callable[..., None], *arguments: Any) -> Any:
    """The tensor after the body has run as plain Python on numpy arrays."""
    out = np.zeros(SIZE, np.int64)
    body(np.arange(SIZE) * 3 - 8, out, *arguments)
    return out


def as_kernel(body: Callable[..., None], *arguments: Any) -> Any:
    """The same, traced and compiled."""
    trace = T.macro(body)

    @T.prim_func
    def main(X: T.Tensor((SIZE,), "int32"), Y: T.Tensor((SIZE,), "int32")):
        with T.Kernel(1, threads=1):
            trace(X, Y, *arguments)

    return run(main, X=(np.arange(SIZE) * 3 - 8).astype(np.int32), Y=np.zeros(SIZE, np.int32))["Y"]


def branches(x, y):
    for i in range(12):
        if x[i] < -3:
            y[i] = 1
        elif x[i] == 1 or x[i] == 4:
            y[i] = 2
        elif not (x[i] > 7):
            y[i] = 3
        else:
            y[i] = 4 if x[i] < 13 else 5 if x[i] < 20 else 6


def chains(x, y):
    for i in range(12):
        if -5 <= x[i] < 4 != i:
            y[i] = 1
        if i > 2 and x[i] > 0 and i < 9:
            y[i] += 10
        y[i] += 100 if 3 < i <= 5 or x[i] > 20 else 0


def swaps(x, y):
    for i in range(12):
        y[i] = x[i]
    for i in range(6):
        y[i], y[11 - i] = y[11 - i], y[i]
    a, (b, c) = y[0], (y[1], y[2])
    y[3] = y[4] = a + b * c


def jumps(x, y):
    for i in range(12):
        if i == 2:
            continue
        if i == 9:
            break
        for j in range(1, 12, 4):
            if j > i:
                break
            y[i] += j


def counted_down(x, y):
    for i in range(11, -1, -2):
        y[i] = x[i] // 4 + x[i] % 4 * 16 - (x[i] << 1) + (x[i] >> 1) ^ 3


def augmented(x, y):
    for i in range(12):
        y[i] = x[i]
        y[i] += 2
        y[i] -= 1
        y[i] *= 3
        y[i] //= 2
        y[i] %= 7
        y[i] |= 8
        y[i] &= 13
        y[i] ^= 5
        y[i] <<= 2
        y[i] >>= 1


def nested(x, y, factors):
    for i in range(3):
        for j in range(4):
            value = x[i * 4 + j]
            scaled = value * factors[0] + factors[1]
            if scaled > 5:
                y[i * 4 + j] = scaled
            else:
                y[i * 4 + j] = -scaled


def constant_choices(x, y, which):
    if which == "first":
        chosen = 1
    else:
        chosen = [2, 3]
    total = sum(chosen) if isinstance(chosen, list) else chosen
    for i in range(12):
        y[i] = x[i] * total if total > 1 else x[i]


@pytest.mark.parametrize("body", [branches, chains, swaps, jumps, counted_down, augmented])
def test_statements_mean_what_python_means(body: Callable[..., None]) -> None:
    np.testing.assert_array_equal(as_kernel(body), as_python(body))


@pytest.mark.parametrize(("body", "argument"), [(nested, (2, -7)), (constant_choices, "first"), (constant_choices, "second")])
def test_python_values_stay_python(body: Callable[..., None], argument: Any) -> None:
    np.testing.assert_array_equal(as_kernel(body, argument), as_python(body, argument))


def test_names_are_values_and_variables_are_memory() -> None:
    def body(X, Y):
        before = X[0]
        count = T.alloc_var("int32", init=1)
        held = count
        count += 5
        count = count * 2
        Y[0] = before
        Y[1] = count
        while count > 3:
            count -= 4
            Y[2] += 1
        Y[3] = count
        i = 7
        i += 1
        Y[4] = i

    assert as_kernel(body)[:5].tolist() == [-8, 12, 3, 0, 8]


def test_slices_are_regions_of_one_tile() -> None:
    def body(X, Y):
        tile = T.alloc_shared((3, 4), "int32")
        T.clear(tile)
        row = tile[1, :]
        T.fill(row, 7)
        tile[2, 1:3] = tile[1, 0:2]
        for i, j in T.Parallel(3, 4):
            Y[i * 4 + j] = tile[i, j]

    assert as_kernel(body).tolist() == [0] * 4 + [7] * 4 + [0, 7, 7, 0]


def test_an_assert_on_sizes_is_the_callers() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def main(X: T.Tensor((n,), "int32")):
        assert n % 4 == 0, "rows of four"
        assert 1 + 1 == 2
        with T.Kernel(1):
            X[0] = n

    assert run(main, X=np.zeros(8, np.int32))["X"][0] == 8
    (check,) = main.program.checks
    assert check.message == "rows of four"


@pytest.mark.parametrize(
    ("kind", "body", "part"),
    [
        (Kind.BRANCH_BINDING, "if X[0] > 0:\n    a = 1\nY[0] = a", "`a` was bound inside a branch"),
        (Kind.LOOP_REBINDING, "a = 0\nfor i in range(4):\n    a = a + X[i]\nY[0] = a", "`a`"),
        (Kind.UNPACK_COUNT, "a, b, c = X[0], X[1]", "2 values cannot be unpacked into 3 names"),
        (Kind.AUGMENTED_BUFFER, "X += 1", "`X += ...` updates the whole tile X"),
        (Kind.LOOP_CONTROL, "for i in T.Parallel(4):\n    break", "`break` stands inside T.Parallel"),
        (Kind.LOOP_ITERABLE, "for i in [1, 2]:\n    Y[i] = 0", "cannot be looped over inside a kernel"),
        (Kind.BUFFER_OPERATOR, "if X == Y:\n    Y[0] = 1", "compares two whole buffers"),
        (Kind.RETURN_PLACE, "if X[0] > 0:\n    return", "`return` stands inside"),
    ],
)
def test_mistakes(kind: Kind, body: str, part: str, tmp_path: Any) -> None:
    lines = ["import tilewright.language as T", "@T.prim_func", "def main(X: T.Tensor((12,), 'int32'), Y: T.Tensor((12,), 'int32')):", "    with T.Kernel(1):"]
    file = tmp_path / "program.py"
    file.write_text("\n".join([*lines, *(f"        {line}" for line in body.splitlines())]) + "\n")
    with refused(kind, part, "program.py"):
        exec(compile(file.read_text(), str(file), "exec"), {})
