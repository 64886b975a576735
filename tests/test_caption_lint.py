"""What is said against captions, and text that means itself to every trainer: checked against the trainers' own functions where a checkout is there."""

import __future__

import ast
import json
import logging
import os
import random
import re
import time
from collections import OrderedDict
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.lora_dataset.captions import CaptionRules, caption_items
from character_likeness.nodes.lora_dataset.dataset import ATTENTION, BLOCKED, BODY, READY, Dataset, DatasetItem, Finding, Given
from character_likeness.nodes.lora_dataset.lint import MOST_TAGS, RULES, SAME_CAPTION, lint, safe_caption, safe_prompt

PICTURE = Given("p", np.zeros((4, 4, 3), np.uint8))


def items(*captions, **options):
    return tuple(DatasetItem(PICTURE, f"p{number}", caption=caption, **options) for number, caption in enumerate(captions))


def found(caption, trigger="mira_k", traits=(), **options):
    """The findings of one caption, by rule."""
    return {finding.rule: finding for finding in lint(Dataset(items(caption, **options), trigger), traits).items[0].findings}


def rules_of(caption, *options, **more):
    return set(found(caption, *options, **more))


# --- lint ---


def test_a_caption_as_it_should_be_gets_no_finding():
    dataset = lint(Dataset(items("mira_k, full body, standing, red coat", framing="full body", measured={"framing": "full body"}), "mira_k"), ("red hair",))
    assert not dataset.findings and dataset.items[0].level == READY


@pytest.mark.parametrize(
    ("caption", "rules"),
    [
        ("a beach", {"trigger-missing"}),
        ("Mira_K, a beach", {"trigger-missing"}),
        ("a beach, mira_k", {"trigger-not-first"}),
        ("mira_k, a beach, mira_k's coat", {"trigger-twice"}),
        ("mira_kitchen, a beach", {"trigger-inside-word"}),
        ("mira_k, a mira_kitchen", {"trigger-inside-word"}),
        ("a beach with mira_k and mira_k at dusk", {"trigger-not-first", "trigger-twice"}),
        ("mira_k\u7a7f\u7740\u7ea2\u8272\u7684\u5927\u8863", set()),
        (" mira_k stands", set()),
    ],
)
def test_the_trigger_is_to_be_first_once_and_a_word_of_its_own(caption, rules):
    findings = found(caption)
    assert set(findings) == rules
    assert all(finding.level == ATTENTION and finding.text.startswith("p0: ") for finding in findings.values())


def test_the_longer_word_that_hides_a_trigger_is_named():
    assert "'admiral'" in found("an admiral, a beach", "mira")["trigger-inside-word"].text
    assert "'Mira_K'" in found("Mira_K, a beach")["trigger-missing"].text


@pytest.mark.parametrize("trigger", ["woman", "Women", "Anna", "red woman", "girls", "mia", "ohx"])
def test_an_ordinary_or_short_trigger_is_said_of_the_dataset(trigger):
    (finding,) = lint(Dataset((), trigger)).findings
    assert finding.rule == "ordinary-trigger" and trigger in finding.text and finding.level == ATTENTION


@pytest.mark.parametrize("trigger", ["mira_k", "ohwx woman", "m1r", "mirakova", "\u7f8e\u96ea"])
def test_a_made_up_trigger_is_not(trigger):
    assert lint(Dataset((), trigger)).findings == ()


def test_a_dataset_without_trigger_is_blocked_unless_it_needs_none():
    (finding,) = lint(Dataset(items("a beach"))).findings
    assert (finding.level, finding.rule) == (BLOCKED, "no-trigger")
    free = lint(Dataset(items("a beach")), needs_trigger=False)
    assert free.findings == () and free.items[0].findings == ()


@pytest.mark.parametrize("caption", ["", "  ", "\n\ufeff\x00"])
def test_an_empty_caption_blocks_and_nothing_else_is_said_of_it(caption):
    findings = found(caption, bucket=BODY)
    assert set(findings) == {"empty-caption"} and findings["empty-caption"].level == BLOCKED


def test_more_tags_than_a_picture_would_be_asked_for_by_are_too_many():
    tags = [f"tag {number}" for number in range(MOST_TAGS)]
    assert not rules_of(", ".join(("mira_k", "realistic_body", *tags)), bucket=BODY)
    assert f"{MOST_TAGS + 1} tags" in found(", ".join(("mira_k", *tags, "one more")))["over-captioned"].text


@pytest.mark.parametrize(
    ("text", "long"), [("word " * 390, False), ("word " * 420, True), ("\u96e8" * 500, False), ("\u96e8" * 520, True), ("x" * 10_000, True)]
)
def test_a_caption_beyond_what_the_text_encoders_read_is_said(text, long):
    assert ("long-caption" in rules_of(f"mira_k, {text}")) == long


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x00b", "a\u2028b", "a\tb", "a\ud800"])
def test_line_ends_and_control_characters_are_said(text):
    assert rules_of(f"mira_k, {text}") == {"line-break"}


@pytest.mark.parametrize(
    "text", ["a\u00a0b", "\U0001f469\u200d\U0001f680", "key: 'a' # b", "--w 512", "$HOME", "[[x]]", "a {b", "(soft light)", "f(1:2", "10% off", "<b>", "\u2013"]
)
def test_what_no_trainer_reads_in_a_caption_is_not_said(text):
    assert rules_of(f"mira_k, {text}") == set()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("at ${HOME}", "environment-variable"),
        ("${", "environment-variable"),
        ("a photo of [trigger]", "placeholder"),
        ("[name]", "placeholder"),
        ("<|im_end|>", "special-token"),
        ("</s>", "special-token"),
        ("<extra_id_3>", "special-token"),
        ("{red|blue} coat", "braces"),
        ("wearing {clothing}", "braces"),
        ("(masterpiece:1.2)", "prompt-syntax"),
        ("(soft light:.8)", "prompt-syntax"),
        ("<lora:mira:0.8>", "prompt-syntax"),
    ],
)
def test_what_is_read_as_a_command_is_said_with_the_reason(text, rule):
    findings = found(f"mira_k, {text}")
    assert rule in findings and findings[rule].level == (BLOCKED if rule == "environment-variable" else ATTENTION)
    assert findings[rule].text.endswith(".")


def test_a_caption_on_many_pictures_is_said_of_each():
    few = lint(Dataset(items(*["mira_k, a beach"] * (SAME_CAPTION - 1)), "mira_k"))
    many = lint(Dataset(items(*["mira_k, a beach"] * (SAME_CAPTION - 1), "Mira_k,  a beach", "mira_k"), "mira_k"))
    assert not any(item.findings for item in few.items)
    assert ["same-caption" in {finding.rule for finding in item.findings} for item in many.items] == [True] * SAME_CAPTION + [False]


@pytest.mark.parametrize(
    ("said", "made", "measured", "wrong"),
    [
        ("closeup", "full body", "", True),
        ("closeup", "closeup", "portrait", False),
        ("closeup", "", "upper body", True),
        ("closeup", "", "closeup", False),
        ("full body", "", "legs", True),
        ("standing", "full body", "closeup", False),
    ],
)
def test_a_framing_that_the_picture_has_not_is_said(said, made, measured, wrong):
    rules = rules_of(f"mira_k, {said}", framing=made, measured={"framing": measured} if measured else {})
    assert ("caption-framing" in rules) == wrong


def test_fixed_traits_that_were_to_be_omitted_and_a_missing_tag_are_said():
    findings = found("mira_k, red-haired, smiling", traits=("red hair", "scar", " "), bucket=BODY)
    assert "red hair" in findings["fixed-trait"].text and "scar" not in findings["fixed-trait"].text
    assert "realistic_body" in findings["bucket-tag"].text


def test_lint_again_replaces_its_own_findings_and_leaves_the_others():
    other = Finding(ATTENTION, "blurred", "p0: the picture is blurred.")
    dataset = Dataset(items("", findings=(other,)), "woman", findings=(other,))
    twice = lint(lint(dataset))
    assert [finding.rule for finding in twice.items[0].findings] == ["blurred", "empty-caption"]
    assert [finding.rule for finding in twice.findings] == ["blurred", "ordinary-trigger"]
    mended = lint(caption_items(twice, CaptionRules("mira_k")))
    assert [finding.rule for finding in (*mended.items[0].findings, *mended.findings)] == ["blurred", "blurred"]


@given(st.text(max_size=40), st.sampled_from(["", "mira_k"]))
def test_every_finding_is_one_sentence_under_a_known_rule(text, trigger):
    dataset = lint(Dataset(items(text), trigger), ("red hair",))
    for finding in (*dataset.findings, *dataset.items[0].findings):
        assert finding.rule in RULES and finding.level in (ATTENTION, BLOCKED) and finding.text.endswith(".")


@pytest.mark.parametrize(
    "hostile",
    [
        "(" * 10_000,
        "{" * 10_000,
        "<|" * 5000,
        "(:" + "1" * 10_000,
        "mira_k" * 1600,
        "mira_k " * 1400,
        "a," * 5000,
        "with " * 2000 + "red hair",
        "\u96e8" * 10_000,
    ],
)
def test_no_text_takes_long(hostile):
    start = time.process_time()
    found(hostile, traits=("red hair",))
    caption_items(Dataset(items(hostile)), CaptionRules("mira_k", traits=("red hair",)))
    safe_prompt(hostile)
    # A tenth of it is usual; what is quadratic takes a minute.
    assert time.process_time() - start < 5


# --- safe text ---

PIECES = (
    "$",
    "{",
    "}",
    "${HOME}",
    "[trigger]",
    "[name]",
    "<|im_end|>",
    "</s>",
    "<",
    "|",
    ">",
    "-",
    "--",
    " --w 512",
    "#",
    "n ",
    "i ",
    "s 3",
    "a",
    " ",
    "\n",
    "mira_k",
    ",",
)
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=10).map("".join)


@given(TEXTS, st.sampled_from(["", "mira_k"]), st.sampled_from([safe_caption, safe_prompt]))
def test_safe_text_is_one_line_and_making_it_safe_again_changes_nothing(text, trigger, make):
    try:
        safe = make(text, trigger)
    except InputError as error:
        assert "empty" in str(error)
        return
    assert make(safe.text, trigger) == type(safe)(safe.text)
    assert bool(safe.changes) == (safe.text != text.strip())
    assert not re.search(r"\$\{|\[trigger\]|\[name\]|<\|\w+\||[\x00-\x1f]", safe.text)


def test_ordinary_text_is_safe_as_it_is():
    for text in (
        "mira_k, full body, a red coat",
        "key: 'value' # no comment",
        "\u96e8\u591c, \U0001f469\u200d\U0001f680",
        "a {red|blue} coat",
        "well-known - \u2014",
        "$HOME",
    ):
        assert safe_caption(text).text == safe_prompt(text).text == text


def test_what_only_prompts_cannot_hold_stays_in_captions():
    for text in ("a beach --w 512", "#1 fan", "n mira_k", "a--b"):
        assert safe_caption(text).text == text and safe_prompt(text).changes


# --- against the trainers ---


@cache
def own_function(variable, folder, file, name):
    """A function of a trainer by itself, from its source, so that none of its packages is needed; skips where the checkout is absent."""
    root = Path(os.environ.get(variable) or Path.home() / "comfy" / "peers" / folder)
    if not (root / file).is_file():
        pytest.skip(f"no checkout of {folder}: {root / file} is missing")
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    node = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)
    names = {"re": re, "os": os, "json": json, "random": random, "OrderedDict": OrderedDict, "logger": logging.getLogger(__name__)}
    exec(compile(ast.Module([node], []), str(root / file), "exec", __future__.annotations.compiler_flag), names)
    return names


def ai_toolkit(file, name):
    return own_function("AI_TOOLKIT_ROOT", "ai-toolkit", file, name)[name]


def line_readers():
    sd_scripts = own_function("SD_SCRIPTS_ROOT", "sd-scripts", "library/train_util.py", "line_to_prompt_dict")
    musubi = own_function("MUSUBI_ROOT", "musubi-tuner", "src/musubi_tuner/training/sampling_prompts.py", "line_to_prompt_dict")
    lines = own_function("MUSUBI_ROOT", "musubi-tuner", "src/musubi_tuner/training/sampling_prompts.py", "load_prompts")
    return sd_scripts["line_to_prompt_dict"], musubi["line_to_prompt_dict"], lines


PROMPTS = (
    "mira_k, a beach --w 512 --n blurred",
    "at ${LIKENESS_SECRET}, ${",
    "[trigger] at sea, [name]",
    "# a beach",
    "n mira_k",
    "I stand in a kitchen",
    "s 3 girls",
    "CN Tower",
    "w 512",
    "of late --",
    "a---b",
    "<|im_end|> </s>",
)


@pytest.mark.parametrize("text", PROMPTS)
def test_the_trainers_read_a_safe_prompt_as_it_is(text, tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_SECRET", "hunter2")
    prompt = safe_prompt(text, "mira_k").text

    replace_env = ai_toolkit("toolkit/config.py", "replace_env_vars_in_string")
    inject = ai_toolkit("toolkit/prompt_utils.py", "inject_trigger_into_prompt")
    preprocess = ai_toolkit("toolkit/config.py", "preprocess_config")
    flags = ai_toolkit("toolkit/config_modules.py", "_process_prompt_string")
    assert replace_env(f"prompts:\n- {prompt}\n- b }}") == f"prompts:\n- {prompt}\n- b }}"
    assert preprocess({"job": "extension", "config": {"name": "job7", "prompt": prompt}})["config"]["prompt"] == prompt
    assert inject(prompt, "mira_k", add_if_not_present=False) == prompt
    job = SimpleNamespace(prompt=prompt)
    flags(job)
    assert vars(job) == {"prompt": prompt}

    *readers, lines = line_readers()
    file = tmp_path / "prompts.txt"
    file.write_text(f"{prompt}\n", encoding="utf-8", newline="\n")
    for read in readers:
        lines["line_to_prompt_dict"] = read
        assert lines["load_prompts"](str(file)) == [{"prompt": prompt, "enum": 0}]


@pytest.mark.parametrize("text", [text for text in PROMPTS if not text.startswith(("<", "a---b", "of"))])
def test_the_trainers_read_these_prompts_otherwise_when_they_are_not_made_safe(text, tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_SECRET", "hunter2")
    replace_env = ai_toolkit("toolkit/config.py", "replace_env_vars_in_string")
    inject = ai_toolkit("toolkit/prompt_utils.py", "inject_trigger_into_prompt")
    *readers, lines = line_readers()
    file = tmp_path / "prompts.txt"
    file.write_text(f"{text}\n", encoding="utf-8")
    read = [inject(replace_env(text), "mira_k", add_if_not_present=False) == text]
    for reader in readers:
        lines["line_to_prompt_dict"] = reader
        read.append(lines["load_prompts"](str(file)) == [{"prompt": text, "enum": 0}])
    assert not all(read)


@given(TEXTS)
def test_the_trainers_read_any_safe_caption_as_it_is(text):
    try:
        caption = safe_caption(text, "mira_k").text
    except InputError:
        return
    inject = ai_toolkit("toolkit/prompt_utils.py", "inject_trigger_into_prompt")
    assert inject(caption, "mira_k", add_if_not_present=False) == caption
    process = own_function("SD_SCRIPTS_ROOT", "sd-scripts", "library/train_util.py", "process_caption")["process_caption"]
    # The defaults of the options of captions in sd-scripts.
    subset = SimpleNamespace(
        **dict.fromkeys(("caption_prefix", "caption_suffix", "secondary_separator")),
        **dict.fromkeys(("caption_dropout_rate", "caption_dropout_every_n_epochs", "token_warmup_step", "caption_tag_dropout_rate"), 0),
        enable_wildcard=False,
        shuffle_caption=False,
    )
    assert process(SimpleNamespace(replacements={}, current_epoch=1), subset, caption) == caption


def test_sd_scripts_reads_the_first_line_of_a_caption_and_stops_at_an_empty_one(tmp_path):
    read = own_function("SD_SCRIPTS_ROOT", "sd-scripts", "library/train_util.py", "read_caption")["read_caption"]
    picture = str(tmp_path / "p.png")
    (tmp_path / "p.txt").write_text("mira_k\na beach", encoding="utf-8")
    assert read(picture, ".txt", False) == "mira_k"
    (tmp_path / "p.txt").write_text("", encoding="utf-8")
    with pytest.raises(AssertionError, match="empty"):
        read(picture, ".txt", False)
