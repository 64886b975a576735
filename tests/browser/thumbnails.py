"""Take each workflow's thumbnail in the real editor, with drawn characters in it: `python -m tests.browser.thumbnails [NAME...]`.

Needs a ComfyUI, Playwright and Chromium (CONTRIBUTING.md). Writes example_workflows/NAME.jpg beside NAME.json. A workflow that needs no model is run
first. Those that make pictures are shown before their first run: the tiny models of the tests make noise, and nothing else may pass for a result.
"""

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from tests.browser import editor as browser
from tests.browser.workflows import DATASET
from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy
from tests.tiny import flux_models, qwen_models
from tests.tiny.drawn_faces import MIRA, TOMAS, portrait


def blurred(pixels: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


# What the Load Image nodes of a workflow show, in the order of their ids.
OUTFIT = portrait(TOMAS, background="#d9c9a8", clothes="#b23a3a", scale=0.7)
PICTURES = {
    "Identity gate": [
        portrait(MIRA),
        portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b", x=30, scale=0.8, light=0.85),
        portrait(TOMAS, background="#7c8a6e", clothes="#2f4858"),
        blurred(portrait(MIRA, background="#3b4a3f", clothes="#e0dccf"), 10),
    ],
    "Qwen character scene (2511)": [portrait(MIRA)],
    "Qwen character scene (2509)": [portrait(MIRA), OUTFIT],
    "Qwen character scene, many shots": [portrait(MIRA)],
    "Qwen 2512 + character LoRA": [portrait(MIRA)],
    "Multiple angles (2511)": [portrait(MIRA)],
    "Two characters, one scene": [portrait(MIRA), portrait(TOMAS, background="#7c8a6e", clothes="#2f4858")],
    "Keep face, edit the rest": [portrait(MIRA)],
    "Sequential edit, gated": [portrait(MIRA)],
    "Qwen 2512 + ReActor": [portrait(MIRA)],
    "Qwen 2512 + ReActor (fast 4 steps)": [portrait(MIRA)],
    "Retake until match": [portrait(MIRA)],
    "Flux IP-Adapter face": [portrait(MIRA)],
    "Dataset from a folder": [portrait(MIRA)],
    "Character LoRA dataset": [portrait(MIRA)],
    "LoRA sweep": [portrait(MIRA)],
    "Compare methods": [portrait(MIRA), portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b", scale=0.9)],
    "Character flywheel": [portrait(MIRA), portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b", scale=0.9)],
}
# What lies in the folder that a workflow reads: pictures by name, with the captions beside them.
FOLDERS = {
    "Dataset from a folder": {
        "kitchen": (portrait(MIRA, 1024, background="#d9c9a8", clothes="#9a3b3b", scale=0.6, x=-150), "upper body, red sweater, warm light, a kitchen"),
        "park": (portrait(MIRA, 1024, background="#7c8a6e", clothes="#2f4858", scale=0.4, x=200, y=-60), "upper body, blue jacket, overcast light, a park"),
        "studio": (portrait(MIRA, 1024, background="#b7b7bd", clothes="#e0dccf", scale=1.15), "closeup, even studio light, grey wall"),
        "beach": (
            portrait(MIRA, 1024, background="#c9dbe6", clothes="#f0c05a", scale=0.75, x=120, y=40, light=1.05),
            "portrait, yellow shirt, hard light, a beach",
        ),
        "night": (
            blurred(portrait(MIRA, 1024, background="#2b2f3a", clothes="#6b4a7d", scale=0.9, x=-60), 3),
            "portrait, purple coat, street light, a street at night",
        ),
        "small": (portrait(MIRA, 600, background="#a86f5a", clothes="#33475b", scale=0.85, x=60, y=-30), "portrait, blue shirt, before a brick wall"),
        "friend": (portrait(TOMAS, 1024, background="#7c8a6e", clothes="#2f4858", scale=0.8), "portrait, a friend in a park"),
    }
}
RUN_FIRST = ("Identity gate", "Dataset from a folder")
VIEW = {"width": 3000, "height": 1700}
LONGEST = 1500
FRAME_MARGIN = 12


def with_frames(editor: browser.Editor) -> dict:
    """Where the nodes of the graph and their frames lie in the window, as a clip for a screenshot."""
    box = editor.graph_box()
    frames = editor.js(
        """() => {
            const { scale, offset } = app.canvas.ds, area = app.canvas.canvas.getBoundingClientRect()
            return app.graph.groups.map(g => {
                const [x, y, width, height] = [...g.pos, ...g.size]
                return [(x + offset[0]) * scale + area.left, (y + offset[1]) * scale + area.top, width * scale, height * scale]
            })
        }"""
    )
    right, bottom = box["x"] + box["width"], box["y"] + box["height"]
    for x, y, width, height in frames:
        box["x"], box["y"] = min(box["x"], x - FRAME_MARGIN), min(box["y"], y - FRAME_MARGIN)
        right, bottom = max(right, x + width + FRAME_MARGIN), max(bottom, y + height + FRAME_MARGIN)
    return box | {"width": right - box["x"], "height": bottom - box["y"]}


def take(name: str, comfy: Comfy, target: Path) -> None:
    workflow = browser.read(ROOT / "example_workflows" / f"{name}.json")
    # The picture that every fresh ComfyUI has in its input folder, and that the workflows name.
    comfy.upload("example.png", PICTURES[name][0])
    for stem, (pixels, caption) in FOLDERS.get(name, {}).items():
        comfy.upload(f"{stem}.png", pixels, DATASET)
        (comfy.base / "input" / DATASET / f"{stem}.txt").write_text(caption, encoding="utf-8")
    with browser.editor(comfy.url) as editor:
        editor.page.set_viewport_size(VIEW)
        editor.setting("LiteGraph.Canvas.MinFontSizeForLOD", 0)
        editor.setting("Comfy.Minimap.Visible", False)
        editor.load(workflow)
        for index, pixels in enumerate(PICTURES[name]):
            editor.set_widget("LoadImage", index, "image", comfy.upload(f"drawn{index}.png", pixels))
        if name == "Identity gate":
            editor.set_widget("LikenessBuildIdentity", 0, "name", "Mira")
        if name in RUN_FIRST:
            editor.run()
            # What the last node shows is in the page some time after the host has ended.
            last = "() => app.graph.nodes.filter(n => n.type === 'PreviewImage').some(n => app.nodeOutputs[n.id]?.images?.length)"
            editor.page.wait_for_function(last, timeout=120_000)
        editor.page.wait_for_timeout(4000)
        editor.fit()
        image = Image.open(io.BytesIO(editor.page.screenshot(clip=with_frames(editor)))).convert("RGB")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    image.save(target, quality=88, optimize=True)


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # The files that the workflows name must be there, else their nodes are red.
        qwen_models.write_all(Path(folder) / "models")
        flux_models.write_all(Path(folder) / "models")
        comfy = Comfy(comfyui_root(), ROOT, Path(folder), extra=(ROOT / "tests" / "tiny" / "qwen_host",))
        try:
            for name in names or PICTURES:
                target = ROOT / "example_workflows" / f"{name}.jpg"
                take(name, comfy, target)
                print(target)
        finally:
            comfy.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
