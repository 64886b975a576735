"""LoRA files are told apart by their headers alone: family, kind, trigger words, speed, and what to warn of."""

import json
import math
import struct
from pathlib import Path

import pytest

from character_likeness.nodes.errors import InputError, LikenessError, MissingModelError
from character_likeness.nodes.lora_files import (
    ROLES,
    Applied,
    LoraFile,
    effective_trigger,
    lora_report,
    named_fast,
    read_lora,
    told_by_name,
    warnings_for,
)
from character_likeness.nodes.scene.choices import LORA_ROLES
from character_likeness.nodes.scene.presets import settings
from character_likeness.nodes.scene.stack import Upstream, angle_notes, angle_vocabulary_of, files_upstream, speed_notes
from tests.conftest import ROOT


def write(path, tensors, metadata=None):
    """A safetensors file with the header of `tensors` (name -> shape, 16 bit) and as many bytes as that asks for, none of them written."""
    header, end = {"__metadata__": metadata} if metadata else {}, 0
    for name, shape in tensors.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(raw)) + raw)
        stream.truncate(8 + len(raw) + end)
    return path


def pairs(modules, rank=4, width=3072, out=3072, down="lora_A.weight", up="lora_B.weight", alpha=False):
    tensors = {}
    for module in modules:
        tensors |= {f"{module}.{down}": (rank, width), f"{module}.{up}": (out, rank)} | ({f"{module}.alpha": ()} if alpha else {})
    return tensors


KOHYA = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": True}
QWEN_ATTENTION = [f"transformer_blocks.{block}.attn.{part}" for block in range(60) for part in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj")]
QWEN_BLOCK = [
    "transformer_blocks.0.attn.to_q",
    "transformer_blocks.0.img_mlp.net.0.proj",
    "transformer_blocks.0.txt_mlp.net.2",
    "transformer_blocks.0.img_mod.1",
]


@pytest.fixture
def lora(tmp_path):
    def make(tensors=None, name="mira.safetensors", **metadata):
        return read_lora(write(tmp_path / name, tensors or pairs(f"diffusion_model.{module}" for module in QWEN_BLOCK), metadata))

    return make


# --- formats of Qwen-Image LoRAs ---


def test_the_roles_are_those_that_the_node_offers():
    assert ROLES == LORA_ROLES


@pytest.mark.parametrize(
    "tensors",
    [
        pairs(f"transformer.{module}" for module in QWEN_BLOCK),
        pairs(f"diffusion_model.{module}" for module in QWEN_BLOCK),
        pairs((f"base_model.model.{module}" for module in QWEN_BLOCK), down="lora_A.default.weight", up="lora_B.default.weight"),
        pairs(QWEN_BLOCK, down="lora_A.default.weight", up="lora_B.default.weight"),
        pairs(QWEN_BLOCK, **KOHYA),
        pairs(("lora_unet_" + module.replace(".", "_") for module in QWEN_BLOCK), **KOHYA),
        pairs(("lycoris_" + module.replace(".", "_") for module in QWEN_BLOCK), **KOHYA),
        pairs(QWEN_BLOCK, down="lora.down.weight", up="lora.up.weight"),
        pairs((f"transformer.{module}" for module in QWEN_BLOCK), down="lora_A", up="lora_B"),
    ],
    ids=["diffusers", "ai-toolkit", "PEFT", "DiffSynth", "Lightning", "musubi-tuner", "SimpleTuner LyCORIS", "old diffusers", "bare"],
)
def test_every_trainers_names_are_one_qwen_lora(lora, tensors):
    found = lora(tensors)
    assert (found.family, found.kind, found.rank, found.layers, found.dora) == ("Qwen-Image", "LoRA", "4", 4, False)


@pytest.mark.parametrize("prefix", ["transformer.", "diffusion_model.", "lora_unet_"])
def test_sixty_blocks_of_attention_alone_are_qwen(lora, prefix):
    modules = [prefix + (module.replace(".", "_") if prefix.endswith("_") else module) for module in QWEN_ATTENTION]
    assert lora(pairs(modules)).family == "Qwen-Image"


def test_few_blocks_of_attention_are_told_by_metadata_or_name_else_unknown(lora):
    tensors = pairs(["transformer.transformer_blocks.3.attn.to_q", "transformer.transformer_blocks.3.attn.add_q_proj"])
    assert lora(tensors).family == "unknown"
    assert lora(tensors, name="mira_qwen.safetensors").family == "Qwen-Image"
    assert lora(tensors, name="mira_qwen.safetensors", ss_base_model_version="flux1").family == "Flux"
    assert lora(tensors, **{"modelspec.architecture": "Qwen-Image-Edit/lora"}).family == "Qwen-Image"


def test_a_lokr_is_known_by_the_product_of_its_factors(lora):
    tensors = {}
    for block in range(60):
        module = f"diffusion_model.transformer_blocks.{block}.attn.to_q"
        tensors |= {f"{module}.lokr_w1": (8, 8), f"{module}.lokr_w2_a": (384, 6), f"{module}.lokr_w2_b": (6, 384), f"{module}.alpha": ()}
    found = lora(tensors)
    assert (found.family, found.kind, found.rank, found.layers) == ("Qwen-Image", "LoKr", "6", 60)


def test_a_full_lokr_has_no_rank(lora):
    module = "lycoris_transformer_blocks_0_img_mlp_net_2"
    found = lora({f"{module}.lokr_w1": (8, 8), f"{module}.lokr_w2": (384, 384)})
    assert (found.family, found.kind, found.ranks, found.rank) == ("Qwen-Image", "LoKr", (), "full")


def test_loha_dora_and_differences_are_told_apart(lora):
    module = "diffusion_model.transformer_blocks.0.img_mod.1"
    loha = {f"{module}.hada_{part}": shape for part, shape in {"w1_a": (9, 5), "w1_b": (5, 9), "w2_a": (9, 5), "w2_b": (5, 9)}.items()}
    assert (lora(loha).kind, lora(loha).rank) == ("LoHa", "5")
    dora = pairs([module]) | {f"{module}.dora_scale": (3072, 1)}
    assert (lora(dora).kind, lora(dora).dora, lora(dora).layers) == ("DoRA", True, 1)
    peft = pairs([module]) | {f"{module}.lora_magnitude_vector.weight": (3072,)}
    assert lora(peft).dora
    assert (lora(loha | {f"{module}.dora_scale": (9, 1)}).kind, lora(loha | {f"{module}.dora_scale": (9, 1)}).dora) == ("LoHa", True)
    difference = lora({f"{module}.diff": (64, 64), f"{module}.diff_b": (64,)})
    assert (difference.kind, difference.rank, difference.layers) == ("diff", "full", 2)
    norms = {f"diffusion_model.transformer_blocks.{block}.attn.norm_q.diff": (128,) for block in range(9)}
    assert lora(pairs([module]) | norms).kind == "LoRA"


def test_ranks_that_differ_are_a_range(lora):
    modules = [f"transformer.{module}" for module in QWEN_BLOCK]
    found = lora(pairs(modules[:1], rank=4) | pairs(modules[1:3], rank=8) | pairs(modules[3:], rank=16))
    assert (found.ranks, found.rank) == ((4, 8, 16), "4 to 16")


# --- other families ---


@pytest.mark.parametrize(
    "family, tensors",
    [
        ("Flux", pairs([f"transformer.{n}" for n in ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.37.attn.to_q")])),
        ("Flux", pairs(["transformer.transformer_blocks.0.attn.to_q", "transformer.transformer_blocks.0.ff_context.net.2"])),
        ("Flux", pairs(["lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_single_blocks_37_linear1"], **KOHYA)),
        ("Flux", pairs(["diffusion_model.double_blocks.0.img_attn.qkv", "diffusion_model.single_blocks.0.linear1"])),
        ("Flux.2", pairs(["diffusion_model.double_blocks.0.img_attn.qkv"], width=6144)),
        ("Flux.2", pairs(["transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj"])),
        ("SD 3", pairs(["transformer.transformer_blocks.23.attn.add_q_proj"], width=1536)),
        ("SD 3", pairs(["diffusion_model.joint_blocks.0.x_block.attn.qkv"], width=2432)),
        ("HunyuanVideo", pairs(["transformer.double_blocks.0.img_attn_qkv", "transformer.single_blocks.0.linear1"])),
        ("HunyuanVideo", pairs(["lora_unet_double_blocks_0_img_mod_linear"], **KOHYA)),
        ("HunyuanVideo", pairs([f"transformer.single_transformer_blocks.{block}.attn.to_q" for block in range(40)])),
        ("Wan", pairs(["diffusion_model.blocks.0.self_attn.q", "diffusion_model.blocks.0.ffn.0"], width=5120)),
        ("Wan", pairs(["lora_unet__blocks_0_cross_attn_k"], width=5120, **KOHYA)),
        ("Wan", pairs(["transformer.blocks.0.attn1.to_q"], width=5120)),
        ("Z-Image", pairs(["diffusion_model.layers.0.attention.to_q", "diffusion_model.layers.0.feed_forward.w1"], width=3840)),
        ("Krea 2", pairs(["transformer.transformer_blocks.0.attn.to_q", "transformer.transformer_blocks.0.attn.to_gate"], width=6144)),
        ("Qwen-Image-2.1", pairs(["transformer.transformer_blocks.0.img_mlp.gate_layer"], width=4096)),
        ("SDXL", pairs(["lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"], width=2048, **KOHYA)),
        ("SDXL", pairs(["lora_unet_input_blocks_7_1_transformer_blocks_9_attn1_to_q"], width=1280, **KOHYA)),
        ("SD 1.5", pairs(["lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"], width=768, **KOHYA)),
        ("SD 1.5", pairs(["unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v"], width=768, down="lora.down.weight", up="lora.up.weight")),
        ("unknown", pairs(["base_model.model.model.layers.0.self_attn.q_proj"], width=4096)),
    ],
)
def test_other_families_are_not_taken_for_qwen(lora, family, tensors):
    assert lora(tensors).family == family


def test_what_the_tensors_say_outranks_the_metadata(lora):
    assert lora(pairs(["transformer.single_transformer_blocks.0.attn.to_q"]), ss_base_model_version="qwen_image").family == "Flux"


def test_text_encoder_layers_are_counted_apart(lora):
    tensors = pairs(["lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"], 4, 320, **KOHYA)
    tensors |= pairs(["lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_te2_text_model_encoder_layers_0_mlp_fc1"], **KOHYA)
    assert (lora(tensors).family, lora(tensors).layers, lora(tensors).text_layers) == ("SDXL", 1, 2)


# --- trigger words ---


@pytest.mark.parametrize(
    "metadata, triggers",
    [
        ({"modelspec.trigger_phrase": "mira, red scarf"}, ("mira", "red scarf")),
        ({"trained_words": "a photo of mira"}, ("a photo of mira",)),
        ({"ss_trigger_words": '["mira", "mira", 3]'}, ("mira",)),
        ({"modelspec.usage_hint": "Trigger word: mira. Strength 0.8"}, ("mira",)),
        ({"modelspec.usage_hint": "strength 0.8"}, ()),
        ({"modelspec.trigger_phrase": "None", "trigger_word": "mira"}, ("mira",)),
        # ai-toolkit
        ({"ss_tag_frequency": '{"1_m1ra": {"m1ra": 1}}'}, ("m1ra",)),
        # sd-scripts without captions: the folder is the caption
        (
            {"ss_tag_frequency": '{"40_mira woman": {"mira woman": 70}}', "ss_dataset_dirs": '{"40_mira woman": {"n_repeats": 40, "img_count": 70}}'},
            ("mira woman",),
        ),
        ({"ss_dataset_dirs": '{"40_Mira woman": {"n_repeats": 40, "img_count": 70}}'}, ("Mira woman",)),
        # the caption opens with the folder's name
        (
            {"ss_tag_frequency": '{"40_Mira": {"mira standing": 30, "mira sitting": 40, "red dress": 9}}', "ss_dataset_dirs": '{"40_Mira": {"img_count": 70}}'},
            ("Mira",),
        ),
        # one name in every caption among ordinary words
        ({"ss_tag_frequency": '{"img": {"mira": 70, "1girl": 70, "hat": 12}}', "ss_dataset_dirs": '{"img": {"img_count": 70}}'}, ("mira",)),
        # two candidates, one missing caption, ordinary words, regularisation pictures: nobody knows
        ({"ss_tag_frequency": '{"img": {"mira": 70, "freckles": 70}}', "ss_dataset_dirs": '{"img": {"img_count": 70}}'}, ()),
        ({"ss_tag_frequency": '{"img": {"mira": 69}}', "ss_dataset_dirs": '{"img": {"img_count": 70}}'}, ()),
        ({"ss_tag_frequency": '{"10_img": {"1girl": 70, "solo": 70}}', "ss_dataset_dirs": '{"10_img": {"img_count": 70}}'}, ()),
        ({"ss_dataset_dirs": '{"1_sks person": {"img_count": 9}}', "ss_reg_dataset_dirs": '{"1_sks person": {"img_count": 9}}'}, ()),
        ({"ss_dataset_dirs": '{"10_woman": {"img_count": 70}}'}, ()),
        # SimpleTuner keeps tags of more than half the captions, without saying how many captions there are
        ({"ss_tag_frequency": '{"mira-512": {"blue hair": 12}}'}, ()),
        # the tag of a bucket is no name
        ({"ss_tag_frequency": '{"40_mira": {"mira": 70}, "20_realistic_body": {"realistic_body": 30}}'}, ("mira",)),
    ],
)
def test_triggers_are_read_as_trainers_write_them(lora, metadata, triggers):
    assert lora(**metadata).triggers == triggers


@pytest.mark.parametrize("value", ["{", "[1, 2]", "3", "null", '{"a": 3}', '{"1_mira": [1]}', "[" * 100_000, "9" * 6_000_000, '{"a": {"b": "c", "d": true}}'])
def test_broken_metadata_is_passed_over(lora, value):
    found = lora(**{key: value for key in ("ss_tag_frequency", "ss_reg_dataset_dirs", "software")}, ss_output_name="a\nb\ud800\x1b[31m")
    assert found.triggers == () and found.trainer is None
    assert found.metadata["ss_output_name"] == "a b [31m"


def test_a_huge_tag_or_phrase_comes_short_and_in_one_line(lora):
    found = lora(**{"modelspec.trigger_phrase": "mira\n" + "x" * 100_000})
    assert len(found.triggers[0]) <= 200 and "\n" not in found.triggers[0]


@pytest.mark.parametrize("typed, expected", [("  ohwx\n mira ", "ohwx mira"), ("", "mira, red scarf"), ("  ", "mira, red scarf"), ("-", ""), (" None ", "")])
def test_a_typed_trigger_wins_and_a_dash_stands_for_none(lora, typed, expected):
    assert effective_trigger(lora(**{"modelspec.trigger_phrase": "mira,red scarf"}), typed) == expected


# --- speed, base, trainer ---


@pytest.mark.parametrize(
    "name, speed, base",
    [
        ("Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16", 4, "edit 2511"),
        ("Qwen-Image-Edit-2509-Lightning-8steps-V1.0-fp32", 8, "edit 2509"),
        ("Qwen-Image-Edit-Lightning-4steps-V1.0", 4, "edit"),
        ("Qwen-Image-Lightning-8steps-V2.0", 8, "image"),
        ("Qwen-Image-2512-Lightning-4steps-V1.0-fp32", 4, "image 2512"),
        ("qwen_image_lightx2v", 0, "image"),
        ("Qwen-Edit-2509-Multiple-angles", None, "edit 2509"),
        ("qwen-image-edit-2511-multiple-angles-lora", None, "edit 2511"),
        ("mira_qwen_000002500", None, None),
        ("mira_2000steps", None, None),
        ("mira_20251103", None, None),
        ("turbocharged_car_qwen", None, None),
        ("hyper-realistic-skin", None, None),
        ("mira_z_image_turbo", None, None),
    ],
)
def test_name_tells_speed_and_base(lora, name, speed, base):
    found = lora(name=f"{name}.safetensors")
    assert (found.speed, found.base) == (speed, base)


def test_a_lora_trained_on_pictures_is_fast_only_with_a_step_count(lora):
    captions = {"ss_tag_frequency": '{"1_lightning": {"lightning": 1}}'}
    assert lora(name="lightning_qwen.safetensors").speed == 0
    assert lora(name="lightning_qwen.safetensors", **captions).speed is None
    assert lora(name="lightning_qwen_4steps.safetensors", **captions).speed == 4


def test_metadata_tells_speed_and_base_where_the_name_does_not(lora):
    found = lora(name="a.safetensors", **{"modelspec.title": "Qwen-Image-Edit-2511-Lightning-4steps"})
    assert (found.speed, found.base) == (4, "edit 2511")
    assert lora(name="a.safetensors", **{"modelspec.architecture": "Qwen-Image-Edit/lora"}).base == "edit"
    # ai-toolkit writes this for edit models too.
    assert lora(name="a.safetensors", ss_base_model_version="qwen_image").base is None


@pytest.mark.parametrize(
    "metadata, trainer",
    [
        ({"software": '{"name": "ai-toolkit", "url": ""}'}, "ai-toolkit"),
        ({"ss_network_module": "networks.lora_qwen_image"}, "musubi-tuner"),
        ({"ss_network_module": "networks.lora_flux"}, "sd-scripts"),
        ({"ot_branch": "master"}, "OneTrainer"),
        ({"modelspec.implementation": "diffusers"}, "SimpleTuner"),
        ({"lora_adapter_metadata": "{}"}, "diffusers"),
        ({}, None),
    ],
)
def test_trainer_is_known_by_its_own_keys(lora, metadata, trainer):
    assert lora(**metadata).trainer == trainer


@pytest.mark.parametrize(
    "name",
    [
        "qwen/Qwen-Image-Edit-2511-Lightning-4steps.safetensors",
        "Qwen-Rapid-AIO-SFW-v19.safetensors",
        "svdq-int4-qwen-image-edit-2509-lightningv2.0.safetensors",
        "z_image_turbo_bf16.safetensors",
        "QwenImageTurbo.safetensors",
        "sdxl_4step.safetensors",
        "mix\\my_8steps.gguf",
        "qwen_lcm.safetensors",
        "Hyper-SD-v1.safetensors",
        "Qwen_LightX2V.safetensors",
    ],
)
def test_fast_models_are_found_by_name(name):
    assert named_fast(["qwen_image_edit_2511_bf16.safetensors", name]) == name


def test_ordinary_names_are_not_fast():
    names = [
        "qwen_image_edit_2511_fp8mixed",
        "turbocharged_car.safetensors",
        "rapidly.safetensors",
        "hyperreal",
        "mira_1200steps",
        "turbo/mira.safetensors",
        "stepson_4",
    ]
    assert named_fast(names) is None
    assert named_fast([]) is None


# --- files that are no LoRA ---


def refused(path, error=MissingModelError):
    with pytest.raises(error) as caught:
        read_lora(path)
    sentence = str(caught.value)
    assert path.name in sentence and "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "empty"),
        (b"abc", "cut off"),
        (struct.pack("<Q", 500) + b'{"a"', "cut off inside its header"),
        (struct.pack("<Q", 2**63), "header of"),
        (struct.pack("<Q", 2) + b"[]", "not a safetensors"),
        (struct.pack("<Q", 4) + b"\xff\xfe{}", "not a safetensors"),
        (struct.pack("<Q", 50_000) + b"[" * 50_000, "not a safetensors"),
        (struct.pack("<Q", 11) + b'{"a": "bcd"', "not a safetensors"),
        (b"PK\x03\x04" + b"0" * 30, "pickle"),
        (b"\x80\x02}q" + b"0" * 30, "pickle"),
        (b"GGUF" + b"\x03" * 30, "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS"),
        (b"<!DOCTYPE html><html>login</html>", "web page"),
        (b'{"error":"Unauthorized","message":"login"}', "web page or a message"),
    ],
)
def test_files_that_are_not_safetensors_say_what_they_are(tmp_path, content, says):
    path = tmp_path / "mira.safetensors"
    path.write_bytes(content)
    assert says in refused(path)


@pytest.mark.parametrize(
    "entry",
    [
        3,
        {},
        {"shape": [2], "data_offsets": [0]},
        {"shape": [-1], "data_offsets": [0, 2]},
        {"shape": [True], "data_offsets": [0, 2]},
        {"shape": [1.5], "data_offsets": [0, 2]},
        {"shape": "22", "data_offsets": [0, 2]},
        {"shape": [2], "data_offsets": [0, -2]},
    ],
)
def test_broken_tensor_entries_are_refused(tmp_path, entry):
    raw = json.dumps({"transformer.a.lora_A.weight": entry}).encode()
    path = tmp_path / "mira.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    assert "not a safetensors" in refused(path)


def test_a_download_that_stopped_is_cut_off(tmp_path):
    path = write(tmp_path / "mira.safetensors", pairs(QWEN_BLOCK))
    with open(path, "r+b") as stream:
        stream.truncate(path.stat().st_size - 1)
    assert "cut off" in refused(path)


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path):
    assert "put it there" in refused(tmp_path / "gone.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    assert "cannot be read" in refused(tmp_path / "folder.safetensors")


@pytest.mark.parametrize("name", ["mira.pt", "mira.ckpt", "mira.PTH", "pytorch_lora_weights.bin"])
def test_pickles_are_sent_to_conversion_unopened(tmp_path, name):
    assert "convert it to .safetensors" in refused(tmp_path / name, InputError)


@pytest.mark.parametrize(
    "tensors, label",
    [
        ({"model.diffusion_model.transformer_blocks.0.attn.to_q.weight": (3072, 3072)}, "a whole model of 18.9 MB"),
        ({"transformer_blocks.0.img_mod.1.weight": (18432, 3072), "transformer_blocks.0.img_mod.1.alpha": ()}, "a whole model"),
        ({"double_blocks.0.img_attn.qkv.weight": (9, 9)}, "a whole model"),
        ({"model.layers.0.self_attn.q_proj.weight": (3584, 3584)}, "a text encoder"),
        ({"encoder.block.0.layer.0.SelfAttention.q.weight": (9, 9)}, "a text encoder"),
        ({"decoder.conv_in.weight": (9, 9)}, "a VAE"),
        ({"controlnet_blocks.0.weight": (9, 9)}, "a ControlNet"),
        ({"image_proj.proj.weight": (9, 9)}, "an IP-Adapter"),
        ({"emb_params": (9, 9)}, "an embedding"),
        ({"something.weight": (9, 9)}, "holds 1 tensors and none of a LoRA"),
        ({}, "holds 0 tensors"),
    ],
)
def test_whole_models_and_their_parts_are_no_lora(tmp_path, tensors, label):
    assert label in refused(write(tmp_path / "file.safetensors", tensors), InputError)


def test_any_header_gives_a_result_or_one_sentence(tmp_path):
    pytest.importorskip("hypothesis")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    words = st.sampled_from(
        ["transformer_blocks", "0", "59", "attn", "to_q", "lora_A", "lora_B", "weight", "lokr_w1", "diff", "alpha", "dora_scale", "default", "lora_unet_x", ""]
    )
    names = st.one_of(st.text(max_size=20), st.lists(words, max_size=7).map(".".join), st.just("__metadata__"))
    numbers = st.one_of(st.integers(-1, 3), st.integers(), st.floats(), st.booleans())
    values = st.recursive(
        st.one_of(st.none(), numbers, st.text(max_size=30)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)),
        max_leaves=8,
    )
    entries = st.one_of(values, st.fixed_dictionaries({"shape": st.lists(st.integers(0, 3), max_size=3), "data_offsets": st.just([0, 0])}))
    keys = st.sampled_from(
        ["modelspec.trigger_phrase", "modelspec.title", "ss_tag_frequency", "ss_dataset_dirs", "software", "modelspec.usage_hint", "ss_output_name"]
    )
    metadata = st.dictionaries(keys, st.one_of(values, values.map(json.dumps), st.text()), max_size=5)
    headers = st.builds(lambda header, meta: json.dumps({**header, "__metadata__": meta}).encode(), st.dictionaries(names, entries, max_size=5), metadata)
    framed = st.one_of(headers, headers.map(lambda raw: raw[:-1]), st.binary(max_size=60)).map(lambda raw: struct.pack("<Q", len(raw)) + raw)

    @settings(max_examples=400)
    @given(st.one_of(st.binary(max_size=80), framed))
    def check(content):
        path = tmp_path / "any.safetensors"
        path.write_bytes(content)
        try:
            found = read_lora(path)
        except LikenessError as error:
            assert "\n" not in str(error)
        else:
            assert all(trigger and trigger.isprintable() for trigger in found.triggers)
            json.dumps(lora_report([Applied(found, 1.0, "style", effective_trigger(found, ""))], [0])).encode("ascii")

    check()


# --- warnings ---


def a_lora(path="mira.safetensors", **changes):
    facts = {"family": "Qwen-Image", "kind": "LoRA", "dora": False, "ranks": (16,), "layers": 840} | changes
    return LoraFile(name=path, path=Path(path), **facts)


def used(lora, role="character", strength=1.0):
    return Applied(lora, strength, role, "")


LIGHTNING = a_lora("Qwen-Image-Edit-2511-Lightning-4steps.safetensors", speed=4, base="edit 2511")


def test_a_fitting_lora_gets_no_warning():
    assert warnings_for(a_lora(), 840, "edit 2511", [used(LIGHTNING, "speed")]) == []
    assert warnings_for(used(LIGHTNING, "speed"), 840, "edit 2511", [used(a_lora())]) == []
    assert warnings_for(a_lora(family="unknown"), 840) == []


@pytest.mark.parametrize(
    "lora, matched, says",
    [
        (a_lora(family="Flux"), 0, "mira.safetensors matches nothing in this model: it is a Flux LoRA, it has no effect."),
        (a_lora(family="SDXL"), 0, "it is an SDXL LoRA"),
        (a_lora(family="unknown"), 0, "the model has none of its 840 layers"),
        (a_lora(layers=0, text_layers=9), 0, "text encoder only"),
        (a_lora(family="Flux"), 840, "is a Flux LoRA, not one for Qwen-Image"),
        (a_lora(), 839, "839 of its 840 layers"),
        (a_lora(text_layers=12), 840, "12 layers of a text encoder"),
    ],
)
def test_what_does_not_match_the_model_is_said(lora, matched, says):
    (warning,) = warnings_for(lora, matched, "edit 2511")
    assert says in warning


@pytest.mark.parametrize(
    "base, model_kind, says",
    [
        ("edit 2511", "text to image", "blurs"),
        ("edit", "text to image", "blurs"),
        ("edit 2509", "edit 2511", "for edit 2509, and the model is edit 2511"),
        ("edit 2511", "edit 2509", "for edit 2511, and the model is edit 2509"),
        ("edit", "edit 2511", "the first Qwen-Image-Edit"),
        ("image", "edit 2511", "for text to image, and the model is edit 2511"),
        ("image 2512", "edit 2509", "for text to image"),
        ("image", "text to image", None),
        ("image 2512", "text to image", None),
        ("edit 2511", "edit 2511", None),
        ("edit 2511", None, None),
        (None, "edit 2511", None),
    ],
)
def test_a_speed_lora_for_another_base_is_told(base, model_kind, says):
    warnings = warnings_for(a_lora(speed=4, base=base), 840, model_kind)
    assert [says in warning for warning in warnings] == ([True] if says else [])
    assert warnings_for(a_lora(base=base), 840, model_kind) == []


def test_role_and_strength_are_judged():
    assert "neither its name nor its metadata" in warnings_for(used(a_lora(), "speed"), 840)[0]
    assert "named like a speed LoRA but has the role style" in warnings_for(used(LIGHTNING, "style"), 840)[0]
    assert "strength 0" in warnings_for(used(a_lora(), strength=0.0), 840)[0]
    assert warnings_for(used(a_lora(), strength=-0.5), 840) == []


def test_two_speed_loras_and_the_same_file_twice_are_told_at_the_later_one():
    slow = a_lora("Qwen-Image-Lightning-8steps.safetensors", speed=8)
    assert "keep one" in warnings_for(slow, 840, None, [used(LIGHTNING, "speed")])[0]
    (twice,) = warnings_for(used(LIGHTNING, "speed"), 840, None, [used(LIGHTNING, "speed")])
    assert "twice" in twice
    assert warnings_for(a_lora("sub/mira.safetensors"), 840, None, [used(a_lora("mira.safetensors"))]) == []


def test_what_has_strength_0_adds_nothing_up():
    off = used(LIGHTNING, "speed", 0.0)
    eight = a_lora("Qwen-Image-Lightning-8steps.safetensors", speed=8)
    assert warnings_for(used(LIGHTNING, "speed"), 840, "edit 2511", [off]) == []
    assert warnings_for(used(eight, "speed"), 840, None, [off]) == []
    (only,) = warnings_for(off, 840, "edit 2509", [used(LIGHTNING, "speed"), used(eight, "speed")])
    assert "has strength 0" in only


def test_order_is_spoken_of_once_and_only_for_a_dora():
    plain, other, dora = a_lora("a"), a_lora("b"), a_lora("d", dora=True, kind="DoRA")

    def said(*stack):
        return ["order" in " ".join(row["warnings"]) for row in lora_report([used(item) for item in stack], [840] * len(stack))["loras"]]

    assert said(dora) == [False]
    assert said(plain, other) == [False, False]
    assert said(dora, plain, other) == [False, True, False]
    assert said(plain, dora, other) == [False, True, False]


def test_the_report_is_plain_data_in_the_order_of_the_stack(lora):
    mira = lora(**{"modelspec.trigger_phrase": "mira"})
    report = lora_report([Applied(mira, 0.8, ROLES[0], "mira"), used(LIGHTNING, "speed")], [4, 0], "text to image")
    first, second = json.loads(json.dumps(report))["loras"]
    assert first == {
        "file": "mira.safetensors",
        "role": "character",
        "strength": 0.8,
        "trigger": "mira",
        "family": "Qwen-Image",
        "kind": "LoRA",
        "rank": "4",
        "layers": 4,
        "speed": None,
        "base": None,
        "trainer": None,
        "matched": 4,
        "warnings": [],
    }
    assert [sentence.split()[1] for sentence in second["warnings"]] == ["matches", "is"]


# --- what LoRAs mean for a scene ---

LIGHTNING_2509 = a_lora("Qwen-Image-Edit-2509-Lightning-4steps.safetensors", speed=4, base="edit 2509")
EIGHT_STEPS = a_lora("Qwen-Image-Edit-2511-Lightning-8steps.safetensors", speed=8, base="edit 2511")


def speed(preset="fast", kind="edit 2511", models=(), loras=(), stack=(), typed=None):
    """The notes of a scene; typed: the LoRA in speed_lora."""
    applied = None if typed is None else used(typed, "speed")
    return speed_notes(preset, settings(kind, preset), kind, Upstream(tuple(models), tuple(loras)), tuple(stack), applied)


def test_one_speed_lora_for_the_model_is_enough_wherever_it_comes_from():
    assert speed(typed=LIGHTNING) == speed(loras=[LIGHTNING.name]) == speed(stack=[used(LIGHTNING, "speed")], loras=[LIGHTNING.name]) == []
    assert speed(models=["Qwen-Rapid-AIO-v9.safetensors"]) == []
    # Named after nothing, but given the role.
    assert speed(stack=[used(a_lora("quick.safetensors"), "speed")], loras=["quick.safetensors"]) == []


def test_without_a_speed_lora_preset_fast_says_so_and_one_of_strength_0_is_none():
    (told,) = speed()
    assert "neither a Lightning LoRA nor a merged Lightning model is seen" in told
    assert speed(stack=[used(LIGHTNING, "speed", 0.0)], loras=[LIGHTNING.name]) == [told]


def test_speed_loras_of_two_loaders_are_told():
    both = f"{LIGHTNING.name}, which another loader puts on the model, and {EIGHT_STEPS.name} are both speed LoRAs, which together overshoot: keep one."
    twice = f"{LIGHTNING.name} is put on the model by another loader, too: the strengths add up, keep one."
    assert both in speed(loras=[LIGHTNING.name], typed=EIGHT_STEPS)
    assert both in speed(loras=[EIGHT_STEPS.name, LIGHTNING.name], stack=[used(EIGHT_STEPS, "speed")])
    assert speed(loras=[LIGHTNING.name], typed=LIGHTNING) == [twice]
    assert speed(loras=[LIGHTNING.name, LIGHTNING.name], stack=[used(LIGHTNING, "speed")]) == [twice]
    assert speed(loras=[LIGHTNING.name, LIGHTNING.name]) == [twice]


def test_two_speed_loras_of_the_stack_are_told_and_with_speed_lora_only_by_its_own_warnings():
    stack = [used(LIGHTNING, "speed"), used(a_lora("Qwen-Edit-2511-Turbo.safetensors", speed=0), "speed")]
    assert "both speed LoRAs" in speed(stack=stack, loras=[one.lora.name for one in stack])[0]
    assert speed(stack=stack[:1], loras=[LIGHTNING.name], typed=stack[1].lora) == []


@pytest.mark.parametrize("by", ["loader", "stack"])
def test_a_speed_lora_for_another_model_is_told_with_the_kind_that_the_scene_found(by):
    stack = [used(LIGHTNING_2509, "speed")] if by == "stack" else []
    told = speed(loras=[LIGHTNING_2509.name], stack=stack)
    assert told == [f"{LIGHTNING_2509.name} is a speed LoRA for edit 2509, and the model is edit 2511: use the one for the same model."]
    assert speed(kind="edit 2509", loras=[LIGHTNING_2509.name], stack=stack) == []
    assert "blurs" in speed(kind="text to image", loras=[LIGHTNING_2509.name], stack=stack)[0]


def test_fewer_steps_than_a_speed_lora_is_made_for_are_told():
    told = [
        f"{EIGHT_STEPS.name} is made for 8 steps; with 4 pictures look unfinished: take one for 4 steps, or preset custom with 8 steps at cfg 1.",
    ]
    assert speed(typed=EIGHT_STEPS) == speed(loras=[EIGHT_STEPS.name]) == speed(stack=[used(EIGHT_STEPS, "speed")], loras=[EIGHT_STEPS.name]) == told


def test_a_speed_lora_with_many_steps_and_on_a_merged_model_is_told():
    (harsh,) = speed("balanced", loras=[LIGHTNING.name])
    assert harsh == f"{LIGHTNING.name} is made for few steps at cfg 1; with 20 steps at cfg 4 pictures turn out harsh: take preset fast."
    assert speed("balanced", stack=[used(LIGHTNING, "speed", 0.0)], loras=[LIGHTNING.name]) == []
    merged = "Qwen-Rapid-AIO-v9.safetensors"
    assert speed(models=[merged], typed=LIGHTNING) == [
        f"{merged} already holds a speed LoRA by its name: with {LIGHTNING.name} on top pictures get grid lines; set speed_lora to none."
    ]
    assert speed(models=[merged], loras=[LIGHTNING.name])[0].endswith("leave it out.")


def test_a_name_alone_tells_speed_and_base():
    assert told_by_name("qwen/Qwen-Image-Edit-2511-Lightning-8steps-V1.0.safetensors") == (8, "edit 2511")
    assert told_by_name("lightning\\mira_character.safetensors") == (None, None)


class Prompt(dict):
    """Nodes by id, as the host's dynprompt has them."""

    has_node, get_node = dict.__contains__, dict.__getitem__


def upstream(**inputs):
    """Of a scene behind a node with those inputs, behind a loader."""
    nodes = {"loader": {"unet_name": "qwen\\edit_2511.gguf"}, "between": {"model": ["loader", 0], **inputs}, "scene": {"model": ["between", 0]}}
    return files_upstream(Prompt({name: {"inputs": inputs} for name, inputs in nodes.items()}), "scene", "model")


def test_files_are_found_upstream_by_the_inputs_that_name_them():
    assert upstream(lora_name="speed/fast.safetensors", strength_model=1.0) == Upstream(("edit_2511.gguf",), ("fast.safetensors",))
    assert upstream(lora_01="fast.safetensors", note="nothing.txt", seed=3).loras == ("fast.safetensors",)
    assert upstream(lora_name="fast.safetensors", strength_model=0).loras == ()
    assert upstream(lora_name="fast.safetensors", strength_model=["number", 0]).loras == ("fast.safetensors",)
    assert files_upstream(None, "scene", "model") == Upstream()


def test_only_what_brings_a_model_is_followed_upstream():
    """As in LoRA sweep.json: the Character LoRA of the scene gets its file from a sweep, which has a model of its own."""
    nodes = {
        "loader": {"unet_name": "qwen_image_2512.safetensors"},
        "fast": {"model": ["loader", 0], "lora_name": "2512-Lightning-4steps.safetensors", "strength_model": 1.0},
        "texts": {"clip_name": "qwen_2.5_vl.safetensors"},
        "sweep": {"model": ["fast", 0], "clip": ["texts", 0], "checkpoints": "mira.safetensors\n2511-Lightning-4steps.safetensors"},
        "own": {"model": ["stack", 0], "lora": ["sweep", 2], "strength": ["sweep", 3], "trigger": ["sweep", 6]},
        "stack": {"model": ["loader", 0], "clip": ["texts", 0], "lora_stack": ["stacker", 0], "vae_name": "qwen_image_vae.safetensors"},
        "stacker": {"lora_name_1": "a.safetensors", "lora_stack": ["before", 0]},
        "before": {"lora_name_1": "b.safetensors"},
        "scene": {"model": ["own", 0], "clip": ["texts", 0]},
    }
    found = files_upstream(Prompt({name: {"inputs": inputs} for name, inputs in nodes.items()}), "scene", "model")
    assert found == Upstream(("qwen_image_2512.safetensors",), ("a.safetensors", "b.safetensors"))


def test_what_a_stacker_has_switched_off_is_not_on_the_model():
    assert upstream(lora_name_1="a.safetensors", strength_1=0, lora_name_2="b.safetensors", strength_2=0.5).loras == ("b.safetensors",)
    assert upstream(lora_name_1="a.safetensors", switch_1="Off", lora_name_2="b.safetensors", switch_2="On", model_weight_2=1.0).loras == ("b.safetensors",)
    assert upstream(lora_name_1="a.safetensors", lora_name_2="b.safetensors", lora_count=1).loras == ("a.safetensors",)
    assert upstream(lora_name_1="a.safetensors", model_str_1=0.7, clip_str_1=0).loras == ("a.safetensors",)


def test_the_example_workflows_name_no_lora_that_is_not_on_the_scenes_model():
    seen = 0
    for path in sorted((ROOT / "example_workflows" / "api").glob("*.json")):
        graph = json.loads(path.read_text(encoding="utf-8"))
        nodes = graph if all(isinstance(node, dict) and "class_type" in node for node in graph.values()) else graph.get("prompt", {})
        for name, node in nodes.items():
            if node["class_type"] == "LikenessQwenScene":
                found = files_upstream(Prompt(nodes), name, "model")
                seen += 1
                assert len(found.models) == 1 and not any("vae" in one for one in found.models), (path.name, found)
                assert sum("Lightning" in one for one in found.loras) <= 1, (path.name, found)
    assert seen >= 5


def test_the_rows_of_power_lora_loader_are_read():
    row = {"on": True, "lora": "speed/fast.safetensors", "strength": 1.0}
    rows = {"lora_1": row, "lora_2": row | {"on": False, "lora": "off.safetensors"}, "lora_3": row | {"strength": 0, "lora": "zero.safetensors"}}
    assert upstream(**rows, lora_4=row | {"lora": "None"}, PowerLoraLoaderHeaderWidget={"type": "header"}).loras == ("fast.safetensors",)


ANGLES_2511 = a_lora("angles_2511.safetensors", base="edit 2511")
ANGLES_2509 = a_lora("angles_2509.safetensors", base="edit 2509")
ANGLES = a_lora("my_angles.safetensors")


def angled(lora, strength=1.0, model_kind=None):
    return Applied(lora, strength, "angle", "", 840, model_kind)


def test_the_words_of_an_angle_lora_are_those_of_its_file_else_of_its_model():
    assert angle_vocabulary_of([angled(ANGLES_2511, model_kind="edit 2509")]) == ("2511 angle LoRA", [])
    assert angle_vocabulary_of([angled(ANGLES_2509)]) == ("2509 angle LoRA", [])
    assert angle_vocabulary_of([angled(ANGLES, model_kind="edit 2511")]) == ("2511 angle LoRA", [])
    assert angle_vocabulary_of([angled(a_lora("edit.safetensors", base="edit"), model_kind="edit 2509")]) == ("2509 angle LoRA", [])
    assert angle_vocabulary_of([]) == angle_vocabulary_of([used(ANGLES_2511)]) == ("plain words", [])


def test_an_angle_lora_of_which_nobody_knows_the_words_is_told():
    told = [
        "my_angles.safetensors is an angle LoRA, but neither its file nor the model tells whose words it understands: choose angle_vocabulary of Shot List."
    ]
    assert angle_vocabulary_of([angled(ANGLES)]) == ("plain words", told)
    assert angle_notes([angled(ANGLES)], ["back view"], None) == angle_notes([angled(ANGLES)], ["back view"], "text to image") == told
    assert angle_notes([angled(ANGLES)], ["<sks> back view eye-level shot medium shot. A street"], None) == []


def test_an_angle_lora_of_strength_0_has_no_words():
    off = [angled(ANGLES_2511, 0.0), angled(ANGLES, 0.0)]
    assert angle_vocabulary_of(off) == ("plain words", []) and angle_notes(off, ["back view"], "edit 2511") == []


def test_an_angle_lora_that_never_meets_its_words_is_told_with_those_of_the_model():
    plain, sks = ["sits, back view"], ["sits", "<sks> back view eye-level shot medium shot. sits"]
    (told,) = angle_notes([angled(ANGLES)], plain, "edit 2511")
    assert (
        told
        == "my_angles.safetensors is an angle LoRA, but no prompt turns the camera in its words: in Shot List set angle_vocabulary to `2511 angle LoRA`, and angles."
    )
    assert angle_notes([angled(ANGLES)], sks, "edit 2511") == []
    for turned in ("将镜头向左旋转45度", "Rotate the camera 45 degrees to the left.", "sits, move the camera down"):
        assert angle_notes([angled(ANGLES_2509)], [turned], "edit 2511") == []
    assert "`2509 angle LoRA`" in angle_notes([angled(ANGLES_2509)], sks, "edit 2511")[0]
