"""Statements of thread-level programs as C (floor 6)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tilewright.arith.value_range import UNLIMITED, ValueRange, dtype_range, value_range
from tilewright.codegen.cfamily import types
from tilewright.codegen.cfamily.dialect import Dialect
from tilewright.codegen.cfamily.expressions import Expressions
from tilewright.codegen.cfamily.memory import Memory
from tilewright.codegen.cfamily.text import OR, UNARY, Lines, Text, atom, cast, infix
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, binary, const, load, logical, var
from tilewright.ir.foreign import ForeignCall, ForeignKind
from tilewright.ir.instruction import AddressOperand, ImmediateOperand, Operand, RegisterOperand, ValueOperand
from tilewright.ir.stmt import (
    Assert,
    Assume,
    AtomicKind,
    AtomicUpdate,
    Barrier,
    BarrierScope,
    Break,
    Continue,
    For,
    If,
    Let,
    LoopKind,
    Prefetch,
    Print,
    Seq,
    Stmt,
    Store,
    WarpExchange,
    While,
)
from tilewright.ir.thread import Address, InstructionCall, Registers, VectorCopy
from tilewright.ir.visit import subexpressions

_PRAGMAS = {
    LoopKind.SERIAL: "#pragma unroll 1",
    LoopKind.PIPELINED: "#pragma unroll 1",
    LoopKind.UNROLLED: "#pragma unroll",
    LoopKind.VECTORIZED: "#pragma unroll",
}
_COMBINE = {
    AtomicKind.ADD: Op.ADD,
    AtomicKind.MAX: Op.MAX,
    AtomicKind.MIN: Op.MIN,
    AtomicKind.AND: Op.BIT_AND,
    AtomicKind.OR: Op.BIT_OR,
    AtomicKind.XOR: Op.BIT_XOR,
}
_VECTORS = {2: "unsigned short", 4: "unsigned", 8: "uint2", 16: "uint4"}


@dataclass
class Sites:
    """The asserts of a module, in order of emission; status n is entry n - 1."""

    asserts: list[Assert] = field(default_factory=list)


class Statements:
    """Prints the statements of one function.

    status       the name of the pointer to the status word.
    is_trapping  whether a failed assert ends the whole kernel: threads that wait for a fixed number of others would wait for ever for one that left.
    has_line_directives   `#line` directives in place of comments.
    grid_barrier          where the launch counts the blocks that wait for each other.
    """

    def __init__(
        self,
        expressions: Expressions,
        memory: Memory,
        dialect: Dialect,
        sites: Sites,
        status: str,
        *,
        is_trapping: bool,
        has_line_directives: bool,
        grid_barrier: Buffer | None = None,
    ):
        self.expressions, self.memory, self.dialect, self.sites = expressions, memory, dialect, sites
        self.status, self.is_trapping, self.has_line_directives = status, is_trapping, has_line_directives
        self.grid_barrier = grid_barrier
        self.foreign: list[ForeignCall] = []
        self._place = ("", 0)
        self._handlers: dict[type[Stmt], Callable[[Any], None]] = {
            Seq: self._seq,
            For: self._for,
            While: self._while,
            If: self._if,
            Let: self._let,
            Store: self._store,
            Prefetch: self._prefetch,
            Break: lambda node: self._line("break;", node),
            Continue: lambda node: self._line("continue;", node),
            AtomicUpdate: self._atomic,
            Barrier: self._barrier,
            WarpExchange: self._exchange,
            ForeignCall: self._foreign,
            Print: self._print,
            Assert: self._assert,
            Assume: self._assume,
            VectorCopy: self._vector_copy,
            InstructionCall: self._instruction,
        }

    def emit(self, node: Stmt) -> None:
        handler = self._handlers.get(type(node))
        if handler is None:
            raise CompilerBug(f"{type(node).__name__} reached the printer of C")
        handler(node)

    # -- lines
    @property
    def lines(self) -> Lines:
        return self.expressions.lines

    def _line(self, text: str, node: Stmt) -> None:
        """A line with the user's place behind it, where that is another than the last one named."""
        place = (os.path.basename(node.span.file), node.span.line)
        if place != self._place:
            self._place = place
            if self.has_line_directives:
                self.lines.lines.append(f'#line {node.span.line} "{_escaped(node.span.file)}"')
            else:
                text += f"  // {place[0]}:{place[1]}"
        self.lines.add(text)

    def _body(self, node: Stmt) -> None:
        inner = Lines(self.lines.depth + 1)
        with self.expressions.nested(inner):
            self.emit(node)
        self.lines.lines += inner.lines

    def _seq(self, node: Seq) -> None:
        own: set[Expr] = set()
        for part in node.body:
            self.emit(part)
            if isinstance(part, (Break, Continue)):
                return
            if isinstance(part, Let):
                own.add(part.variable)
            elif isinstance(part, Assume):  # of names that end with the sequence, for which it then always holds
                self.expressions.narrow(part.condition, own)

    # -- control flow
    def _for(self, node: For) -> None:
        with self.expressions.statement(node.extent):
            extent = self.expressions.index(node.extent)
            stop = extent.text
            if any(part.op in (Op.LOAD, Op.CALL) for part in subexpressions(node.extent)):  # evaluated once, before the loop
                stop = atom(self.expressions.names.fresh("extent"))
                self.lines.add(f"const {types.integer_type(extent.bits, is_signed=True)} {stop} = {extent.text};")
            name = self.expressions.names.fresh(node.variable.name)
            high = extent.range.high
            self.expressions.bind(node.variable, name, value_range(0, None if high is None else max(high - 1, 0)), is_index=True)
            bits = self.expressions.index(node.variable).bits if node.variable.dtype.bits >= 32 else 32
            type_ = types.integer_type(bits, is_signed=True)
            self.lines.add(_PRAGMAS[node.kind])
            self._line(f"for ({type_} {name} = 0; {infix('<', atom(name), stop)}; ++{name}) {{", node)
        self._body(node.body)
        self.lines.add("}")

    def _while(self, node: While) -> None:
        inner = Lines(self.lines.depth + 1)
        with self.expressions.nested(inner), self.expressions.statement(node.condition):
            condition = self.expressions.value(node.condition)
        is_simple = not inner.lines
        self.lines.add("#pragma unroll 1")
        self._line(f"while ({condition if is_simple else 'true'}) {{", node)
        if not is_simple:
            inner.add(f"if (!({condition})) break;")
            self.lines.lines += inner.lines
        self._body(node.body)
        self.lines.add("}")

    def _if(self, node: If) -> None:
        with self.expressions.statement(node.condition):
            self._line(f"if ({self.expressions.value(node.condition)}) {{", node)
        self._body(node.then_body)
        if node.else_body is not None:
            self.lines.add("} else {")
            self._body(node.else_body)
        self.lines.add("}")

    # -- values
    def _result(self, variable: Expr, text: Text, node: Stmt, known: ValueRange, *, is_index: bool) -> None:
        """`variable = text` for the rest of the sequence."""
        dtype = variable.dtype
        name = self.expressions.names.fresh(variable.name)
        self.expressions.bind(variable, name, known, is_index=is_index)
        type_ = types.value_type(dtype)
        if dtype.is_integer and dtype.is_signed and dtype.bits == 64:
            type_ = types.integer_type(self.expressions.index(variable).bits, is_signed=True)
        self._line(f"const {type_} {name} = {text};", node)

    def _let(self, node: Let) -> None:
        dtype = node.value.dtype
        types.refuse_vector_dtype(node.variable, dtype, node.span)
        with self.expressions.statement(node.value):
            ranges = self.expressions.ranges
            known = ranges.of(node.value) if dtype.is_integer else UNLIMITED
            is_index = dtype.is_integer and ranges.is_index(node.value)
            text = self.expressions.index(node.value).text if is_index else self.expressions.value(node.value)
            if is_index and dtype.bits == 32 and self.expressions.index(node.value).bits == 64:
                text = cast("int", text)
            self._result(node.variable, text, node, known, is_index=is_index)

    def _store(self, node: Store) -> None:
        with self.expressions.statement(node.value, *node.indices):
            self._line(self.memory.store(node.buffer, node.indices, node.value), node)

    def _prefetch(self, node: Prefetch) -> None:
        """Of elements that exist only: an address outside of all memory may be a fault."""
        inside = const(True)
        for position, extent in zip(node.indices, node.buffer.shape, strict=True):
            inside = logical(Op.AND, inside, logical(Op.AND, binary(Op.GE, position, 0), binary(Op.LT, position, extent)))
        with self.expressions.statement(inside, *node.indices):
            self._line(f"if ({self.expressions.value(inside)}) {{", node)
            inner = Lines(self.lines.depth + 1)
            with self.expressions.nested(inner):
                self.lines.add(self.dialect.prefetch(self.memory.pointer(node.buffer, node.indices)))
            self.lines.lines += inner.lines
            self.lines.add("}")

    def _atomic(self, node: AtomicUpdate) -> None:
        buffer, dtype = node.buffer, node.buffer.dtype
        types.refuse_vector_dtype(buffer, dtype, node.span)
        storage = buffer.storage
        with self.expressions.statement(node.value, *node.indices):
            if storage.scope in (Scope.LOCAL, Scope.VARIABLE):
                self._private_atomic(node)
                return
            is_shared = storage.scope is Scope.SHARED
            before, after = self.dialect.fences(node.kind, node.order, is_shared=is_shared)
            value = self.expressions.value(node.value) if node.kind is not AtomicKind.LOAD else atom("0")
            if dtype.is_packed:
                index = self.memory.flat_index(buffer, node.indices)
                text = self.dialect.atomic_packed(node.kind, dtype, self.memory.base(buffer), index.text, value)
            else:
                text = self.dialect.atomic(node.kind, dtype, self.memory.pointer(buffer, node.indices), value, is_shared=is_shared)
            if before is not None:
                self.lines.add(before)
            if node.previous is not None:
                self._result(node.previous, text, node, _whole(dtype), is_index=False)
            else:
                self._line(f"{text};", node)
            if after is not None:
                self.lines.add(after)

    def _private_atomic(self, node: AtomicUpdate) -> None:
        """Memory of one thread needs no atomic instruction."""
        element = load(node.buffer, node.indices)
        value = node.value
        if node.previous is not None:
            self._result(node.previous, self.expressions.value(element), node, _whole(node.buffer.dtype), is_index=False)
            element = node.previous
        if node.kind is AtomicKind.LOAD:
            return
        updated = value if node.kind is AtomicKind.EXCHANGE else binary(_COMBINE[node.kind], element, value)
        self._line(self.memory.store(node.buffer, node.indices, updated), node)

    def _exchange(self, node: WarpExchange) -> None:
        roots = [node.value, node.mask] + ([node.operand] if node.operand is not None else [])
        types.refuse_vector_dtype(node.result, node.value.dtype, node.span)
        with self.expressions.statement(*roots):
            operand = self.expressions.index(node.operand).at(32) if node.operand is not None else None
            text = self.dialect.exchange(node, self.expressions.value(node.value), operand, self.expressions.value(node.mask))
            self._result(node.result, text, node, _whole(node.result.dtype), is_index=False)

    def _barrier(self, node: Barrier) -> None:
        if node.scope is not BarrierScope.GRID:
            self._line(self.dialect.barrier(node), node)
        elif self.grid_barrier is None:
            raise CompilerBug(f"a barrier of the grid at {node.span} in a launch without a place to count blocks")
        else:
            self._line(f"{self.dialect.grid_barrier(self.memory.base(self.grid_barrier))};", node)

    # -- code of the user's
    def _foreign(self, node: ForeignCall) -> None:
        """Values go in storage form, and so does the result: the code has no names for narrow floats."""
        self.foreign.append(node)
        with self.expressions.statement(*(root for argument in node.arguments for root in _roots(argument))):
            if node.kind is ForeignKind.ASSEMBLY:
                self._assembly(node)
                return
            call = f"{node.text}({', '.join(str(self._foreign_argument(a)) for a in node.arguments)})"
            if node.result is None:
                self._line(f"{call};", node)
            else:
                self._result(node.result, self.dialect.from_storage(atom(call), node.result.dtype), node, _whole(node.result.dtype), is_index=False)

    def _foreign_argument(self, given: Expr | Address) -> Text:
        return self.memory.pointer(given.buffer, given.indices) if isinstance(given, Address) else self.expressions.stored(given)

    def _assembly(self, node: ForeignCall) -> None:
        inputs = [self._assembly_input(a) for a in node.arguments]
        touches_memory = node.result is None or any(node.addresses())
        if node.result is None:
            self._line(self.dialect.assembly(_escaped(node.text), (), inputs, touches_memory=True), node)
            return
        dtype = node.result.dtype
        held, (letter, type_) = self.expressions.names.fresh("held"), types.assembly_operand(dtype)
        self._line(f"{type_} {held};", node)
        self._line(self.dialect.assembly(_escaped(node.text), (f'"={letter}"({held})',), inputs, touches_memory=touches_memory), node)
        stored = types.storage_type(dtype)
        text = self.dialect.from_storage(atom(held) if stored == type_ else cast(stored, atom(held)), dtype)
        self._result(node.result, text, node, _whole(dtype), is_index=False)

    def _assembly_input(self, given: Expr | Address) -> str:
        if isinstance(given, Address):
            pointer, is_shared = self._foreign_argument(given), given.buffer.storage.scope is Scope.SHARED
            return f'"{"r" if is_shared else "l"}"({self.dialect.shared_address(pointer) if is_shared else pointer})'
        letter, type_ = types.assembly_operand(given.dtype)
        text = self.expressions.stored(given)
        return f'"{letter}"({text if types.storage_type(given.dtype) == type_ else cast(type_, text)})'

    # -- wide accesses and instructions
    def _vector_copy(self, node: VectorCopy) -> None:
        vector = _VECTORS.get(node.size_bytes)
        if vector is None:
            raise CompilerBug(f"an access of {node.size_bytes} bytes at {node.span}")
        with self.expressions.statement(*node.dst.indices, *node.src.indices):
            target, source = self._vector_pointer(node.dst, node), self._vector_pointer(node.src, node)
            if target is not None and source is not None:
                self._line(f"*({vector}*){target.at(UNARY)} = *(const {vector}*){source.at(UNARY)};", node)
            else:
                self._misaligned_copy(node, vector)

    def _vector_pointer(self, address: Address, node: VectorCopy) -> Text | None:
        """None for registers that do not start at a multiple of the access."""
        if address.buffer.storage.scope in (Scope.LOCAL, Scope.VARIABLE):
            known = self.memory.flat_index(address.buffer, address.indices).range
            if not known.is_divisible(node.elements):
                return None
        return self.memory.pointer(address.buffer, address.indices)

    def _misaligned_copy(self, node: VectorCopy, vector: str) -> None:
        """Through a vector of its own, element by element on the side of the registers."""
        element = types.storage_type(node.dst.buffer.dtype)
        if node.dst.buffer.dtype.is_packed:
            raise CompilerBug(f"packed registers of {node.dst.buffer.name} do not start at a multiple of {node.size_bytes} bytes")
        name = self.expressions.names.fresh("wide")
        is_load = node.dst.buffer.storage.scope in (Scope.LOCAL, Scope.VARIABLE)
        target, source = (self.memory.pointer(a.buffer, a.indices) for a in (node.dst, node.src))
        count = range(node.elements)
        if is_load:
            self._line(f"const {vector} {name} = *(const {vector}*){source.at(UNARY)};", node)
            parts = (f"({target})[{k}] = ((const {element}*)&{name})[{k}];" for k in count)
        else:
            self._line(f"{vector} {name};", node)
            parts = (f"(({element}*)&{name})[{k}] = ({source})[{k}];" for k in count)
        for part in parts:
            self.lines.add(part)
        if not is_load:
            self.lines.add(f"*({vector}*){target.at(UNARY)} = {name};")

    def _instruction(self, node: InstructionCall) -> None:
        instruction = node.instruction
        if len(node.operands) != len(instruction.operands):
            raise CompilerBug(f"{instruction.name} takes {len(instruction.operands)} operands, not {len(node.operands)}")
        roots = [root for operand in node.operands for root in _roots(operand)]
        with self.expressions.statement(*roots):
            texts = {d.name: self._operand(d, given) for d, given in zip(instruction.operands, node.operands, strict=True)}
            self._line(f"{instruction.cuda(texts)};", node)

    def _operand(self, description: Operand, given: Registers | Address | Expr | int) -> tuple[str, ...]:
        match description, given:
            case RegisterOperand(), Registers():
                if given.buffer.dtype != description.dtype:
                    raise CompilerBug(f"{description.name} takes {description.dtype!s}, and {given.buffer.name} is {given.buffer.dtype!s}")
                return self.memory.registers(given.buffer, given.offset, description.num_registers, description.register_bits)
            case AddressOperand(), Address():
                pointer = self.memory.pointer(given.buffer, given.indices)
                return (str(self.dialect.shared_address(pointer) if description.scope is Scope.SHARED else pointer),)
            case ValueOperand(), Expr():
                return (str(self.expressions.stored(given)),)
            case ImmediateOperand(), int():
                return (str(given),)
        raise CompilerBug(f"{description.name} was given {given!r}")

    # -- the host
    def _assert(self, node: Assert) -> None:
        self.sites.asserts.append(node)
        with self.expressions.statement(node.condition):
            condition = self.expressions.value(node.condition)
            self._line(f"if (!({condition})) {{", node)
            self.lines.depth += 1
            for line in self.dialect.fail(self.status, len(self.sites.asserts), is_trapping=self.is_trapping):
                self.lines.add(line)
            self.lines.depth -= 1
            self.lines.add("}")

    def _assume(self, node: Assume) -> None:
        if any(part.op in (Op.LOAD, Op.CALL) for part in subexpressions(node.condition)):
            return  # compilers ignore promises whose evaluation could have an effect
        with self.expressions.statement(node.condition):
            self._line(self.dialect.assume(self.expressions.value(node.condition)), node)

    def _print(self, node: Print) -> None:
        with self.expressions.statement(*node.values):
            if node.buffer is not None:
                self._print_buffer(node, node.buffer)
                return
            formats, arguments = [], []
            for value in node.values:
                format_, argument = _formatted(self.expressions.value(value), value.dtype)
                formats.append(format_)
                arguments.append(argument)
            message = _escaped(node.message).replace("%", "%%")
            text = " ".join(part for part in (message, *formats) if part)
            self._line(_printf(text, arguments), node)

    def _print_buffer(self, node: Print, buffer: Buffer) -> None:
        """One line per element; `values` of the statement are the sizes of the symbolic dimensions."""
        sizes = iter(node.values)
        extents = [str(self.expressions.index(next(sizes)).text) if isinstance(n, Expr) else str(n) for n in buffer.shape]
        name = _escaped(node.message or buffer.name).replace("%", "%%")
        depth = self.lines.depth
        positions = []
        variables = []
        for axis, extent in enumerate(extents):
            variable = self.expressions.names.fresh("ijklmn"[axis] if axis < 6 else "index")
            position = var(variable)
            self.expressions.bind(position, variable, value_range(0, (1 << 31) - 2), is_index=True)
            self.lines.add("#pragma unroll 1")
            self._line(f"for (int {variable} = 0; {variable} < {extent}; ++{variable}) {{", node)
            self.lines.depth += 1
            positions.append(position)
            variables.append(variable)
        format_, argument = _formatted(self.memory.load(buffer, tuple(positions)), buffer.dtype)
        where = ", ".join("%d" for _ in variables)
        self.lines.add(_printf(f"{name}[{where}] = {format_}", [*variables, argument]))
        while self.lines.depth > depth:
            self.lines.depth -= 1
            self.lines.add("}")


def _whole(dtype: DType) -> ValueRange:
    return dtype_range(dtype) if dtype.is_integer else UNLIMITED


def _roots(operand: Registers | Address | Expr | int) -> tuple[Expr, ...]:
    match operand:
        case Address():
            return operand.indices
        case Expr():
            return (operand,)
        case _:
            return ()


def _formatted(value: Text, dtype: DType) -> tuple[str, str]:
    """The format of printf and the argument for a value form."""
    if dtype.is_bool:
        return "%s", f'{value.at(OR)} ? "True" : "False"'
    if dtype.is_float:
        return ("%.17g", str(value)) if dtype.bits == 64 else ("%.9g", str(value))
    if dtype.bits == 64:
        return ("%lld" if dtype.is_signed else "%llu"), str(value)
    return ("%d" if dtype.is_signed or dtype.bits < 32 else "%u"), str(value)


def _printf(line: str, arguments: list[str]) -> str:
    return f"printf({', '.join([chr(34) + line + chr(92) + 'n' + chr(34), *arguments])});"


def _escaped(text: str) -> str:
    """The inside of a C string literal."""
    octets = text.encode()
    return "".join(chr(c) if 32 <= c < 127 and c not in b'"\\?' else f"\\{c:03o}" for c in octets)
