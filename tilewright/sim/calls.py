"""Instructions in a simulated run: what `Instruction.simulate` sees (floor 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.errors import CompilerBug, Label
from tilewright.execution.memory import Array, pack_nibbles
from tilewright.ir.instruction import AddressOperand, Instruction, RegisterOperand
from tilewright.ir.stmt import WARP_THREADS
from tilewright.sim.asynchronous import AsyncCopies
from tilewright.sim.batch import Batch
from tilewright.sim.expressions import Evaluation, Function
from tilewright.sim.findings import FindingKind
from tilewright.sim.group import Group
from tilewright.sim.ports import MemoryPort
from tilewright.sim.registers import RegisterPort
from tilewright.sim.shadow import BlockShadow
from tilewright.sim.unset import fill, settled


@dataclass(frozen=True, eq=False)
class BoundRegisters:
    port: RegisterPort
    offset: Function


@dataclass(frozen=True, eq=False)
class BoundAddress:
    """An address in memory; the indices as a function that gives all of them."""

    port: MemoryPort
    indices: Evaluation


@dataclass(frozen=True, eq=False)
class BoundValue:
    value: Evaluation


Bound = BoundRegisters | BoundAddress | BoundValue | int


class Call:
    """One execution of an instruction by the rows of a group: `ir.instruction.SimulatedCall`.

    What nobody has written is replaced by a great number; where an operand has such parts the instruction runs again with a small one, and the results
    that differ count as never written either.
    """

    def __init__(self, site: int, group: Group, batch: Batch, copies: AsyncCopies, instruction: Instruction, bound: dict[str, Bound]) -> None:
        self._site, self._group, self._batch, self._copies = site, group, batch, copies
        self.instruction, self._bound = instruction, bound
        self.num_threads = len(group)
        self.is_again = False
        self._given: dict[str, tuple[Array, Array | None]] = {}  # what operands held, and where nothing was written
        self._results: dict[str, Array] = {}

    @property
    def has_unset(self) -> bool:
        """Whether an operand had parts that nobody has written."""
        return any(unset is not None for _, unset in self._given.values())

    def registers(self, name: str) -> Array:
        operand, bound = self._register_operand(name)
        if name not in self._given:
            offset = bound.offset(self._group, self._group.mask)
            self._given[name] = bound.port.get_bytes(self._site, self._group, offset, self._elements(operand, bound))
        return bound.port.as_elements(self._filled(name), operand.dtype)

    def set_registers(self, name: str, values: Array) -> None:
        operand, bound = self._register_operand(name)
        if values.dtype != operand.dtype.numpy or values.shape != (self.num_threads, operand.count):
            raise CompilerBug(f"{self.instruction.name} sets {name} to {values.dtype}{list(values.shape)}, it has {operand.count} of {operand.dtype!s}")
        raw = pack_nibbles(values) if operand.dtype.is_packed else np.ascontiguousarray(values).view(np.uint8).reshape(self.num_threads, -1)
        unset = None
        if self.is_again:
            raw, unset = self._results[name], raw != self._results[name]
        self._results[name] = raw
        bound.port.put_bytes(self._site, self._group, bound.offset(self._group, self._group.mask), self._elements(operand, bound), raw, unset)

    def value(self, name: str) -> Array:
        bound = self._bound[name]
        assert isinstance(bound, BoundValue)
        found = np.asarray(settled(bound.value, self._group))
        if found.ndim == 0:
            return np.full(self.num_threads, found)
        return found if self._group.rows is None else found[self._group.rows]

    def immediate(self, name: str) -> int:
        bound = self._bound[name]
        assert isinstance(bound, int)
        return bound

    def read(self, name: str, active: Array | None = None) -> Array:
        if name not in self._given:
            self._given[name] = self._read(name, active)
        return self._filled(name)

    def _read(self, name: str, active: Array | None) -> tuple[Array, Array | None]:
        active = None if active is None or active.all() else active
        operand, bound = self._address(name)
        group = self._group if active is None else self._group.among(self._group.row_numbers[active])
        rows, offsets, is_kept = bound.port.place_bytes(self._site, group, settled(bound.indices, group), operand.size_bytes)
        found = np.zeros((self.num_threads, operand.size_bytes), np.uint8)
        if not offsets.size:
            return found, None
        unset = bound.port.note_read(self._site, group, rows, offsets, operand.size_bytes)
        self._group.unset = group.unset
        data = bound.port.memory.get(offsets, operand.size_bytes)
        if active is None and is_kept is None:
            return data, unset
        at = self._group.holds(group.row_numbers if rows is None else rows)
        found[at] = data
        if unset is not None:
            unset_here, unset = unset, np.zeros(found.shape, bool)
            unset[at] = unset_here
        return found, unset

    def _filled(self, name: str) -> Array:
        raw, unset = self._given[name]
        return raw if unset is None else fill(raw, unset, self.is_again)

    def write(self, name: str, data: Array, active: Array | None = None) -> None:
        active = None if active is None or active.all() else active
        operand, bound = self._address(name)
        port, group = bound.port, self._group if active is None else self._group.among(self._group.row_numbers[active])
        rows, offsets, is_kept = port.place_bytes(self._site, group, settled(bound.indices, group), operand.size_bytes)
        if not offsets.size:
            return
        if active is not None:
            data = data[active]
        if is_kept is not None:
            data = data[is_kept]
        if self.is_again:
            self._write_again(port, offsets, data != self._results[name])
            return
        self._results[name] = data = np.ascontiguousarray(data)
        after = port.note_write(self._site, rows, offsets, data)
        port.memory.put(offsets, data)
        after()

    def _write_again(self, port: MemoryPort, offsets: Array, differs: Array) -> None:
        if not differs.any():
            return
        if isinstance(port.memory.shadow, BlockShadow):
            port.memory.mark_unset(offsets, differs)
        elif self._group.unset is not None:
            self._group.unset()

    def copy_later(self, destination: str, source: str, valid_bytes: Array | None = None) -> None:
        operand, to = self._address(destination)
        _, start = self._address(source)
        group = self._group
        places = (to.port, settled(to.indices, group)), (start.port, settled(start.indices, group))
        self._copies.start(self._site, group, *places, operand.size_bytes, valid_bytes)

    def commit_group(self) -> None:
        self._copies.close_group(self._group)

    def wait_group(self, pending: int) -> None:
        self._copies.wait(self._group, pending)

    # -- operands
    def _register_operand(self, name: str) -> tuple[RegisterOperand, BoundRegisters]:
        operand, bound = self._operand(name), self._bound[name]
        assert isinstance(operand, RegisterOperand) and isinstance(bound, BoundRegisters)
        return operand, bound

    def _address(self, name: str) -> tuple[AddressOperand, BoundAddress]:
        operand, bound = self._operand(name), self._bound[name]
        assert isinstance(operand, AddressOperand) and isinstance(bound, BoundAddress)
        return operand, bound

    def _operand(self, name: str) -> Any:
        return next(o for o in self.instruction.operands if o.name == name)

    @staticmethod
    def _elements(operand: RegisterOperand, bound: BoundRegisters) -> int:
        """How many elements of the array the operand covers; an array of another width holds the same bits."""
        return operand.count * operand.dtype.storage_bits // bound.port.element_bits


def simulate_call(call: Call) -> None:
    """Runs an instruction, and once more where it met what nobody has written."""
    call.instruction.simulate(call)
    if call.has_unset:
        call.is_again = True
        call.instruction.simulate(call)


def whole_warps(site: int, group: Group, batch: Batch, name: str) -> Group | None:
    """The group without warps of which some lanes are missing, which are reported; None where nothing is left."""
    if group.mask is None:
        return group
    by_warp = group.mask.reshape(-1, WARP_THREADS)
    is_partial = by_warp.any(axis=1) & ~by_warp.all(axis=1)
    if not is_partial.any():
        return group
    report_inactive(site, batch, int(np.flatnonzero(is_partial)[0]), by_warp, name)
    complete = by_warp.all(axis=1)
    return group.under(np.repeat(complete, WARP_THREADS)) if complete.any() else None


def report_inactive(site: int, batch: Batch, warp: int, by_warp: Array, what: str) -> None:
    """Says that some lanes of a warp do not take part in what takes all of them."""

    def describe() -> Any:
        block = batch.describe_block(int(batch.rows.grid_block[warp * WARP_THREADS]))
        lanes = int(by_warp[warp].sum())
        return (
            f"{lanes} of {WARP_THREADS} lanes of warp {warp % batch.rows.warps} of {block} run {what}",
            (Label(batch.journal.span(site), "only some lanes of the warp come here"),),
            "all lanes that it names must run it together",
            "move it out of the branch, or make the branch the same for whole warps",
        )

    batch.journal.findings.add(FindingKind.INACTIVE_LANES, site, describe)
