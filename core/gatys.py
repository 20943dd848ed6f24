"""Algorithm 1 (Gatys et al.): paint by optimising the pixels of one picture, and survive being stopped at any step."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from math import inf, isfinite
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from core.errors import BadParameter
from core.gatys_loss import PixelLoss
from core.gatys_run import Run, to_pixels, to_rgb
from core.gatys_style import Style
from core.images import Bytes, Picture, fit, resize
from core.memory import keep_memory
from core.names import MIN_SIDE
from core.paint import with_colors_of
from core.recipes import COARSE_ABOVE, GatysParams
from core.spectrum import Spectrum
from core.vgg import VGG16

SAVING = 20  # times what saving took last is worked before it is done again: the state of a large picture is large
NOISE = 40  # levels of 0..255, about, of the noise that a picture may start as


@dataclass(frozen=True)
class Stage:
    """Evaluations of the loss at one size, px."""

    height: int
    width: int
    evaluations: int


@dataclass(frozen=True, eq=False)
class Step:
    """What a step reports: its number from 1, how many there are, the weighted losses (content, style, tv, total) of
    the picture that it began with, the seconds that it took and those left.

    `picture()` gives the best painting so far, at the size being optimised; it costs nothing unless it is called.
    """

    number: int
    total: int
    losses: dict[str, float]
    seconds: float
    seconds_left: float
    picture: Callable[[], Picture]


def paint_pixels(
    picture: Picture,
    style: Style,
    params: GatysParams,
    vgg: VGG16,
    *,
    device: str = "cpu",
    on_step: Callable[[Step], None] = lambda step: None,
    should_stop: Callable[[], bool] = lambda: False,
    state: Path | None = None,
    save_every: float = 20.0,
) -> Picture:
    """Run Algorithm 1 and return the painting of lowest loss, of `picture`'s size and with its alpha.

    The report's pixels are moved through their spectrum here (`core.spectrum`), which reaches a lower loss in fewer
    evaluations, and a large picture is painted at half size first, which makes larger forms.

    `should_stop` is asked after every evaluation of the loss, and ends it with the best painting so far. With `state`,
    a file that is written every `save_every` seconds, a run that was stopped or killed goes on from there, and on the
    CPU gives the same painting, bit for bit, as one that was not.

    Raises BadParameter where `picture` is under 16 px a side, where `state` holds a run of another picture, style,
    loss network or parameters, and where the loss is no number from the start; where it stops being one later, the
    best painting until then is the answer.
    """
    keep_memory()
    vgg = vgg.to(device).to(memory_format=torch.channels_last)
    stages = plan(picture.height, picture.width, params)
    identity = _identity(picture, style, params, vgg)
    run = Run(params, device, _beginning(picture, style, params, stages[0]))
    if state and state.exists():
        run.load(state, identity)
    begun = last = saved = time.monotonic()
    took = 0.0
    to_do = _pixels_left(stages, run)
    for losses in _steps(run, stages, picture, style, vgg):
        now, left = time.monotonic(), _pixels_left(stages, run)
        number = run.done + sum(stage.evaluations for stage in stages[: run.stage])
        seconds_left = (now - begun) * left / (to_do - left)
        on_step(Step(number, params.num_iterations, losses, now - last, seconds_left, _preview(run, picture)))
        last = now
        stop = should_stop()
        if state and (stop or not left or now - saved > max(save_every, SAVING * took)):
            run.save(state, identity)
            saved = time.monotonic()
            took = saved - now
        if stop:
            break
    return _finished(to_rgb(run.best), picture, params)


def plan(height: int, width: int, params: GatysParams) -> list[Stage]:
    """The stages for a photograph of that size: one, or coarse to fine at half size before it.

    The long side is `params.size`, never enlarged; a short side stays at 16 px or more, which relu5_1 needs. Raises
    BadParameter for a photograph under that.
    """
    if min(height, width) < MIN_SIDE:
        raise BadParameter(f"The picture is {width}x{height}: it must have {MIN_SIDE} px a side or more.")
    fine = [max(side, MIN_SIDE) for side in fit(height, width, params.size)]
    coarse = params.coarse_to_fine
    if coarse is None:
        coarse = max(fine) > COARSE_ABOVE
    early = params.num_iterations // 2 if coarse else 0
    half = [max(side // 2, MIN_SIDE) for side in fine]
    stages = [Stage(half[0], half[1], early), Stage(fine[0], fine[1], params.num_iterations - early)]
    return [stage for stage in stages if stage.evaluations]


def _steps(run: Run, stages: list[Stage], picture: Picture, style: Style, vgg: VGG16) -> Iterator[dict[str, float]]:
    """Go through the stages, from where `run` is; the losses of each step, until they are no numbers."""
    for number, stage in enumerate(stages[run.stage :], run.stage):
        if number > run.stage:
            run.enter(number, resize(to_rgb(run.best), stage.height, stage.width))
        photograph = to_pixels(resize(picture.rgb, stage.height, stage.width), run.device)
        objective = PixelLoss(run.params, vgg, style.targets, photograph)
        while run.done < stage.evaluations:
            losses = run.step(objective)
            if not isfinite(losses["total"]):
                if run.best_loss == inf:
                    raise BadParameter(f"The loss is {losses['total']} from the start: try lower weights.")
                return
            yield losses


def _beginning(picture: Picture, style: Style, params: GatysParams, stage: Stage) -> Bytes:
    """What the pixels start as, uint8 (H, W, 3): noise has the spectrum of photographs, for white noise would stay; the
    style's picture is cut to the photograph's shape."""
    if params.init == "random":
        spectrum = Spectrum(stage.height, stage.width, "cpu")
        noise = torch.randn(spectrum.shape, generator=torch.Generator().manual_seed(params.seed))
        return to_rgb(127.5 + NOISE * spectrum.pixels(noise))
    if params.init == "content":
        return resize(picture.rgb, stage.height, stage.width)
    if style.image is None:
        raise BadParameter("init=style needs the style's picture.")
    return np.array(ImageOps.fit(Image.fromarray(style.image), (stage.width, stage.height), Image.Resampling.LANCZOS))


def _pixels_left(stages: list[Stage], run: Run) -> int:
    """Evaluations that are still to do, each times its pixels."""
    done = [*(stage.evaluations for stage in stages[: run.stage]), run.done]
    return sum(
        stage.height * stage.width * (stage.evaluations - (done[k] if k < len(done) else 0))
        for k, stage in enumerate(stages)
    )


def _preview(run: Run, picture: Picture) -> Callable[[], Picture]:
    best = run.best

    def painting() -> Picture:
        rgb = to_rgb(best)
        alpha = picture.alpha
        size = rgb.shape[0], rgb.shape[1]
        small = Picture(resize(picture.rgb, *size), alpha if alpha is None else resize(alpha, *size))
        return _finished(rgb, small, run.params)

    return painting


def _finished(rgb: Bytes, picture: Picture, params: GatysParams) -> Picture:
    """What was optimised, (h, w, 3), enlarged to `picture`'s size, with its alpha and, if asked for, its colours."""
    painting = resize(rgb, picture.height, picture.width)
    if params.preserve_color:
        painting = with_colors_of(picture.rgb, painting)
    return Picture(painting, picture.alpha)


def _identity(picture: Picture, style: Style, params: GatysParams, vgg: VGG16) -> dict[str, str]:
    """What a run goes on with: the same parameters, picture, style and loss network."""
    return {
        "parameters": params.model_dump_json(),
        "picture": sha256(f"{picture.width}x{picture.height}".encode() + picture.rgb.tobytes()).hexdigest(),
        "style": style.targets.sha256,
        "loss network": vgg.sha256,
    }
