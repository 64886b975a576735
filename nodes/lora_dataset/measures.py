"""What can be measured of one picture without knowing who is in it: size, sharpness, exposure, perceptual hash. What the numbers mean is audit.py's.

All but the size is measured on one grey copy of a fixed area, so that a photograph of 24 megapixels and one of 1 megapixel are held to the same
measure, and so that the grain of a sensor and the blocks of JPEG do not pass for sharpness.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import numpy as np

from ..installation import needed

# The grey copy has the area of a square of this side, or the picture's own where that is less; nothing is enlarged.
COPY_SIDE = 512
# Sharpness is that of the sharpest quarter of 8x8 tiles: a face before a blurred background is sharp.
TILES = 8
SHARPEST = TILES * TILES // 4
# A picture darker than this on average is measured as if it were brightened to it: half the light is a quarter of the Laplacian's variance.
MIDDLE_GREY = 128
DARKEST = 16
# Levels from the ends of the scale that count as clipped: rounding and JPEG shift black and white by so much.
CLIP_MARGIN = 2


def measure_pixels(pixels: np.ndarray) -> Mapping[str, Any]:
    """What is measured of a picture uint8 [H,W,3], as JSON values.

    width, height: in pixels. shorter: the shorter side. side: that of a square of the same area, rounded down: trainers sort pictures into buckets
    by area. sharpness: variance of the Laplacian (Pech-Pacheco et al. 2000) in grey levels squared, of the sharpest quarter, see `sharpness`.
    dark, bright: share of the picture, 0..1, without detail at the lower or upper end. brightness: mean grey level, 0..255. phash: 16 hexadecimal
    digits, imagehash.phash of the grey copy (within 2 bits of that of the picture itself). Raises MissingPackageError without OpenCV or imagehash.
    """
    with needed("imagehash"):
        import imagehash
    from PIL import Image

    height, width = pixels.shape[:2]
    grey = grey_copy(pixels)
    counts = np.bincount(grey.ravel(), minlength=256)
    return {
        "width": width,
        "height": height,
        "shorter": min(width, height),
        "side": isqrt(width * height),
        "sharpness": round(sharpness(grey), 1),
        "dark": round(float(counts[: CLIP_MARGIN + 1].sum() / grey.size), 4),
        "bright": round(float(counts[255 - CLIP_MARGIN :].sum() / grey.size), 4),
        "brightness": round(float(counts @ np.arange(256) / grey.size), 1),
        "phash": str(imagehash.phash(Image.fromarray(grey))),
    }


def grey_copy(pixels: np.ndarray) -> np.ndarray:
    """The grey levels uint8 [h,w] of a picture uint8 [H,W,3], made smaller (area average) to the area of COPY_SIDE squared."""
    with needed("opencv-python"):
        import cv2

    height, width = pixels.shape[:2]
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    scale = COPY_SIDE / (height * width) ** 0.5
    if scale >= 1:
        return grey
    return cv2.resize(grey, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)


def sharpness(grey: np.ndarray) -> float:
    """Variance of the Laplacian of a grey picture uint8 [h,w] in the sharpest quarter of 8x8 tiles, as if it were at least of middle brightness.

    Photographs that come with insightface and scikit-image measure 1200 to 6600, under a Gaussian blur of sigma 1 on the copy (2 pixels at
    1024x1024) 60 to 260, of sigma 2 9 to 31: tests/test_measures.py.
    """
    import cv2

    laplacian = cv2.Laplacian(grey, cv2.CV_32F)
    bands = np.array_split(laplacian, min(TILES, len(laplacian)))
    tiles = [tile.var() for band in bands for tile in np.array_split(band, min(TILES, band.shape[1]), axis=1)]
    sharpest = np.sort(tiles)[-min(SHARPEST, len(tiles)) :].mean()
    return float(sharpest * (MIDDLE_GREY / min(MIDDLE_GREY, max(float(grey.mean()), DARKEST))) ** 2)
