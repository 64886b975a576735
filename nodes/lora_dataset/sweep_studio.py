"""Pictures of a sweep, made with any model family that the host samples: texts encoded once, each LoRA read once. About the host; which pictures is sweep.py's."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import node_helpers
import torch

from .. import sampling
from ..errors import InputError, LikenessError
from ..host import file_state
from ..pictures import Picture, from_floats
from ..scene import wired
from ..scene.presets import AUTO, TEXT_TO_IMAGE
from ..scene.references import References
from ..scene.render import encoded
from ..tensors import token
from .checkpoints import Checkpoint, Part
from .sweep import Shot


@dataclass(frozen=True)
class Settings:
    """As in KSampler. guidance: of Flux' conditioning, None for the model's own."""

    steps: int
    cfg: float
    sampler: str
    scheduler: str
    guidance: float | None = None


class Studio:
    """Everything that stays the same from picture to picture of a sweep. size: (width, height) in pixels."""

    is_out_of_memory = staticmethod(sampling.is_out_of_memory)
    free_memory = staticmethod(sampling.free_memory)

    def __init__(self, model, clip, vae, settings: Settings, size: tuple[int, int], negative: str = "", references: References | None = None):
        self.model, self.clip, self.vae, self.settings, self.size, self.negative = model, clip, vae, settings, size, negative
        self.pictures = references.pictures if references else ()
        self.method = _reference_method(model) if references else None
        self._conditionings: dict[str, list] = {}
        self._patches: dict[str, dict] = {}
        self._state = lru_cache(None)(lambda path: tuple(file_state(path)))
        self._start: torch.Tensor | None = None
        self._same = (
            token(model),
            model.patches_uuid,
            token(clip.patcher),
            clip.patcher.patches_uuid,
            # Not its weights alone: another pack may wrap them.
            token(vae),
            settings,
            size,
            negative if sampling.uses_negative(model, settings.cfg, settings.sampler) else None,
            self.method,
            tuple((picture.key, picture.latent_size(size), token(picture.vae.first_stage_model)) for picture in self.pictures),
        )

    @property
    def pace(self) -> tuple:
        """What the time of a picture depends on."""
        return self._same[0], self.settings, self.size, self._same[-1]

    def key(self, shot: Shot, alone: bool) -> tuple:
        """What a picture depends on: equal keys give equal pictures, but for the last digits of what was not made alone."""
        parts = shot.checkpoint.parts if shot.checkpoint else ()
        return (*self._same, tuple((*self._state(part.path), _strength(part, shot.strength)) for part in parts), shot.text, shot.seed, alone)

    def encode(self, text: str) -> list:
        """The conditioning of a text, made once."""
        if text not in self._conditionings:
            self._conditionings[text] = self.encoded_by(self.clip, text)
        return self._conditionings[text]

    def encoded_by(self, clip, text: str) -> list:
        conditioning = encoded(clip, text, self.pictures, self.size, self.method)
        guidance = self.settings.guidance
        return conditioning if guidance is None else node_helpers.conditioning_set_values(conditioning, {"guidance": guidance})

    def painter(self, checkpoint: Checkpoint | None, strength: float, texts: Sequence[str]) -> "Painter":
        """Makes pictures of these texts with a checkpoint at a strength. Raises LikenessError for a file that cannot be loaded or changes nothing."""
        if self._start is None:
            self._start = sampling.empty_latent(self.model, *self.size)
        if checkpoint is None:
            return Painter(self, self.model, self._start, {text: self.encode(text) for text in texts}, self._negative(self.clip))
        own = [part for part in checkpoint.parts if part.lora is not None and part.lora.text_layers]
        # Those of the checkpoint before are given back, but for files that both have.
        self._patches = {path: patches for path, patches in self._patches.items() if path in {str(part.path) for part in checkpoint.parts}}
        model, clip = self.model, self.clip
        for part in checkpoint.parts:
            patches, at = self._read(part), _strength(part, strength)
            model, changed = sampling.with_patches(model, patches, at)
            if part in own:
                clip, more = sampling.with_patches(clip, patches, at)
                changed += more
            if not changed:
                family = "" if part.lora is None or part.lora.family == "unknown" else f"; it is a LoRA for {part.lora.family}"
                raise InputError(f"{part.path.name} matches nothing in this model{family}.")
        if not own:
            return Painter(self, model, self._start, {text: self.encode(text) for text in texts}, self._negative(self.clip))
        return Painter(self, model, self._start, {text: self.encoded_by(clip, text) for text in texts}, self._negative(clip))

    def _negative(self, clip) -> list | None:
        if not sampling.uses_negative(self.model, self.settings.cfg, self.settings.sampler):
            return None
        return self.encode(self.negative) if clip is self.clip else self.encoded_by(clip, self.negative)

    def _read(self, part: Part) -> dict:
        path = str(part.path)
        if path not in self._patches:
            try:
                self._patches[path] = sampling.read_patches(part.path, self.model, self.clip)
            except LikenessError:
                raise
            except Exception as error:
                if sampling.is_out_of_memory(error):
                    raise
                raise InputError(
                    f"{part.path.name} cannot be read ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason'})."
                ) from error
        return self._patches[path]

    def decode(self, latents: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The pictures of latents, float [1,H,W,3] each, decoded at once where memory is ample."""
        together = latents[0] if len(latents) == 1 else torch.cat(list(latents))
        if len(latents) > 1 and not sampling.fit_at_once(self.vae, together):
            return [image for latent in latents for image in self.decode([latent])]
        images = sampling.decode(self.vae, together)
        if len(images) != len(latents):
            raise InputError(f"The VAE made {len(images)} pictures of {len(latents)}: wire the one that belongs to the model, as it is loaded.")
        return images.split(1)

    @staticmethod
    def picture(image: torch.Tensor) -> Picture:
        return from_floats(image[0].float().cpu().numpy())


@dataclass(frozen=True, eq=False)
class Painter:
    """One checkpoint at one strength on the model, and the texts encoded."""

    studio: Studio
    model: object
    start: torch.Tensor
    conditionings: dict[str, list]
    negative: list | None

    def sample(self, text: str, seeds: Sequence[int], step) -> Sequence[torch.Tensor]:
        """One latent for each seed, all sampled at once."""
        return sampling.sample(self.model, self.studio.settings, self.conditionings[text], self.negative, self.start, seeds, step).split(1)


def _strength(part: Part, swept: float) -> float:
    return swept if part.strength is None else part.strength


def _reference_method(model) -> str | None:
    """How an edit model is shown its references; raises InputError for a model that is none."""
    kind = wired.read_model(model, AUTO, True)
    if kind.name == TEXT_TO_IMAGE:
        raise InputError(f"references are wired, and the model makes pictures from text alone ({kind.why}): leave them out, or load Qwen-Image-Edit.")
    return kind.method
