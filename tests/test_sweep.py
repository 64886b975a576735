"""A sweep without a host: what is made in which order, what is remembered, what the figures are, and which cell they speak for."""

import math
import threading
import time
from dataclasses import replace
from itertools import combinations
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.identity.scoring import Rules
from character_likeness.nodes.lora_dataset import choices, sweep
from character_likeness.nodes.lora_dataset.checkpoints import parse_strengths, read_lora
from character_likeness.nodes.lora_dataset.standing import standing
from character_likeness.nodes.lora_dataset.sweep import (
    NO_LORA,
    OUT_OF_MEMORY,
    Cell,
    Plan,
    Result,
    Shown,
    Watch,
    picture_distance,
    reduced,
    with_trigger,
)
from tests.tiny.sweeps import ByPixel, FakeStudio, checkpoint, memory, mira, painted, seen, write_lora

STANDARD, STRICT = Rules(0.4, "standard"), Rules(0.5, "strict")
FIRST, SECOND = checkpoint("mira_500", step=500), checkpoint("mira_1000", step=1000)
PROMPTS = ("{trigger} in a kitchen", "{trigger} on a beach")
KITCHEN, BEACH = "m1ra in a kitchen", "m1ra on a beach"


def plan(checkpoints=(FIRST, SECOND), strengths=(0.6, 1.0), prompts=PROMPTS, seeds=(1, 2), batch=1):
    return Plan(tuple(checkpoints), tuple(strengths), tuple(prompts), tuple(seeds), batch)


def looks(label, strength, text, seed):
    """Better with the second checkpoint and with strength; another shade for each prompt and seed."""
    likeness = 0.2 if label is None else {"mira_500": 0.3, "mira_1000": 0.5}.get(label, 0.3) + 0.2 * strength + 0.01 * seed
    return likeness, 0.2 + 0.1 * seed + 0.2 * (text == BEACH) + 0.1 * strength, 10 * seed


def swept(look=looks, remembered=None, who=None, rules=STANDARD, watch=None, group=4, studio=None, **planned):
    return sweep.run(plan(**planned), studio or FakeStudio(look), memory() if remembered is None else remembered, who or mira(), rules, watch, group)


def figures(result):
    """What a sweep found, without what the clock had to do with it."""
    cells = [(cell.label, cell.standing, cell.spread, cell.distance, cell.errors) for cell in (result.base, *result.cells)]
    return cells, [cell.label for cell in result.pareto], result.suggestion.reason, result.notes


# --- the order of work ---


def test_a_lora_is_outermost_each_text_is_encoded_once_and_groups_are_sampled_then_decoded():
    studio = FakeStudio(looks)
    swept(studio=studio, group=3)
    assert [one[1] for one in studio.told if one[0] == "encode"] == [KITCHEN, BEACH]
    assert [one[0] for one in studio.told[:2]] == ["encode"] * 2
    painters = [one[1:] for one in studio.told if one[0] == "painter"]
    assert painters == [(None, 0.0), ("mira_500", 0.6), ("mira_500", 1.0), ("mira_1000", 0.6), ("mira_1000", 1.0)]
    assert [one[0] for one in studio.told if one[0] != "encode"] == (["painter"] + ["sample"] * 3 + ["decode"] * 3 + ["sample", "decode"]) * 5
    assert [one[3:] for one in studio.told if one[:3] == ("sample", "mira_500", 1.0)] == [(KITCHEN, 1), (KITCHEN, 2), (BEACH, 1), (BEACH, 2)]


@pytest.mark.parametrize("group", [1, 2, 5, 64])
def test_the_size_of_a_group_changes_nothing_that_is_found(group):
    assert figures(swept(group=group)) == figures(swept())


def test_texts_of_a_lora_that_changes_the_text_encoder_are_left_to_its_painter(tmp_path):
    lora = read_lora(write_lora(tmp_path / "mira_500.safetensors", text=True))
    own = checkpoint("mira_500", trigger="own", lora=lora)
    assert lora.text_layers and sweep.Shot(own, 1.0, "x", 1).has_own_encoder
    studio = FakeStudio(looks)
    swept(studio=studio, checkpoints=(own,))
    # Those without a LoRA have the same words and are encoded by the model's own.
    assert [one[1] for one in studio.told if one[0] == "encode"] == ["own in a kitchen", "own on a beach"]
    remembered, studio = memory(), FakeStudio(looks)
    swept(remembered=remembered, checkpoints=(own,), strengths=(0.6,))
    swept(studio=studio, remembered=remembered, checkpoints=(own,))
    assert studio.count("encode") == 0 and studio.count("sample") == 4


def test_each_trigger_has_its_own_pictures_without_a_lora():
    other = checkpoint("nina_500", trigger="n1na")
    result = swept(checkpoints=(FIRST, other), strengths=(1.0,))
    assert [one.shot.text for one in result.base.pictures][::2] == [KITCHEN, BEACH, "n1na in a kitchen", "n1na on a beach"]
    assert [[one.shot.text for one in row[0].pictures][::2] for row in result.rows] == [[KITCHEN, BEACH], ["n1na in a kitchen", "n1na on a beach"]]


def test_a_group_is_measured_while_the_next_one_is_sampled():
    both = threading.Barrier(2, timeout=10)

    class Slow(ByPixel):
        def faces(self, *args, **kwargs):
            if threading.current_thread() is not threading.main_thread():
                both.wait()
            return super().faces(*args, **kwargs)

    class Meeting(Watch):
        """The second picture is sampled only while the first one is measured."""

        def __init__(self):
            self.begun, self.order = 0, []

        def begin(self, shots):
            self.begun += 1

        def step(self, done, steps, preview):
            if self.begun > 1:
                both.wait()

        def finished(self, shown, image):
            self.order.append(shown.shot)
            if len(self.order) == plan_.count - 1:
                # Nothing is sampled beside the last one.
                threading.Thread(target=both.wait, daemon=True).start()

    plan_, watch, who = plan(checkpoints=(FIRST,), strengths=(0.6,)), Meeting(), mira(Slow())
    result = sweep.run(plan_, FakeStudio(looks), memory(), who, STANDARD, watch, group=1)
    assert watch.order == [*plan_.base, *plan_.cell(FIRST, 0.6)] and figures(result) == figures(swept(checkpoints=(FIRST,), strengths=(0.6,)))


def test_a_fault_of_the_recognizer_ends_the_sweep_and_is_not_hidden():
    class Broken(ByPixel):
        def faces(self, *args, **kwargs):
            raise InputError("the recognizer is gone.")

    who = mira(Broken())
    with pytest.raises(InputError, match="the recognizer is gone"):
        swept(who=who)


# --- several seeds at once ---


def test_a_batch_samples_the_seeds_of_a_prompt_at_once_and_finds_the_same():
    studio = FakeStudio(looks)
    result = swept(studio=studio, seeds=(1, 2, 3, 4, 5), batch=2)
    assert [one[3:] for one in studio.told if one[:3] == ("sample", "mira_500", 1.0)] == [
        (text, *some) for text in (KITCHEN, BEACH) for some in [(1, 2), (3, 4), (5,)]
    ]
    assert studio.count("decode") == studio.count("sample") and all(len(one) <= 3 for one in studio.told if one[0] == "decode")
    assert figures(result) == figures(swept(seeds=(1, 2, 3, 4, 5)))


def test_a_group_takes_whole_batches():
    studio = FakeStudio(looks)
    swept(studio=studio, checkpoints=(FIRST,), strengths=(0.6,), seeds=(1, 2, 3), batch=2, group=4)
    assert [one[0] for one in studio.told if one[0] != "encode"] == (["painter"] + ["sample"] * 3 + ["decode"] * 3 + ["sample", "decode"]) * 2


def test_of_a_batch_only_what_is_missing_is_sampled():
    remembered, studio, watch = memory(), FakeStudio(looks), Told()
    swept(remembered=remembered, batch=2)
    del remembered.latents[studio.key(plan().base[0], False)]
    remembered._shown.clear()
    who = mira(ByPixel("another recognizer"))
    again = swept(remembered=remembered, studio=studio, who=who, batch=2, watch=watch)
    # Its neighbour is decoded alone.
    assert [one for one in studio.told if one[0] == "sample"] == [("sample", None, 0.0, KITCHEN, 1)]
    assert [one for one in watch.said if one[0] == "begin"] == [("begin", plan().base[0])]
    assert who.recognizer.asked == plan().count and studio.count("decode") == plan().count / 2 + 1 and figures(again) == figures(swept())


def test_what_is_missing_of_a_batch_is_decoded_with_all_of_it():
    remembered, studio, who = memory(), FakeStudio(looks), mira()
    swept(remembered=remembered, who=who, batch=2)
    (person,) = {person for _, person in remembered._shown}
    del remembered._shown[studio.key(plan().base[1], False), person]
    asked = who.recognizer.asked
    again = swept(remembered=remembered, studio=studio, who=who, batch=2)
    assert studio.told == [("decode", looks(None, 0.0, KITCHEN, 1), looks(None, 0.0, KITCHEN, 2))] and who.recognizer.asked == asked + 1
    assert figures(again) == figures(swept())


@pytest.mark.parametrize(("seeds", "batch"), [((1, 2, 3), 2), ((1, 2, 3, 4), 3), ((0, 1, 2), 2), ((2,), 2)])
def test_more_or_fewer_seeds_and_other_batches_sample_only_what_is_missing(seeds, batch):
    remembered, studio = memory(), FakeStudio(looks)
    swept(remembered=remembered, batch=2)
    again = swept(remembered=remembered, studio=studio, seeds=seeds, batch=batch)
    sampled = [seed for one in studio.told if one[0] == "sample" for seed in one[4:]]
    assert sampled == [seed for _ in range(5 * 2) for seed in seeds if seed not in (1, 2)] and figures(again) == figures(swept(seeds=seeds))


def test_pictures_that_are_made_alone_are_others():
    remembered, studio = memory(), FakeStudio(looks)
    swept(remembered=remembered, batch=2)
    swept(remembered=remembered, studio=studio)
    assert studio.count("sample") == plan().count


def test_where_memory_does_not_suffice_for_a_batch_its_pictures_and_all_later_ones_are_made_one_by_one():
    remembered, studio, watch = memory(), FakeStudio(looks, tight=[("sample", 3)]), Told()
    result = swept(remembered=remembered, studio=studio, batch=2, watch=watch)
    assert studio.freed == 1 and [len(one) - 4 for one in studio.told if one[0] == "sample"] == [2, 2, 2] + [1] * 16
    assert result.notes == ("2 pictures at once do not fit into memory: from mira_500 at 0.6 on fewer were sampled at once.",)
    assert figures(result)[:3] == figures(swept())[:3]
    finished = [one[1] for one in watch.said if one[0] == "finished"]
    assert len(finished) == len(set(finished)) == plan().count
    # The next one knows them all.
    rest = FakeStudio(looks)
    again = swept(remembered=remembered, studio=rest, batch=2)
    assert rest.told == [] and figures(again)[:3] == figures(result)[:3] and again.notes == ()
    # What was made alone is what a batch of 1 makes.
    swept(remembered=remembered, studio=rest)
    assert rest.count("sample") == 4


def test_half_as_many_are_sampled_at_once_where_memory_does_not_suffice_and_also_after_a_stop():
    studio = FakeStudio(looks, tight=[("sample", 1)])
    swept(studio=studio, seeds=(1, 2, 3, 4), batch=4)
    whole = [one for one in studio.told if one[0] == "sample"]
    assert [one[4:] for one in whole[:5]] == [(1, 2, 3, 4), (1, 2), (3, 4), (1, 2), (3, 4)] and all(len(one) == 6 for one in whole[1:])
    # From the first piece of work after the batch that did not fit.
    for stop in range(47, 100, 4):
        remembered, studio, rest = memory(), FakeStudio(looks, tight=[("sample", 1)]), FakeStudio(looks)
        with pytest.raises(Stopped):
            swept(remembered=remembered, studio=studio, watch=StopAt(stop), seeds=(1, 2, 3, 4), batch=4)
        swept(remembered=remembered, studio=rest, seeds=(1, 2, 3, 4), batch=4)
        # What was being sampled when it was stopped is sampled again, with the same seeds.
        assert {one for one in (*studio.told, *rest.told) if one[0] == "sample"} == set(whole), stop


def test_what_cannot_be_decoded_at_once_is_decoded_one_by_one():
    remembered, studio = memory(), FakeStudio(looks, tight=[("decode", 2)])
    result = swept(remembered=remembered, studio=studio, batch=2)
    assert figures(result)[:3] == figures(swept())[:3] and studio.count("decode") == 10 + 2 and studio.freed == 1
    assert result.notes == ("2 pictures at once do not fit into memory: from no LoRA on fewer were decoded at once.",)
    # The same of what an earlier run sampled; what cannot be decoded at all is told, and not sampled again.
    studio, who = FakeStudio(looks, tight=[("decode", 1), ("decode", 2)]), mira(ByPixel("another recognizer"))
    again = swept(remembered=remembered, studio=studio, who=who, batch=2)
    assert studio.count("sample") == 0 and [one.error for one in again.base.pictures] == [OUT_OF_MEMORY, "", "", ""]


def test_more_are_sampled_at_once_than_decoded():
    studio = FakeStudio(looks)
    swept(studio=studio, seeds=range(1, 11), batch=10)
    assert [len(one) - 1 for one in studio.told if one[0] == "decode"][:3] == [4, 4, 2]
    assert [len(one) - 4 for one in studio.told if one[0] == "sample"] == [10] * 10


def test_a_studio_that_gives_another_number_of_pictures_is_no_silent_fault():
    class Odd(FakeStudio):
        def decode(self, latents):
            return super().decode(latents)[:1]

    with pytest.raises(ValueError):
        swept(studio=Odd(looks), batch=2)


def test_a_watch_is_told_of_pictures_that_will_not_be_made():
    class Dropped(Told):
        def dropped(self, pictures):
            self.said.append(("dropped", pictures))

    watch = Dropped()
    swept(studio=FakeStudio(looks, broken=["mira_500"], tight=[("painter", 4)]), watch=watch)
    assert [one for one in watch.said if one[0] == "dropped"] == [("dropped", 4)] * 3


def test_of_what_is_kept_again_the_latest_is_remembered_longest():
    remembered = memory(most=2)
    for key in ("a", "b", "a", "c"):
        remembered.sampled([key], [key], 1.0)
    assert remembered.is_waiting("a") and remembered.is_waiting("c") and not remembered.is_waiting("b") and remembered.seconds("b") == 0


def test_a_single_picture_that_does_not_fit_either_is_told_in_its_place():
    studio = FakeStudio(looks, tight=[("sample", 3), ("sample", 4)])
    result = swept(studio=studio, batch=2)
    assert [one.error for one in result.cells[0].pictures] == [OUT_OF_MEMORY] + [""] * 3 and studio.freed == 2


@pytest.mark.parametrize("stop", range(0, 60, 7))
def test_an_interrupted_sweep_in_batches_that_did_not_all_fit_goes_on_to_the_same_figures(stop):
    remembered, studio = memory(), FakeStudio(looks, tight=[("sample", 3)])
    with pytest.raises(Stopped):
        swept(remembered=remembered, studio=studio, watch=StopAt(stop), group=3, batch=2)
    again = swept(remembered=remembered, group=3, batch=2)
    assert figures(again)[:3] == figures(swept(batch=2))[:3] and all("in an earlier sweep" in note for note in again.notes)


def test_the_count_and_its_arithmetic_are_those_of_what_is_made():
    big = plan(strengths=(0.6, 0.8, 1.0), seeds=(1, 2, 3))
    studio = FakeStudio(looks)
    sweep.run(big, studio, memory(), mira(), STANDARD)
    assert big.count == studio.count("sample") == 6 + 2 * 3 * 2 * 3
    assert big.arithmetic == "2 checkpoints x 3 strengths x 2 prompts x 3 seeds, and 6 without a LoRA"
    assert plan((FIRST,), (1.0,), PROMPTS[:1], (1,)).arithmetic == "1 checkpoint x 1 strength x 1 prompt x 1 seed, and 1 without a LoRA"


# --- memory ---


def test_a_second_run_makes_nothing_and_finds_the_same():
    remembered, studio = memory(), FakeStudio(looks)
    first = swept(remembered=remembered)
    who = mira(ByPixel())
    again = swept(remembered=remembered, studio=studio, who=who)
    assert studio.told == [] and who.recognizer.asked == 0 and figures(again) == figures(first)
    assert [cell.seconds for cell in again.cells] == [cell.seconds for cell in first.cells]
    assert all(one.remembered for cell in again.cells for one in cell.pictures) and not any(one.remembered for cell in first.cells for one in cell.pictures)


def test_one_missing_picture_costs_one_sample_and_one_text():
    remembered, studio = memory(), FakeStudio(looks)
    swept(remembered=remembered)
    swept(remembered=remembered, studio=studio, checkpoints=(FIRST,), prompts=PROMPTS[:1], strengths=(0.6, 0.7), seeds=(1,))
    assert [one[0] for one in studio.told] == ["encode", "painter", "sample", "decode"] and studio.told[0] == ("encode", KITCHEN)


def test_another_person_is_measured_from_the_latents_without_sampling():
    remembered, studio = memory(), FakeStudio(looks)
    first = swept(remembered=remembered)
    who = mira(ByPixel("another recognizer"))
    again = swept(remembered=remembered, studio=studio, who=who)
    assert studio.count("sample") == studio.count("painter") == studio.count("encode") == 0
    assert studio.count("decode") == who.recognizer.asked == plan().count
    assert figures(again) == figures(first) and [cell.seconds for cell in again.cells] == [cell.seconds for cell in first.cells]


def test_another_strictness_is_judged_from_what_was_measured():
    remembered, studio = memory(), FakeStudio(looks)
    first = swept(remembered=remembered)
    again = swept(remembered=remembered, studio=studio, rules=STRICT)
    assert studio.told == [] and figures(again) == figures(first)
    verdicts = [[one.judgement.verdict for cell in result.cells for one in cell.pictures] for result in (first, again)]
    assert verdicts[0] != verdicts[1] and set(verdicts[1]) == {"pass", "reject"}


def test_what_was_measured_may_be_forgotten_and_comes_again_from_the_latents():
    remembered, studio = memory(most=3), FakeStudio(looks)
    first = swept(remembered=remembered)
    again = swept(remembered=remembered, studio=studio)
    assert studio.count("sample") == 0 and studio.count("decode") > 0 and figures(again) == figures(first)
    # A time that is forgotten is no time of nothing.
    assert all(cell.seconds is None or cell.seconds > 0 for cell in again.cells) and again.cells[0].seconds is None


def test_cleared_memory_makes_everything_again():
    remembered, studio = memory(), FakeStudio(looks)
    swept(remembered=remembered)
    remembered.clear()
    swept(remembered=remembered, studio=studio)
    assert studio.count("sample") == plan().count


# --- what goes wrong on the way ---


class Stopped(Exception):
    pass


class StopAt(Watch):
    """Stops at the n-th piece of work, as the host's interrupt does."""

    def __init__(self, number):
        self.left = number

    def check(self):
        self.left -= 1
        if self.left < 0:
            raise Stopped


@pytest.mark.parametrize("stop", [0, 1, 25, 29, 37, 44, 61])
def test_an_interrupted_sweep_keeps_what_is_done_and_goes_on_to_the_same_figures(stop):
    whole = swept(group=3)
    remembered, studio = memory(), FakeStudio(looks)
    with pytest.raises(Stopped):
        swept(remembered=remembered, studio=studio, watch=StopAt(stop), group=3)
    done, rest = studio.count("sample"), FakeStudio(looks)
    again = swept(remembered=remembered, studio=rest, group=3)
    assert rest.count("sample") == plan().count - done and figures(again) == figures(whole)
    # Also of pictures that were sampled and not decoded before the stop.
    assert all(one.seconds > 0 for cell in (again.base, *again.cells) for one in cell.pictures)


def test_not_enough_memory_for_one_picture_is_told_in_its_place_and_the_others_are_made():
    studio, remembered = FakeStudio(looks, tight=[("sample", 6), ("decode", 9)]), memory()
    result = swept(studio=studio, remembered=remembered)
    assert studio.freed == 2 and studio.count("sample") == plan().count
    lacking = [one for cell in result.cells for one in cell.pictures if one.judgement is None]
    assert [one.error for one in lacking] == [OUT_OF_MEMORY] * 2
    assert [cell.standing.n for cell in result.cells] == [3, 3, 4, 4]
    assert result.cells[0].errors == [OUT_OF_MEMORY] and result.cells[3].errors == []
    # Both are made the next time; of the one that was sampled only the decoding.
    rest = FakeStudio(looks)
    again = swept(studio=rest, remembered=remembered)
    assert rest.count("sample") == 1 and rest.count("decode") == 2 and figures(again) == figures(swept())


def test_not_enough_memory_for_a_checkpoint_is_told_in_its_pictures():
    studio = FakeStudio(looks, tight=[("painter", 2)])
    result = swept(studio=studio)
    assert studio.freed == 1
    assert [one.error for one in result.cells[0].pictures] == [OUT_OF_MEMORY] * 4 and result.cells[0].standing.mean is None
    assert [cell.standing.n for cell in result.cells[1:]] == [4, 4, 4] and result.suggestion.cell in result.cells[1:]


def test_another_fault_is_not_hidden():
    class Broken(FakeStudio):
        def decode(self, latent):
            raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        swept(studio=Broken(looks))


def test_a_checkpoint_that_cannot_be_loaded_is_left_out_with_its_reason_and_asked_once():
    studio = FakeStudio(looks, broken=["mira_500"])
    result = swept(studio=studio)
    assert [row[1].checkpoint.label for row in result.rows] == ["mira_1000"] and studio.count("painter") == 4
    assert result.failed == {"mira_500": "mira_500.safetensors matches nothing in this model; it is a LoRA for Flux"}
    assert "mira_500 is left out: mira_500.safetensors matches nothing in this model; it is a LoRA for Flux." in result.notes
    assert figures(result)[0][1:] == figures(swept(checkpoints=(SECOND,)))[0][1:]


def test_an_unreadable_checkpoint_is_left_out_and_no_picture_is_counted_for_it():
    bad = checkpoint("bad", error="bad.safetensors is an empty file; download it again")
    result = swept(checkpoints=(bad, SECOND))
    assert result.plan.count == 4 + 2 * 4 and "bad is left out: bad.safetensors is an empty file; download it again." in result.notes
    assert figures(result)[0] == figures(swept(checkpoints=(SECOND,)))[0]


def test_without_any_checkpoint_there_is_one_sentence():
    bad, worse = checkpoint("bad", error="bad.safetensors is an empty file; download it again"), checkpoint("worse", error="no")
    with pytest.raises(InputError, match=r"^No checkpoint can be used: bad: bad\.safetensors is an empty file; download it again\.$"):
        swept(checkpoints=(bad,))
    with pytest.raises(InputError, match=r"^None of the 2 checkpoints can be used; the first: bad: bad\.safetensors is an empty file; download it again\.$"):
        swept(checkpoints=(bad, worse))
    with pytest.raises(
        InputError, match=r"^No checkpoint can be used; mira_500: mira_500\.safetensors matches nothing in this model; it is a LoRA for Flux\.$"
    ):
        swept(studio=FakeStudio(looks, broken=["mira_500", "mira_1000"]))


def test_a_fault_of_what_all_share_ends_the_sweep_with_its_own_sentence():
    class NoReferences(FakeStudio):
        def painter(self, checkpoint, strength, texts):
            raise InputError("references are wired, and the model makes pictures from text alone.")

    with pytest.raises(InputError, match=r"^references are wired"):
        swept(studio=NoReferences(looks))


class Told(Watch):
    def __init__(self):
        self.said = []

    def plan(self, pictures, remembered):
        self.said.append(("plan", pictures, remembered))

    def begin(self, shots):
        self.said += [("begin", shot) for shot in shots]

    def finished(self, shown, image):
        self.said.append(("finished", shown.shot, image is not None))


def test_a_watch_is_told_of_each_picture_with_the_picture_where_it_is_new():
    remembered, watch = memory(), Told()
    swept(remembered=remembered, checkpoints=(FIRST,), strengths=(0.6,))
    swept(remembered=remembered, watch=watch, checkpoints=(FIRST,))
    known, new = [one[2] for one in watch.said if one[0] == "finished" and not one[2]], [one[1] for one in watch.said if one[0] == "finished" and one[2]]
    assert len(known) == 8 and [one[1] for one in watch.said if one[0] == "begin"] == new and ("plan", 4, 8) in watch.said
    assert {(shot.checkpoint, shot.strength) for shot in new} == {(FIRST, 1.0)} and len(new) == 4


class Keeping(Told):
    """Holds the pictures that are given out whole, and stops when so many have begun."""

    def __init__(self, stop_at):
        super().__init__()
        self.stop_at, self.whole = stop_at, []

    def begin(self, shots):
        super().begin(shots)
        if sum(one[0] == "begin" for one in self.said) > self.stop_at:
            raise Stopped

    def finished(self, shown, image):
        super().finished(shown, image)
        if image is not None:
            self.whole.append(shown.shot)


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 5, 8, 13, 19])
@pytest.mark.parametrize("batch", [1, 2])
def test_every_picture_is_given_out_whole_once_however_often_the_sweep_is_stopped(stop, batch):
    remembered, first, second = memory(), Keeping(stop), Keeping(1000)
    with pytest.raises(Stopped):
        swept(remembered=remembered, watch=first, group=3, batch=batch)
    swept(remembered=remembered, watch=second, group=3, batch=batch)
    everything = [*plan().base, *(shot for cell in plan().cells() for shot in plan().cell(*cell))]
    given = first.whole + second.whole
    assert len(given) == len(everything) and set(given) == set(everything)


def test_a_stop_waits_for_no_more_than_the_picture_that_is_being_measured():
    class Slow(ByPixel):
        def faces(self, *args, **kwargs):
            time.sleep(0.05)
            return super().faces(*args, **kwargs)

    who, remembered = mira(Slow()), memory()
    with pytest.raises(Stopped):
        swept(remembered=remembered, who=who, watch=Keeping(8), group=8)
    assert who.recognizer.asked <= 6


@pytest.mark.parametrize("batch", [0, -1, 65])
def test_a_batch_that_cannot_be_is_one_sentence(batch):
    with pytest.raises(InputError, match=rf"^batch is {batch}; choose 1 to 64\.$"):
        swept(batch=batch)


# --- figures ---


def test_spread_and_distance_are_those_of_the_pictures():
    result = swept(seeds=(1, 2, 3))
    small = {(label, strength, text, seed): reduced(painted(*looks(label, strength, text, seed))) for label in (None, "mira_500") for strength in (0.0, 0.6) for text in (KITCHEN, BEACH) for seed in (1, 2, 3)}  # fmt: skip
    cell = result.cells[0]
    pairs = [(("mira_500", 0.6, text, a), ("mira_500", 0.6, text, b)) for text in (KITCHEN, BEACH) for a, b in combinations((1, 2, 3), 2)]
    assert cell.spread == pytest.approx(mean(picture_distance(small[a], small[b]) for a, b in pairs))
    own = [(("mira_500", 0.6, text, seed), (None, 0.0, text, seed)) for text in (KITCHEN, BEACH) for seed in (1, 2, 3)]
    assert cell.distance == pytest.approx(mean(picture_distance(small[a], small[b]) for a, b in own))
    # Shades 0.1 apart from seed to seed, and 0.06 from those without.
    assert cell.spread == pytest.approx((0.1 + 0.1 + 0.2) / 3, abs=0.01) and cell.distance == pytest.approx(0.06, abs=0.01)


def test_the_distance_of_pictures_is_0_for_the_same_and_1_from_black_to_white():
    black, white = np.zeros((200, 100, 3), np.uint8), np.full((100, 200, 3), 255, np.uint8)
    assert picture_distance(reduced(black), reduced(black)) == 0 and picture_distance(reduced(black), reduced(white)) == 1
    half = white.copy()
    half[:, :100] = 0
    assert picture_distance(reduced(half), reduced(white)) == pytest.approx(math.sqrt(0.5))


def test_a_lora_that_changes_nothing_has_distance_0_and_the_figures_of_no_lora():
    result = swept(lambda label, strength, text, seed: looks(None, 0.0, text, seed))
    for cell in result.cells:
        assert cell.distance == 0 and (cell.standing, cell.spread) == (result.base.standing, result.base.spread)


def test_a_lora_that_makes_one_picture_whatever_the_seed_has_spread_0():
    result = swept(lambda label, strength, text, seed: looks(label, strength, text, 1 if label == "mira_500" else seed))
    assert [cell.spread for cell in result.cells[:2]] == [0, 0] and all(cell.spread > 0.05 for cell in (result.base, *result.cells[2:]))


def test_with_one_seed_nothing_is_known_of_the_spread():
    result = swept(seeds=(1,))
    assert {cell.spread for cell in (result.base, *result.cells)} == {None}
    assert any(note.startswith("With one seed nothing can be said about the spread between seeds") for note in result.notes)


def test_a_prompt_that_needs_no_face_is_left_out_of_the_figures_and_not_of_the_pictures():
    result = swept(lambda label, strength, text, seed: (None if "back view" in text else 0.6, 0.5), prompts=("{trigger}, portrait", "{trigger}, back view"))
    cell = result.cells[0]
    assert (cell.standing.n, cell.standing.rate.passed, cell.standing.no_face, len(cell.pictures)) == (2, 2, 0.0, 4)
    assert [one.judgement.verdict for one in cell.pictures] == ["pass", "pass", "not judged", "not judged"]


def test_a_picture_without_a_face_counts_as_failing_and_not_in_the_mean():
    result = swept(lambda label, strength, text, seed: (None if seed == 1 and label else 0.6, 0.5), seeds=(1, 2))
    own = result.cells[0].standing
    assert (own.n, own.rate.passed, own.scored, own.no_face) == (4, 2, 2, 0.5) and own.mean == pytest.approx(0.6) and result.base.standing.no_face == 0


# --- the Pareto set and the suggestion ---


def cell(scores, distance=0.2, spread=0.3, strength=0.8, label="mira_500"):
    """A cell by its scores (None without a face); label None: without a LoRA."""
    figures = standing(seen(*scores), mira())
    return Cell(None if label is None else checkpoint(label), strength, (), figures, spread, distance, 1.0)


def judged(*cells, base=(0.1, 0.1)):
    return Result(plan(), cell(base, None, label=None), tuple((cell(base, None, label=None), one) for one in cells))


def test_the_pareto_set_is_what_no_other_cell_beats_in_everything():
    best = cell([0.8, 0.8], distance=0.3, spread=0.3)
    nearest = cell([0.5, 0.5], distance=0.1, spread=0.3)
    liveliest = cell([0.5, 0.5], distance=0.3, spread=0.5)
    beaten = cell([0.5, 0.5], distance=0.3, spread=0.3)
    faceless = cell([None, None], distance=0.0, spread=0.9)
    assert judged(beaten, best, faceless, nearest, liveliest).pareto == [best, nearest, liveliest]
    assert judged(beaten, faceless).pareto == [beaten]


def test_equal_cells_do_not_beat_each_other_and_without_a_spread_the_other_figures_decide():
    same = [cell([0.5, 0.5]), cell([0.5, 0.5], label="mira_1000")]
    assert judged(*same).pareto == same
    alone = [cell([0.6, 0.6], spread=None), cell([0.5, 0.5], spread=None)]
    assert judged(*alone).pareto == alone[:1]


values = st.floats(0, 1, allow_nan=False).map(lambda value: round(value, 2))


@given(
    st.lists(
        st.tuples(st.lists(st.one_of(st.none(), values), min_size=1, max_size=4), values, values, st.sampled_from([0.6, 0.8, 1.0])), min_size=1, max_size=6
    )
)
def test_what_is_suggested_is_rated_with_the_best_near_the_highest_mean_and_nearest_to_no_lora(cells):
    cells = [cell(*one) for one in cells]
    result = judged(*cells)
    chosen, bare = result.suggestion.cell, result.rows[0][0].standing.mean
    known = [one for one in cells if one.standing.mean is not None]
    if chosen is None:
        assert not known or min(one.standing.mean for one in known) < bare
        return
    highest = max(one.standing.rate.rate for one in known)
    rated = [one for one in known if one.standing.rate.interval[1] >= highest - 1e-9]
    top = max(one.standing.mean for one in rated)
    error = max(one.standing.standard_error or 0.0 for one in rated if one.standing.mean == top)
    assert chosen in rated and chosen.standing.mean >= top - error - 1e-9
    clearly = [one for one in rated if one.standing.mean >= top - 1e-9 and one.strength <= chosen.strength]
    assert not any(one.distance < chosen.distance - 1e-6 for one in clearly)


def test_a_clear_best_is_suggested_with_its_figures_and_the_reason():
    best = cell([0.8, 0.82], label="mira_1000")
    suggestion = judged(cell([0.4, 0.42]), best).suggestion
    assert suggestion.cell is best
    assert suggestion.reason == "mira_1000 at 0.8: identity mean 0.810, match rate 2 of 2 (95% interval 34% to 100%), the highest mean."


def test_within_the_standard_error_of_the_best_the_one_nearest_to_no_lora_is_suggested():
    # Deviation 0.1414, standard error 0.1.
    best, near, lower = cell([0.7, 0.9], distance=0.4), cell([0.71, 0.73], distance=0.1, strength=0.6), cell([0.69, 0.69], distance=0.05, strength=0.4)
    suggestion = judged(best, lower, near).suggestion
    assert suggestion.cell is near
    assert suggestion.reason == (
        "mira_500 at 0.6: identity mean 0.720, match rate 2 of 2 (95% interval 34% to 100%); the highest mean is 0.800 (mira_500 at 0.8), "
        "and within its standard error of 0.100 this one is nearest to the pictures without a LoRA."
    )
    alone = judged(replace(best, distance=0.05), near).suggestion
    assert alone.cell.strength == 0.8 and alone.reason.endswith(
        "the highest mean, and of 2 within its standard error the nearest to the pictures without a LoRA."
    )


def test_a_measurably_lower_match_rate_is_not_suggested_for_a_high_mean():
    # One face of ten, as good as any: between 2% and 40% pass, and all ten of the other.
    lucky, sound = cell([0.95, *[None] * 9], distance=0.01), cell([0.6] * 10)
    assert judged(lucky, sound).suggestion.cell is sound
    # Eight of ten may be as many as nine of ten: up to 94%.
    better, sound = cell([0.8] * 8 + [0.1] * 2), cell([0.5] * 9 + [0.1])
    assert better.standing.mean > sound.standing.mean and judged(better, sound).suggestion.cell is better


def test_where_every_picture_of_some_cell_passes_only_such_cells_are_suggested():
    # Wilson's interval of nine of ten ends at 98%.
    assert judged(cell([0.9] * 9 + [None]), cell([0.5] * 10)).suggestion.cell.standing.mean == pytest.approx(0.5)


def test_a_tie_goes_to_the_lower_strength_and_then_to_the_earlier_row():
    strong, weak = cell([0.6, 0.6], strength=1.0), cell([0.6, 0.6], strength=0.6)
    assert judged(strong, weak).suggestion.cell is weak
    first, second = cell([0.6, 0.6]), cell([0.6, 0.6], label="mira_1000")
    assert judged(first, second).suggestion.cell is first
    back, forth = cell([0.6, 0.6], strength=-1.0), cell([0.6, 0.6], strength=0.5)
    assert judged(back, forth).suggestion.cell is forth


def test_without_a_face_anywhere_nothing_is_suggested_and_the_reason_is_said():
    result = swept(lambda label, strength, text, seed: (None, 0.5))
    assert result.suggestion.cell is None and result.pareto == []
    assert result.suggestion.reason == "No picture with a LoRA shows a face that can be judged, so nothing is suggested."


def test_no_lora_better_than_none_is_said_in_the_reason():
    told = " Without a LoRA the mean is 0.600: that it is any better is not shown."
    assert judged(cell([0.62, 0.66]), base=(0.5, 0.7)).suggestion.reason.endswith(f", the highest mean.{told}")
    assert judged(cell([0.5]), base=(0.5,)).suggestion.reason.endswith("0.500: that it is any better is not shown.")
    assert judged(cell([0.5]), base=(0.6,)).suggestion.reason.endswith(". Without a LoRA the mean is 0.600, which is higher.")
    nothing = judged(cell([0.2]), base=(0.6,)).suggestion
    assert nothing.cell is None and nothing.reason.startswith("Without a LoRA the mean is 0.600, which is higher than that of any LoRA (")
    assert "Without" not in judged(cell([0.72, 0.76]), base=(0.5, 0.7)).suggestion.reason
    assert "Without" not in judged(cell([0.5]), base=(None,)).suggestion.reason


def test_a_sweep_suggests_the_constructed_best():
    result = swept(lambda label, strength, text, seed: (0.9 if (label, strength) == ("mira_1000", 0.6) else 0.5, 0.5, 0))
    assert result.suggestion.cell.label == "mira_1000 at 0.6" and result.base.label == NO_LORA


# --- prompts, seeds, notes ---


@pytest.mark.parametrize(
    ("prompt", "without"),
    [
        ("{trigger}, portrait", "portrait"),
        ("{trigger},portrait", "portrait"),
        ("portrait, {trigger}", "portrait"),
        ("portrait,{trigger}", "portrait"),
        ("portrait of {trigger}, snow", "portrait of snow"),
        ("a, {trigger}, b", "a, b"),
        ("portrait of {trigger} in snow", "portrait of in snow"),
        ("{trigger}", ""),
        ("no field", "no field"),
    ],
)
def test_a_trigger_takes_the_place_of_its_field_and_without_one_nothing_is_left_of_it(prompt, without):
    assert with_trigger(prompt, "") == without
    assert with_trigger(prompt, "m1ra, woman") == prompt.replace("{trigger}", "m1ra, woman")


@given(st.text(max_size=40), st.text(min_size=1, max_size=10))
def test_a_field_is_never_left_over(prompt, trigger):
    assert sweep.TRIGGER not in with_trigger(prompt + sweep.TRIGGER, "") or sweep.TRIGGER in prompt.replace(sweep.TRIGGER, "")
    assert with_trigger(prompt, trigger).count(trigger) >= prompt.count(sweep.TRIGGER)


def test_prompts_are_lines_each_once_and_there_must_be_one():
    assert sweep.prompts_of("# mine\n{trigger}, a\n\n  {trigger},  a \n{trigger}, b") == ("{trigger}, a", "{trigger}, b")
    with pytest.raises(InputError, match=r"^No prompt is written: write one a line, with \{trigger\} where the LoRA's trigger word goes\.$"):
        plan(prompts=())
    with pytest.raises(InputError, match=r"^101 prompts are written; 100 is the most\.$"):
        plan(prompts=map(str, range(101)))


def test_two_prompts_that_are_the_same_with_a_trigger_are_one():
    assert plan(prompts=("{trigger}, a", "m1ra, a")).texts(FIRST) == ("m1ra, a",)


def test_seeds_follow_the_first_and_begin_again_beyond_the_highest():
    assert sweep.seeds_of(5, 3) == (5, 6, 7) and sweep.seeds_of(2**64 - 1, 2) == (2**64 - 1, 0)
    for count in (0, 65):
        with pytest.raises(InputError, match=rf"^{count} seeds are asked for; choose 1 to 64\.$"):
            sweep.seeds_of(0, count)


def test_the_presets_are_five_prompts_with_a_trigger_and_strengths_from_0_6_to_1():
    assert len(choices.PRESET_PROMPTS) == 5 and all(prompt.count(sweep.TRIGGER) == 1 for prompt in choices.PRESET_PROMPTS)
    assert parse_strengths(choices.PRESET_STRENGTHS) == (0.6, 0.7, 0.8, 0.9, 1.0)
    assert not any(
        one.judgement and one.judgement.verdict == "not judged" for one in swept(lambda *_: (None, 0.5), prompts=choices.PRESET_PROMPTS).base.pictures
    )


def test_a_prompt_without_its_trigger_is_told():
    notes = sweep.notes_of(plan((checkpoint("a", "ann"), checkpoint("b", "m1ra")), prompts=("{trigger}, a", "planning M1RA's day", "by ANN, m1ra")))
    assert notes == ["Prompt 2 ('planning M1RA's day') has no trigger (ann): the LoRA may not show; write {trigger} where it belongs."]


def test_a_lora_without_a_trigger_word_is_told_where_a_prompt_has_the_field():
    silent = [checkpoint(f"silent_{number}", "") for number in range(3)]
    told = "no trigger word, so {trigger} is left out of the prompts: write it in `trigger`, or behind the file as `file | word`."
    assert sweep.notes_of(plan(silent[:1])) == [f"silent_0 names {told}"]
    assert sweep.notes_of(plan((*silent, FIRST))) == [f"silent_0 and 2 more name {told}"]
    assert sweep.notes_of(plan(silent[:1], prompts=("a woman in the rain",))) == []


def test_notes_that_are_added_stand_first():
    result = swept(seeds=(1,))
    assert sweep.with_notes(result, ["Told before."]).notes == ("Told before.", *result.notes) and len(result.notes) == 1


def test_a_picture_that_was_never_made_is_told():
    assert Cell(None, 0.0, (Shown(sweep.Shot(None, 0.0, "x", 1), error="not made"),), standing([], mira()), None, None, None).errors == ["not made"]
