"""sd-scripts' own code, run apart from the tests: `keys ROOT` says which keys it reads, `read ROOT` what it sees in datasets. JSON on standard input and output."""

import ast
import json
import os
import sys
import types
from pathlib import Path

# Pipelines of Stable Diffusion that newer transformers no longer import; FLUX does not use them.
UNUSED = {
    "library.lpw_stable_diffusion": "StableDiffusionLongPromptWeightingPipeline",
    "library.sdxl_lpw_stable_diffusion": "SdxlStableDiffusionLongPromptWeightingPipeline",
}


def asked_of(path: Path, function: str, name: str) -> set[str]:
    """Keys that a function takes from a dictionary of this name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function)
    calls = (node for node in ast.walk(body) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get")
    return {call.args[0].value for call in calls if isinstance(call.func.value, ast.Name) and call.func.value.id == name}


def keys(root: Path) -> dict[str, list[str]]:
    import flux_train_network
    from library.config_util import ConfigSanitizer

    # As train_network.py makes it, without masked loss.
    sanitizer = ConfigSanitizer(True, True, False, True)
    plain = lambda schema: sorted(str(key) for key in schema)  # noqa: E731
    return {
        "general": plain(sanitizer.general_schema),
        "datasets": plain(sanitizer.db_dataset_schema),
        "subsets": plain(sanitizer.db_subset_schema),
        "samples": sorted(asked_of(root / "library/flux_train_utils.py", "sample_image_inference", "prompt_dict")),
        "arguments": sorted(action.dest for action in flux_train_network.setup_parser()._actions if action.option_strings and action.dest != "help"),
    }


def read(folder: str, command: list[str]) -> dict:
    """What sd-scripts sees when this command (program and arguments) is given in that folder."""
    import flux_train_network
    import torch
    from library import config_util, train_util
    from library.config_util import BlueprintGenerator, ConfigSanitizer

    os.chdir(folder)
    assert os.path.basename(command[0]) == "flux_train_network.py"
    sys.argv = command
    parser = flux_train_network.setup_parser()
    args = parser.parse_args()
    train_util.verify_command_line_training_args(args)
    args = train_util.read_config_from_file(args, parser)
    train_util.prepare_dataset_args(args, True)
    train_util.verify_training_args(args)
    user = config_util.load_user_config(args.dataset_config)
    blueprint = BlueprintGenerator(ConfigSanitizer(True, True, args.masked_loss, True)).generate(user, args)
    group, _ = config_util.generate_dataset_group_by_blueprint(blueprint.dataset_group)
    trainer = flux_train_network.FluxNetworkTrainer()
    trainer.assert_extra_args(args, group, None)
    datasets = []
    for dataset in group.datasets:
        pictures = {
            info.absolute_path: {
                "caption": dataset.process_caption(dataset.image_to_subset[key], info.caption),
                "bucket": list(info.bucket_reso),
                "times": info.num_repeats,
            }
            for key, info in dataset.image_data.items()
        }
        datasets.append({"pictures": pictures, "repeats": [subset.num_repeats for subset in dataset.subsets], "batches": len(dataset)})
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    schedule = train_util.get_scheduler_fix(args, optimizer, 1)
    rates = []
    for _ in range(args.max_train_steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    wanted = "max_train_steps learning_rate lr_scheduler lr_warmup_steps optimizer_type network_module network_dim network_alpha output_dir output_name save_every_n_steps"
    train = {
        name: getattr(args, name)
        for name in f"{wanted} save_last_n_steps fp8_base blocks_to_swap gradient_accumulation_steps pretrained_model_name_or_path".split()
    }
    return {"datasets": datasets, "samples": train_util.load_prompts(args.sample_prompts), "train": train, "rates": [rates[0], max(rates), rates[-1]]}


def main() -> None:
    verb, root = sys.argv[1], Path(sys.argv[2])
    sys.path.insert(0, str(root))
    for name, of in UNUSED.items():
        sys.modules[name] = types.ModuleType(name)
        setattr(sys.modules[name], of, type(of, (), {}))
    out, sys.stdout = sys.stdout, sys.stderr
    answer = keys(root) if verb == "keys" else [read(*case) for case in json.load(sys.stdin)]
    sys.stdout = out
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
