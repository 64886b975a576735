"""What is wrong with captions, line by line, and text made safe for every trainer. Nothing here changes a dataset's captions: that is captions.py.

What the trainers do with text was read in their code: ai-toolkit of August 2026, musubi-tuner of June 2026, sd-scripts of February 2026.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import InputError
from ..framing import VARIETY
from ..texts import excerpt, one_line
from .dataset import ATTENTION, BLOCKED, Dataset, DatasetItem, Finding
from .wording import framing_of, line_of, parts_of, trait_words, whole_words

# More tags than this spread what is to be learnt over too many words (the guides' practice).
MOST_TAGS = 25
# What the text encoders read: T5 of FLUX 512 tokens (sd-scripts), Qwen 1024 (musubi-tuner).
MOST_TOKENS = 512
MOST_CHARACTERS = 10_000
# Shots of one prompt with up to four seeds have one caption; from five pictures on it tells nothing apart.
SAME_CAPTION = 5

# Words that every base model knows and that people take for a trigger: who, what kind of picture, what it shows, and frequent first names.
ORDINARY_WORDS = frozenset(
    """
    woman women man men girl boy girls boys lady guy female male person people human child kid baby teen teenager adult mother father sister brother
    daughter son wife husband friend couple model actor actress singer character subject somebody someone hero heroine villain king queen prince princess
    knight warrior soldier witch wizard angel demon elf vampire robot alien doll me myself you her him she he
    face head hair eyes eye body skin hand hands legs torso portrait closeup photo photograph picture image selfie headshot shot art style painting
    drawing render anime cartoon comic realistic realism real photorealistic cinematic film movie beauty beautiful pretty cute handsome young old sexy
    new the a an my our test trigger token name subject1 object thing class instance concept dataset training train lora
    red green blue black white pink purple orange yellow brown blonde blond brunette ginger golden silver grey gray dark light bright
    dress coat jacket shirt suit clothes fashion summer winter spring autumn sun moon star sky sea ocean river mountain forest city street house home
    dog cat horse bird wolf fox lion tiger bear dragon flower rose lily daisy violet iris ruby jade amber pearl diamond crystal hope grace joy faith
    anna emma olivia sophia sophie mia ava amelia ella emily lucy lily laura sarah sara maria marie julia alice eva eve kate jane rose linda lisa nina
    clara hannah chloe zoe victoria elena natalia diana james john robert michael david william thomas daniel mark paul peter george jack adam alex
    max leo ben sam tom luke liam noah oliver henry oscar victor martin simon
    """.split()
)


# --- what trainers and encoders read as something else than words ---


@dataclass(frozen=True)
class _Sign:
    """Text that is read as a command. mark: one of its characters, for a quick look; mend: what it is made, given the match and the trigger; None where
    only its author knows what was meant."""

    rule: str
    level: str
    mark: str
    pattern: re.Pattern
    why: str
    advice: str
    mend: Callable[[re.Match, str], str] | None = None


_SIGNS = (
    # toolkit/config.py replaces ${NAME} in the whole text of a configuration, over line ends too, and raises ValueError for a name that is not set.
    # Captions it reads from files are left alone; sample prompts and default captions stand in the configuration. $NAME is nothing to it.
    _Sign(
        "environment-variable",
        BLOCKED,
        "$",
        re.compile(r"\$\{"),
        "in its configuration ai-toolkit puts an environment variable there, or stops",
        "leave the $ out",
        lambda found, trigger: "$ {",
    ),
    # toolkit/prompt_utils.py; [name] is the job's name in a configuration (toolkit/config.py). Nobody else replaces them.
    _Sign(
        "placeholder",
        ATTENTION,
        "[",
        re.compile(r"\[(?:trigger|name)\]"),
        "ai-toolkit puts the trigger word there, or nothing, and other trainers train on the brackets",
        "write the trigger word itself",
        lambda found, trigger: trigger or f"({found[0][1:-1]})",
    ),
    # The special tokens of the tokenizers of Qwen2.5-VL, CLIP and T5, which split them out of any text.
    _Sign(
        "special-token",
        ATTENTION,
        "<",
        re.compile(r"<(\|\w+\||/?s|pad|unk|extra_id_\d+)>"),
        "the text encoder takes it for a command, such as the end of the text",
        "leave it out",
        lambda found, trigger: f"< {found[1]} >",
    ),
    # sd-scripts draws one of {a|b} with enable_wildcard (process_caption in library/train_util.py), which an export never sets. Doubling the braces
    # would be wrong then: they stay doubled.
    _Sign(
        "braces",
        ATTENTION,
        "{",
        re.compile(r"(?<!\$)\{[^{}]*\}"),
        "it is a choice or a field that nobody filled in, and is trained on as it stands",
        "write what the picture shows",
    ),
    # sd-scripts reads weights with weighted_captions only, which its FLUX tokenizer does not know; the others never.
    _Sign(
        "prompt-syntax",
        ATTENTION,
        "(",
        re.compile(r"\([^()]*:\s*(?:\d+(?:\.\d+)?|\.\d+)\)"),
        "no trainer here reads weights, so it is trained on as it stands",
        "write the words alone",
    ),
    _Sign(
        "prompt-syntax",
        ATTENTION,
        "<",
        re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>"),
        "it loads nothing in training and is trained on as it stands",
        "leave it out",
    ),
)


@dataclass(frozen=True)
class SafeText:
    """text: one line that means itself to every trainer; changes: what had to be changed for that, a sentence each."""

    text: str
    changes: tuple[str, ...] = ()


def safe_caption(text: str, trigger: str = "") -> SafeText:
    """A caption that ai-toolkit, musubi-tuner and sd-scripts read alike, and the text encoders as words: one line, ${, [trigger], <|im_end|> taken apart.

    [trigger] and [name] become the trigger, where there is one. Braces, --, #, quotes and the syntax of YAML and TOML mean themselves in caption files.
    Raises InputError for an empty text.
    """
    line = one_line(text)
    changes = ["Line ends, control characters or runs of blanks became single blanks."] if line != text.strip() else []
    for sign in _SIGNS:
        if sign.mend and sign.mark in line:
            line, before = sign.pattern.sub(lambda found, mend=sign.mend: mend(found, trigger), line), line
            if line != before:
                changes.append(f"{_quoted(sign.pattern.search(before)[0])} was rewritten, since {sign.why}.")
    if not line:
        raise InputError("A caption or prompt is empty; write what the picture shows.")
    return SafeText(line, tuple(changes))


_PROMPT_ONLY = (
    # ai-toolkit splits at every -- (toolkit/config_modules.py), the others at ` --`.
    (re.compile(r"-{2,}"), "\u2014", "-- begins a flag in a sample prompt, so it became a dash."),
    (re.compile(r"\A#"), "\uff03", "A line of a prompt file that begins with # is skipped, so it became the full-width sign."),
    # line_to_prompt_dict of sd-scripts (library/train_util.py) and musubi-tuner (training/sampling_prompts.py) looks for flags in the prompt's beginning, too.
    (
        re.compile(r"(?i)\A([whdsf](?= \d)|(?:l|g|fs)(?= [\d.])|(?:n|i|ss|cn|ctr|rcfg|fs|ei|ci|of)(?= .))"),
        r"\1,",
        "The prompt begins like a flag of sd-scripts or musubi-tuner, so a comma was put behind its first word.",
    ),
)


def safe_prompt(text: str, trigger: str = "") -> SafeText:
    """A sample prompt that means itself in ai-toolkit's configuration and as a line of a prompt file of musubi-tuner and sd-scripts.

    As safe_caption, and -- becomes a dash, # at the beginning the full-width sign, and a first word that is a flag, such as n, i, of or `s 3`, gets a
    comma. In a prompt file of JSON or TOML the last two would not be needed. Raises InputError for an empty text.
    """
    safe = safe_caption(text, trigger)
    line, changes = safe.text, list(safe.changes)
    for pattern, mended, why in _PROMPT_ONLY:
        line, count = pattern.subn(mended, line)
        changes += [why] if count else []
    return SafeText(line, tuple(changes))


# --- lint ---

RULES = frozenset(
    (
        "no-trigger",
        "ordinary-trigger",
        "trigger-missing",
        "trigger-not-first",
        "trigger-twice",
        "trigger-inside-word",
        "empty-caption",
        "line-break",
        "over-captioned",
        "long-caption",
        "same-caption",
        "caption-framing",
        "fixed-trait",
        "bucket-tag",
        *(sign.rule for sign in _SIGNS),
    )
)


def lint(dataset: Dataset, traits: Sequence[str] = (), needs_trigger: bool = True) -> Dataset:
    """The dataset with what is to be said of its captions and trigger word among the findings; those of RULES from before are replaced.

    traits: fixed ones that captions were to omit; none where they were to be described. needs_trigger: whether a dataset without a trigger is blocked.
    Blocked are a missing trigger word, an empty caption and `${`, which make a training useless or stop it; all else needs attention.
    """
    trigger = one_line(dataset.trigger)
    about = [finding for finding in dataset.findings if finding.rule not in RULES]
    if not trigger:
        if needs_trigger:
            about.append(Finding(BLOCKED, "no-trigger", "The dataset has no trigger word, so nothing would call the character up; type one in Captions."))
    elif ordinary := _ordinary(trigger):
        about.append(Finding(ATTENTION, "ordinary-trigger", ordinary))
    lines = [line_of(item.caption).casefold() for item in dataset.items]
    said_by = Counter(lines)
    checked = tuple(trait for trait in map(one_line, traits) if re.search(r"\w", trait))
    items = []
    for item, line in zip(dataset.items, lines):
        found = _EMPTY if not line else [*_about_text(item), *_about_trigger(item, trigger), *_about_content(item, trigger, checked)]
        if line and said_by[line] >= SAME_CAPTION:
            why = f"{said_by[line]} pictures have this caption, so what differs in them goes into the trigger word; say what each shows."
            found.append((ATTENTION, "same-caption", why))
        findings = tuple(Finding(level, rule, f"{item.stem}: {text}") for level, rule, text in found)
        others = tuple(finding for finding in item.findings if finding.rule not in RULES)
        items.append(replace(item, findings=(*others, *findings)) if findings or item.findings else item)
    return replace(dataset, items=tuple(items), findings=tuple(about))


def _quoted(text: str) -> str:
    return f"'{excerpt(text)}'"


def _ordinary(trigger: str) -> str:
    """Why a trigger is no good one; "" for one that is made up: a word of ORDINARY_WORDS, its plural too, or fewer than four of a to z without a digit."""
    words = re.findall(r"\w+", trigger.casefold())
    if words and all(word in ORDINARY_WORDS or word.removesuffix("s") in ORDINARY_WORDS for word in words):
        return f"The trigger word {_quoted(trigger)} is an ordinary word, so training fights with what the model knows by it; make one up, such as mira_k7."
    if len(trigger) < 4 and trigger.isascii() and not re.search(r"\d", trigger):
        return f"The trigger word {_quoted(trigger)} is so short that it is part of other words or known already; make up a longer one, such as mira_k7."
    return ""


# (level, rule, sentence without the stem)
_Found = list[tuple[str, str, str]]
_EMPTY: _Found = [
    (
        BLOCKED,
        "empty-caption",
        "the caption is empty: sd-scripts stops at an empty caption file, and musubi-tuner leaves out pictures without one and does not say so; write one.",
    )
]


# Control characters, line and paragraph separators, lone surrogates, byte order marks.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")


def _about_text(item: DatasetItem) -> _Found:
    caption, found = item.caption, []
    if _CONTROL.search(caption):
        found.append(
            (ATTENTION, "line-break", "the caption has line ends or control characters, and sd-scripts reads its first line only; put it in one line.")
        )
    for sign in _SIGNS:
        if sign.mark in caption and (match := sign.pattern.search(caption)):
            found.append((sign.level, sign.rule, f"the caption contains {_quoted(match[0])}: {sign.why}; {sign.advice}."))
    # English has four letters to a token with the tokenizers of T5 and Qwen; what is not ASCII has up to a token for each character.
    other = 0 if caption.isascii() else sum(not character.isascii() for character in caption)
    tokens = (len(caption) - other) // 4 + other
    if tokens > MOST_TOKENS or len(caption) > MOST_CHARACTERS:
        length = f"the caption has {len(caption)} characters, about {tokens} tokens"
        found.append((ATTENTION, "long-caption", f"{length}; FLUX reads {MOST_TOKENS} tokens and Qwen-Image 1024, the rest is not trained on; shorten it."))
    return found


def _about_trigger(item: DatasetItem, trigger: str) -> _Found:
    if not trigger:
        return []
    caption, name = item.caption, f"the trigger word {_quoted(trigger)}"
    written = list(whole_words(trigger).finditer(caption))
    # As it is spelt: ai-toolkit and the tokenizers tell capitals from small letters.
    places = [match.start() for match in written if match[0] == trigger]
    longer = _longer_word(caption, trigger, {match.start() for match in written})
    if not places and longer and not written:
        return [(ATTENTION, "trigger-inside-word", f"{name} is there only as a part of {_quoted(longer)}; put it first, by itself.")]
    if not places:
        return [(ATTENTION, "trigger-missing", f"{name} {f'is written {_quoted(written[0][0])}' if written else 'is missing'}; put it first.")]
    found: _Found = []
    if caption[: places[0]].strip():
        found.append((ATTENTION, "trigger-not-first", f"{name} is not the first of the caption; put it first."))
    if len(places) > 1:
        found.append((ATTENTION, "trigger-twice", f"{name} is there {len(places)} times; once is enough."))
    if longer:
        found.append((ATTENTION, "trigger-inside-word", f"{name} is part of {_quoted(longer)}, too; take another trigger word, or another word than that."))
    return found


def _longer_word(caption: str, trigger: str, whole: set[int]) -> str:
    """The first word that contains the trigger and more, "" for none. whole: where the trigger stands by itself."""
    for match in re.finditer(re.escape(trigger), caption, re.IGNORECASE):
        start, end = match.span()
        if start not in whole:
            while start and (caption[start - 1].isalnum() or caption[start - 1] == "_"):
                start -= 1
            return caption[start:end] + re.match(r"\w*", caption[end:])[0]
    return ""


def _about_content(item: DatasetItem, trigger: str, traits: Sequence[str]) -> _Found:
    found: _Found = []
    tag, parts = item.bucket.tag, list(map(str.casefold, parts_of(item.caption)))
    count = sum(part not in (trigger.casefold(), tag.casefold()) for part in parts)
    if count > MOST_TAGS:
        found.append((ATTENTION, "over-captioned", f"the caption has {count} tags, more than {MOST_TAGS}; keep those that the picture would be asked for by."))
    if tag and tag.casefold() not in parts:
        found.append((ATTENTION, "bucket-tag", f"the tag {_quoted(tag)} of the bucket {item.bucket.name} is missing; put it behind the trigger word."))
    said = framing_of(item.caption)
    if said and item.framing and said != item.framing:
        found.append((ATTENTION, "caption-framing", f"the caption says {said}, the picture was made as {item.framing}; correct one of them."))
    elif said and _far(said, measured := str(item.measured.get("framing") or "")):
        found.append((ATTENTION, "caption-framing", f"the caption says {said}, the picture measures as {measured}; correct the caption."))
    named = [trait for trait in traits if trait_words(trait).search(item.caption)]
    if named:
        found.append((ATTENTION, "fixed-trait", f"the caption names {', '.join(named)}, which the trigger word is to stand for; leave it out."))
    return found


def _far(said: str, measured: str) -> bool:
    """Whether a measured framing contradicts a caption: neighbours in VARIETY do not, since the line between them is a matter of taste."""
    if not measured or measured == said:
        return False
    return not (said in VARIETY and measured in VARIETY and abs(VARIETY.index(said) - VARIETY.index(measured)) == 1)
