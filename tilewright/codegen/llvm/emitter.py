"""A writer of textual LLVM IR in SSA form (floor 6): typed values, blocks, counted loops with carried values.

It knows nothing of tile programs. Output is deterministic: names are numbered in order of emission.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Value:
    """An SSA value or a constant: its text as an operand, and its LLVM type."""

    text: str
    type: str

    @property
    def lanes(self) -> int:
        """Elements of a vector, 1 for a scalar."""
        return int(self.type[1:].split(" ", 1)[0]) if self.type.startswith("<") else 1

    @property
    def element(self) -> str:
        return element_type(self.type)

    @property
    def overload(self) -> str:
        """How an LLVM intrinsic's name spells the type: `v8f32`, `i64`."""
        element = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}.get(self.element, self.element)
        return element if self.lanes == 1 else f"v{self.lanes}{element}"

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


def vector_type(element: str, lanes: int) -> str:
    """`<8 x float>`; the element itself for one lane."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def element_type(type_: str) -> str:
    return type_[1:-1].split(" x ", 1)[1] if type_.startswith("<") else type_


FLOAT_TYPES = frozenset({"half", "bfloat", "float", "double"})


def scalar_constant(value: bool | int | float, type_: str) -> str:
    """The operand text of a constant; floats in hexadecimal so that every bit arrives."""
    if type_ == "i1":
        return "true" if value else "false"
    if type_ == "half":
        return f"0xH{struct.unpack('<H', struct.pack('<e', value))[0]:04X}"
    if type_ == "bfloat":
        return f"0xR{struct.unpack('<I', struct.pack('<f', value))[0] >> 16:04X}"
    if type_ == "float":
        rounded = struct.unpack("<f", struct.pack("<f", value))[0] if value == value and abs(value) != float("inf") else value
        return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"
    if type_ == "double":
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    return str(int(value))


def constant(value: bool | int | float, type_: str) -> Value:
    """A scalar constant, or a vector with all lanes equal."""
    element = element_type(type_)
    text = scalar_constant(value, element)
    lanes = Value("", type_).lanes
    return Value(text if lanes == 1 else f"splat ({element} {text})", type_)


def vector_constant(values: Sequence[bool | int | float], element: str) -> Value:
    """A vector with the given lanes."""
    return Value("<" + ", ".join(f"{element} {scalar_constant(v, element)}" for v in values) + ">", vector_type(element, len(values)))


@dataclass
class Module:
    """A translation unit: declarations, constants and functions, each once, in order of first use."""

    target_triple: str = ""
    data_layout: str = ""
    declarations: dict[str, str] = field(default_factory=dict)
    globals: dict[str, str] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def one(self) -> str:
        """The metadata node that markers such as `!nontemporal` want."""
        self.metadata.setdefault("!0", "!{i32 1}")
        return "!0"

    def declare(self, name: str, result: str, parameters: Sequence[str], attributes: str = "") -> None:
        """An external function or intrinsic; `name` without the @."""
        self.declarations.setdefault(name, f"declare {result} @{name}({', '.join(parameters)}) {attributes}".rstrip())

    def constant_array(self, name: str, element: str, values: Sequence[int | float], align: int = 64) -> Value:
        """A private read-only table; gives its address."""
        body = ", ".join(f"{element} {scalar_constant(v, element)}" for v in values)
        self.globals.setdefault(name, f"@{name} = private unnamed_addr constant [{len(values)} x {element}] [{body}], align {align}")
        return Value(f"@{name}", "ptr")

    def function(self, name: str, result: str, parameters: Sequence[tuple[str, str]], attributes: str = "nounwind") -> Function:
        """A new function; `parameters` are (type with attributes, name), for example ("ptr noalias", "a")."""
        made = Function(self, name, result, tuple(parameters), attributes)
        self.functions[name] = made
        return made

    def text(self) -> str:
        head = [f'target datalayout = "{self.data_layout}"'] if self.data_layout else []
        head += [f'target triple = "{self.target_triple}"'] if self.target_triple else []
        metadata = [f"{name} = {node}" for name, node in self.metadata.items()]
        return "\n".join([*head, *self.globals.values(), *(f.text() for f in self.functions.values()), *self.declarations.values(), *metadata]) + "\n"


class Loop:
    """Inside `Function.loop`: the index, the values carried into this turn, and `next` to say what the next turn gets."""

    def __init__(self, index: Value, carried: list[Value], next_label: str, end_label: str) -> None:
        self.index = index
        self.carried = carried
        self.next_label, self.end_label = next_label, end_label
        self.next = list(carried)
        self.results: list[Value] = []  # after the loop: the values it ended with


class Function:
    """One function under construction. Code goes to the current block; `line` and `emit` are the primitives."""

    def __init__(self, module: Module, name: str, result: str, parameters: tuple[tuple[str, str], ...], attributes: str) -> None:
        self.module, self.name, self.result, self.attributes = module, name, result, attributes
        self.parameters = parameters
        self.arguments = {label: Value(f"%{label}", type_.split(" ", 1)[0] if not type_.startswith("<") else type_) for type_, label in parameters}
        self._counter = 0
        self._labels: dict[str, int] = {}
        self._lines: list[str] = []
        self._entry: list[str] = []  # allocas
        self.block = "entry"
        self.is_terminated = False

    # -- primitives
    def fresh(self) -> str:
        self._counter += 1
        return f"%v{self._counter}"

    def line(self, text: str) -> None:
        self._lines.append(f"  {text}")

    def emit(self, type_: str, text: str) -> Value:
        """An instruction with a result."""
        name = self.fresh()
        self._lines.append(f"  {name} = {text}")
        return Value(name, type_)

    def mark(self) -> int:
        """A place in the text, for `insert_line`."""
        return len(self._lines)

    def insert_line(self, mark: int, text: str) -> None:
        """Writes at a marked place, for example a phi whose operands were not known there."""
        self._lines.insert(mark, f"  {text}")

    def alloca(self, type_: str, count: int = 1, align: int = 64) -> Value:
        """Stack memory of the whole function."""
        name = self.fresh()
        self._entry.append(f"  {name} = alloca {type_}, i64 {count}, align {align}")
        return Value(name, "ptr")

    def at_entry(self, type_: str, text: str) -> Value:
        """An instruction in the first block, ready for use everywhere; its operands are arguments, constants or such instructions."""
        name = self.fresh()
        self._entry.append(f"  {name} = {text}")
        return Value(name, type_)

    # -- control flow
    def label(self, hint: str) -> str:
        number = self._labels.get(hint, 0)
        self._labels[hint] = number + 1
        return f"{hint}{number}"

    def start(self, label: str) -> None:
        """Begins a block; falls through into it from the one before where that has no terminator."""
        if not self.is_terminated:
            self.branch(label)
        self._lines.append(f"{label}:")
        self.block = label
        self.is_terminated = False

    def branch(self, label: str) -> None:
        self.line(f"br label %{label}")
        self.is_terminated = True

    def branch_if(self, condition: Value, if_true: str, if_false: str) -> None:
        self.line(f"br i1 {condition.text}, label %{if_true}, label %{if_false}")
        self.is_terminated = True

    def ret(self, value: Value | None = None) -> None:
        self.line(f"ret {value}" if value is not None else "ret void")
        self.is_terminated = True

    def phi(self, type_: str, incoming: Sequence[tuple[Value, str]]) -> Value:
        return self.emit(type_, f"phi {type_} " + ", ".join(f"[ {v.text}, %{label} ]" for v, label in incoming))

    @contextmanager
    def loop(self, start: Value, stop: Value, step: Value, carried: Sequence[Value] = (), hint: str = "loop") -> Iterator[Loop]:
        """`for index in range(start, stop, step)` with a positive step; set `loop.next[i]`; read `loop.results` afterwards.

        The test is at the top: a loop with nothing to do runs no turn. `loop.index` stays usable behind the loop, as the first index not run.
        A body of a loop that carries nothing may branch to `loop.next_label` and `loop.end_label`.
        """
        head, body, latch, end = (self.label(f"{hint}.{part}.") for part in ("head", "body", "next", "end"))
        before = self.block
        self.start(head)
        names = [self.fresh() for _ in range(len(carried) + 1)]
        at = len(self._lines)
        inside = self.emit("i1", f"icmp slt {start.type} {names[0]}, {stop.text}")
        self.branch_if(inside, body, end)
        self.start(body)
        made = Loop(Value(names[0], start.type), [Value(n, c.type) for n, c in zip(names[1:], carried, strict=True)], latch, end)
        yield made
        self.start(latch)
        following = self.binary("add nsw", made.index, step)
        self.branch(head)
        phis = []
        for name, first, after in zip(names, [start, *carried], [following, *made.next], strict=True):
            phis.append(f"  {name} = phi {first.type} [ {first.text}, %{before} ], [ {after.text}, %{latch} ]")
        self._lines[at:at] = phis
        self.start(end)
        made.results = made.carried

    @contextmanager
    def when(self, condition: Value, hint: str = "if") -> Iterator[None]:
        """A guarded stretch with no results."""
        inside, end = self.label(f"{hint}.then."), self.label(f"{hint}.end.")
        self.branch_if(condition, inside, end)
        self.start(inside)
        yield
        self.start(end)

    # -- arithmetic
    def binary(self, op: str, a: Value, b: Value) -> Value:
        """`op` with its flags, for example "add nsw", "fmul contract"."""
        return self.emit(a.type, f"{op} {a.type} {a.text}, {b.text}")

    def compare(self, op: str, a: Value, b: Value) -> Value:
        """`op` is for example "icmp slt" or "fcmp olt"."""
        return self.emit(vector_type("i1", a.lanes), f"{op} {a.type} {a.text}, {b.text}")

    def convert(self, op: str, a: Value, type_: str) -> Value:
        """`op` is for example "sext", "sitofp", "bitcast"."""
        return a if a.type == type_ else self.emit(type_, f"{op} {a} to {type_}")

    def opaque(self, a: Value, register_bits: int) -> Value:
        """Integers of which LLVM does not know any more how they were made; on x86-64, where vector registers have that many bits."""
        bits = a.lanes * int(element_type(a.type).removeprefix("i"))
        if bits > register_bits:
            half = a.lanes // 2
            low, high = (self.opaque(self.shuffle(a, None, range(start, start + half)), register_bits) for start in (0, half))
            return self.shuffle(low, high, range(a.lanes))
        if bits >= 128:
            return self.emit(a.type, f'call {a.type} asm "", "=x,0"({a})')
        whole = self.convert("bitcast", a, f"i{bits}")
        return self.convert("bitcast", self.emit(whole.type, f'call {whole.type} asm "", "=r,0"({whole})'), a.type)

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        return self.emit(a.type, f"select {condition}, {a}, {b}")

    def intrinsic(self, name: str, result: str, *args: Value) -> Value:
        """Calls `@name`, declaring it by the argument types. void results give an unusable value."""
        self.module.declare(name, result, [a.type for a in args])
        text = f"call {result} @{name}({', '.join(map(str, args))})"
        if result == "void":
            self.line(text)
            return Value("poison", "void")
        return self.emit(result, text)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c rounded once (where the target has the instruction: callers gate on the feature)."""
        return self.intrinsic(f"llvm.fma.{a.overload}", a.type, a, b, c)

    # -- memory
    def element_address(self, base: Value, element: str, offset: Value) -> Value:
        """base + offset elements."""
        if offset.text == "0":
            return base
        return self.emit("ptr", f"getelementptr inbounds {element}, ptr {base.text}, {offset}")

    def load(self, type_: str, address: Value, align: int) -> Value:
        return self.emit(type_, f"load {type_}, ptr {address.text}, align {align}")

    def store(self, value: Value, address: Value, align: int) -> None:
        self.line(f"store {value}, ptr {address.text}, align {align}")

    # -- vectors
    def splat(self, scalar: Value, lanes: int) -> Value:
        """All lanes equal to a scalar."""
        if lanes == 1 or scalar.lanes == lanes:
            return scalar
        type_ = vector_type(scalar.type, lanes)
        if not scalar.text.startswith("%"):
            return Value(f"splat ({scalar})", type_)
        first = self.emit(type_, f"insertelement {type_} poison, {scalar}, i64 0")
        return self.emit(type_, f"shufflevector {type_} {first.text}, {type_} poison, <{lanes} x i32> zeroinitializer")

    def extract(self, vector: Value, lane: int) -> Value:
        return self.emit(vector.element, f"extractelement {vector}, i64 {lane}")

    def insert(self, vector: Value, scalar: Value, lane: int) -> Value:
        return self.emit(vector.type, f"insertelement {vector}, {scalar}, i64 {lane}")

    def shuffle(self, a: Value, b: Value | None, lanes: Sequence[int]) -> Value:
        """Lanes chosen from a, then b; -1 leaves a lane undefined."""
        other = b.text if b is not None else "poison"
        mask = ", ".join("i32 poison" if lane < 0 else f"i32 {lane}" for lane in lanes)
        return self.emit(vector_type(a.element, len(lanes)), f"shufflevector {a}, {a.type} {other}, <{len(lanes)} x i32> <{mask}>")

    def text(self) -> str:
        parameters = ", ".join(f"{type_} %{label}" for type_, label in self.parameters)
        return "\n".join([f"define {self.result} @{self.name}({parameters}) {self.attributes} {{", "entry:", *self._entry, *self._lines, "}"])
