"""Housekeeping of the jobs: dead workers are noticed, and files and records that nobody needs any more are erased.

Any number of processes may look after the same store: every step is a transition that happens once, or an erasure that
may happen twice.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from impasto.core.errors import Gone, ImpastoError, NotFound
from impasto.core.jobs.record import OVER, Job, list_name
from impasto.core.jobs.storage import Storage
from impasto.core.jobs.transitions import SILENCE, Jobs
from impasto.core.settings import Settings

REAP_EVERY = 1.0
CLEAN_EVERY = 600.0
"""Seconds."""
STORAGE_AWAY = 60.0
"""Seconds until a storage that could not be used is tried again."""
ORPHAN = 3600.0
"""Seconds after which files without a record count as left behind, and not as just being sent."""

log = logging.getLogger("impasto")


class Reaper(threading.Thread):
    """Reaps and clears every second, cleans every ten minutes, until closed. `also` is called each time, first."""

    def __init__(
        self, jobs: Jobs, storage: Storage, settings: Settings, also: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(name="reaper", daemon=True)
        self.jobs, self.storage, self.settings, self.also = jobs, storage, settings, also
        self._closing = threading.Event()
        self._down, self._deaf_until, self._clear_from = False, 0.0, 0.0

    def run(self) -> None:
        cleaned = time.monotonic()
        last = time.time()
        while not self._closing.wait(REAP_EVERY):
            asleep, last = time.time() - last > SILENCE, time.time()
            if asleep or self._down:  # heartbeats could not be written: workers have a moment to catch up
                self._deaf_until = last + SILENCE
            try:
                self.also()
                if last >= self._deaf_until:
                    self.jobs.reap()
                self._clear()
                if time.monotonic() - cleaned > CLEAN_EVERY:
                    cleaned = time.monotonic()
                    clean(self.jobs, self.storage, self.settings)
                self._down = False
            except ImpastoError as error:
                if not self._down:  # once, not every second
                    log.warning("%s", error)
                self._down = True
            except Exception:
                log.exception("the reaper goes on")

    def close(self) -> None:
        self._closing.set()
        self.join()

    def _clear(self) -> None:
        """Clear, and let a storage that is away keep nobody from reaping."""
        if time.monotonic() < self._clear_from:
            return
        try:
            clear(self.jobs, self.storage)
        except ImpastoError as error:
            log.warning("%s", error)
            self._clear_from = time.monotonic() + STORAGE_AWAY


def clear(jobs: Jobs, storage: Storage) -> None:
    """Erase what jobs that are over needed for their work alone: their inputs and their checkpoints."""
    for job in jobs.store.list("to clear"):
        storage.erase(f"jobs/{job.id}/inputs")
        for attempt in range(1, job.attempt + 1):
            storage.erase(f"jobs/{job.id}/{attempt}/state.pt")
        files = {name: key for name, key in job.files.items() if name != "state"}
        sizes = {name: size for name, size in job.sizes.items() if name not in ("inputs", "state")}
        jobs.mark(job.id, cleared=True, inputs={}, files=files, sizes=sizes)


def clean(jobs: Jobs, storage: Storage, settings: Settings) -> None:
    """Erase jobs whose time is over, and files that belong to no record."""
    now = datetime.now(UTC)
    for job in _over(jobs):
        assert job.finished
        if now - job.finished > timedelta(hours=settings.keep_results):
            jobs.store.remove(job.id, expired=True)
            storage.erase(f"jobs/{job.id}")
    for id, newest in storage.groups("jobs").items():
        if now.timestamp() - newest > ORPHAN and not _known(jobs, id):
            storage.erase(f"jobs/{id}")


def _over(jobs: Jobs) -> Iterator[Job]:
    """Yield all jobs that are over, and hold one page of them in memory. They may be removed meanwhile."""
    for status in OVER:
        page = jobs.store.list(list_name(status))
        while page:
            yield from page
            page = jobs.store.list(list_name(status), after=page[-1])


def _known(jobs: Jobs, id: str) -> bool:
    try:
        jobs.get(id)
    except (NotFound, Gone):
        return False
    return True
