"""Captions: framing and fields, the template, edits, fixed traits, trigger and tag, sidecars. What is said against captions is in test_caption_lint.py."""

import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.framing import FRAMINGS
from character_likeness.nodes.lora_dataset.captions import (
    DEFAULT_TEMPLATE,
    DESCRIBE,
    GIVEN,
    TEMPLATE,
    CaptionRules,
    caption_items,
    checked_trigger,
    composed,
    edits_of,
    sidecar_caption,
)
from character_likeness.nodes.lora_dataset.dataset import BODY, CHARACTER, Bucket, Dataset, DatasetItem, Given
from character_likeness.nodes.lora_dataset.wording import framing_of, parse_caption, parts_of, traits_of

PICTURE = Given("p", np.zeros((4, 4, 3), np.uint8))
SHOT = {"pose": "standing", "clothing": "red coat", "light": "soft light", "background": "kitchen"}


def item(caption="", **options):
    options = {"stem": "p", "caption_source": "sidecar" if caption else "none", **options}
    return DatasetItem(PICTURE, caption=caption, **options)


def captioned(*captions, rules=None, given_captions=None, bucket=CHARACTER, **options):
    dataset = Dataset().added(item(caption, bucket=bucket) for caption in captions)
    return caption_items(dataset, rules or CaptionRules(**{"trigger": "mira_k", **options}), given_captions)


def caption_of(text, bucket=CHARACTER, **options):
    return captioned(text, bucket=bucket, **options).items[0].caption


# --- framing and fields ---


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_framing_is_known_by_its_name_and_by_the_words_that_prompts_have_for_it(framing):
    assert framing_of(f"mira_k, {framing}, standing") == framing
    assert framing_of(f"mira_k, standing, {FRAMINGS[framing].prompt}") == framing


@pytest.mark.parametrize(
    ("caption", "framing"),
    [
        ("mira_k, close-up of the face", "closeup"),
        ("a photo of mira_k, head to toe", "full body"),
        ("A full-length photo of a woman in a street.", "full body"),
        ("from the waist up", "upper body"),
        ("mira_k, headshot", "portrait"),
        ("a studio portrait", "portrait"),
        ("full body portrait", "full body"),
        ("close-up portrait", "closeup"),
        ("shot from the knees up", "cowboy shot"),
        ("close-up of her hands", "detail"),
        ("mira_k, realistic_body, legs", "legs"),
        ("torso", "torso"),
        ("mira_k\uff0cfull body\uff0ckitchen", "full body"),
        ("closeup, full body", "closeup"),
        ("variety", ""),
        ("legs crossed, a family portrait hangs on the wall", ""),
        ("mira_k, standing, three-quarter view", ""),
        ("", ""),
    ],
)
def test_the_framing_is_that_of_the_first_part_that_names_one(caption, framing):
    assert framing_of(caption) == framing


def test_a_caption_is_taken_apart_into_its_fields():
    text = "Mira_K, realistic_body, full body, back view, standing with arms crossed, wearing a red coat, slight smile, soft window light, in a kitchen, 1girl, blurred background"
    parsed = parse_caption(text, "mira_k", "realistic_body")
    assert parsed.has_trigger and parsed.framing == "full body" and parsed.rest == ("1girl",)
    assert parsed.fields == {
        "angle": "back view",
        "pose": "standing with arms crossed",
        "clothing": "wearing a red coat",
        "expression": "slight smile",
        "light": "soft window light",
        "background": "in a kitchen, blurred background",
    }
    assert not parse_caption("standing").has_trigger
    sentence = parse_caption("mira_k stands in a kitchen", "mira_k")
    assert sentence.has_trigger and sentence.fields == {"pose": "stands in a kitchen"}


def test_a_comma_inside_a_number_separates_nothing():
    assert parts_of("mira_k,  a crowd of 1,000 people,, 2 dogs,") == ("mira_k", "a crowd of 1,000 people", "2 dogs")


# --- template ---


def test_empty_fields_vanish_with_their_comma_and_their_words():
    values = {"trigger": "mira_k", "clothing": "a red coat", "background": "kitchen"}
    assert composed(DEFAULT_TEMPLATE, values) == "mira_k, a red coat, kitchen"
    template = "{trigger}, wearing {clothing}, in {light}, {pose} before {background}, {{35 mm}}"
    assert composed(template, values) == "mira_k, wearing a red coat, before kitchen, {35 mm}"


def test_what_a_template_would_say_twice_it_says_once():
    assert (
        composed("{pose}, {clothing}, {background}", {"pose": "standing", "clothing": "coat", "background": "Standing, kitchen"}) == "standing, coat, kitchen"
    )


@pytest.mark.parametrize(
    ("template", "word"), [("{trigger}, {mood}", "{mood}"), ("{pose", "{pose"), ("{pose!r}", "{pose}"), ("{}", "{}"), ("", "empty"), (" , ", "empty")]
)
def test_a_template_that_cannot_be_used_is_one_sentence(template, word):
    with pytest.raises(InputError, match=re.escape(word)):
        composed(template, {})


def test_a_caption_is_made_of_the_shot_the_framing_and_the_tag():
    items = [item(shot=SHOT, framing="full body"), item(shot=SHOT, framing="legs", bucket=BODY, stem="q"), item(stem="r")]
    made = caption_items(Dataset().added(items), CaptionRules("mira_k"))
    assert [one.caption for one in made.items] == [
        "mira_k, full body, standing, red coat, soft light, kitchen",
        "mira_k, realistic_body, legs, standing, red coat, soft light, kitchen",
        "mira_k",
    ]
    assert {one.caption_source for one in made.items} == {"template"} and made.trigger == "mira_k"
    assert all("template" in one.decisions[0] for one in made.items)


def test_a_field_that_the_template_leaves_out_is_said():
    made = caption_items(Dataset().added([item(shot={**SHOT, "angle": "back view"})]), CaptionRules("mira_k", template="{trigger}, {pose}"))
    assert any("angle" in note and "{angle}" in note for note in made.notes)


# --- which text is used ---


def test_keep_uses_what_is_there_and_the_template_where_nothing_is():
    dataset = Dataset().added([item("mira_k, a beach"), item(" \n", framing="closeup")])
    kept, made = caption_items(dataset, CaptionRules("mira_k")).items
    assert (kept.caption, kept.caption_source, kept.decisions) == ("mira_k, a beach", "sidecar", ())
    assert (made.caption, made.caption_source) == ("mira_k, closeup", "template")


def test_the_template_replaces_a_caption_and_the_old_one_is_kept_in_the_decisions():
    one = captioned("close-up of the face, at sea", source=TEMPLATE).items[0]
    assert one.caption == "mira_k, closeup, at sea" and "close-up of the face, at sea" in one.decisions[0]


def test_the_template_keeps_what_a_caption_says_sorted_into_its_fields():
    (one,) = captioned("white background, film photo, standing, red shirt, full body", source=TEMPLATE).items
    assert one.caption == "mira_k, full body, standing, red shirt, white background, film photo"


def test_given_captions_replace_those_that_are_there_but_an_empty_one_does_not():
    made = captioned("old one", "old two", source=GIVEN, given_captions=["a beach", ""])
    assert [one.caption for one in made.items] == ["mira_k, a beach", "mira_k, old two"]
    assert [one.caption_source for one in made.items] == ["input", "sidecar"]
    assert "old one" in made.items[0].decisions[0] and "empty" in made.items[1].decisions[0]


def test_another_number_of_captions_than_pictures_is_refused():
    with pytest.raises(InputError, match="3 captions for 2 pictures"):
        captioned("a", "b", source=GIVEN, given_captions=["a", "b", "c"])
    with pytest.raises(InputError, match="given"):
        captioned("a", source=GIVEN)


def test_given_captions_that_are_not_used_are_said():
    assert any("not used" in note for note in captioned("a", given_captions=["b"]).notes)


@pytest.mark.parametrize("options", [{"source": "other"}, {"policy": "other"}, {"template": "{x}"}, {"trigger": "a, b"}])
def test_an_unknown_choice_is_refused(options):
    with pytest.raises(InputError):
        captioned("a", **options)


def test_an_empty_dataset_stays_one():
    assert captioned().items == ()


# --- one line ---


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a beach\nat\r\nnight", "Line ends"),
        ("a beach\u2028at night", "Line ends"),
        ("a\x00 beach\x1b", "Control"),
        ("\ufeffa beach", "Control"),
        ("a \ud800 beach", "Control"),
    ],
)
def test_captions_become_one_line_of_text_and_it_is_said(text, word):
    made = captioned(text)
    assert made.items[0].caption.removeprefix("mira_k, ") in ("a beach at night", "a beach")
    assert any(word in sentence for sentence in made.items[0].decisions)
    assert any(word.lower() in note for note in made.notes)


WORDS = (
    "mira_k",
    "Mira_K's",
    "woman",
    "the character",
    "realistic_body",
    "[trigger]",
    "red hair",
    "with",
    "and",
    "a",
    "photo",
    ",",
    ", ",
    ".",
    " ",
    "\n",
    "\u7a7f",
)
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=14).map("".join)


@given(TEXTS, st.sampled_from(["", "mira_k", "woman", "character"]), st.sampled_from([CHARACTER, BODY]))
def test_any_text_gives_one_line_with_the_trigger_once_and_first_and_doing_it_again_changes_nothing(text, trigger, bucket):
    rules = CaptionRules(trigger, edits=edits_of("add first: photo\nadd last: film grain"), traits=("red hair",))
    once = caption_items(Dataset().added([item(text, bucket=bucket)]), rules)
    caption = once.items[0].caption
    assert caption.isascii() or caption.encode("utf-8")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", caption)
    if trigger:
        assert caption.startswith(trigger)
        assert len(re.findall(rf"(?<!\w){trigger}(?!\w)", caption, re.IGNORECASE)) == 1
    if bucket.tag:
        assert [place for place, part in enumerate(parts_of(caption)) if part == bucket.tag] == [int(bool(trigger) and parts_of(caption)[0] == trigger)]
    again = caption_items(once, rules)
    assert again.items[0].caption == caption and again.items[0].decisions == once.items[0].decisions


def test_a_caption_of_ten_thousand_characters_or_of_emoji_is_kept_whole():
    long, smile = "x" * 10_000, "smiling \U0001f469\u200d\U0001f680, \u96e8\u591c"
    assert [one.caption for one in captioned(long, smile).items] == [f"mira_k, {long}", f"mira_k, {smile}"]


def test_syntax_of_yaml_toml_and_shells_is_text():
    for text in ("key: 'value' \"quoted\" # no comment", "[[datasets]] a = {b = 1}", "{a: [b]} & *c | > %d !x", "$HOME `ls` \\n C:\\pictures"):
        assert caption_of(text) == f"mira_k, {text}"


# --- trigger and tag ---


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("a beach", "mira_k, a beach"),
        ("a beach, mira_k", "mira_k, a beach"),
        ("mira_k, a beach, MIRA_K", "mira_k, a beach"),
        ("mira_k stands on a beach", "mira_k stands on a beach"),
        ("mira_k's coat", "mira_k's coat"),
        ("mira_k. She smiles", "mira_k. She smiles"),
        ("A photo of mira_k on a beach", "mira_k, A photo of the character on a beach"),
        ("mira_k stands in mira_k's kitchen", "mira_k stands in the character's kitchen"),
        ("[trigger] on a beach", "mira_k on a beach"),
        ("a beach, [name]", "mira_k, a beach"),
        ("mira_kitchen, a beach", "mira_k, mira_kitchen, a beach"),
        ("mira_k\u7a7f\u7740\u7ea2\u8272\u7684\u5927\u8863", "mira_k\u7a7f\u7740\u7ea2\u8272\u7684\u5927\u8863"),
        ("", "mira_k"),
    ],
)
def test_the_trigger_is_first_and_there_once(text, caption):
    assert caption_of(text) == caption


def test_what_was_done_to_put_the_trigger_first_is_said():
    said = [one.decisions for one in captioned("a beach", "mira_k, a beach", "1girl with mira_k", "mira_k, 1girl", edits=edits_of("remove: 1girl")).items]
    assert "a beach" in said[0][0] and not said[1] and len(said[2]) == 2 and "first" in said[2][1] and len(said[3]) == 1


def test_an_article_goes_with_a_trigger_that_is_an_ordinary_word():
    assert caption_of("a photo of a woman", trigger="woman") == "woman, a photo of the character"


def test_the_tag_of_the_bucket_stands_right_behind_the_trigger():
    assert caption_of("legs, realistic_body, mira_k, jeans", BODY) == "mira_k, realistic_body, legs, jeans"
    assert caption_of("mira_k sits on a bench", BODY) == "mira_k, realistic_body, sits on a bench"
    assert caption_of("legs", Bucket("feet", tag="bare_feet"), trigger="") == "bare_feet, legs"


def test_without_a_trigger_the_datasets_own_is_used_and_a_former_one_is_replaced():
    dataset = Dataset((item("ohwx, a beach with ohwx"),), trigger="ohwx")
    assert caption_items(dataset, CaptionRules()).items[0].caption == "ohwx, a beach with the character"
    renamed = caption_items(dataset, CaptionRules("mira_k"))
    assert renamed.items[0].caption == "mira_k, a beach with the character" and renamed.trigger == "mira_k"
    assert any("former trigger" in sentence for sentence in renamed.items[0].decisions)


@pytest.mark.parametrize("trigger", ["a, b", "${HOME}", "[trigger]", "a--b", "{x}", "#1", "<s>", 'a"b', "x" * 101])
def test_a_trigger_that_trainers_would_take_apart_is_refused(trigger):
    with pytest.raises(InputError, match="trigger word"):
        checked_trigger(trigger)


def test_a_trigger_is_made_one_line():
    assert checked_trigger("  mira_k \n woman ") == "mira_k woman"


# --- edits ---


@pytest.mark.parametrize(
    ("edit", "caption"),
    [
        ("add first: photo", "mira_k, photo, 1girl, red dress, long dress"),
        ("ADD LAST :  film grain, bokeh", "mira_k, 1girl, red dress, long dress, film grain, bokeh"),
        ("add last: 1GIRL", "mira_k, 1girl, red dress, long dress"),
        ("remove: 1Girl", "mira_k, red dress, long dress"),
        ("remove: dress", "mira_k, 1girl, red, long"),
        ("remove: 1girl, long dress", "mira_k, red dress"),
        ("remove: girl", "mira_k, 1girl, red dress, long dress"),
        ("replace: dress -> gown \\1", "mira_k, 1girl, red gown \\1, long gown \\1"),
        ("replace: red dress, long dress -> coat", "mira_k, 1girl, coat"),
        ("trigger first", "mira_k, 1girl, red dress, long dress"),
        ("# remove: dress\n\n  \nremove: 1girl\nreplace: red \u2192 blue", "mira_k, blue dress, long dress"),
    ],
)
def test_edits_change_captions(edit, caption):
    assert caption_of("mira_k, 1girl, red dress, long dress", edits=edits_of(edit)) == caption


def test_signs_can_be_removed_as_they_are_written():
    assert caption_of("a beach, (masterpiece:1.2), c++", edits=edits_of("remove: (Masterpiece:1.2)\nremove: c++")) == "mira_k, a beach"


@pytest.mark.parametrize(
    "line", ["delete: x", "add: x", "add first x", "add last:", "remove: ", "replace: a", "replace: a ->", "replace: -> b", "trigger first: x", "x" * 300]
)
def test_a_line_that_is_no_edit_is_one_sentence_with_its_number(line):
    with pytest.raises(InputError, match="Line 3 of the edits") as error:
        edits_of(f"# comment\n\n{line}\nremove: y")
    assert len(str(error.value)) < 300


def test_what_edits_did_is_said_for_each_caption_and_what_they_did_not_for_all():
    made = captioned("a, b", "c", edits=edits_of("remove: b\nremove: z"))
    assert any("remove: b" in sentence for sentence in made.items[0].decisions)
    assert not any("remove" in sentence for sentence in made.items[1].decisions)
    assert any("remove: z" in note for note in made.notes) and not any("remove: b" in note for note in made.notes)


def test_trigger_first_needs_a_trigger():
    with pytest.raises(InputError, match="trigger first"):
        captioned("a", trigger="", edits=edits_of("trigger first"))


# --- fixed traits ---


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("closeup, red hair, green eyes, smiling", "closeup, smiling"),
        ("Long Red-Haired woman, smiling", "smiling"),
        ("a scar on the cheek, scarf, a scared look", "scarf, a scared look"),
        ("a woman with long red hair and a blue coat stands in a kitchen", "a woman with a blue coat stands in a kitchen"),
        ("a woman in a coat with red hair and green eyes stands in a kitchen", "a woman in a coat stands in a kitchen"),
        ("a woman with a coat and red hair, smiling", "a woman with a coat, smiling"),
        ("green-eyed, the scars, red car", "red car"),
    ],
)
def test_fixed_traits_are_taken_out(text, rest):
    made = captioned(text, traits=traits_of("red hair, green eyes\n# no trait\nscar"))
    assert made.items[0].caption == f"mira_k, {rest}"
    assert any("taken out" in sentence and text.split(",")[0] in sentence for sentence in made.items[0].decisions)


def test_a_sentence_that_words_a_trait_another_way_is_left_and_said():
    text = "her red hair falls over the shoulders of a long blue coat"
    made = captioned(text, traits=("red hair",))
    assert made.items[0].caption == f"mira_k, {text}"
    assert any("by hand" in sentence for sentence in made.items[0].decisions) and any("by hand" in note for note in made.notes)


def test_described_traits_are_kept_and_added_where_a_face_is_expected():
    traits = traits_of("red hair\ngreen eyes")
    assert caption_of("closeup, red-haired woman, smiling", policy=DESCRIBE, traits=traits) == "mira_k, closeup, green eyes, red-haired woman, smiling"
    body = captioned("legs", bucket=BODY, policy=DESCRIBE, traits=traits)
    assert body.items[0].caption == "mira_k, realistic_body, legs"
    assert any("no face" in sentence for sentence in body.items[0].decisions)


@pytest.mark.parametrize("trait", ["", " ", "-", "(", "\\", "*"])
def test_a_trait_without_a_word_takes_nothing_out(trait):
    assert caption_of("closeup, a - b (c)", traits=(trait,)) == "mira_k, closeup, a - b (c)"


# --- sidecars ---


def sidecar(tmp_path, content, name="p.txt"):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return sidecar_caption(tmp_path / "p.png")


def test_a_picture_without_a_sidecar_has_no_caption(tmp_path):
    (tmp_path / "p.txt").mkdir()
    assert sidecar_caption(tmp_path / "p.png") is None


@pytest.mark.parametrize(
    ("content", "text", "said"),
    [
        ("mira_k, a beach\n", "mira_k, a beach", "p.txt"),
        (b"\xef\xbb\xbfmira_k, a caf\xc3\xa9", "mira_k, a café", "p.txt"),
        ("mira_k,\r\na beach,\r\n\r\n night", "mira_k, a beach, night", "p.txt, its 3 lines joined by commas"),
        (" \n", "", "p.txt, which is empty"),
        ("", "", "p.txt, which is empty"),
    ],
)
def test_a_sidecar_is_one_line_and_what_was_done_for_that_is_said(tmp_path, content, text, said):
    assert sidecar(tmp_path, content) == (text, said)


def test_txt_comes_before_caption_and_the_other_is_said(tmp_path):
    assert sidecar(tmp_path, "from caption", "p.caption") == ("from caption", "p.caption")
    text, said = sidecar(tmp_path, "from txt")
    assert text == "from txt" and "p.caption was not read" in said


@pytest.mark.parametrize("content", ["café".encode("latin-1"), "mira".encode("utf-16"), b"\xff\xd8\xff\xe0jpeg", b"x" * 1_000_001])
def test_a_sidecar_that_is_no_utf8_text_is_one_sentence_with_its_name(tmp_path, content):
    with pytest.raises(InputError, match=r"p\.txt"):
        sidecar(tmp_path, content)


# --- many ---


def test_two_thousand_captions_cost_no_more_each_than_a_hundred():
    """The ratio of one run; what it is in seconds stands in no test."""
    text = "full body, standing on a beach, wearing a red coat, soft light, her red hair in the wind, " + ", ".join(f"tag {number}" for number in range(12))
    rules = {"edits": edits_of("remove: 1girl\nreplace: coat -> jacket"), "traits": traits_of("red hair\ngreen eyes")}

    def seconds(count):
        best = []
        for _ in range(3):
            start = time.process_time()
            captioned(*(f"{text}, {number}" for number in range(count)), **rules)
            best.append(time.process_time() - start)
        return min(best)

    assert seconds(2000) < 3 * 20 * seconds(100)
