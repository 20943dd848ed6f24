"""The dependencies of routes: the service, the caller, and the job that a path names."""

from typing import Annotated

from fastapi import Depends, Request

from impasto.api.middleware.access import Caller
from impasto.api.services.studio import Service
from impasto.core.errors import NotFound
from impasto.core.jobs.record import Job


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def _caller(request: Request) -> Caller:
    """The caller as the middleware found it."""
    found: Caller = request.state.caller
    return found


Here = Annotated[Service, Depends(_service)]
Asker = Annotated[Caller, Depends(_caller)]


def known_job(id: str, here: Here, who: Asker) -> Job:
    """The job of that id; another client's is answered as one that never was. Raises NotFound and Gone."""
    job = here.jobs.get(id)
    if not who.sees(job):
        raise NotFound(f"There is no job {id[:64]!r}.")
    return job


Known = Annotated[Job, Depends(known_job)]
