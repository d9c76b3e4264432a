"""Which device and stream a launch is for, and whether a graph is being captured (floor 7). The program's own framework is asked; none is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tilewright.errors import Kind, fail
from tilewright.ir.expr import describe_operand
from tilewright.runtime.cuda_driver import CudaError, loaded_driver
from tilewright.spans import span_of_caller


def current_device() -> int:
    """The ordinal of the current GPU: torch's or cupy's, where the program uses one of them on a GPU, else the first."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.current_device())
    cupy = sys.modules.get("cupy")
    if cupy is not None:
        return int(cupy.cuda.runtime.getDevice())
    return 0


def current_stream(ordinal: int) -> int:
    """The handle of the current stream of a device: torch's or cupy's, else the default stream."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # without an object for the stream
        return int(torch.cuda.current_stream(ordinal).cuda_stream if raw is None else raw(ordinal))
    cupy = sys.modules.get("cupy")
    if cupy is not None:
        return int(cupy.cuda.get_current_stream(ordinal).ptr)
    return 0


@contextmanager
def using_stream(stream: int, ordinal: int) -> Iterator[None]:
    """Makes a stream current for the frameworks of the program, whose allocators order memory by it."""
    with ExitStack() as stack:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            stack.enter_context(torch.cuda.stream(torch.cuda.ExternalStream(stream, device=ordinal)))
        cupy = sys.modules.get("cupy")
        if cupy is not None:
            stack.enter_context(cupy.cuda.Device(ordinal))
            stack.enter_context(cupy.cuda.ExternalStream(stream, ordinal))
        yield


def stream_handle(stream: Any) -> int:
    """The handle of what a caller gives as a stream: an int, a stream of torch, cupy or cuda.core, anything with `__cuda_stream__`.

    Raises TileError (option-value).
    """
    if isinstance(stream, int) and not isinstance(stream, bool) and stream >= 0:
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if callable(protocol):
        return int(protocol()[1])
    for name in ("cuda_stream", "ptr", "handle"):
        value = getattr(stream, name, None)
        if isinstance(value, int):
            return value
    fail(
        Kind.OPTION_VALUE,
        f"stream is {describe_operand(stream)}",
        span_of_caller(),
        because="a stream is one of torch, cupy or cuda.core, an object with __cuda_stream__, or an integer handle",
        help="leave it out: the current stream of torch or cupy is used",
    )


def is_capturing() -> bool:
    """Whether the current stream is being captured into a graph."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return bool(torch.cuda.is_current_stream_capturing())
    driver = loaded_driver()
    try:
        return driver is not None and bool(driver.current_context()) and driver.is_capturing(current_stream(current_device()))
    except CudaError:
        return False


def refuse_while_capturing(doing: str) -> None:
    """Raises TileError (graph-capture) while a CUDA graph is being captured; `doing` says what cannot be done then."""
    if is_capturing():
        fail(
            Kind.GRAPH_CAPTURE,
            f"{doing} while a CUDA graph is captured",
            span_of_caller(),
            because="a captured graph holds launches only: compiling, loading and tuning would break it",
            help="call it once with the same arguments before the capture",
        )
