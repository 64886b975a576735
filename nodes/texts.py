"""Words of users made fit for one line: shared by all that read prompts, captions and plans."""

import unicodedata


def one_line(text: str) -> str:
    """The text without line ends, control characters and lone surrogates, each run of blanks made one."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") or c == "\ufeff" else c for c in text).split())


def excerpt(text: str) -> str:
    """The text, short enough for an error message."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def entries_of(text: str) -> list[str]:
    """The lines of a list that a user typed, each made one line; blank ones and those that begin with # do not count."""
    return [line for line in map(one_line, text.splitlines()) if line and not line.startswith("#")]
