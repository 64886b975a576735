"""Tiny files with the true key layouts of Qwen-Image, its text encoder, its VAE and its LoRAs; no test lives here.

The host's own loaders read them (the DiT and the text encoder with the help of tests/tiny/qwen_host, because the host
takes their sizes for granted). They test plumbing, shapes, caching and determinism, never quality: the weights are
random and seeded, scaled so that activations stay near 1, and the output depends on prompt, pictures and seed.

The VAE is not random: its latent's first three channels are the colours of 8x8 squares, and decoding gives the
squares back, so swapped channels and a lost source picture show.
"""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import save

HEAD = 128  # width of an attention head in the DiT and the text encoder
TEXT = 64  # width of the text encoder; 3584 in the real one
VOCABULARY = 152064  # rows of the real one, because the real tokenizer is used
VISION = 32  # width of the vision tower; 1280 in the real one


class _Weights(dict):
    """The tensors of one file, filled from one seed."""

    def __init__(self, seed, dtype=np.float32):
        self.random, self.dtype = np.random.default_rng(seed), dtype

    def normal(self, name, shape, deviation=1.0, mean=0.0):
        self[name] = (self.random.standard_normal(shape, np.float32) * np.float32(deviation) + np.float32(mean)).astype(self.dtype)

    def linear(self, name, wide_out, wide_in, gain=1.0, bias=True):
        """Keeps a unit variance, times gain."""
        self.normal(f"{name}.weight", (wide_out, wide_in), gain / wide_in**0.5)
        if bias:
            self.normal(f"{name}.bias", (wide_out,), 0.05)

    def norm(self, name, width, mean=1.0, bias=False):
        self.normal(f"{name}.weight", (width,), 0.05, mean)
        if bias:
            self.normal(f"{name}.bias", (width,), 0.05)

    def write(self, path, metadata=None):
        """A file that is there with the same size stays as it is: a running host may have it open."""
        path, content = Path(path), save(dict(self), metadata)
        if not path.is_file() or path.stat().st_size != len(content):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            part.write_bytes(content)
            os.replace(part, path)
        return path


# ---- the three models ------------------------------------------------------------------------------------------------


def write_dit(path, method=None, seed=0, heads=1, blocks=2):
    """A Qwen-Image diffusion model, float32, `heads` x 128 wide.

    method: how the file says references are placed. None is Qwen-Image and Edit-2509 (index); "index_timestep_zero"
    is Edit-2511, marked by an empty tensor; "layered" is Qwen-Image-Layered (negative_index), marked by its second
    time embedding.
    """
    wide, tensors = heads * HEAD, _Weights(seed)
    tensors.linear("time_text_embed.timestep_embedder.linear_1", wide, 256, 1.5)
    tensors.linear("time_text_embed.timestep_embedder.linear_2", wide, wide, 2.0)
    tensors.norm("txt_norm", TEXT)
    tensors.linear("img_in", wide, 64)
    tensors.linear("txt_in", wide, TEXT)
    for block in range(blocks):
        at = f"transformer_blocks.{block}"
        for stream in ("img", "txt"):
            tensors.linear(f"{at}.{stream}_mod.1", 6 * wide, wide, 0.7)
            tensors.linear(f"{at}.{stream}_mlp.net.0.proj", 4 * wide, wide)
            tensors.linear(f"{at}.{stream}_mlp.net.2", wide, 4 * wide, 2.0)
        for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"):
            # Attention averages over many tokens. It is sharp, most of all for words, and loud, so that one word of the prompt shows.
            tensors.linear(f"{at}.attn.{name}", wide, wide, 4.0 if name.startswith(("to_out", "to_add")) else 1.0)
        for name, sharpness in {"norm_q": 2.0, "norm_k": 1.5, "norm_added_q": 2.0, "norm_added_k": 3.0}.items():
            tensors.norm(f"{at}.attn.{name}", HEAD, sharpness)
    tensors.linear("norm_out.linear", 2 * wide, wide, 0.3)
    tensors.linear("proj_out", 64, wide, 0.4)
    # Predicts mostly the noise that it is given, so that a finished picture is more than its noise.
    tensors["img_in.weight"][:64] += np.eye(64, dtype=np.float32)
    tensors["proj_out.weight"][:, :64] += np.eye(64, dtype=np.float32)
    if method == "index_timestep_zero":
        tensors["__index_timestep_zero__"] = np.zeros(0, np.float32)
    elif method == "layered":
        tensors.normal("time_text_embed.addition_t_embedding.weight", (2, wide), 0.5)
    elif method is not None:
        raise ValueError(method)
    return tensors.write(path)


def write_text_encoder(path, layers=2, vision_blocks=2, seed=0):
    """Qwen2.5-VL as the host expects it: 4 heads and 4 key heads of 128, which is the 512 it tells the 7B model by."""
    tensors, inner = _Weights(seed, np.float16), 4 * HEAD
    tensors.normal("model.embed_tokens.weight", (VOCABULARY, TEXT))
    for layer in range(layers):
        at = f"model.layers.{layer}"
        tensors.norm(f"{at}.input_layernorm", TEXT)
        for name in ("q_proj", "k_proj", "v_proj"):
            tensors.linear(f"{at}.self_attn.{name}", inner, TEXT)
        tensors.linear(f"{at}.self_attn.o_proj", TEXT, inner, 2.0, bias=False)
        tensors.norm(f"{at}.post_attention_layernorm", TEXT)
        for name, shape in {"gate_proj": (2 * TEXT, TEXT), "up_proj": (2 * TEXT, TEXT), "down_proj": (TEXT, 2 * TEXT)}.items():
            tensors.linear(f"{at}.mlp.{name}", *shape, bias=False)
    tensors.norm("model.norm", TEXT)
    tensors.normal("visual.patch_embed.proj.weight", (VISION, 3, 2, 14, 14), 0.05)
    for block in range(vision_blocks):
        at = f"visual.blocks.{block}"
        tensors.norm(f"{at}.norm1", VISION)
        tensors.norm(f"{at}.norm2", VISION)
        tensors.linear(f"{at}.attn.qkv", 3 * VISION, VISION)
        tensors.linear(f"{at}.attn.proj", VISION, VISION)
        for name, shape in {"gate_proj": (2 * VISION, VISION), "up_proj": (2 * VISION, VISION), "down_proj": (VISION, 2 * VISION)}.items():
            tensors.linear(f"{at}.mlp.{name}", *shape)
    tensors.norm("visual.merger.ln_q", VISION)
    tensors.linear("visual.merger.mlp.0", 4 * VISION, 4 * VISION)
    tensors.linear("visual.merger.mlp.2", TEXT, 4 * VISION, 1.5)
    return tensors.write(path)


def write_vae(path, dim=4, channels=16, seed=0):
    """The Wan 2.1 VAE with `dim` instead of 96 and a latent of 16 channels, whose meaning is told at the top.

    A fourth, large and constant channel takes the normalisation's freedom away: beside it the three colours pass
    RMS norm and SiLU as good as linearly. The 13 other latent channels are 0 when encoded and tint when decoded.
    """
    constant, brightness, faint = 32.0, 5.0, 0.1
    tensors = _Weights(seed)
    widths = [dim, dim, 2 * dim, 4 * dim, 4 * dim]

    def conv(name, wide_out, wide_in, *kernel, keep=None):
        """The first `keep` channels pass (by default as many as there are); the rest is 0."""
        weight = np.zeros((wide_out, wide_in, *kernel), np.float32)
        for channel in range(min(wide_out, wide_in) if keep is None else keep):
            # The middle pixel of the newest frame: the host looks at one frame only through that.
            weight[(channel, channel, *(size - 1 if place == 0 and len(kernel) == 3 else size // 2 for place, size in enumerate(kernel)))] = 1
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight, np.zeros(wide_out, np.float32)
        return weight

    def gamma(name, width, value=1.0, pictures=False):
        tensors[f"{name}.gamma"] = np.full((width, *(1,) * (2 if pictures else 3)), value, np.float32)

    def residual(name, wide_in, wide_out):
        gamma(f"{name}.residual.0", wide_in)
        tensors.normal(f"{name}.residual.2.weight", (wide_out, wide_in, 3, 3, 3), 0.1)
        tensors.normal(f"{name}.residual.2.bias", (wide_out,), 0.1)
        gamma(f"{name}.residual.3", wide_out)
        conv(f"{name}.residual.6", wide_out, wide_out, 3, 3, 3, keep=0)
        if wide_in != wide_out:
            conv(f"{name}.shortcut", wide_out, wide_in, 1, 1, 1)

    def middle(name, width):
        residual(f"{name}.0", width, width)
        gamma(f"{name}.1.norm", width, pictures=True)
        conv(f"{name}.1.to_qkv", 3 * width, width, 1, 1)
        conv(f"{name}.1.proj", width, width, 1, 1, keep=0)
        residual(f"{name}.2", width, width)

    def head(name, width, wide_out):
        gamma(f"{name}.0", width, faint)
        weight = conv(f"{name}.2", wide_out, width, 3, 3, 3, keep=3)
        # RMS norm: x * sqrt(width) * gamma / constant. SiLU near 0: x / 2.
        weight *= 2 * constant / (faint * width**0.5)
        return weight

    layer = 0
    conv("encoder.conv1", dim, 3, 3, 3, 3)
    tensors["encoder.conv1.bias"][3] = constant
    for stage, (wide_in, wide_out) in enumerate(pairwise(widths)):
        for width in (wide_in, wide_out):
            residual(f"encoder.downsamples.{layer}", width, wide_out)
            layer += 1
        if stage < 3:
            mean = conv(f"encoder.downsamples.{layer}.resample.1", wide_out, wide_out, 3, 3)
            mean[:, :, :2, :2] = mean[:, :, 1:2, 1:2] / 4  # the third row and column reach into the padding
            if stage:
                conv(f"encoder.downsamples.{layer}.time_conv", wide_out, wide_out, 3, 1, 1)
            layer += 1
    middle("encoder.middle", widths[-1])
    weight = head("encoder.head", widths[-1], 2 * channels)
    weight *= brightness
    conv("conv1", 2 * channels, 2 * channels, 1, 1, 1)

    layer, wide = 0, widths[-1]
    conv("conv2", channels, channels, 1, 1, 1)
    weight = conv("decoder.conv1", wide, channels, 3, 3, 3, keep=3)
    weight[:3] /= brightness
    weight[:3, 3:, 2, 1, 1] = tensors.random.standard_normal((3, channels - 3)) * 0.1
    tensors["decoder.conv1.bias"][3] = constant
    middle("decoder.middle", wide)
    for stage, wide_out in enumerate(widths[:0:-1]):
        for _ in range(3):
            residual(f"decoder.upsamples.{layer}", wide, wide_out)
            wide, layer = wide_out, layer + 1
        if stage < 3:
            conv(f"decoder.upsamples.{layer}.resample.1", wide // 2, wide, 3, 3)
            if stage < 2:
                time = conv(f"decoder.upsamples.{layer}.time_conv", 2 * wide, wide, 3, 1, 1)
                time[wide:] = time[:wide]  # both frames that it makes of one
            wide, layer = wide // 2, layer + 1
    head("decoder.head", wide, 3)
    return tensors.write(path)


# ---- LoRAs -----------------------------------------------------------------------------------------------------------

LORA_LAYERS = {  # outputs and inputs, in widths of the model
    **{f"attn.{name}": (1, 1) for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")},
    **{f"{stream}_mlp.net.2": (1, 4) for stream in ("img", "txt")},
}
# Prefix, how a dot is written, and the endings of the two matrices.
LORA_KINDS = {
    "peft": ("diffusion_model.", ".", "lora_A", "lora_B"),  # ai-toolkit, diffusion-pipe
    "diffusers": ("", ".", "lora_A", "lora_B"),
    "dora": ("diffusion_model.", ".", "lora_A", "lora_B"),  # peft with a magnitude per output, in LyCORIS' key
    "kohya": ("", ".", "lora_down", "lora_up"),  # lightx2v's Lightning files
    "musubi": ("lora_unet_", "_", "lora_down", "lora_up"),  # musubi-tuner
}


def write_lora(path, kind="peft", rank=4, blocks=2, scale=0.5, metadata=None, seed=0, heads=1):
    """A LoRA for write_dit, float32, in one of LORA_KINDS. scale: how large its change is beside the weights themselves.

    The kinds with lora_down carry `alpha` = rank. metadata: the file's own, strings to strings.
    """
    prefix, dot, down, up = LORA_KINDS[kind]
    tensors = _Weights(seed)
    for block in range(blocks):
        for layer, (wide_out, wide_in) in LORA_LAYERS.items():
            name = prefix + f"transformer_blocks.{block}.{layer}".replace(".", dot)
            _low_rank(tensors, name, (wide_out * heads * HEAD, wide_in * heads * HEAD), rank, scale, down, up)
            if kind == "dora":
                tensors.normal(f"{name}.dora_scale", (wide_out * heads * HEAD, 1), 0.2, 1.0)
    return tensors.write(path, metadata)


def write_shifting_lora(path, shift, kind="diff_b", metadata=None):
    """A LoRA of known effect on write_dit: at strength 1 it moves the mean of every latent that is finished in two steps by about twice `shift`, in
    proportion to the strength; with 0 every picture stays as it is, to the last bit."""
    tensors = _Weights(0)
    # The model predicts noise minus picture, so what is taken from its output is added to the picture.
    tensors[f"diffusion_model.proj_out.{kind}"] = np.full(64, -shift, np.float32)
    return tensors.write(path, metadata)


def write_flux_lora(path, rank=2, blocks=1, metadata=None, seed=0):
    """A LoRA for Flux: no key of it fits Qwen-Image."""
    tensors = _Weights(seed)
    for block in range(blocks):
        _low_rank(tensors, f"lora_unet_double_blocks_{block}_img_attn_qkv", (9216, 3072), rank, 0.5, "lora_down", "lora_up")
        _low_rank(tensors, f"lora_unet_single_blocks_{block}_linear2", (3072, 15360), rank, 0.5, "lora_down", "lora_up")
    return tensors.write(path, metadata)


def _low_rank(tensors, name, shape, rank, scale, down, up):
    tensors.normal(f"{name}.{down}.weight", (rank, shape[1]), shape[1] ** -0.5)
    tensors.normal(f"{name}.{up}.weight", (shape[0], rank), scale / rank**0.5)
    if up == "lora_up":
        tensors[f"{name}.alpha"] = np.array(rank, np.float32)


# ---- models of another family ----------------------------------------------------------------------------------------


def write_wrong_vae(path, seed=0):
    """TAESD, the smallest VAE that the host takes as it is: 4 channels, no frames."""
    tensors = _Weights(seed, np.float16)

    def conv(name, wide_out=64, wide_in=64, bias=True):
        tensors.normal(f"{name}.weight", (wide_out, wide_in, 3, 3), (wide_in * 9) ** -0.5)
        if bias:
            tensors.normal(f"{name}.bias", (wide_out,), 0.05)

    def blocks(side, *layers):
        for layer in layers:
            for part in (0, 2, 4):
                conv(f"taesd_{side}.{layer}.conv.{part}")

    conv("taesd_encoder.0", 64, 3)
    blocks("encoder", 1, 3, 4, 5, 7, 8, 9, 11, 12, 13)
    for layer in (2, 6, 10):
        conv(f"taesd_encoder.{layer}", bias=False)
    conv("taesd_encoder.14", 4, 64)
    conv("taesd_decoder.1", 64, 4)
    blocks("decoder", 3, 4, 5, 8, 9, 10, 13, 14, 15, 18)
    for layer in (7, 12, 17):
        conv(f"taesd_decoder.{layer}", bias=False)
    conv("taesd_decoder.19", 3, 64)
    tensors["vae_scale"], tensors["vae_shift"] = np.array(0.18215, np.float32), np.array(0, np.float32)
    return tensors.write(path)


def write_wrong_clip(path, width=16, layers=2, seed=0):
    """CLIP-L, narrow: what Load CLIP makes of it is a text encoder of Stable Diffusion 1. The host tells it by its second layer."""
    tensors = _Weights(seed, np.float16)
    tensors.normal("text_model.embeddings.token_embedding.weight", (49408, width))
    tensors.normal("text_model.embeddings.position_embedding.weight", (77, width), 0.1)
    for layer in range(layers):
        at = f"text_model.encoder.layers.{layer}"
        for name in ("layer_norm1", "layer_norm2"):
            tensors.norm(f"{at}.{name}", width, bias=True)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors.linear(f"{at}.self_attn.{name}", width, width)
        tensors.linear(f"{at}.mlp.fc1", 4 * width, width)
        tensors.linear(f"{at}.mlp.fc2", width, 4 * width)
    tensors.norm("text_model.final_layer_norm", width, bias=True)
    tensors.linear("text_projection", width, width, bias=False)
    return tensors.write(path)


# ---- all of them under their real names ------------------------------------------------------------------------------

EDIT_2511 = "qwen_image_edit_2511_fp8mixed.safetensors"
EDIT_2511_BF16 = "qwen_image_edit_2511_bf16.safetensors"  # the same weights as EDIT_2511
EDIT_2511_REPACK = "my_repack_of_qwen_edit_2511.safetensors"  # the same again, without the key that says 2511
EDIT_2509 = "qwen_image_edit_2509_fp8_e4m3fn.safetensors"
IMAGE_2512 = "qwen_image_2512_fp8_e4m3fn.safetensors"
LAYERED = "qwen_image_layered_bf16.safetensors"
TEXT_ENCODER = "qwen_2.5_vl_7b_fp8_scaled.safetensors"
VAE = "qwen_image_vae.safetensors"
WRONG_VAE = "wrong_vae.safetensors"
WRONG_CLIP = "wrong_clip.safetensors"
LIGHTNING_2511 = "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors"
LIGHTNING_2509 = "Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors"
LIGHTNING_2512 = "Qwen-Image-2512-Lightning-4steps-V1.0-fp32.safetensors"
ANGLES_2509 = "Qwen-Edit-2509-Multiple-angles.safetensors"
ANGLES_2511 = "qwen-image-edit-2511-multiple-angles-lora.safetensors"
CHARACTER_LORA = "mira_character.safetensors"
STYLE_LORA = "film_style.safetensors"
DORA = "dora_character.safetensors"
FLUX_LORA = "some_flux_lora.safetensors"

DIFFUSION_MODELS = {
    EDIT_2511: {"method": "index_timestep_zero", "seed": 2511},
    EDIT_2511_BF16: {"method": "index_timestep_zero", "seed": 2511},
    EDIT_2511_REPACK: {"seed": 2511},
    EDIT_2509: {"seed": 2509},
    IMAGE_2512: {"seed": 2512},
    LAYERED: {"method": "layered", "seed": 950},
}
CHARACTER_METADATA = {
    "modelspec.title": "Mira",
    "modelspec.architecture": "qwen-image/lora",
    "modelspec.trigger_phrase": "mira_k",
    "ss_network_dim": "4",
    "ss_network_alpha": "4",
}
LORAS = {
    LIGHTNING_2511: {"kind": "kohya", "seed": 1},
    LIGHTNING_2509: {"kind": "kohya", "seed": 2},
    LIGHTNING_2512: {"kind": "kohya", "seed": 3},
    ANGLES_2509: {"kind": "peft", "seed": 4},
    ANGLES_2511: {"kind": "diffusers", "seed": 5},
    CHARACTER_LORA: {"kind": "musubi", "seed": 6, "metadata": CHARACTER_METADATA},
    STYLE_LORA: {"kind": "peft", "seed": 7},
    DORA: {"kind": "dora", "seed": 8},
}


def write_all(models_dir):
    """Everything above under `models_dir`, in the folders that the host's loaders look into; returns their paths."""
    models = Path(models_dir)
    return [
        *(write_dit(models / "diffusion_models" / name, **options) for name, options in DIFFUSION_MODELS.items()),
        write_text_encoder(models / "text_encoders" / TEXT_ENCODER),
        write_wrong_clip(models / "text_encoders" / WRONG_CLIP),
        write_vae(models / "vae" / VAE),
        write_wrong_vae(models / "vae" / WRONG_VAE),
        *(write_lora(models / "loras" / name, **options) for name, options in LORAS.items()),
        write_flux_lora(models / "loras" / FLUX_LORA),
    ]
