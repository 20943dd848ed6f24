"""Every parameter of painting and of training, its default and its bounds, once."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from core.images import Format
from core.names import MIN_SIDE, MODEL, Arch, Layer, Learns, Name, Upsample

STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
"""Algorithm 2's style layers."""

PIXEL_STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
PIXEL_CONTENT_LAYERS = ("relu4_2",)
"""Algorithm 1's layers."""

MAX_PAINTED = 16_000_000
"""Pixels that a network is shown, unless told."""

STYLE_SIZE = 384
"""Short side of the style image, px. The report names none; at 256 the strokes come out finer than a brush's."""


def differences(saved: dict[str, str], now: dict[str, str], params: BaseModel) -> list[str]:
    """Names of what a run that was stopped was begun with, and what would go on with it has otherwise. Both have
    `parameters` as JSON, those of `now` are `params`; fields that have come since it was saved have their defaults.
    """
    try:
        same = type(params).model_validate_json(saved.get("parameters", "")) == params
    except ValidationError:
        same = False
    kept = {"parameters": now["parameters"]} if same else {}
    return [name for name, value in now.items() if (saved | kept).get(name) != value]


class Stage(BaseModel):
    """A short stage before the main one: smaller crops, more steps. Without a style weight the network only learns to
    give the photograph back, which is where painting starts best."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0)
    size: int = Field(ge=64)
    batch: int = Field(gt=0)
    lr: float = Field(gt=0)
    style_weight: float | None = Field(default=None, gt=0)


class TrainParams(BaseModel):
    """What Algorithm 2 is run with. The defaults that depend on network and dataset are Table 1's: see `recipe`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    arch: Arch = Field(description="the network")
    dataset: Name = Field(description="the name that the photographs go by")
    style: Name = Field(description="the name that the style goes by")
    upsample: Upsample = Field("nearest", description="how the network enlarges: nearest, or deconv as in the report")

    size: int = Field(256, ge=64, le=1024, description="side of the square training pictures, px")
    enlarged: int = Field(
        1,
        ge=1,
        le=2,
        description="how many times as large the network sees them; its paintings are shrunk again before they are "
        "judged, much as `/stylize` does with vgg16",
    )
    batch: int = Field(4, ge=1, le=256, description="pictures a step")
    steps: int | None = Field(None, ge=1, le=1_000_000, description="steps of the main stage; one epoch unless told")
    lr: float = Field(1e-3, gt=0, description="Adam's learning rate")
    lr_fall: float = Field(0, ge=0, le=1, description="last part of the main stage over which the rate falls to 5%")
    output_lr: float = Field(1, gt=0, description="times the rate, for the last convolution, whose values are pixels")
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient")

    content_weight: float = Field(17, ge=0, description="w_c")
    style_weight: float = Field(50, ge=0, description="w_s")
    style_from: float | None = Field(None, gt=0, description="w_s at the start; rises to w_s over the first half")
    tv_weight: float = Field(0, ge=0, description="weight of the total variation")
    lattice_weight: float = Field(
        0, ge=0, description="weight of what repeats with the network's own stride, the weave that enlarging leaves"
    )
    checkerboard_weight: float = Field(
        0, ge=0, description="weight of what alternates from pixel to pixel, which enlarging leaves in strokes"
    )
    style_tiles: int = Field(
        1, ge=1, le=4, description="parts, across and down, that must each have the style: texture everywhere"
    )
    style_margin: int = Field(
        0,
        ge=0,
        le=128,
        multiple_of=8,
        description="the style is asked for once more of what is further than these px from a border: a network "
        "that knows where the borders are puts its texture there, where it costs the subject least",
    )
    coarse_weight: float = Field(
        0,
        ge=0,
        description="the style once more, of the whole painting at half its size, weighted so many times as at full "
        "size: forms larger than strokes",
    )
    excess_weight: float = Field(
        0, ge=0, description="weight of values beyond 0..255, which clamp alone does not bring back from far out"
    )
    leak: float = Field(
        0,
        ge=0,
        le=1,
        description="part of the gradient that passes through the last ReLU where it is shut: where all of it is, the "
        "painting is grey, and nothing is learnt without",
    )
    brightness_weight: float = Field(
        0, ge=0, description="weight of light and dark lying where they do in the photograph, so that a subject is seen"
    )
    content_layers: tuple[Layer, ...] = Field(("relu2_2",), min_length=1, description="content layers")
    style_size: int = Field(STYLE_SIZE, ge=MIN_SIDE, le=2048, description="short side of the style image, px")
    normalise: bool = Field(
        False,
        description="divide each style term by its target Gram's mean square and each content term by the "
        "variance of the photograph's features, so that all start near 1",
    )
    clamp: bool = Field(
        False,
        description="judge a painting as it is seen, with its values within 0..255; otherwise those beyond count as "
        "they are, and come out as neon colours",
    )
    warmup: tuple[Stage, ...] = Field((), description="short stages before the main one")
    warm_start: str | None = Field(
        None,
        pattern=MODEL,
        description="a trained network of the same kind, as ARCH/DATASET/STYLE, whose weights training starts from",
    )
    learns: Learns = Field(
        "all",
        description="the layers that learn: all; all but the convolutions of the middle, which sees or gives the "
        "smallest size (around); those of the decoder, from the first enlarging on; or those of its end, from the "
        "second on: then strokes change, and what the network sees of a photograph stays",
    )

    grain: float | None = Field(
        None,
        gt=0,
        le=64,
        description="deviation of the grey noise that the network is shown with each photograph, then as in training, "
        "in levels of 0..255: strokes where there is no texture to make them of",
    )
    augment: bool = Field(False, description="random crops and flips instead of centre crops, for small sets")
    tones: float = Field(
        0,
        ge=0,
        le=1,
        description="how much the photographs' contrast and brightness vary: deep shadows, blown-out lights",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of the weights, the order of the photographs and the crops")

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if not self.content_weight and not self.style_weight:
            raise ValueError("content_weight and style_weight are both 0: there is nothing to learn")
        if self.style_from and not self.style_weight:
            raise ValueError("style_from is where the style weight starts from: style_weight must not be 0 then")
        return self

    @model_validator(mode="after")
    def _some_middle(self) -> Self:
        side = min([self.size, *(stage.size for stage in self.warmup if stage.style_weight)])
        if (left := side - 2 * self.style_margin) < 32 * self.style_tiles:
            raise ValueError(
                f"pictures of {side} px less a style_margin of {self.style_margin} at both borders are {left} px for "
                f"{self.style_tiles} style_tiles, which need 32 each: take a larger size, or a smaller margin or number"
            )
        return self

    @model_validator(mode="after")
    def _fitting_start(self) -> Self:
        if self.warm_start and not self.warm_start.startswith(f"{self.arch}/"):
            raise ValueError(f"warm_start is {self.warm_start}: its weights do not fit {self.arch}")
        if self.learns != "all" and not self.warm_start:
            raise ValueError(f"learns is {self.learns}: that needs a warm_start, whose other layers it goes on from")
        return self


class PretrainParams(BaseModel):
    """What VGG16 is trained with to tell the classes of TinyImageNet apart, to become a loss network."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sizes: str = Field(
        "32x4,48x2,64x0.5",
        pattern=r"^\d+x\d+(\.\d+)?(,\d+x\d+(\.\d+)?)*$",
        description="sides of the pictures, px, and how many epochs of each, in order. The default is for two cores; "
        "with a GPU 48x10,64x30 comes much further",
    )
    batch: int = Field(128, ge=2, le=4096, description="pictures a step")
    lr: float = Field(0.1, gt=0, description="the highest learning rate, of SGD with momentum 0.9")
    mixup: float = Field(0, ge=0, le=1, description="mix pairs of pictures by this much: against overfitting, on a GPU")
    seed: int = Field(0, ge=0, lt=2**31, description="of the weights, the order of the pictures and the crops")

    @property
    def stages(self) -> list[tuple[int, float]]:
        """(side in px, epochs) of each."""
        pairs = (stage.split("x") for stage in self.sizes.split(","))
        return [(int(size), float(epochs)) for size, epochs in pairs]

    @model_validator(mode="after")
    def _large_enough(self) -> Self:
        if min(size for size, _ in self.stages) < 32 or not all(epochs for _, epochs in self.stages):
            raise ValueError("a size is 32 px at least, VGG16 halves it five times; epochs are more than 0")
        return self


class TrainJobParams(TrainParams):
    """What a training is asked for with over HTTP; the photographs, and the style's picture, come beside it."""

    named_style: Name | None = Field(None, description="a style that is kept by name, instead of its picture")

    def training(self) -> TrainParams:
        return TrainParams(**self.model_dump(exclude={"named_style"}))


PAINT_SIZE = 1280
"""Long side in px that a network sees of a photograph, unless told: what is larger takes long, and has thin strokes."""

ENLARGED = {"aonet": 1, "vgg16": 2}
"""How many times as large as it is, at most, a network sees a picture. Of 400 px VGG16Net's strokes are as large as
eyes; of 800, and shrunk again, eyes are eyes, and its weave of eight pixels is half as coarse."""


class PaintParams(BaseModel):
    """What a painting is asked for with: of the command line and of `/stylize` alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: Name = Field(description="the style, such as wave", examples=["wave"])
    arch: Arch = Field("aonet", description="the network")
    dataset: Name = Field("coco", description="what the network was trained on")
    strength: float = Field(1, ge=0, le=1, description="0 is the photograph, 1 the painting, between them a blend")
    preserve_color: bool = Field(False, description="the painting's brightness with the photograph's colours")
    paint_size: int | Literal["full"] = Field(
        PAINT_SIZE,
        description="the long side that the network sees, px; a brush stroke has a size in pixels, so smaller is "
        "bolder. A smaller picture `aonet` sees as it is, and `vgg16` twice as large at most. `full` is the picture's "
        "own",
        examples=[PAINT_SIZE, "full"],
    )
    max_side: int | None = Field(None, ge=MIN_SIDE, description="shrink the answer to this long side, px")
    format: Format = Field("png", description="of the answer")

    @field_validator("paint_size")
    @classmethod
    def _large_enough(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < MIN_SIDE:
            raise ValueError(f"at least {MIN_SIDE} px, or full")
        return value


class CompareParams(BaseModel):
    """What a comparison is asked for with: the models of these names, all of them where none is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: Name | None = Field(None, description="one style, by all networks and datasets", examples=["wave"])
    arch: Arch | None = Field(None, description="one network")
    dataset: Name | None = Field(None, description="what the networks were trained on")
    side: int = Field(384, ge=64, le=1024, description="long side of each picture, px")
    paint_size: int | None = Field(
        None,
        ge=MIN_SIDE,
        le=PAINT_SIZE,
        description="long side that the networks see, px, as of /stylize; smaller is bolder. Unless told, that of a "
        "photograph as large as side",
    )
    strength: float = Field(1, ge=0, le=1, description="0 is the photograph, 1 the painting, between them a blend")
    preserve_color: bool = Field(False, description="the painting's brightness with the photograph's colours")
    format: Format = Field("png", description="of the answer")

    @property
    def painted_side(self) -> int:
        """Long side of the photograph that is painted, px; what is larger than `side` is shrunk then."""
        return max(self.side, self.paint_size or 0)

    @property
    def seen_side(self) -> int:
        """Long side that the networks see of it, px, as `PaintParams.paint_size`."""
        return self.paint_size or PAINT_SIZE


ALGORITHM_1: dict[str, float] = {"content_weight": 0.03, "style_weight": 1, "tv_weight": 0}
"""The report's weights, for `normalise=False`. It has 100 and 1e7, for a VGG16 whose features are 57 times smaller than
the original's, which all our sources have the units of: 100 / 57^2 and 1e7 / 57^4."""

COARSE_ABOVE = 384
"""Long side in px above which Algorithm 1 begins at half size, unless told."""


class GatysParams(BaseModel):
    """What Algorithm 1, the optimisation of the pixels, is run with.

    Without `normalise` the weights that are not given are the report's (`ALGORITHM_1`). How many weights `style_blend`
    must have is known where the style's pictures are: `core.gatys_style.find_style` checks it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    style: Name | None = Field(None, description="a style that is kept by name, such as wave, instead of pictures")
    style_blend: tuple[float, ...] = Field(
        (), description="how much of each style picture, in their order; they need not add up to 1. Equal unless told"
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
    coarse_to_fine: bool | None = Field(
        None,
        description=f"spend the first half of the evaluations at half size; on above {COARSE_ABOVE} px unless told",
    )
    num_iterations: int = Field(
        200,
        ge=1,
        le=10_000,
        description="evaluations of the loss and its gradient in all, one a step, those at half size among them",
    )
    init: Literal["content", "random", "style"] = Field(
        "content", description="what the picture starts as: the photograph, noise, or the first style picture"
    )
    optimizer: Literal["lbfgs", "adam"] = Field("lbfgs", description="what moves the pixels")
    lr: float = Field(5, gt=0, le=100, description="Adam's learning rate, in levels of 0..255")
    seed: int = Field(0, ge=0, lt=2**32, description="of the noise that `random` starts from")

    content_weight: float = Field(1, ge=0, description="weight of the photograph")
    style_weight: float = Field(5, ge=0, description="weight of the style")
    tv_weight: float = Field(1, ge=0, description="weight of the total variation")
    content_layers: tuple[Layer, ...] = Field(PIXEL_CONTENT_LAYERS, min_length=1, description="content layers")
    style_layers: tuple[Layer, ...] = Field(PIXEL_STYLE_LAYERS, min_length=1, description="style layers")
    content_layer_weights: tuple[float, ...] = Field(
        (), description="a weight for each content layer; 1 each unless told"
    )
    style_layer_weights: tuple[float, ...] = Field((), description="a weight for each style layer; 1 each unless told")
    normalise: bool = Field(
        True,
        description="divide each style term by its target Gram's mean square, and content and total variation by the "
        "photograph's variance; without it the losses are the report's, and so are the weights unless told",
    )

    @model_validator(mode="before")
    @classmethod
    def _the_reports_weights(cls, values: Any) -> Any:
        given = values.get("normalise", True) if isinstance(values, dict) else True
        if str(given).lower() in ("false", "0", "no", "off", "f", "n"):  # as a form has it, too
            return ALGORITHM_1 | values
        return values

    @field_validator("content_layers", "style_layers")
    @classmethod
    def _each_once(cls, layers: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(layers)) < len(layers):
            raise ValueError("a layer is named twice")
        return layers

    @field_validator("style_blend", "content_layer_weights", "style_layer_weights")
    @classmethod
    def _weights(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if weights and (min(weights) < 0 or not sum(weights)):
            raise ValueError("weights are 0 or more, and one of them is more")
        return weights

    @model_validator(mode="after")
    def _one_weight_a_layer(self) -> Self:
        for kind in ("content", "style"):
            layers, weights = getattr(self, f"{kind}_layers"), getattr(self, f"{kind}_layer_weights")
            if weights and len(weights) != len(layers):
                raise ValueError(
                    f"{kind}_layer_weights has {len(weights)} weights, {kind}_layers has {len(layers)} layers"
                )
        if not self.content_weight and not self.style_weight:
            raise ValueError("content_weight and style_weight are both 0: there is nothing to paint")
        return self

    @model_validator(mode="after")
    def _a_named_style_has_no_pixels(self) -> Self:
        if self.style is None:
            return self
        for name, plain in (("style_scale", 1), ("style_blend", ())):
            if getattr(self, name) != plain:
                raise ValueError(
                    f"{name} needs the style's pictures: {self.style!r} is kept as Gram matrices, at one size"
                )
        if self.init == "style":
            raise ValueError(f"init=style needs the style's picture: {self.style!r} is kept as Gram matrices")
        return self
