"""What branches and loops do when they run: steps that part groups, or that narrow and widen masks (floor 7).

Each function is a step once its first arguments are given: places are numbers of steps, labels give those that were not known yet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.errors import Label
from tilewright.execution.memory import Array
from tilewright.sim.expressions import Evaluation
from tilewright.sim.findings import FindingKind
from tilewright.sim.group import Group
from tilewright.sim.machine import Machine
from tilewright.sim.unset import settled


def part_if(condition: Evaluation, labels: list[int], otherwise: int, inside: int, group: Group, machine: Machine) -> int:
    found = settled(condition, group)
    if np.ndim(found) == 0:
        return inside if found else labels[otherwise]
    taken = found if group.mask is None else found & group.mask
    left = ~found if group.mask is None else ~found & group.mask
    if not left.any():
        return inside
    if taken.any():
        machine.part(group, left, labels[otherwise])
        return inside
    return labels[otherwise]


def enter_if(condition: Evaluation, labels: list[int], otherwise: int, inside: int, group: Group, machine: Machine) -> int:
    """Frame: a constant, the mask before, the mask of the other side (None where nobody goes there), the rows that the first side has left over."""
    found = settled(condition, group)
    before = group.mask
    if np.ndim(found) == 0:
        if found:
            group.frames.append([0, before, None, None])
            return inside
        group.frames.append([0, before, True, None])
        return labels[otherwise]
    taken, left = (found, ~found) if before is None else (before & found, before & ~found)
    if not left.any():
        group.frames.append([0, before, None, None])
        return inside
    if not taken.any():
        group.frames.append([0, before, True, None])
        return labels[otherwise]
    group.frames.append([0, before, left, None])
    group.set_mask(taken)
    return inside


def turn_if(labels: list[int], end: int, inside: int, group: Group, machine: Machine) -> int:
    """Between the sides."""
    frame = group.frames[-1]
    other = frame[2]
    if other is None:  # all rows went to the first side
        return labels[end]
    if other is True:  # all go to the second
        frame[2] = None
        return inside
    frame[3] = group.mask
    frame[2] = None
    group.set_mask(other)
    return inside


def leave_if(is_loop_left: bool, place: int, group: Group, machine: Machine) -> int:
    _, before, _, first = group.frames.pop()
    if first is not None:
        group.set_mask(first | group.mask if is_loop_left else before)
    return place


def enter_loop(extent: Evaluation | None, place: int, group: Group, machine: Machine) -> int:
    """Frame: the turn, the extent, the mask before, the rows that are still in the loop."""
    group.frames.append([0, None if extent is None else settled(extent, group), group.mask, group.mask])
    return place


def head_for(slot: int, kind: Any, labels: list[int], leave: int, place: int, is_parting: bool, group: Group, machine: Machine) -> int:
    frame = group.frames[-1]
    turn, extent = frame[0], frame[1]
    if np.ndim(extent) == 0:
        if turn >= extent:
            return labels[leave]
    else:
        stays = extent > turn
        if not _stay(stays, labels[leave], is_parting, group, machine):
            return labels[leave]
    if not is_parting and group.mask is not None and not group.mask.any():
        return labels[leave]
    group.values[slot] = kind(turn)
    return place


def _stay(stays: Array, leave: int, is_parting: bool, group: Group, machine: Machine) -> bool:
    """Takes the rows that do not stay out of a loop; whether any stays."""
    inside = stays if group.mask is None else stays & group.mask
    if not inside.any():
        return False
    gone = ~stays if group.mask is None else ~stays & group.mask
    if gone.any():
        if is_parting:
            machine.part(group, gone, leave)
        else:
            group.set_mask(inside)
            group.frames[-1][3] = inside
    return True


def head_while(
    condition: Evaluation,
    labels: list[int],
    leave: int,
    place: int,
    is_parting: bool,
    max_turns: int,
    site: int,
    group: Group,
    machine: Machine,
) -> int:
    if not is_parting and group.mask is not None and not group.mask.any():
        return labels[leave]
    found = settled(condition, group)
    if np.ndim(found) == 0:
        if not found:
            return labels[leave]
    elif not _stay(found, labels[leave], is_parting, group, machine):
        return labels[leave]
    if group.frames[-1][0] >= max_turns:

        def describe() -> Any:
            message = f"this loop has not ended after {max_turns} turns on {machine.batch.describe_row(int(group.row_numbers[0]))}"
            label = Label(machine.batch.journal.span(site))
            return message, (label,), "the simulator gives up on loops that seem endless", "raise SimulationOptions.max_turns where the loop does end"

        machine.batch.journal.findings.add(FindingKind.ENDLESS_LOOP, site, describe)
        return labels[leave]
    return place


def next_turn(labels: list[int], head: int, is_parting: bool, group: Group, machine: Machine) -> int:
    frame = group.frames[-1]
    frame[0] += 1
    if not is_parting and frame[3] is not group.mask:
        group.set_mask(frame[3])
    return labels[head]


def end_loop(place: int, group: Group, machine: Machine) -> int:
    frame = group.frames.pop()
    if group.mask is not frame[2]:
        group.set_mask(frame[2])
    return place


def end_parting_loop(place: int, group: Group, machine: Machine) -> int:
    group.frames.pop()
    return place


def mask_out(depth: int, labels: list[int], skip: int, is_break: bool, group: Group, machine: Machine) -> int:
    """Break and Continue of a loop under masks: the rows are out until its end, or its next turn."""
    frame = group.frames[depth]
    gone = np.ones(machine.batch.rows.count, bool) if group.mask is None else group.mask
    if is_break:
        frame[3] = ~gone if frame[3] is None else frame[3] & ~gone
    group.set_mask(np.zeros_like(gone))
    return labels[skip]
