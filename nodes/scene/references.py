"""Reference pictures of a scene: split into single ones, labelled, and prepared for model and text encoder once. What a prompt says of them is prompts.py's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ..errors import InputError
from ..tensors import TensorMemory, content_key, token
from .choices import CUSTOM_MEGAPIXELS, PIXEL_LOCK
from .presets import ASPECT_SLACK, EDIT_MULTIPLE, MEGAPIXEL, rounded_size, stretch
from .prompts import PictureLabel

ROLES = ("face", "outfit", "background", "pose", "extra")

# What the text encoder sees of a picture: 384 x 384 pixels at its own aspect (TextEncodeQwenImageEditPlus).
VISION_AREA = 384 * 384
# Prepared references kept after their node is gone: a latent of 1 megapixel takes 1 MB, what the text encoder sees 2 MB.
MEMORY_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class Reference:
    """One reference picture. pixels: float [1,H,W,3] in 0..1; key: of its content; matched: (width, height) of what `match source` takes the aspect
    of the pictures from, None with any other aspect."""

    pixels: torch.Tensor
    role: str
    character: str
    policy: str
    megapixels: float
    vae: object
    key: bytes
    matched: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[2], self.pixels.shape[1]

    def latent_size(self, target: tuple[int, int] | None) -> tuple[int, int]:
        """(width, height) at which it is encoded for pictures of the size `target`; without a target, as `scene` has it."""
        if target is not None and self.locked(target):
            return target
        area = (self.megapixels if self.policy == CUSTOM_MEGAPIXELS else 1.0) * MEGAPIXEL
        return rounded_size(*self.size, area, EDIT_MULTIPLE)

    def locked(self, target: tuple[int, int]) -> bool:
        """Whether pixel lock puts it on the target's grid: of the target's aspect, or of that which `match source` came as near to as it could."""
        return self.policy == PIXEL_LOCK and any(fits(self.size, size) for size in (target, self.matched) if size is not None)

    def vision(self) -> torch.Tensor:
        """What the text encoder sees: float [1,h,w,3] of about 384 x 384 pixels."""
        return MEMORY.get((self.key, "vision"), lambda: averaged(self.pixels, vision_size(self.size)))

    def latent(self, target: tuple[int, int] | None = None) -> torch.Tensor:
        """The reference latent [1,16,1,h/8,w/8] from its VAE, encoded when first asked for."""
        size = self.latent_size(target)
        return MEMORY.get((self.key, size, token(self.vae.first_stage_model)), lambda: self.vae.encode(resized(self.pixels, size)))


@dataclass(frozen=True, eq=False)
class References:
    """The reference pictures of a scene, in the order in which the prompt counts them: Picture 1 is the first."""

    pictures: tuple[Reference, ...]

    @property
    def labels(self) -> list[PictureLabel]:
        return [PictureLabel(i, picture.role, picture.character) for i, picture in enumerate(self.pictures, 1)]

    @property
    def character(self) -> str:
        """The names of the characters, each once: `Mira and Tomas`; empty when none has a name."""
        return " and ".join(dict.fromkeys(picture.character for picture in self.pictures if picture.character))

    def report(self, target: tuple[int, int] | None = None) -> list[dict]:
        rows = []
        for i, picture in enumerate(self.pictures, 1):
            width, height = picture.latent_size(target)
            rows.append(
                {
                    "picture": i,
                    "role": picture.role,
                    "character": picture.character,
                    "size": list(picture.size),
                    "encoded_at": [width, height],
                    "tokens": (width // 16) * (height // 16),
                    "policy": picture.policy,
                }
            )
        return rows

    def matching(self, size: tuple[int, int]) -> "References":
        """The same pictures for a target that has the aspect of `size` by `match source`, as near as its multiples allow."""
        return References(tuple(replace(picture, matched=size) for picture in self.pictures))

    def unlocked(self, target: tuple[int, int]) -> list[str]:
        """A sentence for each picture that should be locked to the target's pixels and cannot be."""
        return [
            f"Picture {i} ({picture.role}) is {picture.size[0]}x{picture.size[1]}, of another aspect than {target[0]}x{target[1]}: "
            "it is not locked to its pixels but encoded at its own aspect"
            f"{'.' if picture.matched else '; `match source` takes over the aspect of Picture 1.'}"
            for i, picture in enumerate(self.pictures, 1)
            if picture.policy == PIXEL_LOCK and not picture.locked(target)
        ]


def gather(
    pictures: Sequence[tuple[str, Sequence[torch.Tensor]]], name: str, policy: str, megapixels: float, vae, earlier: References | None = None
) -> References:
    """References from batches [B,H,W,C] by role, one reference per frame, behind those of `earlier`.

    A batch as it is would be taken for a video by the VAE and for its first frame by the text encoder. Raises InputError without any picture.
    """
    name = " ".join(name.split())
    gathered = list(earlier.pictures) if earlier else []
    for role, batches in pictures:
        for batch in batches:
            for frame in batch:
                pixels = as_rgb(frame.unsqueeze(0))
                gathered.append(Reference(pixels, role, name, policy, megapixels, vae, content_key(pixels)))
    if not gathered:
        raise InputError("No reference picture is wired: connect at least one to face, outfit, background, pose or extra.")
    return References(tuple(gathered))


def as_rgb(pixels: torch.Tensor) -> torch.Tensor:
    """Float [1,H,W,C] as [1,H,W,3]: one channel is repeated, alpha dropped."""
    return pixels[..., :1].expand(-1, -1, -1, 3) if pixels.shape[-1] < 3 else pixels[..., :3]


def fits(size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Whether a picture of that size can be put on the target's grid without visible stretching."""
    return abs(stretch(size, target)) <= ASPECT_SLACK


def vision_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of about 384 x 384 pixels; the encoder itself then rounds to multiples of 28 (comfy/text_encoders/qwen_vl.py)."""
    return rounded_size(*size, VISION_AREA, 1)


def resized(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Float [1,H,W,3] at (width, height), in one step: averaged over areas where it shrinks, bicubic where it grows."""
    width, height = size
    if width * height <= pixels.shape[1] * pixels.shape[2]:
        return averaged(pixels, size)
    return F.interpolate(pixels.movedim(-1, 1), size=(height, width), mode="bicubic").clamp_(0, 1).movedim(1, -1)


def averaged(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Float [1,H,W,3] at (width, height), each pixel the mean of the area it covers: the host's `area`, which its text encoder node uses."""
    if (pixels.shape[2], pixels.shape[1]) == size:
        return pixels
    return F.interpolate(pixels.movedim(-1, 1), size=(size[1], size[0]), mode="area").movedim(1, -1)


MEMORY = TensorMemory(MEMORY_BYTES)
