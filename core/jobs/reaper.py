"""Housekeeping of the jobs: dead workers are noticed, and files and records past their time are erased.

Any number of processes may keep the same store: every step is a transition that happens once, or an erasure that may
happen twice.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from impasto.core.errors import Gone, ImpastoError, NotFound
from impasto.core.jobs.record import Job
from impasto.core.jobs.storage import Storage
from impasto.core.jobs.transitions import SILENCE, Jobs
from impasto.core.settings import Settings

REAP_EVERY = 1.0
CLEAN_EVERY = 600.0
"""Seconds."""
ORPHAN = 3600.0
"""Seconds after which what lies in the storage without a record counts as forgotten, and not as just being sent."""

log = logging.getLogger("impasto")


class Reaper(threading.Thread):
    """Reaps every second, cleans every ten minutes, until closed. `also` is called each time, first."""

    def __init__(
        self, jobs: Jobs, storage: Storage, settings: Settings, also: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(name="reaper", daemon=True)
        self.jobs, self.storage, self.settings, self.also = jobs, storage, settings, also
        self._closing = threading.Event()
        self._down, self._deaf_until = False, 0.0

    def run(self) -> None:
        cleaned = time.monotonic()
        last = time.time()
        while not self._closing.wait(REAP_EVERY):
            asleep, last = time.time() - last > SILENCE, time.time()
            if asleep or self._down:  # workers could not be heard: they have a moment to say that they live
                self._deaf_until = last + SILENCE
            try:
                self.also()
                if last >= self._deaf_until:
                    self.jobs.reap()
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


def clean(jobs: Jobs, storage: Storage, settings: Settings) -> None:
    """Erase uploads and results whose time is over, and what belongs to no record."""
    now = datetime.now(UTC)
    for job in _over(jobs):
        assert job.finished
        if now - job.finished > timedelta(hours=settings.keep_results):
            jobs.store.remove(job.id, expired=True)
            storage.erase(f"jobs/{job.id}")
        elif job.inputs and now - job.finished > timedelta(hours=settings.keep_uploads):
            storage.erase(f"jobs/{job.id}/inputs")
            jobs.mark(job.id, inputs={})
    for id, newest in storage.groups("jobs").items():
        if now.timestamp() - newest > ORPHAN and not _known(jobs, id):
            storage.erase(f"jobs/{id}")


def _over(jobs: Jobs) -> list[Job]:
    """All that are over, a page after the other."""
    found = []
    for status in ("succeeded", "failed", "canceled"):
        page = jobs.store.list(status)
        while page:
            found += page
            page = jobs.store.list(status, after=page[-1])
    return found


def _known(jobs: Jobs, id: str) -> bool:
    try:
        jobs.get(id)
    except (NotFound, Gone):
        return False
    return True
