"""The explicit list of node classes that the host registers."""

from comfy_api.latest import ComfyExtension, io

from . import host, routes
from .flux import nodes as flux
from .identity import nodes as identity
from .identity import swap_nodes, take_nodes
from .lora_dataset import comparison_nodes, export_nodes, sweep_nodes
from .lora_dataset import nodes as lora_dataset
from .scene import nodes as scene


class LikenessExtension(ComfyExtension):
    async def on_load(self) -> None:
        host.register_folders()
        flux.register_folders()
        routes.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            identity.LikenessLoadRecognizer,
            identity.LikenessBuildIdentity,
            identity.LikenessSaveIdentity,
            identity.LikenessLoadIdentity,
            identity.LikenessIdentityScore,
            identity.LikenessIdentityGate,
            identity.LikenessCastGate,
            identity.LikenessCharacterMask,
            swap_nodes.LikenessFaceSwap,
            swap_nodes.LikenessFaceSwapCollector,
            swap_nodes.LikenessFaceSwapPictures,
            take_nodes.LikenessTakeStart,
            take_nodes.LikenessTakeEnd,
            scene.LikenessCharacterReferences,
            scene.LikenessShotList,
            scene.LikenessQwenScene,
            scene.LikenessLora,
            flux.LikenessLoadFluxIPAdapter,
            flux.LikenessApplyFluxIPAdapter,
            lora_dataset.LikenessDatasetFromFolder,
            lora_dataset.LikenessDatasetAdd,
            lora_dataset.LikenessFaceCrop,
            lora_dataset.LikenessCaptions,
            export_nodes.LikenessDatasetAudit,
            export_nodes.LikenessDatasetExport,
            sweep_nodes.LikenessLoraSweep,
            comparison_nodes.LikenessCompareMethods,
        ]
