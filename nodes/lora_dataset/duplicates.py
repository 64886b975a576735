"""Near-duplicates among perceptual hashes: which pictures show the same as a better one. Hashing a picture is measures.py's.

Two pictures count as one when their 64-bit hashes differ in at most 6 bits (imagehash.phash; the usual limit of dataset tools). Each duplicate is
that near to the picture kept in its place: chains of small steps, such as the frames of a slow turn, are not one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError

BITS = 64
DISTANCE = 6
# Multi-index hashing (Norouzi, Punjani, Fleet 2012): of two hashes at distance d at least one of 4 blocks differs in at most d // 4 bits.
BLOCKS = 4
BLOCK_BITS = BITS // BLOCKS
# Up to 7 bits, so that in one of the blocks at most one bit differs: 17 looks per block. Beyond, what differs so much shows something else.
LARGEST_DISTANCE = 2 * BLOCKS - 1
# More candidates than this are compared all at once: that takes 1 ns each, one at a time 60 ns.
MOST_ONE_BY_ONE = 96

_FLIPS = (0, *(1 << bit for bit in range(BLOCK_BITS)))


@dataclass(frozen=True)
class Group:
    """Pictures that show the same. kept: the index of the best of them; others: (index, distance in bits from it), in order of rank."""

    kept: int
    others: tuple[tuple[int, int], ...]


def hash_distance(first: int, second: int) -> int:
    """In how many of their 64 bits two hashes differ."""
    return (first ^ second).bit_count()


def near_duplicates(
    hashes: Sequence[int],
    distance: int = DISTANCE,
    rank: Sequence[Any] | None = None,
    parents: Sequence[int | None] | None = None,
) -> tuple[Group, ...]:
    """The groups among 64-bit hashes, in the order of the pictures kept; what is like no other is in none.

    rank: values to sort by, the higher, the better a picture; of equal ones, and without it, the earlier is the better. Taken from the best down, a picture
    within `distance` bits (0 to 7) of one that is kept goes to the nearest of those, any other is kept. parents: for each picture the index of
    the one that it was cropped from, or None: those two do not count as alike. Raises InputError for another distance.

    A picture is compared with those kept that share a block but for one bit, or with all of them, at once, where that is most of them: then the
    cost of a picture grows with their number, by about 1 ns each.
    """
    if not 0 <= distance <= LARGEST_DISTANCE:
        raise InputError(f"The distance of near-duplicates is {distance}; it must be 0 to {LARGEST_DISTANCE} bits of {BITS}.")
    order = range(len(hashes)) if rank is None else sorted(range(len(hashes)), key=rank.__getitem__, reverse=True)
    index = _Index(len(hashes))
    others: dict[int, list[tuple[int, int]]] = {}
    for i in order:
        value = int(hashes[i])
        alike = index.within(value, distance)
        if parents is not None:
            alike = [(bits, place) for bits, place in alike if parents[i] != index.owners[place] and parents[index.owners[place]] != i]
        if alike:
            bits, place = min(alike)
            others.setdefault(index.owners[place], []).append((i, bits))
        else:
            index.add(value, i)
    return tuple(Group(kept, tuple(others[kept])) for kept in sorted(others))


class _Index:
    """Hashes to be found by what is near them. owners: whose hash each is, in the order added."""

    def __init__(self, capacity: int):
        self.owners: list[int] = []
        self._values: list[int] = []
        self._array = np.zeros(capacity, np.uint64)
        self._tables: list[dict[int, list[int]]] = [{} for _ in range(BLOCKS)]

    def add(self, value: int, owner: int) -> None:
        place = len(self._values)
        self._array[place] = value
        self._values.append(value)
        self.owners.append(owner)
        for table, block in zip(self._tables, _blocks(value)):
            table.setdefault(block, []).append(place)

    def within(self, value: int, distance: int) -> list[tuple[int, int]]:
        """(distance in bits, place) of each hash that is at most so far away."""
        found: list[list[int]] = []
        for table, block in zip(self._tables, _blocks(value)):
            get = table.get
            found += [places for flip in _FLIPS if (places := get(block ^ flip)) is not None]
        if sum(map(len, found)) <= MOST_ONE_BY_ONE:
            values = self._values
            near = {place: bits for places in found for place in places if (bits := (value ^ values[place]).bit_count()) <= distance}
            return [(bits, place) for place, bits in near.items()]
        bits = np.bitwise_count(self._array[: len(self._values)] ^ np.uint64(value))
        return [(int(bits[place]), int(place)) for place in np.flatnonzero(bits <= distance)]


def _blocks(value: int) -> list[int]:
    return [value >> shift & (1 << BLOCK_BITS) - 1 for shift in range(0, BITS, BLOCK_BITS)]
