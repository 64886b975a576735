"""Methods beside each other: how much the pictures of each are like the character, and what the figures allow to say. Measures and makes no pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import combinations
from math import isfinite
from typing import Any

import numpy as np

from ..errors import InputError
from ..identity import scoring
from ..identity.identity import Identity
from ..identity.scoring import Judgement, MatchRate, Measured, Rules, picture_report
from ..installation import needed
from ..pictures import Picture
from ..texts import excerpt, markdown_cell, markdown_table, one_line
from . import figures
from .standing import Standing, standing

UNKNOWN = "-"
# With more pictures of each method the sheet has a line for each method: rows of two or three tiles would make it a narrow strip.
MOST_ROWS = 20
# Beyond this many pictures of each, how many would tell two rates apart is no advice.
MOST_ADVISED = 1000

COLUMNS = (
    "method",
    "n",
    "match rate",
    "passed",
    "95% low",
    "95% high",
    "identity mean",
    "mean 95% low",
    "mean 95% high",
    "min",
    "std",
    "no face",
    "uncertain",
    "mean abs yaw",
    "yaw std",
    "s per picture",
)
WHAT = (
    "Match rate: pictures that pass at standard, with Wilson's 95% interval; a picture without a face, or with one that cannot be judged, does not pass. "
    "Identity mean, min and std: of the likeness scores of pictures with a face that can be judged, the mean with the 95% interval by Student's t. No face, uncertain: share of the "
    "pictures without a face, and with one too small, blurred or turned away to judge. Yaw in degrees, to either side. Seconds: as they were typed in. A score is no measure of anything but the face: prompt, light and faults are yours to judge."
)
ARCFACE = (
    "{name} is an ArcFace recognizer: a method that was steered by ArcFace (face swap, FaceID adapters) may score higher with it than with "
    "another; build the identity with dlib, too, and compare again."
)


@dataclass(frozen=True, eq=False)
class Method:
    """One way to make the character. judgements: of its pictures, in order; seconds: per picture, None where unknown."""

    label: str
    judgements: tuple[Judgement, ...]
    standing: Standing
    seconds: float | None = None

    @property
    def mean_interval(self) -> tuple[float, float] | None:
        """Of the identity mean at 95%, by Student's t; None for fewer than two scores, and for equal ones, which are one picture several times."""
        own = self.standing
        if not own.standard_error:
            return None
        with needed("scipy"):
            from scipy.special import stdtrit

        half = float(stdtrit(own.scored - 1, 0.975)) * own.standard_error
        return own.mean - half, own.mean + half


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods in the order in which they were given. rules: by which each picture was judged; match rates are at standard whatever they say."""

    methods: tuple[Method, ...]
    identity: Identity
    rules: Rules
    notes: tuple[str, ...] = ()

    @property
    def aligned(self) -> bool:
        """Whether all have the same number of pictures, so that those of one place can stand beside each other."""
        return len({len(method.judgements) for method in self.methods}) == 1


# ---- what is typed in ------------------------------------------------------------------------------------------------


def labels_of(text: str, count: int) -> list[str]:
    """A label for each of `count` methods from the lines of a text; an empty or missing line becomes `method 2`, and equal ones are numbered."""
    lines = _lines(text, count, "label", "labels")
    labels: list[str] = []
    for number, line in enumerate(lines, 1):
        label = plain = line or f"method {number}"
        again = 1
        while label in labels:
            again += 1
            label = f"{plain} ({again})"
        labels.append(label)
    return labels


def seconds_of(text: str, count: int) -> list[float | None]:
    """Seconds per picture of each of `count` methods from the lines of a text; `-` and an empty or missing line are unknown."""
    return [None if line in ("", UNKNOWN) else _seconds(line) for line in _lines(text, count, "time", "seconds")]


def _seconds(line: str) -> float:
    try:
        value = float(line.removesuffix("s"))
    except ValueError:
        value = -1.0
    if not (isfinite(value) and value > 0):
        raise InputError(
            f"'{excerpt(line)}' in seconds is no time; write the seconds per picture of each method in a line of its own, such as 12.5, or {UNKNOWN}."
        )
    return value


def _lines(text: str, count: int, what: str, name: str) -> list[str]:
    lines = [one_line(line) for line in text.rstrip().splitlines()]
    if len(lines) > count:
        raise InputError(
            f"{name} has {len(lines)} lines for {count} {'method' if count == 1 else 'methods'}; write one {what} a line, in the order of the images."
        )
    return lines + [""] * (count - len(lines))


# ---- what is found ---------------------------------------------------------------------------------------------------


def compare(
    labels: Sequence[str], measured: Sequence[Sequence[Measured]], identity: Identity, rules: Rules, seconds: Sequence[float | None] | None = None
) -> Comparison:
    """The comparison of methods from what was measured of their pictures; all three sequences have an entry for each method.

    Raises InputError where no method has a picture.
    """
    if not any(measured):
        raise InputError("No picture arrived: every image input is an empty list or batch.")
    methods = tuple(
        Method(label, tuple(scoring.judge(own, [identity], rules)), standing(own, identity), time)
        for label, own, time in zip(labels, measured, seconds or [None] * len(labels), strict=True)
    )
    return Comparison(methods, identity, rules, tuple(_notes(methods, identity)))


def _notes(methods: Sequence[Method], identity: Identity) -> list[str]:
    notes = [f"{method.label}: no picture arrived." for method in methods if not method.judgements]
    notes += [
        f"{method.label}: none of its {method.standing.n} pictures shows a face that can be judged."
        for method in methods
        if method.judgements and not method.standing.scored
    ]
    notes += [
        f"{method.label}: {method.standing.n - method.standing.scored} of {method.standing.n} pictures show no face that can be judged; its identity mean is of the others."
        for method in methods
        if 0 < method.standing.scored < method.standing.n
    ]
    counts = sorted({len(method.judgements) for method in methods})
    if len(counts) > 1:
        notes.append(f"The methods have {', '.join(map(str, counts))} pictures: what stands at the same place was not made of the same prompt.")
    if identity.recognizer.info.metric == "cosine":
        notes.append(ARCFACE.format(name=identity.recognizer.info.name))
    return notes


def findings(comparison: Comparison) -> list[str]:
    """What the figures allow to say, a sentence each: one method is called higher than another only where their 95% intervals do not overlap."""
    methods = [method for method in comparison.methods if method.judgements]
    if len(methods) < 2:
        return [f"{methods[0].label} is the only method with pictures: there is nothing to compare it with."]
    rates = [(method.label, method.standing.rate.rate, method.standing.rate.interval) for method in methods]
    found = [_said("match rate", rates), *_advice([(method.label, method.standing.rate) for method in methods])]
    known = [(method.label, method.standing.mean, method.mean_interval) for method in methods if method.mean_interval is not None]
    if len(known) > 1:
        found.append(_said("identity mean", known))
    if lacking := [method.label for method in methods if method.mean_interval is None]:
        found.append(f"The identity mean of {_listed(lacking)} has no interval: that takes two different pictures with a face.")
    timed = sorted((method.seconds, method.label) for method in methods if method.seconds is not None)
    if len(timed) > 1:
        found.append(f"Time per picture as typed in: {', '.join(f'{label} {seconds:g} s' for seconds, label in timed)}.")
    return found


def _said(what: str, values: Sequence[tuple[str, float, tuple[float, float]]]) -> str:
    """One sentence on which intervals lie apart."""
    pairs = {(one[0], other[0]) for one in values for other in values if one[2][0] > other[2][1]}
    if not pairs:
        who = f"{values[0][0]} and {values[1][0]} are" if len(values) == 2 else f"no two of the {len(values)} methods are"
        return f"By {what} {who} {'not ' if len(values) == 2 else ''}shown to differ: the 95% intervals overlap."
    parts = []
    for label, value, interval in sorted(values, key=lambda item: -item[1]):
        below = [other for other, _, _ in values if (label, other) in pairs]
        if below:
            than = "every other method" if len(below) == len(values) - 1 > 1 else _listed(below)
            parts.append(f"{label} ({value:.2f}, {interval[0]:.2f} to {interval[1]:.2f}) is higher than {than}")
    open_ = sum((one[0], other[0]) not in pairs and (other[0], one[0]) not in pairs for one, other in combinations(values, 2))
    rest = "" if not open_ else "; one pair is not shown to differ" if open_ == 1 else f"; the other {open_} pairs are not shown to differ"
    return f"By {what}: {'; '.join(parts)}{rest}."


def _advice(rates: Sequence[tuple[str, MatchRate]]) -> list[str]:
    """How many pictures would tell the two highest match rates apart, where they differ and these do not."""
    (first, best), (second, next_) = sorted(rates, key=lambda item: -item[1].rate)[:2]
    if best.rate == next_.rate or best.interval[0] > next_.interval[1]:
        return []
    for count in range(2, MOST_ADVISED + 1):
        if _scaled(best, count).interval[0] > _scaled(next_, count).interval[1]:
            return [
                f"{first} passes {best.passed} of {best.n} and {second} {next_.passed} of {next_.n}: if these rates hold, about {count} pictures of each would show it."
            ]
    return [
        f"{first} passes {best.passed} of {best.n} and {second} {next_.passed} of {next_.n}: even {MOST_ADVISED} pictures of each would not show such a difference."
    ]


def _scaled(rate: MatchRate, n: int) -> MatchRate:
    return MatchRate(rate.rate * n, n)


def _listed(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


# ---- to read ---------------------------------------------------------------------------------------------------------


def columns(comparison: Comparison) -> tuple[str, ...]:
    """COLUMNS, and how many pass at another strictness where that was asked for."""
    return (*COLUMNS, *([f"pass at {comparison.rules.label}"] if comparison.rules.label != "standard" else []))


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A row for each method, rounded to four digits; None where there is no figure."""
    return [_row(method, columns(comparison)) for method in comparison.methods]


def _row(method: Method, names: Sequence[str]) -> dict[str, Any]:
    own = method.standing
    values = (
        method.label,
        own.n,
        own.rate.rate,
        own.rate.passed,
        *(own.rate.interval or (None, None)),
        own.mean,
        *(method.mean_interval or (None, None)),
        own.least,
        own.deviation,
        own.no_face if own.n else None,
        own.uncertain if own.n else None,
        own.yaw,
        own.yaw_deviation,
        method.seconds,
        sum(judgement.verdict == scoring.PASS for judgement in method.judgements),
    )
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in zip(names, values)}


def as_csv(comparison: Comparison) -> str:
    """The table as CSV (RFC 4180, but LF), UTF-8."""
    return csv_text(columns(comparison), rows(comparison))


def csv_text(names: Sequence[str], values: Iterable[dict[str, Any]]) -> str:
    """Rows as CSV (RFC 4180, but LF), in which a spreadsheet takes no text for a formula; None becomes an empty field."""
    text = StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in values)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def table(comparison: Comparison) -> str:
    """The table in Markdown."""
    names = columns(comparison)
    return markdown_table(names, ([told_value(row[name]) for name in names] for row in rows(comparison)))


def told_value(value: Any) -> str:
    """A figure for a table: three digits, `-` for none."""
    return "-" if value is None else f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def markdown(comparison: Comparison, name: str = "") -> str:
    """The report in Markdown (GitHub's): what the figures allow to say, the table, what its columns mean, what is worth knowing."""
    identity = comparison.identity
    parts = [
        f"# Comparison of methods {markdown_cell(name)}".rstrip(),
        f"Judged against {markdown_cell(identity.name)} with {markdown_cell(identity.recognizer.info.name)}; a picture passes at standard from "
        f"{identity.recognizer.info.thresholds.standard:.2f} on.",
        _list(findings(comparison)),
        table(comparison),
        WHAT,
    ]
    if comparison.notes:
        parts.append(f"## Worth knowing\n\n{_list(comparison.notes)}")
    return "\n\n".join(parts) + "\n"


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {markdown_cell(sentence)}" for sentence in sentences)


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """All of it as JSON values."""
    identity, rules = comparison.identity, comparison.rules
    return {
        "findings": findings(comparison),
        "identity": identity.name,
        "recognizer": identity.recognizer.info.name,
        "strictness": rules.label,
        "threshold": round(rules.threshold, 4),
        "aligned": comparison.aligned,
        "methods": rows(comparison),
        "pictures": [
            {"method": method.label, "index": index, **{key: said[key] for key in ("verdict", "score", "reason")}}
            for method in comparison.methods
            for index, said in enumerate(picture_report(judgement, [identity]) for judgement in method.judgements)
        ],
        "notes": list(comparison.notes),
    }


# ---- to look at ------------------------------------------------------------------------------------------------------


def sheet(comparison: Comparison, pictures: Sequence[Sequence[Picture]]) -> np.ndarray:
    """The pictures side by side with score and verdict, uint8 [H,W,3]. pictures: of each method, as they were measured.

    Where all of several methods have the same number, up to MOST_ROWS, a column for each method and a row for each place; otherwise a row for each method.
    """
    methods = comparison.methods
    tiles = [
        tuple(_tile(picture, judgement) for picture, judgement in zip(own, method.judgements, strict=True))
        for method, own in zip(methods, pictures, strict=True)
    ]
    title = f"Likeness with {comparison.identity.name} ({comparison.identity.recognizer.info.name})"
    if len(tiles) > 1 and comparison.aligned and len(tiles[0]) <= MOST_ROWS:
        lines = [figures.Row("mean, passed", tuple(figures.Cell((), _heading(method)) for method in methods))]
        lines += [figures.Row(str(number), tuple(figures.Cell((tile,)) for tile in row)) for number, row in enumerate(zip(*tiles), 1)]
        return figures.grid(title, [method.label for method in methods], lines, 256)
    lines = [
        figures.Row(method.label, (figures.Cell(own, _heading(method)),)) if own else figures.Row(method.label, (), "no picture arrived")
        for method, own in zip(methods, tiles)
    ]
    return figures.grid(title, [""], lines)


def _heading(method: Method) -> str:
    own = method.standing
    return f"{'no face' if own.mean is None else f'{own.mean:.2f}'} · {own.rate.passed} of {own.rate.n}"


def _tile(picture: Picture, judgement: Judgement) -> figures.Tile:
    return figures.Tile(picture.pixels, judgement.verdict if judgement.score is None else f"{judgement.score:.2f}", judgement.verdict)


def plot(comparison: Comparison) -> np.ndarray:
    """The scores of every picture by method, with the recognizer's thresholds and a custom one, uint8 [H,W,3]."""
    identity, rules = comparison.identity, comparison.rules
    limits = identity.recognizer.info.thresholds
    thresholds = [("loose", limits.loose), ("standard", limits.standard), ("strict", limits.strict)]
    if rules.label == "custom":
        thresholds.append(("custom", rules.threshold))
    strips = [
        figures.Strip(method.label, tuple((judgement.score, judgement.verdict) for judgement in method.judgements), method.standing.mean, _note(method))
        for method in comparison.methods
    ]
    return figures.strip_plot(f"Likeness with {identity.name} by method ({identity.recognizer.info.name})", strips, "likeness score", thresholds)


def _note(method: Method) -> str:
    rate = method.standing.rate
    if not rate.n:
        return "no picture"
    low, high = rate.interval
    time = "" if method.seconds is None else f", {method.seconds:g} s"
    return f"match rate {rate.rate:.2f} ({low:.2f} to {high:.2f}){time}"
