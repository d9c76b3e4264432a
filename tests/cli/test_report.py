"""The folder for a bug report: what it holds."""

from __future__ import annotations

from pathlib import Path

import llvmlite
import pytest

import tilewright.backends.cpu
import tilewright.language as T
from tilewright.cli.report import write_report
from tilewright.errors import CompilerBug


@T.prim_func
def double(A: T.Tensor((10,), "float32")):
    with T.Kernel(1) as _:
        for i in T.Parallel(10):
            A[i] *= 2


def test_a_failure_in_code_generation_leaves_program_code_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_REPORT_DIR", str(tmp_path / "new" / "reports"))
    monkeypatch.setenv("TILEWRIGHT_CACHE", "0")

    def refuse(*_: object) -> object:
        raise CompilerBug("refused")

    monkeypatch.setattr(tilewright.backends.cpu, "load_object", refuse)
    script = tmp_path / "script.py"
    script.write_text("# the script\n")
    with pytest.raises(CompilerBug) as caught:
        tilewright.compile(double)
    folder = write_report(caught.value, script)
    assert folder.parent == tmp_path / "new" / "reports"
    files = {path.name: path.read_text() for path in folder.iterdir()}
    assert files["script.py"] == "# the script\n"
    assert "refused" in files["traceback.txt"] and "compile_program" in files["traceback.txt"]
    assert f"llvmlite {llvmlite.__version__}" in files["versions.txt"] and f"tilewright {tilewright.__version__}" in files["versions.txt"]
    programs = [text for name, text in files.items() if name.startswith("ir_")]
    assert len(programs) == 2 and all("def double(A: float32[10])" in text for text in programs)  # as traced and as lowered
    (code,) = [text for name, text in files.items() if name.endswith(".ll")]
    assert "define " in code


def test_without_a_folder_of_its_own_it_goes_to_the_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TILEWRIGHT_REPORT_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = write_report(ValueError("x")), write_report(ValueError("x"))
    assert first != second and first.parent == second.parent == tmp_path
    assert sorted(path.name for path in first.iterdir()) == ["traceback.txt", "versions.txt"]
