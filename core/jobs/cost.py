"""The memory and the time of a job, predicted from its parameters and the sizes of its pictures; and their bounds.

Measured on one core of an AMD EPYC with AVX-512, in float32: the peak memory of the process and the processor time of a
step, of paintings of 512 and 1024 px and trainings of 256 and 384 px in batches of 2 and 4. Rounded up by a tenth.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from impasto.core.errors import TooLarge
from impasto.core.gatys.size import optimised
from impasto.core.memory import memory_limit
from impasto.core.names import MIN_SIDE
from impasto.core.params import GatysParams, TrainParams
from impasto.core.pictures.guard import with_short_side
from impasto.core.stylize.budget import PICTURE, SHARE

Size = tuple[int, int]
"""Height and width, px."""

PROCESS = 1_200_000_000
"""Bytes of a job's process whatever the size of its pictures."""
PAINTING = {"ours": 4600, "report": 3600}
"""Bytes for each pixel that is optimised, by recipe: its gradient, and the steps that L-BFGS remembers."""
PAINTING_PACE = {"ours": 10e-6, "report": 13e-6}
"""Seconds a step for each of these pixels."""
TRAINING = {"aonet": 7000, "vgg16": 7000}
"""Bytes for each pixel of a batch, by network."""
TRAINING_PACE = {"aonet": 28e-6, "vgg16": 35e-6}
"""Seconds a step for each of these pixels."""
STEP = 0.05
"""Seconds of a step, whatever the size: an estimate, not measured; on a busy machine 0.1 was seen at 32 px."""
STYLE = 900
"""Bytes for each pixel of a style's picture, at the size that its Gram matrices are made at."""
STYLE_PACE = 8e-6
"""Seconds for each of these pixels."""
EPOCH = 100_000
"""Photographs that a prepared dataset counts for: about as many as TinyImageNet has, and COCO."""

Lever = tuple[str, float, float]
"""A parameter that makes a job large, its least value and its smallest change."""

Params = TypeVar("Params", GatysParams, TrainParams)


@dataclass(frozen=True)
class Cost:
    """Bytes of memory, and seconds of one core."""

    memory: int
    seconds: float


@dataclass(frozen=True)
class Bounds:
    """The most that one job may cost. Memory of 0 is a share of this machine's."""

    memory: int = 0
    seconds: float = float("inf")

    @property
    def bytes(self) -> int:
        return self.memory or int(SHARE * memory_limit())

    def admit(self, cost: Cost) -> bool:
        return cost.memory <= self.bytes and cost.seconds <= self.seconds


def check_painting(params: GatysParams, photograph: Size, styles: Sequence[Size], bounds: Bounds) -> None:
    """Check the optimisation of a photograph of that size towards style pictures of these sizes; none if it is named.

    Raises TooLarge as `_check` does.
    """

    def cost_of(params: GatysParams) -> Cost:
        height, width = optimised(*photograph, params)
        pixels, photographs = height * width, photograph[0] * photograph[1]
        memory = PAINTING[params.recipe] * pixels + PICTURE * photographs
        seconds = (STEP + PAINTING_PACE[params.recipe] * pixels) * params.num_iterations
        return _cost(memory, seconds, [_pixels(style, params.style_side) for style in styles])

    _check(params, cost_of, bounds, (("num_iterations", 1, 1), ("style_scale", 0.25, 0.05), ("size", 32, 1)))


def check_training(params: TrainParams, style: Size | None, photographs: int, bounds: Bounds) -> None:
    """Check a training on so many photographs towards a style picture of that size; None if the style is named.

    Raises TooLarge as `_check` does.
    """

    def cost_of(params: TrainParams) -> Cost:
        pixels = params.batch * params.size**2
        seconds = (STEP + TRAINING_PACE[params.arch] * pixels) * (params.steps or 0)
        return _cost(TRAINING[params.arch] * pixels, seconds, [_pixels(style, params.style_size)] if style else [])

    params = params.model_copy(update={"steps": params.steps or max(1, photographs // params.batch)})
    _check(params, cost_of, bounds, (("steps", 1, 1), ("style_size", MIN_SIDE, 1), ("batch", 1, 1), ("size", 64, 1)))


def _pixels(style: Size, short: int) -> int:
    """Pixels of a style's picture at the size that its Gram matrices are made at."""
    height, width = with_short_side(*style, short)
    return height * width


def _cost(memory: float, seconds: float, styles: Sequence[int]) -> Cost:
    """Add the styles' pictures, of so many pixels each: they are looked at one after another, before the work."""
    most = max([memory, *(STYLE * pixels for pixels in styles)])
    return Cost(PROCESS + round(most), seconds + STYLE_PACE * sum(styles))


def _check(params: Params, cost_of: Callable[[Params], Cost], bounds: Bounds, levers: Sequence[Lever]) -> None:
    """Raise TooLarge for a job beyond the bounds, with the parameters of the nearest job that is within them."""
    cost = cost_of(params)
    over: list[tuple[str, float, float]] = []
    if cost.memory > bounds.bytes:
        most = f"the limit is {bounds.bytes / 1e6:,.0f} MB"
        over.append((f"The job needs {cost.memory / 1e6:,.0f} MB of memory, and {most}.", cost.memory, bounds.bytes))
    if cost.seconds > bounds.seconds:
        most = f"the limit is {bounds.seconds:,.0f} s"
        over.append(
            (f"The job takes {cost.seconds:,.0f} s of one core, and {most}.", round(cost.seconds), bounds.seconds)
        )
    if not over:
        return
    nearest = _nearest(params, lambda params: bounds.admit(cost_of(params)), levers)
    advice = " and ".join(f"{name}={value:g}" for name, value in nearest.items())
    advice = f"It would be taken with {advice}." if advice else "Send smaller pictures."
    _, actual, limit = over[0]
    raise TooLarge(" ".join([*(said for said, *_ in over), advice]), limit=limit, actual=actual, **nearest)


def _nearest(params: Params, fits: Callable[[Params], bool], levers: Sequence[Lever]) -> dict[str, float]:
    """The parameters to lower, and to what; nothing where that is not enough.

    Each is lowered as far as it must be, the cheapest to lose first; then each is raised to what the others leave.
    """
    nearest = params
    for lever in (*levers, *reversed(levers)):
        nearest = _lowered(nearest, getattr(params, lever[0]), lever, fits)
    if not fits(nearest):
        return {}
    return {name: getattr(nearest, name) for name, *_ in levers if getattr(nearest, name) != getattr(params, name)}


def _lowered(params: Params, asked: float, lever: Lever, fits: Callable[[Params], bool]) -> Params:
    """`params` with one of them lowered from `asked` until it fits, or to its least value."""
    name, least, change = lever

    def by(changes: int) -> Params:
        return params.model_copy(update={name: round(asked - changes * change, 2)})

    changes = range(1 + round((asked - least) / change))
    fewest = bisect_left(changes, True, key=lambda count: fits(by(count)))
    return by(min(fewest, changes[-1]))
