"""Runs one program on several executors and compares them (floor 9).

A case is a Python module that defines a prim_func `kernel`, and optionally SIZES (symbols and scalars by name), RANGES (least and greatest integer of
each tensor) and TOLERANCES (greatest difference allowed in each tensor; 0 where absent).
"""

from __future__ import annotations

import hashlib
import linecache
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.errors import Kind, TileError
from tilewright.execution.arguments import integer
from tilewright.execution.memory import strided
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import ParameterKind, Program
from tilewright.ir.visit import subexpressions
from tilewright.language import PrimFunc
from tilewright.reference import ReferenceOptions, run_reference

_MOST_REMEMBERED = 256
_REMEMBERED: OrderedDict[str, None] = OrderedDict()  # names of the cases whose text is in linecache, the oldest first
Arrays = dict[str, Any]
Executor = Callable[[PrimFunc, Mapping[str, Any]], Mapping[str, Any]]


class Verdict(Enum):
    """What became of a case."""

    PASSED = "passed"
    MISMATCH = "mismatch"  # an executor's result is not the reference's
    CRASH = "crash"  # an executor raised something that is no diagnostic, or a compiler fault
    REFUSED = "refused"  # a diagnostic of ours for a program that should be valid
    UNSUPPORTED = "unsupported"  # refused for a restriction of the machine that the language does not have
    DEVICE = "device"  # a GPU ended the program, and can run no other in this process
    INVALID = "invalid"  # the program itself is wrong: it reads what was never written, or depends on the order of blocks


@dataclass(frozen=True)
class Outcome:
    """A verdict, what it is about, and the whole story for a reader."""

    verdict: Verdict
    what: str = ""
    detail: str = ""

    @property
    def is_failure(self) -> bool:
        return self.verdict not in (Verdict.PASSED, Verdict.UNSUPPORTED)

    def is_like(self, other: Outcome) -> bool:
        """The same failure, for a minimiser."""
        return self.verdict is other.verdict and (self.verdict is Verdict.MISMATCH or self.what == other.what)


@dataclass(frozen=True)
class Case:
    """A loaded module, ready to run."""

    kernel: PrimFunc
    sizes: Mapping[str, int]
    ranges: Mapping[str, tuple[int, int]]
    tolerances: Mapping[str, float]

    @property
    def program(self) -> Program:
        return self.kernel.program

    def arguments(self, seed: int = 0) -> Arrays:
        """Random arguments by parameter name: integers in the ranges."""
        rng = np.random.default_rng(seed)
        symbols: dict[Expr, Any] = {}
        for parameter in self.program.parameters:
            if parameter.variable is not None:
                symbols[parameter.variable] = parameter.variable.dtype.numpy.type(self.sizes.get(parameter.name, 1))
            elif parameter.buffer is not None:
                for extent in (*parameter.buffer.shape, *(parameter.buffer.given_strides or ())):
                    for node in subexpressions(extent) if isinstance(extent, Expr) else ():
                        if node.op is Op.VAR and node not in symbols:
                            symbols[node] = node.dtype.numpy.type(self.sizes.get(node.name, 1))
        made: Arrays = {}
        for parameter in self.program.parameters:
            if parameter.kind is ParameterKind.SCALAR and parameter.variable is not None:
                made[parameter.name] = symbols[parameter.variable].item()
            elif parameter.buffer is not None and not parameter.is_output:
                lanes = parameter.buffer.dtype.lanes
                shape = (*(integer(n, symbols) for n in parameter.buffer.shape), *([lanes] if lanes > 1 else []))
                elements = _integers(rng, shape, parameter.buffer.dtype, self.ranges.get(parameter.name))
                strides = parameter.buffer.given_strides
                made[parameter.name] = elements if strides is None else _spread(elements, tuple(integer(s, symbols) for s in strides))
        return made


def _integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType, limits: tuple[int, int] | None) -> Any:
    low, high = limits if limits is not None else (-3, 3) if dtype.is_signed else (0, 3)
    if dtype.is_bool:
        return rng.integers(0, 2, shape).astype(np.bool_)
    return rng.integers(low, high + 1, shape).astype(dtype.numpy)


def _spread(elements: Any, strides: tuple[int, ...]) -> Any:
    """The same elements with other steps from one to the next, in elements."""
    size = 1 + sum((n - 1) * s for n, s in zip(elements.shape, strides, strict=True))
    made = strided(np.zeros(size, elements.dtype), elements.shape, tuple(s * elements.itemsize for s in strides))
    made[...] = elements
    return made


def load_case(source: str) -> Case:
    """Runs the module of a case. Its text is left in `linecache`, so that diagnostics can show it; that of old cases is forgotten.

    Raises whatever the module raises, TileError for programs that are refused while they are traced.
    """
    name = f"case_{hashlib.sha256(source.encode()).hexdigest()[:20]}"
    file = f"<{name}.py>"
    _REMEMBERED.pop(file, None)
    _REMEMBERED[file] = None
    while len(_REMEMBERED) > _MOST_REMEMBERED:
        linecache.cache.pop(_REMEMBERED.popitem(last=False)[0], None)
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    module = ModuleType(name)
    exec(compile(source, file, "exec"), vars(module))
    return Case(module.kernel, getattr(module, "SIZES", {}), getattr(module, "RANGES", {}), getattr(module, "TOLERANCES", {}))


def run_case(
    source: str,
    executors: Mapping[str, Executor],
    *,
    seed: int = 0,
    is_checking_validity: bool = False,
    may_refuse: Collection[Kind] = (),
) -> Outcome:
    """Runs a case on the reference and on every executor.

    may_refuse             what an executor may say of a valid program: a restriction of its machine that the language does not have.
    is_checking_validity   also runs the reference with other contents of unwritten memory and another order of blocks: a valid program cannot tell.
    """
    try:
        case = load_case(source)
        arguments = case.arguments(seed)
        expected = run_reference(case.program, arguments)
    except TileError as error:
        return Outcome(Verdict.REFUSED, _skeleton(error), str(error))
    except Exception as error:
        return Outcome(Verdict.CRASH, _place("reference", error), repr(error))
    if is_checking_validity:
        other = run_reference(case.program, arguments, ReferenceOptions(_backwards, _ones, is_detecting_races=False))
        for name, array in expected.items():
            if compare(array, other[name], case.tolerances.get(name, 0.0)):
                return Outcome(Verdict.INVALID, name, f"{name} depends on unwritten memory or on the order of blocks")
    unsupported: Outcome | None = None
    for executor_name, executor in executors.items():
        try:
            found = executor(case.kernel, {name: _copied(a) for name, a in arguments.items()})
        except TileError as error:
            if error.diagnostic.kind in may_refuse:
                unsupported = Outcome(Verdict.UNSUPPORTED, error.code, f"{executor_name}: {error}")
                continue
            return Outcome(
                Verdict.DEVICE if error.diagnostic.kind is Kind.GPU_ERROR else Verdict.REFUSED,
                f"{executor_name}: {_skeleton(error)}",
                f"{executor_name}: {error}",
            )
        except Exception as error:
            return Outcome(Verdict.CRASH, _place(executor_name, error), f"{executor_name}: {error!r}")
        for name, array in expected.items():
            difference = name in found and compare(array, found[name], case.tolerances.get(name, 0.0))
            if difference:
                return Outcome(Verdict.MISMATCH, name, f"{executor_name}: {name}: {difference}")
    return unsupported or Outcome(Verdict.PASSED)


def _copied(value: Any) -> Any:
    """An argument of its own for every executor, with the same strides."""
    if not isinstance(value, np.ndarray):
        return value
    return np.array(value) if value.flags.c_contiguous else _spread(value, tuple(s // value.itemsize for s in value.strides))


def _backwards(count: int) -> Iterable[int]:
    return range(count)[::-1]


def _ones(dtype: DType) -> Any:
    return dtype.numpy.type(1)


def _skeleton(error: TileError) -> str:
    """A refusal without the names and numbers of the program."""
    return f"{error.code}: {re.sub(r'`[^`]*`|[A-Za-z_]*[0-9][A-Za-z0-9_.]*', '_', error.diagnostic.message)}"


def _place(executor: str, error: Exception) -> str:
    """Names a crash: who, what, and the innermost function that raised it."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = traceback.tb_frame.f_code.co_name if traceback is not None else "?"
    return f"{executor}: {type(error).__name__} in {where}"


def compare(expected: Any, found: Any, tolerance: float) -> str:
    """How two arrays differ by more than `tolerance` (0: in any value; NaNs are equal); empty where they do not."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return f"{found.dtype}{list(found.shape)} instead of {expected.dtype}{list(expected.shape)}"
    if expected.dtype.kind in "iub":
        wrong = expected != found
        far = np.abs(expected.astype(np.float64) - found.astype(np.float64)) > tolerance if tolerance else wrong
        wrong = wrong & far
    else:
        a, b = expected.astype(np.float64), found.astype(np.float64)
        with np.errstate(invalid="ignore"):
            wrong = ~((np.abs(a - b) <= tolerance) | (a == b) | (np.isnan(a) & np.isnan(b)))
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{int(wrong.sum())} of {wrong.size} elements differ, the first at {list(at)}: {found[at]} instead of {expected[at]}" + (
        f" (tolerance {tolerance:g})" if tolerance else ""
    )


__all__ = ["Arrays", "Case", "Executor", "Kind", "Outcome", "Verdict", "compare", "load_case", "run_case"]
