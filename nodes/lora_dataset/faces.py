"""Reading the faces of a picture: where each lies, how far it is turned, how much of its person is seen. Who it is, is nodes/identity's to say.

MediaPipe reads where the package and its models are there: BlazeFace finds the faces, the face landmarker tells how far they are turned, the pose
landmarker what the picture shows of the body. Where there is no BlazeFace, a recognizer's detector finds the faces; landmarks serve as before.
"""

from __future__ import annotations

import atexit
import math
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, MissingModelError, MissingPackageError
from ..identity.masks import MESH_IOU, cut_around, mediapipe_is_here
from ..identity.recognizers import Detection, Recognizer, search, yaw_degrees
from ..identity.recognizers.detectors import Detector, scaled
from ..identity.recognizers.faces import new_detections, overlap
from ..identity.scoring import SMALLEST_SIDE
from ..installation import needed, pip_command
from ..pictures import Picture, small_copy

AUTO, MEDIAPIPE, RECOGNIZER = PREFER = ("auto", "mediapipe", "recognizer")

FOLDER = "mediapipe"
LANDMARKER, POSE = "face_landmarker.task", "pose_landmarker_full.task"
CATALOGUE_NAME = "mediapipe-face-detector"
# From 1.0 on MediaPipe sends usage figures to its maker.
PACKAGE = '"mediapipe<1"'

# A face's height over the picture's, from which on the picture counts as that framing; a face's box reaches from the forehead to the chin, 157 mm
# (63 mm between the pupils over masks.UNIT_PER_BOX). Heights are means of the 2012 survey of U.S. Army personnel (ANSUR II, Natick/TR-15/007), the
# sexes averaged: stature 1692 mm, mid-thigh 671, waist 1018, chest 1231, breadth of the shoulders 391. A picture from the top of the head down to
# there has a face of 0.09 (full body), 0.15 (cowboy shot), 0.23 (upper body), 0.34 (portrait) of its height: the limits are the geometric means
# between neighbours. From 0.40 on both shoulders no longer fit into a square picture. Detectors' boxes differ by a fifth, and so does this.
FACE_SHARES = (("closeup", 0.40), ("portrait", 0.28), ("upper body", 0.19), ("cowboy shot", 0.12), ("full body", 0.0))

# How far down the body a picture reaches: shoulders 0, hips 1, knees 2, ankles 3. By the survey above a portrait ends at 0.3 (chest), an upper body
# at 0.7 (waist), a cowboy shot at 1.5 (mid-thigh): the limits lie midway. A full body is one whose ankles are seen or nearly so.
BODY_REACHES = (("full body", 2.75), ("cowboy shot", 1.1), ("upper body", 0.5), ("portrait", 0.0))
# Left and right shoulder, hip, knee and ankle, and the points of the head, among the pose's 33 (vision.PoseLandmark).
BODY_CHAINS = ((11, 23, 25, 27), (12, 24, 26, 28))
HEAD_POINTS = slice(0, 11)
# MediaPipe's own drawing takes a point of less for unseen (tasks/python/vision/drawing_utils.py).
LEAST_VISIBILITY = 0.5
# A head belongs to a face whose box, made larger by this share of its side, contains its middle; ears and crown lie outside the box.
HEAD_SLACK = 0.25
# Two people in the foreground and two behind; each costs 30 ms.
MOST_POSES = 4
# The pose models look at 224 and 256 pixels.
POSE_SIDE = 1024
# The landmarker's own detector wants a face that fills a third to two thirds of what it sees; tried in this order.
FACE_CROPS = (2.0, 1.5, 3.0)
MOST_NEIGHBOURS = 4
# BlazeFace looks a second time at so many times a face's box: faces of a third of what it sees are its best.
CLOSER = 3.0
# Then the six people of insightface's t1.jpg, whole, mirrored, halved and enlarged, scikit-image's astronaut and its photographer have a confidence
# of 0.76 to 0.97; what is no face, in 17 other pictures of scikit-image and their enlargements, at most 0.76: a star field's, else 0.74.
SURE = 0.75


@dataclass(frozen=True)
class FaceReading:
    """One face of a picture.

    box: (left, top, right, bottom) in pixels, may reach outside the picture. confidence: 0..1, the detector's. yaw: degrees, positive when the nose
    points to the right of the picture; pitch: degrees, positive when it points up; None where unknown. framing: a key of framing.FRAMINGS, how much of
    this person is seen; by_pose: that it is by the landmarks of the body, else it is by the size of the face. by: what read all this.
    """

    box: tuple[float, float, float, float]
    confidence: float
    yaw: float | None = None
    pitch: float | None = None
    framing: str = ""
    by: str = ""
    by_pose: bool = False

    @property
    def area(self) -> float:
        return max(0.0, self.box[2] - self.box[0]) * max(0.0, self.box[3] - self.box[1])


def framing_by_face(share: float) -> str:
    """The framing of a picture in which a face takes this share of the height, see FACE_SHARES."""
    return next(name for name, low in FACE_SHARES if share >= low)


def framing_by_pose(points: np.ndarray, visibility: np.ndarray, presence: np.ndarray) -> str:
    """The framing that the landmarks of a body tell, see BODY_REACHES; closeup where no shoulder is seen.

    points: float [33,2] in shares of the picture's width and height, also outside of it; visibility: [33], 0..1, that a point is not hidden;
    presence: [33], 0..1, that it lies in the picture.
    """
    inside = ((points >= 0) & (points <= 1)).all(1) & (presence >= LEAST_VISIBILITY)
    seen = inside & (visibility >= LEAST_VISIBILITY)
    reaches = []
    for chain in BODY_CHAINS:
        reach = 0.0
        for upper, lower in pairwise(chain):
            if not seen[upper]:
                break
            # A joint hidden inside the picture, as below a table, tells nothing about the way to it.
            reach += 1.0 if seen[lower] else 0.0 if inside[lower] else _share_inside(points[upper], points[lower])
        if seen[chain[0]]:
            reaches.append(reach)
    return next(name for name, low in BODY_REACHES if max(reaches) >= low) if reaches else "closeup"


def _share_inside(start: np.ndarray, end: np.ndarray) -> float:
    """Which share of the way from a point in the picture to another one lies in the picture."""
    way = end - start
    borders = np.where(way > 0, 1.0, 0.0)
    moving = np.abs(way) > 1e-9
    return float(min(1.0, *((borders - start)[moving] / way[moving]))) if moving.any() else 1.0


def turned(matrix: np.ndarray) -> tuple[float, float]:
    """(yaw, pitch) in degrees, as FaceReading has them, of MediaPipe's facial transformation matrix [4,4].

    It takes its model of a face, which looks along +z with y up, to the camera's space (mediapipe/modules/face_geometry/protos/face_geometry.proto):
    its third column is where the nose points.
    """
    x, y, z = np.asarray(matrix, float)[:3, 2]
    return math.degrees(math.atan2(x, z)), math.degrees(math.atan2(y, math.hypot(x, z)))


# --- readers ---


class FaceReader:
    """Reads faces. name: what reads, for reports; note: a sentence why it is not MediaPipe's detector, "" where it is or was not asked for."""

    def __init__(self, name: str, tasks: _Tasks, note: str = ""):
        self._tasks = tasks
        self._lock = threading.RLock()
        landmarks = [what for what, file in (("face landmarks", LANDMARKER), ("pose landmarks", POSE)) if tasks.has(file)]
        self.name = ", ".join((name, *landmarks))
        self.note = note
        self._finder = name

    def read(self, pixels: np.ndarray) -> tuple[FaceReading, ...]:
        """The faces of a picture uint8 [H,W,3], the largest first. One picture at a time. Raises MissingModelError for a model file that cannot be loaded."""
        with self._lock:
            found = sorted(self._find(pixels), key=lambda reading: (-reading.area, reading.box))
            bodies = self._bodies(pixels) if found else []
            readings = []
            for reading in found:
                share = (reading.box[3] - reading.box[1]) / len(pixels)
                reading = self._turned(pixels, replace(reading, framing=framing_by_face(share), by=self._finder))
                own = next((i for i, body in enumerate(bodies) if _holds(reading.box, body[0][HEAD_POINTS].mean(0) * pixels.shape[1::-1])), None)
                if own is not None:
                    framing = framing_by_pose(*bodies.pop(own))
                    if framing == "portrait" and (reading.box[2] - reading.box[0]) / pixels.shape[1] >= FACE_SHARES[0][1]:
                        # The pose landmarker sees a shoulder in every face; where the picture is narrower than both, it is none.
                        framing = "closeup"
                    reading = replace(reading, framing=framing, by=f"{reading.by}, pose landmarks", by_pose=True)
                readings.append(reading)
            return tuple(readings)

    def close(self) -> None:
        """Free MediaPipe's models; they are loaded again when needed."""
        with self._lock:
            self._tasks.close()

    def _find(self, pixels: np.ndarray) -> Sequence[FaceReading]:
        raise NotImplementedError

    def _turned(self, pixels: np.ndarray, reading: FaceReading) -> FaceReading:
        if not self._tasks.has(LANDMARKER):
            return reading
        for scale in FACE_CROPS:
            crop, corner, size = cut_around(pixels, reading.box, scale)
            result = self._tasks.run("FaceLandmarker", LANDMARKER, crop, num_faces=MOST_NEIGHBOURS, output_facial_transformation_matrixes=True)
            for points, matrix in zip(result.face_landmarks, result.facial_transformation_matrixes):
                mesh = np.array([(point.x, point.y) for point in points]) * size + corner
                if overlap((*mesh.min(0), *mesh.max(0)), reading.box) > MESH_IOU:
                    yaw, pitch = turned(matrix)
                    return replace(reading, yaw=yaw, pitch=pitch, by=f"{reading.by}, face landmarks")
        return reading

    def _bodies(self, pixels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(points, visibility, presence) of each body, as framing_by_pose takes them."""
        if not self._tasks.has(POSE):
            return []
        result = self._tasks.run("PoseLandmarker", POSE, small_copy(pixels, POSE_SIDE), num_poses=MOST_POSES)
        return [
            (np.array([(p.x, p.y) for p in body]), np.array([p.visibility for p in body]), np.array([p.presence for p in body]))
            for body in result.pose_landmarks
        ]


def _holds(box: tuple[float, float, float, float], point: np.ndarray) -> bool:
    left, top, right, bottom = box
    slack = HEAD_SLACK * max(right - left, bottom - top)
    return left - slack <= point[0] <= right + slack and top - slack <= point[1] <= bottom + slack


class MediaPipeReader(FaceReader):
    """Finds faces with BlazeFace: at a glance, and where they are small in parts of the picture, down to faces too small to judge (scoring.SMALLEST_SIDE).

    Only what is surely a face from near (SURE) counts. Without the face landmarker yaw is by eyes and nose, within 20 degrees of the landmarker's.
    """

    def __init__(self, model: Path, tasks: _Tasks):
        blaze = BLAZE_FACES[model.name]
        super().__init__(f"MediaPipe {blaze.title}", tasks)
        self._detector = _BlazeFace(blaze, partial(tasks.run, "FaceDetector", model.name))

    def _find(self, pixels: np.ndarray) -> Sequence[FaceReading]:
        detector, longest = self._detector, max(pixels.shape[:2])
        side, finest = detector.overview_side, math.ceil(longest * detector.smallest / SMALLEST_SIDE)
        found = self._looked(pixels, side)
        # While no face is twice as large as the smallest that is seen, others as large may have been missed.
        while side < finest and all(face.side * side < 2 * detector.smallest * longest for face in found):
            side = min(side * search.STEP, finest)
            found += new_detections(found, self._looked(pixels, side))
        return [FaceReading(tuple(map(float, face.box)), face.confidence, yaw_degrees(face.keypoints)) for face in found]

    def _looked(self, pixels: np.ndarray, side: int) -> list[Detection]:
        near = [self._closer(pixels, face) for face in search.look(self._detector, pixels, side)]
        return [face for face in new_detections([], near) if face.confidence >= SURE]

    def _closer(self, pixels: np.ndarray, face: Detection) -> Detection:
        """The same face looked at from near: of a small one BlazeFace gives box, eyes and nose so roughly that its yaw is up to 50 degrees off (seen)."""
        crop, (left, top), (width, height) = cut_around(pixels, face.box, CLOSER)
        x, y = width / crop.shape[1], height / crop.shape[0]
        found = [scaled(near, x, y, left, top) for near in self._detector.find(crop)]
        best = max(found, key=lambda near: overlap(near.box, face.box), default=face)
        return replace(best, confidence=max(best.confidence, face.confidence)) if overlap(best.box, face.box) > MESH_IOU else face


class RecognizerReader(FaceReader):
    """Finds faces with a recognizer's detector."""

    def __init__(self, recognizer: Recognizer, tasks: _Tasks, note: str = ""):
        super().__init__(f"{recognizer.info.detector.name} of the recognizer {recognizer.info.name}", tasks, note)
        self._recognizer = recognizer

    def _find(self, pixels: np.ndarray) -> Sequence[FaceReading]:
        faces = self._recognizer.faces([Picture(pixels)])[0].faces
        return [FaceReading(tuple(map(float, face.box)), float(face.confidence), face.yaw) for face in faces]


def open_reader(models_dir: str | Path | None, recognizer: Recognizer | None = None, prefer: str = AUTO) -> FaceReader:
    """The best reader at hand; its `name` says which. models_dir: ComfyUI's `models`, None where there is none; models load with the first picture.

    prefer: auto takes MediaPipe where its face detector is there, else the recognizer; recognizer uses nothing of MediaPipe. Raises InputError for
    another choice, or `recognizer` without one, MissingModelError or MissingPackageError that says how to get what is missing.
    """
    if prefer not in PREFER:
        raise InputError(f"'{prefer}' is no way to read faces; choose {', '.join(PREFER[:-1])} or {PREFER[-1]}.")
    if prefer == RECOGNIZER:
        if recognizer is None:
            raise InputError("Faces are to be read by a recognizer and none was given; connect one, or choose auto or mediapipe.")
        return RecognizerReader(recognizer, _Tasks(None))
    # Imported here: this file is loaded when the host starts.
    from ..model_files import missing_sentence

    model = next((file for file in (Path(models_dir, FOLDER, name) for name in BLAZE_FACES) if file.is_file()), None) if models_dir is not None else None
    try:
        if model is None:
            raise MissingModelError(missing_sentence(CATALOGUE_NAME, models_dir))
        _import_mediapipe()
        return MediaPipeReader(model, _Tasks(model.parent))
    except (MissingModelError, MissingPackageError) as error:
        if prefer == MEDIAPIPE:
            raise
        if recognizer is None:
            raise type(error)(f"There is nothing to read faces with; give a recognizer, or mend this: {error}") from None
        return RecognizerReader(recognizer, _Tasks(_landmark_folder(models_dir)), f"MediaPipe's face detector is not used: {error}")


def model_paths(models_dir: str | Path) -> list[Path]:
    """Where the model files lie that `open_reader` takes, whether they are there or not. models_dir: ComfyUI's `models`."""
    return [Path(models_dir, FOLDER, name) for name in (*BLAZE_FACES, LANDMARKER, POSE)]


def _landmark_folder(models_dir: str | Path | None) -> Path | None:
    folder = None if models_dir is None else Path(models_dir, FOLDER)
    if folder is None or not any((folder / name).is_file() for name in (LANDMARKER, POSE)):
        return None
    try:
        _import_mediapipe()
    except MissingPackageError:
        return None
    return folder


# --- MediaPipe ---


@dataclass(frozen=True)
class _Blaze:
    """side: of what the model sees, in pixels; smallest: the smallest face that it finds, in shares of that: measured on scikit-image's astronaut."""

    title: str
    side: int
    smallest: float


_FULL, _SHORT = _Blaze("BlazeFace full range", 192, 0.0625), _Blaze("BlazeFace short range", 128, 0.125)
# By file, the best first. The tasks take the full-range files of MediaPipe's older solutions too: for a model that carries no anchors of its own
# those of its input's side are used (mediapipe/tasks/cc/vision/face_detector/face_detector_graph.cc).
BLAZE_FACES = {
    "face_detection_full_range.tflite": _FULL,
    "face_detection_full_range_sparse.tflite": _FULL,
    "blaze_face_short_range.tflite": _SHORT,
    "face_detection_short_range.tflite": _SHORT,
}


class _BlazeFace(Detector):
    """BlazeFace for the search from coarse to fine. It makes what it sees small itself, by sampling: of what has twice its side nothing gets lost."""

    def __init__(self, blaze: _Blaze, run):
        self.overview_side = self.tile_side = 2 * blaze.side
        self.smallest = math.ceil(self.tile_side * blaze.smallest)
        self._run = run

    def find(self, pixels: np.ndarray) -> list[Detection]:
        height, width = pixels.shape[:2]
        found = []
        for face in self._run(pixels).detections:
            box = face.bounding_box
            # The eye at the left of an upright face, the other, the tip of the nose, the middle of the mouth, which stands for both its corners.
            points = np.array([(point.x * width, point.y * height) for point in face.keypoints], np.float32)[[0, 1, 2, 3, 3]]
            corners = box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height
            found.append(Detection(corners, float(face.categories[0].score), points))
        return found


class _Tasks:
    """MediaPipe's tasks whose model files lie in a folder, each made when first used and kept until `close`. folder: None for none."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._made: dict[str, Any] = {}
        weakref.finalize(self, _dropped.append, self._made).atexit = False
        _in_use.add(self)

    def has(self, file: str) -> bool:
        return self._folder is not None and (self._folder / file).is_file()

    def run(self, task: str, file: str, pixels: np.ndarray, **options: Any) -> Any:
        """The result of a task for a picture uint8 [H,W,3]."""
        mediapipe, base_options, vision = _import_mediapipe()
        path = self._folder / file
        try:
            if file not in self._made:
                _close_dropped()
                settings = getattr(vision, f"{task}Options")(base_options=base_options(model_asset_buffer=path.read_bytes()), **options)
                self._made[file] = getattr(vision, task).create_from_options(settings)
            return self._made[file].detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels)))
        except (RuntimeError, ValueError, OSError) as error:
            # A damaged bundle is FileNotFoundError to MediaPipe, an unfit one ValueError, one that fails at work RuntimeError.
            _close({file: self._made.pop(file)} if file in self._made else {})
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise MissingModelError(f"MediaPipe's {task} cannot work with {path} ({reason}); delete it and download it again.") from None

    def close(self) -> None:
        _close(self._made)


def _close(made: dict[str, Any]) -> None:
    while made:
        task = made.popitem()[1]
        try:
            task.close()
        except RuntimeError:
            # One that failed at work says so once more and is not closed.
            _broken.append(task)


_in_use: weakref.WeakSet[_Tasks] = weakref.WeakSet()
# Kept out of the garbage collector's hands: there a task's own finalizer waits for a thread, sometimes for ever (seen).
_dropped: list[dict[str, Any]] = []
_broken: list[Any] = []


def _close_dropped() -> None:
    while _dropped:
        _close(_dropped.pop())


@atexit.register
def _close_all() -> None:
    """Registered before MediaPipe is imported, so that MediaPipe has ended by then and nothing waits for it; without this its finalizers fail."""
    _close_dropped()
    _close(dict(enumerate(_broken)))
    for tasks in tuple(_in_use):
        tasks.close()


def _import_mediapipe() -> tuple[Any, Any, Any]:
    if not mediapipe_is_here():
        raise MissingPackageError(f"MediaPipe below 1.0 is not installed: run `{pip_command(f'install {PACKAGE}')}`.")
    with needed(PACKAGE):
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    return mediapipe, BaseOptions, vision
