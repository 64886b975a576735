"""musubi-tuner (kohya-ss): a strict TOML file for pictures, a lax one for arguments, prompts as JSON, and three commands, two of which make caches.

Facts are from its code at 30c658c (2026-06-24): dataset/config_utils.py, dataset/datasources.py, dataset/image_video_dataset.py,
training/parser_common.py, training/sampling_prompts.py, qwen_image_train_network.py, docs/qwen_image.md and docs/dataset_config.md.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

from ..choices import EDIT_AS_TEXT_TO_IMAGE, PAIRED_EDIT, TEXT_TO_IMAGE
from ..dataset import BLOCKED, Finding
from ..recipes import calculate
from .base_models import QWEN_IMAGE, QWEN_IMAGE_2512, QWEN_IMAGE_EDIT_2509, QWEN_IMAGE_EDIT_2511, BaseModel
from .job import CAPTION_SUFFIX, Job, common_findings, guide_control_folder, guide_folder, worded
from .known_keys import checked_keys
from .kohya import DATASET, PROMPTS, TRAINING, Kohya

# Without control pictures the edit versions encode captions and train as for text to image (call_dit, encode_and_save_batch), so edit as text to image
# keeps the version: the weights of 2511 cannot be loaded as `original`.
_VERSION = {
    QWEN_IMAGE.name: "original",
    QWEN_IMAGE_2512.name: "original",
    QWEN_IMAGE_EDIT_2509.name: "edit-2509",
    QWEN_IMAGE_EDIT_2511.name: "edit-2511",
}
# Comfy-Org's names; "fp8_scaled and fp8_e4m3fn versions cannot be used" (docs/qwen_image.md, which does not name 2512 yet).
_WEIGHTS = {
    QWEN_IMAGE.name: "qwen_image_bf16.safetensors",
    QWEN_IMAGE_2512.name: "qwen_image_2512_bf16.safetensors",
    QWEN_IMAGE_EDIT_2509.name: "qwen_image_edit_2509_bf16.safetensors",
    QWEN_IMAGE_EDIT_2511.name: "qwen_image_edit_2511_bf16.safetensors",
}
_VAE, _TEXT_ENCODER = "qwen_image_vae.safetensors", "qwen_2.5_vl_7b.safetensors"


class MusubiTuner(Kohya):
    name = "musubi-tuner"
    pairs = frozenset(
        {
            (QWEN_IMAGE.name, TEXT_TO_IMAGE),
            (QWEN_IMAGE_2512.name, TEXT_TO_IMAGE),
            *((model.name, mode) for model in (QWEN_IMAGE_EDIT_2509, QWEN_IMAGE_EDIT_2511) for mode in (PAIRED_EDIT, EDIT_AS_TEXT_TO_IMAGE)),
        }
    )
    warms_up = frozenset({"constant", "cosine"})
    keeps_average = False
    step = 16
    folder = staticmethod(guide_folder)
    control_folder = staticmethod(guide_control_folder)

    def memory(self, base_model: BaseModel, mode: str, vram: int) -> tuple[Mapping[str, object], Mapping[str, str]]:
        """Its table (docs/qwen_image.md; 1024 x 1024, batch 1): 42 GB as it is, 30 with fp8, 24 with 16 blocks swapped as well, 12 with 45."""
        paired = mode == PAIRED_EDIT
        more = "; control pictures take more, how much is a guess" if paired else ""
        if vram == 80:
            return {}, {"memory": f"no saving: 42 GB by its table{more}"}
        settings: dict[str, object] = {"fp8_base": True, "fp8_scaled": True}
        reasons = dict.fromkeys(settings, f"8 bits: 30 GB by its table, against 42{more}")
        # Between its figures a block is 0.4 GB; three or four GB stay free for the screen and for samples.
        swapped = {(24, False): 24, (24, True): 34, (32, False): 8, (32, True): 20}.get((vram, paired), 0)
        if swapped:
            settings["blocks_to_swap"] = swapped
            reasons["blocks_to_swap"] = f"a guess between the figures of its table: {swapped} of 60 blocks wait in main memory, of which it wants 64 GB{more}"
        return settings, reasons

    def _dataset(self, job: Job) -> dict[str, object]:
        side = job.recipe.resolution
        general = {
            "resolution": [side, side],
            "caption_extension": CAPTION_SUFFIX,
            "batch_size": job.recipe.batch_size,
            "enable_bucket": True,
            "bucket_no_upscale": True,
        }
        datasets = [
            {
                "image_directory": job.on_machine(plan.folder),
                # It refuses two datasets with one cache; without a folder of its own a cache lies among the pictures.
                "cache_directory": job.on_machine(PurePosixPath("cache") / plan.folder.name),
                # control_resolution: "as the official code", which its documentation recommends strongly.
                **({"control_directory": job.on_machine(plan.control_folder), "control_resolution": [1024, 1024]} if plan.control_folder else {}),
                "num_repeats": plan.repeats,
            }
            for plan in job.buckets
        ]
        checked_keys(self.name, "general", general)
        for dataset in datasets:
            checked_keys(self.name, "datasets", dataset)
        return {"general": general, "datasets": datasets}

    def _training(self, job: Job) -> dict[str, object]:
        recipe, sums = job.recipe, calculate(job)
        scheduler = "constant_with_warmup" if sums.warmup_steps and recipe.scheduler == "constant" else recipe.scheduler
        arguments = {
            "model_version": _VERSION[job.base_model.name],
            "dataset_config": job.on_machine(DATASET),
            "output_dir": f"output/{job.name}",
            "output_name": job.name,
            "network_module": "networks.lora_qwen_image",
            "network_dim": recipe.rank,
            "network_alpha": recipe.alpha,
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
            # docs/qwen_image.md
            "timestep_sampling": "shift",
            "weighting_scheme": "none",
            "discrete_flow_shift": 2.2,
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
            {
                "prompt": worded(sample.prompt, job.trigger),
                "negative_prompt": " ",
                "width": side,
                "height": side,
                "sample_steps": 25,
                "cfg_scale": 4.0,
                "seed": sample.seed,
                **({"control_image_path": [job.on_machine(sample.control)]} if sample.control else {}),
            }
            for sample in job.samples
        ]
        return prompts

    def command(self, job: Job) -> str:
        root, models = '"${MUSUBI_ROOT:?the folder of musubi-tuner}/src/musubi_tuner', '"${MODELS:?the folder of the model files}'
        version = f"--model_version {_VERSION[job.base_model.name]}"
        data = f"--dataset_config {shlex.quote(job.on_machine(DATASET))}"
        vae, text = f'--vae {models}/{_VAE}"', f'--text_encoder {models}/{_TEXT_ENCODER}"'
        return "\n".join(
            (
                f'python {root}/qwen_image_cache_latents.py" {data} {version} {vae}',
                f'python {root}/qwen_image_cache_text_encoder_outputs.py" {data} {version} {text} --batch_size 1',
                f'accelerate launch --num_cpu_threads_per_process 1 --mixed_precision bf16 {root}/qwen_image_train_network.py"'
                f" --config_file {shlex.quote(job.on_machine(TRAINING))}"
                f' --dit {models}/{_WEIGHTS[job.base_model.name]}" {vae} {text}',
            )
        )

    def caches(self) -> tuple[str, ...]:
        """A changed picture of the same name and size, or a changed caption, is noticed by the first two commands alone."""
        return ("cache/*/*.safetensors",)

    def check(self, job: Job) -> list[Finding]:
        found = common_findings(job, self.step)
        # The caches are looked for with a search pattern (glob) in which the folder's own name is not protected.
        for path in (job.on_machine(PurePosixPath("cache") / plan.folder.name) for plan in job.buckets):
            if any(letter in path for letter in "[]*?"):
                found.append(
                    Finding(
                        BLOCKED, "path", f"musubi-tuner takes [ ] * ? in a folder's name for a search pattern and would find nothing in '{path}'; rename it."
                    )
                )
        return found
