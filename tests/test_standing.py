"""The figures of a group of pictures, against numbers by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_likeness.nodes.identity.scoring import MatchRate
from character_likeness.nodes.lora_dataset.standing import standing
from tests.tiny.sweeps import mira, seen

HER = mira()


def test_figures_by_hand():
    own = standing([*seen(0.3, yaw=-10), *seen(0.5, yaw=20), *seen(0.7, yaw=30), *seen(None)], HER)
    # Standard is 0.4: two of four pass, since no face is no pass. 0.2 is the deviation of 0.3, 0.5 and 0.7.
    assert (own.n, own.rate, own.scored, own.no_face) == (4, MatchRate(2, 4), 3, 0.25)
    assert (own.mean, own.least, own.deviation) == pytest.approx((0.5, 0.3, 0.2))
    assert own.standard_error == pytest.approx(0.2 / 3**0.5)
    # Of -10, 20 and 30: mean of the amounts 20; of the yaw itself 40 / 3, deviation from (-70/3)^2 + (20/3)^2 + (50/3)^2 over 2.
    assert own.yaw == pytest.approx(20) and own.yaw_deviation == pytest.approx(((4900 + 400 + 2500) / 9 / 2) ** 0.5)
    assert own.rate.interval == pytest.approx((0.1500, 0.8500), abs=1e-4)


def test_one_picture_has_no_error_and_no_deviation():
    own = standing(seen(0.6, yaw=-12), HER)
    assert (own.n, own.rate, own.deviation, own.yaw, own.yaw_deviation, own.standard_error) == (1, MatchRate(1, 1), 0.0, 12, 0.0, None)


def test_without_a_face_there_is_no_mean():
    own = standing(seen(None, None), HER)
    assert own.mean is own.least is own.deviation is own.yaw is own.yaw_deviation is own.standard_error is None
    assert (own.n, own.no_face, own.rate, own.scored) == (2, 1.0, MatchRate(0, 2), 0)


def test_nothing_has_a_standing_too():
    own = standing([], HER)
    assert (own.n, own.no_face, own.rate, own.mean) == (0, 0.0, MatchRate(0, 0), None)
    assert own.as_dict()["match_rate"]["interval_95"] is None


def test_a_prompt_that_needs_no_face_is_left_out_and_a_face_there_is_judged_all_the_same():
    captions = ["portrait", "back view", "back view"]
    own = standing(seen(0.6, None, 0.2), HER, captions)
    assert (own.n, own.rate, own.no_face, own.scored) == (2, MatchRate(1, 2), 0.0, 2)
    assert standing(seen(0.6, None, 0.2), HER).n == 3


def test_a_face_that_cannot_be_judged_does_not_pass_and_its_score_is_in_no_figure():
    own = standing([*seen(0.9, yaw=80), *seen(0.5)], HER)
    assert (own.rate, own.no_face, own.uncertain) == (MatchRate(1, 2), 0.0, 0.5)
    assert own.mean == own.least == pytest.approx(0.5) and own.scored == 1 and own.yaw == pytest.approx(0.0)


def test_of_several_faces_the_one_most_like_the_character_counts():
    both = seen(0.2, 0.7, yaw=15)
    one = type(both[0])(both[0].faces + both[1].faces, pytest.importorskip("numpy").array([[0.2], [0.7]]))
    own = standing([one], HER)
    assert own.mean == pytest.approx(0.7) and own.rate == MatchRate(1, 1)


def test_what_goes_into_json_is_rounded_and_has_all_figures():
    told = standing([*seen(1 / 3), *seen(None)], HER).as_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["mean"] == told["least"] == 0.3333 and (told["n"], told["scored"], told["no_face"], told["deviation"]) == (2, 1, 0.5, 0.0)
    assert told["match_rate"] == {"rate": 0.0, "passed": 0, "n": 2, "interval_95": [0.0, 0.6576], "strictness": "standard"}


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_figures_are_in_order_and_do_not_depend_on_that_of_the_pictures(scores):
    own, turned = standing(seen(*scores), HER), standing(seen(*scores[::-1]), HER)
    assert (own.n, own.rate, own.scored, own.no_face) == (turned.n, turned.rate, turned.scored, turned.no_face)
    assert own.n == len(scores) and own.rate.passed <= own.scored == sum(score is not None for score in scores)
    if own.scored:
        assert own.least - 1e-9 <= own.mean <= 1 and own.deviation >= 0 and own.mean == pytest.approx(turned.mean)
        assert own.no_face == pytest.approx(1 - own.scored / own.n)
