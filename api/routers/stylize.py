"""Painting at once: `POST /stylize` and `POST /compare`."""

import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, File, Query, Request, Response, UploadFile
from pydantic import BaseModel, Field
from starlette.datastructures import FormData

from impasto.api.deps import CallerDep, StudioDep
from impasto.api.errors import NO_PICTURE, answers
from impasto.api.forms import PictureForms, preferred_format, raw_picture
from impasto.api.middleware.access import Caller
from impasto.api.services.studio import Painted, Studio
from impasto.core.errors import BadParameter, BadPicture, Busy, NotFound, PictureGone, TooLarge, UnsupportedFormat
from impasto.core.paint_params import CompareParams, PaintParams
from impasto.core.pictures.animation import is_animated
from impasto.core.pictures.codec import MEDIA_TYPES

router = APIRouter(tags=["paint"], route_class=PictureForms)


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

FIRST_FRAME = "first frame of an animation"

Query_ = TypeVar("Query_", StylizeQuery, CompareQuery)

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

    The body may also be the photograph itself, with a Content-Type of image/… or application/octet-stream. Without
    `format` the answer is of the first kind that `Accept` names.
    """
    params = _in_format(params, request)
    stem = f"{params.style}-{params.arch}-{params.dataset}"
    return await _paint(
        request, studio, caller, image, params, stem, lambda data, client: studio.stylize(data, client, params)
    )


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
    params = _in_format(params, request)
    names = [name for name in (params.style, params.arch, params.dataset) if name] or ["all"]
    return await _paint(
        request,
        studio,
        caller,
        image,
        params,
        "-".join(names),
        lambda data, client: studio.compare(data, client, params),
    )


async def _paint(
    request: Request,
    studio: Studio,
    caller: Caller,
    image: UploadFile | None,
    params: StylizeQuery | CompareQuery,
    stem: str,
    work: Callable[[bytes, str], Painted],
) -> Response:
    """Answer with `work(picture, client)`, inline under a name.

    Headers have the seconds of each part of the work and of all of it, and the token by which the picture can be
    painted again.
    """
    begun = time.perf_counter()
    data = await _sent(request, studio, image, params.picture, caller.name)
    _check_form(await request.form())
    request.app.state.metrics.cache("picture", params.picture is not None)
    painted, animated = await studio.slots.run(
        lambda: (work(data, caller.client), is_animated(data)), request, caller.client
    )
    spans = {**painted.spans, "total": time.perf_counter() - begun}
    headers = {
        "Content-Disposition": f'inline; filename="{stem}.{params.format}"',
        "Server-Timing": ", ".join(f"{span};dur={seconds * 1000:.1f}" for span, seconds in spans.items()),
        "ETag": f'"{painted.etag}"',
    }
    if animated:
        headers["Impasto-Painted"] = FIRST_FRAME
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


async def _sent(
    request: Request, studio: Studio, image: UploadFile | None, token: str | None, owner: str | None
) -> bytes:
    """The picture, sent now or a short while ago."""
    data = await image.read() if image else await raw_picture(request)
    if image and not image.filename and _is_text(data):
        raise BadParameter(NO_PICTURE)
    if data or image:
        if token:
            raise BadParameter(
                "image and picture were both sent: send a new picture, or name one that was sent before."
            )
        return data
    if token is None:
        raise BadParameter(NO_PICTURE)
    return studio.uploads.get(token, owner)


def _is_text(data: bytes) -> bool:
    """Whether it is a path or a word, sent where a file was meant: `-F image=cat.jpg`."""
    return len(data) < 1000 and data.decode("latin-1").isprintable()


def _in_format(params: Query_, request: Request) -> Query_:
    """The parameters with the answer's format that the client prefers, where they name none."""
    preferred = None if "format" in params.model_fields_set else preferred_format(request)
    return params.model_copy(update={"format": preferred}) if preferred else params
