"""`TableLayout`, for user maps that are no homomorphism, and the check that a map sends no two elements to one place (floor 1).

A table is correct for any map but gives scalar access only: no vectors, no instruction matching. Callers warn when they end up here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilewright.layout.digits import LayoutError


@dataclass(frozen=True, slots=True)
class Collision:
    """Two different input points with the same image; both in input-axis order, the first one first in row-major order."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    image: tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True)
class TableLayout:
    """Any map from a tile to coordinates, stored point by point.

    `values` has shape (*extents, number of outs) and is made read-only; equality and hash compare names and every point.
    """

    in_names: tuple[str, ...]
    out_names: tuple[str, ...]
    values: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.values.ndim != len(self.in_names) + 1 or self.values.shape[-1] != len(self.out_names):
            raise LayoutError(f"a table of shape {self.values.shape} does not fit {self.in_names} -> {self.out_names}")
        own = np.array(self.values, dtype=np.int64)
        own.setflags(write=False)
        object.__setattr__(self, "values", own)

    @property
    def extents(self) -> tuple[int, ...]:
        return self.values.shape[:-1]

    @property
    def out_extents(self) -> tuple[int, ...]:
        """One more than the largest value of each output coordinate."""
        return tuple(int(extent) + 1 for extent in self.values.reshape(-1, len(self.out_names)).max(axis=0))

    @property
    def size_elements(self) -> int:
        """Number of points of the bounding box of the image: what to allocate."""
        return int(np.prod(self.out_extents, dtype=np.int64))

    def table(self) -> npt.NDArray[np.int64]:
        return self.values

    def __call__(self, **coordinates: int) -> dict[str, int]:
        """The output coordinates of one point. Raises: LayoutError for wrong axes or coordinates out of range."""
        if coordinates.keys() != set(self.in_names):
            raise LayoutError(f"got coordinates {sorted(coordinates)}, the inputs are {sorted(self.in_names)}")
        point = tuple(coordinates[name] for name in self.in_names)
        if any(not 0 <= value < extent for value, extent in zip(point, self.extents, strict=True)):
            raise LayoutError(f"point {point} lies outside {self.extents}")
        return {name: int(value) for name, value in zip(self.out_names, self.values[point], strict=True)}

    def inverse_table(self) -> npt.NDArray[np.int64]:
        """Shape (*out extents, number of ins): the first input point with that image, or -1 where nothing lies."""
        inverse = np.full((*self.out_extents, len(self.in_names)), -1, dtype=np.int64)
        points = np.stack(np.unravel_index(np.arange(int(np.prod(self.extents))), self.extents), axis=-1)
        images = self.values.reshape(-1, len(self.out_names))
        inverse[tuple(images[::-1].T)] = points[::-1]  # reversed: the first point is written last and stays
        return inverse

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TableLayout):
            return NotImplemented
        return (self.in_names, self.out_names) == (other.in_names, other.out_names) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.in_names, self.out_names, self.values.shape, self.values.tobytes()))


def flat_index(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Numbers points given by coordinates (…, outs) row-major over the smallest box from 0 that holds them. Values are not negative."""
    box = values.reshape(-1, values.shape[-1]).max(axis=0) + 1
    weights = np.append(np.cumprod(box[:0:-1])[::-1], 1)
    return np.asarray(values @ weights, dtype=np.int64)


def first_collision(values: npt.NDArray[np.int64], relevant: Sequence[int] | None = None) -> Collision | None:
    """The first two points of a table (*extents, outs) with equal images, or None if the map is injective.

    `relevant` lists the input axes that must differ for a clash to count (default all): two replicas of one element may share a place.
    """
    extents = values.shape[:-1]
    images = values.reshape(-1, values.shape[-1])
    keys = flat_index(values).reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) == len(keys):
        return None
    owner = first[inverse]  # the first point with the same image
    points = np.stack(np.unravel_index(np.arange(len(images)), extents), axis=-1) if extents else np.zeros((len(images), 0), dtype=np.int64)
    axes = list(range(len(extents)) if relevant is None else relevant)
    clashes = np.flatnonzero((points[owner][:, axes] != points[:, axes]).any(axis=1))
    if not len(clashes):
        return None
    second = int(clashes[0])
    return Collision(
        tuple(int(value) for value in points[owner[second]]),
        tuple(int(value) for value in points[second]),
        tuple(int(value) for value in images[second]),
    )
