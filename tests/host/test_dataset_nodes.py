"""The dataset nodes in a real ComfyUI on real photographs: gated, captioned, audited, exported; the same bytes as `likeness curate`; refused in a sentence."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import ROOT, comfyui_root
from tests.host.graphs import Graph
from tests.host.qwen_graphs import official_text_to_image

pytestmark = [pytest.mark.host, pytest.mark.dlib]

FOLDER = "likeness/datasets"
TRAINING = {"trainer": "ai-toolkit", "base_model": "Qwen-Image-2512", "mode": "text to image", "recipe": "character rank 16", "vram": "24", "repeats": "guide"}
EXPORT = {**TRAINING, "folder": FOLDER, "training_root": "", "dry_run": False}
STRICT = {"strictness": "standard", "threshold": 0.5}


@pytest.fixture(scope="module")
def photographs(comfy, cast):
    """A folder of mixed photographs in the host's input folder: the first person six times, two other people, a group, a broken file, a text."""
    from character_likeness.nodes import demo

    folder = comfy.base / "input" / "mixed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    person, other, group = cast[0], cast[3], cast[-1]
    for i, picture in enumerate([person, *demo.altered(person).values()]):
        Image.fromarray(picture.pixels).save(folder / f"mira {i}.png")
        (folder / f"mira {i}.txt").write_text(f"closeup, wearing a suit, day {i}\n")
    large = np.asarray(Image.fromarray(person.pixels).resize((700, 700)))
    canvas = np.full((1400, 1200, 3), 90, np.uint8)
    canvas[80:780, 250:950] = large
    Image.fromarray(canvas).save(folder / "wide.jpg", quality=95)
    Image.fromarray(other.pixels).save(folder / "other.webp", lossless=True)
    Image.fromarray(group.pixels).save(folder / "group.jpg", quality=95)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    Image.fromarray(group.pixels).save(folder / "half.jpg")
    (folder / "half.jpg").write_bytes((folder / "half.jpg").read_bytes()[:20000])
    (folder / "notes.md").write_text("not a picture")
    reference = comfy.upload("mira_reference.png", person.pixels)
    return folder, reference


class DatasetGraph(Graph):
    """Folder to export, as the example workflow has it; each step can be given other inputs."""

    def __init__(self, reference, name="mira", folder="mixed", **inputs):
        super().__init__()
        recognizer = self.add("recognizer", "LikenessLoadRecognizer", recognizer="dlib", device="auto").out(0)
        self.who = self.identity("Mira", self.picture("reference", reference), recognizer=recognizer)
        given = {"bucket": "character", "subfolders": True, **STRICT} | inputs.get("source", {})
        source = self.add("source", "LikenessDatasetFromFolder", identity=self.who, folder=folder, **given)
        crops = self.add(
            "crops", "LikenessFaceCrop", dataset=source.out(0), identity=self.who, **({"margin": 0.6, "minimum_size": 256} | inputs.get("crops", {}))
        )
        captions = self.add("captions", "LikenessCaptions", dataset=crops.out(0), **({"trigger": "m1ra", "source": "keep"} | inputs.get("captions", {})))
        audit = self.add(
            "audit", "LikenessDatasetAudit", dataset=captions.out(0), identity=self.who, **({"plan": "2 closeup, 1 full body"} | inputs.get("audit", {}))
        )
        export = {"dataset": audit.out(0), "report": audit.out(3), "sheet": audit.out(1), "name": name, **EXPORT} | inputs.get("export", {})
        self.exported = self.add("export", "LikenessDatasetExport", **export)
        for name, link in {
            "source report": source.out(1),
            "audit report": audit.out(3),
            "verdict": audit.out(2),
            "export report": self.exported.out(2),
        }.items():
            self.tell(name, link)
        self.tell("folder", self.exported.out(0))


def good(run):
    assert run.status == "success" and run.error is None, run.error
    return run


def files(folder):
    """Every file of an exported dataset but the journal, by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and ".likeness" not in path.parts}


def test_a_folder_of_mixed_photographs_becomes_a_dataset_the_same_byte_for_byte_as_the_terminals(comfy, photographs, tmp_path):
    folder, reference = photographs
    run = good(comfy.run(DatasetGraph(reference)))
    exported = comfy.base / "output" / FOLDER / "mira"
    assert run.texts("folder") == [str(exported)]
    made = files(exported)
    pictures = [path for path in made if path.endswith(".png") and "/" in path]
    assert any(path.endswith("wide_face.png") for path in pictures) and sum("mira" in path for path in pictures) >= 4
    left_out = {entry["name"]: entry["why"] for entry in json.loads(run.texts("source report")[0])["left_out"]}
    assert {"other", "broken.png"} <= set(left_out) and "is below 0.50" in left_out["other"]
    config = yaml.safe_load(made["config.yaml"])
    assert config["config"]["process"][0]["model"]["arch"] == "qwen_image:2512"
    for path in pictures:
        assert made[path.replace(".png", ".txt")].startswith(b"m1ra")

    plan = tmp_path / "plan.txt"
    plan.write_text("2 closeup, 1 full body")
    command = [sys.executable, str(ROOT), "curate", str(folder), "--reference", str(comfy.base / "input" / reference), "--name", "Mira", "--recognizer", "dlib"]
    command += ["--trigger", "m1ra", "--out", str(tmp_path / "mira"), "--base-model", "Qwen-Image-2512", "--minimum-size", "256", "--plan", str(plan)]
    environment = {**os.environ, "COMFYUI_ROOT": str(comfyui_root())}
    # The models folder of the host that ran the graph: what finds faces must be the same.
    done = subprocess.run([*command, "--models-dir", str(comfy.base / "models")], capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    theirs = files(tmp_path / "mira")
    assert set(theirs) == set(made)
    for path, content in made.items():
        assert theirs[path] == content, path


def test_running_again_writes_nothing_and_a_change_writes_what_it_touches(comfy, photographs):
    _, reference = photographs
    exported = comfy.base / "output" / FOLDER / "again"
    good(comfy.run(DatasetGraph(reference, "again")))
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*") if path.is_file() and ".likeness" not in path.parts}
    run = good(comfy.run(DatasetGraph(reference, "again")))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "unchanged" in run.texts("export report")[0]
    good(comfy.run(DatasetGraph(reference, "again", captions={"edits": "add last: film photo"})))
    changed = {path.suffix for path in before if path.stat().st_mtime_ns != before[path]}
    assert ".txt" in changed and not any(path.suffix == ".png" and path.parent.name != "again" and path.stat().st_mtime_ns != before[path] for path in before)


def test_a_dry_run_writes_nothing(comfy, photographs):
    _, reference = photographs
    run = good(comfy.run(DatasetGraph(reference, "dry", export={"dry_run": True})))
    assert "Nothing is written (dry run)" in run.texts("export report")[0]
    assert not (comfy.base / "output" / FOLDER / "dry").exists()


def test_pictures_of_the_graph_become_a_dataset_with_their_captions_and_controls(comfy, photographs, cast):
    _, reference = photographs
    graph = Graph()
    person = graph.picture("person", reference)
    other = graph.picture("other", comfy.upload("dataset_other.png", cast[3].pixels))
    both = graph.add("both", "ImageBatch", image1=person, image2=person).out(0)
    controls = graph.add("controls", "ImageBatch", image1=other, image2=other).out(0)
    texts = {"angles": "", "lighting": "", "expressions": "", "outfits": "", "framing_plan": "", "trigger": ""}
    choices = {"template": "{character} {scene}", "angle_vocabulary": "plain words", "seeds": "own for each shot", "seeds_per_shot": 1, "limit": 10}
    shots = graph.add("shots", "LikenessShotList", scenes="stands in a kitchen\nreads a book", **texts, **choices)
    added = graph.add("added", "LikenessDatasetAdd", image=both, captions=shots.out(2), control=controls, bucket="character", name="scene", **STRICT)
    captions = graph.add("captions", "LikenessCaptions", dataset=added.out(0), trigger="m1ra", source="keep")
    edit = {**EXPORT, "base_model": "Qwen-Image-Edit-2511", "mode": "paired edit"}
    exported = graph.add("export", "LikenessDatasetExport", dataset=captions.out(0), name="paired", **edit)
    graph.tell("export report", exported.out(2))
    good(comfy.run(graph))
    made = files(comfy.base / "output" / FOLDER / "paired")
    assert {"40_character/scene_0001.png", "control_character/scene_0001.png", "40_character/scene_0002.txt"} <= set(made)
    assert made["40_character/scene_0001.png"] != made["control_character/scene_0001.png"]
    assert made["40_character/scene_0001.txt"].startswith(b"m1ra") and b"kitchen" in made["40_character/scene_0001.txt"]
    manifest = json.loads(made["manifest.json"])
    assert all(len(picture["workflow"]) == 64 and picture["control"]["file"].startswith("control_") for picture in manifest["pictures"])


def test_pictures_of_the_graph_survive_an_emptied_temp_folder(comfy, photographs):
    _, reference = photographs

    def graph(caption):
        graph = Graph()
        person = graph.picture("person", reference)
        added = graph.add("added", "LikenessDatasetAdd", image=person, bucket="character", **STRICT)
        captions = graph.add("captions", "LikenessCaptions", dataset=added.out(0), trigger=caption, source="keep")
        exported = graph.add("export", "LikenessDatasetExport", dataset=captions.out(0), name="spooled", **EXPORT)
        graph.tell("export report", exported.out(2))
        return graph

    good(comfy.run(graph("m1ra")))
    shutil.rmtree(comfy.base / "temp" / "likeness_dataset")
    good(comfy.run(graph("m2ra")))


def refused(comfy, graph, *words):
    run = comfy.run(graph)
    assert run.error is not None
    for word in words:
        assert word in run.error, run.error


def test_bad_input_is_one_sentence(comfy, photographs, cast, tmp_path):
    _, reference = photographs

    def graph(**inputs):
        return DatasetGraph(reference, "bad", **inputs)

    refused(comfy, DatasetGraph(reference, "bad", folder=str(tmp_path)), "outside of ComfyUI's input and output folders", "LIKENESS_IMPORT_ROOTS")
    refused(comfy, DatasetGraph(reference, "bad", folder="../../etc"), "outside of ComfyUI's input and output folders")
    refused(comfy, DatasetGraph(reference, "bad", folder="nothing here"), "nothing here")
    refused(comfy, graph(export={"folder": str(tmp_path)}), "outside of where this host may export", "LIKENESS_EXPORT_ROOTS")
    refused(comfy, DatasetGraph(reference, "../bad"), "../bad")
    refused(comfy, graph(export={"folder": "likeness/con"}), "likeness/con")
    stranger = comfy.upload("stranger.png", cast[5].pixels)
    refused(comfy, DatasetGraph(stranger, "bad", source={"strictness": "custom", "threshold": 0.99}), "no picture left to export")
    refused(comfy, graph(captions={"edits": "shuffle: all"}), "shuffle")
    refused(comfy, graph(export={"trainer": "sd-scripts"}), "sd-scripts cannot train Qwen-Image-2512")
    refused(comfy, graph(source={"bucket": "custom", "custom_bucket": "a/b"}), "a/b")
    assert not (comfy.base / "output" / FOLDER / "bad").exists()


def test_a_control_or_caption_too_few_is_a_sentence(comfy, photographs):
    _, reference = photographs
    graph = Graph()
    person = graph.picture("person", reference)
    both = graph.add("both", "ImageBatch", image1=person, image2=person).out(0)
    added = graph.add("added", "LikenessDatasetAdd", image=both, captions="one", bucket="character", **STRICT)
    graph.tell("report", added.out(1))
    refused(comfy, graph, "There is 1 caption for 2 pictures")


def test_pictures_of_a_folder_come_out_for_a_captioner_also_when_they_are_wired_later(comfy, photographs):
    graph = Graph()
    source = graph.add("source", "LikenessDatasetFromFolder", folder="mixed", bucket="character", **STRICT)
    cropped = graph.add(
        "crops",
        "LikenessFaceCrop",
        dataset=source.out(0),
        recognizer=graph.add("r", "LikenessLoadRecognizer", recognizer="dlib", device="auto").out(0),
        margin=0.6,
        minimum_size=256,
    )
    graph.tell("report", source.out(1))
    graph.tell("crops report", cropped.out(2))
    folder, _ = photographs
    for name in ("half.jpg", "broken.png"):
        (folder / name).rename(folder.parent / name)
    try:
        report = json.loads(good(comfy.run(graph)).texts("report")[0])
        graph.show("images", source.out(2))
        graph.show("cropped", cropped.out(1))
        run = good(comfy.run(graph))
        # The nodes have run before and nothing else has changed.
        shown, crops = run.pictures("images"), run.pictures("cropped")
        assert len(shown) == report["pictures"] >= 8 and len(crops) == json.loads(run.texts("crops report")[0])["added"] >= 1
        assert max(max(picture.shape[:2]) for picture in shown) == 1024
    finally:
        for name in ("half.jpg", "broken.png"):
            (folder.parent / name).rename(folder / name)


def test_faces_are_read_anew_when_mediapipes_model_has_come(comfy, photographs):
    """The file here is none, so that the sentence about it tells that the nodes did not take their old results."""
    pytest.importorskip("mediapipe")
    _, reference = photographs
    model = comfy.base / "models" / "mediapipe" / "face_detection_full_range.tflite"
    if any(path.suffix == ".tflite" for path in model.parent.glob("*")):
        pytest.skip("MediaPipe's detector is there already")
    good(comfy.run(DatasetGraph(reference, "reader")))
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(b"no model")
    try:
        refused(comfy, DatasetGraph(reference, "reader"), "MediaPipe's FaceDetector cannot work with")
    finally:
        model.unlink()


def test_seed_and_model_of_pictures_of_the_graph_are_in_the_manifest(qwen, photographs):
    """The sampler's own numbers, as the host was given them."""
    from tests.tiny import qwen_models

    graph, models = Graph(), {"unet": qwen_models.IMAGE_2512, "clip": qwen_models.TEXT_ENCODER, "vae": qwen_models.VAE}
    image = official_text_to_image(graph, **models, prompt="a woman in the rain", width=96, height=128, seed=4321)
    added = graph.add("added", "LikenessDatasetAdd", image=image, bucket="character", provenance="film: Portra 400", **STRICT)
    captions = graph.add("captions", "LikenessCaptions", dataset=added.out(0), trigger="m1ra", source="keep")
    exported = graph.add("export", "LikenessDatasetExport", dataset=captions.out(0), name="seeds", **EXPORT, ema_decay=0.99, waive="too small")
    graph.tell("export report", exported.out(2))
    good(qwen.run(graph))
    made = files(qwen.base / "output" / FOLDER / "seeds")
    (picture,) = json.loads(made["manifest.json"])["pictures"]
    assert picture["seed"] == 4321 and picture["model"] == qwen_models.IMAGE_2512 and picture["origin"]["film"] == "Portra 400"
    assert yaml.safe_load(made["config.yaml"])["config"]["process"][0]["train"]["ema_config"] == {"use_ema": True, "ema_decay": 0.99}


def test_a_waiver_that_names_no_rule_is_a_sentence(comfy, photographs):
    _, reference = photographs
    refused(comfy, DatasetGraph(reference, "bad", export={"waive": "too smal"}), "'too smal' is no rule of the audit or of a trainer's check")
