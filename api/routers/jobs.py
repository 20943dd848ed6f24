"""Slow work over HTTP: painting by optimising the pixels, and training new styles."""

import csv
import threading
from collections.abc import AsyncIterator
from math import ceil
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import AwareDatetime, BaseModel

from impasto.api.deps import CallerDep, JobDep, SubmissionsDep, known_job
from impasto.api.errors import answers
from impasto.api.forms import PictureForms
from impasto.api.middleware.access import denied
from impasto.api.routers.events import Open, Seen, events
from impasto.api.services.disk import check_space
from impasto.api.services.job_form import FILES
from impasto.api.services.submissions import PARTS, Submissions
from impasto.core.errors import (
    BadParameter,
    BadPicture,
    Busy,
    Conflict,
    Gone,
    NoSpace,
    NotFound,
    TooLarge,
    Unavailable,
    UnsupportedFormat,
)
from impasto.core.jobs.record import Failure, Job, Kind, Progress, Status, list_name
from impasto.core.params import GatysParams, Recipe, TrainJobParams
from impasto.core.pictures.codec import MEDIA_TYPES

router = APIRouter(tags=["jobs"], route_class=PictureForms)
none = APIRouter(include_in_schema=False)
"""The routes in their place where IMPASTO_JOBS is false."""
MOST_ROWS = 1000
"""Steps of which the losses are answered."""
MEDIA = {f".{name}": media for name, media in MEDIA_TYPES.items()}


class JobView(BaseModel):
    """A job as its owner sees it."""

    id: str
    kind: Kind
    status: Status
    params: dict[str, Any]
    progress: Progress
    attempt: int
    error: Failure | None
    created: AwareDatetime
    started: AwareDatetime | None
    finished: AwareDatetime | None
    result: str | None
    """The result's key in the storage."""
    links: dict[str, str]


class JobPage(BaseModel):
    jobs: list[JobView]
    next: str | None
    """The link of the next page."""


def _form() -> dict[str, Any]:
    """The form of `POST /jobs` for OpenAPI: the fields of both kinds, as their models describe them."""
    properties: dict[str, Any] = {
        "kind": {"type": "string", "enum": list(FILES), "description": "paint the pixels, or train a network"},
        "image": {"type": "string", "format": "binary", "description": "gatys: the photograph"},
        "style_image": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "gatys: pictures of the style; train: one",
        },
        "content_images": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "train: photographs to learn from, or zip files of them",
        },
        "name": {"type": "string", "description": "train: the new style's name"},
        "recipe": {
            "type": "string",
            "enum": list(get_args(Recipe)),
            "default": "ours",
            "description": "the objective: ours, or the report's Algorithm 1 or 2",
        },
        "webhook": {"type": "string", "format": "uri", "description": "called with a signed POST when the job is over"},
    }
    for model in (TrainJobParams, GatysParams):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        properties |= {
            name: field
            for name, field in schema["properties"].items()
            if name != "named_style" and name not in properties
        }
    content = {"multipart/form-data": {"schema": {"type": "object", "properties": properties, "required": ["kind"]}}}
    return {"requestBody": {"required": True, "content": content}}


_LINKS = {
    operation.split("_")[0]: {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
    for operation in (
        "show_jobs__id__get",
        "result_jobs__id__result_get",
        "preview_jobs__id__preview_get",
        "losses_jobs__id__losses_get",
        "plot_jobs__id__losses_png_get",
        "cancel_jobs__id__cancel_post",
        "delete_jobs__id__delete",
    )
}
"""The links in the answer to a submission, for OpenAPI."""
_REFUSED = answers(
    BadPicture, NotFound, Conflict, TooLarge, UnsupportedFormat, BadParameter, Busy, Unavailable, NoSpace
)
_UNKNOWN = answers(NotFound, Gone)
_KEPT = answers(NotFound, Gone, Conflict)
_FOLLOWED = answers(NotFound, Gone, Busy)
_FOLLOWED[204] = {"description": "`Last-Event-ID` is the last event of a job that is over"}


@router.post("/jobs", status_code=202, responses={202: {"links": _LINKS}, **_REFUSED}, openapi_extra=_form())
async def submit(
    request: Request,
    response: Response,
    submissions: SubmissionsDep,
    caller: CallerDep,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> JobView:
    """Take on a job: check it, store it, and answer with its record. A worker does the work.

    curl -F kind=gatys -F image=@cat.jpg -F style=wave localhost:8000/jobs
    """
    check_space(submissions.settings)  # before what is sent is put on the disk
    async with request.form(max_files=submissions.settings.max_photographs + 10, max_fields=PARTS) as form:
        if not form:
            raise BadParameter(
                "The request is not a multipart form: curl -F kind=gatys -F image=@photo.jpg -F style=wave"
            )
        job = await submissions.slots.run(
            lambda: submissions.submit(form, idempotency_key, caller.client, caller.name), request, caller.client
        )
    response.headers["Location"] = f"/jobs/{job.id}"
    return view(job)


@router.get("/jobs", responses=_UNKNOWN)
def page(
    submissions: SubmissionsDep,
    caller: CallerDep,
    status: Status | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(description="the last job of the page before")] = None,
) -> JobPage:
    """Jobs, the newest first: a key's own; all of them for an admin."""
    if not caller.keyed and not caller.may("admin"):  # an id is a secret, and this would tell them all
        raise denied(caller, "admin")
    name = list_name(status, owner=None if caller.may("admin") else caller.name)
    last = known_job(after, submissions, caller) if after else None
    found = submissions.jobs.store.list(name, newest=True, limit=limit + 1, after=last)
    more = None
    if len(found) > limit:
        more = f"/jobs?limit={limit}&after={found[limit - 1].id}" + (f"&status={status}" if status else "")
    return JobPage(jobs=[view(job) for job in found[:limit]], next=more)


@router.get("/jobs/{id}", responses=_UNKNOWN)
def show(job: JobDep) -> JobView:
    """The record of a job."""
    return view(job)


@router.get("/jobs/{id}/result", response_class=Response, responses=_KEPT)
def result(job: JobDep, submissions: SubmissionsDep, request: Request) -> Response:
    """The painting, or the trained network; the best so far of a painting that was canceled."""
    return _file(job, "result", submissions, request)


@router.get("/jobs/{id}/preview", response_class=Response, responses=_KEPT)
def preview(job: JobDep, submissions: SubmissionsDep, request: Request) -> Response:
    """The last preview: the best painting so far, or for a training a photograph and its painting."""
    return _file(job, "preview", submissions, request)


@router.get("/jobs/{id}/losses", responses=_KEPT)
def losses(job: JobDep, submissions: SubmissionsDep) -> list[dict[str, float]]:
    """The weighted losses of the steps: of a long run of `MOST_ROWS` of them, evenly spread."""
    head, *lines = submissions.storage.get(_key(job, "losses")).decode().splitlines()
    apart = max(1, ceil(len(lines) / MOST_ROWS))
    rows = csv.DictReader([head, *lines[::-apart][::-1]])  # with the last
    return [{name: float(value) for name, value in row.items()} for row in rows]


@router.get("/jobs/{id}/losses.png", response_class=Response, responses=_KEPT)
def plot(job: JobDep, submissions: SubmissionsDep, request: Request) -> Response:
    """A plot of the losses, and of the share of each in the total."""
    return _file(job, "plot", submissions, request)


@router.get("/jobs/{id}/events", response_class=EventSourceResponse, responses=_FOLLOWED)
async def follow(
    job: JobDep, request: Request, submissions: SubmissionsDep, stream: Open, seen: Seen = None
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `status`, `progress`, `preview`, `done`. `Last-Event-ID` goes on where a connection broke, or
    where a stream was ended, after ten minutes or to make room for another client."""
    stopping: threading.Event = request.app.state.stopping
    told = events(
        lambda: submissions.jobs.get(job.id),
        lambda job: view(job).model_dump(mode="json"),
        seen,
        lambda: stream.ended or stopping.is_set(),
    )
    async for event in told:
        yield event


@router.post("/jobs/{id}/cancel", responses=_UNKNOWN)
def cancel(job: JobDep, submissions: SubmissionsDep) -> JobView:
    """Ask a job to end. A painting keeps the best so far; a job that is over stays as it is."""
    return view(submissions.jobs.cancel(job.id))


@router.delete("/jobs/{id}", status_code=204, responses=_UNKNOWN)
def delete(job: JobDep, submissions: SubmissionsDep) -> None:
    """End a job and erase its record, its pictures and its results. A style that it has published stays."""
    submissions.delete(job.id)


def view(job: Job) -> JobView:
    """The record as clients see it, with links."""
    here = f"/jobs/{job.id}"
    links = {"self": here, "events": f"{here}/events"}
    links |= {name: f"{here}/{name}" for name in ("preview", "losses") if name in job.files}
    if "plot" in job.files:
        links["plot"] = f"{here}/losses.png"
    if not job.over:
        links["cancel"] = f"{here}/cancel"
    elif "result" in job.files:
        links["result"] = f"{here}/result"
    if job.publishes and job.status == "succeeded":
        arch, dataset, style = job.publishes.split("/")
        links["stylize"] = f"/stylize?arch={arch}&dataset={dataset}&style={style}"
    fields = {name: getattr(job, name) for name in JobView.model_fields if name not in ("links", "result")}
    return JobView(**fields, links=links, result=job.files.get("result"))


def _key(job: Job, name: str) -> str:
    """The key of a job's file in the storage. Raises Conflict where there is none, or not yet."""
    if name not in job.files or (name == "result" and not job.over):  # of a worker that died before it finished
        why = f": {job.error.message}" if job.error else "." if job.over else " yet."
        raise Conflict(f"The job is {job.status} and has no {name}{why}", status=job.status)
    return job.files[name]


def _file(job: Job, name: str, submissions: Submissions, request: Request) -> Response:
    """Stream a file: results are large, and many clients may ask at once."""
    key = _key(job, name)
    size, pieces = submissions.storage.stream(key)
    suffix = "." + key.rsplit(".", 1)[1]
    headers = {
        "Content-Disposition": f'inline; filename="{job.kind}-{job.id[:8]}-{name}{suffix}"',
        "Content-Length": str(size),
        "Cache-Control": "private, no-cache" if job.over else "no-store",
    }
    media_type = MEDIA.get(suffix, "application/octet-stream")
    if getattr(request.state, "head", False):
        return Response(None, media_type=media_type, headers=headers)
    return StreamingResponse(pieces, media_type=media_type, headers=headers)


@none.api_route("/jobs", methods=["GET", "POST"])
@none.api_route("/jobs/{rest:path}", methods=["GET", "POST", "DELETE"])
def no_jobs() -> None:
    raise NotFound("This service takes no jobs (IMPASTO_JOBS is false). It paints at once: POST /stylize.")
