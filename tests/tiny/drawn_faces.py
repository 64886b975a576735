"""Drawn characters whose faces real recognizers find and tell apart: for thumbnails and demonstrations without anybody's photograph.

Everything is drawn with Pillow from a handful of proportions. With dlib the same character in other clothes, light and place scores above 0.8,
different ones below 0.5 (tests/test_drawn_faces.py). They say nothing about photographs.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CANVAS = 1024


@dataclass(frozen=True)
class Character:
    """Colours as #rrggbb; lengths in pixels of the canvas, positions from the middle of the face, y downwards."""

    hair: str
    skin: str
    shade: str
    blush: str
    iris: str
    brow: str
    lip: str
    width: int = 186
    height: int = 268
    jaw: int = 84
    hair_width: int = 262
    hair_length: int = 330
    fringe: int = 4
    side_hair: int | None = 26
    eye_x: int = 82
    eye_y: int = -50
    eye_width: int = 46
    eye_height: int = 21
    brow_y: int = -108
    brow_tilt: int = 6
    brow_width: int = 15
    nose_length: int = 66
    nose_width: int = 42
    mouth_y: int = 138
    mouth_width: int = 74
    upper_lip: int = 20
    lower_lip: int = 28
    beard: bool = False


MIRA = Character("#5b2e1f", "#e9b899", "#b9795c", "#d9806a", "#3d6b4f", "#4a2618", "#b24a4a")
TOMAS = Character(
    "#1d1a1c", "#c98f6a", "#8f5a3e", "#b06a50", "#3a2416", "#1a1412", "#96594c", width=200, height=270, jaw=118, hair_width=215, hair_length=-40, fringe=14,
    side_hair=None, eye_x=86, eye_y=-44, eye_width=42, eye_height=15, brow_y=-92, brow_tilt=-4, brow_width=25, nose_length=84, nose_width=58, mouth_y=156,
    mouth_width=84, upper_lip=12, lower_lip=20, beard=True,
)  # fmt: skip
EDDA = Character(
    "#b9bcc2", "#f0cfbd", "#bb8a78", "#d99a8c", "#57708a", "#8d8f94", "#b5696b", width=206, height=246, jaw=130, hair_width=250, hair_length=20, fringe=20,
    side_hair=None, eye_x=78, eye_y=-30, eye_width=36, eye_height=13, brow_y=-74, brow_tilt=12, brow_width=9, nose_length=92, nose_width=64, mouth_y=150,
    mouth_width=92, upper_lip=8, lower_lip=12,
)  # fmt: skip


def portrait(
    person: Character,
    size: int = 512,
    background: str = "#8fb3c9",
    clothes: str = "#4a4e69",
    x: int = 0,
    y: int = 0,
    scale: float = 1.0,
    light: float = 1.0,
) -> np.ndarray:
    """A picture uint8 [size,size,3] of a character; x, y move the head on the canvas, scale and light are factors."""
    return _Sheet(background, 512 + x, 500 + y, scale).draw(person, clothes).finish(size, light)


class _Sheet:
    def __init__(self, background: str, x: float, y: float, scale: float):
        self.image = Image.new("RGB", (CANVAS, CANVAS), background)
        self.x, self.y, self.scale = x, y, scale
        self.face = None

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.x + x * self.scale, self.y + y * self.scale

    def box(self, x: float, y: float, rx: float, ry: float) -> tuple:
        return (*self.at(x - rx, y - ry), *self.at(x + rx, y + ry))

    def paint(self, colour: str, blur: float, strength: float, shapes, inside: bool = False) -> Image.Image:
        """Fill soft shapes with a colour; `shapes` draws white on black; inside keeps to the face."""
        mask = Image.new("L", (CANVAS, CANVAS))
        shapes(ImageDraw.Draw(mask))
        mask = mask.filter(ImageFilter.GaussianBlur(blur * self.scale))
        if inside:
            mask = Image.fromarray((np.asarray(mask, np.uint16) * np.asarray(self.face) // 255).astype(np.uint8))
        self.image.paste(Image.new("RGB", mask.size, colour), (0, 0), mask.point(lambda value: int(value * strength)))
        return mask

    def ellipses(self, colour: str, blur: float, strength: float, *ellipses, inside: bool = False) -> None:
        self.paint(colour, blur, strength, lambda d: [d.ellipse(self.box(*ellipse), fill=255) for ellipse in ellipses], inside)

    def line(self, colour: str, blur: float, strength: float, width: float, *points) -> None:
        self.paint(colour, blur, strength, lambda d: d.line([self.at(*p) for p in points], fill=255, width=round(width * self.scale), joint="curve"))

    def arc(self, colour: str, blur: float, strength: float, width: float, box: tuple, start: int, end: int) -> None:
        self.paint(colour, blur, strength, lambda d: d.arc((*self.at(*box[:2]), *self.at(*box[2:])), start, end, fill=255, width=round(width * self.scale)))

    def draw(self, p: Character, clothes: str) -> "_Sheet":
        self._hair_and_body(p, clothes)
        self._face(p)
        for side in (-1, 1):
            self._eye(p, side)
        self._nose(p)
        self._mouth(p)
        self._front_hair(p)
        return self

    def _hair_and_body(self, p: Character, clothes: str) -> None:
        def back(d):
            d.ellipse(self.box(0, -40, p.hair_width, 270), fill=255)
            if p.hair_length > -60:
                d.rounded_rectangle((*self.at(-p.hair_width, -60), *self.at(p.hair_width, p.hair_length)), 90 * self.scale, fill=255)

        self.paint(p.hair, 6, 1, back)
        self.paint(p.shade, 8, 1, lambda d: d.rectangle((*self.at(-80, 180), *self.at(80, 420)), fill=255))
        self.ellipses(clothes, 6, 1, (0, 640, 360, 280))

    def _face(self, p: Character) -> None:
        w, h = p.width, p.height
        outline = [(-w, -40), (w, -40), (w * 0.93, 110), (p.jaw, h * 0.93), (0, h * 1.02), (-p.jaw, h * 0.93), (-w * 0.93, 110)]

        def shape(d):
            d.ellipse(self.box(0, -60, w, h * 0.82), fill=255)
            d.polygon([self.at(*point) for point in outline], fill=255)

        self.face = self.paint(p.skin, 10, 1, shape)
        self.ellipses(p.shade, 40, 0.75, (-w, 0, w * 0.25, 330), (w, 0, w * 0.25, 330), inside=True)
        self.ellipses(p.shade, 30, 0.6, (0, h * 1.02, p.jaw * 1.1, 50), inside=True)
        self.ellipses(p.blush, 26, 0.45, (-w * 0.52, 70, 50, 36), (w * 0.52, 70, 50, 36), inside=True)
        self.ellipses("#fff2e4", 40, 0.35, (0, -190, w * 0.6, 70), inside=True)
        self.ellipses(p.shade, 16, 0.8, (-p.eye_x, p.eye_y - 8, 66, 38), (p.eye_x, p.eye_y - 8, 66, 38), inside=True)

    def _eye(self, p: Character, side: int) -> None:
        x, y, w, h = side * p.eye_x, p.eye_y, p.eye_width, p.eye_height
        self.ellipses("#f4f1ee", 2, 1, (x, y, w, h))
        self.ellipses(p.iris, 1.5, 1, (x, y, h * 1.02, h * 1.02))
        self.ellipses("#101010", 1, 1, (x, y, h * 0.5, h * 0.5))
        self.ellipses("#ffffff", 1, 1, (x + 6, y - 6, 4.5, 4.5))
        self.arc("#2a1c18", 2, 0.95, 10, (x - w - 4, y - h - 8, x + w + 4, y + h + 14), 190, 350)
        self.arc("#6b4436", 2, 0.7, 4, (x - w, y - h - 10, x + w, y + h + 4), 20, 160)
        inner, outer = (p.eye_x - 62, p.brow_y + 10), (p.eye_x + 70, p.brow_y + 14 + p.brow_tilt)
        self.line(p.brow, 4, 0.95, p.brow_width, *[(side * px, py) for px, py in (inner, (p.eye_x, p.brow_y - 10), outer)])

    def _nose(self, p: Character) -> None:
        bottom, w = p.nose_length, p.nose_width
        for side, strength in ((-1, 0.55), (1, 0.35)):
            self.line(p.shade, 12, strength, 16, (side * 20, p.eye_y - 20), (side * w * 0.62, bottom - 28))
        self.line("#ffefdf", 8, 0.5, 16, (0, p.eye_y), (0, bottom - 30))
        self.ellipses("#ffe6d3", 9, 0.5, (0, bottom - 18, w * 0.55, 26))
        self.ellipses("#5a2f24", 4, 0.85, (-w * 0.5, bottom, 13, 8), (w * 0.5, bottom, 13, 8))
        self.arc("#7c4a3a", 5, 0.6, 7, (-w, bottom - 38, w, bottom + 18), 20, 160)

    def _mouth(self, p: Character) -> None:
        y, w = p.mouth_y, p.mouth_width

        def lower(d):
            d.chord((*self.at(-w * 0.86, y - p.lower_lip), *self.at(w * 0.86, y + p.lower_lip)), 0, 180, fill=255)

        upper = [(-w, y), (-w * 0.4, y - p.upper_lip), (0, y - p.upper_lip * 0.7), (w * 0.4, y - p.upper_lip), (w, y), (0, y + 5)]
        if p.beard:
            self.paint(p.hair, 18, 0.55, lambda d: d.rectangle((*self.at(-p.width, y - 40), *self.at(p.width, p.height * 1.1)), fill=255), inside=True)
        self.paint(p.lip, 3, 0.95, lambda d: d.polygon([self.at(*point) for point in upper], fill=255))
        self.paint(p.lip, 4, 0.85, lower)
        self.line("#4a1f1f", 2, 0.9, 6, (-w, y), (-w * 0.3, y + 3), (w * 0.3, y + 3), (w, y))
        self.ellipses(p.shade, 9, 0.8, (0, y + p.lower_lip + 16, w * 0.6, 9), inside=True)

    def _front_hair(self, p: Character) -> None:
        w, h = p.width, p.height
        top = (*self.at(-w - 26, -60 - h * 0.9), *self.at(w + 26, -60 + h * 0.62))
        self.paint(p.hair, 5, 1, lambda d: d.chord(top, 180 + p.fringe, 360 - p.fringe, fill=255))
        if p.side_hair is not None:
            for left, right in ((-w - 34, -w + p.side_hair), (w - p.side_hair, w + 34)):
                strand = (*self.at(left, -170), *self.at(right, p.hair_length * 0.7))
                self.paint(p.hair, 6, 1, lambda d, strand=strand: d.rounded_rectangle(strand, 24 * self.scale, fill=255))

    def finish(self, size: int, light: float) -> np.ndarray:
        """Light from the left, a little grain, and the size asked for."""
        pixels = np.asarray(self.image, np.float32)
        pixels = pixels * ((1.05 - 0.2 * np.arange(CANVAS) / CANVAS)[None, :, None] * light)
        pixels += np.random.default_rng(1).normal(0, 3, pixels.shape)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))
