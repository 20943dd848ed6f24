"""Painting at once: `POST /stylize` and `POST /compare`."""

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, File, Query, Request, Response, UploadFile
from pydantic import BaseModel, Field
from starlette.datastructures import FormData

from impasto.api.deps import CallerDep, StudioDep
from impasto.api.errors import NO_PICTURE, answers
from impasto.api.middleware.access import Caller
from impasto.api.services.studio import Painted, Studio
from impasto.core.errors import BadParameter, BadPicture, Busy, NotFound, PictureGone, TooLarge, UnsupportedFormat
from impasto.core.params import CompareParams, PaintParams
from impasto.core.pictures.codec import MEDIA_TYPES

router = APIRouter(tags=["paint"])


class Again(BaseModel):
    picture: str | None = Field(
        None, description="the `Impasto-Picture` of an answer: that picture again, without sending it"
    )


class StylizeQuery(PaintParams, Again):
    pass


class CompareQuery(CompareParams, Again):
    pass


_ERRORS = answers(BadPicture, NotFound, PictureGone, TooLarge, UnsupportedFormat, BadParameter, Busy)
_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"description": "the painting", "content": {kind: {} for kind in MEDIA_TYPES.values()}}
}

Image = Annotated[UploadFile | None, File(description="JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC or AVIF")]


@router.post("/stylize", response_class=Response, responses=_PICTURES | _ERRORS)
async def stylize(
    request: Request,
    studio: StudioDep,
    caller: CallerDep,
    params: Annotated[StylizeQuery, Query()],
    image: Image = None,
) -> Response:
    """Paint a photograph: the painting comes back at once, upright and of the photograph's size.

    curl -F image=@cat.jpg 'localhost:8000/stylize?arch=aonet&style=wave&dataset=coco' -o painted.png
    """
    stem = f"{params.style}-{params.arch}-{params.dataset}"
    return await _paint(request, studio, caller, image, params, stem, lambda data: studio.stylize(data, params))


@router.post("/compare", response_class=Response, responses=_PICTURES | _ERRORS)
async def compare(
    request: Request,
    studio: StudioDep,
    caller: CallerDep,
    params: Annotated[CompareQuery, Query()],
    image: Image = None,
) -> Response:
    """One labelled sheet: the photograph, and what every model of a style, a network or a dataset paints of it.

    curl -F image=@cat.jpg 'localhost:8000/compare?style=wave' -o sheet.png
    """
    names = [name for name in (params.style, params.arch, params.dataset) if name] or ["all"]
    return await _paint(
        request, studio, caller, image, params, "-".join(names), lambda data: studio.compare(data, params)
    )


async def _paint(
    request: Request,
    studio: Studio,
    caller: Caller,
    image: UploadFile | None,
    params: StylizeQuery | CompareQuery,
    stem: str,
    work: Callable[[bytes], Painted],
) -> Response:
    """What `work` makes of the picture, inline under a name; with the seconds that it took in all and in each part,
    and the token by which what was sent can be painted again."""
    begun = time.perf_counter()
    data = await _sent(studio, image, params.picture, caller.name)
    _check_form(await request.form())
    request.app.state.metrics.cache("picture", params.picture is not None)
    painted = await studio.slots.run(lambda: work(data), request, caller.client)
    spans = {**painted.spans, "total": time.perf_counter() - begun}
    headers = {
        "Content-Disposition": f'inline; filename="{stem}.{params.format}"',
        "Server-Timing": ", ".join(f"{span};dur={seconds * 1000:.1f}" for span, seconds in spans.items()),
        "ETag": f'"{painted.etag}"',
    }
    if token := params.picture or studio.uploads.put(data, caller.name):
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


async def _sent(studio: Studio, image: UploadFile | None, token: str | None, owner: str | None) -> bytes:
    """The picture, sent now or a short while ago."""
    if image and token:
        raise BadParameter("image and picture were both sent: send a new picture, or name one that was sent before.")
    if not image and token is None:
        raise BadParameter(NO_PICTURE)
    return await image.read() if image else studio.uploads.get(token or "", owner)
