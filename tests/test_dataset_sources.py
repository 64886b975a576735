"""Pictures of a dataset in files: what a trainer is given of each, and how folders are read."""

import hashlib
import io
import json
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from character_likeness.nodes.errors import InputError, PictureError
from character_likeness.nodes.files import checked_name
from character_likeness.nodes.lora_dataset.dataset import BODY, Dataset, DatasetItem, Given
from character_likeness.nodes.lora_dataset.sources import LONGEST_STEM, FileSource, from_folder, jpeg_bytes, png_bytes, safe_stem, spooled, with_controls
from tests.tiny.exports import album, dataset_of, drawn, export

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def saved(path, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return FileSource(path)


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and text[0] != " "
    return text


def profile(name):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def wide_gamut():
    """An ICC profile of version 2 with the primaries of Display P3 and a gamma of 2.2, written by hand: Pillow makes none but sRGB."""
    # Display P3's colorants adapted to D50 (Apple's Display P3.icc).
    colorants = {b"rXYZ": (0.51512, 0.24120, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189), b"bXYZ": (0.15710, 0.06657, 0.78407)}

    def fixed(value):
        return round(value * 65536).to_bytes(4, "big", signed=True)

    tags = {name: b"XYZ \0\0\0\0" + b"".join(map(fixed, values)) for name, values in colorants.items()}
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    curve = b"curv\0\0\0\0" + (1).to_bytes(4, "big") + int(2.2 * 256).to_bytes(2, "big") + b"\0\0"
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    text = b"Wide test"
    tags[b"desc"] = b"desc\0\0\0\0" + (len(text) + 1).to_bytes(4, "big") + text + b"\0" * 79
    tags[b"cprt"] = b"text\0\0\0\0none\0\0\0\0"
    body, table, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += name + (place + len(body)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        body += content
    whole = len(tags).to_bytes(4, "big") + table + body
    head = bytearray(128)
    head[0:4], head[8:12], head[12:16], head[16:20], head[20:24] = (128 + len(whole)).to_bytes(4, "big"), b"\x02\x40\0\0", b"mntr", b"RGB ", b"XYZ "
    head[36:40], head[68:80] = b"acsp", b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    return bytes(head) + whole


# --- what a trainer is given ---


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_picture_is_upright_and_its_size_is_known_without_decoding(tmp_path, monkeypatch, orientation, kind):
    upright = drawn(1, 160, 96)
    turned = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1)}
    turned |= {7: upright.transpose(1, 0, 2)[::-1, ::-1], 8: np.rot90(upright, -1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = saved(tmp_path / f"a.{kind}", np.ascontiguousarray(turned[orientation]), exif=exif, quality=95)
    pixels, notes = source.read()
    assert pixels.shape == upright.shape and np.abs(pixels.astype(int) - upright).mean() < 3
    assert notes == (() if orientation == 1 else ("turned upright as its EXIF says",))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert source.size == (160, 96)


def test_an_orientation_behind_the_picture_is_seen_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    source = saved(tmp_path / "a.png", np.ascontiguousarray(np.rot90(drawn(1, 40, 24))), exif=exif)
    content = source.path.read_bytes()
    start = content.index(b"eXIf") - 4
    length = int.from_bytes(content[start : start + 4], "big") + 12
    chunk, rest = content[start : start + length], content[:start] + content[start + length :]
    source.path.write_bytes(rest[:-12] + chunk + rest[-12:])
    assert source.size == (40, 24) and np.array_equal(source.pixels(), drawn(1, 40, 24))


def test_a_colour_profile_is_converted_to_srgb_and_that_is_said(tmp_path):
    # Red of Display P3 is more than sRGB can show, and stays at its edge.
    source = saved(tmp_path / "a.png", np.uint8([[[255, 0, 0], [200, 100, 50], [128, 128, 128]]]), icc_profile=wide_gamut())
    pixels, notes = source.read()
    assert notes == ("converted to sRGB from Wide test",)
    # (200, 100, 50) at gamma 2.2 by the matrices of Display P3 and sRGB (IEC 61966-2-1) is (216, 92, 24), grey 128 is 129.
    assert np.abs(pixels[0].astype(int) - [[255, 0, 0], [216, 92, 24], [129, 129, 129]]).max() <= 2


def test_srgb_itself_changes_nothing_and_is_not_worth_a_word(tmp_path):
    pixels = drawn(2)
    assert saved(tmp_path / "a.png", pixels, icc_profile=profile("sRGB")).read()[1] == ()
    assert np.array_equal(FileSource(tmp_path / "a.png").pixels(), pixels)


@pytest.mark.parametrize("content", [b"", b"no profile", wide_gamut()[:200], b"\0" * 500], ids=["empty", "text", "cut off", "zeros"])
def test_a_broken_profile_is_taken_for_srgb_and_that_is_said(tmp_path, content):
    pixels = drawn(3)
    found, notes = saved(tmp_path / "a.png", pixels, icc_profile=content).read()
    assert np.array_equal(found, pixels)
    assert notes == (("its colour profile cannot be read; read as sRGB",) if content else ())


def test_a_profile_for_another_kind_of_picture_is_not_used(tmp_path):
    found, notes = saved(tmp_path / "a.png", drawn(3), icc_profile=profile("LAB")).read()
    assert np.array_equal(found, drawn(3)) and "read as sRGB" in notes[0]


def test_grey_with_a_colour_profile_and_grey_alone_stay_grey(tmp_path):
    grey = drawn(4)[..., 0]
    for content in (None, wide_gamut()):
        pixels, _ = saved(tmp_path / "a.png", Image.fromarray(grey), **({"icc_profile": content} if content else {})).read()
        assert pixels.shape == (*grey.shape, 3) and np.ptp(pixels, axis=2).max() <= 1
    assert np.array_equal(saved(tmp_path / "b.png", Image.fromarray(grey)).pixels()[..., 0], grey)


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_cmyk_becomes_rgb_and_that_is_said(tmp_path, kind):
    source = saved(tmp_path / f"a.{kind}", Image.new("CMYK", (20, 10), (0, 255, 255, 0)), quality=95)
    pixels, notes = source.read()
    assert notes == ("CMYK without a profile made RGB",)
    assert np.abs(pixels.astype(int) - RED).max() <= 3


@pytest.mark.parametrize("mode, value", [("RGBA", (0, 0, 255, 128)), ("LA", (0, 128)), ("PA", None)])
def test_alpha_is_flattened_onto_white(tmp_path, mode, value):
    if mode == "PA":
        image = Image.new("RGBA", (8, 8), (0, 0, 255, 0)).quantize(4)
        expected = WHITE
    else:
        image = Image.new(mode, (8, 8), value)
        expected = (127, 127, 255) if mode == "RGBA" else (127, 127, 127)
    pixels, notes = saved(tmp_path / "a.png", image).read()
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    assert notes == ("transparent parts on white",)


def test_an_alpha_channel_that_hides_nothing_is_not_worth_a_word(tmp_path):
    solid = np.dstack([drawn(5), np.full((128, 96), 255, np.uint8)])
    pixels, notes = saved(tmp_path / "a.png", solid).read()
    assert np.array_equal(pixels, drawn(5)) and notes == ()


def test_a_palette_with_a_transparent_colour_shows_white_there(tmp_path):
    image = Image.fromarray(np.uint8([[0, 1], [1, 0]]), "P")
    image.putpalette([*RED, *BLUE])
    assert np.array_equal(saved(tmp_path / "a.png", image, transparency=0).pixels(), [[WHITE, BLUE], [BLUE, WHITE]])


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, kind):
    levels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    pixels, notes = saved(tmp_path / f"a.{kind}", levels).read()
    assert np.array_equal(pixels[..., 1], (levels >> 8).astype(np.uint8)) and notes == ("16 bits scaled to 8",)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_of_colour_are_scaled_too(tmp_path, channels):
    cv2 = pytest.importorskip("cv2")
    levels = np.zeros((16, 16, channels), np.uint16)
    levels[..., :3], levels[..., 3:] = np.linspace(0, 65535, 256).reshape(16, 16, 1), 65535
    cv2.imwrite(str(tmp_path / "a.png"), levels)
    pixels = FileSource(tmp_path / "a.png").pixels()
    assert np.abs(pixels[..., 0].astype(int) - levels[..., 0] / 257).max() <= 1


def test_floating_point_has_no_known_white_and_is_refused(tmp_path):
    with pytest.raises(PictureError, match="floating point") as error:
        saved(tmp_path / "a.tif", Image.fromarray(np.float32([[0.0, 1.0]]))).pixels()
    assert "8 or 16 bits" in one_sentence(error)


def test_of_an_animation_the_first_frame_is_taken_and_that_is_said(tmp_path):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    pixels, notes = FileSource(tmp_path / "a.gif").read()
    assert (pixels == RED).all() and notes == ("the first of 3 pictures in the file",)


def test_pictures_of_three_pixels_are_read(tmp_path):
    assert saved(tmp_path / "a.png", drawn(1, 3, 1)).pixels().shape == (1, 3, 3)
    assert FileSource(tmp_path / "a.png").size == (3, 1)


@pytest.mark.parametrize("content, words", [(b"", "empty"), (b"just words", "not a picture"), (None, "does not exist")])
def test_what_is_no_picture_is_one_sentence_that_names_the_file(tmp_path, content, words):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    for ask in (lambda: FileSource(path).pixels(), lambda: FileSource(path).size):
        with pytest.raises(PictureError, match=words) as error:
            ask()
        assert str(path) in one_sentence(error)


# --- keys and files ---


def test_a_key_is_that_of_the_bytes_and_follows_a_change(tmp_path):
    source, other = saved(tmp_path / "a.png", drawn(1)), saved(tmp_path / "b.png", drawn(1))
    assert source.key == other.key == hashlib.blake2b(source.path.read_bytes(), digest_size=16).hexdigest()
    before = source.key
    saved(tmp_path / "a.png", drawn(2))
    os.utime(tmp_path / "a.png", ns=(1, 1))
    assert source.key != before


def test_a_key_is_computed_once(tmp_path, monkeypatch):
    source = saved(tmp_path / "a.png", drawn(1))
    before = source.key
    monkeypatch.setattr("hashlib.blake2b", None)
    assert FileSource(tmp_path / "a.png").key == before


@pytest.mark.parametrize("pixels", [drawn(1), drawn(2, 1, 1), drawn(3, 301, 7)], ids=["plain", "one pixel", "odd"])
def test_our_pngs_hold_the_picture_and_nothing_else(tmp_path, pixels):
    content = png_bytes(pixels)
    assert content == png_bytes(np.asfortranarray(pixels))
    (tmp_path / "a.png").write_bytes(content)
    source = FileSource(tmp_path / "a.png")
    assert source.clean and np.array_equal(source.pixels(), pixels)


def test_our_jpegs_keep_the_full_colour_resolution_and_no_metadata():
    image = Image.open(io.BytesIO(jpeg_bytes(drawn(1))))
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}
    assert np.abs(np.asarray(image).astype(int) - drawn(1)).mean() < 2


def test_only_a_png_of_plain_colours_without_metadata_is_clean(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "x")
    rgba = np.dstack([drawn(1), drawn(1)[..., :1]])
    assert saved(tmp_path / "plain.png", drawn(1)).clean
    for name, image, more in (
        ("text.png", drawn(1), {"pnginfo": text}),
        ("dpi.png", drawn(1), {"dpi": (72, 72)}),
        ("profile.png", drawn(1), {"icc_profile": profile("sRGB")}),
        ("grey.png", drawn(1)[..., 0], {}),
        ("alpha.png", rgba, {}),
        ("deep.png", drawn(1)[..., 0].astype(np.uint16), {}),
        ("photo.jpg", drawn(1), {}),
    ):
        assert not saved(tmp_path / name, image, **more).clean, name
    content = (tmp_path / "plain.png").read_bytes()
    for name, changed in (("longer.png", content + b"x"), ("cut.png", content[:-20]), ("empty.png", content[:8])):
        (tmp_path / name).write_bytes(changed)
        assert not FileSource(tmp_path / name).clean, name


def test_a_picture_in_memory_is_spooled_once_by_its_content(tmp_path):
    first = spooled(drawn(1), "picture 1", tmp_path / "spool")
    stamp = first.path.stat().st_mtime_ns
    again = spooled(drawn(1), "picture 7", tmp_path / "spool")
    assert (first.name, again.name) == ("picture 1", "picture 7") and first.path == again.path and first.key == again.key
    assert again.path.stat().st_mtime_ns == stamp and first.clean
    assert np.array_equal(first.pixels(), drawn(1))
    spooled(drawn(2), "another", tmp_path / "spool")
    assert sorted(path.suffix for path in (tmp_path / "spool").iterdir()) == [".png", ".png"]


# --- folders ---


def test_a_folder_is_read_in_order_with_its_captions(tmp_path):
    dataset = from_folder(album(tmp_path / "in", 4))
    assert [item.stem for item in dataset.items] == ["p000", "p001", "p002", "p003"]
    assert [item.caption for item in dataset.items] == [f"mira_k, portrait, scene number {i}" for i in range(4)]
    assert {item.caption_source for item in dataset.items} == {"sidecar"}
    assert [item.origin["source"] for item in dataset.items] == ["p000.png", "p001.jpg", "p002.png", "p003.jpg"]
    assert dataset.notes == () and dataset.left_out == ()
    assert from_folder(tmp_path / "in", BODY).buckets == (BODY,)


def test_what_stays_out_of_a_folder_is_said(tmp_path):
    folder = album(tmp_path / "in", 2)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "empty.jpg").touch()
    (folder / "strange.png").write_bytes((folder / "p000.png").read_bytes())
    (folder / "strange.txt").write_bytes(b"\xff\xfe\xff")
    (folder / "notes.docx").touch()
    (folder / "alone.txt").touch()
    (folder / ".hidden.png").touch()
    album(folder / "rejected", 1)
    dataset = from_folder(folder)
    assert [item.stem for item in dataset.items] == ["p000", "p001"]
    left = dict(dataset.left_out)
    assert sorted(left) == ["broken.png", "empty.jpg", "strange.png"]
    assert left["broken.png"].startswith("broken.png is not a picture") and str(folder) not in left["broken.png"]
    assert dataset.notes == ("2 files are no pictures and stay out: alone.txt, notes.docx.", "1 sub-folder was not looked into: rejected.")
    deep = from_folder(folder, recursive=True)
    assert [item.origin["source"] for item in deep.items][-1] == "rejected/p000.png" and deep.items[-1].stem == "p000_2"
    assert deep.notes[-1] == "1 picture goes by another name: rejected/p000.png as p000_2."


def test_stems_differ_whatever_the_case_of_their_letters(tmp_path):
    for name in ("Ann.png", "ann.jpg", "ANN.webp", "ann_2.png"):
        saved(tmp_path / name, drawn(1, 8, 8))
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this file system does not tell cases apart")
    stems = [item.stem for item in from_folder(tmp_path).items]
    assert len({stem.casefold() for stem in stems}) == 4


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_crop_goes_with_its_picture_under_its_new_name_wherever_it_stands():
    def item(stem, parent=None):
        return DatasetItem(Given(stem, np.zeros((4, 4, 3), np.uint8)), stem, parent=parent)

    before = Dataset((item("a"), item("B")))
    made = before.added([item("a_face", "a"), item("a"), item("b"), item("b_face", "b"), item("c_face", "c")])
    assert [(one.stem, one.parent) for one in made.items[2:]] == [("a_face", "a_2"), ("a_2", None), ("b_2", None), ("b_face", "b_2"), ("c_face", "c")]


def test_an_exported_dataset_below_a_folder_is_no_source_and_that_is_said(tmp_path):
    folder = album(tmp_path / "in", 2)
    export(dataset_of(folder), folder / "datasets")
    export(dataset_of(folder), folder / "datasets" / "mira" / "40_character" / "again")
    (folder / "more").mkdir()
    Image.fromarray(drawn(7)).save(folder / "more" / "other.png")
    found = from_folder(folder, recursive=True)
    assert [item.stem for item in found.items] == ["other", "p000", "p001"]
    assert "1 sub-folder is an exported dataset and was passed over: datasets/mira." in found.notes
    assert not any("no picture" in note for note in found.notes)
    # Named outright it is what is meant.
    assert len(from_folder(folder / "datasets" / "mira" / "40_character")) == 2
    export(dataset_of(folder), folder / "twice")
    assert any(note.startswith("2 sub-folders are exported datasets and were passed over:") for note in from_folder(folder, recursive=True).notes)


def test_an_exported_dataset_gives_no_control_pictures(tmp_path):
    folder = album(tmp_path / "in", 1)
    export(dataset_of(folder), tmp_path / "controls")
    assert with_controls(dataset_of(folder), tmp_path / "controls").items[0].control is None


def test_names_that_other_systems_refuse_are_made_good(tmp_path):
    for name in (b"a:b?.png", b"con.png", b"new\nline.png", b"byte\xff.png", b"dots...png", " ünï ".encode() + b".png"):
        try:
            (tmp_path / os.fsdecode(name)).write_bytes(png_bytes(drawn(1, 8, 8)))
        except OSError:
            pytest.skip("this file system refuses such names itself")
    dataset = from_folder(tmp_path)
    assert sorted(item.stem for item in dataset.items) == ["_con", "a_b_", "byte_", "dots", "new_line", "ünï"]
    assert "a:b?.png as a_b_" in dataset.notes[-1]
    json.dumps([dict(item.origin) for item in dataset.items]).encode()
    "".join(item.origin["source"] for item in dataset.items).encode()


@given(st.text(st.characters(codec=None), max_size=300))
def test_any_text_makes_a_stem_that_is_good_everywhere(text):
    stem = safe_stem(text)
    assert str(checked_name(stem)) == stem and "/" not in stem and not stem.startswith(".")
    assert len(stem.encode()) <= LONGEST_STEM + 1 and safe_stem(stem) == stem


def test_a_folder_that_is_none_is_one_sentence(tmp_path):
    for path in (tmp_path / "nowhere", album(tmp_path / "in", 1) / "p000.png"):
        with pytest.raises(InputError, match="is no folder") as error:
            from_folder(path)
        one_sentence(error)
    assert from_folder(tmp_path).notes[-1].endswith("has no picture that can be read.")


def test_a_dataset_of_files_keeps_no_picture(tmp_path):
    folder = album(tmp_path / "in", 3, 400, 400)
    for i in range(60):
        (folder / f"q{i}.png").write_bytes((folder / "p000.png").read_bytes())
    from_folder(folder)
    tracemalloc.start()
    dataset = from_folder(folder)
    for item in dataset.items:
        item.source.pixels()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # One of these 63 pictures takes 480,000 bytes.
    assert len(dataset) == 63 and size < 400_000
