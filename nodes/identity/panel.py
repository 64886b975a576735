"""What the panel in the editor is told of a run, and the pins that come back from it. The panel itself is js/panel*.js; nothing is judged here."""

import re
from collections.abc import Mapping, Sequence

from ..errors import InputError
from ..pictures import Picture
from .identity import Identity
from .scoring import PINS, Judgement, MatchRate, Rules, steps

# One pin: the picture's content key in hexadecimal, a space, and what it is pinned as.
PIN = re.compile(rf"([0-9a-f]{{32}})\s+({'|'.join(PINS)})")


def key_of(picture: Picture) -> str:
    """What a pin knows a picture by: its content, 32 hexadecimal digits."""
    return picture.key.hex()


def read_pins(text: str) -> dict[str, str]:
    """What pictures are pinned as, by content key. The entries of `text`, `<key> pass` or `<key> reject`, stand on lines or between commas.

    Raises InputError for any other entry, and for a picture that is pinned as both.
    """
    pins: dict[str, str] = {}
    for entry in (part.strip() for part in re.split(r"[,\n]", text)):
        if not entry:
            continue
        found = PIN.fullmatch(entry)
        if found is None:
            raise InputError(f"'{entry[:60]}' in pins is no pin; write the picture's 32 digits and `pass` or `reject`, or empty pins and pin in the panel.")
        key, verdict = found.groups()
        if pins.setdefault(key, verdict) != verdict:
            raise InputError(f"The picture {key} is pinned as pass and as reject; leave one of the two in pins.")
    return pins


def pin_notes(pins: Mapping[str, str], pictures: Sequence[Picture]) -> list[str]:
    """What the report says of pins: how many hold, that they change no match rate, and which of them met no picture."""
    here = {key_of(picture) for picture in pictures}
    holding = [verdict for key, verdict in pins.items() if key in here]
    notes = []
    if holding:
        counts = ", ".join(f"{holding.count(verdict)} as {verdict}" for verdict in PINS if verdict in holding)
        notes.append(f"Pinned by hand: {counts}. The match rate does not count pins; it is the recognizer's.")
    if len(pins) > len(holding):
        count = len(pins) - len(holding)
        notes.append(f"{count} pin{'s belong' if count > 1 else ' belongs'} to no picture of this run.")
    return notes


def panel(
    pictures: Sequence[Picture],
    judgements: Sequence[Judgement],
    identities: Sequence[Identity],
    rules: Rules,
    rate: MatchRate,
    files: Sequence[str | None],
    captions: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    large: int = 0,
) -> dict:
    """The value that the panel shows, JSON.

    files: per picture the name of its thumbnail in the host's temp folder, None without one; names: what the panel calls the pictures, their
    numbers without; large: how many of the node's `images` are these pictures in large, from the first on, which the panel then shows in
    place of the node. `steps` per picture is what is said of it at every threshold, lowest first: up to which threshold (null: at any), verdict,
    where it goes, and the score that decides. So the panel judges by looking up, and a pin taken off shows what the recognizer says.
    """
    thresholds = identities[0].recognizer.info.thresholds
    return {
        "identities": [identity.name for identity in identities],
        "recognizer": identities[0].recognizer.info.name,
        "thresholds": {"loose": thresholds.loose, "standard": thresholds.standard, "strict": thresholds.strict},
        "strictness": rules.label,
        "applied": rules.threshold,
        "keep_best": rules.keep_best,
        "match_rate": {"passed": rate.passed, "n": rate.n},
        "large": large,
        "pictures": [
            {
                "key": key_of(picture),
                "name": names[i] if names else str(i + 1),
                "file": files[i],
                "reason": judgement.reason,
                "pinned": judgement.pinned,
                "steps": [
                    [step.upto, step.verdict, step.goes, step.score] for step in steps(judgement.measured, identities, rules, captions[i] if captions else None)
                ],
            }
            for i, (picture, judgement) in enumerate(zip(pictures, judgements))
        ],
    }
