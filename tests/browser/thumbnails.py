"""Take each workflow's thumbnail in the real editor, after a run on drawn characters: `python -m tests.browser.thumbnails [NAME...]`.

Needs a ComfyUI, Playwright and Chromium (CONTRIBUTING.md). Writes example_workflows/NAME.jpg beside NAME.json.
"""

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from tests.browser import editor as browser
from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy
from tests.tiny.drawn_faces import MIRA, TOMAS, portrait


def blurred(pixels: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


# What the Load Image nodes of a workflow show, in the order of their ids.
PICTURES = {
    "Identity gate": [
        portrait(MIRA),
        portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b", x=30, scale=0.8, light=0.85),
        portrait(TOMAS, background="#7c8a6e", clothes="#2f4858"),
        blurred(portrait(MIRA, background="#3b4a3f", clothes="#e0dccf"), 10),
    ]
}
VIEW = {"width": 3000, "height": 1700}
LONGEST = 1500


def take(name: str, comfy: Comfy, target: Path) -> None:
    workflow = browser.read(ROOT / "example_workflows" / f"{name}.json")
    # The picture that every fresh ComfyUI has in its input folder, and that the workflows name.
    comfy.upload("example.png", PICTURES[name][0])
    with browser.editor(comfy.url) as editor:
        editor.page.set_viewport_size(VIEW)
        editor.setting("LiteGraph.Canvas.MinFontSizeForLOD", 0)
        editor.setting("Comfy.Minimap.Visible", False)
        editor.load(workflow)
        for index, pixels in enumerate(PICTURES[name]):
            editor.set_widget("LoadImage", index, "image", comfy.upload(f"drawn{index}.png", pixels))
        if name == "Identity gate":
            editor.set_widget("LikenessBuildIdentity", 0, "name", "Mira")
        editor.run()
        editor.page.wait_for_timeout(4000)
        editor.fit()
        image = Image.open(io.BytesIO(editor.page.screenshot(clip=editor.graph_box()))).convert("RGB")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    image.save(target, quality=88, optimize=True)


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        comfy = Comfy(comfyui_root(), ROOT, Path(folder))
        try:
            for name in names or sorted(PICTURES):
                target = ROOT / "example_workflows" / f"{name}.jpg"
                take(name, comfy, target)
                print(target)
        finally:
            comfy.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
