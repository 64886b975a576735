"""One person as a template: built from reference pictures, calibrated against itself, saved and loaded. Judging pictures is scoring.py's."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import IdentityError, InputError, NoFaceError
from ..files import checked_name, write_new
from ..installation import needed
from ..pictures import Picture, small_copy
from .choices import COMBINE
from .recognizers import Face, Recognizer

FORMAT = "likeness-identity"
VERSION = 1
SUFFIX = ".safetensors"

# A reference whose face is smaller than the recognizers' own crop (112 pixels for ArcFace) is enlarged before it is embedded.
GOOD_SIDE = 112
# Sharpness (faces.sharpness) of portraits softened until the scores of the same person with dlib fell from 0.85 to about 0.7: see
# tests/test_identity.py for the measurement on real photographs.
GOOD_SHARPNESS = 0.03
# From here on a reference shows one half of the face only in part.
GOOD_YAW = 35.0
GOOD_CONFIDENCE = 0.6
# The picture that stands for the person reaches this many face sides around the face, and is at most this large.
PORTRAIT_MARGIN = 1.5
PORTRAIT_SIDE = 1024


@dataclass(frozen=True, eq=False)
class Reference:
    """One reference picture. index: its place among the pictures given; flags: what is wrong with it; agreement: its score against the
    template of the others (leave-one-out), None for a single reference; phash: its perceptual hash, by which it is known again (16 hexadecimal digits,
    empty in identities saved before there was one)."""

    index: int
    face: Face
    flags: tuple[str, ...] = ()
    agreement: float | None = None
    phash: str = ""


@dataclass(frozen=True, eq=False)
class Identity:
    """One person. combine: how several references make one score; portrait: uint8 [H,W,3], the best reference around the face;
    warnings: one sentence each, for the report; faceless: the pictures given in which no face was found."""

    name: str
    recognizer: Recognizer = field(repr=False)
    combine: str
    references: tuple[Reference, ...] = field(repr=False)
    portrait: np.ndarray = field(repr=False)
    warnings: tuple[str, ...] = ()
    faceless: tuple[int, ...] = ()

    @cached_property
    def embeddings(self) -> np.ndarray:
        """float32 [N,D] raw embeddings of the references."""
        return np.stack([reference.face.embedding for reference in self.references])

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Likeness scores [M] of face embeddings [M,D] against this person."""
        return combined_score(self.recognizer, self.combine, self.embeddings, embeddings)

    @cached_property
    def best(self) -> Reference:
        """The reference that shows the person best, see `best_reference`."""
        return best_reference(self.references, self.recognizer.info.thresholds.standard)


def combined_score(recognizer: Recognizer, combine: str, references: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Likeness scores [M] of embeddings [M,D] against references [N,D].

    mean: against the mean of the raw embeddings (for ArcFace the norm is a quality, so a poor reference weighs less). median: against the
    median of each dimension, which one wrong reference cannot pull away. max: the best score against any single reference.
    """
    if combine == "max":
        return np.max([recognizer.score(embeddings, reference) for reference in references], axis=0)
    return recognizer.score(embeddings, np.median(references, axis=0) if combine == "median" else references.mean(0))


def build_identity(
    pictures: Sequence[Picture],
    recognizer: Recognizer,
    name: str = "character",
    combine: str = "mean",
    tick=lambda: None,
    labels: Sequence[str] | None = None,
) -> Identity:
    """The identity of the person in the pictures; of several faces in one picture the largest is taken, and that is said.

    labels: what warnings call the pictures, `Picture 1` and so on without them.
    Raises InputError without pictures or for an unknown `combine`, NoFaceError when none of them shows a face.
    """
    if not pictures:
        raise InputError("An identity needs at least one reference picture, none was given.")
    if combine not in COMBINE:
        raise InputError(f"'{combine}' is not a way to combine references; choose {', '.join(COMBINE)}.")
    references, faceless = [], []
    for index, found in enumerate(recognizer.faces(pictures, tick=tick)):
        if not found.faces:
            faceless.append(index)
            continue
        face = max(found.faces, key=lambda face: face.area)
        references.append(Reference(index, face, _flags(face, len(found.faces)), phash=_phash(pictures[index].pixels)))
    if not references:
        what = "The reference picture shows no" if len(pictures) == 1 else f"None of the {len(pictures)} reference pictures shows a"
        detector = recognizer.info.detector.name
        raise NoFaceError(f"{what} face that {detector} can find; take a sharp picture in which the face is large and turned to the camera.")
    labels = labels or [f"Picture {i + 1}" for i in range(len(pictures))]
    references, warnings = _calibrate(references, recognizer, combine, labels)
    warnings += [f"{labels[reference.index]}: {flag}." for reference in references for flag in reference.flags if "faces" in flag]
    warnings += [f"{labels[i]} shows no face and was left out." for i in faceless]
    best = best_reference(references, recognizer.info.thresholds.standard)
    portrait = _portrait(pictures[best.index].pixels, best.face)
    # On one line: it stands in labels, reports and sentences.
    name = " ".join(name.split()) or "character"
    return Identity(name, recognizer, combine, tuple(references), portrait, tuple(warnings), tuple(faceless))


def _phash(pixels: np.ndarray) -> str:
    """imagehash.phash of a small grey copy, as the manifest of an exported dataset has it of each picture (within a few bits)."""
    with needed("imagehash"):
        import imagehash
    from PIL import Image

    return str(imagehash.phash(Image.fromarray(small_copy(pixels, 512)).convert("L")))


def _flags(face: Face, count: int) -> tuple[str, ...]:
    flags = []
    if count > 1:
        flags.append(f"{count} faces, the largest was taken")
    if face.side < GOOD_SIDE:
        flags.append(f"small face ({face.side:.0f} px)")
    if face.sharpness < GOOD_SHARPNESS:
        flags.append("blurred")
    if abs(face.yaw) > GOOD_YAW:
        flags.append(f"turned away (about {abs(face.yaw):.0f} degrees)")
    if face.confidence < GOOD_CONFIDENCE:
        flags.append("hardly recognizable as a face")
    return tuple(flags)


def distinctly_named(identities: Sequence[Identity]) -> list[Identity]:
    """The same people with a number behind each name that an earlier one has already: reports tell people apart by name."""
    named, taken = [], set()
    for identity in identities:
        name, number = identity.name, 1
        while name in taken:
            number += 1
            name = f"{identity.name} {number}"
        taken.add(name)
        named.append(identity if name == identity.name else replace(identity, name=name))
    return named


def best_reference(references: Sequence[Reference], standard: float) -> Reference:
    """The one with the fewest flags, then the largest, sharpest, most frontal face; those that the others do not take for the same person come last."""
    return min(references, key=lambda reference: (_is_outlier(reference, standard), len(reference.flags), -_quality(reference.face)))


def _is_outlier(reference: Reference, standard: float) -> bool:
    return reference.agreement is not None and reference.agreement < standard


def _quality(face: Face) -> float:
    return min(face.side / GOOD_SIDE, 2.0) * min(face.sharpness / GOOD_SHARPNESS, 2.0) * float(np.cos(np.radians(face.yaw))) * face.confidence


def _calibrate(references: list[Reference], recognizer: Recognizer, combine: str, labels: Sequence[str]) -> tuple[list[Reference], list[str]]:
    """The references with their leave-one-out scores, and a warning for each that the others do not take for the same person."""
    if len(references) == 1:
        return references, []
    embeddings = np.stack([reference.face.embedding for reference in references])
    standard = recognizer.info.thresholds.standard
    calibrated, warnings = [], []
    for i, reference in enumerate(references):
        score = float(combined_score(recognizer, combine, np.delete(embeddings, i, axis=0), embeddings[i : i + 1])[0])
        if score < standard:
            warnings.append(f"{labels[reference.index]} does not look like the others: it scores {score:.2f} against them, below {standard:.2f} (standard).")
        calibrated.append(replace(reference, agreement=score))
    if len(warnings) > len(references) / 2:
        warnings.append("The references disagree with each other: check that all of them show the same person.")
    return calibrated, warnings


def _portrait(pixels: np.ndarray, face: Face) -> np.ndarray:
    """The part of a picture around a face, made smaller where it is too large: what a face swap needs, and no more of the picture."""
    import cv2

    height, width = pixels.shape[:2]
    margin = PORTRAIT_MARGIN * face.side
    x1, y1, x2, y2 = face.box
    part = pixels[max(0, int(y1 - margin)) : min(height, int(y2 + margin) + 1), max(0, int(x1 - margin)) : min(width, int(x2 + margin) + 1)]
    scale = PORTRAIT_SIDE / max(part.shape[:2])
    if scale < 1:
        return cv2.resize(part, (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))), interpolation=cv2.INTER_AREA)
    return part.copy()


def identity_report(identity: Identity) -> dict:
    """What is known of an identity, for people and scripts: references with quality, self-calibration, recognizer, thresholds, warnings."""
    info = identity.recognizer.info
    agreements = [reference.agreement for reference in identity.references if reference.agreement is not None]
    return {
        "name": identity.name,
        "combine": identity.combine,
        "recognizer": recognizer_report(identity.recognizer),
        "thresholds": {
            "loose": info.thresholds.loose,
            "standard": info.thresholds.standard,
            "strict": info.thresholds.strict,
            "source": info.thresholds.source,
        },
        "references": [
            {
                "index": reference.index,
                "box": [round(v, 1) for v in reference.face.box],
                "detection": round(reference.face.confidence, 3),
                "sharpness": round(reference.face.sharpness, 4),
                "yaw": round(reference.face.yaw, 1),
                "score_against_the_others": None if reference.agreement is None else round(reference.agreement, 4),
                "flags": list(reference.flags),
                "best": reference is identity.best,
            }
            for reference in identity.references
        ],
        "without_face": list(identity.faceless),
        "self_calibration": None
        if not agreements
        else {"mean": round(float(np.mean(agreements)), 4), "lowest": round(min(agreements), 4), "std": round(float(np.std(agreements)), 4)},
        "warnings": list(identity.warnings),
    }


def recognizer_report(recognizer: Recognizer) -> dict:
    info = recognizer.info
    return {
        "name": info.name,
        "detector": info.detector.name,
        "embedder": info.embedder.name,
        "licence": info.licence,
        "commercial": info.commercial,
        "file_hash": recognizer.fingerprint,
    }


# --- files ---


def save_identity(identity: Identity, folder: Path, name: str) -> Path:
    """Write the identity below `folder` as a new safetensors file and return its path; an existing file is never replaced, a number is added.

    name: may have sub-folders. Raises InputError for a name that leads out of the folder or that a file system refuses, IdentityError when
    the folder cannot be written.
    """
    from safetensors.numpy import save

    relative = checked_name(name, SUFFIX)
    info = identity.recognizer.info
    faces = [reference.face for reference in identity.references]
    about = {
        "name": identity.name,
        "combine": identity.combine,
        "recognizer": {
            "name": info.name,
            "fingerprint": identity.recognizer.fingerprint,
            "metric": info.metric,
            "detector": info.detector.name,
            "licence": info.licence,
        },
        "thresholds": {"loose": info.thresholds.loose, "standard": info.thresholds.standard, "strict": info.thresholds.strict},
        "references": [
            {
                "index": r.index,
                "confidence": r.face.confidence,
                "yaw": r.face.yaw,
                "sharpness": r.face.sharpness,
                "flags": list(r.flags),
                "agreement": r.agreement,
                "phash": r.phash,
            }
            for r in identity.references
        ],
        "warnings": list(identity.warnings),
    }
    content = save(
        {
            "embeddings": np.ascontiguousarray(identity.embeddings, dtype=np.float32),
            "boxes": np.array([face.box for face in faces], dtype=np.float32),
            "keypoints": np.stack([face.keypoints for face in faces]).astype(np.float32),
            "portrait": np.ascontiguousarray(identity.portrait),
        },
        metadata={"format": FORMAT, "version": str(VERSION), "identity": json.dumps(about)},
    )
    target = folder / relative
    try:
        # Before any sub-folder is made: a link below the folder may point anywhere.
        if not target.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"'{name}' leads out of the folder {folder}; choose a plain name.")
        target.parent.mkdir(parents=True, exist_ok=True)
        return write_new(target.with_name(target.name + SUFFIX), content)
    except OSError as error:
        raise IdentityError(f"The identity cannot be saved in {target.parent} ({error.strerror}).") from None


def made_with(path: Path) -> str | None:
    """The name of the recognizer an identity file was made with, read from its header alone; None where that cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return str(json.loads((file.metadata() or {})["identity"])["recognizer"]["name"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def load_identity(path: Path, open_recognizer, recognizer: Recognizer | None = None) -> Identity:
    """Read an identity file.

    recognizer: must be the one it was made with; None opens that one by `open_recognizer(name)`. Raises IdentityError, in one sentence, for
    a file that is damaged, not ours, too new, or of another recognizer; what `open_recognizer` raises when its models are missing.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise IdentityError(f"{path.name} is not an identity made by Likeness.")
            if metadata.get("version") != str(VERSION):
                raise IdentityError(f"{path.name} was written by a newer Likeness (format {metadata.get('version')}); update the pack.")
            about = json.loads(metadata["identity"])
            embeddings, boxes, keypoints, portrait = (file.get_tensor(key) for key in ("embeddings", "boxes", "keypoints", "portrait"))
        made_with = about["recognizer"]
        count = len(about["references"])
        if not (
            count > 0
            and embeddings.ndim == 2
            and embeddings.shape[1] > 0
            and len(embeddings) == len(boxes) == len(keypoints) == count
            and boxes.shape[1:] == (4,)
            and keypoints.shape[1:] in ((3, 2), (5, 2))
            and portrait.ndim == 3
            and portrait.shape[2] == 3
            and portrait.size > 0
            and portrait.dtype == np.uint8
            and all(values.dtype == np.float32 and np.isfinite(values).all() for values in (embeddings, boxes, keypoints))
            and about["combine"] in COMBINE
        ):
            raise KeyError("shape")
        references = tuple(
            Reference(
                int(r["index"]),
                Face(tuple(map(float, box)), float(r["confidence"]), points, embedding, float(r["yaw"]), float(r["sharpness"])),
                tuple(map(str, r["flags"])),
                None if r["agreement"] is None else float(r["agreement"]),
                phash if re.fullmatch("[0-9a-f]{16}", phash := str(r.get("phash", ""))) else "",
            )
            for r, box, points, embedding in zip(about["references"], boxes, keypoints, embeddings)
        )
        name, combine, warnings = " ".join(str(about["name"]).split()), about["combine"], tuple(map(str, about["warnings"]))
        made_name, made_fingerprint = str(made_with["name"]), made_with["fingerprint"]
    except FileNotFoundError:
        raise IdentityError(f"The identity file {path} does not exist.") from None
    except OSError as error:
        raise IdentityError(f"The identity file {path} cannot be read ({error.strerror or error}).") from None
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError):
        raise IdentityError(f"{path.name} is damaged or not an identity made by Likeness.") from None
    if recognizer is None:
        recognizer = open_recognizer(made_name)
    if recognizer.fingerprint != made_fingerprint:
        other = "another version of its files" if recognizer.info.name == made_name else recognizer.info.name
        raise IdentityError(f"{path.name} was made with the recognizer {made_name} and cannot be compared by {other}; build it again from its pictures.")
    if embeddings.shape[1] != recognizer.info.dims:
        raise IdentityError(f"{path.name} is damaged: its faces have {embeddings.shape[1]} numbers, those of {made_name} have {recognizer.info.dims}.")
    return Identity(name, recognizer, combine, references, portrait, warnings)
