"""`impasto paint`: optimise the pixels of a photograph (Algorithm 1)."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from impasto.commands.stylize import format_of, pairs
from impasto.core.device import find_device
from impasto.core.files import write_bytes
from impasto.core.params import GatysParams
from impasto.core.pictures.codec import encode, read_picture
from impasto.options import given, options, read_settings, validated

if TYPE_CHECKING:
    from impasto.core.gatys.optimise import Step

PROGRESS = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # without tqdm's own guess at the time left


@click.command()
@click.argument("photograph", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File or folder.  [default: beside PHOTOGRAPH, as PNG]"
)
@click.option(
    "--style-image",
    "style_images",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A picture of the style, instead of its name; several are blended.",
)
@options(GatysParams)
def paint(photograph: Path, output: Path | None, style_images: tuple[Path, ...], **flags: Any) -> None:
    """Paint PHOTOGRAPH by optimising its pixels: slow, and the best quality. Ctrl-C saves the best picture so far."""
    from impasto.core.gatys.optimise import paint_pixels
    from impasto.core.gatys.style import find_style
    from impasto.core.losses.networks import load_loss_networks
    from impasto.core.losses.style_image import read_style_image

    params, settings = validated(lambda: GatysParams(**given(flags))), read_settings()
    name = params.style or (style_images[0].stem if style_images else "")
    ((_, painting),) = pairs(photograph, output, name)
    networks = load_loss_networks(settings.vgg16)
    images = [read_style_image(path, settings.limits) for path in style_images]
    style = find_style(params, images, settings.models / "styles", networks.vgg)
    picture = read_picture(photograph, settings.limits)
    device = find_device(settings.device)
    bar = tqdm(total=params.num_iterations, unit="step", dynamic_ncols=True, bar_format=PROGRESS)

    def show(step: "Step") -> None:
        losses = {name: f"{value:.3g}" for name, value in step.losses.items()}
        bar.set_postfix(losses | {"left": tqdm.format_interval(step.seconds_left)}, refresh=False)
        bar.update()

    with bar, _stopping() as stop:
        best = paint_pixels(picture, style, params, networks, device=device, on_step=show, should_stop=stop.is_set)
    write_bytes(painting, encode(best, format_of(painting)))
    if bar.n == params.num_iterations:
        click.echo(str(painting))
        return
    why = "Stopped" if stop.is_set() else "The loss was not finite"
    click.echo(f"{why} after {bar.n} of {params.num_iterations} steps; the best picture so far is {painting}")
    sys.exit(130)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, instead of ending the process."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
