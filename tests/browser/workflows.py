"""Make the example workflows of the rooms scene, flux and lora_dataset in the real editor: `python -m tests.browser.workflows [NAME...]`.

Needs a ComfyUI, Playwright and Chromium (CONTRIBUTING.md). Each graph is described here by names: nodes, their widgets and links, and which nodes
stand together. The editor creates it, so that what it saves is what it loads: the order of widget values, sockets and links. The places come from
the sizes that the editor measures. Writes example_workflows/NAME.json; the thumbnails are taken by tests/browser/thumbnails.py.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.browser import editor as browser
from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy
from tests.tiny import flux_models as flux_files
from tests.tiny import qwen_models as files

ALWAYS, NEVER, BYPASSED = 0, 2, 4
FOLDER = ROOT / "example_workflows"
TINY_HOST = ROOT / "tests" / "tiny" / "qwen_host"

# ---- the files that a user downloads ---------------------------------------------------------------------------------

HUB = "https://huggingface.co/"
IMAGE, EDIT = "Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files", "Comfy-Org/Qwen-Image-Edit_ComfyUI/resolve/main/split_files"


@dataclass(frozen=True)
class File:
    """A file of models/`folder`. size: as its page on Hugging Face shows it; there: its name on that page, where it is another."""

    name: str
    folder: str
    where: str
    size: str
    there: str = ""

    @property
    def url(self) -> str:
        return f"{HUB}{self.where}/{self.there or self.name}"

    @property
    def kind(self) -> str:
        """What the host calls the folder: the editor looks it up by that."""
        return self.folder.replace("/", "_")


# Addresses as in ComfyUI's own templates image_qwen_image_edit_2511, _2509, image_qwen_Image_2512, flux_dev_full_text_to_image and
# flux_redux_model_example; the angle LoRA's is its model card's, those of the IP-Adapter and its encoder are nodes/model_files/catalogue.py's.
FILES = {
    file.name: file
    for file in (
        File(files.EDIT_2511, "diffusion_models", f"{EDIT}/diffusion_models", "20.5 GB"),
        File(files.EDIT_2509, "diffusion_models", f"{EDIT}/diffusion_models", "20.4 GB"),
        File(files.IMAGE_2512, "diffusion_models", f"{IMAGE}/diffusion_models", "20.4 GB"),
        File(files.TEXT_ENCODER, "text_encoders", f"{IMAGE}/text_encoders", "9.38 GB"),
        File(files.VAE, "vae", f"{IMAGE}/vae", "254 MB"),
        File(files.LIGHTNING_2511, "loras", "lightx2v/Qwen-Image-Edit-2511-Lightning/resolve/main", "850 MB"),
        File(files.LIGHTNING_2512, "loras", "lightx2v/Qwen-Image-2512-Lightning/resolve/main", "1.7 GB"),
        File(files.ANGLES_2511, "loras", "fal/Qwen-Image-Edit-2511-Multiple-Angles-LoRA/resolve/main", "295 MB"),
        File(flux_files.DEV, "diffusion_models", "Comfy-Org/flux1-dev/resolve/main", "23.8 GB"),
        File(flux_files.CLIP_L, "text_encoders", "comfyanonymous/flux_text_encoders/resolve/main", "246 MB"),
        File(flux_files.T5, "text_encoders", "comfyanonymous/flux_text_encoders/resolve/main", "4.89 GB"),
        File(flux_files.AE, "vae", "Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae", "335 MB"),
        File(flux_files.XLABS_V2, "xlabs/ipadapters", "XLabs-AI/flux-ip-adapter-v2/resolve/main", "1.06 GB", "ip_adapter.safetensors"),
        File(flux_files.CLIP_VISION, "clip_vision", "openai/clip-vit-large-patch14/resolve/main", "1.71 GB", "model.safetensors"),
    )
}
# What Face Swap itself shows where no swap model is. The editor draws a node red that names a model file which is not there, so the user chooses it.
SWAP_MODEL = "inswapper_128.onnx"
# What stands in a Character LoRA until the user chooses. The node is bypassed, so nobody misses the file.
OWN_LORA = "my_character.safetensors"
# A dataset's name, and the folder of pictures in ComfyUI's input; the word that calls the character; the pictures of a usual dataset.
DATASET, TRIGGER, DATASET_PLAN = "my_character", "m1ra", "20 closeup, 30 full body, 20 variety"

# ---- describing a graph ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """An output by the name that the editor shows."""

    node: str
    output: str


@dataclass
class Node:
    key: str
    type: str
    title: str
    size: tuple[int, int]
    mode: int
    inputs: dict

    def __getitem__(self, output: str) -> Link:
        return Link(self.key, output)


@dataclass(frozen=True)
class Area:
    """Columns of nodes, from left to right, in a frame with a title; without a title there is no frame."""

    title: str
    columns: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True)
class Across:
    parts: tuple


@dataclass(frozen=True)
class Down:
    parts: tuple


@dataclass
class Graph:
    nodes: dict[str, Node] = field(default_factory=dict)

    def add(self, key: str, type_: str, title: str = "", size: tuple[int, int] = (0, 0), mode: int = ALWAYS, /, **inputs) -> Node:
        """inputs: widgets as values and sockets as Links, by name; None is left out. size: at least this; the editor knows the smallest."""
        node = self.nodes[key] = Node(key, type_, title, size, mode, {name: value for name, value in inputs.items() if value is not None})
        return node

    def loaders(self, unet: str) -> tuple[Node, Node, Node]:
        return (
            self.add("unet", "UNETLoader", "", (WIDE, 0), unet_name=unet, weight_dtype="default"),
            self.add("clip", "CLIPLoader", "", (WIDE, 0), clip_name=files.TEXT_ENCODER, type="qwen_image", device="default"),
            self.add("vae", "VAELoader", "", (WIDE, 0), vae_name=files.VAE),
        )

    def angle_lora(self, unet: Node) -> Node:
        chosen = {"lora": files.ANGLES_2511, "strength": 0.9, "role": "angle", "trigger": "none"}
        return self.add("angle", "LikenessLora", "Angle LoRA", (WIDEST, 260), model=unet["MODEL"], **chosen)

    def own_lora(self, unet: Node) -> Node:
        title = "Character LoRA (choose yours, then un-bypass)"
        return self.add("own", "LikenessLora", title, (WIDEST, 260), BYPASSED, model=unet["MODEL"], lora=OWN_LORA, strength=1.0, role="character", trigger="")

    def picture(self, key: str, title: str, wide: int = 0) -> Node:
        """Every fresh ComfyUI has example.png in its input folder."""
        return self.add(key, "LoadImage", title, (wide or NARROW, 330), image="example.png")

    def references(self, title: str = "", /, **inputs) -> Node:
        given = {"vae": self.nodes["vae"]["VAE"], "policy": "scene"} | inputs
        return self.add(f"references {title}", "LikenessCharacterReferences", title, (NARROW, 400), **given)

    def identity(self, face: Node, title: str = "", name: str = "character", recognizer: Link | None = None) -> Node:
        return self.add(f"identity {title}", "LikenessBuildIdentity", title, (NARROW, 330), images=face["IMAGE"], recognizer=recognizer, name=name)

    def character(self, title: str = "Reference: the face", name: str = "", earlier: Link | None = None) -> tuple[Node, Node, Node]:
        """(picture, references, identity) of one person. earlier: references that are counted before these."""
        face = self.picture(title, title)
        references = self.references(f"{name}: references" if name else "", face=face["IMAGE"], name=name, references=earlier)
        return face, references, self.identity(face, f"{name}: identity" if name else "", name or "character")

    def shots(self, height: int, /, **inputs) -> Node:
        """A filled box hides its name in classic drawing, so a comment in its first line says it; the template has its own form."""
        lists = ("scenes", "angles", "lighting", "expressions", "outfits", "framing_plan")
        named = {name: f"# {name.replace('_', ' ')}\n{text}" if name in lists and text else text for name, text in inputs.items()}
        return self.add("shots", "LikenessShotList", "", (WIDE, height), **named)

    def scene(self, title: str = "", /, **inputs) -> Node:
        given = {"model": None, "clip": self.nodes["clip"]["CLIP"], "vae": self.nodes["vae"]["VAE"], "seed": 1, "preset": "balanced"} | inputs
        given["model"] = given["model"] or self.nodes["unet"]["MODEL"]
        return self.add(f"scene {title}", "LikenessQwenScene", title, (WIDEST, SCENE), **given)

    def gate(self, scene: Node, identity: Node, title: str = "", /, **inputs) -> Node:
        wires = {"image": scene["images"], "identity": identity["identity"]}
        return self.add(f"gate {title}", "LikenessIdentityGate", title, (NARROW, GATE), **wires, **inputs)

    def show(self, title: str, images: Link, height: int) -> Node:
        return self.add(title, "PreviewImage", title, (NARROW, height), images=images)

    def save(self, title: str, images: Link, prefix: str, height: int) -> Node:
        return self.add(title, "SaveImage", title, (NARROW, height), images=images, filename_prefix=prefix)

    def to_trainer(self, dataset: Link, identity: Link, **export) -> tuple[Node, ...]:
        """(captions, audit, contact sheet, report, export, what was written) of a dataset. export: further inputs of the export."""
        captions = self.add("captions", "LikenessCaptions", "", (WIDE, 760), dataset=dataset, trigger=TRIGGER, source="keep")
        audit = self.add("audit", "LikenessDatasetAudit", "", (WIDEST, 960), dataset=captions["dataset"], identity=identity, plan=DATASET_PLAN)
        sheet = self.add("sheet", "PreviewImage", "Contact sheet, the worst first", (WIDEST, 320), images=audit["sheet"])
        report = self.add("report", "PreviewAny", "Report of the audit", (WIDEST, 500), source=audit["report"])
        chosen = {"name": DATASET, "trainer": "ai-toolkit", "base_model": "Qwen-Image-2512", "vram": "24", "dry_run": False}
        wires = {"dataset": audit["dataset"], "report": audit["report"], "sheet": audit["sheet"]}
        written = self.add("export", "LikenessDatasetExport", "", (WIDEST, 960), **wires, **chosen | export)
        told = self.add("written", "PreviewAny", "What was written, and the command to train", (WIDEST, 500), source=written["report"])
        return captions, audit, sheet, report, written, told

    def verdicts(self, gate: Node, prefix: str, *more: Node, title: str = "Is it the character?") -> Area:
        """A gate and where its pictures go."""
        saved = self.save("Passed: saved", gate["passed"], prefix, 300)
        return Area(title, ((gate,), (saved, *more, self.show("Rejected", gate["rejected"], 240), self.show("Uncertain", gate["uncertain"], 240))))

    def notes(self, read: str, names: list[str], recognizer: bool = True, abreast: bool = False, reactor: bool = False) -> Area:
        texts = {"Read me": read, "Files, memory, licences": files_and_licences(names, recognizer, reactor)}
        both = tuple(self.add(title, "MarkdownNote", title, (NOTE_WIDTH, 0), text=text.strip()) for title, text in texts.items())
        return Area("", tuple((one,) for one in both) if abreast else (both,))


# A loader shows the longest of its file names in WIDE, a Lightning LoRA and its label are seen in WIDEST.
NOTE_WIDTH, WIDEST, WIDE, NARROW = 480, 560, 400, 340
# With room for the pictures that they show after a run.
SCENE, GATE, SHOTS, TALL_SHOTS = 900, 780, 920, 1300
GAP_X, GAP_Y, AREA_GAP = 60, 40, 60
TITLE, FRAME_TITLE, FRAME = 30, 50, 20
# Nodes 2.0 sets the text of a note that much higher than classic drawing, in which it is measured.
NOTE_IN_NODES_2 = 1.45

# ---- what the notes say ----------------------------------------------------------------------------------------------

RECOGNIZER = """**Recognizer.** Character Identity takes *auto*: AuraFace where its files are, else dlib. Install one of them in ComfyUI's Python:

* dlib: `python -m pip install dlib-bin face_recognition_models`
* AuraFace: `python ComfyUI/custom_nodes/ComfyUI-Likeness models download auraface`, which gets [glintr100.onnx](https://huggingface.co/fal/AuraFace-v1) \
and [face_detection_yunet_2023mar.onnx](https://huggingface.co/opencv/face_detection_yunet)
"""

REACTOR_FILES = """
**What the swap needs**, besides [ComfyUI-ReActor](https://github.com/Gourieff/ComfyUI-ReActor) from ComfyUI Manager. Face Swap looks for all of it first, \
and says in one sentence what is missing.

* `insightface`: inswapper_128.onnx, 554 MB, which ReActor's installation gets; else from [its files](https://huggingface.co/datasets/Gourieff/ReActor/tree/main/models)
* `insightface/models/buffalo_l`: `python ComfyUI/custom_nodes/ComfyUI-Likeness models download buffalo_l`
* `facerestore_models`: at least one restorer, even when nothing is restored: \
[GFPGANv1.4.pth](https://huggingface.co/datasets/Gourieff/ReActor/tree/main/models/facerestore_models)
* `facedetection`, for restoring: detection_Resnet50_Final.pth and parsing_parsenet.pth
* `nsfw_detector/vit-base-nsfw-detector`: ReActor's safety check. One run of ReActor's own nodes gets this and `facedetection`.
"""

MEMORY = """**GPU memory.** ComfyUI keeps in system RAM what does not fit: a smaller GPU is slower, not shut out. What follows is reasoned from the sizes of the \
files and was not measured.

* 16 GB: the fp8 file with a part of it in RAM; or a GGUF of Q4 to Q5, 12 to 15 GB, with the loader of [ComfyUI-GGUF](https://github.com/city96/ComfyUI-GGUF)
* 24 GB: the fp8 file, which is what this workflow loads
* 48 GB: the bf16 file of the same model, 40.9 GB, from the same folder
"""


IP_ADAPTER_FILES = """
**Adapter and encoder**: a browser saves them as *ip_adapter* and *model*. These two commands bring them under the names above into the right folders:

* `python ComfyUI/custom_nodes/ComfyUI-Likeness models download flux-ip-adapter-v2`
* `python ComfyUI/custom_nodes/ComfyUI-Likeness models download clip-vit-large-patch14`
"""

FLUX_MEMORY = """**GPU memory.** ComfyUI keeps in system RAM what does not fit: a smaller GPU is slower, not shut out. What follows is reasoned from the sizes of the \
files and was not measured.

* 16 GB: *weight_dtype* fp8_e4m3fn in Load Diffusion Model, which halves the model to 12 GB
* 24 GB: the file as it is, with a part of it in RAM; or fp8_e4m3fn, which fits
* The adapter's file is read once and let go of: what stays is 3.7 MB for each picture.
"""


def read_me(name: str, what: str, steps: list[str], *more: str, recognizer: bool = True) -> str:
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    rest = [*more, RECOGNIZER] if recognizer else more
    return "\n\n".join([f"# {name}", f"**What it does.** {what}", numbered, *(part.strip() for part in rest)])


def files_and_licences(names: list[str], recognizer: bool = True, reactor: bool = False) -> str:
    """Which files to get, what fits where, and the licences."""
    rows = "\n".join(f"* `{FILES[name].folder}`: [{name}]({FILES[name].url}), {FILES[name].size}" for name in names)
    flux = flux_files.DEV in names
    if flux:
        licences = [
            "**FLUX.1 \\[dev\\] and XLabs' IP-Adapters: FLUX.1 \\[dev\\] Non-Commercial License**",
            "Flux's text encoders and VAE: Apache-2.0",
            "the CLIP encoder: MIT",
        ]
    else:
        licences = ["Qwen-Image models, text encoder and VAE: Apache-2.0"]
    if {files.LIGHTNING_2511, files.LIGHTNING_2512} & set(names):
        licences.append("Lightning LoRA: Apache-2.0")
    if files.ANGLES_2511 in names:
        licences.append("angle LoRA: Apache-2.0")
    licences.append("Likeness: Apache-2.0")
    if recognizer:
        licences.append("dlib's face weights: CC0 1.0; AuraFace: Apache-2.0 with YuNet, MIT")
    if reactor:
        licences.append("**inswapper_128 and buffalo_l: non-commercial research only**, by InsightFace; GFPGAN: Apache-2.0; ComfyUI-ReActor: GPL-3.0")
    own = "" if reactor or flux else " A LoRA of your own has the licence of its maker."
    return f"""**Files**, below `ComfyUI/models`. The editor offers to download those that are missing.

{rows}
{REACTOR_FILES if reactor else IP_ADAPTER_FILES if flux else ""}
{(FLUX_MEMORY if flux else MEMORY).strip()}

**Licences**, as far as we know; the page of each file has the last word. {"; ".join(licences)}.{own} Use faces of people who agreed to it."""


VERDICTS = """**Verdicts.** Each picture, and the dataset, is one of these:

* *Ready*: nothing is held against it.
* *Needs attention*: it is exported, and the report says what may harm the training.
* *Blocked*: nothing is exported until you mend what the report names, or let it pass.

You have the last word: the line `photo_03: blur, resolution` in Audit Dataset's *waive* lets a picture pass, `*: exposure` all of them."""

TRAINING = f"""**Where the dataset lies.** In `ComfyUI/output/likeness/datasets/{DATASET}`: pictures and captions in `40_character`, `config.yaml` for ai-toolkit, \
`report.md`, `contact_sheet.png`, and `manifest.json` with the source of each picture.

**Start the training** where [ai-toolkit](https://github.com/ostris/ai-toolkit) is installed, which may be another machine with a copy of that folder: open a \
terminal in the folder and type `python /path/to/ai-toolkit/run.py config.yaml`, with the Python that ai-toolkit has. What to watch: \
[training guide](https://github.com/comfyui-likeness/ComfyUI-Likeness/blob/main/docs/training-guide.md).

**Nothing is deleted.** Pictures are read, never changed. Export LoRA Dataset writes over no file but its own, and a second run writes only what changed. \
*dry_run* shows first what would be written."""

OPEN_HELP = "The (i) in a node's toolbar opens its help."
NO_FACE_YET = "(ComfyUI's own example.png, which stands there at first, shows no face.)"

# ---- the workflows ---------------------------------------------------------------------------------------------------

WORKFLOWS: dict[str, Callable[[], tuple[Graph, Across]]] = {}
BASE_2511 = [files.EDIT_2511, files.TEXT_ENCODER, files.VAE]
FAST_2511 = {"preset": "fast", "speed_lora": files.LIGHTNING_2511}
BY_SHOTS = "(not used: the shots say it)"


def workflow(name: str):
    def keep(build):
        def described():
            graph = Graph()
            return graph, Across(build(graph, name))

        WORKFLOWS[name] = described
        return build

    return keep


@workflow("Qwen character scene (2511)")
def character_scene(graph: Graph, name: str):
    read = read_me(
        name,
        "Puts the person of one photograph into a new scene with Qwen-Image-Edit-2511, measures the face, and takes the picture again with another seed, up to "
        "four times, until it is like the reference. *passed* is saved; *rejected* shows what was not like enough.",
        [
            f"Choose a **reference** in Load Image: one person, a large and sharp face. {NO_FACE_YET}",
            "Write the **scene**. `{picture:face}` becomes *Picture 1*, which is how the model knows the reference.",
            "Press **Run**.",
        ],
        "**Better, slower.** Set *preset* to balanced (20 steps) or quality (40 steps) and *speed_lora* to none.",
        f"**More of the character.** Wire pictures of clothes, place or pose to Character References, and name them in the scene: `{{picture:outfit}}`. {OPEN_HELP}",
    )
    loaders = graph.loaders(files.EDIT_2511)
    face, references, identity = graph.character()
    scene = graph.scene(
        references=references["references"],
        identity=identity["identity"],
        scene="The person of {picture:face} stands in a sunlit kitchen, waist up, looking at the camera, natural light, photograph",
        aspect_ratio="3:4",
        max_takes=4,
        **FAST_2511,
    )
    return (
        graph.notes(read, [*BASE_2511, files.LIGHTNING_2511]),
        Down((Area("Models", (loaders,)), Area("Character", ((face,), (references, identity))))),
        Area("Scene", ((scene,),)),
        graph.verdicts(graph.gate(scene, identity), "likeness/scene"),
    )


@workflow("Qwen character scene (2509)")
def character_scene_2509(graph: Graph, name: str):
    read = read_me(
        name,
        "Puts the person of one picture into the clothes of another and into a new scene, with Qwen-Image-Edit-2509 at 20 steps. Nothing is measured here: "
        "the workflow for 2511 adds that.",
        [
            "Choose a **face** and an **outfit** in the two Load Image.",
            "Write the **scene**. `{picture:face}` and `{picture:outfit}` become *Picture 1* and *Picture 2*.",
            "Press **Run**.",
        ],
        "**No outfit?** Bypass its Load Image (Ctrl+B). What stands in [square brackets] vanishes from the sentence when the picture in it is missing.",
        "**Faster.** Get the [4-step Lightning LoRA for 2509](https://huggingface.co/lightx2v/Qwen-Image-Lightning/tree/main/Qwen-Image-Edit-2509) into "
        f"`models/loras`, choose it in *speed_lora* and set *preset* to fast. {OPEN_HELP}",
        recognizer=False,
    )
    loaders = graph.loaders(files.EDIT_2509)
    face, outfit = graph.picture("face", "Reference: the face"), graph.picture("outfit", "Reference: the outfit")
    references = graph.references(face=face["IMAGE"], outfit=outfit["IMAGE"])
    scene = graph.scene(
        references=references["references"],
        scene="The person of {picture:face} walks along a beach at dusk[, wearing the clothes of {picture:outfit}], full body, natural light, photograph",
        aspect_ratio="2:3",
    )
    return (
        graph.notes(read, [files.EDIT_2509, files.TEXT_ENCODER, files.VAE], recognizer=False),
        Down((Area("Models", (loaders,)), Area("Character", ((face, outfit), (references,))))),
        Area("Scene", ((scene,),)),
        Area("Result", ((graph.save("Saved", scene["images"], "likeness/scene 2509", 500),),)),
    )


@workflow("Qwen character scene, many shots")
def many_shots(graph: Graph, name: str):
    read = read_me(
        name,
        "Makes twelve pictures of one character, each with a caption, such as a dataset needs: scenes, light, expressions and clothes are mixed by a plan of "
        "framings. A shot that is not like the reference is taken once more.",
        [
            f"Choose a **reference** in Load Image. {NO_FACE_YET}",
            "Write lines into **Shot List**; run that node alone to read the prompts. `4 closeup, 4 full body, 4 variety` is how many of which.",
            "Press **Run**. Each picture is saved as soon as it is finished, as *shot* in `output/likeness/many shots`; those that pass once more, as *passed*.",
        ],
        "**Stopped, or a line changed?** Run again: finished shots are kept while ComfyUI runs, and only what is new is made.",
        f"**Captions.** *trigger* stands first in each. *passed captions* are in step with the passed pictures. {OPEN_HELP}",
    )
    loaders = graph.loaders(files.EDIT_2511)
    face, references, identity = graph.character()
    shots = graph.shots(
        SHOTS,
        scenes="stands in a sunlit kitchen\nsits at a café table\nwalks through an autumn park\nleans against a brick wall",
        angles="front\nfront left\nfront right",
        lighting="soft window light\novercast daylight\nwarm evening light",
        expressions="a slight smile\na neutral expression\nlaughing",
        outfits="a blue denim jacket\na grey wool sweater\na white linen shirt",
        framing_plan="4 closeup, 4 full body, 4 variety",
        template="The person of {picture:face} {scene}[, {expression}][, wearing {outfit}][, {light}][, {framing}][, {angle}], photograph",
        trigger="my_character",
    )
    scene = graph.scene(
        references=references["references"],
        shots=shots["shots"],
        identity=identity["identity"],
        scene=BY_SHOTS,
        aspect_ratio="3:4",
        max_takes=2,
        save_as="likeness/many shots/shot",
        group=4,
        **FAST_2511,
    )
    gate = graph.gate(scene, identity, captions=scene["captions"])
    captions = graph.add("captions", "PreviewAny", "Captions that passed", (NARROW, 220), source=gate["passed captions"])
    return (
        graph.notes(read, [*BASE_2511, files.LIGHTNING_2511]),
        Area("Shots", ((shots,),)),
        Down((Area("Models", (loaders,)), Area("Character", ((face,), (references, identity))))),
        Area("Scene", ((scene,),)),
        graph.verdicts(gate, "likeness/many shots/passed", captions),
    )


@workflow("Qwen 2512 + character LoRA")
def character_lora(graph: Graph, name: str):
    read = read_me(
        name,
        "Makes a picture of your character from text alone: Qwen-Image-2512 with the LoRA that you trained. The reference is not seen by the model; the face "
        "recognizer measures against it how well the LoRA keeps the face.",
        [
            "Put your LoRA, trained for **Qwen-Image**, into `models/loras` and press R. Choose it in **Character LoRA** and switch the node on: select it, Ctrl+B.",
            f"Choose a photograph of the character in Load Image. {NO_FACE_YET}",
            "Press **Run**. The score stands on the picture in Qwen Character Scene.",
        ],
        "**Trigger word.** Character Scene puts it first in the prompt: what you type in *trigger*, or what the file names when that is empty.",
        "**LoRA in place?** Raise *max_takes*: a picture that is not like the character is then taken again, and the best is kept. Between 0.6 and 1.0 is where "
        f"*strength* is mostly best. {OPEN_HELP}",
    )
    unet, clip, vae = graph.loaders(files.IMAGE_2512)
    lora = graph.own_lora(unet)
    face = graph.picture("face", "A photograph, to measure against")
    identity = graph.identity(face)
    scene = graph.scene(
        model=lora["model"],
        identity=identity["identity"],
        scene="a portrait photograph of a person in a sunlit kitchen, waist up, looking at the camera, natural light",
        aspect_ratio="3:4",
        megapixels=1.6,
    )
    scores = graph.add("scores", "PreviewAny", "Likeness scores", (NARROW, 160), source=scene["scores"])
    return (
        graph.notes(read, [files.IMAGE_2512, files.TEXT_ENCODER, files.VAE]),
        Down((Area("Models", ((unet,), (lora, clip, vae))), Area("Character", ((face,), (identity,))))),
        Area("Scene", ((scene,),)),
        Area("Result", ((graph.save("Saved", scene["images"], "likeness/lora", 500), scores),)),
    )


@workflow("Multiple angles (2511)")
def multiple_angles(graph: Graph, name: str):
    read = read_me(
        name,
        "Walks around the person of one picture that was taken from the front: seven more views, by Qwen-Image-Edit-2511 with the multiple-angles LoRA. The gate "
        "sorts them. A view from behind shows no face, so it is not judged and passes; a face turned far away is *uncertain*.",
        [
            f"Choose a **picture** in Load Image, taken from the front. {NO_FACE_YET}",
            "Choose **angles** in Shot List: front, front left, left side, back, ... with low angle, eye level, elevated or high angle, and close-up, medium "
            "shot or wide shot.",
            "Press **Run**.",
        ],
        "**The words matter.** *angle_vocabulary* says whose they are: `2511 angle LoRA` writes `<sks> front-left quarter view eye-level shot medium shot` for "
        f"*front left*. The LoRA for 2509 understands others; Shot List has those too. {OPEN_HELP}",
    )
    loaders = graph.loaders(files.EDIT_2511)
    lora = graph.angle_lora(loaders[0])
    face, references, identity = graph.character("The picture to walk around")
    shots = graph.shots(
        TALL_SHOTS,
        scenes="in the same clothes, light and place",
        angles="front right\nright side\nback right\nback\nback left\nleft side\nfront left",
        template="The person of {picture:face} {scene}[, {light}]",
        angle_vocabulary="2511 angle LoRA",
        seeds="same for every shot",
    )
    scene = graph.scene(
        model=lora["model"], references=references["references"], shots=shots["shots"], scene=BY_SHOTS, aspect_ratio="match source", **FAST_2511
    )
    return (
        graph.notes(read, [*BASE_2511, files.LIGHTNING_2511, files.ANGLES_2511]),
        Area("Angles", ((shots,),)),
        Down((Area("Models", (loaders, (lora,))), Area("Character", ((face,), (references, identity))))),
        Area("Scene", ((scene,),)),
        graph.verdicts(graph.gate(scene, identity, captions=scene["captions"]), "likeness/angles"),
    )


@workflow("Two characters, one scene")
def two_characters(graph: Graph, name: str):
    read = read_me(
        name,
        "Puts two people, each from a picture of their own, into one scene, four times with different seeds. Cast Gate lets a picture through when both are in "
        "it, each with a face of their own.",
        [
            f"Choose a **picture of each person** in the two Load Image, and write their names instead of Anna and Ben. {NO_FACE_YET}",
            "Write the scene into **Shot List**; *seeds_per_shot* says how many pictures of it.",
            "Press **Run**.",
        ],
        "**Who is which picture?** The pictures of the first Character References are counted first, so its face is *Picture 1* and that of the second "
        f"*Picture 2*. `{{character}}` becomes both names. {OPEN_HELP}",
    )
    loaders = graph.loaders(files.EDIT_2511)
    people, identities, earlier = [], {}, None
    for number, who in enumerate(("Anna", "Ben")):
        face, references, identity = graph.character(f"{who}: the face", who, earlier)
        people.append(((face,), (references, identity)))
        identities[f"identities.identity{number}"] = identity["identity"]
        earlier = references["references"]
    shots = graph.shots(
        SHOTS,
        scenes="sit side by side at a café table, both faces towards the camera, waist up",
        template="{character}, the people of {picture:1} and {picture:2}, {scene}[, {light}], photograph",
        lighting="soft daylight",
        seeds_per_shot=4,
    )
    scene = graph.scene(references=earlier, shots=shots["shots"], scene=BY_SHOTS, aspect_ratio="4:3", **FAST_2511)
    gate = graph.add("gate", "LikenessCastGate", "", (NARROW, GATE), image=scene["images"], **identities)
    return (
        graph.notes(read, [*BASE_2511, files.LIGHTNING_2511]),
        Area("Shots", ((shots,),)),
        Down((Area("Models", (loaders,)), Across((Area("First person", people[0]), Area("Second person", people[1]))))),
        Area("Scene", ((scene,),)),
        graph.verdicts(gate, "likeness/two characters", title="Are both in it?"),
    )


@workflow("Keep face, edit the rest")
def keep_face(graph: Graph, name: str):
    read = read_me(
        name,
        "Changes clothes, place and light of a photograph and keeps the face in it, pixel by pixel: Character Mask finds the face, and what is white in the mask "
        "stays as it is.",
        [f"Choose a **photograph** in Load Image. {NO_FACE_YET}", "Write what to **change** in the scene.", "Press **Run**."],
        "**Why nothing shifts.** The photograph is source, reference and aspect at once: *policy* pixel lock shows it to the model at exactly the size of the result, "
        "and *aspect_ratio* match source gives the result its aspect.",
        "**An edge around the face?** Raise *feather*. **Too little kept?** Set *area* to head, or raise *grow*. Several people: wire a Character Identity to "
        f"Character Mask, so that it takes the right one. {OPEN_HELP}",
        RECOGNIZER.replace("Character Identity takes", "Character Mask takes"),
        recognizer=False,
    )
    loaders = graph.loaders(files.EDIT_2511)
    photo = graph.picture("photo", "The photograph")
    mask = graph.add("mask", "LikenessCharacterMask", "", (NARROW, 400), image=photo["IMAGE"], area="face", grow=8, feather=24)
    references = graph.references(face=photo["IMAGE"], policy="pixel lock")
    scene = graph.scene(
        references=references["references"],
        source=photo["IMAGE"],
        mask=mask["mask"],
        scene="The person of {picture:face} in the same pose, now in a rainy street at night, wearing a red raincoat; the head does not move",
        aspect_ratio="match source",
    )
    return (
        graph.notes(read, BASE_2511),
        Down((Area("Models", (loaders,)), Area("Photograph", ((photo,), (references, mask))))),
        Area("Edit", ((scene,),)),
        Area("Result", ((graph.save("Saved", scene["images"], "likeness/keep face", 500),),)),
    )


@workflow("Sequential edit, gated")
def sequential(graph: Graph, name: str):
    read = read_me(
        name,
        "Three edits, one after the other, with a gate behind each: a new scene, another camera angle, a last pass with your character LoRA. Faces drift when "
        "edits are chained; here only a picture that is still the character goes on.",
        [
            f"Choose a **reference** in Load Image. {NO_FACE_YET}",
            "Write the **scene** of step 1 and the view of step 2 (`<sks>` and the words of the angle LoRA).",
            "Press **Run**. When nothing passes a gate, *passed* is empty and the steps behind it do not run: look at *Rejected*, change the seed, and run again.",
        ],
        "**Your LoRA.** Step 3 runs without it until you choose one trained for **Qwen-Image-Edit** in its Character LoRA and switch that node on (select it, Ctrl+B). "
        "It starts from the picture of step 2; *denoise* 0.6 keeps its composition.",
        f"**Less strict?** Set *strictness* to loose. *uncertain* sends what cannot be judged to *rejected* here; set it to pass to let it go on. {OPEN_HELP}",
    )
    loaders = graph.loaders(files.EDIT_2511)
    face = graph.picture("face", "Reference: the face")
    identity = graph.identity(face)

    def step(number: int, title: str, frame: str, shown: Link, lora: Node | None, **inputs) -> tuple[Area, Link]:
        """One edit with its gate, and what passes. shown: the picture that the model sees."""
        references = graph.references(f"References of step {number}", face=shown)
        sockets = {"references": references["references"], "identity": identity["identity"], "model": lora and lora["model"]}
        scene = graph.scene(f"Step {number}: {title}", max_takes=3, **sockets, **FAST_2511, **inputs)
        gate = graph.gate(scene, identity, f"Gate {number}", uncertain="reject")
        last = graph.save("Passed step 3: saved", gate["passed"], "likeness/sequential", 400) if number == 3 else None
        passed = last or graph.show(f"Passed step {number}", gate["passed"], 400)
        first = (lora, references) if lora else (references,)
        return Area(frame, (first, (scene,), (gate,), (passed, graph.show(f"Rejected in step {number}", gate["rejected"], 300)))), gate["passed"]

    new = "The person of {picture:face} stands in a sunlit kitchen, waist up, looking at the camera, natural light, photograph"
    turned = "<sks> front view elevated shot close-up. The person of {picture:face} in the same clothes, light and place"
    last = "The person of {picture:face} in the same pose, clothes, light and place, detailed face, photograph"
    same = {"aspect_ratio": "match source"}
    one, passed = step(1, "the scene", "Step 1: a new scene", face["IMAGE"], None, scene=new, aspect_ratio="3:4")
    two, passed = step(2, "the angle", "Step 2: another angle of what passed", passed, graph.angle_lora(loaders[0]), scene=turned, **same)
    own = graph.own_lora(loaders[0])
    three, _ = step(3, "the face", "Step 3: your character LoRA on what passed", face["IMAGE"], own, scene=last, source=passed, denoise=0.6, **same)
    notes = graph.notes(read, [*BASE_2511, files.LIGHTNING_2511, files.ANGLES_2511], abreast=True)
    return Down((notes, Across((Area("Character", ((face, identity),)), Area("Models", (loaders,)))))), Down((one, two, three))


def swapped(graph: Graph, name: str, what: str, names: list[str], *more: str, **inputs):
    """A picture from text alone, into which the character's face is swapped where it is not like it."""
    read = read_me(
        name,
        f"{what} Face Swap then puts the face of your reference into it, through the pack **ComfyUI-ReActor**, measures before and after, and keeps the better one. "
        "What passes the gate is saved.",
        [
            "Install **ComfyUI-ReActor** and its files, as the note below says, and restart.",
            f"Choose a **reference** in Load Image: one person **who agreed to it**, a large and sharp face. {NO_FACE_YET}",
            "Write the **scene**, with hair, age and build of the person: only the face is swapped.",
            "Press **Run**.",
        ],
        "**A softer face than the rest?** Choose GFPGANv1.4.pth in *restore_model*: preset natural then restores the swapped face by 0.7. With none it is not restored.",
        "**Like enough already?** *swap_when* below gate leaves a picture alone that passes; always swaps every one.",
        *more,
    )
    unet, clip, vae = graph.loaders(files.IMAGE_2512)
    face = graph.picture("face", "Reference: the face to swap in")
    identity = graph.identity(face)
    scene = graph.scene(
        scene="a portrait photograph of a woman in a sunlit kitchen, waist up, looking at the camera, natural light",
        aspect_ratio="3:4",
        megapixels=1.5,
        **inputs,
    )
    wires = {"image": scene["images"], "identity": identity["identity"]}
    chosen = {"swap_model": SWAP_MODEL, "restore_model": "none", "preset": "natural"}
    swap = graph.add("swap", "LikenessFaceSwap", "", (WIDE, GATE), **wires, **chosen)
    wires = {"image": swap["image"], "identity": identity["identity"]}
    gate = graph.add("gate", "LikenessIdentityGate", "", (NARROW, GATE), **wires)
    before = graph.show("Before the swap", scene["images"], 300)
    return (
        graph.notes(read, names, reactor=True),
        Down((Area("Models", ((unet, clip, vae),)), Area("Character", ((face,), (identity,))))),
        Area("Scene", ((scene,),)),
        Area("Swap", ((swap, before),)),
        graph.verdicts(gate, "likeness/reactor"),
    )


@workflow("Qwen 2512 + ReActor")
def reactor(graph: Graph, name: str):
    what = "Makes a portrait from text with Qwen-Image-2512 at 50 steps, the model's best."
    faster = f"**Try out first.** *preset* balanced takes 20 steps; the workflow *fast 4 steps* takes four, with a Lightning LoRA. {OPEN_HELP}"
    return swapped(graph, name, what, [files.IMAGE_2512, files.TEXT_ENCODER, files.VAE], faster, preset="quality")


@workflow("Qwen 2512 + ReActor (fast 4 steps)")
def reactor_fast(graph: Graph, name: str):
    what = "Makes a portrait from text with Qwen-Image-2512 in four steps, with its Lightning LoRA."
    better = f"**Better, slower.** Set *preset* to quality (50 steps) and *speed_lora* to none. {OPEN_HELP}"
    names = [files.IMAGE_2512, files.TEXT_ENCODER, files.VAE, files.LIGHTNING_2512]
    return swapped(graph, name, what, names, better, preset="fast", speed_lora=files.LIGHTNING_2512)


@workflow("Retake until match")
def retake(graph: Graph, name: str):
    read = read_me(
        name,
        "Takes a picture again, with the next seed, until its face is like the reference: **Take Start** gives the seed, **Retake until Match** measures, and what lies "
        "between them runs once more, up to *max_takes*. After the last take the best one is given.",
        [
            f"Choose a **reference** in Load Image: one person, a large and sharp face. {NO_FACE_YET}",
            "Write the **scene**, and how many takes at most in *max_takes*.",
            "Press **Run**. *Takes* tells seed, score and verdict of each.",
        ],
        "**Anything may lie between them**: KSampler and VAE Decode, an upscaler, a face swap, any pack's nodes. Wire Take Start's *seed* to what samples, its *flow* to "
        "Retake until Match, and the finished picture to *image*. What does not depend on the seed, such as loaders and references, runs once.",
        "**Not like enough?** Set *strictness* to loose or raise *max_takes* and run again: takes already made are judged again, not made again. With Qwen Character "
        f"Scene alone, its own *max_takes* does the same. {OPEN_HELP}",
    )
    loaders = graph.loaders(files.EDIT_2511)
    face, references, identity = graph.character()
    start = graph.add("start", "LikenessTakeStart", "", (NARROW, 0), seed=1)
    scene = graph.scene(
        references=references["references"],
        scene="The person of {picture:face} walks through an autumn park, waist up, looking at the camera, natural light, photograph",
        aspect_ratio="3:4",
        **FAST_2511 | {"seed": start["seed"]},
    )
    wires = {"image": scene["images"], "flow": start["flow"], "identity": identity["identity"]}
    end = graph.add("end", "LikenessTakeEnd", "", (NARROW, 640), max_takes=4, **wires)
    takes = graph.add("takes", "PreviewAny", "Takes: seeds and scores", (NARROW, 340), source=end["report"])
    return (
        graph.notes(read, [*BASE_2511, files.LIGHTNING_2511]),
        Down((Area("First seed", ((start,),)), Area("Models", (loaders,)), Area("Character", ((face,), (references, identity))))),
        Area("What is taken again", ((scene,), (end,))),
        Area("Result", ((graph.save("Saved: the match, or the best", end["image"], "likeness/retake", 500), takes),)),
    )


@workflow("Flux IP-Adapter face")
def flux_face(graph: Graph, name: str):
    read = read_me(
        name,
        "Makes a picture from text with FLUX.1 \\[dev\\], which looks at a picture of your character while it samples, through XLabs' IP-Adapter v2. Identity Score then "
        "measures the new face against that picture.",
        [
            f"Choose a **reference** in Load Image: one person, the face large and in the middle, since XLabs sees the middle square. {NO_FACE_YET}",
            "Write the **prompt**: what the person does and where, and age, hair and build in a few words.",
            "Press **Run**.",
        ],
        "**Too little of the character, or too much of the picture?** *weight* own is what the adapter's authors start with; custom is mostly best from 0.6 to 0.9, and *end_percent* 0.6 leaves the details to the prompt. "
        f"Further pictures go into the sockets that appear. {OPEN_HELP}",
        "**What to expect of the score.** The adapter sees the whole picture through CLIP, which was not made to tell faces apart: expect hair, clothes and style before "
        "the exact face. A score below *standard* is no fault of the graph. To keep only what passes, put Identity Gate in place of Identity Score; to get there, Take "
        "Start and Retake until Match, or Face Swap.",
        "**From x-flux-comfyui or ComfyUI-IPAdapter-Flux?** Their loader and apply nodes become the two here, *ip_scale* becomes *weight* custom, XlabsSampler becomes KSampler. "
        "The help of Apply Flux IP-Adapter has the table.",
        RECOGNIZER.replace("Character Identity takes", "Load Face Recognizer stands on"),
        recognizer=False,
    )
    clip = graph.add("clip", "DualCLIPLoader", "", (WIDE, 0), clip_name1=flux_files.CLIP_L, clip_name2=flux_files.T5, type="flux", device="default")
    said = "a portrait photograph of a woman in a sunlit kitchen, waist up, looking at the camera, natural light"
    text = graph.add("text", "CLIPTextEncode", "Prompt", (NARROW, 160), clip=clip["CLIP"], text=said)
    guidance = graph.add("guidance", "FluxGuidance", "", (NARROW, 0), conditioning=text["CONDITIONING"], guidance=3.5)
    nothing = graph.add("nothing", "ConditioningZeroOut", "Negative (not used at cfg 1)", (NARROW, 0), conditioning=text["CONDITIONING"])
    face = graph.picture("face", "Reference: the face", WIDE)
    recognizer = graph.add("recognizer", "LikenessLoadRecognizer", "", (NARROW, 0), recognizer="auto", device="auto")
    identity = graph.identity(face, recognizer=recognizer["recognizer"])
    unet = graph.add("unet", "UNETLoader", "", (WIDE, 0), unet_name=flux_files.DEV, weight_dtype="default")
    adapter = graph.add("adapter", "LikenessLoadFluxIPAdapter", "", (WIDE, 220), ipadapter=flux_files.XLABS_V2, clip_vision=flux_files.CLIP_VISION)
    wires = {"model": unet["MODEL"], "flux_ipadapter": adapter["flux_ipadapter"], "images.image0": face["IMAGE"]}
    apply = graph.add("apply", "LikenessApplyFluxIPAdapter", "", (WIDE, 480), **wires, weight="custom", **{"weight.value": 0.8})
    latent = graph.add("latent", "EmptySD3LatentImage", "", (NARROW, 0), width=1024, height=1024, batch_size=1)
    wires = {"model": apply["model"], "positive": guidance["CONDITIONING"], "negative": nothing["CONDITIONING"], "latent_image": latent["LATENT"]}
    chosen = {"seed": 1, "steps": 25, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    sampler = graph.add("sampler", "KSampler", "", (NARROW, 0), **wires, **chosen)
    vae = graph.add("vae", "VAELoader", "", (NARROW, 0), vae_name=flux_files.AE)
    picture = graph.add("picture", "VAEDecode", "", (NARROW, 0), samples=sampler["LATENT"], vae=vae["VAE"])
    score = graph.add("score", "LikenessIdentityScore", "", (NARROW, 460), image=picture["IMAGE"], identity=identity["identity"])
    saved, plot = graph.save("Saved", picture["IMAGE"], "likeness/flux", 660), graph.show("Score and thresholds", score["plot"], 240)
    names = [flux_files.DEV, flux_files.CLIP_L, flux_files.T5, flux_files.AE, flux_files.XLABS_V2, flux_files.CLIP_VISION]
    return (
        graph.notes(read, names),
        Down(
            (
                Area("Prompt", ((clip,), (text,), (guidance, nothing))),
                Area("Flux, looking at the character", ((unet, adapter), (apply,))),
                Area("Character", ((face,), (recognizer, identity))),
            )
        ),
        Area("Picture", ((latent, sampler, vae, picture),)),
        Area("Is it the character?", ((saved, score, plot),)),
    )


@workflow("Dataset from a folder")
def dataset_from_folder(graph: Graph, name: str):
    read = read_me(
        name,
        "Turns a folder of pictures into a dataset for a character LoRA, with a configuration for ai-toolkit. Pictures of somebody else stay out, face crops are put "
        "beside the pictures, captions get the trigger word, and all of it is looked over and written. No GPU is needed, and no model but a recognizer.",
        [
            f"Put the **pictures** into `ComfyUI/input/{DATASET}`, or type the name of another folder there into Dataset from Folder. A caption may lie beside each: "
            "`photo.txt` for `photo.jpg`.",
            f"Choose a **reference** in Load Image: one person, a large and sharp face, best a picture that is not in the folder. {NO_FACE_YET}",
            "Write a **trigger word** of your own into Captions, and a **name** into Export LoRA Dataset.",
            "Press **Run**. Each node says what it did and what it left out; the report has what is wrong with which picture, and which shots are missing.",
        ],
        "**No captions?** A picture without a .txt gets the trigger alone. Write at least its framing, clothes, place and light, such as `closeup, red scarf, on a "
        "bridge, overcast light`.",
        f"**Bodies without a face?** A second Dataset from Folder, with *bucket* body and this one wired to its *dataset*, adds them; they are not judged. {OPEN_HELP}",
        RECOGNIZER.replace("Character Identity takes", "Load Face Recognizer stands on"),
        recognizer=False,
    )
    rest = f"""{VERDICTS}

{TRAINING}

**Faces** for crops and framing are found by the recognizer. MediaPipe, where its files are, also sees which way they look, and by the body what is in the frame:
`python ComfyUI/custom_nodes/ComfyUI-Likeness models download mediapipe-face-detector mediapipe-face-landmarker mediapipe-pose-landmarker`

**Licences**, as far as we know. dlib's face weights: CC0 1.0; AuraFace: Apache-2.0 with YuNet, MIT; MediaPipe: Apache-2.0; Likeness: Apache-2.0. **buffalo_l and antelopev2: \
non-commercial research only**, by InsightFace; *auto* never takes them. Use faces of people who agreed to it; *statement* in Export LoRA Dataset keeps that in the manifest."""
    notes = [
        graph.add(title, "MarkdownNote", title, (NOTE_WIDTH, 0), text=text) for title, text in {"Read me": read, "Verdicts, training, licences": rest}.items()
    ]
    face = graph.picture("face", "Reference: the face")
    recognizer = graph.add("recognizer", "LikenessLoadRecognizer", "", (NARROW, 0), recognizer="auto", device="auto")
    identity = graph.identity(face, recognizer=recognizer["recognizer"])
    found = graph.add("folder", "LikenessDatasetFromFolder", "", (NARROW, 480), identity=identity["identity"], folder=DATASET, bucket="character")
    crops = graph.add("crops", "LikenessFaceCrop", "", (NARROW, 480), dataset=found["dataset"], identity=identity["identity"])
    captions, audit, sheet, report, export, written = graph.to_trainer(crops["dataset"], identity["identity"])
    return (
        Area("", (tuple(notes),)),
        Area("Character", ((face, recognizer, identity),)),
        Area("Pictures", ((found, crops),)),
        Area("Captions", ((captions,),)),
        Area("Fit to train on?", ((audit, sheet, report),)),
        Area("For the trainer", ((export, written),)),
    )


@workflow("Character LoRA dataset")
def character_lora_dataset(graph: Graph, name: str):
    read = read_me(
        name,
        "Makes a dataset for a character LoRA out of one photograph: 70 shots with Qwen-Image-Edit-2511, of which those that are the character are captioned, audited "
        "and written with a configuration for ai-toolkit.",
        [
            f"Choose a **reference** in Load Image: one person, a large and sharp face. {NO_FACE_YET}",
            "Write lines into **Shot List**: nothing that belongs to the character, such as the colour of the hair, and nothing in every shot. Set *limit* to 7 for the "
            "first run.",
            "Write a **trigger word** of your own into Captions, and a **name** into Export LoRA Dataset.",
            "Press **Run**. When you like what you see, set *limit* to 70 and run again: finished shots are kept while ComfyUI runs.",
        ],
        "**Better, slower.** The LoRA learns the look of its pictures, smooth skin included. Set *preset* to balanced or quality and *speed_lora* to none before the "
        "run with 70.",
        "**Too few pass?** Take a better reference, or set *max_takes* to 4. What the plan misses stands in Audit Dataset's *missing scenes*, one prompt a line.",
        VERDICTS,
        TRAINING,
        f"**More pictures?** Photographs come in by Dataset from Folder: wire it to Add to Dataset's *dataset*. {OPEN_HELP}",
    )
    loaders = graph.loaders(files.EDIT_2511)
    face, references, identity = graph.character()
    shots = graph.shots(
        TALL_SHOTS,
        scenes="stands in a sunlit kitchen\nsits at a café table\nwalks through an autumn park\nleans against a brick wall\nwaits on a station platform\n"
        "reads in a library\nstands on a rooftop above the city\nsits on the steps of a house",
        angles="front\nfront left\nfront right",
        lighting="soft window light\novercast daylight\nwarm evening light\neven studio light",
        expressions="a slight smile\na neutral expression\nlaughing\na thoughtful look",
        outfits="a blue denim jacket\na grey wool sweater\na white linen shirt\na black turtleneck\na red raincoat",
        framing_plan=DATASET_PLAN,
        template="The person of {picture:face} {scene}[, {expression}][, wearing {outfit}][, {light}][, {framing}][, {angle}], photograph",
        limit=70,
    )
    scene = graph.scene(
        references=references["references"],
        shots=shots["shots"],
        identity=identity["identity"],
        scene=BY_SHOTS,
        aspect_ratio="3:4",
        max_takes=2,
        save_as=f"likeness/{DATASET}/shot",
        group=4,
        **FAST_2511,
    )
    gate = graph.gate(scene, identity, captions=scene["captions"])
    sides = tuple(graph.show(title, gate[title.lower()], 240) for title in ("Rejected", "Uncertain"))
    wires = {"image": gate["passed"], "captions": gate["passed captions"]}
    added = graph.add(
        "add", "LikenessDatasetAdd", "", (NARROW, 480), **wires, bucket="character", name="shot", provenance=f"model: {Path(files.EDIT_2511).stem}"
    )
    captions, audit, sheet, report, export, written = graph.to_trainer(added["dataset"], identity["identity"], synthetic="yes")
    made = (
        Area("Shots", ((shots,),)),
        Down((Area("Models", (loaders,)), Area("Character", ((face,), (references, identity))))),
        Area("Scene", ((scene,),)),
        Area("Is it the character?", ((gate,), sides)),
        Area("Dataset", ((added,),)),
    )
    judged = (
        Area("Captioned and judged", ((captions,), (audit,), (sheet, report))),
        Area("For the trainer", ((export,), (written,))),
    )
    return graph.notes(read, [*BASE_2511, files.LIGHTNING_2511]), Down((Across(made), Across(judged)))


HELD_OUT = "a photograph that the LoRA was **not** trained on"


@workflow("LoRA sweep")
def lora_sweep(graph: Graph, name: str):
    read = read_me(
        name,
        "Makes the same five pictures with every checkpoint of your LoRA at five strengths, and without it, with Qwen-Image-2512 in four steps, measures each against "
        "your character, and says which checkpoint at which strength keeps the face.",
        [
            "Copy the **checkpoints** that your trainer wrote into a folder of `ComfyUI/models/loras` and press R. Choose that folder in LoRA Sweep's *folder*.",
            f"Choose {HELD_OUT} in Load Image. {NO_FACE_YET}",
            "Write the **trigger** word, where the files do not name it. `{trigger}` in the prompts is where it goes.",
            "Press **Run**. The grid fills while it runs. Stopped or changed, a further run makes only what is missing.",
        ],
        "**What is suggested**, and why, stands in the node and first in the report; nothing is chosen in silence. The cell goes to the Character LoRA below, which makes "
        "a picture with it. *pick* takes another.",
        "**How sure is it?** Five pictures a cell say little: the table has the 95% interval of each match rate. Set *seeds* to 4, and leave checkpoints out that are "
        "surely worse.",
        "**What no recognizer sees**: light, background and artifacts have empty columns in the table that is saved in `output/sweep`, to fill in by eye. What to change in "
        f"the training: [training guide](https://github.com/comfyui-likeness/ComfyUI-Likeness/blob/main/docs/training-guide.md). {OPEN_HELP}",
    )
    loaders = graph.loaders(files.IMAGE_2512)
    shifted, fast = fast_2512(graph, loaders[0])
    face = graph.picture("face", "A held-out photograph, to measure against")
    identity = graph.identity(face)
    sweep = swept(graph, fast, identity)
    grid, plot = graph.save("Grid: saved", sweep["grid"], "sweep/grid", 520), graph.show("Identity over the checkpoints", sweep["plot"], 320)
    table = graph.add("table", "PreviewAny", "Table", (WIDEST, 420), source=sweep["table"])
    wires = {"model": shifted["MODEL"], "lora": sweep["best_lora"], "strength": sweep["best_strength"], "trigger": sweep["best_trigger"]}
    best = graph.add("best", "LikenessLora", "The suggested checkpoint", (NARROW, 260), **wires, role="character")
    again = graph.scene(
        "A picture with it",
        model=best["model"],
        identity=identity["identity"],
        scene="{trigger}, portrait, in a sunlit kitchen",
        aspect_ratio="3:4",
        **FAST_2512,
    )
    return (
        graph.notes(read, [files.IMAGE_2512, files.TEXT_ENCODER, files.VAE, files.LIGHTNING_2512]),
        Down((Area("Models", (loaders, (shifted, fast))), Area("Character", ((face, identity),)))),
        Area("Sweep", ((sweep,),)),
        Area("Which keeps the face?", ((grid, plot), (table,))),
        Area("The suggested one at work", ((best,), (again,), (graph.save("Saved", again["images"], "likeness/best", 500),))),
    )


FAST_2512 = {"preset": "fast", "speed_lora": files.LIGHTNING_2512}


def fast_2512(graph: Graph, unet: Node) -> tuple[Node, Node]:
    """Qwen-Image with its shift, and with its 4-step LoRA on top."""
    shifted = graph.add("shift", "ModelSamplingAuraFlow", "", (NARROW, 0), model=unet["MODEL"], shift=3.1)
    chosen = {"lora": files.LIGHTNING_2512, "strength": 1.0, "role": "speed", "trigger": "none"}
    return shifted, graph.add("speed", "LikenessLora", "4-step LoRA", (WIDE, 260), model=shifted["MODEL"], **chosen)


def swept(graph: Graph, model: Node, identity: Node, mode: int = ALWAYS) -> Node:
    wires = {"model": model["model"], "clip": graph.nodes["clip"]["CLIP"], "vae": graph.nodes["vae"]["VAE"], "identity": identity["identity"]}
    chosen = {"steps": 4, "cfg": 1.0, "width": 1024, "height": 1344}
    return graph.add("sweep", "LikenessLoraSweep", "", (WIDEST, 1100), mode, **wires, **chosen)


@workflow("Compare methods")
def compare_methods(graph: Graph, name: str):
    read = read_me(
        name,
        "Makes the same three scenes of one character in four ways (an edit model, a face swap, an IP-Adapter, a LoRA), and measures all of them against one photograph, so "
        "that you know which keeps **your** character.",
        [
            f"Choose a **reference** in the first Load Image, and **another photograph** of the same person in the second: what was shown to a method must not judge it. "
            f"{NO_FACE_YET}",
            "Write the **scenes**, the same for all, and how the person looks in a few words: the face swap needs it for hair, age and build.",
            "Choose your **LoRA** in Character LoRA and switch it on (select it, Ctrl+B). Bypassed, its column is what the model makes without it.",
            "Press **Run**. Four models follow each other: it takes its time, and what is done is kept while ComfyUI runs.",
        ],
        "**A method that you do not have?** Delete its link into Compare Methods, and its line in *labels*. The face swap needs ComfyUI-ReActor.",
        "**How sure is it?** Three pictures a method say little, and the report says so: raise *seeds_per_shot*. Where intervals overlap, a difference is not shown. "
        f"{OPEN_HELP}",
    )
    loaders = graph.loaders(files.EDIT_2511)
    other = graph.add("unet 2512", "UNETLoader", "Qwen-Image-2512", (WIDE, 0), unet_name=files.IMAGE_2512, weight_dtype="default")
    face, references, shown = graph.character()
    judge = graph.picture("judge", "Another photograph, to measure against")
    identity = graph.identity(judge, "Whom all are measured against")
    shots = graph.shots(
        SHOTS,
        scenes="stands in a sunlit kitchen\nwalks through an autumn park\nsits at a café table",
        template="a woman with short dark hair[, the person of {picture:face},] {scene}, waist up, looking at the camera, natural light, photograph",
        seeds="same for every shot",
    )
    same = {"shots": shots["shots"], "scene": BY_SHOTS, "aspect_ratio": "1:1"}
    edited = graph.scene("1: edit model", references=references["references"], **same, **FAST_2511)
    plain = graph.scene("2: text alone, for the swap", model=other["MODEL"], **same, **FAST_2512)
    wires = {"image": plain["images"], "identity": shown["identity"]}
    swap = graph.add("swap", "LikenessFaceSwap", "", (WIDE, GATE), **wires, swap_model=SWAP_MODEL, restore_model="none", preset="natural", swap_when="always")
    lora = graph.add(
        "own",
        "LikenessLora",
        "Character LoRA (choose yours, then un-bypass)",
        (WIDEST, 260),
        BYPASSED,
        model=other["MODEL"],
        lora=OWN_LORA,
        strength=0.8,
        role="character",
        trigger="",
    )
    trained = graph.scene("4: character LoRA", model=lora["model"], **same, **FAST_2512)
    flux, painted = flux_pictures(graph, face, plain["prompts"])
    wires = {"identity": identity["identity"]}
    wires |= {f"images.image{i}": link for i, link in enumerate((edited["images"], swap["image"], painted["IMAGE"], trained["images"]))}
    compared = graph.add("compare", "LikenessCompareMethods", "", (NARROW, 480), **wires, labels="Qwen edit\nQwen + ReActor\nFlux IP-Adapter\ncharacter LoRA")
    sheet, plot = graph.save("Side by side: saved", compared["sheet"], "likeness/methods", 520), graph.show("Scores", compared["plot"], 320)
    table = graph.add("table", "PreviewAny", "Table", (WIDEST, 300), source=compared["table"])
    names = [*BASE_2511, files.LIGHTNING_2511, files.IMAGE_2512, files.LIGHTNING_2512, flux_files.DEV, flux_files.CLIP_L, flux_files.T5, flux_files.AE]
    return (
        graph.notes(read, [*names, flux_files.XLABS_V2, flux_files.CLIP_VISION], reactor=True),
        Down((Area("Models", ((*loaders, other),)), Area("Character", ((face, judge), (references, shown, identity))))),
        Area("Scenes", ((shots,),)),
        Down((Across((Area("1: an edit model", ((edited,),)), Area("2: a face swap", ((plain,), (swap,))), Area("4: a LoRA", ((lora, trained),)))), flux)),
        Area("Which keeps the face?", ((compared, plot), (sheet, table))),
    )


def flux_pictures(graph: Graph, face: Node, prompts: Link) -> tuple[Area, Node]:
    """Pictures of a list of prompts by Flux, which looks at a face; and the node that has them."""
    clip = graph.add("flux clip", "DualCLIPLoader", "", (WIDE, 0), clip_name1=flux_files.CLIP_L, clip_name2=flux_files.T5, type="flux", device="default")
    text = graph.add("flux text", "CLIPTextEncode", "The prompts of the scenes", (NARROW, 160), clip=clip["CLIP"], text=prompts)
    guidance = graph.add("flux guidance", "FluxGuidance", "", (NARROW, 0), conditioning=text["CONDITIONING"], guidance=3.5)
    nothing = graph.add("flux nothing", "ConditioningZeroOut", "Negative (not used at cfg 1)", (NARROW, 0), conditioning=text["CONDITIONING"])
    unet = graph.add("flux unet", "UNETLoader", "FLUX.1 dev", (WIDE, 0), unet_name=flux_files.DEV, weight_dtype="default")
    adapter = graph.add("adapter", "LikenessLoadFluxIPAdapter", "", (WIDE, 220), ipadapter=flux_files.XLABS_V2, clip_vision=flux_files.CLIP_VISION)
    wires = {"model": unet["MODEL"], "flux_ipadapter": adapter["flux_ipadapter"], "images.image0": face["IMAGE"]}
    apply = graph.add("apply", "LikenessApplyFluxIPAdapter", "", (WIDE, 480), **wires)
    latent = graph.add("flux latent", "EmptySD3LatentImage", "", (NARROW, 0), width=1024, height=1024, batch_size=1)
    wires = {"model": apply["model"], "positive": guidance["CONDITIONING"], "negative": nothing["CONDITIONING"], "latent_image": latent["LATENT"]}
    chosen = {"seed": 1, "steps": 25, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    sampler = graph.add("flux sampler", "KSampler", "", (NARROW, 0), **wires, **chosen)
    vae = graph.add("flux vae", "VAELoader", "", (NARROW, 0), vae_name=flux_files.AE)
    painted = graph.add("flux picture", "VAEDecode", "", (NARROW, 0), samples=sampler["LATENT"], vae=vae["VAE"])
    return Area("3: an IP-Adapter", ((unet, clip, adapter), (apply,), (text, guidance, nothing), (latent, sampler, vae, painted))), painted


@workflow("Character flywheel")
def flywheel(graph: Graph, name: str):
    read = read_me(
        name,
        "The whole way from an idea to a LoRA that keeps a face: **cast** a character from words, **shoot** it in many scenes, let the **gate** keep what is the character, "
        "write the **dataset**, train outside of ComfyUI, and **sweep** what came of it. Then shoot again, with the LoRA.",
        [
            "**Cast.** Describe the character, press **Run**, and stop it (the X in the queue) when the four candidates are there. Save the best one, and choose it as *Reference: the face*.",
            "**Shoot and gate.** Write lines into Shot List, set its *limit* to 7 for a first run, later to 70.",
            "**Dataset.** Write a trigger word into Captions and a name into Export LoRA Dataset. The report prints the command that starts the training.",
            "**Train** with that command, on this machine or another.",
            "**Sweep.** Copy the checkpoints into a folder of `models/loras`, press R, select the nodes in *Sweep* and un-mute them (Ctrl+M), choose the folder, and press **Run**.",
        ],
        "**Judged by whom?** The sweep measures against pictures that were held out: make a few more of the character that do not go into the dataset, and choose one there.",
        VERDICTS,
        f"**Round again.** The best checkpoint in Character LoRA shoots better pictures than the edit model did: *Qwen 2512 + character LoRA* makes them. {OPEN_HELP}",
    )
    loaders = graph.loaders(files.EDIT_2511)
    other = graph.add("unet 2512", "UNETLoader", "Qwen-Image-2512", (WIDE, 0), unet_name=files.IMAGE_2512, weight_dtype="default")
    candidates = graph.shots(
        SHOTS,
        scenes="a woman of thirty with short dark hair, grey eyes and freckles",
        template="portrait photograph of {scene}, waist up, looking at the camera, neutral expression, plain background, soft daylight",
        seeds_per_shot=4,
    )
    graph.nodes["casting"] = graph.nodes.pop("shots")
    candidates.key = "casting"
    cast = graph.scene("Cast: four candidates", model=other["MODEL"], shots=candidates["shots"], scene=BY_SHOTS, aspect_ratio="1:1", **FAST_2512)
    saved = graph.save("Candidates: saved", cast["images"], "likeness/cast", 400)
    face, references, identity = graph.character()
    shots = graph.shots(
        TALL_SHOTS,
        scenes="stands in a sunlit kitchen\nsits at a café table\nwalks through an autumn park\nleans against a brick wall\nreads in a library",
        angles="front\nfront left\nfront right",
        lighting="soft window light\novercast daylight\nwarm evening light",
        expressions="a slight smile\na neutral expression\nlaughing",
        outfits="a blue denim jacket\na grey wool sweater\na white linen shirt",
        framing_plan=DATASET_PLAN,
        template="The person of {picture:face} {scene}[, {expression}][, wearing {outfit}][, {light}][, {framing}][, {angle}], photograph",
        limit=7,
    )
    scene = graph.scene(
        "Shoot",
        references=references["references"],
        shots=shots["shots"],
        identity=identity["identity"],
        scene=BY_SHOTS,
        aspect_ratio="3:4",
        max_takes=2,
        **FAST_2511,
    )
    gate = graph.gate(scene, identity, captions=scene["captions"])
    sides = tuple(graph.show(title, gate[title.lower()], 240) for title in ("Rejected", "Uncertain"))
    wires = {"image": gate["passed"], "captions": gate["passed captions"]}
    added = graph.add(
        "add", "LikenessDatasetAdd", "", (NARROW, 480), **wires, bucket="character", name="shot", provenance=f"model: {Path(files.EDIT_2511).stem}"
    )
    captions, audit, sheet, report, export, written = graph.to_trainer(added["dataset"], identity["identity"], synthetic="yes")
    shifted, fast = fast_2512(graph, other)
    judge = graph.picture("judge", "A held-out picture, to measure against")
    whom = graph.identity(judge, "Whom the LoRA is measured against")
    sweep = swept(graph, fast, whom, NEVER)
    grid, plot = graph.save("Grid: saved", sweep["grid"], "sweep/grid", 520), graph.show("Identity over the checkpoints", sweep["plot"], 320)
    table = graph.add("table", "PreviewAny", "Table", (WIDEST, 420), source=sweep["table"])
    for node in (grid, plot, table, shifted, fast, judge, whom):
        node.mode = NEVER
    names = [*BASE_2511, files.LIGHTNING_2511, files.IMAGE_2512, files.LIGHTNING_2512]
    return graph.notes(read, names), Down(
        (
            Across((Area("Models", ((*loaders, other),)), Area("1 Cast", ((candidates,), (cast,), (saved,))))),
            Across(
                (Area("2 Shoot", ((face, references, identity), (shots,), (scene,))), Area("3 Gate", ((gate,), sides)), Area("4 Dataset", ((added, captions),)))
            ),
            Across((Area("Fit to train on?", ((audit,), (sheet, report))), Area("For the trainer, outside", ((export,), (written,))))),
            Area("5 Sweep, after the training (muted: select and press Ctrl+M)", ((shifted, fast, judge, whom), (sweep,), (grid, plot), (table,))),
        )
    )


# ---- building it in the editor ---------------------------------------------------------------------------------------

# Creates the nodes with their widgets and links, and measures them; throws with the name that does not exist.
CREATE = """async ({ nodes, files }) => {
    app.graph.clear()
    const pause = () => new Promise(done => setTimeout(done, 30))
    const made = {}
    for (const { key, type, title, mode } of nodes) {
        const node = LiteGraph.createNode(type)
        if (!node) throw new Error(`no node ${type}`)
        app.graph.add(node)
        if (title) node.title = title
        node.mode = mode
        if (type === 'MarkdownNote') [node.color, node.bgcolor] = ['#222', '#000']
        made[key] = node
    }
    await pause()
    for (const { key, widgets } of nodes) {
        const node = made[key]
        for (const [name, value] of Object.entries(widgets)) {
            const widget = node.widgets?.find(w => w.name === name)
            if (!widget) throw new Error(`${key} has no widget ${name}: ${node.widgets?.map(w => w.name)}`)
            widget.value = value
            widget.callback?.(value)
            await pause()
            if (files[value]) (node.properties.models ??= []).push(files[value])
        }
        // The seed's control: the same picture on every run, until the user wants another.
        for (const widget of node.widgets ?? []) if (widget.options?.values?.includes?.('randomize')) widget.value = 'fixed'
    }
    for (const { key, links } of nodes)
        for (const [name, [from, output]] of Object.entries(links)) {
            const slot = made[key].inputs.findIndex(i => i.name === name)
            const source = made[from].outputs.findIndex(o => o.name === output)
            if (slot < 0) throw new Error(`${key} has no input ${name}: ${made[key].inputs.map(i => i.name)}`)
            if (source < 0) throw new Error(`${from} has no output ${output}: ${made[from].outputs.map(o => o.name)}`)
            made[from].connect(source, made[key], slot)
            await pause()
        }
    for (const { key, size } of nodes) {
        const least = made[key].computeSize()
        made[key].setSize([Math.max(size[0], least[0]), Math.max(size[1], least[1])])
    }
    return nodes.map(({ key }) => [key, made[key].id])
}"""

# The heights at which the notes show all of their text, once they are drawn.
NOTES = """async ids => {
    app.canvas.ds.scale = 1
    const heights = {}
    for (const id of ids) {
        const node = app.graph.getNodeById(id)
        app.canvas.ds.offset = [40 - node.pos[0], 60 - node.pos[1]]
        app.canvas.setDirty(true, true)
        await new Promise(done => setTimeout(done, 400))
        const text = node.widgets[0].element.querySelector('.tiptap') ?? node.widgets[0].element
        heights[id] = text.scrollHeight
    }
    return heights
}"""

PLACE = """({ places, heights, groups }) => {
    for (const [id, height] of Object.entries(heights)) { const n = app.graph.getNodeById(+id); n.setSize([n.size[0], height]) }
    for (const [id, [x, y]] of Object.entries(places)) app.graph.getNodeById(+id).pos = [x, y]
    for (const { title, bounding } of groups) {
        const group = new LiteGraph.LGraphGroup(title)
        group.pos = bounding.slice(0, 2)
        group.size = bounding.slice(2)
        app.graph.add(group)
    }
    app.canvas.setDirty(true, true)
}"""


class Layout:
    """Places of nodes and frames. sizes: (width, height) of each node by key, without its title bar."""

    def __init__(self, sizes: dict[str, tuple[float, float]]):
        self.sizes, self.places, self.groups = sizes, {}, []

    def put(self, part, x: float, y: float) -> tuple[float, float]:
        """Place a part with its upper left corner at (x, y); gives the (width, height) that it takes."""
        if isinstance(part, Area):
            return self._area(part, x, y)
        across = isinstance(part, Across)
        far = deep = 0.0
        for inner in part.parts:
            width, height = self.put(inner, x + (far if across else 0), y + (0 if across else deep))
            far, deep = (far + width + AREA_GAP, max(deep, height)) if across else (max(far, width), deep + height + AREA_GAP)
        return (far - AREA_GAP, deep) if across else (far, deep - AREA_GAP)

    def _area(self, area: Area, x: float, y: float) -> tuple[float, float]:
        left, top = (x + FRAME, y + FRAME_TITLE) if area.title else (x, y + FRAME_TITLE)
        far = deep = 0.0
        for column in area.columns:
            below = 0.0
            for node in column:
                self.places[node.key] = (left + far, top + below + TITLE)
                below += TITLE + self.sizes[node.key][1] + GAP_Y
            far += max(self.sizes[node.key][0] for node in column) + GAP_X
            deep = max(deep, below - GAP_Y)
        width, height = (far - GAP_X, deep + FRAME_TITLE)
        if area.title:
            width, height = width + 2 * FRAME, height + FRAME
            self.groups.append({"title": area.title, "bounding": [x, y, width, height]})
        return width, height


def made(editor: browser.Editor, graph: Graph, layout) -> dict:
    """The workflow as the editor saves it."""
    nodes = []
    for node in graph.nodes.values():
        links = {name: [value.node, value.output] for name, value in node.inputs.items() if isinstance(value, Link)}
        widgets = {name: value for name, value in node.inputs.items() if not isinstance(value, Link)}
        nodes.append({"key": node.key, "type": node.type, "title": node.title, "size": node.size, "mode": node.mode, "links": links, "widgets": widgets})
    offered = {file.name: {"name": file.name, "url": file.url, "directory": file.kind} for file in FILES.values()}
    ids = dict(editor.js(CREATE, {"nodes": nodes, "files": offered}))
    editor.page.wait_for_timeout(500)
    heights = editor.js(NOTES, [ids[node.key] for node in graph.nodes.values() if node.type == "MarkdownNote"])
    sizes = {key: editor.js("id => [...app.graph.getNodeById(id).size]", id_) for key, id_ in ids.items()}
    heights = {id_: round(height * NOTE_IN_NODES_2) + TITLE for id_, height in heights.items()}
    sizes |= {key: (sizes[key][0], heights[str(id_)]) for key, id_ in ids.items() if str(id_) in heights}
    placed = Layout(sizes)
    placed.put(layout, 0, 0)
    editor.js(PLACE, {"places": {str(ids[key]): place for key, place in placed.places.items()}, "heights": heights, "groups": placed.groups})
    editor.page.wait_for_timeout(300)
    return tidy(editor.workflow())


# What the editor writes for each slot and never reads.
EMPTY = ("color_off", "color_on", "dir", "label", "locked", "nameLocked", "pos", "removable", "shape", "slot_index")


def tidy(workflow: dict) -> dict:
    """Without what differs from run to run or says nothing."""
    workflow |= {"id": "00000000-0000-0000-0000-000000000000", "revision": 0, "extra": {}}
    for node in workflow["nodes"]:
        for slot in (*node.get("inputs", ()), *node.get("outputs", ())):
            for name in EMPTY:
                if slot.get(name, 0) is None:
                    del slot[name]
    return workflow


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files.write_all(Path(folder) / "models")
        flux_files.write_all(Path(folder) / "models")
        comfy = Comfy(comfyui_root(), ROOT, Path(folder), extra=(TINY_HOST,))
        try:
            for name in names or WORKFLOWS:
                # A new page for each: the editor keeps widget values of a cleared graph for the nodes that get the same numbers.
                with browser.editor(comfy.url) as editor:
                    target = FOLDER / f"{name}.json"
                    target.write_text(json.dumps(made(editor, *WORKFLOWS[name]()), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
                    print(target)
        finally:
            comfy.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
