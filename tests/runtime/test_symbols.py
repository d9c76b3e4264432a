"""Symbols are solved where the shapes determine them, and every disagreement is told with both places."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.recorded_kernels import program, scalar, tensor
from tilewright import dtypes
from tilewright.errors import CompilerBug, Kind, TileError
from tilewright.ir.expr import Expr, Op, binary, const, load, maximum, minimum, select, var
from tilewright.ir.program import Parameter, Program
from tilewright.runtime.symbols import Equation, integer_value, refuse_load, solve_symbols


def equations(source: Program, **shapes: tuple[int, ...]) -> list[Equation]:
    found = []
    for parameter in source.parameters:
        if parameter.buffer is not None and parameter.name in shapes:
            pairs = zip(parameter.buffer.shape, shapes[parameter.name], strict=True)
            found += [Equation(extent, size, parameter, axis) for axis, (extent, size) in enumerate(pairs)]
    return found


def solve(source: Program, scalars: dict[Expr, int] | None = None, **shapes: tuple[int, ...]) -> dict[str, int]:
    owners: dict[Expr, Parameter] = {p.variable: p for p in source.parameters if p.variable is not None}
    return {v.name: value for v, value in solve_symbols(equations(source, **shapes), scalars or {}, owners, "main").values.items()}


def error_of(source: Program, scalars: dict[Expr, int] | None = None, **shapes: tuple[int, ...]) -> TileError:
    with pytest.raises(TileError) as caught:
        solve(source, scalars, **shapes)
    return caught.value


def test_a_derived_dimension_is_solved_when_it_comes_first() -> None:
    n = var("n")
    assert solve(program(tensor("C", (n * 2 + 1,)), tensor("A", (n,))), C=(7,), A=(3,)) == {"n": 3}


def test_a_symbol_may_appear_in_derived_dimensions_only() -> None:
    n = var("n")
    assert solve(program(tensor("C", (n * 4,))), C=(20,)) == {"n": 5}
    assert solve(program(tensor("C", (n + 1,))), C=(1,)) == {"n": 0}
    assert solve(program(tensor("C", (10 - n,))), C=(4,)) == {"n": 6}
    assert solve(program(tensor("C", ((n * 3 + 2) * 5 - n,))), C=(38,)) == {"n": 2}


def test_unknowns_are_solved_one_after_the_other() -> None:
    m, n, k = var("m"), var("n"), var("k")
    source = program(tensor("A", (m + n + k,)), tensor("B", (m + n,)), tensor("C", (m,)))
    assert solve(source, A=(12,), B=(9,), C=(4,)) == {"m": 4, "n": 5, "k": 3}


def test_a_product_is_linear_once_one_factor_is_known() -> None:
    m, n = var("m"), var("n")
    assert solve(program(tensor("A", (m * n,)), tensor("B", (n,))), A=(12,), B=(4,)) == {"m": 3, "n": 4}


def test_a_nonlinear_dimension_is_verified_with_symbols_from_elsewhere() -> None:
    n = var("n")
    source = program(tensor("A", (n,)), tensor("B", ((n + 63) // 64,)))
    assert solve(source, A=(65,), B=(2,)) == {"n": 65}
    assert error_of(source, A=(65,), B=(1,)).diagnostic.kind is Kind.ARGUMENT_SYMBOL


def test_a_remainder_is_never_taken_for_a_solution() -> None:
    n = var("n")
    assert error_of(program(tensor("A", (n % 8,))), A=(3,)).diagnostic.kind is Kind.UNBOUND_SYMBOL


def test_a_scalar_argument_decides_a_dimension() -> None:
    n = var("n")
    source = program(tensor("A", (n,)), scalar(n))
    assert solve(source, {n: 5}, A=(5,)) == {"n": 5}
    assert (
        str(error_of(source, {n: 5}, A=(6,)))
        == """\
error[argument-symbol]: n is 5 as an argument but 6 in A
  --> kernel.py:3:5
  3 |     n: int32,
    |     ^^^^^^^^ n: int32
  --> kernel.py:2:5
  2 |     A: float32[n],
    |     ^^^^^^^^^^^^^ A: float32[n]
  because: one symbol has one value in a call of main
  help: pass arguments that agree on n, or declare two symbols"""
    )


def test_conflict_between_two_tensors() -> None:
    n = var("n")
    assert (
        str(error_of(program(tensor("X", (n,)), tensor("Y", (n,))), X=(48,), Y=(64,)))
        == """\
error[argument-symbol]: n is 48 in X but 64 in Y
  --> kernel.py:2:5
  2 |     X: float32[n],
    |     ^^^^^^^^^^^^^ X: float32[n]
  --> kernel.py:3:5
  3 |     Y: float32[n],
    |     ^^^^^^^^^^^^^ Y: float32[n]
  because: one symbol has one value in a call of main
  help: pass arguments that agree on n, or declare two symbols"""
    )


def test_conflict_inside_one_tensor_names_the_dimensions() -> None:
    n = var("n")
    assert error_of(program(tensor("X", (n, n))), X=(3, 4)).diagnostic.message == "n is 3 in dimension 0 of X but 4 in dimension 1 of X"


def test_conflict_of_a_derived_dimension_gives_the_expected_size() -> None:
    m, n = var("m"), var("n")
    error = error_of(program(tensor("A", (n,)), tensor("B", (m,)), tensor("C", (m + n * 2,))), A=(3,), B=(2,), C=(9,))
    assert (
        str(error)
        == """\
error[argument-symbol]: dimension 0 of C is 9, but m + n * 2 is 8: m is 2 in B, n is 3 in A
  --> kernel.py:4:5
  4 |     C: float32[m + n * 2],
    |     ^^^^^^^^^^^^^^^^^^^^^ C: float32[m + n * 2]
  --> kernel.py:3:5
  3 |     B: float32[m],
    |     ^^^^^^^^^^^^^ B: float32[m]
  --> kernel.py:2:5
  2 |     A: float32[n],
    |     ^^^^^^^^^^^^^ A: float32[n]
  because: one symbol has one value in a call of main
  help: pass a tensor for C whose dimension 0 is 8, or other arguments"""
    )


def test_a_size_that_no_symbol_makes() -> None:
    n = var("n")
    assert (
        str(error_of(program(tensor("C", (n * 2 + 1,))), C=(10,)))
        == """\
error[argument-shape]: dimension 0 of C is 10, but no n makes n * 2 + 1 that
  --> kernel.py:2:5
  2 |     C: float32[n * 2 + 1],
    |     ^^^^^^^^^^^^^^^^^^^^^ C: float32[n * 2 + 1]
  because: symbols are whole numbers from 0 on
  help: pass a tensor of the declared shape"""
    )
    assert error_of(program(tensor("C", (n + 5,))), C=(4,)).diagnostic.kind is Kind.ARGUMENT_SHAPE


def test_two_unknowns_in_one_dimension_stay_open() -> None:
    m, n = var("m"), var("n")
    assert (
        str(error_of(program(tensor("C", (m + n,))), C=(10,)))
        == """\
error[unbound-symbol]: no argument of this call says what m and n is
  --> kernel.py:2:5
  2 |     C: float32[m + n],
    |     ^^^^^^^^^^^^^^^^^ C: float32[m + n]
  because: m + n = 10 does not determine it: a symbol is solved from a dimension or stride that is linear in it alone
  help: use m itself as a dimension of an input, or pass it as a scalar"""
    )


def test_a_fixed_size() -> None:
    assert (
        str(error_of(program(tensor("X", (64,))), X=(65,)))
        == """\
error[argument-shape]: dimension 0 of X is 65, but main expects 64
  --> kernel.py:2:5
  2 |     X: float32[64],
    |     ^^^^^^^^^^^^^^ X: float32[64]
  because: main was compiled for exactly this size
  help: pass a tensor with this size, or declare it with T.dynamic"""
    )


def test_a_value_beyond_the_symbols_dtype() -> None:
    n, wide = var("n"), var("n", dtypes.int64)
    assert error_of(program(tensor("X", (n,))), X=(1 << 31,)).diagnostic.message == (
        "n would be 2147483648, as dimension 0 of X is 2147483648, but int32 ends at 2147483647"
    )
    assert solve(program(tensor("X", (wide,))), X=(1 << 31,)) == {"n": 1 << 31}


def test_a_loose_stride_binds_only_what_nothing_else_does() -> None:
    m, s = var("m"), var("s")
    source = program(tensor("A", (m, 4), strides=(s, 1)), tensor("B", (s,)))
    a, b = source.parameters
    loose = Equation(s, 9, a, 0, is_stride=True, is_loose=True)
    assert solve_symbols([loose], {}, {}, "main").values == {s: 9}
    assert solve_symbols([loose, Equation(s, 5, b, 0)], {}, {}, "main").values == {s: 5}
    assert solve_symbols([Equation(s, -9, a, 0, is_stride=True, is_loose=True)], {}, {}, "main").values == {s: 0}


NAMES = [var(name) for name in "mnk"]


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> tuple[Expr, str]:
    """An integer expression of m, n, k, and the same as Python source."""
    if depth == 0 or draw(st.booleans()):
        if draw(st.booleans()):
            node = draw(st.sampled_from(NAMES))
            return node, node.name
        value = draw(st.integers(-5, 5))
        return const(value), f"({value})"
    (a, x), (b, y) = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    kind = draw(st.sampled_from("+-*/%<>?n"))
    if kind in "/%" and isinstance(b.attribute, int) and b.is_const and b.value == 0:
        return a, x
    match kind:
        case "+" | "-" | "*":
            return binary({"+": Op.ADD, "-": Op.SUB, "*": Op.MUL}[kind], a, b), f"({x} {kind} {y})"
        case "/":
            return binary(Op.FLOORDIV, a, b), f"({x} // {y})"
        case "%":
            return binary(Op.FLOORMOD, a, b), f"({x} % {y})"
        case "<":
            return minimum(a, b), f"min({x}, {y})"
        case ">":
            return maximum(a, b), f"max({x}, {y})"
        case "n":
            return -a, f"(-{x})"
    return select(a < b, a, b), f"({x} if {x} < {y} else {y})"


@given(expressions(), st.tuples(*[st.integers(0, 50)] * 3))
@settings(max_examples=60, deadline=None)
def test_integer_value_is_pythons_arithmetic(pair: tuple[Expr, str], numbers: tuple[int, int, int]) -> None:
    expression, source = pair
    names = {v.name: number for v, number in zip(NAMES, numbers, strict=True)}
    try:
        expected = eval(source, {}, {**names, "min": min, "max": max})
    except ZeroDivisionError:
        return
    assert integer_value(expression, dict(zip(NAMES, numbers, strict=True))) == expected


def test_extents_do_not_wrap_at_32_bits() -> None:
    n = var("n")
    assert integer_value(n * 4 + 1, {n: 1 << 30}) == (1 << 32) + 1


def test_an_extent_never_loads() -> None:
    buffer = tensor("A", (4,)).buffer
    assert buffer is not None
    with pytest.raises(CompilerBug, match="reads A"):
        integer_value(load(buffer, (const(0),)), {})
    with pytest.raises(CompilerBug):
        refuse_load(buffer, (), None)


AFFINE = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=4)


@given(AFFINE, st.tuples(*[st.integers(0, 30)] * 3), st.data())
@settings(max_examples=60, deadline=None)
def test_consistent_shapes_are_accepted_and_others_refused(rows: list[tuple[int, int, int, int]], numbers: tuple[int, int, int], data: st.DataObject) -> None:
    """Shapes of affine sums plus one bare symbol each: solvable by construction. A changed size is never accepted unless other symbols explain it."""
    parameters = [tensor(f"P{k}", (sum((c * v for c, v in zip(row, NAMES, strict=False)), const(row[3])),)) for k, row in enumerate(rows)]
    sizes = [sum(c * x for c, x in zip(row, numbers, strict=False)) + row[3] for row in rows]
    parameters = [
        p if p.buffer is None or not isinstance(p.buffer.shape[0], Expr) or not p.buffer.shape[0].is_const else tensor(p.name, (size,))
        for p, size in zip(parameters, sizes, strict=True)
    ]
    parameters += [tensor(f"Q{v.name}", (v,)) for v in NAMES]
    sizes += list(numbers)
    order = data.draw(st.permutations(range(len(parameters))))
    source = program(*(parameters[k] for k in order))
    shapes = {parameters[k].name: (sizes[k],) for k in order}
    assert solve(source, None, **shapes) == {v.name: number for v, number in zip(NAMES, numbers, strict=True)}
    wrong = data.draw(st.sampled_from([p.name for p in parameters if p.name.startswith("P")]))
    shapes[wrong] = (shapes[wrong][0] + data.draw(st.integers(1, 3)),)
    assert error_of(source, None, **shapes).diagnostic.kind in (Kind.ARGUMENT_SYMBOL, Kind.ARGUMENT_SHAPE)
