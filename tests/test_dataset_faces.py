"""Reading faces: MediaPipe's models as the 0.10.21 wheel carries them, a recognizer's detector, and the framing that they tell.

The weights are read from the unpacked wheel when the tests run, and are no part of this repository.
"""

import gc
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from character_likeness.nodes.errors import InputError, LikenessError, MissingModelError, MissingPackageError
from character_likeness.nodes.framing import FRAMINGS
from character_likeness.nodes.identity.recognizers.faces import overlap
from character_likeness.nodes.lora_dataset import faces
from character_likeness.nodes.lora_dataset.faces import BLAZE_FACES, FACE_SHARES, framing_by_face, framing_by_pose, open_reader, turned

pytestmark = pytest.mark.mediapipe

OLD_WHEEL = "LIKENESS_MEDIAPIPE_0_10_21"
FULL, SHORT = "face_detection_full_range_sparse.tflite", "face_detection_short_range.tflite"


# --- framing and pose as numbers ---


def test_the_framing_by_a_face_goes_from_full_body_to_closeup():
    named = [framing_by_face(share) for share in (0.0, 0.09, 0.15, 0.23, 0.34, 0.45, 3.0)]
    assert named == ["full body", "full body", "cowboy shot", "upper body", "portrait", "closeup", "closeup"]
    assert {name for name, _ in FACE_SHARES} <= set(FRAMINGS)


def standing(bottom, hidden=()):
    """The landmarks of somebody who stands upright, in a picture that ends at `bottom` (shoulders 0, hips 1, knees 2, ankles 3)."""
    heights = {0: -0.5, 11: 0.0, 12: 0.0, 23: 1.0, 24: 1.0, 25: 2.0, 26: 2.0, 27: 3.0, 28: 3.0}
    points = np.full((33, 2), 0.5)
    for number, height in heights.items():
        points[number] = 0.4 if number % 2 else 0.6, (height + 1) / (bottom + 1)
    presence = ((points >= 0) & (points <= 1)).all(1).astype(float)
    visibility = presence.copy()
    visibility[list(hidden)] = 0.0
    return points, visibility, presence


@pytest.mark.parametrize(
    ("bottom", "framing"),
    [
        (-0.2, "closeup"),
        (0.3, "portrait"),
        (0.72, "upper body"),
        (1.05, "upper body"),
        (1.5, "cowboy shot"),
        (2.1, "cowboy shot"),
        (3.2, "full body"),
        (9.0, "full body"),
    ],
)
def test_the_framing_by_the_body_is_how_far_down_the_picture_goes(bottom, framing):
    points, visibility, presence = standing(bottom)
    assert framing_by_pose(points, visibility, presence) == framing
    # Lying down nothing changes.
    assert framing_by_pose(points[:, ::-1], visibility, presence) == framing
    assert framing_by_pose(1 - points, visibility, presence) == framing


def test_a_joint_hidden_in_the_picture_is_not_taken_for_seen_and_one_side_is_enough():
    assert framing_by_pose(*standing(3.2, hidden=(25, 26, 27, 28))) == "upper body"
    assert framing_by_pose(*standing(3.2, hidden=(25, 27))) == "full body"
    assert framing_by_pose(*standing(3.2, hidden=(11, 12))) == "closeup"


def test_a_joint_that_is_placed_in_the_picture_but_does_not_lie_there_counts_as_cut_off():
    """As MediaPipe has the hips of scikit-image's astronaut: just above the lower border, with a presence of 0.1."""
    points, visibility, presence = standing(1.01)
    presence[[23, 24]], visibility[[23, 24]] = 0.1, 0.2
    assert framing_by_pose(points, visibility, presence) == "upper body"


def rotation(yaw, pitch):
    """Of a head that turns to the right of the picture and looks up: about y, then x, in a space with y up and z to the viewer."""
    y, x = np.radians(yaw), -np.radians(pitch)
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_y @ about_x
    matrix[:3, 3] = 3, -2, -50
    return matrix


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (30, 0), (-70, 0), (0, 25), (0, -25), (40, 20)])
def test_yaw_and_pitch_are_where_the_nose_points(yaw, pitch):
    assert np.allclose(turned(rotation(yaw, pitch)), (yaw, pitch))
    roll = np.eye(4)
    roll[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    assert np.allclose(turned(rotation(yaw, pitch) @ roll), (yaw, pitch))


# --- which reader there is ---


@pytest.fixture
def detector_file(tmp_path):
    """A models folder with a file that has the name of MediaPipe's detector."""
    path = tmp_path / "mediapipe" / "blaze_face_short_range.tflite"
    path.parent.mkdir()
    path.write_bytes(b"no model")
    return path


def test_without_anything_one_sentence_says_what_to_download(tmp_path):
    for folder in (None, tmp_path):
        with pytest.raises(MissingModelError, match="models download mediapipe-face-detector") as caught:
            open_reader(folder)
        assert "give a recognizer" in str(caught.value)
        with pytest.raises(MissingModelError, match="models download mediapipe-face-detector"):
            open_reader(folder, prefer="mediapipe")


@pytest.mark.dlib
def test_the_recognizer_reads_where_mediapipe_cannot_and_says_why(tmp_path, dlib_recognizer):
    fallback = open_reader(tmp_path, dlib_recognizer)
    assert fallback.name == "HOG (dlib) of the recognizer dlib" and "models download mediapipe-face-detector" in fallback.note
    asked_for = open_reader(tmp_path, dlib_recognizer, "recognizer")
    assert (asked_for.name, asked_for.note) == (fallback.name, "")


@pytest.mark.dlib
@pytest.mark.parametrize("version", [None, "1.2.2"])
def test_a_mediapipe_that_is_not_there_or_reports_usage_is_not_used(version, detector_file, monkeypatch, dlib_recognizer):
    def installed(_):
        if version is None:
            raise importlib.metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert "pip install" in open_reader(detector_file.parents[1], dlib_recognizer).note
    with pytest.raises(MissingPackageError, match='install "mediapipe<1"'):
        open_reader(detector_file.parents[1], prefer="mediapipe")


def test_a_file_that_is_no_model_is_named_with_the_first_picture(detector_file):
    pytest.importorskip("mediapipe")
    reader = open_reader(detector_file.parents[1])
    with pytest.raises(MissingModelError) as caught:
        reader.read(np.zeros((64, 64, 3), np.uint8))
    assert str(detector_file) in str(caught.value) and "\n" not in str(caught.value)


def test_choices_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(InputError, match="'yolo'"):
        open_reader(tmp_path, prefer="yolo")
    with pytest.raises(InputError, match="none was given"):
        open_reader(tmp_path, prefer="recognizer")


def test_importing_the_readers_loads_neither_mediapipe_nor_cv2():
    code = (
        "import sys; sys.path.insert(0, '.'); from tests.conftest import make_package_importable; make_package_importable();"
        "import character_likeness.nodes.lora_dataset.crops;"
        "print(sorted({'cv2', 'scipy', 'mediapipe', 'torch', 'PIL', 'httpx'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout.strip() == "[]"


# --- MediaPipe's own models ---


@pytest.fixture(scope="module")
def wheel():
    """The folder of mediapipe 0.10.21's models, the last wheel that carried any."""
    pytest.importorskip("mediapipe")
    modules = Path(os.environ.get(OLD_WHEEL) or Path.home() / "comfy" / "mediapipe-0.10.21") / "mediapipe" / "modules"
    if not (modules / "face_detection" / FULL).is_file():
        pytest.skip(f"no mediapipe 0.10.21: `pip download --no-deps mediapipe==0.10.21`, unzip the wheel and name the folder in {OLD_WHEEL}")
    return modules


def models_with(folder, wheel, *detectors):
    (folder / "mediapipe").mkdir(parents=True)
    for name in detectors:
        shutil.copy(wheel / "face_detection" / name, folder / "mediapipe" / name)
    return folder


@pytest.fixture(scope="module")
def full_range(wheel, tmp_path_factory):
    reader = open_reader(models_with(tmp_path_factory.mktemp("full"), wheel, FULL))
    yield reader
    reader.close()


def image_model(path, mean, deviation):
    """A model of the wheel with the metadata that the tasks want: how pixels are made its input. In the wheel that stands in the graphs."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("mediapipe.tasks.metadata.schema_py_generated")
    words = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    scale, unit, tensor, graph, told = (
        getattr(words, f"{name}T")() for name in ("NormalizationOptions", "ProcessUnit", "TensorMetadata", "SubGraphMetadata", "ModelMetadata")
    )
    scale.mean, scale.std = [mean], [deviation]
    unit.optionsType, unit.options = words.ProcessUnitOptions.NormalizationOptions, scale
    tensor.processUnits, graph.inputTensorMetadata, told.subgraphMetadata = [unit], [tensor], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(told.Pack(builder), b"M001")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(bytes(builder.Output()), np.uint8)
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [known for known in model.metadata if known.name != entry.name] + [entry]
    builder = flatbuffers.Builder(1 << 22)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="module")
def bodies(wheel, tmp_path_factory):
    """A reader with the wheel's pose models in a bundle like the published pose_landmarker_full.task, which consists of the same two."""
    folder = models_with(tmp_path_factory.mktemp("bodies"), wheel, SHORT)
    with zipfile.ZipFile(folder / "mediapipe" / "pose_landmarker_full.task", "w", zipfile.ZIP_STORED) as task:
        task.writestr("pose_detector.tflite", image_model(wheel / "pose_detection" / "pose_detection.tflite", 127.5, 127.5))
        task.writestr("pose_landmarks_detector.tflite", image_model(wheel / "pose_landmark" / "pose_landmark_full.tflite", 0.0, 255.0))
    reader = open_reader(folder)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def found_by_dlib(group, dlib_recognizer):
    from character_likeness.nodes.identity.recognizers import every_look

    return dlib_recognizer.faces([group], every_look)[0].faces


@pytest.mark.dlib
@pytest.mark.insightface
def test_the_full_range_model_of_the_older_solutions_finds_all_six_people(full_range, group, found_by_dlib):
    readings = full_range.read(group.pixels)
    assert full_range.name == "MediaPipe BlazeFace full range" and len(readings) == 6
    owners = [max(found_by_dlib, key=lambda face: overlap(face.box, reading.box)) for reading in readings]
    assert len(set(map(id, owners))) == 6
    for reading, face in zip(readings, owners):
        assert overlap(reading.box, face.box) > 0.5 and reading.confidence > 0.5 and reading.by == full_range.name
        assert abs(reading.yaw - face.yaw) < 25 and reading.pitch is None
        assert reading.framing == framing_by_face((reading.box[3] - reading.box[1]) / 886) and not reading.by_pose
    assert [reading.area for reading in readings] == sorted((reading.area for reading in readings), reverse=True)


@pytest.mark.dlib
@pytest.mark.insightface
def test_the_short_range_model_finds_all_six_too(bodies, group, found_by_dlib):
    readings = bodies.read(group.pixels)
    assert len(readings) == len(found_by_dlib) == 6
    assert all(max(overlap(face.box, reading.box) for reading in readings) > 0.5 for face in found_by_dlib)


@pytest.mark.insightface
@pytest.mark.parametrize("model", [FULL, SHORT])
def test_a_face_is_found_at_any_size_that_can_be_judged_and_where_it_is(wheel, tmp_path, model):
    import cv2

    data = pytest.importorskip("skimage.data")
    reader = open_reader(models_with(tmp_path, wheel, model))
    for side, left, top in ((512, 0, 0), (1400, 800, 850), (1100, 10, 580)):
        picture = np.full((side, side, 3), 128, np.uint8)
        small = cv2.resize(data.astronaut(), (512, 512) if side == 512 else (256, 256), interpolation=cv2.INTER_AREA)
        scale = len(small) / 512
        picture[top : top + len(small), left : left + len(small)] = small
        (reading,) = reader.read(picture)
        face = np.array((176, 82, 270, 176)) * scale + (left, top, left, top)
        assert overlap(reading.box, tuple(face)) > 0.5
    reader.close()


def test_the_full_range_model_is_taken_before_the_short_range_one(wheel, tmp_path):
    assert next(iter(BLAZE_FACES)).startswith("face_detection_full_range")
    assert open_reader(models_with(tmp_path, wheel, FULL, SHORT)).name == "MediaPipe BlazeFace full range"


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (9, 9), (8, 4000), (4000, 8)])
def test_pictures_of_a_few_pixels_show_no_face(full_range, bodies, shape):
    assert full_range.read(np.zeros((*shape, 3), np.uint8)) == bodies.read(np.zeros((*shape, 3), np.uint8)) == ()


def test_pictures_without_a_face_show_none(full_range, bodies):
    """Among them a cat, a colour wheel and a rocket, in which the models alone see faces."""
    import cv2

    data = pytest.importorskip("skimage.data")
    for picture in (data.coffee(), data.chelsea(), data.colorwheel(), data.rocket(), np.stack([data.coins()] * 3, -1)):
        for size in (1, 3):
            enlarged = cv2.resize(np.ascontiguousarray(picture[..., :3]), None, fx=size, fy=size)
            assert full_range.read(enlarged) == bodies.read(enlarged) == ()


def test_a_closed_reader_reads_again(full_range):
    data = pytest.importorskip("skimage.data")
    before = full_range.read(data.astronaut())
    full_range.close()
    assert full_range.read(data.astronaut()) == before and len(before) == 1


def test_the_body_tells_how_much_of_a_person_is_seen(bodies):
    data = pytest.importorskip("skimage.data")
    assert bodies.name == "MediaPipe BlazeFace short range, pose landmarks"
    astronaut = data.astronaut()
    (whole,), (face,) = bodies.read(astronaut), bodies.read(np.ascontiguousarray(astronaut[40:220, 130:310]))
    assert whole.by_pose and whole.framing == "upper body"
    assert face.framing == "closeup"
    # Behind his camera, cut off below the knees.
    (photographer,) = bodies.read(np.stack([data.camera()] * 3, -1))
    assert photographer.by_pose and photographer.framing == "cowboy shot"


@pytest.mark.insightface
def test_each_body_goes_with_its_own_face(bodies, group):
    readings = bodies.read(group.pixels)
    found = bodies._bodies(group.pixels)
    heads = [points[0] * (1280, 886) for points, _, _ in found]
    with_body = 0
    for reading in readings:
        left, top, right, bottom = reading.box
        own = [body for body, (x, y) in zip(found, heads) if left < x < right and top < y < bottom]
        assert reading.by_pose == bool(own) == ("pose landmarks" in reading.by)
        if own:
            with_body += 1
            assert reading.framing == framing_by_pose(*own[0])
    assert 2 <= with_body < len(readings)


@pytest.mark.dlib
@pytest.mark.insightface
def test_a_face_is_looked_at_from_near_before_anything_is_said_of_it(full_range, group, found_by_dlib):
    """At a glance at the left half the model is too unsure of one of three."""
    readings = full_range.read(np.ascontiguousarray(group.pixels[:, :640]))
    assert len(readings) == 3
    for reading in readings:
        assert abs(reading.yaw - max(found_by_dlib, key=lambda face: overlap(face.box, reading.box)).yaw) < 25


# --- the face landmarker ---


def geometry_of(mesh):
    """MediaPipe's geometry_pipeline_metadata_landmarks.binarypb for a mesh float [468,3] in centimetres, y up and z to the viewer (no wheel carries it).

    By mediapipe/tasks/cc/vision/face_geometry/proto/{geometry_pipeline_metadata,mesh_3d}.proto, in protobuf's wire format.
    """

    def varint(value):
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    def message(number, content):
        return varint(number << 3 | 2) + varint(len(content)) + content

    vertices = b"".join(varint(3 << 3 | 5) + struct.pack("<f", value) for vertex in mesh for value in (*vertex, 0.0, 0.0))
    triangle = b"".join(varint(4 << 3) + varint(corner) for corner in (0, 1, 2))
    # Points of the skull, which do not move with the expression.
    basis = b"".join(message(2, varint(1 << 3) + varint(point) + varint(2 << 3 | 5) + struct.pack("<f", 0.1)) for point in (4, 6, 10, 33, 263, 127, 356, 168))
    return message(1, vertices + triangle) + basis + varint(3 << 3) + varint(1)


@pytest.fixture(scope="module")
def landmarks(wheel, tmp_path_factory):
    """A reader with a face_landmarker.task made of the wheel's weights as in test_masks.py; where the published file is at hand, with that.

    The published bundle's model of a head is not in the wheel. Here the astronaut's own face is taken for it, who looks into the camera.
    """
    from tests.conftest import comfyui_root
    from tests.test_masks import models as masks_models

    folder = models_with(tmp_path_factory.mktemp("landmarks"), wheel, SHORT)
    target = folder / "mediapipe" / "face_landmarker.task"
    published = (comfyui_root() or Path()) / "models" / "mediapipe" / target.name
    if published.is_file():
        shutil.copy(published, target)
    else:
        made = masks_models.__wrapped__ if hasattr(masks_models, "__wrapped__") else masks_models.__pytest_wrapped__.obj
        steps = made(tmp_path_factory)
        with zipfile.ZipFile(next(steps) / "mediapipe" / target.name) as parts, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as task:
            for name in parts.namelist():
                task.writestr(name, parts.read(name))
            task.writestr("geometry_pipeline_metadata_landmarks.binarypb", geometry_of(frontal_mesh(parts)))
        next(steps, None)
    reader = open_reader(folder)
    yield reader
    reader.close()


def frontal_mesh(bundle):
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    content = Path(bundle.filename).read_bytes()
    picture = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[30:230, 120:320])
    with vision.FaceLandmarker.create_from_options(vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_buffer=content))) as task:
        (points,) = task.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)).face_landmarks
    mesh = np.array([(point.x, -point.y, -point.z) for point in points])[:468]
    # 6.3 cm between the pupils.
    return (mesh - mesh.mean(0)) * 6.3 / np.linalg.norm(mesh[[33, 133]].mean(0) - mesh[[263, 362]].mean(0))


@pytest.mark.dlib
@pytest.mark.insightface
def test_the_landmarker_tells_how_far_each_of_six_faces_is_turned(landmarks, group, found_by_dlib):
    assert landmarks.name == "MediaPipe BlazeFace short range, face landmarks"
    readings = landmarks.read(group.pixels)
    for face in found_by_dlib:
        reading = max(readings, key=lambda reading: overlap(reading.box, face.box))
        assert reading.by.endswith("face landmarks") and abs(reading.pitch) < 35
        assert abs(reading.yaw - face.yaw) < 25
    turned_most = min(readings, key=lambda reading: reading.yaw)
    assert turned_most.yaw < -30
    # Seen in a mirror everybody is turned the other way, and looks as high as before.
    mirrored = landmarks.read(np.ascontiguousarray(group.pixels[:, ::-1]))
    for reading in readings:
        left, top, right, bottom = reading.box
        other = max(mirrored, key=lambda other: overlap(other.box, (1280 - right, top, 1280 - left, bottom)))
        assert overlap(other.box, (1280 - right, top, 1280 - left, bottom)) > 0.5
        assert abs(reading.yaw + other.yaw) < 12 and abs(reading.pitch - other.pitch) < 10


@pytest.mark.dlib
def test_landmarks_serve_a_recognizers_faces_too(landmarks, dlib_recognizer, tmp_path):
    data = pytest.importorskip("skimage.data")
    (tmp_path / "mediapipe").mkdir()
    shutil.copy(landmarks._tasks._folder / "face_landmarker.task", tmp_path / "mediapipe")
    reader = open_reader(tmp_path, dlib_recognizer)
    assert reader.name == "HOG (dlib) of the recognizer dlib, face landmarks"
    reading = reader.read(data.astronaut())[0]
    assert reading.pitch is not None and reading.by == reader.name
    alone = open_reader(tmp_path, dlib_recognizer, "recognizer").read(data.astronaut())[0]
    assert alone.pitch is None and alone.box == reading.box


def test_a_reader_that_is_still_open_does_not_disturb_the_end_of_the_process(full_range):
    code = (
        "import sys; sys.path.insert(0, '.'); from tests.conftest import make_package_importable; make_package_importable();"
        "import numpy as np; from character_likeness.nodes.lora_dataset.faces import open_reader;"
        f"reader = open_reader({str(full_range._tasks._folder.parent)!r}); print(reader.read(np.zeros((64, 64, 3), np.uint8)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[1])
    assert done.stdout.strip() == "()" and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_readers_dropped_with_an_error_are_closed_with_the_next_one(full_range):
    data = pytest.importorskip("skimage.data")
    folder = full_range._tasks._folder.parent
    # Other tests' readers first: they may have waited for the collector, too.
    gc.collect()
    faces._close_dropped()

    def fail():
        reader = open_reader(folder)
        reader.read(data.astronaut())
        raise RuntimeError

    try:
        fail()
    except RuntimeError as error:
        # An error whose traceback holds it is what the garbage collector has to take apart.
        error.itself = error
    gc.collect()
    assert len(faces._dropped) == 1
    (task,) = faces._dropped[0].values()
    next_one = open_reader(folder)
    next_one.read(data.astronaut())
    assert not faces._dropped and task._handle is None
    next_one.close()


@pytest.mark.insightface
def test_a_face_that_the_landmarker_does_not_see_keeps_what_is_known(landmarks, group):
    """Beside the table's edge there is none, but next to it are other people's."""
    reading = faces.FaceReading((530.0, 300.0, 640.0, 410.0), 0.9, 12.0)
    assert landmarks._turned(group.pixels, reading) == reading


@pytest.mark.parametrize("geometry", [b"", geometry_of(np.eye(478, 3))])
def test_a_landmarker_that_cannot_tell_how_a_face_is_turned_is_named(landmarks, tmp_path, geometry):
    data = pytest.importorskip("skimage.data")
    shutil.copytree(landmarks._tasks._folder, tmp_path / "mediapipe")
    target = tmp_path / "mediapipe" / "face_landmarker.task"
    with zipfile.ZipFile(target) as whole:
        parts = {name: whole.read(name) for name in whole.namelist() if not name.startswith("geometry")}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as task:
        for name, content in (*parts.items(), *([("geometry_pipeline_metadata_landmarks.binarypb", geometry)] if geometry else [])):
            task.writestr(name, content)
    with pytest.raises(MissingModelError, match=r"FaceLandmarker cannot work with .*face_landmarker\.task.*download it again"):
        open_reader(tmp_path).read(data.astronaut())


@pytest.mark.dlib
@pytest.mark.insightface
def test_a_recognizers_faces_are_read_without_mediapipe(group, dlib_recognizer):
    readings = open_reader(None, dlib_recognizer).read(group.pixels)
    assert len(readings) == 6 and readings[0].area == max(reading.area for reading in readings)
    assert all(reading.framing in FRAMINGS and reading.yaw is not None and reading.pitch is None for reading in readings)
    assert issubclass(MissingModelError, LikenessError)
