"""The shot list: products, plans, limits and seeds, and what may not change a shot."""

from collections import Counter
from itertools import product

import pytest

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.identity.scoring import needs_no_face
from character_likeness.nodes.scene.choices import ANGLE_2509, ANGLE_2511, DATASET_PLAN
from character_likeness.nodes.scene.prompts import PictureLabel, complete
from character_likeness.nodes.scene.shots import (
    DEFAULT_TEMPLATE,
    FRAMINGS,
    MOST_SHOTS,
    OWN_SEEDS,
    SAME_SEEDS,
    VARIANT_STEP,
    VARIETY,
    Shot,
    framing_plan_of,
    shot_list,
    shots_from_sentences,
    single_shot,
)

SCENES = "stands in a kitchen\nwalks along a beach"
# A caption that shows, part by part, which line of each list was taken.
CODED = "{scene}, {framing}, {angle}, {light}, {expression}, {outfit}"


def lines(letter, count):
    return "\n".join(f"{letter}{i}" for i in range(count))


def coded(sizes, **options):
    """A list whose captions are made of s0, v0, l0, e0, o0 and so on."""
    names = ("scenes", "angles", "lighting", "expressions", "outfits")
    return shot_list(**{name: lines(letter, size) for name, letter, size in zip(names, "svleo", sizes)}, template=CODED, **options)


def prompts_of(made):
    return [shot.prompt for shot in made.shots]


def ids_of(made):
    return [shot.id for shot in made.shots]


# --- lists and template ---


def test_a_list_is_one_entry_a_line_without_blanks_comments_and_windows_line_ends():
    made = shot_list("  a street \r\n\r\n# not this\r\n   # nor this\r\na  \tbeach\r\n", template="{scene}")
    assert prompts_of(made) == ["a street", "a beach"]
    assert made.total == 2 and made.notes == ()


def test_without_a_plan_every_combination_comes_once_scenes_outermost():
    made = coded((2, 2, 3, 1, 2))
    assert [shot.caption for shot in made.shots] == [
        f"v{v}, e{e}, o{o}, l{li}, s{s}" for s, v, li, e, o in product(range(2), range(2), range(3), range(1), range(2))
    ]
    assert made.total == 24


def test_the_default_template_reads_well_with_and_without_its_parts():
    full = shot_list("stands in a kitchen.", "back view", "soft light", "a smile", "a red coat", "1 full body").shots[0]
    assert complete(full.prompt, "Mira") == "Mira stands in a kitchen, a smile, wearing a red coat, soft light, full body shot, head to toe, back view"
    assert complete(shot_list("stands in a kitchen").shots[0].prompt, "Mira") == "Mira stands in a kitchen"


def test_trigger_and_character_are_filled_in_where_given_and_wait_otherwise():
    template = "{trigger}, {character} {scene}"
    assert prompts_of(shot_list("waits", template=template)) == ["{trigger}, {character} waits"]
    assert prompts_of(shot_list("waits", template=template, trigger="mira_k", character="Mira")) == ["mira_k, Mira waits"]
    odd = shot_list("waits", template=template, trigger="{m}", character="[M]").shots[0]
    assert complete(odd.prompt) == "{m}, [M] waits"


def test_a_scene_with_a_field_of_its_own_takes_it_from_the_template():
    made = shot_list("{character} waits in {light} for {picture:dog}\nsleeps", lighting="dusk", trigger="mira_k")
    waits, sleeps = made.shots
    assert complete(waits.prompt, "Mira", [PictureLabel(1, "dog")]) == "Mira waits in dusk for Picture 1"
    assert complete(sleeps.prompt, "Mira") == "Mira sleeps, dusk"
    assert waits.caption == "mira_k, waits in dusk for"
    assert sleeps.caption == "mira_k, dusk, sleeps"


def test_lines_may_have_late_fields_and_doubled_signs():
    made = shot_list("waits", outfits="the coat of {picture:outfit}", expressions="{{:[[", trigger="mira_k")
    assert complete(made.shots[0].prompt, "Mira", [PictureLabel(2, "outfit")]) == "Mira waits, {:[, wearing the coat of Picture 2"
    assert made.shots[0].caption == "mira_k, {:[, the coat of, waits"


@pytest.mark.parametrize("scenes", ["", " \n\t", "# only\n#comments"])
def test_no_scene_at_all_is_refused(scenes):
    with pytest.raises(InputError, match="There is no scene"):
        shot_list(scenes, "back view")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "{scene} {lighting}"}, r"'\{lighting\}' is not a field here; use \{scene\}, \{angle\}"),
        ({"scenes": "a {place}"}, r"'\{place\}' is not a field here"),
        ({"scenes": "a {scene}"}, r"'\{scene\}' is not a field here"),
        ({"outfits": "a {light} coat"}, r"'\{light\}' is not a field here; use \{character\}"),
        ({"angles": "from {"}, "The { at character 6"),
        ({"template": "{character}, {light}"}, r"The template has no \{scene\}"),
        ({"template": "{scene}", "framing_plan": "2 closeup"}, r"needs \{framing\} in the template"),
        ({"limit": 0}, "limit is 0; it must be 1 to 1000"),
        ({"limit": MOST_SHOTS + 1}, "limit is 1001"),
        ({"seeds_per_shot": 0}, "seeds_per_shot is 0; it must be 1 to 64"),
        ({"seeds_per_shot": 65}, "seeds_per_shot is 65"),
        ({"seeds": "random"}, "'random' is not a choice here; choose own for each shot or same for every shot"),
        ({"angle_vocabulary": "klingon"}, "'klingon' is not a choice here; choose plain words or 2509 angle LoRA or 2511 angle LoRA"),
        ({"lighting": "a\n" + "x" * 10_001}, "Entry 2 of lighting has 10001 characters; 10000 is the most"),
        ({"template": "{scene}" + "x" * 10_000}, "The template has 10007 characters"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        shot_list(**{"scenes": SCENES, **options})


def test_a_line_that_says_the_same_as_another_is_left_out_and_told():
    made = shot_list("a\nb\na", "from behind\nback view\nBack View", template="{scene}, {angle}")
    assert prompts_of(made) == ["a, back view", "b, back view"]
    assert "scenes: 1 of 3 lines say the same as another and were left out." in made.notes
    assert "angles: 2 of 3 lines say the same as another and were left out." in made.notes


def test_a_list_that_no_prompt_uses_is_left_out_and_told():
    made = shot_list("a\nb", lighting="dusk\ndawn", template="{scene}")
    assert made.total == 2 and [shot.caption for shot in made.shots] == ["a", "b"]
    assert made.notes == ("lighting: not used, since the template has no {light}.",)


def test_a_caption_says_nothing_that_its_prompt_does_not():
    made = shot_list("waits in {light}\nsleeps", lighting="dusk\ndawn", template="{scene}")
    assert [shot.caption for shot in made.shots] == ["waits in dusk", "waits in dawn", "sleeps"]
    assert "1 shots were left out: their prompts are those of other shots." in made.notes


def test_a_caption_leaves_out_pictures_with_the_words_that_lead_to_them():
    said = {
        "{character} of {picture:face} stands": "stands",
        "the woman of {picture:face} sits, wearing the coat from {picture:outfit}": "the woman sits, wearing the coat",
        "jumps like the one in {picture:pose} at dusk": "jumps at dusk",
        "{character}[ of {picture:face}] waits": "waits",
    }
    assert {scene: single_shot(scene).caption for scene in said} == said
    assert {scene: shot_list(scene).shots[0].caption for scene in said} == said


def test_a_scene_that_names_the_character_itself_leaves_the_picture_of_it_out_of_the_template_too():
    (shot,) = shot_list("in {light}, {character} waits for {picture:dog}", lighting="dusk").shots
    assert shot.prompt == "in dusk, {character} waits for {picture:dog}"


def test_angles_that_a_lora_cannot_tell_apart_are_one_shot():
    made = shot_list("waits", "high angle\ntop-down", angle_vocabulary=ANGLE_2511)
    assert len(made.shots) == 1 and any("left out" in note for note in made.notes)


# --- angles ---


def test_a_caption_says_the_angle_in_plain_words_whatever_the_lora():
    captions = {shot_list("waits", "from behind", angle_vocabulary=v).shots[0].caption for v in ("plain words", ANGLE_2509, ANGLE_2511)}
    assert captions == {"back view, waits"}
    assert needs_no_face(captions.pop())


def test_the_2511_lora_s_phrase_stands_first_as_its_own_sentence():
    made = shot_list("waits", "back view", "dusk", angle_vocabulary=ANGLE_2511)
    assert prompts_of(made) == ["<sks> back view eye-level shot medium shot. {character}[ of {picture:face}] waits, dusk"]


def test_the_2509_lora_s_commands_stand_last_as_their_own_sentences():
    command = "将镜头向左旋转45度 Rotate the camera 45 degrees to the left."
    made = shot_list("waits", "front left\nfront", "dusk", angle_vocabulary=ANGLE_2509)
    assert prompts_of(made) == [f"{{character}}[ of {{picture:face}}] waits, dusk. {command}", "{character}[ of {picture:face}] waits, dusk"]
    bare = shot_list("Where is she?\n{character} waits.", "front left", template="{scene}", angle_vocabulary=ANGLE_2509)
    assert prompts_of(bare) == [f"Where is she? {command}", f"{{character}} waits. {command}"]


def test_words_that_the_lora_does_not_know_stand_where_the_template_has_them_and_are_told():
    made = shot_list("waits", "dutch tilt\ntop down", angle_vocabulary=ANGLE_2511)
    assert prompts_of(made) == [
        "{character}[ of {picture:face}] waits, dutch tilt",
        "<sks> front view high-angle shot medium shot. {character}[ of {picture:face}] waits",
    ]
    assert any("used as written" in note and "dutch tilt" in note for note in made.notes)
    assert any("straight above" in note for note in made.notes)
    assert prompts_of(shot_list("waits", "dutch tilt", template="{scene}", angle_vocabulary=ANGLE_2511)) == ["waits. dutch tilt"]


def test_under_a_plan_the_framing_decides_the_distance():
    made = shot_list("waits", "back, wide shot\nclose-up", framing_plan="2 closeup", angle_vocabulary=ANGLE_2511)
    assert sorted(prompts_of(made)) == [
        "<sks> back view eye-level shot close-up. {character}[ of {picture:face}] waits, close-up of the face",
        "{character}[ of {picture:face}] waits, close-up of the face",
    ]
    assert sorted(shot.caption for shot in made.shots) == ["closeup, back view, waits", "closeup, waits"]
    assert any("the plan sets the framing" in note for note in made.notes)
    full = shot_list("waits", "back, close-up", framing_plan="1 full body", angle_vocabulary=ANGLE_2511)
    assert full.shots[0].prompt.startswith("<sks> back view eye-level shot wide shot. ")


# --- the framing plan ---


@pytest.mark.parametrize(
    "text",
    [
        "20 closeup, 30 full body",
        "20x closeup\n30 X Full-Body",
        "closeup: 20; full body = 30",
        "20 close-ups\n# no\n\n30 full body shots",
        "close up 20, full_body x 30",
        "20xcloseup,30 fullbody,",
    ],
)
def test_a_plan_is_read_in_any_usual_form(text):
    assert framing_plan_of(text) == (("closeup", 20), ("full body", 30))


def test_every_framing_can_be_planned():
    names = (*FRAMINGS, "variety")
    assert framing_plan_of(", ".join(f"1 {name}" for name in names)) == tuple((name, 1) for name in names)
    assert framing_plan_of("2 portraits, 2 cowboy shots, 2 cowboy, 2 details") == (("portrait", 2), ("cowboy shot", 2), ("cowboy shot", 2), ("detail", 2))
    assert framing_plan_of(" \n# nothing") == ()


@pytest.mark.parametrize("text", ["20 panorama", "closeup", "20", "0 closeup", "3 4 closeup", "-x closeup", "9999999999 closeup", "20 closeup 30 portrait"])
def test_a_plan_that_cannot_be_read_is_told_with_the_framings_there_are(text):
    with pytest.raises(
        InputError, match="no part of a framing plan; write a count and one of closeup, portrait, upper body, cowboy shot, full body, detail or variety"
    ):
        framing_plan_of(text)


def test_the_dataset_plan_makes_its_seventy_shots():
    made = coded((10, 3), framing_plan=DATASET_PLAN)
    assert made.total == len(made.shots) == 70
    framings = [shot.framing for shot in made.shots]
    assert framings[:50] == ["closeup"] * 20 + ["full body"] * 30
    assert Counter(framings[50:]) == dict.fromkeys(VARIETY, 4)


def test_a_prompt_has_the_framing_s_words_and_a_caption_its_name():
    for name, framing in FRAMINGS.items():
        shot = shot_list("waits", framing_plan=f"1 {name}", trigger="mira_k").shots[0]
        assert shot.prompt == f"{{character}}[ of {{picture:face}}] waits, {framing.prompt}"
        assert (shot.framing, shot.caption) == (name, f"mira_k, {name}, waits")


def test_a_plan_with_more_shots_than_combinations_takes_them_again_with_other_seeds():
    for seeds in (OWN_SEEDS, SAME_SEEDS):
        made = shot_list(SCENES, framing_plan="5 closeup", seeds=seeds, seeds_per_shot=2)
        assert made.total == len(made.shots) == len({(shot.prompt, shot.seed_offset) for shot in made.shots}) == len(set(ids_of(made))) == 10
        assert any("2 combinations" in note and "closeup (5 shots)" in note for note in made.notes)


# --- limit, seeds, ids ---


def test_the_limit_takes_shots_from_all_over_the_list_and_says_so():
    made = coded((6, 5, 8), limit=100)
    assert (len(made.shots), made.total) == (100, 240)
    assert "100 of 240 shots: the limit is 100." in made.notes
    assert ids_of(made) == [number for number in ids_of(coded((6, 5, 8), limit=1000)) if number in set(ids_of(made))]


def test_a_list_of_a_million_shots_is_sampled_in_all_its_lists():
    made = coded((10, 10, 10, 10, 10), limit=100, seeds_per_shot=10)
    assert (len(made.shots), made.total) == (100, 1_000_000)
    parts = Counter(part for shot in made.shots for part in shot.caption.split(", "))
    assert len(parts) == 50 and min(parts.values()) >= 5
    assert {parts[f"s{i}"] for i in range(10)} == {10}


def test_a_list_of_any_length_is_never_written_out():
    made = coded((500, 500, 500, 500, 500), limit=3, seeds_per_shot=64)
    assert (len(made.shots), made.total) == (3, 64 * 500**5)
    assert coded((500, 499), framing_plan="999999999 variety, 999999999 detail", limit=3).total == 1_999_999_998


def test_seeds_of_variants_lie_so_far_apart_that_takes_never_meet():
    same = shot_list("a\nb", seeds_per_shot=64, seeds=SAME_SEEDS, limit=1000)
    for prompt in set(prompts_of(same)):
        assert [shot.seed_offset for shot in same.shots if shot.prompt == prompt] == [k * VARIANT_STEP for k in range(64)]
    own = shot_list("a\nb", seeds_per_shot=64, limit=1000)
    offsets = [shot.seed_offset for shot in own.shots]
    assert all(0 <= offset < 2**38 and offset % VARIANT_STEP == 0 for offset in offsets)
    assert len(set(offsets)) == 128


def test_an_id_is_eight_hexadecimal_digits_of_the_shot_s_content():
    shot = shot_list("a street", template="{scene}", trigger="mira_k").shots[0]
    assert len(shot.id) == 8 and int(shot.id, 16) >= 0
    assert shot_list("a street", template="{scene}", trigger="mira_k").shots[0] == shot
    # Written down: ids name files, and must be the same tomorrow.
    assert shot.id == "2cd373f6"
    assert shot_list("a street", template="{scene}", trigger="other").shots[0].id != shot.id


def test_two_ids_that_meet_are_told_apart(monkeypatch):
    from character_likeness.nodes.scene import shots

    real = shots.blake2b
    monkeypatch.setattr(shots, "blake2b", lambda text, digest_size: real(text[-5:] if text.endswith(b"again") else b"", digest_size=digest_size))
    made = shot_list("a\nb")
    assert len(set(ids_of(made))) == 2


# --- sentences ---


def test_a_single_shot_is_its_sentence_with_the_given_seed():
    shot = single_shot("  {character} waits\nfor {picture:dog} ")
    assert (shot.prompt, shot.caption, shot.framing, shot.seed_offset) == ("{character} waits for {picture:dog}", "waits for", "", 0)
    assert isinstance(shot, Shot)


def test_sentences_stay_in_order_and_one_that_comes_again_has_another_seed():
    shots = shots_from_sentences(["a", "b", " a "])
    assert [(shot.prompt, shot.seed_offset) for shot in shots] == [("a", 0), ("b", 0), ("a", VARIANT_STEP)]
    assert len({shot.id for shot in shots}) == 3


@pytest.mark.parametrize(
    ("sentences", "message"),
    [([], "The scene is empty"), ([" ", "\n"], "The scene is empty"), (["a", " "], "Scene 2 of 2 is empty"), (["{scene}"], "is not a field here")],
)
def test_sentences_that_cannot_be_shot_are_refused(sentences, message):
    with pytest.raises(InputError, match=message):
        shots_from_sentences(sentences)


# --- for lists of any size ---


def given(*names):
    """A hypothesis test over sizes of the five lists and a count; skipped where hypothesis is not installed."""

    def decorate(check):
        def test():
            hypothesis = pytest.importorskip("hypothesis")
            from hypothesis import strategies as st

            kinds = {
                "sizes": st.lists(st.integers(1, 6), min_size=5, max_size=5),
                "limit": st.integers(1, 60),
                "count": st.integers(1, 90),
                "variants": st.integers(1, 3),
                "place": st.integers(0, 6),
                "texts": st.lists(st.text(max_size=30), min_size=7, max_size=7),
            }
            hypothesis.settings(max_examples=60)(hypothesis.given(*(kinds[name] for name in names))(check))()

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate


@given("sizes", "count", "variants")
def test_ids_are_distinct(sizes, count, variants):
    for plan in ("", f"{count} variety, {count} closeup"):
        made = coded(sizes, seeds_per_shot=variants, framing_plan=plan, limit=1000)
        assert len(set(ids_of(made))) == len(made.shots) == min(made.total, 1000)


@given("sizes", "limit", "variants", "count")
def test_the_limit_changes_no_shot(sizes, limit, variants, count):
    for plan in ("", f"{count} variety, {count} full body"):
        everything = coded(sizes, seeds_per_shot=variants, framing_plan=plan, limit=1000)
        some = coded(sizes, seeds_per_shot=variants, framing_plan=plan, limit=limit)
        assert len(some.shots) == min(limit, some.total)
        if everything.total <= 1000:
            # Also in the same order.
            rest = iter(everything.shots)
            assert all(shot in rest for shot in some.shots)


@given("sizes", "count")
def test_a_plan_uses_the_lines_of_each_list_equally_often_within_each_framing(sizes, count):
    made = coded(sizes, framing_plan=f"{count} closeup, {count} variety, 3 detail, 2 closeup", limit=1000)
    assert len(made.shots) == made.total
    combinations = 1
    for size in sizes:
        combinations *= size
    for framing in FRAMINGS:
        shots = [shot for shot in made.shots if shot.framing == framing]
        parts = Counter(part for shot in shots for part in shot.caption.split(", ")[1:])
        for letter, size in zip("svleo", sizes):
            uses = [parts[f"{letter}{i}"] for i in range(size)]
            assert max(uses) - min(uses) <= 1, (framing, letter, uses)
        # No combination comes again before all have come.
        assert len({shot.caption for shot in shots}) == min(len(shots), combinations)


def test_lists_of_one_length_are_mixed_with_each_other():
    made = coded((5, 5, 5), framing_plan="25 closeup")
    pairs = [shot.caption.split(", ")[1:] for shot in made.shots]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert len({(parts[a], parts[b]) for parts in pairs}) == 25


def test_framings_do_not_all_begin_with_the_same_lines():
    made = coded((20, 20), framing_plan="20 variety")
    for letter in "sv":
        assert len({part for shot in made.shots for part in shot.caption.split(", ") if part.startswith(letter)}) >= 15
    two = coded((5, 5), framing_plan="5 closeup, 5 full body")
    assert len({tuple(shot.caption.split(", ")[1:]) for shot in two.shots}) == 10


@given("sizes", "place")
def test_a_new_scene_leaves_the_other_shots_as_they_were(sizes, place):
    before = lines("s", sizes[0]).split("\n")
    after = [*before[:place], "new", *before[place:]]
    rest = {"lighting": lines("l", sizes[1]), "outfits": lines("o", sizes[2]), "seeds_per_shot": 2, "limit": 1000}
    old, new = (shot_list("\n".join(scenes), **rest).shots for scenes in (before, after))
    assert [shot for shot in new if "new" not in shot.prompt] == list(old)
    assert len(new) > len(old)


@given("texts")
def test_any_text_gives_a_list_or_one_sentence(texts):
    scenes, angles, lighting, outfits, plan, trigger, character = texts
    for vocabulary in ("plain words", ANGLE_2509, ANGLE_2511):
        try:
            made = shot_list(scenes, angles, lighting, outfits=outfits, framing_plan=plan, trigger=trigger, character=character, angle_vocabulary=vocabulary)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        for shot in made.shots:
            assert len((shot.prompt + shot.caption).splitlines()) <= 1
            assert shot.prompt.isprintable() or not any(c < " " for c in shot.prompt)
            if "{picture" not in shot.prompt:
                complete(shot.prompt, "Mira")


@pytest.mark.parametrize(
    "hostile",
    [
        "x" * 100_000,
        "[" * 100_000,
        "#" * 100_000,
        "#\n" * 50_000,
        "a\n" * 50_000,
        "\x00\x1b\ud800" * 30_000,
        "\U0001f600\u200d雨夜\n" * 9000,
        "1 closeup," * 10_000,
    ],
)
def test_hostile_text_gives_a_list_or_one_sentence(hostile):
    fields = ("scenes", "angles", "lighting", "expressions", "outfits", "framing_plan", "template", "trigger", "character")
    for field in fields:
        try:
            made = shot_list(**{"scenes": SCENES, "limit": 50, field: hostile})
        except InputError as error:
            assert len(str(error)) < 400 and "\n" not in str(error)
        else:
            assert made.shots and all(shot.prompt.isprintable() or "\u200d" in shot.prompt for shot in made.shots)


def test_the_default_template_is_used_unless_another_is_given():
    assert prompts_of(shot_list(SCENES)) == prompts_of(shot_list(SCENES, template=DEFAULT_TEMPLATE))
