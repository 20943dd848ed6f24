"""The dependencies of routes: the service, and the caller."""

from typing import Annotated

from fastapi import Depends, Request

from impasto.api.middleware.access import Caller
from impasto.api.services.studio import Service


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def _caller(request: Request) -> Caller:
    """The caller as the middleware found it."""
    found: Caller = request.state.caller
    return found


Here = Annotated[Service, Depends(_service)]
Asker = Annotated[Caller, Depends(_caller)]
