"""Taking a shot again until it passes: which take is the best, which nodes a retake runs again, and when two takes are the same. No picture is scored here."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Flow:
    """Which take this is. first: the seed of take 0; number: from 0; prompt: the run it was begun in, as the host names it; begun: when, in seconds."""

    first: int
    number: int
    prompt: str
    begun: float


@dataclass(eq=False, repr=False)
class History:
    """The takes of one run so far; of all but the best only the figures stay. shown: small pictures of them; live: the node that shows them."""

    takes: list[Take] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    best: Take | None = None
    shown: list = field(default_factory=list)
    live: object = None
    seconds: list[float] = field(default_factory=list)

    def time(self, flow: Flow, prompt: str) -> None:
        """Note how long the take of that flow took; one that the host still had from an earlier run than `prompt` took no time."""
        if flow.prompt == prompt:
            self.seconds.append(time.monotonic() - flow.begun)

    def left(self, takes: int) -> float | None:
        """Seconds that so many takes need; None before one was made. The first loads models, so it counts only as long as it is the only one."""
        made = self.seconds[1:] or self.seconds
        return takes * sum(made) / len(made) if made else None

    def add(self, take: Take, key: bytes) -> None:
        if take.beats(self.best):
            self.best = take
        self.takes.append(Take(take.number, take.seed, None, take.judgement, remembered=take.remembered))
        self.keys.append(key)

    @property
    def repeats(self) -> int | None:
        """The earlier take of which the last one is a copy: the graph does not follow the seed."""
        return self.keys.index(self.keys[-1]) if self.keys[-1] in self.keys[:-1] else None


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
