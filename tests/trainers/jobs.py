"""Jobs to test trainers with: a small dataset, and the same on disk as the export lays it out."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from character_likeness.nodes.lora_dataset import recipes
from character_likeness.nodes.lora_dataset.dataset import BODY, CHARACTER, Bucket, Dataset, DatasetItem, Given
from character_likeness.nodes.lora_dataset.trainers import PAIRED_EDIT, TRAINERS, job_for, supported

CUSTOM = Bucket("hands", 3)
# Wide, tall, square, small and larger than a bucket, so that buckets differ.
SIZES = ((160, 96), (96, 160), (128, 128), (72, 64), (1800, 1000))

# (trainer, base model, mode), all that there are.
PAIRS = [(name, *pair) for name, trainer in TRAINERS.items() for pair in sorted(trainer.pairs)]


def picture(stem: str, bucket: Bucket = CHARACTER, caption: str | None = None, control: bool = False) -> DatasetItem:
    given = Given(stem, np.zeros((4, 4, 3), np.uint8))
    return DatasetItem(given, stem, bucket, f"alina, portrait, in scene {stem}" if caption is None else caption, control=given if control else None)


def small_dataset(control: bool = False, captions: dict[str, str] | None = None, trigger: str = "alina") -> Dataset:
    """Three pictures of the character, one of which is another's name with a number, two bodies, and one in a bucket of its own."""
    stems = {"first": CHARACTER, "first_2": CHARACTER, "second": CHARACTER, "legs": BODY, "arm": BODY, "left hand": CUSTOM}
    return Dataset(tuple(picture(stem, bucket, (captions or {}).get(stem), control) for stem, bucket in stems.items()), trigger)


def sizes_of(dataset: Dataset) -> dict[str, tuple[int, int]]:
    return {item.stem: SIZES[number % len(SIZES)] for number, item in enumerate(dataset.items)}


def job_of(trainer, base_model, mode, dataset=None, *, preset="character rank 16", vram=24, learning_rate="normal", ema_decay=None, **options):
    """A job for a supported pair. options: of job_for."""
    made, model = supported(trainer, base_model, mode)
    dataset = small_dataset(control=mode == PAIRED_EDIT) if dataset is None else dataset
    recipe = recipes.resolve(preset, made, model, mode, vram, learning_rate, ema_decay)
    options = {"name": "alina_v1", "size_of": sizes_of(dataset), "root": "/workspace/alina", **options}
    return made, job_for(dataset, made, model, mode, recipe, vram=vram, **options)


def lay_out(folder: Path, trainer, job) -> Path:
    """The dataset folder of a job: pictures of one colour each, control pictures of another size, and the trainer's own files."""
    colours = itertools.product(range(0, 255, 50), repeat=3)
    for plan in job.buckets:
        for stem in plan.stems:
            width, height = job.size_of[stem]
            pictures = {plan.folder: (width, height)} | ({plan.control_folder: (height, width)} if stem in plan.controls else {})
            for where, (w, h) in pictures.items():
                path = folder / where / f"{stem}{job.suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (w, h), next(colours)).save(path)
    for path, content in trainer.sidecars(job).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder
