"""What is written for each trainer: only keys that it reads, text that stays what it is, folders that do not mix, and what speaks against a job."""

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.lora_dataset import choices
from character_likeness.nodes.lora_dataset.dataset import ATTENTION, BLOCKED, BODY, BUCKETS, CHARACTER, Bucket, Dataset
from character_likeness.nodes.lora_dataset.recipes import PRESETS, VRAM
from character_likeness.nodes.lora_dataset.trainers import BASE_MODELS, MODES, TRAINERS, UnknownKeyError, pairs_table, supported
from character_likeness.nodes.lora_dataset.trainers.ai_toolkit import written
from character_likeness.nodes.lora_dataset.trainers.job import Sample
from character_likeness.nodes.lora_dataset.trainers.known_keys import checked_keys, known_keys
from tests.trainers.jobs import PAIRS, job_of, picture, sizes_of, small_dataset

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")
yaml = pytest.importorskip("yaml")
pytest.importorskip("tomli_w")

AI, MUSUBI, SD, FOLDER = TRAINERS
TRAINING = [pair for pair in PAIRS if pair[0] != FOLDER]
EDIT = "Qwen-Image-Edit-2511"


def test_what_the_nodes_offer_is_what_there_is():
    offered = (choices.TRAINERS, choices.BASE_MODELS, choices.RECIPES, choices.BUCKETS)
    assert offered == tuple(tuple(there) for there in (TRAINERS, BASE_MODELS, PRESETS, BUCKETS)) and choices.NORMAL_RATE in choices.LEARNING_RATES


def config_of(trainer, job) -> dict:
    """The process of ai-toolkit's YAML; dataset and arguments of the others' TOML."""
    files = {str(path): content.decode() for path, content in trainer.sidecars(job).items()}
    if trainer.name == AI:
        return yaml.safe_load(files["config.yaml"])["config"]["process"][0]
    return {"dataset": tomllib.loads(files["dataset.toml"]), **tomllib.loads(files["train.toml"]), "samples": json.loads(files["sample_prompts.json"])}


def rules(trainer, job) -> set[tuple[str, str]]:
    return {(finding.level, finding.rule) for finding in trainer.check(job)}


# --- pairs ---


def test_the_supported_pairs_are_these():
    for name, expected in {
        AI: {"Qwen-Image", "Qwen-Image-2512", "Qwen-Image-Edit-2509", "Qwen-Image-Edit-2511", "FLUX.1-dev"},
        MUSUBI: {"Qwen-Image", "Qwen-Image-2512", "Qwen-Image-Edit-2509", "Qwen-Image-Edit-2511"},
        SD: {"FLUX.1-dev"},
        FOLDER: set(BASE_MODELS),
    }.items():
        assert {model for model, _ in TRAINERS[name].pairs} == expected
        for model, mode in TRAINERS[name].pairs:
            assert (mode == "text to image") is not BASE_MODELS[model].edit


@pytest.mark.parametrize(
    "choice, words",
    [
        (
            (SD, "Qwen-Image", "text to image"),
            "sd-scripts cannot train Qwen-Image: it takes FLUX.1-dev; for Qwen-Image .* choose ai-toolkit, musubi-tuner, imagefolder",
        ),
        ((MUSUBI, "FLUX.1-dev", "text to image"), "musubi-tuner cannot train FLUX.1-dev: .* choose ai-toolkit, sd-scripts, imagefolder"),
        ((AI, EDIT, "text to image"), "choose 'paired edit' or 'edit as text to image'"),
        ((AI, "FLUX.1-dev", "paired edit"), "choose 'text to image'"),
        ((SD, "Qwen-Image", "paired edit"), "choose another mode"),
        (("OneTrainer", "Qwen-Image", "text to image"), "'OneTrainer' is no trainer known here; choose one of ai-toolkit"),
        ((AI, "SDXL", "text to image"), "'SDXL' is no base model"),
        ((AI, "Qwen-Image", "video"), "'video' is no mode"),
    ],
)
def test_a_pair_that_cannot_be_trained_is_refused_with_what_can(choice, words):
    with pytest.raises(InputError, match=words):
        supported(*choice)


def test_the_table_for_the_readme_names_every_pair():
    head, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in pairs_table().splitlines()]
    assert head == ["Base model", *TRAINERS] and set(rule) == {"---"}
    named = {(trainer, row[0], mode) for row in rows for trainer, cell in zip(TRAINERS, row[1:]) for mode in MODES if mode in cell.split(", ")}
    assert named == set(PAIRS)


# --- files ---


@pytest.mark.parametrize("pair", TRAINING)
def test_every_preset_and_memory_writes_known_keys_that_read_back(pair):
    for preset in PRESETS:
        for vram in VRAM:
            trainer, job = job_of(*pair, preset=preset, vram=vram)
            process = config_of(trainer, job)  # sidecars raise UnknownKeyError otherwise
            sections = known_keys(trainer.name)["sections"]
            if trainer.name == AI:
                assert set(process) <= set(sections["process"]) and set(process["train"]) <= set(sections["train"])
            else:
                assert set(process) - {"dataset", "samples"} <= set(sections["arguments"])


@pytest.mark.parametrize("pair", PAIRS)
def test_files_are_utf8_with_unix_line_ends_and_a_caption_beside_each_picture(pair):
    trainer, job = job_of(*pair)
    files = trainer.sidecars(job)
    assert trainer.config() in files
    for content in files.values():
        assert b"\r" not in content and not content.startswith(b"\xef\xbb\xbf") and content.decode()
    captions = {path: content.decode() for path, content in files.items() if path.suffix == ".txt"}
    if trainer.name != FOLDER:
        assert captions == {plan.folder / f"{stem}.txt": job.captions[stem] for plan in job.buckets for stem in plan.stems}
    assert files == trainer.sidecars(job)


@pytest.mark.parametrize("pair", PAIRS)
def test_no_picture_folder_lies_in_another_and_folders_have_the_guides_names(pair):
    trainer, job = job_of(*pair)
    assert [str(plan.folder) for plan in job.buckets] == ["40_character", "20_body", "3_hands"]
    folders = [folder for plan in job.buckets for folder in (plan.folder, plan.control_folder) if folder]
    assert len(set(folders)) == len(folders)
    assert not any(inner != outer and inner.is_relative_to(outer) for inner in folders for outer in folders)
    assert all((plan.control_folder is not None) == (pair[2] == "paired edit") for plan in job.buckets)
    # What a trainer keeps for itself lies in none of them, or is no picture.
    assert all(pattern.startswith("cache/") or not pattern.endswith((".png", ".jpg", ".webp")) for pattern in trainer.caches())


def test_buckets_named_like_other_folders_stay_apart():
    trainer, _ = supported(AI, "Qwen-Image", "text to image")
    buckets = [Bucket(name) for name in ("a", "40_a", "control_a", "cache", "output")]
    folders = {trainer.folder(bucket, 40) for bucket in buckets} | {trainer.control_folder(bucket, 40) for bucket in buckets}
    assert len(folders) == 2 * len(buckets) and PurePosixPath("cache") not in folders


@pytest.mark.parametrize(
    "root, first", [("", "40_character"), ("/workspace/alina", "/workspace/alina/40_character"), ("data/alina/", "data/alina/40_character")]
)
def test_paths_are_relative_to_the_folder_on_the_training_machine(root, first):
    trainer, job = job_of(AI, "Qwen-Image", "text to image", root=root)
    assert config_of(trainer, job)["datasets"][0]["folder_path"] == first
    trainer, job = job_of(MUSUBI, EDIT, "paired edit", root=root)
    made = config_of(trainer, job)
    assert made["dataset"]["datasets"][0]["image_directory"] == first
    assert made["dataset"]["datasets"][0]["control_directory"] == first.replace("40_character", "control_character")
    assert made["dataset_config"] == first.replace("40_character", "dataset.toml")


def test_ai_toolkit_gets_none_of_the_values_that_guides_get_wrong():
    trainer, job = job_of(AI, EDIT, "paired edit", preset="rank 32 cosine")
    process = config_of(trainer, job)
    assert [dataset["num_repeats"] for dataset in process["datasets"]] == [40, 20, 3]
    assert all(dataset["resolution"] == [1024] for dataset in process["datasets"])
    assert all(dataset["control_path"].endswith(("control_character", "control_body", "control_hands")) for dataset in process["datasets"])
    assert process["model"]["arch"] == "qwen_image_edit_plus:2511" and process["model"]["qtype"].startswith("uint3|ostris/")
    assert isinstance(process["train"]["optimizer"], str) and process["train"]["lr"] == 2e-4
    assert process["train"]["gradient_accumulation"] == 1 and "gradient_accumulation_steps" not in process["train"]
    assert process["train"]["lr_scheduler"] == "cosine" and process["train"]["lr_scheduler_params"] == {}
    assert process["save"]["max_step_saves_to_keep"] == 10
    assert all(sample["ctrl_img_1"].endswith(".png") for sample in process["sample"]["samples"])
    assert not {"is_qwen", "is_flux", "quantize_dtype"} & set(process["model"])


def test_edit_as_text_to_image_is_the_edit_models_weights_without_controls():
    trainer, job = job_of(AI, EDIT, "edit as text to image")
    process = config_of(trainer, job)
    assert process["model"]["arch"] == "qwen_image" and process["model"]["name_or_path"] == "Qwen/Qwen-Image-Edit-2511"
    assert "control_path" not in process["datasets"][0] and "ctrl_img_1" not in process["sample"]["samples"][0]
    trainer, job = job_of(MUSUBI, EDIT, "edit as text to image")
    made = config_of(trainer, job)
    assert made["model_version"] == "edit-2511" and "control_directory" not in made["dataset"]["datasets"][0]


@pytest.mark.parametrize("vram, qtype", [(24, "uint3|"), (32, "uint4|"), (48, "qfloat8"), (80, None)])
def test_ai_toolkits_precision_follows_the_memory(vram, qtype):
    trainer, job = job_of(AI, "Qwen-Image-2512", "text to image", vram=vram)
    model = config_of(trainer, job)["model"]
    assert model["quantize"] is (qtype is not None) and (qtype is None or model["qtype"].startswith(qtype))


def test_musubi_tuner_gets_buckets_a_cache_of_its_own_and_captions():
    trainer, job = job_of(MUSUBI, "Qwen-Image", "text to image", vram=24)
    made = config_of(trainer, job)
    assert made["dataset"]["general"] == {
        "resolution": [1024, 1024],
        "caption_extension": ".txt",
        "batch_size": 1,
        "enable_bucket": True,
        "bucket_no_upscale": True,
    }
    caches = [dataset["cache_directory"] for dataset in made["dataset"]["datasets"]]
    assert len(set(caches)) == 3 and all("/cache/" in cache for cache in caches)
    assert (made["fp8_base"], made["fp8_scaled"], made["network_module"]) == (True, True, "networks.lora_qwen_image") and made["blocks_to_swap"] > 16


def test_the_commands_hold_every_step_and_survive_a_shell():
    root = "/data/it's alina's; set $(x)".replace("$", "")
    for pair in TRAINING:
        trainer, job = job_of(*pair, root=root)
        lines = [shlex.split(line) for line in trainer.command(job).splitlines()]
        assert len(lines) == (3 if trainer.name == MUSUBI else 1)
        given_paths = [word for line in lines for word in line if word.startswith(root)]
        assert given_paths and set(map(PurePosixPath, given_paths)) <= {PurePosixPath(root) / path for path in trainer.sidecars(job)}
        flags = {word[2:] for word in lines[-1] if word.startswith("--")} - {"num_cpu_threads_per_process"}
        if trainer.name != AI:
            checked_keys(trainer.name, "arguments", flags)
    latents, texts, _ = (line.split() for line in trainer_line(MUSUBI).splitlines())
    checked_keys(MUSUBI, "cache_latents", [word[2:] for word in latents if word.startswith("--")])
    checked_keys(MUSUBI, "cache_text_encoder_outputs", [word[2:] for word in texts if word.startswith("--")])


def trainer_line(name: str) -> str:
    trainer, job = job_of(*next(pair for pair in TRAINING if pair[0] == name))
    return trainer.command(job)


def test_imagefolder_lists_every_picture_with_its_caption_and_control():
    trainer, job = job_of(FOLDER, EDIT, "paired edit")
    lines = [json.loads(line) for line in trainer.sidecars(job)[PurePosixPath("metadata.jsonl")].decode().splitlines()]
    assert len(lines) == 6
    assert lines[0] == {
        "file_name": "40_character/first.png",
        "control_file_name": "control_character/first.png",
        "text": "alina, portrait, in scene first",
        "bucket": "character",
        "repeats": 40,
    }


# --- text that would be taken for something else ---

AWKWARD = (
    "\"quoted\" 'single' # comment: key: [a, b] {c} & *d !e | > % @ ` \\ \\n",
    "${HOME} $PATH ${NOT_SET} \\${HOME} $${A} ${",
    "--w 512 --ctrl_img x.png -- --n ugly",
    "[trigger] [name] [datasets] x = 1",
    "null ~ yes 1e5 2026-01-01 0x10 1_000",
    "👩‍🚀 émigré 你好 \u2028 \u00a0",
    "x" * 10_000,
    "- a",
    "# a",
    "%YAML 1.1",
    "'''triple''' \"\"\"",
)
lines_of_text = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=80) | st.lists(st.sampled_from(AWKWARD), max_size=3).map(" ".join)


def expanded(text: str) -> str:
    """ai-toolkit's first step: a ${...} that is not set stops it (toolkit/config.py)."""
    assert not re.search(r"\$\{([^}]+)\}", text), "an environment variable would be put here"
    return text


@pytest.mark.parametrize("pair", TRAINING)
@settings(max_examples=25)
@given(prompt=lines_of_text, caption=lines_of_text, trigger=lines_of_text)
def test_prompts_captions_and_triggers_stay_what_they_are(pair, prompt, caption, trigger):
    dataset = small_dataset(pair[2] == "paired edit", {"first": caption}, trigger)
    trainer, job = job_of(*pair, dataset)
    job = replace(job, samples=(replace(job.samples[0], prompt=prompt),))
    files = trainer.sidecars(job)
    kept = caption.replace("[trigger]", trigger)
    meant = prompt.replace("[trigger]", trigger)
    if trainer.name == AI:
        expanded(files[PurePosixPath("config.yaml")].decode())
        sample = config_of(trainer, job)["sample"]["samples"][0]["prompt"]
        # A trigger that holds a placeholder itself is nobody's wish; the text still arrives whole.
        assert sample == re.sub("-{2,}", "—", meant.replace("[name]", trigger))
        kept = kept.replace("[name]", trigger)
        assert "--" not in sample
    else:
        assert config_of(trainer, job)["samples"][0]["prompt"] == meant
    assert files[job.buckets[0].folder / "first.txt"].decode() == kept


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_bucket_names_and_roots_read_back(text):
    if any(letter in text for letter in "$\\"):
        with pytest.raises(InputError, match="write it out in full"):
            job_of(AI, "Qwen-Image", "text to image", root=f"/data/{text}")
        return
    text = " ".join(text.split())  # one line
    for pair in TRAINING:
        trainer, job = job_of(*pair, root=f"/data/{text}/d")
        made = config_of(trainer, job)
        path = made["datasets"][0]["folder_path"] if trainer.name == AI else str(made["dataset"])
        assert (path == job.on_machine("40_character")) if trainer.name == AI else job.on_machine("dataset.toml") == made["dataset_config"]


def test_user_texts_that_look_like_numbers_stay_text():
    trainer, job = job_of(AI, "Qwen-Image", "text to image", name="1e5")
    assert yaml.safe_load(trainer.sidecars(job)[PurePosixPath("config.yaml")])["config"]["name"] == "1e5"
    assert b'name: "1e5"' in trainer.sidecars(job)[PurePosixPath("config.yaml")]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../a", "[name]", "a*", "${HOME}", "-rf", ".hidden", "alïna", "x" * 101, 'a"b', "a\nb"])
def test_a_name_that_a_trainer_would_misread_is_refused(name):
    with pytest.raises(InputError, match="cannot be the name of a training run"):
        job_of(AI, "Qwen-Image", "text to image", name=name)


@pytest.mark.parametrize("root", ["C:\\data\\alina", "~/alina", "/data/$USER", "${HOME}/alina", "a\nb"])
def test_a_root_that_no_trainer_expands_is_refused(root):
    with pytest.raises(InputError, match="cannot be the folder on the training machine"):
        job_of(AI, "Qwen-Image", "text to image", root=root)


def test_a_dataset_without_a_picture_makes_no_job():
    with pytest.raises(InputError, match="no picture to train on"):
        job_of(AI, "Qwen-Image", "text to image", Dataset(trigger="alina"))


# --- keys ---


@pytest.mark.parametrize(
    "section, key",
    [("", "is_qwen"), ("model", "quantize_dtype"), ("train", "learning_rate"), ("datasets", "repeats"), ("samples", "control"), ("save", "keep")],
)
def test_ai_toolkits_writer_refuses_a_key_that_it_does_not_read(section, key):
    trainer, job = job_of(AI, "Qwen-Image", "text to image", ema_decay=0.99)
    config = yaml.safe_load(trainer.sidecars(job)[PurePosixPath("config.yaml")])
    assert yaml.safe_load(written(config)) == config
    process = config["config"]["process"][0]
    {"": process, "datasets": process["datasets"][0], "samples": process["sample"]["samples"][0]}.get(section, process.get(section))[key] = 1
    with pytest.raises(UnknownKeyError, match=key):
        written(config)


@pytest.mark.parametrize("pair", [pair for pair in TRAINING if pair[0] != AI])
def test_kohyas_writers_refuse_a_setting_that_they_do_not_read(pair):
    trainer, job = job_of(*pair)
    job = replace(job, recipe=replace(job.recipe, memory={**job.recipe.memory, "quantize": True}))
    with pytest.raises(UnknownKeyError, match="quantize"):
        trainer.sidecars(job)


@pytest.mark.parametrize("trainer", [AI, MUSUBI, SD])
def test_the_lists_of_keys_say_which_code_they_are_from(trainer):
    keys = known_keys(trainer)
    assert keys["trainer"] == trainer and re.fullmatch("[0-9a-f]{7,40}", keys["commit"]) and re.fullmatch(r"20\d\d-\d\d-\d\d", keys["date"])
    assert all(names == sorted(set(names)) for names in keys["sections"].values())


# --- what speaks against a job ---


@pytest.mark.parametrize("pair", PAIRS)
def test_nothing_is_blocked_about_a_sound_job(pair):
    trainer, job = job_of(*pair)
    assert BLOCKED not in {level for level, _ in rules(trainer, job)}


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[2] == "paired edit"])
def test_paired_edit_without_a_control_is_blocked_and_says_which(pair):
    trainer, job = job_of(*pair, small_dataset(control=False))
    assert (BLOCKED, "no control") in rules(trainer, job)
    one = small_dataset(control=True)
    items = [replace(item, control=None) if item.stem == "legs" else item for item in one.items]
    trainer, job = job_of(*pair, one.with_items(items))
    [finding] = [finding for finding in trainer.check(job) if finding.rule == "no control"]
    assert "1 picture (legs) of 6" in finding.text and "edit as text to image" in finding.text


def test_a_sample_of_an_edit_model_without_a_control_is_blocked():
    trainer, job = job_of(AI, EDIT, "paired edit")
    job = replace(job, samples=(*job.samples, Sample("a stranger")))
    assert (BLOCKED, "no control") in rules(trainer, job)


def test_samples_that_are_captions_and_captions_with_placeholders_are_told():
    trainer, job = job_of(
        AI, "Qwen-Image", "text to image", small_dataset(captions={"first": "[trigger], Portrait"}), prompts=["alina, portrait, in scene second"]
    )
    found = rules(trainer, job)
    assert {(ATTENTION, "sample is a caption"), (ATTENTION, "placeholder")} <= found


def test_empty_captions_stop_sd_scripts_and_are_told_by_the_others():
    for name, level in ((AI, ATTENTION), (MUSUBI, ATTENTION), (SD, BLOCKED)):
        trainer, job = job_of(*next(pair for pair in PAIRS if pair[0] == name), small_dataset(captions={"first": " "}))
        assert (level, "no caption") in rules(trainer, job)


def test_pictures_below_the_resolution_are_told_and_those_below_a_bucket_blocked():
    dataset = Dataset((picture("large"), picture("tall"), picture("small"), picture("dot")), "alina")
    sizes = {"large": (1024, 1024), "tall": (700, 1500), "small": (800, 800), "dot": (3, 3)}
    trainer, job = job_of(SD, "FLUX.1-dev", "text to image", dataset, size_of=sizes)
    found = {finding.rule: finding.text for finding in trainer.check(job)}
    assert "1 picture (dot)" in found["too small"] and "2 pictures (small, dot) of 4" in found["below resolution"]
    job = replace(job, size_of={**sizes, "small": (1010, 1010), "dot": (2000, 2000)})
    assert not {"too small", "below resolution"} & {finding.rule for finding in trainer.check(job)}


def test_names_that_trainers_pass_over_or_take_for_patterns_are_blocked():
    trainer, job = job_of(AI, "Qwen-Image", "text to image", Dataset((picture(".a"),), "alina"))
    assert (BLOCKED, "hidden name") in rules(trainer, job)
    trainer, job = job_of(MUSUBI, "Qwen-Image", "text to image", root="/data/[v1]/alina")
    assert (BLOCKED, "path") in rules(trainer, job)
    trainer, job = job_of(AI, "Qwen-Image", "text to image", root="/data/[v1]/alina")
    assert (BLOCKED, "placeholder") not in rules(trainer, job)
    trainer, job = job_of(AI, "Qwen-Image", "text to image", root="/data/[name]/alina")
    assert (BLOCKED, "placeholder") in rules(trainer, job)


def test_what_ai_toolkit_would_change_in_texts_is_told():
    trainer, job = job_of(AI, "Qwen-Image", "text to image", small_dataset(captions={"legs": "alina, [name]"}), prompts=["alina -- in a wood", "alina"])
    assert {(ATTENTION, "placeholder"), (ATTENTION, "option")} <= rules(trainer, job)
    trainer, job = job_of(MUSUBI, "Qwen-Image", "text to image", small_dataset(captions={"legs": "alina, [name]"}), prompts=["alina -- in a wood"])
    assert not {(ATTENTION, "placeholder"), (ATTENTION, "option")} & rules(trainer, job)


def test_a_run_outside_the_usual_length_is_told():
    few = Dataset((picture("a"),), "alina")
    trainer, job = job_of(AI, "Qwen-Image", "text to image", few)
    assert (ATTENTION, "steps") in rules(trainer, job)
    trainer, job = job_of(AI, "Qwen-Image", "text to image", few, repeats="auto", target_steps=2000)
    assert (ATTENTION, "steps") not in rules(trainer, job) and job.buckets[0].repeats == 2000


def test_samples_take_turns_through_the_control_pictures():
    _, job = job_of(AI, EDIT, "paired edit")
    controls = [str(sample.control) for sample in job.samples]
    assert controls[:4] == ["control_character/first.png", "control_character/first_2.png", "control_character/second.png", "control_body/legs.png"]
    _, job = job_of(AI, EDIT, "edit as text to image", small_dataset(control=True))
    assert {sample.control for sample in job.samples} == {None} and all(not plan.controls for plan in job.buckets)


def test_repeats_are_chosen_by_policy():
    dataset = Dataset((picture("a"), picture("b", replace(BODY, repeats=7))), "alina")
    for policy, expected in (("guide", [40, 20]), ("per bucket", [40, 7]), ("auto", [100, 50])):
        _, job = job_of(AI, "Qwen-Image", "text to image", dataset, repeats=policy, target_steps=150, size_of=sizes_of(dataset))
        assert [plan.repeats for plan in job.buckets] == expected
        assert [str(plan.folder) for plan in job.buckets] == [f"{expected[0]}_{CHARACTER.name}", f"{expected[1]}_{BODY.name}"]
