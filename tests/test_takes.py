"""Which pictures are made, in which order, and what is kept: with a studio that only counts."""

from dataclasses import dataclass

import pytest

from character_likeness.nodes.scene.shots import Shot
from character_likeness.nodes.scene.takes import OUT_OF_MEMORY, Job, PictureMemory, Watch, shoot


class Store(dict):
    look = dict.get
    keep = dict.__setitem__


class NoMemoryLeft(Exception):
    pass


class Stopped(Exception):
    pass


class Studio:
    """Makes texts for pictures and writes down what was asked of it. fails: (prompt, seed) that run out of memory."""

    def __init__(self, fails=()):
        self.did, self.fails, self.freed = [], set(fails), 0

    def key(self, prompt, seed):
        return prompt, seed

    def prepare(self):
        self.did.append("prepare")

    def encode(self, prompt):
        self.did.append(f"encode {prompt}")
        return f"<{prompt}>"

    def sample(self, conditioning, seed, step):
        if (conditioning[1:-1], seed) in self.fails:
            raise NoMemoryLeft
        self.did.append(f"sample {conditioning[1:-1]} {seed}")
        step(1, 1, None)
        return conditioning[1:-1], seed

    def decode(self, latent):
        self.did.append(f"decode {latent[0]} {latent[1]}")
        return "{} {}".format(*latent)

    def is_out_of_memory(self, error):
        return isinstance(error, NoMemoryLeft)

    def free_memory(self):
        self.freed += 1

    def count(self, what):
        return sum(done.startswith(what) for done in self.did)

    def switches(self):
        """How often another model had to be loaded."""
        models = [{"e": "clip", "s": "model", "d": "vae"}[done[0]] for done in self.did if done != "prepare"]
        return [model for model, before in zip(models, [None, *models]) if model != before]


@dataclass
class Verdict:
    score: float
    goes: str


class Listening(Watch):
    def __init__(self, stop_after=None):
        self.told, self.planned, self.scores, self.stop_after = [], [], [], stop_after

    def plan(self, samples):
        self.planned.append(samples)

    def judged(self, index, take):
        self.scores.append((index, take.number, take.score))

    def finished(self, index, take):
        self.told.append((index, take.image))

    def step(self, done, steps, preview):
        if self.stop_after is not None:
            self.stop_after -= 1

    def check(self):
        if self.stop_after == 0:
            raise Stopped


def jobs(*prompts, seed=10):
    return [Job(Shot(prompt, prompt, prompt, "", 0), prompt, seed) for prompt in prompts]


def memory():
    return PictureMemory(Store(), Store())


def scoring(**scores):
    """A judge that knows the score of each picture; from 0.5 on it passes."""

    def judge(image, shot):
        score = scores[image.replace(" ", "_")]
        return Verdict(score, "passed" if score >= 0.5 else "rejected")

    return judge


def test_all_prompts_are_encoded_first_then_each_group_is_sampled_and_decoded():
    studio = Studio()
    outcomes = shoot(jobs(*"abcdef"), studio, memory(), group=4)
    assert [outcome.kept.image for outcome in outcomes] == [f"{p} 10" for p in "abcdef"]
    assert studio.switches() == ["clip", "model", "vae", "model", "vae"]
    assert [studio.count(what) for what in ("prepare", "encode", "sample", "decode")] == [1, 6, 6, 6]


def test_a_prompt_that_comes_twice_is_encoded_once():
    studio = Studio()
    shoot(jobs("a") + jobs("a", seed=11), studio, memory())
    assert studio.count("encode") == 1 and studio.count("sample") == 2


def test_a_second_run_makes_nothing_and_a_changed_shot_only_itself():
    studio, kept = Studio(), memory()
    shoot(jobs(*"abc"), studio, kept)
    again = Studio()
    assert [o.kept.remembered for o in shoot(jobs(*"abc"), again, kept)] == [True] * 3
    assert again.did == []
    outcomes = shoot(jobs("a", "x", "c"), again, kept)
    assert again.did == ["prepare", "encode x", "sample x 10", "decode x 10"]
    assert [o.kept.remembered for o in outcomes] == [True, False, True]


def test_a_picture_that_was_dropped_is_decoded_from_its_latent_without_sampling():
    studio, kept = Studio(), memory()
    shoot(jobs("a"), studio, kept)
    kept._images.clear()
    again = Studio()
    assert shoot(jobs("a"), again, kept)[0].kept.image == "a 10"
    assert again.did == ["decode a 10"]


def test_an_interrupted_run_goes_on_where_it_stopped_and_the_interrupt_is_not_swallowed():
    studio, kept = Studio(), memory()
    with pytest.raises(Stopped):
        shoot(jobs(*"abcdef"), studio, kept, group=2, watch=Listening(stop_after=3))
    assert studio.count("sample") == 3
    again = Studio()
    outcomes = shoot(jobs(*"abcdef"), again, kept, group=2)
    assert all(outcome.kept for outcome in outcomes)
    # c was sampled before the stop, but not decoded.
    assert [done for done in again.did if done[0] == "s"] == ["sample d 10", "sample e 10", "sample f 10"]


def test_shots_that_do_not_pass_are_taken_again_together_with_the_next_seed():
    studio = Studio()
    judge = scoring(a_10=0.9, b_10=0.2, c_10=0.3, b_11=0.6, c_11=0.1, c_12=0.2)
    outcomes = shoot(jobs(*"abc"), studio, memory(), judge, max_takes=3)
    assert [outcome.kept.image for outcome in outcomes] == ["a 10", "b 11", "c 10"]
    assert [[take.score for take in outcome.tried] for outcome in outcomes] == [[0.9], [0.2, 0.6], [0.3, 0.1, 0.2]]
    # One of each model per round of takes; prompts are not encoded again.
    assert studio.switches() == ["clip", "model", "vae", "model", "vae", "model", "vae"]
    assert studio.count("encode") == 3


def test_the_best_take_is_kept_and_pictures_of_the_others_are_let_go():
    outcome = shoot(jobs("a"), Studio(), memory(), scoring(a_10=0.3, a_11=0.45, a_12=0.1), max_takes=3)[0]
    assert outcome.kept.image == "a 11" and not outcome.kept.passes
    assert all(take.image is None for take in outcome.tried)


def test_a_shot_without_a_face_ranks_below_any_score():
    judge = lambda image, shot: Verdict(None if image == "a 10" else -0.5, "rejected")  # noqa: E731
    assert shoot(jobs("a"), Studio(), memory(), judge, max_takes=2)[0].kept.image == "a 11"


def test_each_shot_is_told_once_when_its_picture_is_final():
    listening = Listening()
    shoot(jobs(*"abc"), Studio(), memory(), scoring(a_10=0.9, b_10=0.2, c_10=0.3, b_11=0.6, c_11=0.1), max_takes=2, watch=listening)
    assert listening.told == [(0, "a 10"), (1, "b 11"), (2, "c 10")]
    assert listening.planned == [3, 2]


def test_the_score_of_each_take_is_told_as_soon_as_it_is_judged():
    listening, known = Listening(), memory()
    judge = scoring(a_10=0.9, b_10=0.2, b_11=0.6)
    shoot(jobs(*"ab"), Studio(), known, judge, max_takes=2, watch=listening)
    assert listening.scores == [(0, 0, 0.9), (1, 0, 0.2), (1, 1, 0.6)]
    again, unjudged = Listening(), Listening()
    shoot(jobs(*"ab"), Studio(), known, judge, max_takes=2, watch=again)
    shoot(jobs(*"ab"), Studio(), known, watch=unjudged)
    assert again.scores == listening.scores and unjudged.scores == []


def test_a_shot_that_runs_out_of_memory_is_reported_and_the_others_are_kept():
    studio, listening = Studio(fails=[("b", 10)]), Listening()
    outcomes = shoot(jobs(*"abc"), studio, memory(), watch=listening)
    assert [bool(outcome.kept) for outcome in outcomes] == [True, False, True]
    assert outcomes[1].error == OUT_OF_MEMORY and outcomes[0].error == ""
    assert studio.freed == 1 and [index for index, _ in listening.told] == [0, 2]


@pytest.mark.parametrize("what", ["encode", "decode"])
def test_a_shot_whose_text_or_picture_does_not_fit_is_reported_too(what):
    studio, listening, kept = Studio(), Listening(), memory()
    works = getattr(studio, what)

    def runs_out(given):
        if "b" in given:
            raise NoMemoryLeft
        return works(given)

    setattr(studio, what, runs_out)
    outcomes = shoot(jobs(*"abc"), studio, kept, watch=listening)
    assert [outcome.error for outcome in outcomes] == ["", OUT_OF_MEMORY, ""]
    assert studio.freed == 1 and [index for index, _ in listening.told] == [0, 2]
    # What was sampled of it is decoded in the next run, and only that.
    again = Studio()
    assert shoot(jobs(*"abc"), again, kept)[1].kept.image == "b 10"
    assert again.did == (["decode b 10"] if what == "decode" else ["prepare", "encode b", "sample b 10", "decode b 10"])


def test_a_retake_that_runs_out_of_memory_leaves_the_take_before():
    listening = Listening()
    outcomes = shoot(jobs("a"), Studio(fails=[("a", 11)]), memory(), scoring(a_10=0.4), max_takes=3, watch=listening)
    assert outcomes[0].kept.image == "a 10" and outcomes[0].error == ""
    assert listening.told == [(0, "a 10")]


def test_any_other_error_stops_the_run():
    studio = Studio()
    studio.decode = lambda latent: 1 / 0
    with pytest.raises(ZeroDivisionError):
        shoot(jobs("a"), studio, memory())


def test_many_prompts_are_encoded_a_part_at_a_time():
    studio = Studio()
    shoot(jobs(*(f"p{i}" for i in range(100))), studio, memory(), group=64)
    assert studio.switches() == ["clip", "model", "vae", "clip", "model", "vae"]


def test_all_first_takes_are_planned_before_the_first_is_made():
    listening, studio = Listening(), Studio()
    plan = listening.plan
    listening.plan = lambda samples: (plan(samples), studio.did.append(f"plan {samples}"))
    shoot(jobs(*(f"p{i}" for i in range(100))), studio, memory(), group=64, watch=listening)
    assert listening.planned == [100] and studio.did[0] == "plan 100" and studio.count("sample") == 100


def test_what_is_planned_is_what_is_sampled_also_with_pictures_made_before_and_the_same_ones_in_two_parts():
    kept, listening, studio = memory(), Listening(), Studio()
    shoot(jobs("p3", "p80"), Studio(), kept)
    prompts = [f"p{i}" for i in range(100)]
    # The same again 70 shots later is remembered by then.
    shoot(jobs(*prompts[:70], *prompts[:10], *prompts[70:]), studio, kept, watch=listening)
    assert listening.planned[0] == 107 and sum(listening.planned) == studio.count("sample") == 98


def test_a_seed_beyond_the_highest_begins_again():
    assert Job(None, "", 2**64 - 1).seed_of(1) == 0
