"""The official Qwen-Image and Qwen-Image-Edit graphs out of the host's own nodes, and pictures to edit.

Each function adds its nodes to a Graph, under `name`, and returns the link of the decoded picture. What the nodes of
this pack make must equal what these make.
"""

from itertools import groupby

import numpy as np

from tests.host.graphs import Graph


def official_edit(
    graph: Graph,
    *,
    unet,
    clip,
    vae,
    references,
    prompt,
    negative=" ",
    width,
    height,
    steps=2,
    cfg=2.5,
    shift=3.1,
    seed=1,
    denoise=1.0,
    cfg_norm=True,
    lora=None,
    method=None,
    reference_sizes=None,
    source=None,
    name="edit",
) -> list:
    """Qwen-Image-Edit-Plus with its references encoded beside the text: the text encoder sees them as they are, the VAE each at its size.

    unet, clip, vae: file names. references: up to three names for Load Image. reference_sizes: (width, height) of each,
    by default those of the result. lora: (file name, strength) or a list of them. method: for the node Edit Model
    Reference Method. source: a name for Load Image that replaces the empty latent, for denoise below 1.
    """
    build = _Builder(graph, name)
    build.load(unet, clip, vae)
    pictures = [build.picture(file) for file in references]
    sizes = reference_sizes or [(width, height)] * len(pictures)
    latents = [build.latent(picture, size) for picture, size in zip(pictures, sizes, strict=True)]
    shown = {f"image{i}": picture for i, picture in enumerate(pictures, 1)}
    conditionings = []
    for text in (prompt, negative):
        conditioning = build("TextEncodeQwenImageEditPlus", clip=build.clip, prompt=text, **shown)
        for latent in latents:
            conditioning = build("ReferenceLatent", conditioning=conditioning, latent=latent)
        conditionings.append(conditioning)
    model = build.model(shift, cfg_norm, lora)
    start = build.latent(build.picture(source), (width, height)) if source else None
    return build.sample(model, build.reference_method(conditionings, method), start, width, height, steps, cfg, seed, denoise)


def official_edit_plain(
    graph: Graph,
    *,
    unet,
    clip,
    vae,
    references,
    prompt,
    negative=" ",
    width,
    height,
    steps=2,
    cfg=2.5,
    shift=3.1,
    seed=1,
    denoise=1.0,
    cfg_norm=True,
    lora=None,
    method=None,
    source=None,
    name="plain",
) -> list:
    """The widely used form: the VAE goes into TextEncodeQwenImageEditPlus, which makes every reference 1 megapixel: seconds, not tenths."""
    build = _Builder(graph, name)
    build.load(unet, clip, vae)
    shown = {f"image{i}": build.picture(file) for i, file in enumerate(references, 1)}
    conditionings = [build("TextEncodeQwenImageEditPlus", clip=build.clip, vae=build.vae, prompt=text, **shown) for text in (prompt, negative)]
    model = build.model(shift, cfg_norm, lora)
    start = build.latent(build.picture(source), (width, height)) if source else None
    return build.sample(model, build.reference_method(conditionings, method), start, width, height, steps, cfg, seed, denoise)


def official_text_to_image(
    graph: Graph, *, unet, clip, vae, prompt, negative="", width, height, steps=2, cfg=4.0, shift=3.1, seed=1, lora=None, name="image"
) -> list:
    """Qwen-Image from text alone."""
    build = _Builder(graph, name)
    build.load(unet, clip, vae)
    conditionings = [build("CLIPTextEncode", clip=build.clip, text=text) for text in (prompt, negative)]
    return build.sample(build.model(shift, False, lora), conditionings, None, width, height, steps, cfg, seed, 1.0)


def forget(comfy) -> None:
    """Empty the host's caches and unload its models: while there is memory it keeps the results of every earlier prompt.

    The host forgets at the latest after the next prompt that it runs, so one of no account follows.
    """
    comfy.post("/free", {"unload_models": True, "free_memory": True})
    graph = Graph()
    graph.show("show", graph.add("image", "EmptyImage", width=16, height=16, batch_size=1, color=0).out(0))
    assert comfy.run(graph).status == "success"


def switches(loads: list[str]) -> list[str]:
    """The models in the order in which the host turned to them, out of /test_counts' loads: on a small GPU each one puts the last one out."""
    return [name for name, _ in groupby(loads)]


def drawn_picture(seed: int, width: int = 96, height: int = 128) -> np.ndarray:
    """A uint8 picture of 16-pixel squares in random colours."""
    squares = np.random.default_rng(seed).integers(0, 256, (-(-height // 16), -(-width // 16), 3), np.uint8)
    return squares.repeat(16, 0).repeat(16, 1)[:height, :width]


class _Builder:
    """Adds nodes under a common prefix."""

    def __init__(self, graph: Graph, name: str):
        self._graph, self._name = graph, name

    def __call__(self, class_type: str, **inputs) -> list:
        number = sum(node.startswith(f"{self._name}_") for node in self._graph) + 1
        return self._graph.add(f"{self._name}_{number}", class_type, **inputs).out(0)

    def load(self, unet: str, clip: str, vae: str) -> None:
        self._unet = self("UNETLoader", unet_name=unet, weight_dtype="default")
        self.clip = self("CLIPLoader", clip_name=clip, type="qwen_image", device="default")
        self.vae = self("VAELoader", vae_name=vae)

    def picture(self, file: str) -> list:
        return self("LoadImage", image=file)

    def latent(self, picture: list, size: tuple[int, int]) -> list:
        scaled = self("ImageScale", image=picture, upscale_method="area", width=size[0], height=size[1], crop="disabled")
        return self("VAEEncode", pixels=scaled, vae=self.vae)

    def model(self, shift: float, cfg_norm: bool, lora) -> list:
        model = self._unet
        for file, strength in [lora] if isinstance(lora, tuple) else lora or []:
            model = self("LoraLoaderModelOnly", model=model, lora_name=file, strength_model=strength)
        model = self("ModelSamplingAuraFlow", model=model, shift=shift)
        return self("CFGNorm", model=model, strength=1.0) if cfg_norm else model

    def reference_method(self, conditionings: list, method: str | None) -> list:
        if method is None:
            return conditionings
        return [self("FluxKontextMultiReferenceLatentMethod", conditioning=each, reference_latents_method=method) for each in conditionings]

    def sample(self, model, conditionings, latent, width, height, steps, cfg, seed, denoise) -> list:
        positive, negative = conditionings
        latent = latent or self("EmptySD3LatentImage", width=width, height=height, batch_size=1)
        settings = {"steps": steps, "cfg": cfg, "seed": seed, "denoise": denoise, "sampler_name": "euler", "scheduler": "simple"}
        sampled = self("KSampler", model=model, positive=positive, negative=negative, latent_image=latent, **settings)
        return self("VAEDecode", samples=sampled, vae=self.vae)
