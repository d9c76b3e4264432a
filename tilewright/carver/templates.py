"""Common computations as problems for the search (floor 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from tilewright.carver.arch import Architecture
from tilewright.carver.search import Hint, Operand, Problem, search
from tilewright.dtypes import DType
from tilewright.errors import Kind, fail
from tilewright.ir.expr import describe_operand, parse_dtype
from tilewright.spans import span_of_caller


class Template:
    """A computation; `with_arch(...)` says on which machine, `recommend_hints(...)` gives sizes to try."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.arch: Architecture | None = None

    def with_arch(self, arch: Architecture) -> Template:
        """The template for a machine of `tilewright.carver.arch`; gives itself."""
        if not isinstance(arch, Architecture):
            _refuse(f"with_arch was given {describe_operand(arch)}", "it takes a machine", 'write .with_arch(carver.arch.CUDA("sm_90a"))')
        self.arch = arch
        return self

    def recommend_hints(self, topk: int = 10) -> list[Hint]:
        """Up to `topk` hints, the most promising first.

        Raises TileError (option-value) without a machine, and for a number of hints that is not positive.
        """
        if self.arch is None:
            _refuse("recommend_hints was asked before with_arch", "tile sizes depend on the machine", "call .with_arch(...) first")
        if isinstance(topk, bool) or not isinstance(topk, int) or topk < 1:
            _refuse(f"topk is {describe_operand(topk)}", "it counts hints", "give a positive int")
        return search(self.problem, self.arch, topk)


def _refuse(message: str, because: str, help: str) -> NoReturn:
    fail(Kind.OPTION_VALUE, message, span_of_caller(), because=because, help=help)


def _size(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        fail(
            Kind.SHAPE_VALUE,
            f"{name} of the template is {describe_operand(value)}",
            span_of_caller(),
            because="hints are made for sizes that are known",
            help="give a positive int; for T.dynamic sizes, a typical one",
        )
    return value


@dataclass(frozen=True)
class _Types:
    """Dtypes of inputs, of the result, and of sums."""

    operand: DType
    result: DType
    accumulator: DType

    @classmethod
    def of(cls, in_dtype: Any, out_dtype: Any, accum_dtype: Any) -> _Types:
        return cls(parse_dtype(in_dtype), parse_dtype(out_dtype), parse_dtype(accum_dtype))


class MatmulTemplate(Template):
    """C[M, N] = A[M, K] @ B[K, N]; transposed operands and a bias change nothing in the sizes."""

    def __init__(
        self,
        M: int,
        N: int,
        K: int,
        trans_A: bool = False,
        trans_B: bool = True,
        in_dtype: Any = "float16",
        out_dtype: Any = "float16",
        accum_dtype: Any = "float32",
        with_bias: bool = False,
    ) -> None:
        types = _Types.of(in_dtype, out_dtype, accum_dtype)
        sizes = _size(M, "M"), _size(N, "N")
        operands = Operand(types.operand, (0,), (0,)), Operand(types.operand, (1,), (0,))
        super().__init__(Problem(sizes, (_size(K, "K"),), operands, types.result, types.accumulator, 2.0, is_product=True))


class GEMVTemplate(Template):
    """y[N] = A[N, K] @ x[K]."""

    def __init__(
        self, N: int, K: int, trans_B: bool = True, in_dtype: Any = "float16", out_dtype: Any = "float16", accum_dtype: Any = "float32", with_bias: bool = False
    ) -> None:
        types = _Types.of(in_dtype, out_dtype, accum_dtype)
        operands = Operand(types.operand, (0,), (0,)), Operand(types.operand, (), (0,))
        super().__init__(Problem((_size(N, "N"),), (_size(K, "K"),), operands, types.result, types.accumulator, 2.0))


class ElementwiseTemplate(Template):
    """One result per element."""

    def __init__(self, shape: Any, dtype: Any = "float16") -> None:
        sizes = tuple(_size(n, "shape") for n in (shape if isinstance(shape, (list, tuple)) else [shape]))
        kind = parse_dtype(dtype)
        super().__init__(Problem(sizes, (), (Operand(kind, tuple(range(len(sizes)))),), kind, kind, 1.0))


class GeneralReductionTemplate(Template):
    """A reduction: `structure` has an S for each axis that stays, and an R for each that is combined, as in "SSR"."""

    def __init__(self, structure: str, shape: Any, dtype: Any = "float16") -> None:
        if not isinstance(structure, str) or set(structure) - {"S", "R"} or len(structure) != len(shape) or "S" not in structure:
            _refuse(f"the structure is {structure!r}, for the shape {shape!r}", "it has one letter per axis, S or R, and one S at least", 'write "SR" for rows')
        sizes = [_size(n, "shape") for n in shape]
        spatial = tuple(n for n, letter in zip(sizes, structure, strict=True) if letter == "S")
        reduction = tuple(n for n, letter in zip(sizes, structure, strict=True) if letter == "R")
        kind = parse_dtype(dtype)
        operand = Operand(kind, tuple(range(len(spatial))), tuple(range(len(reduction))))
        super().__init__(Problem(spatial, reduction, (operand,), kind, parse_dtype("float32"), 1.0))


class FlashAttentionTemplate(Template):
    """Attention: `block` counts queries, `rstep` keys; a block holds rows of all `head_dim` columns."""

    def __init__(
        self,
        batch_size: int = 1,
        num_heads: int = 1,
        head_dim: int = 64,
        seq_length: int = 1024,
        seq_kv_length: int = 1024,
        is_causal: bool = False,
        in_dtype: Any = "float16",
        out_dtype: Any = "float16",
        accum_dtype: Any = "float32",
    ) -> None:
        types, width = _Types.of(in_dtype, out_dtype, accum_dtype), _size(head_dim, "head_dim")
        operands = Operand(types.operand, (), (0,), width), Operand(types.operand, (), (0,), width), Operand(types.operand, (0,), (), width)
        batch = _size(batch_size, "batch_size") * _size(num_heads, "num_heads")
        lengths = (_size(seq_length, "seq_length"),), (_size(seq_kv_length, "seq_kv_length"),)
        flops = 4.0 * width * (0.5 if is_causal else 1.0)
        super().__init__(Problem(*lengths, operands, types.result, types.accumulator, flops, True, batch, width))


class ConvTemplate(Template):
    """A convolution of N images of H x W pixels and C channels with F filters of K x K, as the product of matrices that T.im2col makes of it."""

    def __init__(
        self,
        N: int,
        C: int,
        H: int,
        W: int,
        F: int,
        K: int,
        S: int = 1,
        D: int = 1,
        P: int = 0,
        in_dtype: Any = "float16",
        out_dtype: Any = "float16",
        accum_dtype: Any = "float32",
        with_bias: bool = False,
    ) -> None:
        types, kernel = _Types.of(in_dtype, out_dtype, accum_dtype), _size(K, "K")
        reach = _size(D, "D") * (kernel - 1)
        height, width = ((_size(n, name) + 2 * P - reach - 1) // _size(S, "S") + 1 for n, name in ((H, "H"), (W, "W")))
        pixels = _size(N, "N") * _size(height, "the height of the result") * _size(width, "the width of the result")
        operands = Operand(types.operand, (0,), (0,)), Operand(types.operand, (1,), (0,))
        reduction = (_size(C, "C") * kernel * kernel,)
        super().__init__(Problem((pixels, _size(F, "F")), reduction, operands, types.result, types.accumulator, 2.0, is_product=True))
