"""Each operating system gets a way to sleep that it has."""

from __future__ import annotations

import sys

import pytest

from tilewright.runtime.pool_platform import Parking, default_parking, machine_code, parking_code


@pytest.mark.parametrize(
    ("system", "machine", "parking"),
    [
        ("linux", "x86_64", Parking.FUTEX),
        ("linux", "aarch64", Parking.FUTEX),
        ("linux", "s390x", Parking.PTHREAD),  # its futex number is not in our table
        ("darwin", "aarch64", Parking.PTHREAD),
        ("freebsd14", "x86_64", Parking.PTHREAD),
        ("win32", "x86_64", Parking.NONE),
    ],
)
def test_default_parking(monkeypatch: pytest.MonkeyPatch, system: str, machine: str, parking: Parking) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert default_parking(machine) is parking


def test_futex_number_follows_the_processor() -> None:
    assert "@syscall(i64 202," in parking_code(Parking.FUTEX, "x86_64")
    assert "@syscall(i64 98," in parking_code(Parking.FUTEX, "aarch64")


def test_an_unknown_processor_has_no_float_control() -> None:
    assert "ret i64 0" in machine_code("s390x")
    assert "stmxcsr" in machine_code("x86_64")
