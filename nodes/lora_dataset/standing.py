"""How a group of pictures stands beside a character: the figures that LoRA Sweep and Compare Methods give for each cell and each method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..identity import scoring
from ..identity.identity import Identity
from ..identity.scoring import Measured


@dataclass(frozen=True)
class Standing:
    """Of `n` pictures, without those whose prompt needs no face.

    rate: of those that pass at standard. mean, least, deviation: of the likeness scores of pictures whose face can be judged (deviation: that of the
    sample, 0 for one picture), None without any. no_face, uncertain: share 0..1 of pictures without a face, and with one that is too small, blurred or turned
    away to judge. yaw: mean of |yaw| of the judged faces in degrees; yaw_deviation: that of the yaw itself.
    """

    n: int
    rate: scoring.MatchRate
    scored: int = 0
    mean: float | None = None
    least: float | None = None
    deviation: float | None = None
    no_face: float = 0.0
    yaw: float | None = None
    yaw_deviation: float | None = None
    uncertain: float = 0.0

    @property
    def standard_error(self) -> float | None:
        """Of the mean; None for fewer than two scores, which say nothing about it."""
        return self.deviation / self.scored**0.5 if self.scored > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded to four digits."""
        numbers = ("mean", "least", "deviation", "no_face", "uncertain", "yaw", "yaw_deviation")
        own = {name: None if (value := getattr(self, name)) is None else round(value, 4) for name in numbers}
        return {"n": self.n, "match_rate": scoring.rate_report(self.rate), "scored": self.scored, **own}


def standing(measured: Sequence[Measured], identity: Identity, captions: Sequence[str] | None = None) -> Standing:
    """The figures of a group of pictures. captions: one per picture; where one asks for a picture without a face, the picture is left out."""
    rules = scoring.Rules(scoring.threshold_of(identity, "standard", 0.0), "standard")
    judged = [one for one in scoring.judge(measured, [identity], rules, captions) if one.verdict != scoring.NOT_JUDGED]
    rate = scoring.MatchRate(sum(one.verdict == scoring.PASS for one in judged), len(judged))
    # A score that no verdict relies on says nothing of the group either.
    sure = [one for one in judged if one.score is not None and one.verdict != scoring.UNCERTAIN_VERDICT]
    scores = np.array([one.score for one in sure])
    yaws = np.array([one.measured.faces[one.chosen[0]].yaw for one in sure if one.chosen and one.chosen[0] is not None])
    faceless = sum(one.verdict == scoring.NO_FACE_VERDICT for one in judged)
    return Standing(
        len(judged),
        rate,
        len(scores),
        float(scores.mean()) if len(scores) else None,
        float(scores.min()) if len(scores) else None,
        _deviation(scores),
        faceless / len(judged) if judged else 0.0,
        float(np.abs(yaws).mean()) if len(yaws) else None,
        _deviation(yaws),
        sum(one.verdict == scoring.UNCERTAIN_VERDICT for one in judged) / len(judged) if judged else 0.0,
    )


def _deviation(values: np.ndarray) -> float | None:
    return None if not len(values) else float(values.std(ddof=1)) if len(values) > 1 else 0.0
