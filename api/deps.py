"""The dependencies of routes: the two services, the caller, and the job that a path names."""

from typing import Annotated

from fastapi import Depends, Request

from impasto.api.middleware.access import Caller
from impasto.api.services.studio import Studio
from impasto.api.services.submissions import Submissions
from impasto.core.jobs.record import Job, no_job


def _studio(request: Request) -> Studio:
    found: Studio = request.app.state.studio
    return found


def _submissions(request: Request) -> Submissions:
    found: Submissions = request.app.state.submissions
    return found


def _caller(request: Request) -> Caller:
    """The caller as the middleware found it."""
    found: Caller = request.state.caller
    return found


StudioDep = Annotated[Studio, Depends(_studio)]
SubmissionsDep = Annotated[Submissions, Depends(_submissions)]
CallerDep = Annotated[Caller, Depends(_caller)]


def known_job(id: str, submissions: SubmissionsDep, caller: CallerDep) -> Job:
    """The job of that id; another client's is answered as one that never was. Raises NotFound and Gone."""
    job = submissions.jobs.get(id)
    if not caller.sees(job):
        raise no_job(id)
    return job


JobDep = Annotated[Job, Depends(known_job)]
