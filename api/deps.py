"""What routes are handed: the service, and who asks."""

from typing import Annotated

from fastapi import Depends, Request

from api.gate import Caller
from api.service import Service


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def _caller(request: Request) -> Caller:
    """As the gate has found."""
    found: Caller = request.state.caller
    return found


Here = Annotated[Service, Depends(_service)]
Asker = Annotated[Caller, Depends(_caller)]
