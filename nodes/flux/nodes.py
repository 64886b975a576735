"""The ComfyUI nodes of likeness/flux: schemas, and a few lines each that call the engine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import folder_paths
import torch
from comfy_api.latest import io, ui

from ..errors import InputError, LikenessError, MissingModelError
from ..host import LiveNode, file_state
from . import choices
from .choices import CUSTOM, EXTENSIONS, OWN, WEIGHTS

if TYPE_CHECKING:
    from .checkpoint import Adapter

CATEGORY = "likeness/flux"
ALIASES = ["IPAdapter", "IP-Adapter", "Flux", "XLabs", "InstantX", "Shakker", "image prompt", "FaceID", "character consistency", "likeness"]

FluxIPAdapterType = io.Custom("LIKENESS_FLUX_IPADAPTER")

NO_ADAPTERS = "no Flux IP-Adapter found"
NO_ENCODERS = "no encoder in models/clip_vision"
# As the packs of XLabs and Shakker and IPAdapter_plus call their folders, and where those lie below models.
FOLDERS = {"xlabs_ipadapters": Path("xlabs", "ipadapters"), "ipadapter-flux": Path("ipadapter-flux"), "ipadapter": Path("ipadapter")}


def register_folders() -> None:
    for kind, folder in FOLDERS.items():
        folder_paths.add_model_folder_path(kind, str(Path(folder_paths.models_dir, folder)))
        paths, extensions = folder_paths.folder_names_and_paths[kind]
        # A folder that is only added lists every file in it.
        folder_paths.folder_names_and_paths[kind] = (paths, extensions or set(EXTENSIONS))


def _adapters() -> dict[str, tuple[str, str]]:
    """(kind of folder, file) by the name in the list; where two folders have files of one name, the later ones bear their folder's."""
    found: dict[str, tuple[str, str]] = {}
    for kind, folder in FOLDERS.items():
        for name in folder_paths.get_filename_list(kind):
            if Path(name).suffix.lower() in EXTENSIONS:
                found[name if name not in found else f"{folder.as_posix()}/{name}"] = (kind, name)
    return found


def _adapter_path(name: str) -> Path:
    from ..model_files import entry

    kind, file = _adapters().get(name, (None, None))
    path = folder_paths.get_full_path(kind, file) if kind else None
    if path is None:
        wanted = entry("flux-ip-adapter-v2")
        what = (
            "No Flux IP-Adapter is chosen"
            if name == NO_ADAPTERS
            else f"The Flux IP-Adapter {name} is in none of models/{', models/'.join(folder.as_posix() for folder in FOLDERS.values())}"
        )
        raise MissingModelError(f"{what}: `{wanted.command}` brings {wanted.files[0].filename} ({wanted.licence}); then press R and choose it.")
    return Path(path)


def _encoder_path(name: str) -> Path:
    from ..model_files import entry

    path = folder_paths.get_full_path("clip_vision", name)
    if path is None:
        what = "No vision encoder is chosen" if name == NO_ENCODERS else f"The vision encoder {name} is not in models/clip_vision"
        raise MissingModelError(
            f"{what}: `{entry('clip-vit-large-patch14').command}` brings the one for XLabs, `{entry('siglip-so400m').command}` the one for InstantX; "
            "then press R and choose it."
        )
    return Path(path)


class LikenessLoadFluxIPAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessLoadFluxIPAdapter",
            display_name="Load Flux IP-Adapter",
            category=CATEGORY,
            description="Names a Flux IP-Adapter of XLabs (v1, v2) or InstantX and the vision encoder that it was trained with. Nothing is loaded until it is applied.",
            search_aliases=[*ALIASES, "IPAdapterFluxLoader", "LoadFluxIPAdapter"],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                io.Combo.Input(
                    "ipadapter",
                    options=list(_adapters()) or [NO_ADAPTERS],
                    tooltip="A file in models/xlabs/ipadapters, models/ipadapter-flux or models/ipadapter. Which family it belongs to is read from the file.",
                ),
                io.Combo.Input(
                    "clip_vision",
                    options=folder_paths.get_filename_list("clip_vision") or [NO_ENCODERS],
                    tooltip="The vision encoder, in models/clip_vision: clip-vit-large-patch14 for XLabs, sigclip_vision_patch14_384 for InstantX.",
                ),
                io.ClipVision.Input(
                    "clip_vision_model",
                    optional=True,
                    tooltip="That same encoder from Load CLIP Vision, where the graph has loaded it already (Redux uses SigLIP, too); clip_vision must still name its file. Not needed otherwise.",
                ),
            ],
            outputs=[FluxIPAdapterType.Output("flux_ipadapter", tooltip="For Apply Flux IP-Adapter.")],
        )

    @classmethod
    def validate_inputs(cls, ipadapter=None, clip_vision=None):
        # None is wired, known when it runs.
        try:
            if ipadapter is not None:
                _adapter_path(ipadapter)
            if clip_vision is not None:
                _encoder_path(clip_vision)
        except LikenessError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, ipadapter=None, clip_vision=None, **inputs):
        kind, file = _adapters().get(ipadapter, (None, None))
        paths = (folder_paths.get_full_path(kind, file) if kind else None, folder_paths.get_full_path("clip_vision", clip_vision) if clip_vision else None)
        return [file_state(path) for path in paths]

    @classmethod
    def execute(cls, ipadapter, clip_vision, clip_vision_model=None) -> io.NodeOutput:
        from .checkpoint import check_encoder, read_adapter, read_encoder
        from .vision import FluxIPAdapter

        adapter, encoder = read_adapter(_adapter_path(ipadapter)), read_encoder(_encoder_path(clip_vision))
        check_encoder(adapter, encoder)
        said = f"{adapter.title}, {adapter.blocks} blocks; encoder {encoder.kind}\n{_told_weight(adapter, OWN, adapter.own_weight[0])}"
        LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt).tell(said)
        return io.NodeOutput(FluxIPAdapter(adapter, encoder, clip_vision_model), ui=ui.PreviewText(said))


class LikenessApplyFluxIPAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessApplyFluxIPAdapter",
            display_name="Apply Flux IP-Adapter",
            category=CATEGORY,
            description="Lets FLUX.1 look at pictures while it samples, with any sampler. Chain several for several adapters; bypass one to switch it off.",
            search_aliases=[*ALIASES, "ApplyIPAdapterFlux", "ApplyFluxIPAdapter", "ApplyAdvancedFluxIPAdapter", "ApplyIPAdapterFluxAdvanced"],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                io.Model.Input("model", tooltip="A FLUX.1 model: Dev, Schnell, Krea, Kontext or Fill, with or without LoRAs, before or after them."),
                FluxIPAdapterType.Input("flux_ipadapter", tooltip="From Load Flux IP-Adapter."),
                io.Autogrow.Input(
                    "images",
                    template=io.Autogrow.TemplatePrefix(
                        io.Image.Input(
                            "image", tooltip="A picture of the character; a batch is several. XLabs sees its middle square, InstantX the whole picture."
                        ),
                        prefix="image",
                        min=1,
                        max=8,
                    ),
                    tooltip="The pictures to look at.",
                ),
                io.DynamicCombo.Input(
                    "weight",
                    options=[io.DynamicCombo.Option(OWN, []), io.DynamicCombo.Option(CUSTOM, [_weight_input()])],
                    tooltip="How strongly they act. own: what the adapter's authors start with (XLabs v1 0.92, v2 0.93; InstantX 0.7). custom: your own number.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="From where in the sampling on they act: 0 is its beginning. It is time, not depth.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Until where in the sampling they act: 1 is its end. 0.6 leaves the details to the prompt.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    advanced=True,
                    tooltip="White is where in the new picture they act. Any size, of the picture's aspect; one, or one per batch row.",
                ),
                io.Image.Input(
                    "negative_image",
                    optional=True,
                    advanced=True,
                    tooltip="With negative `picture`: what the negative prompt looks at, such as a black picture, as XLabs' sampler has it.",
                ),
                io.String.Input(
                    "weights",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="How much each picture counts beside the others, such as 1.0, 0.7. Empty: all alike.",
                ),
                io.Combo.Input(
                    "combine",
                    options=list(choices.COMBINE),
                    default=choices.CONCAT,
                    optional=True,
                    advanced=True,
                    tooltip="Several pictures. concat: the model sees each. average: it sees their mean. one per batch row: each picture of the batch sees its own.",
                ),
                io.Combo.Input(
                    "weight_curve",
                    options=list(choices.CURVES),
                    default="constant",
                    optional=True,
                    advanced=True,
                    tooltip="The weight over the time from start to end: fade and ease go to or from 0, straight or soft; middle rises and falls.",
                ),
                io.Combo.Input(
                    "negative",
                    options=list(choices.NEGATIVE),
                    default=choices.ZERO,
                    optional=True,
                    advanced=True,
                    tooltip="What the negative prompt looks at, for CFG above 1. zero: an empty embedding. none: nothing. picture: negative_image.",
                ),
                io.Boolean.Input(
                    "normalize_values",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="InstantX alone: normalise the values, too, as Shakker's ComfyUI pack does and InstantX' own code does not. Nearest to the pictures of that pack.",
                ),
            ],
            outputs=[io.Model.Output("model_out", display_name="model", tooltip="The model that looks at the pictures while it samples.")],
        )

    @classmethod
    def execute(
        cls,
        model,
        flux_ipadapter,
        images,
        start_percent,
        end_percent,
        weight=None,
        mask=None,
        negative_image=None,
        weights="",
        combine=choices.CONCAT,
        weight_curve="constant",
        negative=choices.ZERO,
        normalize_values=False,
    ) -> io.NodeOutput:
        from . import image_prompt, injection
        from .checkpoint import INSTANTX

        adapter = flux_ipadapter.adapter
        heads = injection.check_model(model, adapter)
        weight, chosen = _weight(weight, adapter)
        course = injection.Course(weight, start_percent, end_percent, weight_curve)
        pictures = image_prompt.check_pictures([frame for image in images.values() if image is not None for frame in image])
        counts = image_prompt.parse_weights(weights, len(pictures))
        if negative == choices.PICTURE and negative_image is None:
            raise InputError("negative is `picture`, and no negative_image is wired; wire one, or choose zero or none.")
        normalize = normalize_values and adapter.family is INSTANTX
        node = LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt)

        def tick(done: int, of: int) -> None:
            node.check()
            node.progress(done, of)

        recipe = image_prompt.Recipe(adapter, heads, model.model.get_dtype_inference(), comfy.model_management.get_torch_device(), normalize, tick)

        prompt = image_prompt.combined(recipe, *zip(*flux_ipadapter.embeddings(pictures)), combine, counts)
        # Keys and values of the negative are computed when a negative row comes: at CFG 1 never.
        against = None
        if negative == choices.ZERO:
            against = partial(image_prompt.combined, replace(recipe, tick=_silent), *zip(flux_ipadapter.nothing()), choices.CONCAT, (1.0,))
        elif negative == choices.PICTURE:
            frames = image_prompt.check_pictures(list(negative_image), "negative picture")
            seen = zip(*flux_ipadapter.embeddings(frames))
            against = partial(image_prompt.combined, replace(recipe, tick=_silent), *seen, choices.AVERAGE, (1.0,) * len(frames))
        put_in = injection.Injection(adapter, prompt, against, course, None if mask is None else _mask(mask))

        many = f"{len(pictures)} pictures ({combine})" if len(pictures) > 1 else "1 picture"
        unused = [] if negative_image is None or negative == choices.PICTURE else [f"negative_image is not used, since negative is `{negative}`."]
        if normalize_values and not normalize:
            unused.append(f"normalize_values is not used: it is for InstantX, and this is {adapter.family.name}.")
        acts = f"{adapter.title}; {many}; weight {weight:g} from {start_percent:g} to {end_percent:g}; {prompt.bytes / 1e6:.1f} MB"
        said = "\n".join([acts, _told_weight(adapter, chosen, weight), *unused])
        node.tell(said)
        return io.NodeOutput(injection.with_image_prompt(model, put_in), ui=ui.PreviewText(said))


def _weight_input() -> io.Float.Input:
    return io.Float.Input(
        "value",
        default=0.7,
        min=-choices.MOST_WEIGHT,
        max=choices.MOST_WEIGHT,
        step=0.01,
        tooltip="How strongly they act. XLabs 0.6 to 0.9 (v1 up to 0.93 with CFG above 1), InstantX 0.5 to 0.8. 0 is the model without them.",
    )


def _weight(given: dict | None, adapter: Adapter) -> tuple[float, str]:
    """(weight, own or custom) from a DynamicCombo's value, which the host leaves out where it is neither."""
    chosen = given and given["weight"]
    if chosen not in WEIGHTS:
        raise InputError(f"weight must be `{OWN}`, or `{CUSTOM}` with a number in weight.value; choose one of them.")
    return (adapter.own_weight[0] if chosen == OWN else given["value"]), chosen


def _told_weight(adapter: Adapter, chosen: str, weight: float) -> str:
    own, source = adapter.own_weight
    return f"weight {weight:g}, the adapter's own: {source}" if chosen == OWN else f"weight {weight:g}, custom; the adapter's own is {own:g}: {source}"


def _silent(done: int, of: int) -> None:
    """For what is computed while the model samples: the bar is the sampler's then."""


def _mask(mask: torch.Tensor) -> torch.Tensor:
    mask = mask if mask.ndim == 3 else mask.unsqueeze(0)
    if mask.ndim != 3 or 0 in mask.shape or not torch.isfinite(mask).all():
        raise InputError(f"The mask of shape {list(mask.shape)} cannot be used: it must be height x width with values from 0 to 1.")
    return mask.float().clamp(0, 1)
