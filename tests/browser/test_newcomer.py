"""A newcomer's way, with mouse and file dialog alone: template browser, Identity gate, pictures, Run, the line dragged, Run again; in both ways of drawing nodes."""

import shutil
import time

import numpy as np
import pytest
from PIL import Image

from tests.browser import editor as browser
from tests.browser.test_panel import GATE, LINE, PANEL, TILE, count, drag_line, inputs, verdicts
from tests.conftest import ROOT, comfyui_root
from tests.tiny.drawn_faces import EDDA, MIRA, TOMAS, portrait

pytestmark = [pytest.mark.browser, pytest.mark.dlib]

# The reference, and the pictures to judge: the dlib recognizer gives them 0.89, 0.37 and 0.40.
PICTURES = {
    "her.png": portrait(MIRA),
    "her again.png": portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b", scale=0.8),
    "he.png": portrait(TOMAS),
    "another.png": portrait(EDDA),
}
# Where on the screen the button lies that chooses a file, in classic rendering, which draws it.
UPLOAD = """index => {
    const node = app.graph.nodes.filter(n => n.type === 'LoadImage').sort((a, b) => a.id - b.id)[index]
    const button = node.widgets.find(w => w.name === 'upload'), { scale, offset } = app.canvas.ds, area = app.canvas.canvas.getBoundingClientRect()
    return [(node.pos[0] + node.size[0] / 2 + offset[0]) * scale + area.left, (node.pos[1] + button.y + 10 + offset[1]) * scale + area.top]
}"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A host as it is after installing, which counts how often a detector looks (tests/tiny/looks_host)."""
    from tests.host.comfy import Comfy

    running = Comfy(comfyui_root(), ROOT, tmp_path_factory.mktemp("newcomer"), extra=(ROOT / "tests" / "tiny" / "looks_host",))
    shutil.copy(comfyui_root() / "input" / "example.png", running.base / "input")
    yield running
    running.stop()


@pytest.fixture
def files(tmp_path, request):
    """The pictures as files of the newcomer's, other ones for each test: what a host has seen it does not look at again."""
    own = sum(request.node.name.encode()) % 251
    for name, pixels in PICTURES.items():
        marked = np.array(pixels)
        marked[0, 0] = own
        Image.fromarray(marked).save(tmp_path / f"{own}_{name}")
    return [tmp_path / f"{own}_{name}" for name in PICTURES]


def choose(editor, index: int, file) -> None:
    """Choose a file in the index-th Load Image."""
    page = editor.page
    with page.expect_file_chooser() as chooser:
        if editor.vue:
            node = editor.js("index => app.graph.nodes.filter(n => n.type === 'LoadImage').sort((a, b) => a.id - b.id)[index].id", index)
            page.locator(f'[data-node-id="{node}"] label:has(input[type=file])').click()
        else:
            page.mouse.click(*editor.js(UPLOAD, index))
    chooser.value.set_files(file)
    page.wait_for_function(
        """([index, name]) => app.graph.nodes.filter(n => n.type === 'LoadImage').sort((a, b) => a.id - b.id)[index]
            .widgets.find(w => w.name === 'image').value.includes(name)""",
        arg=[index, file.name],
        timeout=20_000,
    )


def wait_until_shown(editor, passed: int, rejected: int) -> None:
    """Wait until the previews behind the gate show so many pictures."""
    editor.page.wait_for_function(
        """wanted => ['Passed', 'Rejected'].every((title, i) =>
            app.nodeOutputs[app.graph.nodes.find(n => n.title === title).id]?.images?.length === wanted[i])""",
        arg=[passed, rejected],
        timeout=30_000,
    )


def open_template(editor, name: str) -> None:
    """Choose a workflow of ours in the template browser, as one does with the mouse."""
    editor.page.get_by_role("button", name="Templates").click()
    dialog = editor.page.get_by_role("dialog")
    dialog.get_by_text("ComfyUI-Likeness", exact=True).click()
    dialog.get_by_test_id(f"template-workflow-{name}").click()
    dialog.wait_for(state="detached")


def press_run(editor, host) -> None:
    """The button Run, until all is done."""
    with editor.page.expect_response(lambda answer: answer.url.endswith("/prompt") and answer.request.method == "POST") as sent:
        editor.page.get_by_test_id("queue-button").click()
    assert sent.value.ok, sent.value.text()
    prompt = sent.value.json()["prompt_id"]
    end = time.monotonic() + 120
    while prompt not in host.get(f"/history/{prompt}"):
        assert time.monotonic() < end, "The run did not end within two minutes."
        editor.page.wait_for_timeout(100)
    editor.page.wait_for_timeout(1000)


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "Nodes 2.0"])
def test_from_the_template_to_a_run_with_another_threshold(host, files, vue):
    with browser.editor(host.url, vue=vue) as editor:
        page = editor.page
        editor.vue = vue
        editor.problems.clear()
        open_template(editor, "Identity gate")
        page.wait_for_function("type => app.graph.nodes.some(n => n.type === type)", arg=GATE)
        page.wait_for_timeout(1500)
        for index, file in enumerate(files):
            choose(editor, index, file)
        assert page.locator(PANEL).count() == 0

        host.post("/test_looks/reset", {})
        press_run(editor, host)
        page.locator(TILE).nth(2).wait_for(timeout=60_000)
        wait_until_shown(editor, 1, 2)
        assert host.get("/test_looks") >= len(files)
        assert verdicts(editor) == ["pass", "reject", "reject"]

        # The line is there to be dragged as the workflow was opened: nothing is moved or enlarged first.
        size, line = page.viewport_size, page.locator(LINE).bounding_box()
        assert 0 < line["x"] < size["width"] and 0 < line["y"] and line["y"] + line["height"] < size["height"]
        drag_line(editor, 0.385)
        assert verdicts(editor) == ["pass", "reject", "pass"]
        assert inputs(editor)["strictness"] == "custom" and inputs(editor)["threshold"] == pytest.approx(0.385, abs=0.011)
        assert (count(editor, "Passed"), count(editor, "Rejected")) == (1, 2)

        host.post("/test_looks/reset", {})
        press_run(editor, host)
        wait_until_shown(editor, 2, 1)
        assert verdicts(editor) == ["pass", "reject", "pass"]
        assert host.get("/test_looks") == 0
        assert editor.missing_types() == [] and not editor.errors()
        assert [problem for problem in editor.problems if "likeness" in problem.lower()] == []
