"""The ComfyUI nodes of likeness/lora dataset that judge a dataset and write it: schemas, and a few lines each that call the engine."""

from functools import partial
from pathlib import Path

import folder_paths
import numpy as np
from comfy_api.latest import io, ui

from .. import host
from ..errors import MissingModelError, MissingPackageError
from ..files import checked_name
from ..host import Frames, LiveNode, one, or_block, to_image
from ..pictures import from_floats
from ..texts import one_line
from . import choices
from .nodes import ALIASES, CATEGORY, MOST_SAID, DatasetType, IdentityType, RecognizerType, progress_of, reader_of, reader_state


class LikenessDatasetAudit(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessDatasetAudit",
            display_name="Audit Dataset",
            category=CATEGORY,
            description="Looks at every picture and caption and says what would harm a training: Ready, Needs attention or Blocked, with reasons, and which shots are missing.",
            search_aliases=[*ALIASES, "duplicates", "blur", "quality", "contact sheet"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                DatasetType.Input("dataset", tooltip="The dataset with its captions."),
                IdentityType.Input(
                    "identity", optional=True, tooltip="The character, best from pictures that are not in the dataset: each picture is held against it."
                ),
                RecognizerType.Input(
                    "recognizer", optional=True, tooltip="Without an identity: the pictures are held against each other, to find those of somebody else."
                ),
                io.String.Input(
                    "plan",
                    default="20 closeup, 30 full body, 20 variety",
                    multiline=True,
                    tooltip="How many pictures of each framing there are to be; for the bucket body `10 legs, 10 torso, 10 detail`. What is missing comes out as prompts. Empty: no plan.",
                ),
                io.String.Input(
                    "waive",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What you let pass, one a line: `mira_03: blur, resolution` for a picture, `*: exposure` for all.",
                ),
                io.String.Input(
                    "traits",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="Fixed traits that captions were to omit, as in Captions: those that are still named are told.",
                ),
                io.Int.Input(
                    "resolution",
                    default=1024,
                    min=0,
                    max=16384,
                    step=16,
                    optional=True,
                    advanced=True,
                    tooltip="Pictures of fewer pixels than a square of this side are told.",
                ),
                io.Int.Input(
                    "duplicate_distance",
                    default=6,
                    min=0,
                    max=7,
                    optional=True,
                    advanced=True,
                    tooltip="Up to so many differing bits of 64 (pHash) two pictures count as the same.",
                ),
            ],
            outputs=[
                DatasetType.Output("dataset_out", display_name="dataset", tooltip="The dataset with what was found, for Export LoRA Dataset."),
                io.Image.Output("sheet", is_output_list=True, tooltip="Contact sheets, the worst pictures first."),
                io.String.Output("verdict", tooltip="Ready, Needs attention or Blocked."),
                io.String.Output("report", tooltip="The whole in Markdown; wired to the export it becomes report.md."),
                io.String.Output(
                    "missing_scenes",
                    display_name="missing scenes",
                    tooltip="A prompt for each shot that the plan still misses, one a line, for the scenes of a Shot List.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        return reader_state()

    @classmethod
    def execute(cls, dataset, plan, identity=None, recognizer=None, waive="", traits="", resolution=1024, duplicate_distance=6) -> io.NodeOutput:
        from . import audit as auditing
        from . import curation, sheet
        from .rules import AuditRules

        node = LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt)
        rules = AuditRules(resolution=resolution, distance=duplicate_distance, plan=plan, waive=waive, traits=traits)
        seer = recognizer if identity is None else identity.recognizer
        notes, reader = [], None
        try:
            found = reader_of(seer)
            reader, notes = curation.FirstFace(found), [found.note] if found.note else []
        except (MissingModelError, MissingPackageError) as error:
            # Faces are one part of an audit: without them the rest is worth having.
            notes.append(str(error))
        result = auditing.audit(dataset, rules, identity, reader, progress_of(node, "audit"), seer)
        pages = list(sheet.sheets(result))
        shown = [f"{result.verdict}: {', '.join(f'{count} {verdict}' for verdict, count in result.counts.items())}", *result.reasons, *result.advice, *notes]
        outputs = (result.dataset, or_block([to_image(page) for page in pages]), result.verdict, sheet.report(result), "\n".join(result.missing_prompts))
        said = "\n".join(shown[:MOST_SAID])
        node.tell(said)
        return io.NodeOutput(*outputs, ui=host.previews(pages, longest=1024) | {"text": (said,)})


class LikenessDatasetExport(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessDatasetExport",
            display_name="Export LoRA Dataset",
            category=CATEGORY,
            description="Writes the dataset as a trainer reads it, with a configuration that it really honours, and says what to type. Running again writes only what changed.",
            search_aliases=[*ALIASES, "save dataset", "train LoRA", "config", "sd-scripts", "zip"],
            is_output_node=True,
            is_input_list=True,
            not_idempotent=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                DatasetType.Input("dataset", tooltip="From Audit Dataset; without an audit nothing is held against it but what the trainer would trip over."),
                io.String.Input("report", optional=True, force_input=True, tooltip="From Audit Dataset: becomes report.md in the dataset folder."),
                io.Image.Input("sheet", optional=True, tooltip="From Audit Dataset: contact sheets for the dataset folder."),
                io.String.Input("name", default="my_character", tooltip="Name of the dataset's folder and of the LoRA: letters, digits, _ - and . only."),
                io.Combo.Input(
                    "trainer",
                    options=list(choices.TRAINERS),
                    default=choices.TRAINERS[0],
                    tooltip="Who trains. imagefolder is Hugging Face's plain form, for anything else.",
                ),
                io.Combo.Input(
                    "base_model",
                    options=list(choices.BASE_MODELS),
                    default=choices.BASE_MODELS[0],
                    tooltip="What the LoRA is for. sd-scripts trains FLUX.1-dev alone.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(choices.MODES),
                    default=choices.TEXT_TO_IMAGE,
                    tooltip="text to image: pictures and captions. paired edit: each picture with the one it was edited from. edit as text to image: the weights of an edit model trained without pairs.",
                ),
                io.Combo.Input(
                    "recipe",
                    options=list(choices.RECIPES),
                    default=choices.RECIPES[0],
                    tooltip="Rank, learning rate and the rest. The help page has the reason for each value.",
                ),
                io.Combo.Input(
                    "vram",
                    options=[str(size) for size in choices.VRAM],
                    default=str(choices.VRAM[0]),
                    tooltip="GB of the graphics card that trains; decides on quantization and offloading.",
                ),
                io.Combo.Input(
                    "repeats",
                    options=list(choices.REPEATS),
                    default=choices.GUIDE,
                    tooltip="guide: 40 for the character, 20 for bodies. auto: so many that the run has target_steps. per bucket: as set where the pictures were added.",
                ),
                io.String.Input(
                    "folder",
                    default="likeness/datasets",
                    tooltip="Where the dataset's folder goes: below ComfyUI's output folder, or below a folder in LIKENESS_EXPORT_ROOTS.",
                ),
                io.String.Input(
                    "training_root",
                    default="",
                    tooltip="The dataset's folder as the training machine knows it, with /, such as /workspace/my_character. Empty: you start the training inside it.",
                ),
                io.Boolean.Input("dry_run", default=False, tooltip="Only say what would be written, and write nothing."),
                io.Combo.Input(
                    "learning_rate",
                    options=list(choices.LEARNING_RATES),
                    default=choices.NORMAL_RATE,
                    optional=True,
                    advanced=True,
                    tooltip="careful 5e-5, normal 2e-4, risky 5e-4.",
                ),
                io.Int.Input(
                    "target_steps",
                    default=choices.TARGET_STEPS,
                    min=100,
                    max=100000,
                    step=100,
                    optional=True,
                    advanced=True,
                    tooltip="For repeats auto: how many steps the run is to have.",
                ),
                io.Combo.Input(
                    "archive",
                    options=list(choices.ARCHIVES),
                    default=choices.NO_ARCHIVE,
                    optional=True,
                    advanced=True,
                    tooltip="zip: one file beside the folder that holds all of it.",
                ),
                io.Combo.Input(
                    "picture_format",
                    options=list(choices.PICTURE_FORMATS),
                    default=choices.PNG,
                    optional=True,
                    advanced=True,
                    tooltip="png loses nothing; jpeg (quality 95) takes a quarter of the room.",
                ),
                io.String.Input(
                    "sample_prompts",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="What the trainer paints at each checkpoint, one a line. Empty: six that are no captions of the dataset.",
                ),
                io.String.Input(
                    "statement",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="For the manifest: who agreed to the use of the face, and under which licence the pictures are.",
                ),
                io.Combo.Input(
                    "synthetic",
                    options=["not said", "yes", "no"],
                    default="not said",
                    optional=True,
                    advanced=True,
                    tooltip="For the manifest: whether the pictures were generated.",
                ),
                io.String.Input(
                    "waive",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="What you let pass, one a line: `too small` for all pictures, `mira_03: too small` for one. Rules of the trainer's check, or of the audit.",
                ),
                io.String.Input(
                    "webhook", default="", optional=True, advanced=True, tooltip="An https address that is told of the progress. Leave it empty for none."
                ),
                io.Float.Input(
                    "ema_decay",
                    default=0.0,
                    min=0.0,
                    max=0.9999,
                    step=0.0001,
                    round=0.0001,
                    optional=True,
                    advanced=True,
                    tooltip="ai-toolkit only: checkpoints hold an average of the weights, such as 0.99. 0: none, as the recipes have it.",
                ),
            ],
            outputs=[
                io.String.Output("folder_out", display_name="folder", tooltip="The dataset's folder."),
                io.String.Output("config", tooltip="The trainer's configuration file."),
                io.String.Output("report", tooltip="What was written, what to watch, the arithmetic of the run, and the command that starts the training."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        # What lies in the folder may have changed since: it is looked at in every run, and only what differs is written.
        return float("nan")

    @classmethod
    def execute(
        cls,
        dataset,
        name,
        trainer,
        base_model,
        mode,
        recipe,
        vram,
        repeats,
        folder,
        training_root,
        dry_run,
        report=None,
        sheet=None,
        learning_rate=(choices.NORMAL_RATE,),
        target_steps=(choices.TARGET_STEPS,),
        archive=(choices.NO_ARCHIVE,),
        picture_format=(choices.PNG,),
        sample_prompts=("",),
        statement=("",),
        synthetic=("not said",),
        waive=("",),
        webhook=("",),
        ema_decay=(0.0,),
    ) -> io.NodeOutput:
        from . import curation, export, targets
        from .manifest import Provenance
        from .webhook import told

        node = LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt)
        options = export.ExportOptions(
            _place(one_line(one(folder, "folder"))),
            one(name, "name"),
            one(trainer, "trainer"),
            one(base_model, "base_model"),
            one(mode, "mode"),
            one(recipe, "recipe"),
            int(one(vram, "vram")),
            one(learning_rate, "learning_rate"),
            one(ema_decay, "ema_decay") or None,
            repeats=one(repeats, "repeats"),
            target_steps=one(target_steps, "target_steps"),
            samples=tuple(filter(None, map(one_line, one(sample_prompts, "sample_prompts").splitlines()))),
            root=one(training_root, "training_root"),
            archive=one(archive, "archive"),
            picture_format=one(picture_format, "picture_format"),
            allowed=targets.allowed_roots(Path(folder_paths.get_output_directory())),
            waive=one(waive, "waive"),
            provenance=Provenance(one_line(one(statement, "statement")), {"yes": True, "no": False}.get(one(synthetic, "synthetic"))),
            dry_run=one(dry_run, "dry_run"),
        )
        pages = [partial(_pixels, image, i) for image in (Frames(sheet).images if sheet else ()) for i in range(len(image))]
        plan = export.plan_export(one(dataset, "dataset"), options, one(report, "report") if report else "", curation.sheet_files(pages))
        tell = progress_of(node, "export")
        with told(one_line(one(webhook, "webhook")), options.name) as hook:

            def progress(done: int, of: int, path: str) -> None:
                tell(done, of)
                hook({"event": "export", "done": done, "total": of})

            result = export.carry_out(plan, progress)
            hook({"event": "exported", "written": result.written})
        said = "\n".join(curation.export_lines(plan, result))
        node.tell(said)
        return io.NodeOutput(str(result.folder), str(result.config), said, ui=ui.PreviewText(said))


def _pixels(image, i: int) -> np.ndarray:
    """One frame of a batch as uint8 [H,W,3]."""
    return from_floats(image[i].float().cpu().numpy()).pixels


def _place(folder: str) -> Path:
    """A client's folder: absolute, or below the output folder by a name that is good on every system."""
    return Path(folder) if Path(folder).is_absolute() or not folder else checked_name(folder)
