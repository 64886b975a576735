"""The edge to ComfyUI that all rooms share: image lists and pictures, progress and interrupt, previews, folders, settings.

The engine never imports this; a room's nodes.py does.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image
from server import PromptServer

from .errors import InputError
from .installation import COMMERCIAL_VARIABLE, switched_on

if TYPE_CHECKING:
    from .pictures import Picture

log = logging.getLogger("likeness")

IDENTITIES = "likeness_identities"
COMMERCIAL_SETTING = "Likeness.CommercialUseOnly"

# Pictures shown in a node, and how large: a look at the verdicts, not the pictures themselves.
MOST_PREVIEWS = 60
PREVIEW_SIDE = 512
PREVIEW_QUALITY = 85
# Thumbnails in a panel: how large, and how many have one; further pictures stand there by score alone.
THUMBNAIL_SIDE = 192
MOST_THUMBNAILS = 1000


def one(values: list, what: str):
    """The single value of an input that takes one, in a node that takes lists. Raises InputError when several are wired to it."""
    if len(values) != 1:
        raise InputError(f"{what} takes one value, {len(values)} are wired to it.")
    return values[0]


class Frames:
    """A list of image batches seen as single frames in order, and cut down again to some of them.

    images: list of float tensors [B,H,W,C]; sizes may differ from batch to batch.
    """

    def __init__(self, images: Sequence[torch.Tensor]):
        for image in images:
            if not isinstance(image, torch.Tensor) or image.ndim != 4:
                shape = tuple(getattr(image, "shape", ()))
                raise InputError(f"An image must be a batch [B,H,W,C], this one has the shape {shape}.")
        self.images = images
        self.counts = [image.shape[0] for image in images]
        if not sum(self.counts):
            raise InputError("No picture arrived: the image input is an empty list or batch.")

    def __len__(self) -> int:
        return sum(self.counts)

    def pictures(self) -> list[Picture]:
        from .pictures import from_floats

        # Hashing and converting release Python's lock: two threads take half the time.
        with ThreadPoolExecutor() as threads:
            return list(threads.map(from_floats, (frame for image in self.images for frame in image.float().cpu().numpy())))

    def only(self, keep: Sequence[bool]) -> list[torch.Tensor]:
        """The batches minus the frames that are not kept; a batch of which nothing is left vanishes. Kept frames are untouched."""
        out, start = [], 0
        for image, count in zip(self.images, self.counts):
            rows = [i for i in range(count) if keep[start + i]]
            start += count
            if rows and rows[-1] - rows[0] + 1 == len(rows):
                # Neighbours are a view, which costs nothing.
                out.append(image[rows[0] : rows[-1] + 1])
            elif rows:
                out.append(image[rows])
        return out

    def like(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """One tensor per frame, stacked to batches as the input was."""
        out, start = [], 0
        for count in self.counts:
            if count:
                out.append(torch.stack(list(values[start : start + count])))
            start += count
        return out

    def images_like(self, pictures: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """One uint8 picture [H,W,3] per frame as ComfyUI's images, batched as the input was."""
        from .pictures import to_floats

        out, start = [], 0
        with ThreadPoolExecutor() as threads:
            for count in self.counts:
                if count:
                    batch = torch.empty((count, *pictures[start].shape), dtype=torch.float32)
                    list(threads.map(to_floats, pictures[start : start + count], batch.numpy()))
                    out.append(batch)
                start += count
        return out


def to_image(pixels: np.ndarray) -> torch.Tensor:
    """A uint8 picture [H,W,3] as ComfyUI's image, float32 [1,H,W,3] in 0..1."""
    return torch.from_numpy(np.array(pixels)).to(torch.float32).div_(255).unsqueeze(0)


def or_block(values: list):
    """A list output, or a quiet stop for what hangs on it when it is empty (an empty list crashes mapped nodes)."""
    return values if values else ExecutionBlocker(None)


class Progress:
    """The node's progress bar over a known number of pictures; a picture looked at again does not move it. Raises when the user interrupts."""

    def __init__(self, total: int):
        self._bar = comfy.utils.ProgressBar(total)
        self._total, self._done = total, 0

    def __call__(self) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._done < self._total:
            self._done += 1
            self._bar.update_absolute(self._done)


def server_here() -> PromptServer | None:
    """The host's server; None where nodes are run by a program that has none."""
    return getattr(PromptServer, "instance", None)


class LiveNode:
    """A node while it runs: its progress bar with a line of text below, and pictures that appear in it as they come.

    node_id: its unique_id; prompt: the host's dynprompt, for the node that the user sees when this one is inside an expansion.
    """

    def __init__(self, node_id: str, prompt=None):
        self._node, self._shown = node_id, prompt.get_display_node_id(node_id) if prompt is not None else node_id
        self._images: list[dict] = []
        self._bar = None

    def check(self) -> None:
        """Raises when the user interrupts."""
        comfy.model_management.throw_exception_if_processing_interrupted()

    def progress(self, done: float, total: float, preview=None) -> None:
        """So much of the total is done; preview: as the host's previewers give it."""
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done, total, preview)

    def tell(self, text: str) -> None:
        server = server_here()
        # Without a client that asked, the host would tell all of them.
        if server is not None and server.client_id is not None:
            server.send_progress_text(text, self._node, server.client_id)

    def show(self, picture: np.ndarray) -> None:
        """Add a uint8 picture to those that the node shows."""
        server = server_here()
        if server is None or server.client_id is None or len(self._images) >= MOST_PREVIEWS:
            return
        # Without room on the disk a picture is made all the same.
        try:
            self._images.append(_write_preview(picture, PREVIEW_SIDE))
        except OSError:
            return
        told = {"node": self._node, "display_node": self._shown, "output": {"images": list(self._images)}, "prompt_id": server.last_prompt_id}
        server.send_sync("executed", told, server.client_id)


def save_picture(image: torch.Tensor, prefix: str, node: type[io.ComfyNode]) -> Path:
    """Save a picture [1,H,W,3] in the output folder under a prefix and the next number, with the workflow in it, as the host's Save Image does.

    Raises InputError, with nothing half-written left.
    """
    output, target, taken = folder_paths.get_output_directory(), None, True
    try:
        folder, name, number, *_ = folder_paths.get_save_image_path(prefix, output, image.shape[2], image.shape[1])
        # As ImageSaveHelper names it, which leaves what it has written of a file when the disk is full.
        target = Path(folder, f"{name.replace('%batch_num%', '0')}_{number:05}_.png")
        taken = target.exists()
        (saved,) = ui.ImageSaveHelper.save_images(image, prefix, io.FolderType.output, node)
    except OSError as error:
        if not taken:
            with suppress(OSError):
                target.unlink(missing_ok=True)
        raise InputError(unwritable(Path(output, prefix).parent, error)) from None
    return Path(output, saved.subfolder, saved.filename)


def unwritable(folder: Path, error: OSError) -> str:
    """What is said of a run that could not save what it made, and remembers it."""
    return (
        f"{folder} cannot be written ({error.strerror or error}): make room there, or choose another save_as, and queue again; what is made is kept until then."
    )


def previews(pictures: Sequence[np.ndarray], longest: int = PREVIEW_SIDE) -> dict:
    """Small copies of uint8 pictures in the host's temp folder, as the `ui` value that shows them in the node."""
    with ThreadPoolExecutor() as threads:
        return {"images": list(threads.map(lambda picture: _write_preview(picture, longest), pictures[:MOST_PREVIEWS]))}


def _write_preview(picture: np.ndarray, longest: int) -> dict:
    from .pictures import small_copy

    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    name = f"likeness_{uuid.uuid4().hex}.jpg"
    Image.fromarray(small_copy(picture, longest)).save(folder / name, quality=PREVIEW_QUALITY)
    return {"filename": name, "subfolder": "", "type": "temp"}


def thumbnails(pictures: Sequence[Picture]) -> list[str | None]:
    """Names of small copies of pictures in the host's temp folder, None from MOST_THUMBNAILS on. The name is the content's, so a copy is written once."""
    with ThreadPoolExecutor() as threads:
        written = list(threads.map(_write_thumbnail, pictures[:MOST_THUMBNAILS]))
    return written + [None] * (len(pictures) - len(written))


def _write_thumbnail(picture: Picture) -> str:
    from .pictures import small_copy

    return kept_thumbnail(picture.key, lambda: _jpeg(small_copy(picture.pixels, THUMBNAIL_SIDE)))


def kept_thumbnail(key: bytes, encoded: Callable[[], bytes]) -> str:
    """The name of a small JPEG in the host's temp folder, by the content key of its picture; written where it is not there."""
    folder = Path(folder_paths.get_temp_directory())
    name = f"likeness_{key.hex()}.jpg"
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: the same picture may be asked for by two runs.
        part = folder / f"likeness_{uuid.uuid4().hex}.part"
        part.write_bytes(encoded())
        part.replace(folder / name)
    return name


def _jpeg(pixels: np.ndarray) -> bytes:
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=PREVIEW_QUALITY)
    return encoded.getvalue()


def file_state(path: str | Path | None) -> list:
    """What tells one state of a file from another; empty where there is none."""
    try:
        state = Path(path).stat()
    except (TypeError, OSError):
        return []
    return [str(path), state.st_mtime_ns, state.st_size]


def models_dir() -> Path:
    return Path(folder_paths.models_dir)


def identities_dir() -> Path:
    """Where identities are saved and looked for; known to the host as a model folder, so extra_model_paths.yaml can add others."""
    return models_dir() / "likeness" / "identities"


def register_folders() -> None:
    folder_paths.add_model_folder_path(IDENTITIES, str(identities_dir()))
    # A folder that is only added lists every file in it: the extensions go beside it.
    paths, _ = folder_paths.folder_names_and_paths[IDENTITIES]
    folder_paths.folder_names_and_paths[IDENTITIES] = (paths, {".safetensors"})


def commercial_only() -> bool:
    """Whether only recognizers cleared for commercial use may be used: the environment variable of the operator, or the editor's setting.

    The setting can be changed by anyone who reaches the host; the variable, where it is set to 1, cannot be undone by it.
    """
    if switched_on(COMMERCIAL_VARIABLE):
        return True
    users = Path(folder_paths.get_user_directory())
    for settings in (users / "default" / "comfy.settings.json", *users.glob("*/comfy.settings.json")):
        try:
            if _settings(settings, settings.stat().st_mtime_ns).get(COMMERCIAL_SETTING) is True:
                return True
        except OSError:
            continue
    return False


@lru_cache(maxsize=16)
def _settings(file: Path, modified: int) -> dict:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


_told: set[str] = set()


def tell_once(sentences: Sequence[str]) -> list[str]:
    """Log each sentence the first time it comes in this process; gives all of them back, for the report."""
    for sentence in sentences:
        if sentence not in _told:
            _told.add(sentence)
            log.warning(sentence)
    return list(sentences)
