"""ai-toolkit (ostris): one YAML file. It reads every key with a default, so a wrong key or a wrong value is passed over in silence: what is known of that stands here.

Facts are from its code at 27a03a91 (2026-08-21): toolkit/config.py, toolkit/config_modules.py, toolkit/data_loader.py, toolkit/dataloader_mixins.py,
toolkit/scheduler.py, jobs/process/BaseSDTrainProcess.py, ui/src/app/jobs/new/options.tsx and the examples in config/examples.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

from ...installation import needed
from ...texts import excerpt
from ..choices import EDIT_AS_TEXT_TO_IMAGE, PAIRED_EDIT, TEXT_TO_IMAGE
from ..dataset import ATTENTION, BLOCKED, Finding
from ..recipes import calculate
from .base_models import FLUX_1_DEV, QWEN_IMAGE, QWEN_IMAGE_2512, QWEN_IMAGE_EDIT_2509, QWEN_IMAGE_EDIT_2511, BaseModel
from .job import CAPTION_SUFFIX, TRIGGER_PLACEHOLDER, Job, caption_files, common_findings, guide_control_folder, guide_folder, worded
from .known_keys import checked_keys

CONFIG = PurePosixPath("config.yaml")

# What follows the colon is for its user interface; the trainer cuts it off. Without `arch` a model is taken for Stable Diffusion 1.
_ARCH = {
    QWEN_IMAGE.name: "qwen_image",
    QWEN_IMAGE_2512.name: "qwen_image:2512",
    QWEN_IMAGE_EDIT_2509.name: "qwen_image_edit_plus",
    QWEN_IMAGE_EDIT_2511.name: "qwen_image_edit_plus:2511",
    FLUX_1_DEV.name: "flux",
}
# Accuracy recovery adapters: options.tsx and the examples name them; `qtype|file` loads one.
_ADAPTERS = "ostris/accuracy_recovery_adapters"
_THREE_BIT = {
    QWEN_IMAGE.name: f"uint3|{_ADAPTERS}/qwen_image_torchao_uint3.safetensors",
    QWEN_IMAGE_2512.name: f"uint3|{_ADAPTERS}/qwen_image_2512_torchao_uint3.safetensors",
    QWEN_IMAGE_EDIT_2509.name: f"uint3|{_ADAPTERS}/qwen_image_edit_2509_torchao_uint3.safetensors",
    QWEN_IMAGE_EDIT_2511.name: f"uint3|{_ADAPTERS}/qwen_image_edit_2511_torchao_uint3.safetensors",
}
_FOUR_BIT = {QWEN_IMAGE_2512.name: f"uint4|{_ADAPTERS}/qwen_image_2512_torchao_uint4.safetensors"}

# In captions and in sample prompts it puts the trigger for both; in the whole configuration it puts the run's name for [name].
_RUN_NAME = "[name]"
_PLACEHOLDERS = (TRIGGER_PLACEHOLDER, _RUN_NAME)


def _prompt(text: str, trigger: str) -> str:
    """A sample prompt that it takes as it stands: there `--` begins an option, such as `--w 512`, and cuts the prompt off."""
    return re.sub("-{2,}", "—", worded(text, trigger, _PLACEHOLDERS))


class _Text(str):
    """A user's words in the YAML file: quoted, so that no reader takes them for a number, a date or a comment."""


def _precision(base_model: BaseModel, paired: bool, vram: int) -> tuple[str | None, bool, str]:
    """(qtype or None for bf16, low_vram, reason)."""
    name = base_model.name
    if base_model.family == "flux":
        if vram < 48:
            return "qfloat8", False, "8 bits, as in its example for FLUX in 24 GB"
        return None, False, "bf16: 24 GB, and about 10 for the text encoders (that the rest fits into 48 is a guess)"
    if vram == 24:
        return _THREE_BIT[name], True, "3 bits with the accuracy recovery adapter made for this model: its example for Qwen-Image says that 24 GB need it"
    if vram == 32 and name in _FOUR_BIT and not paired:
        return _FOUR_BIT[name], True, "4 bits with the adapter made for this model; 8 bits take about 30 GB (musubi-tuner's figure), which leaves no room"
    if vram == 32:
        return _THREE_BIT[name], True, "3 bits with the adapter made for this model: its example for Edit-2509 says that 32 GB need it"
    if vram == 48:
        return "qfloat8", False, "8 bits, the default of its user interface: about 30 GB (musubi-tuner's figure), more with control pictures"
    return None, False, "bf16: 42 GB (musubi-tuner's figure), more with control pictures"


class AiToolkit:
    name = "ai-toolkit"
    pairs = frozenset(
        {
            (QWEN_IMAGE.name, TEXT_TO_IMAGE),
            (QWEN_IMAGE_2512.name, TEXT_TO_IMAGE),
            (FLUX_1_DEV.name, TEXT_TO_IMAGE),
            *((model.name, mode) for model in (QWEN_IMAGE_EDIT_2509, QWEN_IMAGE_EDIT_2511) for mode in (PAIRED_EDIT, EDIT_AS_TEXT_TO_IMAGE)),
        }
    )
    warms_up = frozenset({"constant"})  # its cosine is torch's, which takes no warm-up: TypeError
    keeps_average = True
    step = 32
    folder = staticmethod(guide_folder)
    control_folder = staticmethod(guide_control_folder)

    def memory(self, base_model: BaseModel, mode: str, vram: int) -> tuple[Mapping[str, object], Mapping[str, str]]:
        """Keys are `section.key` of the process. Nothing here was measured by us."""
        paired = mode == PAIRED_EDIT
        qtype, low, why = _precision(base_model, paired, vram)
        settings: dict[str, object] = {"model.quantize": qtype is not None, "model.quantize_te": qtype is not None, "model.low_vram": low}
        reasons = {
            "model.quantize": f"the weights of the model: {why}",
            "model.quantize_te": "the text encoder as the model, in 8 bits or not at all",
            "model.low_vram": "it loads and quantizes on the CPU first, as in its examples" if low else "not needed at this size",
        }
        if qtype:
            settings |= {"model.qtype": qtype, "model.qtype_te": "qfloat8"}
            reasons |= {"model.qtype": why, "model.qtype_te": "8 bits, its default"}
        if base_model.family == "qwen":
            settings["train.cache_text_embeddings"] = True
            reasons["train.cache_text_embeddings"] = (
                "captions are encoded once, then the text encoder leaves the memory: its examples for 24 and 32 GB require it"
            )
        if paired and vram == 24:
            settings |= {"model.layer_offloading": True, "model.layer_offloading_transformer_percent": 0.5, "model.layer_offloading_text_encoder_percent": 1.0}
            guess = "a guess: its example for edit models is for 32 GB, so here half of the layers wait in main memory; raise the share if memory runs out"
            reasons |= {key: guess for key in settings if "layer_offloading" in key}
        return settings, reasons

    def _process(self, job: Job) -> dict[str, object]:
        recipe, sums = job.recipe, calculate(job)
        paired = job.mode == PAIRED_EDIT
        sections: dict[str, dict[str, object]] = {"train": {}, "model": {}}
        for key, value in recipe.memory.items():
            section, _, key = key.partition(".")
            sections[section][key] = value
        schedule, schedule_params = recipe.scheduler, {}
        if sums.warmup_steps:
            schedule, schedule_params = "constant_with_warmup", {"num_warmup_steps": sums.warmup_steps}
        train = {
            "batch_size": recipe.batch_size,
            "steps": sums.steps,
            # Of its two keys for this one, `gradient_accumulation` takes so many batches for one step; `gradient_accumulation_steps` makes fewer updates of the same steps.
            "gradient_accumulation": recipe.accumulation,
            "train_unet": True,
            "train_text_encoder": False,
            "gradient_checkpointing": True,
            "noise_scheduler": "flowmatch",
            "timestep_type": "sigmoid" if job.base_model.family == "flux" else "weighted",  # options.tsx
            "optimizer": recipe.optimizer,
            "lr": recipe.learning_rate,
            "lr_scheduler": schedule,
            "lr_scheduler_params": schedule_params,
            "dtype": "bf16",
            **({"ema_config": {"use_ema": True, "ema_decay": recipe.ema_decay}} if recipe.ema_decay else {}),
            **sections["train"],
        }
        datasets = [
            {
                "folder_path": _Text(job.on_machine(plan.folder)),
                **({"control_path": _Text(job.on_machine(plan.control_folder))} if paired else {}),
                "caption_ext": CAPTION_SUFFIX.lstrip("."),
                "num_repeats": plan.repeats,
                # A list is a list of bucket sizes: each further entry loads the pictures once more.
                "resolution": [recipe.resolution],
                "caption_dropout_rate": 0.0,
                "shuffle_tokens": False,
                "cache_latents_to_disk": True,
            }
            for plan in job.buckets
        ]
        side = recipe.resolution
        samples = [
            {
                "prompt": _Text(_prompt(sample.prompt, job.trigger)),
                "seed": sample.seed,
                "width": side,
                "height": side,
                **({"ctrl_img_1": _Text(job.on_machine(sample.control))} if sample.control else {}),
            }
            for sample in job.samples
        ]
        return {
            "type": "diffusion_trainer",
            "training_folder": "output",
            "network": {"type": "lora", "linear": recipe.rank, "linear_alpha": recipe.alpha},
            "save": {
                "dtype": "float16",
                "save_every": sums.save_every,
                "max_step_saves_to_keep": len(sums.checkpoints),
            },
            "datasets": datasets,
            "train": train,
            "model": {
                "name_or_path": job.base_model.repository,
                # An edit arch stops at the first picture without a control picture; the same weights train as the arch of Qwen-Image without any.
                "arch": "qwen_image" if job.mode == EDIT_AS_TEXT_TO_IMAGE else _ARCH[job.base_model.name],
                **sections["model"],
            },
            "sample": {
                "sampler": "flowmatch",
                "sample_every": sums.save_every,
                "width": side,
                "height": side,
                "neg": "",  # its default is no text but False
                "guidance_scale": 4,
                "sample_steps": 25,
                "samples": samples,
            },
        }

    def sidecars(self, job: Job) -> Mapping[PurePosixPath, bytes]:
        config = {"job": "extension", "config": {"name": _Text(job.name), "process": [self._process(job)]}, "meta": {"name": _Text(job.name), "version": "1.0"}}
        return {CONFIG: written(config), **caption_files(job, lambda caption: worded(caption, job.trigger, _PLACEHOLDERS))}

    def config(self) -> PurePosixPath:
        return CONFIG

    def command(self, job: Job) -> str:
        return f'python "${{AI_TOOLKIT_ROOT:?the folder of ai-toolkit}}/run.py" {shlex.quote(job.on_machine(CONFIG))}'

    def caches(self) -> tuple[str, ...]:
        """Latents and text embeddings are found by file name, size and caption, so a picture changed under its name is not noticed."""
        return ("*/.aitk_size.json", "*/_latent_cache/*.safetensors", "*/_t_e_cache/*.safetensors")

    def check(self, job: Job) -> list[Finding]:
        found = common_findings(job, self.step)
        for plan in job.buckets:
            path = job.on_machine(plan.folder)
            if _RUN_NAME in path:
                found.append(
                    Finding(BLOCKED, "placeholder", f"ai-toolkit puts the run's name for {_RUN_NAME} in the path '{path}' and then finds no folder; rename it.")
                )
        named = [stem for stem in job.checked("placeholder") if _RUN_NAME in job.captions[stem]]
        if named:
            found.append(
                Finding(
                    ATTENTION,
                    "placeholder",
                    f"The caption of {named[0]} held {_RUN_NAME}, which ai-toolkit takes for the trigger; that is written there instead.",
                )
            )
        for sample in job.samples:
            if "--" in sample.prompt:
                found.append(
                    Finding(
                        ATTENTION,
                        "option",
                        f"In the sample prompt '{excerpt(sample.prompt)}' ai-toolkit would take -- for an option; a dash is written there instead.",
                    )
                )
        return found


def written(config: Mapping[str, object]) -> bytes:
    """The YAML of a configuration all of whose keys are known. Raises UnknownKeyError."""
    with needed("PyYAML"):
        import yaml

    checked_keys("ai-toolkit", "top", config)
    checked_keys("ai-toolkit", "config", config["config"])
    for process in config["config"]["process"]:
        checked_keys("ai-toolkit", "process", process)
        for section in ("network", "save", "train", "model", "sample"):
            checked_keys("ai-toolkit", section, process[section])
        for section, entries in (("datasets", process["datasets"]), ("samples", process["sample"]["samples"])):
            for entry in entries:
                checked_keys("ai-toolkit", section, entry)
        checked_keys("ai-toolkit", "ema_config", process["train"].get("ema_config", {}))

    def quoted(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"' if isinstance(text, _Text) or "$" in text else None)

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    Dumper.add_representer(str, quoted)
    Dumper.add_representer(_Text, quoted)
    text = yaml.dump(config, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=float("inf"))
    # Before it reads the YAML it puts environment variables for ${...}, wherever that stands. Only quoted texts hold it, and there \x24 is a dollar.
    return text.replace("${", "\\x24{").encode()
