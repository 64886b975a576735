"""The help pages in the real editor: the graph that each draws can be made, and its picture is shown."""

import pytest

from tests.browser import editor as browser
from tests.browser.help_graphs import PAGES, picture_file
from tests.browser.help_pictures import build

pytestmark = pytest.mark.browser

# What the editor has wired, by the titles of the nodes and the names of their sockets.
WIRED = """() => [...app.graph.links.values()].map(link => {
    const from = app.graph.getNodeById(link.origin_id), to = app.graph.getNodeById(link.target_id)
    return [from.title, from.outputs[link.origin_slot].name, to.title, to.inputs[link.target_slot].name]
})"""
# The picture of the page that is open, once it is there; empty while it is not.
SHOWN = """wanted => {
    const image = document.querySelector('.node-help-content img')
    return image?.src.endsWith(`/docs/${wanted}`) && image.complete && image.naturalWidth ? [image.naturalWidth, image.alt, image.getBoundingClientRect().width] : null
}"""


@pytest.fixture(scope="module")
def editor(comfy):
    with browser.editor(comfy.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def offered(comfy):
    return comfy.get("/object_info")


def test_the_editor_makes_every_graph_that_a_page_draws_and_no_link_of_it_goes_elsewhere(editor, offered):
    for page in PAGES:
        graph = build(editor, page, offered)
        wired = editor.js(WIRED)
        assert [(link.source, link.output, link.target) for link in graph] == [tuple(each[:3]) for each in wired], page
        assert all(not link.input or name.rsplit(".", 1)[-1] == link.input for link, (*_, name) in zip(graph, wired, strict=True)), page


def test_the_help_page_of_every_node_shows_its_picture(editor):
    for page in PAGES:
        editor.js(
            """type => {
                app.graph.clear()
                const node = LiteGraph.createNode(type)
                node.pos = [200, 200]
                app.graph.add(node)
                app.canvas.selectItems([node])
            }""",
            page,
        )
        editor.page.get_by_test_id("info-button").click()
        width, alt, shown = editor.page.wait_for_function(SHOWN, arg=picture_file(page).name, timeout=20_000).json_value()
        assert 500 <= width <= 900 and len(alt) > 30, page
        # It shrinks with the panel instead of running out of it.
        assert 0 < shown <= editor.js("() => document.querySelector('.node-help-content').getBoundingClientRect().width"), page
