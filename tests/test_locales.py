"""The translations: every table is whole and of today, the files that ComfyUI serves are made from it, and the editor shows them."""

import json
import re

import pytest

from tests.browser import editor as browser
from tests.browser import locales
from tests.conftest import ROOT

LANGUAGES = sorted(path.stem for path in locales.FOLDER.glob("*.json"))
# What the English names as a thing to type or to look for: fields, file names, values of lists, numbers.
FIELDS = re.compile(r"\{[^{}]*\}")
QUOTED = re.compile(r"`[^`]*`")


def table(language: str) -> dict:
    return browser.read(locales.FOLDER / f"{language}.json")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_table_has_names_and_texts_and_nothing_empty(language):
    translated = table(language)
    assert set(translated) == {"names", "texts"}
    for english, translation in (translated["names"] | translated["texts"]).items():
        assert translation.strip() == translation != "" and "\n" not in translation, english


@pytest.mark.parametrize("language", LANGUAGES)
def test_fields_and_quoted_values_are_kept(language):
    """Names of fields are looked for in the text, and what stands between backticks is typed as it is."""
    names = table(language)["names"]
    for english, translation in table(language)["texts"].items():
        assert sorted(FIELDS.findall(translation)) == sorted(FIELDS.findall(english)), english
        # What is quoted is typed as it is, but for the names of inputs and outputs, which are translated themselves.
        named = {quoted for quoted in QUOTED.findall(english) if names.get(quoted.strip("`"), "`") in translation}
        assert set(QUOTED.findall(english)) - named <= set(QUOTED.findall(translation)) <= set(QUOTED.findall(english)), english


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_and_file_names_are_kept(language):
    facts = re.compile(r"\d+(?:\.\d+)?|[\w-]+\.(?:safetensors|md|txt)\b|LIKENESS_\w+|models/[\w/]*\w")
    for english, translation in table(language)["texts"].items():
        gone = [fact for fact in facts.findall(english) if fact not in translation]
        assert not gone, (english, translation)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_editor_compiles_has_no_character_of_its_syntax(language):
    """Names, labels and descriptions go through vue-i18n, where @ links, | makes a plural and braces are fields; tooltips and our own words do not."""
    files = {path.stem: browser.read(path) for path in (locales.FOLDER / language).glob("*.json")}
    compiled = [entry[part] for entry in files["nodeDefs"].values() for part in ("display_name", "description")]
    compiled += [
        slot["name"] for entry in files["nodeDefs"].values() for side in ("inputs", "outputs") for slot in entry.get(side, {}).values() if "name" in slot
    ]
    compiled += [entry["label"] for entry in files["commands"].values()]
    compiled += [text for entry in files["settings"].values() for text in entry.values()]
    compiled += [text for part, texts in files["main"].items() if part != "likeness" for text in texts.values()]
    assert [text for text in compiled if set(text) & set("@|{}")] == []


def test_chinese_is_chinese():
    """Nothing was left in English but names that have no other, and every sentence ends as one."""
    translated = table("zh")
    kept = {english for english, translation in translated["names"].items() if not re.search(r"[\u4e00-\u9fff]", translation)}
    assert kept <= {"vae", "clip", "cfg", "cfg_norm", "lora", "loras", "ipadapter", "flux_ipadapter", "webhook", "flux", "Likeness"}, kept
    for english, translation in translated["texts"].items():
        if english.endswith("."):
            assert translation.endswith("。"), english
        assert not re.search(r"[\u4e00-\u9fff][,;:.!?] ?[\u4e00-\u9fff]", translation), translation


def test_there_is_no_english_table():
    """It would be laid over the schemas, where English stands."""
    assert "en" not in LANGUAGES and not (locales.FOLDER / "en").exists()


@pytest.fixture(scope="module")
def entries(comfy):
    with browser.editor(comfy.url) as editor:
        return locales.gather(comfy, editor)


@pytest.mark.browser
@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_is_translated_and_nothing_is_stale(entries, language):
    translated = table(language)
    lacks, left = locales.missing(entries, translated), locales.stale(entries, translated)
    said = [f"lacks {place}: {english!r}" for english, place in lacks.items()] + [f"no longer used: {english!r}" for english in left]
    assert not said, f"locales/{language}.json, then `python -m tests.browser.locales`:\n" + "\n".join(said)


@pytest.mark.browser
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_files_that_are_served_are_made_from_the_table(entries, language):
    made = {name: locales.text_of(content) for name, content in locales.rendered(entries, table(language)).items()}
    there = {path.stem: path.read_text(encoding="utf-8") for path in (locales.FOLDER / language).glob("*.json")}
    assert made == there, "run `python -m tests.browser.locales`"


@pytest.mark.browser
def test_every_node_input_and_output_is_among_what_is_translated(entries, comfy):
    """Counted by the host's own list, apart from how the entries are gathered."""
    paths = {".".join(entry.path) for entry in entries}
    for name, info in comfy.get("/object_info").items():
        if not name.startswith("Likeness"):
            continue
        assert {f"nodeDefs.{name}.display_name", f"nodeDefs.{name}.description"} <= paths
        for kind in ("required", "optional"):
            for each in info["input"].get(kind, {}):
                assert {f"nodeDefs.{name}.inputs.{each}.name", f"nodeDefs.{name}.inputs.{each}.tooltip"} <= paths, (name, each)
        for i in range(len(info["output"])):
            assert {f"nodeDefs.{name}.outputs.{i}.name", f"nodeDefs.{name}.outputs.{i}.tooltip"} <= paths, (name, i)


@pytest.mark.browser
def test_what_the_host_serves_is_ours(comfy):
    served = comfy.get("/i18n")
    for language in LANGUAGES:
        for path in (locales.FOLDER / language).glob("*.json"):
            content = browser.read(path)
            found = served[language] if path.stem == "main" else served[language][path.stem]
            assert content.items() <= {key: found.get(key) for key in content}.items()


@pytest.mark.browser
@pytest.mark.parametrize("vue", [False, True], ids=["classic", "Nodes 2.0"])
def test_the_editor_in_chinese_shows_chinese(comfy, vue):
    wanted = browser.read(locales.FOLDER / "zh" / "nodeDefs.json")
    with browser.editor(comfy.url, vue=vue) as editor:
        editor.setting("Comfy.Locale", "zh")
        try:
            editor.page.wait_for_timeout(500)
            editor.page.reload()
            editor.page.wait_for_function("window.app?.graph && window.app.extensionManager && 'LikenessIdentityGate' in LiteGraph.registered_node_types")
            editor.page.wait_for_timeout(1500)
            shown = editor.js(
                """() => Object.fromEntries(Object.entries(LiteGraph.registered_node_types).filter(([type]) => type.startsWith('Likeness')).map(([type, made]) => {
                    const node = LiteGraph.createNode(type)
                    app.graph.add(node)
                    const slots = { title: node.title, category: made.category }
                    slots.inputs = Object.fromEntries(node.inputs.map(i => [i.name, i.label ?? i.localized_name]))
                    slots.widgets = Object.fromEntries((node.widgets ?? []).map(w => [w.name, w.label]))
                    slots.outputs = node.outputs.map(o => o.localized_name)
                    return [type, slots]
                }))"""
            )
            assert set(shown) == set(wanted)
            for type_, node in shown.items():
                expected = wanted[type_]
                assert node["title"] == expected["display_name"]
                assert node["outputs"] == [expected["outputs"][str(i)]["name"] for i in range(len(expected.get("outputs", {})))], type_
                for name, label in (node["inputs"] | node["widgets"]).items():
                    slot = expected["inputs"].get(locales.key(name))
                    if slot and "name" in slot:
                        assert label == slot["name"], (type_, name)
            assert shown["LikenessIdentityGate"]["category"].startswith("likeness 角色一致性/")
            settings = editor.js("() => app.extensionManager.command.commands.filter(c => c.id.startsWith('Likeness')).map(c => c.id)")
            assert {"Likeness.OpenGuide", "Likeness.ShowMissingModels"} <= set(settings)
            assert [problem for problem in editor.problems if "likeness" in problem.lower()] == []
        finally:
            editor.setting("Comfy.Locale", "en")
            editor.page.wait_for_timeout(500)


def test_the_tables_are_written_as_the_script_writes_them():
    for path in [*locales.FOLDER.glob("*.json"), *locales.FOLDER.glob("*/*.json")]:
        assert "\\u" not in path.read_text(encoding="utf-8"), path
        json.loads(path.read_text(encoding="utf-8"))
    assert (ROOT / "locales").is_dir()
