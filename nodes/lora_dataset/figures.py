"""Grid, line plot and strip plot of LoRA Sweep and Compare Methods. They draw what they are given; what it means is said by those who call them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..identity.drawing import COLOURS, INK, PAPER, RULE
from ..identity.scoring import REJECT
from ..texts import one_line
from .paper import (
    FAINT,
    KEY,
    LEGEND_LINE,
    LINE,
    LONGEST_SIDE,
    MARGIN,
    PALE,
    SMALL_SIZE,
    TEXT_SIZE,
    TITLE_HEIGHT,
    TITLE_SIZE,
    Canvas,
    flowing,
    folded,
    high,
    widest,
)
from .plots import Line, Strip, line_plot, strip_plot

__all__ = ["LONGEST_SIDE", "Cell", "Line", "Row", "Strip", "Tile", "grid", "line_plot", "strip_plot"]

# Of the suggested cell; the blue of Okabe and Ito, which is no verdict's.
CHOSEN = "#0072B2"
GUTTER = 230
WIDEST_HEADING = 170
# A tile may become smaller by this before those of a cell go on in a further line.
STILL_GOOD = 2 / 3
# Width to height from which on they go on in a further line, too: a wider strip is hard to look at.
WIDEST = 3.5
FEWEST_WIDTH = 420
ERROR_HEIGHT = 56


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a grid. pixels: uint8 [H,W,3], None where it was not made; label: below it, such as `0.71` or `no face`; verdict: of
    scoring.VERDICTS or None; error: why it was not made."""

    pixels: np.ndarray | None
    label: str = ""
    verdict: str | None = None
    error: str = ""


@dataclass(frozen=True, eq=False)
class Cell:
    """The pictures of one column in one row, with a heading such as `0.71 · 4 of 5`. chosen: it is framed and marked as suggested."""

    tiles: tuple[Tile, ...]
    heading: str = ""
    chosen: bool = False


@dataclass(frozen=True, eq=False)
class Row:
    """label: such as a file's name; cells: one for each column, None where there is none; error: stands in place of the cells."""

    label: str
    cells: tuple[Cell | None, ...] = ()
    error: str = ""


def grid(title: str, columns: Sequence[str], rows: Sequence[Row], tile_side: int = 192, together: int = 1) -> np.ndarray:
    """Rows x columns of cells, each with its tiles side by side, uint8 [H,W,3]. tile_side: the longest side of a tile where there is room for it;
    together: so many tiles of a cell belong to each other (the seeds of a prompt) and are not parted by a line's end where a line holds as many.

    Tiles have the shape of the pictures. Where those of a cell would become too small or a strip too wide beside each other, they go on in further lines, in all cells alike.
    """
    return _grid(title, columns, rows, tile_side, together).pixels()


@dataclass(frozen=True)
class _Layout:
    """The measures of a grid in pixels; sizes of letters are 0 where there is no room for them.

    tile: width and height; per_line: tiles beside each other; between: from tile to tile; gap: from cell to cell; cell: width of one; label, heading,
    name, column: sizes of what stands below a tile, above a cell, left of a row, above a column; gutter: width for the names of rows; heights: of the rows.
    """

    tile: tuple[int, int]
    per_line: int
    between: int
    gap: int
    cell: int
    label: int
    heading: int
    name: int
    column: int
    gutter: int
    header: int
    heights: tuple[int, ...]
    width: int
    height: int

    @property
    def heading_height(self) -> int:
        return high(self.heading) + 4 if self.heading else 0

    @property
    def line_height(self) -> int:
        """Of one line of tiles with what stands below them."""
        return self.tile[1] + (high(self.label) + 2 if self.label else 0) + self.between

    def left(self, column: int) -> int:
        return MARGIN + self.gutter + column * (self.cell + self.gap)


def _is_headed(row: Row) -> bool:
    return any(cell is not None and (cell.heading or cell.chosen) for cell in row.cells)


class _Plan:
    """What of a grid decides its measures, looked up once."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Row]):
        self.columns, self.rows = columns, rows
        self.cells = [cell for row in rows for cell in row.cells if cell is not None]
        tiles = [tile for cell in self.cells for tile in cell.tiles]
        shapes = [(width / max(width, height), height / max(width, height)) for height, width in {t.pixels.shape[:2] for t in tiles if t.pixels is not None}]
        self.shape = (max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)) if shapes else (1.0, 1.0)
        self.most = max((len(cell.tiles) for cell in self.cells), default=0) or 1
        self.labelled = any(tile.label or tile.verdict for tile in tiles)
        self.headed = any(map(_is_headed, rows))
        self.heading_width = min(WIDEST_HEADING, widest((cell.heading for cell in self.cells), TEXT_SIZE) + KEY)
        self.names_width = math.ceil(min(GUTTER, widest((row.label for row in rows), TEXT_SIZE)))
        found = {tile.verdict for tile in tiles}
        self.legend = [*(verdict for verdict in COLOURS if verdict in found), *(["suggested"] if any(cell.chosen for cell in self.cells) else [])]

    def layout(self, side: int, per_line: int) -> _Layout:
        tile = max(1, round(side * self.shape[0])), max(1, round(side * self.shape[1]))
        size = next((size for least, size in ((100, 14), (64, 12), (40, 10)) if side >= least), 0)
        between, gap = max(1, min(5, side // 24)), max(1, min(18, side // 8))
        label = max(0, size - 1) if self.labelled and tile[0] >= 30 else 0
        cell = per_line * (tile[0] + between) - between
        if side >= 100 and self.headed:
            cell = max(cell, math.ceil(self.heading_width))
        heading = size if self.headed and cell >= 40 else 0
        column = next((size for least, size in ((80, 15), (40, 12), (20, 9)) if cell >= least), 0) if any(map(one_line, self.columns)) else 0
        line = tile[1] + (high(label) + 2 if label else 0) + between
        above = high(heading) + 4 if heading else 0
        heights = []
        for row in self.rows:
            lines = max((-(-len(cell.tiles) // per_line) for cell in row.cells if cell is not None), default=0)
            heights.append(min(ERROR_HEIGHT, above + line) if row.error else (above if _is_headed(row) else 0) + lines * line or line)
        lowest = min(heights, default=0)
        name = TEXT_SIZE if lowest >= high(TEXT_SIZE) else int(lowest / LINE) if lowest >= 10 else 0
        gutter = self.names_width + max(gap, 12) if name and self.names_width else 0
        count = len(self.columns)
        lines = max((len(folded(text, column, cell, 2)) for text in self.columns), default=0) if column else 0
        header = lines * high(column) + 10 if column else 0
        width = max(FEWEST_WIDTH, MARGIN + gutter + count * (cell + gap) - gap + MARGIN)
        places = flowing(self.legend, SMALL_SIZE, width - 2 * MARGIN)
        legend = (places[-1][1] + 1) * LEGEND_LINE + 8 if places else 0
        height = TITLE_HEIGHT + header + sum(heights) + gap * len(heights) + legend + MARGIN
        return _Layout(tile, per_line, between, gap, cell, label, heading, name, column, gutter, header, tuple(heights), width, height)

    def largest(self, tile_side: int, per_line: int) -> int:
        """The longest side of a tile with which the grid keeps within LONGEST_SIDE; 1 where none does."""
        low, high = 1, max(1, tile_side)
        while low < high:
            middle = (low + high + 1) // 2
            layout = self.layout(middle, per_line)
            low, high = (middle, high) if max(layout.width, layout.height) <= LONGEST_SIDE else (low, middle - 1)
        return low

    def best(self, tile_side: int, together: int = 1) -> _Layout:
        """Of the layouts in which tiles are large enough, else the largest, the one with the fewest lines that is not too wide."""
        groups = -(-self.most // together)
        if groups == 1:
            counts = dict.fromkeys(-(-self.most // lines) for lines in range(1, self.most + 1))
        else:
            whole = (together * -(-groups // lines) for lines in range(1, groups + 1))
            parts = (count for count in range(together, 0, -1) if together % count == 0)
            counts = dict.fromkeys((*whole, *parts))
        layouts = [self.layout(self.largest(tile_side, per_line), per_line) for per_line in counts]
        return max(layouts, key=lambda one: (min(max(one.tile), STILL_GOOD * tile_side), -max(one.width / one.height, WIDEST)))


def _grid(title: str, columns: Sequence[str], rows: Sequence[Row], tile_side: int, together: int = 1) -> Canvas:
    plan = _Plan(columns, rows)
    measures = plan.best(tile_side, together)
    canvas = Canvas(measures.width, measures.height)
    canvas.text(MARGIN, MARGIN + TITLE_SIZE / 2, title, TITLE_SIZE, canvas.width - 2 * MARGIN)
    y = TITLE_HEIGHT
    if measures.column:
        for i, name in enumerate(columns):
            lines = folded(name, measures.column, measures.cell, 2)
            for j, line in enumerate(reversed(lines)):
                canvas.text(
                    measures.left(i) + measures.cell / 2,
                    y + measures.header - 8 - (j + 0.5) * high(measures.column),
                    line,
                    measures.column,
                    measures.cell,
                    "mm",
                )
        y += measures.header
    for row, height in zip(rows, measures.heights):
        canvas.box(MARGIN, y, canvas.width - MARGIN, y + 1, RULE)
        y += measures.gap // 2
        _name(canvas, measures, row.label, y, height)
        if row.error:
            _error_row(canvas, measures, row.error, y, height)
        else:
            heading = measures.heading_height if _is_headed(row) else 0
            for i, cell in enumerate(row.cells[: len(columns)]):
                if cell is not None:
                    _cell(canvas, measures, cell, measures.left(i), y, heading)
        y += height + measures.gap - measures.gap // 2
    canvas.box(MARGIN, y, canvas.width - MARGIN, y + 1, RULE)
    for x, line, entry in flowing(plan.legend, SMALL_SIZE, canvas.width - 2 * MARGIN):
        middle = y + 8 + (line + 0.5) * LEGEND_LINE
        if entry in COLOURS:
            canvas.mark(MARGIN + x + 8, middle, 6, entry)
        else:
            canvas.star(MARGIN + x + 8, middle, 8, CHOSEN)
        canvas.text(MARGIN + x + 20, middle, entry, SMALL_SIZE)
    return canvas


def _name(canvas: Canvas, measures: _Layout, name: str, y: int, height: int) -> None:
    if not measures.gutter:
        return
    most = max(1, min(4, height // high(measures.name)))
    width = measures.gutter - 12
    lines = folded(name, measures.name, width, most)
    top = y + height / 2 - (len(lines) - 1) / 2 * high(measures.name)
    for i, line in enumerate(lines):
        canvas.text(MARGIN, top + i * high(measures.name), line, measures.name, width)


def _error_row(canvas: Canvas, measures: _Layout, error: str, y: int, height: int) -> None:
    left, right = measures.left(0), canvas.width - MARGIN
    canvas.box(left, y, right, y + height, PALE, COLOURS[REJECT])
    if not measures.name:
        return
    canvas.mark(left + 18, y + height / 2, min(7, height / 3), REJECT)
    room = right - left - 44
    lines = folded(error, measures.name, room, max(1, min(2, (height - 4) // high(measures.name))))
    for i, line in enumerate(lines):
        canvas.text(left + 34, y + height / 2 + (i - (len(lines) - 1) / 2) * high(measures.name), line, measures.name, room)


def _cell(canvas: Canvas, measures: _Layout, cell: Cell, x: int, y: int, above: int) -> None:
    if above:
        fill, start = INK, x
        if cell.chosen:
            canvas.box(x, y, x + measures.cell, y + above - 2, CHOSEN)
            canvas.star(x + measures.heading * 0.8, y + above / 2 - 1, measures.heading * 0.55, "#FFFFFF")
            fill, start = "#FFFFFF", x + round(measures.heading * 1.6)
        room = x + measures.cell - start - (4 if cell.chosen else 0)
        canvas.text(start, y + above / 2 - 1, cell.heading, measures.heading, room, fill=fill)
    top = y + above
    for i, tile in enumerate(cell.tiles):
        column, line = i % measures.per_line, i // measures.per_line
        _tile(canvas, measures, tile, x + column * (measures.tile[0] + measures.between), top + line * measures.line_height)
    if cell.chosen:
        out = max(1, measures.gap // 2 - 2)
        lines = -(-len(cell.tiles) // measures.per_line)
        canvas.box(x - out, y - out, x + measures.cell + out, top + lines * measures.line_height + out, None, CHOSEN, max(1, min(3, out // 2)))


def _tile(canvas: Canvas, measures: _Layout, tile: Tile, x: int, y: int) -> None:
    width, height = measures.tile
    shade = COLOURS.get(tile.verdict, RULE)
    if tile.pixels is None:
        canvas.box(x, y, x + width, y + height, PALE, RULE)
        _told_in_tile(canvas, measures, tile.error, x, y)
    else:
        picture = Image.fromarray(tile.pixels)
        scale = min(width / picture.width, height / picture.height)
        size = max(1, min(width, round(picture.width * scale))), max(1, min(height, round(picture.height * scale)))
        canvas.box(x, y, x + width, y + height, "#EAEEF2")
        canvas.image.paste(picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0), (x + (width - size[0]) // 2, y + (height - size[1]) // 2))
        if tile.verdict:
            canvas.box(x, y, x + width, y + height, None, shade, max(1, min(4, max(measures.tile) // 48)))
    if measures.label:
        middle, start = y + height + 2 + high(measures.label) / 2, x
        if tile.verdict:
            half = measures.label * 0.4
            canvas.mark(x + half + 1, middle, half, tile.verdict)
            start = x + round(measures.label * 1.25)
        canvas.text(start, middle, tile.label, measures.label, x + width - start)
    elif tile.verdict and min(width, height) >= 16:
        half = min(width, height) / 6
        canvas.box(x + width - 3 * half, y + height - 3 * half, x + width, y + height, PAPER, shade)
        canvas.mark(x + width - 1.5 * half, y + height - 1.5 * half, half, tile.verdict)


def _told_in_tile(canvas: Canvas, measures: _Layout, error: str, x: int, y: int) -> None:
    width, height = measures.tile
    if not one_line(error):
        return
    size = 12 if width >= 90 else 10
    most = (height - 8) // high(size)
    if width < 56 or most < 2:
        canvas.text(x + width / 2, y + height / 2, "!", max(6, min(width, height) * 0.6), width, "mm", COLOURS[REJECT])
        return
    lines = folded(error, size, width - 10, most)
    for i, line in enumerate(lines):
        canvas.text(x + width / 2, y + height / 2 + (i - (len(lines) - 1) / 2) * high(size), line, size, width - 8, "mm", FAINT)
