"""What Retake until Match and Qwen Character Scene say while they run: shot and take, last score, time left; in both ways of drawing nodes."""

import re
import time

import pytest

from tests.browser import editor as browser
from tests.browser.test_live_scene import BUILD
from tests.browser.test_takes_in_editor import RETAKE
from tests.host.qwen_graphs import drawn_picture

pytestmark = [pytest.mark.browser, pytest.mark.dlib, pytest.mark.insightface]

MODES = pytest.mark.parametrize("vue", [False, True], ids=["classic", "Nodes 2.0"])
SLOW = 0.5
MOST_SECONDS = 240
# What a person reads below a node's widgets.
SEEN = r"() => document.body.innerText.match(/(Take \d of|best of \d|Shot \d of|\d of \d pictures)[^\n]*/)?.[0] ?? ''"


def seen_while_running(editor, host, last: str) -> list[str]:
    """What is read from Run on, each text once, in order, up to the one that begins with `last`."""
    host.post("/test_faults", {"slow": SLOW})
    try:
        editor.js("async () => { await app.queuePrompt(0, 1) }")
        seen, end = [""], time.monotonic() + MOST_SECONDS
        while not seen[-1].startswith(last) and time.monotonic() < end:
            editor.page.wait_for_timeout(100)
            text = editor.js(SEEN)
            if text not in seen:
                seen.append(text)
    finally:
        host.post("/test_faults", {})
    return seen[1:]


@MODES
def test_a_retake_says_which_take_is_made_with_the_last_score_and_the_time_left(qwen, cast, vue):
    names = [qwen.upload(f"progress_{i}_{vue}.png", cast[i].pixels) for i in (0, 3)]
    with browser.editor(qwen.url, vue) as editor:
        editor.js(RETAKE, names)
        editor.set_widget("TestBySeed", 0, "good_from", 99)
        # A seed of its own: of a Take Start that the host still has, nobody knows when the take began.
        editor.set_widget("LikenessTakeStart", 0, "seed", 40 + 10 * vue)
        editor.fit()
        seen = seen_while_running(editor, qwen, "best of")
        assert not editor.errors()
    # None of the four takes passes, and each takes half a second and more.
    announced = [re.fullmatch(r"Take (\d) of 4, last score (-?0\.\d\d), at most (\d+) s left", text) for text in seen]
    takes = [(int(found[1]), float(found[2]), int(found[3])) for found in announced if found]
    assert [take for take, _, _ in takes] == [2, 3, 4], seen
    assert all(score < 0.5 and left >= round((5 - take) * SLOW) for take, score, left in takes), seen
    assert seen[-1].startswith("best of 4: take ")


SCENE = """names => {
    const scene = app.graph.nodes.find(n => n.type === 'LikenessQwenScene')
    const face = LiteGraph.createNode('LoadImage'), who = LiteGraph.createNode('LikenessBuildIdentity')
    app.graph.add(face)
    app.graph.add(who)
    face.widgets.find(w => w.name === 'image').value = names[0]
    scene.widgets.find(w => w.name === 'max_takes').value = 2
    face.connect(0, who, who.inputs.findIndex(i => i.name === 'images'))
    who.connect(who.outputs.findIndex(o => o.name === 'identity'), scene, scene.inputs.findIndex(i => i.name === 'identity'))
}"""


@MODES
def test_a_scene_says_shot_and_take_with_the_last_score_and_the_time_left(qwen, cast, vue):
    """The tiny models draw no face, so that no shot passes and each is taken twice."""
    file = qwen.upload("progress_scene.png", drawn_picture(1, 640, 480))
    face = qwen.upload(f"progress_face_{vue}.png", cast[0].pixels)
    with browser.editor(qwen.url, vue) as editor:
        editor.js(BUILD, [file, f"first of {vue}\nsecond of {vue}"])
        editor.js(SCENE, [face])
        editor.fit()
        seen = seen_while_running(editor, qwen, "2 of 2")
        assert not editor.errors()
    timed = [text for text in seen if re.search(r", about \d+ s left$", text)]
    begun = list(dict.fromkeys(re.sub(r", about \d+ s left$", "", text) for text in seen if text.startswith("Shot")))
    assert begun == ["Shot 1 of 2", "Shot 2 of 2, last: no face", "Shot 1 of 2, take 2, last: no face", "Shot 2 of 2, take 2, last: no face"], seen
    assert len(timed) >= 4 and seen[-1].startswith("2 of 2 pictures"), seen
