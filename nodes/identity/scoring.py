"""Faces x identities -> scores, verdicts, reasons. What a face scores is measured once; what that means is judged as often as asked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError, NoFaceError
from ..installation import needed
from ..pictures import Picture
from .choices import FACE_CHOICES, STRICTNESS  # noqa: F401
from .identity import Identity, recognizer_report
from .recognizers import Face, every_look
from .recognizers import any_face as any_face_found

PASS, REJECT, UNCERTAIN_VERDICT, NO_FACE_VERDICT, NOT_JUDGED = VERDICTS = ("pass", "reject", "uncertain", "no face", "not judged")
# What a picture can be pinned as by hand.
PINS = (PASS, REJECT)
# Where a picture goes.
PASSED, REJECTED, ASIDE = "passed", "rejected", "uncertain"

# The score of a picture without a face, where a number must stand: below any that a face can get with ArcFace.
NO_SCORE = -1.0

# The max_score that sets no limit: the very same picture may score a rounding above 1.
NO_LIMIT = 1.0

# Below these a face cannot be judged either way. 40 pixels: a third of the 112 that ArcFace works on.
SMALLEST_SIDE = 40
LOWEST_CONFIDENCE = 0.5
# From here on a find is surely a face: below it dlib's detector takes folds of cloth for faces (0.52 on scikit-image's astronaut, whose face has
# 0.82), so only what is like the character counts; strangers and `every face` need this.
SURE_CONFIDENCE = 0.6
# 45 degrees is where recognizers stop comparing well with a frontal reference; the estimate from five points is good to about 10 degrees, so
# it must say clearly more.
WIDEST_YAW = 45.0
YAW_ERROR = 10.0
# faces.sharpness of portraits (face about 110 pixels) under a Gaussian blur of 3 to 4 pixels: the score of the same person with dlib has fallen
# from above 0.8 to between 0.6 and 0.34, which is where other people are. Measured in tests/test_scoring.py on real photographs.
LOWEST_SHARPNESS = 0.015

# A face from this share of the picture's shorter side on is what the picture is about: when it is not the character, smaller faces are not
# searched for (Cast Gate and `every face` do that).
PROMINENT = 0.25

# A part of a caption that is one of these, as a whole, asks for a picture in which no face is to be expected. `Light from behind` does not.
FACELESS_SHOT = (
    r"(?i)(?:an? |the )?(?:back|rear) view(?: of .*)?"
    r"|(?:seen |viewed |shot |photographed |view )?from (?:behind|the back)"
    r"|(?:.* )?(?:seen|viewed|shot|photographed) from (?:behind|the back)"
    r"|(?:.* )?facing away(?: from (?:the )?(?:camera|viewer))?"
    r"|(?:.* )?back to the (?:camera|viewer)"
    r"|(?:legs?|torso|hands?|feet) only|headless|head out of frame|realistic_body"
)


@dataclass(frozen=True, eq=False)
class Measured:
    """The faces of one picture and their likeness scores float64 [faces, identities]."""

    faces: tuple[Face, ...]
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is said of one picture.

    verdict: one of VERDICTS; goes: passed, rejected or uncertain; score: None without a face; reason: one sentence, without full stop.
    chosen: the faces that the verdict is about, one per identity for a cast (None where that person is missing). about: per face what is said of
    it alone: pass, reject or uncertain, None for a face that does not count. pinned: as what the picture is pinned by hand, None if it is not;
    score, chosen and about stay the recognizer's.
    """

    verdict: str
    goes: str
    score: float | None
    reason: str
    measured: Measured
    chosen: tuple[int | None, ...] = ()
    about: tuple[str | None, ...] = ()
    pinned: str | None = None

    def person_of(self, face: int, count: int) -> int | None:
        """Which of `count` identities that face is taken for; None for a stranger."""
        if face not in self.chosen:
            return None
        return self.chosen.index(face) if count > 1 else 0

    def name_of(self, face: int, identities: Sequence[Identity]) -> str | None:
        """Whose face that is taken for; None for a stranger."""
        person = self.person_of(face, len(identities))
        return None if person is None else identities[person].name


@dataclass(frozen=True)
class Rules:
    """How to judge. threshold: the likeness score from which on a face passes; label: its strictness, for reasons and the report."""

    threshold: float
    label: str = "custom"
    face: str = "best match"
    no_face: str = "reject"
    uncertain: str = "own output"
    keep_best: int = 0
    max_score: float = NO_LIMIT
    strangers: str = "allow"


def threshold_of(identity: Identity, strictness: str, custom: float) -> float:
    """The threshold of a strictness with this identity's recognizer; `custom` counts only for the strictness of that name."""
    if strictness not in STRICTNESS:
        raise InputError(f"'{strictness}' is not a strictness; choose {', '.join(STRICTNESS)}.")
    return custom if strictness == "custom" else getattr(identity.recognizer.info.thresholds, strictness)


def measure(pictures: Sequence[Picture], identities: Sequence[Identity], face: str = "best match", thorough: bool = False, tick=lambda: None) -> list[Measured]:
    """The faces of each picture and how much each is like each identity.

    The search goes on at higher resolution until it has found, for `best match`, a face of every identity that reaches the recognizer's loose
    threshold, or with one identity a prominent face; for `largest`, any face; for `every face`, or with `thorough`, all there is. So the result
    does not depend on the strictness. Raises InputError when the identities come from different recognizers.
    """
    recognizer = identities[0].recognizer
    for identity in identities[1:]:
        if identity.recognizer.fingerprint != recognizer.fingerprint:
            raise InputError(
                f"{identities[0].name} was measured with {recognizer.info.name} and {identity.name} with {identity.recognizer.info.name}; "
                "build both with the same recognizer."
            )
    loose = recognizer.info.thresholds.loose

    def all_recognized(index: int, faces: tuple[Face, ...]) -> bool:
        prominent = PROMINENT * min(pictures[index].size)
        if len(identities) == 1 and any(face.side >= prominent for face in faces):
            return True
        clear = [face for face in faces if doubt(face) is None]
        scores = _scores(clear, identities)
        # Each by a face of their own: one face may be like two people.
        return all(face is not None and scores[face, person] >= loose for person, face in enumerate(assign(scores, loose)))

    enough = every_look if thorough or face == "every face" else any_face_found if face == "largest" else all_recognized
    return [Measured(found.faces, _scores(found.faces, identities)) for found in recognizer.faces(pictures, enough, tick)]


def _scores(faces: Sequence[Face], identities: Sequence[Identity]) -> np.ndarray:
    if not faces:
        return np.zeros((0, len(identities)))
    embeddings = np.stack([face.embedding for face in faces])
    return np.stack([identity.score(embeddings) for identity in identities], axis=1).astype(np.float64)


def doubt(face: Face) -> str | None:
    """Why a face cannot be judged, None if it can."""
    if face.side < SMALLEST_SIDE:
        return f"the face is {face.side:.0f} px, too small to judge (from {SMALLEST_SIDE} px on)"
    if face.confidence < LOWEST_CONFIDENCE:
        return f"the face is hardly recognizable as one (detection {face.confidence:.2f})"
    if abs(face.yaw) > WIDEST_YAW + YAW_ERROR:
        return f"the face is turned away by about {abs(face.yaw):.0f} degrees"
    if face.sharpness < LOWEST_SHARPNESS:
        return "the face is too blurred to judge"
    return None


def judge(
    measured: Sequence[Measured],
    identities: Sequence[Identity],
    rules: Rules,
    captions: Sequence[str] | None = None,
    pins: Sequence[str | None] | None = None,
) -> list[Judgement]:
    """A judgement per picture, in order. captions: one per picture; they tell which shots need no face.

    One identity is judged by `rules.face`, several as a cast: all must be there, each by its own face. pins: per picture pass, reject or None; a
    pin overrules everything said of that picture, and `keep_best` does not count it. Raises NoFaceError for a picture without a face, and without
    a pin, when `rules.no_face` is error.
    """
    judgements = []
    for index, one in enumerate(measured):
        pin = pins[index] if pins is not None else None
        if one.faces:
            judgement = _judge_cast(one, identities, rules) if len(identities) > 1 or rules.strangers == "reject" else _judge_one(one, rules)
        elif captions is not None and needs_no_face(captions[index]):
            judgement = Judgement(NOT_JUDGED, PASSED, None, "no face, and by its caption the shot needs none", one)
        elif rules.no_face == "error" and pin is None:
            raise NoFaceError(f"Picture {index + 1} shows no face; set no_face to reject or pass to go on without an error.")
        else:
            judgement = Judgement(NO_FACE_VERDICT, PASSED if rules.no_face == "pass" else REJECTED, None, "no face found at any size", one)
        judgement = replace(judgement, about=_about(judgement, len(identities), rules))
        judgements.append(judgement if pin is None else _pinned(judgement, pin, len(identities), rules))
    return _keep_best(judgements, rules.keep_best)


def _pinned(judgement: Judgement, pin: str, people: int, rules: Rules) -> Judgement:
    if judgement.score is None:
        said = "finds no face"
    elif people == 1 and judgement.verdict == PASS:
        said = f"says {judgement.score:.2f}, which reaches {rules.threshold:.2f}"
    elif people == 1 and judgement.verdict == REJECT and judgement.score < rules.threshold:
        said = f"says {told_apart(judgement.score, rules.threshold, 'is below').replace(' is below', ', below')}"
    else:
        said = f"says {judgement.verdict}: {judgement.reason}"
    goes = PASSED if pin == PASS else REJECTED
    return replace(judgement, verdict=pin, goes=goes, reason=f"pinned by hand as {pin}; the recognizer {said}", pinned=pin)


@dataclass(frozen=True)
class Step:
    """What is said of a picture at thresholds up to and with `upto`, from the step before on; upto None: at any higher."""

    upto: float | None
    verdict: str
    goes: str
    score: float | None


def steps(one: Measured, identities: Sequence[Identity], rules: Rules, caption: str | None = None) -> list[Step]:
    """What is said of a picture at every threshold, lowest first, without `keep_best`, which looks at the other pictures, and without pins.

    A judgement can change only where the threshold goes past a score, so it is asked for once between any two.
    """
    alone = replace(rules, keep_best=0, no_face="reject" if rules.no_face == "error" else rules.no_face)
    limits: list[float | None] = [*sorted({float(score) for score in one.scores.flat}), None]
    out: list[Step] = []
    for limit in limits:
        (judgement,) = judge([one], identities, replace(alone, threshold=np.inf if limit is None else limit), [caption] if caption else None)
        step = Step(limit, judgement.verdict, judgement.goes, judgement.score)
        if out and out[-1] == replace(step, upto=out[-1].upto):
            out.pop()
        out.append(step)
    return out


def _about(judgement: Judgement, people: int, rules: Rules) -> tuple[str | None, ...]:
    out = []
    for i, face in enumerate(judgement.measured.faces):
        person = judgement.person_of(i, people)
        if person is None:
            out.append(REJECT if rules.strangers == "reject" and _counts_as_stranger(face) else None)
        elif doubt(face):
            out.append(UNCERTAIN_VERDICT)
        else:
            out.append(PASS if judgement.measured.scores[i, person] >= rules.threshold else REJECT)
    return tuple(out)


def _counts_as_stranger(face: Face) -> bool:
    return doubt(face) is None and face.confidence >= SURE_CONFIDENCE


def needs_no_face(caption: str | None) -> bool:
    """Whether a caption asks for a picture in which no face is to be expected: one of its parts, between commas, names such a shot."""
    return any(re.fullmatch(FACELESS_SHOT, part.strip()) for part in re.split(r"[,.;\n]", caption or ""))


def _judge_one(one: Measured, rules: Rules) -> Judgement:
    scores = one.scores[:, 0]
    doubts = [doubt(face) for face in one.faces]
    if rules.face == "every face":
        # A doubtful find that is like nobody may be no face at all, such as a fold in a curtain.
        chosen = tuple(i for i in range(len(scores)) if one.faces[i].confidence >= SURE_CONFIDENCE or scores[i] >= rules.threshold) or tuple(range(len(scores)))
        decisive = min(chosen, key=lambda i: scores[i])
        sure = [i for i in chosen if doubts[i] is None]
        failing = min(sure, key=lambda i: scores[i], default=None)
        if failing is not None and scores[failing] < rules.threshold:
            decisive = failing
        elif any(doubts):
            decisive = next(i for i in chosen if doubts[i])
        judgement = _verdict(one, rules, float(scores[decisive]), doubts[decisive], chosen)
        highest = float(scores[list(chosen)].max())
        return _verdict(one, rules, highest, None, chosen) if judgement.verdict == PASS and highest > rules.max_score else judgement
    if rules.face == "largest":
        decisive = max(range(len(scores)), key=lambda i: one.faces[i].area)
    else:
        # A clear face that passes stands before a doubtful one that scores higher.
        decisive = max(range(len(scores)), key=lambda i: (doubts[i] is None and scores[i] >= rules.threshold, scores[i]))
    return _verdict(one, rules, float(scores[decisive]), doubts[decisive], (decisive,))


def _verdict(one: Measured, rules: Rules, score: float, reason_to_doubt: str | None, chosen: tuple[int | None, ...], who: str = "") -> Judgement:
    if reason_to_doubt:
        goes = {"own output": ASIDE, "pass": PASSED, "reject": REJECTED}[rules.uncertain]
        return Judgement(UNCERTAIN_VERDICT, goes, score, f"{who}{reason_to_doubt}; its score {score:.2f} is not relied on", one, chosen)
    if score < rules.threshold:
        return Judgement(REJECT, REJECTED, score, f"{who}score {told_apart(score, rules.threshold, 'is below')} ({rules.label})", one, chosen)
    if NO_LIMIT > rules.max_score < score:
        return Judgement(
            REJECT, REJECTED, score, f"{who}score {told_apart(score, rules.max_score, 'is above max_score')}: too close a copy of the reference", one, chosen
        )
    return Judgement(PASS, PASSED, score, f"{who}score {score:.2f} reaches {rules.threshold:.2f} ({rules.label})", one, chosen)


def told_apart(score: float, limit: float, relation: str) -> str:
    """`0.31 is below 0.50`, with as many digits as it takes to see it."""
    digits = next((digits for digits in (2, 3, 4) if f"{score:.{digits}f}" != f"{limit:.{digits}f}"), 6)
    return f"{score:.{digits}f} {relation} {limit:.{digits}f}"


def _judge_cast(one: Measured, identities: Sequence[Identity], rules: Rules) -> Judgement:
    doubts = [doubt(face) for face in one.faces]
    chosen = assign(one.scores, rules.threshold, np.array([reason is None for reason in doubts]))
    missing = [identity.name for identity, face in zip(identities, chosen) if face is None]
    scores = [float(one.scores[face, person]) for person, face in enumerate(chosen) if face is not None]
    lowest = min(scores) if scores else None
    if missing:
        faces = "1 face" if len(one.faces) == 1 else f"{len(one.faces)} faces"
        return Judgement(REJECT, REJECTED, lowest, f"{' and '.join(missing)} missing: {faces} for {len(identities)} people", one, chosen)
    # The person who decides: one who is clearly not there, then one who cannot be judged, then the one who scores lowest.
    order = sorted(
        range(len(identities)), key=lambda p: (not (scores[p] < rules.threshold and doubts[chosen[p]] is None), doubts[chosen[p]] is None, scores[p])
    )
    person = order[0]
    judgement = _verdict(one, rules, scores[person], doubts[chosen[person]], chosen, f"{identities[person].name}: ")
    if judgement.verdict == PASS and NO_LIMIT > rules.max_score < max(scores):
        person = scores.index(max(scores))
        judgement = _verdict(one, rules, scores[person], None, chosen, f"{identities[person].name}: ")
    strangers = [i for i, face in enumerate(one.faces) if i not in chosen and _counts_as_stranger(face)]
    if judgement.verdict == PASS and rules.strangers == "reject" and strangers:
        count = "a stranger is" if len(strangers) == 1 else f"{len(strangers)} strangers are"
        return replace(judgement, verdict=REJECT, goes=REJECTED, reason=f"{count} in the picture")
    return judgement


def assign(scores: np.ndarray, threshold: float, clear: np.ndarray | bool = True) -> tuple[int | None, ...]:
    """For each identity the face that is taken for it, one to one; None where there are fewer faces than identities.

    scores [faces, identities]; clear: bool [faces], which faces can be judged. Of all assignments the one in which the most people reach the
    threshold by a clear face, and among those the one with the highest sum of scores (Hungarian method, scipy.optimize.linear_sum_assignment).
    """
    if not len(scores):
        return (None,) * scores.shape[1]
    with needed("scipy"):
        from scipy.optimize import linear_sum_assignment

    # Scores span less than `bonus` over all pairs together, so one more person above the threshold outweighs any sum.
    bonus = 2 * (np.abs(scores).max(initial=0.0) + 1) * max(scores.shape)
    faces, people = linear_sum_assignment(scores + bonus * ((scores >= threshold) & np.reshape(clear, (-1, 1))), maximize=True)
    by_person = dict(zip(people.tolist(), faces.tolist()))
    return tuple(by_person.get(person) for person in range(scores.shape[1]))


def _keep_best(judgements: list[Judgement], count: int) -> list[Judgement]:
    passed = [i for i, judgement in enumerate(judgements) if judgement.verdict == PASS and judgement.pinned is None]
    if count <= 0 or len(passed) <= count:
        return judgements
    ranked = sorted(passed, key=lambda i: -judgements[i].score)
    last = judgements[ranked[count - 1]].score
    out = list(judgements)
    for i in ranked[count:]:
        out[i] = replace(
            out[i],
            verdict=REJECT,
            goes=REJECTED,
            reason=f"passes with {out[i].score:.2f}, but is not among the best {count} of {len(passed)} (from {last:.2f} on)",
        )
    return out


@dataclass(frozen=True)
class MatchRate:
    """Pictures that pass at standard / pictures made, with its 95% interval. Without a face or too doubtful to judge counts as failing;
    shots that need no face are left out."""

    passed: int
    n: int

    def __add__(self, other: "MatchRate") -> "MatchRate":
        return MatchRate(self.passed + other.passed, self.n + other.n)

    @property
    def rate(self) -> float | None:
        return self.passed / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's score interval (Wilson 1927) at 95%."""
        if not self.n:
            return None
        z = 1.959964
        centre = (self.passed + z * z / 2) / (self.n + z * z)
        half = z / (self.n + z * z) * (self.passed * (self.n - self.passed) / self.n + z * z / 4) ** 0.5
        return max(0.0, centre - half), min(1.0, centre + half)


def match_rate(measured: Sequence[Measured], identities: Sequence[Identity], face: str = "best match", captions: Sequence[str] | None = None) -> MatchRate:
    """The match rate of pictures, whatever strictness they were gated with."""
    rules = Rules(threshold_of(identities[0], "standard", 0.0), "standard", face)
    verdicts = [judgement.verdict for judgement in judge(measured, identities, rules, captions)]
    return MatchRate(verdicts.count(PASS), len(verdicts) - verdicts.count(NOT_JUDGED))


def report(pictures: Sequence[dict], identities: Sequence[Identity], rules: Rules, rate: MatchRate, notes: Sequence[str] = ()) -> dict:
    """The report that the nodes and the terminal give; report.schema.json beside this file documents it.

    pictures: per picture `{"index": i}` or `{"path": ...}` together with its `picture_report`.
    """
    recognizer = identities[0].recognizer
    thresholds = recognizer.info.thresholds
    return {
        "pictures": list(pictures),
        "match_rate": rate_report(rate),
        "identities": [identity.name for identity in identities],
        "recognizer": recognizer_report(recognizer),
        "thresholds": {
            "loose": thresholds.loose,
            "standard": thresholds.standard,
            "strict": thresholds.strict,
            "source": thresholds.source,
            "strictness": rules.label,
            "applied": round(rules.threshold, 4),
        },
        "notes": list(notes),
    }


def picture_report(judgement: Judgement, identities: Sequence[Identity]) -> dict:
    faces, scores = judgement.measured.faces, judgement.measured.scores
    euclidean = identities[0].recognizer.info.metric == "euclidean"
    score = None if judgement.score is None else round(judgement.score, 4)
    return {
        "verdict": judgement.verdict,
        "goes_to": judgement.goes,
        "score": score,
        # What the recognizer itself measures: a Euclidean distance with dlib, a cosine with ArcFace.
        "raw": None if score is None else round(1 - judgement.score, 4) if euclidean else score,
        "reason": judgement.reason,
        "pinned": judgement.pinned,
        "faces": [
            {
                "box": [round(v, 1) for v in face.box],
                "score": round(float(scores[i].max()), 4),
                "scores": {identity.name: round(float(value), 4) for identity, value in zip(identities, scores[i])},
                "taken_for": judgement.name_of(i, identities),
                "detection": round(face.confidence, 3),
                "yaw": round(face.yaw, 1),
                "sharpness": round(face.sharpness, 4),
                "doubt": doubt(face),
            }
            for i, face in enumerate(faces)
        ],
    }


def rate_report(rate: MatchRate) -> dict:
    interval = rate.interval
    return {
        "rate": None if rate.rate is None else round(rate.rate, 4),
        "passed": rate.passed,
        "n": rate.n,
        "interval_95": None if interval is None else [round(v, 4) for v in interval],
        "strictness": "standard",
    }
