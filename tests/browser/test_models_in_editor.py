"""Missing models in the real editor, in both ways of drawing nodes: the banner on the node, the download with progress and cancel, settings, commands.

Downloads come from a server on this machine (tests/tiny/download_host).
"""

import json

import pytest

from character_likeness.nodes.model_files import CATALOGUE
from tests.browser import editor as browser
from tests.host.test_routes import ADAPTER, BUFFALO, CONTENT, FILES, SIGLIP, arrange, ended, start
from tests.test_model_files import Site

pytestmark = pytest.mark.browser

LOADER, FLUX, CROPS, MASK = "LikenessLoadRecognizer", "LikenessLoadFluxIPAdapter", "LikenessFaceCrop", "LikenessCharacterMask"
BANNER = ".likeness-models"
SETTINGS = {"Likeness.ConfirmDownload": False, "Likeness.CommercialUseOnly": False, "Likeness.DefaultRecognizer": "auto"}

ADD = """async ([type, x, y]) => {
    const node = LiteGraph.createNode(type)
    node.pos = [x, y]
    app.graph.add(node)
    return String(node.id)
}"""
# A graph of its own: after clear() alone the editor gives new nodes the values that others of their number had.
EMPTY = "() => app.loadGraphData({ nodes: [], links: [], groups: [], version: 0.4, last_node_id: 0, last_link_id: 0 })"
# Of the nodes' banners: node type, titles of the models, in the order of the nodes.
BANNERS = """() => Object.fromEntries(app.graph.nodes.map(node => {
    const widget = node.widgets?.find(widget => widget.name === 'likeness_missing_models')
    return [node.type, widget ? [...widget.element.querySelectorAll('.likeness-title')].map(title => title.textContent) : []]
}))"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    running = start(tmp_path_factory.mktemp("models"))
    yield running
    running.stop()


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "Nodes 2.0"])
def opened(request, host):
    with browser.editor(host.url, vue=request.param) as editor:
        yield editor


@pytest.fixture
def site():
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def editor(opened, host, site):
    """An editor with an empty graph, on a host with none of the models and nothing under way, that does not ask before it downloads."""
    arrange(host, site)
    opened.js(EMPTY)
    for name, value in SETTINGS.items():
        opened.setting(name, value)
    opened.js("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0] }")
    opened.problems.clear()
    yield opened
    for dialog in opened.page.locator("dialog.likeness-dialog").all():
        dialog.evaluate("dialog => dialog.close()")
    site.pace = 0
    host.post("/likeness/models/cancel", {})
    ended(host)
    opened.page.wait_for_timeout(1200)
    for name, filename in FILES.items():
        for left in (host.base / "models" / CATALOGUE[name].folder).glob(f"{filename}*"):
            left.unlink()
    opened.js("() => app.refreshComboInNodes()")
    assert [problem for problem in opened.problems if "likeness" in problem.lower() and "409" not in problem] == []


def add(editor, node_type: str, x: int = 120, y: int = 120) -> str:
    return editor.js(ADD, [node_type, x, y])


def banners(editor, expected: dict[str, list[str]]) -> None:
    """Wait until the banners of the graph's nodes are these."""
    try:
        editor.page.wait_for_function(
            f"expected => JSON.stringify(({BANNERS})()) === expected", arg=json.dumps(expected, separators=(",", ":")), timeout=15_000
        )
    except Exception:
        assert editor.js(BANNERS) == expected
        raise


def button(editor, label: str):
    return editor.page.locator(f"{BANNER} button:visible", has_text=label)


MISSING_ADAPTER, MISSING_CLIP = "XLabs Flux IP-Adapter v2 is missing", "CLIP ViT-L/14 image encoder is missing"
MISSING_BUFFALO = "InsightFace buffalo_l is missing"


def test_a_node_shows_what_is_missing_for_its_choice_and_only_then(editor):
    add(editor, LOADER)
    editor.page.wait_for_timeout(800)
    banners(editor, {LOADER: []})
    editor.set_widget(LOADER, 0, "recognizer", "buffalo_l")
    banners(editor, {LOADER: [MISSING_BUFFALO]})
    facts = editor.page.locator(f"{BANNER} .likeness-facts").inner_text()
    assert facts == "400 kB · non-commercial research only (InsightFace model zoo) · models/insightface/models/buffalo_l"
    assert editor.page.locator(f"{BANNER} a").get_attribute("href") == CATALOGUE[BUFFALO].page
    editor.set_widget(LOADER, 0, "recognizer", "dlib")
    banners(editor, {LOADER: []})


def test_the_banner_is_seen_inside_its_node_and_gives_its_room_back(editor):
    add(editor, LOADER)
    editor.page.wait_for_timeout(800)
    before = editor.js("() => [...app.graph.nodes[0].size]")
    editor.set_widget(LOADER, 0, "recognizer", "buffalo_l")
    banners(editor, {LOADER: [MISSING_BUFFALO]})
    editor.page.wait_for_timeout(800)
    shown = editor.page.locator(f"{BANNER} .likeness-model").bounding_box()
    node = editor.graph_box(0)
    assert node["x"] <= shown["x"] and shown["x"] + shown["width"] <= node["x"] + node["width"] + 1
    assert node["y"] <= shown["y"] and shown["y"] + shown["height"] <= node["y"] + node["height"] + 1
    editor.set_widget(LOADER, 0, "recognizer", "dlib")
    banners(editor, {LOADER: []})
    editor.page.wait_for_timeout(500)
    assert abs(editor.js("() => app.graph.nodes[0].size[1]") - before[1]) <= 30


def test_a_wire_takes_the_place_of_a_model(editor):
    """Face Crops needs MediaPipe's detector only where no recognizer is wired."""
    add(editor, LOADER)
    add(editor, CROPS, 600, 120)
    names = [CATALOGUE[f"mediapipe-{part}"].title for part in ("face-detector", "face-landmarker", "pose-landmarker")]
    banners(editor, {LOADER: [], CROPS: [f"{names[0]} is missing", f"Better with {names[1]}", f"Better with {names[2]}"]})
    editor.js("() => { const [from, to] = app.graph.nodes; from.connect(0, to, to.inputs.findIndex(i => i.name === 'recognizer')) }")
    banners(editor, {LOADER: [], CROPS: [f"Better with {name}" for name in names]})
    editor.page.locator(f"{BANNER} [aria-label='Not now']:visible").first.click()
    banners(editor, {LOADER: [], CROPS: [f"Better with {name}" for name in names[1:]]})


def test_a_banner_changes_neither_saved_values_nor_the_prompt(editor):
    add(editor, FLUX)
    add(editor, MASK, 700, 120)
    banners(editor, {FLUX: [MISSING_ADAPTER, MISSING_CLIP], MASK: [f"Better with {CATALOGUE['mediapipe-face-landmarker'].title}"]})
    saved = editor.workflow()
    values = {node["type"]: node["widgets_values"] for node in saved["nodes"]}
    assert values == {FLUX: ["no Flux IP-Adapter found", "no encoder in models/clip_vision"], MASK: ["face", 0, 16, False]}
    assert {name for node in editor.prompt().values() for name in node["inputs"]} == {
        "ipadapter",
        "clip_vision",
        "area",
        "grow",
        "feather",
        "invert",
    }
    editor.load(saved)
    banners(editor, {FLUX: [MISSING_ADAPTER, MISSING_CLIP], MASK: [f"Better with {CATALOGUE['mediapipe-face-landmarker'].title}"]})
    assert {node["type"]: node["widgets_values"] for node in editor.workflow()["nodes"]} == values


def test_a_download_shows_its_progress_and_then_the_banner_goes_and_the_file_is_chosen(editor, host, site):
    add(editor, FLUX)
    banners(editor, {FLUX: [MISSING_ADAPTER, MISSING_CLIP]})
    site.pace = 0.25
    button(editor, "Download 400 kB").click()
    bar = editor.page.locator(f"{BANNER} progress:visible")
    bar.wait_for(timeout=10_000)
    editor.page.wait_for_function(
        "() => { const bar = document.querySelector('.likeness-models progress:not([hidden])'); return bar && bar.value > 0 && bar.value < 1 }"
    )
    assert button(editor, "Download 1.71 GB").is_disabled(), "one at a time"
    banners(editor, {FLUX: [MISSING_CLIP]})
    assert (host.base / "models" / "xlabs" / "ipadapters" / FILES[ADAPTER]).read_bytes() == CONTENT[ADAPTER]
    assert editor.workflow()["nodes"][0]["widgets_values"] == [FILES[ADAPTER], "no encoder in models/clip_vision"]
    # As the choice is, the other family's encoder is not wanted.
    assert SIGLIP not in json.dumps(editor.js(BANNERS))


def test_a_cancelled_download_is_resumed_by_the_next_click(editor, host, site):
    add(editor, FLUX)
    banners(editor, {FLUX: [MISSING_ADAPTER, MISSING_CLIP]})
    site.pace = 0.5
    button(editor, "Download 400 kB").click()
    editor.page.wait_for_function("() => document.querySelector('.likeness-models progress:not([hidden])')?.value > 0")
    button(editor, "Cancel").click()
    button(editor, "Resume download").wait_for(timeout=15_000)
    assert "what arrived is kept" in editor.page.locator(f"{BANNER} .likeness-note:visible").first.inner_text()
    part = host.base / "models" / "xlabs" / "ipadapters" / f"{FILES[ADAPTER]}.part"
    have = part.stat().st_size
    assert 0 < have < len(CONTENT[ADAPTER])
    site.pace = 0
    button(editor, "Resume download").click()
    banners(editor, {FLUX: [MISSING_CLIP]})
    assert site.ranges(f"/{FILES[ADAPTER]}") == [None, f"bytes={have}-"]


def test_a_failure_is_said_in_the_banner_and_another_try_is_offered(editor, site):
    del site.files[f"/{FILES[ADAPTER]}"]
    add(editor, FLUX)
    banners(editor, {FLUX: [MISSING_ADAPTER, MISSING_CLIP]})
    button(editor, "Download 400 kB").click()
    note = editor.page.locator(f"{BANNER} .likeness-note.likeness-error:visible")
    note.wait_for(timeout=15_000)
    assert "is no longer at" in note.inner_text()
    assert button(editor, "Download 400 kB").is_enabled()


def test_nothing_is_downloaded_before_the_licence_is_accepted(editor, site):
    editor.setting("Likeness.ConfirmDownload", True)
    add(editor, FLUX)
    banners(editor, {FLUX: [MISSING_ADAPTER, MISSING_CLIP]})
    dialog = editor.page.locator("dialog.likeness-dialog")
    button(editor, "Download 400 kB").click()
    dialog.wait_for()
    assert "FLUX.1 [dev] Non-Commercial License" in dialog.inner_text() and "models/xlabs/ipadapters" in dialog.inner_text()
    editor.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    button(editor, "Download 400 kB").click()
    dialog.locator("button", has_text="Cancel").click()
    dialog.wait_for(state="detached")
    editor.page.wait_for_timeout(500)
    assert site.requests == []
    button(editor, "Download 400 kB").click()
    dialog.locator("button", has_text="Accept licence and download").click()
    banners(editor, {FLUX: [MISSING_CLIP]})
    assert len(site.gets) == 1


def test_a_download_is_begun_and_cancelled_with_the_keyboard_alone(editor, site):
    editor.setting("Likeness.ConfirmDownload", True)
    add(editor, FLUX)
    banners(editor, {FLUX: [MISSING_ADAPTER, MISSING_CLIP]})
    editor.page.wait_for_timeout(500)
    site.pace = 0.5
    reached = "() => document.activeElement?.ariaLabel ?? ''"
    for _ in range(150):
        editor.page.keyboard.press("Tab")
        if editor.js(reached).startswith("Download 400 kB"):
            break
    assert editor.js(reached) == "Download 400 kB: XLabs Flux IP-Adapter v2"
    editor.page.keyboard.press("Enter")
    editor.page.locator("dialog.likeness-dialog").wait_for()
    assert editor.js("() => document.activeElement.textContent") == "Accept licence and download"
    editor.page.keyboard.press("Enter")
    editor.page.wait_for_function("() => document.querySelector('.likeness-models progress:not([hidden])')?.value > 0", timeout=10_000)
    for _ in range(150):
        if editor.js(reached).startswith("Cancel"):
            break
        editor.page.keyboard.press("Tab")
    assert editor.js(reached) == "Cancel: XLabs Flux IP-Adapter v2"
    editor.page.keyboard.press("Space")
    button(editor, "Resume download").wait_for(timeout=15_000)


def test_commercial_use_only_bars_what_is_not_cleared(editor, site):
    add(editor, FLUX)
    banners(editor, {FLUX: [MISSING_ADAPTER, MISSING_CLIP]})
    editor.setting("Likeness.CommercialUseOnly", True)
    editor.page.locator(f"{BANNER} .likeness-error:visible", has_text="Not cleared for commercial use").wait_for(timeout=10_000)
    assert button(editor, "Download 400 kB").is_disabled()
    assert button(editor, "Download 1.71 GB").is_enabled()


def test_the_command_shows_every_model_with_its_state(editor, host):
    (host.base / "models" / "clip_vision").mkdir(exist_ok=True)
    (host.base / "models" / "clip_vision" / FILES[SIGLIP]).write_bytes(CONTENT[SIGLIP])
    editor.js("() => app.extensionManager.command.execute('Likeness.ShowMissingModels')")
    dialog = editor.page.locator("dialog.likeness-all")
    dialog.wait_for()
    titles = dialog.locator(".likeness-title").all_inner_texts()
    assert len(titles) == len(CATALOGUE)
    assert titles[-1] == f"{CATALOGUE[SIGLIP].title}: installed" and all(title.endswith(" is missing") for title in titles[:-1])
    row = dialog.locator(".likeness-model", has_text="XLabs Flux IP-Adapter v2")
    assert "Used by: Load Flux IP-Adapter" in row.inner_text()
    row.locator("button", has_text="Download 400 kB").click()
    dialog.locator(".likeness-title", has_text="XLabs Flux IP-Adapter v2: installed").wait_for(timeout=15_000)
    editor.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_the_commands_stand_in_the_menu_and_the_guide_opens_in_a_new_tab(editor):
    commands = editor.js("() => app.extensions.flatMap(each => each.menuCommands ?? []).filter(each => each.path.includes('Likeness'))")
    assert commands == [{"path": ["Extensions", "Likeness"], "commands": ["Likeness.OpenGuide", "Likeness.ShowMissingModels"]}]
    opened = editor.js(
        """async () => {
            const calls = [], before = window.open
            window.open = (...given) => { calls.push(given) }
            try { await app.extensionManager.command.execute('Likeness.OpenGuide') } finally { window.open = before }
            return calls
        }"""
    )
    assert opened == [["https://github.com/comfyui-likeness/ComfyUI-Likeness#readme", "_blank", "noopener"]]


def test_a_new_recognizer_begins_with_the_default_and_a_loaded_one_keeps_its_own(editor):
    add(editor, LOADER)
    saved = editor.workflow()
    assert saved["nodes"][0]["widgets_values"] == ["auto", "auto"]
    editor.setting("Likeness.DefaultRecognizer", "dlib")
    add(editor, LOADER, 600, 120)
    assert sorted(node["widgets_values"][0] for node in editor.workflow()["nodes"]) == ["auto", "dlib"]
    editor.load(saved)
    assert editor.workflow()["nodes"][0]["widgets_values"] == ["auto", "auto"]
    editor.setting("Likeness.DefaultRecognizer", "a pack that is not there")
    editor.js(EMPTY)
    add(editor, LOADER)
    assert editor.workflow()["nodes"][0]["widgets_values"] == ["auto", "auto"]


def another(opened, host) -> browser.Editor:
    """The same editor in a window of its own."""
    vue = opened.js("() => app.extensionManager.setting.get('Comfy.VueNodes.Enabled')")
    return browser.Editor(opened.page.context.browser.new_page(viewport=browser.SIZE), host.url, vue)


def test_without_a_node_of_ours_the_server_is_asked_nothing(opened, host):
    fresh = another(opened, host)
    asked = []
    fresh.js(EMPTY)
    fresh.page.on("request", lambda request: asked.append(request.url))
    fresh.page.reload()
    fresh.page.wait_for_function("window.app?.graph && window.app.extensionManager")
    fresh.js(EMPTY)
    fresh.js(ADD, ["LoadImage", 100, 100])
    fresh.page.wait_for_timeout(2000)
    assert [url for url in asked if "/likeness/" in url] == []
    fresh.js(ADD, [LOADER, 500, 100])
    fresh.page.wait_for_timeout(1500)
    assert len([url for url in asked if url.endswith("/likeness/models")]) == 1
    fresh.page.close()


def test_a_download_is_shown_in_a_page_opened_meanwhile(editor, host, site):
    add(editor, FLUX)
    banners(editor, {FLUX: [MISSING_ADAPTER, MISSING_CLIP]})
    # Long enough for another page to load on a busy machine.
    site.pace = 4
    button(editor, "Download 400 kB").click()
    editor.page.wait_for_function("() => document.querySelector('.likeness-models progress:not([hidden])')?.value > 0")
    other = another(editor, host)
    other.js(EMPTY)
    add(other, FLUX)
    other.page.wait_for_function("() => document.querySelector('.likeness-models progress:not([hidden])')?.value > 0", timeout=10_000)
    site.pace = 0
    banners(other, {FLUX: [MISSING_CLIP]})
    other.page.close()
    banners(editor, {FLUX: [MISSING_CLIP]})


def test_with_several_users_the_banner_says_why_nothing_can_be_downloaded(opened, tmp_path, site):
    running = start(tmp_path, "--multi-user")
    try:
        arrange(running, site)
        user = running.post("/users", {"username": "mira"})
        page = opened.page.context.browser.new_page(viewport=browser.SIZE)
        page.add_init_script(f"localStorage['Comfy.userId'] = {json.dumps(user)}; localStorage['Comfy.userName'] = 'mira'")
        page.goto(running.url)
        page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=browser.READY_MS)
        page.evaluate(EMPTY)
        page.evaluate(ADD, [FLUX, 200, 200])
        page.locator(f"{BANNER} .likeness-error", has_text="Downloads are off in multi-user mode").first.wait_for(timeout=15_000)
        assert all(each.is_disabled() for each in page.locator(f"{BANNER} button", has_text="Download").all())
        page.close()
        assert site.requests == []
    finally:
        running.stop()
