"""The package's front door: what it exports, and what it does not import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tilewright


def test_every_exported_name_is_there() -> None:
    assert len(set(tilewright.__all__)) == len(tilewright.__all__) and all(hasattr(tilewright, name) for name in tilewright.__all__)
    assert tilewright.JITKernel is tilewright.Kernel and tilewright.DataType is type(tilewright.dtypes.float32)
    assert tilewright.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="has no attribute 'speed'"):
        _ = tilewright.speed


@pytest.mark.parametrize(("value", "power"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1000, 1024), (1 << 40, 1 << 40)])
def test_powers_of_two(value: int, power: int) -> None:
    assert tilewright.next_power_of_2(value) == power


def test_importing_it_loads_no_back_end_and_no_other_framework() -> None:
    program = "import sys, tilewright; print(*sorted(m for m in sys.modules if m.startswith('tilewright') or m in ('torch', 'llvmlite.binding', 'cupy')))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "tilewright.backends.cpu",
        "tilewright.backends.cuda",
        "tilewright.passes",
        "tilewright.reference",
        "tilewright.tools",
        "tilewright.carver",
        "tilewright.sim",
    }
    assert not {"torch", "cupy", *heavy} & set(loaded)


def test_the_reference_is_loaded_when_it_is_asked_for() -> None:
    from tilewright.reference import run_reference

    assert tilewright.run_reference is run_reference
