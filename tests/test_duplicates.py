"""Near-duplicates: what counts as one picture, which of them is kept, and that clusters cost no more than strangers."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.lora_dataset.duplicates import DISTANCE, MOST_ONE_BY_ONE, Group, hash_distance, near_duplicates

HASHES = st.integers(0, 2**64 - 1)


def flipped(value, *bits):
    for bit in bits:
        value ^= 1 << bit
    return value


def near(seed, centre, count, most):
    """Hashes around one, each with up to `most` bits flipped."""
    chance = np.random.default_rng(seed)
    return [flipped(centre, *map(int, chance.choice(64, chance.integers(0, most + 1), replace=False))) for _ in range(count)]


def strangers(seed, count):
    return [int(value) for value in np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)]


def by_hand(hashes, distance, parents=None):
    """The same rule, each against all that are kept."""
    kept, others = [], {}
    for i, value in enumerate(hashes):
        alike = [(hash_distance(value, hashes[j]), j) for j in kept if not (parents and (parents[i] == j or parents[j] == i))]
        alike = [pair for pair in alike if pair[0] <= distance]
        if alike:
            bits, j = min(alike)
            others.setdefault(j, []).append((i, bits))
        else:
            kept.append(i)
    return tuple(Group(j, tuple(others[j])) for j in sorted(others))


@given(HASHES, st.sets(st.integers(0, 63), max_size=12))
def test_two_pictures_are_one_up_to_six_bits_wherever_they_are(value, bits):
    groups = near_duplicates([value, flipped(value, *bits)])
    assert groups == ((Group(0, ((1, len(bits)),)),) if len(bits) <= DISTANCE else ())


@given(st.integers(0, 7), st.lists(st.tuples(HASHES, st.lists(st.integers(0, 63), max_size=9)), max_size=20))
def test_the_index_finds_what_a_comparison_of_all_with_all_finds(distance, families):
    hashes = [member for value, bits in families for member in (value, flipped(value, *bits), flipped(value, *bits[:3]))]
    assert near_duplicates(hashes, distance) == by_hand(hashes, distance)


@pytest.mark.parametrize("most", [3, 6, 12])
def test_it_finds_the_same_in_clusters_where_all_are_compared_at_once(most):
    hashes = near(most, strangers(1, 1)[0], 6 * MOST_ONE_BY_ONE, most) + strangers(2, 50)
    assert near_duplicates(hashes) == by_hand(hashes, DISTANCE)


def test_the_best_is_kept_and_the_earlier_of_two_as_good():
    value = strangers(3, 1)[0]
    hashes = [value, flipped(value, 1), flipped(value, 2), flipped(value, 3)]
    assert near_duplicates(hashes, rank=[1, 5, 9, 9]) == (Group(2, ((3, 2), (1, 2), (0, 1))),)
    assert near_duplicates(hashes, rank=[(0, 1.0)] * 4) == near_duplicates(hashes) == (Group(0, ((1, 1), (2, 1), (3, 1))),)


def test_a_chain_of_small_steps_is_not_one_group():
    chain = [flipped(0, *range(4 * step)) for step in range(5)]
    groups = near_duplicates(chain)
    assert groups == (Group(0, ((1, 4),)), Group(2, ((3, 4),)))
    assert all(hash_distance(chain[group.kept], chain[i]) == bits <= DISTANCE for group in groups for i, bits in group.others)


def test_a_duplicate_goes_to_the_nearest_of_those_kept():
    low, high = 0, flipped(0, *range(7))
    assert near_duplicates([low, high, flipped(0, 0, 1, 2, 3, 4)]) == (Group(1, ((2, 2),)),)


def test_a_crop_is_no_duplicate_of_its_parent_but_of_anybody_else():
    value = strangers(4, 1)[0]
    assert near_duplicates([value, flipped(value, 5)], parents=[None, 0]) == ()
    assert near_duplicates([value, flipped(value, 5)], rank=[0, 1], parents=[None, 0]) == ()
    # A copy of the crop is one of the crop, and a second picture like the parent one of the parent.
    crops = near_duplicates([value, flipped(value, 5), flipped(value, 5), value], parents=[None, 0, 0, None])
    assert crops == (Group(0, ((3, 0),)), Group(1, ((2, 0),)))


def test_nothing_and_one_picture_have_no_duplicates():
    assert near_duplicates([]) == near_duplicates([7]) == ()


@pytest.mark.parametrize("distance", [-1, 8])
def test_a_distance_that_the_index_does_not_cover_is_refused(distance):
    with pytest.raises(InputError, match=f"The distance of near-duplicates is {distance}; it must be 0 to 7 bits of 64"):
        near_duplicates([1, 2], distance)


def clusters(count):
    """A third each of strangers, of pictures that are copies of twenty, and of pictures that share much with twenty without being copies."""
    third = count // 3
    centres = strangers(5, 40)
    copies = [member for n, centre in enumerate(centres[:20]) for member in near(n, centre, third // 20, 3)]
    kin = [member for n, centre in enumerate(centres[20:]) for member in near(n, centre, third // 20, 14)]
    return strangers(6, count - len(copies) - len(kin)) + copies + kin


def test_the_cost_of_a_picture_hardly_grows_with_their_number():
    def cost(hashes):
        start = time.perf_counter()
        near_duplicates(hashes)
        return (time.perf_counter() - start) / len(hashes)

    few, many = clusters(1000), clusters(20_000)
    # Comparing all with all costs twenty times as much per picture. The bench holds it to three times; here a busy machine is not a failure.
    assert min(cost(many) for _ in range(2)) < 8 * min(cost(few) for _ in range(5))
