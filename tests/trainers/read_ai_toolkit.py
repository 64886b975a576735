"""ai-toolkit's own code, run apart from the tests: `keys ROOT` says which keys it reads, `read ROOT` what it sees in datasets. JSON on standard input and output.

Its classes for models need packages and weights of many gigabytes; what reads configuration and pictures does not. So packages that only
augmentation, video and quantization need are left out where they are not installed.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import types
from pathlib import Path

# class -> the section of the configuration that it is made from
CLASSES = {
    "SaveConfig": "save",
    "LoggingConfig": "logging",
    "SampleConfig": "sample",
    "SampleItem": "samples",
    "NetworkConfig": "network",
    "TrainConfig": "train",
    "EMAConfig": "ema_config",
    "ModelConfig": "model",
    "DatasetConfig": "datasets",
}
PROCESS = ("jobs/process/BaseSDTrainProcess.py", "jobs/process/BaseTrainProcess.py", "jobs/process/BaseProcess.py")


def asked_for(tree: ast.AST, method: str) -> set[str]:
    """The literal first arguments of calls `something.method("key", ...)`."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method)
    return {call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)}


def keys(root: Path) -> dict[str, list[str]]:
    module = ast.parse((root / "toolkit/config_modules.py").read_text(encoding="utf-8"))
    found = {}
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name in CLASSES:
            made = next(part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__")
            calls = [call for call in ast.walk(made) if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "get"]
            own = [call for call in calls if isinstance(call.func.value, ast.Name) and call.func.value.id == "kwargs"]
            found[CLASSES[node.name]] = {call.args[0].value for call in own}
    found["process"] = {"type"}.union(*(asked_for(ast.parse((root / path).read_text(encoding="utf-8")), "get_conf") for path in PROCESS))
    found["config"] = {"process", "name"} | asked_for(ast.parse((root / "jobs/ExtensionJob.py").read_text(encoding="utf-8")), "get_conf")
    found["top"] = {"job", "config", "meta"}
    return {section: sorted(names) for section, names in sorted(found.items())}


class LeftOut(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for packages that are not installed and that reading pictures and captions does not use."""

    names = ("torchao", "albumentations", "av")

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in self.names else None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__ = []

        def attribute(name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__getattr__ = attribute
        return module

    def exec_module(self, module):
        pass


class Model:
    """What the data loader asks of a model. use_raw_control_images and the rest: as in qwen_image_edit_plus.py."""

    is_xl = is_vega = is_ssd = is_v3 = is_auraflow = is_flux = False
    latent_space_version = "test"
    text_embedding_space_version = "test"
    te_padding_side = "right"
    vae = unet = None

    def __init__(self, config):
        self.model_config = config
        self.use_raw_control_images = self.encode_control_in_text_embeddings = self.has_multiple_control_images = "edit" in config.arch

    def get_bucket_divisibility(self):
        return 32


def read(folder: str, config_file: str) -> dict:
    """What ai-toolkit sees when it is started with that configuration from that folder."""
    import torch
    from toolkit import config_modules as modules
    from toolkit.config import get_config
    from toolkit.data_loader import AiToolkitDataset
    from toolkit.scheduler import get_lr_scheduler

    os.chdir(folder)
    config = get_config(config_file)
    process = config["config"]["process"][0]
    network, train = modules.NetworkConfig(**process["network"]), modules.TrainConfig(**process["train"])
    process["model"]["dtype"] = train.dtype
    model, save, sample = modules.ModelConfig(**process["model"]), modules.SaveConfig(**process["save"]), modules.SampleConfig(**process["sample"])
    raw = modules.preprocess_dataset_raw_config(process["datasets"])
    for dataset in raw:
        dataset["cache_latents"] = dataset["cache_latents_to_disk"] = False  # no VAE here
    configs = [modules.DatasetConfig(**dataset) for dataset in raw]
    modules.validate_configs(train, model, save, configs)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=train.lr)
    schedule = get_lr_scheduler(train.lr_scheduler, optimizer, **train.lr_scheduler_params, total_iters=train.steps)
    rates = []
    for _ in range(train.steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()

    datasets = []
    for one in configs:
        seen = AiToolkitDataset(one, batch_size=train.batch_size, sd=Model(model))
        pictures = {}
        for item in seen.file_list:
            item.load_caption()
            controls = item.control_path if isinstance(item.control_path, list) or item.control_path is None else [item.control_path]
            entry = {"caption": item.caption, "controls": controls or [], "bucket": [item.crop_width, item.crop_height], "times": 0}
            pictures.setdefault(item.path, entry)["times"] += 1
        datasets.append({"pictures": pictures, "batches": len(seen), "num_repeats": one.num_repeats, "resolution": one.resolution})
    samples = []
    for item in sample.samples:
        made = modules.GenerateImageConfig(
            prompt=item.prompt, width=item.width, height=item.height, seed=item.seed, ctrl_img_1=item.ctrl_img_1, output_path="x.png"
        )
        samples.append({"prompt": made.prompt, "width": made.width, "height": made.height, "seed": made.seed, "control": made.ctrl_img_1})
    return {
        "name": config["config"]["name"],
        "type": process["type"],
        "datasets": datasets,
        "samples": samples,
        "rates": [rates[0], max(rates), rates[-1]],
        "network": [network.type, network.linear, network.linear_alpha],
        "train": {key: getattr(train, key) for key in ("steps", "lr", "optimizer", "lr_scheduler", "gradient_accumulation", "gradient_accumulation_steps")},
        "ema": [train.ema_config.use_ema, train.ema_config.ema_decay],
        "model": {
            key: getattr(model, key) for key in ("name_or_path", "arch", "quantize", "qtype", "accuracy_recovery_adapter", "layer_offloading", "low_vram")
        },
        "save": [save.save_every, save.max_step_saves_to_keep],
    }


def main() -> None:
    verb, root = sys.argv[1], Path(sys.argv[2])
    if verb == "keys":
        answer = keys(root)
    else:
        sys.path.insert(0, str(root))
        LeftOut.names = tuple(name for name in LeftOut.names if importlib.util.find_spec(name) is None)
        sys.meta_path.append(LeftOut())
        cases, out = json.load(sys.stdin), sys.stdout
        sys.stdout = sys.stderr
        answer = [read(*case) for case in cases]
        sys.stdout = out
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
