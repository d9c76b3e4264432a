"""The lines of a function are found without parsing its file, and the names that it reads."""

from __future__ import annotations

import ast
import linecache
from pathlib import Path
from types import CodeType

import pytest

from tests.execution import refused
from tilewright.errors import Kind
from tilewright.language import definitions
from tilewright.language.definitions import FUNCTIONS, Reads, definition_of

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "tilewright" / "kernels").rglob("*.py")), *sorted((ROOT / "tests" / "language").glob("*.py")), ROOT / "tilewright" / "jit.py"]


def codes_of(code: CodeType) -> list[CodeType]:
    inner = [c for constant in code.co_consts if isinstance(constant, CodeType) for c in codes_of(constant)]
    return [code, *inner]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_function_of_a_file_is_found_as_the_whole_parse_finds_it(path: Path) -> None:
    source = path.read_text()
    definitions._find.cache_clear()  # kernels that other tests traced were rewritten in place
    wanted = {(n.name, n.lineno): n for n in ast.walk(ast.parse(source)) if isinstance(n, FUNCTIONS)}
    found = 0
    for code in codes_of(compile(source, str(path), "exec", dont_inherit=True)):
        if code.co_name.startswith("<") or not any(name == code.co_name for name, _ in wanted):
            continue
        definition = definition_of(code)
        node = wanted[code.co_name, definition.node.lineno]
        assert ast.dump(definition.node, include_attributes=True) == ast.dump(node, include_attributes=True)
        found += 1
    assert found or not wanted


def define(source: str, name: str) -> CodeType:
    """The code of the innermost function of that name, its source known to linecache alone."""
    file = f"<{name} {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    return next(c for c in codes_of(compile(source, file, "exec")) if c.co_name == name)


AWKWARD = '''
def outer():
    if True:
        @decorate(
    [1,
2])
        # a remark
        def inner(
    a,
b,
        ):
            text = """
not the end
            """ + f(a)
# a remark without indentation

            return (text,
b)
        other = 1
    def single(): return 1; "end"
    return inner

last = 2
'''


@pytest.mark.parametrize(("name", "lines"), [("outer", 20), ("inner", 13), ("single", 1)])
def test_brackets_strings_and_remarks_do_not_end_a_function(name: str, lines: int) -> None:
    definition = definition_of(define(AWKWARD, name))
    node = next(n for n in ast.walk(ast.parse(AWKWARD)) if isinstance(n, FUNCTIONS) and n.name == name)
    assert ast.dump(definition.node, include_attributes=True) == ast.dump(node, include_attributes=True)
    assert definition.text.count("\n") >= lines and "last = 2" not in definition.text and ("other" in definition.text) == (name == "outer")


@pytest.mark.parametrize(
    ("body", "chains", "is_complete"),
    [
        ("return a + np.random.rand(b)", {("a",), ("b",), ("np", "random", "rand")}, True),
        ("x = f(y=1).z; x.w = 2", {("f",), ("x", "w")}, True),
        ("x: T.Tensor[n]", {("T", "Tensor"), ("n",)}, True),
        ("for i in range(3):\n        g = lambda q=d: q", {("range",), ("d",), ("q",)}, True),
        ("import os", set(), False),
        ("global a\n    a = 1", set(), False),
    ],
)
def test_names_that_are_read(body: str, chains: set[tuple[str, ...]], is_complete: bool) -> None:
    definition = definition_of(define(f"@decorate\ndef function(p: P = q) -> R:\n    {body}\n", "function"))
    assert definition.reads == Reads(tuple(sorted(chains)), is_complete)


def test_a_line_of_another_text_is_no_definition() -> None:
    """`python -c` may register its own text under the name that exec gives to every text."""
    code = define("def function():\n    pass\n", "function")
    for other in ("\n", "# nothing but a remark\n", "pass\n", "def another():\n    pass\n"):
        linecache.cache[code.co_filename] = (len(other), None, other.splitlines(keepends=True), code.co_filename)
        with refused(Kind.NO_SOURCE, "the source of function"):
            definition_of(code)
