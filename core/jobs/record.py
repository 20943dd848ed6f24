"""The record of a job, and the store that keeps records. `core.jobs.transitions` changes them."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from impasto.core.errors import Gone, NotFound
from impasto.core.jobs.webhooks import host_of

Kind = Literal["gatys", "train"]
Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
KINDS: tuple[Kind, ...] = get_args(Kind)
STATUSES: tuple[Status, ...] = get_args(Status)
ACTIVE: tuple[Status, ...] = ("queued", "running")
OVER = tuple(status for status in STATUSES if status not in ACTIVE)


def new_id() -> str:
    """128 random bits."""
    return secrets.token_hex(16)


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
    """A record. Fields up to `created` stay as they were submitted, except `inputs`, which is emptied after the end.
    Those below change with the job."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # a later version may have written it

    id: str = Field(default_factory=new_id, description="a secret")
    kind: Kind
    params: dict[str, Any]
    inputs: dict[str, list[str]] = Field({}, description="storage keys, by what they are for")
    publishes: str | None = Field(None, description="arch/dataset/style that a training makes")
    webhook: str | None = None
    idempotency_key: str | None = None
    owner: str | None = Field(None, description="name of the key that it was submitted with")
    client: str = Field("", description="the key or the network that it counts for; it gives no rights")
    size: tuple[int, int] | None = Field(None, description="height and width to give the painting, if not the input's")
    request: str = Field("", description="id of the request that submitted it, as in the log")
    fingerprint: str = Field("", description="of what was sent: an idempotency key goes with one")
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))

    status: Status = "queued"
    turn: int = Field(0, description="place among the jobs that wait: those of one client have different turns")
    attempt: int = Field(0, description="times that a worker has claimed it")
    lost: int = Field(0, description="workers that it has lost")
    cancel: bool = Field(False, description="asked for")
    beat: float = Field(0, description="last sign of life, seconds since 1970")
    progress: Progress = Progress()
    files: dict[str, str] = Field({}, description="storage keys of what the worker wrote: result, preview, state …")
    sizes: dict[str, int] = Field({}, description="bytes of these files, and of all inputs together as `inputs`")
    cleared: bool = Field(False, description="it is over, and what only its work needed is erased")
    previews: int = Field(0, description="how many there have been; files has the last")
    error: Failure | None = None
    started: AwareDatetime | None = None
    finished: AwareDatetime | None = None
    calls: int = Field(0, description="calls of the webhook that were begun")
    call_at: float = Field(0, description="the webhook's next call, not before; seconds since 1970")
    notified: bool = Field(False, description="the webhook has taken a call, or was given up")
    version: int = Field(0, description="raised by every change")
    ended: int = Field(0, description="the version that it was over with")

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in OVER

    @property
    def stored(self) -> int:
        """Bytes in the storage."""
        return sum(self.sizes.values())

    @property
    def lists(self) -> set[str]:
        """The lists that it stands in: see `Store.list`."""
        which = ((None, None), (self.status, None), (self.status, self.kind))
        lists = {list_name(status, kind, owner) for status, kind in which for owner in (None, self.owner)}
        if self.over and not self.cleared:
            lists.add("to clear")
        return lists

    @property
    def webhook_due(self) -> float | None:
        """The time of the webhook's next call, seconds since 1970; None where none is to come."""
        if not self.webhook or not self.finished or self.notified:
            return None
        return max(self.call_at, self.finished.timestamp())

    @property
    def webhook_client(self) -> str:
        """Whom the webhook's calls are counted for: the key, else the client, or for want of one the receiving host."""
        return f"key {self.owner}" if self.owner else self.client or f"host {host_of(self.webhook or '')}"

    @property
    def names(self) -> set[str]:
        """The names that are its own: no other job can be added with one of them."""
        names = {idempotency(self.idempotency_key, self.owner or self.client)} if self.idempotency_key else set()
        return names | {f"style {self.publishes}"} if self.publishes and not self.over else names


def list_name(status: Status | None = None, kind: Kind | None = None, owner: str | None = None) -> str:
    """The name of the list of jobs in a state, of a kind or of an owner; None is any."""
    name = " ".join(filter(None, (status or "all", kind)))
    return f"{name} of {owner}" if owner else name


def idempotency(key: str, sender: str) -> str:
    """The name that an idempotency key stands for: each owner, or else each client, has keys of its own. No header has
    a line's end in it."""
    return f"key {sender}\n{key}" if sender else f"key {key}"


class News(BaseModel):
    """News of a job from its worker: its progress, and the storage keys and bytes of files that are new since then."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    progress: Progress | None = None
    files: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def __or__(self, later: "News") -> "News":
        return News(
            progress=later.progress or self.progress, files=self.files | later.files, sizes=self.sizes | later.sizes
        )

    def changes(self, job: Job) -> dict[str, Any]:
        return {
            "progress": self.progress or job.progress,
            "files": job.files | self.files,
            "sizes": job.sizes | self.sizes,
            "previews": job.previews + ("preview" in self.files),
        }


NOTHING_NEW = News()


def no_job(id: str, expired: bool = False) -> NotFound | Gone:
    """The error for an id that has no record."""
    if expired:
        return Gone(f"The job {id} has expired, and what it made is erased.")
    return NotFound(f"There is no job {id[:64]!r}.")


class Store(Protocol):
    """The store of records. It keeps a job by id and version, and finds it by its lists, its names and the time of its
    webhook. It knows nothing of states.

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
        """Jobs of a list (`list_name`), the oldest or the newest first; those that come `after` one."""

    def count(self, name: str) -> int:
        """How many jobs a list has."""

    def stored(self, client: str) -> int:
        """The bytes that the jobs of a client have in the storage: the sum of `Job.stored`."""

    def webhook_clients(self, by: float) -> Sequence[str]:
        """Clients with a webhook that is to be called by that time, seconds since 1970. In no order."""

    def webhooks_due(self, client: str, by: float, limit: int) -> Sequence[Job]:
        """Jobs of a client whose webhook is to be called by that time, the longest due first."""

    def holder(self, name: str) -> str | None:
        """The id of the job that has this name."""

    def sign(self, kind: str, at: float) -> None:
        """Remember that a worker for this kind of job was alive at a time, in seconds since 1970."""

    def signed(self, kind: str) -> float:
        """The time of the last `sign`, in seconds since 1970; 0 where there is none."""

    def close(self) -> None: ...


REMEMBERED = 90 * 86400.0
"""Seconds that an expired id is answered as expired."""
