"""The plan of a face swap through ReActor: what must be there first, which face of which picture is meant, and what came of it. Runs nothing of ReActor."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingModelError, MissingPackageError
from ..installation import needed
from ..model_files import entry
from . import scoring
from .choices import ALL, FAST, LARGEST, NATURAL, NONE, SHARP, SWAP_FOLDERS, restorers, swap_models
from .identity import Identity
from .scoring import Measured

# ReActor 0.7: its detectors for restoring with the files that each loads, and what it looks for before it downloads.
DETECTOR_FILES = {
    "retinaface_resnet50": "detection_Resnet50_Final.pth",
    "retinaface_mobile0.25": "detection_mobilenet0.25_Final.pth",
    "YOLOv5l": "yolov5l-face.pth",
    "YOLOv5n": "yolov5n-face.pth",
}
PARSER_FILE = "parsing_parsenet.pth"
FACE_PACK, FACE_PACK_FILES = "insightface/models/buffalo_l", ("det_10g.onnx", "w600k_r50.onnx", "genderage.onnx")
SAFETY_CHECK = "nsfw_detector/vit-base-nsfw-detector"
SAFETY_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
SWAP_NODES = ("ReActorFaceSwapOpt", "ReActorOptions")
BOOST_NODE, RESTORE_NODE = "ReActorFaceBoost", "ReActorRestoreFace"

SWAP, RESTORE = "swap", "restore"

# ReActor computes in 8 bit and truncates: a picture that it only passes on differs by at most one level and rounding.
UNCHANGED = 1.5 / 255
# How far around a face its restored pixels reach, in face sides, and how softly they end.
RESTORED_MARGIN, RESTORED_SOFTNESS = 0.3, 0.08

# What the makers say of their weights.
NON_COMMERCIAL = "non-commercial research only"
_LICENCES = (("inswapper", f"{NON_COMMERCIAL} (InsightFace)"), ("hyperswap", f"{NON_COMMERCIAL} (FaceFusion Labs)"), ("reswapper", "see its page"))


@dataclass(frozen=True)
class Look:
    """How a swapped face is finished. visibility: 0.1..1 of the restored face; boost: whether the crop is enlarged by the restorer before it is pasted."""

    restore: bool
    visibility: float = 1.0
    codeformer_weight: float = 0.5
    boost: bool = False


# natural leaves a part of the swapped face's own texture; sharp works on an enlarged crop; fast leaves the 128 pixels of the swap model.
LOOKS = {NATURAL: Look(True, 0.7), SHARP: Look(True, 1.0, boost=True), FAST: Look(False)}


def licence_of(swap_model: str) -> str:
    return next((licence for part, licence in _LICENCES if part in swap_model.lower()), "unknown: see its page")


def preflight(registered: Iterable[str], folders: Iterable[str], models_dir: Path, swap_model: str, restore_model: str, detector: str, look: Look) -> None:
    """Whether ReActor can do what is asked without downloading anything; asks nothing of ReActor itself, whose lists download when they are read.

    registered: the class names of all nodes; folders: the names in custom_nodes. Raises MissingPackageError or MissingModelError, one sentence.
    """
    registered = set(registered)
    restoring = look.restore and restore_model != NONE
    wanted = [*SWAP_NODES, *([BOOST_NODE] if look.boost and restoring else []), *([RESTORE_NODE] if restoring else [])]
    missing = [name for name in wanted if name not in registered]
    if missing:
        installed = next((folder for folder in folders if "reactor" in folder.lower()), None)
        if installed is None:
            raise MissingPackageError("Face Swap works through the pack ComfyUI-ReActor, which is not installed: install it with ComfyUI Manager and restart.")
        raise MissingPackageError(
            f"ReActor is installed ({installed}), but its nodes {', '.join(missing)} are not there: look for its error in ComfyUI's log at the start, and update it."
        )
    if not restorers(models_dir):
        raise MissingModelError(
            f"ReActor is installed, but {Path(models_dir, 'facerestore_models')} is empty, and it would download four files there unasked: put at least one "
            "restorer into it, such as GFPGANv1.4.pth."
        )
    if swap_model not in swap_models(models_dir):
        raise MissingModelError(
            f"The swap model {swap_model} is not in {' or '.join(f'models/{folder}' for folder in SWAP_FOLDERS)}; choose another or put it there."
        )
    if restore_model != NONE and restore_model not in restorers(models_dir):
        raise MissingModelError(f"The restorer {restore_model} is not in models/facerestore_models; choose another or put it there.")
    gone = [name for name in FACE_PACK_FILES if not Path(models_dir, FACE_PACK, name).is_file()]
    if gone:
        raise MissingModelError(
            f"ReActor finds faces with buffalo_l, of which {', '.join(gone)} {'is' if len(gone) == 1 else 'are'} not in models/{FACE_PACK}; "
            f"`{entry('buffalo_l').command}` puts them there ({entry('buffalo_l').licence})."
        )
    gone = [name for name in SAFETY_FILES if not Path(models_dir, SAFETY_CHECK, name).is_file()]
    if gone:
        raise MissingModelError(
            f"ReActor's safety check is not whole: {', '.join(gone)} must lie in models/{SAFETY_CHECK}; run one of ReActor's own nodes once, which downloads it."
        )
    if restoring:
        gone = [name for name in (DETECTOR_FILES[detector], PARSER_FILE) if not Path(models_dir, "facedetection", name).is_file()]
        if gone:
            raise MissingModelError(
                f"For restoring, ReActor needs {' and '.join(gone)} in models/facedetection; run one of ReActor's own nodes once, which downloads them, or take preset fast."
            )


def remarks(swap_model: str, restore_model: str, look: Look) -> list[str]:
    """What a preset promises and the other choices do not let it keep."""
    if look.restore and restore_model == NONE:
        return ["The preset restores faces, but restore_model is none: nothing is restored."]
    if look.boost and "hyperswap" in swap_model:
        return ["ReActor does not enlarge faces before they are put back with hyperswap: that part of the preset has no effect."]
    return []


@dataclass(frozen=True)
class Aim:
    """The faces of one picture that are to be swapped. index: ReActor's input_faces_index for each person, "" for a person who gets none;
    boxes: of those faces, as our recognizer found them."""

    index: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...] = ()


def aim(measured: Measured, people: int, target: str, threshold: float, allowed: Sequence[bool] | None = None) -> Aim:
    """Which faces of a picture the people get, in ReActor's order `large-small`, which small faces that only one of us finds do not upset.

    most similar: each person the face most like them, one to one, a face that can be judged before one that cannot. largest: the largest, the next person the next. all: with one
    person every face, with several as most similar. allowed: which faces count at all, by their gender. A picture in which our recognizer finds no face is left to ReActor's own: the largest
    that it finds.
    """
    faces = measured.faces
    if not faces:
        return Aim(("0", *([""] * (people - 1))))
    by_area = sorted(range(len(faces)), key=lambda i: -faces[i].area)
    may = [i for i in by_area if allowed is None or allowed[i]]
    if target == ALL and people == 1:
        chosen = [tuple(may)]
    elif target != LARGEST:
        clear = np.array([scoring.doubt(faces[i]) is None for i in may], bool)
        chosen = [() if place is None else (may[place],) for place in scoring.assign(measured.scores[may], threshold, clear)]
    else:
        chosen = [(may[person],) if person < len(may) else () for person in range(people)]
    index = tuple(",".join(str(place) for place in sorted(by_area.index(face) for face in own)) for own in chosen)
    return Aim(index, tuple(faces[face].box for own in chosen for face in own))


def genders(pixels: np.ndarray, boxes: Sequence[tuple[float, float, float, float]], models_dir: Path) -> list[str]:
    """`female` or `male` for each face of a picture uint8 [H,W,3], by the model that ReActor asks as well (genderage of buffalo_l)."""
    model = _gender_model(str(Path(models_dir, FACE_PACK, "genderage.onnx")))
    with needed("insightface"):
        from insightface.app.common import Face
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    return ["male" if model.get(bgr, Face(bbox=np.asarray(box, np.float32)))[0] else "female" for box in boxes]


@lru_cache(maxsize=1)
def _gender_model(path: str):
    with needed("insightface"):
        from insightface.model_zoo import get_model
    model = get_model(path, providers=["CPUExecutionProvider"])
    model.prepare(0)
    return model


@dataclass(frozen=True)
class Settings:
    """What a user chose. keep: one of choices.KEEP."""

    swap_model: str
    restore_model: str
    detector: str
    gender: str
    keep: str
    look: Look

    @property
    def restoring(self) -> bool:
        return self.look.restore and self.restore_model != NONE


@dataclass(eq=False, repr=False)
class Job:
    """One run on its way through the expansions. frames: float tensors [1,H,W,C]; results: by frame, what ReActor gave; withheld: frames its safety
    check took out; stage: what the groups of the expansion that runs now are for."""

    images: list
    frames: list
    before: list
    aims: dict[int, Aim]
    people: list[Identity]
    sources: list[np.ndarray]
    rules: scoring.Rules
    settings: Settings
    captions: list[str] | None
    groups: list[list[int]] = field(default_factory=list)
    stage: str = SWAP
    results: dict = field(default_factory=dict)
    withheld: set[int] = field(default_factory=set)
    passes: int = 0


def grouped(keys: Sequence[tuple], indices: Sequence[int]) -> list[list[int]]:
    """The indices, those with equal keys together: ReActor loads its models once per execution."""
    groups: dict[tuple, list[int]] = {}
    for index, key in zip(indices, keys):
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def is_withheld(original: np.ndarray, result: np.ndarray) -> bool:
    """Whether ReActor's safety check took a picture out: what comes in its place is one black square, float [H,W,C]."""
    return result.shape[:2] != original.shape[:2] or (not result.any() and bool(original.any()))


def is_unchanged(original: np.ndarray, result: np.ndarray, boxes: Sequence[tuple[float, float, float, float]] = ()) -> bool:
    """Whether nothing was swapped: no pixel differs by more than rounding; with boxes, none within them."""
    difference = np.abs(original[..., :3] - result[..., :3])
    if not boxes:
        return bool(difference.max(initial=0.0) <= UNCHANGED)
    return all(difference[_rows(box, original)].max(initial=0.0) <= UNCHANGED for box in boxes)


def _rows(box, picture: np.ndarray, margin: float = 0.0) -> tuple[slice, slice]:
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = box
    more = margin * max(x2 - x1, y2 - y1)
    return slice(max(0, int(y1 - more)), min(height, int(y2 + more) + 1)), slice(max(0, int(x1 - more)), min(width, int(x2 + more) + 1))


def restored_only_at(swapped: np.ndarray, restored: np.ndarray, boxes: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
    """The restored picture around the swapped faces, the swapped one everywhere else: ReActor's restorer works on every face of a picture.

    All float32 [H,W,3]; without boxes the restored picture.
    """
    if not boxes:
        return restored
    import cv2

    mask = np.zeros(swapped.shape[:2], np.float32)
    side = max(max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes)
    for box in boxes:
        mask[_rows(box, swapped, RESTORED_MARGIN)] = 1.0
    mask = cv2.GaussianBlur(mask, (0, 0), max(1.0, RESTORED_SOFTNESS * side))[..., None]
    return (swapped + (restored - swapped) * mask).astype(np.float32)


def checked_choice(value: str, choices: Sequence[str], what: str) -> str:
    if value not in choices:
        raise InputError(f"'{value}' is no {what}; choose {', '.join(choices)}.")
    return value
