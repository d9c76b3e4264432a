"""Helper functions in front of the kernels: only those that are used, each after what it calls itself (floor 6)."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.codegen.cfamily.text import Text, call


@dataclass(frozen=True, slots=True)
class Helper:
    """A device function: its name, its whole text, and the helpers that the text calls."""

    name: str
    text: str
    needs: tuple[Helper, ...] = ()


class Prelude:
    """Collects the helpers of one module."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def use(self, helper: Helper) -> str:
        """The helper's name, once its text is in the prelude."""
        if helper.name not in self._texts:
            for needed in helper.needs:
                self.use(needed)
            self._texts[helper.name] = helper.text
        return helper.name

    def call(self, helper: Helper, *arguments: Text | str) -> Text:
        return call(self.use(helper), *arguments)

    def text(self) -> str:
        return "\n\n".join(self._texts.values())
