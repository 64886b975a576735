"""Sweeps without a model: LoRA files that are headers alone, pictures that carry their own score, and a studio that makes them and counts what it does."""

import json
import struct
from pathlib import Path

import numpy as np

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.identity.identity import Identity, Reference
from character_likeness.nodes.identity.recognizers import Face, Found, Part, Recognizer, RecognizerInfo, Thresholds
from character_likeness.nodes.identity.scoring import Measured
from character_likeness.nodes.lora_dataset.checkpoints import Checkpoint
from character_likeness.nodes.lora_dataset.checkpoints import Part as LoraPart
from character_likeness.nodes.lora_dataset.sweep import Memory
from character_likeness.nodes.pictures import Picture

SIDE = 64
QWEN_LAYER = "diffusion_model.transformer_blocks.0.img_mlp.net.0.proj"
TEXT_LAYER = "lora_te_text_model_encoder_layers_0_mlp_fc1"


# ---- files -----------------------------------------------------------------------------------------------------------


def write_lora(path: Path, trigger: str = "", text: bool = False) -> Path:
    """A LoRA of one layer, and of one of a text encoder; its tensors are zeros."""
    tensors, end = {}, 0
    for layer in (QWEN_LAYER, *([TEXT_LAYER] if text else [])):
        for name, shape in ((f"{layer}.lora_A.weight", [4, 8]), (f"{layer}.lora_B.weight", [8, 4])):
            tensors[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + 64]}
            end += 64
    if trigger:
        tensors["__metadata__"] = {"modelspec.trigger_phrase": trigger}
    header = json.dumps(tensors).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(end))
    return path


def checkpoint(label: str = "mira_500", trigger: str = "m1ra", step: int | None = None, error: str = "", **part) -> Checkpoint:
    """One without a file."""
    return Checkpoint(label, (LoraPart(f"{label}.safetensors", Path(f"{label}.safetensors"), **part),), trigger, step, error)


# ---- whom it is about ------------------------------------------------------------------------------------------------


def face(score: float = 1.0, yaw: float = 0.0, side: float = 120.0) -> Face:
    """A face whose cosine to the character's is `score`."""
    embedding = np.array([score, (1 - score**2) ** 0.5, 0, 0], np.float32)
    return Face((0.0, 0.0, side, side), 0.9, np.zeros((5, 2), np.float32), embedding, yaw, 0.2)


class ByPixel(Recognizer):
    """Reads a picture's score out of its first pixel, as `painted` puts it there; counts how many pictures it was asked about."""

    def __init__(self, name: str = "by pixel"):
        part = Part("none", "none", True)
        super().__init__(RecognizerInfo(name, part, part, "cosine", 4, Thresholds(0.3, 0.4, 0.5, "none")))
        self._fingerprint = name
        self.asked = 0

    def faces(self, pictures, enough=None, tick=lambda: None):
        self.asked += len(pictures)
        return [Found((face(red / 200, yaw=float(green)),) if red else ()) for red, green in (picture.pixels[0, 0, :2] for picture in pictures)]


def painted(score: float | None, shade: float = 0.5, yaw: int = 0) -> np.ndarray:
    """uint8 [SIDE,SIDE,3]: a picture of one shade that shows a face with this score, to 1/200, or none."""
    pixels = np.full((SIDE, SIDE, 3), round(255 * min(shade, 1.0)), np.uint8)
    pixels[0, 0] = 0 if score is None else round(200 * score), yaw, 0
    return pixels


def mira(recognizer: Recognizer | None = None, **reference) -> Identity:
    return Identity("Mira", recognizer or ByPixel(), "mean", (Reference(0, face(), **reference),), np.zeros((4, 4, 3), np.uint8))


def seen(*scores: float | None, yaw: float = 0.0) -> list[Measured]:
    """A measured picture for each score, None for one without a face."""
    return [Measured((), np.zeros((0, 1))) if score is None else Measured((face(score, yaw),), np.array([[score]])) for score in scores]


# ---- making pictures -------------------------------------------------------------------------------------------------


class Latents(dict):
    """As TensorMemory, without tensors."""

    def look(self, key):
        return self.get(key)

    def keep(self, key, latent):
        self[key] = latent


def memory(**options) -> Memory:
    return Memory(Latents(), **options)


class OutOfMemory(Exception):
    pass


class FakeStudio:
    """Makes a picture of (score, shade, yaw), as `look(label or None, strength, text, seed)` says. told: what it did, in order.

    broken: labels of checkpoints that cannot be loaded; tight: (what, number) of the pieces of work for which there is not enough memory, by their
    number among those of that kind.
    """

    pace = ("fake",)

    def __init__(self, look, broken=(), tight=()):
        self.look, self.broken, self.tight = look, broken, set(tight)
        self.told: list[tuple] = []
        self.freed = 0

    def count(self, what: str) -> int:
        return sum(one[0] == what for one in self.told)

    def _do(self, what: str, *about) -> None:
        self.told.append((what, *about))
        if (what, self.count(what)) in self.tight:
            raise OutOfMemory

    def key(self, shot, alone):
        return shot.checkpoint and shot.checkpoint.label, shot.strength, shot.text, shot.seed, alone

    def encode(self, text):
        self._do("encode", text)

    def painter(self, checkpoint, strength, texts):
        label = checkpoint and checkpoint.label
        self._do("painter", label, strength)
        if label in self.broken:
            raise InputError(f"{label}.safetensors matches nothing in this model; it is a LoRA for Flux.")
        return _Painter(self, label, strength)

    def decode(self, latents):
        self._do("decode", *latents)
        return [painted(*latent) for latent in latents]

    @staticmethod
    def picture(image) -> Picture:
        return Picture(image)

    @staticmethod
    def is_out_of_memory(error) -> bool:
        return isinstance(error, OutOfMemory)

    def free_memory(self) -> None:
        self.freed += 1


class _Painter:
    def __init__(self, studio, label, strength):
        self.studio, self.label, self.strength = studio, label, strength

    def sample(self, text, seeds, step):
        self.studio._do("sample", self.label, self.strength, text, *seeds)
        step(1, 1, None)
        return [self.studio.look(self.label, self.strength, text, seed) for seed in seeds]
