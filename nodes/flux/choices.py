"""What the inputs of this room's nodes offer: choices, defaults and limits. Nothing else, since the host wants them before anything runs."""

import math
from collections.abc import Callable

# Of adapter and encoder files.
SAFE, PICKLED = frozenset({".safetensors", ".sft"}), frozenset({".bin", ".pt", ".pth", ".ckpt"})
EXTENSIONS = SAFE | PICKLED

# Whose weight acts.
OWN, CUSTOM = WEIGHTS = ("own", "custom")
# Beyond this a picture is only destroyed; bf16 and fp16 still hold the sum.
MOST_WEIGHT = 10.0

CONCAT, AVERAGE, PER_ROW = COMBINE = ("concat", "average", "one per batch row")
ZERO, NONE, PICTURE = NEGATIVE = ("zero", "none", "picture")

# The weight over the range from start to end, u from 0 to 1.
CURVES: dict[str, Callable[[float], float]] = {
    "constant": lambda u: 1.0,
    "fade out": lambda u: 1 - u,
    "fade in": lambda u: u,
    "ease out": lambda u: (1 + math.cos(math.pi * u)) / 2,
    "ease in": lambda u: (1 - math.cos(math.pi * u)) / 2,
    "middle": lambda u: math.sin(math.pi * u),
}
