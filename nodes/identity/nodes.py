"""The ComfyUI nodes of likeness/identity: schemas, and a few lines each that call the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import comfy.model_management
import folder_paths
import numpy as np
import torch
from comfy_api.latest import io

from .. import host
from ..errors import InputError, LikenessError
from ..host import Frames, Progress, one, or_block
from . import choices

if TYPE_CHECKING:
    from . import masks, scoring
    from .recognizers import Face, Recognizer

CATEGORY = "likeness/identity"
ALIASES = ["ArcFace", "FaceID", "face similarity", "InsightFace", "face recognition", "likeness", "character consistency"]

RecognizerType = io.Custom("LIKENESS_RECOGNIZER")
IdentityType = io.Custom("LIKENESS_IDENTITY")
LandmarksType = io.Custom("FACE_LANDMARKS")

# Stands in the list while there is none: an empty list would leave the input without a value, and the host without our sentence.
NONE_SAVED = "none saved yet"
SCORES_TOOLTIP = (
    "One score per input picture, in order, -1 where there is no face. It counts all pictures: wired beside `passed` into a node that runs "
    "once per picture, that node runs this many times."
)


def _open(name: str, device: str = "auto") -> Recognizer:
    from .recognizers import open_recognizer

    recognizer = open_recognizer(name, host.models_dir(), device, host.commercial_only())
    host.tell_once(_clashes(recognizer))
    return recognizer


def _clashes(recognizer: Recognizer) -> list[str]:
    from .recognizers.environment import clashes

    return clashes(not comfy.model_management.cpu_mode() and comfy.model_management.is_nvidia(), recognizer.info.metric == "cosine")


def _state(name: str) -> str:
    """What the result of opening a recognizer depends on besides the inputs: its files and the commercial switch."""
    from .recognizers import describe

    commercial = host.commercial_only()
    try:
        info = describe(name, host.models_dir(), commercial)
        return f"{commercial} {info.state()}"
    except LikenessError as error:
        return str(error)


class LikenessLoadRecognizer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessLoadRecognizer",
            display_name="Load Face Recognizer",
            category=CATEGORY,
            description="Chooses the face recognizer that measures likeness. Nothing is downloaded and no model is loaded before the first picture.",
            search_aliases=ALIASES,
            inputs=[
                io.Combo.Input(
                    "recognizer",
                    options=choices.recognizer_names(host.models_dir(), host.commercial_only()),
                    default="auto",
                    tooltip="auto takes AuraFace where its files are, else dlib. buffalo_l and antelopev2 are for non-commercial research only and are "
                    "never chosen unasked. Any other folder in models/insightface/models with a detector and an embedder is listed too.",
                ),
                io.Combo.Input(
                    "device",
                    options=list(choices.DEVICES),
                    default="auto",
                    tooltip="auto is the CPU, which leaves all GPU memory to the picture models. cuda needs onnxruntime-gpu and an NVIDIA GPU, coreml a Mac. dlib and YuNet always run on the CPU.",
                ),
            ],
            outputs=[RecognizerType.Output("recognizer", tooltip="The recognizer, for Character Identity.")],
        )

    @classmethod
    def validate_inputs(cls, recognizer):
        from .recognizers import describe

        if recognizer is None:
            return True
        try:
            describe(recognizer, host.models_dir(), host.commercial_only())
        except LikenessError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, recognizer, device):
        # A wired name is not known yet; it is an input like any other.
        return _state(recognizer or "auto")

    @classmethod
    def execute(cls, recognizer, device) -> io.NodeOutput:
        return io.NodeOutput(_open(recognizer, device))


class LikenessBuildIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessBuildIdentity",
            display_name="Character Identity",
            category=CATEGORY,
            description="Makes one character's identity from one or more reference pictures and checks the references against each other.",
            search_aliases=[*ALIASES, "face model", "face embedding", "reference face"],
            is_input_list=True,
            has_intermediate_output=True,
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Reference pictures of one person, a batch or a list; sizes may differ. Sharp, large, frontal faces work best; of several faces in a picture the largest is taken.",
                ),
                RecognizerType.Input(
                    "recognizer", optional=True, tooltip="From Load Face Recognizer. Without it auto is taken: AuraFace where its files are, else dlib."
                ),
                io.String.Input("name", default="character", tooltip="The character's name, as it stands in overlays and reports."),
                io.Combo.Input(
                    "combine",
                    options=list(choices.COMBINE),
                    default="mean",
                    tooltip="How several references make one score. mean: their average face, the steadiest. median: shrugs off one wrong reference. max: the best match with any single one, for a character with very different looks.",
                ),
            ],
            outputs=[
                IdentityType.Output("identity", tooltip="The character, for Identity Gate, Identity Score, Cast Gate, Character Mask and Save Identity."),
                io.Image.Output("sheet", tooltip="The references with their quality, and how much each is like the others."),
                io.String.Output("report", tooltip="JSON: references, self-calibration, recognizer, warnings."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        return _state("auto")

    @classmethod
    def execute(cls, images, name, combine, recognizer=None) -> io.NodeOutput:
        from . import drawing
        from .identity import build_identity, identity_report

        recognizer = one(recognizer, "recognizer") if recognizer else _open("auto")
        pictures = Frames(images).pictures()
        identity = build_identity(pictures, recognizer, one(name, "name"), one(combine, "combine"), Progress(len(pictures)))
        for warning in identity.warnings:
            host.log.warning("%s: %s", identity.name, warning)
        sheet = drawing.identity_sheet(identity, pictures)
        report = identity_report(identity) | {"notes": _clashes(recognizer) + _reading_notes(pictures)}
        return io.NodeOutput(identity, host.to_image(sheet), _json(report), ui=host.previews([sheet], longest=1024))


class LikenessSaveIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessSaveIdentity",
            display_name="Save Identity",
            category=CATEGORY,
            description="Saves a character's identity to models/likeness/identities. An existing file is never replaced: a number is added to the name.",
            search_aliases=[*ALIASES, "save face model"],
            is_output_node=True,
            inputs=[
                IdentityType.Input("identity", tooltip="From Character Identity."),
                io.String.Input("filename", default="character", tooltip="A plain name, or folder/name; it stays below models/likeness/identities."),
            ],
            outputs=[
                IdentityType.Output("identity_out", display_name="identity", tooltip="The same identity, to wire on."),
                io.String.Output("file", tooltip="The file that was written, as Load Identity lists it."),
            ],
        )

    @classmethod
    def execute(cls, identity, filename) -> io.NodeOutput:
        from . import drawing
        from .identity import save_identity

        path = save_identity(identity, host.identities_dir(), filename)
        host.log.info("Identity of %s saved as %s", identity.name, path)
        file = path.relative_to(host.identities_dir()).as_posix()
        return io.NodeOutput(identity, file, ui=host.previews([drawing.captioned(identity.portrait, f"saved as {file}")]))


class LikenessLoadIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessLoadIdentity",
            display_name="Load Identity",
            category=CATEGORY,
            description="Loads a character's identity that Save Identity wrote.",
            search_aliases=[*ALIASES, "load face model"],
            inputs=[
                io.Combo.Input(
                    "file", options=folder_paths.get_filename_list(host.IDENTITIES) or [NONE_SAVED], tooltip="A file in models/likeness/identities."
                ),
                RecognizerType.Input(
                    "recognizer",
                    optional=True,
                    tooltip="Only to choose the device: it must be the recognizer the identity was made with, which is opened by itself otherwise.",
                ),
            ],
            outputs=[IdentityType.Output("identity", tooltip="The character, as when it was saved.")],
        )

    @classmethod
    def validate_inputs(cls, file=None, input_types=None):
        if "file" in (input_types or {}):
            # Wired: known when it runs.
            return True
        if not file or file == NONE_SAVED:
            return "No identity is chosen: save one with Save Identity first, then press R to refresh the list."
        if folder_paths.get_full_path(host.IDENTITIES, file) is None:
            return f"The identity {file} is not in models/likeness/identities; press R to refresh the list and choose another."
        return True

    @classmethod
    def fingerprint_inputs(cls, file, recognizer=None):
        from .identity import made_with

        path = folder_paths.get_full_path(host.IDENTITIES, file) if file else None
        return [] if path is None else [Path(path).stat().st_mtime_ns, _state(made_with(Path(path)) or "auto")]

    @classmethod
    def execute(cls, file, recognizer=None) -> io.NodeOutput:
        from . import drawing
        from .identity import load_identity

        path = folder_paths.get_full_path(host.IDENTITIES, file)
        if path is None:
            raise InputError(f"The identity {file} is not in models/likeness/identities.")
        identity = load_identity(Path(path), _open, recognizer)
        return io.NodeOutput(identity, ui=host.previews([drawing.captioned(identity.portrait, identity.name)]))


def _gate_outputs() -> list:
    return [
        io.Image.Output("passed", is_output_list=True, tooltip="The pictures that pass, untouched, in their order. Nothing runs behind it when none does."),
        io.Image.Output("rejected", is_output_list=True, tooltip="The pictures that do not, in their order."),
        io.Image.Output(
            "uncertain_out", display_name="uncertain", is_output_list=True, tooltip="Pictures whose face is too small, blurred or turned away to judge."
        ),
        io.Image.Output("overlay", is_output_list=True, tooltip="All pictures with boxes, names, scores, verdicts and reasons drawn in."),
        io.Image.Output("plot", tooltip="The scores of all pictures with the thresholds."),
        io.Float.Output("scores", is_output_list=True, tooltip=SCORES_TOOLTIP),
        io.Int.Output("passed_count", tooltip="How many pictures passed."),
        io.Boolean.Output("all_passed", tooltip="Whether every picture passed."),
        io.String.Output("report", tooltip="JSON: verdict, score and reason per picture, match rate, recognizer, thresholds."),
        io.String.Output(
            "passed_captions", display_name="passed captions", is_output_list=True, tooltip="The captions of the pictures that pass, in step with them."
        ),
        io.String.Output(
            "rejected_captions", display_name="rejected captions", is_output_list=True, tooltip="The captions of the rejected pictures, in step with them."
        ),
        io.String.Output(
            "uncertain_captions", display_name="uncertain captions", is_output_list=True, tooltip="The captions of the uncertain pictures, in step with them."
        ),
    ]


def strictness_inputs(tooltip: str) -> list:
    """The inputs `strictness` and `threshold` of every node that judges."""
    return [strictness_input(tooltip), threshold_input()]


def strictness_input(tooltip: str, **options):
    return io.Combo.Input("strictness", options=list(choices.STRICTNESS), default="standard", tooltip=tooltip, **options)


def threshold_input(**options):
    what = "The lowest likeness score that passes; used for strictness custom only."
    return io.Float.Input("threshold", default=0.5, min=-1.0, max=1.0, step=0.01, tooltip=what, **options)


HOW_STRICT = (
    "How much a face must be like the character. Each recognizer has its own numbers, so standard means the same with each; custom takes the threshold below."
)


def pins_input():
    """The input that the panel writes. Last, because saved workflows know widgets by their place; hidden, because nobody types it."""
    return io.String.Input(
        "pins",
        default="",
        optional=True,
        socketless=True,
        advanced=True,
        extra_dict={"hidden": True},
        tooltip="Pictures pinned by hand in the panel, `<content key> pass` or `<content key> reject`, with commas or line ends between. A pin overrules the recognizer; the match rate does not count it.",
    )


def _rule_inputs() -> list:
    return [
        io.Combo.Input(
            "no_face",
            options=list(choices.NO_FACE),
            default="reject",
            tooltip="What happens to a picture without any face: it is rejected, passes, or stops the run with an error.",
        ),
        io.Combo.Input(
            "uncertain",
            options=list(choices.UNCERTAIN),
            default="own output",
            tooltip="Where pictures go whose face is too small (below 40 px), blurred or turned away (about 55 degrees and more by the estimate) to judge.",
        ),
        io.Int.Input(
            "keep_best",
            default=0,
            min=0,
            max=100000,
            tooltip="Of the pictures that pass by their score, keep only this many with the highest. 0 keeps all. Pictures let through for another reason are not counted.",
        ),
        io.Float.Input(
            "max_score",
            default=1.0,
            min=-1.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Rejects pictures that score above this: too close a copy of the reference. 1.0 sets no limit.",
        ),
        pins_input(),
    ]


def _captions_input():
    return io.String.Input(
        "captions",
        optional=True,
        force_input=True,
        tooltip="One caption per picture; they come out beside their own pictures. A caption like `back view` or `legs only` tells that no face is to be expected.",
    )


class LikenessIdentityScore(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessIdentityScore",
            display_name="Identity Score",
            category=CATEGORY,
            description="Measures how much the face in each picture is like the character. Nothing is sorted out: see Identity Gate for that.",
            search_aliases=[*ALIASES, "face distance", "face embed distance", "compare faces"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The pictures to measure, a batch or a list; sizes may differ."),
                IdentityType.Input("identity", tooltip="The character, from Character Identity or Load Identity."),
                io.Combo.Input(
                    "face",
                    options=["best match", "largest"],
                    default="best match",
                    tooltip="Which face counts when a picture shows several: the one most like the character, or the largest.",
                ),
            ],
            outputs=[
                io.Image.Output("image_out", display_name="image", is_output_list=True, tooltip="The same pictures, untouched."),
                io.Float.Output("scores", is_output_list=True, tooltip=SCORES_TOOLTIP),
                io.Image.Output("overlay", is_output_list=True, tooltip="The pictures with boxes, names, scores and the verdict at standard."),
                io.Image.Output("plot", tooltip="The scores of all pictures with the recognizer's thresholds."),
                io.String.Output("report", tooltip="JSON: score and faces per picture, match rate at standard, recognizer, thresholds."),
            ],
        )

    @classmethod
    def execute(cls, image, identity, face) -> io.NodeOutput:
        from . import scoring

        identities = [one(identity, "identity")]
        frames = Frames(image)
        rules = scoring.Rules(scoring.threshold_of(identities[0], "standard", 0.0), "standard", one(face, "face"))
        result = _judge(frames, identities, rules)
        return io.NodeOutput(frames.only([True] * len(frames)), or_block(result.scores), or_block(result.overlays), result.plot, result.report, ui=result.ui)


class LikenessIdentityGate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessIdentityGate",
            display_name="Identity Gate",
            category=CATEGORY,
            description="Measures every picture against the character and lets through only those that are like it, each with its reason. Bypassed, it sends all pictures to every side.",
            search_aliases=[*ALIASES, "face filter", "face gate", "reject faces", "face embed distance", "filter images by face"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The pictures to judge, a batch or a list; sizes may differ."),
                IdentityType.Input("identity", tooltip="The character, from Character Identity or Load Identity."),
                _captions_input(),
                *strictness_inputs(HOW_STRICT),
                io.Combo.Input(
                    "face",
                    options=list(choices.FACE_CHOICES),
                    default="best match",
                    tooltip="Which face counts when a picture shows several: the one most like the character, the largest, or every face (a character sheet: all must match).",
                ),
                *_rule_inputs(),
            ],
            outputs=_gate_outputs(),
        )

    @classmethod
    def execute(cls, image, identity, strictness, threshold, face, no_face, uncertain, keep_best, max_score, captions=None, pins=None) -> io.NodeOutput:
        identities = [one(identity, "identity")]
        rules = _rules(identities, strictness, threshold, no_face, uncertain, keep_best, max_score, face=one(face, "face"))
        return _gate(image, identities, rules, captions, pins)


class LikenessCastGate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        person = IdentityType.Input("identity", tooltip="One person of the cast, from Character Identity or Load Identity.")
        return io.Schema(
            node_id="LikenessCastGate",
            display_name="Cast Gate",
            category=CATEGORY,
            description="For pictures of several characters: lets a picture through when everyone is there, each with a face of their own.",
            search_aliases=[*ALIASES, "group photo", "several characters", "multiple faces"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The pictures to judge, a batch or a list; sizes may differ."),
                io.Autogrow.Input(
                    "identities",
                    template=io.Autogrow.TemplatePrefix(person, prefix="identity", min=1, max=8),
                    tooltip="The people who must all be in each picture, up to eight.",
                ),
                _captions_input(),
                *strictness_inputs(HOW_STRICT),
                io.Combo.Input(
                    "strangers",
                    options=["allow", "reject"],
                    default="allow",
                    tooltip="Whether people who belong to nobody in the cast may be in the picture. Faces too small or blurred to judge are not counted.",
                ),
                *_rule_inputs(),
            ],
            outputs=_gate_outputs(),
        )

    @classmethod
    def execute(cls, image, identities, strictness, threshold, strangers, no_face, uncertain, keep_best, max_score, captions=None, pins=None) -> io.NodeOutput:
        from .identity import distinctly_named

        cast = distinctly_named([one(person, slot) for slot, person in identities.items()])
        if not cast:
            raise InputError("Cast Gate needs at least one identity.")
        rules = _rules(cast, strictness, threshold, no_face, uncertain, keep_best, max_score, strangers=one(strangers, "strangers"))
        return _gate(image, cast, rules, captions, pins)


def _rules(identities, strictness, threshold, no_face, uncertain, keep_best, max_score, **more) -> scoring.Rules:
    from . import scoring

    label = one(strictness, "strictness")
    return scoring.Rules(
        scoring.threshold_of(identities[0], label, one(threshold, "threshold")),
        label,
        no_face=one(no_face, "no_face"),
        uncertain=one(uncertain, "uncertain"),
        keep_best=one(keep_best, "keep_best"),
        max_score=one(max_score, "max_score"),
        **more,
    )


class _Judged:
    """What the judging nodes give: judgements, and their drawings, plot, report, previews and panel in the host's types."""

    def __init__(self, frames: Frames, pictures, judgements, identities, rules, rate, captions=None, notes=()):
        from ..pictures import small_copy
        from . import drawing, panel, scoring

        self.judgements = judgements
        self.scores = [scoring.NO_SCORE if judgement.score is None else judgement.score for judgement in judgements]
        overlays = [drawing.overlay(picture.pixels, judgement, identities, i) for i, (picture, judgement) in enumerate(zip(pictures, judgements), 1)]
        self.overlays = frames.images_like(overlays)
        self.plot = host.to_image(drawing.plot(judgements, identities, rules))
        told = [{"index": i, **scoring.picture_report(judgement, identities)} for i, judgement in enumerate(judgements)]
        notes = [*_clashes(identities[0].recognizer), *_reading_notes(pictures), *notes]
        self.report = _json(scoring.report(told, identities, rules, rate, notes))
        # Many at once are looked at small: then verdict and score must be legible, and a click shows the rest.
        small = [small_copy(picture, host.PREVIEW_SIDE) for picture in overlays[: host.MOST_PREVIEWS]]
        self.ui = host.previews([drawing.badge(picture, judgement, i) for i, (picture, judgement) in enumerate(zip(small, judgements), 1)])
        self.ui["likeness"] = (panel.panel(pictures, judgements, identities, rules, rate, host.thumbnails(pictures), captions, large=len(small)),)


def _judge(frames: Frames, identities, rules: scoring.Rules, captions=None, pins=None) -> _Judged:
    from . import panel, scoring

    pictures = frames.pictures()
    pins = pins or {}
    measured = scoring.measure(pictures, identities, rules.face, rules.strangers == "reject", Progress(len(pictures)))
    judgements = scoring.judge(measured, identities, rules, captions, [pins.get(panel.key_of(picture)) for picture in pictures])
    rate = scoring.match_rate(measured, identities, rules.face, captions)
    return _Judged(frames, pictures, judgements, identities, rules, rate, captions, panel.pin_notes(pins, pictures))


def _gate(images, identities, rules: scoring.Rules, captions, pins) -> io.NodeOutput:
    from . import panel, scoring

    # Before anything is measured: what is wrong with them is known at once.
    pins = panel.read_pins(one(pins, "pins")) if pins else {}
    frames = Frames(images)
    if captions is not None and len(captions) != len(frames):
        raise InputError(f"{len(captions)} caption(s) are wired in for {len(frames)} picture(s); each picture needs its own.")
    result = _judge(frames, identities, rules, captions, pins)
    texts = captions if captions is not None else [""] * len(frames)
    goes = [judgement.goes for judgement in result.judgements]
    sides = {side: [place == side for place in goes] for side in (scoring.PASSED, scoring.REJECTED, scoring.ASIDE)}
    passed, rejected, aside = (frames.only(keep) for keep in sides.values())
    side_texts = [or_block([text for text, kept in zip(texts, keep) if kept]) for keep in sides.values()]
    return io.NodeOutput(
        or_block(passed),
        or_block(rejected),
        or_block(aside),
        or_block(result.overlays),
        result.plot,
        or_block(result.scores),
        goes.count(scoring.PASSED),
        goes.count(scoring.PASSED) == len(goes),
        result.report,
        *side_texts,
        ui=result.ui,
    )


class LikenessCharacterMask(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessCharacterMask",
            display_name="Character Mask",
            category=CATEGORY,
            description="The mask of the character's face or head in each picture, to keep the face and edit the rest, or the other way round.",
            search_aliases=[*ALIASES, "face mask", "head mask", "inpaint face"],
            is_input_list=True,
            inputs=[
                io.Image.Input("image", tooltip="The pictures, a batch or a list; sizes may differ."),
                IdentityType.Input("identity", optional=True, tooltip="Whose face to mask. Without it: the largest face in each picture."),
                LandmarksType.Input(
                    "landmarks",
                    optional=True,
                    tooltip="From ComfyUI's own Detect Face Landmarks (MediaPipe) on the same pictures: a finer outline than five points give.",
                ),
                io.Combo.Input(
                    "area",
                    options=list(choices.AREAS),
                    default="face",
                    tooltip="face: forehead to chin. head: with hair and ears. hair and face: with long hair around it.",
                ),
                io.Int.Input("grow", default=0, min=-1024, max=1024, tooltip="Pixels added around the area, negative to take away."),
                io.Int.Input("feather", default=16, min=0, max=1024, tooltip="Pixels over which the edge of the mask fades out."),
                io.Boolean.Input("invert", default=False, tooltip="Mask everything but the area."),
            ],
            outputs=[
                io.Mask.Output("mask", is_output_list=True, tooltip="1 in the area, 0 outside; empty where the character is not in the picture."),
                io.Image.Output("image_out", display_name="image", is_output_list=True, tooltip="The same pictures, untouched."),
                io.String.Output("report", tooltip="JSON: per picture which landmarks drew the mask, or why it is empty."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        from . import masks

        return [_state("auto"), *masks.models_state(host.models_dir())]

    @classmethod
    def execute(cls, image, area, grow, feather, invert, identity=None, landmarks=None) -> io.NodeOutput:
        from . import drawing, masks

        frames = Frames(image)
        if landmarks and len(landmarks) != len(image):
            raise InputError(f"There are landmarks for {len(landmarks)} images and {len(image)} images; wire both from the same pictures.")
        pictures = frames.pictures()
        progress = Progress(len(pictures))
        person = one(identity, "identity") if identity else None
        options = {"area": one(area, "area"), "grow": one(grow, "grow"), "feather": one(feather, "feather"), "invert": one(invert, "invert")}
        places = [(batch, row) for batch, count in enumerate(frames.counts) for row in range(count)]
        drawn, shown, reports = [], [], []
        for index, (picture, choice) in enumerate(zip(pictures, _faces_to_mask(pictures, person, progress))):
            batch, row = places[index]
            mesh = masks.mesh_from_core(landmarks[batch], row, choice.face.box) if landmarks and choice.face else None
            result = _mask(picture.pixels, choice.face, mesh, **options)
            drawn.append(torch.from_numpy(result.mask))
            if index < host.MOST_PREVIEWS:
                shown.append(drawing.captioned(drawing.masked(picture.pixels, result.mask, host.PREVIEW_SIDE), result.method))
            reports.append({"index": index, "method": result.method, "score": choice.score, "reason": choice.reason})
        return io.NodeOutput(frames.like(drawn), frames.only([True] * len(frames)), _json({"pictures": reports}), ui=host.previews(shown))


def _mask(pixels, face: Face | None, mesh, area: str, **options) -> masks.MaskResult:
    """The mask of one face by the finest landmarks there are; without a face an empty one (a full one when inverted)."""
    from . import masks

    if face is None:
        return masks.MaskResult(np.full(pixels.shape[:2], float(options["invert"]), np.float32), "no mask")
    if mesh is None:
        mesh = masks.mediapipe_mesh(pixels, face.box, host.models_dir())
    classes = masks.mediapipe_classes(pixels, face.box, host.models_dir()) if area == "hair and face" else None
    return masks.face_mask(pixels.shape[:2], face.box, face.keypoints, area, mesh=mesh, segmenter_classes=classes, **options)


class _Choice(NamedTuple):
    face: Face | None
    score: float | None
    reason: str


def _faces_to_mask(pictures, person, progress) -> list[_Choice]:
    """The face to mask in each picture: the person's, or without one the largest."""
    from . import scoring

    if person is None:
        found = _open("auto").faces(pictures, tick=progress)
        faces = [max(one_picture.faces, key=lambda face: face.area, default=None) for one_picture in found]
        return [_Choice(face, None, "the largest face" if face else "no face found at any size") for face in faces]
    loose = person.recognizer.info.thresholds.loose
    chosen = []
    for measured in scoring.measure(pictures, [person], tick=progress):
        if not measured.faces:
            chosen.append(_Choice(None, None, "no face found at any size"))
            continue
        best = int(measured.scores[:, 0].argmax())
        score = round(float(measured.scores[best, 0]), 4)
        if score < loose:
            chosen.append(_Choice(None, score, f"{person.name} is not there: the best score {scoring.told_apart(score, loose, 'is below')} (loose)"))
        else:
            chosen.append(_Choice(measured.faces[best], score, f"the face of {person.name}"))
    return chosen


def _reading_notes(pictures) -> list[str]:
    return [f"Picture {i + 1}: {note}" for i, picture in enumerate(pictures) for note in picture.notes]


def _json(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)
