"""The models with an example of each, and the names and defaults that a job can take."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from impasto.api.deps import CallerDep, StudioDep
from impasto.api.errors import answers
from impasto.core.datasets import known_datasets
from impasto.core.errors import Busy, Forbidden, NotFound
from impasto.core.losses.named_styles import named_styles
from impasto.core.names import ARCHES
from impasto.core.nets.checkpoints import Card
from impasto.core.params import GatysParams, TrainParams
from impasto.core.recipes import recipe

router = APIRouter()


class Model(BaseModel):
    """A network that paints, and its card."""

    arch: str
    dataset: str
    style: str
    card: Card


class Recipes(BaseModel):
    """The parameters of both kinds of job, as JSON Schema has them, and a training's defaults by network."""

    gatys: dict[str, Any]
    train: dict[str, Any]
    ours: dict[str, dict[str, Any]]
    report: dict[str, dict[str, Any]]


_EXAMPLE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {}}},
    304: {"description": "the copy of the browser is current"},
    **answers(NotFound, Busy),
}
_DELETED = answers(Forbidden, NotFound)


@router.get("/styles", tags=["paint"])
def styles(studio: StudioDep) -> list[Model]:
    """Every network, dataset and style that `/stylize` can paint with, and how each was trained."""
    entries = studio.zoo.entries().items()
    return [Model(arch=arch, dataset=data, style=style, card=entry.card) for (arch, data, style), entry in entries]


@router.get("/styles/{arch}/{dataset}/{style}/example", response_class=Response, tags=["paint"], responses=_EXAMPLE)
async def example(
    arch: str, dataset: str, style: str, request: Request, studio: StudioDep, caller: CallerDep
) -> Response:
    """A cat painted by that network, as a small WebP; made when it is first asked for."""
    path = studio.zoo.find(arch, dataset, style).path
    key = await run_in_threadpool(studio.examples.key, path)
    headers = {"ETag": f'"{key}"', "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    data = await run_in_threadpool(studio.examples.kept, key)
    request.app.state.metrics.cache("example", data is not None)
    data = data or await studio.example_slots.run(lambda: studio.examples.make(path, key), request, caller.client)
    return Response(data, media_type="image/webp", headers=headers)


@router.delete("/styles/{arch}/{dataset}/{style}", status_code=204, tags=["paint"], responses=_DELETED)
def delete_style(arch: str, dataset: str, style: str, studio: StudioDep) -> None:
    """Remove a model that was trained here; for an admin."""
    path = studio.zoo.find(arch, dataset, style).path
    if not path.is_relative_to(studio.settings.styles):
        raise Forbidden(
            f"{arch}/{dataset}/{style} came with Impasto: over HTTP only models that were trained here are deleted."
        )
    for suffix in (path.suffix, ".csv", ".png", ".job"):
        path.with_suffix(suffix).unlink(missing_ok=True)


@router.get("/recipes", tags=["jobs"])
def recipes() -> Recipes:
    """The parameters of jobs with their defaults and bounds."""
    return Recipes(
        gatys=GatysParams.model_json_schema()["properties"],
        train=TrainParams.model_json_schema()["properties"],
        ours={arch: recipe(arch, "custom", "style", "ours").model_dump(mode="json") for arch in ARCHES},
        report={arch: recipe(arch, "custom", "style", "report").model_dump(mode="json") for arch in ARCHES},
    )


@router.get("/datasets", tags=["jobs"])
def datasets(studio: StudioDep) -> list[str]:
    """The prepared datasets that a training can name."""
    return list(known_datasets(studio.settings.datasets))


@router.get("/styles/kept", tags=["jobs"])
def kept(studio: StudioDep) -> list[str]:
    """The styles that a job can name without sending a picture of one."""
    return list(named_styles(studio.settings.models / "styles"))
