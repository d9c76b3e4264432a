"""Accesses to buffers as C (floor 6): flat indices, views, packed elements, and arrays seen as machine registers."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.arith import value_range as vr
from tilewright.arith.value_range import exactly, value_range
from tilewright.codegen.cfamily import types
from tilewright.codegen.cfamily.dialect import Dialect
from tilewright.codegen.cfamily.expressions import Expressions, Index
from tilewright.codegen.cfamily.prelude import Helper
from tilewright.codegen.cfamily.ranges import fits_int32
from tilewright.codegen.cfamily.text import Text, atom, cast, infix
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer, Extent, Scope
from tilewright.ir.expr import Expr, Op, const
from tilewright.ir.stmt import AtomicKind

MEMORY_SCOPES = frozenset({Scope.GLOBAL, Scope.SHARED})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a buffer is found: a variable in value form, or a pointer or array of the storage form."""

    name: str
    is_variable: bool = False


class Memory:
    """The buffers of one function. `places` are filled as they are declared, views after their roots."""

    def __init__(self, expressions: Expressions, dialect: Dialect) -> None:
        self.expressions, self.dialect = expressions, dialect
        expressions.memory = self
        self.places: dict[Buffer, Place] = {}
        self.used: set[Buffer] = set()
        qualifiers = dialect.function_qualifiers
        self._nibble = Helper(
            "tw_nibble",
            f"""template <typename Index>
{qualifiers} unsigned char tw_nibble(const unsigned char* p, Index i) {{ return (unsigned)p[i >> 1] >> (((unsigned)i & 1u) * 4u) & 15u; }}""",
        )
        self._set_nibble = Helper(
            "tw_set_nibble",
            f"""template <typename Index>
{qualifiers} void tw_set_nibble(unsigned char* p, Index i, unsigned code) {{
    unsigned shift = ((unsigned)i & 1u) * 4u;
    p[i >> 1] = (unsigned char)((p[i >> 1] & ~(15u << shift)) | (code & 15u) << shift);
}}""",
        )

    # -- addresses
    def base(self, buffer: Buffer) -> Text:
        """A pointer to element 0."""
        place = self.places.get(buffer)
        if place is not None:
            self.used.add(buffer)
            return atom(place.name)
        if buffer.pointer is not None:
            return cast(f"{types.storage_type(buffer.dtype)}*", self.expressions.value(buffer.pointer))
        if buffer.source is not None:
            return cast(f"{types.storage_type(buffer.dtype)}*", self.base(buffer.source))
        raise CompilerBug(f"the {buffer.scope.value} buffer {buffer.name} has no place here")

    def flat_index(self, buffer: Buffer, indices: tuple[Expr, ...]) -> Index:
        """The number of an element. Each index is inside the buffer, or the access would have been guarded."""
        total: Index | None = None
        for position, extent, stride in zip(indices, buffer.shape, buffer.element_strides(), strict=True):
            part = self._inside(self.expressions.index(position), extent)
            if not (isinstance(stride, int) and stride == 1):
                part = self._product(part, self._extent(stride))
            total = part if total is None else self._sum(total, part)
        return total if total is not None else Index(atom("0"), 32, exactly(0))

    def _extent(self, extent: Extent) -> Index:
        if isinstance(extent, Expr):
            return self.expressions.index(extent)
        return Index(types.integer_literal(extent, 32 if fits_int32(exactly(extent)) else 64), 32 if fits_int32(exactly(extent)) else 64, exactly(extent))

    def _inside(self, part: Index, extent: Extent) -> Index:
        limit = self.expressions.ranges.of(extent).high if isinstance(extent, Expr) else extent
        known = vr.meet(part.range, value_range(0, None if limit is None else max(limit - 1, 0)))
        if known.is_empty:
            return part
        if part.bits == 64 and fits_int32(known):
            return Index(cast("int", part.text), 32, known)
        return Index(part.text, part.bits, known)

    def _product(self, a: Index, b: Index) -> Index:
        if a.range == exactly(0):
            return a
        if a.range == exactly(1):
            return b
        return self.expressions.exact(Op.MUL, a, b, vr.multiply(a.range, b.range))

    def _sum(self, a: Index, b: Index) -> Index:
        if a.range == exactly(0):
            return b
        return a if b.range == exactly(0) else self.expressions.exact(Op.ADD, a, b, vr.add(a.range, b.range))

    def pointer(self, buffer: Buffer, indices: tuple[Expr, ...]) -> Text:
        """The address of an element; of a packed dtype that of its byte."""
        return self._at(buffer, self.flat_index(buffer, indices))

    def _at(self, buffer: Buffer, index: Index) -> Text:
        base = self.base(buffer)
        if buffer.dtype.is_packed:
            index = self._halved(index)
        return base if index.range == exactly(0) else infix("+", base, index.text)

    def _halved(self, index: Index) -> Index:
        if index.range.is_constant:
            half = index.range.residue // 2
            return Index(types.integer_literal(half), 32, exactly(half))
        return Index(infix(">>", index.text, atom("1")), index.bits, vr.floordiv(index.range, exactly(2)))

    def element(self, buffer: Buffer, index: Index) -> Text:
        """A whole-byte element as an lvalue of the storage type."""
        return atom(f"{self.base(buffer).at(15)}[{index.text}]")

    # -- loads
    def load(self, buffer: Buffer, indices: tuple[Expr, ...]) -> Text:
        """The value form."""
        types.refuse_vector_dtype(buffer, buffer.dtype, buffer.span)
        place = self.places.get(buffer)
        if place is not None and place.is_variable:
            return atom(place.name)
        code = self.load_stored(buffer, indices)
        if buffer.dtype.is_packed and buffer.dtype.is_integer:
            return self.dialect.nibble(code, buffer.dtype) if buffer.dtype.is_signed else code
        return self.dialect.from_storage(code, buffer.dtype)

    def load_stored(self, buffer: Buffer, indices: tuple[Expr, ...]) -> Text:
        """The storage form; of packed dtypes the nibble."""
        place = self.places.get(buffer)
        if place is not None and place.is_variable:
            return self.dialect.to_storage(atom(place.name), buffer.dtype)
        index = self.flat_index(buffer, indices)
        if buffer.dtype.is_packed:
            return self.dialect.prelude.call(self._nibble, self.base(buffer), index.text)
        return self.element(buffer, index)

    # -- stores
    def store(self, buffer: Buffer, indices: tuple[Expr, ...], value: Expr) -> str:
        """The statement `buffer[indices] = value`."""
        types.refuse_vector_dtype(buffer, buffer.dtype, buffer.span)
        place = self.places.get(buffer)
        if place is not None and place.is_variable:
            return f"{place.name} = {self.expressions.value(value)};"
        index = self.flat_index(buffer, indices)
        if not buffer.dtype.is_packed:
            return f"{self.element(buffer, index)} = {self.expressions.stored(value)};"
        if buffer.storage.scope in MEMORY_SCOPES:  # another thread may write the other half of the byte
            return f"{self.dialect.atomic_packed(AtomicKind.EXCHANGE, buffer.dtype, self.base(buffer), index.text, self.expressions.value(value))};"
        return f"{self.dialect.prelude.call(self._set_nibble, self.base(buffer), index.text, self.expressions.stored(value))};"

    # -- arrays as registers
    def registers(self, buffer: Buffer, offset: Expr, count: int, register_bits: int) -> tuple[str, ...]:
        """Lvalues of `count` machine registers from element `offset` on: float, double, unsigned or unsigned long long."""
        dtype = buffer.dtype
        first = self.expressions.index(offset)
        elements = register_bits // dtype.bits
        if elements > 1:
            if not first.range.is_divisible(elements):
                raise CompilerBug(f"registers start at element {offset} of {buffer.name}, in the middle of a machine register")
            whole = quotient(offset, elements)
            known = vr.floordiv(first.range, exactly(elements))
            if known.is_constant:
                first = Index(types.integer_literal(known.residue), 32, known)
            elif whole is not None:
                first = self.expressions.index(whole)
            else:
                first = Index(infix(">>", first.text, atom(str(elements.bit_length() - 1))), first.bits, known)
        base = self.base(buffer)
        word = register_type(register_bits, is_float=dtype.is_float and dtype.bits == register_bits)
        if word != types.storage_type(dtype):
            base = cast(f"{word}*", base)
        texts = []
        for number in range(count):
            index = self._sum(first, Index(types.integer_literal(number), 32, exactly(number)))
            position = str(index.range.residue) if index.range.is_constant else index.text
            texts.append(f"{base.at(15)}[{position}]")
        return tuple(texts)


def quotient(node: Expr, divisor: int) -> Expr | None:
    """node / divisor where every term of the node is plainly a multiple, else None."""
    match node.op:
        case Op.CONST if node.value % divisor == 0:
            return const(node.value // divisor, node.dtype)
        case Op.MUL if node.args[1].is_const and node.args[1].value % divisor == 0:
            return node.args[0] * const(node.args[1].value // divisor, node.dtype)
        case Op.ADD | Op.SUB:
            left, right = quotient(node.args[0], divisor), quotient(node.args[1], divisor)
            if left is not None and right is not None:
                return left + right if node.op is Op.ADD else left - right
    return None


def register_type(bits: int, *, is_float: bool) -> str:
    """The C type of a machine register."""
    if is_float:
        return "double" if bits == 64 else "float"
    return types.integer_type(bits, is_signed=False)
