"""What was seen of pictures, noted in a file until the export is done, so that a killed run need not look again. Numbers and names only, no picture.

A line for each part of what was seen, by the key of the picture's content, under a first line that tells with what it was seen. Face embeddings are
among it, so it goes when the export is done, or has failed with a sentence.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ..errors import LikenessError
from ..identity.recognizers import Face
from .faces import FaceReading
from .survey import Faces, kept_by
from .targets import MEASURED, OURS

FORMAT = 1
# What is made again at once is not worth a line, and pictures are not noted.
_PARTS = frozenset({"pixels", "faces", "reading", "crop"})
_KINDS = {kind.__name__: kind for kind in (Face, Faces, FaceReading)}


class Notebook:
    """A survey.Keeper in a file. settings: JSON values that tell with what is looked; what was noted under others is not believed.

    Each line is synced before the next picture is done. A line that is cut off or damaged is passed over; where the disk takes no line, none is
    noted any more: the export will say what is wrong.
    """

    def __init__(self, folder: Path, settings: Any):
        self.path = folder / OURS / MEASURED
        self._head = {"format": FORMAT, "settings": _digest(settings)}
        self._lines: dict[tuple[str, str, str], Any] = {}
        self._lock = Lock()
        self._made: list[Path] = []
        self._begun = self._read()
        self._full = False

    def recall(self, key: str, part: str, variant: Hashable) -> tuple[Any, ...]:
        line = self._lines.get((key, part, _digest(variant)))
        try:
            return () if line is None else (_value(line["value"]),)
        except (KeyError, TypeError, ValueError):
            return ()

    def note(self, key: str, part: str, variant: Hashable, value: Any) -> None:
        if part not in _PARTS or self._full:
            return
        line = {"key": key, "part": part, "variant": _digest(variant), "value": _plain(value)}
        with self._lock:
            try:
                if not self._begun:
                    self._begin()
                with self.path.open("ab") as file:
                    file.write(json.dumps(line).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                self._full = True

    def remove(self) -> None:
        """Take the file away, and the folders that were made for it where nothing else is in them."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            for folder in self._made or [self.path.parent]:
                folder.rmdir()

    def _read(self) -> bool:
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return False
        if not lines or _parsed(lines[0]) != self._head:
            return False
        for line in filter(None, map(_parsed, lines[1:])):
            with suppress(KeyError, TypeError):
                self._lines[line["key"], line["part"], line["variant"]] = {"value": line["value"]}
        return True

    def _begin(self) -> None:
        self._made = [folder for folder in (self.path.parent, *self.path.parents[1:]) if not folder.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_bytes(json.dumps(self._head).encode() + b"\n")
        os.replace(part, self.path)
        self._begun = True


@contextmanager
def resumable(folder: Path | None, settings: Any) -> Iterator[None]:
    """What is seen meanwhile is noted in a folder that is to be exported to, and gone when that ends, but for an interruption. folder: None for none."""
    if folder is None:
        yield
        return
    notebook = Notebook(folder, settings)
    try:
        with kept_by(notebook):
            yield
    except LikenessError:
        notebook.remove()
        raise
    notebook.remove()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()


def _parsed(line: bytes) -> Any:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _plain(value: Any) -> Any:
    """A value as JSON, from which `_value` makes the same again."""
    if isinstance(value, (np.ndarray, np.generic)):
        # Numbers of numpy keep their type: rounded, a float32 is another number than a float.
        return {"array": base64.b64encode(value.tobytes()).decode(), "type": value.dtype.str, "shape": value.shape}
    if is_dataclass(value):
        return {"kind": type(value).__name__, "fields": {field.name: _plain(getattr(value, field.name)) for field in fields(value)}}
    if isinstance(value, dict):
        return {"of": {name: _plain(part) for name, part in value.items()}}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return value


def _value(told: Any) -> Any:
    if isinstance(told, list):
        return tuple(map(_value, told))
    if not isinstance(told, dict):
        return told
    if "array" in told:
        made = np.frombuffer(base64.b64decode(told["array"]), told["type"]).reshape(told["shape"]).copy()
        return made if made.shape else made[()]
    if "kind" in told:
        return _KINDS[told["kind"]](**{name: _value(part) for name, part in told["fields"].items()})
    return {name: _value(part) for name, part in told["of"].items()}
