"""The real editor in Chromium, driven by Playwright: workflows loaded, run, changed and looked at as a person does."""

import json
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SIZE = {"width": 1600, "height": 1000}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
READY_MS = 60_000


def chromium() -> str | None:
    """The browser to use, None where there is none."""
    return CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium")


@contextmanager
def editor(url: str, vue: bool = False):
    """An Editor on the host at `url`; vue: Nodes 2.0 instead of classic rendering."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            page = browser.new_page(viewport=SIZE)
            yield Editor(page, url, vue)
        finally:
            browser.close()


class Editor:
    def __init__(self, page, url: str, vue: bool):
        self.page = page
        self.problems: list[str] = []
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.goto(url)
        page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=READY_MS)
        self.setting("Comfy.TutorialCompleted", True)
        self.setting("Comfy.VueNodes.Enabled", vue)
        self.setting("Comfy.Graph.CanvasInfo", False)
        page.reload()
        page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=READY_MS)
        page.wait_for_timeout(1500)
        page.keyboard.press("Escape")

    def setting(self, name: str, value) -> None:
        self.page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])

    def js(self, expression: str, argument=None):
        return self.page.evaluate(expression, argument)

    def load(self, workflow: dict) -> None:
        self.js("workflow => app.loadGraphData(workflow)", workflow)
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(workflow["nodes"]), timeout=READY_MS)
        self.page.wait_for_timeout(500)

    def prompt(self) -> dict:
        """The prompt in API form that Run would send now."""
        return self.js("async () => (await app.graphToPrompt()).output")

    def workflow(self) -> dict:
        return self.js("() => app.graph.serialize()")

    def set_widget(self, node_type: str, index: int, widget: str, value) -> None:
        """Set a widget of the index-th node of a type, in the order of their ids."""
        self.js(
            """([type, index, name, value]) => {
                const node = app.graph.nodes.filter(n => n.type === type).sort((a, b) => a.id - b.id)[index]
                const widget = node.widgets.find(w => w.name === name)
                widget.value = value
                widget.callback?.(value)
            }""",
            [node_type, index, widget, value],
        )

    def mode(self, node_type: str, mode: int) -> None:
        """0 always, 2 muted, 4 bypassed, for every node of a type."""
        self.js("([type, mode]) => app.graph.nodes.filter(n => n.type === type).forEach(n => { n.mode = mode })", [node_type, mode])

    def run(self, timeout_ms: int = 120_000) -> None:
        """Press Run and wait until the queue is empty again."""
        self.js("async () => { await app.queuePrompt(0, 1) }")
        # Playwright's wait_for_function takes the promise of an async function for its answer, so this asks itself.
        end = time.monotonic() + timeout_ms / 1000
        while self.js("async () => { const q = await (await fetch('/queue')).json(); return q.queue_running.length + q.queue_pending.length }"):
            assert time.monotonic() < end, f"The run did not end within {timeout_ms} ms."
            self.page.wait_for_timeout(100)
        self.page.wait_for_timeout(1500)

    def missing_types(self) -> list[str]:
        """Node types of the graph that the editor does not know: those it draws red."""
        return self.js("() => app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]).map(n => n.type)")

    def errors(self) -> list:
        return self.js("() => app.lastNodeErrors ? Object.values(app.lastNodeErrors) : []")

    def screenshot(self, path: Path, clip: dict | None = None) -> None:
        self.page.screenshot(path=str(path), clip=clip)

    def fit(self) -> None:
        """Show the whole graph."""
        self.js("() => { app.canvas.fitViewToSelectionAnimated ? app.extensionManager.command.execute('Comfy.Canvas.FitView') : null }")
        self.page.wait_for_timeout(900)

    def graph_box(self, margin: int = 24) -> dict:
        """Where the nodes of the graph lie in the window, as a clip for a screenshot."""
        left, top, right, bottom = self.js(
            """() => {
                const { scale, offset } = app.canvas.ds, area = app.canvas.canvas.getBoundingClientRect()
                const boxes = app.graph.nodes.map(n => n.getBounding())
                const at = (x, y) => [(x + offset[0]) * scale + area.left, (y + offset[1]) * scale + area.top]
                return [...at(Math.min(...boxes.map(b => b[0])), Math.min(...boxes.map(b => b[1]))),
                        ...at(Math.max(...boxes.map(b => b[0] + b[2])), Math.max(...boxes.map(b => b[1] + b[3])))]
            }"""
        )
        return {"x": left - margin, "y": top - margin, "width": right - left + 2 * margin, "height": bottom - top + 2 * margin}


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
