"""Export: what a dataset becomes on disk for a trainer, how that differs from what lies there, and the carrying out. How files are written safely is in writing.py.

    plan = plan_export(dataset, ExportOptions(out, "alina"))      # looks only
    result = carry_out(plan)

Layout of `out/name`: a folder of pictures and captions for each bucket, folders of control pictures beside them, the trainer's configuration,
manifest.json, report.md and what else is given, and the hidden folder `.likeness` with the journal. `out/name.zip` holds all of it but the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InputError, PictureError
from ..files import checked_name
from ..pictures import PICTURE_SUFFIXES
from ..texts import one_line
from . import choices, recipes
from .audit import EVERY_PICTURE, waived_items, waivers_of
from .contents import SUFFIXES, archive_file, keys_of, manifest_file, picture_file, pictures_of, placed_items, report_text, sizes_of
from .dataset import BLOCKED, Dataset, Finding, counted
from .manifest import Provenance
from .sources import safe_stem
from .targets import OURS, Difference, Wanted, checked_target, compare, place_of, read_journal, shown
from .trainers import Job, Trainer, job_for, supported
from .writing import bring_about

REPORT = "report.md"
MOST_REASONS = 8
MOST_NAMED = 10


@dataclass(frozen=True)
class ExportOptions:
    """What to export to.

    out: the folder that gets the folder `name`. trainer, base_model, mode, recipe, vram, learning_rate, ema_decay, repeats, target_steps and samples
    (prompts): see trainers and recipes. root: the dataset folder as the training machine knows it, with `/`; empty: commands are given in it.
    archive, picture_format: one of ARCHIVES, PICTURE_FORMATS. allowed: below which folders may be written, None for any. waive: what is let
    pass beside what the audit was told to, lines of rules, or `mira_03: too small` for one picture. provenance: see manifest. dry_run: nothing is written.
    """

    out: Path
    name: str
    trainer: str = choices.TRAINERS[0]
    base_model: str = choices.BASE_MODELS[0]
    mode: str = choices.TEXT_TO_IMAGE
    recipe: str = choices.RECIPES[0]
    vram: int = choices.VRAM[0]
    learning_rate: str = choices.NORMAL_RATE
    ema_decay: float | None = None
    repeats: str = choices.GUIDE
    target_steps: int = choices.TARGET_STEPS
    samples: tuple[str, ...] = ()
    root: str = ""
    archive: str = choices.NO_ARCHIVE
    picture_format: str = choices.PNG
    allowed: tuple[Path, ...] | None = None
    waive: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    dry_run: bool = False


@dataclass(frozen=True, eq=False)
class ExportPlan:
    """folder: that will hold the dataset; wanted: every file of it; difference: to what lies there; blocked: reasons why it may not be carried out;
    findings: of the trainer's rules; notes: sentences about all this; stale: caches that a trainer must not use again."""

    folder: Path
    options: ExportOptions
    trainer: Trainer
    job: Job
    wanted: tuple[Wanted, ...]
    difference: Difference
    blocked: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    stale: tuple[str, ...]

    @property
    def config(self) -> Path:
        return self.folder / self.trainer.config()

    @property
    def command(self) -> str:
        """What to type on the training machine."""
        return self.trainer.command(self.job)


@dataclass(frozen=True, eq=False)
class ExportResult:
    """What was done: `written` is False after a dry run, and `difference` then what would be done. archive: None where none was asked for."""

    folder: Path
    config: Path
    archive: Path | None
    command: str
    difference: Difference
    written: bool
    notes: tuple[str, ...]
    stale: tuple[str, ...]

    def lines(self) -> list[str]:
        """Sentences for a report."""
        return [*difference_lines(self.difference, self.written), *self.notes, *_stale_lines(self.stale)]


def plan_export(dataset: Dataset, options: ExportOptions, report: str = "", beside: Sequence[Wanted] = ()) -> ExportPlan:
    """What an export would write, and how that differs from what is there. Pictures are not decoded, but for the size of one that has no file.

    report: Markdown of the audit; what the run amounts to is added to it. beside: further files, such as contact sheets. What the
    dataset, its audit or the trainer's rules hold against it is in `blocked`, what lies in the way in `difference.refused`. Raises InputError for
    options that cannot be used and a dataset without pictures, PictureError for one that cannot be read, ExportError for a folder that cannot.
    """
    folder = _checked(options)
    _check_items(dataset, folder)
    dataset, passed = _let_pass(dataset, options.waive)
    dataset, unused = _without_unused_controls(dataset, options.mode)
    trainer, base_model = supported(options.trainer, options.base_model, options.mode)
    recipe = recipes.resolve(options.recipe, trainer, base_model, options.mode, options.vram, options.learning_rate, options.ema_decay)
    journal = read_journal(folder)
    keys = keys_of(dataset)
    for item in dataset.items:
        if item.seen and item.seen != keys[item.source]:
            raise PictureError(f"{item.stem} is another picture than the one that was judged; run it again from the start.")
    job = job_for(
        dataset,
        trainer,
        base_model,
        options.mode,
        recipe,
        vram=options.vram,
        name=folder.name,
        size_of=sizes_of(dataset, keys, options.picture_format, journal),
        root=options.root,
        repeats=options.repeats,
        target_steps=options.target_steps,
        prompts=options.samples,
        suffix=SUFFIXES[options.picture_format],
    )
    findings = tuple(trainer.check(job))
    placed = placed_items(dataset, job)
    pictures = [picture_file(path, source, keys[source], options.picture_format) for path, source in pictures_of(placed)]
    texts = {**trainer.sidecars(job), REPORT: report_text(report, job, trainer, findings).encode("utf-8", "backslashreplace")}
    wanted = [*pictures, *sorted((*(Wanted.of(str(path), content) for path, content in texts.items()), *beside), key=lambda file: file.path)]
    wanted.append(manifest_file(dataset, job, trainer, placed, options.provenance, pictures))
    if options.archive == choices.ZIP:
        wanted.append(archive_file(folder.name, wanted))
    _check_paths(folder, wanted)

    difference = compare(folder, wanted, journal)
    notes = [*passed, unused, _strangers(folder, job, wanted, difference), _old_archive(folder, options, difference)]
    notes += [finding.text for finding in findings if finding.level != BLOCKED and finding.rule not in dataset.waived]
    return ExportPlan(
        folder,
        options,
        trainer,
        job,
        tuple(wanted),
        difference,
        _blocked(dataset, findings),
        findings,
        tuple(note for note in notes if note),
        _stale(folder, trainer, difference),
    )


def carry_out(plan: ExportPlan, progress: Callable[[int, int, str], None] = lambda done, total, path: None) -> ExportResult:
    """Write what was planned, unless it is a dry run. progress(done, total, path): after each file made; what it raises stops the export.

    Raises InputError with the reasons where the plan is blocked, and as writing.bring_about does.
    """
    difference, written = plan.difference, False
    if not plan.options.dry_run:
        if plan.blocked:
            reasons = [reason.rstrip(".") for reason in plan.blocked[:MOST_REASONS]]
            more = len(plan.blocked) - len(reasons)
            raise InputError(f"The export is blocked: {'; '.join(reasons)}{f'; and {more} more' if more else ''}.")
        difference, written = bring_about(plan.folder, plan.wanted, progress), True
    archive = plan.folder.with_name(f"{plan.folder.name}.zip") if plan.options.archive == choices.ZIP else None
    notes = (*(f"Blocked: {reason}" for reason in plan.blocked), *plan.notes)
    return ExportResult(plan.folder, plan.config, archive, plan.command, difference, written, notes, plan.stale)


def difference_lines(difference: Difference, written: bool) -> list[str]:
    """What was done, or would be, in sentences."""
    done, to_do = ("written", "replaced", "removed"), ("to write", "to replace", "to remove")
    counts = zip((difference.new, difference.changed, difference.removed), done if written else to_do)
    lines = [f"{_files(paths)} {what}: {_some(map(shown, paths))}." for paths, what in counts if paths]
    if difference.unchanged:
        lines.append(f"{_files(difference.unchanged)} unchanged.")
    if difference.kept:
        one = len(difference.kept) == 1
        why = "no longer belongs to the dataset, but was" if one else "no longer belong to the dataset, but were"
        written, it = ("it was written, so it stays", "it") if one else ("they were written, so they stay", "them")
        lines.append(
            f"{_files(difference.kept)} {why} changed since {written}: {_some(difference.kept)}; "
            f"a trainer reads what lies in a folder of pictures, so move {it} away."
        )
    return lines + [f"In the way: {sentence}" for sentence in difference.refused]


def _files(paths: Sequence[str]) -> str:
    return counted(len(paths), "file")


def _stale_lines(stale: Sequence[str]) -> list[str]:
    return [f"Pictures or captions have changed, and the trainer has kept what it read of the old ones: delete {_some(stale)}."] if stale else []


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


# --- what may be exported ---


def _checked(options: ExportOptions) -> Path:
    """The dataset folder. Raises InputError."""
    for what, value, known in (("archive", options.archive, choices.ARCHIVES), ("picture_format", options.picture_format, choices.PICTURE_FORMATS)):
        if value not in known:
            raise InputError(f"'{value}' is no {what}; choose {' or '.join(known)}.")
    name = checked_name(one_line(options.name))
    if len(name.parts) != 1 or name.name.startswith("."):
        raise InputError(f"'{options.name}' cannot be the name of a dataset; give one name without / that begins with a letter or digit.")
    return checked_target(Path(options.out).expanduser() / name, options.allowed)


def _check_items(dataset: Dataset, folder: Path) -> None:
    if not dataset.items:
        left = (
            f" ({len(dataset.left_out)} {'was' if len(dataset.left_out) == 1 else 'were'} left out; the first, {dataset.left_out[0][0]}: {dataset.left_out[0][1].rstrip('.')})"
            if dataset.left_out
            else ""
        )
        raise InputError(f"The dataset has no picture left to export{left}; add pictures, or let more of them pass.")
    names: dict[str, str] = {}
    for item in dataset.items:
        if safe_stem(item.stem) != item.stem:
            raise InputError(f"'{item.stem}' cannot be the name of a picture here; rename it, for example to {safe_stem(item.stem)}.")
        if item.stem.casefold() in names:
            raise InputError(f"{names[item.stem.casefold()]} and {item.source.name} would both be called {item.stem}; rename one of them.")
        names[item.stem.casefold()] = item.source.name
        for source in filter(None, (item.source, item.control)):
            path = getattr(source, "path", None)
            if path is not None and folder in Path(path).resolve().parents:
                raise InputError(f"{path} lies in the folder that is to be written; export under another name, so that no picture replaces its own source.")


def _without_unused_controls(dataset: Dataset, mode: str) -> tuple[Dataset, str]:
    count = sum(item.control is not None for item in dataset.items)
    if mode == choices.PAIRED_EDIT or not count:
        return dataset, ""
    note = f"Control pictures stay out, since the mode '{mode}' has no use for them ({count} of {counted(len(dataset))} {'has' if count == 1 else 'have'} one)."
    return dataset.with_items(replace(item, control=None) for item in dataset.items), note


def _check_paths(folder: Path, wanted: Sequence[Wanted]) -> None:
    seen = set()
    for file in wanted:
        try:
            place_of(folder, file.path)
        except ValueError:
            raise InputError(f"'{file.path}' cannot be a file of a dataset; rename the bucket or picture.") from None
        if file.path.casefold() in seen:
            raise InputError(f"Two files would be called {file.path}; rename a bucket or picture.")
        seen.add(file.path.casefold())


def _let_pass(dataset: Dataset, waive: str) -> tuple[Dataset, list[str]]:
    """The dataset with what the export lets pass besides, and sentences about that."""
    waivers = waivers_of(waive, bare=True)
    if not waivers:
        return dataset, []
    items, notes = waived_items(dataset.items, waivers)
    notes.insert(0, f"Let pass in this export: {', '.join(sorted(frozenset().union(*waivers.values())))}.")
    return replace(dataset, items=tuple(items), waived=dataset.waived | waivers.get(EVERY_PICTURE, frozenset())), notes


def _blocked(dataset: Dataset, findings: Sequence[Finding]) -> tuple[str, ...]:
    whole = [finding.text for finding in (*dataset.findings, *findings) if finding.level == BLOCKED and finding.rule not in dataset.waived]
    single = [
        finding.text if finding.text.startswith(f"{item.stem}:") else f"{item.stem}: {finding.text}"
        for item in dataset.items
        for finding in item.findings
        if finding.level == BLOCKED and finding.rule not in item.waived
    ]
    return (*whole, *single)


# --- what lies there beside it ---


def _picture_folders(job: Job) -> list[str]:
    folders = [folder for plan in job.buckets for folder in (plan.folder, plan.control_folder) if folder is not None]
    return [str(folder) for folder in dict.fromkeys(folders)]


def _strangers(folder: Path, job: Job, wanted: Sequence[Wanted], difference: Difference) -> str:
    """A note where pictures of somebody else lie in the picture folders: the trainer reads them."""
    ours = {file.path for file in wanted} | {*difference.removed, *difference.kept}
    found = []
    for name in _picture_folders(job):
        place = folder / name
        entries = sorted(place.iterdir()) if place.is_dir() and not place.is_symlink() else ()
        found += [path for path in (f"{name}/{entry.name}" for entry in entries) if Path(path).suffix.lower() in PICTURE_SUFFIXES and path not in ours]
    return f"Not from Likeness, but the trainer will read them too: {_some(found)}." if found else ""


def _old_archive(folder: Path, options: ExportOptions, difference: Difference) -> str:
    name = f"{folder.name}.zip"
    if options.archive == choices.ZIP or difference.nothing or f"../{name}" not in difference.known:
        return ""
    return f"{name} is that of an earlier export and does not hold these changes; export with archive zip, or delete it."


def _stale(folder: Path, trainer: Trainer, difference: Difference) -> tuple[str, ...]:
    """What a trainer has kept of pictures or captions that are changed or removed; a folder that has nothing else is named as one."""
    if not any("/" in shown(path) for path in (*difference.changed, *difference.removed)):
        return ()
    ours = {place_of(folder, path).parent for path in difference.known}
    found = (path for pattern in trainer.caches() for path in sorted(folder.glob(pattern)))
    places = (path if path.parent in ours else path.parent for path in found)
    return tuple(dict.fromkeys(place.relative_to(folder).as_posix() for place in places if OURS not in place.parts))
