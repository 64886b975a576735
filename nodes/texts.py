"""Words of users made fit for one line: shared by all that read prompts, captions and plans."""

import unicodedata
from collections.abc import Iterable, Sequence


def one_line(text: str) -> str:
    """The text without line ends, control characters and lone surrogates, each run of blanks made one."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") or c == "\ufeff" else c for c in text).split())


def excerpt(text: str) -> str:
    """The text, short enough for an error message."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def entries_of(text: str) -> list[str]:
    """The lines of a list that a user typed, each made one line; blank ones and those that begin with # do not count."""
    return [line for line in map(one_line, text.splitlines()) if line and not line.startswith("#")]


def markdown_cell(text: str) -> str:
    """A user's text on one line, without anything that Markdown or HTML would take for its own."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{sign}" if sign in "\\`*_[]|~#" else sign for sign in text)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table in GitHub's Markdown."""
    lines = [columns, ["---"] * len(columns), *([markdown_cell(str(value)) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
