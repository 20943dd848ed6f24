"""The cost of a painting, known from its size alone, and whether there is room for it."""

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil

from impasto.core.errors import Busy, TooLarge
from impasto.core.memory import memory_limit
from impasto.core.names import ARCHES, MIN_SIDE
from impasto.core.paint_params import MAX_PAINTED
from impasto.core.pictures.guard import fit
from impasto.core.stylize.stylize import seen

PICTURE = 40
"""Bytes for each pixel of a picture that is decoded, painted and encoded."""
SHARE = 0.7
"""Share of the memory that pictures under way may take, and that one job may; the rest is for networks and all else."""
LEARN_FROM = 65_536
"""Pixels: how long a smaller picture takes says little about a large one."""


@dataclass(frozen=True)
class Work:
    """A picture of this height and width, and what networks are to be shown of it: nothing where `arch` is None."""

    height: int
    width: int
    arch: str | None = None
    paint_size: int | str = "full"
    max_side: int | None = None
    models: int = 1
    """Networks that are shown it, one after another."""

    @property
    def seen(self) -> tuple[int, int]:
        """Height and width that a network is shown."""
        if self.arch is None:
            return 0, 0
        size = fit(self.height, self.width, self.max_side or max(self.height, self.width))
        return seen(*size, self.paint_size, self.arch)

    @property
    def shown(self) -> int:
        """Pixels."""
        return self.seen[0] * self.seen[1]

    @property
    def memory(self) -> int:
        """Bytes."""
        return PICTURE * self.height * self.width + (ARCHES[self.arch].memory if self.arch else 0) * self.shown


class Budget:
    """The memory that pictures under way may take together, the seconds that one may, and the pixels of it that a
    network is shown. How fast the machine is, is learnt from what it paints. Is used by many threads."""

    def __init__(self, memory: int = 0, seconds: float = 120, painted: int = MAX_PAINTED, share: float = 1.0) -> None:
        """`share` is the part of the memory that one client may take: the rest is for others."""
        self.memory = memory or int(SHARE * memory_limit())
        self.seconds, self.painted = seconds, painted
        self.most = int(share * self.memory)
        self._taken = Counter[str]()  # bytes, by client
        self._under_way = 0.0  # seconds, as far as they are known
        self._pace = 0.0  # seconds a pixel of a network whose `pace` is 1
        self._lock = threading.Lock()

    @contextmanager
    def room(self, work: Work, client: str = "") -> Iterator[None]:
        """Take the memory of a piece of work of a client until the end of the block.

        Raises TooLarge for work that would never be taken on, and Busy, with `retry_after`, where there is no room now.
        Both carry what would do now: a `paint_size` to ask for, or the longer side to `scale_to` before sending.
        """
        with self._lock:
            self._check(work, min(self.most - self._taken[client], self.memory - self._taken.total()))
            seconds = self.expected(work)
            self._taken[client] += work.memory
            self._under_way += seconds
        try:
            yield
        finally:
            with self._lock:
                self._taken[client] -= work.memory
                self._under_way -= seconds
                if not self._taken[client]:
                    del self._taken[client]

    def expected(self, work: Work) -> float:
        """Seconds; 0 where nothing has been painted yet."""
        pace = self._pace * ARCHES[work.arch].pace if work.arch else 0
        return pace * work.shown * work.models

    def learn(self, arch: str, shown: int, seconds: float) -> None:
        """Note how long a network took for so many pixels. Other paintings and new sizes slow one down, and nothing
        speeds it up: a faster one counts for more."""
        if shown >= LEARN_FROM:
            pace = seconds / shown / ARCHES[arch].pace
            with self._lock:
                self._pace += (pace - self._pace) * (0.5 if pace < self._pace else 0.1 if self._pace else 1)

    def _check(self, work: Work, free: int) -> None:
        """Raise what `room` raises, for work of a client to whom so many bytes are free."""

        def fits(work: Work, free: int) -> bool:
            return work.memory <= free and self.expected(work) <= self.seconds and work.shown <= self.painted

        if fits(work, free):
            return
        longer = max(work.height, work.width)
        # Either alone: the network sees less of the picture, or the picture itself is smaller.
        would_do: dict[str, int] = {}
        if work.arch:
            would_do["paint_size"] = _largest(max(work.seen), lambda side: fits(replace(work, paint_size=side), free))
        would_do["scale_to"] = _largest(longer, lambda side: fits(_scaled(work, side), free))
        would_do = {name: side for name, side in would_do.items() if side >= MIN_SIDE}
        said = {"paint_size": "ask for paint_size={}", "scale_to": "scale the picture's longer side to {} and send it"}
        advice = " or ".join(said[name].format(side) for name, side in would_do.items())
        height, width = work.seen
        expected, megabytes = self.expected(work), f"The picture takes {work.memory / 1e6:,.0f} MB"
        for actual, limit, reason in (
            (
                work.shown,
                self.painted,
                f"The network would see {width}x{height} pixels, and the limit is {self.painted:,}",
            ),
            (expected, self.seconds, f"The picture would take {expected:,.0f} s, and the limit is {self.seconds:g} s"),
            (work.memory, self.most, f"{megabytes}, and the limit is {self.most / 1e6:,.0f} MB"),
        ):
            if actual > limit:
                message = f"{reason}: {advice or 'send a smaller one'}."
                raise TooLarge(message, limit=limit, actual=round(actual), **would_do)
        wait = max(1, ceil(self._under_way))
        now = f", or try again in {wait} s" if advice else f"try again in {wait} s"
        raise Busy(f"{megabytes}, and {free / 1e6:,.0f} MB are free now: {advice}{now}.", retry_after=wait, **would_do)


def _scaled(work: Work, side: int) -> Work:
    height, width = fit(work.height, work.width, side)
    return replace(work, height=height, width=width)


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest side up to `most` that fits; less than MIN_SIDE where none does."""
    sides = range(MIN_SIDE, most + 1)
    return MIN_SIDE - 1 + bisect_right(sides, False, key=lambda side: not fits(side))
