"""A face recognizer: detect -> align -> embed, in batches, each picture once. Judging what the faces mean is scoring.py's.

`open_recognizer` gives a handle at once; models are loaded when the first picture comes.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError, MissingModelError, MissingPackageError
from ...installation import needed, pip_command
from ...pictures import Picture
from ..choices import DEVICES
from ..choices import recognizer_names as names
from . import search
from .catalogue import YUNET_FILE, Part, RecognizerInfo, Thresholds, describe, dlib_files, similarity
from .detectors import Detector, HogDetector, ScrfdDetector, YunetDetector
from .embedders import ArcFaceEmbedder, Crop, DlibEmbedder, Embedder
from .environment import ONNX_CUDA_MEND
from .faces import Detection, Face, align, new_detections, sharpness, yaw_degrees

__all__ = ["Detection", "Face", "Found", "Part", "Recognizer", "RecognizerInfo", "Thresholds", "describe", "names", "open_recognizer", "similarity"]

# ONNX Runtime takes CUDA memory that ComfyUI does not see: each of the two sessions, work space included, stays below this many bytes.
CUDA_MEMORY_LIMIT = 1 << 30
# Pictures whose faces are remembered. A portrait takes about 3 KB (one embedding), so a full memory about 25 MB.
REMEMBERED_PICTURES = 8192


@dataclass(frozen=True, eq=False)
class Found:
    """The faces of one picture, in the order found. counts: how many were known after each look; complete: the finest look was taken."""

    faces: tuple[Face, ...] = ()
    counts: tuple[int, ...] = ()
    complete: bool = False


@dataclass(frozen=True, eq=False)
class _Looked:
    """One look at a picture whose new faces wait for their embeddings. found: what was known before; complete: whether this was the finest look."""

    index: int
    picture: Picture
    found: Found
    detections: list[Detection]
    crops: list[Crop]
    complete: bool


# Whether the faces found so far in picture i are enough, or the search goes on at a higher resolution.
Enough = Callable[[int, tuple[Face, ...]], bool]


def any_face(index: int, faces: tuple[Face, ...]) -> bool:
    return bool(faces)


def every_look(index: int, faces: tuple[Face, ...]) -> bool:
    return False


class Recognizer:
    """Finds and embeds the faces of pictures with one detector and one embedder.

    info: what is known of it; device: auto, cpu, cuda or coreml. Results are remembered by picture content, so asking again costs nothing;
    remembered: for how many pictures.
    """

    def __init__(self, info: RecognizerInfo, device: str = "auto"):
        self.info = info
        self.device = device
        self.remembered = REMEMBERED_PICTURES
        self._models: tuple[Detector, Embedder] | None = None
        self._fingerprint = ""
        self._memory: OrderedDict[bytes, Found] = OrderedDict()
        self._lock = threading.RLock()

    def faces(self, pictures: Sequence[Picture], enough: Enough = any_face, tick: Callable[[], None] = lambda: None) -> list[Found]:
        """The faces of each picture, searched from coarse to fine until `enough` says so or the finest look is taken.

        tick: called once per picture and look, for progress and for interrupting by an exception; what was found by then is remembered.
        Each look embeds its new faces together, a batch at a time. `enough` may be asked again for faces it was asked about. Raises
        MissingModelError when a model cannot be opened.
        """
        with self._lock:
            found = [self._memory.get(picture.key, Found()) for picture in pictures]
            first = {}
            for i, picture in enumerate(pictures):
                first.setdefault(picture.key, i)
            unfinished = [i for i in first.values() if _settled(found[i], enough, i) is None]
            while unfinished:
                for i, result in self._look([(i, pictures[i], found[i]) for i in unfinished], tick):
                    found[i] = result
                    self._remember(pictures[i].key, result)
                unfinished = [i for i in unfinished if _settled(found[i], enough, i) is None]
            return [_settled(found[first[picture.key]], enough, i) for i, picture in enumerate(pictures)]

    def _look(self, searches: list[tuple[int, Picture, Found]], tick) -> Iterator[tuple[int, Found]]:
        """One further look at each picture, given back by the pictures' indices as their faces are embedded: all of a batch at once."""
        detector, embedder = self.models()
        waiting: list[_Looked] = []
        for index, picture, found in searches:
            try:
                tick()
            except BaseException:
                yield from self._embedded(waiting)
                raise
            sides = search.sides(detector, max(picture.size))
            detections = new_detections(found.faces, search.look(detector, picture.pixels, sides[len(found.counts)]))
            crops = [embedder.crop(picture.pixels, detection) for detection in detections]
            waiting.append(_Looked(index, picture, found, detections, crops, len(found.counts) + 1 >= len(sides)))
            if sum(len(looked.crops) for looked in waiting) >= embedder.batch:
                yield from self._embedded(waiting)
                waiting = []
        yield from self._embedded(waiting)

    def _embedded(self, waiting: list["_Looked"]) -> Iterator[tuple[int, Found]]:
        _, embedder = self.models()
        crops = [crop.pixels for looked in waiting for crop in looked.crops]
        rows = [row for start in range(0, len(crops), embedder.batch) for row in embedder.embed(crops[start : start + embedder.batch])]
        if not np.isfinite(rows).all():
            # No comparison with such a score holds, so it would pass any gate.
            raise MissingModelError(f"{self.info.embedder.name} gives values that are no number; choose device cpu, or delete its file and get it again.")
        embeddings = iter(rows)
        for looked in waiting:
            faces = [
                Face(
                    detection.box,
                    detection.confidence,
                    crop.keypoints,
                    next(embeddings).astype(np.float32),
                    yaw_degrees(crop.keypoints),
                    sharpness(align(looked.picture.pixels, crop.keypoints)),
                )
                for detection, crop in zip(looked.detections, looked.crops)
            ]
            known = looked.found.faces + tuple(faces)
            yield looked.index, Found(known, (*looked.found.counts, len(known)), looked.complete)

    @property
    def fingerprint(self) -> str:
        """sha256 over the embedder's files as they were when first asked for: a file replaced later belongs to another recognizer."""
        if not self._fingerprint:
            self._fingerprint = self.info.fingerprint()
        return self._fingerprint

    def models(self) -> tuple[Detector, Embedder]:
        """The detector and the embedder, loaded now if they are not."""
        if self._models is None:
            # Taken before the files are read: whatever they become later, this is what was loaded.
            self._fingerprint = self.fingerprint
            self._models = _open_models(self.info, self.device)
        return self._models

    def close(self) -> None:
        """Free the models; they are loaded again when needed. What was found stays remembered."""
        with self._lock:
            self._models = None

    def _remember(self, key: bytes, found: Found) -> None:
        self._memory[key] = found
        self._memory.move_to_end(key)
        while len(self._memory) > self.remembered:
            self._memory.popitem(last=False)

    def score(self, embeddings: np.ndarray, template: np.ndarray) -> np.ndarray:
        """Likeness scores [N] of embeddings [N,D] against a template [D]."""
        return similarity(self.info.metric, embeddings, template)


def _settled(found: Found, enough: Enough, index: int) -> Found | None:
    """What this search would have ended with, None if it must go on: an earlier, longer search must not change a verdict."""
    for look, count in enumerate(found.counts, 1):
        if enough(index, found.faces[:count]):
            return Found(found.faces[:count], found.counts[:look], found.complete and look == len(found.counts))
    return found if found.complete else None


# One recognizer per files and device as long as somebody holds it: when the host drops its cached handles, the models go too.
_open: weakref.WeakValueDictionary[tuple, Recognizer] = weakref.WeakValueDictionary()


def open_recognizer(name: str = "auto", models_dir: Path | None = None, device: str = "auto", commercial_only: bool = False) -> Recognizer:
    """The recognizer `name` (see choices.recognizer_names). Cheap: models load with the first picture. Raises as `describe` does, in one sentence."""
    if device not in DEVICES:
        raise InputError(f"'{device}' is not a device; choose {', '.join(DEVICES)}.")
    info = describe(name, models_dir, commercial_only)
    key = info.name, info.state(), device
    recognizer = _open.get(key)
    if recognizer is None:
        recognizer = _open[key] = Recognizer(info, device)
    return recognizer


def _open_models(info: RecognizerInfo, device: str) -> tuple[Detector, Embedder]:
    with needed("opencv-python"):
        import cv2  # noqa: F401
    if info.metric == "euclidean":
        predictor, network = dlib_files()
        with needed("dlib-bin"):
            import dlib  # noqa: F401
        try:
            return HogDetector(), DlibEmbedder(predictor, network)
        except RuntimeError as error:
            raise MissingModelError(
                f"dlib cannot read its weights ({error}): run `{pip_command('install --force-reinstall face_recognition_models')}`."
            ) from None
    providers, options = _providers(device)
    (detector_file,), (embedder_file,) = info.detector.files, info.embedder.files
    embedder = ArcFaceEmbedder(_insightface_model(embedder_file, "recognition", providers, options))
    if detector_file.name == YUNET_FILE:
        return YunetDetector(detector_file), embedder
    return ScrfdDetector(_insightface_model(detector_file, "detection", providers, options)), embedder


def _providers(device: str) -> tuple[list[str], list[dict]]:
    """ONNX Runtime's execution providers for a device, with their options. auto is the CPU: CUDA memory taken here is hidden from ComfyUI."""
    if device in ("auto", "cpu"):
        return ["CPUExecutionProvider"], [{}]
    with needed("onnxruntime"):
        import onnxruntime

    wanted, option = {
        "cuda": ("CUDAExecutionProvider", {"gpu_mem_limit": CUDA_MEMORY_LIMIT, "arena_extend_strategy": "kSameAsRequested"}),
        "coreml": ("CoreMLExecutionProvider", {}),
    }[device]
    if wanted not in onnxruntime.get_available_providers():
        mend = f"with an NVIDIA GPU, {ONNX_CUDA_MEND}" if device == "cuda" else "it exists on macOS only"
        raise MissingPackageError(f"The installed ONNX Runtime has no {wanted}: {mend}, or choose device auto or cpu.")
    return [wanted, "CPUExecutionProvider"], [option, {}]


def _insightface_model(file: Path, task: str, providers: list[str], options: list[dict]):
    with needed("insightface"):
        import insightface
        import onnxruntime
        from insightface.model_zoo import model_zoo
    session = onnxruntime.SessionOptions()
    # Its threads otherwise spin for a while after each run, on the cores that the host wants for decoding the next picture.
    session.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings = {"providers": providers, "provider_options": options, "sess_options": session}
    if task == "detection" and int(insightface.__version__.split(".")[0]) >= 2:
        # insightface 2 otherwise opens one more session for every input size, beside the one that takes any.
        settings["static_shape_sessions"] = False
    try:
        model = model_zoo.get_model(str(file), **settings)
    except Exception as error:
        # ONNX Runtime raises a dozen classes of its own, all derived from Exception alone, for a damaged or foreign file.
        reason = " ".join(str(error).split())[:200]
        raise MissingModelError(f"{file} cannot be opened ({reason}); delete it and get the pack again.") from None
    if model is None or getattr(model, "taskname", None) != task:
        raise MissingModelError(f"{file} is not a face {task} model; delete it and get the pack again.")
    return model
