"""What a user meets is of one piece: tooltips, descriptions, categories, search words, help pages, and how the example workflows look."""

import io
import json
import re

import pytest
from PIL import Image

from tests.conftest import ROOT

pytestmark = pytest.mark.host

CATEGORIES = {"likeness/identity", "likeness/scene", "likeness/flux", "likeness/lora dataset"}
# Parts of another node, which nobody looks for and nobody places.
PARTS = {"LikenessFaceSwapCollector", "LikenessFaceSwapPictures"}
SECTIONS = ("## Inputs", "## Outputs", "## Common mistakes")
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
# Colours of the notes: black, as the editor's palette has it. All other nodes have none, so that they look as each user's palette wants them.
NOTE = ("#222", "#000")
GROUP = "#3f789e"


@pytest.fixture(scope="module")
def nodes(comfy):
    return {name: info for name, info in comfy.get("/object_info").items() if name.startswith("Likeness")}


def inputs_of(info: dict) -> dict[str, list]:
    """Every input with its spec, those inside Autogrow and DynamicCombo included."""
    found = {}
    for kind in ("required", "optional"):
        for name, spec in info["input"].get(kind, {}).items():
            found[name] = spec
            inner = [spec[1]["template"]["input"]] if "template" in spec[1] else [option["inputs"] for option in _dynamic(spec)]
            for inputs in inner:
                for group in inputs.values():
                    found |= {f"{name}.{each}": its for each, its in group.items()}
    return found


def _dynamic(spec: list) -> list[dict]:
    return spec[1]["options"] if spec[0] == "COMFY_DYNAMICCOMBO_V3" else []


def page(name: str) -> str:
    """The help page of a node, nothing where there is none."""
    path = ROOT / "js" / "docs" / f"{name}.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def test_every_input_and_output_has_a_tooltip_of_whole_sentences(nodes):
    wrong = []
    for name, info in nodes.items():
        said = {each: spec[1].get("tooltip") for each, spec in inputs_of(info).items()}
        said |= {f"-> {each}": tooltip for each, tooltip in zip(info["output_name"], info["output_tooltips"], strict=True)}
        said |= {"description": info["description"]}
        wrong += [
            (name, each, tooltip) for each, tooltip in said.items() if not tooltip or not tooltip.endswith(".") or tooltip != tooltip.strip() or "  " in tooltip
        ]
    assert wrong == []


def test_nodes_stand_in_the_four_rooms_under_names_of_their_own(nodes):
    assert {info["category"] for info in nodes.values()} == CATEGORIES
    shown = [info["display_name"] for info in nodes.values()]
    assert len(shown) == len(set(shown))


def test_every_node_is_found_by_the_name_of_the_pack_and_by_words_of_the_field(nodes):
    for name, info in nodes.items():
        words = info.get("search_aliases") or []
        if name in PARTS:
            assert words == []
            continue
        assert "likeness" in words and len(words) >= 5, name
        assert len({word.lower() for word in words}) == len(words), name


def test_every_help_page_has_title_graph_inputs_outputs_and_common_mistakes(nodes):
    wrong = []
    for name, info in nodes.items():
        text = page(name)
        if not text.startswith(f"# {info['display_name']}\n"):
            wrong.append(f"{name}.md does not begin with # {info['display_name']}")
        if name in PARTS:
            continue
        headings = re.findall(r"^## .*", text, re.MULTILINE)
        if [heading for heading in headings if heading in SECTIONS] != list(SECTIONS):
            wrong.append(f"{name}.md has not {', '.join(SECTIONS)} in this order")
        graph = text.split("## Inputs")[0].split("```")
        if not (len(graph) == 3 and "─" in graph[1] and info["display_name"] in graph[1]):
            wrong.append(f"{name}.md does not draw the smallest graph before its inputs")
    assert not wrong, "\n".join(wrong)


def test_every_help_page_names_each_input_and_output(nodes):
    gone = []
    for name, info in nodes.items():
        if name in PARTS:
            continue
        text = page(name)
        names = [*(each.rsplit(".", 1)[-1] for each in inputs_of(info)), *info["output_name"]]
        gone += [(name, each) for each in names if not re.search(rf"\b{re.escape(each)}", text) and each.replace("_", " ") not in text]
    assert not gone, "\n".join(f"{name}.md says nothing of {each}" for name, each in gone)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_begins_with_a_note_and_leaves_colours_to_the_user(path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    first = min(workflow["nodes"], key=lambda node: node["pos"][0])
    assert first["type"] == "MarkdownNote"
    for node in workflow["nodes"]:
        colours = (node.get("color"), node.get("bgcolor"))
        assert colours == (NOTE if "Note" in node["type"] else (None, None)), node["type"]
    assert {group.get("color", GROUP) for group in workflow.get("groups", [])} <= {GROUP}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_a_thumbnail_that_a_browser_shows_and_links_that_the_editor_understands(path):
    with Image.open(io.BytesIO(path.with_suffix(".jpg").read_bytes())) as image:
        assert image.format == "JPEG" and 600 <= max(image.size) <= 1500
    for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        for model in node["properties"].get("models", []):
            assert set(model) >= {"name", "url", "directory"}
            # Other hosts and other kinds of files the editor does not offer to download.
            assert re.fullmatch(r"https://(huggingface\.co|civitai\.com)/\S+", model["url"])
            assert re.search(r"\.(safetensors|sft|ckpt|pth|pt)$", model["name"])
