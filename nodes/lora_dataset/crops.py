"""Face crops: square pictures around a face, made from a dataset's pictures and put beside them. Finding the faces is faces.py's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType

import numpy as np

from ..errors import InputError, PictureError
from ..identity.identity import Identity
from ..identity.masks import MESH_IOU
from ..identity.recognizers.faces import overlap
from ..identity.scoring import PASS, Measured, Rules, judge, threshold_of
from . import survey
from .choices import MARGIN, MINIMUM, WIDEST_MARGIN
from .dataset import Dataset, DatasetItem, Source, counted, said_of
from .faces import FaceReader, FaceReading, framing_by_face
from .wording import framing_of, line_of, parts_of

# The crop's middle lies this share of the face's side above the face's own: the crown of the head, with 3 cm of hair, is 1.1 sides above the middle of
# the box (proportions in identity/masks.py), so that the default margin leaves 0.15 of a side above it.
HEADROOM = 0.15
# At most this share of a crop is reflection.
MOST_MADE_UP = 1 / 3
# A crop that shares more than this with its picture (intersection over union) would show the same thing twice.
SAME_PICTURE_IOU = 0.7

BEST_MATCH, LARGEST = WHICH = ("best match", "largest")

Box = tuple[int, int, int, int]
# Of the face that a crop is for: where it is, its likeness score, and in words which one it is.
_Chosen = tuple[FaceReading, float | None, str]


# --- one picture ---


def crop_box(size: tuple[int, int], box: tuple[float, float, float, float], margin: float = MARGIN, minimum: int = MINIMUM) -> Box:
    """The square (left, top, right, bottom) in pixels around a face, which may reach outside the picture: there it is reflected.

    size: (width, height) of the picture; box: of the face; what lies outside the picture does not count. margin: beyond the face on each side, in
    shares of its longer side; the square's middle lies HEADROOM above the face's. It moves into the picture so far that nothing of the face is ever
    mirrored: on each side less is reflected than lies between the face and that border. Where more than MOST_MADE_UP of it would be reflected
    the margin shrinks, and where `minimum` forbids that it moves into the picture as far as it can.

    Raises PictureError where that is not possible with `minimum` pixels a side, InputError for a margin or minimum out of range.
    """
    _check(margin, minimum)
    face = _inside(size, box)
    side = max(face[2] - face[0], face[3] - face[1])
    wanted = round(side * (1 + 2 * margin))
    if wanted < minimum:
        raise PictureError(f"the face is {side} px and its crop would be {wanted} px, below {minimum} px, and is not enlarged")
    for into_picture in (False, True):
        for edge in range(wanted, max(side, minimum) - 1, -1):
            crop = _placed(size, face, edge, into_picture)
            if crop is not None and _made_up(size, crop) <= MOST_MADE_UP:
                return crop
    raise PictureError(f"the picture of {size[0]}x{size[1]} px does not have {max(side, minimum)} px around the face")


def _check(margin: float, minimum: int) -> None:
    if not 0 <= margin <= WIDEST_MARGIN:
        raise InputError(f"The margin of a face crop is {margin:g}; it must be 0 to {WIDEST_MARGIN:g} times the face's side.")
    if minimum < 1:
        raise InputError(f"The smallest face crop is {minimum} px; it must be at least 1.")


def _inside(size: tuple[int, int], box: tuple[float, float, float, float]) -> Box:
    """The pixels of a picture that a box touches."""
    if not np.isfinite(box).all():
        raise PictureError(f"the face's box {box} is no box")
    left, top = max(0, int(np.floor(box[0]))), max(0, int(np.floor(box[1])))
    right, bottom = min(size[0], int(np.ceil(box[2]))), min(size[1], int(np.ceil(box[3])))
    if left >= right or top >= bottom:
        raise PictureError(f"the face's box {tuple(round(v) for v in box)} does not lie in the picture of {size[0]}x{size[1]} px")
    return left, top, right, bottom


def _placed(size: tuple[int, int], face: Box, edge: int, into_picture: bool) -> Box | None:
    """The square of that edge that is nearest to being centred; into_picture: it leaves the picture only where it is larger. None where there is none."""
    starts = []
    headroom = HEADROOM * max(face[2] - face[0], face[3] - face[1])
    for length, low, high, lift in ((size[0], face[0], face[2], 0.0), (size[1], face[1], face[3], headroom)):
        # What is reflected begins beside the pixel at the border, so a face at that distance would be the first to be mirrored.
        before, after = (0, 0) if into_picture and edge <= length else (max(low - 1, 0), max(length - high - 1, 0))
        first, last = max(-before, high - edge), min(length + after - edge, low)
        if first > last:
            return None
        starts.append(min(max(round((low + high) / 2 - lift - edge / 2), first), last))
    left, top = starts
    return left, top, left + edge, top + edge


def _made_up(size: tuple[int, int], crop: Box) -> float:
    """The share of a crop that lies outside the picture."""
    width = min(crop[2], size[0]) - max(crop[0], 0)
    height = min(crop[3], size[1]) - max(crop[1], 0)
    return 1 - width * height / ((crop[2] - crop[0]) * (crop[3] - crop[1]))


def cut(pixels: np.ndarray, crop: Box) -> np.ndarray:
    """A copy of that part of a picture [H,W,3]; outside the picture it is reflected at the border, whose own pixels are not repeated."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = crop
    part = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    padding = ((max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)), (0, 0))
    return np.pad(part, padding, mode="reflect")


def face_crop(pixels: np.ndarray, box: tuple[float, float, float, float], margin: float = MARGIN, minimum: int = MINIMUM) -> tuple[np.ndarray, Box]:
    """The crop uint8 [S,S,3] around a face in a picture uint8 [H,W,3], and its place. Raises what crop_box raises."""
    crop = crop_box(pixels.shape[1::-1], box, margin, minimum)
    return cut(pixels, crop), crop


@dataclass(frozen=True)
class CropSource:
    """A part of another picture, cut out when it is asked for. box: (left, top, right, bottom) in pixels, reflected outside the picture."""

    parent: Source
    box: Box

    @property
    def name(self) -> str:
        return f"{self.parent.name}, face crop"

    @property
    def key(self) -> str:
        """32 hexadecimal digits of the parent's key and the box. Raises PictureError."""
        return blake2b(f"crop {self.parent.key} {self.box}".encode(), digest_size=16).hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    def pixels(self) -> np.ndarray:
        """uint8 [H,W,3]. Raises PictureError."""
        return cut(self.parent.pixels(), self.box)


# --- a dataset ---


def add_crops(
    dataset: Dataset,
    reader: FaceReader,
    margin: float = MARGIN,
    minimum: int = MINIMUM,
    which: str = LARGEST,
    identity: Identity | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Dataset:
    """The dataset with a face crop behind its own pictures for each that shows a face, in the same bucket, with the caption made to fit.

    margin, minimum: see crop_box. which: the largest face, or the one that is most like `identity` and passes at standard strictness. Pictures are
    opened one after the other and let go; the crop of one is cut again whenever it is asked for. tick: called before each picture, for progress and
    for interrupting by an exception. No crop is made in buckets without faces, of crops and of pictures that have one, where the picture cannot be
    read or shows no such face, where the face is too small, and where the crop would be nearly the whole picture: each has the reason in its
    decisions, and the notes count them. A crop keeps the picture's origin and control picture. Raises InputError for another choice, `best match`
    without an identity, and a margin or minimum out of range.
    """
    if which not in WHICH:
        raise InputError(f"'{which}' is no choice of a face; choose {' or '.join(WHICH)}.")
    if which == BEST_MATCH and identity is None:
        raise InputError("The face that matches best is asked for and no identity is given; connect one, or choose largest.")
    _check(margin, minimum)
    cropped = {item.parent for item in dataset.items}
    taken = {item.stem.casefold() for item in dataset.items}
    items, crops, without = [], [], Counter()
    for item in dataset.items:
        tick()
        why = "crops have no face crop of their own" if item.parent is not None else "they have one" if item.stem in cropped else ""
        if why or not item.bucket.faces:
            without[why or f"no face is expected in {item.bucket.name}"] += 1
            items.append(item)
            continue
        try:
            crop = _crop_of(item, dataset.trigger, reader, margin, minimum, identity if which == BEST_MATCH else None, taken)
        except _NoCrop as reason:
            without[reason.kind] += 1
            items.append(item.decided(f"No face crop: {reason}."))
        else:
            crops.append(crop)
            items.append(item.decided(f"A face crop was put beside it: {crop.stem}."))
    why = f"; none for {sum(without.values())}: {', '.join(f'{count} because {kind}' for kind, count in without.items())}" if without else ""
    # Not the reader's own note: it names this machine's folders, and a dataset's notes travel with it.
    return dataset.with_items(items).added(
        crops, notes=[f"{counted(len(crops), 'face crop')} {'was' if len(crops) == 1 else 'were'} added, faces found by {reader.name}{why}."]
    )


class _NoCrop(Exception):
    """A picture gets no crop. kind: how the notes count it."""

    def __init__(self, kind: str, reason: object):
        super().__init__(str(reason).rstrip("."))
        self.kind = kind


def _crop_of(item: DatasetItem, trigger: str, reader: FaceReader, margin: float, minimum: int, identity: Identity | None, taken: set[str]) -> DatasetItem:
    size, face, why = _face_of(item, reader, identity)
    if face is None:
        raise _NoCrop(*why)
    reading, likeness, chosen = face
    try:
        box = crop_box(size, reading.box, margin, minimum)
    except PictureError as error:
        raise _NoCrop("the face is too small, or too little is around it", error) from None
    if overlap(box, (0, 0, *size)) > SAME_PICTURE_IOU:
        raise _NoCrop("the face fills the picture", "the face fills the picture, so that the crop would show the same once more")

    framing = crop_framing(reading, box)
    caption = crop_caption(item.caption, framing, trigger, item.bucket.tag)
    shot = _seen_in_crop(item.shot)
    stem, number = f"{item.stem}_face", 1
    while stem.casefold() in taken:
        number += 1
        stem = f"{item.stem}_face_{number}"
    made_up = _made_up(size, box)
    said = [
        f"Cut from {item.stem} around {chosen} ({round(reading.box[2] - reading.box[0])} px, found by {reading.by}): {box[2] - box[0]} px a side"
        f"{f', {made_up:.0%} of it reflected' if made_up else ''}."
    ]
    if caption != item.caption:
        said.append(f"The caption was made to fit the crop; the picture's is: {item.caption}")
    if dict(shot) != dict(item.shot):
        said.append(f"What the crop does not show was left out: {', '.join(field for field in item.shot if item.shot[field] != shot.get(field))}.")
    return DatasetItem(
        CropSource(item.source, box),
        stem,
        item.bucket,
        caption,
        item.caption_source,
        framing,
        shot,
        likeness,
        PASS if identity is not None else "",
        parent=item.stem,
        crop=box,
        control=item.control,
        origin=item.origin,
        decisions=tuple(said),
    )


def _face_of(item: DatasetItem, reader: FaceReader, identity: Identity | None) -> tuple[tuple[int, int], _Chosen | None, tuple[str, str] | None]:
    """The size of the picture, the face that a crop is for, and without one the kind of reason and the reason; remembered as all that a survey sees."""

    def look(pixels: np.ndarray) -> tuple:
        size = pixels.shape[1::-1]
        try:
            return size, _best_match(pixels, reader, identity, found) if identity is not None else _largest(pixels, reader), None
        except _NoCrop as reason:
            return size, None, (reason.kind, str(reason))

    who = None if identity is None else (identity.name, survey.whom(identity.recognizer, identity))
    try:
        found = None if identity is None else survey.Looker(identity.recognizer, identity).look(item).found
        return survey.remembered(item.source.key, {"crop": ((survey.named(reader), who), look)}, item.source)["crop"]
    except PictureError as error:
        raise _NoCrop("the picture cannot be read", said_of(item, error)) from None


def _largest(pixels: np.ndarray, reader: FaceReader) -> tuple[FaceReading, None, str]:
    readings = reader.read(pixels)
    if not readings:
        raise _NoCrop("no face was found", "no face was found")
    return readings[0], None, "the face" if len(readings) == 1 else f"the largest of {len(readings)} faces"


def _best_match(pixels: np.ndarray, reader: FaceReader, identity: Identity, found: survey.Faces) -> tuple[FaceReading, float, str]:
    """The reader's own box of the face that the recognizer takes for the person, so that all crops are framed alike; the recognizer's where it has none."""
    rules = Rules(threshold_of(identity, "standard", 0.0), "standard")
    judgement = judge([Measured(found.faces, found.scores[:, None])], [identity], rules)[0]
    if judgement.verdict != PASS:
        kind = f"no face passes for {identity.name}" if judgement.measured.faces else "no face was found"
        raise _NoCrop(kind, f"of {identity.name}: {judgement.reason}" if judgement.measured.faces else judgement.reason)
    face = judgement.measured.faces[judgement.chosen[0]]
    detector = identity.recognizer.info.detector.name
    by_recognizer = FaceReading(tuple(map(float, face.box)), float(face.confidence), face.yaw, by=detector)
    reading = max(reader.read(pixels), key=lambda reading: overlap(reading.box, face.box), default=by_recognizer)
    if overlap(reading.box, face.box) <= MESH_IOU:
        reading = by_recognizer
    return reading, judgement.score, f"the face that is most like {identity.name} (score {judgement.score:.2f})"


# --- words ---


def crop_framing(reading: FaceReading, box: Box) -> str:
    """What a face crop is called: closeup, or portrait where the face is so small in it that both shoulders fit (faces.FACE_SHARES)."""
    share = (reading.box[3] - reading.box[1]) / (box[3] - box[1])
    return "closeup" if framing_by_face(share) == "closeup" else "portrait"


# Words of framing inside a caption, with an article before them, which the new words need to agree with.
_FRAMING = re.compile(
    r"\b(?:(?P<article>an?|the)\s+)?(?:(?:extreme|medium|tight)\s+)?"
    r"(?:(?:full|whole|entire|upper|half)[\s_-]?body|full[\s_-](?:length|figure)|three[\s_-]quarter(?:[\s_-]length)?|half[\s_-]length"
    r"|(?:medium[\s_-])?close[\s_-]?ups?|(?:cowboy|american|medium|medium[\s_-]full|long|wide|bust|waist[\s_-]up)(?=\s+(?:shot|view|portrait))"
    r"|portrait|head[\s_-]?shot)(?:[\s_-]+(?:portrait|shot|view))?(?:\s+of\s+(?:the\s+|(?:his|her|their)\s+)?face)?\b",
    re.IGNORECASE,
)
# What is said besides, of how far the picture reaches.
_EXTENT = re.compile(
    r"\s*\b(?:from\s+)?(?:head[\s_-]to[\s_-](?:toe|foot)|head[\s_-]and[\s_-]shoulders|(?:the\s+)?(?:mid[\s_-])?(?:waist|thighs?|knees?|chest|shoulders?)[\s_-]up)\b",
    re.IGNORECASE,
)
# A whole part of a caption that speaks of nothing but what lies below a crop. `Standing in a kitchen` has the kitchen too, and stays.
_BELOW = re.compile(
    r"(?:(?:is|she|he|they)\s+)*(?:stand(?:s|ing)|walk(?:s|ing)|run(?:s|ning)|sit(?:s|ting)|kneel(?:s|ing)|crouch(?:es|ing)|squat(?:s|ting)|jump(?:s|ing)|l(?:ies|ying))"
    r"(?:\s+(?:up|down|still|upright|straight|pose))?"
    r"|(?:(?!and\b|with\b|in\b|on\b|at\b)[\w'-]+\s+){0,3}"
    r"(?:legs?|knees?|thighs?|feet|toes|shoes|boots|sneakers|heels|sandals|socks|stockings|tights|leggings|trousers|pants|jeans|shorts|skirt|barefoot)",
    re.IGNORECASE,
)


def crop_caption(caption: str, framing: str, trigger: str = "", tag: str = "") -> str:
    """The caption of a face crop from that of its picture, whose every other word stays; "" for "".

    The words for the framing become those for the crop's (closeup or portrait), where there are none they are put behind the trigger; how far the
    picture reached (head to toe) and parts that speak of legs, footwear or a pose of the whole body alone go.
    """
    words, kept, placed = framing, [], False

    def once(match: re.Match) -> str:
        nonlocal placed
        if placed:
            return ""
        placed = True
        article = match["article"]
        if article and article.lower() != "the":
            article = "A" if article[0] == "A" else "a"
        return f"{article} {words}" if article else words

    for part in parts_of(line_of(caption)):
        own = part.casefold() in (trigger.casefold(), tag.casefold())
        if not own and framing_of(part):
            part = _FRAMING.sub(once, _EXTENT.sub("", part))
            part = " ".join(part.split()).strip(" -")
        if own or (part and not _BELOW.fullmatch(part)):
            kept.append(part)
    if kept and not placed:
        behind = 1 if trigger and re.match(rf"{re.escape(trigger)}(?!\w)", kept[0], re.IGNORECASE) else 0
        kept.insert(behind, words)
    return ", ".join(kept)


def _seen_in_crop(shot: Mapping[str, str]) -> Mapping[str, str]:
    kept = {field: ", ".join(part for part in parts_of(words) if not _BELOW.fullmatch(part)) for field, words in shot.items()}
    return MappingProxyType({field: words for field, words in kept.items() if words})
