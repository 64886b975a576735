"""`likeness run` on a real ComfyUI: shipped workflows in API form from upload to files, on tiny models, in little pictures and few steps."""

import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from character_likeness.nodes import api_forms
from character_likeness.nodes.terminal import main
from tests.host.reactor import absent, painted
from tests.tiny import qwen_models as files
from tests.tiny.drawn_faces import MIRA, portrait
from tests.tiny.reactor_models import SWAPPER

pytestmark = [pytest.mark.host, pytest.mark.dlib]

TWO_STEPS = {"preset": "custom", "preset.steps": "2", "preset.cfg": "1", "preset.sampler": "euler", "preset.scheduler": "simple"}
TWO_STEPS |= {"preset.shift": "3", "preset.cfg_norm": "0", "max_takes": "1", "megapixels": "0.1"}
HER, OTHER = 2, 4


def little(name: str) -> list[str]:
    """--set for what makes a workflow quick: a tenth of a megapixel, two steps, one take."""
    changes = []
    for id_, node in api_forms.find(name).prompt.items():
        if node["class_type"] == api_forms.SCENE:
            changes += [f"{id_}.{key}={value}" for key, value in TWO_STEPS.items()]
        elif node["class_type"] == "LikenessCharacterReferences":
            changes += [f"{id_}.policy=custom megapixels", f"{id_}.megapixels=0.1"]
        elif node["class_type"] == "KSampler":
            changes.append(f"{id_}.steps=2")
        elif node["class_type"].startswith("Empty"):
            changes += [f"{id_}.width=128", f"{id_}.height=128"]
        elif node["class_type"] == "LikenessTakeEnd":
            changes.append(f"{id_}.max_takes=2")
    return ["--set", *changes] if changes else []


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(qwen, out, capsys):
    """Runs the command; gives (exit status, standard output, standard error)."""

    def go(name, *arguments, host=qwen):
        status = main(["run", str(name), "--host", f"127.0.0.1:{host.port}", "--out", str(out), *map(str, arguments)])
        told, err = capsys.readouterr()
        return status, told, err

    return go


@pytest.fixture
def her(tmp_path):
    Image.fromarray(np.ascontiguousarray(portrait(MIRA))).save(tmp_path / "run_her.png")
    return tmp_path / "run_her.png"


@pytest.fixture
def faces(cast, tmp_path):
    """Files of six people, each alone."""
    paths = []
    for i, person in enumerate(cast[:6]):
        Image.fromarray(person.pixels).save(tmp_path / f"run_person{i}.png")
        paths.append(tmp_path / f"run_person{i}.png")
    return paths


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_scene_is_filled_made_and_fetched_with_its_prompt_and_aspect(run, out, her, qwen):
    prompt = "The person of {picture:face} in a snowy street"
    arguments = ["--reference", her, "--prompt", prompt, "--seed", 9, "--aspect", "9:16", *little("Qwen character scene (2511)"), "--json", "-"]
    status, told, err = run("qwen character scene (2511)", *arguments)
    report = json.loads(told)
    # The tiny models draw noise, in which there is no face: the gate rejects it.
    assert status == 1 and report["problems"] == ["Passed: saved (11) got nothing: no picture passed Identity Gate (10)."], err
    assert names(out) == ["Rejected.png"] and report["filled"]["7.scene"] == prompt
    width, height = Image.open(out / "Rejected.png").size
    assert abs(width / height - 9 / 16) < 0.1
    sent = qwen.get(f"/history/{report['prompt_id']}")[report["prompt_id"]]["prompt"][2]
    assert sent["7"]["inputs"]["seed"] == 9 and sent["7"]["inputs"]["scene"] == prompt
    assert (qwen.base / "input" / sent["4"]["inputs"]["image"]).read_bytes() == her.read_bytes()
    assert "Qwen Character Scene" in err and "the host's socket cannot be had" not in err


def test_text_to_image_runs_with_the_lora_switched_on(run, out, her, qwen):
    lora = ["--lora", files.CHARACTER_LORA, "--set", "4.strength=0.5"]
    status, told, err = run(
        "Qwen 2512 + character LoRA", "--reference", her, "--prompt", "m1ra", *lora, *little("Qwen 2512 + character LoRA")[1:], "--json", "-"
    )
    assert status == 0, err
    assert len(names(out)) == 2 and names(out)[0] == "Likeness scores.txt" and names(out)[1].startswith("lora_")
    report = json.loads(told)
    sent = qwen.get(f"/history/{report['prompt_id']}")[report["prompt_id"]]["prompt"][2]
    assert sent["4"]["inputs"]["lora"] == files.CHARACTER_LORA and sent["4"]["inputs"]["strength"] == 0.5 and sent["7"]["inputs"]["model"] == ["4", 0]
    assert Image.open(out / names(out)[1]).size[0] > 0


def test_flux_with_an_ip_adapter_runs_to_the_end(run, out, her, flux):
    status, _, err = run("flux", "--reference", her, "--prompt", "a beach", "--seed", 3, *little("Flux IP-Adapter face"), host=flux)
    assert status == 0, err
    assert [name for name in names(out) if name.startswith("flux_")] and "Score and thresholds.png" in names(out)
    assert Image.open(next(out.glob("flux_*.png"))).size == (128, 128)


def test_a_gate_sorts_pictures_that_are_named_on_the_command_line(run, out, faces):
    status, told, err = run("Identity gate", "--reference", faces[0], "--picture", faces[0], faces[1], faces[2])
    assert status == 0, err
    assert names(out) == ["Passed.png", "Rejected.png", "Rejected_00002.png"]
    assert (np.asarray(Image.open(out / "Passed.png").convert("RGB")) == np.asarray(Image.open(faces[0]))).all()
    assert len(told.splitlines()) == 3


def test_a_gate_that_nothing_passes_ends_with_status_1(run, out, faces):
    status, _, err = run("Identity gate", "--reference", faces[0], "--picture", faces[3], faces[1], faces[2])
    assert status == 1 and "Passed (9) got nothing: no picture passed Identity Gate (8)." in err
    assert len(names(out)) == 3


def test_a_retake_gives_picture_and_takes(run, out, her):
    status, _, err = run("retake", "--reference", her, "--seed", 5, *little("Retake until match"))
    assert status == 0, err
    assert "Takes_ seeds and scores.json" in names(out)
    told = json.loads((out / "Takes_ seeds and scores.json").read_text(encoding="utf-8"))
    assert [take["seed"] for take in told["takes"]] == [5, 6]


def test_uploading_again_replaces_nothing_and_another_picture_gets_another_name(run, her, qwen, faces, tmp_path):
    uploaded = qwen.base / "input" / "likeness"
    other = tmp_path / "sub" / "run_person0.png"
    other.parent.mkdir()
    other.write_bytes(faces[1].read_bytes())
    run("Identity gate", "--reference", faces[0], "--picture", faces[0], faces[1], faces[2])
    before = {path.name: path.read_bytes() for path in uploaded.iterdir()}
    run("Identity gate", "--reference", other, "--picture", faces[0], faces[1], faces[2])
    after = {path.name: path.read_bytes() for path in uploaded.iterdir()}
    assert before.items() <= after.items()
    assert after["run_person0 (1).png"] == faces[1].read_bytes()


def test_files_that_the_host_has_not_are_told_with_their_address(run, her, qwen):
    queued = len(qwen.get("/history"))
    status, _, err = run(
        "Keep face", "--reference", her, "--set", "1.unet_name=qwen_image_edit_2511_of_mine.safetensors", "3.vae_name=none_of_mine.safetensors"
    )
    assert status == 2 and "Nothing was queued." in err
    assert "Load Diffusion Model needs the file qwen_image_edit_2511_of_mine.safetensors (unet_name), which the host does not have" in err
    assert "Load VAE needs the file none_of_mine.safetensors (vae_name)" in err
    assert len(qwen.get("/history")) == queued


def test_what_the_host_refuses_is_told_by_the_node(run, her, qwen):
    status, _, err = run("Keep face", "--reference", her, "--set", "7.aspect_ratio=9:99", "10.filename_prefix=x")
    assert status == 2 and "Nothing was queued." in err and "Qwen Character Scene (7): Value not in list: aspect_ratio: '9:99'" in err


def test_a_node_that_fails_is_told_with_its_own_sentence(run, her):
    changes = [*little("Qwen character scene (2511)"), "7.scene=The person of {picture:hat}"]
    status, _, err = run("Qwen character scene (2511)", "--reference", her, *changes)
    assert status == 1 and "Qwen Character Scene (7): '{picture:hat}' names no picture" in err


@pytest.fixture
def slow(qwen):
    """The host takes half a second longer for each step, and this many of them."""
    qwen.post("/test_faults", {"slow": 0.5})
    yield [*(one for one in little("Keep face, edit the rest") if not one.endswith("preset.steps=2")), "7.preset.steps=60"]
    qwen.post("/test_faults", {})


def test_a_run_that_takes_too_long_is_stopped_on_the_host(run, her, qwen, slow):
    status, _, err = run("Keep face", "--reference", her, *slow, "--timeout", 6)
    assert status == 1 and "the run took longer than 6 seconds; the host was asked to stop the run." in err, err
    end = time.monotonic() + 20
    while (queue := qwen.get("/queue"))["queue_running"] and time.monotonic() < end:
        time.sleep(0.2)
    assert not queue["queue_running"] and not queue["queue_pending"]


def test_a_run_that_waits_is_taken_out_of_the_queue_and_the_one_before_it_goes_on(run, her, qwen, faces, slow):
    first, form = {}, api_forms.Filling(api_forms.find("Keep face"))
    for change in (*slow[1:], "7.seed=77"):
        form.set(change)
    form.put("4.image", qwen.upload("run_first.png", np.asarray(Image.open(her))))
    thread = threading.Thread(target=lambda: first.setdefault("ran", qwen.run(form.prompt)))
    thread.start()
    while not qwen.get("/queue")["queue_running"]:
        time.sleep(0.05)
    status, _, err = run("Identity gate", "--reference", faces[0], "--picture", faces[0], faces[1], faces[2], "--timeout", 2)
    qwen.post("/test_faults", {})
    thread.join(120)
    assert status == 1 and "the run was taken out of the host's queue" in err, err
    assert first["ran"].status == "success"


@pytest.mark.insightface
@pytest.mark.skipif(absent() is not None, reason=str(absent()))
def test_a_face_is_swapped_on_the_host_with_reactor(reactor, run, out, judge, tmp_path):
    """Its host has no Qwen files: what the scene makes is a picture that is named, and the rest is the shipped workflow."""
    prompt = api_forms.find("Qwen 2512 + ReActor").prompt
    prompt["6"] = {"class_type": "LoadImage", "inputs": {"image": "example.png"}, "_meta": {"title": "Made"}}
    for id_ in "123":
        del prompt[id_]
    prompt["recognizer"] = {"class_type": "LikenessLoadRecognizer", "inputs": {"recognizer": "buffalo_l", "device": "auto"}}
    prompt["5"]["inputs"]["recognizer"] = ["recognizer", 0]
    (tmp_path / "swap.json").write_text(json.dumps(prompt))
    for name, pixels in (("face", painted((HER, 100, 100, 400))), ("made", painted((OTHER, 190, 190, 260)))):
        Image.fromarray(pixels).save(tmp_path / f"run_{name}.png")
    pictures = ["--reference", tmp_path / "run_face.png", "--picture", tmp_path / "run_made.png"]
    status, _, err = run(tmp_path / "swap.json", *pictures, "--set", f"7.swap_model={SWAPPER}", host=reactor)
    assert status == 0, err
    (saved,) = out.glob("reactor_*.png")
    assert judge.people(np.asarray(Image.open(saved).convert("RGB"))) == [HER]
