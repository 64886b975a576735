"""Folders of small made-up pictures with captions, and what an export has left on disk: for the tests and the bench of export."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from character_likeness.nodes.lora_dataset.dataset import BODY, CHARACTER, Dataset
from character_likeness.nodes.lora_dataset.export import ExportOptions, carry_out, plan_export
from character_likeness.nodes.lora_dataset.sources import from_folder

TRIGGER = "mira_k"


def drawn(number: int, width: int = 96, height: int = 128) -> np.ndarray:
    """uint8 [height, width, 3]: gradients and shapes without noise, another picture for each number."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    x, y = x / width, y / height
    corners = rng.integers(0, 256, (4, 3))
    ground = sum(weight[..., None] * corner for weight, corner in zip(((1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y), corners))
    for cx, cy, size in rng.uniform((0, 0, 0.05), (1, 1, 0.4), (12, 3)):
        inside = (x - cx) ** 2 + (y - cy) ** 2 < size**2
        ground[inside] = 0.5 * ground[inside] + 0.5 * rng.integers(0, 256, 3)
    return ground.astype(np.uint8)


def album(folder: Path, count: int, width: int = 96, height: int = 128, first: int = 0) -> Path:
    """A folder of pictures p000.png, p001.jpg and so on, each with a caption beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        Image.fromarray(drawn(i, width, height)).save(folder / f"p{i:03}.{'jpg' if i % 2 else 'png'}", quality=92)
        (folder / f"p{i:03}.txt").write_text(f"{TRIGGER}, portrait, scene number {i}", encoding="utf-8")
    return folder


def dataset_of(folder: Path, bucket=CHARACTER) -> Dataset:
    return replace(from_folder(folder, bucket), trigger=TRIGGER)


def two_buckets(folder: Path, count: int = 6) -> Dataset:
    """A dataset of `count` pictures of the character and half as many of the body."""
    faces = dataset_of(album(folder / "faces", count))
    return faces.added(dataset_of(album(folder / "bodies", count // 2, first=500), BODY).items)


def options(out: Path, **changes) -> ExportOptions:
    return replace(ExportOptions(out, "mira"), **changes)


def export(dataset: Dataset, out: Path, **changes):
    return carry_out(plan_export(dataset, options(out, **changes)))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those that only Likeness reads."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and ".likeness" not in path.parts}


def inside(folder: Path) -> list[str]:
    """The names of what Likeness keeps for itself in a dataset folder."""
    return sorted(path.name for path in (folder / ".likeness").iterdir())
