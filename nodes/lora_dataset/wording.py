"""What the words of a caption say: its parts, framing, fields and traits. How captions are made and changed is in captions.py."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from ..framing import BODY_FRAMINGS, framing_named
from ..texts import entries_of, one_line

SHOT_FIELDS = ("angle", "pose", "clothing", "expression", "light", "background")

# --- taking captions apart ---


def line_of(text: str) -> str:
    """texts.one_line, ten times as fast for the usual caption, in which every character can be printed."""
    return " ".join(text.split()) if text.isprintable() else one_line(text)


# The comma of 1,000 separates nothing.
_COMMA = re.compile(r"(?<!\d),|,(?!\d)|[\uff0c\u3001]")


def parts_of(caption: str) -> tuple[str, ...]:
    """What stands between the commas of a caption, Chinese and Japanese ones included; empty parts do not count."""
    return tuple(part for part in map(str.strip, _COMMA.split(caption)) if part)


# Wordings that are no names of framing.FRAMINGS, searched for in a part with single blanks for hyphens. The first that fits counts.
_FRAMING_WORDS = tuple(
    (framing, re.compile(rf"\b(?:{words})\b"))
    for framing, words in (
        (
            "detail",
            r"(?:close ?up|detail|macro)(?: shot| view)? of (?:\w+ ){0,2}(?:hands?|fingers?|feet|foot|shoes?|boots?|ears?|eyes?|lips|tattoo|fabric|sleeve)",
        ),
        ("portrait", r"medium close ?up|head ?shot|head and shoulders|(?:shoulders?|chest) up|bust shot"),
        ("full body", r"full ?body|full (?:length|figure)|(?:whole|entire) body|head to (?:toe|foot)"),
        ("cowboy shot", r"cowboy shot|american shot|medium full shot|(?:thighs?|knees?) up|three quarter length"),
        ("upper body", r"upper body|half (?:body|length)|waist up|medium shot"),
        ("closeup", r"close ?ups?|face only|face shot"),
        ("legs", r"legs only|lower body|waist down"),
        ("torso", r"torso (?:only|shot)"),
        ("portrait", r"portrait (?:of|photo|photograph|picture|shot)"),
    )
)


def framing_of(caption: str) -> str:
    """The framing that a caption names: a key of framing.FRAMINGS or one of BODY_FRAMINGS, by the first of its parts that is one or words one; "" for none.

    Common wordings count: close-up of the face, head to toe, from the waist up, headshot. A close-up of hands, feet, eyes and the like is a detail.
    """
    return next(filter(None, map(_framing_of_part, parts_of(caption))), "")


@lru_cache(maxsize=16384)
def _framing_of_part(part: str) -> str:
    text = re.sub(r"[-_\s]+", " ", part.lower())
    named = framing_named(re.sub(r"^(?:an?|the) ", "", text), BODY_FRAMINGS)
    if named and named != "variety":
        return named
    if re.fullmatch(r"(?:\w+ ){0,2}portrait", text) and not re.search(r"close|full|half", text):
        return "portrait"
    return next((framing for framing, words in _FRAMING_WORDS if words.search(text)), "")


_CLOTHES = (
    r"cloth(?:es|ing)|outfit|dress|gown|coat|jacket|t?-?shirt|blouse|sweater|hoodie|cardigan|jeans|trousers|pants|shorts|skirt|suit|uniform|swimsuit|bikini"
    r"|robe|kimono|armou?r|vest|(?:tank|crop) top|scarf|hat|gloves|boots|shoes|sneakers|heels|sandals|stockings|tights|barefoot|nude"
)
# The first that fits counts: `dressed for the beach` is clothing, `soft light on her hands` light.
_FIELD_WORDS = tuple(
    (field, re.compile(words, re.IGNORECASE))
    for field, words in (
        ("background", r"\bback(?:ground|drop)\b"),
        ("clothing", rf"\b(?:wear(?:s|ing)|dressed|{_CLOTHES})\b"),
        (
            "angle",
            r"\b(?:view|angle|profile|eye[- ]level|facing away)\b|\bfrom (?:behind|above|below|the (?:side|front|back|left|right))\b|back to the (?:camera|viewer)",
        ),
        ("light", r"\b(?!slight|delight)\w*light(?:s|ing|ed)?\b|\b(?:\w*lit|shadows?|neon|overcast|golden hour|blue hour|low[- ]key|high[- ]key)\b"),
        (
            "expression",
            r"\b(?:smil|laugh|grin|frown|pout|wink|expression|serious|angry|sad\b|happy|calm|surprised|crying|tears|(?:closed|open) (?:eyes|mouth)|eyes closed)",
        ),
        (
            "pose",
            r"\b(?:stand|sit(?:s|ting)\b|walk|run(?:s|ning)\b|kneel|l(?:ies|ying)\b|lean|crouch|squat|jump|danc|wav(?:es|ing)\b|turn|look|hold|pos(?:es|ing|e)\b|arms?\b|hands?\b|legs?\b|reach|rais)",
        ),
        (
            "background",
            r"^(?:in|on|at|inside|outside|near|by|beside|before|against|under)\b"
            r"|\b(?:(?:in|out)doors?|\w*room|kitchen|street|beach|studio|forest|city|park|garden|office|caf[eé]|bar|wall|mountains?|field|sea|river|bridge|station|house)\b",
        ),
    )
)


@dataclass(frozen=True)
class Parsed:
    """A caption taken apart. fields: by SHOT_FIELDS, those that it has; rest: the parts that are none of them, in order."""

    has_trigger: bool
    framing: str
    fields: Mapping[str, str]
    rest: tuple[str, ...]


def parse_caption(caption: str, trigger: str = "", tag: str = "") -> Parsed:
    """What a caption says of the framing and of each field, by the words that its parts contain: a guess, best with tags. Trigger and tag are left out."""
    parts = parts_of(line_of(caption))
    left_out = {word.casefold() for word in (trigger, tag) if word}
    framing, fields, rest = "", {}, []
    if trigger and parts and (begins := whole_words(trigger).match(parts[0])):
        parts = (parts[0][begins.end() :].strip(), *parts[1:])
    for part in (part for part in parts if part and part.casefold() not in left_out):
        if not framing and (framing := _framing_of_part(part)):
            continue
        field = next((field for field, words in _FIELD_WORDS if words.search(part)), None)
        if field:
            fields.setdefault(field, []).append(part)
        else:
            rest.append(part)
    has_trigger = bool(trigger) and bool(whole_words(trigger).search(caption))
    return Parsed(has_trigger, framing, MappingProxyType({field: ", ".join(parts) for field, parts in fields.items()}), tuple(rest))


# --- words in captions ---

# What goes on with a word. Chinese, Japanese and Korean are written without blanks, so they go on with no word of another script.
_LETTER = r"[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"


@lru_cache(maxsize=1024)
def whole_words(words: str, suffix: str = "") -> re.Pattern:
    """Finds these words, whole, in any case and with any blanks between them. suffix: a pattern that may follow the last."""
    inner = r"\s+".join(map(re.escape, words.split())) + suffix
    before = rf"(?<!{_LETTER})" if re.match(_LETTER, words) else ""
    after = rf"(?!{_LETTER})" if re.search(rf"{_LETTER}\Z", words) else ""
    return re.compile(before + inner + after, re.IGNORECASE)


@lru_cache(maxsize=1024)
def trait_words(trait: str) -> re.Pattern:
    """Finds a trait whatever its number: scar, scars; green eyes, green-eyed; red hair, red-haired."""
    words = re.split(r"[\s_-]+", trait.strip())
    stem = words[-1].removesuffix("s") if len(words[-1]) > 3 and not words[-1].endswith("ss") else words[-1]
    ending = r"(?:e?s|e?d)?" if len(words) > 1 else r"(?:e?s)?"
    return re.compile(rf"(?<!{_LETTER})" + r"[\s_-]+".join(map(re.escape, (*words[:-1], stem))) + rf"{ending}(?!{_LETTER})", re.IGNORECASE)


def traits_of(text: str) -> tuple[str, ...]:
    """The fixed traits that a user typed, one a line or between commas."""
    return tuple(dict.fromkeys(part for line in entries_of(text) for part in parts_of(line)))
