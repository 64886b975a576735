"""What a dataset is: items, each a picture with everything that is known of it, in buckets. Nothing here reads, judges or writes a picture.

An item is one object, so that whatever is dropped takes its caption, scores and origin with it. Its picture is opened when it is needed and
not kept: a dataset of two thousand pictures takes a few megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from ..errors import InputError
from ..files import checked_name
from ..texts import one_line
from .choices import MOST_REPEATS

NOTHING: Mapping[str, Any] = MappingProxyType({})

# What is said of a dataset, or of one item: none of it stops an export but `blocked`.
READY, ATTENTION, BLOCKED = VERDICTS = ("Ready", "Needs attention", "Blocked")


def counted(number: int, noun: str = "picture") -> str:
    """`1 picture`, `2 pictures`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class Source(Protocol):
    """Where a picture comes from."""

    @property
    def name(self) -> str:
        """What a user knows it by: a path, or a name with a number."""

    @property
    def key(self) -> str:
        """Tells one content from another without decoding it, in hexadecimal; for a file it is that of its bytes."""

    def pixels(self) -> np.ndarray:
        """uint8 [H,W,3], upright, sRGB, on a plain ground: what a trainer is given. Raises PictureError."""


@dataclass(frozen=True)
class Bucket:
    """A folder of the dataset.

    name: of its folder; repeats: how often a training pass shows each of its pictures, 0 for `auto` (chosen at export); faces: whether its
    pictures must show the character's face (False: none is expected, and none is judged); tag: put into each of its captions, "" for none.
    """

    name: str
    repeats: int = 0
    faces: bool = True
    tag: str = ""


# The guide's two: 40 repeats for pictures of the character, 20 for bodies without a face under a tag of their own.
CHARACTER = Bucket("character", 40)
BODY = Bucket("body", 20, faces=False, tag="realistic_body")
BUCKETS = {bucket.name: bucket for bucket in (CHARACTER, BODY)}


def bucket_named(name: str, repeats: int = 0) -> Bucket:
    """One of BUCKETS, or a custom one in which faces are expected. repeats: 0 keeps the known bucket's own. Raises InputError for a name that is no folder name."""
    name = one_line(name)
    known = BUCKETS.get(name) or Bucket(str(checked_name(name)))
    if len(Path(known.name).parts) != 1:
        raise InputError(f"'{name}' cannot be a bucket: it is one folder, so its name has no slash.")
    if not 0 <= repeats <= MOST_REPEATS:
        raise InputError(f"repeats is {repeats}; it must be 0 (the bucket's own) to {MOST_REPEATS}.")
    return replace(known, repeats=repeats) if repeats else known


@dataclass(frozen=True)
class Finding:
    """Something worth knowing of an item or a dataset. level: one of VERDICTS but Ready; rule: its short name, by which it can be waived; text: one sentence."""

    level: str
    rule: str
    text: str


@dataclass(frozen=True, eq=False)
class DatasetItem:
    """One picture of a dataset.

    stem: the name that its files get, without extension, unique in the dataset. caption: one line; caption_source: where it is from: sidecar,
    shot list, input, template, none. framing: a key of framing.FRAMINGS or one of BODY_FRAMINGS that the picture was made for, "" when nobody said.
    shot: the words that a caption is built from, by field (pose, clothing, expression, light, background, angle). likeness, verdict: from the gate,
    None and "" when there was none. parent: the stem of the picture that it is a crop of; crop: (left, top, right, bottom) in the parent, in
    pixels, outside of which the picture was reflected. control: for edit models, the picture that is edited into this one. origin: JSON values that
    the manifest keeps: source, prompt, seed, model, workflow, synthetic. decisions: what was done with it so far, a sentence each. findings: what
    the audit has to say of it; waived: rules that the user lets pass for it. measured: what the audit measured, JSON values. seen: the key of the content that gate and
    audit judged, "" before that.
    """

    source: Source
    stem: str
    bucket: Bucket = CHARACTER
    caption: str = ""
    caption_source: str = "none"
    framing: str = ""
    shot: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    likeness: float | None = None
    verdict: str = ""
    parent: str | None = None
    crop: tuple[int, int, int, int] | None = None
    control: Source | None = None
    origin: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    decisions: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    waived: frozenset[str] = frozenset()
    measured: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    seen: str = ""

    def decided(self, sentence: str, **changes: Any) -> DatasetItem:
        """A copy with these changes and the sentence that says why."""
        return replace(self, decisions=(*self.decisions, sentence), **changes)

    @property
    def level(self) -> str:
        """The worst of what is said of it and not waived."""
        levels = [finding.level for finding in self.findings if finding.rule not in self.waived]
        return max(levels, key=VERDICTS.index, default=READY)


def said_of(item: DatasetItem, error: Exception) -> str:
    """What an error says of a picture, without the folders of this machine: it goes into reports that are passed on."""
    path = getattr(item.source, "path", None)
    return str(error).replace(str(path), str(item.origin.get("source") or item.stem)) if path else str(error)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Items in order; left_out: (name, why) of pictures that did not come in; notes: sentences about the whole; findings: of the audit, about the
    whole; waived: rules that the user lets pass for the whole."""

    items: tuple[DatasetItem, ...] = ()
    trigger: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    waived: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Those that have a picture, in the order in which they first occur. Raises InputError where two of one name differ."""
        found: dict[str, Bucket] = {}
        for item in self.items:
            known = found.setdefault(item.bucket.name.casefold(), item.bucket)
            if known.name != item.bucket.name:
                raise InputError(
                    f"The buckets '{known.name}' and '{item.bucket.name}' differ only in the case of their letters, and many disks would put both into one "
                    "folder; write both alike, or give them different names."
                )
            if known != item.bucket:
                raise InputError(
                    f"The bucket '{item.bucket.name}' has {known.repeats} repeats for some pictures and {item.bucket.repeats} for others; give one number."
                )
        return tuple(found.values())

    def in_bucket(self, bucket: Bucket) -> tuple[DatasetItem, ...]:
        return tuple(item for item in self.items if item.bucket.name == bucket.name)

    def added(self, items: Iterable[DatasetItem], left_out: Iterable[tuple[str, str]] = (), notes: Iterable[str] = ()) -> Dataset:
        """A dataset with these items behind its own; where a stem is taken `_2` and so on is added, whatever the case of its letters."""
        taken = {item.stem.casefold() for item in self.items}
        items, stems = list(items), []
        for item in items:
            stem, number = item.stem, 1
            while stem.casefold() in taken:
                number += 1
                stem = f"{item.stem}_{number}"
            taken.add(stem.casefold())
            stems.append(stem)
        # A crop goes with its picture under the picture's new name, also where it comes before the picture.
        renamed = {item.stem: stem for item, stem in reversed(list(zip(items, stems)))}
        new = []
        for item, stem in zip(items, stems):
            parent = renamed.get(item.parent, item.parent) if item.parent else None
            new.append(item if (stem, parent) == (item.stem, item.parent) else replace(item, stem=stem, parent=parent))
            renamed[item.stem] = stem
        return replace(self, items=(*self.items, *new), left_out=(*self.left_out, *left_out), notes=(*self.notes, *notes))

    def with_items(self, items: Iterable[DatasetItem]) -> Dataset:
        return replace(self, items=tuple(items))


@dataclass(frozen=True, eq=False)
class Given:
    """A picture that is in memory already: for tests and small jobs. pixels: uint8 [H,W,3]."""

    name: str
    array: np.ndarray = field(repr=False)

    @property
    def key(self) -> str:
        from ..pictures import Picture

        return Picture(self.array).key.hex()

    def pixels(self) -> np.ndarray:
        return self.array
