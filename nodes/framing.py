"""How much of a person a picture shows: the framings, what prompts call them, and plans of how many pictures there are to be of each."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from .errors import InputError
from .texts import entries_of, excerpt, one_line


class Framing(NamedTuple):
    """prompt: its words in a prompt, where a caption has its name; distance: its nearest in the 2511 angle LoRA."""

    prompt: str
    distance: str


FRAMINGS = {
    "closeup": Framing("close-up of the face", "close-up"),
    "portrait": Framing("portrait, head and shoulders", "close-up"),
    "upper body": Framing("upper body shot, from the waist up", "medium shot"),
    "cowboy shot": Framing("cowboy shot, from mid-thigh up", "medium shot"),
    "full body": Framing("full body shot, head to toe", "wide shot"),
    "detail": Framing("detail shot", "close-up"),
}
VARIETY = tuple(FRAMINGS)[:5]
# What pictures of a body without a face show, in plans for datasets.
BODY_FRAMINGS = ("legs", "torso", "detail")
_ALIASES = {"close up": "closeup", "fullbody": "full body", "upperbody": "upper body", "cowboy": "cowboy shot"}
_PLAN_ENTRY = r"(?P<count>\d+) ?(?:[x\u00d7*] ?)?(?P<name>\D+)|(?P<name2>\D+?) ?[:=x\u00d7*]? ?(?P<count2>\d+)"


def framing_plan_of(text: str, more: Sequence[str] = ()) -> tuple[tuple[str, int], ...]:
    """Framings, or `variety`, with how many shots of each: `20 closeup, 30 full body`, `20x closeup` or `full body: 30`, one a line or between commas.

    more: names beside those of FRAMINGS. Empty for an empty text. Raises InputError for a framing or count that cannot be read; counts are 1 to 999999999.
    """
    entries = []
    for entry in (one_line(part) for line in entries_of(text) for part in re.split(r"[,;]", line)):
        if not entry:
            continue
        match = re.fullmatch(_PLAN_ENTRY, entry.lower())
        name = framing_named(match["name"] or match["name2"], more) if match else None
        count = (match["count"] or match["count2"]) if match else ""
        if name is None or len(count) > 9 or not int(count):
            raise InputError(
                f"'{excerpt(entry)}' is no part of a framing plan; write a count and one of {', '.join((*FRAMINGS, *more))} or variety, such as: 20 closeup."
            )
        entries.append((name, int(count)))
    return tuple(entries)


def framing_named(text: str, more: Sequence[str] = ()) -> str | None:
    """The framing, or `variety`, that a text is the name of: `close-ups`, `full body shot`; None for any other text."""
    name = re.sub(r"[-_ ]+", " ", text.lower()).strip()
    for form in (name, name.removesuffix("s"), re.sub(r" shots?$", "", name)):
        form = _ALIASES.get(form, form)
        if form in FRAMINGS or form in more or form == "variety":
            return form
    return None
