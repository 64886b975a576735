"""Installed, used, uninstalled and installed again: what is left in the host, and what a saved workflow is then."""

import json

import numpy as np
import pytest

from tests.browser import editor as browser
from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy
from tests.tiny.drawn_faces import MIRA, portrait

pytestmark = [pytest.mark.browser, pytest.mark.dlib]

PACK = "ComfyUI-Likeness"
# What is there for another reason: what the host writes itself, the pictures that were uploaded, and previews, which the host clears when it starts.
OTHERS = ("host.log", "input/", "temp/", "user/comfyui", "custom_nodes/")


def left_in(base) -> set[str]:
    """The files and folders of a host, without OTHERS."""
    return {path for path in (each.relative_to(base).as_posix() for each in base.rglob("*")) if not path.startswith(OTHERS)} - {"input", "temp", "custom_nodes"}


def uninstalled(base):
    """The same host without the pack: another one lies in custom_nodes."""
    (base / "custom_nodes" / PACK).unlink()
    return Comfy(comfyui_root(), ROOT / "tests" / "tiny" / "looks_host", base)


def ours(host) -> list[str]:
    """Nodes, templates, translations and folders of models that a host has of this pack."""
    nodes = [name for name in host.get("/object_info") if name.startswith("Likeness")]
    templates = [name for names in host.get("/workflow_templates").values() for name in names if name == "Identity gate"]
    words = [language for language, content in host.get("/i18n").items() if "Likeness" in json.dumps(content)]
    folders = [folder["name"] for folder in host.get("/experiment/models") if "likeness" in folder["name"]]
    return [*nodes, *templates, *words, *folders]


def test_uninstalling_leaves_nothing_and_installing_again_brings_a_saved_workflow_back(tmp_path):
    host = Comfy(comfyui_root(), ROOT, tmp_path)
    try:
        host.upload("example.png", np.ascontiguousarray(portrait(MIRA)))
        assert "LikenessIdentityGate" in ours(host) and "Identity gate" in ours(host) and "zh" in ours(host)
        with browser.editor(host.url) as editor:
            editor.load(browser.read(ROOT / "example_workflows" / "Identity gate.json"))
            editor.run()
            editor.page.locator(".likeness-panel").wait_for(timeout=60_000)
            saved, prompt = editor.workflow(), editor.prompt()
    finally:
        host.stop()
    used = left_in(tmp_path)

    host = uninstalled(tmp_path)
    try:
        assert ours(host) == []
        with browser.editor(host.url) as editor:
            editor.load(saved)
            assert set(editor.missing_types()) == {node["type"] for node in saved["nodes"] if node["type"].startswith("Likeness")}
            assert [name for name in editor.js("() => app.extensions.map(each => each.name)") if "Likeness" in name] == []
            assert [problem for problem in editor.problems if "/extensions/" in problem and "likeness" in problem.lower()] == []
    finally:
        host.stop()
    assert not [path for path in used if "likeness" in path.lower()], used
    settings = json.loads((tmp_path / "user" / "default" / "comfy.settings.json").read_text(encoding="utf-8"))
    assert not [name for name in settings if name.startswith("Likeness")], settings

    (tmp_path / "custom_nodes" / PACK).unlink()
    host = Comfy(comfyui_root(), ROOT, tmp_path)
    try:
        with browser.editor(host.url) as editor:
            editor.load(saved)
            assert editor.missing_types() == [] and editor.prompt() == prompt
    finally:
        host.stop()
