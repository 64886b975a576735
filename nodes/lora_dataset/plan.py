"""Plan against reality: how many pictures of each framing there are to be, how many there are, and the missing ones as prompts. No picture is opened here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..framing import BODY_FRAMINGS, FRAMINGS, VARIETY, framing_plan_of
from ..texts import entries_of
from .dataset import BODY, DatasetItem

# The pictures of a usual character dataset as the guides have it: 70 of the character, 30 of a body without a face.
USUAL_PLAN = "20 closeup, 30 full body, 20 variety\n10 legs, 10 torso, 10 detail"
# Beyond so many missing pictures of one framing the prompts would repeat themselves: 8 places, 5 kinds of light and 7 views make 280.
MOST_PROMPTS = 280

# A bucket's name before its entries. `full body: 30` is an entry: a count alone follows the colon.
_BUCKET = re.compile(r"([^,;:]*[^,;:\s])\s*:(?!\s*\d+\s*(?:[,;]|$))\s*(?=\S)")

# Pictures in which a face is expected, whatever their bucket.
FACES = ""


@dataclass(frozen=True)
class PlanLine:
    """bucket: of that name, FACES for all in which faces are expected, `body` for all in which none are; framing: or `variety`; planned, found: pictures."""

    bucket: str
    framing: str
    planned: int
    found: int = 0

    @property
    def missing(self) -> int:
        return max(0, self.planned - self.found)


def dataset_plan_of(text: str) -> tuple[PlanLine, ...]:
    """A plan for a dataset: a framing plan (framing.framing_plan_of), to which `legs`, `torso` and `detail` belong too.

    A line may begin with the bucket that it is about: `body: 10 legs, 10 torso`. Without one, legs, torso and detail are of the buckets in which no
    faces are expected, all others of those in which they are. What is named twice is added up. Raises InputError for what cannot be read.
    """
    planned: Counter[tuple[str, str]] = Counter()
    for line in entries_of(text):
        head = _BUCKET.match(line)
        bucket, entries = (head[1], line[head.end() :]) if head else ("", line)
        for framing, count in framing_plan_of(entries, more=BODY_FRAMINGS):
            planned[bucket or (BODY.name if framing in BODY_FRAMINGS else FACES), framing] += count
    return tuple(PlanLine(bucket, framing, count) for (bucket, framing), count in planned.items())


def held_against(plan: Sequence[PlanLine], pictures: Sequence[tuple[DatasetItem, str]]) -> tuple[PlanLine, ...]:
    """The plan with what there is. pictures: items with the framing that each is counted as, "" for none.

    A picture counts once, in a line with its bucket's name before one for all buckets of its kind; `variety` takes what the lines before it leave
    over, of whatever framing.
    """
    found: Counter[int] = Counter()
    over: list[DatasetItem] = []
    for item, framing in pictures:
        lines = [i for i in _lines_for(plan, item) if plan[i].framing == framing]
        line = next((i for i in lines if found[i] < plan[i].planned), None)
        if line is None:
            over.append(item)
        else:
            found[line] += 1
    for item in over:
        if (line := next((i for i in _lines_for(plan, item) if plan[i].framing == "variety"), None)) is not None:
            found[line] += 1
    return tuple(PlanLine(line.bucket, line.framing, line.planned, found[i]) for i, line in enumerate(plan))


def _lines_for(plan: Sequence[PlanLine], item: DatasetItem) -> list[int]:
    kind = FACES if item.bucket.faces else BODY.name
    fitting = [i for i, line in enumerate(plan) if line.bucket.casefold() in (item.bucket.name.casefold(), kind)]
    return sorted(fitting, key=lambda i: plan[i].bucket.casefold() != item.bucket.name.casefold())


def missing_plan(lines: Sequence[PlanLine]) -> str:
    """What is missing of pictures with faces, as a framing plan for a Shot List: `3 closeup, 7 full body`; "" for nothing."""
    missing: Counter[str] = Counter()
    for line in lines:
        if line.missing and (line.framing in FRAMINGS or line.framing == "variety") and not _of_body(line):
            missing[line.framing] += line.missing
    return ", ".join(f"{count} {framing}" for framing, count in missing.items())


def _of_body(line: PlanLine) -> bool:
    return line.bucket.casefold() == BODY.name


# Phrases with a verb, as the Shot List's template wants them behind the character's name.
_PLACES = (
    "in a bright kitchen",
    "on a city street",
    "in a park",
    "before a plain grey wall",
    "in a library",
    "on a beach",
    "in a living room",
    "on a forest path",
)
_LIGHTS = ("soft window light", "overcast daylight", "warm evening light", "even studio light", "hard midday sun")
_VIEWS = (
    "three-quarter view from the left",
    "front view",
    "profile from the right",
    "three-quarter view from the right",
    "seen slightly from above",
    "profile from the left",
    "seen slightly from below",
)
_ACTS = {
    "closeup": ("looks into the camera", "smiles", "looks to the side", "looks serious"),
    "portrait": ("looks into the camera", "laughs", "looks over a shoulder", "looks calm"),
    "upper body": ("stands with folded arms", "sits at a table", "leans on a railing", "holds a cup"),
    "cowboy shot": ("stands with a hand on the hip", "walks", "leans against a wall", "stands relaxed"),
    "full body": ("stands", "walks", "sits on a chair", "stands with one foot forward"),
    "detail": ("shows a hand", "shows an ear and the hair", "shows the collar of the clothes", "shows a shoe"),
}
# Without a face; `only` and `head out of frame` are what scoring.needs_no_face knows such shots by.
_BODY_PROMPTS = {
    "legs": "legs only, from the hips to the feet, head out of frame",
    "torso": "torso only, from the shoulders to the hips, head out of frame",
    "detail": "detail of hands or feet, head out of frame",
}


def missing_prompts(lines: Sequence[PlanLine]) -> tuple[str, ...]:
    """One prompt for each missing picture, all different: entries for a Shot List's scenes, to be used without a framing plan.

    The wording of a framing is framing.FRAMINGS' own; place, light and view change from prompt to prompt, which is what keeps a background, one
    light or one side of the face from being learnt with the character. At most MOST_PROMPTS of one framing.
    """
    prompts: dict[str, None] = {}
    # Counted through all lines, so that the first shots of two framings are not in one place.
    number = 0
    for line in lines:
        count = min(line.missing, MOST_PROMPTS)
        for framing in [VARIETY[i % len(VARIETY)] for i in range(count)] if line.framing == "variety" else [line.framing] * count:
            body = _BODY_PROMPTS[framing] if framing in BODY_FRAMINGS and (_of_body(line) or framing not in FRAMINGS) else ""
            prompts[_prompt(framing, body, number)] = None
            number += 1
    return tuple(prompts)


def _prompt(framing: str, body: str, number: int) -> str:
    place, light, view = (choices[number % len(choices)] for choices in (_PLACES, _LIGHTS, _VIEWS))
    if body:
        return f"stands {place}, {body}, {light}, {view}"
    acts = _ACTS[framing]
    return f"{acts[number // 3 % len(acts)]} {place}, {FRAMINGS[framing].prompt}, {light}, {view}"
