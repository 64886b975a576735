"""The help page of LoRA Sweep and the guide's section on it hold what the code holds: columns, prompts, numbers and sentences."""

import re
from pathlib import Path

import pytest

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.identity.scoring import MatchRate, Rules
from character_likeness.nodes.lora_dataset import checkpoints, choices, duplicates, sweep
from character_likeness.nodes.lora_dataset.checkpoints import parse_checkpoints, parse_strengths, step_of
from character_likeness.nodes.lora_dataset.held_out import shared_with, warning
from character_likeness.nodes.lora_dataset.sheet import GUIDE
from character_likeness.nodes.lora_dataset.sweep_sheet import COLUMNS, as_dict, markdown
from character_likeness.nodes.telling import told
from tests.test_dataset_docs import page, rows, tables
from tests.test_training_guide import TEXT, headings, section
from tests.test_training_guide import rows as cells_of
from tests.tiny.sweeps import FakeStudio, checkpoint, memory, mira

PAGE = page("LoraSweep")
ANCHOR = "choosing-a-checkpoint"
MISTAKES = [before or single for before, single in re.findall(r"^- (?:``(.+?)``|`(.+?)`)", PAGE.partition("## Common mistakes")[2], re.MULTILINE)]


def swept(*rows_, prompts=("{trigger} in the rain",), seeds=(1,), score=0.6, **studio):
    plan = sweep.Plan(rows_ or (checkpoint("mira"),), (0.8, 1.0), prompts, seeds)
    return sweep.run(plan, FakeStudio(lambda *_: (score, 0.5), **studio), memory(), mira(), Rules(0.4, "standard"))


def said(work) -> str:
    with pytest.raises(InputError) as error:
        work()
    return str(error.value)


def on_the_page(sentence: str) -> bool:
    """Whether a sentence stands among the mistakes; `...` there stands for anything."""
    return any(re.fullmatch(".*".join(map(re.escape, mistake.split("..."))) if "(...)" in mistake else re.escape(mistake), sentence) for mistake in MISTAKES)


# --- the page ---


def test_every_column_stands_on_the_page_in_order_with_its_meaning():
    found = rows(PAGE, "column")
    assert [row[0] for row in found] == list(COLUMNS) and all(row[1] for row in found)


def test_the_prompts_that_stand_in_for_none_are_those_of_the_code():
    assert "```\n" + "\n".join(choices.PRESET_PROMPTS) + "\n```" in PAGE and f"`{choices.PRESET_STRENGTHS}`" in PAGE


def test_the_limits_on_the_page_are_those_of_the_code():
    told_ = {name: row[1] for row in rows(PAGE, "input") for name in re.findall(r"`(\w+)`", row[0])}
    assert f"From -{checkpoints.STRONGEST:g} to {checkpoints.STRONGEST:g}, up to {checkpoints.MOST_STRENGTHS} of them" in told_["strengths"]
    assert f"up to {sweep.MOST_PROMPTS}" in told_["prompts"] and f"from 1 to {sweep.MOST_SEEDS}" in told_["seeds"]
    assert f"Up to {checkpoints.MOST_CHECKPOINTS} checkpoints" in PAGE and f"{sweep.COMPARED_SIDE}x{sweep.COMPARED_SIDE} pixels" in PAGE
    assert f"up to {duplicates.DISTANCE} of {duplicates.BITS} bits apart" in PAGE
    assert f"({sweep.Memory.__init__.__defaults__[0]} pictures)" in PAGE


def test_the_lines_on_the_page_are_read_as_it_says():
    lines = [row[0].strip("`").replace("\\|", "|") for row in rows(PAGE, "line")]
    known = ["mira/mira_000000500.safetensors", "mira/mira_000001000.safetensors", "mira/old.safetensors", "mira/below/x.safetensors"]
    known += ["lightning.safetensors", "style/a.safetensors", "style/b.safetensors"]
    found = {line: parse_checkpoints(line, known, Path) if not line.startswith("#") else () for line in lines}
    assert [len(one) for one in found.values()] == [3, 1, 2, 3, 6, 1, 0]
    assert [part.strength for part in found["mira/ + lightning.safetensors:1"][0].parts] == [None, 1.0]
    assert found["mira/old.safetensors | ohwx"][0].trigger == "ohwx"
    assert all(step_of(f"{name}.safetensors") for name in ("mira_000000500", "mira-step00000500", "mira-000010") if f"`{name}`" in PAGE)


def test_the_arithmetic_on_the_page_is_right():
    many = sweep.Plan(tuple(checkpoint(f"mira_{i}") for i in range(8)), parse_strengths("0.6..1.0"), choices.PRESET_PROMPTS, (0,))
    assert f"8 checkpoints, 5 strengths, 5 prompts and 1 seed are {many.count}; at\n20 seconds each that is {told(20 * many.count)}" in PAGE
    assert f"This sweep is 10200 pictures (...), the limit is 600, and at 20.0 s each, as in the last sweep, it would take about {told(20 * 10200)}" in PAGE


def test_every_field_of_the_report_stands_on_the_page():
    report = as_dict(swept(), mira())
    named = [name for row in rows(PAGE, "field") for name in re.findall(r"`(\w+)`", row[0])]
    assert named == list(report)
    about = {name for picture in report["pictures"] for name in picture} | {"error"}
    ((pictures,),) = [[row[1] for row in rows(PAGE, "field") if row[0] == "`pictures`"]]
    assert set(re.findall(r"`(\w+)`", pictures)) == about


def test_the_errors_on_the_page_are_what_a_user_is_told(tmp_path):
    known = ["mira.safetensors"]
    for sentence in (
        said(lambda: parse_checkpoints("", known, Path)),
        said(lambda: parse_checkpoints("mira/", known, Path)),
        said(lambda: parse_checkpoints("mira/nina*", known, Path)),
        said(lambda: parse_checkpoints("mira:strong", known, Path)),
        said(lambda: parse_strengths("strong")),
        said(lambda: parse_strengths("0")),
        said(lambda: swept(broken=["mira"])),
    ):
        assert on_the_page(sentence), sentence
    (tmp_path / "manifest.json").write_text("[]")
    assert on_the_page(said(lambda: shared_with(mira(phash="00ff00ff00ff00ff"), tmp_path)).replace(str(tmp_path), "/data/mira"))


def test_the_notes_on_the_page_are_what_a_user_is_told(tmp_path):
    bad = checkpoint("mira_000001000", error="mira_000001000.safetensors is an empty file; download it again")
    noted = swept(bad, checkpoint("mira", trigger="m1ra"), checkpoint("mira", trigger=""), prompts=("{trigger}, a", "a woman in the rain")).notes
    assert len(noted) == 4 and all(map(on_the_page, noted)), noted
    assert on_the_page(swept(score=None).suggestion.reason)
    lacking = swept(checkpoint("mira_000001000"), tight=[("sample", 3)])
    assert on_the_page(re.search(r"^- (.+out of memory.+)$", markdown(lacking, mira()).replace("\\", ""), re.MULTILINE)[1])
    assert "that it is any better is not shown" in PAGE and "that it is any better is not shown" in swept().suggestion.reason
    one = mira(phash="00ff00ff00ff00ff")
    (tmp_path / "manifest.json").write_text('{"pictures": [{"file": "a.png", "phash": "00ff00ff00ff00ff"}]}')
    assert on_the_page(warning(one, tmp_path).replace("1 of 1 references", "2 of 5 references"))


# --- the guide ---


def test_reports_and_the_page_link_to_the_guides_section():
    assert headings(TEXT).count(ANCHOR) == 1 and TEXT.count(f"](#{ANCHOR})") >= 2
    assert f"{GUIDE}#{ANCHOR}" in PAGE and f"{GUIDE}#{ANCHOR}" in markdown(swept(), mira())


def test_the_guides_intervals_are_wilsons():
    found = [row for row in cells_of(section(ANCHOR)) if re.fullmatch(r"\d+ of \d+", row[0])]
    assert len(found) == 7
    for passed_of, rate, interval in found:
        own = MatchRate(*map(int, passed_of.split(" of ")))
        assert (rate, interval) == (f"{own.rate:.0%}", f"{own.interval[0]:.0%} to {own.interval[1]:.0%}")


@pytest.mark.parametrize(("high", "low", "n"), [(8, 6, 90), (9, 8, 200)])
def test_so_many_pictures_tell_two_match_rates_apart_and_not_fewer(high, low, n):
    def apart(count):
        return MatchRate(high * count // 10, count).interval[0] > MatchRate(low * count // 10, count).interval[1]

    assert apart(n) and not any(apart(count) for count in range(10, n, 10))
    assert re.search(rf"{10 * high}% and {10 * low}% (to lie apart\s+it takes )?{n}\b", section(ANCHOR))


def test_the_guides_standard_errors_are_right():
    (std,) = re.findall(r"with a std of ([\d.]+)", section(ANCHOR))
    found = re.findall(r"([\d.]+) with (\d+)(?: scores)?", section(ANCHOR))
    assert [(error, n) for error, n in found] == [(f"{float(std) / int(n) ** 0.5:.3f}", n) for n in ("5", "20", "40")]


def test_every_column_that_the_guide_names_is_one():
    named = set(re.findall(r"`([a-z][a-z ]+)`", section(ANCHOR)))
    assert {"identity mean", "no face", "std", "min", "mean abs yaw", "yaw std"} <= named <= {*COLUMNS}
    assert tables(PAGE, "column")
