"""FLUX.1's forward pass with image prompts, written out from the published formulas on plain tensors: what the injection is held against; no test lives here.

Sources: black-forest-labs/flux (src/flux/model.py, modules/layers.py, math.py); for the image prompts those named in nodes/flux/image_prompt.py.
Nothing of ComfyUI or of the pack is used.
"""

import math

import torch
import torch.nn.functional as F

HEAD = 128
AXES = (16, 56, 56)
THETA = 10_000


def forward(weights, latent, sigma, text, pooled, guidance=None, references=(), prompts=()):
    """The model's output [B,16,H,W] for a latent of that shape, even height and width.

    weights: a Flux file's tensors; prompts: see `Prompt`; references: latents behind the picture (Kontext, `offset`, one of them at most).
    """
    get = _Weights(weights)
    batch, _, height, width = latent.shape
    image, ids = _patches(latent, 0)
    count = image.shape[1]
    for reference in references:
        more, more_ids = _patches(reference.expand(batch, -1, -1, -1), 1)
        image, ids = torch.cat([image, more], 1), torch.cat([ids, more_ids], 0)
    ids = torch.cat([torch.zeros(text.shape[1], 3), ids])
    rotation = _rotation(ids)

    image, text = get.linear("img_in", image), get.linear("txt_in", text)
    vector = get.embedder("time_in", _sinus(sigma)) + get.embedder("vector_in", pooled)
    if "guidance_in.in_layer.weight" in weights:
        vector = vector + get.embedder("guidance_in", _sinus(guidance))
    vector = F.silu(vector)

    words, block = text.shape[1], 0
    while f"double_blocks.{block}.img_mod.lin.weight" in weights:
        at = f"double_blocks.{block}"
        image_mod = get.linear(f"{at}.img_mod.lin", vector)[:, None].chunk(6, -1)
        text_mod = get.linear(f"{at}.txt_mod.lin", vector)[:, None].chunk(6, -1)
        image_q, image_k, image_v = get.qkv(f"{at}.img_attn", _modulated(image, *image_mod[:2]))
        text_q, text_k, text_v = get.qkv(f"{at}.txt_attn", _modulated(text, *text_mod[:2]))
        attention = _attend(*(torch.cat(pair, 2) for pair in ((text_q, image_q), (text_k, image_k), (text_v, image_v))), rotation)
        for prompt in prompts:
            if not prompt.behind:
                attention[:, words : words + count] += prompt.added(block, image_q[:, :, :count], 0)
        image = image + image_mod[2] * get.linear(f"{at}.img_attn.proj", attention[:, words:])
        image = image + image_mod[5] * get.mlp(f"{at}.img_mlp", _modulated(image, *image_mod[3:5]))
        text = text + text_mod[2] * get.linear(f"{at}.txt_attn.proj", attention[:, :words])
        text = text + text_mod[5] * get.mlp(f"{at}.txt_mlp", _modulated(text, *text_mod[3:5]))
        for prompt in prompts:
            if prompt.behind:
                image = torch.cat([image[:, :count] + prompt.added(block, image_q[:, :, :count], 0), image[:, count:]], 1)
        block += 1

    double, block, stream = block, 0, torch.cat([text, image], 1)
    while f"single_blocks.{block}.linear1.weight" in weights:
        at = f"single_blocks.{block}"
        shift, scale, gate = get.linear(f"{at}.modulation.lin", vector)[:, None].chunk(3, -1)
        wide = stream.shape[-1]
        both = get.linear(f"{at}.linear1", _modulated(stream, shift, scale))
        q, k, v = get.normed(at, both[..., : 3 * wide])
        attention = _attend(q, k, v, rotation)
        for prompt in prompts:
            if not prompt.behind:
                attention[:, : words + count] += prompt.added(double + block, q[:, :, : words + count], words)
        stream = stream + gate * get.linear(f"{at}.linear2", torch.cat([attention, F.gelu(both[..., 3 * wide :], approximate="tanh")], -1))
        block += 1

    shift, scale = get.linear("final_layer.adaLN_modulation.1", vector)[:, None].chunk(2, -1)
    out = get.linear("final_layer.linear", _modulated(stream[:, words : words + count], shift, scale))
    return out.reshape(batch, height // 2, width // 2, 16, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(batch, 16, height, width)


class Prompt:
    """An image prompt. keys, values: [blocks, rows of the call, heads, tokens, head dim]; scale: per row; mask: per image token; behind: XLabs' place."""

    def __init__(self, keys, values, scale, behind, mask=None):
        self.keys, self.values, self.scale, self.behind, self.mask = keys, values, scale, behind, mask

    def added(self, block, q, words):
        weights = torch.softmax(q @ self.keys[block].transpose(-1, -2) / math.sqrt(HEAD), -1)
        out = (weights @ self.values[block]).permute(0, 2, 1, 3).flatten(2) * torch.as_tensor(self.scale).view(-1, 1, 1)
        if self.mask is not None:
            out = out * torch.cat([self.mask.mean().expand(words), self.mask])[None, :, None]
        return out


class _Weights:
    def __init__(self, weights):
        self.weights = weights

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def embedder(self, name, x):
        return self.linear(f"{name}.out_layer", F.silu(self.linear(f"{name}.in_layer", x)))

    def mlp(self, name, x):
        return self.linear(f"{name}.2", F.gelu(self.linear(f"{name}.0", x), approximate="tanh"))

    def qkv(self, name, x):
        return self.normed(name, self.linear(f"{name}.qkv", x))

    def normed(self, name, qkv):
        q, k, v = qkv.unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        q, k = (
            x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weights[f"{name}.norm.{which}_norm.scale"] for x, which in ((q, "query"), (k, "key"))
        )
        return q, k, v


def _sinus(value):
    """In float32 whatever the rest is: so the embedding is defined, and its last bits turn the angles by 1e-4."""
    frequencies = torch.exp(-math.log(THETA) * torch.arange(128, dtype=torch.float32) / 128)
    angles = (1000 * value)[:, None].float() * frequencies
    return torch.cat([torch.cos(angles), torch.sin(angles)], -1).to(value)


def _modulated(x, shift, scale):
    return (1 + scale) * F.layer_norm(x, x.shape[-1:], eps=1e-6) + shift


def _patches(latent, index):
    batch, channels, height, width = latent.shape
    tokens = latent.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)
    rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
    return tokens, torch.stack([torch.full_like(rows, index), rows, columns], -1).reshape(-1, 3).float()


def _rotation(ids):
    """Angles [tokens, head dim / 2]."""
    parts = []
    for axis, wide in enumerate(AXES):
        frequencies = THETA ** -(torch.arange(0, wide, 2, dtype=torch.float64) / wide)
        parts.append(ids[:, axis, None].double() * frequencies)
    return torch.cat(parts, -1)


def _rotated(x, angles):
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = torch.cos(angles), torch.sin(angles)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def _attend(q, k, v, angles):
    q, k = _rotated(q, angles), _rotated(k, angles)
    return (torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(HEAD), -1) @ v).permute(0, 2, 1, 3).flatten(2)
