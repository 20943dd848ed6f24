"""Slow work: what a job is, and the transitions between its states, each of which happens once.

    queued ──claim──> running ──finish──> succeeded | failed | canceled
       ^                 │
       └─release, reap───┘

A worker that has claimed a job says so every few seconds. One that falls silent has lost it: the reaper queues the job
again, and after the third loss fails it. Work may so be done twice, but finishing takes effect once: a transition is
one compare-and-set on the record, of which id, status, attempt and version must still be what they were.
"""

import secrets
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from core.errors import Conflict, Gone, NotFound

Kind = Literal["gatys", "train"]
Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
KINDS: tuple[Kind, ...] = ("gatys", "train")
ACTIVE: tuple[Status, ...] = ("queued", "running")

HEARTBEAT = 5.0
"""Seconds between two signs of life, at most."""
LEASE = 30.0
"""Seconds of silence after which a worker has lost its job."""
SILENCE = 10.0
"""Seconds of silence after which nobody waits for a worker to cancel: two heartbeats."""
LOSSES = 3
"""Workers that a job may lose; with the last it has failed."""


class Progress(BaseModel):
    """How far a job has come."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int = 0
    total: int = 0
    losses: dict[str, float] = {}
    eta_s: float | None = Field(None, description="seconds left")


class Failure(BaseModel):
    """Why a job failed: a stable name for programs, and a sentence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    message: str


class Job(BaseModel):
    """A record. Everything up to `created` is as it was submitted, but for `inputs`, which have their time; a worker
    writes the rest."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # a later version may have written it

    id: str = Field(default_factory=lambda: secrets.token_hex(16), description="128 random bits: a secret")
    kind: Kind
    params: dict[str, Any]
    inputs: dict[str, list[str]] = Field({}, description="storage keys, by what they are for")
    publishes: str | None = Field(None, description="arch/dataset/style that a training makes")
    webhook: str | None = None
    idempotency_key: str | None = None
    owner: str | None = Field(None, description="name of the key that it was submitted with")
    request: str = Field("", description="id of the request that submitted it, as in the log")
    fingerprint: str = Field("", description="of what was sent: an idempotency key goes with one")
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))

    status: Status = "queued"
    attempt: int = Field(0, description="times that a worker has claimed it")
    lost: int = Field(0, description="workers that it has lost")
    cancel: bool = Field(False, description="asked for")
    beat: float = Field(0, description="last sign of life, seconds since 1970")
    progress: Progress = Progress()
    files: dict[str, str] = Field({}, description="storage keys of what the worker wrote: result, preview, state …")
    previews: int = Field(0, description="how many there have been; files has the last")
    error: Failure | None = None
    started: AwareDatetime | None = None
    finished: AwareDatetime | None = None
    calls: int = Field(0, description="times that the webhook was called")
    notified: bool = Field(False, description="the webhook has taken a call, or was given up")
    version: int = Field(0, description="raised by every change")

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in ACTIVE

    @property
    def lists(self) -> set[str]:
        """The lists that it stands in: see `Store.list`."""
        lists = {"all", self.status, f"{self.status} {self.kind}"}
        if self.owner:
            lists |= {f"{which} of {self.owner}" for which in lists}
        return lists | {"unnotified"} if self.over and self.webhook and not self.notified else lists

    @property
    def names(self) -> set[str]:
        """The names that are its own: no other job can be added with one of them."""
        names = {idempotency(self.idempotency_key, self.owner)} if self.idempotency_key else set()
        return names | {f"style {self.publishes}"} if self.publishes and not self.over else names


def idempotency(key: str, owner: str | None) -> str:
    """The name that an idempotency key stands for: each owner has keys of its own. No header has a line's end in it."""
    return f"key {owner}\n{key}" if owner else f"key {key}"


class News(BaseModel):
    """What a worker has to tell of its job since the last time: how far it is, and the storage keys of new files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    progress: Progress | None = None
    files: dict[str, str] = {}

    def __or__(self, later: "News") -> "News":
        return News(progress=later.progress or self.progress, files=self.files | later.files)

    def changes(self, job: Job) -> dict[str, Any]:
        return {
            "progress": self.progress or job.progress,
            "files": job.files | self.files,
            "previews": job.previews + ("preview" in self.files),
        }


NOTHING_NEW = News()


class Store(Protocol):
    """Where records are kept. It knows a job's id, version, lists and names, and nothing of what they mean.

    Every method raises Unavailable where the store cannot be reached in a few seconds, NoSpace where it is full.
    """

    def add(self, job: Job) -> str | None:
        """Keep a new job, all of it or nothing. Where one of its names is taken: the id of the job that has it."""

    def get(self, id: str) -> Job:
        """Raises NotFound for an id that never was, or was erased; Gone for one that has expired."""

    def replace(self, old: Job, new: Job) -> bool:
        """Put `new` in the place of `old`, if `old` with its version is still there: compare and set."""

    def remove(self, id: str, expired: bool = False) -> None:
        """Erase a record. An id that has expired is remembered as such for `REMEMBERED` seconds."""

    def list(self, name: str, *, newest: bool = False, limit: int = 100, after: Job | None = None) -> list[Job]:
        """Jobs of a list in the order that they were created in, or the newest first; those that come `after` one."""

    def count(self, name: str) -> int:
        """How many jobs a list has."""

    def holder(self, name: str) -> str | None:
        """The id of the job that has this name."""

    def sign(self, kind: str, at: float) -> None:
        """Remember that a worker for this kind of job was alive at a time, in seconds since 1970."""

    def signed(self, kind: str) -> float:
        """When one last was; 0 for never."""

    def close(self) -> None: ...


REMEMBERED = 90 * 86400.0
"""Seconds that an expired id is answered as expired."""


class Jobs:
    """The transitions, on any store. `clock` gives seconds since 1970."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.store, self.clock = store, clock

    def submit(self, job: Job) -> Job:
        """Keep a new job, or give back the one that the same idempotency key was used for before.

        Raises Conflict where that one was for something else, or another job is about to publish the same style.
        """
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

    def knows_key(self, idempotency_key: str | None, owner: str | None = None) -> bool:
        """Whether a job was submitted with that key before."""
        return idempotency_key is not None and self.store.holder(idempotency(idempotency_key, owner)) is not None

    def sign(self, kinds: Iterable[str] = KINDS) -> None:
        """A worker's word that it is there, with or without a job; to be said every `HEARTBEAT` or so."""
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
        """Take the oldest queued job of a kind."""
        for queued in self.store.list(f"queued {kind}"):
            if job := self.claim(queued.id):
                return job
        return None

    def beat(self, mine: Job, news: News = NOTHING_NEW) -> Job | None:
        """A sign of life. Gives the record, whose `cancel` says what to do; None when the job was lost."""
        return self._change_mine(mine, news, lambda job: {"beat": self.clock()})

    def finish(self, mine: Job, status: Status, news: News = NOTHING_NEW, error: Failure | None = None) -> Job | None:
        """End the job; None when it was lost before, and this end counts for nothing."""
        end = {"status": status, "error": error, "finished": _time(self.clock())}
        return self._change_mine(mine, news, lambda job: end)

    def release(self, mine: Job, news: News = NOTHING_NEW) -> Job | None:
        """Give the job back to the queue, for a worker that is told to stop: no loss."""
        return self._change_mine(mine, news, lambda job: self._canceled() if job.cancel else {"status": "queued"})

    def lose(self, mine: Job, news: News = NOTHING_NEW) -> Job | None:
        """What a worker's death does: to the queue again, or the end where it was asked for or too many have died."""
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
        """Take running jobs from workers that have fallen silent. Gives those that are queued again."""
        requeued = []
        for running in self.store.list("running", limit=10_000):
            changed = self._change(running.id, self._abandoned, self._lost)
            if changed and changed.status == "queued":
                requeued.append(changed)
        return requeued

    def begin_call(self, job: Job) -> Job | None:
        """Take on the next call of a job's webhook; None when another worker has."""
        return self._change(job.id, lambda now: now.calls == job.calls, lambda now: {"calls": now.calls + 1})

    def mark(self, id: str, **changes: Any) -> Job | None:
        """Change what belongs to no state, whatever the state is: `inputs` that were erased, a webhook `notified`."""
        return self._change(id, lambda job: True, lambda job: changes)

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
            if self.store.replace(job, changed):
                return changed


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
