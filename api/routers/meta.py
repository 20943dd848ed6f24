"""The page at `/` with its files, and the limits that clients need to know."""

import os
from pathlib import Path

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from impasto.api.deps import StudioDep
from impasto.core.names import NAME
from impasto.core.pictures.guard import READABLE

WEB = Path(__file__).parents[1] / "web"

router = APIRouter()


class Files(StaticFiles):
    """Files whose names have no version: a browser asks by ETag each time whether its copy is current."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


files = Files(directory=WEB)
compressed = GZipMiddleware(files)


class Sizes(BaseModel):
    """The limits on what may be sent."""

    max_bytes: int
    """Bytes of a request with one picture."""
    max_pixels: int
    min_side: int
    max_side: int
    max_painted: int
    """Pixels that a network is shown: `paint_size` decides."""
    max_seconds: float
    """Seconds that a painting may be expected to take."""
    max_upload: int
    """Bytes of a request that submits a job."""
    max_photographs: int
    jobs: bool
    """Whether jobs are taken on."""
    keys: bool
    """Whether painting and jobs need a key."""
    docs: bool
    """Whether there is /docs."""
    readable: str
    """The kinds of picture that are read."""
    name: str
    """The regular expression that the name of a style must match."""


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    return await files.get_response("index.html", request.scope)


@router.get("/limits", tags=["paint"])
def limits(studio: StudioDep) -> Sizes:
    """How large a picture, an upload and a training may be."""
    settings = studio.settings
    return Sizes(
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        min_side=settings.limits.min_side,
        max_side=settings.max_side,
        max_painted=settings.max_painted,
        max_seconds=settings.max_seconds,
        max_upload=settings.max_upload,
        max_photographs=settings.max_photographs,
        jobs=settings.jobs,
        keys=bool(settings.keys),
        docs=settings.docs,
        readable=READABLE,
        name=NAME,
    )
