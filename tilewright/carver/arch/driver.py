"""What the GPU of this machine says of itself (floor 9). Every function raises TileError (gpu-missing) without one."""

from __future__ import annotations

from tilewright.errors import Kind, fail
from tilewright.runtime.cuda_driver import CudaError, GpuDevice, fail_driver, require_driver
from tilewright.spans import span_of_caller


def _device(number: int, what: str) -> GpuDevice:
    try:
        devices = require_driver(what).devices()
    except CudaError as error:
        fail_driver(error, "describing the GPU")
    if not 0 <= number < len(devices):
        fail(
            Kind.OPTION_VALUE,
            f"{what} was asked for GPU {number}",
            span_of_caller(),
            because=f"this machine has {len(devices)}, counted from 0",
            help="leave the number out for the first one",
        )
    return devices[number]


def get_num_sms(device_id: int = 0) -> int:
    """How many multiprocessors it has."""
    return _device(device_id, "get_num_sms").multiprocessors


def get_device_name(device_id: int = 0) -> str:
    """What it is called."""
    return _device(device_id, "get_device_name").name


def get_shared_memory_per_block(device_id: int = 0) -> int:
    """Bytes of shared memory that one block may have at most."""
    return _device(device_id, "get_shared_memory_per_block").shared_bytes_per_block
