"""Grids and plots: what must be found on them, where, and that nothing covers anything else, whatever the names and counts are."""

from itertools import combinations, pairwise
from math import radians, sin

import numpy as np
import pytest
from PIL import ImageColor

from character_likeness.nodes.identity import drawing
from character_likeness.nodes.identity.scoring import VERDICTS
from character_likeness.nodes.lora_dataset import figures, paper, plots
from character_likeness.nodes.lora_dataset.figures import LONGEST_SIDE, Cell, Line, Row, Strip, Tile

NAMES = [
    "0.8",
    "mira_character_v2_000001500.safetensors",
    "a very long name of a method that somebody typed without ever looking at it " * 6,
    "x" * 4000,
    "張偉 Ångström \u2013 ½",
    "two\nlines\tand \ud800 a broken sign",
    "",
    "mira_000000500 + lightning_4steps:1",
]


def rgb(shade):
    return np.array(ImageColor.getrgb(shade))


def found(pixels, shade):
    """Where a picture has exactly this colour, bool [H,W]."""
    return (pixels == (rgb(shade) if isinstance(shade, str) else np.array(shade))).all(axis=-1)


def box_of(mask):
    """(left, top, right, bottom) of what is set."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def plain(shade, width=60, height=90):
    return np.full((height, width, 3), shade, np.uint8)


def tile(shade, verdict="pass", label="0.71", width=60, height=90):
    return Tile(plain(shade, width, height), label, verdict)


def covered(canvas):
    """Pairs of texts that cover each other, and texts that leave the paper."""
    inside = [box[0] >= -1 and box[1] >= -1 and box[2] <= canvas.width + 1 and box[3] <= canvas.height + 1 for _, box in canvas.texts]
    outside = [text for (text, _), fits in zip(canvas.texts, inside) if not fits]
    over = [
        (one, other)
        for (one, a), (other, b) in combinations(canvas.texts, 2)
        if min(a[2], b[2]) - max(a[0], b[0]) > 0.5 and min(a[3], b[3]) - max(a[1], b[1]) > 0.5
    ]
    return over + outside


def written(canvas):
    return [text for text, _ in canvas.texts]


# --- the grid ---


def test_every_picture_stands_in_the_row_and_column_of_its_cell():
    shades = {(row, column): (10 + 40 * row, 10 + 60 * column, 99) for row in range(3) for column in range(4)}
    rows = [Row(f"row {row}", tuple(Cell((tile(shades[row, column]),)) for column in range(4))) for row in range(3)]
    pixels = figures.grid("Sweep", ["a", "b", "c", "d"], rows)
    boxes = {place: box_of(found(pixels, shade)) for place, shade in shades.items()}
    for (row, column), (left, top, right, bottom) in boxes.items():
        # 60x90 at 192 high, less the frame.
        assert right - left == pytest.approx(128, abs=10) and bottom - top == pytest.approx(192, abs=10)
        if row:
            assert top > boxes[row - 1, column][3] and left == boxes[row - 1, column][0]
        if column:
            assert left > boxes[row, column - 1][2] and top == boxes[row, column - 1][1]


def test_the_tiles_of_a_cell_stand_side_by_side_in_order_and_further_from_those_of_the_next_cell():
    shades = [(40 * i, 200, 50) for i in range(6)]
    rows = [Row("r", (Cell(tuple(map(tile, shades[:3]))), Cell(tuple(map(tile, shades[3:])))))]
    pixels = figures.grid("t", ["a", "b"], rows)
    boxes = [box_of(found(pixels, shade)) for shade in shades]
    gaps = [right[0] - left[2] for left, right in pairwise(boxes)]
    assert all(box[1] == boxes[0][1] for box in boxes)
    assert gaps[2] > 1.5 * max(gaps[0], gaps[1], gaps[3], gaps[4]) > 0


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_tile_has_the_frame_and_the_mark_of_its_verdict_and_the_legend_says_which_it_is(verdict):
    canvas = figures._grid("t", ["a"], [Row("r", (Cell((tile((1, 2, 3), verdict),)),))], 192)
    pixels = canvas.pixels()
    left, top, right, bottom = box_of(found(pixels, (1, 2, 3)))
    shade = found(pixels, drawing.COLOURS[verdict])
    assert shade[top:bottom, left - 1].all() and shade[top - 1, left:right].all() and shade[bottom, left:right].all()
    assert [text for text in written(canvas) if text in VERDICTS] == [verdict]
    assert not any(found(pixels, drawing.COLOURS[other]).any() for other in VERDICTS if other != verdict)


def test_verdicts_are_told_apart_by_the_shape_of_their_marks_alone():
    shapes = []
    for verdict in VERDICTS:
        pixels = figures._grid("t", ["a"], [Row("", (Cell((tile((1, 2, 3), verdict, ""),)),))], 192).pixels()
        left, _, _, bottom = box_of(found(pixels, (1, 2, 3)))
        mark = pixels[bottom + 5 : bottom + 24, left - 4 : left + 16].astype(int)
        ground = np.abs(mark - 255).sum(axis=-1)
        assert ground.any()
        shapes.append(ground > ground.max() / 2)
    assert all((one != other).sum() > 20 for one, other in combinations(shapes, 2))


def test_the_suggested_cell_alone_is_framed_and_the_legend_says_so():
    cells = tuple(Cell((tile((20 * column, 7, 7)),), "0.71 · 1 of 1", chosen=column == 2) for column in range(4))
    canvas = figures._grid("t", list("abcd"), [Row("r", cells)], 192)
    pixels = canvas.pixels()
    frame = found(pixels, figures.CHOSEN)
    before, chosen, after = (box_of(found(pixels, (20 * column, 7, 7))) for column in (1, 2, 3))
    left, top, right, bottom = chosen
    assert frame[top:bottom, left - 20 : left].any(axis=1).all() and frame[top:bottom, right : right + 20].any(axis=1).all()
    # Below the grid is the star of the legend.
    columns = np.flatnonzero(frame[: bottom + 40].any(axis=0))
    assert before[2] < columns[0] < left and right < columns[-1] < after[0]
    assert "suggested" in written(canvas)
    assert "suggested" not in written(figures._grid("t", ["a"], [Row("r", (Cell((tile((1, 2, 3)),)),))], 192))


def test_a_row_that_failed_says_why_in_place_of_its_cells_and_is_marked():
    canvas = figures._grid("t", ["a", "b"], [Row("bad", (), "the file is no LoRA"), Row("good", (Cell((tile((1, 2, 3)),)), Cell((tile((4, 5, 6)),))))], 192)
    pixels = canvas.pixels()
    (box,) = [box for text, box in canvas.texts if text == "the file is no LoRA"]
    assert box[3] < box_of(found(pixels, (1, 2, 3)))[1]
    assert found(pixels, drawing.COLOURS["reject"]).any()


def test_what_was_not_made_is_a_gap_and_a_tile_that_failed_says_why():
    shades = [(9, 9, 9), (19, 19, 19)]
    row = Row("r", (Cell((tile(shades[0]),)), None, Cell((Tile(None, error="out of memory"), Tile(None))), Cell((tile(shades[1]),))))
    canvas = figures._grid("t", list("abcd"), [row], 192)
    pixels = canvas.pixels()
    first, last = (box_of(found(pixels, shade)) for shade in shades)
    middle = (first[1] + first[3]) // 2
    step = (last[0] - first[0]) / 3
    gap = pixels[middle, round(first[0] + step) : round(first[0] + step) + (first[2] - first[0])]
    assert (gap == 255).all()
    assert found(pixels, paper.PALE)[middle].sum() > 100
    assert "out of memory" in " ".join(written(canvas))


def test_pictures_of_different_shapes_keep_theirs():
    sizes = [(90, 60), (60, 60), (30, 120)]
    row = Row("r", tuple(Cell((tile((50, 80 + i, 7), None, "", *size),)) for i, size in enumerate(sizes)))
    pixels = figures.grid("t", list("abc"), [row])
    for i, (width, height) in enumerate(sizes):
        left, top, right, bottom = box_of(found(pixels, (50, 80 + i, 7)))
        assert (right - left) / (bottom - top) == pytest.approx(width / height, rel=0.03)
        assert max(right - left, bottom - top) == 192


@pytest.mark.parametrize("rows, columns, tiles", [(1, 1, 1), (3, 6, 5), (30, 6, 5), (2, 100, 3), (300, 4, 1), (1, 1, 700), (2500, 1, 1)])
def test_a_grid_of_any_size_keeps_within_the_longest_side_and_shows_every_tile(rows, columns, tiles):
    shade = (200, 30, 90)
    cell = Cell((tile(shade, None, "", 6, 9),) * tiles)
    pixels = figures.grid("t", [str(i) for i in range(columns)], [Row(str(i), (cell,) * columns) for i in range(rows)])
    assert max(pixels.shape[:2]) <= LONGEST_SIDE
    near = (np.abs(pixels.astype(int) - shade) < 60).all(axis=-1)
    edges = (near[:, 1:] & ~near[:, :-1]).sum(axis=1) + near[:, 0]
    if rows < 1000:
        # Runs of the tiles' colour from left to right, in the row of pixels with most of them: as many as stand beside each other.
        beside = int(edges.max())
        assert beside % columns == 0
        per_line = beside // columns
        lines = -(-tiles // per_line)
        down = near[:, np.flatnonzero(near.any(0))[1]]
        assert int((down[1:] & ~down[:-1]).sum()) == rows * lines
    else:
        # Less than a pixel each: a tint.
        assert (pixels[..., 0].astype(int) - pixels[..., 1]).max() > 20


def test_tiles_that_would_be_too_small_beside_each_other_go_on_in_further_lines_in_all_cells_alike():
    shades = [(3 * i, 100, 100) for i in range(60)]
    pixels = figures.grid("t", ["a"], [Row("r", (Cell(tuple(tile(shade, None, "") for shade in shades)),)), Row("s", (Cell((tile((1, 2, 3), None, ""),)),))])
    boxes = [box_of(found(pixels, shade)) for shade in shades]
    lines = sorted({box[1] for box in boxes})
    assert len(lines) > 1 and boxes[0][2] - boxes[0][0] > 80
    in_line = [[box[0] for box in boxes if box[1] == line] for line in lines]
    assert all(own == sorted(own) and own == in_line[0][: len(own)] for own in in_line)
    assert box_of(found(pixels, (1, 2, 3)))[0] == boxes[0][0]


@pytest.mark.parametrize("together", [2, 3, 4])
def test_tiles_that_belong_together_are_not_parted_by_the_end_of_a_line(together):
    shades = [(20 * i, 100, 100) for i in range(3 * together)]
    cell = Cell(tuple(tile(shade, None, "") for shade in shades))
    pixels = figures.grid("t", ["a", "b", "c"], [Row("r", (cell, None, None))], together=together)
    tops = [box_of(found(pixels, shade))[1] for shade in shades]
    runs = [tops[first : first + together] for first in range(0, len(tops), together)]
    assert all(len(set(run)) == 1 for run in runs) and len(set(tops)) > 1


@pytest.mark.parametrize("groups, together, rows", [(5, 3, 8), (5, 4, 10), (1, 11, 3), (1, 13, 8), (1, 61, 2)])
def test_keeping_tiles_together_costs_little_of_their_size(groups, together, rows):
    cell = Cell((tile((200, 30, 90), None, ""),) * (groups * together))
    plan = figures._Plan(["c"] * 6, [Row(str(i), (cell,) * 6) for i in range(rows)])
    alone, kept = plan.best(192), plan.best(192, together)
    assert max(kept.tile) > 0.75 * max(alone.tile) and (groups == 1 or kept.per_line % together == 0)


@pytest.mark.parametrize("tile_side", [192, 90, 30])
def test_no_text_of_a_grid_covers_another_or_leaves_the_paper_whatever_the_names_are(tile_side):
    rows = [
        Row(name, tuple(Cell((tile((1, 2, 3), verdict, name), tile((1, 2, 3), verdict, "no face")), name, i == 1) for i, verdict in enumerate(VERDICTS)))
        for name in NAMES
    ]
    rows += [Row(name, (), name or "broken") for name in NAMES]
    rows.append(Row("r", (Cell((Tile(None, error=NAMES[2]), Tile(None, "", None, NAMES[3]))),)))
    assert covered(figures._grid(NAMES[2], NAMES[:5], rows, tile_side)) == []


def test_long_names_keep_their_ends_by_which_checkpoints_differ():
    rows = [Row(f"mira_{'long_' * 60}{step:09}.safetensors", (Cell((tile((1, 2, 3)),)),)) for step in (500, 1000)]
    texts = written(figures._grid("t", ["a"], rows, 192))
    assert any("500.safetensors" in text or text == "safetensors" for text in texts)
    joined = "".join(texts)
    assert "000000500." in joined and "000001000." in joined and "…" in joined


def test_an_empty_grid_is_a_heading():
    for columns, rows in (([], []), (["a"], []), ([], [Row("r")]), (["a"], [Row("r", (Cell(()),))])):
        assert written(figures._grid("Sweep of nothing", columns, rows, 192))[0] == "Sweep of nothing"


# --- line plots ---

THRESHOLDS = (("loose", 0.3), ("standard", 0.4), ("strict", 0.5))


def axis_rows(canvas):
    """The middle of each value written on the axis, by value."""
    out = {}
    for text, box in canvas.texts:
        if box[2] <= plots.LEFT and text.replace(".", "", 1).replace("-", "", 1).isdigit():
            out[float(text)] = (box[1] + box[3]) / 2
    return out


def y_of(canvas, value):
    rows = axis_rows(canvas)
    values = sorted(rows)
    return float(np.interp(value, values, [rows[one] for one in values])) if values[0] <= value <= values[-1] else None


def test_points_stand_at_their_values_and_ticks():
    values = (0.2, 0.5, 0.8)
    canvas = plots._line_plot("t", ["1", "2", "3"], [Line("a", values)], "score", ())
    pixels = canvas.pixels()
    field = found(pixels, plots.SHADES[0])[100:]
    ticks = {text: (box[0] + box[2]) / 2 for text, box in canvas.texts if text in "123" and box[1] > 300}
    for tick, value in zip("123", values):
        x, y = ticks[tick], y_of(canvas, value)
        near = field[round(y) - 103 : round(y) - 97, round(x) - 3 : round(x) + 3]
        assert near.mean() > 0.8


def test_a_missing_value_is_a_gap_and_not_a_line_across_it():
    ticks = [str(i) for i in range(5)]
    whole = found(plots.line_plot("t", ticks, [Line("a", (0.5,) * 5)], "s"), plots.SHADES[0])
    gap = found(plots.line_plot("t", ticks, [Line("a", (0.5, 0.5, None, 0.5, 0.5))], "s"), plots.SHADES[0])
    row = 100 + int(np.argmax(whole[100:].sum(axis=1)))
    assert whole[row].sum() > 400
    columns = np.flatnonzero(gap[row])
    assert np.diff(columns).max() > 1.8 * (columns[-1] - columns[0]) / 5
    assert whole[row][columns[0] : columns[-1]].mean() > 0.9


def test_a_dashed_line_has_gaps_and_no_colour_of_its_own():
    pixels = plots.line_plot("t", list("abcd"), [Line("no LoRA", (0.3,) * 4, dashed=True), Line("0.8", (0.6,) * 4)], "s")
    faint = found(pixels, plots.FAINT)
    row = 100 + int(np.argmax(faint[100:].sum(axis=1)))
    runs = np.diff(np.flatnonzero(faint[row]))
    assert (runs > 1).sum() > 20
    assert found(pixels, plots.SHADES[0]).any() and not found(pixels, plots.SHADES[1]).any()


def test_an_error_bar_spans_its_error_on_both_sides():
    canvas = plots._line_plot("t", ["1", "2"], [Line("a", (0.5, 0.5), (0.2, None))], "s", ())
    mask = found(canvas.pixels(), plots.SHADES[0])
    mask[:100] = False
    left, right = mask[:, : mask.shape[1] // 2], mask[:, mask.shape[1] // 2 :]
    top, bottom = box_of(left)[1], box_of(left)[3]
    assert top == pytest.approx(y_of(canvas, 0.7), abs=3) and bottom == pytest.approx(y_of(canvas, 0.3), abs=3)
    assert box_of(right)[3] - box_of(right)[1] < 20


def test_thresholds_are_lines_at_their_values_named_at_the_right():
    canvas = plots._line_plot("t", ["1", "2"], [Line("a", (0.25, 0.55))], "s", THRESHOLDS)
    light = canvas.pixels()[:, 250:350].max(axis=(1, 2))
    for name, value in THRESHOLDS:
        assert f"{name} {value:.2f}" in written(canvas)
        y = round(y_of(canvas, value))
        assert light[y - 3 : y + 4].min() < 210, name
    assert light[round(y_of(canvas, 0.45))] == 255


def test_marks_of_six_lines_have_different_colours_and_neighbours_different_shapes():
    canvas = plots._line_plot("t", ["1"], [Line(str(i), (0.1 * i,)) for i in range(6)], "s", ())
    pixels = canvas.pixels()[100:]
    shapes = []
    for number in range(5):
        left, top, right, bottom = box_of(found(pixels, plots.SHADES[number]))
        middle = (left + right) // 2, (top + bottom) // 2
        shapes.append(found(pixels, plots.SHADES[number])[middle[1] - 8 : middle[1] + 8, middle[0] - 8 : middle[0] + 8])
    assert all((one != other).sum() > 8 for one, other in combinations(shapes, 2))


@pytest.mark.parametrize("count", [1, 3, 12, 45, 130])
@pytest.mark.parametrize("names", [["500"], NAMES, ["mira_000000500"]])
def test_no_text_of_a_line_plot_covers_another_however_many_ticks_and_lines_there_are(count, names):
    ticks = [names[i % len(names)] for i in range(count)]
    rng = np.random.default_rng(count)
    lines = [Line(NAMES[i % len(NAMES)], tuple(rng.random(count))) for i in range(9)]
    canvas = plots._line_plot(NAMES[2], ticks, lines, NAMES[2], (*THRESHOLDS, ("custom", 0.401), (NAMES[2], 0.405)))
    assert covered(canvas) == []
    assert max(canvas.pixels().shape[:2]) <= LONGEST_SIDE
    # Slanted names lie in lanes: their distance across the writing is at least the height of a line.
    for (_, x, _, _), (_, other, _, _) in pairwise(canvas.slants):
        assert (other - x) * sin(radians(paper.SLANT)) >= 1.3 * paper.SMALL_SIZE
    for _, x, y, length in canvas.slants:
        assert x - length * np.cos(radians(paper.SLANT)) >= -4 and y + length * sin(radians(paper.SLANT)) + 9 <= canvas.height


def test_a_plot_without_any_value_says_so():
    for lines in ([], [Line("a", (None, None))], [Line("a", (float("nan"), None))]):
        assert "no picture has a score" in written(plots._line_plot("t", ["1", "2"], lines, "s", THRESHOLDS))
    assert "no picture has a score" in written(plots._strip_plot("t", [Strip("a", ((None, "no face"),))], "s", THRESHOLDS))
    assert plots.strip_plot("t", [], "s").shape[1] == plots.PLOT_WIDTH


# --- strip plots ---


def test_each_picture_is_a_mark_at_its_score_in_the_colour_of_its_verdict():
    strips = [Strip("a", ((0.8, "pass"), (0.2, "reject"))), Strip("b", ((0.5, "uncertain"),))]
    canvas = plots._strip_plot("t", strips, "s", ())
    pixels = canvas.pixels()
    field = pixels[90:]
    half = pixels.shape[1] // 2 + 20
    for verdict, score, side in (("pass", 0.8, slice(0, half)), ("reject", 0.2, slice(0, half)), ("uncertain", 0.5, slice(half, None))):
        mask = found(field, drawing.COLOURS[verdict])
        assert mask.sum() == mask[:, side].sum() > 5
        _, top, _, bottom = box_of(mask)
        assert 90 + (top + bottom) / 2 == pytest.approx(y_of(canvas, score), abs=3)


def test_those_without_a_score_stand_below_the_axis_one_by_one_or_counted():
    few = plots._strip_plot("t", [Strip("a", ((0.5, "pass"), *[(None, "no face")] * 3))], "s", ())
    many = plots._strip_plot("t", [Strip("a", ((0.5, "pass"), *[(None, "no face")] * 70, *[(None, "not judged")] * 9))], "s", ())
    none = plots._strip_plot("t", [Strip("a", ((0.5, "pass"),))], "s", ())
    assert "no score" in written(few) and "no score" not in written(none)
    mask = found(few.pixels()[90:], drawing.COLOURS["no face"])
    assert box_of(mask)[1] + 90 > max(axis_rows(few).values())
    columns = mask.any(axis=0)
    assert int((columns[1:] & ~columns[:-1]).sum()) == 3
    assert {"70", "9"} <= set(written(many))
    assert {"3 no face", "1 pass"} <= set(written(few)) and "70 no face" in written(many)


def test_the_mean_is_a_line_at_its_value_with_its_number():
    canvas = plots._strip_plot("t", [Strip("a", ((0.2, "reject"), (0.8, "pass")), 0.6)], "s", ())
    dark = found(canvas.pixels(), drawing.INK)
    rows = np.flatnonzero(dark[90:-60, 300:600].sum(axis=1) > 100) + 90
    assert rows.mean() == pytest.approx(y_of(canvas, 0.6), abs=2)
    assert "0.60" in written(canvas)


def test_marks_of_equal_scores_stand_beside_each_other_and_are_all_seen():
    apart = plots._apart([100.0] * 7, 5, 60)
    places = sorted(x for x, _ in apart)
    assert min(np.diff(places)) >= 10 and max(map(abs, places)) <= 60 and all(y == 100.0 for _, y in apart)
    # More than there is room for stay within it.
    assert max(abs(x) for x, _ in plots._apart([100.0] * 500, 5, 60)) <= 60


@pytest.mark.parametrize("count", [1, 2, 8, 60])
def test_no_text_of_a_strip_plot_covers_another_however_many_groups_there_are(count):
    points = ((0.41, "pass"), (0.399, "reject"), *[(None, "no face")] * 30, *[(None, "not judged")] * 11)
    strips = [Strip(NAMES[i % len(NAMES)], points, 0.4, NAMES[(i + 2) % len(NAMES)]) for i in range(count)]
    canvas = plots._strip_plot(NAMES[3], strips, NAMES[2], THRESHOLDS)
    assert covered(canvas) == []
    assert max(canvas.pixels().shape[:2]) <= LONGEST_SIDE


# --- all ---


def test_the_same_is_drawn_the_same():
    def all_three():
        return (
            figures.grid("t", ["a"], [Row("r", (Cell((tile((1, 2, 3)),), "h", True),))]),
            figures.line_plot("t", ["1", "2"], [Line("a", (0.1, 0.2), (0.1, 0.1))], "s", THRESHOLDS),
            figures.strip_plot("t", [Strip("a", tuple((0.01 * (i % 7), "pass") for i in range(50)), 0.03, "n")], "s", THRESHOLDS),
        )

    for one, other in zip(all_three(), all_three()):
        assert one.dtype == np.uint8 and one.ndim == 3 and one.shape[2] == 3
        assert np.array_equal(one, other)


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.38, 0.42), (-0.2, 0.9), (0.0, 0.02), (-50.0, 120.0)])
def test_the_axis_has_round_values_that_are_told_apart(low, high):
    values, digits = plots._ticks(low, high)
    texts = [f"{value:.{digits}f}" for value in values]
    assert 3 <= len(values) <= 8 and len(set(texts)) == len(texts)
    assert all(low - 1e-9 <= value <= high + 1e-9 and float(text) == pytest.approx(value, abs=1e-9) for value, text in zip(values, texts))
