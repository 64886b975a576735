"""Face recognizers: what they find at any size, that each picture is looked at once, and what is said when a part is missing.

dlib is tested on photographs, the ArcFace packs on the painted faces of tests/tiny/face_packs.py, held against insightface's own classes.
"""

import importlib.util
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError, LikenessError, MissingModelError, MissingPackageError
from character_likeness.nodes.identity.recognizers import (
    Recognizer,
    any_face,
    catalogue,
    describe,
    environment,
    every_look,
    names,
    open_recognizer,
    search,
    similarity,
)
from character_likeness.nodes.identity.recognizers.detectors import Detector, HogDetector, ScrfdDetector, YunetDetector
from character_likeness.nodes.identity.recognizers.faces import ARCFACE_TEMPLATE, Detection, align, overlap, sharpness, similarity_transform, yaw_degrees
from character_likeness.nodes.pictures import Picture

dlib = pytest.mark.dlib
insightface = pytest.mark.insightface

PACKS = ("insightface", "models")


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 700
    return text


def fresh(recognizer):
    """The same recognizer with an empty memory, its models shared."""
    other = Recognizer(recognizer.info)
    other._models = recognizer.models()
    return other


def counted(monkeypatch, thing, verb):
    """The arguments of every call of thing.verb from now on."""
    calls, original = [], getattr(thing, verb)

    def call(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(thing, verb, call)
    return calls


# --- dlib on photographs ---


@dlib
def test_six_different_people_of_one_photograph_stay_below_loose(identities, dlib_recognizer):
    embeddings = np.concatenate([identity.embeddings for identity in identities])
    scores = np.stack([identity.score(embeddings) for identity in identities])
    assert np.allclose(np.diag(scores), 1)
    assert scores[~np.eye(6, dtype=bool)].max() < dlib_recognizer.info.thresholds.loose
    assert np.allclose(scores, scores.T)


@dlib
def test_the_people_of_a_group_photograph_score_with_it_as_alone(group, identities, dlib_recognizer):
    found = dlib_recognizer.faces([group], every_look)[0]
    scores = np.stack([identity.score(np.stack([face.embedding for face in found.faces])) for identity in identities])
    assert (scores.max(axis=1) > 0.8).all()
    assert len(set(scores.argmax(axis=1))) == 6


@dlib
def test_the_dlib_score_is_one_minus_the_distance(people, dlib_recognizer):
    first, second = (dlib_recognizer.faces([person])[0].faces[0].embedding for person in people[:2])
    score = dlib_recognizer.score(first[None], second)[0]
    assert score == pytest.approx(1 - np.sqrt(((first - second) ** 2).sum()), abs=1e-6)
    assert abs(np.linalg.norm(first) - 1) > 0.05  # raw, not normalised


@dlib
def test_dlib_faces_tell_which_way_they_look(people, dlib_recognizer):
    for person in people:
        face = dlib_recognizer.faces([person])[0].faces[0]
        mirrored = dlib_recognizer.faces([Picture(np.ascontiguousarray(person.pixels[:, ::-1]))])[0].faces[0]
        assert face.yaw == pytest.approx(-mirrored.yaw, abs=12)
    yaws = [dlib_recognizer.faces([person])[0].faces[0].yaw for person in people]
    assert yaws[1] < -30 and abs(yaws[0]) < 15  # the second looks away to the left of the picture, the first at the camera


@dlib
def test_a_picture_of_8000_by_6000_is_measured(people, dlib_recognizer):
    import cv2

    pixels = np.full((6000, 8000, 3), 90, np.uint8)
    pixels[1000:3400, 2000:4400] = cv2.resize(people[0].pixels, (2400, 2400), interpolation=cv2.INTER_CUBIC)
    (face,) = dlib_recognizer.faces([Picture(pixels)])[0].faces
    assert overlap(face.box, (2550, 1650, 3750, 2850)) > 0.8
    own = dlib_recognizer.faces([people[0]])[0].faces[0].embedding
    assert dlib_recognizer.score(face.embedding[None], own)[0] > 0.8


@dlib
@pytest.mark.parametrize("size", [(16, 16), (1, 40), (40, 1), (3, 900)])
def test_pictures_of_a_few_pixels_have_no_face_and_no_error_with_dlib(dlib_recognizer, size):
    found = dlib_recognizer.faces([Picture(np.full((*size, 3), 200, np.uint8))])[0]
    assert found.faces == () and found.complete


@dlib
@pytest.mark.parametrize("side", [100, 600])
def test_a_face_smaller_than_hog_sees_is_found_by_enlarging_the_picture(people, dlib_recognizer, side):
    """HOG sees faces from 80 pixels on, this one has about 45."""
    from PIL import Image

    pixels = np.full((side, side, 3), 90, np.uint8)
    pixels[:100, :100] = np.asarray(Image.fromarray(people[0].pixels).resize((100, 100), Image.Resampling.LANCZOS))
    (face,) = dlib_recognizer.faces([Picture(pixels)])[0].faces
    assert 30 < face.side < 60


# --- ArcFace against insightface's own classes ---


@pytest.fixture(scope="session")
def analysis(models_dir):
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(name=str(models_dir.joinpath(*PACKS, "buffalo_l")), allowed_modules=["detection", "recognition"], providers=["CPUExecutionProvider"])
    app.prepare(0, det_size=None)
    return app


@pytest.fixture(scope="session")
def crowd(face_packs):
    """Eight people of 40 to 150 px, two of them touching."""
    pixels = face_packs.background(900, 600, "photo", seed=2)
    places = [(20, 30, 40), (60, 30, 40), (220, 30, 64), (500, 20, 150), (20, 300, 90), (300, 280, 120), (480, 300, 50), (680, 400, 110)]
    return pixels, [face_packs.paint(pixels, person, *place, noise=6) for person, place in enumerate(places)]


@insightface
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_boxes_points_and_scores_are_those_of_insightfaces_face_analysis(analysis, buffalo, crowd, face_packs):
    pixels, _ = crowd
    theirs = sorted(analysis.get(np.ascontiguousarray(pixels[..., ::-1])), key=lambda face: tuple(face.bbox))
    ours = sorted(buffalo.faces([Picture(pixels)])[0].faces, key=lambda face: face.box)
    assert len(ours) == len(theirs) == 8
    for our, their in zip(ours, theirs):
        np.testing.assert_allclose(our.box, their.bbox, atol=1e-3)
        np.testing.assert_allclose(our.keypoints, their.kps, atol=1e-3)
        assert our.confidence == pytest.approx(their.det_score, abs=1e-5)
    reference = buffalo.faces([Picture(face_packs.painted_face(5, 300))])[0].faces[0].embedding
    normed = reference / np.linalg.norm(reference)
    scores = buffalo.score(np.stack([face.embedding for face in ours]), reference)
    np.testing.assert_allclose(scores, [their.normed_embedding @ normed for their in theirs], atol=1e-5)
    assert sorted(scores > 0.8) == [False] * 7 + [True]


@insightface
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_aligned_crop_is_insightfaces_norm_crop(face_packs):
    from insightface.utils.face_align import norm_crop

    pixels, rng = face_packs.background(300, 260, "noise"), np.random.default_rng(1)
    for _ in range(10):
        turn = rng.uniform(-np.pi, np.pi)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = (ARCFACE_TEMPLATE - 56) @ rotation * rng.uniform(0.3, 2.5) + rng.uniform(20, 240, 2) + rng.normal(0, 3, (5, 2))
        points = points.astype(np.float32)
        difference = np.abs(align(pixels, points).astype(int) - norm_crop(pixels, points).astype(int))
        assert difference.max() <= 1


@insightface
def test_exactly_two_sessions_are_created_at_the_first_picture_and_none_before(models_dir, face_packs, monkeypatch):
    import onnxruntime

    created = counted(monkeypatch, onnxruntime.InferenceSession, "__init__")
    recognizer = Recognizer(describe("antelopev2", models_dir))
    assert created == []
    for side in (64, 700, 1500):
        recognizer.faces([Picture(face_packs.background(side, side))], every_look)
    assert len(created) == 2


@insightface
def test_many_faces_in_many_pictures_are_embedded_by_one_call(buffalo, crowd, face_packs, monkeypatch):
    recognizer = fresh(buffalo)
    calls = counted(monkeypatch, recognizer.models()[1]._model, "get_feat")
    pixels, _ = crowd
    pictures = [Picture(np.roll(pixels, shift, axis=1)) for shift in range(0, 60, 20)]
    found = recognizer.faces([*pictures, Picture(face_packs.background(200, 200))])
    assert [len(one.faces) for one in found] == [8, 8, 8, 0]
    assert [len(crops) for (crops,) in calls] == [24]


@insightface
def test_more_faces_than_a_batch_are_embedded_in_batches_and_come_back_to_their_pictures(buffalo, face_packs, monkeypatch):
    recognizer = fresh(buffalo)
    pictures = []
    for person in (0, 1, 2, 3, 4, 5, 6, 7):
        pixels = face_packs.background(400, 200)
        for place in range(person % 3):
            face_packs.paint(pixels, person, 20 + 120 * place, 40, 90)
        pictures.append(Picture(pixels))
    one_by_one = [buffalo.faces([picture])[0] for picture in pictures]
    calls = counted(monkeypatch, recognizer.models()[1], "embed")
    monkeypatch.setattr(recognizer.models()[1], "batch", 3)
    together = recognizer.faces(pictures)
    assert max(len(crops) for (crops,) in calls) == 3
    for alone, among in zip(one_by_one, together):
        assert [face.box for face in alone.faces] == [face.box for face in among.faces]
        for a, b in zip(alone.faces, among.faces):
            np.testing.assert_allclose(a.embedding, b.embedding, atol=1e-4)


@insightface
def test_a_model_exported_for_one_face_at_a_time_gives_the_same_faces(buffalo, tmp_path, face_packs, crowd, monkeypatch):
    face_packs.write_pack(tmp_path.joinpath(*PACKS, "buffalo_l"), "buffalo_l", static_batch=True)
    static = open_recognizer("buffalo_l", tmp_path)
    calls = counted(monkeypatch, static.models()[1]._model, "get_feat")
    (ours,), (usual,) = static.faces([Picture(crowd[0])]), buffalo.faces([Picture(crowd[0])])
    assert [len(crops) for (crops,) in calls] == [1] * 8
    np.testing.assert_allclose([face.embedding for face in ours.faces], [face.embedding for face in usual.faces], atol=1e-4)


@insightface
def test_a_detector_exported_for_one_size_finds_large_and_small_faces(tmp_path, face_packs):
    face_packs.write_pack(tmp_path.joinpath(*PACKS, "buffalo_l"), "buffalo_l", static_size=(320, 320))
    pixels = face_packs.background(1000, 700)
    truths = [face_packs.paint(pixels, 1, 100, 100, 300), face_packs.paint(pixels, 2, 700, 500, 30)]
    faces = open_recognizer("buffalo_l", tmp_path).faces([Picture(pixels)], every_look)[0].faces
    assert len(faces) == 2
    assert all(max(overlap(face.box, truth) for face in faces) > 0.8 for truth in truths)


@insightface
@pytest.mark.parametrize("pack", ["buffalo_l", "antelopev2", "auraface"])
def test_every_pack_tells_the_eight_people_apart_with_either_detector(models_dir, face_packs, crowd, pack):
    recognizer = open_recognizer(pack, models_dir)
    plain = np.concatenate([[recognizer.faces([Picture(face_packs.painted_face(person, 112))])[0].faces[0].embedding] for person in range(8)])
    pixels, truths = crowd
    faces = recognizer.faces([Picture(pixels)], every_look)[0].faces
    assert len(faces) == 8
    for person, truth in enumerate(truths):
        face = max(faces, key=lambda face: overlap(face.box, truth))
        scores = [recognizer.score(face.embedding[None], reference)[0] for reference in plain]
        assert overlap(face.box, truth) > 0.8
        assert scores[person] > 0.8 and max(scores[:person] + scores[person + 1 :]) < 0.3
        assert abs(face.yaw) < 3


# --- the search from coarse to fine ---


@insightface
def test_a_small_face_that_the_overview_misses_is_found_at_full_resolution(buffalo, face_packs):
    pixels = face_packs.background(2000, 3000, "photo", seed=3)
    truth = face_packs.paint(pixels, 5, 1300, 2000, 24)
    found = buffalo.faces([Picture(pixels)])[0]
    (face,) = found.faces
    assert overlap(face.box, truth) > 0.8
    assert found.counts[0] == 0 and found.counts[-1] == 1
    plain = buffalo.faces([Picture(face_packs.painted_face(5, 112))])[0].faces[0].embedding
    assert buffalo.score(face.embedding[None], plain)[0] > 0.85


@insightface
def test_a_face_where_four_tiles_overlap_is_reported_once(buffalo, face_packs):
    pixels = face_packs.background(1232, 1232)
    # The tiles of 640 start at 0 and 592: this face lies whole in all four.
    truth = face_packs.paint(pixels, 2, 601, 601, 30)
    found = fresh(buffalo).faces([Picture(pixels)], every_look)[0]
    assert len(found.faces) == 1 and overlap(found.faces[0].box, truth) > 0.8
    tiles = list(search.tiles(pixels, 640, 48))
    assert len(tiles) == 4 and all(left < 601 and left + 640 > 631 for left, _, _ in tiles)


class WhiteSpots(Detector):
    """Finds every white spot of a tile: where a tile cuts one, the part inside."""

    overview_side, tile_side, smallest = 64, 64, 8

    def find(self, pixels):
        import cv2

        count, _, stats, _ = cv2.connectedComponentsWithStats((pixels[..., 0] > 200).astype(np.uint8))
        return [Detection((x, y, x + w, y + h), 0.9) for x, y, w, h, _ in stats[1:count].tolist()]


def test_a_face_that_a_tile_cuts_is_reported_once_and_whole():
    for corner in [(x, y) for x in range(0, 180, 7) for y in (0, 33, 52, 90, 180)]:
        pixels = np.zeros((200, 200, 3), np.uint8)
        pixels[corner[1] : corner[1] + 20, corner[0] : corner[0] + 20] = 255
        (face,) = search.look(WhiteSpots(), pixels, 200)
        assert face.box == (*corner, corner[0] + 20, corner[1] + 20)


def test_faces_found_in_a_resized_picture_lie_where_they_are_in_the_picture_itself():
    for side, size in ((64, 70), (128, 50), (200, 40), (400, 20), (800, 10)):
        pixels = np.zeros((300, 400, 3), np.uint8)
        pixels[120 : 120 + size, 240 : 240 + size] = 255
        (face,) = search.look(WhiteSpots(), pixels, side)
        np.testing.assert_allclose(face.box, (240, 120, 240 + size, 120 + size), atol=400 / side)


@insightface
def test_the_search_ends_with_the_look_that_is_enough(buffalo, face_packs, monkeypatch):
    recognizer = fresh(buffalo)
    pixels = face_packs.background(1600, 1200)
    face_packs.paint(pixels, 1, 100, 100, 300)
    looks = counted(monkeypatch, search, "look")
    assert len(recognizer.faces([Picture(pixels)])[0].counts) == 1 == len(looks)
    assert len(recognizer.faces([Picture(pixels)], every_look)[0].counts) == 3 == len(looks)


@insightface
@pytest.mark.parametrize("pack", ["buffalo_l", "auraface"])
@pytest.mark.parametrize("size", [(16, 16), (1, 40), (700, 3)])
def test_pictures_of_a_few_pixels_have_no_face_and_no_error(models_dir, pack, size):
    found = open_recognizer(pack, models_dir).faces([Picture(np.full((*size, 3), 200, np.uint8))])[0]
    assert found.faces == () and found.complete


@given(st.sampled_from([ScrfdDetector, YunetDetector, HogDetector]), st.integers(1, 20000))
def test_the_looks_grow_up_to_the_pictures_own_resolution(detector, longest):
    steps = search.sides(detector, longest)
    assert steps[0] == detector.overview_side
    assert all(a < b <= a * search.STEP * 1.25 for a, b in pairwise(steps))
    # Full resolution is reached, but for a gain of less than a quarter on the overview.
    assert steps[-1] >= longest or longest < 1.25 * steps[-1]
    assert len(steps) == 1 or steps[-1] <= max(longest, detector.tile_side)
    # And what enlarging can show beyond it, as far as that fits one tile.
    assert 1.25 * steps[-1] > min(longest * detector.reach, detector.tile_side)


@settings(max_examples=60)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(60, 300), st.integers(0, 50))
def test_tiles_cover_the_picture_and_overlap_by_what_was_asked(width, height, side, shared):
    pixels = np.zeros((height, width, 3), np.uint8)
    tiles = list(search.tiles(pixels, side, shared))
    for _, _, tile in tiles:
        assert tile.shape[0] == min(side, height) and tile.shape[1] == min(side, width)
        tile[...] = 1
    assert pixels.all()
    for length, starts in ((width, sorted({left for left, _, _ in tiles})), (height, sorted({top for _, top, _ in tiles}))):
        assert starts[0] == 0 and starts[-1] + min(side, length) == length
        assert all(a + side - b >= shared for a, b in pairwise(starts))


# --- memory: each picture once ---


@insightface
def test_an_earlier_longer_search_never_changes_what_a_shorter_one_gives(buffalo, face_packs):
    pixels = face_packs.background(1600, 1200)
    face_packs.paint(pixels, 1, 100, 100, 300)
    face_packs.paint(pixels, 2, 1200, 900, 20)  # seen at full resolution only
    picture = Picture(pixels)
    short_first, long_first = fresh(buffalo), fresh(buffalo)
    short = short_first.faces([picture])[0]
    long = long_first.faces([picture], every_look)[0]
    assert len(short.faces) == 1 and len(long.faces) == 2

    def same(a, b):
        assert a.counts == b.counts and a.complete == b.complete
        assert [face.box for face in a.faces] == [face.box for face in b.faces]
        assert all(np.array_equal(x.embedding, y.embedding) for x, y in zip(a.faces, b.faces))

    same(long_first.faces([picture])[0], short)
    same(short_first.faces([picture], every_look)[0], long)
    same(short_first.faces([picture])[0], short)


@insightface
def test_the_same_picture_is_looked_at_once_in_a_call_and_never_again(buffalo, face_packs, monkeypatch):
    recognizer = fresh(buffalo)
    pixels = face_packs.background(300, 300)
    face_packs.paint(pixels, 1, 60, 70, 150)
    looks, embeds, ticks = counted(monkeypatch, search, "look"), counted(monkeypatch, recognizer.models()[1], "embed"), []
    empty = Picture(face_packs.background(310, 300))
    found = recognizer.faces([Picture(pixels), empty, Picture(pixels.copy()), Picture(pixels)], tick=lambda: ticks.append(1))
    assert [len(one.faces) for one in found] == [1, 0, 1, 1]
    assert len(looks) == len(ticks) == 2 and len(embeds) == 1
    again = recognizer.faces([Picture(pixels.copy()), empty], tick=lambda: ticks.append(1))
    assert again[0].faces == found[0].faces
    assert len(looks) == len(ticks) == 2 and len(embeds) == 1


@insightface
def test_an_interrupt_keeps_what_was_found(buffalo, face_packs, monkeypatch):
    recognizer = fresh(buffalo)
    pictures = []
    for person in range(6):
        pixels = face_packs.background(300, 300)
        face_packs.paint(pixels, person, 60, 70, 150)
        pictures.append(Picture(pixels))
    ticks = []

    def interrupt():
        ticks.append(1)
        if len(ticks) == 5:
            raise KeyboardInterrupt

    looks = counted(monkeypatch, search, "look")
    with pytest.raises(KeyboardInterrupt):
        recognizer.faces(pictures, tick=interrupt)
    assert len(looks) == 4
    expected = buffalo.faces(pictures)
    del looks[:]
    found = recognizer.faces(pictures)
    assert len(looks) == 2
    assert [len(one.faces) for one in found] == [1] * 6
    for ours, theirs in zip(found, expected):
        np.testing.assert_allclose(ours.faces[0].embedding, theirs.faces[0].embedding, atol=1e-4)


@insightface
def test_no_more_pictures_are_remembered_than_allowed(buffalo, face_packs, monkeypatch):
    recognizer = fresh(buffalo)
    recognizer.remembered = 3
    pictures = [Picture(face_packs.background(100 + i, 100)) for i in range(5)]
    looks = counted(monkeypatch, search, "look")
    assert len(recognizer.faces(pictures)) == 5
    recognizer.faces(pictures[2:])
    assert len(looks) == 5
    recognizer.faces(pictures[:1])
    assert len(looks) == 6


@insightface
def test_closed_models_are_opened_again_and_what_was_found_stays(models_dir, face_packs, monkeypatch):
    recognizer = Recognizer(describe("buffalo_l", models_dir))
    first, second = Picture(face_packs.painted_face(1, 200)), Picture(face_packs.painted_face(2, 200))
    before = recognizer.faces([first])[0]
    recognizer.close()
    looks = counted(monkeypatch, search, "look")
    assert recognizer.faces([first])[0].faces == before.faces and looks == []
    assert len(recognizer.faces([second])[0].faces) == 1


@dlib
def test_the_same_recognizer_is_one_object_as_long_as_it_is_held(dlib_recognizer):
    assert open_recognizer("dlib") is open_recognizer("auto") is dlib_recognizer
    assert open_recognizer("dlib", device="cpu") is not dlib_recognizer


# --- names, parts and licences ---


@insightface
def test_auraface_takes_yunet_before_scrfd_and_may_be_used_commercially(tmp_path, face_packs):
    folder = face_packs.write_pack(tmp_path.joinpath(*PACKS, "auraface"), "auraface", scrfd=True)
    face_packs.write_scrfd(folder / "det_10g.onnx")
    info = describe("auraface", tmp_path, commercial_only=True)
    assert (info.detector.name, info.detector.licence) == ("YuNet", "MIT")
    assert info.embedder.licence == "Apache-2.0" and info.commercial
    assert len(open_recognizer("auraface", tmp_path).faces([Picture(face_packs.painted_face(1, 200))])[0].faces) == 1


@insightface
def test_auraface_with_scrfd_works_but_is_refused_where_only_commercial_use_is_allowed(tmp_path, face_packs):
    folder = face_packs.write_pack(tmp_path.joinpath(*PACKS, "auraface"), "auraface", scrfd=True)
    (folder / "face_detection_yunet_2023mar.onnx").unlink()
    info = describe("auraface", tmp_path)
    assert "SCRFD" in info.detector.name and not info.commercial and "non-commercial" in info.licence
    assert len(open_recognizer("auraface", tmp_path).faces([Picture(face_packs.painted_face(1, 200))])[0].faces) == 1
    with pytest.raises(InputError, match="commercial") as error:
        describe("auraface", tmp_path, commercial_only=True)
    assert "auraface or dlib" in one_sentence(error)


@insightface
@pytest.mark.parametrize("name", ["buffalo_l", "antelopev2"])
def test_non_commercial_packs_are_refused_where_only_commercial_use_is_allowed(models_dir, name):
    assert not describe(name, models_dir).commercial
    with pytest.raises(InputError, match="not cleared for commercial use"):
        describe(name, models_dir, commercial_only=True)


@insightface
@dlib
def test_auto_takes_auraface_then_dlib_and_never_a_non_commercial_pack(models_dir, tmp_path, face_packs, monkeypatch):
    assert describe("auto", models_dir).name == "auraface"
    face_packs.write_pack(tmp_path.joinpath(*PACKS, "buffalo_l"), "buffalo_l")
    assert describe("auto", tmp_path).name == "dlib"
    assert describe("auto", None).name == "dlib"
    without(monkeypatch, "dlib")
    with pytest.raises(MissingModelError) as error:
        describe("auto", tmp_path)
    text = one_sentence(error)
    assert "pip install dlib-bin face_recognition_models" in text and "models download auraface" in text


def without(monkeypatch, *packages):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None if name in packages else find(name, package))


@pytest.mark.parametrize("package", ["dlib", "face_recognition_models"])
def test_without_dlib_the_sentence_says_what_to_install(monkeypatch, package):
    without(monkeypatch, package)
    with pytest.raises(MissingPackageError, match="pip install dlib-bin face_recognition_models") as error:
        describe("dlib", None)
    one_sentence(error)


@dlib
@insightface
def test_every_threshold_rises_with_strictness_and_names_its_source(models_dir):
    for name in ("dlib", "buffalo_l", "antelopev2", "auraface"):
        thresholds = describe(name, models_dir).thresholds
        assert thresholds.loose < thresholds.standard < thresholds.strict and len(thresholds.source) > 20
    assert describe("dlib", None).thresholds.standard == 0.5
    assert describe("buffalo_l", models_dir).thresholds.standard == 0.4


@insightface
def test_names_are_the_known_ones_and_every_pack_folder(models_dir, tmp_path, face_packs):
    assert names(None) == ["auto", "auraface", "buffalo_l", "antelopev2", "dlib"]
    packs = tmp_path.joinpath(*PACKS)
    for name in ("my pack", "buffalo_s"):
        shutil.copytree(models_dir.joinpath(*PACKS, "buffalo_l"), packs / name)
    (packs / "empty").mkdir()
    (packs / "stray.onnx").touch()
    assert names(tmp_path) == ["auto", "auraface", "buffalo_l", "antelopev2", "dlib", "buffalo_s", "my pack"]
    assert names(tmp_path, commercial_only=True) == ["auto", "auraface", "dlib"]
    face = Picture(face_packs.painted_face(1, 200))
    info = describe("my pack", tmp_path)
    assert len(open_recognizer("my pack", tmp_path).faces([face])[0].faces) == 1
    assert not info.commercial


@insightface
def test_a_pack_of_files_with_other_names_is_read_by_what_they_are(tmp_path, face_packs):
    folder = tmp_path.joinpath(*PACKS, "mine")
    folder.mkdir(parents=True)
    face_packs.write_scrfd(folder / "b.onnx")
    face_packs.write_arcface(folder / "a.onnx")
    face_packs.write_genderage(folder / "c.onnx")
    info = describe("mine", tmp_path)
    assert info.detector.files == (folder / "b.onnx",) and info.embedder.files == (folder / "a.onnx",)
    assert "unknown" in info.licence and not info.commercial
    assert len(open_recognizer("mine", tmp_path).faces([Picture(face_packs.painted_face(1, 200))])[0].faces) == 1


@insightface
def test_antelopev2_is_found_in_the_folder_that_its_archive_makes(tmp_path, face_packs):
    folder = face_packs.write_pack(tmp_path.joinpath(*PACKS, "antelopev2", "antelopev2"), "antelopev2")
    assert describe("antelopev2", tmp_path).embedder.files == (folder / "glintr100.onnx",)
    assert len(open_recognizer("antelopev2", tmp_path).faces([Picture(face_packs.painted_face(1, 200))])[0].faces) == 1


@insightface
def test_two_recognizers_have_one_fingerprint_only_if_their_embedders_are_the_same(models_dir, tmp_path):
    prints = [describe(name, models_dir).fingerprint() for name in ("buffalo_l", "antelopev2", "auraface")]
    assert len(set(prints)) == 3
    copy = tmp_path.joinpath(*PACKS, "renamed")
    shutil.copytree(models_dir.joinpath(*PACKS, "buffalo_l"), copy)
    assert describe("renamed", tmp_path).fingerprint() == prints[0]


# --- what is missing or wrong, in one sentence ---


@pytest.mark.parametrize("name", ["auraface", "buffalo_l", "antelopev2"])
def test_a_known_pack_that_is_missing_says_which_how_large_which_licence_where_and_the_command(tmp_path, name):
    with pytest.raises(MissingModelError) as error:
        describe(name, tmp_path)
    text = one_sentence(error)
    assert f"models download {name}" in text and "MB" in text and "licence" in text
    assert str(tmp_path / "insightface" / "models" / name) in text and ".onnx" in text


def test_an_unknown_pack_says_where_it_would_have_to_be(tmp_path):
    with pytest.raises(MissingModelError, match="put a detector and an embedder") as error:
        describe("mine", tmp_path)
    assert str(tmp_path.joinpath(*PACKS, "mine")) in one_sentence(error)


@pytest.mark.parametrize("name", ["", ".", "..", "../buffalo_l", "a/b", "/etc"])
def test_a_name_that_leads_out_of_the_packs_folder_is_no_recognizer(tmp_path, name):
    with pytest.raises(InputError, match="not the name of a recognizer"):
        describe(name, tmp_path)


def test_a_pack_without_a_models_folder_says_how_to_name_one():
    with pytest.raises(MissingModelError, match="--models-dir"):
        describe("buffalo_l", None)


@insightface
@pytest.mark.parametrize("gone, words", [("det_10g.onnx", "lacks a detector"), ("w600k_r50.onnx", "lacks an embedder")])
@pytest.mark.parametrize("name", ["buffalo_l", "mine"])
def test_a_pack_without_one_of_its_parts_says_which(models_dir, tmp_path, name, gone, words):
    folder = tmp_path.joinpath(*PACKS, name)
    shutil.copytree(models_dir.joinpath(*PACKS, "buffalo_l"), folder)
    (folder / gone).unlink()
    with pytest.raises(MissingModelError, match=words) as error:
        describe(name, tmp_path)
    text = one_sentence(error)
    assert ("models download buffalo_l" in text) == (name == "buffalo_l")


def damage(face_packs, file, kind):
    if kind == "zero-byte":
        file.write_bytes(b"")
    elif kind == "text":
        file.write_text("not a model")
    elif kind == "truncated":
        file.write_bytes(file.read_bytes()[:-1000])
    elif kind == "a genderage model":
        face_packs.write_genderage(file)
    elif kind == "the other part":
        (face_packs.write_arcface if "det" in file.name or "yunet" in file.name else face_packs.write_scrfd)(file)


@insightface
@pytest.mark.parametrize("kind", ["zero-byte", "text", "truncated", "a genderage model", "the other part"])
@pytest.mark.parametrize("pack, file", [("buffalo_l", "det_10g.onnx"), ("buffalo_l", "w600k_r50.onnx"), ("auraface", "face_detection_yunet_2023mar.onnx")])
def test_a_damaged_or_foreign_file_is_one_sentence_that_names_it(models_dir, tmp_path, face_packs, kind, pack, file):
    folder = tmp_path.joinpath(*PACKS, pack)
    shutil.copytree(models_dir.joinpath(*PACKS, pack), folder)
    damage(face_packs, folder / file, kind)
    with pytest.raises(MissingModelError) as error:
        open_recognizer(pack, tmp_path).faces([Picture(face_packs.painted_face(1, 200))])
    assert str(folder / file) in one_sentence(error)


@insightface
def test_a_damaged_file_of_unknown_name_is_no_part_of_a_pack(tmp_path, face_packs):
    folder = tmp_path.joinpath(*PACKS, "mine")
    folder.mkdir(parents=True)
    face_packs.write_scrfd(folder / "a.onnx")
    for name, content in {"b.onnx": b"", "c.onnx": b"not a model" * 50}.items():
        (folder / name).write_bytes(content)
    with pytest.raises(MissingModelError, match="lacks an embedder"):
        describe("mine", tmp_path)


@insightface
def test_embeddings_that_are_no_number_are_refused_since_they_would_pass_any_gate(buffalo, face_packs, monkeypatch):
    recognizer = fresh(buffalo)
    monkeypatch.setattr(recognizer.models()[1]._model, "get_feat", lambda crops: np.full((len(crops), 512), np.nan, np.float32))
    with pytest.raises(MissingModelError, match="no number") as error:
        recognizer.faces([Picture(face_packs.painted_face(1, 100))])
    one_sentence(error)


@pytest.mark.parametrize("device", ["gpu", "", "CUDA"])
def test_an_unknown_device_is_refused_with_the_choices(device):
    with pytest.raises(InputError, match="choose auto, cuda, cpu, coreml") as error:
        open_recognizer("dlib", device=device)
    one_sentence(error)


@insightface
@pytest.mark.parametrize("device, words", [("cuda", "pip install onnxruntime-gpu"), ("coreml", "macOS")])
def test_a_device_that_onnx_runtime_does_not_have_is_one_sentence(models_dir, face_packs, monkeypatch, device, words):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingPackageError, match=words) as error:
        open_recognizer("buffalo_l", models_dir, device).faces([Picture(face_packs.painted_face(1, 100))])
    assert "auto or cpu" in one_sentence(error)


@insightface
def test_auto_stays_on_the_cpu_even_where_cuda_is_offered(models_dir, face_packs, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    recognizer = Recognizer(describe("buffalo_l", models_dir), "auto")
    recognizer.faces([Picture(face_packs.painted_face(1, 100))])
    assert recognizer.models()[0]._model.session.get_providers() == ["CPUExecutionProvider"]


@insightface
@pytest.mark.parametrize(
    "installed, cuda, words",
    [
        ({"onnxruntime": "1.20", "onnxruntime-gpu": "1.20"}, True, ["lost CUDA"]),
        ({"onnxruntime": "1.20"}, True, ["stays on the CPU"]),
        ({"onnxruntime": "1.20"}, False, []),
        ({"onnxruntime-gpu": "1.20", "opencv-python": "4.10", "opencv-contrib-python": "4.10"}, True, ["2 OpenCV distributions share one folder"]),
        ({"opencv-python": "4.10", "opencv-python-headless": "4.11"}, False, ["opencv-python 4.10, opencv-python-headless 4.11"]),
    ],
)
def test_known_clashes_between_packages_are_told_with_the_commands_that_mend_them(monkeypatch, installed, cuda, words):
    import onnxruntime

    def version(name):
        if name not in installed:
            raise environment.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(environment.metadata, "version", version)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    told = environment.clashes(cuda, onnx=True)
    assert len(told) == len(words)
    for sentence, word in zip(told, words):
        assert word in sentence and "uninstall -y" in sentence and sentence.endswith(".")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert all("CUDA" not in sentence for sentence in environment.clashes(True, onnx=True))


def test_every_user_error_is_of_the_one_family():
    for kind in (InputError, MissingModelError, MissingPackageError):
        assert issubclass(kind, LikenessError)


# --- geometry ---


@given(st.floats(-3.1, 3.1), st.floats(0.2, 5), st.floats(-50, 50), st.floats(-50, 50), st.sampled_from([3, 5]))
def test_the_similarity_transform_recovers_turn_scale_and_shift(turn, scale, x, y, count):
    points = ARCFACE_TEMPLATE[:count].astype(np.float64)
    matrix = np.array([[scale * np.cos(turn), -scale * np.sin(turn), x], [scale * np.sin(turn), scale * np.cos(turn), y]])
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(similarity_transform(points, moved), matrix, atol=1e-6)


@pytest.mark.parametrize("degrees", [-60, -30, 0, 20, 45])
@pytest.mark.parametrize("roll", [0, 25])
def test_yaw_is_that_of_a_turned_head(degrees, roll):
    """Eyes one apart and a nose tip 0.534 before them (faces.NOSE_TIP_DEPTH), turned about the vertical and seen from afar."""
    yaw, tilt = np.radians([degrees, roll])
    head = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.5, 0.534], [-0.3, 0.9, 0.3], [0.3, 0.9, 0.3]])
    x = head[:, 0] * np.cos(yaw) + head[:, 2] * np.sin(yaw)
    seen = np.stack([x, head[:, 1]], axis=1) @ np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    assert yaw_degrees((seen * 100).astype(np.float32)) == pytest.approx(degrees, abs=1 if not roll else 16)


def test_sharpness_falls_with_blur_and_not_with_darkness_or_contrast():
    import cv2

    crop = cv2.resize(np.random.default_rng(0).integers(60, 200, (14, 14, 3), np.uint8), (112, 112), interpolation=cv2.INTER_NEAREST)
    softer = [sharpness(cv2.GaussianBlur(crop, (0, 0), sigma)) for sigma in (1, 2, 4)]
    assert sharpness(crop) > softer[0] > softer[1] > softer[2]
    assert sharpness((crop // 3).astype(np.uint8)) == pytest.approx(sharpness(crop), rel=0.1)
    assert sharpness(np.full((112, 112, 3), 90, np.uint8)) == 0


@given(*[st.tuples(*[st.floats(-100, 100)] * 4) for _ in range(2)])
def test_overlap_is_symmetric_and_a_share(a, b):
    a, b = ((min(x1, x2), min(y1, y2), max(x1, x2) + 1, max(y1, y2) + 1) for x1, y1, x2, y2 in (a, b))
    assert 0 <= overlap(a, b) <= 1 + 1e-9 and overlap(a, b) == pytest.approx(overlap(b, a))
    assert overlap(a, a) == pytest.approx(1)


def test_any_face_is_enough_as_soon_as_there_is_one():
    face = Detection((0, 0, 1, 1), 1.0)
    assert any_face(0, (face,)) and not any_face(0, ()) and not every_look(0, (face,))


def test_cosine_scores_do_not_depend_on_length_and_dlib_scores_do():
    rng = np.random.default_rng(0)
    embeddings, template = rng.normal(size=(3, 8)), rng.normal(size=8)
    np.testing.assert_allclose(similarity("cosine", 3 * embeddings, 2 * template), similarity("cosine", embeddings, template))
    assert not np.allclose(similarity("euclidean", 3 * embeddings, 2 * template), similarity("euclidean", embeddings, template))
    assert similarity("euclidean", template[None], template)[0] == 1
    assert np.isfinite(similarity("cosine", np.zeros((1, 8)), template)).all()


# --- files that change, folders that are closed, packages that are gone ---


def test_a_pack_whose_file_was_replaced_is_another_recognizer_with_its_own_hash(tmp_path, face_packs):
    pack = tmp_path.joinpath(*PACKS, "buffalo_l")
    face_packs.write_pack(pack, "buffalo_l")
    picture = Picture(face_packs.painted_face(3, 300))
    before = open_recognizer("buffalo_l", tmp_path)
    old_print, old = before.fingerprint, before.faces([picture])[0].faces[0].embedding
    face_packs.write_arcface(pack / "w600k_r50.onnx", seed=77)
    after = open_recognizer("buffalo_l", tmp_path)
    assert after is not before and after.fingerprint != old_print == before.fingerprint
    assert abs(float(after.score(after.faces([picture])[0].faces[0].embedding[None], old)[0])) < 0.3


def test_a_folder_that_may_not_be_looked_into_hides_no_other_pack(tmp_path, face_packs, monkeypatch):
    face_packs.write_pack(tmp_path.joinpath(*PACKS, "mine"), "buffalo_l")
    tmp_path.joinpath(*PACKS, "lost+found").mkdir()
    real = Path.is_dir

    def closed(self):
        if "lost+found" in self.parts:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self)

    monkeypatch.setattr(Path, "is_dir", closed)
    assert names(tmp_path)[-1] == "mine"
    with pytest.raises(MissingModelError, match=r"There is no face recognizer pack"):
        describe("lost+found", tmp_path)


def test_a_model_file_that_may_not_be_read_is_one_sentence(tmp_path, face_packs, monkeypatch):
    face_packs.write_pack(tmp_path.joinpath(*PACKS, "closed"), "buffalo_l")
    info = describe("closed", tmp_path)

    def closed(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", closed)
    with pytest.raises(MissingModelError, match=r"w600k_r50\.onnx cannot be read \(Permission denied\)\."):
        info.fingerprint()


@pytest.mark.parametrize("package", ["onnxruntime", "insightface", "cv2"])
def test_a_package_that_cannot_be_imported_is_one_sentence_when_the_models_open(tmp_path, face_packs, monkeypatch, package):
    face_packs.write_pack(tmp_path.joinpath(*PACKS, "buffalo_l"), "buffalo_l")
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    recognizer = open_recognizer("buffalo_l", tmp_path, "cuda" if package == "onnxruntime" else "cpu")
    with pytest.raises(MissingPackageError, match=r"The package \S+ is needed here and cannot be imported \(.*\): run `.*pip install"):
        recognizer.models()


def test_antelopev2s_embedder_in_a_folder_called_auraface_is_not_taken_for_auraface(tmp_path, face_packs, monkeypatch):
    pack = tmp_path.joinpath(*PACKS, "auraface")
    face_packs.write_pack(pack, "auraface")
    assert describe("auraface", tmp_path).commercial
    monkeypatch.setattr(catalogue, "ANTELOPE_EMBEDDER_BYTES", (pack / "glintr100.onnx").stat().st_size)
    info = describe("auraface", tmp_path)
    assert not info.commercial and "non-commercial" in info.licence
    monkeypatch.setattr(catalogue, "dlib_installed", lambda: False)
    with pytest.raises(MissingModelError, match="No face recognizer is installed"):
        describe("auto", tmp_path)
