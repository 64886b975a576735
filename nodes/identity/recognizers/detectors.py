"""Face detectors: SCRFD (InsightFace), YuNet (OpenCV), HOG (dlib). Each finds boxes in a picture; the search over sizes is search.py's."""

from pathlib import Path

import numpy as np

from ...errors import MissingModelError
from .faces import Detection


class Detector:
    """What search.py needs of a detector.

    overview_side: the longest side in pixels at which a whole picture is looked at first. tile_side: the largest side given to `find` later.
    smallest: the smallest face in pixels that `find` sees. reach: how many times a picture may be enlarged to look for smaller faces.
    """

    overview_side: int
    tile_side: int
    smallest: int
    reach: float = 1.0

    def overview(self, pixels: np.ndarray) -> list[Detection]:
        """Faces in a picture uint8 [H,W,3] RGB of any size, looked at with its longest side at about `overview_side`."""
        import cv2

        height, width = pixels.shape[:2]
        scale = min(self.overview_side / max(height, width), self.reach)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = pixels if size == (width, height) else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        return [scaled(face, width / size[0], height / size[1]) for face in self.find(small)]

    def find(self, pixels: np.ndarray) -> list[Detection]:
        """Faces in a picture uint8 [H,W,3] RGB at exactly this resolution."""
        raise NotImplementedError


def scaled(face: Detection, x: float, y: float, left: float = 0.0, top: float = 0.0) -> Detection:
    """The detection with its coordinates multiplied by (x, y) and then shifted by (left, top)."""
    x1, y1, x2, y2 = face.box
    keypoints = None if face.keypoints is None else (face.keypoints * (x, y) + (left, top)).astype(np.float32)
    return Detection((x1 * x + left, y1 * y + top, x2 * x + left, y2 * y + top), face.confidence, keypoints)


class HogDetector(Detector):
    """dlib's frontal face detector: histograms of oriented gradients, faces from 80 pixels on (Dalal and Triggs 2005; King 2015)."""

    overview_side = 512
    tile_side = 2048
    smallest = 80
    reach = 2.0

    def __init__(self):
        import dlib

        self._detector = dlib.get_frontal_face_detector()

    def find(self, pixels):
        boxes, margins, _ = self._detector.run(np.ascontiguousarray(pixels), 0, 0.0)
        # The margin of a linear classifier: the logistic function puts its limit (0) at confidence 0.5.
        return [Detection((box.left(), box.top(), box.right() + 1, box.bottom() + 1), float(1 / (1 + np.exp(-margin)))) for box, margin in zip(boxes, margins)]


class ScrfdDetector(Detector):
    """SCRFD through insightface's own class; the overview is insightface's default (128 and 640 merged), so boxes equal FaceAnalysis'."""

    overview_side = 640
    tile_side = 640
    smallest = 16
    # The smaller of insightface's two default sizes: of a picture slimmer than 1 to this, its copy of that size has no width left.
    slimmest = 128

    def __init__(self, model):
        self._model = model
        static = getattr(model, "static_input_size", None)
        if static:
            self.overview_side = self.tile_side = min(static)
        self._model.prepare(0, det_thresh=0.5)

    def overview(self, pixels):
        return self._detect(pixels, None) if max(pixels.shape[:2]) <= self.slimmest * min(pixels.shape[:2]) else []

    def find(self, pixels):
        return self._detect(pixels, (self.tile_side, self.tile_side))

    def _detect(self, pixels, input_size):
        boxes, keypoints = self._model.detect(pixels[..., ::-1], input_size=input_size)
        if keypoints is None:
            raise MissingModelError(f"The detector {Path(self._model.model_file).name} gives no landmarks; alignment needs one with keypoints (bnkps).")
        return [Detection(tuple(float(v) for v in box[:4]), float(box[4]), points.astype(np.float32, copy=False)) for box, points in zip(boxes, keypoints)]


class YunetDetector(Detector):
    """YuNet through OpenCV's FaceDetectorYN (Wu et al. 2023)."""

    # The published 2023mar file is exported for 640x640; OpenCV 5 holds to that, OpenCV 4 takes any size. So it always gets a square of that side.
    overview_side = 640
    tile_side = 640
    smallest = 16
    # OpenCV's own settings (opencv_zoo, models/face_detection_yunet/demo.py) but for the score, whose limit is 0.5 everywhere here.
    nms_threshold = 0.3
    score_threshold = 0.5
    most_candidates = 5000

    def __init__(self, path: Path):
        import cv2

        side = self.overview_side
        try:
            # The file is read here: OpenCV opens paths with non-ASCII characters wrongly on Windows.
            model = np.fromfile(path, dtype=np.uint8)
            self._model = cv2.FaceDetectorYN.create(
                "onnx", model, np.empty(0, np.uint8), (side, side), self.score_threshold, self.nms_threshold, self.most_candidates
            )
            # Another network than YuNet shows itself only when it runs.
            self._model.detect(np.zeros((side, side, 3), np.uint8))
        except cv2.error as error:
            reason = " ".join(str(error.err).split())[:200]
            raise MissingModelError(f"{path} is not a YuNet model that OpenCV can read ({reason}); delete it and get it again.") from None

    def find(self, pixels):
        square = np.zeros((self.tile_side, self.tile_side, 3), np.uint8)
        square[: pixels.shape[0], : pixels.shape[1]] = pixels[..., ::-1]
        _, rows = self._model.detect(square)
        if rows is None:
            return []
        # A row: x, y, width, height, then five points (x, y), then the score. YuNet names the points by the person's own side: the right eye,
        # which comes first, is the image-left one, so the order is that of ArcFace's template.
        return [
            Detection((float(row[0]), float(row[1]), float(row[0] + row[2]), float(row[1] + row[3])), float(row[14]), row[4:14].reshape(5, 2).copy())
            for row in rows.astype(np.float32)
        ]
