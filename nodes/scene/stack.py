"""What the LoRAs on a model mean for a scene: which steps and which words of angles they are made for, and what to say of it. About names and headers; puts none on."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..lora_files import Applied, named_fast, speed_mismatch, told_by_name
from .choices import ANGLE_2509, ANGLE_2511, FAST, PLAIN
from .presets import Settings

# Speed LoRAs are made for 4 or 8 steps (lightx2v's Lightning files).
FEW_STEPS = 8

_MODEL_SUFFIXES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Upstream:
    """Names of the files typed into the nodes that lead to an input, nearest first: of LoRAs, one for each node that loads it, and of all other models."""

    models: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()


def files_upstream(prompt, node_id: str, source: str) -> Upstream:
    """What the nodes that lead to an input of a node load. prompt: the host's dynprompt, or what has its get_node and has_node."""
    models: dict[str, None] = {}
    loras = []
    for inputs in _nodes_upstream(prompt, node_id, source):
        for name, value in inputs.items():
            if re.search(r"vae|clip", name, re.IGNORECASE):
                continue
            if isinstance(value, dict):
                # rgthree's Power Lora Loader: {"on": true, "lora": "mira.safetensors", "strength": 1.0}.
                if value.get("on", True) and value.get("strength") != 0 and _is_model(value.get("lora")):
                    loras.append(_without_folder(value["lora"]))
            elif not _is_model(value):
                continue
            elif "lora" not in name.lower():
                # Only a name tells a LoRA's input from a model's: lora, lora_name, lora_01 in all packs that load them.
                models[_without_folder(value)] = None
            elif inputs.get("strength_model") != 0 and not _switched_off(inputs, name):
                loras.append(_without_folder(value))
    return Upstream(tuple(models), tuple(loras))


def _switched_off(inputs: Mapping, name: str) -> bool:
    """Whether the LoRA of a stacker's input, such as lora_name_2, has another input of that number that switches it off or sets it to 0."""
    number = re.search(r"_(\d+)$", name)
    if number is None:
        return False
    if isinstance(count := inputs.get("lora_count"), int) and int(number[1]) > count:
        return True
    own = {key: value for key, value in inputs.items() if key != name and key.endswith(number[0])}
    weights = [value for key, value in own.items() if re.search(r"str|weight|wt", key) and "clip" not in key and isinstance(value, (int, float))]
    return any(key.startswith(("switch", "enable")) and value in ("Off", "off", False) for key, value in own.items()) or (bool(weights) and not any(weights))


def _is_model(value) -> bool:
    return isinstance(value, str) and value.lower().endswith(_MODEL_SUFFIXES) and "\n" not in value


def _without_folder(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


# No model comes by these: what is made with a model, such as the choice of LoRA Sweep, would bring that model's files along.
_NO_MODEL = re.compile(r"(?!.*stack)(lora|strength|trigger)|clip|vae|image|picture|text|prompt|positive|negative|cond|latent|seed|mask", re.IGNORECASE)


def _nodes_upstream(prompt, node_id: str, source: str) -> Iterator[Mapping]:
    """The inputs of each node that leads to an input that takes a model."""
    link = _inputs(prompt, node_id).get(source)
    waiting, seen = [link[0]] if isinstance(link, list) else [], set()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        inputs = _inputs(prompt, name)
        yield inputs
        links = {name: value for name, value in inputs.items() if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)}
        waiting += [value[0] for name, value in links.items() if not _NO_MODEL.match(name)]


def _inputs(prompt, node_id: str) -> Mapping:
    return prompt.get_node(node_id)["inputs"] if prompt is not None and prompt.has_node(node_id) else {}


# --- speed ---


@dataclass(frozen=True)
class _Fast:
    """A speed LoRA or a merged fast model. steps: 0 or None where it does not say how many."""

    name: str
    steps: int | None
    base: str | None


def speed_notes(preset: str, settings: Settings, kind: str | None, upstream: Upstream, stack: Sequence[Applied], speed: Applied | None) -> list[str]:
    """What is to be said of speed LoRAs and merged fast models.

    kind: what the model is, None where nobody knows; upstream: what leads to it; stack: what Character LoRA put on it; speed: the LoRA of speed_lora, where it is put on.
    What the stack has at strength 0 counts nowhere.
    """
    others = [_named(name) for name in _of_other_loaders(upstream.loras, stack) if named_fast([name])]
    own = [_read(one) for one in stack if one.strength and (one.lora.speed is not None or one.role == "speed")]
    merged = [_named(name) for name in upstream.models if named_fast([name])][:1]
    fast = [*others, *own, *([_read(speed)] if speed else [])]
    # What warnings_for says of speed_lora is not said again here.
    notes = [said for one in (*others, *own) if (said := speed_mismatch(one.name, one.base, kind))]
    if others and len(fast) > 1:
        notes.append(_both(others[0].name, fast[-1].name))
    elif len(own) > 1 and speed is None:
        notes.append(f"{own[0].name} and {own[-1].name} are both speed LoRAs, which together overshoot: keep one.")
    if merged and fast:
        what = "set speed_lora to none" if speed else "leave it out"
        notes.append(f"{merged[0].name} already holds a speed LoRA by its name: with {fast[-1].name} on top pictures get grid lines; {what}.")
    if preset == FAST and not fast and not merged:
        notes.append(
            "Preset fast takes 4 steps, but neither a Lightning LoRA nor a merged Lightning model is seen: pictures will be blurred; choose one in speed_lora."
        )
    # Models that are called distilled are made for 10 steps and more.
    made_for_few = [one for one in (*others, *merged, *own) if one.steps or "distill" not in one.name.lower()]
    if made_for_few and settings.steps > FEW_STEPS:
        notes.append(
            f"{made_for_few[0].name} is made for few steps at cfg 1; with {settings.steps} steps at cfg {settings.cfg:g} pictures turn out harsh: take "
            "preset fast."
        )
    for one in dict.fromkeys((*merged, *fast)):
        if one.steps and settings.steps < one.steps:
            notes.append(
                f"{one.name} is made for {one.steps} steps; with {settings.steps} pictures look unfinished: take one for {settings.steps} steps, or preset "
                f"custom with {one.steps} steps at cfg 1."
            )
    return notes


def _named(name: str) -> _Fast:
    return _Fast(name, *told_by_name(name))


def _read(one: Applied) -> _Fast:
    return _Fast(one.lora.name, one.lora.speed, one.lora.base)


def _both(other: str, name: str) -> str:
    if other == name:
        return f"{name} is put on the model by another loader, too: the strengths add up, keep one."
    return f"{other}, which another loader puts on the model, and {name} are both speed LoRAs, which together overshoot: keep one."


def _of_other_loaders(names: Sequence[str], stack: Sequence[Applied]) -> list[str]:
    """Without those that the stack knows, each as often as it knows it."""
    own = Counter(one.lora.name for one in stack)
    return list((Counter(names) - own).elements())


# --- angles ---

# The phrases that an angle LoRA was trained with, by its base: see prompts.py for their sources.
_ANGLE_PHRASES = {"edit 2511": (r"<sks>", ANGLE_2511), "edit 2509": (r"\bthe camera\b|镜头|相机", ANGLE_2509)}


def angle_vocabulary_of(stack: Sequence[Applied]) -> tuple[str, list[str]]:
    """The vocabulary of the angle LoRA in a stack, plain words without one; and a sentence for each that nobody can tell it of."""
    bases = [(one, _angle_base(one, one.model_kind)) for one in _angle_loras(stack)]
    known = [_ANGLE_PHRASES[base][1] for _, base in bases if base]
    return known[-1] if known else PLAIN, [_untold(one) for one, base in bases if not base]


def angle_notes(stack: Sequence[Applied], prompts: Sequence[str], kind: str | None) -> list[str]:
    """A sentence where an angle LoRA never meets the words that it understands. kind: what the model is, None where nobody knows."""
    notes = []
    for one in _angle_loras(stack):
        base = _angle_base(one, kind)
        phrases = [_ANGLE_PHRASES[base][0]] if base else [phrase for phrase, _ in _ANGLE_PHRASES.values()]
        if any(re.search(phrase, prompt, re.IGNORECASE) for phrase in phrases for prompt in prompts):
            continue
        notes.append(
            f"{one.lora.name} is an angle LoRA, but no prompt turns the camera in its words: in Shot List set angle_vocabulary to `{_ANGLE_PHRASES[base][1]}`, and angles."
            if base
            else _untold(one)
        )
    return notes


def _angle_loras(stack: Sequence[Applied]) -> list[Applied]:
    return [one for one in stack if one.role == "angle" and one.strength]


def _angle_base(one: Applied, kind: str | None) -> str | None:
    """The base whose words it understands: what its file says, else the model that it is put on."""
    told = one.lora.base if one.lora.base not in (None, "edit") else kind
    return told if told in _ANGLE_PHRASES else None


def _untold(one: Applied) -> str:
    return f"{one.lora.name} is an angle LoRA, but neither its file nor the model tells whose words it understands: choose angle_vocabulary of Shot List."
