"""manifest.json: what is known of each exported picture, and of how the dataset was made. The same export gives the same bytes; it has no date and no path of this machine.

It lies beside the picture folders, where no trainer reads it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..installation import PACK
from .dataset import Dataset, DatasetItem, Finding
from .targets import Written
from .trainers import BucketPlan, Job

MANIFEST = "manifest.json"
FORMAT = 1
DISTRIBUTION = "character-likeness"
# Whose version changes what is written. OpenCV is distributed under four names.
TOOLS = {
    "Pillow": ("Pillow",),
    "numpy": ("numpy",),
    "imagehash": ("ImageHash",),
    "OpenCV": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}


@dataclass(frozen=True, eq=False)
class Placed:
    """An item and where it is exported to: paths relative to the dataset folder. control: None where it has no control picture."""

    item: DatasetItem
    plan: BucketPlan
    picture: str
    control: str | None


@dataclass(frozen=True)
class Provenance:
    """What somebody has to say of the whole. statement: of the person's consent and the pictures' licence; synthetic: whether generated, None for unsaid."""

    statement: str = ""
    synthetic: bool | None = None


def manifest(dataset: Dataset, job: Job, trainer: str, placed: tuple[Placed, ...], provenance: Provenance, written: Mapping[str, Written] | None) -> bytes:
    """The manifest as UTF-8 JSON. written: the exported pictures by path; None leaves out what only their making tells."""
    told = {
        "format": FORMAT,
        "name": job.name,
        "trigger": job.trigger,
        "trainer": trainer,
        "base_model": job.base_model.name,
        "mode": job.mode,
        "recipe": {"name": job.recipe.name, "learning_rate": job.recipe.learning_rate, "vram": job.vram},
        "consent_and_licence": provenance.statement,
        "synthetic": provenance.synthetic,
        "tools": tool_versions(),
        "buckets": [{"name": plan.bucket.name, "folder": str(plan.folder), "repeats": plan.repeats, "pictures": len(plan.stems)} for plan in job.buckets],
        "pictures": [_picture(one, job, written) for one in sorted(placed, key=lambda one: one.picture)],
        "left_out": [{"name": name, "why": why} for name, why in dataset.left_out],
        "notes": dataset.notes,
        "findings": _findings(dataset.findings, dataset.waived),
    }
    return (json.dumps(plain(told), ensure_ascii=False, allow_nan=False, sort_keys=True, indent=1) + "\n").encode("utf-8", "backslashreplace")


def _picture(placed: Placed, job: Job, written: Mapping[str, Written] | None) -> dict[str, Any]:
    item = placed.item
    origin = dict(item.origin)
    told = {
        "file": placed.picture,
        **_file(placed.picture, written),
        "bucket": item.bucket.name,
        "repeats": placed.plan.repeats,
        "source": origin.pop("source", None) or PurePath(item.source.name).name,
        "workflow": origin.pop("workflow", None),
        "seed": origin.pop("seed", None),
        "model": origin.pop("model", None),
        "prompt": origin.pop("prompt", None),
        "synthetic": origin.pop("synthetic", None),
        "origin": origin,
        "likeness": item.likeness,
        "verdict": item.verdict,
        "measured": item.measured,
        "framing": item.framing,
        "shot": item.shot,
        "parent": item.parent,
        "crop": item.crop,
        "caption": job.captions[item.stem],
        "caption_source": item.caption_source,
        "decisions": item.decisions,
        "findings": _findings(item.findings, item.waived),
    }
    if placed.control:
        told["control"] = {"file": placed.control, **_file(placed.control, written), "source": PurePath(item.control.name).name}
    return told


def _file(path: str, written: Mapping[str, Written] | None) -> dict[str, Any]:
    if written is None:
        return {}
    return {"sha256": written[path].sha256, **written[path].facts}


def _findings(findings: tuple[Finding, ...], waived: frozenset[str]) -> list[dict[str, Any]]:
    return [{"level": one.level, "rule": one.rule, "text": one.text, "waived": one.rule in waived} for one in findings]


def plain(value: Any) -> Any:
    """A value as JSON knows it: numpy's numbers as numbers, sets sorted, what is no number as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value))
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def tool_versions() -> dict[str, str]:
    """The versions of Likeness and of what it makes pictures with, by name; one that is not installed is left out."""
    found = {"Likeness": _own_version() or _version_of(DISTRIBUTION)}
    for tool, names in TOOLS.items():
        found[tool] = next(filter(None, map(_version_of, names)), "")
    return {tool: version for tool, version in found.items() if version}


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Versions by distribution, "" for one that is not installed."""
    return {name: _version_of(name) for name in distributions}


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _own_version(pack: Path = PACK) -> str:
    """In a ComfyUI the pack is a folder, not an installed package."""
    try:
        match = re.search(r'(?m)^version = "([^"]+)"', (pack / "pyproject.toml").read_text(encoding="utf-8"))
    except OSError:
        return ""
    return match[1] if match else ""
