"""How a picture was made: what its own text says, and what the graph says that ran."""

import hashlib
import json

import pytest
from PIL import Image, PngImagePlugin

from character_likeness.nodes.lora_dataset.origins import made_by, made_in
from character_likeness.nodes.lora_dataset.sources import from_folder
from tests.conftest import package_file
from tests.tiny.exports import drawn

# --- what a picture says of its making ---


def generated(path, **texts):
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.fromarray(drawn(1, 8, 8)).save(path, pnginfo=info)


def test_a_workflow_is_known_by_its_hash_and_seed_and_model_by_name(tmp_path):
    workflow = json.dumps({"nodes": []})
    prompt = {
        "3": {"class_type": "KSampler", "inputs": {"seed": 42, "model": ["4", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.safetensors"}},
    }
    generated(tmp_path / "a.png", workflow=workflow, prompt=json.dumps(prompt))
    assert made_by(tmp_path / "a.png") == {
        "workflow": hashlib.sha256(workflow.encode()).hexdigest(),
        "synthetic": True,
        "seed": 42,
        "model": "x.safetensors",
    }
    assert dict(from_folder(tmp_path).items[0].origin)["seed"] == 42


def test_the_parameters_of_a1111_are_read(tmp_path):
    generated(tmp_path / "a.png", parameters="a girl\nNegative prompt: bad\nSteps: 20, Seed: 1234567890123, Size: 512x512, Model: deliberate v2, Version: 1")
    found = made_by(tmp_path / "a.png")
    assert (found["seed"], found["model"], found["synthetic"]) == (1234567890123, "deliberate v2", True)


@pytest.mark.parametrize("prompt", ["", "{", "[1, 2]", "3", '{"1": 5, "2": {"inputs": [1]}}', "[" * 100_000, '{"1": {"inputs": {"seed": ["2", 0]}}}'])
def test_a_prompt_that_cannot_be_read_is_no_fault(tmp_path, prompt):
    generated(tmp_path / "a.png", prompt=prompt)
    assert "seed" not in made_by(tmp_path / "a.png")


def test_two_seeds_are_none(tmp_path):
    prompt = {str(i): {"inputs": {"seed": i}} for i in range(2)}
    generated(tmp_path / "a.png", prompt=json.dumps(prompt))
    assert "seed" not in made_by(tmp_path / "a.png")


def test_a_photograph_says_nothing():
    assert made_by(package_file("insightface", "data", "images", "t1.jpg")) == {}


# --- the graph that ran ---


def graph(**nodes):
    """A prompt as text to image has it, up to Add to Dataset; further nodes, or others under the same names."""
    usual = {
        "model": ("UNETLoader", {"unet_name": "qwen\\qwen_image.safetensors"}),
        "lora": ("LoraLoaderModelOnly", {"model": ["model", 0], "lora_name": "her.safetensors"}),
        "clip": ("CLIPLoader", {"clip_name": "qwen.safetensors"}),
        "words": ("CLIPTextEncode", {"clip": ["clip", 0], "text": "her"}),
        "empty": ("EmptyLatentImage", {"width": 8}),
        "sampler": ("KSampler", {"model": ["lora", 0], "positive": ["words", 0], "latent_image": ["empty", 0], "seed": 42}),
        "decoded": ("VAEDecode", {"samples": ["sampler", 0]}),
        "added": ("LikenessDatasetAdd", {"image": ["decoded", 0], "name": "her"}),
    }
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in (usual | nodes).items()}


def told(prompt):
    found = dict(made_in(prompt, "added", "image"))
    assert len(found.pop("workflow")) == 64
    return found


def test_seed_and_model_are_those_of_the_sampler_that_made_the_pictures():
    assert told(graph()) == {"seed": 42, "model": "qwen/qwen_image.safetensors"}


def test_of_two_passes_the_last_one_counts():
    second = {"model": ["model", 0], "latent_image": ["sampler", 0], "seed": 7}
    assert told(graph(second=("KSampler", second), decoded=("VAEDecode", {"samples": ["second", 0]})))["seed"] == 7


def test_noise_of_its_own_node_counts():
    custom = {"noise": ["noise", 0], "guider": ["guider", 0], "latent_image": ["empty", 0]}
    nodes = {"noise": ("RandomNoise", {"noise_seed": 9}), "guider": ("BasicGuider", {"model": ["lora", 0]}), "sampler": ("SamplerCustomAdvanced", custom)}
    assert told(graph(**nodes)) == {"seed": 9, "model": "qwen/qwen_image.safetensors"}
    assert "seed" not in told(graph(**nodes | {"noise": ("DisableNoise", {})}))


@pytest.mark.parametrize(
    "nodes",
    [
        {"sampler": ("KSampler", {"model": ["lora", 0], "seed": ["start", 0]}), "start": ("LikenessTakeStart", {"seed": 1})},
        {"sampler": ("LikenessQwenScene", {"model": ["lora", 0], "seed": 42})},
        {"sampler": ("KSamplerAdvanced", {"model": ["lora", 0], "noise_seed": 42, "add_noise": "disable"})},
    ],
    ids=["a seed from another node", "several shots", "the second half of a sampling"],
)
def test_a_seed_that_is_not_certain_is_left_out(nodes):
    assert told(graph(**nodes)) == {"model": "qwen/qwen_image.safetensors"}


@pytest.mark.parametrize(
    "nodes",
    [
        {
            "other": ("KSampler", {"model": ["lora", 0], "seed": 3}),
            "both": ("ImageBatch", {"image1": ["decoded", 0], "image2": ["other decoded", 0]}),
            "other decoded": ("VAEDecode", {"samples": ["other", 0]}),
            "added": ("LikenessDatasetAdd", {"image": ["both", 0]}),
        },
        {"grain": ("FilmGrain", {"image": ["decoded", 0], "seed": 5}), "added": ("LikenessDatasetAdd", {"image": ["grain", 0]})},
        {"decoded": ("LoadImage", {"image": "her.png"})},
        {"added": ("LikenessDatasetAdd", {"name": "her"})},
    ],
    ids=["two samplers", "a seed of something else behind it", "a photograph", "nothing"],
)
def test_where_nothing_is_certain_there_is_the_hash_alone(nodes):
    assert told(graph(**nodes)) == {}


def test_a_merged_model_has_no_name():
    merged = {"merged": ("ModelMergeSimple", {"model1": ["model", 0], "model2": ["lora", 0]}), "lora": ("LoraLoaderModelOnly", {"model": ["merged", 0]})}
    assert told(graph(**merged)) == {"seed": 42}


def test_the_hash_is_that_of_what_leads_to_the_node_alone():
    hashes = [
        made_in(prompt, "added", "image")["workflow"] for prompt in (graph(), graph(later=("SaveImage", {"images": ["decoded", 0]})), graph(empty=("X", {})))
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    assert made_in(None, "added", "image") == {} and made_in(graph(), "gone", "image") == {}
