"""Make locales/<language>/*.json, which ComfyUI serves to the editor, from the table locales/<language>.json: `python -m tests.browser.locales`.

The table is what a translator writes: {"names": {English: translation}, "texts": {English: translation}}; names are what stands on a node or a button,
texts are descriptions, tooltips and sentences. The English comes from the nodes, settings and commands as a running editor has them, and from what the
scripts say. Needs a ComfyUI, Playwright and Chromium (CONTRIBUTING.md). Prints what a table lacks and what in it is used no more; ends with 1 then.
A further language is one more table.
"""

import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.browser import editor as browser
from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy

FOLDER = ROOT / "locales"
NAMES, TEXTS = "names", "texts"
# As the scripts say it: say("key", "English"). A sentence that the server writes itself has its English here.
SAID = re.compile(r'\bsay\(\s*"(\w+)",\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
SERVER_SAYS = {
    "refused": "Downloads are off in multi-user mode; whoever runs this ComfyUI can fetch the model in a terminal, or start it with LIKENESS_ALLOW_DOWNLOADS=1."
}
IN_EDITOR = """() => app.extensions.filter(each => each.name.startsWith('Likeness')).map(each => ({
    settings: (each.settings ?? []).map(({ id, name, tooltip, category }) => ({ id, name, tooltip, category: category ?? [] })),
    commands: (each.commands ?? []).map(({ id, label }) => ({ id, label })),
    menus: (each.menuCommands ?? []).flatMap(({ path }) => path),
}))"""


@dataclass(frozen=True)
class Entry:
    """One text of the editor: the file and keys under which it is looked up, and its English."""

    path: tuple[str, ...]
    kind: str
    english: str


def key(name: str) -> str:
    """A name as the editor looks it up (normalizeI18nKey of its formatUtil.ts)."""
    return name.replace(".", "_")


def entries_of(nodes: dict, extensions: list[dict], scripts: list[str]) -> list[Entry]:
    """Everything that can be translated. nodes: of the host's /object_info, ours alone; extensions: as IN_EDITOR gives them; scripts: sources."""
    found = []
    for node, info in nodes.items():
        at = ("nodeDefs", node)
        found += [Entry((*at, "display_name"), NAMES, info["display_name"]), Entry((*at, "description"), TEXTS, info["description"])]
        found += [Entry(("main", "nodeCategories", part), NAMES, part) for part in info["category"].split("/")]
        for kind in ("required", "optional"):
            for name, spec in info["input"].get(kind, {}).items():
                found += _input(at, name, spec)
        for i, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"])):
            found += [Entry((*at, "outputs", str(i), "name"), NAMES, name), Entry((*at, "outputs", str(i), "tooltip"), TEXTS, tooltip)]
    for extension in extensions:
        for setting in extension["settings"]:
            at = ("settings", key(setting["id"]))
            found += [Entry((*at, "name"), NAMES, setting["name"]), Entry((*at, "tooltip"), TEXTS, setting["tooltip"])]
            # The last of a category is the setting itself, which is not shown.
            found += [Entry(("main", "settingsCategories", key(part)), NAMES, part) for part in setting["category"][:-1]]
        for command in extension["commands"]:
            found.append(Entry(("commands", key(command["id"]), "label"), NAMES, command["label"]))
            found.append(Entry(("main", "menuLabels", key(command["label"])), NAMES, command["label"]))
        found += [Entry(("main", "menuLabels", key(part)), NAMES, part) for part in extension["menus"]]
    said = {word: english.replace('\\"', '"') for script in scripts for word, english in SAID.findall(script)} | SERVER_SAYS
    found += [Entry(("main", "likeness", word), TEXTS, english) for word, english in said.items()]
    return [entry for entry in found if entry.english]


def _input(at: tuple[str, ...], name: str, spec: list) -> list[Entry]:
    kind, options = spec
    shown, tooltip = options.get("display_name") or name, options.get("tooltip")
    found = [*_named(at, name, shown, tooltip)]
    if kind == "COMFY_AUTOGROW_V3":
        template = options["template"]
        (inner,) = (inputs for inputs in template["input"].values() if inputs)
        ((_, (_, inner_options)),) = inner.items()
        for i in range(template["max"]):
            # The name of such a socket the editor takes from the schema in every language.
            found.append(Entry((*at, "inputs", key(f"{name}.{template['prefix']}{i}"), "tooltip"), TEXTS, inner_options.get("tooltip", "")))
    elif kind == "COMFY_DYNAMICCOMBO_V3":
        for option in options["options"]:
            for inputs in option["inputs"].values():
                for inner, (_, inner_options) in inputs.items():
                    found += _named(at, f"{name}.{inner}", inner, inner_options.get("tooltip"))
    if options.get("control_after_generate"):
        found.append(Entry((*at, "inputs", "control_after_generate", "name"), NAMES, "control after generate"))
    return found


def _named(at: tuple[str, ...], name: str, shown: str, tooltip: str | None) -> list[Entry]:
    at = (*at, "inputs", key(name))
    return [Entry((*at, "name"), NAMES, shown), Entry((*at, "tooltip"), TEXTS, tooltip or "")]


def rendered(entries: list[Entry], table: dict) -> dict[str, dict]:
    """The contents of nodeDefs, settings, commands and main, by file name without extension; what the table lacks is left out."""
    files: dict[str, dict] = {}
    for entry in entries:
        translation = table[entry.kind].get(entry.english)
        if translation is None:
            continue
        at = files.setdefault(entry.path[0], {})
        for part in entry.path[1:-1]:
            at = at.setdefault(part, {})
        at[entry.path[-1]] = translation
    return files


def missing(entries: list[Entry], table: dict) -> dict[str, str]:
    """The English that the table lacks, with the first place where it stands."""
    places: dict[str, str] = {}
    for entry in entries:
        if entry.english not in table[entry.kind]:
            places.setdefault(entry.english, ".".join(entry.path))
    return places


def stale(entries: list[Entry], table: dict) -> list[str]:
    """The English of the table that stands nowhere any more."""
    used = {(entry.kind, entry.english) for entry in entries}
    return [english for kind in (NAMES, TEXTS) for english in table[kind] if (kind, english) not in used]


def gather(comfy: Comfy, editor: browser.Editor) -> list[Entry]:
    nodes = {name: info for name, info in comfy.get("/object_info").items() if name.startswith("Likeness")}
    scripts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "js").glob("*.js"))]
    return entries_of(nodes, editor.js(IN_EDITOR), scripts)


def text_of(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        comfy = Comfy(comfyui_root(), ROOT, Path(folder))
        try:
            with browser.editor(comfy.url) as editor:
                entries = gather(comfy, editor)
        finally:
            comfy.stop()
    faults = 0
    for path in sorted(FOLDER.glob("*.json")):
        table = browser.read(path)
        for english, place in missing(entries, table).items():
            faults += 1
            print(f"{path.name} lacks {place}: {json.dumps(english, ensure_ascii=False)}")
        for english in stale(entries, table):
            faults += 1
            print(f"{path.name} has what is used no more: {json.dumps(english, ensure_ascii=False)}")
        (FOLDER / path.stem).mkdir(exist_ok=True)
        for name, content in rendered(entries, table).items():
            target = FOLDER / path.stem / f"{name}.json"
            target.write_text(text_of(content), encoding="utf-8")
            print(target.relative_to(ROOT))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
