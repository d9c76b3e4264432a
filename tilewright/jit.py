"""`tilewright.compile` and `@tilewright.jit` (floor 8; language.md 1.1 and 13)."""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from tilewright.backends.artifact import CompiledArtifact
from tilewright.driver import CompileOptions, resolve_target
from tilewright.errors import Kind, Label, Span, TileError, fail
from tilewright.ir.expr import describe_operand
from tilewright.ir.program import Program
from tilewright.kernel import Kernel, make_kernel
from tilewright.language.constants_read import ConstantsRead
from tilewright.language.eager import Signature, is_runtime, learn_signature, runtime_names, trace_eager
from tilewright.language.function import PrimFunc, find_origin, resolve_annotations
from tilewright.language.mistakes import bind_arguments
from tilewright.language.rewrite import has_inner_prim_func, rewrite_function
from tilewright.runtime.cuda_tensors import is_on_gpu
from tilewright.spans import span_of_caller


def compile(
    func: Any,
    out_idx: int | Sequence[int] | None = None,
    execution_backend: str | None = None,
    target: Any = None,
    target_host: Any = None,
    verbose: bool | None = None,
    pass_configs: Mapping[Any, Any] | None = None,
    compile_flags: Any = None,
) -> Kernel:
    """A `PrimFunc` as a callable kernel.

    out_idx   positions of parameters that the call allocates and returns; negative ones count from the end.
    target    "cpu" (also "llvm", "c"), "cuda" for the GPU of this machine, an architecture such as "sm_80", "simulate", or "auto", which is the CPU.
    pass_configs, compile_flags   for compilers of GPU code: PassConfigKey to value, and options of NVRTC.

    Raises TileError for mistakes in the program or in the arguments.
    """
    _check_prim_func(func, span_of_caller())
    _check_options(pass_configs, execution_backend, compile_flags)
    options = CompileOptions.of(pass_configs, compile_flags)
    return make_kernel(func, resolve_target(target), output_positions(func.program, out_idx), options)


def lower(func: Any, target: Any = None, target_host: Any = None, out_idx: int | Sequence[int] | None = None, **options: Any) -> CompiledArtifact:
    """What `compile` makes of a `PrimFunc`, as parts: `.kernel_source`, `.host_mod`, `.device_mod` and `.params`. The arguments are those of `compile`."""
    return CompiledArtifact.of(compile(func, out_idx=out_idx, target=target, **options).compiled)


def _check_prim_func(func: Any, span: Span) -> None:
    if isinstance(func, (EagerFunction, LazyFactory)):
        fail(
            Kind.NOT_A_PRIM_FUNC,
            "tilewright.compile was given a function decorated with @tilewright.jit",
            span,
            because="it compiles itself when it is called",
            help="call it, or use its .compile(...) method",
        )
    if not isinstance(func, PrimFunc):
        fail(
            Kind.NOT_A_PRIM_FUNC,
            f"tilewright.compile was given {describe_operand(func)}",
            span,
            because="it compiles a function decorated with @T.prim_func",
            help="decorate the function with @T.prim_func, and pass it without calling it",
        )


def output_positions(program: Program, out_idx: int | Sequence[int] | None) -> tuple[int, ...]:
    """Positions of the parameters that a call returns, in the order given."""
    declared = tuple(k for k, p in enumerate(program.parameters) if p.is_output)
    if out_idx is None:
        return declared
    labels = (Label(span_of_caller()), Label(program.span, program.name))
    if declared:
        fail(
            Kind.OUT_IDX_EAGER,
            f"out_idx={out_idx!r} was given for {program.name}, which makes its outputs with T.empty",
            labels,
            because="outputs are named once: by T.empty and return, or by out_idx",
            help="leave out_idx out",
        )
    count = len(program.parameters)
    positions: list[int] = []
    for item in out_idx if isinstance(out_idx, (list, tuple)) else (out_idx,):
        if not isinstance(item, int) or isinstance(item, bool) or not -count <= item < count:
            fail(
                Kind.OUT_IDX_RANGE,
                f"out_idx={out_idx!r} names parameter {item!r}, but {program.name} has {count} parameter{'s' * (count != 1)}",
                labels,
                because=f"a position lies between {-count} and {count - 1}",
                help=f"the parameters are {', '.join(f'{k}: {p.name}' for k, p in enumerate(program.parameters))}",
            )
        position = item % count
        if program.parameters[position].buffer is None:
            fail(
                Kind.OUT_IDX_RANGE,
                f"out_idx={out_idx!r} names {program.parameters[position].name}, which is no tensor",
                labels,
                because="a call returns tensors",
                help="name the position of a tensor parameter",
            )
        if position in positions:
            fail(
                Kind.OUT_IDX_RANGE,
                f"out_idx={out_idx!r} names {program.parameters[position].name} twice",
                labels,
                because="each output is returned once",
                help="leave one out",
            )
        positions.append(position)
    return tuple(positions)


_BACKENDS = ("auto", "tvm_ffi", "cython", "nvrtc", "torch", "cutedsl", "ctypes")


def _check_options(pass_configs: Any, execution_backend: Any, compile_flags: Any) -> None:
    if pass_configs is not None and not (isinstance(pass_configs, Mapping) and all(isinstance(k, str) for k in pass_configs)):
        fail(
            Kind.OPTION_VALUE,
            f"pass_configs is {describe_operand(pass_configs)}",
            span_of_caller(),
            because="it maps keys such as PassConfigKey.TL_ENABLE_FAST_MATH to values",
            help="write pass_configs={tilewright.PassConfigKey.TL_ENABLE_FAST_MATH: True}",
        )
    is_list = isinstance(compile_flags, (list, tuple)) and all(isinstance(flag, str) for flag in compile_flags)
    if compile_flags is not None and not isinstance(compile_flags, str) and not is_list:
        fail(
            Kind.OPTION_VALUE,
            f"compile_flags is {describe_operand(compile_flags)}",
            span_of_caller(),
            because="it holds options for the compiler of GPU code",
            help='write compile_flags=["-lineinfo"]',
        )
    if execution_backend is not None and not (isinstance(execution_backend, str) and execution_backend in _BACKENDS):
        fail(
            Kind.OPTION_VALUE,
            f"execution_backend is {execution_backend!r}",
            span_of_caller(),
            because=f"known are {', '.join(_BACKENDS)}, which all mean the same here",
            help="leave it out",
        )


def par_compile(
    funcs: Iterable[Any], num_workers: int | None = None, ignore_error: bool = False, *, targets: Sequence[Any] | None = None, **options: Any
) -> list[Kernel | None]:
    """`compile` for each function, in threads; with `ignore_error` a failed one gives None. `targets` are those of the functions one by one."""

    span = span_of_caller()
    if not isinstance(funcs, Iterable):
        fail(
            Kind.NOT_A_PRIM_FUNC,
            f"tilewright.par_compile was given {describe_operand(funcs)}",
            span,
            because="it compiles a list of functions decorated with @T.prim_func",
            help="pass a list",
        )
    if num_workers is not None and (not isinstance(num_workers, int) or num_workers < 1):
        fail(Kind.OPTION_VALUE, f"num_workers is {describe_operand(num_workers)}", span, because="it counts threads", help="leave it out to use all of them")
    funcs = list(funcs)
    for func in funcs:
        _check_prim_func(func, span)

    def one(func: Any, own: dict[str, Any]) -> Kernel | None:
        try:
            return compile(func, **options, **own)
        except TileError:
            if ignore_error:
                return None
            raise

    with ThreadPoolExecutor(num_workers) as pool:
        return list(pool.map(one, funcs, [{}] * len(funcs) if targets is None else [{"target": target} for target in targets]))


def jit(
    func: Callable[..., Any] | None = None,
    *,
    out_idx: int | Sequence[int] | None = None,
    target: Any = None,
    target_host: Any = None,
    execution_backend: str | None = None,
    verbose: bool | None = None,
    pass_configs: Mapping[Any, Any] | None = None,
    debug_root_path: Any = None,
    compile_flags: Any = None,
    torch_op: str | None = None,
    target_argument: str | None = None,
) -> Any:
    """Compiles on call.

    A function that returns a @T.prim_func becomes a factory of kernels, one per set of arguments (lazy style). A function that computes inside
    `with T.Kernel(...)` itself runs when it is called with tensors, one compile per set of T.const sizes and plain arguments (eager style).

    target_argument   names the argument of a factory that says the target, in the place of `target`: the factory can choose tiles by it.

    torch_op   "namespace::name": makes an eager function, or a @T.prim_func, this operator of torch, and gives it (tilewright.torch.register).
    """
    if func is None:
        return functools.partial(
            jit,
            out_idx=out_idx,
            target=target,
            execution_backend=execution_backend,
            pass_configs=pass_configs,
            compile_flags=compile_flags,
            torch_op=torch_op,
            target_argument=target_argument,
        )
    if isinstance(func, PrimFunc):
        return _operator(compile(func, out_idx=out_idx, target=target, pass_configs=pass_configs, compile_flags=compile_flags), torch_op)
    _check_options(pass_configs, execution_backend, compile_flags)
    options = {"pass_configs": pass_configs, "compile_flags": compile_flags}
    rewritten = rewrite_function(func)
    if has_inner_prim_func(rewritten.original) or not _has_launch(rewritten.node):
        return _operator(LazyFactory(func, out_idx, target, options, target_argument), torch_op)
    if out_idx is not None:
        fail(
            Kind.OUT_IDX_EAGER,
            f"out_idx={out_idx!r} was given for the eager function {func.__name__}",
            (Label(span_of_caller()), Label(rewritten.span)),
            because="an eager function makes its outputs with T.empty and returns them",
            help="leave out_idx out",
        )
    return _operator(EagerFunction(func, target, resolve_annotations(rewritten.original, sys._getframe(1)), options), torch_op)


def _operator(made: Any, torch_op: str | None) -> Any:
    """What `jit` made, or the operator of torch that it becomes; the module that makes it stands above this floor."""
    return made if torch_op is None else import_module("tilewright.torch").register(made, torch_op)


def _has_launch(node: ast.FunctionDef) -> bool:
    """Whether the body itself opens a launch."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.With):
            for item in inner.items:
                call = item.context_expr
                name = (
                    call.func.attr
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
                    else call.func.id
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
                    else ""
                )
                if name in ("Kernel", "ClusterKernel"):
                    return True
    return False


class _Specialised:
    """What both styles share: a function, its signature, and the kernels made so far."""

    _HELP_WITH_TENSORS = "write `{name}: T.Tensor(...)` in {function}, which makes it an argument of each call"

    def __init__(self, func: Callable[..., Any], target: Any, options: Mapping[str, Any] | None = None) -> None:
        self.func, self.target, self.options = func, target, dict(options or {})
        self.signature = inspect.signature(func)
        self.kernels: dict[Any, Kernel] = {}
        self._constants: ConstantsRead | None = None
        functools.update_wrapper(self, func)  # type: ignore[arg-type]

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_partial: bool = False) -> dict[str, Any]:
        """Arguments by name, defaults filled in."""
        return dict(bind_arguments(self.func.__name__, self.signature, args, kwargs, span_of_caller(), is_partial=is_partial).arguments)

    def key(self, values: Mapping[str, Any]) -> Any:
        """Tells what is made from the function apart: its compile-time arguments, and the numbers around it that it reads."""
        if self._constants is None:  # not before the first call: what the function names may be defined below it
            self._constants = ConstantsRead(self.func)
        key = (*((name, _freeze(v)) for name, v in values.items()), self._constants.now())
        try:
            hash(key)
        except TypeError:
            name = next(n for n, v in values.items() if not _is_hashable(_freeze(v)))
            fail(
                Kind.UNHASHABLE_ARGUMENT,
                f"the argument {name} of {self.func.__name__} is {describe_operand(values[name])}, which cannot be hashed",
                span_of_caller(),
                because="compile-time arguments are the key under which a kernel is kept",
                help=self._HELP_WITH_TENSORS.format(name=name, function=self.func.__name__)
                if hasattr(values[name], "shape")
                else "pass a tuple, a number, a string or a dtype",
            )
        return key


def _freeze(value: Any) -> Any:
    """A hashable stand-in that tells 1, 1.0 and True apart."""
    if isinstance(value, (list, tuple)):
        return type(value).__name__, tuple(map(_freeze, value))
    return type(value).__name__, value


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


class LazyFactory(_Specialised):
    """A function that returns a prim_func: calling it gives the compiled kernel."""

    _HELP_WITH_TENSORS = "call {function} with sizes and options, and then call what it returns with the tensors"

    def __init__(
        self, func: Callable[..., Any], out_idx: Any, target: Any, options: Mapping[str, Any] | None = None, target_argument: str | None = None
    ) -> None:
        super().__init__(func, target, options)
        self.out_idx, self.target_argument = out_idx, target_argument
        if target_argument is not None and target_argument not in self.signature.parameters:
            fail(
                Kind.OPTION_VALUE,
                f"target_argument is {target_argument!r}, which {func.__name__} does not take",
                span_of_caller(),
                because="it names the argument that says the target",
                help=f"give {func.__name__} such an argument, or pass target=",
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Kernel:
        values = self.bind(args, kwargs)
        key = self.key(values)
        if key not in self.kernels:
            self.kernels[key] = compile(self._trace(values), out_idx=self.out_idx, target=self._target_of(values), **self.options)
        return self.kernels[key]

    def compile(self, *args: Any, **kwargs: Any) -> Kernel:
        """The same as calling it."""
        return self(*args, **kwargs)

    def get_tir(self, *args: Any, **kwargs: Any) -> PrimFunc:
        """The prim_func that the arguments give."""
        return self._trace(self.bind(args, kwargs))

    def get_kernel_source(self, *args: Any, **kwargs: Any) -> str:
        return self(*args, **kwargs).get_kernel_source()

    def par_compile(self, configs: Iterable[Any], num_workers: int | None = None, ignore_error: bool = False) -> list[Kernel | None]:
        """One kernel per configuration, a dictionary or a tuple of arguments."""
        bound = [self.bind((), dict(c)) if isinstance(c, Mapping) else self.bind(tuple(c), {}) for c in configs]
        programs, targets = [self._trace(values) for values in bound], [self._target_of(values) for values in bound]
        return par_compile(programs, num_workers, ignore_error, targets=targets, out_idx=self.out_idx, **self.options)

    def _target_of(self, values: Mapping[str, Any]) -> Any:
        return self.target if self.target_argument is None else values[self.target_argument]

    def _trace(self, values: dict[str, Any]) -> PrimFunc:
        made = self.func(**values)
        if not isinstance(made, PrimFunc):
            fail(
                Kind.NOT_A_PRIM_FUNC,
                f"{self.func.__name__} returned {describe_operand(made)}",
                span_of_caller(),
                because="a lazy @tilewright.jit function returns its inner @T.prim_func",
                help="return the prim_func at the end",
            )
        return made


class EagerFunction(_Specialised):
    """A function of tensors that computes when it is called."""

    def __init__(self, func: Callable[..., Any], target: Any, annotations: dict[str, Any], options: Mapping[str, Any] | None = None) -> None:
        super().__init__(func, target, options)
        self.rewritten = rewrite_function(func)
        self.annotations = annotations
        self.runtime = runtime_names(self.rewritten, annotations)
        self.signatures: dict[Any, Signature] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        values = self.bind(args, kwargs)
        given = [values.pop(name) for name in self.runtime]
        signature = self._signature(values)
        return self._kernel(values, self._sizes(signature, given), self._target_of(given))(*given)

    def _target_of(self, given: Sequence[Any]) -> Any:
        """Without a target of its own, a function runs where its tensors are."""
        return "cuda" if self.target in (None, "auto") and any(map(is_on_gpu, given)) else self.target

    def compile(self, *args: Any, **kwargs: Any) -> Kernel:
        """The kernel for given T.const sizes, named as keywords, and compile-time arguments; tensors may be left out, or given to read the sizes from."""
        return self._kernel(*self._specialisation(args, kwargs))

    def _specialisation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
        """Compile-time arguments and T.const sizes."""
        values, sizes, given = self._compile_time(args, kwargs)
        signature = self._signature(values)
        missing = [n for n in signature.constants if n not in sizes]
        if missing and all(g is not None for g in given):
            sizes = self._sizes(signature, given)
            missing = []
        if missing:
            fail(
                Kind.UNBOUND_SYMBOL,
                f"{self.func.__name__}.compile was not given {', '.join(missing)}",
                span_of_caller(),
                because="a kernel is specialised by its T.const sizes",
                help=f"write .compile({', '.join(f'{n}=...' for n in signature.constants)})",
            )
        for name in sizes:
            if name not in signature.constants:
                close = difflib.get_close_matches(name, [*signature.constants, *self.signature.parameters], 1, 0.5)
                fail(
                    Kind.UNKNOWN_ARGUMENT,
                    f"{self.func.__name__}.compile has no argument `{name}`",
                    span_of_caller(),
                    because=f"its arguments are {', '.join((*signature.constants, *self.signature.parameters))}",
                    help=f"did you mean `{close[0]}`?" if close else "remove it",
                )
        return values, sizes

    def size_names(self, **kwargs: Any) -> tuple[str, ...]:
        """The T.const sizes that a specialisation is named by, for the given compile-time arguments."""
        values, _, _ = self._compile_time((), kwargs)
        return tuple(self._signature(values).constants)

    def get_tir(self, *args: Any, **kwargs: Any) -> PrimFunc:
        """The traced program for given sizes."""
        return self._trace(*self._specialisation(args, kwargs))

    def get_kernel_source(self, *args: Any, **kwargs: Any) -> str:
        return self.compile(*args, **kwargs).get_kernel_source()

    def par_compile(self, configs: Iterable[Any], num_workers: int | None = None, ignore_error: bool = False) -> list[Kernel | None]:
        """One kernel per configuration, a dictionary of sizes and arguments."""
        programs = [self.get_tir(**c) if isinstance(c, Mapping) else self.get_tir(*c) for c in configs]
        return par_compile(programs, num_workers, ignore_error, target=self.target, **self.options)

    def _compile_time(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int], list[Any]]:
        own = {k: v for k, v in kwargs.items() if k in self.signature.parameters}
        sizes = {k: v for k, v in kwargs.items() if k not in own}
        values = self.bind(args, own, is_partial=True)
        given = [values.pop(name, None) for name in self.runtime]
        unknown = [n for n in sizes if not isinstance(sizes[n], int) or isinstance(sizes[n], bool)]
        if unknown:
            fail(
                Kind.SHAPE_VALUE,
                f"{unknown[0]}={sizes[unknown[0]]!r} is no size",
                span_of_caller(),
                because="a T.const size is an int",
                help=f"write {unknown[0]}=128",
            )
        return values, sizes, given

    def _signature(self, values: Mapping[str, Any]) -> Signature:
        key = self.key(values)
        if key not in self.signatures:
            self.signatures[key] = learn_signature(self.rewritten, self.annotations, self.runtime, values)
        return self.signatures[key]

    def _sizes(self, signature: Signature, given: list[Any]) -> dict[str, int]:
        """The T.const sizes, read from the shapes (or strides) of the arguments."""
        sizes: dict[str, int] = {}
        holders: dict[str, str] = {}
        names = {symbol: name for name, symbol in signature.constants.items()}
        for parameter, value in zip(signature.runtime, given, strict=True):
            if parameter.buffer is None:
                continue
            shape = getattr(value, "shape", None)
            shape = shape if isinstance(shape, Sequence) else None
            found = tuple(shape) if shape is not None else ()
            if shape is None or len(found) != parameter.buffer.rank:
                what = f"has {len(found)} dimension{'s' * (len(found) != 1)}" if shape is not None else f"is {describe_operand(value)}"
                fail(
                    Kind.ARGUMENT_RANK if shape is not None else Kind.ARGUMENT_KIND,
                    f"the argument {parameter.name} of {self.func.__name__} {what}, but a {parameter.buffer.rank}-dimensional tensor is expected",
                    (Label(span_of_caller()), Label(parameter.span, f"{parameter.name} is declared here")),
                    because="its shape gives the sizes of the kernel",
                    help="pass a tensor of the declared rank",
                )
            packing = 2 if parameter.buffer.dtype.is_packed else 1
            for axis, (extent, size) in enumerate(zip(parameter.buffer.shape, found, strict=True)):
                name = names.get(extent) if not isinstance(extent, int) else None
                if name is None:
                    continue
                actual = int(size) * (packing if axis == len(found) - 1 else 1)
                if sizes.setdefault(name, actual) != actual:
                    fail(
                        Kind.ARGUMENT_SYMBOL,
                        f"{name} is {sizes[name]} in {holders[name]} but {actual} in {parameter.name}",
                        (Label(span_of_caller()), Label(parameter.span, f"{parameter.name} is declared here")),
                        because="one size has one value",
                        help="pass tensors whose shapes agree",
                    )
                holders.setdefault(name, parameter.name)
            for axis, stride in enumerate(parameter.buffer.given_strides or ()):
                name = names.get(stride) if not isinstance(stride, int) else None
                if name is not None:
                    raw = value.stride()[axis] if hasattr(value, "stride") else value.strides[axis] // value.itemsize
                    sizes.setdefault(name, int(raw))
                    holders.setdefault(name, parameter.name)
        return sizes

    def _kernel(self, values: Mapping[str, Any], sizes: Mapping[str, int], target: Any = None) -> Kernel:
        target = self.target if target is None else target
        key = self.key(values), tuple(sorted(sizes.items())), target if isinstance(target, str) else None
        if key not in self.kernels:
            self.kernels[key] = compile(self._trace(values, sizes), target=target, **self.options)
        return self.kernels[key]

    def _trace(self, values: Mapping[str, Any], sizes: Mapping[str, int]) -> PrimFunc:
        runtime = {name: self.annotations[name] for name in self.runtime if is_runtime(self.annotations.get(name))}
        origin = find_origin(self.rewritten.original, runtime, {"arguments": tuple(values.items()), "sizes": tuple(sizes.items())})
        return PrimFunc.of(origin, lambda: trace_eager(self.rewritten, self.annotations, self.runtime, values, sizes))
