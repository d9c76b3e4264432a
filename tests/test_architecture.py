"""The shape of the tree: floors, file sizes, mirrored tests, and where imports may stand."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tilewright"
MAX_LINES = 700

# A module may import modules of lower floors, and of its own package.
FLOORS = {
    "error_kinds": 0,
    "errors": 0,
    "spans": 0,
    "dtypes": 0,
    "options": 0,
    "pass_configs": 0,
    "source_hash": 0,
    "cache_entry": 0,
    "disk_cache": 0,
    "target": 1,
    "layout": 1,
    "ir": 2,
    "arith": 3,
    "intrin": 3,
    "execution": 4,
    "ops": 4,
    "language": 5,
    "passes": 5,
    "codegen": 6,
    "runtime": 7,
    "reference": 7,
    "sim": 7,
    "backends": 8,
    "driver": 8,
    "kernel": 8,
    "jit": 8,
    "profiler": 8,
    "kernels": 9,
    "tune": 9,
    "tools": 9,
    "testing": 9,
    "torch": 9,
    "carver": 9,
    "cli": 9,
}
# On floor 8 the files build on one another.
ORDER_ON_FLOOR_8 = ("backends", "driver", "profiler", "kernel", "jit")
# The package's own front door gathers names from every floor.
FRONT_DOORS = {"__init__", "__main__"}
# Third parties that may be imported inside functions, because they are optional or heavy.
LAZY_THIRD_PARTIES = {"torch", "llvmlite", "jax", "cupy", "IPython", "cuda", "pynvml"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The top-level module or package that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(tree: ast.AST) -> list[tuple[str, ast.stmt]]:
    found: list[tuple[str, ast.stmt]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(node.module if node.module != "tilewright" else f"tilewright.{alias.name}", node) for alias in node.names]
    return found


def typing_only(tree: ast.AST) -> set[ast.stmt]:
    """Imports under `if TYPE_CHECKING:` are annotations, not dependencies of the running program."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
        if isinstance(inner, (ast.Import, ast.ImportFrom))
    }


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    unit = unit_of(path)
    if unit in FRONT_DOORS:
        return
    assert unit in FLOORS, f"{unit} has no floor"
    tree = ast.parse(path.read_text())
    ignored = typing_only(tree)
    for name, node in imports_of(tree):
        parts = name.split(".")
        if parts[0] != "tilewright" or node in ignored:
            continue
        target = parts[1] if len(parts) > 1 else "__init__"
        if target == unit:
            continue
        assert target in FLOORS, f"{path.name}:{node.lineno} imports {name}, which has no floor"
        if FLOORS[target] == FLOORS[unit] == 0:
            continue
        if FLOORS[target] == FLOORS[unit] == 8:
            assert ORDER_ON_FLOOR_8.index(target) < ORDER_ON_FLOOR_8.index(unit), f"{path.name}:{node.lineno} imports {name} upwards"
            continue
        if FLOORS[unit] == 9 and FLOORS[target] == 9:
            assert unit in ("cli", "testing"), f"{path.name}:{node.lineno} imports its sibling {name}"
            continue
        assert FLOORS[target] < FLOORS[unit], f"{path.name}:{node.lineno} (floor {FLOORS[unit]}) imports {name} (floor {FLOORS[target]})"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_stand_at_the_top(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            for name, node in imports_of(function):
                root = name.split(".")[0]
                assert root in LAZY_THIRD_PARTIES or unit_of(path) in FRONT_DOORS | {"cli"}, f"{path.name}:{node.lineno} imports {name} inside a function"


@pytest.mark.parametrize(
    "path", sorted([*modules(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]), ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES, "split the file by concept"


# Modules whose tests are those of what they are a part of: the emitter of loops is tested by running loops, the generator of programs by its programs.
# A module leaves the list when it gets a test file of its own; the list may not name one that has.
TESTED_THROUGH: dict[str, str] = {
    "codegen/cfamily/dialect.py": "codegen/cuda/test_program.py",
    "codegen/cfamily/expressions.py": "codegen/cuda/test_expressions.py",
    "codegen/cfamily/memory.py": "codegen/cuda/test_statements.py",
    "codegen/cfamily/prelude.py": "codegen/cuda/test_program.py",
    "codegen/cfamily/statements.py": "codegen/cuda/test_statements.py",
    "codegen/cfamily/usage.py": "codegen/cuda/test_program.py",
    "codegen/cuda/dialect.py": "codegen/cuda/test_program.py",
    "codegen/cuda/module.py": "codegen/cuda/test_program.py",
    "codegen/cuda/operators.py": "codegen/cuda/test_expressions.py",
    "codegen/float_format.py": "codegen/llvm/test_convert.py",
    "codegen/llvm/addresses.py": "codegen/llvm/test_vectorize.py",
    "codegen/llvm/atomics.py": "codegen/llvm/test_statements.py",
    "codegen/llvm/emitter.py": "codegen/llvm/test_vectorize.py",
    "codegen/llvm/facts.py": "codegen/llvm/test_vectorize.py",
    "codegen/llvm/hoist.py": "codegen/llvm/test_vectorize.py",
    "codegen/llvm/math/__init__.py": "codegen/llvm/test_math.py",
    "codegen/llvm/memory.py": "codegen/llvm/test_vectorize.py",
    "codegen/llvm/ranges.py": "codegen/llvm/test_vectorize.py",
    "codegen/llvm/reduction.py": "codegen/llvm/test_vectorize.py",
    "codegen/llvm/registers.py": "codegen/llvm/test_statements.py",
    "codegen/llvm/survey.py": "codegen/llvm/test_vectorize.py",
    "codegen/llvm/task.py": "codegen/llvm/test_vectorize.py",
    "sim/asynchronous.py": "sim/test_simulate.py",
    "sim/batch.py": "sim/test_simulate.py",
    "sim/calls.py": "sim/test_simulate.py",
    "sim/expressions.py": "sim/test_simulate.py",
    "sim/group.py": "sim/test_simulate.py",
    "sim/machine.py": "sim/test_simulate.py",
    "sim/memory.py": "sim/test_simulate.py",
    "sim/ports.py": "sim/test_simulate.py",
    "sim/registers.py": "sim/test_simulate.py",
    "sim/rows.py": "sim/test_simulate.py",
    "ir/foreign.py": "language/test_foreign.py",
    "ir/only_on_gpus.py": "language/test_foreign.py",
    "sim/steps.py": "sim/test_simulate.py",
    "sim/structures.py": "sim/test_simulate.py",
    "sim/unset.py": "sim/test_findings.py",
    "sim/shadow.py": "sim/test_findings.py",
    "backends/cpu_pipeline.py": "backends/test_cpu.py",
    "testing/expressions.py": "testing/test_generate.py",
    "testing/load_statements.py": "testing/test_generate.py",
    "testing/loop_statements.py": "testing/test_generate.py",
    "testing/other_statements.py": "testing/test_generate.py",
    "testing/product_statements.py": "testing/test_generate.py",
    "testing/region_statements.py": "testing/test_generate.py",
    "testing/scene.py": "testing/test_generate.py",
    "testing/thread_statements.py": "testing/test_generate.py",
    "testing/tile_statements.py": "testing/test_generate.py",
    "testing/vector_statements.py": "testing/test_generate.py",
}


def test_tests_mirror_the_tree() -> None:
    """Every module with code has a test file at the same place: tilewright/layout/match.py, tests/layout/test_match.py."""
    missing, needless = [], []
    for path in modules():
        relative = path.relative_to(PACKAGE)
        tree = ast.parse(path.read_text())
        has_code = any(isinstance(n, (ast.FunctionDef, ast.ClassDef)) for n in tree.body)
        if path.name == "__main__.py" or not has_code:
            continue
        name = "test_package.py" if path.name == "__init__.py" else f"test_{path.name}"
        has_test = (ROOT / "tests" / relative.parent / name).exists()
        through = TESTED_THROUGH.get(relative.as_posix())
        if has_test and through:
            needless.append(relative.as_posix())
        elif not has_test and not (through and (ROOT / "tests" / through).exists()):
            missing.append(relative.as_posix())
    assert not missing, f"modules without a test file: {', '.join(missing)}"
    assert not needless, f"modules with a test file of their own are still listed: {', '.join(needless)}"


def test_no_catch_all_modules() -> None:
    assert not [p for p in modules() if p.stem in {"utils", "helpers", "common", "misc"}]


def test_torch_is_never_imported_by_itself() -> None:
    for path in modules():
        tree = ast.parse(path.read_text())
        top = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
        for name, _ in [item for node in top for item in imports_of(node)]:
            assert name.split(".")[0] not in ("torch", "jax", "cupy"), f"{path.name} imports {name} at the top"
