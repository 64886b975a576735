"""What the panel is told, and pins: as text, as verdicts, in the report."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError, NoFaceError
from character_likeness.nodes.identity import choices, drawing
from character_likeness.nodes.identity.panel import key_of, panel, pin_notes, read_pins
from character_likeness.nodes.identity.scoring import Measured, Rules, judge, match_rate, picture_report, steps
from character_likeness.nodes.pictures import Picture
from tests.conftest import ROOT
from tests.test_scoring import BLURRED, HER, NOBODY, SCHEMA, SMALL, STANDARD, cast, seen


def picture(level: int) -> Picture:
    return Picture(np.full((4, 4, 3), level, np.uint8))


ONE, TWO, THREE = picture(1), picture(2), picture(3)


# --- pins as text ---


def test_pins_are_read_from_lines_and_commas():
    text = f"{key_of(ONE)} pass, {key_of(TWO)}  reject\n\n{key_of(THREE)} pass,"
    assert read_pins(text) == {key_of(ONE): "pass", key_of(TWO): "reject", key_of(THREE): "pass"}
    assert read_pins("") == read_pins(" ,\n") == {}
    assert read_pins(f"{key_of(ONE)} pass, {key_of(ONE)} pass") == {key_of(ONE): "pass"}


@pytest.mark.parametrize("text", ["pass", "0123 pass", f"{'g' * 32} pass", f"{'0' * 32} maybe", f"{'0' * 32}", '{"a": "pass"}', f"{'0' * 32}pass"])
def test_what_is_no_pin_is_one_sentence_that_quotes_it(text):
    with pytest.raises(InputError, match=r"^'.+' in pins is no pin; write .+, or empty pins and pin in the panel\.$") as said:
        read_pins(f"{key_of(ONE)} pass, {text}")
    assert text.split(",")[0][:60] in str(said.value)


def test_a_picture_pinned_both_ways_is_refused():
    with pytest.raises(InputError, match=f"^The picture {key_of(ONE)} is pinned as pass and as reject; leave one of the two in pins.$"):
        read_pins(f"{key_of(ONE)} pass, {key_of(ONE)} reject")


def test_the_notes_tell_how_many_pins_hold_and_which_met_no_picture():
    pins = {key_of(ONE): "pass", key_of(TWO): "reject", key_of(THREE): "pass"}
    assert pin_notes(pins, [ONE, TWO]) == [
        "Pinned by hand: 1 as pass, 1 as reject. The match rate does not count pins; it is the recognizer's.",
        "1 pin belongs to no picture of this run.",
    ]
    assert pin_notes(pins, []) == ["3 pins belong to no picture of this run."]
    assert pin_notes({}, [ONE]) == []


# --- pins as verdicts ---


@pytest.mark.parametrize(
    ("one", "pin", "reason"),
    [
        (seen(0.33), "pass", "pinned by hand as pass; the recognizer says 0.33, below 0.40"),
        (seen(0.399), "pass", "pinned by hand as pass; the recognizer says 0.399, below 0.400"),
        (seen(0.7), "reject", "pinned by hand as reject; the recognizer says 0.70, which reaches 0.40"),
        (NOBODY, "pass", "pinned by hand as pass; the recognizer finds no face"),
        (
            seen((0.7, BLURRED)),
            "reject",
            "pinned by hand as reject; the recognizer says uncertain: the face is too blurred to judge; its score 0.70 is not relied on",
        ),
    ],
)
def test_a_pin_decides_and_the_reason_keeps_what_the_recognizer_says(one, pin, reason):
    (judgement,) = judge([one], HER, STANDARD, pins=[pin])
    assert (judgement.verdict, judgement.goes) == (pin, "passed" if pin == "pass" else "rejected")
    assert judgement.reason == reason and judgement.pinned == pin
    (unpinned,) = judge([one], HER, STANDARD, pins=[None])
    assert judgement.score == unpinned.score and judgement.about == unpinned.about and unpinned.pinned is None


def test_a_pin_overrules_max_score_and_a_missing_member_of_a_cast():
    (copy,) = judge([seen(0.99)], HER, Rules(0.4, "standard", max_score=0.9), pins=["pass"])
    assert copy.goes == "passed" and "too close a copy" in copy.reason
    (alone,) = judge([seen((np.array([0.7, 0.1]), {}))], cast("Ann", "Bea"), STANDARD, pins=["pass"])
    assert alone.goes == "passed" and alone.reason == "pinned by hand as pass; the recognizer says reject: Bea missing: 1 face for 2 people"


def test_keep_best_neither_counts_nor_drops_a_pinned_picture():
    pictures = [seen(0.9), seen(0.8), seen(0.7), seen(0.1)]
    judged = judge(pictures, HER, Rules(0.4, "standard", keep_best=1), pins=[None, None, "pass", "pass"])
    assert [one.verdict for one in judged] == ["pass", "reject", "pass", "pass"]


def test_a_pinned_picture_without_a_face_does_not_stop_a_run_that_others_would_stop():
    rules = Rules(0.4, "standard", no_face="error")
    (judgement,) = judge([NOBODY], HER, rules, pins=["reject"])
    assert judgement.goes == "rejected"
    with pytest.raises(NoFaceError, match=r"^Picture 2 shows no face"):
        judge([NOBODY, NOBODY], HER, rules, pins=["pass", None])


def test_the_match_rate_stays_the_recognizers_and_the_report_shows_the_pin():
    jsonschema = pytest.importorskip("jsonschema")
    measured = [seen(0.9), seen(0.1), seen(0.2)]
    judged = judge(measured, HER, STANDARD, pins=["reject", "pass", None])
    rate = match_rate(measured, HER)
    assert (rate.passed, rate.n) == (1, 3)
    told = [{"index": i, **picture_report(one, HER)} for i, one in enumerate(judged)]
    assert [one["pinned"] for one in told] == ["reject", "pass", None]
    assert [one["verdict"] for one in told] == ["reject", "pass", "reject"] and [one["score"] for one in told] == [0.9, 0.1, 0.2]
    jsonschema.validate(told, json.loads(SCHEMA.read_text())["properties"]["pictures"])


# --- what the panel is told ---

SCORES = st.floats(-0.2, 1.0).map(lambda score: round(score, 3))
FACES = st.lists(st.tuples(SCORES, st.sampled_from([{}, {}, SMALL, BLURRED, {"side": 300.0}, {"confidence": 0.55}])), max_size=4)


@st.composite
def pictures_of(draw, people: int):
    one = draw(FACES)
    if people == 1:
        return seen(*one) if one else NOBODY
    if not one:
        return Measured((), np.zeros((0, people)))
    return seen(*((np.array([score, *draw(st.lists(SCORES, min_size=people - 1, max_size=people - 1))]), looks) for score, looks in one))


@given(
    st.integers(1, 2).flatmap(lambda people: st.tuples(st.just(people), pictures_of(people))),
    st.sampled_from(choices.FACE_CHOICES),
    st.sampled_from(choices.UNCERTAIN),
    st.sampled_from(["reject", "pass"]),
    st.sampled_from([1.0, 0.6]),
    st.sampled_from(["allow", "reject"]),
)
def test_the_steps_say_at_every_threshold_what_judging_there_would_say(told, face, uncertain, no_face, max_score, strangers):
    people, one = told
    identities = cast("Ann", "Bea")[:people]
    rules = Rules(0.4, "standard", face, no_face, uncertain, max_score=max_score, strangers=strangers)
    looked_up = steps(one, identities, rules)
    assert looked_up[-1].upto is None and [step.upto for step in looked_up[:-1]] == sorted({step.upto for step in looked_up[:-1]})
    for threshold in [*np.arange(-0.3, 1.1, 0.05), *one.scores.flat]:
        (judgement,) = judge([one], identities, Rules(float(threshold), "custom", face, no_face, uncertain, max_score=max_score, strangers=strangers))
        step = next(step for step in looked_up if step.upto is None or threshold <= step.upto)
        assert (step.verdict, step.goes, step.score) == (judgement.verdict, judgement.goes, judgement.score)


def test_neighbouring_steps_differ_and_a_caption_counts():
    assert [(step.upto, step.verdict) for step in steps(seen(0.7), HER, STANDARD)] == [(0.7, "pass"), (None, "reject")]
    assert [step.verdict for step in steps(seen((0.7, BLURRED)), HER, STANDARD)] == ["uncertain"]
    assert [step.verdict for step in steps(NOBODY, HER, Rules(0.4, no_face="error"), "back view")] == ["not judged"]
    assert [step.verdict for step in steps(NOBODY, HER, Rules(0.4, no_face="error"))] == ["no face"]


def test_the_panel_is_told_thresholds_names_files_and_where_the_large_pictures_are():
    pictures, measured = [ONE, TWO], [seen(0.7), NOBODY]
    judged = judge(measured, HER, STANDARD, pins=[None, "pass"])
    told = panel(pictures, judged, HER, STANDARD, match_rate(measured, HER), ["a.jpg", None], names=["epoch 3", "epoch 4"], large=1)
    assert json.loads(json.dumps(told)) == told
    assert told["thresholds"] == {"loose": 0.3, "standard": 0.4, "strict": 0.5} and (told["applied"], told["strictness"]) == (0.4, "standard")
    assert told["match_rate"] == {"passed": 1, "n": 2} and told["large"] == 1 and told["identities"] == ["her"]
    first, second = told["pictures"]
    assert first == {
        "key": key_of(ONE),
        "name": "epoch 3",
        "file": "a.jpg",
        "reason": judged[0].reason,
        "pinned": None,
        "steps": [[0.7, "pass", "passed", 0.7], [None, "reject", "rejected", 0.7]],
    }
    # The pin is beside the steps, which stay the recognizer's.
    assert (second["pinned"], second["file"], second["steps"]) == ("pass", None, [[None, "no face", "rejected", None]])


def test_the_panel_has_the_colours_of_overlays_and_plots():
    text = (ROOT / "js" / "panel_style.js").read_text(encoding="utf-8")
    table = re.search(r"COLOURS = \{(.*?)\}", text, re.DOTALL).group(1)
    assert {name.strip('" '): colour for name, colour in re.findall(r'("?[a-z ]+"?): "(#\w{6})"', table)} == drawing.COLOURS
