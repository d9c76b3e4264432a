"""Schedules of specialised warps as a program may write them (floor 5; language.md 9): hints, which no target of this version follows.

They say which warps do which statements of a pipeline; the results are those of the same program without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WSID = "ws_id"  # `annotations={T.WSID: 3}` names a statement for a schedule


class _Named(type):
    """`T.WSRole.PRODUCER`: a member is whatever name is asked for."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _Part(metaclass=_Named):
    """A part of a schedule, as it was written."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        self.parts, self.named = parts, named


class WSSchedule(_Part):
    """The whole schedule of a loop."""


class WSPipeline(_Part):
    """The stages of a schedule."""


class WSRole(_Part):
    """What a group of warps does."""


class WSScope(_Part):
    """The memory or the warps that a synchronisation is about."""


class WSSync(_Part):
    """A synchronisation between two parts of a schedule."""


class WSSyncKind(_Part):
    """A kind of synchronisation."""


class WSInstr(_Part):
    """An instruction of a schedule."""


class WSOpRef(_Part):
    """A statement that a schedule names."""


def annotate_ws_schedule(schedule: Any) -> None:
    """Accepted as a hint: the compiler makes schedules of its own."""


@contextmanager
def ws_op(identifier: Any) -> Iterator[None]:
    """`with T.ws_op(3):` names the statements inside for a schedule; they run as they would without it."""
    yield
