"""Retake until Match and Face Swap in the real editor: dragged together, run, and seen in the node."""

import pytest

from tests.browser import editor as browser
from tests.host.reactor import absent, painted
from tests.tiny.reactor_models import SWAPPER

pytestmark = [pytest.mark.browser, pytest.mark.dlib, pytest.mark.insightface]

MODES = pytest.mark.parametrize("vue", [False, True], ids=["classic", "Nodes 2.0"])

HELPERS = """
    app.graph.clear()
    const add = (type, x, y, values = {}) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, y]
        app.graph.add(node)
        for (const name in values) {
            const widget = node.widgets.find(w => w.name === name)
            widget.value = values[name]
            widget.callback?.(values[name])
        }
        return node
    }
    const slot = (slots, name) => slots.findIndex(s => s.name === name || s.label === name)
    const link = (from, output, to, input) => from.connect(slot(from.outputs, output), to, slot(to.inputs, input))
"""
RETAKE = (
    """([good, other]) => {"""
    + HELPERS
    + """
    const mira = add('LoadImage', 0, 0, { image: good }), somebody = add('LoadImage', 0, 400, { image: other })
    const who = add('LikenessBuildIdentity', 350, 0, { name: 'Mira' })
    const start = add('LikenessTakeStart', 350, 300, { seed: 20 })
    const made = add('TestBySeed', 700, 300, { good_from: 22 })
    const end = add('LikenessTakeEnd', 1000, 100), preview = add('PreviewImage', 1350, 100)
    link(mira, 'IMAGE', who, 'images'); link(mira, 'IMAGE', made, 'good'); link(somebody, 'IMAGE', made, 'other')
    link(start, 'seed', made, 'seed'); link(start, 'flow', end, 'flow'); link(made, 'IMAGE', end, 'image')
    link(who, 'identity', end, 'identity'); link(end, 'image', preview, 'images')
}"""
)
SWAP = (
    """([her, other, swapper]) => {"""
    + HELPERS
    + """
    const face = add('LoadImage', 0, 0, { image: her }), target = add('LoadImage', 0, 400, { image: other })
    const recognizer = add('LikenessLoadRecognizer', 350, 0, { recognizer: 'buffalo_l' })
    const who = add('LikenessBuildIdentity', 350, 200, { name: 'Mira' })
    const swap = add('LikenessFaceSwap', 700, 0, { swap_model: swapper, preset: 'fast' }), preview = add('PreviewImage', 1150, 100)
    link(face, 'IMAGE', who, 'images'); link(recognizer, 'recognizer', who, 'recognizer'); link(who, 'identity', swap, 'identity')
    link(target, 'IMAGE', swap, 'image'); link(swap, 'image', preview, 'images')
}"""
)
# What the node shows, in both ways of drawing: what the editor keeps for it.
SHOWN = """([type, count]) => {
    const node = app.graph.nodes.find(n => n.type === type)
    return app.nodeOutputs[node.id]?.images?.length === count
}"""


def wait_until_shown(editor, node: str, count: int) -> None:
    editor.page.wait_for_function(SHOWN, arg=[node, count], timeout=60_000)


@MODES
def test_a_retake_shows_its_takes_and_gives_the_one_that_passes(qwen, cast, vue):
    names = [qwen.upload(f"editor_retake_{i}_{vue}.png", cast[i].pixels) for i in (0, 3)]
    with browser.editor(qwen.url, vue) as editor:
        editor.js(RETAKE, names)
        editor.run()
        assert not editor.errors() and not editor.missing_types()
        # Three takes, from seed 20 on; the third passes.
        wait_until_shown(editor, "LikenessTakeEnd", 3)
        wait_until_shown(editor, "PreviewImage", 1)


@pytest.mark.skipif(absent() is not None, reason=str(absent()))
@MODES
def test_a_face_swap_shows_its_verdict_in_the_node(reactor, vue):
    pictures = [painted((2, 100, 100, 400)), painted((4, 190, 190 + vue, 260))]
    names = [reactor.upload(f"editor_swap_{i}_{vue}.png", pixels) for i, pixels in enumerate(pictures)]
    with browser.editor(reactor.url, vue) as editor:
        editor.js(SWAP, [*names, SWAPPER])
        editor.run()
        assert not editor.errors() and not editor.missing_types()
        wait_until_shown(editor, "LikenessFaceSwap", 1)
        wait_until_shown(editor, "PreviewImage", 1)
