"""The node Face Swap (ReActor) and its collector: scores first, lets ReActor's own nodes work on the failing pictures, scores again and chooses."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import folder_paths
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

import nodes as host_nodes

from .. import host
from ..errors import InputError
from ..host import Frames, LiveNode, or_block, to_image
from . import choices
from .nodes import strictness_inputs

if TYPE_CHECKING:
    import numpy as np

    from .faceswap import Job, Look
    from .identity import Identity

CATEGORY = "likeness/identity"
ALIASES = ["ReActor", "face swap", "faceswap", "inswapper", "hyperswap", "roop", "face restore", "ArcFace", "likeness"]

IdentityType = io.Custom("LIKENESS_IDENTITY")

COLLECTOR, PICTURES = "LikenessFaceSwapCollector", "LikenessFaceSwapPictures"


class LikenessFaceSwap(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessFaceSwap",
            display_name="Face Swap (ReActor)",
            category=CATEGORY,
            description="Swaps the character's face into pictures that are not enough like it, through the installed pack ReActor, measures them again and keeps the better. "
            + choices.CONSENT,
            search_aliases=ALIASES,
            is_input_list=True,
            is_output_node=True,
            enable_expand=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                io.Image.Input("image", tooltip="The pictures to swap into, a batch or a list; sizes may differ."),
                IdentityType.Input(
                    "identity",
                    optional=True,
                    tooltip="The character, from Character Identity. It carries its best reference picture, so reference may stay unwired.",
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="Pictures of the face to swap in; of several the best is taken. Without an identity one is built from them.",
                ),
                io.Autogrow.Input(
                    "people",
                    template=io.Autogrow.TemplatePrefix(
                        IdentityType.Input("person", optional=True, tooltip="A further person."), prefix="person", min=0, max=7
                    ),
                    optional=True,
                    tooltip="Further persons in the same pictures: each gets the face most like them, one to one.",
                ),
                io.String.Input("captions", optional=True, force_input=True, tooltip="One caption per picture; they come out in step with the pictures."),
                io.Combo.Input(
                    "swap_model",
                    options=sorted({*choices.swap_models(host.models_dir()), choices.USUAL_SWAP_MODEL}, key=str.lower),
                    default=choices.USUAL_SWAP_MODEL,
                    tooltip="inswapper_128 and hyperswap are for non-commercial use only, say their makers. " + choices.CONSENT,
                ),
                io.Combo.Input(
                    "restore_model",
                    options=[choices.NONE, *choices.restorers(host.models_dir())],
                    default=choices.NONE,
                    tooltip="The restorer for swapped faces, from models/facerestore_models. none restores nothing.",
                ),
                io.Combo.Input("detector", options=list(choices.DETECTORS), default="retinaface_resnet50", tooltip="What finds faces for the restorer."),
                io.Combo.Input(
                    "gender",
                    options=list(choices.GENDERS),
                    default="any",
                    tooltip="Only faces of this gender, by buffalo_l's own model, are swapped; it is looked at before likeness.",
                ),
                io.Combo.Input(
                    "swap_when",
                    options=list(choices.SWAP_WHEN),
                    default=choices.BELOW_GATE,
                    tooltip="below gate: only pictures that do not pass; all others stay as they are, bit for bit. always: every picture.",
                ),
                *strictness_inputs("How much a face must be like the character to pass; custom takes the threshold below."),
                io.Combo.Input(
                    "target",
                    options=list(choices.TARGETS),
                    default=choices.MOST_SIMILAR,
                    tooltip="Which face of a picture with several is swapped: the one most like the character, the largest, or all.",
                ),
                io.Combo.Input(
                    "keep",
                    options=list(choices.KEEP),
                    default=choices.BETTER,
                    tooltip="better: the swapped picture only where it scores higher than the one before. swapped: always.",
                ),
                io.DynamicCombo.Input(
                    "preset",
                    options=[
                        io.DynamicCombo.Option(choices.NATURAL, []),
                        io.DynamicCombo.Option(choices.SHARP, []),
                        io.DynamicCombo.Option(choices.FAST, []),
                        io.DynamicCombo.Option(
                            choices.CUSTOM,
                            [
                                io.Float.Input(
                                    "restore_visibility",
                                    default=1.0,
                                    min=0.0,
                                    max=1.0,
                                    step=0.05,
                                    tooltip="How much of the restored face is seen; 0 restores nothing.",
                                ),
                                io.Float.Input(
                                    "codeformer_weight",
                                    default=0.5,
                                    min=0.0,
                                    max=1.0,
                                    step=0.05,
                                    tooltip="For CodeFormer: 0 looks better, 1 stays nearer to the face.",
                                ),
                                io.Boolean.Input(
                                    "boost", default=False, tooltip="Enlarge the face by the restorer before it is put back: sharper in large faces."
                                ),
                            ],
                        ),
                    ],
                    optional=True,
                    tooltip="natural: restored by 0.7. sharp: restored before and after it is put back. fast: not restored. custom: your own.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    display_name="image",
                    is_output_list=True,
                    tooltip="All pictures in their order, swapped or not; only those that ReActor's safety check withholds are missing.",
                ),
                io.Float.Output(
                    "scores_before",
                    display_name="scores before",
                    is_output_list=True,
                    tooltip="One score per picture before, -1 without a face, in step with the pictures.",
                ),
                io.Float.Output(
                    "scores_after", display_name="scores after", is_output_list=True, tooltip="One score per picture after, in step with the pictures."
                ),
                io.String.Output("report", tooltip="JSON: per picture what was done and why, with both scores, and the licence of the swap model."),
                io.String.Output("captions_out", display_name="captions", is_output_list=True, tooltip="The captions, in step with the pictures."),
            ],
        )

    @classmethod
    def validate_inputs(cls, swap_model=None, restore_model=None, people=None, preset=None):
        # Named so that the host does not refuse a file that is gone before the sentence that says what to do.
        return True

    @classmethod
    def execute(
        cls,
        image,
        swap_model,
        restore_model,
        detector,
        gender,
        swap_when,
        strictness,
        threshold,
        target,
        keep,
        identity=None,
        reference=None,
        people=None,
        captions=None,
        preset=None,
    ) -> io.NodeOutput:
        from . import faceswap, scoring

        settings = faceswap.Settings(
            host.one(swap_model, "swap_model"),
            host.one(restore_model, "restore_model"),
            host.one(detector, "detector"),
            host.one(gender, "gender"),
            host.one(keep, "keep"),
            _look(preset),
        )
        faceswap.preflight(
            host_nodes.NODE_CLASS_MAPPINGS, _installed_packs(), host.models_dir(), settings.swap_model, settings.restore_model, settings.detector, settings.look
        )
        persons, sources = _people(identity, reference, people)
        frames = Frames(image)
        if captions is not None and len(captions) != len(frames):
            raise InputError(f"{len(captions)} captions are wired in for {len(frames)} pictures; each picture needs its own.")
        chosen = host.one(strictness, "strictness")
        rules = scoring.Rules(scoring.threshold_of(persons[0], chosen, host.one(threshold, "threshold")), chosen)
        pictures = frames.pictures()
        measured = scoring.measure(pictures, persons, tick=host.Progress(len(pictures)))
        before = scoring.judge(measured, persons, rules, captions)
        always, which = host.one(swap_when, "swap_when") == choices.ALWAYS, host.one(target, "target")
        aims = {
            i: faceswap.aim(measured[i], len(persons), which, rules.threshold, _allowed(pictures[i], measured[i], settings.gender))
            for i, judgement in enumerate(before)
            if judgement.verdict != scoring.NOT_JUDGED and (always or judgement.goes != scoring.PASSED)
        }
        single = [frame.unsqueeze(0) for batch in image for frame in batch]
        job = faceswap.Job(image, single, before, aims, persons, sources, rules, settings, list(captions) if captions else None)
        aimed = [i for i, one in aims.items() if any(one.index)]
        job.groups = faceswap.grouped([(*single[i].shape[1:], aims[i].index, bool(aims[i].boxes)) for i in aimed], aimed)
        live = LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt)
        live.tell(f"{len(single) - len(aimed)} of {len(single)} pictures stay as they are, {len(aimed)} are swapped")
        return _swap(job) if job.groups else _finish(job)


class LikenessFaceSwapCollector(io.ComfyNode):
    """The end of every expansion of Face Swap; not for the menu."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessFaceSwapCollector",
            display_name="Face Swap Collector",
            category=CATEGORY,
            description="Part of Face Swap (ReActor): takes what ReActor's nodes give, and is of no use by itself.",
            is_dev_only=True,
            enable_expand=True,
            accept_all_inputs=True,
            inputs=[],
            outputs=[
                io.Image.Output("images", tooltip="The pictures of Face Swap."),
                io.Float.Output("scores_before", tooltip="Its scores before."),
                io.Float.Output("scores_after", tooltip="Its scores after."),
                io.String.Output("report", tooltip="Its report."),
                io.String.Output("captions_out", tooltip="Its captions."),
            ],
        )

    @classmethod
    def execute(cls, job=None, **groups) -> io.NodeOutput:
        from . import faceswap

        if job is None:
            raise InputError("Face Swap Collector is a part of Face Swap (ReActor) and does nothing alone.")
        short = []
        for number, indices in enumerate(job.groups):
            result = groups[f"group{number}"].cpu()
            whole = len(result) == len(indices) and not (len(indices) > 1 and any(_is_withheld(job, i, result[k]) for k, i in enumerate(indices)))
            if not whole and len(indices) > 1:
                # Which ones are missing cannot be told from what came back: each goes again alone.
                short += [[i] for i in indices]
                continue
            for k, i in enumerate(indices):
                if not whole or _is_withheld(job, i, result[k]):
                    job.withheld.add(i)
                elif job.stage == faceswap.SWAP:
                    job.results[i] = result[k : k + 1, ..., :3]
                else:
                    swapped, boxes = job.results[i], job.aims[i].boxes
                    mended = faceswap.restored_only_at(swapped[0].numpy(), result[k, ..., :3].numpy(), boxes)
                    job.results[i] = torch.from_numpy(mended).unsqueeze(0)
        if short:
            job.groups = short
            return _swap(job) if job.stage == faceswap.SWAP else _restore(job)
        if job.stage == faceswap.SWAP and job.settings.restoring:
            changed = [i for i in job.results if not _is_unchanged(job, i)]
            job.groups = faceswap.grouped([tuple(job.results[i].shape[1:]) for i in changed], changed)
            job.stage = faceswap.RESTORE
            if job.groups:
                return _restore(job)
        return _finish(job)


def _allowed(picture, measured, gender: str) -> list[bool] | None:
    """Which faces are of the gender that is to be swapped; None where any is."""
    from . import faceswap

    if gender == "any":
        return None
    return [found == gender for found in faceswap.genders(picture.pixels, [face.box for face in measured.faces], host.models_dir())]


class LikenessFaceSwapPictures(io.ComfyNode):
    """What ReActor's nodes work on inside an expansion of Face Swap: values in the expanded graph itself would stay in memory with the prompt."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessFaceSwapPictures",
            display_name="Face Swap Pictures",
            category=CATEGORY,
            description="Part of Face Swap (ReActor): hands pictures to ReActor's nodes, and is of no use by itself.",
            is_dev_only=True,
            accept_all_inputs=True,
            inputs=[],
            outputs=[io.Image.Output("image", tooltip="The pictures of one group.")],
        )

    @classmethod
    def execute(cls, job=None, which=(), of="frames") -> io.NodeOutput:
        if job is None:
            raise InputError("Face Swap Pictures is a part of Face Swap (ReActor) and does nothing alone.")
        if of == "source":
            return io.NodeOutput(to_image(job.sources[which[0]]))
        return io.NodeOutput(torch.cat([(job.frames if of == "frames" else job.results)[i] for i in which]))


def _look(preset) -> Look:
    from . import faceswap

    value = preset or {}
    name = faceswap.checked_choice((value.get("preset") or [choices.NATURAL])[0], choices.PRESETS, "preset")
    if name != choices.CUSTOM:
        return faceswap.LOOKS[name]
    visibility, weight, boost = (value.get(key, [default])[0] for key, default in (("restore_visibility", 1.0), ("codeformer_weight", 0.5), ("boost", False)))
    return faceswap.Look(visibility > 0, visibility, weight, boost)


def _installed_packs() -> list[str]:
    names = []
    for folder in folder_paths.get_folder_paths("custom_nodes"):
        try:
            names += os.listdir(folder)
        except OSError:
            continue
    return names


def _people(identity, reference, people) -> tuple[list[Identity], list[np.ndarray]]:
    """(identities, the picture of each that is swapped in), the first person first."""
    from .identity import build_identity, distinctly_named
    from .recognizers import open_recognizer

    others = [host.one(values, name) for name, values in (people or {}).items() if values]
    if identity is None and not reference:
        raise InputError("Whose face is to be swapped in? Wire an identity from Character Identity, or a reference picture.")
    from_reference = None
    if reference:
        recognizer = host.one(identity, "identity").recognizer if identity else open_recognizer("auto", host.models_dir(), "auto", host.commercial_only())
        from_reference = build_identity(Frames(reference).pictures(), recognizer)
    first = host.one(identity, "identity") if identity else from_reference
    persons = distinctly_named([first, *others])
    return persons, [(from_reference or first).portrait, *(other.portrait for other in others)]


def _swap(job: Job) -> io.NodeOutput:
    """ReActor's own nodes for each group, a pass per person, ending in the collector."""
    from . import faceswap

    job.stage = faceswap.SWAP
    graph = GraphBuilder()
    settings, look = job.settings, job.settings.look
    boost = None
    if look.boost and settings.restoring:
        boost = graph.node(
            faceswap.BOOST_NODE,
            enabled=True,
            boost_model=settings.restore_model,
            interpolation="Bicubic",
            visibility=max(0.1, look.visibility),
            codeformer_weight=look.codeformer_weight,
            restore_with_main_after=False,
        ).out(0)
    ends = []
    sources = {}
    for indices in job.groups:
        current = graph.node(PICTURES, job=job, which=list(indices), of="frames").out(0)
        for person, faces in enumerate(job.aims[indices[0]].index):
            if not faces:
                continue
            options = graph.node(
                "ReActorOptions",
                input_faces_order="large-small",
                input_faces_index=faces,
                # Where our recognizer found faces, only those of the right gender are in the index; else ReActor looks.
                detect_gender_input="no" if settings.gender == "any" or job.aims[indices[0]].boxes else settings.gender,
                source_faces_order="large-small",
                source_faces_index="0",
                detect_gender_source="no",
                console_log_level=0,
                restore_swapped_only=True,
            )
            if person not in sources:
                sources[person] = graph.node(PICTURES, job=job, which=[person], of="source").out(0)
            inputs = {"options": options.out(0)} | ({"face_boost": boost} if boost else {})
            swap = graph.node(
                "ReActorFaceSwapOpt",
                enabled=True,
                input_image=current,
                source_image=sources[person],
                swap_model=settings.swap_model,
                facedetection=settings.detector,
                face_restore_model=choices.NONE,
                face_restore_visibility=1.0,
                codeformer_weight=0.5,
                **inputs,
            )
            job.passes += len(indices)
            current = swap.out(0)
        ends.append(current)
    return _collected(graph, job, ends)


def _restore(job: Job) -> io.NodeOutput:
    from . import faceswap

    graph = GraphBuilder()
    ends = [
        graph.node(
            faceswap.RESTORE_NODE,
            image=graph.node(PICTURES, job=job, which=list(indices), of="results").out(0),
            facedetection=job.settings.detector,
            model=job.settings.restore_model,
            visibility=job.settings.look.visibility,
            codeformer_weight=job.settings.look.codeformer_weight,
        ).out(0)
        for indices in job.groups
    ]
    return _collected(graph, job, ends)


def _collected(graph: GraphBuilder, job: Job, ends: Sequence) -> io.NodeOutput:
    collector = graph.node(COLLECTOR, job=job, **{f"group{i}": end for i, end in enumerate(ends)})
    return io.NodeOutput(*(collector.out(i) for i in range(5)), expand=graph.finalize())


def _is_withheld(job: Job, index: int, result: torch.Tensor) -> bool:
    from . import faceswap

    return faceswap.is_withheld(job.frames[index][0].cpu().numpy(), result.numpy())


def _is_unchanged(job: Job, index: int) -> bool:
    from . import faceswap

    return faceswap.is_unchanged(job.frames[index][0].cpu().numpy(), job.results[index][0].numpy(), job.aims[index].boxes)


def _finish(job: Job) -> io.NodeOutput:
    """Score what came back, choose, and put everything in the order of the input."""
    from . import faceswap, scoring

    changed = [i for i in sorted(job.results) if not _is_unchanged(job, i)]
    after = list(job.before)
    if changed:
        pictures = Frames([job.results[i] for i in changed]).pictures()
        judged = scoring.judge(scoring.measure(pictures, job.people), job.people, job.rules, [job.captions[i] for i in changed] if job.captions else None)
        for i, judgement in zip(changed, judged):
            after[i] = judgement
    rows, final = [], list(job.frames)
    for i, before in enumerate(job.before):
        row = {"index": i, "score_before": _rounded(before.score), "verdict_before": before.verdict}
        if i in job.withheld:
            row["done"] = "withheld by ReActor's safety check"
        elif i not in job.aims:
            row["done"] = "left as it is: " + ("it passes" if before.goes == scoring.PASSED else before.reason)
        elif i not in job.results:
            row["done"] = "not swapped: no face for this person"
        elif i not in changed:
            row["done"] = (
                "not swapped: no face found"
                if faceswap.is_unchanged(job.frames[i][0].cpu().numpy(), job.results[i][0].numpy())
                else "not swapped: ReActor took another face"
            )
        elif job.settings.keep == choices.BETTER and not _better(after[i], before):
            row["done"] = f"original kept: the swap scores {_told(after[i].score)}, the original {_told(before.score)}"
            after[i] = before
        else:
            row["done"] = "swapped"
            final[i] = job.results[i]
        if i not in job.withheld:
            row |= {"score_after": _rounded(after[i].score), "verdict_after": after[i].verdict}
        rows.append(row)
    kept = [i not in job.withheld for i in range(len(rows))]
    images = _as_batches(job.images, final, kept)
    scores = [[scoring.NO_SCORE if one.score is None else one.score for one, stays in zip(side, kept) if stays] for side in (job.before, after)]
    captions = [text for text, stays in zip(job.captions or [], kept) if stays]
    report = {
        "pictures": rows,
        "swapped": sum(row["done"] == "swapped" for row in rows),
        "passes_through_ReActor": job.passes,
        "people": [person.name for person in job.people],
        "threshold": round(job.rules.threshold, 4),
        "strictness": job.rules.label,
        "swap_model": job.settings.swap_model,
        "licence": faceswap.licence_of(job.settings.swap_model),
        "restore_model": job.settings.restore_model if job.settings.restoring else choices.NONE,
        "notes": [choices.CONSENT, *faceswap.remarks(job.settings.swap_model, job.settings.restore_model, job.settings.look)],
    }
    values = (or_block(images), or_block(scores[0]), or_block(scores[1]), json.dumps(report, ensure_ascii=False, indent=1), or_block(captions))
    shown = _shown(job, after, final)
    # The prompt holds on to the job; its pictures are in the outputs now.
    job.images, job.frames, job.before, job.results, job.sources = [], [], [], {}, []
    return io.NodeOutput(*values, ui=shown)


def _better(after, before) -> bool:
    from . import scoring

    def rank(judgement):
        return judgement.goes == scoring.PASSED, -2.0 if judgement.score is None else judgement.score

    return rank(after) > rank(before)


def _shown(job: Job, after, final) -> dict:
    from ..pictures import small_copy
    from . import drawing

    pixels = [Frames([frame]).pictures()[0].pixels for i, frame in enumerate(final) if i not in job.withheld]
    judged = [judgement for i, judgement in enumerate(after) if i not in job.withheld]
    small = [drawing.badge(small_copy(picture, host.PREVIEW_SIDE), one, i + 1) for i, (picture, one) in enumerate(zip(pixels, judged))]
    return host.previews(small)


def _as_batches(images: Sequence[torch.Tensor], frames: Sequence[torch.Tensor], kept: Sequence[bool]) -> list[torch.Tensor]:
    """The frames in the batches they came in; a batch of which nothing is left vanishes."""
    out, start = [], 0
    for image in images:
        rows = [i for i in range(start, start + len(image)) if kept[i]]
        start += len(image)
        if rows and all(frames[i] is not None for i in rows):
            same = all(frames[i].shape[-1] == frames[rows[0]].shape[-1] for i in rows)
            parts = [frames[i] if same else frames[i][..., :3] for i in rows]
            out.append(torch.cat([part.to(image.device, image.dtype) for part in parts]))
    return out


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 4)


def _told(score: float | None) -> str:
    return "without a face" if score is None else f"{score:.2f}"
