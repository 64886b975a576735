"""The help pages of the dataset nodes and the README hold what the code holds: rules, recipe, memory, pairs. A value that changes changes its page."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from character_likeness.nodes.framing import BODY_FRAMINGS, FRAMINGS
from character_likeness.nodes.lora_dataset import captions, export, lint, recipes, targets, webhook
from character_likeness.nodes.lora_dataset import choices as offered
from character_likeness.nodes.lora_dataset.audit import NEVER_WAIVED
from character_likeness.nodes.lora_dataset.rules import RULES, USUAL_SHARES
from character_likeness.nodes.lora_dataset.trainers import BASE_MODELS, MODES, PAIRED_EDIT, TRAINERS, pairs_table
from character_likeness.nodes.lora_dataset.trainers.known_keys import known_keys

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = [(trainer, model, mode, vram) for trainer in TRAINERS.values() for model, mode in sorted(trainer.pairs) for vram in recipes.VRAM]
# The first cell of a table of memory settings -> the pairs that it is about.
MEMORY_TABLES = {
    "ai-toolkit: Qwen, without pairs": ("ai-toolkit", "qwen", False),
    "ai-toolkit: paired edit": ("ai-toolkit", "qwen", True),
    "ai-toolkit: FLUX.1-dev": ("ai-toolkit", "flux", False),
    "musubi-tuner: Qwen, without pairs": ("musubi-tuner", "qwen", False),
    "musubi-tuner: paired edit": ("musubi-tuner", "qwen", True),
    "sd-scripts: FLUX.1-dev": ("sd-scripts", "flux", False),
}


def page(node: str) -> str:
    return (ROOT / "js" / "docs" / f"Likeness{node}.md").read_text(encoding="utf-8")


AUDIT, CAPTIONS, EXPORT = page("DatasetAudit"), page("Captions"), page("DatasetExport")


def named(name: str, text: str) -> bool:
    return f"`{name}`" in text


def tables(text: str, head: str) -> list[list[list[str]]]:
    """The rows of cells of each table whose head begins so, the head being the first row."""
    found, table = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            table = None
        elif table is None:
            found.append(table := [_cells(line)])
        elif not line.startswith("|---"):
            table.append(_cells(line))
    return [table for table in found if table[0][0] == head]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def rows(text: str, head: str) -> list[list[str]]:
    """The rows below the heads of all tables whose head begins so."""
    return [row for table in tables(text, head) for row in table[1:]]


# --- every page ---


def sockets(method: str) -> dict[str, list[str]]:
    """By node id, the names in the calls of `...Input("name")` or `...Output(...)` in the schemas; the import of the nodes would need a ComfyUI."""
    found = {}
    for file in sorted((ROOT / "nodes" / "lora_dataset").glob("*nodes.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Likeness"):
                calls = [call for call in ast.walk(node) if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == method]
                shown = [next((word.value for word in call.keywords if word.arg == "display_name"), call.args[0]) for call in calls]
                found[node.name] = [name.value for name in shown]
    return found


@pytest.mark.parametrize(("node", "names"), sockets("Input").items(), ids=list(sockets("Input")))
def test_every_input_of_a_node_stands_on_its_page(node, names):
    told = {name for row in rows(page(node.removeprefix("Likeness")), "input") for name in re.findall(r"`(\w+)`", row[0])}
    # A socket that grows is named with its numbers: `image0`.
    assert set(names) <= told | {name.rstrip("0123456789") for name in told}


@pytest.mark.parametrize(("node", "names"), sockets("Output").items(), ids=list(sockets("Output")))
def test_every_output_of_a_node_stands_on_its_page_in_order(node, names):
    assert [row[0] for row in rows(page(node.removeprefix("Likeness")), "output")] == names


# --- audit and captions ---


def rules_on_the_page() -> dict[str, list[str]]:
    return {name: row for row in rows(AUDIT, "rule") for name in re.findall(r"`([^`]+)`", row[0])}


def blocking_rules() -> set[str]:
    """The rules that the code names beside BLOCKED, in a call or a tuple."""
    found = set()
    for file in ("rules.py", "lint.py"):
        for node in ast.walk(ast.parse((ROOT / "nodes" / "lora_dataset" / file).read_text(encoding="utf-8"))):
            parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
            if any(isinstance(part, ast.Name) and part.id == "BLOCKED" for part in parts):
                found |= {part.value for part in parts if isinstance(part, ast.Constant)} & {*RULES, *lint.RULES}
    return found


def test_the_audits_page_has_every_rule_and_no_other_and_says_which_block_and_cannot_be_waived():
    told = rules_on_the_page()
    assert set(told) == {*RULES, *lint.RULES} and all(row[1] for row in told.values())
    assert {name for name, row in told.items() if row[0].endswith(" B")} == blocking_rules()
    assert {name for name, row in told.items() if "Cannot be waived" in row[1]} == NEVER_WAIVED


def test_the_shares_of_a_face_are_those_of_the_code():
    told = {row[0]: [int(number) for number in re.findall(r"(\d+)%", row[1])] for row in rows(AUDIT, "named")}
    assert told == {name: [round(100 * share) for share in shares if 0 < share < 1] for name, shares in USUAL_SHARES.items()}


def test_every_framing_of_a_plan_stands_on_the_audits_page():
    plan = AUDIT[AUDIT.index("\n## Plan") : AUDIT.index("\n## Waive")]
    assert all(framing in plan for framing in (*FRAMINGS, *BODY_FRAMINGS, "variety"))


def test_the_captions_page_has_the_template_its_fields_the_edits_and_the_choices():
    assert captions.DEFAULT_TEMPLATE in CAPTIONS
    assert all(f"`{{{field}}}`" in CAPTIONS for field in captions.FIELDS)
    assert all(any(row[0].startswith(f"`{verb}") for row in rows(CAPTIONS, "line")) for verb in captions.EDITS)
    assert [row[0] for row in rows(CAPTIONS, "source")] == list(captions.SOURCES)
    assert [row[0] for row in rows(CAPTIONS, "policy")] == list(captions.POLICIES)


# --- export ---


def test_every_value_of_a_recipe_stands_on_the_exports_page():
    assert all(named(field.name, EXPORT) for field in fields(recipes.Recipe) if field.name not in ("name", "reasons"))
    head, *below = tables(EXPORT, "value")[0]
    assert head[1:3] == list(recipes.PRESETS)
    for column, preset in enumerate(recipes.PRESETS.values(), 1):
        told, name = {}, ""
        for row in below:
            name = row[0].strip("`") or name
            told.setdefault(name, []).append(row[column])
        assert str(preset.rank) in told["rank"] and str(preset.alpha) in told["alpha"]
        assert preset.scheduler in told["scheduler"] and f"{preset.warmup:g}" in told["warmup"]


def test_every_learning_rate_stands_on_the_exports_page():
    assert {row[0]: float(row[1]) for row in rows(EXPORT, "`learning_rate`")} == recipes.LEARNING_RATES


@pytest.mark.parametrize("rate", recipes.LEARNING_RATES)
@pytest.mark.parametrize("preset", recipes.PRESETS)
def test_every_reason_of_a_recipe_stands_on_the_exports_page(preset, rate):
    text = " ".join(EXPORT.split())
    for trainer, model, mode, vram in SETTINGS:
        for name, reason in recipes.resolve(preset, trainer, BASE_MODELS[model], mode, vram, rate).reasons.items():
            # What begins with the value itself: that stands in another column.
            reason = reason.partition(": ")[2] if name in ("learning_rate", "model.quantize") else reason
            assert reason in text, (trainer.name, model, mode, vram, name)


def test_every_memory_setting_stands_on_the_exports_page_with_its_value():
    covered = set()
    for head, (name, family, paired) in MEMORY_TABLES.items():
        ((top, *below),) = tables(EXPORT, head)
        assert top[1:] == [f"{vram} GB" for vram in recipes.VRAM]
        told = {row[0].strip("`"): row[1:] for row in below}
        trainer = TRAINERS[name]
        pairs = [(BASE_MODELS[model], mode) for model, mode in trainer.pairs if BASE_MODELS[model].family == family and (mode == PAIRED_EDIT) == paired]
        covered |= {(name, model.name, mode) for model, mode in pairs}
        for column, vram in enumerate(recipes.VRAM):
            made = {(model, mode): trainer.memory(model, mode, vram)[0] for model, mode in pairs}
            assert {key for settings in made.values() for key in settings} == {key for key, cells in told.items() if cells[column]}
            for key, cells in told.items():
                values = {_shown(settings[key]) for settings in made.values() if key in settings}
                # `uint3 + ARA; 2512: uint4 + ARA` has two.
                assert values == set(re.findall(r"[\w.]+(?: \+ ARA)?(?!:)\b", re.sub(r"\d+:", "", cells[column]))), (head, key, vram)
    assert covered == {(trainer.name, model, mode) for trainer, model, mode, vram in SETTINGS if trainer.memory(BASE_MODELS[model], mode, 24)[0]}


def _shown(value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    bits, adapter, _ = str(value).partition("|")
    return f"{bits} + ARA" if adapter else str(value)


def test_every_adapter_stands_on_the_exports_page():
    settings = [trainer.memory(BASE_MODELS[model], mode, vram)[0] for trainer, model, mode, vram in SETTINGS]
    adapters = {value for made in settings for value in made.values() if "|" in str(value)}
    assert adapters == set(re.findall(r"^uint\d\|\S+$", EXPORT, re.MULTILINE))


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=list(TRAINERS))
def test_the_exports_page_has_each_trainers_files_caches_and_version(trainer):
    files, caches = ({row[0]: row[1] for row in table} for table in tables(EXPORT, "trainer"))
    assert named(str(trainer.config()), files[trainer.name])
    for pattern in trainer.caches():
        assert any(f"`{part}" in caches[trainer.name] for part in pattern.split("/") if part.strip("*")), pattern
    if trainer.name != "imagefolder":
        keys = known_keys(trainer.name)
        assert keys["commit"][:7] in EXPORT and keys["date"] in EXPORT


def test_the_exports_page_tells_which_trainer_trains_what():
    ((head, *below),) = tables(EXPORT, "base model")
    assert head[1:] == list(TRAINERS) and sorted(model for row in below for model in row[0].split(", ")) == sorted(BASE_MODELS)
    for row in below:
        for model in row[0].split(", "):
            for name, cell in zip(TRAINERS, row[1:]):
                assert cell == (", ".join(mode for mode in MODES if (model, mode) in TRAINERS[name].pairs) or "-"), (model, name)


def test_the_rules_of_the_trainers_checks_stand_on_the_exports_page():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes" / "lora_dataset" / "trainers").glob("*.py"))
    rules = set(re.findall(r'(?:say|Finding)\(\s*(?:BLOCKED|ATTENTION),\s*"([^"]+)"', code))
    assert len(rules) > 8 and all(named(rule, EXPORT) for rule in rules)


def test_the_choices_variables_and_defaults_of_the_export_stand_on_its_page():
    options = export.ExportOptions(Path(), "")
    inputs = {row[0].strip("`"): row[1] for row in rows(EXPORT, "input")}
    choices = {"trainer": TRAINERS, "base_model": BASE_MODELS, "mode": MODES, "recipe": recipes.PRESETS, "learning_rate": recipes.LEARNING_RATES}
    choices |= {"vram": map(str, recipes.VRAM), "repeats": recipes.REPEATS, "archive": offered.ARCHIVES, "picture_format": offered.PICTURE_FORMATS}
    for name, known in choices.items():
        told = ", ".join(f"{choice} (default)" if choice == str(getattr(options, name)) else choice for choice in known)
        assert inputs[name].startswith(f"{told}. "), name
    assert f"default {options.target_steps}" in inputs["target_steps"]
    for variable in (targets.ROOTS_VARIABLE, webhook.ALLOW_PRIVATE):
        assert named(variable, README) and variable in EXPORT


# --- README ---


def test_the_readme_has_the_table_of_pairs():
    assert pairs_table() in README


def test_every_option_of_curate_that_the_readme_shows_is_one(capsys):
    from character_likeness.nodes import terminal

    with pytest.raises(SystemExit):
        terminal.main(["curate", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    shown = {option for line in re.findall(r"^likeness curate (?:.*\\\n)*.*", README, re.MULTILINE) for option in re.findall(r"--[a-z-]+", line)}
    assert shown and shown <= known
