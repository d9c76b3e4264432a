"""What a search found (floor 9): the best kernel, and every trial; kept as a small JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tilewright.errors import Kind, fail
from tilewright.spans import span_of_caller

_FORMAT = "tilewright tuning result 1"


@dataclass(frozen=True)
class Trial:
    """One configuration: its time in milliseconds, or why there is none."""

    config: Mapping[str, Any]
    latency_ms: float | None
    reason: str = ""


@dataclass(frozen=True)
class AutotuneResult:
    """The outcome of a search.

    latency      milliseconds of the best kernel; `ref_latency` of the reference, None where there was none.
    config       the configuration that gave it.
    trials       every configuration, in the order in which they were tried.
    """

    latency: float
    config: dict[str, Any]
    kernel: Any = None
    ref_latency: float | None = None
    trials: tuple[Trial, ...] = field(default=())

    def save_to_disk(self, path: str | Path) -> None:
        """Writes all but the kernel to a JSON file, which may be kept with the program's source.

        Raises TileError (option-value) where a configuration holds what JSON does not know.
        """
        data = {"format": _FORMAT, "latency_ms": self.latency, "ref_latency_ms": self.ref_latency, "config": self.config}
        try:
            text = json.dumps({**data, "trials": [asdict(t) for t in self.trials]}, indent=1)
        except TypeError as error:
            fail(
                Kind.OPTION_VALUE,
                f"the configuration cannot be written to {path}: {error}",
                span_of_caller(),
                because="results are kept as JSON",
                help="use numbers, strings, bools, None and lists of them in configurations",
            )
        Path(path).write_text(text + "\n")

    @classmethod
    def load_from_disk(cls, path: str | Path, compile: Callable[..., Any] | None = None) -> AutotuneResult:
        """The result that a file holds; `compile`, where given, is called with the configuration as keywords and makes the kernel.

        Raises TileError (option-value) for a file that is none of ours.
        """
        try:
            data = json.loads(Path(path).read_text())
            if data["format"] != _FORMAT:
                raise ValueError("it has another format")
            trials = tuple(Trial(**t) for t in data["trials"])
            found = cls(data["latency_ms"], data["config"], None, data["ref_latency_ms"], trials)
        except (ValueError, KeyError, TypeError) as error:
            because = "a result is a JSON file written by save_to_disk"
            fail(Kind.OPTION_VALUE, f"{path} holds no tuning result ({error})", span_of_caller(), because=because, help="tune again")
        return found if compile is None else cls(found.latency, found.config, compile(**found.config), found.ref_latency, trials)
