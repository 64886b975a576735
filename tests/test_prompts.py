"""Prompts and captions: what fields become, what empty ones leave behind, how each vocabulary says an angle, and that no text breaks it."""

import string

import pytest

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.identity.scoring import needs_no_face
from character_likeness.nodes.scene import prompts
from character_likeness.nodes.scene.choices import ANGLE_2509, ANGLE_2511, ANGLE_VOCABULARIES, PLAIN
from character_likeness.nodes.scene.prompts import (
    AZIMUTHS,
    DISTANCES,
    ELEVATIONS,
    Angle,
    PictureLabel,
    angle_phrase,
    caption,
    complete,
    fields_of,
    fill,
    literal,
    parse_angle,
)

FACE = PictureLabel(1, "face", "Mira")
OUTFIT = PictureLabel(2, "outfit", "Mira")
OTHER_FACE = PictureLabel(3, "face", "Tomas")
STREET = PictureLabel(4, "background")
ALL = (FACE, OUTFIT, OTHER_FACE, STREET)


# --- the early step ---


def test_fields_are_replaced_whatever_their_case_and_blanks():
    assert fill("{scene}, { Light }", {"scene": "a street", "light": "dusk"}) == "a street, dusk"


def test_late_fields_stay_until_they_have_a_value():
    template = "{character} in {scene} like {picture:face}, {trigger}"
    assert fill(template, {"scene": "a street"}) == "{character} in a street like {picture:face}, {trigger}"
    assert fill(template, {"scene": "a street", "trigger": "mira_k"}) == "{character} in a street like {picture:face}, mira_k"


def test_without_a_late_step_to_come_late_fields_are_empty():
    assert fill("{character} waits[, like {picture:face}]", {}, ()) == "waits"


def test_an_unknown_field_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"'\{colour\}' is not a field here; use \{scene\}.*\{framing\}.*\{picture:face\}"):
        fill("a {colour} coat", {})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a, {light}, b", "a, b"),
        ("{light}, b", "b"),
        ("a, {light}", "a"),
        ("a {light} b", "a b"),
        ("a {light}, b", "a, b"),
        ("a, {light} b", "a, b"),
        ("a, {light}.", "a."),
        ("a, {light}. B", "a. B"),
        ("A. {light}, b", "A. b"),
        ("A. {light}. B", "A. B"),
        ("{light}. B", "B"),
        ("a, {light}, {outfit}, {angle}, b", "a, b"),
        ("a {light}, {outfit} b", "a, b"),
        ("a{light}b", "ab"),
        ("{light} {outfit}", ""),
        ("a\uff0c{light}\uff0cb", "a\uff0cb"),
    ],
)
def test_an_empty_field_leaves_no_debris(template, text):
    assert fill(template, {}) == text


@pytest.mark.parametrize("text", ["wait... what?!", "a ; b", "hello - (there), you: yes!", "a , b", "x... y"])
def test_punctuation_that_has_nothing_to_do_with_empty_fields_stays(text):
    assert fill(text, {}) == text
    assert fill(text + ", {light}", {}) == text
    assert fill("{scene}", {"scene": text}) == text


def test_a_sentence_s_full_stop_gives_way_to_the_punctuation_after_it():
    assert fill("{scene}, {light}", {"scene": "She waits.", "light": "dusk,"}) == "She waits, dusk"
    assert fill("{scene}. {light}", {"scene": "She waits.", "light": "Dusk."}) == "She waits. Dusk."
    assert fill("{scene}, {light}", {"scene": "She waits...", "light": "dusk"}) == "She waits..., dusk"


def test_a_group_goes_with_its_empty_field_and_loses_its_brackets_otherwise():
    template = "{scene}[, wearing {outfit}][, {light} and {angle}]"
    assert fill(template, {"scene": "a street"}) == "a street"
    assert fill(template, {"scene": "a street", "outfit": "a coat", "light": "dusk"}) == "a street, wearing a coat"
    assert fill(template, {"scene": "a street", "light": "dusk", "angle": "back view"}) == "a street, dusk and back view"


def test_a_group_that_waits_for_a_late_field_stays_a_group():
    waiting = fill("{scene}[ with {light} on {picture:dog}]", {"scene": "a street", "light": "dusk"})
    assert waiting == "a street[ with dusk on {picture:dog}]"
    assert complete(waiting) == "a street"
    assert complete(waiting, pictures=[PictureLabel(1, "dog")]) == "a street with dusk on Picture 1"
    assert fill("{scene}[ with {light} on {picture:dog}]", {"scene": "a street"}) == "a street"


def test_doubled_signs_are_the_signs_themselves_once_the_text_is_final():
    assert fill("{{a}} [[b]] {scene}", {"scene": "c"}, ()) == "{a} [b] c"
    assert fill("{{a}} [[b]] {scene}", {"scene": "c"}) == "{{a}} [[b]] c"
    assert complete(fill("{{a}} [[b]] {scene}", {"scene": "c"})) == "{a} [b] c"
    assert complete("a sign reading [OPEN]") == "a sign reading [OPEN]"
    assert complete(fill("{trigger}", {"trigger": literal("{x} [y]")})) == "{x} [y]"


@pytest.mark.parametrize(
    ("template", "sign", "position"),
    [("a {scene", "{", 3), ("a} b", "}", 2), ("[a {scene}", "[", 1), ("a {scene}]", "]", 10), ("[a [b {scene}]", "[", 4), ("{a {scene}}", "{", 1)],
)
def test_a_lone_brace_or_bracket_is_told_with_its_place(template, sign, position):
    with pytest.raises(InputError) as error:
        fill(template, {})
    assert f"The {sign} at character {position}, in '" in str(error.value)


def test_line_ends_and_control_characters_never_reach_a_prompt():
    assert fill("a\r\nb\x00\x1b[[\u2028{scene}", {"scene": "c\nd\ud800\te\u3000f"}, ()) == "a b [ c d e f"


# --- the late step ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{picture:face}", "Pictures 1 and 3"),
        ("{picture:outfit}", "Picture 2"),
        ("{picture:4}", "Picture 4"),
        ("{picture:mira}", "Pictures 1 and 2"),
        ("{picture:Mira.face}", "Picture 1"),
        ("{picture: TOMAS.Face }", "Picture 3"),
        ("{picture}", "Pictures 1, 2, 3 and 4"),
    ],
)
def test_pictures_are_found_by_role_number_and_name(text, said):
    assert complete(f"as in {text}", pictures=ALL) == f"as in {said}"


def test_a_name_with_a_dot_is_a_name():
    assert complete("{picture:Dr. Who} {picture:Dr. Who.face}", pictures=[PictureLabel(1, "face", "Dr. Who")]) == "Picture 1 Picture 1"


@pytest.mark.parametrize("wanted", ["fce", "5", "0", "Anna", "Tomas.outfit", "Mira.", ".face"])
def test_a_picture_that_is_not_there_is_told_with_those_that_are(wanted):
    with pytest.raises(InputError, match=r"names no picture; there are 1 = Mira\.face, 2 = Mira\.outfit, 3 = Tomas\.face, 4 = background"):
        complete(f"as in {{picture:{wanted}}}", pictures=ALL)


def test_without_pictures_a_picture_field_says_so():
    with pytest.raises(InputError, match="there are no reference pictures"):
        complete("as in {picture:face}")


@pytest.mark.parametrize(
    ("character", "pictures", "said"),
    [
        ("Mira", (), "Mira waits"),
        (("Mira", "Tomas"), (), "Mira and Tomas waits"),
        (("Mira", "Tomas", "Anna"), (), "Mira, Tomas and Anna waits"),
        ("", ALL, "Mira and Tomas waits"),
        (" ", (), "the character waits"),
    ],
)
def test_the_character_is_who_is_named_else_who_is_in_the_pictures(character, pictures, said):
    assert complete("{character} waits", character, pictures) == said


def test_in_a_group_a_character_without_a_name_is_left_out():
    assert complete("[{character}, ]a street") == "a street"
    assert complete("[{character}, ]a street", "Mira") == "Mira, a street"


def test_triggers_stand_in_front_once_unless_the_prompt_has_them():
    assert complete("a street at night", triggers=["mira_k"]) == "mira_k, a street at night"
    assert complete("a street with MIRA_K", triggers=["mira_k"]) == "a street with MIRA_K"
    assert complete("a street with mira_kx", triggers=["mira_k"]) == "mira_k, a street with mira_kx"
    assert complete("{trigger} waits", triggers=["mira_k", "film grain"]) == "mira_k, film grain waits"
    assert complete("a street", triggers=["b c", "a", "B C", "", " a "]) == "b c, a street"
    assert complete("night", triggers=["b c", "a", "B C", "", " a "]) == "b c, a, night"
    assert complete("night", triggers=["c++ (x)"]) == "c++ (x), night"


def test_a_trigger_with_commas_is_several_and_those_that_the_prompt_has_are_not_said_again():
    assert complete("mira_k walks", triggers=["mira_k, red scarf"]) == "red scarf, mira_k walks"
    assert complete("a red scarf in the wind", triggers=["mira_k, red scarf", "film grain"]) == "mira_k, film grain, a red scarf in the wind"
    assert complete("{trigger} waits", triggers=["mira_k,red scarf ,", "mira_k"]) == "mira_k, red scarf waits"
    assert complete("night", triggers=["mira_k, red scarf"]) == "mira_k, red scarf, night"


def test_a_trigger_goes_behind_the_2511_lora_s_phrase_which_stays_first():
    text = complete("<sks> back view eye-level shot medium shot. A street", triggers=["mira_k", "<sks>"])
    assert text == "<sks> back view eye-level shot medium shot. mira_k, A street"


@pytest.mark.parametrize("prompt", ["", " \n ", "{trigger}", "[{character}, ]", "\x00"])
def test_an_empty_scene_is_refused(prompt):
    with pytest.raises(InputError, match="The scene is empty"):
        complete(prompt)


def test_an_early_field_is_unknown_in_the_late_step():
    with pytest.raises(InputError, match=r"'\{scene\}' is not a field here; use \{character\}, \{trigger\}, \{picture:face\}"):
        complete("{scene}")


# --- angles ---


@pytest.mark.parametrize(
    ("line", "angle"),
    [
        ("front left, low angle, close-up", Angle("front left", "low angle", "close-up")),
        ("Back View", Angle("back")),
        ("from behind", Angle("back")),
        ("facing away from the camera", Angle("back")),
        ("rear left", Angle("back left")),
        ("3/4 left", Angle("front left")),
        ("\u00be view from the right", Angle("front right")),
        ("left profile", Angle("left side")),
        ("right", Angle("right side")),
        ("from above", Angle(None, "high angle")),
        ("from slightly above", Angle(None, "elevated")),
        ("bird\u2019s-eye view", Angle(None, "top-down")),
        ("worm's-eye view", Angle(None, "low angle")),
        ("eye level", Angle(None, "eye level")),
        ("close up", Angle(None, None, "close-up")),
        ("facing the camera", Angle("front")),
        ("<sks> front-right quarter view elevated shot wide shot", Angle("front right", "elevated", "wide shot")),
    ],
)
def test_an_angle_is_read_in_any_usual_wording(line, angle):
    assert parse_angle(line) == angle


@pytest.mark.parametrize(
    "line", ["dutch tilt", "Three-quarter view", "side view", "front and back", "close-up, medium shot", "back view, dutch tilt", "wide-angle lens", "x" * 999]
)
def test_what_is_no_angle_is_text_in_every_vocabulary(line):
    assert parse_angle(line) == line
    assert {angle_phrase(parse_angle(line), vocabulary) for vocabulary in ANGLE_VOCABULARIES} == {line}


def every_angle():
    return [Angle(a, e, d) for a in (None, *AZIMUTHS) for e in (None, *ELEVATIONS) for d in (None, *DISTANCES)][1:]


def test_every_angle_in_plain_words_reads_back_as_itself():
    for angle in every_angle():
        assert parse_angle(angle_phrase(angle)) == angle


def test_the_2511_lora_gets_its_96_phrases_and_no_other():
    """The form of fal's model card; its reference pose fills what an angle leaves open."""
    azimuths = ["front view", "front-right quarter view", "right side view", "back-right quarter view"]
    azimuths += ["back view", "back-left quarter view", "left side view", "front-left quarter view"]
    elevations, distances = ("low-angle shot", "eye-level shot", "elevated shot", "high-angle shot"), ("close-up", "medium shot", "wide shot")
    card = {f"<sks> {a} {e} {d}" for a in azimuths for e in elevations for d in distances}
    assert {angle_phrase(angle, ANGLE_2511) for angle in every_angle()} == card
    assert angle_phrase(Angle("back"), ANGLE_2511) == "<sks> back view eye-level shot medium shot"


def test_the_2509_lora_gets_a_sentence_per_command_and_plain_words_where_it_has_none():
    assert angle_phrase(Angle("front left"), ANGLE_2509) == "将镜头向左旋转45度 Rotate the camera 45 degrees to the left."
    assert angle_phrase(Angle("right side"), ANGLE_2509) == "将镜头向右旋转90度 Rotate the camera 90 degrees to the right."
    both = angle_phrase(Angle("front", "top-down", "close-up"), ANGLE_2509)
    assert both == "将镜头转为俯视 Turn the camera to a top-down view. 将镜头转为特写镜头 Turn the camera to a close-up."
    assert angle_phrase(Angle("front", "eye level", "medium shot"), ANGLE_2509) == ""
    assert angle_phrase(Angle("back", "elevated"), ANGLE_2509) == "Back view. Elevated shot."
    assert angle_phrase(Angle(None, None, "wide shot"), ANGLE_2509).endswith("Turn the camera to a wide-angle lens.")


def test_an_angle_that_says_nothing_is_nothing():
    assert {angle_phrase(Angle(), vocabulary) for vocabulary in ANGLE_VOCABULARIES} == {""}


def test_an_unknown_vocabulary_is_refused():
    with pytest.raises(InputError, match="'klingon' is not an angle vocabulary; choose plain words, 2509 angle LoRA, 2511 angle LoRA"):
        angle_phrase(Angle("back"), "klingon")


# --- captions ---


def test_a_caption_has_the_dataset_s_order():
    text = caption("mira_k", "full body", "smiling", "red coat", "soft light", "a street", Angle("front left", "low angle"))
    assert text == "mira_k, full body, three-quarter view from the left, low-angle shot, smiling, red coat, soft light, a street"


def test_a_caption_leaves_out_what_is_empty_or_said_before():
    assert caption("mira_k", "", "Smiling", "", "", "a street,\n smiling. , night") == "mira_k, Smiling, a street, night"
    assert caption() == ""


def test_the_caption_of_a_view_from_behind_tells_the_gate_that_it_needs_no_face():
    for angle in every_angle():
        seen_from_behind = (angle.azimuth or "").startswith("back")
        assert needs_no_face(caption("mira_k", "full body", "", "", "", "a street", angle)) == seen_from_behind


# --- anything at all ---


def test_a_hundred_thousand_characters_take_no_time_to_speak_of():
    for hostile in (
        "[" * 100_000,
        "{" * 100_000,
        "{{" * 50_000,
        "{scene}," * 12_000,
        ", " * 50_000,
        "[{light}]" * 11_000,
        "a " * 50_000,
        "\U0001f600" * 100_000,
    ):
        try:
            assert "\n" not in fill(hostile, {"scene": ","})
        except InputError as error:
            assert len(str(error)) < 400


def test_any_text_gives_one_line_or_one_sentence():
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    pieces = st.sampled_from(
        ["{scene}", "{light}", "{character}", "{picture:face}", "{{", "}}", "[[", "]]", "[", "]", "{", "}", ", ", ". ", "\n", "\x00", "\x01", "#", "a"]
    )
    texts = st.lists(pieces | st.characters() | st.text(string.printable, max_size=3), max_size=25).map("".join)

    @hypothesis.given(texts, texts)
    def holds(template, scene):
        try:
            fields_of(scene, prompts.LATE)
            text = complete(fill(template, {"scene": scene}), "Mira", ALL, ["mira_k"])
        except InputError as error:
            assert "\n" not in str(error)
            return
        assert text == prompts.one_line(text)
        assert text.strip(" ,") == text
        assert "mira_k" in text.casefold()

    holds()


def test_literal_text_comes_out_as_it_went_in():
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    @hypothesis.given(st.text("{}[]ab", min_size=1))
    def holds(text):
        assert fill(literal(text), {}, ()) == text
        assert complete(fill("x{trigger}", {"trigger": literal(text)})) == f"x{text}"

    holds()


def test_plain_words_are_the_default_vocabulary():
    assert angle_phrase(Angle("back")) == angle_phrase(Angle("back"), PLAIN) == "back view"
