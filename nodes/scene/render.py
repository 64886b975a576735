"""Making pictures with a Qwen-Image model: encode, sample, decode, through the host's own calls. About the host; which pictures, and how often, is takes.py's."""

from collections.abc import Sequence

import comfy.samplers
import node_helpers
import torch

from .. import sampling
from ..tensors import content_key, token
from .presets import TEXT_TO_IMAGE, ModelKind, Settings
from .references import References, as_rgb, resized

# The words around prompt and pictures that Qwen-Image-Edit-2509 and 2511 were trained with (the pipeline QwenImageEditPlusPipeline of diffusers,
# PROMPT_TEMPLATE; the host's TextEncodeQwenImageEditPlus has the same).
EDIT_TEMPLATE = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, background), then explain how the "
    "user's text instruction should alter or modify the image. Generate a new image that meets the user's requirements while maintaining "
    "consistency with the original input where appropriate.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_PICTURE = "Picture {}: <|vision_start|><|image_pad|><|vision_end|>"


def encoded(clip, prompt: str, pictures: Sequence = (), size: tuple[int, int] = (0, 0), method: str | None = None) -> list:
    """The conditioning of a prompt, with reference pictures in it where there are any. size: of the new picture; method: the reference method, None
    for the model's own."""
    if not pictures:
        return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
    seen = [picture.vision() for picture in pictures]
    labels = "".join(_PICTURE.format(i) for i in range(1, len(seen) + 1))
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(labels + prompt, images=seen, llama_template=EDIT_TEMPLATE))
    values = {"reference_latents": [picture.latent(size) for picture in pictures]}
    if method:
        values["reference_latents_method"] = method
    return node_helpers.conditioning_set_values(conditioning, values)


class Studio:
    """Everything that stays the same from shot to shot of one run.

    model: with sampling settings on it; wired: the model as it is wired, and whatever else was put on it here, which tell one run's pictures from
    another's; source: float [1,H,W,3] at `size`, or None; keep: float [1,H,W] at `size`, 1 where the source is kept, or None.
    """

    def __init__(
        self,
        model,
        clip,
        vae,
        kind: ModelKind,
        settings: Settings,
        size: tuple[int, int],
        wired: tuple,
        references: References | None = None,
        negative: str = "",
        denoise: float = 1.0,
        source: torch.Tensor | None = None,
        keep: torch.Tensor | None = None,
    ):
        self.model, self.clip, self.vae = model, clip, vae
        self.kind, self.settings, self.size = kind, settings, size
        self.pictures = references.pictures if references else ()
        self.negative, self.denoise, self.source, self.keep = negative, denoise, source, keep
        self._negative: list | None = None
        self._start: torch.Tensor | None = None
        self._same = (
            token(wired[0]),
            wired[0].patches_uuid,
            *wired[1:],
            token(clip.patcher),
            clip.patcher.patches_uuid,
            token(vae.first_stage_model),
            kind.name,
            kind.method,
            settings,
            size,
            tuple((picture.key, picture.latent_size(size), token(picture.vae.first_stage_model)) for picture in self.pictures),
            negative if self.uses_negative else None,
            denoise,
            None if source is None else content_key(source),
            None if keep is None else content_key(keep),
        )

    def key(self, prompt: str, seed: int) -> tuple:
        """What a picture depends on: equal keys give equal pictures."""
        return (*self._same, prompt, seed)

    @property
    def uses_negative(self) -> bool:
        return sampling.uses_negative(self.model, self.settings.cfg, self.settings.sampler)

    @property
    def start_sigma(self) -> float:
        """The share of noise in what sampling starts from, 0..1."""
        return float(self._sigmas()[0])

    def _sigmas(self) -> torch.Tensor:
        return comfy.samplers.KSampler(
            self.model, self.settings.steps, self.model.load_device, self.settings.sampler, self.settings.scheduler, self.denoise
        ).sigmas

    def encode(self, prompt: str) -> list:
        """The conditioning of a prompt, with the references in it."""
        if self.kind.name == TEXT_TO_IMAGE:
            return encoded(self.clip, prompt)
        return encoded(self.clip, prompt, self.pictures, self.size, self.kind.method)

    def prepare(self) -> None:
        """Encode what all shots share: the references, the source, and the negative prompt where it counts."""
        if self.kind.name != TEXT_TO_IMAGE:
            for picture in self.pictures:
                picture.latent(self.size)
        if self._start is None:
            if self.source is None:
                self._start = sampling.empty_latent(self.model, *self.size)
            else:
                self._start = self.vae.encode(self.source)
        if self.uses_negative and self._negative is None:
            self._negative = self.encode(self.negative)

    def sample(self, positive: list, seed: int, step) -> torch.Tensor:
        """The latent of one picture. step: called with (done, all, preview) after each step."""
        mask = None if self.keep is None else (1 - self.keep).unsqueeze(1)
        return sampling.sample(self.model, self.settings, positive, self._negative, self._start, (seed,), step, self.denoise, mask)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The picture of a latent, float [1,H,W,3]; where the source is kept, its own pixels."""
        image = sampling.decode(self.vae, latent)
        if self.keep is None:
            return image
        kept = self.keep.unsqueeze(-1).to(image)
        return image * (1 - kept) + self.source.to(image) * kept

    is_out_of_memory = staticmethod(sampling.is_out_of_memory)
    free_memory = staticmethod(sampling.free_memory)


def on_grid(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A picture float [1,H,W,C] as RGB at (width, height)."""
    return resized(as_rgb(pixels), size)
