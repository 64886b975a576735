"""Pictures from files and floats: what is read, what is mended and said, and what is refused in one sentence."""

import io
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from character_likeness.nodes.errors import InputError, PictureError
from character_likeness.nodes.pictures import Picture, find_pictures, from_floats, read_picture, small_copy

FORMATS = {"a.png": "PNG", "a.jpg": "JPEG", "a.webp": "WEBP", "a.bmp": "BMP", "a.tif": "TIFF", "a.gif": "GIF"}


def colours(width=40, height=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and text[0] != " "
    return text


# --- files ---


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name] not in ("JPEG", "WEBP", "GIF")])
def test_lossless_files_are_read_bit_for_bit(tmp_path, name):
    pixels = colours()
    (tmp_path / name).write_bytes(encoded(pixels, FORMATS[name]))
    picture = read_picture(tmp_path / name)
    assert np.array_equal(picture.pixels, pixels)
    assert picture.size == (40, 24) and picture.notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = colours()
    # How a camera held in each of the eight ways stores the upright picture (EXIF 2.3, tag 0x0112).
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.png").write_bytes(encoded(np.ascontiguousarray(turned[orientation]), exif=exif))
    assert np.array_equal(read_picture(tmp_path / "a.png").pixels, upright)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, kind):
    levels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    (tmp_path / "deep").write_bytes(encoded(levels, kind))
    assert np.array_equal(read_picture(tmp_path / "deep").pixels, np.repeat((levels >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_a_palette_gives_its_colours(tmp_path):
    pixels = np.uint8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 0, 0]]])
    Image.fromarray(pixels).quantize(4).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert np.array_equal(read_picture(tmp_path / "a.png").pixels, pixels)


def test_alpha_is_dropped_and_the_colours_below_it_stay(tmp_path):
    pixels = colours()
    Image.fromarray(np.dstack([pixels, np.zeros((24, 40), np.uint8)])).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png").pixels, pixels)


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = colours()[..., 0]
    (tmp_path / "a.png").write_bytes(encoded(grey))
    assert np.array_equal(read_picture(tmp_path / "a.png").pixels, np.dstack([grey] * 3))


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    assert Image.open(tmp_path / "a.gif").n_frames == 2
    assert (read_picture(tmp_path / "a.gif").pixels == (255, 0, 0)).all()


def test_a_png_that_is_called_jpg_is_read(tmp_path):
    pixels = colours()
    (tmp_path / "a.jpg").write_bytes(encoded(pixels, "PNG"))
    assert np.array_equal(read_picture(tmp_path / "a.jpg").pixels, pixels)


@pytest.mark.parametrize("content", [b"just some words, no picture\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"], ids=["text", "head of a PNG", "head of a JPEG"])
def test_what_is_no_picture_is_one_sentence_that_names_the_file(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(PictureError) as error:
        read_picture(tmp_path / "a.png")
    assert str(tmp_path / "a.png") in one_sentence(error)


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(PictureError, match="is empty"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_off_file_is_one_sentence_however_much_is_missing(tmp_path, name):
    content = encoded(colours(200, 200), FORMATS[name])
    for share in (0.02, 0.3, 0.6, 0.9):
        (tmp_path / name).write_bytes(content[: int(len(content) * share)])
        with pytest.raises(PictureError) as error:
            read_picture(tmp_path / name)
        assert name in one_sentence(error)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_give_a_picture_or_one_sentence(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 20
    kinds = [("PNG", {"exif": exif}), ("JPEG", {"exif": exif}), ("WEBP", {"exif": exif}), ("BMP", {}), ("TIFF", {}), ("GIF", {}), ("AVIF", {})]
    rng, file, refused = random.Random(1), tmp_path / "damaged", 0
    for kind, options in kinds:
        try:
            whole = encoded(colours(50, 40), kind, **options)
        except (KeyError, OSError):
            continue  # a Pillow without this format
        for _ in range(60):
            content = bytearray(whole)
            for _ in range(rng.choice([1, 2, 5, 20])):
                content[rng.randrange(min(len(content), rng.choice([64, 200, 100_000])))] = rng.randrange(256)
            file.write_bytes(content)
            try:
                assert read_picture(file).pixels.ndim == 3
            except PictureError as error:
                refused += 1
                assert "\n" not in str(error) and str(file) in str(error)
    assert refused > 50


@pytest.mark.parametrize(
    "error, words",
    [(RuntimeError("Failed to decode frame 0"), "damaged"), (IndexError("out of range"), "damaged"), (PermissionError(13, "no"), "permission denied")],
)
def test_whatever_a_decoder_raises_is_one_sentence(tmp_path, monkeypatch, error, words):
    def load(self):
        raise error

    (tmp_path / "a.bmp").write_bytes(encoded(colours(), "BMP"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(PictureError, match=words) as caught:
        read_picture(tmp_path / "a.bmp")
    one_sentence(caught)


def test_a_decompression_bomb_is_refused_and_a_large_picture_is_not(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded(colours(100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    assert read_picture(tmp_path / "a.png").size == (100, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(PictureError, match="bomb"):
        read_picture(tmp_path / "a.png")


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path):
    with pytest.raises(PictureError, match="does not exist"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(PictureError) as error:
        read_picture(tmp_path)
    one_sentence(error)


# --- folders ---


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_gives_its_pictures_by_name_folder_by_folder(tmp_path):
    touch(*(tmp_path / name for name in ("b.PNG", "a.jpg", "c/2.webp", "c/1.avif", "notes.txt", "d.safetensors")))
    assert [path.relative_to(tmp_path).as_posix() for path in find_pictures([tmp_path])] == ["a.jpg", "b.PNG", "c/1.avif", "c/2.webp"]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    touch(tmp_path / ".a.png", tmp_path / ".cache" / "b.png", tmp_path / "._c.jpg", tmp_path / "d.png")
    assert list(find_pictures([tmp_path])) == [tmp_path / "d.png"]


def test_a_file_named_outright_is_taken_whatever_it_is_called(tmp_path):
    touch(tmp_path / ".hidden", tmp_path / "picture.data")
    named = [tmp_path / "picture.data", tmp_path / ".hidden"]
    assert list(find_pictures(named)) == named


def test_links_to_folders_are_not_followed_and_links_to_pictures_are(tmp_path):
    touch(tmp_path / "in" / "a.png", tmp_path / "out" / "b.png")
    try:
        (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
        (tmp_path / "in" / "c.png").symlink_to(tmp_path / "out" / "b.png")
    except OSError:
        pytest.skip("this system makes no symbolic links")
    assert list(find_pictures([tmp_path / "in"])) == [tmp_path / "in" / "a.png", tmp_path / "in" / "c.png"]


def test_a_path_that_does_not_exist_is_one_sentence(tmp_path):
    touch(tmp_path / "a.png")
    for path in (tmp_path / "b.png", tmp_path / "a.png" / "b.png"):
        with pytest.raises(PictureError, match="does not exist") as error:
            list(find_pictures([path]))
        one_sentence(error)


@pytest.mark.parametrize("question", ["iterdir", "is_dir"])
def test_a_folder_that_may_not_be_listed_or_entered_is_one_sentence(tmp_path, monkeypatch, question):
    touch(tmp_path / "closed" / "a.png")
    answer = getattr(Path, question)

    def refuse(self):
        if "closed" in self.relative_to(tmp_path).parts[: None if question == "iterdir" else -1]:
            raise PermissionError(13, "Permission denied")
        return answer(self)

    monkeypatch.setattr(Path, question, refuse)
    with pytest.raises(PictureError, match="closed cannot be read") as error:
        list(find_pictures([tmp_path]))
    one_sentence(error)


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions hold nobody back here")
@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_folder_without_permission_is_one_sentence(tmp_path, mode):
    touch(tmp_path / "closed" / "a.png")
    (tmp_path / "closed").chmod(mode)
    try:
        with pytest.raises(PictureError, match="closed cannot be read"):
            list(find_pictures([tmp_path / "closed"]))
    finally:
        (tmp_path / "closed").chmod(0o700)


# --- floats ---


def test_all_256_levels_come_back_from_floats():
    levels = np.arange(256, dtype=np.uint8)
    pixels = np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=1)[None]
    for dtype in (np.float32, np.float64):
        assert np.array_equal(from_floats(pixels.astype(dtype) / dtype(255)).pixels, pixels)


def test_floats_between_two_levels_go_to_the_nearest():
    levels = np.arange(1, 255, dtype=np.float32)
    for offset in (-0.45, -0.2, 0.2, 0.45):
        pixels = np.repeat(((levels + offset) / 255).reshape(1, -1, 1), 3, axis=2)
        assert np.array_equal(from_floats(pixels).pixels[0, :, 0], levels)


def test_a_file_and_the_floats_made_of_it_are_the_same_content(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(colours()))
    picture = read_picture(tmp_path / "a.png")
    assert from_floats(picture.pixels.astype(np.float32) / 255).key == picture.key


@pytest.mark.parametrize("channels", [1, 2])
def test_one_channel_is_repeated_and_said(channels):
    pixels = np.zeros((4, 5, channels), np.float32)
    pixels[..., 0] = 0.2
    picture = from_floats(pixels)
    assert (picture.pixels == 51).all() and picture.pixels.shape == (4, 5, 3)
    assert "channel" in picture.notes[0]


def test_of_four_channels_the_fourth_is_dropped_and_said():
    pixels = np.random.default_rng(0).random((4, 5, 4), dtype=np.float32)
    picture = from_floats(pixels)
    assert np.array_equal(picture.pixels, from_floats(pixels[..., :3]).pixels)
    assert len(picture.notes) == 1 and "4 channels" in picture.notes[0]
    assert from_floats(pixels[..., :3]).notes == ()


@pytest.mark.parametrize("bad, level", [(np.nan, 0), (np.inf, 255), (-np.inf, 0)])
def test_values_that_are_no_finite_number_are_replaced_and_said(bad, level):
    pixels = np.full((4, 4, 3), 0.4, np.float32)
    pixels[1, 2] = bad
    picture = from_floats(pixels)
    assert (picture.pixels[1, 2] == level).all()
    assert (np.delete(picture.pixels.reshape(16, 3), 6, axis=0) == 102).all()
    assert len(picture.notes) == 1 and "number" in picture.notes[0]


def test_values_out_of_range_are_clipped_and_said_but_rounding_is_not_worth_a_word():
    pixels = np.full((4, 4, 3), 0.5, np.float32)
    pixels[0, 0], pixels[0, 1] = -3.0, 7.5
    picture = from_floats(pixels)
    assert (picture.pixels[0, 0] == 0).all() and (picture.pixels[0, 1] == 255).all()
    assert picture.notes == ("values from -3.00 to 7.50 clipped to 0..1",)
    assert from_floats(np.full((4, 4, 3), 1.004, np.float32)).notes == ()


def test_values_of_every_fault_together_and_far_apart_are_each_mended_and_said():
    pixels = np.full((3000, 2, 3), 0.4, np.float32)
    pixels[0, 0], pixels[1, 0], pixels[1500, 0], pixels[2999, 1] = np.nan, 5.0, -2.0, 9.0
    picture = from_floats(pixels)
    changed = {(0, 0): 0, (1, 0): 255, (1500, 0): 0, (2999, 1): 255}
    for (y, x), level in changed.items():
        assert (picture.pixels[y, x] == level).all()
    assert (picture.pixels == 102).all(axis=-1).sum() == 6000 - len(changed)
    assert len(picture.notes) == 2 and picture.notes[1] == "values from -2.00 to 9.00 clipped to 0..1"


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4, 3), (4, 4, 5), (4, 4, 0), (0, 4, 3), (4, 0, 3)])
def test_what_has_not_the_shape_of_a_picture_is_refused_with_its_shape(shape):
    with pytest.raises(InputError) as error:
        from_floats(np.zeros(shape, np.float32))
    assert str(shape) in one_sentence(error)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4)), elements=st.floats(width=32)))
def test_any_floats_become_a_picture_and_stay_untouched(pixels):
    before = pixels.copy()
    picture = from_floats(pixels)
    assert picture.pixels.shape == (*pixels.shape[:2], 3) and picture.pixels.dtype == np.uint8
    assert np.array_equal(pixels, before, equal_nan=True)
    usual = pixels if pixels.shape[2] == 3 else np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3]
    inside = np.isfinite(usual) & (usual >= 0) & (usual <= 1)
    assert np.array_equal(picture.pixels[inside], np.floor(usual[inside] * np.float32(255) + np.float32(0.5)).astype(np.uint8))


# --- content keys and small copies ---


def test_equal_content_has_an_equal_key_and_other_content_another():
    pixels = colours()
    assert Picture(pixels).key == Picture(np.asfortranarray(pixels)).key == Picture(pixels[::-1][::-1]).key
    changed = pixels.copy()
    changed[3, 5, 1] ^= 1
    keys = {Picture(p).key for p in (pixels, changed, pixels[::-1], pixels.reshape(40, 24, 3), pixels.reshape(20, 48, 3))}
    assert len(keys) == 5


def test_a_small_copy_keeps_the_proportions_and_never_enlarges():
    assert small_copy(colours(400, 100), 200).shape == (50, 200, 3)
    assert np.array_equal(small_copy(colours(40, 24), 200), colours(40, 24))
