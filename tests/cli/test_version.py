"""`tilewright version`."""

from __future__ import annotations

import platform

from click.testing import CliRunner

import tilewright
from tilewright.cli.version import version


def test_the_version_is_that_of_the_package() -> None:
    output = CliRunner().invoke(version).output
    assert output.split()[:2] == ["tilewright", tilewright.__version__] and platform.python_version() in output
