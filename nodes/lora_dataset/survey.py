"""Going once over the pictures of a dataset: each decoded, measured, searched for faces, and let go. What was seen is remembered; nothing is judged here.

Pictures are taken by a few threads, each holding one at a time, so that the memory needed does not depend on how many there are. What is kept of a
picture is some 15 KB, under the key of its content: a second look at an unchanged picture decodes nothing.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from typing import Any, Protocol

import numpy as np

from ..errors import PictureError
from ..identity.identity import Identity
from ..identity.recognizers import Face, Recognizer
from ..identity.scoring import SURE_CONFIDENCE, doubt, measure
from ..pictures import Picture, small_copy
from .dataset import DatasetItem, Source
from .measures import measure_pixels

# Beyond this many threads the disk is the limit, and each holds a decoded picture: 75 MB at 24 megapixels.
MOST_THREADS = 8
# Pictures whose results are remembered: up to about 120 MB.
REMEMBERED = 8192
# The longest side of the small pictures on a contact sheet, kept as JPEG of this quality: 5 to 15 KB.
THUMBNAIL_SIDE = 192
THUMBNAIL_QUALITY = 88


class FaceReading(Protocol):
    """What a landmark model says of the most prominent face of a picture (faces.FaceReading).

    box: (x1, y1, x2, y2) in pixels; confidence: 0..1; yaw, pitch: degrees, None where unknown; framing: a key of framing.FRAMINGS or "", by_pose: by
    landmarks of the body, else by the size of the face.
    """

    @property
    def box(self) -> tuple[float, float, float, float]: ...

    @property
    def confidence(self) -> float: ...

    @property
    def yaw(self) -> float | None: ...

    @property
    def pitch(self) -> float | None: ...

    @property
    def framing(self) -> str: ...

    @property
    def by_pose(self) -> bool: ...


class FaceReader(Protocol):
    """Landmarks, where their models are there. Called by one thread at a time.

    One with a `name` is taken to read as any other of that name does, so that what it read is remembered after it is gone.
    """

    def read(self, pixels: np.ndarray) -> FaceReading | None:
        """Of a picture uint8 [H,W,3]; None where no face is found."""


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces found in a picture, and their likeness scores float64 [faces] with the identity, None without one."""

    faces: tuple[Face, ...] = ()
    scores: np.ndarray | None = None

    @cached_property
    def main(self) -> int | None:
        """The index of the face that the picture is taken to be about: one that can be judged before others, the most like the identity, else the largest."""
        if not self.faces:
            return None
        clear = [doubt(face) is None for face in self.faces]
        value = [face.area for face in self.faces] if self.scores is None else self.scores
        return max(range(len(self.faces)), key=lambda i: (clear[i], value[i]))


@dataclass(frozen=True, eq=False)
class Seen:
    """measured: see measures.measure_pixels; found: None where no recognizer looked; reading: None without a reader, or where it found no face."""

    key: str
    measured: Mapping[str, Any]
    found: Faces | None = None
    reading: FaceReading | None = None


@dataclass(frozen=True, eq=False)
class Looker:
    """What to look for. recognizer: None to leave faces alone; identity: of that recognizer; reader: for yaw, pitch and framing."""

    recognizer: Recognizer | None = None
    identity: Identity | None = None
    reader: FaceReader | None = None
    _reading: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def sees_faces(self) -> bool:
        return self.recognizer is not None or self.reader is not None

    @cached_property
    def _whom(self) -> Hashable:
        return whom(self.recognizer, self.identity)

    def look(self, item: DatasetItem) -> Seen:
        """Raises PictureError for a picture that cannot be read."""
        key = item.source.key
        parts: dict[str, tuple[Hashable, Callable[[np.ndarray], Any]]] = {"pixels": (0, measure_pixels), "thumbnail": THUMBNAIL}
        if self.recognizer is not None:
            parts["faces"] = (self._whom, item.bucket.faces), lambda pixels: self._faces(Picture(pixels), item.bucket.faces)
        if self.reader is not None:
            parts["reading"] = named(self.reader), self._read
        known = remembered(key, parts, item.source)
        return Seen(key, known["pixels"], known.get("faces"), known.get("reading"))

    def _faces(self, picture: Picture, expected: bool) -> Faces:
        """Searched from coarse to fine until a face is found that can be judged; where none is expected, until one is found that surely is one."""
        if expected and self.identity is not None:
            measured = measure([picture], [self.identity])[0]
            return Faces(measured.faces, measured.scores[:, 0])
        enough = _any_clear if expected else _any_sure
        faces = self.recognizer.faces([picture], enough)[0].faces
        if self.identity is None or not faces:
            return Faces(faces, None if self.identity is None else np.zeros(0))
        return Faces(faces, self.identity.score(np.stack([face.embedding for face in faces])).astype(np.float64))

    def _read(self, pixels: np.ndarray) -> FaceReading | None:
        with self._reading:
            return self.reader.read(pixels)


def whom(recognizer: Recognizer | None, identity: Identity | None) -> Hashable:
    """Tells one person as one recognizer sees them from another."""
    if recognizer is None or identity is None:
        return recognizer and recognizer.fingerprint
    return recognizer.fingerprint, identity.combine, blake2b(identity.embeddings.tobytes(), digest_size=16).hexdigest()


def named(reader: FaceReader) -> Hashable:
    """Tells one reader from another."""
    # Weak: a reader holds models. A new one at the same place in memory is another key.
    return getattr(reader, "name", "") or weakref.ref(reader)


def _any_clear(index: int, faces: tuple[Face, ...]) -> bool:
    return any(doubt(face) is None and face.confidence >= SURE_CONFIDENCE for face in faces)


def _any_sure(index: int, faces: tuple[Face, ...]) -> bool:
    return any(face.confidence >= SURE_CONFIDENCE for face in faces)


def survey(items: Sequence[DatasetItem], looker: Looker, progress: Callable[[int, int], None]) -> list[Seen | PictureError]:
    """What was seen of each picture, in order; the error of one that cannot be read.

    progress: called in this thread with (done, all) after each picture; an exception that it raises ends the survey, and what was seen by then is
    remembered.
    """
    seen: list[Seen | PictureError] = []
    threads = min(os.cpu_count() or 1, MOST_THREADS)
    waiting = iter(items)
    with ThreadPoolExecutor(threads, "likeness-survey") as pool:
        running = deque(pool.submit(looker.look, item) for item in islice(waiting, 2 * threads))
        try:
            while running:
                try:
                    seen.append(running.popleft().result())
                except PictureError as error:
                    seen.append(error)
                if (item := next(waiting, None)) is not None:
                    running.append(pool.submit(looker.look, item))
                progress(len(seen), len(items))
        finally:
            pool.shutdown(cancel_futures=True)
    return seen


def thumbnail(item: DatasetItem) -> np.ndarray:
    """The picture uint8 [h,w,3] at most THUMBNAIL_SIDE wide and high, as it was when last surveyed. Raises PictureError."""
    import cv2

    content = remembered(item.source.key, {"thumbnail": THUMBNAIL}, item.source)["thumbnail"]
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _thumbnail(pixels: np.ndarray) -> bytes:
    import cv2

    small = cv2.cvtColor(small_copy(np.ascontiguousarray(pixels), THUMBNAIL_SIDE), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY])[1].tobytes()


THUMBNAIL = 0, _thumbnail


# --- the memory, shared by all audits of this process ---

_memory: OrderedDict[str, dict[str, tuple[Hashable, Any]]] = OrderedDict()
_lock = threading.Lock()


class Keeper(Protocol):
    """Where what was seen outlives this process (notebook.Notebook). variant: see `remembered`; a value is None where nothing was found."""

    def recall(self, key: str, part: str, variant: Hashable) -> tuple[Any, ...]:
        """The value in a tuple; () where it is not known."""

    def note(self, key: str, part: str, variant: Hashable, value: Any) -> None: ...


_keeper: Keeper | None = None


@contextmanager
def kept_by(keeper: Keeper | None) -> Iterator[None]:
    """What this process sees meanwhile is noted down, and not looked for where it was noted before."""
    global _keeper
    before, _keeper = _keeper, keeper
    try:
        yield
    finally:
        _keeper = before


def remembered(key: str, parts: Mapping[str, tuple[Hashable, Callable[[np.ndarray], Any]]], source: Source) -> Mapping[str, Any]:
    """The parts of what is known of the picture with this key, by name; those that are not known yet are made, for which the picture is decoded once.

    parts: by name what tells one variant of the part from another, and how it is made of pixels. Of each part the last variant is remembered.
    """
    with _lock:
        entry = _memory.get(key, {})
        known = {name: entry[name][1] for name, (variant, _) in parts.items() if name in entry and entry[name][0] == variant}
    for name in [name for name in parts if name not in known and _keeper is not None]:
        for value in _keeper.recall(key, name, parts[name][0]):
            known[name] = value
    missing = [name for name in parts if name not in known]
    if missing:
        pixels = source.pixels()
        for name in missing:
            known[name] = parts[name][1](pixels)
            if _keeper is not None:
                _keeper.note(key, name, parts[name][0], known[name])
    with _lock:
        _memory.setdefault(key, {}).update({name: (parts[name][0], value) for name, value in known.items()})
        _memory.move_to_end(key)
        while len(_memory) > REMEMBERED:
            _memory.popitem(last=False)
    return known


def forget() -> None:
    """Empty the memory."""
    with _lock:
        _memory.clear()
