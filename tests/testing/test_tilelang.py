"""What stands for `tilelang.testing`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tilewright.testing import tilelang as testing


def test_main_runs_the_tests_of_the_file_that_calls_it(tmp_path: Path) -> None:
    program = (
        "import tilelang.testing\n\ndef test_right():\n    pass\n\n@tilelang.testing.requires_cuda\ndef test_on_a_gpu():\n    raise AssertionError\n\n"
        "{more}\nif __name__ == '__main__':\n    tilelang.testing.main()\n"
    )
    # The collected file is imported once more by pytest, in the same process: the names are still there.
    for more, status, summary in (("", 0, "1 passed, 1 skipped"), ("def test_wrong():\n    assert False\n", 1, "1 failed, 1 passed, 1 skipped")):
        path = tmp_path / f"test_{status}.py"
        path.write_text(program.format(more=more))
        done = subprocess.run(
            [sys.executable, "-m", "tilewright", "run", str(path), "-p", "no:cacheprovider"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert summary in done.stdout


def test_seeds() -> None:
    draws = []
    for _ in range(2):
        testing.set_random_seed(3)
        draws.append((random.random(), np.random.rand()))
    assert draws[0] == draws[1]
    testing.set_random_seed()
    assert (random.random(), np.random.rand()) != draws[0]


def test_closeness() -> None:
    a = np.zeros(1000, np.float32)
    b = a.copy()
    b[:10] = 1
    assert testing.torch_assert_close(a, b, max_mismatched_ratio=0.01)
    with pytest.raises(AssertionError, match=r"10 of 1000 elements differ .* the first is \[0\]: mine 0\.0, theirs 1\.0"):
        testing.torch_assert_close(a, b, max_mismatched_ratio=0.009, base_name="mine", ref_name="theirs")
    with pytest.raises(AssertionError, match="shape"):
        testing.torch_assert_close(a, b[:5])
    with pytest.raises(AssertionError, match="dtype"):
        testing.torch_assert_close(a, a.astype(np.float16))
    nan = np.array([np.nan])
    assert testing.torch_assert_close(nan, nan)
    with pytest.raises(AssertionError):
        testing.torch_assert_close(nan, nan, equal_nan=False)


def test_closeness_of_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    a = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    assert testing.torch_assert_close(a, torch.ones(4, dtype=torch.bfloat16))
    with pytest.raises(AssertionError):
        testing.torch_assert_close(a, torch.zeros(4, dtype=torch.bfloat16))


def skipped(decorator: object) -> bool:
    def test() -> None: ...

    return getattr(decorator(test), "__unittest_skip__", False)  # type: ignore[operator]


def test_what_is_skipped() -> None:
    for name in ("requires_cuda", "requires_rocm", "requires_metal", "requires_cdna", "requires_gfx950", "requires_cuda_or_cdna"):
        assert skipped(getattr(testing, name)), name
    for mode in ("ge", "gt", "le", "lt", "eq"):
        assert skipped(getattr(testing, f"requires_cuda_compute_version_{mode}")(9, 0))
    assert not skipped(testing.requires_llvm)
    assert not skipped(testing.requires_package("numpy")) and skipped(testing.requires_package("numpy", "no_such_package"))
    with pytest.raises(ValueError, match="mode is 'about'"):
        testing.requires_cuda_compute_version(9, mode="about")


def test_every_name_is_there() -> None:
    assert all(hasattr(testing, name) for name in testing.__all__)


def test_a_function_in_a_process_of_its_own() -> None:
    assert testing.process_func(os.getpid) != os.getpid()
    with pytest.raises(ZeroDivisionError):
        testing.process_func(divmod, 1, 0)
    assert testing.regression(skipped) is skipped
