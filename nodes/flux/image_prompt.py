"""Pictures made into keys and values for Flux: pooling, projection to image tokens, and K and V of every block, each once. Where they go in is injection.py's.

Formulas: XLabs-AI/x-flux (src/flux/modules/layers.py, ImageProjModel and IPDoubleStreamBlockProcessor); InstantX/FLUX.1-dev-IP-Adapter (its
pipeline's MLPProjModel and attention processor); the pooling of SigLIP is that of Zhai et al. 2023, arXiv 2303.15343, as transformers'
SiglipMultiheadAttentionPoolingHead has it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..errors import InputError
from ..tensors import TensorMemory
from .checkpoint import INSTANTX, Adapter
from .choices import AVERAGE, CONCAT, PER_ROW  # noqa: F401

MOST_PICTURES = 64

# Embeddings are a few kilobytes each. Keys and values in bf16 take 0.9 MB (XLabs v1), 3.7 MB (v2) or 90 MB (InstantX) a picture.
EMBEDDINGS = TensorMemory(16 * 2**20)
KEYS_AND_VALUES = TensorMemory(1024 * 2**20)
# Rows of InstantX' projection that are looked at together, in image tokens: all 128 in float32 would take 4.8 GB.
TOKENS_AT_ONCE = 4

# SigLIP so400m-patch14-384: num_attention_heads and layer_norm_eps of its config.json.
SIGLIP_HEADS, SIGLIP_EPSILON = 16, 1e-6
# FluxAttnProcessor of InstantX: RMSNorm(head_dim, eps=1e-5, elementwise_affine=False).
KEY_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """What Flux attends to. parts: of each picture [2 (keys, values), blocks, 1, heads, tokens, head dim], in main memory, shared with KEYS_AND_VALUES.

    bias: [tokens], added to the attention's logits where pictures count differently, else None. row_weights: one factor for each picture where each
    has a row of its own, else one.
    """

    parts: tuple[torch.Tensor, ...]
    bias: torch.Tensor | None
    row_weights: tuple[float, ...]

    @property
    def rows(self) -> int:
        return len(self.row_weights)

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def joined(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [blocks, rows, heads, tokens, head dim] on a device: pictures in rows of their own, or their tokens side by side."""
        parts = [part.to(device) for part in self.parts]
        both = torch.cat(parts, dim=2 if self.rows > 1 else 4) if len(parts) > 1 else parts[0]
        return both[0], both[1]


def parse_weights(text: str, count: int) -> tuple[float, ...]:
    """`1.0, 0.7`: one number per picture; empty: 1 for each. Raises InputError for another count, words, and numbers below 0 or not finite."""
    parts = [part.strip() for part in text.replace(";", ",").replace("\n", ",").split(",") if part.strip()]
    if not parts:
        return (1.0,) * count
    weights = []
    for part in parts:
        try:
            weight = float(part)
        except ValueError:
            raise InputError(f"'{part}' in weights is no number; write one for each picture, such as 1.0, 0.7.") from None
        if not 0 <= weight <= 100:
            raise InputError(f"The weight {part} in weights must be 0 to 100; how strongly all pictures act is `weight`.")
        weights.append(weight)
    if len(weights) != count:
        raise InputError(
            f"weights has {len(weights)} number{'s' if len(weights) != 1 else ''} for {count} picture{'s' if count != 1 else ''}; write one for each, or none."
        )
    if not any(weights):
        raise InputError("All weights are 0: set `weight` to 0, or bypass the node, to leave the pictures out.")
    return tuple(weights)


def check_pictures(frames: Sequence[torch.Tensor], what: str = "picture") -> list[torch.Tensor]:
    """Float frames [H,W,C] as [1,H,W,3] in 0..1. Raises InputError for none, too many, and values that are no finite number."""
    if not frames:
        raise InputError(f"No {what} arrived: connect at least one.")
    if len(frames) > MOST_PICTURES:
        raise InputError(f"{len(frames)} {what}s are wired; {MOST_PICTURES} is the most.")
    out = []
    for number, frame in enumerate(frames, 1):
        if 0 in frame.shape:
            raise InputError(f"{what.capitalize()} {number} has no pixels: its shape is {tuple(frame.shape)}.")
        if not torch.isfinite(frame).all():
            raise InputError(
                f"{what.capitalize()} {number} holds values that are no finite number (NaN or infinite); it comes from a broken step before this node."
            )
        frame = frame.unsqueeze(0).float()
        out.append((frame[..., :1].expand(-1, -1, -1, 3) if frame.shape[-1] < 3 else frame[..., :3]).clamp(0, 1))
    return out


# ---- formulas --------------------------------------------------------------------------------------------------------


def siglip_pool(hidden: torch.Tensor, head: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """SigLIP's pooled output [B,W] from its last hidden state [B,patches,W]: one learned query attends to all patches, then an MLP with a residual."""
    width = hidden.shape[-1]
    batch, query = hidden.shape[0], head["probe"].expand(hidden.shape[0], -1, -1)
    projections, biases = head["attention.in_proj_weight"].chunk(3), head["attention.in_proj_bias"].chunk(3)
    q, k, v = (
        F.linear(x, weight, bias).view(batch, -1, SIGLIP_HEADS, width // SIGLIP_HEADS).transpose(1, 2)
        for x, weight, bias in zip((query, hidden, hidden), projections, biases)
    )
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, -1, width)
    pooled = F.linear(attended, head["attention.out_proj.weight"], head["attention.out_proj.bias"])
    normed = F.layer_norm(pooled, (width,), head["layernorm.weight"], head["layernorm.bias"], SIGLIP_EPSILON)
    inner = F.gelu(F.linear(normed, head["mlp.fc1.weight"], head["mlp.fc1.bias"]), approximate="tanh")
    return (pooled + F.linear(inner, head["mlp.fc2.weight"], head["mlp.fc2.bias"]))[:, 0]


def image_tokens(adapter: Adapter, get: Callable[[str], torch.Tensor | None], embedding: torch.Tensor) -> torch.Tensor:
    """Image tokens [B,tokens,context] from picture embeddings float32 [B,image_width].

    XLabs: LayerNorm(Linear(e)). InstantX: LayerNorm(Linear(GELU(Linear(e)))), GELU by the error function.
    """

    def part(name: str) -> torch.Tensor:
        return get(f"projection.{name}").to(embedding)

    if adapter.family is INSTANTX:
        embedding = F.gelu(F.linear(embedding, part("proj.0.weight"), part("proj.0.bias")))
    last = "proj.2" if adapter.family is INSTANTX else "proj"
    weight, bias = (get(f"projection.{last}.{kind}").split(adapter.context * TOKENS_AT_ONCE) for kind in ("weight", "bias"))
    tokens = torch.cat([F.linear(embedding, rows.to(embedding), more.to(embedding)) for rows, more in zip(weight, bias)], 1)
    tokens = tokens.view(-1, adapter.tokens, adapter.context)
    return F.layer_norm(tokens, (adapter.context,), part("norm.weight"), part("norm.bias"))


def keys_and_values(
    adapter: Adapter,
    embedding: torch.Tensor,
    heads: int,
    dtype: torch.dtype,
    device: torch.device,
    normalize_values: bool = False,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> torch.Tensor:
    """K and V [2, blocks, B, heads, tokens, head dim] in `dtype` of picture embeddings [B,image_width], read from the file block by block.

    Computed in float32 on `device`. InstantX: K goes through an RMSNorm without weights over the head dimension; normalize_values: V does, too, as in
    Shakker's ComfyUI pack. tick: called with (blocks done, all).
    """
    with torch.no_grad(), adapter.opened() as get:
        embedding = embedding.to(device, torch.float32)
        tokens = image_tokens(adapter, get, embedding)
        out = torch.empty((2, adapter.blocks, tokens.shape[0], heads, adapter.tokens, adapter.hidden // heads), dtype=dtype, device=device)
        for block in range(adapter.blocks):
            for place, kind in enumerate("kv"):
                bias = get(f"{block}.{kind}.bias")
                projected = F.linear(tokens, get(f"{block}.{kind}.weight").to(tokens), None if bias is None else bias.to(tokens))
                projected = projected.view(tokens.shape[0], adapter.tokens, heads, -1).transpose(1, 2)
                if adapter.family is INSTANTX and (kind == "k" or normalize_values):
                    projected = F.rms_norm(projected, projected.shape[-1:], eps=KEY_EPSILON)
                out[place, block] = projected
            tick(block + 1, adapter.blocks)
        return out


# ---- from pictures to an image prompt ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Recipe:
    """How pictures become an image prompt: with which adapter, for how many heads, in which type, computed where."""

    adapter: Adapter
    heads: int
    dtype: torch.dtype
    device: torch.device
    normalize_values: bool = False
    tick: Callable[[int, int], None] = lambda done, of: None

    def of(self, embeddings: Sequence[torch.Tensor], keys: Sequence[tuple]) -> list[torch.Tensor]:
        """K and V [2, blocks, 1, heads, tokens, head dim] of each embedding [1,image_width] known by its key; what is new in one reading of the file."""
        wholes = [(*self.adapter.state, self.heads, str(self.dtype), self.normalize_values, *key) for key in keys]
        found = {whole: KEYS_AND_VALUES.look(whole) for whole in wholes}
        new = {whole: embedding for whole, embedding in zip(wholes, embeddings) if found[whole] is None}
        if new:
            made = keys_and_values(self.adapter, torch.cat(list(new.values())), self.heads, self.dtype, self.device, self.normalize_values, self.tick)
            # Kept in main memory; the injection takes a copy to where the model is, for as long as it samples.
            for whole, part in zip(new, made.cpu().split(1, dim=2)):
                found[whole] = part.clone() if len(new) > 1 else part
                KEYS_AND_VALUES.keep(whole, found[whole])
        return [found[whole] for whole in wholes]


def combined(recipe: Recipe, embeddings: Sequence[torch.Tensor], keys: Sequence[tuple], combine: str, weights: Sequence[float]) -> ImagePrompt:
    """One image prompt of several pictures.

    embeddings: [1,image_width] each, with a key of its content. concat: their tokens side by side; the logarithm of a picture's weight is added to its
    logits, so that twice the weight counts as having the picture twice. average: the weighted mean of the embeddings. one per batch row: each its
    own row, and its weight a factor of that row. Pictures of weight 0 are left out of concat and average.
    """
    if combine == PER_ROW:
        return ImagePrompt(tuple(recipe.of(embeddings, keys)), None, tuple(weights))
    kept = [(embedding, key, weight) for embedding, key, weight in zip(embeddings, keys, weights) if weight > 0]
    if combine == AVERAGE and len(kept) > 1:
        total = sum(weight for *_, weight in kept)
        mean = sum(embedding * (weight / total) for embedding, _, weight in kept)
        return ImagePrompt(tuple(recipe.of([mean], [("average", *((key, weight / total) for _, key, weight in kept))])), None, (1.0,))
    parts = recipe.of([embedding for embedding, *_ in kept], [key for _, key, _ in kept])
    bias = None
    if len({weight for *_, weight in kept}) > 1:
        bias = torch.tensor([math.log(weight) for *_, weight in kept]).repeat_interleave(recipe.adapter.tokens)
    return ImagePrompt(tuple(parts), bias, (1.0,))
