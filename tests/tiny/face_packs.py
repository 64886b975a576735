"""Painted faces, and tiny ONNX models with the true layouts that find and recognise them; no test lives here.

The real loaders (InsightFace's FaceAnalysis, OpenCV's FaceDetectorYN) run on these files, so a mistake in channel
order, scaling, tiling or alignment shows as a missed face or a wrong person.

A painted face is a square of 4x4 cells. Its identity is a pattern of orange and blue on the 12 outer cells; its
middle is gray with a rose disk, which the detectors look for. They weigh the disk: its mass tells the face's size,
its centroid the centre, and its second moments and an empty surrounding tell it from anything else that is rose.
With red and blue swapped no face is found.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROSE = (255, 0, 190)  # rare in photographs, and violet when red and blue are swapped
GRAY = 140.0
CODE_DIRECTION = (1.0, 0.0, -1.0)  # orange against blue: the embedding of a channel-swapped crop points the other way
CODE_AMPLITUDE = 80.0  # levels of 255; 140 +- 80 * sqrt(2) stays inside 0..255 at any `likeness`
DISK = 0.44  # the disk's diameter in face sizes: inside the middle 2x2 cells, with a gray rim

# The face's box is exactly what InsightFace aligns to 112x112 (insightface/utils/face_align.py, arcface_dst).
ARCFACE_TEMPLATE = np.float32([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
KEYPOINTS = ARCFACE_TEMPLATE / 112  # [5,2] x, y in face sizes: eye, eye, nose, mouth corner, mouth corner

GRID = 4
OUTER = [cell for cell in range(GRID * GRID) if not (0 < cell // GRID < GRID - 1 and 0 < cell % GRID < GRID - 1)]
# With this order of the outer cells (found by search) a mirrored or turned face passes for nobody: its cosine to each
# of the eight, itself included, is at most 0.36; in row-major order two people are each other's mirror image at 0.67.
CELL_ORDER = [9, 6, 4, 10, 3, 5, 2, 8, 11, 0, 7, 1]
IDENTITIES = 8  # 0..7 are people; the code has 11 rows, the other three are nobody (see `likeness`)


def _hadamard12():
    """The 11 balanced rows of the Paley matrix of order 12: [11,12] of +-1, orthogonal, each of sum 0."""
    residues = {i * i % 11 for i in range(1, 11)}
    core = [[1 if (j - i) % 11 in residues else -1 for j in range(11)] for i in range(11)]
    return np.hstack([np.ones((11, 1)), core]).astype(np.float32)


CODES = _hadamard12()[:, CELL_ORDER]


def painted_face(identity, size, *, likeness=1.0, noise=0.0, rng=None):
    """A painted face, uint8 RGB [size,size,3].

    identity: 0..7; the codes are orthogonal, so two people have a cosine of about 0. `likeness` 0..1 mixes in a
    pattern of nobody: the cosine to the same person painted plainly is about `likeness`. `noise`: Gaussian, in
    levels of 255, from `rng` (a numpy Generator; default seeded by the identity).
    """
    if not 0 <= identity < IDENTITIES:
        raise ValueError(f"identity {identity} is not in 0..{IDENTITIES - 1}")
    nobody = CODES[IDENTITIES + identity % (len(CODES) - IDENTITIES)]
    cells = np.zeros(GRID * GRID, np.float32)
    cells[OUTER] = likeness * CODES[identity] + np.sqrt(1 - likeness**2) * nobody
    at = np.arange(size) * GRID // size
    code = cells.reshape(GRID, GRID)[at][:, at, None]
    face = GRAY + CODE_AMPLITUDE * code * np.float32(CODE_DIRECTION)
    axis = np.arange(size) + 0.5 - size / 2
    cover = np.clip(DISK * size / 2 + 0.5 - np.hypot(axis[:, None], axis), 0, 1)[..., None]  # one pixel of soft edge
    face = face + cover * (np.float32(ROSE) - face)
    if noise:
        rng = np.random.default_rng(identity) if rng is None else rng
        face = face + rng.normal(0, noise, face.shape)
    return np.clip(np.rint(face), 0, 255).astype(np.uint8)


def background(width, height, kind="gray", seed=0):
    """A picture without a face, uint8 RGB [height,width,3]. kind: gray, noise (uniform) or photo (smooth colours)."""
    rng = np.random.default_rng(seed)
    if kind == "gray":
        return np.full((height, width, 3), 128, np.uint8)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind != "photo":
        raise ValueError(f"background {kind!r} is not gray, noise or photo")

    def stretch(length, knots):  # linear interpolation as a matrix [length,knots]
        return np.float32([np.interp(np.linspace(0, knots - 1, length), range(knots), row) for row in np.eye(knots)]).T

    picture = np.zeros((height, width, 3), np.float32)
    for knots in (3, 9, 33, 129):  # octaves, each with half the contrast of the one before
        light, tint = rng.uniform(-1, 1, (knots, knots, 1)), rng.uniform(-1, 1, (knots, knots, 3))
        colours = (light + 0.25 * tint).astype(np.float32) * 200 / knots**0.5
        rows = np.tensordot(stretch(height, knots), colours, 1)
        picture += stretch(width, knots) @ rows
    return np.clip(128 + picture, 0, 255).astype(np.uint8)


def paint(picture, identity, x, y, size, **look):
    """Paint a face into `picture` (uint8 RGB [H,W,3], changed in place) with its top left corner at x, y.

    `look` as in `painted_face`. Returns the truth box (x1, y1, x2, y2), float32 [4]. The face must lie inside.
    """
    if min(x, y) < 0 or x + size > picture.shape[1] or y + size > picture.shape[0]:
        raise ValueError(f"a face of {size} at {x}, {y} leaves the picture {picture.shape[1]}x{picture.shape[0]}")
    picture[y : y + size, x : x + size] = painted_face(identity, size, **look)
    return np.float32([x, y, x + size, y + size])


def truth_keypoints(box):
    """The five keypoints [5,2] of a painted face's truth box."""
    return box[:2] + KEYPOINTS * (box[2] - box[0])


# ---- writing ONNX ----------------------------------------------------------------------------------------------------

OPSET = 13
IR_VERSION = 8  # old enough for every onnxruntime with Python 3.10 wheels


class _Graph:
    """An ONNX graph under construction: call it with an operator and its inputs, arrays become initializers.

    Nodes stay nameless: insightface's ArcFaceONNX takes nodes called Sub* and Mul* for a built-in normalisation.
    """

    def __init__(self):
        self.nodes, self.initializers = [], []

    def __call__(self, operator, *inputs, outputs=1, into=None, **attributes):
        names = [i if isinstance(i, str) else self._constant(i) for i in inputs]
        results = [into] if into else [f"t{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(operator, names, results, **attributes))
        return results[0] if len(results) == 1 else results

    def _constant(self, value):
        array = np.asarray(value)
        array = array if array.dtype == np.int64 else array.astype(np.float32)
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def save(self, path, inputs, outputs):
        """inputs, outputs: name -> shape; a string is a symbolic dimension."""
        values = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in group.items()] for group in (inputs, outputs)]
        graph = helper.make_graph(self.nodes, "tiny", *values, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
        return Path(path)


# ---- detectors -------------------------------------------------------------------------------------------------------

STRIDES = (8, 16, 32)
UNITS = 4  # a stride is 4 units, the pixels of that level's mask: all levels share one set of weights
WINDOWS = (11, 20)  # half widths in units, one per anchor: at every size above 33 px some window holds one face only
RIM = 2  # units at a window's border that must be empty
SMALLEST = 7.0  # units: a face below 14 px is missed at stride 8, as the real detectors miss it


def _moment_kernels():
    """[12,1,40,40]: per window the weights of mass, x, y, x*x, y*y (units from the anchor) and of the rim's mass."""
    half = max(WINDOWS)
    from_centre = np.arange(2 * half) + 0.5 - half
    x, y = np.meshgrid(from_centre, from_centre)
    distance = np.maximum(abs(x), abs(y))
    x, y = x + UNITS / 2, y + UNITS / 2  # a window surrounds its cell; the anchor is the cell's top left corner
    return np.float32([(distance < window) * k for window in WINDOWS for k in (1 + 0 * x, x, y, x * x, y * y, distance > window - RIM)])[:, None]


def _ramp(graph, value, slope, offset):
    """clip(slope * value + offset, 0, 1): a soft yes or no."""
    return graph("Clip", graph("Add", graph("Mul", value, slope), offset), 0.0, 1.0)


def _rose_masks(graph, picture, scale, shift, rgb):
    """The share of rose 0..1 in each unit, [1,1,H/2,W/2], /4 and /8: one mask per stride.

    scale, shift: from the network's input to colours 0..1; rgb: where red, green, blue are among its channels.
    """
    weights = np.zeros((3, 3, 2, 2))
    for channel, source in enumerate(rgb):
        weights[channel, source] = scale / 4
    colours = graph("Conv", picture, weights, np.full(3, shift), kernel_shape=[2, 2], strides=[2, 2])
    red, green, blue = graph("Split", colours, axis=1, outputs=3)
    bright = graph("Add", red, 0.1)
    # Ratios, so that a darker picture has the same mask. Disk 0.68, half disk and half gray 0.44: the edge is there.
    purple = _ramp(graph, graph("Div", graph("Sub", blue, green), bright), 5.0, 0.5 - 5.0 * 0.44)
    warm = _ramp(graph, graph("Div", graph("Sub", red, blue), bright), 6.0, 0.8)  # disk 0.23, violet -0.3
    masks = [graph("Mul", purple, warm)]
    for _ in STRIDES[1:]:
        masks.append(graph("AveragePool", masks[-1], kernel_shape=[2, 2], strides=[2, 2]))
    return masks


def _faces(graph, mask, kernels):
    """Score [2N,1] 0..1 and centre x, y, size [2N,3] in strides from the anchor, the two windows of a cell adjacent."""
    border = max(WINDOWS) - UNITS // 2
    moments = graph("Conv", mask, kernels, kernel_shape=kernels.shape[2:], strides=[UNITS] * 2, pads=[border] * 4)
    moments = graph("Reshape", graph("Transpose", moments, perm=[0, 2, 3, 1]), np.int64([-1, 6]))
    mass, x, y, xx, yy, rim = graph("Split", moments, axis=1, outputs=6)
    mass = graph("Add", mass, 1e-6)
    x, y, xx, yy, rim = (graph("Div", moment, mass) for moment in (x, y, xx, yy, rim))
    size = graph("Sqrt", graph("Mul", mass, 4 / np.pi / DISK**2))
    variance = graph("Add", graph("Mul", mass, 1 / (4 * np.pi)), 1 / 12)  # of a disk of this mass, plus of one unit
    away = [graph("Abs", graph("Sub", axis, UNITS / 2)) for axis in (x, y)]
    score = _ramp(graph, graph("Add", *away), -0.2, 1.8)  # 1 inside the cell, 0.5 at 2.5 units outside
    for centre, square in ((x, xx), (y, yy)):
        spread = graph("Div", graph("Sub", square, graph("Mul", centre, centre)), variance)
        score = graph("Mul", score, _ramp(graph, graph("Abs", graph("Sub", spread, 1.0)), -10.0, 4.0))
    score = graph("Mul", score, _ramp(graph, rim, -40.0, 2.0))
    score = graph("Mul", score, _ramp(graph, size, 1.0, -SMALLEST + 0.5))
    doubt = graph("Div", graph("Mul", score, 0.5), graph("Add", size, 1.0))  # so that the finer of two levels wins
    score = graph("Sub", score, doubt)
    return score, graph("Mul", graph("Concat", x, y, size, axis=1), 1 / UNITS)


def write_scrfd(path, static_size=None):
    """A detector in SCRFD's layout: 9 outputs, scores, boxes and keypoints of strides 8, 16, 32.

    Input `input.1` [1,3,H,W], RGB, (v - 127.5) / 128. With N = H/s * W/s * 2, row by row, both anchors of a cell
    adjacent: scores [N,1] 0..1, boxes [N,4] (left, top, right, bottom from the anchor) and keypoints [N,10] (x, y from
    the anchor), both in strides. The anchor is the cell's top left corner (insightface/model_zoo/scrfd.py).
    static_size: (width, height) where the exporter fixed them. Finds faces of 16 to 580 px of what it is given; faces
    that touch, from 33 px.
    """
    width, height = static_size or ("width", "height")
    graph, kernels = _Graph(), _moment_kernels()
    corners = np.float32([[-1, 0, 1, 0], [0, -1, 0, 1], [0.5] * 4])  # from x, y, size to the four distances
    points = np.vstack([np.tile(np.eye(2), 5), (KEYPOINTS - 0.5).reshape(1, 10)])
    counts = {s: f"anchors_{s}" if static_size is None else width // s * (height // s) * len(WINDOWS) for s in STRIDES}
    for stride, mask in zip(STRIDES, _rose_masks(graph, "input.1", 128 / 255, 0.5, (0, 1, 2)), strict=True):
        score, face = _faces(graph, mask, kernels)
        graph("Identity", score, into=f"score_{stride}")
        graph("MatMul", face, corners, into=f"bbox_{stride}")
        graph("MatMul", face, points, into=f"kps_{stride}")
    return graph.save(
        path,
        {"input.1": [1, 3, height, width]},
        {f"{name}_{stride}": [counts[stride], columns] for name, columns in (("score", 1), ("bbox", 4), ("kps", 10)) for stride in STRIDES},
    )


def write_yunet(path, static_size=(640, 640)):
    """A detector in the layout of face_detection_yunet_2023mar.onnx (opencv/modules/objdetect/src/face_detect.cpp).

    Input `input` [1,3,H,W], BGR 0..255. Outputs cls_8, cls_16, cls_32, obj_*, bbox_*, kps_* with N = H/s * W/s rows:
    [1,N,1], [1,N,1], [1,N,4], [1,N,10]. A face at column c has score sqrt(cls * obj), centre (c + dx) * s, width
    exp(dw) * s and keypoints (c + k) * s. The 2023mar file declares 640x640 and OpenCV overrides it at run time;
    static_size None declares symbolic sizes, as the 2026may file does (opencv/opencv_zoo, pull request 310).
    """
    width, height = static_size or ("width", "height")
    graph, kernels = _Graph(), _moment_kernels()
    points = np.vstack([np.tile(np.eye(2), 5), (KEYPOINTS - 0.5).reshape(1, 10)])
    counts = {s: f"anchors_{s}" if static_size is None else width // s * (height // s) for s in STRIDES}
    columns = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    for stride, mask in zip(STRIDES, _rose_masks(graph, "input", 1 / 255, 0.0, (2, 1, 0)), strict=True):
        both, face = _faces(graph, mask, kernels)
        # YuNet has one anchor per cell: the windows' answers, which agree where both score, are averaged by score.
        weighted = graph("Reshape", graph("Mul", face, both), np.int64([-1, 6]))
        first, second = graph("Split", graph("Reshape", both, np.int64([-1, 2])), axis=1, outputs=2)
        total = graph("Add", graph("Add", first, second), 1e-6)
        face = graph("Div", graph("Add", *graph("Split", weighted, axis=1, outputs=2)), total)
        score = graph("Max", first, second)
        x, y, size = graph("Split", face, axis=1, outputs=3)
        log_size = graph("Log", graph("Add", size, 1e-6))
        results = {"cls": score, "obj": score, "bbox": graph("Concat", x, y, log_size, log_size, axis=1), "kps": graph("MatMul", face, points)}
        for name, result in results.items():
            graph("Reshape", result, np.int64([1, -1, columns[name]]), into=f"{name}_{stride}")
    return graph.save(
        path, {"input": [1, 3, height, width]}, {f"{name}_{stride}": [1, counts[stride], columns[name]] for name in columns for stride in STRIDES}
    )


# ---- recognition, attributes, landmarks ------------------------------------------------------------------------------

NORM = 20.0  # about the length of a clear face's raw ArcFace embedding; weaker contrast gives a shorter one


def write_arcface(path, static_batch=False, dims=512, seed=0):
    """A recognizer in ArcFace's layout: `input.1` [N,3,112,112], RGB, (v - 127.5) / 127.5 -> one output [N,dims].

    Linear: the 12 outer cells' colours less their mean, turned by a rotation that `seed` picks (two seeds are two
    recognizers which do not understand each other's embeddings). static_batch: N is 1 and nothing else is accepted.
    """
    cells = GRID * GRID
    centred = np.zeros((3 * cells, 3 * len(OUTER)))
    for channel in range(3):
        rows = np.ix_([channel * cells + cell for cell in OUTER], channel * len(OUTER) + np.arange(len(OUTER)))
        centred[rows] = np.eye(len(OUTER)) - 1 / len(OUTER)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dims, centred.shape[1])))
    length = CODE_AMPLITUDE / 127.5 * np.linalg.norm(CODE_DIRECTION) * np.sqrt(len(OUTER))
    graph = _Graph()
    pooled = graph("AveragePool", "input.1", kernel_shape=[28, 28], strides=[28, 28])
    graph("Gemm", graph("Flatten", pooled), centred @ rotation.T * NORM / length, into="embedding")
    batch = 1 if static_batch else "batch"
    return graph.save(path, {"input.1": [batch, 3, 112, 112]}, {"embedding": [batch, dims]})


def write_genderage(path):
    """`data` [N,3,96,96], RGB, (v - 127.5) / 128 -> [N,3]: female, male, age / 100.

    Layout: insightface/model_zoo/attribute.py; the crop is 1.5 boxes wide.
    Even identities are female, odd ones male; identity i is 20 + 5 * i years old, give or take 3.
    """
    inner = [(1 + cell // GRID) * 6 + 1 + cell % GRID for cell in OUTER]  # of the crop's 6x6 cells
    weights, mean_age = np.zeros((3 * 36, 3)), 20 + 5 * (IDENTITIES - 1) / 2
    for identity in range(IDENTITIES):
        for channel, direction in enumerate(CODE_DIRECTION):
            answer = CODES[identity] * direction / (len(OUTER) * np.square(CODE_DIRECTION).sum() * CODE_AMPLITUDE / 128)
            rows = channel * 36 + np.array(inner)
            weights[rows, identity % 2] += answer
            weights[rows, 2] += answer * (20 + 5 * identity - mean_age) / 100
    graph = _Graph()
    pooled = graph("AveragePool", "data", kernel_shape=[16, 16], strides=[16, 16])
    graph("Gemm", graph("Flatten", pooled), weights, np.array([0, 0, mean_age / 100]), into="fc1")
    return graph.save(path, {"data": ["batch", 3, 96, 96]}, {"fc1": ["batch", 3]})


def _write_landmarks(path, points):
    """`data` [N,3,192,192] -> the same points for any picture, in -1..1 of a crop 1.5 faces wide."""
    graph = _Graph()
    blind = graph("Flatten", graph("GlobalAveragePool", "data"))
    graph("Gemm", blind, np.zeros((3, points.size)), points.ravel(), into="fc1")
    return graph.save(path, {"data": ["batch", 3, 192, 192]}, {"fc1": ["batch", points.size]})


def write_2d106(path):
    """[N,3,192,192] -> [N,212]: 106 points x, y, evenly over the face (insightface/model_zoo/landmark.py)."""
    turn = np.arange(106) * np.pi * (3 - 5**0.5)
    radius = 0.6 * np.sqrt((np.arange(106) + 0.5) / 106)
    return _write_landmarks(path, np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1))


def write_3d68(path):
    """[N,3,192,192] -> [N,3309]: 1103 x, y, z of which InsightFace takes the last 68, in iBUG's order.

    A frontal face drawn with arcs, near enough to InsightFace's mean shape for a pose of a few degrees.
    """

    def arc(centre, radii, first, last, count, z):
        turn = np.radians(np.linspace(first, last, count))
        return np.stack([centre[0] + radii[0] * np.cos(turn), centre[1] + radii[1] * np.sin(turn), z + 0 * turn], 1)

    jaw = arc((0, -0.3), (0.63, 0.88), 180, 0, 17, 0)
    jaw[:, 2] = -0.31 + 0.7 * np.sin(np.linspace(0, np.pi, 17))
    brow = np.linspace((-0.47, -0.46, 0.25), (-0.15, -0.46, 0.42), 5)
    bridge = np.linspace((0, -0.32, 0.46), (0, -0.14, 0.6), 4)
    face = np.concatenate(
        [
            jaw,
            brow,
            brow[::-1] * (-1, 1, 1),
            bridge,
            np.linspace((-0.14, 0.03, 0.45), (0.14, 0.03, 0.45), 5),
            arc((-0.275, -0.31), (0.115, 0.035), 180, 480, 6, 0.3),
            arc((0.275, -0.31), (0.115, 0.035), 180, 480, 6, 0.3),
            arc((0, 0.235), (0.21, 0.065), 180, 510, 12, 0.45),
            arc((0, 0.235), (0.17, 0.03), 180, 495, 8, 0.45),
        ]
    )
    points = np.zeros((1103, 3))
    points[-68:] = face * 0.77 + (0, 0.19, 0)  # the eyes come to lie on KEYPOINTS
    return _write_landmarks(path, points)


# ---- packs -----------------------------------------------------------------------------------------------------------

PACKS = {  # file names: insightface/model_zoo/README.md; auraface: the repository fal/AuraFace-v1, with YuNet beside it
    "buffalo_l": {"det_10g.onnx": write_scrfd, "w600k_r50.onnx": write_arcface},
    "antelopev2": {"scrfd_10g_bnkps.onnx": write_scrfd, "glintr100.onnx": write_arcface},
    "auraface": {"face_detection_yunet_2023mar.onnx": write_yunet, "glintr100.onnx": write_arcface},
}
ATTRIBUTES = {"1k3d68.onnx": write_3d68, "2d106det.onnx": write_2d106, "genderage.onnx": write_genderage}


def write_pack(directory, name="buffalo_l", *, scrfd=False, static_batch=False, static_size=None):
    """Write a whole pack under its real file names into `directory` and return it as a Path.

    name: buffalo_l, antelopev2 or auraface; each has its own recognizer (embeddings do not compare across packs).
    scrfd: add scrfd_10g_bnkps.onnx to auraface, as AuraFace's own archive does. static_batch, static_size (width,
    height): see write_arcface and write_scrfd.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = PACKS[name] | (ATTRIBUTES if name != "auraface" else {})
    if scrfd:
        files = files | {"scrfd_10g_bnkps.onnx": write_scrfd}
    options = {write_scrfd: {"static_size": static_size}, write_arcface: {"static_batch": static_batch, "seed": list(PACKS).index(name)}}
    for file, write in files.items():
        write(directory / file, **options.get(write, {}))
    return directory
