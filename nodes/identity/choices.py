"""What the inputs of this room's nodes offer: choices, defaults and limits, and which files there are to choose from. Nothing else, since the host wants them before anything runs."""

import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

# ---- recognizers and identities --------------------------------------------------------------------------------------

PACKS_FOLDER = Path("insightface") / "models"
AUTO = "auto"
DLIB = "dlib"
# Offered whether or not their files are there, so that a workflow that names one loads everywhere.
ALWAYS_LISTED = (AUTO, "auraface", "buffalo_l", "antelopev2", DLIB)
DEVICES = ("auto", "cuda", "cpu", "coreml")

COMBINE = ("mean", "max", "median")

# The host asks for the list with every link and validation: one look at the disk serves this many seconds.
LISTING_SECONDS = 2.0
_listing: dict[tuple, tuple[float, list[str]]] = {}


def recognizer_names(models_dir: Path | None, commercial_only: bool = False) -> list[str]:
    """The names to choose from: the known ones and every pack folder found. With commercial_only, only what allows commercial use."""
    key = models_dir, commercial_only
    known = _listing.get(key)
    if known and time.monotonic() - known[0] < LISTING_SECONDS:
        return known[1]
    if commercial_only:
        found = [AUTO, "auraface", DLIB]
    else:
        found = list(ALWAYS_LISTED)
        if models_dir:
            with suppress(OSError):
                packs = list((models_dir / PACKS_FOLDER).iterdir())
                found += sorted(entry.name for entry in packs if entry.name not in ALWAYS_LISTED and pack_folder(entry.name, models_dir))
    _listing[key] = time.monotonic(), found
    return found


def pack_folder(name: str, models_dir: Path) -> Path | None:
    """The folder of a pack that holds .onnx files; antelopev2's archive unpacks into a folder of its own name, which is looked into too."""
    folder = models_dir / PACKS_FOLDER / name
    for candidate in (folder, folder / name):
        # A folder that may not be looked into is no pack; it must not keep the others from being listed.
        with suppress(OSError):
            if candidate.is_dir() and any(candidate.glob("*.onnx")):
                return candidate
    return None


# ---- judging, masks and takes ----------------------------------------------------------------------------------------

STRICTNESS = ("loose", "standard", "strict", "custom")
FACE_CHOICES = ("best match", "largest", "every face")
NO_FACE = ("reject", "pass", "error")
UNCERTAIN = ("own output", "pass", "reject")

AREAS = ("face", "head", "hair and face")

MOST_TAKES = 64

# ---- face swap -------------------------------------------------------------------------------------------------------

BELOW_GATE, ALWAYS = SWAP_WHEN = ("below gate", "always")
MOST_SIMILAR, LARGEST, ALL = TARGETS = ("most similar", "largest", "all")
BETTER, SWAPPED = KEEP = ("better", "swapped")
GENDERS = ("any", "female", "male")
NATURAL, SHARP, FAST, CUSTOM = PRESETS = ("natural", "sharp", "fast", "custom")
NONE = "none"
# The names in faceswap.DETECTOR_FILES.
DETECTORS = ("retinaface_resnet50", "retinaface_mobile0.25", "YOLOv5l", "YOLOv5n")
# Always listed: the editor draws a node red whose file is not in its list, and Face Swap itself says where the file belongs.
USUAL_SWAP_MODEL = "inswapper_128.onnx"
CONSENT = "Swap faces only of people who agreed to it."

# ReActor 0.7: its folders of swap models with the word that a file there must have in its name.
SWAP_FOLDERS = {"insightface": "inswapper", "reswapper": "reswapper", "hyperswap": "hyperswap"}


def swap_models(models_dir: Path) -> list[str]:
    """The swap models that ReActor can load: .onnx and .pth files directly in its folders, named after the folder's family."""
    found = {name for folder, family in SWAP_FOLDERS.items() for name in _files(Path(models_dir, folder)) if family in name}
    return sorted(found, key=str.lower)


def restorers(models_dir: Path) -> list[str]:
    return sorted(_files(Path(models_dir, "facerestore_models")), key=str.lower)


def _files(folder: Path) -> tuple[str, ...]:
    """Names of the model files in a folder; read again only when it changed, since the host asks for them all the time."""
    try:
        return _listed(str(folder), folder.stat().st_mtime_ns)
    except OSError:
        return ()


@lru_cache(maxsize=16)
def _listed(folder: str, changed: int) -> tuple[str, ...]:
    return tuple(path.name for path in Path(folder).iterdir() if path.suffix in (".onnx", ".pth"))
