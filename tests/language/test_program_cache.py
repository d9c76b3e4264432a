"""Programs that were compiled once are not traced again, in this or another process, and behave as if they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright.disk_cache import open_cache
from tilewright.errors import TileError
from tilewright.language import function
from tilewright.language.program_cache import load_program

ROOT = Path(tilewright.__file__).resolve().parents[1]


@tilewright.jit
def scaled(size: int, factor: float) -> Any:
    @T.prim_func
    def kernel(A: T.Tensor((size,), "float32"), B: T.Tensor((size,), "float32")):
        with T.Kernel(1):
            for i in T.Parallel(size):
                B[i] = A[i] * factor

    return kernel


@tilewright.jit
def eager(A, step: int):
    N = T.const("N")
    A: T.Tensor((N,), "float32")
    B = T.empty((N,), "float32")
    with T.Kernel(1):
        for i in T.Parallel(N):
            B[i] = A[i] + step
    return B


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is traced, with a cache of the test's own."""
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    forget()
    names: list[str] = []
    run = function.run_traced

    def recorded(builder: Any, rewritten: Any, args: Any, kwargs: Any) -> Any:
        names.append(rewritten.original.__name__)
        return run(builder, rewritten, args, kwargs)

    monkeypatch.setattr(function, "run_traced", recorded)
    return names


def forget() -> None:
    for made in (scaled, eager):
        made.kernels.clear()


def test_a_compiled_program_is_not_traced_again(traces: list[str]) -> None:
    a = np.arange(9, dtype=np.float32)
    for traced, is_from_cache in ((["kernel"], False), ([], True)):
        forget()
        traces.clear()
        kernel = scaled(9, 2.5)
        b = np.zeros_like(a)
        kernel(a, b)
        assert np.array_equal(b, 2.5 * a) and traces == traced and kernel.compiled.is_from_cache == is_from_cache
    assert "define" in kernel.source and "B[i] = " in kernel.ir() and kernel.params[0].name == "A" and traces == []
    scaled(9, 3.5)
    assert traces == ["kernel"], "another argument, another program"


def test_eager_functions_too(traces: list[str]) -> None:
    a = np.arange(7, dtype=np.float32)
    for traced in (["eager"], []):
        forget()
        traces.clear()
        assert np.array_equal(eager(a, 2), a + 2) and traces == traced
    assert np.array_equal(eager(a, 3), a + 3) and np.array_equal(eager(a[:3], 2), a[:3] + 2) and traces == ["eager"] * 2


def test_a_traced_program_is_kept_only_once_it_compiled(traces: list[str]) -> None:
    for _ in range(2):
        assert scaled.get_tir(9, 2.5).known_fingerprint is None
    scaled(9, 2.5)
    assert scaled.get_tir(9, 2.5).known_fingerprint is not None


def test_diagnostics_come_again(traces: list[str]) -> None:
    def wrong(size: int) -> Any:
        @T.prim_func
        def kernel(A: T.Tensor((size,), "float32")):
            with T.Kernel(1):
                tile = T.alloc_shared((4,), "float32")
                T.copy(A, tile[0, 0])

        return kernel

    texts = []
    for _ in range(2):
        with pytest.raises(TileError) as caught:
            tilewright.compile(wrong(4))
        texts.append(str(caught.value))
    assert texts[0] == texts[1] and traces == ["kernel"] * 2


def test_the_switch_for_the_cache_counts(traces: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", "0")
    for _ in range(2):
        forget()
        assert scaled(9, 2.5).prim_func.origin is None
    assert traces == ["kernel"] * 2


@pytest.mark.parametrize("sections", [{}, {"program": b"", "fingerprint": b"0" * 64}, {"program": b"\x80\x05N."}])
def test_what_is_no_program_is_a_miss(traces: list[str], sections: dict[str, bytes]) -> None:
    origin = scaled(9, 2.5).prim_func.origin
    assert origin is not None and load_program(origin) is not None
    open_cache().store(origin.key, sections)
    assert load_program(origin) is None
    forget()
    traces.clear()
    scaled(9, 2.5)
    assert traces == ["kernel"] and load_program(origin) is not None


def test_a_damaged_entry_is_a_miss(traces: list[str], tmp_path: Path) -> None:
    origin = scaled(9, 2.5).prim_func.origin
    assert origin is not None
    (path,) = (tmp_path / "cache").glob(f"{origin.key}.*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert load_program(origin) is None


PROGRAM = """
import numpy as np
import tilewright, tilewright.language as T
from tilewright.language import function

run, traces = function.run_traced, []
function.run_traced = lambda *a: traces.append(a) or run(*a)

@T.prim_func
def kernel(A: T.Tensor((8,), "float32"), B: T.Tensor((8,), "float32")):
    with T.Kernel(1):
        T.print(A[0], "first")
        for i in T.Parallel(8):
            T.device_assert(A[i] < 5, "small")
            B[i] = A[i]

compiled = tilewright.compile(kernel)
compiled(np.ones(8, np.float32), np.zeros(8, np.float32))
print("traces", len(traces))
try:
    compiled(np.full(8, 9, np.float32), np.zeros(8, np.float32))
except tilewright.TileError as error:
    print(error)
"""


def test_prints_and_asserts_keep_their_places_in_another_process_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    outputs = []
    for name in ("one", "two"):
        script = tmp_path / name / "script.py"
        script.parent.mkdir()
        script.write_text(PROGRAM)
        finished = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
        assert str(script) in finished.stdout
        outputs.append(finished.stdout.replace(str(script), "FILE"))
    assert "traces 1" in outputs[0] and "traces 0" in outputs[1]
    assert outputs[0].replace("traces 1", "traces 0") == outputs[1]
    assert 'T.device_assert(A[i] < 5, "small")' in outputs[1]
