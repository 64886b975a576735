"""What the inputs of this room's nodes offer: choices, defaults and limits. Nothing else, since the host wants them before anything runs."""

# ---- references ------------------------------------------------------------------------------------------------------

SCENE, PIXEL_LOCK, CUSTOM_MEGAPIXELS = POLICIES = ("scene", "pixel lock", "custom megapixels")

# ---- shots -----------------------------------------------------------------------------------------------------------

PLAIN, ANGLE_2509, ANGLE_2511 = ANGLE_VOCABULARIES = ("plain words", "2509 angle LoRA", "2511 angle LoRA")
SEEDS = OWN_SEEDS, SAME_SEEDS = ("own for each shot", "same for every shot")
MOST_SHOTS = 1000

# {scene} is best a phrase with a verb: `stands in a kitchen`. A scene that has {character} or another field itself takes it from the template.
DEFAULT_TEMPLATE = "{character}[ of {picture:face}] {scene}[, {expression}][, wearing {outfit}][, {light}][, {framing}][, {angle}]"
# The pictures of a character in a usual LoRA dataset: 20 faces, 30 whole figures, and 20 of everything between.
DATASET_PLAN = "20 closeup, 30 full body, 20 variety"

# ---- LoRAs -----------------------------------------------------------------------------------------------------------

# lora_files.ROLES: that file lies below the rooms and takes nothing from them.
LORA_ROLES = ("character", "style", "angle", "speed")

# ---- scenes ----------------------------------------------------------------------------------------------------------

EDIT_2511, EDIT_2509, TEXT_TO_IMAGE = KINDS = ("edit 2511", "edit 2509", "text to image")
AUTO = "auto"
IGNORE_REFERENCES = "text to image, ignore references"
KIND_CHOICES = (AUTO, *KINDS, IGNORE_REFERENCES)

BALANCED, FAST, QUALITY, CUSTOM = PRESETS = ("balanced", "fast", "quality", "custom")

MATCH_SOURCE, CUSTOM_SIZE = "match source", "custom"
ASPECTS = {
    "1:1": (1, 1),
    "4:5": (4, 5),
    "5:4": (5, 4),
    "3:4": (3, 4),
    "4:3": (4, 3),
    "2:3": (2, 3),
    "3:2": (3, 2),
    "9:16": (9, 16),
    "16:9": (16, 9),
    "21:9": (21, 9),
}
ASPECT_CHOICES = (*ASPECTS, MATCH_SOURCE, CUSTOM_SIZE)
