"""Loads and stores of elements at any width (floor 6).

Under a mask (`Task.mask`) only lanes where it is set touch memory that might not be theirs.
"""

from __future__ import annotations

from tilewright.codegen.llvm import registers
from tilewright.codegen.llvm.addresses import Addressing, Location
from tilewright.codegen.llvm.emitter import Value, constant, element_type, vector_type
from tilewright.codegen.llvm.task import Operand, is_scalar
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Scope
from tilewright.ir.expr import Expr, Rounding

CACHE_LINE_BYTES = 64


class Memory(Addressing):
    """The accesses of one task."""

    # -- loads
    def load(self, access: Expr) -> Operand:
        """The elements of an access in the register type of their dtype; a scalar where all lanes read one element."""
        raw, dtype = self.load_stored(access)
        value = registers.from_memory(self.task, raw, dtype)
        # A tile may be kept wider than declared. Narrow floats are in registers as float32 anyway, and were rounded when they were stored.
        if registers.register_type(dtype) == registers.register_type(access.dtype):
            return value
        return registers.cast(self.task, value, dtype, access.dtype, Rounding.NEAREST_EVEN)

    def load_stored(self, access: Expr) -> tuple[Value, DType]:
        """The elements as they are stored, and the dtype that they have there."""
        task = self.task
        if access in task.cells:
            return self._load_cell(access), self.plan(access).dtype
        location = self.locate(access)
        dtype = location.plan.dtype
        mask = None if task.mask is None or task.is_safe(access) else task.mask
        if location.plan.is_packed:
            if mask is not None:
                raise CompilerBug(f"a masked load of {access.buffer.name}, whose elements are half a byte")
            return self._load_packed(location), dtype
        if location.is_uniform:
            return self._load_lane(location, 0) if mask is None else self._load_if_any(location, mask), dtype
        if location.is_contiguous:
            return self._load_span(location, location.offsets[0], task.lanes) if mask is None else self._load_masked(location, mask), dtype
        if mask is not None:
            return self._gather_masked(location, mask), dtype
        first, last = min(location.offsets), max(location.offsets)
        span = last - first + 1
        if not location.dynamic and span <= task.lanes and span & (span - 1) == 0:
            return task.f.shuffle(self._load_span(location, first, span), None, [offset - first for offset in location.offsets]), dtype
        return self._gather(location), dtype

    def _load_span(self, location: Location, first: int, count: int) -> Value:
        element = registers.memory_type(location.plan.dtype)
        address = self.advance(location.plan, location.pointer, constant(first, "i64"))
        return self.task.f.load(vector_type(element, count), address, location.plan.dtype.itemsize)

    def _load_lane(self, location: Location, lane: int) -> Value:
        return self.task.f.load(registers.memory_type(location.plan.dtype), self.lane_address(location, lane), location.plan.dtype.itemsize)

    def _gather(self, location: Location) -> Value:
        task = self.task
        result = Value("poison", task.type_of(registers.memory_type(location.plan.dtype)))
        known: dict[int, Value] = {}
        for lane in range(task.lanes):
            scalar = known.get(location.offsets[lane]) if not location.dynamic else None
            if scalar is None:
                scalar = known[location.offsets[lane]] = self._load_lane(location, lane)
            result = task.f.insert(result, scalar, lane)
        return result

    # -- masked access
    def _load_if_any(self, location: Location, mask: Value) -> Value:
        """One element, where any lane wants it."""
        f = self.task.f
        any_lane = f.intrinsic(f"llvm.vector.reduce.or.v{mask.lanes}i1", "i1", mask)
        before, end = f.block, f.label("loaded.")
        address = self.lane_address(location, 0)
        f.branch_if(any_lane, taken := f.label("wanted."), end)
        f.start(taken)
        element = registers.memory_type(location.plan.dtype)
        loaded = f.load(element, address, location.plan.dtype.itemsize)
        f.start(end)
        return f.phi(element, [(constant(0, element), before), (loaded, taken)])

    def _load_masked(self, location: Location, mask: Value) -> Value:
        f, type_ = self.task.f, self.task.type_of(registers.memory_type(location.plan.dtype))
        address = self.lane_address(location, 0)
        overload = Value("", type_).overload
        return f.intrinsic(f"llvm.masked.load.{overload}.p0", type_, address, constant(location.plan.dtype.itemsize, "i32"), mask, constant(0, type_))

    def _gather_masked(self, location: Location, mask: Value) -> Value:
        f, type_ = self.task.f, self.task.type_of(registers.memory_type(location.plan.dtype))
        overload = Value("", type_).overload
        return f.intrinsic(
            f"llvm.masked.gather.{overload}.v{mask.lanes}p0",
            type_,
            self._lane_addresses(location),
            constant(location.plan.dtype.itemsize, "i32"),
            mask,
            constant(0, type_),
        )

    def _lane_addresses(self, location: Location) -> Value:
        addresses = Value("poison", self.task.type_of("ptr"))
        for lane in range(self.task.lanes):
            addresses = self.task.f.insert(addresses, self.lane_address(location, lane), lane)
        return addresses

    def _store_masked(self, access: Expr, location: Location, raw: Value, mask: Value) -> None:
        f, align = self.task.f, location.plan.dtype.itemsize
        if location.is_contiguous and self.task.target.triple.startswith("x86_64") and element_type(raw.type) in ("i8", "i16", "i32"):
            # LLVM makes a narrowing part of the masked store, and then, where it knows that the mask has one lane, stores that lane without narrowing it.
            raw = f.opaque(raw, self.task.target.vector_bytes * 8)
        if location.is_contiguous and access.buffer.scope is not Scope.GLOBAL and self.task.is_safe(access):
            # The other lanes' elements are this thread's too: writing them back unchanged is cheaper than not writing them.
            address = self.lane_address(location, 0)
            f.store(f.select(mask, raw, f.load(raw.type, address, align)), address, align)
        elif location.is_contiguous:
            f.intrinsic(f"llvm.masked.store.{raw.overload}.p0", "void", raw, self.lane_address(location, 0), constant(align, "i32"), mask)
        else:
            f.intrinsic(f"llvm.masked.scatter.{raw.overload}.v{mask.lanes}p0", "void", raw, self._lane_addresses(location), constant(align, "i32"), mask)

    def _load_packed(self, location: Location) -> Value:
        """Nibbles as unsigned i8, one per lane."""
        task, f = self.task, self.task.f
        lanes = task.lanes
        if location.is_contiguous and location.is_even and location.offsets[0] % 2 == 0 and lanes > 1:
            number = task.add_constant(location.pointer, location.offsets[0])
            octets = f.load(vector_type("i8", lanes // 2), self._byte_address(location, number), 1)
            doubled = f.shuffle(octets, None, [lane // 2 for lane in range(lanes)])
            shifts = Value("<" + ", ".join(f"i8 {4 * (lane % 2)}" for lane in range(lanes)) + ">", doubled.type)
            return f.binary("and", f.binary("lshr", doubled, shifts), constant(15, doubled.type))
        if location.is_uniform:
            return self._load_nibble(location, self.lane_address(location, 0))
        result = Value("poison", task.type_of("i8"))
        for lane in range(lanes):
            result = f.insert(result, self._load_nibble(location, self.lane_address(location, lane)), lane)
        return result

    def _byte_address(self, location: Location, number: Value) -> Value:
        f = self.task.f
        return f.element_address(self.base_address(location.plan.buffer), "i8", f.binary("ashr", number, constant(1, "i64")))

    def _nibble_shift(self, number: Value) -> Value:
        f = self.task.f
        low = f.convert("trunc", number, "i8")
        return f.binary("shl", f.binary("and", low, constant(1, "i8")), constant(2, "i8"))

    def _load_nibble(self, location: Location, number: Value) -> Value:
        f = self.task.f
        octet = f.load("i8", self._byte_address(location, number), 1)
        return f.binary("and", f.binary("lshr", octet, self._nibble_shift(number)), constant(15, "i8"))

    # -- elements that stay on the stack for a while
    def take_out(self, access: Expr) -> None:
        """Moves the elements of an access to the stack, where LLVM makes registers of them; until `bring_back` all accesses go there."""
        f = self.task.f
        raw, _dtype = self.load_stored(access)
        raw = f.splat(raw, self.task.lanes)
        cell = f.alloca(raw.type)
        f.store(raw, cell, 64)
        self.task.cells[access] = Value(cell.text, raw.type)

    def bring_back(self, access: Expr) -> None:
        raw = self._load_cell(access)
        del self.task.cells[access]
        mask, self.task.mask = self.task.mask, None
        self.store_stored(access, raw)
        self.task.mask = mask

    def can_take_out(self, access: Expr) -> bool:
        """Whether the lanes have one element each, side by side, of a tile that is theirs whether or not they are masked."""
        if access.buffer.scope is Scope.GLOBAL or access.buffer.storage in self.task.private or access in self.task.cells or not self.task.is_safe(access):
            return False
        return self.locate(access).is_contiguous or self.task.lanes == 1

    def _load_cell(self, access: Expr) -> Value:
        cell = self.task.cells[access]
        return self.task.f.load(cell.type, cell, 64)

    # -- hints
    def prefetch(self, access: Expr) -> None:
        """Asks for the cache lines of the lanes' elements where these lie side by side."""
        if self.task.lanes == 1:
            return
        location = self.locate(access)
        if location.is_contiguous and not location.plan.is_packed:
            into_l2, into_data_cache, is_write = constant(2, "i32"), constant(1, "i32"), constant(0, "i32")
            itemsize = location.plan.dtype.itemsize
            for lane in range(0, self.task.lanes, max(CACHE_LINE_BYTES // itemsize, 1)):
                self.task.f.intrinsic("llvm.prefetch.p0", "void", self.lane_address(location, lane), is_write, into_l2, into_data_cache)

    # -- stores
    def store(self, access: Expr, value: Operand) -> None:
        """Writes the lanes in order; where several have one address the last one stays."""
        task = self.task
        dtype = self.plan(access).dtype
        if dtype != access.dtype:  # kept wider than declared; the value is one of the declared dtype
            value = registers.cast(task, value if isinstance(value, Value) else task.widened(value), access.dtype, dtype, Rounding.NEAREST_EVEN)
        self.store_stored(access, registers.to_memory(task, value, dtype))

    def store_stored(self, access: Expr, raw: Value) -> None:
        """Writes values that have the form that memory has."""
        task, f = self.task, self.task.f
        if access in task.cells:
            raw = f.splat(raw, task.lanes)
            f.store(raw if task.mask is None else f.select(task.mask, raw, self._load_cell(access)), Value(task.cells[access].text, "ptr"), 64)
            return
        location = self.locate(access)
        align = location.plan.dtype.itemsize
        if task.mask is not None:
            if location.plan.is_packed:
                raise CompilerBug(f"a masked store into {access.buffer.name}, whose elements are half a byte")
            self._store_masked(access, location, f.splat(raw, task.lanes), task.mask)
        elif location.plan.is_packed:
            self._store_packed(location, raw)
        elif location.is_uniform:
            f.store(raw if is_scalar(raw) else f.extract(raw, task.lanes - 1), self.lane_address(location, 0), align)
        elif location.is_contiguous and task.lanes > 1 and access.buffer in task.streamed:
            stored = f.splat(raw, task.lanes)
            f.line(f"store {stored}, {self.lane_address(location, 0)}, align {min(align * task.lanes, CACHE_LINE_BYTES)}, !nontemporal {f.module.one}")
        elif location.is_contiguous:
            f.store(f.splat(raw, task.lanes), self.lane_address(location, 0), align)
        else:
            for lane in range(task.lanes):
                f.store(task.lane(raw, lane), self.lane_address(location, lane), align)

    def _store_packed(self, location: Location, raw: Value) -> None:
        task, f = self.task, self.task.f
        lanes = task.lanes
        if location.is_contiguous and location.is_even and location.offsets[0] % 2 == 0 and lanes > 1:
            wide = f.splat(raw, lanes)
            low, high = f.shuffle(wide, None, range(0, lanes, 2)), f.shuffle(wide, None, range(1, lanes, 2))
            octets = f.binary("or", f.binary("and", low, constant(15, low.type)), f.binary("shl", high, constant(4, high.type)))
            number = task.add_constant(location.pointer, location.offsets[0])
            f.store(octets, self._byte_address(location, number), 1)
            return
        for lane in range(lanes):
            number = self.lane_address(location, lane)
            address, shift = self._byte_address(location, number), self._nibble_shift(number)
            # Another block may be writing the other half of the byte on another thread: only the bits of this half may change, and in one step.
            old = f.emit("i8", f"load atomic i8, ptr {address.text} monotonic, align 1")
            flipped = f.binary("xor", old, f.binary("shl", task.lane(raw, lane), shift))
            mask = f.binary("shl", constant(15, "i8"), shift)
            f.emit("i8", f"atomicrmw xor ptr {address.text}, {f.binary('and', flipped, mask)} monotonic, align 1")
