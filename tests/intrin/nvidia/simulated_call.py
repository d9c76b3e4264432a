"""A simulator of one instruction on given registers and memory, for tests of meanings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilewright.ir.instruction import Array


@dataclass
class CallOnArrays:
    """`registers_` (threads, count) and `values` (threads,) by operand; addresses are byte positions in `memory[name]`, one per thread."""

    num_threads: int
    registers_: dict[str, Array] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    immediates: dict[str, int] = field(default_factory=dict)
    memory: dict[str, Array] = field(default_factory=dict)
    addresses: dict[str, Array] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    events: list[object] = field(default_factory=list)

    def registers(self, name: str) -> Array:
        return self.registers_[name]

    def set_registers(self, name: str, values: Array) -> None:
        assert len(values) == self.num_threads and (name not in self.registers_ or values.dtype == self.registers_[name].dtype)
        self.registers_[name] = values

    def value(self, name: str) -> Array:
        return self.values[name]

    def immediate(self, name: str) -> int:
        return self.immediates[name]

    def _places(self, name: str) -> Array:
        return self.addresses[name][:, None] + np.arange(self.sizes[name])

    def _active(self, active: Array | None) -> Array:
        return np.ones(self.num_threads, bool) if active is None else active

    def read(self, name: str, active: Array | None = None) -> Array:
        mask = self._active(active)
        found = np.zeros((self.num_threads, self.sizes[name]), np.uint8)
        found[mask] = self.memory[name][self._places(name)[mask]]
        return found

    def write(self, name: str, data: Array, active: Array | None = None) -> None:
        mask = self._active(active)
        self.memory[name][self._places(name)[mask]] = data[mask]

    def copy_later(self, destination: str, source: str, valid_bytes: Array | None = None) -> None:
        self.events.append(("copy", destination, source, None if valid_bytes is None else valid_bytes.tolist()))

    def commit_group(self) -> None:
        self.events.append("commit")

    def wait_group(self, pending: int) -> None:
        self.events.append(("wait", pending))
