"""Scalar expressions: immutable, interned, typed (floor 2).

Structural equality is identity: two equal expressions are one object, so compiler code compares with `is`. `==` builds a comparison node,
and the truth value of an expression is an error with a hint. Constructors fold constants and integer identities; all other algebra belongs to
`tilewright.arith`.
"""

from __future__ import annotations

import difflib
import operator
import struct
import threading
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from tilewright import dtypes
from tilewright.dtypes import SCALAR_DTYPES, DType, as_dtype, promote
from tilewright.errors import Kind, Span, fail
from tilewright.ir.constants import convert_constant, fold_constants
from tilewright.ir.expr_text import print_expr
from tilewright.ir.intrinsic import Intrinsic
from tilewright.ir.operation import COMPARISONS as COMPARISONS
from tilewright.ir.operation import LOGICAL as LOGICAL
from tilewright.ir.operation import Op as Op
from tilewright.ir.operation import Rounding as Rounding
from tilewright.spans import span_of_caller

if TYPE_CHECKING:
    from tilewright.ir.buffer import Buffer


class Expr:
    """One node. `args` are its operands; `attribute` is what else identifies it:

    CONST the Python value · VAR the name · LOAD the buffer · CALL the intrinsic · CAST the rounding mode · others None.
    """

    __slots__ = ("__weakref__", "args", "attribute", "dtype", "op")
    op: Op
    dtype: DType
    args: tuple[Expr, ...]
    attribute: Any
    numpy_operator: ClassVar[Callable[..., Expr]]  # set once by tilewright.ir.numpy_operators

    __hash__ = object.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        if self.op is Op.VAR:
            raise TypeError("a variable's identity is the object: pickle the program, not an expression")
        return _intern, (self.op, self.dtype, self.args, self.attribute)

    # -- arithmetic: every operator builds a node
    def __add__(self, other: Any) -> Expr:
        return binary(Op.ADD, self, other)

    def __radd__(self, other: Any) -> Expr:
        return binary(Op.ADD, other, self)

    def __sub__(self, other: Any) -> Expr:
        return binary(Op.SUB, self, other)

    def __rsub__(self, other: Any) -> Expr:
        return binary(Op.SUB, other, self)

    def __mul__(self, other: Any) -> Expr:
        return binary(Op.MUL, self, other)

    def __rmul__(self, other: Any) -> Expr:
        return binary(Op.MUL, other, self)

    def __truediv__(self, other: Any) -> Expr:
        return divide(self, other)

    def __rtruediv__(self, other: Any) -> Expr:
        return divide(other, self)

    def __floordiv__(self, other: Any) -> Expr:
        return binary(Op.FLOORDIV, self, other)

    def __rfloordiv__(self, other: Any) -> Expr:
        return binary(Op.FLOORDIV, other, self)

    def __mod__(self, other: Any) -> Expr:
        return binary(Op.FLOORMOD, self, other)

    def __rmod__(self, other: Any) -> Expr:
        return binary(Op.FLOORMOD, other, self)

    def __pow__(self, other: Any) -> Expr:
        fail(
            Kind.POWER_OPERATOR,
            "`**` is not defined on values inside a kernel",
            span_of_caller(),
            because="only Python numbers have `**`; a kernel computes powers with T.pow",
            help="write T.pow(x, y), or x * x for a square",
        )

    __rpow__ = __pow__

    def __matmul__(self, other: Any) -> NoReturn:
        refuse_matmul(self)

    __rmatmul__ = __matmul__

    def __and__(self, other: Any) -> Expr:
        return binary(Op.BIT_AND, self, other)

    def __rand__(self, other: Any) -> Expr:
        return binary(Op.BIT_AND, other, self)

    def __or__(self, other: Any) -> Expr:
        return binary(Op.BIT_OR, self, other)

    def __ror__(self, other: Any) -> Expr:
        return binary(Op.BIT_OR, other, self)

    def __xor__(self, other: Any) -> Expr:
        return binary(Op.BIT_XOR, self, other)

    def __rxor__(self, other: Any) -> Expr:
        return binary(Op.BIT_XOR, other, self)

    def __lshift__(self, other: Any) -> Expr:
        return binary(Op.SHIFT_LEFT, self, other)

    def __rlshift__(self, other: Any) -> Expr:
        return binary(Op.SHIFT_LEFT, other, self)

    def __rshift__(self, other: Any) -> Expr:
        return binary(Op.SHIFT_RIGHT, self, other)

    def __rrshift__(self, other: Any) -> Expr:
        return binary(Op.SHIFT_RIGHT, other, self)

    def __neg__(self) -> Expr:
        return unary(Op.NEG, self)

    def __pos__(self) -> Expr:
        return self

    def __invert__(self) -> Expr:
        return unary(Op.NOT if self.dtype.is_bool else Op.BIT_NOT, self)

    def __abs__(self) -> Expr:
        if self.dtype.is_integer:
            return select(self < 0, -self, self)
        # The difference turns -0.0 into 0.0, which a negation where x < 0 would leave. float8_e8m0fnu has neither zero nor sign.
        return self if self.dtype.mantissa_bits == 0 else select(self <= 0, 0 - self, self)

    def __eq__(self, other: Any) -> Expr:  # type: ignore[override]
        return binary(Op.EQ, self, other)

    def __ne__(self, other: Any) -> Expr:  # type: ignore[override]
        return binary(Op.NE, self, other)

    def __lt__(self, other: Any) -> Expr:
        return binary(Op.LT, self, other)

    def __le__(self, other: Any) -> Expr:
        return binary(Op.LE, self, other)

    def __gt__(self, other: Any) -> Expr:
        return binary(Op.GT, self, other)

    def __ge__(self, other: Any) -> Expr:
        return binary(Op.GE, self, other)

    def astype(self, dtype: Any) -> Expr:
        """This value converted to `dtype`, rounding to nearest even."""
        return convert(self, parse_dtype(dtype))

    def __getitem__(self, key: Any) -> Any:
        if self.op is Op.LOAD:
            fail(
                Kind.INDEX_COUNT,
                f"`{self}` is one element, and it is indexed again",
                span_of_caller(),
                because="an element takes all its indices in one pair of brackets",
                help=f"write {self.buffer.name}[i, j] rather than {self.buffer.name}[i][j]",
            )
        fail(
            Kind.INDEX_COUNT,
            f"`{self}` is one {self.dtype!s}, and it is indexed",
            span_of_caller(),
            because="only buffers have elements",
            help="index a tensor or a tile",
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        name = f"{self.buffer.name}[i, j]" if self.op is Op.LOAD else "an element of a buffer, or a T.alloc_var"
        fail(
            Kind.STORE_CONSTANT,
            f"`{self}` is a value, and nothing can be stored into it",
            span_of_caller(),
            because="a value is fixed where it is computed; only buffers and variables change",
            help=f"assign to {name}",
        )

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Expr:
        return Expr.numpy_operator(function, method, inputs)

    def __bool__(self) -> bool:
        fail(
            Kind.EXPRESSION_CONDITION,
            f"the truth of `{self}` is known only when the kernel runs",
            span_of_caller(),
            because="Python asked for a bool while the kernel was being traced; only `if`, `while`, `and`, `or`, `not` and `x if c else y` "
            "written directly in a kernel or macro become code",
            help="write T.max, T.min or T.if_then_else for a choice, move the test into the kernel, or decorate the helper function with @T.macro",
        )

    def _as_number(self) -> Any:
        fail(
            Kind.EXPRESSION_AS_NUMBER,
            f"`{self}` is known only when the kernel runs; Python needs its value now",
            span_of_caller(),
            because="Python's own functions, list sizes and shapes of tiles are computed while the kernel is traced",
            help="convert with T.cast, compute with the T.* function of that name, or use a Python number here",
        )

    __int__ = __index__ = __float__ = __len__ = __round__ = __trunc__ = __floor__ = __ceil__ = _as_number
    __iter__ = _as_number

    def __str__(self) -> str:
        return print_expr(self)

    def __repr__(self) -> str:
        return f"<{self.dtype!s} {print_expr(self)}>"

    # -- queries used all over the compiler
    @property
    def is_const(self) -> bool:
        return self.op is Op.CONST

    @property
    def value(self) -> Any:
        """The Python value of a CONST."""
        if self.op is not Op.CONST:
            raise ValueError(f"{self!r} is no constant")
        return self.attribute

    @property
    def name(self) -> str:
        """The name of a VAR."""
        return str(self.attribute)

    @property
    def buffer(self) -> Buffer:
        """The buffer that a LOAD reads."""
        buffer: Buffer = self.attribute
        return buffer


_interned: weakref.WeakValueDictionary[tuple[Any, ...], Expr] = weakref.WeakValueDictionary()
_interning = threading.Lock()


def _new(op: Op, dtype: DType, args: tuple[Expr, ...], attribute: Any) -> Expr:
    node = object.__new__(Expr)
    node.op, node.dtype, node.args, node.attribute = op, dtype, args, attribute
    return node


def _intern(op: Op, dtype: DType, args: tuple[Expr, ...], attribute: Any = None) -> Expr:
    # ids are safe as keys: an entry lives no longer than its node, and the node keeps its operands and its attribute alive.
    detail = struct.pack("<d", attribute) if isinstance(attribute, float) else attribute if op is Op.CONST else id(attribute)
    key = (op, dtype, detail, *map(id, args))
    node = _interned.get(key)
    if node is None:
        with _interning:  # programs may be compiled in several threads
            node = _interned.get(key)
            if node is None:
                node = _interned[key] = _new(op, dtype, args, attribute)
    return node


def var(name: str, dtype: DType = dtypes.int32) -> Expr:
    """A fresh variable: its identity is the object, the name is only for printing."""
    return _new(Op.VAR, dtype, (), name)


def const(value: Any, dtype: DType | None = None) -> Expr:
    """A constant; the value is wrapped or rounded to the dtype. Python ints are int32 (int64 beyond its range), floats float32."""
    if isinstance(value, np.generic):
        dtype = dtype or as_dtype(value.dtype)
        value = value.item()
    if dtype is None:
        if isinstance(value, bool):
            dtype = dtypes.bool_
        elif isinstance(value, int):
            dtype = dtypes.int32 if -(1 << 31) <= value < (1 << 31) else dtypes.int64 if value < (1 << 63) else dtypes.uint64
            if not dtype.minimum <= value <= dtype.maximum:
                because = "whole numbers lie between those of int64 and uint64"
                fail(Kind.VALUE_RANGE, f"no dtype holds the number {value}", span_of_caller(), because=because, help="use a float, as in 1e30")
        else:
            dtype = dtypes.float32
    return _intern(Op.CONST, dtype, (), convert_constant(value, dtype))


def as_expr(value: Any, dtype: DType | None = None) -> Expr:
    """A Python number, numpy scalar or expression as an expression; with `dtype`, constants take it directly.

    Raises TileError for anything else.
    """
    if isinstance(value, Expr):
        return value
    if isinstance(value, (bool, int, float, np.generic)):
        return const(value, dtype)
    loaded = getattr(value, "as_expression", None)  # alloc_var cells, one-element regions
    if loaded is not None:
        found = loaded()
        if isinstance(found, Expr):
            return found
    if value is None:
        fail(
            Kind.OPERAND,
            "None cannot take part in an expression",
            span_of_caller(),
            because="a function that is called for its effect, such as T.copy, gives no value",
            help="return a value from the macro or helper; of the atomics, give the previous value with return_prev=True",
        )
    fail(
        Kind.OPERAND,
        f"{describe_operand(value)} cannot take part in an expression",
        span_of_caller(),
        because="expressions are made of numbers, loop and block indices, scalars and single elements of buffers",
        help="give a number, or one element as in A[i, j]; an array goes into the kernel as a T.Tensor parameter",
    )


def describe_operand(value: Any) -> str:
    """A short noun phrase for an object that turned up in the wrong place."""
    if isinstance(value, type):
        return f"the type {value.__name__}"
    described = getattr(value, "describe", None)
    if callable(described):
        return str(described())
    match value:
        case None:
            return "None"
        case Expr():
            return f"the value `{value}`"
        case DType():
            return f"the dtype {value!s}"
        case bool() | int() | float() | complex():
            return f"the number {value!r}" if not isinstance(value, bool) else repr(value)
        case str() if len(value) <= 40:
            return f"the string {str(value)!r}"
        case FunctionType():
            return "a lambda" if value.__name__ == "<lambda>" else f"the Python function {value.__name__}"
    return f"a Python {type(value).__name__}"


def as_integer(value: Any) -> int | None:
    """The int that a Python or numpy object stands for; None where it stands for none."""
    if isinstance(value, Expr) or hasattr(value, "as_expression"):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def parse_dtype(value: Any, span: Span | None = None) -> DType:
    """A dtype in any spelling; a diagnostic where it is none."""
    try:
        return as_dtype(value)
    except ValueError:
        help = 'write for example "float32"'
        if isinstance(value, str):
            close = difflib.get_close_matches(value, [str(d) for d in SCALAR_DTYPES], 1, 0.6)
            help = f'did you mean "{close[0]}"?' if close else help
        elif isinstance(value, Expr):
            help = "write a dtype there; a conversion takes the value first, as in T.cast(x, 'float16')"
        elif hasattr(value, "as_expression"):
            help = "write its dtype, as in A.dtype"
        shown = repr(value) if isinstance(value, str) else describe_operand(value)
        because = 'a dtype is a name such as "float16", T.float16, or a dtype of numpy or torch'
        fail(Kind.DTYPE_NAME, f"{shown} is no dtype", span or span_of_caller(), because=because, help=help)


def refuse_matmul(value: Any) -> NoReturn:
    """`a @ b`: a product is a statement on tiles."""
    fail(
        Kind.BUFFER_OPERATOR,
        f"`@` is applied to {describe_operand(value)}",
        span_of_caller(),
        because="a product of matrices is a tile operation with a result of its own",
        help="write T.gemm(A, B, C), which adds the product to the tile C",
    )


def convert(value: Expr, dtype: DType, rounding: Rounding = Rounding.NEAREST_EVEN) -> Expr:
    """`cast` as a user may ask for it. Raises TileError (cast-dtype) where the conversion has no meaning."""
    if value.dtype.lanes not in (1, dtype.lanes):
        fail(
            Kind.CAST_DTYPE,
            f"`{value}` is {value.dtype!s}, which cannot become {dtype!s}",
            span_of_caller(),
            because="a conversion keeps the number of lanes",
            help=f"convert to {value.dtype.lanes} lanes, as in {dtype.with_lanes(value.dtype.lanes)!s}",
        )
    if (dtype == dtypes.handle) != (value.dtype == dtypes.handle) and not (value.dtype.is_integer or dtype.is_integer):
        fail(
            Kind.CAST_DTYPE,
            f"`{value}` is {value.dtype!s}, which cannot become {dtype!s}",
            span_of_caller(),
            because="an address is a whole number",
            help="convert between handles and 64-bit integers only",
        )
    return cast(value, dtype, rounding)


def binary(op: Op, left: Any, right: Any) -> Expr:
    """`left op right` with TileLang's promotion; comparisons give bool."""
    a, b = as_expr(left), as_expr(right)
    if a.dtype == b.dtype == dtypes.bool_ and op in (Op.BIT_AND, Op.BIT_OR):
        return logical(Op.AND if op is Op.BIT_AND else Op.OR, a, b)
    common = _operand_dtype(op, a, b)
    a, b = cast(a, common), cast(b, common)
    result = dtypes.bool_.with_lanes(common.lanes) if op in COMPARISONS else common
    folded = _fold_binary(op, a, b, common)
    return folded if folded is not None else _intern(op, result, (a, b))


def _common_dtype(op: Op, a: Expr, b: Expr) -> DType:
    """The dtype in which two operands meet; a scalar is given to all lanes of a vector."""
    if a.dtype.lanes == b.dtype.lanes:
        return promote(a.dtype, b.dtype)
    if a.dtype.lanes > 1 and b.dtype.lanes > 1:
        fail(
            Kind.OPERAND,
            f"`{op.value}` has operands of {a.dtype!s} and {b.dtype!s}",
            span_of_caller(),
            because="vectors are combined lane by lane",
            help="give both the same number of lanes",
        )
    return promote(a.dtype.scalar, b.dtype.scalar).with_lanes(max(a.dtype.lanes, b.dtype.lanes))


def _operand_dtype(op: Op, a: Expr, b: Expr) -> DType:
    common = _common_dtype(op, a, b)
    if op in (Op.SHIFT_LEFT, Op.SHIFT_RIGHT) and not a.dtype.is_bool:
        common = a.dtype.with_lanes(common.lanes)
    if common.is_bool and op not in COMPARISONS and op not in (Op.BIT_XOR, Op.MIN, Op.MAX):
        return dtypes.int32.with_lanes(common.lanes)
    bitwise = op in (Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR, Op.SHIFT_LEFT, Op.SHIFT_RIGHT)
    if bitwise and (common.is_float or (b.dtype.is_float and not a.dtype.is_bool)):
        fail(
            Kind.OPERAND,
            f"`{op.value}` works on bits, but an operand is {common if common.is_float else b.dtype!s}",
            span_of_caller(),
            because="bitwise operators and shifts take integers or bools",
            help="convert with T.cast, or look at the bits with T.reinterpret(x, 'uint32')",
        )
    return common


def _fold_binary(op: Op, a: Expr, b: Expr, dtype: DType) -> Expr | None:
    if op in (Op.SHIFT_LEFT, Op.SHIFT_RIGHT) and b.is_const and not 0 <= b.value < dtype.bits:
        fail(
            Kind.OPERAND,
            f"`{a} {op.value} {b}` shifts {dtype!s} by {b}",
            span_of_caller(),
            because=f"the count of a shift of {dtype!s} lies in [0, {dtype.bits})",
            help="correct the count, or convert to a wider integer first",
        )
    if op in (Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD) and dtype.is_integer and b.is_const and b.value == 0:
        fail(
            Kind.DIVISION_BY_ZERO,
            f"`{a} {op.value} 0` divides by zero",
            span_of_caller(),
            because="an integer has no quotient by zero",
            help="check the divisor; it is a constant when the kernel is traced",
        )
    if dtype.lanes > 1:
        return None
    if a.is_const and b.is_const:
        folded = fold_constants(op, a.value, b.value, dtype)
        return None if folded is None else const(folded, None if op in COMPARISONS else dtype)
    if op in COMPARISONS and a is b and not dtype.is_float:
        return const(op in (Op.EQ, Op.LE, Op.GE))
    if not dtype.is_integer:
        return None
    if b.is_const:
        if b.value == 0:
            if op in (Op.ADD, Op.SUB, Op.BIT_OR, Op.BIT_XOR, Op.SHIFT_LEFT, Op.SHIFT_RIGHT):
                return a
            if op in (Op.MUL, Op.BIT_AND):
                return b
        if b.value == 1:
            if op in (Op.MUL, Op.FLOORDIV, Op.TRUNCDIV):
                return a
            if op in (Op.FLOORMOD, Op.TRUNCMOD):
                return const(0, dtype)
    if a.is_const and a.value == 0:
        if op in (Op.ADD, Op.BIT_OR, Op.BIT_XOR):
            return b
        if op in (Op.MUL, Op.BIT_AND):
            return a
    if a.is_const and a.value == 1 and op is Op.MUL:
        return b
    if op is Op.SUB and a is b:
        return const(0, dtype)
    if op in (Op.MIN, Op.MAX) and a is b:
        return a
    return None


def divide(left: Any, right: Any) -> Expr:
    """`left / right`, for floats only: on integers it could mean either quotient."""
    a, b = as_expr(left), as_expr(right)
    common = _common_dtype(Op.DIV, a, b)
    if not common.is_float:
        fail(
            Kind.INTEGER_DIVISION,
            f"`{a} / {b}` divides two integers ({a.dtype!s} and {b.dtype!s})",
            span_of_caller(),
            because="it could mean the floor, the truncated or the real quotient",
            help="write // for the floor, T.truncdiv for C's quotient, or convert one side with T.cast",
        )
    return _intern(Op.DIV, common, (cast(a, common), cast(b, common)))


def unary(op: Op, value: Any) -> Expr:
    a = as_expr(value)
    if op is Op.NOT:
        a = as_condition(a)
        if a.is_const:
            return const(not a.value)
        return a.args[0] if a.op is Op.NOT else _intern(Op.NOT, dtypes.bool_, (a,))
    if a.dtype.is_bool:
        a = cast(a, dtypes.int32.with_lanes(a.dtype.lanes))
    if op is Op.BIT_NOT and a.dtype.is_float:
        fail(
            Kind.OPERAND,
            f"`~` works on bits, but the operand is {a.dtype!s}",
            span_of_caller(),
            because="bitwise operators take integers or bools",
            help="convert with T.cast, or look at the bits with T.reinterpret(x, 'uint32')",
        )
    if a.is_const:
        return const(-a.value if op is Op.NEG else ~a.value, a.dtype)
    return _intern(op, a.dtype, (a,))


def as_condition(value: Any) -> Expr:
    """A bool expression: numbers count as true where they are not zero."""
    a = as_expr(value)
    if a.dtype.lanes > 1:
        because, help = "a condition is one bool", "test one lane with T.extract_lane(x, 0), or choose lane by lane with T.Select"
        fail(Kind.OPERAND, f"`{a}` is {a.dtype!s}, which has no single truth value", span_of_caller(), because=because, help=help)
    return a if a.dtype.is_bool else binary(Op.NE, a, const(0, a.dtype))


def logical(op: Op, left: Any, right: Any) -> Expr:
    """`left and right`, `left or right`: the right side counts only where the left does not decide."""
    a, b = as_condition(left), as_condition(right)
    for x, y in ((a, b), (b, a)):
        if x.is_const:
            return (y if x.value else x) if op is Op.AND else (x if x.value else y)
    return a if a is b else _intern(op, dtypes.bool_, (a, b))


def select(condition: Any, if_true: Any, if_false: Any, *, is_lazy: bool = False) -> Expr:
    """`if_true` where the condition holds, else `if_false`, lane by lane; lazy: only the taken side is evaluated."""
    c, a, b = as_expr(condition), as_expr(if_true), as_expr(if_false)
    c = c if c.dtype.lanes > 1 and c.dtype.is_bool and not is_lazy else as_condition(c)
    common = _common_dtype(Op.SELECT, cast(a, a.dtype.with_lanes(max(c.dtype.lanes, a.dtype.lanes))), b)
    a, b = cast(a, common), cast(b, common)
    if c.is_const:
        return a if c.value else b
    return a if a is b else _intern(Op.IF_THEN_ELSE if is_lazy else Op.SELECT, common, (c, a, b))


def minimum(left: Any, right: Any) -> Expr:
    return binary(Op.MIN, left, right)


def maximum(left: Any, right: Any) -> Expr:
    return binary(Op.MAX, left, right)


def ceildiv(left: Any, right: Any) -> Any:
    """The quotient rounded up; Python ints give a Python int. A divisor that only the kernel knows is positive: it is the size of a tile."""
    if isinstance(left, int) and isinstance(right, int) and right != 0:
        return -(-left // right)
    a, b = as_expr(left), as_expr(right)
    if b.is_const and b.value == 0:
        fail(
            Kind.DIVISION_BY_ZERO,
            f"T.ceildiv of `{a}` and 0 divides by zero",
            span_of_caller(),
            because="an integer has no quotient by zero",
            help="check the divisor; it is a constant when the kernel is traced",
        )
    if a.dtype.is_float or b.dtype.is_float:
        fail(
            Kind.OPERAND,
            f"T.ceildiv was given `{a}` ({a.dtype!s}) and `{b}` ({b.dtype!s})",
            span_of_caller(),
            because="it counts how many tiles cover a size: both are integers",
            help="write T.ceil(x / y) for floats",
        )
    if b.is_const and b.value < 0:
        a, b = -a, -b
    return (a + (b - 1)) // b


def cast(value: Expr, dtype: DType, rounding: Rounding = Rounding.NEAREST_EVEN) -> Expr:
    """The value in another dtype. Floats to integers truncate; integers wrap; to bool means `!= 0`."""
    if value.dtype is dtype or value.dtype == dtype:
        return value
    if dtype.lanes > 1 and value.dtype.lanes == 1:
        return _intern(Op.CAST, dtype, (cast(value, dtype.scalar, rounding),), rounding)
    if value.is_const and rounding is Rounding.NEAREST_EVEN:
        return const(value.value, dtype)
    if dtype.is_bool:
        return binary(Op.NE, value, const(0, value.dtype.scalar))
    return _intern(Op.CAST, dtype, (value,), rounding)


def reinterpret(value: Any, dtype: DType) -> Expr:
    """The same bits read as another dtype of equal width."""
    a = as_expr(value)
    if a.dtype.bits * a.dtype.lanes != dtype.bits * dtype.lanes:
        fail(
            Kind.VIEW_SIZE,
            f"{a.dtype!s} has {a.dtype.bits * a.dtype.lanes} bits, {dtype!s} has {dtype.bits * dtype.lanes}",
            span_of_caller(),
            because="T.reinterpret keeps the bits, so both dtypes must have the same width",
            help="T.cast converts the value instead",
        )
    return a if a.dtype == dtype else _intern(Op.REINTERPRET, dtype, (a,))


def load(buffer: Buffer, indices: tuple[Expr, ...]) -> Expr:
    """One element of a buffer, read when the statement that holds this expression runs."""
    return _intern(Op.LOAD, buffer.dtype, indices, buffer)


def call(intrinsic: Intrinsic, *args: Any) -> Expr:
    """A call of a scalar function; the arguments must already have the dtypes it takes."""
    operands = tuple(as_expr(a) for a in args)
    node = _new if not intrinsic.is_pure else _intern
    return node(Op.CALL, intrinsic.result(tuple(a.dtype for a in operands)), operands, intrinsic)


def rebuild(node: Expr, args: tuple[Expr, ...], attribute: Any = None) -> Expr:
    """The same operation on other operands, folded again."""
    attribute = node.attribute if attribute is None else attribute
    match node.op:
        case Op.CONST | Op.VAR:
            return node
        case Op.LOAD:
            return load(attribute, args)
        case Op.CALL:
            return call(attribute, *args)
        case Op.CAST:
            return cast(args[0], node.dtype, attribute)
        case Op.REINTERPRET:
            return reinterpret(args[0], node.dtype)
        case Op.SELECT | Op.IF_THEN_ELSE:
            return select(*args, is_lazy=node.op is Op.IF_THEN_ELSE)
        case Op.AND | Op.OR:
            return logical(node.op, *args)
        case Op.NOT | Op.NEG | Op.BIT_NOT:
            return unary(node.op, args[0])
        case Op.DIV:
            return divide(*args)
        case _:
            return binary(node.op, *args)
