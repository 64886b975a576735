"""One run of Qwen Character Scene: from what is wired to the pictures and the report. About the host; the schema is nodes.py's."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F

from .. import lora_files
from ..errors import InputError
from ..host import LiveNode, file_state
from ..identity import scoring
from ..identity.identity import Identity
from ..identity.retakes import Take, seed_of
from ..pictures import from_floats
from ..telling import Clock, last_score, told
from ..tensors import TensorMemory
from . import presets, prompts, takes, wired
from .choices import CUSTOM, FAST, IGNORE_REFERENCES, MATCH_SOURCE, MOST_SHOTS, TEXT_TO_IMAGE
from .references import References, as_rgb, fits
from .render import Studio, on_grid
from .shots import Shot
from .stack import Upstream, angle_notes, speed_notes
from .takes import Job, Outcome, PictureMemory, Watch

# Kept from run to run, so that only what changed is made again: the latents of the most shots of a run, 1000 of one megapixel, and 20 of their pictures.
MEMORY = PictureMemory(TensorMemory(2**30), TensorMemory(256 * 2**20))

# What Load Image gives as the mask of a picture without transparency (nodes.py, LoadImage.load_image).
NO_MASK_SIDE = 64


@dataclass(frozen=True, eq=False)
class Order:
    """What the node is asked for. source: float [1,H,W,C]; mask: float [1,H,W], 1 where the source is kept; custom: the settings typed for
    preset custom; speed_lora: a file, for preset fast; upstream: the files that lead to `model`."""

    model: object
    clip: object
    vae: object
    shots: Sequence[Shot]
    references: References | None
    preset: str
    custom: dict
    aspect: str
    megapixels: float
    custom_size: tuple[int, int]
    seed: int
    denoise: float = 1.0
    source: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    negative: str = ""
    speed_lora: Path | None = None
    model_kind: str = presets.AUTO
    identity: Identity | None = None
    strictness: str = "standard"
    threshold: float = 0.5
    max_takes: int = 1
    group: int = 4
    upstream: Upstream = field(default_factory=Upstream)


@dataclass(frozen=True, eq=False)
class Filmed:
    outcomes: list[Outcome]
    report: dict

    @property
    def made(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.kept is not None]


def film(order: Order, watch: Watch) -> Filmed:
    """Make all shots of an order. Raises InputError for what cannot be made, before anything is sampled."""
    if not order.shots:
        raise InputError("There is no shot to make: write a scene, or wire a Shot List.")
    if len(order.shots) > MOST_SHOTS:
        raise InputError(f"{len(order.shots)} shots are more than the {MOST_SHOTS} that one run makes; set a lower limit in Shot List.")
    notes: list[str] = []
    kind = wired.read_model(order.model, order.model_kind, order.references is not None, order.upstream.models)
    if kind.guessed:
        notes.append(f"The model is {kind.why}.")
    wired.check_clip(order.clip)
    wired.check_vae(order.vae)
    seen = _seen_references(order, kind, notes)
    settings = presets.custom_settings(kind.name, **order.custom) if order.preset == CUSTOM else presets.settings(kind.name, order.preset)
    proportions = _size_of(order.source) if order.source is not None else seen.pictures[0].size if seen else None
    size, said = presets.target_size(kind.name, order.aspect, order.megapixels, order.custom_size, proportions)
    notes += said
    if seen:
        seen = seen.matching(proportions) if order.aspect == MATCH_SOURCE else seen
        notes += seen.unlocked(size)
    stack = wired.stack_of(order.model)
    model, speed = _with_speed(order, kind, settings, stack, notes)
    if wired.has_sampling(model) and wired.shift_of(model) != settings.shift:
        notes.append(f"The shift that is set on the model is replaced by {settings.shift:g}: this node sets it by itself, leave ModelSamplingAuraFlow out.")
    if settings.cfg_norm and wired.has_cfg_norm(model):
        notes.append("CFGNorm is on the model already; it is left as it is. This node sets it by itself: leave that node out.")
    source, keep, denoise = _source(order, size, notes)
    negative = order.negative or presets.NEGATIVE[kind.name]
    studio = Studio(
        wired.with_settings(model, settings),
        order.clip,
        order.vae,
        kind,
        settings,
        size,
        (order.model, *file_state(speed.lora.path if speed else None)),
        seen,
        negative,
        denoise,
        source,
        keep,
    )
    if denoise < 1:
        notes.append(presets.survival_sentence(denoise, settings.steps, settings.shift, studio.start_sigma))
    if order.negative.strip() and not studio.uses_negative:
        notes.append(f"negative is not used at cfg {settings.cfg:g}: it needs a cfg above 1, as the presets balanced and quality have.")
    jobs = _jobs(order, seen, [one for one in stack if one.strength])
    notes += angle_notes(stack, [job.prompt for job in jobs], None if kind.guessed else kind.name)
    if order.max_takes > 1 and order.identity is None:
        notes.append("max_takes needs an identity to tell which take is good enough; each shot is taken once.")
    rules, judge = _judge(order)
    outcomes = takes.shoot(jobs, studio, MEMORY, judge, order.max_takes if judge else 1, order.group, watch)
    report = _report(order, outcomes, studio, seen, (*stack, speed) if speed else stack, rules, notes)
    if not any(outcome.kept for outcome in outcomes):
        raise InputError(f"No shot could be made: {outcomes[0].error}.")
    return Filmed(outcomes, report)


def summary(outcomes: Sequence[Outcome]) -> str:
    """`6 of 8 pictures, 2 made before, 5 pass; 2 failed: out of memory...`: what stands in the node at the end."""
    made = [outcome for outcome in outcomes if outcome.kept is not None]
    parts = [f"{len(made)} of {len(outcomes)} pictures"]
    before = sum(outcome.kept.remembered for outcome in made)
    if before:
        parts.append(f"{before} made before")
    if any(outcome.kept.judgement for outcome in made):
        parts.append(f"{sum(outcome.kept.passes for outcome in made)} pass")
    failed = Counter(outcome.error for outcome in outcomes if outcome.error)
    return ", ".join(parts) + "".join(f"; {count} failed: {error}" for error, count in failed.items())


def _seen_references(order: Order, kind, notes: list[str]) -> References | None:
    if kind.name != TEXT_TO_IMAGE:
        if order.references is None:
            raise InputError(
                f"The model is an edit model ({kind.name}: {kind.why}), which needs at least one reference picture: wire Character References, "
                "or load a text-to-image model such as qwen_image_2512_fp8_e4m3fn.safetensors."
            )
        return order.references
    if order.references is None:
        return None
    if order.model_kind != IGNORE_REFERENCES:
        raise InputError(
            f"The model makes pictures from text alone ({kind.why}) and cannot see the references: load an edit model, "
            f"or set model_kind to `{IGNORE_REFERENCES}`."
        )
    notes.append("The references are ignored, as model_kind says.")
    return None


def _with_speed(order: Order, kind, settings, stack: Sequence[lora_files.Applied], notes: list[str]):
    """The model with the speed LoRA of preset fast on it, and that LoRA."""
    model, speed = order.model, None
    if order.speed_lora is not None and order.preset != FAST:
        notes.append(f"speed_lora is for preset fast only; with preset {order.preset} {order.speed_lora.name} is left out.")
    elif order.speed_lora is not None:
        file = lora_files.read_lora(order.speed_lora)
        model, matched = wired.with_lora(order.model, order.speed_lora, 1.0)
        speed = lora_files.Applied(file, 1.0, "speed", "", matched)
        notes += lora_files.warnings_for(speed, matched, None if kind.guessed else kind.name, stack)
    notes += speed_notes(order.preset, settings, None if kind.guessed else kind.name, order.upstream, stack, speed)
    return model, speed


def _source(order: Order, size: tuple[int, int], notes: list[str]) -> tuple[torch.Tensor | None, torch.Tensor | None, float]:
    """(source at the target size, what is kept of it, denoise) as they take effect."""
    if order.source is None:
        if order.mask is not None:
            raise InputError("A mask says which part of the source is kept: wire that picture to source.")
        if order.denoise < 1:
            notes.append(f"denoise {order.denoise:g} needs a source to start from; without one it is 1.0.")
        return None, None, 1.0
    if order.mask is None and order.denoise >= 1:
        notes.append("At denoise 1.0 nothing of the source is used but its aspect; lower denoise, or wire a mask of what to keep.")
        return None, None, 1.0
    own = _size_of(order.source)
    if order.aspect != MATCH_SOURCE and not fits(own, size):
        raise InputError(f"The source is {own[0]}x{own[1]} and the pictures are {size[0]}x{size[1]}, another aspect: set aspect_ratio to `{MATCH_SOURCE}`.")
    keep = None
    if order.mask is not None:
        of_mask = order.mask.shape[2], order.mask.shape[1]
        if of_mask == (NO_MASK_SIDE, NO_MASK_SIDE) != own and not order.mask.any():
            raise InputError(
                "The mask is empty: the picture that it comes from has no transparency; paint a mask in Load Image's mask editor, or wire Character Mask."
            )
        if not fits(of_mask, own):
            raise InputError(f"The mask is {of_mask[0]}x{of_mask[1]} and the source {own[0]}x{own[1]}: they must be of the same picture.")
        keep = F.interpolate(order.mask.unsqueeze(1).float(), size=(size[1], size[0]), mode="bilinear").squeeze(1).clamp(0, 1)
        share = float(keep.mean())
        if share < 0.001:
            notes.append("The mask is empty: nothing of the source is kept.")
        elif share > 0.999:
            notes.append("The mask covers everything: the pictures are the source again.")
    return on_grid(order.source, size), keep, order.denoise


def _size_of(pixels: torch.Tensor) -> tuple[int, int]:
    return pixels.shape[2], pixels.shape[1]


def _jobs(order: Order, seen: References | None, stack: Sequence[lora_files.Applied]) -> list[Job]:
    labels, character = (seen.labels, seen.character) if seen else ([], "")
    triggers = [one.trigger for one in stack]
    # A text-to-image model knows the character by the trigger of its LoRA; of several words the first is its name.
    names = (one.trigger.split(",")[0].strip() for one in stack if one.role == "character")
    character = character or prompts.listed(list(dict.fromkeys(filter(None, names))))
    return [Job(shot, prompts.complete(shot.prompt, character, labels, triggers), seed_of(order.seed, shot.seed_offset)) for shot in order.shots]


def _judge(order: Order) -> tuple[scoring.Rules | None, Callable | None]:
    identity = order.identity
    if identity is None:
        return None, None
    rules = scoring.Rules(scoring.threshold_of(identity, order.strictness, order.threshold), order.strictness)

    def judge(image: torch.Tensor, shot: Shot) -> scoring.Judgement:
        picture = from_floats(image[0].float().cpu().numpy())
        return scoring.judge(scoring.measure([picture], [identity]), [identity], rules, [shot.caption])[0]

    return rules, judge


def _report(order: Order, outcomes, studio: Studio, seen, stack, rules, notes: Sequence[str]) -> dict:
    settings, kind = studio.settings, studio.kind
    report = {
        "shots": [_shot_report(outcome) for outcome in outcomes],
        "model": {"kind": kind.name, "because": kind.why, "file": wired.model_file(order.model), "reference_method": kind.method or "the model's own"},
        "settings": {
            "preset": order.preset,
            "steps": settings.steps,
            "cfg": settings.cfg,
            "sampler": settings.sampler,
            "scheduler": settings.scheduler,
            "shift": settings.shift,
            "cfg_norm": settings.cfg_norm,
            "denoise": studio.denoise,
            "negative": studio.negative if studio.uses_negative else None,
            "size": list(studio.size),
        },
        "references": seen.report(studio.size) if seen else [],
        "loras": [{"file": one.lora.name, "role": one.role, "strength": one.strength, "trigger": one.trigger} for one in stack],
        "notes": list(notes),
    }
    if rules is not None:
        judged = [outcome for outcome in outcomes if outcome.kept is not None]
        rate = scoring.match_rate([outcome.kept.judgement.measured for outcome in judged], [order.identity], captions=[o.job.shot.caption for o in judged])
        report |= {"identity": order.identity.name, "threshold": round(rules.threshold, 4), "strictness": rules.label, "match_rate": scoring.rate_report(rate)}
    return report


def _shot_report(outcome: Outcome) -> dict:
    kept = outcome.kept
    row = {
        "id": outcome.job.shot.id,
        "prompt": outcome.job.prompt,
        "caption": outcome.job.shot.caption,
        "seed": kept.seed if kept else outcome.job.seed,
        "takes": len(outcome.tried),
        "made_before": bool(kept and kept.remembered),
    }
    if outcome.error:
        row["error"] = outcome.error
    elif any(take.error for take in outcome.tried):
        row["errors_of_takes"] = [take.error for take in outcome.tried if take.error]
    if kept is not None and kept.judgement is not None:
        row |= {"verdict": kept.judgement.verdict, "score": None if kept.score is None else round(kept.score, 4), "reason": kept.judgement.reason}
        row["scores_of_takes"] = [None if take.score is None else round(take.score, 4) for take in outcome.tried]
    return row


class Showing(Watch):
    """Shows a run in its node: progress over all shots with the last score and the time left, and each finished picture. finished(index, take) may be
    added to."""

    def __init__(self, live: LiveNode, draw: Callable[[int, Take], object], save: Callable[[Take], None] | None = None):
        self._live, self._draw, self._save, self._clock = live, draw, save, Clock()
        self._begun = 0
        self._about = ""
        self._scores: dict[int, str] = {}
        self._latest = ""

    def plan(self, samples: int) -> None:
        self._clock.plan(samples)

    def shot(self, number: int, count: int, take: int) -> None:
        self._begun += 1
        # Of a shot that is taken again its own score; else that of the picture before.
        parts = [f"Shot {number} of {count}", f"take {take + 1}" if take else "", self._scores.get(number, self._latest)]
        self._about = ", ".join(part for part in parts if part)
        self._tell()

    def step(self, done: int, steps: int, preview) -> None:
        self._clock.advance(self._begun - 1 + done / steps)
        self._live.progress(self._begun - 1 + done / steps, self._clock.planned, preview)
        self._tell()

    def _tell(self) -> None:
        left = self._clock.left
        self._live.tell(self._about if left is None else f"{self._about}, about {told(left)} left")

    def judged(self, index: int, take: Take) -> None:
        self._scores[index + 1] = self._latest = last_score(take.judgement)

    def finished(self, index: int, take: Take) -> None:
        if self._save is not None:
            self._save(take)
        self._live.show(self._draw(index, take))

    def check(self) -> None:
        self._live.check()


def single_source(batches: Sequence[torch.Tensor] | None) -> torch.Tensor | None:
    """The one picture of the source input. Raises InputError for several."""
    if not batches:
        return None
    frames = [frame for batch in batches for frame in batch]
    if len(frames) != 1:
        raise InputError(f"source takes one picture, {len(frames)} are wired to it.")
    return as_rgb(frames[0].unsqueeze(0))


def single_mask(batches: Sequence[torch.Tensor] | None) -> torch.Tensor | None:
    """The one mask [1,H,W] of the mask input. Raises InputError for several."""
    if not batches:
        return None
    frames = [frame for batch in batches for frame in (batch if batch.ndim == 3 else batch.unsqueeze(0))]
    if len(frames) != 1:
        raise InputError(f"mask takes one mask, {len(frames)} are wired to it.")
    return frames[0].unsqueeze(0)
