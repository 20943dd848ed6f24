"""Errors as answers: JSON `{error, detail, …}` and a status, which are mapped here alone."""

import errno
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute

from impasto.core.errors import (
    BadCheckpoint,
    BadParameter,
    BadPicture,
    Busy,
    Conflict,
    Forbidden,
    Gone,
    ImpastoError,
    NoSpace,
    NotFound,
    PictureGone,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    UnsupportedFormat,
)
from impasto.core.logs import request_id

ANSWERS: dict[type[ImpastoError], tuple[int, str]] = {
    BadPicture: (400, "a file that is not a picture or archive, or a broken one"),
    Unauthorized: (401, "a key is needed: `Authorization: Bearer …`"),
    Forbidden: (403, "not for this caller, by this name, or from this page"),
    NotFound: (404, "no such model, style, dataset or job; `known` has those there are, `nearest` the most alike"),
    PictureGone: (404, "`picture_gone`, the picture of that token is no longer held: send it again"),
    Conflict: (
        409,
        "a name that is taken, an idempotency key of another job, or a file that the job does not have, or not yet",
    ),
    Gone: (410, "the job has expired"),
    TooLarge: (
        413,
        "over a limit on bytes, pixels, memory or time; of a picture `scale_to` or `paint_size` says what would do, of "
        "a job its parameters",
    ),
    UnsupportedFormat: (415, "a kind of file that is not read here"),
    BadParameter: (422, "a parameter that is wrong, missing or unknown"),
    TooMany: (429, "too many requests; come back after `Retry-After` seconds"),
    BadCheckpoint: (500, "a file of weights is not what it says it is"),
    Busy: (503, "too much is under way; come back after `Retry-After` seconds"),
    Unavailable: (503, "the store or the storage is away, or the service is being stopped"),
    NoSpace: (507, "the disk is full, or the jobs of this client store as much as they may"),
}
"""The status of each error, and when it is answered."""

STATUS = {kind: status for kind, (status, _) in ANSWERS.items()}


class Problem(BaseModel):
    """The form of every error; some carry further facts, such as `limit` or `nearest`."""

    error: str
    detail: str


def answers(*kinds: type[ImpastoError]) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI, as a route's `responses`: the errors that it may answer with."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, when = ANSWERS[kind]
        before = f"{found[status]['description']}; or " if status in found else ""
        found[status] = {"model": Problem, "description": before + when}
    return found


MOST_TOLD = 20
"""Wrong parameters that an answer names."""

LEFT = 499
"""The client has closed the connection: nginx's status, for the log and the figures alone."""

NO_PICTURE = "image: no picture was sent; send one as a multipart form field: curl -F image=@photo.jpg …"

NO_STYLE = "style: no style was named; add one to the query, such as ?style=wave. GET /styles lists all."

log = logging.getLogger("impasto")


def answer(error: ImpastoError) -> JSONResponse:
    """The error as JSON, with a Retry-After header where it has a `retry_after`."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers = {"Retry-After": str(error.extra["retry_after"])} if "retry_after" in error.extra else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": error.code, "detail": error.message, **error.extra}, status, headers)


def install(app: FastAPI) -> None:
    """Let `app` answer every error as JSON."""

    @app.exception_handler(ImpastoError)
    async def ours(request: Request, error: ImpastoError) -> JSONResponse:
        if isinstance(error, BadCheckpoint):  # its message is for the operator, with paths
            log.error("%s", error)
            return answer(BadCheckpoint("A file of weights cannot be read. The service's log says which and why."))
        if error.private:
            log.error("%s", error)
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = error.errors()
        more = [f"and {len(errors) - MOST_TOLD} more"] if len(errors) > MOST_TOLD else []
        return answer(BadParameter("; ".join([*(_sentence(dict(e)) for e in errors[:MOST_TOLD]), *more])))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, ClientDisconnect):  # FastAPI takes what goes wrong with a form for a bad form
            return await left(request, error.__cause__)
        if isinstance(error.__cause__, OSError):
            return await disk(request, error.__cause__)
        if error.status_code == 204:
            return Response(status_code=204)
        names = {404: "not_found", 405: "method_not_allowed", 400: "bad_request"}
        content = {"error": names.get(error.status_code, "error"), "detail": str(error.detail)}
        headers = dict(error.headers or {})
        if error.status_code == 405 and (methods := set().union(*_methods(app, request))):
            headers["Allow"] = ", ".join(sorted(methods))  # of all routes at that path, not of the first
            content["detail"] = f"{request.url.path} takes {headers['Allow']}, not {request.method}."
        return JSONResponse(content, error.status_code, headers)

    @app.exception_handler(OSError)
    async def disk(request: Request, error: OSError) -> JSONResponse:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # where a large body is put while it comes in
            return answer(NoSpace("The service's disk is full.", retry_after=60))
        raise error

    @app.exception_handler(ClientDisconnect)
    async def left(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=LEFT)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        content = {"error": "internal", "detail": "The service has a fault, which its log describes."}
        return JSONResponse(content | {"request": request_id.get()}, 500)


def _methods(app: FastAPI, request: Request) -> Iterator[set[str]]:
    for route in flat(app.routes):
        if isinstance(route, APIRoute) and route.path_regex.match(request.scope["path"]):
            yield route.methods or set()


def flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """All routes, those of included routers too."""
    for route in routes:
        yield route
        yield from flat(getattr(getattr(route, "original_router", None), "routes", ()))


def _sentence(error: dict[str, object]) -> str:
    """One of pydantic's errors as a sentence: the field, what is wrong, and the value."""
    place = error["loc"]
    assert isinstance(place, tuple)
    name = (
        ".".join(str(part)[:80] for part in place[1:] if part not in ("int", "float", "literal['full']")) or "request"
    )
    if place == ("body", "image"):
        return NO_PICTURE
    if place == ("query", "style") and error["type"] == "missing":
        return NO_STYLE
    if error["type"] == "extra_forbidden":
        return f"{name}: no such parameter"
    given = error.get("input")
    shown = f", not {str(given)[:80]!r}" if isinstance(given, str | int | float) else ""
    return f"{name}: {str(error['msg']).removeprefix('Value error, ')}{shown}"
