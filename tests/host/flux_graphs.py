"""The official Flux graphs out of the host's own nodes: text to image, Kontext and Fill, with room for what patches the model.

Each function adds its nodes to a Graph, under `name`, and returns the link of what it makes.
"""

from tests.host.graphs import Graph
from tests.tiny import flux_models as files


def official_flux(
    graph: Graph,
    *,
    unet=files.DEV,
    weight_dtype="default",
    prompt="a woman in the rain",
    negative=None,
    width=96,
    height=128,
    steps=2,
    cfg=1.0,
    guidance=3.5,
    seed=1,
    denoise=1.0,
    batch=1,
    sampler="euler",
    scheduler="simple",
    custom=False,
    patch=None,
    references=(),
    source=None,
    fill=None,
    name="flux",
) -> list:
    """Flux Dev's template, and with references Kontext's, with fill Fill's; returns the link of the decoded pictures.

    patch: a function of the graph and the model's link that adds what goes between UNETLoader and the sampler, and
    returns the link of the patched model. Its nodes are named by it, so one graph with two of these needs two patches.
    negative: a text, for a cfg above 1; by default zeros, which cfg 1 never uses. references: names for Load Image,
    each for a ReferenceLatent of its own size. source: a name for Load Image that replaces the empty latent, for denoise
    below 1. fill: the name of a picture with transparency for Load Image; what is transparent is painted anew.
    custom: SamplerCustomAdvanced with BasicGuider or CFGGuider in place of KSampler.
    """
    add = _adder(graph, name)
    model = add("UNETLoader", unet_name=unet, weight_dtype=weight_dtype)
    if patch is not None:
        model = patch(graph, model)
    clip = add("DualCLIPLoader", clip_name1=files.CLIP_L, clip_name2=files.T5, type="flux", device="default")
    vae = add("VAELoader", vae_name=files.AE)

    def encoded(text):
        return add("FluxGuidance", conditioning=add("CLIPTextEncode", clip=clip, text=text), guidance=guidance)

    positive = encoded(prompt)
    for file in references:
        positive = add("ReferenceLatent", conditioning=positive, latent=add("VAEEncode", pixels=graph.picture(f"{name} {file}", file), vae=vae))
    negative = add("ConditioningZeroOut", conditioning=positive) if negative is None else encoded(negative)
    if fill is not None:
        shown = graph.picture(f"{name} {fill}", fill)
        joined = {"positive": positive, "negative": negative, "vae": vae, "pixels": shown, "mask": [shown[0], 1], "noise_mask": True}
        latent = add("InpaintModelConditioning", **joined)
        positive, negative, latent = ([latent[0], output] for output in range(3))
        model = add("DifferentialDiffusion", model=model)
    elif source is not None:
        latent = add("VAEEncode", pixels=graph.picture(f"{name} {source}", source), vae=vae)
    else:
        latent = add("EmptySD3LatentImage", width=width, height=height, batch_size=batch)
    if custom:
        guided = {"model": model, "conditioning": positive} if cfg == 1 else {"model": model, "positive": positive, "negative": negative, "cfg": cfg}
        parts = {
            "noise": add("RandomNoise", noise_seed=seed),
            "guider": add("BasicGuider" if cfg == 1 else "CFGGuider", **guided),
            "sampler": add("KSamplerSelect", sampler_name=sampler),
            "sigmas": add("BasicScheduler", model=model, scheduler=scheduler, steps=steps, denoise=denoise),
        }
        sampled = add("SamplerCustomAdvanced", **parts, latent_image=latent)
    else:
        settings = {"steps": steps, "cfg": cfg, "seed": seed, "denoise": denoise, "sampler_name": sampler, "scheduler": scheduler}
        sampled = add("KSampler", model=model, positive=positive, negative=negative, latent_image=latent, **settings)
    return add("VAEDecode", samples=sampled, vae=vae)


def vision_encode(graph: Graph, file: str, image: list, crop: str = "none", name: str = "vision") -> list:
    """CLIPVisionLoader and CLIPVisionEncode; the link of a CLIP_VISION_OUTPUT."""
    add = _adder(graph, name)
    return add("CLIPVisionEncode", clip_vision=add("CLIPVisionLoader", clip_name=file), image=image, crop=crop)


def digest(graph: Graph, images: list, name: str = "digest") -> None:
    """One text per picture under `name`: equal for equal pictures and for no others."""
    graph.add(name, "TestDigest", images=images)


def _adder(graph: Graph, name: str):
    def add(class_type: str, **inputs) -> list:
        number = sum(node.startswith(f"{name}_") for node in graph) + 1
        return graph.add(f"{name}_{number}", class_type, **inputs).out(0)

    return add
