"""Hugging Face imagefolder: pictures and a metadata.jsonl, which `datasets.load_dataset` reads. Nothing is trained here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

from ..choices import EDIT_AS_TEXT_TO_IMAGE, PAIRED_EDIT, TEXT_TO_IMAGE
from ..dataset import Finding
from .base_models import BASE_MODELS, BaseModel
from .job import Job, common_findings, guide_control_folder, guide_folder, worded

METADATA = PurePosixPath("metadata.jsonl")


class ImageFolder:
    name = "imagefolder"
    pairs = frozenset(
        (model.name, mode) for model in BASE_MODELS.values() for mode in ((PAIRED_EDIT, EDIT_AS_TEXT_TO_IMAGE) if model.edit else (TEXT_TO_IMAGE,))
    )
    warms_up = frozenset({"constant", "cosine"})
    keeps_average = True
    step = 1
    folder = staticmethod(guide_folder)
    control_folder = staticmethod(guide_control_folder)

    def memory(self, base_model: BaseModel, mode: str, vram: int) -> tuple[Mapping[str, object], Mapping[str, str]]:
        return {}, {"memory": "none: no trainer is configured"}

    def sidecars(self, job: Job) -> Mapping[PurePosixPath, bytes]:
        """One line per picture: file_name and text, and for pairs control_file_name (datasets makes a picture of each *_file_name); bucket and repeats for a trainer to count by."""
        lines = [
            {
                "file_name": str(plan.folder / f"{stem}{job.suffix}"),
                **({"control_file_name": str(plan.control_folder / f"{stem}{job.suffix}")} if stem in plan.controls else {}),
                "text": worded(job.captions[stem], job.trigger),
                "bucket": plan.bucket.name,
                "repeats": plan.repeats,
            }
            for plan in job.buckets
            for stem in plan.stems
        ]
        return {METADATA: "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()}

    def config(self) -> PurePosixPath:
        return METADATA

    def command(self, job: Job) -> str:
        return f"python -c {shlex.quote(f'from datasets import load_dataset; print(load_dataset({str(job.root)!r}))')}"

    def caches(self) -> tuple[str, ...]:
        return ()

    def check(self, job: Job) -> list[Finding]:
        return common_findings(job, self.step)
