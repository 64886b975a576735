"""musubi-tuner's own code, run apart from the tests: `keys ROOT` says which keys it reads, `read ROOT` what it sees in datasets. JSON on standard input and output."""

import argparse
import ast
import json
import os
import sys
import time
import types
from pathlib import Path

import numpy as np


def named_parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines of the three programs, as their main functions build them."""
    from musubi_tuner import (
        cache_latents,
        cache_text_encoder_outputs,
        qwen_image_cache_latents,
        qwen_image_cache_text_encoder_outputs,
        qwen_image_train_network,
    )
    from musubi_tuner.training.parser_common import setup_parser_common

    return {
        "cache_latents": qwen_image_cache_latents.qwen_image_setup_parser(cache_latents.hv_setup_parser(cache_latents.setup_parser_common())),
        "cache_text_encoder_outputs": qwen_image_cache_text_encoder_outputs.qwen_image_setup_parser(cache_text_encoder_outputs.setup_parser_common()),
        "arguments": qwen_image_train_network.qwen_image_setup_parser(setup_parser_common()),
    }


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    return sorted(action.dest for action in parser._actions if action.option_strings and action.dest != "help")


def asked_of(path: Path, names: set[str]) -> set[str]:
    """Keys that a file takes from dictionaries of these names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and isinstance(node.func.value, ast.Name):
            name, key = node.func.value.id, node.args[0]
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            name, key = node.value.id, node.slice
        else:
            continue
        if name in names and isinstance(key, ast.Constant) and isinstance(key.value, str):
            found.add(key.value)
    return found


def keys(root: Path) -> dict[str, list[str]]:
    from musubi_tuner.dataset.config_utils import ConfigSanitizer

    sanitizer = ConfigSanitizer()
    source = root / "src/musubi_tuner"
    samples = asked_of(source / "training/trainer_base.py", {"sample_parameter", "prompt_dict"}) | asked_of(
        source / "qwen_image_train_network.py", {"prompt_dict", "sample_parameter"}
    )
    internal = {"vl_embed", "negative_vl_embed", "control_image_tensors", "enum"}  # the trainer's own, added after reading
    return {
        "general": sorted(sanitizer.general_schema),
        "datasets": sorted(sanitizer.image_dataset_schema),
        "samples": sorted(samples - internal),
        **{name: options_of(parser) for name, parser in named_parsers().items()},
    }


def read(folder: str, commands: list[list[str]]) -> dict:
    """What musubi-tuner sees when these commands (program and arguments) are given in that folder. Latents are made up: no model is here."""
    from musubi_tuner.dataset import config_utils
    from musubi_tuner.dataset import image_video_dataset as media
    from musubi_tuner.dataset.config_utils import BlueprintGenerator, ConfigSanitizer
    from musubi_tuner.qwen_image import qwen_image_utils
    from musubi_tuner.training.parser_common import read_config_from_file
    from musubi_tuner.training.sampling_prompts import load_prompts
    from safetensors.numpy import save_file

    os.chdir(folder)
    # Its readers look for finished pictures ten times a second.
    sleep = time.sleep
    media.time = types.SimpleNamespace(sleep=lambda seconds: sleep(seconds / 100))
    parsers = named_parsers()
    programs = {
        "qwen_image_cache_latents.py": "cache_latents",
        "qwen_image_cache_text_encoder_outputs.py": "cache_text_encoder_outputs",
        "qwen_image_train_network.py": "arguments",
    }
    groups, versions = [], []
    for program, *arguments in commands:
        section = programs[os.path.basename(program)]
        sys.argv = [program, *arguments]
        args = parsers[section].parse_args(arguments)
        if section == "arguments":
            args = read_config_from_file(args, parsers[section])
        versions.append(qwen_image_utils.resolve_model_version_args(args))
        architecture = "qie" if args.is_edit else "qi"
        blueprint = BlueprintGenerator(ConfigSanitizer()).generate(config_utils.load_user_config(args.dataset_config), args, architecture=architecture)
        if section == "cache_latents":
            group = config_utils.generate_dataset_group_by_blueprint(blueprint.dataset_group)
            for dataset in group.datasets:
                os.makedirs(dataset.cache_directory)
                seen = {"repeats": dataset.num_repeats, "cache": dataset.cache_directory, "pictures": {}}
                groups.append(seen)
                for _, batch in dataset.retrieve_latent_cache_batches(8):
                    for item in batch:
                        controls = [list(control.shape[1::-1]) for control in item.control_content or []]
                        seen["pictures"][item.item_key] = {"caption": item.caption, "bucket": list(item.bucket_size), "controls": controls}
                        latents = {"latents_1x1x1_float32": np.zeros(1, np.float32)}
                        latents |= {f"latents_control_{n}_1x1x1_float32": np.zeros(1, np.float32) for n in range(len(controls))}
                        save_file(latents, item.latent_cache_path)
                        save_file({"varlen_vl_embed_float32": np.zeros(1, np.float32)}, item.text_encoder_output_cache_path)
                if dataset.has_control:
                    for picture, paths in dataset.datasource.control_paths.items():
                        seen["pictures"][picture]["control_paths"] = paths
        elif section == "arguments":
            group = config_utils.generate_dataset_group_by_blueprint(blueprint.dataset_group, training=True)
            for seen, dataset in zip(groups, group.datasets):
                seen["items"] = dataset.num_train_items
            prompts = load_prompts(args.sample_prompts)
            wanted = "max_train_steps learning_rate lr_scheduler lr_warmup_steps optimizer_type network_module network_dim network_alpha output_dir output_name save_every_n_steps"
            train = {name: getattr(args, name) for name in f"{wanted} save_last_n_steps fp8_base fp8_scaled blocks_to_swap gradient_accumulation_steps".split()}
            import torch
            from musubi_tuner.hv_train_network import NetworkTrainer

            optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
            schedule = NetworkTrainer().get_lr_scheduler(args, optimizer, 1)
            rates = []
            for _ in range(args.max_train_steps):
                rates.append(schedule.get_last_lr()[0])
                optimizer.step()
                schedule.step()
    return {"datasets": groups, "versions": versions, "samples": prompts, "train": train, "rates": [rates[0], max(rates), rates[-1]]}


def main() -> None:
    verb, root = sys.argv[1], Path(sys.argv[2])
    sys.path.insert(0, str(root / "src"))
    out, sys.stdout = sys.stdout, sys.stderr
    answer = keys(root) if verb == "keys" else [read(*case) for case in json.load(sys.stdin)]
    sys.stdout = out
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
