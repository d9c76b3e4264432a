"""Whole programs as bytes and back (floor 2), for a disk cache that is trusted as far as the machine code in it.

Places in the source name their file by its number, so that the bytes are the same wherever the source is installed. Variables and buffers keep their
identity within one program; functions such as `exp` are named, and found again by the name.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from tilewright.errors import Span
from tilewright.ir.expr import Expr, Op, var
from tilewright.ir.intrinsic import Intrinsic
from tilewright.ir.program import Program

_PROTOCOL = 5
# Of other packages' objects nobody knows whether they mean the same in another process.
_TRUSTED_PACKAGES = ("tilewright", "builtins")


class UnstorableProgramError(Exception):
    """A program holds what cannot be kept: an object of the user's, or a place in a file that was not named."""


def program_to_bytes(program: Program, files: Sequence[str], intrinsics: Mapping[str, Intrinsic]) -> bytes:
    """`files` are those that the program's places lie in. Raises UnstorableProgramError."""
    stream = io.BytesIO()
    try:
        _Writer(stream, files, intrinsics).dump(program)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise UnstorableProgramError(str(error)) from error
    return stream.getvalue()


def program_from_bytes(data: bytes, files: Sequence[str], intrinsics: Mapping[str, Intrinsic]) -> Program:
    """What `program_to_bytes` was given, with places in `files`. Raises UnstorableProgramError where the bytes are none of its."""
    try:
        program = _Reader(data, files, intrinsics).load()
    except Exception as error:  # damaged bytes make pickle raise anything
        raise UnstorableProgramError(str(error)) from error
    if not isinstance(program, Program):
        raise UnstorableProgramError(f"a {type(program).__name__} is no program")
    return program


class _Writer(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, files: Sequence[str], intrinsics: Mapping[str, Intrinsic]) -> None:
        super().__init__(stream, _PROTOCOL)
        self.file_numbers = {file: number for number, file in enumerate(files)}
        self.intrinsics = intrinsics

    def persistent_id(self, item: Any) -> Any:
        if isinstance(item, Intrinsic):
            if self.intrinsics.get(item.name) is not item:
                raise UnstorableProgramError(f"the function {item.name} is in no catalogue")
            return item.name
        if type(item) is str:
            return self.file_numbers.get(item)
        return None

    def reducer_override(self, item: Any) -> Any:
        if isinstance(item, Expr):
            # Without this its own reduction refuses variables: alone they lose their identity, in a program they keep it.
            return (var, (item.attribute, item.dtype)) if item.op is Op.VAR else NotImplemented
        kind = item if isinstance(item, type) else type(item)
        if kind.__module__.split(".", 1)[0] not in _TRUSTED_PACKAGES:
            raise UnstorableProgramError(f"it holds a {kind.__qualname__} of {kind.__module__}")
        if isinstance(item, Span) and item.file not in self.file_numbers:
            raise UnstorableProgramError(f"a part of it stands in {item.file}")
        return NotImplemented


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, files: Sequence[str], intrinsics: Mapping[str, Intrinsic]) -> None:
        super().__init__(io.BytesIO(data))
        self.files, self.intrinsics = files, intrinsics

    def persistent_load(self, item: Any) -> Any:
        return self.files[item] if isinstance(item, int) else self.intrinsics[item]
