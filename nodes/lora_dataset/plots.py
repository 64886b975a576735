"""Line plot and strip plot. They draw what they are given; what it means is said by those who call them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..identity.drawing import COLOURS, INK, PAPER, RULE
from ..texts import one_line
from .paper import (
    FAINT,
    KEY,
    LEGEND_LINE,
    LONGEST_SIDE,
    MARGIN,
    NAME_WIDTH,
    PALE,
    SLANT,
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

# Plots are drawn this many times as large.
SMOOTH = 3
PLOT_WIDTH, PLOT_HEIGHT = 960, 340
LEFT = 66
TICK_STEP, STRIP_STEP = 36, 150
MOST_TICKS = 40
LONGEST_TICK = 150
MARK = 5
# Pixels drawn and left out.
DASH = (5, 4)
# Corners of the marks of lines in units of their size; none: a disc.
MARKS = (
    (),
    ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    ((0, -1.1), (1.1, 0.8), (-1.1, 0.8)),
    ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    ((0, 1.1), (1.1, -0.8), (-1.1, -0.8)),
)
# Okabe and Ito's palette, for lines; each has its own mark, too.
SHADES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Height of the field for pictures without a score.
BAND = 34


@dataclass(frozen=True)
class Line:
    """One line of a line plot. values: one for each tick, None for a gap; errors: half the height of the error bar of each, None for none;
    dashed: for what the others are compared with."""

    name: str
    values: tuple[float | None, ...]
    errors: tuple[float | None, ...] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Strip:
    """One column of points of a strip plot: (score or None, verdict) of each picture; mean: drawn as a line, None for none; note: below its name."""

    name: str
    points: tuple[tuple[float | None, str], ...]
    mean: float | None = None
    note: str = ""


def line_plot(title: str, ticks: Sequence[str], lines: Sequence[Line], y_label: str, thresholds: Sequence[tuple[str, float]] = ()) -> np.ndarray:
    """Lines over named ticks, with horizontal lines at thresholds, uint8 [H,W,3]. The axis shows what there is, not 0 to 1."""
    return _line_plot(title, ticks, lines, y_label, thresholds).pixels()


def strip_plot(title: str, strips: Sequence[Strip], y_label: str, thresholds: Sequence[tuple[str, float]] = ()) -> np.ndarray:
    """The scores of several groups beside each other, a mark for each picture by its verdict, uint8 [H,W,3]. Those without a score stand at the bottom."""
    return _strip_plot(title, strips, y_label, thresholds).pixels()


@dataclass(frozen=True)
class _Axes:
    """The field of a plot in pixels, and the values at its lower and upper edge."""

    left: float
    right: float
    top: float
    bottom: float
    low: float
    high: float

    def y(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)

    def x(self, place: float, count: int) -> float:
        """The middle of the place-th of `count` equal parts."""
        return self.left + (place + 0.5) * (self.right - self.left) / max(1, count)


def _range(values: Iterable[float]) -> tuple[float, float]:
    """A little more than the values span, and never so little that noise looks like a difference."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    space = max(0.08 * (high - low), 0.02, (0.2 - (high - low)) / 2)
    return low - space, high + space


def _ticks(low: float, high: float) -> tuple[list[float], int]:
    """Round values between both, about six, and how many digits they need."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)], max(0, -math.floor(math.log10(step) + 1e-9))


def _threshold_texts(thresholds: Sequence[tuple[str, float]]) -> list[tuple[float, str]]:
    return sorted(((value, f"{one_line(name)} {value:.2f}") for name, value in thresholds if math.isfinite(value)), key=lambda item: -item[0])


def _frame(title: str, legend: Sequence[str], y_label: str, thresholds, values: Iterable[float], count: int, step: float, below: float) -> tuple[Canvas, _Axes]:
    """Title, legend (its entries' texts; the keys are for the caller to draw), axis with its values, thresholds. below: height that the caller needs."""
    texts = _threshold_texts(thresholds)
    margin = min(200, widest((text for _, text in texts), SMALL_SIZE)) + 34 if texts else 28
    width = min(LONGEST_SIDE, max(PLOT_WIDTH, LEFT + count * step + margin))
    lines = max((line + 1 for _, line, _ in flowing(legend, SMALL_SIZE, width - LEFT - MARGIN)), default=0)
    top = TITLE_HEIGHT + lines * LEGEND_LINE + 34
    canvas = Canvas(width, top + PLOT_HEIGHT + below, SMOOTH)
    axes = _Axes(LEFT, width - margin, top, top + PLOT_HEIGHT, *_range([*values, *(value for value, _ in texts)]))
    canvas.text(MARGIN, MARGIN + TITLE_SIZE / 2, title, TITLE_SIZE, width - 2 * MARGIN)
    canvas.text(MARGIN, top - 18, y_label, SMALL_SIZE, width - 2 * MARGIN, fill=FAINT)
    marks, digits = _ticks(axes.low, axes.high)
    for value in marks:
        canvas.line([(axes.left, axes.y(value)), (axes.right, axes.y(value))], RULE, 1)
        canvas.text(axes.left - 8, axes.y(value), f"{value:.{digits}f}", SMALL_SIZE, anchor="rm")
    _draw_thresholds(canvas, axes, texts)
    return canvas, axes


def _draw_thresholds(canvas: Canvas, axes: _Axes, texts: Sequence[tuple[float, str]]) -> None:
    """Lines at their values; labels beside them, spread where the lines are closer together than letters are high."""
    places, room = [], high(SMALL_SIZE)
    for value, _ in texts:
        places.append(max(axes.y(value), places[-1] + room) if places else axes.y(value))
    lowest = axes.bottom - room / 2
    for i in reversed(range(len(places))):
        places[i] = min(places[i], lowest)
        lowest = places[i] - room
    for (value, text), place in zip(texts, places):
        y = axes.y(value)
        canvas.line([(axes.left, y), (axes.right, y), (axes.right + 10, place)], "#8C959F", 1.5)
        canvas.text(axes.right + 14, place, text, SMALL_SIZE, canvas.width - axes.right - 18, fill=FAINT)


def _keys(canvas: Canvas, legend: Sequence[str]) -> list[tuple[float, float]]:
    """Writes the legend; gives the middle of the place for each key."""
    places = []
    for x, line, entry in flowing(legend, SMALL_SIZE, canvas.width - LEFT - MARGIN):
        y = TITLE_HEIGHT + (line + 0.5) * LEGEND_LINE
        canvas.text(MARGIN + x + KEY + 6, y, entry, SMALL_SIZE, NAME_WIDTH)
        places.append((MARGIN + x + KEY / 2, y))
    return places


def _empty(canvas: Canvas, axes: _Axes, text: str) -> None:
    canvas.text((axes.left + axes.right) / 2, (axes.top + axes.bottom) / 2, text, TEXT_SIZE, axes.right - axes.left, "mm", FAINT)


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _line_plot(title: str, ticks: Sequence[str], lines: Sequence[Line], y_label: str, thresholds: Sequence[tuple[str, float]]) -> Canvas:
    points = [
        [(i, value, line.errors[i] if i < len(line.errors) and _known(line.errors[i]) else None) for i, value in enumerate(line.values) if _known(value)]
        for line in lines
    ]
    ends = [end for own in points for _, value, error in own for end in (value - (error or 0), value + (error or 0))]
    longest = min(LONGEST_TICK, widest(ticks, SMALL_SIZE))
    span = PLOT_WIDTH - LEFT - 28
    flat = longest + 12 <= max(TICK_STEP, span * 0.8 / max(1, len(ticks)))
    drop = math.ceil(longest * math.sin(math.radians(SLANT))) + high(SMALL_SIZE)
    below = MARGIN + (high(SMALL_SIZE) + 10 if flat else drop + 10)
    canvas, axes = _frame(title, [line.name for line in lines], y_label, thresholds, ends, min(len(ticks), MOST_TICKS), TICK_STEP, below)
    step = (axes.right - axes.left) / max(1, len(ticks))
    shift = min(7.0, 0.5 * step / max(1, len(lines)))
    keys = _keys(canvas, [line.name for line in lines])
    shade = 0
    for number, (line, own) in enumerate(zip(lines, points)):
        colour, mark = FAINT if line.dashed else SHADES[shade % len(SHADES)], shade % len(MARKS)
        shade += not line.dashed
        # Beside each other, so that error bars of equal values can be told apart.
        places = {i: (axes.x(i, len(ticks)) + (number - (len(lines) - 1) / 2) * shift, axes.y(value)) for i, value, _ in own}
        for i, value, error in own:
            if error:
                x, ends_at = places[i][0], (axes.y(value - error), axes.y(value + error))
                canvas.line([(x, y) for y in ends_at], colour, 1.3)
                for y in ends_at:
                    canvas.line([(x - 3, y), (x + 3, y)], colour, 1.3)
        for i in places:
            if i + 1 in places:
                _stroke(canvas, places[i], places[i + 1], colour, line.dashed)
        x, y = keys[number]
        _stroke(canvas, (x - 13, y), (x + 13, y), colour, line.dashed)
        for place in (*places.values(), keys[number]):
            _point(canvas, *place, colour, mark, line.dashed)
    if not ends:
        _empty(canvas, axes, "no picture has a score")
    canvas.line([(axes.left, axes.bottom), (axes.right, axes.bottom)], INK, 1.3)
    _names_of_ticks(canvas, axes, ticks, step, flat)
    return canvas


def _names_of_ticks(canvas: Canvas, axes: _Axes, ticks: Sequence[str], step: float, flat: bool) -> None:
    room = high(SMALL_SIZE)
    # Slanted lines of text stand apart by the sine of their slant.
    every = 1 if flat else max(1, math.ceil(room / (step * math.sin(math.radians(SLANT)))))
    for i, name in enumerate(ticks):
        x = axes.x(i, len(ticks))
        canvas.line([(x, axes.bottom), (x, axes.bottom + 4)], INK, 1.3)
        if i % every:
            continue
        if flat:
            canvas.text(x, axes.bottom + 8 + room / 2, name, SMALL_SIZE, step - 6, "mm")
        else:
            # The first names have less room to their left.
            canvas.slanted(x + 4, axes.bottom + 10, name, SMALL_SIZE, min(LONGEST_TICK, (x - 4) / math.cos(math.radians(SLANT))))


def _stroke(canvas: Canvas, start: tuple[float, float], end: tuple[float, float], colour: str, dashed: bool) -> None:
    if not dashed:
        canvas.line([start, end], colour, 2)
        return
    length = math.dist(start, end)
    for at in np.arange(0, length, DASH[0] + DASH[1]):
        a, b = at / length, min(1.0, (at + DASH[0]) / length)
        canvas.line([(start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share) for share in (a, b)], colour, 2)


def _point(canvas: Canvas, x: float, y: float, colour: str, mark: int, hollow: bool) -> None:
    """The mark of a line, with white around it, so that it stands out where lines cross; hollow: a circle."""
    if hollow:
        canvas.disc(x, y, MARK, colour)
        canvas.disc(x, y, MARK - 2, PAPER)
    elif corners := MARKS[mark]:
        for size, fill in ((MARK + 1.5, PAPER), (MARK, colour)):
            canvas.polygon([(x + a * size, y + b * size) for a, b in corners], fill)
    else:
        canvas.disc(x, y, MARK + 1, PAPER)
        canvas.disc(x, y, MARK, colour)


def _strip_plot(title: str, strips: Sequence[Strip], y_label: str, thresholds: Sequence[tuple[str, float]]) -> Canvas:
    counts = {verdict: sum(said == verdict for strip in strips for _, said in strip.points) for verdict in COLOURS}
    legend = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    values = [score for strip in strips for score, _ in strip.points if _known(score)]
    means = [strip.mean for strip in strips if _known(strip.mean)]
    scoreless = any(not _known(score) for strip in strips for score, _ in strip.points)
    band = BAND if scoreless else 0
    noted = any(one_line(strip.note) for strip in strips)
    below = band + 10 + (2 + 2 * noted) * high(SMALL_SIZE) + MARGIN
    canvas, axes = _frame(title, legend, y_label, thresholds, [*values, *means], len(strips), STRIP_STEP, below)
    for (x, y), verdict in zip(_keys(canvas, legend), [verdict for verdict, count in counts.items() if count]):
        canvas.mark(x, y, 6, verdict)
    floor = axes.bottom + band
    if scoreless:
        canvas.box(axes.left, axes.bottom, axes.right, floor, PALE)
        canvas.text(axes.left - 8, axes.bottom + band / 2, "no score", SMALL_SIZE, LEFT - 10, "rm")
    step = (axes.right - axes.left) / max(1, len(strips))
    reach = min(70.0, 0.25 * step)
    lowest = floor
    for i, strip in enumerate(strips):
        middle = axes.x(i, len(strips))
        scored = sorted((score, verdict) for score, verdict in strip.points if _known(score))
        size = max(2.0, min(5.0, 0.06 * step, 5.0 * (60 / max(60, len(scored))) ** 0.5))
        for (x, y), (_, verdict) in zip(_apart([axes.y(score) for score, _ in scored], size, reach - size), scored):
            canvas.mark(middle + x, y, size, verdict)
        _scoreless(canvas, [verdict for score, verdict in strip.points if not _known(score)], middle, axes.bottom + band / 2, reach)
        if _known(strip.mean):
            y = axes.y(strip.mean)
            canvas.line([(middle - reach - 4, y), (middle + reach + 4, y)], INK, 2.2)
            told, start = f"{strip.mean:.2f}", middle + reach + 8
            if (width := widest([told], SMALL_SIZE)) <= step / 2 - reach - 8:
                canvas.box(start - 1, y - 3, start + width + 1, y + 3, PAPER)
                canvas.text(start, y, told, SMALL_SIZE)
        lines = [(line, INK) for line in folded(strip.name, SMALL_SIZE, step - 10, 2)]
        lines += [(line, FAINT) for line in folded(strip.note, SMALL_SIZE, step - 10, 2)]
        for j, (line, fill) in enumerate(lines):
            canvas.text(middle, floor + 10 + (j + 0.5) * high(SMALL_SIZE), line, SMALL_SIZE, step - 8, "mm", fill)
        lowest = max(lowest, floor + 10 + len(lines) * high(SMALL_SIZE))
    canvas.height = math.ceil(lowest + MARGIN)
    if not values:
        _empty(canvas, axes, "no picture has a score")
    canvas.line([(axes.left, floor), (axes.right, floor)], INK, 1.3)
    return canvas


def _scoreless(canvas: Canvas, verdicts: Sequence[str], middle: float, y: float, reach: float) -> None:
    """A mark for each picture without a score, or one for each verdict with its count where there are too many."""
    found = sorted(set(verdicts), key=list(COLOURS).index)
    step = 2.6 * MARK
    if (len(verdicts) - 1) * step <= 2 * reach:
        for i, verdict in enumerate(sorted(verdicts, key=found.index)):
            canvas.mark(middle + (i - (len(verdicts) - 1) / 2) * step, y, MARK, verdict)
        return
    part = 2 * (reach + 12) / len(found)
    for i, verdict in enumerate(found):
        x = middle + (i - (len(found) - 1) / 2) * part
        canvas.mark(x - 12, y, MARK, verdict)
        canvas.text(x - 2, y, str(verdicts.count(verdict)), SMALL_SIZE, part / 2)


def _apart(heights: Sequence[float], size: float, reach: float) -> list[tuple[float, float]]:
    """Places (x from the middle, y) for marks at these heights, in order, side by side where they would cover each other, up to `reach` to either side."""
    placed: list[tuple[float, float]] = []
    step = 2 * size + 1
    most = int(max(0.0, reach) / step)
    offsets = [0.0] + [sign * i * step for i in range(1, most + 1) for sign in (-1, 1)]
    for y in heights:
        near = [(a, b) for a, b in placed[-64:] if abs(b - y) < step]
        free = next((x for x in offsets if all(abs(a - x) >= step * 0.95 for a, _ in near)), None)
        # Where there is no room left they lie over each other, evenly.
        placed.append((offsets[len(placed) % len(offsets)] if free is None else free, y))
    return placed
