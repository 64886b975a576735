"""Workflows in API form, what ComfyUI's POST /prompt takes: which there are, which inputs the options of `likeness run` fill, what a host lacks for one.

Nothing here talks to a host (remote.py does). A prompt is {node id: {"class_type": ..., "inputs": {...}, "_meta": {"title": ...}}}; a link is
[node id, output number]; a slot is "node id.input", such as "7.scene".
"""

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import InputError
from .installation import PACK

Prompt = dict[str, dict]

FOLDER = PACK / "example_workflows" / "api"
# Beside the workflows: what they do, which inputs the options fill, a bypassed LoRA, the files. Written by tests/browser/api_forms.py.
FIELDS = "fields.json"

SCENE, SHOTS, LORA = "LikenessQwenScene", "LikenessShotList", "LikenessLora"
GATES = ("LikenessIdentityGate", "LikenessCastGate")
# Where a picture is a reference: the inputs of each class that take one; "" stands for all of its links.
REFERENCE_INPUTS = {
    "LikenessCharacterReferences": "",
    "LikenessBuildIdentity": "images",
    "LikenessApplyFluxIPAdapter": "images",
    "LikenessFaceSwap": "reference",
}
# What makes a picture: a reference does not come from behind it.
MAKERS = re.compile(rf"{SCENE}|.*Sampler.*|VAEDecode.*|LikenessFaceSwap")
# Nodes of ours whose text is the prompt, or one prompt a line.
PROMPT_INPUTS = {"LikenessLoraSweep": "prompts"}
# Inputs with the text of an encoder, such as CLIPTextEncode's, CLIPTextEncodeFlux's, TextEncodeQwenImageEditPlus'.
TEXT_INPUTS = ("text", "prompt", "clip_l", "t5xxl")
SEED_INPUTS = ("seed", "noise_seed")
# What has a width and a height of the pictures to be made.
SIZED = re.compile(r"Empty.*Latent.*|LikenessLoraSweep")
# Aspects that our nodes list by name (scene/choices.py, and a test says so); any other is a custom size.
ASPECTS = ("1:1", "4:5", "5:4", "3:4", "4:3", "2:3", "3:2", "9:16", "16:9", "21:9")
CUSTOM = "custom"
SIZE_MULTIPLE = 32
MEGAPIXEL = 1024 * 1024
LONGEST_ASPECT = 8
MODEL_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")


@dataclass(frozen=True)
class Fields:
    """The slots that each option fills, in the order of the nodes' ids; references and pictures take a file each, the others one value for all."""

    prompt: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    picture: tuple[str, ...] = ()
    seed: tuple[str, ...] = ()
    aspect: tuple[str, ...] = ()
    lora: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """A workflow in API form. lora: what puts its bypassed LoRA into the prompt, None where there is none; models: {"name", "url", "directory"} of its files."""

    name: str
    prompt: Prompt
    what: str = ""
    lora: dict | None = None
    models: tuple[dict, ...] = ()
    shipped: bool = False

    @property
    def fields(self) -> Fields:
        return fields_of(with_lora(self.prompt, self.lora) if self.lora else self.prompt)


# ---- which there are -------------------------------------------------------------------------------------------------


def names() -> list[str]:
    return sorted((path.stem for path in FOLDER.glob("*.json") if path.name != FIELDS), key=str.casefold)


def find(name: str) -> Form:
    """The shipped workflow of that name, or the only one that begins so, whatever the case; else the file at that path.

    Raises InputError where there is none, several, or the file is no workflow in API form.
    """
    known = names()
    wanted = " ".join(name.split()).casefold()
    found = [one for one in known if one.casefold() == wanted] or [one for one in known if wanted and one.casefold().startswith(wanted)]
    if len(found) == 1:
        return _shipped(found[0])
    path = Path(name).expanduser()
    if path.suffix.casefold() == ".json" or path.is_file():
        return Form(path.stem, read(path))
    if found:
        raise InputError(f"'{name}' is the beginning of {', '.join(found)}; write more of the name.")
    raise InputError(f"There is no workflow '{name}'; there are {', '.join(known) or 'none here'}, or name a .json file in API form.")


def _shipped(name: str) -> Form:
    known = json.loads((FOLDER / FIELDS).read_text(encoding="utf-8")).get(name, {})
    return Form(name, read(FOLDER / f"{name}.json"), known.get("what", ""), known.get("lora"), tuple(known.get("models", ())), True)


def read(path: Path) -> Prompt:
    """The prompt in a file. Raises InputError for what cannot be read, is no JSON or no prompt."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"The workflow {path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is no JSON file; export a workflow with ComfyUI's menu Workflow > Export (API).") from None
    if isinstance(content, dict) and isinstance(content.get("nodes"), list):
        raise InputError(f"{path} is a workflow as the editor saves it; export it in API form with ComfyUI's menu Workflow > Export (API).")
    if isinstance(content, dict) and "class_type" not in content and isinstance(content.get("prompt"), dict):
        content = content["prompt"]
    sound = isinstance(content, dict) and content and all(isinstance(node, dict) and isinstance(node.get("class_type"), str) for node in content.values())
    if not sound or not all(isinstance(node.get("inputs", {}), dict) for node in content.values()):
        raise InputError(f"{path} is no workflow in API form; export one with ComfyUI's menu Workflow > Export (API).")
    for node in content.values():
        node.setdefault("inputs", {})
    return content


def title(prompt: Prompt, id_: str) -> str:
    """What the editor calls a node; its class where it has no title, and the id where it is not known, as inside an expansion."""
    node = prompt.get(id_) or prompt.get(id_.split(".")[0]) or {}
    meta = node.get("_meta")
    return (meta.get("title") if isinstance(meta, dict) else None) or node.get("class_type") or id_


# ---- which inputs an option fills ------------------------------------------------------------------------------------


def fields_of(prompt: Prompt) -> Fields:
    """By what nodes are, and what hangs on them; nothing is known of any one workflow."""
    ids = sorted(prompt, key=_natural)
    prompts, negatives, aspects = [], [], []
    for id_ in ids:
        kind, inputs = prompt[id_]["class_type"], prompt[id_]["inputs"]
        if kind == SCENE:
            negatives += _texts(prompt, id_, "negative")
            # A step that works on what an earlier one made keeps its own words and size.
            if not any(prompt[other]["class_type"] == SCENE for other in _behind(prompt, id_)):
                shots = inputs.get("shots")
                prompts += _texts(prompt, shots[0], "scenes") if _links_to(prompt, shots, SHOTS) else _texts(prompt, id_, "scene")
                aspects += [f"{id_}.aspect_ratio"] if isinstance(inputs.get("aspect_ratio"), str) else []
        elif kind in PROMPT_INPUTS:
            prompts += _texts(prompt, id_, PROMPT_INPUTS[kind])
            negatives += _texts(prompt, id_, "negative")
        elif is_link(prompt, inputs.get("positive")):
            prompts += _encoded(prompt, inputs["positive"][0], "positive")
            if is_link(prompt, inputs.get("negative")):
                negatives += _encoded(prompt, inputs["negative"][0], "negative")
        elif kind == "BasicGuider" and is_link(prompt, inputs.get("conditioning")):
            prompts += _encoded(prompt, inputs["conditioning"][0], "positive")
        if SIZED.fullmatch(kind) and all(type(inputs.get(side)) is int for side in ("width", "height")):
            aspects += [f"{id_}.width", f"{id_}.height"]
    references = {slot for id_ in ids for slot in _references(prompt, id_)}
    loaded = [f"{id_}.image" for id_ in ids if prompt[id_]["class_type"] == "LoadImage"]
    return Fields(
        prompt=_alike(prompt, list(dict.fromkeys(prompts))),
        # The same words cannot be wanted and not wanted.
        negative=tuple(slot for slot in dict.fromkeys(negatives) if slot not in prompts),
        reference=tuple(slot for slot in loaded if slot in references),
        picture=tuple(slot for slot in loaded if slot not in references),
        seed=tuple(f"{id_}.{name}" for id_ in ids for name in SEED_INPUTS if type(prompt[id_]["inputs"].get(name)) is int),
        aspect=tuple(aspects),
        lora=tuple(f"{id_}.lora" for id_ in ids if _is_own_lora(prompt[id_])),
    )


def _alike(prompt: Prompt, slots: list[str]) -> tuple[str, ...]:
    """The first text, the others of its node, and those that say the same: what says something else is about something else."""
    found = [(slot, slot.split(".")[0], prompt[slot.split(".")[0]]["inputs"][slot.split(".", 1)[1]]) for slot in slots]
    return tuple(slot for slot, node, text in found if node == found[0][1] or text == found[0][2])


def _is_own_lora(node: dict) -> bool:
    return node["class_type"] == LORA and node["inputs"].get("role") == "character" and isinstance(node["inputs"].get("lora"), str)


def _natural(id_: str) -> list:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", id_) if part]


def is_link(prompt: Prompt, value: Any) -> bool:
    """Whether a value of an input is the output of a node."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in prompt


def _links_to(prompt: Prompt, value: Any, kind: str) -> bool:
    return is_link(prompt, value) and prompt[value[0]]["class_type"] == kind


def _sources(prompt: Prompt, id_: str, inputs: str = "") -> Iterator[str]:
    """The nodes wired into a node; inputs: only into the one of this name, or its growing list."""
    for name, value in prompt[id_]["inputs"].items():
        if is_link(prompt, value) and (not inputs or name.split(".")[0] == inputs):
            yield value[0]


def _behind(prompt: Prompt, id_: str) -> set[str]:
    """Every node that a node depends on."""
    seen, waiting = set(), list(_sources(prompt, id_))
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += _sources(prompt, one)
    return seen


def _texts(prompt: Prompt, id_: str, name: str) -> list[str]:
    """The slot of a text: the input itself, or the value of the primitive that is wired to it."""
    value = prompt[id_]["inputs"].get(name)
    if isinstance(value, str):
        return [f"{id_}.{name}"]
    if is_link(prompt, value) and isinstance(prompt[value[0]]["inputs"].get("value"), str):
        return [f"{value[0]}.value"]
    return []


def _encoded(prompt: Prompt, id_: str, side: str) -> list[str]:
    """The texts that become this conditioning. What zeroes a conditioning, or makes a picture, ends the way."""
    seen, waiting, found = set(), [id_], []
    while waiting:
        one = waiting.pop(0)
        kind = prompt[one]["class_type"]
        if one in seen or kind == "ConditioningZeroOut" or MAKERS.fullmatch(kind):
            continue
        seen.add(one)
        texts = [slot for name in TEXT_INPUTS for slot in _texts(prompt, one, name)] if "clip" in prompt[one]["inputs"] else []
        found += texts
        if not texts:
            waiting += _sources(prompt, one, side) if side in prompt[one]["inputs"] else _sources(prompt, one)
    return sorted(found, key=_natural)


def _references(prompt: Prompt, id_: str) -> set[str]:
    """The Load Image that a node takes as references of a character, directly or through what changes pictures."""
    kind = prompt[id_]["class_type"]
    if kind not in REFERENCE_INPUTS:
        return set()
    seen, waiting, found = set(), list(_sources(prompt, id_, REFERENCE_INPUTS[kind])), set()
    while waiting:
        one = waiting.pop()
        if one in seen or MAKERS.fullmatch(prompt[one]["class_type"]):
            continue
        seen.add(one)
        if prompt[one]["class_type"] == "LoadImage":
            found.add(f"{one}.image")
        waiting += _sources(prompt, one)
    return found


# ---- filling ---------------------------------------------------------------------------------------------------------


@dataclass
class Filling:
    """A copy of a workflow while it is filled, and which slots were. Every method raises InputError for what the workflow does not take."""

    form: Form
    prompt: Prompt = field(init=False)
    filled: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        self.prompt = copy.deepcopy(self.form.prompt)
        self.fields = self.form.fields

    def text(self, option: str, value: str) -> None:
        """--prompt or --negative."""
        for slot in self._slots(option):
            self._put(slot, value)

    def seed(self, value: int) -> None:
        if not 0 <= value < 1 << 64:
            raise InputError(f"The seed {value} must lie between 0 and {(1 << 64) - 1}.")
        for slot in self._slots("seed"):
            self._put(slot, value)

    def aspect(self, text: str) -> None:
        """W:H: an aspect of our nodes by its name, else a size of as many pixels as before, in multiples of 32."""
        width, height = _proportions(text)
        for slot in self._slots("aspect"):
            id_, name = slot.split(".", 1)
            inputs = self.prompt[id_]["inputs"]
            if name == "height":
                continue
            if name == "width":
                size = sized(width, height, inputs["width"] * inputs["height"])
            elif text in ASPECTS:
                self._put(slot, text)
                continue
            else:
                self._put(slot, CUSTOM)
                size = sized(width, height, float(inputs.get("megapixels", 1)) * MEGAPIXEL)
            for side, pixels in zip(("width", "height"), size):
                self._put(f"{id_}.{side}", pixels)

    def lora(self, file: str) -> None:
        """A LoRA of the host's models/loras, in the node that is bypassed in the workflow where it is."""
        slots = self._slots("lora")
        if self.form.lora:
            self.prompt = with_lora(self.prompt, self.form.lora)
        for slot in slots:
            self._put(slot, file)

    def check_files(self, option: str, count: int) -> list[str]:
        """The slots that this many files go to."""
        slots = self._slots(option)
        if count != len(slots):
            called = "; ".join(title(self.prompt, slot.split(".")[0]) for slot in slots)
            raise InputError(
                f"{self.form.name} takes {len(slots)} file(s) with --{option} ({called}), and {count} are given; name one for each, in this order."
            )
        return list(slots)

    def put(self, slot: str, value: Any) -> None:
        self._put(slot, value)

    def set(self, text: str) -> None:
        """NODE.INPUT=VALUE; NODE is an id, a title or a class that stands for one node. The value becomes what the input has now: number, switch or text."""
        left, equals, value = text.partition("=")
        if not equals or "." not in left:
            raise InputError(f"--set {text} is not NODE.INPUT=VALUE, such as 7.steps=20.")
        id_, name = self._named(left.strip(), text)
        inputs = self.prompt[id_]["inputs"]
        if name not in inputs and not ("." in name and name.split(".")[0] in inputs):
            has = ", ".join(key for key, given in inputs.items() if not is_link(self.prompt, given))
            raise InputError(f"--set {text}: {title(self.prompt, id_)} ({id_}) has no input '{name}'; it has {has or 'none to set'}.")
        if is_link(self.prompt, inputs.get(name)):
            raise InputError(f"--set {text}: '{name}' of {title(self.prompt, id_)} ({id_}) comes from another node; set it there ({inputs[name][0]}).")
        self._put(f"{id_}.{name}", _as(inputs.get(name), value, text))

    def _named(self, left: str, text: str) -> tuple[str, str]:
        # Titles and inputs may both have dots in them: the longest name of a node counts.
        for at in reversed([i for i, letter in enumerate(left) if letter == "."]):
            node, name = left[:at], left[at + 1 :]
            if node in self.prompt:
                return node, name
            for of in (lambda id_: title(self.prompt, id_), lambda id_: self.prompt[id_]["class_type"]):
                found = [id_ for id_ in self.prompt if of(id_).casefold() == node.casefold()]
                if len(found) > 1:
                    raise InputError(f"--set {text}: '{node}' are the nodes {', '.join(sorted(found, key=_natural))}; name one by its number.")
                if found:
                    return found[0], name
        raise InputError(f"--set {text}: {self.form.name} has no node '{left.split('.')[0]}'; `likeness run NAME --list` shows them.")

    def _slots(self, option: str) -> tuple[str, ...]:
        slots = getattr(self.fields, option)
        if not slots:
            raise InputError(
                f"{self.form.name} has nothing that --{option} could fill; `likeness run NAME --list` shows its inputs, and --set fills any of them."
            )
        return slots

    def _put(self, slot: str, value: Any) -> None:
        id_, name = slot.split(".", 1)
        self.prompt[id_]["inputs"][name] = value
        self.filled[slot] = value


def with_lora(prompt: Prompt, lora: Mapping[str, Any]) -> Prompt:
    """The prompt with the nodes that are bypassed in the workflow."""
    filled = copy.deepcopy({**prompt, **lora["nodes"]})
    for slot, link in lora["links"].items():
        id_, name = slot.split(".", 1)
        filled[id_]["inputs"][name] = list(link)
    return filled


def _proportions(text: str) -> tuple[float, float]:
    found = re.fullmatch(r"(\d{1,5}(?:\.\d{1,4})?):(\d{1,5}(?:\.\d{1,4})?)", text)
    width, height = (float(side) for side in found.groups()) if found else (0.0, 0.0)
    if not width or not height or not 1 / LONGEST_ASPECT <= width / height <= LONGEST_ASPECT:
        raise InputError(f"The aspect '{text}' is not WIDTH:HEIGHT, from 1:{LONGEST_ASPECT} to {LONGEST_ASPECT}:1, such as 9:16.")
    return width, height


def sized(width: float, height: float, area: float) -> tuple[int, int]:
    """(width, height) in pixels of about `area`, with the aspect of the given sides, in multiples of 32."""
    scale = math.sqrt(area / (width * height)) / SIZE_MULTIPLE
    return tuple(max(1, round(side * scale)) * SIZE_MULTIPLE for side in (width, height))


def _as(now: Any, value: str, text: str) -> Any:
    """A value of the command line as the kind that an input has now; where it has none, a number or switch if it looks like one."""
    try:
        if isinstance(now, bool):
            return {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}[value.strip().casefold()]
        if isinstance(now, int):
            try:
                return int(value)
            except ValueError:
                return _finite(value)
        if isinstance(now, float):
            return _finite(value)
    except (ValueError, KeyError):
        kind = "true or false" if isinstance(now, bool) else "a number"
        raise InputError(f"--set {text}: this input takes {kind}, not '{value}'.") from None
    if isinstance(now, str):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, bool | int | float) else value


def _finite(value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


# ---- what a host lacks -----------------------------------------------------------------------------------------------


def missing(prompt: Prompt, info: Mapping[str, dict], models: Sequence[Mapping[str, str]] = (), given: Sequence[str] = ()) -> list[str]:
    """One sentence for each node and each file that the host does not have. info: its object_info by class; given: slots whose files are uploaded later."""
    sentences = [_no_node(kind) for kind in dict.fromkeys(node["class_type"] for node in prompt.values()) if kind not in info]
    for id_ in sorted(prompt, key=_natural):
        node = prompt[id_]
        for name, options in _choices(info.get(node["class_type"], {}), node["inputs"]):
            value = node["inputs"].get(name)
            if not isinstance(value, str) or value in options or f"{id_}.{name}" in given:
                continue
            suffix = PurePosixPath(value.replace("\\", "/")).suffix.casefold()
            if suffix in MODEL_SUFFIXES:
                sentences.append(_no_file(title(prompt, id_), name, value, models))
            elif suffix in PICTURE_SUFFIXES and "/" not in value:
                sentences.append(
                    f"{title(prompt, id_)} names {value}, which is not in the host's input folder: name a file of yours with --reference or --picture."
                )
    return list(dict.fromkeys(sentences))


def _choices(info: Mapping[str, Any], inputs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list]]:
    """(input, options) of every list to choose from, in both forms that object_info has; those of the chosen option of a dynamic one, too."""
    declared = info.get("input", info) if not prefix else info
    for group in ("required", "optional"):
        for name, kind in (declared.get(group) or {}).items() if isinstance(declared, Mapping) else ():
            if not isinstance(kind, list) or not kind:
                continue
            if isinstance(kind[0], list):
                yield prefix + name, kind[0]
            elif len(kind) > 1 and isinstance(kind[1], Mapping) and isinstance(kind[1].get("options"), list):
                if kind[0] == "COMBO":
                    yield prefix + name, kind[1]["options"]
                elif kind[0] == "COMFY_DYNAMICCOMBO_V3":
                    for option in kind[1]["options"]:
                        if option.get("key") == inputs.get(prefix + name):
                            yield from _choices(option.get("inputs", {}), inputs, f"{prefix}{name}.")


def _no_node(kind: str) -> str:
    if kind.startswith("Likeness"):
        return f"The host has no node {kind}: install Likeness there with ComfyUI Manager, or bring it up to date, and restart ComfyUI."
    return f"The host has no node {kind}: bring its ComfyUI to 0.33 or newer, or install the pack that has it, and restart ComfyUI."


def _no_file(node: str, name: str, file: str, models: Sequence[Mapping[str, str]]) -> str:
    from .model_files import CATALOGUE

    begins = f"{node} needs the file {file} ({name}), which the host does not have"
    for item in CATALOGUE.values():
        if any(file in known.provides for known in item.files):
            return f"{begins}: run `likeness models download {item.name}` there, which puts it into models/{item.folder}."
    for model in models:
        if model["name"] == file:
            # The host's name of a folder of ours has _ for /.
            folder = {"xlabs_ipadapters": "xlabs/ipadapters"}.get(model["directory"], model["directory"])
            return f"{begins}: download {model['url']} as {file} into its models/{folder}."
    return f"{begins}: put it into its models folder, or choose another with --set."
