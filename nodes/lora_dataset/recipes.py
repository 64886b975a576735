"""Recipes: the hyper-parameters of a training, each with its reason, and the arithmetic of a run. No trainer's own words here, but for what makes it fit the memory.

A recipe is a preset resolved for one trainer, base model, mode and amount of memory. Where a value is a habit of the field or a guess, its
reason says so; "measured" is said only of what somebody measured, and then by whom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError
from ..texts import one_line
from .choices import LEARNING_RATES, MOST_REPEATS, REPEATS, TARGET_STEPS, VRAM
from .dataset import BUCKETS, Bucket, counted

if TYPE_CHECKING:
    from .trainers.base_models import BaseModel
    from .trainers.job import Job, Trainer

_WHY_RATE = {
    "careful": "a quarter of the usual 2e-4: for small or uneven datasets, and where the usual rate overfits; it needs more steps",
    "normal": "the usual rate for a character LoRA with 8-bit AdamW",
    "risky": "two and a half times the usual rate: quick to see whether a dataset works at all, quick to overfit",
}

# For a bucket that the guide does not know and that has no number of its own: that of character where a face is expected, that of body otherwise.
GUIDE_WITH_FACES, GUIDE_WITHOUT = 40, 20
# ai-toolkit's example configurations for Qwen-Image and FLUX call this a good range.
GOOD_STEPS = (500, 4000)


@dataclass(frozen=True)
class Preset:
    """What a recipe is made from. warmup: share of the steps over which the learning rate rises; why: the reason for each value, by field."""

    name: str
    rank: int
    alpha: int
    scheduler: str
    warmup: float
    why: Mapping[str, str]


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "character rank 16",
            16,
            16,
            "constant",
            0.0,
            {
                "rank": "16 holds one person; a lower rank picks up less of the background, a higher one more",
                "scheduler": "constant: every checkpoint is then comparable with the next, and the best one is usually not the last",
                "warmup": "none: the weights that a LoRA adds start at zero, so the first steps are small anyway",
            },
        ),
        Preset(
            "rank 32 cosine",
            32,
            32,
            "cosine",
            0.05,
            {
                "rank": "32 has room for clothes and several hair styles besides the face; it needs a clean and varied dataset",
                "scheduler": "cosine: the rate falls to zero at the last step, so the last checkpoints differ little from each other",
                "warmup": "5% of the steps (a habit, not a measurement)",
            },
        ),
    )
}

_WHY = {
    "alpha": "equal to the rank, so that the LoRA acts at strength 1.0 and the learning rate means the same at each rank",
    "optimizer": "AdamW whose state takes 8 bits instead of 32 (bitsandbytes): the usual choice for LoRAs in every trainer here",
    "batch_size": "1: the repeats of the guide are counted for it",
    "accumulation": "1: each step is an update; a higher number needs as many times the steps",
    "resolution": "one resolution, 1024, in buckets of about that area; smaller pictures keep their size, none is enlarged",
    "checkpoints": "10, all kept: checkpoints from the middle of a run often win",
}


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters. warmup: share of the steps; memory: settings by the trainer's own keys; reasons: by field, and by key for memory."""

    name: str
    rank: int
    alpha: int
    learning_rate: float
    scheduler: str
    warmup: float
    memory: Mapping[str, object]
    reasons: Mapping[str, str]
    optimizer: str = "adamw8bit"
    batch_size: int = 1
    accumulation: int = 1
    resolution: int = 1024
    checkpoints: int = 10
    ema_decay: float | None = None


def resolve(
    preset: str, trainer: Trainer, base_model: BaseModel, mode: str, vram: int, learning_rate: str = "normal", ema_decay: float | None = None
) -> Recipe:
    """A preset (a key of PRESETS) made valid for a trainer, a base model, a mode and an amount of memory (one of VRAM, GiB).

    learning_rate: a key of LEARNING_RATES. ema_decay: of an average of the weights that is saved instead of them, 0 < decay < 1; None for none.
    Raises InputError for what is not one of these, and for an average that the trainer cannot keep.
    """
    for value, known, what in ((preset, PRESETS, "recipe"), (vram, VRAM, "amount of memory (GB)"), (learning_rate, LEARNING_RATES, "learning rate")):
        if value not in known:
            raise InputError(f"'{value}' is no {what}; choose one of {', '.join(map(str, known))}.")
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise InputError(f"ema_decay is {ema_decay}; it must lie between 0 and 1, for example 0.99.")
    if ema_decay is not None and not trainer.keeps_average:
        raise InputError(f"{trainer.name} keeps no average of a LoRA's weights while it trains; leave ema_decay out, or choose ai-toolkit.")
    made = PRESETS[preset]
    memory, why_memory = trainer.memory(base_model, mode, vram)
    reasons = {
        **_WHY,
        **made.why,
        "learning_rate": f"{learning_rate} ({LEARNING_RATES[learning_rate]:g}): {_WHY_RATE[learning_rate]}",
        "ema_decay": "no average: the sweep compares checkpoints as they are, and an average drags the untrained start along"
        if ema_decay is None
        else f"an average over about {1 / (1 - ema_decay):.0f} updates is saved instead of the weights",
        **why_memory,
    }
    warmup = made.warmup
    if warmup and made.scheduler not in trainer.warms_up:
        warmup, reasons["warmup"] = (
            0.0,
            f"none: {trainer.name} has no warm-up with the scheduler {made.scheduler} and stops with an error when one is asked for",
        )
    return Recipe(preset, made.rank, made.alpha, LEARNING_RATES[learning_rate], made.scheduler, warmup, memory, reasons, ema_decay=ema_decay)


def _guide(bucket: Bucket) -> int:
    known = BUCKETS.get(bucket.name)
    return known.repeats if known else bucket.repeats or (GUIDE_WITH_FACES if bucket.faces else GUIDE_WITHOUT)


def auto_repeats(counts: Sequence[tuple[Bucket, int]], target_steps: int = TARGET_STEPS, pictures_per_step: int = 1) -> tuple[int, ...]:
    """Repeats for buckets, given with their numbers of pictures, at which one pass comes nearest to a number of steps.

    The buckets keep the guide's proportion to each other, as far as whole numbers from 1 allow. Raises InputError where there is no picture.
    """
    if target_steps < 1:
        raise InputError(f"The number of steps to aim at is {target_steps}; it must be at least 1.")
    weighted = sum(_guide(bucket) * count for bucket, count in counts)
    if not weighted:
        raise InputError("There is no picture to train on; add pictures first.")
    scale = target_steps * pictures_per_step / weighted
    return tuple(min(MOST_REPEATS, max(1, round(_guide(bucket) * scale))) for bucket, _ in counts)


def resolve_repeats(counts: Sequence[tuple[Bucket, int]], policy: str, target_steps: int = TARGET_STEPS, pictures_per_step: int = 1) -> tuple[int, ...]:
    """Repeats >= 1 for buckets, given with their numbers of pictures. policy: `guide` (character 40, body 20, others their own), `auto` (to a number of steps),
    or `per bucket` (each bucket's own; where that is 0, what auto would give it). Raises InputError."""
    if policy not in REPEATS:
        raise InputError(f"'{policy}' is no way to choose repeats; choose one of {', '.join(REPEATS)}.")
    if policy == "guide":
        return tuple(_guide(bucket) for bucket, _ in counts)
    auto = auto_repeats(counts, target_steps, pictures_per_step)
    return auto if policy == "auto" else tuple(bucket.repeats or chosen for (bucket, _), chosen in zip(counts, auto))


@dataclass(frozen=True)
class Calculation:
    """The arithmetic of a run: one pass over the repeated pictures.

    steps: as the trainer counts them, each an update of the weights; exposures: how often each picture of a bucket is shown, by bucket name;
    epochs: passes over the repeated pictures; checkpoints: the steps of those that are kept, the last being the end of the run; warmup_steps: over
    which the rate rises; ema_half_life: in updates; ema_start_share: how much of the untrained start is left in the last average. None without one.
    """

    steps: int
    updates: int
    pictures: int
    pictures_per_pass: int
    epochs: float
    exposures: Mapping[str, float]
    save_every: int
    checkpoints: tuple[int, ...]
    warmup_steps: int
    ema_decay: float | None
    ema_half_life: float | None
    ema_start_share: float | None

    def lines(self) -> list[str]:
        """Sentences for a report."""
        shown = ", ".join(f"{name} {times:g} times" for name, times in self.exposures.items())
        if self.ema_decay is None:
            share = ", ".join(f"{decay:g} would leave {start_share(decay, self.updates):.1%} (half-life {half_life(decay):.0f})" for decay in (0.99, 0.999))
            ema = f"EMA is off; of the untrained start a decay of {share} in the last average."
        else:
            ema = f"EMA {self.ema_decay:g}: half-life {self.ema_half_life:.0f} updates; {self.ema_start_share:.1%} of the untrained start is left at the end."
        return [
            f"{counted(self.steps, 'step')} = {counted(self.updates, 'update')} of the weights, {self.epochs:g} {'epoch' if self.epochs == 1 else 'epochs'} of "
            f"{counted(self.pictures_per_pass, 'repeated picture')} ({counted(self.pictures, 'file')}).",
            f"Each picture is shown: {shown}.",
            f"{counted(len(self.checkpoints), 'checkpoint')} {'is' if len(self.checkpoints) == 1 else 'are'} expected, one every "
            f"{counted(self.save_every, 'step') if self.save_every > 1 else 'step'}: {', '.join(map(str, self.checkpoints))}.",
            *([f"The learning rate rises over the first {counted(self.warmup_steps, 'step')}."] if self.warmup_steps else []),
            ema,
        ]


def half_life(decay: float) -> float:
    """Updates after which half of what an exponential average held is gone: ln 0.5 / ln decay (shadow = decay * shadow + (1 - decay) * weights)."""
    return math.log(0.5) / math.log(decay)


def start_share(decay: float, updates: int) -> float:
    """How much of its first value an exponential average still holds: decay ** updates. 0.999 keeps 71% after 340."""
    return decay**updates


def calculate(job: Job) -> Calculation:
    """The arithmetic of a job. All trainers here count a step per update and end a run by steps, whatever their buckets leave over."""
    recipe = job.recipe
    per_step = recipe.batch_size * recipe.accumulation
    steps = math.ceil(job.pictures_per_pass / per_step)
    every = math.ceil(steps / recipe.checkpoints)
    epochs = steps * per_step / job.pictures_per_pass
    decay = recipe.ema_decay
    return Calculation(
        steps=steps,
        updates=steps,
        pictures=sum(len(plan.stems) for plan in job.buckets),
        pictures_per_pass=job.pictures_per_pass,
        epochs=round(epochs, 2),
        exposures={plan.bucket.name: round(plan.repeats * epochs, 1) for plan in job.buckets},
        save_every=every,
        checkpoints=(*range(every, steps, every), steps),
        warmup_steps=round(recipe.warmup * steps),
        ema_decay=decay,
        ema_half_life=half_life(decay) if decay else None,
        ema_start_share=start_share(decay, steps) if decay else None,
    )


# Scenes that hardly any dataset has, so that samples show what was learnt rather than what was copied; the one without the trigger shows whether the
# character has leaked into everybody. For edit models they are instructions.
_SCENES = (
    "{trigger}, closeup of the face, plain grey wall, soft daylight",
    "{trigger}, full body, walking through a snowy street at night, winter coat",
    "{trigger}, profile view, reading in a train, evening light",
    "{trigger}, upper body, laughing, on a fishing boat, bright sun",
    "{trigger} as an oil painting, three-quarter view",
    "a stranger waiting at a bus stop, upper body, rain",
    "{trigger}, cowboy shot, repairing a bicycle in a workshop",
    "{trigger}, portrait, candle light, black background",
    "{trigger}, full body, dancing on a stage, coloured spotlights",
    "{trigger}, upper body, in a space suit, moon landscape",
)
_EDITS = (
    "Show {trigger} in a closeup in front of a plain grey wall, soft daylight",
    "Put {trigger} into a snowy street at night, full body, winter coat",
    "Show {trigger} from the side, reading in a train, evening light",
    "Put {trigger} on a fishing boat, laughing, bright sun",
    "Turn the picture into an oil painting of {trigger}",
    "Show {trigger} repairing a bicycle in a workshop",
    "Show {trigger} by candle light before a black background",
    "Put {trigger} on a stage, dancing, coloured spotlights",
)
SAMPLES = 6


def sample_prompts(trigger: str, captions: Sequence[str] = (), edit: bool = False, count: int = SAMPLES) -> tuple[str, ...]:
    """Prompts to watch a training by; none of them is a caption of the dataset, or a part of one."""
    taken = [one_line(caption).casefold() for caption in captions]

    def free(prompt: str) -> bool:
        return all(one_line(prompt).casefold() not in caption for caption in taken)

    made = (scene.replace("{trigger}", trigger) for scene in (_EDITS if edit else _SCENES))
    return tuple(prompt for prompt in made if free(prompt))[:count]
