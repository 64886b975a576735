"""The rules of the audit, a function each: what was seen of the pictures goes in, findings come out. How they add up to a verdict is audit.py's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from ..errors import InputError, PictureError
from ..identity.recognizers import Face, Recognizer
from ..identity.scoring import SURE_CONFIDENCE, doubt, needs_no_face, told_apart
from .dataset import ATTENTION, BLOCKED, Dataset, DatasetItem, Finding, said_of
from .duplicates import BITS, DISTANCE, LARGEST_DISTANCE, near_duplicates
from .faces import framing_by_face
from .survey import Looker, Seen
from .wording import framing_of

# What each rule is about, by the name under which it can be waived.
RULES = {
    "empty": "the dataset has no picture",
    "unreadable": "the picture cannot be read",
    "too-small": "the picture is too small for any bucket",
    "two-buckets": "the very same picture is to show the face and not to show it",
    "resolution": "smaller than the bucket it is trained in",
    "blur": "blurred",
    "exposure": "parts without detail, black or white",
    "duplicate": "shows the same as a better picture",
    "identity": "unlike the character",
    "no-face": "no face found where one is expected",
    "several-faces": "several faces",
    "unexpected-face": "a face where none is expected",
    "framing": "the framing is not what the caption says",
    "plan": "fewer pictures than planned",
}

# The bucket size that the recipes train at.
RESOLUTION = 1024
# Face crops are cut from pictures and never enlarged: at half the side they are enlarged to twice by the trainers that enlarge.
CROP_RESOLUTION = 512
# Trainers cut the sides of a bucket to multiples of 16 to 64 pixels: sd-scripts' own buckets at 1024 go down to 704x1408, a side of 996
# (library/model_util.py, make_bucket_resolutions), and 1 megapixel at 16:9 in steps of 32 is 1344x768, a side of 1015.
BUCKET_SLACK = 0.97
# 4x4 of the 16-pixel patches that Qwen-Image and Flux see; below, a picture is an icon or a mistake.
SMALLEST_SIDE = 64
# measures.sharpness: photographs under a blur of 2 pixels at 1024x1024 measure 60 to 260, of 4 pixels 9 to 31.
SHARPNESS = 50.0
# Practice of dataset tools: below half of the median, and more than 5% clipped.
SHARPNESS_SHARE = 0.5
CLIPPED = 0.05
# A median of fewer pictures of one bucket and framing says nothing.
FEWEST_FOR_MEDIAN = 5
# Leave-one-out needs others that agree: of two pictures that differ nobody knows which is wrong.
FEWEST_FACES = 3
MOST_ROUNDS = 10

# Between which shares of the picture's height the box of a face lies. Standing people who fill the picture have 0.09 (full body), 0.15 (cowboy
# shot), 0.23 (upper body) and 0.34 (portrait): faces.FACE_SHARES says by which survey. The upper ends are 1.7 to 2.2 times that, for people who
# sit or bend to the camera; the lower ones 0.4 times, for room above the head.
USUAL_SHARES = {"closeup": (0.28, 9.0), "portrait": (0.15, 0.65), "upper body": (0.10, 0.40), "cowboy shot": (0.06, 0.26), "full body": (0.0, 0.20)}
# Landmarks of the body say more than the size of the face, but neighbours in this order shade into each other.
FRAMING_ORDER = tuple(USUAL_SHARES)


@dataclass(frozen=True)
class AuditRules:
    """The limits of an audit.

    resolution, crop_resolution: pixels, the side of a square of the picture's area: trainers sort into buckets by area. sharpness: of
    measures.sharpness; sharpness_share: of the median of its bucket and framing. clipped: share of the picture, of black and white together.
    distance: of near-duplicates, in bits of 64, 0 to 7. identity: the lowest likeness score, None for the recognizer's loose threshold. plan: see
    plan.dataset_plan_of. traits: fixed ones that captions were to omit, one a line or between commas. waive: lines such as
    `mira_03: blur, resolution` or `*: exposure`. Raises InputError for a limit out of range.
    """

    resolution: int = RESOLUTION
    crop_resolution: int = CROP_RESOLUTION
    sharpness: float = SHARPNESS
    sharpness_share: float = SHARPNESS_SHARE
    clipped: float = CLIPPED
    distance: int = DISTANCE
    identity: float | None = None
    plan: str = ""
    traits: str = ""
    waive: str = ""

    def __post_init__(self):
        limits = (("resolution", 0, 16384), ("crop_resolution", 0, 16384), ("sharpness", 0, 1e9), ("sharpness_share", 0, 1), ("clipped", 0, 1))
        for name, low, high in (*limits, ("distance", 0, LARGEST_DISTANCE), ("identity", -1, 1)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {value}; it must be {low:g} to {high:g}.")


@dataclass(frozen=True, eq=False)
class Book:
    """The pictures, what was seen of them, and what is said of them. seen, findings, measured: one per item; errors: by index; whole: of the dataset."""

    dataset: Dataset
    seen: Sequence[Seen | PictureError]
    rules: AuditRules
    looker: Looker
    whole: list[Finding] = field(default_factory=list)
    findings: list[list[Finding]] = field(init=False)
    measured: list[dict[str, Any]] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "findings", [[] for _ in self.seen])
        object.__setattr__(self, "measured", [{} if isinstance(one, PictureError) else dict(one.measured) for one in self.seen])

    def each(self) -> Iterator[tuple[int, DatasetItem, Seen]]:
        """The pictures that could be read."""
        for i, (item, seen) in enumerate(zip(self.dataset.items, self.seen)):
            if isinstance(seen, Seen):
                yield i, item, seen

    def say(self, i: int, rule: str, text: str, level: str = ATTENTION) -> None:
        self.findings[i].append(Finding(level, rule, text))

    def main_face(self, i: int) -> Face | None:
        found = self.seen[i].found
        return None if found is None or found.main is None else found.faces[found.main]


def counted_as(item: DatasetItem) -> str:
    """The framing under which a picture counts in a plan: what it is said to be, unless it was found to be another; "" where nobody knows."""
    measured = item.measured.get("framing") or item.measured.get("framing_by_face") or ""
    wrong = any(finding.rule == "framing" for finding in item.findings) and "framing" not in item.waived
    return measured if wrong else said_framing(item) or measured


def said_framing(item: DatasetItem) -> str:
    """What the picture was made as, or else what its caption calls it; "" for neither."""
    return item.framing or framing_of(item.caption)


def run(book: Book) -> None:
    """Every rule on every picture. Duplicates come last: which of two is kept depends on what else is said of them."""
    for rule in (
        readable,
        in_two_buckets,
        large_enough,
        sharp,
        exposed,
        *((like_the_character, as_the_bucket_expects, framed) if book.looker.sees_faces else ()),
    ):
        rule(book)
    duplicated(book)


# --- the picture by itself ---


def readable(book: Book) -> None:
    if not book.seen:
        book.whole.append(Finding(BLOCKED, "empty", "The dataset has no picture."))
    for i, seen in enumerate(book.seen):
        if isinstance(seen, PictureError):
            book.say(i, "unreadable", said_of(book.dataset.items[i], seen), BLOCKED)


def in_two_buckets(book: Book) -> None:
    """The same content under `faces` and under `no faces` teaches two things that exclude each other."""
    kinds = defaultdict(dict)
    for i, item, seen in book.each():
        kinds[seen.key].setdefault(item.bucket.faces, i)
    for i, item, seen in book.each():
        if len(kinds[seen.key]) == 2:
            other = book.dataset.items[kinds[seen.key][not item.bucket.faces]]
            expects = "expects" if item.bucket.faces else "does not expect"
            text = f"The very same picture is '{other.stem}' in {other.bucket.name}; {item.bucket.name} {expects} a face: keep one of the two."
            book.say(i, "two-buckets", text, BLOCKED)


def large_enough(book: Book) -> None:
    for i, item, seen in book.each():
        width, height, side = (seen.measured[name] for name in ("width", "height", "side"))
        wanted = book.rules.crop_resolution if item.parent else book.rules.resolution
        if seen.measured["shorter"] < SMALLEST_SIDE:
            book.say(i, "too-small", f"{width}x{height} pixels: no bucket has a side below {SMALLEST_SIDE}.", BLOCKED)
        elif side < wanted * BUCKET_SLACK:
            book.say(i, "resolution", f"{width}x{height} has the area of {side}x{side}, less than {wanted}x{wanted}: it is enlarged, or trained small.")


def sharp(book: Book) -> None:
    alike = defaultdict(list)
    for _, item, seen in book.each():
        alike[_kind(item)].append(seen.measured["sharpness"])
    for i, item, seen in book.each():
        value, others = seen.measured["sharpness"], alike[_kind(item)]
        limit = median(others) * book.rules.sharpness_share if len(others) >= FEWEST_FOR_MEDIAN else 0.0
        if value < book.rules.sharpness:
            book.say(i, "blur", f"Blurred: sharpness {value:.0f}, below {book.rules.sharpness:.0f}.")
        elif value < limit:
            book.say(i, "blur", f"Softer than its like: sharpness {value:.0f}, where the median of {len(others)} pictures is {median(others):.0f}.")


def _kind(item: DatasetItem) -> tuple:
    return item.bucket.name.casefold(), said_framing(item), item.parent is None


def exposed(book: Book) -> None:
    for i, _, seen in book.each():
        dark, bright = seen.measured["dark"], seen.measured["bright"]
        if dark + bright > book.rules.clipped:
            parts = " and ".join(f"{share:.0%} {name}" for share, name in ((dark, "black"), (bright, "white")) if share >= 0.005)
            book.say(i, "exposure", f"Without detail: {parts} (limit {book.rules.clipped:.0%} together).")


# --- pictures against each other ---


def duplicated(book: Book) -> None:
    """Of pictures that show the same the best is kept: nothing else said of it, no crop, a caption of its own, the
    highest likeness, then the sharpest."""
    indices = [i for i, _, _ in book.each()]
    place = {book.dataset.items[i].stem: n for n, i in enumerate(indices)}
    items = [book.dataset.items[i] for i in indices]
    rank = [
        (
            not book.findings[i],
            item.parent is None,
            bool(item.caption_source not in ("none", "template") and item.caption),
            _likeness(item, book.measured[i]),
            book.measured[i]["sharpness"],
            book.measured[i]["side"],
        )
        for i, item in zip(indices, items)
    ]
    parents = [place.get(item.parent) for item in items]
    for group in near_duplicates([int(book.measured[i]["phash"], 16) for i in indices], book.rules.distance, rank, parents):
        kept = items[group.kept]
        for n, bits in group.others:
            where = "" if items[n].bucket.name == kept.bucket.name else f" in {kept.bucket.name}"
            same = book.seen[indices[n]].key == book.seen[indices[group.kept]].key
            how = "it is the same picture" if same else f"their pHash differs in {bits} of {BITS} bits"
            book.measured[indices[n]]["duplicate_of"] = kept.stem
            book.say(indices[n], "duplicate", f"It shows the same as '{kept.stem}'{where}, the better one ({how}): keep that.")


def _likeness(item: DatasetItem, measured: dict) -> float:
    known = (item.likeness, measured.get("likeness"), measured.get("likeness_to_others"))
    # Two digits: what is alike to a hundredth is told apart by sharpness.
    return next((round(value, 2) for value in known if value is not None), -1.0)


# --- who is in it ---


def like_the_character(book: Book) -> None:
    """Each face against the identity, and against those of all other pictures in which faces are expected."""
    recognizer, identity = book.looker.recognizer, book.looker.identity
    if recognizer is None:
        return
    loose = recognizer.info.thresholds.loose if book.rules.identity is None else book.rules.identity
    judged = []
    for i, item, seen in book.each():
        face = book.main_face(i)
        if face is None or not item.bucket.faces:
            continue
        if seen.found.scores is not None:
            book.measured[i]["likeness"] = round(float(seen.found.scores[seen.found.main]), 4)
        if doubt(face) is None:
            judged.append(i)
    families = [book.dataset.items[i].parent or book.dataset.items[i].stem for i in judged]
    among = leave_one_out(recognizer, [book.main_face(i).embedding for i in judged], families, loose)
    for i, score in zip(judged, among):
        told = []
        if identity is not None and book.measured[i]["likeness"] < loose:
            told.append(f"{told_apart(book.measured[i]['likeness'], loose, 'is below')} against {identity.name}")
        if score is not None:
            book.measured[i]["likeness_to_others"] = round(score, 4)
            if score < loose:
                told.append(f"{told_apart(score, loose, 'is below')} against the other pictures")
        if told:
            book.say(i, "identity", f"The face is unlike the character: its likeness score {' and '.join(told)}.")
    low = sum(score is not None and score < loose for score in among)
    if among and low > len(among) / 2:
        book.whole.append(Finding(ATTENTION, "identity", f"{low} of {len(among)} pictures are unlike the others: check that all of them show one person."))


def leave_one_out(recognizer: Recognizer, embeddings: Sequence[np.ndarray], families: Sequence[str], loose: float) -> list[float | None]:
    """The likeness score of each face against the mean of the others, None where there are fewer than FEWEST_FACES families.

    embeddings: float32 [D] each, raw; families: a picture and the crops of it bear one name: they count once, and not as others of each other.
    Those that score below `loose` are left out of the mean that the others are held against, until nothing changes: a few pictures of somebody
    else do not pull it towards them. Where they are as many as the character's, nothing can tell who is meant.
    """
    names = list(dict.fromkeys(families))
    if len(names) < FEWEST_FACES:
        return [None] * len(embeddings)
    faces = np.stack(embeddings).astype(np.float64)
    number_of = {name: n for n, name in enumerate(names)}
    family = np.array([number_of[name] for name in families])
    counts = np.bincount(family)
    means = np.zeros((len(names), faces.shape[1]))
    np.add.at(means, family, faces)
    means /= counts[:, None]
    kept = np.ones(len(names), bool)
    for _ in range(MOST_ROUNDS):
        total, number = means[kept].sum(0), int(kept.sum())
        if number < 2:
            # Nothing is like anything: the mean of all is as good as any.
            kept[:] = True
            total, number = means.sum(0), len(names)
        others = (total - np.where(kept[:, None], means, 0)) / (number - kept)[:, None]
        scores = np.array([recognizer.score(face[None], others[n])[0] for face, n in zip(faces, family)])
        agreeing = np.zeros(len(names), bool)
        agreeing[family[scores >= loose]] = True
        if (agreeing == kept).all() or agreeing.sum() < 2:
            break
        kept = agreeing
    return [float(score) for score in scores]


def as_the_bucket_expects(book: Book) -> None:
    for i, item, seen in book.each():
        found = seen.found.faces if seen.found else ()
        sure = [face for face in found if face.confidence >= SURE_CONFIDENCE]
        if not item.bucket.faces:
            if sure or (seen.reading is not None and seen.reading.confidence >= SURE_CONFIDENCE):
                text = f"A face was found, and {item.bucket.name} is for pictures without: crop it away, or move the picture to a bucket for faces."
                book.say(i, "unexpected-face", text)
        elif not found and seen.reading is None:
            if not needs_no_face(item.caption):
                text = "No face was found; let the caption say so where none is to be seen (back view), or take the picture out."
                book.say(i, "no-face", text)
        elif len(sure) > 1:
            book.say(i, "several-faces", f"It shows {len(sure)} faces; whoever else is in it is learnt with the character: crop to one.")


def framed(book: Book) -> None:
    """The framing that a caption names against landmarks of the body where there are any, else against the size of the face."""
    for i, item, seen in book.each():
        face = _face_of(book, i, seen)
        if face is None or not item.bucket.faces:
            continue
        book.measured[i]["face"] = face
        share, said = face["share"], said_framing(item)
        shown = seen.reading.framing if seen.reading is not None and seen.reading.by_pose else ""
        if shown:
            book.measured[i]["framing"] = shown
        else:
            book.measured[i]["framing_by_face"] = framing_by_face(share)
        if said not in USUAL_SHARES:
            continue
        low, high = USUAL_SHARES[said]
        if shown in FRAMING_ORDER:
            if abs(FRAMING_ORDER.index(shown) - FRAMING_ORDER.index(said)) > 1:
                book.say(i, "framing", f"It is called {said}, but shows a {shown} by the landmarks of the body.")
        elif not low <= share <= high:
            limit = f"at most {high:.0%}" if share > high else f"at least {low:.0%}"
            book.say(i, "framing", f"It is called {said}, but the face takes {share:.0%} of the height, where {limit} is usual.")


def _face_of(book: Book, i: int, seen: Seen) -> dict[str, Any] | None:
    """The main face as JSON values: box in pixels, share of the picture's height, yaw and pitch in degrees, sharpness and detection of a recognizer's face."""
    face, reading = book.main_face(i), seen.reading
    if face is None and reading is None:
        return None
    box = reading.box if face is None else face.box
    yaw = reading.yaw if reading is not None and reading.yaw is not None else None if face is None else face.yaw
    told = {"box": [round(float(v), 1) for v in box], "share": round(float(box[3] - box[1]) / seen.measured["height"], 4)}
    if yaw is not None:
        told["yaw"] = round(float(yaw), 1)
    if reading is not None and reading.pitch is not None:
        told["pitch"] = round(float(reading.pitch), 1)
    if face is not None:
        told |= {"sharpness": round(face.sharpness, 4), "detection": round(face.confidence, 3)}
        if reason := doubt(face):
            told["doubt"] = reason
    return told
