"""Every parameter of painting at once, with its default and bounds."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator

from impasto.core.names import ARCHES, MIN_SIDE, NETWORKS, Arch
from impasto.core.pictures.codec import Format

MAX_PAINTED = 16_000_000
"""Most pixels that a network sees, by default."""

PAINT_SIZE = 1280
"""Long side in px that a network sees of a photograph, by default. A larger one takes long and has thin strokes."""

SCALED = ", ".join(f"{facts.scale} for {name}" for name, facts in ARCHES.items())

Asked = Annotated[str, StringConstraints(min_length=1, max_length=200)]
"""A name to look up. One that cannot be right is answered as one that is not there: with the nearest."""
AnswerFormat = Annotated[
    Format, BeforeValidator(lambda value: {"jpg": "jpeg"}.get(str(value).lower(), str(value).lower()))
]
"""Capitals and `jpg` are what people write."""


class PaintParams(BaseModel):
    """Parameters of a painting, for the command line and `/stylize`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: Asked = Field(description="the style, such as wave", examples=["wave"])
    arch: Arch = Field("aonet", description=f"the network: {NETWORKS}")
    dataset: Asked = Field("coco", description="what the network was trained on")
    strength: float = Field(1, ge=0, le=1, description="0 is the photograph, 1 the painting, between them a blend")
    preserve_color: bool = Field(False, description="the painting's brightness with the photograph's colours")
    paint_size: int | Literal["full"] = Field(
        PAINT_SIZE,
        description="the long side that the network sees, px; a brush stroke has a size in pixels, so smaller is "
        f"bolder. At most the picture's own long side times {SCALED}. `full` is the picture's own",
        examples=[PAINT_SIZE, "full"],
    )
    max_side: int | None = Field(None, ge=MIN_SIDE, description="shrink the answer to this long side, px")
    format: AnswerFormat = Field("png", description="of the answer")

    @field_validator("paint_size")
    @classmethod
    def _large_enough(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < MIN_SIDE:
            raise ValueError(f"give {MIN_SIDE} px or more, or full")
        return value


class CompareParams(BaseModel):
    """Parameters of a comparison: models by style, network and dataset; all models by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: Asked | None = Field(None, description="one style, by all networks and datasets", examples=["wave"])
    arch: Arch | None = Field(None, description="one network")
    dataset: Asked | None = Field(None, description="what the networks were trained on")
    side: int = Field(384, ge=64, le=1024, description="long side of each picture, px")
    paint_size: int | None = Field(
        None,
        ge=MIN_SIDE,
        le=PAINT_SIZE,
        description="long side that the networks see, px, as of /stylize; smaller is bolder. By default that of a "
        "photograph as large as side",
    )
    strength: float = Field(1, ge=0, le=1, description="0 is the photograph, 1 the painting, between them a blend")
    preserve_color: bool = Field(False, description="the painting's brightness with the photograph's colours")
    format: AnswerFormat = Field("png", description="of the answer")

    @property
    def painted_side(self) -> int:
        """Long side of the photograph that is painted, px; the painting is then shrunk to `side`."""
        return max(self.side, self.paint_size or 0)

    @property
    def seen_side(self) -> int:
        """Long side that the networks see of it, px, as `PaintParams.paint_size`."""
        return self.paint_size or PAINT_SIZE
