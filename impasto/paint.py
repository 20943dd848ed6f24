"""`impasto paint`: Algorithm 1, here and now."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from tqdm import tqdm

from core.engine import find_device
from core.errors import BadPicture, NotFound
from core.files import file_sha256, write_bytes
from core.gatys import Step, paint_pixels
from core.gatys_style import StyleImage, find_style
from core.images import Limits, Picture, decode, encode
from core.loss_networks import load_loss_networks
from core.recipes import GatysParams
from core.settings import Settings
from impasto.stylize import format_of, pairs

PROGRESS = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # without tqdm's own guess at the time left


def paint(
    photograph: Path, output: Path | None, params: GatysParams, style_images: Sequence[Path], settings: Settings
) -> bool:
    """Paint `photograph` into `output`, or beside it under `<name>-<style>.png`.

    False when Ctrl-C or SIGTERM ended it early, or a loss that is no number: what is written then is the best painting
    until there. Raises what `find_style` and `paint_pixels` do.
    """
    name = params.style or (style_images[0].stem if style_images else "")
    ((_, painting),) = pairs(photograph, output, name)
    networks = load_loss_networks(settings.vgg16)
    limits = settings.limits
    images = [StyleImage(_read(path, limits).rgb, file_sha256(path)) for path in style_images]
    style = find_style(params, images, settings.models / "styles", networks.vgg)
    picture = _read(photograph, limits)
    device = find_device(settings.device)
    bar = tqdm(total=params.num_iterations, unit="step", dynamic_ncols=True, bar_format=PROGRESS)

    def show(step: Step) -> None:
        losses = {name: f"{value:.3g}" for name, value in step.losses.items()}
        bar.set_postfix(losses | {"left": tqdm.format_interval(step.seconds_left)}, refresh=False)
        bar.update()

    with bar, _stopping() as stop:
        best = paint_pixels(picture, style, params, networks, device=device, on_step=show, should_stop=stop.is_set)
    write_bytes(painting, encode(best, format_of(painting)))
    if bar.n == params.num_iterations:
        click.echo(str(painting))
        return True
    why = "Stopped" if stop.is_set() else "The loss was no number any more"
    click.echo(f"{why} after {bar.n} of {params.num_iterations} steps; the best picture so far is {painting}")
    return False


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Set by Ctrl-C and SIGTERM, which end nothing by themselves meanwhile."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read(path: Path, limits: Limits) -> Picture:
    if not path.exists():
        raise NotFound(f"There is no picture at {path}.")
    try:
        return decode(path.read_bytes(), limits)
    except OSError as error:
        raise BadPicture(f"{path} cannot be read: {error.strerror}.") from error
