"""What the inputs of this room's nodes offer: choices, defaults and limits. Nothing else, since the host wants them before anything runs."""

from collections.abc import Sequence
from pathlib import PurePosixPath

# ---- datasets --------------------------------------------------------------------------------------------------------

# The names of dataset.BUCKETS.
BUCKETS = ("character", "body")
MOST_REPEATS = 10_000

# keep: the caption that an item has, the template where it has none; template: always; given: a list, one for each picture.
KEEP, TEMPLATE, GIVEN = SOURCES = ("keep", "template", "given")
# What is always true of the character: omitted, the trigger word comes to stand for it; described, it stays something that a prompt can change.
OMIT, DESCRIBE = POLICIES = ("omit", "describe")
DEFAULT_TEMPLATE = "{trigger}, {framing}, {angle}, {pose}, {clothing}, {expression}, {light}, {background}, {other}"

MARGIN = 0.6
# Of a face with three times its side of picture on every side nothing is a face crop any more.
WIDEST_MARGIN = 3.0
# The smallest bucket that trainers of these models are given.
MINIMUM = 512

# ---- export ----------------------------------------------------------------------------------------------------------

# The names in trainers.TRAINERS, trainers.BASE_MODELS and recipes.PRESETS, the default first.
TRAINERS = ("ai-toolkit", "musubi-tuner", "sd-scripts", "imagefolder")
BASE_MODELS = ("Qwen-Image", "Qwen-Image-2512", "Qwen-Image-Edit-2509", "Qwen-Image-Edit-2511", "FLUX.1-dev")
RECIPES = ("character rank 16", "rank 32 cosine")

TEXT_TO_IMAGE, PAIRED_EDIT, EDIT_AS_TEXT_TO_IMAGE = MODES = ("text to image", "paired edit", "edit as text to image")

# GiB of graphics memory that settings are known or guessed for.
VRAM = (24, 32, 48, 80)

# The seed plan's three: 2e-4 is what most character LoRAs of rank 16 are trained at.
LEARNING_RATES = {"careful": 5e-5, "normal": 2e-4, "risky": 5e-4}
NORMAL_RATE = "normal"

AUTO, GUIDE, PER_BUCKET = REPEATS = ("auto", "guide", "per bucket")
# The worked example of the seed plan: 70 pictures x 40 + 30 pictures x 20.
TARGET_STEPS = 3400

NO_ARCHIVE, ZIP = ARCHIVES = ("none", "zip")
PNG, JPEG = PICTURE_FORMATS = ("png", "jpeg")

# ---- comparisons and sweeps ------------------------------------------------------------------------------------------

MOST_METHODS = 8

TRIGGER = "{trigger}"
MOST_SEEDS = 64

# One for each way a character LoRA is mostly asked to show: near, whole and moving, sitting, with another face, in clothes and light of its own.
PRESET_PROMPTS = (
    f"{TRIGGER}, portrait, looking at the camera, soft window light, plain grey background",
    f"{TRIGGER}, full body, dancing on a stage, flowing dress, coloured spotlights",
    f"{TRIGGER}, full body, sitting on a wooden chair, t-shirt and jeans, realistic proportions, daylight",
    f"{TRIGGER}, closeup, surprised, eyebrows raised, mouth open, warm evening light",
    f"{TRIGGER}, full body, winter coat and scarf, walking through a snowy forest, overcast",
)
PRESET_STRENGTHS = "0.6..1.0"

# Samplers of the host (comfy/k_diffusion/sampling.py, comfy/extra_samplers/uni_pc.py) that treat every row of a batch for itself: they neither draw noise on
# the way (the host's generator gives it for the whole batch) nor choose their steps by all rows (dpm_adaptive). Of others nothing is known.
ROW_BY_ROW = frozenset(
    "euler euler_cfg_pp heun heunpp2 exp_heun_2_x0 dpm_2 lms dpm_fast dpmpp_2m dpmpp_2m_cfg_pp ipndm ipndm_v deis res_multistep res_multistep_cfg_pp "
    "gradient_estimation gradient_estimation_cfg_pp ddim uni_pc uni_pc_bh2".split()
)

# Of LoRA files.
SUFFIXES = (".safetensors", ".sft")


def folders_of(known: Sequence[str]) -> list[str]:
    """The folders that hold LoRAs, by name, `.` for models/loras itself."""
    parents = (str(PurePosixPath(name.replace("\\", "/")).parent) for name in known if name.lower().endswith(SUFFIXES))
    return sorted(dict.fromkeys(parents))
