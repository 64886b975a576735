"""Taking a shot again until it passes: which take is the best, which nodes a retake runs again, and when two takes are the same. No picture is scored here."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

MOST_TAKES = 64
SEEDS = 2**64


@dataclass(frozen=True, eq=False)
class Take:
    """One attempt at a shot. number: from 0; image: float [B,H,W,3], None when it failed or was let go; judgement: a scoring.Judgement, where it
    was judged; error: why it failed; remembered: it was made in an earlier run."""

    number: int
    seed: int
    image: object = None
    judgement: object = None
    error: str = ""
    remembered: bool = False

    @property
    def score(self) -> float | None:
        return None if self.judgement is None else self.judgement.score

    @property
    def passes(self) -> bool:
        return not self.error and (self.judgement is None or self.judgement.goes == "passed")

    def beats(self, other: "Take | None") -> bool:
        """Whether it is kept instead of the other: one that passes before one that does not, then the higher score, then the earlier take."""
        return other is None or self._rank > other._rank

    @property
    def _rank(self) -> tuple[bool, float, int]:
        # Without a face the score is lower than any that a face can get.
        return self.passes, -2.0 if self.score is None else self.score, -self.number


def seed_of(first: int, take: int) -> int:
    """The seed of a take: the one after the last, beginning again beyond the highest."""
    return (first + take) % SEEDS


Link = list
Inputs = Mapping[str, object]


def links(inputs: Inputs) -> Iterable[tuple[str, str, int]]:
    """(input, node, output) of the inputs that are wired, in the form of the host's prompts: [node, output]."""
    for name, value in inputs.items():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
            yield name, value[0], value[1]


def body(inputs_of: Callable[[str], Inputs], start: str, end: str) -> list[str]:
    """The nodes that a retake runs again: those that depend on `start` and that `end` depends on, both included, each behind those it depends on.

    inputs_of: the inputs of a node by its id. Empty where `end` does not depend on `start`.
    """
    depends: dict[str, bool] = {start: True}
    order: list[str] = []
    # Without recursion: a graph may be deeper than Python's stack.
    waiting = [(end, iter([node for _, node, _ in links(inputs_of(end))]))]
    opened = {end}
    while waiting:
        node, rest = waiting[-1]
        child = next(rest, None)
        if child is None:
            waiting.pop()
            depends[node] = any(depends.get(wired) for _, wired, _ in links(inputs_of(node)))
            if depends[node]:
                order.append(node)
        elif child not in opened and child != start:
            opened.add(child)
            waiting.append((child, iter([wired for _, wired, _ in links(inputs_of(child))])))
    return [start, *order] if order else []


def signature(
    inputs_of: Callable[[str], Inputs], state_of: Callable[[str], object], start: str, seed: int, node: str, output: int, number: int = 0
) -> str | None:
    """What an output depends on, with `seed` and `number` as what `start` gives: equal signatures give equal pictures.

    state_of: what a node adds to its inputs, such as the content of a file; None where that cannot be told, and then there is no signature.
    """
    known: dict[str, str | None] = {start: f"take {seed} {number}"}
    waiting = [node]
    while waiting:
        current = waiting[-1]
        inputs = inputs_of(current)
        missing = [wired for _, wired, _ in links(inputs) if wired not in known]
        if current in known:
            waiting.pop()
        elif missing:
            if missing[0] in waiting:
                return None
            waiting.append(missing[0])
        else:
            known[current] = _signature(inputs, state_of(current), known)
            waiting.pop()
    return None if known[node] is None else f"{known[node]} {output}"


def _plain(value: object) -> bool:
    """Whether a text of it tells all of it; inside other packs' expansions a picture may stand there, whose text leaves out most."""
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(map(_plain, (*value, *value.values())))
    return value is None or isinstance(value, (str, int, float, bool))


def _signature(inputs: Inputs, state: object, known: Mapping[str, str | None]) -> str | None:
    wired = {name: (known[node], output) for name, node, output in links(inputs)}
    if state is None or any(of is None for of, _ in wired.values()) or not all(name in wired or _plain(value) for name, value in inputs.items()):
        return None
    parts = [repr(state), *(f"{name}={wired.get(name, inputs[name])!r}" for name in sorted(inputs))]
    return hashlib.blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=16).hexdigest()
