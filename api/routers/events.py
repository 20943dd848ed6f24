"""Server-sent events of a job: how it stands, and each change until it is over."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, HTTPException, Request
from fastapi.sse import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from impasto.api.deps import CallerDep, JobDep
from impasto.api.services.streams import Stream, Streams
from impasto.core.errors import Gone, NoSpace, NotFound, Unavailable
from impasto.core.jobs.record import Job

LOOK_EVERY = 0.5
"""Seconds between two looks at the record."""
LONGEST = 600.0
"""Seconds of a stream: some are left open by people who have gone. An EventSource comes back by itself."""

Seen = Annotated[int | None, Header(alias="Last-Event-ID")]


async def _open(job: JobDep, request: Request, caller: CallerDep, seen: Seen = None) -> AsyncIterator[Stream]:
    """A place among the streams until the answer is sent. Raises Busy; and 204, which tells an EventSource not to come
    again, where all of a job has been heard."""
    if job.over and seen is not None and seen >= (job.ended or job.version):
        raise HTTPException(204)
    streams: Streams = request.app.state.streams
    stream = streams.open(caller.client)
    try:
        yield stream
    finally:
        streams.close(stream)


Open = Annotated[Stream, Depends(_open)]


async def events(
    look: Callable[[], Job], view: Callable[[Job], dict[str, Any]], seen: int | None, stopping: Callable[[], bool]
) -> AsyncIterator[ServerSentEvent]:
    """`status`, `progress`, `preview` and at last `done`, each with JSON data.

    The id of an event is the version of the record. A client that comes back with the last one (`seen`) is told what it
    has missed, as events say how things stand and not what happened. It has to come back after `LONGEST` seconds.
    """
    end = time.monotonic() + LONGEST
    before: Job | None = None
    while not stopping() and time.monotonic() < end:
        job: Job | None
        try:
            job = await run_in_threadpool(look)
        except (NotFound, Gone):
            yield ServerSentEvent(event="done", data={"status": "deleted"})
            return
        except (Unavailable, NoSpace):  # the store is away for a while
            job = before
        if job and job.version != (before.version if before else seen):
            shown = view(job)
            names = [name for name in ("status", "progress", "preview") if _changed(name, job, before)]
            names += ["done"] if job.over else []
            for name in names:
                # Only the last of a version carries its id: who loses the connection between two gets all again.
                id = str(job.version) if name == names[-1] else None
                yield ServerSentEvent(event=name, data=_data(name, job, shown), id=id)
            before = job
        if job and job.over:
            return
        await asyncio.sleep(LOOK_EVERY)


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
