"""Apply Flux IP-Adapter in the real editor: the weight is the adapter's own until a number is typed or wired, and a saved workflow keeps which."""

import os
from pathlib import Path

import pytest

from tests.browser import editor as browser
from tests.tiny import flux_models as files

pytestmark = pytest.mark.browser

# Both nodes dragged in and wired, with nothing typed.
DRAGGED = """([adapter, encoder]) => {
    app.graph.clear()
    const add = (type, x) => { const node = LiteGraph.createNode(type); node.pos = [x, 80]; app.graph.add(node); return node }
    const load = add('LikenessLoadFluxIPAdapter', 40), apply = add('LikenessApplyFluxIPAdapter', 480)
    load.widgets.find(w => w.name === 'ipadapter').value = adapter
    load.widgets.find(w => w.name === 'clip_vision').value = encoder
    load.connect(0, apply, apply.inputs.findIndex(i => i.name === 'flux_ipadapter'))
}"""
WIRED = """() => {
    const apply = app.graph.nodes.find(n => n.type === 'LikenessApplyFluxIPAdapter')
    const number = LiteGraph.createNode('PrimitiveFloat')
    number.pos = [40, 460]
    app.graph.add(number)
    number.connect(0, apply, apply.inputs.findIndex(i => i.name === 'weight.value'))
}"""
APPLY = "LikenessApplyFluxIPAdapter"


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "Nodes 2.0"])
def editor(request, flux):
    with browser.editor(flux.url, vue=request.param) as opened:
        opened.vue = request.param
        yield opened


def given(editor) -> dict:
    """The inputs of Apply as Run would send them now."""
    (inputs,) = (node["inputs"] for node in editor.prompt().values() if node["class_type"] == APPLY)
    return inputs


def widgets(editor) -> list[str]:
    return editor.js("type => app.graph.nodes.find(n => n.type === type).widgets.map(w => w.name)", APPLY)


def seen(editor, name: str) -> None:
    """A screenshot where a person wants to look at it: FLUX_SHOTS names the folder."""
    if folder := os.environ.get("FLUX_SHOTS"):
        editor.page.wait_for_timeout(800)
        editor.screenshot(Path(folder, f"{name} {'nodes2' if editor.vue else 'classic'}.png"))


def test_the_weight_is_the_adapters_own_until_a_number_is_chosen_and_saving_keeps_it(editor):
    editor.problems.clear()
    editor.js(DRAGGED, [files.XLABS_V2, files.CLIP_VISION])
    editor.page.wait_for_timeout(500)
    own = given(editor)
    assert own["weight"] == "own" and "weight.value" not in own and "weight.value" not in widgets(editor)
    seen(editor, "own")

    editor.set_widget(APPLY, 0, "weight", "custom")
    editor.page.wait_for_timeout(500)
    assert given(editor)["weight.value"] == 0.7
    editor.set_widget(APPLY, 0, "weight.value", 0.55)
    editor.set_widget(APPLY, 0, "end_percent", 0.6)
    editor.set_widget(APPLY, 0, "combine", "average")
    custom = given(editor)
    assert custom == own | {"weight": "custom", "weight.value": 0.55, "end_percent": 0.6, "combine": "average"}
    seen(editor, "custom")
    editor.load(editor.workflow())
    assert given(editor) == custom

    editor.js(WIRED)
    (number,) = (name for name, node in editor.prompt().items() if node["class_type"] == "PrimitiveFloat")
    assert given(editor) == custom | {"weight.value": [number, 0]}
    editor.load(editor.workflow())
    assert given(editor) == custom | {"weight.value": [number, 0]}
    seen(editor, "wired")

    editor.set_widget(APPLY, 0, "weight", "own")
    editor.page.wait_for_timeout(500)
    back = own | {"end_percent": 0.6, "combine": "average"}
    assert given(editor) == back
    editor.load(editor.workflow())
    assert given(editor) == back
    assert not editor.missing_types() and not [problem for problem in editor.problems if "Likeness" in problem or "likeness" in problem]
