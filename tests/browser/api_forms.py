"""Write every example workflow in API form, as the real editor makes it: `python -m tests.browser.api_forms [NAME...]`.

Needs a ComfyUI, Playwright and Chromium (CONTRIBUTING.md). Writes example_workflows/api/NAME.json, what POST /prompt takes as `prompt`, and what
`likeness run` knows of it besides into example_workflows/api/fields.json: README.md's sentence, which inputs the options fill, the LoRA that is bypassed
in the workflow, and where its model files are downloaded. `--fields` writes fields.json alone, and needs none of that.
"""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.browser import editor as browser
from tests.conftest import ROOT, comfyui_root, make_package_importable

FOLDER = ROOT / "example_workflows"
FORMS = FOLDER / "api"
FIELDS = FORMS / "fields.json"
BYPASSED = 4
LORA = "LikenessLora"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def workflow_of(name: str) -> dict:
    return browser.read(FOLDER / f"{name}.json")


def what(name: str) -> str:
    """What a workflow does, as README.md's table of workflows says it."""
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) == 2 and cells[0] == name:
            return cells[1]
    raise ValueError(f"README.md's table of workflows has no row for {name}; write one.")


def models(workflow: dict) -> list[dict]:
    """The files that its nodes name, as {name, url, directory}, each once."""
    found = {model["name"]: model for node in workflow["nodes"] for model in node.get("properties", {}).get("models", ())}
    return [{key: model[key] for key in ("name", "url", "directory")} for model in found.values()]


def difference(without: dict, with_it: dict) -> dict:
    """What switching nodes on adds to a prompt: the nodes, and the links that lead to them, as {"7.model": ["4", 0]}."""
    nodes = {id_: node for id_, node in with_it.items() if id_ not in without}
    links = {}
    for id_ in without:
        for name, value in with_it[id_]["inputs"].items():
            if without[id_]["inputs"].get(name) != value:
                links[f"{id_}.{name}"] = value
    return {"nodes": nodes, "links": links}


def described(name: str, prompt: dict, lora: dict | None) -> dict:
    """The entry of fields.json."""
    from character_likeness.nodes import api_forms

    filled = api_forms.fields_of(api_forms.with_lora(prompt, lora) if lora else prompt)
    fields = {option: list(slots) for option, slots in asdict(filled).items() if slots}
    return {"what": what(name), "fields": fields, "models": models(workflow_of(name))} | ({"lora": lora} if lora else {})


def taken(editor: browser.Editor, workflow: dict) -> tuple[dict, dict | None]:
    """(the prompt, what switching on its bypassed LoRA adds to it or None)."""
    editor.load(workflow)
    prompt = editor.prompt()
    bypassed = [node["id"] for node in workflow["nodes"] if node["type"] == LORA and node["mode"] == BYPASSED]
    if not bypassed:
        return prompt, None
    editor.js("ids => ids.forEach(id => { app.graph.getNodeById(id).mode = 0 })", bypassed)
    return prompt, difference(prompt, editor.prompt())


def write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_forms(chosen: list[str]) -> dict[str, dict | None]:
    """Have the editor write these API forms; gives the bypassed LoRA of each."""
    from tests.host.comfy import Comfy
    from tests.tiny import flux_models, qwen_models

    loras = {}
    with tempfile.TemporaryDirectory() as folder:
        # The files that the workflows name must be there, else the editor complains of them.
        qwen_models.write_all(Path(folder) / "models")
        flux_models.write_all(Path(folder) / "models")
        comfy = Comfy(comfyui_root(), ROOT, Path(folder), extra=(ROOT / "tests" / "tiny" / "qwen_host",))
        try:
            for name in chosen:
                # A new page for each: the editor keeps widget values of a cleared graph for the nodes that get the same numbers.
                with browser.editor(comfy.url) as editor:
                    prompt, loras[name] = taken(editor, workflow_of(name))
                write(FORMS / f"{name}.json", prompt)
                print(FORMS / f"{name}.json")
        finally:
            comfy.stop()
    return loras


def main(arguments: list[str]) -> None:
    make_package_importable()
    # Said before the editor is started.
    for name in names():
        what(name)
    FORMS.mkdir(exist_ok=True)
    known = browser.read(FIELDS) if FIELDS.exists() else {}
    loras = {name: entry.get("lora") for name, entry in known.items()}
    if arguments != ["--fields"]:
        loras |= write_forms(arguments or names())
    for path in FORMS.glob("*.json"):
        if path != FIELDS and path.stem not in names():
            path.unlink()
    write(FIELDS, {name: described(name, browser.read(FORMS / f"{name}.json"), loras.get(name)) for name in names() if (FORMS / f"{name}.json").exists()})


if __name__ == "__main__":
    main(sys.argv[1:])
