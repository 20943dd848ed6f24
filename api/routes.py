"""What can be asked over HTTP."""

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, File, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from api.deps import Here
from api.errors import NO_PICTURE
from api.service import Painted, Service
from core.checkpoints import Card
from core.errors import BadParameter
from core.images import MEDIA_TYPES
from core.recipes import CompareParams, PaintParams

router = APIRouter()


class Problem(BaseModel):
    """The form of every error; some carry further facts, such as `limit` or `nearest`."""

    error: str
    detail: str


class Again(BaseModel):
    picture: str | None = Field(
        None, description="the `Impasto-Picture` of an answer: that picture again, without sending it"
    )


class StylizeQuery(PaintParams, Again):
    pass


class CompareQuery(CompareParams, Again):
    pass


class Model(BaseModel):
    """A network that paints, and its card."""

    arch: str
    dataset: str
    style: str
    card: Card


EVERYWHERE: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "a key is needed: `Authorization: Bearer …`"},
    403: {"model": Problem, "description": "not for this caller, by this name, or from this page"},
    422: {"model": Problem, "description": "a parameter that is missing or out of bounds"},
    429: {"model": Problem, "description": "too many requests; come back after `Retry-After` seconds"},
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "no picture, or a broken one"},
    404: {
        "model": Problem,
        "description": "no such model; `known` has those there are, `nearest` the most alike. "
        "Or `picture_gone`: send the picture again",
    },
    413: {"model": Problem, "description": "too many bytes, or pixels: then `max_side` says what would do"},
    415: {"model": Problem, "description": "not a kind of picture that is read here"},
    422: {"model": Problem, "description": "a parameter that is missing or out of bounds"},
    503: {"model": Problem, "description": "busy; come back after `Retry-After` seconds"},
}
_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"description": "the painting", "content": {kind: {} for kind in MEDIA_TYPES.values()}}
}


_EXAMPLE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {}}},
    304: {"description": "the browser has it"},
    404: _ERRORS[404],
}


Image = Annotated[UploadFile | None, File(description="JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC or AVIF")]


@router.post("/stylize", response_class=Response, responses=_PICTURES | _ERRORS, tags=["paint"])
async def stylize(
    request: Request, here: Here, params: Annotated[StylizeQuery, Query()], image: Image = None
) -> Response:
    """Paint a photograph: the painting comes back at once, upright and of the photograph's size.

    curl -F image=@cat.jpg 'localhost:8000/stylize?arch=aonet&style=wave&dataset=coco' -o painted.png
    """
    stem = f"{params.style}-{params.arch}-{params.dataset}"
    return await _paint(request, here, image, params, stem, lambda data: here.stylize(data, params))


@router.post("/compare", response_class=Response, responses=_PICTURES | _ERRORS, tags=["paint"])
async def compare(
    request: Request, here: Here, params: Annotated[CompareQuery, Query()], image: Image = None
) -> Response:
    """One labelled sheet: the photograph, and what every model of a style, a network or a dataset paints of it.

    curl -F image=@cat.jpg 'localhost:8000/compare?style=wave' -o sheet.png
    """
    names = [name for name in (params.style, params.arch, params.dataset) if name] or ["all"]
    return await _paint(request, here, image, params, "-".join(names), lambda data: here.compare(data, params))


async def _paint(
    request: Request,
    here: Service,
    image: UploadFile | None,
    params: StylizeQuery | CompareQuery,
    stem: str,
    work: Callable[[bytes], Painted],
) -> Response:
    """What `work` makes of the picture, inline under a name; with the seconds that it took in all and in each part,
    and the token by which what was sent can be painted again."""
    begun = time.perf_counter()
    data = await _sent(here, image, params.picture)
    _check_form(await request.form())
    request.app.state.metrics.cache("picture", params.picture is not None)
    painted = await here.slots.run(lambda: work(data), request)
    spans = {**painted.spans, "total": time.perf_counter() - begun}
    headers = {
        "Content-Disposition": f'inline; filename="{stem}.{params.format}"',
        "Server-Timing": ", ".join(f"{span};dur={seconds * 1000:.1f}" for span, seconds in spans.items()),
        "ETag": f'"{painted.etag}"',
    }
    if token := params.picture or here.recent.keep(data):
        headers["Impasto-Picture"] = token
    return Response(painted.data, media_type=MEDIA_TYPES[params.format], headers=headers)


def _check_form(form: FormData) -> None:
    """Raises BadParameter for what would be passed over in silence."""
    if others := form.keys() - {"image"}:
        raise BadParameter(
            f"{', '.join(sorted(others))[:80]}: the form has the field image alone. Parameters belong in the query: "
            "/stylize?style=wave&strength=0.8"
        )
    if (count := len(form.multi_items())) > 1:
        raise BadParameter(f"image was sent {count} times: send one picture at a time.")


async def _sent(here: Service, image: UploadFile | None, token: str | None) -> bytes:
    """The picture, sent now or a short while ago."""
    if image and token:
        raise BadParameter("image and picture were both sent: send a new picture, or name one that was sent before.")
    if not image and token is None:
        raise BadParameter(NO_PICTURE)
    return await image.read() if image else here.recent.get(token or "")


@router.get("/styles", tags=["paint"])
def styles(here: Here) -> list[Model]:
    """Every network, dataset and style that `/stylize` can paint with, and how each was trained."""
    entries = here.zoo.entries().items()
    return [Model(arch=arch, dataset=data, style=style, card=entry.card) for (arch, data, style), entry in entries]


@router.get("/styles/{arch}/{dataset}/{style}/example", response_class=Response, tags=["paint"], responses=_EXAMPLE)
async def example(arch: str, dataset: str, style: str, request: Request, here: Here) -> Response:
    """A cat painted by that network, as a small WebP; made when it is first asked for."""
    path = here.zoo.find(arch, dataset, style).path
    key = await run_in_threadpool(here.examples.key, path)
    headers = {"ETag": f'"{key}"', "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    data = await run_in_threadpool(here.examples.kept, key)
    request.app.state.metrics.cache("example", data is not None)
    data = data or await here.gallery.run(lambda: here.examples.make(path, key), request)
    return Response(data, media_type="image/webp", headers=headers)


@router.get("/livez", tags=["health"])
async def livez() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


class Ready(BaseModel):
    ready: bool
    state: str
    """`ready`, `loading`, or why not."""


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Ready, "description": "not yet, or why not"}}


@router.get("/readyz", tags=["health"], response_model=Ready, responses=_NOT_READY)
async def readyz(here: Here) -> JSONResponse:
    """A first model is loaded, so that pictures can be painted; jobs have a word of their own, `/readyz/jobs`."""
    return _ready(here.state)


@router.get("/readyz/jobs", tags=["health"], response_model=Ready, responses=_NOT_READY)
def readyz_jobs(here: Here) -> JSONResponse:
    """The store of jobs answers, there is room for more, and a worker for each kind is alive."""
    return _ready(here.jobs_state())


def _ready(state: str) -> JSONResponse:
    return JSONResponse({"ready": state == "ready", "state": state}, 200 if state == "ready" else 503)
