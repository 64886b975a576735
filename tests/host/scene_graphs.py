"""Graphs with the scene nodes, small enough to run in a second."""

from tests.host.graphs import Graph, Node
from tests.tiny import qwen_models as files

# The outputs of Qwen Character Scene, in order.
IMAGES, PROMPTS, CAPTIONS, SCORES, REPORT = range(5)

SCENE = {
    "scene": "a woman in the rain",
    "aspect_ratio": "custom",
    "megapixels": 1.0,
    "width": 256,
    "height": 256,
    "seed": 1,
    "denoise": 1.0,
    "speed_lora": "none: already in the model",
    "preset": "custom",
    "preset.steps": 2,
    "preset.cfg": 2.5,
    "preset.sampler": "euler",
    "preset.scheduler": "simple",
    "preset.shift": 0.0,
    "preset.cfg_norm": -1.0,
}
SHOTS = {
    "scenes": "stands in a kitchen\nwalks along a beach",
    "angles": "",
    "lighting": "",
    "expressions": "",
    "outfits": "",
    "framing_plan": "",
    "template": "{character} {scene}[, {light}]",
    "trigger": "",
    "angle_vocabulary": "plain words",
    "seeds_per_shot": 1,
    "seeds": "same for every shot",
    "limit": 100,
}


class SceneGraph(Graph):
    """A graph with the loaders in it."""

    def __init__(self, unet: str = files.EDIT_2511, clip: str = files.TEXT_ENCODER, vae: str = files.VAE):
        super().__init__()
        self.model = self.add("unet", "UNETLoader", unet_name=unet, weight_dtype="default").out(0)
        self.clip = self.add("clip", "CLIPLoader", clip_name=clip, type="qwen_image", device="default").out(0)
        self.vae = self.add("vae", "VAELoader", vae_name=vae).out(0)

    def lora(self, name: str, lora: str, /, **inputs) -> Node:
        node = self.add(name, "LikenessLora", **({"model": self.model, "lora": lora, "strength": 1.0, "role": "character", "trigger": ""} | inputs))
        self.model = node.out(0)
        return node

    def references(self, name: str = "references", /, policy="custom megapixels", **pictures) -> list:
        """References of 0.1 megapixels; pictures by role are file names or links."""
        linked = {role: self.picture(f"{name} {role}", file) if isinstance(file, str) and role not in ("name",) else file for role, file in pictures.items()}
        return self.add(name, "LikenessCharacterReferences", **({"vae": self.vae, "name": "", "policy": policy, "megapixels": 0.1} | linked)).out(0)

    def shots(self, name: str = "shots", /, **inputs) -> Node:
        return self.add(name, "LikenessShotList", **(SHOTS | inputs))

    def scene(self, name: str = "scene", /, **inputs) -> Node:
        node = self.add(name, "LikenessQwenScene", **({"model": self.model, "clip": self.clip, "vae": self.vae, **SCENE} | inputs))
        self.tell(f"{name} report", node.out(REPORT))
        self.digest(f"{name} digest", node.out(IMAGES))
        return node

    def digest(self, name: str, images) -> None:
        self.add(name, "TestDigest", images=images)
