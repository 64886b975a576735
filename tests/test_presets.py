"""What each Qwen-Image model is taken for, its settings and its picture sizes."""

from itertools import product

import pytest

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.scene.choices import KINDS
from character_likeness.nodes.scene.presets import (
    ASPECT_SLACK,
    ASPECTS,
    AUTO,
    EDIT_2509,
    EDIT_2511,
    IGNORE_REFERENCES,
    MEGAPIXEL,
    TEXT_TO_IMAGE,
    custom_settings,
    read_kind,
    rounded_size,
    settings,
    stretch,
    survival_sentence,
    target_size,
)


def kind(own="index", names=(), chosen=AUTO, references=True):
    found = read_kind(own, names, chosen, references)
    return found.name, found.method


def test_the_key_of_2511_in_the_file_decides_whatever_the_name_says():
    assert kind("index_timestep_zero", ["qwen_image_edit_2509_fp8_e4m3fn.safetensors"]) == (EDIT_2511, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen_image_edit_2509_fp8_e4m3fn.safetensors", (EDIT_2509, None)),
        ("qwen_image_edit_fp8_e4m3fn.safetensors", (EDIT_2509, None)),
        ("Qwen-Rapid-AIO-SFW-v9.safetensors", (EDIT_2509, None)),
        ("Qwen-Image-Edit-2511-Q4_K_M.gguf", (EDIT_2511, "index_timestep_zero")),
        ("my_repack_of_qwen_edit_2511.safetensors", (EDIT_2511, "index_timestep_zero")),
        ("qwen_image_2512_fp8_e4m3fn.safetensors", (TEXT_TO_IMAGE, None)),
        ("qwen_image_fp8_e4m3fn.safetensors", (TEXT_TO_IMAGE, None)),
    ],
)
def test_files_of_one_layout_are_told_apart_by_their_names(name, expected):
    assert kind(names=[name]) == expected


def test_names_that_say_nothing_are_passed_over():
    assert kind(names=["model.safetensors", "qwen_image_2512.safetensors"]) == (TEXT_TO_IMAGE, None)


def test_without_a_telling_name_the_references_decide_and_that_is_said():
    assert kind(names=["model.safetensors"], references=True)[0] == EDIT_2509
    assert kind(names=["model.safetensors"], references=False)[0] == TEXT_TO_IMAGE
    guess = read_kind("index", [], AUTO, True)
    assert guess.guessed and guess.why == "taken for edit 2509 because references are wired: neither the file nor its name says it; model_kind sets it"


def test_a_chosen_kind_stands_and_sets_the_method_that_the_file_lacks():
    assert kind(chosen=EDIT_2511) == (EDIT_2511, "index_timestep_zero")
    assert kind("index_timestep_zero", chosen=EDIT_2511) == (EDIT_2511, None)
    assert kind("index_timestep_zero", chosen=IGNORE_REFERENCES)[0] == TEXT_TO_IMAGE


def test_the_layered_model_is_refused():
    with pytest.raises(InputError, match="Layered"):
        kind("negative_index")


def test_presets_are_the_published_settings():
    told = {(k, p): (settings(k, p).steps, settings(k, p).cfg) for k in KINDS for p in ("fast", "balanced", "quality")}
    assert {told[k, "fast"] for k in KINDS} == {(4, 1.0)}
    assert told[EDIT_2511, "balanced"] == (20, 4.0) and told[EDIT_2511, "quality"] == (40, 4.0)
    assert told[EDIT_2509, "balanced"] == (20, 2.5) and told[EDIT_2509, "quality"] == (50, 4.0)
    assert [settings(k, "quality").shift for k in (EDIT_2511, EDIT_2509, TEXT_TO_IMAGE)] == [3.1, 3.0, 3.1]
    assert [settings(k, "quality").cfg_norm for k in (EDIT_2511, EDIT_2509, TEXT_TO_IMAGE)] == [1.0, 1.0, 0.0]


def test_custom_settings_take_over_what_is_left_to_the_model():
    own = custom_settings(EDIT_2509, 8, 1.5, 0.0, -1.0, "dpmpp_2m", "beta")
    assert (own.steps, own.cfg, own.shift, own.cfg_norm, own.sampler, own.scheduler) == (8, 1.5, 3.0, 1.0, "dpmpp_2m", "beta")
    assert custom_settings(EDIT_2509, 8, 1.5, 2.0, 0.0, "euler", "simple").cfg_norm == 0.0


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("megapixels", [0.25, 1.0, 1.7, 2.0])
def test_every_aspect_gives_whole_cells_near_its_area_and_proportions(aspect, megapixels):
    (width, height), notes = target_size(EDIT_2511, aspect, megapixels, (0, 0), None)
    assert width % 32 == 0 and height % 32 == 0 and not notes
    assert width * height == pytest.approx(megapixels * MEGAPIXEL, rel=0.08)
    across, up = ASPECTS[aspect]
    assert width / height == pytest.approx(across / up, rel=0.07)


def test_usual_sizes():
    size = lambda aspect: target_size(EDIT_2511, aspect, 1.0, (0, 0), None)[0]  # noqa: E731
    assert (size("1:1"), size("9:16"), size("3:4"), size("16:9")) == ((1024, 1024), (768, 1376), (896, 1184), (1376, 768))


def test_match_source_takes_the_proportions_and_not_the_size_of_the_source():
    assert target_size(EDIT_2511, "match source", 1.0, (0, 0), (4000, 6000))[0] == rounded_size(2, 3, MEGAPIXEL, 32)
    with pytest.raises(InputError, match="neither a source nor a reference"):
        target_size(EDIT_2511, "match source", 1.0, (0, 0), None)


# Photographs, screens, telephones and what other models make.
USUAL = [
    *((640, 480), (800, 600), (900, 600), (1024, 1024), (1080, 1350), (1170, 2532), (1080, 2400), (1242, 2208), (1280, 720), (1344, 768), (1440, 900)),
    *((1920, 1080), (2000, 1000), (2048, 1365), (2560, 1440), (3000, 4000), (3840, 2160), (4000, 6000), (512, 768), (832, 1216)),
]


@pytest.mark.parametrize(("megapixels", "most"), [(0.25, 0.03), (0.5, 0.02), (1.0, 0.01), (1.7, 0.01), (2.0, 0.01)])
@pytest.mark.parametrize("size", USUAL, ids=lambda size: "x".join(map(str, size)))
def test_match_source_keeps_the_aspect_of_usual_pictures_and_says_what_it_misses(size, megapixels, most):
    for source in (size, size[::-1]):
        made, notes = target_size(EDIT_2511, "match source", megapixels, (0, 0), source)
        missed = abs(stretch(source, made))
        assert missed <= most and made[0] * made[1] == pytest.approx(megapixels * MEGAPIXEL, rel=0.07)
        assert all(side % 32 == 0 and 256 <= side <= 4096 for side in made)
        assert bool(notes) == (missed > ASPECT_SLACK)


def test_match_source_takes_the_nearest_aspect_of_the_multiples_around_and_of_equal_ones_the_nearest_area():
    matched = lambda size, megapixels, kind=EDIT_2511: target_size(kind, "match source", megapixels, (0, 0), size)[0]  # noqa: E731
    assert rounded_size(2000, 1000, MEGAPIXEL, 32) == (1440, 736)
    assert matched((2000, 1000), 1.0) == (1472, 736)
    assert matched((1080, 2400), 1.0) == (672, 1504)
    assert matched((1000, 1000), 0.5) == (736, 736)
    assert matched((640, 480), 0.25, TEXT_TO_IMAGE) == (576, 432)
    # 219 x 479 would be below the least side, one multiple more is not.
    assert matched((2000, 1000), 0.1) == (480, 256)


def test_what_match_source_misses_is_told_with_what_helps():
    assert target_size(EDIT_2511, "match source", 0.25, (0, 0), (1080, 1350)) == (
        (448, 576),
        ["448x576 is 2.9% off the aspect of 1080x1350, the nearest at 0.25 megapixels in multiples of 32; more megapixels come nearer."],
    )


def test_a_custom_size_is_rounded_for_the_model_and_that_is_said():
    assert target_size(EDIT_2511, "custom", 1.0, (1000, 1328), None) == ((992, 1344), ["1000x1328 became 992x1344: sides must be multiples of 32."])
    assert target_size(TEXT_TO_IMAGE, "custom", 1.0, (1328, 1328), None) == ((1328, 1328), [])


@pytest.mark.parametrize("size", [(0, 0), (1024, 0), (20000, 1024), (255, 1024), (1024, 4097)])
def test_sizes_that_cannot_be_made_are_refused_with_the_limits(size):
    with pytest.raises(InputError, match=f"{size[0]}x{size[1]}.*256 and 4096"):
        target_size(EDIT_2511, "custom", 1.0, size, None)


def test_an_aspect_that_would_be_too_long_is_refused():
    with pytest.raises(InputError, match=r"0\.1 megapixels"):
        target_size(EDIT_2511, "21:9", 0.1, (0, 0), None)
    with pytest.raises(InputError, match="256 and 4096"):
        target_size(EDIT_2511, "match source", 1.0, (0, 0), (10000, 10))
    with pytest.raises(InputError, match="no aspect ratio"):
        target_size(EDIT_2511, "7:3", 1.0, (0, 0), None)


def test_a_denoise_that_does_nothing_is_told_with_one_that_does():
    assert survival_sentence(0.9, 4, 3.1, 1.0) == (
        "denoise 0.9 at 4 steps has no effect: sampling starts from pure noise as at 1.0; take more steps or a denoise of 0.8 or less."
    )
    assert "take more steps or a denoise of 0.95 or less" in survival_sentence(0.99, 20, 3.1, 1.0)
    assert survival_sentence(0.7, 20, 3.1, 0.886) == "denoise 0.7 keeps about 11% of the source in what sampling starts from."


def test_a_shift_that_leaves_nothing_of_the_source_is_blamed_itself():
    def start(denoise, steps, shift):
        time = steps / int(steps / denoise)
        return shift * time / (1 + (shift - 1) * time)

    told = survival_sentence(0.7, 20, 100.0, start(0.7, 20, 100.0))
    assert told == (
        "denoise 0.7 at a shift of 100 has next to no effect: sampling starts from almost pure noise; take a lower shift or a denoise of 0.64 or less."
    )
    assert survival_sentence(0.64, 20, 100.0, start(0.64, 20, 100.0)).startswith("denoise 0.64 keeps about 1%")
    # Schedulers that keep less than simple does: still a denoise that starts later than the one there is.
    assert "at a shift of 3.1" in survival_sentence(0.95, 20, 3.1, 0.998) and "0.9 or less" in survival_sentence(0.95, 20, 3.1, 0.998)
    # What is advised helps, and the next hundredth would not.
    for steps, shift in product((4, 8, 20, 50, 100), (1.0, 3.1, 30.0, 100.0)):
        if 1 - start(0.99, steps, shift) >= 0.005:
            continue
        told = survival_sentence(0.99, steps, shift, start(0.99, steps, shift))
        advised = float(told.rpartition(" or less")[0].rpartition(" ")[2])
        assert 1 - start(advised, steps, shift) >= 0.005 > 1 - start(advised + 0.01, steps, shift)
        assert ("shift" in told) == ("more steps" not in told)
