"""The ComfyUI node LoRA Sweep: its schema, what it shows while it runs, and what it saves."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.samplers
import folder_paths
import torch
from comfy_api.latest import io

from .. import host
from ..errors import InputError
from ..files import checked_name
from ..host import LiveNode, file_state, one
from ..identity.nodes import HOW_STRICT, pins_input, strictness_inputs
from ..pictures import small_copy
from ..sampling import goes_row_by_row
from ..scene.nodes import ReferencesType
from ..telling import told
from ..texts import one_line
from . import choices
from .comparison_nodes import png, save_together
from .nodes import CATEGORY, IdentityType

if TYPE_CHECKING:
    from ..identity import scoring
    from ..identity.identity import Identity
    from . import sweep
    from .sweep_studio import Studio

BY_LINES = "by the lines below"
LATENT_BYTES = 2**30
MOST_PICTURES = 100_000
# File systems take 255 bytes: numbers and endings come behind it.
LONGEST_NAME = 180
# Seconds of a picture as the last sweep with a model, settings and size had it.
_PACE: dict[tuple, float] = {}
# Sweeps that ended without all their pictures: the next run tries them again, though no input has changed.
_lacking = 0


@cache
def _memory() -> sweep.Memory:
    """Kept from run to run, so that only what is missing is made: the latents of a thousand pictures of one megapixel, and what was measured."""
    from ..tensors import TensorMemory
    from .sweep import Memory

    return Memory(TensorMemory(LATENT_BYTES))


def _loras() -> list[str]:
    return folder_paths.get_filename_list("loras")


def _lines(folder: str, lines: str) -> str:
    # With ./ before it, so that a name that begins with # is no comment.
    return lines if folder == BY_LINES else f"./{folder}/\n{lines}"


class LikenessLoraSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessLoraSweep",
            display_name="LoRA Sweep",
            category=CATEGORY,
            description="Makes the same pictures with every checkpoint of a LoRA at every strength, and without it, measures each against the character, and says which keeps the face.",
            search_aliases=["LoRA test", "checkpoint grid", "XY plot", "lora strength", "compare checkpoints", "character LoRA", "likeness"],
            is_input_list=True,
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Model.Input("model", tooltip="The base model, without the LoRA that is swept: Qwen-Image, Flux, SDXL or any other that KSampler takes."),
                io.Clip.Input("clip", tooltip="Its text encoder. Each prompt is encoded once, however many pictures it has."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                IdentityType.Input(
                    "identity",
                    tooltip="From Character Identity: whom the pictures are measured against. Build it from pictures that the LoRA was not trained on.",
                ),
                io.Combo.Input(
                    "folder",
                    options=[BY_LINES, *choices.folders_of(_loras())],
                    default=BY_LINES,
                    tooltip="A folder in models/loras: all checkpoints in it, by step, the final one last. The lines below come on top of it.",
                ),
                io.String.Input(
                    "checkpoints",
                    multiline=True,
                    default="",
                    tooltip="One a line: a file, a folder or a pattern such as mira/mira_*.safetensors. `mira.safetensors + lightning.safetensors:1` puts two together, the second at a fixed strength. `| word` at the end is the line's trigger.",
                ),
                io.String.Input(
                    "trigger",
                    default="",
                    tooltip="The trigger word that takes the place of {trigger} in the prompts. Empty: what the file names. none: no trigger.",
                ),
                io.String.Input("strengths", default=choices.PRESET_STRENGTHS, tooltip="Such as 0.6, 0.8, 1.0 or 0.6..1.0. Without the LoRA is always there."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="\n".join(choices.PRESET_PROMPTS),
                    tooltip="One a line, other than the captions that the LoRA was trained on; {trigger} is where its trigger goes. Empty: five that ask for much.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="The first seed. Keep it, so that a further run makes only what is missing.",
                ),
                io.Int.Input(
                    "seeds",
                    default=1,
                    min=1,
                    max=choices.MOST_SEEDS,
                    tooltip="How many seeds each prompt gets. From 2 on it shows whether a LoRA makes one picture whatever the seed.",
                ),
                io.Int.Input("width", default=1024, min=64, max=8192, step=16, tooltip="Of the pictures, in pixels: a multiple of 16."),
                io.Int.Input("height", default=1024, min=64, max=8192, step=16, tooltip="Of the pictures, in pixels: a multiple of 16."),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampling steps, as in KSampler."),
                io.Float.Input(
                    "cfg", default=1.0, min=0.0, max=30.0, step=0.1, tooltip="As in KSampler: 1 for Flux and for 4-step LoRAs, 2.5 to 4 for Qwen-Image."
                ),
                io.Combo.Input("sampler", options=list(comfy.samplers.KSampler.SAMPLERS), default="euler", tooltip="As in KSampler."),
                io.Combo.Input("scheduler", options=list(comfy.samplers.KSampler.SCHEDULERS), default="simple", tooltip="As in KSampler."),
                *strictness_inputs(HOW_STRICT),
                ReferencesType.Input(
                    "references",
                    optional=True,
                    advanced=True,
                    tooltip="From Character References, for a LoRA of Qwen-Image-Edit: every prompt is made with these pictures.",
                ),
                io.String.Input(
                    "negative",
                    multiline=True,
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="What the pictures must not show; it counts only where cfg is not 1.",
                ),
                io.Float.Input(
                    "guidance",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    optional=True,
                    advanced=True,
                    tooltip="As in FluxGuidance. 0: the model's own, 3.5 for Flux Dev; other models have none.",
                ),
                io.String.Input(
                    "save_as",
                    default="sweep/sweep",
                    optional=True,
                    advanced=True,
                    tooltip="Saves table, report, grid and plot under this name in the output folder; nothing is overwritten. Empty saves nothing.",
                ),
                io.Boolean.Input(
                    "save_pictures",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Also saves every new picture whole, as soon as it is finished, in a folder beside the table.",
                ),
                io.String.Input(
                    "pick",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Gives out this cell in place of the suggested one, such as: mira_000001500 at 0.8.",
                ),
                io.Int.Input(
                    "limit",
                    default=600,
                    min=1,
                    max=MOST_PICTURES,
                    optional=True,
                    advanced=True,
                    tooltip="A sweep of more pictures does not begin: it says how many there are, and how long they would take where that is known.",
                ),
                io.Int.Input(
                    "group",
                    default=4,
                    min=1,
                    max=64,
                    optional=True,
                    advanced=True,
                    tooltip="How many pictures are sampled, at least, before they are decoded. More means fewer model switches, fewer means that pictures appear sooner.",
                ),
                io.String.Input(
                    "dataset_folder",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="The folder that Export LoRA Dataset wrote: then it is told when the identity was built from pictures that the LoRA was trained on.",
                ),
                io.String.Input(
                    "webhook", default="", optional=True, advanced=True, tooltip="An https address that is told of the progress. Leave it empty for none."
                ),
                pins_input(),
                io.Int.Input(
                    "batch",
                    default=4,
                    min=1,
                    max=choices.MOST_SEEDS,
                    optional=True,
                    advanced=True,
                    tooltip="How many seeds of a prompt are made at once, which is faster; fewer where memory does not suffice, one by one with samplers that draw noise on the way. At 1 each picture is KSampler's of its seed to the last digit.",
                ),
            ],
            outputs=[
                io.Image.Output("grid", tooltip="All pictures: checkpoints by strengths, with scores and verdicts; the suggested cell is marked."),
                io.Image.Output("plot", tooltip="Identity mean over the checkpoints, a line for each strength and a dashed one without the LoRA."),
                # Of any type: a loader of the older kind takes nothing for its list that is called COMBO.
                io.AnyType.Output(
                    "best_lora", tooltip="The file of the suggested or picked cell, for the list of a LoRA loader. Nothing where nothing is suggested."
                ),
                io.Float.Output("best_strength", tooltip="Its strength, for the LoRA loader."),
                io.String.Output("table", tooltip="The figures of every cell as a Markdown table, with columns to fill in by eye."),
                io.String.Output("report", tooltip="JSON: suggestion and reason, figures of every cell, verdict and score of every picture, notes."),
                io.String.Output("best_trigger", tooltip="The trigger word of the suggested or picked checkpoint."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder=None, checkpoints=None, **inputs):
        (folder,), (lines,) = folder or [BY_LINES], checkpoints or [""]
        from .checkpoints import names_in

        # What is wired is not known here: then every file counts.
        names = _loras() if folder is None or lines is None else names_in(_lines(folder, lines), _loras())
        return [_lacking, *(file_state(folder_paths.get_full_path("loras", name)) for name in names)]

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        identity,
        folder,
        checkpoints,
        trigger,
        strengths,
        prompts,
        seed,
        seeds,
        width,
        height,
        steps,
        cfg,
        sampler,
        scheduler,
        strictness,
        threshold,
        references=None,
        negative=("",),
        guidance=(0.0,),
        save_as=("sweep/sweep",),
        save_pictures=(False,),
        pick=("",),
        limit=(600,),
        group=(4,),
        dataset_folder=("",),
        webhook=("",),
        pins=("",),
        batch=(4,),
    ) -> io.NodeOutput:
        global _lacking
        from ..identity import panel, scoring
        from . import sweep, sweep_sheet
        from .checkpoints import parse_checkpoints, parse_strengths
        from .sweep_showing import Showing
        from .sweep_studio import Settings, Studio
        from .webhook import told as hooked

        for what, wired in (("model", model), ("clip", clip), ("vae", vae)):
            if one(wired, what) is None:
                raise InputError(f"The {what} is empty: the file that it comes from holds none; load it with a loader of its own.")
        pinned = panel.read_pins(one(pins, "pins"))
        node = LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt)
        who: Identity = one(identity, "identity")
        label = one(strictness, "strictness")
        rules = scoring.Rules(scoring.threshold_of(who, label, one(threshold, "threshold")), label)
        size = one(width, "width"), one(height, "height")
        if any(side % 16 or not 64 <= side <= 8192 for side in size):
            raise InputError(f"The pictures would be {size[0]}x{size[1]}; both sides must be multiples of 16 from 64 to 8192.")
        name = one(save_as, "save_as").strip()
        target = _target(name) if name else None
        plan = sweep.Plan(
            parse_checkpoints(_lines(one(folder, "folder"), one(checkpoints, "checkpoints")), _loras(), _path_of, one_line(one(trigger, "trigger"))),
            parse_strengths(one(strengths, "strengths")),
            sweep.prompts_of(one(prompts, "prompts")) or choices.PRESET_PROMPTS,
            sweep.seeds_of(one(seed, "seed"), one(seeds, "seeds")),
            one(batch, "batch"),
        )
        alone = _alone(plan, one(sampler, "sampler"), one(model, "model"))
        if alone:
            plan = replace(plan, batch=1)
        wanted = _wanted(one_line(one(pick, "pick")), plan)
        settings = Settings(one(steps, "steps"), one(cfg, "cfg"), one(sampler, "sampler"), one(scheduler, "scheduler"), one(guidance, "guidance") or None)
        seen = None if references is None else one(references, "references")
        studio = Studio(one(model, "model"), one(clip, "clip"), one(vae, "vae"), settings, size, one(negative, "negative"), seen)
        most = one(limit, "limit")
        if plan.count > most:
            raise InputError(
                f"This sweep is {plan.count} pictures ({plan.arithmetic}), the limit is {most}{_how_long(studio, plan)}: name fewer, or raise limit."
            )
        notes = [*alone, *_held_out_notes(who, one(dataset_folder, "dataset_folder").strip())]
        saver = _saver(cls, target) if target is not None and one(save_pictures, "save_pictures") else None
        with hooked(one_line(one(webhook, "webhook")), name or "sweep") as hook:
            showing = Showing(node, plan.count, hook, saver)
            result = sweep.run(plan, studio, _memory(), who, rules, showing, one(group, "group"), pinned)
            hook({"event": "swept", "suggestion": result.suggestion.reason})
        if showing.seconds:
            _PACE[(*studio.pace, plan.at_once)] = sum(showing.seconds) / len(showing.seconds)
        made = [shown for cell in (result.base, *result.cells) for shown in cell.pictures if shown.judgement is not None]
        _lacking += any(cell.errors for cell in (result.base, *result.cells))
        result = sweep.with_notes(result, [*notes, *panel.pin_notes(pinned, made)])
        chosen = _picked(result, wanted)
        grid, plot = sweep_sheet.grid(result, f"LoRA sweep, {who.name}"), sweep_sheet.plot(result, who)
        if target is not None:
            _save(target, result, who, grid, plot)
        picked = [] if chosen is result.suggestion.cell else [f"Picked: {chosen.label}." if chosen else f"Picked, and left out: {wanted[0]}."]
        for note in result.remarks:
            host.log.warning("LoRA Sweep: %s", note)
        node.tell("\n".join([*picked, f"Suggested: {result.suggestion.reason}", *result.remarks]))
        return io.NodeOutput(
            host.to_image(grid),
            host.to_image(plot),
            *_best(chosen),
            f"{result.suggestion.reason}\n\n{sweep_sheet.table(result)}",
            json.dumps(sweep_sheet.as_dict(result, who), ensure_ascii=False, indent=1),
            host.or_block([]) if chosen is None else chosen.checkpoint.trigger,
            ui=host.previews([small_copy(grid, 2048), plot], 2048) | {"likeness": (_panel(result, made, who, rules),)},
        )


def _panel(result: sweep.Result, made: list[sweep.Shown], identity: Identity, rules: scoring.Rules) -> dict:
    """What the panel in the editor shows: every picture, named by its cell, prompt and seed."""
    from ..identity import panel, scoring
    from .sweep import cell_label

    prompts = {text: number for number, text in enumerate(dict.fromkeys(shown.shot.text for shown in made), 1)}
    files = [host.kept_thumbnail(shown.key, lambda shown=shown: shown.thumbnail) for shown in made[: host.MOST_THUMBNAILS]]
    cells = [cell_label(shown.shot.checkpoint, shown.shot.strength) for shown in made]
    names = [f"{cell}, prompt {prompts[shown.shot.text]}, seed {shown.shot.seed}" for cell, shown in zip(cells, made)]
    rate = sum((cell.standing.rate for cell in result.cells), scoring.MatchRate(0, 0))
    judgements, texts = [shown.judgement for shown in made], [shown.shot.text for shown in made]
    return panel.panel(made, judgements, [identity], rules, rate, [*files, *[None] * (len(made) - len(files))], texts, names)


def _path_of(name: str) -> Path | None:
    path = folder_paths.get_full_path("loras", name)
    return None if path is None else Path(path)


def _how_long(studio: Studio, plan: sweep.Plan) -> str:
    pace = _PACE.get((*studio.pace, plan.at_once))
    return "" if pace is None else f", and at {pace:.1f} s each, as in the last sweep, it would take about {told(pace * plan.count)}"


def _alone(plan: sweep.Plan, sampler: str, model) -> list[str]:
    """Why pictures are made one by one, whatever `batch` says: with others beside them they would be other pictures."""
    if plan.at_once == 1:
        return []
    if sampler not in choices.ROW_BY_ROW:
        return [f"Pictures are made one by one: with the sampler {sampler} they would depend on what is made with them."]
    if not goes_row_by_row(model):
        return ["Pictures are made one by one: functions that other nodes have put on the model could make them depend on what is made with them."]
    return []


def _held_out_notes(identity: Identity, folder: str) -> list[str]:
    if not folder:
        return []
    from . import held_out, targets

    roots = targets.allowed_roots(Path(folder_paths.get_output_directory()))
    said = held_out.warning(identity, targets.checked_target(Path(folder), roots))
    return [] if said is None else [said]


def _wanted(words: str, plan: sweep.Plan) -> tuple[str, float] | None:
    """(label, strength) of the cell that `pick` names; None where it names none. Raises InputError for one that the sweep does not have."""
    if not words:
        return None
    name, _, number = re.sub(r"\s+at\s+", " ", words, flags=re.IGNORECASE).rpartition(" ")
    for checkpoint, strength in plan.cells():
        with suppress(ValueError):
            if name.strip().lower() == checkpoint.label.lower() and float(number) == strength:
                return checkpoint.label, strength
    some = next((f"; write for example: {checkpoint.label} at {strength:g}" for checkpoint, strength in plan.cells()), "")
    raise InputError(f"pick is '{words}', and no cell of the sweep is that{some}.")


def _picked(result: sweep.Result, wanted: tuple[str, float] | None) -> sweep.Cell | None:
    if wanted is None:
        return result.suggestion.cell
    return next((cell for cell in result.cells if (cell.checkpoint.label, cell.strength) == wanted), None)


def _best(cell: sweep.Cell | None) -> tuple:
    """(file, strength) of a cell; of a combination the file whose strength is swept."""
    if cell is None:
        return host.or_block([]), host.or_block([])
    part = next(part for part in cell.checkpoint.parts if part.strength is None)
    return part.name, cell.strength


def _target(name: str) -> Path:
    """Where a sweep is saved; what cannot be written is known before anything is sampled."""
    target = Path(folder_paths.get_output_directory(), checked_name(name))
    try:
        if len(target.name.encode()) > LONGEST_NAME:
            raise InputError(f"save_as is {len(target.name)} letters long; take fewer than {LONGEST_NAME}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(target.parent, os.W_OK):
            raise InputError(f"{target.parent} cannot be written; choose another save_as.")
    except OSError as error:
        raise InputError(f"{target.parent} cannot be written ({error.strerror}); choose another save_as.") from None
    return target


def _save(target: Path, result: sweep.Result, identity: Identity, grid, plot) -> None:
    """Table, report, grid and plot under one new number."""
    from . import sweep_sheet

    files = {
        ".csv": sweep_sheet.as_csv(result).encode(),
        ".md": sweep_sheet.markdown(result, identity, target.name).encode(),
        ".json": (json.dumps(sweep_sheet.as_dict(result, identity), ensure_ascii=False, indent=1) + "\n").encode(),
    }
    save_together(target, files | {".grid.png": png(grid), ".plot.png": png(plot)})


def _saver(cls, target: Path):
    """Saves a new picture whole, with the workflow in it, named by its cell."""
    output = Path(folder_paths.get_output_directory())

    def save(shown: sweep.Shown, image: torch.Tensor) -> None:
        shot = shown.shot
        cell = "no_lora" if shot.checkpoint is None else f"{shot.checkpoint.label}_{shot.strength:g}"
        safe = re.sub(r"[^\w.+-]+", "_", cell)[:100]
        prefix = target.with_name(f"{target.name}_pictures").relative_to(output) / f"{safe}_seed{shot.seed}"
        host.save_picture(image, prefix.as_posix(), cls)

    return save
