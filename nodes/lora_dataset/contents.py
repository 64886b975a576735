"""The files that an export consists of, each as something that writing.py can make: pictures, manifest, report, archive. Where they go is decided in export.py."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from ..errors import PictureError
from ..installation import needed
from . import recipes
from .choices import JPEG, PNG
from .dataset import Dataset, DatasetItem, Finding, Source
from .manifest import MANIFEST, Placed, Provenance, manifest
from .sources import jpeg_bytes, png_bytes
from .targets import BLOCK, Journal, Made, Wanted, Written
from .trainers import Job, Trainer, for_powershell
from .writing import in_order

SUFFIXES = {PNG: ".png", JPEG: ".jpg"}
# Of the way pictures are made: a change of it makes every exported picture a changed one.
PICTURE_VERSION = 1
# The earliest date that a zip can hold.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def _sources(dataset: Dataset) -> list[Source]:
    return list(dict.fromkeys(source for item in dataset.items for source in (item.source, item.control) if source is not None))


def keys_of(dataset: Dataset) -> dict[Source, str]:
    """The content key of every source. Raises PictureError for all that have none."""
    return _of_all(_sources(dataset), lambda source: source.key)


def _of_all(sources: Sequence[Source], ask: Callable[[Source], Any]) -> dict[Source, Any]:
    def attempt(source: Source) -> Any:
        try:
            return ask(source)
        except PictureError as error:
            return error

    answers = dict(zip(sources, in_order(attempt, sources)))
    faults = [answer for answer in answers.values() if isinstance(answer, PictureError)]
    if faults:
        raise faults[0] if len(faults) == 1 else PictureError(f"{len(faults)} pictures cannot be read; the first: {faults[0]}")
    return answers


def _made_of(key: str, picture_format: str) -> str:
    return _digest_of(["picture", PICTURE_VERSION, key, picture_format])


def _digest_of(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def sizes_of(dataset: Dataset, keys: Mapping[Source, str], picture_format: str, journal: Journal) -> dict[str, tuple[int, int]]:
    """(width, height) by stem: from the last export, from the source where it knows, else by decoding."""
    told = {entry.made_of: entry.facts.get("size") for entry in (*journal.files.values(), *journal.moving.values())}

    def size_of(source: Source) -> tuple[int, int]:
        size = told.get(_made_of(keys[source], picture_format)) or getattr(source, "size", None)
        return tuple(size) if size else source.pixels().shape[1::-1]

    sizes = _of_all([item.source for item in dataset.items], size_of)
    return {item.stem: sizes[item.source] for item in dataset.items}


def placed_items(dataset: Dataset, job: Job) -> tuple[Placed, ...]:
    items = {item.stem: item for item in dataset.items}
    return tuple(_place(items[stem], plan, job.suffix) for plan in job.buckets for stem in plan.stems)


def _place(item: DatasetItem, plan, suffix: str) -> Placed:
    name = f"{item.stem}{suffix}"
    return Placed(item, plan, str(plan.folder / name), str(plan.control_folder / name) if item.stem in plan.controls else None)


def pictures_of(placed: Sequence[Placed]) -> list[tuple[str, Source]]:
    controls = [(one.control, one.item.control) for one in placed if one.control]
    return [*((one.picture, one.item.source) for one in placed), *controls]


def picture_file(path: str, source: Source, key: str, picture_format: str) -> Wanted:
    def make(file: BinaryIO) -> Mapping[str, Any]:
        read = getattr(source, "read", None)
        pixels, notes = read() if read else (source.pixels(), ())
        if picture_format == JPEG:
            content = jpeg_bytes(pixels)
        elif getattr(source, "clean", False):
            content = source.path.read_bytes()
        else:
            content = png_bytes(pixels)
        if source.key != key:
            raise PictureError(f"{source.name} was changed while it was being exported; export again.")
        file.write(content)
        return {"size": [pixels.shape[1], pixels.shape[0]], "phash": perceptual_hash(pixels), "reading": list(notes)}

    return Wanted(path, _made_of(key, picture_format), make)


def perceptual_hash(pixels: np.ndarray) -> str:
    """The pHash of a picture uint8 [H,W,3]: 64 bits as 16 hexadecimal digits (imagehash's defaults)."""
    from PIL import Image

    with needed("imagehash"):
        import imagehash

    return str(imagehash.phash(Image.fromarray(pixels)))


# --- what is made of them ---


def manifest_file(dataset: Dataset, job: Job, trainer: Trainer, placed: tuple[Placed, ...], provenance: Provenance, pictures: Sequence[Wanted]) -> Wanted:
    def content(written: Mapping[str, Written] | None) -> bytes:
        return manifest(dataset, job, trainer.name, placed, provenance, written)

    def make(file: BinaryIO, made: Mapping[str, Made]) -> Mapping[str, Any]:
        file.write(content({path: one.written for path, one in made.items()}))
        return {}

    known = hashlib.sha256(content(None)).hexdigest()
    return Wanted(MANIFEST, _digest_of([known, [file.made_of for file in pictures]]), make, late=True)


def archive_file(name: str, wanted: Sequence[Wanted]) -> Wanted:
    paths = sorted(file.path for file in wanted)

    def make(file: BinaryIO, made: Mapping[str, Made]) -> Mapping[str, Any]:
        # Stored, not compressed: pictures hardly shrink, and the bytes do not depend on a library.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for path in paths:
                entry = zipfile.ZipInfo(f"{name}/{path}", ZIP_DATE)
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                entry.file_size = made[path].written.size
                with archive.open(entry, "w") as out, made[path].at.open("rb") as content:
                    shutil.copyfileobj(content, out, BLOCK)
        return {}

    return Wanted(f"../{name}.zip", _digest_of(sorted((file.path, file.made_of) for file in wanted)), make, late=True)


def report_text(audit: str, job: Job, trainer: Trainer, findings: Sequence[Finding]) -> str:
    """The audit's Markdown with what the training amounts to."""
    command = trainer.command(job)
    lines = [
        *([audit.rstrip(), ""] if audit.strip() else [f"# {job.name}", ""]),
        "## Training",
        "",
        f"{job.base_model.name}, {job.mode}, {trainer.name}, {job.recipe.name}, {job.vram} GB.",
        "",
        *(f"- {line}" for line in recipes.calculate(job).lines()),
        "",
        f"The configuration is {trainer.config()}. To start, on the training machine, in a Unix shell:",
        "",
        "```",
        command,
        "```",
        *(["", "In PowerShell:", "", "```", for_powershell(command), "```"] if for_powershell(command) != command else []),
    ]
    if findings:
        lines += ["", "## Before you train", "", *(f"- {finding.level}: {finding.text}" for finding in findings)]
    return "\n".join(lines) + "\n"
