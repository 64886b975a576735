"""Looking for faces from coarse to fine: first the whole picture made small, then larger and larger, in tiles, until enough is found."""

from collections.abc import Iterator

import numpy as np

from .detectors import Detector, scaled
from .faces import Detection, new_detections

# Each further look doubles the resolution: a detector's smallest face then halves.
STEP = 2
# A tile overlaps its neighbour by this many of the detector's smallest faces: larger faces were already seen at the step before.
TILE_OVERLAP = 3
# A box this close (pixels) to an inner edge of a tile is cut off there; the neighbour sees it whole.
EDGE = 2


def sides(detector: Detector, longest: int) -> list[int]:
    """The longest side, in pixels, at which a picture of that longest side is looked at, step by step; the last is the finest worth while.

    The first is the overview. The last is the picture's own resolution, times the detector's reach as long as that fits one tile: enlarging
    helps small pictures with a detector that misses small faces, and in large ones the full resolution shows all that can be judged.
    """
    finest = max(longest, min(round(longest * detector.reach), detector.tile_side))
    steps = [detector.overview_side]
    while steps[-1] < finest:
        steps.append(min(steps[-1] * STEP, finest))
    # A last step that hardly enlarges shows nothing new: it stands for the one before it, unless that is the overview.
    if len(steps) > 1 and steps[-1] < steps[-2] * 1.25:
        del steps[-2 if len(steps) > 2 else -1]
    return steps


def look(detector: Detector, pixels: np.ndarray, side: int) -> list[Detection]:
    """The faces in a picture uint8 [H,W,3] looked at with its longest side at `side` pixels, in its own coordinates, doubles removed."""
    if side <= detector.overview_side:
        return new_detections([], detector.overview(pixels))
    import cv2

    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size != (width, height):
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    found = []
    for left, top, tile in tiles(pixels, detector.tile_side, detector.smallest * TILE_OVERLAP):
        for face in detector.find(tile):
            if not _cut_off(face, left, top, tile.shape, size):
                found.append(scaled(face, width / size[0], height / size[1], left * width / size[0], top * height / size[1]))
    return new_detections([], found)


def tiles(pixels: np.ndarray, side: int, overlap: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(left, top, view) of tiles at most `side` pixels wide and high that cover a picture, neighbours overlapping by at least `overlap`."""
    height, width = pixels.shape[:2]
    for top in _starts(height, side, overlap):
        for left in _starts(width, side, overlap):
            yield left, top, pixels[top : top + side, left : left + side]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _cut_off(face: Detection, left: int, top: int, tile: tuple, whole: tuple[int, int]) -> bool:
    x1, y1, x2, y2 = face.box
    return (
        (left > 0 and x1 < EDGE)
        or (top > 0 and y1 < EDGE)
        or (left + tile[1] < whole[0] and x2 > tile[1] - EDGE)
        or (top + tile[0] < whole[1] and y2 > tile[0] - EDGE)
    )
