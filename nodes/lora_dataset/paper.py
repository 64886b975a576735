"""What figures are drawn on: a sheet of paper with sharp edges, texts that fit their place, legends. Knows no grids and no plots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from ..identity.drawing import INK, PAPER, draw_mark, font_for
from ..texts import one_line

# No figure is wider or higher than this, in pixels: tiles become smaller instead.
LONGEST_SIDE = 6000

# Writing of less weight than INK, and the ground of places where something is missing.
FAINT, PALE = "#57606A", "#F6F8FA"
MARGIN = 16
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 19, 14, 13
TITLE_HEIGHT, LEGEND_LINE = 44, 24
# Height of a line of text, in sizes of its letters.
LINE = 1.35
# No line is longer than this, in letters.
LONGEST_LINE = 300
# Width of the key of a legend's entry, and of the longest entry.
KEY = 26
NAME_WIDTH = 240
# Degrees.
SLANT = 35
# The small marks on a sheet that is too large to be drawn larger are themselves drawn this many times as large.
SMOOTH = 4


class Canvas:
    """A sheet of paper in pixels, drawn `scale` times as large and made smaller at the end, so that lines have smooth edges.

    texts: what was written, with its box; slants: what was written at a slant, with where it ends and how long it is. Tests hold them against each other.
    """

    def __init__(self, width: float, height: float, scale: int = 1):
        self.width, self.height, self.scale = math.ceil(width), math.ceil(height), scale
        self.image = Image.new("RGB", (self.width * scale, self.height * scale), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.texts: list[tuple[str, tuple[float, ...]]] = []
        self.slants: list[tuple[str, float, float, float]] = []

    def pixels(self) -> np.ndarray:
        image = self.image.crop((0, 0, self.width * self.scale, self.height * self.scale))
        image = image.reduce(self.scale) if self.scale > 1 else image
        longest = max(image.size)
        if longest > LONGEST_SIDE:
            image = image.resize([max(1, side * LONGEST_SIDE // longest) for side in image.size], Image.Resampling.BOX)
        return np.array(image)

    def line(self, points: Sequence[tuple[float, float]], fill: str, width: float) -> None:
        self.draw.line([(x * self.scale, y * self.scale) for x, y in points], fill=fill, width=max(1, round(width * self.scale)), joint="curve")

    def box(self, x: float, y: float, right: float, bottom: float, fill: str | None = None, outline: str | None = None, width: float = 1) -> None:
        """Filled or framed up to, not including, right and bottom."""
        if right - x >= 1 and bottom - y >= 1:
            corners = [round(value * self.scale) for value in (x, y, right, bottom)]
            self.draw.rectangle((*corners[:2], corners[2] - 1, corners[3] - 1), fill=fill, outline=outline, width=max(1, round(width * self.scale)))

    def polygon(self, points: Sequence[tuple[float, float]], fill: str) -> None:
        self.draw.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=fill)

    def disc(self, x: float, y: float, half: float, fill: str) -> None:
        self.draw.ellipse([value * self.scale for value in (x - half, y - half, x + half, y + half)], fill=fill)

    def mark(self, x: float, y: float, size: float, verdict: str) -> None:
        """The mark of a verdict, as drawing.plot has it; size: half its width."""
        if self.scale > 1:
            draw_mark(self.draw, x * self.scale, y * self.scale, size * self.scale, verdict)
        else:
            self._stamp(x, y, size, lambda draw, middle, half: draw_mark(draw, middle, middle, half, verdict))

    def star(self, x: float, y: float, size: float, fill: str) -> None:
        self._stamp(x, y, size, lambda draw, middle, half: draw.polygon(_star(middle, middle, half), fill=fill))

    def _stamp(self, x: float, y: float, size: float, shape) -> None:
        """A small shape drawn large on a copy of what is there, and put back."""
        side = math.ceil(size) * 2 + 4
        corner = round(x * self.scale - side / 2), round(y * self.scale - side / 2)
        ground = self.image.crop((*corner, corner[0] + side, corner[1] + side)).resize((side * SMOOTH, side * SMOOTH), Image.Resampling.NEAREST)
        shape(ImageDraw.Draw(ground), side * SMOOTH / 2, size * SMOOTH)
        self.image.paste(ground.reduce(SMOOTH), corner)

    def text(self, x: float, y: float, text: str, size: float, width: float = math.inf, anchor: str = "lm", fill: str = INK) -> None:
        """One line of text, cut in the middle where it is wider than `width`, left out where not a letter fits."""
        font = _font(text, round(size * self.scale))
        shown = _cut(text, font, width * self.scale)
        if not shown:
            return
        place = x * self.scale, y * self.scale
        self.draw.text(place, shown, font=font, fill=fill, anchor=anchor)
        self.texts.append((shown, tuple(value / self.scale for value in self.draw.textbbox(place, shown, font=font, anchor=anchor))))

    def slanted(self, x: float, y: float, text: str, size: float, length: float) -> None:
        """A text that rises to the right at SLANT degrees and ends at x, y; at most `length` long."""
        font = _font(text, round(size * self.scale))
        shown = _cut(text, font, length * self.scale)
        if not shown:
            return
        width, height = math.ceil(font.getlength(shown)), math.ceil(size * self.scale * LINE)
        flat = Image.new("L", (width, height))
        ImageDraw.Draw(flat).text((0, height / 2), shown, font=font, fill=255, anchor="lm")
        turned = flat.rotate(SLANT, Image.Resampling.BICUBIC, expand=True)
        # The middle of its right edge, seen from the middle of the picture, where both are after the turn.
        angle = math.radians(SLANT)
        corner = round(x * self.scale - math.cos(angle) * width / 2 - turned.width / 2), round(y * self.scale + math.sin(angle) * width / 2 - turned.height / 2)
        self.image.paste(Image.new("RGB", turned.size, INK), corner, turned)
        self.slants.append((shown, x, y, width / self.scale))


def _star(x: float, y: float, size: float) -> list[tuple[float, float]]:
    radii = (size, size * 0.42)
    return [(x + radii[i % 2] * math.sin(math.pi * i / 5), y - radii[i % 2] * math.cos(math.pi * i / 5)) for i in range(10)]


def _font(text: str, size: int):
    """As drawing.font_for, which takes a wide font for these too, though Pillow's own font has them."""
    return font_for(text.translate({ord("·"): ".", ord("…"): "."}), max(1, size))


def _cut(text: str, font, width: float) -> str:
    """A text on one line that fits the width, its middle left out where it is longer: names of checkpoints differ at their ends."""
    text = _written(text)
    if font.getlength(text) <= width:
        return text
    short = _longest(text, lambda part: font.getlength(part) <= width)
    return short if short != "…" else ""


def _written(text: str, lines: int = 1) -> str:
    """A text on one line, and no longer than anything is written."""
    text, most = one_line(text), LONGEST_LINE * lines
    return text if len(text) <= most else _without_middle(text, most)


def _longest(text: str, fits) -> str:
    """The text with as little of its middle left out as fits; one letter less than all of it at least."""
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(_without_middle(text, middle)) else (low, middle - 1)
    return _without_middle(text, low)


def _without_middle(text: str, count: int) -> str:
    return f"{text[: count - count // 2]}…{text[len(text) - count // 2 :]}"


@lru_cache(maxsize=4096)
def folded(text: str, size: float, width: float, most: int) -> tuple[str, ...]:
    """A text in at most `most` lines that fit the width, broken after blanks and the signs that names of files are made of."""
    text, font = _written(text, most), _font(text, round(size))
    if len(_broken(text, font, width)) > most:
        text = _longest(text, lambda part: len(_broken(part, font, width)) <= most)
    return tuple(_cut(line, font, width) for line in _broken(text, font, width)[:most])


def _broken(text: str, font, width: float) -> list[str]:
    lines, rest = [], text
    while rest:
        count = len(rest)
        while count > 1 and font.getlength(rest[:count].rstrip()) > width:
            count = max(1, min(count - 1, int(count * width / font.getlength(rest[:count])) + 1))
        if count < len(rest):
            count = max((i + 1 for i in range(count // 3, count) if rest[i] in " _-./,:"), default=count)
        lines.append(rest[:count].strip())
        rest = rest[count:].lstrip()
    return lines


def widest(texts: Iterable[str], size: float) -> float:
    return max((_font(text, round(size)).getlength(_written(text)) for text in texts), default=0.0)


def high(size: float) -> int:
    return math.ceil(size * LINE)


def flowing(entries: Sequence[str], size: float, width: float) -> list[tuple[float, int, str]]:
    """Where the entries of a legend stand that flows like text: x from its left end, number of the line, the text."""
    places, x, line = [], 0.0, 0
    for entry in entries:
        needed = KEY + min(widest([entry], size), NAME_WIDTH)
        if x and x + needed > width:
            x, line = 0.0, line + 1
        places.append((x, line, entry))
        x += needed + 22
    return places
