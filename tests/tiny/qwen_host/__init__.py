"""A custom-node pack for the test host alone: it lets ComfyUI load the files of qwen_models.py and flux_models.py in tests/tiny, counts what the host does, and breaks it on request.

TestDigest tells pictures apart to the last bit, TestVision shows what an image encoder made of one, TestBySeed and TestCounted stand for what makes
pictures, TestForeignReplace for another pack's patch of Flux. Files of the real sizes go through as they would without it.

    GET  /test_counts         {"vae_encode": 0, "vae_decode": 0, "text_encode": 0, "vision_encode": 0, "sample": 0, "model_forward": 0, "model_rows": 0,
                               "upscale": 0, "loads": [class names in the order asked for], "files": [names of weight files in the order read],
                               "runs": [seeds of TestBySeed and names of TestCounted in the order run]}
    POST /test_counts/reset   all of them to nothing
    GET  /test_alive          {"vision_encoders": how many of them are in memory}
    POST /test_faults         {"oom_at_sample": 2, "slow": 0.5, "room_for": 3}: the second sampling from now runs out of memory at its first step, once;
                              every forward pass of a diffusion model takes half a second longer; after three more files (PNGs, and what is written as
                              .part) the disk is full. What is left out is off.
"""

import errno
import functools
import hashlib
import importlib.util
import json
import os
import time
import weakref
from pathlib import Path

import comfy.clip_vision
import comfy.ldm.modules.diffusionmodules.model
import comfy.model_base
import comfy.model_detection
import comfy.model_management
import comfy.samplers
import comfy.sd
import comfy.text_encoders.qwen_vl
import comfy.utils
import torch
from aiohttp import web
from PIL import Image
from server import PromptServer


class TestDigest:
    """A text that is equal for equal float pictures and for no others."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE, INPUT_IS_LIST = (), "digest", "test", True, True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}}

    def digest(self, images):
        frames = [frame for batch in images for frame in batch.float().cpu()]
        return {"ui": {"text": [f"{tuple(frame.shape)} {hashlib.sha256(frame.contiguous().numpy()).hexdigest()}" for frame in frames]}}


class TestVision:
    """The embedding of each picture, the mean over its tokens where there is one for each, as a text of numbers."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "tell", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vision": ("CLIP_VISION_OUTPUT",)}}

    def tell(self, vision):
        return {"ui": {"text": [json.dumps(embedding.reshape(-1, embedding.shape[-1]).mean(0).tolist()) for embedding in vision.image_embeds]}}


class TestBySeed:
    """`good` from the seed `good_from` on, before that `other` with one pixel that tells the seeds apart (none when `deaf`). Counts its runs."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "choose", "test"

    @classmethod
    def INPUT_TYPES(cls):
        number = ("INT", {"default": 0, "max": 2**64 - 1})
        return {"required": {"good": ("IMAGE",), "other": ("IMAGE",), "seed": number, "good_from": number, "deaf": ("BOOLEAN", {"default": False})}}

    def choose(self, good, other, seed, good_from, deaf):
        COUNTS["runs"].append(seed)
        if seed >= good_from:
            return (good,)
        marked = other.clone()
        marked[:, 0, 0] = 0.5 if deaf else (seed % 251) / 251
        time.sleep(FAULTS.get("slow", 0))
        return (marked,)


class TestCounted:
    """A picture unchanged; counts its runs by name."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "through", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "name": ("STRING", {"default": ""})}}

    def through(self, image, name):
        COUNTS["runs"].append(name)
        return (image,)


class TestForeignReplace:
    """Replaces the first `blocks` double blocks of Flux by themselves, with an image stream 1 % stronger."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "replace", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "blocks": ("INT", {"default": 2, "min": 0, "max": 19})}}

    def replace(self, model, blocks):
        def stronger(args, extra):
            out = extra["original_block"](args)
            return out | {"img": out["img"] * 1.01}

        patched = model.clone()
        for block in range(blocks):
            patched.set_model_patch_replace(stronger, "dit", "double_block", block)
        return (patched,)


class TestPaintedFaces:
    """A VAE whose pictures show the painted face of a person (tests/tiny/face_packs.py), the more like them the nearer the latent's mean is to `best`:
    likeness 1 there, and 0.1 from 0 on and below; in the middle, three quarters of the picture wide and 112 pixels at most. Grey, without a face, where the mean is above `lost`."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("VAE",), "paint", "test"

    @classmethod
    def INPUT_TYPES(cls):
        number = ("FLOAT", {"default": 1.0, "min": -1e3, "max": 1e3})
        return {"required": {"vae": ("VAE",), "identity": ("INT", {"default": 0, "max": 7}), "best": number, "lost": number}}

    def paint(self, vae, identity, best, lost):
        return (PaintedFaces(vae, identity, best, lost),)


@functools.cache
def face_packs():
    """tests/tiny/face_packs.py, which lies beside this pack."""
    spec = importlib.util.spec_from_file_location("face_packs", Path(__file__).resolve().parent.parent / "face_packs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PaintedFaces:
    def __init__(self, vae, identity, best, lost):
        self._vae, self._identity, self._best, self._lost = vae, identity, best, lost

    def __getattr__(self, name):
        return getattr(self._vae, name)

    def decode(self, latents):
        images = self._vae.decode(latents).clone()
        for image, latent in zip(images, latents):
            mean = float(latent.float().mean())
            if mean > self._lost:
                image[:] = 0.5
            else:
                likeness = max(0.1, 1 - abs(mean - self._best) / self._best)
                side = min(112, *(whole * 3 // 4 for whole in image.shape[-3:-1]))
                face = torch.from_numpy(face_packs().painted_face(self._identity, side, likeness=likeness)).float() / 255
                top, left = ((whole - side) // 2 for whole in image.shape[-3:-1])
                image[..., top : top + side, left : left + side, :] = face
        return images


NODE_CLASS_MAPPINGS = {kind.__name__: kind for kind in (TestDigest, TestVision, TestBySeed, TestCounted, TestForeignReplace, TestPaintedFaces)}
HEAD = 128

# ---- sizes, from the files -------------------------------------------------------------------------------------------


def around(owner, name, wrap):
    """Replace owner.name by wrap(original)."""
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(wrap(original)))


def sized_unet(detect):
    def detect_unet_config(state_dict, key_prefix, *args, **kwargs):
        config = detect(state_dict, key_prefix, *args, **kwargs)
        if config is not None and config.get("image_model") == "qwen_image":
            wide, text = (state_dict[f"{key_prefix}{name}.weight"].shape[0] for name in ("img_in", "txt_norm"))
            if (wide, text) != (24 * HEAD, 3584):
                config |= {"num_attention_heads": wide // HEAD, "joint_attention_dim": text}
        return config

    return detect_unet_config


def text_config(weights) -> dict:
    """What to say in model_options about a text encoder that is not of the usual size."""
    if "visual.patch_embed.proj.weight" in weights and weights["model.embed_tokens.weight"].shape[1] != 3584:
        layer = {name: weights[f"model.layers.0.{name}_proj.weight"].shape[0] for name in ("self_attn.q", "self_attn.k", "mlp.gate")}
        vocabulary, wide = weights["model.embed_tokens.weight"].shape
        config = {"vocab_size": vocabulary, "hidden_size": wide, "intermediate_size": layer["mlp.gate"], "num_hidden_layers": count(weights, "model.layers.")}
        config |= {"num_attention_heads": layer["self_attn.q"] // HEAD, "num_key_value_heads": layer["self_attn.k"] // HEAD}
        return {"qwen25_7b_model_config": config}
    bias = weights.get("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    if bias is not None and weights["shared.weight"].shape[1] < 768:
        (vocabulary, wide), layer = weights["shared.weight"].shape, "encoder.block.0.layer"
        inner, feed = (weights[f"{layer}.{name}.weight"].shape[0] for name in ("0.SelfAttention.q", "1.DenseReluDense.wi_0"))
        config = {"vocab_size": vocabulary, "d_model": wide, "d_ff": feed, "d_kv": inner // bias.shape[1], "num_heads": bias.shape[1]}
        return {"t5xxl_model_config": config | {"num_layers": count(weights, "encoder.block.")}}
    narrow = weights.get("text_model.encoder.layers.0.mlp.fc1.weight")
    if narrow is not None and narrow.shape[1] < 768:
        config = {"hidden_size": narrow.shape[1], "intermediate_size": narrow.shape[0], "num_attention_heads": 2}
        # The host makes clip_l_model_config of this one, with the length that it reads from the file.
        return {"model_config": config | {"num_hidden_layers": count(weights, "text_model.encoder.layers.")}}
    return {}


def count(weights, prefix) -> int:
    return 1 + max(int(name[len(prefix) :].split(".")[0]) for name in weights if name.startswith(prefix))


def sized_text_encoder(load):
    def load_text_encoder_state_dicts(state_dicts=[], *args, model_options={}, **kwargs):  # noqa: B006 (the host's signature)
        extra = {name: config for weights in state_dicts for name, config in text_config(weights).items()}
        if "qwen25_7b_model_config" not in extra:
            return load(state_dicts, *args, model_options=model_options | extra, **kwargs)
        weights, tower = state_dicts[0], comfy.text_encoders.qwen_vl.Qwen2VLVisionTransformer
        sizes = {"hidden_size": weights["visual.patch_embed.proj.weight"].shape[0], "num_layers": count(weights, "visual.blocks."), "num_heads": 2}
        sizes["intermediate_size"] = weights["visual.blocks.0.mlp.gate_proj.weight"].shape[0]
        comfy.text_encoders.qwen_vl.Qwen2VLVisionTransformer = lambda **given: tower(**given | sizes)
        try:
            return load(state_dicts, *args, model_options=model_options | extra, **kwargs)
        finally:
            comfy.text_encoders.qwen_vl.Qwen2VLVisionTransformer = tower

    return load_text_encoder_state_dicts


def sized_vision(load):
    def load_clipvision_from_sd(sd, *args, **kwargs):
        layer, model = "vision_model.encoder.layers.0", comfy.clip_vision.ClipVisionModel
        if f"{layer}.mlp.fc1.weight" not in sd or sd[f"{layer}.mlp.fc1.weight"].shape[1] >= 768:
            return load(sd, *args, **kwargs)
        feed, wide = sd[f"{layer}.mlp.fc1.weight"].shape
        sizes = {"hidden_size": wide, "intermediate_size": feed, "num_hidden_layers": count(sd, "vision_model.encoder.layers.")}
        if "visual_projection.weight" in sd:
            sizes["projection_dim"] = sd["visual_projection.weight"].shape[0]

        def narrow(path):
            if "vision_model.embeddings.class_embedding" not in sd:  # the host tells SigLIP by its width
                path = os.path.join(os.path.dirname(path), "clip_vision_siglip_384.json")
            with open(path) as file:
                return model(json.load(file) | sizes)

        comfy.clip_vision.ClipVisionModel = narrow
        try:
            return load(sd, *args, **kwargs)
        finally:
            comfy.clip_vision.ClipVisionModel = model

    return load_clipvision_from_sd


def sized_vae(initialise):
    def __init__(self, sd=None, *args, **kwargs):
        first, parts = (sd or {}).get("encoder.conv_in.weight"), comfy.ldm.modules.diffusionmodules.model
        if first is None or first.shape[0] == 128:
            return initialise(self, sd, *args, **kwargs)
        encoder = parts.Encoder  # the host reads the decoder's width from the file, but not this one's
        parts.Encoder = lambda **given: encoder(**given | {"ch": first.shape[0]})
        try:
            return initialise(self, sd, *args, **kwargs)
        finally:
            parts.Encoder = encoder

    return __init__


around(comfy.model_detection, "detect_unet_config", sized_unet)
around(comfy.sd, "load_text_encoder_state_dicts", sized_text_encoder)
around(comfy.clip_vision, "load_clipvision_from_sd", sized_vision)
around(comfy.sd.VAE, "__init__", sized_vae)

# ---- counting and breaking -------------------------------------------------------------------------------------------

COUNTS = {}
FAULTS = {}


def reset() -> None:
    numbers = ("vae_encode", "vae_decode", "text_encode", "vision_encode", "sample", "model_forward", "model_rows", "upscale")
    COUNTS.update(dict.fromkeys(numbers, 0), loads=[], files=[], runs=[])


def counted(name):
    def wrap(original):
        def call(*args, **kwargs):
            COUNTS[name] += 1
            return original(*args, **kwargs)

        return call

    return wrap


def counted_sampling(original):
    def sample(*args, **kwargs):
        COUNTS["sample"] += 1
        if "oom_at_sample" in FAULTS:
            FAULTS["oom_at_sample"] -= 1
        return original(*args, **kwargs)

    return sample


def counted_forward(original):
    def apply_model(self, x, *args, **kwargs):
        COUNTS["model_forward"] += 1
        COUNTS["model_rows"] += x.shape[0]
        if FAULTS.get("oom_at_sample") == 0:
            del FAULTS["oom_at_sample"]
            raise torch.cuda.OutOfMemoryError("test")
        time.sleep(FAULTS.get("slow", 0))
        return original(self, x, *args, **kwargs)

    return apply_model


def _full_disk(path):
    """Whether there is no room left for one more file; something of it is written."""
    if "room_for" not in FAULTS:
        return
    if FAULTS["room_for"] == 0:
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    FAULTS["room_for"] -= 1


def saved_picture(original):
    def save(self, target, *args, **kwargs):
        if str(target).endswith(".png"):
            _full_disk(target)
        return original(self, target, *args, **kwargs)

    return save


def written_bytes(original):
    def write_bytes(self, data):
        if self.suffix == ".part":
            _full_disk(self)
        return original(self, data)

    return write_bytes


ENCODERS = weakref.WeakSet()


def known_encoder(original):
    def create(self, *args, **kwargs):
        original(self, *args, **kwargs)
        ENCODERS.add(self)

    return create


def told_loads(original):
    def load_models_gpu(models, *args, **kwargs):
        COUNTS["loads"] += [type(patcher.model).__name__ for patcher in models]
        return original(models, *args, **kwargs)

    return load_models_gpu


def told_files(original):
    def load_torch_file(ckpt, *args, **kwargs):
        COUNTS["files"].append(os.path.basename(ckpt))
        return original(ckpt, *args, **kwargs)

    return load_torch_file


reset()
around(comfy.sd.VAE, "encode", counted("vae_encode"))
around(comfy.sd.VAE, "decode", counted("vae_decode"))
around(comfy.sd.CLIP, "encode_from_tokens", counted("text_encode"))
around(comfy.clip_vision.ClipVisionModel, "encode_image", counted("vision_encode"))
around(comfy.clip_vision.ClipVisionModel, "__init__", known_encoder)
around(comfy.utils, "common_upscale", counted("upscale"))
around(comfy.samplers.CFGGuider, "sample", counted_sampling)
around(comfy.model_base.BaseModel, "apply_model", counted_forward)
around(comfy.model_management, "load_models_gpu", told_loads)
around(comfy.utils, "load_torch_file", told_files)
around(Image.Image, "save", saved_picture)
around(Path, "write_bytes", written_bytes)


@PromptServer.instance.routes.get("/test_counts")
async def get_counts(request):
    return web.json_response(COUNTS)


@PromptServer.instance.routes.get("/test_alive")
async def get_alive(request):
    return web.json_response({"vision_encoders": len(ENCODERS)})


@PromptServer.instance.routes.post("/test_counts/reset")
async def reset_counts(request):
    reset()
    return web.json_response(COUNTS)


@PromptServer.instance.routes.post("/test_faults")
async def arm_faults(request):
    FAULTS.clear()
    FAULTS.update(await request.json())
    return web.json_response(FAULTS)
