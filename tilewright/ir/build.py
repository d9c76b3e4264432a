"""The builder that a program is traced into, and the one context variable that names it (floor 2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from tilewright.errors import Kind, Span, fail
from tilewright.spans import callee_of, span_of_caller

if TYPE_CHECKING:
    from tilewright.ir.buffer import Buffer
    from tilewright.ir.expr import Expr
    from tilewright.ir.stmt import ReduceKind, Stmt

_current: ContextVar[Builder | None] = ContextVar("tilewright_builder", default=None)


class Builder:
    """Collects statements into nested blocks. The front end extends it with the language's rules."""

    def __init__(self) -> None:
        self._blocks: list[list[Stmt]] = [[]]
        self.reducers: dict[Buffer, ReduceKind] = {}  # accumulators of deferred reductions, with their operation
        self.outputs: list[Buffer] = []  # tensors that a call allocates and returns

    def here(self) -> Span:
        """The place in the user's program that is being traced now."""
        return span_of_caller()

    def emit(self, stmt: Stmt) -> None:
        """Appends to the innermost open block."""
        self._blocks[-1].append(stmt)

    @contextmanager
    def block(self) -> Iterator[list[Stmt]]:
        """Opens a block; what is emitted inside lands in the list it gives."""
        statements: list[Stmt] = []
        self._blocks.append(statements)
        try:
            yield statements
        finally:
            self._blocks.pop()

    def snapshot(self, value: Any, name: str = "value") -> Any:
        """The value as it is now, though what it reads may change later."""
        raise NotImplementedError

    def check_on_call(self, condition: Expr, message: str, span: Span) -> None:
        """A condition on sizes that must hold whenever the kernel is called."""
        raise NotImplementedError

    def store(self, buffer: Any, key: Any, value: Any) -> None:
        """`buffer[key] = value`."""
        raise NotImplementedError

    def store_region(self, target: Any, value: Any) -> None:
        """An element expression or a region, assigned to."""
        raise NotImplementedError

    @contextmanager
    def active(self) -> Iterator[Builder]:
        """Makes this the builder that T.* functions reach."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)


@contextmanager
def detached() -> Iterator[None]:
    """No builder is active inside: a program of its own may be traced while another one is."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Builder:
    """The builder being traced into; a diagnostic where there is none."""
    builder = _current.get()
    if builder is None:
        span = span_of_caller()
        fail(
            Kind.NO_BUILDER,
            f"{callee_of(span) or 'a kernel construct'} was used outside a kernel",
            span,
            because="T.* statements and stores into buffers only exist while a kernel is traced",
            help="put the code into a function decorated with @T.prim_func, @T.macro or @tilewright.jit",
        )
    return builder


def current_or_none() -> Builder | None:
    return _current.get()
