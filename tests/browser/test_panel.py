"""The panel of the nodes that judge, in the real editor: shown after a run, used by mouse and keyboard, saved with the workflow, in both ways of drawing nodes."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.browser import editor as browser
from tests.conftest import ROOT, comfyui_root
from tests.tiny.drawn_faces import EDDA, MIRA, TOMAS, portrait

pytestmark = [pytest.mark.browser, pytest.mark.dlib]

GATE = "LikenessIdentityGate"
PANEL = ".likeness-panel"
TILE = f"{PANEL} .tile"
LINE = f"{PANEL} .threshold"
ALWAYS, MUTED, BYPASSED = 0, 2, 4


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A host of its own, which counts how often a detector looks (tests/tiny/looks_host)."""
    from tests.host.comfy import Comfy

    running = Comfy(comfyui_root(), ROOT, tmp_path_factory.mktemp("panel"), extra=(ROOT / "tests" / "tiny" / "looks_host",))
    for name, pixels in {
        "example.png": portrait(MIRA),
        "mira.png": portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b", scale=0.8),
        "tomas.png": portrait(TOMAS),
        "edda.png": portrait(EDDA),
    }.items():
        running.upload(name, np.ascontiguousarray(pixels))
    yield running
    running.stop()


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "Nodes 2.0"])
def editor(request, host):
    with browser.editor(host.url, vue=request.param) as opened:
        yield opened


@pytest.fixture
def gate(editor):
    """The Identity gate workflow after a run: Mira passes with 0.89, Tomas (0.37) and Edda (0.40) do not."""
    editor.load(browser.read(ROOT / "example_workflows" / "Identity gate.json"))
    for index, name in enumerate(["example.png", "mira.png", "tomas.png", "edda.png"]):
        editor.set_widget("LoadImage", index, "image", name)
    editor.problems.clear()
    run(editor)
    look_at(editor, GATE)
    yield editor
    assert [problem for problem in editor.problems if "likeness" in problem.lower()] == []


def run(editor, tiles: int = 3) -> None:
    editor.run()
    editor.page.wait_for_function(f"count => document.querySelectorAll('{TILE}').length === count", arg=tiles, timeout=60_000)


def look_at(editor, node_type: str) -> None:
    """Bring a node into the middle of the window, a little enlarged: what the mouse hits is then computed through a scale."""
    editor.js(
        """type => {
            const node = app.canvas.graph.nodes.find(n => n.type === type), panel = node.widgets.find(w => w.name === 'likeness_panel')
            app.canvas.ds.scale = 1.1
            app.canvas.ds.offset = [-node.pos[0] + 300, -node.pos[1] - (panel?.y ?? 0) + 250]
            app.canvas.setDirty(true, true)
        }""",
        node_type,
    )
    editor.page.wait_for_timeout(600)


def verdicts(editor) -> list[str]:
    return editor.js(f"() => [...document.querySelectorAll('{TILE}')].map(tile => tile.dataset.verdict)")


def pinned(editor) -> list:
    return editor.js(f"() => [...document.querySelectorAll('{TILE}')].map(tile => tile.dataset.pinned ?? null)")


def inputs(editor, node_type: str = GATE) -> dict:
    """What the next run is given."""
    return next(node["inputs"] for node in editor.prompt().values() if node["class_type"] == node_type)


def told(editor, node_type: str = GATE) -> dict:
    """What the last run told the panel."""
    return editor.js("type => app.nodeOutputs[app.graph.nodes.find(n => n.type === type).id].likeness[0]", node_type)


def count(editor, title: str) -> int:
    """How many pictures a preview of the workflow shows."""
    return editor.js("title => app.nodeOutputs[app.graph.nodes.find(n => n.title === title).id]?.images?.length ?? 0", title)


def drag_line(editor, to: float) -> None:
    """Drag the threshold with the mouse to a value on an axis from 0 to 1."""
    line, plot = (editor.page.locator(selector).bounding_box() for selector in (LINE, f"{PANEL} .plot"))
    y = line["y"] + line["height"] / 2
    editor.page.mouse.move(line["x"] + line["width"] / 2, y)
    editor.page.mouse.down()
    editor.page.mouse.move(plot["x"] + plot["width"] * to, y, steps=6)
    editor.page.mouse.up()
    editor.page.wait_for_timeout(150)


# --- what is shown ---


def test_after_a_run_the_panel_shows_each_picture_with_its_verdict(gate):
    assert verdicts(gate) == ["pass", "reject", "reject"]
    assert gate.page.locator(f"{TILE} .score").all_inner_texts() == ["0.89", "0.37", "0.40"]
    assert gate.page.locator(f"{PANEL} .count").all_inner_texts() == ["1 pass", "2 reject"]
    assert gate.page.locator(f"{PANEL} .value").inner_text() == "0.50 standard"
    gate.page.wait_for_function(f"() => [...document.querySelectorAll('{TILE} img')].every(i => i.complete && i.naturalWidth > 0)", timeout=20_000)
    assert gate.js(f"() => [...document.querySelectorAll('{TILE} img')].map(i => Math.max(i.naturalWidth, i.naturalHeight))") == [192, 192, 192]
    # The bars stand for all pictures, each in the colour of its verdict.
    assert sorted(gate.js(f"() => [...document.querySelectorAll('{PANEL} rect')].map(bar => bar.dataset.verdict)")) == ["pass", "reject", "reject"]


def test_a_picture_is_shown_once_by_the_panel_and_not_by_the_editors_gallery_too(gate):
    assert gate.js("type => app.graph.nodes.find(n => n.type === type).imgs?.length ?? 0", GATE) == 0
    node = gate.js("type => app.graph.nodes.find(n => n.type === type).id", GATE)
    assert gate.page.locator(f'[data-node-id="{node}"] .image-preview, [data-node-id="{node}"] [data-testid="image-preview"]').count() == 0
    # What the node's images were is still there for who asks the host.
    assert gate.js("id => app.nodeOutputs[id].images.length", node) == 3


def test_without_a_run_a_node_has_no_panel(editor):
    editor.load(browser.read(ROOT / "example_workflows" / "Identity gate.json"))
    assert editor.page.locator(PANEL).count() == 0
    assert editor.js("type => app.graph.nodes.find(n => n.type === type).widgets.map(w => w.name)", GATE)[-1] == "pins"


def test_the_panel_fits_into_its_node_and_is_large_enough(gate):
    size, panel = gate.js(
        f"""type => {{
            const node = app.graph.nodes.find(n => n.type === type), box = document.querySelector('{PANEL}').getBoundingClientRect()
            const [x, y] = app.canvas.ds.offset, scale = app.canvas.ds.scale, area = app.canvas.canvas.getBoundingClientRect()
            const left = (node.pos[0] + x) * scale + area.left, top = (node.pos[1] + y) * scale + area.top
            return [[node.size[0] * scale, node.size[1] * scale], [box.left - left, box.top - top, box.width, box.height, scale]]
        }}""",
        GATE,
    )
    left, top, width, height, scale = panel
    assert left >= 0 and left + width <= size[0] + 1 and top > 0 and top + height <= size[1] + 1
    assert width >= 320 * scale and height >= 330 * scale


# --- the threshold ---


def test_dragging_the_line_changes_sides_at_once_and_the_saved_workflow(gate, host):
    before = gate.workflow()
    drag_line(gate, 0.385)
    assert verdicts(gate) == ["pass", "reject", "pass"]
    given = inputs(gate)
    assert given["strictness"] == "custom" and given["threshold"] == pytest.approx(0.385, abs=0.011)
    assert gate.page.locator(f"{PANEL} .value").inner_text() == f"{given['threshold']:.2f} custom"
    saved, old = (next(node for node in workflow["nodes"] if node["type"] == GATE)["widgets_values"] for workflow in (gate.workflow(), before))
    # Only these two of the saved values are others, and each stands where it stood.
    assert saved == ["custom", given["threshold"], *old[2:]] and len(saved) == 8
    assert "no face is searched for again" in gate.page.locator(f"{PANEL} .told").inner_text()

    host.post("/test_looks/reset", {})
    run(gate)
    assert host.get("/test_looks") == 0
    assert told(gate)["applied"] == given["threshold"] and verdicts(gate) == ["pass", "reject", "pass"]
    assert (count(gate, "Passed"), count(gate, "Rejected")) == (2, 1)
    assert "Drag the line" in gate.page.locator(f"{PANEL} .told").inner_text()


def test_the_counter_of_looks_counts(gate, host):
    """Another picture is looked at: so a count of none above means none."""
    host.upload("other.png", np.ascontiguousarray(portrait(TOMAS, background=f"#{np.random.default_rng().integers(0, 1 << 24):06x}")))
    gate.set_widget("LoadImage", 2, "image", "other.png")
    host.post("/test_looks/reset", {})
    run(gate)
    assert host.get("/test_looks") >= 1


def test_the_line_is_moved_by_keys(gate):
    gate.page.locator(LINE).focus()
    for key, threshold in (("ArrowRight", 0.51), ("ArrowUp", 0.52), ("ArrowLeft", 0.51), ("PageDown", 0.41), ("ArrowDown", 0.40), ("ArrowLeft", 0.39)):
        gate.page.keyboard.press(key)
        gate.page.wait_for_function(f"value => document.querySelector('{LINE}').getAttribute('aria-valuenow') === String(value)", arg=threshold)
        assert inputs(gate)["threshold"] == threshold and inputs(gate)["strictness"] == "custom"
    assert verdicts(gate) == ["pass", "reject", "pass"]
    gate.page.keyboard.press("Home")
    gate.page.wait_for_timeout(150)
    assert verdicts(gate) == ["pass"] * 3 and inputs(gate)["threshold"] == 0
    gate.page.keyboard.press("End")
    gate.page.wait_for_timeout(150)
    assert verdicts(gate) == ["reject"] * 3 and inputs(gate)["threshold"] == 1
    assert gate.page.locator(LINE).get_attribute("aria-valuetext") == "1.00 custom: 3 reject"


def test_the_panel_follows_the_inputs_of_the_node(gate):
    gate.set_widget(GATE, 0, "strictness", "strict")
    assert gate.page.locator(f"{PANEL} .value").inner_text() == "0.60 strict"
    gate.set_widget(GATE, 0, "strictness", "custom")
    gate.set_widget(GATE, 0, "threshold", 0.3)
    assert gate.page.locator(f"{PANEL} .value").inner_text() == "0.30 custom" and verdicts(gate) == ["pass"] * 3


def test_a_wired_threshold_is_looked_at_but_not_written(gate):
    gate.js(
        """type => {
            const node = app.graph.nodes.find(n => n.type === type), number = LiteGraph.createNode('PrimitiveFloat')
            app.graph.add(number)
            number.connect(0, node, node.inputs.findIndex(i => i.name === 'threshold'))
        }""",
        GATE,
    )
    drag_line(gate, 0.385)
    assert verdicts(gate) == ["pass", "reject", "pass"]
    given = inputs(gate)
    assert given["strictness"] == "standard" and isinstance(given["threshold"], list)
    assert "The threshold is wired" in gate.page.locator(f"{PANEL} .told").inner_text()


def test_undo_takes_a_drag_back_and_the_panel_stays(gate):
    drag_line(gate, 0.7)
    assert inputs(gate)["strictness"] == "custom"
    gate.page.keyboard.press("Control+z")
    gate.page.wait_for_function("type => app.graph.nodes.find(n => n.type === type).widgets.find(w => w.name === 'strictness').value === 'standard'", arg=GATE)
    gate.page.wait_for_function(f"() => document.querySelector('{PANEL} .value')?.textContent === '0.50 standard'")
    assert verdicts(gate) == ["pass", "reject", "reject"] and gate.page.locator(PANEL).count() == 1


# --- pins ---


def test_a_picture_is_pinned_by_clicks_and_the_pin_acts_after_saving_and_loading(gate, host):
    edda = gate.page.locator(TILE).nth(2)
    seen = []
    for _ in range(3):
        edda.click()
        seen.append((verdicts(gate)[2], pinned(gate)[2], inputs(gate)["pins"]))
    key = told(gate)["pictures"][2]["key"]
    assert seen == [("pass", "pass", f"{key} pass"), ("reject", "reject", f"{key} reject"), ("reject", None, "")]
    edda.click()
    gate.page.locator(TILE).nth(0).click(click_count=1)
    gate.page.locator(TILE).nth(0).click()
    mira = told(gate)["pictures"][0]["key"]
    assert inputs(gate)["pins"] == f"{key} pass, {mira} reject" and pinned(gate) == ["reject", None, "pass"]

    gate.load(json.loads(json.dumps(gate.workflow())))
    assert inputs(gate)["pins"] == f"{key} pass, {mira} reject"
    host.post("/test_looks/reset", {})
    run(gate)
    assert host.get("/test_looks") == 0
    assert verdicts(gate) == ["reject", "reject", "pass"] and pinned(gate) == ["reject", None, "pass"]
    assert (count(gate, "Passed"), count(gate, "Rejected")) == (1, 2)
    run_told = told(gate)
    assert run_told["pictures"][2]["reason"] == "pinned by hand as pass; the recognizer says 0.40, below 0.50"
    assert run_told["match_rate"] == {"passed": 1, "n": 3}


def test_pictures_are_pinned_and_unpinned_by_keys_and_the_node_survives_them(gate):
    page = gate.page
    page.locator(TILE).nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert pinned(gate) == [None, "pass", None] and page.locator(f"{PANEL} [role=status]").text_content() == "Picture 2 pinned as pass"
    page.keyboard.press("Space")
    assert pinned(gate) == [None, "reject", None] and inputs(gate)["pins"].endswith(" reject")
    page.keyboard.press("Delete")
    assert pinned(gate) == [None] * 3 and inputs(gate)["pins"] == ""
    assert gate.js("type => app.graph.nodes.filter(n => n.type === type).length", GATE) == 1
    page.keyboard.press("End")
    page.keyboard.press("Space")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    assert pinned(gate) == ["pass", None, "pass"]
    assert page.locator(TILE).nth(0).get_attribute("aria-label") == "Picture 1: pass, 0.89, pinned as pass"
    button = page.locator(f"{PANEL} .unpin-all")
    assert button.inner_text() == "Unpin all (2)"
    # One stop for all pictures: from the picture Tab leads to the button.
    page.keyboard.press("Tab")
    assert gate.js("() => document.activeElement.className") == "unpin-all"
    page.keyboard.press("Enter")
    assert pinned(gate) == [None] * 3 and inputs(gate)["pins"] == "" and button.is_hidden()


def test_pins_of_other_pictures_are_kept(gate):
    other = f"{'0' * 32} reject"
    gate.set_widget(GATE, 0, "pins", other)
    gate.page.locator(TILE).nth(1).click()
    assert inputs(gate)["pins"] == f"{other}, {told(gate)['pictures'][1]['key']} pass"


def test_the_input_of_pins_is_not_in_the_way(gate):
    node = gate.js("type => app.graph.nodes.find(n => n.type === type).id", GATE)
    assert gate.js("type => app.graph.nodes.find(n => n.type === type).widgets.find(w => w.name === 'pins').hidden", GATE) is True
    assert gate.page.locator(f'[data-node-id="{node}"] [data-testid="node-widget"]', has_text="pins").count() == 0


# --- one picture in large ---


def test_enter_shows_a_picture_in_large_and_escape_leads_back_to_it(gate):
    page = gate.page
    page.locator(TILE).nth(0).focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog.likeness-large")
    assert dialog.locator("p").inner_text() == "Picture 1 of 3: pass, 0.89"
    page.wait_for_function("() => document.querySelector('dialog.likeness-large img').naturalWidth === 512", timeout=20_000)
    page.keyboard.press("ArrowRight")
    assert dialog.locator("p").inner_text() == "Picture 2 of 3: reject, 0.37"
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert gate.js(f"() => [...document.querySelectorAll('{TILE}')].indexOf(document.activeElement)") == 1
    assert pinned(gate) == [None] * 3


def test_the_corner_of_a_picture_shows_it_in_large_without_pinning(gate):
    gate.page.locator(TILE).nth(2).hover()
    gate.page.locator(f"{TILE} .open").nth(2).click()
    assert gate.page.locator("dialog.likeness-large p").inner_text() == "Picture 3 of 3: reject, 0.40"
    gate.page.locator("dialog.likeness-large button", has_text="Close").click()
    assert pinned(gate) == [None] * 3


# --- what else one does with nodes ---


def test_saving_and_loading_gives_the_same_prompt_with_the_panel_there(gate):
    drag_line(gate, 0.7)
    before, saved = gate.prompt(), gate.workflow()
    gate.load(json.loads(json.dumps(saved)))
    assert gate.prompt() == before
    again, first = (next(node for node in workflow["nodes"] if node["type"] == GATE) for workflow in (gate.workflow(), saved))
    assert (again["widgets_values"], again["size"]) == (first["widgets_values"], first["size"])


def test_bypass_and_mute_with_a_panel(gate):
    gate.mode(GATE, BYPASSED)
    assert GATE not in {node["class_type"] for node in gate.prompt().values()}
    gate.mode(GATE, MUTED)
    assert GATE not in {node["class_type"] for node in gate.prompt().values()}
    gate.mode(GATE, ALWAYS)
    run(gate)
    assert verdicts(gate) == ["pass", "reject", "reject"]


def test_a_copy_has_the_values_but_no_panel_until_it_runs(gate):
    gate.page.locator(TILE).nth(1).click()
    drag_line(gate, 0.7)
    gate.js(
        """type => {
            const node = app.graph.nodes.find(n => n.type === type)
            app.canvas.selectItems([node])
            app.canvas.copyToClipboard()
            app.canvas.pasteFromClipboard()
        }""",
        GATE,
    )
    gate.page.wait_for_timeout(500)
    first, second = gate.js("type => app.graph.nodes.filter(n => n.type === type).map(n => n.serialize().widgets_values)", GATE)
    assert first == second and first[7].endswith(" pass")
    assert gate.page.locator(PANEL).count() == 1


def test_in_a_subgraph_the_panel_comes_with_the_run(gate):
    gate.js(
        """type => {
            const node = app.graph.nodes.find(n => n.type === type)
            app.canvas.selectItems([node])
            const { node: made } = app.graph.convertToSubgraph(new Set([node]))
            app.canvas.setGraph(made.subgraph)
        }""",
        GATE,
    )
    gate.page.wait_for_timeout(800)
    run(gate)
    look_at(gate, GATE)
    assert verdicts(gate) == ["pass", "reject", "reject"]
    drag_line(gate, 0.385)
    assert verdicts(gate) == ["pass", "reject", "pass"]
    assert next(node["inputs"]["strictness"] for node in gate.prompt().values() if node["class_type"] == GATE) == "custom"
    gate.js("() => app.canvas.setGraph(app.rootGraph)")


def test_removing_the_node_removes_its_panel(gate):
    gate.js("type => app.graph.remove(app.graph.nodes.find(n => n.type === type))", GATE)
    gate.page.wait_for_timeout(500)
    assert gate.page.locator(PANEL).count() == 0


def test_identity_score_has_the_panel_to_look_at(editor):
    editor.js(
        """() => {
            app.graph.clear()
            const add = (type, values = {}) => {
                const node = LiteGraph.createNode(type)
                app.graph.add(node)
                for (const name in values) node.widgets.find(w => w.name === name).value = values[name]
                return node
            }
            const her = add('LoadImage', { image: 'example.png' }), other = add('LoadImage', { image: 'edda.png' })
            const who = add('LikenessBuildIdentity'), score = add('LikenessIdentityScore')
            her.connect(0, who, 0); who.connect(0, score, 1); other.connect(0, score, 0)
        }"""
    )
    editor.problems.clear()
    run(editor, 1)
    look_at(editor, "LikenessIdentityScore")
    before = editor.workflow()["nodes"]
    assert verdicts(editor) == ["reject"]
    drag_line(editor, 0.2)
    assert verdicts(editor) == ["pass"] and "sorts nothing" in editor.page.locator(f"{PANEL} .told").inner_text()
    editor.page.locator(TILE).nth(0).click()
    assert pinned(editor) == [None]
    assert [node.get("widgets_values") for node in editor.workflow()["nodes"]] == [node.get("widgets_values") for node in before]
    assert editor.problems == []


# --- many pictures ---

MANY = 500


@pytest.fixture
def many(editor, host):
    """The gate with the output of a run over 500 pictures, as the host would send it."""
    folder = host.base / "temp"
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(3)
    for i in range(MANY):
        Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8)).resize((192, 192)).save(folder / f"likeness_many_{i}.jpg")
    asked = set()

    def note(request):
        if "likeness_many_" in request.url:
            asked.add(request.url)

    editor.load(browser.read(ROOT / "example_workflows" / "Identity gate.json"))
    editor.page.on("request", note)
    editor.js(SEND, MANY)
    editor.page.wait_for_function(f"count => document.querySelectorAll('{TILE}').length === count", arg=MANY)
    look_at(editor, GATE)
    yield asked
    editor.page.remove_listener("request", note)


# A run's output with scores from 0.1 to 0.9, as the host sends it.
SEND = """count => {
    const node = app.graph.nodes.find(n => n.type === 'LikenessIdentityGate')
    const pictures = Array.from({ length: count }, (_, i) => {
        const score = 0.1 + 0.8 * ((i * 7919) % count) / count
        return { key: i.toString(16).padStart(32, '0'), name: String(i + 1), file: `likeness_many_${i}.jpg`, reason: '', pinned: null,
                 steps: [[score, 'pass', 'passed', score], [null, 'reject', 'rejected', score]] }
    })
    const run = { identities: ['Mira'], recognizer: 'dlib', thresholds: { loose: 0.4, standard: 0.5, strict: 0.6 }, strictness: 'standard',
                  applied: 0.5, keep_best: 0, match_rate: { passed: count / 2, n: count }, large: 0, pictures }
    node.onExecuted({ likeness: [run] })
}"""


def test_of_five_hundred_pictures_only_those_in_sight_are_fetched_and_scrolling_fetches_more(editor, many):
    editor.page.wait_for_function(f"() => document.querySelector('{TILE} img').naturalWidth === 192", timeout=20_000)
    editor.page.wait_for_timeout(1000)
    first = len(many)
    assert 0 < first < MANY // 2
    editor.js(f"() => {{ const grid = document.querySelector('{PANEL} .grid'); grid.scrollTop = grid.scrollHeight }}")
    editor.page.wait_for_function(f"() => [...document.querySelectorAll('{TILE} img')].at(-1).naturalWidth === 192", timeout=20_000)
    assert len(many) > first


def test_the_wheel_scrolls_the_pictures_and_not_the_graph(editor, many):
    grid = editor.page.locator(f"{PANEL} .grid")
    editor.page.locator(TILE).nth(0).focus()
    box, scale = grid.bounding_box(), editor.js("() => app.canvas.ds.scale")
    editor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    editor.page.mouse.wheel(0, 400)
    editor.page.wait_for_function(f"() => document.querySelector('{PANEL} .grid').scrollTop > 100")
    assert editor.js("() => app.canvas.ds.scale") == scale


def test_every_one_of_five_hundred_changes_side_with_the_line(editor, many):
    assert verdicts(editor).count("pass") == MANY // 2
    drag_line(editor, 0.7)
    threshold = inputs(editor)["threshold"]
    scores = editor.js(
        "() => app.graph.nodes.find(n => n.type === 'LikenessIdentityGate') && Array.from({ length: 500 }, (_, i) => 0.1 + 0.8 * ((i * 7919) % 500) / 500)"
    )
    assert verdicts(editor) == ["pass" if score >= threshold else "reject" for score in scores]
    assert 0 < verdicts(editor).count("pass") < MANY // 2


# --- the judging of the browser ---


def test_the_browser_judges_as_the_engine_does(editor):
    """keep_best and pins at every threshold: the only things that the panel decides itself."""
    from character_likeness.nodes.identity.panel import panel
    from character_likeness.nodes.identity.scoring import MatchRate, Rules, judge
    from character_likeness.nodes.pictures import Picture
    from tests.test_scoring import BLURRED, HER, NOBODY, seen

    scores = [0.9, 0.31, 0.62, 0.62, 0.45, 0.71, 0.12]
    measured = [*(seen(score) for score in scores), seen((0.8, BLURRED)), NOBODY, seen(0.2, 0.66)]
    pictures = [Picture(np.full((2, 2, 3), i, np.uint8)) for i in range(len(measured))]
    for keep_best, pins in ((0, {}), (2, {}), (3, {0: "reject", 6: "pass", 8: "pass", 7: "reject"})):
        by_place = [pins.get(i) for i in range(len(measured))]
        rules = Rules(0.5, "custom", keep_best=keep_best)
        run = panel(pictures, judge(measured, HER, rules, pins=by_place), HER, rules, MatchRate(0, 0), [None] * len(pictures))
        text = ", ".join(f"{picture.key.hex()} {pin}" for picture, pin in zip(pictures, by_place) if pin)
        for threshold in (-1.0, 0.12, 0.2, 0.31, 0.32, 0.45, 0.5, 0.62, 0.63, 0.66, 0.7, 0.71, 0.9, 0.91, 1.0):
            shown = editor.js(
                """async ([run, threshold, text]) => {
                    const { judge, readPins } = await import('/extensions/ComfyUI-Likeness/panel_judging.js')
                    return judge(run, threshold, readPins(text)).map(one => [one.verdict, one.score, one.pinned ?? null])
                }""",
                [run, threshold, text],
            )
            engine = judge(measured, HER, Rules(threshold, "custom", keep_best=keep_best), pins=by_place)
            assert shown == [[one.verdict, one.score, one.pinned] for one in engine], (keep_best, threshold)
