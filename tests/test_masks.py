"""Masks of a person's face, head, hair and face: geometry by independent measure, coverage on photographs of installed packages, MediaPipe if it is there."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from character_likeness.nodes.errors import InputError, MissingModelError
from character_likeness.nodes.identity import masks

pytestmark = pytest.mark.mediapipe

cv2 = pytest.importorskip("cv2")

ROOT = Path(__file__).resolve().parent.parent
SHAPE = (886, 1280)  # insightface/data/images/t1.jpg
# What is seen in that photograph: two eyes, nose tip, mouth corners, middle of the mouth and chin, then the ear where it shows and, last, the tip of
# the hair in the middle of the head; with the boxes that dlib's HOG detector gives. The last two people are turned by 34 and 50 degrees.
PEOPLE = {
    "cards": ((65, 284, 169, 388), [(86, 329), (127, 308), (121, 342), (114, 370), (146, 352)], (130, 360), (146, 390), None, (92, 234)),
    "microphone": ((734, 365, 837, 469), [(762, 398), (802, 402), (772, 435), (767, 440), (807, 442)], (781, 444), (782, 478), (860, 399), (808, 292)),
    "eyes shut": ((1114, 284, 1217, 388), [(1151, 326), (1194, 324), (1165, 351), (1155, 367), (1195, 365)], (1171, 367), (1175, 398), None, (1177, 236)),
    "bowed": ((452, 300, 577, 424), [(493, 322), (541, 334), (507, 369), (484, 370), (530, 381)], (506, 380), (498, 411), (580, 347), (543, 225)),
    "turned": ((275, 179, 362, 266), [(292, 212), (321, 195), (306, 231), (314, 246), (337, 234)], (321, 242), (339, 263), (382, 179), (314, 104)),
    "profile": ((883, 89, 987, 192), [(922, 124), (952, 116), (922, 155), (933, 174), (959, 170)], (937, 173), (955, 204), (1031, 109), (982, 5)),
}  # fmt: skip
everyone = pytest.mark.parametrize("person", PEOPLE)

# A frontal face by MediaPipe's canonical model, 40 pixels between the eyes.
FRONT = np.array([(80, 80), (120, 80), (100, 103), (84, 124), (116, 124)], float)
TURNED = np.add(FRONT, [(0, 0), (0, 0), (-14, 0), (-3, 0), (-3, 0)])
FRONT_BOX = (50, 45, 150, 155)


def draw(area="face", shape=(240, 200), box=FRONT_BOX, keypoints=FRONT, **options):
    return masks.face_mask(shape, box, keypoints, area, **options).mask


def distance_from(area):
    """Of every pixel, to the nearest pixel of the area."""
    from scipy.spatial import cKDTree

    return cKDTree(np.argwhere(area)).query(np.argwhere(np.ones_like(area)))[0].reshape(area.shape)


def agreement(a, b):
    return np.logical_and(a, b).sum() / np.logical_or(a, b).sum()


def mesh_around(keypoints, radius, count=478):
    """A mesh whose face oval is a circle about (100, 100) and whose other points lie at its middle, apart from the five keypoints."""
    mesh = np.full((count, 2), 100.0)
    turn = np.linspace(-np.pi / 2, 1.5 * np.pi, len(masks.FACE_OVAL), endpoint=False)
    mesh[list(masks.FACE_OVAL)] = 100 + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    for corners, eye in zip(masks.EYE_CORNERS, keypoints[:2], strict=True):
        mesh[list(corners)] = eye
    mesh[masks.NOSE_TIP] = keypoints[2]
    mesh[list(masks.MOUTH_CORNERS)] = keypoints[3:]
    return mesh


# Coverage


@everyone
def test_five_landmarks_cover_eyes_nose_mouth_and_chin_and_stay_near_the_box(person):
    box, keypoints, mouth, chin, _, _ = PEOPLE[person]
    mask = draw(shape=SHAPE, box=box, keypoints=keypoints)
    for x, y in [*keypoints, mouth, chin]:
        assert mask[y, x] == 1
    side = box[2] - box[0]
    ys, xs = np.nonzero(mask)
    assert xs.min() > box[0] - 0.3 * side and xs.max() < box[2] + 0.4 * side
    assert ys.min() > box[1] - 0.4 * side and ys.max() < box[3] + 0.3 * side


@everyone
def test_the_head_has_the_ear_and_all_but_the_tips_of_the_hair_and_hair_and_face_has_those_too(person):
    box, keypoints, _, _, ear, (x, y) = PEOPLE[person]
    head = draw("head", shape=SHAPE, box=box, keypoints=keypoints)
    assert head[min(y + (box[2] - box[0]) // 6, SHAPE[0] - 1), x] == 1
    assert ear is None or head[ear[1], ear[0]] == 1
    assert draw("hair and face", shape=SHAPE, box=box, keypoints=keypoints)[y, x] == 1


@pytest.mark.dlib
@pytest.mark.insightface
def test_dlibs_three_points_cover_the_features_of_all_six_people():
    picture = photograph()
    for box, keypoints, mouth, chin, _, _ in PEOPLE.values():
        mask = draw(shape=SHAPE, box=box, keypoints=dlib_points(picture, box))
        for x, y in [*keypoints[:3], mouth]:
            assert mask[y, x] == 1
        near_chin = 0.05 * (box[2] - box[0])
        assert np.hypot(*(np.argwhere(mask) - chin[::-1]).T).min() <= near_chin


@everyone
@pytest.mark.parametrize("count", [0, 3, 5])
def test_the_areas_contain_one_another(person, count):
    box, keypoints, *_ = PEOPLE[person]
    keypoints = keypoints[:count] or None
    face, head, hair = (draw(area, shape=SHAPE, box=box, keypoints=keypoints) > 0 for area in masks.AREAS)
    assert not (face & ~head).any() and not (head & ~hair).any()
    assert 1.3 * face.sum() < head.sum() < 0.8 * hair.sum()


def test_a_box_without_landmarks_gives_an_upright_face_in_it():
    mask = masks.face_mask((240, 200), FRONT_BOX, None, "face")
    assert mask.method == "the face's box alone"
    assert agreement(mask.mask, draw()) > 0.85


def test_eyes_that_fall_together_are_not_believed():
    for second in ((100, 80), (100, 81)):
        assert np.array_equal(draw(keypoints=[(100, 80), second, *FRONT[2:]]), draw(keypoints=None))


# The pose


def test_the_mask_turns_with_the_picture():
    upright = draw(shape=(200, 200), keypoints=TURNED)
    centre = 99.5
    for turns in (1, 2, 3):
        points, box = TURNED - centre, np.reshape(FRONT_BOX, (2, 2)) - centre
        for _ in range(turns):  # np.rot90: (x, y) goes to (y, -x)
            points, box = points[:, ::-1] * (1, -1), box[:, ::-1] * (1, -1)
        points, box = points + centre, box + centre
        if points[0, 0] > points[1, 0]:  # detectors call the eye further left in the picture the left one
            points = points[[1, 0, 2, 4, 3]]
        turned = draw(shape=(200, 200), keypoints=points, box=(*box.min(0), *box.max(0)))
        assert agreement(turned, np.rot90(upright, turns)) > 0.97


def test_a_mirrored_face_has_the_mirrored_mask():
    box, keypoints, *_ = PEOPLE["profile"]
    mirrored = (np.array(keypoints)[[1, 0, 2, 4, 3]] - (SHAPE[1] - 1, 0)) * (-1, 1)
    for area in masks.AREAS:
        mask = draw(area, shape=SHAPE, box=box, keypoints=keypoints)
        mirror = draw(area, shape=SHAPE, box=(SHAPE[1] - 1 - box[2], box[1], SHAPE[1] - 1 - box[0], box[3]), keypoints=mirrored)
        assert agreement(mask[:, ::-1], mirror) > 0.98


def test_a_turned_head_lies_behind_its_face():
    for area in masks.AREAS:
        columns = [np.nonzero(draw(area, keypoints=points, shape=(400, 400)))[1].mean() for points in (FRONT, TURNED)]
        assert columns[1] > columns[0] + 5


def test_the_chin_lies_where_the_mouth_points():
    leaning = np.add(FRONT, [(0, 0), (0, 0), (0, 0), (14, 0), (14, 0)])
    chins = [np.argwhere(draw(keypoints=points))[-100:, 1].mean() for points in (FRONT, leaning)]
    assert chins[1] > chins[0] + 5


def test_one_misleading_measure_does_not_change_the_size():
    area = draw().sum()
    wide_box = (20, 15, 180, 185)
    open_mouth = np.add(FRONT, [(0, 0), (0, 0), (0, 0), (0, 20), (0, 20)])
    for changed in ({"box": wide_box}, {"keypoints": open_mouth}):
        assert 0.8 < draw(**changed).sum() / area < 1.25


# Growing and feathering


@pytest.mark.parametrize("grow", [1, 7, 30])
def test_growing_adds_every_pixel_within_the_distance_and_no_other(grow):
    assert np.array_equal(draw(grow=grow), distance_from(draw()) <= grow)


@pytest.mark.parametrize("grow", [1, 7, 30])
def test_shrinking_takes_every_pixel_within_the_distance_and_no_other(grow):
    assert np.array_equal(draw(grow=-grow), distance_from(draw() == 0) > grow)


def test_shrinking_away_the_whole_face_leaves_nothing():
    assert not draw(grow=-200, feather=9).any()


@pytest.mark.parametrize(("grow", "feather"), [(0, 1), (0, 12), (9, 20), (-9, 20)])
def test_the_feather_keeps_the_area_whole_falls_steadily_and_ends_at_its_width(grow, feather):
    hard = draw(grow=grow) > 0
    soft = draw(grow=grow, feather=feather)
    distance = distance_from(hard)
    assert (soft[hard] == 1).all()
    assert not soft[distance >= feather + 0.5].any()
    border = (distance > 0) & (distance <= feather)
    assert (soft[border] > 0).all() and (soft[border] < 1).all()
    order = np.argsort(distance[border])
    assert (np.diff(soft[border][order]) <= 1e-6).all()
    if feather > 9:  # no crease where it begins and ends
        assert soft[distance <= feather / 4].min() > 0.84 and soft[distance >= feather * 3 / 4 + 0.5].max() < 0.16


def test_inverting_gives_one_minus_the_mask():
    assert np.allclose(draw(grow=3, feather=8, invert=True), 1 - draw(grow=3, feather=8))


# Pictures of any size, faces at their border


@pytest.mark.parametrize("options", [{}, {"grow": 12}, {"grow": -12}, {"feather": 15}, {"grow": 5, "feather": 10}, {"grow": -5, "feather": 10}])
@pytest.mark.parametrize("area", masks.AREAS)
def test_the_pictures_border_changes_nothing_inside_the_picture(area, options):
    margin = 150
    whole = draw(area, shape=(600, 600), keypoints=FRONT + margin, box=np.add(FRONT_BOX, margin), **options)
    cut = draw(area, shape=(70, 64), keypoints=FRONT - (30, 40), box=np.subtract(FRONT_BOX, (30, 40, 30, 40)), **options)
    same = np.isclose(cut, whole[margin + 40 : margin + 110, margin + 30 : margin + 94], atol=1e-5)
    assert (~same).sum() <= 2  # outlines are drawn to a sixteenth of a pixel: one on the edge may round the other way


@pytest.mark.parametrize("invert", [False, True])
def test_a_face_outside_the_picture_marks_nothing(invert):
    for shift in ((500, 0), (0, 500), (-500, 0), (0, -500)):
        mask = draw(keypoints=FRONT + shift, box=np.add(FRONT_BOX, shift * 2), feather=5, invert=invert)
        assert (mask == (1 if invert else 0)).all()


def test_a_tiny_picture_has_a_mask():
    mask = draw(shape=(16, 16), keypoints=FRONT / 12.5, box=np.divide(FRONT_BOX, 12.5), feather=2)
    assert mask.shape == (16, 16) and mask.max() == 1 and mask.min() == 0


def test_a_huge_picture_costs_its_mask_and_little_more():
    shape, keypoints, box = (6000, 8000), np.add(FRONT * 4, (4000, 3000)), np.add(np.multiply(FRONT_BOX, 4), (4000, 3000, 4000, 3000))
    tracemalloc.start()
    mask = draw("hair and face", shape=shape, keypoints=keypoints, box=box, grow=10, feather=40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask.shape == shape and mask.dtype == np.float32
    assert peak - mask.nbytes < 40e6


# Several faces, wrong use


def test_several_faces_are_united_and_inverted_together():
    left, right = draw(feather=5), draw(keypoints=np.add(FRONT, (40, 0)), box=np.add(FRONT_BOX, (40, 0, 40, 0)), feather=5)
    union = masks.combine([left, right])
    assert np.array_equal(union, np.maximum(left, right))
    assert np.array_equal(masks.combine([left, right], invert=True), 1 - union)


def test_masks_of_different_pictures_are_not_united():
    with pytest.raises(InputError, match="16x8 and 32x8"):
        masks.combine([np.zeros((8, 16)), np.zeros((8, 32))])
    with pytest.raises(InputError, match="no mask"):
        masks.combine([])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"area": "nose"}, '"nose": choose one of face, head, hair and face'),
        ({"feather": -1}, "-1 pixels"),
        ({"keypoints": FRONT[:4]}, r"3 or 5 points .* \(4, 2\)"),
        ({"mesh": np.zeros((68, 2))}, r"468 or 478 points .* \(68, 2\)"),
        ({"segmenter_classes": np.zeros((9, 9), np.uint8)}, r"\(9, 9\) and the picture \(240, 200\)"),
    ],
)
def test_wrong_input_is_one_sentence_with_the_value(options, said):
    with pytest.raises(InputError, match=said):
        draw(**options)


def test_the_method_says_which_landmarks_drew_the_mask():
    mesh = mesh_around(FRONT, 50)
    method = {
        name: masks.face_mask((240, 200), FRONT_BOX, points, area, mesh=mesh).method
        for name, points, area, mesh in [
            ("mesh", FRONT, "face", mesh),
            ("smaller mesh", None, "face", mesh[:468]),
            ("five", FRONT, "face", None),
            ("three", FRONT[:3], "head", None),
            ("hair", FRONT, "hair and face", None),
        ]
    }
    assert method == {
        "mesh": "MediaPipe face mesh (478 points)",
        "smaller mesh": "MediaPipe face mesh (468 points)",
        "five": "five landmarks of the recognizer",
        "three": "three landmarks of the recognizer, average head proportions",
        "hair": "five landmarks of the recognizer, average head proportions and an allowance for hair",
    }


# The mesh


def test_the_oval_is_mediapipes_own():
    vision = pytest.importorskip("mediapipe.tasks.python.vision")
    edges = {(edge.start, edge.end) for edge in vision.FaceLandmarksConnections.FACE_LANDMARKS_FACE_OVAL}
    assert edges == set(zip(masks.FACE_OVAL, masks.FACE_OVAL[1:] + masks.FACE_OVAL[:1], strict=True))


def test_the_face_is_the_inside_of_the_meshs_oval():
    mask = draw(mesh=mesh_around(FRONT, 60))
    ys, xs = np.nonzero(mask)
    assert abs(mask.sum() / (np.pi * 60**2) - 1) < 0.03
    assert np.hypot(ys - 100, xs - 100).max() < 61.5


def test_a_nose_in_profile_beyond_the_oval_is_in_the_face():
    mesh = mesh_around(FRONT, 60)
    mesh[[5, 4, 1, 19]] = [(28, 98), (25, 101), (24, 104), (27, 107)]
    mask = draw(mesh=mesh)
    assert mask[104, 25] == 1 and mask[60, 30] == 0


def test_the_head_round_a_mesh_contains_its_oval():
    mesh = mesh_around(FRONT, 60)
    face, head, hair = (draw(area, mesh=mesh) > 0 for area in masks.AREAS)
    assert not (face & ~head).any() and not (head & ~hair).any() and head.sum() > 1.3 * face.sum()


def core_value(*frames):
    """The value of core's FACE_LANDMARKS socket with the fields that concern a mask (comfy_extras/nodes_mediapipe.py)."""
    faces = [[{"landmarks_xy": mesh.astype(np.float32), "bbox_xyxy": np.r_[mesh.min(0), mesh.max(0)]} for mesh in frame] for frame in frames]
    return {"frames": faces, "image_size": (240, 800), "connection_sets": {}}


def test_of_cores_faces_the_one_in_the_box_is_taken():
    ours, neighbour = mesh_around(FRONT, 55), np.add(mesh_around(FRONT, 55), (90, 0))
    value = core_value([], [neighbour, ours])
    assert np.allclose(masks.mesh_from_core(value, 1, FRONT_BOX), ours)
    assert np.allclose(masks.mesh_from_core(value, 1, np.add(FRONT_BOX, (90, 0, 90, 0))), neighbour)


def test_a_frame_without_a_face_in_the_box_has_no_mesh():
    value = core_value([], [mesh_around(FRONT, 55)])
    assert masks.mesh_from_core(value, 0, FRONT_BOX) is None
    assert masks.mesh_from_core(value, 1, np.add(FRONT_BOX, (90, 0, 90, 0))) is None
    assert masks.mesh_from_core(value, 2, FRONT_BOX) is None


# Hair and face by segmentation


def segmentation(*people, shape=(400, 600)):
    """Class maps as selfie_multiclass gives them: per person (x, y of the eyes) an egg of skin, hair round it down to the shoulders, neck and clothes."""
    classes = np.zeros(shape, np.uint8)
    for x, y in people:
        cv2.rectangle(classes, (x - 90, y + 120), (x + 90, y + 250), 4, -1)
        cv2.rectangle(classes, (x - 20, y + 60), (x + 20, y + 125), 2, -1)
    for x, y in people:
        cv2.ellipse(classes, (x, y + 10), (70, 90), 0, 0, 360, 1, -1)
        cv2.rectangle(classes, (x - 70, y + 10), (x - 45, y + 160), 1, -1)
    for x, y in people:
        cv2.ellipse(classes, (x, y + 20), (45, 56), 0, 0, 360, 3, -1)
        cv2.rectangle(classes, (x - 30, y - 8), (x + 30, y + 6), 5, -1)  # glasses
    return classes


def segmented(classes, eyes, **options):
    shift = np.subtract(eyes, (100, 80))
    return masks.face_mask(classes.shape, np.add(FRONT_BOX, (*shift, *shift)), FRONT + shift, "hair and face", segmenter_classes=classes, **options)


def test_segmented_hair_and_face_are_exact_and_glasses_belong_to_the_face():
    classes = segmentation((300, 120))
    result = segmented(classes, (300, 120))
    assert result.method == "MediaPipe hair and face segmentation"
    assert np.array_equal(result.mask > 0, np.isin(classes, (masks.HAIR, masks.FACE_SKIN, 5)))


def test_of_two_people_whose_hair_touches_each_gets_the_own_hair_and_face():
    classes = segmentation((180, 120), (310, 120))
    left, right = (segmented(classes, eyes).mask > 0 for eyes in ((180, 120), (310, 120)))
    assert not (left & right).sum() > 400  # where both are equally near
    skin = classes == masks.FACE_SKIN
    columns = np.arange(classes.shape[1])
    assert np.array_equal(left & skin, skin & (columns < 245)) and np.array_equal(right & skin, skin & (columns > 245))
    assert left[250, 120] and right[250, 250]  # long hair


def test_hair_that_hangs_on_nobody_here_is_left_out():
    classes = segmentation((300, 120))
    cv2.circle(classes, (395, 120), 8, masks.HAIR, -1)
    assert segmented(classes, (300, 120)).mask[120, 395] == 0


def test_a_picture_filled_by_the_head_shows_its_background_too():
    classes = segmentation((300, 120))[30:200, 235:365]
    result = segmented(classes, (65, 90))
    assert np.array_equal(result.mask > 0, np.isin(classes, (masks.HAIR, masks.FACE_SKIN, 5)))


def test_where_the_segmentation_misses_the_face_the_proportions_draw_and_say_so():
    classes = segmentation((300, 120))
    result = segmented(classes, (100, 120))
    assert result.method.endswith("allowance for hair; the segmentation shows no face there")
    assert result.mask[120, 100] == 1 and result.mask[120, 300] == 0


def test_segmented_hair_at_the_pictures_border_is_neither_shrunk_nor_feathered_there():
    classes = segmentation((300, 120))[60:, 250:]
    soft = segmented(classes, (50, 60), grow=-6, feather=4).mask
    assert soft[0, 50] == 1 and soft[60, 0] == 1


# MediaPipe itself


def blank_model(folder, name):
    path = folder / "mediapipe" / name
    path.parent.mkdir()
    path.write_bytes(b"not a model")
    return path


@pytest.mark.parametrize(("run", "name"), [(masks.mediapipe_mesh, "face_landmarker.task"), (masks.mediapipe_classes, "selfie_multiclass_256x256.tflite")])
class TestWithoutMediaPipesModels:
    picture = np.zeros((60, 60, 3), np.uint8)

    def test_a_missing_file_gives_none(self, run, name, tmp_path):
        assert run(self.picture, (10, 10, 40, 40), tmp_path) is None

    def test_a_missing_package_gives_none(self, run, name, tmp_path, monkeypatch):
        def absent(_):
            raise importlib.metadata.PackageNotFoundError

        blank_model(tmp_path, name)
        monkeypatch.setattr(importlib.metadata, "version", absent)
        assert run(self.picture, (10, 10, 40, 40), tmp_path) is None

    def test_a_mediapipe_that_reports_usage_is_not_run(self, run, name, tmp_path, monkeypatch):
        blank_model(tmp_path, name)
        monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.2.2")
        assert run(self.picture, (10, 10, 40, 40), tmp_path) is None

    def test_a_file_that_is_no_model_is_named(self, run, name, tmp_path):
        pytest.importorskip("mediapipe")
        path = blank_model(tmp_path, name)
        with pytest.raises(MissingModelError, match=f"cannot load .*{path.name}: download it again"):
            run(self.picture, (10, 10, 40, 40), tmp_path)


def test_importing_the_masks_loads_no_library_but_numpy():
    code = (
        "import sys\nfrom importlib.machinery import ModuleSpec\nfrom importlib.util import module_from_spec\n"
        f"spec = ModuleSpec('character_likeness', None, is_package=True)\nspec.submodule_search_locations = [{str(ROOT)!r}]\n"
        "sys.modules['character_likeness'] = module_from_spec(spec)\nimport character_likeness.nodes.identity.masks\n"
        "print(sorted({'cv2', 'scipy', 'mediapipe', 'torch', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


OLD_WHEEL = "LIKENESS_MEDIAPIPE_0_10_21"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models folder with a face_landmarker.task made of the weights in mediapipe 0.10.21's wheel, the last one that brought any.

    Its detector goes in as it is. Its landmark model has 468 points and the task reads 478: a gather operation is added behind the output that repeats
    points of the eyes as irises. All weights and all code that run are MediaPipe's.
    """
    pytest.importorskip("mediapipe")
    schema = pytest.importorskip("mediapipe.tasks.metadata.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    wheel = Path(os.environ.get(OLD_WHEEL) or Path.home() / "comfy" / "mediapipe-0.10.21")
    old = wheel / "mediapipe" / "modules"
    if not (old / "face_landmark" / "face_landmark.tflite").is_file():
        pytest.skip(f"no mediapipe 0.10.21: `pip download --no-deps mediapipe==0.10.21`, unzip the wheel and name the folder in {OLD_WHEEL}")

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel((old / "face_landmark" / "face_landmark.tflite").read_bytes(), 0))
    graph = model.subgraphs[0]
    points = [*range(468), 159, 33, 159, 133, 145, 386, 362, 386, 263, 374]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array([3 * point + axis for point in points for axis in range(3)], np.int32).tobytes(), np.uint8)
    model.buffers += [buffer, schema.BufferT()]
    for number, (name, kind, shape) in enumerate([(b"points", schema.TensorType.INT32, [1434]), (b"mesh", schema.TensorType.FLOAT32, [1, 1, 1, 1434])]):
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.shape, tensor.buffer = name, kind, np.array(shape, np.int32), len(model.buffers) - 2 + number
        graph.tensors.append(tensor)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.GATHER
    model.operatorCodes.append(code)
    gather, last = schema.OperatorT(), len(graph.tensors) - 1
    gather.opcodeIndex = len(model.operatorCodes) - 1
    gather.inputs, gather.outputs = np.array([graph.outputs[0], last - 1], np.int32), np.array([last], np.int32)
    gather.builtinOptionsType, gather.builtinOptions = schema.BuiltinOptions.GatherOptions, schema.GatherOptionsT()
    gather.builtinOptions.axis = 3
    graph.operators.append(gather)
    graph.outputs = np.array([last, graph.outputs[1]], np.int32)
    builder = flatbuffers.Builder(1 << 21)
    builder.Finish(model.Pack(builder), b"TFL3")

    folder = tmp_path_factory.mktemp("models")
    (folder / "mediapipe").mkdir()
    with zipfile.ZipFile(folder / "mediapipe" / "face_landmarker.task", "w", zipfile.ZIP_STORED) as task:
        task.write(old / "face_detection" / "face_detection_short_range.tflite", "face_detector.tflite")
        task.writestr("face_landmarks_detector.tflite", bytes(builder.Output()))
    # The multiclass model is in no wheel. This one tells person (0) from background (255): enough to see that what is found lands where it belongs.
    person = (old / "selfie_segmentation" / "selfie_segmentation.tflite").read_bytes()
    (folder / "mediapipe" / "selfie_multiclass_256x256.tflite").write_bytes(person)
    yield folder
    masks.close_mediapipe()


def photograph():
    file = Path(importlib.util.find_spec("insightface").origin).parent / "data" / "images" / "t1.jpg"
    return np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])


def dlib_points(picture, box):
    import dlib

    folder = Path(importlib.util.find_spec("face_recognition_models").origin).parent / "models"
    found = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))(picture, dlib.rectangle(*box))
    points = np.array([(point.x, point.y) for point in found.parts()], float)
    eyes = sorted((points[:2].mean(0), points[2:4].mean(0)), key=lambda eye: eye[0])
    return np.array([*eyes, points[4]])


@pytest.mark.insightface
def test_the_landmarker_finds_each_of_six_people_where_they_are(models):
    picture = photograph()
    for box, keypoints, _, chin, _, _ in PEOPLE.values():
        mesh = masks.mediapipe_mesh(picture, box, models)
        assert mesh.shape == (478, 2)
        near = 0.06 * (box[2] - box[0])
        eyes = sorted((mesh[[33, 133]].mean(0), mesh[[362, 263]].mean(0)), key=lambda eye: eye[0])
        assert np.hypot(*(np.array([*eyes, mesh[1], mesh[152]]) - [*keypoints[:3], chin]).T).max() < near
        by_mesh = draw(shape=SHAPE, box=box, keypoints=None, mesh=mesh)
        by_points = draw(shape=SHAPE, box=box, keypoints=keypoints)
        assert agreement(by_mesh, by_points) > 0.65
        assert by_points[by_mesh > 0].mean() > 0.9


@pytest.mark.insightface
def test_the_landmarker_finds_no_face_where_there_is_none_and_no_neighbours_face(models):
    assert masks.mediapipe_mesh(photograph(), (560, 560, 660, 660), models) is None
    beside = np.add(PEOPLE["eyes shut"][0], (-100, 0, -100, 0))
    assert masks.mediapipe_mesh(photograph(), beside, models) is None


def test_a_box_outside_the_picture_or_a_picture_of_a_pixel_shows_mediapipe_nothing(models):
    for run in (masks.mediapipe_mesh, masks.mediapipe_classes):
        assert run(np.zeros((60, 90, 3), np.uint8), (500, 500, 540, 540), models) is None
        assert run(np.zeros((1, 1, 3), np.uint8), (0, 0, 1, 1), models) is None


@pytest.mark.insightface
def test_the_landmarker_sees_a_face_at_the_border_and_an_enlarged_picture(models):
    picture = photograph()
    box = np.array(PEOPLE["eyes shut"][0])
    whole = masks.mediapipe_mesh(picture, box, models)
    left, top = 1130, 270
    cut = np.add(masks.mediapipe_mesh(np.ascontiguousarray(picture[top:, left:]), box - (left, top, left, top), models), (left, top))
    large = masks.mediapipe_mesh(cv2.resize(picture, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC), box * 5, models) / 5
    assert np.hypot(*(cut - whole).T).mean() < 5 and np.hypot(*(large - whole).T).mean() < 2


@pytest.mark.insightface
def test_one_landmarker_serves_until_it_is_closed_and_then_another_one(models):
    picture, box = photograph(), PEOPLE["cards"][0]
    masks.close_mediapipe()
    first = masks.mediapipe_mesh(picture, box, models)
    made = list(masks._tasks.values())
    assert np.array_equal(masks.mediapipe_mesh(picture, box, models), first)
    assert len(made) == 1 and list(masks._tasks.values()) == made
    masks.close_mediapipe()
    assert not masks._tasks
    assert np.array_equal(masks.mediapipe_mesh(picture, box, models), first)


@pytest.mark.parametrize("cut", [(0, 0), (60, 150)])
def test_classes_land_where_they_were_seen(models, cut):
    data = pytest.importorskip("skimage.data")
    top, left = cut
    picture = np.ascontiguousarray(data.astronaut()[top:, left:])
    classes = masks.mediapipe_classes(picture, np.subtract((179, 83, 266, 170), (left, top, left, top)), models)
    assert classes.shape == picture.shape[:2] and classes.dtype == np.uint8
    person, wall = [(224, 130), (240, 65), (222, 175)], [(320, 70), (335, 95), (330, 120)]
    assert [classes[y - top, x - left] for x, y in person] == [0, 0, 0]
    assert [classes[y - top, x - left] for x, y in wall] == [255, 255, 255]
