"""Whether a LoRA is judged by pictures that it was trained on: an identity's references against the manifest of an exported dataset."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import InputError
from ..identity.identity import Identity
from .duplicates import DISTANCE, hash_distance
from .manifest import MANIFEST

LARGEST_MANIFEST = 200 * 2**20


def shared_with(identity: Identity, folder: Path) -> list[tuple[int, str]]:
    """(index of the reference, file in the dataset) for each reference picture that is in an exported dataset, or nearly the same as one there.

    By perceptual hash, up to DISTANCE bits of 64. folder: where the dataset's manifest.json is. Raises InputError where there is none that can be read.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise InputError(f"{path} is too large for a dataset's manifest; name the folder that Export LoRA Dataset wrote.")
        pictures = json.loads(path.read_text(encoding="utf-8"))["pictures"]
        known = [(int(one["phash"], 16), str(one["file"])) for one in pictures if one.get("phash")]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name the folder that Export LoRA Dataset wrote.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path} is no manifest of a dataset; name the folder that Export LoRA Dataset wrote.") from None
    found = []
    for reference in identity.references:
        own = int(reference.phash or "0", 16)
        same = next((file for value, file in known if reference.phash and hash_distance(own, value) <= DISTANCE), None)
        if same is not None:
            found.append((reference.index, same))
    return found


def warning(identity: Identity, folder: Path) -> str | None:
    """One sentence where references are pictures of the dataset, or cannot be told; None where they are held out."""
    untold = [reference for reference in identity.references if not reference.phash]
    if len(untold) == len(identity.references):
        return f"Whether the references of {identity.name} are in the dataset is unknown: the identity was saved by an earlier version; build it again."
    same = shared_with(identity, folder)
    if not same:
        return None
    first = ", ".join(file for _, file in same[:3]) + (", ..." if len(same) > 3 else "")
    return (
        f"{len(same)} of {len(identity.references)} references of {identity.name} are pictures of the dataset ({first}): a LoRA that has learnt them by heart "
        "scores well; build the identity from pictures that were held out."
    )
