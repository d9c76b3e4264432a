"""What the printer of C-like source asks of a language (floor 6): everything that is not plain C++."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tilewright.codegen.cfamily.prelude import Prelude
from tilewright.codegen.cfamily.text import Text
from tilewright.dtypes import DType
from tilewright.ir.expr import Op, Rounding
from tilewright.ir.intrinsic import Intrinsic
from tilewright.ir.stmt import AtomicKind, Barrier, MemoryOrder, WarpExchange


class Dialect(Protocol):
    """One language for one target. Texts are value forms (`cfamily.types`) unless said otherwise."""

    @property
    def prelude(self) -> Prelude: ...

    @property
    def reserved_names(self) -> frozenset[str]:
        """Built-in variables, types and functions that generated names must not hide."""
        ...

    @property
    def function_qualifiers(self) -> str:
        """What stands in front of a helper function."""
        ...

    # -- elements
    def from_storage(self, code: Text, dtype: DType) -> Text: ...

    def to_storage(self, value: Text, dtype: DType, rounding: Rounding = Rounding.NEAREST_EVEN) -> Text:
        """Also rounds a float to its dtype."""
        ...

    def round_to(self, value: Text, dtype: DType, rounding: Rounding = Rounding.NEAREST_EVEN) -> Text: ...

    def unrounded(self, value: Text, source: DType, target: DType, rounding: Rounding) -> Text:
        """The first half of a conversion to a float below 32 bits, `to_storage` and `round_to` being the second."""
        ...

    def convert(self, value: Text, source: DType, target: DType, rounding: Rounding) -> Text: ...

    def nibble(self, value: Text, dtype: DType) -> Text:
        """The low four bits of an integer, sign-extended where the 4-bit dtype has a sign."""
        ...

    def bits_as_float(self, bits: Text, *, is_double: bool) -> Text: ...

    def float_as_bits(self, value: Text, *, is_double: bool) -> Text: ...

    # -- operations
    def integer(self, op: Op, left: Text, right: Text, dtype: DType, *, may_wrap: bool) -> Text: ...

    def extremum(self, op: Op, left: Text, right: Text, dtype: DType) -> Text: ...

    def divide(self, left: Text, right: Text, *, is_double: bool) -> Text: ...

    def exact_product(self, left: Text, right: Text, *, is_double: bool) -> Text:
        """A product that is rounded before anything else uses it."""
        ...

    def floor_division(self, op: Op, left: Text, right: Text, bits: int) -> Text:
        """FLOORDIV or FLOORMOD of two signed integers of that many bits."""
        ...

    def call(self, intrinsic: Intrinsic, arguments: tuple[Text, ...], dtypes: tuple[DType, ...]) -> Text:
        """Of narrow floats not rounded to their dtype."""
        ...

    # -- threads
    def thread_index(self, axis: int) -> str: ...

    def block_index(self, axis: int) -> str: ...

    def barrier(self, node: Barrier) -> str: ...

    def grid_barrier(self, counter: Text) -> Text:
        """All blocks wait for each other; `counter` points to how often one has come, in 64 bits."""
        ...

    def exchange(self, node: WarpExchange, value: Text, operand: Text | None, mask: Text) -> Text: ...

    def fences(self, kind: AtomicKind, order: MemoryOrder, *, is_shared: bool) -> tuple[str | None, str | None]: ...

    def atomic(self, kind: AtomicKind, dtype: DType, pointer: Text, value: Text, *, is_shared: bool) -> Text: ...

    def atomic_packed(self, kind: AtomicKind, dtype: DType, base: Text, index: Text, value: Text) -> Text: ...

    def shared_address(self, pointer: Text) -> Text:
        """A pointer into shared memory as a 32-bit address of that space."""
        ...

    def assembly(self, template: str, outputs: Sequence[str], inputs: Sequence[str], *, touches_memory: bool) -> str:
        """Inline assembly that happens where it stands; each operand with its constraint."""
        ...

    def prefetch(self, pointer: Text) -> str:
        """A hint that global memory will be read soon."""
        ...

    # -- the host
    def assume(self, condition: Text) -> str: ...

    def fail(self, status: str, number: int, *, is_trapping: bool) -> list[str]:
        """Statements that leave the number of an assert in the status word and end the thread, or the whole kernel."""
        ...
