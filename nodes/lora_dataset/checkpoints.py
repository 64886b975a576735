"""Which LoRA checkpoints a sweep looks at: from the lines that a user types and the names in models/loras to a row for each. Only headers are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path, PurePosixPath

from ..errors import InputError, LikenessError
from ..lora_files import LoraFile, effective_trigger, read_lora
from ..texts import entries_of, excerpt, one_line
from .choices import SUFFIXES

MOST_CHECKPOINTS = 200
MOST_STRENGTHS = 20
STRONGEST = 10.0

# ai-toolkit ends a name with the step in nine digits, musubi-tuner and sd-scripts with `-step00001000` or the epoch in six: one number at the end.
# A number right behind a letter is a version or a rank (`v10`, `r16`), unless the word before it says step or epoch.
_STEP = re.compile(r"^(?P<name>.*?)(?:[-_ .]?(?:step|epoch)[-_]?|(?:^|[-_ ])(?:e[-_]?)?)(?P<step>\d{2,})$", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """One file of a combination. name: as in a LoRA loader's list; strength: fixed, None where the sweep sets it."""

    name: str
    path: Path
    strength: float | None = None
    lora: LoraFile | None = None


@dataclass(frozen=True)
class Checkpoint:
    """One row of a sweep: a LoRA, or several together. step: of the training, None for a final file; error: why it cannot be used."""

    label: str
    parts: tuple[Part, ...]
    trigger: str = ""
    step: int | None = None
    error: str = ""


@dataclass(frozen=True)
class _Wanted:
    """One entry of a line: names that it stands for, and the strength behind its colon."""

    names: tuple[str, ...]
    strength: float | None


def step_of(name: str, trainings: Collection[tuple[str, str]] = ()) -> int | None:
    """The step or epoch at the end of a checkpoint's file name: 500 of `mira_000000500.safetensors`; None for a final file.

    trainings: from `trainings_in`: beside `qwen_2512_000000500` the file `qwen_2512` is the final one, not a step of `qwen`.
    """
    path = _path(name)
    found = _STEP.match(path.stem)
    return int(found["step"]) if found and (str(path.parent), path.stem) not in trainings else None


def trainings_in(names: Sequence[str]) -> set[tuple[str, str]]:
    """(folder, name without step) of the trainings that files among `names` are steps of."""
    return {(str(path.parent), found["name"]) for path in map(_path, names) if (found := _STEP.match(path.stem))}


def _path(name: str) -> PurePosixPath:
    """A name of the host's list, which has backslashes on Windows."""
    return PurePosixPath(name.replace("\\", "/"))


def parse_checkpoints(text: str, known: Sequence[str], path_of: Callable[[str], Path | None], trigger: str = "") -> tuple[Checkpoint, ...]:
    """The checkpoints of the lines in `text`, in order and each once; those of a folder by step, the final file last.

    A line: a file of the list `known`, a folder, or a pattern with `*`; with ` + ` several together, where `:0.8` behind a name fixes that one's strength;
    with ` | ` the trigger of the line, `none` for none. trigger: for lines without one of their own; without both, that which the file names. path_of: where the file of
    a name lies. A file that cannot be read makes a checkpoint with an error. Of lines that name the same, one with a trigger of its own counts. A name
    is taken as it is where there is such a file or folder, whatever signs are in it. Raises InputError for a line that names nothing, and for too many.
    """
    lines = entries_of(text)
    if not lines:
        raise InputError("No LoRA is named: write the folder of your checkpoints below models/loras, or one file a line.")
    listed, trainings = _listed(known), trainings_in(known)
    found: dict[tuple, Checkpoint] = {}
    files: dict[str, LoraFile | str] = {}
    for line in lines:
        entries, own = _split(line, listed)
        wanted = [_wanted(entry, listed, trainings) for entry in entries]
        for names in product(*(one.names for one in wanted)):
            parts = tuple(Part(name, path_of(name) or Path(name), one.strength) for name, one in zip(names, wanted))
            key = tuple((part.name, part.strength) for part in parts)
            if own is not None or key not in found:
                found[key] = _read(parts, trigger if own is None else own, files, trainings)
            if len(found) > MOST_CHECKPOINTS:
                raise InputError(f"The lines name more than {MOST_CHECKPOINTS} checkpoints; name fewer.")
    return _told_apart(tuple(found.values()))


def parse_strengths(text: str) -> tuple[float, ...]:
    """`0.6, 0.8, 1` or `0.6..1.0` (in steps of 0.1) or `0.5..1.0/0.25`: the strengths, each once, ascending. Raises InputError for words, 0, and too many."""
    values: list[float] = []
    for entry in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        ends, _, step = entry.partition("/")
        first, dots, last = ends.partition("..")
        try:
            low, high, width = float(first), float(last if dots else first), float(step or 0.1)
        except ValueError:
            raise InputError(f"'{excerpt(entry)}' in strengths is no number; write numbers such as 0.6, 0.8, 1.0, or a range such as 0.6..1.0.") from None
        if not (abs(low) <= STRONGEST and abs(high) <= STRONGEST and low <= high):
            raise InputError(f"The strengths '{excerpt(entry)}' must go from a lower to a higher number, both from -{STRONGEST:g} to {STRONGEST:g}.")
        if not 0.01 <= width <= STRONGEST:
            raise InputError(f"The strengths '{excerpt(entry)}' must have a step from 0.01 to {STRONGEST:g} behind the slash, such as 0.6..1.0/0.2.")
        count = int((high - low) / width + 1e-6) + 1
        if count > MOST_STRENGTHS:
            raise InputError(f"'{excerpt(entry)}' stands for {count} strengths; {MOST_STRENGTHS} is the most.")
        values += [round(low + i * width, 4) for i in range(count)]
    values = sorted(dict.fromkeys(values))
    if not values:
        raise InputError("No strength is named: write for example 0.6, 0.8, 1.0.")
    if 0 in values:
        raise InputError("Strength 0 is the model without the LoRA, which is always looked at beside the others; leave it out.")
    if len(values) > MOST_STRENGTHS:
        raise InputError(f"{len(values)} strengths are named; {MOST_STRENGTHS} is the most.")
    return tuple(values)


# (as it is typed: with / and on one line, as the host has it) of each name in the host's list.
_Listed = Sequence[tuple[str, str]]


def _listed(known: Sequence[str]) -> _Listed:
    return [(one_line(name.replace("\\", "/")), name) for name in known]


def _split(line: str, listed: _Listed) -> tuple[list[str], str | None]:
    """(entries between ` + `, trigger behind ` | `) of a line; what is a name as a whole is not split, and without a ` | ` the trigger is None."""
    words, bar, own = line.rpartition(" | ")
    if not bar or _names(line, listed):
        words, own = line, None
    words = words.strip()
    return [words] if _names(words, listed) else re.split(r"\s+\+\s+", words), None if own is None else own.strip()


def _names(words: str, listed: _Listed) -> list[str]:
    """What a file, a pattern, a folder or a file without its suffix stands for; [] for nothing."""
    wanted = words.replace("\\", "/").removeprefix("models/loras/").removeprefix("./")
    if same := [raw for name, raw in listed if name == wanted]:
        return same
    usable = [(name, raw) for name, raw in listed if name.lower().endswith(SUFFIXES)]
    if "*" in wanted or "?" in wanted:
        # Brackets are common in names and no part of our patterns.
        pattern = wanted.replace("[", "[[]")
        return [raw for name, raw in usable if fnmatchcase(name, pattern)]
    folder = wanted.rstrip("/") or "."
    inside = [raw for name, raw in usable if str(PurePosixPath(name).parent) == folder]
    return inside or [raw for name, raw in usable if PurePosixPath(name).with_suffix("").as_posix() == wanted]


def _wanted(words: str, listed: _Listed, trainings: Collection[tuple[str, str]]) -> _Wanted:
    words, strength, names = words.strip(), None, _names(words.strip(), listed)
    name, colon, number = words.rpartition(":")
    if not names and colon and not number.lower().endswith(SUFFIXES) and "/" not in number and "\\" not in number:
        try:
            words, strength = name.strip(), float(number)
        except ValueError:
            raise InputError(f"'{excerpt(number)}' behind the colon of '{excerpt(name)}' is no strength; write a number such as 0.8.") from None
        if not abs(strength) <= STRONGEST:
            raise InputError(f"The strength {number} of '{excerpt(name)}' must be -{STRONGEST:g} to {STRONGEST:g}.")
        names = _names(words, listed)
    if not names:
        what = "matches no LoRA" if "*" in words or "?" in words else "is neither a LoRA nor a folder of LoRAs"
        raise InputError(f"'{excerpt(words)}' {what} in models/loras; put the .safetensors files there and press R.")
    return _Wanted(tuple(sorted(names, key=lambda name: _place(name, trainings))), strength)


def _place(name: str, trainings: Collection[tuple[str, str]]) -> tuple:
    step, path = step_of(name, trainings), _path(name)
    stem = path.stem if step is None else _STEP.match(path.stem)["name"]
    return str(path.parent), stem, step is None, step or 0, path.name


def _read(parts: tuple[Part, ...], typed: str, files: dict[str, LoraFile | str], trainings: Collection[tuple[str, str]]) -> Checkpoint:
    for part in parts:
        if part.name not in files:
            try:
                files[part.name] = read_lora(part.path)
            except LikenessError as error:
                files[part.name] = str(error)
    read = [files[part.name] for part in parts]
    errors = [one for one in read if isinstance(one, str)]
    parts = tuple(replace(part, lora=None if isinstance(one, str) else one) for part, one in zip(parts, read))
    swept = [part for part in parts if part.strength is None]
    steps = {step_of(part.name, trainings) for part in swept or parts}
    if not errors and not swept:
        errors = ["every strength in this line is fixed, so that nothing is left to sweep: leave one without a colon"]
    triggers = [] if errors else [effective_trigger(part.lora, "") for part in parts]
    trigger = "" if typed.lower() in ("-", "none") else typed or ", ".join(dict.fromkeys(filter(None, triggers)))
    return Checkpoint(_label(parts, 0), parts, trigger, steps.pop() if len(steps) == 1 else None, errors[0].rstrip(".") if errors else "")


def _label(parts: Sequence[Part], whole: int) -> str:
    """What a checkpoint is called, on one line. whole: 0 its name alone, 1 with its folder, 2 with its suffix, too."""
    paths = [_path(part.name) for part in parts]
    names = [path.as_posix() if whole == 2 else path.with_suffix("").as_posix() if whole else path.stem for path in paths]
    return one_line(" + ".join(name + (f":{part.strength:g}" if part.strength is not None else "") for part, name in zip(parts, names)))


def _told_apart(checkpoints: tuple[Checkpoint, ...]) -> tuple[Checkpoint, ...]:
    """With labels as short as they can be, no two the same: without folder and suffix where the names differ without them."""
    levels = [[_label(one.parts, whole) for one in checkpoints] for whole in range(3)]
    out, taken = [], set()
    for i, one in enumerate(checkpoints):
        label = next((labels[i] for labels in levels if labels.count(labels[i]) == 1), levels[2][i])
        # Names that differ in signs which are on no line.
        number = next(number for number in range(1, len(checkpoints) + 2) if (label if number == 1 else f"{label} ({number})") not in taken)
        out.append(replace(one, label=label if number == 1 else f"{label} ({number})"))
        taken.add(out[-1].label)
    return tuple(out)


def names_in(text: str, known: Sequence[str]) -> list[str]:
    """The names of `known` that lines stand for, without a complaint about those that stand for none."""
    listed, trainings = _listed(known), trainings_in(known)
    found: dict[str, None] = {}
    for line in entries_of(text):
        for entry in _split(line, listed)[0]:
            try:
                found.update(dict.fromkeys(_wanted(entry, listed, trainings).names))
            except InputError:
                continue
    return list(found)
