"""The real ComfyUI-ReActor pack in a host of its own, on the models of tests/tiny/reactor_models.py; graphs with its nodes, and pictures for them.

The pack is looked for at REACTOR_ROOT, else at ~/comfy/peers/ComfyUI-ReActor. A copy of it is started, because it keeps the models that find faces
for the restorer two folders above its own files, wherever a link points. Nothing can be downloaded: every proxy is a closed port.
"""

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np

from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy
from tests.host.graphs import Graph, Node
from tests.tiny import reactor_models
from tests.tiny.reactor_models import SWAPPER

SWAP = {
    "enabled": True,
    "swap_model": SWAPPER,
    "facedetection": "retinaface_mobile0.25",
    "face_restore_model": "none",
    "face_restore_visibility": 1.0,
    "codeformer_weight": 0.5,
}
OPTIONS = {
    "input_faces_order": "large-small",
    "input_faces_index": "0",
    "detect_gender_input": "no",
    "source_faces_order": "large-small",
    "source_faces_index": "0",
    "detect_gender_source": "no",
    "console_log_level": 1,
    "restore_swapped_only": True,
}
SWAPPED, FACE_MODEL, ORIGINAL = range(3)


def reactor_root() -> Path:
    return Path(os.environ.get("REACTOR_ROOT") or Path.home() / "comfy" / "peers" / "ComfyUI-ReActor")


def absent() -> str | None:
    """Why the pack cannot be tested with, or None."""
    if not (reactor_root() / "scripts" / "reactor_swapper.py").is_file():
        return "no ComfyUI-ReActor at REACTOR_ROOT or ~/comfy/peers/ComfyUI-ReActor"
    if importlib.util.find_spec("segment_anything") is None:
        return "not installed: segment_anything"
    return None


def start(base: Path, extra: tuple[Path, ...] = ()) -> Comfy:
    """A host at `base` with the pack, this one and `extra`. About 20 s, most of it imports."""
    reactor_models.write_all(base / "models", reactor_root())
    shutil.copytree(reactor_root(), base / "custom_nodes" / "ComfyUI-ReActor", ignore=shutil.ignore_patterns(".git", "__pycache__"))
    return _OfflineComfy(comfyui_root(), ROOT, base, extra)


class _OfflineComfy(Comfy):
    """A host whose own requests all end at a closed port."""

    def __init__(self, *args):
        proxies = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
        self._before = {name: os.environ.get(name) for name in proxies}
        os.environ.update(proxies)
        super().__init__(*args)

    def _wait(self) -> None:
        # The host runs by now. urllib would remember the proxies for this process too.
        for name, value in self._before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        super()._wait()


# ---- graphs ----------------------------------------------------------------------------------------------------------


def batch(graph: Graph, files: list[str], name: str = "picture") -> list:
    """One IMAGE of uploaded files of one size, in their order."""
    image, *others = (graph.picture(f"{name} {i}", file) for i, file in enumerate(files))
    for i, other in enumerate(others, 1):
        image = graph.add(f"{name} 0 to {i}", "ImageBatch", image1=image, image2=other).out(0)
    return image


def swap(graph: Graph, image, source=None, /, name: str = "swap", options: dict | None = {}, boost: dict | None = None, **inputs) -> Node:  # noqa: B006
    """ReActorFaceSwapOpt with SWAP and `inputs`. options: what differs from OPTIONS; None wires no ReActorOptions at all."""
    sockets = {"input_image": image} | ({} if source is None else {"source_image": source})
    if options is not None:
        sockets["options"] = graph.add(f"{name} options", "ReActorOptions", **(OPTIONS | options)).out(0)
    if boost is not None:
        sockets["face_boost"] = graph.add(f"{name} boost", "ReActorFaceBoost", **boost).out(0)
    return graph.add(name, "ReActorFaceSwapOpt", **(SWAP | sockets | inputs))


# ---- pictures --------------------------------------------------------------------------------------------------------


def painted(*people: tuple[int, int, int, int], size: tuple[int, int] = (640, 640), **look) -> np.ndarray:
    """A gray picture of `size` (width, height) with painted faces. people: identity 0..7 (even: female), x, y, size of the face.

    look: as in face_packs.painted_face; likeness 0.3 is somebody who resembles the identity by 0.3.
    """
    from tests.tiny import face_packs  # which imports onnx

    picture = face_packs.background(*size)
    for identity, x, y, side in people:
        face_packs.paint(picture, identity, x, y, side, **look)
    return picture


class Judge:
    """Who is in a picture, by this pack's own recognizer buffalo_l."""

    def __init__(self, recognizer):
        from character_likeness.nodes.pictures import Picture
        from tests.tiny.face_packs import IDENTITIES

        self._recognizer, self._picture = recognizer, Picture
        plain = [Picture(painted((identity, 60, 60, 200), size=(320, 320))) for identity in range(IDENTITIES)]
        self._people = np.stack([found.faces[0].embedding for found in recognizer.faces(plain)])

    def scores(self, picture: np.ndarray) -> np.ndarray:
        """Likeness scores [faces from left to right, the eight people]."""
        (found,) = self._recognizer.faces([self._picture(picture)])
        faces = sorted(found.faces, key=lambda face: face.box[0])
        return np.stack([self._recognizer.score(self._people, face.embedding) for face in faces]) if faces else np.zeros((0, len(self._people)))

    def people(self, picture: np.ndarray) -> list[int | None]:
        """The faces from left to right: the identity 0..7 that passes at 0.5, strict, or None."""
        return [int(row.argmax()) if row.max() >= 0.5 else None for row in self.scores(picture)]
