"""The ComfyUI nodes of likeness/lora dataset: schemas, and a few lines each that call the engine."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy_api.latest import io, ui
from server import PromptServer

from .. import host
from ..errors import InputError
from ..files import checked_name
from ..host import Frames, LiveNode, one, or_block, to_image
from ..identity.nodes import strictness_inputs
from ..pictures import from_floats, small_copy
from ..texts import one_line
from . import choices

if TYPE_CHECKING:
    from .dataset import Bucket, Dataset
    from .faces import FaceReader
    from .sources import FileSource

CATEGORY = "likeness/lora dataset"
ALIASES = ["LoRA", "dataset", "training", "kohya", "ai-toolkit", "musubi-tuner", "caption", "likeness"]

DatasetType = io.Custom("LIKENESS_DATASET")
IdentityType = io.Custom("LIKENESS_IDENTITY")
RecognizerType = io.Custom("LIKENESS_RECOGNIZER")

CUSTOM = "custom"
# Below which folders, besides the host's input and output, a client may have pictures read.
IMPORT_ROOTS = "LIKENESS_IMPORT_ROOTS"
SPOOL = "likeness_dataset"
MOST_SAID = 40
# What captioners look at, and how many of these copies fit into memory, at 12 MB each.
CAPTIONED_SIDE = 1024
MOST_CAPTIONED = 500


# ---- what the nodes share ----------------------------------------------------------------------------------------------


def _bucket_inputs() -> list:
    return [
        io.Combo.Input(
            "bucket",
            options=[*choices.BUCKETS, CUSTOM],
            default="character",
            tooltip="The folder that the pictures go to. character: the character's face (the guide repeats each 40 times). body: no face is expected or judged "
            "(20 times, tag realistic_body). custom: the name below.",
        ),
        io.String.Input("custom_bucket", default="", optional=True, advanced=True, tooltip="For bucket custom: the folder's name; faces are expected in it."),
        io.Int.Input(
            "repeats",
            default=0,
            min=0,
            max=choices.MOST_REPEATS,
            optional=True,
            advanced=True,
            tooltip="How often a training pass shows each picture where the export's repeats are `per bucket`. 0: the bucket's own.",
        ),
    ]


def _bucket(bucket: str, custom: str, repeats: int) -> Bucket:
    from .dataset import bucket_named

    if bucket == CUSTOM and not one_line(custom):
        raise InputError("bucket is custom and custom_bucket is empty; name the folder, such as outfit.")
    return bucket_named(custom if bucket == CUSTOM else bucket, repeats)


def _gated(dataset: Dataset, identity, strictness: str, threshold: float, node: LiveNode) -> Dataset:
    """The dataset with only what is the character, where there is an identity."""
    if identity is None:
        return dataset
    from ..identity import scoring
    from . import gating

    rules = scoring.Rules(scoring.threshold_of(identity, strictness, threshold), strictness, uncertain="reject")
    return gating.gate(dataset, identity, rules, progress_of(node, "gate"))[0]


def progress_of(node: LiveNode, step: str) -> Callable[[int, int], None]:
    """Moves the node's bar and says how far it is; raises when the user interrupts."""

    def tell(done: int, of: int) -> None:
        node.check()
        node.progress(done, of)
        node.tell(f"{step}: {done} of {of}")

    return tell


def _report(dataset: Dataset, new: int | None = None) -> dict:
    """What there is to say of a dataset, as JSON values."""
    counts = {bucket.name: len(dataset.in_bucket(bucket)) for bucket in dataset.buckets}
    report = {"pictures": len(dataset), "buckets": counts, "trigger": dataset.trigger, "notes": list(dataset.notes)}
    if new is not None:
        report["added"] = new
    report["left_out"] = [{"name": name, "why": why} for name, why in dataset.left_out]
    report["items"] = [
        {
            "stem": item.stem,
            "bucket": item.bucket.name,
            "caption": item.caption,
            "likeness": item.likeness,
            "parent": item.parent,
            "decisions": list(item.decisions),
        }
        for item in dataset.items
    ]
    return report


def _shown(report: dict) -> str:
    """The same, short enough to read in the node."""
    from .dataset import counted

    buckets = ", ".join(f"{count} {name}" for name, count in report["buckets"].items()) or "none"
    left = [f"left out {entry['name']}: {entry['why']}" for entry in report["left_out"]]
    lines = [f"{counted(report['pictures'])}: {buckets}", *report["notes"], *left]
    more = [f"and {len(lines) - MOST_SAID} lines more in the report"] if len(lines) > MOST_SAID else []
    return "\n".join([*lines[:MOST_SAID], *more])


def _json(value) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _folder(text: str) -> Path:
    """A folder that a client may have read: below the host's input or output folder, or one that its operator named. A relative one is in the input folder."""
    from . import targets

    text = one_line(text)
    if not text:
        raise InputError("The folder is empty; give one in ComfyUI's input folder by its name, or an absolute path.")
    path = Path(text)
    own = Path(folder_paths.get_input_directory())
    named = [Path(part).expanduser() for part in os.environ.get(IMPORT_ROOTS, "").split(os.pathsep) if part.strip()]
    resolved = (path if path.is_absolute() else own / path).resolve()
    roots = [root.resolve() for root in (own, *targets.allowed_roots(Path(folder_paths.get_output_directory())), *named)]
    if not any(root == resolved or root in resolved.parents for root in roots):
        raise InputError(
            f"{resolved} is outside of ComfyUI's input and output folders; move the pictures into one of them, or have ComfyUI started with {IMPORT_ROOTS} naming the folder."
        )
    return resolved


def _folder_state(folder: str, subfolders: bool) -> list:
    """What tells one content of a folder from another, by names, sizes and times."""
    from . import sources

    found = _folder(folder)
    return [host.file_state(path) for path in sources.files_to_read(found, subfolders)[0]] if found.is_dir() else []


def reader_of(recognizer) -> FaceReader:
    from . import faces

    return faces.open_reader(host.models_dir(), recognizer)


def reader_state() -> list:
    """Changes when a model file of MediaPipe comes, goes or changes: then faces are read in another way."""
    from . import faces

    return [host.file_state(path) for path in faces.model_paths(host.models_dir())]


# ---- building ------------------------------------------------------------------------------------------------------------


class LikenessDatasetFromFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessDatasetFromFolder",
            display_name="Dataset from Folder",
            category=CATEGORY,
            description="Makes a dataset of the pictures in a folder, with the captions in the .txt files beside them. Pictures are opened when needed, so thousands fit.",
            search_aliases=[*ALIASES, "load images from folder", "sidecar captions"],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                DatasetType.Input("dataset", optional=True, tooltip="From another dataset node: the pictures are put behind its own."),
                IdentityType.Input("identity", optional=True, tooltip="The character: pictures that are not like it stay out, with the reason in the report."),
                io.String.Input(
                    "folder",
                    default="",
                    tooltip="A folder in ComfyUI's input folder, by name, or an absolute path below input, output, LIKENESS_IMPORT_ROOTS or LIKENESS_EXPORT_ROOTS.",
                ),
                *_bucket_inputs(),
                io.Boolean.Input("subfolders", default=False, optional=True, tooltip="Whether folders in the folder are looked into, too."),
                *strictness_inputs("With an identity: how much a face must be like the character. custom takes the threshold below."),
                io.String.Input(
                    "control_folder",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="For paired edit training: a folder with the picture that each one was edited from, under the same file name.",
                ),
            ],
            outputs=[
                DatasetType.Output("dataset_out", display_name="dataset", tooltip="The dataset, for Captions, Audit Dataset or Export LoRA Dataset."),
                io.String.Output("report", tooltip="JSON: every picture with its caption and score, and what was left out and why."),
                io.Image.Output(
                    "images",
                    is_output_list=True,
                    tooltip=f"The pictures of the dataset in order, at most {CAPTIONED_SIDE} pixels a side: for a captioner, whose captions go into Captions. Made where it is wired.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder="", subfolders=False, control_folder="", **inputs):
        # None is wired, known when it runs.
        states = [_folder_state(folder, subfolders) if folder else [], _folder_state(control_folder, True) if control_folder else []]
        return [*states, _will_be_wired(cls.hidden.unique_id, 2)]

    @classmethod
    def execute(
        cls, folder, bucket, strictness, threshold, dataset=None, identity=None, custom_bucket="", repeats=0, control_folder="", subfolders=False
    ) -> io.NodeOutput:
        from . import sources
        from .dataset import Dataset

        node = LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt)
        found = sources.from_folder(_folder(folder), _bucket(bucket, custom_bucket, repeats), subfolders)
        if one_line(control_folder):
            found = sources.with_controls(found, _folder(control_folder))
        found = _gated(found, identity, strictness, threshold, node)
        made = (dataset or Dataset()).added(found.items, found.left_out, found.notes)
        report = _report(made, len(found))
        node.tell(_shown(report))
        images = _for_captioners(made, node) if _is_wired(cls.hidden.dynprompt, cls.hidden.unique_id, 2) else []
        return io.NodeOutput(made, _json(report), or_block(images), ui=ui.PreviewText(_shown(report)))


def _for_captioners(dataset: Dataset, node: LiveNode) -> list:
    """Small copies of all pictures as images, opened one by one. Raises InputError for more than fit into memory."""
    if len(dataset) > MOST_CAPTIONED:
        raise InputError(
            f"The output images is wired and the dataset has {len(dataset)} pictures, of which it takes at most {MOST_CAPTIONED} (6 GB); "
            "caption them in several folders, or with a captioner that writes .txt files."
        )
    images, tick = [], progress_of(node, "images")
    for done, item in enumerate(dataset.items, 1):
        tick(done, len(dataset))
        images.append(to_image(small_copy(item.source.pixels(), CAPTIONED_SIDE)))
    return images


class LikenessDatasetAdd(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessDatasetAdd",
            display_name="Add to Dataset",
            category=CATEGORY,
            description="Adds pictures that the graph made to a dataset, each with its caption. They are put into the temp folder, so that thousands fit.",
            search_aliases=[*ALIASES, "save image and text", "image caption pair"],
            is_input_list=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.prompt],
            inputs=[
                io.Image.Input("image", tooltip="The pictures: a list, a batch, or both; sizes may differ."),
                DatasetType.Input("dataset", optional=True, tooltip="From another dataset node: the pictures are put behind its own."),
                io.String.Input(
                    "captions",
                    optional=True,
                    force_input=True,
                    tooltip="A caption for each picture, in order: from a gate, Qwen Character Scene, or a captioner.",
                ),
                io.Image.Input("control", optional=True, tooltip="For paired edit training: the picture that each one was edited from, in the same order."),
                IdentityType.Input("identity", optional=True, tooltip="The character: pictures that are not like it stay out, with the reason in the report."),
                *_bucket_inputs(),
                io.String.Input("name", default="picture", optional=True, tooltip="What the pictures are called: name_0001 and so on."),
                *strictness_inputs("With an identity: how much a face must be like the character. custom takes the threshold below."),
                io.String.Input(
                    "provenance",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="What the manifest is to say of where they come from, one `name: value` a line, such as `film: Portra 400`. A hash of the workflow is kept anyway, seed and model where they are certain.",
                ),
            ],
            outputs=[
                DatasetType.Output("dataset_out", display_name="dataset", tooltip="The dataset, for Captions, Audit Dataset or Export LoRA Dataset."),
                io.String.Output("report", tooltip="JSON: every picture with its caption and score, and what was left out and why."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        return _spool_state()

    @classmethod
    def execute(
        cls,
        image,
        bucket,
        strictness,
        threshold,
        dataset=None,
        captions=None,
        control=None,
        identity=None,
        custom_bucket=("",),
        repeats=(0,),
        name=("picture",),
        provenance=("",),
    ) -> io.NodeOutput:
        from .dataset import Dataset, DatasetItem, counted
        from .origins import made_in

        node = LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt)
        before = one(dataset, "dataset") if dataset else Dataset()
        place = _bucket(one(bucket, "bucket"), one(custom_bucket, "custom_bucket"), one(repeats, "repeats"))
        frames = Frames(image)
        if captions is not None and len(captions) != len(frames):
            raise InputError(
                f"There {'is' if len(captions) == 1 else 'are'} {counted(len(captions), 'caption')} for {counted(len(frames))}; give one for each, in the same order."
            )
        controls = None if control is None else Frames(control)
        if controls is not None and len(controls) != len(frames):
            raise InputError(
                f"There {'is' if len(controls) == 1 else 'are'} {counted(len(controls), 'control picture')} for {counted(len(frames))}; give one for each, in the same order."
            )
        stem = str(checked_name(one(name, "name"))).replace("/", "_")
        made = made_in(cls.hidden.prompt, cls.hidden.unique_id, "image")
        # What the user says counts before what the graph tells; the hash is no opinion.
        origin = {**made, **_provenance(one(provenance, "provenance")), **{name: made[name] for name in made if name == "workflow"}}
        items = []
        edited = None if controls is None else _spooled(controls, f"{stem} control")
        for i, source in enumerate(_spooled(frames, stem)):
            item = DatasetItem(source, f"{stem}_{i + 1:04}", place, origin={"source": "ComfyUI", **origin}, control=edited[i] if edited else None)
            if captions is not None and (caption := one_line(captions[i])):
                item = item.decided("Its caption came with it.", caption=caption, caption_source="input")
            items.append(item)
        added = _gated(Dataset().added(items), identity and one(identity, "identity"), one(strictness, "strictness"), one(threshold, "threshold"), node)
        made = before.added(added.items, added.left_out, added.notes)
        report = _report(made, len(added))
        node.tell(_shown(report))
        return io.NodeOutput(made, _json(report), ui=ui.PreviewText(_shown(report)))


def _spool() -> Path:
    """Where pictures of the graph lie until they are exported."""
    return Path(folder_paths.get_temp_directory(), SPOOL)


def _spool_state() -> str:
    """Changes when the spool was taken away: what is in the host's cache would then name pictures that are gone."""
    mark = _spool() / "mark"
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(uuid.uuid4().hex)
    return mark.read_text()


def _spooled(frames: Frames, stem: str) -> list[FileSource]:
    """One after the other: 8-bit copies of all pictures together would take a quarter of what the floats take, and more than once."""
    from . import sources

    pictures = (from_floats(frame) for image in frames.images for frame in image.float().cpu().numpy())
    return [sources.spooled(picture.pixels, f"{stem} {i}", _spool()) for i, picture in enumerate(pictures, 1)]


def _provenance(text: str) -> dict:
    told = {}
    for line in filter(None, map(one_line, text.splitlines())):
        key, separator, value = line.partition(":")
        if not separator or not key.strip():
            raise InputError(f"'{line[:60]}' in provenance is no `name: value`; write such as `model: qwen_image_edit_2511`.")
        told[key.strip()] = value.strip()
    return told


class LikenessFaceCrop(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessFaceCrop",
            display_name="Face Crops",
            category=CATEGORY,
            description="Puts a square crop of the face beside each picture of a dataset that shows one, or cuts the faces out of pictures. Nothing is enlarged.",
            search_aliases=[*ALIASES, "crop face", "MediaPipe", "face detection"],
            is_input_list=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.prompt],
            inputs=[
                DatasetType.Input("dataset", optional=True, tooltip="Its pictures stay; the crops are put beside them, with captions that fit."),
                io.Image.Input("image", optional=True, tooltip="Pictures to cut the largest face out of; with a dataset they are added to it."),
                IdentityType.Input("identity", optional=True, tooltip="Whose face is wanted where there are several; without it the largest is taken."),
                RecognizerType.Input(
                    "recognizer", optional=True, tooltip="Finds the faces where MediaPipe's detector is not there. That of the identity serves, too."
                ),
                io.Float.Input(
                    "margin",
                    default=choices.MARGIN,
                    min=0.0,
                    max=choices.WIDEST_MARGIN,
                    step=0.05,
                    tooltip="How much around the face is kept on each side, in shares of the face.",
                ),
                io.Int.Input(
                    "minimum_size",
                    default=choices.MINIMUM,
                    min=64,
                    max=4096,
                    step=8,
                    tooltip="Crops would have at least so many pixels a side; smaller faces get none.",
                ),
            ],
            outputs=[
                DatasetType.Output("dataset_out", display_name="dataset", tooltip="The dataset with the crops behind its own pictures."),
                io.Image.Output("crops", is_output_list=True, tooltip="The crops as pictures."),
                io.String.Output("report", tooltip="JSON: what was cropped, and why other pictures were not."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        return [_spool_state(), reader_state(), _will_be_wired(cls.hidden.unique_id, 1)]

    @classmethod
    def execute(cls, margin, minimum_size, dataset=None, image=None, identity=None, recognizer=None) -> io.NodeOutput:
        from . import curation
        from .dataset import Dataset, DatasetItem
        from .origins import made_in

        node = LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt)
        if not dataset and not image:
            raise InputError("Neither a dataset nor a picture is wired to Face Crops; wire one.")
        before = one(dataset, "dataset") if dataset else Dataset()
        if image:
            origin = {"source": "ComfyUI", **made_in(cls.hidden.prompt, cls.hidden.unique_id, "image")}
            before = before.added(DatasetItem(source, f"picture_{i:04}", origin=origin) for i, source in enumerate(_spooled(Frames(image), "picture"), 1))
        who = one(identity, "identity") if identity else None
        seer = one(recognizer, "recognizer") if recognizer else who and who.recognizer
        reader = reader_of(seer)
        made = curation.with_crops(before, reader, one(margin, "margin"), one(minimum_size, "minimum_size"), who, progress_of(node, "crops"))
        new = made.items[len(before) :]
        report = _report(made, len(new))
        # The crops as pictures take 12 MB for each megapixel: they are made where somebody wants them, for the previews the first few.
        wanted = _is_wired(cls.hidden.dynprompt, cls.hidden.unique_id, 1)
        pictures = [item.source.pixels() for item in (new if wanted else new[: host.MOST_PREVIEWS])]
        said = "\n".join(filter(None, [_shown(report), reader.note]))
        node.tell(said)
        shown = host.previews(pictures) | {"text": (said,)}
        return io.NodeOutput(made, or_block([to_image(pixels) for pixels in pictures] if wanted else []), _json(report), ui=shown)


def _is_wired(prompt, node_id: str, output: int) -> bool:
    """Whether another node of the prompt takes that output."""
    nodes = (prompt.get_node(name) for name in prompt.all_node_ids())
    return any(value == [node_id, output] for node in nodes for value in node["inputs"].values() if isinstance(value, list))


def _will_be_wired(node_id: str, output: int) -> bool:
    """The same before the nodes run, of what the host works on: an output that was not made is not to be taken from its cache."""
    running, _ = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    return any(value == [node_id, output] for entry in running for node in entry[2].values() for value in node["inputs"].values() if isinstance(value, list))


class LikenessCaptions(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessCaptions",
            display_name="Captions",
            category=CATEGORY,
            description="Brings the captions of a dataset into one form: trigger word first, then what the picture shows, without what is always true of the character.",
            search_aliases=[*ALIASES, "trigger word", "WD14", "JoyCaption", "tags"],
            is_input_list=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                DatasetType.Input("dataset", tooltip="From Dataset from Folder or Add to Dataset."),
                io.String.Input(
                    "captions",
                    optional=True,
                    force_input=True,
                    tooltip="For source given: a caption for each picture, in order, from any captioner (WD14, JoyCaption, TextGenerate).",
                ),
                io.String.Input("trigger", default="", tooltip="The word that calls the character, such as m1ra: not an ordinary word. It is put first, once."),
                io.Combo.Input(
                    "source",
                    options=list(choices.SOURCES),
                    default=choices.KEEP,
                    tooltip="keep: the captions that the pictures have; the template where there is none. template: the template for all. given: those wired to captions.",
                ),
                io.String.Input(
                    "template",
                    default=choices.DEFAULT_TEMPLATE,
                    optional=True,
                    tooltip="How a caption is put together; what is not known of a picture is left out with its comma.",
                ),
                io.Combo.Input(
                    "policy",
                    options=list(choices.POLICIES),
                    default=choices.OMIT,
                    optional=True,
                    tooltip="What happens to fixed traits. omit: they are taken out, so that the trigger learns them. describe: they are named, so that they can be changed later.",
                ),
                io.String.Input(
                    "traits", default="", multiline=True, optional=True, tooltip="What is always true of the character, one a line, such as green eyes."
                ),
                io.String.Input(
                    "edits",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Changes to every caption, one a line: `add last: film photo`, `add first: ...`, `remove: ...`, `replace: old -> new`, `trigger first`.",
                ),
            ],
            outputs=[
                DatasetType.Output("dataset_out", display_name="dataset", tooltip="The dataset with its captions."),
                io.String.Output("captions_out", display_name="captions", is_output_list=True, tooltip="The captions, in the order of the pictures."),
                io.String.Output("report", tooltip="JSON: every caption with where it is from, and what was done to it."),
            ],
        )

    @classmethod
    def validate_inputs(cls, edits=None, template=None):
        from . import captions as captioning

        try:
            captioning.edits_of((edits or [""])[0] or "")
            if template and template[0] is not None:
                captioning.composed(template[0], {})
        except InputError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls, dataset, trigger, source, captions=None, template=(choices.DEFAULT_TEMPLATE,), policy=(choices.OMIT,), traits=("",), edits=("",)
    ) -> io.NodeOutput:
        from . import captions as captioning
        from .wording import traits_of

        rules = captioning.CaptionRules(
            one(trigger, "trigger"),
            one(source, "source"),
            one(template, "template"),
            one(policy, "policy"),
            traits_of(one(traits, "traits")),
            captioning.edits_of(one(edits, "edits")),
        )
        made = captioning.caption_items(one(dataset, "dataset"), rules, captions)
        report = _report(made)
        said = "\n".join([_shown(report), "", *(f"{item.stem}: {item.caption}" for item in made.items[:MOST_SAID])])
        LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt).tell(said)
        return io.NodeOutput(made, or_block([item.caption for item in made.items]), _json(report), ui=ui.PreviewText(said))
