"""The dependencies of routes: the two services, the caller, and the client that work is shared out by."""

from typing import Annotated

from fastapi import Depends, Request

from impasto.api.middleware.access import Caller, network
from impasto.api.services.studio import Studio
from impasto.api.services.submissions import Submissions


def _studio(request: Request) -> Studio:
    found: Studio = request.app.state.studio
    return found


def _submissions(request: Request) -> Submissions:
    found: Submissions = request.app.state.submissions
    return found


def _caller(request: Request) -> Caller:
    found: Caller = request.state.caller
    return found


def _client(request: Request, caller: Annotated[Caller, Depends(_caller)]) -> str:
    """The caller's key, or else its network: an address has no space in it, as this has."""
    if caller.name:
        return f"key {caller.name}"
    return network(request.client.host) if request.client else ""


StudioDep = Annotated[Studio, Depends(_studio)]
SubmissionsDep = Annotated[Submissions, Depends(_submissions)]
CallerDep = Annotated[Caller, Depends(_caller)]
ClientDep = Annotated[str, Depends(_client)]
