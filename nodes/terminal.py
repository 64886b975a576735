"""The command `likeness`: the host-free half from a terminal, over files and folders, with the same engine and the same report as the nodes.

Exit status: 0 all passed, 1 something did not pass, 2 wrong use or unreadable input.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path

from . import model_files, terminal_curate, terminal_run
from . import terminal_who as who
from .errors import InputError, LikenessError, PictureError
from .files import write_new
from .identity import scoring
from .identity.identity import Identity, build_identity
from .installation import COMMERCIAL_VARIABLE, pip_command, switched_on
from .pictures import Picture, find_pictures, read_picture

OK, NOT_ALL_PASSED, UNUSABLE = 0, 1, 2

CHUNK_BYTES = 256 << 20
LONGEST_STEM = 200


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's) and return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        # A name that the console's encoding lacks must not end the run.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except LikenessError as error:
        print(f"likeness: {who.one_line(error)}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:
        # The reader (head, less) went away; nothing is left to say, and Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNUSABLE
    except KeyboardInterrupt:
        print("likeness: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="likeness", description="Measure pictures against one character by face recognition.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    score = commands.add_parser(
        "score",
        help="measure pictures against a character",
        description="Measure every picture against a character and say which pass and why the others do not.",
        epilog="Exit status: 0 all passed, 1 something did not pass, 2 wrong use or unreadable input.",
    )
    score.set_defaults(run=_score)
    score.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="pictures, or folders of pictures (searched with their sub-folders)")
    score.add_argument("--demo", action="store_true", help="show the idea on photographs inside the installed packages")
    score.add_argument("--face", default="best match", choices=scoring.FACE_CHOICES, help="which face counts in a picture of several (default best match)")
    score.add_argument("--json", metavar="FILE|-", help="write the report there, or to standard output; an existing file is refused")
    score.add_argument("--overlay", type=Path, metavar="DIR", help="write copies with boxes, scores and reasons there; nothing is overwritten")
    who.add_options(score)

    terminal_curate.add_command(commands)
    terminal_run.add_command(commands)

    models = commands.add_parser("models", help="list or download model files")
    actions = models.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what there is, how large, under which licence, and what is on disk")
    listing.set_defaults(run=_models_list)
    listing.add_argument("--json", action="store_true", help="as JSON")
    who.add_models_dir(listing)
    download = actions.add_parser("download", help="download one model; what is there is left alone, what was cut off goes on")
    download.set_defaults(run=_models_download)
    download.add_argument("name", metavar="NAME", help="as in `likeness models list`")
    who.add_models_dir(download)
    return parser


def _score(options) -> int:
    if options.demo:
        if options.paths or options.reference or options.identity or options.json or options.overlay:
            raise InputError("--demo brings its own pictures and prints a table; it takes no PATH, --reference, --identity, --json or --overlay.")
        return _demo(options)
    if not options.paths:
        taken = f" (all {len(options.reference)} paths after --reference were taken as references)" if len(options.reference or ()) > 1 else ""
        raise InputError(f"No picture to measure{taken}: name files or folders before the options, or try `likeness score --demo`.")
    who.check_named(options)
    if options.json not in (None, "-") and Path(options.json).exists():
        raise InputError(f"{options.json} exists already and is not overwritten; choose another name for --json.")
    identity = who.identity_of(options)
    for warning in identity.warnings:
        print(f"likeness: {warning}", file=sys.stderr)
    rules = who.rules_of(options, identity, options.face)
    # A file that is named twice is one picture.
    files = list({file.resolve(): file for file in find_pictures(options.paths) if not _is_earlier_overlay(file, options)}.values())
    if not files:
        raise InputError(f"There is no picture in {', '.join(map(str, options.paths))}.")
    # The table goes where the report does not.
    table = sys.stderr if options.json == "-" else sys.stdout
    counts, rate, entries = Counter(), scoring.MatchRate(0, 0), _entries(files, options, identity, rules)
    with _report_file(options.json) as write, _progress(len(files)) as step:
        width = max(len(scoring.UNCERTAIN_VERDICT), len("unreadable"))
        for entry, own_rate in entries:
            rate += own_rate
            counts["unreadable" if entry["verdict"] == "unreadable" else entry["goes_to"]] += 1
            write.picture(entry)
            score = "     " if entry["score"] is None else f"{entry['score']:5.2f}"
            why = "" if entry["verdict"] == scoring.PASS else f"  {entry['reason']}"
            step(who.one_line(f"{entry['verdict']:<{width}} {score}  {entry['path']}{why}"), table)
        write.end(scoring.report([], [identity], rules, rate))
    print(_summary(counts, rate, identity, rules), file=table)
    for what, where in (("Report", options.json if options.json != "-" else None), ("Overlays", options.overlay)):
        if where:
            print(f"{what}: {where}", file=table)
    if counts["unreadable"]:
        return UNUSABLE
    return OK if counts[scoring.PASSED] == len(files) else NOT_ALL_PASSED


def _is_earlier_overlay(file: Path, options) -> bool:
    """Whether a picture lies in the overlay folder, where that is a folder of its own somewhere below a named one."""
    if not options.overlay:
        return False
    folder = options.overlay.resolve()
    below = any(folder != path.resolve() and folder.is_relative_to(path.resolve()) for path in options.paths)
    return below and file.resolve().is_relative_to(folder)


def _entries(files: list[Path], options, identity: Identity, rules: scoring.Rules) -> Iterator[tuple[dict, scoring.MatchRate]]:
    """The report's entry of each file in order, with what it adds to the match rate; a few pictures are in memory at a time."""
    for chunk in _chunks(files):
        pictures = [picture for _, picture in chunk if isinstance(picture, Picture)]
        measured = scoring.measure(pictures, [identity], rules.face)
        judged = iter(zip(measured, scoring.judge(measured, [identity], rules)))
        for path, picture in chunk:
            if isinstance(picture, LikenessError):
                yield _unreadable(path, picture), scoring.MatchRate(0, 0)
                continue
            one, judgement = next(judged)
            if options.overlay:
                _write_overlay(options, path, picture, judgement, identity)
            yield {"path": str(path), **scoring.picture_report(judgement, [identity])}, scoring.match_rate([one], [identity], rules.face)


def _chunks(files: Iterable[Path]) -> Iterator[list[tuple[Path, Picture | LikenessError]]]:
    chunk, size = [], 0
    for path in files:
        try:
            picture = read_picture(path)
        except PictureError as error:
            picture = error
        chunk.append((path, picture))
        size += picture.pixels.nbytes if isinstance(picture, Picture) else 0
        if len(chunk) == who.CHUNK_PICTURES or size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _unreadable(path: Path, error: LikenessError) -> dict:
    return {"path": str(path), "verdict": "unreadable", "goes_to": scoring.REJECTED, "score": None, "raw": None, "reason": str(error).rstrip("."), "faces": []}


def _write_overlay(options, path: Path, picture: Picture, judgement: scoring.Judgement, identity: Identity) -> None:
    from PIL import Image

    from .identity.drawing import overlay

    # Below the folder it was found in a picture keeps its sub-folders; one named outright goes to the top.
    roots = [root for root in options.paths if root.is_dir() and path.is_relative_to(root)]
    relative = path.relative_to(roots[0]) if roots else Path(path.name)
    # File systems take 255 bytes: a long name gives way to the verdict and the number behind it.
    stem = relative.stem.encode()[:LONGEST_STEM].decode(errors="ignore")
    target = options.overlay / relative.with_name(f"{stem}_{judgement.verdict.replace(' ', '_')}.jpg")
    encoded = BytesIO()
    Image.fromarray(overlay(picture.pixels, judgement, [identity])).save(encoded, "JPEG", quality=92)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_new(target, encoded.getvalue())
    except OSError as error:
        raise InputError(f"The overlay {target} cannot be written ({error.strerror}).") from None


class _ReportWriter:
    """Writes the report picture by picture, so that its length does not matter; without a file it writes nothing."""

    def __init__(self, stream):
        self._stream = stream
        self._first = True

    def picture(self, entry: dict) -> None:
        if self._stream is None:
            return
        self._stream.write('{"pictures": [\n' if self._first else ",\n")
        # ASCII, so that it is the same in every encoding of standard output, and file names that are no text survive.
        self._stream.write(json.dumps(entry))
        self._first = False

    def end(self, rest: dict) -> None:
        if self._stream is None:
            return
        rest = {key: value for key, value in rest.items() if key != "pictures"}
        self._stream.write("\n], " + json.dumps(rest, indent=1)[1:].lstrip() + "\n")


@contextmanager
def _report_file(name: str | None):
    """The report's writer. A named file appears when it is whole; until then, and if the process is killed, it is NAME.PID.part."""
    if name is None or name == "-":
        yield _ReportWriter(sys.stdout if name else None)
        return
    target = Path(name)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with open(part, "x", encoding="utf-8") as stream:
            yield _ReportWriter(stream)
        if target.exists():
            raise InputError(f"{target} has appeared meanwhile and is not overwritten; the report is in {part}.")
        part.rename(target)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"The report cannot be written to {target} ({error.strerror}).") from None


@contextmanager
def _progress(total: int):
    """A progress bar on a terminal's standard error; gives a function that prints a line above it and moves it on."""
    from tqdm import tqdm

    with tqdm(total=total, unit="picture", leave=False, disable=None if sys.stderr.isatty() else True) as bar:

        def step(line: str, stream) -> None:
            bar.write(line, file=stream)
            bar.update()

        yield step


def _summary(counts: Counter, rate: scoring.MatchRate, identity: Identity, rules: scoring.Rules) -> str:
    info = identity.recognizer.info
    total = sum(counts.values())
    parts = [f"{counts[scoring.PASSED]} of {total} pass at {rules.threshold:.2f} ({rules.label}, {info.name})"]
    parts += [f"{counts[key]} {key}" for key in (scoring.ASIDE, "unreadable") if counts[key]]
    if rate.interval:
        low, high = rate.interval
        parts.append(f"match rate at standard {rate.rate:.0%} (n = {rate.n}, 95% interval {low:.0%} to {high:.0%})")
    return "\n" + "; ".join(parts) + "."


def _demo(options) -> int:
    from .demo import demonstration

    recognizer = who.opener(options)(options.recognizer)
    info = recognizer.info
    reference, pictures = demonstration(recognizer)
    identity = build_identity([reference], recognizer, "she")
    rules = who.rules_of(options, identity, options.face)
    measured = scoring.measure(list(pictures.values()), [identity], rules.face)
    judgements = scoring.judge(measured, [identity], rules)
    print(f"One reference: the woman on the left of a group photograph. Recognizer: {info.name} ({info.detector.name}, {info.embedder.name}; {info.licence}).")
    print(f"A picture passes from a likeness score of {rules.threshold:.2f} on ({rules.label}).\n")
    width = max(map(len, pictures))
    print(f"{'picture':<{width}}  score  verdict    why")
    for shown, judgement in zip(pictures, judgements):
        score = "   - " if judgement.score is None else f"{judgement.score:5.2f}"
        print(f"{shown:<{width}}  {score}  {judgement.verdict:<9}  {judgement.reason}")
    thresholds = info.thresholds
    what = "1 minus the distance between two faces" if info.metric == "euclidean" else "the cosine between two faces"
    print(f"\nThe score is {what}, 1 for the same picture; it is no probability.")
    print(f"loose {thresholds.loose:.2f}, standard {thresholds.standard:.2f}, strict {thresholds.strict:.2f}: {thresholds.source}.")
    print("Yours: likeness score FOLDER --reference HER.png")
    return OK


def _models_list(options) -> int:
    models_dir = model_files.find_models_dir(options.models_dir) if options.models_dir else model_files.find_models_dir_or_none()
    rows = model_files.rows(models_dir)
    if options.json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return OK
    print(f"models folder: {models_dir or 'none found (name it with --models-dir)'}\n")
    cells = [
        (row["name"], "yes" if row["present"] else "-", model_files.human_size(row["size"]), "yes" if row["commercial"] else "no", row["licence"])
        for row in rows
    ]
    header = ("name", "here", "size", "commercial", "licence")
    widths = [max(len(line[i]) for line in (header, *cells)) for i in range(len(header))]
    for line in (header, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    print(f"\ndlib needs no file here: `{pip_command('install dlib-bin face_recognition_models')}`.")
    return OK


def _models_download(options) -> int:
    if not model_files.entry(options.name).commercial and switched_on(COMMERCIAL_VARIABLE):
        raise InputError(f"{options.name} is not cleared for commercial use and {COMMERCIAL_VARIABLE} is on; turn it off to download it all the same.")
    for path in model_files.download(options.name, model_files.find_models_dir(options.models_dir)):
        print(path)
    return OK


if __name__ == "__main__":
    sys.exit(main())
