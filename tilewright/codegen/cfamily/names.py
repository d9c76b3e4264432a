"""Identifiers of one function: readable, unique, and never a word that C++ or a dialect has taken (floor 6)."""

from __future__ import annotations

# C++ keywords, and the alternative tokens.
_KEYWORD_TEXT = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class co_await co_return co_yield compl concept "
    "const const_cast consteval constexpr constinit continue decltype default delete do double dynamic_cast else enum explicit export extern false float "
    "for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register "
    "reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef "
    "typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq main"
)
KEYWORDS = frozenset(_KEYWORD_TEXT.split())
# What our own helpers start with.
HELPER_PREFIX = "tw_"


class Names:
    """Hands out names; `reserved` are those of the dialect: its types, functions and built-in variables."""

    def __init__(self, reserved: frozenset[str]) -> None:
        self._taken: set[str] = set(reserved) | KEYWORDS
        self._counts: dict[str, int] = {}

    def fresh(self, wanted: str) -> str:
        """`wanted` as an identifier, numbered where it is taken."""
        base = identifier(wanted)
        name, count = base, self._counts.get(base, 0)
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._counts[base] = count
        self._taken.add(name)
        return name


def identifier(text: str) -> str:
    """The text with everything but ASCII letters, digits and underscores replaced; no leading digit, no double or leading underscore, no helper's name."""
    made = "".join(c if c.isascii() and c.isalnum() else "_" for c in text).strip("_")
    while "__" in made:
        made = made.replace("__", "_")
    return made if made and not made[0].isdigit() and not made.startswith(HELPER_PREFIX) else f"v_{made}"
