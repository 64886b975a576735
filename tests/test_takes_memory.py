"""Memory that runs out while prompts are encoded or pictures decoded: with the studio that only counts of test_takes.py."""

import pytest

from character_likeness.nodes.scene.takes import OUT_OF_MEMORY, shoot
from tests.test_takes import Listening, NoMemoryLeft, Studio, jobs, memory, scoring


class ShortOfMemory(Studio):
    """Has no memory for some pieces of work: `encode b`, `decode b 10`, `prepare`; nothing of them is done."""

    def __init__(self, *without):
        super().__init__()
        self.without = set(without)

    def encode(self, prompt):
        self._needs_memory(f"encode {prompt}")
        return super().encode(prompt)

    def decode(self, latent):
        self._needs_memory("decode {} {}".format(*latent))
        return super().decode(latent)

    def prepare(self):
        self._needs_memory("prepare")
        super().prepare()

    def _needs_memory(self, what):
        if what in self.without:
            raise NoMemoryLeft


@pytest.mark.parametrize(("short", "sampled"), [("encode b", 2), ("decode b 10", 3)])
def test_a_shot_that_is_not_encoded_or_decoded_says_so_and_the_others_are_made(short, sampled):
    studio, listening = ShortOfMemory(short), Listening()
    outcomes = shoot(jobs(*"abc"), studio, memory(), watch=listening)
    assert [outcome.kept and outcome.kept.image for outcome in outcomes] == ["a 10", None, "c 10"]
    assert [outcome.error for outcome in outcomes] == ["", OUT_OF_MEMORY, ""]
    assert studio.count("sample") == sampled and studio.freed == 1
    assert [index for index, _ in listening.told] == [0, 2]


def test_a_shot_that_was_sampled_but_not_decoded_is_only_decoded_in_the_next_run():
    kept, again = memory(), Studio()
    shoot(jobs(*"abc"), ShortOfMemory("decode b 10"), kept)
    outcomes = shoot(jobs(*"abc"), again, kept)
    assert [outcome.kept.image for outcome in outcomes] == ["a 10", "b 10", "c 10"]
    assert again.did == ["decode b 10"]


def test_a_picture_that_is_made_before_and_cannot_be_decoded_again_is_not_sampled():
    kept = memory()
    shoot(jobs(*"ab"), Studio(), kept)
    kept._images.clear()
    short = ShortOfMemory("decode b 10")
    outcomes = shoot(jobs(*"ab"), short, kept)
    assert [outcome.error for outcome in outcomes] == ["", OUT_OF_MEMORY]
    assert short.count("sample") == 0 and short.freed == 1


def test_a_retake_that_cannot_be_decoded_leaves_the_take_before_and_its_error():
    judge, listening = scoring(a_10=0.4, a_12=0.9), Listening()
    (outcome,) = shoot(jobs("a"), ShortOfMemory("decode a 11"), memory(), judge, max_takes=3, watch=listening)
    assert outcome.kept.image == "a 10" and outcome.error == ""
    assert [take.error for take in outcome.tried] == ["", OUT_OF_MEMORY]
    assert listening.told == [(0, "a 10")]


def test_a_prompt_that_cannot_be_encoded_fails_all_its_shots_and_no_other():
    outcomes = shoot(jobs("a", "b") + jobs("b", seed=11), ShortOfMemory("encode b"), memory())
    assert [outcome.error for outcome in outcomes] == ["", OUT_OF_MEMORY, OUT_OF_MEMORY]


def test_without_memory_for_what_all_shots_share_the_run_stops():
    """References, source and negative prompt: no shot could be made without them."""
    studio = ShortOfMemory("prepare")
    with pytest.raises(NoMemoryLeft):
        shoot(jobs(*"abc"), studio, memory())
    assert studio.count("sample") == 0
