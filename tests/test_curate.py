"""The command `likeness curate` on photographs: what comes in, what stays out and why, exit status, dry run, running again, and after a kill."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from character_likeness.nodes.lora_dataset import crops, export, survey
from character_likeness.nodes.terminal import main
from tests.conftest import ROOT

pytestmark = [pytest.mark.dlib]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for variable in ("COMFYUI_ROOT", "LIKENESS_COMMERCIAL_ONLY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, people, variants):
    """Folders: mixed (the second person four times, one wide, another person, a broken file), body (no face), and a reference."""
    folder = tmp_path_factory.mktemp("curate")
    mixed, body = folder / "mixed", folder / "body"
    mixed.mkdir()
    body.mkdir()
    for number, name in enumerate(("as it is", "mirrored", "darkened")):
        Image.fromarray(variants[1][name].pixels).save(mixed / f"her_{number}.png")
        (mixed / f"her_{number}.txt").write_text(f"closeup, reading book {number}")
    canvas = np.full((900, 800, 3), 120, np.uint8)
    canvas[60:560, 150:650] = np.asarray(Image.fromarray(people[1].pixels).resize((500, 500)))
    Image.fromarray(canvas).save(mixed / "wide.png")
    Image.fromarray(people[4].pixels).save(mixed / "other.png")
    (mixed / "broken.jpg").write_bytes(b"nothing")
    # Its header is whole, its picture is not.
    Image.fromarray(people[1].pixels).save(mixed / "half.jpg")
    (mixed / "half.jpg").write_bytes((mixed / "half.jpg").read_bytes()[:3000])
    draw = np.random.default_rng(1)
    Image.fromarray(np.kron(draw.integers(0, 255, (20, 20, 3), np.uint8), np.ones((40, 40, 1), np.uint8))).save(body / "legs_1.png")
    reference = folder / "reference.png"
    Image.fromarray(people[1].pixels).save(reference)
    return mixed, body, reference


@pytest.fixture
def run(capsys):
    def go(*arguments):
        status = main(["curate", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return go


def usual(pictures, out):
    mixed, _, reference = pictures
    return [mixed, "--reference", reference, "--recognizer", "dlib", "--trigger", "h3r", "--out", out, "--minimum-size", "256"]


def tree(folder: Path) -> dict:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".likeness" not in path.parts}


def test_a_folder_becomes_a_dataset_and_what_stays_out_is_named(run, pictures, tmp_path):
    status, out, _ = run(*usual(pictures, tmp_path / "her"))
    assert status == 1
    made = tree(tmp_path / "her")
    names = {Path(path).stem for path in made if path.startswith("40_character/") and path.endswith(".png")}
    assert names == {"her_0", "her_1", "her_2", "wide", "wide_face"}
    assert made["40_character/her_1.txt"] == b"h3r, closeup, reading book 1"
    assert "left out other: score" in out and "left out broken.jpg" in out and "config.yaml" in out
    assert {"config.yaml", "manifest.json", "report.md", "contact_sheet.png"} <= set(made)
    mixed, _, _ = pictures
    assert "left out half" in out and not any(str(mixed).encode() in content for content in made.values())


def test_the_audit_comes_as_json_too(run, pictures, tmp_path):
    _, out, _ = run(*usual(pictures, tmp_path / "her"), "--json", "--dry-run")
    told = json.loads(out)
    assert told["audit"]["verdict"] == "Needs attention" and len(told["audit"]["pictures"]) == 5
    assert "Nothing is written (dry run)" in told["export"][0] and not (tmp_path / "her").exists()


def test_folders_of_bodies_are_a_bucket_of_their_own_and_not_judged(run, pictures, tmp_path):
    _, body, _ = pictures
    run(*usual(pictures, tmp_path / "her"), "--body", body)
    made = tree(tmp_path / "her")
    assert "20_body/legs_1.png" in made
    assert made["20_body/legs_1.txt"].startswith(b"h3r, realistic_body")


def test_running_again_touches_nothing_and_a_taken_away_picture_goes(run, pictures, tmp_path):
    out = tmp_path / "her"
    run(*usual(pictures, out))
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and ".likeness" not in path.parts}
    _, said, _ = run(*usual(pictures, out))
    assert {path: path.stat().st_mtime_ns for path in times} == times and "unchanged" in said
    run(*usual(pictures, out), "--no-crops")
    assert not (out / "40_character" / "wide_face.png").exists() and (out / "40_character" / "wide.png").exists()


def test_control_pictures_are_matched_by_their_names(run, pictures, tmp_path):
    mixed, _, _ = pictures
    controls, out = tmp_path / "before", tmp_path / "pairs"
    controls.mkdir()
    for path in mixed.glob("*.png"):
        Image.new("RGB", (200, 200), (9, 99, 199)).save(controls / f"{path.stem.upper()}.jpg")
    Image.new("RGB", (200, 200)).save(controls / "spare.png")
    edit = ["--base-model", "Qwen-Image-Edit-2511", "--mode", "paired edit"]
    status, _, _ = run(*usual(pictures, out), "--dry-run", *edit)
    assert status == 2
    status, said, _ = run(*usual(pictures, out), *edit, "--controls", controls)
    made = tree(out)
    assert status == 1 and "1 control picture belongs to no picture: spare.png" in said
    for name in ("her_0", "her_1", "her_2", "wide", "wide_face"):
        assert f"control_character/{name}.png" in made
    assert b"control_character/her_0.png" in made["config.yaml"]


def test_control_pictures_among_the_pictures_are_refused(run, pictures, tmp_path):
    mixed, _, _ = pictures
    status, _, err = run(*usual(pictures, tmp_path / "pairs"), "--base-model", "Qwen-Image-Edit-2511", "--mode", "paired edit", "--controls", mixed)
    assert status == 2 and "lie among the pictures themselves" in err


def test_a_webhook_that_cannot_be_used_does_not_stop_the_work(run, pictures, tmp_path):
    status, _, _ = run(*usual(pictures, tmp_path / "her"), "--webhook", "http://127.0.0.1/hook")
    assert status == 1 and (tmp_path / "her" / "config.yaml").is_file()


def test_without_the_gate_everybody_comes_in(run, pictures, tmp_path):
    mixed, _, _ = pictures
    status, _, err = run(mixed, "--no-gate", "--trigger", "h3r", "--out", tmp_path / "all", "--no-crops")
    assert status == 2 and "half" in err and str(mixed) not in err
    whole = shutil.copytree(mixed, tmp_path / "whole", ignore=shutil.ignore_patterns("half.jpg"))
    status, _, _ = run(whole, "--no-gate", "--trigger", "h3r", "--out", tmp_path / "all", "--no-crops")
    assert status == 1 and "40_character/other.png" in tree(tmp_path / "all")


@pytest.mark.parametrize(
    ("change", "words"),
    (
        (["--reference"], "--no-gate takes every picture"),
        (["--edit", "shuffle: all"], "shuffle"),
        (["--plan", "missing.txt"], "missing.txt"),
        (["--base-model", "FLUX.1-dev", "--trainer", "musubi-tuner"], "musubi-tuner cannot train FLUX.1-dev"),
        (["--trigger", "a, b"], "a, b"),
    ),
)
def test_bad_input_is_one_sentence(run, pictures, tmp_path, change, words):
    mixed, _, reference = pictures
    arguments = [mixed, "--no-gate", "--trigger", "h3r", "--out", tmp_path / "bad", *change]
    if change == ["--reference"]:
        arguments.append(reference)
    status, _, err = run(*arguments)
    assert status == 2 and words in err and len(err.strip().splitlines()) <= 2 and not (tmp_path / "bad").exists()


def test_a_character_must_be_named(run, pictures, tmp_path):
    mixed, _, _ = pictures
    status, _, err = run(mixed, "--trigger", "h3r", "--out", tmp_path / "bad")
    assert status == 2 and "--reference PICTURE" in err


def test_a_killed_run_does_not_look_again_at_what_it_has_seen(pictures, tmp_path, run, monkeypatch):
    out, looked = tmp_path / "her", []
    for owner, name in ((survey.Looker, "_faces"), (survey.Looker, "_read"), (crops, "_best_match")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *arguments, real=real, name=name: looked.append(name) or real(*arguments))

    def killed(*arguments):
        raise SystemExit("killed")

    survey.forget()
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(export, "carry_out", killed)
        run(*usual(pictures, out))
    first = len(looked)
    assert (out / ".likeness" / "measured.jsonl").is_file() and not (out / "manifest.json").exists()
    survey.forget()
    looked.clear()
    run(*usual(pictures, out))
    assert first >= 12 and not looked and (out / "manifest.json").is_file() and not (out / ".likeness" / "measured.jsonl").exists()
    survey.forget()
    run(*usual(pictures, tmp_path / "whole" / "her"))
    assert tree(out) == tree(tmp_path / "whole" / "her")


def test_a_dry_run_notes_nothing(pictures, tmp_path, run):
    run(*usual(pictures, tmp_path / "her"), "--dry-run")
    assert not (tmp_path / "her").exists()


def test_an_export_below_the_folder_is_not_read_as_pictures(pictures, tmp_path, run):
    mixed = shutil.copytree(pictures[0], tmp_path / "mixed")
    arguments = ["--reference", pictures[2], "--recognizer", "dlib", "--trigger", "h3r", "--out", mixed / "datasets" / "her", "--minimum-size", "256"]
    run(mixed, *arguments)
    made = tree(mixed / "datasets" / "her")
    _, said, _ = run(mixed, *arguments)
    assert "1 sub-folder is an exported dataset and was passed over: datasets/her." in said
    again = tree(mixed / "datasets" / "her")
    assert {path for path in again if path.startswith("40_")} == {path for path in made if path.startswith("40_")}


def test_an_average_of_the_weights_can_be_asked_for(pictures, tmp_path, run):
    run(*usual(pictures, tmp_path / "her"), "--ema-decay", "0.99")
    assert b"ema_decay: 0.99" in tree(tmp_path / "her")["config.yaml"]
    status, _, err = run(*usual(pictures, tmp_path / "other"), "--ema-decay", "0.99", "--trainer", "musubi-tuner")
    assert status == 2 and "musubi-tuner keeps no average" in err


def test_a_killed_run_is_finished_by_the_next(pictures, tmp_path, run):
    whole, out = tmp_path / "her", tmp_path / "again" / "her"
    run(*usual(pictures, whole))
    command = [sys.executable, str(ROOT), "curate", *map(str, usual(pictures, out))]
    draw = random.Random(3)
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})
        time.sleep(draw.uniform(1.0, 4.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(*usual(pictures, out))
    assert tree(out) == tree(whole)
