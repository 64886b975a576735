"""Flux IP-Adapter files: which family a file is of, by its keys and shapes, and its tensors one at a time. What is computed with them is image_prompt.py's.

Three layouts are read: XLabs' own (v1 and v2), the one into which diffusers renames it, and that of InstantX and Shakker, nested in a pickle or flat
in safetensors. All become the same names here; nothing below asks for a key again.
"""

import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import MissingModelError
from ..installation import likeness_command, needed
from ..model_files import entry
from .choices import EXTENSIONS, PICKLED, SAFE


@dataclass(frozen=True)
class Family:
    """One way of showing a picture to Flux.

    encoder: the vision encoder whose embedding it takes, by its name in the catalogue of models; positions: of that
    encoder, by which it is told from the same made for larger pictures. weight: what to start with, and source: who says
    so; variants: the same where a token count has its own. single_blocks: whether single blocks take part, too.
    """

    name: str
    encoder: str
    positions: int
    weight: float
    source: str
    single_blocks: bool
    variants: Mapping[int, tuple[float, str]] = field(default_factory=dict, hash=False)


# v1 has 4 tokens, v2 16.
_XLABS_V1 = (0.92, "XLabs' example for v1, at cfg 3.5 (x-flux-comfyui, ip_adapter_workflow.json)")
XLABS = Family(
    "XLabs", "clip-vit-large-patch14", 257, 0.93, "the default of ip_scale in XLabs' node (x-flux-comfyui, ApplyFluxIPAdapter)", False, {4: _XLABS_V1}
)
INSTANTX = Family("InstantX", "siglip-so400m", 729, 0.7, "the scale in InstantX' own example (model card of FLUX.1-dev-IP-Adapter)", True)

_BLOCK_KEY = {
    "XLabs": re.compile(r"double_blocks\.(\d+)\.processor\.ip_adapter_double_stream_([kv])_proj\.(weight|bias)"),
    "diffusers": re.compile(r"ip_adapter\.(\d+)\.to_([kv])_ip\.(weight|bias)"),
    "InstantX": re.compile(r"ip_adapter\.(\d+)\.to_([kv])_ip\.(weight)"),
}
# How a block's tensor is called in each layout, for the sentence about one that is missing.
_BLOCK_NAME = {
    "XLabs": "double_blocks.{}.processor.ip_adapter_double_stream_{}_proj.{}",
    "diffusers": "ip_adapter.{}.to_{}_ip.{}",
    "InstantX": "ip_adapter.{}.to_{}_ip.{}",
}
_XLABS_PROJECTION = ("proj.weight", "proj.bias", "norm.weight", "norm.bias")
_INSTANTX_PROJECTION = ("proj.0.weight", "proj.0.bias", "proj.2.weight", "proj.2.bias", "norm.weight", "norm.bias")
_LAYOUTS = {
    "XLabs": (XLABS, "ip_adapter_proj_model.", _XLABS_PROJECTION),
    "diffusers": (XLABS, "image_proj.", _XLABS_PROJECTION),
    "InstantX": (INSTANTX, "image_proj.", _INSTANTX_PROJECTION),
}

# What a file that is no Flux IP-Adapter is, by the look of its keys: tried in order.
_LOOKS = (
    (re.compile(r"lora_|\.lora|\.dora_scale|\.diff$|hada_w1|lokr_w1"), "a LoRA"),
    (re.compile(r"controlnet|control_model|input_hint|pulid"), "a ControlNet or the like"),
    (re.compile(r"^ip_adapter\.1\.|^image_proj\."), "an IP-Adapter for Stable Diffusion"),
    (re.compile(r"vision_model\.|^visual\."), "a vision encoder"),
    (re.compile(r"^(model\.diffusion_model\.)?(double_blocks|input_blocks|transformer_blocks)\."), "a diffusion model"),
)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A Flux IP-Adapter file that was looked into.

    tokens: image tokens per picture; image_width: numbers in the embedding that it takes; context: width of a token; hidden: width of the
    model that it is for; blocks: how many of its blocks take part, double blocks before single ones; state:
    what tells this state of the file from another.
    """

    path: Path
    family: Family
    tokens: int
    image_width: int
    context: int
    hidden: int
    blocks: int
    state: tuple
    _names: Mapping[str, str]

    @property
    def title(self) -> str:
        """`XLabs, 16 tokens`."""
        return f"{self.family.name}, {self.tokens} tokens"

    @property
    def own_weight(self) -> tuple[float, str]:
        """(weight, source): what its authors start with, and where they say so."""
        return self.family.variants.get(self.tokens, (self.family.weight, self.family.source))

    @contextmanager
    def opened(self) -> Iterator[Callable[[str], torch.Tensor | None]]:
        """The file's tensors by the names of the family, `projection.norm.weight` or `3.k.weight`, each read when asked for; None for a bias that it has not."""
        if _state(self.path) != self.state:
            raise MissingModelError(f"{self.path.name} has changed since it was loaded; run again.")
        with _tensors(self.path) as (_, get):
            yield lambda name: get(self._names[name]) if name in self._names else None


def _state(path: Path) -> tuple:
    try:
        state = path.stat()
    except OSError as error:
        raise MissingModelError(f"{path.name} cannot be read ({error.strerror}); choose another file, or put it back.") from None
    return str(path), state.st_mtime_ns, state.st_size


def read_adapter(path: Path) -> Adapter:
    """What a file holds, by its keys and shapes alone. Raises MissingModelError with the first key or shape that does not fit."""
    with _tensors(path) as (shapes, _):
        return _recognized(path, shapes)


def _recognized(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Adapter:
    layout = next((name for name, (_, prefix, projection) in _LAYOUTS.items() if prefix + projection[0] in shapes), None)
    if layout is None:
        raise _no_adapter(path, next(iter(shapes), None), shapes)
    family, prefix, projection = _LAYOUTS[layout]
    names, blocks, wanted = {}, set(), ("weight",) if layout == "InstantX" else ("weight", "bias")
    for key in shapes:
        match = _BLOCK_KEY[layout].fullmatch(key)
        if match:
            blocks.add(int(match[1]))
            names[f"{int(match[1])}.{match[2]}.{match[3]}"] = key
        elif key.startswith(prefix) and key.removeprefix(prefix) in projection:
            names[f"projection.{key.removeprefix(prefix)}"] = key
        else:
            raise _no_adapter(path, key, shapes)
    missing = [prefix + part for part in projection if f"projection.{part}" not in names]
    for i in range(len(blocks) or 1):
        missing += [_BLOCK_NAME[layout].format(i, kind, part) for kind in "kv" for part in wanted if f"{i}.{kind}.{part}" not in names]
    if missing:
        # Those number their blocks with gaps, and their keys are those of the diffusers layout otherwise.
        of_stable_diffusion = layout == "diffusers" and blocks and 0 not in blocks
        looks = " (it looks like an IP-Adapter for Stable Diffusion)" if of_stable_diffusion else ""
        raise _no_adapter(path, None, shapes, f"it has no {missing[0]}{looks}")

    shape_of = {name: shapes[key] for name, key in names.items()}
    if any(len(shape) != (1 if name.endswith("bias") or "norm" in name else 2) for name, shape in shape_of.items()):
        wrong = next(name for name, shape in shape_of.items() if len(shape) != (1 if name.endswith("bias") or "norm" in name else 2))
        raise _no_adapter(path, None, shapes, f"{names[wrong]} has the shape {list(shape_of[wrong])}")
    (context,) = shape_of["projection.norm.weight"]
    last = "projection.proj.2" if family is INSTANTX else "projection.proj"
    hidden, image_width = shape_of["0.k.weight"][0], shape_of["projection.proj.0.weight" if family is INSTANTX else "projection.proj.weight"][1]
    tokens, rest = divmod(shape_of[f"{last}.weight"][0], context or 1)
    middle = shape_of["projection.proj.0.weight"][0] if family is INSTANTX else None
    expected = {
        "projection.norm.bias": (context,),
        f"{last}.weight": (tokens * context, middle or image_width),
        f"{last}.bias": (tokens * context,),
        **({"projection.proj.0.bias": (middle,)} if middle else {}),
        **{f"{i}.{kind}.weight": (hidden, context) for i in range(len(blocks)) for kind in "kv"},
        **{f"{i}.{kind}.bias": (hidden,) for i in range(len(blocks)) for kind in "kv" if "bias" in wanted},
    }
    if rest or not tokens:
        raise _no_adapter(path, None, shapes, f"{names[f'{last}.weight']} has {shape_of[f'{last}.weight'][0]} rows, no multiple of the token width {context}")
    for name, shape in expected.items():
        if shape_of[name] != shape:
            raise _no_adapter(path, None, shapes, f"{names[name]} has the shape {list(shape_of[name])} where {list(shape)} fits the rest")
    return Adapter(path, family, tokens, image_width, context, hidden, len(blocks), _state(path), names)


def _no_adapter(path: Path, key: str | None, shapes: Mapping[str, tuple[int, ...]], why: str = "") -> MissingModelError:
    looks = ""
    if not why:
        why = f"its key '{key}' of shape {list(shapes[key])} is in none of them" if key else "it is empty"
        look = next((what for pattern, what in _LOOKS if any(pattern.search(name) for name in shapes)), None)
        looks = f" (it looks like {look})" if look else ""
    return MissingModelError(
        f"{path.name} is no Flux IP-Adapter of XLabs or InstantX: {why}{looks}; choose another file; `{likeness_command('models list')}` names those that fit."
    )


@contextmanager
def _tensors(path: Path) -> Iterator[tuple[dict[str, tuple[int, ...]], Callable[[str], torch.Tensor]]]:
    """Shapes by key, and what reads a tensor by its key. Nothing but tensors is ever unpickled."""
    if path.suffix.lower() in SAFE:
        with needed("safetensors"):
            from safetensors import SafetensorError, safe_open
        try:
            opened = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise MissingModelError(f"{path.name} is no whole safetensors file ({_short(error)}); download it again.") from None
        except OSError as error:
            raise MissingModelError(f"{path.name} cannot be read ({error.strerror or error}).") from None
        with opened as file:
            # keys() is a method of its own here: the file is no mapping.
            yield {key: tuple(file.get_slice(key).get_shape()) for key in list(file.keys())}, file.get_tensor
    elif path.suffix.lower() in PICKLED:
        tensors = _flat(_unpickled(path), path)
        yield {key: tuple(tensor.shape) for key, tensor in tensors.items()}, tensors.__getitem__
    else:
        raise MissingModelError(f"{path.name} is no file that an IP-Adapter comes in; those end with {', '.join(sorted(EXTENSIONS))}.")


def _unpickled(path: Path):
    try:
        try:
            # Mapped, so that a file of 5 GB is read block by block.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            # Files written by PyTorch before 1.6 are no archives.
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise MissingModelError(
            f"{path.name} was not opened: it holds something other than tensors, which could run a program; get it from where it was published."
        ) from None
    except OSError as error:
        raise MissingModelError(f"{path.name} cannot be read ({error.strerror or error}).") from None
    except Exception as error:
        # On damaged archives: RuntimeError, EOFError, ValueError, KeyError and more.
        raise MissingModelError(f"{path.name} is no whole PyTorch file ({_short(error)}); download it again.") from None


def _flat(value, path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """Tensors by their keys joined with points. Raises MissingModelError for anything else in the file."""
    if not isinstance(value, Mapping):
        raise MissingModelError(f"{path.name} is no Flux IP-Adapter: it holds a {type(value).__name__} where tensors by name belong.")
    out = {}
    for key, inner in value.items():
        if isinstance(inner, torch.Tensor):
            out[f"{prefix}{key}"] = inner
        elif isinstance(inner, Mapping) and not prefix:
            out |= _flat(inner, path, f"{prefix}{key}.")
        else:
            raise MissingModelError(f"{path.name} is no Flux IP-Adapter: its '{prefix}{key}' is a {type(inner).__name__}, not a tensor.")
    return out


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120].rstrip(".")


# ---- vision encoders, as far as their files tell ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Encoder:
    """A vision encoder's file. kind: CLIP or SigLIP; width: numbers in the embedding that it gives for a picture; 0: none, its head is missing.

    positions: patches that it sees, one more with CLIP; 0 where the file does not say.
    """

    path: Path
    kind: str
    width: int
    positions: int = 0

    @property
    def state(self) -> tuple:
        """What tells this state of the file from another."""
        return _state(self.path)

    def head(self) -> dict[str, torch.Tensor]:
        """The pooling head of a SigLIP encoder, `probe` and so on, float32: ComfyUI leaves it out when it loads the file."""
        prefix = "vision_model.head."
        with _tensors(self.path) as (shapes, get):
            return {key.removeprefix(prefix): get(key).float() for key in shapes if key.startswith(prefix)}


# The head of transformers' SiglipVisionModel: what it must have for its pooled output.
HEAD_KEYS = ("probe", "attention.in_proj_weight", "attention.in_proj_bias", "attention.out_proj.weight", "attention.out_proj.bias")
HEAD_KEYS += tuple(f"{part}.{kind}" for part in ("layernorm", "mlp.fc1", "mlp.fc2") for kind in ("weight", "bias"))


def read_encoder(path: Path) -> Encoder:
    """What a vision encoder's file gives. Raises MissingModelError for a file that is neither CLIP nor SigLIP, or cannot be read."""
    with _tensors(path) as (shapes, _):
        positions = shapes.get("vision_model.embeddings.position_embedding.weight", shapes.get("visual.positional_embedding", (0,)))[0]
        if "vision_model.embeddings.class_embedding" in shapes:
            return Encoder(path, "CLIP", shapes.get("visual_projection.weight", (0,))[0], positions)
        if "visual.proj" in shapes:
            return Encoder(path, "CLIP", shapes["visual.proj"][1], positions)
        if "vision_model.embeddings.patch_embedding.weight" in shapes:
            whole = all(f"vision_model.head.{key}" in shapes for key in HEAD_KEYS)
            return Encoder(path, "SigLIP", shapes["vision_model.head.probe"][-1] if whole else 0, positions)
        first: Sequence[str] = [key for key in shapes][:1]
    raise MissingModelError(f"{path.name} is no CLIP or SigLIP vision encoder{f': its first key is {first[0]!r}' if first else ''}; choose another file.")


def check_encoder(adapter: Adapter, encoder: Encoder) -> None:
    """Raises MissingModelError, naming the encoder that fits, where this one gives another embedding than the adapter takes."""
    kind = "SigLIP" if adapter.family is INSTANTX else "CLIP"
    fits = encoder.kind == kind and encoder.width == adapter.image_width
    if fits and encoder.positions in (0, adapter.family.positions):
        return
    part = "pooling head" if encoder.kind == "SigLIP" else "projection"
    gives = f"gives {encoder.kind} embeddings of {encoder.width} numbers" if encoder.width else f"is a {encoder.kind} encoder without its {part}"
    if fits:
        gives = f"sees pictures in {encoder.positions} parts, not in {adapter.family.positions}"
    fitting = entry(adapter.family.encoder)
    raise MissingModelError(
        f"{encoder.path.name} {gives}; {adapter.path.name} ({adapter.title}) takes {kind} embeddings of {adapter.image_width}: "
        f"choose {fitting.files[0].filename}, which `{fitting.command}` brings."
    )
