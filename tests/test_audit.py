"""The audit: each rule on pictures that break it and on pictures that do not, what may be waived, the plan, the verdict, and what it decodes."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from character_likeness.nodes.errors import InputError, PictureError
from character_likeness.nodes.framing import FRAMINGS, framing_plan_of
from character_likeness.nodes.identity.identity import build_identity
from character_likeness.nodes.identity.scoring import needs_no_face
from character_likeness.nodes.lora_dataset import survey as surveying
from character_likeness.nodes.lora_dataset.audit import KNOWN_RULES, NEVER_WAIVED, AuditRules, audit
from character_likeness.nodes.lora_dataset.dataset import ATTENTION, BLOCKED, BODY, CHARACTER, READY, VERDICTS, Bucket, Dataset, DatasetItem, Given
from character_likeness.nodes.lora_dataset.plan import USUAL_PLAN, dataset_plan_of, held_against, missing_plan, missing_prompts
from character_likeness.nodes.lora_dataset.rules import RULES, leave_one_out
from character_likeness.nodes.lora_dataset.sheet import FAULTS, PER_SHEET, as_dict, report, sheet_count, sheets
from character_likeness.nodes.lora_dataset.survey import MOST_THREADS
from character_likeness.nodes.scene.shots import shot_list
from tests.conftest import ROOT

TRIGGER = "mira_k7"
TEXTS = ("standing", "sitting", "walking", "waving", "reading", "leaning", "kneeling", "running", "dancing", "resting")


@pytest.fixture(autouse=True)
def _nothing_remembered():
    surveying.forget()


def scene(seed, side=1024, height=None):
    """A sharp picture unlike those of other seeds: smooth shapes under grain."""
    chance = np.random.default_rng(seed)
    shapes = Image.fromarray(chance.integers(40, 200, (8, 8, 3), dtype=np.uint8)).resize((side, height or side), Image.Resampling.BICUBIC)
    grain = chance.integers(-30, 31, (height or side, side, 1), dtype=np.int16)
    return (np.asarray(shapes, np.int16) + np.repeat(np.repeat(grain[::4, ::4], 4, 0), 4, 1)[: height or side, :side]).clip(5, 250).astype(np.uint8)


def item(stem, pixels, bucket=CHARACTER, caption=None, **more):
    tag = f", {bucket.tag}" if bucket.tag else ""
    return DatasetItem(Given(stem, pixels), stem, bucket, f"{TRIGGER}{tag}, {stem}" if caption is None else caption, **more)


def dataset(*items, **more):
    return Dataset(tuple(items), TRIGGER, **more)


def rules_of(result, stem):
    return {finding.rule for one in result.dataset.items if one.stem == stem for finding in one.findings}


def text_of(result, stem, rule):
    return next(finding.text for one in result.dataset.items if one.stem == stem for finding in one.findings if finding.rule == rule)


def enlarged(picture, side=1024):
    return np.asarray(Image.fromarray(picture.pixels).resize((side, side), Image.Resampling.LANCZOS))


@dataclass
class Counted:
    """A source that tells how often it was decoded."""

    name: str
    array: np.ndarray
    key: str
    decoded: int = 0

    def pixels(self):
        self.decoded += 1
        return self.array


@dataclass(frozen=True)
class Broken:
    name: str = "broken.png"
    key: str = "00"

    def pixels(self):
        raise PictureError("broken.png is damaged or cut off (unexpected end).")


@dataclass(frozen=True)
class Reading:
    box: tuple = (300.0, 100.0, 500.0, 320.0)
    confidence: float = 0.9
    yaw: float | None = 0.0
    pitch: float | None = None
    framing: str = ""
    by_pose: bool = True


@dataclass(eq=False)
class Reader:
    """Readings by the brightness of the first pixel, as a landmark model would give them."""

    readings: dict = field(default_factory=dict)
    default: object = None
    asked: int = 0

    def read(self, pixels):
        self.asked += 1
        return self.readings.get(int(pixels[0, 0, 0]), self.default)


def marked(seed, mark, **more):
    pixels = scene(seed, **more)
    pixels[0, 0] = mark
    return pixels


# --- the picture by itself ---


def test_good_pictures_are_ready_and_measured():
    result = audit(dataset(*(item(text, scene(n)) for n, text in enumerate(TEXTS[:6]))))
    assert result.verdict == READY and result.reasons == () and result.counts == {READY: 6, ATTENTION: 0, BLOCKED: 0}
    assert all(one.measured["side"] == 1024 and len(one.measured["phash"]) == 16 for one in result.dataset.items)
    assert "No face was looked for" in " ".join(result.advice)


@pytest.mark.parametrize(
    ("width", "height", "rules"),
    [
        (1024, 1024, set()),
        (1344, 768, set()),  # 1 megapixel at 16:9 in steps of 32
        (704, 1408, set()),  # a bucket of sd-scripts at 1024
        (1600, 700, set()),  # its shorter side is less than 1024, its area is not
        (960, 960, {"resolution"}),
        (1024, 768, {"resolution"}),
        (63, 2000, {"too-small"}),
        (3, 3, {"too-small"}),
    ],
)
def test_the_size_is_held_against_the_area_of_the_bucket(width, height, rules):
    result = audit(dataset(item("standing", scene(1, width, height))), AuditRules(sharpness=0))
    assert rules_of(result, "standing") - {"exposure"} == rules
    assert result.verdict == (BLOCKED if "too-small" in rules else ATTENTION if rules else READY)


def test_a_crop_may_be_smaller_than_a_picture():
    whole = item("standing", scene(1))
    crops = [item(f"face_{side}", scene(side, side), parent="standing") for side in (512, 400)]
    result = audit(dataset(whole, *crops))
    assert rules_of(result, "face_512") == set() and rules_of(result, "face_400") == {"resolution"}


def test_a_blurred_picture_is_found_by_itself_and_a_soft_one_among_sharp_ones():
    soft = np.asarray(Image.fromarray(scene(7)).filter(ImageFilter.GaussianBlur(2)))
    blurred = np.asarray(Image.fromarray(scene(8)).filter(ImageFilter.GaussianBlur(9)))
    result = audit(dataset(*(item(text, scene(n)) for n, text in enumerate(TEXTS[:5])), item("soft", soft), item("blurred", blurred)))
    assert "median of 7 pictures" in text_of(result, "soft", "blur") and text_of(result, "blurred", "blur").startswith("Blurred: sharpness")
    assert {one.stem for one in result.dataset.items if one.level != READY} == {"soft", "blurred"}
    # Alone, or among too few, soft is no fault.
    assert rules_of(audit(dataset(item("soft", soft))), "soft") == set()


def test_softness_is_held_against_pictures_of_the_same_framing():
    soft = [np.asarray(Image.fromarray(scene(20 + n)).filter(ImageFilter.GaussianBlur(2))) for n in range(5)]
    sharp = [item(f"{text} far", scene(n), framing="full body") for n, text in enumerate(TEXTS)]
    near = [item(f"{text} near", pixels, framing="closeup") for text, pixels in zip(TEXTS, soft)]
    result = audit(dataset(*sharp, *near))
    assert not any("blur" in rules_of(result, one.stem) for one in result.dataset.items)


@pytest.mark.parametrize(("level", "word"), [(0, "black"), (255, "white")])
def test_more_than_five_per_cent_without_detail_needs_attention(level, word):
    def with_share(share):
        pixels = scene(3)
        pixels[: round(1024 * share)] = level
        return pixels

    result = audit(dataset(item("little", with_share(0.04)), item("much", with_share(0.2))), AuditRules(distance=0))
    assert rules_of(result, "little") == set() and "exposure" in rules_of(result, "much")
    assert f"20% {word}" in text_of(result, "much", "exposure")


def test_a_picture_that_cannot_be_read_blocks_and_the_others_are_audited():
    result = audit(dataset(item("standing", scene(1)), DatasetItem(Broken(), "broken", caption=f"{TRIGGER}, broken"), item("small", scene(2, 512))))
    assert result.verdict == BLOCKED and rules_of(result, "broken") == {"unreadable"} and rules_of(result, "small") == {"resolution"}
    assert text_of(result, "broken", "unreadable") == "broken.png is damaged or cut off (unexpected end)."
    assert [one.stem for one in result.dataset.items] == ["standing", "broken", "small"]


def test_an_empty_dataset_is_blocked():
    result = audit(dataset())
    assert result.verdict == BLOCKED and result.reasons == ("Blocked: The dataset has no picture.",)
    assert len(list(sheets(result))) == 1 and "The dataset has no picture" in report(result)


def test_captions_are_linted_too_and_an_empty_one_blocks():
    result = audit(dataset(item("standing", scene(1), caption=""), item("sitting", scene(2), caption="sitting")))
    assert rules_of(result, "standing") == {"empty-caption"} and rules_of(result, "sitting") == {"trigger-missing"} and result.verdict == BLOCKED
    described = audit(dataset(item("standing", scene(1), caption=f"{TRIGGER}, red hair")), AuditRules(traits="red hair"))
    assert rules_of(described, "standing") == {"fixed-trait"}


# --- pictures against each other ---


def test_of_near_duplicates_the_sharpest_is_kept():
    whole = scene(4)
    soft = np.asarray(Image.fromarray(whole).filter(ImageFilter.GaussianBlur(1)))
    result = audit(dataset(item("soft", soft), item("sharp", whole), item("other", scene(5))))
    assert rules_of(result, "soft") == {"duplicate"} and rules_of(result, "sharp") == rules_of(result, "other") == set()
    assert text_of(result, "soft", "duplicate").startswith("It shows the same as 'sharp'")
    assert next(one for one in result.dataset.items if one.stem == "soft").measured["duplicate_of"] == "sharp"


def test_a_higher_score_goes_before_sharpness_and_a_faultless_picture_before_both():
    whole = scene(4)
    soft = np.asarray(Image.fromarray(whole).filter(ImageFilter.GaussianBlur(1)))
    small = np.asarray(Image.fromarray(whole).resize((700, 700), Image.Resampling.LANCZOS))
    scored = audit(dataset(item("soft", soft, likeness=0.7), item("sharp", whole, likeness=0.5)))
    assert rules_of(scored, "sharp") == {"duplicate"} and rules_of(scored, "soft") == set()
    faulty = audit(dataset(item("small", small, likeness=0.9), item("soft", soft, likeness=0.5)))
    assert rules_of(faulty, "small") == {"duplicate", "resolution"} and rules_of(faulty, "soft") == set()


def test_a_crop_is_no_duplicate_of_its_own_parent():
    whole = scene(4)
    crop = item("standing_face", whole[8:-8, 8:-8], parent="standing")
    assert rules_of(audit(dataset(item("standing", whole), crop)), "standing_face") == set()
    assert rules_of(audit(dataset(item("standing", whole), replace(crop, parent="sitting"))), "standing_face") == {"duplicate"}


def test_the_same_picture_with_and_without_a_face_expected_is_blocked():
    whole = scene(4)
    result = audit(dataset(item("standing", whole), item("legs", whole, BODY)))
    assert {"two-buckets"} <= rules_of(result, "standing") & rules_of(result, "legs") and result.verdict == BLOCKED
    both = audit(dataset(item("standing", whole), item("again", whole, Bucket("portraits", 10))))
    assert both.verdict == ATTENTION and "in character" in text_of(both, "again", "duplicate") and "the same picture" in text_of(both, "again", "duplicate")


# --- who is in it ---


@pytest.mark.dlib
def test_whoever_is_unlike_the_others_is_found_without_an_identity(variants, dlib_recognizer):
    she = [item(f"she {how}", enlarged(picture), framing="closeup") for how, picture in variants[0].items()]
    result = audit(dataset(*she, item("stranger", enlarged(variants[2]["as it is"]))), recognizer=dlib_recognizer)
    assert "identity" in rules_of(result, "stranger") and "against the other pictures" in text_of(result, "stranger", "identity")
    assert not any("identity" in rules_of(result, one.stem) for one in she)
    assert all(one.measured["likeness_to_others"] > 0.6 for one in result.dataset.items if one.stem != "stranger")
    assert result.dataset.findings == ()


@pytest.mark.dlib
def test_several_strangers_do_not_pull_the_template_to_themselves(variants, dlib_recognizer):
    she = [item(f"she {how}", enlarged(picture)) for how, picture in variants[0].items()]
    strangers = [item(f"{who} {how}", enlarged(variants[who][how])) for who in (1, 2) for how in ("as it is", "mirrored")]
    result = audit(dataset(*she, *strangers), recognizer=dlib_recognizer)
    assert {one.stem for one in result.dataset.items if "identity" in rules_of(result, one.stem)} == {one.stem for one in strangers}


@pytest.mark.dlib
def test_an_identity_finds_a_dataset_of_somebody_else_which_its_own_pictures_cannot(variants, identities):
    he = [item(f"he {how}", enlarged(picture)) for how, picture in variants[2].items()]
    result = audit(dataset(*he), identity=identities[0])
    assert all("against person 1" in text_of(result, one.stem, "identity") for one in he)
    assert all("against the other pictures" not in text_of(result, one.stem, "identity") for one in he)
    own = audit(dataset(*he), identity=identities[2])
    assert not any("identity" in rules_of(own, one.stem) for one in he)
    assert all(one.measured["likeness"] > 0.6 for one in own.dataset.items)


@pytest.mark.dlib
def test_six_people_in_one_dataset_are_said_to_be_no_one_person(people, dlib_recognizer):
    result = audit(dataset(*(item(f"person {n}", enlarged(person)) for n, person in enumerate(people))), recognizer=dlib_recognizer)
    assert "of 6 pictures are unlike the others" in next(finding.text for finding in result.dataset.findings if finding.rule == "identity")


@pytest.mark.dlib
def test_the_crops_of_a_picture_do_not_speak_for_it(people, dlib_recognizer):
    # One stranger with three crops of him beside three pictures of her: by number he would be the character.
    faces = [dlib_recognizer.faces([person])[0].faces[0].embedding for person in (people[0], people[2])]
    chance = np.random.default_rng(0)
    her = [faces[0] + chance.normal(0, 0.01, faces[0].shape).astype(np.float32) for _ in range(3)]
    him = [faces[1] + chance.normal(0, 0.01, faces[0].shape).astype(np.float32) for _ in range(4)]
    scores = leave_one_out(dlib_recognizer, [*her, *him], ["a", "b", "c", "d", "d", "d", "d"], 0.4)
    assert min(scores[:3]) > 0.4 > max(scores[3:])


@pytest.mark.dlib
def test_two_pictures_cannot_tell_which_of_them_is_wrong(people, dlib_recognizer):
    result = audit(dataset(item("she", enlarged(people[0])), item("he", enlarged(people[2]))), recognizer=dlib_recognizer)
    assert not any("identity" in rules_of(result, stem) for stem in ("she", "he"))


@pytest.mark.dlib
def test_faces_are_wanted_in_one_bucket_and_unwanted_in_the_other(people, group, dlib_recognizer):
    items = (
        item("face", enlarged(people[0])),
        item("nobody", scene(1)),
        item("back view", scene(2)),
        item("crowd", group.pixels),
        item("legs", scene(3), BODY),
        item("legs with a face", enlarged(people[3]), BODY),
        # A profile that the detector is not sure of (0.60): no more a face than a fold of cloth is.
        item("legs with a profile", enlarged(people[1]), BODY),
    )
    result = audit(dataset(*items), recognizer=dlib_recognizer)
    found = {one.stem: rules_of(result, one.stem) & {"no-face", "several-faces", "unexpected-face"} for one in items}
    assert found == {
        "face": set(),
        "nobody": {"no-face"},
        "back view": set(),
        "crowd": {"several-faces"},
        "legs": set(),
        "legs with a face": {"unexpected-face"},
        "legs with a profile": set(),
    }
    assert "likeness" not in next(one for one in result.dataset.items if one.stem == "legs with a face").measured


@pytest.mark.dlib
def test_the_framing_is_held_against_the_size_of_the_face(people, group, dlib_recognizer):
    close = enlarged(people[0])
    items = [item(f"{framing} of her", close, framing=framing) for framing in FRAMINGS]
    items.append(item("full body by its caption", close, caption=f"{TRIGGER}, full body, in a park"))
    items.append(item("closeup of six", group.pixels, framing="closeup"))
    items.append(item("upper body of six", group.pixels, framing="upper body"))
    result = audit(dataset(*items), recognizer=dlib_recognizer)
    wrong = {one.stem for one in items if "framing" in rules_of(result, one.stem)}
    assert wrong == {"upper body of her", "cowboy shot of her", "full body of her", "full body by its caption", "closeup of six"}
    assert "the face takes 42% of the height, where at most 20% is usual" in text_of(result, "full body of her", "framing")


def test_landmarks_of_the_body_count_before_the_size_of_the_face():
    reader = Reader({1: Reading(framing="full body"), 2: Reading(framing="cowboy shot"), 3: Reading(box=(0, 0, 10, 900))})
    items = [item(f"upper {mark}", marked(mark, mark), framing="upper body") for mark in (1, 2, 3)]
    result = audit(dataset(*items), faces=reader)
    # A neighbour in the order of framings is a matter of taste.
    assert [bool(rules_of(result, one.stem) & {"framing"}) for one in items] == [True, False, True]
    assert "shows a full body by the landmarks" in text_of(result, "upper 1", "framing")
    assert result.dataset.items[0].measured["framing"] == "full body" and "framing" not in result.dataset.items[2].measured


def test_a_framing_that_a_reader_took_from_the_size_of_the_face_is_no_word_of_the_body():
    reader = Reader({1: Reading(framing="full body", by_pose=False)})
    result = audit(dataset(item("a", marked(1, 1), framing="upper body")), faces=reader)
    assert rules_of(result, "a") == set() and "framing" not in result.dataset.items[0].measured


def test_an_unsure_reading_is_no_unexpected_face():
    reader = Reader({1: Reading(confidence=0.55), 2: Reading(confidence=0.65)})
    result = audit(dataset(item("a", marked(1, 1), BODY), item("b", marked(2, 2), BODY)), faces=reader)
    assert [rules_of(result, stem) for stem in "ab"] == [set(), {"unexpected-face"}]


def test_a_reader_alone_finds_missing_and_unexpected_faces():
    reader = Reader({1: Reading()})
    items = (item("a", marked(1, 1)), item("b", marked(2, 2)), item("c", marked(3, 1), BODY), item("d", marked(4, 2), BODY))
    result = audit(dataset(*items), faces=reader)
    assert [rules_of(result, stem) & {"no-face", "unexpected-face"} for stem in "abcd"] == [set(), {"no-face"}, {"unexpected-face"}, set()]
    assert "Likeness was not measured" in " ".join(result.advice)


@pytest.mark.parametrize(("turned", "advised"), [(0, True), (1, True), (3, False)])
def test_only_faces_that_look_straight_ahead_are_advised_against(turned, advised):
    reader = Reader({n: Reading(yaw=40.0 if n < turned else 4.0) for n in range(10)})
    result = audit(dataset(*(item(text, marked(n, n)) for n, text in enumerate(TEXTS))), faces=reader)
    assert any("look straight ahead" in line for line in result.advice) == advised
    assert result.verdict == READY


# --- what the user lets pass ---


def test_a_waived_rule_stays_in_the_report_and_out_of_the_verdict():
    small = dataset(item("Standing", scene(1, 700)), item("sitting", scene(2, 700)), item("walking", scene(3)))
    one = audit(small, AuditRules(waive="standing: resolution"))
    assert [part.level for part in one.dataset.items] == [READY, ATTENTION, READY] and one.verdict == ATTENTION
    assert rules_of(one, "Standing") == {"resolution"} and one.dataset.items[0].decisions == ("The user lets pass: resolution.",)
    every = audit(small, AuditRules(waive="# all of them\n*: resolution, blur"))
    assert every.verdict == READY and every.reasons == () and "(let pass)" in report(every)
    assert one.dataset.items[2].decisions == ()


def testwaivers_of_an_earlier_audit_last_and_are_said_once():
    first = audit(dataset(item("standing", scene(1, 700))), AuditRules(waive="standing: resolution"))
    again = audit(first.dataset)
    assert again.verdict == READY and again.dataset.items[0].decisions == ("The user lets pass: resolution.",)


def test_a_waiver_of_all_takes_the_plan_too():
    planned = AuditRules(plan="3 closeup", waive="*: plan")
    assert audit(dataset(item("standing", scene(1))), planned).verdict == READY


def test_a_waiver_for_a_picture_that_is_not_there_is_said():
    result = audit(dataset(item("standing", scene(1))), AuditRules(waive="gone: blur"))
    assert "The waiver of gone was not used: no picture has that name." in result.advice
    result = audit(dataset(item("standing", scene(1))), AuditRules(waive="gone: blur\naway: blur"))
    assert "The waivers of gone, away were not used: no picture has such a name." in result.advice


def test_what_a_trainer_will_say_can_be_waived_beforehand():
    result = audit(dataset(item("standing", scene(1)), item("sitting", scene(2))), AuditRules(waive="standing: no control\n*: steps"))
    assert [one.waived for one in result.dataset.items] == [{"no control", "steps"}, {"steps"}] and result.dataset.waived == {"steps"}
    assert audit(result.dataset).dataset.waived == {"steps"}


@pytest.mark.parametrize(
    ("waive", "message"),
    [
        ("standing", "'standing' waives nothing"),
        ("standing:", "'standing:' waives nothing"),
        (": blur", "': blur' waives nothing"),
        ("standing: blurr", "'blurr' is no rule of the audit or of a trainer's check; the rules are .*blur"),
        ("standing: steps", "The rule steps is about the whole, not about one picture; write \\*: steps"),
        ("*: unreadable", "The rule unreadable cannot be waived"),
    ],
)
def test_a_waiver_that_cannot_be_read_is_one_sentence(waive, message):
    with pytest.raises(InputError, match=message):
        audit(dataset(item("standing", scene(1))), AuditRules(waive=waive))


def test_what_cannot_be_waived_is_blocked_even_where_an_item_says_it_is_waived():
    waived = DatasetItem(Broken(), "broken", caption=f"{TRIGGER}, broken", waived=frozenset({"unreadable"}))
    assert audit(dataset(waived)).verdict == BLOCKED


@pytest.mark.parametrize(("name", "value"), [("distance", 8), ("clipped", 1.5), ("resolution", -1), ("identity", 2.0), ("sharpness_share", -0.1)])
def test_a_limit_out_of_range_is_one_sentence(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}; it must be"):
        AuditRules(**{name: value})


def test_an_audit_again_replaces_its_own_findings_and_nobody_elses():
    from character_likeness.nodes.lora_dataset.dataset import Finding

    gate = Finding(ATTENTION, "gate", "The gate was uncertain.")
    small = dataset(item("standing", scene(1, 700), findings=(gate,)))
    first = audit(small)
    second = audit(first.dataset)
    assert [finding.rule for finding in second.dataset.items[0].findings] == ["resolution", "gate"]
    assert [finding.rule for finding in audit(second.dataset, AuditRules(resolution=600)).dataset.items[0].findings] == ["gate"]


# --- the plan ---


def test_a_plan_is_read_with_body_framings_and_with_buckets():
    plain = [(line.bucket, line.framing, line.planned) for line in dataset_plan_of(USUAL_PLAN)]
    assert plain == [("", "closeup", 20), ("", "full body", 30), ("", "variety", 20), ("body", "legs", 10), ("body", "torso", 10), ("body", "detail", 10)]
    named = [
        (line.bucket, line.framing, line.planned)
        for line in dataset_plan_of("full body: 30, closeup: 2\nportraits: 5 closeup, 1 detail\nbody: legs: 3\n1 full body")
    ]
    assert named == [("", "full body", 31), ("", "closeup", 2), ("portraits", "closeup", 5), ("portraits", "detail", 1), ("body", "legs", 3)]
    assert dataset_plan_of("") == ()


@pytest.mark.parametrize("text", ["20 faces", "body: 3 wings", "closeup", "portraits:", "body: "])
def test_a_plan_that_cannot_be_read_is_one_sentence(text):
    with pytest.raises(InputError, match="is no part of a framing plan"):
        dataset_plan_of(text)


def found(plan, *pictures):
    lines = held_against(dataset_plan_of(plan), [(DatasetItem(Broken(), str(n), bucket), framing) for n, (bucket, framing) in enumerate(pictures)])
    return {(line.bucket, line.framing): line.found for line in lines}, lines


def test_variety_takes_what_the_other_lines_leave_over():
    pictures = [(CHARACTER, "closeup")] * 4 + [(CHARACTER, "portrait"), (CHARACTER, ""), (BODY, "legs"), (BODY, "detail")]
    counts, lines = found("2 closeup, 3 full body, 5 variety\n2 legs, 1 torso", *pictures)
    assert counts == {("", "closeup"): 2, ("", "full body"): 0, ("", "variety"): 4, ("body", "legs"): 1, ("body", "torso"): 0}
    assert missing_plan(lines) == "3 full body, 1 variety"
    assert framing_plan_of(missing_plan(lines)) == (("full body", 3), ("variety", 1))


def test_a_line_for_a_bucket_is_filled_before_the_one_for_all():
    portraits = Bucket("portraits", 10)
    counts, _ = found("2 closeup\nportraits: 1 closeup", (portraits, "closeup"), (portraits, "closeup"), (CHARACTER, "closeup"))
    assert counts == {("", "closeup"): 2, ("portraits", "closeup"): 1}


def test_missing_shots_are_prompts_that_a_shot_list_takes_as_they_are():
    _, lines = found(USUAL_PLAN, (CHARACTER, "closeup"))
    prompts = missing_prompts(lines)
    assert len(prompts) == len(set(prompts)) == sum(line.missing for line in lines) == 99
    made = shot_list("\n".join(prompts), limit=1000)
    assert made.total == 99 and made.notes == ()
    assert (
        sum(FRAMINGS["closeup"].prompt in prompt for prompt in prompts) == 19 + 4
        and sum(FRAMINGS["full body"].prompt in prompt for prompt in prompts) == 30 + 4
    )
    assert sum(needs_no_face(prompt) for prompt in prompts) == 30


def test_a_plan_of_a_million_writes_no_million_prompts_and_says_so():
    result = audit(dataset(item("standing", scene(1))), AuditRules(plan="1000000 closeup"))
    assert len(result.missing_prompts) == 280 and any(line.startswith("Of 1000000 missing shots 280") for line in result.advice)


def test_the_plan_is_held_against_what_the_pictures_show():
    reader = Reader({1: Reading(framing="full body"), 2: Reading(framing="closeup"), 3: Reading(box=(0, 0, 10, 950))})
    items = [
        item("called closeup", marked(1, 1), framing="closeup"),  # but it is none
        item("by its caption", marked(2, 2), caption=f"{TRIGGER}, closeup, smiling"),
        item("by its face", marked(3, 3)),
        item("crop", marked(4, 2), framing="closeup", parent="by its caption"),  # beside its picture, not a picture more
        item("copy", marked(2, 2), framing="closeup"),
        DatasetItem(Broken(), "broken", caption=f"{TRIGGER}, broken", framing="closeup"),
    ]
    result = audit(dataset(*items), AuditRules(plan="4 closeup, 1 full body"), faces=reader)
    assert {line.framing: line.found for line in result.plan} == {"closeup": 2, "full body": 1}
    assert result.missing_plan == "2 closeup" and "Of the plan are missing: 2 of 4 closeup." in " ".join(result.reasons)
    believed = audit(dataset(*items), AuditRules(plan="4 closeup, 1 full body", waive="called closeup: framing"), faces=reader)
    assert {line.framing: line.found for line in believed.plan} == {"closeup": 3, "full body": 0}
    assert any("3 pictures do not count" in line for line in result.advice)


# --- looking once, and no more ---


def test_a_second_audit_of_unchanged_pictures_decodes_nothing():
    sources = [Counted(str(n), scene(n, 256), f"{n:02}") for n in range(12)]
    items = [DatasetItem(source, source.name, caption=f"{TRIGGER}, {source.name}") for source in sources]
    first = audit(dataset(*items))
    assert [source.decoded for source in sources] == [1] * 12
    second = audit(dataset(*items), AuditRules(resolution=200))
    assert list(sheets(second)) and [source.decoded for source in sources] == [1] * 12
    assert [one.measured for one in first.dataset.items] == [one.measured for one in second.dataset.items]
    sources[3].key, sources[3].array = "changed", scene(99, 256)
    third = audit(dataset(*items))
    assert [source.decoded for source in sources] == [1] * 3 + [2] + [1] * 8
    assert third.dataset.items[3].measured != first.dataset.items[3].measured


@pytest.mark.dlib
def test_faces_are_remembered_per_identity(people, dlib_recognizer):
    sources = [Counted(str(n), person.pixels, f"{n:02}") for n, person in enumerate(people[:3])]
    items = [DatasetItem(source, source.name, caption=f"{TRIGGER}, {source.name}") for source in sources]
    she, he = (build_identity([people[n]], dlib_recognizer, "x") for n in (0, 2))
    for identity, decoded in ((she, 1), (she, 1), (he, 2), (he, 2)):
        result = audit(dataset(*items), identity=identity)
        assert [source.decoded for source in sources] == [decoded] * 3
    assert result.dataset.items[2].measured["likeness"] > 0.9 > result.dataset.items[0].measured["likeness"]


def test_another_reader_reads_again_and_the_same_one_does_not():
    items = [item(text, marked(n, n, side=128)) for n, text in enumerate(TEXTS)]
    one, other = Reader(default=Reading()), Reader()
    for reader in (one, one, other, other):
        audit(dataset(*items), faces=reader)
    assert (one.asked, other.asked) == (10, 10)


def test_what_a_named_reader_read_is_remembered_after_it_is_gone():
    items = [item(text, marked(n, n, side=128)) for n, text in enumerate(TEXTS)]
    asked = 0
    for name in ("landmarks", "landmarks", "other landmarks"):
        reader = Reader(default=Reading())
        reader.name = name
        audit(dataset(*items), faces=reader)
        asked += reader.asked
    assert asked == 20


def test_every_picture_is_seen_in_order_and_few_are_open_at_once(monkeypatch):
    import threading

    lock, open_now, most = threading.Lock(), 0, 0

    class Watched(Counted):
        def pixels(self):
            nonlocal open_now, most
            with lock:
                open_now += 1
                most = max(most, open_now)
            pixels = super().pixels()
            with lock:
                open_now -= 1
            return pixels

    items = [DatasetItem(Watched(f"p{n}", np.full((64, 64 + n, 3), 90, np.uint8), f"{n:03}"), f"p{n}", caption=f"{TRIGGER}, {n}") for n in range(70)]
    told = []
    result = audit(dataset(*items), progress=lambda done, of: told.append((done, of)))
    assert [one.measured["width"] for one in result.dataset.items] == [64 + n for n in range(70)]
    assert told == [(n, 70) for n in range(1, 71)] and most <= MOST_THREADS


def test_an_interrupt_from_the_progress_ends_the_audit_and_keeps_what_was_seen():
    sources = [Counted(str(n), scene(n, 64), f"{n:02}") for n in range(60)]
    items = [DatasetItem(source, source.name, caption=f"{TRIGGER}, {source.name}") for source in sources]

    class Interrupted(Exception):
        pass

    def stop(done, of):
        if done == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        audit(dataset(*items), progress=stop)
    assert 5 <= sum(source.decoded for source in sources) < 60
    audit(dataset(*items))
    assert [source.decoded for source in sources] == [1] * 60


def test_the_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(surveying, "REMEMBERED", 5)
    items = [item(f"p{n}", scene(n, 64)) for n in range(20)]
    audit(dataset(*items))
    assert len(surveying._memory) == 5


# --- sheets and report ---


def many(count):
    names = [f"picture_{n:03}" for n in range(count)]
    return audit(dataset(*(item(name, scene(n, 64 if n % 7 else 1024)) for n, name in enumerate(names))), AuditRules(sharpness_share=0))


def test_a_sheet_has_at_most_sixty_pictures_and_the_worst_come_first():
    result = many(130)
    pages = list(sheets(result, "Mira"))
    assert len(pages) == sheet_count(result) == 3 and all(page.dtype == np.uint8 and page.shape[2] == 3 for page in pages)
    assert pages[0].shape[:2] == (44 + 6 * 268, 2008) and pages[2].shape[:2] == (44 + 3 * 268, 8 + 4 * 200)
    order = [VERDICTS.index(one.level) for one in sorted(result.dataset.items, key=lambda one: -VERDICTS.index(one.level))]
    assert order == sorted(order, reverse=True) and len(set(order)) > 1
    assert PER_SHEET == 60


def test_a_sheet_shows_the_picture_and_its_verdict_in_its_colour():
    red = np.full((300, 300, 3), (200, 30, 30), np.uint8)
    result = audit(dataset(item("red", red), item("fine", scene(1))), AuditRules(sharpness=0))
    page = next(iter(sheets(result)))
    assert page[44 + 2, 8 + 180].tolist() == [0xE6, 0x9F, 0x00] and page[44 + 2, 8 + 200 + 180].tolist() == [0x00, 0x9E, 0x73]
    assert np.abs(page[44 + 20 + 96, 8 + 96].astype(int) - (200, 30, 30)).max() < 6


def test_a_picture_that_cannot_be_read_has_its_place_on_the_sheet():
    result = audit(dataset(DatasetItem(Broken(), "broken", caption=f"{TRIGGER}, broken")))
    assert next(iter(sheets(result))).shape[0] == 44 + 268


def test_sheets_and_report_are_the_same_every_time():
    one, other = many(20), many(20)
    assert report(one) == report(other) and as_dict(one) == as_dict(other)
    for before, after in zip(sheets(one), sheets(other)):
        assert (before == after).all()


def test_a_users_words_are_only_words_in_the_report():
    wild = item("a|b *c* <script>", scene(1, 700), caption=f"{TRIGGER}, x")
    text = report(audit(dataset(wild, notes=("see `this` | <b>that</b>",), left_out=(("x|y.png", "is no\npicture"),))), "Mira | <i>K</i>")
    assert "<script>" not in text and "<b>" not in text and "<i>" not in text
    rows = [line for line in text.splitlines() if line.startswith("| a")]
    assert len(rows) == 1 and len(rows[0].replace("\\|", "").split("|")) == 10
    assert "- x\\|y.png: is no picture" in text


def test_the_report_has_verdict_plan_prompts_and_where_the_guide_speaks_of_it():
    result = audit(dataset(item("standing", scene(1, 700), framing="closeup")), AuditRules(plan="2 closeup\n1 legs"))
    text = report(result, "Mira")
    assert text.startswith("# Audit of Mira\n\n**Needs attention.** 1 picture: 0 Ready, 1 Needs attention, 0 Blocked.")
    assert "`1 closeup`" in text and all(prompt in text for prompt in result.missing_prompts)
    assert "training-guide.md#plastic-skin): resolution" in text and "training-guide.md#underfit): plan" in text
    assert "| character | 1 |  | 40 | 40 |" in text and text.endswith("\n") and "\r" not in text


def test_buckets_without_a_number_are_chosen_at_export():
    text = report(audit(dataset(item("standing", scene(1), Bucket("own")))))
    assert "| own | 1 |  | auto | chosen at export |" in text and "A pass shows" not in text


def test_the_json_is_the_same_story():
    result = audit(dataset(item("standing", scene(1, 700)), DatasetItem(Broken(), "broken", caption=f"{TRIGGER}, b")), AuditRules(waive="standing: resolution"))
    told = json.loads(json.dumps(as_dict(result)))
    assert told["verdict"] == BLOCKED and told["counts"] == {READY: 1, ATTENTION: 0, BLOCKED: 1}
    assert [(one["stem"], one["verdict"], [(f["rule"], f["waived"]) for f in one["findings"]]) for one in told["pictures"]] == [
        ("standing", READY, [("resolution", True)]),
        ("broken", BLOCKED, [("unreadable", False)]),
    ]


def test_every_rule_has_its_words_and_every_fault_its_section_in_the_guide():
    assert set(RULES) <= KNOWN_RULES and NEVER_WAIVED <= set(RULES)
    assert {rule for rules in FAULTS.values() for rule in rules} <= KNOWN_RULES
    guide = ROOT / "docs" / "training-guide.md"
    if not guide.is_file():
        pytest.skip("docs/training-guide.md is not there")
    headings = {line.lstrip("# ").strip() for line in guide.read_text(encoding="utf-8").splitlines() if line.startswith("#")}
    assert set(FAULTS) <= headings
