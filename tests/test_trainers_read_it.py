"""Our datasets, read by the trainers' own code: pictures, captions, repeats, buckets, controls, samples, and the keys that it reads at all.

Each trainer's checkout is looked for at AI_TOOLKIT_ROOT, MUSUBI_ROOT or SD_SCRIPTS_ROOT, else below ~/comfy/peers. Its code runs in a process of its
own (tests/trainers/read_*.py), since it brings packages and import habits with it; a package that it needs and that is absent skips the tests.
"""

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from character_likeness.nodes.lora_dataset.recipes import PRESETS, VRAM, calculate
from character_likeness.nodes.lora_dataset.trainers import PAIRED_EDIT
from character_likeness.nodes.lora_dataset.trainers.known_keys import known_keys
from tests.conftest import ROOT
from tests.trainers.jobs import PAIRS, job_of, lay_out, small_dataset

pytestmark = pytest.mark.trainers

CHECKOUTS = {
    "ai-toolkit": ("AI_TOOLKIT_ROOT", "toolkit/config_modules.py"),
    "musubi-tuner": ("MUSUBI_ROOT", "src/musubi_tuner/dataset/config_utils.py"),
    "sd-scripts": ("SD_SCRIPTS_ROOT", "library/config_util.py"),
}
LARGE = ((1800, 1000), (1024, 1024), (1040, 1560))
HOSTILE = {
    "first": "alina, \"quoted\" and 'so', # no comment: a key: [a, b] {c} & *d !e | > % @ ` \\ \\n \\u0041",
    "first_2": "alina, costs ${HOME} and $PATH and ${NOT_SET_ANYWHERE} --w 512 --n ugly, {red|blue}",
    "second": "alina, émigré, 你好, 👩‍🚀, null, ~, 1e5, 2026-01-01, yes, <lora:x:1> (a:1.2)",
    "legs": "alina, " + "a long caption " * 700,
    "arm": "- alina, \t tab, [trigger] again",
    "left hand": "[datasets] x = 1",
}


def checkout(trainer: str) -> Path:
    variable, mark = CHECKOUTS[trainer]
    root = Path(os.environ.get(variable) or Path.home() / "comfy" / "peers" / trainer)
    if not (root / mark).is_file():
        pytest.skip(f"no {trainer} at {variable} or ~/comfy/peers/{trainer}")
    return root


def asked(trainer: str, verb: str, cases=None):
    """What the trainer's code answers; skips where it cannot be imported."""
    script = ROOT / "tests" / "trainers" / f"read_{trainer.replace('-', '_')}.py"
    # ${HOME} in a caption or prompt must stay what it is although the variable is set.
    done = subprocess.run(
        [sys.executable, str(script), verb, str(checkout(trainer))], input=json.dumps(cases), capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    if done.returncode and "ModuleNotFoundError" in done.stderr.splitlines()[-1]:
        pytest.skip(f"{trainer}'s code needs a package: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout)


def command_words(job, trainer) -> list[list[str]]:
    """The printed commands as a shell takes them, from the program on; the two variables that a user sets are paths here."""
    text = trainer.command(job)
    for variable in ("AI_TOOLKIT_ROOT", "MUSUBI_ROOT", "SD_SCRIPTS_ROOT", "MODELS"):
        while f"${{{variable}:?" in text:
            start = text.index(f"${{{variable}:?")
            text = text[:start] + f"/{variable.lower()}" + text[text.index("}", start) + 1 :]
    lines = [shlex.split(line) for line in text.splitlines()]
    return [line[next(n for n, word in enumerate(line) if word.endswith(".py")) :] for line in lines]


@dataclass(frozen=True)
class Case:
    name: str
    pair: tuple[str, str, str]
    job: object
    folder: Path
    words: list
    captions: dict

    @property
    def tight(self) -> bool:
        """Whether no picture is smaller than a bucket."""
        return set(self.job.size_of.values()) <= set(LARGE)


@cache
def cases_of(trainer: str, base: Path) -> tuple[Case, ...]:
    """Every pair, preset and amount of memory, written to disk; the hostile captions once for each pair, in relative and absolute folders."""
    made = []

    def add(pair, root, **options):
        folder = base / f"{trainer} {len(made)} #1 'q' \"Q\" = é👩‍🚀, {{x}}: y"
        name, job = job_of(*pair, root=str(folder / "data set") if root else "", **options)
        lay_out(folder / "data set" if root else folder, name, job)
        folder.mkdir(exist_ok=True)
        made.append(Case(f"{pair[1]}, {pair[2]}, {options}", pair, job, folder, command_words(job, name), dict(job.captions)))

    for pair in (pair for pair in PAIRS if pair[0] == trainer):
        control = pair[2] == PAIRED_EDIT
        add(pair, True, dataset=small_dataset(control, HOSTILE), prompts=(*list(HOSTILE.values())[:3], "[name] and [trigger] -- both"))
        for preset in PRESETS:
            for vram in VRAM:
                add(pair, False, preset=preset, vram=vram)
        large = small_dataset(control)
        add(pair, False, dataset=large, size_of={item.stem: LARGE[number % len(LARGE)] for number, item in enumerate(large.items)})
        if trainer == "ai-toolkit":
            add(pair, False, ema_decay=0.99)
    return tuple(made)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("read")


@cache
def seen_by(trainer: str, base: Path) -> tuple[tuple[Case, dict], ...]:
    cases = cases_of(trainer, base)
    inputs = {
        "ai-toolkit": lambda case: [str(case.folder), case.words[0][1]],
        "musubi-tuner": lambda case: [str(case.folder), case.words],
        "sd-scripts": lambda case: [str(case.folder), case.words[0]],
    }[trainer]
    return tuple(zip(cases, asked(trainer, "read", [inputs(case) for case in cases])))


def words_of(text: str) -> list[str]:
    """ai-toolkit splits a caption at its commas and puts a blank more behind each."""
    return text.split()


def assert_bucket(case: Case, bucket, size, step) -> None:
    """About a megapixel in the picture's own shape; a smaller picture keeps its size, but for what is less than a step."""
    width, height = bucket
    assert width % step == height % step == 0 and width * height <= 1024**2
    scale = min(1, 1024 / (size[0] * size[1]) ** 0.5)
    if scale == 1:
        assert abs(width - size[0]) < step and abs(height - size[1]) < step
    else:
        # What is cut off of the picture once it fills the bucket. sd-scripts cuts more where the dataset has small pictures too.
        fill = max(width / size[0], height / size[1])
        assert 1 - min(width / (size[0] * fill), height / (size[1] * fill)) < (0.05 if case.tight else 0.1)
        assert width * height > (0.9 if case.tight else 0.75) * 1024**2


def intended(case: Case) -> list[dict]:
    """What a trainer should see: for each bucket the pictures by their path as the command's folder knows it."""
    job = case.job
    return [
        {job.on_machine(plan.folder / f"{stem}{job.suffix}"): (case.captions[stem].replace("[trigger]", job.trigger), plan, stem) for stem in plan.stems}
        for plan in job.buckets
    ]


@pytest.mark.parametrize("trainer", CHECKOUTS)
def test_the_lists_of_keys_are_those_of_the_trainers_code(trainer):
    ours = known_keys(trainer)
    theirs = asked(trainer, "keys")
    changed = {
        section: {
            "no longer read": sorted(set(ours["sections"].get(section, ())) - set(keys)),
            "new": sorted(set(keys) - set(ours["sections"].get(section, ()))),
        }
        for section, keys in theirs.items()
        if set(keys) != set(ours["sections"].get(section, ()))
    }
    assert not changed and set(theirs) == set(ours["sections"]), f"{trainer} has changed since {ours['commit']} of {ours['date']}: {changed}"


def test_ai_toolkit_sees_pictures_captions_repeats_buckets_and_controls(base):
    for case, seen in seen_by("ai-toolkit", base):
        expected = intended(case)
        assert len(seen["datasets"]) == len(expected), case.name
        for dataset, pictures in zip(seen["datasets"], expected):
            assert set(dataset["pictures"]) == set(pictures), case.name
            assert dataset["resolution"] == 1024
            for path, (caption, plan, stem) in pictures.items():
                found = dataset["pictures"][path]
                assert words_of(found["caption"].replace(",", ", ")) == words_of(caption.replace(",", ", ")), case.name
                assert found["times"] == dataset["num_repeats"] == plan.repeats
                controls = [case.job.on_machine(plan.control_folder / f"{stem}.png")] if case.pair[2] == PAIRED_EDIT else []
                assert found["controls"] == controls
                assert_bucket(case, found["bucket"], case.job.size_of[stem], 32)
            assert dataset["batches"] == sum(plan.repeats for _, plan, _ in pictures.values())
        assert sum(dataset["batches"] for dataset in seen["datasets"]) == seen["train"]["steps"]


def test_ai_toolkit_trains_with_the_recipe(base):
    archs = {"Qwen-Image": "qwen_image", "Qwen-Image-2512": "qwen_image", "FLUX.1-dev": "flux"}
    known = (checkout("ai-toolkit") / "extensions_built_in/diffusion_models/qwen_image").glob("*.py")
    classes = "".join(path.read_text(encoding="utf-8") for path in known)
    assert 'arch = "qwen_image"' in classes and 'arch = "qwen_image_edit_plus"' in classes
    for case, seen in seen_by("ai-toolkit", base):
        recipe, sums, model = case.job.recipe, calculate(case.job), case.job.base_model
        assert seen["name"] == case.job.name and seen["type"] == "diffusion_trainer"
        assert seen["model"]["arch"] == ("qwen_image_edit_plus" if case.pair[2] == PAIRED_EDIT else archs.get(model.name, "qwen_image")), case.name
        assert seen["model"]["name_or_path"] == model.repository
        qtype, _, adapter = recipe.memory.get("model.qtype", "").partition("|")
        assert seen["model"]["quantize"] is recipe.memory["model.quantize"]
        if qtype:
            # With offloading it takes float8 for qfloat8; here only 3-bit weights are offloaded.
            assert (seen["model"]["qtype"], seen["model"]["accuracy_recovery_adapter"]) == (qtype, adapter or None)
        assert seen["model"]["layer_offloading"] is recipe.memory.get("model.layer_offloading", False)
        assert seen["network"] == ["lora", recipe.rank, recipe.alpha]
        train = seen["train"]
        assert (train["steps"], train["lr"], train["optimizer"]) == (sums.steps, recipe.learning_rate, "adamw8bit")
        assert train["gradient_accumulation"] == train["gradient_accumulation_steps"] == 1
        assert seen["save"] == [sums.save_every, len(sums.checkpoints)]
        assert seen["ema"] == ([True, 0.99] if recipe.ema_decay else [False, 0.999])
        first, highest, last = seen["rates"]
        assert first == highest == recipe.learning_rate
        assert last == highest if recipe.scheduler == "constant" else last < highest / 100


def test_ai_toolkit_takes_sample_prompts_as_they_stand(base):
    for case, seen in seen_by("ai-toolkit", base):
        assert [sample["control"] for sample in seen["samples"]] == [sample.control and case.job.on_machine(sample.control) for sample in case.job.samples]
        for made, sample in zip(seen["samples"], case.job.samples):
            assert (made["width"], made["height"], made["seed"]) == (1024, 1024, 42)
            assert made["prompt"] == sample.prompt.replace("--", "—").replace("[name]", "alina"), case.name
    hostile = seen_by("ai-toolkit", base)[0][1]["samples"]
    assert "${HOME}" in hostile[1]["prompt"] and hostile[3]["prompt"] == "alina and alina — both"


def test_musubi_tuner_sees_pictures_captions_repeats_buckets_and_controls(base):
    for case, seen in seen_by("musubi-tuner", base):
        expected = intended(case)
        assert len(seen["datasets"]) == len(expected), case.name
        assert len({dataset["cache"] for dataset in seen["datasets"]}) == len(expected)
        for dataset, pictures in zip(seen["datasets"], expected):
            assert set(dataset["pictures"]) == set(pictures), case.name
            for path, (caption, plan, stem) in pictures.items():
                found = dataset["pictures"][path]
                assert found["caption"] == caption.strip(), case.name
                assert dataset["repeats"] == plan.repeats
                assert_bucket(case, found["bucket"], case.job.size_of[stem], 16)
                if case.pair[2] == PAIRED_EDIT:
                    assert found["control_paths"] == [case.job.on_machine(plan.control_folder / f"{stem}.png")]
                    assert len(found["controls"]) == 1 and 0.9 * 1024**2 < found["controls"][0][0] * found["controls"][0][1] <= 1024**2
                else:
                    assert found["controls"] == [] and "control_paths" not in found
            assert dataset["items"] == sum(plan.repeats for _, plan, _ in pictures.values())
        assert sum(dataset["items"] for dataset in seen["datasets"]) == seen["train"]["max_train_steps"]
        version = {"Qwen-Image-Edit-2509": "edit-2509", "Qwen-Image-Edit-2511": "edit-2511"}.get(case.pair[1], "original")
        assert seen["versions"] == [version] * 3


@pytest.mark.parametrize("trainer", ["musubi-tuner", "sd-scripts"])
def test_kohyas_trainers_train_with_the_recipe(trainer, base):
    for case, seen in seen_by(trainer, base):
        recipe, sums, train = case.job.recipe, calculate(case.job), seen["train"]
        assert (train["network_dim"], train["network_alpha"], train["learning_rate"]) == (recipe.rank, recipe.alpha, recipe.learning_rate)
        assert (train["max_train_steps"], train["save_every_n_steps"], train["save_last_n_steps"]) == (sums.steps, sums.save_every, None)
        assert (train["optimizer_type"], train["output_name"], train["gradient_accumulation_steps"]) == ("adamw8bit", case.job.name, 1)
        for key in ("fp8_base", "fp8_scaled", "blocks_to_swap"):
            assert not train.get(key) if key not in recipe.memory else train[key] == recipe.memory[key], case.name
        assert importlib.util.find_spec("torch") and train["network_module"].startswith("networks.lora_")
        first, highest, last = seen["rates"]
        assert highest == recipe.learning_rate
        if recipe.scheduler == "cosine":
            assert first < highest / 2 and last < highest / 100
        else:
            assert first == last == highest


@pytest.mark.parametrize("trainer", ["musubi-tuner", "sd-scripts"])
def test_kohyas_trainers_take_sample_prompts_as_they_stand(trainer, base):
    for case, seen in seen_by(trainer, base):
        assert [prompt["prompt"] for prompt in seen["samples"]] == [sample.prompt for sample in case.job.samples]
        assert all((prompt["width"], prompt["height"], prompt["seed"]) == (1024, 1024, 42) for prompt in seen["samples"])
        controls = [[case.job.on_machine(sample.control)] if sample.control else None for sample in case.job.samples]
        assert [prompt.get("control_image_path") for prompt in seen["samples"]] == controls


def test_sd_scripts_sees_pictures_captions_repeats_and_buckets(base):
    for case, seen in seen_by("sd-scripts", base):
        expected = {path: one for pictures in intended(case) for path, one in pictures.items()}
        [dataset] = seen["datasets"]
        assert set(dataset["pictures"]) == set(expected), case.name
        for path, (caption, plan, stem) in expected.items():
            found = dataset["pictures"][path]
            assert found["caption"] == caption.strip(), case.name
            assert found["times"] == plan.repeats
            assert_bucket(case, found["bucket"], case.job.size_of[stem], 64)
        assert dataset["repeats"] == [plan.repeats for plan in case.job.buckets]
        assert dataset["batches"] == seen["train"]["max_train_steps"]


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[0] == "imagefolder"])
def test_hugging_faces_datasets_sees_pictures_captions_and_controls(pair, tmp_path):
    datasets = pytest.importorskip("datasets")
    control = pair[2] == PAIRED_EDIT
    trainer, job = job_of(*pair, small_dataset(control, HOSTILE), root=str(tmp_path / "data"))
    lay_out(tmp_path / "data", trainer, job)
    # What the export puts beside the pictures must not become rows.
    (tmp_path / "data" / "manifest.json").write_text("{}", encoding="utf-8")
    (tmp_path / "data" / "audit.md").write_text("# Audit", encoding="utf-8")
    Image.new("RGB", (64, 64)).save(tmp_path / "data" / "contact_sheet.png")
    seen = datasets.load_dataset(str(tmp_path / "data"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(seen) == len(job.captions)
    expected = [(plan, stem) for plan in job.buckets for stem in plan.stems]
    for row, (plan, stem) in zip(seen, expected):
        assert row["text"] == job.captions[stem].replace("[trigger]", job.trigger)
        assert (row["bucket"], row["repeats"]) == (plan.bucket.name, plan.repeats)
        assert row["image"].size == job.size_of[stem]
        assert (row["control"].size == job.size_of[stem][::-1]) if control else "control" not in row
