"""Submissions of jobs: `Submissions` owns the store, the storage and the broker. One for each process."""

import threading
import time

from starlette.datastructures import FormData

from impasto.api.broker import Broker
from impasto.api.services.disk import check_space, most_stored
from impasto.api.services.job_form import JobForm
from impasto.api.services.job_inputs import JobInputs
from impasto.api.services.slots import Slots
from impasto.api.services.studio import Studio
from impasto.core.errors import Busy, ImpastoError, Stopping, Unavailable
from impasto.core.jobs.open import open_store
from impasto.core.jobs.reaper import Reaper
from impasto.core.jobs.record import KINDS, Job, Kind
from impasto.core.jobs.storage import open_storage
from impasto.core.jobs.transitions import Jobs
from impasto.core.logs import request_id
from impasto.core.pictures.sandbox import SECONDS
from impasto.core.settings import Settings

PARTS = 64
"""Files, and fields, of a form. A training may have more files."""
TAKING_BACK = SECONDS + 2
"""Seconds that submissions under way get at the end: to decode a picture, and to erase what they have stored."""


class Submissions:
    """Checks the forms of jobs, stores what they need, and tells the workers."""

    def __init__(self, settings: Settings, studio: Studio) -> None:
        self.settings, self.studio = settings, studio
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
        """Whether a submission is under way."""
        return bool(self.slots.taken)

    def close(self) -> None:
        """Let submissions under way erase what they have stored, and close the store."""
        self.stopping.set()
        self.slots.close()
        until = time.monotonic() + TAKING_BACK
        while self.busy and time.monotonic() < until:
            time.sleep(0.05)
        if self.reaper:
            self.reaper.close()
        self.broker.close()
        self.jobs.store.close()

    def submit(self, form: FormData, idempotency_key: str | None, client: str, owner: str | None = None) -> Job:
        """Check and keep a job of a client, then tell the workers.

        Raises what the form and the store raise, and Busy.
        """
        sent = JobForm(form, self.settings, self.studio.zoo)
        sender = owner or client
        known = self.jobs.knows_key(idempotency_key, sender)
        if not known:
            self._check_queue(sent.kind, client)
        room = most_stored(self.settings) if known else self._room(client)
        inputs = JobInputs(self.settings, self.storage, self.studio, client, room)
        try:
            job = sent.job(inputs, idempotency_key, known)
            if not self.jobs.knows_key(idempotency_key, sender):  # nor any more: decoding took seconds
                self._check_queue(sent.kind, client)
                inputs.check_room(self._room(client))
            if self.stopping.is_set():  # its client has been told so
                raise Stopping
        except BaseException:
            inputs.discard()
            raise
        try:
            kept = self.jobs.submit(
                job.model_copy(update={"client": client, "owner": owner, "request": request_id.get()})
            )
        except Unavailable:  # perhaps after it was kept: the inputs stay, and the reaper erases orphans
            raise
        except BaseException:
            inputs.discard()
            raise
        if kept.id != job.id:
            inputs.discard()
        self.broker.publish(kept)
        return kept

    def delete(self, id: str) -> None:
        """End a job, and erase its record and its files."""
        self.jobs.cancel(id)
        self.jobs.store.remove(id)
        self.storage.erase(f"jobs/{id}")

    def _room(self, client: str) -> int:
        """Return the bytes that the jobs of a client may still store."""
        return most_stored(self.settings) - self.jobs.store.stored(client)

    def _check_queue(self, kind: Kind, client: str) -> None:
        """Raise Busy where no more jobs of a kind may wait, or no more of this client.

        A client may have half of the places. When all are taken there are as many again for clients that have none.
        Submissions of one moment may pass this together.
        """
        most = {"gatys": self.settings.queued_gatys, "train": self.settings.queued_train}[kind]
        queued = self.jobs.queued(kind)
        own = sum(job.client == client for job in queued)
        if len(queued) >= (most if own else 2 * most):
            raise Busy(f"{len(queued)} {kind} jobs wait already. Try again later.", retry_after=60)
        if own >= max(1, most // 2):
            raise Busy(f"{own} {kind} jobs of yours wait already. Wait for one, or cancel one.", retry_after=60)

    def state(self) -> str:
        """Return `ready` if a job would be accepted and done, or the reason why not."""
        if not self.settings.jobs:
            return "no jobs are accepted (IMPASTO_JOBS is false)"
        try:
            check_space(self.settings)
            missing = [kind for kind in KINDS if not self.jobs.attended(kind)]
        except ImpastoError as error:
            return error.message
        return f"no worker is alive for {' and '.join(missing)}" if missing else "ready"
