"""Take the picture of each help page in the real editor: `python -m tests.browser.help_pictures [NODE_ID...]`.

Needs a ComfyUI, Playwright and Chromium (CONTRIBUTING.md). Writes js/docs/NODE_ID.webp: the graph that js/docs/NODE_ID.md draws in text, which is the one
description of it (tests/browser/help_graphs.py). The text goes into the file as well, so that a test sees a picture that is older than its page.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import ExifTags, Image

from tests.browser import editor as browser
from tests.browser.help_graphs import PAGES, Link, described_as, drawing, links, picture_file, places, titles
from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy
from tests.tiny import flux_models, qwen_models
from tests.tiny.drawn_faces import MIRA, TOMAS, portrait

VIEW = {"width": 2000, "height": 1600}
WIDEST, SMALLEST_SCALE = 900, 0.62  # pixels; of a node's own size, below which its words can not be read at 700 px
MARGIN = 16
NARROW, BARE_NODE = 210, 140  # the least width of a node, and of one without widgets
BESIDE_TITLE = 64  # what a node's bar takes besides its title
FOR_TEXT = 24  # added for each field of several lines, which the editor makes as low as it can
QUALITY = 80

# Words at any scale, and nothing but nodes and links.
LOOKS = {
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.LinkMarkers": 0,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
    "Comfy.NodeBadge.NodeIdBadgeMode": "None",
    "Comfy.NodeBadge.NodeLifeCycleBadgeMode": "None",
}
# What Load Image shows, by what stands in brackets behind it: the name of the file, and the picture.
PICTURES = {
    "": ("mira.png", portrait(MIRA)),
    "the character": ("mira.png", portrait(MIRA)),
    "the face": ("mira.png", portrait(MIRA)),
    "the outfit": ("red jacket.png", portrait(TOMAS, background="#d9c9a8", clothes="#b23a3a", scale=0.7)),
    "to be judged": ("new.png", portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b", x=30, scale=0.8, light=0.85)),
}
# Widgets that say something else than at first, by node type, and by page where it differs.
WIDGETS = {
    "UNETLoader": {"unet_name": qwen_models.EDIT_2511},
    "CLIPLoader": {"clip_name": qwen_models.TEXT_ENCODER, "type": "qwen_image"},
    "VAELoader": {"vae_name": qwen_models.VAE},
    "LikenessLoadIdentity": {"file": "mira.safetensors"},
    "LikenessLoadFluxIPAdapter": {"ipadapter": flux_models.XLABS_V2, "clip_vision": flux_models.CLIP_VISION},
    "LikenessLoraSweep": {"prompts": "{trigger}, portrait, a kitchen\n{trigger}, full body, a stage"},
}
ON_PAGE = {
    "LikenessApplyFluxIPAdapter": {
        "UNETLoader": {"unet_name": flux_models.DEV},
        "KSampler": {"cfg": 1.0},
    }
}
LORAS = {"style": qwen_models.STYLE_LORA, "character": qwen_models.CHARACTER_LORA}
# Nodes that show something in themselves.
HEIGHTS = {"PreviewAny": 180, "LoadImage": 270}

# Creates the nodes and links of a graph; throws with the name that does not exist.
CREATE = """async ({ nodes, links, first }) => {
    app.graph.clear()
    // The editor keeps the widget values of a cleared graph for the nodes that get the same numbers.
    app.graph.last_node_id = first
    const pause = () => new Promise(done => setTimeout(done, 30))
    const made = {}
    for (const { title, type, widgets } of nodes) {
        const node = made[title] = LiteGraph.createNode(type)
        app.graph.add(node)
        node.title = title
        await pause()
        for (const [name, value] of Object.entries(widgets)) {
            const widget = node.widgets?.find(w => w.name === name)
            if (!widget) throw new Error(`${title} has no widget ${name}: ${node.widgets?.map(w => w.name)}`)
            widget.value = value
            widget.callback?.(value)
        }
    }
    for (const { source, output, target, input } of links) {
        const from = made[source], to = made[target]
        const start = from.outputs.findIndex(o => o.name === output)
        if (start < 0) throw new Error(`${source} has no output ${output}: ${from.outputs.map(o => o.name)}`)
        const free = i => i.link == null && LiteGraph.isValidConnection(from.outputs[start].type, i.type)
        const end = to.inputs.findIndex(i => input ? i.name === input || i.name.endsWith(`.${input}`) : free(i) && !i.widget)
        if (end < 0 || !free(to.inputs[end])) throw new Error(`${output} of ${source} fits no ${input || 'free input'} of ${target}: ${to.inputs.map(i => i.name)}`)
        if (!from.connect(start, to, end)) throw new Error(`the editor refuses ${output} of ${source} to ${input} of ${target}`)
        await pause()
    }
}"""

# Gives the nodes their sizes, and says them and where the links end.
MEASURE = """async ({ narrow, bare, besideTitle, forText, heights }) => {
    const pen = document.createElement('canvas').getContext('2d')
    pen.font = `${LiteGraph.NODE_TEXT_SIZE}px ${LiteGraph.NODE_FONT}`
    for (const node of app.graph.nodes) {
        const least = node.computeSize(), fields = node.widgets?.filter(w => w.type === 'customtext').length ?? 0
        const width = Math.max(node.widgets?.length ? narrow : bare, least[0], pen.measureText(node.title).width + besideTitle)
        node.setSize([width, Math.max(heights[node.type] ?? 0, least[1] + fields * forText)])
    }
    await new Promise(done => setTimeout(done, 400))
    app.canvas.draw(true, true)
    return {
        sizes: Object.fromEntries(app.graph.nodes.map(node => [node.title, [...node.size]])),
        ends: [...app.graph.links.values()].map(link => {
            const from = app.graph.getNodeById(link.origin_id), to = app.graph.getNodeById(link.target_id)
            return [from.getConnectionPos(false, link.origin_slot)[1] - from.pos[1], to.getConnectionPos(true, link.target_slot)[1] - to.pos[1]]
        }),
    }
}"""

# Puts the nodes where they stand, nothing of them chosen.
PLACE = """async ({ places, widths, scale }) => {
    for (const node of app.graph.nodes) {
        node.pos = places[node.title]
        node.setSize([widths[node.title], node.size[1]])
    }
    app.canvas.deselectAll()
    app.canvas.ds.scale = scale
    app.canvas.ds.offset = [80 / scale, 120 / scale]
    app.canvas.setDirty(true, true)
    await new Promise(done => setTimeout(done, 700))
}"""

# The ground without its dots.
BARE = """() => {
    app.canvas.background_image = ''
    app.canvas._pattern = null
}"""


def node_type(title: str, offered: dict) -> str:
    """The type of the node that a title names, with or without what stands in brackets behind it."""
    for name in (title, title.rsplit(" (", 1)[0]):
        found = [each for each, info in offered.items() if info["display_name"] == name]
        if found:
            return found[0]
    raise ValueError(f"no node is called {title!r}")


def widgets(page: str, title: str, kind: str) -> dict:
    """What the widgets of a node say in the picture of a page, by their names; those that are not named say what they say at first."""
    remark = title.rsplit(" (", 1)[1].rstrip(")") if title.endswith(")") else ""
    if kind == "LoadImage":
        return {"image": PICTURES[remark][0]}
    if kind == "LikenessBuildIdentity":
        return {"name": remark or "Mira"}
    if kind == "LikenessLora":
        return {"lora": LORAS[remark], "role": remark}
    return (WIDGETS | ON_PAGE.get(page, {})).get(kind, {})


def build(editor: browser.Editor, page: str, offered: dict) -> list[Link]:
    """The graph that a page draws, made in the editor. offered: what GET /object_info gives."""
    graph = links(drawing(page))
    nodes = [{"title": title, "type": (kind := node_type(title, offered)), "widgets": widgets(page, title, kind)} for title in titles(graph)]
    editor.js(CREATE, {"nodes": nodes, "links": [vars(link) for link in graph], "first": 100 * PAGES.index(page)})
    return graph


def take(editor: browser.Editor, page: str, offered: dict) -> Image.Image:
    """The picture of the graph that a page draws."""
    graph = build(editor, page, offered)
    measured = editor.js(MEASURE, {"narrow": NARROW, "bare": BARE_NODE, "besideTitle": BESIDE_TITLE, "forText": FOR_TEXT, "heights": HEIGHTS})
    placed = places(graph, measured["sizes"], measured["ends"])
    widths = {title: width for title, (_, _, width) in placed.items()}
    scale = min(1, (WIDEST - 2 * MARGIN) / max(x + width for x, _, width in placed.values()))
    if scale < SMALLEST_SCALE:
        print(f"{page}: {scale:.2f} of the nodes' size, hard to read", file=sys.stderr)
    editor.js(PLACE, {"places": {title: (x, y) for title, (x, y, _) in placed.items()}, "widths": widths, "scale": scale})
    return Image.open(io.BytesIO(editor.page.screenshot(clip=editor.graph_box(MARGIN)))).convert("RGB")


def save(image: Image.Image, page: str) -> Path:
    """Write the picture with the drawn text in it."""
    described = Image.Exif()
    described[ExifTags.Base.ImageDescription] = described_as(page)
    image.save(picture_file(page), quality=QUALITY, method=6, exif=described)
    return picture_file(page)


def main(pages: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # The files that the nodes name.
        qwen_models.write_all(Path(folder) / "models")
        flux_models.write_all(Path(folder) / "models")
        comfy = Comfy(comfyui_root(), ROOT, Path(folder), extra=(ROOT / "tests" / "tiny" / "qwen_host",))
        try:
            offered = comfy.get("/object_info")
            for name, pixels in PICTURES.values():
                comfy.upload(name, pixels)
            with browser.editor(comfy.url) as editor:
                editor.page.set_viewport_size(VIEW)
                for name, value in LOOKS.items():
                    editor.setting(name, value)
                editor.js(BARE)
                # No node is to say what else could be downloaded: this host has the tests' models alone.
                editor.page.route("**/likeness/models", lambda route: route.abort())
                for page in pages or PAGES:
                    print(save(take(editor, page, offered), page))
        finally:
            comfy.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
