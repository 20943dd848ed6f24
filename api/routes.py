"""What can be asked over HTTP."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, File, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel

from api.service import Painted, Service
from core.checkpoints import Card
from core.images import MEDIA_TYPES, Format
from core.recipes import CompareParams, PaintParams

router = APIRouter()


class Problem(BaseModel):
    """The form of every error; some carry further facts, such as `limit` or `nearest`."""

    error: str
    detail: str


class Model(BaseModel):
    """A network that paints, and its card."""

    arch: str
    dataset: str
    style: str
    card: Card


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "no picture, or a broken one"},
    404: {"model": Problem, "description": "no such model; `known` has those there are, `nearest` the most alike"},
    413: {"model": Problem, "description": "too many bytes, or pixels: then `max_side` says what would do"},
    415: {"model": Problem, "description": "not a kind of picture that is read here"},
    422: {"model": Problem, "description": "a parameter that is missing or out of bounds"},
    503: {"model": Problem, "description": "busy; come back after `Retry-After` seconds"},
}
_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"description": "the painting", "content": {kind: {} for kind in MEDIA_TYPES.values()}}
}


@router.post("/stylize", response_class=Response, responses=_PICTURES | _ERRORS, tags=["paint"])
async def stylize(
    request: Request,
    image: Annotated[UploadFile, File(description="JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC or AVIF")],
    params: Annotated[PaintParams, Query()],
) -> Response:
    """Paint a photograph: the painting comes back at once, upright and of the photograph's size.

    curl -F image=@cat.jpg 'localhost:8000/stylize?arch=aonet&style=wave&dataset=coco' -o painted.png
    """
    service: Service = request.app.state.service
    begun = time.perf_counter()
    data = await image.read()
    painted = await service.slots.run(lambda: service.stylize(data, params))
    return _answer(painted, f"{params.style}-{params.arch}-{params.dataset}", params.format, begun)


@router.post("/compare", response_class=Response, responses=_PICTURES | _ERRORS, tags=["paint"])
async def compare(
    request: Request,
    image: Annotated[UploadFile, File(description="JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC or AVIF")],
    params: Annotated[CompareParams, Query()],
) -> Response:
    """One labelled sheet: the photograph, and what every model of a style, a network or a dataset paints of it.

    curl -F image=@cat.jpg 'localhost:8000/compare?style=wave' -o sheet.png
    """
    service: Service = request.app.state.service
    begun = time.perf_counter()
    data = await image.read()
    painted = await service.slots.run(lambda: service.compare(data, params))
    names = [name for name in (params.style, params.arch, params.dataset) if name] or ["all"]
    return _answer(painted, "-".join(names), params.format, begun)


@router.get("/styles", tags=["paint"])
def styles(request: Request) -> list[Model]:
    """Every network, dataset and style that `/stylize` can paint with, and how each was trained."""
    service: Service = request.app.state.service
    entries = service.zoo.entries().items()
    return [Model(arch=arch, dataset=data, style=style, card=entry.card) for (arch, data, style), entry in entries]


@router.get("/livez", tags=["health"])
def livez() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/readyz", tags=["health"], responses={503: {"description": "still loading, or nothing to paint with"}})
def readyz(request: Request) -> JSONResponse:
    """A first model is loaded, or why not."""
    service: Service = request.app.state.service
    ready = service.state == "ready"
    return JSONResponse({"ready": ready, "state": service.state}, 200 if ready else 503)


@router.get("/", include_in_schema=False)
def root() -> RedirectResponse:
    return RedirectResponse("docs")


def _answer(painted: Painted, stem: str, format: Format, begun: float) -> Response:
    """The picture, inline under its name, with the seconds since `begun` and those of each part."""
    spans = {**painted.spans, "total": time.perf_counter() - begun}
    headers = {
        "Content-Disposition": f'inline; filename="{stem}.{format}"',
        "X-Content-Type-Options": "nosniff",
        "Server-Timing": ", ".join(f"{span};dur={seconds * 1000:.1f}" for span, seconds in spans.items()),
        "ETag": f'"{painted.etag}"',
    }
    return Response(painted.data, media_type=MEDIA_TYPES[format], headers=headers)
