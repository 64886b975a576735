"""Pictures through ComfyUI's vision encoders: loaded when a picture is new, and let go of at once. What is done with the embeddings is image_prompt.py's."""

from collections.abc import Sequence
from dataclasses import dataclass

import comfy.clip_vision
import torch

from ..errors import MissingModelError
from ..tensors import content_key, token
from .checkpoint import INSTANTX, Adapter, Encoder
from .image_prompt import EMBEDDINGS, siglip_pool


@dataclass(frozen=True, eq=False)
class FluxIPAdapter:
    """An adapter's and an encoder's file, looked into but not loaded. vision: an encoder that another node has loaded already, instead of the file's."""

    adapter: Adapter
    encoder: Encoder
    vision: object = None

    def get_models(self) -> list:
        """What the host must not take away while this is in use."""
        return [self.vision.patcher] if self.vision is not None else []

    def embeddings(self, pictures: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, tuple]]:
        """For each picture [1,H,W,3] its embedding float32 [1,image_width] and the key it is known by; encoded only where it is new."""
        state = self.encoder.state if self.vision is None else ("wired", token(self.vision.model), *self.encoder.state)
        keys = [(*state, content_key(picture)) for picture in pictures]
        new = {key: picture for key, picture in zip(keys, pictures) if EMBEDDINGS.look(key) is None}
        made = dict(zip(new, self._encoded(list(new.values())))) if new else {}
        for key, embedding in made.items():
            EMBEDDINGS.keep(key, embedding)
        return [(made[key] if key in made else EMBEDDINGS.look(key), key) for key in keys]

    def nothing(self) -> tuple[torch.Tensor, tuple]:
        """The embedding of no picture, all zeros, as tencent-ailab's IP-Adapter gives the negative prompt, and its key."""
        return torch.zeros(1, self.adapter.image_width), ("nothing",)

    def _encoded(self, pictures: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        siglip = self.adapter.family is INSTANTX
        vision, head = self.vision or _loaded(self.encoder), self.encoder.head() if siglip else None
        out = []
        for picture in pictures:
            # CLIP's own processor cuts the middle square out; SigLIP's squeezes the whole picture into its square.
            seen = vision.encode_image(picture, crop=not siglip)
            shown = seen["last_hidden_state" if siglip else "image_embeds"]
            embedding = torch.zeros(0) if shown is None else shown.float().cpu()
            if siglip and embedding.ndim == 3 and embedding.shape[-1] == self.adapter.image_width:
                with torch.no_grad():
                    embedding = siglip_pool(embedding, head)
            if embedding.ndim != 2 or embedding.shape[1] != self.adapter.image_width:
                raise MissingModelError(
                    f"The vision encoder gives embeddings of {embedding.shape[-1]} numbers; {self.adapter.path.name} ({self.adapter.title}) takes "
                    f"{self.adapter.image_width}: leave clip_vision_model unwired, and choose the encoder's file."
                )
            out.append(embedding)
        return out


def _loaded(encoder: Encoder):
    vision = comfy.clip_vision.load(str(encoder.path))
    if vision is None:
        raise MissingModelError(f"ComfyUI does not know the vision encoder in {encoder.path.name}; choose another file.")
    return vision
