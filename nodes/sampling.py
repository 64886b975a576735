"""Pictures made through the host's own calls: latents, sampling, decoding, and LoRAs put on models. Shared by the rooms that make pictures; about the host."""

from collections.abc import Callable, Sequence
from pathlib import Path

import comfy.lora
import comfy.lora_convert
import comfy.model_management
import comfy.sample
import comfy.utils
import latent_preview
import torch

# What is held free beside what the host thinks that decoding takes.
AMPLE = 1.5
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "backend out of memory", "Invalid buffer size", "ALLOC_FAILED")


def empty_latent(model, width: int, height: int) -> torch.Tensor:
    """The latent of nothing at a picture's size, as the host's empty latent nodes and KSampler make it for this model."""
    device, dtype = comfy.model_management.intermediate_device(), comfy.model_management.intermediate_dtype()
    ratio = model.get_model_object("latent_format").spacial_downscale_ratio
    return comfy.sample.fix_empty_latent_channels(model, torch.zeros((1, 4, height // ratio, width // ratio), device=device, dtype=dtype))


def uses_negative(model, cfg: float, sampler: str) -> bool:
    """Whether the host looks at the negative prompt: not at cfg 1, unless something on the model asks for it (comfy/samplers.py), or the sampler, as those of
    CFG++ do (comfy/k_diffusion/sampling.py)."""
    return cfg != 1.0 or bool(model.model_options.get("disable_cfg1_optimization")) or "cfg_pp" in sampler


def goes_row_by_row(model) -> bool:
    """Whether nothing on a model could tie the rows of a batch to each other. Weights (LoRAs) and shifts cannot; of functions that nodes put on it some do
    (the means of Mahiro and EasyCache are of the whole batch), and of most nothing is known."""
    options = model.model_options
    functions = [value for name, value in options.items() if name not in ("transformer_options", "disable_cfg1_optimization")]
    wrappers = [called for kind in model.wrappers.values() for key, called in kind.items() if key != "torch.compile"]
    there = [*functions, *options.get("transformer_options", {}).values(), *wrappers, model.object_patches.keys() - {"model_sampling"}]
    return all(value is None or value is False or (hasattr(value, "__len__") and len(value) == 0) for value in there)


def sample(
    model,
    settings,
    positive: list,
    negative: list | None,
    start: torch.Tensor,
    seeds: Sequence[int],
    step: Callable[[int, int, object], None],
    denoise: float = 1.0,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The latents of these seeds, sampled as one batch; of one seed the latent that KSampler would give.

    settings: has steps, cfg, sampler and scheduler. negative: None where it does not count. start: the latent to begin with, of one picture. step: called
    with (done, all, preview) after each step. mask: float [1,1,H,W], 1 where it is sampled. Each row begins with the noise of its own seed; what a sampler
    draws on the way (ancestral and SDE ones) it draws for the whole batch, from the first.
    """
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    noise = [comfy.sample.prepare_noise(start, seed) for seed in seeds]

    def callback(done, x0, x, total):
        step(done + 1, total, previewer.decode_latent_to_preview_image("JPEG", x0) if previewer else None)

    return comfy.sample.sample(
        model,
        noise[0] if len(seeds) == 1 else torch.cat(noise),
        settings.steps,
        settings.cfg,
        settings.sampler,
        settings.scheduler,
        positive,
        # At cfg 1 the host never looks at the negative: the positive stands in its place.
        positive if negative is None else negative,
        start if len(seeds) == 1 else start.repeat(len(seeds), *[1] * (start.ndim - 1)),
        denoise=denoise,
        noise_mask=mask,
        callback=callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seeds[0],
    )


def fit_at_once(vae, latents: torch.Tensor) -> bool:
    """Whether there is ample memory to decode latents [N,...] at once. Where it runs out the host decodes all of them in tiles, unasked."""
    needed = vae.memory_used_decode(latents.shape, vae.vae_dtype) * len(latents)
    return AMPLE * needed < comfy.model_management.get_free_memory(vae.device)


def decode(vae, latent: torch.Tensor) -> torch.Tensor:
    """The pictures of a latent [N,...], float [N,H,W,3]."""
    image = vae.decode(latent)
    return image.reshape(-1, *image.shape[-3:]) if image.ndim == 5 else image


def is_out_of_memory(error: Exception) -> bool:
    """As the host sees it, and by the words of backends that have no error of their own for it: torch on the CPU, MPS, cuBLAS."""
    return comfy.model_management.is_oom(error) or (isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY))


def free_memory() -> None:
    comfy.model_management.soft_empty_cache()


# ---- LoRAs -----------------------------------------------------------------------------------------------------------


def read_patches(path: Path, model, clip=None) -> dict:
    """What a LoRA file changes in a model, and in a text encoder where one is given, as the host's LoRA loaders read it."""
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    if clip is not None:
        keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, keys)
    weights = comfy.utils.load_torch_file(str(path), safe_load=True)
    return comfy.lora.load_lora(comfy.lora_convert.convert_lora(weights), keys, log_missing=False)


def with_patches(model, patches: dict, strength: float) -> tuple[object, int]:
    """A clone of a model or text encoder with a LoRA on it, and how many of its weights that changes."""
    patched = model.clone()
    return patched, len(patched.add_patches(patches, strength))
