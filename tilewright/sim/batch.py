"""What the rows of a batch share while they run: geometry, clocks, memories, findings (floor 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tilewright.errors import Label, Span
from tilewright.execution.memory import Array
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.stmt import WARP_THREADS, Stmt
from tilewright.sim.clocks import Clocks
from tilewright.sim.findings import FindingKind, Findings
from tilewright.sim.memory import ByteMemory
from tilewright.sim.rows import Rows
from tilewright.sim.shadow import Clash, Conflict, Report
from tilewright.sim.traffic import Traffic


@dataclass(eq=False)
class Journal:
    """What a whole run writes down.

    statements   by number: what `site` arguments mean.
    traffic      None where nothing is counted.
    """

    statements: Sequence[Stmt]
    findings: Findings
    traffic: Traffic | None
    printer: Callable[[str], None]

    def span(self, site: int) -> Span:
        return self.statements[site].span


@dataclass(eq=False)
class Batch:
    """grid        extents of the grid.
    shared         the shared memories of the blocks, `shared_stride_bytes` apart.
    """

    rows: Rows
    grid: tuple[int, ...]
    clocks: Clocks
    shared: ByteMemory
    shared_stride_bytes: int
    journal: Journal
    rng: np.random.Generator
    is_checked: bool
    exited: Array = field(init=False)  # rows that have reached the end

    def __post_init__(self) -> None:
        self.exited = np.zeros(self.rows.count, bool)

    def describe_block(self, number: int) -> str:
        """`block (1, 0)`; the coordinates x first, or the number where the grid has one axis."""
        if len(self.grid) == 1:
            return f"block {number}"
        return f"block ({', '.join(str(int(i)) for i in np.unravel_index(number, self.grid, order='F'))})"

    def describe_row(self, row: int) -> str:
        return f"thread {int(self.rows.thread[row])} of {self.describe_block(int(self.rows.grid_block[row]))}"

    def reporter(self, buffer: Buffer, site: int, element_of: Callable[[int], str]) -> Report:
        """What turns a clash at `site` into a finding; `element_of` names a cell of the memory."""

        def report(clash: Clash) -> None:
            self._report_clash(buffer, site, element_of, clash)

        return report

    def _report_clash(self, buffer: Buffer, site: int, element_of: Callable[[int], str], clash: Clash) -> None:
        rows, findings = self.rows, self.journal.findings
        is_pending = clash.conflict in (Conflict.READ_UNDER_WAY, Conflict.WRITE_UNDER_WAY)
        earlier = self.journal.span(clash.statement)

        def describe() -> tuple[str, tuple[Label, ...], str, str]:
            place, me = element_of(clash.cell), self.describe_row(clash.row)
            now, before = Label(self.journal.span(site)), Label(earlier)
            same = clash.grid_block == int(rows.grid_block[clash.row])
            other = f"thread {clash.thread}" + ("" if same else f" of {self.describe_block(clash.grid_block)}")
            if is_pending:
                verb = "reads" if clash.conflict is Conflict.READ_UNDER_WAY else "writes"
                who = "it" if int(rows.thread[clash.row]) == clash.thread else other
                message = f"{me} {verb} {place} while the asynchronous copy that {who} started may still be under way"
                labels = (Label(now.span, f"{verb} here"), Label(before.span, "the copy starts here"))
                because = "the bytes of an asynchronous copy land at any time up to the wait for its group, and are seen by other threads after a barrier"
                return message, labels, because, "wait for the copy's group before this access, and put a barrier after the wait"
            mine, theirs = {
                Conflict.READ_AFTER_WRITE: ("reads", "writes"),
                Conflict.WRITE_AFTER_WRITE: ("writes", "writes"),
                Conflict.WRITE_AFTER_READ: ("writes", "reads"),
            }[clash.conflict]
            if clash.statement == site and clash.conflict is Conflict.WRITE_AFTER_WRITE and same:
                message = f"{me} and {other} write different values to {place} in one statement"
                labels = (Label(now.span, "writes here"), Label(buffer.span, f"{buffer.name} is declared here"))
                because = "threads run in any order, so which value stays is not defined"
                return message, labels, because, "let one thread write it, or use an atomic"
            several = f"threads of warp {clash.thread // WARP_THREADS}" if clash.is_many else other
            message = f"{me} {mine} {place}, which {several} {theirs if not clash.is_many else theirs[:-1]}, and nothing orders the two"
            labels = (Label(now.span, f"{mine} here"), Label(before.span, f"{theirs} here"))
            if not same:
                because = "the blocks of a grid run in any order and at the same time"
                return message, labels, because, "let one block own the element, use an atomic, or split the kernel in two launches"
            is_warp = clash.thread // WARP_THREADS == int(rows.warp[clash.row])
            barrier = "a barrier of the block, or of the warp, " if is_warp else "a barrier of the block "
            because = "threads run in any order between barriers, so the later access may come first"
            return message, labels, because, f"{barrier}must stand between the two accesses (T.sync_threads())"

        kind = FindingKind.ASYNC_HAZARD if is_pending else FindingKind.RACE
        findings.add(kind, (site, clash.statement, clash.conflict, buffer), describe)

    def report_uninitialised(self, buffer: Buffer, site: int, row: int, place: str) -> None:
        def describe() -> tuple[str, tuple[Label, ...], str, str]:
            what = "a register" if buffer.scope is Scope.LOCAL else "shared memory"
            return (
                f"{self.describe_row(row)} uses {place}, which nobody has written",
                (Label(self.journal.span(site), "used here"), Label(buffer.span, f"{buffer.name} is declared here")),
                f"{what} holds whatever was there before",
                f"write it first, for example with T.clear({buffer.name}) or T.fill",
            )

        self.journal.findings.add(FindingKind.UNINITIALISED, (site, buffer), describe)

    def report_out_of_bounds(self, buffer: Buffer, site: int, row: int, position: str, shape: str) -> None:
        def describe() -> tuple[str, tuple[Label, ...], str, str]:
            return (
                f"{self.describe_row(row)} accesses {buffer.name}[{position}], which is outside {shape}",
                (Label(self.journal.span(site), "accessed here"), Label(buffer.span, f"{buffer.name}: {shape}")),
                "an access outside a buffer touches memory of something else",
                "correct the index, or guard the access",
            )

        self.journal.findings.add(FindingKind.OUT_OF_BOUNDS, (site, buffer), describe)

    def report_misaligned(self, buffer: Buffer, site: int, row: int, offset_bytes: int, size_bytes: int) -> None:
        def describe() -> tuple[str, tuple[Label, ...], str, str]:
            return (
                f"{self.describe_row(row)} accesses {size_bytes} bytes of {buffer.name} at byte {offset_bytes}, which is no multiple of {size_bytes}",
                (Label(self.journal.span(site), "accessed here"), Label(buffer.span, f"{buffer.name} is declared here")),
                "an access of 2, 4, 8 or 16 bytes must lie at a multiple of its size",
                "access fewer elements at a time, or align the rows of the buffer",
            )

        self.journal.findings.add(FindingKind.MISALIGNED, (site, buffer), describe)
