"""The two public IP-Adapter packs for Flux, each in a host of its own on the tiny models of tests/tiny/flux_models.py, and graphs with their nodes.

They are looked for at XFLUX_ROOT and IPADAPTER_FLUX_ROOT, else in ~/comfy/peers. A copy is started, in which what the packs
take for granted is set to what the tiny files have on a CPU: the sizes (3072, 4096, 19 blocks and so on) and, in
x-flux-comfyui, half precision to single. Nothing else is changed.
"""

import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy
from tests.host.graphs import Graph
from tests.tiny import flux_models as files

QWEN_HOST = ROOT / "tests" / "tiny" / "qwen_host"


@dataclass(frozen=True)
class Peer:
    """A pack. needs: what it imports; sizes: by file, what stands there and what is to; patch: of a picture's name, for official_flux."""

    folder: str
    variable: str
    needs: tuple[str, ...]
    sizes: dict[str, dict[str, str]]
    nodes: tuple[str, ...]
    patch: Callable[[str], Callable[[Graph, list], list]]

    @property
    def root(self) -> Path:
        return Path(os.environ.get(self.variable) or Path.home() / "comfy" / "peers" / self.folder)

    def absent(self) -> str | None:
        """Why the pack cannot be tested with, or None."""
        if not (self.root / "__init__.py").is_file():
            return f"no {self.folder} at {self.variable} or ~/comfy/peers/{self.folder}"
        if missing := [name for name in self.needs if importlib.util.find_spec(name) is None]:
            return f"{self.folder} is not importable here: {', '.join(missing)} missing"
        for file, sizes in self.sizes.items():
            if unknown := [size for size in sizes if size not in (self.root / file).read_text(encoding="utf-8")]:
                return f"another version of {self.folder}: {file} has no {unknown[0]!r}"
        return None

    def start(self, base: Path) -> Comfy:
        """A host at `base` with the pack, this one and what lets it load the tiny files."""
        files.write_all(base / "models")
        _write_siglip_folder(base / "models" / "clip_vision" / "siglip-so400m-patch14-384")
        copy = base / "custom_nodes" / self.folder
        shutil.copytree(self.root, copy, ignore=shutil.ignore_patterns(".git", "__pycache__", "workflows", "assets"))
        for file, sizes in self.sizes.items():
            text = (copy / file).read_text(encoding="utf-8")
            for size, tiny in sizes.items():
                text = text.replace(size, tiny)
            (copy / file).write_text(text, encoding="utf-8")
        return Comfy(comfyui_root(), ROOT, base, (QWEN_HOST,))


def not_imported(host: Comfy, peer: Peer) -> str | None:
    """What the host said when it could not import the pack, or None."""
    if all(host.get(f"/object_info/{node}") for node in peer.nodes):
        return None
    said = re.findall(r"Cannot import .*", host.log())
    return said[0] if said else "its nodes are not registered"


def with_xlabs_sampler(graph: Graph) -> None:
    """XlabsSampler, which samples without the host's sampling, in place of KSampler, and the empty latent of XLabs' own workflows.

    A latent of 16 channels is a source for it, of which a strength of 0 keeps everything: it would take no step.
    """
    for node in graph.values():
        given = node["inputs"]
        if node["class_type"] == "EmptySD3LatentImage":
            node["class_type"] = "EmptyLatentImage"
        elif node["class_type"] == "KSampler":
            node["class_type"] = "XlabsSampler"
            node["inputs"] = {
                **{name: given[name] for name in ("model", "steps", "latent_image")},
                "conditioning": given["positive"],
                "neg_conditioning": given["negative"],
                "noise_seed": given["seed"],
                "timestep_to_start_cfg": 1,
                "true_gs": 3.5,
                "image_to_image_strength": 0.0,
                "denoise_strength": 1.0,
            }


def _xlabs(picture: str):
    def patch(graph, model):
        choice = {"ipadatper": files.XLABS_V1, "clip_vision": files.CLIP_VISION, "provider": "CPU"}
        loaded = graph.add("peer loader", "LoadFluxIPAdapter", **choice).out(0)
        shown = graph.picture("peer picture", picture)
        return graph.add("peer", "ApplyFluxIPAdapter", model=model, ip_adapter_flux=loaded, image=shown, ip_scale=0.9).out(0)

    return patch


def _instantx(picture: str):
    def patch(graph, model):
        choice = {"ipadapter": files.INSTANTX, "clip_vision": "google/siglip-so400m-patch14-384", "provider": "cpu"}
        loaded = graph.add("peer loader", "IPAdapterFluxLoader", **choice).out(0)
        shown = graph.picture("peer picture", picture)
        span = {"weight": 0.7, "start_percent": 0.0, "end_percent": 1.0}
        return graph.add("peer", "ApplyIPAdapterFlux", model=model, ipadapter_flux=loaded, image=shown, **span).out(0)

    return patch


def _write_siglip_folder(folder: Path) -> None:
    """The tiny SigLIP as a folder of transformers', the only form in which ComfyUI-IPAdapter-Flux reads one."""
    files.write_clip_vision(folder / "model.safetensors", "siglip")
    sizes = {"hidden_size": files.SIGLIP, "intermediate_size": 4 * files.SIGLIP, "num_hidden_layers": 27, "num_attention_heads": 16}
    model = {"model_type": "siglip_vision_model", "architectures": ["SiglipVisionModel"], **sizes, "image_size": 384, "patch_size": 14}
    processor = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 384, "width": 384}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "config.json").write_text(json.dumps(model))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


_INSTANTX_SIZES = {
    "self.joint_attention_dim = 4096": f"self.joint_attention_dim = {files.CONTEXT}",
    "self.hidden_size = 3072": f"self.hidden_size = {files.HIDDEN}",
    "id_embeddings_dim=1152": f"id_embeddings_dim={files.SIGLIP}",
    "dsb_count = 19": f"dsb_count = {files.DEPTH}",
    "ssb_count = 38": f"ssb_count = {files.SINGLE}",
}
XFLUX = Peer(
    "x-flux-comfyui",
    "XFLUX_ROOT",
    ("einops", "transformers", "cv2", "huggingface_hub"),
    {
        "nodes.py": {
            "img_vec_in_dim=768": f"img_vec_in_dim={files.PROJECTION}",
            "context_in_dim=4096": f"context_in_dim={files.CONTEXT}",
            ".shape[0]//4096==4": f".shape[0]//{files.CONTEXT}==4",
            "IPProcessor(4096, 3072) for i in range(19)": f"IPProcessor({files.CONTEXT}, {files.HIDDEN}) for i in range({files.DEPTH})",
            "torch.bfloat16": "torch.float32",
            "torch.float16": "torch.float32",
        }
    },
    ("LoadFluxIPAdapter", "ApplyFluxIPAdapter", "XlabsSampler"),
    _xlabs,
)
IPADAPTER_FLUX = Peer(
    "ComfyUI-IPAdapter-Flux",
    "IPADAPTER_FLUX_ROOT",
    ("einops", "transformers", "diffusers"),
    {"ipadapter_flux.py": _INSTANTX_SIZES, "ipadapter_flux_advanced.py": _INSTANTX_SIZES},
    ("IPAdapterFluxLoader", "ApplyIPAdapterFlux"),
    _instantx,
)
