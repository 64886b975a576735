"""The example workflows of the rooms scene, flux and lora_dataset, run from end to end in a real ComfyUI on tiny files, in little pictures and few steps."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.browser.workflows import DATASET, DATASET_PLAN, TRIGGER
from tests.conftest import ROOT
from tests.host.reactor import absent, painted
from tests.host.scene_graphs import SCENE
from tests.tiny import qwen_models as files
from tests.tiny.drawn_faces import MIRA, portrait
from tests.tiny.reactor_models import SWAPPER

pytestmark = [pytest.mark.host, pytest.mark.dlib]

# comfy-cli makes of a workflow what the editor sends; tests/browser/test_editor.py has the editor itself do it.
convert_ui_to_api = pytest.importorskip("comfy_cli.workflow_to_api", reason="not installed: comfy-cli").convert_ui_to_api

FOLDER = ROOT / "example_workflows"
BYPASSED, MUTED, ALWAYS = 4, 2, 0
FOUR_STEPS = {"preset": "fast"}
TWO_STEPS = {name: value for name, value in SCENE.items() if name.startswith("preset")} | {"preset.steps": 2, "preset.cfg": 1.0}
QUICK = {"EmptySD3LatentImage": {"width": 128, "height": 128}, "KSampler": {"steps": 2}}
ANY_PICTURE = {"strictness": "custom", "threshold": -1.0, "no_face": "pass"}


@pytest.fixture(scope="module")
def sent(qwen):
    """What the editor would send for a workflow. lora: the file to choose in what is bypassed, which is then switched on; unmuted: with what is muted."""
    qwen.upload("example.png", np.ascontiguousarray(portrait(MIRA)))
    object_info = qwen.get("/object_info")

    def sent(name, lora=None, unmuted=False):
        workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        for node in workflow["nodes"]:
            if unmuted and node["mode"] == MUTED:
                node["mode"] = ALWAYS
            if lora and node["mode"] == BYPASSED:
                node["mode"], node["widgets_values"][0], node["widgets_values_named"]["lora"] = ALWAYS, lora, lora
        return convert_ui_to_api(workflow, object_info)

    return sent


@pytest.fixture(scope="module")
def run(qwen, sent):
    """Runs a workflow by its name. changes: input values by node type."""

    def run(name, lora=None, unmuted=False, **changes):
        prompt = sent(name, lora, unmuted)
        for node in prompt.values():
            node["inputs"] |= little(node) | changes.get(node["class_type"], {})
        ran = qwen.run(prompt)
        assert ran.error is None and ran.status == "success", ran.error
        return Ran(ran, prompt)

    return run


@pytest.fixture(scope="module")
def shots_of(qwen, sent):
    """The report of a workflow's Shot List, run alone. changes: input values."""

    def shots_of(name, **changes):
        (shots,) = (node for node in sent(name).values() if node["class_type"] == "LikenessShotList")
        shots["inputs"] |= changes
        report = {"class_type": "PreviewAny", "inputs": {"source": ["shots", 4]}}
        return json.loads(qwen.run({"shots": shots, "report": report}).texts("report")[0])

    return shots_of


def little(node: dict) -> dict:
    """What makes a node quick: a tenth of a megapixel, two steps, one take."""
    if node["class_type"] == "LikenessCharacterReferences" and node["inputs"]["policy"] == "scene":
        return {"policy": "custom megapixels", "megapixels": 0.1}
    if node["class_type"] != "LikenessQwenScene":
        return QUICK.get(node["class_type"], {})
    return TWO_STEPS | {"megapixels": 0.1, "max_takes": 1}


class Ran:
    def __init__(self, run, prompt: dict):
        self.run, self.prompt = run, prompt

    def id_of(self, title: str) -> str:
        """The node with a title; the editor's own name where it has none."""
        (found,) = (name for name, node in self.prompt.items() if node["_meta"]["title"] == title)
        return found

    def count(self, title: str) -> int:
        return len(self.run.images(self.id_of(title)))

    def pictures(self, title: str) -> list[np.ndarray]:
        return self.run.pictures(self.id_of(title))


# The tiny models draw noise, in which there is no face: what is gated is rejected, and the run is a good one.


def test_a_character_scene_takes_the_picture_again_and_shows_what_was_rejected(run):
    ran = run("Qwen character scene (2511)", LikenessQwenScene=FOUR_STEPS | {"max_takes": 2})
    assert (ran.count("Passed: saved"), ran.count("Rejected"), ran.count("Uncertain")) == (0, 1, 0)
    assert ran.pictures("Rejected")[0].shape == (384, 288, 3)


def test_a_character_scene_whose_gate_lets_everything_through_is_saved(run):
    ran = run("Qwen character scene (2511)", LikenessQwenScene=FOUR_STEPS | {"max_takes": 2}, LikenessIdentityGate=ANY_PICTURE)
    assert (ran.count("Passed: saved"), ran.count("Rejected")) == (1, 0)


def test_face_and_outfit_make_a_picture_with_2509(run):
    assert run("Qwen character scene (2509)").count("Saved") == 1


def test_many_shots_are_saved_as_they_are_made_and_gated_with_their_captions(run, qwen):
    folder = qwen.base / "output" / "likeness" / "many shots"
    ran = run("Qwen character scene, many shots", LikenessShotList={"limit": 2}, LikenessIdentityGate=ANY_PICTURE)
    assert ran.count("Passed: saved") == 2
    assert len(list(folder.glob("shot_*.png"))) == len(list(folder.glob("passed_*.png"))) == 2
    captions = ran.run.texts(ran.id_of("Captions that passed"))
    assert len(captions) == 2 and all(caption.startswith("my_character, ") for caption in captions)


def test_the_plan_of_many_shots_is_twelve_with_four_closeups_and_four_full_bodies(shots_of):
    report = shots_of("Qwen character scene, many shots")
    framings = [shot["framing"] for shot in report["shots"]]
    assert report["count"] == 12 and framings.count("closeup") >= 4 and framings.count("full body") >= 4 and report["notes"] == []


@pytest.mark.parametrize("lora", [None, files.CHARACTER_LORA])
def test_text_to_image_runs_with_the_lora_bypassed_and_with_one_chosen(run, lora):
    ran = run("Qwen 2512 + character LoRA", lora)
    assert ran.count("Saved") == 1
    assert ran.run.texts(ran.id_of("Likeness scores")) == ["-1.0"]
    assert any(node["class_type"] == "LikenessLora" for node in ran.prompt.values()) == bool(lora)


def test_the_angles_are_seven_in_the_words_of_the_lora(shots_of):
    prompts = [shot["prompt"] for shot in shots_of("Multiple angles (2511)")["shots"]]
    assert len(prompts) == 7 and all(prompt.startswith("<sks> ") for prompt in prompts)
    assert prompts[3] == "<sks> back view eye-level shot medium shot. The person of {picture:face} in the same clothes, light and place"


def test_angles_are_made_and_a_view_from_behind_is_not_judged(run):
    ran = run("Multiple angles (2511)", LikenessShotList={"angles": "right side\nback"})
    assert (ran.count("Passed: saved"), ran.count("Rejected")) == (1, 1)


def test_two_characters_are_made_and_judged_as_a_cast(run):
    ran = run("Two characters, one scene", LikenessShotList={"limit": 2})
    assert (ran.count("Passed: saved"), ran.count("Rejected")) == (0, 2)


def test_the_face_is_kept_and_the_rest_is_made_new(run):
    (made,) = run("Keep face, edit the rest").pictures("Saved")
    source = np.asarray(Image.fromarray(portrait(MIRA)).resize(made.shape[1::-1], Image.Resampling.BOX)).astype(int)
    different = np.abs(made.astype(int) - source).mean(axis=2)
    middle, side = made.shape[1] // 2, made.shape[0] // 2
    assert different[side - 20 : side + 20, middle - 15 : middle + 15].mean() < 4
    assert different[:40].mean() > 20


@pytest.mark.parametrize("lora", [None, files.CHARACTER_LORA])
def test_three_gated_edits_follow_each_other(run, lora):
    ran = run("Sequential edit, gated", lora, LikenessIdentityGate=ANY_PICTURE)
    assert [ran.count(title) for title in ("Passed step 1", "Passed step 2", "Passed step 3: saved")] == [1, 1, 1]


def test_steps_behind_a_gate_that_nothing_passes_do_not_run(run):
    ran = run("Sequential edit, gated")
    assert [ran.count(f"Rejected in step {step}") for step in (1, 2, 3)] == [1, 0, 0]
    assert [ran.count(title) for title in ("Passed step 1", "Passed step 2", "Passed step 3: saved")] == [0, 0, 0]


def test_a_picture_is_taken_again_with_the_next_seed_and_the_best_is_saved(run):
    ran = run("Retake until match", LikenessTakeEnd={"max_takes": 2})
    told = json.loads(ran.run.texts(ran.id_of("Takes: seeds and scores"))[0])
    assert told["verdict"] == "best of 2" and told["notes"] == []
    assert [take["seed"] for take in told["takes"]] == [1, 2]
    assert ran.count("Saved: the match, or the best") == 1


def test_flux_looks_at_the_reference_and_the_new_face_is_measured(flux, run):
    ran = run("Flux IP-Adapter face")
    (made,) = ran.pictures("Saved")
    assert made.shape == (128, 128, 3) and ran.count("Score and thresholds") == 1
    (said,) = (ran.run.texts(name)[0] for name, node in ran.prompt.items() if node["class_type"] == "LikenessApplyFluxIPAdapter")
    assert said.startswith("XLabs, 16 tokens; 1 picture; weight 0.8 from 0 to 1")
    (alone,) = run("Flux IP-Adapter face", LikenessApplyFluxIPAdapter={"weight": "custom", "weight.value": 0.0}).pictures("Saved")
    assert (made != alone).any()


# --- datasets: the folder that is written is looked at as a trainer sees it ---

RECOGNIZER = {"LikenessLoadRecognizer": {"recognizer": "dlib"}}


@pytest.fixture(scope="module")
def photographs(qwen, cast):
    """In the folder that the workflow reads: one person six times, twice with a caption, and once small in a large picture; another person; a broken file.

    Gives the name of a picture of the one.
    """
    from character_likeness.nodes.demo import altered

    folder = qwen.base / "input" / DATASET
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for i, picture in enumerate([cast[0], *altered(cast[0]).values()]):
        Image.fromarray(picture.pixels).save(folder / f"her {i}.png")
    (folder / "her 0.txt").write_text("closeup, brown jacket\n", encoding="utf-8")
    (folder / "her 1.txt").write_text(f"upper body, a photo of {TRIGGER}, smiling", encoding="utf-8")
    wide = Image.new("RGB", (1200, 1400), "#5a5a5a")
    wide.paste(Image.fromarray(cast[0].pixels).resize((700, 700)), (250, 80))
    wide.save(folder / "wide.png")
    (folder / "wide.txt").write_text("upper body, against a grey wall", encoding="utf-8")
    Image.fromarray(cast[3].pixels).save(folder / "other.jpg")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return qwen.upload("her_reference.png", cast[0].pixels)


def dataset_folder(qwen, name: str = DATASET):
    return qwen.base / "output" / "likeness" / "datasets" / name


def captions_of(folder) -> dict[str, str]:
    """Of the pictures in a bucket, by stem; each picture has one."""
    captions = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.txt")}
    assert sorted(captions) == sorted(path.stem for path in folder.glob("*.png"))
    return captions


def checked_config(folder) -> dict:
    """What ai-toolkit's config says of the run, which trains on 40_character alone."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    (process,) = config["config"]["process"]
    (bucket,) = process["datasets"]
    assert (bucket["folder_path"], bucket["num_repeats"], bucket["caption_ext"]) == ("40_character", 40, "txt")
    assert process["model"]["arch"] == "qwen_image:2512" and config["config"]["name"] == folder.name
    return process


def test_a_folder_becomes_a_dataset_without_a_model_and_without_a_stranger(run, qwen, photographs):
    before = {path: path.read_bytes() for path in (qwen.base / "input" / DATASET).iterdir()}
    ran = run("Dataset from a folder", LoadImage={"image": photographs}, **RECOGNIZER)
    folder = dataset_folder(qwen)
    captions = captions_of(folder / "40_character")
    assert sorted(captions) == [*(f"her {i}" for i in range(6)), "wide", "wide_face"]
    assert captions["her 0"].strip() == f"{TRIGGER}, closeup, brown jacket"
    assert captions["wide_face"].strip() == f"{TRIGGER}, closeup, against a grey wall"
    assert all(caption.split(",")[0].strip() == TRIGGER and caption.count(TRIGGER) == 1 for caption in captions.values())
    checked_config(folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {"other", "broken.png"} <= {entry[0] if isinstance(entry, list) else entry["name"] for entry in manifest["left_out"]}
    (report,) = ran.run.texts(ran.id_of("Report of the audit"))
    assert (folder / "report.md").read_text(encoding="utf-8").startswith(report.rstrip())
    (sheet,) = ran.pictures("Contact sheet, the worst first")
    assert (np.asarray(Image.open(folder / "contact_sheet.png")) == sheet).all()
    (told,) = ran.run.texts(ran.id_of("What was written, and the command to train"))
    assert told.splitlines()[0] == f"Written to {folder}" and told.splitlines()[2].endswith("config.yaml")
    assert {path: path.read_bytes() for path in (qwen.base / "input" / DATASET).iterdir()} == before


def test_running_the_folder_workflow_again_writes_what_changed_alone(run, qwen, photographs):
    run("Dataset from a folder", LoadImage={"image": photographs}, **RECOGNIZER)
    pictures = {path: path.stat().st_mtime_ns for path in (dataset_folder(qwen) / "40_character").glob("*.png")}
    own = dataset_folder(qwen) / "40_character" / "mine.txt"
    own.write_text("of the user")
    try:
        run("Dataset from a folder", LoadImage={"image": photographs}, LikenessCaptions={"trigger": "z0e"}, **RECOGNIZER)
        assert {path: path.stat().st_mtime_ns for path in pictures} == pictures
        assert (dataset_folder(qwen) / "40_character" / "her 0.txt").read_text(encoding="utf-8").startswith("z0e, ")
        assert own.read_text() == "of the user"
    finally:
        own.unlink()


def test_shots_become_a_dataset_with_the_captions_of_those_that_passed(run, shots_of, qwen):
    changes = {
        "LikenessShotList": {"limit": 3},
        "LikenessIdentityGate": ANY_PICTURE,
        "LikenessQwenScene": FOUR_STEPS,
        "LikenessDatasetExport": {"name": "made"},
    }
    ran = run("Character LoRA dataset", **changes)
    folder = dataset_folder(qwen, "made")
    captions = captions_of(folder / "40_character")
    assert sorted(captions) == [f"shot_{i:04}" for i in (1, 2, 3)]
    shots = shots_of("Character LoRA dataset", limit=3)["shots"]
    assert [captions[stem].strip() for stem in sorted(captions)] == [f"{TRIGGER}, {shot['caption']}" for shot in shots]
    # Qwen Character Scene saves as ComfyUI does, which cuts off what a dataset rounds.
    saved = sorted((qwen.base / "output" / "likeness" / DATASET).glob("shot_*.png"))
    for path, made in zip(sorted((folder / "40_character").glob("*.png")), saved, strict=True):
        assert np.abs(np.asarray(Image.open(path), int) - np.asarray(Image.open(made).convert("RGB"), int)).max() <= 1
    checked_config(folder)
    manifest = (folder / "manifest.json").read_text(encoding="utf-8")
    assert '"qwen_image_edit_2511_fp8mixed"' in manifest and '"synthetic": true' in manifest
    (report,) = ran.run.texts(ran.id_of("Report of the audit"))
    assert report.startswith("# Audit of the dataset")


def test_where_nothing_passes_the_gate_no_dataset_is_written(run, qwen):
    ran = run("Character LoRA dataset", LikenessShotList={"limit": 2}, LikenessQwenScene=FOUR_STEPS, LikenessDatasetExport={"name": "nobody"})
    assert ran.count("Rejected") == 2
    assert not dataset_folder(qwen, "nobody").exists()


def test_the_plan_of_the_character_lora_dataset_is_what_its_audit_asks_for(shots_of, sent):
    report = shots_of("Character LoRA dataset")
    framings = [shot["framing"] for shot in report["shots"]]
    assert report["count"] == 70 and framings.count("closeup") >= 20 and framings.count("full body") >= 30 and report["notes"] == []
    (audit,) = (node for node in sent("Character LoRA dataset").values() if node["class_type"] == "LikenessDatasetAudit")
    assert audit["inputs"]["plan"] == DATASET_PLAN


# --- the sweep, the comparison, and all of it in one ---

SWEEP = {"checkpoints": "flow/", "trigger": TRIGGER, "strengths": "0.4, 0.8", "prompts": "{trigger}, portrait", "width": 256, "height": 256, "steps": 2}


@pytest.fixture(scope="module")
def checkpoints(qwen):
    for step, shift in ((500, 0.0), (1000, 2.0)):
        files.write_shifting_lora(qwen.base / "models" / "loras" / "flow" / f"{TRIGGER}_{step:09}.safetensors", shift)


def test_the_sweep_shows_every_checkpoint_and_where_nothing_is_suggested_nothing_is_made_with_it(run, checkpoints):
    ran = run("LoRA sweep", LikenessLoraSweep=SWEEP)
    assert (ran.count("Grid: saved"), ran.count("Identity over the checkpoints"), ran.count("Saved")) == (1, 1, 0)
    rows = [line for line in ran.run.texts(ran.id_of("Table"))[0].splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 1 + 4


def test_the_sweep_without_a_folder_says_what_to_write(qwen, sent):
    assert qwen.run(sent("LoRA sweep")).error.startswith("No LoRA is named: write the folder of your checkpoints below models/loras")


@pytest.mark.parametrize("lora", [None, files.CHARACTER_LORA])
def test_methods_are_compared_without_the_one_that_is_not_installed(qwen, flux, sent, lora):
    prompt = sent("Compare methods", lora)
    for node in prompt.values():
        node["inputs"] |= little(node)
    (swap,) = (name for name, node in prompt.items() if node["class_type"] == "LikenessFaceSwap")
    del prompt[swap]
    (compare,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "LikenessCompareMethods")
    images = [compare.pop(f"images.image{i}") for i in range(4)]
    compare |= {f"images.image{i}": link for i, link in enumerate(images[:1] + images[2:])} | {"labels": "edit\nflux\nLoRA"}
    ran = Ran(qwen.run(prompt), prompt)
    assert ran.run.error is None and ran.count("Side by side: saved") == ran.count("Scores") == 1, ran.run.error
    rows = [line.split("|")[1].strip() for line in ran.run.texts(ran.id_of("Table"))[0].splitlines()]
    assert rows[2:] == ["edit", "flux", "LoRA"]


def test_the_flywheel_casts_shoots_and_writes_and_sweeps_when_it_is_unmuted(run, qwen, checkpoints):
    changes = {"LikenessShotList": {"limit": 2}, "LikenessIdentityGate": ANY_PICTURE, "LikenessDatasetExport": {"name": "flywheel"}}
    ran = run("Character flywheel", **changes)
    assert ran.count("Candidates: saved") == 2
    assert len(captions_of(dataset_folder(qwen, "flywheel") / "40_character")) == 2
    assert not any(node["class_type"] == "LikenessLoraSweep" for node in ran.prompt.values())
    again = run("Character flywheel", unmuted=True, **changes, LikenessLoraSweep=SWEEP)
    assert again.count("Grid: saved") == 1


# --- the face swap: what is made is replaced by a painted face, because the host with ReActor has no Qwen files ---

SWAPPED = ["Qwen 2512 + ReActor", "Qwen 2512 + ReActor (fast 4 steps)"]
HER, OTHER = 2, 4


@pytest.mark.parametrize("name", SWAPPED)
def test_without_reactor_a_swap_is_taken_and_ends_with_one_sentence(qwen, sent, name):
    prompt = sent(name)
    for node in prompt.values():
        node["inputs"] |= little(node)
    ran = qwen.run(prompt)
    assert ran.status == "error"
    assert ran.error == "Face Swap works through the pack ComfyUI-ReActor, which is not installed: install it with ComfyUI Manager and restart."


@pytest.mark.insightface
@pytest.mark.skipif(absent() is not None, reason=str(absent()))
@pytest.mark.parametrize("name", SWAPPED)
def test_with_reactor_the_face_is_swapped_and_passes_the_gate(reactor, judge, sent, name):
    reactor.upload("example.png", painted((HER, 100, 100, 400)))
    made = reactor.upload("made.png", painted((OTHER, 190, 190, 260)))
    prompt = sent(name)
    # The painted faces are known to buffalo_l alone.
    inputs = {"recognizer": "buffalo_l", "device": "auto"}
    prompt["recognizer"] = {"class_type": "LikenessLoadRecognizer", "inputs": inputs, "_meta": {"title": ""}}
    changes = {"LikenessBuildIdentity": {"recognizer": ["recognizer", 0]}, "LikenessFaceSwap": {"swap_model": SWAPPER}}
    for node in prompt.values():
        node["inputs"] |= changes.get(node["class_type"], {})
        if node["class_type"] == "LikenessQwenScene":
            node |= {"class_type": "LoadImage", "inputs": {"image": made}}
    ran = Ran(reactor.run(prompt), prompt)
    assert ran.run.error is None and ran.run.status == "success", ran.run.error
    assert (ran.count("Passed: saved"), ran.count("Rejected"), ran.count("Uncertain")) == (1, 0, 0)
    assert judge.people(ran.pictures("Before the swap")[0]) == [OTHER]
    assert judge.people(ran.pictures("Passed: saved")[0]) == [HER]


@pytest.mark.insightface
@pytest.mark.skipif(absent() is not None, reason=str(absent()))
def test_with_reactor_the_swap_is_compared_with_the_others(reactor, sent):
    reactor.upload("example.png", painted((HER, 100, 100, 400)))
    made = reactor.upload("made.png", painted((OTHER, 190, 190, 260)))
    prompt = sent("Compare methods")
    inputs = {"recognizer": "buffalo_l", "device": "auto"}
    prompt["recognizer"] = {"class_type": "LikenessLoadRecognizer", "inputs": inputs, "_meta": {"title": ""}}
    changes = {"LikenessBuildIdentity": {"recognizer": ["recognizer", 0]}, "LikenessFaceSwap": {"swap_model": SWAPPER}}
    for node in prompt.values():
        node["inputs"] |= changes.get(node["class_type"], {})
        if node["class_type"] in ("LikenessQwenScene", "VAEDecode"):
            node |= {"class_type": "LoadImage", "inputs": {"image": made}}
    ran = Ran(reactor.run(prompt), prompt)
    assert ran.run.error is None and ran.run.status == "success", ran.run.error
    rows = [[cell.strip() for cell in line.split("|")] for line in ran.run.texts(ran.id_of("Table"))[0].splitlines()]
    rate = rows[0].index("match rate")
    assert [(row[1], row[rate]) for row in rows[2:]] == [("Qwen edit", "0"), ("Qwen + ReActor", "1"), ("Flux IP-Adapter", "0"), ("character LoRA", "0")]
