"""Pictures of layouts: what stands in each square, in both views, and files that readers of SVG and PDF accept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.layout import make_fully_replicated_layout_fragment, make_gemm_fragment_8x8
from tilewright.tools import plot_layout
from tilewright.tools.plot_layout import layout_cells


def texts(layout: Any, view: str, **options: Any) -> dict[tuple[int, int], tuple[str, ...]]:
    return {(cell.row, cell.column): cell.lines for cell in layout_cells(layout, view, **options)}


def test_elements_of_a_fragment() -> None:
    shown = texts(make_gemm_fragment_8x8(), "input")
    assert len(shown) == 64 and shown[3, 5] == ("T14", "L1") and shown[7, 6] == ("T31", "L0")


def test_threads_of_a_fragment() -> None:
    shown = texts(make_gemm_fragment_8x8(), "output")
    assert len(shown) == 64 and shown[14, 1] == ("3,5",) and shown[31, 0] == ("7,6",)


def test_copies_are_counted() -> None:
    layout = make_fully_replicated_layout_fragment(_Tile(), 4)
    assert texts(layout, "input")[0, 1] == ("T0+3", "L1")
    assert len(texts(layout, "output")) == 4 * 6


class _Tile:
    shape, dtype = (2, 3), T.float32


def test_places_of_a_layout_with_padding() -> None:
    layout = T.Layout((4, 6), lambda i, j: i * 8 + j)
    assert texts(layout, "input")[3, 5] == ("29",)
    held = texts(layout, "output", grid_shape=(4, 8))
    assert held[3, 5] == ("3,5",) and (3, 6) not in held and len(held) == 24


def test_the_svg_has_the_squares_and_texts(tmp_path: Path) -> None:
    (path,) = plot_layout(make_gemm_fragment_8x8(), tmp_path / "new", "fragment", formats="svg", colormap=["#102030", "#405060"])
    assert path == tmp_path / "new" / "fragment.svg"
    root = ElementTree.parse(path).getroot()
    boxes, labels = root.findall("{*}rect"), root.findall("{*}text")
    assert len(boxes) == 64 and len(labels) == 128 and {box.get("fill") for box in boxes} == {"#102030", "#405060"}
    assert root.get("width") == root.get("height") == "320" and labels[0].text == "T0"


def test_the_pdf_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = plot_layout(make_gemm_fragment_8x8(), tmp_path, verbose=True)
    data = path.read_bytes()
    assert data.startswith(b"%PDF-1.4\n") and data.endswith(b"%%EOF\n") and f"wrote {path}" in capsys.readouterr().out
    start = int(re.findall(rb"startxref\n(\d+)", data)[0])
    assert data[start : start + 4] == b"xref"
    for number, offset in enumerate(map(int, re.findall(rb"(\d{10}) 00000 n", data)), 1):
        assert data[offset:].startswith(b"%d 0 obj\n" % number)
    length = int(re.findall(rb"/Length (\d+)", data)[0])
    stream = data[data.index(b"stream\n") + 7 :]
    assert stream[length : length + 10] == b"\nendstream" and stream.count(b" re B") == 64 and stream.count(b"(T14) Tj") == 2


def test_all_formats(tmp_path: Path) -> None:
    assert [p.suffix for p in plot_layout(make_gemm_fragment_8x8(), tmp_path, formats="all")] == [".pdf", ".svg"]
    assert [p.suffix for p in plot_layout(make_gemm_fragment_8x8(), tmp_path, formats=["svg"])] == [".svg"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"formats": "png"}, "the formats of plot_layout are 'png'"),
        ({"formats": []}, "the formats of plot_layout are []"),
        ({"view": "both"}, "the view of plot_layout is 'both'"),
        ({"colormap": "viridis"}, "the colormap of plot_layout is 'viridis'"),
        ({"grid_shape": (2, 8)}, "8 x 8 squares are drawn"),
    ],
)
def test_mistakes(options: dict[str, Any], part: str, tmp_path: Path) -> None:
    with refused(Kind.OPTION_VALUE, part):
        plot_layout(make_gemm_fragment_8x8(), tmp_path, **options)
    with refused(Kind.OPTION_VALUE, "it draws layouts"):
        plot_layout((8, 8), tmp_path)
