"""A LoRA sweep: which pictures are made, in which order, what is measured of them, and which cell that speaks for. Knows neither host nor model.

A picture is one checkpoint at one strength with one prompt and one seed; a cell is all pictures of one checkpoint at one strength.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import combinations
from statistics import mean
from typing import Any

import numpy as np

from ..errors import InputError, LikenessError
from ..identity import scoring
from ..identity.identity import Identity
from ..identity.retakes import seed_of
from ..identity.scoring import Judgement, Measured
from ..pictures import Picture, small_copy
from ..texts import entries_of, excerpt, one_line
from .checkpoints import Checkpoint
from .choices import MOST_SEEDS, TRIGGER
from .standing import Standing, standing

MOST_PROMPTS = 100
NO_LORA = "no LoRA"
OUT_OF_MEMORY = "out of memory: take a smaller size or a smaller model file"

# The side that pictures are reduced to before they are compared: what is left is composition, light and colour.
COMPARED_SIDE = 64
THUMBNAIL_SIDE = 320
# So many pictures are decoded at once, and so many whole ones may wait to be measured meanwhile.
MOST_DECODED = MOST_MEASURED = 4


# ---- what is asked for -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """checkpoints: rows; strengths: columns, beside the one without a LoRA; prompts: with {trigger}; seeds: of every prompt; batch: how many of them are
    sampled and decoded at once."""

    checkpoints: tuple[Checkpoint, ...]
    strengths: tuple[float, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    batch: int = 1

    def __post_init__(self):
        if not self.prompts:
            raise InputError("No prompt is written: write one a line, with {trigger} where the LoRA's trigger word goes.")
        if len(self.prompts) > MOST_PROMPTS:
            raise InputError(f"{len(self.prompts)} prompts are written; {MOST_PROMPTS} is the most.")
        if not 1 <= self.batch <= MOST_SEEDS:
            raise InputError(f"batch is {self.batch}; choose 1 to {MOST_SEEDS}.")

    @property
    def usable(self) -> tuple[Checkpoint, ...]:
        return tuple(one for one in self.checkpoints if not one.error)

    def texts(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """The prompts with a checkpoint's trigger in them."""
        return tuple(dict.fromkeys(with_trigger(prompt, checkpoint.trigger) for prompt in self.prompts))

    @property
    def base(self) -> list[Shot]:
        """The pictures without a LoRA: one for each text and seed that the checkpoints are asked for."""
        texts = dict.fromkeys(text for one in self.usable for text in self.texts(one))
        return [Shot(None, 0.0, text, seed) for text in texts for seed in self.seeds]

    def cell(self, checkpoint: Checkpoint, strength: float) -> list[Shot]:
        return [Shot(checkpoint, strength, text, seed) for text in self.texts(checkpoint) for seed in self.seeds]

    def cells(self) -> Iterator[tuple[Checkpoint, float]]:
        """In the order in which they are made: a LoRA is loaded once."""
        return ((checkpoint, strength) for checkpoint in self.usable for strength in self.strengths)

    def batches(self, shots: Sequence[Shot], room: int) -> list[list[Shot]]:
        """The pictures of one cell by what is made at once, at most `room`. Pictures depend in their last digits on how many are made at once: so a batch
        of which one is known is not filled up with the next."""
        batches: dict[tuple, list[Shot]] = {}
        for shot in shots:
            batches.setdefault((shot.text, self.seeds.index(shot.seed) // self.batch), []).append(shot)
        return [part for batch in batches.values() for part in _parts(batch, room)]

    @property
    def at_once(self) -> int:
        return min(self.batch, len(self.seeds))

    @property
    def count(self) -> int:
        return len(self.base) + sum(len(self.cell(*cell)) for cell in self.cells())

    @property
    def arithmetic(self) -> str:
        """`8 checkpoints x 5 strengths x 5 prompts x 2 seeds, and 10 without a LoRA`."""
        counts = ((len(self.usable), "checkpoint"), (len(self.strengths), "strength"), (len(self.prompts), "prompt"), (len(self.seeds), "seed"))
        return " x ".join(f"{count} {word}{'s' if count != 1 else ''}" for count, word in counts) + f", and {len(self.base)} without a LoRA"


def _parts(several: Sequence[Any], most: int) -> list[Any]:
    return [several[first : first + most] for first in range(0, len(several), most)]


def cell_label(checkpoint: Checkpoint | None, strength: float) -> str:
    """`mira_000001500 at 0.8`, or `no LoRA`."""
    return NO_LORA if checkpoint is None else f"{checkpoint.label} at {strength:g}"


@dataclass(frozen=True)
class Shot:
    """One picture to make. checkpoint: None without a LoRA."""

    checkpoint: Checkpoint | None
    strength: float
    text: str
    seed: int

    @property
    def has_own_encoder(self) -> bool:
        """Whether the LoRA changes the text encoder, too."""
        return self.checkpoint is not None and any(part.lora is not None and part.lora.text_layers for part in self.checkpoint.parts)


def prompts_of(text: str) -> tuple[str, ...]:
    """One prompt a line, each once."""
    return tuple(dict.fromkeys(entries_of(text)))


def seeds_of(first: int, count: int) -> tuple[int, ...]:
    """`count` seeds from the first on."""
    if not 1 <= count <= MOST_SEEDS:
        raise InputError(f"{count} seeds are asked for; choose 1 to {MOST_SEEDS}.")
    return tuple(seed_of(first, number) for number in range(count))


def with_trigger(prompt: str, trigger: str) -> str:
    """The prompt with the trigger in place of {trigger}; without a trigger nothing is left of the field, nor the comma behind it."""
    if trigger:
        return prompt.replace(TRIGGER, trigger)
    field_ = re.escape(TRIGGER)
    return one_line(re.sub(rf"{field_}\s*,\s*|\s*,\s*{field_}|{field_}", "", prompt))


def notes_of(plan: Plan) -> list[str]:
    """What is odd with the plan, a sentence each."""
    notes = [f"{one.label} is left out: {one.error}." for one in plan.checkpoints if one.error]
    lacking = {one.trigger for one in plan.usable if one.trigger}
    for number, prompt in enumerate(plan.prompts, 1):
        missing = sorted(trigger for trigger in lacking if TRIGGER not in prompt and not all(_has_word(prompt, part.strip()) for part in trigger.split(",")))
        if missing:
            notes.append(
                f"Prompt {number} ('{excerpt(prompt)}') has no trigger ({', '.join(missing)}): the LoRA may not show; write {{trigger}} where it belongs."
            )
    untold = [one.label for one in plan.usable if not one.trigger]
    if untold and any(TRIGGER in prompt for prompt in plan.prompts):
        some = f"{untold[0]} and {len(untold) - 1} more name" if len(untold) > 1 else f"{untold[0]} names"
        notes.append(f"{some} no trigger word, so {{trigger}} is left out of the prompts: write it in `trigger`, or behind the file as `file | word`.")
    if len(plan.seeds) == 1:
        notes.append("With one seed nothing can be said about the spread between seeds; two or more show whether a LoRA has collapsed to one picture.")
    return notes


def _has_word(prompt: str, trigger: str) -> bool:
    """Whether a trigger is in a prompt, and not as a part of another word, such as `ann` in `planning`."""
    return re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", prompt, re.IGNORECASE) is not None


# ---- what comes of it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shown:
    """What is kept of a picture. thumbnail: a small JPEG; reduced: float32 [64,64,3] in 0..1; seconds: of sampling and decoding, 0 where that is forgotten;
    error: why there is none; key: of the picture's content, as Picture has it."""

    shot: Shot
    judgement: Judgement | None = None
    thumbnail: bytes = b""
    reduced: np.ndarray | None = None
    seconds: float = 0.0
    error: str = ""
    remembered: bool = False
    key: bytes = b""


@dataclass(frozen=True, eq=False)
class Cell:
    """The figures of one checkpoint at one strength; checkpoint None: without a LoRA.

    spread: mean distance between pictures of one prompt with different seeds, None for one seed; distance: mean distance from the picture without a LoRA
    of the same prompt and seed; seconds: mean per picture. Both distances are `picture_distance`.
    """

    checkpoint: Checkpoint | None
    strength: float
    pictures: tuple[Shown, ...]
    standing: Standing
    spread: float | None
    distance: float | None
    seconds: float | None

    @property
    def label(self) -> str:
        return cell_label(self.checkpoint, self.strength)

    @property
    def errors(self) -> list[str]:
        return list(dict.fromkeys(one.error for one in self.pictures if one.error))


@dataclass(frozen=True, eq=False)
class Suggestion:
    """The cell that the figures speak for, and why in one sentence; None where they speak for none."""

    cell: Cell | None
    reason: str


@dataclass(frozen=True, eq=False)
class Result:
    """base: the cell without a LoRA, over all texts; rows: for each usable checkpoint the cell without a LoRA with its texts, then one per strength."""

    plan: Plan
    base: Cell
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """Those with a LoRA."""
        return [cell for row in self.rows for cell in row[1:]]

    @property
    def remarks(self) -> list[str]:
        """The notes, and what was not made, with its reason: a cell that lacks pictures is not measured by the same ones as the others."""
        return [*self.notes, *(f"{cell.label}: {error}." for cell in (self.base, *self.cells) for error in cell.errors)]

    @property
    def pareto(self) -> list[Cell]:
        """Cells that no other beats in everything: identity mean up, distance from the pictures without a LoRA down, spread between seeds up."""
        known = [cell for cell in self.cells if cell.standing.mean is not None and cell.distance is not None]
        return [cell for cell in known if not any(_beats(other, cell) for other in known)]

    @property
    def suggestion(self) -> Suggestion:
        return _suggest(self)


def with_notes(result: Result, notes: Sequence[str]) -> Result:
    """The result with more to say, first."""
    return replace(result, notes=(*notes, *result.notes))


def picture_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square difference of two reduced pictures, 0 (equal) to 1 (black and white): of composition, light and colour, not of faces."""
    return float(np.sqrt(np.mean((first - second) ** 2)))


def _beats(one: Cell, other: Cell) -> bool:
    pairs = [(one.standing.mean, other.standing.mean), (-one.distance, -other.distance)]
    if one.spread is not None and other.spread is not None:
        pairs.append((one.spread, other.spread))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _suggest(result: Result) -> Suggestion:
    """Of the cells whose match rate is not measurably below the best one's (it lies within their 95% interval; 1 lies only in that of a cell of which
    every picture passes), those whose identity mean is within one standard error of the best (the one-standard-error rule, Breiman et al. 1984), and of
    these the one nearest to the pictures without the LoRA: it changes least beside the face. Ties: the lower strength, then the earlier row."""
    known = [cell for cell in result.cells if cell.standing.mean is not None]
    if not known:
        return Suggestion(None, "No picture with a LoRA shows a face that can be judged, so nothing is suggested.")
    highest = max(cell.standing.rate.rate or 0.0 for cell in known)
    rated = [cell for cell in known if cell.standing.rate.interval and cell.standing.rate.interval[1] >= highest - 1e-9]
    best = max(rated, key=lambda cell: (cell.standing.mean, -abs(cell.strength)))
    error = best.standing.standard_error or 0.0
    near = [cell for cell in rated if cell.standing.mean >= best.standing.mean - error - 1e-9]
    chosen = min(near, key=lambda cell: (round(cell.distance, 6) if cell.distance is not None else 9.0, abs(cell.strength)))
    reason = f"{chosen.label}: identity mean {chosen.standing.mean:.3f}, match rate {_rate(chosen)}"
    if chosen is best:
        reason += (
            ", the highest mean"
            if len(near) == 1
            else f", the highest mean, and of {len(near)} within its standard error the nearest to the pictures without a LoRA"
        )
    else:
        reason += f"; the highest mean is {best.standing.mean:.3f} ({best.label}), and within its standard error of {error:.3f} this one is nearest to the pictures without a LoRA"
    bare = next(row[0] for row in result.rows if any(cell is chosen for cell in row)).standing
    if bare.mean is not None and chosen.standing.mean < bare.mean - (bare.standard_error or 0.0):
        worse = f"Without a LoRA the mean is {bare.mean:.3f}, which is higher"
        if not chosen.standing.rate.passed:
            return Suggestion(None, f"{worse} than that of any LoRA ({reason}), and none of its pictures passes, so nothing is suggested.")
        reason += f". {worse}"
    elif bare.mean is not None and chosen.standing.mean - bare.mean <= (bare.standard_error or 0.0):
        reason += f". Without a LoRA the mean is {bare.mean:.3f}: that it is any better is not shown"
    return Suggestion(chosen, f"{reason}.")


def _rate(cell: Cell) -> str:
    rate = cell.standing.rate
    if rate.interval is None:
        return "unknown"
    low, high = rate.interval
    return f"{rate.passed} of {rate.n} (95% interval {low:.0%} to {high:.0%})"


# ---- making it -------------------------------------------------------------------------------------------------------


class Watch:
    """What a sweep tells while it goes on; each does nothing here. Any of them may raise to stop it (the host's interrupt)."""

    def plan(self, pictures: int, remembered: int) -> None:
        """So many pictures will be sampled; so many are known."""

    def begin(self, shots: Sequence[Shot]) -> None:
        """A picture is begun, or several that are sampled at once."""

    def step(self, done: int, steps: int, preview: object) -> None:
        """One step of them is done."""

    def finished(self, shown: Shown, image: object | None) -> None:
        """A picture is known. image: whole, where it is given out for the first time, also one that an earlier run only sampled."""

    def dropped(self, pictures: int) -> None:
        """So many of the plan will not be made."""

    def check(self) -> None:
        """Called between two pieces of work."""


class Memory:
    """What is known of pictures by key, from run to run: latents; how long each took; and for each person what was measured. About 60 KB a picture beside
    the latents; the least recently used are forgotten beyond `most`."""

    def __init__(self, latents: Any, most: int = 4000):
        self.latents, self._most = latents, most
        self._shown: OrderedDict[tuple, Shown] = OrderedDict()
        self._seconds: OrderedDict[tuple, float] = OrderedDict()
        self._waiting: set[tuple] = set()
        self._batches: dict[tuple, tuple[tuple, ...]] = {}
        self._room: dict[tuple, int] = {}

    def look(self, key: tuple, who: tuple) -> Shown | None:
        if (key, who) in self._shown:
            self._shown.move_to_end((key, who))
        return self._shown.get((key, who))

    def seconds(self, key: tuple) -> float:
        if key in self._seconds:
            self._seconds.move_to_end(key)
        return self._seconds.get(key, 0.0)

    def sampled(self, keys: Sequence[tuple], latents: Sequence[Any], seconds: float) -> None:
        """Latents that are to be decoded at once, and how long each took: a sweep that is stopped before that has both."""
        for key, latent in zip(keys, latents, strict=True):
            self.latents.keep(key, latent)
            self._take(key, seconds)
            self._batches[key] = tuple(keys)
        self._waiting.update(keys)
        self._forget()

    def batch(self, key: tuple) -> tuple[tuple, ...]:
        """The keys that are decoded at once with one, in order; of what is forgotten it alone."""
        return self._batches.get(key, (key,))

    def room(self, pace: tuple) -> int:
        """How many pictures of a kind (Studio.pace) can be sampled at once, as far as is known."""
        return self._room.get(pace, MOST_SEEDS)

    def lower_room(self, pace: tuple, most: int) -> None:
        self._room[pace] = most

    def is_waiting(self, key: tuple) -> bool:
        """Whether a picture was sampled and never given out."""
        return key in self._waiting

    def keep(self, key: tuple, who: tuple, shown: Shown) -> None:
        self._shown[key, who] = shown
        self._shown.move_to_end((key, who))
        self._take(key, shown.seconds)
        self._waiting.discard(key)
        self._forget()

    def _take(self, key: tuple, seconds: float) -> None:
        self._seconds[key] = seconds
        self._seconds.move_to_end(key)

    def _forget(self) -> None:
        while len(self._shown) > self._most:
            self._shown.popitem(last=False)
        while len(self._seconds) > self._most:
            key, _ = self._seconds.popitem(last=False)
            # Of what is forgotten nothing waits.
            self._waiting.discard(key)
            self._batches.pop(key, None)

    def clear(self) -> None:
        self._shown.clear()
        self._seconds.clear()
        self._waiting.clear()
        self._batches.clear()
        self._room.clear()
        self.latents.clear()


def run(
    plan: Plan,
    studio: Any,
    memory: Memory,
    identity: Identity,
    rules: scoring.Rules,
    watch: Watch | None = None,
    group: int = 4,
    pins: Mapping[str, str] | None = None,
) -> Result:
    """Make every picture of a plan and measure it.

    studio: sweep_studio.Studio or what acts like one. What `memory` knows is not made again, and each new picture goes into it at once, so that a sweep
    that is stopped loses nothing. Every distinct text is encoded once, each LoRA read once, and pictures are decoded in groups, so that the host does not
    change models for each; a group is measured while the next one is sampled. A checkpoint that cannot be loaded is left out with its reason, a picture that
    memory does not suffice for, too; of a batch that it does not suffice for half as many are made at once; the others go on.
    pins: what pictures are pinned as by hand, by content key in hexadecimal (identity/panel.py): they change verdicts, never a figure of a cell.
    Raises InputError when no checkpoint can be used.
    """
    if not plan.usable:
        first = plan.checkpoints[0]
        raise InputError(
            f"No checkpoint can be used: {first.label}: {first.error}."
            if len(plan.checkpoints) == 1
            else f"None of the {len(plan.checkpoints)} checkpoints can be used; the first: {first.label}: {first.error}."
        )
    return _Run(plan, studio, memory, identity, rules, watch or Watch(), group, pins or {}).result()


class _Run:
    def __init__(self, plan, studio, memory, identity, rules, watch, group, pins):
        self.plan, self.studio, self.memory, self.watch, self.group = plan, studio, memory, watch, group
        self.identity, self.rules, self.pins = identity, rules, pins
        self.who = (identity.recognizer.fingerprint, identity.combine, identity.embeddings.tobytes())
        self.shown: dict[Shot, Shown] = {}
        self.failed: dict[str, str] = {}
        # What is told of batches that did not fit into memory.
        self.crowded: dict[str, None] = {}
        self.sampled_some = False
        # What was asked for, or made, under which key.
        self.keys: dict[Shot, tuple] = {}
        # One: recognizers are not made for two at a time.
        self.measurer = ThreadPoolExecutor(1, "likeness-measuring")
        self.measuring: deque[tuple[Shot, Any, Future]] = deque()
        # Seconds of a sampling that went to earlier pictures.
        self.aside = 0.0

    def result(self) -> Result:
        try:
            self._make_all()
            self._collect(0)
        finally:
            # Of a sweep that is stopped: what is measured is kept and given out, what waits for it has its latent. Why it is stopped is told, nothing else.
            for *_, future in self.measuring:
                future.cancel()
            with suppress(Exception):
                for measured in self.measuring:
                    if not measured[-1].cancelled():
                        self._take(*measured)
            self.measurer.shutdown()
        return self._told()

    def _make_all(self) -> None:
        cells = [(None, 0.0, self.plan.base), *((*cell, self.plan.cell(*cell)) for cell in self.plan.cells())]
        lacking = [(checkpoint, strength, self._lacking(shots)) for checkpoint, strength, shots in cells]
        new = [shot for *_, shots in lacking for shot in shots]
        self.watch.plan(len(new), self.plan.count - len(new))
        if new:
            self._encode(new)
        for checkpoint, strength, shots in lacking:
            if shots:
                self._make(checkpoint, strength, shots)

    def _lacking(self, shots: Sequence[Shot]) -> list[Shot]:
        """Those of a cell that must be sampled. The others are measured for this person, or only sampled: then they are decoded and measured."""
        lacking: list[Shot] = []
        sampled: dict[tuple, list[Shot]] = {}
        for shot in shots:
            self.watch.check()
            key = self.keys[shot] = self._known_key(shot)
            known = self.memory.look(key, self.who)
            if known is not None:
                self._show(shot, known)
            elif self.memory.latents.look(key) is None:
                lacking.append(shot)
            else:
                # What is lacking of a batch is decoded with all that is left of it: so it is what an undisturbed sweep makes.
                sampled.setdefault(self.memory.batch(key), []).append(shot)
        for keys, some in sampled.items():
            latents = {key: latent for key in keys if (latent := self.memory.latents.look(key)) is not None}
            images = dict(zip(latents, self._decoded(list(latents.values()), some[0]), strict=True))
            for shot in some:
                self.watch.check()
                key, image = self.keys[shot], images[self.keys[shot]]
                if image is None:
                    self._lose([shot])
                else:
                    waiting = self.memory.is_waiting(key)
                    known = self._measured(shot, self.studio.picture(image), self.memory.seconds(key))
                    self._show(shot, known, image if waiting else None)
                    self.memory.keep(key, self.who, known)
        return lacking

    def _known_key(self, shot: Shot) -> tuple:
        """Under which a picture is known. One that was made alone is as good as one of a batch, but not the other way round."""
        alone, at_once = self.studio.key(shot, True), self.studio.key(shot, False)
        keys = (alone,) if self.plan.batch == 1 else (at_once, alone)
        known = (key for key in keys if self.memory.look(key, self.who) is not None or self.memory.latents.look(key) is not None)
        return next(known, keys[0])

    def _show(self, shot: Shot, known: Shown, image: Any = None) -> None:
        self.shown[shot] = self._judged(known, shot, remembered=True)
        self.watch.finished(self.shown[shot], image)

    def _encode(self, shots: Sequence[Shot]) -> None:
        """All texts before the first picture; those of a LoRA that changes the text encoder come with it."""
        for shot in {shot.text: shot for shot in shots if not shot.has_own_encoder}.values():
            self.watch.check()
            self.studio.encode(shot.text)

    def _make(self, checkpoint: Checkpoint | None, strength: float, shots: list[Shot]) -> None:
        if checkpoint is not None and checkpoint.label in self.failed:
            self.watch.dropped(len(shots))
            return
        self.watch.check()
        painter = None
        try:
            painter = self.studio.painter(checkpoint, strength, list(dict.fromkeys(shot.text for shot in shots)))
        except LikenessError as error:
            if checkpoint is None:
                raise
            self.failed[checkpoint.label] = str(error).rstrip(".")
            self.watch.dropped(len(shots))
            return
        except Exception as error:
            if not self.studio.is_out_of_memory(error):
                raise
        if painter is None:
            self.studio.free_memory()
            self.shown |= {shot: Shown(shot, error=OUT_OF_MEMORY) for shot in shots}
            self.watch.dropped(len(shots))
            return
        for group in self._groups(shots):
            for made in [made for batch in group for made in self._sampled(painter, batch)]:
                self._decode(*made)

    def _groups(self, shots: Sequence[Shot]) -> Iterator[list[list[Shot]]]:
        """The batches that are sampled before the next decoding: of at least `group` pictures."""
        group: list[list[Shot]] = []
        for batch in self.plan.batches(shots, self.memory.room(self.studio.pace)):
            group.append(batch)
            if sum(map(len, group)) >= self.group:
                yield group
                group = []
        if group:
            yield group

    def _sampled(self, painter: Any, shots: list[Shot]) -> Iterator[tuple[list[Shot], Sequence[Any], float]]:
        """(pictures, their latents, seconds of one) of what is decoded at once of a batch; where memory does not suffice for it, half as many are sampled at
        once from here on."""
        room = self.memory.room(self.studio.pace)
        if len(shots) > room:
            for part in _parts(shots, room):
                yield from self._sampled(painter, part)
            return
        self.watch.check()
        self.watch.begin(shots)
        start, self.aside = time.perf_counter(), 0.0
        latents = self._tried(lambda: painter.sample(shots[0].text, [shot.seed for shot in shots], self._step))
        if latents is not None:
            seconds = (time.perf_counter() - start - self.aside) / len(shots)
            self.sampled_some = True
            self.keys |= {shot: self.studio.key(shot, len(shots) == 1) for shot in shots}
            for some, own in zip(_parts(shots, MOST_DECODED), _parts(latents, MOST_DECODED), strict=True):
                self.memory.sampled([self.keys[shot] for shot in some], own, seconds)
                yield some, own, seconds
        elif len(shots) > 1:
            self.memory.lower_room(self.studio.pace, len(shots) // 2)
            self._tell_crowded(len(shots), "sampled", shots[0])
            yield from self._sampled(painter, shots)
        else:
            self._lose(shots)

    def _decode(self, shots: list[Shot], latents: Sequence[Any], seconds: float) -> None:
        """Decode pictures, and have them measured."""
        self._collect(MOST_MEASURED)
        self.watch.check()
        start = time.perf_counter()
        images = self._decoded(latents, shots[0])
        seconds += (time.perf_counter() - start) / len(shots)
        for shot, image in zip(shots, images, strict=True):
            if image is None:
                self._lose([shot])
            else:
                self.measuring.append((shot, image, self.measurer.submit(self._measured, shot, self.studio.picture(image), seconds)))

    def _decoded(self, latents: Sequence[Any], shot: Shot) -> Sequence[Any]:
        """The pictures of latents, decoded at once, or one by one where memory does not suffice for that; None for one that it does not suffice for either.
        shot: one of them."""
        images = self._tried(lambda: self.studio.decode(latents))
        if images is not None or len(latents) == 1:
            return [None] if images is None else images
        self._tell_crowded(len(latents), "decoded", shot)
        return [image for latent in latents for image in self._decoded([latent], shot)]

    def _tell_crowded(self, count: int, what: str, shot: Shot) -> None:
        self.crowded[f"{count} pictures at once do not fit into memory: from {cell_label(shot.checkpoint, shot.strength)} on fewer were {what} at once."] = None

    def _lose(self, shots: Sequence[Shot]) -> None:
        self.shown |= {shot: Shown(shot, error=OUT_OF_MEMORY) for shot in shots}

    def _step(self, done: int, steps: int, preview: object) -> None:
        start = time.perf_counter()
        self._collect()
        self.aside += time.perf_counter() - start
        self.watch.step(done, steps, preview)

    def _collect(self, most: int | None = None) -> None:
        """Take over what has been measured, in order, and wait until at most `most` are left."""
        while self.measuring and (self.measuring[0][-1].done() or (most is not None and len(self.measuring) > most)):
            self.watch.check()
            self._take(*self.measuring.popleft())

    def _take(self, shot: Shot, image: Any, future: Future) -> None:
        shown = future.result()
        self.shown[shot] = self._judged(shown, shot)
        # What cannot be given out (a full disk) waits for the next run.
        self.watch.finished(self.shown[shot], image)
        self.memory.keep(self.keys[shot], self.who, shown)

    def _tried(self, work: Callable[[], Any]) -> Any:
        """What `work` gives; None when there is not enough memory for it."""
        try:
            return work()
        except Exception as error:
            if not self.studio.is_out_of_memory(error):
                raise
        # Outside the except clause, which keeps the tensors of the failed call alive.
        self.studio.free_memory()
        return None

    def _measured(self, shot: Shot, picture: Picture, seconds: float) -> Shown:
        (measured,) = scoring.measure([picture], [self.identity])
        return Shown(
            shot,
            self._judgement(measured, shot, picture.key),
            _jpeg(small_copy(picture.pixels, THUMBNAIL_SIDE)),
            reduced(picture.pixels),
            seconds,
            key=picture.key,
        )

    def _judgement(self, measured: Measured, shot: Shot, key: bytes) -> Judgement:
        return scoring.judge([measured], [self.identity], self.rules, [shot.text], [self.pins.get(key.hex())])[0]

    def _judged(self, shown: Shown, shot: Shot, remembered: bool = False) -> Shown:
        """With the rules of this run, which may be others than those of the run that measured it."""
        judgement = self._judgement(shown.judgement.measured, shot, shown.key)
        return replace(shown, shot=shot, judgement=judgement, remembered=remembered)

    # -- figures

    def _told(self) -> Result:
        base = self._cell(None, 0.0, self.plan.base)
        rows = []
        for checkpoint in self.plan.usable:
            if checkpoint.label in self.failed:
                continue
            bare = [Shot(None, 0.0, text, seed) for text in self.plan.texts(checkpoint) for seed in self.plan.seeds]
            cells = [self._cell(checkpoint, strength, self.plan.cell(checkpoint, strength)) for strength in self.plan.strengths]
            rows.append((self._cell(None, 0.0, bare), *cells))
        if not rows:
            label, why = next(iter(self.failed.items()))
            raise InputError(f"No checkpoint can be used; {label}: {why}.")
        notes = notes_of(self.plan) + [f"{label} is left out: {why}." for label, why in self.failed.items()]
        notes += self.crowded
        room = self.memory.room(self.studio.pace)
        if not self.crowded and self.sampled_some and room < self.plan.at_once:
            notes.append(f"No more than {room} pictures were made at once: more did not fit into memory in an earlier sweep of this model and size.")
        return Result(self.plan, base, tuple(rows), tuple(notes), dict(self.failed))

    def _cell(self, checkpoint: Checkpoint | None, strength: float, shots: Sequence[Shot]) -> Cell:
        pictures = tuple(self.shown.get(shot) or Shown(shot, error="not made") for shot in shots)
        made = [one for one in pictures if one.judgement is not None]
        figures = standing([one.judgement.measured for one in made], self.identity, [one.shot.text for one in made])
        by_prompt: dict[str, list[np.ndarray]] = {}
        for one in made:
            by_prompt.setdefault(one.shot.text, []).append(one.reduced)
        pairs = [picture_distance(a, b) for several in by_prompt.values() for a, b in combinations(several, 2)]
        bare = [(one.reduced, self.shown.get(Shot(None, 0.0, one.shot.text, one.shot.seed))) for one in made]
        distances = [picture_distance(own, without.reduced) for own, without in bare if without is not None and without.reduced is not None]
        return Cell(
            checkpoint,
            strength,
            pictures,
            figures,
            mean(pairs) if pairs else None,
            mean(distances) if distances else None,
            mean(timed) if (timed := [one.seconds for one in made if one.seconds]) else None,
        )


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


def reduced(pixels: np.ndarray) -> np.ndarray:
    """A picture uint8 [H,W,3] as float32 [64,64,3] in 0..1, averaged over areas."""
    from PIL import Image

    small = Image.fromarray(pixels).resize((COMPARED_SIDE, COMPARED_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255
