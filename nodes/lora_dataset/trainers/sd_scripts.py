"""sd-scripts (kohya-ss), for FLUX.1 only: a strict TOML file for pictures, a lax one for arguments, prompts as JSON, one command.

Facts are from its code at 48d368f (2026-02-16): library/config_util.py, library/train_util.py, library/flux_train_utils.py, flux_train_network.py and
docs/flux_train_network.md.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from ..choices import TEXT_TO_IMAGE
from ..dataset import BLOCKED, Finding
from ..recipes import calculate
from .base_models import FLUX_1_DEV, BaseModel
from .job import CAPTION_SUFFIX, Job, below_resolution, common_findings, guide_control_folder, guide_folder, worded
from .known_keys import checked_keys
from .kohya import DATASET, PROMPTS, TRAINING, Kohya


class SdScripts(Kohya):
    name = "sd-scripts"
    pairs = frozenset({(FLUX_1_DEV.name, TEXT_TO_IMAGE)})
    warms_up = frozenset({"constant", "cosine"})
    keeps_average = False
    step = 64  # its default, and the least that train_network.py takes
    folder = staticmethod(guide_folder)
    control_folder = staticmethod(guide_control_folder)

    def memory(self, base_model: BaseModel, mode: str, vram: int) -> tuple[Mapping[str, object], Mapping[str, str]]:
        if vram < 48:
            return {"fp8_base": True}, {"fp8_base": "8 bits: its table (with fp8_base) needs nothing more from 24 GB on; in bf16 the weights alone are 24 GB"}
        return {}, {"memory": "no saving: 24 GB of weights in bf16, the text encoders' outputs are kept on disk (a guess that the rest fits in 48 GB)"}

    def _dataset(self, job: Job) -> dict[str, object]:
        side = job.recipe.resolution
        dataset = {
            "resolution": [side, side],
            "batch_size": job.recipe.batch_size,
            "enable_bucket": True,
            # Without enlarging, it makes buckets from each picture's own size and cuts up to 63 pixels off; where no picture is small, fixed buckets fit better.
            "bucket_no_upscale": bool(below_resolution(job, self.step)),
            "max_bucket_reso": 2 * side,  # its default of 1024 has no bucket of the full area but the square
            "bucket_reso_steps": self.step,
            "caption_extension": CAPTION_SUFFIX,  # its default is .caption
        }
        subsets = [{"image_dir": job.on_machine(plan.folder), "num_repeats": plan.repeats} for plan in job.buckets]
        checked_keys(self.name, "datasets", (*dataset, "subsets"))
        for subset in subsets:
            checked_keys(self.name, "subsets", subset)
        return {"datasets": [{**dataset, "subsets": subsets}]}

    def _training(self, job: Job) -> dict[str, object]:
        recipe, sums = job.recipe, calculate(job)
        scheduler = "constant_with_warmup" if sums.warmup_steps and recipe.scheduler == "constant" else recipe.scheduler
        arguments = {
            "dataset_config": job.on_machine(DATASET),
            "output_dir": f"output/{job.name}",
            "output_name": job.name,
            "save_model_as": "safetensors",
            "network_module": "networks.lora_flux",
            "network_dim": recipe.rank,
            "network_alpha": recipe.alpha,
            "network_train_unet_only": True,
            "optimizer_type": recipe.optimizer,
            "learning_rate": recipe.learning_rate,
            "lr_scheduler": scheduler,
            "lr_warmup_steps": sums.warmup_steps,
            "max_train_steps": sums.steps,
            "gradient_accumulation_steps": recipe.accumulation,
            "save_every_n_steps": sums.save_every,  # all are kept: there is no save_last_n_steps
            "save_precision": "bf16",
            "mixed_precision": "bf16",
            "sdpa": True,
            "gradient_checkpointing": True,
            # docs/flux_train_network.md: "the following settings work well"; the defaults of all four are for other models.
            "timestep_sampling": "shift",
            "discrete_flow_shift": 3.1582,
            "model_prediction_type": "raw",
            "guidance_scale": 1.0,
            "cache_latents": True,
            "cache_latents_to_disk": True,
            "cache_text_encoder_outputs": True,
            "cache_text_encoder_outputs_to_disk": True,
            "max_data_loader_n_workers": 2,
            "persistent_data_loader_workers": True,
            "seed": 42,
            "sample_prompts": job.on_machine(PROMPTS),
            "sample_every_n_steps": sums.save_every,
            "sample_at_first": True,
            **recipe.memory,
        }
        checked_keys(self.name, "arguments", arguments)
        return arguments

    def _prompts(self, job: Job) -> list[dict[str, object]]:
        side = job.recipe.resolution
        prompts = [
            {"prompt": worded(sample.prompt, job.trigger), "width": side, "height": side, "sample_steps": 20, "guidance_scale": 3.5, "seed": sample.seed}
            for sample in job.samples
        ]
        return prompts

    def command(self, job: Job) -> str:
        root, models = '"${SD_SCRIPTS_ROOT:?the folder of sd-scripts}', '"${MODELS:?the folder of the model files}'
        return (
            f'accelerate launch --num_cpu_threads_per_process 1 --mixed_precision bf16 {root}/flux_train_network.py"'
            f" --config_file {shlex.quote(job.on_machine(TRAINING))}"
            f' --pretrained_model_name_or_path {models}/flux1-dev.safetensors" --clip_l {models}/clip_l.safetensors"'
            f' --t5xxl {models}/t5xxl_fp16.safetensors" --ae {models}/ae.safetensors"'
        )

    def caches(self) -> tuple[str, ...]:
        """They are found by the name and size of a picture, so neither a changed picture nor a changed caption is noticed."""
        return ("*/*_flux.npz", "*/*_flux_te.npz")

    def check(self, job: Job) -> list[Finding]:
        found = common_findings(job, self.step)
        if any(not job.captions[stem].strip() for stem in job.checked("no caption")):
            found.append(Finding(BLOCKED, "no caption", "sd-scripts stops at an empty caption file; write at least the trigger into each caption."))
        return found
