"""ComfyUI-Likeness: keep one character's face the same. The door: nothing is imported before the host asks for the nodes."""

WEB_DIRECTORY = "./js"


async def comfy_entrypoint():
    from .nodes.extension import LikenessExtension

    return LikenessExtension()
