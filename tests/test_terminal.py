"""The command `likeness`, run in this process on photographs: exit status, table, report, overlays, and bad input in one sentence."""

import io
import json
import os
import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from character_likeness.nodes import installation, terminal
from character_likeness.nodes.identity import scoring
from character_likeness.nodes.identity.identity import save_identity
from character_likeness.nodes.model_files import catalogue
from character_likeness.nodes.pictures import Picture
from character_likeness.nodes.terminal import main

pytestmark = [pytest.mark.dlib]

SCHEMA = Path(__file__).resolve().parent.parent / "nodes" / "identity" / "report.schema.json"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path, dlib_recognizer):
    """No ComfyUI around and no settings; and what the session remembers of its pictures, though the command keeps only a few."""
    for variable in ("COMFYUI_ROOT", "LIKENESS_COMMERCIAL_ONLY"):
        monkeypatch.delenv(variable, raising=False)
    for module in (installation, catalogue):
        monkeypatch.setattr(module, "PACK", tmp_path / "pack")
    remembered, memory = dlib_recognizer.remembered, OrderedDict(dlib_recognizer._memory)
    yield
    memory.update(dlib_recognizer._memory)
    dlib_recognizer.remembered, dlib_recognizer._memory = remembered, memory


@pytest.fixture
def put(tmp_path):
    """Writes a picture under a name below tmp_path and gives its path."""

    def write(name, picture):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.pixels).save(path, "PNG", compress_level=1)
        return path

    return write


@pytest.fixture
def run(capsys):
    """Runs the command; gives (exit status, standard output, standard error)."""

    def go(*arguments):
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return go


@pytest.fixture
def refused(run):
    """Runs a command that must end with one sentence and status 2; gives the sentence."""

    def go(*arguments):
        status, out, err = run(*arguments)
        assert status == 2 and out == ""
        assert err.startswith("likeness: ") and err.endswith(".\n") and err.count("\n") == 1
        return err

    return go


def valid(report):
    from jsonschema import Draft202012Validator

    Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(report)
    return report


def read(path):
    return valid(json.loads(Path(path).read_text(encoding="utf-8")))


@pytest.fixture
def her(put, people):
    return put("reference/her.png", people[0])


# --- verdicts and exit status ---


def test_all_passed_is_0_one_rejected_is_1(run, put, her, people, variants):
    put("pictures/a.png", variants[0]["mirrored"])
    put("pictures/b.png", variants[0]["darkened"])
    status, out, err = run("score", her.parent.parent / "pictures", "--reference", her)
    assert status == 0 and err == ""
    assert "2 of 2 pass at 0.50 (standard, dlib); match rate at standard 100% (n = 2, 95% interval 34% to 100%)." in out
    put("pictures/c.png", people[3])
    status, out, _ = run("score", her.parent.parent / "pictures", "--reference", her)
    assert status == 1
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["pass", "pass", "reject"]
    assert lines[2].endswith("below 0.50 (standard)") and "2 of 3 pass" in lines[-1]


def test_the_command_says_of_the_acceptance_matrix_what_scoring_says(run, put, tmp_path, identities, variants):
    pictures = {}
    for person, versions in enumerate(variants):
        for how, picture in versions.items():
            pictures[put(f"all/person {person + 1}/{how}.png", picture)] = picture
    for person, identity in enumerate(identities):
        measured = scoring.measure(list(pictures.values()), [identity])
        expected = dict(zip(map(str, pictures), scoring.judge(measured, [identity], scoring.Rules(0.5, "standard"))))
        reference = tmp_path / "all" / f"person {person + 1}" / "as it is.png"
        status, _, _ = run("score", tmp_path / "all", "--reference", reference, "--json", tmp_path / f"{person}.json")
        told = read(tmp_path / f"{person}.json")
        assert status == 1 and len(told["pictures"]) == 36
        for entry in told["pictures"]:
            assert entry["verdict"] == expected[entry["path"]].verdict == ("pass" if f"person {person + 1}{os.sep}" in entry["path"] else "reject")
            assert entry["score"] == round(expected[entry["path"]].score, 4)
        assert (told["match_rate"]["passed"], told["match_rate"]["n"]) == (6, 36)


def test_an_unreadable_file_among_good_ones_is_2_and_the_others_are_still_judged(run, put, her, people, tmp_path):
    put("pictures/a.png", people[0])
    (tmp_path / "pictures" / "b.png").write_text("no picture")
    (tmp_path / "pictures" / "c.jpg").touch()
    put("pictures/d.png", people[1])
    status, out, _ = run("score", tmp_path / "pictures", "--reference", her, "--json", tmp_path / "report.json")
    assert status == 2
    told = read(tmp_path / "report.json")
    assert [entry["verdict"] for entry in told["pictures"]] == ["pass", "unreadable", "unreadable", "reject"]
    assert "empty" in told["pictures"][2]["reason"] and told["match_rate"]["n"] == 2
    assert "1 of 4 pass" in out and "2 unreadable" in out
    assert str(tmp_path / "pictures" / "b.png") in out


def test_a_picture_without_a_face_and_an_uncertain_one_are_not_passed(run, put, her, people, tmp_path):
    put("pictures/a.png", Picture(np.full((60, 60, 3), 90, np.uint8)))
    put("pictures/b.png", Picture(np.ascontiguousarray(people[0].pixels[::4, ::4])))
    status, out, _ = run("score", tmp_path / "pictures", "--reference", her)
    assert status == 1
    assert [line[:11].strip() for line in out.splitlines()[:2]] == ["no face", "uncertain"]
    assert "0 of 2 pass" in out and "1 uncertain" in out


def test_several_references_and_their_warnings(run, put, her, people, variants, tmp_path):
    for i, how in enumerate(("mirrored", "darkened", "half size")):
        put(f"reference/{i}.png", variants[0][how])
    put("reference/z.png", people[3])
    status, _, err = run("score", put("a.png", people[0]), "--reference", tmp_path / "reference", "--combine", "median")
    assert status == 0
    assert err.count("\n") == 1 and err.startswith(f"likeness: {her.parent / 'z.png'} does not look like the others")


def test_an_identity_file_judges_as_its_references_do(run, put, her, people, identities, tmp_path):
    file = save_identity(identities[0], tmp_path, "her")
    pictures = [put("a.png", people[0]), put("b.png", people[1])]
    told = []
    for who in (["--identity", file], ["--reference", her]):
        status, _, _ = run("score", *pictures, *who, "--json", tmp_path / f"{len(told)}.json")
        assert status == 1
        told.append(read(tmp_path / f"{len(told)}.json"))
    assert told[0]["identities"] == ["person 1"]
    assert [entry["score"] for entry in told[0]["pictures"]] == [entry["score"] for entry in told[1]["pictures"]]


def test_strictness_is_a_name_or_a_number(run, put, her, variants, tmp_path):
    picture = put("a.png", variants[0]["mirrored"])  # scores about 0.82
    for strictness, expected in (("loose", 0), ("strict", 0), ("0.75", 0), ("0.9", 1), ("1", 1), ("-1", 0)):
        assert run("score", picture, "--reference", her, "--strictness", strictness)[0] == expected
    run("score", picture, "--reference", her, "--strictness", "0.9", "--json", tmp_path / "a.json")
    told = read(tmp_path / "a.json")
    assert (told["thresholds"]["strictness"], told["thresholds"]["applied"]) == ("custom", 0.9)
    assert told["match_rate"]["passed"] == 1  # at standard, whatever was applied


@pytest.mark.parametrize("strictness", ["custom", "nan", "inf", "40", "-2", "hard", ""])
def test_a_strictness_that_would_let_everything_or_nothing_through_is_refused(refused, put, her, people, strictness):
    assert "choose loose, standard, strict, or" in refused("score", put("a.png", people[1]), "--reference", her, "--strictness", strictness)


def test_the_face_that_counts_can_be_chosen(run, put, group, people, tmp_path):
    reference, picture = put("r.png", people[1]), put("group.png", group)
    assert run("score", picture, "--reference", reference)[0] == 0
    for face in ("largest", "every face"):
        assert run("score", picture, "--reference", reference, "--face", face)[0] == 1


def test_more_pictures_than_are_measured_together_come_in_order_and_are_forgotten(run, put, her, tmp_path, dlib_recognizer):
    for i in range(2 * terminal.who.CHUNK_PICTURES + 3):
        put(f"pictures/{i:03}.png", Picture(np.full((20, 20 + i, 3), i, np.uint8)))
    status, _, _ = run("score", tmp_path / "pictures", "--reference", her, "--json", tmp_path / "a.json")
    names = [Path(entry["path"]).name for entry in read(tmp_path / "a.json")["pictures"]]
    assert status == 1 and names == [f"{i:03}.png" for i in range(2 * terminal.who.CHUNK_PICTURES + 3)]
    assert len(dlib_recognizer._memory) <= terminal.who.CHUNK_PICTURES


# --- the report ---


def test_the_report_on_standard_output_is_nothing_but_json(run, put, her, people):
    status, out, err = run("score", put("a.png", people[0]), put("b.png", people[1]), "--reference", her, "--json", "-", "--name", "Zoë")
    told = valid(json.loads(out))
    assert status == 1 and [entry["verdict"] for entry in told["pictures"]] == ["pass", "reject"]
    assert told["identities"] == ["Zoë"] and told["recognizer"]["name"] == "dlib"
    assert "1 of 2 pass" in err and err.splitlines()[1].startswith("reject")


def test_an_existing_report_is_refused_before_anything_is_measured_and_stays(refused, put, her, people, tmp_path, monkeypatch):
    (tmp_path / "report.json").write_text("mine")
    monkeypatch.setattr(scoring, "measure", None)
    assert "not overwritten" in refused("score", put("a.png", people[0]), "--reference", her, "--json", tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text() == "mine"


def test_a_report_that_cannot_be_written_is_one_sentence(refused, put, her, people, tmp_path):
    assert "cannot be written" in refused("score", put("a.png", people[0]), "--reference", her, "--json", tmp_path / "nowhere" / "report.json")


def test_a_report_that_appears_meanwhile_is_not_overwritten(put, her, people, tmp_path, capsys, monkeypatch):
    report, measure = tmp_path / "report.json", scoring.measure

    def late(*arguments):
        report.write_text("somebody else's")
        return measure(*arguments)

    monkeypatch.setattr(scoring, "measure", late)
    assert main(["score", str(put("a.png", people[0])), "--reference", str(her), "--json", str(report)]) == 2
    assert report.read_text() == "somebody else's"
    (part,) = tmp_path.glob("report.json.*.part")
    assert read(part)["pictures"][0]["verdict"] == "pass"
    assert part.name in capsys.readouterr().err


def test_an_interrupted_run_leaves_no_report_that_looks_whole(run, put, her, people, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "measure", interrupt)
    status, _, err = run("score", put("a.png", people[0]), "--reference", her, "--json", tmp_path / "report.json")
    assert status == 130 and err == "likeness: interrupted\n"
    assert not (tmp_path / "report.json").exists()


# --- overlays ---


def test_overlays_keep_sub_folders_and_never_overwrite(run, put, her, people, group, tmp_path):
    put("pictures/one/a.png", people[0])
    put("pictures/two/a.png", people[1])
    outright = put("elsewhere/b.png", people[0])
    (tmp_path / "out" / "one").mkdir(parents=True)
    (tmp_path / "out" / "one" / "a_pass.jpg").write_text("mine")
    for _ in range(2):
        run("score", tmp_path / "pictures", outright, "--reference", her, "--overlay", tmp_path / "out")
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg"))
    one, two = ["one/a_pass.jpg", "one/a_pass_00002.jpg", "one/a_pass_00003.jpg"], ["two/a_reject.jpg", "two/a_reject_00002.jpg"]
    assert names == ["b_pass.jpg", "b_pass_00002.jpg", *one, *two]
    assert (tmp_path / "out" / "one" / "a_pass.jpg").read_text() == "mine"
    with Image.open(tmp_path / "out" / "two" / "a_reject.jpg") as image:
        assert image.size == people[1].size
    assert len(list((tmp_path / "out").rglob("*.*"))) == len(names)  # no part files


def test_a_picture_is_never_written_outside_the_overlay_folder(run, put, her, people, tmp_path, monkeypatch):
    put("pictures/a.png", people[0])
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    run("score", "../pictures", "../pictures/a.png", "--reference", her, "--overlay", "out")
    assert sorted(path.name for path in (tmp_path / "work" / "out").iterdir()) == ["a_pass.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "reference", "work"]


def test_an_overlay_folder_that_is_a_file_is_one_sentence(run, put, her, people, tmp_path):
    (tmp_path / "out").touch()
    status, _, err = run("score", put("a.png", people[0]), "--reference", her, "--overlay", tmp_path / "out")
    assert status == 2 and "cannot be written" in err and err.count("\n") == 1


# --- file names ---


def test_names_with_spaces_unicode_and_line_breaks_come_back_whole_and_stay_on_one_line(run, put, her, people, tmp_path):
    names = ["with space.png", "李小龍 Zoë.png", "'quoted\".png"] + (["two\nlines\x1b[31m.png"] if os.name == "posix" else [])
    for name in names:
        put(f"pictures/{name}", people[0])
    status, out, _ = run("score", tmp_path / "pictures", "--reference", her, "--json", tmp_path / "a.json", "--overlay", tmp_path / "out")
    assert status == 0
    assert sorted(Path(entry["path"]).name for entry in read(tmp_path / "a.json")["pictures"]) == sorted(names)
    rows = out.split("\n\n")[0].rstrip("\n").split("\n")
    assert len(rows) == len(names) and all(row.startswith("pass") for row in rows)
    assert "\x1b" not in out and "李小龍 Zoë.png" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(name.replace(".png", "_pass.jpg") for name in names)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text here")
def test_a_name_that_is_no_text_is_reported_so_that_it_can_be_found_again(run, put, her, people, tmp_path):
    path = put(os.fsdecode(b"\xff\xfe.png"), people[0])
    status, out, _ = run("score", path, "--reference", her, "--json", tmp_path / "a.json")
    assert status == 0 and "\\udcff" in out
    assert os.fsencode(read(tmp_path / "a.json")["pictures"][0]["path"]) == os.fsencode(path)
    assert json.loads(run("score", path, "--reference", her, "--json", "-")[1])["pictures"][0]["path"] == str(path)


def test_a_console_without_the_letters_of_a_name_does_not_end_the_run(put, her, people, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    assert main(["score", str(put("李.png", people[0])), "--reference", str(her)]) == 0
    assert b"\\u674e.png" in written.getvalue()


@pytest.mark.skipif(os.name != "posix", reason="a closed pipe is another error here")
@pytest.mark.parametrize("report", [False, True])
def test_a_reader_that_goes_away_ends_the_run_without_a_word(put, her, people, tmp_path, monkeypatch, capsys, report):
    reading, writing = os.pipe()
    os.close(reading)
    # Until a child process that another thread was just starting has let go of its copy of the reading end.
    end = time.monotonic() + 10
    with pytest.raises(BrokenPipeError):
        while time.monotonic() < end:
            os.write(writing, b"x")
            time.sleep(0.01)
    with os.fdopen(writing, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        extra = ["--json", str(tmp_path / "report.json")] if report else []
        assert main(["score", str(put("a.png", people[0])), "--reference", str(her), *extra]) == 2
        monkeypatch.undo()
    assert capsys.readouterr().err == ""


# --- wrong use, in one sentence ---


def test_without_pictures_or_a_character_the_sentence_says_what_to_name(refused, put, her, people, tmp_path):
    picture = put("a.png", people[0])
    assert "likeness score --demo" in refused("score")
    assert "--reference" in refused("score", picture) and "--identity" in refused("score", picture)
    assert "either" in refused("score", picture, "--reference", her, "--identity", tmp_path / "her.safetensors")
    (tmp_path / "empty").mkdir()
    assert f"no picture in {tmp_path / 'empty'}" in refused("score", tmp_path / "empty", "--reference", her)
    assert "does not exist" in refused("score", tmp_path / "gone", "--reference", her)


def test_a_reference_that_cannot_be_used_is_one_sentence(refused, put, people, tmp_path):
    picture = put("a.png", people[0])
    assert "no face" in refused("score", picture, "--reference", put("blank.png", Picture(np.full((60, 60, 3), 90, np.uint8))))
    (tmp_path / "text.png").write_text("no picture")
    assert "text.png" in refused("score", picture, "--reference", tmp_path / "text.png")
    assert "does not exist" in refused("score", picture, "--reference", tmp_path / "gone.png")
    (tmp_path / "empty").mkdir()
    assert "There is no picture in" in refused("score", picture, "--reference", tmp_path / "empty")


def test_an_identity_file_that_cannot_be_used_is_one_sentence(refused, put, people, tmp_path):
    picture = put("a.png", people[0])
    assert "does not exist" in refused("score", picture, "--identity", tmp_path / "gone.safetensors")
    (tmp_path / "her.safetensors").write_bytes(b"\0" * 100)
    assert "damaged" in refused("score", picture, "--identity", tmp_path / "her.safetensors")


def test_an_unknown_recognizer_or_models_folder_is_one_sentence(refused, put, her, people, tmp_path):
    picture = put("a.png", people[0])
    sentence = refused("score", picture, "--reference", her, "--recognizer", "nobody")
    assert "auraface" in sentence and "--models-dir" in sentence
    assert "likeness models download buffalo_l" in refused("score", picture, "--reference", her, "--recognizer", "buffalo_l", "--models-dir", tmp_path)
    assert "does not exist" in refused("score", picture, "--reference", her, "--models-dir", tmp_path / "gone")


@pytest.mark.insightface
def test_commercial_only_refuses_by_option_and_by_variable(refused, run, put, her, people, models_dir, monkeypatch):
    arguments = ["score", put("a.png", people[0]), "--reference", her, "--models-dir", models_dir, "--recognizer", "buffalo_l"]
    assert "commercial" in refused(*arguments, "--commercial-only")
    monkeypatch.setenv("LIKENESS_COMMERCIAL_ONLY", "1")
    assert "commercial" in refused(*arguments)
    assert run(*arguments[:-2], "--recognizer", "dlib")[0] == 0


@pytest.mark.insightface
def test_packs_in_a_models_folder_are_used(run, put, face_packs, models_dir, tmp_path):
    reference = put("r.png", Picture(face_packs.painted_face(3, 200)))
    pictures = [put(f"{person}.png", Picture(face_packs.painted_face(person, 150))) for person in (3, 4)]
    for name, chosen in (("buffalo_l", "buffalo_l"), ("auto", "auraface")):
        arguments = ["--models-dir", models_dir, "--recognizer", name, "--json", tmp_path / f"{name}.json"]
        assert run("score", *pictures, "--reference", reference, *arguments)[0] == 1
        told = read(tmp_path / f"{name}.json")
        assert [entry["verdict"] for entry in told["pictures"]] == ["pass", "reject"] and told["recognizer"]["name"] == chosen


@pytest.mark.parametrize("arguments", [[], ["score", "a.png", "--face", "smallest"], ["score", "a.png", "--device", "gpu"], ["models"], ["fly"]])
def test_an_unknown_command_or_choice_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert leaving.value.code == 2 and "usage: likeness" in capsys.readouterr().err


# --- demo and models ---


@pytest.mark.insightface
def test_the_demo_shows_every_verdict_a_newcomer_should_know(run):
    pytest.importorskip("skimage")
    status, out, _ = run("score", "--demo", "--recognizer", "dlib")
    assert status == 0
    table = out.split("\n\n")[1].splitlines()
    verdicts = {}
    for line in table[1:]:
        score_at = table[0].index("score")
        verdicts[line[:score_at].strip()] = line[score_at + 7 :].split("  ")[0].strip()
    same = ["mirrored", "blurred", "darkened", "JPEG quality 40", "half size"]
    assert verdicts == {
        "the reference itself": "pass",
        **{f"the same, {how}": "pass" for how in same},
        "the same, a quarter of the size": "uncertain",
        "she among five others": "pass",
        **{f"person {i}": "reject" for i in range(2, 7)},
        "an astronaut": "reject",
        "a cup of coffee": "no face",
    }


def test_models_list_tells_licences_sizes_and_what_is_there(run, tmp_path):
    status, out, _ = run("models", "list")
    assert status == 0 and "none found" in out
    assert any(line.startswith("auraface") and "Apache-2.0" in line and " yes " in line for line in out.splitlines())
    assert any(line.startswith("buffalo_l") and "non-commercial" in line for line in out.splitlines())
    rows = json.loads(run("models", "list", "--json", "--models-dir", tmp_path)[1])
    assert {"auraface", "buffalo_l", "antelopev2"} <= {row["name"] for row in rows} and not any(row["present"] for row in rows)


def test_downloading_an_unknown_model_is_one_sentence(refused, tmp_path):
    refused("models", "download", "nobody", "--models-dir", tmp_path)
    assert "--models-dir" in refused("models", "download", "buffalo_l")


def test_the_demo_alters_a_picture_in_the_ways_it_names(variants, people):
    assert [list(versions) for versions in variants] == [["as it is", "mirrored", "blurred", "darkened", "JPEG quality 40", "half size"]] * 6
    assert variants[0]["half size"].size == (people[0].size[0] // 2, people[0].size[1] // 2)
    assert variants[0]["darkened"].pixels.mean() == pytest.approx(people[0].pixels.mean() / 2, rel=0.02)
    assert np.array_equal(variants[0]["mirrored"].pixels, people[0].pixels[:, ::-1])


@pytest.mark.parametrize("overlay", ["here", "above"])
def test_overlays_into_or_above_the_folder_of_the_pictures_leave_the_pictures_measured(put, her, people, tmp_path, capsys, overlay):
    album = tmp_path / "album"
    put("album/a.png", people[0])
    assert main(["score", str(album), "--reference", str(her), "--overlay", str(album if overlay == "here" else tmp_path)]) == 0
    assert "1 of 1 pass" in capsys.readouterr().out


def test_overlays_of_an_earlier_run_in_a_folder_below_are_passed_over(put, her, people, tmp_path, capsys, monkeypatch):
    put("album/a.png", people[0])
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["score", "album", "--reference", str(her), "--overlay", str(tmp_path / "album" / "seen")]) == 0
        assert "1 of 1 pass" in capsys.readouterr().out


def test_a_name_as_long_as_the_file_system_takes_gets_its_overlay(put, her, people, tmp_path):
    name = "x" * 251 + ".png"
    put(f"album/{name}", people[0])
    assert main(["score", str(tmp_path / "album"), "--reference", str(her), "--overlay", str(tmp_path / "seen")]) == 0
    assert len(list((tmp_path / "seen").iterdir())) == 1


def test_a_users_own_part_file_is_left_alone(put, her, people, tmp_path):
    mine = tmp_path / "report.json.part"
    mine.write_text("mine")
    assert main(["score", str(put("a.png", people[0])), "--reference", str(her), "--json", str(tmp_path / "report.json")]) == 0
    assert mine.read_text() == "mine"


def test_references_named_in_two_options_are_both_taken(run, put, her, people):
    other = put("other.png", people[3])
    for paths in ([her, other], [other, her]):
        status, out, _ = run("score", put("a.png", people[3]), "--reference", paths[0], "--reference", paths[1], "--combine", "max")
        assert status == 0 and "1 of 1 pass" in out


def test_a_reference_of_several_people_is_said(run, put, her, people, group):
    _, _, err = run("score", her, "--reference", put("group.png", group))
    assert "group.png: 6 faces, the largest was taken." in err


def test_pictures_swallowed_by_reference_are_explained(refused, put, her, people):
    assert "all 2 paths after --reference were taken as references" in refused("score", "--reference", her, put("a.png", people[0]))


def test_a_file_named_twice_is_measured_once(run, put, her, people):
    picture = put("album/a.png", people[0])
    _, out, _ = run("score", picture.parent, picture, "--reference", her)
    assert "1 of 1 pass" in out


def test_what_commercial_use_forbids_is_not_downloaded(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_COMMERCIAL_ONLY", "1")
    assert "buffalo_l is not cleared for commercial use" in refused("models", "download", "buffalo_l", "--models-dir", tmp_path)
