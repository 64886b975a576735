"""What the editor extension costs in a real browser: `python -m tests.bench.editor`.

Run it with the host's Python (CONTRIBUTING.md). It prints, and asserts nothing: the time that compiling and running our scripts takes of the
editor's start, by Chromium's own trace and profiler, and what a panel with 500 pictures costs, in both ways of drawing nodes. Frame times are those of requestAnimationFrame while something happens; without a GPU the browser draws in software, so
they are upper bounds.
"""

import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.browser import editor as browser
from tests.browser.test_panel import GATE, MANY, PANEL, SEND, TILE, look_at
from tests.conftest import ROOT, comfyui_root, make_package_importable
from tests.host.comfy import Comfy

STARTS = 7
# So few that a frame is the editor's own work.
FEW = 3
FOLDER = "/extensions/ComfyUI-Likeness/"
# How often the profiler looks at what runs, in microseconds.
INTERVAL = 100
FETCHED = f"""() => performance.getEntriesByType('resource').filter(one => one.name.includes('{FOLDER}') && one.name.endsWith('.js'))
    .map(one => ({{ duration: one.duration, size: one.decodedBodySize }}))"""
# The frames of a second and a half in which `act` is called for each of them.
FRAMES = """async act => {
    const step = eval(act), times = []
    let last = performance.now()
    await new Promise(done => {
        const frame = i => {
            const now = performance.now()
            times.push(now - last)
            last = now
            step(i)
            if (i < 90) requestAnimationFrame(() => frame(i + 1))
            else done()
        }
        requestAnimationFrame(() => frame(0))
    })
    return times.slice(1)
}"""
SCROLL = f"i => {{ const grid = document.querySelector('{PANEL} .grid'); grid.scrollTop = (grid.scrollHeight - grid.clientHeight) * i / 90 }}"
DRAG = f"""i => {{
    const plot = document.querySelector('{PANEL} .plot'), box = plot.getBoundingClientRect()
    const x = box.left + box.width * (0.1 + 0.8 * i / 90), y = box.top + box.height / 2
    if (i === 0) plot.setPointerCapture = () => {{}}, plot.hasPointerCapture = () => true
    plot.dispatchEvent(new PointerEvent(i ? 'pointermove' : 'pointerdown', {{ clientX: x, clientY: y, bubbles: true }}))
}}"""


def say(what: str, times: list[float]) -> None:
    print(f"{what}: median {statistics.median(times):.1f} ms, 95% within {np.percentile(times, 95):.1f} ms, longest {max(times):.1f} ms")


def ours(profile: dict) -> float:
    """Milliseconds of a profile with a function of ours running or waiting for what it called: modules as they run, and every hook."""
    nodes = {node["id"]: node for node in profile["nodes"]}
    above = {child: node["id"] for node in profile["nodes"] for child in node.get("children", ())}

    def is_ours(node: int | None) -> bool:
        while node is not None:
            if FOLDER in nodes[node]["callFrame"]["url"]:
                return True
            node = above.get(node)
        return False

    known = {node: is_ours(node) for node in nodes}
    return sum(took for node, took in zip(profile["samples"], profile["timeDeltas"]) if known[node]) / 1000


def start(url: str) -> None:
    ran, compiled = [], []
    with browser.editor(url) as editor:
        session, tracer = editor.page.context.new_cdp_session(editor.page), editor.page.context.browser
        session.send("Profiler.enable")
        session.send("Profiler.setSamplingInterval", {"interval": INTERVAL})

        def reload() -> None:
            editor.page.reload()
            editor.page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=browser.READY_MS)
            editor.page.wait_for_timeout(1500)

        for _ in range(STARTS):
            session.send("Profiler.start")
            reload()
            ran.append(ours(session.send("Profiler.stop")["profile"]))
            tracer.start_tracing(page=editor.page, categories=["devtools.timeline", "disabled-by-default-devtools.timeline", "v8"])
            reload()
            events = json.loads(tracer.stop_tracing())["traceEvents"]
            compiled.append(sum(one.get("dur", 0) for one in events if "compile" in one.get("name", "") and FOLDER in json.dumps(one.get("args", {}))) / 1000)
        fetched = editor.js(FETCHED)
    kib = sum(one["size"] for one in fetched) / 1024
    print(f"start: {len(fetched)} files, {kib:.0f} KiB, fetched side by side, the slowest in {max(one['duration'] for one in fetched):.0f} ms")
    say("start: compiling them", compiled)
    say("start: running them, hooks included (wanted under 30 ms)", ran)


def panel(url: str, vue: bool) -> None:
    mode = "Nodes 2.0" if vue else "classic"
    with browser.editor(url, vue=vue) as editor:
        dragged = {}
        for count in (FEW, MANY):
            editor.load(browser.read(ROOT / "example_workflows" / "Identity gate.json"))
            took = editor.js(f"count => {{ const start = performance.now(); ({SEND})(count); return performance.now() - start }}", count)
            look_at(editor, GATE)
            editor.page.wait_for_timeout(1500)
            if count == MANY:
                shown = editor.js(f"() => [...document.querySelectorAll('{TILE} img')].filter(image => image.naturalWidth).length")
                size = editor.js(f"() => document.querySelectorAll('{PANEL} *').length")
                print(f"{mode}: {count} pictures are there after {took:.0f} ms, {size} elements, {shown} thumbnails fetched")
                say(f"{mode}: a frame while scrolling through {count} pictures", editor.js(FRAMES, SCROLL))
            dragged[count] = editor.js(FRAMES, DRAG)
            say(f"{mode}: a frame while dragging the line, {count} pictures", dragged[count])
        ratio = statistics.median(dragged[MANY]) / statistics.median(dragged[FEW])
        print(f"{mode}: a frame of dragging with {MANY} pictures over one with {FEW}, the rest being the editor's own drawing: {ratio:.2f}")


def value() -> None:
    """How large what the panel is told is."""
    make_package_importable()
    from character_likeness.nodes.identity.panel import panel as told
    from character_likeness.nodes.identity.scoring import Rules, judge, match_rate
    from character_likeness.nodes.pictures import Picture
    from tests.test_scoring import HER, seen

    scores = np.random.default_rng(1).uniform(0.1, 0.9, MANY)
    pictures = [Picture(np.full((2, 2, 3), i % 256, np.uint8)) for i in range(MANY)]
    measured = [seen(float(score)) for score in scores]
    rules = Rules(0.5, "standard")
    one = told(pictures, judge(measured, HER, rules), HER, rules, match_rate(measured, HER), [f"likeness_{picture.key.hex()}.jpg" for picture in pictures])
    print(f"value: {len(json.dumps(one)) / 1024:.0f} KiB of JSON for {MANY} pictures of one face each")


def main() -> None:
    make_package_importable()
    value()
    with tempfile.TemporaryDirectory() as folder:
        host = Comfy(comfyui_root(), ROOT, Path(folder))
        try:
            random = np.random.default_rng(3)
            for i in range(MANY):
                picture = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8)).resize((192, 192))
                picture.save(host.base / "temp" / f"likeness_many_{i}.jpg")
            start(host.url)
            for vue in (False, True):
                panel(host.url, vue)
        finally:
            host.stop()


if __name__ == "__main__":
    main()
