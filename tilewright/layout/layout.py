"""`Layout`: a homomorphism between digit spaces (floor 1). Fragments, swizzles, instruction operands and copies are all this one class.

Inputs and outputs are named axes made of digits (`digits.py`). Each input digit has one column: the set of output digits it steps.
  * A radix-2 digit may step any set of radix-2 output digits; steps of several digits combine by XOR (a matrix over GF(2)).
  * An odd digit goes to one odd output digit of the same radix, used by nobody else, or to nothing.
  * An empty column means replication: the coordinate does not matter.

Directions used in the compiler: a fragment maps (reg, lane, warp) to tile coordinates, so it is total even when replicated; a memory layout
maps tile coordinates to (offset,), so that `memory.compose(fragment)` says which offset each register of each thread stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tilewright.layout.digits import OFFSET, Axis, LayoutError, digit_runs
from tilewright.layout.gf2 import Span, combine, null_space, rank, remap, set_bits

Basis = Mapping[str, Sequence[Mapping[str, int]]]


def _radices(axes: Iterable[Axis]) -> tuple[int, ...]:
    return tuple(radix for axis in axes for radix in axis.digits)


def _starts(axes: Sequence[Axis]) -> dict[str, int]:
    """Position of the first digit of each axis."""
    starts: dict[str, int] = {}
    position = 0
    for axis in axes:
        starts[axis.name] = position
        position += len(axis.digits)
    return starts


def _by_name(axes: Sequence[Axis], name: str, side: str) -> Axis:
    for axis in axes:
        if axis.name == name:
            return axis
    raise LayoutError(f"no {side} axis {name!r}; there are {[axis.name for axis in axes]}")


def _step_mask(axis: Axis, value: int) -> int:
    """The digits of `axis` that are 1 in `value`. Raises: LayoutError if a digit is 2 or more, or the value is out of range."""
    mask, rest = 0, value
    for position, radix in enumerate(axis.digits):
        rest, digit = divmod(rest, radix)
        if digit > 1:
            raise LayoutError(f"step {value} of axis {axis} is not a sum of distinct digit steps")
        mask |= digit << position
    if rest:
        raise LayoutError(f"step {value} lies outside axis {axis}")
    return mask


@dataclass(frozen=True, slots=True)
class Layout:
    """A map ins -> outs; `columns[d]` is the mask of output digits (numbered over all outs in order) that input digit d steps.

    Equality and hash are exact for the same factoring of the axes; `is_same_map` also compares across factorings (2*3 against 3*2).
    Raises: LayoutError when the columns break the rules of the module docstring.
    """

    ins: tuple[Axis, ...]
    outs: tuple[Axis, ...]
    columns: tuple[int, ...]

    def __post_init__(self) -> None:
        for axes, side in ((self.ins, "input"), (self.outs, "output")):
            names = [axis.name for axis in axes]
            if len(set(names)) != len(names):
                raise LayoutError(f"{side} axes share a name: {names}")
        in_radices, out_radices = _radices(self.ins), _radices(self.outs)
        if len(self.columns) != len(in_radices):
            raise LayoutError(f"{len(in_radices)} input digits but {len(self.columns)} columns")
        binary = sum(1 << bit for bit, radix in enumerate(out_radices) if radix == 2)
        taken = 0
        for radix, column in zip(in_radices, self.columns, strict=True):
            if radix == 2:
                if column & ~binary:
                    raise LayoutError("a radix-2 input digit steps an output digit that is odd or does not exist")
            elif column:
                bit = column.bit_length() - 1
                if column != 1 << bit or bit >= len(out_radices) or out_radices[bit] != radix or taken & column:
                    raise LayoutError(f"an input digit of radix {radix} needs one output digit of the same radix for itself")
                taken |= column

    # ------------------------------------------------------------------------------------------------------------ constructors

    @classmethod
    def identity(cls, axes: Sequence[Axis]) -> Layout:
        """axes -> the same axes."""
        return cls(tuple(axes), tuple(axes), tuple(1 << bit for bit in range(len(_radices(axes)))))

    @classmethod
    def zero(cls, ins: Sequence[Axis], outs: Sequence[Axis] = ()) -> Layout:
        """Everything to coordinate 0: pure replication over `ins`."""
        return cls(tuple(ins), tuple(outs), (0,) * len(_radices(ins)))

    @classmethod
    def ordered(cls, axes: Sequence[Axis], fastest_first: Sequence[str], out: str = OFFSET) -> Layout:
        """axes -> (out,): mixed-radix numbering where the axes named first vary fastest."""
        by_name = {axis.name: axis for axis in axes}
        if sorted(by_name) != sorted(fastest_first):
            raise LayoutError(f"order {list(fastest_first)} does not name the axes {sorted(by_name)} once each")
        chain = [by_name[name] for name in fastest_first]
        starts = _starts(chain)
        columns = tuple(1 << (starts[axis.name] + digit) for axis in axes for digit in range(len(axis.digits)))
        return cls(tuple(axes), (Axis(out, _radices(chain)),), columns)

    @classmethod
    def row_major(cls, axes: Sequence[Axis], out: str = OFFSET) -> Layout:
        """axes -> (out,), last axis contiguous."""
        return cls.ordered(axes, [axis.name for axis in reversed(axes)], out)

    @classmethod
    def column_major(cls, axes: Sequence[Axis], out: str = OFFSET) -> Layout:
        """axes -> (out,), first axis contiguous."""
        return cls.ordered(axes, [axis.name for axis in axes], out)

    @classmethod
    def from_basis(cls, ins: Sequence[Axis], outs: Sequence[Axis], basis: Basis) -> Layout:
        """From the image of each input digit at 1: `{"lane": [{"n": 2}, {"m": 1}, {}]}`; {} replicates, {"n": 64 + 8} steps two digits."""
        if sorted(basis) != sorted(axis.name for axis in ins):
            raise LayoutError(f"the basis names {sorted(basis)}, the inputs are {sorted(axis.name for axis in ins)}")
        starts = _starts(outs)
        columns = []
        for axis in ins:
            if len(basis[axis.name]) != len(axis.digits):
                raise LayoutError(f"axis {axis} has {len(axis.digits)} digits, the basis gives {len(basis[axis.name])}")
            for image in basis[axis.name]:
                steps = ((name, _step_mask(_by_name(outs, name, "output"), value)) for name, value in image.items())
                columns.append(sum(mask << starts[name] for name, mask in steps))
        return cls(tuple(ins), tuple(outs), tuple(columns))

    # ----------------------------------------------------------------------------------------------------------------- queries

    @property
    def in_radices(self) -> tuple[int, ...]:
        return _radices(self.ins)

    @property
    def out_radices(self) -> tuple[int, ...]:
        return _radices(self.outs)

    def in_axis(self, name: str) -> Axis:
        return _by_name(self.ins, name, "input")

    def out_axis(self, name: str) -> Axis:
        return _by_name(self.outs, name, "output")

    def has_input(self, name: str) -> bool:
        return any(axis.name == name for axis in self.ins)

    def has_output(self, name: str) -> bool:
        return any(axis.name == name for axis in self.outs)

    def in_digits(self, name: str) -> range:
        """Positions of the digits of an input axis among all input digits, so `columns[p]` for p in it."""
        start = _starts(self.ins)[self.in_axis(name).name]
        return range(start, start + len(self.in_axis(name).digits))

    def out_digits(self, name: str) -> range:
        """Positions of the digits of an output axis among all output digits: the bits of a column."""
        start = _starts(self.outs)[self.out_axis(name).name]
        return range(start, start + len(self.out_axis(name).digits))

    def columns_of(self, name: str) -> tuple[int, ...]:
        """The columns of one input axis, low digit first."""
        digits = self.in_digits(name)
        return self.columns[digits.start : digits.stop]

    def basis(self) -> dict[str, list[dict[str, int]]]:
        """The inverse of `from_basis`: the image of every input digit at 1."""
        return {axis.name: [self._coordinates_of(column) for column in self.columns_of(axis.name)] for axis in self.ins}

    def _coordinates_of(self, mask: int) -> dict[str, int]:
        image: dict[str, int] = {}
        for axis in self.outs:
            start = self.out_digits(axis.name).start
            value = sum(place for digit, place in enumerate(axis.places) if mask >> (start + digit) & 1)
            if value:
                image[axis.name] = value
        return image

    def __call__(self, **coordinates: int) -> dict[str, int]:
        """The output coordinates of one input point. Raises: LayoutError for unknown or missing axes and coordinates out of range."""
        if coordinates.keys() != {axis.name for axis in self.ins}:
            raise LayoutError(f"got coordinates {sorted(coordinates)}, the inputs are {sorted(axis.name for axis in self.ins)}")
        values = [0] * len(self.out_radices)
        position = 0
        for axis in self.ins:
            rest = coordinates[axis.name]
            if not 0 <= rest < axis.extent:
                raise LayoutError(f"coordinate {rest} lies outside axis {axis}")
            for radix in axis.digits:
                rest, digit = divmod(rest, radix)
                for bit in set_bits(self.columns[position] if digit else 0):
                    values[bit] ^= digit
                position += 1
        images: dict[str, int] = {}
        for axis in self.outs:
            digits = self.out_digits(axis.name)
            images[axis.name] = sum(value * place for value, place in zip(values[digits.start : digits.stop], axis.places, strict=True))
        return images

    def table(self) -> npt.NDArray[np.int64]:
        """All points at once: shape (*input extents, number of outs), entry [x…, o] = coordinate o of the image."""
        shifts, width = [], 0
        for radix in self.out_radices:
            shifts.append(width)
            width += (radix - 1).bit_length()
        if width > 62:
            raise LayoutError(f"an output space of {width} bits is too large for a table")
        words = np.zeros(1, dtype=np.int64)  # one bit field per output digit; fields never carry into each other
        for axis in reversed(self.ins):
            for radix, column in zip(axis.digits, self.columns_of(axis.name), strict=True):
                step = sum(1 << shifts[bit] for bit in set_bits(column))
                words = ((np.arange(radix, dtype=np.int64) * step)[:, None] ^ words[None, :]).reshape(-1)
        coordinates = []
        for axis in self.outs:
            value = np.zeros_like(words)
            first = self.out_digits(axis.name).start
            for start, stop in digit_runs(axis.digits):
                bits = sum((radix - 1).bit_length() for radix in axis.digits[start:stop])
                value += (words >> shifts[first + start] & ((1 << bits) - 1)) * axis.places[start]
            coordinates.append(value)
        extents = [axis.extent for axis in self.ins]
        return np.stack(coordinates, axis=-1).reshape(*extents, len(self.outs)) if coordinates else np.zeros((*extents, 0), dtype=np.int64)

    def replication(self) -> tuple[int, ...]:
        """A basis of the null space, as masks over input digits: moving along one of them gives another copy of the same element."""
        return null_space(self.columns)

    def replicated_digits(self) -> tuple[int, ...]:
        """Positions of input digits to pin at 0 so that each element of the image has exactly one owner (the elected writer)."""
        return tuple(relation.bit_length() - 1 for relation in self.replication())

    @property
    def rank(self) -> int:
        return rank(self.columns)

    @property
    def is_injective(self) -> bool:
        return self.rank == len(self.columns)

    @property
    def is_onto(self) -> bool:
        return self.rank == len(self.out_radices)

    @property
    def is_bijective(self) -> bool:
        return self.is_injective and self.is_onto

    def is_same_map(self, other: Layout) -> bool:
        """Whether both send every point to the same place, even if an axis is factored in another order."""
        if self == other:
            return True
        pairs = ((self.ins, other.ins), (self.outs, other.outs))
        if any([(a.name, a.extent) for a in mine] != [(a.name, a.extent) for a in theirs] for mine, theirs in pairs):
            return False
        return any(mine != theirs for mine, theirs in pairs) and np.array_equal(self.table(), other.table())

    # ----------------------------------------------------------------------------------------------------------------- algebra

    def compose(self, inner: Layout) -> Layout:
        """self after inner: inner.ins -> self.outs. Raises: LayoutError unless inner.outs and self.ins are the same axes, in any order."""
        if len(inner.outs) != len(self.ins):
            raise LayoutError(f"cannot compose: inner gives {[str(a) for a in inner.outs]}, outer takes {[str(a) for a in self.ins]}")
        images: list[int] = []
        for axis in inner.outs:
            mine = self.in_axis(axis.name)
            if mine.digits != axis.digits:
                raise LayoutError(f"cannot compose through axis {axis.name}: digits {axis.digits} against {mine.digits}")
            images.extend(self.columns_of(axis.name))
        return Layout(inner.ins, self.outs, tuple(combine(column, images) for column in inner.columns))

    def inverse(self) -> Layout:
        """A right inverse outs -> ins: compose(inverse) is the identity; replicated digits come out 0. Raises: LayoutError if not onto."""
        span = Span(self.columns)
        columns = []
        for bit in range(len(self.out_radices)):
            preimage = span.solve(1 << bit)
            if preimage is None:
                raise LayoutError(f"not onto: nothing maps to {self._coordinates_of(1 << bit)}, so there is no right inverse")
            columns.append(preimage)
        return Layout(self.outs, self.ins, tuple(columns))

    def left_inverse(self) -> Layout:
        """A left inverse outs -> ins: it undoes self; points outside the image repeat others. Raises: LayoutError unless injective."""
        span = Span(self.columns)
        if span.rank < len(self.columns):
            raise LayoutError("not injective, so there is no left inverse")
        inputs = (1 << len(self.columns)) - 1
        columns = []
        for bit in range(len(self.out_radices)):
            preimage = span.solve(1 << bit)
            if preimage is None:
                span.insert(1 << bit)  # a direction outside the image: free to choose, and 0 makes it a replica
            columns.append((preimage or 0) & inputs)
        return Layout(self.outs, self.ins, tuple(columns))

    def __mul__(self, atom: Layout) -> Layout:
        """The atom repeated over self: on each axis the atom has the low digits and self the high ones.

        Axis order is self's, then the atom's own.
        """
        ins, from_rest_in, from_atom_in = _interleave(self.ins, atom.ins)
        outs, from_rest, from_atom = _interleave(self.outs, atom.outs)
        columns = [0] * (len(self.columns) + len(atom.columns))
        for position, column in zip(from_rest_in, self.columns, strict=True):
            columns[position] = remap(column, from_rest)
        for position, column in zip(from_atom_in, atom.columns, strict=True):
            columns[position] = remap(column, from_atom)
        return Layout(ins, outs, tuple(columns))

    def divide(self, atom: Layout) -> Layout | None:
        """The rest with `rest * atom == self`, or None if the atom does not divide. The rest keeps all axes of self, some with extent 1."""
        rest_axes: list[tuple[Axis, ...]] = []
        for mine, theirs in ((self.ins, atom.ins), (self.outs, atom.outs)):
            low = {axis.name: axis.digits for axis in theirs}
            if not low.keys() <= {axis.name for axis in mine}:
                return None
            shortened = []
            for axis in mine:
                prefix = low.get(axis.name, ())
                if axis.digits[: len(prefix)] != prefix:
                    return None
                shortened.append(Axis(axis.name, axis.digits[len(prefix) :]))
            rest_axes.append(tuple(shortened))
        rest_ins, rest_outs = rest_axes
        _, from_rest_in, from_atom_in = _interleave(rest_ins, atom.ins)
        _, from_rest, from_atom = _interleave(rest_outs, atom.outs)
        if any(self.columns[position] != remap(column, from_atom) for position, column in zip(from_atom_in, atom.columns, strict=True)):
            return None
        back = {bit: number for number, bit in enumerate(from_rest)}
        columns = []
        for position in from_rest_in:
            bits = list(set_bits(self.columns[position]))
            if any(bit not in back for bit in bits):
                return None
            columns.append(sum(1 << back[bit] for bit in bits))
        return Layout(rest_ins, rest_outs, tuple(columns))

    # ----------------------------------------------------------------------------------------------------------- axis plumbing

    def rename(self, ins: Mapping[str, str] | None = None, outs: Mapping[str, str] | None = None) -> Layout:
        """The same map with axes renamed, old name to new name."""

        def renamed(axes: tuple[Axis, ...], names: Mapping[str, str] | None, side: str) -> tuple[Axis, ...]:
            for name in names or {}:
                _by_name(axes, name, side)
            return tuple(Axis((names or {}).get(axis.name, axis.name), axis.digits) for axis in axes)

        return replace(self, ins=renamed(self.ins, ins, "input"), outs=renamed(self.outs, outs, "output"))

    def reorder(self, ins: Sequence[str] | None = None, outs: Sequence[str] | None = None) -> Layout:
        """The same map with its axes listed in another order."""
        in_names = [axis.name for axis in self.ins] if ins is None else list(ins)
        out_names = [axis.name for axis in self.outs] if outs is None else list(outs)
        if sorted(in_names) != sorted(axis.name for axis in self.ins) or sorted(out_names) != sorted(axis.name for axis in self.outs):
            raise LayoutError(f"order {in_names} -> {out_names} does not name every axis once")
        new_outs = tuple(self.out_axis(name) for name in out_names)
        starts = _starts(new_outs)
        positions = [starts[axis.name] + digit for axis in self.outs for digit in range(len(axis.digits))]
        columns = tuple(remap(column, positions) for name in in_names for column in self.columns_of(name))
        return Layout(tuple(self.in_axis(name) for name in in_names), new_outs, columns)

    def reorder_digits(self, name: str, order: Sequence[int]) -> Layout:
        """Renumbers one input axis: its new digit k is its old digit order[k]. For registers this only renames them."""
        axis, columns = self.in_axis(name), self.columns_of(name)
        if sorted(order) != list(range(len(axis.digits))):
            raise LayoutError(f"{list(order)} is not an order of the {len(axis.digits)} digits of axis {axis}")
        start = self.in_digits(name).start
        moved = (*self.columns[:start], *(columns[digit] for digit in order), *self.columns[start + len(order) :])
        new_axis = Axis(name, tuple(axis.digits[digit] for digit in order))
        return Layout(tuple(new_axis if other.name == name else other for other in self.ins), self.outs, moved)

    def reshape_ins(self, axes: Sequence[Axis]) -> Layout:
        """Regroups the input digits into new axes; the digit sequence stays. (lane, warp) to (thread,) and back."""
        return Layout(_regrouped(self.ins, axes), self.outs, self.columns)

    def reshape_outs(self, axes: Sequence[Axis]) -> Layout:
        """Regroups the output digits into new axes; the digit sequence stays."""
        return Layout(self.ins, _regrouped(self.outs, axes), self.columns)

    def restrict(self, **extents: int) -> Layout:
        """Keeps only input coordinates below the given extent per axis (a product of low digits); 1 pins the axis at 0."""
        for name in extents:
            self.in_axis(name)
        ins: list[Axis] = []
        columns: list[int] = []
        for axis in self.ins:
            count = axis.low_digits(extents[axis.name]) if axis.name in extents else len(axis.digits)
            ins.append(Axis(axis.name, axis.digits[:count]))
            columns.extend(self.columns_of(axis.name)[:count])
        return Layout(tuple(ins), self.outs, tuple(columns))

    def drop_input(self, name: str) -> Layout:
        """Pins an input axis at 0 and removes it."""
        pinned = self.restrict(**{name: 1})
        return replace(pinned, ins=tuple(axis for axis in pinned.ins if axis.name != name))

    def drop_output(self, name: str) -> Layout:
        """Forgets an output coordinate: what differed only there becomes replicated (the result of a reduction along it)."""
        digits = self.out_digits(name)
        low = (1 << digits.start) - 1
        columns = tuple(column & low | column >> digits.stop << digits.start for column in self.columns)
        return Layout(self.ins, tuple(axis for axis in self.outs if axis.name != name), columns)

    def drop_redundant(self, name: str) -> Layout:
        """Removes digits of an input axis that repeat what its lower digits reach: registers that would hold copies within one thread."""
        span = Span()
        axis, start = self.in_axis(name), self.in_digits(name).start
        kept = [digit for digit, column in enumerate(self.columns_of(name)) if not span.insert(column)]
        new_axis = Axis(name, tuple(axis.digits[digit] for digit in kept))
        columns = (*self.columns[:start], *(self.columns[start + digit] for digit in kept), *self.columns[start + len(axis.digits) :])
        return Layout(tuple(new_axis if other.name == name else other for other in self.ins), self.outs, columns)

    def __str__(self) -> str:
        parts = []
        for name, images in self.basis().items():
            steps = (" ^ ".join(f"{axis}+{value}" for axis, value in image.items()) or "-" for image in images)
            parts.append(f"{self.in_axis(name)} [{', '.join(steps)}]")
        return f"{'; '.join(parts)} -> {', '.join(str(axis) for axis in self.outs)}"


def _regrouped(old: Sequence[Axis], new: Sequence[Axis]) -> tuple[Axis, ...]:
    if _radices(old) != _radices(new):
        raise LayoutError(f"a reshape must keep the sequence of digits, got {_radices(new)} for {_radices(old)}")
    return tuple(new)


def _interleave(rest: Sequence[Axis], atom: Sequence[Axis]) -> tuple[tuple[Axis, ...], list[int], list[int]]:
    """The axes of a product, and where each digit of rest and of atom goes in it."""
    low = {axis.name: axis.digits for axis in atom}
    high = {axis.name: axis.digits for axis in rest}
    names = [axis.name for axis in rest] + [axis.name for axis in atom if axis.name not in high]
    merged = tuple(Axis(name, low.get(name, ()) + high.get(name, ())) for name in names)
    starts = _starts(merged)
    from_rest = [starts[axis.name] + len(low.get(axis.name, ())) + digit for axis in rest for digit in range(len(axis.digits))]
    from_atom = [starts[axis.name] + digit for axis in atom for digit in range(len(axis.digits))]
    return merged, from_rest, from_atom
