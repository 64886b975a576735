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
        yield opened


def ours(problems: list[str]) -> list[str]:
    return [problem for problem in problems if "likeness" in problem.lower()]


def open_template(editor, name: str) -> None:
    """Choose a workflow of ours in the template browser, as one does with the mouse."""
    editor.page.get_by_role("button", name="Templates").click()
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text("ComfyUI-Likeness", exact=True).click()
    dialog.get_by_test_id(f"template-workflow-{name}").click()
    dialog.wait_for(state="detached")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_template_browser_lists_the_workflow_with_its_thumbnail(comfy, name):
    offered = comfy.get("/workflow_templates")
    pack = next(pack for pack, names in offered.items() if "Likeness" in pack and name in names)
    where = f"/api/workflow_templates/{urllib.parse.quote(pack)}/{urllib.parse.quote(name)}"
    assert comfy.get(f"{where}.json")["nodes"]
    assert (ROOT / "example_workflows" / f"{name}.jpg").read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_opens_from_the_template_browser_without_a_red_node_and_a_note_stands_first(editor, name):
    workflow = browser.read(ROOT / "example_workflows" / f"{name}.json")
    editor.problems.clear()
    open_template(editor, name)
    types = "() => app.graph.nodes.map(n => n.type).sort().join()"
    editor.page.wait_for_function(f"wanted => ({types})() === wanted", arg=",".join(sorted(node["type"] for node in workflow["nodes"])), timeout=30_000)
    editor.page.wait_for_timeout(700)
    # What the editor says of missing models, which are not those of this host.
    editor.page.keyboard.press("Escape")
    assert editor.missing_types() == []
    assert ours(editor.problems) == []
    first = min(workflow["nodes"], key=lambda node: node["pos"][0])
    assert first["type"] == "MarkdownNote" and "https://" in first["widgets_values"][0]


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


# Every node in a minimal graph: an image source, the node, and a preview on each IMAGE output.
BUILD = """async type => {
    app.graph.clear()
    const add = t => { const n = LiteGraph.createNode(t); app.graph.add(n); return n }
    const image = add('LoadImage'), node = add(type)
    const slot = node.inputs.findIndex(i => i.type === 'IMAGE')
    if (slot >= 0) image.connect(0, node, slot)
    node.outputs.forEach((o, i) => { if (o.type === 'IMAGE') node.connect(i, add('PreviewImage'), 0) })
    await new Promise(r => setTimeout(r, 200))
    return [String(image.id), String(node.id)]
}"""


@pytest.mark.parametrize("mode", [BYPASSED, MUTED])
def test_every_node_can_be_bypassed_and_muted(editor, comfy, mode):
    for name, info in comfy.get("/object_info").items():
        if not name.startswith("Likeness"):
            continue
        image, node = editor.js(BUILD, name)
        editor.mode(name, mode)
        prompt = editor.prompt()
        assert node not in prompt, name
        previews = [entry["inputs"].get("images") for entry in prompt.values() if entry["class_type"] == "PreviewImage"]
        takes_image = any(options[0] == "IMAGE" for kind in info["input"].values() for options in kind.values() if isinstance(options, list))
        expected = [[image, 0] if mode == BYPASSED and takes_image else None] * info["output"].count("IMAGE")
        if mode == BYPASSED and name == "LikenessCompareMethods":
            # Each output lets the socket of its own place through, and only the first one is wired here.
            expected = [[image, 0], None]
        assert previews == expected, name


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


@pytest.mark.parametrize("name", WORKFLOWS)
def test_saving_and_loading_again_gives_the_same_prompt(editor, name):
    editor.load(browser.read(ROOT / "example_workflows" / f"{name}.json"))
    before = editor.prompt()
    editor.load(json.loads(json.dumps(editor.workflow())))
    assert editor.prompt() == before


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


# --- the rooms scene, flux and lora_dataset: workflows made by tests/browser/workflows.py ---

MODEL_WORKFLOWS = list(workflows.WORKFLOWS)
WITHOUT_MODELS = ("Dataset from a folder",)


@pytest.fixture(scope="module")
def equipped(editor, qwen, flux):
    """The editor on a host that has the files which the workflows name."""
    editor.js("() => app.refreshComboInNodes()")
    editor.page.wait_for_timeout(1000)
    return editor


def refusals(comfy, prompt: dict) -> dict:
    """What the host has against a prompt, by node. The run that begins when it has nothing is stopped."""
    answer = comfy.post("/prompt", {"prompt": prompt})
    while any(comfy.get("/queue").values()):
        comfy.post("/queue", {"clear": True})
        comfy.post("/interrupt", {})
    return answer["node_errors"]


@pytest.mark.parametrize("name", MODEL_WORKFLOWS)
def test_a_workflow_of_models_has_nothing_red_and_the_host_takes_its_prompt(equipped, qwen, name):
    equipped.problems.clear()
    equipped.load(browser.read(ROOT / "example_workflows" / f"{name}.json"))
    assert equipped.js("() => app.graph.nodes.filter(node => node.has_errors).map(node => node.title)") == []
    prompt = equipped.prompt()
    assert refusals(qwen, prompt) == {} and equipped.errors() == [] and ours(equipped.problems) == []
    for node in prompt.values():
        if node["class_type"] == "LikenessQwenScene":
            seed = node["inputs"]["seed"]
            first = prompt[seed[0]]["inputs"]["seed"] if isinstance(seed, list) else seed
            assert node["inputs"]["preset"] in ("fast", "balanced", "quality") and first == 1


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
