"""Which recognizers exist, what each may be used for, from which score on two faces are one person, and where its files lie."""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...errors import InputError, MissingModelError, MissingPackageError
from ...installation import needed, pip_command
from ..choices import AUTO, DLIB, PACKS_FOLDER, pack_folder

DLIB_PACKAGES = "install dlib-bin face_recognition_models"
NEVER_COMMERCIAL = ("buffalo_l", "antelopev2")

YUNET_FILE = "face_detection_yunet_2023mar.onnx"
# Roles of the files in the packs that InsightFace and fal publish; any other file is opened to see what it is.
DETECTOR_FILES = frozenset({"det_10g.onnx", "det_2.5g.onnx", "det_500m.onnx", "scrfd_10g_bnkps.onnx", YUNET_FILE})
EMBEDDER_FILES = frozenset({"w600k_r50.onnx", "w600k_mbf.onnx", "glintr100.onnx"})
ARCFACE_DIMS = 512
# antelopev2's embedder has the name of AuraFace's, but InsightFace's licence; AuraFace's has 28,817 bytes more (model_files/catalogue.py).
ANTELOPE_EMBEDDER_BYTES = 260_665_334
OTHER_FILES = frozenset({"1k3d68.onnx", "2d106det.onnx", "genderage.onnx"})

NON_COMMERCIAL = "non-commercial research only (InsightFace)"
UNKNOWN_LICENCE = "unknown: see where the files came from"


@dataclass(frozen=True)
class Thresholds:
    """From which likeness score on a face passes, for the three degrees of strictness, and where the numbers come from."""

    loose: float
    standard: float
    strict: float
    source: str


@dataclass(frozen=True)
class Part:
    """A detector or an embedder: `name` for people, its licence, whether commercial use is allowed, and its files."""

    name: str
    licence: str
    commercial: bool
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class RecognizerInfo:
    """What is known of a recognizer without opening it. metric: how two embeddings give the likeness score, see `similarity`."""

    name: str
    detector: Part
    embedder: Part
    metric: str
    dims: int
    thresholds: Thresholds

    @property
    def commercial(self) -> bool:
        return self.detector.commercial and self.embedder.commercial

    @property
    def licence(self) -> str:
        return self.embedder.licence if self.embedder.licence == self.detector.licence else f"{self.embedder.licence}; detector: {self.detector.licence}"

    def fingerprint(self) -> str:
        """sha256 over the embedder's files as they are now: two recognizers with the same one give comparable embeddings."""
        return files_hash(self.embedder.files)

    def state(self) -> tuple:
        """Sizes and times of all files: another one stands for other models. Raises MissingModelError when a file cannot be read."""
        return tuple((str(file), *_stat(file)) for file in (*self.detector.files, *self.embedder.files))


def similarity(metric: str, embeddings: np.ndarray, template: np.ndarray) -> np.ndarray:
    """The likeness scores [N] of embeddings [N,D] against a template [D].

    cosine (ArcFace): cosine similarity, -1..1. euclidean (dlib): 1 - Euclidean distance of the raw descriptors, 1 for the same picture and below
    0 for very different ones; never normalised, since the cosine of different people is 0.81 to 0.91 there.
    """
    if metric == "cosine":
        norms = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(template)
        return embeddings @ template / np.maximum(norms, 1e-12)
    return 1 - np.linalg.norm(embeddings - template, axis=1)


# 1 - distance: dlib's documentation takes two faces for one person below a distance of 0.6 (python_examples/face_recognition.py).
DLIB_THRESHOLDS = Thresholds(0.40, 0.50, 0.60, "dlib's own limit, distance 0.6, is loose; standard is 0.5, strict 0.4")
BUFFALO_SOURCE = "InsightFace's GUI and server take 0.40, which is about FAR 1e-6 (0.41, model_zoo and server README); 0.22 is the best F1 on LFW-like sets"
BORROWED_SOURCE = "none published for this model: those of buffalo_l stand in, so look at how your own references score against each other"
BUFFALO_THRESHOLDS = Thresholds(0.30, 0.40, 0.50, BUFFALO_SOURCE)
BORROWED_THRESHOLDS = Thresholds(0.30, 0.40, 0.50, BORROWED_SOURCE)


def describe(name: str, models_dir: Path | None, commercial_only: bool = False) -> RecognizerInfo:
    """What the recognizer `name` is. Opens no model; `auto` is auraface where its files are, else dlib.

    Raises MissingModelError or MissingPackageError when its parts are not there, InputError when only commercial use is allowed and it
    forbids that: one sentence each, saying what to do.
    """
    if commercial_only and name in NEVER_COMMERCIAL:
        # Said before anybody is told to download it.
        raise InputError(_not_cleared(name, NON_COMMERCIAL))
    if name == AUTO:
        info = _automatic(models_dir)
    elif name == DLIB:
        info = _dlib()
    else:
        info = _pack(name, models_dir, commercial_only)
    if commercial_only and not info.commercial:
        raise InputError(_not_cleared(name, info.licence))
    return info


def _not_cleared(name: str, licence: str) -> str:
    return f"The recognizer {name} is not cleared for commercial use ({licence}) and 'commercial use only' is on; choose auraface or dlib, or turn it off."


def _automatic(models_dir: Path | None) -> RecognizerInfo:
    from ...model_files import CATALOGUE, missing_sentence

    if models_dir is not None and CATALOGUE["auraface"].present(models_dir):
        info = _pack("auraface", models_dir, commercial_only=True)
        if info.commercial:
            return info
    if dlib_installed():
        return _dlib()
    raise MissingModelError(
        f"No face recognizer is installed: run `{pip_command(DLIB_PACKAGES)}` (works at once, no model download), "
        f"or get the ArcFace one: {missing_sentence('auraface', models_dir)}"
    )


def dlib_installed() -> bool:
    return all(importlib.util.find_spec(package) for package in ("dlib", "face_recognition_models"))


def dlib_files() -> tuple[Path, Path]:
    """(five-point predictor, ResNet) inside the installed face_recognition_models, found without importing it (its import needs pkg_resources)."""
    if not dlib_installed():
        raise MissingPackageError(f"The recognizer dlib needs two packages: run `{pip_command(DLIB_PACKAGES)}`.")
    models = Path(importlib.util.find_spec("face_recognition_models").origin).parent / "models"
    files = models / "shape_predictor_5_face_landmarks.dat", models / "dlib_face_recognition_resnet_model_v1.dat"
    for file in files:
        if not file.is_file():
            raise MissingModelError(f"{file} is missing: run `{pip_command('install --force-reinstall face_recognition_models')}`.")
    return files


def _dlib() -> RecognizerInfo:
    predictor, network = dlib_files()
    # Licences: dlib itself Boost 1.0; the two weight files are declared CC0 by their author (davisking/dlib-models README).
    return RecognizerInfo(
        name=DLIB,
        detector=Part("HOG (dlib)", "Boost 1.0", True),
        embedder=Part("ResNet (dlib)", "CC0 1.0", True, (network, predictor)),
        metric="euclidean",
        dims=128,
        thresholds=DLIB_THRESHOLDS,
    )


def _pack(name: str, models_dir: Path | None, commercial_only: bool) -> RecognizerInfo:
    from ...model_files import CATALOGUE, missing_sentence

    if models_dir is None:
        raise MissingModelError(f"The recognizer {name} needs ComfyUI's models folder; name it with --models-dir or the variable COMFYUI_ROOT.")
    # The combo offers plain folder names; a path in a workflow's value must not lead out of the packs folder.
    if Path(name).name != name or name in ("", ".", ".."):
        raise InputError(f"'{name}' is not the name of a recognizer; choose one from the list.")
    folder = pack_folder(name, models_dir)
    if folder is None:
        if name in CATALOGUE:
            raise MissingModelError(missing_sentence(name, models_dir))
        raise MissingModelError(f"There is no face recognizer pack {models_dir / PACKS_FOLDER / name}; put a detector and an embedder (.onnx) there.")
    detectors, embedders = _roles(folder)
    if name == "auraface" and (folder / YUNET_FILE).is_file():
        # The SCRFD that lies beside AuraFace's embedder is InsightFace's and non-commercial: YuNet (MIT) comes first.
        detectors = [folder / YUNET_FILE, *(file for file in detectors if file.name != YUNET_FILE)]
    if not detectors or not embedders:
        gone = " and ".join(part for part, files in (("a detector (SCRFD)", detectors), ("an embedder (ArcFace)", embedders)) if not files)
        if name in CATALOGUE:
            raise MissingModelError(f"The pack in {folder} lacks {gone}: {missing_sentence(name, models_dir)}")
        raise MissingModelError(f"The pack in {folder} lacks {gone}; an InsightFace pack has both as .onnx files.")
    detector, embedder = detectors[0], embedders[0]
    if detector.name == YUNET_FILE:
        detector_part = Part("YuNet", "MIT", True, (detector,))
    else:
        known = detector.name in DETECTOR_FILES
        detector_part = Part(f"SCRFD ({detector.stem})", NON_COMMERCIAL if known else UNKNOWN_LICENCE, False, (detector,))
    if name == "auraface" and embedder.stat().st_size != ANTELOPE_EMBEDDER_BYTES:
        embedder_part = Part("AuraFace (glintr100)", "Apache-2.0", True, (embedder,))
    else:
        known = embedder.name in EMBEDDER_FILES
        embedder_part = Part(f"ArcFace ({embedder.stem})", NON_COMMERCIAL if known else UNKNOWN_LICENCE, False, (embedder,))
    thresholds = BUFFALO_THRESHOLDS if embedder.name == "w600k_r50.onnx" else BORROWED_THRESHOLDS
    dims = ARCFACE_DIMS if embedder.name in EMBEDDER_FILES else _role_by_contents(embedder)[1]
    return RecognizerInfo(name, detector_part, embedder_part, "cosine", dims, thresholds)


def _roles(folder: Path) -> tuple[list[Path], list[Path]]:
    detectors, embedders = [], []
    for file in sorted(folder.glob("*.onnx")):
        if file.name in OTHER_FILES:
            continue
        role = "detector" if file.name in DETECTOR_FILES else "embedder" if file.name in EMBEDDER_FILES else _role_by_contents(file)[0]
        if role == "detector":
            detectors.append(file)
        elif role == "embedder":
            embedders.append(file)
    return detectors, embedders


def _role_by_contents(file: Path) -> tuple[str | None, int]:
    """("detector", 0), ("embedder", its embedding size) or (None, 0) for any other file."""
    return _role(file, *_stat(file))


@lru_cache(maxsize=64)
def _role(file: Path, size: int, modified: int) -> tuple[str | None, int]:
    with needed("onnx"):
        import onnx
        from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model(str(file), load_external_data=False).graph
    except (DecodeError, OSError, ValueError):
        return None, 0
    initialized = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initialized]
    sides = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim][2:] if len(inputs) == 1 else []
    # insightface's own routing (model_zoo.py): five outputs and more are a detector, one square input from 112 on is a recognition model.
    if len(graph.output) in (6, 9, 10, 15):
        return "detector", 0
    if sides == [112, 112] and len(graph.output) == 1:
        shape = graph.output[0].type.tensor_type.shape.dim
        return "embedder", (shape[-1].dim_value if shape else 0) or ARCFACE_DIMS
    return None, 0


def files_hash(files: tuple[Path, ...]) -> str:
    """sha256 over the contents of the files in their order, remembered while they do not change."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(_file_hash(file, *_stat(file)))
    return digest.hexdigest()


def _stat(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError as error:
        raise MissingModelError(f"{file} cannot be read ({error.strerror}).") from None
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=64)
def _file_hash(file: Path, size: int, modified: int) -> bytes:
    digest = hashlib.sha256()
    try:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise MissingModelError(f"{file} cannot be read ({error.strerror}).") from None
    return digest.digest()
