"""What an export leaves on disk, what it says before and after, and what it leaves alone. Kills, full disks and the like are in test_export_faults.py."""

import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from character_likeness.nodes.errors import InputError, PictureError
from character_likeness.nodes.lora_dataset import sources
from character_likeness.nodes.lora_dataset.curation import sheet_files
from character_likeness.nodes.lora_dataset.dataset import ATTENTION, BLOCKED, BODY, Bucket, Dataset, DatasetItem, Finding, Given
from character_likeness.nodes.lora_dataset.export import carry_out, plan_export
from character_likeness.nodes.lora_dataset.manifest import Provenance, plain
from character_likeness.nodes.lora_dataset.sources import FileSource, from_folder
from character_likeness.nodes.lora_dataset.targets import ROOTS_VARIABLE, ExportError, Wanted, allowed_roots, checked_target
from character_likeness.nodes.lora_dataset.writing import bring_about
from tests.tiny.exports import album, dataset_of, drawn, export, inside, options, tree, two_buckets

PAIRED = {"base_model": "Qwen-Image-Edit-2509", "mode": "paired edit"}


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and text[0] != " "
    return text


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_bytes())


# --- the layout ---


def test_pictures_lie_by_bucket_with_their_captions_and_everything_else_beside(tmp_path):
    result = export(two_buckets(tmp_path), tmp_path / "out")
    folder = tmp_path / "out" / "mira"
    assert result.folder == folder and result.written and result.config == folder / "config.yaml"
    pictures = [f"40_character/p00{i}.png" for i in range(6)] + [f"20_body/p50{i}.png" for i in range(3)]
    captions = [path.replace(".png", ".txt") for path in pictures]
    assert sorted(tree(folder)) == sorted([*pictures, *captions, "config.yaml", "manifest.json", "report.md"])
    assert inside(folder) == ["journal.json", "lock"]
    assert result.difference.new and not result.difference.changed
    assert result.lines()[0].startswith("21 files written: ")


@pytest.mark.parametrize("trainer, model", [("ai-toolkit", "Qwen-Image"), ("musubi-tuner", "Qwen-Image"), ("sd-scripts", "FLUX.1-dev")])
def test_each_trainer_gets_its_files_and_the_command(tmp_path, trainer, model):
    dataset = two_buckets(tmp_path)
    plan = plan_export(dataset, options(tmp_path / "out", trainer=trainer, base_model=model, root="/workspace/mira"))
    result = carry_out(plan)
    written = tree(result.folder)
    assert {str(path): content for path, content in plan.trainer.sidecars(plan.job).items()}.items() <= written.items()
    for bucket in plan.job.buckets:
        assert all(f"{bucket.folder}/{stem}.png" in written for stem in bucket.stems)
    assert "/workspace/mira" in result.command and result.config.is_file()
    assert result.command in written["report.md"].decode()


def test_control_pictures_lie_beside_the_pictures_under_the_same_stems(tmp_path):
    controls = album(tmp_path / "controls", 4, first=900)
    dataset = dataset_of(album(tmp_path / "in", 4))
    dataset = dataset.with_items(replace(item, control=FileSource(path)) for item, path in zip(dataset.items, sorted(controls.glob("*.[pj][np]g"))))
    folder = export(dataset, tmp_path / "out", **PAIRED).folder
    assert sorted(path.name for path in (folder / "control_character").iterdir()) == sorted(path.name for path in (folder / "40_character").glob("*.png"))
    told = manifest_of(folder)["pictures"][0]
    assert told["control"]["file"] == "control_character/p000.png" and told["control"]["source"] == "p900.png"
    assert told["control"]["sha256"] == hashlib.sha256((folder / "control_character/p000.png").read_bytes()).hexdigest() != told["sha256"]
    unpaired = export(dataset, tmp_path / "plain")
    assert not (unpaired.folder / "control_character").exists()
    assert any("4 of 4 pictures have one" in line for line in unpaired.lines())


def test_a_missing_control_picture_blocks_a_paired_export(tmp_path):
    plan = plan_export(dataset_of(album(tmp_path / "in", 3)), options(tmp_path / "out", **PAIRED))
    assert "control picture" in plan.blocked[0]
    with pytest.raises(InputError, match="blocked") as error:
        carry_out(plan)
    one_sentence(error)
    assert not (tmp_path / "out").exists()


# --- the pictures ---


def test_exported_pictures_are_what_the_sources_show_without_metadata(tmp_path):
    (tmp_path / "in").mkdir()
    text, exif = PngImagePlugin.PngInfo(), Image.Exif()
    text.add_text("workflow", "secret")
    exif[0x0112] = 6
    Image.fromarray(drawn(1)).save(tmp_path / "in" / "a.png", pnginfo=text, dpi=(300, 300))
    Image.fromarray(drawn(2)).save(tmp_path / "in" / "b.jpg", exif=exif, quality=95)
    Image.fromarray(np.dstack([drawn(3), drawn(3)[..., :1]])).save(tmp_path / "in" / "c.png")
    Image.new("CMYK", (64, 64), (0, 200, 0, 0)).save(tmp_path / "in" / "d.jpg")
    dataset = dataset_of(tmp_path / "in")
    for kind, suffix in (("png", ".png"), ("jpeg", ".jpg")):
        folder = export(dataset, tmp_path / kind, picture_format=kind).folder
        for item in dataset.items:
            content = (folder / "40_character" / f"{item.stem}{suffix}").read_bytes()
            image = Image.open(io.BytesIO(content))
            image.load()
            assert image.mode == "RGB" and not set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
            assert b"secret" not in content and not image.getexif()
            difference = np.abs(np.asarray(image).astype(int) - item.source.pixels())
            assert difference.max() == 0 if kind == "png" else difference.mean() < 3
    told = {picture["source"]: picture for picture in manifest_of(tmp_path / "png" / "mira")["pictures"]}
    assert told["b.jpg"]["reading"] == ["turned upright as its EXIF says"] and told["b.jpg"]["size"] == [128, 96]
    assert told["c.png"]["reading"] == ["transparent parts on white"]
    assert told["a.png"]["workflow"] == hashlib.sha256(b"secret").hexdigest()


def test_a_clean_png_is_copied_and_any_other_is_not(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(drawn(1)).save(folder / "clean.png", compress_level=9)
    Image.fromarray(drawn(1)).save(folder / "more.png", compress_level=9, dpi=(72, 72))
    out = export(dataset_of(folder), tmp_path / "out").folder / "40_character"
    assert (out / "clean.png").read_bytes() == (folder / "clean.png").read_bytes()
    assert (out / "more.png").read_bytes() != (folder / "more.png").read_bytes()
    assert np.array_equal(FileSource(out / "more.png").pixels(), drawn(1))


def test_pictures_in_memory_are_exported_too(tmp_path):
    items = [DatasetItem(Given(f"picture {i}", drawn(i)), f"p{i}", caption="x") for i in range(3)]
    folder = export(Dataset(tuple(items)), tmp_path / "out").folder
    assert np.array_equal(FileSource(folder / "40_character" / "p2.png").pixels(), drawn(2))


def test_a_picture_that_cannot_be_read_stops_the_export_and_the_rest_is_made_once(tmp_path, monkeypatch):
    folder = album(tmp_path / "in", 6, 300, 300)
    dataset = dataset_of(folder)
    whole = (folder / "p002.png").read_bytes()
    (folder / "p002.png").write_bytes(whole[:2000])
    (folder / "p004.png").write_bytes((folder / "p004.png").read_bytes()[:2000])
    with pytest.raises(PictureError, match=r"^2 pictures cannot be read; the first: .*p002.png") as error:
        export(dataset, tmp_path / "out")
    one_sentence(error)
    assert not tree(tmp_path / "out")
    (folder / "p002.png").write_bytes(whole)
    (folder / "p004.png").unlink()
    read = []
    real = FileSource.read
    monkeypatch.setattr(FileSource, "read", lambda self: (read.append(self.path.name), real(self))[1])
    result = export(dataset.with_items(item for item in dataset.items if item.stem != "p004"), tmp_path / "out")
    assert read == ["p002.png"] and len(result.difference.new) == 13
    assert inside(result.folder) == ["journal.json", "lock"]


# --- the manifest ---


def test_the_manifest_tells_what_is_known_of_each_picture(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 2))
    first = replace(
        dataset.items[0],
        likeness=np.float32(0.5),
        verdict="pass",
        origin={"source": "shoot/1.png", "seed": 7, "model": "m", "workflow": "ab", "prompt": "a street", "camera": "x"},
        parent="p001",
        crop=(0, -4, 20, 30),
        measured={"sharpness": np.float64(1.5), "bad": float("nan")},
        findings=(Finding(BLOCKED, "blur", "It is blurred."),),
        waived=frozenset({"blur"}),
    )
    dataset = replace(dataset, items=(first.decided("Kept by hand."), dataset.items[1]), left_out=(("x.png", "x.png is empty."),), notes=("A note.",))
    folder = export(dataset, tmp_path / "out", provenance=Provenance("Mira agreed.\nCC BY 4.0", True)).folder
    told = manifest_of(folder)
    assert (told["format"], told["synthetic"], told["consent_and_licence"]) == (1, True, "Mira agreed.\nCC BY 4.0")
    assert told["left_out"] == [{"name": "x.png", "why": "x.png is empty."}] and told["notes"] == ["A note."]
    assert told["tools"]["Likeness"] and told["tools"]["Pillow"] and told["tools"]["imagehash"]
    picture = told["pictures"][0]
    expected = {"likeness": 0.5, "verdict": "pass", "seed": 7, "model": "m", "workflow": "ab", "prompt": "a street", "origin": {"camera": "x"}}
    expected |= {"parent": "p001", "crop": [0, -4, 20, 30], "measured": {"bad": None, "sharpness": 1.5}, "source": "shoot/1.png", "size": [96, 128]}
    expected |= {"findings": [{"level": BLOCKED, "rule": "blur", "text": "It is blurred.", "waived": True}]}
    assert {key: picture[key] for key in expected} == expected
    assert picture["decisions"][-1] == "Kept by hand." and len(picture["phash"]) == 16
    for one in told["pictures"]:
        assert one["sha256"] == hashlib.sha256((folder / one["file"]).read_bytes()).hexdigest()


def test_the_manifest_names_no_path_of_this_machine(tmp_path):
    folder = album(tmp_path / "in", 2)
    (folder / "broken.png").write_bytes(b"x")
    exported = export(dataset_of(folder), tmp_path / "out", archive="zip").folder
    assert not [name for name, content in tree(exported).items() if str(tmp_path).encode() in content]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.integers() | st.floats(width=32).map(np.float32),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_whatever_an_item_carries_the_manifest_can_hold(value):
    json.dumps(plain(value), allow_nan=False)


# --- again ---


def test_the_same_export_elsewhere_gives_the_same_bytes(tmp_path):
    dataset = two_buckets(tmp_path)
    first, second = export(dataset, tmp_path / "one", archive="zip"), export(dataset, tmp_path / "two", archive="zip")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert first.archive != second.archive and first.archive.read_bytes() == second.archive.read_bytes()


def test_an_export_of_nothing_new_decodes_and_touches_nothing(tmp_path, monkeypatch):
    dataset = two_buckets(tmp_path)
    folder = export(dataset, tmp_path / "out", archive="zip").folder
    before = {path: path.stat() for path in (tmp_path / "out").rglob("*")}
    monkeypatch.setattr(FileSource, "read", None)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    result = export(from_both(tmp_path), tmp_path / "out", archive="zip")
    assert result.difference.nothing and result.lines()[0] == "22 files unchanged."
    after = {path: path.stat() for path in (tmp_path / "out").rglob("*")}
    assert {path: (state.st_mtime_ns, state.st_ino) for path, state in before.items() if path.name != "lock"} == {
        path: (state.st_mtime_ns, state.st_ino) for path, state in after.items() if path.name != "lock"
    }
    assert folder.is_dir()


def from_both(tmp_path):
    """The dataset of two_buckets, read again."""
    faces = dataset_of(tmp_path / "faces")
    return faces.added(dataset_of(tmp_path / "bodies", BODY).items)


def test_only_what_changed_is_written_and_what_left_is_removed(tmp_path):
    dataset = two_buckets(tmp_path)
    folder = export(dataset, tmp_path / "out").folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    album(tmp_path / "faces", 1, first=7)
    Image.fromarray(drawn(77)).save(tmp_path / "faces" / "p001.jpg")
    (tmp_path / "faces" / "p002.txt").write_text("mira_k, other words")
    (tmp_path / "faces" / "p004.png").unlink()
    result = export(from_both(tmp_path), tmp_path / "out")
    difference = result.difference
    assert difference.new == ("40_character/p007.png", "40_character/p007.txt")
    assert set(difference.changed) == {"40_character/p001.png", "40_character/p002.txt", "manifest.json"}
    assert difference.removed == ("40_character/p004.png", "40_character/p004.txt")
    touched = {path.relative_to(folder).as_posix() for path, time in before.items() if path.exists() and path.stat().st_mtime_ns != time}
    assert touched == {*difference.changed, ".likeness/journal.json"}
    fresh = export(from_both(tmp_path), tmp_path / "fresh").folder
    assert tree(folder) == tree(fresh)


def test_other_repeats_move_the_pictures_without_making_them_again(tmp_path, monkeypatch):
    dataset = dataset_of(album(tmp_path / "in", 4))
    export(dataset, tmp_path / "out")
    monkeypatch.setattr(sources, "png_bytes", None)
    monkeypatch.setattr(FileSource, "read", None)
    folder = export(dataset, tmp_path / "out", repeats="auto", target_steps=40).folder
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [".likeness", "10_character"]
    monkeypatch.undo()
    assert tree(folder) == tree(export(dataset, tmp_path / "fresh", repeats="auto", target_steps=40).folder)


def test_a_copied_dataset_is_known_by_its_bytes(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 4, 300, 300))
    folder = export(dataset, tmp_path / "out").folder
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(10**18, 10**18))
    assert export(dataset, tmp_path / "out").difference.nothing


def test_another_format_replaces_the_pictures(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 3))
    export(dataset, tmp_path / "out")
    folder = export(dataset, tmp_path / "out", picture_format="jpeg").folder
    assert not list(folder.rglob("*.png")) and len(list(folder.rglob("*.jpg"))) == 3


def test_stale_caches_are_named_and_left(tmp_path):
    dataset = two_buckets(tmp_path)
    folder = export(dataset, tmp_path / "out").folder
    cache = folder / "40_character" / "_latent_cache"
    cache.mkdir()
    (cache / "p000.safetensors").touch()
    (folder / "40_character" / ".aitk_size.json").touch()
    assert export(dataset, tmp_path / "out").stale == ()
    album(tmp_path / "faces", 1, first=9)
    assert export(from_both(tmp_path), tmp_path / "out").stale == ()
    (tmp_path / "faces" / "p002.txt").write_text("mira_k, other words")
    result = export(from_both(tmp_path), tmp_path / "out")
    assert set(result.stale) == {"40_character/_latent_cache", "40_character/.aitk_size.json"}
    assert "40_character/_latent_cache" in result.lines()[-1] and (cache / "p000.safetensors").exists()


# --- dry run ---


def test_a_dry_run_tells_the_difference_and_touches_nothing(tmp_path):
    dataset = two_buckets(tmp_path)
    result = export(dataset, tmp_path / "out", dry_run=True)
    assert len(result.difference.new) == 21 and not result.written and not (tmp_path / "out").exists()
    assert result.lines()[0].startswith("21 files to write: ")
    folder = export(dataset, tmp_path / "out").folder
    (folder / "40_character" / "p000.txt").write_text("my own words")
    before = tree(folder)
    smaller = dataset.with_items(item for item in dataset.items if item.stem != "p501")
    result = export(smaller, tmp_path / "out", dry_run=True)
    assert result.difference.removed == ("20_body/p501.png", "20_body/p501.txt")
    assert set(result.difference.changed) == {"manifest.json", "report.md", "config.yaml"}
    assert len(result.difference.refused) == 1 and "p000.txt was changed" in result.lines()[-1] + "".join(result.lines())
    assert tree(folder) == before


# --- what is not ours ---


@pytest.mark.parametrize("name", ["40_character/p001.png", "40_character/p001.txt", "config.yaml", "manifest.json", "report.md"])
def test_a_file_of_somebody_else_in_the_way_is_never_replaced(tmp_path, name):
    place = tmp_path / "out" / "mira" / name
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    with pytest.raises(ExportError, match="was not written by Likeness") as error:
        export(dataset_of(album(tmp_path / "in", 3)), tmp_path / "out")
    assert str(place) in one_sentence(error)
    assert tree(tmp_path / "out") == {f"mira/{name}": b"mine"}


@pytest.mark.parametrize("name", ["40_character/p001.png", "40_character/p001.txt", "config.yaml", "manifest.json"])
def test_a_file_that_was_changed_since_is_never_replaced_or_removed(tmp_path, name):
    dataset = dataset_of(album(tmp_path / "in", 3))
    folder = export(dataset, tmp_path / "out").folder
    place = folder / name
    place.write_bytes(place.read_bytes()[::-1])
    os.utime(place, ns=(5, 5))
    before = tree(folder)
    with pytest.raises(ExportError, match="was changed since Likeness wrote it") as error:
        export(replace(dataset, trigger="other"), tmp_path / "out")
    assert str(place) in one_sentence(error)
    assert tree(folder) == before
    if name.startswith("40"):
        result = export(dataset.with_items(item for item in dataset.items if item.stem != "p001"), tmp_path / "out")
        assert result.difference.kept == (name,) and tree(folder)[name] == before[name]
        assert any("was changed since" in line and name in line for line in result.lines())


def test_a_text_of_somebody_else_with_the_very_words_is_used_and_never_removed(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 3))
    theirs = tmp_path / "out" / "mira" / "40_character" / "p001.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text(dataset.items[1].caption)
    first = export(dataset, tmp_path / "out", archive="zip")
    assert "40_character/p001.txt" in first.difference.unchanged
    assert zipfile.ZipFile(first.archive).read("mira/40_character/p001.txt") == theirs.read_bytes()
    assert export(dataset, tmp_path / "out", archive="zip").difference.nothing
    with pytest.raises(ExportError, match=r"p001\.txt is there and was not written by Likeness"):
        export(dataset.with_items(replace(item, caption="mira_k, other") for item in dataset.items), tmp_path / "out")
    fewer = export(dataset.with_items(item for item in dataset.items if item.stem != "p001"), tmp_path / "out")
    assert "40_character/p001.png" in fewer.difference.removed and theirs.read_text() == dataset.items[1].caption


def test_a_file_under_another_spelling_on_a_disk_that_knows_no_case_is_ours_and_stays(tmp_path):
    """The other spelling of a path leads to the same file there; a hard link does so here."""
    bring_about(tmp_path / "out", [Wanted.of("Outfit/a.txt", b"words"), Wanted.of("Outfit/b.txt", b"old")])
    (tmp_path / "out" / "outfit").mkdir()
    for name in ("a.txt", "b.txt"):
        os.link(tmp_path / "out" / "Outfit" / name, tmp_path / "out" / "outfit" / name)
    done = bring_about(tmp_path / "out", [Wanted.of("outfit/a.txt", b"words"), Wanted.of("outfit/b.txt", b"new")])
    assert (done.unchanged, done.changed, done.removed, done.refused) == (("outfit/a.txt",), ("outfit/b.txt",), (), ())
    assert (tmp_path / "out" / "outfit" / "a.txt").read_bytes() == b"words" and (tmp_path / "out" / "outfit" / "b.txt").read_bytes() == b"new"


def test_a_text_that_was_brought_to_the_same_words_is_no_reason_to_refuse(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 2))
    folder = export(dataset, tmp_path / "out").folder
    (folder / "40_character" / "p000.txt").write_text("mira_k, better")
    better = dataset.with_items((replace(dataset.items[0], caption="mira_k, better"), dataset.items[1]))
    assert export(better, tmp_path / "out").difference.refused == ()
    assert export(better, tmp_path / "out").difference.nothing


def test_files_of_somebody_else_beside_ours_stay_and_pictures_among_them_are_named(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 2))
    folder = export(dataset, tmp_path / "out").folder
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")
    (folder / "40_character" / "extra.png").write_bytes(b"mine")
    result = export(dataset.with_items(dataset.items[:1]), tmp_path / "out")
    assert any("Not from Likeness" in line and "40_character/extra.png" in line for line in result.lines())
    assert (folder / "notes" / "mine.txt").read_text() == "mine" and (folder / "40_character" / "extra.png").exists()


@pytest.mark.parametrize("kind", ["folder", "file for folder", "link", "link for folder"])
def test_what_is_no_plain_file_in_the_way_is_refused(tmp_path, kind):
    folder = tmp_path / "out" / "mira"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "p000.png").write_text("mine")
    (folder / "40_character").mkdir(parents=True)
    if kind == "folder":
        (folder / "config.yaml").mkdir()
    elif kind == "link":
        (folder / "40_character" / "p000.png").symlink_to(elsewhere / "p000.png")
    else:
        (folder / "40_character").rmdir()
        if kind == "link for folder":
            (folder / "40_character").symlink_to(elsewhere)
        else:
            (folder / "40_character").write_text("mine")
    with pytest.raises(ExportError, match="is there and is no") as error:
        export(dataset_of(album(tmp_path / "in", 2)), tmp_path / "out")
    one_sentence(error)
    assert tree(elsewhere) == {"p000.png": b"mine"}


def test_a_folder_is_not_exported_into_itself(tmp_path):
    folder = export(dataset_of(album(tmp_path / "in", 2)), tmp_path / "out").folder
    with pytest.raises(InputError, match="no picture replaces its own source") as error:
        export(from_folder(folder / "40_character"), tmp_path / "out")
    one_sentence(error)


def test_a_damaged_journal_is_one_sentence(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 2))
    folder = export(dataset, tmp_path / "out").folder
    journal = folder / ".likeness" / "journal.json"
    before = tree(folder)
    for content in (b"", b"[]", b"{}", b'{"format": 1, "files": {"../../x": {}}, "moving": {}}', journal.read_bytes().replace(b"config.yaml", b"../../escape")):
        journal.write_bytes(content)
        with pytest.raises(ExportError, match="damaged") as error:
            export(dataset, tmp_path / "out")
        one_sentence(error)
    journal.write_text('{"format": 99}')
    with pytest.raises(ExportError, match="another version"):
        export(dataset, tmp_path / "out")
    assert tree(folder) == before


# --- the archive ---


def test_the_archive_holds_the_dataset_and_nothing_else(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 3))
    folder = tmp_path / "out" / "mira"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "mine.txt").write_text("mine")
    result = export(dataset, tmp_path / "out", archive="zip")
    with zipfile.ZipFile(result.archive) as archive:
        assert archive.testzip() is None
        held = {name.removeprefix("mira/"): archive.read(name) for name in archive.namelist()}
        assert archive.namelist() == sorted(archive.namelist())
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    on_disk = tree(folder)
    assert on_disk.pop("notes/mine.txt") and held == on_disk


def test_an_archive_of_somebody_else_is_not_replaced_and_ours_follows_the_dataset(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mira.zip").write_text("mine")
    with pytest.raises(ExportError, match=r"mira.zip is there and was not written by Likeness"):
        export(dataset, tmp_path / "out", archive="zip")
    assert tree(tmp_path / "out") == {"mira.zip": b"mine"}
    (tmp_path / "out" / "mira.zip").unlink()
    first = export(dataset, tmp_path / "out", archive="zip").archive.read_bytes()
    smaller = dataset.with_items(dataset.items[:2])
    without = export(smaller, tmp_path / "out")
    assert (tmp_path / "out" / "mira.zip").read_bytes() == first
    assert any("mira.zip is that of an earlier export" in line for line in without.lines())
    second = export(smaller, tmp_path / "out", archive="zip")
    assert "../mira.zip" in second.difference.changed and second.archive.read_bytes() != first


# --- what may be exported, and where to ---


def test_what_blocks_an_export_is_listed_and_can_be_waived(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 3))
    blur = Finding(BLOCKED, "blur", "It is blurred.")
    items = [replace(dataset.items[0], findings=(blur, Finding(ATTENTION, "dark", "It is dark."))), *dataset.items[1:]]
    dataset = replace(dataset, items=tuple(items), findings=(Finding(BLOCKED, "plan", "There are too few pictures."),))
    with pytest.raises(InputError) as error:
        export(dataset, tmp_path / "out")
    assert one_sentence(error) == "The export is blocked: There are too few pictures; p000: It is blurred."
    assert any(line.startswith("Blocked: p000") for line in export(dataset, tmp_path / "out", dry_run=True).lines())
    with pytest.raises(InputError, match="blocked: p000"):
        export(dataset, tmp_path / "out", waive="plan")
    waived = dataset.with_items([replace(items[0], waived=frozenset({"blur"})), *items[1:]])
    assert export(waived, tmp_path / "out", waive="plan").written
    assert export(replace(waived, waived=frozenset({"plan"})), tmp_path / "other").written
    result = export(dataset, tmp_path / "third", waive="plan\nP000: blur\ngone: blur")
    assert "Let pass in this export: blur, plan." in result.lines()
    assert "The waiver of gone was not used: no picture has that name." in result.lines()
    manifest = manifest_of(result.folder)
    assert [one["waived"] for one in (*manifest["findings"], *manifest["pictures"][0]["findings"])] == [True, True, False]


def test_a_trainers_finding_can_be_waived_for_one_picture(tmp_path):
    folder = album(tmp_path / "in", 3)
    for name in ("tiny", "small"):
        Image.fromarray(drawn(9, 20, 20)).save(folder / f"{name}.png")
    dataset = dataset_of(folder)
    with pytest.raises(InputError, match=r"2 pictures \(small, tiny\) have a side of less than 32 pixels and fit no bucket; leave them out"):
        export(dataset, tmp_path / "out")
    with pytest.raises(InputError, match=r"1 picture \(small\) has a side of less than 32 pixels and fits no bucket; leave it out"):
        export(dataset, tmp_path / "out", waive="tiny: too small")
    assert export(dataset, tmp_path / "out", waive="tiny: too small\nsmall: too small").written
    assert export(dataset, tmp_path / "other", waive="too small, steps").written


@pytest.mark.parametrize(
    ("waive", "message"),
    [
        ("too smal", "'too smal' is no rule of the audit or of a trainer's check; the rules are .*blur.*; and of the trainers .*too small"),
        ("p000: steps", "The rule steps is about the whole"),
        ("*: unreadable", "The rule unreadable cannot be waived"),
        ("p000:", "'p000:' waives nothing"),
    ],
)
def test_a_waiver_of_the_export_that_cannot_be_read_is_one_sentence(tmp_path, waive, message):
    with pytest.raises(InputError, match=message) as error:
        export(dataset_of(album(tmp_path / "in", 2)), tmp_path / "out", waive=waive)
    one_sentence(error)


def test_buckets_that_differ_in_case_alone_are_one_sentence(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 2))
    items = [replace(item, bucket=Bucket(name)) for item, name in zip(dataset.items, ("Outfit", "outfit"))]
    with pytest.raises(InputError, match="The buckets 'Outfit' and 'outfit' differ only in the case of their letters") as error:
        export(dataset.with_items(items), tmp_path / "out")
    one_sentence(error)


def test_contact_sheets_are_drawn_when_they_are_written_and_not_kept(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 2))
    drawn_pages = []

    def page():
        drawn_pages.append(1)
        return drawn(3, 64, 64)

    files = sheet_files([page, page])
    assert [file.path for file in files] == ["contact_sheet.png", "contact_sheet_2.png"] and len(drawn_pages) == 2
    folder = carry_out(plan_export(dataset, options(tmp_path / "out"), "", files)).folder
    assert len(drawn_pages) == 4
    with Image.open(folder / "contact_sheet_2.png") as written:
        assert (np.asarray(written) == drawn(3, 64, 64)).all()
    assert carry_out(plan_export(dataset, options(tmp_path / "out"), "", sheet_files([page, page]))).difference.nothing and len(drawn_pages) == 6


def test_the_command_is_told_for_both_kinds_of_shell(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 2))
    report = (export(dataset, tmp_path / "out", root="/data/her data's/mira").folder / "report.md").read_text()
    unix, powershell = report.split("in a Unix shell:")[1].split("In PowerShell:")
    assert """"${AI_TOOLKIT_ROOT:?the folder of ai-toolkit}/run.py" '/data/her data'"'"'s/mira/config.yaml'""" in unix
    assert """"${env:AI_TOOLKIT_ROOT}/run.py" '/data/her data''s/mira/config.yaml'""" in powershell
    report = (export(dataset, tmp_path / "out", trainer="imagefolder").folder / "report.md").read_text()
    assert "print(load_dataset(''.''))" in report.split("In PowerShell:")[1]


def test_pictures_of_three_pixels_block_an_export(tmp_path):
    folder = album(tmp_path / "in", 2)
    Image.fromarray(drawn(1, 3, 1)).save(folder / "tiny.png")
    with pytest.raises(InputError, match="tiny") as error:
        export(dataset_of(folder), tmp_path / "out")
    one_sentence(error)


def test_a_dataset_without_pictures_is_one_sentence(tmp_path):
    for dataset in (Dataset(), Dataset(left_out=(("a.png", "a.png is empty (0 bytes)."),) * 3)):
        with pytest.raises(InputError, match="no picture left") as error:
            export(dataset, tmp_path / "out")
        one_sentence(error)


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "C:\\x", "a/b", "a\\b", "con", "nul.png", ".hidden", "a b", "a\nb", "x" * 200, "a*"])
def test_names_that_are_no_dataset_are_refused(tmp_path, name):
    with pytest.raises(InputError) as error:
        export(dataset_of(album(tmp_path / "in", 2)), tmp_path / "out", name=name)
    one_sentence(error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stems", [("a", "A"), ("a", "a")])
def test_pictures_of_one_name_are_refused(tmp_path, stems):
    items = tuple(DatasetItem(Given(f"picture {i}", drawn(i)), stem) for i, stem in enumerate(stems))
    with pytest.raises(InputError, match="picture 0 and picture 1 would both be called") as error:
        export(Dataset(items), tmp_path / "out")
    one_sentence(error)


@pytest.mark.parametrize("stem", ["../a", "a/b", "con", ".a", "a:b", "a ", ""])
def test_pictures_of_impossible_names_are_refused(tmp_path, stem):
    with pytest.raises(InputError, match="cannot be the name of a picture") as error:
        export(Dataset((DatasetItem(Given("picture", drawn(1)), stem),)), tmp_path / "out")
    one_sentence(error)


@pytest.mark.parametrize("change", [{"archive": "rar"}, {"picture_format": "webp"}, {"trainer": "x"}, {"vram": 1}, {"repeats": "x"}, {"root": "~/x"}])
def test_options_that_are_none_are_one_sentence(tmp_path, change):
    with pytest.raises(InputError) as error:
        export(dataset_of(album(tmp_path / "in", 2)), tmp_path / "out", **change)
    one_sentence(error)


def test_a_host_writes_below_its_folders_only(tmp_path):
    output, other, outside = (tmp_path / name for name in ("output", "other", "outside"))
    for folder in (output, other, outside):
        folder.mkdir()
    roots = allowed_roots(output, {ROOTS_VARIABLE: f"{other}{os.pathsep}"})
    assert roots == (output, other)
    assert checked_target(output / "a" / "b", roots) == output / "a" / "b"
    assert checked_target(other / "a", roots) == other / "a"
    assert checked_target(Path("a"), roots) == output / "a"
    (output / "way out").symlink_to(outside)
    for folder in (outside / "a", output / ".." / "outside" / "a", output / "way out" / "a", output, Path("..") / "x", tmp_path):
        with pytest.raises(InputError, match="outside") as error:
            checked_target(folder, roots)
        one_sentence(error)
    assert checked_target(outside / "a") == outside / "a"
    with pytest.raises(InputError, match="is a link"):
        checked_target(output / "way out")
    with pytest.raises(InputError, match="outside"):
        export(dataset_of(album(tmp_path / "in", 2)), outside, allowed=roots)
    assert not list(outside.iterdir())


def test_a_relative_root_of_the_operator_is_refused(tmp_path):
    with pytest.raises(InputError, match=ROOTS_VARIABLE) as error:
        allowed_roots(tmp_path, {ROOTS_VARIABLE: "exports"})
    one_sentence(error)


def test_the_report_carries_the_audit_and_further_files_lie_beside_it(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 3))
    plan = plan_export(dataset, options(tmp_path / "out"), "# Audit\n\nReady.\n", [Wanted.of("contact_sheet.jpg", b"sheet")])
    folder = carry_out(plan).folder
    report = (folder / "report.md").read_text()
    assert report.startswith("# Audit\n\nReady.\n") and "steps" in report
    assert (folder / "contact_sheet.jpg").read_bytes() == b"sheet"


def test_progress_is_told_file_by_file_and_may_stop_the_export(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 4))
    told = []
    carry_out(plan_export(dataset, options(tmp_path / "out")), lambda *now: told.append(now))
    assert [done for done, _, _ in told] == list(range(1, 12)) and {total for _, total, _ in told} == {11}

    class Stopped(Exception):
        pass

    def stop(done, total, path):
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        carry_out(plan_export(dataset, options(tmp_path / "other")), stop)
    assert not tree(tmp_path / "other")
    assert tree(export(dataset, tmp_path / "other").folder) == tree(tmp_path / "out" / "mira")


# --- any wanted folders, one after the other ---

names = st.sampled_from(["a.txt", "b.txt", "x/a.txt", "x/b.txt", "x/y/c.txt", "x"])
states = st.dictionaries(names, st.binary(max_size=6), max_size=5).filter(lambda state: not ("x" in state and any("x/" in name for name in state)))


@settings(max_examples=25)
@given(st.lists(states, min_size=1, max_size=4), st.booleans())
def test_a_folder_becomes_what_is_wanted_whatever_it_was(tmp_path_factory, wanted, foreign):
    folder = tmp_path_factory.mktemp("state") / "target"
    own = {}
    if foreign:
        folder.mkdir()
        (folder / "mine").write_text("mine")
        own = {"mine": b"mine"}
    before = {}
    for state in wanted:
        # A file where a folder was, or the other way round, is refused: it would need two steps.
        turned = ("x" in state and any("x/" in name for name in before)) or ("x" in before and any("x/" in name for name in state))
        if turned:
            with pytest.raises(ExportError):
                bring_about(folder, [Wanted.of(name, content) for name, content in state.items()])
            continue
        done = bring_about(folder, [Wanted.of(name, content) for name, content in state.items()])
        assert tree(folder) == state | own
        assert set(done.removed) == set(before) - set(state)
        before = state
