"""What is wired: telling Qwen-Image models, text encoders and VAEs from others, putting LoRAs and sampling settings on a model. About the host; nothing is sampled here."""

from collections.abc import Sequence
from pathlib import Path

import comfy.model_base

from .. import sampling
from ..errors import InputError
from ..lora_files import Applied
from .presets import AUTO, ModelKind, Settings, read_kind

# Where a model carries the LoRAs that Character LoRA put on it; clones of the model keep it.
STACK = "likeness_loras"

# Text encoders and VAEs by the host's own modules, in the words of its loaders.
_ENCODERS = {
    "sd1_clip": "CLIP-L (Stable Diffusion 1.5)",
    "sdxl_clip": "CLIP-L and CLIP-G (SDXL)",
    "sd2_clip": "OpenCLIP-H (Stable Diffusion 2)",
    "sd3_clip": "the encoder of Stable Diffusion 3",
    "flux": "the encoder of Flux",
    "wan": "UMT5 (Wan)",
    "hunyuan_video": "the encoder of HunyuanVideo",
    "hunyuan_image": "Qwen2.5-VL loaded for HunyuanImage",
    "longcat_image": "Qwen2.5-VL loaded for LongCat-Image",
    "omnigen2": "Qwen2.5-VL 3B (OmniGen2)",
    "z_image": "Qwen3 4B (Z-Image)",
    "qwen3vl": "Qwen3-VL",
    "lumina2": "Gemma (Lumina 2)",
    "hidream": "the encoder of HiDream",
}


def read_model(model, chosen: str, references: bool, names: Sequence[str] = ()) -> ModelKind:
    """What a wired model is. chosen: of choices.KIND_CHOICES; names: of model files it may come from, where it does not know its own.

    Raises InputError for anything but a Qwen-Image model, and for Qwen-Image-Layered.
    """
    check_model(model)
    # Loaders of other packs bring their own subclasses; Mage-Flow is another family on the same class.
    if not isinstance(model.model, comfy.model_base.QwenImage) or isinstance(model.model, getattr(comfy.model_base, "MageFlow", ())):
        raise InputError(
            f"The model is {type(model.model).__name__}, not Qwen-Image; load a file such as qwen_image_edit_2511_fp8mixed.safetensors with Load Diffusion Model."
        )
    own = model_file(model)
    return read_kind(getattr(model.model.diffusion_model, "default_ref_method", "index"), [own, *names] if own else list(names), chosen, references)


def check_model(model) -> None:
    """Raises InputError where a loader found no model in its file."""
    if model is None:
        raise InputError(
            "The model is empty: the file that it comes from holds no diffusion model; load one such as qwen_image_edit_2511_fp8mixed.safetensors with "
            "Load Diffusion Model."
        )


def kind_if_known(model) -> str | None:
    """What a model is where its file or name tells, without a guess; None for any other model."""
    try:
        kind = read_model(model, AUTO, False)
    except InputError:
        return None
    return None if kind.guessed else kind.name


def model_file(model) -> str | None:
    """The name of the file a model was loaded from, where its loader says so."""
    made = model.cached_patcher_init
    if made is None or not made[1] or not isinstance(made[1][0], str):
        return None
    return Path(made[1][0]).name


def check_clip(clip) -> None:
    """Raises InputError for a text encoder that is not the one of Qwen-Image, named by what it is, and where there is none."""
    if clip is None:
        raise InputError(
            "The clip is empty: the file that it comes from holds no text encoder; load qwen_2.5_vl_7b_fp8_scaled.safetensors with Load CLIP, type qwen_image."
        )
    own = type(clip.cond_stage_model)
    kind = own.__module__.rpartition(".")[2]
    if kind == "qwen_image":
        return
    name = _ENCODERS.get(kind, own.__name__)
    raise InputError(f"The clip is {name}, not the text encoder of Qwen-Image; load qwen_2.5_vl_7b_fp8_scaled.safetensors with Load CLIP, type qwen_image.")


def check_vae(vae) -> None:
    """Raises InputError for a VAE that is not the one of Qwen-Image (Wan 2.1's layout, 16 channels), named by what it is, and where there is none."""
    # Load Checkpoint gives a VAE without a model for a file that has none in it.
    if vae is None or vae.first_stage_model is None:
        raise InputError("The vae is empty: the file that it comes from holds no VAE; load qwen_image_vae.safetensors with Load VAE.")
    model = vae.first_stage_model
    if type(model).__module__ == "comfy.ldm.wan.vae" and vae.latent_channels == 16 and vae.output_channels == 3:
        return
    raise InputError(
        f"The vae is {type(model).__name__} with {vae.latent_channels} latent channels, not the VAE of Qwen-Image; load qwen_image_vae.safetensors with Load VAE."
    )


def with_lora(model, path: Path, strength: float) -> tuple[object, int]:
    """A clone of a model with a LoRA on it, and how many of the model's weights it changes."""
    return sampling.with_patches(model, sampling.read_patches(path, model), strength)


def stack_of(model) -> tuple[Applied, ...]:
    """The LoRAs that Character LoRA put on a model."""
    return model.get_attachment(STACK) or ()


def has_cfg_norm(model) -> bool:
    """Whether the host's CFGNorm was put on a model already."""
    functions = (*model.model_options.get("sampler_post_cfg_function", ()), model.model_options.get("sampler_cfg_function"))
    return any(getattr(function, "__name__", "") in ("cfg_norm", "cfg_norm_pre") for function in functions)


def has_sampling(model) -> bool:
    """Whether a node such as ModelSamplingAuraFlow set the shift of a model already."""
    return "model_sampling" in model.object_patches


def shift_of(model) -> float | None:
    """The shift that such a node set."""
    return getattr(model.object_patches.get("model_sampling"), "shift", None)


def with_settings(model, settings: Settings):
    """A clone of a model that samples with that shift and CFGNorm, as the host's own nodes set them; a CFGNorm that is there already stays alone."""
    from comfy_extras.nodes_cfg import CFGNorm
    from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow

    wanted = settings.cfg_norm and not has_cfg_norm(model)
    (model,) = ModelSamplingAuraFlow().patch_aura(model, settings.shift)
    return CFGNorm.execute(model, settings.cfg_norm).result[0] if wanted else model
