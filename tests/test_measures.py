"""What is measured of a picture: sharpness, exposure, hash, on real photographs and on pictures made for it."""

import json

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from character_likeness.nodes.lora_dataset.duplicates import DISTANCE, hash_distance
from character_likeness.nodes.lora_dataset.measures import COPY_SIDE, grey_copy, measure_pixels, sharpness
from character_likeness.nodes.lora_dataset.rules import CLIPPED, SHARPNESS
from tests.conftest import package_file

imagehash = pytest.importorskip("imagehash")

PHOTOGRAPHS = {
    "group": ("insightface", "data", "images", "t1.jpg"),
    "astronaut": ("skimage", "data", "astronaut.png"),
    "coffee": ("skimage", "data", "coffee.png"),
    "cat": ("skimage", "data", "chelsea.png"),
    "motorcycle": ("skimage", "data", "motorcycle_left.png"),
}


@pytest.fixture(params=PHOTOGRAPHS)
def photograph(request):
    path = package_file(*PHOTOGRAPHS[request.param])
    if not path.exists():
        pytest.skip(f"not in this version of {PHOTOGRAPHS[request.param][0]}: {path.name}")
    return Image.open(path).convert("RGB")


def measured(image):
    return measure_pixels(np.asarray(image))


def on_the_copy(image, sigma):
    """Blurred so that it is `sigma` pixels on the grey copy."""
    return image.filter(ImageFilter.GaussianBlur(sigma * max(1, (image.width * image.height) ** 0.5 / COPY_SIDE)))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_real_photographs_are_sharp_and_blurred_ones_are_not(photograph):
    assert measured(photograph)["sharpness"] > 10 * SHARPNESS
    assert measured(on_the_copy(photograph, 1))["sharpness"] < 0.5 * measured(photograph)["sharpness"]
    assert measured(on_the_copy(photograph, 2))["sharpness"] < SHARPNESS


def test_the_light_of_a_picture_does_not_make_it_blurred(photograph):
    dark = ImageEnhance.Brightness(photograph).enhance(0.5)
    assert measured(dark)["sharpness"] > 0.7 * measured(photograph)["sharpness"]
    assert measured(dark)["brightness"] == pytest.approx(measured(photograph)["brightness"] / 2, abs=1)


def test_a_sharp_subject_before_a_blurred_background_is_sharp(photograph):
    behind = on_the_copy(photograph, 3)
    middle = (photograph.width // 4, photograph.height // 4, photograph.width * 3 // 4, photograph.height * 3 // 4)
    behind.paste(photograph.crop(middle), middle)
    assert measured(behind)["sharpness"] > 5 * SHARPNESS


def test_the_size_of_a_photograph_does_not_change_what_its_sharpness_means(photograph):
    larger = photograph.resize((photograph.width * 3, photograph.height * 3), Image.Resampling.LANCZOS)
    once, thrice = measured(on_the_copy(photograph, 1)), measured(on_the_copy(larger, 1))
    assert 0.3 < thrice["sharpness"] / once["sharpness"] < 3


def test_a_picture_is_never_enlarged_for_measuring_and_a_large_one_always_reduced():
    assert grey_copy(noise(100, 37)).shape == (100, 37)
    height, width = grey_copy(noise(600, 2400)).shape
    assert height * width == pytest.approx(COPY_SIDE**2, rel=0.01) and width / height == pytest.approx(4, rel=0.01)


def test_size_is_told_by_the_shorter_side_and_by_the_square_of_equal_area():
    found = measure_pixels(noise(768, 1344))
    assert (found["width"], found["height"], found["shorter"], found["side"]) == (1344, 768, 768, 1015)


@pytest.mark.parametrize(("level", "name"), [(0, "dark"), (2, "dark"), (253, "bright"), (255, "bright")])
def test_the_share_without_detail_is_counted_at_its_end(level, name):
    picture = np.full((400, 400, 3), 128, np.uint8)
    picture[:100] = level
    found = measure_pixels(picture)
    assert found[name] == pytest.approx(0.25, abs=0.01)
    assert {"dark", "bright"} - {name} == {other for other in ("dark", "bright") if found[other] == 0}


def test_bright_colours_and_deep_shadows_are_no_loss_of_detail():
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[:150] = (255, 40, 20)
    picture[150:] = (12, 10, 9)
    found = measure_pixels(picture)
    assert found["dark"] == found["bright"] == 0 < CLIPPED


def test_the_hash_is_imagehashs_own_and_survives_what_a_copy_goes_through(photograph):
    own = int(measured(photograph)["phash"], 16)
    assert hash_distance(own, int(str(imagehash.phash(photograph)), 16)) <= 2
    smaller = photograph.resize((photograph.width // 2, photograph.height // 2), Image.Resampling.LANCZOS)
    for copy in (smaller, on_the_copy(photograph, 1), ImageEnhance.Brightness(photograph).enhance(0.7)):
        assert hash_distance(own, int(measured(copy)["phash"], 16)) <= DISTANCE
    mirrored = photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert hash_distance(own, int(measured(mirrored)["phash"], 16)) > DISTANCE


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 3, 3), (1, 900, 3), (5000, 2, 3)])
def test_the_smallest_and_the_thinnest_pictures_are_measured_like_others(shape):
    found = measure_pixels(np.full(shape, 77, np.uint8))
    assert (found["height"], found["width"]) == shape[:2] and found["sharpness"] == 0 and found["brightness"] == 77
    assert len(found["phash"]) == 16


def test_measures_are_json_values():
    found = measure_pixels(noise(64, 64))
    assert json.loads(json.dumps(found)) == found


def test_pixels_that_are_a_view_measure_as_their_copy():
    whole = noise(200, 300)
    for view in (whole[::-1], whole[:, ::2], whole[..., ::-1]):
        assert measure_pixels(view) == measure_pixels(view.copy())


def test_a_flat_picture_has_no_sharpness():
    assert sharpness(np.full((64, 64), 3, np.uint8)) == 0
