"""Server-sent events of a job: what has changed since the last one, until it is over."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from impasto.core.errors import Busy, Gone, NoSpace, NotFound, Unavailable
from impasto.core.jobs.record import Job

LOOK_EVERY = 0.5
"""Seconds between two looks at the record."""
SILENCE = 15.0
"""Seconds after which a comment keeps the connection open."""
LONGEST = 600.0
"""Seconds of a stream, as some are left open by people who have long gone. An EventSource comes back by itself."""
MOST = 64
"""Streams open at once in this process: each looks at the store twice a second, in a thread of those few there are."""


class EventStream(StreamingResponse):
    """Events as an answer, counted while it is sent."""

    open: ClassVar[int] = 0

    @staticmethod
    def check_room() -> None:
        """Raises Busy where as many streams are open as may be."""
        if EventStream.open >= MOST:
            raise Busy(
                f"{MOST} streams of events are open, the most there may be: try again in 10 s, or ask for the job.",
                retry_after=10,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        EventStream.open += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            EventStream.open -= 1


async def events(
    look: Callable[[], Job], view: Callable[[Job], dict[str, Any]], seen: int | None, stopping: Callable[[], bool]
) -> AsyncIterator[str]:
    """`status`, `progress`, `preview` and at last `done`, each with JSON data.

    An event's id is the record's version, so that a client which comes back with the last one (`seen`) is told what it
    has missed: the events say how things stand, not what happened. After `LONGEST` seconds it has to.
    """
    end = time.monotonic() + LONGEST
    before: Job | None = None
    quiet = 0.0
    while not stopping() and time.monotonic() < end:
        job: Job | None
        try:
            job = await run_in_threadpool(look)
        except (NotFound, Gone):
            yield _event("done", {"status": "deleted"}, None)
            return
        except (Unavailable, NoSpace):  # the store is away for a while
            job = before
        if job and job.version != (before.version if before else seen):
            shown = view(job)
            names = [name for name in ("status", "progress", "preview") if _changed(name, job, before)]
            names += ["done"] if job.over else []
            for name in names:
                # Only the last of a version carries its id: who loses the connection between two gets all again.
                yield _event(name, _data(name, job, shown), job.version if name == names[-1] else None)
            before, quiet = job, 0.0
        if job and job.over:
            return
        await asyncio.sleep(LOOK_EVERY)
        quiet += LOOK_EVERY
        if quiet >= SILENCE:
            yield ":\n\n"
            quiet = 0.0


def _changed(name: str, job: Job, before: Job | None) -> bool:
    if name == "preview":
        return job.previews != (before.previews if before else 0)
    return before is None or getattr(job, name) != getattr(before, name)


def _data(name: str, job: Job, shown: dict[str, Any]) -> dict[str, Any]:
    if name == "status":
        return {"status": job.status, "attempt": job.attempt}
    if name == "preview":
        return {"preview": shown["links"]["preview"], "number": job.previews}
    return shown["progress"] if name == "progress" else shown


def _event(name: str, data: dict[str, Any], id: int | None) -> str:
    return f"event: {name}\n" + (f"id: {id}\n" if id is not None else "") + f"data: {json.dumps(data)}\n\n"
