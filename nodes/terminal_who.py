"""Who is meant, and how strictly: the options that the commands of the terminal share, and what they make of them."""

import argparse
import math
import unicodedata
from dataclasses import replace
from pathlib import Path

from . import model_files
from .errors import InputError
from .identity import scoring
from .identity.identity import COMBINE, Identity, build_identity, load_identity
from .identity.recognizers import DEVICES, Recognizer, names, open_recognizer
from .installation import COMMERCIAL_VARIABLE, switched_on
from .pictures import find_pictures, read_picture

# Pictures measured together: enough for full batches, few enough that 8000x6000 pictures fit.
CHUNK_PICTURES = 16
NAMED_STRICTNESS = tuple(name for name in scoring.STRICTNESS if name != "custom")


def add_options(parser: argparse.ArgumentParser) -> None:
    """--reference or --identity, the recognizer, and how strictly it judges."""
    parser.add_argument(
        "--reference",
        nargs="+",
        action="extend",
        type=Path,
        metavar="PATH",
        help="pictures of the character, or folders of them; everything up to the next option is one",
    )
    parser.add_argument("--identity", type=Path, metavar="FILE", help="an identity that Save Identity wrote, instead of --reference")
    parser.add_argument(
        "--recognizer", default="auto", metavar="NAME", help="auto, dlib, auraface, buffalo_l, antelopev2 or a pack's folder name (default auto)"
    )
    parser.add_argument("--device", default="auto", choices=DEVICES, help="where ArcFace runs (default auto: the CPU)")
    parser.add_argument(
        "--strictness", default="standard", metavar="NAME|NUMBER", help="loose, standard, strict, or the lowest score that passes (default standard)"
    )
    parser.add_argument("--combine", default="mean", choices=COMBINE, help="how several references make one score (default mean)")
    parser.add_argument("--name", help="the character's name in overlays and report")
    parser.add_argument(
        "--commercial-only", action="store_true", help=f"refuse recognizers whose licence forbids commercial use (as {COMMERCIAL_VARIABLE}=1 does)"
    )
    add_models_dir(parser)


def add_models_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models-dir", metavar="DIR", help="ComfyUI's models folder (default: COMFYUI_ROOT/models, else the ComfyUI around the pack)")


def check_named(options) -> None:
    """Raises InputError unless the character is named in one of the two ways."""
    if bool(options.reference) == bool(options.identity):
        raise InputError("Name the character by either --reference PICTURE... or --identity FILE.")


def identity_of(options) -> Identity:
    recognizer_of = opener(options)
    if options.identity:
        given = None if options.recognizer == "auto" else recognizer_of(options.recognizer)
        identity = load_identity(options.identity, recognizer_of, given)
        if options.name:
            identity = replace(identity, name=options.name)
    else:
        paths = list(find_pictures(options.reference))
        if not paths:
            raise InputError(f"There is no picture in {', '.join(map(str, options.reference))}.")
        references = [read_picture(path) for path in paths]
        identity = build_identity(
            references, recognizer_of(options.recognizer), options.name or "character", options.combine, labels=[str(path) for path in paths]
        )
    identity.recognizer.remembered = CHUNK_PICTURES
    return identity


def models_dir_of(options) -> Path | None:
    return model_files.find_models_dir(options.models_dir) if options.models_dir else model_files.find_models_dir_or_none()


def opener(options):
    models_dir = models_dir_of(options)
    commercial_only = options.commercial_only or switched_on(COMMERCIAL_VARIABLE)

    def recognizer_of(name: str) -> Recognizer:
        known = names(models_dir, commercial_only)
        if name not in known and models_dir is None:
            raise InputError(f"'{name}' is not a recognizer; there are {', '.join(known)}, and more with --models-dir.")
        return open_recognizer(name, models_dir, options.device, commercial_only)

    return recognizer_of


def rules_of(options, identity: Identity, face: str = "best match") -> scoring.Rules:
    if options.strictness in NAMED_STRICTNESS:
        return scoring.Rules(scoring.threshold_of(identity, options.strictness, 0.0), options.strictness, face)
    try:
        threshold = float(options.strictness)
    except ValueError:
        threshold = math.nan
    if not -1 <= threshold <= 1:
        raise InputError(f"'{options.strictness}' is not a strictness; choose {', '.join(NAMED_STRICTNESS)}, or a likeness score from -1 to 1.")
    return scoring.Rules(threshold, "custom", face)


def one_line(text: object) -> str:
    """Text with control characters, line breaks and lone surrogates as escapes: a file name may have them, and they would break or steer a terminal."""
    return "".join(letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter for letter in str(text))
