"""Tensors of made-up libraries."""

from __future__ import annotations

from typing import Any


class Exporter:
    """A tensor of a library that offers DLPack and nothing else."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


class OldExporter(Exporter):
    """One from before DLPack 1.0: it takes no version, and cannot say that its memory is read-only."""

    def __dlpack__(self) -> Any:  # type: ignore[override]
        return self.tensor.__dlpack__()
