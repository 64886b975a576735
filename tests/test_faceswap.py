"""The plan of a face swap: what must be there first, which face is meant, what came back."""

from dataclasses import dataclass

import numpy as np
import pytest

from character_likeness.nodes.errors import InputError, MissingModelError, MissingPackageError
from character_likeness.nodes.identity.choices import CUSTOM, DETECTORS, PRESETS, restorers, swap_models
from character_likeness.nodes.identity.faceswap import (
    DETECTOR_FILES,
    LOOKS,
    UNCHANGED,
    Look,
    aim,
    checked_choice,
    grouped,
    is_unchanged,
    is_withheld,
    licence_of,
    preflight,
    remarks,
    restored_only_at,
)
from character_likeness.nodes.identity.scoring import Measured

REGISTERED = ["ReActorFaceSwapOpt", "ReActorOptions", "ReActorFaceBoost", "ReActorRestoreFace", "KSampler"]
FILES = [
    "insightface/inswapper_128.onnx",
    "insightface/notes.txt",
    "insightface/models/buffalo_l/det_10g.onnx",
    "insightface/models/buffalo_l/w600k_r50.onnx",
    "insightface/models/buffalo_l/genderage.onnx",
    "hyperswap/hyperswap_1a_256.onnx",
    "facerestore_models/GFPGANv1.4.pth",
    "facerestore_models/codeformer-v0.1.0.pth",
    "facedetection/detection_Resnet50_Final.pth",
    "facedetection/parsing_parsenet.pth",
    "nsfw_detector/vit-base-nsfw-detector/config.json",
    "nsfw_detector/vit-base-nsfw-detector/model.safetensors",
    "nsfw_detector/vit-base-nsfw-detector/preprocessor_config.json",
    "insightface/simswap.onnx",
    "insightface/reswapper_128.onnx",
]


@pytest.fixture
def models(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def ask(
    models,
    registered=REGISTERED,
    folders=("ComfyUI-ReActor",),
    swap="inswapper_128.onnx",
    restore="GFPGANv1.4.pth",
    detector=DETECTORS[0],
    look=LOOKS["natural"],
):
    preflight(registered, folders, models, swap, restore, detector, look)


def test_what_the_node_offers_is_what_the_plan_knows():
    assert tuple(DETECTOR_FILES) == DETECTORS
    assert (*LOOKS, CUSTOM) == PRESETS


def test_with_everything_there_nothing_is_said(models):
    for look in (*LOOKS.values(), Look(True, 0.5, boost=True)):
        ask(models, look=look)


def test_a_pack_that_is_absent_is_told_apart_from_one_whose_nodes_are_missing(models):
    with pytest.raises(MissingPackageError, match="which is not installed: install it with ComfyUI Manager"):
        ask(models, registered=["KSampler"], folders=["ComfyUI-Manager"])
    with pytest.raises(
        MissingPackageError, match=r"installed \(ComfyUI-ReActor\), but its nodes ReActorFaceSwapOpt, ReActorOptions, ReActorRestoreFace are not there"
    ):
        ask(models, registered=["KSampler"])


def test_nodes_that_a_preset_does_not_need_are_not_asked_for(models):
    few = ["ReActorFaceSwapOpt", "ReActorOptions"]
    ask(models, registered=few, look=LOOKS["fast"])
    ask(models, registered=few, restore="none")
    with pytest.raises(MissingPackageError, match="ReActorFaceBoost"):
        ask(models, registered=[*few, "ReActorRestoreFace"], look=LOOKS["sharp"])


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (["facerestore_models/GFPGANv1.4.pth", "facerestore_models/codeformer-v0.1.0.pth"], "would download four files there unasked"),
        (["insightface/inswapper_128.onnx"], "The swap model inswapper_128.onnx is not in models/insightface or models/reswapper or models/hyperswap"),
        (["facerestore_models/GFPGANv1.4.pth"], "The restorer GFPGANv1.4.pth is not in models/facerestore_models"),
        (
            ["insightface/models/buffalo_l/genderage.onnx"],
            "of which genderage.onnx is not in models/insightface/models/buffalo_l; `.*models download buffalo_l`",
        ),
        (["nsfw_detector/vit-base-nsfw-detector/model.safetensors"], "safety check is not whole: model.safetensors must lie in models/nsfw_detector"),
        (["facedetection/parsing_parsenet.pth"], "needs parsing_parsenet.pth in models/facedetection"),
    ],
)
def test_each_missing_file_is_one_sentence(models, gone, told):
    for name in gone:
        (models / name).unlink()
    with pytest.raises(MissingModelError, match=told) as error:
        ask(models)
    assert "\n" not in str(error.value)


def test_without_restoring_its_detector_is_not_needed(models):
    (models / "facedetection/parsing_parsenet.pth").unlink()
    ask(models, look=LOOKS["fast"])
    ask(models, restore="none")


def test_models_are_listed_as_reactor_lists_them(models, tmp_path):
    assert swap_models(models) == ["hyperswap_1a_256.onnx", "inswapper_128.onnx"]
    assert restorers(models) == ["codeformer-v0.1.0.pth", "GFPGANv1.4.pth"]
    assert swap_models(tmp_path / "nowhere") == restorers(tmp_path / "nowhere") == []


def test_the_licence_of_a_swap_model_is_named():
    assert "non-commercial" in licence_of("inswapper_128_fp16.onnx") and "non-commercial" in licence_of("hyperswap_1a_256.onnx")
    assert licence_of("mine.onnx").startswith("unknown")


@dataclass(frozen=True)
class Face:
    box: tuple
    area: float
    confidence: float = 0.9
    yaw: float = 0.0
    sharpness: float = 1.0

    @property
    def side(self):
        return self.area**0.5


def measured(*rows):
    """Faces as (x, side, scores...)."""
    faces = tuple(Face((x, 0.0, x + side, side), side * side) for x, side, *_ in rows)
    return Measured(faces, np.array([row[2:] for row in rows], float).reshape(len(rows), -1))


PAIR = measured((0, 100, 0.1), (300, 200, 0.0), (600, 150, 0.6))


def test_the_most_similar_face_is_named_by_its_place_among_the_large_ones():
    found = aim(PAIR, 1, "most similar", 0.5)
    assert found.index == ("1",) and found.boxes == ((600, 0.0, 750, 150),)


def test_the_largest_face_and_all_faces():
    assert aim(PAIR, 1, "largest", 0.5).index == ("0",)
    assert aim(PAIR, 1, "all", 0.5).index == ("0,1,2",)


def test_several_persons_get_a_face_each_one_to_one():
    two = measured((0, 200, 0.7, 0.6), (300, 150, 0.65, 0.1))
    assert aim(two, 2, "most similar", 0.5).index == ("1", "0")
    assert aim(two, 2, "largest", 0.5).index == ("0", "1")
    assert aim(two, 2, "all", 0.5).index == ("1", "0")
    assert aim(measured((0, 200, 0.1, 0.9)), 2, "most similar", 0.5).index == ("", "0")


def test_a_face_that_can_be_judged_stands_before_one_that_cannot():
    found = measured((0, 30, 0.9), (300, 200, 0.6))
    assert aim(found, 1, "most similar", 0.5).index == ("0",)


def test_a_preset_that_cannot_keep_its_promise_is_told():
    assert "restore_model is none" in remarks("inswapper_128.onnx", "none", LOOKS["natural"])[0]
    assert "hyperswap" in remarks("hyperswap_1a_256.onnx", "GFPGANv1.4.pth", LOOKS["sharp"])[0]
    assert remarks("inswapper_128.onnx", "none", LOOKS["fast"]) == remarks("inswapper_128.onnx", "GFPGANv1.4.pth", LOOKS["sharp"]) == []


def test_only_faces_of_the_gender_count():
    assert aim(PAIR, 1, "most similar", 0.5, [True, True, False]).index == ("2",)
    assert aim(PAIR, 1, "largest", 0.5, [True, False, False]).index == ("2",)
    assert aim(PAIR, 1, "all", 0.5, [True, False, True]).index == ("1,2",)
    nobody = aim(PAIR, 1, "most similar", 0.5, [False] * 3)
    assert nobody.index == ("",) and nobody.boxes == ()


def test_without_a_face_of_ours_the_largest_that_reactor_finds_is_left_to_it():
    assert aim(Measured((), np.zeros((0, 2))), 2, "most similar", 0.5).index == ("0", "")


def test_pictures_are_grouped_by_size_and_target_in_their_order():
    assert grouped([("a",), ("b",), ("a",)], [4, 7, 9]) == [[4, 9], [7]]


def picture(value=0.5, height=32, width=48):
    return np.full((height, width, 3), value, np.float32)


def test_a_black_square_in_the_place_of_a_picture_is_a_withheld_one():
    black = np.zeros((512, 512, 3), np.float32)
    assert is_withheld(picture(), black) and is_withheld(picture(0.5, 512, 512), black)
    assert not is_withheld(picture(), picture()) and not is_withheld(black, black)


def test_rounding_is_no_swap_and_a_change_elsewhere_neither():
    before = picture()
    assert is_unchanged(before, before + 0.9 * UNCHANGED)
    after = before.copy()
    after[5, 5] += 0.1
    assert not is_unchanged(before, after)
    assert is_unchanged(before, after, [(20, 10, 40, 30)]) and not is_unchanged(before, after, [(0, 0, 10, 10)])
    # All faces that were meant must have changed for none to be told unchanged.
    assert not is_unchanged(before, after, [(0, 0, 10, 10), (20, 10, 40, 30)])


def test_restored_pixels_stay_around_the_faces():
    swapped, restored = picture(0.2, 200, 300), picture(0.8, 200, 300)
    mixed = restored_only_at(swapped, restored, [(40, 60, 100, 120)])
    assert mixed[90, 70] == pytest.approx(0.8, abs=0.01) and mixed[90, 250] == pytest.approx(0.2, abs=1e-4)
    assert mixed.dtype == np.float32 and restored_only_at(swapped, restored, []) is restored


def test_an_unknown_choice_is_told_with_those_that_exist():
    with pytest.raises(InputError, match="'magic' is no preset; choose natural"):
        checked_choice("magic", ("natural", "fast"), "preset")
