"""What a node tells while it makes pictures: times, and the score of the last one."""

from dataclasses import dataclass

import pytest

from character_likeness.nodes.telling import Clock, last_score, told


def test_the_clock_tells_the_time_left_from_the_time_taken():
    now = [0.0]
    clock = Clock(lambda: now[0])
    assert clock.left is None
    clock.plan(4)
    assert clock.left is None
    now[0] = 10.0
    clock.advance(0.5)
    assert clock.left == pytest.approx(70.0)
    clock.plan(4)
    assert clock.left == pytest.approx(150.0)


def test_times_are_told_in_round_figures():
    assert [told(s) for s in (0.2, 41, 89, 91, 300, 4800)] == ["1 s", "41 s", "89 s", "2 min", "5 min", "1 h 20 min"]


@dataclass
class Judgement:
    score: float | None
    verdict: str


def test_the_last_score_is_told_and_without_one_the_verdict():
    assert last_score(Judgement(0.579, "reject")) == "last score 0.58"
    assert [last_score(Judgement(None, verdict)) for verdict in ("no face", "not judged")] == ["last: no face", "last: not judged"]
