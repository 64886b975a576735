"""docs/training-guide.md: its anchors and links, its arithmetic, and that what it says of the trainers stands where it says.

The trainers' code is read, not run: AI_TOOLKIT_ROOT, MUSUBI_ROOT and SD_SCRIPTS_ROOT, else ~/comfy/peers.
"""

import ast
import functools
import math
import os
import re
from pathlib import Path

import pytest

from character_likeness.nodes.framing import BODY_FRAMINGS, framing_plan_of
from character_likeness.nodes.lora_dataset.dataset import BODY, CHARACTER

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "training-guide.md"
TEXT = GUIDE.read_text(encoding="utf-8")

# Reports link to these: they must not change.
ANCHORS = (
    "plastic-skin",
    "face-drift",
    "background-bleed",
    "wrong-proportions",
    "overfit",
    "underfit",
    "before",
    "during",
    "after",
    "recipes-and-code",
)
FAULTS = ANCHORS[:6]
TRAINERS = {"ai-toolkit": "AI_TOOLKIT_ROOT", "musubi-tuner": "MUSUBI_ROOT", "sd-scripts": "SD_SCRIPTS_ROOT"}
# `trainer/path/of/file.py: Class.method`, or a file alone.
CITATION = re.compile(rf"`({'|'.join(TRAINERS)})/([\w./-]+\.\w+)(?:: ([\w.]+))?`")
CITATIONS = sorted(set(CITATION.findall(TEXT)))


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def headings(text):
    outside_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [slug(heading) for heading in re.findall(r"^#{1,6} +(.+?) *$", outside_code, re.MULTILINE)]


def section(anchor):
    """What stands below a heading, up to the next of its level or above."""
    for match in re.finditer(r"^(#{1,6}) +(.+?) *$", TEXT, re.MULTILINE):
        if slug(match[2]) == anchor:
            rest = TEXT[match.end() :]
            end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
            return rest[: end.start()] if end else rest
    raise AssertionError(anchor)


def rows(text):
    """The cells of the tables of a text, without heads and rules."""
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for table in tables for line in table.strip().splitlines()[2:]]


@functools.cache
def checkout(trainer):
    root = Path(os.environ.get(TRAINERS[trainer]) or Path.home() / "comfy" / "peers" / trainer)
    if not root.is_dir():
        pytest.skip(f"no {trainer} at {TRAINERS[trainer]} or ~/comfy/peers/{trainer}")
    return root


@functools.cache
def module_of(trainer, file):
    return ast.parse((checkout(trainer) / file).read_text(encoding="utf-8"))


def definition(trainer, file, name):
    """The class or function of this dotted name, a function within a function too; None where there is none."""
    node = module_of(trainer, file)
    for part in name.split("."):
        inside = (found for found in ast.walk(node) if found is not node and isinstance(found, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef))
        node = next((found for found in inside if found.name == part), None)
        if node is None:
            return None
    return node


# --- anchors and links ---


@pytest.mark.parametrize("anchor", ANCHORS)
def test_an_anchor_that_reports_link_to_exists_once(anchor):
    assert headings(TEXT).count(anchor) == 1


def test_every_internal_link_leads_to_a_heading_or_a_file():
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", TEXT) if not target.startswith("https://")]
    assert len(targets) > len(ANCHORS)
    for target in targets:
        file, _, anchor = target.partition("#")
        path = (GUIDE.parent / file).resolve() if file else GUIDE
        assert path.is_file() and path.is_relative_to(ROOT), target
        assert not anchor or anchor in headings(path.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_its_looks_cause_fix_and_measurement(fault):
    assert re.findall(r"^- \*\*(\w+)\*\*: ", section(fault), re.MULTILINE) == ["Looks", "Cause", "Fix", "Measurement"]


# --- what is said of the trainers ---


def test_every_recipe_names_the_code_that_was_read():
    recipes = section("recipes-and-code").split("### Defaults")[0]
    without = [row[0] for row in rows(recipes) if not CITATION.search(row[-1])]
    assert len(rows(recipes)) > 20 and not without, without


def test_all_three_trainers_are_cited():
    assert {trainer for trainer, _, _ in CITATIONS} == set(TRAINERS)


@pytest.mark.parametrize(("trainer", "file", "name"), CITATIONS, ids=lambda part: part.rsplit("/", 1)[-1] or "-")
def test_what_the_guide_cites_is_in_the_trainers_code(trainer, file, name):
    assert (checkout(trainer) / file).is_file()
    assert not name or definition(trainer, file, name) is not None


def asked(trainer, file, name, key):
    """The default of `kwargs.get(key, default)` in a class."""
    calls = (node for node in ast.walk(definition(trainer, file, name)) if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get")
    return next(ast.literal_eval(call.args[1]) for call in calls if len(call.args) > 1 and ast.unparse(call.args[0]) == repr(key))


def option(trainer, file, key):
    """The default of `add_argument(key, default=...)` in a file."""
    calls = (node for node in ast.walk(module_of(trainer, file)) if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument")
    call = next(call for call in calls if any(isinstance(name, ast.Constant) and name.value == key for name in call.args))
    return next((ast.literal_eval(word.value) for word in call.keywords if word.arg == "default"), None)


def field(trainer, file, name, key):
    """The default of a field of a dataclass."""
    fields = (node for node in definition(trainer, file, name).body if isinstance(node, ast.AnnAssign))
    return next(ast.literal_eval(node.value) for node in fields if node.target.id == key)


def assigned(trainer, file, name, key):
    """The number that a function falls back to: `key = 4` where nothing was given."""
    assignments = (node for node in ast.walk(definition(trainer, file, name)) if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant))
    return next(node.value.value for node in assignments if ast.unparse(node.targets[0]) == key)


CONFIG, MUSUBI = "toolkit/config_modules.py", "src/musubi_tuner/"
PARSER, DATASETS, TRAINING = MUSUBI + "training/parser_common.py", MUSUBI + "dataset/config_utils.py", MUSUBI + "training/trainer_base.py"
UTIL, FLUX, SUBSETS = "library/train_util.py", "library/flux_train_utils.py", "library/config_util.py"
# (row of the table of defaults, column) -> where the number stands in the code
DEFAULTS = {
    ("learning rate", "ai-toolkit"): (asked, CONFIG, "TrainConfig", "lr"),
    ("learning rate", "musubi-tuner"): (option, PARSER, "--learning_rate"),
    ("learning rate", "sd-scripts"): (option, UTIL, "--learning_rate"),
    ("rank", "musubi-tuner"): (assigned, MUSUBI + "networks/lora.py", "create_network", "network_dim"),
    ("rank", "sd-scripts"): (assigned, "networks/lora_flux.py", "create_network", "network_dim"),
    ("alpha", "musubi-tuner"): (option, PARSER, "--network_alpha"),
    ("alpha", "sd-scripts"): (option, "train_network.py", "--network_alpha"),
    ("steps", "ai-toolkit"): (asked, CONFIG, "TrainConfig", "steps"),
    ("steps", "musubi-tuner"): (option, PARSER, "--max_train_steps"),
    ("steps", "sd-scripts"): (option, UTIL, "--max_train_steps"),
    ("resolution", "ai-toolkit"): (asked, CONFIG, "DatasetConfig", "resolution"),
    ("resolution", "musubi-tuner"): (field, DATASETS, "BaseDatasetParams", "resolution"),
    ("buckets", "ai-toolkit"): (asked, CONFIG, "DatasetConfig", "buckets"),
    ("buckets", "musubi-tuner"): (field, DATASETS, "BaseDatasetParams", "enable_bucket"),
    ("buckets", "sd-scripts"): (field, SUBSETS, "DreamBoothDatasetParams", "enable_bucket"),
    ("caption files", "ai-toolkit"): (asked, CONFIG, "DatasetConfig", "caption_ext"),
    ("caption files", "musubi-tuner"): (field, DATASETS, "BaseDatasetParams", "caption_extension"),
    ("caption files", "sd-scripts"): (field, SUBSETS, "DreamBoothSubsetParams", "caption_extension"),
    ("checkpoints kept", "ai-toolkit"): (asked, CONFIG, "SaveConfig", "max_step_saves_to_keep"),
    ("size of samples", "ai-toolkit"): (asked, CONFIG, "SampleConfig", "width"),
    ("size of samples", "musubi-tuner"): (asked, TRAINING, "NetworkTrainer.sample_image_inference", "width"),
    ("size of samples", "sd-scripts"): (asked, FLUX, "sample_image_inference", "width"),
    ("seed of samples", "ai-toolkit"): (asked, CONFIG, "SampleConfig", "seed"),
}


def as_told(default):
    """How the guide writes a default."""
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return " \u00d7 ".join(map(str, default))
    return f"{default:.0e}".replace("e-0", "e-") if isinstance(default, float) else str(default)


@pytest.mark.parametrize(("row", "trainer"), DEFAULTS, ids=" of ".join)
def test_a_default_is_the_one_in_the_trainers_code(row, trainer):
    read, *where = DEFAULTS[row, trainer]
    told = next(cells for cells in rows(section("defaults")) if cells[0] == row)[1 + list(TRAINERS).index(trainer)]
    assert told.split(",")[0] == as_told(read(trainer, *where))


def test_ai_toolkit_still_sets_alpha_to_the_rank_of_a_transformers_lora():
    code = ast.unparse(definition("ai-toolkit", "toolkit/lora_special.py", "LoRASpecialNetwork.__init__"))
    assert "if self.peft_format:\n        self.alpha = self.lora_dim" in code


def test_ai_toolkit_still_clears_the_gradients_at_every_step():
    first = definition("ai-toolkit", "extensions_built_in/sd_trainer/SDTrainer.py", "SDTrainer.hook_train_loop").body
    cleared = next(i for i, node in enumerate(first) if ast.unparse(node) == "self.optimizer.zero_grad()")
    assert cleared < next(i for i, node in enumerate(first) if isinstance(node, ast.For))


# --- arithmetic ---


def test_the_framing_plans_can_be_read_and_make_the_worked_example():
    character, body = (row[1].strip("`") for row in rows(section("what-to-shoot")))
    pictures = [sum(count for _, count in framing_plan_of(plan, BODY_FRAMINGS)) for plan in (character, body)]
    assert pictures == [70, 30]
    steps = pictures[0] * CHARACTER.repeats + pictures[1] * BODY.repeats
    assert f"`{steps} = {pictures[0]} x {CHARACTER.repeats} + {pictures[1]} x {BODY.repeats}`" in section("the-calculator")


def test_epochs_and_exposures_of_the_worked_example():
    told = {row[0]: row for row in rows(section("the-calculator")) if len(row) == 5}
    for change, (batches, accumulation, repeats) in {
        "none": (3400, 1, (40, 20)),
        "batch size 2, all size buckets even": (3400 / 2, 1, (40, 20)),
        "ai-toolkit, `resolution: [512, 768, 1024]`": (3400 * 3, 1, (40, 20)),
        "ai-toolkit, `gradient_accumulation: 4`": (3400, 4, (40, 20)),
        "ai-toolkit, `gradient_accumulation_steps: 4`": (3400, 1, (40, 20)),
        "musubi-tuner, sd-scripts, `--gradient_accumulation_steps 4`": (3400, 4, (40, 20)),
        "repeats 2 and 1": (70 * 2 + 30 * 1, 1, (2, 1)),
    }.items():
        _, passes, epochs, exposures, updates = told.pop(change)
        expected = 3400 * accumulation / batches
        assert int(passes) == batches and float(epochs) == round(expected, 2)
        assert exposures.split(",")[0] == " / ".join(f"{each * expected:.0f}" for each in repeats)
        assert int(updates) == (3400 // 4 if "steps: 4" in change else 3400)
    assert not told


def test_half_lives_and_what_is_left_of_the_start_of_an_average():
    averages = [row for row in rows(section("the-calculator")) if len(row) == 4]
    assert [row[0] for row in averages] == ["0.99", "0.999", "0.9999"]
    for decay, half_life, early, late in averages:
        assert int(half_life) == round(math.log(0.5) / math.log(float(decay)))
        assert (early, late) == (f"{float(decay) ** 340:.0%}", f"{float(decay) ** 3400:.0%}")
