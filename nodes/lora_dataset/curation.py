"""From a folder to an exported dataset in one go, as the terminal does it: gate, crops, captions, audit, export. Each step's rules live in its own file.

The nodes call the same steps with the same defaults, so that the same folder becomes the same dataset, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np

from ..identity.identity import Identity
from ..identity.recognizers import Recognizer
from ..identity.scoring import MatchRate, Rules
from ..pictures import Picture
from .audit import AuditResult, audit
from .captions import CaptionRules, caption_items
from .crops import BEST_MATCH, LARGEST, MARGIN, MINIMUM, add_crops
from .dataset import Bucket, Dataset
from .export import ExportOptions, ExportPlan, ExportResult, plan_export
from .faces import FaceReader, FaceReading
from .gating import gate
from .recipes import calculate
from .rules import AuditRules
from .sheet import report, sheet, sheet_count
from .sources import from_folder, png_bytes, with_controls
from .targets import Wanted
from .trainers import for_powershell

SHEET = "contact_sheet"
# A file beside the pictures takes a name of its own from the second sheet on.
FIRST_SHEET = f"{SHEET}.png"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Curation:
    """What is to be done with a folder. identity, rules: the gate, None for none; reader: for crops, yaw and framing; controls: a
    folder with the control pictures for paired edit; crops: whether to add them."""

    export: ExportOptions
    captions: CaptionRules = field(default_factory=CaptionRules)
    audit: AuditRules = field(default_factory=AuditRules)
    identity: Identity | None = None
    rules: Rules | None = None
    recognizer: Recognizer | None = None
    reader: FaceReader | None = None
    controls: Path | None = None
    crops: bool = True
    margin: float = MARGIN
    minimum: int = MINIMUM


@dataclass(frozen=True, eq=False)
class Curated:
    """What came of it, up to what would be written. rate: of the gate, None without one."""

    dataset: Dataset
    rate: MatchRate | None
    audited: AuditResult
    plan: ExportPlan


def curate(folders: Sequence[tuple[Path, Bucket]], wanted: Curation, progress: Progress = lambda step, done, of: None) -> Curated:
    """Everything but the writing. folders: with the bucket that each is for; sub-folders are looked into. progress: (step, done, all); may raise to stop.

    Raises InputError, PictureError and the like as the steps do.
    """
    dataset = Dataset()
    for folder, bucket in folders:
        found = from_folder(folder, bucket, recursive=True)
        dataset = dataset.added(found.items, found.left_out, found.notes)
    if wanted.controls is not None:
        dataset = with_controls(dataset, wanted.controls)
    rate = None
    if wanted.identity is not None and wanted.rules is not None:
        dataset, rate = gate(dataset, wanted.identity, wanted.rules, lambda done, of: progress("gate", done, of))
    if wanted.crops and wanted.reader is not None:
        dataset = with_crops(dataset, wanted.reader, wanted.margin, wanted.minimum, wanted.identity, lambda done, of: progress("crops", done, of))
    dataset = caption_items(dataset, wanted.captions)
    reader = FirstFace(wanted.reader) if wanted.reader is not None else None
    audited = audit(dataset, wanted.audit, wanted.identity, reader, lambda done, of: progress("audit", done, of), wanted.recognizer)
    plan = plan_export(audited.dataset, wanted.export, report(audited), sheet_files(sheets_of(audited)))
    return Curated(audited.dataset, rate, audited, plan)


def with_crops(dataset: Dataset, reader: FaceReader, margin: float, minimum: int, identity: Identity | None, progress: Callable[[int, int], None]) -> Dataset:
    """Face crops beside the pictures: of the face most like the identity where there is one, else of the largest."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, len(dataset))

    return add_crops(dataset, reader, margin, minimum, LARGEST if identity is None else BEST_MATCH, identity, tick)


def sheets_of(audited: AuditResult) -> list[Callable[[], np.ndarray]]:
    """What draws each contact sheet of an audit."""
    return [partial(sheet, audited, page) for page in range(sheet_count(audited))]


def sheet_files(pages: Sequence[Callable[[], np.ndarray]]) -> list[Wanted]:
    """Contact sheets as files of the dataset folder. pages: what draws each, uint8 [H,W,3], the same whenever it is called.

    Each is drawn here for its digest, and once more when it is written: kept as a file, a sheet would take 2.4 MB for every sixty pictures.
    """
    return [_sheet_file(FIRST_SHEET if number == 1 else f"{SHEET}_{number}.png", page) for number, page in enumerate(pages, 1)]


# A sheet takes 30 MB while it is drawn and written: one at a time.
_drawing = Lock()


def _sheet_file(path: str, page: Callable[[], np.ndarray]) -> Wanted:
    def make(file: BinaryIO) -> Mapping[str, Any]:
        with _drawing:
            file.write(png_bytes(page()))
        return {}

    return Wanted(path, f"sheet {Picture(page()).key.hex()}", make)


class FirstFace:
    """A reader as the audit wants it: of the most prominent face alone."""

    def __init__(self, reader: FaceReader):
        self._reader, self.name = reader, reader.name

    def read(self, pixels: np.ndarray) -> FaceReading | None:
        return next(iter(self._reader.read(pixels)), None)


def stopped_short(curated: Curated) -> bool:
    """Whether something was left out, or is not Ready."""
    return bool(curated.dataset.left_out) or curated.audited.verdict != "Ready"


def export_lines(plan: ExportPlan, result: ExportResult) -> list[str]:
    """What an export did or would do, with the arithmetic of the run and the command."""
    written = f"{'Written to' if result.written else 'Nothing is written (dry run); it would go to'} {result.folder}"
    archive = [f"Archive: {result.archive}"] if result.archive else []
    # What is wanted most comes first: a node shows the first lines only.
    start = ["To start the training:", *result.command.splitlines()]
    if for_powershell(result.command) != result.command:
        start.append("That is for a Unix shell; report.md has it for PowerShell, too.")
    return [written, *start, *archive, *calculate(plan.job).lines(), *result.lines()]
