"""What an audit found, to look at and to read: contact sheets, a report in Markdown, the same as JSON values. Nothing is judged or written to disk here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..errors import PictureError
from ..identity.drawing import COLOURS, INK, PAPER, font_for, font_of, shortened, text_on
from ..identity.scoring import PASS, REJECT, UNCERTAIN_VERDICT
from ..texts import one_line
from .audit import AuditResult
from .dataset import ATTENTION, BLOCKED, READY, VERDICTS, DatasetItem, counted
from .rules import counted_as
from .survey import THUMBNAIL_SIDE, thumbnail

PER_SHEET = 60
# A sheet of few pictures is narrower, but wide enough for its heading.
FEWEST_COLUMNS, COLUMNS = 4, 10
GAP = 8
HEADER = 44
LINE = 16
LINES = 3
LABEL = 20

# Each verdict has its colour, its mark and its word.
SHADES = {READY: COLOURS[PASS], ATTENTION: COLOURS[UNCERTAIN_VERDICT], BLOCKED: COLOURS[REJECT]}
MARKS = {READY: "READY", ATTENTION: "! ATTENTION", BLOCKED: "X BLOCKED"}

GUIDE = "https://github.com/comfyui-likeness/ComfyUI-Likeness/blob/main/docs/training-guide.md"
# Which fault of a trained LoRA a finding leads to: the sections of the training guide.
FAULTS = {
    "Plastic skin": ("resolution", "too-small", "blur", "exposure"),
    "Face drift": ("identity", "no-face", "several-faces"),
    "Background bleed": ("no-trigger", "trigger-missing", "empty-caption", "same-caption", "fixed-trait"),
    "Wrong proportions": ("framing", "caption-framing", "unexpected-face", "two-buckets", "bucket-tag"),
    "Overfit": ("duplicate", "over-captioned"),
    "Underfit": ("plan",),
}


def in_order(result: AuditResult) -> list[DatasetItem]:
    """The pictures, the worst first."""
    return sorted(result.dataset.items, key=lambda item: -VERDICTS.index(item.level))


def sheet_count(result: AuditResult) -> int:
    # One even for no picture: it says so where the pictures would be looked for.
    return max(1, -(-len(result.dataset) // PER_SHEET))


def sheets(result: AuditResult, name: str = "") -> Iterator[np.ndarray]:
    """Every contact sheet, see `sheet`, one at a time."""
    return (sheet(result, page, name) for page in range(sheet_count(result)))


def sheet(result: AuditResult, page: int, name: str = "") -> np.ndarray:
    """Contact sheet uint8 [H,W,3], W up to 2008, of at most PER_SHEET pictures, the worst first; of an empty dataset one with the heading alone. name: the dataset's, for the heading.

    page: from 0, below sheet_count. Below each picture stand its name, framing with likeness score, and the rules that it breaks; above, its verdict. A
    sheet takes 10 MB. Pictures come from the audit's memory; what is no longer there is decoded again.
    """
    items = in_order(result)[page * PER_SHEET : (page + 1) * PER_SHEET]
    return _sheet(items, _heading(result, name, page + 1, sheet_count(result)), SHADES[result.verdict])


def _heading(result: AuditResult, name: str, page: int, count: int) -> str:
    about = f"{one_line(name)}: " if one_line(name) else ""
    counts = ", ".join(f"{number} {verdict.lower()}" for verdict, number in result.counts.items() if number)
    return f"{about}{result.verdict}   ({counts}){f'   sheet {page} of {count}' if count > 1 else ''}"


def _sheet(items: list[DatasetItem], heading: str, shade: str) -> np.ndarray:
    cell = LABEL + THUMBNAIL_SIDE + LINES * LINE + GAP
    # Wider than high, as screens are.
    columns = max(FEWEST_COLUMNS, min(COLUMNS, math.ceil(math.sqrt(1.5 * len(items)))))
    width = columns * (THUMBNAIL_SIDE + GAP) + GAP
    image = Image.new("RGB", (width, HEADER + -(-len(items) // columns) * cell), PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, HEADER - GAP), fill=shade)
    font = font_for(heading, 20)
    draw.text((GAP + 2, (HEADER - GAP) / 2), shortened(draw, heading, font, width - 2 * GAP), font=font, fill=text_on(shade), anchor="lm")
    for i, item in enumerate(items):
        x, y = GAP + i % columns * (THUMBNAIL_SIDE + GAP), HEADER + i // columns * cell
        _tile(image, draw, item, x, y)
    return np.asarray(image)


def _tile(image: Image.Image, draw: ImageDraw.ImageDraw, item: DatasetItem, x: int, y: int) -> None:
    shade, right = SHADES[item.level], x + THUMBNAIL_SIDE - 1
    draw.rectangle((x, y, right, y + LABEL - 1), fill=shade)
    draw.text((x + 6, y + LABEL / 2), MARKS[item.level], font=font_of(13), fill=text_on(shade), anchor="lm")
    top = y + LABEL
    draw.rectangle((x, top, right, top + THUMBNAIL_SIDE - 1), fill="#808080", outline=shade, width=2)
    try:
        small = Image.fromarray(thumbnail(item))
        image.paste(small, (x + (THUMBNAIL_SIDE - small.width) // 2, top + (THUMBNAIL_SIDE - small.height) // 2))
    except PictureError:
        draw.text((x + THUMBNAIL_SIDE / 2, top + THUMBNAIL_SIDE / 2), "cannot be read", font=font_of(15), fill="#FFFFFF", anchor="mm")
    score = _score(item)
    framing = counted_as(item) or "framing unknown"
    broken = dict.fromkeys(finding.rule if finding.rule not in item.waived else f"({finding.rule})" for finding in item.findings)
    lines = (item.stem, f"{item.bucket.name}, {framing}{'' if score is None else f', {score:.2f}'}", ", ".join(broken))
    for number, text in enumerate(lines):
        font = font_for(text, 13)
        place = x, top + THUMBNAIL_SIDE + 2 + number * LINE
        draw.text(place, shortened(draw, text, font, THUMBNAIL_SIDE), font=font, fill=INK)


def _score(item: DatasetItem) -> float | None:
    """The likeness score to show: measured against the identity, else the gate's, else against the other pictures."""
    known = (item.measured.get("likeness"), item.likeness, item.measured.get("likeness_to_others"))
    return next((value for value in known if value is not None), None)


# --- to read ---


def report(result: AuditResult, name: str = "") -> str:
    """The report in Markdown (GitHub's), UTF-8 text with LF: verdict, reasons, buckets, plan, missing shots, every picture of which something is said."""
    dataset = result.dataset
    counts = ", ".join(f"{number} {verdict}" for verdict, number in result.counts.items())
    trigger = f" Trigger word: {_cell(dataset.trigger)}." if dataset.trigger else ""
    parts = [f"# Audit of {_cell(name)}" if one_line(name) else "# Audit of the dataset", f"**{result.verdict}.** {counted(len(dataset))}: {counts}.{trigger}"]
    if result.reasons:
        parts += ["## Reasons", _list(result.reasons)]
    parts += ["## Buckets", *_buckets(result)]
    if result.plan:
        rows = [(line.bucket or "faces", line.framing, line.planned, line.found, line.missing or "") for line in result.plan]
        parts += ["## Plan", _table(("bucket", "framing", "planned", "there", "missing"), rows)]
    if result.missing_prompts:
        parts += ["## Missing shots"]
        if result.missing_plan:
            parts += [f"As a framing plan for the Shot List: `{result.missing_plan}`"]
        lines = "\n".join(result.missing_prompts)
        parts += ["As scenes for the Shot List, with its framing plan left empty:", f"```text\n{lines}\n```"]
    if told := [item for item in in_order(result) if item.findings]:
        columns = ("picture", "verdict", "bucket", "framing", "size", "sharpness", "likeness", "what is said of it")
        parts += ["## Pictures", _table(columns, [_row(item) for item in told])]
    if result.advice or dataset.notes:
        parts += ["## Worth knowing", _list((*result.advice, *dataset.notes))]
    if dataset.left_out:
        parts += ["## Left out before the audit", _list(f"{name}: {why}" for name, why in dataset.left_out)]
    parts += ["## Limits", _limits(result)]
    faults = [fault for fault, rules in FAULTS.items() if _broken(result) & set(rules)]
    if faults:
        links = [f"[{fault}]({GUIDE}#{fault.lower().replace(' ', '-')}): {', '.join(sorted(_broken(result) & set(FAULTS[fault])))}" for fault in faults]
        parts += ["## What this does to a LoRA", "- " + "\n- ".join(links)]
    return "\n\n".join(parts) + "\n"


def _broken(result: AuditResult) -> set[str]:
    of_items = {finding.rule for item in result.dataset.items for finding in item.findings if finding.rule not in item.waived}
    return of_items | {finding.rule for finding in result.dataset.findings}


def _buckets(result: AuditResult) -> list[str]:
    rows, total, auto = [], 0, False
    for bucket in result.dataset.buckets:
        items = result.dataset.in_bucket(bucket)
        crops = sum(item.parent is not None for item in items)
        shown = bucket.repeats * len(items)
        total, auto = total + shown, auto or not bucket.repeats
        rows.append((bucket.name, len(items), crops or "", bucket.repeats or "auto", shown or "chosen at export"))
    table = _table(("bucket", "pictures", "crops among them", "repeats", "shown in a pass"), rows)
    return [table] if auto or not rows else [table, f"A pass shows {counted(total)}: as many steps at batch size 1 and one resolution."]


def _row(item: DatasetItem) -> tuple:
    measured, score = item.measured, _score(item)
    size = f"{measured['width']}x{measured['height']}" if measured else ""
    said = [f"{_without_stem(finding.text, item)}{' (let pass)' if finding.rule in item.waived else ''}" for finding in item.findings]
    sharp = f"{measured['sharpness']:.0f}" if measured else ""
    return item.stem, item.level, item.bucket.name, counted_as(item), size, sharp, "" if score is None else f"{score:.2f}", " ".join(said)


def _without_stem(text: str, item: DatasetItem) -> str:
    """lint begins its sentences with the picture's name, which the table has already."""
    own = text.removeprefix(f"{item.stem}: ")
    return text if own == text else own[:1].upper() + own[1:]


def _limits(result: AuditResult) -> str:
    rules = result.rules
    return (
        f"Area of {rules.resolution}x{rules.resolution} (crops {rules.crop_resolution}x{rules.crop_resolution}); sharpness {rules.sharpness:g} and "
        f"{rules.sharpness_share:g} of the median of its bucket and framing; {rules.clipped:.0%} without detail; near-duplicates up to {rules.distance} of 64 "
        f"bits; likeness {'loose' if rules.identity is None else f'{rules.identity:g}'}."
    )


def _table(columns: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(str(value)) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(sentences) -> str:
    return "\n".join(f"- {_cell(sentence)}" for sentence in sentences)


def _cell(text: str) -> str:
    """A user's text on one line, without anything that Markdown or HTML would take for its own."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{sign}" if sign in "\\`*_[]|~#" else sign for sign in text)


def as_dict(result: AuditResult) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "verdict": result.verdict,
        "reasons": list(result.reasons),
        "counts": dict(result.counts),
        "trigger": result.dataset.trigger,
        "findings": [_finding(finding) for finding in result.dataset.findings],
        "plan": [
            {"bucket": line.bucket, "framing": line.framing, "planned": line.planned, "found": line.found, "missing": line.missing} for line in result.plan
        ],
        "missing_plan": result.missing_plan,
        "missing_prompts": list(result.missing_prompts),
        "advice": list(result.advice),
        "left_out": [list(pair) for pair in result.dataset.left_out],
        "pictures": [
            {
                "stem": item.stem,
                "verdict": item.level,
                "bucket": item.bucket.name,
                "framing": counted_as(item),
                "measured": dict(item.measured),
                "findings": [{**_finding(finding), "waived": finding.rule in item.waived} for finding in item.findings],
            }
            for item in result.dataset.items
        ],
    }


def _finding(finding) -> dict[str, str]:
    return {"level": finding.level, "rule": finding.rule, "text": finding.text}
