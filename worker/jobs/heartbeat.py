"""Heartbeats: of a worker, and of a job under way, which carry its news."""

import logging
import threading
import time
from collections.abc import Iterable

from impasto.core.errors import NoSpace, Unavailable
from impasto.core.jobs.record import NOTHING_NEW, Job, News
from impasto.core.jobs.transitions import HEARTBEAT, Jobs

NEWS_EVERY = 1.0
"""Least seconds between two writings of news."""

log = logging.getLogger("impasto")


class Liveness:
    """Tells the store that a worker for these kinds is alive. Call it often: it writes every `HEARTBEAT` seconds."""

    def __init__(self, jobs: Jobs, kinds: Iterable[str]) -> None:
        self.jobs, self.kinds = jobs, list(kinds)
        self._due = 0.0

    def __call__(self) -> None:
        if time.monotonic() >= self._due:
            self.jobs.sign(self.kinds)
            self._due = time.monotonic() + HEARTBEAT


class Heartbeat(threading.Thread):
    """Tells the store that the job is worked on, from a thread of its own, so that large files do not delay it.

    `lost` says that the job was given to another worker; `cancel`, that it is to end.
    """

    def __init__(self, jobs: Jobs, mine: Job) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.jobs, self.mine = jobs, mine
        self.lost = self.cancel = False
        self._news = NOTHING_NEW
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._last = time.monotonic()
        self.start()

    def tell(self, news: News) -> None:
        with self._lock:
            self._news |= news

    def close(self) -> News:
        """Stop, and return the news that are not written yet."""
        self._closing.set()
        self.join()
        return self._news

    def run(self) -> None:
        while not self._closing.wait(NEWS_EVERY) and not self.lost:
            with self._lock:
                news, self._news = self._news, NOTHING_NEW
            if news != NOTHING_NEW or time.monotonic() - self._last > HEARTBEAT / 2:
                self._beat(news)

    def _beat(self, news: News) -> None:
        try:
            job = self.jobs.beat(self.mine, news)
        except (Unavailable, NoSpace) as error:
            log.warning("job %s: %s", self.mine.id, error)
            with self._lock:
                self._news = news | self._news
            return
        self._last = time.monotonic()
        self.lost = job is None
        self.cancel = job is not None and job.cancel
