"""What a trainer's files are written from, what a trainer is, and what all of them have in common. No trainer's own words here, and nothing is written to disk."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

from ...errors import InputError
from ...texts import excerpt, one_line
from ..choices import EDIT_AS_TEXT_TO_IMAGE, PAIRED_EDIT, TARGET_STEPS
from ..dataset import ATTENTION, BLOCKED, Bucket, Dataset, Finding
from ..recipes import GOOD_STEPS, Recipe, calculate, resolve_repeats, sample_prompts
from .base_models import BaseModel

# text to image: pictures and captions. paired edit: each picture has a control picture of the same stem that is edited into it.
# edit as text to image: the weights of an edit model trained like a text-to-image model, without control pictures.

CAPTION_SUFFIX = ".txt"
SAMPLE_SEED = 42
# What the guides write where the trigger is to stand; of the trainers here ai-toolkit alone knows it.
TRIGGER_PLACEHOLDER = "[trigger]"
# What the checks of the trainers may find, by the name under which it can be waived: of a picture, or of the whole, or of both.
ITEM_RULES = frozenset({"no control", "hidden name", "too small", "below resolution", "no caption", "placeholder"})
RULES = ITEM_RULES | {"path", "option", "sample is a caption", "no samples", "steps"}
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}"


@dataclass(frozen=True)
class BucketPlan:
    """One picture folder as it will lie on disk. repeats: >= 1; stems: of its pictures, in order; controls: those stems that have a control picture.

    folder, control_folder: relative to the dataset folder; control_folder is None where the mode has no control pictures.
    """

    bucket: Bucket
    repeats: int
    stems: tuple[str, ...]
    folder: PurePosixPath
    controls: frozenset[str] = frozenset()
    control_folder: PurePosixPath | None = None


@dataclass(frozen=True)
class Sample:
    """A picture that the trainer makes at each checkpoint. control: a control picture, relative to the dataset folder, for paired edit."""

    prompt: str
    seed: int = SAMPLE_SEED
    control: PurePosixPath | None = None


@dataclass(frozen=True)
class Job:
    """All that a trainer's files are written from.

    name: of the run and of the LoRA's file. vram: GiB. root: the dataset folder as the training machine knows it; relative, it is found from the
    folder where the command is given; `.`, that folder is the dataset itself. captions: one line each, by stem. size_of: (width, height) in pixels,
    by stem. suffix: of every picture file, controls included. waived: rules that the user lets pass for a picture, by stem.
    """

    name: str
    trigger: str
    base_model: BaseModel
    mode: str
    recipe: Recipe
    vram: int
    root: PurePosixPath
    buckets: tuple[BucketPlan, ...]
    captions: Mapping[str, str]
    samples: tuple[Sample, ...]
    size_of: Mapping[str, tuple[int, int]]
    suffix: str = ".png"
    waived: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def on_machine(self, path: PurePosixPath | str) -> str:
        """Where something in the dataset folder lies on the training machine."""
        return str(self.root / path)

    def checked(self, rule: str) -> list[str]:
        """The stems of the pictures that a rule of ITEM_RULES is held against, in order: all but those for which it is waived."""
        return [stem for plan in self.buckets for stem in plan.stems if rule not in self.waived.get(stem, ())]

    @property
    def pictures_per_pass(self) -> int:
        return sum(plan.repeats * len(plan.stems) for plan in self.buckets)


class Trainer(Protocol):
    """One trainer. Its methods depend on their arguments alone, and none needs the trainer to be installed.

    pairs: (name of a base model, mode) that it can train. warms_up: schedulers that it can begin with a rising rate. keeps_average: whether it can
    save an exponential average of the weights. step: sides of its buckets are multiples of so many pixels.
    """

    name: str
    pairs: frozenset[tuple[str, str]]
    warms_up: frozenset[str]
    keeps_average: bool
    step: int

    def folder(self, bucket: Bucket, repeats: int) -> PurePosixPath:
        """Where a bucket's pictures lie, relative to the dataset folder. No picture folder lies in another: sub-folders are read too."""

    def control_folder(self, bucket: Bucket, repeats: int) -> PurePosixPath:
        """The same for its control pictures."""

    def memory(self, base_model: BaseModel, mode: str, vram: int) -> tuple[Mapping[str, object], Mapping[str, str]]:
        """Settings that make the training fit, by this trainer's own keys, and the reason for each by the same key. vram: GiB, one of recipes.VRAM."""

    def sidecars(self, job: Job) -> Mapping[PurePosixPath, bytes]:
        """Every file that is not a picture, relative to the dataset folder: captions, configuration, metadata, sample prompts. UTF-8, LF, no byte order mark.

        Raises UnknownKeyError where a configuration would hold a key that the trainer does not read.
        """

    def config(self) -> PurePosixPath:
        """The one of the sidecars that a user looks at first."""

    def command(self, job: Job) -> str:
        """What to type on the training machine, one command a line, the making of caches included."""

    def caches(self) -> tuple[str, ...]:
        """Patterns (Path.glob, from the dataset folder) of what this trainer keeps of the pictures and captions that it has read."""

    def check(self, job: Job) -> list[Finding]:
        """Rules that the trainer itself does not check, or only once it runs."""


def guide_folder(bucket: Bucket, repeats: int) -> PurePosixPath:
    """`40_character`, as the guides name folders: sd-scripts counts by it where it is told no number, the others take no notice of it."""
    return PurePosixPath(f"{repeats}_{bucket.name}")


def guide_control_folder(bucket: Bucket, repeats: int) -> PurePosixPath:
    """`control_character`: no folder of pictures, since it begins with no number, and beside them, not inside."""
    return PurePosixPath(f"control_{bucket.name}")


def for_powershell(command: str) -> str:
    """A trainer's command as PowerShell takes it: variables and quotes inside quotes are written in another way there; the same where there are none."""
    return re.sub(r"\$\{(\w+):\?[^}]*\}", r"${env:\1}", command).replace("'\"'\"'", "''")


def worded(text: str, trigger: str, placeholders: Iterable[str] = (TRIGGER_PLACEHOLDER,)) -> str:
    """The text with the trigger where a placeholder stood."""
    for placeholder in placeholders:
        text = text.replace(placeholder, trigger)
    return text


def caption_files(job: Job, reword: Callable[[str], str]) -> dict[PurePosixPath, bytes]:
    """A caption beside each picture, without a line end: ai-toolkit would take it for a part of the caption."""
    return {plan.folder / f"{stem}{CAPTION_SUFFIX}": reword(job.captions[stem]).encode() for plan in job.buckets for stem in plan.stems}


def checked_root(root: str) -> PurePosixPath:
    """The dataset folder as the training machine knows it, from what a user typed; empty is `.`. Raises InputError for what no trainer would expand."""
    text = root.strip()
    if re.search(r"[\\$\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text) or text.startswith("~"):
        raise InputError(f"'{excerpt(root)}' cannot be the folder on the training machine; write it out in full with /, for example /workspace/datasets/alina.")
    return PurePosixPath(text)


def job_for(
    dataset: Dataset,
    trainer: Trainer,
    base_model: BaseModel,
    mode: str,
    recipe: Recipe,
    *,
    vram: int,
    name: str,
    size_of: Mapping[str, tuple[int, int]],
    root: str = "",
    repeats: str = "guide",
    target_steps: int = TARGET_STEPS,
    prompts: Iterable[str] = (),
    suffix: str = ".png",
) -> Job:
    """The job for a dataset whose pictures will have these sizes, (width, height) by stem.

    name: letters, digits, `_`, `-` and `.`: it becomes file names, and a part of the trainers' own search patterns. repeats: one of recipes.REPEATS,
    target_steps for its `auto`. prompts: for samples; none: recipes.sample_prompts. Raises InputError for a name or root that a trainer would misread,
    and for a dataset without a picture.
    """
    if not re.fullmatch(_NAME, name):
        raise InputError(f"'{excerpt(name)}' cannot be the name of a training run; use letters, digits, _ - and . only, up to 100 of them.")
    if not dataset.items:
        raise InputError("There is no picture to train on; add pictures first.")
    counts = [(bucket, dataset.in_bucket(bucket)) for bucket in dataset.buckets]
    chosen = resolve_repeats([(bucket, len(items)) for bucket, items in counts], repeats, target_steps, recipe.batch_size * recipe.accumulation)
    paired = mode == PAIRED_EDIT
    buckets = tuple(
        BucketPlan(
            bucket,
            times,
            tuple(item.stem for item in items),
            trainer.folder(bucket, times),
            frozenset(item.stem for item in items if item.control) if paired else frozenset(),
            trainer.control_folder(bucket, times) if paired else None,
        )
        for (bucket, items), times in zip(counts, chosen)
    )
    captions = {item.stem: item.caption for item in dataset.items}
    waived = {item.stem: item.waived for item in dataset.items if item.waived}
    wanted = tuple(map(one_line, prompts)) or sample_prompts(dataset.trigger, tuple(captions.values()), edit=paired)
    # Character buckets come first in a dataset that was built in the guide's order, so samples start from a picture of the character.
    controls = [plan.control_folder / f"{stem}{suffix}" for plan in buckets for stem in plan.stems if stem in plan.controls]
    samples = tuple(
        Sample(worded(prompt, dataset.trigger), SAMPLE_SEED, controls[number % len(controls)] if controls else None) for number, prompt in enumerate(wanted)
    )
    return Job(name, dataset.trigger, base_model, mode, recipe, vram, checked_root(root), buckets, captions, samples, size_of, suffix, waived)


def _some(names: Iterable[str]) -> str:
    """How many, and the first three of them."""
    names = list(names)
    return f"{len(names)} pictures ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if len(names) != 1 else f"1 picture ({names[0]})"


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _them(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"


def below_resolution(job: Job, step: int) -> list[str]:
    """Stems of pictures with fewer pixels than a bucket, each side short by a step (pixels) or more."""
    return [
        stem
        for stem in job.checked("below resolution")
        if stem in job.size_of and math.prod(side + step for side in job.size_of[stem]) < job.recipe.resolution**2
    ]


def common_findings(job: Job, step: int) -> list[Finding]:
    """What is wrong with a job whatever its trainer. step: pixels, below which a side has no bucket."""
    found = []

    def say(level: str, rule: str, text: str) -> None:
        found.append(Finding(level, rule, text))

    if job.mode == PAIRED_EDIT:
        paired = {stem for plan in job.buckets for stem in plan.controls}
        missing = [stem for stem in job.checked("no control") if stem not in paired]
        if missing:
            say(
                BLOCKED,
                "no control",
                f"{_some(missing)} of {len(job.captions)} {_have(missing)} no control picture, and {job.base_model.name} in the mode '{PAIRED_EDIT}' trains on pairs alone;"
                f" add {'its control picture' if len(missing) == 1 else 'their control pictures'}, or choose '{EDIT_AS_TEXT_TO_IMAGE}'.",
            )
        elif any(sample.control is None for sample in job.samples):
            say(BLOCKED, "no control", f"A sample prompt has no control picture, and {job.base_model.name} makes no picture without one; give it one.")
    hidden = [stem for stem in job.checked("hidden name") if stem.startswith(".")]
    if hidden:
        say(BLOCKED, "hidden name", f"{_some(hidden)} {_have(hidden)} a name that begins with a dot, which trainers pass over; rename {_them(hidden)}.")
    tiny = [stem for stem in job.checked("too small") if stem in job.size_of and min(job.size_of[stem]) < step]
    if tiny:
        say(
            BLOCKED,
            "too small",
            f"{_some(tiny)} {_have(tiny)} a side of less than {step} pixels and {'fits' if len(tiny) == 1 else 'fit'} no bucket; leave {_them(tiny)} out.",
        )
    small = below_resolution(job, step)
    if small:
        side = job.recipe.resolution
        say(
            ATTENTION,
            "below resolution",
            f"{_some(small)} of {len(job.captions)} {_have(small)} fewer pixels than {side} x {side}; {'it is trained at its' if len(small) == 1 else 'they are trained at their'} own size.",
        )
    lost = [stem for stem in job.checked("no caption") if not job.captions[stem].strip()]
    if lost:
        say(ATTENTION, "no caption", f"{_some(lost)} {_have(lost)} no caption; write at least the trigger.")
    replaced = [stem for stem in job.checked("placeholder") if TRIGGER_PLACEHOLDER in job.captions[stem]]
    if replaced:
        say(
            ATTENTION,
            "placeholder",
            f"The caption{'s' * (len(replaced) > 1)} of {_some(replaced)} held {TRIGGER_PLACEHOLDER}; the trigger is written there instead.",
        )
    captions = {one_line(caption).casefold() for caption in job.captions.values()}
    copied = [sample.prompt for sample in job.samples if one_line(sample.prompt).casefold() in captions]
    if copied:
        say(
            ATTENTION,
            "sample is a caption",
            f"The sample prompt '{excerpt(copied[0])}' is a caption of the dataset, so it shows what was copied, not what was learnt.",
        )
    if not job.samples:
        say(ATTENTION, "no samples", "There is no sample prompt, so the run shows no picture while it trains; give at least one.")
    steps = calculate(job).steps
    if not GOOD_STEPS[0] <= steps <= GOOD_STEPS[1]:
        say(
            ATTENTION,
            "steps",
            f"The run has {steps} steps; ai-toolkit's examples call {GOOD_STEPS[0]} to {GOOD_STEPS[1]} a good range (repeats: auto aims at a number of steps).",
        )
    return found
