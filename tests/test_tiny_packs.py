"""The synthetic face packs behave like real ones in InsightFace's FaceAnalysis and OpenCV's FaceDetectorYN."""

import functools
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

cv2 = pytest.importorskip("cv2")
insightface = pytest.importorskip("insightface")
from insightface.app import FaceAnalysis  # noqa: E402
from insightface.utils.face_align import norm_crop  # noqa: E402

spec = importlib.util.spec_from_file_location("face_packs", Path(__file__).parent / "tiny" / "face_packs.py")
packs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(packs)

# skimage's SimilarityTransform.estimate, which norm_crop calls, is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
PEOPLE = range(packs.IDENTITIES)


def bgr(picture):
    return np.ascontiguousarray(picture[..., ::-1])


def overlap(a, b):
    """Intersection over union of two boxes x1, y1, x2, y2."""
    width, height = np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2])
    inside = max(width, 0) * max(height, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


@functools.cache
def empty(kind, seed=0):
    return packs.background(640, 640, kind, seed)


@functools.cache
def crowd(kind="photo"):
    """Eight people of 40 to 150 px, two of them touching, and their truth boxes."""
    picture = packs.background(900, 600, kind, seed=2)
    places = [(20, 30, 40), (60, 30, 40), (220, 30, 64), (500, 20, 150), (20, 300, 90), (300, 280, 120), (480, 300, 50), (680, 400, 110)]
    return picture, [packs.paint(picture, person, *place) for person, place in enumerate(places)]


@functools.cache
def photographs():
    """Real pictures that come inside installed packages, RGB."""
    here = Path(insightface.__file__).parent / "data" / "images"
    data = pytest.importorskip("skimage.data")
    found = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(here.glob("*.*"))]
    return [*found, data.chelsea(), data.rocket(), data.astronaut(), data.coffee()]


def load(directory, det_size=(640, 640), modules=None):
    app = FaceAnalysis(name=str(directory), allowed_modules=modules, providers=["CPUExecutionProvider"])
    app.prepare(0, det_size=det_size)
    return app


@pytest.fixture(scope="module")
def buffalo(tmp_path_factory):
    return load(packs.write_pack(tmp_path_factory.mktemp("buffalo_l"), "buffalo_l"))


@pytest.fixture(scope="module")
def plain(buffalo):
    """The eight people's embeddings [8,512], length 1, from faces painted plainly."""
    return np.stack([embed(buffalo, packs.painted_face(person, 112)) for person in PEOPLE])


def embed(app, crop):
    embedding = app.models["recognition"].get_feat(bgr(crop))[0]
    return embedding / np.linalg.norm(embedding)


@pytest.mark.parametrize("size", [16, 24, 40, 64, 100, 160, 250, 400, 580])
@pytest.mark.parametrize("kind", ["gray", "photo"])
def test_insightface_finds_a_painted_face_of_any_size(buffalo, kind, size):
    picture = empty(kind).copy()
    truth = packs.paint(picture, 3, 33, 21, size)
    boxes, keypoints = buffalo.det_model.detect(bgr(picture))
    assert len(boxes) == 1
    assert overlap(boxes[0], truth) > 0.85
    assert abs(keypoints[0] - packs.truth_keypoints(truth)).max() < 0.02 * size + 0.3


@pytest.mark.parametrize("det_size", [(640, 640), None])
def test_every_person_of_a_crowd_is_found_once_and_recognised(buffalo, plain, det_size):
    picture, truths = crowd()
    buffalo.prepare(0, det_size=det_size)
    faces = buffalo.get(bgr(picture))
    buffalo.prepare(0, det_size=(640, 640))
    assert len(faces) == len(truths)
    for person, truth in enumerate(truths):
        face = max(faces, key=lambda face: overlap(face.bbox, truth))
        assert overlap(face.bbox, truth) > 0.85
        assert np.argmax(plain @ face.normed_embedding) == person
        assert plain[person] @ face.normed_embedding > 0.9


def test_a_face_that_fills_its_picture_is_found(buffalo):
    boxes, _ = buffalo.det_model.detect(bgr(packs.painted_face(4, 512)))
    assert len(boxes) == 1 and overlap(boxes[0], np.float32([0, 0, 512, 512])) > 0.9


@pytest.mark.parametrize("det_size", [(128, 128), (640, 640)])
def test_no_face_is_found_where_none_was_painted(buffalo, det_size):
    for picture in [empty("gray"), empty("noise"), empty("photo"), empty("photo", 1), *photographs()]:
        boxes, _ = buffalo.det_model.detect(bgr(picture), input_size=det_size)
        assert len(boxes) == 0


def test_a_picture_with_red_and_blue_swapped_has_no_faces(buffalo):
    picture, _ = crowd()
    assert len(buffalo.det_model.detect(np.ascontiguousarray(picture))[0]) == 0


def test_a_small_face_of_a_large_picture_needs_its_full_resolution(buffalo, plain):
    picture = packs.background(2000, 3000)
    truth = packs.paint(picture, 5, 1300, 2000, 24)
    assert buffalo.get(bgr(picture)) == []
    tile = picture[1800:2440, 1100:1740]
    (face,) = buffalo.get(bgr(tile))
    assert overlap(face.bbox + np.tile([1100, 1800], 2), truth) > 0.85
    assert plain[5] @ face.normed_embedding > 0.9


def test_det_size_none_runs_one_session_for_each_of_two_sizes(tmp_path):
    app = load(packs.write_pack(tmp_path), det_size=None, modules=["detection"])
    assert app.det_model.resolution_session_input_sizes == ()
    app.get(bgr(packs.background(64, 64)))
    assert app.det_model.resolution_session_input_sizes == ((128, 128), (640, 640))


def test_a_detector_of_static_size_ignores_det_size(tmp_path):
    app = load(packs.write_pack(tmp_path, static_size=(320, 320)), modules=["detection"])
    picture = packs.background(300, 300)
    truth = packs.paint(picture, 2, 50, 60, 150)
    (face,) = app.get(bgr(picture))
    assert overlap(face.bbox, truth) > 0.9
    assert app.det_model.resolution_session_input_sizes == ((320, 320),)


@functools.cache
def two_rows(size):
    """The eight people at one size, and their truth boxes."""
    picture = empty("photo", 1).copy()
    return picture, [packs.paint(picture, person, 10 + person % 4 * 155, 10 + person // 4 * 200, size, noise=8) for person in PEOPLE]


def jpeg(picture, quality):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


SPOIL = {
    "untouched": lambda picture: picture,
    "blurred": lambda picture: cv2.GaussianBlur(picture, (0, 0), 2),
    "darkened": lambda picture: (picture * 0.4).astype(np.uint8),
    "brightened": lambda picture: np.clip(picture * 1.3, 0, 255).astype(np.uint8),
    "compressed": lambda picture: jpeg(picture, 50),
}


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_person_keeps_the_embedding_in_spoiled_pictures(buffalo, plain, spoil):
    for size in (40, 80, 140):
        picture, truths = two_rows(size)
        picture = bgr(SPOIL[spoil](picture))
        boxes, keypoints = buffalo.det_model.detect(picture)
        assert len(boxes) == len(truths)
        for person, truth in enumerate(truths):
            found = int(np.argmax([overlap(box, truth) for box in boxes]))
            cosines = plain @ embed(buffalo, bgr(norm_crop(picture, keypoints[found])))
            assert cosines[person] > 0.85
            assert np.delete(cosines, person).max() < 0.25


def test_a_mirrored_or_turned_face_passes_for_nobody(buffalo, plain):
    for person in PEOPLE:
        face = packs.painted_face(person, 112)
        for other in (face[:, ::-1], np.rot90(face), np.rot90(face, 2), np.rot90(face, 3)):
            assert (plain @ embed(buffalo, other)).max() < 0.37


@pytest.mark.parametrize("likeness", [0.9, 0.5, 0.3, 0.0])
def test_likeness_sets_the_cosine(buffalo, plain, likeness):
    picture = packs.background(300, 300)
    packs.paint(picture, 2, 50, 60, 150, likeness=likeness)
    (face,) = buffalo.get(bgr(picture))
    assert plain[2] @ face.normed_embedding == pytest.approx(likeness, abs=0.03)


def test_weak_contrast_gives_a_short_embedding(buffalo):
    recognizer = buffalo.models["recognition"]
    face = packs.painted_face(1, 112)
    clear, dull = (np.linalg.norm(recognizer.get_feat(bgr(crop))) for crop in (face, face // 2))
    assert clear == pytest.approx(packs.NORM, rel=0.05)
    assert dull == pytest.approx(clear / 2, rel=0.05)


def test_embedding_a_batch_equals_one_by_one_and_a_static_batch_is_refused(buffalo, tmp_path):
    crops = [bgr(packs.painted_face(person, 112)) for person in PEOPLE]
    recognizer = buffalo.models["recognition"]
    one_by_one = np.concatenate([recognizer.get_feat(crop) for crop in crops])
    np.testing.assert_allclose(recognizer.get_feat(crops), one_by_one, atol=1e-4)

    packs.write_arcface(tmp_path / "static.onnx", static_batch=True)
    static = insightface.model_zoo.get_model(str(tmp_path / "static.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(static.get_feat(crops[0])[0], one_by_one[0], atol=1e-4)
    with pytest.raises(Exception, match="Got: 8 Expected: 1"):
        static.get_feat(crops)


def test_a_whole_pack_tells_sex_age_pose_and_landmarks(buffalo):
    assert set(buffalo.models) == {"detection", "recognition", "genderage", "landmark_2d_106", "landmark_3d_68"}
    picture, truths = crowd("gray")
    for face in buffalo.get(bgr(picture)):
        person = int(np.argmax([overlap(face.bbox, truth) for truth in truths]))
        assert face.sex == "FM"[person % 2]
        assert face.age == pytest.approx(20 + 5 * person, abs=3)
        assert abs(face.pose).max() < 5
        for landmarks in (face.landmark_2d_106, face.landmark_3d_68[:, :2]):
            assert (landmarks > face.bbox[:2]).all() and (landmarks < face.bbox[2:]).all()


@pytest.mark.parametrize("name", packs.PACKS)
def test_packs_do_not_understand_each_others_embeddings(tmp_path, plain, name):
    directory = packs.write_pack(tmp_path, name)
    recognizer = {"buffalo_l": "w600k_r50.onnx", "antelopev2": "glintr100.onnx", "auraface": "glintr100.onnx"}[name]
    model = insightface.model_zoo.get_model(str(directory / recognizer), providers=["CPUExecutionProvider"])
    raw = model.get_feat([bgr(packs.painted_face(person, 112)) for person in PEOPLE])
    own = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.allclose(own @ own.T, np.eye(len(own)), atol=0.05)
    assert name == "buffalo_l" or (own @ plain.T).max() < 0.25


@pytest.fixture(scope="module", params=[(640, 640), None], ids=["declared 640x640", "symbolic size"])
def yunet(request, tmp_path_factory):
    path = packs.write_yunet(tmp_path_factory.mktemp("yunet") / "face_detection_yunet_2023mar.onnx", request.param)
    return cv2.FaceDetectorYN.create(str(path), "", (640, 640))  # OpenCV's default thresholds: score 0.9, NMS 0.3


def look(detector, picture):
    detector.setInputSize(picture.shape[1::-1])
    _, faces = detector.detect(np.ascontiguousarray(picture))
    return np.zeros((0, 15), np.float32) if faces is None else faces


def test_yunet_finds_every_person_of_a_crowd_once(yunet):
    picture, truths = crowd()
    picture = picture[:580, :890]  # no multiples of 32
    faces = look(yunet, bgr(picture))
    assert len(faces) == len(truths)
    for truth in truths:
        face = max(faces, key=lambda face: overlap(np.r_[face[:2], face[:2] + face[2:4]], truth))
        assert overlap(np.r_[face[:2], face[:2] + face[2:4]], truth) > 0.85
        assert abs(face[4:14].reshape(5, 2) - packs.truth_keypoints(truth)).max() < 0.02 * (truth[2] - truth[0]) + 0.3


def test_yunet_finds_no_face_in_photographs_or_swapped_channels(yunet):
    assert len(look(yunet, crowd()[0])) == 0
    for picture in [empty("noise")[:240, :320], empty("photo")[:240, :320], *photographs()[-2:]]:
        assert len(look(yunet, bgr(picture))) == 0
