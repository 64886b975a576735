"""Tiny files with the true key layouts of Flux, its text encoders, its VAE, the two image encoders and the IP-Adapters; no test lives here.

The host's own loaders read them (the encoders and the VAE with the help of tests/tiny/qwen_host, because the host takes
their sizes for granted; Flux loads as it is). They test plumbing, shapes, caching and determinism, never quality: the
weights are random and seeded, scaled so that activations stay near 1, and the output depends on prompt, picture and seed.

The VAE is not random: its latent's first three channels are the colours of 8x8 squares, and decoding gives the squares
back with their contrast stretched (the last norm has one channel per group, so a colour's mean and strength are lost).

An adapter's sizes have the same names everywhere: `width` of the picture's embedding, `context` of the tokens made of it,
`hidden` of Flux. What is 768, 1152, 4096 and 3072 in the real files is PROJECTION, SIGLIP, CONTEXT and HIDDEN here.
"""

import argparse
import io
import json
import os
import pickle
from pathlib import Path

import numpy as np

from tests.tiny.qwen_models import _Weights, write_flux_lora, write_wrong_clip

HEAD = 128  # width of an attention head in Flux; the host divides by it
HEADS = 2  # 24 in the real one
HIDDEN = HEADS * HEAD
DEPTH, SINGLE = 2, 3  # double and single blocks; 19 and 38 in the real one
CONTEXT = 64  # width of T5; 4096 in the real one
POOLED = 16  # width of CLIP-L; 768 in the real one
PROJECTION = 24  # of the CLIP image encoder; 768 in the real one
SIGLIP = 48  # width of the SigLIP image encoder; 1152 in the real one
LATENT = 64  # 16 channels in patches of 2x2


def _put(path, content):
    """A file that is there with the same size stays as it is: a running host may have it open."""
    path = Path(path)
    if not path.is_file() or path.stat().st_size != len(content):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(content)
        os.replace(part, path)
    return path


# ---- what makes a picture --------------------------------------------------------------------------------------------


def write_flux(path, dev=True, heads=HEADS, depth=DEPTH, single=SINGLE, channels=LATENT, context=CONTEXT, pooled=POOLED, seed=0, scaled_fp8=False):
    """A Flux diffusion model in Black Forest Labs' keys, float16, `heads` x 128 wide.

    dev: with the embedding of the guidance; schnell has none. channels: 64, or 384 in Fill, which is given a picture and a mask besides. scaled_fp8: the
    matrices of the blocks in float8_e4m3fn with a scale each, as in the host's own fp8_scaled files; needs torch.
    """
    wide, tensors = heads * HEAD, _Weights(seed, np.float16)

    def embedder(name, wide_in, gain):
        tensors.linear(f"{name}.in_layer", wide, wide_in, 1.5)
        tensors.linear(f"{name}.out_layer", wide, wide, gain)

    def head_norms(name):
        # Attention averages over many tokens. It is sharp, so that one word of the prompt shows.
        for norm in ("query_norm", "key_norm"):
            tensors.normal(f"{name}.{norm}.scale", (HEAD,), 0.05, 2.0)

    tensors.linear("img_in", wide, channels)
    tensors.linear("txt_in", wide, context)
    embedder("time_in", 256, 2.0)
    embedder("vector_in", pooled, 1.0)
    if dev:
        embedder("guidance_in", 256, 1.0)
    for block in range(depth):
        for stream in ("img", "txt"):
            at = f"double_blocks.{block}.{stream}"
            tensors.linear(f"{at}_mod.lin", 6 * wide, wide, 0.7)
            tensors.linear(f"{at}_attn.qkv", 3 * wide, wide)
            tensors.linear(f"{at}_attn.proj", wide, wide, 2.0)
            head_norms(f"{at}_attn.norm")
            tensors.linear(f"{at}_mlp.0", 4 * wide, wide)
            tensors.linear(f"{at}_mlp.2", wide, 4 * wide)
    for block in range(single):
        at = f"single_blocks.{block}"
        tensors.linear(f"{at}.modulation.lin", 3 * wide, wide, 0.7)
        tensors.linear(f"{at}.linear1", 7 * wide, wide)
        tensors.linear(f"{at}.linear2", wide, 5 * wide)
        head_norms(f"{at}.norm")
    tensors.linear("final_layer.adaLN_modulation.1", 2 * wide, wide, 0.3)
    tensors.linear("final_layer.linear", LATENT, wide, 0.4)
    # Predicts mostly the noise that it is given, so that a finished picture is more than its noise.
    tensors["img_in.weight"][:LATENT, :LATENT] += 3 * np.eye(LATENT, dtype=np.float16)
    tensors["final_layer.linear.weight"][:, :LATENT] += np.eye(LATENT, dtype=np.float16)
    return _put(path, _in_scaled_fp8(tensors)) if scaled_fp8 else tensors.write(path)


def _in_scaled_fp8(tensors):
    """A safetensors file: `scaled_fp8` marks it, and each scale_weight makes the largest value of its matrix the largest of float8_e4m3fn."""
    import torch
    from safetensors.torch import save

    eight = torch.float8_e4m3fn
    out = {"scaled_fp8": torch.empty(0, dtype=eight)}
    for name, values in tensors.items():
        out[name] = torch.from_numpy(values)
        if "_blocks." in name and values.ndim == 2:
            scale = out[name].float().abs().max() / torch.finfo(eight).max
            out[name] = (out[name].float() / scale).to(eight)
            out[f"{name.removesuffix('.weight')}.scale_weight"] = scale
    return save(out)


def write_t5(path, width=CONTEXT, layers=2, heads=2, seed=0):
    """T5's encoder as the host expects it, float16. Padding is 0 at first, so all 256 tokens tell of the words."""
    tensors, head = _Weights(seed, np.float16), 64
    tensors.normal("shared.weight", (32128, width))
    tensors["shared.weight"][0] = 0
    for layer in range(layers):
        at = f"encoder.block.{layer}.layer"
        tensors.norm(f"{at}.0.layer_norm", width)
        for name in ("q", "k", "v"):
            tensors.linear(f"{at}.0.SelfAttention.{name}", heads * head, width, bias=False)
        tensors.linear(f"{at}.0.SelfAttention.o", width, heads * head, 2.0, bias=False)
        if layer == 0:
            tensors.normal(f"{at}.0.SelfAttention.relative_attention_bias.weight", (32, heads))
        tensors.norm(f"{at}.1.layer_norm", width)
        for name, shape in {"wi_0": (2 * width, width), "wi_1": (2 * width, width), "wo": (width, 2 * width)}.items():
            tensors.linear(f"{at}.1.DenseReluDense.{name}", *shape, bias=False)
    tensors.norm("encoder.final_layer_norm", width)
    return tensors.write(path)


def write_ae(path, dim=32, channels=16, seed=0):
    """The VAE of Flux, float16, with `dim` instead of 128, and a latent whose meaning is told at the top.

    Each colour travels with its negative (silu(x) - silu(-x) = x) and, while it is encoded, with a large constant that
    takes the group norm's freedom away. The 13 other latent channels are 0 when encoded and tint when decoded.
    """
    constant, brightness, contrast = 32.0, 5.0, 0.5
    tensors = _Weights(seed, np.float16)
    widths = [dim, 2 * dim, 4 * dim, 4 * dim]

    def conv(name, wide_out, wide_in, size=3, keep=True):
        """The channels pass through the middle pixel, as many as there are, or none."""
        weight = np.zeros((wide_out, wide_in, size, size), np.float16)
        if keep:
            weight[range(min(weight.shape[:2])), range(min(weight.shape[:2])), size // 2, size // 2] = 1
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight, np.zeros(wide_out, np.float16)
        return weight

    def norm(name, width):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = np.ones(width, np.float16), np.zeros(width, np.float16)

    def residual(name, wide_in, wide_out):
        norm(f"{name}.norm1", wide_in)
        conv(f"{name}.conv1", wide_out, wide_in)
        norm(f"{name}.norm2", wide_out)
        conv(f"{name}.conv2", wide_out, wide_out, keep=False)
        if wide_in != wide_out:
            conv(f"{name}.nin_shortcut", wide_out, wide_in, 1)

    def middle(name, width):
        residual(f"{name}.block_1", width, width)
        norm(f"{name}.attn_1.norm", width)
        for part in ("q", "k", "v"):
            conv(f"{name}.attn_1.{part}", width, width, 1)
        conv(f"{name}.attn_1.proj_out", width, width, 1, keep=False)
        residual(f"{name}.block_2", width, width)

    first = conv("encoder.conv_in", dim, 3, keep=False)
    last = conv("encoder.conv_out", 2 * channels, widths[-1], keep=False)
    for colour in range(3):
        # One group of the last norm: the colour, its negative and the constant both ways. Its deviation is constant / sqrt(2).
        at = 4 * colour
        first[at, colour, 1, 1], first[at + 1, colour, 1, 1] = 1, -1
        tensors["encoder.conv_in.bias"][at + 2 : at + 4] = constant, -constant
        last[colour, at, 1, 1], last[colour, at + 1, 1, 1] = brightness * constant / 2**0.5, -brightness * constant / 2**0.5
    wide = dim
    for stage, width in enumerate(widths):
        for block in range(2):
            residual(f"encoder.down.{stage}.block.{block}", wide, width)
            wide = width
        if stage < 3:
            mean = conv(f"encoder.down.{stage}.downsample.conv", width, width)
            mean[:, :, :2, :2] = mean[:, :, 1:2, 1:2] / 4  # the third row and column reach into the padding
    middle("encoder.mid", wide)
    norm("encoder.norm_out", wide)

    first = conv("decoder.conv_in", wide, channels, keep=False)
    tint = tensors.random.standard_normal((3, channels - 3)) * 0.1
    last = conv("decoder.conv_out", 3, dim, keep=False)
    for colour in range(3):
        first[2 * colour, colour, 1, 1] = 1 / brightness
        first[2 * colour, 3:, 1, 1] = tint[colour]
        first[2 * colour + 1] = -first[2 * colour]
        last[colour, 2 * colour, 1, 1], last[colour, 2 * colour + 1, 1, 1] = contrast, -contrast
    middle("decoder.mid", wide)
    for stage in (3, 2, 1, 0):
        for block in range(3):
            residual(f"decoder.up.{stage}.block.{block}", wide, widths[stage])
            wide = widths[stage]
        if stage:
            conv(f"decoder.up.{stage}.upsample.conv", wide, wide)
    norm("decoder.norm_out", wide)
    return tensors.write(path)


# ---- image encoders --------------------------------------------------------------------------------------------------

# Layers are as many as in the real ones: the host tells the encoders by them. Widths are multiples of the 16 heads that all three have.
VISION_KINDS = {
    "clip": {"width": 32, "layers": 24, "positions": 257, "projection": PROJECTION},  # openai/clip-vit-large-patch14: 1024 wide
    "siglip": {"width": SIGLIP, "layers": 27, "positions": 729, "projection": None},  # Comfy-Org/sigclip_vision_384
    "vit-h": {"width": 32, "layers": 32, "positions": 257, "projection": 40},  # h94/IP-Adapter: 1280 wide, projected to 1024
}


def write_clip_vision(path, kind="clip", seed=0, **sizes):
    """An image encoder of VISION_KINDS, float32. sizes: what differs from its row there.

    "clip" is a whole CLIP with its text tower, as its repository has it; "siglip" has the pooling head that the host leaves out.
    """
    size = {**VISION_KINDS[kind], **sizes}
    width, positions, siglip, tensors = size["width"], size["positions"], kind == "siglip", _Weights(seed)
    # Next to the picture, what is the same for every picture is faint.
    if siglip:
        tensors.normal("vision_model.embeddings.patch_embedding.bias", (width,), 0.05)
    else:
        tensors.normal("vision_model.embeddings.class_embedding", (width,), 0.1)
        tensors["vision_model.embeddings.position_ids"] = np.arange(positions)[None]
        tensors.norm("vision_model.pre_layrnorm", width, bias=True)
    tensors.normal("vision_model.embeddings.patch_embedding.weight", (width, 3, 14, 14), 0.05)
    tensors.normal("vision_model.embeddings.position_embedding.weight", (positions, width), 0.2)
    _tower(tensors, "vision_model", width, size["layers"])
    tensors.norm("vision_model.post_layernorm", width, bias=True)
    if siglip:
        tensors.normal("vision_model.head.probe", (1, 1, width), 1.0)
        tensors.normal("vision_model.head.attention.in_proj_weight", (3 * width, width), 1.5 / width**0.5)
        tensors.normal("vision_model.head.attention.in_proj_bias", (3 * width,), 0.05)
        tensors.linear("vision_model.head.attention.out_proj", width, width)
        tensors.norm("vision_model.head.layernorm", width, bias=True)
        tensors.linear("vision_model.head.mlp.fc1", 4 * width, width)
        tensors.linear("vision_model.head.mlp.fc2", width, 4 * width)
        return tensors.write(path)
    tensors.linear("visual_projection", size["projection"], width, bias=False)
    if kind == "clip":
        text = 4
        tensors["logit_scale"] = np.array(4.6, np.float32)
        tensors["text_model.embeddings.position_ids"] = np.arange(77)[None]
        tensors.normal("text_model.embeddings.token_embedding.weight", (49408, text))
        tensors.normal("text_model.embeddings.position_embedding.weight", (77, text))
        _tower(tensors, "text_model", text, 12)
        tensors.norm("text_model.final_layer_norm", text, bias=True)
        tensors.linear("text_projection", size["projection"], text, bias=False)
    return tensors.write(path)


def _tower(tensors, name, width, layers):
    for layer in range(layers):
        at = f"{name}.encoder.layers.{layer}"
        for norm in ("layer_norm1", "layer_norm2"):
            tensors.norm(f"{at}.{norm}", width, bias=True)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors.linear(f"{at}.self_attn.{part}", width, width)
        tensors.linear(f"{at}.mlp.fc1", 4 * width, width)
        tensors.linear(f"{at}.mlp.fc2", width, 4 * width, 0.5)


# ---- adapters --------------------------------------------------------------------------------------------------------


def write_xlabs(path, tokens=4, width=PROJECTION, hidden=HIDDEN, context=CONTEXT, blocks=DEPTH, layout="xlabs", dtype=np.float32, gain=2.0, seed=0):
    """XLabs' adapter, one pair of matrices with biases for each double block. v1 has 4 tokens, v2 16.

    layout: "xlabs", or "diffusers", which FluxIPAdapterMixin.load_ip_adapter accepts in a safetensors file besides that one.
    """
    layouts = {
        "xlabs": ("ip_adapter_proj_model", "double_blocks.{}.processor.ip_adapter_double_stream_{}_proj"),
        "diffusers": ("image_proj", "ip_adapter.{}.to_{}_ip"),
    }
    tensors, (projection, block_name) = _Weights(seed, dtype), layouts[layout]
    tensors.linear(f"{projection}.proj", tokens * context, width)
    tensors.norm(f"{projection}.norm", context, bias=True)
    for block in range(blocks):
        tensors.linear(block_name.format(block, "k"), hidden, context)
        tensors.linear(block_name.format(block, "v"), hidden, context, gain)
    return tensors.write(path)


def write_instantx(path, tokens=128, width=SIGLIP, hidden=HIDDEN, context=CONTEXT, blocks=DEPTH + SINGLE, dtype=np.float32, gain=3.0, seed=0):
    """InstantX' adapter, one pair of matrices without biases for each block, double ones first. Needs torch unless the path ends in .safetensors.

    A .bin is the nested dict of the original, a .safetensors its flat mirror.
    """
    tensors = _Weights(seed, dtype)
    tensors.linear("image_proj.proj.0", 2 * width, width)
    tensors.linear("image_proj.proj.2", tokens * context, 2 * width)
    tensors.norm("image_proj.norm", context, bias=True)
    for block in range(blocks):
        tensors.linear(f"ip_adapter.{block}.to_k_ip", hidden, context, bias=False)
        tensors.linear(f"ip_adapter.{block}.to_v_ip", hidden, context, gain, bias=False)
    if Path(path).suffix == ".safetensors":
        return tensors.write(path)
    import torch

    nested = {"image_proj": {}, "ip_adapter": {}}
    for name, values in tensors.items():
        part, _, key = name.partition(".")
        nested[part][key] = torch.from_numpy(values)
    return _put(path, _pickled(nested))


def _pickled(value):
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


# ---- files that are no adapter ---------------------------------------------------------------------------------------


class _Bomb:
    """Makes a file when it is unpickled by a loader that runs what it reads."""

    def __init__(self, marker):
        self._marker = str(marker)

    def __reduce__(self):
        return open, (self._marker, "w")


def write_bad(folder):
    """Files that a user may choose by mistake, and worse ones; name -> path. Needs torch.

    "malicious" and "malicious legacy" (a bare pickle, as torch wrote it before 1.6) make `folder`/unpickled when a
    loader runs what it reads. "object" and "no tensor" are pickles, the first with an object that is none of torch's.
    """
    import torch

    folder = Path(folder)
    control, sdxl = _Weights(1, np.float16), _Weights(2, np.float16)
    control.linear("controlnet_blocks.0", HIDDEN, HIDDEN)
    control.normal("input_hint_block.0.weight", (16, 3, 3, 3))
    control.linear("img_in", HIDDEN, LATENT)
    control.linear("double_blocks.0.img_attn.qkv", 3 * HIDDEN, HIDDEN)
    control.normal("double_blocks.0.img_attn.norm.key_norm.scale", (HEAD,))
    sdxl.linear("image_proj.proj", 8192, 1280)
    sdxl.norm("image_proj.norm", 2048, bias=True)
    for block, wide in {1: 640, 3: 640, 9: 1280}.items():
        for name in ("to_k_ip", "to_v_ip"):
            sdxl.linear(f"ip_adapter.{block}.{name}", wide, 2048, bias=False)
    whole = write_xlabs(folder / "whole.safetensors").read_bytes()
    bomb = {"image_proj": {"proj.0.weight": torch.zeros(2, 2)}, "ip_adapter": _Bomb(folder / "unpickled")}
    return {
        "lora": write_flux_lora(folder / "lora.safetensors"),
        "controlnet": control.write(folder / "controlnet.safetensors"),
        "sdxl": sdxl.write(folder / "ip-adapter_sdxl.safetensors"),
        "text": _put(folder / "text.safetensors", b"<!DOCTYPE html><title>Access to this model is restricted</title>\n"),
        "empty": _put(folder / "empty.safetensors", b""),
        "truncated": _put(folder / "truncated.safetensors", whole[: len(whole) // 2]),
        "json": _put(folder / "json.bin", json.dumps({"image_proj": {}, "ip_adapter": {}}).encode()),
        "malicious": _put(folder / "malicious.bin", _pickled(bomb)),
        "malicious legacy": _put(folder / "malicious_legacy.bin", pickle.dumps(bomb["ip_adapter"], protocol=2)),
        "object": _put(folder / "object.bin", _pickled({"image_proj": {}, "ip_adapter": argparse.Namespace(blocks=2)})),
        "no tensor": _put(folder / "no_tensor.bin", _pickled({"image_proj": {"proj.0.weight": "a word"}, "ip_adapter": {"0.to_k_ip.weight": 7}})),
        "list": _put(folder / "list.bin", _pickled([torch.zeros(2, 2)])),
    }


# ---- all of them under their real names ------------------------------------------------------------------------------

DEV = "flux1-dev.safetensors"
SCHNELL = "flux1-schnell.safetensors"
KONTEXT = "flux1-dev-kontext_fp8_scaled.safetensors"
FILL = "flux1-fill-dev.safetensors"
CLIP_L = "clip_l.safetensors"
T5 = "t5xxl_fp8_e4m3fn.safetensors"
AE = "ae.safetensors"
CLIP_VISION = "clip-vit-large-patch14.safetensors"
SIGLIP_VISION = "sigclip_vision_patch14_384.safetensors"
WRONG_VISION = "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"
XLABS_V1 = "flux-ip-adapter.safetensors"
XLABS_V2 = "flux-ip-adapter-v2.safetensors"
INSTANTX = "ip-adapter.bin"

DIFFUSION_MODELS = {
    DEV: {"seed": 100},
    SCHNELL: {"seed": 101, "dev": False},
    KONTEXT: {"seed": 102, "scaled_fp8": True},
    FILL: {"seed": 103, "channels": 384},
}
VISIONS = {CLIP_VISION: "clip", SIGLIP_VISION: "siglip", WRONG_VISION: "vit-h"}


def write_all(models_dir):
    """Everything above but the bad files under `models_dir`, in the folders and under the names that users have; returns their paths."""
    models = Path(models_dir)
    return [
        *(write_flux(models / "diffusion_models" / name, **options) for name, options in DIFFUSION_MODELS.items()),
        write_wrong_clip(models / "text_encoders" / CLIP_L, POOLED, seed=1),  # CLIP-L is wrong for Qwen-Image only
        write_t5(models / "text_encoders" / T5),
        write_ae(models / "vae" / AE),
        *(write_clip_vision(models / "clip_vision" / name, kind) for name, kind in VISIONS.items()),
        write_xlabs(models / "xlabs" / "ipadapters" / XLABS_V1, 4, seed=1),
        write_xlabs(models / "xlabs" / "ipadapters" / XLABS_V2, 16, seed=2),
        write_instantx(models / "ipadapter-flux" / INSTANTX, seed=3),
    ]
