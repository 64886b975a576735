"""Captions: read from files, composed from a template, edited, and put on the items of a dataset. What their words say is in wording.py, what is wrong with
one in lint.py.

A caption is one line of parts between commas: the trigger word first, then the tag of its bucket, then what the picture shows.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from string import Formatter

from ..errors import InputError
from ..texts import excerpt, one_line
from .choices import DEFAULT_TEMPLATE, DESCRIBE, GIVEN, KEEP, OMIT, POLICIES, SOURCES, TEMPLATE
from .dataset import Dataset, DatasetItem, counted
from .wording import SHOT_FIELDS, framing_of, line_of, parse_caption, parts_of, trait_words, whole_words

# other: what a caption says that is none of the fields.
FIELDS = ("trigger", "framing", *SHOT_FIELDS, "other")

# What a caption calls the person once the trigger word has been said; the second where the trigger is a word of the first.
NAMELESS = ("the character", "this person")
# A part of up to as many words is a tag and goes as a whole with a trait that it names; a longer one is a sentence.
LONGEST_TAG = 6
# A caption takes a few hundred bytes; what is larger than this is some other file with the picture's name.
LARGEST_SIDECAR = 1_000_000


def checked_trigger(trigger: str) -> str:
    """A trigger word in one line; "" for none. Raises InputError for signs that a trainer, a template or a caption's commas would take it apart at."""
    trigger = one_line(trigger)
    refused = re.search(r"--|[,;{}\[\]<>|\"#$\\\uff0c\u3001]", trigger)
    if refused or len(trigger) > 100:
        what = f"contains {refused[0]}" if refused else f"has {len(trigger)} characters"
        raise InputError(f"The trigger word '{excerpt(trigger)}' {what}; use letters, digits, _ and blanks, at most 100, such as mira_k.")
    return trigger


# --- edits ---


@dataclass(frozen=True)
class Edit:
    """One change to every caption. verb: one of EDITS; words: what it adds, removes or replaces; new: what replaces it; written: the line it was read from."""

    verb: str
    words: str = ""
    new: str = ""
    written: str = ""


EDITS = ("add first", "add last", "remove", "replace", "trigger first")
_HOW_TO_EDIT = "write add first: words, add last: words, remove: words, replace: old -> new, or trigger first"


def edits_of(text: str) -> tuple[Edit, ...]:
    """The edits of a text, one a line; blank lines and those that begin with # do not count. Raises InputError that names the line for anything else."""
    edits = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = one_line(raw)
        if not line or line.startswith("#"):
            continue
        verb, colon, words = line.partition(":")
        verb, words, new = " ".join(verb.lower().split()), words.strip(), ""
        arrow = re.search(r"->|\u2192", words) if verb == "replace" else None
        if arrow:
            words, new = words[: arrow.start()].strip(), words[arrow.end() :].strip()
        complete = not colon if verb == "trigger first" else bool(words) and (verb != "replace" or bool(new))
        if verb not in EDITS or not complete:
            raise InputError(f"Line {number} of the edits, '{excerpt(line)}', is no edit; {_HOW_TO_EDIT}.")
        edits.append(Edit(verb, words, new, line))
    return tuple(edits)


def edited(caption: str, edit: Edit) -> str:
    """The caption after one edit; parts that it has already are not added again. `trigger first` changes nothing here: it is done to every caption in the end."""
    if edit.verb in ("add first", "add last"):
        there = parts_of(caption)
        known = set(map(str.casefold, there))
        new = tuple(part for part in parts_of(edit.words) if part.casefold() not in known)
        return ", ".join((*new, *there) if edit.verb == "add first" else (*there, *new)) if new else caption
    if edit.verb == "replace":
        return whole_words(edit.words).sub(lambda _: edit.new, caption)
    if edit.verb == "remove":
        for words in parts_of(edit.words):
            found = whole_words(words)
            if found.search(caption):
                caption = _tidy(found.sub("", part) for part in parts_of(caption))
    return caption


def _tidy(parts: Iterable[str]) -> str:
    return ", ".join(part for part in (" ".join(part.split()).strip(" ;:") for part in parts) if part)


# --- the steps from a text to a caption ---


def _without_trait(caption: str, trait: str) -> str:
    """Tags that name a trait go; a longer part loses `with red hair`, `and red hair` only, and is left as it is where it words that another way."""
    words, (first_of_two, phrase) = trait_words(trait), _trait_phrases(trait)
    kept = []
    for part in parts_of(caption):
        if words.search(part):
            part = phrase.sub("", first_of_two.sub(r"\1 ", part))
        if len(part.split()) > LONGEST_TAG or not words.search(part):
            kept.append(part)
    return _tidy(kept)


@lru_cache(maxsize=256)
def _trait_phrases(trait: str) -> tuple[re.Pattern, re.Pattern]:
    """`with red hair and `, of which `with ` stays, and `with red hair` behind something; up to two words may stand between, as in `with long wavy red hair`."""
    named = r"\s+(?:(?!and\b)\w+\s+){0,2}?" + trait_words(trait).pattern
    return re.compile(rf"\b(with|having|has){named}\s+and\s+", re.IGNORECASE), re.compile(rf"(?<=\S)\s+(?:with|having|has|and){named}", re.IGNORECASE)


def _with_traits(caption: str, traits: Sequence[str]) -> str:
    """Those traits that a caption does not name are put in, behind its framing where that comes first."""
    missing = [trait for trait in traits if not trait_words(trait).search(caption)]
    parts = parts_of(caption)
    front = 1 if parts and framing_of(parts[0]) else 0
    return ", ".join((*parts[:front], *missing, *parts[front:]))


def _trigger_first(caption: str, trigger: str, tag: str) -> str:
    """The trigger once and in front, the tag behind it. A sentence that begins with the trigger goes on from it; elsewhere in the text it becomes `the character`."""
    front = [word for word in (trigger, tag) if word]
    parts = [part for part in parts_of(caption) if part.casefold() not in map(str.casefold, front)]
    if trigger:
        begins = whole_words(trigger).match(parts[0]) if parts else None
        if begins:
            parts[0] = parts[0][begins.end() :]
        # With its article: where the trigger is woman, `a woman` would become `a the character`.
        person = re.compile(rf"(?:\b(?:an?|the)\s+)?(?:{whole_words(trigger).pattern})", re.IGNORECASE)
        nameless = next(words for words in NAMELESS if not whole_words(trigger).search(words))
        parts = [person.sub(nameless, part) for part in parts]
        if begins and not tag:
            return trigger + ", ".join(parts)
        parts = [part.strip(" .:;") for part in parts[:1]] + parts[1:]
    return ", ".join((*front, *(part for part in parts if part)))


@lru_cache(maxsize=32)
def _template(template: str) -> tuple[tuple[tuple[str, str], ...], ...]:
    """For each part between commas: (text, the field behind it or ""). Raises InputError."""
    parts = []
    for part in one_line(template).split(","):
        try:
            pieces = tuple(Formatter().parse(part))
        except ValueError as error:
            raise InputError(f"The template cannot be read near '{excerpt(part.strip())}' ({error}); double a brace for the brace itself.") from None
        for _, name, form, conversion in pieces:
            if name is not None and (name.strip().lower() not in FIELDS or form or conversion):
                listed = ", ".join(f"{{{field}}}" for field in FIELDS)
                raise InputError(f"'{{{excerpt(name)}}}' is not a field of a caption's template; use {listed}, or double the braces for braces.")
        parts.append(tuple((text, (name or "").strip().lower()) for text, name, _, _ in pieces))
    if not any(parts):
        raise InputError(f"The template is empty; write one, such as {DEFAULT_TEMPLATE}.")
    return tuple(parts)


def composed(template: str, values: Mapping[str, str]) -> str:
    """A template with its fields filled. A part whose fields are all empty goes, its own words and its comma with it; so does one that comes again.

    Raises InputError for a field that is none of FIELDS, a brace without its partner, and an empty template.
    """
    out = []
    for part in _template(template):
        fields = [field for _, field in part if field]
        if not fields or any(values.get(field) for field in fields):
            out.append("".join(text + values.get(field, "") for text, field in part))
    unlike: dict[str, str] = {}
    for part in parts_of(line_of(", ".join(out))):
        unlike.setdefault(part.casefold(), part)
    return ", ".join(unlike.values())


# --- a whole dataset ---


@dataclass(frozen=True)
class CaptionRules:
    """trigger: "" for the dataset's own; source: one of SOURCES; policy: one of POLICIES, what to do about `traits`; edits: from edits_of, in order."""

    trigger: str = ""
    source: str = KEEP
    template: str = DEFAULT_TEMPLATE
    policy: str = OMIT
    traits: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()


def caption_items(dataset: Dataset, rules: CaptionRules, captions: Sequence[str] | None = None) -> Dataset:
    """The dataset with a caption on each item, in one line, and what was done to it in the item's decisions and the dataset's notes.

    In order: the text (rules.source; the template where there is none), line ends and control characters made blanks, ai-toolkit's [trigger]
    and [name] and the dataset's former trigger made the trigger, edits, fixed traits, trigger first and once with the bucket's tag behind it.
    Edits and traits see the text without the parts that are trigger or tag. Traits are described only in buckets that show the face. Sets the dataset's trigger.

    captions: one for each item, for the source `given`. Raises InputError for another number of captions than items, an unknown choice, a template
    or trigger that cannot be used, and `trigger first` where there is no trigger.
    """
    trigger = checked_trigger(one_line(rules.trigger) or dataset.trigger)
    captions = [captions] if isinstance(captions, str) else captions
    for value, choices in ((rules.source, SOURCES), (rules.policy, POLICIES)):
        if value not in choices:
            raise InputError(f"'{excerpt(str(value))}' is not a choice here; choose {', '.join(choices[:-1])} or {choices[-1]}.")
    template_fields = {field for part in _template(rules.template) for _, field in part}
    if not trigger and any(edit.verb == "trigger first" for edit in rules.edits):
        raise InputError("The edit 'trigger first' needs a trigger word; type one in trigger.")
    if rules.source == GIVEN and captions is None:
        raise InputError("The source of the captions is 'given' and none are; connect a list of captions, or choose keep or template.")
    if captions is not None and len(captions) != len(dataset):
        raise InputError(
            f"There {'is' if len(captions) == 1 else 'are'} {counted(len(captions), 'caption')} for {counted(len(dataset))}; give one for each, in the same order."
        )

    traits = tuple(trait for trait in map(one_line, rules.traits) if re.search(r"\w", trait))
    rules = replace(rules, trigger=trigger, traits=traits)
    items, counts, unused = [], Counter(), Counter()
    for number, item in enumerate(dataset.items):
        text, origin, said = _text_for(item, rules, captions[number] if rules.source == GIVEN else None)
        if origin == "template":
            unused.update(field for field, words in item.shot.items() if words and field not in template_fields)
        caption, steps = _finished(text, item, rules, dataset.trigger)
        counts.update(kind for kind, _ in steps)
        # Done again, the same is not said again.
        said = [sentence for sentence in (*said, *(sentence for _, sentence in steps)) if sentence not in item.decisions]
        items.append(replace(item, caption=caption, caption_source=origin if caption else "none", decisions=(*item.decisions, *said)))

    origins = Counter(item.caption_source for item in items)
    notes = [f"Captions: {', '.join(f'{count} from {origin}' for origin, count in origins.items())}."] if items else []
    if captions is not None and rules.source != GIVEN:
        notes.append(f"{counted(len(captions), 'caption')} {'was' if len(captions) == 1 else 'were'} given and not used, since the source is '{rules.source}'.")
    notes += [f"{count} captions leave out {field}: the template has no {{{field}}}." for field, count in unused.items()]
    notes += [f"The edit '{excerpt(_line(edit))}' changed no caption." for edit in rules.edits if items and edit.verb != "trigger first" and not counts[edit]]
    notes += [f"{counts[step]} captions: {step}." for step in _NOTED if counts[step]]
    return replace(dataset, items=tuple(items), trigger=trigger, notes=(*dataset.notes, *(note for note in notes if note not in dataset.notes)))


def _text_for(item: DatasetItem, rules: CaptionRules, given: str | None) -> tuple[str, str, list[str]]:
    """What an item's caption is made from, its caption_source, and what is to be said of that."""
    has_words = bool(line_of(item.caption))
    if given is not None and line_of(given):
        return given, "input", [f"The caption was replaced by the given one; it was: {item.caption}"] if has_words and item.caption != given else []
    if rules.source != TEMPLATE and has_words:
        why = ["The given caption is empty, so the one that was there stays."] if given is not None else []
        return item.caption, "input" if item.caption_source == "none" else item.caption_source, why
    # What the caption says is sorted into the fields by its words, and what fits none of them is `other`: nothing is lost that the template asks for.
    said = parse_caption(item.caption, rules.trigger, item.bucket.tag)
    fields = {**said.fields, **{field: line_of(words) for field, words in item.shot.items()}, "other": ", ".join(said.rest)}
    text = composed(rules.template, {"trigger": rules.trigger, "framing": item.framing or framing_of(item.caption), **fields})
    why = ", since the given one is empty" if given is not None else ", since there was none" if not has_words else ""
    was = f"; it was: {item.caption}" if has_words and item.caption != text else "."
    return text, "template", [f"The caption was made from the template{why}{was}"]


# The steps that a dataset's notes count.
_LINES, _CONTROLS, _NAMED, _OMITTED, _ADDED, _STAYED, _HIDDEN = _NOTED = (
    "line ends became blanks",
    "control characters became blanks",
    "[trigger], [name] or the former trigger became the trigger",
    "fixed traits were taken out",
    "fixed traits were put in",
    "fixed traits stay inside a longer sentence, to be reworded by hand",
    "fixed traits were not put in, since the bucket shows no face",
)


def _finished(text: str, item: DatasetItem, rules: CaptionRules, former: str) -> tuple[str, list[tuple[object, str]]]:
    """The caption, and for each step that changed it what to count it under and a sentence. An edit is counted under itself."""
    trigger, tag = rules.trigger, item.bucket.tag
    steps: list[tuple[object, str]] = []
    caption = line_of(text)
    if re.search(r"[\n\r\v\f\x85\u2028\u2029]", text.strip()):
        steps.append((_LINES, "Line ends in the caption became blanks."))
    if re.search(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff]", text):
        steps.append((_CONTROLS, "Control characters in the caption became blanks."))
    if trigger:
        before, caption = caption, re.sub(r"\[(?:trigger|name)\]", lambda _: trigger, caption)
        if former and former.casefold() != trigger.casefold():
            caption = whole_words(former).sub(lambda _: trigger, caption)
        if caption != before:
            steps.append((_NAMED, f"[trigger], [name] or the former trigger became {trigger} in the caption."))

    body = _without_front(caption, trigger, tag)
    for edit in rules.edits:
        before, body = body, edited(body, edit)
        if body != before:
            steps.append((edit, f"The caption was edited: {_line(edit)}"))
    named = [trait for trait in rules.traits if trait_words(trait).search(body)]
    if rules.policy == OMIT and named:
        before = body
        for trait in named:
            body = _without_trait(body, trait)
        if body != before:
            steps.append((_OMITTED, f"Fixed traits were taken out of the caption; it was: {before}"))
        if any(trait_words(trait).search(body) for trait in named):
            steps.append((_STAYED, "Fixed traits stay in the caption, inside a longer sentence; reword it by hand."))
    elif rules.policy == DESCRIBE and len(named) < len(rules.traits):
        if item.bucket.faces:
            body = _with_traits(body, rules.traits)
            steps.append((_ADDED, "Fixed traits were put into the caption."))
        else:
            steps.append((_HIDDEN, "Fixed traits were not put into the caption, since the bucket shows no face."))

    final = _trigger_first(body, trigger, tag)
    front = ", ".join(word for word in (trigger, tag) if word)
    if final != caption and not (steps and caption.startswith(front) and final == ", ".join(filter(None, (front, body)))):
        was = "." if steps else f"; the caption was: {caption}"
        steps.append(("front", f"Trigger word and tag were put first and once{was}" if caption else "The caption is trigger word and tag alone."))
    return final, steps


def _without_front(caption: str, trigger: str, tag: str) -> str:
    """The caption without the parts that are trigger or tag, so that what an edit adds first comes behind them."""
    left_out = {word.casefold() for word in (trigger, tag) if word}
    return ", ".join(part for part in parts_of(caption) if part.casefold() not in left_out)


def _line(edit: Edit) -> str:
    return edit.written or f"{edit.verb}: {edit.words}"


# --- captions beside pictures ---


def sidecar_caption(picture: Path) -> tuple[str, str] | None:
    """The caption in the text file of a picture's name, and what it is from, to be said; None where there is no such file.

    `.txt` comes before `.caption`. The text is one line, maybe empty; the lines of a file of several are joined with `, `, since sd-scripts would read
    the first alone. What it is from is the file's name, and that lines were joined, that it is empty, or that the other file was left. Raises
    InputError for a file that cannot be read, is not UTF-8, or is no caption by its size.
    """
    found = [file for file in (picture.with_suffix(".txt"), picture.with_suffix(".caption")) if file.is_file()]
    if not found:
        return None
    file, *others = found
    try:
        if file.stat().st_size > LARGEST_SIDECAR:
            raise InputError(f"{file} has {file.stat().st_size} bytes, too many for a caption; move it away or shorten it.")
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"The caption {file} is not UTF-8 text; save it in that encoding.") from None
    except OSError as error:
        raise InputError(f"The caption {file} cannot be read ({error.strerror or error}); mend that or move it away.") from None
    lines = [line.rstrip(" ,") for line in map(one_line, text.splitlines()) if line.strip(" ,")]
    joined = f", its {len(lines)} lines joined by commas" if len(lines) > 1 else "" if lines else ", which is empty"
    ignored = f"; {others[0].name} was not read" if others else ""
    return ", ".join(lines), f"{file.name}{joined}{ignored}"
