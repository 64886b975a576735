"""Pictures as the recognizers see them: 8-bit RGB with a content key. Reading files and floats lives here, measuring does not."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, PictureError

# What a folder is searched for. A file named outright is tried whatever it is called.
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"})
# A float picture is [0, 1]; decoders overshoot by rounding. Only beyond this is it worth a word in the report.
RANGE_SLACK = 0.02
# Floats are converted a few rows at a time, which stay in the processor's cache.
BLOCK_ROWS = 64


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture. `pixels` uint8 [H,W,3] RGB; `notes` what had to be mended to read it; `key` identifies the content."""

    pixels: np.ndarray
    notes: tuple[str, ...] = ()
    key: bytes = field(init=False, repr=False)

    def __post_init__(self):
        digest = hashlib.blake2b(repr(self.pixels.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.pixels))
        object.__setattr__(self, "key", digest.digest())

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


def from_floats(pixels: np.ndarray) -> Picture:
    """A Picture from a float array [H,W,C] in 0..1 with 1 to 4 channels (ComfyUI's layout, one frame).

    One channel is repeated and alpha dropped, as the host's own nodes do; NaN becomes 0 and values outside 0..1 are clipped, both said in `notes`.
    Rounds to the nearest level, so a picture loaded from a file gives the file's own 8-bit values.
    Raises InputError for another number of dimensions or channels, or an empty side.
    """
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4 or 0 in pixels.shape:
        raise InputError(f"A picture must be height x width x 1 to 4 channels, this one has the shape {tuple(pixels.shape)}.")
    notes = []
    if pixels.shape[2] != 3:
        notes.append(f"{pixels.shape[2]} channel{'s' if pixels.shape[2] > 1 else ''} read as RGB")
        pixels = np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3]
    levels = np.empty(pixels.shape, np.uint8)
    lowest, highest, finite = np.inf, -np.inf, True
    for start in range(0, len(pixels), BLOCK_ROWS):
        rows = pixels[start : start + BLOCK_ROWS]
        low, high = rows.min(), rows.max()
        if not np.isfinite(low) or not np.isfinite(high):
            finite = False
            rows = np.nan_to_num(rows, nan=0.0, posinf=1.0, neginf=0.0)
            low, high = rows.min(), rows.max()
        lowest, highest = min(lowest, low), max(highest, high)
        scaled = np.clip(rows, 0, 1) if low < 0 or high > 1 else rows
        scaled = scaled * np.float32(255)
        scaled += np.float32(0.5)
        levels[start : start + BLOCK_ROWS] = scaled
    if not finite:
        notes.append("values that are no finite number read as 0 or 1")
    if lowest < -RANGE_SLACK or highest > 1 + RANGE_SLACK:
        notes.append(f"values from {lowest:.2f} to {highest:.2f} clipped to 0..1")
    return Picture(levels, tuple(notes))


def to_floats(levels: np.ndarray, out: np.ndarray) -> None:
    """Write a picture uint8 [H,W,3] into `out` float32 [H,W,3] as values 0..1."""
    np.divide(levels, np.float32(255), out=out, casting="unsafe")


def read_picture(path: Path) -> Picture:
    """The picture in a file, upright (EXIF), first frame, alpha dropped (all as the host's Load Image reads it). Raises PictureError naming the file and the fault."""
    from PIL import ImageOps

    with opened(path) as image:
        image = ImageOps.exif_transpose(image)
        return Picture(np.asarray(in_eight_bits(image).convert("RGB")))


@contextmanager
def opened(path: Path, decode: bool = True) -> Iterator[Any]:
    """A Pillow image of a file, for the block; whatever goes wrong in it is PictureError naming the file and the fault. decode: False reads the header only."""
    from PIL import Image, UnidentifiedImageError

    try:
        if path.stat().st_size == 0:
            raise PictureError(f"{path} is empty (0 bytes).")
        with warnings.catch_warnings():
            # Pillow warns from 89 and refuses from 179 megapixels; what it still reads is read.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if decode:
                    image.load()
                yield image
    except FileNotFoundError:
        raise PictureError(f"{path} does not exist.") from None
    except PermissionError:
        raise PictureError(f"{path} cannot be read: permission denied.") from None
    except UnidentifiedImageError:
        raise PictureError(f"{path} is not a picture that can be read, whatever its name says.") from None
    except Image.DecompressionBombError:
        raise PictureError(
            f"{path} is larger than {2 * Image.MAX_IMAGE_PIXELS // 10**6} megapixels, which is refused as a possible decompression bomb."
        ) from None
    except PictureError:
        raise
    except Exception as error:
        # On damaged data each of Pillow's decoders raises its own: OSError, SyntaxError, ValueError, RuntimeError, struct.error and more.
        raise PictureError(f"{path} is damaged or cut off ({str(error).rstrip('.')}).") from None


def in_eight_bits(image: Any) -> Any:
    """A Pillow image of 16-bit grey scaled to 8 bits, any other as it is: Pillow's own conversion clips at 255."""
    if image.mode not in ("I;16", "I;16B", "I;16L", "I"):
        return image
    from PIL import Image

    return Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8))


def find_pictures(paths: Iterable[Path]) -> Iterator[Path]:
    """The named files, and below the named folders every picture file by name, sorted folder by folder.

    Hidden files and folders are passed over and links to folders are not followed. Raises PictureError for a path that does not exist or a folder
    that cannot be listed.
    """
    for path in paths:
        try:
            is_folder, exists = path.is_dir(), path.exists()
        except OSError as error:
            raise PictureError(f"{path} cannot be read ({error.strerror}).") from None
        if not exists:
            raise PictureError(f"{path} does not exist.")
        if is_folder:
            yield from (file for file in files_below(path) if file.suffix.lower() in PICTURE_SUFFIXES)
        else:
            yield path


def files_below(folder: Path, recursive: bool = True) -> Iterator[Path]:
    """Every file in a folder, sorted, folder by folder. Hidden ones are passed over, links to folders not followed. Raises PictureError for a folder that cannot be listed."""
    try:
        # A folder that may be listed but not entered refuses only the second question.
        entries = [(entry, entry.is_dir()) for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    except OSError as error:
        raise PictureError(f"The folder {folder} cannot be read ({error.strerror}).") from None
    for entry, is_folder in entries:
        if not is_folder:
            yield entry
        elif recursive and not entry.is_symlink():
            yield from files_below(entry)


def small_copy(pixels: np.ndarray, longest: int) -> np.ndarray:
    """A picture [H,W,3] or mask [H,W] made at most `longest` pixels wide and high, for previews."""
    import cv2

    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
