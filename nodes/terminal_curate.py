"""The command `likeness curate`: a folder of pictures made into a dataset for a trainer, without ComfyUI. The steps are lora_dataset/curation.py's."""

import argparse
import json
import sys
from contextlib import contextmanager
from pathlib import Path

from . import terminal_who as who
from .errors import InputError, MissingModelError, MissingPackageError
from .identity.recognizers import REMEMBERED_PICTURES

OK, NOT_ALL_PASSED, UNUSABLE = 0, 1, 2
# Packages that find and read faces.
SEEING = ("dlib", "dlib-bin", "insightface", "onnxruntime", "onnxruntime-gpu", "mediapipe", "scipy")


def add_command(commands) -> None:
    from .lora_dataset import choices

    parser: argparse.ArgumentParser = commands.add_parser(
        "curate",
        help="make a training dataset of a folder of pictures",
        description="Gate, crop, caption, audit and export a folder of pictures for a LoRA trainer, with a configuration that the trainer really reads.",
        epilog="Exit status: 0 everything came in and is Ready, 1 something was left out or needs attention, 2 wrong use, unreadable input or a blocked export.",
    )
    parser.set_defaults(run=_curate)
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="folders of pictures of the character, with .txt captions beside them where there are any"
    )
    parser.add_argument(
        "--body", nargs="+", action="extend", type=Path, default=[], metavar="PATH", help="folders of pictures in which no face is expected (bucket body)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the dataset's folder; its name is that of the LoRA. Running again writes only what changed"
    )
    parser.add_argument(
        "--controls",
        type=Path,
        metavar="DIR",
        help="for --mode 'paired edit': a folder with the picture that each one was edited from, under the same file name",
    )
    who.add_options(parser)
    parser.add_argument("--no-gate", action="store_true", help="take every picture, whoever it shows; then no character need be named")

    captions = parser.add_argument_group("captions")
    captions.add_argument("--trigger", required=True, metavar="TOKEN", help="the word that calls the character, such as m1ra")
    captions.add_argument(
        "--captions", default="keep", choices=("keep", "template"), help="keep those that the pictures have, or write all by the template (default keep)"
    )
    captions.add_argument("--template", metavar="TEXT", help="how a caption is put together")
    captions.add_argument("--traits", default="", metavar="WORDS", help="what is always true of the character, between commas, such as 'green eyes, freckles'")
    captions.add_argument("--describe-traits", action="store_true", help="name the traits in every caption instead of leaving them to the trigger")
    captions.add_argument(
        "--edit",
        action="append",
        default=[],
        metavar="RULE",
        help="a change to every caption: 'add last: ...', 'remove: ...', 'replace: old -> new'; may be given again",
    )

    audit = parser.add_argument_group("crops and audit")
    audit.add_argument("--no-crops", action="store_true", help="put no face crops beside the pictures")
    audit.add_argument(
        "--margin", type=float, default=choices.MARGIN, metavar="SHARE", help="around the face in a crop, in shares of the face (default %(default)s)"
    )
    audit.add_argument(
        "--minimum-size", type=int, default=choices.MINIMUM, metavar="PIXELS", help="crops of fewer pixels a side are not made (default %(default)s)"
    )
    audit.add_argument(
        "--plan", type=Path, metavar="FILE", help="a text of how many pictures of each framing there are to be, such as: 20 closeup, 30 full body"
    )
    audit.add_argument("--waive", type=Path, metavar="FILE", help="a text of what you let pass, one a line, such as: mira_03: blur")

    training = parser.add_argument_group("training")
    training.add_argument("--trainer", default=choices.TRAINERS[0], choices=choices.TRAINERS, help="(default %(default)s)")
    training.add_argument("--base-model", default=choices.BASE_MODELS[0], choices=choices.BASE_MODELS, help="(default %(default)s)")
    training.add_argument("--mode", default=choices.TEXT_TO_IMAGE, choices=choices.MODES, help="(default %(default)s)")
    training.add_argument("--recipe", default=choices.RECIPES[0], choices=choices.RECIPES, help="(default %(default)s)")
    training.add_argument("--learning-rate", default=choices.NORMAL_RATE, choices=list(choices.LEARNING_RATES), help="(default %(default)s)")
    training.add_argument("--ema-decay", type=float, metavar="N", help="ai-toolkit: checkpoints hold an average of the weights, such as 0.99 (default none)")
    training.add_argument("--vram", type=int, default=choices.VRAM[0], choices=choices.VRAM, help="GB of the card that trains (default %(default)s)")
    training.add_argument("--repeats", default=choices.GUIDE, choices=choices.REPEATS, help="(default %(default)s)")
    training.add_argument("--target-steps", type=int, default=choices.TARGET_STEPS, metavar="N", help="for --repeats auto (default %(default)s)")
    training.add_argument(
        "--root", default="", metavar="DIR", help="the dataset's folder as the training machine knows it; without it the training is started inside the folder"
    )
    training.add_argument(
        "--sample", action="append", default=[], metavar="PROMPT", help="a prompt that the trainer paints at each checkpoint; may be given again"
    )
    training.add_argument(
        "--archive", default=choices.NO_ARCHIVE, choices=choices.ARCHIVES, help="zip: one file beside the folder that holds all of it (default %(default)s)"
    )
    training.add_argument("--picture-format", default=choices.PNG, choices=choices.PICTURE_FORMATS, help="(default %(default)s)")
    training.add_argument("--statement", default="", metavar="TEXT", help="for the manifest: who agreed to the use of the face, and the pictures' licence")
    training.add_argument("--synthetic", choices=("yes", "no"), help="for the manifest: whether the pictures were generated")
    parser.add_argument("--webhook", metavar="URL", help="an https address that is told of the progress")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    parser.add_argument("--json", action="store_true", help="print the audit as JSON instead of sentences")


def _curate(options) -> int:
    from .lora_dataset import captions, curation, export, sheet
    from .lora_dataset.dataset import BODY, CHARACTER
    from .lora_dataset.manifest import Provenance
    from .lora_dataset.notebook import resumable
    from .lora_dataset.rules import AuditRules
    from .lora_dataset.webhook import told
    from .lora_dataset.wording import traits_of

    identity = None
    if not options.no_gate:
        who.check_named(options)
        identity = who.identity_of(options)
        # Every step looks at the same faces: they are kept, the pictures are not.
        identity.recognizer.remembered = REMEMBERED_PICTURES
    elif options.reference or options.identity:
        raise InputError("--no-gate takes every picture, so --reference and --identity say nothing; leave one or the other out.")
    target = options.out.expanduser().absolute()
    wanted = curation.Curation(
        export.ExportOptions(
            target.parent,
            target.name,
            options.trainer,
            options.base_model,
            options.mode,
            options.recipe,
            options.vram,
            options.learning_rate,
            options.ema_decay,
            repeats=options.repeats,
            target_steps=options.target_steps,
            samples=tuple(options.sample),
            root=options.root,
            archive=options.archive,
            picture_format=options.picture_format,
            provenance=Provenance(options.statement, None if options.synthetic is None else options.synthetic == "yes"),
            dry_run=options.dry_run,
        ),
        captions.CaptionRules(
            options.trigger,
            options.captions,
            options.template or captions.DEFAULT_TEMPLATE,
            captions.DESCRIBE if options.describe_traits else captions.OMIT,
            traits_of(options.traits),
            captions.edits_of("\n".join(options.edit)),
        ),
        AuditRules(plan=_text(options.plan), waive=_text(options.waive), traits="" if options.describe_traits else options.traits),
        identity,
        None if identity is None else who.rules_of(options, identity),
        reader=_reader(options, identity),
        controls=options.controls,
        crops=not options.no_crops,
        margin=options.margin,
        minimum=options.minimum_size,
    )
    folders = [*((path, CHARACTER) for path in options.paths), *((path, BODY) for path in options.body)]
    with resumable(None if options.dry_run else target, _seen_with(options, identity)), told(options.webhook, target.name) as tell, _bar() as progress:
        made = curation.curate(folders, wanted, progress)

        def moved(done: int, of: int, path: str) -> None:
            progress("export", done, of)
            tell({"event": "export", "done": done, "total": of})

        result = export.carry_out(made.plan, moved)
        tell({"event": "exported", "written": result.written, "verdict": made.audited.verdict})
    if options.json:
        print(json.dumps({"audit": sheet.as_dict(made.audited), "export": curation.export_lines(made.plan, result)}, indent=1))
    else:
        lines = [*(f"left out {name}: {why}" for name, why in made.dataset.left_out), f"{made.audited.verdict}.", *made.audited.reasons, *made.audited.advice]
        print("\n".join(map(who.one_line, [*lines, *made.dataset.notes])))
        print("\n".join(curation.export_lines(made.plan, result)))
    if made.plan.blocked:
        # Only a dry run comes so far.
        return UNUSABLE
    return NOT_ALL_PASSED if curation.stopped_short(made) else OK


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text ({error}).") from None


def _reader(options, identity):
    """What finds faces; without anything that could, crops and framing are left out, and that is said."""
    from .lora_dataset.faces import open_reader

    try:
        reader = open_reader(who.models_dir_of(options), identity and identity.recognizer)
    except (MissingModelError, MissingPackageError) as error:
        print(f"likeness: no face crops: {who.one_line(error)}", file=sys.stderr)
        return None
    if reader.note:
        print(f"likeness: {who.one_line(reader.note)}", file=sys.stderr)
    return reader


def _seen_with(options, identity) -> list:
    """What decides on what is seen of a picture besides its content: versions, and the states of all model files."""
    from .lora_dataset import faces, manifest

    models_dir = who.models_dir_of(options)
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in faces.model_paths(models_dir or Path()) if models_dir and path.is_file()]
    return [manifest.tool_versions(), manifest.versions_of(SEEING), states, identity and identity.recognizer.info.state()]


@contextmanager
def _bar():
    """A progress bar on a terminal's standard error, one for each step."""
    from tqdm import tqdm

    bars = {}

    def progress(step: str, done: int, of: int) -> None:
        if step not in bars:
            bars[step] = tqdm(total=of, desc=step, unit="picture", leave=False, disable=None if sys.stderr.isatty() else True)
        bars[step].total = of
        bars[step].update(done - bars[step].n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()
