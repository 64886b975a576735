"""Overlays, score plots and contact sheets: what must be readable on them, at every size and with any name."""

import numpy as np
import pytest
from PIL import ImageColor

from character_likeness.nodes.identity import drawing
from character_likeness.nodes.identity.identity import Identity, Reference
from character_likeness.nodes.identity.recognizers import Face, Part, Recognizer, RecognizerInfo, Thresholds
from character_likeness.nodes.identity.scoring import Judgement, Measured, Rules
from character_likeness.nodes.pictures import Picture

VERDICTS = ("pass", "reject", "uncertain", "no face", "not judged")
LATIN, LONG = "Ann", "a very long name of somebody " * 20


def a_face(x1, y1, x2, y2):
    return Face((x1, y1, x2, y2), 0.9, np.zeros((5, 2), np.float32), np.ones(4, np.float32), 0.0, 0.2)


def person(name):
    part = Part("none", "none", True)
    recognizer = Recognizer(RecognizerInfo("dlib", part, part, "cosine", 4, Thresholds(0.4, 0.5, 0.6, "none")))
    return Identity(name, recognizer, "mean", (Reference(0, a_face(0, 0, 10, 10)),), np.zeros((4, 4, 3), np.uint8))


def judged(verdict="pass", score=0.93, boxes=(), reason="score 0.93 reaches 0.50 (standard)", chosen=(0,)):
    measured = Measured(tuple(a_face(*box) for box in boxes), np.full((len(boxes), 1), 0.93))
    return Judgement(verdict, "passed", score, reason, measured, chosen, tuple(verdict if i in chosen else None for i in range(len(boxes))))


def colour(verdict):
    return np.array(ImageColor.getrgb(drawing.COLOURS[verdict]))


def is_colour(pixels, verdict):
    return (pixels == colour(verdict)).all(axis=-1)


def drawn(side=512, name=LATIN, verdict="pass", width=None):
    """An overlay with one face in the middle, and what it was drawn on."""
    pixels = np.full((side, width or side, 3), 90, np.uint8)
    box = (side * 0.3, side * 0.35, side * 0.6, side * 0.65)
    return drawing.overlay(pixels, judged(verdict, boxes=[box]), [person(name)]), pixels, box


def label_rows(picture, box, verdict="pass"):
    """How many rows of the label's colour stand on the box, in the label's first columns."""
    x, top = int(box[0]) + 3, int(box[1])
    count = 0
    while count <= top and is_colour(picture[top - count, x], verdict):
        count += 1
    return count


# --- overlays ---


@pytest.mark.parametrize("size", [(512, 512), (300, 700), (17, 2000), (16, 16), (1, 1)])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_an_overlay_has_the_pictures_size_and_leaves_the_picture_alone(size, verdict):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    before = pixels.copy()
    boxes = [] if verdict in ("no face", "not judged") else [(2, 2, 12, 12), (-20, -30, 5, 8), (size[1] - 4, size[0] - 4, size[1] + 30, size[0] + 30)]
    picture = drawing.overlay(pixels, judged(verdict, boxes=boxes), [person(LATIN)])
    assert picture.shape == pixels.shape and picture.dtype == np.uint8
    assert np.array_equal(pixels, before) and not np.shares_memory(picture, pixels)
    assert is_colour(picture, verdict).any()


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_box_a_label_and_a_banner_in_the_verdicts_colour(verdict):
    picture, pixels, (x1, y1, x2, y2) = drawn(verdict=verdict)
    middle = int((y1 + y2) / 2), int((x1 + x2) / 2)
    assert is_colour(picture[middle[0], int(x1)], verdict) and is_colour(picture[int(y2), middle[1]], verdict)
    assert label_rows(picture, (x1, y1, x2, y2), verdict) > 10
    assert is_colour(picture[-2], verdict).mean() > 0.5
    assert np.array_equal(picture[middle[0] - 50 : middle[0] + 50, middle[1] - 50 : middle[1] + 50], pixels[:100, :100])  # the face itself stays clear


def test_the_colours_are_all_different_and_the_text_on_each_can_be_read():
    def luminance(shade):
        channels = np.array(ImageColor.getrgb(shade)) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    shades = [*drawing.COLOURS.values(), drawing.STRANGER]
    assert len(set(shades)) == len(shades)
    for shade in shades:
        high, low = sorted((luminance(shade), luminance(drawing.text_on(shade))), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, contrast (minimum)


def test_labels_and_lines_grow_with_the_picture():
    small, large = drawn(512), drawn(4096)
    heights = [label_rows(picture, box) for picture, _, box in (small, large)]
    assert heights[0] >= 15
    assert heights[1] == pytest.approx(8 * heights[0], rel=0.1)
    lines = [int(is_colour(picture[int((box[1] + box[3]) / 2)], "pass").sum()) / 2 for picture, _, box in (small, large)]
    assert lines[0] >= 2 and lines[1] == pytest.approx(8 * lines[0], rel=0.2)


def test_a_label_is_written_in_ink_that_covers_a_fair_part_of_it():
    for side in (512, 4096):
        picture, _, box = drawn(side)
        height = label_rows(picture, box)
        label = picture[int(box[1]) - height + 2 : int(box[1]) - 1, int(box[0]) : int(box[0]) + height * 3]
        dark = (label.max(axis=-1) < 60).mean()
        assert 0.05 < dark < 0.5


def test_a_label_stays_inside_the_picture_wherever_the_face_is():
    for box in [(-40, -40, 60, 60), (440, -30, 560, 60), (450, 200, 600, 350), (-60, 460, 40, 600)]:
        pixels = np.full((512, 512, 3), 90, np.uint8)
        with_label = drawing.overlay(pixels, judged(boxes=[box], reason=""), [person(LATIN)])
        stranger = drawing.overlay(pixels, judged(boxes=[box], reason="", chosen=()), [person(LATIN)])
        ink = (with_label.max(axis=-1) < 40) & ~(stranger.max(axis=-1) < 40)
        assert ink.sum() > 40


def test_a_face_that_belongs_to_nobody_is_grey_and_has_no_name():
    pixels = np.full((512, 512, 3), 90, np.uint8)
    picture = drawing.overlay(pixels, judged(boxes=[(50, 100, 150, 200), (300, 100, 400, 200)], chosen=(0,)), [person(LATIN)])
    grey = (picture == ImageColor.getrgb(drawing.STRANGER)).all(axis=-1)
    assert is_colour(picture[150, 50], "pass") and grey[150, 300]
    assert not grey[:, :200].any() and not is_colour(picture[:250, 250:], "pass").any()


def test_the_score_after_a_very_long_name_stays_in_the_picture():
    """The label of a long name ends like that of a short one: with the score, whose last glyphs are compared."""
    for side in (256, 512, 2048):
        ends = []
        for name in ("a very", LONG):
            picture, _, box = drawn(side, name)
            height = label_rows(picture, box)
            rows = picture[int(box[1]) - height + 2 : int(box[1]) - 1]
            right = np.flatnonzero(is_colour(rows[0], "pass")).max()
            assert right < side - 1 or name == LONG
            ends.append(rows[:, right - height : right + 1])
        assert np.array_equal(*ends)


@pytest.mark.parametrize("name", ["Zoë", "Łukasz", "Пётр", "Ñandú"])
def test_a_name_beyond_ascii_is_not_drawn_as_empty_boxes(name):
    import unicodedata

    if drawing.font_of(20, wide=True).getname() == drawing.font_of(20).getname():
        pytest.skip("this system has none of the wide fonts")
    font = drawing.font_for(name, 20)
    missing = bytes(font.getmask("\U0010fffe"))
    assert all(bytes(font.getmask(letter)) != missing for letter in unicodedata.normalize("NFC", name))


@pytest.mark.parametrize("name", ["李小龍", "محمد", "🙂", "", LONG, "x" * 5000])
def test_no_name_stops_an_overlay_a_plot_or_a_sheet(name):
    picture, pixels, _ = drawn(200, name)
    assert picture.shape == pixels.shape
    assert drawing.plot([judged()], [person(name)], Rules(0.5, "standard")).shape == (440, 960, 3)
    assert drawing.identity_sheet(person(name), [Picture(pixels)]).shape[2] == 3


def test_a_long_reason_is_wrapped_and_covers_at_most_half_the_picture():
    reason = "Ann and Bea and Cy missing: 1 face for 5 people " * 8
    for side in (64, 300, 1000):
        pixels = np.full((side, side, 3), 90, np.uint8)
        banner = is_colour(drawing.overlay(pixels, judged("reject", reason=reason), [person(LATIN)])[:, -1], "reject")
        assert banner[-1] and 0 < banner.sum() <= max(side // 2, 20)
    one_line = is_colour(drawing.overlay(pixels, judged("reject", reason="short"), [person(LATIN)])[:, -1], "reject").sum()
    assert banner.sum() > 2 * one_line


# --- plots ---


def marks(picture, verdict):
    """Pixels of about a verdict's colour (a plot is drawn large and made smaller) where the legend has its marks."""
    legend = picture[270:400, 960 - drawing.RIGHT + 8 : 960 - drawing.RIGHT + 28].astype(int)
    return int((np.abs(legend - colour(verdict)).max(axis=-1) < 40).sum())


def plotted(judgements, rules=None, names=(LATIN,)):
    return drawing.plot(judgements, [person(name) for name in names], rules or Rules(0.5, "standard"))


@pytest.mark.parametrize("count", [0, 1, 2, 60, 500])
def test_a_plot_of_any_number_of_pictures_has_its_size_and_a_legend_of_the_verdicts_there_are(count):
    judgements = [judged(VERDICTS[i % 5], None if i % 5 in (3, 4) else i / 500) for i in range(count)]
    picture = plotted(judgements)
    assert picture.shape == (440, 960, 3) and picture.dtype == np.uint8
    for i, verdict in enumerate(VERDICTS):
        assert (marks(picture, verdict) > 0) == (i < count)


def test_a_plot_without_any_score_still_shows_the_pictures_and_the_thresholds():
    picture = plotted([judged("no face", None), judged("not judged", None)])
    assert marks(picture, "no face") and is_colour(picture[:, drawing.LEFT : 960 - drawing.RIGHT], "not judged").any()
    assert (picture < 60).all(axis=-1).sum(axis=1).max() > 500  # the applied threshold, a line across


def disc_height(score, rules=None):
    rows = np.flatnonzero(is_colour(plotted([judged("pass", score)], rules)[:, : 960 - drawing.RIGHT], "pass").any(axis=1))
    return rows.mean()


def test_a_higher_score_is_drawn_higher_and_on_the_threshold_when_equal():
    heights = [disc_height(score) for score in (0.1, 0.5, 0.9)]
    assert heights[0] > heights[1] > heights[2]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=2)
    line = np.flatnonzero((plotted([judged("no face", None)])[:, 100:700] < 60).all(axis=-1).mean(axis=1) > 0.9)
    assert heights[1] == pytest.approx(line.mean(), abs=2)


@pytest.mark.parametrize("score", [-0.6, -0.05, 1.0, 1.0000004])
def test_scores_beyond_the_usual_range_stay_in_the_frame(score):
    assert drawing.TOP - 10 < disc_height(score) < 440 - drawing.BOTTOM + 10


def test_a_custom_threshold_gets_the_line_of_the_applied_one():
    applied = [
        np.flatnonzero((plotted([judged("no face", None)], rules)[:, 100:700] < 60).all(axis=-1).mean(axis=1) > 0.9).mean()
        for rules in (Rules(0.23), Rules(0.5, "standard"))
    ]
    assert applied[0] == pytest.approx(disc_height(0.23), abs=2) and applied[1] == pytest.approx(disc_height(0.5), abs=2)


# --- sheets ---


@pytest.mark.parametrize("count, size", [(1, (240, 337)), (5, (1168, 337)), (6, (1168, 620))])
def test_a_sheet_has_a_tile_for_every_picture_also_for_those_without_a_face(count, size):
    her = person(LATIN)
    pictures = [Picture(np.full((60, 80, 3), 20 + i, np.uint8)) for i in range(count)]
    sheet = drawing.identity_sheet(her, pictures)
    assert sheet.shape[1] == size[0] and abs(sheet.shape[0] - size[1]) <= 20
    assert is_colour(sheet, "pass").any()  # the one reference
    assert is_colour(sheet, "no face").any() == (count > 1)
    for i in range(1, count):
        assert (sheet == 20 + i).all(axis=-1).any()


def test_a_sheet_marks_the_outlier_and_the_flagged_and_shows_each_face():
    part = person(LATIN)
    references = (
        Reference(0, a_face(10, 10, 50, 50), (), 0.9),
        Reference(1, a_face(10, 10, 50, 50), ("blurred",), 0.9),
        Reference(2, a_face(10, 10, 50, 50), (), 0.2),
    )
    identity = Identity("Ann", part.recognizer, "mean", references, part.portrait)
    pictures = []
    for i in range(3):
        pixels = np.full((200, 200, 3), 200, np.uint8)
        pixels[10:50, 10:50] = 40 + i
        pictures.append(Picture(pixels))
    sheet = drawing.identity_sheet(identity, pictures)
    for i, verdict in enumerate(("pass", "uncertain", "reject")):
        tile = sheet[:, 8 + i * (drawing.TILE + 8) : 8 + i * (drawing.TILE + 8) + drawing.TILE]
        assert is_colour(tile, verdict).any()
        assert not any(is_colour(tile, other).any() for other in ("pass", "uncertain", "reject") if other != verdict)
        assert (tile == 40 + i).all(axis=-1).mean() > 0.1


def test_a_badge_tells_number_verdict_and_score_in_letters_an_eighth_of_the_picture_high():
    picture = np.full((400, 400, 3), 128, np.uint8)
    marked = drawing.badge(picture, judged("reject"), 12)
    strip = (marked == colour("reject")).all(-1)
    assert marked.shape == picture.shape and strip[2, :].all() and not strip[80:].any()
    letters = ~strip[:65] & (marked[:65] != 128).any(-1)
    assert 25 < np.ptp(np.flatnonzero(letters.any(1))) < 60


def test_in_a_cast_each_box_has_the_colour_of_its_own_person_and_the_score_with_that_person():
    faces = Measured((a_face(40, 100, 120, 180), a_face(240, 100, 320, 180)), np.array([[0.9, 0.1], [0.8, 0.2]]))
    judgement = Judgement("reject", "rejected", 0.2, "Bea: score 0.20 is below 0.50 (standard)", faces, (0, 1), ("pass", "reject"))
    marked = drawing.overlay(np.full((400, 400, 3), 128, np.uint8), judgement, [person("Ann"), person("Bea")])
    assert (marked[140, 40] == colour("pass")).all() and (marked[140, 240] == colour("reject")).all()
