"""`tilewright doctor`: the report, a broken machine, and the state of the variables."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from click.testing import CliRunner, Result

import tilewright.cli.doctor as module
from tests.runtime.mock_driver import H100, MockDriver
from tilewright.cli.doctor import VARIABLES, Dependency, doctor, gpu_findings, unknown_variables, variable_states
from tilewright.errors import Kind, error_of
from tilewright.options import Environment, environment
from tilewright.runtime.cuda_driver import CudaError, NoCudaError, use_driver
from tilewright.runtime.pool import shared_pool


@pytest.fixture(autouse=True)
def clean(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    shared_pool()  # its code is cached, in whatever folder is in force when it is first made
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", f"{tmp_path}/cache")


def run() -> Result:
    return CliRunner().invoke(doctor)


def test_a_sound_machine() -> None:
    result = run()
    assert result.exit_code == 0
    lines = [line.split(maxsplit=1) for line in result.output.splitlines()]
    assert ["numpy", np.__version__] in lines
    for text in ("a small kernel           compiles, runs and gives the right result", "(environment)", "0 entries, 0 B in"):
        assert text in result.output, text


def test_what_is_missing_comes_with_the_command_that_fixes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPTIONAL", (Dependency("no-such-package", "nothing", "pip install it"),))
    assert "no-such-package          not installed (nothing): pip install it" in run().output


@pytest.mark.parametrize("is_wrong", [False, True])
def test_kernels_that_do_not_run_or_are_wrong(is_wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        if is_wrong:
            return lambda values: values
        raise error_of(Kind.TARGET_FEATURE, "no such thing")

    monkeypatch.setattr(module, "compile", broken)
    result = run()
    assert result.exit_code == 1 and "FAILS" in result.output and ("wrong" if is_wrong else "no such thing") in result.output


def test_a_cache_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", "0")
    assert "switched off by TILEWRIGHT_CACHE" in run().output


def test_every_setting_has_its_variable() -> None:
    assert sorted(VARIABLES.values()) == sorted(field.name for field in fields(Environment))


@pytest.mark.parametrize(
    ("name", "text", "value", "origin"),
    [
        ("TILEWRIGHT_THREADS", "3", "3", "environment"),
        ("TILEWRIGHT_THREADS", "0", "all", "environment"),
        ("TILEWRIGHT_THREADS", None, "all", "default"),
        ("TILEWRIGHT_THREADS", "three", "all", "default; 'three' cannot be read"),
        ("TILEWRIGHT_CHECK", "1", "on", "environment"),
        ("TILEWRIGHT_CHECK", "off", "off", "environment"),
        ("TILEWRIGHT_CACHE_MAX_MB", "2048", "2.0 GiB", "environment"),
        ("TILEWRIGHT_REPORT_DIR", "/x", "/x", "environment"),
        ("TILEWRIGHT_REPORT_DIR", "", "not set", "default"),
    ],
)
def test_value_and_origin(name: str, text: str | None, value: str, origin: str) -> None:
    given = {} if text is None else {name: text}
    assert (name, value, origin) in variable_states(environment(given), given.get)


def test_misspelt_variables_are_named() -> None:
    assert unknown_variables(["HOME", "TILEWRIGHT_THREAD", "TILEWRIGHT_CACHE"]) == [
        "TILEWRIGHT_THREAD is set, but is no variable of tilewright; did you mean TILEWRIGHT_THREADS?"
    ]
    assert unknown_variables(["TILEWRIGHT_QQQQQQQ"]) == ["TILEWRIGHT_QQQQQQQ is set, but is no variable of tilewright"]


def test_gpus_are_listed_with_what_they_are_compiled_for() -> None:
    with use_driver(MockDriver(H100, replace(H100, ordinal=1, name="Old", capability=(7, 5)))):
        found = dict(gpu_findings())
    assert found["driver"] == "CUDA 13.0" and "Mock H100, compute capability 9.0, 80" in found["device 0"] and 'target="cuda" is sm_90a' in found["device 0"]
    assert "too old" in found["device 1"]


def test_without_a_gpu_the_reason_and_the_fix_are_shown() -> None:
    with use_driver(NoCudaError("no NVIDIA driver was found", "install it")):
        assert "no NVIDIA driver was found; install it" in dict(gpu_findings())["driver"]
    with use_driver(MockDriver(broken=CudaError("cuX", "CUDA_ERROR_Y", 999))):
        assert dict(gpu_findings())["driver"] == "FAILS: cuX gave CUDA_ERROR_Y (999)"
