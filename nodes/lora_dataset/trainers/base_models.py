"""The base models that a LoRA can be made for, under the names of their makers. What a trainer calls them stands in that trainer's file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BaseModel:
    """name: its maker's; repository: of its weights on Hugging Face; family: qwen or flux; edit: whether it takes control pictures."""

    name: str
    repository: str
    family: str
    edit: bool = False


QWEN_IMAGE = BaseModel("Qwen-Image", "Qwen/Qwen-Image", "qwen")
QWEN_IMAGE_2512 = BaseModel("Qwen-Image-2512", "Qwen/Qwen-Image-2512", "qwen")
QWEN_IMAGE_EDIT_2509 = BaseModel("Qwen-Image-Edit-2509", "Qwen/Qwen-Image-Edit-2509", "qwen", edit=True)
QWEN_IMAGE_EDIT_2511 = BaseModel("Qwen-Image-Edit-2511", "Qwen/Qwen-Image-Edit-2511", "qwen", edit=True)
FLUX_1_DEV = BaseModel("FLUX.1-dev", "black-forest-labs/FLUX.1-dev", "flux")
BASE_MODELS = {model.name: model for model in (QWEN_IMAGE, QWEN_IMAGE_2512, QWEN_IMAGE_EDIT_2509, QWEN_IMAGE_EDIT_2511, FLUX_1_DEV)}
