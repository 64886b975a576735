"""Bringing a folder to a wanted state so that nothing is ever half there and no file of somebody else is touched. Knows files, nothing of datasets.

A run makes every new or changed file in the target's hidden folder first and syncs it, notes in the journal what is going to be moved, moves file by
file, and notes what is there then. Killed at any moment, the next run knows every file as old or new, uses what was made, and comes to the same end.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from ..errors import PictureError
from .targets import (
    JOURNAL,
    MEASURED,
    OURS,
    Difference,
    ExportError,
    Journal,
    Made,
    Wanted,
    Written,
    compare,
    digest_of,
    place_of,
    read_journal,
    state_of,
    still_ours,
)

LOCK, STAGING, LOG = "lock", "staging", "log.jsonl"
# How many results may wait for each worker, so that a slow one does not stop the others.
AHEAD = 4


def bring_about(folder: Path, wanted: Sequence[Wanted], progress: Callable[[int, int, str], None] = lambda done, total, path: None) -> Difference:
    """Make the folder what is wanted; gives what was done. progress(done, total, path) is called in this thread after each file that was made.

    Files of nobody or somebody else are left alone. Late files are put in place last, the first of them last of all. Raises ExportError, before anything is
    changed, where a wanted path is not ours, the disk is full or read-only, or another process is at work there; PictureError when a picture
    could not be made. What `progress` raises stops the work in the same way; what is made by then is used by the next run.
    """
    ours = folder / OURS
    made_folders = [path for path in (ours, folder, *folder.parents) if not path.exists()]
    try:
        with _sentences(folder):
            ours.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            try:
                journal = read_journal(folder)
                difference = compare(folder, wanted, journal)
                if difference.refused:
                    raise ExportError(refusal(difference.refused))
                return _bring_about(folder, wanted, journal, difference, progress)
            except BaseException:
                if not (ours / STAGING).exists() and not (ours / JOURNAL).exists():
                    with suppress(OSError):
                        (ours / LOCK).unlink()
                raise
    except BaseException:
        # Where nothing came of it no empty folder stays.
        with suppress(OSError):
            for path in made_folders:
                path.rmdir()
        raise


def refusal(sentences: Sequence[str]) -> str:
    """One sentence for all that are in the way."""
    more = len(sentences) - 1
    return sentences[0] if not more else f"{sentences[0].removesuffix('.')} ({more} more {'path is' if more == 1 else 'paths are'} taken like it)."


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Part of what huggingface_hub needs; the lock is the system's, so that it goes with the process that holds it.
    import filelock

    lock = filelock.FileLock(folder / OURS / LOCK, timeout=0)
    with _sentences(folder):
        try:
            lock.acquire()
        except filelock.Timeout:
            raise ExportError(f"Another export is at work in {folder}; wait until it is done.") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _sentences(folder: Path, hint: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = f"The disk of {folder} is full; make room and export again"
        elif error.errno == errno.EFBIG:
            text = f"A file is too large for the file system of {folder}; export to another one"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            text = f"{error.filename or folder} cannot be written ({error.strerror}); give write permission, or export to another folder"
        else:
            text = f"{error.filename or folder} cannot be written ({error.strerror or error})"
        raise ExportError(f"{text}{hint}.") from None


def _bring_about(folder: Path, wanted: Sequence[Wanted], journal: Journal, difference: Difference, progress) -> Difference:
    staging = _Staging(folder, difference)
    made = {path: Made(entry, place_of(folder, path)) for path, entry in {**difference.known, **difference.foreign}.items()}
    missing = {*difference.new, *difference.changed}
    todo = [file for file in wanted if file.path in missing]
    try:
        if todo:
            with _sentences(folder):
                staging.open()
                made.update(_make_all(staging, todo, made, progress))
                _sync_folder(staging.folder)
    except ExportError:
        # A full disk is given back what was taken of it.
        staging.remove()
        raise

    same = {path for path in difference.changed if made[path].written.sha256 == difference.known[path].sha256}
    # What tells of the others changes after them: the first of the late ones last.
    moves = [file.path for file in sorted(reversed(todo), key=lambda file: file.late) if file.path not in same]
    entries = {path: one.written for path, one in made.items() if path not in difference.foreign}
    entries |= {path: replace(difference.known[path], made_of=entries[path].made_of, facts=entries[path].facts) for path in same}
    entries = {path: entry for path, entry in sorted(entries.items()) if path not in difference.removed}
    with _sentences(folder, "; what is done is kept, and the next export goes on from there"):
        if moves or difference.removed:
            _write_journal(folder, Journal(difference.known, {path: entries[path] for path in moves}))
        for path in moves:
            place = place_of(folder, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            # Making the files took its time: what somebody wrote meanwhile is not ours to replace.
            if not still_ours(folder, path, difference.known.get(path)):
                raise ExportError(f"{place} was changed while the export ran; move it elsewhere and export again.")
            os.replace(made[path].at, place)
        kept = tuple(path for path in difference.removed if not still_ours(folder, path, difference.known.get(path)))
        for path in difference.removed:
            if path not in kept:
                place_of(folder, path).unlink(missing_ok=True)
        touched = {parent for path in (*moves, *difference.removed) for parent in (place_of(folder, path).parent, folder)}
        for parent in sorted(touched, key=lambda path: -len(path.parts)):
            if parent.exists():
                _sync_folder(parent)
                _remove_empty(parent, folder)
        if journal != (finished := Journal(entries)):
            _write_journal(folder, finished)
        staging.remove()
        (folder / OURS / MEASURED).unlink(missing_ok=True)
    changed = tuple(path for path in difference.changed if path not in same)
    unchanged = tuple(file.path for file in wanted if file.path not in missing or file.path in same)
    removed = tuple(path for path in difference.removed if path not in kept)
    return replace(difference, changed=changed, unchanged=unchanged, removed=removed, kept=(*difference.kept, *kept), known=entries)


def _remove_empty(folder: Path, top: Path) -> None:
    while folder != top and top in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _make_all(staging: _Staging, todo: Sequence[Wanted], made: Mapping[str, Made], progress) -> dict[str, Made]:
    """Every missing file, made in the staging folder. Raises PictureError after all others have been made."""
    early = [file for file in todo if not file.late]
    done, faults = dict(made), []

    def attempt(file: Wanted) -> Made | PictureError:
        try:
            return staging.make(file)
        except PictureError as error:
            return error

    for count, (file, result) in enumerate(zip(early, in_order(attempt, early)), 1):
        if isinstance(result, PictureError):
            faults.append(str(result))
        else:
            done[file.path] = result
        progress(count, len(todo), file.path)
    if faults:
        raise PictureError(faults[0] if len(faults) == 1 else f"{len(faults)} pictures cannot be read; the first: {faults[0]}")
    for count, file in enumerate([file for file in todo if file.late], len(early) + 1):
        done[file.path] = staging.make(file, done)
        progress(count, len(todo), file.path)
    return done


T, R = TypeVar("T"), TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map` over a thread for each processor, with so few results waiting that memory stays flat however many items there are."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= workers * AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Staging:
    """Where files are made. Each that is whole has a line in a log, so that the next run can use what one that was killed has made."""

    def __init__(self, folder: Path, difference: Difference):
        self.target, self.folder = folder, folder / OURS / STAGING
        self.reusable = difference.reusable
        self.whole: dict[str, Written] = {}
        self.lock = Lock()

    def open(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            for line in (self.folder / LOG).read_bytes().splitlines():
                # The last line of a killed run may be cut off.
                with suppress(ValueError, TypeError, KeyError):
                    told = json.loads(line)
                    entry = Written(**told["written"])
                    state = state_of(self.folder / told["name"])
                    if state and (state.st_size, state.st_mtime_ns) == (entry.size, entry.mtime_ns):
                        self.whole[told["name"]] = entry

    def make(self, file: Wanted, *done: Mapping[str, Made]) -> Made:
        name = hashlib.blake2b(f"{file.path}\0{file.made_of}".encode(), digest_size=16).hexdigest()
        at = self.folder / name
        if name in self.whole and not file.late:
            return Made(self.whole[name], at)
        facts = self._copy(file, at)
        if facts is None:
            with at.open("wb") as out:
                facts = file.make(out, *done)
                out.flush()
                os.fsync(out.fileno())
        state = at.stat()
        written = Written(digest_of(at), state.st_size, state.st_mtime_ns, file.made_of, facts)
        with self.lock, (self.folder / LOG).open("ab") as log:
            log.write(b"\n" + json.dumps({"name": name, "written": asdict(written)}).encode())
        return Made(written, at)

    def _copy(self, file: Wanted, at: Path) -> Mapping[str, Any] | None:
        """The same content from another place in the target, where a folder or a picture has another name now."""
        path, entry = self.reusable.get(file.made_of, (None, None))
        if path is None or file.late:
            return None
        with suppress(OSError):
            shutil.copyfile(place_of(self.target, path), at)
            if digest_of(at) == entry.sha256:
                with at.open("rb+") as out:
                    os.fsync(out.fileno())
                return entry.facts
        return None

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _write_journal(folder: Path, journal: Journal) -> None:
    part = folder / OURS / f"{JOURNAL}.part"
    with part.open("wb") as file:
        file.write(journal.content())
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, folder / OURS / JOURNAL)
    _sync_folder(folder / OURS)


def _sync_folder(folder: Path) -> None:
    """So that names, too, survive a loss of power. Windows and some file systems have no such call for folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
