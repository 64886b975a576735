"""Which checkpoints and strengths the lines of LoRA Sweep stand for."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.lora_dataset import checkpoints as module
from character_likeness.nodes.lora_dataset.checkpoints import names_in, parse_checkpoints, parse_strengths, step_of, trainings_in
from character_likeness.nodes.lora_dataset.choices import folders_of
from tests.tiny.sweeps import write_lora

AI_TOOLKIT = ["mira/mira_000000500.safetensors", "mira/mira_000001000.safetensors", "mira/mira_000010000.safetensors", "mira/mira.safetensors"]


@pytest.fixture
def loras(tmp_path):
    """Makes files of these names and gives what reads lines about them: from a text to the checkpoints."""

    def make(names, triggers=None, **options):
        for name in names:
            write_lora(tmp_path / name.replace("\\", "/"), (triggers or {}).get(name, ""))
        return lambda text, trigger="": parse_checkpoints(text, names, lambda name: tmp_path / name.replace("\\", "/"), trigger)

    return make


def labels(found):
    return [one.label for one in found]


def refused(read, text, sentence):
    with pytest.raises(InputError) as error:
        read(text)
    assert str(error.value) == sentence


# --- names of trainers ---


@pytest.mark.parametrize(
    ("name", "step"),
    {
        "mira_000000500": 500,  # ai-toolkit
        "mira-step00001000": 1000,  # musubi-tuner, sd-scripts
        "mira-000012": 12,  # the same, after an epoch
        "mira_500": 500,
        "mira 500": 500,
        "mira_epoch_30": 30,
        "mira-e40": 40,
        "Mira-STEP00000750": 750,
        "run/v2/mira_000002000": 2000,
        "run_100\\mira_000002000": 2000,
        "checkpoint-1500": 1500,
        "500": 500,
        "mira_\u0660\u0665\u0660\u0660": 500,
        "mira": None,
        "mira_final": None,
        "mira_v2": None,
        "mira_v10": None,
        "miraStep500": 500,
        "mira.epoch_30": 30,
        "mira_r16": None,
        "mira_000000500_fixed": None,
        "run_500/mira": None,
    }.items(),
)
def test_the_step_or_epoch_is_the_number_at_the_end_of_a_name(name, step):
    assert step_of(f"{name}.safetensors") == step


def test_a_number_that_belongs_to_the_name_is_no_step_where_others_carry_it_on(loras):
    names = ["qwen_2512.safetensors", "qwen_2512_000000500.safetensors", "qwen_2512_000001000.safetensors", "other/qwen_2512.safetensors"]
    assert step_of(names[0]) == 2512
    assert [step_of(name, trainings_in(names)) for name in names] == [None, 500, 1000, 2512]
    found = loras(names)("./")
    assert labels(found) == ["qwen_2512_000000500", "qwen_2512_000001000", "qwen_2512"] and [one.step for one in found] == [500, 1000, None]


@pytest.mark.parametrize(
    "named",
    [("{}_{:09d}", "{}"), ("{}-step{:08d}", "{}"), ("{}-{:06d}", "{}"), ("{}_{}", "{}"), ("{}-e{}", "{}")],
    ids=["ai-toolkit", "musubi-tuner steps", "sd-scripts epochs", "bare", "e"],
)
@given(steps=st.sets(st.integers(10, 99_999), min_size=1, max_size=8), order=st.randoms(use_true_random=False))
def test_a_folder_is_in_order_of_steps_with_the_final_file_last(named, steps, order):
    numbered, final = named
    names = [f"run/{numbered.format('mira', step)}.safetensors" for step in steps] + [f"run/{final.format('mira')}.safetensors"]
    order.shuffle(names)
    # Files that are not there make checkpoints with an error, in the same order.
    found = parse_checkpoints("run/", names, lambda name: Path("/nowhere") / name)
    assert [one.step for one in found] == [*sorted(steps), None]


def test_two_trainings_in_a_folder_stay_apart(loras):
    names = ["b_000000100.safetensors", "a.safetensors", "b.safetensors", "a_000000900.safetensors", "a_000000200.safetensors"]
    assert labels(loras(names)("./")) == ["a_000000200", "a_000000900", "a", "b_000000100", "b"]


# --- lines ---


@pytest.mark.parametrize("line", ["mira/", "mira", "mira\\", "models/loras/mira/", "./mira", "mira/*", "mira/mira*", "  mira/  ", "# mine\nmira/\n\n"])
def test_a_folder_can_be_named_in_many_ways(loras, line):
    assert labels(loras([*AI_TOOLKIT, "other.safetensors"])(line)) == ["mira_000000500", "mira_000001000", "mira_000010000", "mira"]


def test_a_folder_is_not_what_lies_below_it_in_further_folders(loras):
    names = ["run/a.safetensors", "run/old/b.safetensors", "c.safetensors"]
    read = loras(names)
    assert labels(read("run")) == ["a"] and labels(read("./")) == ["c"] and labels(read("run/*")) == ["a", "b"]
    refused(read, "runs/", "'runs/' is neither a LoRA nor a folder of LoRAs in models/loras; put the .safetensors files there and press R.")


def test_lines_are_in_the_order_written_and_each_checkpoint_is_there_once(loras):
    read = loras(AI_TOOLKIT)
    found = read("mira/mira.safetensors\nmira/mira_000000500\nmira/\n")
    assert labels(found) == ["mira", "mira_000000500", "mira_000001000", "mira_000010000"]
    assert all(one.parts[0].lora.family == "Qwen-Image" and not one.error for one in found)


def test_a_pattern_takes_what_fits_and_says_when_nothing_does(loras):
    read = loras(AI_TOOLKIT)
    assert labels(read("mira/mira_*0500.safetensors\nmira/mira_00000?000.safetensors")) == ["mira_000000500", "mira_000001000"]
    refused(read, "mira/nina*", "'mira/nina*' matches no LoRA in models/loras; put the .safetensors files there and press R.")


def test_brackets_in_a_pattern_are_brackets(loras):
    (found,) = loras(["mira [v1]/a.safetensors", "mira v/b.safetensors"])("mira [v1]/*")
    assert found.label == "a"


def test_nothing_named_is_one_sentence(loras):
    for text in ("", "  \n", "# mira/"):
        refused(loras(AI_TOOLKIT), text, "No LoRA is named: write the folder of your checkpoints below models/loras, or one file a line.")


def test_names_of_windows_are_read_with_either_slash_and_kept_as_the_host_has_them(loras):
    names = ["mira\\mira_000001000.safetensors", "mira\\mira_000000500.safetensors"]
    read = loras(names)
    for line in ("mira/", "mira\\", "mira\\*", "models\\loras\\mira\\"):
        found = read(line)
        assert labels(found) == ["mira_000000500", "mira_000001000"] and [one.parts[0].name for one in found] == names[::-1]
    assert folders_of(names) == ["mira"]


HOSTILE = [
    "a + b.safetensors",
    "a | b.safetensors",
    "we:ird.safetensors",
    "mira:0.8/x.safetensors",
    "two  blanks/x.safetensors",
    "#1 mira/x.safetensors",
    "x + y/z | w/q:1.safetensors",
    "ünï 人物/mi\u0301ra.safetensors",
    "-rf.safetensors",
    "=cmd|' /C calc'!A1.safetensors",
    "mira[1].safetensors",
    "mira.v1.5.safetensors",
    "{trigger}.safetensors",
    "models/x.safetensors",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_taken_as_it_is_whatever_signs_are_in_it(loras, name):
    read = loras([name, "lightning.safetensors"])
    (found,) = read(f"./{name}")
    assert found.parts[0].name == name and found.parts[0].strength is None and not found.error
    (found,) = read(f"./{name} | m1ra")
    assert found.parts[0].name == name and found.trigger == "m1ra"
    # As the node names a folder that was chosen.
    folder = name.rpartition("/")[0] or "."
    assert name in [part.name for one in read(f"./{folder}/") for part in one.parts]


def test_a_name_with_signs_that_are_on_no_line_is_found_by_its_folder_and_called_on_one_line(loras):
    found = loras(["x/a\tb.safetensors", "x/a\x07b.safetensors"])("x/")
    assert labels(found) == ["x/a b.safetensors", "x/a b.safetensors (2)"] and len({one.parts[0].name for one in found}) == 2


@given(st.lists(st.text(st.characters(blacklist_characters="/\\\0", blacklist_categories=()), min_size=1, max_size=12), min_size=1, max_size=6, unique=True))
def test_labels_are_different_and_on_one_line_for_any_names(stems):
    names = [f"run/{stem}.safetensors" for stem in stems]
    found = parse_checkpoints("run/", names, lambda name: Path("/nowhere/x.safetensors"))
    assert len(found) == len(names) and len(set(labels(found))) == len(found)
    assert all("".join(label.encode("utf-8").decode().splitlines()) == label for label in labels(found))


def test_names_that_are_the_same_in_two_folders_are_told_with_them(loras):
    assert labels(loras(["a/mira.safetensors", "b/mira.safetensors", "nina.safetensors"])("a\nb\nnina")) == ["a/mira", "b/mira", "nina"]
    assert labels(loras(["mira.safetensors", "mira.sft"])("./")) == ["mira.safetensors", "mira.sft"]


def test_other_files_than_loras_are_in_no_folder(loras):
    names = ["run/a.safetensors", "run/optimizer.pt", "run/notes.txt", "empty/readme.md"]
    assert labels(loras(names)("run/")) == ["a"] and folders_of(names) == ["run"]


# --- combinations ---


def test_several_loras_together_with_a_fixed_strength_for_some(loras):
    found = loras([*AI_TOOLKIT, "lightning.safetensors"])("mira/ + lightning.safetensors:1")
    assert labels(found) == [f"{name} + lightning:1" for name in ("mira_000000500", "mira_000001000", "mira_000010000", "mira")]
    assert [[part.strength for part in one.parts] for one in found] == [[None, 1.0]] * 4
    assert [one.step for one in found] == [500, 1000, 10000, None]


def test_every_pair_of_two_folders_is_looked_at(loras):
    read = loras(["a/x_10.safetensors", "a/x_20.safetensors", "b/y_30.safetensors", "b/y_40.safetensors"])
    found = read("a/ + b/")
    assert labels(found) == ["x_10 + y_30", "x_10 + y_40", "x_20 + y_30", "x_20 + y_40"]
    # Two steps that are not the same are no step of the pair.
    assert [one.step for one in found] == [None] * 4
    assert [one.step for one in read("a/ + b/y_30.safetensors:-0.5")] == [10, 20]


def test_the_same_file_at_two_fixed_strengths_is_two_checkpoints(loras):
    assert labels(loras(["a.safetensors", "b.safetensors"])("a + b:0.5\na + b:1\na + b:0.50")) == ["a + b:0.5", "a + b:1"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a:strong", "'strong' behind the colon of 'a' is no strength; write a number such as 0.8."),
        ("a + b:11", "The strength 11 of 'b' must be -10 to 10."),
        ("a + b:nan", "The strength nan of 'b' must be -10 to 10."),
        ("a + c:1", "'c' is neither a LoRA nor a folder of LoRAs in models/loras; put the .safetensors files there and press R."),
        ("a +", "'a +' is neither a LoRA nor a folder of LoRAs in models/loras; put the .safetensors files there and press R."),
    ],
)
def test_a_combination_that_cannot_be_is_one_sentence(loras, line, sentence):
    refused(loras(["a.safetensors", "b.safetensors"]), line, sentence)


def test_a_line_with_nothing_to_sweep_is_left_out_with_its_reason(loras):
    (found,) = loras(["a.safetensors", "b.safetensors"])("a:1 + b:0.5")
    assert found.error == "every strength in this line is fixed, so that nothing is left to sweep: leave one without a colon"


def test_too_many_checkpoints_are_refused_before_all_pairs_are_made(monkeypatch):
    monkeypatch.setattr(module, "MOST_CHECKPOINTS", 20)
    reads = []
    monkeypatch.setattr(module, "read_lora", lambda path: reads.append(path) or (_ for _ in ()).throw(InputError("no")))
    names = [f"run/x_{number:05}.safetensors" for number in range(10, 1010)]
    with pytest.raises(InputError, match=r"^The lines name more than 20 checkpoints; name fewer\.$"):
        parse_checkpoints("run/ + run/ + run/", names, Path)
    assert len(reads) <= 21


# --- triggers ---


@pytest.mark.parametrize(
    ("line", "typed", "trigger"),
    [
        ("a", "", "from_file"),
        ("a", "typed", "typed"),
        ("a | own word", "typed", "own word"),
        ("a | none", "typed", ""),
        ("a | -", "", ""),
        ("a", "none", ""),
        ("a", "NONE", ""),
        ("b", "", ""),
        ("b", "typed", "typed"),
        ("a + b:1", "", "from_file"),
        ("a + c:1", "", "from_file, also"),
        ("a + a:0.5", "", "from_file"),
    ],
)
def test_the_lines_own_trigger_counts_then_the_typed_one_then_the_files(loras, line, typed, trigger):
    read = loras(["a.safetensors", "b.safetensors", "c.safetensors"], {"a.safetensors": "from_file", "c.safetensors": "also"})
    assert [one.trigger for one in read(line, typed)] == [trigger]


def test_a_trigger_behind_a_file_counts_though_its_folder_is_named_before(loras):
    found = loras(AI_TOOLKIT)("mira/\nmira/mira_000000500 | ohwx", "m1ra")
    assert [(one.label, one.trigger) for one in found][:2] == [("mira_000000500", "ohwx"), ("mira_000001000", "m1ra")] and len(found) == 4


# --- files that cannot be read ---


def test_an_unreadable_file_is_marked_and_the_rest_goes_on(loras, tmp_path):
    names = ["run/a_10.safetensors", "run/a_20.safetensors", "run/a_30.safetensors", "run/a_40.safetensors", "run/a.safetensors"]
    read = loras(names)
    (tmp_path / names[0]).write_bytes(b"")
    (tmp_path / names[1]).write_bytes((tmp_path / names[4]).read_bytes()[:-20])
    (tmp_path / names[2]).unlink()
    (tmp_path / names[3]).write_bytes(b"PK\x03\x04" + b"\xff" * 100)
    found = read("run/")
    assert [one.step for one in found] == [10, 20, 30, 40, None] and found[-1].error == ""
    assert [one.error.partition(" ")[0] for one in found[:2]] == ["a_10.safetensors", "a_20.safetensors"]
    assert "empty" in found[0].error and "cut off" in found[1].error and "is not in" in found[2].error and "pickle" in found[3].error
    assert not any(one.error.endswith(".") or "\n" in one.error for one in found)


def test_a_combination_with_an_unreadable_file_is_marked_and_its_header_is_read_once(loras, tmp_path, monkeypatch):
    read = loras(["run/a_10.safetensors", "run/a_20.safetensors", "bad.safetensors"])
    (tmp_path / "bad.safetensors").write_bytes(b"<html>not found</html>")
    opened = []
    real = module.read_lora
    monkeypatch.setattr(module, "read_lora", lambda path: opened.append(Path(path).name) or real(path))
    found = read("run/ + bad.safetensors:1\nrun/")
    assert [bool(one.error) for one in found] == [True, True, False, False] and "web page" in found[0].error
    assert sorted(opened) == ["a_10.safetensors", "a_20.safetensors", "bad.safetensors"]


def test_what_a_host_asks_for_names_only_what_is_there_without_a_complaint():
    names = ["a + b.safetensors", "c.safetensors", "run/d_10.safetensors"]
    assert names_in("nothing/\na + b.safetensors\nrun/ + c:0.5 | m1ra\nc:strong", names) == ["a + b.safetensors", "run/d_10.safetensors", "c.safetensors"]


# --- strengths ---


@pytest.mark.parametrize(
    ("text", "strengths"),
    [
        ("0.6..1.0", (0.6, 0.7, 0.8, 0.9, 1.0)),
        ("0.6, 0.8, 1", (0.6, 0.8, 1.0)),
        ("1; 0.8\n0.6,", (0.6, 0.8, 1.0)),
        ("0.5..1.0/0.25", (0.5, 0.75, 1.0)),
        ("0.5 .. 1 / 0.5", (0.5, 1.0)),
        ("0.8, 0.6..0.8", (0.6, 0.7, 0.8)),
        ("-1, 1", (-1.0, 1.0)),
        ("0.1..2", tuple(round(0.1 * i, 4) for i in range(1, 21))),
        ("0.3..0.95/0.3", (0.3, 0.6, 0.9)),
        ("1e-1", (0.1,)),
    ],
)
def test_strengths_are_numbers_and_ranges_in_order_each_once(text, strengths):
    assert parse_strengths(text) == strengths


NO_NUMBER = "in strengths is no number; write numbers such as 0.6, 0.8, 1.0, or a range such as 0.6..1.0."
FROM_TO = "must go from a lower to a higher number, both from -10 to 10."
STEP = "must have a step from 0.01 to 10 behind the slash, such as 0.6..1.0/0.2."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("strong", f"'strong' {NO_NUMBER}"),
        ("0.6, very", f"'very' {NO_NUMBER}"),
        ("0.6 0.8", f"'0.6 0.8' {NO_NUMBER}"),
        ("..", f"'..' {NO_NUMBER}"),
        ("0.6..1/x", f"'0.6..1/x' {NO_NUMBER}"),
        ("1.0..0.6", f"The strengths '1.0..0.6' {FROM_TO}"),
        ("11", f"The strengths '11' {FROM_TO}"),
        ("nan", f"The strengths 'nan' {FROM_TO}"),
        ("1..inf", f"The strengths '1..inf' {FROM_TO}"),
        ("0.6..1/0", f"The strengths '0.6..1/0' {STEP}"),
        ("0.6..1/-0.1", f"The strengths '0.6..1/-0.1' {STEP}"),
        ("0.6..1/inf", f"The strengths '0.6..1/inf' {STEP}"),
        ("0.6..1/nan", f"The strengths '0.6..1/nan' {STEP}"),
        ("", "No strength is named: write for example 0.6, 0.8, 1.0."),
        (" , ;", "No strength is named: write for example 0.6, 0.8, 1.0."),
        ("0", "Strength 0 is the model without the LoRA, which is always looked at beside the others; leave it out."),
        ("0..1/0.5", "Strength 0 is the model without the LoRA, which is always looked at beside the others; leave it out."),
        ("-0.5..0.5/0.5", "Strength 0 is the model without the LoRA, which is always looked at beside the others; leave it out."),
        ("1..9", "'1..9' stands for 81 strengths; 20 is the most."),
        ("0.1..2, 3", "21 strengths are named; 20 is the most."),
    ],
)
def test_strengths_that_cannot_be_are_one_sentence(text, sentence):
    with pytest.raises(InputError) as error:
        parse_strengths(text)
    assert str(error.value) == sentence


@given(st.text(st.sampled_from("0123456789.,;/-+e naif_x"), max_size=24))
def test_any_text_gives_strengths_in_order_or_one_sentence(text):
    try:
        strengths = parse_strengths(text)
    except InputError as error:
        assert re.fullmatch(r"[^\n]+\.", str(error))
        return
    assert 1 <= len(strengths) <= module.MOST_STRENGTHS and list(strengths) == sorted(set(strengths))
    assert all(value and abs(value) <= module.STRONGEST for value in strengths)
