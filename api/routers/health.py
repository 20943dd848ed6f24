"""Questions of machines: is the service alive, can it work; and its figures for Prometheus."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from impasto.api.deps import StudioDep, SubmissionsDep
from impasto.api.metrics import Metrics

router = APIRouter(tags=["health"])


class Ready(BaseModel):
    ready: bool
    state: str
    """`ready`, `loading`, or the reason why not."""


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Ready, "description": "not ready; `state` says why"}}


@router.get("/livez")
async def livez() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/readyz", response_model=Ready, responses=_NOT_READY)
async def readyz(studio: StudioDep) -> JSONResponse:
    """A first model is loaded, so that pictures can be painted. For jobs ask `/readyz/jobs`."""
    return _ready(studio.state)


@router.get("/readyz/jobs", response_model=Ready, responses=_NOT_READY)
def readyz_jobs(submissions: SubmissionsDep) -> JSONResponse:
    """The store of jobs answers, there is room for more, and a worker for each kind is alive."""
    return _ready(submissions.state())


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """The figures of the service, for Prometheus."""
    found: Metrics = request.app.state.metrics
    return Response(generate_latest(found.registry), media_type=CONTENT_TYPE_LATEST)


def _ready(state: str) -> JSONResponse:
    return JSONResponse({"ready": state == "ready", "state": state}, 200 if state == "ready" else 503)
