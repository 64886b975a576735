"""The smallest graph that a help page draws in text, as nodes and links, and where its nodes stand in the page's picture; no test and no editor lives here.

The drawing of a page is the one description of that graph: help_pictures.py builds it in the editor and takes the picture. Its lines:

    Load Image (the character)                  a node by its title; in brackets what tells it from others of its kind
      IMAGE ─> Character Identity               one of its outputs, and the node that it goes to, there into the first free socket that takes it
        identity ─> image0 of Identity Gate     an output of the node that the line above goes to; the input by name

A title stands for one node wherever it comes again.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

DOCS = ROOT / "js" / "docs"
# Parts of Face Swap (ReActor), which no menu shows: nobody can place them, so their pages draw nothing.
PARTS = {"LikenessFaceSwapCollector", "LikenessFaceSwapPictures"}
PAGES = sorted(path.stem for path in DOCS.glob("*.md") if path.stem not in PARTS)
LINK = re.compile(r"(?P<indent> +)(?P<output>\S(?:.*?\S)?) ─+> (?:(?P<input>\w+) of )?(?P<target>\S.*)")

TITLE = 30  # height of a node's title bar in the editor, which its size leaves out
GAP_X, GAP_Y = 42, 34
LANE = 26  # how far below a link that passes a column the first node of the column stands


@dataclass(frozen=True)
class Link:
    """From an output to a node; input: the name of its input, empty for the first free one that takes the output."""

    source: str
    output: str
    target: str
    input: str = ""


def page_file(node: str) -> Path:
    return DOCS / f"{node}.md"


def picture_file(node: str) -> Path:
    return DOCS / f"{node}.webp"


def drawing(node: str) -> str:
    """The drawn text of a node's page: its first block of code."""
    return page_file(node).read_text(encoding="utf-8").split("```")[1].strip("\n")


def described_as(node: str) -> str:
    """What the file of a page's picture says of itself: the drawn text, in the ASCII that Exif takes."""
    return drawing(node).replace("─", "-")


def links(text: str) -> list[Link]:
    """The links of a drawn text, in its order. ValueError on a line that is none of those above."""
    found, above = [], []  # above: (indent, title) of the nodes that a line may hang on
    for line in text.splitlines():
        if not line.startswith(" ") and line == line.strip() and line and "─" not in line:
            above = [(0, line)]
            continue
        match = LINK.fullmatch(line)
        above = [(indent, title) for indent, title in above if match and indent < len(match["indent"])]
        if not above:
            raise ValueError(f"neither a node nor an output of one: {line!r}")
        found.append(Link(above[-1][1], match["output"], match["target"], match["input"] or ""))
        above.append((len(match["indent"]), match["target"]))
    return found


def titles(graph: list[Link]) -> list[str]:
    """The nodes of a graph, each once, in the order in which they come."""
    return list(dict.fromkeys(title for link in graph for title in (link.source, link.target)))


def columns(graph: list[Link]) -> list[list[str]]:
    """The nodes from left to right, each as near to what it goes to as it can stand, and each column in the order of the drawn text."""
    order = titles(graph)

    def behind(title: str) -> int:
        """How many columns a node needs on its right."""
        return max((behind(link.target) + 1 for link in graph if link.source == title), default=0)

    def before(title: str) -> int:
        return max((before(link.source) + 1 for link in graph if link.target == title), default=0)

    depth = max(before(title) for title in order)
    # What nothing goes out of stands right behind what it comes from, not at the far right.
    at = {title: before(title) if not behind(title) else depth - behind(title) for title in order}
    return [[title for title in order if at[title] == column] for column in range(depth + 1)]


def places(graph: list[Link], sizes: dict[str, tuple[float, float]], ends: list[tuple[float, float]]) -> dict[str, tuple[float, float, float]]:
    """(x, y, width) of each node: its upper left corner below its title bar, and a width that its column shares. sizes: width and height without that bar.

    ends: for each link how far below these corners it leaves and enters. A link that passes a column goes above that column's nodes.
    """
    found, stacks, x = {}, columns(graph), 0.0
    at = {title: column for column, stack in enumerate(stacks) for title in stack}
    for column, stack in enumerate(stacks):
        passing = [
            level
            for link, (leaves, enters) in zip(graph, ends, strict=True)
            if at[link.source] < column < at[link.target]
            for level in (found[link.source][1] + leaves, TITLE + enters)
        ]
        width = max(sizes[title][0] for title in stack)
        y = max([TITLE, *(level + LANE + TITLE for level in passing)])
        for title in stack:
            found[title] = (x, y, width)
            y += sizes[title][1] + GAP_Y + TITLE
        x += width + GAP_X
    return found
