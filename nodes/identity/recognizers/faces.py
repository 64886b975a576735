"""A face as data, and its geometry: alignment, pose, sharpness, overlap. No model is run here."""

from dataclasses import dataclass, field

import numpy as np

# Where ArcFace expects the two eyes, the nose tip and the mouth corners in its 112x112 crop (insightface/utils/face_align.py, arcface_dst).
ARCFACE_TEMPLATE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], dtype=np.float32)
ARCFACE_SIZE = 112
# From brows to chin and cheek to cheek in that crop: what lies around may be hair, background or the picture's edge.
FACE_MIDDLE = (slice(32, 104), slice(24, 88))

# How far the nose stands out before the line of the eyes, in eye distances: points 30 (tip) and 33 (base) of the 68-point mean face that
# ships with insightface (data/objects/meanshape_68.pkl), measured from the centres of the eyes.
NOSE_TIP_DEPTH = 0.534
NOSE_BASE_DEPTH = 0.376

# The detectors' boxes of one face overlap by more than this (SCRFD's own non-maximum suppression uses 0.4).
SAME_FACE_IOU = 0.4


@dataclass(frozen=True, eq=False)
class Detection:
    """A face that a detector found.

    box: (x1, y1, x2, y2) in pixels of the picture, may reach outside it. confidence: 0..1, 0.5 is the detector's own limit.
    keypoints: float32 [5,2] image-left eye, image-right eye, nose tip, mouth corners; None where the detector gives boxes only.
    """

    box: tuple[float, float, float, float]
    confidence: float
    keypoints: np.ndarray | None = None

    @property
    def side(self) -> float:
        """The shorter side of the box in pixels: what "size of a face" means everywhere here."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def area(self) -> float:
        return max(0.0, self.box[2] - self.box[0]) * max(0.0, self.box[3] - self.box[1])


@dataclass(frozen=True, eq=False)
class Face(Detection):
    """A detected face with its embedding.

    keypoints: float32 [5,2], or [3,2] (eyes and nose base) with dlib. embedding: float32 [D], raw, never normalised here.
    yaw: degrees, positive when the nose points to the right of the picture. sharpness: see `sharpness`.
    """

    # Out of every text: the host writes the inputs of a failed node into its error report, and an embedding is biometric.
    embedding: np.ndarray | None = field(default=None, repr=False)
    yaw: float = 0.0
    sharpness: float = 0.0


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The 2x3 matrix of the rotation, scale and shift that takes points `source` [K,2] to `target` [K,2] with the least squared error.

    Umeyama 1991, eq. 40-43; equals skimage's SimilarityTransform and hence insightface's norm_crop.
    """
    source, target = source.astype(np.float64), target.astype(np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    centred = source - source_mean
    u, singular, vt = np.linalg.svd((target - target_mean).T @ centred / len(source))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = u @ np.diag(sign) @ vt
    scale = (singular * sign).sum() / max(centred.var(0).sum(), 1e-12)
    return np.hstack([scale * rotation, (target_mean - scale * rotation @ source_mean)[:, None]])


def align(pixels: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """ArcFace's crop uint8 [112,112,3] of a face in `pixels` [H,W,3]; outside the picture it is black. Takes [5,2] or [3,2] keypoints."""
    import cv2

    matrix = similarity_transform(keypoints, ARCFACE_TEMPLATE[: len(keypoints)])
    return cv2.warpAffine(pixels, matrix, (ARCFACE_SIZE, ARCFACE_SIZE), borderValue=0.0)


def yaw_degrees(keypoints: np.ndarray) -> float:
    """How far the head is turned, from the sideways offset r of the nose in eye distances: on a head of nose depth d, r = d tan(yaw).

    Good to about ten degrees, which is enough to know a profile. keypoints as in Face; three points are eyes and nose base.
    """
    left, right, nose = keypoints[:3].astype(np.float64)
    along = right - left
    distance = float(along @ along)
    if distance < 1e-6:
        return 90.0
    offset = float((nose - (left + right) / 2) @ along) / distance
    depth = NOSE_BASE_DEPTH if len(keypoints) == 3 else NOSE_TIP_DEPTH
    return float(np.degrees(np.arctan(offset / depth)))


def sharpness(crop: np.ndarray) -> float:
    """Variance of the Laplacian over the variance of the grey levels, in the middle of an ArcFace crop uint8 [112,112,3].

    Pech-Pacheco et al. 2000, divided by the contrast so that a dark picture is not taken for a blurred one; no unit.
    """
    import cv2

    grey = cv2.cvtColor(crop[FACE_MIDDLE], cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / max(float(grey.var()), 1.0))


def overlap(a: tuple, b: tuple) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2), 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def new_detections(known: list, found: list[Detection]) -> list[Detection]:
    """The detections in `found` that are neither in `known` nor doubles of a surer one, surest first."""
    kept: list[Detection] = []
    for candidate in sorted(found, key=lambda detection: -detection.confidence):
        if all(overlap(candidate.box, other.box) <= SAME_FACE_IOU for other in (*known, *kept)):
            kept.append(candidate)
    return kept
