"""Taking on jobs: `Submissions` owns the store, the storage and the broker. One for each process."""

import threading
import time
from collections.abc import Callable

from starlette.datastructures import FormData

from impasto.api.broker import Broker
from impasto.api.services.disk import check_space
from impasto.api.services.job_form import JobForm
from impasto.api.services.slots import Slots
from impasto.core.errors import Busy, ImpastoError, Stopping, Unavailable
from impasto.core.jobs.open import open_store
from impasto.core.jobs.reaper import Reaper
from impasto.core.jobs.record import KINDS, Job, Kind
from impasto.core.jobs.storage import open_storage
from impasto.core.jobs.transitions import Jobs
from impasto.core.logs import request_id
from impasto.core.nets.checkpoints import Zoo
from impasto.core.pictures.codec import Picture
from impasto.core.pictures.sandbox import SECONDS
from impasto.core.settings import Settings

PARTS = 64
"""Files, and fields, of a form. A training may have more files."""
TAKING_BACK = SECONDS + 2
"""Seconds, at the end, for submissions under way to notice it: a picture that is being decoded, and erasing."""


class Submissions:
    """Checks what was sent, stores it, and tells the workers."""

    def __init__(self, settings: Settings, zoo: Zoo, decode: Callable[[bytes], Picture]) -> None:
        self.settings, self.zoo, self.decode = settings, zoo, decode
        self.jobs = Jobs(open_store(settings.store))
        self.storage = open_storage(settings.storage)
        self.broker = Broker(settings.broker)
        self.slots = Slots(settings.slots, settings.queue)  # its own: large uploads keep no painting waiting
        self.stopping = threading.Event()
        self.reaper = Reaper(self.jobs, self.storage, settings) if settings.jobs else None
        if self.reaper:
            self.reaper.start()

    @property
    def busy(self) -> bool:
        """Whether something is being taken on."""
        return bool(self.slots.taken)

    def close(self) -> None:
        """Have submissions under way take back what they have stored, and close the store."""
        self.stopping.set()
        self.slots.close()
        until = time.monotonic() + TAKING_BACK
        while self.busy and time.monotonic() < until:
            time.sleep(0.05)
        if self.reaper:
            self.reaper.close()
        self.broker.close()
        self.jobs.store.close()

    def submit(self, form: FormData, idempotency_key: str | None, owner: str | None = None) -> Job:
        """Check and keep a job, then tell the workers. Raises what the form and the store raise, and Busy."""
        sent = JobForm(form, self.settings, self.storage, self.zoo, self.decode)
        known = self.jobs.knows_key(idempotency_key, owner)
        if not known:
            self._check_queue(sent.kind, owner)
        job = sent.job(idempotency_key, known)
        job = job.model_copy(update={"owner": owner, "request": request_id.get()})
        if self.stopping.is_set():  # its client has been told so
            sent.discard(job.id)
            raise Stopping
        try:
            kept = self.jobs.submit(job)
        except Unavailable:  # perhaps after it was kept: what was sent stays, and the reaper erases orphans
            raise
        except BaseException:
            sent.discard(job.id)
            raise
        if kept.id != job.id:
            sent.discard(job.id)
        self.broker.publish(kept)
        return kept

    def _check_queue(self, kind: Kind, owner: str | None) -> None:
        """Raise Busy where as many jobs of a kind wait as may, half of them a key's own.

        Submissions of one moment may pass it together.
        """
        most = {"gatys": self.settings.queued_gatys, "train": self.settings.queued_train}[kind]
        waiting = self.jobs.store.count(f"queued {kind}")
        if waiting >= most:
            raise Busy(f"{waiting} {kind} jobs wait already, and that is the most: try again later.", retry_after=60)
        own = self.jobs.store.count(f"queued {kind} of {owner}") if owner else 0
        if own >= max(1, most // 2):
            raise Busy(f"{own} {kind} jobs of the key {owner} wait already, half of all places.", retry_after=60)

    def state(self) -> str:
        """Return `ready` where a job would be taken on and done, or the reason why not."""
        if not self.settings.jobs:
            return "no jobs are taken on (IMPASTO_JOBS is false)"
        try:
            check_space(self.settings)
            missing = [kind for kind in KINDS if not self.jobs.attended(kind)]
        except ImpastoError as error:
            return error.message
        return f"no worker is alive for {' and '.join(missing)}" if missing else "ready"
