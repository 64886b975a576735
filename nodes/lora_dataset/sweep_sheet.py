"""A sweep to look at and to read: grid and plot, Markdown, CSV and JSON."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import numpy as np

from ..identity.identity import Identity
from ..identity.scoring import NO_FACE_VERDICT, NOT_JUDGED, picture_report
from ..texts import markdown_cell, markdown_table
from . import figures
from .comparison import csv_text, told_value
from .sheet import GUIDE
from .sweep import NO_LORA, Cell, Result, Shown

# What only an eye can judge: columns to fill in.
BY_EYE = ("lighting", "background", "artifacts")
COLUMNS = (
    "checkpoint",
    "step",
    "strength",
    "match rate",
    "passed",
    "n",
    "95% low",
    "95% high",
    "identity mean",
    "min",
    "std",
    "no face",
    "uncertain",
    "mean abs yaw",
    "yaw std",
    "seed spread",
    "from no LoRA",
    "s per picture",
    "pareto",
    "suggested",
    *BY_EYE,
)
WHAT = (
    "Match rate: pictures that pass at standard, with Wilson's 95% interval; a picture without a face, or with one too small, blurred or turned away to judge (uncertain), does not pass. Identity mean, min and std: of the "
    "likeness scores of the others. Yaw in degrees, to either side. Seed spread: mean difference between pictures of one prompt with different seeds; near 0 "
    "the LoRA makes one picture whatever the seed. From no LoRA: mean difference from the picture of the same prompt and seed without a LoRA; the higher, "
    "the more it changes beside the face. Both are root mean square differences of pictures reduced to 64x64, 0 to 1: they know no faces. Pareto: no "
    "other cell is better in identity mean, seed spread and nearness to no LoRA at once. Lighting, background and artifacts are yours to fill in."
)


def rows(result: Result) -> list[dict[str, Any]]:
    """A row for each cell, that without a LoRA first; None where there is no figure."""
    pareto, suggested = {id(cell) for cell in result.pareto}, result.suggestion.cell
    return [_row(cell, id(cell) in pareto, cell is suggested) for cell in (result.base, *result.cells)]


def _row(cell: Cell, pareto: bool, suggested: bool) -> dict[str, Any]:
    own = cell.standing
    low, high = own.rate.interval or (None, None)
    checkpoint = cell.checkpoint
    values = (
        NO_LORA if checkpoint is None else checkpoint.label,
        None if checkpoint is None else "final" if checkpoint.step is None else checkpoint.step,
        None if checkpoint is None else cell.strength,
        own.rate.rate,
        own.rate.passed,
        own.rate.n,
        low,
        high,
        own.mean,
        own.least,
        own.deviation,
        own.no_face,
        own.uncertain,
        own.yaw,
        own.yaw_deviation,
        cell.spread,
        None if checkpoint is None else cell.distance,
        cell.seconds,
        "yes" if pareto else "",
        "yes" if suggested else "",
        *("" for _ in BY_EYE),
    )
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in zip(COLUMNS, values)}


def as_csv(result: Result) -> str:
    """The table as CSV (RFC 4180, but LF), UTF-8."""
    return csv_text(COLUMNS, rows(result))


def table(result: Result) -> str:
    """The table in Markdown."""
    return markdown_table(COLUMNS, ([told_value(row[name]) for name in COLUMNS] for row in rows(result)))


def markdown(result: Result, identity: Identity, name: str = "") -> str:
    """The report in Markdown: suggestion and reason, table, what the columns mean, prompts and seeds, notes."""
    suggestion, plan = result.suggestion, result.plan
    pareto = ", ".join(cell.label for cell in result.pareto) or "none"
    parts = [
        f"# LoRA sweep {markdown_cell(name)}".rstrip(),
        f"**Suggested: {markdown_cell(suggestion.reason)}**",
        f"{plan.count} pictures: {plan.arithmetic}. Judged against {markdown_cell(identity.name)} with {markdown_cell(identity.recognizer.info.name)}.",
        table(result),
        f"Pareto set: {markdown_cell(pareto)}.",
        WHAT,
        "## Prompts\n\n" + "\n".join(f"{number}. {markdown_cell(prompt)}" for number, prompt in enumerate(plan.prompts, 1)),
        f"Seeds: {', '.join(map(str, plan.seeds))}.",
    ]
    if result.remarks:
        parts.append("## Worth knowing\n\n" + "\n".join(f"- {markdown_cell(sentence)}" for sentence in result.remarks))
    parts.append(f"How to read it, what faults look like and what to change in the training: [training guide]({GUIDE}#choosing-a-checkpoint).")
    return "\n\n".join(parts) + "\n"


def as_dict(result: Result, identity: Identity) -> dict[str, Any]:
    """All of it as JSON values."""
    suggestion = result.suggestion
    return {
        "suggestion": {"checkpoint": None, "strength": None, "reason": suggestion.reason}
        if suggestion.cell is None
        else {"checkpoint": suggestion.cell.checkpoint.label, "strength": suggestion.cell.strength, "reason": suggestion.reason},
        "identity": identity.name,
        "recognizer": identity.recognizer.info.name,
        "pareto": [cell.label for cell in result.pareto],
        "prompts": list(result.plan.prompts),
        "seeds": list(result.plan.seeds),
        "cells": rows(result),
        "pictures": [_picture(one, identity) for cell in (result.base, *result.cells) for one in cell.pictures],
        "failed": {**{one.label: one.error for one in result.plan.checkpoints if one.error}, **result.failed},
        "notes": result.remarks,
    }


def _picture(one: Shown, identity: Identity) -> dict[str, Any]:
    shot = one.shot
    about = {"checkpoint": shot.checkpoint.label if shot.checkpoint else None, "strength": shot.strength if shot.checkpoint else None}
    about |= {"prompt": shot.text, "seed": shot.seed}
    if one.judgement is None:
        return {**about, "error": one.error}
    said = picture_report(one.judgement, [identity])
    return {**about, **{name: said[name] for name in ("verdict", "score", "reason")}, "seconds": round(one.seconds, 3)}


# ---- to look at ------------------------------------------------------------------------------------------------------


def grid(result: Result, title: str) -> np.ndarray:
    """Checkpoints x (no LoRA, strengths), each cell with all its pictures, uint8 [H,W,3]. The suggested cell is marked."""
    suggested = result.suggestion.cell
    by_label = {row[1].checkpoint.label: row for row in result.rows}
    lines = []
    for checkpoint in result.plan.checkpoints:
        row = by_label.get(checkpoint.label)
        if row is None:
            lines.append(figures.Row(checkpoint.label, (), checkpoint.error or result.failed.get(checkpoint.label, "")))
        else:
            lines.append(figures.Row(checkpoint.label, tuple(_grid_cell(cell, cell is suggested) for cell in row)))
    prompts, seeds = len(result.plan.prompts), len(result.plan.seeds)
    if prompts * seeds > 1:
        title += f": in each cell {prompts} prompt{'s' if prompts > 1 else ''} x {seeds} seed{'s' if seeds > 1 else ''}, in order"
    return figures.grid(title, [NO_LORA, *(f"strength {strength:g}" for strength in result.plan.strengths)], lines, together=seeds)


def _grid_cell(cell: Cell, suggested: bool) -> figures.Cell:
    own = cell.standing
    heading = f"{'no face' if own.mean is None else f'{own.mean:.2f}'} · {own.rate.passed} of {own.rate.n}"
    return figures.Cell(tuple(map(_tile, cell.pictures)), heading, suggested)


def _tile(one: Shown) -> figures.Tile:
    from PIL import Image

    if one.judgement is None:
        return figures.Tile(None, "", None, one.error)
    pixels = np.asarray(Image.open(BytesIO(one.thumbnail)).convert("RGB"))
    verdict, score = one.judgement.verdict, one.judgement.score
    return figures.Tile(pixels, verdict if verdict in (NO_FACE_VERDICT, NOT_JUDGED) or score is None else f"{score:.2f}", verdict)


def plot(result: Result, identity: Identity) -> np.ndarray:
    """Identity mean over the checkpoints, a line for each strength and a dashed one without a LoRA, with standard errors, uint8 [H,W,3]."""
    thresholds = identity.recognizer.info.thresholds
    lines = [figures.Line(NO_LORA, tuple(row[0].standing.mean for row in result.rows), tuple(row[0].standing.standard_error for row in result.rows), True)]
    for place, strength in enumerate(result.plan.strengths, 1):
        cells = [row[place].standing for row in result.rows]
        lines.append(figures.Line(f"strength {strength:g}", tuple(cell.mean for cell in cells), tuple(cell.standard_error for cell in cells)))
    shown = [row[1].checkpoint for row in result.rows]
    ticks = [one.label if one.step is None else str(one.step) for one in shown]
    # Steps say enough only of one training: 500 and 1000 of two LoRAs would look like one that went on.
    trainings = {re.sub(rf"0*{one.step}(?!\d)", "", one.label) for one in shown if one.step is not None}
    what = "mean likeness score over the step of training"
    if len(trainings) != 1 or len(set(ticks)) < len(ticks):
        what, ticks = "mean likeness score", [one.label for one in shown]
    return figures.line_plot(
        f"Identity mean with {identity.name} over checkpoints", ticks, lines, f"{what}; bars: standard error", (("standard", thresholds.standard),)
    )
