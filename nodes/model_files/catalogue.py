"""The one catalogue of models that Likeness can use: files, licence, folder, size, source, and what of it is on disk. Fetching lives in transfer.py.

Sizes are bytes, exact unless a comment says so. Every sha256 is public: for Hugging Face files the LFS hash on the file's page, for the InsightFace
archives the digest on the release, for MediaPipe files the digest of the versioned object, as pinned by several independent projects.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, LikenessError, MissingModelError
from ..installation import PACK, in_custom_nodes, likeness_command

# <root>/custom_nodes/<pack>/nodes/model_files/catalogue.py; not resolved, because packs are often linked into custom_nodes.


@dataclass(frozen=True)
class HubFile:
    """A file of a Hugging Face repository, at a branch, tag or commit."""

    repo_id: str
    path: str
    revision: str = "main"


@dataclass(frozen=True)
class WebFile:
    """A file at an https address."""

    url: str


@dataclass(frozen=True)
class Member:
    """A file inside an archive. All are unpacked, since other packs load the same folder; only `needed` ones are missed when absent."""

    filename: str
    size: int
    sha256: str | None = None
    needed: bool = True


@dataclass(frozen=True)
class ModelFile:
    """One download: the name it gets on disk, where it comes from, its bytes; an archive also names what comes out of it."""

    filename: str
    source: HubFile | WebFile
    size: int
    sha256: str | None = None
    archive: bool = False
    members: tuple[Member, ...] = ()

    @property
    def provides(self) -> tuple[str, ...]:
        """The file names that must lie in the entry's folder for this download to be done."""
        return tuple(member.filename for member in self.members if member.needed) if self.archive else (self.filename,)


@dataclass(frozen=True)
class ModelEntry:
    """A model as the user names it. `folder` is relative to ComfyUI's `models`; `page` is where a person reads and accepts the licence."""

    name: str
    title: str
    folder: str
    files: tuple[ModelFile, ...]
    licence: str
    commercial: bool
    page: str
    what: str

    @property
    def total_size(self) -> int:
        """Bytes to download when nothing is there."""
        return sum(file.size for file in self.files)

    @property
    def command(self) -> str:
        return likeness_command(f"models download {self.name}")

    def missing(self, models_dir: str | Path | None) -> tuple[str, ...]:
        """Names of the needed files that are not in `models_dir`/`folder`; all of them where there is no models folder (None)."""
        names = [name for file in self.files for name in file.provides]
        if models_dir is None:
            return tuple(names)
        folder = Path(models_dir, self.folder)
        # An archive unpacked by hand may lie in a folder of its own name below, where the recognizers look too.
        return tuple(name for name in names if not any(_is_file(place / name) for place in (folder, folder / folder.name)))

    def present(self, models_dir: str | Path | None) -> bool:
        return not self.missing(models_dir)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A folder that may not be looked into.
        return False


_INSIGHTFACE = "non-commercial research only (InsightFace model zoo)"
_FLUX = "FLUX.1 [dev] Non-Commercial License"
# insightface 2.x downloads from this release (insightface/utils/storage.py); the older tag v0.7 holds the same bytes.
_ZOO = "https://github.com/deepinsight/insightface/releases/download/model-zoo"
_MEDIAPIPE = "https://storage.googleapis.com/mediapipe-models"
_MEDIAPIPE_PAGES = "https://ai.google.dev/edge/mediapipe/solutions/vision"

# The same three bytes-for-bytes in buffalo_l and antelopev2.
_EXTRAS = (
    Member("1k3d68.onnx", 143_607_619, "df5c06b8a0c12e422b2ed8947b8869faa4105387f199c477af038aa01f9a45cc", needed=False),
    Member("2d106det.onnx", 5_030_888, "f001b856447c413801ef5c42091ed0cd516fcd21f2d6b79635b1e733a7109dbf", needed=False),
    Member("genderage.onnx", 1_322_532, "4fde69b1c810857b88c64a335084f1c3fe8f01246c9a191b48c7bb756d6652fb", needed=False),
)
_SCRFD_10G = (16_923_827, "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91")

_ENTRIES = (
    ModelEntry(
        name="auraface",
        title="AuraFace face recognizer",
        folder="insightface/models/auraface",
        files=(
            # Of fal's repository this file alone: its detector and landmark models are InsightFace's, which are non-commercial.
            ModelFile(
                "glintr100.onnx",
                HubFile("fal/AuraFace-v1", "glintr100.onnx"),
                260_694_151,
                "a7933ea5330113b01c9b60351d8f4c33003f145d8470ac5f0e52ee2effe25c60",
            ),
            ModelFile(
                "face_detection_yunet_2023mar.onnx",
                HubFile("opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx"),
                232_589,
                "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
            ),
        ),
        licence="Apache-2.0 (AuraFace) and MIT (YuNet detector)",
        commercial=True,
        page="https://huggingface.co/fal/AuraFace-v1",
        what="ArcFace R100 embedder with the YuNet detector; the recognizer whose licences allow commercial use",
    ),
    ModelEntry(
        name="buffalo_l",
        title="InsightFace buffalo_l",
        folder="insightface/models/buffalo_l",
        files=(
            ModelFile(
                "buffalo_l.zip",
                WebFile(f"{_ZOO}/buffalo_l.zip"),
                288_621_354,
                "80ffe37d8a5940d59a7384c201a2a38d4741f2f3c51eef46ebb28218a7b0ca2f",
                archive=True,
                members=(
                    Member("det_10g.onnx", *_SCRFD_10G),
                    Member("w600k_r50.onnx", 174_383_860, "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43"),
                    *_EXTRAS,
                ),
            ),
        ),
        licence=_INSIGHTFACE,
        commercial=False,
        page="https://github.com/deepinsight/insightface/tree/master/model_zoo",
        what="ArcFace R50 embedder with the SCRFD-10G detector; the pack that most guides and face-swap nodes use",
    ),
    ModelEntry(
        name="antelopev2",
        title="InsightFace antelopev2",
        folder="insightface/models/antelopev2",
        files=(
            # Its members lie in a folder antelopev2/, which is why unpacking it by hand so often ends in antelopev2/antelopev2.
            ModelFile(
                "antelopev2.zip",
                WebFile(f"{_ZOO}/antelopev2.zip"),
                360_662_982,
                "8e182f14fc6e80b3bfa375b33eb6cff7ee05d8ef7633e738d1c89021dcf0c5c5",
                archive=True,
                members=(
                    Member("scrfd_10g_bnkps.onnx", *_SCRFD_10G),
                    Member("glintr100.onnx", 260_665_334, "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf"),
                    *_EXTRAS,
                ),
            ),
        ),
        licence=_INSIGHTFACE,
        commercial=False,
        page="https://github.com/deepinsight/insightface/tree/master/model_zoo",
        what="ArcFace R100 embedder with the SCRFD-10G detector",
    ),
    ModelEntry(
        name="mediapipe-face-detector",
        title="MediaPipe face detector",
        folder="mediapipe",
        files=(
            ModelFile(
                "blaze_face_short_range.tflite",
                WebFile(f"{_MEDIAPIPE}/face_detector/blaze_face_short_range/float16/1/blaze_face_short_range.tflite"),
                229_746,
                "b4578f35940bf5a1a655214a1cce5cab13eba73c1297cd78e1a04c2380b0152f",
            ),
        ),
        licence="Apache-2.0",
        commercial=True,
        page=f"{_MEDIAPIPE_PAGES}/face_detector",
        what="BlazeFace, short range: faces that fill a good part of the picture",
    ),
    ModelEntry(
        name="mediapipe-face-landmarker",
        title="MediaPipe face landmarker",
        folder="mediapipe",
        files=(
            ModelFile(
                "face_landmarker.task",
                WebFile(f"{_MEDIAPIPE}/face_landmarker/face_landmarker/float16/1/face_landmarker.task"),
                3_758_596,
                "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
            ),
        ),
        licence="Apache-2.0",
        commercial=True,
        page=f"{_MEDIAPIPE_PAGES}/face_landmarker",
        what="478 face landmarks, expression and head pose",
    ),
    ModelEntry(
        name="mediapipe-pose-landmarker",
        title="MediaPipe pose landmarker (full)",
        folder="mediapipe",
        files=(
            ModelFile(
                "pose_landmarker_full.task",
                # Not `latest`: that address now serves another file of the same length (sha256 4eaa5eb7...).
                WebFile(f"{_MEDIAPIPE}/pose_landmarker/pose_landmarker_full/float16/1/pose_landmarker_full.task"),
                9_398_198,
                "5134a3aad27a58b93da0088d431f366da362b44e3ccfbe3462b3827a839011b1",
            ),
        ),
        licence="Apache-2.0",
        commercial=True,
        page=f"{_MEDIAPIPE_PAGES}/pose_landmarker",
        what="33 body landmarks, for the framing of a shot",
    ),
    ModelEntry(
        name="mediapipe-selfie-multiclass",
        title="MediaPipe selfie segmenter (multiclass)",
        folder="mediapipe",
        files=(
            ModelFile(
                "selfie_multiclass_256x256.tflite",
                WebFile(f"{_MEDIAPIPE}/image_segmenter/selfie_multiclass_256x256/float32/1/selfie_multiclass_256x256.tflite"),
                16_371_837,
                "c6748b1253a99067ef71f7e26ca71096cd449baefa8f101900ea23016507e0e0",
            ),
        ),
        licence="Apache-2.0",
        commercial=True,
        page=f"{_MEDIAPIPE_PAGES}/image_segmenter",
        what="hair, face skin, body skin, clothes and background, for character masks",
    ),
    ModelEntry(
        name="flux-ip-adapter",
        title="XLabs Flux IP-Adapter v1",
        folder="xlabs/ipadapters",
        files=(
            ModelFile(
                "flux-ip-adapter.safetensors",
                HubFile("XLabs-AI/flux-ip-adapter", "ip_adapter.safetensors"),
                982_000_000,  # approximate: the page says 982 MB; 490,874,880 parameters in bf16 and a header
                "750f912149b84bbb0c2a6ce90ffa7e78afd1795821407718724ebcd36372dc2d",
            ),
        ),
        licence=_FLUX,
        commercial=False,
        page="https://huggingface.co/XLabs-AI/flux-ip-adapter",
        what="image prompt for FLUX.1 [dev], 4 tokens; needs clip-vit-large-patch14",
    ),
    ModelEntry(
        name="flux-ip-adapter-v2",
        title="XLabs Flux IP-Adapter v2",
        folder="xlabs/ipadapters",
        files=(
            ModelFile(
                "flux-ip-adapter-v2.safetensors",
                HubFile("XLabs-AI/flux-ip-adapter-v2", "ip_adapter.safetensors"),
                1_057_000_000,  # approximate: the page says 1.06 GB; 528,672,768 parameters in bf16 and a header
                "8f2bfddaffc4fe2a6667bef24c8ce6075e81d01d0f6b0f9adbe46ad686057ee2",
            ),
        ),
        # Its card says Apache-2.0; XLabs' repository puts all its Flux weights under the FLUX.1 [dev] licence, which we follow.
        licence=_FLUX,
        commercial=False,
        page="https://huggingface.co/XLabs-AI/flux-ip-adapter-v2",
        what="image prompt for FLUX.1 [dev], 16 tokens; needs clip-vit-large-patch14",
    ),
    ModelEntry(
        name="flux-ip-adapter-instantx",
        title="InstantX Flux IP-Adapter",
        folder="ipadapter-flux",
        files=(
            ModelFile(
                "ip-adapter.bin",
                HubFile("InstantX/FLUX.1-dev-IP-Adapter", "ip-adapter.bin"),
                5_290_000_000,  # approximate: the page says 5.29 GB
                "01aaeb0dace9ea4feee1007d30e41c59847041c116db8c2bcc14f9c91d491203",
            ),
        ),
        licence=_FLUX,
        commercial=False,
        page="https://huggingface.co/InstantX/FLUX.1-dev-IP-Adapter",
        what="image prompt for FLUX.1 [dev], 128 tokens; needs siglip-so400m",
    ),
    ModelEntry(
        name="clip-vit-large-patch14",
        title="CLIP ViT-L/14 image encoder",
        folder="clip_vision",
        files=(
            ModelFile(
                "clip-vit-large-patch14.safetensors",
                HubFile("openai/clip-vit-large-patch14", "model.safetensors"),
                1_710_540_580,
                "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
            ),
        ),
        licence="MIT",
        commercial=True,
        page="https://huggingface.co/openai/clip-vit-large-patch14",
        what="the encoder of the XLabs Flux IP-Adapters",
    ),
    ModelEntry(
        name="siglip-so400m",
        title="SigLIP so400m-patch14-384 image encoder",
        folder="clip_vision",
        files=(
            ModelFile(
                "sigclip_vision_patch14_384.safetensors",
                HubFile("Comfy-Org/sigclip_vision_384", "sigclip_vision_patch14_384.safetensors"),
                856_505_640,
                "1fee501deabac72f0ed17610307d7131e3e9d1e838d0363aa3c2b97a6e03fb33",
            ),
        ),
        licence="Apache-2.0",
        commercial=True,
        page="https://huggingface.co/Comfy-Org/sigclip_vision_384",
        what="the encoder of the InstantX Flux IP-Adapter (and of Flux Redux)",
    ),
)

CATALOGUE: dict[str, ModelEntry] = {item.name: item for item in _ENTRIES}


def entry(name: str) -> ModelEntry:
    """The catalogue entry called `name`. Raises InputError with the names that exist."""
    if name not in CATALOGUE:
        raise InputError(f"There is no model called {name!r} in the catalogue; choose one of {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def find_models_dir(explicit: str | Path | None = None) -> Path:
    """ComfyUI's `models` folder: `explicit`, else COMFYUI_ROOT/models, else that of the ComfyUI around the pack.

    Raises InputError where a folder that was named does not exist (a typing error must not grow a second models tree), MissingModelError where
    none was named and the pack does not lie in a ComfyUI.
    """
    root = os.environ.get("COMFYUI_ROOT")
    for named, origin in ((explicit, "--models-dir"), (root and Path(root, "models"), "COMFYUI_ROOT")):
        if named:
            if not Path(named).is_dir():
                raise InputError(f"The models folder {named} (from {origin}) does not exist; create it or name ComfyUI's own models folder.")
            return Path(named)
    around = PACK.parent.parent / "models"
    if not in_custom_nodes() or not around.is_dir():
        raise MissingModelError("No ComfyUI models folder was found: name it with --models-dir, or set COMFYUI_ROOT to the folder of your ComfyUI.")
    return around


def find_models_dir_or_none(explicit: str | Path | None = None) -> Path | None:
    """`find_models_dir`, with None instead of an error: for a recognizer that can do without."""
    try:
        return find_models_dir(explicit)
    except LikenessError:
        return None


def human_size(size: int) -> str:
    """Bytes in decimal units with three digits, as Hugging Face shows them: 232589 -> '233 kB'."""
    value = float(size)
    for unit in ("bytes", "kB", "MB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def missing_sentence(name: str, models_dir: str | Path | None) -> str:
    """Which files are missing, how large the download is, its licence, the folder, and the one command that gets it."""
    item = entry(name)
    gone = item.missing(models_dir)
    size = sum(file.size for file in item.files if set(file.provides) & set(gone))
    folder = Path(models_dir, item.folder) if models_dir is not None else f"models/{item.folder} of your ComfyUI"
    return (
        f"{item.title} is not installed: {' and '.join(gone)} ({human_size(size)}; licence: {item.licence}) must lie in {folder}; "
        f"`{item.command}{_elsewhere(models_dir)}` puts them there."
    )


def _elsewhere(models_dir: str | Path | None) -> str:
    """What the command needs besides, where it does not lie in the ComfyUI whose models folder is meant."""
    if in_custom_nodes() or os.environ.get("COMFYUI_ROOT"):
        return ""
    return f" --models-dir {models_dir if models_dir is not None else 'COMFYUI/models'}"


def rows(models_dir: str | Path | None) -> list[dict]:
    """The catalogue as plain data, for `likeness models list` and its `--json`. `size` in bytes, `folder` relative to `models`."""
    return [
        {
            "name": item.name,
            "title": item.title,
            "size": item.total_size,
            "licence": item.licence,
            "commercial": item.commercial,
            "folder": item.folder,
            "present": item.present(models_dir),
        }
        for item in CATALOGUE.values()
    ]
