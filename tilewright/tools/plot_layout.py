"""Layouts as pictures (floor 9): which thread and register, or which place in memory, each element of a tile has; written as SVG or PDF."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.errors import Kind, fail
from tilewright.ir.expr import describe_operand
from tilewright.layout.annotations import FragmentAnnotation, LayoutAnnotation
from tilewright.spans import span_of_caller

FORMATS = ("pdf", "svg")
_CELL = 40  # points
_TEXT = 10
_LINE = 12
_PALETTE_SIZE = 32


@dataclass(frozen=True)
class Cell:
    """One square of a picture: where it stands, its lines of text, and its colour by number (of the thread, or of the line of memory)."""

    row: int
    column: int
    lines: tuple[str, ...]
    color: int


def plot_layout(
    layout: Any,
    save_directory: str | Path = "./tmp",
    name: str = "layout",
    colormap: Sequence[str] | None = None,
    verbose: bool = False,
    formats: str | Sequence[str] = "pdf",
    view: str = "input",
    grid_shape: tuple[int, int] | None = None,
) -> tuple[Path, ...]:
    """Draws a `T.Layout` or a `T.Fragment`; gives the files that were written.

    colormap     colours "#rrggbb" for the threads of a fragment, or the rows of 128 places of a layout, used in turn; None for a palette of 32.
    formats      "pdf", "svg", "all", or several of them.
    view         "input": a square per element, with its place; "output": a square per place, with the element that lies there.
    grid_shape   rows and columns of squares; None for the tile's last axis as columns, or a row per thread.

    Raises TileError (option-value) for other arguments.
    """
    if not isinstance(layout, (LayoutAnnotation, FragmentAnnotation)):
        _refuse(f"plot_layout was given {describe_operand(layout)}", "it draws layouts", "give a T.Layout or a T.Fragment")
    wanted = [formats] if isinstance(formats, str) else list(formats)
    kinds = list(FORMATS) if wanted == ["all"] else wanted
    if not kinds or any(kind not in FORMATS for kind in kinds):
        _refuse(f"the formats of plot_layout are {formats!r}", f"known are {', '.join(FORMATS)} and all", 'write formats="svg"')
    if view not in ("input", "output"):
        _refuse(f"the view of plot_layout is {view!r}", "known are input and output", 'write view="input"')
    is_list = isinstance(colormap, Sequence) and not isinstance(colormap, str)
    if colormap is not None and not (is_list and colormap and all(isinstance(c, str) and len(c) == 7 and c[0] == "#" for c in colormap)):
        _refuse(f"the colormap of plot_layout is {colormap!r}", 'it is a list of colours such as "#80c0ff"', "leave it out for the palette")
    cells = layout_cells(layout, view, grid_shape)
    colors = list(colormap) if colormap is not None else _palette()
    folder = Path(save_directory)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in kinds:
        path = folder / f"{name}.{kind}"
        path.write_bytes(_svg(cells, colors) if kind == "svg" else _pdf(cells, colors))
        written.append(path)
        if verbose:
            print(f"wrote {path}: {len(cells)} squares")
    return tuple(written)


def _refuse(message: str, because: str, help: str) -> Any:
    fail(Kind.OPTION_VALUE, message, span_of_caller(), because=because, help=help)


def layout_cells(layout: LayoutAnnotation | FragmentAnnotation, view: str, grid_shape: tuple[int, int] | None = None) -> list[Cell]:
    """The squares of a picture."""
    squares = _fragment_squares(layout, view) if isinstance(layout, FragmentAnnotation) else _memory_squares(layout, view)
    rows, columns, found = squares
    if grid_shape is not None:
        if math.prod(grid_shape) < rows * columns:
            shown = f"{rows} x {columns}"
            _refuse(f"the grid of plot_layout is {grid_shape}", f"{shown} squares are drawn", f"give a grid of at least {rows * columns} squares")
        columns = grid_shape[1]
    return [Cell(*divmod(number, columns), lines, color) for number, (lines, color) in sorted(found.items())]


_Square = tuple[tuple[str, ...], int]  # text and colour
_Squares = tuple[int, int, dict[int, _Square]]  # rows, columns, and squares by number


def _memory_squares(layout: LayoutAnnotation, view: str) -> _Squares:
    places, box = layout.index.reshape(-1, layout.index.shape[-1]), layout.get_output_shape()
    flat = np.asarray(np.ravel_multi_index(tuple(places.T), box)).reshape(-1)
    shape = layout.shape if view == "input" else box
    numbers = np.arange(len(flat)) if view == "input" else flat
    texts = [_coordinates(p) for p in places] if view == "input" else [_coordinates(np.unravel_index(n, layout.shape)) for n in range(len(flat))]
    colors = flat // 128 if view == "input" else np.arange(len(flat)) // layout.shape[-1]
    found: dict[int, _Square] = {int(number): ((text,), int(color)) for number, text, color in zip(numbers, texts, colors, strict=True)}
    return *_as_grid(shape), found


def _fragment_squares(layout: FragmentAnnotation, view: str) -> _Squares:
    threads, registers = layout.thread.reshape(-1, layout.replicas), layout.index.reshape(-1, layout.replicas)
    if view == "input":
        found: dict[int, _Square] = {}
        for number, (held_by, register) in enumerate(zip(threads, registers, strict=True)):
            copies = sorted(set(map(int, held_by)))
            shown = f"T{copies[0]}" if len(copies) == 1 else f"T{copies[0]}+{len(copies) - 1}"
            found[number] = (shown, f"L{int(register[0])}"), copies[0]
        return *_as_grid(layout.shape), found
    columns = layout.get_output_shape()[0]
    held: dict[int, _Square] = {}
    for number in range(len(threads)):
        text = _coordinates(np.unravel_index(number, layout.shape))
        for thread, register in zip(threads[number], registers[number], strict=True):
            held[int(thread) * columns + int(register)] = (text,), int(thread)
    return layout.get_thread_size(), columns, held


def _coordinates(values: Any) -> str:
    return ",".join(str(int(v)) for v in values)


def _as_grid(shape: Sequence[int]) -> tuple[int, int]:
    return math.prod(shape[:-1]), shape[-1]


def _palette() -> list[str]:
    made = []
    for number in range(_PALETTE_SIZE):
        red, green, blue = colorsys.hls_to_rgb(number * 11 % _PALETTE_SIZE / _PALETTE_SIZE, 0.82 - 0.08 * (number % 2), 0.7)
        made.append(f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}")
    return made


def _size(cells: Sequence[Cell]) -> tuple[int, int]:
    return _CELL * (max(c.column for c in cells) + 1), _CELL * (max(c.row for c in cells) + 1)


def _baselines(cell: Cell) -> list[tuple[str, float]]:
    """Each line of text, and how far below the top of the square it stands."""
    first = (_CELL - _LINE * (len(cell.lines) - 1)) / 2 + _TEXT / 3
    return [(line, first + _LINE * number) for number, line in enumerate(cell.lines)]


def _svg(cells: Sequence[Cell], colors: Sequence[str]) -> bytes:
    width, height = _size(cells)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="Helvetica, sans-serif" font-size="{_TEXT}">']
    for cell in cells:
        x, y = cell.column * _CELL, cell.row * _CELL
        parts.append(f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="{colors[cell.color % len(colors)]}" stroke="#404040"/>')
        parts += [f'<text x="{x + _CELL / 2:g}" y="{y + down:g}" text-anchor="middle">{line}</text>' for line, down in _baselines(cell)]
    return "\n".join([*parts, "</svg>", ""]).encode()


def _pdf(cells: Sequence[Cell], colors: Sequence[str]) -> bytes:
    """One page. Source: ISO 32000-1, 7.5 (file structure), 8.5 (paths), 9.4 (text); Helvetica is one of the fonts that every reader has."""
    width, height = _size(cells)
    drawing = ["0.25 G 0.5 w"]
    for cell in cells:
        x, top = cell.column * _CELL, height - cell.row * _CELL
        color = colors[cell.color % len(colors)]
        red, green, blue = (int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))
        drawing.append(f"{red:.3f} {green:.3f} {blue:.3f} rg {x} {top - _CELL} {_CELL} {_CELL} re B")
        for line, down in _baselines(cell):
            start = x + _CELL / 2 - len(line) * _TEXT * 0.26  # half the width of digits, which are 0.556 wide, and commas
            drawing.append(f"BT 0 g /F1 {_TEXT} Tf {start:.2f} {top - down:.2f} Td ({line}) Tj ET")
    content = "\n".join(drawing).encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>".encode(),
        f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, text in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n".encode() + text + b"\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return bytes(body) + trailer.encode()
