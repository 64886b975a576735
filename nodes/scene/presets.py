"""What each Qwen-Image model is made for: its kind, sampling settings and picture sizes, as plain numbers. Nothing is loaded or sampled here."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ..errors import InputError
from .choices import (
    ASPECT_CHOICES,
    ASPECTS,
    AUTO,
    BALANCED,
    CUSTOM_SIZE,
    EDIT_2509,
    EDIT_2511,
    FAST,
    IGNORE_REFERENCES,
    MATCH_SOURCE,
    QUALITY,
    TEXT_TO_IMAGE,
)

# The reference method of 2511: reference latents get timestep 0 (comfy/ldm/qwen_image/model.py).
TIMESTEP_ZERO = "index_timestep_zero"
LAYERED_METHOD = "negative_index"

# Latent pixels are 8 x 8 and the model takes them 2 x 2. References whose grid differs from the target's shift and zoom the picture; at multiples
# of 32 every usual ratio of the two is a whole number of such cells.
EDIT_MULTIPLE = 32
TEXT_MULTIPLE = 16
SMALLEST_SIDE, LARGEST_SIDE = 256, 4096
MEGAPIXEL = 1024 * 1024
# An aspect this near another's is stretched onto its grid, which moves no point by more than 1 part in 50.
ASPECT_SLACK = 0.02
# Less of a source than this cannot be seen in what becomes of it.
LEAST_KEPT = 0.005

# What the models were given as negative prompt by their makers: a blank for the edit models (the model cards of Qwen-Image-Edit), for text to
# image the one of ComfyUI's template for Qwen-Image-2512.
NEGATIVE = {
    EDIT_2511: " ",
    EDIT_2509: " ",
    TEXT_TO_IMAGE: "低分辨率，低画质，肢体畸形，手指畸形，画面过饱和，蜡像感，人脸无细节，过度光滑，画面具有AI感。构图混乱。文字模糊，扭曲",  # noqa: RUF001
}


@dataclass(frozen=True)
class Settings:
    """How to sample. shift: of the flow's time; cfg_norm: strength of CFGNorm, 0 leaves it out."""

    steps: int
    cfg: float
    shift: float
    cfg_norm: float
    sampler: str = "euler"
    scheduler: str = "simple"


# Steps and CFG from ComfyUI's templates and the notes in them: 2511 "Qwen 40 / 4.0, Comfy 20 / 4.0", 2509 "Qwen Team 50 / 4.0, Comfy Original 20 /
# 2.5", 2512 50 / 4.0; for its balanced preset the 20 / 2.5 that the template of the first Qwen-Image gives. Shift and CFGNorm from the same graphs.
_TABLE = {
    EDIT_2511: {FAST: (4, 1.0), BALANCED: (20, 4.0), QUALITY: (40, 4.0), "shift": 3.1, "cfg_norm": 1.0},
    EDIT_2509: {FAST: (4, 1.0), BALANCED: (20, 2.5), QUALITY: (50, 4.0), "shift": 3.0, "cfg_norm": 1.0},
    TEXT_TO_IMAGE: {FAST: (4, 1.0), BALANCED: (20, 2.5), QUALITY: (50, 4.0), "shift": 3.1, "cfg_norm": 0.0},
}


def settings(kind: str, preset: str) -> Settings:
    """The settings of a preset, custom excepted, for a kind of model."""
    row = _TABLE[kind]
    steps, cfg = row[preset]
    return Settings(steps, cfg, row["shift"], row["cfg_norm"])


def custom_settings(kind: str, steps: int, cfg: float, shift: float, cfg_norm: float, sampler: str, scheduler: str) -> Settings:
    """Settings typed by hand; a shift of 0 and a negative cfg_norm stand for the model's own."""
    own = settings(kind, BALANCED)
    return Settings(steps, cfg, shift or own.shift, own.cfg_norm if cfg_norm < 0 else cfg_norm, sampler, scheduler)


@dataclass(frozen=True)
class ModelKind:
    """What a model is taken for. method: the reference method that must be set, None where the model has the right one itself; why: how it is
    known; guessed: neither its file nor a name told."""

    name: str
    method: str | None
    why: str
    guessed: bool = False


def read_kind(own_method: str, names: Sequence[str], chosen: str, references: bool) -> ModelKind:
    """The kind of a Qwen-Image model.

    own_method: the reference method that the loaded model has from its file; names: names of the model files it may come from, for
    files of one layout (Qwen-Image, 2512, Edit, Edit-2509 and a 2511 repacked without its key) that only their names tell apart.
    Raises InputError for Qwen-Image-Layered.
    """
    if own_method == LAYERED_METHOD:
        raise InputError("The model is Qwen-Image-Layered, which splits a picture into layers; wire a Qwen-Image-Edit or Qwen-Image model.")
    has_key = own_method == TIMESTEP_ZERO
    if chosen == IGNORE_REFERENCES:
        chosen = TEXT_TO_IMAGE
    if chosen != AUTO:
        return ModelKind(chosen, TIMESTEP_ZERO if chosen == EDIT_2511 and not has_key else None, "as chosen in model_kind")
    if has_key:
        return ModelKind(EDIT_2511, None, "its file has the key of 2511")
    for name in names:
        words = name.lower()
        if re.search(r"(?<!\d)2511(?!\d)", words):
            return ModelKind(EDIT_2511, TIMESTEP_ZERO, f"the name of {name}; the key of 2511 is missing in the file, so its reference method is set")
        if re.search(r"(?<!\d)2509(?!\d)", words) or re.search(r"qwen.*(edit|rapid)", words):
            return ModelKind(EDIT_2509, None, f"the name of {name}")
        if "2512" in words or re.search(r"qwen.?image", words):
            return ModelKind(TEXT_TO_IMAGE, None, f"the name of {name}")
    guess = EDIT_2509 if references else TEXT_TO_IMAGE
    because = "references are wired" if references else "no references are wired"
    return ModelKind(guess, None, f"taken for {guess} because {because}: neither the file nor its name says it; model_kind sets it", True)


def rounded_size(width: float, height: float, area: float, multiple: int) -> tuple[int, int]:
    """(width, height) of about `area` pixels with the aspect of the given size, each a multiple of `multiple`."""
    scale = math.sqrt(area / (width * height))
    return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (width, height))


def stretch(size: tuple[int, int], target: tuple[int, int]) -> float:
    """How much wider in its aspect a picture (width, height) is than the target: 0.02 for 2 %, negative where it is narrower."""
    return size[0] * target[1] / (size[1] * target[0]) - 1


def matched_size(width: int, height: int, area: float, multiple: int) -> tuple[int, int]:
    """(width, height) of about `area` pixels, each a multiple of `multiple` within the limits, with the aspect nearest to that of the given size.

    Of the multiples on both sides of the exact width and height: with each rounded on its own, usual pictures miss their aspect by up to 2.9 % at 1
    megapixel and 4.5 % at 0.25, so by 0.8 % and 2.9 %. Where no multiple is within the limits, as rounded_size gives it.
    """
    scale = math.sqrt(area / (width * height))

    def near(side: int) -> list[int]:
        cells = side * scale / multiple
        return [count * multiple for count in (math.floor(cells), math.ceil(cells)) if SMALLEST_SIDE <= count * multiple <= LARGEST_SIDE]

    def missed(size: tuple[int, int]) -> tuple[float, float]:
        # Rounded, so that of equal aspects the nearer area counts.
        return round(abs(stretch((width, height), size)), 6), abs(math.log(size[0] * size[1] / area))

    return min(product(near(width), near(height)), key=missed, default=rounded_size(width, height, area, multiple))


def target_size(kind: str, aspect: str, megapixels: float, custom: tuple[int, int], source: tuple[int, int] | None) -> tuple[tuple[int, int], list[str]]:
    """(width, height) of the pictures to make, and what had to be said about it.

    source: (width, height) of the picture that `match source` takes its aspect from. Raises InputError when that is missing, for an unknown
    aspect, and for a size outside 256 to 4096 pixels a side.
    """
    multiple = TEXT_MULTIPLE if kind == TEXT_TO_IMAGE else EDIT_MULTIPLE
    notes = []
    if aspect == CUSTOM_SIZE:
        size = tuple(round(side / multiple) * multiple for side in custom)
        if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in custom):
            raise InputError(f"A picture of {custom[0]}x{custom[1]} cannot be made: each side must lie between {SMALLEST_SIDE} and {LARGEST_SIDE} pixels.")
        if size != tuple(custom):
            notes.append(f"{custom[0]}x{custom[1]} became {size[0]}x{size[1]}: sides must be multiples of {multiple}.")
        return size, notes
    if aspect == MATCH_SOURCE:
        if source is None:
            raise InputError("aspect_ratio is `match source`, but neither a source nor a reference picture is wired; choose an aspect.")
        size = matched_size(*source, megapixels * MEGAPIXEL, multiple)
    elif aspect in ASPECTS:
        size = rounded_size(*ASPECTS[aspect], megapixels * MEGAPIXEL, multiple)
    else:
        raise InputError(f"'{aspect}' is no aspect ratio; choose {', '.join(ASPECT_CHOICES)}.")
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in size):
        raise InputError(
            f"{megapixels:g} megapixels at {aspect} would be {size[0]}x{size[1]}: each side must lie between {SMALLEST_SIDE} and {LARGEST_SIDE} pixels."
        )
    if aspect == MATCH_SOURCE and (missed := abs(stretch(source, size))) > ASPECT_SLACK:
        notes.append(
            f"{size[0]}x{size[1]} is {missed:.1%} off the aspect of {source[0]}x{source[1]}, the nearest at {megapixels:g} megapixels in multiples of "
            f"{multiple}; more megapixels come nearer."
        )
    return size, notes


def survival_sentence(denoise: float, steps: int, shift: float, start_sigma: float) -> str:
    """What a denoise below 1 leaves of the source. start_sigma: the noise share at which sampling starts, after shift (comfy's KSampler)."""
    kept = 1 - start_sigma
    if kept >= LEAST_KEPT:
        return f"denoise {denoise:g} keeps about {kept:.0%} of the source in what sampling starts from."
    # KSampler takes the last `steps` of int(steps / denoise) steps.
    starts_later = [hundredths / 100 for hundredths in range(99, 0, -1) if int(steps / (hundredths / 100)) > steps]
    if int(steps / denoise) == steps and _kept(starts_later[0], steps, shift) >= LEAST_KEPT:
        return (
            f"denoise {denoise:g} at {steps} steps has no effect: sampling starts from pure noise as at 1.0; take more steps or a denoise of "
            f"{starts_later[0]:g} or less."
        )
    later = [tried for tried in starts_later if int(steps / tried) > int(steps / denoise)]
    enough = next((tried for tried in later if _kept(tried, steps, shift) >= LEAST_KEPT), later[-1])
    return (
        f"denoise {denoise:g} at a shift of {shift:g} has next to no effect: sampling starts from almost pure noise; take a lower shift or a denoise of "
        f"{enough:g} or less."
    )


def _kept(denoise: float, steps: int, shift: float) -> float:
    """The share of the source at the start, with the scheduler simple: 1 - shift * t / (1 + (shift - 1) * t) (comfy's time_snr_shift)."""
    time = steps / int(steps / denoise)
    return (1 - time) / (1 + (shift - 1) * time)
