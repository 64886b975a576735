"""A sweep while it runs, as its node in the editor shows it. About the host."""

from collections.abc import Sequence
from contextlib import suppress

from .. import host
from ..host import LiveNode
from ..identity import drawing
from ..pictures import small_copy
from ..telling import Clock, told
from .sweep import Shot, Shown, Watch, cell_label
from .sweep_studio import Studio


class Showing(Watch):
    """Shows a sweep in its node: progress with the time left, and each new picture. seconds: of each new one."""

    def __init__(self, node: LiveNode, count: int, hook, save=None):
        self._node, self._count, self._hook, self._save, self._clock = node, count, hook, save, Clock()
        self._known = self._first = self._now = 0
        # Each with its number; a batch that does not fit into memory is begun once more, in parts.
        self._begun: dict[Shot, int] = {}
        self._about = ""
        self.seconds: list[float] = []

    def plan(self, pictures: int, remembered: int) -> None:
        self._clock.plan(pictures)
        self._known = remembered

    def begin(self, shots: Sequence[Shot]) -> None:
        for shot in shots:
            self._begun.setdefault(shot, len(self._begun))
        self._first, self._now = self._known + self._begun[shots[0]], len(shots)
        checkpoint, strength = shots[0].checkpoint, shots[0].strength
        what = cell_label(checkpoint, strength)
        which = f"Picture {self._first + 1}" if self._now == 1 else f"Pictures {self._first + 1} to {self._first + self._now}"
        self._about = f"{which} of {self._count}: {what}"
        self._tell()
        self._hook({"event": "sweep", "done": self._first, "total": self._count})

    def step(self, done: int, steps: int, preview) -> None:
        begun = self._first - self._known + self._now * done / steps
        self._clock.advance(begun)
        self._node.progress(self._known + begun, self._count, preview)
        self._tell()

    def _tell(self) -> None:
        left = self._clock.left
        self._node.tell(self._about if left is None else f"{self._about}, about {told(left)} left")

    def finished(self, shown: Shown, image) -> None:
        if image is None:
            return
        if self._save is not None:
            self._save(shown, image)
        if shown.remembered:
            return
        self.seconds.append(shown.seconds)
        with suppress(OSError):
            pixels = small_copy(Studio.picture(image).pixels, host.PREVIEW_SIDE)
            self._node.show(drawing.badge(pixels, shown.judgement, self._known + len(self.seconds)))

    def dropped(self, pictures: int) -> None:
        self._clock.plan(-pictures)
        self._count -= pictures

    def check(self) -> None:
        self._node.check()
