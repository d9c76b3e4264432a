"""Which stream a launch is for, and when nothing may be compiled."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.execution import refused
from tests.runtime.mock_driver import MockDriver
from tilewright.errors import Kind
from tilewright.runtime.cuda_driver import NoCudaError, use_driver
from tilewright.runtime.cuda_streams import is_capturing, refuse_while_capturing, stream_handle


@pytest.mark.parametrize(
    "stream", [7, SimpleNamespace(cuda_stream=7), SimpleNamespace(ptr=7), SimpleNamespace(handle=7), SimpleNamespace(__cuda_stream__=lambda: (0, 7))]
)
def test_streams_of_every_framework(stream: object) -> None:
    assert stream_handle(stream) == 7


@pytest.mark.parametrize("stream", ["main", True, -1, None, SimpleNamespace(ptr="x")])
def test_what_is_no_stream(stream: object) -> None:
    with refused(Kind.OPTION_VALUE, "stream is"):
        stream_handle(stream)


def test_nothing_is_captured_without_a_driver() -> None:
    with use_driver(None):
        assert not is_capturing()
    with use_driver(NoCudaError("none", "")):
        refuse_while_capturing("k was compiled")


def test_a_capture_is_noticed() -> None:
    with use_driver(MockDriver(capturing=True)), refused(Kind.GRAPH_CAPTURE, "k was compiled while", "before the capture"):
        refuse_while_capturing("k was compiled")
    with use_driver(MockDriver()):
        refuse_while_capturing("k was compiled")
