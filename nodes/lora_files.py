"""What a LoRA file says about itself: model family, kind, rank, trigger words, speed; and what to warn of. Only headers are read, nothing is loaded."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .errors import InputError, MissingModelError

ROLES = ("character", "style", "angle", "speed")
QWEN, UNKNOWN = "Qwen-Image", "unknown"

# The largest header that safetensors itself accepts (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
MAX_HEADER_BYTES = 100_000_000
# A JSON value in the metadata above this is left alone; the tags of 10,000 pictures take about 1 MB.
MAX_JSON_CHARS = 5_000_000
MAX_NAME = 1000
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")


@dataclass(frozen=True)
class LoraFile:
    """One LoRA as its header describes it.

    family: "Qwen-Image", "Flux", "SDXL"... or "unknown". kind: "LoRA", "DoRA", "LoHa", "LoKr", "OFT" or "diff" (whole differences). ranks: those that
    occur, ascending; () where there is none. layers: weights of the diffusion model that it changes (text_layers: of text encoders). triggers: from
    the metadata. speed: sampling steps of a speed LoRA (Lightning, Turbo, Hyper...), 0 where it does not say how many, None for any other LoRA.
    base: "edit 2511", "edit 2509", "edit", "image 2512", "image" or None. metadata: the few entries worth a report.
    """

    name: str
    path: Path
    family: str
    kind: str
    dora: bool
    ranks: tuple[int, ...]
    layers: int
    text_layers: int = 0
    triggers: tuple[str, ...] = ()
    speed: int | None = None
    base: str | None = None
    trainer: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def rank(self) -> str:
        """One rank ("16"), the least and the greatest ("4 to 32"), or "full" for differences without a rank."""
        return " to ".join(map(str, sorted({self.ranks[0], self.ranks[-1]}))) if self.ranks else "full"


@dataclass(frozen=True)
class Applied:
    """A LoRA in a stack: at which strength, for what (one of ROLES), the trigger word that goes into the prompt, how many of the model's weights it
    changes, and what kind of Qwen-Image model that is ("edit 2511", "edit 2509", "text to image", None where nobody knows)."""

    lora: LoraFile
    strength: float
    role: str
    trigger: str
    matched: int = 0
    model_kind: str | None = None


def read_lora(path: str | os.PathLike) -> LoraFile:
    """What the header of the LoRA file `path` tells; no tensor is read.

    Raises MissingModelError for a file that is not there, empty, cut off or not safetensors, InputError for a pickle (.pt, .ckpt), a whole model,
    a text encoder and anything else that is no LoRA.
    """
    path = Path(path)
    name = _line(path.name)
    if path.suffix.lower() in PICKLES:
        raise InputError(f"{name} is a pickle, which can run code when it is loaded; convert it to .safetensors and choose that.")
    header, size = _header(path, name)
    metadata = header.pop("__metadata__", None)
    metadata = {key: value for key, value in metadata.items() if isinstance(value, str)} if isinstance(metadata, dict) else {}
    modules: dict[str, dict[str, list[int]]] = {}
    for tensor, entry in header.items():
        if len(tensor) <= MAX_NAME and (found := _PART.search(tensor)):
            modules.setdefault(tensor[: found.start()], {})[found["way"] or found["old"] or found["other"]] = entry["shape"]
    # A module with nothing but an alpha or a scale changes no weight.
    modules = {module: parts for module, parts in modules.items() if any(map(_kind, parts))}
    if not modules:
        label = next((label for label, mark in _WHOLE if any(re.match(mark, tensor[:MAX_NAME]) for tensor in header)), None)
        what = f"is {label} of {_size(size)}, not a LoRA" if label else f"holds {len(header)} tensors and none of a LoRA"
        raise InputError(f"{name} {what}; choose a LoRA file.")
    kinds = Counter(kind for parts in modules.values() for part in parts if (kind := _kind(part)))
    # A few trained norms (diff) beside the low-rank pairs do not make it a difference.
    kind = next(kind for kind, _ in kinds.most_common() if kind != "diff" or len(kinds) == 1)
    dora = any(part.startswith(_DORA) for parts in modules.values() for part in parts)
    unet = {module: parts for module, parts in modules.items() if not _TEXT_ENCODER.match(module)}
    family = _family(modules, unet, metadata, path.stem)
    titles = [_plain(text) for text in (path.stem, metadata.get("modelspec.title", ""), metadata.get("ss_output_name", ""))]
    triggers = _triggers(metadata)
    return LoraFile(
        name=name,
        path=path,
        family=family,
        kind="DoRA" if dora and kind == "LoRA" else kind,
        dora=dora,
        ranks=tuple(sorted({rank for parts in modules.values() if (rank := _rank(parts))})),
        # ComfyUI counts a weight and its bias as two.
        layers=sum(len({part in _BIASES for part in parts if _kind(part)}) for parts in unet.values()),
        text_layers=len(modules) - len(unet),
        triggers=triggers,
        speed=_lora_speed(titles, trained_on_pictures=bool(triggers or _DATASET_KEYS & metadata.keys())),
        base=_base(titles, metadata) if family in (QWEN, UNKNOWN) else None,
        trainer=_trainer(metadata),
        metadata={key: line for key in _REPORTED if (line := _line(metadata.get(key, "")))},
    )


def _header(path: Path, name: str) -> tuple[dict, int]:
    """(the header's entries, the file's size); every tensor entry has been checked for its shape and for lying inside the file.

    A safetensors file is 8 bytes little-endian length, that much JSON, and the tensors (github.com/huggingface/safetensors).
    """
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start = stream.read(8)
            length = int.from_bytes(start, "little")
            raw = stream.read(length) if length <= MAX_HEADER_BYTES else b""
    except FileNotFoundError:
        raise MissingModelError(f"The LoRA {name} is not in {_line(str(path.parent), 500)}; put it there or choose another one.") from None
    except (OSError, ValueError) as error:
        raise MissingModelError(f"The LoRA {name} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    if length > size - 8:
        raise MissingModelError(f"{name} {_no_header(start, length, size)}.")
    broken = MissingModelError(f"{name} is not a safetensors file, its header cannot be read; download it again.")
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise broken from None
    if not isinstance(header, dict):
        raise broken
    whole = 8 + length
    for tensor, entry in header.items():
        if tensor != "__metadata__":
            if not isinstance(entry, dict) or not _counts(entry.get("shape")) or not _counts(offsets := entry.get("data_offsets")) or len(offsets) != 2:
                raise broken
            whole = max(whole, 8 + length + max(offsets))
    if whole > size:
        raise MissingModelError(f"{name} is cut off: {_size(size)} of {_size(whole)} are there; download it again.")
    return header, size


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)


def _no_header(start: bytes, length: int, size: int) -> str:
    """What a file is whose first 8 bytes are no length of a header in it."""
    if not start:
        return "is an empty file; download it again"
    # zip is what torch.save writes, 0x80 began its older files.
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return "is a pickle under another name, which can run code when it is loaded; convert it to .safetensors"
    if start[:4] == b"GGUF":
        return "is a GGUF file, not a .safetensors LoRA"
    if start == b"version ":
        return "is a Git LFS pointer instead of the model; fetch the file itself"
    if start[:1] in b"<{":
        return "is a web page or a message instead of a model; download it again (some sites need a login)"
    if length > MAX_HEADER_BYTES:
        return f"is not a safetensors file, it claims a header of {_size(length)}; download it again"
    return f"is cut off inside its header ({_size(size)} are there); download it again"


def _size(count: int) -> str:
    return next((f"{count / unit:.1f} {label}" for unit, label in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")) if count >= unit), f"{count} bytes")


# What is no LoRA, by the start of tensor names, the surest first (comfy/sd.py and model_detection.py tell them the same way).
_BLOCKS = r"(transformer_|single_transformer_|double_|single_|joint_|input_|down_)?blocks\.\d|img_in\.|noise_refiner\."
_WHOLE = (
    ("an IP-Adapter", r"image_proj\.|ip_adapter"),
    ("a ControlNet", r"control_model\.|controlnet_|input_hint_block|zero_convs"),
    ("a whole model", rf"(model\.)?diffusion_model\.|{_BLOCKS}"),
    ("a text encoder", r"text_model\.|encoder\.block\.|(model\.)*(language_model\.|visual\.|embed_tokens|layers\.\d+\.(self_attn|mlp))"),
    ("a VAE", r"((vae|first_stage_model)\.)?(encoder|decoder)\.|quant_conv"),
    ("an embedding", r"emb_params$|clip_[lg]$|t5xxl$|string_to_param"),
)

# The parts of a module's change that ComfyUI reads (comfy/weight_adapter/*.py, comfy/lora.py).
_PART = re.compile(
    # kohya, musubi-tuner, LightX2V: lora_down and lora_up; PEFT, diffusers, ai-toolkit: lora_A and lora_B, with an adapter's name or without.
    r"(?:\.lora_(?P<way>down|up|mid|A|B)(?:\.(?!weight$|bias$)[^.]+)?(?:\.weight)?"
    # Old diffusers.
    r"|[._]lora\d?(?:_linear_layer)?\.(?P<old>down|up)\.weight"
    # LyCORIS and SimpleTuner; dora_scale is LyCORIS' DoRA, lora_magnitude_vector PEFT's.
    r"|\.(?P<other>hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t[12])|oft_blocks|diff|diff_b|set_weight|w_norm|b_norm|alpha|dora_scale"
    r"|lora_magnitude_vector(?:\.[^.]+){0,2}))$"
)
_DORA = ("dora_scale", "lora_magnitude_vector")
_BIASES = ("diff_b", "b_norm")
_KINDS = {"hada": "LoHa", "lokr": "LoKr", "oft": "OFT", "diff": "diff", "set": "diff", "w": "diff", "b": "diff"}
_TEXT_ENCODER = re.compile(r"lora_(prior_)?te\d?[._]|(lycoris_)?text_encoders?(_\d)?[._]|conditioner\.")
_PREFIX = re.compile(r"((base_model\.model|model|pipe|dit|diffusion_model|transformer|unet)\.|lora_unet__?|lora_prior_unet_|lora_transformer_|lycoris_)*")


def _kind(part: str) -> str | None:
    return "LoRA" if part in ("down", "up", "mid", "A", "B") else _KINDS.get(part.partition("_")[0])


def _side(shape: list[int] | None, index: int) -> int | None:
    return shape[index] if shape and len(shape) >= 2 else None


def _down(parts: dict[str, list[int]]) -> list[int] | None:
    """The shape of the factor at the input: [rank, in]."""
    return parts.get("down") or parts.get("A") or parts.get("hada_w1_b")


def _rank(parts: dict[str, list[int]]) -> int | None:
    return _side(_down(parts) or parts.get("lokr_w2_b") or parts.get("lokr_w1_b"), 0)


def _width(parts: dict[str, list[int]]) -> int | None:
    """The input width of the layer, where the shapes tell it; LoKr's is the product of its two factors'."""
    if any(part.startswith("lokr") for part in parts):
        first, second = (_side(parts.get(f"lokr_w{n}") or parts.get(f"lokr_w{n}_b"), 1) for n in (1, 2))
        return first * second if first and second else None
    return _side(_down(parts) or parts.get("diff"), 1)


# Modules that only one family has, without prefix and with underscores for dots, the surest first; and the words that trainers have for the family.
# From the models in comfy/ldm, comfy/utils.py (*_to_diffusers), musubi-tuner's convert_lora.py; Qwen-Image-2.1 from diffusers' transformer_qwenimage21.
_FAMILIES = (
    ("Qwen-Image-2.1", r"transformer_blocks_\d+_img_mlp_(gate_up|gate_layer|proj|out)$|txt_in_(in|out)_layer$", r"qwen ?image ?2 ?1( |$)"),
    (QWEN, r"transformer_blocks_\d+_(img_mlp_net_|txt_mlp_net_|img_mod_1$|txt_mod_1$)", r"qwen|qie( |$)"),
    ("Flux.2", r"single_transformer_blocks_\d+_attn_to_qkv_mlp_proj|transformer_blocks_\d+_ff(_context)?_linear_|(double|single)_stream_mod", r"flux ?2"),
    ("HunyuanVideo", r"double_blocks_(\d+_(img|txt)_(mod_linear|mlp_fc)|19_)|single(_transformer)?_blocks_(\d+_modulation_linear|3[89]_)", r"hunyuan ?video"),
    ("Flux", r"(double|single)_blocks_\d|single_transformer_blocks_\d", r"flux"),
    ("SD 3", r"joint_blocks_\d", r"sd ?3|stable diffusion (v?3|large|medium)"),
    ("SDXL", r"(down_blocks|up_blocks)_.*transformer_blocks_[1-9]|(input|middle|output)_blocks?_.*transformer_blocks_[1-9]", r"sdxl|stable diffusion xl"),
    ("SD 1.5", r"(down_blocks|up_blocks|mid_block|input_blocks|middle_block|output_blocks)_", r"sd ?v?1|stable diffusion v1"),
    ("Krea 2", r"transformer_blocks_\d+_(attn_to_gate$|ff_(gate|up|down)$)|text_?fusion_|blocks_\d+_(attn_w[qkvo]|mlp_(gate|up|down))$", r"krea ?2"),
    ("Wan", r"blocks_\d+_((self|cross)_attn_(q|k|v|o|k_img|v_img)$|ffn_|attn[12]_to_)", r"wan( ?2|$| )"),
    ("Z-Image", r"(layers|noise_refiner|context_refiner)_\d+_(attention_|feed_forward_|adaLN)", r"z ?image"),
)
# Attention and feed-forward of a joint block have the same names in Qwen-Image, Flux and SD 3. Widths: Qwen-Image and Flux 24 x 128, SD 3 24 x 64 and
# 38 x 64; Flux.2 48 x 128 and 32 x 128. Blocks: Flux 19, HunyuanVideo 20, Qwen-Image 60. Only Qwen-Image calls its feed-forward otherwise.
_JOINT = re.compile(r"transformer_blocks_(\d{1,4})_(?:attn_(?:to_|add_)|(ff|norm1))")
_QWEN_WIDTH, _SD3_WIDTHS, _FLUX2_WIDTHS = 3072, {1536, 2432}, {6144, 4096}
_FIRST_BLOCK_OF_QWEN_ALONE = 20


def _family(modules: dict[str, dict], unet: dict[str, dict], metadata: Mapping[str, str], stem: str) -> str:
    flat = {module[_PREFIX.match(module).end() :].replace(".", "_"): parts for module, parts in unet.items()}
    told = [metadata.get("modelspec.architecture", ""), metadata.get("ss_base_model_version", "")]
    for family, mark, _ in _FAMILIES:
        hits = [module for module in flat if re.match(mark, module)]
        if not hits:
            continue
        widths = {_width(flat[module]) for module in hits if re.search(r"qkv$|linear1$|to_[qkv]$|add_[qkv]_proj$", module)}
        if family == "Flux" and widths & _FLUX2_WIDTHS:
            return "Flux.2"
        # HunyuanVideo joins with _ what Flux joins with a dot.
        if family == "Flux" and any(re.search(r"blocks\.\d+\.(img|txt)_attn_(qkv|proj)", module) for module in unet):
            return "HunyuanVideo"
        # Text of two encoders, 2048 wide, is SDXL's.
        if family == "SD 1.5" and (any(module.startswith("lora_te2") for module in modules) or 2048 in widths):
            return "SDXL"
        return family if family != "SD 1.5" or 768 in widths else _by_words(told) or family
    joint = [(int(found[1]), found[2], _width(parts)) for module, parts in flat.items() if (found := _JOINT.match(module))]
    widths = {width for _, _, width in joint}
    if widths & _SD3_WIDTHS:
        return "SD 3"
    if any(feed for _, feed, _ in joint):
        return "Flux"
    if _QWEN_WIDTH in widths and max(block for block, _, _ in joint) >= _FIRST_BLOCK_OF_QWEN_ALONE:
        return QWEN
    return _by_words([*told, stem if joint else ""]) or UNKNOWN


def _by_words(texts: Sequence[str]) -> str | None:
    """The family that a trainer's word names: `Qwen-Image/lora` (musubi-tuner), `qwen_image` (ai-toolkit), `sdxl_base_v1-0` (sd-scripts)."""
    return next((family for text in map(_plain, texts) for family, _, words in _FAMILIES if re.search(rf"(?<![a-z])({words})", text)), None)


def _base(titles: list[str], metadata: Mapping[str, str]) -> str | None:
    """The Qwen base that the file's name or its metadata speaks of; ai-toolkit's `qwen_image` stands for every base and says nothing."""
    texts = [*titles, *(_plain(metadata.get(key, "")) for key in ("ss_sd_model_name", "modelspec.architecture", "ss_base_model_version"))]
    for text in texts:
        if (dated := re.search(r"(?<!\d)(2509|2511|2512)(?!\d)", text)) and re.search(r"qwen|(?<![a-z])(qie|edit)", text):
            return "image 2512" if dated[1] == "2512" else f"edit {dated[1]}"
    if any(re.search(r"qwen.*(?<![a-z])edit|(?<![a-z])qie(?![a-z])", text) for text in texts):
        return "edit"
    return "image" if any(re.search(r"qwen ?image(?! (layered|2 1))", text) for text in texts[:-1]) else None


# "hyper" is half of hyper-realistic: it counts before a model's name or a number.
_SPEED_WORD = re.compile(r"(?<![a-z])(lightning|turbo|rapid|lcm|dmd2?|light ?x ?2 ?v|schnell|distill(ed|ation)?|hyper(?= ?(sd|flux|qwen|\d)))(?=v?\d|[^a-z]|$)")
# No distilled model asks for more; above stand training steps.
_MOST_STEPS = 16


def _plain(text: str) -> str:
    """Lower-case words with single spaces; CamelCase is split."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text[:MAX_NAME])
    return re.sub(r"[\s_\-./\\()\[\]]+", " ", text).strip().lower()


def _speed(text: str) -> int | None:
    """Steps, 0 for a speed word without a number, or None."""
    steps = [int(digits) for digits in re.findall(r"(?<!\d)([1-9]\d?) ?steps?(?![a-z])", text) if int(digits) <= _MOST_STEPS]
    return steps[0] if steps else 0 if _SPEED_WORD.search(text) else None


def _lora_speed(titles: list[str], trained_on_pictures: bool) -> int | None:
    # Z-Image Turbo is a model to train on, and somebody may be called Lightning: with pictures behind it only a step count tells.
    found = [speed for title in titles if (speed := _speed(re.sub(r"z ?image turbo", "z image", title))) is not None]
    return next((steps for steps in found if steps), 0 if found and not trained_on_pictures else None)


def named_fast(names: Iterable[str]) -> str | None:
    """The first of some model or LoRA file names that tells of a speed distillation (lightning, turbo, rapid, lcm, 4steps...), else None.

    Whole words only (`turbocharged_car` is none); folders do not count, so a name may come with its sub-folder.
    """
    return next((name for name in names if _speed(_plain(PurePosixPath(name.replace("\\", "/")).name)) is not None), None)


def told_by_name(name: str) -> tuple[int | None, str | None]:
    """(speed, base) of a LoRA or model file as in LoraFile, by its name alone; folders do not count."""
    title = _plain(PurePosixPath(name.replace("\\", "/")).name)
    return _speed(title), _base([title], {})


_REPORTED = ("modelspec.title", "modelspec.architecture", "modelspec.usage_hint", "ss_base_model_version", "ss_sd_model_name", "ss_output_name")
_DATASET_KEYS = {"ss_tag_frequency", "ss_dataset_dirs", "ss_datasets", "ss_num_train_images", "training_info", "ot_config"}
# ModelSpec 1.0 (Stability-AI/ModelSpec, sd-scripts --metadata_trigger_phrase); SimpleTuner since December 2025 (save_hooks.py); LoRA editors.
_TRIGGER_KEYS = ("modelspec.trigger_phrase", "trained_words", "ss_trigger_words", "trigger_word", "trigger_words", "trigger_phrase")
_MOST_TRIGGERS = 8
# Words that stand in every caption without being anybody's name, and folder names that say nothing.
_ORDINARY = frozenset(
    "1girl 1boy girl boy woman man person people female male solo photo photograph photography picture image images img portrait selfie a an the of and in "
    "with looking at viewer realistic photorealistic simple white black grey background best high quality masterpiece highres absurdres upper full body "
    "close up closeup face standing sitting smile smiling long short hair blonde brown eyes style anime artwork illustration drawing painting train "
    "training data dataset datasets character characters concept subject input output crop cropped resized final new set one none null".split()
)


def _line(text: str, limit: int = 200) -> str:
    """One printable line, without what no terminal takes (lone surrogates, control characters)."""
    text = text[: 4 * limit].encode("utf-8", "ignore").decode("utf-8")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:limit]


def _json(text: str) -> object:
    """The value, or None for what is no JSON or too much of it."""
    try:
        return json.loads(text) if len(text) <= MAX_JSON_CHARS else None
    except (ValueError, RecursionError):
        return None


def _table(text: str) -> dict:
    value = _json(text)
    return value if isinstance(value, dict) else {}


def _trainer(metadata: Mapping[str, str]) -> str | None:
    """Which program trained it, by the keys that only this one writes."""
    # {"name": "ai-toolkit", ...}: ai-toolkit, toolkit/metadata.py.
    software = _table(metadata.get("software", "")).get("name")
    if isinstance(software, str) and software:
        return _line(software)
    if "ot_branch" in metadata or "ot_config" in metadata:
        return "OneTrainer"
    if module := metadata.get("ss_network_module"):
        # musubi-tuner writes sd-scripts' keys and trains what sd-scripts does not.
        return "musubi-tuner" if re.search(r"musubi|lora_(qwen_image|wan|framepack|zimage|flux_2|kandinsky)", module) else "sd-scripts"
    if metadata.get("modelspec.implementation") == "diffusers":
        return "SimpleTuner"
    return "diffusers" if "lora_adapter_metadata" in metadata else None


def _triggers(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The trigger words: those that the metadata names, else the one tag that every caption of a folder has."""
    for key in _TRIGGER_KEYS:
        value = _json(metadata.get(key, ""))
        if found := _clean([word for word in value if isinstance(word, str)] if isinstance(value, list) else metadata.get(key, "").split(",")):
            return found
    # ModelSpec's own example: `Trigger word: mypetcat`.
    hint = re.search(r"trigger(?: words?| phrases?)? ?: ?([^.;\n]+)", metadata.get("modelspec.usage_hint", "")[:MAX_NAME], re.IGNORECASE)
    return (hint and _clean(hint[1].split(","))) or _clean(_folder_triggers(metadata))


def _clean(words: Iterable[str]) -> tuple[str, ...]:
    lines = (_line(word).strip(" '\"`") for word in words)
    return tuple(dict.fromkeys(line for line in lines if line and line.lower() not in ("none", "null", "-")))[:_MOST_TRIGGERS]


def _folder_triggers(metadata: Mapping[str, str]) -> Iterator[str]:
    """From `ss_tag_frequency`, folder -> tag -> count, and `ss_dataset_dirs`, folder -> img_count (sd-scripts, train_network.py).

    sd-scripts splits captions at commas, lowers them and counts; ai-toolkit writes {"1_mira": {"mira": 1}} for its trigger word
    (BaseSDTrainProcess.update_training_metadata). A folder `40_mira woman` is the caption itself where there is none beside the pictures.
    """
    tags, folders, regularisation = (_table(metadata.get(key, "")) for key in ("ss_tag_frequency", "ss_dataset_dirs", "ss_reg_dataset_dirs"))
    for folder in dict.fromkeys((*tags, *folders)):
        counts, entry = tags.get(folder), folders.get(folder)
        counts = {tag.strip(): n for tag, n in counts.items() if type(n) is int and n > 0} if isinstance(counts, dict) else {}
        images = entry.get("img_count") if isinstance(entry, dict) else None
        images = images if type(images) is int and images > 0 else None
        concept = re.fullmatch(r"\d+_(.+)", folder[:MAX_NAME])
        concept = concept[1].strip() if concept and folder not in regularisation and _telling(concept[1]) else ""
        led = sum(n for tag, n in counts.items() if f"{tag.lower()} ".startswith(f"{concept.lower()} "))
        if concept and (not counts or led >= (images or max(counts.values()))):
            yield concept
        elif images and folder not in regularisation:
            everywhere = [tag for tag, n in counts.items() if n >= images and _telling(tag)]
            # Of several tags in all captions nobody can say which is the name.
            yield from everywhere if len(everywhere) == 1 else ()


def _telling(tag: str) -> bool:
    words = re.findall(r"[^\s_,\-]+", tag.lower())
    return 0 < len(words) <= 4 and not all(word in _ORDINARY or word.isdigit() for word in words)


def effective_trigger(lora: LoraFile, typed: str) -> str:
    """The trigger for the prompt, one line: what the user typed, else the file's own, joined by ", "; `-` or `none` typed stands for no trigger."""
    typed = " ".join(typed.split())
    return "" if typed.lower() in ("-", "none") else typed or ", ".join(lora.triggers)


def warnings_for(lora: LoraFile | Applied, matched: int, model_kind: str | None = None, others: Sequence[Applied] = ()) -> list[str]:
    """Sentences about what is odd with a LoRA on a Qwen-Image model; [] where nothing is.

    matched: how many of its layers found a weight in the model. model_kind: "edit 2511", "edit 2509", "text to image", or None where nobody knows.
    others: the LoRAs before it in the stack. An `Applied` is also judged by its role and strength.
    """
    applied = lora if isinstance(lora, Applied) else None
    lora = applied.lora if applied else lora
    # What has strength 0 adds nothing up and disturbs nothing.
    works = applied is None or applied.strength != 0
    others = [other for other in others if other.strength and works]
    name, foreign = lora.name, lora.family not in (QWEN, UNKNOWN)
    is_foreign = f"is {'an' if lora.family.startswith('SD') else 'a'} {lora.family} LoRA"
    speed = lora.speed is not None
    found = []
    if matched <= 0:
        why = f"it {is_foreign}" if foreign else "it is for a text encoder only" if not lora.layers else f"the model has none of its {lora.layers} layers"
        found.append(f"{name} matches nothing in this model: {why}, it has no effect.")
    elif foreign:
        found.append(f"{name} {is_foreign}, not one for Qwen-Image.")
    if 0 < matched < lora.layers:
        found.append(f"{name} matches this model only partly: {matched} of its {lora.layers} layers, the others have no effect.")
    if matched > 0 and lora.text_layers:
        found.append(f"{name} also changes {lora.text_layers} layers of a text encoder, which are not used here.")
    if not works:
        found.append(f"{name} has strength 0: it has no effect.")
    if applied and applied.role == "speed" and not speed:
        found.append(f"{name} has the role speed, but neither its name nor its metadata tells of a speed LoRA: few steps may look unfinished.")
    if applied and applied.role != "speed" and speed:
        found.append(f"{name} is named like a speed LoRA but has the role {applied.role}; give it the role speed if it is one.")
    if speed and works and (mismatch := speed_mismatch(name, lora.base, model_kind)):
        found.append(mismatch)
    if any(_file(other.lora) == _file(lora) for other in others):
        found.append(f"{name} is in the stack twice: the strengths add up.")
    faster = next((other.lora.name for other in others if other.lora.speed is not None and _file(other.lora) != _file(lora)), None)
    if speed and faster:
        found.append(f"{faster} and {name} are both speed LoRAs, which together overshoot: keep one.")
    # Said once for each DoRA: where anything stands before it, or where the first LoRA follows it.
    dora = lora if lora.dora and others else others[0].lora if len(others) == 1 and others[0].lora.dora else None
    if dora:
        found.append(f"{dora.name} is a DoRA, which rescales what was applied before it: beside other LoRAs the order matters.")
    return found


def _file(lora: LoraFile) -> str:
    return os.path.normcase(os.path.abspath(lora.path))


def speed_mismatch(name: str, base: str | None, model_kind: str | None) -> str | None:
    """A sentence about a speed LoRA that is made for another model than the one it is on; None where it is not, or nobody knows.

    LightX2V's authors: edit weights are not expected to work for text to image; the reverse works, but the same task works best
    (ModelTC/LightX2V-Qwen-Image-Lightning, issue 26).
    """
    # The first Qwen-Image-Edit counts as 2509, and its LoRAs are for it.
    if base is None or model_kind is None or base == model_kind or (base, model_kind) == ("edit", "edit 2509"):
        return None
    if model_kind == "text to image":
        return f"{name} is a speed LoRA for Qwen-Image-Edit: on a text to image model it blurs, use one for Qwen-Image." if base.startswith("edit") else None
    own = {"edit": "the first Qwen-Image-Edit", "image": "text to image", "image 2512": "text to image"}.get(base, base)
    return f"{name} is a speed LoRA for {own}, and the model is {model_kind}: use the one for the same model."


def lora_report(applied: Sequence[Applied], matched: Sequence[int], model_kind: str | None = None) -> dict:
    """Plain data in the order of the stack: {"loras": [{file, role, strength, trigger, family, kind, rank, layers, speed, base, trainer, matched, warnings}]}.

    matched: one count for each LoRA. A warning about two LoRAs stands at the later one.
    """
    rows = []
    for place, (item, count) in enumerate(zip(applied, matched, strict=True)):
        facts = {key: getattr(item.lora, key) for key in ("family", "kind", "rank", "layers", "speed", "base", "trainer")}
        row = {"file": item.lora.name, "role": item.role, "strength": item.strength, "trigger": item.trigger, **facts}
        rows.append({**row, "matched": count, "warnings": warnings_for(item, count, model_kind, applied[:place])})
    return {"loras": rows}
