"""Which pictures are made, in which order, and which take of a shot is kept: encode all, then sample and decode in groups. Knows neither host nor model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..identity.retakes import Take, seed_of
from .shots import Shot

# Prompts encoded ahead of sampling: with two references one conditioning takes about 7 MB.
ENCODED_AHEAD = 64
OUT_OF_MEMORY = "out of memory: take fewer or smaller references, a smaller size, or a smaller model file"


@dataclass(frozen=True)
class Job:
    """One shot to make. prompt: complete; seed: of its first take."""

    shot: Shot
    prompt: str
    seed: int

    def seed_of(self, take: int) -> int:
        return seed_of(self.seed, take)


@dataclass(eq=False)
class Outcome:
    """What came of one shot: its kept take, and what the others scored."""

    job: Job
    kept: Take | None = None
    tried: list[Take] = field(default_factory=list)

    @property
    def error(self) -> str:
        return "" if self.kept is not None else "; ".join(dict.fromkeys(take.error for take in self.tried if take.error))

    def add(self, take: Take) -> None:
        """Keep it when it beats the one before. Of the others only the figures stay."""
        if take.image is not None and take.beats(self.kept):
            self.kept = take
        self.tried.append(replace(take, image=None))


class Watch:
    """What a run tells while it goes on; each does nothing here. Any of them may raise to stop it (the host's interrupt)."""

    def plan(self, samples: int) -> None:
        """So many pictures more will be sampled: the first takes of the whole run at its beginning, further ones as they become known; negative for
        pictures that turned out to be there."""

    def shot(self, number: int, count: int, take: int) -> None:
        """Sampling of a picture begins."""

    def step(self, done: int, steps: int, preview) -> None:
        """One step of it is done."""

    def judged(self, index: int, take: Take) -> None:
        """A take of a shot has its judgement."""

    def finished(self, index: int, take: Take) -> None:
        """A shot has its picture."""

    def check(self) -> None:
        """Called between two pieces of work."""


def shoot(
    jobs: Sequence[Job],
    studio,
    memory: "PictureMemory",
    judge: Callable[[object, Shot], object] | None = None,
    max_takes: int = 1,
    group: int = 4,
    watch: Watch | None = None,
) -> list[Outcome]:
    """Make every job's picture, in order.

    studio: render.Studio or what acts like one; memory: pictures made before come from it and each new one goes into it at once, so that a run
    that is stopped loses nothing; judge(image, shot): a judgement, without which the first take is kept. A shot whose judgement does not pass is
    taken again with the next seed, up to max_takes. Each model is loaded once per group and take, not once per shot. A shot that runs out of
    memory says so in its outcome, and the others go on.
    """
    run = _Run(jobs, studio, memory, judge, watch or Watch())
    run.plan()
    for start in range(0, len(jobs), ENCODED_AHEAD):
        run.shoot(range(start, min(start + ENCODED_AHEAD, len(jobs))), max_takes, group)
    return run.outcomes


class _Run:
    def __init__(self, jobs, studio, memory, judge, watch):
        self.outcomes = [Outcome(job) for job in jobs]
        self.studio, self.memory, self.judge, self.watch = studio, memory, judge, watch
        self.planned: set[int] = set()

    def plan(self) -> None:
        """Plan the first takes of all shots, so that the time left is that of the whole run."""
        self.planned = {index for index in range(len(self.outcomes)) if not self.memory.knows(self._key(index, 0))}
        if self.planned:
            self.watch.plan(len(self.planned))

    def shoot(self, indices: Sequence[int], max_takes: int, group: int) -> None:
        conditionings: dict[str, object] = {}
        unfinished = list(indices)
        for number in range(max_takes):
            missing = [index for index in unfinished if not self._remember(index, number)]
            planned = len(self.planned.intersection(indices)) if number == 0 else 0
            # Another shot of the run may have made the same picture, or the memory dropped one.
            if more := len(missing) - planned:
                self.watch.plan(more)
            if missing:
                self.studio.prepare()
                missing = [index for index in missing if self._encode(index, number, conditionings)]
            for first in range(0, len(missing), group):
                self._shoot_group(missing[first : first + group], number, conditionings)
            last = [self.outcomes[index].tried[-1] for index in unfinished]
            for index, take in zip(unfinished, last):
                if self.outcomes[index].kept is not None and (take.error or (number + 1 == max_takes and not take.passes)):
                    self.watch.finished(index, self.outcomes[index].kept)
            unfinished = [index for index, take in zip(unfinished, last) if not take.error and not take.passes]
            if not unfinished:
                return

    def _encode(self, index: int, number: int, conditionings: dict) -> bool:
        """Whether the prompt of a shot is among the encoded ones now."""
        prompt = self.outcomes[index].job.prompt
        if prompt not in conditionings:
            self.watch.check()
            encoded = self._tried(index, number, lambda: self.studio.encode(prompt))
            if encoded is None:
                self.watch.plan(-1)
                return False
            conditionings[prompt] = encoded
        return True

    def _remember(self, index: int, number: int) -> bool:
        """Whether that take was made before."""
        key = self._key(index, number)
        latent, image = self.memory.look(key)
        if latent is None and image is None:
            return False
        self.watch.check()
        if image is None:
            image = self._tried(index, number, lambda: self.studio.decode(latent))
            if image is None:
                return True
            self.memory.keep_image(key, image)
        self._add(index, number, image, remembered=True)
        return True

    def _shoot_group(self, indices: Sequence[int], number: int, conditionings: dict) -> None:
        """Sample all of a group, then decode all of it."""
        sampled = []
        for index in indices:
            job = self.outcomes[index].job
            self.watch.check()
            self.watch.shot(index + 1, len(self.outcomes), number)
            latent = self._tried(index, number, lambda job=job: self.studio.sample(conditionings[job.prompt], job.seed_of(number), self.watch.step))
            if latent is not None:
                self.memory.keep_latent(self._key(index, number), latent)
                sampled.append((index, latent))
        for index, latent in sampled:
            self.watch.check()
            image = self._tried(index, number, lambda latent=latent: self.studio.decode(latent))
            if image is not None:
                self.memory.keep_image(self._key(index, number), image)
                self._add(index, number, image)

    def _tried(self, index: int, number: int, work):
        """What `work` gives; None when there is not enough memory for it, which is added as a failed take."""
        try:
            return work()
        except Exception as error:
            if not self.studio.is_out_of_memory(error):
                raise
        # Outside the except clause, which keeps the tensors of the failed call alive.
        self.studio.free_memory()
        self.outcomes[index].add(Take(number, self.outcomes[index].job.seed_of(number), error=OUT_OF_MEMORY))
        return None

    def _add(self, index: int, number: int, image, remembered: bool = False) -> None:
        outcome = self.outcomes[index]
        judgement = None if self.judge is None else self.judge(image, outcome.job.shot)
        take = Take(number, outcome.job.seed_of(number), image, judgement, remembered=remembered)
        outcome.add(take)
        if judgement is not None:
            self.watch.judged(index, take)
        if take.passes:
            self.watch.finished(index, take)

    def _key(self, index: int, number: int):
        job = self.outcomes[index].job
        return self.studio.key(job.prompt, job.seed_of(number))


class PictureMemory:
    """Latents and pictures by key. Pictures go first when room is needed: a latent is a twelfth as large and decodes again without sampling."""

    def __init__(self, latents, images):
        self._latents, self._images = latents, images

    def look(self, key) -> tuple[object, object]:
        """(latent, picture) of a key; None for what is not there."""
        return self._latents.look(key), self._images.look(key)

    def knows(self, key) -> bool:
        return any(found is not None for found in self.look(key))

    def keep_latent(self, key, latent) -> None:
        self._latents.keep(key, latent)

    def keep_image(self, key, image) -> None:
        self._images.keep(key, image)
