"""What is written into a prompt or a caption: fields, camera angles in three vocabularies, captions. Which shots there are is in shots.py.

A template is text with fields: `{scene}`. Brackets hold what goes when one of its fields is empty: `[, wearing {outfit}]`. Doubled, `{{ }} [[ ]]`
are the signs themselves; brackets without a field in them are, too. Fields are filled in two steps: EARLY ones by the shot list (`fill`), LATE
ones when the pictures are known (`complete`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..errors import InputError
from ..texts import excerpt, one_line
from .choices import ANGLE_2511, ANGLE_VOCABULARIES, PLAIN

EARLY = ("scene", "angle", "light", "expression", "outfit", "framing")
LATE = ("character", "trigger", "picture")

# What stands for somebody whose name nobody gave.
NAMELESS = "the character"

_SIGNS = {"{{": "{", "}}": "}", "[[": "[", "]]": "]"}
_TOKEN = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{[^{}\[\]]*\}|[{}\[\]]|[^{}\[\]]+")

# Where an empty field stood, and where a filled one ends; neither can be in a text, because one_line takes control characters out.
_GAP, _END = "\x00", "\x01"
# Comma, semicolon, and their full-width forms with the Chinese list comma; the ends of sentences.
_SEPARATORS = ",;\uff0c\uff1b\u3001"
STOPS = ".!?\u3002\uff01\uff1f"
_AROUND_GAP = re.compile(
    f"(?P<left>[{_SEPARATORS}]?) ?{_GAP}(?P<inner>[ {_SEPARATORS}{_GAP}]*{_GAP})? ?(?P<right>[{_SEPARATORS}{STOPS}]?)(?P<after> ?)",
)


def literal(text: str) -> str:
    """A template that gives this very text."""
    return re.sub(r"[{}\[\]]", lambda sign: sign[0] * 2, text)


@dataclass(frozen=True)
class _Field:
    """`{name}` or `{name:argument}`, and how it was written."""

    name: str
    argument: str
    written: str


@lru_cache(maxsize=512)
def _parsed(text: str) -> tuple:
    """The parts of a template: text, fields, and groups, which are tuples of those."""
    items: list = []
    group: list | None = None
    opened = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        into = items if group is None else group
        if token == "[" and group is None:
            group, opened = [], match.start()
        elif token == "]" and group is not None:
            if any(isinstance(item, _Field) for item in group):
                items.append(tuple(group))
            else:
                items.extend(("[[", *group, "]]"))
            group = None
        elif len(token) == 1 and token in "{}[]":
            raise _unpaired(token, match.start(), text)
        elif token[0] == "{" and token != "{{":
            name, _, argument = token[1:-1].partition(":")
            into.append(_Field(name.strip().lower(), argument.strip(), token))
        else:
            into.append(token)
    if group is not None:
        raise _unpaired("[", opened, text)
    return tuple(items)


def _unpaired(sign: str, position: int, text: str) -> InputError:
    near = text[max(0, position - 20) : position + 20]
    return InputError(
        f"The {sign} at character {position + 1}, in '{near}', has no partner or stands inside another pair; write {sign * 2} for the sign itself."
    )


def fields_of(template: str, known: Sequence[str] = EARLY + LATE) -> frozenset[str]:
    """The names of the fields in a template. Raises InputError for one that is not known, and for a brace or bracket without its partner."""
    names = set()
    for item in _parsed(one_line(template)):
        for field in item if isinstance(item, tuple) else (item,):
            if isinstance(field, _Field):
                if field.name not in known:
                    listed = ", ".join("{picture:face}" if name == "picture" else f"{{{name}}}" for name in known)
                    raise InputError(f"'{excerpt(field.written)}' is not a field here; use {listed}, or double the braces for braces.")
                names.add(field.name)
    return frozenset(names)


def fill(template: str, values: Mapping[str, str], late: Sequence[str] = LATE) -> str:
    """The template in one line with its fields replaced by `values`.

    A field named in `late` that has no value stays as it is; then the result is a template still, for the next step: doubled signs stay doubled,
    and so does a group that waits for a late field. With `late=()` the result is final text. A known field without a value is empty. What is
    empty leaves nothing behind: no `, ,`, no double blank, no comma at either end; a value's own last comma or full stop goes where punctuation
    follows. The values are put in as they are: they may contain late fields, and `literal` guards what must not. Raises InputError for a field
    that is neither in EARLY, LATE nor `values`, and for a brace or bracket without its partner.
    """
    fields_of(template, tuple(dict.fromkeys((*EARLY, *LATE, *values))))

    def value_of(field: _Field, grouped: bool) -> str | None:
        return None if field.name in late and field.name not in values else values.get(field.name, "")

    return _rendered(template, value_of, final=not late)


def _rendered(template: str, value_of: Callable[[_Field, bool], str | None], final: bool) -> str:
    """value_of(field, whether it is in a group) gives None for a field that stays."""

    def piece(item, grouped: bool) -> tuple[str, bool]:
        """What is written, and whether it waits."""
        if not isinstance(item, _Field):
            return (_SIGNS.get(item, item) if final else item), False
        value = value_of(item, grouped)
        if value is None:
            return item.written, True
        value = one_line(value)
        return (value + _END if value else _GAP), False

    out = []
    for item in _parsed(one_line(template)):
        if not isinstance(item, tuple):
            out.append(piece(item, False)[0])
            continue
        pieces = [piece(part, True) for part in item]
        text = "".join(text for text, _ in pieces)
        if _GAP in text:
            out.append(_GAP)
        else:
            out.append(f"[{text}]" if any(waits for _, waits in pieces) else text)
    return _mended("".join(out))


def _mended(text: str) -> str:
    text = _AROUND_GAP.sub(_closed, " ".join(text.split()))
    text = re.sub(rf"(?<!\.)[.,;]{_END}(?= ?[.,;])", "", text).replace(_END, "")
    return " ".join(text.split()).strip(" ,\uff0c")


def _closed(gap: re.Match) -> str:
    """What stays of the punctuation around something empty: what followed it, except where a sentence or the text begins."""
    text, right = gap.string, gap["right"]
    begins = not gap["left"] and gap.start() > 0 and text[gap.start() - 1] in STOPS
    if gap.start() == 0:
        return ""
    if gap.end() == len(text):
        return right if right in STOPS and not begins else ""
    blank = " " if " " in gap[0] else ""
    if begins:
        return blank
    if right:
        return right + gap["after"]
    separator = gap["left"] or next((c for c in gap["inner"] or "" if c in _SEPARATORS), "")
    return separator + blank


# --- the late step: who and which picture ---


@dataclass(frozen=True)
class PictureLabel:
    """A reference picture as a prompt speaks of it. index: from 1, its place among the model's pictures; role: face, outfit, ...; character: a name or ""."""

    index: int
    role: str
    character: str = ""


def complete(prompt: str, character: str | Sequence[str] = "", pictures: Sequence[PictureLabel] = (), triggers: Sequence[str] = ()) -> str:
    """The final text of a prompt.

    `{character}`: the name or names, else those of the pictures, else `the character`. `{picture:face}`, `{picture:2}`, `{picture:Mira}`,
    `{picture:Mira.face}`, `{picture}`: `Picture 1` or `Pictures 1, 2 and 3`, the words that TextEncodeQwenImageEditPlus puts before each picture.
    `{trigger}`: all triggers; one with commas is several. A group in brackets goes when its picture, name or trigger is missing. Triggers that the prompt does not contain as
    whole words are put in front, behind a first sentence that is the 2511 angle LoRA's. Raises InputError for an unknown field, a picture that is
    not there, and a prompt that is empty.
    """
    names = [name for name in map(one_line, [character] if isinstance(character, str) else character) if name]
    names = list(dict.fromkeys(names or [one_line(picture.character) for picture in pictures if picture.character.strip()]))
    words = list(dict.fromkeys(word for trigger in triggers for part in trigger.split(",") if (word := one_line(part))))
    fields_of(prompt, LATE)

    def value_of(field: _Field, grouped: bool) -> str:
        if field.name == "character":
            return listed(names) or ("" if grouped else NAMELESS)
        if field.name == "trigger":
            return ", ".join(words)
        found = _pictures_named(field.argument, pictures)
        if not found and not grouped:
            there = ", ".join(f"{one.index} = {f'{one.character}.' if one.character else ''}{one.role}" for one in pictures)
            raise InputError(f"'{excerpt(field.written)}' names no picture; {f'there are {there}' if there else 'there are no reference pictures'}.")
        return f"Picture{'s' if len(found) > 1 else ''} {listed([str(one.index) for one in found])}" if found else ""

    text = _rendered(prompt, value_of, final=True)
    if not text:
        raise InputError("The scene is empty: write what the picture shows.")
    front: list[str] = []
    for word in words:
        if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", ", ".join((*front, text)), re.IGNORECASE):
            front.append(word)
    angle = re.match(r"<sks> [^.]*\. ", text)
    cut = angle.end() if angle else 0
    return text[:cut] + ", ".join((*front, text[cut:]))


# What leads to a picture in a sentence, and says nothing without it: `the coat from Picture 2`.
_LEADING = re.compile(r"(?:\s*\b(?:as|from|in|like|of|on|shown|with|wearing)\b(?:\s+the one)?)*\s*\{\s*picture\b[^{}]*\}", re.IGNORECASE)
_WITH_PICTURE = re.compile(r"(?<!\[)\[[^\[\]]*\{\s*picture\b[^{}]*\}[^\[\]]*\](?!\])", re.IGNORECASE)


def without_pictures(text: str) -> str:
    """A template without its `{picture:...}`, the groups that hold one and the words that lead to one, for captions: `the coat from
    {picture:outfit}` -> `the coat`."""
    return _LEADING.sub("", _WITH_PICTURE.sub("", text))


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _pictures_named(wanted: str, pictures: Sequence[PictureLabel]) -> list[PictureLabel]:
    wanted = wanted.casefold()
    name, _, role = wanted.rpartition(".")
    ways: tuple[Callable[[PictureLabel], bool], ...] = (
        lambda one: not wanted or str(one.index) == wanted,
        lambda one: one.role.casefold() == wanted,
        lambda one: one.character.casefold() == wanted,
        lambda one: (one.character.casefold().strip(), one.role.casefold()) == (name.strip(), role.strip()),
    )
    return next((found for way in ways if (found := [one for one in pictures if way(one)])), [])


# --- camera angles ---


@dataclass(frozen=True)
class Angle:
    """Where the camera stands: keys of AZIMUTHS, ELEVATIONS and DISTANCES, each None where nothing is said."""

    azimuth: str | None = None
    elevation: str | None = None
    distance: str | None = None


# Each in the order of ANGLE_VOCABULARIES. 2511: the model card of fal/Qwen-Image-Edit-2511-Multiple-Angles-LoRA, `<sks> [azimuth] [elevation]
# [distance]`, 8 x 4 x 3, whose reference pose is the front view at eye level, medium shot. 2509: the prompts of dx8152/Qwen-Edit-2509-Multiple-
# angles as its users quote the card (45 degrees, top-down view, wide-angle lens, close-up), Chinese before English; 90 degrees and the view from
# below as build_camera_prompt in its Hugging Face Spaces words them. Its commands are relative to the given picture, so what is usual there needs
# none (""), and where it has no command the plain words stand (None). Sides are the viewer's, as in other packs: for a right view the camera goes
# to the right of the picture.
_TURN = "将镜头向{}旋转{}度 Rotate the camera {} degrees to the {}."
AZIMUTHS: dict[str, tuple[str, str | None, str]] = {
    "front": ("front view", "", "front view"),
    "front right": ("three-quarter view from the right", _TURN.format("右", 45, 45, "right"), "front-right quarter view"),
    "right side": ("right side view", _TURN.format("右", 90, 90, "right"), "right side view"),
    "back right": ("back view, from the right", None, "back-right quarter view"),
    "back": ("back view", None, "back view"),
    "back left": ("back view, from the left", None, "back-left quarter view"),
    "left side": ("left side view", _TURN.format("左", 90, 90, "left"), "left side view"),
    "front left": ("three-quarter view from the left", _TURN.format("左", 45, 45, "left"), "front-left quarter view"),
}
_DOWN = "将镜头转为俯视 Turn the camera to a top-down view."
ELEVATIONS: dict[str, tuple[str, str | None, str]] = {
    "low angle": ("low-angle shot", "将相机切换到仰视视角 Turn the camera to a worm's-eye view.", "low-angle shot"),
    "eye level": ("eye-level shot", "", "eye-level shot"),
    "elevated": ("elevated shot", None, "elevated shot"),
    "high angle": ("high-angle shot", _DOWN, "high-angle shot"),
    # The 2511 LoRA goes up to 60 degrees.
    "top-down": ("top-down view", _DOWN, "high-angle shot"),
}
DISTANCES: dict[str, tuple[str, str | None, str]] = {
    "close-up": ("close-up", "将镜头转为特写镜头 Turn the camera to a close-up.", "close-up"),
    "medium shot": ("medium shot", "", "medium shot"),
    "wide shot": ("wide shot", "将镜头转为广角镜头 Turn the camera to a wide-angle lens.", "wide shot"),
}

# What a user may write, once punctuation is blanks and 3/4 is quarter. The first that fits counts, so the longer ones stand first.
_ELEVATION_WORDS = (
    (r"slightly (?:from )?above|slightly high angle|elevated", "elevated"),
    (r"top down|birds? eye|overhead|aerial|(?:straight|directly) (?:from )?above", "top-down"),
    (r"high angle|from above", "high angle"),
    (r"low angle|from below|worms? eye", "low angle"),
    (r"eye level", "eye level"),
)
_DISTANCE_WORDS = ((r"close ?up", "close-up"), (r"medium(?: shot)?|mid shot", "medium shot"), (r"wide(?: shot| view)|long shot", "wide shot"))
_FILLERS = frozenset("a an the of from at on to and in with view viewed seen shot photographed angle camera viewer sks".split())
_AZIMUTH_WORDS = {
    **dict.fromkeys(("front", "frontal"), "front"),
    **dict.fromkeys(("back", "rear", "behind", "away"), "back"),
    **dict.fromkeys(("side", "profile"), "side"),
    **{word: word for word in ("left", "right", "quarter", "facing")},
}
_AZIMUTH_OF = {frozenset(words.split()): azimuth for words, azimuth in (("front", "front"), ("facing", "front"), ("back", "back"), ("facing back", "back"))}
for _side in ("left", "right"):
    _AZIMUTH_OF |= {frozenset((_side, *more)): f"{_side} side" for more in ((), ("side",))}
    for _end in ("front", "back"):
        _AZIMUTH_OF |= {frozenset((_side, _end, *more)): f"{_end} {_side}" for more in ((), ("quarter",), ("side",))}
    _AZIMUTH_OF[frozenset((_side, "quarter"))] = f"front {_side}"


def parse_angle(line: str) -> Angle | str:
    """The angle that a line names in any usual wording (`front left, low angle, close-up`, `from behind`, `3/4 left`, `left profile`, `from above`).

    A line with anything else in it, or that names one thing twice, is returned as the text it is.
    """
    rest = re.sub(r"\b3/4\b|\u00be|\bthree[- ]quarters?\b", " quarter ", line.lower()) if len(line) <= 120 else ""
    rest = " ".join(re.sub(r"[-_/,;.+<>]", " ", re.sub(r"['\u2019]", "", rest)).split())
    parts: dict[str, str] = {}
    for part, table in (("elevation", _ELEVATION_WORDS), ("distance", _DISTANCE_WORDS)):
        for words, value in table:
            rest, found = re.subn(rf"\b(?:{words})\b", " ", rest)
            if found > 1 or (found and part in parts):
                return line
            if found:
                parts[part] = value
    words = [word for word in rest.split() if word not in _FILLERS]
    if words:
        azimuth = _AZIMUTH_OF.get(frozenset(_AZIMUTH_WORDS.get(word, word) for word in words))
        if azimuth is None:
            return line
        parts["azimuth"] = azimuth
    return Angle(**parts) if parts else line


def angle_phrase(angle: Angle | str, vocabulary: str = PLAIN) -> str:
    """How a vocabulary says an angle; "" for an angle that says nothing, or where the 2509 LoRA has nothing to do (front, eye level, medium shot).

    Text that is no angle is returned as it is. Plain words: `back view, low-angle shot`, so that a caption tells scoring.needs_no_face. 2511: the
    whole form, `<sks> back view eye-level shot medium shot`; what the angle leaves open is that of the reference pose, since the LoRA knows no
    shorter form. 2509: one sentence per command, Chinese and English. Raises InputError for an unknown vocabulary.
    """
    if vocabulary not in ANGLE_VOCABULARIES:
        raise InputError(f"'{vocabulary}' is not an angle vocabulary; choose {', '.join(ANGLE_VOCABULARIES)}.")
    if isinstance(angle, str) or angle == Angle():
        return angle if isinstance(angle, str) else ""
    column = ANGLE_VOCABULARIES.index(vocabulary)
    if vocabulary == ANGLE_2511:
        angle = Angle(angle.azimuth or "front", angle.elevation or "eye level", angle.distance or "medium shot")
    given = ((AZIMUTHS, angle.azimuth), (ELEVATIONS, angle.elevation), (DISTANCES, angle.distance))
    rows = [table[value] for table, value in given if value is not None]
    if vocabulary == PLAIN:
        return ", ".join(row[column] for row in rows)
    if vocabulary == ANGLE_2511:
        return " ".join(("<sks>", *(row[column] for row in rows)))
    return " ".join(f"{row[0].capitalize()}." if row[column] is None else row[column] for row in rows if row[column] != "")


def caption(trigger: str = "", framing: str = "", expression: str = "", outfit: str = "", light: str = "", scene: str = "", angle: Angle | str = "") -> str:
    """A dataset's caption, in one line: trigger, framing, angle, expression, clothes, light, scene; what is empty or said before is left out."""
    parts: dict[str, str] = {}
    for text in (trigger, framing, angle_phrase(angle), expression, outfit, light, scene):
        for part in re.split(r",", one_line(text)):
            # A full stop inside a list of tags would end it; three of them are not one.
            part = re.sub(r"(?<!\.)\.$", "", part.strip())
            if part:
                parts.setdefault(part.casefold(), part)
    return ", ".join(parts.values())
