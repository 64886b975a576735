"""The workflows and nodes in the real editor: opened, run, bypassed, saved and loaded again, in both ways of drawing nodes."""

import json
import re
import urllib.parse

import numpy as np
import pytest

from character_likeness.nodes.model_files import CATALOGUE, HubFile
from tests.browser import editor as browser
from tests.browser import workflows
from tests.conftest import ROOT
from tests.tiny.drawn_faces import EDDA, MIRA, TOMAS, portrait

pytestmark = [pytest.mark.browser, pytest.mark.dlib]

WORKFLOWS = sorted(path.stem for path in (ROOT / "example_workflows").glob("*.json"))
BYPASSED, MUTED, ALWAYS = 4, 2, 0
TYPES = "() => app.graph.nodes.map(n => n.type).sort().join()"


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "Nodes 2.0"])
def editor(request, comfy):
    pictures = {
        "example.png": portrait(MIRA),
        "mira.png": portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b", scale=0.8),
        "tomas.png": portrait(TOMAS),
        "edda.png": portrait(EDDA),
    }
    for name, pixels in pictures.items():
        comfy.upload(name, np.ascontiguousarray(pixels))
    with browser.editor(comfy.url, vue=request.param) as opened:
        opened.vue = request.param
        yield opened


def ours(problems: list[str]) -> list[str]:
    return [problem for problem in problems if "likeness" in problem.lower()]


def template(comfy, name: str) -> str:
    """Where the host has a workflow of ours for the template browser, without the end of the file's name."""
    pack = next(pack for pack, names in comfy.get("/workflow_templates").items() if "Likeness" in pack and name in names)
    return f"/api/workflow_templates/{urllib.parse.quote(pack)}/{urllib.parse.quote(name)}"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_template_browser_lists_the_workflow_with_its_thumbnail(comfy, name):
    assert comfy.get(f"{template(comfy, name)}.json")["nodes"]
    assert (ROOT / "example_workflows" / f"{name}.jpg").read_bytes()[:2] == b"\xff\xd8"


def open_templates(editor):
    """The template browser at our workflows, as one opens it with the mouse."""
    editor.page.get_by_role("button", name="Templates").click()
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text("ComfyUI-Likeness", exact=True).click()
    return dialog


def test_the_template_browser_shows_every_workflow(editor):
    dialog = open_templates(editor)
    for name in WORKFLOWS:
        card = dialog.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()
        picture = card.locator("img").first.element_handle()
        editor.page.wait_for_function("picture => picture.complete", arg=picture, timeout=30_000)
        assert picture.evaluate("picture => picture.naturalWidth") > 0, name
    editor.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_a_workflow_that_is_clicked_in_the_template_browser_opens(editor):
    """Half of them in each way of drawing nodes: the browser of templates is slow to draw without a GPU."""
    for name in WORKFLOWS[editor.vue :: 2]:
        workflow = browser.read(ROOT / "example_workflows" / f"{name}.json")
        editor.problems.clear()
        dialog = open_templates(editor)
        dialog.get_by_test_id(f"template-workflow-{name}").click()
        dialog.wait_for(state="detached")
        editor.page.wait_for_function(f"wanted => ({TYPES})() === wanted", arg=",".join(sorted(node["type"] for node in workflow["nodes"])), timeout=30_000)
        editor.page.wait_for_timeout(700)
        # What the editor says of missing models, which are not those of this host.
        editor.page.keyboard.press("Escape")
        assert editor.missing_types() == [] and ours(editor.problems) == [], name


def test_the_identity_gate_workflow_runs_and_sorts_the_pictures(editor, comfy):
    editor.load(browser.read(ROOT / "example_workflows" / "Identity gate.json"))
    for index, name in enumerate(["example.png", "mira.png", "tomas.png", "edda.png"]):
        editor.set_widget("LoadImage", index, "image", name)
    run = comfy.run(editor.prompt())
    assert run.error is None
    sides = sorted((node for node in editor.workflow()["nodes"] if node["type"] == "PreviewImage"), key=lambda node: node["id"])
    passed, rejected, uncertain = (str(node["id"]) for node in sides)
    assert len(run.images(passed)) == 1 and len(run.images(rejected)) == 2 and run.images(uncertain) == []
    assert (run.pictures(passed)[0] == portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b", scale=0.8)).all()


def test_running_in_the_editor_shows_the_verdicts_in_the_gate(editor):
    editor.load(browser.read(ROOT / "example_workflows" / "Identity gate.json"))
    editor.set_widget("LoadImage", 2, "image", "edda.png")
    editor.problems.clear()
    editor.run()
    editor.page.wait_for_function(
        "() => { const gate = app.graph.nodes.find(n => n.type === 'LikenessIdentityGate'); return app.nodeOutputs[gate.id]?.images?.length === 3 }",
        timeout=30_000,
    )
    assert ours(editor.problems) == []
    assert not editor.errors()


def test_a_bypassed_gate_sends_everything_to_every_side(editor):
    editor.load(browser.read(ROOT / "example_workflows" / "Identity gate.json"))
    editor.mode("LikenessIdentityGate", BYPASSED)
    prompt = editor.prompt()
    source = next(name for name, node in prompt.items() if node["class_type"] == "CreateList")
    previews = [node["inputs"]["images"] for node in prompt.values() if node["class_type"] == "PreviewImage"]
    assert previews == [[source, 0]] * 3
    assert not any(node["class_type"] == "LikenessIdentityGate" for node in prompt.values())


# Every node of a list in one graph, each with the image source at its first socket for pictures and a preview on each IMAGE output.
BUILD = """async types => {
    app.graph.clear()
    const add = (type, x, y) => { const n = LiteGraph.createNode(type); n.pos = [x, y]; app.graph.add(n); return n }
    const image = add('LoadImage', 0, 0)
    const nodes = types.map((type, row) => {
        const node = add(type, 400, row * 900)
        const slot = node.inputs.findIndex(i => i.type === 'IMAGE')
        if (slot >= 0) image.connect(0, node, slot)
        const previews = node.outputs.flatMap((o, i) => o.type === 'IMAGE' ? [[i, add('PreviewImage', 900 + 300 * i, row * 900)]] : [])
        previews.forEach(([i, preview]) => node.connect(i, preview, 0))
        return [String(node.id), previews.map(([, preview]) => String(preview.id))]
    })
    await new Promise(r => setTimeout(r, 500))
    return [String(image.id), nodes]
}"""


def test_every_node_can_be_bypassed_and_muted(editor, comfy):
    infos = {name: info for name, info in comfy.get("/object_info").items() if name.startswith("Likeness")}
    image, built = editor.js(BUILD, list(infos))
    for mode in (BYPASSED, MUTED):
        for name in infos:
            editor.mode(name, mode)
        prompt = editor.prompt()
        for (name, info), (node, previews) in zip(infos.items(), built, strict=True):
            assert node not in prompt, (name, mode)
            takes_image = any(options[0] == "IMAGE" for kind in info["input"].values() for options in kind.values() if isinstance(options, list))
            expected = [[image, 0] if mode == BYPASSED and takes_image else None] * info["output"].count("IMAGE")
            if mode == BYPASSED and name == "LikenessCompareMethods":
                # Each output lets the socket of its own place through, and only the first one is wired here.
                expected = [[image, 0], None]
            assert [prompt[preview]["inputs"].get("images") for preview in previews] == expected, (name, mode)


def test_the_help_page_of_every_node_opens(editor, comfy):
    """By the (i) above a chosen node: the editor shows our page, not what it makes of the schema itself."""
    editor.problems.clear()
    for name, info in comfy.get("/object_info").items():
        if not name.startswith("Likeness"):
            continue
        editor.js(
            """type => {
                app.graph.clear()
                const node = LiteGraph.createNode(type)
                node.pos = [200, 200]
                app.graph.add(node)
                app.canvas.selectItems([node])
            }""",
            name,
        )
        editor.page.get_by_test_id("info-button").click()
        page = (ROOT / "js" / "docs" / f"{name}.md").read_text(encoding="utf-8")
        headings = [line.lstrip("# ") for line in page.splitlines() if line.startswith(("# ", "## "))]
        assert headings[0] == info["display_name"]
        editor.page.wait_for_function(
            "wanted => JSON.stringify([...document.querySelectorAll('.node-help-content :is(h1, h2)')].map(e => e.innerText.trim())) === JSON.stringify(wanted)",
            arg=[re.sub(r"[`*]", "", heading) for heading in headings],
            timeout=20_000,
        )
    assert ours(editor.problems) == []


def test_the_editor_has_the_commercial_setting(editor, comfy):
    try:
        editor.setting("Likeness.CommercialUseOnly", True)
        editor.page.wait_for_timeout(500)
        assert comfy.get("/settings/Likeness.CommercialUseOnly") is True
    finally:
        editor.setting("Likeness.CommercialUseOnly", False)
        editor.page.wait_for_timeout(500)


# What a node shows of its own text, by its type.
SAID = (
    """() => Object.fromEntries(app.graph.nodes.map(n => [n.type, n.widgets?.find(w => w.name === '$$node-text-preview')?.value]).filter(([, text]) => text))"""
)


def test_running_the_folder_workflow_shows_in_each_node_what_it_did(editor, comfy):
    """The report of a node is shown by no frontend of itself, and the bar's last words must not stay."""
    for stem, pixels in {"closeup": portrait(MIRA, 1024, scale=1.1), "far": portrait(MIRA, 1024, "#7c8a6e", scale=0.4), "friend": portrait(TOMAS)}.items():
        comfy.upload(f"{stem}.png", np.ascontiguousarray(pixels), "drawn")
    editor.load(browser.read(ROOT / "example_workflows" / "Dataset from a folder.json"))
    editor.set_widget("LikenessDatasetFromFolder", 0, "folder", "drawn")
    editor.set_widget("LikenessDatasetExport", 0, "name", "drawn")
    editor.problems.clear()
    editor.run()
    editor.page.wait_for_function(f"() => ({SAID})().LikenessDatasetExport?.includes('To start the training')", timeout=60_000)
    assert ours(editor.problems) == [] and not editor.errors()
    assert editor.js("() => app.graph.nodes.filter(node => node.has_errors).map(node => node.title)") == []
    said = editor.js(SAID)
    assert said["LikenessDatasetFromFolder"].startswith("2 pictures: 2 character\nleft out friend: score ")
    assert said["LikenessFaceCrop"].splitlines()[1].split(" were added")[0].endswith("face crops")
    assert "\nfar: m1ra" in said["LikenessCaptions"]
    assert said["LikenessDatasetAudit"].startswith("Needs attention: ")
    assert said["LikenessDatasetExport"].splitlines()[1] == "To start the training:"


# --- the files of all workflows; those of the rooms scene, flux and lora_dataset are made by tests/browser/workflows.py ---

MODEL_WORKFLOWS = list(workflows.WORKFLOWS)
WITHOUT_MODELS = ("Dataset from a folder",)


@pytest.fixture(scope="module")
def equipped(editor, qwen, flux):
    """The editor on a host that has the files which the workflows name."""
    editor.js("() => app.refreshComboInNodes()")
    editor.page.wait_for_timeout(1000)
    return editor


@pytest.fixture(scope="module")
def refusals(qwen, flux):
    """What the host has against a prompt, by node; the same prompt is not asked for again. The run that begins when it has nothing is stopped."""
    known = {}

    def ask(prompt: dict) -> dict:
        text = json.dumps(prompt, sort_keys=True)
        if text not in known:
            known[text] = qwen.post("/prompt", {"prompt": prompt})["node_errors"]
            while any(qwen.get("/queue").values()):
                qwen.post("/queue", {"clear": True})
                qwen.post("/interrupt", {})
        return known[text]

    return ask


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_has_nothing_red_a_note_first_a_prompt_that_the_host_takes_and_is_the_same_after_saving(equipped, comfy, refusals, name):
    equipped.problems.clear()
    # What the template browser loads.
    workflow = comfy.get(f"{template(comfy, name)}.json")
    equipped.load(workflow)
    assert equipped.missing_types() == []
    assert equipped.js("() => app.graph.nodes.filter(node => node.has_errors).map(node => node.title)") == []
    first = min(workflow["nodes"], key=lambda node: node["pos"][0])
    assert first["type"] == "MarkdownNote" and "https://" in first["widgets_values"][0]

    prompt = equipped.prompt()
    equipped.load(json.loads(json.dumps(equipped.workflow())))
    assert equipped.prompt() == prompt
    assert equipped.errors() == [] and ours(equipped.problems) == []
    if name in MODEL_WORKFLOWS:
        assert refusals(prompt) == {}
    for node in prompt.values():
        if node["class_type"] == "LikenessQwenScene":
            seed = node["inputs"]["seed"]
            given = prompt[seed[0]]["inputs"]["seed"] if isinstance(seed, list) else seed
            assert node["inputs"]["preset"] in ("fast", "balanced", "quality") and given == 1


@pytest.mark.parametrize("name", [name for name in MODEL_WORKFLOWS if name not in WITHOUT_MODELS])
def test_every_file_that_a_workflow_of_models_chooses_can_be_downloaded_into_its_folder(qwen, flux, name):
    """The editor offers it when the name is a widget's value and properties.models has name, url and directory. A bypassed node is the user's.

    Where its page names the file otherwise, `likeness models download` brings it under its name.
    """
    renamed = {
        (file.filename, f"https://huggingface.co/{file.source.repo_id}/resolve/{file.source.revision}/{file.source.path}")
        for entry in CATALOGUE.values()
        for file in entry.files
        if isinstance(file.source, HubFile)
    }
    chosen = 0
    for node in browser.read(ROOT / "example_workflows" / f"{name}.json")["nodes"]:
        wired = {one["widget"]["name"] for one in node.get("inputs", ()) if one.get("widget") and one.get("link") is not None}
        named = {key: value for key, value in node.get("widgets_values_named", {}).items() if key not in wired}
        files = {value for value in named.values() if isinstance(value, str) and value.endswith(".safetensors")}
        models = node["properties"].get("models", [])
        assert {model["name"] for model in models} == (set() if node["mode"] == BYPASSED else files), node["type"]
        for model in models:
            own = re.fullmatch(rf"https://huggingface\.co/[\w.-]+/[\w.-]+/resolve/main/([\w.-]+/)*{re.escape(model['name'])}", model["url"])
            assert own or (model["name"], model["url"]) in renamed
            assert model["name"] in qwen.get(f"/models/{model['directory']}")
            chosen += 1
    assert chosen >= 3


@pytest.mark.parametrize("name", MODEL_WORKFLOWS)
def test_no_two_nodes_of_a_workflow_of_models_overlap(name):
    """By the sizes they are saved with, which leave room for the pictures of a run."""
    nodes = browser.read(ROOT / "example_workflows" / f"{name}.json")["nodes"]
    boxes = [(node["pos"][0], node["pos"][1] - 30, node["pos"][0] + node["size"][0], node["pos"][1] + node["size"][1]) for node in nodes]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert not any(left < r and x < right and top < b and t < bottom for x, t, r, b in boxes[:i]), nodes[i]["type"]
