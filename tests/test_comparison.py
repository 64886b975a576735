"""Comparison of methods: what its figures are, when they are said to differ, and what stands in table, report, sheet and plot."""

import csv
import json
from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.identity.identity import Identity, Reference
from character_likeness.nodes.identity.recognizers import Face, Part, Recognizer, RecognizerInfo, Thresholds
from character_likeness.nodes.identity.scoring import MatchRate, Measured, Rules, measure
from character_likeness.nodes.lora_dataset import comparison, figures
from character_likeness.nodes.lora_dataset.comparison import compare, findings
from character_likeness.nodes.pictures import Picture

STANDARD = Rules(0.4, "standard")


def a_face(yaw=0.0):
    return Face((0.0, 0.0, 120.0, 120.0), 0.9, np.zeros((5, 2), np.float32), np.ones(4, np.float32), yaw, 0.2)


def person(metric="euclidean"):
    """An identity of a recognizer without models, with buffalo_l's thresholds."""
    part = Part("none", "none", True)
    recognizer = Recognizer(RecognizerInfo("bare", part, part, metric, 4, Thresholds(0.3, 0.4, 0.5, "none")))
    return Identity("Mira", recognizer, "mean", (Reference(0, a_face()),), np.zeros((4, 4, 3), np.uint8))


HER = person()
NO_FACE = Measured((), np.zeros((0, 1)))


def seen(*scores):
    """Measured pictures of these scores; None for one without a face."""
    return [NO_FACE if score is None else Measured((a_face(),), np.array([[score]])) for score in scores]


def compared(*groups, rules=STANDARD, seconds=None, identity=HER, labels=None):
    return compare(labels or [chr(ord("A") + i) for i in range(len(groups))], [seen(*group) for group in groups], identity, rules, seconds)


HIGH, LOW = [0.8, 0.82, 0.78, 0.81, 0.8, 0.79, 0.83, 0.8], [0.2, 0.22, 0.18, 0.21, 0.2, 0.19, 0.23, 0.2]


# --- what is typed in ---


def test_labels_are_lines_and_missing_ones_get_a_number():
    assert comparison.labels_of("Qwen edit\n\n  LoRA ", 4) == ["Qwen edit", "method 2", "LoRA", "method 4"]
    assert comparison.labels_of("", 2) == ["method 1", "method 2"]
    assert comparison.labels_of("\n\nLoRA\n\n", 3) == ["method 1", "method 2", "LoRA"]


def test_equal_labels_are_told_apart():
    labels = comparison.labels_of("LoRA\nLoRA\nLoRA (2)\nmethod 5", 5)
    assert len(set(labels)) == 5 and labels[:2] == ["LoRA", "LoRA (2)"]


def test_more_lines_than_methods_are_refused():
    with pytest.raises(InputError, match="labels has 3 lines for 2 methods; write one label a line, in the order of the images"):
        comparison.labels_of("a\nb\nc", 2)
    with pytest.raises(InputError, match="seconds has 2 lines for 1 method; write one time a line"):
        comparison.seconds_of("1\n2", 1)


def test_seconds_are_numbers_or_unknown():
    assert comparison.seconds_of("12.5\n-\n\n8 s", 5) == [12.5, None, None, 8.0, None]


@pytest.mark.parametrize("line", ["fast", "0", "-3", "nan", "inf", "1,5", "1e999"])
def test_seconds_that_are_no_time_are_refused_with_what_was_written(line):
    with pytest.raises(InputError, match=f"'{line}' in seconds is no time; write the seconds per picture of each method"):
        comparison.seconds_of(line, 1)


# --- figures ---


def test_figures_of_a_method_are_those_of_its_pictures():
    (row,) = comparison.rows(compared([0.6, 0.5, 0.3, None], seconds=[2.5]))
    rate = MatchRate(2, 4)
    assert (row["n"], row["passed"], row["match rate"], row["no face"], row["s per picture"]) == (4, 2, 0.5, 0.25, 2.5)
    assert (row["95% low"], row["95% high"]) == tuple(round(value, 4) for value in rate.interval)
    assert row["identity mean"] == pytest.approx(0.4667, abs=1e-4) and row["min"] == 0.3
    assert row["std"] == pytest.approx(np.std([0.6, 0.5, 0.3], ddof=1), abs=1e-4)


def test_the_interval_of_the_mean_is_students():
    (method,) = compared([0.1, 0.2, 0.3, 0.4]).methods
    # t of 0.975 with 3 degrees of freedom is 3.182446.
    half = 3.182446 * np.std([0.1, 0.2, 0.3, 0.4], ddof=1) / 2
    assert method.mean_interval == pytest.approx((0.25 - half, 0.25 + half), abs=1e-6)


@pytest.mark.parametrize("scores", [[], [None, None], [0.5], [0.5, None], [0.5, 0.5, 0.5]])
def test_a_mean_that_shows_no_spread_has_no_interval(scores):
    (method,) = compared(scores or [None]).methods
    assert method.mean_interval is None


def test_match_rates_are_at_standard_whatever_the_strictness_and_the_table_then_tells_both():
    strict = comparison.rows(compared([0.45, 0.55], rules=Rules(0.5, "strict")))[0]
    assert strict["passed"] == 2 and strict["pass at strict"] == 1
    assert "pass at standard" not in comparison.rows(compared([0.45, 0.55]))[0]


# --- what they allow to say ---


def test_methods_whose_intervals_overlap_are_not_called_different():
    said = " ".join(findings(compared([0.6, 0.3, 0.5, 0.38], [0.5, 0.35, 0.45, 0.3])))
    assert "By match rate A and B are not shown to differ: the 95% intervals overlap." in said
    assert "By identity mean A and B are not shown to differ" in said and "higher" not in said


def test_methods_whose_intervals_lie_apart_are_and_the_sentence_gives_them():
    said = findings(compared(HIGH, LOW))
    low, high = MatchRate(8, 8).interval
    assert said[0] == f"By match rate: A (1.00, {low:.2f} to {high:.2f}) is higher than B."
    assert any(sentence.startswith("By identity mean: A (0.80") and sentence.endswith("is higher than B.") for sentence in said)


def test_of_several_methods_it_says_which_pairs_differ_and_how_many_are_open():
    said = findings(compared(HIGH, [score - 0.01 for score in HIGH], LOW))[0]
    assert "A (1.00" in said and "B (1.00" in said and said.count("is higher than C") == 2
    assert said.endswith("; one pair is not shown to differ.")
    three = findings(compared([0.5, 0.3], [0.5, 0.3], [0.5, 0.3]))[0]
    assert three == "By match rate no two of the 3 methods are shown to differ: the 95% intervals overlap."


def test_one_that_is_above_all_others_is_said_to_be():
    said = findings(compared(HIGH * 3, LOW * 3, [0.3] * 12 + [0.5] * 12))[0]
    assert "A (1.00" in said and "is higher than every other method" in said


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=2, max_size=5))
def test_higher_is_said_of_exactly_the_pairs_whose_intervals_lie_apart(groups):
    counts = [(min(passed, n), n) for passed, n in groups]
    result = compared(*[[0.5] * passed + [0.3] * (n - passed) for passed, n in counts])
    said = findings(result)[0]
    rates = [MatchRate(*count) for count in counts]
    apart = sum(one.interval[0] > other.interval[1] for one in rates for other in rates)
    assert ("is higher than" in said) == (apart > 0)
    pairs = len(rates) * (len(rates) - 1) // 2
    if 0 < apart < pairs:
        open_ = pairs - apart
        assert ("one pair is" if open_ == 1 else f"the other {open_} pairs are") in said


def test_the_number_of_pictures_that_would_show_a_difference_is_the_least_that_does():
    said = findings(compared([0.5] * 7 + [0.3] * 3, [0.5] * 4 + [0.3] * 6))[1]
    assert said.startswith("A passes 7 of 10 and B 4 of 10: if these rates hold, about ")
    count = int(said.split("about ")[1].split()[0])

    def apart(n):
        return MatchRate(0.7 * n, n).interval[0] > MatchRate(0.4 * n, n).interval[1]

    assert apart(count) and not apart(count - 1)


def test_nothing_is_advised_where_rates_are_equal_or_already_told_apart():
    for groups in (([0.5, 0.3], [0.5, 0.3]), (HIGH, LOW)):
        assert not any("if these rates hold" in sentence for sentence in findings(compared(*groups)))


def test_one_method_has_nothing_to_be_compared_with():
    assert findings(compared(HIGH)) == ["A is the only method with pictures: there is nothing to compare it with."]
    assert findings(compared([], HIGH)) == ["B is the only method with pictures: there is nothing to compare it with."]


def test_a_method_without_any_face_is_marked_and_the_others_are_compared():
    result = compared(HIGH, [None] * 8, LOW)
    row = comparison.rows(result)[1]
    assert row["identity mean"] is None and row["min"] is None and row["no face"] == 1 and row["match rate"] == 0
    assert "B: none of its 8 pictures shows a face that can be judged." in result.notes
    said = " ".join(findings(result))
    assert "By identity mean: A" in said and "The identity mean of B has no interval" in said


def test_pictures_without_a_face_that_the_mean_leaves_out_are_told():
    assert "A: 3 of 11 pictures show no face that can be judged; its identity mean is of the others." in compared(HIGH + [None] * 3, LOW).notes


def test_different_counts_are_told_and_so_is_an_arcface_recognizer():
    notes = compared([0.5, 0.6], [0.5], identity=person("cosine")).notes
    assert any("The methods have 1, 2 pictures" in note for note in notes) and any("bare is an ArcFace recognizer" in note for note in notes)
    assert compared([0.5, 0.6], [0.5, 0.7]).notes == ()


def test_no_picture_at_all_is_refused():
    with pytest.raises(InputError, match="No picture arrived"):
        compared([], [])


def test_times_are_given_in_order_and_not_said_to_decide_anything():
    said = findings(compared(HIGH, LOW, HIGH, seconds=[12, None, 3.5]))
    assert said[-1] == "Time per picture as typed in: C 3.5 s, A 12 s."
    assert not any("Time" in sentence for sentence in findings(compared(HIGH, LOW, seconds=[12, None])))


# --- to read ---

HOSTILE = ["=HYPERLINK(1)", "a | b", "<script>", "two words, and a comma"]


def test_the_csv_reads_back_as_the_rows_and_no_label_is_a_formula():
    result = compared([0.5, None], [0.6, 0.7], [], HIGH, labels=HOSTILE, seconds=[1, None, None, 2])
    read = list(csv.DictReader(StringIO(comparison.as_csv(result))))
    assert [row["method"] for row in read] == ["'=HYPERLINK(1)", *HOSTILE[1:]]
    for row, own in zip(read, comparison.rows(result), strict=True):
        assert {name: row[name] for name in row if name != "method"} == {
            name: "" if value is None else str(value) for name, value in own.items() if name != "method"
        }


def test_every_line_of_the_table_has_as_many_cells_as_its_head():
    lines = comparison.table(compared([0.5], [0.6, 0.7], [], HIGH, labels=HOSTILE)).splitlines()
    assert len(lines) == 2 + 4
    cells = [line.replace("\\|", "").count("|") for line in lines]
    assert set(cells) == {len(comparison.COLUMNS) + 1}


def test_the_report_has_n_and_both_intervals_and_what_they_mean():
    text = comparison.markdown(compared(HIGH, LOW), "mira")
    assert text.startswith("# Comparison of methods mira\n") and "is higher than B" in text and "Wilson" in text and "Student" in text
    assert "<script>" not in comparison.markdown(compared([0.5], [0.6], labels=["<script>", "b"]))


def test_the_json_has_every_picture_with_its_verdict():
    result = compared([0.6, None], [0.2, 0.45], seconds=[1.5, None])
    told = json.loads(json.dumps(comparison.as_dict(result)))
    assert [(one["method"], one["index"], one["verdict"]) for one in told["pictures"]] == [
        ("A", 0, "pass"),
        ("A", 1, "no face"),
        ("B", 0, "reject"),
        ("B", 1, "pass"),
    ]
    assert told["aligned"] is True and told["findings"] == findings(result) and told["methods"][0]["s per picture"] == 1.5


# --- to look at ---


def plain(*shades):
    return [Picture(np.full((60, 40, 3), shade, np.uint8)) for shade in shades]


def corner(pixels, shade):
    mask = (pixels == np.array(shade)).all(axis=-1)
    return int(np.flatnonzero(mask.any(0))[0]), int(np.flatnonzero(mask.any(1))[0])


def test_methods_of_equal_counts_are_columns_and_what_stands_at_the_same_place_is_a_row():
    shades = [[(10, 10, 9), (20, 10, 9)], [(10, 30, 9), (20, 30, 9)], [(10, 50, 9), (20, 50, 9)]]
    pixels = comparison.sheet(compared([0.5, 0.6], [0.2, 0.1], [0.5, None]), [plain(*own) for own in shades])
    places = [[corner(pixels, shade) for shade in own] for own in shades]
    for first, second in places:
        assert first[0] == second[0] and first[1] < second[1]
    assert [own[0][1] for own in places] == [places[0][0][1]] * 3
    assert places[0][0][0] < places[1][0][0] < places[2][0][0]


@pytest.mark.parametrize("counts", [(2, 1), (3, 0), (25, 25), (4,)])
def test_methods_of_other_counts_are_rows(counts):
    groups = [[0.5] * count for count in counts]
    shades = [[(10 + 5 * j, 30 + 50 * i, 9) for j in range(count)] for i, count in enumerate(counts)]
    pixels = comparison.sheet(compared(*groups), [plain(*own) for own in shades])
    left = {corner(pixels, own[0])[0] for own in shades if own}
    assert len(left) == 1
    for own in shades:
        if len(own) > 1:
            first, second = (corner(pixels, shade) for shade in own[:2])
            assert first[1] == second[1] and first[0] < second[0]
    heights = [corner(pixels, own[0])[1] for own in shades if own]
    assert heights == sorted(set(heights))


def test_sheet_and_plot_show_at_the_strictness_that_was_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(figures, "strip_plot", lambda *given: asked.append(given))
    comparison.plot(compared([0.45, 0.55], [None, 0.2], rules=Rules(0.5, "strict"), seconds=[3, None]))
    comparison.plot(compared([0.45], rules=Rules(0.44, "custom")))
    (_, strips, _, thresholds), (_, _, _, custom) = asked
    assert strips[0].points == ((0.45, "reject"), (0.55, "pass")) and strips[1].points == ((None, "no face"), (0.2, "reject"))
    assert strips[0].mean == pytest.approx(0.5) and "match rate 1.00" in strips[0].note and strips[0].note.endswith(", 3 s")
    assert thresholds == [("loose", 0.3), ("standard", 0.4), ("strict", 0.5)] and custom[-1] == ("custom", 0.44)


# --- photographs ---


@pytest.mark.dlib
def test_photographs_of_her_are_told_from_those_of_another_and_a_method_that_mixes_both_lies_between(identities, variants):
    own, other = list(variants[0].values()), list(variants[1].values())
    groups = [own, other, own[:3] + other[:3]]
    result = compare(["own", "other", "both"], [measure(group, [identities[0]]) for group in groups], identities[0], Rules(0.5, "standard"))
    assert [method.standing.rate.rate for method in result.methods] == [1.0, 0.0, 0.5]
    said = findings(result)
    assert "own (1.00" in said[0] and "is higher than other" in said[0]
    assert "By identity mean: own" in said[-1]
    assert comparison.sheet(result, groups).shape[2] == 3 and comparison.plot(result).shape[2] == 3
