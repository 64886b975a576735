"""Whether a dataset is fit to train on: findings added up to a verdict with reasons, what the user lets pass, what the plan still misses.

There is no single score. A picture, and the dataset, is Ready, Needs attention or Blocked; the rules are in rules.py, what a training pass makes of
the pictures is recipes.py's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import InputError
from ..identity.identity import Identity
from ..identity.recognizers import Recognizer
from ..texts import entries_of, excerpt
from . import lint as captions_lint
from . import trainers
from .dataset import ATTENTION, VERDICTS, Dataset, DatasetItem, Finding, counted
from .plan import PlanLine, dataset_plan_of, held_against, missing_plan, missing_prompts
from .rules import RULES, AuditRules, Book, counted_as, run
from .survey import FaceReader, FaceReading, Looker, survey
from .wording import traits_of

__all__ = ["AuditResult", "AuditRules", "FaceReader", "FaceReading", "audit"]

KNOWN_RULES = frozenset(RULES) | captions_lint.RULES
# Those that an audit keeps for the export, whose trainer's check finds them.
LATER_RULES = trainers.RULES
# An export cannot go on with these, whatever the user says.
NEVER_WAIVED = frozenset({"empty", "unreadable"})
EVERY_PICTURE = "*"

# Within so many degrees a face counts as frontal; an estimate from five points is good to about 10.
FRONTAL_YAW = 15.0
FRONTAL_SHARE = 0.9
FEWEST_YAWS = 10
# So many names stand in a reason before `and 12 more`.
MOST_NAMES = 5


@dataclass(frozen=True, eq=False)
class AuditResult:
    """What an audit found.

    dataset: with `measured`, `findings` and `waived` of each item, and findings about the whole. verdict: one of dataset.VERDICTS; reasons: a sentence
    each, the worst first; counts: pictures by verdict, all three. plan: with what there is; missing_plan, missing_prompts: for a Shot List's framing
    plan or, instead, its scenes. advice: what is worth knowing and changes no verdict.
    """

    dataset: Dataset
    rules: AuditRules
    verdict: str
    reasons: tuple[str, ...]
    counts: Mapping[str, int]
    plan: tuple[PlanLine, ...] = ()
    missing_plan: str = ""
    missing_prompts: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def audit(
    dataset: Dataset,
    rules: AuditRules | None = None,
    identity: Identity | None = None,
    faces: FaceReader | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
    recognizer: Recognizer | None = None,
) -> AuditResult:
    """Look at every picture and say what is to be said of it; findings of an earlier audit, and of lint, are replaced.

    identity: the character, against whom faces are held besides each other; recognizer: to hold them against each other alone, where there is no
    identity. Without either, and without `faces`, no face is looked for, and the advice says so. progress: called with (done, all) in this thread;
    an exception that it raises ends the audit. Pictures are decoded one at a time per thread, unchanged ones never again (survey.py).

    Raises InputError for a plan or waivers that cannot be read and for buckets of one name that differ, and what a missing package or model raises.
    """
    rules = rules or AuditRules()
    plan, waivers = dataset_plan_of(rules.plan), waivers_of(rules.waive)
    _ = dataset.buckets
    looker = Looker(identity.recognizer if identity else recognizer, identity, faces)
    book = Book(dataset, survey(dataset.items, looker, progress), rules, looker)
    run(book)

    # Without what was measured: the rule `framing` knows how rough that is.
    bare = [replace(item, measured={}) for item in dataset.items]
    linted = captions_lint.lint(replace(dataset, items=tuple(bare)), traits_of(rules.traits))
    items = [_with_findings(dataset.items[i], linted.items[i], book, i) for i in range(len(dataset))]
    items, unused = waived_items(items, waivers)
    passed = dataset.waived | waivers.get(EVERY_PICTURE, frozenset())
    lines = held_against(plan, [(item, counted_as(item)) for item in items if _counts(item)])
    whole = [finding for finding in linted.findings if finding.rule not in RULES]
    whole = [finding for finding in (*book.whole, *whole, *_shortfall(lines)) if finding.rule not in passed - NEVER_WAIVED]
    audited = replace(dataset, items=tuple(items), findings=tuple(whole), waived=passed)
    levels = Counter(item.level for item in items)
    return AuditResult(
        audited,
        rules,
        max((*levels, *(finding.level for finding in whole)), key=VERDICTS.index, default=VERDICTS[0]),
        _reasons(audited),
        {verdict: levels[verdict] for verdict in VERDICTS},
        lines,
        missing_plan(lines),
        missing_prompts(lines),
        (*_advice(audited, book, lines), *unused),
    )


def _with_findings(item: DatasetItem, linted: DatasetItem, book: Book, i: int) -> DatasetItem:
    others = tuple(finding for finding in linted.findings if finding.rule not in RULES)
    return replace(item, findings=(*book.findings[i], *others), measured=book.measured[i], seen=getattr(book.seen[i], "key", ""))


def _counts(item: DatasetItem) -> bool:
    """Whether a picture counts in the plan: no crop, which is beside its picture and shows nothing new, no duplicate, and one that can be read."""
    rules = {finding.rule for finding in item.findings} - item.waived
    return item.parent is None and not rules & {"duplicate", "unreadable"}


def _shortfall(lines: Sequence[PlanLine]) -> list[Finding]:
    missing = [f"{line.missing} of {line.planned} {line.framing}{f' in {line.bucket}' if line.bucket else ''}" for line in lines if line.missing]
    return [Finding(ATTENTION, "plan", f"Of the plan are missing: {', '.join(missing)}.")] if missing else []


# --- what the user lets pass ---


def waivers_of(text: str, bare: bool = False) -> Mapping[str, frozenset[str]]:
    """Rules of the audit and of trainers' checks by stem in small letters, `*` for all pictures and the dataset. bare: a line of rules alone is for all.

    Raises InputError for a line that is none, for a name that is no rule, and for a rule that cannot be waived, or not for a picture.
    """
    waivers: dict[str, frozenset[str]] = {}
    for line in entries_of(text):
        # The last colon: a stem may have one, a rule has none.
        stem, colon, names = line.rpartition(":") if ":" in line or not bare else (EVERY_PICTURE, ":", line)
        rules = frozenset(name.strip().lower() for name in names.split(",") if name.strip())
        if not colon or not stem.strip() or not rules:
            raise InputError(f"'{excerpt(line)}' waives nothing; write a picture's name or *, a colon and rules, such as: mira_03: blur, resolution.")
        if unknown := sorted(rules - KNOWN_RULES - LATER_RULES):
            raise InputError(
                f"'{excerpt(unknown[0])}' is no rule of the audit or of a trainer's check; the rules are {', '.join(sorted(KNOWN_RULES - NEVER_WAIVED))}; "
                f"and of the trainers {', '.join(sorted(LATER_RULES))}."
            )
        if fixed := sorted(rules & NEVER_WAIVED):
            raise InputError(f"The rule {fixed[0]} cannot be waived: no export can go on with it; take such pictures out.")
        stem = stem.strip().casefold()
        if stem != EVERY_PICTURE and (whole := sorted(rules & LATER_RULES - trainers.ITEM_RULES)):
            raise InputError(f"The rule {whole[0]} is about the whole, not about one picture; write *: {whole[0]}.")
        waivers[stem] = waivers.get(stem, frozenset()) | rules
    return waivers


def waived_items(items: Sequence[DatasetItem], waivers: Mapping[str, frozenset[str]]) -> tuple[list[DatasetItem], list[str]]:
    """The items with their waivers, said once among their decisions, and a sentence about names that no picture has."""
    out = []
    for item in items:
        waived = (item.waived | waivers.get(item.stem.casefold(), frozenset()) | waivers.get(EVERY_PICTURE, frozenset())) - NEVER_WAIVED
        item = replace(item, waived=waived)
        passed = sorted({finding.rule for finding in item.findings} & waived)
        sentence = f"The user lets pass: {', '.join(passed)}."
        out.append(item.decided(sentence) if passed and sentence not in item.decisions else item)
    stems = {item.stem.casefold() for item in items}
    unknown = [stem for stem in waivers if stem != EVERY_PICTURE and stem not in stems]
    if not unknown:
        return out, []
    waiver = "The waiver of {} was" if len(unknown) == 1 else "The waivers of {} were"
    return out, [f"{waiver.format(_names(unknown))} not used: no picture has {'that name' if len(unknown) == 1 else 'such a name'}."]


# --- sentences ---


def _names(names: Collection[str]) -> str:
    first = list(names)[:MOST_NAMES]
    more = len(names) - len(first)
    return f"{', '.join(map(excerpt, first))}{f' and {more} more' if more else ''}"


def _reasons(dataset: Dataset) -> tuple[str, ...]:
    """A sentence for each level and rule, with the pictures that it is about."""
    about: dict[tuple[str, str], dict[str, None]] = {}
    for item in dataset.items:
        for finding in item.findings:
            if finding.rule not in item.waived:
                about.setdefault((finding.level, finding.rule), {})[item.stem] = None
    reasons = [(finding.level, f"{finding.level}: {finding.text}") for finding in dataset.findings]
    for (level, rule), stems in about.items():
        what = f"{rule} ({RULES[rule]})" if rule in RULES else rule
        reasons.append((level, f"{level}: {what}: {counted(len(stems))}, {_names(stems)}."))
    return tuple(text for _, text in sorted(reasons, key=lambda reason: -VERDICTS.index(reason[0])))


def _advice(dataset: Dataset, book: Book, lines: Sequence[PlanLine]) -> list[str]:
    advice = []
    if dataset.items and not book.looker.sees_faces:
        advice.append("No face was looked for: give an identity, or a recognizer, to have likeness, framing and pictures without a face checked.")
    elif dataset.items and book.looker.recognizer is None:
        advice.append("Likeness was not measured: give an identity, or a recognizer.")
    unsaid = [item.stem for item in dataset.items if _counts(item) and not counted_as(item)]
    if lines and unsaid:
        advice.append(
            f"The framing of {counted(len(unsaid))} is not known, which {'counts' if len(unsaid) == 1 else 'count'} as variety only: {_names(unsaid)}."
        )
    yaws = [abs(item.measured["face"]["yaw"]) for item in dataset.items if item.parent is None and "yaw" in item.measured.get("face", {})]
    frontal = sum(yaw <= FRONTAL_YAW for yaw in yaws)
    if len(yaws) >= FEWEST_YAWS and frontal >= FRONTAL_SHARE * len(yaws):
        advice.append(f"{frontal} of {len(yaws)} faces look straight ahead: add three-quarter views and profiles, or the LoRA will know one side only.")
    doubtful = [item.stem for item in dataset.items if item.bucket.faces and "doubt" in item.measured.get("face", {})]
    if doubtful:
        faces = "its face" if len(doubtful) == 1 else "their faces"
        advice.append(f"The likeness of {counted(len(doubtful))} was not judged, {faces} being small, turned away or blurred: {_names(doubtful)}.")
    uncounted = sum(not _counts(item) for item in dataset.items)
    if lines and uncounted:
        kinds = "does not count in the plan, being a crop, a duplicate" if uncounted == 1 else "do not count in the plan, being crops, duplicates"
        advice.append(f"{counted(uncounted)} {kinds} or unreadable.")
    missing, written = sum(line.missing for line in lines), len(missing_prompts(lines))
    if written < missing:
        advice.append(f"Of {missing} missing shots {written} {'is written as a prompt' if written == 1 else 'are written as prompts'}; more would repeat them.")
    return advice
