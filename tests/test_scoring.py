"""Scores and verdicts: the acceptance matrix on photographs, and every rule of the gates on faces made of numbers."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from character_likeness.nodes import demo
from character_likeness.nodes.errors import InputError, NoFaceError
from character_likeness.nodes.identity import scoring
from character_likeness.nodes.identity.identity import Identity, Reference, build_identity, distinctly_named
from character_likeness.nodes.identity.recognizers import Face, Found, Part, Recognizer, RecognizerInfo, Thresholds, open_recognizer, search
from character_likeness.nodes.identity.scoring import MatchRate, Measured, Rules, assign, doubt, judge, match_rate, measure, threshold_of
from character_likeness.nodes.pictures import Picture

dlib = pytest.mark.dlib
insightface = pytest.mark.insightface

SCHEMA = Path(__file__).resolve().parent.parent / "nodes" / "identity" / "report.schema.json"
STANDARD = Rules(0.4, "standard")


def bare(metric="cosine"):
    """A recognizer without models, with buffalo_l's thresholds."""
    part = Part("none", "none", True)
    return Recognizer(RecognizerInfo("bare", part, part, metric, 4, Thresholds(0.3, 0.4, 0.5, "none")))


def a_face(side=120.0, *, confidence=0.9, yaw=0.0, sharpness=0.2, x=0.0):
    return Face((x, 0.0, x + side, side), confidence, np.zeros((5, 2), np.float32), np.ones(4, np.float32), yaw, sharpness)


SMALL, BLURRED = {"side": 30.0}, {"sharpness": 0.001}


def seen(*faces):
    """A measured picture from (score or scores, looks of the face) per face."""
    rows = [(face, {}) if not isinstance(face, tuple) else face for face in faces]
    scores = np.array([np.atleast_1d(score) for score, _ in rows], dtype=np.float64).reshape(len(rows), -1)
    return Measured(tuple(a_face(x=200.0 * i, **{"side": 120.0, **looks}) for i, (_, looks) in enumerate(rows)), scores)


def cast(*names):
    return [Identity(name, bare(), "mean", (Reference(0, a_face()),), np.zeros((4, 4, 3), np.uint8)) for name in names]


HER = cast("her")
NOBODY = Measured((), np.zeros((0, 1)))


def verdict(one, rules=STANDARD, identities=HER, captions=None):
    return judge([one], identities, rules, captions)[0]


# --- photographs: what this is for ---


@dlib
def test_six_people_in_six_versions_are_each_known_from_one_reference(identities, variants, dlib_recognizer):
    pictures = [picture for versions in variants for picture in versions.values()]
    owners = [person for person, versions in enumerate(variants) for _ in versions]
    assert len(pictures) == 36
    standard = dlib_recognizer.info.thresholds.standard
    for person, identity in enumerate(identities):
        judged = judge(measure(pictures, [identity]), [identity], Rules(standard, "standard"))
        assert [judgement.verdict for judgement in judged] == ["pass" if owner == person else "reject" for owner in owners]
        own = [judgement.score for judgement, owner in zip(judged, owners) if owner == person]
        others = [judgement.score for judgement, owner in zip(judged, owners) if owner != person]
        assert min(own) > standard + 0.2 and max(others) < standard - 0.1


@dlib
def test_a_face_called_too_blurred_is_one_whose_score_has_fallen_among_strangers(people, identities, dlib_recognizer):
    """Portraits (face about 110 px) under a Gaussian of 3 to 4 pixels: the measurement behind LOWEST_SHARPNESS."""
    import cv2

    strict = dlib_recognizer.info.thresholds.strict
    sharp, fallen, doubted = [], [], []
    for person, identity in zip(people, identities):
        for sigma in (0, 1, 3, 4):
            pixels = cv2.GaussianBlur(person.pixels, (0, 0), sigma) if sigma else person.pixels
            for face in dlib_recognizer.faces([Picture(pixels)])[0].faces[:1]:
                score = identity.score(face.embedding[None])[0]
                (fallen if sigma >= 3 else sharp).append(score)
                if face.sharpness < scoring.LOWEST_SHARPNESS:
                    assert "blurred" in doubt(face)
                    doubted.append(score)
                else:
                    assert "blurred" not in (doubt(face) or "")
    assert min(sharp) > 0.8
    assert len(fallen) >= 8 and 0.3 < min(fallen) and max(fallen) < 0.65
    assert len(doubted) >= 5 and max(doubted) < strict


@dlib
def test_a_quarter_size_picture_is_not_called_a_stranger(identities, people):
    from PIL import Image

    tiny = Picture(np.asarray(Image.fromarray(people[0].pixels).resize((60, 60), Image.Resampling.LANCZOS)))
    judgement = verdict(measure([tiny], identities[:1])[0], Rules(0.5, "standard"), identities[:1])
    assert judgement.verdict in ("uncertain", "no face")


@dlib
def test_the_whole_cast_is_found_in_the_group_and_each_has_a_face_of_their_own(group, identities):
    (one,) = measure([group], identities)
    judgement = verdict(one, Rules(0.5, "standard"), identities)
    assert judgement.verdict == "pass" and len(set(judgement.chosen)) == 6
    left_to_right = [one.faces[face].box[0] for face in judgement.chosen]
    assert left_to_right == sorted(left_to_right)


@dlib
def test_the_cast_is_incomplete_in_a_picture_of_one_and_the_group_has_strangers_for_one(group, people, identities):
    two = identities[:2]
    alone = verdict(measure([people[0]], two)[0], Rules(0.5, "standard"), two)
    assert alone.verdict == "reject" and alone.reason == "person 2 missing: 1 face for 2 people"
    rules = Rules(0.5, "standard", strangers="reject")
    company = verdict(measure([group], two, thorough=True)[0], rules, two)
    assert company.verdict == "reject" and company.reason == "4 strangers are in the picture"
    assert verdict(measure([people[0]], two[:1], thorough=True)[0], rules, two[:1]).verdict == "pass"


@dlib
def test_a_picture_without_people_has_no_face(identities):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    assert verdict(measure([Picture(pixels)], identities[:1])[0], identities=identities[:1]).verdict == "no face"


# --- which face counts ---


def test_the_best_match_counts_by_default_and_the_largest_if_asked():
    one = seen((0.2, {"side": 300.0}), 0.7, 0.1)
    best = verdict(one)
    assert (best.verdict, best.score, best.chosen) == ("pass", 0.7, (1,))
    largest = verdict(one, Rules(0.4, "standard", "largest"))
    assert (largest.verdict, largest.score, largest.chosen) == ("reject", 0.2, (0,))


def test_every_face_must_pass_if_asked_and_the_lowest_decides():
    rules = Rules(0.4, "standard", "every face")
    low = verdict(seen(0.7, 0.3, 0.35), rules)
    assert (low.verdict, low.score, low.chosen) == ("reject", 0.3, (0, 1, 2))
    high = verdict(seen(0.7, 0.5), rules)
    assert (high.verdict, high.score) == ("pass", 0.5)


def test_with_every_face_a_doubtful_one_makes_it_uncertain_unless_a_clear_one_fails():
    rules = Rules(0.4, "standard", "every face")
    assert verdict(seen(0.7, (0.1, SMALL)), rules).verdict == "uncertain"
    assert verdict(seen(0.7, (0.9, SMALL)), rules).verdict == "uncertain"
    failing = verdict(seen((0.1, SMALL), 0.2, 0.7), rules)
    assert (failing.verdict, failing.score) == ("reject", 0.2)


def test_a_clear_face_that_passes_is_preferred_to_a_doubtful_one_that_scores_higher():
    judgement = verdict(seen((0.9, BLURRED), 0.6, (0.8, SMALL)))
    assert (judgement.verdict, judgement.score, judgement.chosen) == ("pass", 0.6, (1,))
    assert verdict(seen((0.9, BLURRED), 0.3)).verdict == "uncertain"
    assert verdict(seen((0.2, BLURRED), 0.3)).verdict == "reject"


def test_in_a_cast_too_a_clear_face_that_passes_is_preferred_to_a_doubtful_one_that_scores_higher():
    judgement = verdict(seen(([0.9, 0.0], SMALL), [0.6, 0.0], [0.0, 0.7]), identities=cast("Ann", "Bea"))
    assert (judgement.verdict, judgement.chosen) == ("pass", (1, 2))


def test_scores_a_hair_apart_are_told_with_as_many_digits_as_it_takes():
    assert verdict(seen(0.3996)).reason == "score 0.3996 is below 0.4000 (standard)"
    assert verdict(seen(0.9504), Rules(0.4, "standard", max_score=0.95)).reason.startswith("score 0.9504 is above max_score 0.9500")


def test_two_people_of_one_name_are_told_apart_by_a_number():
    assert [person.name for person in distinctly_named(cast("character", "Ann", "character", "character"))] == [
        "character",
        "Ann",
        "character 2",
        "character 3",
    ]


@pytest.mark.parametrize(
    "looks, words",
    [
        ({"side": 39.0}, "39 px, too small"),
        ({"confidence": 0.49}, "hardly recognizable"),
        ({"yaw": -70.0}, "turned away by about 70"),
        ({"sharpness": 0.014}, "too blurred"),
    ],
)
def test_a_face_that_cannot_be_judged_is_uncertain_whatever_it_scores(looks, words):
    for score in (0.05, 0.95):
        judgement = verdict(seen((score, looks)))
        assert judgement.verdict == "uncertain" and judgement.score == score
        assert words in judgement.reason and "not relied on" in judgement.reason


@pytest.mark.parametrize("looks", [{"side": 40.0}, {"confidence": 0.5}, {"yaw": 50.0}, {"yaw": -50.0}, {"sharpness": 0.015}])
def test_at_the_limit_a_face_is_judged(looks):
    assert verdict(seen((0.9, looks))).verdict == "pass" and verdict(seen((0.1, looks))).verdict == "reject"


@pytest.mark.parametrize(
    "score, word, reason",
    [
        (0.4, "pass", "score 0.40 reaches 0.40 (standard)"),
        (1.0, "pass", "score 1.00 reaches 0.40 (standard)"),
        (0.31, "reject", "score 0.31 is below 0.40 (standard)"),
        (-0.2, "reject", "score -0.20 is below 0.40 (standard)"),
        (0.3999, "reject", "score 0.3999 is below 0.4000 (standard)"),
    ],
)
def test_a_score_passes_from_the_threshold_on_and_the_reason_says_which(score, word, reason):
    judgement = verdict(seen(score))
    assert judgement.verdict == word and judgement.reason == reason
    assert judgement.goes == {"pass": "passed", "reject": "rejected"}[word]


# --- where pictures go ---


@pytest.mark.parametrize("setting, place", [("own output", "uncertain"), ("pass", "passed"), ("reject", "rejected")])
def test_uncertain_pictures_go_where_they_are_sent_and_stay_uncertain(setting, place):
    judgement = verdict(seen((0.9, SMALL)), Rules(0.4, uncertain=setting))
    assert (judgement.verdict, judgement.goes) == ("uncertain", place)


@pytest.mark.parametrize("setting, place", [("reject", "rejected"), ("pass", "passed")])
def test_pictures_without_a_face_go_where_they_are_sent(setting, place):
    judgement = verdict(NOBODY, Rules(0.4, no_face=setting))
    assert (judgement.verdict, judgement.goes, judgement.score) == ("no face", place, None)


def test_a_picture_without_a_face_can_be_an_error_that_names_it():
    with pytest.raises(NoFaceError, match=r"Picture 3 shows no face.*\.$"):
        judge([seen(0.9), seen(0.1), NOBODY], HER, Rules(0.4, no_face="error"))


@pytest.mark.parametrize("caption", ["sks woman, back view, park", "Legs only, sneakers", "torso only", "seen FROM BEHIND", "realistic_body, hands only"])
def test_a_shot_that_needs_no_face_by_its_caption_is_not_judged_and_passes(caption):
    judgement = verdict(NOBODY, captions=[caption])
    assert (judgement.verdict, judgement.goes, judgement.score) == ("not judged", "passed", None)
    assert verdict(NOBODY, Rules(0.4, no_face="error"), captions=[caption]).verdict == "not judged"


@pytest.mark.parametrize("caption", ["", "sks woman, portrait", "a comeback viewed by many", "long legs, only a hat", "in front of a backdrop"])
def test_other_captions_still_need_a_face(caption):
    assert verdict(NOBODY, captions=[caption]).verdict == "no face"


def test_a_face_is_judged_though_the_caption_needs_none():
    assert verdict(seen(0.1), captions=["back view"]).verdict == "reject"


# --- max_score and keep_best ---


def test_the_very_same_picture_is_not_too_close_a_copy_without_a_limit():
    assert verdict(seen(1.0000004)).verdict == "pass"
    assert verdict(seen(1.0000004), Rules(0.4, max_score=0.98)).verdict == "reject"


def test_above_max_score_a_picture_is_too_close_a_copy():
    judgement = verdict(seen(0.96), Rules(0.4, max_score=0.95))
    assert (judgement.verdict, judgement.goes) == ("reject", "rejected") and "too close a copy" in judgement.reason
    assert verdict(seen(0.95), Rules(0.4, max_score=0.95)).verdict == "pass"


def test_keep_best_keeps_the_highest_that_pass_and_says_so_of_the_others():
    pictures = [seen(0.6), seen(0.9), seen(0.2), seen(0.7), NOBODY, seen((0.95, SMALL))]
    judged = judge(pictures, HER, Rules(0.4, keep_best=2))
    assert [judgement.verdict for judgement in judged] == ["reject", "pass", "reject", "pass", "no face", "uncertain"]
    assert judged[0].reason == "passes with 0.60, but is not among the best 2 of 3 (from 0.70 on)" and judged[0].goes == "rejected"
    assert [judgement.verdict for judgement in judge(pictures, HER, Rules(0.4, keep_best=3))].count("pass") == 3


@given(st.lists(st.sampled_from([0.1, 0.5, 0.6, 0.7]), max_size=8), st.integers(0, 9))
def test_keep_best_never_keeps_more_and_never_a_worse_one(scores, count):
    judged = judge([seen(score) for score in scores], HER, Rules(0.4, keep_best=count))
    kept = [score for score, judgement in zip(scores, judged) if judgement.verdict == "pass"]
    passing = sorted((score for score in scores if score >= 0.4), reverse=True)
    assert sorted(kept, reverse=True) == (passing[:count] if count else passing)


# --- casts ---


def test_a_cast_passes_when_everyone_has_a_face_and_the_lowest_score_is_told():
    judgement = verdict(seen(([0.1, 0.6], {}), ([0.9, 0.2], {})), identities=cast("Ann", "Bea"))
    assert (judgement.verdict, judgement.score, judgement.chosen) == ("pass", 0.6, (1, 0))
    assert judgement.reason.startswith("Bea: ")


def test_one_face_is_not_taken_for_two_people():
    twins = cast("Ann", "twin")
    judgement = verdict(seen(([0.9, 0.8], {}), ([0.1, 0.2], {})), identities=twins)
    assert judgement.verdict == "reject" and judgement.reason.startswith("twin: ") and judgement.chosen == (0, 1)


def test_faces_are_given_out_so_that_all_pass_where_that_is_possible():
    judgement = verdict(seen(([0.9, 0.8], {}), ([0.6, 0.1], {})), identities=cast("Ann", "Bea"))
    assert (judgement.verdict, judgement.chosen) == ("pass", (1, 0))


def test_one_more_person_who_passes_outweighs_any_sum_of_scores():
    judgement = verdict(seen(([0.95, 0.45], {}), ([0.42, 0.35], {})), identities=cast("Ann", "Bea"))
    assert (judgement.verdict, judgement.chosen) == ("pass", (1, 0))  # 0.42 + 0.45, not 0.95 + 0.35


def test_who_is_missing_is_named():
    judgement = verdict(seen(([0.1, 0.9, 0.2], {})), identities=cast("Ann", "Bea", "Cy"))
    assert judgement.verdict == "reject" and judgement.reason == "Ann and Cy missing: 1 face for 3 people"
    assert judgement.chosen == (None, 0, None) and judgement.name_of(0, cast("Ann", "Bea", "Cy")) == "Bea"


def test_of_a_cast_one_who_is_clearly_not_there_decides_before_one_who_cannot_be_judged():
    both = cast("Ann", "Bea")
    doubtful = verdict(seen(([0.1, 0.9], SMALL), ([0.5, 0.1], {})), identities=both)
    assert doubtful.verdict == "uncertain" and doubtful.reason.startswith("Bea: ")
    for score in (0.1, 0.7):
        absent = verdict(seen(([0.0, score], SMALL), ([0.2, 0.0], {})), identities=both)
        assert absent.verdict == "reject" and absent.reason.startswith("Ann: ")


def test_strangers_are_allowed_unless_rejected_and_doubtful_ones_are_not_counted():
    both, pair = cast("Ann", "Bea"), [([0.9, 0.1], {}), ([0.1, 0.9], {})]
    stranger = ([0.1, 0.2], {})
    assert verdict(seen(*pair, stranger), identities=both).verdict == "pass"
    rules = Rules(0.4, strangers="reject")
    one = verdict(seen(*pair, stranger), rules, both)
    assert (one.verdict, one.goes, one.reason) == ("reject", "rejected", "a stranger is in the picture")
    assert verdict(seen(*pair, stranger, stranger), rules, both).reason == "2 strangers are in the picture"
    assert verdict(seen(*pair, ([0.1, 0.2], SMALL)), rules, both).verdict == "pass"


def test_a_cast_of_one_with_strangers_rejected_sees_the_others():
    assert verdict(seen(0.9, 0.1), Rules(0.4, strangers="reject")).reason == "a stranger is in the picture"
    assert verdict(seen(0.9), Rules(0.4, strangers="reject")).verdict == "pass"


def test_a_copy_of_any_member_of_the_cast_is_too_close():
    judgement = verdict(seen(([0.97, 0.1], {}), ([0.1, 0.6], {})), Rules(0.4, max_score=0.95), cast("Ann", "Bea"))
    assert judgement.verdict == "reject" and judgement.reason.startswith("Ann: ") and "too close" in judgement.reason


def best_by_trying_all(scores, threshold):
    faces, people = scores.shape
    options = []
    for order in permutations([*range(faces), *[None] * max(0, people - faces)], people):
        values = [scores[face, person] for person, face in enumerate(order) if face is not None]
        options.append((len(values), sum(value >= threshold for value in values), sum(values)))
    most = max(count for count, _, _ in options)
    return max((reached, total) for count, reached, total in options if count == most)


hundredths = st.one_of(st.integers(-100, 100), st.integers(30, 50)).map(lambda v: v / 100)


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=hundredths), st.sampled_from([-2, 0, 0.3, 0.4, 2]))
def test_the_assignment_is_the_best_of_all(scores, threshold):
    chosen = assign(scores, threshold)
    taken = [face for face in chosen if face is not None]
    assert len(set(taken)) == len(taken) == min(scores.shape)
    values = [scores[face, person] for person, face in enumerate(chosen) if face is not None]
    reached, total = best_by_trying_all(scores, threshold)
    assert sum(value >= threshold for value in values) == reached
    assert sum(values) == pytest.approx(total, abs=1e-9)


# --- the match rate ---


def test_the_match_rate_is_taken_at_standard_whatever_the_picture_was_gated_with():
    pictures = [seen(0.45), seen(0.35), seen(0.9), seen((0.9, SMALL)), NOBODY]
    captions = ["", "", "", "", ""]
    assert match_rate(pictures, HER, captions=captions) == MatchRate(2, 5)
    assert match_rate([*pictures, NOBODY], HER, captions=[*captions, "back view"]) == MatchRate(2, 5)
    for rules in (Rules(0.3, "loose"), Rules(0.95), Rules(0.4, no_face="pass", uncertain="pass", keep_best=1)):
        judged = judge(pictures, HER, rules)
        told = scoring.report([{"index": i, **scoring.picture_report(j, HER)} for i, j in enumerate(judged)], HER, rules, match_rate(pictures, HER))
        assert told["match_rate"]["passed"] == 2 and told["match_rate"]["n"] == 5


@pytest.mark.parametrize(
    "passed, n, low, high", [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718), (20, 20, 0.8389, 1.0)]
)
def test_the_interval_is_wilsons(passed, n, low, high):
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3; the last is the mirror image of the third."""
    rate = MatchRate(passed, n)
    assert rate.interval == pytest.approx((low, high), abs=6e-5) and rate.rate == passed / n


def test_match_rates_add_up_and_of_nothing_there_is_none():
    assert MatchRate(2, 3) + MatchRate(1, 4) == MatchRate(3, 7)
    assert MatchRate(0, 0).rate is None and MatchRate(0, 0).interval is None


# --- thresholds and recognizers ---


@pytest.mark.parametrize("strictness, value", [("loose", 0.3), ("standard", 0.4), ("strict", 0.5), ("custom", 0.77)])
def test_a_strictness_means_the_recognizers_own_threshold(strictness, value):
    assert threshold_of(HER[0], strictness, 0.77) == value


def test_an_unknown_strictness_is_refused_with_the_choices():
    with pytest.raises(InputError, match="choose loose, standard, strict, custom"):
        threshold_of(HER[0], "harsh", 0.5)


@insightface
def test_people_of_different_recognizers_cannot_be_judged_together(models_dir, face_packs):
    picture = Picture(face_packs.painted_face(1, 200))
    both = [build_identity([picture], open_recognizer(pack, models_dir), name) for pack, name in (("buffalo_l", "Ann"), ("antelopev2", "Bea"))]
    with pytest.raises(InputError) as error:
        measure([picture], both)
    text = str(error.value)
    assert all(word in text for word in ("Ann", "buffalo_l", "Bea", "antelopev2")) and text.endswith("build both with the same recognizer.")


# --- the search, and what is never done twice ---


@insightface
def test_judging_64_pictures_again_detects_and_embeds_nothing(buffalo, face_packs, monkeypatch):
    person = build_identity([Picture(face_packs.painted_face(1, 200))], buffalo)
    pictures = []
    for i in range(64):
        pixels = face_packs.background(160, 140)
        face_packs.paint(pixels, i % 4, 10, 10 + i % 8, 100, likeness=0.3 + i / 100)
        pictures.append(Picture(pixels))
    looks, embeds = [], []
    look, embed = search.look, buffalo.models()[1].embed
    monkeypatch.setattr(search, "look", lambda *args: looks.append(1) or look(*args))
    monkeypatch.setattr(buffalo.models()[1], "embed", lambda crops: embeds.append(1) or embed(crops))

    def passing(strictness):
        rules = Rules(threshold_of(person, strictness, 0.0), strictness)
        return [judgement.verdict for judgement in judge(measure([Picture(p.pixels.copy()) for p in pictures], [person]), [person], rules)].count("pass")

    loose = passing("loose")
    assert len(looks) == 64 and len(embeds) == 1
    standard, strict = passing("standard"), passing("strict")
    assert loose > standard > strict > 0
    assert len(looks) == 64 and len(embeds) == 1


@insightface
def test_the_best_match_is_searched_beyond_the_first_face_but_not_behind_a_prominent_one(buffalo, face_packs):
    her = build_identity([Picture(face_packs.painted_face(1, 200))], buffalo)
    crowd = face_packs.background(2400, 1400)
    face_packs.paint(crowd, 3, 300, 300, 200)
    face_packs.paint(crowd, 1, 1700, 700, 50)  # seen from half resolution on
    assert verdict(measure([Picture(crowd)], [her])[0], identities=[her]).verdict == "pass"
    assert verdict(measure([Picture(crowd)], [her], "largest")[0], Rules(0.4, face="largest"), [her]).verdict == "reject"
    face_packs.paint(crowd, 3, 300, 300, 400)
    one = measure([Picture(crowd)], [her])[0]
    assert len(one.faces) == 1 and verdict(one, identities=[her]).verdict == "reject"
    assert len(measure([Picture(crowd)], [her], thorough=True)[0].faces) == len(measure([Picture(crowd)], [her], "every face")[0].faces) == 2


# --- the report ---


@pytest.fixture(scope="module")
def valid():
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def reported(pictures, identities, rules, captions=None):
    judged = judge(pictures, identities, rules, captions)
    entries = [{"index": i, **scoring.picture_report(judgement, identities)} for i, judgement in enumerate(judged)]
    return scoring.report(entries, identities, rules, match_rate(pictures, identities, rules.face, captions), ["a note"])


def test_the_report_of_every_verdict_is_valid_json_of_the_documented_schema(valid):
    pictures = [seen(0.7, (0.2, SMALL)), seen(0.1), seen((0.6, BLURRED)), NOBODY, NOBODY]
    told = json.loads(json.dumps(reported(pictures, HER, STANDARD, ["", "", "", "", "back view"]), allow_nan=False))
    valid.validate(told)
    assert [entry["verdict"] for entry in told["pictures"]] == ["pass", "reject", "uncertain", "no face", "not judged"]
    assert [entry["goes_to"] for entry in told["pictures"]] == ["passed", "rejected", "uncertain", "rejected", "passed"]
    assert [len(entry["faces"]) for entry in told["pictures"]] == [2, 1, 1, 0, 0]
    first = told["pictures"][0]
    assert [face["taken_for"] for face in first["faces"]] == ["her", None]
    assert [face["doubt"] is None for face in first["faces"]] == [True, False]
    assert told["thresholds"] == {"loose": 0.3, "standard": 0.4, "strict": 0.5, "source": "none", "strictness": "standard", "applied": 0.4}
    assert told["match_rate"]["n"] == 4 and told["notes"] == ["a note"]


def test_the_report_of_a_cast_and_of_no_picture_is_valid_too(valid):
    both = cast("Ann", "Bea")
    told = reported([seen(([0.9, 0.1], {}), ([0.1, 0.7], {}), ([0.2, 0.0], {})), Measured((), np.zeros((0, 2)))], both, STANDARD)
    valid.validate(told)
    assert [face["taken_for"] for face in told["pictures"][0]["faces"]] == ["Ann", "Bea", None]
    assert told["pictures"][0]["faces"][0]["scores"] == {"Ann": 0.9, "Bea": 0.1} and told["identities"] == ["Ann", "Bea"]
    nothing = reported([], both, Rules(0.123456))
    valid.validate(nothing)
    assert nothing["match_rate"]["rate"] is None and nothing["thresholds"]["strictness"] == "custom"


@pytest.mark.parametrize("metric, raw", [("cosine", 0.7), ("euclidean", 0.3)])
def test_the_raw_value_is_what_the_recognizer_measures(metric, raw):
    her = [Identity("her", bare(metric), "mean", (Reference(0, a_face()),), np.zeros((4, 4, 3), np.uint8))]
    told = scoring.picture_report(verdict(seen(0.7), identities=her), her)
    assert (told["score"], told["raw"]) == (0.7, raw)


@pytest.mark.parametrize("change", [{"verdict": "maybe"}, {"extra": 1}, {"score": "high"}, {"index": -1}, {"path": "a.png"}])
def test_the_schema_refuses_what_is_not_documented(valid, change):
    told = reported([seen(0.7)], HER, STANDARD)
    told["pictures"][0].update(change)
    assert not valid.is_valid(told)


@dlib
def test_the_report_of_photographs_is_valid(valid, group, identities):
    told = reported(measure([group], identities), identities, Rules(0.5, "standard"))
    valid.validate(json.loads(json.dumps(told, allow_nan=False)))
    assert sorted(filter(None, (face["taken_for"] for face in told["pictures"][0]["faces"]))) == [f"person {i}" for i in range(1, 7)]
    assert told["recognizer"]["commercial"] is True and len(told["recognizer"]["file_hash"]) == 64


@pytest.mark.parametrize(
    "caption, needs_none",
    [
        ("mira, back view, red coat", True),
        ("mira walking away, seen from behind", True),
        ("woman standing, her back to the camera, rain", True),
        ("mira, legs only, sneakers", True),
        ("a rear view of her on a bench", True),
        ("realistic_body, torso, studio", True),
        ("portrait, smiling, rim light from behind", False),
        ("sunlight from behind her", False),
        ("she looks from behind a tree", False),
        ("full body only", False),
        ("hands only half visible", False),
        ("in a rear view mirror", False),
        ("", False),
        (None, False),
    ],
)
def test_only_a_caption_that_names_a_faceless_shot_excuses_the_missing_face(caption, needs_none):
    assert verdict(NOBODY, captions=[caption]).verdict == ("not judged" if needs_none else "no face")


def test_a_find_that_is_hardly_a_face_and_like_nobody_is_no_stranger_and_no_face_of_every_face():
    fold = {"confidence": 0.52}
    assert verdict(seen(0.8, (0.1, fold)), Rules(0.4, "standard", strangers="reject")).verdict == "pass"
    assert verdict(seen(0.8, (0.1, fold)), Rules(0.4, "standard", "every face")).verdict == "pass"
    assert verdict(seen(0.8, 0.1), Rules(0.4, "standard", strangers="reject")).verdict == "reject"
    assert verdict(seen((0.1, fold)), Rules(0.4, "standard", "every face")).verdict == "reject"


@dlib
def test_the_astronaut_is_alone_in_her_picture(dlib_recognizer):
    picture = demo.photograph("skimage", "data", "astronaut.png")
    her = [build_identity([picture], dlib_recognizer)]
    for rules in (Rules(0.5, "standard", strangers="reject"), Rules(0.5, "standard", "every face")):
        assert judge(measure([picture], her, rules.face, thorough=True), her, rules)[0].verdict == "pass"


def test_with_every_face_too_close_a_copy_among_them_is_refused():
    assert verdict(seen(0.99, 0.7), Rules(0.4, "standard", "every face", max_score=0.95)).verdict == "reject"
    assert verdict(seen(0.9, 0.7), Rules(0.4, "standard", "every face", max_score=0.95)).verdict == "pass"


def test_the_search_for_a_cast_goes_on_while_one_face_serves_for_two():
    asked = []

    class Recording:
        """A recognizer that has found one face, which is like both siblings, and asks whether that is enough."""

        info = bare().info
        fingerprint = "same"

        def faces(self, pictures, enough, tick):
            asked.append(enough(0, (a_face(),)))
            return [Found((a_face(),))]

    recognizer = Recording()
    siblings = [Identity(name, recognizer, "mean", (Reference(0, a_face()),), np.zeros((4, 4, 3), np.uint8)) for name in ("Ann", "Bea")]
    recognizer.score = lambda embeddings, template: np.full(len(embeddings), 0.9)
    measure([Picture(np.zeros((640, 640, 3), np.uint8))], siblings)
    assert asked == [False]
