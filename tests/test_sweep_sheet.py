"""The table, the reports and the pictures of a sweep, in which labels, triggers and prompts may be anything."""

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from character_likeness.nodes.identity.scoring import Rules
from character_likeness.nodes.lora_dataset import sweep, sweep_sheet
from character_likeness.nodes.lora_dataset.sweep import Plan
from character_likeness.nodes.lora_dataset.sweep_sheet import BY_EYE, COLUMNS, as_csv, as_dict, grid, markdown, plot, rows, table
from tests.tiny.sweeps import FakeStudio, checkpoint, memory, mira

ROOT_OF_GUIDE = "docs/training-guide.md"
FORMULA = "=HYPERLINK(0)"
FORMULAS = (FORMULA, "+1", "-rf", "@SUM(A1)")
MARKUP = "a|b <img src=x> *c* _d_ `e` [f](g) #h"


def looks(label, strength, text, seed):
    if "nobody" in text:
        return None, 0.5, 0
    return 0.2 if label is None else 0.3 + 0.5 * strength, 0.3 + 0.1 * seed + 0.1 * strength, 10 * min(seed, 4)


def swept(checkpoints, prompts=("{trigger} in a kitchen",), strengths=(0.6, 0.8), seeds=(1, 2), look=looks, who=None, **studio):
    plan = Plan(tuple(checkpoints), strengths, prompts, seeds)
    return sweep.run(plan, FakeStudio(look, **studio), memory(), who or mira(), Rules(0.4, "standard"))


@pytest.fixture(scope="module")
def result():
    return swept((checkpoint("mira_500", step=500), checkpoint("mira")))


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def lines_of(markdown_table):
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in markdown_table.splitlines()]


# --- rows ---


def test_there_is_a_row_for_no_lora_and_one_for_each_cell(result):
    found = rows(result)
    assert [(row["checkpoint"], row["step"], row["strength"]) for row in found] == [
        ("no LoRA", None, None), ("mira_500", 500, 0.6), ("mira_500", 500, 0.8), ("mira", "final", 0.6), ("mira", "final", 0.8),
    ]  # fmt: skip
    assert all(list(row) == list(COLUMNS) for row in found)
    assert found[0]["from no LoRA"] is None and found[1]["from no LoRA"] > 0


def test_the_figures_of_a_row_are_those_of_its_cell(result):
    row, cell = rows(result)[2], result.cells[1]
    own = cell.standing
    assert (row["match rate"], row["passed"], row["n"]) == (1.0, 2, 2) and (row["95% low"], row["95% high"]) == (round(own.rate.interval[0], 4), 1.0)
    assert (row["identity mean"], row["min"], row["std"], row["no face"]) == (round(own.mean, 4), round(own.least, 4), 0.0, 0.0)
    assert (row["mean abs yaw"], row["yaw std"]) == (round(own.yaw, 4), round(own.yaw_deviation, 4)) and row["yaw std"] > 0
    assert (row["seed spread"], row["from no LoRA"], row["s per picture"]) == tuple(round(value, 4) for value in (cell.spread, cell.distance, cell.seconds))


def test_one_cell_is_suggested_and_those_that_none_beats_are_marked(result):
    found = rows(result)
    suggested = [row for row in found if row["suggested"]]
    assert [(row["checkpoint"], row["strength"]) for row in suggested] == [("mira_500", 0.8)] and suggested[0]["suggested"] == "yes"
    assert [row["pareto"] for row in found] == ["", *("yes" if cell in result.pareto else "" for cell in result.cells)]
    assert {row["pareto"] for row in found[1:]} == {"yes"} and found[0]["suggested"] == ""


def test_the_last_columns_are_empty_for_what_only_an_eye_can_judge(result):
    assert COLUMNS[-3:] == BY_EYE == ("lighting", "background", "artifacts")
    assert all(row[name] == "" for row in (*rows(result), *read(as_csv(result))) for name in BY_EYE)
    assert all(line[-3:] == ["", "", ""] for line in lines_of(table(result))[2:])


def test_without_a_face_there_are_no_figures_of_one():
    row = rows(swept((checkpoint(),), prompts=("nobody",)))[1]
    assert [row[name] for name in ("identity mean", "min", "std", "mean abs yaw", "yaw std")] == [None] * 5 and (row["no face"], row["passed"]) == (1.0, 0)


# --- CSV ---


def test_the_csv_reads_back_as_the_table(result):
    text = as_csv(result)
    told = read(text)
    assert text.count("\n") == 6 and "\r" not in text and list(told[0]) == list(COLUMNS)
    for row, line in zip(rows(result), told, strict=True):
        assert line == {name: "" if value is None else str(value) for name, value in row.items()}


@pytest.mark.parametrize("label", FORMULAS)
def test_no_cell_of_the_csv_is_a_formula(label):
    told = read(as_csv(swept((checkpoint(label, step=500),))))
    assert [row["checkpoint"] for row in told] == ["no LoRA", f"'{label}", f"'{label}"]
    assert not any(value[:1] in ("=", "@", "\t", "\r") for row in told for value in row.values())
    # Numbers stay numbers, below 0 too.
    minus = read(as_csv(swept((checkpoint(),), strengths=(-0.5,))))[1]
    assert float(minus["strength"]) == -0.5


@pytest.mark.parametrize("label", ['a,b "c"', "ünï 人物", "a;b'c", "a\\b"])
def test_a_label_reads_back_from_the_csv_whatever_is_in_it(label):
    assert [row["checkpoint"] for row in read(as_csv(swept((checkpoint(label),))))][1:] == [label] * 2


# --- Markdown ---


def test_the_table_in_markdown_has_as_many_cells_in_every_line(result):
    head, rule, *below = lines_of(table(result))
    assert head == list(COLUMNS) and rule == ["---"] * len(COLUMNS) and len(below) == 5 and {len(line) for line in below} == {len(COLUMNS)}
    told = dict(zip(head, below[0]))
    assert (told["checkpoint"], told["step"], told["strength"], told["from no LoRA"]) == ("no LoRA", "-", "-", "-")
    told = dict(zip(head, below[2]))
    assert (told["checkpoint"], told["step"], told["strength"], told["match rate"], told["95% low"]) == (r"mira\_500", "500", "0.8", "1", "0.342")
    assert told["identity mean"] == f"{result.cells[1].standing.mean:.3f}".rstrip("0")


def test_the_report_says_suggestion_table_columns_prompts_seeds_and_notes():
    text = markdown(swept((checkpoint("mira_500", step=500),), seeds=(7,)), mira(), "mira_k")
    assert text.startswith("# LoRA sweep mira\\_k\n\n**Suggested: mira\\_500 at 0.8: identity mean 0.7") and text.endswith("\n") and "\n\n\n" not in text
    assert "3 pictures: 1 checkpoint x 2 strengths x 1 prompt x 1 seed, and 1 without a LoRA. Judged against Mira with by pixel." in text
    assert "1. {trigger} in a kitchen" in text and "\nSeeds: 7.\n" in text
    assert sweep_sheet.WHAT in text and f"{ROOT_OF_GUIDE}#choosing-a-checkpoint" in text
    assert "- With one seed nothing can be said about the spread between seeds" in text


def test_pictures_that_were_not_made_are_told_in_the_report():
    lacking = swept((checkpoint("mira_500"),), tight=[("sample", 3)])
    assert "- mira\\_500 at 0.6: out of memory: take a smaller size or a smaller model file." in markdown(lacking, mira())
    told = [one for one in as_dict(lacking, mira())["pictures"] if "error" in one]
    assert told == [{"checkpoint": "mira_500", "strength": 0.6, "prompt": "m1ra in a kitchen", "seed": 1, "error": sweep.OUT_OF_MEMORY}]


def test_nothing_that_a_user_typed_is_markup_in_the_report():
    who = replace(mira(), name=MARKUP)
    text = markdown(swept((checkpoint(MARKUP, trigger=MARKUP), checkpoint("bad", error=MARKUP)), prompts=(f"{{trigger}} {MARKUP}",), who=who), who, MARKUP)
    own = text.replace("[training guide](", "").replace("**", "")
    assert "<img" not in text and not re.search(r"(?<!\\)[*`\[]", own) and not re.search(r"(?<!\\)_d", own)
    assert all(len(line) == len(COLUMNS) for line in lines_of("\n".join(line for line in text.splitlines() if line.startswith("|"))))
    assert next(line for line in text.splitlines() if line.startswith("#")).startswith("# LoRA sweep a") and " \\#h" in text


# --- JSON ---


def test_the_report_is_json_and_comes_back_as_it_was(result):
    told = as_dict(result, mira())
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["suggestion"] == {"checkpoint": "mira_500", "strength": 0.8, "reason": result.suggestion.reason}
    assert told["cells"] == rows(result) and (told["identity"], told["recognizer"]) == ("Mira", "by pixel")
    assert told["prompts"] == ["{trigger} in a kitchen"] and told["seeds"] == [1, 2] and told["pareto"] == [cell.label for cell in result.pareto]


def test_every_picture_is_in_the_report_with_its_verdict(result):
    told = as_dict(result, mira())["pictures"]
    assert len(told) == result.plan.count == 10
    assert {name: told[0][name] for name in ("checkpoint", "strength", "prompt", "seed", "verdict", "score")} == {
        "checkpoint": None, "strength": None, "prompt": "m1ra in a kitchen", "seed": 1, "verdict": "reject", "score": 0.2,
    }  # fmt: skip
    assert (told[-1]["checkpoint"], told[-1]["strength"], told[-1]["seed"], told[-1]["verdict"]) == ("mira", 0.8, 2, "pass") and told[-1]["seconds"] >= 0


def test_what_failed_is_in_the_report_with_its_reason_and_without_a_suggestion_there_is_none():
    failing = swept((checkpoint("bad", error="empty"), checkpoint("flux"), checkpoint("mira")), prompts=("nobody",), broken=["flux"])
    told = as_dict(failing, mira())
    assert told["failed"] == {"bad": "empty", "flux": "flux.safetensors matches nothing in this model; it is a LoRA for Flux"}
    assert told["suggestion"] == {"checkpoint": None, "strength": None, "reason": failing.suggestion.reason} and told["pareto"] == []
    assert "**Suggested: No picture with a LoRA shows a face" in markdown(failing, mira()) and "Pareto set: none." in markdown(failing, mira())


# --- to look at ---


def drawn(monkeypatch, name):
    """What is handed to a figure's drawing, in a list that fills when it is drawn."""
    calls, real = [], getattr(sweep_sheet.figures, name)
    monkeypatch.setattr(sweep_sheet.figures, name, lambda *about, **more: calls.append(about) or real(*about, **more))
    return calls


def test_the_grid_has_a_line_for_each_checkpoint_and_says_why_one_is_empty(monkeypatch):
    calls = drawn(monkeypatch, "grid")
    pixels = grid(swept((checkpoint("bad", error="empty"), checkpoint("mira_500"), checkpoint("flux")), broken=["flux"]), "LoRA sweep, Mira")
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and min(pixels.shape[:2]) > 100
    ((title, columns, lines),) = calls
    assert title == "LoRA sweep, Mira: in each cell 1 prompt x 2 seeds, in order" and list(columns) == ["no LoRA", "strength 0.6", "strength 0.8"]
    bad, mira_500, flux = lines
    assert [one.label for one in lines] == ["bad", "mira_500", "flux"] and not bad.cells and bad.error == "empty" and "matches nothing" in flux.error
    assert [one.heading for one in mira_500.cells] == ["0.20 · 0 of 2", "0.60 · 2 of 2", "0.70 · 2 of 2"]
    assert [one.chosen for one in mira_500.cells] == [False, False, True] and [len(one.tiles) for one in mira_500.cells] == [2, 2, 2]


def test_the_plot_has_a_line_for_each_strength_and_one_without_a_lora(monkeypatch, result):
    calls = drawn(monkeypatch, "line_plot")
    assert plot(result, mira()).ndim == 3
    ((title, ticks, lines, label, thresholds),) = calls
    assert (
        (title, label) == ("Identity mean with Mira over checkpoints", "mean likeness score over the step of training; bars: standard error")
        and list(ticks) == ["500", "mira"]
        and [line.name for line in lines] == ["no LoRA", "strength 0.6", "strength 0.8"]
    )
    assert lines[2].values == tuple(row[2].standing.mean for row in result.rows) and list(thresholds) == [("standard", 0.4)]


def test_checkpoints_of_the_same_step_are_told_by_their_names_in_the_plot(monkeypatch):
    calls = drawn(monkeypatch, "line_plot")
    plot(swept((checkpoint("a_500", step=500), checkpoint("b_500", step=500))), mira())
    assert list(calls[0][1]) == ["a_500", "b_500"] and calls[0][3] == "mean likeness score; bars: standard error"
