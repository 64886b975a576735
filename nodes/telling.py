"""What a node tells while it makes one picture after another: the score of the last one, the time left. Knows neither host nor model."""

import time


class Clock:
    """How long a run still takes, from what its samples took so far."""

    def __init__(self, now=time.monotonic):
        self._now, self.planned, self._done, self._start = now, 0, 0.0, None

    def plan(self, samples: int) -> None:
        self.planned += samples
        self._start = self._start if self._start is not None else self._now()

    def advance(self, samples: float) -> None:
        """So much of the plan is done, in samples; parts count."""
        self._done = samples

    @property
    def left(self) -> float | None:
        """Seconds; None before the first step is done."""
        if not self._done or self._start is None:
            return None
        return (self._now() - self._start) / self._done * max(0.0, self.planned - self._done)


def told(seconds: float) -> str:
    """`40 s`, `5 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def last_score(judgement) -> str:
    """`last score 0.58`, or `last: no face` where there is no score. judgement: a scoring.Judgement."""
    return f"last: {judgement.verdict}" if judgement.score is None else f"last score {judgement.score:.2f}"
