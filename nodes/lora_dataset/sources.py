"""Pictures of a dataset as they lie in files: opened when needed, as a trainer is to see them, with what they say of their own making.

What is done to a picture here is all that an export does to it. Judging pictures, writing captions and laying out folders is done elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import unicodedata
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import InputError, LikenessError, PictureError
from ..files import checked_name
from ..installation import needed
from ..pictures import PICTURE_SUFFIXES, Picture, files_below, in_eight_bits, opened
from .dataset import CHARACTER, Bucket, Dataset, DatasetItem
from .origins import made_by
from .targets import JOURNAL, OURS

# A trainer's cache adds up to 40 characters to a stem, and 255 bytes are the most that a name may have.
LONGEST_STEM = 150
# Files looked at are remembered by path, size and time; 300 bytes each.
REMEMBERED = 50_000
# Level 1 with run lengths and one filter for all rows takes half the time of a usual level 1 and no more room (a 1 MP photograph: 50 and 105 ms,
# 1.40 and 1.43 MB; level 6 saves another 10% for 360 ms).
PNG_LEVEL = 1
WHITE = (255, 255, 255)
EXIF_ORIENTATION = 0x0112
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The longest list of files that a note names.
MOST_NAMED = 5


@dataclass(frozen=True)
class FileSource:
    """A picture in a file. label: what a user knows it by, where that is not its path. Nothing is kept of the picture."""

    path: Path
    label: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        return self.label or str(self.path)

    @property
    def key(self) -> str:
        """32 hexadecimal digits (BLAKE2b) of the file's bytes, remembered until its size or time changes. Raises PictureError."""
        return _key_of(*self._state())

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of `pixels`, in most cases without decoding. Raises PictureError."""
        return _size_of(*self._state())

    @property
    def clean(self) -> bool:
        """Whether the file is a PNG that holds `pixels` and nothing else, so that its bytes may stand for them. Raises PictureError."""
        return _is_clean(*self._state())

    def pixels(self) -> np.ndarray:
        """uint8 [H,W,3], as `read` gives it. Raises PictureError."""
        return self.read()[0]

    def read(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The picture, and in a few words each what was done to it.

        Upright by its EXIF, in sRGB by its colour profile, 16 bits scaled to 8, flattened onto white, the first one of an animation. A colour
        profile that cannot be used is taken for sRGB. Raises PictureError naming the file and the fault.
        """
        from PIL import ImageOps

        notes: list[str] = []
        with opened(self.path) as image:
            if (frames := getattr(image, "n_frames", 1)) > 1:
                notes.append(f"the first of {frames} pictures in the file")
            if image.mode == "F":
                raise PictureError(f"{self.path} has pixels in floating point, whose white is not known; save it with 8 or 16 bits.")
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            image = ImageOps.exif_transpose(image)
            if orientation in range(2, 9):
                notes.append("turned upright as its EXIF says")
            profile = image.info.get("icc_profile")
            if image.mode.startswith("I"):
                notes.append("16 bits scaled to 8")
                image = in_eight_bits(image)
            pixels = np.asarray(_flat_srgb(image, profile, notes))
        return pixels, tuple(notes)

    def _state(self) -> tuple[str, int, int]:
        try:
            state = self.path.stat()
        except FileNotFoundError:
            raise PictureError(f"{self.path} does not exist.") from None
        except OSError as error:
            raise PictureError(f"{self.path} cannot be read ({error.strerror}).") from None
        return str(self.path), state.st_mtime_ns, state.st_size


@lru_cache(REMEMBERED)
def _key_of(path: str, mtime_ns: int, size: int) -> str:
    try:
        with open(path, "rb") as file:
            digest = hashlib.blake2b(digest_size=16)
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise PictureError(f"{path} cannot be read ({error.strerror}).") from None


@lru_cache(REMEMBERED)
def _size_of(path: str, mtime_ns: int, size: int) -> tuple[int, int]:
    with opened(Path(path), decode=False) as image:
        if image.format == "PNG" and "exif" not in image.info:
            # Pillow decodes the whole picture to look for an orientation behind it.
            if b"eXIf" in _chunks(path):
                height, width = FileSource(Path(path)).pixels().shape[:2]
                return width, height
            return image.size
        turned = image.getexif().get(EXIF_ORIENTATION, 1) in range(5, 9)
        return image.size[::-1] if turned else image.size


@lru_cache(REMEMBERED)
def _is_clean(path: str, mtime_ns: int, size: int) -> bool:
    try:
        with open(path, "rb") as file:
            # Bit depth 8 and colour type 2, which is RGB (PNG specification, 11.2.1).
            if file.read(26)[24:] != b"\x08\x02":
                return False
    except OSError as error:
        raise PictureError(f"{path} cannot be read ({error.strerror}).") from None
    kinds = _chunks(path)
    return kinds[:1] == [b"IHDR"] and kinds[-1] == b"IEND" and set(kinds[1:-1]) == {b"IDAT"}


def _chunks(path: str) -> list[bytes]:
    """What a PNG consists of, in order; an empty name where it is cut off or goes on behind its end."""
    kinds = []
    with open(path, "rb") as file:
        if file.read(8) != PNG_SIGNATURE:
            return kinds
        end, place = os.fstat(file.fileno()).st_size, 8
        while place < end and kinds[-1:] != [b"IEND"]:
            file.seek(place)
            head = file.read(8)
            place += int.from_bytes(head[:4], "big") + 12
            kinds.append(head[4:])
        return kinds if place == end and kinds[-1:] == [b"IEND"] else [*kinds, b""]


# --- colours ---


def _flat_srgb(image, profile: bytes | None, notes: list[str]):
    from PIL import Image

    alpha = None
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        alpha = whole.getchannel("A")
        image = image.convert("L") if image.mode in ("LA", "La") else whole.convert("RGB")
    image = _in_srgb(image, profile, notes)
    if alpha is None or alpha.getextrema()[0] == 255:
        return image
    notes.append("transparent parts on white")
    flat = Image.new("RGB", image.size, WHITE)
    flat.paste(image, mask=alpha)
    return flat


# The kinds of picture that a profile's colour space belongs to.
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def _in_srgb(image, profile: bytes | None, notes: list[str]):
    from PIL import ImageCms

    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    if profile:
        try:
            space, name = _profile(profile)
            mode = _SPACES.get(space, "")
            if image.mode == "L" and mode == "RGB":
                image = image.convert("RGB")
            if image.mode == mode:
                transform = _transform(profile, mode)
                if transform is not None:
                    notes.append(f"converted to sRGB from {name}")
                    return ImageCms.applyTransform(image, transform)
                return image.convert("RGB")
            notes.append(f"its colour profile is for {space} and it is not; read as sRGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            notes.append("its colour profile cannot be read; read as sRGB")
    if image.mode == "CMYK":
        notes.append("CMYK without a profile made RGB")
    return image.convert("RGB")


@lru_cache(16)
def _profile(content: bytes) -> tuple[str, str]:
    """(colour space, name) of an ICC profile."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
    words = (ImageCms.getProfileDescription(profile) or "").replace("\0", " ").split()
    return profile.profile.xcolor_space.strip(), " ".join(words)[:60] or "a profile without a name"


@lru_cache(16)
def _transform(content: bytes, mode: str):
    """How to get from a profile to sRGB; None where that changes no colour by more than a level (sRGB itself, under whatever name)."""
    from PIL import Image, ImageCms

    profile, srgb = ImageCms.ImageCmsProfile(io.BytesIO(content)), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(profile, srgb, mode, "RGB")
    if mode == "CMYK":
        return transform
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    if mode == "RGB":
        cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(len(levels), -1, 3)
    else:
        cube = levels[None]
    before = Image.fromarray(cube)
    after = ImageCms.applyTransform(before, transform)
    change = np.abs(np.asarray(before.convert("RGB")).astype(int) - np.asarray(after))
    return transform if change.max() > 1 else None


# --- files ---


def png_bytes(pixels: np.ndarray) -> bytes:
    """A picture uint8 [H,W,3] as PNG without metadata; the same bytes for the same picture wherever the library is the same."""
    with needed("opencv-python"):
        import cv2

    options = [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):
        options += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    _, content = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR), options)
    return content.tobytes()


def jpeg_bytes(pixels: np.ndarray, quality: int = 95) -> bytes:
    """A picture uint8 [H,W,3] as JPEG with full colour resolution (4:4:4) and no metadata."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def spooled(pixels: np.ndarray, name: str, folder: Path) -> FileSource:
    """A picture uint8 [H,W,3] that is in memory, put into a file named by its content, once; so that a dataset need not hold it."""
    path = folder / f"{Picture(pixels).key.hex()}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{uuid.uuid4().hex}.part"
        try:
            part.write_bytes(png_bytes(pixels))
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise InputError(f"{folder} cannot take a picture ({error.strerror}); it needs room and write permission.") from None
    return FileSource(path, name)


# --- folders ---


def with_controls(dataset: Dataset, folder: Path) -> Dataset:
    """The dataset with the control pictures of a folder, matched by the picture's file name without extension, whatever its case.

    For paired edit training: the control is what the picture was edited from. Pictures without one stay as they are, which the trainer's check
    tells; control pictures that match none are in the notes. Raises InputError where the folder is none, or has two of one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder that has the control pictures.")
    inside = folder.resolve()
    if any(inside in Path(item.source.path).resolve().parents for item in dataset.items if hasattr(item.source, "path")):
        raise InputError(
            f"The control pictures of {_printable(folder.name)} lie among the pictures themselves; put them into a folder of their own, beside the other."
        )
    found: dict[str, Path] = {}
    for path in files_to_read(folder, True)[0]:
        if path.suffix.lower() in PICTURE_SUFFIXES:
            other = found.setdefault(path.stem.casefold(), path)
            if other != path:
                raise InputError(f"{other.name} and {path.name} in {_printable(folder.name)} are both the control picture of {path.stem}; leave one.")
    items, used = [], set()
    for item in dataset.items:
        stem = Path(item.source.name).stem.casefold()
        if stem in found and item.parent is None:
            if stem in used:
                raise InputError(
                    f"Two pictures are called {_printable(Path(item.source.name).stem)} and there is one control picture of that name; rename them."
                )
            used.add(stem)
            control = FileSource(found[stem], _printable(found[stem].name))
            item = item.decided(f"Its control picture is {control.name}.", control=control)
        items.append(item)
    spare = [path.name for stem, path in found.items() if stem not in used]
    notes = (
        f"{len(used)} {'picture has' if len(used) == 1 else 'pictures have'} a control picture.",
        _named(spare, "control picture belongs to no picture", "control pictures belong to no picture"),
    )
    return dataset.with_items(items).added((), notes=[note for note in notes if note])


def files_to_read(folder: Path, recursive: bool) -> tuple[list[Path], list[Path]]:
    """The files of a folder, as files_below gives them, and the folders below it that are exported datasets: what was made of pictures is no source of more.

    Raises PictureError for a folder that cannot be listed.
    """
    files = list(files_below(folder, recursive))
    above = {parent for path in files for parent in path.parents if folder in parent.parents}
    exports = {path for path in above if (path / OURS / JOURNAL).is_file()}
    inside = [not exports.isdisjoint(path.parents) for path in files]
    return [path for path, within in zip(files, inside) if not within], sorted(path for path in exports if exports.isdisjoint(path.parents))


def from_folder(folder: Path, bucket: Bucket = CHARACTER, recursive: bool = False) -> Dataset:
    """The pictures of a folder, by name, with their sidecar captions, each opened as far as its header.

    What is no readable picture is in `left_out`; other files, sub-folders that were not entered, datasets that Likeness exported into one, and names
    that had to be changed are in `notes`. Of what a generator wrote into a PNG, seed, model and a hash of the workflow go into `origin`. Raises InputError or PictureError for a folder that
    is none or cannot be listed.
    """
    from .captions import sidecar_caption

    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder that has the pictures.")
    files, exports = files_to_read(folder, recursive)
    pictures = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    items, left_out, renamed = [], [], []
    for path in pictures:
        name = _printable(path.relative_to(folder).as_posix())
        source = FileSource(path)
        try:
            # Its size is as far as a file can be tried without decoding it.
            _ = source.size
            origin = {"source": name, **made_by(path)}
            told = sidecar_caption(path)
        except LikenessError as error:
            left_out.append((name, str(error).replace(str(path), name)))
            continue
        stem = safe_stem(path.stem)
        if stem != path.stem:
            renamed.append(f"{name} as {stem}")
        item = DatasetItem(source, stem, bucket, origin=origin)
        items.append(item.decided(f"Its caption is from {told[1]}.", caption=told[0], caption_source="sidecar") if told else item)
    dataset = Dataset().added(items, left_out)
    renamed += [f"{item.origin['source']} as {item.stem}" for item, before in zip(dataset.items, items) if item.stem != before.stem]

    stems = {path.with_suffix("") for path in pictures}
    others = [path for path in files if path.suffix.lower() not in PICTURE_SUFFIXES and path.with_suffix("") not in stems]
    closed = [] if recursive else sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    notes = (
        _named([path.relative_to(folder).as_posix() for path in others], "file is no picture and stays out", "files are no pictures and stay out"),
        _named([path.name for path in closed], "sub-folder was not looked into", "sub-folders were not looked into"),
        _named(
            [path.relative_to(folder).as_posix() for path in exports],
            "sub-folder is an exported dataset and was passed over",
            "sub-folders are exported datasets and were passed over",
        ),
        _named(renamed, "picture goes by another name", "pictures go by another name"),
        "" if items else f"The folder {_printable(folder.name)} has no picture that can be read.",
    )
    return dataset.added((), notes=[note for note in notes if note])


def _named(names: list[str], one: str, many: str) -> str:
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{len(names)} {one if len(names) == 1 else many}: {', '.join(map(_printable, names[:MOST_NAMED]))}{more}."


def _printable(name: str) -> str:
    """A file name as text that can be written anywhere: bytes that are no text are written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def safe_stem(text: str) -> str:
    """A file's name without extension that is good on every system: what some system refuses is made `_`, too long a one is cut."""
    stem = re.sub(r'[<>:"/\\|?*\x00-\x1f\ud800-\udfff]', "_", unicodedata.normalize("NFC", text))
    stem = stem.encode()[:LONGEST_STEM].decode(errors="ignore")
    stem = re.sub(r"^[\s.]+|[\s.]+$", "", stem)
    try:
        return str(checked_name(stem))
    except InputError:
        return f"_{stem}"
