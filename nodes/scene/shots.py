"""The shot list: scenes, angles, light, expressions and outfits made into shots, by a product or by a framing plan. How a prompt is worded is in prompts.py.

A list may stand for millions of shots: every shot is computed from its place in the list, and only those within the limit are made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from ..errors import InputError
from ..framing import FRAMINGS, VARIETY, framing_plan_of
from ..texts import entries_of, excerpt, one_line
from .choices import ANGLE_2511, ANGLE_VOCABULARIES, DEFAULT_TEMPLATE, MOST_SHOTS, OWN_SEEDS, PLAIN, SAME_SEEDS, SEEDS
from .prompts import (
    EARLY,
    LATE,
    STOPS,
    Angle,
    angle_phrase,
    caption,
    fields_of,
    fill,
    literal,
    parse_angle,
    without_pictures,
)

# Takes of one shot use the 64 seeds from its own on (Retake until Match: at most 64), so seeds of shots lie that far apart.
VARIANT_STEP = 64
MOST_SEEDS = 64
# Far beyond what a text encoder reads, and a thousand shots of six such lines still fit in memory.
LONGEST_LINE = 10_000

# In the order of the product, outermost first: the field, and what its list is called.
_LISTS = {"scene": "scenes", "angle": "angles", "light": "lighting", "expression": "expressions", "outfit": "outfits"}
# The golden ratio's fractional part in 32 bits (Knuth, TAOCP 3, 6.4): multiples of it spread evenly over an interval.
_GOLDEN = 0x9E3779B1


@dataclass(frozen=True)
class Shot:
    """One prompt of a shot list.

    id: 8 hexadecimal digits from prompt, caption and variant; prompt: a template for prompts.complete; caption: final text; framing: a key of
    FRAMINGS or ""; seed_offset: to add to the seed, a multiple of VARIANT_STEP below 2**38 (`same for every shot`: the variant times that).
    """

    id: str
    prompt: str
    caption: str
    framing: str = ""
    seed_offset: int = 0


@dataclass(frozen=True)
class ShotList:
    """total: how many shots there would be without the limit; notes: one sentence for each thing that is not as the lists say."""

    shots: tuple[Shot, ...]
    total: int
    notes: tuple[str, ...] = ()


def single_shot(scene: str) -> Shot:
    """A scene by itself: its text is prompt and caption, its seed is the given one. Raises InputError for an empty scene."""
    return shots_from_sentences([scene])[0]


def shots_from_sentences(sentences: Sequence[str]) -> tuple[Shot, ...]:
    """A shot per sentence, in order; one that stands there again is another variant. Raises InputError where one is empty, or there is none."""
    if not any(map(one_line, sentences)):
        raise InputError("The scene is empty: write what the picture shows.")
    out, seen, ids = [], {}, set()
    for number, text in enumerate(sentences, 1):
        text = one_line(text)
        _checked(text, LATE, f"Scene {number}")
        if not text:
            raise InputError(f"Scene {number} of {len(sentences)} is empty: write what the picture shows.")
        variant = seen[text] = seen.get(text, -1) + 1
        out.append(_shot(text, fill(without_pictures(text), {}, ()), "", variant, SAME_SEEDS, ids))
    return tuple(out)


def shot_list(
    scenes: str,
    angles: str = "",
    lighting: str = "",
    expressions: str = "",
    outfits: str = "",
    framing_plan: str = "",
    template: str = DEFAULT_TEMPLATE,
    trigger: str = "",
    character: str = "",
    angle_vocabulary: str = PLAIN,
    seeds_per_shot: int = 1,
    seeds: str = OWN_SEEDS,
    limit: int = 100,
) -> ShotList:
    """The shots of these lists, each a text with one entry a line; blank lines and lines that begin with # do not count.

    Lines may have late fields, scenes every field but {scene}; a field that a scene has itself is not repeated by the template. Without a
    framing plan the list is every combination once, scenes outermost. With one it is that many shots per framing, each of the next combination
    in an order in which, within a framing, the lines of one list occur equally often (up to one) and no combination comes twice before all have
    come. Each is there seeds_per_shot (1 to 64) times. Beyond `limit` (1 to 1000) shots are taken evenly over the list. What a shot is, its id
    included, depends neither on the limit nor, without a plan, on other lines.

    A LoRA's angle phrase is a sentence of its own instead of {angle}: that of the 2511 LoRA first, those of the 2509 LoRA last. Under a plan the
    angles' own distances do not count; the 2511 phrase has the framing's.

    Raises InputError for: no scene; a field that is not known; a template without {scene}; a plan whose framing no prompt says; a plan that cannot
    be read; a line of more than 10000 characters; a number or choice out of range.
    """
    for name, value, most in (("limit", limit, MOST_SHOTS), ("seeds_per_shot", seeds_per_shot, MOST_SEEDS)):
        if not 1 <= value <= most:
            raise InputError(f"{name} is {value}; it must be 1 to {most}.")
    for value, choices in ((seeds, SEEDS), (angle_vocabulary, ANGLE_VOCABULARIES)):
        if value not in choices:
            raise InputError(f"'{excerpt(str(value))}' is not a choice here; choose {' or '.join(choices)}.")
    notes: list[str] = []
    writer = _Writer(template, trigger, character, angle_vocabulary)
    plan = framing_plan_of(framing_plan)
    lists = writer.lists(dict(zip(_LISTS, (scenes, angles, lighting, expressions, outfits))), bool(plan), notes)
    sizes = tuple(len(lines) for lines in lists.values())
    combinations = math.prod(sizes)
    total = (sum(count for _, count in plan) if plan else combinations) * seeds_per_shot

    shots, ids, contents = [], set(), set()
    for index in _spread(total, limit):
        place, variant = divmod(index, seeds_per_shot)
        framing = ""
        if plan:
            framing, use = _planned(plan, place)
            chosen = _mixed(use, sizes, tuple(FRAMINGS).index(framing))
            # A combination that comes again is another variant of the same shot.
            variant += use // combinations * seeds_per_shot
        else:
            chosen = _product(place, sizes)
        prompt, said = writer.write({field: lines[i] for (field, lines), i in zip(lists.items(), chosen)}, framing)
        if (prompt, variant) not in contents:
            contents.add((prompt, variant))
            shots.append(_shot(prompt, said, framing, variant, seeds, ids))

    if plan:
        uses = {framing: _uses(plan, framing) for framing in FRAMINGS}
        again = [f"{framing} ({count} shots)" for framing, count in uses.items() if count > combinations]
        if again:
            notes.append(f"The lists make {combinations} combinations; they come again, with other seeds, for {', '.join(again)}.")
    made = min(total, limit)
    if len(shots) < made:
        notes.append(f"{made - len(shots)} shots were left out: their prompts are those of other shots.")
    if total > limit:
        notes.append(f"{made} of {total} shots: the limit is {limit}.")
    return ShotList(tuple(shots), total, tuple(notes))


def _checked(text: str, known: Sequence[str], what: str) -> frozenset[str]:
    """The fields of a text. Raises InputError for a text that is too long, and as fields_of does."""
    if len(text) > LONGEST_LINE:
        raise InputError(f"{what} has {len(text)} characters; {LONGEST_LINE} is the most.")
    return fields_of(text, known)


class _Writer:
    """One template, and what is the same in every shot."""

    def __init__(self, template: str, trigger: str, character: str, vocabulary: str):
        self.template, self.trigger, self.character = map(one_line, (template, trigger, character))
        self.vocabulary = vocabulary
        self.fields = _checked(self.template, (*EARLY, *LATE), "The template")
        if "scene" not in self.fields:
            raise InputError("The template has no {scene}; put {scene} where the scene belongs.")
        self.known = {}
        for field, text in (("trigger", self.trigger), ("character", self.character)):
            _checked(literal(text), (), f"The {field}")
            if text:
                self.known[field] = literal(text)

    def lists(self, texts: dict[str, str], planned: bool, notes: list[str]) -> dict[str, list]:
        """The entries of each list, angles read; a list that is empty, or that no prompt uses, is one empty entry."""
        lists: dict[str, list] = {}
        for field, text in texts.items():
            lines = entries_of(text)
            for number, line in enumerate(lines, 1):
                _checked(line, (*EARLY[1:], *LATE) if field == "scene" else LATE, f"Entry {number} of {_LISTS[field]}")
            entries = self._angles(lines, planned, notes) if field == "angle" else lines
            lists[field] = list(dict.fromkeys(entries)) or [""]
            if lines and len(lists[field]) < len(lines):
                notes.append(f"{_LISTS[field]}: {len(lines) - len(lists[field])} of {len(lines)} lines say the same as another and were left out.")
        if lists["scene"] == [""]:
            raise InputError("There is no scene: write at least one line in scenes that does not begin with #.")
        placed = [fields_of(scene) for scene in lists["scene"]]
        if planned and "framing" not in self.fields and not all("framing" in fields for fields in placed):
            raise InputError("A framing plan needs {framing} in the template; add it, or empty the plan.")
        for field, entries in lists.items():
            used = field in self.fields.union(*placed) or (field == "angle" and self.vocabulary != PLAIN)
            if entries != [""] and not used:
                notes.append(f"{_LISTS[field]}: not used, since the template has no {{{field}}}.")
                lists[field] = [""]
        return lists

    def _angles(self, lines: list[str], planned: bool, notes: list[str]) -> list[Angle | str]:
        angles = [parse_angle(line) for line in lines]
        read = [angle for angle in angles if isinstance(angle, Angle)]
        if planned and any(angle.distance for angle in read):
            notes.append("angles: the plan sets the framing, so their close-up, medium shot and wide shot do not count.")
            angles = [replace(angle, distance=None) if isinstance(angle, Angle) else angle for angle in angles]
            angles = ["" if angle == Angle() else angle for angle in angles]
        if self.vocabulary != PLAIN and len(read) < len(lines):
            own = "; ".join(angle for angle in map(parse_angle, lines) if isinstance(angle, str))
            notes.append(f"angles: used as written, being none that the {self.vocabulary} knows: {excerpt(own)}.")
        if self.vocabulary == ANGLE_2511 and any(angle.elevation == "top-down" for angle in read):
            notes.append("angles: the 2511 angle LoRA has no view from straight above; its prompts say high-angle shot.")
        return angles

    def write(self, chosen: dict[str, str | Angle], framing: str) -> tuple[str, str]:
        """Prompt and caption of one shot. chosen: an entry of each list; framing: a key of FRAMINGS or ""."""
        scene, angle = chosen["scene"], chosen["angle"]
        in_scene = fields_of(scene)
        has_place = "angle" in self.fields | in_scene
        apart = self.vocabulary != PLAIN and (isinstance(angle, Angle) or not has_place)
        early = {field: chosen[field] for field in ("light", "expression", "outfit")}

        values = {**early, "angle": "" if apart else angle_phrase(angle), "framing": FRAMINGS[framing].prompt if framing else "", **self.known}
        taken = dict.fromkeys(in_scene - {"picture"}, "")
        if "character" in in_scene:
            # `of Picture 1` belongs to the name that the scene has taken.
            taken["picture"] = ""
        prompt = fill(self.template, {**values, **taken, "scene": fill(scene, values)})
        if apart:
            prompt = self._with_sentence(prompt, angle, framing)

        # Of one picture alone, and with the trigger for the name. It says what the prompt says: no light that only other scenes have a place for.
        names = {"character": "" if self.trigger else self.character}
        plain = {field: fill(text, names, ()) for field, text in early.items()}
        seen = angle_phrase(angle)
        seen = "" if not (has_place or apart) else fill(seen, names, ()) if isinstance(angle, str) else seen
        shown = fill(without_pictures(scene), {**plain, **names, "angle": seen, "framing": framing}, ())
        tags = {field: text for field, text in plain.items() if field in self.fields and field not in in_scene}
        return prompt, caption(self.trigger, framing, scene=shown, angle=seen, **tags)

    def _with_sentence(self, prompt: str, angle: Angle | str, framing: str) -> str:
        if framing and isinstance(angle, Angle) and self.vocabulary == ANGLE_2511:
            angle = replace(angle, distance=FRAMINGS[framing].distance)
        sentence = angle_phrase(angle, self.vocabulary)
        if not sentence or not prompt:
            return sentence or prompt
        if isinstance(angle, Angle) and self.vocabulary == ANGLE_2511:
            return f"{sentence}. {prompt}"
        stop = "" if prompt[-1] in STOPS else "."
        return f"{prompt}{stop} {sentence}"


def _shot(prompt: str, said: str, framing: str, variant: int, seeds: str, ids: set[str]) -> Shot:
    # 32 bits may meet: one in ten thousand lists of a thousand shots; then the later shot's id is made anew.
    again = 0
    while (number := blake2b("\0".join((prompt, said, str(variant), "again" * again)).encode(), digest_size=4).hexdigest()) in ids:
        again += 1
    ids.add(number)
    offset = variant * VARIANT_STEP if seeds == SAME_SEEDS else int(number, 16) * VARIANT_STEP
    return Shot(number, prompt, said, framing, offset)


def _spread(total: int, limit: int):
    """At most `limit` of range(total), in order: one of each of `limit` equal stretches, at places within them that do not keep step with a list's length."""
    if total <= limit:
        yield from range(total)
        return
    for i in range(limit):
        start, end = i * total // limit, (i + 1) * total // limit
        yield start + ((end - start) * (i * _GOLDEN % 2**32) >> 32)


def _product(place: int, sizes: Sequence[int]) -> list[int]:
    """Which entry of each list, the first list changing most slowly."""
    out = []
    for size in reversed(sizes):
        place, entry = divmod(place, size)
        out.append(entry)
    return out[::-1]


def _mixed(use: int, sizes: Sequence[int], turn: int) -> list[int]:
    """Which entry of each list for the use-th shot (from 0) of a framing; `turn`, the framing's number, makes each begin elsewhere.

    All lists advance by one at every use, so each keeps its entries in balance. That comes round after the least common multiple of the lengths;
    then lists whose lengths share a divisor are shifted against each other, which gives every combination once before any comes again.
    """
    cycle = math.lcm(*sizes)
    rounds = math.prod(sizes) // cycle
    number = (use // cycle + (turn * rounds * _GOLDEN >> 32)) % rounds
    step = use % cycle + (turn * cycle * _GOLDEN >> 32)
    out, covered, before = [], 1, 0
    for place, size in enumerate(sizes):
        number, digit = divmod(number, math.gcd(covered, size))
        # Adding what the lists before were shifted by keeps it one to one, and keeps two lists from being shifted alike.
        out.append((step + digit + place * before) % size)
        before += digit
        covered = math.lcm(covered, size)
    return out


def _planned(plan: Sequence[tuple[str, int]], place: int) -> tuple[str, int]:
    """The framing of the place-th shot of a plan, and how many shots of that framing come before it."""
    for number, (name, count) in enumerate(plan):
        if place < count:
            framing = VARIETY[place % len(VARIETY)] if name == "variety" else name
            return framing, _uses((*plan[:number], (name, place)), framing)
        place -= count
    raise IndexError(place)


def _uses(plan: Sequence[tuple[str, int]], framing: str) -> int:
    """How many shots of a framing a plan has."""
    uses = 0
    for name, count in plan:
        if name == framing:
            uses += count
        elif name == "variety" and framing in VARIETY:
            uses += (count + len(VARIETY) - 1 - VARIETY.index(framing)) // len(VARIETY)
    return uses
