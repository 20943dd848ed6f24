"""Algorithm 1 (Gatys et al.): paint by optimising the pixels of one picture, and survive being stopped at any step."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from math import inf, isfinite
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from impasto.core.device import has_bfloat16
from impasto.core.errors import BadParameter
from impasto.core.gatys.size import optimised
from impasto.core.gatys.state import Run
from impasto.core.gatys.style import Style
from impasto.core.losses.networks import LossNetworks
from impasto.core.losses.objective import Loss
from impasto.core.losses.recolour import recoloured
from impasto.core.memory import keep_memory
from impasto.core.params import GatysParams
from impasto.core.pictures.codec import Bytes, Picture, resize, resized
from impasto.core.pictures.tensors import to_array, to_tensor
from impasto.core.resume import Identity
from impasto.core.stylize.stylize import with_colors_of

SAVING = 20  # between two savings at least this many times the seconds of the last one: a large state takes long
NOISE = 40  # standard deviation of the noise to start from, levels of 0..255


@dataclass(frozen=True, eq=False)
class Step:
    """Report of a step: its number from 1, the number of all steps, the weighted losses before the step with their
    total, the seconds that it took and the seconds left.

    `picture()` returns the best painting so far, at the size being optimised. It costs nothing unless it is called.
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
    networks: LossNetworks,
    *,
    device: str = "cpu",
    on_step: Callable[[Step], None] = lambda step: None,
    should_stop: Callable[[], bool] = lambda: False,
    state: Path | None = None,
    save_every: float = 20.0,
) -> Picture:
    """Run Algorithm 1 and return the painting of lowest loss, of `picture`'s size and with its alpha.

    `should_stop` is asked after every evaluation of the loss. Where it says yes, the best painting so far is returned.
    `state` is a file that is written every `save_every` seconds. A run that was stopped or killed goes on from it, and
    on the CPU gives the same painting, bit for bit, as an unbroken run.

    Raises BadParameter where `picture` is under 16 px a side, where `state` holds a run of another picture, style,
    loss networks or parameters, and where the loss is not finite from the start. Where it becomes so later, the best
    painting until then is returned.
    """
    keep_memory()
    networks = networks.to(device)
    height, width = optimised(picture.height, picture.width, params)
    small = resized(picture, height, width).rgb
    identity = _identity(picture, style, params, networks)
    run = Run(params, to_tensor(_beginning(small, style, params), device))
    if state:
        run.load(state, identity)
    loss = painting_loss(params, style, networks, to_tensor(small, device))
    first, begun = run.done, time.monotonic()
    last = saved = begun
    took = 0.0
    while run.done < params.num_iterations:
        losses = run.step(loss)
        if not isfinite(losses["total"]):
            if run.best_loss == inf:
                raise BadParameter(f"The loss is {losses['total']} at the first step. Try lower weights.")
            break
        now, left = time.monotonic(), params.num_iterations - run.done
        seconds_left = (now - begun) / (run.done - first) * left
        on_step(Step(run.done, params.num_iterations, losses, now - last, seconds_left, _preview(run, picture)))
        last = now
        stop = should_stop()
        if state and (stop or not left or now - saved > max(save_every, SAVING * took)):
            run.save(state, identity)
            saved = time.monotonic()
            took = saved - now
        if stop:
            break
    return _finished(to_array(run.best), picture, params)


def painting_loss(params: GatysParams, style: Style, networks: LossNetworks, photograph: Tensor) -> Loss:
    """The loss function of pixels (1, 3, H, W) that paint `photograph`."""
    device = photograph.device.type

    def autocast() -> torch.autocast:
        return torch.autocast(device, torch.bfloat16, enabled=has_bfloat16(device))

    with autocast():
        of_photograph = networks.objective(params, style.targets).of(photograph)

    def loss(pixels: Tensor) -> dict[str, Tensor]:
        with autocast():
            return of_photograph(pixels.contiguous(memory_format=torch.channels_last))

    return loss


def _beginning(photograph: Bytes, style: Style, params: GatysParams) -> Bytes:
    """The pixels to start from, uint8 (H, W, 3), of `photograph`'s size. A style's picture is cropped to that shape."""
    height, width = photograph.shape[:2]
    if params.init == "content":
        return photograph
    if params.init == "recoloured":
        return to_array(recoloured(to_tensor(photograph), style.targets.to("cpu").colours))
    if params.init == "random":
        noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(params.seed))
        return to_array(127.5 + NOISE * noise)
    if style.image is None:
        raise BadParameter("init=style needs the style's picture.")
    return np.array(ImageOps.fit(Image.fromarray(style.image), (width, height), Image.Resampling.LANCZOS))


def _preview(run: Run, picture: Picture) -> Callable[[], Picture]:
    best = run.best

    def painting() -> Picture:
        rgb = to_array(best)
        return _finished(rgb, resized(picture, rgb.shape[0], rgb.shape[1]), run.params)

    return painting


def _finished(rgb: Bytes, picture: Picture, params: GatysParams) -> Picture:
    """The optimised pixels (h, w, 3), enlarged to `picture`'s size, with its alpha and, with `preserve_color`, its
    colours."""
    painting = resize(rgb, picture.height, picture.width)
    if params.preserve_color:
        painting = with_colors_of(picture.rgb, painting)
    return Picture(painting, picture.alpha)


def _identity(picture: Picture, style: Style, params: GatysParams, networks: LossNetworks) -> Identity:
    """Facts that must be the same for a run to go on: parameters, picture, style and loss networks."""
    return {
        "parameters": params.model_dump_json(),
        "picture": sha256(f"{picture.width}x{picture.height}".encode() + picture.rgb.tobytes()).hexdigest(),
        "style": style.targets.sha256,
        "loss networks": networks.sha256,
    }
