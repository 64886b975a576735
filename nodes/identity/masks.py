"""Masks of one person's face, head, or hair and face, feathered. Nothing here finds or recognizes a face: the caller brings box and landmarks.

The best landmarks at hand draw the mask: MediaPipe's face mesh (its own package, or the value of core's FACE_LANDMARKS socket), else the recognizer's
five or three points. Hair is exact only with MediaPipe's selfie segmentation. Shapes are drawn in a window around the face, so a large picture costs
little more than the mask itself.
"""

import atexit
import importlib.metadata
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingModelError
from .choices import AREAS
from .recognizers.faces import overlap

log = logging.getLogger("likeness")

# The contour of the face in MediaPipe's mesh, walked once round from the top of the forehead: FACEMESH_FACE_OVAL in google-ai-edge/mediapipe,
# mediapipe/python/solutions/face_mesh_connections.py (36 edges, one closed ring; mediapipe 0.10.35 has the same in vision.FaceLandmarksConnections).
FACE_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
             152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
# Ridge and base of the nose with the outer corners of eyes and mouth (same file). Seen from the front they lie inside the oval; turned away, the
# oval alone would cut off the nose.
PROFILE = (168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 33, 263, 61, 291)
EYE_CORNERS, NOSE_TIP, MOUTH_CORNERS = ((33, 133), (362, 263)), 1, (61, 291)

# Proportions. Their unit is the distance between the eye centres of a face seen from the front; y runs down from the line of the eyes.
# Face: MediaPipe's canonical face model (mediapipe/modules/face_geometry/data/canonical_face_model.obj, 6.30 cm between the eyes), whose oval reaches
# from -0.894 to 1.909 and 1.229 to each side. An ellipse of that size follows it within 3% below the eyes and leaves out its square temples (up to 15%).
FACE_TOP, FACE_CHIN, FACE_HALF_WIDTH = -0.894, 1.909, 1.229
MOUTH_Y = 1.106  # mouth corners; 1.15 in the ArcFace 112x112 template
NOSE_BASE_Y = 0.75  # vertex 2
NOSE_TIP_DEPTH, NOSE_BASE_DEPTH = 0.645, 0.41  # in front of the eyes: how far the nose wanders as the head turns
# Turned by the yaw t, that model's silhouette is 1.229 * (1 - 0.30 sin^2 t) to each side of a middle that moves 0.70 sin t away from the nose (within
# 0.06 up to 45 degrees), while the features between eyes and chin stay in front: a second, narrower ellipse, inside the first in a frontal view.
FACE_BEHIND, FACE_NARROWS = 0.70, 0.30
FEATURES_TOP, FEATURES_HALF_WIDTH, FEATURES_BEHIND = -0.6, 0.70, -0.13
SLACK = 0.1  # so few points tell where a forehead, a chin or an ear ends to about a tenth (measured against the mesh): rather too much than a chin cut off
# Head: means of the 2012 survey of U.S. Army personnel (ANSUR II, Natick/TR-15/007; 4082 men, 1986 women), each over the mean interpupillary breadth
# of the sex (64.0 and 61.7 mm), the two averaged: half the head breadth 1.20, ear protrusion 0.35, half the head length 1.55, vertex above eyes 1.77.
HEAD_TOP, HEAD_HALF_WIDTH = -1.77, 1.20 + 0.35
HEAD_BEHIND = 1.55 - 0.30  # middle of the head behind the eyes; the canonical glabella is 0.30 in front of them
HAIR_ON_HEAD = 0.5  # about 3 cm of hair on the crown: our allowance, judged on photographs
HAIR_AROUND = 0.6  # about 4 cm more on every side where nothing segments the hair: likewise
HAIR_REACH_UP, HAIR_REACH_SIDE, HAIR_REACH_DOWN = 3.2, 3.2, 5.0  # segmented hair counts up to 20 cm above and beside the eyes, 32 cm below: likewise

UNIT_PER_BOX = 0.40  # eye distance over the box's side: 0.38 for a box around the oval, 0.39 to 0.46 seen with dlib's squares
LEAST_EYE_DISTANCE = 0.02  # of the box's side: nearer than that the eyes give no direction
MAX_SIN_YAW = 0.8  # beyond 53 degrees so few points no longer tell the angle

HAIR, FACE_SKIN = 1, 3  # selfie_multiclass_256x256: 0 background, 1 hair, 2 body skin, 3 face skin, 4 clothes, 5 others (accessories)
MESH_IOU = 0.3  # a mesh belongs to a box when they overlap by more than this; two people's do not
CROP_SIDE = 512  # MediaPipe's models look at 128 to 256 pixels
LEAST_CROP = 8  # on one pixel's width the segmenter of mediapipe 0.10.35 ends the process (seen); below 8 nothing is to be seen anyway


@dataclass(frozen=True)
class MaskResult:
    """A mask, float32 [H,W] from 0 to 1, and a phrase that says what drew it."""

    mask: np.ndarray
    method: str


def face_mask(shape, box, keypoints, area: str, *, mesh=None, segmenter_classes=None, grow: int = 0, feather: int = 0, invert: bool = False) -> MaskResult:
    """The mask of one person in a picture of `shape` (H, W).

    box: (x1, y1, x2, y2) in pixels, may reach outside the picture. keypoints: float [5,2] (image-left eye, image-right eye, nose tip, mouth corners),
    [3,2] (eyes and nose base) or None. mesh: MediaPipe's points, float [478,2] or [468,2] in pixels, or None. segmenter_classes: uint8 [H,W] from
    mediapipe_classes or None; used for hair and face. grow: pixels by which the edge moves outwards, inwards when negative. feather: inside the edge
    the mask is 1, outside it falls smoothly to 0 within that many pixels. invert: 1 minus all that (several faces: combine first, invert there).
    Raises InputError for an unknown area, a negative feather, points or classes of the wrong shape.
    """
    if area not in AREAS:
        raise InputError(f'There is no mask area "{area}": choose one of {", ".join(AREAS)}.')
    if feather < 0:
        raise InputError(f"A feather of {feather} pixels is not possible: choose 0 or more.")
    height, width = shape
    if segmenter_classes is not None and segmenter_classes.shape != (height, width):
        raise InputError(f"The segmentation has the shape {segmenter_classes.shape} and the picture {(height, width)}: segment this very picture.")
    mesh, keypoints = _points(mesh, (468, 478), "face mesh"), _points(keypoints, (3, 5), "face of a recognizer")
    if mesh is not None:
        method, pose = f"MediaPipe face mesh ({len(mesh)} points)", _pose(_extent(mesh), _mesh_keypoints(mesh))
    elif keypoints is not None:
        method, pose = f"{'five' if len(keypoints) == 5 else 'three'} landmarks of the recognizer", _pose(np.asarray(box, float), keypoints)
    else:
        method, pose = "the face's box alone", _pose(np.asarray(box, float), None)

    face = _face_outlines(pose, mesh)
    top, bottom, half_width = HEAD_TOP - HAIR_ON_HEAD, FACE_CHIN + SLACK, HEAD_HALF_WIDTH + SLACK
    head = pose.ellipse(top, bottom, half_width, HEAD_BEHIND)
    hair = pose.ellipse(top - HAIR_AROUND, bottom + HAIR_AROUND, half_width + HAIR_AROUND, HEAD_BEHIND)
    reach = pose.ellipse(-HAIR_REACH_UP, HAIR_REACH_DOWN, HAIR_REACH_SIDE, HEAD_BEHIND)
    outlines = {"face": face, "head": [*face, head], "hair and face": [*face, head, hair]}[area]
    method += {"face": "", "head": ", average head proportions", "hair and face": ", average head proportions and an allowance for hair"}[area]
    exact = area == "hair and face" and segmenter_classes is not None
    window = _window([*outlines, reach] if exact else outlines, shape, abs(grow) + feather + 2)

    mask = np.zeros((height, width), np.float32)
    if window is not None:
        drawn = _fill(outlines, window)
        if exact:
            segmented = _hair_and_face(_under(segmenter_classes, window), *(_fill(part, window) for part in (face, [*face, head], [reach])))
            if segmented is None:
                method += "; the segmentation shows no face there"
            else:
                drawn, method = segmented, "MediaPipe hair and face segmentation"
        left, top, right, bottom = window
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        mask[y1:y2, x1:x2] = _soften(drawn, grow, feather)[y1 - top : y2 - top, x1 - left : x2 - left]
    return MaskResult(np.subtract(1, mask, out=mask) if invert else mask, method)


def combine(masks: list, invert: bool = False) -> np.ndarray:
    """The union (maximum) of masks float32 [H,W], inverted after the union. Raises InputError when there is none or when their sizes differ."""
    if not masks:
        raise InputError("There is no mask to combine: give at least one.")
    sizes = sorted({mask.shape[::-1] for mask in masks})
    if len(sizes) > 1:
        raise InputError(f"Masks of {' and '.join(f'{w}x{h}' for w, h in sizes)} cannot be combined: all must have the size of one picture.")
    union = np.maximum.reduce(masks)
    return 1 - union if invert else union


# Where the face lies, and the outlines that follow from it


@dataclass(frozen=True)
class _Pose:
    """Centre of the eyes in pixels, the unit in pixels, the face's own right and down as unit vectors, sine of the yaw (nose towards `right`)."""

    eyes: np.ndarray
    unit: float
    right: np.ndarray
    down: np.ndarray
    sin_yaw: float

    def ellipse(self, top: float, bottom: float, half_width: float, behind: float) -> np.ndarray:
        """Outline [96,2] in pixels of an upright ellipse in units of the face, its middle that far behind the eyes."""
        t = np.linspace(0, 2 * np.pi, 96, endpoint=False)[:, None]
        across = (half_width * np.cos(t) - behind * self.sin_yaw) * self.right
        return self.eyes + self.unit * (across + ((top + bottom) / 2 + (bottom - top) / 2 * np.sin(t)) * self.down)


def _pose(box: np.ndarray, keypoints: np.ndarray | None) -> _Pose:
    """The unit is the median of three measures of which one may mislead: the eyes' distance (in profile), the way from the eyes to mouth or nose (on a
    bowed head, a smile, an open mouth) and the box (of another detector)."""
    side = float(np.sqrt(np.prod(np.maximum(box[2:] - box[:2], 1))))
    by_box = UNIT_PER_BOX * side
    eye_line = np.zeros(2) if keypoints is None else keypoints[1] - keypoints[0]
    eye_distance = float(np.linalg.norm(eye_line))
    if eye_distance < LEAST_EYE_DISTANCE * side:
        eyes = (box[:2] + box[2:]) / 2 - (0, by_box * (FACE_TOP + FACE_CHIN) / 2)
        return _Pose(eyes, by_box, np.array([1.0, 0.0]), np.array([0.0, 1.0]), 0.0)
    eyes, full = keypoints[:2].mean(0), len(keypoints) == 5
    low, low_y = (keypoints[3:].mean(0), MOUTH_Y) if full else (keypoints[2], NOSE_BASE_Y)
    right = eye_line / eye_distance
    down = np.array([-right[1], right[0]])
    # the nose is off the middle by depth * sin(yaw) while the eyes are apart by cos(yaw)
    tangent = (keypoints[2] - eyes) @ right / eye_distance / (NOSE_TIP_DEPTH if full else NOSE_BASE_DEPTH)
    sin_yaw = float(np.clip(tangent / np.hypot(1, tangent), -MAX_SIN_YAW, MAX_SIN_YAW))
    if (low - eyes) @ down < 0:  # upside down: the image-left eye is then on the face's other side
        right, down, sin_yaw = -right, -down, -sin_yaw
    if full:
        # On a head both turned and bowed the eye line tilts with the yaw: the middle between its perpendicular and the way to the mouth does less so.
        # The nose cannot serve here, it wanders sideways.
        towards_mouth = (low - eyes) / max(float(np.linalg.norm(low - eyes)), 1e-6)
        down = (down + towards_mouth) / np.linalg.norm(down + towards_mouth)
        right = np.array([down[1], -down[0]])
    unit = float(np.median([eye_distance / np.sqrt(1 - sin_yaw**2), (low - eyes) @ down / low_y, by_box]))
    return _Pose(eyes, unit, right, down, sin_yaw)


def _face_outlines(pose: _Pose, mesh: np.ndarray | None) -> list[np.ndarray]:
    if mesh is None:
        narrow = 1 - FACE_NARROWS * pose.sin_yaw**2
        contour = pose.ellipse(FACE_TOP - SLACK, FACE_CHIN + SLACK, FACE_HALF_WIDTH * narrow, FACE_BEHIND)
        return [contour, pose.ellipse(FEATURES_TOP, FACE_CHIN + SLACK, FEATURES_HALF_WIDTH * narrow, FEATURES_BEHIND)]
    import cv2

    return [mesh[list(FACE_OVAL)], cv2.convexHull(mesh[list(PROFILE)].astype(np.float32))[:, 0]]


def _points(points, counts: tuple[int, int], what: str) -> np.ndarray | None:
    if points is None:
        return None
    points = np.asarray(points, float)
    if points.shape not in {(count, 2) for count in counts}:
        raise InputError(f"A {what} has {counts[0]} or {counts[1]} points (x, y), this one has the shape {points.shape}.")
    return points


def _mesh_keypoints(mesh: np.ndarray) -> np.ndarray:
    eyes = sorted((mesh[list(corners)].mean(0) for corners in EYE_CORNERS), key=lambda eye: eye[0])
    return np.array([*eyes, mesh[NOSE_TIP], *mesh[list(MOUTH_CORNERS)]])


def _extent(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(0), points.max(0)])


# Drawing in a window


def _window(outlines, shape, reach: int) -> tuple[int, int, int, int] | None:
    """What must be drawn (x1, y1, x2, y2): the outlines and `reach` pixels around, as far as `reach` pixels outside the picture, so that the picture's
    border neither erodes nor feathers a face which it cuts. None where nothing falls into the picture."""
    points = np.concatenate(outlines)
    size = np.array(shape[::-1])
    low = np.maximum(np.floor(points.min(0)).astype(int) - reach, -reach)
    high = np.minimum(np.ceil(points.max(0)).astype(int) + reach + 1, size + reach)
    return None if (low >= size).any() or (high <= 0).any() else (*low.tolist(), *high.tolist())


def _fill(outlines, window) -> np.ndarray:
    """uint8 of 0 and 1 over the window: the union of the outlines' insides."""
    import cv2

    x1, y1, x2, y2 = window
    drawn = np.zeros((y2 - y1, x2 - x1), np.uint8)
    for outline in outlines:
        cv2.fillPoly(drawn, [np.round((outline - (x1, y1)) * 16).astype(np.int32)], 1, shift=4)
    return drawn


def _under(classes: np.ndarray, window) -> np.ndarray:
    """The classes in the window; outside the picture its border goes on."""
    x1, y1, x2, y2 = window
    return classes[np.ix_(np.clip(np.arange(y1, y2), 0, classes.shape[0] - 1), np.clip(np.arange(x1, x2), 0, classes.shape[1] - 1))]


def _soften(drawn: np.ndarray, grow: int, feather: int) -> np.ndarray:
    """float32: the edge of a 0/1 mask moved by Euclidean distance (an elliptical kernel of any size at one price), then feathered outwards."""
    import cv2

    def distance(to: np.ndarray) -> np.ndarray:
        return cv2.distanceTransform(1 - to, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)

    if grow and drawn.any() and not drawn.all():
        # the transform is exact to 1e-5
        drawn = (distance(drawn) < grow + 1e-3 if grow > 0 else distance(1 - drawn) > -grow + 1e-3).astype(np.uint8)
    if not feather or not drawn.any() or drawn.all():
        return drawn.astype(np.float32)
    t = distance(drawn)
    t -= 0.5  # the edge lies half a pixel before the first pixel outside
    t /= -feather
    t += 1
    np.clip(t, 0, 1, out=t)
    return t * t * (3 - 2 * t)  # smoothstep: monotone and flat at both ends


def _hair_and_face(classes: np.ndarray, face: np.ndarray, head: np.ndarray, reach: np.ndarray) -> np.ndarray | None:
    """Hair and face skin of one person, uint8 of 0 and 1, holes (eyes, glasses) filled; None where no skin lies in the face. All in one window.

    A patch of face skin is this person's when most of it lies in the head. Hair is when it hangs together with that skin within reach and no other
    person's face skin is nearer.
    """
    import cv2

    skin = (classes == FACE_SKIN).astype(np.uint8)
    count, patch = cv2.connectedComponents(skin)
    most = 2 * np.bincount(patch[head > 0], minlength=count) > np.bincount(patch.ravel(), minlength=count)
    most[0] = False  # patch 0 is what is no skin
    own = most[patch]
    if not own[face > 0].any():
        return None
    hair, others = classes == HAIR, (skin > 0) & ~own
    if others.any():
        to_own, to_others = (cv2.distanceTransform((~who).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) for who in (own, others))
        hair &= to_own <= to_others
    person = ((own | hair) & (reach > 0)).astype(np.uint8)
    count, patch = cv2.connectedComponents(person)
    person = (np.isin(np.arange(count), patch[own & (person > 0)])[patch]).astype(np.uint8)
    contours, _ = cv2.findContours(person, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(person, contours, -1, 1, cv2.FILLED)


# Landmarks and classes from elsewhere


def mesh_from_core(landmarks: dict, frame: int, box) -> np.ndarray | None:
    """Of the faces in one frame of core's FACE_LANDMARKS value, the mesh float [478,2] that overlaps `box` best; None below an overlap of MESH_IOU.

    Core's landmarks_xy are pixels of the picture that it was shown (comfy_extras/mediapipe/face_landmarker.py), so the box must be of that picture.
    """
    frames = landmarks["frames"]
    return _best_match([np.asarray(face["landmarks_xy"], float) for face in frames[frame]], box) if frame < len(frames) else None


MODELS = ("face_landmarker.task", "selfie_multiclass_256x256.tflite")


def models_state(models_dir) -> list[int | None]:
    """What the best landmarks at hand depend on: the times of MediaPipe's model files, None where one is missing."""
    files = [Path(models_dir) / "mediapipe" / name for name in MODELS]
    return [file.stat().st_mtime_ns if file.is_file() else None for file in files]


def mediapipe_mesh(picture: np.ndarray, box, models_dir) -> np.ndarray | None:
    """The mesh float [478,2] in pixels of the face in `box`, by MediaPipe's FaceLandmarker on a crop around it; picture uint8 RGB [H,W,3].

    None where the package or models_dir/mediapipe/face_landmarker.task is missing, or where MediaPipe sees no face that overlaps the box.
    Raises MissingModelError for a file that MediaPipe cannot load.
    """
    for scale in (2.0, 1.5, 3.0):  # its detector wants a face that fills a third to two thirds of what it sees
        crop, corner, size = cut_around(picture, box, scale)
        result = _run("FaceLandmarker", Path(models_dir) / "mediapipe" / MODELS[0], crop)
        if result is None:
            return None
        mesh = _best_match([np.array([(point.x, point.y) for point in face]) * size + corner for face in result.face_landmarks], box)
        if mesh is not None:
            return mesh
    return None


def mediapipe_classes(picture: np.ndarray, box, models_dir) -> np.ndarray | None:
    """The class of each pixel around `box` (see HAIR, FACE_SKIN), uint8 [H,W], 0 farther away, by MediaPipe's ImageSegmenter; picture uint8 RGB [H,W,3].

    None where the package or models_dir/mediapipe/selfie_multiclass_256x256.tflite is missing, or the box is outside the picture.
    Raises MissingModelError for a file that MediaPipe cannot load.
    """
    import cv2

    crop, (x, y), (width, height) = cut_around(picture, box, 4.0)  # as far as hair counts
    result = _run("ImageSegmenter", Path(models_dir) / "mediapipe" / MODELS[1], crop)
    if result is None:
        return None
    classes = np.zeros(picture.shape[:2], np.uint8)
    found = np.squeeze(result.category_mask.numpy_view())
    classes[y : y + height, x : x + width] = cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST)
    return classes


def _best_match(meshes: list[np.ndarray], box) -> np.ndarray | None:
    def shared(mesh: np.ndarray) -> float:
        return overlap(_extent(mesh), box)

    best = max(meshes, key=shared, default=None)
    return best if best is not None and shared(best) > MESH_IOU else None


def cut_around(picture: np.ndarray, box, scale: float) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
    """The square `scale` times the box as far as it lies in the picture, at most CROP_SIDE on a side; its corner (x, y) and size (w, h) in the picture."""
    import cv2

    box, size = np.asarray(box, float), np.array(picture.shape[1::-1])
    middle, half = (box[:2] + box[2:]) / 2, scale * (box[2:] - box[:2]).max() / 2
    low = np.clip(np.floor(middle - half), 0, size - 1).astype(int)
    high = np.maximum(np.clip(np.ceil(middle + half), 0, size).astype(int), low + 1)
    crop = picture[low[1] : high[1], low[0] : high[0]]
    shrink = CROP_SIDE / max(crop.shape)
    if shrink < 1:
        crop = cv2.resize(crop, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(crop), tuple(low.tolist()), tuple((high - low).tolist())


_tasks: dict = {}
_tasks_lock = threading.Lock()


def _run(task: str, model: Path, picture: np.ndarray):
    """The result of a MediaPipe vision task, made once per model file; None where package, file or anything to see is missing."""
    if not model.is_file() or not mediapipe_is_here() or min(picture.shape[:2]) < LEAST_CROP:
        return None
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError as error:
        # Installed but broken, as an old one beside a new numpy: the recognizer's landmarks do.
        log.warning("MediaPipe cannot be imported (%s): masks are drawn from the recognizer's landmarks.", error)
        return None

    key = (task, str(model.resolve()), model.stat().st_mtime_ns)
    with _tasks_lock:
        if key not in _tasks:
            # several faces: neighbours may stand in the crop, and the box tells which is meant
            special = {"num_faces": 4} if task == "FaceLandmarker" else {"output_category_mask": True, "output_confidence_masks": False}
            options = getattr(vision, f"{task}Options")(base_options=BaseOptions(model_asset_buffer=model.read_bytes()), **special)
            try:
                _tasks[key] = getattr(vision, task).create_from_options(options)
            except (RuntimeError, ValueError) as error:
                raise MissingModelError(f"MediaPipe's {task} cannot load {model}: download it again.") from error
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
        return _tasks[key].detect(image) if task == "FaceLandmarker" else _tasks[key].segment(image)


def mediapipe_is_here() -> bool:
    """Only before 1.0: from then on mediapipe sends usage figures to its maker, to which nobody here agreed."""
    try:
        return importlib.metadata.version("mediapipe").startswith("0.")
    except importlib.metadata.PackageNotFoundError:
        return False


@atexit.register
def close_mediapipe() -> None:
    """Frees the cached MediaPipe tasks; the next call makes them anew."""
    with _tasks_lock:
        while _tasks:
            _tasks.popitem()[1].close()
