"""Finding the driver, and what is said where there is none."""

from __future__ import annotations

import subprocess
import sys

from tests.execution import refused
from tests.runtime.mock_driver import MockDriver
from tilewright.errors import Kind
from tilewright.runtime.cuda_driver import CudaError, NoCudaError, fail_driver, find_driver, loaded_driver, require_driver, use_driver


def test_importing_tilewright_and_naming_a_target_load_no_driver() -> None:
    code = "import sys, tilewright; from tilewright.backends.targets import resolve_target; resolve_target('sm_80'); print('cuda' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_driver_is_asked_for_once_and_can_be_replaced() -> None:
    mock = MockDriver()
    with use_driver(mock):
        assert find_driver() is mock is loaded_driver() is require_driver("this")


def test_the_message_says_what_to_do() -> None:
    with use_driver(NoCudaError("no NVIDIA driver was found", "install it")), refused(Kind.GPU_MISSING, "this needs an NVIDIA GPU", "no NVIDIA", "install it"):
        assert loaded_driver() is None
        require_driver("this")


def test_an_error_of_the_driver_has_its_name_and_a_reason() -> None:
    with refused(Kind.GPU_ERROR, "launching k gave CUDA_ERROR_ILLEGAL_ADDRESS", "memory that is not there", "compute-sanitizer"):
        fail_driver(CudaError("cuLaunchKernel", "CUDA_ERROR_ILLEGAL_ADDRESS", 700), "launching k")
