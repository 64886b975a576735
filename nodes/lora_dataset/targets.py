"""A folder that Likeness writes into: where one may lie, what is there, which files of it are ours, and how it differs from what is wanted. Nothing is written here.

What was written stands in a journal in the hidden folder `.likeness` of the target: a file that is as it stands there is ours to replace or to
remove, any other is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError, LikenessError

OURS = ".likeness"
JOURNAL = "journal.json"
# What notebook.py keeps beside the journal until an export is done.
MEASURED = "measured.jsonl"
JOURNAL_FORMAT = 1
ROOTS_VARIABLE = "LIKENESS_EXPORT_ROOTS"
# A file up to this size is compared by its bytes: a caption may be edited without a change of its size, and within the clock's step.
SMALL = 1 << 16
BLOCK = 1 << 20


class ExportError(LikenessError):
    """A folder that cannot be written as wanted: what is in the way, and what to do."""


@dataclass(frozen=True)
class Written:
    """A file as it was written. made_of: tells its content without making it; facts: JSON values that its making gave."""

    sha256: str
    size: int
    mtime_ns: int
    made_of: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A file that is whole, in its place or still in the staging folder."""

    written: Written
    at: Path


@dataclass(frozen=True, eq=False)
class Wanted:
    """A file that shall be there.

    path: relative to the target, with `/`; `../NAME.zip`, NAME being that of the target, lies beside it. made_of: see Written. make: writes it
    into an open file and gives its facts. late: it is made of others: made after them, one by one, `make` being given all that are done by path.
    """

    path: str
    made_of: str
    make: Callable[..., Mapping[str, Any]] = field(repr=False)
    late: bool = False

    @classmethod
    def of(cls, path: str, content: bytes) -> Wanted:
        def make(file: BinaryIO) -> Mapping[str, Any]:
            file.write(content)
            return {}

        return cls(path, hashlib.sha256(content).hexdigest(), make)


@dataclass(frozen=True, eq=False)
class Difference:
    """What a run would do, by path: `removed` are files of an earlier run that are wanted no longer, `kept` such that were changed since and stay.

    refused: a sentence for each wanted path where something lies that is not ours to replace. known: all that is there and ours. reusable: the same
    by what it is made of. foreign: what is there as wanted, unchanged, but was not written by us: no later run may replace or remove it.
    """

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    known: Mapping[str, Written] = field(default_factory=dict, repr=False)
    reusable: Mapping[str, tuple[str, Written]] = field(default_factory=dict, repr=False)
    foreign: Mapping[str, Written] = field(default_factory=dict, repr=False)

    @property
    def nothing(self) -> bool:
        return not (self.new or self.changed or self.removed)


# --- where ---


def allowed_roots(output_folder: Path, environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Below which folders a client of the host may write: its output folder, and those of LIKENESS_EXPORT_ROOTS. Raises InputError for a relative one there."""
    named = [Path(text).expanduser() for text in environ.get(ROOTS_VARIABLE, "").split(os.pathsep) if text.strip()]
    for root in named:
        if not root.is_absolute():
            raise InputError(f"{ROOTS_VARIABLE} names '{root}', which is no absolute path; write absolute ones with {os.pathsep} between them.")
    return (output_folder, *named)


def checked_target(folder: Path, roots: Sequence[Path] | None = None) -> Path:
    """The absolute path of a folder that may be written, links resolved. roots: it must lie below one of them; None allows any. A relative one is below the first.

    Raises InputError for a folder outside, for a root itself, and for a link in the folder's own place.
    """
    if not folder.is_absolute() and roots:
        folder = roots[0] / folder
    try:
        resolved = folder.resolve()
        if folder.is_symlink():
            raise InputError(f"{folder} is a link; give the folder that it leads to.")
    except (OSError, RuntimeError, ValueError):
        raise InputError(f"'{folder}' cannot be a folder here; give another path.") from None
    if roots is not None and not any(root.resolve() in resolved.parents for root in roots):
        raise InputError(
            f"{resolved} is outside of where this host may export ({', '.join(map(str, roots))}); choose a folder below, "
            f"or have the host started with {ROOTS_VARIABLE} naming it."
        )
    return resolved


# --- what is there ---


def place_of(folder: Path, path: str) -> Path:
    """Where a wanted path lies. Raises ValueError for one that is neither in the folder nor the archive beside it."""
    parts = path.split("/")
    if parts == ["..", f"{folder.name}.zip"]:
        return folder.parent / parts[1]
    # A colon or backslash would be a drive or another folder on Windows.
    if not {"", ".", ".."}.isdisjoint(parts) or ":" in path or "\\" in path or parts[0] == OURS:
        raise ValueError(path)
    return folder.joinpath(*parts)


def shown(path: str) -> str:
    return path.removeprefix("../")


@dataclass(frozen=True)
class Journal:
    """files: as the last whole run left them; moving: what a run that was cut off was about to put in place."""

    files: Mapping[str, Written] = field(default_factory=dict)
    moving: Mapping[str, Written] = field(default_factory=dict)

    def of(self, path: str) -> list[Written]:
        return [part[path] for part in (self.moving, self.files) if path in part]

    def content(self) -> bytes:
        parts = {name: {path: asdict(entry) for path, entry in part.items()} for name, part in (("files", self.files), ("moving", self.moving))}
        return json.dumps({"format": JOURNAL_FORMAT, **parts}, sort_keys=True, indent=0).encode()


def read_journal(folder: Path) -> Journal:
    """What Likeness wrote into a folder. Raises ExportError for a journal that is there and cannot be read."""
    path = folder / OURS / JOURNAL
    try:
        told = json.loads(path.read_bytes())
        if told["format"] != JOURNAL_FORMAT:
            raise ExportError(f"{folder} was written by another version of Likeness; export to another folder, or with that version.")
        parts = [{name: Written(**entry) for name, entry in told[part].items()} for part in ("files", "moving")]
        for name in (*parts[0], *parts[1]):
            place_of(folder, name)
        return Journal(*parts)
    except (FileNotFoundError, NotADirectoryError):
        return Journal()
    except OSError as error:
        raise ExportError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ExportError(f"{path} is damaged, so that nobody can tell which files there may be replaced; export to another folder.") from None


def compare(folder: Path, wanted: Sequence[Wanted], journal: Journal) -> Difference:
    """What is to be done; looks only. Raises ExportError where the folder cannot be looked into."""
    new, changed, unchanged, removed, kept, refused = [], [], [], [], [], []
    known: dict[str, Written] = {}
    reusable: dict[str, tuple[str, Written]] = {}
    foreign: dict[str, Written] = {}
    ways: dict[Path, str] = {}
    spelt = _Spellings(folder, journal)
    try:
        if folder.exists() and not folder.is_dir():
            return Difference(refused=(f"{folder} is there and is no folder; export under another name.",))
        if way := _in_the_way(folder, folder / OURS, ways):
            refused.append(way)
        for file in wanted:
            place = place_of(folder, file.path)
            way = _in_the_way(folder, place.parent, ways)
            state = None if way else state_of(place)
            if way:
                refused.append(way)
            elif state is None:
                new.append(file.path)
            elif not stat.S_ISREG(state.st_mode):
                refused.append(f"{place} is there and is no plain file; move it elsewhere, or export under another name.")
            elif entry := _ours(place, state, spelt.entries(file.path, state)):
                known[file.path] = entry
                reusable[entry.made_of] = (file.path, entry)
                (unchanged if entry.made_of == file.made_of else changed).append(file.path)
            elif state.st_size <= SMALL and not file.late and digest_of(place) == file.made_of:
                # A text that somebody brought to the same words: it stays theirs.
                foreign[file.path] = Written(file.made_of, state.st_size, state.st_mtime_ns, file.made_of)
                unchanged.append(file.path)
            else:
                why = "was changed since Likeness wrote it" if journal.of(file.path) else "is there and was not written by Likeness"
                refused.append(f"{place} {why}; move it elsewhere, or export under another name.")
        paths = {file.path for file in wanted}
        for path in sorted({*journal.files, *journal.moving} - paths - spelt.other):
            place = place_of(folder, path)
            state = None if _in_the_way(folder, place.parent, ways) else state_of(place)
            if state is None:
                continue
            if stat.S_ISREG(state.st_mode) and (entry := _ours(place, state, journal.of(path))):
                known[path] = entry
                reusable.setdefault(entry.made_of, (path, entry))
                # The archive of an earlier export stays where this one wants none.
                if not path.startswith("../"):
                    removed.append(path)
            else:
                kept.append(path)
    except OSError as error:
        raise ExportError(f"{folder} cannot be looked into ({error.strerror}): {error.filename}.") from None
    return Difference(*map(tuple, (new, changed, unchanged, removed, kept, dict.fromkeys(refused))), known, reusable, foreign)


class _Spellings:
    """The journal's entries of a file, also where only the case of its path's letters has changed and the disk takes both for one. other: those old paths."""

    def __init__(self, folder: Path, journal: Journal):
        self._folder, self._journal = folder, journal
        self._known = {path.casefold(): path for path in (*journal.files, *journal.moving)}
        self.other: set[str] = set()

    def entries(self, path: str, state: os.stat_result) -> list[Written]:
        """state: of what lies at the path."""
        own, other = self._journal.of(path), self._known.get(path.casefold())
        if own or other is None:
            return own
        old = state_of(place_of(self._folder, other))
        if old is None or not os.path.samestat(old, state):
            return []
        # One file: what is wanted under the new spelling must not be removed under the old one.
        self.other.add(other)
        return self._journal.of(other)


def state_of(place: Path) -> os.stat_result | None:
    try:
        return place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def still_ours(folder: Path, path: str, entry: Written | None) -> bool:
    """Whether a wanted place is still as `compare` found it: nothing where `entry` is None, else the file of that entry, or nothing any more."""
    place = place_of(folder, path)
    if _in_the_way(folder, place.parent, {}):
        return False
    state = state_of(place)
    if state is None:
        return True
    return entry is not None and stat.S_ISREG(state.st_mode) and _ours(place, state, [entry]) is not None


def _in_the_way(folder: Path, parent: Path, seen: dict[Path, str]) -> str:
    """A sentence where a folder below the target is something else, or a link that leads out of it; "" otherwise."""
    if parent not in seen:
        if folder not in parent.parents:
            return ""
        state = state_of(parent)
        # A junction of Windows says that it is a folder.
        strange = state is not None and (not stat.S_ISDIR(state.st_mode) or bool(getattr(state, "st_reparse_tag", 0)))
        here = f"{parent} is there and is no folder; move it elsewhere, or export under another name." if strange else ""
        seen[parent] = _in_the_way(folder, parent.parent, seen) or here
    return seen[parent]


def _ours(place: Path, state: os.stat_result, entries: Iterable[Written]) -> Written | None:
    """The entry that the file still is, with its time as it is now."""
    digest = None
    for entry in entries:
        if entry.size == state.st_size:
            if entry.mtime_ns == state.st_mtime_ns and entry.size > SMALL:
                return entry
            digest = digest or digest_of(place)
            if digest == entry.sha256:
                return replace(entry, mtime_ns=state.st_mtime_ns)
    return None


def digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
