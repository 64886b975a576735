"""Whether references are pictures of an exported dataset; and that an identity's file keeps what they are known by."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.identity.identity import build_identity, load_identity, save_identity
from character_likeness.nodes.lora_dataset.dataset import CHARACTER
from character_likeness.nodes.lora_dataset.held_out import shared_with, warning
from character_likeness.nodes.lora_dataset.manifest import MANIFEST
from character_likeness.nodes.pictures import Picture
from tests.tiny.exports import album, dataset_of, drawn, export
from tests.tiny.sweeps import ByPixel, mira

WIDTH, HEIGHT = 240, 320


def shown(pixels: np.ndarray) -> Picture:
    """With a face, where ByPixel looks for one."""
    pixels = pixels.copy()
    pixels[0, 0] = 200, 0, 0
    return Picture(pixels)


def known(*pictures: np.ndarray, recognizer=None):
    return build_identity([shown(pixels) for pixels in pictures], recognizer or ByPixel(), "Mira")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A dataset of four pictures, two of them JPEG, that was really exported."""
    folder = tmp_path_factory.mktemp("held_out")
    dataset = dataset_of(album(folder / "pictures", 4, WIDTH, HEIGHT), CHARACTER)
    export(dataset, folder)
    assert (folder / "mira" / MANIFEST).is_file()
    return folder / "mira"


def in_dataset(exported, number):
    """The file of picture `number` in the dataset."""
    return next(one["file"] for one in json.loads((exported / MANIFEST).read_text(encoding="utf-8"))["pictures"] if f"p{number:03}" in one["file"])


def as_jpeg(pixels, quality):
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=quality)
    return np.asarray(Image.open(encoded).convert("RGB"))


def resized(pixels, share):
    return np.asarray(Image.fromarray(pixels).resize((round(pixels.shape[1] * share), round(pixels.shape[0] * share)), Image.Resampling.LANCZOS))


# --- references and a real dataset ---


def test_pictures_that_are_not_in_the_dataset_are_held_out(exported):
    who = known(*(drawn(number, WIDTH, HEIGHT) for number in range(100, 110)))
    assert shared_with(who, exported) == [] and warning(who, exported) is None


def test_a_picture_of_the_dataset_is_known_by_its_place_and_file(exported):
    who = known(drawn(100, WIDTH, HEIGHT), drawn(2, WIDTH, HEIGHT), drawn(3, WIDTH, HEIGHT))
    assert shared_with(who, exported) == [(1, in_dataset(exported, 2)), (2, in_dataset(exported, 3))]
    assert warning(who, exported) == (
        f"2 of 3 references of Mira are pictures of the dataset ({in_dataset(exported, 2)}, {in_dataset(exported, 3)}): a LoRA that has learnt them by heart "
        "scores well; build the identity from pictures that were held out."
    )


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    "changed",
    [
        lambda pixels: as_jpeg(pixels, 60),
        lambda pixels: resized(pixels, 0.5),
        lambda pixels: resized(pixels, 2.0),
        lambda pixels: as_jpeg(resized(pixels, 0.7), 75),
    ],
    ids=["JPEG", "half the size", "twice the size", "smaller JPEG"],
)
def test_a_picture_is_known_again_when_it_was_saved_as_jpeg_or_in_another_size(exported, changed, number):
    assert shared_with(known(changed(drawn(number, WIDTH, HEIGHT))), exported) == [(0, in_dataset(exported, number))]


def test_a_narrow_rim_cut_off_is_known_and_a_face_crop_is_another_picture(exported):
    pixels = drawn(1, WIDTH, HEIGHT)
    assert shared_with(known(pixels[2:-2, 2:-2]), exported) == [(0, in_dataset(exported, 1))]
    assert shared_with(known(pixels[40:160, 60:180]), exported) == []


def test_of_many_only_three_are_named(exported):
    who = known(*(drawn(number, WIDTH, HEIGHT) for number in range(4)))
    assert warning(who, exported).startswith(f"4 of 4 references of Mira are pictures of the dataset ({in_dataset(exported, 0)}, ")
    assert warning(who, exported).count(".png") + warning(who, exported).count(".jpg") == 3 and ", ...)" in warning(who, exported)


def test_an_identity_of_an_earlier_version_is_told_and_needs_no_dataset_for_that(tmp_path):
    assert warning(mira(), tmp_path / "nothing") == (
        "Whether the references of Mira are in the dataset is unknown: the identity was saved by an earlier version; build it again."
    )


def test_of_an_identity_with_some_hashes_those_are_looked_for(exported):
    who = known(drawn(0, WIDTH, HEIGHT), drawn(1, WIDTH, HEIGHT))
    who = replace(who, references=(replace(who.references[0], phash=""), who.references[1]))
    assert shared_with(who, exported) == [(1, in_dataset(exported, 1))]


# --- manifests ---


HOSTILE = {
    "empty": b"",
    "no JSON": b"pictures",
    "not UTF-8": b'{"pictures": "\xff"}',
    "a list": b"[1, 2]",
    "a number": b"7",
    "no pictures": b'{"format": 1}',
    "pictures are null": b'{"pictures": null}',
    "pictures are names": b'{"pictures": ["a.png"]}',
    "a hash that is none": b'{"pictures": [{"phash": "hello", "file": "a"}]}',
    "a hash that is a number": b'{"pictures": [{"phash": 7, "file": "a"}]}',
    "a hash without a file": b'{"pictures": [{"phash": "00ff00ff00ff00ff"}]}',
    "nested without end": b'{"pictures": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_manifest_is_one_sentence(tmp_path, name):
    (tmp_path / MANIFEST).write_bytes(HOSTILE[name])
    with pytest.raises(InputError) as error:
        shared_with(mira(phash="00ff00ff00ff00ff"), tmp_path)
    assert str(error.value) == f"{tmp_path / MANIFEST} is no manifest of a dataset; name the folder that Export LoRA Dataset wrote."


def test_a_folder_without_a_manifest_is_one_sentence(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError) as error:
            shared_with(mira(phash="00ff00ff00ff00ff"), folder)
        assert str(error.value) == f"{folder / MANIFEST} cannot be read (No such file or directory); name the folder that Export LoRA Dataset wrote."


def test_a_manifest_that_is_a_folder_or_far_too_large_is_one_sentence(tmp_path):
    (tmp_path / "a" / MANIFEST).mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be read"):
        shared_with(mira(phash="00ff00ff00ff00ff"), tmp_path / "a")
    (tmp_path / "b").mkdir()
    with open(tmp_path / "b" / MANIFEST, "wb") as file:
        file.truncate(201 * 2**20)
    with pytest.raises(InputError, match="is too large for a dataset's manifest"):
        shared_with(mira(phash="00ff00ff00ff00ff"), tmp_path / "b")


def test_pictures_without_a_hash_are_passed_over(tmp_path):
    pictures = [{"file": "a"}, {"phash": None, "file": "b"}, {"phash": "00ff00ff00ff0000", "file": "c"}, {"phash": "00ff00ff00ff00ff", "file": "d"}]
    (tmp_path / MANIFEST).write_text(json.dumps({"pictures": pictures}))
    # Eight bits lie between c and the reference, six is the most.
    assert shared_with(mira(phash="00ff00ff00ff00fe"), tmp_path) == [(0, "d")] and shared_with(mira(phash="ff00ff00ff00ff00"), tmp_path) == []


# --- the identity's file ---


def test_a_saved_identity_keeps_the_hashes_of_its_references(tmp_path):
    recognizer = ByPixel()
    who = known(*(drawn(number, WIDTH, HEIGHT) for number in range(3)), recognizer=recognizer)
    assert all(len(one.phash) == 16 and int(one.phash, 16) for one in who.references) and len({one.phash for one in who.references}) == 3
    again = load_identity(save_identity(who, tmp_path, "mira"), None, recognizer)
    assert [one.phash for one in again.references] == [one.phash for one in who.references]


def test_calibration_against_each_other_keeps_the_hashes():
    pictures = [drawn(number, WIDTH, HEIGHT) for number in range(3)]
    together, alone = known(*pictures), [known(pixels) for pixels in pictures]
    assert all(one.agreement is not None for one in together.references)
    assert [one.phash for one in together.references] == [one.references[0].phash for one in alone]


@pytest.mark.parametrize(
    ("phash", "kept"),
    [(None, ""), ("", ""), ("00ff00ff00ff00ff", "00ff00ff00ff00ff"), ("00FF00FF00FF00FF", ""), ("ff", ""), (7, ""), ("00ff00ff00ff00ff\n", ""), (["a"], "")],
    ids=["absent", "empty", "sound", "capitals", "short", "a number", "a line end", "a list"],
)
def test_a_file_of_an_earlier_version_loads_without_hashes_and_one_that_is_none_is_dropped(tmp_path, phash, kept):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    recognizer = ByPixel()
    path = save_identity(known(drawn(0, WIDTH, HEIGHT), recognizer=recognizer), tmp_path, "mira")
    with safe_open(path, framework="numpy") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    about = json.loads(metadata["identity"])
    (reference,) = about["references"]
    del reference["phash"]
    if phash is not None:
        reference["phash"] = phash
    save_file(tensors, tmp_path / "changed.safetensors", {**metadata, "identity": json.dumps(about)})
    assert [one.phash for one in load_identity(tmp_path / "changed.safetensors", None, recognizer).references] == [kept]
