"""One download at a time, in a thread of its own, that others start, look at and stop: what the editor's buttons do. How a file is fetched is in transfer.py."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DownloadError, LikenessError
from .catalogue import ModelEntry, entry
from .transfer import download

log = logging.getLogger("likeness")

DOWNLOADING, STOPPING, DONE, STOPPED, FAILED = "downloading", "stopping", "done", "stopped", "failed"


class BusyError(DownloadError):
    """Another download is under way."""


class StoppedError(DownloadError):
    """The download was stopped by whoever started it."""


@dataclass(frozen=True)
class State:
    """A download: the catalogue name, its stage, bytes there and in all over its files, and the sentence that says why it ended without them.

    number counts the downloads of this process, so that one is told from the next of the same name.
    """

    number: int
    name: str
    stage: str
    done: int
    total: int
    sentence: str = ""

    @property
    def running(self) -> bool:
        return self.stage in (DOWNLOADING, STOPPING)


class Downloads:
    """endpoint: as in transfer.download."""

    def __init__(self, endpoint: str | None = None):
        self.endpoint = endpoint
        self._state: State | None = None
        self._lock = threading.Lock()

    @property
    def state(self) -> State | None:
        """The download under way, else the last one, else None."""
        return self._state

    def start(self, name: str, models_dir: Path) -> State:
        """Begin to fetch a catalogue entry. Raises InputError for an unknown name, BusyError while another is fetched."""
        item = entry(name)
        with self._lock:
            before = self._state
            if before is not None and before.running:
                raise BusyError(f"{entry(before.name).title} is being downloaded; wait for it or cancel it, then start {item.title}.")
            missing = set(item.missing(models_dir))
            sizes = {file.filename: (0, file.size) for file in item.files if missing & set(file.provides)}
            number = before.number + 1 if before else 1
            self._state = started = State(number, name, DOWNLOADING, 0, sum(total for _, total in sizes.values()))
        threading.Thread(target=self._run, args=(item, models_dir, sizes), name=f"likeness download {name}", daemon=True).start()
        return started

    def stop(self) -> State | None:
        """Ask the download under way to stop; it does with its next bytes, and what arrived is kept for the next try."""
        with self._lock:
            if self._state is not None and self._state.stage == DOWNLOADING:
                self._state = replace(self._state, stage=STOPPING)
            return self._state

    def _run(self, item: ModelEntry, models_dir: Path, sizes: dict[str, tuple[int, int]]) -> None:
        """sizes: bytes there and in all of each file that is to be fetched, by its name."""

        def watch(filename: str, done: int, total: int) -> None:
            sizes[filename] = (done, total)
            with self._lock:
                if self._state.stage == STOPPING:
                    raise StoppedError(f"{item.title} was stopped; what arrived is kept, and the next download goes on there.")
                self._state = replace(self._state, done=sum(done for done, _ in sizes.values()), total=sum(total for _, total in sizes.values()))

        stage, sentence = DONE, ""
        try:
            download(item.name, models_dir, progress=False, endpoint=self.endpoint, watch=watch)
        except StoppedError as stopped:
            stage, sentence = STOPPED, str(stopped)
        except LikenessError as error:
            stage, sentence = FAILED, str(error)
        except Exception as error:  # a fault of ours must not leave a download under way for ever
            log.exception("%s was not downloaded", item.title)
            stage, sentence = FAILED, f"{item.title} was not downloaded ({type(error).__name__}: {error}); the log of ComfyUI says more."
        with self._lock:
            self._state = replace(self._state, stage=stage, sentence=sentence, done=self._state.total if stage == DONE else self._state.done)
