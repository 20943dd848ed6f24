"""Every parameter of an objective, of training and of optimising pixels, with its default and bounds."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from impasto.core.names import MIN_SIDE, MODEL, NETWORKS, Arch, Layer, Name, Upsample

Recipe = Literal["ours", "report"]

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1")
"""Our objective's style layers. Shallow ones carry brush, ink and palette; size comes from the scales."""

ALGORITHM_2 = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
"""Algorithm 2's style layers."""

ALGORITHM_1 = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
ALGORITHM_1_CONTENT = ("relu4_2",)
"""Algorithm 1's layers."""

STYLE_SIZE = 512
"""Short side of the style image, px. The report names none."""

SCALES = 4
"""Sizes in a style's Gram file: 1, 1/2, 1/4 and 1/8."""


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of `core.losses.objective.Objective`, and the number of scales of its style."""

    style: float
    coarse: float
    depicted: float
    detail: float
    tv: float
    excess: float
    scales: int


NETWORK = Weights(style=12, coarse=4, depicted=1.5, detail=0.5, tv=1.5, excess=5, scales=3)
"""Weights of a network's training. A total variation of 0.5 leaves a lattice."""

PIXELS = Weights(style=40, coarse=1.5, depicted=0.3, detail=0.5, tv=1.5, excess=5, scales=4)
"""Weights of the optimisation of pixels. With a network's weights the pixels stay a tinted photograph: they can satisfy
the classifier by changes that nobody sees."""


class ObjectiveParams(BaseModel):
    """The objective of a training or of a picture's pixels, and its three weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    own: ClassVar[Weights]
    """The default weights of our objective."""
    report_layers: ClassVar[tuple[str, ...]]
    """The report's style layers."""

    recipe: Recipe = Field("ours", description="the objective: ours, or the report's own")
    content_weight: float = Field(1, ge=0, description="weight of the terms that keep the photograph's subject")
    style_weight: float = Field(ge=0, description="weight of the style")
    tv_weight: float = Field(ge=0, description="weight of the total variation")

    @property
    def style_layers(self) -> tuple[str, ...]:
        """Layers whose Gram matrices make up the style."""
        return STYLE_LAYERS if self.recipe == "ours" else self.report_layers

    @property
    def scales(self) -> int:
        """Number of sizes that the style is compared at."""
        return self.own.scales if self.recipe == "ours" else 1

    @property
    def weights(self) -> Weights:
        """Weights of recipe `ours`. `content_weight` multiplies every term that keeps the subject."""
        return replace(
            self.own,
            style=self.style_weight,
            coarse=self.content_weight * self.own.coarse,
            depicted=self.content_weight * self.own.depicted,
            detail=self.content_weight * self.own.detail,
            tv=self.tv_weight,
        )

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if not self.content_weight and not self.style_weight:
            raise ValueError(
                "content_weight and style_weight are both 0: there is nothing to learn and nothing to paint. Raise one"
            )
        return self


class TrainParams(ObjectiveParams):
    """Parameters of a training. `core.recipes.recipe` fills in the defaults of a recipe.

    A training of recipe `ours` has three stages. The network learns to reproduce photographs, unless it starts from a
    trained one. Two thirds of `steps` follow at half the size with twice the batch, then the rest. The learning rate
    falls as a cosine. A training of the `report` is Algorithm 2: all steps alike.
    """

    own = NETWORK
    report_layers = ALGORITHM_2

    arch: Arch = Field(description=f"the network: {NETWORKS}")
    dataset: Name = Field(description="name of the photographs")
    style: Name = Field(description="name of the style")
    upsample: Upsample = Field("nearest", description="how the network enlarges: nearest, or deconv as in the report")

    size: int = Field(256, ge=64, le=1024, description="side of the square training pictures, px")
    batch: int = Field(2, ge=1, le=256, description="pictures a step")
    steps: int | None = Field(None, ge=1, le=1_000_000, description="steps; by default one epoch")
    lr: float = Field(1e-3, gt=0, description="Adam's learning rate")

    style_weight: float = Field(NETWORK.style, ge=0, description="weight of the style")
    tv_weight: float = Field(NETWORK.tv, ge=0, description="weight of the total variation")
    content_layers: tuple[Layer, ...] = Field(
        ("relu2_2",),
        min_length=1,
        max_length=13,
        description="content layers of recipe report; recipe ours has its own",
    )
    style_size: int = Field(STYLE_SIZE, ge=MIN_SIDE, le=2048, description="short side of the style image, px")
    warm_start: str | None = Field(
        None,
        pattern=MODEL,
        description="a trained network of the same kind to start from, as ARCH/DATASET/STYLE",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the weights, the order of the photographs and the crops")

    @model_validator(mode="after")
    def _fitting_start(self) -> Self:
        if self.warm_start and not self.warm_start.startswith(f"{self.arch}/"):
            raise ValueError(
                f"warm_start is {self.warm_start}, whose weights do not fit {self.arch}. Name a network of {self.arch}"
            )
        return self


class TrainJobParams(TrainParams):
    """Parameters of a training over HTTP. The photographs and the style's picture are sent beside them."""

    named_style: Name | None = Field(None, description="name of a style with a Gram file, instead of its picture")

    def training(self) -> TrainParams:
        return TrainParams(**self.model_dump(exclude={"named_style"}))


REPORT_PIXELS: dict[str, Any] = {"content_weight": 0.03, "style_weight": 1, "tv_weight": 0, "init": "content"}
"""Algorithm 1's numbers. The report's weights are 100 and 1e7, for a VGG16 whose features are 57 times smaller than the
original's. All our sources have the original's units, so the weights here are 100 / 57^2 and 1e7 / 57^4."""


class GatysParams(ObjectiveParams):
    """Parameters of the optimisation of one picture's pixels, by our objective or by the report's Algorithm 1.

    With `recipe=report` the defaults are `REPORT_PIXELS`. `core.gatys.style.find_style`, which knows the style's
    pictures, checks the number of weights in `style_blend`.
    """

    own = PIXELS
    report_layers = ALGORITHM_1

    style: Name | None = Field(None, description="name of a style with a Gram file, such as wave, instead of pictures")
    style_blend: tuple[float, ...] = Field(
        (),
        description="weight of each style picture, in their order; they need not add up to 1. By default all are equal",
    )
    style_scale: float = Field(
        1,
        ge=0.25,
        le=3,
        description=f"size of the style pictures: 1 is {STYLE_SIZE} px on the short side; larger paints larger strokes",
    )
    preserve_color: bool = Field(False, description="the painting's brightness with the photograph's colours")

    size: int = Field(
        512,
        ge=32,
        le=2048,
        description="long side that is optimised, px, the photograph's own if that is smaller; the painting is then "
        "enlarged to the photograph's size. A brush stroke has a size in pixels, so smaller is bolder",
    )
    num_iterations: int = Field(
        100, ge=1, le=10_000, description="evaluations of the loss and its gradient, one a step"
    )
    init: Literal["recoloured", "content", "random", "style"] = Field(
        "recoloured",
        description="the first picture: the photograph in the style's colours, the photograph, noise, or the first "
        "style picture",
    )
    optimizer: Literal["lbfgs", "adam"] = Field("lbfgs", description="the optimiser")
    lr: float = Field(5, gt=0, le=100, description="Adam's learning rate, in levels of 0..255")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the noise that `random` starts from")

    style_weight: float = Field(PIXELS.style, ge=0, description="weight of the style")
    tv_weight: float = Field(PIXELS.tv, ge=0, description="weight of the total variation")

    @property
    def style_side(self) -> int:
        """Short side of the style pictures, px."""
        return round(self.style_scale * STYLE_SIZE)

    @model_validator(mode="before")
    @classmethod
    def _the_reports_numbers(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("recipe") == "report":
            return REPORT_PIXELS | values
        return values

    @field_validator("style_blend")
    @classmethod
    def _some_style(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if weights and (min(weights) < 0 or not sum(weights)):
            raise ValueError("give weights of 0 or more, at least one of them more than 0")
        return weights

    @model_validator(mode="after")
    def _a_named_style_has_no_pixels(self) -> Self:
        if self.style is None:
            return self
        for name, plain in (("style_scale", 1), ("style_blend", ())):
            if getattr(self, name) != plain:
                raise ValueError(
                    f"{name} needs the style's pictures. {self.style!r} is a Gram file: give pictures instead"
                )
        if self.init == "style":
            raise ValueError(
                f"init=style needs the style's picture. {self.style!r} is a Gram file: give a picture instead"
            )
        return self
