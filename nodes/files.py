"""Writing files without losing any: names that stay in their folder, and writes that are whole, new, or not there at all."""

import os
import re
import uuid
from pathlib import Path, PurePosixPath, PureWindowsPath

from .errors import InputError


def write_new(path: Path, content: bytes) -> Path:
    """Write a file that did not exist before, whole or not at all; where the name is taken `_00002` and so on is added. Returns its path."""
    number = 1
    while True:
        target = path if number == 1 else path.with_name(f"{path.stem}_{number:05}{path.suffix}")
        try:
            # Taking the name first keeps two writers from the same one.
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            number += 1
    # A name of its own length: where the target's just fits the file system, one made from it would not.
    part = target.with_name(f"{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        raise
    return target


# What Windows does not take in a name, and its device names; lone surrogates are no text that a file system could store.
_REFUSED = r'[<>:"|?*\x00-\x1f\ud800-\udfff]'
_RESERVED = r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?"


def checked_name(name: str, suffix: str = "") -> Path:
    """A relative path, without `suffix`, from what a user typed as a file name; good on every system.

    Raises InputError for an empty or absolute name, a drive letter, `..`, and characters or device names that Windows refuses.
    """
    text = name.strip().removesuffix(suffix)
    parts = PurePosixPath(text.replace("\\", "/")).parts
    refused = (
        not parts
        or PurePosixPath(text).is_absolute()
        or PureWindowsPath(text).anchor
        or any(part == ".." or re.search(_REFUSED, part) or re.fullmatch(_RESERVED, part) or part != part.strip(" ") or part.endswith(".") for part in parts)
    )
    if refused:
        raise InputError(f"'{name}' cannot be a file name here; use letters, digits, spaces, - and _, with / for a sub-folder.")
    return Path(*parts)
