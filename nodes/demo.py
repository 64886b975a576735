"""The photographs for `likeness score --demo`: they lie inside the installed packages insightface and scikit-image, nothing is copied or downloaded."""

import importlib.util
import io
from pathlib import Path

import numpy as np

from .errors import MissingPackageError
from .identity.recognizers import Face, Recognizer, every_look
from .installation import pip_command
from .pictures import Picture, read_picture

PEOPLE = 6
# Around a face, in face sides: head and shoulders.
CROP_MARGIN = 0.6


def photograph(package: str, *parts: str) -> Picture:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise MissingPackageError(f"The demonstration uses photographs inside the package {package}: run `{pip_command('install insightface')}`.")
    return read_picture(Path(spec.origin).parent.joinpath(*parts))


def people(group: Picture, recognizer: Recognizer) -> list[Picture]:
    """The six people of the group photograph, cut out from left to right."""
    faces = sorted(recognizer.faces([group], every_look)[0].faces, key=lambda face: -face.confidence)[:PEOPLE]
    return [Picture(cut_out(group.pixels, face)) for face in sorted(faces, key=lambda face: face.box[0])]


def cut_out(pixels: np.ndarray, face: Face) -> np.ndarray:
    """The part of a picture around a face with a margin of CROP_MARGIN face sides."""
    margin = CROP_MARGIN * face.side
    x1, y1, x2, y2 = face.box
    return pixels[max(0, int(y1 - margin)) : int(y2 + margin), max(0, int(x1 - margin)) : int(x2 + margin)]


def altered(picture: Picture) -> dict[str, Picture]:
    """The same picture as it comes back from elsewhere: mirrored, blurred, darkened, badly compressed, made small."""
    from PIL import Image, ImageEnhance, ImageFilter, ImageOps

    image = Image.fromarray(picture.pixels)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=40)
    made = {
        "mirrored": ImageOps.mirror(image),
        "blurred": image.filter(ImageFilter.GaussianBlur(1.2)),
        "darkened": ImageEnhance.Brightness(image).enhance(0.5),
        "JPEG quality 40": Image.open(jpeg).convert("RGB"),
        "half size": image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    }
    return {name: Picture(np.asarray(value)) for name, value in made.items()}


def demonstration(recognizer: Recognizer) -> tuple[Picture, dict[str, Picture]]:
    """(the reference, the pictures to measure by what they show)."""
    group = photograph("insightface", "data", "images", "t1.jpg")
    cast = people(group, recognizer)
    reference = cast[0]
    pictures = {"the reference itself": reference}
    pictures |= {f"the same, {how}": picture for how, picture in altered(reference).items()}
    tiny = Picture(np.ascontiguousarray(reference.pixels[::4, ::4]))
    pictures |= {"the same, a quarter of the size": tiny, "she among five others": group}
    pictures |= {f"person {i}": person for i, person in enumerate(cast[1:], 2)}
    pictures |= {"an astronaut": photograph("skimage", "data", "astronaut.png"), "a cup of coffee": photograph("skimage", "data", "coffee.png")}
    return reference, pictures
