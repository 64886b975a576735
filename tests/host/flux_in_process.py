"""ComfyUI's own Flux in this process, on tiny files: for what is measured on tensors and needs no running server."""

import sys
from pathlib import Path

import torch

from tests.conftest import comfyui_root
from tests.tiny import flux_models


def load_comfy(cpu: bool = True) -> None:
    """Make `comfy` importable, by default on the CPU, with PyTorch's attention. Before anything of it is imported."""
    root = str(comfyui_root())
    if root not in sys.path:
        # Behind everything else: ComfyUI has a module called tests, too.
        sys.path.append(root)
    from comfy.cli_args import args

    args.cpu, args.use_pytorch_cross_attention = cpu, True


class TinyFlux:
    """A Flux and what it is called with. model: the host's ModelPatcher; weights: the same tensors in float64, where the file holds no fp8.

    dtype: what UNETLoader's weight_dtype asks for; None with a file in scaled fp8, which says it itself.
    """

    def __init__(self, folder: Path, dtype=torch.float32, **options):
        load_comfy()
        import comfy.sd
        import comfy.utils

        path = flux_models.write_flux(folder / "flux.safetensors", **options)
        loaded = comfy.utils.load_torch_file(str(path))
        if dtype is not None:
            loaded = {name: tensor.float() for name, tensor in loaded.items()}
            self.weights = {name: tensor.double() for name, tensor in loaded.items()}
        self.model = comfy.sd.load_diffusion_model_state_dict(loaded, model_options={} if dtype is None else {"dtype": dtype})
        comfy.model_management.load_models_gpu([self.model])

    def inputs(self, batch=1, height=8, width=12, words=6, seed=0):
        draw = torch.Generator().manual_seed(seed)
        context, pooled = flux_models.CONTEXT, flux_models.POOLED
        return {
            "x": torch.randn((batch, 16, height, width), generator=draw),
            "text": torch.randn((batch, words, context), generator=draw),
            "pooled": torch.randn((batch, pooled), generator=draw),
            "guidance": torch.full((batch,), 3.5),
        }

    @torch.no_grad()
    def run(self, model, inputs, sigma=0.7, rows=(0,), references=(), method="index", **options):
        """The model's prediction as a sampler gets it, for a call whose chunks are positive (0) or negative (1)."""
        to = {"cond_or_uncond": list(rows), "wrappers": model.wrappers}
        for name, value in model.model_options["transformer_options"].items():
            to.setdefault(name, value)
        given = {"y": inputs["pooled"], "guidance": inputs["guidance"]}
        if references:
            given |= {"ref_latents": list(references), "ref_latents_method": method}
        t = torch.full((inputs["x"].shape[0],), sigma)
        # The model is called as the sampler calls it, with every object patch of the clone in force.
        model.model.current_patcher = model
        return model.model.apply_model(inputs["x"].clone(), t, c_crossattn=inputs["text"].clone(), transformer_options=to | options, **given)
