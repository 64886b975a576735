"""The ComfyUI node Compare Methods: its schema, what it shows, and what it saves."""

from __future__ import annotations

import glob
import json
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy_api.latest import io
from PIL import Image

from .. import host
from ..errors import InputError
from ..files import checked_name, write_new
from ..host import Frames, LiveNode, Progress, one
from ..identity.nodes import strictness_inputs
from . import choices
from .nodes import CATEGORY, IdentityType

if TYPE_CHECKING:
    from ..pictures import Picture

SHOWN_SIDE = 2048
STRICTNESS = (
    "How much a face must be like the character for the marks on sheet and plot. Match rates are at standard whatever stands here, so that they compare; with "
    "another strictness the table says how many pass at that, too."
)


class LikenessCompareMethods(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        pictures = io.Image.Input(
            "image", optional=True, tooltip="The pictures of one method, a batch or a list: the same prompts in the same order as the others."
        )
        return io.Schema(
            node_id="LikenessCompareMethods",
            display_name="Compare Methods",
            category=CATEGORY,
            description="Measures the pictures of several methods against one character, such as an edit model, a face swap, an IP-Adapter and a LoRA, and says what the figures allow to say.",
            search_aliases=["compare", "benchmark", "A/B", "face similarity", "IP-Adapter or LoRA", "side by side", "likeness"],
            is_input_list=True,
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                io.Autogrow.Input(
                    "images",
                    template=io.Autogrow.TemplatePrefix(pictures, prefix="image", min=1, max=choices.MOST_METHODS),
                    tooltip="One socket for each method, up to eight; sizes and counts may differ, but only equal counts can stand side by side.",
                ),
                IdentityType.Input(
                    "identity", tooltip="The character, from Character Identity: best from pictures that none of the methods was given or trained on."
                ),
                io.String.Input(
                    "labels",
                    multiline=True,
                    default="",
                    tooltip="The name of each method, one a line, in the order of the images. An empty or missing line becomes `method 2`.",
                ),
                *strictness_inputs(STRICTNESS),
                io.String.Input(
                    "seconds",
                    multiline=True,
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Seconds per picture of each method, one a line, in the order of the images; `-` where it is unknown. They are shown as they are typed in.",
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Saves table (CSV), report (Markdown and JSON), sheet and plot under this name in the output folder, such as comparison/mira; nothing is overwritten. Empty saves nothing.",
                ),
            ],
            outputs=[
                io.Image.Output("sheet", tooltip="The pictures side by side, each with its score and verdict: a column for each method, a row for each place."),
                io.Image.Output("plot", tooltip="The score of every picture by method, with the means and the recognizer's thresholds."),
                io.String.Output(
                    "table", tooltip="The figures of each method as a Markdown table: match rate, identity mean, both with 95% interval, no face, time."
                ),
                io.String.Output("report", tooltip="JSON: what the figures allow to say, figures of each method, verdict and score of every picture, notes."),
            ],
        )

    @classmethod
    def execute(cls, identity, labels, strictness, threshold, images=None, seconds=("",), save_as=("",)) -> io.NodeOutput:
        from ..identity import scoring
        from ..pictures import small_copy
        from . import comparison

        if not images:
            raise InputError("No pictures are wired in: wire the pictures of each method to an image input of its own.")
        who, label = one(identity, "identity"), one(strictness, "strictness")
        rules = scoring.Rules(scoring.threshold_of(who, label, one(threshold, "threshold")), label)
        names = comparison.labels_of(one(labels, "labels"), len(images))
        times = comparison.seconds_of(one(seconds, "seconds"), len(images))
        name = one(save_as, "save_as").strip()
        target = Path(folder_paths.get_output_directory(), checked_name(name)) if name else None
        pictures = [_pictures(own) for own in images.values()]
        measured = iter(scoring.measure([picture for own in pictures for picture in own], [who], tick=Progress(sum(map(len, pictures)))))
        result = comparison.compare(names, [[next(measured) for _ in own] for own in pictures], who, rules, times)
        sheet, plot = comparison.sheet(result, pictures), comparison.plot(result)
        report = comparison.as_dict(result) | {"reading": _reading_notes(names, pictures)}
        if target is not None:
            files = {
                ".csv": comparison.as_csv(result).encode(),
                ".md": comparison.markdown(result, target.name).encode(),
                ".json": f"{_json(report)}\n".encode(),
            }
            save_together(target, files | {".sheet.png": png(sheet), ".plot.png": png(plot)})
        LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt).tell("\n".join([*comparison.findings(result), *result.notes]))
        return io.NodeOutput(
            host.to_image(sheet),
            host.to_image(plot),
            comparison.table(result),
            _json(report),
            ui=host.previews([small_copy(sheet, SHOWN_SIDE), plot], SHOWN_SIDE),
        )


def _pictures(images: list) -> list[Picture]:
    """The pictures of one method; none where its list or batches are empty, which is told beside the others."""
    return Frames(images).pictures() if sum(map(len, images)) else []


def _reading_notes(names: list[str], pictures: list[list[Picture]]) -> list[str]:
    return [f"{name}, picture {i}: {note}" for name, own in zip(names, pictures) for i, picture in enumerate(own, 1) for note in picture.notes]


def _json(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def save_together(target: Path, files: dict[str, bytes]) -> None:
    """Write files by their suffixes under one name with a new number, all or none: where `target`_00001 has any file, all get _00002. Raises InputError."""
    written = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while any(target.parent.glob(f"{glob.escape(target.name)}_{number:05}.*")):
            number += 1
        for suffix, content in files.items():
            written.append(write_new(target.with_name(f"{target.name}_{number:05}{suffix}"), content))
    except OSError as error:
        for path in written:
            with suppress(OSError):
                path.unlink()
        raise InputError(host.unwritable(target.parent, error)) from None


def png(pixels) -> bytes:
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=4)
    return encoded.getvalue()
