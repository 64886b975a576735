"""The ComfyUI nodes of likeness/scene: schemas, and a few lines each that call the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.samplers
import folder_paths
from comfy_api.latest import io, ui

from .. import host
from ..errors import InputError, LikenessError, MissingModelError
from ..host import Frames, LiveNode, or_block
from ..identity.choices import MOST_TAKES
from ..identity.nodes import strictness_input, threshold_input
from ..pictures import from_floats, small_copy
from . import choices

if TYPE_CHECKING:
    from ..identity.retakes import Take

CATEGORY = "likeness/scene"
ALIASES = ["Qwen-Image-Edit", "Qwen", "consistent character", "character consistency", "TextEncodeQwenImageEditPlus", "likeness"]

ReferencesType = io.Custom("LIKENESS_REFERENCES")
ShotsType = io.Custom("LIKENESS_SHOTS")
LorasType = io.Custom("LIKENESS_LORAS")
IdentityType = io.Custom("LIKENESS_IDENTITY")

NO_SPEED_LORA = "none: already in the model"
NO_LORAS = "no LoRA in models/loras"
AUTO_VOCABULARY = "auto"


# Where pictures of this session were saved, by name and content.
_SAVED: dict[tuple, Path] = {}


def _one(values, default, what: str):
    """The single value of an input in a node that takes lists; its default where an API prompt leaves it out."""
    return default if values is None else host.one(values, what)


def _lora_path(name: str) -> Path:
    path = folder_paths.get_full_path("loras", name)
    if path is None:
        raise MissingModelError(f"The LoRA {name} is not in models/loras; put it there and press R, or choose another.")
    return Path(path)


class LikenessCharacterReferences(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        def picture(name: str, tooltip: str):
            return io.Image.Input(name, optional=True, tooltip=tooltip + " A batch or a list is split into single pictures; sizes may differ.")

        return io.Schema(
            node_id="LikenessCharacterReferences",
            display_name="Character References",
            category=CATEGORY,
            description="Gathers the reference pictures of a character and prepares each once, for one scene or a hundred. Picture 1 is the first.",
            search_aliases=[*ALIASES, "reference latent", "multi image", "image reference", "FluxKontextImageScale"],
            is_input_list=True,
            has_intermediate_output=True,
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of Qwen-Image: qwen_image_vae.safetensors."),
                ReferencesType.Input(
                    "references",
                    optional=True,
                    tooltip="From another Character References: its pictures are counted before these, for two characters in one scene.",
                ),
                picture("face", "Who it is: a sharp, large face."),
                picture("outfit", "What the character wears."),
                picture("background", "Where it is."),
                picture("pose", "How the character stands: a photograph or a pose skeleton."),
                io.Autogrow.Input(
                    "extra",
                    template=io.Autogrow.TemplatePrefix(
                        io.Image.Input("extra", optional=True, tooltip="Any further picture, such as a prop."), prefix="extra", min=0, max=8
                    ),
                    optional=True,
                    tooltip="Further pictures, counted behind the others.",
                ),
                io.String.Input("name", default="", tooltip="The character's name. {character} in a prompt becomes it, and {picture:NAME} all its pictures."),
                io.Combo.Input(
                    "policy",
                    options=list(choices.POLICIES),
                    default=choices.SCENE,
                    tooltip="How large the model sees each picture. scene: about one megapixel at its own aspect, in multiples of 32. pixel lock: exactly the "
                    "size of the pictures to make, so that nothing shifts or zooms in an edit. custom megapixels: as set below.",
                ),
                io.Float.Input(
                    "megapixels",
                    default=1.0,
                    min=0.1,
                    max=4.0,
                    step=0.05,
                    advanced=True,
                    optional=True,
                    tooltip="For policy `custom megapixels`: less is faster and looser, more holds more detail. One megapixel adds 4096 tokens to every step.",
                ),
            ],
            outputs=[
                ReferencesType.Output("references_out", display_name="references", tooltip="The prepared pictures, for Qwen Character Scene."),
                io.Image.Output("preview", is_output_list=True, tooltip="Each picture at the size at which the model sees it, in order."),
            ],
        )

    @classmethod
    def execute(cls, vae, name, policy, face=None, outfit=None, background=None, pose=None, extra=None, references=None, megapixels=None) -> io.NodeOutput:
        from ..identity import drawing
        from . import references as reference_pictures
        from . import wired

        vae = host.one(vae, "vae")
        wired.check_vae(vae)
        by_role = list(zip(reference_pictures.ROLES, (face, outfit, background, pose))) + [("extra", images) for images in (extra or {}).values()]
        by_role = [(role, Frames(images).images) for role, images in by_role if images]
        gathered = reference_pictures.gather(
            by_role,
            host.one(name, "name"),
            host.one(policy, "policy"),
            _one(megapixels, 1.0, "megapixels"),
            vae,
            _one(references, None, "references"),
        )
        shown, progress = [], host.Progress(len(gathered.pictures))
        for picture, row in zip(gathered.pictures, gathered.report()):
            picture.vision()
            if picture.policy != choices.PIXEL_LOCK:
                picture.latent()
            seen = reference_pictures.resized(picture.pixels, tuple(row["encoded_at"]))
            shown.append((seen, f"Picture {row['picture']}: {row['role']}{', ' * bool(row['character'])}{row['character']}"))
            progress()
        captioned = [drawing.captioned(from_floats(seen[0].float().cpu().numpy()).pixels, text) for seen, text in shown]
        return io.NodeOutput(gathered, [seen for seen, _ in shown], ui=host.previews(captioned))


class LikenessShotList(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        def lines(name: str, tooltip: str, default: str = "", **more):
            return io.String.Input(name, multiline=True, default=default, tooltip=tooltip, **more)

        return io.Schema(
            node_id="LikenessShotList",
            display_name="Shot List",
            category=CATEGORY,
            description="Makes many prompts of scenes, angles, light, expressions and outfits, each with its caption. Run it alone to see how many there are.",
            search_aliases=[*ALIASES, "prompt list", "prompt matrix", "batch prompts", "wildcards", "dataset prompts"],
            is_output_node=True,
            inputs=[
                lines(
                    "scenes",
                    "One scene a line. Every scene is combined with every angle, light, expression and outfit. Lines that begin with # are left out.",
                    "# scenes, one a line\nstands in a sunlit kitchen\nwalks along a beach at dusk",
                ),
                lines(
                    "angles",
                    "One camera angle a line: front, front left, left side, back, ... with low angle, eye level, elevated or high angle, and close-up, medium shot or wide shot; or any words of your own.",
                    "# camera angles, one a line",
                ),
                lines("lighting", "One light a line, such as: soft window light.", "# light, one a line"),
                lines("expressions", "One expression a line, such as: a slight smile.", "# expressions, one a line"),
                lines("outfits", "One outfit a line, such as: a red raincoat.", "# outfits, one a line"),
                lines(
                    "framing_plan",
                    f"How many shots of each framing, such as: {choices.DATASET_PLAN} (a plan for a LoRA dataset). The plan then sets how many shots there are. Empty: every combination once.",
                    "# framing plan, such as: 4 closeup, 4 full body",
                ),
                lines(
                    "template",
                    "How a prompt is put together. Fields: {character} {trigger} {picture:face} {scene} {angle} {light} {expression} {outfit} {framing}. What stands in [square brackets] vanishes when a field in it is empty.",
                    choices.DEFAULT_TEMPLATE,
                ),
                io.String.Input(
                    "trigger", default="", tooltip="The trigger word of the character's LoRA or dataset: first in every caption, and {trigger} in the template."
                ),
                io.Combo.Input(
                    "angle_vocabulary",
                    options=[AUTO_VOCABULARY, *choices.ANGLE_VOCABULARIES],
                    default=AUTO_VOCABULARY,
                    tooltip="Whose words the angles are put in: the LoRAs for 2509 and 2511 understand different phrases. auto: those of the angle LoRA wired to loras, plain words without one.",
                ),
                io.Int.Input("seeds_per_shot", default=1, min=1, max=64, tooltip="How many pictures of each shot, each with another seed."),
                io.Combo.Input(
                    "seeds",
                    options=list(choices.SEEDS),
                    default=choices.SEEDS[0],
                    tooltip="own for each shot: more variety; a shot keeps its seed when other lines change. same for every shot: the shots differ in their words only.",
                ),
                io.Int.Input(
                    "limit",
                    default=100,
                    min=1,
                    max=choices.MOST_SHOTS,
                    tooltip="At most this many shots, spread evenly over the list. The node says how many there would be.",
                ),
                LorasType.Input("loras", optional=True, tooltip="From Character LoRA: with an angle LoRA among them, auto takes its words."),
            ],
            outputs=[
                ShotsType.Output("shots", tooltip="The shots, for Qwen Character Scene."),
                io.String.Output(
                    "prompts", is_output_list=True, tooltip="One prompt per shot. {character} and {picture:...} are filled in by Qwen Character Scene."
                ),
                io.String.Output(
                    "captions",
                    is_output_list=True,
                    tooltip="One caption per shot, in a dataset's form: trigger, framing, angle, expression, clothes, light, background.",
                ),
                io.Int.Output("count", tooltip="How many shots there are."),
                io.String.Output("report", tooltip="JSON: each shot with its id, prompt and caption, how many there would be without the limit, and notes."),
            ],
        )

    @classmethod
    def execute(
        cls, scenes, angles, lighting, expressions, outfits, framing_plan, template, trigger, angle_vocabulary, seeds_per_shot, seeds, limit, loras=None
    ) -> io.NodeOutput:
        from . import shots as shot_list
        from . import stack

        said = []
        if angle_vocabulary == AUTO_VOCABULARY:
            angle_vocabulary, said = stack.angle_vocabulary_of(loras or ())
        made = shot_list.shot_list(
            scenes,
            angles=angles,
            lighting=lighting,
            expressions=expressions,
            outfits=outfits,
            framing_plan=framing_plan,
            template=template,
            trigger=trigger,
            angle_vocabulary=angle_vocabulary,
            seeds_per_shot=seeds_per_shot,
            seeds=seeds,
            limit=limit,
        )
        notes = [*said, *made.notes]
        report = {
            "count": len(made.shots),
            "without_limit": made.total,
            "shots": [{"id": shot.id, "prompt": shot.prompt, "caption": shot.caption, "framing": shot.framing} for shot in made.shots],
            "notes": notes,
        }
        shown = "\n".join([f"{len(made.shots)} shots", *notes, "", *(shot.prompt for shot in made.shots[:12]), *(["..."] if len(made.shots) > 12 else [])])
        return io.NodeOutput(
            made.shots, [shot.prompt for shot in made.shots], [shot.caption for shot in made.shots], len(made.shots), _json(report), ui=ui.PreviewText(shown)
        )


class LikenessLora(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessLora",
            display_name="Character LoRA",
            category=CATEGORY,
            description="Puts a LoRA on the model and says what it touches. Chain several; bypass one to switch it off. Their order does not matter.",
            search_aliases=[*ALIASES, "LoRA loader", "lora stack", "trigger word", "Lightning"],
            inputs=[
                io.Model.Input("model", tooltip="The model to put the LoRA on, from a loader or from another Character LoRA."),
                io.Combo.Input("lora", options=folder_paths.get_filename_list("loras") or [NO_LORAS], tooltip="A file in models/loras."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How strongly it acts. Character LoRAs are mostly best between 0.6 and 1.0.",
                ),
                io.Combo.Input(
                    "role",
                    options=list(choices.LORA_ROLES),
                    default=choices.LORA_ROLES[0],
                    tooltip="What it is for. speed is a Lightning LoRA, of which there must be only one. The role is for reports and warnings; it does not change the picture.",
                ),
                io.String.Input(
                    "trigger",
                    default="",
                    tooltip="Its trigger words, which Qwen Character Scene puts into every prompt once. Empty: those that the file names, if it does. none: no trigger.",
                ),
                LorasType.Input("loras", optional=True, tooltip="From another Character LoRA. The model knows the LoRAs before it without this wire."),
            ],
            outputs=[
                io.Model.Output("model_out", display_name="model", tooltip="The model with the LoRA on it."),
                LorasType.Output("loras_out", display_name="loras", tooltip="This LoRA and those before it."),
                io.String.Output(
                    "trigger_out", display_name="trigger", tooltip="The trigger words of all LoRAs so far, without those at strength 0, separated by commas."
                ),
                io.String.Output("report", tooltip="JSON: each LoRA's rank, layers touched, trigger and warnings."),
            ],
        )

    @classmethod
    def validate_inputs(cls, lora=None):
        if lora is None:
            # Wired: known when it runs.
            return True
        if lora == NO_LORAS:
            return "No LoRA is chosen: put one into models/loras, press R to refresh the list and choose it, or bypass this node."
        try:
            _lora_path(lora)
        except LikenessError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, lora=None, **inputs):
        return host.file_state(folder_paths.get_full_path("loras", lora) if lora else None)

    @classmethod
    def execute(cls, model, lora, strength, role, trigger, loras=None) -> io.NodeOutput:
        from .. import lora_files
        from . import wired

        wired.check_model(model)
        path = _lora_path(lora)
        file = lora_files.read_lora(path)
        # What is on the model counts, whatever the wire says.
        earlier = wired.stack_of(model)
        patched, matched = wired.with_lora(model, path, strength)
        kind = wired.kind_if_known(model)
        applied = lora_files.Applied(file, strength, role, lora_files.effective_trigger(file, trigger), matched, kind)
        stack = (*earlier, applied)
        patched.set_attachments(wired.STACK, stack)
        report = lora_files.lora_report(stack, [one.matched for one in stack], kind)
        own = report["loras"][-1]
        if loras is not None and tuple(loras) != tuple(earlier):
            own["warnings"].append("The LoRAs wired to `loras` are not those that are on the model; those on the model count.")
        for warning in own["warnings"]:
            host.log.warning("Character LoRA: %s", warning)
        facts = [f"{own['family']} {own['kind']}, rank {own['rank']}", f"{matched} of {own['layers']} layers", f"trigger: {applied.trigger or 'none'}"]
        return io.NodeOutput(patched, stack, ", ".join(_triggers(stack)), _json(report), ui=ui.PreviewText("\n".join(["; ".join(facts), *own["warnings"]])))


def _triggers(stack) -> list[str]:
    return list(dict.fromkeys(one.trigger for one in stack if one.trigger and one.strength))


class LikenessQwenScene(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessQwenScene",
            display_name="Qwen Character Scene",
            category=CATEGORY,
            description="Puts the character of the reference pictures into new scenes, one or a hundred, with Qwen-Image-Edit; or makes pictures from text with Qwen-Image.",
            search_aliases=[*ALIASES, "KSampler", "image edit", "multi image edit", "same character", "Qwen-Image-2512", "Lightning"],
            is_input_list=True,
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Model.Input(
                    "model", tooltip="A Qwen-Image-Edit model (2509, 2511) or a Qwen-Image model (2512), with or without LoRAs. Shift and CFGNorm are set here."
                ),
                io.Clip.Input("clip", tooltip="The text encoder qwen_2.5_vl_7b, from Load CLIP with type qwen_image."),
                io.Vae.Input("vae", tooltip="The VAE of Qwen-Image: qwen_image_vae.safetensors."),
                ReferencesType.Input(
                    "references", optional=True, tooltip="From Character References. Edit models need it; text-to-image models cannot use it."
                ),
                ShotsType.Input("shots", optional=True, tooltip="From Shot List: all its shots are made, and the sentence below is not used."),
                io.Image.Input(
                    "source", optional=True, tooltip="A picture to start from: with denoise below 1 its composition is kept, with a mask the masked part of it."
                ),
                io.Mask.Input("mask", optional=True, tooltip="White is what stays of the source, pixel by pixel, such as the face from Character Mask."),
                IdentityType.Input(
                    "identity",
                    optional=True,
                    tooltip="From Character Identity. Every picture is measured against it, and taken again up to max_takes times until it passes.",
                ),
                io.String.Input(
                    "scene",
                    multiline=True,
                    default="{character}[ of {picture:face}] stands in a sunlit kitchen, waist up, looking at the camera",
                    tooltip="What the picture shows. {picture:face} becomes `Picture 1`, which is how the model knows the references; {character} the name; {trigger} the trigger words of the LoRAs. A list of texts makes one picture each.",
                ),
                io.Combo.Input(
                    "aspect_ratio",
                    options=list(choices.ASPECT_CHOICES),
                    default="1:1",
                    tooltip="Width to height of the pictures. match source: as the source, or without one as Picture 1. custom: width and height below.",
                ),
                io.Float.Input(
                    "megapixels",
                    default=1.0,
                    min=0.1,
                    max=4.0,
                    step=0.05,
                    tooltip="How large the pictures are, with any aspect but custom. 1.0 is what the edit models are made for, 1.5 to 1.7 what Qwen-Image-2512 is made for.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="The seed of the first take; each further take adds 1. Shots of a list add their own.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1 with a source: how much is made new. 0.7 keeps only about a tenth of the source, its composition; the report says how much.",
                ),
                io.Combo.Input(
                    "speed_lora",
                    options=[NO_SPEED_LORA, *folder_paths.get_filename_list("loras")],
                    default=NO_SPEED_LORA,
                    tooltip="For preset fast: the 4-step Lightning LoRA made for this very model. none: the model file or a Character LoRA holds it already.",
                ),
                strictness_input("With an identity: how much a face must be like the character to pass. custom takes the threshold below.", optional=True),
                io.Int.Input(
                    "max_takes",
                    default=1,
                    min=1,
                    max=MOST_TAKES,
                    optional=True,
                    tooltip="With an identity: how often a shot that does not pass is taken again with another seed. The best take is kept.",
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    optional=True,
                    tooltip="Saves each picture as soon as it is finished, under this name in the output folder; folder/name makes a folder. Empty saves nothing.",
                ),
                io.String.Input(
                    "negative",
                    multiline=True,
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="What the picture must not show; it counts only where cfg is not 1. Empty takes the one that the model was published with, a blank none.",
                ),
                io.Int.Input(
                    "width",
                    default=1024,
                    min=0,
                    max=16384,
                    step=16,
                    optional=True,
                    advanced=True,
                    tooltip="With aspect_ratio custom: 256 to 4096, rounded to multiples of 32 (16 for text to image).",
                ),
                io.Int.Input(
                    "height",
                    default=1024,
                    min=0,
                    max=16384,
                    step=16,
                    optional=True,
                    advanced=True,
                    tooltip="With aspect_ratio custom: 256 to 4096, rounded to multiples of 32 (16 for text to image).",
                ),
                threshold_input(optional=True, advanced=True),
                io.Combo.Input(
                    "model_kind",
                    options=list(choices.KIND_CHOICES),
                    default=choices.AUTO,
                    optional=True,
                    advanced=True,
                    tooltip="What the model is, where neither its file nor its name says it. auto reads both; the report says what it found.",
                ),
                io.Int.Input(
                    "group",
                    default=4,
                    min=1,
                    max=64,
                    optional=True,
                    advanced=True,
                    tooltip="How many shots are sampled before they are decoded. More means fewer model switches, fewer means that finished pictures appear sooner.",
                ),
                io.DynamicCombo.Input(
                    "preset",
                    options=[
                        io.DynamicCombo.Option(choices.BALANCED, []),
                        io.DynamicCombo.Option(choices.FAST, []),
                        io.DynamicCombo.Option(choices.QUALITY, []),
                        io.DynamicCombo.Option(choices.CUSTOM, _custom_inputs()),
                    ],
                    optional=True,
                    tooltip="balanced: 20 steps. fast: 4 steps with a Lightning LoRA, cfg 1. quality: 40 to 50 steps. custom: your own numbers.",
                ),
            ],
            outputs=[
                io.Image.Output("images", is_output_list=True, tooltip="One picture per shot, in order; shots that failed are left out."),
                io.String.Output("prompts", is_output_list=True, tooltip="The prompt of each picture, as the model got it, in step with the pictures."),
                io.String.Output("captions", is_output_list=True, tooltip="The caption of each picture, in step with the pictures."),
                io.Float.Output(
                    "scores", is_output_list=True, tooltip="The likeness score of each picture, -1 where there is no face. Nothing without an identity."
                ),
                io.String.Output(
                    "report",
                    tooltip="JSON: shot, prompt, seed, takes, score and verdict per picture, the model and settings that were used, and everything there is to say.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, speed_lora=None, preset=None):
        # In a node that takes lists it comes in one; None is wired, known when it runs. A DynamicCombo is passed to every validate_inputs.
        (speed_lora,) = speed_lora or [None]
        if speed_lora in (None, NO_SPEED_LORA) or folder_paths.get_full_path("loras", speed_lora):
            return True
        return f"The speed LoRA {speed_lora} is not in models/loras; put it there and press R, or choose `{NO_SPEED_LORA}`."

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        scene,
        aspect_ratio,
        megapixels,
        seed,
        denoise,
        speed_lora,
        references=None,
        shots=None,
        source=None,
        mask=None,
        identity=None,
        strictness=None,
        max_takes=None,
        save_as=None,
        negative=None,
        width=None,
        height=None,
        threshold=None,
        model_kind=None,
        group=None,
        preset=None,
    ) -> io.NodeOutput:
        from ..identity import scoring
        from . import filming, stack
        from . import shots as shot_list

        chosen, custom = _preset(preset)
        speed = host.one(speed_lora, "speed_lora")
        prefix = _one(save_as, "", "save_as").strip()
        live = LiveNode(cls.hidden.unique_id, cls.hidden.dynprompt)
        order = filming.Order(
            model=host.one(model, "model"),
            clip=host.one(clip, "clip"),
            vae=host.one(vae, "vae"),
            shots=host.one(shots, "shots") if shots else shot_list.shots_from_sentences(scene),
            references=_one(references, None, "references"),
            preset=chosen,
            custom=custom,
            aspect=host.one(aspect_ratio, "aspect_ratio"),
            megapixels=host.one(megapixels, "megapixels"),
            custom_size=(_one(width, 1024, "width"), _one(height, 1024, "height")),
            seed=host.one(seed, "seed"),
            denoise=host.one(denoise, "denoise"),
            source=filming.single_source(source),
            mask=filming.single_mask(mask),
            negative=_one(negative, "", "negative"),
            speed_lora=None if speed == NO_SPEED_LORA else _lora_path(speed),
            model_kind=_one(model_kind, choices.AUTO, "model_kind"),
            identity=_one(identity, None, "identity"),
            strictness=_one(strictness, "standard", "strictness"),
            threshold=_one(threshold, 0.5, "threshold"),
            max_takes=_one(max_takes, 1, "max_takes"),
            group=_one(group, 4, "group"),
            upstream=stack.files_upstream(cls.hidden.dynprompt, cls.hidden.unique_id, "model"),
        )
        save = cls._saver(prefix) if prefix else None
        filmed = filming.film(order, filming.Showing(live, _shown, save))
        for note in filmed.report["notes"]:
            host.log.warning("Qwen Character Scene: %s", note)
        made = filmed.made
        live.tell("\n".join([filming.summary(filmed.outcomes), *filmed.report["notes"]]))
        return io.NodeOutput(
            [outcome.kept.image for outcome in made],
            [outcome.job.prompt for outcome in made],
            [outcome.job.shot.caption for outcome in made],
            or_block([scoring.NO_SCORE if outcome.kept.score is None else outcome.kept.score for outcome in made] if order.identity else []),
            _json(filmed.report),
            ui=host.previews([_shown(i, outcome.kept) for i, outcome in enumerate(made)]),
        )

    @classmethod
    def fingerprint_inputs(cls, speed_lora=None, **inputs):
        name = speed_lora[0] if isinstance(speed_lora, list) else speed_lora
        return host.file_state(folder_paths.get_full_path("loras", name) if name else None)

    @classmethod
    def _saver(cls, prefix: str):
        """Saves a take, unless this very picture was saved under that name before and is still there: a run that goes on saves nothing twice."""
        from ..files import checked_name
        from ..tensors import content_key

        prefix = checked_name(prefix).as_posix()

        def save(take: Take) -> None:
            key = prefix, content_key(take.image)
            if key in _SAVED and _SAVED[key].is_file():
                return
            _SAVED[key] = host.save_picture(take.image, prefix, cls)

        return save


def _custom_inputs() -> list:
    return [
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="How often the model runs for one picture."),
        io.Float.Input(
            "cfg",
            default=4.0,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip="How closely the prompt is followed. At 1 the negative prompt is not used and a step takes half the time.",
        ),
        io.Combo.Input(
            "sampler", options=list(comfy.samplers.KSampler.SAMPLERS), default="euler", tooltip="The sampler; euler is what the models were published with."
        ),
        io.Combo.Input(
            "scheduler",
            options=list(comfy.samplers.KSampler.SCHEDULERS),
            default="simple",
            tooltip="The scheduler; simple is what the models were published with.",
        ),
        io.Float.Input(
            "shift",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.05,
            tooltip="The shift of ModelSamplingAuraFlow. 0: the model's own, 3 for 2509 and 3.1 for the others.",
        ),
        io.Float.Input(
            "cfg_norm",
            default=-1.0,
            min=-1.0,
            max=10.0,
            step=0.05,
            tooltip="The strength of CFGNorm. -1: the model's own, 1 for edit models and 0 for text to image.",
        ),
    ]


def _preset(value) -> tuple[str, dict]:
    """(preset, custom settings) from a DynamicCombo's value, which the host does not check."""
    value = value or {}
    chosen = (value.get("preset") or [choices.BALANCED])[0]
    if chosen not in choices.PRESETS:
        raise InputError(f"'{chosen}' is no preset; choose {', '.join(choices.PRESETS)}.")
    given = {key: values[0] for key, values in value.items() if key != "preset"}
    settings = {one.id: given.get(one.id, one.default) for one in _custom_inputs()}
    return chosen, settings


def _shown(index: int, take: Take):
    """A take as it appears in the node: with number, verdict and score where it was judged."""
    from ..identity import drawing

    pixels = from_floats(take.image[0].float().cpu().numpy()).pixels
    if take.judgement is None:
        return pixels
    return drawing.badge(small_copy(pixels, host.PREVIEW_SIDE), take.judgement, index + 1)


def _json(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)
