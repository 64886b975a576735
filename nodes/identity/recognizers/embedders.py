"""Face embedders: ArcFace networks (InsightFace layout) and dlib's ResNet. Each aligns a detected face its own way and embeds crops in batches."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .faces import Detection, align


@dataclass(frozen=True, eq=False)
class Crop:
    """An aligned face: `pixels` uint8 [S,S,3] RGB as the network wants it, `keypoints` float32 [5,2] or [3,2] in the picture."""

    pixels: np.ndarray
    keypoints: np.ndarray


class Embedder:
    """What the recognizer needs: `crop` one detection, `embed` many crops. batch: crops per call, bounded for memory."""

    batch: int

    def crop(self, pixels: np.ndarray, detection: Detection) -> Crop:
        raise NotImplementedError

    def embed(self, crops: list[np.ndarray]) -> np.ndarray:
        """float32 [N,D] raw embeddings of N crops."""
        raise NotImplementedError


class ArcFaceEmbedder(Embedder):
    """A recognition model of an InsightFace pack, through insightface's own class: 112x112, one call for all faces."""

    batch = 64

    def __init__(self, model):
        self._model = model
        self._one_by_one = model.input_shape[0] == 1

    def crop(self, pixels, detection):
        return Crop(align(pixels, detection.keypoints), detection.keypoints)

    def embed(self, crops):
        bgr = [crop[..., ::-1] for crop in crops]
        if self._one_by_one:
            # Exported with a batch of one: such a model refuses, or miscounts, a larger one.
            return np.concatenate([self._model.get_feat([crop]) for crop in bgr])
        return self._model.get_feat(bgr)


class DlibEmbedder(Embedder):
    """dlib's face recognition ResNet (King 2017): five-point alignment to 150x150, 128 numbers whose distances count."""

    batch = 32
    chip_size = 150
    chip_padding = 0.25

    def __init__(self, predictor: Path, network: Path):
        import dlib

        self._dlib = dlib
        self._predictor = dlib.shape_predictor(str(predictor))
        self._network = dlib.face_recognition_model_v1(str(network))

    def crop(self, pixels, detection):
        pixels = np.ascontiguousarray(pixels)
        x1, y1, x2, y2 = (round(v) for v in detection.box)
        shape = self._predictor(pixels, self._dlib.rectangle(x1, y1, x2 - 1, y2 - 1))
        chip = self._dlib.get_face_chip(pixels, shape, self.chip_size, self.chip_padding)
        points = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float32)
        # The five: both corners of the image-right eye, both of the image-left eye, the base of the nose (shape_predictor_5_face_landmarks).
        return Crop(chip, np.stack([points[2:4].mean(0), points[0:2].mean(0), points[4]]))

    def embed(self, crops):
        return np.array(self._network.compute_face_descriptor(crops), dtype=np.float32).reshape(len(crops), -1)
