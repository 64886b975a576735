"""The identity gate over a dataset: what is not the character stays out, with the reason. Pictures are opened one at a time; how faces score is identity's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..errors import PictureError
from ..identity.identity import Identity
from ..identity.scoring import NOT_JUDGED, PASSED, UNCERTAIN_VERDICT, MatchRate, Measured, Rules, judge, match_rate
from .dataset import Dataset, said_of
from .survey import Looker, survey


def gate(dataset: Dataset, identity: Identity, rules: Rules, progress: Callable[[int, int], None] = lambda done, of: None) -> tuple[Dataset, MatchRate]:
    """The dataset without the pictures that are not the character, and the match rate of those that were judged.

    Each kept picture gets its likeness score and verdict; each other one is in `left_out` with its score and the reason, as is one that cannot be
    read. Pictures of buckets without faces are kept and not judged, as are those whose caption asks for no face. Crops go with their parents.
    progress: called with (done, all) in this thread; an exception that it raises ends the gate. Raises NoFaceError as scoring.judge does.
    """
    looker = Looker(identity.recognizer, identity)
    judged = [item for item in dataset.items if item.bucket.faces and item.parent is None]
    seen = dict(zip((id(item) for item in judged), survey(judged, looker, progress)))
    kept, left_out, gone, rate = [], list(dataset.left_out), set(), MatchRate(0, 0)
    for item in dataset.items:
        if item.parent is not None:
            if item.parent in gone:
                left_out.append((item.stem, f"the picture {item.parent} that it is a crop of stays out"))
            else:
                kept.append(item)
            continue
        if not item.bucket.faces:
            kept.append(item.decided(f"Not judged: the bucket {item.bucket.name} needs no face.", verdict=NOT_JUDGED))
            continue
        found = seen[id(item)]
        if isinstance(found, PictureError):
            gone.add(item.stem)
            left_out.append((item.stem, said_of(item, found).rstrip(".")))
            continue
        measured = Measured(found.found.faces, found.found.scores[:, None])
        (judgement,) = judge([measured], [identity], rules, [item.caption])
        rate += match_rate([measured], [identity], rules.face, [item.caption])
        if judgement.goes == PASSED:
            kept.append(item.decided(f"{identity.name}: {judgement.reason}.", likeness=judgement.score, verdict=judgement.verdict, seen=found.key))
        else:
            gone.add(item.stem)
            # Nobody sorts the uncertain ones of a folder by hand, so they stay out unless the rules let them pass.
            why = "not sure to be the character: " if judgement.verdict == UNCERTAIN_VERDICT else ""
            left_out.append((item.stem, f"{why}{judgement.reason}"))
    return replace(dataset, items=tuple(kept), left_out=tuple(left_out)), rate
