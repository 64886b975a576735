"""Image prompts put into Flux while it samples: where, how strongly and when. Nothing on the model changes: each call gets patches of its own.

Both families let the queries of the image stream, after their RMSNorm and before rotary positions, attend to the picture's keys and values. XLabs
adds the result to the image stream behind a double block. InstantX adds it to the attention's result before the output projection, in double blocks
for image tokens, in single blocks for all tokens. Reference tokens (Kontext) stand behind the picture's own and get nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import comfy.ldm.flux.model
import comfy.model_base
import torch
import torch.nn.functional as F
from comfy.patcher_extension import CallbacksMP, WrappersMP

from ..errors import InputError
from .checkpoint import Adapter
from .choices import CURVES, MOST_WEIGHT
from .image_prompt import ImagePrompt

KEY = "likeness_flux_ipadapter"
# A mask is stretched over the picture's tokens where its aspect is that of the picture up to this share.
ASPECT_SLACK = 0.05


@dataclass(frozen=True)
class Course:
    """How strongly an image prompt acts over a sampling: weight, from start to end in sampling percent (0 to 1), and its curve between them."""

    weight: float
    start: float = 0.0
    end: float = 1.0
    curve: str = "constant"

    def __post_init__(self):
        if not math.isfinite(self.weight) or abs(self.weight) > MOST_WEIGHT:
            raise InputError(f"weight is {self.weight:g}; it must be {-MOST_WEIGHT:g} to {MOST_WEIGHT:g}, and is mostly best from 0.5 to 1.")
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1):
            raise InputError(f"start_percent {self.start:g} and end_percent {self.end:g} must be 0 to 1.")
        if self.start > self.end:
            raise InputError(f"start_percent {self.start:g} is above end_percent {self.end:g}; exchange them.")
        if self.curve not in CURVES:
            raise InputError(f"'{self.curve}' is no weight curve; choose {', '.join(CURVES)}.")

    def at(self, sigma: float, sampling) -> float:
        """The weight at a sigma of this model's sampling; 0 outside the range. Both ends belong to it, as with the host's own ranges of conditioning."""
        # In float32, as the host compares them: a step that lies on the limit is in.
        start, end = torch.tensor([float(sampling.percent_to_sigma(percent)) for percent in (self.start, self.end)], dtype=torch.float32).tolist()
        if (self.start > 0 and sigma > start) or (self.end < 1 and sigma < end):
            return 0.0
        if self.curve == "constant" or self.start == self.end:
            return self.weight
        passed = (percent_of(sigma, sampling) - self.start) / (self.end - self.start)
        return self.weight * CURVES[self.curve](min(max(passed, 0.0), 1.0))


def percent_of(sigma: float, sampling) -> float:
    """The inverse of percent_to_sigma, which falls with the percent: by halving the interval, exact to 1e-6."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if sampling.percent_to_sigma(middle) > sigma:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def check_model(model, adapter: Adapter) -> int:
    """The number of attention heads of a model that the adapter fits. Raises InputError, naming the model, for any other."""
    name, flux = type(model.model.model_config).__name__, model.get_model_object("diffusion_model")
    if not isinstance(model.model, comfy.model_base.Flux) or type(flux) is not comfy.ldm.flux.model.Flux or flux.params.global_modulation:
        raise InputError(f"The model is {name}; Flux IP-Adapters work with FLUX.1 (Dev, Schnell, Krea, Kontext, Fill) alone: load one of those.")
    double, single = len(flux.double_blocks), len(flux.single_blocks)
    wanted = double + single if adapter.family.single_blocks else double
    if adapter.hidden != flux.hidden_size or adapter.blocks != wanted:
        raise InputError(
            f"{adapter.path.name} is made for {adapter.blocks} blocks of width {adapter.hidden}; this {name} has {double} double and {single} single "
            f"blocks of width {flux.hidden_size}, of which {wanted} would take part: load a model of FLUX.1's full size."
        )
    return flux.num_heads


def with_image_prompt(model, injection: "Injection"):
    """A clone of a Flux model that samples with an image prompt, besides those that it has already."""
    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, injection.around_sampling)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, injection)
    patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, KEY, injection.release)
    return patched


@dataclass(eq=False)
class Injection:
    """One image prompt for one model, called around each of its calls.

    negative: makes that of the negative prompt's rows when there are any; None leaves those rows as they are. mask: float [1 or batch, H, W] in 0..1,
    where the picture acts.
    """

    adapter: Adapter
    prompt: ImagePrompt
    negative: Callable[[], ImagePrompt] | None
    course: Course
    mask: torch.Tensor | None = None
    _placed: dict = field(default_factory=dict, repr=False)
    _negatives: frozenset | None = field(default=None, repr=False)

    def around_sampling(self, executor, *args, **kwargs):
        """Around a whole sampling: which conditioning is the negative. Not every guider puts it second (DualCFGGuider puts it first)."""
        before, self._negatives = self._negatives, frozenset(cond["uuid"] for cond in executor.class_obj.conds.get("negative") or () if "uuid" in cond)
        try:
            return executor(*args, **kwargs)
        finally:
            self._negatives = before

    def __call__(self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):  # noqa: B006 (the host's signature)
        # Here, outside of what torch.compile may have compiled, a number may be read off the device.
        weight = self.course.at(float(t.flatten()[0]), executor.class_obj.model_sampling)
        chunks = self._chunks(transformer_options)
        if weight and (0 in chunks or self.negative is not None):
            call = self._call(x, weight, chunks)
            transformer_options = self._patched(transformer_options, call)
            # TorchCompileModel guards nothing of transformer_options, so a compiled model would not see what has changed there. Keywords are guarded,
            # and the model does not look at this one.
            kwargs[f"{KEY} {len(kwargs)} {call.shape}"] = True
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    def _chunks(self, options: dict) -> list[int]:
        """For each chunk of a call whether it is of the prompt (0) or of the negative prompt (1)."""
        counted, uuids = options.get("cond_or_uncond") or [0], options.get("uuids") or ()
        if self._negatives is None or len(uuids) != len(counted):
            return counted
        return [int(uuid in self._negatives) for uuid in uuids]

    def release(self, _patcher=None) -> None:
        """Give back what lies on the model's device."""
        self._placed.clear()

    def _call(self, x: torch.Tensor, weight: float, chunks: list[int]) -> "_Call":
        """chunks: of equal size, a batch of the prompt (0) or of the negative prompt (1) each."""
        batch = x.shape[0] // len(chunks)
        height, width = (x.shape[-2] + 1) // 2, (x.shape[-1] + 1) // 2
        mask = None if self.mask is None else self._mask_tokens(x, batch, height, width)
        groups = {kind: self._group(kind, x.device, batch, weight) for kind in dict.fromkeys(chunks)}
        return _Call([groups[kind] for kind in chunks], mask, height * width, not self.adapter.family.single_blocks)

    def _group(self, kind: int, device: torch.device, batch: int, weight: float) -> "_Group | None":
        if kind and self.negative is None:
            return None
        key = (kind, device)
        if key not in self._placed:
            prompt = self.negative() if kind else self.prompt
            keys, values = prompt.joined(device)
            self._placed[key] = (keys, values, None if prompt.bias is None else prompt.bias.to(device), prompt.row_weights)
        keys, values, bias, factors = self._placed[key]
        if keys.shape[1] not in (1, batch):
            raise InputError(
                f"{keys.shape[1]} pictures are wired as one per batch row, and the latent batch has {batch}: give as many pictures as the batch "
                "has rows, or choose concat or average."
            )
        # A tensor, so that a compiled model need not be compiled again for another weight.
        scale = torch.tensor(weight, device=device)
        if len(factors) > 1:
            scale = scale * torch.tensor(factors, device=device).view(-1, 1, 1)
        return _Group(keys, values, bias, scale)

    def _mask_tokens(self, x: torch.Tensor, batch: int, height: int, width: int) -> torch.Tensor:
        """The mask as one factor per image token, [batch or 1, tokens, 1]."""
        mask = self.mask
        if abs(mask.shape[-1] * x.shape[-2] / (mask.shape[-2] * x.shape[-1]) - 1) > ASPECT_SLACK:
            raise InputError(
                f"The mask is {mask.shape[-1]}x{mask.shape[-2]}, the picture (or the area of a prompt that has one) {x.shape[-1] * 8}x{x.shape[-2] * 8}, "
                "of another aspect: draw the mask on a picture of that shape, and use no mask here together with areas."
            )
        if mask.shape[0] not in (1, batch):
            raise InputError(f"{mask.shape[0]} masks are wired for a batch of {batch}: give one, or one for each picture of the batch.")
        return F.interpolate(mask.unsqueeze(1).to(x.device, torch.float32), size=(height, width), mode="area").flatten(1).unsqueeze(-1)

    def _patched(self, options: dict, call: "_Call") -> dict:
        """A copy of the transformer options with this call's patches; those of others stay in force, whichever node came first."""
        patches = dict(options.get("patches", {}))
        # First among those before the attention: the query is wanted as the block made it.
        patches["attn1_patch"] = [call.attend if self.adapter.family.single_blocks else call.attend_in_double_blocks, *patches.get("attn1_patch", ())]
        options = {**options, "patches": patches}
        if self.adapter.family.single_blocks:
            patches["attn1_output_patch"] = [*patches.get("attn1_output_patch", ()), call.add_to_attention]
            return options
        replace = dict(options.get("patches_replace", {}))
        blocks = dict(replace.get("dit", {}))
        for index in range(self.adapter.blocks):
            blocks["double_block", index] = call.behind(blocks.get(("double_block", index)))
        replace["dit"] = blocks
        return {**options, "patches_replace": replace}


@dataclass(frozen=True, eq=False)
class _Group:
    """What rows of one kind attend to. keys, values: [blocks, 1 or rows, heads, tokens, head dim]; bias: [tokens]; scale: [] or [rows, 1, 1]."""

    keys: torch.Tensor
    values: torch.Tensor
    bias: torch.Tensor | None
    scale: torch.Tensor


class _Call:
    """What one image prompt adds in one call of the model.

    groups: of each chunk of the call's rows, None for those that get nothing; mask: [1 or rows of a chunk, image_tokens, 1]; image_tokens: of the
    picture itself; behind_blocks: whether it is added behind a block, not in its attention.
    """

    def __init__(self, groups: list[_Group | None], mask: torch.Tensor | None, image_tokens: int, behind_blocks: bool):
        self.groups, self.mask, self.image_tokens, self.behind_blocks = groups, mask, image_tokens, behind_blocks
        self.blocks = next(len(group.keys) for group in groups if group is not None)
        # From a block's attention to where its result is added.
        self.waiting = None

    @property
    def shape(self) -> str:
        """What a compiled graph depends on: everything but the numbers in the tensors."""
        groups = [group and (tuple(group.keys.shape), group.bias is None, group.scale.ndim) for group in self.groups]
        return f"{self.behind_blocks} {self.image_tokens} {None if self.mask is None else tuple(self.mask.shape)} {groups}"

    def attend_in_double_blocks(self, q, k, v, pe=None, attn_mask=None, extra_options={}):  # noqa: B006 (the host's signature)
        return self.attend(q, k, v, pe, attn_mask, extra_options) if extra_options["block_type"] == "double" else {}

    def attend(self, q, k, v, pe=None, attn_mask=None, extra_options={}):  # noqa: B006 (the host's signature)
        """Before a block's attention, q [rows, heads, text and image tokens, head dim]: what the picture adds, for add_to_attention or behind."""
        text = extra_options["img_slice"][0]
        single = extra_options["block_type"] == "single"
        block = extra_options["block_index"] + (self.blocks - extra_options["total_blocks"] if single else 0)
        first, last = (0 if single else text), text + self.image_tokens
        parts = [
            self._attended(group, block, rows, text if single else 0)
            if group is not None
            else rows.new_zeros(rows.shape[0], last - first, q.shape[1] * q.shape[3])
            for group, rows in zip(self.groups, q[:, :, first:last].chunk(len(self.groups)))
        ]
        added = torch.cat(parts) if len(parts) > 1 else parts[0]
        before, behind = (0 if self.behind_blocks else first), q.shape[2] - last
        self.waiting = F.pad(added, (0, 0, before, behind)) if before or behind else added
        return {}

    def _attended(self, group: _Group, block: int, q: torch.Tensor, text: int) -> torch.Tensor:
        """What one chunk's queries get, [rows, tokens, width]; the first `text` tokens get the mean of the mask."""
        keys, values = (part[block].to(q.dtype).expand(q.shape[0], -1, -1, -1) for part in (group.keys, group.values))
        bias = None if group.bias is None else group.bias.to(q.dtype).view(1, 1, 1, -1)
        # PyTorch's own attention: exact on every device, and whatever attention was chosen for the model, which may be an approximate one.
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=bias).transpose(1, 2).flatten(2)
        scale = group.scale
        if self.mask is not None:
            scale = scale * (torch.cat([self.mask.mean(1, keepdim=True).expand(-1, text, -1), self.mask], dim=1) if text else self.mask)
        return out * scale.to(q.dtype)

    def add_to_attention(self, attention, extra_options):
        """Behind a block's attention [rows, tokens, width], before its output projection."""
        added, self.waiting = self.waiting, None
        return attention + added

    def behind(self, earlier):
        """A replacement of a double block that adds to its image stream what attend left, round the replacement that is there already, if any."""

        def block(args, extra):
            self.waiting = None
            out = extra["original_block"](args) if earlier is None else earlier(args, extra)
            added, self.waiting = self.waiting, None
            # A replacement that takes its result from a cache never asked the attention.
            return out if added is None else {**out, "img": out["img"] + added}

        return block
