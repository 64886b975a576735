"""Overlays, contact sheets and score plots, drawn with Pillow. Pictures come and go as uint8 [H,W,3]; nothing is judged here."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..pictures import Picture, small_copy
from .identity import Identity
from .scoring import NO_FACE_VERDICT, NOT_JUDGED, PASS, REJECT, UNCERTAIN_VERDICT, Judgement, Rules

# Okabe and Ito's palette, which colour-blind people can tell apart; each verdict also has its word and its mark.
COLOURS = {PASS: "#009E73", REJECT: "#D55E00", UNCERTAIN_VERDICT: "#E69F00", NO_FACE_VERDICT: "#7F7F7F", NOT_JUDGED: "#56B4E9"}
STRANGER = "#B0B0B0"
INK, PAPER, RULE = "#1F2328", "#FFFFFF", "#D0D7DE"

# Overlays are drawn for this longest side and everything grows with the picture.
REFERENCE_SIDE = 640
LABEL_SIZE = 21
SMALLEST_LABEL = 11
# A longer name is cut, so that the score after it stays in the picture.
NAME_SHARE = 0.4

# Pillow's own font has no letters beyond ASCII, not even accented ones; the first of these that the system has writes such texts.
WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "msyh.ttc", "PingFang.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf")


@lru_cache(maxsize=32)
def font_of(size: int, wide: bool = False):
    if wide:
        for name in WIDE_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def font_for(text: str, size: int):
    return font_of(size, not text.isascii())


def overlay(pixels: np.ndarray, judgement: Judgement, identities: Sequence[Identity], number: int | None = None) -> np.ndarray:
    """A copy of a picture with a box around each face (name, score), the verdict and its reason along the lower edge.

    A box has the colour of what is said of that face; a name with a question mark is the person it was held against without passing.
    number: the picture's number, as plot and sentences count.
    """
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    unit = max(image.size) / REFERENCE_SIDE
    size = max(SMALLEST_LABEL, round(LABEL_SIZE * unit))
    line = max(2, round(2.5 * unit))
    about = judgement.about or (None,) * len(judgement.measured.faces)
    for i, (face, said) in enumerate(zip(judgement.measured.faces, about)):
        person = judgement.person_of(i, len(identities))
        shade = COLOURS[said] if said else STRANGER
        draw.rectangle(face.box, outline=shade, width=line if said else max(1, line // 2))
        if person is None:
            shown = "stranger" if said else f"{judgement.measured.scores[i].max():.2f}"
        else:
            name = identities[person].name
            name = shortened(draw, name, font_for(name, size), NAME_SHARE * image.width)
            shown = f"{name}{'' if said == PASS else '?'} {judgement.measured.scores[i, person]:.2f}"
        _label(draw, (face.box[0], face.box[1]), shown, shade, size, image.size)
    told = judgement.reason if judgement.reason.startswith(judgement.verdict) else f"{judgement.verdict.upper()}  {judgement.reason}"
    _banner(draw, told if number is None else f"{number}  {told}", COLOURS[judgement.verdict], size, image.size)
    return np.asarray(image)


def badge(pixels: np.ndarray, judgement: Judgement, number: int) -> np.ndarray:
    """A copy of a small picture with number, verdict and score in letters large enough to be read in a grid of many."""
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    size = max(SMALLEST_LABEL, min(image.size) // 8)
    score = "" if judgement.score is None else f" {judgement.score:.2f}"
    text, font = f"{number}  {judgement.verdict.upper()}{score}", font_of(size)
    colour = COLOURS[judgement.verdict]
    draw.rectangle((0, 0, image.width, size * 1.3), fill=colour)
    draw.text((size / 4, size * 0.65), shortened(draw, text, font, image.width - size / 2), font=font, fill=text_on(colour), anchor="lm")
    return np.asarray(image)


def captioned(pixels: np.ndarray, text: str) -> np.ndarray:
    """A copy of a picture with a line of text along its lower edge."""
    image = Image.fromarray(pixels)
    size = max(SMALLEST_LABEL, round(LABEL_SIZE * max(image.size) / REFERENCE_SIDE))
    _banner(ImageDraw.Draw(image), text, COLOURS[PASS], size, image.size)
    return np.asarray(image)


def masked(pixels: np.ndarray, mask: np.ndarray, longest: int) -> np.ndarray:
    """A small copy of a picture uint8 [H,W,3], dark where its mask float32 [H,W] is 0."""
    small = small_copy(pixels, longest)
    light = small_copy(mask, longest)[..., None] * 0.75 + 0.25
    return (small * light).astype(np.uint8)


def _label(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: str, size: int, limits: tuple[int, int]) -> None:
    """A filled label standing on a corner of a box, moved inside the picture where it would leave it."""
    font = font_for(text, size)
    pad = size // 4
    width, height = draw.textlength(text, font=font) + 2 * pad, size + 2 * pad
    x = min(max(0, corner[0]), max(0, limits[0] - width))
    y = corner[1] - height if corner[1] >= height else min(max(0, corner[1]), limits[1] - height)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + pad, y + height / 2), text, font=font, fill=text_on(colour), anchor="lm")


def _banner(draw: ImageDraw.ImageDraw, text: str, colour: str, size: int, limits: tuple[int, int]) -> None:
    font = font_for(text, size)
    pad = size // 3
    lines = _wrap(draw, text, font, limits[0] - 2 * pad)
    if len(lines) > 3:
        lines = [*lines[:2], shortened(draw, lines[2] + "....", font, limits[0] - 2 * pad)]
    step = round(size * 1.25)
    height = len(lines) * step + 2 * pad
    if height > limits[1] // 2:
        lines, height = lines[:1], min(step + 2 * pad, limits[1])
    top = limits[1] - height
    draw.rectangle((0, top, limits[0], limits[1]), fill=colour)
    for i, part in enumerate(lines):
        draw.text((pad, top + pad + (i + 0.5) * step), part, font=font, fill=text_on(colour), anchor="lm")


def shortened(draw: ImageDraw.ImageDraw, text: str, font, width: float) -> str:
    """The text, or as much of its beginning as fits the width, with dots after it."""
    if draw.textlength(text, font=font) <= width:
        return text
    count = len(text)
    while count and draw.textlength(text[:count] + "...", font=font) > width:
        count -= -(-count // 8)
    return text[:count] + "..."


def _wrap(draw: ImageDraw.ImageDraw, text: str, font, width: float) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and draw.textlength(longer, font=font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def text_on(colour: str) -> str:
    """Black or white, whichever is readable on a colour (relative luminance, ITU-R BT.709)."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 110 else "#FFFFFF"


PLOT_SIZE = (960, 440)
PLOT_SCALE = 2
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 46, 52
LARGEST_MARK = 8


def plot(judgements: Sequence[Judgement], identities: Sequence[Identity], rules: Rules) -> np.ndarray:
    """The scores of all pictures in order, with the threshold that was applied and the recognizer's three, uint8 [440,960,3].

    A mark tells the verdict: disc pass, cross reject, triangle uncertain, hollow square no face (at the lower edge), diamond not judged.
    """
    scale = PLOT_SCALE
    width, height = PLOT_SIZE[0] * scale, PLOT_SIZE[1] * scale
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    left, right, top, bottom = LEFT * scale, width - RIGHT * scale, TOP * scale, height - BOTTOM * scale
    thresholds = identities[0].recognizer.info.thresholds
    known = [judgement.score for judgement in judgements if judgement.score is not None]
    low = min([0.0, *known]) - 0.05
    high = max([1.0, rules.threshold + 0.05, *known])

    def y_of(score: float) -> float:
        return bottom - (score - low) / (high - low) * (bottom - top)

    small, normal = 13 * scale, 15 * scale
    first = int(np.ceil(low * 5))
    for tick in range(first, int(np.floor(high * 5)) + 1):
        y = y_of(tick / 5)
        draw.line((left, y, right, y), fill=RULE, width=scale)
        draw.text((left - 8 * scale, y), f"{tick / 5:.1f}", font=font_of(small), fill=INK, anchor="rm")
    # Thresholds may lie closer together than their labels are high: the labels are spread, top to bottom.
    lines = [("strict", thresholds.strict), ("standard", thresholds.standard), ("loose", thresholds.loose)]
    if rules.label == "custom":
        lines.append(("custom", rules.threshold))
    lowest = -np.inf
    for name, value in sorted(lines, key=lambda item: -item[1]):
        y, applied = y_of(value), name == rules.label
        draw.line((left, y, right, y), fill=INK if applied else "#8C959F", width=(3 if applied else 1) * scale)
        lowest = max(y, lowest + 17 * scale)
        draw.text(
            (right + 10 * scale, lowest),
            f"{name} {value:.2f}" + ("  (applied)" if applied else ""),
            font=font_of(small),
            fill=INK if applied else "#57606A",
            anchor="lm",
        )
    step = (right - left) / max(1, len(judgements))
    mark = max(2 * scale, min(LARGEST_MARK * scale, step * 0.35))
    for i, judgement in enumerate(judgements):
        x = left + (i + 0.5) * step
        draw_mark(draw, x, bottom if judgement.score is None else y_of(judgement.score), mark, judgement.verdict)
    for i in _spread(len(judgements), int((right - left) / (34 * scale))):
        draw.text((left + (i + 0.5) * step, bottom + 12 * scale), str(i + 1), font=font_of(small), fill=INK, anchor="mt")
    draw.text(((left + right) / 2, height - 8 * scale), "picture", font=font_of(small), fill=INK, anchor="mb")
    names = ", ".join(identity.name for identity in identities)
    title = f"Likeness score with {names}" if len(names) < 60 or len(identities) == 1 else f"Likeness score with {len(identities)} people"
    font, recognizer = font_for(title, normal), f"   ({identities[0].recognizer.info.name})"
    title = shortened(draw, title, font, width - 2 * left - draw.textlength(recognizer, font=font))
    draw.text((left, 14 * scale), title + recognizer, font=font, fill=INK, anchor="lt")
    counts = [(verdict, sum(judgement.verdict == verdict for judgement in judgements)) for verdict in COLOURS]
    y = bottom
    for verdict, count in reversed([item for item in counts if item[1]]):
        draw_mark(draw, right + 17 * scale, y - 8 * scale, 6 * scale, verdict)
        draw.text((right + 32 * scale, y - 8 * scale), f"{count} {verdict}", font=font_of(small), fill=INK, anchor="lm")
        y -= 21 * scale
    return np.asarray(image.reduce(PLOT_SCALE))


def _spread(count: int, most: int) -> range:
    return range(0, count, max(1, -(-count // max(1, most))))


def draw_mark(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, verdict: str) -> None:
    colour, thin = COLOURS[verdict], max(1, round(size / 3))
    if verdict == PASS:
        draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)
    elif verdict == REJECT:
        draw.line((x - size, y - size, x + size, y + size), fill=colour, width=thin)
        draw.line((x - size, y + size, x + size, y - size), fill=colour, width=thin)
    elif verdict == UNCERTAIN_VERDICT:
        draw.polygon(((x, y - size), (x + size, y + size), (x - size, y + size)), fill=colour)
    elif verdict == NOT_JUDGED:
        draw.polygon(((x, y - size), (x + size, y), (x, y + size), (x - size, y)), fill=colour)
    else:
        draw.rectangle((x - size, y - size, x + size, y + size), outline=colour, width=thin)


TILE = 224
HEADER = 54
CAPTION_LINES = 3


def identity_sheet(identity: Identity, pictures: Sequence[Picture]) -> np.ndarray:
    """A contact sheet of the references: each face with its number, its score against the others, what is wrong with it, and which is the best.

    pictures: those the identity was built from, in the same order.
    """
    by_index = {reference.index: reference for reference in identity.references}
    columns = min(5, len(pictures))
    rows = -(-len(pictures) // columns)
    line = 17
    cell = TILE + CAPTION_LINES * line + 8
    image = Image.new("RGB", (columns * (TILE + 8) + 8, HEADER + rows * cell), PAPER)
    draw = ImageDraw.Draw(image)
    font = font_for(identity.name, 16)
    draw.text((10, 8), shortened(draw, identity.name, font, image.width - 20), font=font, fill=INK)
    facts = f"{len(identity.references)} of {len(pictures)} reference{'s' * (len(pictures) > 1)}, {identity.recognizer.info.name}, {identity.combine}"
    draw.text((10, 30), facts, font=font_of(13), fill=INK)
    for i, picture in enumerate(pictures):
        x, y = 8 + (i % columns) * (TILE + 8), HEADER + (i // columns) * cell
        reference = by_index.get(i)
        if reference is None:
            tile, words, colour = _thumbnail(picture.pixels, None), "no face: left out", COLOURS[NO_FACE_VERDICT]
        else:
            tile = _thumbnail(picture.pixels, reference.face.box)
            words = "" if reference.agreement is None else f"{reference.agreement:.2f} against the others: "
            outlier = reference.agreement is not None and reference.agreement < identity.recognizer.info.thresholds.standard
            words += ", ".join([*(["does not look like the others"] if outlier else []), *reference.flags]) or "good"
            colour = COLOURS[REJECT] if outlier else COLOURS[UNCERTAIN_VERDICT] if reference.flags else COLOURS[PASS]
        image.paste(tile, (x, y))
        draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline=colour, width=4)
        best = reference is not None and reference is identity.best
        _label(draw, (x, y + TILE - 24), f"{i + 1}  best" if best else str(i + 1), colour, 15, image.size)
        for j, part in enumerate(_wrap(draw, words, font_of(13), TILE)[:CAPTION_LINES]):
            draw.text((x, y + TILE + 3 + j * line), part, font=font_of(13), fill=INK)
    return np.asarray(image)


def _thumbnail(pixels: np.ndarray, box: tuple[float, float, float, float] | None) -> Image.Image:
    """A square TILE x TILE around a face, or the whole picture on grey."""
    image = Image.fromarray(pixels)
    if box is None:
        image.thumbnail((TILE, TILE))
        tile = Image.new("RGB", (TILE, TILE), "#808080")
        tile.paste(image, ((TILE - image.width) // 2, (TILE - image.height) // 2))
        return tile
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = max(box[2] - box[0], box[3] - box[1])
    return image.crop((round(x - half), round(y - half), round(x + half), round(y + half))).resize((TILE, TILE), Image.Resampling.LANCZOS)
