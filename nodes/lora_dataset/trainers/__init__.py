"""The trainers, and which base models and modes each of them can train. What a trainer calls things stands in its own file; pictures are written by export.py.

    trainer, model = supported("ai-toolkit", "Qwen-Image", "text to image")
    recipe = recipes.resolve("character rank 16", trainer, model, "text to image", vram=24)
    job = job_for(dataset, trainer, model, "text to image", recipe, vram=24, name="alina", size_of=sizes, root="/workspace/alina", repeats="auto")

Pictures then belong to `plan.folder / (stem + job.suffix)` for each plan of job.buckets, control pictures to `plan.control_folder / (stem + job.suffix)`
for the stems of plan.controls; trainer.sidecars(job) are all other files, trainer.check(job) what speaks against it, trainer.command(job) what to type,
trainer.caches() what a changed dataset makes stale, and recipes.calculate(job) the arithmetic of the run.
"""

from __future__ import annotations

from ...errors import InputError
from ..choices import EDIT_AS_TEXT_TO_IMAGE, MODES, PAIRED_EDIT, TEXT_TO_IMAGE
from .ai_toolkit import AiToolkit
from .base_models import BASE_MODELS, BaseModel
from .imagefolder import ImageFolder
from .job import ITEM_RULES, RULES, BucketPlan, Job, Sample, Trainer, for_powershell, job_for
from .known_keys import UnknownKeyError
from .musubi_tuner import MusubiTuner
from .sd_scripts import SdScripts

TRAINERS: dict[str, Trainer] = {trainer.name: trainer for trainer in (AiToolkit(), MusubiTuner(), SdScripts(), ImageFolder())}

__all__ = [
    "BASE_MODELS",
    "EDIT_AS_TEXT_TO_IMAGE",
    "ITEM_RULES",
    "MODES",
    "PAIRED_EDIT",
    "RULES",
    "TEXT_TO_IMAGE",
    "TRAINERS",
    "BaseModel",
    "BucketPlan",
    "Job",
    "Sample",
    "Trainer",
    "UnknownKeyError",
    "for_powershell",
    "job_for",
    "pairs_table",
    "supported",
]


def supported(trainer: str, base_model: str, mode: str) -> tuple[Trainer, BaseModel]:
    """A trainer and a base model by their names, where the one can train the other in that mode. Raises InputError that names what can be had."""
    for name, known, what in ((trainer, TRAINERS, "trainer"), (base_model, BASE_MODELS, "base model"), (mode, MODES, "mode")):
        if name not in known:
            raise InputError(f"'{name}' is no {what} known here; choose one of {', '.join(known)}.")
    chosen = TRAINERS[trainer]
    if (base_model, mode) not in chosen.pairs:
        modes = [other for other in MODES if (base_model, other) in chosen.pairs]
        if modes:
            raise InputError(f"{base_model} cannot be trained in the mode '{mode}'; choose {' or '.join(repr(other) for other in modes)}.")
        models = [name for name in BASE_MODELS if any((name, other) in chosen.pairs for other in MODES)]
        others = [other.name for other in TRAINERS.values() if (base_model, mode) in other.pairs]
        raise InputError(
            f"{trainer} cannot train {base_model}: it takes {', '.join(models)}; for {base_model} in the mode '{mode}' choose {', '.join(others) or 'another mode'}."
        )
    return chosen, BASE_MODELS[base_model]


def pairs_table() -> str:
    """What can be trained by what, as a Markdown table for the README."""
    head = ["Base model", *TRAINERS]
    rows = [[name, *(", ".join(mode for mode in MODES if (name, mode) in trainer.pairs) or "-" for trainer in TRAINERS.values())] for name in BASE_MODELS]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
