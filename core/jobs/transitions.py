"""The states of a job, and the transitions between them, each of which happens once.

    queued ──claim──> running ──finish──> succeeded | failed | canceled
       ^                 │
       └─release, reap───┘

Clients take turns. A worker releases a long job whose turn is over while another client waits.

A worker that has claimed a job says so every few seconds. One that falls silent has lost it: the reaper queues the job
again, and after the third loss fails it. Work may so be done twice, but finishing takes effect once: a transition is
one compare-and-set on the record, of which id, status, attempt and version must still be what they were.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from impasto.core.errors import Conflict, Gone, NotFound
from impasto.core.jobs.record import KINDS, NOTHING_NEW, Failure, Job, Kind, News, Status, Store, idempotency, list_name

HEARTBEAT = 5.0
"""Seconds between two signs of life, at most."""
LEASE = 30.0
"""Seconds of silence after which a worker has lost its job."""
QUEUE = 10_000
"""Queued jobs of a kind that are looked at for turns. IMPASTO_QUEUED_GATYS and IMPASTO_QUEUED_TRAIN keep them fewer."""
SILENCE = 10.0
"""Seconds of silence after which nobody waits for a worker to cancel: two heartbeats."""
WAITED = 10.0
"""Seconds after which a job waits because all workers are busy: an idle one claims it sooner."""
LOSSES = 3
"""Workers that a job may lose; with the last it has failed."""


class Jobs:
    """The transitions, on any store. `clock` gives seconds since 1970."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.store, self.clock = store, clock

    def submit(self, job: Job) -> Job:
        """Keep a new job in its turn, or return the one that the same idempotency key was used for before.

        Raises Conflict where that one was for something else, or another job is about to publish the same style.
        """
        job = job.model_copy(update={"turn": self._turn(job)})
        holder = self.store.add(job)
        if holder is None:
            return job
        kept = self.store.get(holder)
        if kept.idempotency_key != job.idempotency_key or not job.idempotency_key:
            raise Conflict(f"Another job is training {job.publishes} at this moment. Choose another name.")
        if kept.fingerprint != job.fingerprint:
            raise Conflict(
                f"The idempotency key {job.idempotency_key!r} was used before, for another request. Use a new one."
            )
        return kept

    def knows_key(self, idempotency_key: str | None, sender: str = "") -> bool:
        """Whether a job was submitted with that key before."""
        return idempotency_key is not None and self.store.holder(idempotency(idempotency_key, sender)) is not None

    def sign(self, kinds: Iterable[str] = KINDS) -> None:
        """Remember that a worker for these kinds is alive, with or without a job; called every `HEARTBEAT`."""
        for kind in kinds:
            self.store.sign(kind, self.clock())

    def attended(self, kind: str) -> bool:
        """Whether a worker for this kind of job is alive."""
        return self.clock() - self.store.signed(kind) < LEASE

    def get(self, id: str) -> Job:
        """Raises NotFound for an id that never was, Gone for one whose time is over."""
        return self.store.get(id)

    def claim(self, id: str) -> Job | None:
        """Take a queued job for a new attempt; None when it is not queued any more, or gone."""
        now = self.clock()
        return self._change(
            id,
            lambda job: job.status == "queued",
            lambda job: {
                "status": "running",
                "attempt": job.attempt + 1,
                "beat": now,
                "started": job.started or _time(now),
            },
        )

    def claim_next(self, kind: Kind) -> Job | None:
        """Take the queued job of a kind whose turn it is: of the lowest turn the oldest."""
        for queued in sorted(self.queued(kind), key=lambda job: job.turn):
            if job := self.claim(queued.id):
                return job
        return None

    def queued(self, kind: Kind) -> Sequence[Job]:
        """The jobs of a kind that wait for a worker, the oldest first."""
        return self.store.list(list_name("queued", kind), limit=QUEUE)

    def beat(self, mine: Job, news: News = NOTHING_NEW) -> Job | None:
        """Remember that the worker is alive, and its news. Return the record, whose `cancel` says whether to end; None
        when the job was lost."""
        return self._change_mine(mine, news, lambda job: {"beat": self.clock()})

    def finish(self, mine: Job, status: Status, news: News = NOTHING_NEW, error: Failure | None = None) -> Job | None:
        """End the job; None when it was lost before, and this end counts for nothing."""
        end = {"status": status, "error": error, "finished": _time(self.clock())}
        return self._change_mine(mine, news, lambda job: end)

    def release(self, mine: Job, news: News = NOTHING_NEW, turn_over: bool = False) -> Job | None:
        """Give the job back to the queue, which is no loss. It keeps its turn, or gets a new one if that is over."""
        queued = {"status": "queued", "turn": self._turn(mine, 1) if turn_over else mine.turn}
        return self._change_mine(mine, news, lambda job: self._canceled() if job.cancel else queued)

    def others_wait(self, mine: Job) -> bool:
        """Whether a job of another client waits because the workers of this kind are busy."""
        since = self.clock() - WAITED
        return any(job.client != mine.client and job.created.timestamp() < since for job in self.queued(mine.kind))

    def lose(self, mine: Job, news: News = NOTHING_NEW) -> Job | None:
        """Take the job from a worker that has died. It is queued again, or ends where that was asked for, or where too
        many workers have died."""
        return self._change_mine(mine, news, self._lost)

    def cancel(self, id: str) -> Job:
        """Cancel a job that waits, or ask the worker of one that runs. Nothing happens to one that is over."""
        changed = self._change(
            id,
            lambda job: not job.over,
            lambda job: self._canceled() if job.status == "queued" or self._silent(job, SILENCE) else {"cancel": True},
        )
        return changed or self.get(id)

    def reap(self) -> list[Job]:
        """Take running jobs from workers that have fallen silent. Return those that are queued again."""
        requeued = []
        for running in self.store.list(list_name("running"), limit=10_000):
            changed = self._change(running.id, self._abandoned, self._lost)
            if changed and changed.status == "queued":
                requeued.append(changed)
        return requeued

    def begin_call(self, job: Job, pause: float) -> Job | None:
        """Take on the next call of a job's webhook; None when another worker has. The call after it is due `pause`
        seconds from now, unless this one is taken."""
        call_at = self.clock() + pause
        return self._change(
            job.id,
            lambda now: now.calls == job.calls and not now.notified,
            lambda now: {"calls": now.calls + 1, "call_at": call_at},
        )

    def mark(self, id: str, **changes: Any) -> Job | None:
        """Change what belongs to no state, whatever the state is: files that were erased, a webhook `notified`."""
        return self._change(id, lambda job: True, lambda job: changes)

    def _turn(self, job: Job, later: int = 0) -> int:
        """The turn of a job that joins the queue: after those of its client that wait, and at least `later` turns after
        the one that it is now.

        Of many jobs of one client the first comes next to a single job of another, the second after it.
        """
        queued = self.queued(job.kind)
        now = min((other.turn for other in queued), default=0)
        return max([now + later, *(other.turn + 1 for other in queued if other.client == job.client)])

    def _lost(self, job: Job) -> dict[str, Any]:
        if job.cancel:
            return self._canceled()
        if job.lost + 1 < LOSSES:
            return {"status": "queued", "lost": job.lost + 1}
        error = Failure(
            code="worker_lost",
            message=f"The worker died {LOSSES} times at this job, most likely for want of memory. "
            "Submit it anew with a smaller size.",
        )
        return {"status": "failed", "lost": job.lost + 1, "error": error, "finished": _time(self.clock())}

    def _canceled(self) -> dict[str, Any]:
        return {"status": "canceled", "cancel": True, "finished": _time(self.clock())}

    def _abandoned(self, job: Job) -> bool:
        return job.status == "running" and self._silent(job, SILENCE if job.cancel else LEASE)

    def _silent(self, job: Job, seconds: float) -> bool:
        return self.clock() - job.beat > seconds

    def _change_mine(self, mine: Job, news: News, changes: Callable[[Job], dict[str, Any]]) -> Job | None:
        return self._change(
            mine.id,
            lambda job: (job.status, job.attempt) == ("running", mine.attempt),
            lambda job: news.changes(job) | changes(job),
        )

    def _change(self, id: str, allowed: Callable[[Job], bool], changes: Callable[[Job], dict[str, Any]]) -> Job | None:
        """One transition: read, decide, compare and set, from the start when somebody else was faster."""
        while True:
            try:
                job = self.store.get(id)
            except (NotFound, Gone):
                return None
            if not allowed(job):
                return None
            changed = job.model_copy(update={**changes(job), "version": job.version + 1})
            if changed.over and not job.over:
                changed = changed.model_copy(update={"ended": changed.version})
            if self.store.replace(job, changed):
                return changed


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
