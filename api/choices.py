"""What can be chosen and within which limits, for pages and clients that would not say it a second time."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from api.deps import Here
from core.datasets import known_datasets
from core.images import READABLE
from core.kept import kept_styles
from core.names import NAME
from core.recipes import GatysParams, TrainParams
from core.table1 import recipe

router = APIRouter()


class Sizes(BaseModel):
    """How large what is sent may be."""

    max_bytes: int
    """Of a request with one picture."""
    max_pixels: int
    min_side: int
    max_side: int
    max_painted: int
    """Pixels that a network is shown: `paint_size` decides."""
    max_seconds: float
    """That a painting may be expected to take."""
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
    """What the name of a style must match."""


class Recipes(BaseModel):
    """The parameters of both kinds of job, as JSON Schema has them, and a training's defaults by network."""

    gatys: dict[str, Any]
    train: dict[str, Any]
    ours: dict[str, dict[str, Any]]
    report: dict[str, dict[str, Any]]


@router.get("/limits", tags=["paint"])
def limits(here: Here) -> Sizes:
    """How large a picture, an upload and a training may be."""
    settings = here.settings
    return Sizes(
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        min_side=settings.min_side,
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


@router.get("/recipes", tags=["jobs"])
def recipes() -> Recipes:
    """The parameters of jobs with their defaults and bounds."""
    arches = ("aonet", "vgg16")
    return Recipes(
        gatys=GatysParams.model_json_schema()["properties"],
        train=TrainParams.model_json_schema()["properties"],
        ours={arch: recipe(arch, "custom", "style", "ours").model_dump(mode="json") for arch in arches},
        report={arch: recipe(arch, "custom", "style", "report").model_dump(mode="json") for arch in arches},
    )


@router.get("/datasets", tags=["jobs"])
def datasets(here: Here) -> list[str]:
    """The prepared datasets that a training can name."""
    return list(known_datasets(here.settings.datasets))


@router.get("/styles/kept", tags=["jobs"])
def kept(here: Here) -> list[str]:
    """The styles that a job can name without sending a picture of one."""
    return list(kept_styles(here.settings.models / "styles"))
