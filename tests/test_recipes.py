"""Recipes: presets made valid for a trainer and its memory, a reason for every value, repeats, and the arithmetic of a run."""

import itertools
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.lora_dataset import recipes
from character_likeness.nodes.lora_dataset.dataset import BODY, CHARACTER, Bucket, Dataset
from character_likeness.nodes.lora_dataset.recipes import LEARNING_RATES, PRESETS, VRAM, auto_repeats, calculate, resolve, resolve_repeats, sample_prompts
from character_likeness.nodes.lora_dataset.trainers import TRAINERS, supported
from tests.trainers.jobs import PAIRS, job_of, picture

GUIDE = ((CHARACTER, 70), (BODY, 30))


def guide_dataset():
    return Dataset(tuple(picture(f"{bucket.name}{number}", bucket) for bucket, count in GUIDE for number in range(count)), "alina")


def recipe_of(preset, trainer="ai-toolkit", base_model="Qwen-Image", mode="text to image", vram=24, **options):
    made, model = supported(trainer, base_model, mode)
    return resolve(preset, made, model, mode, vram, **options)


# --- presets ---


def test_the_two_presets_are_those_of_the_guides():
    plain, cosine = recipe_of("character rank 16"), recipe_of("rank 32 cosine", "musubi-tuner")
    assert (plain.rank, plain.alpha, plain.learning_rate, plain.scheduler, plain.optimizer) == (16, 16, 2e-4, "constant", "adamw8bit")
    assert (plain.resolution, plain.checkpoints, plain.batch_size, plain.accumulation, plain.warmup, plain.ema_decay) == (1024, 10, 1, 1, 0.0, None)
    assert (cosine.rank, cosine.alpha, cosine.scheduler, cosine.resolution) == (32, 32, "cosine", 1024) and cosine.warmup > 0
    assert {name: recipe_of("character rank 16", learning_rate=name).learning_rate for name in LEARNING_RATES} == {
        "careful": 5e-5,
        "normal": 2e-4,
        "risky": 5e-4,
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_every_value_has_a_reason_for_every_trainer_base_model_and_memory(preset):
    numbers = {field.name for field in fields(recipes.Recipe)} - {"name", "memory", "reasons"}
    for trainer, base_model, mode in PAIRS:
        for vram in VRAM:
            recipe = recipe_of(preset, trainer, base_model, mode, vram)
            assert numbers <= set(recipe.reasons)
            assert set(recipe.memory) <= set(recipe.reasons)
            assert all(recipe.reasons.values())


def test_where_a_trainer_cannot_warm_up_the_recipe_does_not_and_says_so():
    dropped, kept = recipe_of("rank 32 cosine", "ai-toolkit"), recipe_of("rank 32 cosine", "musubi-tuner")
    assert dropped.warmup == 0 and dropped.scheduler == "cosine" and "ai-toolkit has no warm-up" in dropped.reasons["warmup"]
    assert kept.warmup == 0.05 and "habit" in kept.reasons["warmup"]


def test_less_memory_never_means_less_saving():
    """8 bits or fewer, and what waits in main memory, only grow as the memory shrinks."""

    def saving(recipe):
        qtype = recipe.memory.get("model.qtype", "")
        bits = 16 if not (recipe.memory.get("model.quantize") or recipe.memory.get("fp8_base")) else int(qtype[4]) if qtype.startswith("uint") else 8
        return (16 - bits, recipe.memory.get("blocks_to_swap", 0), bool(recipe.memory.get("model.layer_offloading")))

    for trainer, base_model, mode in PAIRS:
        savings = [saving(recipe_of("character rank 16", trainer, base_model, mode, vram)) for vram in VRAM]
        assert all(a >= b for less, more in itertools.pairwise(savings) for a, b in zip(less, more)), (trainer, base_model, mode)


def test_control_pictures_are_given_more_room_than_none():
    for vram in (24, 32):
        paired, alone = (
            recipe_of("character rank 16", "musubi-tuner", "Qwen-Image-Edit-2511", mode, vram).memory["blocks_to_swap"]
            for mode in ("paired edit", "edit as text to image")
        )
        assert paired > alone
    offloaded, whole = (
        recipe_of("character rank 16", "ai-toolkit", "Qwen-Image-Edit-2511", mode, 24).memory for mode in ("paired edit", "edit as text to image")
    )
    assert offloaded["model.layer_offloading"] is True and "model.layer_offloading" not in whole


def test_what_is_no_measurement_is_called_a_guess():
    paired = recipe_of("character rank 16", "ai-toolkit", "Qwen-Image-Edit-2511", "paired edit", 24)
    assert "guess" in paired.reasons["model.layer_offloading"]
    assert "guess" in recipe_of("character rank 16", "musubi-tuner", vram=24).reasons["blocks_to_swap"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"preset": "rank 128"}, "'rank 128' is no recipe; choose one of character rank 16, rank 32 cosine"),
        ({"vram": 16}, "'16' is no amount of memory"),
        ({"learning_rate": "2e-4"}, "choose one of careful, normal, risky"),
        ({"ema_decay": 1.0}, "between 0 and 1"),
        ({"ema_decay": 0.99, "trainer": "musubi-tuner"}, "musubi-tuner keeps no average"),
    ],
)
def test_a_choice_that_is_none_is_named_with_what_there_is(options, words):
    with pytest.raises(InputError, match=words):
        recipe_of(**{"preset": "character rank 16", **options})


# --- repeats ---


def test_the_guides_numbers_are_its_repeats_and_custom_buckets_keep_theirs_or_follow_their_faces():
    counts = [(replace(CHARACTER, repeats=3), 5), (BODY, 5), (Bucket("hands", 7), 5), (Bucket("hats"), 5), (Bucket("shoes", faces=False), 5)]
    assert resolve_repeats(counts, "guide") == (40, 20, 7, 40, 20)
    assert resolve_repeats(counts, "per bucket", 25 * 127)[:3] == (3, 20, 7)


def test_auto_gives_the_guides_own_numbers_for_the_guides_own_dataset():
    assert auto_repeats(GUIDE, 3400) == (40, 20)
    assert auto_repeats(GUIDE, 3400, pictures_per_step=2) == (80, 40)
    assert resolve_repeats(GUIDE, "auto", 1700) == (20, 10)


def test_a_bucket_without_a_number_gets_what_auto_would_give_it():
    assert resolve_repeats([(replace(CHARACTER, repeats=0), 70), (replace(BODY, repeats=5), 30)], "per bucket", 3400) == (40, 5)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=4), st.integers(1, 20_000))
def test_auto_repeats_are_at_least_one_and_miss_the_target_by_half_a_repeat_at_most(numbers, target):
    counts = [(Bucket(f"b{n}", faces=n % 2 == 0), count) for n, count in enumerate(numbers)]
    repeats = auto_repeats(counts, target)
    assert min(repeats) >= 1 and max(repeats) <= 10_000
    reached = sum(times * count for times, count in zip(repeats, numbers))
    if reached > sum(numbers) and max(repeats) < 10_000:
        # Each bucket is rounded to the next whole number, or up to 1.
        assert abs(reached - target) <= sum(numbers)


@pytest.mark.parametrize(
    "policy, counts, target, words", [("often", GUIDE, 10, "auto, guide, per bucket"), ("auto", [], 10, "no picture"), ("auto", GUIDE, 0, "at least 1")]
)
def test_repeats_that_cannot_be_chosen_are_refused(policy, counts, target, words):
    with pytest.raises(InputError, match=words):
        resolve_repeats(counts, policy, target)


# --- the arithmetic ---


def test_the_worked_example_3400_steps_are_70_by_40_and_30_by_20_at_batch_1():
    _, job = job_of("ai-toolkit", "Qwen-Image", "text to image", guide_dataset())
    sums = calculate(job)
    assert (sums.steps, sums.updates, sums.pictures, sums.pictures_per_pass, sums.epochs) == (3400, 3400, 100, 3400, 1.0)
    assert sums.exposures == {"character": 40.0, "body": 20.0}
    assert sums.save_every == 340 and sums.checkpoints == tuple(range(340, 3401, 340)) and len(sums.checkpoints) == 10
    assert "3400 steps = 3400 updates" in sums.lines()[0]


def test_a_larger_batch_or_accumulation_makes_fewer_updates_of_the_same_exposures():
    _, job = job_of("ai-toolkit", "Qwen-Image", "text to image", guide_dataset())
    sums = calculate(replace(job, recipe=replace(job.recipe, batch_size=2, accumulation=4)))
    assert (sums.steps, sums.updates) == (425, 425) and sums.exposures == {"character": 40.0, "body": 20.0}


def test_the_share_of_the_start_in_an_average_is_what_an_average_of_numbers_keeps():
    _, job = job_of("ai-toolkit", "Qwen-Image", "text to image", guide_dataset(), ema_decay=0.999)
    job = replace(job, recipe=replace(job.recipe, batch_size=10))
    sums = calculate(job)
    shadow = 1.0
    for _ in range(sums.updates):
        shadow -= (1 - 0.999) * shadow  # the weights themselves stand at 0
    assert sums.updates == 340 and math.isclose(sums.ema_start_share, shadow, rel_tol=1e-9) and f"{shadow:.0%}" == "71%"
    assert math.isclose(0.999**sums.ema_half_life, 0.5) and "half-life 693" in sums.lines()[-1]


def test_without_an_average_the_report_says_what_one_would_do():
    _, job = job_of("ai-toolkit", "Qwen-Image", "text to image", guide_dataset())
    assert "EMA is off" in calculate(job).lines()[-1] and "0.999 would leave 3.3%" in calculate(job).lines()[-1]


@given(st.integers(1, 400), st.integers(1, 60))
def test_there_are_never_more_checkpoints_than_planned_and_the_last_is_the_end(pictures, repeats):
    _, job = job_of("ai-toolkit", "Qwen-Image", "text to image")
    plan = replace(job.buckets[0], repeats=repeats, stems=tuple(map(str, range(pictures))))
    sums = calculate(replace(job, buckets=(plan,)))
    assert 1 <= len(sums.checkpoints) <= job.recipe.checkpoints and sums.checkpoints[-1] == sums.steps
    assert np.all(np.diff(sums.checkpoints) > 0)


def test_warm_up_is_a_share_of_the_steps():
    _, job = job_of("musubi-tuner", "Qwen-Image", "text to image", guide_dataset(), preset="rank 32 cosine")
    assert calculate(job).warmup_steps == 170 and "first 170 steps" in " ".join(calculate(job).lines())


# --- sample prompts ---


def test_sample_prompts_are_no_captions_of_the_dataset():
    all_of_them = sample_prompts("alina")
    assert len(all_of_them) == recipes.SAMPLES and len(set(all_of_them)) == len(all_of_them)
    left = sample_prompts("alina", [all_of_them[0].upper(), f"{all_of_them[1]}, and more"])
    assert len(left) == recipes.SAMPLES and not {all_of_them[0], all_of_them[1]} & set(left)


def test_one_sample_shows_a_stranger_and_the_others_name_the_trigger():
    assert [prompt for prompt in sample_prompts("alina") if "alina" not in prompt] == ["a stranger waiting at a bus stop, upper body, rain"]
    assert all("alina" in prompt for prompt in sample_prompts("alina", edit=True))


def test_a_trigger_with_braces_stays_as_it_is():
    assert sample_prompts("{a} {trigger} {0}")[0].startswith("{a} {trigger} {0}, closeup")


def test_every_trainer_takes_every_preset():
    assert {trainer for trainer, _, _ in PAIRS} == set(TRAINERS)
