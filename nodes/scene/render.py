"""Making pictures with a Qwen-Image model: encode, sample, decode, through the host's own calls. About the host; which pictures, and how often, is takes.py's."""

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import node_helpers
import torch

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
        self._previewer = None
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
        """Whether the host looks at the negative prompt: not at cfg 1, unless something on the model asks for it (comfy/samplers.py)."""
        return self.settings.cfg != 1.0 or bool(self.model.model_options.get("disable_cfg1_optimization"))

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
        if self.kind.name == TEXT_TO_IMAGE or not self.pictures:
            return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(prompt))
        seen = [picture.vision() for picture in self.pictures]
        labels = "".join(_PICTURE.format(i) for i in range(1, len(seen) + 1))
        tokens = self.clip.tokenize(labels + prompt, images=seen, llama_template=EDIT_TEMPLATE)
        conditioning = self.clip.encode_from_tokens_scheduled(tokens)
        values = {"reference_latents": [picture.latent(self.size) for picture in self.pictures]}
        if self.kind.method:
            values["reference_latents_method"] = self.kind.method
        return node_helpers.conditioning_set_values(conditioning, values)

    def prepare(self) -> None:
        """Encode what all shots share: the references, the source, and the negative prompt where it counts."""
        if self.kind.name != TEXT_TO_IMAGE:
            for picture in self.pictures:
                picture.latent(self.size)
        if self._start is None:
            if self.source is None:
                width, height = self.size
                empty = torch.zeros(
                    (1, 16, height // 8, width // 8),
                    device=comfy.model_management.intermediate_device(),
                    dtype=comfy.model_management.intermediate_dtype(),
                )
                self._start = comfy.sample.fix_empty_latent_channels(self.model, empty)
            else:
                self._start = self.vae.encode(self.source)
        self._previewer = latent_preview.get_previewer(self.model.load_device, self.model.model.latent_format)
        if self.uses_negative and self._negative is None:
            self._negative = self.encode(self.negative)

    def sample(self, positive: list, seed: int, step) -> torch.Tensor:
        """The latent of one picture. step: called with (done, all, preview) after each step."""

        def callback(done, x0, x, total):
            step(done + 1, total, self._previewer.decode_latent_to_preview_image("JPEG", x0) if self._previewer else None)

        # At cfg 1 the host never looks at the negative: the positive stands in its place.
        negative = self._negative if self._negative is not None else positive
        mask = None if self.keep is None else (1 - self.keep).unsqueeze(1)
        noise = comfy.sample.prepare_noise(self._start, seed)
        return comfy.sample.sample(
            self.model,
            noise,
            self.settings.steps,
            self.settings.cfg,
            self.settings.sampler,
            self.settings.scheduler,
            positive,
            negative,
            self._start,
            denoise=self.denoise,
            noise_mask=mask,
            callback=callback,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The picture of a latent, float [1,H,W,3]; where the source is kept, its own pixels."""
        image = self.vae.decode(latent)
        if image.ndim == 5:
            image = image.reshape(-1, *image.shape[-3:])
        if self.keep is None:
            return image
        kept = self.keep.unsqueeze(-1).to(image)
        return image * (1 - kept) + self.source.to(image) * kept

    @staticmethod
    def is_out_of_memory(error: Exception) -> bool:
        return comfy.model_management.is_oom(error)

    @staticmethod
    def free_memory() -> None:
        comfy.model_management.soft_empty_cache()


def on_grid(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A picture float [1,H,W,C] as RGB at (width, height)."""
    return resized(as_rgb(pixels), size)
