"""Tiny models with the true layouts for the ComfyUI-ReActor pack, which its own code loads; no test lives here.

They work on the painted faces of face_packs.py: the swapper paints the source's colours around the target's rose disk, so that the recognizer
buffalo_l knows the result as the source; a restored face is a little greener, which changes nobody's identity; the safety check flags a picture
whose top left corner is magenta, and nothing else. With these files the pack downloads nothing.

Layouts of ReActor's PyTorch nets (RetinaFace, ParseNet) are asked of its own classes; weights that are all alike take the room of one number.
"""

import importlib
import math
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# torch, transformers and onnx, which face_packs imports, are imported where they are needed: tests are collected without them.

SWAPPER = "inswapper_128.onnx"
RESTORER = "GPEN-BFR-512.onnx"
EMPTY_RESTORER = "GFPGANv1.4.pth"  # listed, but without weights: a node that uses it fails
DETECTORS = ("retinaface_resnet50", "retinaface_mobile0.25")  # of the restorer; ReActor would download its two YOLOs
PACK = ("insightface", "models", "buffalo_l")
SAFETY = ("nsfw_detector", "vit-base-nsfw-detector")

GREENER = 15  # levels of 255 that the restorer adds to green
MAGENTA = (255, 0, 255)


def write_all(models: Path, reactor: Path) -> None:
    """Everything below the host's models folder. reactor: the pack's folder. 17 MB in 5 s, most of it importing transformers."""
    import torch

    from tests.tiny.face_packs import write_pack

    models = Path(models)
    pack = write_pack(models.joinpath(*PACK))
    write_swapper(models / "insightface" / SWAPPER, pack / "w600k_r50.onnx")
    restorers = models / "facerestore_models"
    restorers.mkdir(parents=True, exist_ok=True)
    write_restorer(restorers / RESTORER)
    torch.save({}, restorers / EMPTY_RESTORER)
    write_restore_detectors(models / "facedetection", reactor)
    write_safety_check(models.joinpath(*SAFETY))


def flagged(picture: np.ndarray) -> np.ndarray:
    """The picture [H,W,3] with the corner that the safety check flags; no face may lie there."""
    marked = picture.copy()
    height, width = (math.ceil(1.6 * side / PATCHES) for side in picture.shape[:2])
    marked[:height, :width] = MAGENTA
    return marked


# ---- ONNX: the swapper and the restorer ------------------------------------------------------------------------------


def _save(path, nodes, inputs, outputs, initializers):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from tests.tiny.face_packs import IR_VERSION, OPSET

    nodes = [helper.make_node(operator, needs, [gives], **attributes) for operator, needs, gives, attributes in nodes]
    values = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in group.items()] for group in (inputs, outputs)]
    graph = helper.make_graph(nodes, "tiny", *values, [numpy_helper.from_array(array, name) for name, array in initializers.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_swapper(path: Path, recognizer: Path) -> None:
    """inswapper_128's layout: target [1,3,128,128] RGB 0..1, source [1,512] of length 1, `emap` [512,512] last -> a crop like target.

    The 112 pixels that the recognizer sees lie at x 8..120, y 0..112 of the crop. Their 12 outer cells get the colours
    that this recognizer turns into the source's embedding; all else stays the target's.
    """
    import onnx
    from onnx import numpy_helper

    from tests.tiny.face_packs import GRAY, GRID, NORM, OUTER

    weights = {array.shape: array for array in map(numpy_helper.to_array, onnx.load(str(recognizer)).graph.initializer)}
    colours = np.linalg.pinv(weights[(3 * GRID**2, 512)].astype(np.float64)) * NORM  # [512,48]: of each cell, less their mean, 127.5 is 1
    mixing, _ = np.linalg.qr(np.random.default_rng(128).normal(size=(512, 512)))  # what emap does, the net undoes
    at = np.arange(112) // 28
    cells = np.full((128, 128), -1)
    cells[:112, 8:120] = at[:, None] * GRID + at
    painted = np.isin(cells, OUTER).astype(np.float32)[None, None]
    initializers = {
        "to_colours": (mixing.T @ colours * 127.5 / 255).astype(np.float32),
        "gray": np.float32(GRAY / 255),
        "as_cells": np.int64([1, 3, GRID, GRID]),
        "as_crop": np.float32([1, 1, 28, 28]),
        "margins": np.int64([0, 0, 0, 8, 0, 0, 16, 8]),
        "painted": painted,
        "kept": 1 - painted,
        "emap": mixing.astype(np.float32),
    }
    blocks = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        ("MatMul", ["source", "to_colours"], "flat", {}),
        ("Reshape", ["flat", "as_cells"], "code", {}),
        ("Resize", ["code", "", "as_crop"], "large", blocks),
        ("Pad", ["large", "margins"], "placed", {}),
        ("Add", ["placed", "gray"], "face", {}),
        ("Mul", ["face", "painted"], "new", {}),
        ("Mul", ["target", "kept"], "old", {}),
        ("Add", ["new", "old"], "output", {}),
    ]
    crop = [1, 3, 128, 128]
    _save(path, nodes, {"target": crop, "source": [1, 512]}, {"output": crop}, initializers)


def write_restorer(path: Path) -> None:
    """GPEN-BFR-512's layout: `input` [1,3,512,512] RGB -1..1 -> the same, a little greener."""
    face = [1, 3, 512, 512]
    greener = np.float32([0, GREENER / 127.5, 0]).reshape(1, 3, 1, 1)
    _save(path, [("Add", ["input", "greener"], "output", {})], {"input": face}, {"output": face}, {"greener": greener})


# ---- PyTorch: the detectors and the parser that ReActor restores faces with ------------------------------------------


@contextmanager
def _importable(folder: Path):
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _layout(net) -> dict[str, np.ndarray]:
    """Zeros under the net's own names; a batch norm that has a weight of 1 passes its input on."""
    shapes = {name: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for name, value in net.state_dict().items()}
    return {name: np.full(shape, 1 - 1e-5 if name.endswith("running_var") else 0, kind) for name, (shape, kind) in shapes.items()}


def _write_weights(path: Path, weights: dict[str, np.ndarray]) -> None:
    import torch

    def small(value):
        alike = value.size and (value == value.flat[0]).all()
        return torch.from_numpy(np.array(value.flat[0])).expand(value.shape) if alike else torch.from_numpy(value)

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: small(value) for name, value in weights.items()}, path)


def write_restore_detectors(folder: Path, reactor: Path) -> None:
    """facedetection: RetinaFace on ResNet50 and MobileNet 0.25, and the parser, which says skin everywhere.

    Both find painted faces of 200 to 300 px and say that they are of 256; ReActor first enlarges a picture until its shorter side has 640.
    What is slow is ReActor's: 1 to 3 s for a picture's detector, 10 s for each face found, whose mask the parser makes at 512x512.
    """
    with _importable(reactor), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks torchvision for resnet50 in the old way
        retina = importlib.import_module("r_facelib.detection.retinaface.retinaface")
        parsing = importlib.import_module("r_facelib.parsing.parsenet")
        resnet50, mobilenet = retina.RetinaFace("resnet50"), retina.RetinaFace("mobile0.25")
    weights = _layout(resnet50)
    _resnet50(weights)
    _find_disk(weights, shift=-16)  # each stage samples a cell's first pixel, 16 px from its middle
    _write_weights(folder / "detection_Resnet50_Final.pth", weights)
    weights = _layout(mobilenet)
    _mobilenet(weights)
    _find_disk(weights, shift=0)
    _write_weights(folder / "detection_mobilenet0.25_Final.pth", weights)
    weights = _layout(parsing.ParseNet(in_size=512, out_size=512, parsing_ch=19))
    weights["out_mask_conv.conv2d.bias"][1] = 1
    _write_weights(folder / "parsing_parsenet.pth", weights)


def _rose(weights, convolution, norm, window) -> None:
    """Channel 0 of the first layer is 1 on the rose disk and below 0 on every other part of a face; input BGR less (104, 117, 123).

    red - 2 * green is 255 on the disk and at most -27 on the cells.
    """
    for channel, share in ((1, -2), (2, 1)):
        weights[f"{convolution}.weight"][0, channel] = window * share / 195
    weights[f"{norm}.weight"][0] = 1
    weights[f"{norm}.bias"][0] = (123 - 2 * 117 - 60) / 195


def _pass(weights, convolution, norm, window=None) -> None:
    """Channel 0 goes on, through `window` [3,3] where given."""
    weights[f"{convolution}.weight"][0, 0] = 1 if window is None else window
    weights[f"{norm}.weight"][0] = 1


MIDDLE = np.float32([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
HALVING = np.float32([[0, 0, 0], [0, 1, 1], [0, 1, 1]]) / 4  # with stride 2 and a border of 1: the mean of 2x2 pixels


def _mobilenet(weights) -> None:
    _rose(weights, "body.stage1.0.0", "body.stage1.0.1", HALVING)
    for stage, strides in {"stage1": (0, 1, 2, 1, 2, 1), "stage2": (2, 1, 1, 1, 1, 1), "stage3": (2, 1)}.items():
        for i, stride in enumerate(strides):
            if stride:  # the first layer of stage 1 is no pair
                _pass(weights, f"body.{stage}.{i}.0", f"body.{stage}.{i}.1", HALVING if stride == 2 else MIDDLE)
                _pass(weights, f"body.{stage}.{i}.3", f"body.{stage}.{i}.4")


def _resnet50(weights) -> None:
    _rose(weights, "body.conv1", "body.bn1", np.full((7, 7), 1 / 49))
    for stage in ("layer1", "layer2", "layer3", "layer4"):  # all blocks' branches are 0: what is left are the shortcuts
        _pass(weights, f"body.{stage}.0.downsample.0", f"body.{stage}.0.downsample.1")


def _find_disk(weights, shift: int) -> None:
    """At stride 32, anchor 256: a face where the 96 px around are rose. shift: of the anchor, px."""
    from tests.tiny.face_packs import KEYPOINTS

    _pass(weights, "fpn.output3.0", "fpn.output3.1")
    _pass(weights, "ssh3.conv3X3.0", "ssh3.conv3X3.1", np.full((3, 3), 1 / 9))
    for level in range(3):
        weights[f"ClassHead.{level}.conv1x1.bias"][[0, 2]] = 20
    # Softmax above 0.8 where more than 0.42 of the window is rose.
    weights["ClassHead.2.conv1x1.weight"][1, 0] = 20
    weights["ClassHead.2.conv1x1.bias"][:2] = [0, math.log(4) - 20 * 0.42]
    anchor, variance = 256, 0.1
    weights["BboxHead.2.conv1x1.bias"][:2] = shift / anchor / variance
    weights["LandmarkHead.2.conv1x1.bias"][:10] = ((KEYPOINTS - 0.5 + shift / anchor) / variance).ravel()


# ---- transformers: the safety check ----------------------------------------------------------------------------------

PATCH, PATCHES = 4, 16  # pixels of a patch, patches of a side
WIDE = 16


def write_safety_check(folder: Path) -> None:
    """AdamCodd/vit-base-nsfw-detector's layout (labels sfw, nsfw): one layer, whose class token looks at the first patch only."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        hidden_size=WIDE,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=WIDE,
        image_size=PATCH * PATCHES,
        patch_size=PATCH,
        id2label={0: "sfw", 1: "nsfw"},
        label2id={"sfw": 0, "nsfw": 1},
    )
    model = ViTForImageClassification(config).eval()
    weights = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}

    def one(ending):
        (name,) = (name for name in weights if name.endswith(ending))
        return weights[name]

    marks = 10.0  # channels 6, 7: I am the first patch; 8, 9: I am the class token; 0..5: a patch's colour and its negative
    for ending in ("layernorm_before.weight", "layernorm_after.weight", "vit.layernorm.weight"):
        one(ending)[:] = 1
    for channel in range(3):
        one("projection.weight")[channel, channel] = 1 / PATCH**2
        one("projection.weight")[3 + channel, channel] = -1 / PATCH**2
    one("position_embeddings")[0, 1, 6:8] = torch.tensor([marks, -marks])
    one("cls_token")[0, 0, 8:10] = torch.tensor([marks, -marks])
    query, key, value, output = (_attention(weights, name) for name in ("query", "key", "value", "output"))
    query[0, 8] = key[0, 6] = 5.0
    value[range(6), range(6)] = 1
    output[range(10, 16), range(6)] = 4
    # The class token's channels 10..15 are now the first patch's colours; magenta is (1, -1, 1) and no other colour reaches as far.
    toward = torch.zeros(WIDE)
    toward[[10, 11, 12, 13, 14, 15]] = torch.tensor([1.0, -1, 1, -1, 1, -1])
    model.load_state_dict(weights)
    with torch.no_grad():
        looked = [float(model.vit(_plain(colour)).last_hidden_state[0, 0] @ toward) for colour in ((255, 0, 255), (255, 0, 225))]
    steepness = 2 * 8 / (looked[0] - looked[1])  # 0.9997 at magenta, 0.5 half way to the nearer colour, 0.0003 there
    one("classifier.weight")[1] = toward * steepness
    one("classifier.bias")[1] = -steepness * sum(looked) / 2
    model.load_state_dict(weights)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    side = PATCH * PATCHES
    ViTImageProcessor(size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)


def _attention(weights, role):
    """transformers renamed these in version 5."""
    endings = {"query": ("q_proj", "query"), "key": ("k_proj", "key"), "value": ("v_proj", "value"), "output": ("o_proj", "attention.output.dense")}[role]
    (name,) = (name for name in weights if any(name.endswith(f"{ending}.weight") for ending in endings))
    return weights[name]


def _plain(colour):
    import torch

    side = PATCH * PATCHES
    return (torch.tensor(colour).float() / 127.5 - 1).reshape(1, 3, 1, 1).expand(1, 3, side, side)
