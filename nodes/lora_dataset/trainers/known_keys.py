"""Which keys each trainer reads, and the refusal to write another. The lists are data, in keys/, taken from the trainers' own code.

ai-toolkit, and the argument files of musubi-tuner and sd-scripts, pass over a key they do not know without a word: a wrong one costs a training run.
tests/test_trainers_read_it.py takes the lists from the trainers' code again, where a checkout is there, and shows what has changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path


class UnknownKeyError(Exception):
    """A fault of this program: it was about to write a key that the trainer does not read."""


@cache
def known_keys(trainer: str) -> Mapping[str, object]:
    """The file of a trainer: trainer, repository, commit and date of the code that was read, and sections, a list of keys each."""
    return json.loads((Path(__file__).parent / "keys" / f"{trainer.replace('-', '_')}.json").read_text(encoding="utf-8"))


def checked_keys(trainer: str, section: str, keys: Iterable[str]) -> None:
    """Raises UnknownKeyError where a key is not one of the section's."""
    unknown = sorted(set(keys) - set(known_keys(trainer)["sections"][section]))
    if unknown:
        raise UnknownKeyError(f"{trainer} reads no {', '.join(unknown)} in its section '{section}' (keys/{trainer.replace('-', '_')}.json).")
