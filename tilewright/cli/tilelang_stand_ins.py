"""What programs use of TileLang's own machinery (floor 9; language.md 12 and 13): targets of TVM, environment variables, hooks on generated sources."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NoReturn

from tilewright.backends.targets import default_target
from tilewright.disk_cache import default_directory
from tilewright.errors import Kind, fail
from tilewright.options import environment
from tilewright.spans import span_of_caller


class Target(str):
    """`tvm.target.Target("c")`: a target as a value; inside `with`, what programs without a target are compiled for."""

    _contexts: list[AbstractContextManager[None]]

    def __new__(cls, target: Any, host: Any = None) -> Target:
        parts = [str(target.get("kind")), *([f"-arch={target['arch']}"] if "arch" in target else [])] if isinstance(target, dict) else [str(target)]
        made = super().__new__(cls, " ".join(parts))
        made._contexts = []
        return made

    def __enter__(self) -> Target:
        context = default_target(str(self))
        context.__enter__()
        self._contexts.append(context)
        return self

    def __exit__(self, *error: Any) -> None:
        self._contexts.pop().__exit__(*error)


# Variables of TileLang that mean something here, and what is in force.
_VARIABLES: dict[str, Callable[[], Any]] = {
    "TILELANG_CACHE_DIR": lambda: str(environment().cache_directory or default_directory()),
    "TILELANG_DISABLE_CACHE": lambda: not environment().is_cache_enabled,
    "TILELANG_DEFAULT_TARGET": lambda: environment().default_target,
}
# The others: accepted, as switches of a compiler that is not this one.
_WITHOUT_EFFECT = frozenset(
    {
        *(f"TILELANG_{name}" for name in ("TMP_DIR", "PRINT_ON_COMPILATION", "EXECUTION_BACKEND", "VERBOSE", "CLEANUP_TEMP_FILES", "COMPILE_TIMEOUT_SECONDS")),
        *(f"TILELANG_AUTO_TUNING_{name}" for name in ("DISABLE_CACHE", "CPU_UTILITIES", "CPU_COUNTS", "MAX_CPU_COUNT")),
        *(f"TILELANG_{name}" for name in ("PASS_DIFF", "PASS_DIFF_OUTPUT", "PASS_PROFILE", "PASS_PROFILE_THRESHOLD_MS", "ENABLE_IR_SPAN")),
        *(f"TILELANG_{name}" for name in ("ENABLE_DATA_RACE_CHECK", "LAYOUT_COST_MODEL", "JIT_DIAGNOSTICS")),
        *("TL_LOWER_TRACE", "TL_LOWER_TRACE_DIR", "TL_TEMPLATE_PATH", "TL_CUTLASS_PATH"),
    }
)


def variable(name: str) -> Any:
    """`tilelang.env.NAME`: what is in force where the variable means something here, else what the environment holds, None where it is not set.

    Raises AttributeError for a name that is no variable of TileLang's.
    """
    if name in _VARIABLES:
        return _VARIABLES[name]()
    if name in _WITHOUT_EFFECT:
        return os.environ.get(name)
    raise AttributeError(f"TileLang has no environment variable {name}")


def deprecated(*reasons: Any, **named: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: calls of the function warn, with the reasons given."""
    text = ", ".join([*map(str, reasons), *(f"{name}: {value}" for name, value in named.items())])

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def warning(*args: Any, **kwargs: Any) -> Any:
            warnings.warn(f"{function.__name__} is deprecated" + (f" ({text})" if text else ""), DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return warning

    return mark


def _source_hook(name: str) -> Callable[..., NoReturn]:
    def register(*args: Any, **kwargs: Any) -> NoReturn:
        fail(
            Kind.TARGET_FEATURE,
            f"tilelang.{name} changes the generated source, which this version does not let a program do",
            span_of_caller(),
            because="a kernel is kept under its source, and its memory accesses were checked before that was written",
            help="write the change into the program; kernel.get_kernel_source() shows what is generated",
        )

    register.__name__ = register.__qualname__ = name
    register.__doc__ = "A hook on the generated source: refused."
    return register


SOURCE_HOOKS = tuple(_source_hook(f"register_{language}_postproc{suffix}") for language in ("cuda", "c", "hip") for suffix in ("", "_callback"))
