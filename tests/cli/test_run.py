"""`tilewright run`: programs under TileLang's names, and how each kind of failure is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.cli.run import describe_failure, user_traceback
from tilewright.errors import CompilerBug

ADD = """
import sys
import numpy as np
import tilelang
import tilelang.language as T

@tilelang.jit(out_idx=[-1])
def add_one(N):
    @T.prim_func
    def main(A: T.Tensor((N,), "float32"), B: T.Tensor((N,), "float32")):
        with T.Kernel(T.ceildiv(N, 64), threads=64) as bx:
            for i in T.Parallel(64):
                B[bx * 64 + i] = A[bx * 64 + i] + 1
    return main
"""


def run(folder: Path, program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    (folder / "beside.py").write_text("VALUE = 7\n")
    environment = {"PATH": "", "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "TILEWRIGHT_CACHE": "0", "HOME": str(folder), **variables}
    return subprocess.run([sys.executable, "-m", "tilewright", "run", str(folder / "program.py"), *arguments], capture_output=True, text=True, env=environment)


def test_a_program_runs_with_its_arguments_and_modules(tmp_path: Path) -> None:
    program = ADD + "from beside import VALUE\nprint(__name__, sys.argv[1:], add_one(100)(np.zeros(100, np.float32)).sum(), VALUE)\n"
    done = run(tmp_path, program, "--target", "x", "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "__main__ ['--target', 'x', '-h'] 100.0 7\n"


def test_a_mistake_is_shown_at_its_line_without_a_traceback(tmp_path: Path) -> None:
    done = run(tmp_path, ADD + "add_one(100)(np.zeros(99, np.float32))\n")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error[") and "program.py:" in done.stderr and "99" in done.stderr and "100" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_exception_shows_the_frames_of_the_user(tmp_path: Path) -> None:
    done = run(tmp_path, "from tilelang.profiler import do_bench\n\ndef f():\n    return 1 / 0\n\ndo_bench(f)\n")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):" and lines[-1] == "ZeroDivisionError: division by zero"
    assert [line.split(", ")[1] for line in lines if line.startswith("  File")] == ["line 6", "line 4"]


def test_the_exit_status_of_the_program_counts(tmp_path: Path) -> None:
    assert run(tmp_path, "import sys\nsys.exit(5)\n").returncode == 5


def test_a_fault_of_ours_says_so_and_leaves_a_report(tmp_path: Path) -> None:
    program = "import tilelang\nfrom tilewright.errors import CompilerBug\nraise CompilerBug('the moon is full')\n"
    done = run(tmp_path, program, TILEWRIGHT_REPORT_DIR=str(tmp_path / "reports"))
    assert done.returncode == 1
    assert "this is a fault of tilewright, not of your program: the moon is full" in done.stderr and "Traceback" not in done.stderr
    (report,) = (tmp_path / "reports").iterdir()
    assert str(report) in done.stderr and (report / "program.py").read_text() == program


def test_an_unexpected_exception_inside_tilewright_counts_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_REPORT_DIR", str(tmp_path))
    script = tmp_path / "program.py"
    script.write_text("")
    inside = {"__file__": "x"}
    code = compile("def broken():\n    return {}['key']\n", str(Path(sys.modules["tilewright"].__file__).parent / "nowhere.py"), "exec")
    exec(code, inside)
    with pytest.raises(KeyError) as caught:
        inside["broken"]()
    assert "fault of tilewright" in describe_failure(caught.value, script) and "KeyError: 'key'" in describe_failure(caught.value, script)
    with pytest.raises(KeyError) as caught:
        {}["key"]
    assert describe_failure(caught.value, script).startswith("Traceback")


def test_a_misspelt_name_of_the_package_is_the_users(tmp_path: Path) -> None:
    done = run(tmp_path, "import tilewright\ntilewright.compil(3)\n")
    assert done.returncode == 1 and done.stderr.startswith("Traceback") and "line 2" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("AttributeError: module 'tilewright' has no attribute 'compil'")


def test_a_traceback_shows_causes_too() -> None:
    with pytest.raises(ValueError) as caught:
        try:
            raise CompilerBug("first")
        except CompilerBug as error:
            raise ValueError("second") from error
    text = user_traceback(caught.value)
    assert text.index("first") < text.index("direct cause") < text.index("ValueError: second")


def test_a_script_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tilewright", "run", str(tmp_path / "none.py")], capture_output=True, text=True)
    assert done.returncode == 2 and "none.py" in done.stderr
